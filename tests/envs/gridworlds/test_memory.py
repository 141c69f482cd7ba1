import numpy as np
import pytest

from explore_gym.envs.gridworlds.grid import BALL, CHARS, EAST, EMPTY, FORWARD, GREEN, KEY, NORTH, PICKUP, SOUTH, cell
from explore_gym.envs.gridworlds.memory import Memory, MemoryVector


def at_the_split(seed, correct):
    """An agent in the middle of the split that looks towards the right or the wrong object."""
    env = Memory()
    env.reset(seed=seed)
    upwards = (env.get_state()["success_row"] == 3) == correct
    env.set_state(row=4, col=7, direction=NORTH if upwards else SOUTH)
    return env


def test_layout():
    env = Memory()
    _, info = env.reset(seed=0)
    state = env.get_state()
    rows = ["".join(CHARS[code & 15] for code in row).replace("A", "K") for row in state["grid"].tolist()]
    middle = ["#K..###.#", "#.......#", "#...###.#"]  # a key or a ball in the first room, the hallway, the split
    assert rows == ["#########", "#.....#.#", "#####.#K#", *middle, "#####.#K#", "#.....#.#", "#########"]
    assert (state["row"], state["direction"]) == (4, EAST)
    assert info["coverage"] == 1 / (8 + 3 + 3)


def test_the_matching_object_is_the_right_one():
    envs = MemoryVector(num_envs=400)
    envs.reset(seed=0)
    state = envs.get_state()
    shown, above, below = state["grid"][:, 3, 1], state["grid"][:, 2, 7], state["grid"][:, 6, 7]
    assert set(shown.tolist()) == {cell(KEY, GREEN), cell(BALL, GREEN)}
    assert np.all(above != below)
    np.testing.assert_array_equal(state["success_row"], np.where(shown == above, 3, 5))
    np.testing.assert_array_equal(state["failure_row"], np.where(shown == above, 5, 3))
    assert 150 < np.sum(shown == above) < 250


@pytest.mark.parametrize("seed", range(4))
def test_right_and_wrong_end(seed):
    assert at_the_split(seed, correct=True).step(FORWARD)[1:3] == (pytest.approx(1 - 0.9 / 405), True)
    assert at_the_split(seed, correct=False).step(FORWARD)[1:3] == (0.0, True)


def test_objects_cannot_be_taken():
    env = Memory()
    env.reset(seed=0)
    env.set_state(row=4, col=1, direction=NORTH)
    env.step(PICKUP)
    state = env.get_state()
    assert state["carrying"] == EMPTY and state["grid"][3, 1] != EMPTY


def test_random_length():
    envs = MemoryVector(num_envs=300, random_length=True)
    envs.reset(seed=0)
    state = envs.get_state()
    ends = np.bincount(state["end_col"])
    assert np.all(ends[:5] == 0) and np.all(ends[5:] > 70)  # columns 5, 6 and 7
    assert np.all(state["col"] < state["end_col"])
    np.testing.assert_array_equal(state["walkable"], state["end_col"] + 7)


@pytest.mark.parametrize("size", [5, 8])
def test_bad_arguments_are_named(size):
    with pytest.raises(ValueError, match=rf"size must be an odd integer in \[7, 255\], got {size}"):
        Memory(size=size)
