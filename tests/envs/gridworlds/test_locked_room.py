import numpy as np
import pytest

from explore_gym.envs.gridworlds.grid import COLOR_NAMES, DOOR, EMPTY, GREEN_GOAL, KEY, LOCKED
from explore_gym.envs.gridworlds.locked_room import LockedRoom, LockedRoomVector

ROOMS = [(row, col) for row in (0, 6, 12) for col in (0, 11)]  # upper left corners; a room is 7 rows high and 8 columns wide


def room_of(row, col):
    """The room in which a cell lies, walls excluded."""
    (found,) = (i for i, (top, left) in enumerate(ROOMS) if top < row < top + 6 and left < col < left + 7)
    return found


def test_rooms_doors_key_and_goal():
    envs = LockedRoomVector(num_envs=300)
    obs, _ = envs.reset(seed=0)
    seen = set()
    for mission, state in zip(obs["mission"], envs.get_state(), strict=True):
        grid = state["grid"]
        doors = [grid[row + 3, 7 if col == 0 else 11] for row, col in ROOMS]
        assert [code & 15 for code in doors] == [DOOR] * 6
        colors = [COLOR_NAMES[code >> 4 & 7] for code in doors]
        assert sorted(colors) == sorted(COLOR_NAMES)
        (locked,) = (i for i, code in enumerate(doors) if code >> 7 & 3 == LOCKED)
        assert room_of(*np.argwhere(grid == GREEN_GOAL)[0]) == locked
        (key_place,) = np.argwhere(grid & 15 == KEY)
        key_room = room_of(*key_place)
        assert COLOR_NAMES[grid[tuple(key_place)] >> 4 & 7] == colors[locked]
        assert mission == (
            f"get the {colors[locked]} key from the {colors[key_room]} room, "
            f"unlock the {colors[locked]} door and go to the goal"
        )
        assert 8 <= state["col"] <= 10 and grid[state["row"], state["col"]] == EMPTY
        seen.add((locked, key_room))
    assert seen == {(i, j) for i in range(6) for j in range(6) if i != j}


def test_coverage_counts_rooms_doors_and_hallway():
    _, info = LockedRoom().reset(seed=0)
    assert info["coverage"] == 1 / (6 * 5 * 6 + 6 + 3 * 17)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (11, r"size must be an odd integer in \[13, 255\], got 11"),
        (18, "got 18"),
        (21, "size must not be a multiple of 3, got 21"),
    ],
)
def test_bad_arguments_are_named(size, message):
    with pytest.raises(ValueError, match=message):
        LockedRoom(size=size)
