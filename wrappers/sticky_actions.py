"""Sticky actions: now and then the environment repeats the previous action instead of the one chosen."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from explore_gym.wrappers.lanes import LaneWrapper, is_number


class StickyActions(LaneWrapper):
    """With probability p the action executed before is executed again; never at the first step of an episode.

    Adds `info["repeated"]`, bool (num_envs,): whether the last step did so.

    Args:
        env: vector environment with Discrete, MultiDiscrete, MultiBinary or Box actions.
        p: probability, in [0, 1].

    Raises:
        ValueError: p lies outside [0, 1], or actions are no arrays.
        InvalidAction: from `step`, an action outside the space, also one that would not have been executed.

    Source: Machado et al., "Revisiting the Arcade Learning Environment" (2018), section 5.
    """

    def __init__(self, env: VectorEnv, p: float = 0.25):
        super().__init__(env)
        if not (is_number(p) and 0.0 <= p <= 1.0):
            raise ValueError(f"p must lie in [0, 1], got {p!r}")
        space = env.action_space
        if not isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary | spaces.Box):
            raise ValueError(f"actions must be Discrete, MultiDiscrete, MultiBinary or Box, got {env.single_action_space}")
        self.p, self.space = p, space
        self.previous = np.zeros(space.shape, space.dtype)
        self.moved, self.repeated = np.zeros((2, self.num_envs), bool)

    def act(self, actions, lanes):
        chosen = np.asarray(actions)
        if not np.can_cast(chosen.dtype, self.space.dtype, "same_kind") or not self.space.contains(
            chosen.astype(self.space.dtype)
        ):
            raise gym.error.InvalidAction(f"actions must be an element of {self.space}, got {actions!r}")
        repeated = self._repeats(lanes)
        return np.where(repeated.reshape(-1, *[1] * (chosen.ndim - 1)), self.previous, chosen.astype(self.space.dtype))

    def advance(self, lanes, actions, obs, reward, terminated, truncated, info):
        self.repeated[lanes] = self._repeats(lanes)[lanes]
        self.random.skip(lanes, 1)
        self.previous[lanes], self.moved[lanes] = actions[lanes], True
        return reward

    def start(self, lanes, obs, info):
        self.moved[lanes] = self.repeated[lanes] = False

    def report(self):
        return {"repeated": self.repeated}

    def _repeats(self, lanes):
        return lanes & self.moved & (self.random.uniform(1)[:, 0] < self.p)
