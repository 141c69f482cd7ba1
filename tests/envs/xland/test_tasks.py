"""The generator: its law, that tasks are functions of their index, and that splits differ in the form of solutions."""

import collections

import numpy as np
import pytest
from scipy import stats

from explore_gym.envs.engine.kernels import Record, rebuild
from explore_gym.envs.xland.games import XLandGames
from explore_gym.envs.xland.logic import ABOVE, AT, BELOW, HOLD, LEFT_OF, NEAR, NONE, NOTHING, RIGHT_OF, SELF
from explore_gym.envs.xland.tasks import GOAL_KINDS, RULE_KINDS, RULESETS, code_of, derive_goals, find_task, hash_form
from explore_gym.envs.xland.world import AGENT, BLUE, FLOOR, PICKABLE, RED
from explore_gym.envs.xland.xland import XLand, reset

LANES = 1500
RICH = dict(
    rules="medium", size=13, goal_kinds=GOAL_KINDS[:10], rule_kinds=RULE_KINDS, max_options=3, max_predicates=3, negation=0.3
)  # every kind of condition and of rule


@pytest.fixture(scope="module")
def medium():
    """The states of many medium tasks."""
    return sample(rules="medium", size=13)


@pytest.fixture(scope="module")
def rich():
    return sample(**RICH)


def sample(num_envs=LANES, seed=0, kernel=find_task, **kwargs):
    """The records of as many tasks with random indices, drawn by the kernels as plain Python: nothing to compile."""
    return run_plain(XLand(**kwargs), np.random.default_rng(seed).integers(2**63, size=num_envs), kernel)


def run_plain(env, indices, kernel=find_task):
    """What a kernel makes of each of these indices or, if it takes none, of random words."""
    function = rebuild(kernel, lambda original, copied: copied, {})
    states = np.zeros(len(indices), env.state_dtype)
    states["team"] = env.params["teams"]
    with np.errstate(over="ignore"):  # the random stream's arithmetic wraps by design
        for state, index in zip(states, indices.tolist()):
            if kernel is reset:
                state["rng"] = index
                function(Record(env.params[0]), Record(state))
            else:
                function(Record(env.params[0]), Record(state), index)
    return states


def canonical(state, abstract=False, num_goals=1):
    """The form of a solution as nested tuples, from its definition: what is unordered is sorted."""

    def name(number):
        return int(number >= 28) + int(number >= 35) if abstract else int(number)

    def tree(node):
        rule, child = int(state["node_rule"][node]), int(state["node_child"][node])
        if rule < 0:
            return ("lies", name(state["node_tile"][node]))
        kind, a = int(state["rules"][rule, 0]), int(state["rules"][rule, 1])
        parts = ("agent", tree(child)) if a & 15 == AGENT else (tree(child), tree(child + 1))
        return ("made", name(state["node_tile"][node]), condition(kind, *parts))

    def condition(kind, a, b):
        if a != "agent" and a != "other" and kind in (BELOW, LEFT_OF):
            kind, a, b = {BELOW: ABOVE, LEFT_OF: RIGHT_OF}[kind], b, a
        if a not in ("agent", "other") and kind == NEAR:
            a, b = sorted((a, b), key=repr)
        return (kind, a, b)

    def side(i, option, k, part):
        node = int(state["goal_nodes"][i, option, k, part])
        if node >= 0:
            return tree(node)
        kind, code = int(state["goals"][i, option, k, 0]), int(state["goals"][i, option, k, 2 + part])
        return "position" if kind == AT and part == 1 else "agent" if code == SELF else "other"

    goals = []
    for i in range(num_goals):
        options = []
        for option in range(3):
            conditions = [
                (*condition(int(kind), side(i, option, k, 0), side(i, option, k, 1)), int(negated))
                for k, (kind, negated, _, _) in enumerate(state["goals"][i, option])
                if kind != NONE
            ]
            if conditions:
                options.append(tuple(sorted(conditions, key=repr)))
        goals.append(tuple(sorted(options, key=repr)))
    return tuple(sorted(goals, key=repr))


def test_a_task_is_a_function_of_its_index():
    """Walls, doors, things, rules and goals are the same, whatever the seed; where things stand is not."""
    env = XLand(tasks=[5, 2**62 + 1], rooms=4, **RICH)
    states = run_plain(env, np.arange(40), reset)
    assert set(states["task"].tolist()) == {5, 2**62 + 1}
    for task in (5, 2**62 + 1):
        lanes = states[states["task"] == task]
        assert len(lanes) > 5
        for field in ("rules", "num_rules", "objects", "num_objects", "goals", "form", "walkable"):
            used = {"rules": lanes[0]["num_rules"], "objects": lanes[0]["num_objects"]}.get(field)
            values = lanes[field] if used is None else lanes[field][:, :used]
            assert (values == values[0]).all(), field
        doors = np.where(lanes["grid"] & 15 == 11, lanes["grid"], 0)
        assert (doors == doors[0]).all() and doors[0].any()
        assert len(np.unique(lanes["row"] * 13 + lanes["col"])) > 5


def test_info_names_the_task_that_gives_it_back(medium):
    for lane in medium[:20]:
        again = run_plain(XLand(rules="medium", size=13, tasks=int(lane["task"])), np.zeros(1, int), reset)[0]
        assert again["task"] == lane["task"]
        assert np.array_equal(again["goals"], lane["goals"])
        assert np.array_equal(again["rules"][: lane["num_rules"]], lane["rules"][: lane["num_rules"]])
        assert again["form"] == lane["form"]
    assert len(np.unique(medium["task"])) == LANES


@pytest.mark.parametrize(("abstract", "kwargs"), [(False, dict(rules="small")), (False, RICH), (True, RICH)])
def test_the_splits_share_no_form_of_a_solution(abstract, kwargs):
    """Forms are equal if and only if their hashes are, and no form of a training task occurs in a test task."""
    sizes = (("train", 1500, 0), ("test", 200, 1))
    train, test = (sample(num_envs=n, tasks=split, abstract=abstract, seed=seed, **kwargs) for split, n, seed in sizes)
    forms = [{canonical(lane, abstract): int(lane["form"]) for lane in lanes} for lanes in (train, test)]
    assert not forms[0].keys() & forms[1].keys()
    assert not set(forms[0].values()) & set(forms[1].values())
    for lanes, form in zip((train, test), forms):
        assert len(set(form.values())) == len(form)
        assert all(form[canonical(lane, abstract)] == lane["form"] for lane in lanes)
    assert min(len(form) for form in forms) > 20


def test_the_test_set_is_an_eighth_of_the_forms_of_simple_tasks_too():
    states = sample(rules="small", size=9)
    test = (states["form"] >> 32) % 8 == 0
    assert 0.08 < test.mean() < 0.17
    drawn = sample(num_envs=200, tasks="test", rules="small", seed=3)
    assert ((drawn["form"] >> 32) % 8 == 0).all()


def test_forms_ignore_what_does_not_matter(rich):
    """Swapping the sides of symmetric conditions, or the options, leaves the hash as it is; another tile changes it."""

    plain = rebuild(hash_form, lambda original, copied: copied, {})
    params = Record(XLand(**RICH).params[0])
    changed = collections.Counter()
    with np.errstate(over="ignore"):
        for lane in rich[:200]:
            lane = lane.copy()
            assert plain(params, Record(lane)) == lane["form"]
            lane["goals"][0, [0, 1]], lane["goal_nodes"][0, [0, 1]] = (
                lane["goals"][0, [1, 0]].copy(),
                lane["goal_nodes"][0, [1, 0]].copy(),
            )
            assert plain(params, Record(lane)) == lane["form"]
            for option in range(3):
                for k in range(3):
                    kind, _, a, _ = lane["goals"][0, option, k].tolist()
                    if a & 15 == AGENT or kind not in (NEAR, ABOVE, RIGHT_OF, BELOW, LEFT_OF):
                        continue
                    mirrored = {NEAR: NEAR, ABOVE: BELOW, BELOW: ABOVE, RIGHT_OF: LEFT_OF, LEFT_OF: RIGHT_OF}[kind]
                    lane["goals"][0, option, k, 0] = mirrored
                    lane["goals"][0, option, k, 2:] = lane["goals"][0, option, k, [3, 2]].copy()
                    lane["goal_nodes"][0, option, k] = lane["goal_nodes"][0, option, k, ::-1].copy()
                    assert plain(params, Record(lane)) == lane["form"]
                    changed[kind] += 1
            if lane["num_nodes"] == 0:
                continue
            lane["node_tile"][0] = (lane["node_tile"][0] + 7) % 28
            assert plain(params, Record(lane)) != lane["form"]
    assert min(changed[kind] for kind in (NEAR, ABOVE, RIGHT_OF, BELOW, LEFT_OF)) > 0


def test_kinds_of_goals_and_rules_are_uniform(medium):
    goals = medium["goals"][:, 0, 0, 0]
    near, tiles = goals[:, 0] == NEAR, goals[:, 2] == SELF
    counts = [int((goals[:, 0] == HOLD).sum()), int((near & tiles).sum()), int((near & ~tiles).sum())]
    assert sum(counts) == LANES
    assert stats.chisquare(counts).pvalue > 1e-3
    first = medium["rules"][medium["node_rule"][:, 0] >= 0, 0]  # the rule that makes the goal's first tile
    kinds = [int((first[:, 0] == HOLD).sum()), int(((first[:, 0] == NEAR) & (first[:, 1] == SELF)).sum())]
    assert stats.chisquare([*kinds, len(first) - sum(kinds)]).pvalue > 1e-3


def test_pruning_and_distractors_have_their_laws(medium):
    made = medium["node_rule"][:, 0] >= 0
    assert stats.binomtest(int(made.sum()), LANES, 0.9).pvalue > 1e-3
    own = np.array([len({int(rule) for rule in lane["node_rule"][: lane["num_nodes"]]} - {-1}) for lane in medium])
    distracting = medium["num_rules"] - own
    assert stats.chisquare(np.bincount(distracting, minlength=4)).pvalue > 1e-3  # 0 to 3, uniform
    shapes = np.bincount(medium["node_tile"][:, 0] // 7, minlength=5)
    assert (shapes > 0).all() and shapes[4] < shapes[:4].min()  # what has to be held is no goal tile


@pytest.mark.parametrize("name", RULESETS)
def test_rulesets_have_their_depth_and_sizes(name):
    states = sample(num_envs=300, rules=name, size=13)
    expected = RULESETS[name]
    assert states["node_level"].max() == expected["depth"]
    for lane in states:
        nodes, levels = lane["num_nodes"], lane["node_level"]
        leaves = int((lane["node_rule"][:nodes] < 0).sum())
        assert (levels[:nodes][lane["node_rule"][:nodes] >= 0] < expected["depth"]).all()
        assert leaves + expected["distractor_objects"] <= lane["num_objects"] <= len(lane["objects"])


def test_every_solution_can_be_carried_out_in_principle(rich, medium):
    """All of a tree can be made of what lies there; nothing in it is used twice, or turned by a distractor on sight."""
    for states in (rich, medium):
        for lane in states:
            nodes, rules = int(lane["num_nodes"]), lane["rules"][: lane["num_rules"]].tolist()
            tiles = [code_of(int(number)) for number in lane["node_tile"][:nodes]]
            things = [code for code in tiles if code & 15 != FLOOR]
            assert len(set(things)) == len(things)
            lying = collections.Counter(lane["objects"][: lane["num_objects"]].tolist())
            used_rules = {int(rule) for rule in lane["node_rule"][:nodes]} - {-1}
            for node in range(nodes):
                rule, child = int(lane["node_rule"][node]), int(lane["node_child"][node])
                if rule < 0:
                    assert lying[tiles[node]] >= 1
                    continue
                kind, a, b, product = rules[rule]
                assert product == tiles[node]
                assert b == tiles[child + (a != SELF)] and (a == SELF or a == tiles[child])
                assert lying[tiles[node]] == 0  # what is to be made lies nowhere
                if kind == HOLD or a != SELF:
                    assert PICKABLE >> (b & 15) & 1
            for k, (_, a, b, product) in enumerate(rules):
                if k not in used_rules:
                    assert product not in things
                    if a == SELF:
                        assert b not in things, "a trap"
                    assert product == NOTHING or PICKABLE >> (product & 15) & 1
            inputs = [(kind == HOLD, frozenset((a, b))) for kind, a, b, _ in rules]
            assert len(set(inputs)) == len(inputs)


def test_breadth_limits_what_is_made_of_each_level():
    states = sample(num_envs=300, rules="high", prune=0.0, breadth=1, size=13)
    for lane in states:
        nodes = int(lane["num_nodes"])
        made = lane["node_level"][:nodes][lane["node_rule"][:nodes] >= 0]
        assert made.tolist() == [0, 1, 2]


def test_no_goal_holds_at_the_start():
    """Not with one condition; of goals with negations and sight some can't be placed so that they don't hold."""
    simple = sample(num_envs=150, kernel=reset)
    assert not simple["success"].any()
    assert (simple["truth"][:, 0, 0, 0] == 0).all()
    rich = sample(num_envs=150, kernel=reset, **RICH)
    assert rich["success"].mean() < 0.05


def test_negation_and_numbers_of_conditions(rich):
    conditions = (rich["goals"][:, 0, :, :, 0] != NONE).sum(2)
    options = (conditions > 0).sum(1)
    assert stats.chisquare(np.bincount(options, minlength=4)[1:]).pvalue > 1e-3
    further = rich["goals"][:, 0, :, 1:][rich["goals"][:, 0, :, 1:, 0] != NONE]
    assert stats.binomtest(int(further[:, 1].sum()), len(further), 0.3).pvalue > 1e-4
    assert not rich["goals"][:, 0, :, 0, 1].any()


def test_goals_at_positions_name_cells_of_floor():
    states = sample(num_envs=100, kernel=reset, goal_kinds=["at", "tile_at"], rooms=4)
    b = states["goals"][:, 0, 0, 0, 3]
    codes = states["grid"][np.arange(100), b >> 8, b & 255]
    assert (states["goals"][:, 0, 0, 0, 0] == AT).all()
    assert (codes & 15 != 4).all() and (codes & 15 != 11).all()
    assert len(np.unique(b)) > 10


def derived(relation, **kwargs):
    """The goals of two agents, derived from a goal given to the first."""

    env = XLandGames(relation=relation, **kwargs)
    state = np.zeros(1, env.state_dtype)[0]
    state["team"] = env.params["teams"][0]
    state["goals"][0, 0, 0] = HOLD, 0, SELF, 21
    state["goals"][0, 0, 1] = NEAR, 1, 21, 37
    rebuild(derive_goals, lambda original, copied: copied, {})(Record(env.params[0]), Record(state))
    return state["goals"][:, :, :, :].tolist()


def test_shared_goals_are_the_teams():
    first, second = derived("shared")
    assert first == second
    assert first[0][:2] == [[HOLD, 0, AGENT | RED << 4, 21], [NEAR, 1, 21, 37]]


def test_opposed_goals_are_the_negation():
    first, second = derived("opposed")
    assert first[0][:2] == [[HOLD, 0, AGENT | RED << 4, 21], [NEAR, 1, 21, 37]]
    # not (p and not q) is (not p) or q
    assert [option[0] for option in second] == [[HOLD, 1, AGENT | RED << 4, 21], [NEAR, 0, 21, 37], [0, 0, 0, 0]]
    assert XLandGames(relation="opposed", agents=3).params["teams"].tolist() == [[RED, BLUE, BLUE]]


def test_independent_goals_are_each_agents_own():
    first, second = derived("independent")
    assert first[0][0] == [HOLD, 0, SELF, 21]
    assert not np.any(second)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(rules="huge"), "rules must be one of trivial, small, medium, high, got 'huge'"),
        (dict(rooms=3), r"rooms must be one of \(1, 2, 4, 6, 9\), got 3"),
        (dict(size=4), r"size must be an integer in \[5, 255\], got 4"),
        (dict(rooms=9, size=12), "size must be 3 k . 1 and at least 7 for 9 rooms, got 12"),
        (dict(rooms=6, size=9), "size must be at least 11 for 6 rooms, got 9"),
        (dict(size=5), r"the rooms must have .* cells of floor for up to .* things and 1 agents, got 9"),
        (dict(goal_kinds=["fly"]), r"goal_kinds must be one or several of hold, near, .*, got \['fly'\]"),
        (dict(goal_kinds=["near_agent"]), "goal_kinds must be one or several of .*, got"),
        (dict(tasks="validation"), "tasks must be one of .*, an index or a sequence of indices, got 'validation'"),
        (dict(tasks=[]), r"tasks must be 1 to 1000000 integers in \[0, 2\*\*63\), got \[\]"),
        (dict(tasks=-1), r"tasks must be .*, got -1"),
        (dict(tasks=1.5), r"tasks must be .*, got 1.5"),
        (dict(negation=1.5), r"negation must lie in \[0, 1\], got 1.5"),
        (dict(reward="dense"), r"reward must be one of \('once', 'hold'\), got 'dense'"),
        (dict(agent_view_size=4), "agent_view_size must be an odd integer in .*, got 4"),
        (
            dict(rules="trivial", goal_kinds=["hold"], abstract=True, tasks="test"),
            "tasks='test' needs more forms of solutions: none of 512 tasks belongs to it",
        ),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        XLand(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(agents=5), r"agents must be an integer in \[2, 4\], got 5"),
        (dict(relation="rivals"), r"relation must be one of \('shared', 'independent', 'opposed'\), got 'rivals'"),
        (dict(relation="opposed", max_options=2), "max_options must be 1 for opposed goals, got 2"),
        (dict(max_options=3, max_predicates=2), "must be at most 9 for independent goals, got 2 . 3 . 2"),
        (dict(reward_of=2), r"reward_of must be an integer in \[0, 1\], got 2"),
    ],
)
def test_bad_arguments_of_games_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        XLandGames(**kwargs)
