import json

import numpy as np
import pytest
import torch

from explore_gym.agents import common
from explore_gym.agents import toponav as tn
from explore_gym.envs.navigation.sight import cast

KWARGS = dict(size=16, tiles=1, clearings=[0, 0], dead_ends=0, density=[0.0, 0.05], landmarks=[4, 8], goal_distance=4)
KWARGS |= dict(rough=0.0, drift=0.0, max_steps=40)
OPEN = dict(env="Explore/TopoNav-v0", env_kwargs=json.dumps(KWARGS), num_envs=4, eval_episodes=4)
SIZES = dict(hidden=16, replay_size=512, meta_replay_size=64, batch_size=16, meta_batch_size=8, learning_starts=64)
SIZES |= dict(meta_learning_starts=1, max_nodes=8, ppo_steps=16)
TYPES, EAST, SOUTH, WEST, NORTH = 3, 0, 1, 2, 3
PLACE, EXIT, GOAL = TYPES + tn.PLACE, TYPES + tn.EXIT, TYPES + tn.GOAL
CLOCK, CONE, FOUND = 0, 1, 541
DETECTIONS, ODOMETRY, HEADING, GOAL_AT, TARGET, WIDTH = 542, 578, 580, 581, 583, 584
CELLS, _ = cast(8, 120)
NUMBER = np.full((9, 15), -1)
NUMBER[CELLS[:, 0], CELLS[:, 1] + 7] = np.arange(len(CELLS))


def arguments(**changed):
    return tn.Args(**{**OPEN, **SIZES, "device": "cpu", "quiet": True, **changed})


def rules(**changed):
    values = dict(types=TYPES, feature=False, cone=CONE, plane=135, number=NUMBER, detections=DETECTIONS, found=FOUND)
    values |= dict(pixels=(8 - CELLS[:, 0]) * 15 + CELLS[:, 1] + 7, forward=CELLS[:, 0].copy(), right=CELLS[:, 1].copy())
    values |= dict(goal=GOAL_AT, heading=HEADING, odometry=ODOMETRY, target=TARGET, sight=8.0, match=1.5, spacing=4.0)
    values |= dict(reach=1.0, exit_reach=2.0, confidence=0.5, anchor=0.0, tries=2, edits=True)
    values["weights"] = np.array([0.5, 0.3, 0.2, 0.1])
    return tn.Rules(**{**values, **changed})


class Walk:
    """One lane, whose observations are made up; a step says where the agent is and what it sees."""

    def __init__(self, **changed):
        self.navigator = tn.Navigator(rules(**changed), 8, 1)
        self.lane = self.navigator.lanes[0]
        self.started = False

    def step(self, x, y, heading=EAST, detections=(), cells=(), obstacles=(), goals=(), goal=(0, 0), paid=False, new=False):
        """detections: (ahead, right, type[, confidence[, landmark]]); cells, obstacles, goals: (ahead, right) in view."""
        row, detected = np.zeros(WIDTH, np.float32), np.full((1, tn.SLOTS), -1)
        row[ODOMETRY : ODOMETRY + 2], row[HEADING], row[GOAL_AT : GOAL_AT + 2] = (x, y), heading, goal
        for slot, (ahead, right, kind, *more) in enumerate(detections):
            base = DETECTIONS + slot * (3 + TYPES)
            row[base : base + 3] = (more or [0.9])[0], ahead, right
            row[base + 3 + kind] = 1
            detected[0, slot] = more[1] if len(more) > 1 else -1
        for plane, seen in ((0, [*cells, *obstacles, *goals]), (1, obstacles), (3, goals)):
            for ahead, right in seen:
                row[CONE + 135 * plane + (8 - ahead) * 15 + right + 7] = 1
        done = np.array([not self.started or new])
        self.started = True
        self.rows = torch.from_numpy(row).unsqueeze(0)
        self.navigator.see(self.rows, done, np.array([paid]), detected)
        return self

    def nodes(self):
        """(kind, x, y) of all nodes."""
        lane = self.navigator.lanes[0]
        return [(int(lane.kind[i]), *map(float, lane.place[i])) for i in range(lane.num_nodes)]

    def survey(self):
        nodes, context, valid = self.navigator.survey(np.array([0]), self.rows)
        return nodes[0].numpy(), context[0].numpy(), np.flatnonzero(valid[0])

    def head_for(self, target):
        self.navigator.set_out(np.array([0]), np.array([target]))


def test_start_is_a_place_and_detections_become_nodes_by_position_and_type():
    walk = Walk().step(0, 0, SOUTH, [(3, 1, 2), (3, -2, 2), (2, 0, 1, 0.4)])
    # to the south, right is west; the last one isn't confident enough, and the first two are three cells apart
    assert walk.nodes() == [(PLACE, 0, 0), (2, -1, 3), (2, 2, 3)]
    assert (walk.lane.here, walk.lane.visits[0]) == (0, 1)
    walk.step(0, 0, SOUTH, [(4, 1, 2), (3, 1, 1)])
    assert walk.nodes() == [(PLACE, 0, 0), (2, -1, 3.5), (2, 2, 3), (1, -1, 3)]  # one merged, one of another type
    assert list(walk.lane.sightings[:4]) == [1, 2, 1, 1]
    walk.step(0, 0, SOUTH, [(3.5, 2.6, 2)])
    assert len(walk.nodes()) == 5  # 1.6 cells away: too far for a match


def test_false_merges_are_counted_by_the_landmarks_behind_detections():
    walk = Walk().step(0, 0).step(0, 0, EAST, [(3, 0, 1, 0.9, 7)])
    walk.step(0, 0, EAST, [(3, 0, 1, 0.9, 7)]).step(0, 0, EAST, [(3, 1, 1, 0.9, 8)])
    assert (walk.lane.merges, walk.lane.false_merges) == (2, 1)


def test_landmarks_correct_the_position_and_carry_over_to_later_steps():
    walk = Walk(anchor=0.4).step(0, 0, EAST, [(3, 0, 1)])
    walk.step(0, 0, EAST, [(4, 0, 1)])  # a cell too far: the node takes half of it, the agent 0.4 times the other half
    assert walk.nodes()[1] == (1, 3.5, 0)
    assert walk.lane.at[0] == pytest.approx(-0.2)
    walk.step(1, 0)
    assert walk.lane.at[0] == pytest.approx(0.8)
    still = Walk(anchor=0.4, edits=False).step(0, 0, EAST, [(3, 0, 1)]).step(0, 0, EAST, [(4, 0, 1)])
    assert still.lane.at[0] == 0


def test_edges_count_travels_and_average_their_steps():
    walk = Walk().step(0, 0)
    for x in (1, 2, 3, 4):
        walk.step(x, 0)
    assert len(walk.nodes()) == 1
    walk.step(5, 0)  # more than four cells from the only node: another place
    assert walk.nodes() == [(PLACE, 0, 0), (PLACE, 5, 0)]
    assert (walk.lane.steps[0, 1], walk.lane.travels[0, 1], walk.lane.here) == (5, 1, 1)
    for x in (4, 4, 4, 3, 2, 1):
        walk.step(x, 0)
    assert walk.lane.here == 0  # one cell away
    assert walk.lane.visits[0] == 2
    for i, j in ((0, 1), (1, 0)):
        assert (walk.lane.steps[i, j], walk.lane.travels[i, j]) == (5.5, 2)  # five steps and six
    assert walk.lane.steps[0, 0] == 0


def test_exits_are_free_cells_at_the_border_of_the_view_and_end_by_a_visit_or_a_look():
    view = [(a, r) for a in range(1, 8) for r in (-1, 0, 1)]
    walk = Walk().step(0, 0, EAST, cells=view, obstacles=[(8, -1), (8, 0)])
    # the farthest cell first; (8, 1) isn't in view, so (7, 1) is at the border, and so are the sides of the corridor
    assert walk.nodes() == [(PLACE, 0, 0), (EXIT, 7, 1)]
    assert walk.lane.new_nodes == 0  # those of the first look are nobody's merit
    seen = Walk().step(0, 0, EAST, cells=view, obstacles=[(8, -1), (8, 0)])
    seen.step(2, 0, EAST, cells=[(5, 1), (6, 1), (5, 0), (5, 2)])  # its surroundings
    assert seen.nodes()[1] == (PLACE, 7, 1)
    assert seen.lane.visits[1] == 1
    walk.head_for(1)
    for x in (1, 2, 3, 4, 5):
        walk.step(x, 0)
        assert not walk.lane.option_over
    assert walk.nodes()[2] == (PLACE, 5, 0)
    walk.step(6, 0)  # 1.4 cells away, and 1 from the new place: the subgoal comes first
    assert (walk.lane.reached, walk.lane.leg_over, walk.lane.option_over) == (1, 1, 1)
    assert (walk.nodes()[1], walk.lane.here, walk.lane.visits[1]) == ((PLACE, 7, 1), 1, 1)


def far_corridor():
    """A map of three places in a row, eight steps from end to end, and the agent back at the first."""
    walk = Walk().step(0, 0)
    for x in range(1, 11):
        walk.step(x, 0)
    assert walk.nodes() == [(PLACE, 0, 0), (PLACE, 5, 0), (PLACE, 10, 0)]
    for x in range(9, -1, -1):
        walk.step(x, 0)
    assert walk.lane.here == 0
    return walk


def test_legs_lead_from_node_to_node_and_the_option_ends_at_the_target():
    walk = far_corridor()
    walk.head_for(2)
    assert (walk.lane.via, walk.lane.leg_limit) == (1, 3 * 5 + 20)
    told = walk.navigator.aim()[0].tolist()
    assert told[:6] == pytest.approx([5 / 8, 0, 5 / 8, 1, 0, 0])
    assert told[6:] == [0, 0, 0, 1, 0, 0]  # a place
    for x in (1, 2, 3):
        walk.step(x, 0)
    assert (walk.lane.leg_over, walk.lane.leg_steps) == (0, 3)
    walk.step(4, 0)
    assert (walk.lane.reached, walk.lane.leg_over, walk.lane.option_over, walk.lane.via) == (1, 1, 0, 2)
    assert walk.lane.leg_limit == 3 * 6 + 20
    for x in (5, 6, 7, 8):
        walk.step(x, 0)
    walk.step(9, 0)
    assert (walk.lane.reached, walk.lane.option_over) == (1, 1)


def time_out(walk, target):
    walk.head_for(target)
    limit = int(walk.lane.leg_limit)
    for _ in range(limit - 1):
        walk.step(0, 0)
    assert not walk.lane.option_over
    walk.step(0, 0)
    assert (walk.lane.reached, walk.lane.leg_over, walk.lane.option_over) == (0, 1, 1)


def test_failed_edges_cost_more_and_are_removed_unless_the_map_only_grows():
    walk = far_corridor()
    steps = walk.lane.steps[0, 1]
    time_out(walk, 1)
    assert (walk.lane.failures[0, 1], walk.lane.failures[1, 0], walk.lane.tried[1]) == (1, 1, 1)
    assert walk.survey()[2].tolist() == [1]
    assert walk.lane.distance[1] == 2 * steps
    time_out(walk, 1)
    assert (walk.lane.steps[0, 1], walk.lane.travels[1, 0]) == (0, 0)
    assert walk.survey()[2].tolist() == []
    grown = Walk(edits=False).step(0, 0, EAST, [(5, 0, 1)]).step(0, 0, EAST, [(5, 0, 1)])
    for _ in range(3):
        time_out(grown, 1)
    assert grown.lane.steps[0, 1] == 5
    assert grown.survey()[2].tolist() == [1]


def test_nodes_in_view_are_neighbours_of_where_the_agent_was_last_unless_the_edge_has_failed():
    walk = Walk().step(0, 0, EAST, [(12, 1, 1)])
    assert walk.lane.steps[0, 1] == 13
    for x in (1, 2, 3, 4, 5):
        walk.step(x, 0)
    assert (walk.lane.here, walk.lane.steps[2, 1]) == (2, 0)
    walk.step(5, 0, EAST, cells=[(7, 1)])
    assert (walk.lane.steps[2, 1], walk.lane.steps[1, 2], walk.lane.travels[1, 2]) == (8, 8, 0)
    walk.lane.steps[2, 1], walk.lane.failures[2, 1] = 0, 2
    walk.step(5, 0, EAST, cells=[(7, 1)])
    assert walk.lane.steps[2, 1] == 0


def test_travelling_an_edge_forgets_its_failures():
    walk = far_corridor()
    time_out(walk, 1)
    for x in (1, 2, 3, 4):
        walk.step(x, 0)
    assert (walk.lane.failures[0, 1], walk.lane.tried[1]) == (0, 0)


def test_where_nothing_is_left_to_go_to_the_agent_turns_and_then_starts_a_new_map():
    walk = Walk().step(0, 0)
    for turns in (1, 2, 3):
        assert walk.survey()[2].size == 0
        walk.head_for(-1)
        walk.step(0, 0)
        assert (walk.lane.turns, walk.lane.option_over, walk.lane.num_nodes) == (turns, 1, 1)
    walk.survey()
    assert walk.lane.num_nodes == 0
    walk.head_for(-1)
    walk.step(7, 0)
    assert walk.nodes() == [(PLACE, 7, 0)]
    action = tn.turn_where_lost(torch.tensor([tn.FORWARD]), walk.navigator)
    assert action.tolist() == [tn.LEFT]


def test_score_by_hand():
    walk = far_corridor()
    walk.step(0, 0, EAST, [(0, 4, 1)], goal=(0, -6)).step(0, 0, EAST, [(0, 4, 1)], goal=(0, -6))
    nodes, context, valid = walk.survey()
    assert valid.tolist() == [1, 3]  # the neighbour and what has never been visited, but not the place beyond
    expected = [0.5 / 3 + 0.3 / 2 - 0.1 * walk.lane.distance[1] / walk.lane.distance[2]]  # visited twice, at a right angle
    expected += [0.5 + 0.0 + 0.2 - 0.1 * 4 / walk.lane.distance[2]]  # new, away from the goal
    assert nodes[[1, 3], 8] == pytest.approx(expected)
    assert nodes[3, :3] == pytest.approx([0, 0.5, 0.5])
    assert nodes[3, 9:14].tolist() == [1, 0, 0, 0, 0]  # a landmark that nobody asked for
    assert nodes[3, 14] == pytest.approx(10 / 8)
    assert context[:3] == pytest.approx([0, -0.75, 0.75])
    assert context[3] == 4 / 8


def test_unknown_goals_do_not_leak_into_the_score():
    walk = Walk(feature=True).step(0, 0, goal=(5, 0)).step(0, 0, EAST, [(4, 0, 0)], goal=(5, 0))
    walk.step(0, 0, EAST, [(4, 0, 0)], goal=(5, 0))
    nodes, context, _ = walk.survey()
    assert nodes[1, 5] == nodes[1, 14] == 0
    assert context[:3].tolist() == [0, 0, 0]
    assert nodes[1, 13] == 1  # type 0 is asked for
    args = arguments(env_kwargs=json.dumps({**KWARGS, "scenario": "feature"}))
    envs = common.TorchVectorEnv(common.make_vec(args.env, 2, json.loads(args.env_kwargs), "SameStep"))
    assert tn.make_rules(envs, args).weights.tolist() == [0.5, 0, 0.2, 0.1]


@pytest.mark.parametrize(("arm", "weights"), [("no_novelty", [0, 0.3, 0.2, 0.1]), ("no_goal", [0.5, 0, 0.2, 0.1])])
def test_ablations_take_a_weight_away(arm, weights):
    args = arguments(arm=arm)
    envs = common.TorchVectorEnv(common.make_vec(args.env, 2, KWARGS, "SameStep"))
    assert tn.make_rules(envs, args).weights.tolist() == weights
    assert tn.make_rules(envs, args).edits
    assert not tn.make_rules(envs, arguments(arm="no_edits")).edits


def test_goal_becomes_a_node_when_it_is_seen_and_its_reward_ends_the_leg():
    walk = Walk().step(0, 0, EAST, cells=[(1, 0)], goals=[(2, 0)])
    node = [kind for kind, *_ in walk.nodes()].index(GOAL)
    assert walk.nodes()[node] == (GOAL, 2, 0)
    assert node in walk.survey()[2]
    walk.head_for(node)
    walk.step(1, 0)
    assert not walk.lane.option_over  # within a cell, but only the cell itself counts
    walk.step(0, 0, paid=True, new=True)
    assert (walk.lane.reached, walk.lane.leg_over, walk.lane.option_over) == (1, 1, 1)
    assert (walk.nodes(), walk.lane.target) == ([(PLACE, 0, 0)], -1)
    walk.step(0, 0, EAST, [(5, 0, 1)]).step(0, 0, EAST, [(5, 0, 1)]).head_for(1)
    walk.step(0, 0, paid=True, new=True)
    assert walk.lane.reached == 0  # paid, but not for what the subgoal was


def test_full_map_keeps_a_slot_for_the_goal():
    walk = Walk().step(0, 0, NORTH, [(2, 2 * r, 0) for r in range(-2, 3)] + [(5, 0, 0)])
    walk.step(0, 0, NORTH, [(5, 2, 0)])
    assert (walk.lane.num_nodes, walk.lane.dropped) == (7, 1)
    walk.step(0, 0, NORTH, goals=[(3, 0)])
    assert walk.nodes()[7] == (GOAL, 0, -3)


def test_rewards_are_split_between_the_levels():
    args = arguments(r_step=-0.25, r_subgoal=2.0, r_collision=-1.0)
    paid = tn.intrinsic_rewards(torch.tensor([0, 1, 0, 1]), torch.tensor([False, False, True, True]), args)
    assert paid.tolist() == [-0.25, 1.75, -1.25, 0.75]


def states(value, lanes):
    return [torch.full((lanes, 4, tn.NODE_FEATURES), value), torch.full((lanes, tn.CONTEXT), value), torch.ones(lanes, 4) > 0]


def test_choices_are_paid_by_the_step_and_discounted_by_their_length():
    choices = tn.MetaReplay(2, 8, 4, "cpu")
    both = torch.tensor([0, 1])
    choices.turn_over(both, states(1.0, 2), torch.tensor([3, -1]))  # the second lane has no target
    choices.pay(torch.tensor([0.0, 9.0]), torch.tensor([0.125, 0.0]), 0.5, torch.tensor([False, False]))
    choices.pay(torch.tensor([1.0, 9.0]), torch.tensor([0.0, 0.0]), 0.5, torch.tensor([False, False]))
    choices.pay(torch.tensor([1.0, 9.0]), torch.tensor([0.0, 0.0]), 0.5, torch.tensor([False, False]))
    choices.turn_over(both, states(2.0, 2), torch.tensor([1, 2]))
    assert int(choices.added) == 1
    assert (choices.rewards[0], choices.discounts[0], choices.targets[0]) == (0.125 + 0.5 + 0.25, 0.125, 3)
    assert (choices.nodes[0] == 1).all()
    assert (choices.next_nodes[0] == 2).all()
    choices.pay(torch.tensor([1.0, 0.0]), torch.zeros(2), 0.5, torch.tensor([True, False]))
    choices.turn_over(both[:1], states(3.0, 1), torch.tensor([0]))
    assert int(choices.added) == 2
    assert (choices.rewards[1], choices.discounts[1], choices.targets[1]) == (1, 0, 1)  # the episode has ended


class Table(torch.nn.Module):
    """Stands for a network: the same values whatever the input."""

    def __init__(self, first, later):
        super().__init__()
        self.answers, self.args = [torch.tensor(later), torch.tensor(first)], None

    def q_values(self, cones, numbers):
        return self.answers[int(numbers[0, 0])]

    def safe(self, cones):
        return torch.tensor([[False, True, True]]).expand(len(cones), 3)

    def q2(self, nodes, context, valid):
        return self.answers[int(context[0, 0])].masked_fill(~valid, -torch.inf)


def test_target_of_the_controller_by_hand():
    online = Table([[1.0, 2.0, 3.0]] * 3, [[9.0, 5.0, 4.0]] * 3)  # the first action is best, but unsafe
    delayed = Table([[0.0] * 3] * 3, [[70.0, 7.0, 80.0]] * 3)
    b = {"cones": None, "next_cones": torch.zeros(3), "numbers": torch.ones(1, 1), "next_numbers": torch.zeros(1, 1)}
    b |= {"actions": torch.tensor([0, 1, 2]), "rewards": torch.tensor([0.5, 1.0, 100.0])}
    b["codes"] = torch.tensor([tn.RUNNING, tn.END, tn.UNUSED])
    loss, metrics = tn.q1_loss(online, delayed, b, arguments(gamma=0.5))
    assert loss.item() == pytest.approx(((1 - (0.5 + 0.5 * 7)) ** 2 + (2 - 1) ** 2) / 2)
    assert metrics["q1"].item() == 1.5


def test_target_of_the_meta_controller_by_hand():
    online = Table([[1.0, 2.0, 3.0]] * 3, [[9.0, 5.0, 4.0]] * 3)
    delayed = Table([[0.0] * 3] * 3, [[70.0, 7.0, 80.0]] * 3)
    b = {"nodes": None, "next_nodes": None, "context": torch.ones(1, 1), "next_context": torch.zeros(1, 1)}
    b["valid"] = torch.ones(3, 3) > 0
    b["next_valid"] = torch.tensor([[False, True, True], [False] * 3, [False] * 3])  # no choice follows on the last two
    b |= {"targets": torch.tensor([0, 1, 2]), "rewards": torch.tensor([0.5, 1.0, 100.0])}
    b["discounts"] = torch.tensor([0.25, 0.0, 0.5])  # the second ended its episode
    loss, metrics = tn.q2_loss(online, delayed, b)
    assert loss.item() == pytest.approx(((1 - (0.5 + 0.25 * 7)) ** 2 + (2 - 1) ** 2) / 2)
    assert metrics["q2"].item() == 1.5


def test_chooser_values_nodes_by_themselves_and_hides_what_the_score_is_made_of():
    torch.manual_seed(0)
    nodes, context, valid = torch.rand(2, 5, tn.NODE_FEATURES), torch.rand(2, tn.CONTEXT), torch.rand(2, 5) < 0.7
    for scored in (True, False):
        chooser = tn.Chooser(16, scored)
        values = chooser(nodes, context, valid)
        order = torch.tensor([3, 0, 4, 1, 2])
        assert torch.allclose(chooser(nodes[:, order], context, valid[:, order]), values[:, order], atol=1e-6)
        assert torch.isinf(values).equal(~valid)
        changed = nodes.clone()
        changed[..., tn.SCORE_FEATURES] = 0
        assert torch.equal(chooser(changed, context, valid), values) != scored
        absent = torch.cat([nodes, torch.zeros(2, 1, tn.NODE_FEATURES)], 1)
        more = chooser(absent, context, torch.cat([valid, torch.zeros(2, 1) > 0], 1))
        assert torch.allclose(more[:, :5], values, atol=1e-6)


def make(**changed):
    torch.manual_seed(0)
    args = arguments(**changed)
    envs = common.TorchVectorEnv(common.make_vec(args.env, args.num_envs, json.loads(args.env_kwargs), args.autoreset_mode))
    return tn.Agent(envs, args), envs, args


def test_choices_without_values_follow_the_score_and_those_of_hdqn_do_not():
    nodes, context, valid = torch.zeros(2000, 4, tn.NODE_FEATURES), torch.zeros(2000, tn.CONTEXT), torch.ones(2000, 4) > 0
    nodes[:, 1, 8], nodes[:, 2, 8], nodes[:, 3, 8] = 1.0, 1.0, 2.0
    valid[:, 3], valid[0] = False, False
    for arm, expected in (
        ("toponav", [0, 0.5, 0.5]),
        ("score", [0, 0.5, 0.5]),
        ("hdqn", [1 / 3] * 3),
        ("uniform", [1 / 3] * 3),
    ):
        agent, _, _ = make(arm=arm)
        targets = agent.choose(nodes, context, valid, 1.0)
        assert targets[0] == -1
        assert np.bincount(targets[1:], minlength=3) / 1999 == pytest.approx(expected, abs=0.05)
    agent, _, _ = make()
    best = agent.q2(nodes, context, valid)[1:].argmax(1)
    assert torch.equal(agent.choose(nodes, context, valid, 0.0)[1:], best)


def test_mask_forbids_the_way_into_an_obstacle_in_view():
    wood = json.dumps({**KWARGS, "density": [0.2, 0.3]})
    agent, envs, _ = make(num_envs=32, arm="dqn", env_kwargs=wood)
    free, _, _ = make(num_envs=32, arm="dqn", env_kwargs=wood, safety_mask=False)
    envs.reset(seed=0)
    collided, blocked = 0, 0
    for _ in range(200):
        cone = agent.look(envs.obs)
        assert free.safe(cone).all()
        blocked += int((~agent.safe(cone)[:, tn.FORWARD]).sum())
        action = agent.drive(cone, agent.numbers(envs.obs, None), 1.0)
        obs, *_ = envs.step(action)
        collided += int(obs[:, agent.last + 1].sum())
    assert blocked > 100
    assert collided == 0


def test_replay_gives_each_step_the_one_that_follows_in_its_lane():
    agent, _, _ = make()
    replay = tn.Replay(agent, 2, 8)  # four rows
    for t in range(6):
        replay.add(torch.full((2, 1), t), torch.tensor([[10.0 * t], [10.0 * t + 1]]), torch.tensor([t, t]))
        replay.end(torch.tensor([1.0 * t, -1.0 * t]), torch.tensor([tn.RUNNING, tn.END]))
    b = replay.sample(400)
    assert set(b["actions"].tolist()) == {2, 3, 4}  # 5 has no successor yet, 0 and 1 were overwritten
    assert torch.equal(b["next_numbers"], b["numbers"] + 10)
    assert torch.equal(b["rewards"], torch.where(b["codes"] == tn.END, -b["actions"], b["actions"]).float())


def test_first_falls_the_share_of_random_actions_and_then_that_of_random_subgoals():
    args = arguments(eps_end=0.1, eps_fraction=0.4)
    expected = {0.0: [1, 1], 0.2: [0.55, 1], 0.4: [0.1, 1], 0.6: [0.1, 0.55], 1.0: [0.1, 0.1]}
    for progress, shares in expected.items():
        assert tn.annealed(progress, args) == pytest.approx(shares)


def test_bonus_is_divided_by_the_standard_deviation_of_all_so_far():
    rnd = tn.RND(3, 8)
    first, second = torch.tensor([1.0, 5.0]), torch.tensor([[2.0, 4.0], [0.0, 9.0]])
    assert rnd.normalised(first).tolist() == pytest.approx([0.5, 2.5])
    everything = torch.cat([first, second.flatten()])
    assert torch.allclose(rnd.normalised(second), second / everything.std(correction=0))


def test_metrics_by_hand():
    ends = dict(success=[1, 0, 1], spl=[0.5, 0, 1], coverage=[0.2, 0.4, 0.6], steps=[10, 50, 20], collisions=[4, 0, 0])
    ends |= dict(found=[1, 0, 1], nodes=[4, 6, 5], **{"return": [1, 0, 1]})
    metrics = tn.episode_metrics({key: np.array(x) for key, x in ends.items()}, 100)
    assert metrics == pytest.approx(
        {
            "eval/success": 2 / 3,
            "eval/spl": 0.5,
            "eval/coverage": 0.4,
            "eval/episode_return": 2 / 3,
            "eval/steps": 130 / 3,
            "eval/median_steps": 20,
            "eval/collisions": 5,
            "eval/found": 2 / 3,
            "eval/nodes": 5,
        }
    )


def rows_of(folder):
    rows = common.read_metrics(folder / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in ("time", "sps")} for row in rows]


@pytest.mark.parametrize("arm", ["toponav", "ppo_rnd"])
def test_resumed_run_has_the_same_numbers(tmp_path, arm):
    changed = dict(arm=arm, total_timesteps=256, eval_interval=128, num_steps=16)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    tn.train(arguments(run_dir=str(whole), **changed))

    class Interrupted(Exception):
        pass

    log = common.Run.log

    def log_and_stop(run, step, metrics):
        log(run, step, metrics)
        if step == 192:
            run.save()
            raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common.Run, "log", log_and_stop)
        with pytest.raises(Interrupted):
            tn.train(arguments(run_dir=str(halves), **changed))
    tn.train(arguments(run_dir=str(halves), resume=True, **changed))
    rows = rows_of(whole)
    assert len(rows) == 4
    assert ["eval/success" in row for row in rows] == [False, True, False, True]
    assert arm == "ppo_rnd" or {"loss/q1", "loss/q2"} <= set().union(*rows)
    assert rows == rows_of(halves)


@pytest.mark.parametrize("arm", ["hdqn", "no_edits", "score", "uniform", "dqn", "frontier", "random"])
def test_all_arms_train_and_are_evaluated(tmp_path, arm):
    kwargs = json.dumps({**KWARGS, "scenario": "feature"}) if arm in ("hdqn", "dqn") else OPEN["env_kwargs"]
    tn.train(arguments(arm=arm, total_timesteps=320, env_kwargs=kwargs, run_dir=str(tmp_path)))
    rows = rows_of(tmp_path)
    assert {"eval/success", "eval/spl", "eval/coverage", "eval/episode_return"} <= rows[-1].keys()
    logged = set().union(*rows)
    assert ("loss/q1" in logged) == (arm not in tn.SCRIPTED)
    assert ("loss/q2" in logged) == (arm in ("hdqn", "no_edits"))
    assert arm != "frontier" or rows[-1]["eval/success"] == 1.0  # the field is small and open


def test_evaluation_plays_one_episode_in_each_lane_on_maps_of_its_own():
    agent, envs, _ = make(arm="random", num_envs=6)
    ends = tn.play_once(agent, envs, 5)
    assert (ends["steps"] <= 40).all()
    assert (ends["success"][ends["steps"] < 40] == 1).all()
    assert (ends["return"] == ends["success"]).all()
    with pytest.raises(common.UsageError, match='env_kwargs must leave split="test" to the evaluation'):
        arguments(env_kwargs='{"split": "test"}')


def test_saved_policy_plays(tmp_path):
    tn.train(arguments(run_dir=str(tmp_path), total_timesteps=128))
    policy = common.load_policy(tmp_path)
    envs = common.make_vec(OPEN["env"], 3, KWARGS, "SameStep")
    obs, _ = envs.reset(seed=0)
    starts = np.ones(3, bool)
    for _ in range(50):
        obs, _, terminated, truncated, _ = envs.step(policy(obs, starts))
        starts = terminated | truncated


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(hidden=0), "hidden must be at least 1, got 0"),
        (dict(max_nodes=3), r"max_nodes must lie in \[4, 1024\], got 3"),
        (dict(gamma=1.5), r"gamma must lie in \[0.0, 1.0\], got 1.5"),
        (dict(spacing=0.0), "spacing must be positive, got 0.0"),
        (dict(replay_size=7), "replay_size must be at least 8, got 7"),
        (dict(meta_replay_size=7), "meta_replay_size must be at least 8, got 7"),
        (dict(arm="ppo_rnd", num_minibatches=3), "num_envs \\* ppo_steps = 64 into parts of 2 or more, got 3"),
        (dict(autoreset_mode="NextStep"), "autoreset_mode must be SameStep: .* got NextStep"),
    ],
)
def test_bad_arguments_are_named(changed, message):
    with pytest.raises(common.UsageError, match=message):
        arguments(**changed)


def test_other_environments_are_refused(tmp_path):
    with pytest.raises(common.UsageError, match=r"env must be a TopoNav, .* got Explore/RiverSwim-v0"):
        tn.train(arguments(env="Explore/RiverSwim-v0", env_kwargs="{}", run_dir=str(tmp_path)))


@pytest.mark.slow
def test_toponav_learns_to_reach_goals_on_maps_that_it_has_not_seen(tmp_path):
    sizes = dict(num_envs=32, hidden=64, replay_size=50_000, meta_replay_size=4096, batch_size=64, meta_batch_size=64)
    args = dict(total_timesteps=60_000, eval_episodes=100, max_nodes=24, learning_starts=1000, meta_learning_starts=100)
    tn.train(arguments(**{**sizes, **args}, run_dir=str(tmp_path)))
    tn.train(arguments(arm="random", total_timesteps=1, eval_episodes=100, run_dir=str(tmp_path / "random")))
    assert rows_of(tmp_path)[-1]["eval/success"] > 0.3
    assert rows_of(tmp_path / "random")[-1]["eval/success"] < 0.1
