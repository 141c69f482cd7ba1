"""Plans for XLand's tasks: certificates that a task can be solved, and how fast at the latest.

`XLand.shortest_path` is exact, by breadth-first search over everything that can happen; it is for small tasks. `plan` follows
the tree of production from its leaves: it fetches what lies in the world, brings together what a rule wants together, puts
aside what is in its way in the pocket, and takes a short way between two such deeds. Its actions are played in a copy of the
environment, so a plan that is returned leads to the goal: its length is an upper bound of the fewest steps. It knows the
world, rules and goal, which agents have to find out. None says nothing: the planner never clears a blocked way, for instance.
"""

import copy
from collections import deque

import numpy as np

from explore_gym.envs.xland.logic import ABOVE, AT, HOLD, NEAR, NONE, ON, SEE
from explore_gym.envs.xland.tasks import code_of
from explore_gym.envs.xland.world import (
    AGENT,
    CLOSED,
    EMPTY,
    FLOOR,
    FORWARD,
    MAX_OPTIONS,
    PICK_UP,
    PICKABLE,
    PLAIN_FLOOR,
    PUT_DOWN,
    TOGGLE,
    TURN_LEFT,
    TURN_RIGHT,
    WALKABLE,
)
from explore_gym.envs.xland.xland import XLand

STEPS = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left


def plan(env: XLand) -> list[int] | None:
    """Actions that lead from the environment's state to the goal of this trial, None if none are found.

    The environment stays as it is. Options are tried in turn, and the shortest plan is returned. The clock stands still.
    """
    plans = [Plan(env, option).make() for option in range(MAX_OPTIONS)]
    return min((actions for actions in plans if actions is not None), key=len, default=None)


class Plan:
    """The attempt to fulfil one option of the goal."""

    def __init__(self, env, option):
        self.env = copy.deepcopy(env)
        self.env.params["trials"], self.env.params["holding"] = 1, False  # the goal is the end
        self.env.params["time_limit"], self.env.params["trial_steps"] = 0, 2**30
        self.env.set_state(trial=0)
        self.option, self.actions, self.done = option, [], False

    def make(self):
        state = self.env.get_state()
        goal = state["goals"][0, self.option].tolist()

        def rank(k):  # first things, then the pocket, then where the agent is to be
            kind, _, a, _ = goal[k]
            return 0 if a & 15 != AGENT else 1 if kind == HOLD else 2

        order = sorted((k for k, (kind, negated, _, _) in enumerate(goal) if kind != NONE and not negated), key=rank)
        for k in order:
            nodes = [int(node) for node in state["goal_nodes"][0, self.option, k]]
            if not all(self.produce(node) for node in nodes if node >= 0):
                break
            kind, _, a, b = goal[k]
            if not self.done and not self.fulfil(kind, a, b):
                break
        return self.actions if self.done and self.env.get_state()["options"][0, self.option] else None

    def produce(self, node):
        """Have a tile of the tree, in the world or in the pocket."""
        state = self.env.get_state()
        tile, rule, child = (
            code_of(int(state["node_tile"][node])),
            int(state["node_rule"][node]),
            int(state["node_child"][node]),
        )
        if self.done or self.exists(tile):
            return True
        if rule < 0:
            return False
        kind, a, b, _ = (int(part) for part in state["rules"][rule])
        children = [child] if a & 15 == AGENT else [child, child + 1]
        there = all(self.produce(node) for node in children)
        if self.done or self.exists(tile):  # one production may have set off the next
            return True
        return there and self.apply(kind, a, b) and (self.done or self.exists(tile))

    def apply(self, kind, a, b):
        """Do what a rule waits for."""
        if kind == HOLD:
            return self.fetch(b)
        if a & 15 == AGENT:
            if self.pocket == b and not self.stash():
                return False
            return not self.find(b) or self.go_beside(kind, b)
        return self.bring_together(kind, a, b)

    def fulfil(self, kind, a, b):
        """Make a condition of the goal hold."""
        if a & 15 != AGENT:
            if kind == AT:
                return self.carry(a, [(b >> 8, b & 255)])
            if kind == ON:
                return self.carry(a, self.floors(b >> 4))
            return self.bring_together(kind, a, b)
        if kind == HOLD:
            return self.fetch(b)
        if self.pocket == b and not self.stash():
            return False
        if kind == AT:
            return self.go([(b >> 8, b & 255)])
        if kind == ON:
            return self.go(self.find(b))
        if kind == SEE:
            return self.face(self.find(b))
        return self.go_beside(kind, b)

    @property
    def pocket(self):
        return int(self.env.get_state()["pocket"][0])

    def grid(self):
        return self.env.get_state()["grid"].astype(int)

    def find(self, tile):
        """Cells (row, col) with a tile."""
        return [(int(r), int(c)) for r, c in np.argwhere(self.grid() & 255 == tile)]

    def exists(self, tile):
        return self.pocket == tile or bool(self.find(tile))

    def floors(self, color):
        """Floors of a colour on which nothing lies."""
        return self.find(FLOOR | color << 4)

    def bring_together(self, kind, a, b):
        """Have b as a neighbour of a, on the side that the condition asks for: one of them is carried to the other."""
        directions = range(4) if kind == NEAR else [kind - ABOVE]

        def around(tile, sign):
            spots = [(r + sign * STEPS[d][0], c + sign * STEPS[d][1]) for r, c in self.find(tile) for d in directions]
            return [spot for spot in spots if self.grid()[spot] & 15 == FLOOR]

        if self.pocket == a:
            return self.carry(a, around(b, -1), self.find(b))
        if self.carry(b, around(a, 1), self.find(a)):
            return True
        return not self.done and bool(PICKABLE >> (a & 15) & 1) and self.carry(a, around(b, -1), self.find(b))

    def carry(self, tile, cells, partners=()):
        """Put a thing on one of these cells, without standing on its partners: nothing is produced under an agent."""
        if not cells or not self.fetch(tile):
            return False
        return self.done or self.pocket != tile or (self.face(cells, partners) and self.act(PUT_DOWN))

    def fetch(self, tile):
        """Pick up a thing; what it turns into then is a matter of rules."""
        if self.pocket == tile:
            return True
        if self.pocket != EMPTY and not self.stash():
            return False
        return self.done or (bool(PICKABLE >> (tile & 15) & 1) and self.face(self.find(tile)) and self.act(PICK_UP))

    def stash(self):
        """Put what is carried where it is near nothing and in nobody's way."""
        grid = self.grid()
        plain = [
            (int(r), int(c))
            for r, c in np.argwhere(grid == PLAIN_FLOOR)
            if all(grid[r + down, c + east] & 15 in (FLOOR, 4) for down, east in STEPS)
        ]
        return self.face(plain) and self.act(PUT_DOWN)

    def go_beside(self, kind, tile):
        """Arrive beside a thing, so that it is on the side that the condition asks for."""
        directions = range(4) if kind == NEAR else [kind - ABOVE]
        return self.go([(r - STEPS[d][0], c - STEPS[d][1]) for r, c in self.find(tile) for d in directions])

    def go(self, cells):
        """Walk to one of these cells."""
        return self.walk(lambda row, col, direction: (row, col) in cells)

    def face(self, cells, off=()):
        """Walk to where one of these cells is ahead, but not to one that is `off`."""

        def there(row, col, direction):
            return (row, col) not in off and (row + STEPS[direction][0], col + STEPS[direction][1]) in cells

        return self.walk(there)

    def walk(self, there):
        """Few actions to a pose for which there(row, col, direction) is true, through doors."""
        if self.done:
            return True
        grid, state = self.grid(), self.env.get_state()
        start = int(state["row"][0]), int(state["col"][0]), int(state["direction"][0])
        before = {start: None}
        queue = deque([start])
        while queue:
            pose = queue.popleft()
            if there(*pose):
                way = []
                while before[pose] is not None:
                    pose, actions = before[pose]
                    way.append(actions)
                return all(self.act(action) for actions in reversed(way) for action in actions)
            row, col, direction = pose
            ahead = row + STEPS[direction][0], col + STEPS[direction][1]
            kind = grid[ahead] & 15
            moves = [((row, col, (direction + 1) % 4), (TURN_RIGHT,)), ((row, col, (direction + 3) % 4), (TURN_LEFT,))]
            if WALKABLE >> kind & 1:
                moves.append(((*ahead, direction), (FORWARD,)))
            elif kind == CLOSED:
                moves.append(((*ahead, direction), (TOGGLE, FORWARD)))
            for after, actions in moves:
                if after not in before:
                    before[after] = pose, actions
                    queue.append(after)
        return False

    def act(self, action):
        """Take an action, unless the goal has been reached. Returns True."""
        if not self.done:
            _, _, self.done, _, _ = self.env.step(action)
            self.actions.append(action)
        return True
