"""XLand's tasks for several agents as PettingZoo's `ParallelEnv`."""

from typing import Any

import numpy as np
from gymnasium import spaces

from explore_gym.envs.xland.lanes import agent_space
from explore_gym.envs.xland.xland import XLandEnv

try:
    from pettingzoo import ParallelEnv
except ImportError:
    raise ImportError("a ParallelEnv needs PettingZoo: pip install 'explore-gym[multiagent]'") from None


class XLandParallel(ParallelEnv):
    """A task for several agents, called agent_0, agent_1, ...; each sees, gets and is told what is its own.

    Args:
        env: the environment with joint actions.
    """

    def __init__(self, env: XLandEnv):
        self.env = env
        self.render_mode = env.render_mode
        self.metadata = {**env.metadata, "name": type(env).__name__, "is_parallelizable": True}
        self.possible_agents = [f"agent_{i}" for i in range(env.num_agents)]
        self.agents: list[str] = []
        self._observation_spaces = {agent: agent_space(env.observation_space) for agent in self.possible_agents}
        self._action_spaces = {agent: agent_space(env.action_space) for agent in self.possible_agents}

    def observation_space(self, agent: str) -> spaces.Space:
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        return self._action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict[str, Any], dict[str, dict]]:
        """Start an episode. Options are ignored, as there are none."""
        obs, info = self.env.reset(seed=seed)
        self.agents = list(self.possible_agents)
        return self._share(obs), self._share_info(info)

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        """Step with an action for each agent.

        Raises:
            ValueError: an agent's action is missing.
            ResetNeeded: before the first reset, or after an episode's end.
            InvalidAction: an action lies outside the action space.
        """
        missing = [agent for agent in self.agents if agent not in actions]
        if missing:
            raise ValueError(f"actions must have one for each of {self.agents}, got none for {missing}")
        obs, _, terminated, truncated, info = self.env.step(np.array([actions[agent] for agent in self.possible_agents]))
        rewards = dict(zip(self.possible_agents, info["rewards"].tolist(), strict=True))
        ends = dict.fromkeys(self.possible_agents, terminated), dict.fromkeys(self.possible_agents, truncated)
        if terminated or truncated:
            self.agents = []
        return self._share(obs), rewards, *ends, self._share_info(info)

    def render(self) -> Any:
        return self.env.render()

    def close(self) -> None:
        self.env.close()

    def _share(self, obs):
        return {agent: {key: part[i] for key, part in obs.items()} for i, agent in enumerate(self.possible_agents)}

    def _share_info(self, info):
        own = [key for key, value in info.items() if isinstance(value, np.ndarray)]
        return {
            agent: {key: value[i] if key in own else value for key, value in info.items()}
            for i, agent in enumerate(self.possible_agents)
        }
