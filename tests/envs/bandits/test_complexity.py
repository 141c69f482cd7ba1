import numpy as np
import pytest

from explore_gym.envs.bandits.complexity import best_arm_complexity, hypothesis_complexity, transductive_complexity


def step_hypotheses(positions):
    return np.where(np.arange(positions) >= np.arange(positions + 1)[:, None], 1.0, -1.0)


def test_best_arm_complexity_by_hand():
    assert best_arm_complexity([1.0, 0.5, 0.0]) == pytest.approx(5.0)  # 1 / 0.25 + 1 / 1
    assert best_arm_complexity([[3.0, 1.0], [0.0, 0.1]]) == pytest.approx([0.25, 100.0])
    assert best_arm_complexity([1.0, 1.0]) == pytest.approx(1e6)  # gaps are at least 0.001


def test_two_arms_take_half_of_the_pulls_each():
    found = transductive_complexity(np.eye(2), np.eye(2), [0.5, 0.0])
    assert found.value == pytest.approx(4.0 / 0.25, rel=1e-3)  # (1 / 0.5 + 1 / 0.5) / gap^2
    assert found.allocation == pytest.approx([0.5, 0.5], abs=1e-3)


def test_equal_gaps_have_a_known_allocation():
    # lambda* = sqrt(m) times another arm's share, so C = (1 + sqrt(m))^2 / gap^2 with m suboptimal arms
    found = transductive_complexity(np.eye(5), np.eye(5), [0.5, 0.0, 0.0, 0.0, 0.0])
    assert found.lower <= 9.0 / 0.25 <= found.value * (1 + 1e-12)
    assert found.allocation == pytest.approx([2 / 6] + [1 / 6] * 4, abs=2e-3)


def test_the_transductive_form_of_best_arm_lies_between_the_sum_and_its_double():
    for theta in np.random.default_rng(0).standard_normal((5, 6)):
        found = transductive_complexity(np.eye(6), np.eye(6), theta)
        gaps = theta.max() - np.delete(theta, theta.argmax())
        least = (1.0 / gaps**2).sum() + 1.0 / gaps.min() ** 2  # the best arm counts with the smallest gap
        assert least <= found.value * (1 + 1e-9)
        assert found.lower <= 2.0 * least


@pytest.mark.parametrize("threshold", [0, 4, 8])
def test_thresholds_of_equal_margin_have_a_known_complexity(threshold):
    # the positions at distance i from the threshold get shares like 1 / (2 i - 1), which makes every hypothesis equally hard
    Z = step_hypotheses(12)
    sides = [sum(1.0 / (2 * i - 1) for i in range(1, n + 1)) for n in (threshold, 12 - threshold)]
    found = transductive_complexity(np.eye(12), Z, 0.5 * Z[threshold])
    assert found.lower <= sum(sides) / 0.25 <= found.value * (1 + 1e-12)
    assert found.value / found.lower <= 1.001
    near = 1.0 / sum(sides)
    assert found.allocation[threshold] == pytest.approx(near, rel=0.05)


def test_the_design_of_a_single_direction_is_elfving_s():
    # to tell z* = e1 from z = 0 only <e1, theta> matters, and the query 2 e1 measures it with a quarter of the variance
    found = transductive_complexity([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]], [0.5, 7.0])
    assert found.value == pytest.approx(1.0, rel=2e-3)  # 1 / (4 * 0.25)
    assert found.allocation[2] > 0.99


def test_complexity_scales_like_a_variance_and_its_gradient_is_a_difference_quotient():
    rng = np.random.default_rng(1)
    X, theta, offsets = rng.standard_normal((12, 3)), rng.standard_normal(3), 0.1 * rng.standard_normal(12)
    found = transductive_complexity(X, X, theta, tolerance=1e-5)
    assert transductive_complexity(X, X, 2.0 * theta).value == pytest.approx(found.value / 4.0, rel=2e-3)
    assert found.gradient @ theta == pytest.approx(-2.0 * found.value, rel=1e-6)  # Euler, homogeneous of degree -2
    assert transductive_complexity(X, X, theta, offsets).value != pytest.approx(found.value, rel=0.01)
    assert transductive_complexity(X / 3.0, X, theta).value == pytest.approx(9.0 * found.value, rel=2e-3)


def test_hypotheses_tell_apart_by_hand():
    # question 0 tells from hypothesis 0 only, question 1 from hypothesis 1 only: shares 1 / 3 and 2 / 3
    lower, upper = hypothesis_complexity([[1.0, 0.0], [0.0, 0.5]])
    assert lower <= 3.0 <= upper <= lower * 1.0011
    assert hypothesis_complexity([[0.2, 0.4]]) == pytest.approx((2.5, 2.5), rel=2e-3)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"got \(2, 2\), \(2, 3\), \(2,\)"):
        transductive_complexity(np.eye(2), np.ones((2, 3)), [1.0, 2.0])
    with pytest.raises(ValueError, match="at least two hypotheses, got 1"):
        transductive_complexity(np.eye(2), np.ones((1, 2)), [1.0, 2.0])
    with pytest.raises(ValueError, match="of rank 2, got rank 1"):
        transductive_complexity([[1.0, 0.0], [2.0, 0.0]], np.eye(2), [1.0, 2.0])
    with pytest.raises(RuntimeError, match="after 2 steps"):
        transductive_complexity(np.eye(3), np.eye(3), [1.0, 0.5, 0.0], tolerance=1e-9, max_steps=2)
    with pytest.raises(ValueError, match="positive somewhere in each row"):
        hypothesis_complexity([[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(RuntimeError, match="after 3 steps"):
        hypothesis_complexity([[1.0, 0.0], [0.0, 0.5]], tolerance=1e-9, max_steps=3)
