"""Worlds with several agents as Gymnasium sees one agent: a lane for each agent, for self-play and for independent learners."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from explore_gym.envs.engine import KernelVectorEnv


class AgentLanes(gym.vector.VectorEnv):
    """A vector environment with a lane for each agent of each world: lane i * agents + j is agent j of world i.

    Rewards are each agent's own; an episode ends for all agents of a world at once. Metrics of a world are given to each of its
    lanes. What is not about lanes (states, forks) is offered by `worlds`.

    Args:
        worlds: the vector environment of a task for several agents.
    """

    def __init__(self, worlds: KernelVectorEnv):
        self.worlds, self.num_agents = worlds, worlds.env.num_agents  # type: ignore[attr-defined]
        self.num_envs = worlds.num_envs * self.num_agents
        self.metadata, self.render_mode = worlds.metadata, worlds.render_mode
        self.single_observation_space = agent_space(worlds.single_observation_space)
        self.single_action_space = agent_space(worlds.single_action_space)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._same_step = worlds.autoreset_mode is AutoresetMode.SAME_STEP
        self._per_agent = {key for key in worlds.env.metrics.fields if self._shape(key)[:1] == (self.num_agents,)}

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start episodes in all worlds, or in those whose lanes are in `options["reset_mask"]`, bool (num_envs,).

        Args:
            seed: of the worlds: None, an int (world i gets seed + i) or a sequence, one for each world.

        Raises:
            ValueError: the mask has some agents of a world, but not all.
        """
        if options is not None and "reset_mask" in options:
            mask = np.asarray(options["reset_mask"]).reshape(-1, self.num_agents)
            if (mask != mask[:, :1]).any():
                raise ValueError(f"reset_mask must reset all {self.num_agents} agents of a world or none, got {mask.tolist()}")
            options = {**options, "reset_mask": mask[:, 0].copy()}
        obs, info = self.worlds.reset(seed=seed, options=options)
        return self._lanes(obs), self._infos(info)

    def step(self, actions: Any) -> tuple[Any, NDArray, NDArray, NDArray, dict[str, Any]]:
        """Step all worlds with the actions of all agents, int (num_envs,)."""
        joint = np.asarray(actions)
        if joint.shape != (self.num_envs,):
            raise gym.error.InvalidAction(f"actions must have shape ({self.num_envs},), one for each agent, got {joint.shape}")
        obs, _, terminated, truncated, info = self.worlds.step(joint.reshape(-1, self.num_agents))
        last = info["final_info"] if self._same_step else info
        rewards = last["rewards"].reshape(-1)
        ends = np.repeat(terminated, self.num_agents), np.repeat(truncated, self.num_agents)
        return self._lanes(obs), rewards, *ends, self._infos(info)

    def render(self) -> tuple[Any, ...]:
        """One frame for each world."""
        return self.worlds.render()

    def close(self, **kwargs: Any) -> None:
        self.worlds.close(**kwargs)

    def _lanes(self, obs):
        return {key: part.reshape(self.num_envs, *part.shape[2:]) for key, part in obs.items()}

    def _infos(self, info):
        lanes = {}
        for key, value in info.items():
            if key == "final_obs":
                lanes[key] = self._lanes(value)
            elif isinstance(value, dict):
                lanes[key] = self._infos(value)
            elif key in self._per_agent:
                lanes[key] = value.reshape(self.num_envs, *value.shape[2:])
            else:
                lanes[key] = np.repeat(value, self.num_agents, 0)
        return lanes

    def _shape(self, key):
        return self.worlds.env.metrics.dtype[key].shape


def agent_space(space: spaces.Space) -> spaces.Space:
    """The space of one agent, of a joint space with an axis for agents in front."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: agent_space(part) for key, part in space.items()})
    if isinstance(space, spaces.MultiDiscrete):
        return spaces.Discrete(int(space.nvec[0]))
    assert isinstance(space, spaces.Box)
    return spaces.Box(space.low[0], space.high[0], dtype=space.low.dtype.type)
