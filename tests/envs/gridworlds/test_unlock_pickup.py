import numpy as np
import pytest

from explore_gym.envs.gridworlds.grid import BALL, BOX, COLOR_NAMES, EAST, EMPTY, KEY, PICKUP, TOGGLE, cell
from explore_gym.envs.gridworlds.unlock_pickup import UnlockPickup, UnlockPickupVector


def facing(ahead):
    """The agent in the left room, looking east at an object."""
    env = UnlockPickup()
    env.reset(seed=0)
    state = env.get_state()
    grid = state["grid"]
    grid[1:5, 1:5] = EMPTY
    grid[2, 3] = state["target"] if ahead is None else ahead
    env.set_state(grid=grid, row=2, col=2, direction=EAST)
    return env


def test_picking_up_the_box_is_the_success():
    *_, info = result = facing(None).step(PICKUP)
    assert result[1:3] == (pytest.approx(1 - 0.9 / 288), True)
    assert info["success"]


def test_other_objects_and_opening_the_box_are_not():
    target = int(facing(None).get_state()["target"])
    other = cell(BOX, ((target >> 4 & 7) + 1) % 6)
    for ahead in (KEY, cell(BALL, target >> 4 & 7), other):
        env = facing(ahead)
        assert env.step(PICKUP)[1:3] == (0.0, False)
        assert env.get_state()["carrying"] == ahead
    env = facing(None)
    assert env.step(TOGGLE)[1:3] == (0.0, False)  # the box is empty, and gone
    assert env.step(PICKUP)[1:3] == (0.0, False)
    assert env.get_state()["grid"][2, 3] == EMPTY


def test_the_mission_names_the_box_in_the_right_room():
    envs = UnlockPickupVector(num_envs=200)
    obs, _ = envs.reset(seed=0)
    for mission, state in zip(obs["mission"], envs.get_state(), strict=True):
        ((row, col),) = np.argwhere(state["grid"] & 15 == BOX)
        assert 6 <= col <= 9
        assert mission == f"pick up the {COLOR_NAMES[state['grid'][row, col] >> 4 & 7]} box"
        ((row, col),) = np.argwhere(state["grid"] & 15 == KEY)
        assert col <= 4 and state["col"] <= 4
    assert len(set(obs["mission"])) == 6


def test_layouts_can_be_solved():
    env = UnlockPickup(room_size=5)
    for seed in range(3):
        env.reset(seed=seed)
        assert len(env.shortest_path()) < env.time_limit == 200


@pytest.mark.parametrize("size", [4, 128])
def test_bad_arguments_are_named(size):
    with pytest.raises(ValueError, match=rf"room_size must be an integer in \[5, 127\], got {size}"):
        UnlockPickup(room_size=size)
