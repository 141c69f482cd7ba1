import pytest

from explore_gym.envs.gridworlds.grid import EAST, TOGGLE, WEST
from explore_gym.envs.gridworlds.red_blue_doors import RedBlueDoors


def play(*doors):
    """Toggle doors, "red" or "blue", one after the other; returns the results of all steps."""
    env = RedBlueDoors()
    env.reset(seed=0)
    state = env.get_state()
    before = dict(red=(int(state["red_row"]), 5, WEST), blue=(int(state["blue_row"]), 10, EAST))
    results = []
    for door in doors:
        row, col, direction = before[door]
        env.set_state(row=row, col=col, direction=direction)
        results.append(env.step(TOGGLE)[1:3])
    return results


def test_red_then_blue():
    assert play("red", "blue") == [(0.0, False), (pytest.approx(1 - 0.9 * 2 / 1280), True)]


def test_blue_first_is_the_end():
    assert play("blue") == [(0.0, True)]


def test_the_red_door_must_still_be_open():
    assert play("red", "red", "blue") == [(0.0, False), (0.0, False), (0.0, True)]


def test_doors_face_each_other():
    env = RedBlueDoors()
    _, info = env.reset(seed=0)
    assert env.get_state()["grid"].shape == (8, 16)
    assert info["coverage"] == 1 / (6 * 6 + 1 + 3 * 6)  # the room, the red door, three columns behind it


@pytest.mark.parametrize("size", [3, 128])
def test_bad_arguments_are_named(size):
    with pytest.raises(ValueError, match=rf"size must be an integer in \[4, 127\], got {size}"):
        RedBlueDoors(size=size)
