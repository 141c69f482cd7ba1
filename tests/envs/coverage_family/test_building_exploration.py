import numpy as np
import pytest

from explore_gym.envs.coverage.building_exploration import BuildingExploration, BuildingExplorationVector, read_plan
from explore_gym.envs.coverage.grid import DOWN, LEFT, RIGHT, UP

RIGHT_ROOM = 10  # its first column


def test_the_building_has_two_rooms_and_a_corridor():
    free, start = read_plan("two_rooms")
    assert free.shape == (7, 14) and free.sum() == 2 * 7 * 4 + 2 * 6
    assert start.tolist() == [2, 6]
    assert free[:, :4].all() and free[:, RIGHT_ROOM:].all()
    assert free[2:4].all() and free[:, 4:RIGHT_ROOM].sum() == 12


def test_walls_stop_the_walker_and_what_it_sees():
    env = BuildingExploration()
    _, info = env.reset(seed=0)
    assert info == {"F": 4.0, "modular_reward": 4.0, "coverage": 4 / 68, "cell": 34}
    _, reward, *_, info = env.step(UP)  # a wall
    assert (reward, info["cell"], info["F"]) == (0.0, 34, 4.0)
    _, reward, *_, info = env.step(DOWN)
    assert (reward, info["cell"], info["modular_reward"]) == (0.0, 48, 2.0)  # nothing but wall below
    env.set_state(cell=3 * 14 + 4)
    _, reward, *_, info = env.step(LEFT)
    assert (reward, info["cell"]) == (3.0, 45)  # itself, the corridor's end and the cell below; the fourth is wall


def test_all_rooms_can_be_seen():
    envs = BuildingExplorationVector(num_envs=1, steps=100)
    envs.reset(seed=0)
    for cell in np.flatnonzero(envs.env.free):
        envs.set_state(cell=cell)
        info = envs.step([0])[4]
    assert (info["F"], info["coverage"]) == (68.0, 1.0)


def test_a_plan_of_ones_own():
    env = BuildingExploration(plan=["S.#", "..."])
    assert env.free.tolist() == [[True, True, False], [True, True, True]]
    assert env.set_function([0]) == 4.0 and env.set_function([1]) == 3.0
    assert env.moves[1, RIGHT] == 1


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("palace", "plan must be one of two_rooms or rows of text, got 'palace'"),
        (["S..", ".."], "plan must have rows of equal length"),
        (["..", ".."], "one S"),
        (["Sx", ".."], r"got \['Sx', '..'\]"),
        (["S"], r"rows must be an integer in \[2, 50\], got 1"),
    ],
)
def test_bad_plans_are_named(plan, message):
    with pytest.raises(ValueError, match=message):
        BuildingExploration(plan=plan)


def test_the_drawing_is_the_plan():
    env = BuildingExploration(render_mode="ansi")
    env.reset(seed=0)
    rows = env.render().split("\n")
    assert rows[:4] == ["9999######9999", "9999######9999", "999999@.999999", "999999..999999"]
