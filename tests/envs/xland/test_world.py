"""What agents do to the world, one at a time and at once, and what they see."""

import numpy as np
import pytest
from worlds import BLUE_KEY, RED_BALL, RED_FLOOR, draw, show

from explore_gym.envs.engine import vectorize
from explore_gym.envs.xland import game_class
from explore_gym.envs.xland.world import (
    BLACK,
    BLUE,
    CLOSED,
    FLOOR,
    FORWARD,
    GREY,
    PICK_UP,
    PUT_DOWN,
    RED,
    TOGGLE,
    TURN_LEFT,
    TURN_RIGHT,
    UNSEEN,
    WALL,
    tile,
)


def after(env, rows, *actions, **kwargs):
    """The world after some actions."""
    draw(env, rows, **kwargs)
    for action in actions:
        env.step(action)
    return show(env, len(rows), len(rows[0]))


def test_moves_turns_and_walls(one):
    rows = ["####", "#> #", "#  #", "####"]
    assert after(one, rows, FORWARD) == ["####", "# >#", "#  #", "####"]
    assert after(one, rows, FORWARD, FORWARD, TURN_RIGHT, FORWARD) == ["####", "#  #", "# v#", "####"]
    assert after(one, rows, TURN_LEFT, FORWARD) == ["####", "#^ #", "#  #", "####"]


def test_goal_tiles_floors_and_open_doors_can_be_walked_on_and_things_cannot(one):
    assert after(one, ["#>G,_ #"], FORWARD, FORWARD, FORWARD, FORWARD) == ["# G,_>#"]
    for thing in "rspk+L":
        assert after(one, [f"#>{thing} #"], FORWARD) == [f"#>{thing} #"]


def test_things_are_carried_one_at_a_time(one):
    assert after(one, ["#>rb #"], PICK_UP) == ["#> b #"]
    assert one.get_state()["pocket"].tolist() == [RED_BALL]
    assert after(one, ["#>rb #"], PICK_UP, FORWARD, PICK_UP) == ["# >b #"]
    assert after(one, ["#>rb #"], PICK_UP, PUT_DOWN) == ["#>rb #"]
    assert after(one, ["#>G  #"], PICK_UP) == ["#>G  #"]
    assert after(one, ["#>b  #"], PUT_DOWN, pockets=[RED_BALL]) == ["#>b  #"]
    assert after(one, ["#>G  #"], PUT_DOWN, pockets=[RED_BALL]) == ["#>G  #"]


def test_the_floor_beneath_a_thing_stays(one):
    draw(one, ["#>,  #"], pockets=[RED_BALL])
    one.step(PUT_DOWN)
    assert one.get_state()["grid"][0, 2] == RED_BALL | RED << 8
    one.step(PICK_UP)
    assert one.get_state()["grid"][0, 2] == RED_FLOOR | RED << 8


def test_doors(one):
    assert after(one, ["#>+  #"], TOGGLE, FORWARD, FORWARD) == ["# _> #"]
    assert after(one, ["#>_  #"], TOGGLE, FORWARD) == ["#>+  #"]
    assert after(one, ["#>L  #"], TOGGLE) == ["#>L  #"]
    assert after(one, ["#>L  #"], TOGGLE, pockets=[RED_BALL]) == ["#>L  #"]
    draw(one, ["#>L  #"], pockets=[BLUE_KEY])
    one.step(TOGGLE)
    assert int(one.get_state()["grid"][0, 2]) & 255 == 12 | BLUE << 4  # an open door, blue as before


def test_the_view_looks_ahead(one):
    obs = draw(one, ["#######", "#r    #", "#  b  #", "#  ^  #", "#     #", "#######"])
    kinds = obs["image"][..., 0]
    # two rows ahead from (3, 3) lie row 1 and beyond it the wall and, twice, the end of the map
    assert kinds.tolist() == [[1] * 5, [4] * 5, [5, 3, 3, 3, 3], [3, 3, 5, 3, 3], [3] * 5]
    assert obs["image"][3, 2].tolist() == [5, BLUE]
    assert (obs["direction"], obs["pocket"].tolist()) == (0, [0, 0])
    one.set_state(direction=1, pocket=RED_BALL)
    obs = one.set_state(stale=True)
    # to the right: column 3 is the near row, row 3 its middle; the thing at (2, 3) is to the left
    assert obs["image"][4, :, 0].tolist() == [3, 5, 3, 3, 4]
    assert obs["image"][1, :, 0].tolist() == [4] * 5
    assert (obs["direction"], obs["pocket"].tolist()) == (1, [5, RED])


def test_walls_and_closed_doors_hide_what_is_behind_unless_one_sees_through():
    from explore_gym.envs.xland.xland import XLand

    rows = ["#######", "#  r  #", "###+###", "#  ^  #", "#     #", "#######"]
    env = XLand(see_through_walls=False)
    env.reset(seed=0)
    kinds = draw(env, rows)["image"][..., 0]
    assert kinds[2:].tolist() == [[UNSEEN] * 5, [WALL, WALL, CLOSED, WALL, WALL], [FLOOR] * 5]
    obs = env.step(TOGGLE)[0]
    assert obs["image"][2, :, 0].tolist() == [FLOOR, FLOOR, 5, FLOOR, FLOOR]


def test_agents_do_not_enter_each_others_cells(two):
    assert after(two, ["#>< #"], [FORWARD, FORWARD]) == ["#>< #"]
    assert after(two, ["#>> #"], [FORWARD, FORWARD]) == ["#> >#"]  # not even one that is being left
    assert after(two, ["#>> #"], [FORWARD, FORWARD], [FORWARD, TURN_LEFT]) == ["# >^#"]


def test_where_two_want_one_cell_nobody_gets_it(two):
    assert after(two, ["#> < #"], [FORWARD, FORWARD]) == ["#> < #"]
    assert after(two, ["#> < #"], [FORWARD, TURN_LEFT]) == ["# >v #"]
    assert after(two, ["#>r< #"], [PICK_UP, PICK_UP]) == ["#>r< #"]
    assert after(two, ["#>r< #"], [PICK_UP, FORWARD]) == ["#> < #"]  # to walk into a thing has no effect
    assert after(two, ["#> < #"], [PUT_DOWN, FORWARD], pockets=[RED_BALL, 0]) == ["#> < #"]
    assert after(two, ["#> < #"], [PUT_DOWN, PUT_DOWN], pockets=[RED_BALL, RED_BALL]) == ["#> < #"]
    assert after(two, ["#>_< #"], [TOGGLE, FORWARD]) == ["#>_< #"]
    assert after(two, ["#>+< #"], [TOGGLE, TOGGLE]) == ["#>+< #"]
    assert after(two, ["#>+< #"], [TOGGLE, FORWARD]) == ["#>_< #"]


def test_nothing_is_put_on_agents_or_taken_from_under_them(two):
    assert after(two, ["#><  #"], [PUT_DOWN, TURN_LEFT], pockets=[RED_BALL, 0]) == ["#>v  #"]
    draw(two, ["#>_< #"])
    two.step([TURN_LEFT, FORWARD])  # the second stands in the door, which the first can't close then
    two.step([TURN_RIGHT, TURN_LEFT])
    two.step([TOGGLE, TURN_LEFT])
    assert int(two.get_state()["grid"][0, 2]) & 15 == 12


def test_agents_see_each_other(two):
    obs = draw(two, ["#####", "#   #", "# < #", "#   #", "# ^ #", "#####"])
    # agent 0 looks left from (2, 2), agent 1 looks up from (4, 2)
    assert obs["image"][1, 2, 2].tolist() == [13 + 3, RED]  # two cells ahead, looking to the left
    assert obs["image"][0, 4, 0].tolist() == [13 + 1, BLUE]  # two cells to the left, looking to the right
    two.set_state(direction=[2, 0])
    obs = two.set_state(stale=True)
    assert obs["image"][0, 2, 2].tolist() == [13 + 2, BLUE]  # both look at each other
    assert obs["image"][1, 2, 2].tolist() == [13 + 2, RED]
    assert obs["image"][0, 4, 2].tolist() == [FLOOR, BLACK]  # one's own cell shows what one stands on


@pytest.mark.parametrize("name", ["Games", "KeepAway"])
def test_random_play_keeps_agents_apart_and_things_whole(name):
    """No two agents in one cell, none in a wall or a thing, and the grid says where they are; things only move."""
    envs = vectorize(game_class(name))(num_envs=128, trial_steps=300, autoreset_mode="Disabled")
    envs.reset(seed=0)
    envs.set_state(num_rules=0)
    agents, cells_each_row = envs.env.num_agents, 9
    rng = np.random.default_rng(0)
    before = things(envs.get_state())
    for _ in range(250):
        envs.step(rng.choice(6, p=[0.4, 0.1, 0.1, 0.2, 0.1, 0.1], size=(128, agents)))
        state = envs.get_state()
        cells = state["row"] * cells_each_row + state["col"]
        assert all(len(set(lane)) == agents for lane in cells.tolist())
        codes = np.take_along_axis(state["grid"].reshape(128, -1), cells, 1)
        assert np.isin(codes & 15, (FLOOR, 8, 12)).all()
        assert np.array_equal((codes >> 12 & 7) - 1, np.tile(np.arange(agents), (128, 1)))
        assert ((state["grid"] >> 12 & 7) > 0).sum() == 128 * agents
        assert things(state) == before
    assert state["visited"].min() > 4
    assert (state["pocket"] > 0).any()


def things(state):
    """The sorted codes of what lies in each lane's world or is carried."""
    tiles = np.concatenate([state["grid"].reshape(len(state), -1) & 255, state["pocket"]], 1)
    return [sorted(code for code in lane if code & 15 in (5, 6, 7, 8, 9)) for lane in tiles.tolist()]


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("Games", {}),
        ("HideAndSeek", {"agents": 4, "seekers": 2}),
        ("Tag", {"agents": 4, "chasers": 2}),
        ("CaptureTheFlag", {"agents": 4}),
        ("KeepAway", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_step_knows_no_order_of_the_agents(name, kwargs):
    """With numbers, colours and goals exchanged, everything that follows is exchanged, and nothing else is different."""
    envs = vectorize(game_class(name))(num_envs=200, trial_steps=1000, autoreset_mode="Disabled", **kwargs)
    agents = envs.env.num_agents
    envs.reset(seed=0)
    order = np.roll(np.arange(agents), 1)  # agent i of the other batch is agent order[i] of this one
    other = envs.fork(np.arange(200))
    other.set_state(exchanged(envs.get_state(), order))
    rng = np.random.default_rng(1)
    fields = ("row", "col", "direction", "pocket", "team", "truth", "success", "rewards", "visited", "image")
    changes, truth = 0, envs.get_state()["truth"]
    for _ in range(200):
        actions = rng.choice(6, p=[0.4, 0.1, 0.1, 0.2, 0.15, 0.05], size=(200, agents))
        rewards, same = envs.step(actions)[1], other.step(actions[:, order])[1]
        one, two = envs.get_state(), other.get_state()
        assert rewards == pytest.approx(same)
        assert np.array_equal(exchanged(one, order)["grid"], two["grid"])
        for field in fields:
            assert np.array_equal(one[field][:, order], two[field]), field
        changes += (one["truth"] != truth).sum()
        truth = one["truth"]
    assert changes > 200


def exchanged(state, order):
    """The records with agent order[i] in the place of agent i."""
    state = state.copy()
    for name in ("row", "col", "direction", "pocket", "team", "goals", "goal_nodes", "truth", "options", "success",
                 "reached", "option_rewards", "rewards", "image", "action", "target", "visited"):  # fmt: skip
        state[name] = state[name][:, order]
    number = np.zeros(8, np.uint16)
    number[1 + order] = 1 + np.arange(len(order))
    state["grid"] = (state["grid"] & ~np.uint16(7 << 12)) | number[state["grid"] >> 12 & 7] << 12
    bits = [(state["visits"] >> agent & 1) << i for i, agent in enumerate(order)]
    state["visits"] = np.bitwise_or.reduce(bits)
    return state


def test_tiles_have_the_numbers_of_xland_minigrids_first_versions():
    assert (FLOOR, WALL, CLOSED, RED, GREY, BLACK) == (3, 4, 11, 3, 8, 9)
    assert tuple(range(6)) == (FORWARD, TURN_RIGHT, TURN_LEFT, PICK_UP, PUT_DOWN, TOGGLE)
    assert tile(5, RED) == RED_BALL
