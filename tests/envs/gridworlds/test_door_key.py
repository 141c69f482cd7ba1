import numpy as np
import pytest
from parity import drawn

from explore_gym.envs.gridworlds.door_key import DoorKey, DoorKeyVector
from explore_gym.envs.gridworlds.grid import (
    DOOR,
    FORWARD,
    GREY_WALL,
    KEY,
    LOCKED,
    NORTH,
    PICKUP,
    TOGGLE,
    TURN_RIGHT,
    YELLOW,
    cell,
)

WAY = (FORWARD, PICKUP, TURN_RIGHT, TOGGLE, FORWARD, FORWARD, TURN_RIGHT, FORWARD)


def small_room():
    """Minigrid's 5x5 layout in the corner of a larger grid: the way from here takes the eight steps of WAY."""
    env = DoorKey(max_steps=100)
    env.reset(seed=0)
    rows = "#####", "#K#.#", "#.D.#", "#.#G#"
    env.set_state(grid=drawn(env, *rows, K=KEY | YELLOW << 4, D=cell(DOOR, YELLOW, LOCKED)), row=3, col=1, direction=NORTH)
    return env


def test_key_door_goal():
    env = small_room()
    results = [env.step(action)[1:3] for action in WAY]
    assert results == [(0.0, False)] * 7 + [(pytest.approx(1 - 0.9 * 8 / 100), True)]


def test_the_door_stays_shut_without_the_key():
    env = small_room()
    for action in (FORWARD, TURN_RIGHT, TOGGLE, FORWARD):
        _, _, _, _, info = env.step(action)
    assert info["cell"] == 2 * 8 + 1


def test_no_shorter_way():
    values = small_room().to_tabular().optimal_values
    assert values(horizon=8)[0] == pytest.approx(1 - 0.9 / 100)  # the model's clock stands still
    assert values(horizon=7)[0] == 0.0


def test_agent_and_key_are_on_this_side_of_the_door():
    envs = DoorKeyVector(num_envs=1000)
    envs.reset(seed=0)
    state = envs.get_state()
    door_row, door_col = np.nonzero(state["grid"] == cell(DOOR, YELLOW, LOCKED))[1:]
    key_col = np.nonzero(state["grid"] == KEY | YELLOW << 4)[2]
    assert set(door_row.tolist()) == {1, 2, 3, 4, 5}  # never beside the goal
    assert set(door_col.tolist()) == {2, 3, 4, 5}
    assert np.all(state["col"] < door_col) and np.all(key_col < door_col)
    assert np.all((state["grid"][np.arange(1000), :, door_col] == GREY_WALL).sum(1) == 7)


@pytest.mark.parametrize(("kwargs", "message"), [(dict(size=4), r"size must be an integer in \[5, 255\], got 4")])
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        DoorKey(**kwargs)
