"""`RandomTV` and `ControllableTV`: where noise is, when it changes, how it is distributed."""

import gymnasium as gym
import numpy as np
import pytest

import explore_gym
from explore_gym.wrappers import ControllableTV, RandomTV

assert explore_gym


def four_rooms(num_envs=2, **kwargs):
    return gym.make_vec("Explore/FourRooms-v0", num_envs=num_envs, max_steps=7, **kwargs)


def test_the_region_alone_is_noise(line):
    plain, envs = line(), RandomTV(line(), 1.0, region=1, low=-2.0, high=-1.0)
    expected, obs = plain.reset(seed=0)[0], envs.reset(seed=0)[0]
    shown = [obs[0, 1]]
    for _ in range(4):
        expected, obs = plain.step([1])[0], envs.step([1])[0]
        assert obs[0, 0] == expected[0, 0]
        shown.append(obs[0, 1])
    assert len(set(shown)) == 5 and all(-2 <= x <= -1 for x in shown)


def test_p_is_the_frequency_and_what_is_covered_is_seen_otherwise():
    plain, envs = four_rooms(3000), RandomTV(four_rooms(3000), 0.3, region=np.s_[2:, :2], key="image", low=100, high=200)
    expected, obs = plain.reset(seed=0)[0]["image"], envs.reset(seed=0)[0]["image"]
    for _ in range(2):
        on = (obs[:, 2:, :2] != expected[:, 2:, :2]).any(axis=(1, 2, 3))
        assert on.mean() == pytest.approx(0.3, abs=0.042)  # 5 standard deviations
        assert (obs[~on] == expected[~on]).all() and (obs[:, :2] == expected[:, :2]).all()
        noise = obs[on, 2:, :2].astype(int)
        assert noise.min() == 100 and noise.max() == 200 and noise.mean() == pytest.approx(150, abs=1.0)  # sd of the mean 0.2
        expected, obs = plain.step(np.zeros(3000, int))[0]["image"], envs.step(np.zeros(3000, int))[0]["image"]


def test_an_added_television_is_low_while_off():
    envs = RandomTV(four_rooms(), 0.0, size=2, key="image", low=3, high=9)
    assert envs.single_observation_space["image"].shape == (7, 7, 5)
    assert envs.single_observation_space["image"].low[0, 0].tolist() == [0, 0, 0, 3, 3]
    assert (envs.reset(seed=0)[0]["image"][..., 3:] == 3).all()


def test_the_picture_changes_exactly_when_the_action_is_taken(line):
    envs = ControllableTV(line(mode="SameStep"), 0, size=3, low=0.0, high=1.0)
    pictures = [envs.reset(seed=0)[0][0, 2:]]
    for action in (1, 0, 1, 0):
        obs, _, _, truncated, info = envs.step([action])
        pictures.append(info["final_obs"][0][2:] if truncated[0] else obs[0, 2:])
    blank, after_1, after_0, still, after_0_again = (tuple(picture.tolist()) for picture in pictures)
    assert blank == after_1 == (0.0, 0.0, 0.0)
    assert after_0 == still and len({blank, after_0, after_0_again}) == 3
    assert obs[0, 2:].tolist() == [0.0, 0.0, 0.0]  # the next episode has begun


def test_a_controllable_region_hides_what_lies_behind_it():
    envs = ControllableTV(four_rooms(), 6, region=np.s_[0], key="image", low=50, high=60)
    first = envs.reset(seed=0)[0]["image"]
    assert (first[:, 0] == 50).all() and (envs.step([0, 1])[0]["image"][:, 0] == 50).all()
    pressed = envs.step([6, 0])[0]["image"]
    assert len(np.unique(pressed[0, 0])) > 5 and (pressed[1, 0] == 50).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(region=0), r"key must be one of \['direction', 'image', 'mission'\] for a Dict observation, got None"),
        (dict(region=0, key="direction"), "the television needs a Box with at least one axis, got Discrete"),
        (dict(key="image"), "give either region or size, got region=None and size=None"),
        (dict(key="image", size=0), "size must be a positive integer, got 0"),
        (dict(key="image", region=9), r"region must index an array of shape \(7, 7, 3\), got 9"),
        (dict(key="image", region=np.s_[3:3]), r"region must cover some of an array of shape \(7, 7, 3\)"),
        (dict(key="image", size=1, high=256), "low and high must be finite numbers of uint8 with low < high, got 0 and 256"),
        (dict(key="image", size=1, high=1.5), "low and high must be whole numbers for uint8, got 0 and 1.5"),
        (dict(key="image", size=1, p=2), r"p must lie in \[0, 1\], got 2"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandomTV(four_rooms(), **arguments)


def test_bad_arguments_of_a_vector_are_refused(line):
    with pytest.raises(ValueError, match="low and high must be finite numbers of float32 with low < high, got -inf and inf"):
        RandomTV(line(), size=1)
    with pytest.raises(ValueError, match="key must be None for an observation that is no Dict, got 'image'"):
        RandomTV(line(), size=1, key="image")
    with pytest.raises(ValueError, match=r"action must be an element of the environment's Discrete actions, .*, got 4"):
        ControllableTV(line(), 4, size=1, low=0.0, high=1.0)
