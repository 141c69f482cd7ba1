"""A trained policy, out of the directory of its run."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from explore_gym.agents.common.envs import TorchVectorEnv, make_vec
from explore_gym.agents.common.errors import UsageError
from explore_gym.agents.common.run import read_checkpoint


def load_policy(run_dir: Path | str) -> Callable[[Any], np.ndarray]:
    """Makes `policy(obs) -> actions` from the newest checkpoint of a run; it draws actions as it did in training.

    obs is a batch of any size as a vector env gives it: an array, or a dict of arrays (a tuple of texts may be among
    them). actions is int64 (batch,), numbered as the environment numbers them.

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
    envs = TorchVectorEnv(make_vec(args.env, 1, json.loads(args.env_kwargs), args.autoreset_mode))
    with torch.random.fork_rng(devices=[]):  # the initial weights are drawn, and replaced at once
        agent = module.Agent(envs, args)
    try:
        agent.load_state_dict(state["state/agent"])
    except (KeyError, RuntimeError) as error:
        raise UsageError(f"{checkpoint_file} does not fit this program: {error}") from error
    envs.close()

    @torch.inference_mode()
    def policy(obs: Any) -> np.ndarray:
        return agent.act(envs.rows(obs)).numpy() + envs.first_action

    return policy
