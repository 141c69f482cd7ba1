"""RiverSwim: swim up a river against the current, past a small certain reward, to a large one far away.

Observation: Discrete(size): position, 0 at the left end, where the episode starts.
Action:      Discrete(2): 0 left (with the current, always succeeds), 1 right (against it).
             Right moves on with probability 0.35, stays with 0.6 and drifts back with 0.05; at the left end it
             moves on with 0.6 and stays with 0.4; at the right end it stays with 0.6 and drifts back with 0.4.
Reward:      0.005 for left at the left end, 1 for right at the right end; otherwise 0.
Terminates:  never.  Truncates: after max_steps (20); max_steps=None: continuing.
Source:      Strehl and Littman, 2008, An analysis of model-based interval estimation for Markov decision processes, with
             the probabilities, rewards, start and horizon of Osband, Russo and Van Roy, 2013, arXiv:1306.0940.

The info has `coverage`, the share of positions visited in this episode.
"""

import numpy as np

from explore_gym.envs.engine import vectorize
from explore_gym.envs.engine.env import is_integer
from explore_gym.envs.tabular.tabular import Tabular

LEFT, RIGHT = 0, 1
SMALL_REWARD, LARGE_REWARD = 0.005, 1.0


class RiverSwim(Tabular):
    """The river as a `Tabular` environment.

    Args:
        size: number of positions, 3 to 1000.
        max_steps: length of an episode; None: continuing.
    Raises:
        ValueError: an argument is outside the ranges above.
    """

    keys = {"left": 0, "right": 1}

    def __init__(self, size=6, max_steps=20, render_mode=None, max_episode_steps=None):
        if not (is_integer(size) and 3 <= size <= 1000):
            raise ValueError(f"size must be an integer in [3, 1000], got {size!r}")
        P, R = np.zeros((size, 2, size)), np.zeros((size, 2))
        for s in range(size):
            P[s, LEFT, max(s - 1, 0)] = 1.0
        P[0, RIGHT, :2] = 0.4, 0.6
        for s in range(1, size - 1):
            P[s, RIGHT, s - 1 : s + 2] = 0.05, 0.6, 0.35
        P[-1, RIGHT, -2:] = 0.4, 0.6
        R[0, LEFT], R[-1, RIGHT] = SMALL_REWARD, LARGE_REWARD
        super().__init__(P, R, np.eye(size)[0], max_steps, render_mode, max_episode_steps)

    def draw(self, canvas, state):
        """The river from left to right, the small and the large reward at its ends, the swimmer where it is."""
        size = len(self.R)
        canvas.size(size, 1)
        for s in range(size):
            canvas.rect(s, 0, 0.98, 1, (60, 120, 190) if state.visited[s] else (40, 80, 140), "~")
            canvas.polygon([(s + 0.1, 0.85), (s + 0.25, 0.75), (s + 0.25, 0.95)], (120, 170, 220))  # the current
        canvas.circle(0.8, 0.2, 0.06, (240, 190, 60))
        canvas.circle(size - 0.25, 0.25, 0.2, (240, 190, 60), "$")
        canvas.circle(state.s + 0.45, 0.5, 0.28, (235, 90, 70), "@")


RiverSwimVector = vectorize(RiverSwim)
