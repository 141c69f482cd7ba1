import numpy as np
import pytest

from explore_gym.envs.gridworlds.blocked_unlock_pickup import BlockedUnlockPickup, BlockedUnlockPickupVector
from explore_gym.envs.gridworlds.grid import BALL, BOX, DOOR, DROP, EAST, EMPTY, FORWARD, KEY, LOCKED, PICKUP, TOGGLE


def test_a_ball_lies_before_the_locked_door():
    envs = BlockedUnlockPickupVector(num_envs=200)
    envs.reset(seed=0)
    colors = set()
    for state in envs.get_state():
        grid = state["grid"]
        ((row, col),) = np.argwhere(grid & 15 == DOOR)
        assert (col, grid[row, col] >> 7 & 3) == (5, LOCKED)
        assert np.argwhere(grid & 15 == BALL).tolist() == [[row, col - 1]]
        colors.add(int(grid[row, col - 1]) >> 4 & 7)
        assert (grid & 15 == KEY).sum() == (grid & 15 == BOX).sum() == 1
    assert colors == set(range(6))


def test_from_the_ball_to_the_box():
    env = BlockedUnlockPickup()
    env.reset(seed=0)
    state = env.get_state()
    row, col = divmod(int(state["door_cells"][0, EAST]), 11)
    color = int(state["grid"][row, col]) >> 4 & 7
    grid = state["grid"]
    grid[1:5, 6:10] = EMPTY
    grid[row, col + 1] = state["target"]
    env.set_state(grid=grid, row=row, col=col - 2, direction=EAST, carrying=KEY | color << 4)
    assert env.step(FORWARD)[4]["cell"] == row * 11 + col - 2  # the ball is in the way
    assert env.step(PICKUP)[1:3] == (0.0, False)  # the hands are full
    assert env.get_state()["grid"][row, col - 1] & 15 == BALL
    env.set_state(carrying=EMPTY)
    env.step(PICKUP)
    env.step(FORWARD)
    env.set_state(carrying=KEY | color << 4)
    assert env.step(TOGGLE)[1:3] == (0.0, False)
    assert env.step(FORWARD)[4]["cell"] == row * 11 + col
    env.set_state(carrying=EMPTY)
    assert env.step(PICKUP)[1:3] == (pytest.approx(1 - 0.9 * 7 / 576), True)


def test_the_first_object_has_to_be_put_down_before_the_second():
    env = BlockedUnlockPickup(room_size=5)
    env.reset(seed=0)
    assert env.shortest_path().count(DROP) >= 2  # the ball, then the key


@pytest.mark.parametrize("size", [4, 128])
def test_bad_arguments_are_named(size):
    with pytest.raises(ValueError, match=rf"room_size must be an integer in \[5, 127\], got {size}"):
        BlockedUnlockPickup(room_size=size)
