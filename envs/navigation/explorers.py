"""Scripted explorers of TopoNav: one that draws its own map and plays from the observation alone, and one that knows the map.

    envs = gym.make_vec("Explore/TopoNav-v0", num_envs=100, autoreset_mode="SameStep", split="test")
    returns, info = play(envs, Frontier(envs.unwrapped), seed=0)

Both take the way of the least expected number of steps, turns included, over what they know: A* and Dijkstra's algorithm on
cells and headings.
"""

import heapq
import itertools
import math

import numpy as np

from explore_gym.envs.bandits.policies import Random, play
from explore_gym.envs.engine import kernel
from explore_gym.envs.navigation.topo_nav import DOWN, EAST, FORWARD, LEFT, RIGHT, STAY
from explore_gym.envs.navigation.valleys import BLOCKED, ROUGH

__all__ = ["Frontier", "Oracle", "Random", "play"]

UNKNOWN = 0.0  # in a drawn map, which holds the expected steps of a move onto each cell
DRIFT_ROOM = 24  # cells by which a drawn map is larger than the country to each side
SAME = 3  # cells between sightings of the same landmark, at most
WORTH = 0.5  # confidence in a landmark for which the explorer goes there


class Frontier:
    """Draws a map of what it has seen, goes to the target if it knows where that is, and else to the nearest unknown cell.

    On the way to a target, what is unknown counts as free. Where its map is wrong by a cell, because it has skidded, it
    corrects its position. Targets are the goal, whose place is told by odometry until it is in view, or landmarks of the type
    asked for that have been detected with enough confidence, the nearest first. With nowhere left to go it starts a new map.

    Args:
        envs: a vector environment of TopoNav, of which only the fixed arguments are read.
        anchor: whether it corrects its position.
    """

    def __init__(self, envs, anchor=True):
        self.model, self.num_envs, self.anchor = envs.env, envs.num_envs, anchor
        self.params, self.feature = self.model.params[0], bool(self.model.params["feature"][0])
        self.side = 2 * (int(self.params["size"]) + DRIFT_ROOM)
        self.maps = np.full((self.num_envs, self.side, self.side), UNKNOWN)
        self.shift = np.zeros((self.num_envs, 2), np.int64)  # of the map against odometry, (rows, columns)
        self.rewarded = np.zeros(self.num_envs, bool)
        self.memories = [Memory() for _ in range(self.num_envs)]

    def reset(self, mask):
        """Forget the maps of the lanes in mask, bool (num_envs,)."""
        self.maps[mask], self.shift[mask], self.rewarded[mask] = UNKNOWN, 0, False
        for lane in np.flatnonzero(mask):
            self.memories[lane] = Memory()

    def update(self, action, reward):
        self.rewarded = reward > 0.0

    def act(self, obs):
        return np.array([self.act_one(lane, {key: value[lane] for key, value in obs.items()}) for lane in range(self.num_envs)])

    def act_one(self, lane, obs):
        known, heading, middle = self.maps[lane], int(obs["heading"]), self.side // 2
        counted = np.round(obs["odometry"][::-1]).astype(np.int64) + middle
        cone = obs["cone"].reshape(4, -1)[:, self.params["pixels"]]  # of the cells of the view, in their order
        seen = cone[0] == 1
        if self.anchor:
            self.shift[lane] += best_shift(known, self.seen_cells(counted + self.shift[lane], heading)[seen], cone[1][seen])
        position = counted + self.shift[lane]
        cells = self.seen_cells(position, heading)[seen]
        inside = ((cells > 0) & (cells < self.side - 1)).all(1)
        cost = np.where(cone[1] == 1, np.inf, np.where(cone[2] == 1, 1.0 / self.params["rough_success"], 1.0))[seen]
        known[tuple(cells[inside].T)] = cost[inside]
        self.locate(lane, obs, position, heading, cells[cone[3][seen] == 1])
        for row, col in self.memories[lane].targets(position):
            if 0 < row < self.side - 1 and 0 < col < self.side - 1 and known[row, col] < np.inf:
                action = next_action(known, np.array([row]), np.array([col]), *position, heading, True)
                if action >= 0:
                    return action
        action = next_action(known, *frontier(known), *position, heading, False)
        if action < 0:  # nowhere left to go
            known[:] = UNKNOWN
        return LEFT if action < 0 else action

    def seen_cells(self, position, heading):
        """(rows, columns) of the cells of the view, int64 (cells, 2), from (row, column) of the agent."""
        offsets = self.model.cone[:, :1] * step_of(heading) + self.model.cone[:, 1:] * step_of(heading + 1)
        return position + offsets

    def locate(self, lane, obs, position, heading, goals):
        """Remember where targets are said to be, and forget those that aren't there."""
        memory = self.memories[lane]
        if self.feature:
            if self.rewarded[lane]:
                memory.visit(position)
            for confidence, ahead, right, *kind in obs["detections"]:
                if confidence > 0.0 and kind[int(obs["target"])] > 0.5:
                    memory.sight(position + ahead * step_of(heading) + right * step_of(heading + 1), confidence)
            memory.leave(position)
        elif len(goals):
            memory.places, memory.certain = [[goals[0].astype(float), 1.0]], True
        elif not memory.places and not memory.certain:
            place = position + obs["goal"][0] * step_of(heading) + obs["goal"][1] * step_of(heading + 1)
            memory.places = [[place, 1.0]]
        elif not memory.certain and self.maps[lane][tuple(np.round(memory.places[0][0]).astype(int))] != UNKNOWN:
            memory.places, memory.certain = [], True  # it isn't there: what is left is to look around


class Memory:
    """Where targets have been sighted."""

    def __init__(self):
        self.places = []  # [place (row, column), confidence]
        self.done = []  # places visited
        self.certain = False  # the goal has been seen, or looked for in vain

    def sight(self, place, confidence):
        """Average sightings of the same place by confidence."""
        if any(np.abs(place - other).max() <= SAME for other in self.done):
            return
        for entry in self.places:
            if np.abs(place - entry[0]).max() <= SAME:
                entry[0] = (entry[0] * entry[1] + place * confidence) / (entry[1] + confidence)
                entry[1] += confidence
                return
        self.places.append([place, confidence])

    def visit(self, position):
        """A landmark has been found beside this position."""
        near = [place for place, _ in self.places if np.abs(place - position).max() <= SAME]
        self.done.append(min(near, key=lambda place: np.abs(place - position).max(), default=position))
        self.places = [entry for entry in self.places if np.abs(entry[0] - self.done[-1]).max() > SAME]

    def leave(self, position):
        """Forget a place on which there is nothing."""
        self.places = [entry for entry in self.places if np.abs(np.round(entry[0]) - position).max() > 0]

    def targets(self, position):
        """Cells (row, column) worth going to, the nearest first."""
        places = [place for place, confidence in self.places if confidence >= WORTH]
        return [np.round(place).astype(int) for place in sorted(places, key=lambda place: np.abs(place - position).sum())]


class Oracle:
    """Knows map and targets, and walks to the targets in the order that takes the fewest expected steps.

    It doesn't know of passes before they are closed, nor of skids. The length of a tour is that of one through the targets' own
    cells, while "feature" asks for the cells around them: the next order may be a few steps shorter.

    Args:
        envs: a vector environment of TopoNav, whose states are read.
    """

    def __init__(self, envs):
        self.envs, self.params, self.num_envs = envs, envs.env.params[0], envs.num_envs
        self.plans = [None] * self.num_envs

    def reset(self, mask):
        for lane in np.flatnonzero(mask):
            self.plans[lane] = None

    def update(self, action, reward):
        """All is in the state."""

    def act(self, obs):
        states = self.envs.get_state()
        return np.array([self.act_one(lane, states[lane]) for lane in range(self.num_envs)])

    def act_one(self, lane, state):
        key = bool(state["closed"]), int(state["found"])
        if self.plans[lane] is None or self.plans[lane][0] != key:
            self.plans[lane] = key, self.plan(state)
        stride = int(self.params["stride"])
        return best_action(*self.plans[lane][1], *divmod(int(state["cell"]), stride), int(state["heading"]))

    def plan(self, state):
        """Expected steps of moves onto cells, and those left to the next target by cell and heading."""
        stride, reach = int(self.params["stride"]), int(self.params["reach"])
        ground = state["ground"].reshape(stride, stride)
        costs = np.where(ground & BLOCKED, np.inf, np.where(ground & ROUGH, 1.0 / self.params["rough_success"], 1.0))
        row, col = divmod(int(state["cell"]), stride)
        left = [divmod(int(cell), stride) for i, cell in enumerate(state["targets"]) if not state["found"] >> i & 1]
        fields = []
        for r, c in left:
            near = np.array(list(itertools.product(range(r - reach, r + reach + 1), range(c - reach, c + reach + 1))))
            near = near[(costs[tuple(near.T)] < np.inf) & (near != (row, col)).any(1)]  # who starts there has to move
            fields.append(steps_to(costs, near[:, 0], near[:, 1], -1, -1, -1, True))

        def length(order):
            way = [fields[order[0]][row, col, int(state["heading"])]]
            way += [fields[b][left[a]].min() for a, b in itertools.pairwise(order)]
            return sum(way)

        return costs, fields[min(itertools.permutations(range(len(left))), key=length)[0]]


def step_of(heading):
    """(rows, columns) of a step ahead, int64 (2,)."""
    return np.array((DOWN[heading & 3], EAST[heading & 3]))


def best_shift(known, cells, blocked):
    """The step (rows, columns) of at most one cell after which what is seen fits the map; none unless that is clear."""
    mistakes = {}
    for step in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)):
        places = np.clip(cells + step, 0, len(known) - 1)
        costs = known[tuple(places.T)]
        mistakes[step] = ((costs != UNKNOWN) & ((costs == np.inf) != (blocked == 1))).sum()
    best = min(mistakes, key=mistakes.get)
    return best if mistakes[best] + 1 < mistakes[0, 0] else (0, 0)


def frontier(known):
    """Rows and columns of unknown cells beside known free ones."""
    free = (known > UNKNOWN) & (known < np.inf)
    beside = np.zeros_like(free)
    beside[1:-1, 1:-1] = free[:-2, 1:-1] | free[2:, 1:-1] | free[1:-1, :-2] | free[1:-1, 2:]
    return np.nonzero(beside & (known == UNKNOWN))


def next_action(known, rows, cols, row, col, heading, through):
    """The first action on the way to the nearest of some cells, -1 if there is none. `through`: unknown cells count as free."""
    if len(rows) == 0:
        return -1
    steps = steps_to(known, rows, cols, row, col, heading, through)
    return best_action(known, steps, row, col, heading) if steps[row, col, heading] < math.inf else -1


@kernel
def steps_to(costs, rows, cols, row, col, heading, through):
    """Expected steps to the nearest of some cells, float64 (rows, columns, 4) by cell and heading, by searching back from them.

    `costs` are expected steps of moves onto cells, UNKNOWN where nobody knows: 1 if `through`, otherwise only the cells
    searched from may be unknown. The search ends at (row, col, heading), if that is on the map.
    """
    steps = np.full((costs.shape[0], costs.shape[1], 4), np.inf)
    queue = [(0.0, 0.0, np.int64(0), np.int64(0), np.int64(0))]  # estimate, steps, row, column, heading: the type is all
    queue.pop()
    for i in range(len(rows)):
        for h in range(4):
            steps[rows[i], cols[i], h] = 0.0
            heapq.heappush(queue, (least(rows[i], cols[i], row, col), 0.0, np.int64(rows[i]), np.int64(cols[i]), np.int64(h)))
    while len(queue) > 0:
        _, taken, r, c, h = heapq.heappop(queue)
        if taken > steps[r, c, h]:
            continue
        if r == row and c == col and h == heading:
            break
        for turn in (1, 3):
            if taken + 1.0 < steps[r, c, (h + turn) & 3]:
                steps[r, c, (h + turn) & 3] = taken + 1.0
                heapq.heappush(queue, (taken + 1.0 + least(r, c, row, col), taken + 1.0, r, c, (h + turn) & 3))
        r_before, c_before = r - DOWN[h], c - EAST[h]
        if 0 <= r_before < costs.shape[0] and 0 <= c_before < costs.shape[1]:
            further = taken + (costs[r, c] if costs[r, c] != UNKNOWN else 1.0)
            enterable = costs[r_before, c_before] < np.inf and (through or costs[r_before, c_before] != UNKNOWN)
            if (enterable or (r_before == row and c_before == col)) and further < steps[r_before, c_before, h]:
                steps[r_before, c_before, h] = further
                heapq.heappush(queue, (further + least(r_before, c_before, row, col), further, r_before, c_before, h))
    return steps


@kernel
def least(r, c, row, col):
    """Steps from (row, col) to (r, c), at least."""
    return 1.0 * (abs(r - row) + abs(c - col)) if row >= 0 else 0.0


@kernel
def best_action(costs, steps, row, col, heading):
    """The action after which the fewest steps are expected to be left."""
    turn_left, turn_right = 1.0 + steps[row, col, (heading + 3) & 3], 1.0 + steps[row, col, (heading + 1) & 3]
    r, c = row + DOWN[heading], col + EAST[heading]
    ahead = np.inf
    if 0 <= r < costs.shape[0] and 0 <= c < costs.shape[1]:
        ahead = steps[r, c, heading] + (costs[r, c] if costs[r, c] != UNKNOWN else 1.0)
    if ahead <= turn_left and ahead <= turn_right:
        return FORWARD if ahead < np.inf else STAY
    return LEFT if turn_left <= turn_right else RIGHT
