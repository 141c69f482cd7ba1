"""ExperimentDesign: walk to where measurements tell most about an unknown field.

The field is a Gaussian process, already measured at a few places; a visit measures it once more, with noise.

Observation: float32 (3 + cells,), "map": row and column, 0 to 1, share of the steps that are over; then how often each cell
             was visited, row by row. "position": the first three alone. "history": the first three, then row and column of
             all visits in order, steps + 1 of them, -1 for those to come. With several contexts, map and history end with row
             and column of the places measured before, on the same scale.
Action:      Discrete(5): 0 stay, 1 right, 2 down, 3 left, 4 up; the edge stops the walker. With probability slip a
             uniformly drawn action takes its place.
Reward:      information about the field in nats that the measurement adds: 0.5 log(1 + v / noise^2), v the posterior
             variance at the cell given all measurements so far. reward="modular": that at the beginning, again and again.
Terminates:  after steps (39), so that a walk has 40 visits.  Truncates: never.
Info:        F, the information so far, the start's included, 0.5 log det(I + K / noise^2), K the covariances of the cells
             visited; coverage, the share of cells visited; cell (row * columns + column); modular_reward, the reward if
             nothing had been visited before.
Field:       variance ln 2, Matern 5/2 covariance; ten places drawn uniformly on the map are measured before, with that noise.
Source:      the experiment design of Prajapat, Mutny, Zeilinger and Krause, 2024, Submodular reinforcement learning,
             arXiv:2307.13372; information gain as in Srinivas et al., 2010, arXiv:0912.3995.
"""

import math

import numpy as np

from explore_gym.envs.bandits.checks import check_integer, check_number
from explore_gym.envs.coverage.fields import VARIANCE, cell_places, matern
from explore_gym.envs.coverage.grid import WalkGrid, begin, check_contexts, check_shape, heat, move, observe, settle
from explore_gym.envs.engine import kernel, vectorize

MAX_VISITS = 1000  # each needs a row of the Cholesky factor


@kernel
def measure(params, state):
    """Extend the Cholesky factor of the visits' covariance, noise included, by the present cell. Returns the gain of F.

    Column n of `factor`, which is upper triangular, solves factor[:n, :n].T x = covariances with the visits before.
    """
    n, noise = state.length, params.noise * params.noise
    row, column = state.cell // params.columns, state.cell % params.columns
    for i in range(n):
        other = state.path[i]
        covariance = params.prior[abs(row - other // params.columns), abs(column - other % params.columns)]
        for k in range(params.known.shape[2]):
            covariance -= params.known[state.context, state.cell, k] * params.known[state.context, other, k]
        state.rest[i] = covariance
    variance = params.variances[state.context, state.cell] + noise
    for j in range(n):
        x = state.rest[j] / state.factor[j, j]
        state.factor[j, n] = x
        variance -= x * x
        for i in range(j + 1, n):
            state.rest[i] -= state.factor[j, i] * x
    variance = max(variance, noise)  # rounding apart it is
    state.factor[n, n] = math.sqrt(variance)
    return 0.5 * math.log(variance / noise)


@kernel
def reset(params, state):
    begin(params, state)
    state.distinct = 0
    for i in range(len(state.rest)):
        state.rest[i] = 0.0
        for j in range(len(state.rest)):
            state.factor[i, j] = 0.0
    visit(params, state)


@kernel
def step(params, state, action):
    if state.length > params.steps:
        return 0.0, True
    move(params, state, action)
    return visit(params, state)


@kernel
def visit(params, state):
    if state.visits[state.cell] == 0:
        state.distinct += 1
    return settle(params, state, measure(params, state))


@kernel
def inform(params, state, info):
    info.F = state.F
    info.modular_reward = params.alone[state.context, state.cell]
    info.coverage = state.distinct / len(state.visits)
    info.cell = state.cell


class ExperimentDesign(WalkGrid):
    """A Gaussian process on a grid, measured along a walk.

    Attributes:
        places: float64 (num_contexts, known, 2), rows and columns measured before.

    Args:
        shape: (rows, columns), 2 to 50 each.
        known: places measured before, 1 to 100.
        noise: standard deviation of a measurement, 1e-4 to 100.
        lengthscale: of the Gaussian process, in cells.
        steps: actions of an episode, 1 to 999.
        slip: probability that a uniformly drawn action takes the place of the chosen one.
        start: (row, column) of the walk's start.
        num_contexts: number of draws of the known places, of which each episode takes one, 1 to 1000.
        layout_seed: draws the known places.
        observation: "map", "position" or "history".
        reward: "marginal" or "modular".
    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)
    untracked = ("F", "distinct", "rest")
    repeats_pay = True

    def __init__(
        self,
        shape=(30, 30),
        known=10,
        noise=1e-3,
        lengthscale=10.0,
        steps=39,
        slip=0.0,
        start=(1, 4),
        num_contexts=1,
        layout_seed=0,
        observation="map",
        reward="marginal",
        render_mode=None,
        max_episode_steps=None,
    ):
        shape = check_shape(shape)
        check_integer("known", known, 1, 100)
        check_number("noise", noise, 1e-4, 100.0)
        check_number("lengthscale", lengthscale, 0.1, 1000.0)
        check_integer("steps", steps, 1, MAX_VISITS - 1)
        check_contexts(num_contexts, layout_seed)
        last = np.array(shape) - 1.0
        self.noise, self.lengthscale, self.points = noise, lengthscale, cell_places(shape)
        self.places = np.stack([np.random.default_rng([layout_seed, k]).random((known, 2)) * last for k in range(num_contexts)])
        solutions = np.stack([self.condition(places) for places in self.places])
        variances = VARIANCE - (solutions**2).sum(2)
        super().__init__(
            free=np.ones(shape, bool),
            start=start,
            steps=steps,
            slip=slip,
            observation=observation,
            reward=reward,
            alone=0.5 * np.log1p(variances / noise**2),
            layouts=(self.places / last).reshape(num_contexts, -1),
            fields=dict(
                distinct=np.int32,
                factor=(np.float64, (steps + 1, steps + 1)),  # upper triangular, of the visits' covariance
                rest=(np.float64, (steps + 1,)),  # scratch space
            ),
            params=dict(
                columns=shape[1],
                noise=float(noise),
                prior=matern(self.points[:1], self.points, lengthscale).reshape(shape),  # by distance in rows and columns
                known=solutions,
                variances=variances,
            ),
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def condition(self, places):
        """Float64 (cells, known), the rows v of the cells whose covariances given measurements at `places` are prior - v v'."""
        covariance = matern(places, places, self.lengthscale) + self.noise**2 * np.eye(len(places))
        return np.linalg.solve(np.linalg.cholesky(covariance), matern(places, self.points, self.lengthscale)).T

    def covariance(self, cells, context=0):
        """Covariances of the field at these cells given the measurements before the walk, float64 (n, n)."""
        points, solutions = self.points[cells], self.params["known"][0, context][cells]
        return matern(points, points, self.lengthscale) - solutions @ solutions.T

    def set_function(self, cells, context=0):
        cells = np.asarray(cells, int)
        return float(0.5 * np.linalg.slogdet(np.eye(len(cells)) + self.covariance(cells, context) / self.noise**2)[1])

    def draw(self, canvas, state):
        """Brighter where the field is less certain; crosses where it was known before."""
        context, path = int(state.context), state.path[: state.length]
        covariance = self.covariance(np.arange(len(self.points)), context)
        across = covariance[path]
        gain = np.linalg.solve(across[:, path] + self.noise**2 * np.eye(len(path)), across)
        variances = np.maximum(covariance.diagonal() - (across * gain).sum(0), 0.0)
        self.draw_cells(canvas, np.zeros(len(variances), bool), *heat(np.sqrt(variances / VARIANCE)))
        for row, column in self.places[context].tolist():
            for tilt in (-0.3, 0.3):
                canvas.line(column + 0.2, row + 0.5 - tilt, column + 0.8, row + 0.5 + tilt, (255, 255, 255), 0.15, "+")
        self.draw_walker(canvas, state)
        self.draw_caption(canvas, state)


ExperimentDesignVector = vectorize(ExperimentDesign)
