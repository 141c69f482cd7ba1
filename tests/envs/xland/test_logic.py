"""Each kind of rule and of condition, in worlds of a few cells."""

import numpy as np
import pytest
from worlds import BLUE_BALL, GREEN_BALL, GREEN_GOAL, RED_BALL, RED_FLOOR, RED_SQUARE, draw, goal, show

from explore_gym.envs.xland.logic import (
    ABOVE,
    AT,
    BELOW,
    HOLD,
    LEFT_OF,
    NEAR,
    NOTHING,
    ON,
    RIGHT_OF,
    SEE,
    SELF,
    team,
)
from explore_gym.envs.xland.world import BLUE, EMPTY, FORWARD, PICK_UP, PUT_DOWN, RED, TOGGLE, TURN_LEFT, TURN_RIGHT

ME, RED_TEAM, BLUE_TEAM = SELF, team(RED), team(BLUE)
SIDES = {"above": ABOVE, "right": RIGHT_OF, "below": BELOW, "left": LEFT_OF}


def after(env, rows, *actions, **kwargs):
    """The world after some actions."""
    draw(env, rows, **kwargs)
    for action in actions:
        env.step(action)
    return show(env, len(rows), len(rows[0]))


def holds(env, rows, kind, a, b, agent=0, negated=0, **kwargs):
    """Whether a condition of an agent's goal holds at once."""
    count = len(env.get_state()["row"])
    draw(env, rows, goals=[goal((kind, negated, a, b)) if i == agent else [] for i in range(count)], **kwargs)
    return bool(env.get_state()["truth"][agent, 0, 0])


def test_hold_rule_turns_what_is_picked_up(one):
    assert after(one, ["#>r  #"], PICK_UP, rules=[(HOLD, ME, RED_BALL, BLUE_BALL)]) == ["#>   #"]
    assert one.get_state()["pocket"].tolist() == [BLUE_BALL]
    assert after(one, ["#>r  #"], PICK_UP, PUT_DOWN, rules=[(HOLD, ME, RED_BALL, BLUE_BALL)]) == ["#>b  #"]
    assert after(one, ["#>g  #"], PICK_UP, PUT_DOWN, rules=[(HOLD, ME, RED_BALL, BLUE_BALL)]) == ["#>g  #"]


def test_hold_rule_without_a_product_empties_the_pocket(one):
    after(one, ["#>r  #"], PICK_UP, rules=[(HOLD, ME, RED_BALL, NOTHING)])
    assert one.get_state()["pocket"].tolist() == [EMPTY]


def test_a_pocket_can_hold_a_goal_tile_made_in_it(one):
    assert after(one, ["#>r  #"], PICK_UP, PUT_DOWN, PICK_UP, rules=[(HOLD, ME, RED_BALL, GREEN_GOAL)]) == ["#>G  #"]


def test_near_rule_turns_all_things_around_an_agent_that_arrives(one):
    rows = ["######", "#>  r#", "#  r #", "######"]
    assert after(one, rows, FORWARD, rules=[(NEAR, ME, RED_BALL, BLUE_BALL)])[1:3] == ["# > r#", "#  r #"]
    assert after(one, rows, FORWARD, FORWARD, rules=[(NEAR, ME, RED_BALL, BLUE_BALL)])[1:3] == ["#  >b#", "#  b #"]
    assert after(one, rows, FORWARD, FORWARD, rules=[(NEAR, ME, RED_BALL, NOTHING)])[1:3] == ["#  > #", "#    #"]


def test_near_rule_turns_a_thing_that_is_put_down_beside_the_agent(one):
    rules = [(NEAR, ME, RED_BALL, BLUE_BALL)]
    assert after(one, ["#>   #"], PUT_DOWN, pockets=[RED_BALL], rules=rules) == ["#>b  #"]


@pytest.mark.parametrize(
    ("kind", "row", "after_moves"),
    [
        (ABOVE, "#>    #", ["#  b  #", "#  >  #", "#  r  #"]),
        (BELOW, "#>    #", ["#  r  #", "#  >  #", "#  b  #"]),
        (RIGHT_OF, "#>  r #", ["#  r  #", "#  >b #", "#  r  #"]),
        (LEFT_OF, "# r  <#", ["#  r  #", "# b<  #", "#  r  #"]),
    ],
)
def test_near_rule_on_one_side_of_an_agent(one, kind, row, after_moves):
    rows = ["#######", "#  r  #", row, "#  r  #", "#######"]
    assert after(one, rows, FORWARD, FORWARD, rules=[(kind, ME, RED_BALL, BLUE_BALL)])[1:4] == after_moves


def test_two_things_vanish_and_the_product_lies_where_the_first_was(one):
    rules = [(NEAR, RED_BALL, BLUE_BALL, GREEN_BALL)]
    assert after(one, ["#> b #"], PUT_DOWN, pockets=[RED_BALL], rules=rules) == ["#> g #"]
    assert after(one, ["#> r #"], PUT_DOWN, pockets=[BLUE_BALL], rules=rules) == ["#> g #"]
    assert after(one, ["#>  b#"], PUT_DOWN, pockets=[RED_BALL], rules=rules) == ["#>r b#"]
    assert after(one, ["#> b #"], PUT_DOWN, pockets=[RED_BALL], rules=[(NEAR, RED_BALL, BLUE_BALL, NOTHING)]) == ["#>   #"]
    rows = ["######", "# b  #", "#>   #", "######"]
    assert after(one, rows, PUT_DOWN, pockets=[RED_BALL], rules=rules)[1:3] == ["# g  #", "#>   #"]


@pytest.mark.parametrize(
    ("kind", "fires", "stays"),
    [
        (RIGHT_OF, ["#####", "#> b#", "#####"], ["#####", "#b <#", "#####"]),
        (LEFT_OF, ["#####", "#b <#", "#####"], ["#####", "#> b#", "#####"]),
        (ABOVE, ["#b  #", "# < #", "#   #"], ["#   #", "# < #", "#b  #"]),
        (BELOW, ["#   #", "# < #", "#b  #"], ["#b  #", "# < #", "#   #"]),
    ],
)
def test_two_things_on_one_side_of_each_other(one, kind, fires, stays):
    """The agent puts the red ball beside the blue one, which lies on the side that the rule says or on the opposite one."""
    rules = [(kind, RED_BALL, BLUE_BALL, GREEN_BALL)]
    assert "g" in "".join(after(one, fires, PUT_DOWN, pockets=[RED_BALL], rules=rules))
    assert "g" not in "".join(after(one, stays, PUT_DOWN, pockets=[RED_BALL], rules=rules))
    reverse = [(kind, BLUE_BALL, RED_BALL, GREEN_BALL)]  # the thing put down is the one that has to be on that side
    assert "g" in "".join(after(one, stays, PUT_DOWN, pockets=[RED_BALL], rules=reverse))
    assert "g" not in "".join(after(one, fires, PUT_DOWN, pockets=[RED_BALL], rules=reverse))


def test_one_production_sets_off_the_next(one):
    chain = [(NEAR, GREEN_BALL, RED_SQUARE, BLUE_BALL), (HOLD, ME, RED_BALL, BLUE_BALL), (HOLD, ME, BLUE_BALL, GREEN_BALL)]
    assert after(one, ["#>r s#"], PICK_UP, rules=chain) == ["#>  s#"]
    assert one.get_state()["pocket"].tolist() == [GREEN_BALL]
    one.step(FORWARD)
    one.step(PUT_DOWN)
    assert show(one, 1, 6) == ["# > b#"]  # green beside the square: a blue ball in its place


def test_rules_that_undo_each_other_come_to_an_end(one):
    there_and_back = [(HOLD, ME, RED_BALL, BLUE_BALL), (HOLD, ME, BLUE_BALL, RED_BALL)]
    after(one, ["#>r  #"], PICK_UP, rules=there_and_back)
    assert one.get_state()["pocket"].tolist() == [RED_BALL]  # after MAX_EVENTS = 16 turns


def test_nothing_happens_without_an_event(one):
    """Things that have always lain beside each other stay; to turn round or toggle is no event."""
    rules = [(NEAR, RED_BALL, BLUE_BALL, GREEN_BALL), (NEAR, ME, RED_SQUARE, BLUE_BALL)]
    assert after(one, ["#>s rb#"], TURN_LEFT, TOGGLE, FORWARD, rules=rules) == ["#^s rb#"]


def test_nothing_is_produced_under_an_agent(two):
    """Two agents beside a goal tile, one on it: it stays while somebody stands there."""
    rules = [(NEAR, ME, GREEN_GOAL, RED_BALL)]
    draw(two, ["#####", "# G<#", "#  ^#", "#####"])
    two.step([FORWARD, TURN_LEFT])
    state = two.get_state()
    assert (state["row"].tolist(), state["col"].tolist()) == ([1, 2], [2, 3])  # agent 0 stands on the goal tile
    two.set_state(rules=np.array([*rules, *[(0, 0, 0, 0)] * (len(state["rules"]) - 1)], np.uint8), num_rules=1)
    two.step([TURN_LEFT, FORWARD])  # agent 1 turned left in the last step, and arrives below the tile
    assert int(two.get_state()["grid"][1, 2]) & 255 == GREEN_GOAL


def test_rules_may_need_an_agent_of_a_team(two):
    rules = [(HOLD, BLUE_TEAM, RED_BALL, BLUE_BALL), (NEAR, RED_TEAM, RED_SQUARE, GREEN_BALL)]
    after(two, ["#>r  r<#"], [PICK_UP, PICK_UP], rules=rules)
    assert two.get_state()["pocket"].tolist() == [RED_BALL, BLUE_BALL]
    assert after(two, ["#> s s <#"], [FORWARD, FORWARD], rules=rules) == ["# >g s< #"]


def test_hold(one):
    assert holds(one, ["#>   #"], HOLD, ME, RED_BALL, pockets=[RED_BALL])
    assert not holds(one, ["#>   #"], HOLD, ME, RED_BALL, pockets=[BLUE_BALL])
    assert not holds(one, ["#>r  #"], HOLD, ME, RED_BALL)


def test_on_a_floor_or_a_goal_tile(one):
    for char, code in ((",", RED_FLOOR), ("G", GREEN_GOAL)):
        draw(one, [f"#>{char}  #"], goals=[goal((ON, 0, ME, code))])
        assert one.get_state()["success"].tolist() == [0]
        *_, info = one.step(FORWARD)
        assert info["success"] and info["truth"][0, 0] == 1


def test_a_thing_on_a_floor(one):
    draw(one, ["#>,  #"], goals=[goal((ON, 0, RED_BALL, RED_FLOOR))], pockets=[RED_BALL])
    assert not one.get_state()["success"].any()
    assert one.step(PUT_DOWN)[4]["success"]
    assert not holds(one, ["#>,r #"], ON, RED_BALL, RED_FLOOR)


def test_agent_near_a_thing_and_sides(one):
    rows = ["#####", "#   #", "# ^r#", "#   #", "#####"]
    assert holds(one, rows, NEAR, ME, RED_BALL)
    assert [holds(one, rows, kind, ME, RED_BALL) for kind in SIDES.values()] == [False, True, False, False]
    assert not holds(one, rows, NEAR, ME, BLUE_BALL)
    assert not holds(one, ["#####", "#  r#", "# ^ #", "#####"], NEAR, ME, RED_BALL)  # not across the corner
    assert not holds(one, rows, NEAR, ME, RED_BALL, negated=1)


@pytest.mark.parametrize(("kind", "row", "col"), [(ABOVE, 1, 2), (RIGHT_OF, 2, 3), (BELOW, 3, 2), (LEFT_OF, 2, 1)])
def test_things_near_each_other_and_sides(one, kind, row, col):
    lines = [list("#####"), list("#^  #"), list("# r #"), list("#   #"), list("#####")]
    lines[row][col] = "b"
    rows = ["".join(line) for line in lines]
    assert holds(one, rows, NEAR, RED_BALL, BLUE_BALL) and holds(one, rows, NEAR, BLUE_BALL, RED_BALL)
    assert [holds(one, rows, other, RED_BALL, BLUE_BALL) for other in SIDES.values()] == [k == kind for k in SIDES.values()]
    assert not holds(one, rows, NEAR, RED_BALL, GREEN_BALL)


def test_things_near_each_other_are_looked_at_when_things_change(one):
    draw(one, ["#>r b#"], goals=[goal((NEAR, 0, RED_BALL, BLUE_BALL))])
    assert [one.step(action)[4]["truth"][0, 0] for action in (PICK_UP, FORWARD, PUT_DOWN)] == [0, 0, 1]


def test_see(one):
    rows = ["#######", "#  r  #", "#     #", "#  ^  #", "#  b  #", "#######"]
    assert holds(one, rows, SEE, ME, RED_BALL)
    assert not holds(one, rows, SEE, ME, BLUE_BALL)  # behind
    assert one.observation_space["image"].shape == (5, 5, 2)


def test_positions(one):
    assert holds(one, ["#####", "#   #", "# ^ #"], AT, ME, 2 << 8 | 2)
    assert not holds(one, ["#####", "#   #", "# ^ #"], AT, ME, 1 << 8 | 2)
    assert holds(one, ["#####", "# r #", "# ^ #"], AT, RED_BALL, 1 << 8 | 2)
    assert not holds(one, ["#####", "# b #", "# ^ #"], AT, RED_BALL, 1 << 8 | 2)


def test_conditions_about_other_agents(two):
    rows = ["#####", "#   #", "#><r#", "#####"]
    assert holds(two, rows, NEAR, ME, BLUE_TEAM) and holds(two, rows, NEAR, ME, RED_TEAM, agent=1)
    assert holds(two, rows, RIGHT_OF, ME, BLUE_TEAM) and not holds(two, rows, LEFT_OF, ME, BLUE_TEAM)
    assert not holds(two, rows, NEAR, ME, RED_TEAM)  # nobody is near oneself
    assert holds(two, rows, NEAR, BLUE_TEAM, RED_BALL) and not holds(two, rows, NEAR, ME, RED_BALL)
    assert holds(two, rows, HOLD, BLUE_TEAM, RED_BALL, pockets=[0, RED_BALL])
    assert not holds(two, rows, HOLD, BLUE_TEAM, RED_BALL, pockets=[RED_BALL, 0])
    assert holds(two, rows, NEAR, ME, RED_BALL, pockets=[0, RED_BALL])  # in the pocket of the neighbour
    assert not holds(two, rows, NEAR, ME, GREEN_BALL, pockets=[GREEN_BALL, 0])  # but not in one's own


def test_agents_seen(two):
    away = ["#######", "#> >  #", "#######"]
    assert holds(two, away, SEE, ME, BLUE_TEAM)
    assert not holds(two, away, SEE, BLUE_TEAM, ME)
    assert holds(two, ["#######", "#> <  #", "#######"], SEE, BLUE_TEAM, ME)
    assert not holds(two, ["########", "#>    >#", "########"], SEE, ME, BLUE_TEAM)  # five cells away, out of view


def test_a_goal_is_an_or_of_ands(one):
    """Options: (holds red and not near blue) or (at (1, 3)); the truth of each condition and option is in the info."""
    options = [[(HOLD, 0, ME, RED_BALL), (NEAR, 1, ME, BLUE_BALL)], [(AT, 0, ME, 1 << 8 | 3)]]
    cases = {
        ("#> b  #", RED_BALL): ([1, 1], [0]),
        ("# >b  #", RED_BALL): ([1, 0], [0]),
        ("#   > #", EMPTY): ([0, 1], [0]),
        ("#b > b#", RED_BALL): ([1, 1], [1]),
        ("#  >  #", BLUE_BALL): ([0, 1], [1]),
    }
    for (row, pocket), (first, second) in cases.items():
        draw(one, ["#######", row], goals=[options], pockets=[pocket])
        state = one.get_state()
        assert state["truth"].tolist() == [[[*first, -1], [*second, -1, -1], [-1, -1, -1]]]
        assert state["options"].tolist() == [[all(first), all(second), 0]]
        assert state["success"].tolist() == [any([all(first), all(second)])]


def test_an_agent_without_a_goal_never_succeeds(one):
    draw(one, ["#>r  #"])
    assert one.get_state()["success"].tolist() == [0]
    assert not one.step(TURN_RIGHT)[4]["success"]
