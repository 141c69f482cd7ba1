import itertools

import numpy as np
import pytest
from scipy import stats

from explore_gym.envs.engine.planning import shortest_paths
from explore_gym.envs.gridworlds.corridors import Corridors, CorridorsVector
from explore_gym.envs.gridworlds.grid import DONE, FORWARD, GREEN_GOAL, TURN_LEFT, TURN_RIGHT

MIDDLE, HUB, WIDTH = 6, 25, 13  # of the default's 27 rows and 13 columns


def goal_of(env):
    """The corridor with the goal, from the west."""
    return int(np.argwhere(env.get_state()["grid"] == GREEN_GOAL)[0][1]) // 2


def way(corridor):
    """The 27 actions from the start, looking south, to the end of one of the default's six corridors."""
    aside = 1 + 2 * corridor - MIDDLE
    turn = TURN_LEFT if aside > 0 else TURN_RIGHT
    return [turn, *[FORWARD] * abs(aside), turn, *[FORWARD] * (25 - abs(aside))]


def test_every_end_is_27_steps_and_26_cells_away():
    env = Corridors()
    for corridor in range(6):
        env.reset(seed=0)
        results = [env.step(action) for action in way(corridor)]
        found = corridor == goal_of(env)
        assert [r[1:3] for r in results] == [(0.0, False)] * 26 + [(1.0, True) if found else (0.0, False)]
        info = results[-1][4]
        assert (info["corridor"], info["visited"], info["success"]) == (corridor, 26, found)
        assert info["cell"] == (HUB - 25 + abs(1 + 2 * corridor - MIDDLE)) * WIDTH + 1 + 2 * corridor
        assert results[0][4]["corridor"] == -1  # still in the hub


def test_they_are_dead_ends():
    env = Corridors()
    env.reset(seed=0)
    corridor = (goal_of(env) + 1) % 6
    for action in way(corridor):
        info = env.step(action)[4]
    assert env.step(FORWARD)[4]["cell"] == info["cell"]


def test_the_clock_leaves_five_steps_more_than_the_length():
    env = Corridors()
    env.reset(seed=0)
    assert [env.step(DONE)[3] for _ in range(30)] == [False] * 29 + [True]
    assert Corridors(length=12).time_limit == 17
    assert Corridors(length=12, max_steps=40).time_limit == 40


def test_an_episode_permits_one_corridor():
    env = Corridors()
    env.reset(seed=0)
    for action in way((goal_of(env) + 1) % 6):
        env.step(action)
    back = 2 + 20 + 2  # turn round, out of the shorter corridors, and a turn into another one's mouth on either side
    assert shortest_paths(env).steps[0] > back > env.time_limit - 27


def test_no_path_visits_more_cells_than_a_corridor_has():
    envs = CorridorsVector(num_envs=3**9, corridors=3, length=4)  # all sequences of 9 turns and moves
    envs.reset(seed=0)
    alive, most = np.ones(3**9, bool), np.zeros(3**9, int)
    for actions in np.array(list(itertools.product((TURN_LEFT, TURN_RIGHT, FORWARD), repeat=9))).T:
        _, _, terminated, truncated, info = envs.step(actions)
        most[alive] = info["visited"][alive]
        alive &= ~terminated
    assert truncated.any()
    assert most.max() == 4 + 1


def test_the_singleton_has_one_goal_and_none_any():
    def goals(seed, **kwargs):
        envs = CorridorsVector(num_envs=600, **kwargs)
        envs.reset(seed=seed)
        lanes, _, cols = np.nonzero(envs.get_state()["grid"] == GREEN_GOAL)
        assert lanes.tolist() == list(range(600))
        return cols // 2

    for layout_seed in range(20):
        envs = CorridorsVector(num_envs=50, layout_seed=layout_seed)
        envs.reset(seed=layout_seed)
        assert len(np.unique(envs.get_state()["grid"], axis=0)) == 1
    assert len({int(goals(0, layout_seed=layout_seed)[0]) for layout_seed in range(20)}) > 3
    assert len(np.unique(goals(0, num_contexts=2, layout_seed=1))) <= 2
    assert stats.chisquare(np.bincount(goals(0, num_contexts=None), minlength=6)).pvalue > 1e-3


def test_odd_numbers_of_corridors_end_as_far():
    env = Corridors(corridors=3, length=4, num_contexts=None)
    seen = {}
    for seed in range(20):
        env.reset(seed=seed)
        seen[goal_of(env)] = len(env.shortest_path())
    assert seen == {0: 6, 1: 6, 2: 6}


def test_a_drawing_of_the_comb():
    env = Corridors(corridors=3, length=4, render_mode="ansi")
    env.reset(seed=0)
    rows = env.render().replace("G", " ").split("\n")
    assert rows == ["#######", "### ###", "### ###", "# # # #", "# # # #", "#  v  #", "#######"]


def test_the_optimal_return():
    assert Corridors().optimal_return == 1.0
    assert Corridors(max_steps=27).optimal_return == 1.0
    assert Corridors(max_steps=26).optimal_return == 0.0
    env = Corridors()
    env.reset(seed=0)
    assert env.shortest_path() == way(goal_of(env))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(corridors=1), r"corridors must be an integer in \[2, 100\], got 1"),
        (dict(length=6), r"length must be an integer in \[7, 250\], got 6"),
        (dict(max_steps=0), "max_steps must be an integer in .*, got 0"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Corridors(**kwargs)
