"""`MetaEpisodes`: the same task k times, ends, features."""

import gymnasium as gym
import numpy as np
import pytest

import explore_gym
from explore_gym.wrappers import MetaEpisodes

assert explore_gym


def test_two_episodes_of_one_task_step_by_step(line):
    envs = MetaEpisodes(line(), 2)
    task = line().reset(seed=3)[0][0, 1]  # the first task is that of the seed
    obs, info = envs.reset(seed=3)
    assert obs.tolist() == [[0, task, 0, 0, 0, 0, 0, 0]] and info["inner_episode"].tolist() == [0]
    expected = [  # cell, one-hot action, reward, done; inner episode; end
        (3, [3, task, 0, 0, 0, 1, 3, 0], 0, False),
        (2, [0, task, 0, 0, 1, 0, 2, 1], 1, False),  # cell 5 ends the inner episode
        (3, [3, task, 0, 0, 0, 1, 3, 0], 1, False),
        (3, [6, task, 0, 0, 0, 1, 3, 1], 1, True),
    ]
    for action, observation, episode, end in expected:
        obs, reward, terminated, truncated, info = envs.step([action])
        assert obs.tolist() == [observation] and reward.tolist() == [action]
        assert (terminated.item(), truncated.item(), info["inner_episode"].item()) == (end, False, episode)
        assert info["inner_done"].item() == observation[-1]
        assert info["cell"].item() == obs[0, 0]
    obs, info = envs.reset(options={"reset_mask": np.array([True])})
    assert obs[0, 1] != task and obs[0, 2:].tolist() == [0] * 6 and info["inner_episode"].tolist() == [0]


def test_a_truncated_inner_episode_is_one_and_the_last_one_terminates(line):
    envs = MetaEpisodes(line(), 2)
    envs.reset(seed=0)
    flags = [[x.item() for x in envs.step([0])[2:4]] for _ in range(8)]
    assert flags == [[False, False]] * 7 + [[True, False]]


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_autoreset_starts_another_task(line, mode):
    envs = MetaEpisodes(line(mode=mode), 2, features=("action", "done"))
    task = envs.reset(seed=3)[0][0, 1]
    for _ in range(4):
        obs, _, terminated, _, info = envs.step([3])
    assert terminated.tolist() == [True]
    if mode == "SameStep":
        assert info["final_obs"][0].tolist() == [6, task, 0, 0, 0, 1, 1] and info["final_info"]["inner_episode"].tolist() == [1]
    else:
        assert obs.tolist() == [[6, task, 0, 0, 0, 1, 1]]
        obs, reward, terminated, _, info = envs.step([99])  # ignored
        assert reward.tolist() == [0.0] and not terminated[0]
    new = obs[0, 1]
    assert obs.tolist() == [[0, new, 0, 0, 0, 0, 0]] and new != task and info["inner_episode"].tolist() == [0]
    for _ in range(2):
        obs, *_ = envs.step([3])
    assert obs.tolist() == [[0, new, 0, 0, 0, 1, 1]]  # and this one is played twice too


def test_lanes_end_apart(line):
    envs = MetaEpisodes(line(2, "SameStep"), 2, features=())
    assert envs.single_observation_space == envs.env.single_observation_space
    tasks = envs.reset(seed=0)[0][:, 1].tolist()
    obs, *_ = envs.step([3, 1])
    obs, _, terminated, _, info = envs.step([3, 1])
    assert obs.tolist() == [[0, tasks[0]], [2, tasks[1]]] and not terminated.any() and "final_obs" not in info
    assert info["inner_episode"].tolist() == [1, 0] and info["cell"].tolist() == [0, 2]


def test_the_layout_of_a_gridworld_repeats_and_then_changes():
    envs = MetaEpisodes(gym.make_vec("Explore/FourRooms-v0", num_envs=3, max_steps=5, autoreset_mode="SameStep"), 2)
    first = envs.reset(seed=0)[0]["image"]
    starts = []
    for step in range(1, 21):
        obs, *_ = envs.step(np.zeros(3, int))
        if step % 5 == 0:
            starts.append(obs["image"])
    assert (starts[0] == first).all() and not (starts[1] == first).all() and (starts[2] == starts[1]).all()


def test_a_reset_without_a_seed_draws_another_task(line):
    envs = MetaEpisodes(line(5), 2)
    tasks = envs.reset(seed=0)[0][:, 1], envs.reset()[0][:, 1]
    assert (tasks[0] != tasks[1]).any()
    assert (envs.reset(seed=[0, 1, 2, 3, 4])[0][:, 1] == tasks[0]).all()


def test_gymnasiums_episode_statistics_inside(line):
    envs = MetaEpisodes(gym.wrappers.vector.RecordEpisodeStatistics(line(mode="SameStep")), 2)
    envs.reset(seed=0)
    envs.step([3])
    info = envs.step([3])[4]
    assert info["episode"]["r"].tolist() == [0] and info["_episode"].tolist() == [False]  # the reset's info takes its place
    envs.step([3])
    assert envs.step([3])[2].tolist() == [True]


def test_a_box_action_is_a_feature():
    envs = MetaEpisodes(gym.make_vec("MountainCarContinuous-v0", num_envs=2, vectorization_mode="sync"), 2, ["action"])
    assert envs.single_observation_space.shape == (3,)
    envs.reset(seed=0)
    assert envs.step(np.array([[0.5], [-1.0]]))[0][:, 2].tolist() == [0.5, -1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(k=0), "k must be a positive integer, got 0"),
        (dict(features=["time"]), r"features must be a collection of some of \['action', 'reward', 'done'\], got \['time'\]"),
        (dict(features="done"), "features must be a collection"),
    ],
)
def test_bad_arguments_are_refused(line, arguments, message):
    with pytest.raises(ValueError, match=message):
        MetaEpisodes(line(), **arguments)
