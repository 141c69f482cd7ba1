"""Scripted drivers of HardMaze: one that knows the maze, and one that follows walls by its sensors alone.

env = gym.make("Explore/HardMaze-v0")
total, steps, info = drive(env, Oracle(env, goal=0))
"""

import heapq
import math

import numpy as np

from explore_gym.envs.navigation.hard_maze import HIGH, LOW, RADIUS, RANGE, SPEED

GRID = 5.0  # distance of the points that the oracle plans on
MARGIN = 3.0  # to walls, beside the robot's radius, that its plan keeps
NEAR, STILL = 0.5, 0.001  # distances at which a point of the way, and the goal, are reached
STEEPEST = SPEED / RADIUS  # rad, the largest turn in a step
FOLLOWED = 35.0  # distance that the wall follower keeps along the laser beside it
ARC = 32.0  # radius of its turns around the ends of walls


def drive(env, driver, seed=0):
    """Drive an episode. Returns the sum of rewards, the number of steps and the last info."""
    obs, info = env.reset(seed=seed)
    total, steps, over = 0.0, 0, False
    while not over:
        obs, reward, terminated, truncated, info = env.step(driver(obs, start=steps == 0))
        total, steps, over = total + reward, steps + 1, terminated or truncated
    return total, steps, info


def wheels(turn, pace):
    """The action, float32 (2,), that turns by an angle in rad and drives as much of the distance as it can beside."""
    turn = min(max(turn, -STEEPEST), STEEPEST)
    pace = min(max(pace, 0.0), SPEED - abs(turn) * RADIUS)
    return np.array([pace - turn * RADIUS, pace + turn * RADIUS], np.float32).clip(-SPEED, SPEED)


class WallFollower:
    """Straight on to the first wall, then along walls, which it keeps on one side; it knows no goals and stops at none.

    Args:
        env: a HardMaze with lasers at -45, 0 and 45 degrees.
        side: 1 to keep walls on the right, -1 on the left.
    Raises:
        ValueError: the lasers are others, or side is neither.
    """

    def __init__(self, env, side=1):
        if np.degrees(env.unwrapped.angles).round(6).tolist() != [-45.0, 0.0, 45.0]:
            raise ValueError(f"a wall follower needs lasers at -45, 0 and 45 degrees, got {np.degrees(env.unwrapped.angles)}")
        if side not in (-1, 1):
            raise ValueError(f"side must be 1 or -1, got {side!r}")
        self.side, self.found = side, False

    def __call__(self, obs, start=False, reward=0.0):
        ahead, beside, pressed = RANGE * obs[1], RANGE * obs[1 + self.side], obs[3:].any()
        self.found = (self.found and not start) or ahead < FOLLOWED or beside < FOLLOWED
        if not self.found:
            return wheels(0.0, SPEED)
        if pressed or ahead < FOLLOWED:
            return wheels(-self.side * STEEPEST / 2.0, 0.0)
        return wheels(self.side * min(0.01 * (beside - FOLLOWED), SPEED / ARC), SPEED)


class Oracle:
    """The shortest way to a goal, on points of a grid that the robot can reach, and then no more motion.

    Args:
        env: a HardMaze.
        goal: number of the goal.
    Raises:
        ValueError: there is no such goal, or no way to it.
    """

    def __init__(self, env, goal=0):
        self.env = env.unwrapped
        if not 0 <= goal < len(self.env.goals):
            raise ValueError(f"goal must be in [0, {len(self.env.goals)}), got {goal!r}")
        self.goal = self.env.goals[goal, :2]
        axis = np.arange(LOW + RADIUS + MARGIN, HIGH - RADIUS - MARGIN, GRID)
        self.points = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
        self.free = self.clearance(self.points) >= RADIUS + MARGIN
        self.distances, self.target = self.plan(), self.goal
        if np.isinf(self.distances[self.node(self.env.params["start"][0, :2])]):
            raise ValueError(f"there is no way from the start to goal {goal}")

    def clearance(self, points):
        """The distance from points (..., 2) to the nearest wall."""
        nearest = np.minimum(points - LOW, HIGH - points).min(-1)
        for x, y, ux, uy, length, half in self.env.walls:
            away = points - (x, y)
            along = np.clip(away @ (ux, uy), 0.0, length)
            nearest = np.minimum(nearest, np.hypot(*np.moveaxis(away - along[..., None] * (ux, uy), -1, 0)) - half)
        return nearest

    def node(self, point):
        """The free point of the grid that is nearest to a point."""
        away = np.hypot(*np.moveaxis(self.points - point, -1, 0))
        return np.unravel_index(np.where(self.free, away, np.inf).argmin(), self.free.shape)

    def plan(self):
        """The distance to the goal from each point of the grid (Dijkstra)."""
        distances, first = np.full(self.free.shape, np.inf), tuple(map(int, self.node(self.goal)))
        distances[first], heap = 0.0, [(0.0, first)]
        moves = [(i, j) for i in range(-2, 3) for j in range(-2, 3) if math.gcd(i, j) == 1]
        while heap:
            distance, (i, j) = heapq.heappop(heap)
            if distance > distances[i, j]:
                continue
            for di, dj in moves:
                near, farther = (i + di, j + dj), distance + GRID * math.hypot(di, dj)
                inside = 0 <= near[0] < len(self.free) and 0 <= near[1] < len(self.free)
                if inside and self.free[near] and farther < distances[near]:
                    distances[near] = farther
                    heapq.heappush(heap, (farther, near))
        return distances

    def visible(self, position, point, room):
        """Whether the robot can drive straight on to a point with that much room beside."""
        shares = np.linspace(0.0, 1.0, 2 + int(np.hypot(*(point - position)) / 2.0))[:, None]
        return bool((self.clearance(position + shares * (point - position)) >= room).all())

    def waypoint(self, position):
        """The goal, or else the last point of the way that the robot can drive straight on to."""
        room = min(RADIUS + MARGIN / 2.0, float(self.clearance(position)))  # it may stand nearer to a wall than the plan does
        if self.visible(position, self.goal, room):
            return self.goal
        (i, j), chosen = self.node(position), None
        while self.distances[i, j] > 0.0:
            rows, columns = slice(max(i - 2, 0), i + 3), slice(max(j - 2, 0), j + 3)
            down = np.unravel_index(self.distances[rows, columns].argmin(), self.distances[rows, columns].shape)
            i, j = rows.start + int(down[0]), columns.start + int(down[1])
            if chosen is not None and not self.visible(position, self.points[i, j], room):
                break
            chosen = self.points[i, j]
        return chosen

    def __call__(self, obs, start=False, reward=0.0):
        state = self.env.get_state()
        position = np.array([state["x"], state["y"]])
        if start or (self.target is not self.goal and np.hypot(*(self.target - position)) < NEAR):
            self.target = self.waypoint(position)
        dx, dy = self.target - position
        distance = math.hypot(dx, dy)
        if distance < STILL:
            return wheels(0.0, 0.0)
        turn = math.remainder(math.atan2(dy, dx) - float(state["theta"]), 2.0 * math.pi)
        return wheels(turn, distance if abs(turn) < STEEPEST / 2.0 else 0.0)
