"""TopoNav: two-level Q-learning on a topological map that grows on the way (Hossain et al., 2024, arXiv:2402.04061).

Detected landmarks, places passed and exits seen are nodes; ways between them are edges with the steps they took, how often
they were travelled and how often that failed. A meta-controller Q2(S, v) chooses a node, a controller Q1(s, g, a) drives to
the next node on the way there and is paid for arriving (h-DQN, Kulkarni et al., 2016, arXiv:1604.06057):

    y1 = r_int + gamma (1 - end) max_a Q1(s', g, a)      y2 = sum_k gamma^k r_ext + r_map + gamma^tau max_v Q2(S', v)
    score(v) = w_n / (1 + n_v) + w_g (1 + cos(goal, v)) / 2 + w_f frontier(v) - w_d d(v) / max d

The arms are flags: --arm toponav, its ablations no_novelty (w_n = 0), no_goal (w_g = 0) and no_edits (the map only grows),
score and uniform (no Q2: the highest score, any node), hdqn (no score, nor what it is made of), dqn (no map), ppo_rnd (Burda
et al., 2018, arXiv:1810.12894), and the scripted frontier and random.
"""

from __future__ import annotations

import json
from collections import namedtuple
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numba import njit
from torch import nn

from explore_gym.agents import common
from explore_gym.envs.navigation.explorers import Frontier, Random, play
from explore_gym.envs.navigation.topo_nav import DOWN, EAST, FORWARD, LEFT, SLOTS, TopoNav

Arm = Literal[
    "toponav", "no_novelty", "no_goal", "no_edits", "score", "uniform", "hdqn", "dqn", "ppo_rnd", "frontier", "random"
]
MAPLESS, SCRIPTED = ("dqn", "ppo_rnd"), ("frontier", "random")
RUNNING, END, UNUSED = range(3)  # how a stored step ends; unused: it teaches nothing
PLACE, EXIT, GOAL = range(3)  # kinds of nodes, after the types of landmarks
CONFIRMED = 2  # sightings after which a landmark is believed
DETOUR, PATIENCE = 3, 20  # a leg is given up after DETOUR * its length + PATIENCE steps
FAR = 3.0  # ranges of view at which displacements are cut
NODE_FEATURES, CONTEXT = 15, 7
SCORE_FEATURES = slice(3, 9)  # those that an agent without score doesn't see
PARTS = "types feature cone plane pixels number forward right detections found goal heading odometry target sight"
Rules = namedtuple("Rules", f"{PARTS} match spacing reach exit_reach confidence anchor tries edits weights")


@dataclass(kw_only=True)
class Args(common.Args):
    env: str = "Explore/TopoNav-Small-v0"  # any id of TopoNav
    num_envs: int = 64
    total_timesteps: int = 200_000  # environment steps, rounded up to whole iterations
    arm: Arm = "toponav"  # the last two are scripted
    eval_episodes: int = 200  # one in each lane, on maps of split="test"
    eval_interval: int = 0  # environment steps between evaluations; 0: at the end alone
    eval_eps: float = 0.05  # share of random actions in evaluation
    max_nodes: int = 32  # of a map
    match: float = 1.5  # cells between sightings of one landmark of a type, at most
    spacing: float = 4.0  # cells from the next node at which a place or an exit becomes one
    reach: float = 1.0  # cells from a node at which it is reached
    exit_reach: float = 2.0  # the same for exits
    confidence: float = 0.5  # of a detection that is believed
    anchor: float = 0.2  # share of a landmark's displacement by which the agent's own position is corrected
    tries: int = 3  # failures after which an edge, or a subgoal, is given up
    w_novelty: float = 0.5
    w_goal: float = 0.3  # 0 where the goal is unknown
    w_frontier: float = 0.2
    w_distance: float = 0.1
    r_subgoal: float = 1.0  # intrinsic rewards of the controller
    r_collision: float = -0.5
    r_step: float = -0.01
    r_node: float = 0.05  # of the meta-controller for each new node
    safety_mask: bool = True  # no action that would hit an obstacle in view, in all arms with Q-values
    hidden: int = 128  # width of both hidden layers
    gamma: float = 0.99  # per step, at both levels
    num_steps: int = 8  # per env and iteration
    replay_size: int = 100_000  # steps that are kept
    meta_replay_size: int = 8192  # choices that are kept
    batch_size: int = 128
    meta_batch_size: int = 64
    steps_per_update: float = 8.0  # environment steps for each minibatch of the controller
    options_per_update: float = 1.0  # choices for each minibatch of the meta-controller
    learning_starts: int = 2000  # environment steps before the first minibatch
    meta_learning_starts: int = 256  # choices before the first minibatch of the meta-controller
    learning_rate: float = 5e-4
    max_grad_norm: float = 1.0
    tau: float = 0.01  # share of the online networks that each update mixes into the delayed ones
    eps_end: float = 0.05  # share of random choices, which falls from 1
    eps_fraction: float = 0.3  # of training, in which that of the controller's actions falls, and after it the subgoals'
    ppo_steps: int = 32  # ppo_rnd: per env and rollout
    num_epochs: int = 4  # ppo_rnd: passes over one rollout
    num_minibatches: int = 4  # ppo_rnd: per epoch
    gae_lambda: float = 0.95
    clip_coef: float = 0.2
    ent_coef: float = 0.01
    vf_coef: float = 0.5  # times the mean squared error
    int_coef: float = 0.1  # weight of the bonus, in standard deviations of it
    norm_advantages: bool = True  # in each minibatch

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("hidden", "num_steps", "batch_size", "meta_batch_size", "learning_starts", "meta_learning_starts"):
            common.at_least(self, name, 1)
        for name in ("tries", "eval_episodes", "ppo_steps", "num_epochs", "num_minibatches"):
            common.at_least(self, name, 1)
        common.at_least(self, "eval_interval", 0)
        common.within(self, "max_nodes", 4, 1024)
        for name in ("gamma", "gae_lambda", "tau", "eps_end", "eps_fraction", "eval_eps", "confidence", "anchor"):
            common.within(self, name, 0.0, 1.0)
        for name in ("match", "spacing", "reach", "exit_reach", "steps_per_update", "options_per_update"):
            if not getattr(self, name) > 0:
                raise common.UsageError(f"{name} must be positive, got {getattr(self, name)}")
        common.at_least(self, "replay_size", 2 * self.num_envs)
        common.at_least(self, "meta_replay_size", max(self.meta_batch_size, self.meta_learning_starts))
        batch = self.num_envs * self.ppo_steps
        if self.arm == "ppo_rnd" and (batch % self.num_minibatches or batch // self.num_minibatches < 2):
            raise common.UsageError(
                f"num_minibatches must divide num_envs * ppo_steps = {batch} into parts of 2 or more, "
                f"got {self.num_minibatches}"
            )
        if self.autoreset_mode != "SameStep":
            raise common.UsageError(f"autoreset_mode must be SameStep: a reset isn't a step, got {self.autoreset_mode}")
        if json.loads(self.env_kwargs).get("split") == "test":
            raise common.UsageError('env_kwargs must leave split="test" to the evaluation')

    @property
    def learns_meta(self) -> bool:
        return self.arm in ("toponav", "no_novelty", "no_goal", "no_edits", "hdqn")


def map_dtype(max_nodes):
    """The record of a lane: its map, where the agent is on it, and the subgoal it is under way to. Positions are (east, south).

    `here` is the last node that the agent was at, `arrived` that of this step or -1, `since` the steps since `here`; `wanted`
    the kind of nodes that the environment pays for; reached, leg_over, option_over, new_nodes are what the last step led to.
    An edge has steps > 0. `failures` are those since it was last travelled, `tried` those of a node as subgoal.
    """
    K, square = (max_nodes,), (max_nodes, max_nodes)
    numbers = "num_nodes merges false_merges dropped here arrived since wanted target via leg_steps leg_limit turns new_nodes"
    flags = "reached leg_over option_over"
    fields = [(name, "i4") for name in ("heading", *numbers.split())] + [(name, "u1") for name in flags.split()]
    fields += [(name, "f8", (2,)) for name in ("at", "shift")]  # where the agent is; by how much that differs from odometry
    fields += [(name, "i4", K) for name in ("kind", "visits", "sightings", "tried", "landmark", "before")]
    fields += [("place", "f8", (*K, 2)), ("distance", "f8", K), ("settled", "u1", K)]
    fields += [("steps", "f8", square), ("travels", "i4", square), ("failures", "i4", square)]
    return np.dtype((np.record, np.dtype(fields, align=True)))


@njit(cache=True)
def turned(heading, ahead, right):
    """(east, south) of a displacement ahead and to the right."""
    side = (heading + 1) & 3
    return ahead * EAST[heading] + right * EAST[side], ahead * DOWN[heading] + right * DOWN[side]


@njit(cache=True)
def seen_from(lane, x, y):
    """(ahead, right) of the point (east, south)."""
    dx, dy, side = x - lane.at[0], y - lane.at[1], (lane.heading + 1) & 3
    return dx * EAST[lane.heading] + dy * DOWN[lane.heading], dx * EAST[side] + dy * DOWN[side]


@njit(cache=True)
def away(lane, node):
    """Cells from the agent to a node."""
    return np.hypot(lane.place[node, 0] - lane.at[0], lane.place[node, 1] - lane.at[1])


@njit(cache=True)
def nearest(lane, x, y, radius, first, last):
    """The nearest node of the kinds first to last within a radius of (x, y), -1 if there is none."""
    best, found = radius, -1
    for node in range(lane.num_nodes):
        if first <= lane.kind[node] <= last:
            d = np.hypot(lane.place[node, 0] - x, lane.place[node, 1] - y)
            if d <= best:
                best, found = d, node
    return found


@njit(cache=True)
def link(lane, node):
    """Add an edge from where the agent was last to a node that it sees, unless there is one or one has failed."""
    u = lane.here
    if u >= 0 and u != node and lane.steps[u, node] == 0.0 and lane.failures[u, node] == 0:
        seen = abs(lane.place[node, 0] - lane.place[u, 0]) + abs(lane.place[node, 1] - lane.place[u, 1])
        lane.steps[u, node] = lane.steps[node, u] = max(seen, 1.0)


@njit(cache=True)
def add(lane, kind, x, y, rules):
    """Add a node and the edge that it is seen along. Returns it, or -1 where the map is full; one slot is kept for the goal."""
    node = lane.num_nodes
    if node == lane.kind.shape[0] or (node == lane.kind.shape[0] - 1 and kind != rules.types + GOAL):
        lane.dropped += 1
        return -1
    lane.num_nodes += 1
    lane.new_nodes += 1
    lane.kind[node], lane.visits[node], lane.sightings[node], lane.tried[node] = kind, 0, 1, 0
    lane.place[node, 0], lane.place[node, 1], lane.landmark[node] = x, y, -1
    for other in range(lane.kind.shape[0]):
        lane.steps[node, other], lane.travels[node, other], lane.failures[node, other] = 0.0, 0, 0
        lane.steps[other, node], lane.travels[other, node], lane.failures[other, node] = 0.0, 0, 0
    link(lane, node)
    return node


@njit(cache=True)
def arrive(lane, node, rules):
    """Count a visit and, if the agent comes from another node, the way: mean steps over all travels."""
    if lane.kind[node] == rules.types + EXIT:
        lane.kind[node] = rules.types + PLACE
    u = lane.here
    if u >= 0:
        count = lane.travels[u, node] + 1
        before = lane.steps[u, node] if count > 1 else 0.0
        lane.steps[u, node] = lane.steps[node, u] = before + (lane.since - before) / count
        lane.travels[u, node] = lane.travels[node, u] = count
        lane.failures[u, node] = lane.failures[node, u] = 0
    lane.visits[node] += 1
    lane.tried[node] = 0
    lane.here, lane.arrived, lane.since = node, node, 0


@njit(cache=True)
def believed(lane, node, rules):
    return lane.kind[node] >= rules.types or lane.sightings[node] >= CONFIRMED


@njit(cache=True)
def reach_of(lane, node, rules):
    if lane.kind[node] == rules.types + GOAL:
        return 0.5
    return rules.exit_reach if lane.kind[node] == rules.types + EXIT else rules.reach


@njit(cache=True)
def detect(lane, row, detected, rules):
    """Match detections by position and type with nodes, or create them; the agent is corrected by nodes that it knows."""
    for slot in range(SLOTS):
        base = rules.detections + slot * (3 + rules.types)
        if row[base] <= 0.0 or row[base] < rules.confidence:
            continue
        kind = np.argmax(row[base + 3 : base + 3 + rules.types])
        dx, dy = turned(lane.heading, row[base + 1], row[base + 2])
        x, y = lane.at[0] + dx, lane.at[1] + dy
        node = nearest(lane, x, y, rules.match, kind, kind)
        if node < 0:
            node = add(lane, kind, x, y, rules)
            if node >= 0:
                lane.landmark[node] = detected[slot]
            continue
        lane.merges += 1
        if detected[slot] >= 0 and lane.landmark[node] >= 0 and detected[slot] != lane.landmark[node]:
            lane.false_merges += 1
        share = 1.0 / (lane.sightings[node] + 1)
        for axis, seen in ((0, x), (1, y)):
            residual = lane.place[node, axis] - seen
            lane.place[node, axis] -= share * residual
            if rules.edits:
                lane.shift[axis] += (1.0 - share) * rules.anchor * residual
                lane.at[axis] += (1.0 - share) * rules.anchor * residual
        lane.sightings[node] += 1


@njit(cache=True)
def visit(lane, rules):
    """Arrive at the subgoal or else the nearest node in reach, or make a place where there is no node for some way."""
    best, found = np.inf, -1
    for node in range(lane.num_nodes):
        if believed(lane, node, rules) and lane.kind[node] != rules.types + GOAL:
            d = away(lane, node)
            if d <= reach_of(lane, node, rules):
                d = -1.0 if node == lane.via else d
                if d < best:
                    best, found = d, node
    if found < 0 and nearest(lane, lane.at[0], lane.at[1], rules.spacing, 0, rules.types + PLACE) < 0:
        found = add(lane, rules.types + PLACE, lane.at[0], lane.at[1], rules)
    if found >= 0 and found != lane.here:
        arrive(lane, found, rules)


@njit(cache=True)
def in_view(row, ahead, right, rules):
    side = rules.number.shape[1] // 2
    if not (0 <= ahead < rules.number.shape[0] and -side <= right <= side):
        return False
    i = rules.number[ahead, right + side]
    return i >= 0 and row[rules.cone + rules.pixels[i]] > 0.0


@njit(cache=True)
def scan(lane, row, rules):
    """Make exits of free cells at the border of the view, the farthest first, and places of exits that were seen through.

    What is in view is a neighbour of where the agent was last.
    """
    for i in range(rules.pixels.shape[0] - 1, 0, -1):
        at, a, r = rules.cone + rules.pixels[i], rules.forward[i], rules.right[i]
        if row[at] == 0.0 or row[at + rules.plane] > 0.0:
            continue
        dx, dy = turned(lane.heading, 1.0 * a, 1.0 * r)
        x, y = lane.at[0] + dx, lane.at[1] + dy
        if row[at + 3 * rules.plane] > 0.0:
            node = nearest(lane, x, y, np.inf, rules.types + GOAL, rules.types + GOAL)
            if node < 0:
                node = add(lane, rules.types + GOAL, x, y, rules)
            lane.place[node, 0], lane.place[node, 1] = x, y
        through = in_view(row, a + 1, r, rules) and in_view(row, a, r - 1, rules) and in_view(row, a, r + 1, rules)
        beyond = a * a + r * r > rules.exit_reach**2
        if beyond and not through and nearest(lane, x, y, rules.spacing, 0, rules.types + GOAL) < 0:
            add(lane, rules.types + EXIT, x, y, rules)
        elif through:
            node = nearest(lane, x, y, 0.71, rules.types + EXIT, rules.types + EXIT)
            if node >= 0:
                lane.kind[node], lane.visits[node] = rules.types + PLACE, 1
    for node in range(lane.num_nodes):
        ahead, right = seen_from(lane, lane.place[node, 0], lane.place[node, 1])
        if in_view(row, round(ahead), round(right), rules):
            link(lane, node)


@njit(cache=True)
def route(lane, source):
    """Steps from a node to all others along edges that haven't failed too often (Dijkstra, 1959), failures as detours."""
    for node in range(lane.num_nodes):
        lane.distance[node], lane.before[node], lane.settled[node] = np.inf, -1, 0
    lane.distance[source] = 0.0
    for _ in range(lane.num_nodes):
        node = -1
        for other in range(lane.num_nodes):
            if not lane.settled[other] and (node < 0 or lane.distance[other] < lane.distance[node]):
                node = other
        lane.settled[node] = 1
        for other in range(lane.num_nodes):
            steps = lane.steps[node, other] * (1 + lane.failures[node, other])
            if steps > 0.0 and lane.distance[node] + steps < lane.distance[other]:
                lane.distance[other], lane.before[other] = lane.distance[node] + steps, node


@njit(cache=True)
def begin_leg(lane):
    """Head for the next node on the way to the target; there must be one."""
    route(lane, lane.here)
    lane.via = lane.target
    while lane.before[lane.via] >= 0 and lane.before[lane.via] != lane.here:
        lane.via = lane.before[lane.via]
    a, r = seen_from(lane, lane.place[lane.via, 0], lane.place[lane.via, 1])
    lane.leg_steps, lane.leg_limit = 0, int(DETOUR * (abs(a) + abs(r))) + PATIENCE


@njit(cache=True)
def proceed(lane, rules):
    """Say whether the leg and the option are over, and go on with the next leg; a failure is counted and may end an edge."""
    lane.leg_steps += 1
    if lane.arrived == lane.via or away(lane, lane.via) <= reach_of(lane, lane.via, rules):
        lane.reached, lane.leg_over, lane.option_over = 1, 1, 1
        if lane.via != lane.target:
            begin_leg(lane)
            lane.option_over = 1 if lane.distance[lane.target] == np.inf else 0
    elif lane.leg_steps >= lane.leg_limit:
        lane.leg_over, lane.option_over = 1, 1
        if rules.edits:
            lane.tried[lane.target] += 1
            a, b = lane.here, lane.via
            failures = lane.failures[a, b] + 1
            lane.failures[a, b] = lane.failures[b, a] = failures
            if failures >= rules.tries:
                lane.steps[a, b] = lane.steps[b, a] = 0.0
                lane.travels[a, b] = lane.travels[b, a] = 0


@njit(cache=True)
def see(lanes, rows, done, paid, detected, rules):
    """Digest the observations (lanes, obs_dim) that the last step led to.

    done: the lane has a new episode; paid: the old one was paid in its last step; detected int (lanes, slots): the landmarks
    behind the detections, for metrics.
    """
    for i in range(len(lanes)):
        lane, row = lanes[i], rows[i]
        lane.reached, lane.leg_over, lane.option_over, lane.new_nodes = 0, 0, 0, 0
        if done[i]:
            lane.reached = 1 if lane.target >= 0 and paid[i] and lane.kind[lane.via] == lane.wanted else 0
            lane.leg_over = 1
            lane.wanted = int(row[rules.target]) if rules.feature else rules.types + GOAL
            lane.num_nodes, lane.here, lane.since, lane.target, lane.via, lane.turns = 0, -1, 0, -1, -1, 0
            lane.shift[0], lane.shift[1] = 0.0, 0.0
        lane.arrived = -1
        lane.since += 1
        lane.heading = int(row[rules.heading])
        for axis in range(2):
            lane.at[axis] = row[rules.odometry + axis] + lane.shift[axis]
        first = lane.here < 0
        if first:
            visit(lane, rules)
        detect(lane, row, detected[i], rules)
        visit(lane, rules)
        scan(lane, row, rules)
        if first:
            lane.new_nodes = 0  # they are nobody's merit
        if lane.target >= 0:
            proceed(lane, rules)
        else:
            lane.option_over = 1


@njit(cache=True)
def survey(lanes, chosen, rows, nodes, context, valid, rules):
    """Describe the maps of the chosen lanes to the meta-controller.

    nodes float32 (chosen, max_nodes, NODE_FEATURES): displacement, its length, novelty, frontier, cosine to the goal (from 0 to
    1), distance on the map, failures, score, kind (4 columns: landmark, place, exit, goal), wanted, way on to the goal. context
    float32 (chosen, CONTEXT). valid bool (chosen, max_nodes): which nodes may be chosen.
    """
    nodes[:], context[:], valid[:] = 0.0, 0.0, False
    for j in range(len(chosen)):
        lane, row = lanes[chosen[j]], rows[chosen[j]]
        count = describe(lane, row, nodes[j], context[j], valid[j], rules)
        lane.turns = 0 if count > 0 else lane.turns + 1
        if lane.turns == 4:  # nowhere left to go: a new map
            lane.num_nodes, lane.here, lane.turns = 0, -1, 0


@njit(cache=True)
def describe(lane, row, nodes, context, valid, rules):
    """`survey` of one lane. Returns how many nodes may be chosen."""
    route(lane, lane.here)
    diameter, count, goal_a, goal_r = 1.0, 0, 0.0, 0.0
    if not rules.feature:
        goal_a, goal_r = row[rules.goal], row[rules.goal + 1]
    to_goal = np.hypot(goal_a, goal_r)
    for node in range(lane.num_nodes):
        if lane.distance[node] < np.inf:
            diameter = max(diameter, lane.distance[node])
    for node in range(lane.num_nodes):
        kind, x = lane.kind[node], nodes[node]
        frontier = lane.visits[node] == 0
        for other in range(lane.num_nodes):
            if lane.kind[other] == rules.types + EXIT and lane.steps[node, other] > 0.0:
                frontier = True
        a, r = seen_from(lane, lane.place[node, 0], lane.place[node, 1])
        d = np.hypot(a, r)
        cosine = 0.0
        if not rules.feature:
            cosine = (a * goal_a + r * goal_r) / max(d * to_goal, 1e-6)
            x[5] = (1.0 + cosine) / 2.0
            x[14] = min(np.hypot(goal_a - a, goal_r - r) / rules.sight, 2 * FAR)
        x[0], x[1], x[2] = clip(a / rules.sight), clip(r / rules.sight), min(d / rules.sight, 2 * FAR)
        x[3], x[4] = 1.0 / (1 + lane.visits[node]), 1.0 if frontier else 0.0
        x[6], x[7] = min(lane.distance[node] / diameter, 2.0), lane.tried[node] / rules.tries
        x[8] = rules.weights[0] * x[3] + rules.weights[1] * x[5] + rules.weights[2] * x[4] - rules.weights[3] * x[6]
        x[9 + max(kind - rules.types + 1, 0)] = 1.0
        x[13] = 1.0 if kind == lane.wanted else 0.0
        near = frontier or kind == rules.types + GOAL or lane.steps[lane.here, node] > 0.0
        fit = believed(lane, node, rules) and lane.distance[node] < np.inf and not (lane.tried[node] >= rules.tries)
        valid[node] = near and fit and d > reach_of(lane, node, rules)
        count += 1 if valid[node] else 0
    context[0], context[1], context[2] = (
        clip(goal_a / rules.sight),
        clip(goal_r / rules.sight),
        min(to_goal / rules.sight, 2 * FAR),
    )
    context[3], context[4] = lane.num_nodes / lane.kind.shape[0], row[0]
    context[5], context[6] = (row[rules.found] if rules.feature else 0.0), count / lane.kind.shape[0]
    return count


@njit(cache=True)
def clip(x):
    return min(max(x, -FAR), FAR)


@njit(cache=True)
def set_out(lanes, chosen, targets):
    """Give the chosen lanes their targets; -1: none, the agent turns on the spot."""
    for j in range(len(chosen)):
        lane = lanes[chosen[j]]
        lane.target = lane.via = targets[j]
        if targets[j] >= 0:
            begin_leg(lane)


@njit(cache=True)
def aim(lanes, out, rules):
    """What the controller is told of the subgoal: displacement, length, direction, descriptor, share of the leg's time."""
    out[:] = 0.0
    for i in range(len(lanes)):
        lane, x = lanes[i], out[i]
        if lane.via >= 0:
            a, r = seen_from(lane, lane.place[lane.via, 0], lane.place[lane.via, 1])
            bearing(a, r, rules.sight, x)
            x[5] = lane.leg_steps / lane.leg_limit
            x[6 + lane.kind[lane.via]] = 1.0


@njit(cache=True)
def bearing(a, r, sight, x):
    d = np.hypot(a, r)
    x[0], x[1], x[2] = clip(a / sight), clip(r / sight), min(d / sight, 2 * FAR)
    x[3], x[4] = a / max(d, 1e-6), r / max(d, 1e-6)


class Navigator:
    """The maps of all lanes and what agents see of them. Its state is one array of records."""

    def __init__(self, rules, max_nodes, num_envs):
        self.rules, self.lanes = rules, np.zeros(num_envs, map_dtype(max_nodes))
        self.lanes["here"], self.lanes["target"], self.lanes["via"] = -1, -1, -1

    def see(self, rows, done, paid=None, detected=None):
        """Digests observations, torch (num_envs, obs_dim); all masks are bool (num_envs,)."""
        paid = np.zeros(len(done), bool) if paid is None else paid
        detected = np.full((len(done), SLOTS), -1) if detected is None else detected
        see(self.lanes, rows.cpu().numpy(), done, paid, detected, self.rules)

    def survey(self, chosen, rows):
        """Nodes, context and valid of the lanes with these numbers, as torch tensors; rows are the observations of all."""
        size, max_nodes = len(chosen), self.lanes.dtype["kind"].shape[0]
        nodes, context = np.empty((size, max_nodes, NODE_FEATURES), np.float32), np.empty((size, CONTEXT), np.float32)
        valid = np.empty((size, max_nodes), bool)
        survey(self.lanes, chosen, rows.cpu().numpy(), nodes, context, valid, self.rules)
        return torch.from_numpy(nodes), torch.from_numpy(context), torch.from_numpy(valid)

    def set_out(self, chosen, targets):
        set_out(self.lanes, chosen, targets)

    def aim(self):
        """Float32 (num_envs, 9 + types): what the controller is told of the subgoals."""
        out = np.empty((len(self.lanes), 9 + self.rules.types), np.float32)
        aim(self.lanes, out, self.rules)
        return torch.from_numpy(out)

    def state_dict(self):
        return {"lanes": torch.from_numpy(np.frombuffer(self.lanes.tobytes(), np.uint8).copy())}

    def load_state_dict(self, state):
        self.lanes = np.frombuffer(state["lanes"].numpy().tobytes(), self.lanes.dtype).copy()


def make_rules(envs, args):
    """Where things stand in observations, and the map's constants.

    Raises:
        UsageError: the environment isn't TopoNav.
    """
    world = getattr(envs.worlds, "env", None)
    if not isinstance(world, TopoNav):
        raise common.UsageError(
            f"env must be a TopoNav, the only one with the detections that the map is made of, got {args.env}"
        )
    start, params = {part.name: part.start for part in envs.layout}, world.params[0]
    feature = bool(params["feature"])
    weights = np.array([args.w_novelty, 0.0 if feature else args.w_goal, args.w_frontier, args.w_distance])
    weights[{"no_novelty": [0], "no_goal": [1]}.get(args.arm, [])] = 0.0
    return Rules(
        types=int(params["num_types"]),
        feature=feature,
        plane=int(np.prod(world.shape)),
        pixels=np.array(params["pixels"]),
        number=np.array(params["number"]),
        forward=np.array(params["forward"]),
        right=np.array(params["right"]),
        target=start.get("target", -1),
        found=start.get("found", -1),
        goal=start.get("goal", -1),
        sight=float(world.shape[0] - 1),
        weights=weights,
        edits=args.arm != "no_edits",
        **{name: start[name] for name in ("cone", "detections", "heading", "odometry")},
        **{name: getattr(args, name) for name in ("match", "spacing", "reach", "exit_reach", "confidence", "anchor", "tries")},
    )


def net(num_inputs, hidden, num_outputs):
    return nn.Sequential(
        nn.Linear(num_inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, num_outputs)
    )


class Chooser(nn.Module):
    """Q2(S, v) of all nodes: nodes (batch, K, NODE_FEATURES), context (batch, CONTEXT), valid (batch, K) -> (batch, K).

    A node's value comes from its features, those of all nodes pooled, and the context; -inf where it can't be chosen.
    """

    def __init__(self, hidden, scored):
        super().__init__()
        half = hidden // 2
        self.node, self.context = nn.Linear(NODE_FEATURES, half), nn.Linear(half + CONTEXT, half, bias=False)
        self.mixed, self.value = nn.Linear(half, half), nn.Linear(half, 1)
        keep = torch.ones(NODE_FEATURES)
        if not scored:
            keep[SCORE_FEATURES] = 0.0
        self.register_buffer("keep", keep, persistent=False)

    def forward(self, nodes, context, valid):
        x = self.node(nodes * self.keep)
        present = (nodes[..., 9:13].sum(-1, keepdim=True) > 0).float()
        pooled = (x.relu() * present).sum(1) / present.sum(1).clamp(min=1.0)
        x = (x + self.context(torch.cat([pooled, context], 1)).unsqueeze(1)).relu()
        return self.value(self.mixed(x).relu()).squeeze(-1).masked_fill(~valid, -torch.inf)


class RND(nn.Module):
    """The error of a predictor that learns a frozen random network of the observation; of length (batch,)."""

    def __init__(self, num_inputs, hidden):
        super().__init__()
        self.target = net(num_inputs, hidden, 32).requires_grad_(False)
        self.predictor = net(num_inputs, hidden, 32)
        for name in ("mean", "spread", "count"):  # of bonuses; spread: sum of squared distances to the mean
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    def forward(self, x):
        return (self.predictor(x) - self.target(x)).square().mean(-1)

    def normalised(self, bonuses):
        """Bonuses over the standard deviation of all so far (Chan et al., 1983)."""
        x, count = bonuses.double(), bonuses.numel()
        delta, total = x.mean() - self.mean, self.count + count
        self.spread += (x - x.mean()).square().sum() + delta**2 * self.count * count / total
        self.mean += delta * count / total
        self.count.copy_(total)
        return bonuses / ((self.spread / self.count).sqrt().float() + 1e-8)


class Agent(nn.Module):
    """The networks of an arm, and play by them.

    The cone is uint8 (batch, 4 * cells): the planes of the cells that can be in view, the nearest first. Numbers float32
    (batch, num_numbers) are the last step's outcome and what `aim` says; without a map, all other parts of the observation.
    """

    def __init__(self, envs, args):
        super().__init__()
        self.args, self.num_actions, self.rules = args, envs.num_actions, make_rules(envs, args)
        rules = self.rules
        planes = rules.plane * torch.arange(4).unsqueeze(1)
        self.register_buffer("columns", (rules.cone + planes + torch.from_numpy(rules.pixels)).flatten(), persistent=False)
        cells = len(rules.pixels)
        ahead = int(rules.number[1, rules.number.shape[1] // 2])
        self.ahead = cells + ahead  # column of the cone: an obstacle on the next cell
        self.mapless = args.arm in (*MAPLESS, *SCRIPTED)
        self.last = next(part.start for part in envs.layout if part.name == "last")
        own = SLOTS * (3 + rules.types) + (rules.types + 1 if rules.feature else 5) + 1 if self.mapless else 9 + rules.types
        self.num_inputs = 4 * cells + 2 + own
        self.q1 = net(self.num_inputs, args.hidden, self.num_actions)
        self.q2 = Chooser(args.hidden, args.arm != "hdqn") if args.learns_meta else None
        if args.arm == "ppo_rnd":
            self.critic, self.rnd = net(self.num_inputs, args.hidden, 1), RND(self.num_inputs, args.hidden)
        self.playing = ()  # the navigator of `act`, in a tuple

    def look(self, rows):
        """The cone of observations (batch, obs_dim)."""
        return rows[:, self.columns].to(torch.uint8)

    def numbers(self, rows, navigator):
        last = rows[:, self.last : self.last + 2]
        if navigator is not None:
            return torch.cat([last, navigator.aim().to(rows.device)], 1)
        rules = self.rules
        parts = [last, rows[:, :1], rows[:, rules.detections : rules.detections + SLOTS * (3 + rules.types)]]
        if rules.feature:
            asked = rows[:, rules.target : rules.target + 1] == torch.arange(rules.types, device=rows.device)
            return torch.cat([*parts, asked.float(), rows[:, rules.found : rules.found + 1]], 1)
        goal = rows[:, rules.goal : rules.goal + 2]
        length = goal.norm(dim=1, keepdim=True)
        near = (goal / rules.sight).clamp(-FAR, FAR), (length / rules.sight).clamp(max=2 * FAR)
        return torch.cat([*parts, *near, goal / length.clamp(min=1e-6)], 1)

    def q_values(self, cone, numbers):
        """Q1, (batch, num_actions)."""
        return self.q1(torch.cat([cone.float(), numbers], 1))

    def safe(self, cone):
        """Which actions are allowed, bool (batch, num_actions): not into an obstacle in view, with `--safety-mask`."""
        allowed = torch.ones(len(cone), self.num_actions, dtype=torch.bool, device=cone.device)
        if self.args.safety_mask:
            allowed[:, FORWARD] = cone[:, self.ahead] == 0
        return allowed

    @torch.no_grad()
    def drive(self, cone, numbers, eps):
        """Actions (batch,): random among the safe ones with probability eps, otherwise the best of them."""
        scores = self.q_values(cone, numbers)
        noise = torch.rand_like(scores)
        scores = torch.where(torch.rand_like(scores[:, :1]) < eps, noise, scores)
        return scores.masked_fill(~self.safe(cone), -torch.inf).argmax(1)

    @torch.no_grad()
    def choose(self, nodes, context, valid, eps):
        """Targets int64 (batch,), -1 where no node is valid.

        With probability eps, and always without Q2, the highest score, ties broken at random; for hdqn and uniform any node.
        """
        prior = nodes[..., 8] if self.args.arm not in ("hdqn", "uniform") else torch.zeros_like(nodes[..., 8])
        prior = prior + 1e-4 * torch.rand_like(prior)
        if self.q2 is not None:
            explore = torch.rand(len(nodes), 1, device=nodes.device) < eps
            prior = torch.where(explore, prior, self.q2(nodes, context, valid))
        targets = prior.masked_fill(~valid, -torch.inf).argmax(1)
        return torch.where(valid.any(1), targets, -1)

    def decide(self, navigator, rows, eps):
        """Chooses targets where an option is over. Returns those lanes, what the choice was made from, and the targets."""
        chosen = np.flatnonzero(navigator.lanes["option_over"])
        state = [x.to(self.columns.device) for x in navigator.survey(chosen, rows)]
        targets = self.choose(*state, eps)
        navigator.set_out(chosen, targets.cpu().numpy())
        return torch.from_numpy(chosen), state, targets

    def act(self, obs, starts=None):
        """Actions for observations (batch, obs_dim) that follow on those of the call before, except where episodes start.

        Without `starts` they do in the first call, and in one with another batch size.
        """
        if not self.playing or len(self.playing[0].lanes) != len(obs):
            self.playing = (Navigator(self.rules, self.args.max_nodes, len(obs)),)
            starts = torch.ones(len(obs), dtype=torch.bool)
        (navigator,) = self.playing
        if self.args.arm == "random":
            return torch.randint(self.num_actions, (len(obs),), device=obs.device)
        if self.args.arm == "ppo_rnd":
            logits, _ = self(self.inputs(obs))
            return torch.distributions.Categorical(logits=logits).sample()
        if not self.mapless:
            done = np.zeros(len(obs), bool) if starts is None else starts.cpu().numpy()
            navigator.see(obs, done)
            self.decide(navigator, obs, 0.0)
        cone = self.look(obs)
        action = self.drive(cone, self.numbers(obs, None if self.mapless else navigator), self.args.eval_eps)
        return action if self.mapless else turn_where_lost(action, navigator)

    def inputs(self, rows):
        """What ppo_rnd sees, float32 (batch, num_inputs)."""
        return torch.cat([self.look(rows).float(), self.numbers(rows, None)], 1)

    def forward(self, x):
        """Logits and values of ppo_rnd."""
        return self.q1(x), self.critic(x).squeeze(-1)


def turn_where_lost(action, navigator):
    """Lanes without a target turn."""
    lost = torch.from_numpy(navigator.lanes["target"] < 0).to(action.device)
    return torch.where(lost, LEFT, action)


class Replay(nn.Module):
    """The newest steps of all lanes, (capacity, num_envs, ...); the state that a step leads to is the row after it."""

    def __init__(self, agent, num_envs, size):
        super().__init__()
        shape, device = (size // num_envs, num_envs), agent.columns.device
        cells = len(agent.columns)
        self.register_buffer("cones", torch.zeros((*shape, cells), dtype=torch.uint8, device=device))
        self.register_buffer("numbers", torch.zeros((*shape, agent.num_inputs - cells), device=device))
        self.register_buffer("actions", torch.zeros(shape, dtype=torch.long, device=device))
        self.register_buffer("rewards", torch.zeros(shape, device=device))
        self.register_buffer("codes", torch.full(shape, UNUSED, device=device))
        self.register_buffer("added", torch.zeros((), dtype=torch.long))

    def add(self, cone, numbers, action):
        """Begins a step in all lanes; `end` says what came of it. Until the next one begins, it isn't sampled."""
        row = int(self.added) % len(self.codes)
        self.cones[row], self.numbers[row], self.actions[row], self.codes[row] = cone, numbers, action, UNUSED
        self.added += 1

    def end(self, reward, code):
        row = (int(self.added) - 1) % len(self.codes)
        self.rewards[row], self.codes[row] = reward, code

    def sample(self, size):
        """Random steps, those of the newest row left out: what follows on them isn't stored."""
        rows, lanes = self.codes.shape
        count = min(int(self.added), rows) - 1
        t = (int(self.added) - 2 - torch.randint(count, (size,))) % rows
        lane = torch.randint(lanes, (size,))
        after = (t + 1) % rows
        names = ("cones", "numbers", "actions", "rewards", "codes")
        b = {name: getattr(self, name)[t, lane] for name in names}
        return {**b, "next_cones": self.cones[after, lane], "next_numbers": self.numbers[after, lane]}


class MetaReplay(nn.Module):
    """The newest choices, and in every lane the one that is being carried out.

    A choice is stored when the option is over: with the discounted rewards in it, the discount gamma^tau of what follows (0
    at the end of the episode) and the next choice's state.
    """

    def __init__(self, num_envs, size, max_nodes, device):
        super().__init__()
        shapes = {"nodes": (max_nodes, NODE_FEATURES), "context": (CONTEXT,), "valid": (max_nodes,)}
        for name, shape in shapes.items():
            dtype = torch.bool if name == "valid" else torch.float32
            self.register_buffer(name, torch.zeros((size, *shape), dtype=dtype, device=device))
            self.register_buffer(f"next_{name}", torch.zeros((size, *shape), dtype=dtype, device=device))
            self.register_buffer(f"open_{name}", torch.zeros((num_envs, *shape), dtype=dtype, device=device))
        for name in ("rewards", "discounts"):
            self.register_buffer(name, torch.zeros(size, device=device))
            self.register_buffer(f"open_{name}", torch.zeros(num_envs, device=device))
        self.register_buffer("targets", torch.zeros(size, dtype=torch.long, device=device))
        self.register_buffer("open_targets", torch.full((num_envs,), -1, device=device))  # -1: no choice is open
        self.register_buffer("added", torch.zeros((), dtype=torch.long))

    def pay(self, reward, bonus, gamma, done):
        """A step of all open choices: its reward, discounted, and the bonus of new nodes; all (num_envs,)."""
        self.open_rewards += self.open_discounts * reward + bonus
        self.open_discounts *= gamma * ~done

    def turn_over(self, lanes, state, targets):
        """Stores the choices of these lanes, which the state ends, and opens the new ones."""
        ended = self.open_targets[lanes] >= 0
        which = lanes[ended]
        index = (int(self.added) + torch.arange(len(which), device=which.device)) % len(self.rewards)
        for name in ("nodes", "context", "valid", "rewards", "discounts", "targets"):
            getattr(self, name)[index] = getattr(self, f"open_{name}")[which]
        for name, x in zip(("nodes", "context", "valid"), state):
            getattr(self, f"next_{name}")[index] = x[ended]
            getattr(self, f"open_{name}")[lanes] = x
        self.added += len(which)
        self.open_targets[lanes], self.open_rewards[lanes], self.open_discounts[lanes] = targets, 0.0, 1.0

    def sample(self, size):
        index = torch.randint(min(int(self.added), len(self.rewards)), (size,), device=self.rewards.device)
        names = ("nodes", "context", "valid", "rewards", "discounts", "targets", "next_nodes", "next_context", "next_valid")
        return {name: getattr(self, name)[index] for name in names}


def intrinsic_rewards(reached, collided, args):
    """What the controller earns in a step: r_step, r_subgoal for arriving, r_collision for hitting something."""
    return args.r_step + args.r_subgoal * reached.float() + args.r_collision * collided.float()


def collect(agent, envs, navigator, replay, choices, eps, meta_eps, args):
    """Plays num_steps in every lane on the map, and stores steps and choices."""
    for _ in range(args.num_steps):
        lanes, state, targets = agent.decide(navigator, envs.obs, meta_eps)
        choices.turn_over(lanes.to(envs.device), state, targets)
        cone, numbers = agent.look(envs.obs), agent.numbers(envs.obs, navigator)
        action = turn_where_lost(agent.drive(cone, numbers, eps), navigator)
        lost = torch.from_numpy(navigator.lanes["target"] < 0)
        replay.add(cone, numbers, action)
        obs, reward, terminated, truncated, info = envs.step(action)
        done = terminated | truncated
        detected = np.where(done.numpy()[:, None], -1, info["reached"]["detected"])  # of first observations it isn't known
        navigator.see(obs, done.numpy(), (reward > 0).numpy(), detected)
        reached, leg_over, nodes = (
            torch.from_numpy(navigator.lanes[name].astype(np.float32)) for name in ("reached", "leg_over", "new_nodes")
        )
        collided = (obs[:, agent.last + 1] > 0).cpu() & ~done
        code = torch.where(leg_over > 0, END, RUNNING).masked_fill(lost, UNUSED)
        replay.end(intrinsic_rewards(reached, collided, args).to(envs.device), code.to(envs.device))
        choices.pay(reward.to(envs.device), (args.r_node * nodes).to(envs.device), args.gamma, done.to(envs.device))


def collect_flat(agent, envs, replay, eps, args):
    """Plays num_steps in every lane without a map, for the environment's reward."""
    for _ in range(args.num_steps):
        cone, numbers = agent.look(envs.obs), agent.numbers(envs.obs, None)
        action = agent.drive(cone, numbers, eps)
        replay.add(cone, numbers, action)
        _, reward, terminated, truncated, _ = envs.step(action)
        replay.end(reward.to(envs.device), torch.where(terminated | truncated, END, RUNNING).to(envs.device))


def td_targets(rewards, discounts, next_values):
    """y = r + discount * V(next), with V = 0 where nothing follows; all (batch,)."""
    return rewards + discounts * torch.where(discounts > 0, next_values, 0.0)


def q1_loss(agent, delayed, b, args):
    """Mean squared error of Q1 on a minibatch of steps, and metrics; the online network chooses the next safe action."""
    q = agent.q_values(b["cones"], b["numbers"]).gather(1, b["actions"].unsqueeze(1)).squeeze(1)
    with torch.no_grad():
        allowed = agent.safe(b["next_cones"])
        best = agent.q_values(b["next_cones"], b["next_numbers"]).masked_fill(~allowed, -torch.inf).argmax(1, keepdim=True)
        next_values = delayed.q_values(b["next_cones"], b["next_numbers"]).gather(1, best).squeeze(1)
        targets = td_targets(b["rewards"], args.gamma * (b["codes"] == RUNNING), next_values)
    used = b["codes"] != UNUSED
    loss = ((q - targets).square() * used).sum() / used.sum().clamp(min=1)
    return loss, {"loss/q1": loss.detach(), "q1": ((q * used).sum() / used.sum().clamp(min=1)).detach()}


def q2_loss(agent, delayed, b):
    """Mean squared error of Q2 on a minibatch of choices, and metrics; those on which no choice follows teach nothing."""
    q = agent.q2(b["nodes"], b["context"], b["valid"]).gather(1, b["targets"].unsqueeze(1)).squeeze(1)
    with torch.no_grad():
        following = b["next_nodes"], b["next_context"], b["next_valid"]
        best = agent.q2(*following).argmax(1, keepdim=True)
        next_values = delayed.q2(*following).gather(1, best).squeeze(1)
        used = b["next_valid"].any(1) | (b["discounts"] == 0)
        targets = td_targets(b["rewards"], b["discounts"], next_values.masked_fill(~used, 0.0))
    loss = ((q - targets).square() * used).sum() / used.sum().clamp(min=1)
    return loss, {"loss/q2": loss.detach(), "q2": ((q * used).sum() / used.sum().clamp(min=1)).detach()}


def descend(loss, module, optimizer, max_grad_norm):
    """A step of Adam against the gradient of the loss, which is at most max_grad_norm long."""
    grad = torch.cat([x.flatten() for x in torch.autograd.grad(loss, list(module.parameters()))])
    optimizer.step(grad * (max_grad_norm / (grad.norm() + 1e-6)).clamp(max=1.0))


def update(loss_of, replay, size, num_updates, online, delayed, optimizer, args):
    """Minibatches from a replay, after each of which the delayed network follows; returns the last one's metrics."""
    metrics = {}
    for _ in range(num_updates):
        loss, metrics = loss_of(replay.sample(size))
        descend(loss, online, optimizer, args.max_grad_norm)
        with torch.no_grad():
            torch._foreach_lerp_(list(delayed.parameters()), list(online.parameters()), args.tau)
    return metrics


@torch.no_grad()
def rollout(agent, envs, num_steps):
    """ppo_rnd's rollout: a dict of (num_steps, num_envs, ...) tensors, next_obs where the episode goes on."""
    steps = []
    obs = agent.inputs(envs.obs)
    for _ in range(num_steps):
        logits, values = agent(obs)
        policy = torch.distributions.Categorical(logits=logits)
        action = policy.sample()
        b = {"obs": obs, "actions": action, "logprobs": policy.log_prob(action), "values": values}
        next_obs, reward, terminated, truncated, _ = envs.step(action)
        obs = agent.inputs(next_obs)
        b |= {"rewards": reward.to(envs.device), "done": (terminated | truncated).to(envs.device), "next_obs": obs}
        steps.append(b)
    b = {key: torch.stack([step[key] for step in steps]) for key in steps[0]}
    b["next_values"] = torch.cat([b["values"][1:], agent(obs)[1].unsqueeze(0)])
    return b


def gae(rewards, values, next_values, terminated, done, gamma, gae_lambda):
    """Generalised advantage estimate (Schulman et al., 2016, eq. 16). All tensors (num_steps, num_envs)."""
    deltas = rewards + gamma * next_values * ~terminated - values
    decays = gamma * gae_lambda * ~done
    advantages, carry = torch.empty_like(deltas), torch.zeros_like(deltas[0])
    for t in reversed(range(len(deltas))):
        advantages[t] = carry = torch.addcmul(deltas[t], decays[t], carry)
    return advantages


def ppo_loss(agent, m, args):
    """Clipped surrogate (eq. 7) + vf_coef * value error - ent_coef * entropy (eq. 9), and metrics; m is a minibatch."""
    logits, values = agent(m["obs"])
    all_logprobs = logits.log_softmax(-1)
    log_ratio = all_logprobs.gather(-1, m["actions"].unsqueeze(-1)).squeeze(-1) - m["logprobs"]
    ratio = log_ratio.exp()
    advantages = m["advantages"]
    if args.norm_advantages:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    clipped = ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
    policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
    value_loss = (values - m["returns"]).square().mean()
    entropy = -(all_logprobs.exp() * all_logprobs).sum(-1).mean()
    loss = policy_loss + args.vf_coef * value_loss - args.ent_coef * entropy
    metrics = {"loss/policy": policy_loss, "loss/value": value_loss, "entropy": entropy}
    metrics["approx_kl"] = (ratio - 1 - log_ratio).mean()
    return loss, {key: x.detach() for key, x in metrics.items()}


def learn_ppo(agent, envs, optimizer, args):
    """A rollout, its bonuses, and num_epochs passes of PPO and of the bonus's predictor over it. Returns metrics."""
    b = rollout(agent, envs, args.ppo_steps)
    with torch.no_grad():
        bonuses = agent.rnd(b["next_obs"])
        rewards = b["rewards"] + args.int_coef * agent.rnd.normalised(bonuses) * ~b["done"]
    b["advantages"] = gae(rewards, b["values"], b["next_values"], b["done"], b["done"], args.gamma, args.gae_lambda)
    b["returns"] = b["advantages"] + b["values"]
    batch = {key: b[key].flatten(0, 1) for key in ("obs", "next_obs", "actions", "logprobs", "advantages", "returns")}
    learned = nn.ModuleList([agent.q1, agent.critic, agent.rnd.predictor])
    for _ in range(args.num_epochs):
        for index in torch.randperm(len(batch["obs"]), device=envs.device).chunk(args.num_minibatches):
            m = {key: x[index] for key, x in batch.items()}
            loss, metrics = ppo_loss(agent, m, args)
            descend(loss + agent.rnd(m["next_obs"]).mean(), learned, optimizer, args.max_grad_norm)
    return {**metrics, "bonus": bonuses.mean()}


@torch.no_grad()
def play_once(agent, envs, seed):
    """One episode in every lane. Returns the environment's infos at their ends, with returns, steps and the sizes of maps."""
    obs = envs.reset(seed=seed)
    starts = torch.ones(envs.num_envs, dtype=torch.bool)
    ends = {name: np.zeros(envs.num_envs) for name in ("return", "steps", "nodes")}
    playing = np.ones(envs.num_envs, bool)
    while playing.any():
        action = agent.act(obs, starts)
        if not agent.mapless:
            ends["nodes"][playing] = agent.playing[0].lanes["num_nodes"][playing]
        obs, reward, terminated, truncated, info = envs.step(action)
        ends["return"] += reward.numpy() * playing
        ends["steps"] += playing
        starts = terminated | truncated
        for key, value in info["reached"].items():
            if isinstance(value, np.ndarray) and value.shape == playing.shape:
                ends.setdefault(key, np.zeros(len(value)))[playing] = value[playing]
        playing &= ~starts.numpy()
    return ends


def evaluate(run, agent, args):
    """Metrics of one episode on each of eval_episodes maps of split="test"."""
    kwargs = {**json.loads(args.env_kwargs), "split": "test"}
    envs = common.TorchVectorEnv(common.make_vec(args.env, args.eval_episodes, kwargs, args.autoreset_mode), run.device)
    if args.arm in SCRIPTED:
        explorer = Frontier(envs.worlds) if args.arm == "frontier" else Random(envs.worlds, run.eval_seed)
        returns, ends = play(envs.worlds, explorer, run.eval_seed)
        ends |= {"return": returns}
    else:
        ends = play_once(agent, envs, run.eval_seed)
    envs.close()
    return episode_metrics(ends, int(envs.worlds.env.params["max_steps"][0]))


def episode_metrics(ends, max_steps):
    """What is reported of episodes' ends, arrays (episodes,). A failure counts as max_steps long."""
    success = ends["success"] > 0
    metrics = {f"eval/{name}": float(np.mean(ends[key])) for name, key in (("success", "success"), ("spl", "spl"))}
    metrics |= {"eval/episode_return": float(ends["return"].mean()), "eval/coverage": float(ends["coverage"].mean())}
    if "steps" in ends:
        steps = np.where(success, ends["steps"], max_steps)
        metrics["eval/steps"], metrics["eval/median_steps"] = float(steps.mean()), float(np.median(steps))
        metrics["eval/collisions"] = float(100 * ends["collisions"].sum() / ends["steps"].sum())
        metrics["eval/found"] = float(ends["found"].mean())
        if ends["nodes"].any():
            metrics["eval/nodes"] = float(ends["nodes"].mean())
    return metrics


def train(args):
    run = common.start(args, __file__)
    envs = run.make_envs(args.num_envs)
    agent = Agent(envs, args).to(run.device)
    delayed = deepcopy(agent).requires_grad_(False)
    stateful = {"agent": agent, "delayed": delayed, "envs": envs}
    if args.arm == "ppo_rnd":
        learned = nn.ModuleList([agent.q1, agent.critic, agent.rnd.predictor])
        stateful["optimizer"] = optimizer = common.Adam(learned, args.learning_rate)
    elif args.arm not in SCRIPTED:
        stateful["optimizer"] = optimizer = common.Adam(agent.q1, args.learning_rate)
        stateful["replay"] = replay = Replay(agent, args.num_envs, args.replay_size)
    if not agent.mapless:
        stateful["navigator"] = navigator = Navigator(agent.rules, args.max_nodes, args.num_envs)
        stateful["choices"] = choices = MetaReplay(args.num_envs, args.meta_replay_size, args.max_nodes, run.device)
    if args.learns_meta:
        stateful["meta_optimizer"] = meta_optimizer = common.Adam(agent.q2, args.learning_rate)
    obs = envs.reset(seed=run.env_seed)
    if not agent.mapless:
        navigator.see(obs, np.ones(args.num_envs, bool))
    run.persist(**stateful)
    per_iteration = args.num_envs * (args.ppo_steps if args.arm == "ppo_rnd" else args.num_steps)
    for step in run.steps(per_iteration):
        before, metrics = step - per_iteration, {}
        eps, meta_eps = annealed(before / args.total_timesteps, args)
        if args.arm == "ppo_rnd":
            metrics = {**learn_ppo(agent, envs, optimizer, args), **envs.episode_metrics()}
        elif args.arm not in SCRIPTED:
            if agent.mapless:
                collect_flat(agent, envs, replay, eps, args)
            else:
                collect(agent, envs, navigator, replay, choices, eps, meta_eps, args)
                lanes = navigator.lanes
                metrics = {"nodes": lanes["num_nodes"].mean(), "meta_eps": meta_eps}
                metrics["false_merges"] = lanes["false_merges"].sum() / max(lanes["merges"].sum(), 1)
            metrics |= {"eps": eps, **envs.episode_metrics()}
            due = int((step - args.learning_starts) / args.steps_per_update) - int(optimizer.num_steps)
            loss_of = lambda b: q1_loss(agent, delayed, b, args)
            metrics |= update(loss_of, replay, args.batch_size, due, agent.q1, delayed.q1, optimizer, args)
        if args.learns_meta:
            due = int((int(choices.added) - args.meta_learning_starts) / args.options_per_update) - int(
                meta_optimizer.num_steps
            )
            loss_of = lambda b: q2_loss(agent, delayed, b)
            metrics |= update(loss_of, choices, args.meta_batch_size, due, agent.q2, delayed.q2, meta_optimizer, args)
        last = step >= args.total_timesteps
        if last or (args.eval_interval and step // args.eval_interval > before // args.eval_interval):
            metrics |= evaluate(run, agent, args)
        if metrics:
            run.log(step, metrics)
    run.close()
    return run


def annealed(progress, args):
    """Shares of random actions and of random choices: first the former falls from 1 to eps_end, then the latter."""
    parts = [(progress - first) / max(args.eps_fraction, 1e-9) for first in (0.0, args.eps_fraction)]
    return [1.0 + (args.eps_end - 1.0) * min(max(part, 0.0), 1.0) for part in parts]


if __name__ == "__main__":
    common.main(train, Args)
