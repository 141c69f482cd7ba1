"""`ExplorationStatistics`: numbers of a few steps, and of random play against a slow count."""

from collections import Counter

import gymnasium as gym
import numpy as np
import pytest

import explore_gym
from explore_gym.wrappers import ExplorationStatistics

assert explore_gym


def test_numbers_of_two_short_episodes(line):
    envs = ExplorationStatistics(line(), num_cells=10)
    _, info = envs.reset(seed=0)
    assert info["episode_unique"].tolist() == [1] and info["episode_entropy"].tolist() == [0.0]
    for action in (1, 0, 2, 2):  # cells 1, 1, 3, 5
        *_, info = envs.step([action])
        if action == 0:
            assert info["episode_entropy"] == pytest.approx([np.log(3) - 2 / 3 * np.log(2)])
    assert info["episode_unique"].tolist() == [4]
    assert info["episode_entropy"] == pytest.approx([-3 * 0.2 * np.log(0.2) - 0.4 * np.log(0.4)])
    envs.reset(options={"reset_mask": np.array([True])})
    *_, info = envs.step([2])  # cells 0 and 2
    assert info["episode_unique"].tolist() == [2] and info["episode_entropy"] == pytest.approx([np.log(2)])
    found = envs.statistics()
    assert found["cells"].tolist() == [0, 1, 3, 5, 2] and found["visits"].tolist() == [2, 2, 1, 1, 1]
    assert found["first_visit"].tolist() == [0, 1, 3, 4, 5]
    assert (found["steps"], found["episodes"], found["unique_cells"], found["coverage"]) == (5, 1, 5, 0.5)
    assert found["mean_episode_unique"] == 4
    assert found["entropy"] == pytest.approx(-4 / 7 * np.log(2 / 7) - 3 / 7 * np.log(1 / 7))
    assert envs.coverage([0, 1, 2, 3, 100]).tolist() == [0.1, 0.2, 0.2, 0.3, 0.5]


def test_statistics_before_the_first_reset_are_empty(line):
    found = ExplorationStatistics(line()).statistics()
    assert found["unique_cells"] == found["steps"] == found["coverage"] == 0 and np.isnan(found["mean_episode_unique"])


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_equals_a_slow_count(mode):
    watched = ExplorationStatistics(gym.make_vec("Explore/FourRooms-v0", num_envs=20, max_steps=30, autoreset_mode=mode))
    visits, first = Counter(), {}

    def visit(cells, steps):
        for cell in cells.tolist():
            visits[cell] += 1
            first.setdefault(cell, steps)

    _, info = watched.reset(seed=0)
    visit(info["cell"], 0)
    pending, steps, rng = np.zeros(20, bool), 0, np.random.default_rng(0)
    for _ in range(100):
        _, _, terminated, truncated, info = watched.step(rng.integers(3, size=20))
        done = terminated | truncated
        if mode == "NextStep":
            visit(info["cell"][pending], steps)  # episodes that begin, before the steps of the other lanes
            steps += 20 - int(pending.sum())
            visit(info["cell"][~pending], steps)
            pending = done
        else:
            steps += 20
            visit(info["final_info"]["cell"], steps)
            visit(info["cell"][done], steps)
        assert (info["episode_unique"] == info["visited"]).all()
    found = watched.statistics()
    assert found["steps"] == steps and len(visits) == found["unique_cells"] == found["coverage"]
    assert dict(zip(found["cells"].tolist(), found["visits"].tolist())) == visits
    assert dict(zip(found["cells"].tolist(), found["first_visit"].tolist())) == first


def test_the_number_of_cells_is_positive(line):
    with pytest.raises(ValueError, match="num_cells must be a positive integer or None, got 0"):
        ExplorationStatistics(line(), num_cells=0)
