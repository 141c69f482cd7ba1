"""Rules and goals of XLand: conditions on a world, in tables of small integers.

A condition is (kind, a, b). Its kinds: HOLD, agent a carries the thing b; ON, a stands or lies on the tile b (floor of a
colour, or goal); NEAR, b is one of the four neighbours of a; ABOVE, RIGHT_OF, BELOW and LEFT_OF, b is the neighbour on that
side of a; SEE, agent a sees b; AT, a is at the position b = row << 8 | col. `a` is an agent or, with ON, NEAR (and its sides)
and AT, a thing; `b` is a tile or, with NEAR and SEE, an agent. An agent is SELF, the one whose goal it is, or `team(color)`,
any of that colour; in a rule ANYONE or a team. What another agent carries is near whoever is near that agent.

A rule is (kind, a, b, product) with HOLD, NEAR or a side of it. HOLD: what is carried turns into the product. NEAR with an
agent as a: b turns into it. NEAR with two things: both vanish, and the product appears where the one lay that was there first.
A product FLOOR is none: things only vanish. A rule is looked at when something happens to its inputs: an agent arrives, a
thing is put down, picked up or produced; so one production can set off the next within a step. Nothing is produced in a cell
that an agent stands in.

A goal is the OR over up to MAX_OPTIONS options of the AND over up to MAX_PREDICATES conditions, each of which may be negated.
"""

import numpy as np

from explore_gym.envs.engine import kernel
from explore_gym.envs.xland.world import (
    AGENT,
    BLACK,
    EMPTY,
    FLOOR,
    MAX_OPTIONS,
    MAX_PREDICATES,
    cell_at,
    col_step,
    cover,
    look,
    push,
    row_step,
    sees,
    tile,
)

NONE, HOLD, ON, NEAR, ABOVE, RIGHT_OF, BELOW, LEFT_OF, SEE, AT = range(10)  # kinds of conditions
KIND_NAMES = ("none", "hold", "on", "near", "above", "right of", "below", "left of", "see", "at")
SELF = ANYONE = AGENT  # the code of an agent without a colour
NOTHING = FLOOR | BLACK << 4  # the product of a rule by which things vanish


@kernel
def team(color):
    """The code of any agent of a colour."""
    return tile(AGENT, color)


@kernel
def is_agent(code):
    return code & 15 == AGENT


@kernel
def matches(state, code, i, j):
    """Whether agent j is one that the code means in a goal of agent i."""
    return j == i if code == SELF else state.team[j] == code >> 4


@kernel
def side_fits(kind, d):
    """Whether a neighbour in direction d counts for NEAR or the side of it."""
    return kind == NEAR or kind == ABOVE + d


@kernel
def produce(state):
    """Apply the rules to what happened in this step, in the order of cells, so that agents' numbers play no part."""
    if state.num_rules > 0:
        for k in range(1, state.num_events):
            event, at = state.events[k], k
            while at > 0 and state.events[at - 1] > event:
                state.events[at] = state.events[at - 1]
                at -= 1
            state.events[at] = event
        cells = state.grid.shape[0] * state.grid.shape[1]
        k = 0
        while k < state.num_events:
            event = np.int64(state.events[k])
            if event >= cells:
                react_pocket(state, event - cells, event)
            else:
                react_cell(state, event)
            k += 1
    state.num_events = 0


@kernel
def acts_for(state, code, i):
    """Whether a rule's agent may be agent i."""
    return code == ANYONE or state.team[i] == code >> 4


@kernel
def react_pocket(state, i, event):
    """The first rule for what agent i carries."""
    if state.pocket[i] == EMPTY:
        return
    for k in range(state.num_rules):
        kind, a, b = np.int64(state.rules[k, 0]), np.int64(state.rules[k, 1]), np.int64(state.rules[k, 2])
        if kind == HOLD and b == state.pocket[i] and acts_for(state, a, i):
            product = np.int64(state.rules[k, 3])
            state.pocket[i] = EMPTY if product & 15 == FLOOR else product
            state.moved = True
            push(state, event)
            return


@kernel
def react_cell(state, index):
    """The rules for what has come to a cell: an agent, which affects all things around, or a thing, up to the first rule."""
    width = state.grid.shape[1]
    row, col = index // width, index % width
    here = np.int64(state.grid[row, col])
    arrived, lies = (here >> 12 & 7) - 1, here & 255
    for k in range(state.num_rules):
        kind, a, b = np.int64(state.rules[k, 0]), np.int64(state.rules[k, 1]), np.int64(state.rules[k, 2])
        if kind < NEAR:
            continue
        product = np.int64(state.rules[k, 3])
        for d in range(4):
            if not side_fits(kind, d):
                continue
            r, c = row_step(d), col_step(d)
            behind = cell_at(state, row - r, col - c)  # from where b lies in direction d
            if is_agent(a):
                if arrived >= 0:
                    beyond = cell_at(state, row + r, col + c)
                    if beyond & 255 == b and beyond >> 12 & 7 == 0 and acts_for(state, a, arrived):
                        put(state, row + r, col + c, product)
                elif lies == b and behind >> 12 & 7 and acts_for(state, a, (behind >> 12 & 7) - 1):
                    put(state, row, col, product)
                    return
            elif arrived < 0:
                beyond = cell_at(state, row + r, col + c)
                if lies == a and beyond & 255 == b and beyond >> 12 & 7 == 0:
                    join(state, row, col, row + r, col + c, product)
                    return
                if lies == b and behind & 255 == a and behind >> 12 & 7 == 0:
                    join(state, row, col, row - r, col - c, product)
                    return


@kernel
def put(state, row, col, product):
    """A product in the place of what lies in a cell."""
    state.grid[row, col] = cover(np.int64(state.grid[row, col]), product)
    state.stirred = True
    push(state, row * state.grid.shape[1] + col)


@kernel
def join(state, row, col, other_row, other_col, product):
    """Two things vanish, the product appears in the place of the other."""
    state.grid[row, col] = cover(np.int64(state.grid[row, col]), NOTHING)
    put(state, other_row, other_col, product)


@kernel
def agent_holds(params, state, i, j, kind, b):
    """Whether a condition with agent j as its subject holds; i is the agent whose goal it is."""
    row, col = np.int64(state.row[j]), np.int64(state.col[j])
    if kind == HOLD:
        return state.pocket[j] == b
    if kind == ON:
        return np.int64(state.grid[row, col]) & 255 == b
    if kind == AT:
        return row == b >> 8 and col == b & 255
    if kind == SEE and not is_agent(b):
        seen = False
        for k in range(0, state.image.shape[1], 2):
            seen = seen or (state.image[j, k] == b & 15 and state.image[j, k + 1] == b >> 4)
        return seen
    if kind == SEE:
        for other in range(state.row.shape[0]):
            if other != j and matches(state, b, i, other) and sees(params, state, j, other):
                return True
        return False
    for d in range(4):
        if side_fits(kind, d):
            code = cell_at(state, row + row_step(d), col + col_step(d))
            other = (code >> 12 & 7) - 1
            if is_agent(b):
                if other >= 0 and matches(state, b, i, other):
                    return True
            elif code & 255 == b or (other >= 0 and state.pocket[other] == b):
                return True
    return False


@kernel
def thing_holds(state, kind, a, b):
    """Whether a condition with things of code a as its subject holds for one of them."""
    height, width = state.grid.shape
    if kind == AT:
        return cell_at(state, b >> 8, b & 255) & 255 == a
    for row in range(height):
        for col in range(width):
            code = np.int64(state.grid[row, col])
            if code & 255 == a:
                if kind == ON:
                    if code >> 8 & 15 == b >> 4:
                        return True
                else:
                    for d in range(4):
                        if side_fits(kind, d) and cell_at(state, row + row_step(d), col + col_step(d)) & 255 == b:
                            return True
    return False


@kernel
def literal(params, state, i, option, k, stirred):
    """Whether a condition of agent i's goal holds or, if it is negated, doesn't: 1 or 0; -1 if there is none."""
    kind, a = np.int64(state.goals[i, option, k, 0]), np.int64(state.goals[i, option, k, 2])
    if kind == NONE:
        return -1
    b = np.int64(state.goals[i, option, k, 3])
    holds = False
    if is_agent(a):
        for j in range(state.row.shape[0]):
            holds = holds or (matches(state, a, i, j) and agent_holds(params, state, i, j, kind, b))
    elif stirred:
        holds = thing_holds(state, kind, a, b)
    else:
        return np.int64(state.truth[i, option, k])
    return 1 if holds != (state.goals[i, option, k, 1] > 0) else 0


@kernel
def judge(params, state, stirred):
    """Find out which conditions, options and goals hold; if nothing is `stirred`, those of things among each other stay."""
    for i in range(state.row.shape[0]):
        reached = False
        for option in range(MAX_OPTIONS):
            holds = state.goals[i, option, 0, 0] != NONE
            for k in range(MAX_PREDICATES):
                truth = literal(params, state, i, option, k, stirred)
                state.truth[i, option, k] = truth
                holds = holds and truth != 0
            state.options[i, option] = 1 if holds else 0
            reached = reached or holds
        state.success[i] = 1 if reached else 0


@kernel
def refresh(params, state):
    """Look around and judge, as far as anything has changed."""
    if state.stale or state.moved or state.stirred:
        for i in range(state.row.shape[0]):
            look(params, state, i)
        judge(params, state, state.stale or state.stirred)
        state.stale, state.moved, state.stirred = False, False, False
