"""Corridor: walk to the end of a corridor where one action out of several leads on and every other one throws back.

Which action is right is drawn cell by cell from mapping_seed.

Observation: Discrete(size): cell, 0 at the near end, where the episode starts.
Action:      Discrete(4): the right one moves on by one cell, or slips with probability slip and stays; each of the others
             moves back by setback (3) cells. Both ends hold.
Reward:      1 for the right action in the last cell; otherwise 0.
Terminates:  never.  Truncates: after max_steps (100); max_steps=None: continuing.
Source:      the corridor of Tarbouriech, Pirotta, Valko and Lazaric, 2021, arXiv:2007.06437, in this suite's own numbers;
             a combination lock with a bounded setback.

The info has `coverage`, the share of cells visited in this episode.
"""

import numpy as np

from explore_gym.envs.engine import vectorize
from explore_gym.envs.engine.env import is_integer
from explore_gym.envs.tabular.tabular import Tabular

NUM_ACTIONS = 4


class Corridor(Tabular):
    """The corridor as a `Tabular` environment.

    Args:
        size: number of cells, 2 to 1000.
        slip: probability that the right action fails and the walker stays, in [0, 1).
        setback: cells by which a wrong action throws back, at least 1.
        mapping_seed: draws the right action of each cell; 0 to 2**32 - 1.
        max_steps: length of an episode; None: continuing.
    Raises:
        ValueError: an argument is outside the ranges above.
    """

    keys = {"1": 0, "2": 1, "3": 2, "4": 3}

    def __init__(self, size=24, slip=0.05, setback=3, mapping_seed=42, max_steps=100, render_mode=None, max_episode_steps=None):
        if not (is_integer(size) and 2 <= size <= 1000):
            raise ValueError(f"size must be an integer in [2, 1000], got {size!r}")
        if not 0.0 <= slip < 1.0:
            raise ValueError(f"slip must lie in [0, 1), got {slip!r}")
        if not (is_integer(setback) and setback >= 1):
            raise ValueError(f"setback must be an integer >= 1, got {setback!r}")
        if not (is_integer(mapping_seed) and 0 <= mapping_seed < 2**32):
            raise ValueError(f"mapping_seed must be an integer in [0, 2**32), got {mapping_seed!r}")
        self.right = np.random.default_rng(mapping_seed).integers(NUM_ACTIONS, size=size)
        P, R = np.zeros((size, NUM_ACTIONS, size)), np.zeros((size, NUM_ACTIONS))
        for s, right in enumerate(self.right):
            P[s, :, max(s - setback, 0)] = 1.0
            P[s, right] = 0.0
            P[s, right, s] += slip
            P[s, right, min(s + 1, size - 1)] += 1.0 - slip
        R[-1, self.right[-1]] = 1.0
        super().__init__(P, R, np.eye(size)[0], max_steps, render_mode, max_episode_steps)

    def draw(self, canvas, state):
        """The corridor from left to right, visited cells brighter, the reward at its end, the walker where it is."""
        size = len(self.R)
        canvas.size(size, 1)
        for s in range(size):
            canvas.rect(s, 0, 0.96, 1, (150, 140, 120) if state.visited[s] else (95, 90, 80), ".")
        canvas.circle(size - 0.25, 0.25, 0.2, (240, 190, 60), "$")
        canvas.circle(state.s + 0.45, 0.5, 0.28, (235, 90, 70), "@")


CorridorVector = vectorize(Corridor)
