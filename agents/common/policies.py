"""A trained policy, out of the directory of its run."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from explore_gym.agents.common.envs import TorchVectorEnv, make_vec
from explore_gym.agents.common.errors import UsageError
from explore_gym.agents.common.run import read_checkpoint


def load_policy(run_dir: Path | str) -> Callable[..., np.ndarray]:
    """Makes `policy(obs, starts=None, rewards=None) -> actions` from the newest checkpoint; it draws actions as in training.

    obs is a batch of any size as a vector env gives it: an array, or a dict of arrays (a tuple of texts may be among
    them). actions is int64 (batch,), numbered as the environment numbers them.

    A policy with a memory wants to be called at every step, with starts, bool (batch,): which observations are the first
    of an episode; without it only those of the first call and of a call with a new batch size are. Some also look at
    rewards (batch,), those of the actions of the call before. Other policies take both and ignore them.

    Raises:
        UsageError: there is no run, its config.json or checkpoint.pt is damaged, or they do not fit this program.
    """
    config_file, checkpoint_file = Path(run_dir) / "config.json", Path(run_dir) / "checkpoint.pt"
    if not config_file.is_file():
        raise UsageError(f"run_dir must hold a run, but there is no {config_file}")
    try:
        config = json.loads(config_file.read_text())["args"]
        module = importlib.import_module(f"explore_gym.agents.{config.pop('agent')}")
        args = module.Args(**config)
    except (ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise UsageError(f"{config_file} does not describe a run of this program: {error!r}") from error
    state = read_checkpoint(checkpoint_file)
    envs = TorchVectorEnv(make_vec(args.env, args.num_envs, json.loads(args.env_kwargs), args.autoreset_mode))
    with torch.random.fork_rng(devices=[]):  # the initial weights are drawn, and replaced at once
        agent = module.Agent(envs, args)
    try:
        agent.load_state_dict(state["state/agent"])
    except (KeyError, RuntimeError) as error:
        raise UsageError(f"{checkpoint_file} does not fit this program: {error}") from error
    envs.close()
    known = inspect.signature(agent.act).parameters

    @torch.inference_mode()
    def policy(obs: Any, starts: Any = None, rewards: Any = None) -> np.ndarray:
        last = {"starts": starts, "rewards": rewards}
        given = {key: torch.as_tensor(x) for key, x in last.items() if key in known and x is not None}
        return agent.act(envs.rows(obs), **given).numpy() + envs.first_action

    return policy
