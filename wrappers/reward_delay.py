"""Rewards made harder to learn from: paid late, in large coins, or only for a good episode."""

import numpy as np
from gymnasium.vector import VectorEnv

from explore_gym.wrappers.lanes import LaneWrapper, is_integer, is_number


class DelayReward(LaneWrapper):
    """Pays the reward of every k steps together at the last of them, what is left at the end of the episode.

    The sum over an episode stays as it is, also where the episode is truncated.

    Args:
        every: k, None pays everything at the end of the episode.

    Raises:
        ValueError: every is no positive integer.
    """

    def __init__(self, env: VectorEnv, every: int | None = None):
        super().__init__(env)
        if every is not None and not (is_integer(every) and every >= 1):
            raise ValueError(f"every must be a positive integer or None, got {every!r}")
        self.every = every
        self.steps, self.owed = np.zeros(self.num_envs, np.int64), np.zeros(self.num_envs)

    def start(self, lanes, obs, info):
        self.steps[lanes], self.owed[lanes] = 0, 0.0

    def advance(self, lanes, actions, obs, reward, terminated, truncated, info):
        self.steps += lanes
        self.owed += np.where(lanes, reward, 0.0)
        due = terminated | truncated
        if self.every is not None:
            due = due | (self.steps % self.every == 0)
        paid = np.where(lanes & due, self.owed, 0.0)
        self.owed[lanes & due] = 0.0
        return paid


class SparseReward(LaneWrapper):
    """Pays in coins of a given size as soon as one is full, or once at the end of the episode for reaching a threshold.

    Args:
        unit: size of the coins: reward adds up until it reaches a multiple of unit, which is paid; what is left, a sum
            smaller than unit, is paid at the end. The sum over an episode stays as it is.
        threshold: instead of a unit, the sum that is worth 1 at the end of the episode; a smaller one is worth 0.

    Raises:
        ValueError: not exactly one of the two is given, or it is no number, or unit is not positive.
    """

    def __init__(self, env: VectorEnv, unit: float | None = None, threshold: float | None = None):
        super().__init__(env)
        if (unit is None) == (threshold is None):
            raise ValueError(f"give either unit or threshold, got unit={unit!r} and threshold={threshold!r}")
        if unit is not None and not (is_number(unit) and 0.0 < unit < np.inf):
            raise ValueError(f"unit must be a positive number, got {unit!r}")
        if threshold is not None and not (is_number(threshold) and np.isfinite(threshold)):
            raise ValueError(f"threshold must be a finite number, got {threshold!r}")
        self.unit, self.threshold = unit, threshold
        self.owed = np.zeros(self.num_envs)

    def start(self, lanes, obs, info):
        self.owed[lanes] = 0.0

    def advance(self, lanes, actions, obs, reward, terminated, truncated, info):
        self.owed += np.where(lanes, reward, 0.0)
        ended = lanes & (terminated | truncated)
        if self.unit is None:
            return np.where(ended, self.owed >= self.threshold, 0.0)
        coins = self.unit * np.trunc(self.owed / self.unit)
        paid = np.where(ended, self.owed, np.where(lanes, coins, 0.0))
        self.owed -= paid
        return paid
