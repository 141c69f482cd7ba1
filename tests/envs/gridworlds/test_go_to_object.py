import numpy as np
import pytest
from parity import drawn

from explore_gym.envs.gridworlds.go_to_object import MISSIONS, GoToObject, GoToObjectVector
from explore_gym.envs.gridworlds.grid import (
    BALL,
    BOX,
    COLOR_NAMES,
    DONE,
    EAST,
    FORWARD,
    KEY,
    PICKUP,
    RED,
    TOGGLE,
    TURN_LEFT,
    cell,
)


def beside_a_ball(row=2, col=1):
    env = GoToObject(max_steps=20)
    env.reset(seed=0)
    rows = "######", "#....#", "#.B..#", "#....#", "#....#"
    env.set_state(grid=drawn(env, *rows, B=cell(BALL, RED)), row=row, col=col, direction=EAST, target_row=2, target_col=2)
    return env


def test_done_beside_the_object():
    assert beside_a_ball().step(DONE)[1:4] == (pytest.approx(1 - 0.9 / 20), True, False)
    assert beside_a_ball(row=1).step(DONE)[1:4] == (0.0, True, False)


def test_the_place_counts_where_the_object_was_at_first():
    env = beside_a_ball()
    for action in (PICKUP, TURN_LEFT):
        assert env.step(action)[1:4] == (0.0, False, False)
    assert env.step(DONE)[1:4] == (pytest.approx(1 - 0.9 * 3 / 20), True, False)
    env = beside_a_ball()
    env.step(PICKUP)
    env.step(FORWARD)
    assert env.step(DONE)[1:4] == (0.0, True, False)  # in it, not beside it


def test_toggle_ends_the_episode():
    assert beside_a_ball().step(TOGGLE)[1:4] == (0.0, True, False)


def test_objects_differ_and_the_mission_names_the_target():
    envs = GoToObjectVector(num_envs=300, num_objects=5)
    obs, _ = envs.reset(seed=0)
    for mission, state in zip(obs["mission"], envs.get_state(), strict=True):
        things = state["grid"][np.isin(state["grid"] & 15, [KEY, BALL, BOX])].tolist()
        assert len(things) == len(set(things)) == 5
        color, kind = mission.removeprefix("go to the ").split()
        target = cell(dict(key=KEY, ball=BALL, box=BOX)[kind], COLOR_NAMES.index(color))
        assert state["grid"][state["target_row"], state["target_col"]] == target
    assert set(obs["mission"]) == set(MISSIONS)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(size=3), r"size must be an integer in \[4, 255\], got 3"),
        (dict(num_objects=0), r"num_objects must be an integer in \[1, 15\], got 0"),
        (dict(size=9, num_objects=19), r"num_objects must be an integer in \[1, 18\], got 19"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        GoToObject(**kwargs)
