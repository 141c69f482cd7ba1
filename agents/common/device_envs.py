"""Environments that stay on the device: what an agent steps without waiting, so that a CUDA graph can hold its rollout."""

from __future__ import annotations

import importlib.util
from typing import Any

import gymnasium as gym
import numba
import numpy as np
import torch

from explore_gym.agents.common.envs import actions_of, obs_layout, rows_dtype


def device_for_envs(device: torch.device) -> torch.device | None:
    """Where environments of a run on this device can be: on its GPU, if numba-cuda is installed, or in numba's simulator."""
    if numba.config.ENABLE_CUDASIM:  # type: ignore[attr-defined]
        return torch.device("cuda")
    return device if device.type == "cuda" and importlib.util.find_spec("numba_cuda") is not None else None


class DeviceVectorEnv:
    """`TorchVectorEnv` of a batch on the device (`make_vec` with device="cuda") in SameStep mode.

    Everything it returns is on the device and nothing waits for it; flags and infos are overwritten by the next step. Since
    nobody knows then how many episodes ended, info["final_obs"] is dense, (num_envs, obs_dim): the obs that each lane's step
    reached, before any autoreset. There is no info["valid"]: no step is spent on a reset.
    """

    dense = True
    num_agents = 1

    def __init__(self, envs: gym.vector.VectorEnv):
        self.envs, self.worlds, self.num_envs = envs, envs.unwrapped, envs.num_envs
        worlds: Any = self.worlds
        self.device: torch.device = worlds.device
        self.layout = obs_layout(worlds.env.observation_space)  # of the single environment: instructions are left out
        self.obs_dim = self.layout[-1].stop
        self.num_actions, self.first_action = actions_of(envs.single_action_space)
        self.obs_dtype = rows_dtype(worlds.env.observation_space)
        zeros = lambda dtype, *shape: torch.zeros(self.num_envs, *shape, dtype=dtype, device=self.device)
        self.obs, self.reward = zeros(self.obs_dtype, self.obs_dim), zeros(torch.float32)
        self.episode_return, self.episode_length = zeros(torch.float64), zeros(torch.int64)
        self.sums: dict[str, torch.Tensor] = {}
        self.num_episodes = torch.zeros((), dtype=torch.int64, device=self.device)

    @property
    def starts(self) -> torch.Tensor:
        return self.episode_length == 0

    def rows(self, obs: Any) -> torch.Tensor:
        """Flattens a batch of observations, tensors of the device or arrays, into a new (batch, obs_dim)."""
        columns = []
        for part in self.layout:
            component = torch.as_tensor(obs[part.name] if part.name else obs, device=self.device)
            column = component.flatten(1) if component.ndim > 1 else component.unsqueeze(1)
            if any(part.offsets):
                column = column - torch.tensor(part.offsets, device=self.device)
            columns.append(column.to(self.obs_dtype))
        return torch.cat(columns, 1)

    def reset(self, seed: int | None = None) -> torch.Tensor:
        obs, _ = self.envs.reset(seed=seed)
        for x in (self.episode_return, self.episode_length, self.num_episodes, self.reward, *self.sums.values()):
            x.zero_()
        return self.obs.copy_(self.rows(obs))

    def step(self, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, dict]:
        obs, reward, terminated, truncated, info = self.envs.step(action + self.first_action)
        done = terminated | truncated
        self.episode_return += reward
        self.episode_length += 1
        self._record(done, info["final_info"])
        self.obs.copy_(self.rows(obs))
        self.reward.copy_(reward)
        reached = {"final_obs": self.rows(info["final_obs"]), "reached": info["final_info"]}
        return self.obs, self.reward, terminated, truncated, reached

    def _record(self, done: torch.Tensor, reached: dict) -> None:
        ended = {"episode_return": self.episode_return, "episode_length": self.episode_length}
        for key, value in reached.items():
            if value.shape == done.shape and (value.is_floating_point() or value.dtype is torch.bool) and key[0] != "_":
                ended[key] = value
        for key, value in ended.items():
            total = self.sums.setdefault(key, torch.zeros((), dtype=torch.float64, device=self.device))
            total += value.double().masked_fill(~done, 0.0).sum()
        self.num_episodes += done.sum()
        self.episode_return.masked_fill_(done, 0.0)
        self.episode_length.masked_fill_(done, 0)

    def episode_metrics(self) -> dict[str, float]:
        """Means over the episodes that ended since the last call; waits for the device."""
        number = int(self.num_episodes)
        metrics = {key: float(total) / number for key, total in self.sums.items()} if number else {}
        for x in (self.num_episodes, *self.sums.values()):
            x.zero_()
        return metrics

    def state_dict(self) -> dict:
        """Everything that a resumed run needs, as tensors and plain values; `TorchVectorEnv` can't read it."""
        worlds: Any = self.worlds
        snapshot = torch.from_numpy(np.frombuffer(worlds.get_state().tobytes(), np.uint8).copy())
        names = ("obs", "reward", "episode_return", "episode_length", "num_episodes")
        return {"device_env": snapshot, "sums": self.sums, **{name: getattr(self, name) for name in names}}

    def load_state_dict(self, state: dict) -> None:
        worlds: Any = self.worlds
        self.envs.reset(seed=0)  # kernels are loaded by the first reset
        worlds.set_state(np.frombuffer(state["device_env"].numpy().tobytes(), worlds.env.state_dtype).copy())
        for name in ("obs", "reward", "episode_return", "episode_length", "num_episodes"):
            getattr(self, name).copy_(state[name])
        self.sums = {key: total.to(self.device) for key, total in state["sums"].items()}

    def close(self) -> None:
        self.envs.close()
