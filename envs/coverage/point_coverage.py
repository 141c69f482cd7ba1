"""PointCoverage: fly a craft over a square so that it sees as much of the ground as possible.

Observation: float32, "blocks" (405,): position over 20 m, velocity over the top speed of 2 m/s (x and y each), share of the
             steps that are over; then the share that is covered of each of 20x20 blocks, row by row. "position": the first
             five alone. "map" (5 + raster * raster,): the first five, then 1 for each covered cell, otherwise 0.
Action:      Discrete(9): 0 no thrust, 1 to 8 thrust of 2.5 m/s^2 east, north-east, north, and so on.
Reward:      a tenth of the number of cells covered for the first time. The square of 40 m has raster x raster (100) cells;
             the craft covers 5x5 cells around its own. reward="total": a tenth of all cells covered so far, in each step.
Terminates:  after steps (400), or when the craft leaves the square.  Truncates: never.
Info:        F, a tenth of the cells covered so far, the start's included; coverage, their share of all cells; cell (row *
             raster + column; the last one once it has left); modular_reward, a tenth of all cells that it covers from there.
Motion:      steps of 0.2 s; drag of 1.25/s, with which the top speed is 2 m/s, a cell per step of the default raster. It
             starts at rest within 0.1 m of the centre, uniformly.
Source:      the coverage of a square by MuJoCo's ant in Prajapat, Mutny, Zeilinger and Krause, 2024, Submodular reinforcement
             learning, arXiv:2307.13372, with its raster, view, steps and both rewards, and a point mass in the ant's place.

The map is all that matters of the past, the blocks are a summary of it: what they show is the same for many maps.
"""

import math

import numpy as np
from gymnasium import spaces

from explore_gym.envs.bandits.checks import check_integer
from explore_gym.envs.engine import KernelEnv, kernel, state_dtype, uniform, vectorize

HALF = 20.0  # m, half a side of the square
DT = 0.2  # s
THRUST, DRAG = 2.5, 1.25  # m/s^2, 1/s
TOP_SPEED = THRUST / DRAG
JITTER = 0.1  # m, of the start
VIEW = 2  # cells covered to each side
BLOCKS = 20  # along a side
OBSERVATIONS = ("blocks", "position", "map")
OF_BLOCKS, OF_POSITION, OF_MAP = range(3)
REWARDS = ("marginal", "total")
SEEN, TRAIL, CRAFT, INK = (84, 184, 122), (44, 38, 92), (214, 66, 52), (30, 30, 30)
GROUND = (232, 232, 226)


@kernel
def reset(params, state):
    state.x, state.y = uniform(state, -JITTER, JITTER), uniform(state, -JITTER, JITTER)
    state.vx, state.vy = 0.0, 0.0
    state.length, state.seen = 1, 0
    for cell in range(len(state.covered)):
        state.covered[cell] = 0
    for block in range(len(state.blocks)):
        state.blocks[block] = 0
    cover(params, state)


@kernel
def step(params, state, action):
    if state.length > params.steps:
        return 0.0, True
    fly(state, action)
    state.length += 1
    gone = abs(state.x) >= HALF or abs(state.y) >= HALF
    before = state.seen
    if not gone:
        cover(params, state)
    counted = state.seen if params.total else state.seen - before
    return counted / 10.0, gone or state.length > params.steps


@kernel
def fly(state, action):
    angle = 0.25 * math.pi * (action - 1)
    push = THRUST if action > 0 else 0.0
    state.vx += DT * (push * math.cos(angle) - DRAG * state.vx)
    state.vy += DT * (push * math.sin(angle) - DRAG * state.vy)
    state.x += DT * state.vx
    state.y += DT * state.vy


@kernel
def cover(params, state):
    """Cover the cells around the craft."""
    row, column = place(params, -state.y), place(params, state.x)
    state.cell = row * params.raster + column
    for i in range(max(row - VIEW, 0), min(row + VIEW + 1, params.raster)):
        for j in range(max(column - VIEW, 0), min(column + VIEW + 1, params.raster)):
            if state.covered[i * params.raster + j] == 0:
                state.covered[i * params.raster + j] = 1
                state.blocks[i // params.block * BLOCKS + j // params.block] += 1
                state.seen += 1


@kernel
def place(params, x):
    """The row or column of a coordinate inside the square."""
    return min(max(int((x + HALF) / (2.0 * HALF) * params.raster), 0), params.raster - 1)


@kernel
def observe(params, state, obs):
    obs[0], obs[1] = state.x / HALF, state.y / HALF
    obs[2], obs[3] = state.vx / TOP_SPEED, state.vy / TOP_SPEED
    obs[4] = (state.length - 1) / params.steps
    if params.observation == OF_BLOCKS:
        blocks, share = state.blocks, 1.0 / (params.block * params.block)
        for block in range(len(blocks)):
            obs[5 + block] = blocks[block] * share
    elif params.observation == OF_MAP:
        covered = state.covered
        for cell in range(len(covered)):
            obs[5 + cell] = covered[cell]


@kernel
def inform(params, state, info):
    row, column = state.cell // params.raster, state.cell % params.raster
    height = min(row + VIEW + 1, params.raster) - max(row - VIEW, 0)
    width = min(column + VIEW + 1, params.raster) - max(column - VIEW, 0)
    info.F = state.seen / 10.0
    info.modular_reward = height * width / 10.0
    info.coverage = state.seen / len(state.covered)
    info.cell = state.cell


class PointCoverage(KernelEnv):
    """A point mass over a raster.

    Args:
        raster: cells along a side, a multiple of 20 from 20 to 200.
        steps: actions of an episode, 1 to 10,000.
        observation: "blocks", "position" or "map".
        reward: "marginal" or "total".
    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)
    keys = {"s": 0, "right": 1, "up": 3, "left": 5, "down": 7}

    def __init__(
        self,
        raster=100,
        steps=400,
        observation="blocks",
        reward="marginal",
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("raster", raster, BLOCKS, 200)
        if raster % BLOCKS:
            raise ValueError(f"raster must be a multiple of {BLOCKS}, got {raster}")
        check_integer("steps", steps, 1, 10_000)
        for name, value, known in (("observation", observation, OBSERVATIONS), ("reward", reward, REWARDS)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        self.raster, self.steps = raster, steps
        size = 5 + {"blocks": BLOCKS**2, "position": 0, "map": raster**2}[observation]
        super().__init__(
            state=state_dtype(
                x=np.float64,
                y=np.float64,
                vx=np.float64,
                vy=np.float64,
                length=np.int32,  # places so far, the start among them
                cell=np.int32,
                seen=np.int32,
                covered=(np.uint8, (raster**2,)),
                blocks=(np.int32, (BLOCKS**2,)),  # cells covered in each
            ),
            params=dict(
                raster=raster,
                block=raster // BLOCKS,
                steps=steps,
                observation=OBSERVATIONS.index(observation),
                total=reward == "total",
            ),
            observation_space=spaces.Box(-1.1, 1.1, (size,), np.float32),
            action_space=spaces.Discrete(9),
            info=dict(F=float, modular_reward=float, coverage=float, cell=int),
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def draw(self, canvas, state):
        """The ground, what was seen of it, the craft and where it is heading."""
        scale = BLOCKS / self.raster
        canvas.size(BLOCKS, BLOCKS + 1.5)
        canvas.rect(0, 0, BLOCKS, BLOCKS, GROUND, ".")
        for cell in np.flatnonzero(state.covered).tolist():
            row, column = divmod(cell, self.raster)
            canvas.rect(column * scale, row * scale, scale, scale, SEEN, "o")
        x, y = (state.x / HALF + 1.0) * BLOCKS / 2.0, (1.0 - state.y / HALF) * BLOCKS / 2.0
        canvas.line(x, y, x + state.vx / TOP_SPEED, y - state.vy / TOP_SPEED, TRAIL, 0.12)
        canvas.circle(x, y, 0.3, CRAFT, "@")
        caption = f"step {state.length - 1} of {self.steps}   F {state.seen / 10:.1f}"
        canvas.text(0.2, BLOCKS + 0.4, caption, INK, 0.7)


PointCoverageVector = vectorize(PointCoverage)
