"""The environment for one agent: trials and rewards, what is observed, the registered sizes, exact and planned ways."""

import gymnasium as gym
import numpy as np
import pytest
from worlds import BLUE_BALL, GREEN_BALL, RED_BALL, RED_SQUARE, draw, goal, show

import explore_gym  # noqa: F401  registers the ids
from explore_gym.envs.engine.kernels import Record
from explore_gym.envs.xland.drawing import goal_lines, rule_lines
from explore_gym.envs.xland.logic import AT, HOLD, NEAR, NOTHING, SELF
from explore_gym.envs.xland.planner import plan
from explore_gym.envs.xland.world import BALL, FORWARD, PICK_UP, PUT_DOWN, RED, TOGGLE, TURN_LEFT, TURN_RIGHT
from explore_gym.envs.xland.xland import XLand, floor_cells

ME = SELF
TRIALS = dict(
    rooms=4, size=13, rules="high", tasks="train", trials=3, trial_steps=40, goal_visible=True, rules_visible=True
)  # as in the contract's settings, so that it is compiled only once


@pytest.fixture(scope="module")
def trials():
    env = XLand(**TRIALS)
    env.reset(seed=0)
    return env


def test_reward_once(one):
    draw(one, ["#>   r#"], goals=[goal((HOLD, 0, ME, RED_BALL))], solved=0, visits=0, visited=0)
    results = [one.step(action) for action in (FORWARD, FORWARD, FORWARD, PICK_UP)]
    assert [result[1:4] for result in results[:3]] == [(0.0, False, False)] * 3
    assert results[3][1:4] == (pytest.approx(1.0 - 0.9 * 4 / 243), True, False)  # of 3 * 9 * 9 steps
    info = results[3][4]
    assert (info["success"], info["solved"], info["trial_end"], info["visited"]) == (True, 1, True, 3)
    assert info["options"].tolist() == [results[3][1], 0.0, 0.0]
    assert info["coverage"] == pytest.approx(3 / 49)


def test_reward_while_the_goal_holds():
    env = XLand(reward="hold", trial_steps=8)
    env.reset(seed=0)
    draw(env, ["#>r  #"], goals=[[[(HOLD, 0, ME, RED_BALL)], [(AT, 0, ME, 0 << 8 | 3)]]])
    actions = [PICK_UP, TURN_LEFT, TURN_RIGHT, PUT_DOWN, TURN_LEFT, TURN_LEFT, TURN_LEFT, TURN_LEFT]
    results = [env.step(action) for action in actions]
    assert [result[1] for result in results] == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert [result[2] for result in results] == [False] * 8
    assert [result[3] for result in results] == [False] * 7 + [True]
    assert results[0][4]["options"].tolist() == [1.0, 0.0, 0.0]


def test_the_clock_truncates_a_single_trial():
    env = XLand(trial_steps=5)
    env.reset(seed=0)
    assert [env.step(TURN_LEFT)[2:4] for _ in range(5)] == [(False, False)] * 4 + [(False, True)]


def test_trials_are_of_one_task_in_new_places(trials):
    """A trial ends at the goal or after trial_steps; the task ends with the third trial, which terminates."""
    obs, start = trials.reset(seed=1)
    first = trials.get_state()
    assert obs["clock"].tolist() == [0.0, 0.0]
    ends, places = [], [first["grid"]]
    for step in range(1, 121):
        obs, reward, terminated, truncated, info = trials.step(TURN_LEFT)
        assert (reward, truncated, info["task"]) == (0.0, False, start["task"])
        if info["trial_end"]:
            ends.append(step)
            places.append(trials.get_state()["grid"])
        if step < 120:
            assert obs["clock"] == pytest.approx([len(ends) / 3, (step % 40) / 40])
            assert not terminated
    assert terminated and ends == [40, 80, 120] and info["solved"] == 0
    second = trials.get_state()
    assert np.array_equal(second["rules"], first["rules"]) and np.array_equal(second["goals"], first["goals"])
    assert not np.array_equal(places[0], places[1])
    assert np.array_equal(places[0] & 15 == 4, places[1] & 15 == 4)  # walls


def test_a_goal_begins_the_next_trial_at_once(trials):
    trials.reset(seed=2)
    draw(trials, ["#>   r#"], goals=[goal((HOLD, 0, ME, RED_BALL))], task=5)
    results = [trials.step(action) for action in (FORWARD, FORWARD, FORWARD, PICK_UP, TURN_LEFT)]
    obs, reward, terminated, truncated, info = results[3]
    assert reward == pytest.approx(1.0 - 0.9 * 4 / 40)
    assert (terminated, truncated) == (False, False)
    assert (info["success"], info["trial"], info["trial_end"], info["solved"]) == (True, 1, True, 1)
    assert (obs["pocket"].tolist(), obs["clock"].tolist()) == ([0, 0], [pytest.approx(1 / 3), 0.0])
    info = results[4][4]
    assert (info["success"], info["trial"], info["trial_end"], info["solved"]) == (False, 1, False, 1)
    trials.set_state(trial=2)
    assert all(not trials.step(TURN_LEFT)[2] for _ in range(38))
    assert trials.step(TURN_LEFT)[2:4] == (True, False)  # 40 steps after the second trial's start


def test_goals_and_rules_are_observed_as_they_are(trials):
    trials.reset(seed=0)
    obs = draw(
        trials,
        ["#>   #"],
        goals=[[[(HOLD, 0, ME, RED_BALL), (NEAR, 1, RED_BALL, BLUE_BALL)], [(AT, 0, ME, 3 << 8 | 7)]]],
        rules=[(HOLD, ME, RED_BALL, GREEN_BALL), (NEAR, RED_BALL, BLUE_BALL, NOTHING)],
    )
    assert obs["goal"][0].tolist() == [[1, 0, 13, 0, 5, 3], [3, 1, 5, 3, 5, 5], [0] * 6]
    assert obs["goal"][1].tolist() == [[9, 0, 13, 0, 3, 7], [0] * 6, [0] * 6]
    assert not obs["goal"][2].any()
    assert obs["rules"][:2].tolist() == [[1, 13, 0, 5, 3, 5, 4], [3, 5, 3, 5, 5, 3, 9]]
    assert not obs["rules"][2:].any()
    state = Record(trials.get_state()[()])
    assert goal_lines(state) == ["me hold red ball and not red ball near blue ball", "me at (3, 7)"]
    assert rule_lines(state) == ["agent hold red ball -> green ball", "red ball near blue ball -> nothing"]


@pytest.mark.parametrize(("rooms", "size"), [(1, 9), (2, 9), (4, 9), (4, 13), (6, 13), (9, 16)])
def test_layouts(rooms, size):
    """The number of floors, and that all of them are connected by doors."""
    from explore_gym.envs.engine.kernels import Record, rebuild
    from explore_gym.envs.xland.world import build

    env = XLand(rooms=rooms, size=size)
    state = np.zeros(1, env.state_dtype)[0]
    with np.errstate(over="ignore"):
        rebuild(build, lambda original, copied: copied, {})(Record(env.params[0]), Record(state))
    kinds = state["grid"] & 15
    doors = {1: 0, 2: 1, 4: 4, 6: 6, 9: 12}[rooms]
    assert ((kinds == 3).sum(), (kinds == 11).sum()) == (floor_cells(size, rooms), doors)
    assert state["walkable"] == floor_cells(size, rooms) + doors
    reached, cells = set(), [tuple(np.argwhere(kinds == 3)[0].tolist())]
    while cells:
        row, col = cells.pop()
        if (row, col) not in reached and kinds[row, col] != 4:
            reached.add((row, col))
            cells += [(row + 1, col), (row - 1, col), (row, col + 1), (row, col - 1)]
    assert len(reached) == state["walkable"]


def test_the_sizes_of_xland_minigrid_are_registered():
    for rooms, sizes in {1: (9, 13, 17), 2: (9, 13, 17), 4: (9, 13, 17), 6: (13, 17, 19), 9: (16, 19, 25)}.items():
        for size in sizes:
            env = gym.make(f"Explore/XLand-R{rooms}-{size}x{size}-v0").unwrapped
            assert (env.params["rooms"][0], env.state_dtype["grid"].shape) == (rooms, (size, size))
            assert env.time_limit == 3 * size * size


def test_the_shortest_path_is_the_shortest(one):
    """To the blue ball: turn right, one step, pick it up; turn left, two steps, and put it down below the red one."""
    rows = ["#######", "#>  r #", "#     #", "#b    #", "#######"]
    draw(one, rows, goals=[goal((NEAR, 0, RED_BALL, BLUE_BALL))])
    path = one.shortest_path()
    assert path == [TURN_RIGHT, FORWARD, PICK_UP, TURN_LEFT, FORWARD, FORWARD, PUT_DOWN]
    replay(one, path)


def test_there_may_be_no_way(one):
    draw(one, ["#######", "#> #r #", "#######"], goals=[goal((HOLD, 0, ME, RED_BALL))])
    assert one.shortest_path() is None
    assert plan(one) is None


def test_a_chain_of_production_is_planned_and_searched(one):
    """The green ball has to be made: pick up the red one, which turns blue; bring that to the square, which turns it green."""
    rows = ["#######", "#>   r#", "#     #", "# s   #", "#######"]
    rules = [(HOLD, ME, RED_BALL, BLUE_BALL), (NEAR, RED_SQUARE, BLUE_BALL, GREEN_BALL)]
    nodes = len(one.get_state()["node_tile"])
    tile, rule, child = np.zeros(nodes, int), np.full(nodes, -1), np.full(nodes, -1)
    tile[:4] = [1, 7, 2, 0]  # green ball, of red square and blue ball, the latter of a red ball: 7 * shape + colour
    rule[0], child[0], rule[2], child[2] = 1, 1, 0, 3
    goal_nodes = np.full((1, 3, 3, 2), -1)
    goal_nodes[0, 0, 0, 1] = 0
    draw(
        one, rows, goals=[goal((HOLD, 0, ME, GREEN_BALL))], rules=rules, num_nodes=4, node_tile=tile, node_rule=rule,
        node_child=child, goal_nodes=goal_nodes,
    )  # fmt: skip
    shortest, planned = one.shortest_path(), plan(one)
    assert 8 <= len(shortest) <= len(planned) <= 2 * len(shortest)
    before = one.get_state()
    replay(one, shortest)
    one.set_state(before)
    replay(one, planned)
    one.set_state(before)
    for action in planned[:4]:
        one.step(action)
    assert show(one, 5, 7)[1] == "#   > #"
    assert one.get_state()["pocket"].tolist() == [BALL | (RED + 2) << 4]  # it has turned blue


def replay(env, actions):
    """The actions lead to the goal, and none of them but the last does."""
    results = [env.step(action) for action in actions]
    assert [result[2] for result in results] == [False] * (len(actions) - 1) + [True]
    assert results[-1][1] > 0.0 and results[-1][4]["success"]


def test_small_tasks_are_solvable_and_plans_are_upper_bounds(one):
    """Of 30 small tasks the planner solves nearly all; where the search is small, it finds the way that is at most as long."""
    env = XLand(rules="small")
    solved = compared = 0
    for seed in range(30):
        env.reset(seed=seed)
        actions = plan(env)
        if actions is None:
            continue
        solved += 1
        if len(actions) <= 12:
            shortest = env.shortest_path()
            assert len(shortest) <= len(actions)
            compared += 1
            replay(env, shortest)
            env.reset(seed=seed)
        replay(env, actions)
    assert solved >= 28 and compared >= 5


def test_plans_of_a_trial_within_several(trials):
    for seed in range(3):
        trials.reset(seed=seed)
        actions = plan(trials)
        assert actions is None or len(actions) > 0
        assert trials.get_state()["trial"] == 0  # planning changes nothing
    draw(trials, ["#>   r#"], goals=[goal((HOLD, 0, ME, RED_BALL))])
    assert trials.shortest_path() == [FORWARD, FORWARD, FORWARD, PICK_UP]


def test_doors_are_opened_on_the_way(one):
    rows = ["#######", "#> + r#", "#######"]
    draw(one, rows, goals=[goal((HOLD, 0, ME, RED_BALL))])
    assert one.shortest_path() == plan(one) == [FORWARD, TOGGLE, FORWARD, FORWARD, PICK_UP]


def test_a_drawing(one):
    env = XLand(render_mode="ansi")
    env.reset(seed=0)
    draw(env, ["#########", "#>  r+ G#", "#########"], goals=[goal((HOLD, 0, ME, RED_BALL))])
    lines = env.render().split("\n")
    assert lines[1].startswith("#>  o+ G#")
    assert lines[0].startswith("#########goal: me ho")
    picture = XLand(render_mode="rgb_array")
    picture.reset(seed=0)
    assert picture.render().shape[2] == 3
