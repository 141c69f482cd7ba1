import numpy as np
import pytest
from parity import drawn

from explore_gym.envs.gridworlds.grid import (
    BALL,
    BLUE,
    BOX,
    COLOR_NAMES,
    DROP,
    EAST,
    EMPTY,
    KEY,
    PICKUP,
    RED,
    TOGGLE,
    TURN_LEFT,
    TURN_RIGHT,
    cell,
)
from explore_gym.envs.gridworlds.put_near import MISSIONS, PutNear, PutNearVector

RED_KEY = cell(KEY, RED)


def play(*actions, ahead=RED_KEY):
    """The last results of actions that start before an object, where the red key is to be put near the blue ball at (4, 2)."""
    env = PutNear()
    env.reset(seed=0)
    rows = "######", "#....#", "#.X..#", "#....#", "#.T..#"
    grid = drawn(env, *rows, X=ahead, T=cell(BALL, BLUE))
    env.set_state(grid=grid, row=2, col=1, direction=EAST, moved=RED_KEY, target_row=4, target_col=2)
    for action in actions:
        _, reward, terminated, truncated, _ = env.step(action)
    return reward, terminated, truncated


def test_drop_near_the_target():
    # to (3, 1), within a cell of (4, 2)
    assert play(PICKUP, TURN_RIGHT, DROP) == (pytest.approx(1 - 0.9 * 3 / 30), True, False)


def test_drop_elsewhere_or_where_something_is():
    assert play(PICKUP, DROP) == (0.0, True, False)  # back to (2, 2), two cells away
    assert play(PICKUP, TURN_LEFT, TURN_LEFT, DROP) == (0.0, True, False)  # into the wall: the attempt is enough
    assert play(DROP) == (0.0, False, False)  # with empty hands


def test_the_wrong_object_ends_the_episode():
    assert play(PICKUP) == (0.0, False, False)
    assert play(PICKUP, ahead=cell(KEY, BLUE)) == (0.0, True, False)
    assert play(PICKUP, ahead=cell(BOX, RED)) == (0.0, True, False)
    assert play(TOGGLE, PICKUP, ahead=cell(BOX, RED)) == (0.0, False, False)  # it vanishes


def test_objects_differ_and_keep_their_distance():
    envs = PutNearVector(num_envs=400)
    obs, _ = envs.reset(seed=0)
    for mission, state in zip(obs["mission"], envs.get_state(), strict=True):
        places = np.argwhere(np.isin(state["grid"] & 15, [KEY, BALL, BOX]))
        assert len(places) == 2
        assert np.abs(places[0] - places[1]).max() > 1
        moved, target = mission.removeprefix("put the ").split(" near the ")
        for name, code in ((moved, state["moved"]), (target, state["grid"][state["target_row"], state["target_col"]])):
            color, kind = name.split()
            assert code == cell(dict(key=KEY, ball=BALL, box=BOX)[kind], COLOR_NAMES.index(color))
        assert state["moved"] in state["grid"]
        assert np.sum(state["grid"] == EMPTY) == 14
    assert set(obs["mission"]) < set(MISSIONS)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(size=5), r"size must be an integer in \[6, 255\], got 5"),
        (dict(num_objects=1), r"num_objects must be an integer in \[2, 2\], got 1"),
        (dict(size=8, num_objects=5), r"num_objects must be an integer in \[2, 4\], got 5"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PutNear(**kwargs)
