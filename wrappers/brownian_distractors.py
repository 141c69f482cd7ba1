"""Brownian distractors: observation components that wander about and have nothing to do with the task."""

import numpy as np
from gymnasium.vector import VectorEnv

from explore_gym.wrappers.lanes import LaneWrapper, is_integer, is_number

BOUNDARIES = {
    "reflect": lambda x: 1.0 - np.abs((x + 1.0) % 4.0 - 2.0),
    "clip": lambda x: np.clip(x, -1.0, 1.0),
}


class BrownianDistractors(LaneWrapper):
    """Adds k components in [-1, 1]: independent Gaussian random walks that start at 0 in every episode.

    A float vector is extended by them; any other observation becomes a Dict with the key "distractors", float32 (k,).

    Args:
        k: number of components.
        sigma: standard deviation of a step.
        boundary: what happens to a walk that leaves [-1, 1]: "reflect" or "clip".

    Raises:
        ValueError: an argument is out of range, or the Dict has a key "distractors" already.
    """

    def __init__(self, env: VectorEnv, k: int = 4, sigma: float = 0.1, boundary: str = "reflect"):
        super().__init__(env)
        if not (is_integer(k) and k >= 1):
            raise ValueError(f"k must be a positive integer, got {k!r}")
        if not (is_number(sigma) and 0.0 < sigma < np.inf):
            raise ValueError(f"sigma must be a positive number, got {sigma!r}")
        if boundary not in BOUNDARIES:
            raise ValueError(f"boundary must be one of {sorted(BOUNDARIES)}, got {boundary!r}")
        self.k, self.sigma, self.boundary = k, sigma, boundary
        self.walks = np.zeros((self.num_envs, k))
        self.add_component("distractors", k, -1.0, 1.0)

    def advance(self, lanes, actions, obs, reward, terminated, truncated, info):
        moved = self.walks[lanes] + self.sigma * self.random.normal(self.k, lanes)
        self.walks[lanes] = BOUNDARIES[self.boundary](moved)
        self.random.skip(lanes, 2 * self.k)
        return reward

    def start(self, lanes, obs, info):
        self.walks[lanes] = 0.0

    def extend(self, obs, index):
        return self.join(obs, self.walks[index])
