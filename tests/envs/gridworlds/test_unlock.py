import numpy as np
import pytest

from explore_gym.envs.gridworlds.grid import (
    DONE,
    DOOR,
    EAST,
    EMPTY,
    FORWARD,
    KEY,
    LOCKED,
    OPEN,
    PICKUP,
    TOGGLE,
    TURN_RIGHT,
    cell,
)
from explore_gym.envs.gridworlds.unlock import Unlock


def before_the_door():
    """The agent before the locked door, the key behind it in the same row."""
    env = Unlock()
    env.reset(seed=0)
    state = env.get_state()
    row, col = divmod(int(state["door_cells"][0, EAST]), 11)
    grid = state["grid"]
    color = int(grid[row, col]) >> 4 & 7
    grid[grid == KEY | color << 4] = EMPTY
    grid[row, col - 2] = cell(KEY, color)
    env.set_state(grid=grid, row=row, col=col - 1, direction=EAST)
    return env, (row, col), color


def test_opening_the_door_is_the_success():
    env, (row, col), color = before_the_door()
    state = env.get_state()
    assert (state["grid"][row, col], col) == (cell(DOOR, color, LOCKED), 5)
    assert env.step(TOGGLE)[1:3] == (0.0, False)  # without the key
    for action in (TURN_RIGHT, TURN_RIGHT, PICKUP, TURN_RIGHT, TURN_RIGHT):
        assert env.step(action)[1:3] == (0.0, False)
    *_, info = result = env.step(TOGGLE)
    assert result[1:3] == (pytest.approx(1 - 0.9 * 7 / 288), True)
    assert info["success"]
    assert env.get_state()["grid"][row, col] == cell(DOOR, color, OPEN)


def test_only_toggle_can_succeed():
    env, (row, col), color = before_the_door()
    grid = env.get_state()["grid"]
    grid[row, col] = cell(DOOR, color, OPEN)
    env.set_state(grid=grid)
    assert env.step(DONE)[1:3] == (0.0, False)
    assert env.step(FORWARD)[1:3] == (0.0, False)


def test_every_layout_has_the_shortest_path_that_walking_gives():
    for seed in range(5):
        env = Unlock(room_size=5)
        env.reset(seed=seed)
        path = env.shortest_path()
        for action in path[:-1]:
            assert not env.step(action)[2]
        assert env.step(path[-1])[1:3] == (pytest.approx(1 - 0.9 * len(path) / 200), True)


def test_sizes():
    env = Unlock(room_size=8)
    _, info = env.reset(seed=0)
    assert env.get_state()["grid"].shape == (8, 15)
    assert info["coverage"] == 1 / (2 * 36 + 1)
    assert env.time_limit == 8 * 64
    assert Unlock(max_steps=7).time_limit == 7
    assert np.sum(env.get_state()["grid"] & 15 == KEY) == 1


@pytest.mark.parametrize("size", [4, 128, 6.0])
def test_bad_arguments_are_named(size):
    with pytest.raises(ValueError, match=rf"room_size must be an integer in \[5, 127\], got {size}"):
        Unlock(room_size=size)
