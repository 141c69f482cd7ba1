"""HindsightMaze: a maze of four guarded arms without any reward, and switches for noise that traps curiosity.

Observation: float32 (125,): five layers of the 5x5 cells around the agent, row by row, north up: wall (also beyond the edge),
             block, tracker, agent (its own cell), and the screen, which shows noise in [0, 1] and nothing else.
Action:      Discrete(5): 0 north, 1 east, 2 south, 3 west, 4 no-op. Walls and blocks stop the agent.
Reward:      0.
Terminates:  never.  Truncates: after max_steps (500).
Info:        cell (row * 19 + column), visited (distinct cells in this episode), first_visit (the step that reached this cell
             first), coverage (visited / 165 cells), trackers (how many of the four were reached in this episode), success (all
             four were), action_taken (after stickiness).
Layout:      19x19 cells, a hub of 3x3 in the middle, and four arms, each the one before turned by 90 degrees: 39 cells of
             tree-shaped corridor with a tracker at the far end, 30 steps from the centre. Three steps from the centre a block
             guards the arm. It slides across the corridor, from a slot in one wall to a slot in the other and back, one cell a
             step: a period of 4 steps, in which the corridor is blocked twice. Every arm is one step ahead of the one before.
             Blocks move first; one that runs into the agent pushes it back to the hub's side. The clock isn't observed.
Noise:       noise="brownian": the blocks do random walks in their tracks. "pixel": with probability 0.25 the screen's pixels
             are fair coins, otherwise 0. "on_demand": they are fair coins exactly in the steps whose action is the no-op.
             "persistent": each does a random walk on 0..49, modulo 50, in steps of 1 after even and of 11 after odd actions,
             shown divided by 49. sticky_probability=p repeats the action before with probability p.
Source:      Jarrett et al., "Curiosity in Hindsight" (2022, arXiv:2211.10515), whose maze this one follows in its sizes, time
             limit, view, guards, trackers and noise; the corridors are this suite's.
"""

import numpy as np
from gymnasium import spaces

from explore_gym.envs.engine import KernelEnv, bernoulli, kernel, randint, state_dtype, vectorize
from explore_gym.envs.gridworlds.grid import check_integer, count_visit

NORTH, EAST, SOUTH, WEST, NOOP = range(5)
NONE, BROWNIAN, PIXEL, ON_DEMAND, PERSISTENT = range(5)
NOISE_NAMES = ("none", "brownian", "pixel", "on_demand", "persistent")
SIZE, CENTRE = 19, 9  # cells
REACH = 2  # cells that the agent sees to each side
WINDOW = 2 * REACH + 1
PIXELS = WINDOW**2
LEVELS = 50  # of a pixel of the persistent screen
PIXEL_RATE = 0.25  # steps in which the screen of "pixel" shows noise
# The northern arm: rows 1 to 7, columns 9 to 17; G is crossed by the guard, T is the tracker
ARM = (
    ".....#...",
    ".###.#.#.",
    ".#.#.#.#.",
    ".#.#.#.#.",
    "...#...#.",
    "G#.#####.",
    ".#.....#T",
)


@kernel
def reset(params, state):
    state.row, state.col = CENTRE, CENTRE
    state.last_action, state.phase, state.reached, state.visited = NOOP, 0, 0, 0
    for index in range(state.first_visits.shape[0]):
        state.first_visits[index] = -1
    for arm in range(4):
        state.blocks[arm] = slide(arm) if params.noise != BROWNIAN else 1
    for i in range(PIXELS):
        state.screen[i] = randint(state, LEVELS) if params.noise == PERSISTENT else 0
    count_visit(state, cell_id(state))


@kernel
def step(params, state, action):
    if params.sticky_probability > 0.0 and bernoulli(state, params.sticky_probability):
        action = np.int64(state.last_action)
    state.last_action = action
    move_blocks(params, state)
    move(params, state, action)
    show(params, state, action)
    count_visit(state, cell_id(state))
    for arm in range(4):
        if state.row == params.trackers[arm, 0] and state.col == params.trackers[arm, 1]:
            state.reached |= 1 << arm
    return 0.0, False


@kernel
def cell_id(state):
    return np.int64(state.row) * SIZE + np.int64(state.col)


@kernel
def slide(phase):
    """Where a block is in its track, 0, 1 (in the corridor) or 2."""
    return 2 - abs(2 - (phase & 3))


@kernel
def move_blocks(params, state):
    state.phase = (state.phase + 1) & 3
    for arm in range(4):
        if params.noise == BROWNIAN:
            state.blocks[arm] = min(max(state.blocks[arm] + 2 * randint(state, 2) - 1, 0), 2)
        else:
            state.blocks[arm] = slide(state.phase + arm)


@kernel
def move(params, state, action):
    row = np.int64(state.row) + np.int64(action == SOUTH) - np.int64(action == NORTH)
    col = np.int64(state.col) + np.int64(action == EAST) - np.int64(action == WEST)
    if params.walls[row + REACH, col + REACH] == 0 and guard_on(params, state, row, col) < 0:
        state.row, state.col = row, col
    arm = guard_on(params, state, np.int64(state.row), np.int64(state.col))
    if arm >= 0:
        state.row, state.col = params.guards[arm, 0] + params.inward[arm, 0], params.guards[arm, 1] + params.inward[arm, 1]


@kernel
def guard_on(params, state, row, col):
    """The arm whose block is in the corridor, on the cell (row, col); -1 if none is."""
    for arm in range(4):
        if state.blocks[arm] == 1 and params.guards[arm, 0] == row and params.guards[arm, 1] == col:
            return arm
    return -1


@kernel
def show(params, state, action):
    """Draw the screen."""
    if params.noise == PIXEL or params.noise == ON_DEMAND:
        noisy = action == NOOP if params.noise == ON_DEMAND else bernoulli(state, PIXEL_RATE)
        bits = randint(state, 1 << PIXELS) if noisy else 0
        for i in range(PIXELS):
            state.screen[i] = bits >> i & 1
    elif params.noise == PERSISTENT:
        bits, size = randint(state, 1 << PIXELS), 11 if action & 1 else 1
        for i in range(PIXELS):
            state.screen[i] = (np.int64(state.screen[i]) + (size if bits >> i & 1 else LEVELS - size)) % LEVELS


@kernel
def observe(params, state, obs):
    for i in range(WINDOW):
        for j in range(WINDOW):
            obs[WINDOW * i + j] = params.walls[state.row + i, state.col + j]
    for i in range(PIXELS, 4 * PIXELS):
        obs[i] = 0.0
    obs[3 * PIXELS + PIXELS // 2] = 1.0
    for arm in range(4):
        aside = state.blocks[arm] - 1  # of the corridor; a track runs at right angles to it
        row, col = params.guards[arm, 0] + aside * params.inward[arm, 1], params.guards[arm, 1] - aside * params.inward[arm, 0]
        mark(state, obs, 1, row, col)
        mark(state, obs, 2, params.trackers[arm, 0], params.trackers[arm, 1])
    scale = LEVELS - 1.0 if params.noise == PERSISTENT else 1.0
    for i in range(PIXELS):
        obs[4 * PIXELS + i] = state.screen[i] / scale


@kernel
def mark(state, obs, layer, row, col):
    """Set a cell in a layer, if it is in sight."""
    i, j = row - state.row + REACH, col - state.col + REACH
    if 0 <= i < WINDOW and 0 <= j < WINDOW:
        obs[PIXELS * layer + WINDOW * i + j] = 1.0


@kernel
def inform(params, state, info):
    info.cell = cell_id(state)
    info.visited = state.visited
    info.first_visit = state.first_visits[info.cell]
    info.coverage = state.visited / params.num_free
    trackers = 0
    for arm in range(4):
        trackers += state.reached >> arm & 1
    info.trackers = trackers
    info.success = trackers == 4
    info.action_taken = state.last_action


class HindsightMaze(KernelEnv):
    """A maze of four guarded arms with a choice of noise.

    Attributes:
        walls: bool (19, 19); trackers: int64 (4, 2), their cells (row, column); guards: likewise, the cells that blocks cross.

    Args:
        noise: "none", "brownian", "pixel", "on_demand" or "persistent".
        sticky_probability: probability that the action before is repeated, in [0, 1).
        max_steps: time limit in steps.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)
    keys = {"up": NORTH, "right": EAST, "down": SOUTH, "left": WEST, "s": NOOP}
    untracked = ("visited", "first_visits", "reached")

    def __init__(self, noise="none", sticky_probability=0.0, max_steps=500, render_mode=None, max_episode_steps=None):
        if noise not in NOISE_NAMES:
            raise ValueError(f"noise must be one of {', '.join(NOISE_NAMES)}, got {noise!r}")
        if not 0.0 <= sticky_probability < 1.0:
            raise ValueError(f"sticky_probability must lie in [0, 1), got {sticky_probability!r}")
        check_integer("max_steps", max_steps, 1, 2**31 - 1)
        self.walls, self.trackers, self.guards = make_maze()
        super().__init__(
            state=state_dtype(
                row=np.int32,
                col=np.int32,
                blocks=(np.int32, (4,)),  # where the block of each arm is in its track, 0 to 2
                phase=np.int32,  # of the blocks' period
                last_action=np.int32,
                screen=(np.uint8, (PIXELS,)),
                reached=np.int32,  # a bit for each tracker
                visited=np.int32,
                first_visits=(np.int32, (SIZE**2,)),
            ),
            params=dict(
                noise=NOISE_NAMES.index(noise),
                sticky_probability=float(sticky_probability),
                walls=np.pad(self.walls, REACH, constant_values=True),
                trackers=self.trackers,
                guards=self.guards,
                inward=np.sign(CENTRE - self.guards),
                num_free=int((~self.walls).sum()),
            ),
            observation_space=spaces.Box(0.0, 1.0, (5 * PIXELS,), np.float32),
            action_space=spaces.Discrete(5),
            info=dict(cell=int, visited=int, first_visit=int, coverage=float, trackers=int, success=bool, action_taken=int),
            max_steps=max_steps,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def draw(self, canvas, state):
        canvas.size(SIZE + WINDOW + 1, SIZE)
        for row, col in np.argwhere(self.walls).tolist():
            canvas.rect(col, row, 1, 1, (70, 74, 82), "#")
        for index in np.flatnonzero(state.first_visits >= 0).tolist():
            canvas.rect(index % SIZE, index // SIZE, 1, 1, (168, 205, 240), ".")
        for arm, (row, col) in enumerate(self.trackers.tolist()):
            canvas.rect(col, row, 1, 1, (60, 170, 80) if state.reached >> arm & 1 else (222, 180, 60), "T")
        for arm in range(4):
            (row, col), (down, right) = self.guards[arm], self.params["inward"][0, arm]
            aside = int(state.blocks[arm]) - 1
            canvas.rect(col - aside * down, row + aside * right, 1, 1, (150, 80, 170), "B")
        canvas.circle(state.col + 0.5, state.row + 0.5, 0.45, (214, 66, 52), "A")
        for i, value in enumerate(state.screen.tolist()):
            level = round(255 * value / (LEVELS - 1 if self.params["noise"][0] == PERSISTENT else 1))
            canvas.rect(SIZE + 1 + i % WINDOW, i // WINDOW, 1, 1, (level, level, level), "*" if level else "-")


def make_maze():
    """walls bool (19, 19), trackers and guards int64 (4, 2), as cells (row, column): the arm of `ARM` in four directions."""
    walls = np.ones((SIZE, SIZE), bool)
    walls[CENTRE - 1 : CENTRE + 2, CENTRE - 1 : CENTRE + 2] = False
    trackers, guards = np.zeros((4, 2), np.int64), np.zeros((4, 2), np.int64)
    for i, line in enumerate(ARM):
        for j, char in enumerate(line):
            row, col = 1 + i, CENTRE + j
            for arm in range(4):
                walls[row, col] &= char == "#"
                if char in "GT":
                    (guards if char == "G" else trackers)[arm] = row, col
                row, col = col, SIZE - 1 - row  # a quarter turn to the right
    return walls, trackers, guards


HindsightMazeVector = vectorize(HindsightMaze)
