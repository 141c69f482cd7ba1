"""Walks on a grid that a set function pays for: moves, observations and drawing, shared by the coverage tasks.

A walk visits one cell at each time, its start included. It is worth F(visits), where F is monotone and submodular: nothing
that is added makes it worth less, and the more there is already, the less an addition gains. A step's reward is the
marginal gain of the cell it leads to, F(walk and cell) - F(walk), so that the rewards of an episode add up to F of the whole
walk less F of its start. A task brings the kernel of the gain; F depends on nothing but how often each cell was visited.
"""

import itertools

import numpy as np
from gymnasium import spaces

from explore_gym.envs.bandits.checks import check_integer
from explore_gym.envs.coverage.fields import cell_places
from explore_gym.envs.engine import KernelEnv, bernoulli, kernel, randint, state_dtype

STAY, RIGHT, DOWN, LEFT, UP = range(5)
STEPS = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))  # (down, right) of each action
OBSERVATIONS = ("position", "map", "history")
POSITION, MAP, HISTORY = range(3)
REWARDS = ("marginal", "modular")
MAX_SIDE, MAX_STEPS, MAX_CONTEXTS = 50, 10_000, 1000

# Colours
WORTH = ((44, 38, 92), (38, 108, 142), (84, 184, 122), (250, 228, 84))  # from nothing to the most
WALL, TAKEN, TRAIL, WALKER, INK = (96, 98, 104), (222, 222, 218), (120, 120, 126), (214, 66, 52), (30, 30, 30)


@kernel
def begin(params, state):
    """An empty walk; `settle` makes its start the first visit."""
    state.context = randint(state, params.num_contexts) if params.num_contexts > 1 else 0
    state.cell, state.length, state.F = params.start, 0, 0.0
    for cell in range(len(state.visits)):
        state.visits[cell] = 0
    for i in range(len(state.path)):
        state.path[i] = -1


@kernel
def move(params, state, action):
    if params.slip > 0.0 and bernoulli(state, params.slip):
        action = randint(state, 5)
    state.cell = params.moves[state.cell, action]


@kernel
def settle(params, state, gain):
    """Enter the visit of the present cell, which has gained this much. Returns the reward and whether the walk is over."""
    state.F += gain
    state.visits[state.cell] += 1
    state.path[state.length] = state.cell
    state.length += 1
    reward = params.alone[state.context, state.cell] if params.modular else gain
    return reward, state.length > params.steps


@kernel
def observe(params, state, obs):
    obs[0], obs[1] = params.places[state.cell, 0], params.places[state.cell, 1]
    obs[2] = (state.length - 1) / params.steps
    if params.observation == POSITION:
        return
    end = 3
    if params.observation == MAP:
        show_visits(state.visits, params.repeats_pay, obs)
        end += len(state.visits)
    else:
        for i in range(len(state.path)):
            visited = i < state.length
            obs[end + 2 * i] = params.places[state.path[i], 0] if visited else -1.0
            obs[end + 2 * i + 1] = params.places[state.path[i], 1] if visited else -1.0
        end += 2 * len(state.path)
    if params.num_contexts > 1:
        for i in range(params.layouts.shape[1]):
            obs[end + i] = params.layouts[state.context, i]


@kernel
def show_visits(visits, repeats_pay, obs):
    """How often each cell was visited, or whether at all. Two loops on plain arrays, which the compiler turns into vectors."""
    if repeats_pay:
        for cell in range(len(visits)):
            obs[3 + cell] = visits[cell]
    else:
        for cell in range(len(visits)):
            obs[3 + cell] = 1.0 if visits[cell] > 0 else 0.0


class WalkGrid(KernelEnv):
    """A walk on the free cells of a grid.

    Attributes:
        free: bool (rows, columns). moves: int64 (cells, 5), where each action leads; cells are numbered row by row.
        steps: actions of an episode. slip, num_contexts: as given.
        repeats_pay: whether more visits of one cell are worth more than the first alone.

    Args:
        free: bool (rows, columns), which cells can be entered.
        start: (row, column), where walks begin.
        steps: actions of an episode.
        slip: probability that a uniformly drawn action takes the place of the chosen one.
        observation: "position", "map" or "history".
        reward: "marginal" gain, or "modular": F of the cell alone, as if nothing had been visited before.
        alone: float64 (contexts, cells), F of a single visit.
        layouts: float64 (contexts, n), what else is observed where there are several contexts.
        fields, params: of the task's own kernels.
    Raises:
        ValueError: an argument is out of range.
    """

    keys = {"s": STAY, "right": RIGHT, "down": DOWN, "left": LEFT, "up": UP}
    untracked: tuple[str, ...] = ("F",)
    repeats_pay = False

    def __init__(
        self, *, free, start, steps, slip, observation, reward, alone, layouts, fields, params, render_mode, max_episode_steps
    ):
        check_integer("steps", steps, 1, MAX_STEPS)
        if not 0.0 <= slip <= 1.0:
            raise ValueError(f"slip must lie in [0, 1], got {slip!r}")
        for name, value, known in (("observation", observation, OBSERVATIONS), ("reward", reward, REWARDS)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        self.free, self.moves = free, make_moves(free)
        self.steps, self.slip, self.num_contexts = steps, slip, len(layouts)
        cells = free.size
        size = {"position": 3, "map": 3 + cells, "history": 3 + 2 * (steps + 1)}[observation]
        size += layouts.shape[1] if self.num_contexts > 1 and observation != "position" else 0
        super().__init__(
            state=state_dtype(
                cell=np.int32,
                length=np.int32,  # visits so far, the start's among them
                visits=(np.uint16, (cells,)),
                path=(np.int32, (steps + 1,)),  # the cells visited, in order; then -1
                context=np.int32,
                F=np.float64,
                **fields,
            ),
            params=dict(
                start=cell_at(free, start),
                moves=self.moves,
                places=cell_places(free.shape) / (np.array(free.shape) - 1.0),
                steps=steps,
                slip=float(slip),
                observation=OBSERVATIONS.index(observation),
                repeats_pay=self.repeats_pay,
                modular=reward == "modular",
                alone=alone,
                layouts=layouts,
                num_contexts=self.num_contexts,
                **params,
            ),
            observation_space=spaces.Box(-1.0, np.inf, (size,), np.float32),
            action_space=spaces.Discrete(5),
            info=dict(F=float, modular_reward=float, coverage=float, cell=int),
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def set_function(self, cells, context=0):
        """F of these visits, a slow reference beside the kernels: cells, a sequence of numbers of cells, repeats included."""
        raise NotImplementedError(f"{type(self).__name__} has no set_function")

    def draw_cells(self, canvas, taken, colors, chars, margin=0):
        """The map: walls, cells that gain nothing any more, bool (cells,), and each other cell's colour and character."""
        rows, columns = self.free.shape
        canvas.size(columns + margin, rows + 2)
        for cell, (row, column) in enumerate(np.ndindex(rows, columns)):
            if not self.free[row, column]:
                color, char = WALL, "#"
            elif taken[cell]:
                color, char = TAKEN, "."
            else:
                color, char = colors[cell], chars[cell]
            canvas.rect(column, row, 1, 1, color, char)

    def draw_walker(self, canvas, state):
        """The walk and where it has got to."""
        columns = self.free.shape[1]
        path = [divmod(cell, columns) for cell in state.path[: state.length].tolist()]
        for (row, column), (next_row, next_column) in itertools.pairwise(path):
            canvas.line(column + 0.5, row + 0.5, next_column + 0.5, next_row + 0.5, TRAIL, 0.15)
        row, column = divmod(int(state.cell), columns)
        canvas.circle(column + 0.5, row + 0.5, 0.42, WALKER, "@")

    def draw_caption(self, canvas, state):
        rows, columns = self.free.shape
        size = min(columns / 30, 0.8)
        canvas.text(0.2, rows + 0.2, f"step {state.length - 1} of {self.steps}", INK, size)
        canvas.text(0.2, rows + 1.1, f"F {state.F:.2f}", INK, size)


def make_moves(free):
    """Where each action leads from each cell, int64 (cells, 5): nowhere if a wall or the edge is in the way."""
    moves = np.empty((*free.shape, 5), np.int64)
    for row, column in np.ndindex(*free.shape):
        for action, (down, right) in enumerate(STEPS):
            there = row + down, column + right
            inside = all(0 <= place < side for place, side in zip(there, free.shape)) and free[there]
            moves[row, column, action] = np.ravel_multi_index(there if inside else (row, column), free.shape)
    return moves.reshape(-1, 5)


def cell_at(free, place):
    """The number of the cell at (row, column).

    Raises:
        ValueError: that is no free cell.
    """
    rows, columns = free.shape
    place = np.asarray(place)
    if place.shape != (2,) or place.dtype.kind not in "iu" or not (0 <= place[0] < rows and 0 <= place[1] < columns):
        raise ValueError(f"start must be the (row, column) of a cell of a {rows}x{columns} grid, got {place.tolist()}")
    if not free[tuple(place)]:
        raise ValueError(f"start must be a free cell, got {place.tolist()}")
    return int(place[0] * columns + place[1])


def check_shape(shape):
    """(rows, columns) as a tuple.

    Raises:
        ValueError: it is something else than two integers in [2, MAX_SIDE].
    """
    if np.shape(shape) != (2,):
        raise ValueError(f"shape must be (rows, columns), got {shape!r}")
    for name, side in zip(("rows", "columns"), shape):
        check_integer(name, side, 2, MAX_SIDE)
    return tuple(shape)


def check_contexts(num_contexts, layout_seed):
    check_integer("num_contexts", num_contexts, 1, MAX_CONTEXTS)
    check_integer("layout_seed", layout_seed, 0, 2**32 - 1)


def heat(worth):
    """Colours and characters of worths, float (cells,) in [0, 1]: the brighter, and the higher the digit, the more."""
    place = np.clip(worth, 0.0, 1.0) * (len(WORTH) - 1)
    low = np.minimum(place.astype(int), len(WORTH) - 2)
    ramp = np.array(WORTH, np.float64)
    colors = ramp[low] + (place - low)[:, None] * (ramp[low + 1] - ramp[low])
    return list(map(tuple, colors.round().astype(int).tolist())), [str(min(int(10 * w), 9)) for w in worth]
