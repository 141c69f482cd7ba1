import numpy as np
import pytest

from explore_gym.envs.engine import vectorize
from explore_gym.envs.tabular.tabular import Tabular

P = np.array([[[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]] * 2, [[1.0, 0.0, 0.0]] * 2])
R = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
START = np.array([0.25, 0.75, 0.0])


def test_start_transitions_and_rewards_are_those_of_the_arrays():
    envs = vectorize(Tabular)(num_envs=20_000, P=P, R=R, start=START, max_steps=None)
    obs, _ = envs.reset(seed=0)
    assert np.bincount(obs, minlength=3) / 20_000 == pytest.approx(START, abs=4 * np.sqrt(0.25 * 0.75 / 20_000))
    action = np.arange(20_000) % 2
    following, reward, *_ = envs.step(action)
    assert (reward == R[obs, action]).all()
    for s in (0, 1):
        for a in (0, 1):
            lanes = (obs == s) & (action == a)
            share = np.bincount(following[lanes], minlength=3) / lanes.sum()
            assert share == pytest.approx(P[s, a], abs=4 * 0.5 / np.sqrt(lanes.sum()))
            assert (share[P[s, a] == 0] == 0).all()


def test_states_without_probability_are_never_drawn_for_all_rounding_errors():
    probabilities = np.zeros(12)
    probabilities[:10] = 0.1  # their floating-point sum is below 1
    assert probabilities.cumsum()[-1] < 1.0
    env = Tabular(np.tile(probabilities, (12, 1, 1)), np.zeros((12, 1)), probabilities, max_steps=5)
    assert (env.params["cumulative"][0, :, :, 9:] == 1.0).all()
    assert (env.params["start"][0, 9:] == 1.0).all()


def test_the_gain_of_a_periodic_chain():
    cycle = np.array([[[0.0, 1.0]], [[1.0, 0.0]]])
    env = Tabular(cycle, np.array([[0.0], [1.0]]), np.array([1.0, 0.0]), max_steps=None)
    assert env.optimal_gain() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(R=R[:2]), r"P \(3, 2, 3\), R \(2, 2\)"),
        (dict(start=START[:2]), r"start \(2,\)"),
        (dict(P=P * 0.9), "P must be >= 0 and sum to 1"),
        (dict(start=[1.5, -0.5, 0.0]), "start must be >= 0 and sum to 1"),
    ],
)
def test_bad_arrays_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Tabular(**{**dict(P=P, R=R, start=START, max_steps=5), **change})
