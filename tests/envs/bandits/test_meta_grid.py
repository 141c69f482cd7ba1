from itertools import pairwise, permutations

import numpy as np
import pytest

from explore_gym.envs.bandits.meta_grid import LAYOUTS, MetaGrid, MetaGridVector, distances

RIGHT, DOWN, LEFT, UP = range(4)
SMALL = ("o.S", "#.o")  # the way to candidate 1 is right of a wall, as long as that to candidate 0


def test_moves_walls_and_the_observation():
    env = MetaGrid(layout=SMALL, recurrence=4)
    obs, info = env.reset(seed=0)
    assert obs["cell"] == 2
    assert obs["previous"].tolist() == [0, 0, 0, 0, 0, 1, 0]  # no action, no reward, an episode starts, no episode over
    env.set_state(goal=0)
    for action, cell in ((UP, 2), (RIGHT, 2), (LEFT, 1), (DOWN, 4), (LEFT, 4), (DOWN, 4)):  # left of 4 is a wall
        obs, reward, terminated, truncated, info = env.step(action)
        assert obs["cell"] == cell
        expected = np.zeros(7)
        expected[action] = 1
        assert obs["previous"].tolist() == expected.tolist()
        assert (reward, terminated, truncated, info["success"], info["episode_end"]) == (0.0, False, False, False, False)
    assert info["goal"] == 0


def test_the_goal_pays_ends_the_episode_and_stays_where_it_is():
    env = MetaGrid(layout=SMALL, recurrence=2)
    env.reset(seed=1)
    env.set_state(goal=1)
    obs, reward, terminated, _, info = env.step(DOWN)
    assert (reward, terminated, info["goal"]) == (1.0, False, 5)
    assert obs["cell"] == 2  # back at the start
    assert obs["previous"].tolist() == [0, 1, 0, 0, 1, 1, 0.5]
    assert (info["success"], info["successes"], info["episode"], info["regret"]) == (True, 1, 1, 0.0)
    assert (info["episode_end"], info["task_end"]) == (True, False)
    obs, reward, terminated, truncated, info = env.step(DOWN)
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert (info["successes"], info["episode"], info["task_end"], info["cumulative_regret"]) == (2, 2, True, 0.0)
    assert obs["previous"][6] == 1.0


def test_an_episode_without_success_ends_after_episode_steps_and_costs_one():
    env = MetaGrid(layout=SMALL, episode_steps=3, recurrence=2)
    env.reset(seed=2)
    ends, regrets, cells = [], [], []
    for _ in range(6):
        obs, _, terminated, _, info = env.step(LEFT if len(ends) % 3 == 0 else RIGHT)
        ends.append((info["episode_end"], terminated))
        regrets.append((info["regret"], info["cumulative_regret"]))
        cells.append(int(obs["cell"]))
    assert ends == [(False, False), (False, False), (True, False), (False, False), (False, False), (True, True)]
    assert regrets == [(0, 0), (0, 0), (1, 1), (0, 1), (0, 1), (1, 2)]
    assert cells == [1, 2, 2, 1, 2, 2]


def test_candidates_count_until_the_first_success_once_each_and_without_the_goal():
    env = MetaGrid(layout=("o.S", "o.o"), recurrence=3)
    env.reset(seed=3)
    env.set_state(goal=1)  # bottom left; the others are top left and bottom right
    counts = [env.step(action)[4]["candidates"] for action in (DOWN, UP, DOWN, LEFT, LEFT)]
    assert counts == [1, 1, 1, 1, 1]
    assert env.step(LEFT)[4]["candidates"] == 1  # from the start again
    assert env.step(LEFT)[4]["candidates"] == 1  # the other one, but the goal is known
    env.set_state(goal=2, visited=0, candidates=0, successes=0)
    assert env.step(RIGHT)[4]["candidates"] == 0
    assert env.step(LEFT)[4]["candidates"] == 1


def test_a_hole_ends_the_episode_without_reward():
    env = MetaGrid(layout=SMALL, traps=1)
    env.reset(seed=4)
    env.set_state(goal=0, holes=0b10)
    obs, reward, terminated, _, info = env.step(DOWN)
    assert (reward, terminated, info["episode_end"], info["success"], info["regret"]) == (0.0, False, True, False, 1.0)
    assert (obs["cell"], obs["previous"][5], info["candidates"]) == (2, 1.0, 1)


def test_goals_and_holes_are_drawn_alike_and_never_together():
    envs = MetaGridVector(num_envs=8000, traps=3)
    envs.reset(seed=5)
    state = envs.get_state()
    holes = (state["holes"][:, None] >> np.arange(8)) & 1
    assert (holes.sum(1) == 3).all()
    assert not holes[np.arange(8000), state["goal"]].any()
    spread = 4 * np.sqrt(8000 * 1 / 8 * 7 / 8)
    assert np.bincount(state["goal"], minlength=8) == pytest.approx(1000, abs=spread)
    assert holes.sum(0) == pytest.approx(3000, abs=4 * np.sqrt(8000 * 3 / 8 * 5 / 8))


def test_the_goal_stays_for_a_block_and_is_drawn_anew_for_the_next():
    envs = MetaGridVector(num_envs=400, recurrence=2, episode_steps=6, autoreset_mode="SameStep")
    _, info = envs.reset(seed=6)
    goals = [info["goal"]]
    for _ in range(12):
        _, _, terminated, _, info = envs.step(np.full(400, RIGHT))
        goals.append(info["goal"])
        if terminated.any():
            assert (info["final_info"]["goal"][terminated] == goals[0][terminated]).all()
            assert 0.05 < (info["goal"] == goals[0])[terminated].mean() < 0.25  # one in eight
            break
        assert (info["goal"] == goals[0]).all()
    assert terminated.any()


def test_geometric_blocks_end_after_each_episode_with_probability_one_over_recurrence():
    envs = MetaGridVector(num_envs=3000, layout=SMALL, recurrence=4, episode_steps=2, length="geometric")
    envs.reset(seed=7)
    envs.set_state(goal=0)
    obs, _, terminated, _, _ = envs.step(np.full(3000, UP))
    assert not terminated.any()
    obs, _, terminated, _, info = envs.step(np.full(3000, UP))
    assert info["episode_end"].all()
    assert terminated.mean() == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 3000))
    assert (obs["previous"][:, 6] == 0).all()  # no share of an unknown length


@pytest.mark.parametrize("traps", [0, 3])
def test_random_value_is_what_random_actions_earn(traps):
    envs = MetaGridVector(num_envs=6000, layout="rooms", traps=traps, recurrence=2)
    rng, total = np.random.default_rng(8), np.zeros(6000)
    envs.reset(seed=8)
    going_on = np.ones(6000, bool)
    for _ in range(40):
        _, reward, terminated, _, _ = envs.step(rng.integers(4, size=6000))
        total += reward * going_on
        going_on &= ~terminated
    assert not going_on.any()
    assert total.mean() == pytest.approx(
        MetaGrid(layout="rooms", traps=traps, recurrence=2).random_value(), abs=4 * total.std() / 6000**0.5
    )


def test_random_value_by_hand():
    # from S one step to the left, right, up or down: each of the four candidates with probability 1/4, one of them the goal
    assert MetaGrid(layout=(".o.", "oSo", ".o."), episode_steps=1, recurrence=8).random_value() == pytest.approx(2.0)
    # three steps among dead ends: at once, or into another dead end (3/4), out of it again (1/4) and there (1/4)
    expected = 1 / 4 + 3 / 4 * 1 / 4 * 1 / 4
    assert MetaGrid(layout=("#o#", "oSo", "#o#"), episode_steps=3, recurrence=1).random_value() == pytest.approx(expected)


@pytest.mark.parametrize(("layout", "most"), [("open", 6), ("rooms", 4), ("comb", 4)])
def test_tours_are_the_sets_that_a_shortest_order_visits_in_time(layout, most):
    env = MetaGrid(layout=layout)
    steps = [[distances(env.free, place)[tuple(other)] for other in env.places] for place in env.places]
    first = [distances(env.free, env.start)[tuple(place)] for place in env.places]
    tours = env.tours()
    rng = np.random.default_rng(9)
    for s in rng.choice(256, 25, replace=False).tolist():
        chosen = [i for i in range(8) if s >> i & 1]
        if not 0 < len(chosen) <= 6:
            continue
        shortest = min(first[order[0]] + sum(steps[i][j] for i, j in pairwise(order)) for order in permutations(chosen))
        assert tours[s] == (shortest <= 20)
    assert max(bin(s).count("1") for s in np.flatnonzero(tours)) == most


def test_search_value_by_hand():
    # two candidates, one per episode: found in the first with 1/2 (3 successes of 3), otherwise in the second (2)
    line = ("oSo",)
    assert MetaGrid(layout=line, episode_steps=1, recurrence=3).search_value() == pytest.approx(2.5)
    # three steps reach both
    assert MetaGrid(layout=line, episode_steps=3, recurrence=3).search_value() == pytest.approx(3.0)
    # comb in 12 steps: two of the eight in each of the first four episodes
    assert MetaGrid(layout="comb", episode_steps=12).search_value() == pytest.approx(2 * (10 + 9 + 8 + 7) / 8)
    # geometric, one per episode: 1/2 of 4 successes, otherwise with 3/4 the block goes on, and then it is known
    assert MetaGrid(layout=line, episode_steps=1, recurrence=4, length="geometric").search_value() == pytest.approx(3.5)
    assert MetaGrid(layout="comb", recurrence=7).optimal_value() == 7.0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_built_in_layouts_have_eight_candidates_within_reach(layout):
    env = MetaGrid(layout=layout, episode_steps=20)
    assert len(env.places) == 8
    assert max(distances(env.free, env.start)[tuple(place)] for place in env.places) <= 20


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(layout="maze"), "layout must be one of .* got 'maze'"),
        (dict(layout=("o.S", "o.")), "equally long rows"),
        (dict(layout=("o.S", "o.x")), "equally long rows"),
        (dict(layout=("o.o", "...")), "one start and 2 to 12 candidates, got 0 and 2"),
        (dict(layout=("S.o",)), "got 1 and 1"),
        (dict(layout=("S.o.o",)), r"candidate \[0, 4\] is out of reach"),
        (dict(layout="open", episode_steps=5), r"candidate \[0, 0\] is out of reach in episode_steps=5"),
        (dict(traps=8), r"traps must be an integer in \[0, 7\], one candidate is the goal, got 8"),
        (dict(recurrence=0), "recurrence must be an integer >= 1, got 0"),
        (dict(episode_steps=2.5), "episode_steps must be an integer >= 1, got 2.5"),
        (dict(recurrence=2**31), "at most 2\\*\\*31 - 1 steps"),
        (dict(length="long"), "length must be one of"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MetaGrid(**kwargs)


def test_pictures_show_goal_holes_and_agent():
    env = MetaGrid(layout=SMALL, traps=1, render_mode="ansi")
    env.reset(seed=10)
    env.set_state(goal=0, holes=0b10)
    assert env.render().splitlines()[:2] == ["$.@", "#.x"]
    env = MetaGrid(render_mode="rgb_array")
    env.reset(seed=10)
    assert env.render().shape == (640, 560, 3)
