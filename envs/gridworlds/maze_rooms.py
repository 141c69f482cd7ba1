"""MazeRooms: a fixed maze of 5x5 rooms with the only reward at its far end, hundreds of steps from the start.

Observation: float32 (139,): one-hot column (45), one-hot row (45), then the 7x7 cells around the agent row by row, north up:
             0 floor, 1 wall (also beyond the edge), 0.5 door, -1 goal. distractors=40 appends 40 numbers in [-1, 1) that
             are constant within a room and say nothing about the task.
Action:      Discrete(5): 0 north, 1 east, 2 south, 3 west, 4 stay. Walls stop the agent.
Reward:      1 on reaching the goal; otherwise 0.
Terminates:  on the goal.  Truncates: after max_steps (500).
Info:        cell (row * 45 + column), visited (distinct cells in this episode), first_visit (the step that reached this cell
             first), coverage (visited / reachable cells), success, room (row of rooms * 5 + column of rooms).
Layout:      5x5 blocks of 9x9 cells, each a 7x7 room within its own walls; hence 45x45 cells. A door is one cell wide and
             leads through both walls. 24 doors form a random spanning tree of the rooms, that of a random
             depth-first walk (its paths are long: uniformly random trees are deep enough in 0.3 % of seeds only); 4 more
             join random other neighbours. The start is the centre of the room in the north-west corner, the goal the room
             cell that is farthest from it. The layout is that of the first seed >= layout_seed whose goal lies at least
             min_depth (150) steps away. Everything is deterministic, and the same in every episode.
Source:      the exploration run for "Exploration by Random Distribution Distillation" (2025, arXiv:2505.11044) in this suite.
"""

import collections
import functools
import random
from typing import NamedTuple

import numpy as np
from gymnasium import spaces

from explore_gym.envs.engine import KernelEnv, kernel, state_dtype, vectorize
from explore_gym.envs.gridworlds.grid import MAX_SIZE, check_integer, count_visit

NORTH, EAST, SOUTH, WEST, STAY = range(5)
FLOOR, WALL, DOOR, GOAL = 0.0, 1.0, 0.5, -1.0  # as observed
REACH = 3  # cells that the agent sees to each side
WINDOW = 2 * REACH + 1
MAX_TRIES = 2000  # seeds tried for a layout of the required depth


@kernel
def reset(params, state):
    state.row, state.col = params.start_row, params.start_col
    for index in range(state.first_visits.shape[0]):
        state.first_visits[index] = -1
    state.visited = 0
    count_visit(state, cell_id(params, state))


@kernel
def step(params, state, action):
    row = state.row + (action == SOUTH) - (action == NORTH)
    col = state.col + (action == EAST) - (action == WEST)
    if params.seen[row + REACH, col + REACH] != WALL:
        state.row, state.col = row, col
        count_visit(state, cell_id(params, state))
    reached = at_goal(params, state)
    return (1.0 if reached else 0.0), reached


@kernel
def cell_id(params, state):
    return np.int64(state.row) * (params.seen.shape[0] - 2 * REACH) + np.int64(state.col)


@kernel
def at_goal(params, state):
    return state.row == params.goal_row and state.col == params.goal_col


@kernel
def room_of(params, state):
    return state.row // params.pitch * params.rooms + state.col // params.pitch


@kernel
def observe(params, state, obs):
    size = params.seen.shape[0] - 2 * REACH
    for i in range(2 * size):
        obs[i] = 0.0
    obs[state.col] = 1.0
    obs[size + state.row] = 1.0
    for i in range(WINDOW):
        for j in range(WINDOW):
            obs[2 * size + WINDOW * i + j] = params.seen[state.row + i, state.col + j]


@kernel
def observe_with_distractors(params, state, obs):
    observe(params, state, obs)
    distractors = params.distractors[room_of(params, state)]
    first = obs.shape[0] - distractors.shape[0]
    for i in range(distractors.shape[0]):
        obs[first + i] = distractors[i]


@kernel
def inform(params, state, info):
    info.cell = cell_id(params, state)
    info.visited = state.visited
    info.first_visit = state.first_visits[info.cell]
    info.coverage = state.visited / params.num_reachable
    info.success = at_goal(params, state)
    info.room = room_of(params, state)


class MazeRooms(KernelEnv):
    """A deterministic maze of rooms with one goal at its far end.

    Attributes:
        num_cells: cells of the grid, 2025; a cell's id is row * 45 + column.
        reachable: int64 (K,), ids of the cells that the agent can stand on.
        distances: int64 (45, 45), steps from the start, -1 in walls.
        shortest_path_length: steps from the start to the goal.
        optimal_return: 1 if the time limit leaves room for them, else 0.
        seed_used: the seed of the layout, the first from layout_seed on that is deep enough.

    Args:
        layout_seed: where the search for a layout starts.
        distractors: number of observation components that are constant within a room.
        max_steps: time limit in steps.
        rooms: rooms along each side, at least 2; room_size: floor cells along each side of a room.
        extra_doors: doors beside those of the spanning tree.
        min_depth: least distance from start to goal, in steps.

    Raises:
        ValueError: an argument is out of range, or no layout of that depth turned up.
    """

    dynamics = (reset, step, observe, inform)
    keys = {"up": NORTH, "right": EAST, "down": SOUTH, "left": WEST, "s": STAY}
    untracked = ("visited", "first_visits")

    def __init__(
        self,
        layout_seed=0,
        distractors=0,
        max_steps=500,
        rooms=5,
        room_size=7,
        extra_doors=4,
        min_depth=150,
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("layout_seed", layout_seed, 0, 2**63 - 1)
        check_integer("distractors", distractors, 0, 4096)
        check_integer("max_steps", max_steps, 1, 2**31 - 1)
        check_integer("room_size", room_size, 1, MAX_SIZE // 2 - 2)
        check_integer("rooms", rooms, 2, MAX_SIZE // (room_size + 2))
        check_integer("extra_doors", extra_doors, 0, (rooms - 1) ** 2)
        check_integer("min_depth", min_depth, 0, MAX_SIZE**2)
        maze = deep_maze(layout_seed, rooms, room_size, extra_doors, min_depth)
        size = len(maze.walls)
        seen = np.full((size + 2 * REACH, size + 2 * REACH), WALL, np.float32)
        middle = seen[REACH:-REACH, REACH:-REACH]
        middle[~maze.walls] = FLOOR
        middle[tuple(zip(*maze.doors, strict=True))] = DOOR
        middle[maze.goal] = GOAL
        noise = random.Random(maze.seed)
        values = [[2.0 * noise.random() - 1.0 for _ in range(max(distractors, 1))] for _ in range(rooms**2)]
        if distractors:
            self.dynamics = (reset, step, observe_with_distractors, inform)
        self.maze, self.rooms, self.seed_used = maze, rooms, maze.seed
        self.num_cells, self.reachable = size**2, np.flatnonzero(maze.distances >= 0)
        self.distances = maze.distances
        self.shortest_path_length = int(maze.distances[maze.goal])
        super().__init__(
            state=state_dtype(row=np.int32, col=np.int32, visited=np.int32, first_visits=(np.int32, (size**2,))),
            params=dict(
                seen=seen,
                distractors=np.array(values, np.float32),
                pitch=room_size + 2,
                rooms=rooms,
                num_reachable=len(self.reachable),
                start_row=maze.start[0],
                start_col=maze.start[1],
                goal_row=maze.goal[0],
                goal_col=maze.goal[1],
            ),
            observation_space=spaces.Box(-1.0, 1.0, (2 * size + WINDOW**2 + distractors,), np.float32),
            action_space=spaces.Discrete(5),
            info=dict(cell=int, visited=int, first_visit=int, coverage=float, success=bool, room=int),
            max_steps=max_steps,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )
        self.optimal_return = 1.0 if self.shortest_path_length <= self.time_limit else 0.0

    def cell_observations(self):
        """The observation at every reachable cell: its ids, int64 (K,), and observations, float32 (K, obs_dim)."""
        records = np.zeros(len(self.reachable), self.state_dtype)
        records["row"], records["col"] = np.divmod(self.reachable, len(self.distances))
        obs, info = self.observations.empty(len(records)), self.metrics.empty(len(records))
        args = (self.params, records, np.zeros(len(records), bool), obs, info)
        self.loops.get("reset_batch", args)(*args)
        return self.reachable.copy(), obs

    def draw(self, canvas, state):
        walls = self.maze.walls
        canvas.size(*walls.shape)
        for row, col in np.argwhere(walls).tolist():
            canvas.rect(col, row, 1, 1, (70, 74, 82), "#")
        for row, col in self.maze.doors:
            canvas.rect(col, row, 1, 1, (222, 214, 196))
        for index in np.flatnonzero(state.first_visits >= 0).tolist():
            canvas.rect(index % len(walls), index // len(walls), 1, 1, (168, 205, 240), ".")
        for (row, col), color, char in ((self.maze.start, (150, 150, 150), "S"), (self.maze.goal, (60, 170, 80), "G")):
            canvas.rect(col, row, 1, 1, color, char)
        canvas.circle(state.col + 0.5, state.row + 0.5, 0.45, (214, 66, 52), "A")


class Maze(NamedTuple):
    """A layout: walls bool (size, size), cells as (row, col), distances int64 (size, size) from the start, -1 in walls."""

    seed: int
    edges: list  # pairs of room numbers, those of the spanning tree first
    walls: np.ndarray
    doors: list
    start: tuple
    goal: tuple
    distances: np.ndarray


@functools.lru_cache(maxsize=32)
def deep_maze(layout_seed, rooms, room_size, extra_doors, min_depth):
    """The layout of the first seed from layout_seed on whose goal is at least min_depth steps away."""
    deepest = 0
    for seed in range(layout_seed, layout_seed + MAX_TRIES):
        maze = make_maze(seed, rooms, room_size, extra_doors)
        depth = int(maze.distances[maze.goal])
        if depth >= min_depth:
            return maze
        deepest = max(deepest, depth)
    raise ValueError(
        f"min_depth must suit the maze: {MAX_TRIES} seeds from {layout_seed} on with {rooms}x{rooms} rooms of size {room_size} "
        f"reach {deepest} steps, got {min_depth}"
    )


def make_maze(seed, rooms, room_size, extra_doors):
    """Rooms, the doors of a spanning tree (a random depth-first walk's first entries), and extra doors."""
    rng = random.Random(seed)  # of its methods only random() keeps its numbers in all versions of Python

    def pick(items):
        return items[int(rng.random() * len(items))]

    pitch = room_size + 2
    neighbours = {
        (i, j): [n for n in ((i - 1, j), (i, j + 1), (i + 1, j), (i, j - 1)) if min(n) >= 0 and max(n) < rooms]
        for i in range(rooms)
        for j in range(rooms)
    }
    edges, path, entered = [], [(0, 0)], {(0, 0)}
    while path:
        fresh = [n for n in neighbours[path[-1]] if n not in entered]
        if fresh:
            path.append(pick(fresh))
            entered.add(path[-1])
            edges.append((path[-2], path[-1]))
        else:
            path.pop()
    closed = [(a, b) for a in neighbours for b in neighbours[a] if a < b and (a, b) not in edges and (b, a) not in edges]
    for _ in range(extra_doors):
        edges.append(pick(closed))
        closed.remove(edges[-1])

    walls = np.ones((rooms * pitch, rooms * pitch), bool)
    for i, j in neighbours:
        walls[i * pitch + 1 : (i + 1) * pitch - 1, j * pitch + 1 : (j + 1) * pitch - 1] = False
    floor, doors = ~walls, []
    for a, b in edges:
        (i, j), (k, _) = sorted((a, b))
        offset = 1 + int(rng.random() * room_size)
        if k > i:  # b lies below a
            doors += [((i + 1) * pitch - 1, j * pitch + offset), ((i + 1) * pitch, j * pitch + offset)]
        else:
            doors += [(i * pitch + offset, (j + 1) * pitch - 1), (i * pitch + offset, (j + 1) * pitch)]
    for door in doors:
        walls[door] = False

    start = (pitch // 2, pitch // 2)
    distances = steps_from(start, walls)
    row, col = np.unravel_index(np.argmax(np.where(floor, distances, -1)), walls.shape)
    numbered = [(a[0] * rooms + a[1], b[0] * rooms + b[1]) for a, b in edges]
    return Maze(seed, numbered, walls, doors, start, (int(row), int(col)), distances)


def steps_from(start, walls):
    """Breadth-first search: steps from a cell to each other one, int64 (rows, cols), -1 where no path leads."""
    distances = np.full(walls.shape, -1, np.int64)
    distances[start] = 0
    queue = collections.deque([start])
    while queue:
        row, col = queue.popleft()
        for neighbour in ((row - 1, col), (row, col + 1), (row + 1, col), (row, col - 1)):
            if not walls[neighbour] and distances[neighbour] < 0:
                distances[neighbour] = distances[row, col] + 1
                queue.append(neighbour)
    return distances


MazeRoomsVector = vectorize(MazeRooms)
