"""`MessageFeatures`: ids and texts become one-hot vectors."""

import gymnasium as gym
import numpy as np
import pytest

import explore_gym
from explore_gym.wrappers import MessageFeatures

assert explore_gym


def four_rooms(**kwargs):
    return gym.make_vec("Explore/FourRooms-v0", num_envs=2, max_steps=7, **kwargs)


def test_an_id_of_the_info_is_joined_to_a_vector(line):
    envs = MessageFeatures(line(2, "SameStep"), "message", 4)
    assert envs.single_observation_space.shape == (6,)
    assert envs.reset(seed=0)[0][:, 2:].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0]]  # a reset has no message
    assert envs.step([0, 3])[0][:, 2:].tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
    obs, *_, info = envs.step([1, 3])
    assert obs[:, 2:].tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]] and info["final_obs"][1][2:].tolist() == [0, 0, 0, 1]


def test_a_text_is_replaced():
    envs = MessageFeatures(four_rooms(), "mission", ["flee", "reach the goal"])
    assert envs.single_observation_space["mission"] == gym.spaces.Box(0.0, 1.0, (2,), np.float32)
    obs, _ = envs.reset(seed=0)
    assert obs["mission"].tolist() == [[0, 1], [0, 1]] and obs["mission"].dtype == np.float32


def test_what_the_vocabulary_lacks_is_an_error(line):
    envs = MessageFeatures(line(), "message", 2)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"info\['message'\] must lie in \[0, 2\), got \[3\]"):
        envs.step([3])
    with pytest.raises(ValueError, match=r"obs\['mission'\] must be one of \['flee'\], got 'reach the goal'"):
        MessageFeatures(four_rooms(), "mission", ["flee"]).reset(seed=0)
    with pytest.raises(ValueError, match=r"info\['coverage'\] must be integers of shape \(2,\), got float64 \(2,\)"):
        MessageFeatures(four_rooms(), "coverage", 3).reset(seed=0)


@pytest.mark.parametrize(
    ("key", "vocabulary", "message"),
    [
        ("mission", 0, "vocabulary must be a positive integer or a non-empty list of strings, got 0"),
        ("mission", [], "vocabulary must be a positive integer or a non-empty list of strings"),
        ("mission", ["a", "a"], r"vocabulary must hold each text once, got \['a', 'a'\]"),
        ("image", ["a"], r"key must name a Text of a Dict observation, one of \['mission'\], got 'image'"),
    ],
)
def test_bad_arguments_are_refused(key, vocabulary, message):
    with pytest.raises(ValueError, match=message):
        MessageFeatures(four_rooms(), key, vocabulary)
