"""GridCoverage: walk so that the cells seen on the way are worth as much as possible, each counted once.

Observation: float32 (3 + cells,), "map": row and column, 0 to 1, share of the steps that are over; then 1 for each visited
             cell, otherwise 0, row by row. "position": the first three alone. "history": the first three, then row and
             column of all visits in order, steps + 1 of them, -1 for those to come. With several contexts, map and history
             end with the weights of the cells, row by row.
Action:      Discrete(5): 0 stay, 1 right, 2 down, 3 left, 4 up; the edge stops the walker. With probability slip a
             uniformly drawn action takes its place.
Reward:      weight of the cells that are covered for the first time; a visit covers the cell, the next ones to the right and
             down and the one between them. reward="modular": the weight of all it covers, again and again.
Terminates:  after steps (39), so that a walk has 40 visits.  Truncates: never.
Info:        F, the weight covered so far, the start's included; coverage, its share of all weight; cell (row * columns +
             column); modular_reward, the reward if nothing had been covered before.
Density:     "gp": 3 + a Gaussian process with variance ln 2 and Matern 5/2 covariance, at least 0. "constant": 1.
             "bimodal": 1 / (1 + exp(-x y)) with x and y from -1 to 1.
Source:      Prajapat, Mutny, Zeilinger and Krause, 2024, Submodular reinforcement learning, arXiv:2307.13372, with the grid,
             the start, the densities and the horizon of its released code.

The map tells all there is to know: F depends on the cells visited alone, so that states are Markov. The position alone, which
is what the paper's Markovian policies see, does not.
"""

import numpy as np

from explore_gym.envs.bandits.checks import check_integer, check_number
from explore_gym.envs.coverage.cover import CoverageGrid
from explore_gym.envs.coverage.fields import draw_fields
from explore_gym.envs.coverage.grid import check_contexts, check_shape
from explore_gym.envs.engine import vectorize

DENSITIES = ("gp", "constant", "bimodal")
MEAN = 3.0  # of the Gaussian process


def make_density(density, shape, lengthscale, layout_seed, num_contexts):
    """Weights, float64 (num_contexts, 1, cells)."""
    if density == "gp":
        return np.maximum(MEAN + draw_fields(shape, lengthscale, layout_seed, num_contexts), 0.0)
    x, y = (np.linspace(-1.0, 1.0, side) for side in shape)
    weights = np.ones(shape) if density == "constant" else 1.0 / (1.0 + np.exp(-np.outer(x, y)))
    return weights.reshape(1, 1, -1)


class GridCoverage(CoverageGrid):
    """A map without walls and a density.

    Args:
        density: "gp", "constant" or "bimodal".
        shape: (rows, columns), 2 to 50 each.
        reach: a visit covers the cells up to reach further to the right and down, 0 to 5.
        lengthscale: of the Gaussian process, in cells.
        steps: actions of an episode, 1 to 10,000.
        slip: probability that a uniformly drawn action takes the place of the chosen one.
        start: (row, column) of the walk's start.
        num_contexts: number of densities, of which each episode draws one, 1 to 1000; more than 1 only with "gp".
        layout_seed: draws the densities.
        observation: "map", "position" or "history".
        reward: "marginal" or "modular".
    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        density="gp",
        shape=(30, 30),
        reach=1,
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
        if density not in DENSITIES:
            raise ValueError(f"density must be one of {', '.join(DENSITIES)}, got {density!r}")
        shape = check_shape(shape)
        check_integer("reach", reach, 0, 5)
        check_number("lengthscale", lengthscale, 0.1, 1000.0)
        check_contexts(num_contexts, layout_seed)
        if density != "gp" and num_contexts > 1:
            raise ValueError(f"num_contexts must be 1 unless density is gp, got {num_contexts} with {density}")
        super().__init__(
            free=np.ones(shape, bool),
            weights=make_density(density, shape, lengthscale, layout_seed, num_contexts),
            quotas=np.array([np.inf]),
            reach=reach,
            start=start,
            steps=steps,
            slip=slip,
            observation=observation,
            reward=reward,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


GridCoverageVector = vectorize(GridCoverage)
