import numpy as np
import pytest
from scipy import ndimage

from explore_gym.envs.gridworlds.grid import BALL, BOX, COLOR_NAMES, DOOR, EAST, EMPTY, KEY, LOCKED, PICKUP, WALL
from explore_gym.envs.gridworlds.key_corridor import KeyCorridor, KeyCorridorVector


def test_the_ball_is_behind_the_locked_door_and_the_key_to_the_left():
    envs = KeyCorridorVector(num_envs=200)
    obs, _ = envs.reset(seed=0)
    rows = set()
    for mission, state in zip(obs["mission"], envs.get_state(), strict=True):
        grid, kind = state["grid"], state["grid"] & 15
        ((ball_row, ball_col),) = np.argwhere(kind == BALL)
        ((key_row, key_col),) = np.argwhere(kind == KEY)
        locked = np.argwhere((kind == DOOR) & (grid >> 7 & 3 == LOCKED))
        ((door_row, door_col),) = locked
        assert (door_col, door_row // 5) == (10, ball_row // 5)
        assert ball_col > 10 and key_col < 5
        assert grid[key_row, key_col] >> 4 & 7 == grid[door_row, door_col] >> 4 & 7
        assert mission == f"pick up the {COLOR_NAMES[grid[ball_row, ball_col] >> 4 & 7]} ball"
        assert 5 < state["col"] < 10
        rows.add((int(ball_row) // 5, int(key_row) // 5))
        areas, count = ndimage.label(kind != WALL)
        assert count == 1
        without = (kind != WALL) & ~((kind == DOOR) & (grid >> 7 & 3 == LOCKED))  # the locked room has no other door
        areas, count = ndimage.label(without)
        assert count == 2 and areas[ball_row, ball_col] != areas[state["row"], state["col"]]
    assert len(rows) == 9


def test_the_hallway_is_open():
    env = KeyCorridor(num_rows=3)
    env.reset(seed=0)
    assert (env.get_state()["grid"][1:-1, 6:10] & 15 != WALL).all()


def test_picking_up_the_object_is_the_success():
    env = KeyCorridor(room_size=4, num_rows=1, obj_type="box")
    obs, _ = env.reset(seed=0)
    state = env.get_state()
    assert obs["mission"] == f"pick up the {COLOR_NAMES[state['target'] >> 4 & 7]} box"
    grid = state["grid"]
    assert (grid & 15 == BOX).sum() == 1
    grid[grid == state["target"]] = EMPTY
    grid[1, 5] = state["target"]
    env.set_state(grid=grid, row=1, col=4, direction=EAST)
    assert env.step(PICKUP)[1:3] == (pytest.approx(1 - 0.9 / 480), True)


def test_small_layouts_can_be_solved():
    env = KeyCorridor(room_size=3, num_rows=2)
    for seed in range(5):
        env.reset(seed=seed)
        assert len(env.shortest_path()) < env.time_limit == 270


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(num_rows=0), r"num_rows must be an integer in \[1, 20\], got 0"),
        (dict(room_size=2), r"room_size must be an integer in \[3, 85\], got 2"),
        (dict(num_rows=20, room_size=14), r"room_size must be an integer in \[3, 13\], got 14"),
        (dict(obj_type="key"), "obj_type must be one of ball, box, got 'key'"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        KeyCorridor(**kwargs)
