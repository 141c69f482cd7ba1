"""A tiny environment with numbers that can be worked out by hand, and batches of it in every autoreset mode."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv


class Line(gym.Env):
    """Cells 0, 1, 2 ...: action a moves a cells on and pays a; terminates at cell 5 or beyond, truncates at step 4.

    Observation: [cell, task], the task an integer in 0..999 drawn at reset, which nothing depends on.
    Info: cell, and from the first step on the action as message.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Discrete(4)

    def __init__(self):
        self.metadata = {"render_modes": []}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell = self.clock = 0
        self.task = int(self.np_random.integers(1000))
        return self.observe(), {"cell": 0}

    def step(self, action):
        self.cell, self.clock = self.cell + int(action), self.clock + 1
        info = {"cell": self.cell, "message": int(action)}
        return self.observe(), float(action), self.cell >= 5, self.clock >= 4, info

    def observe(self):
        return np.array([self.cell, self.task], np.float32)


@pytest.fixture
def line():
    """make(num_envs=1, mode="Disabled"): a batch of `Line`."""

    def make(num_envs=1, mode="Disabled"):
        return SyncVectorEnv([Line] * num_envs, autoreset_mode=AutoresetMode(mode))

    return make
