"""The step counter as an observation, so that a policy without memory can tell how late it is."""

import numpy as np
from gymnasium.vector import VectorEnv

from explore_gym.wrappers.lanes import LaneWrapper, is_integer


class StepCounter(LaneWrapper):
    """Adds the number of steps taken in this episode, or the fraction of a horizon that they are.

    A float vector is extended by it; any other observation becomes a Dict with the key "steps", float32 (1,).

    Args:
        horizon: number of steps that counts as 1, where the fraction stays; None gives the count itself.

    Raises:
        ValueError: horizon is no positive integer, or the Dict has a key "steps" already.
    """

    def __init__(self, env: VectorEnv, horizon: int | None = None):
        super().__init__(env)
        if horizon is not None and not (is_integer(horizon) and horizon >= 1):
            raise ValueError(f"horizon must be a positive integer or None, got {horizon!r}")
        self.horizon = horizon
        self.steps = np.zeros(self.num_envs, np.int64)
        self.add_component("steps", 1, 0.0, np.inf if horizon is None else 1.0)

    def advance(self, lanes, actions, obs, reward, terminated, truncated, info):
        self.steps += lanes
        return reward

    def start(self, lanes, obs, info):
        self.steps[lanes] = 0

    def extend(self, obs, index):
        steps = self.steps[index, None] if isinstance(index, slice) else self.steps[[index]]
        return self.join(obs, steps if self.horizon is None else np.minimum(steps / self.horizon, 1.0))
