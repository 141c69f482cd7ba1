"""Playing a trained policy, without bias towards short episodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from explore_gym.agents.common.envs import TorchVectorEnv


@torch.inference_mode()
def evaluate(
    act: Callable[[torch.Tensor], torch.Tensor], envs: TorchVectorEnv, num_episodes: int, seed: int
) -> dict[str, float]:
    """Mean return and length over the first episodes of every lane, at least num_episodes in all.

    Each lane plays the same number of episodes: taking whichever end first would favour short ones. Where worlds have
    several agents, the mean return of each of them, too.
    """
    per_lane = -(-num_episodes // envs.num_envs)
    finished = np.zeros(envs.num_envs, np.int64)
    total_return, total_length = np.zeros(envs.num_envs), np.zeros(envs.num_envs)
    obs = envs.reset(seed=seed)
    while (playing := finished < per_lane).any():
        obs, reward, terminated, truncated, info = envs.step(act(obs))
        total_return += reward.numpy() * playing
        total_length += info["valid"].numpy() & playing
        finished += (terminated | truncated).numpy()
    count = per_lane * envs.num_envs
    metrics = {
        "eval/episode_return": float(total_return.sum() / count),
        "eval/episode_length": float(total_length.sum() / count),
        "eval/episodes": float(count),
    }
    if envs.num_agents > 1:
        for agent, own in enumerate(total_return.reshape(-1, envs.num_agents).mean(0) / per_lane):
            metrics[f"eval/episode_return/agent_{agent}"] = float(own)
    return metrics
