import itertools

import numpy as np
import pytest

from explore_gym.envs.gridworlds.grid import CLOSED, DOOR, EMPTY, GREEN_GOAL
from explore_gym.envs.gridworlds.multi_room import MultiRoom, MultiRoomVector


def test_rooms_form_a_chain():
    envs = MultiRoomVector(num_envs=200, min_rooms=2)
    envs.reset(seed=0)
    lengths = set()
    for state in envs.get_state():
        doors = (state["grid"] & 15) == DOOR
        num_rooms = 1 + int(doors.sum())
        lengths.add(num_rooms)
        rooms = state["rooms"][:num_rooms].tolist()
        colors = []
        for (*_, door_row, door_col), before, after in zip(rooms[1:], rooms, rooms[1:], strict=False):
            assert state["grid"][door_row, door_col] >> 7 & 3 == CLOSED
            colors.append(state["grid"][door_row, door_col] >> 4 & 7)
            for top, left, height, width, *_ in (before, after):  # the door is in a wall of both, never in a corner
                inner_row, inner_col = top < door_row < top + height - 1, left < door_col < left + width - 1
                assert inner_row != inner_col
                assert door_row in (top, top + height - 1) or door_col in (left, left + width - 1)
        assert all(one != two for one, two in itertools.pairwise(colors))
        top, left, height, width, *_ = rooms[0]
        assert top < state["row"] < top + height - 1 and left < state["col"] < left + width - 1
        top, left, height, width, *_ = rooms[-1]
        assert np.sum(state["grid"][top : top + height, left : left + width] == GREEN_GOAL) == 1
        assert state["walkable"] == sum((r[2] - 2) * (r[3] - 2) for r in rooms) + num_rooms - 1
        assert all(4 <= side <= 10 for r in rooms for side in r[2:4])
    assert lengths == {2, 3, 4, 5, 6}


def test_time_limit_grows_with_the_rooms():
    assert MultiRoom(min_rooms=1, max_rooms=3).time_limit == 60


def test_where_the_grid_is_too_small_the_chain_is_shorter():
    env = MultiRoom(min_rooms=4, max_rooms=4, max_room_size=4, width=7, height=5)
    for seed in range(3):
        env.reset(seed=seed)
        state = env.get_state()
        assert np.sum((state["grid"] & 15) == DOOR) <= 1
        assert np.sum(state["grid"] == GREEN_GOAL) == 1
        assert state["grid"][state["row"], state["col"]] == EMPTY


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(max_rooms=65), r"max_rooms must be an integer in \[1, 64\], got 65"),
        (dict(min_rooms=7), r"min_rooms must be an integer in \[1, 6\], got 7"),
        (dict(max_room_size=3), r"max_room_size must be an integer in \[4, 24\], got 3"),
        (dict(width=9, max_room_size=9), r"max_room_size must be an integer in \[4, 8\], got 9"),
        (dict(width=4), r"width must be an integer in \[5, 255\], got 4"),
        (dict(height=256), r"height must be an integer in \[5, 255\], got 256"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MultiRoom(**kwargs)
