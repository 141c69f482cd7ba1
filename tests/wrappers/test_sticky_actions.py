"""`StickyActions`: which action is executed, and how often."""

import gymnasium as gym
import numpy as np
import pytest

import explore_gym
from explore_gym.wrappers import StickyActions

assert explore_gym


def test_the_action_executed_is_repeated_and_never_across_episodes(line):
    envs = StickyActions(line(), 1.0)
    obs, info = envs.reset(seed=0)
    assert info["repeated"].tolist() == [False]
    cells, repeated = [], []
    for action in (1, 3, 0, 2):
        obs, *_, info = envs.step([action])
        cells.append(obs[0, 0]), repeated.append(info["repeated"].item())
    assert cells == [1, 2, 3, 4] and repeated == [False, True, True, True]
    envs.reset(options={"reset_mask": np.array([True])})
    obs, *_, info = envs.step([2])
    assert obs[0, 0] == 2 and info["repeated"].tolist() == [False]


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_never_at_the_first_step_behind_an_autoreset(line, mode):
    envs = StickyActions(line(mode=mode), 1.0)
    envs.reset(seed=0)
    envs.step([3]), envs.step([3])  # terminates
    if mode == "NextStep":
        envs.step([3])
    assert envs.step([1])[0][0, 0] == 1


def test_p_is_the_frequency():
    envs = StickyActions(gym.make_vec("Explore/RiverSwim-v0", num_envs=2000), 0.25)
    envs.reset(seed=0)
    actions = np.zeros(2000, int)
    assert not envs.step(actions)[4]["repeated"].any()
    repeated = [envs.step(actions)[4]["repeated"] for _ in range(10)]
    assert np.mean(repeated) == pytest.approx(0.25, abs=0.016)  # 5 standard deviations


def test_actions_with_axes():
    space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    envs = gym.make_vec("MountainCarContinuous-v0", num_envs=2, vectorization_mode="sync")
    assert envs.single_action_space == space
    sticky = StickyActions(envs, 1.0)
    sticky.reset(seed=0)
    sticky.step(np.ones((2, 1)))
    assert sticky.previous.tolist() == [[1.0], [1.0]]
    sticky.step(np.zeros((2, 1)))
    assert sticky.previous.tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("bad", [[4, 0], [-1, 0], [0.5, 0], [0], [[0, 0]], ["0", "1"], None, [np.nan, 0]])
def test_an_action_that_would_not_be_executed_is_checked_too(line, bad):
    envs = StickyActions(line(2), 1.0)
    envs.reset(seed=0)
    envs.step([1, 1])
    with pytest.raises(gym.error.InvalidAction, match="actions must be an element of MultiDiscrete"):
        envs.step(bad)


@pytest.mark.parametrize("p", [-0.1, 1.5, np.nan, "often", True])
def test_p_is_a_probability(line, p):
    with pytest.raises(ValueError, match=r"p must lie in \[0, 1\], got"):
        StickyActions(line(), p)
