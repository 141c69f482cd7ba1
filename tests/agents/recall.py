"""A task for memory alone: a cue is shown once and asked for after a delay."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces

NUM_CUES, SHORTEST, LONGEST = 4, 2, 5
DUE = NUM_CUES + 1


class Recall(gym.Env):
    """Observation: 1 to 4 in the first step, the cue; then 0, and 5 when the answer is due, after 2 to 5 steps.

    Action: the answer; the reward for the cue less 1 is 1. Without memory one answer in four is right.
    """

    observation_space = spaces.Discrete(NUM_CUES + 2)
    action_space = spaces.Discrete(NUM_CUES)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cue = int(self.np_random.integers(NUM_CUES))
        self.wait = int(self.np_random.integers(SHORTEST, LONGEST + 1))
        return np.int64(self.cue + 1), {}

    def step(self, action):
        self.wait -= 1
        if self.wait < 0:
            return np.int64(0), float(action == self.cue), True, False, {}
        return np.int64(0 if self.wait else DUE), 0.0, False, False, {}


gym.register("Recall-v0", Recall)
