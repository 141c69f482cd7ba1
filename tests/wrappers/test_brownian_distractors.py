"""`BrownianDistractors`: size of the steps, boundaries, restarts."""

import gymnasium as gym
import numpy as np
import pytest

import explore_gym
from explore_gym.wrappers import BrownianDistractors
from explore_gym.wrappers.brownian_distractors import BOUNDARIES

assert explore_gym


def test_boundaries():
    x = np.array([-3.2, -1.25, -0.5, 1.0, 1.2, 3.1])
    assert BOUNDARIES["reflect"](x) == pytest.approx([0.8, -0.75, -0.5, 1.0, 0.8, -0.9])
    assert BOUNDARIES["clip"](x).tolist() == [-1.0, -1.0, -0.5, 1.0, 1.0, 1.0]


def test_walks_start_at_zero_take_gaussian_steps_and_start_again():
    envs = BrownianDistractors(gym.make_vec("Explore/RiverSwim-v0", num_envs=4000, max_steps=2), k=2, sigma=0.1)
    assert envs.single_observation_space["distractors"] == gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    obs, _ = envs.reset(seed=0)
    assert (obs["distractors"] == 0).all()
    one = envs.step(np.zeros(4000, int))[0]["distractors"]
    two = envs.step(np.zeros(4000, int))[0]["distractors"]
    for steps in (one, two - one):
        assert steps.mean() == pytest.approx(0, abs=0.0056) and steps.std() == pytest.approx(0.1, abs=0.004)  # 5 sd each
        assert abs(np.corrcoef(steps.T)[0, 1]) < 0.08
    assert abs(np.corrcoef(one[:, 0], (two - one)[:, 0])[0, 1]) < 0.08
    assert (envs.step(np.zeros(4000, int))[0]["distractors"] == 0).all()


@pytest.mark.parametrize("boundary", list(BOUNDARIES))
def test_walks_stay_inside(line, boundary):
    envs = BrownianDistractors(line(mode="SameStep"), k=50, sigma=1.0, boundary=boundary)
    envs.reset(seed=0)
    walks = np.array([envs.step([0])[0][0, 2:] for _ in range(3)])
    assert np.abs(walks).max() <= 1 and (np.abs(walks) == 1).any() == (boundary == "clip")


def test_a_vector_is_extended(line):
    envs = BrownianDistractors(line(), k=3)
    assert envs.single_observation_space.shape == (5,)
    assert envs.single_observation_space.low.tolist() == [-np.inf, -np.inf, -1, -1, -1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(k=0), "k must be a positive integer, got 0"),
        (dict(sigma=0.0), "sigma must be a positive number, got 0.0"),
        (dict(boundary="wrap"), r"boundary must be one of \['clip', 'reflect'\], got 'wrap'"),
    ],
)
def test_bad_arguments_are_refused(line, arguments, message):
    with pytest.raises(ValueError, match=message):
        BrownianDistractors(line(), **arguments)
