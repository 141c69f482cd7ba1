import numpy as np
import pytest

from explore_gym.envs.gridworlds.go_to_door import GoToDoor, GoToDoorVector
from explore_gym.envs.gridworlds.grid import COLOR_NAMES, DONE, DOOR, GREY_WALL, PICKUP, TOGGLE


def result(action, row, col):
    """What an action returns at a cell of the smallest room, whose upper door, in the middle of the wall, is the target."""
    env = GoToDoor()
    env.reset(seed=0)
    env.set_state(row=row, col=col, target_row=0, target_col=2)
    return env.step(action)[1:4]


def test_done_beside_the_door():
    assert result(DONE, 1, 2) == (pytest.approx(1 - 0.9 / 100), True, False)
    assert result(DONE, 1, 1) == (0.0, True, False)  # diagonally
    assert result(DONE, 2, 2) == (0.0, True, False)


def test_toggle_ends_the_episode():
    assert result(TOGGLE, 1, 2) == (0.0, True, False)
    assert result(PICKUP, 1, 2) == (0.0, False, False)


def test_four_doors_of_different_colours_in_a_room_of_random_size():
    envs = GoToDoorVector(num_envs=300, size=8)
    obs, _ = envs.reset(seed=0)
    sizes = set()
    for mission, state in zip(obs["mission"], envs.get_state(), strict=True):
        walls = np.argwhere((state["grid"] == GREY_WALL) | (state["grid"] & 15 == DOOR))
        height, width = walls.max(0) + 1
        sizes.add((height, width))
        doors = np.argwhere(state["grid"] & 15 == DOOR).tolist()
        colors = [int(state["grid"][row, col]) >> 4 & 7 for row, col in doors]
        assert len(set(colors)) == 4
        assert sum(row in (0, height - 1) for row, _ in doors) == 2
        assert sum(col in (0, width - 1) for _, col in doors) == 2
        target = doors.index([int(state["target_row"]), int(state["target_col"])])
        assert mission == f"go to the {COLOR_NAMES[colors[target]]} door"
        assert state["walkable"] == (height - 2) * (width - 2)
    assert sizes == {(h, w) for h in range(5, 9) for w in range(5, 9)}


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"size must be an integer in \[5, 255\], got 4"):
        GoToDoor(size=4)
