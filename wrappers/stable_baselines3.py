"""A vector environment for stable-baselines3: batches that step in one call, not one environment after the other.

envs = gym.make_vec("Explore/FourRooms-v0", num_envs=64, autoreset_mode="SameStep", observation="image")
model = PPO("MlpPolicy", VecMonitor(StableBaselines3VecEnv(envs)))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices


class StableBaselines3VecEnv(VecEnv):
    """A Gymnasium vector environment with stable-baselines3's interface; rewards float32, dones bool (num_envs,).

    A lane's info has its metrics and `TimeLimit.truncated`; where an episode ended, they are those of its last step, with
    `terminal_observation`, and `reset_infos` has those of the new episode.

    Args:
        envs: any vector environment with autoreset_mode "SameStep", which is how stable-baselines3 resets.

    Raises:
        ValueError: another autoreset mode, or an observation with text, which stable-baselines3 doesn't take.
    """

    def __init__(self, envs: gym.vector.VectorEnv):
        mode = envs.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(f'envs must be made with autoreset_mode="SameStep", got {mode}')
        space = envs.single_observation_space
        components = space.spaces if isinstance(space, spaces.Dict) else {"observation": space}
        texts = [name for name, component in components.items() if isinstance(component, spaces.Text)]
        if texts:
            hint = 'make them with observation="image", or filter the observation'
            raise ValueError(f"stable-baselines3 takes no text, but the observations have {', '.join(texts)}: {hint}")
        self.envs = envs
        super().__init__(envs.num_envs, space, envs.single_action_space)

    def reset(self) -> Any:
        if any(options != self._options[0] for options in self._options):
            raise ValueError(f"options must be the same for all environments, got {self._options}")
        seeds: Any = None if self._seeds == [None] * self.num_envs else self._seeds
        obs, info = self.envs.reset(seed=seeds, options=self._options[0] or None)
        self.reset_infos = lane_infos(info, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        obs, reward, terminated, truncated, info = self.envs.step(self._actions)
        final = {key: info.pop(key) for key in ("final_obs", "final_info") if key in info}
        done = terminated | truncated
        infos = lane_infos(info, self.num_envs)
        if done.any():
            final_infos = lane_infos(final["final_info"], self.num_envs)
            for lane in np.flatnonzero(done).tolist():
                self.reset_infos[lane], infos[lane] = infos[lane], final_infos[lane]
                infos[lane]["terminal_observation"] = take_lane(final["final_obs"], lane)
        for lane_info, cut in zip(infos, (truncated & ~terminated).tolist()):
            lane_info["TimeLimit.truncated"] = cut
        return obs, reward.astype(np.float32), done, infos

    def close(self) -> None:
        self.envs.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        frames: Any = self.envs.render()
        return frames

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The batch's attribute, once for each environment asked for."""
        return [getattr(self.envs, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute of the batch.

        Raises:
            ValueError: only some of the environments are meant.
        """
        if len(list(self._get_indices(indices))) < self.num_envs:
            raise ValueError(f"a batch has its attributes in common: {attr_name} cannot be set for {indices} alone")
        setattr(self.envs, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any) -> list[Any]:
        """
        Raises:
            NotImplementedError: always, the environments of a batch are no objects of their own.
        """
        raise NotImplementedError(f"a batch has no environment to call {method_name} of: call it of the batch, .envs")

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]


def lane_infos(info: dict[str, Any], num_envs: int) -> list[dict[str, Any]]:
    """One dict for each lane, of the keys it has, from a vector environment's dict of arrays."""
    lanes: list[dict[str, Any]] = [{} for _ in range(num_envs)]
    for key, values in info.items():
        if key.startswith("_"):
            continue
        columns = lane_infos(values, num_envs) if isinstance(values, dict) else values
        there = info.get(f"_{key}", np.ones(num_envs, bool))
        for lane in np.flatnonzero(there).tolist():
            lanes[lane][key] = columns[lane]
    return lanes


def take_lane(obs: Any, lane: int) -> Any:
    return {key: value[lane] for key, value in obs.items()} if isinstance(obs, dict) else obs[lane]
