"""Published values: Gittins, Glazebrook and Weber, 2011, "Multi-armed bandit allocation indices", tables 8.1 and following."""

import numpy as np
import pytest

from explore_gym.envs.bandits.gittins import (
    bernoulli_advantage,
    bernoulli_gittins,
    bernoulli_gittins_table,
    gaussian_gittins,
)


@pytest.mark.parametrize(
    ("a", "b", "gamma", "published"),
    [
        (1, 1, 0.9, 0.7029),
        (2, 2, 0.9, 0.6346),
        (3, 3, 0.9, 0.6010),
        (1, 2, 0.9, 0.5001),
        (2, 1, 0.9, 0.8001),
        (10, 2, 0.9, 0.8695),
        (1, 1, 0.99, 0.8699),
    ],
)
def test_bernoulli_indices_are_the_published_ones(a, b, gamma, published):
    lower, upper = bernoulli_gittins(a, b, gamma)
    assert lower <= upper <= lower + 1e-4
    assert lower - 5e-5 <= published <= upper + 5e-5  # four digits


@pytest.mark.parametrize(
    ("gamma", "published"),
    [
        (0.5, [0.14542, 0.17209, 0.18522, 0.21113]),
        (0.9, [0.23609, 0.29485, 0.32876, 0.41526]),
        (0.95, [0.22263, 0.28366, 0.32072, 0.42458]),
    ],
)
def test_gaussian_indices_are_the_published_ones(gamma, published):
    """The table has n sqrt(1 - gamma) times the index, here of n = 1, 2, 3 and 10."""
    indices = gaussian_gittins(10, gamma)
    n = np.array([1, 2, 3, 10])
    assert n * np.sqrt(1 - gamma) * indices[n - 1] == pytest.approx(published, abs=1e-4)


def test_the_index_of_two_pulls_by_hand():
    # gamma^2 -> 0: pull once, go on after a success: index (1/2 + gamma/2 * 2/3) / (1 + gamma/2)
    gamma = 1e-3
    expected = (0.5 + gamma / 3) / (1 + gamma / 2)
    assert bernoulli_gittins(1.0, 1.0, gamma, tolerance=1e-7)[0] == pytest.approx(expected, abs=2e-6)
    assert bernoulli_gittins(3.0, 1.0, 0.0) == pytest.approx((0.75, 0.75), abs=1e-6)  # myopic
    assert gaussian_gittins(2, 0.0) == pytest.approx(0.0, abs=1e-6)


def test_the_advantage_of_one_more_pull_by_hand():
    # horizon 1, known reward 0.6: the pull earns 1/2, then the better of 0.6 and 2/3 or 1/3 for ever
    expected = 0.5 + 0.5 * (0.5 * 2 / 3 + 0.5 * 0.6) / 0.5 - 0.6 / 0.5
    assert bernoulli_advantage(0.6, 1.0, 1.0, 0.5, horizon=1)[0, 0] == pytest.approx(expected)
    more = bernoulli_advantage([0.6, 0.7], 1.0, 1.0, 0.5, horizon=1, informed=True)[:, 0, 0]
    assert more[0] > expected
    assert more[1] < more[0]


def test_the_table_holds_the_index_of_every_posterior():
    table = bernoulli_gittins_table(12, 0.9, prior=(1.0, 2.0))
    for s, f in ((0, 0), (3, 1), (0, 11), (5, 6)):
        low, high = bernoulli_gittins(1 + s, 2 + f, 0.9)
        assert low - 1e-4 <= table[s, f] <= high + 1e-4
    assert np.isnan(table[6, 6])
    assert (np.diff(table[:6, :6], axis=0) > 0).all()  # a success raises it
    assert (np.diff(table[:6, :6], axis=1) < 0).all()


def test_gaussian_indices_start_at_the_prior_s_precision():
    indices = gaussian_gittins(3, 0.9, precision=2.0)
    assert indices[:2] == pytest.approx(gaussian_gittins(3, 0.9)[1:], abs=1e-4)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"gamma must lie in \[0, 1\), got 1.0"):
        bernoulli_gittins(1, 1, 1.0)
    with pytest.raises(ValueError, match="a and b must be > 0, got 0 and 1"):
        bernoulli_gittins(0, 1, 0.9)
    with pytest.raises(ValueError, match=r"got -0\.1"):
        bernoulli_gittins_table(3, -0.1)
    with pytest.raises(ValueError, match=r"precision must be > 0, got 0\.0"):
        gaussian_gittins(3, 0.9, precision=0.0)
