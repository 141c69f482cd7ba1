"""Biodiversity: survey several species along a walk, of each no more than its abundance is known by.

Observation: float32 (3 + cells,), "map": row and column, 0 to 1, share of the steps that are over; then 1 for each visited
             cell, otherwise 0, row by row. "position": the first three alone. "history": the first three, then row and
             column of all visits in order, steps + 1 of them, -1 for those to come. With several contexts, map and history
             end with the share of its population in each cell, in percent over the number of species, species by species.
Action:      Discrete(5): 0 stay, 1 right, 2 down, 3 left, 4 up; the edge stops the walker. With probability slip a
             uniformly drawn action takes its place.
Reward:      share of its population that is counted for the first time, in percent, averaged over species; of each species
             no more than the share `enough` (0.15) counts. A visit counts the cell, the next ones to the right and down and
             the one between them. reward="modular": what it would count at the beginning, again and again.
Terminates:  after steps (39), so that a walk has 40 visits.  Truncates: never.
Info:        F, the percentage counted so far, the start's included; coverage, F over the most it can be; cell (row *
             columns + column); modular_reward, the reward if nothing had been counted before.
Density:     each species lives where it likes to: independent log-Gaussian intensities, exp(2 g) with g a Gaussian process
             of variance ln 2 and Matern 5/2 covariance, scaled to add up to 1.
Source:      the monitoring of nests in Prajapat, Mutny, Zeilinger and Krause, 2024, Submodular reinforcement learning,
             arXiv:2307.13372, whose data aren't in its released code: species=1, enough=1 is its reward, on a drawn density.
"""

import numpy as np

from explore_gym.envs.bandits.checks import check_integer, check_number
from explore_gym.envs.coverage.cover import CoverageGrid
from explore_gym.envs.coverage.fields import draw_fields
from explore_gym.envs.coverage.grid import TAKEN, check_contexts, check_shape
from explore_gym.envs.engine import vectorize

CONTRAST = 2.0  # of the logarithm of the intensity to the process
SPECIES = ((214, 66, 52), (60, 130, 200), (70, 160, 80), (230, 170, 40), (150, 90, 180), (110, 110, 120))


class Biodiversity(CoverageGrid):
    """A map of several species.

    Args:
        species: number of species, 1 to 6.
        enough: share of a population beyond which more of the species counts nothing, in (0, 1].
        shape: (rows, columns), 2 to 50 each.
        reach: a visit counts the cells up to reach further to the right and down, 0 to 5.
        lengthscale: of the Gaussian process, in cells.
        steps: actions of an episode, 1 to 10,000.
        slip: probability that a uniformly drawn action takes the place of the chosen one.
        start: (row, column) of the walk's start.
        num_contexts: number of layouts, of which each episode draws one, 1 to 1000.
        layout_seed: draws the layouts.
        observation: "map", "position" or "history".
        reward: "marginal" or "modular".
    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        species=3,
        enough=0.15,
        shape=(30, 30),
        reach=1,
        lengthscale=6.0,
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
        check_integer("species", species, 1, len(SPECIES))
        if not 0.0 < enough <= 1.0:
            raise ValueError(f"enough must lie in (0, 1], got {enough!r}")
        shape = check_shape(shape)
        check_integer("reach", reach, 0, 5)
        check_number("lengthscale", lengthscale, 0.1, 1000.0)
        check_contexts(num_contexts, layout_seed)
        intensities = np.exp(CONTRAST * draw_fields(shape, lengthscale, layout_seed, num_contexts, species))
        percent = 100.0 / species
        super().__init__(
            free=np.ones(shape, bool),
            weights=percent * intensities / intensities.sum(2, keepdims=True),
            quotas=np.full(species, percent * enough),
            reach=reach,
            start=start,
            steps=steps,
            slip=slip,
            observation=observation,
            reward=reward,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def draw(self, canvas, state):
        """Each species in its colour where it lives, grey where it was counted; at the right how much of what is enough."""
        rows, columns = self.free.shape
        weights = self.weights[state.context]
        shares = np.sqrt(weights / weights.max(1, keepdims=True))  # so that thin populations show, too
        inks = 255.0 - np.array(SPECIES[: len(weights)])
        colors = np.clip(255.0 - shares.T @ inks, 0.0, 255.0).round().astype(int).tolist()
        chars = [str(1 + species) for species in shares.argmax(0)]
        self.draw_cells(canvas, state.covered == 1, list(map(tuple, colors)), chars, margin=5)
        for group, (filled, quota) in enumerate(zip(state.filled, self.quotas)):
            height, width = 0.8 * rows, 3.6 / len(weights)
            x = columns + 0.7 + group * width
            canvas.rect(x, 0.1 * rows, 0.8 * width, height, TAKEN)
            canvas.rect(x, 0.1 * rows + height * (1.0 - filled / quota), 0.8 * width, height * filled / quota, SPECIES[group])
        self.draw_walker(canvas, state)
        self.draw_caption(canvas, state)


BiodiversityVector = vectorize(Biodiversity)
