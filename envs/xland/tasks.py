"""Tasks of XLand: goals, production rules and things drawn from an index, and the form of their solutions.

A task is a function of a 63-bit index: all that is random in it comes from a stream that the index alone starts. First the goal
is drawn, then backwards a tree of production: a tile that the goal needs lies in the world or, up to a depth, is the product of
a rule whose inputs are tiles used nowhere else, which in turn lie there or are produced. Then distractors: things that nobody
needs, and rules whose products nobody needs. Their inputs may be tiles of the solution, one in a rule, only where the rule does
not fire by itself (two things brought together): a dead end for whoever does so, but never a trap without which no way leads to
the goal. No two rules have the same inputs.

The form of a solution is its goal and tree of production without what doesn't matter: the order of conditions, of options and
of the inputs of a symmetric rule, on which side of what the equivalent condition is (a below b: b above a), positions, all
distractors, and walls. With `abstract`, the names of shapes and colours don't matter either; only whether a thing can be
carried. A hash of the form says whether a task is one of the training or of the test set, so no solution of one occurs in the
other.

Source: the sampling procedure of XLand-MiniGrid's `ruleset_generator.py`, after the AdA paper (Bauer et al., 2023,
arXiv:2301.07608, appendix A.2).
"""

import numpy as np

from explore_gym.envs.engine import bernoulli, kernel, randint, seed_stream
from explore_gym.envs.engine.random import GAMMA, U32, mix
from explore_gym.envs.gridworlds.grid import choose
from explore_gym.envs.xland.logic import (
    ABOVE,
    AT,
    BELOW,
    HOLD,
    LEFT_OF,
    NEAR,
    NONE,
    NOTHING,
    ON,
    RIGHT_OF,
    SEE,
    SELF,
    is_agent,
    team,
)
from explore_gym.envs.xland.world import (
    BALL,
    BLUE,
    FLOOR,
    GOAL,
    GREEN,
    GREY,
    KEY,
    MAX_OPTIONS,
    MAX_PREDICATES,
    PURPLE,
    PYRAMID,
    RED,
    SQUARE,
    WHITE,
    YELLOW,
    tile,
)

SHAPES = (BALL, SQUARE, PYRAMID, KEY, GOAL, FLOOR)
COLORS = (RED, GREEN, BLUE, PURPLE, YELLOW, GREY, WHITE)
NUM_PICKABLE, NUM_THINGS, NUM_TILES = 28, 35, 42  # tiles are numbered by shape, then colour; floors come last
GOAL_KINDS = (
    "hold", "near", "tile_near", "near_side", "tile_near_side", "on", "tile_on", "see", "at", "tile_at",
    "near_agent", "see_agent", "agent_holds",
)  # fmt: skip
RULE_KINDS = GOAL_KINDS[:5]
G_HOLD, G_NEAR, G_TILE_NEAR, G_NEAR_SIDE, G_TILE_NEAR_SIDE, G_ON, G_TILE_ON, G_SEE, G_AT, G_TILE_AT = range(10)
G_NEAR_AGENT, G_SEE_AGENT, G_AGENT_HOLDS = range(10, 13)
SHARED, INDEPENDENT, OPPOSED = range(3)  # relations of agents' goals
RELATIONS = ("shared", "independent", "opposed")
ALL, TRAIN, TEST = range(3)
SPLITS = ("all", "train", "test")
TEST_PARTS = 8  # one in so many forms is a test form
MAX_SEARCH = 1 << 14  # indices that are looked at for one of a split
MAX_INDEX = 2**63 - 1
REDRAWS = 8  # of what turns out not to fit
RULESETS = {  # XLand-MiniGrid's: depth of the tree, probability of pruning, distracting rules (at most) and things
    "trivial": dict(depth=0, prune=0.0, distractor_rules=0, distractor_objects=3),
    "small": dict(depth=1, prune=0.3, distractor_rules=2, distractor_objects=2),
    "medium": dict(depth=2, prune=0.1, distractor_rules=3, distractor_objects=2),
    "high": dict(depth=3, prune=0.1, distractor_rules=4, distractor_objects=1),
}
STRUCTURE_STREAM, LAYOUT_STREAM = 1, 2


def table_sizes(agents, depth, distractor_rules, distractor_objects, max_options, max_predicates, independent):
    """Most nodes, rules and objects of a task. Each thing in the trees occurs once; a floor may occur in each condition."""
    goals = agents if independent else 1
    roots, others = 2 * max_options * goals, 2 * max_options * (max_predicates - 1) * goals
    floors = max_options * max_predicates * goals
    nodes = min(NUM_THINGS + floors, roots * (2 ** (depth + 1) - 1) + others)
    rules = min(NUM_THINGS, roots * (2**depth - 1)) + distractor_rules
    objects = min(NUM_THINGS + floors, roots * 2**depth + others) + distractor_objects + 2 * distractor_rules
    return nodes, max(rules, 1), objects


def task_fields(agents, nodes):
    """Fields of the state with the trees of production; a node is a tile, the rule that makes it and that rule's inputs."""
    return dict(
        node_tile=(np.uint8, (nodes,)),  # number of the tile
        node_level=(np.uint8, (nodes,)),
        node_rule=(np.int16, (nodes,)),  # -1: it lies in the world
        node_child=(np.int16, (nodes,)),  # the first of one or two inputs, -1 if there is none
        node_hash=(np.uint64, (nodes,)),
        num_nodes=np.int32,
        goal_nodes=(np.int16, (agents, MAX_OPTIONS, MAX_PREDICATES, 2)),  # of a and b, -1 where that isn't a tile
        form=np.int64,  # hash of the form of the solution
    )


TASK_DERIVED = (
    "node_tile", "node_level", "node_rule", "node_child", "node_hash", "num_nodes", "goal_nodes", "form",
)  # fmt: skip


@kernel
def code_of(number):
    """The tile with a number."""
    return tile(SHAPES[number // 7], COLORS[number % 7])


@kernel
def draw_tile(state, used, low, count):
    """The number of a random unused tile among low..low + count - 1, -1 if there is none."""
    drawn = choose(state, count, used >> low)
    return low + drawn if drawn >= 0 else -1


@kernel
def add_node(state, number, level):
    """A tile that is needed. Returns its node, -1 without one: no tile or no room."""
    node = np.int64(state.num_nodes)
    if number < 0 or node == state.node_tile.shape[0]:
        return -1
    state.node_tile[node], state.node_level[node] = number, level
    state.node_rule[node], state.node_child[node] = -1, -1
    state.num_nodes += 1
    return node


@kernel
def add_object(state, number):
    """A tile that lies in the world."""
    if state.num_objects < state.objects.shape[0]:
        state.objects[state.num_objects] = code_of(number)
        state.num_objects += 1


@kernel
def draw_goal(params, state, i, used):
    """A goal of agent i. Returns the tiles that are used now."""
    for option in range(1 + randint(state, params.max_options)):
        taken = 0  # kinds that an agent can't fulfil twice at once: holding, being on or at something
        for k in range(1 + randint(state, params.max_predicates)):
            kind = params.goal_kinds[randint(state, params.goal_kinds.shape[0])]
            for _ in range(REDRAWS):
                if taken >> kind & 1:
                    kind = params.goal_kinds[randint(state, params.goal_kinds.shape[0])]
            if taken >> kind & 1:
                break
            negated = k > 0 and bernoulli(state, params.negation)
            if not negated and kind == G_HOLD:
                taken |= 1 << G_HOLD
            elif not negated and kind in (G_ON, G_AT):
                taken |= 1 << G_ON | 1 << G_AT
            used = draw_condition(params, state, i, option, k, kind, used)
            state.goals[i, option, k, 1] = 1 if negated else 0
    return used


@kernel
def draw_condition(params, state, i, option, k, kind, used):
    """A condition of a goal, with a node for each tile in it; an option's first may be produced. Returns the tiles used."""
    form, subject, target = NEAR, SELF, 0
    a_count, b_low, b_count = 0, 0, NUM_PICKABLE  # which tiles to draw from
    if kind == G_HOLD:
        form = HOLD
    elif kind in (G_NEAR, G_NEAR_SIDE):
        b_count = NUM_THINGS
    elif kind in (G_TILE_NEAR, G_TILE_NEAR_SIDE):
        a_count = NUM_THINGS
    elif kind == G_ON:
        form, b_low, b_count = ON, NUM_PICKABLE, NUM_TILES - NUM_PICKABLE
    elif kind == G_TILE_ON:
        form, a_count, b_low, b_count = ON, NUM_PICKABLE, NUM_THINGS, NUM_TILES - NUM_THINGS
    elif kind == G_SEE:
        form, b_count = SEE, NUM_THINGS
    elif kind == G_AT:
        form, b_count = AT, 0
    elif kind == G_TILE_AT:
        form, a_count, b_count = AT, NUM_PICKABLE, 0
    else:
        agents = state.row.shape[0]
        other = team(np.int64(state.team[(i + 1 + randint(state, agents - 1)) % agents]))
        if kind == G_AGENT_HOLDS:
            form, subject = HOLD, other
        else:
            form, target, b_count = (NEAR if kind == G_NEAR_AGENT else SEE), other, 0
    if kind in (G_NEAR_SIDE, G_TILE_NEAR_SIDE):
        form = ABOVE + randint(state, 4)
    for side in range(2):
        low, count = (b_low, b_count) if side else (0, a_count)
        number = draw_tile(state, used, low, count) if count else -1
        state.goal_nodes[i, option, k, side] = add_node(state, number, 0 if k == 0 else params.depth)
        if number >= 0:
            used |= 1 << number if number < NUM_THINGS else 0  # several conditions may speak of one floor
            if side:
                target = code_of(number)
            else:
                subject = code_of(number)
    state.goals[i, option, k, 0] = form
    state.goals[i, option, k, 2], state.goals[i, option, k, 3] = subject, target
    return used


@kernel
def grow(params, state, used):
    """The trees of production: a rule for each node above the depth, unless it is pruned. Returns the tiles used."""
    node, level, produced = 0, 0, 0
    while node < state.num_nodes:
        number = np.int64(state.node_tile[node])
        if state.node_level[node] > level and state.node_level[node] < params.depth:
            level, produced = np.int64(state.node_level[node]), 0
        open_node = state.node_level[node] < params.depth and number < NUM_THINGS and produced < params.breadth
        if open_node and not bernoulli(state, params.prune):
            kind = params.rule_kinds[randint(state, params.rule_kinds.shape[0])]
            pair = kind in (G_TILE_NEAR, G_TILE_NEAR_SIDE)
            needed = 2 if pair else 1
            first, second = draw_tile(state, used, 0, NUM_PICKABLE if kind == G_HOLD else NUM_THINGS), -1
            if pair and first >= 0:
                second = draw_tile(state, used | 1 << first, 0, NUM_PICKABLE)
            found = (first >= 0) + (second >= 0)
            if found == needed and state.num_nodes + needed <= state.node_tile.shape[0]:
                produced += 1
                state.node_rule[node] = state.num_rules
                state.node_child[node] = add_node(state, first, state.node_level[node] + 1)
                used |= 1 << first
                if needed == 2:
                    add_node(state, second, state.node_level[node] + 1)
                    used |= 1 << second
                add_rule(state, kind, first, second, code_of(number))
        if state.node_rule[node] < 0:
            add_object(state, number)
        node += 1
    return used


@kernel
def add_rule(state, kind, first, second, product):
    """A rule with one or two tiles as inputs, by number. Returns whether it is new: no other has the same inputs."""
    a, b = SELF, code_of(first)
    form = HOLD if kind == G_HOLD else NEAR
    if second >= 0:
        a, b = code_of(first), code_of(second)
    if kind in (G_NEAR_SIDE, G_TILE_NEAR_SIDE):
        form = ABOVE + randint(state, 4)
    for k in range(state.num_rules):
        same = state.rules[k, 1] == a and state.rules[k, 2] == b
        swapped = state.rules[k, 1] == b and state.rules[k, 2] == a
        if (same or swapped) and (state.rules[k, 0] == HOLD) == (form == HOLD):
            return False
    k = np.int64(state.num_rules)
    state.rules[k, 0], state.rules[k, 1], state.rules[k, 2], state.rules[k, 3] = form, a, b, product
    state.num_rules += 1
    return True


@kernel
def distract(params, state, used):
    """Things and rules that nobody needs."""
    for _ in range(params.distractor_objects):
        drawn = draw_tile(state, used, 0, NUM_THINGS)
        if drawn >= 0:
            add_object(state, drawn)
    for _ in range(randint(state, params.distractor_rules + 1)):
        for _ in range(REDRAWS):
            kind = params.rule_kinds[randint(state, params.rule_kinds.shape[0])]
            drawn = choose(state, NUM_PICKABLE + 1, used)  # the last is no product at all
            pair = kind in (G_TILE_NEAR, G_TILE_NEAR_SIDE)
            first = draw_tile(state, 0 if pair else used, 0, NUM_PICKABLE if kind == G_HOLD else NUM_THINGS)
            second = -1
            if pair:
                second = draw_tile(state, (used if used >> first & 1 else 0) | 1 << first, 0, NUM_PICKABLE)
            product = NOTHING if drawn == NUM_PICKABLE else code_of(max(drawn, 0))
            if drawn < 0 or first < 0 or first == drawn or (second < 0 and pair):
                continue
            if second != drawn and add_rule(state, kind, first, second, product):
                if not used >> first & 1:
                    add_object(state, first)
                if second >= 0 and not used >> second & 1:
                    add_object(state, second)
                break


@kernel
def label(params, number):
    """What the form of a solution says about a tile: its name, or whether it can be carried, is a goal tile or a floor."""
    if params.abstract:
        return np.uint64(1 + (number >= NUM_PICKABLE) + (number >= NUM_THINGS))
    return np.uint64(1 + number)


@kernel
def hash_condition(kind, a, b, a_is_tile):
    """The hash of a condition between what has the hashes a and b, the same for equivalent ones."""
    if a_is_tile and kind in (BELOW, LEFT_OF):
        kind, a, b = (ABOVE if kind == BELOW else RIGHT_OF), b, a
    twist = np.uint64(0) if a_is_tile and kind == NEAR else GAMMA
    return mix(mix(np.uint64(kind) * GAMMA) + mix(a ^ twist) + mix(b))


@kernel
def hash_part(params, state, node, code):
    """The hash of one side of a condition of a goal: a tree of production, an agent, or a position."""
    if node >= 0:
        return state.node_hash[node]
    if is_agent(code):
        return np.uint64(1000) if code == SELF else np.uint64(1001)
    return np.uint64(1002)


@kernel
def hash_form(params, state):
    """The hash of the form of the solution, 63 bits."""
    for node in range(state.num_nodes - 1, -1, -1):
        h = mix(label(params, np.int64(state.node_tile[node])) * GAMMA)
        rule, child = np.int64(state.node_rule[node]), np.int64(state.node_child[node])
        if rule >= 0:
            kind, a = np.int64(state.rules[rule, 0]), np.int64(state.rules[rule, 1])
            single = is_agent(a)
            first = np.uint64(1000) if single else state.node_hash[child]
            second = state.node_hash[child if single else child + 1]
            h = mix(h + hash_condition(kind, first, second, not single))
        state.node_hash[node] = h
    total = np.uint64(0)
    for i in range(num_goals(params, state)):
        goal = np.uint64(0)
        for option in range(MAX_OPTIONS):
            conjunction, conditions = np.uint64(0), 0
            for k in range(MAX_PREDICATES):
                kind = np.int64(state.goals[i, option, k, 0])
                if kind != NONE:
                    a, b = np.int64(state.goals[i, option, k, 2]), np.int64(state.goals[i, option, k, 3])
                    first = hash_part(params, state, np.int64(state.goal_nodes[i, option, k, 0]), a)
                    second = hash_part(params, state, np.int64(state.goal_nodes[i, option, k, 1]), b if kind != AT else 0)
                    h = hash_condition(kind, first, second, not is_agent(a))
                    conjunction += mix(h + np.uint64(state.goals[i, option, k, 1]))
                    conditions += 1
            if conditions > 0:
                goal += mix(conjunction)
        total += mix(goal)
    return np.int64(mix(total) >> np.uint64(1))


@kernel
def num_goals(params, state):
    """How many goals are drawn; other agents' are derived from the first."""
    return state.row.shape[0] if params.relation == INDEPENDENT else 1


@kernel
def draw_structure(params, state, index):
    """All of a task but walls and positions."""
    seed_stream(state, STRUCTURE_STREAM, index)
    agents = state.row.shape[0]
    state.num_nodes, state.num_rules, state.num_objects = 0, 0, 0
    for i in range(agents):
        for option in range(MAX_OPTIONS):
            for k in range(MAX_PREDICATES):
                for part in range(4):
                    state.goals[i, option, k, part] = 0
                state.goal_nodes[i, option, k, 0], state.goal_nodes[i, option, k, 1] = -1, -1
    used = 0
    for i in range(num_goals(params, state)):
        used = draw_goal(params, state, i, used)
    used = grow(params, state, used)
    distract(params, state, used)
    state.form = hash_form(params, state)


@kernel
def in_split(params, form):
    """Whether tasks of this form belong to the split asked for."""
    test = np.int64(np.uint64(form) >> U32) % TEST_PARTS == 0
    return params.split == ALL or test == (params.split == TEST)


@kernel
def draw_index(params, state):
    """A random index: one of those given, or any."""
    if params.num_tasks > 0:
        return np.int64(params.tasks[randint(state, params.num_tasks)])
    high, low = randint(state, 1 << 31), randint(state, 1 << 31)
    return high << 32 | low << 1 | randint(state, 2)


@kernel
def find_task(params, state, index):
    """Draw the task of an index or, of the next indices, the first one in the split. The state's own stream stays as it is."""
    word = state.rng
    for _ in range(MAX_SEARCH):
        state.task = index
        draw_structure(params, state, index)
        if in_split(params, state.form):
            break
        index = index + 1 if index < MAX_INDEX else 0
    state.rng = word


@kernel
def derive_goals(params, state):
    """The goals of agents that have none of their own: the same for the whole team, or to prevent the first agent's."""
    if params.relation == INDEPENDENT:
        return
    for option in range(MAX_OPTIONS):
        for k in range(MAX_PREDICATES):
            for part in (2, 3):  # it no longer is about oneself, but about the team of the first agent
                if state.row.shape[0] > 1 and state.goals[0, option, k, part] == SELF:
                    state.goals[0, option, k, part] = team(np.int64(state.team[0]))
    for i in range(1, state.row.shape[0]):
        for option in range(MAX_OPTIONS):
            for k in range(MAX_PREDICATES):
                for part in range(4):
                    if params.relation == SHARED:
                        state.goals[i, option, k, part] = state.goals[0, option, k, part]
                    elif k == 0:  # not (p and q) is (not p) or (not q): an option for each condition of the only one
                        state.goals[i, option, k, part] = state.goals[0, 0, option, part]
                if params.relation == OPPOSED and k == 0 and state.goals[i, option, k, 0] != NONE:
                    state.goals[i, option, k, 1] ^= 1
