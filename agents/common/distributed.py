"""Several processes that train one model, each with environments of its own: `torchrun --nproc-per-node 2 agents/ppo.py`."""

from __future__ import annotations

import atexit
import os

import torch
from torch import distributed

RANK, WORLD_SIZE = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))  # by torchrun


def join(device: torch.device) -> None:
    """Meets the other processes, over NCCL if they train on GPUs and otherwise over gloo; once, and not if there are none."""
    if WORLD_SIZE > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(distributed.destroy_process_group)  # a thread of gloo's that outlives Python aborts the process


def wait() -> None:
    """Returns when every process has come here."""
    if WORLD_SIZE > 1:
        distributed.barrier()


def averaged(x: torch.Tensor) -> torch.Tensor:
    """The mean over processes of a tensor that has the same shape in each; the tensor itself if there is one."""
    if WORLD_SIZE == 1:
        return x
    x = x.clone()
    distributed.all_reduce(x)
    return x / WORLD_SIZE


def standardised(x: torch.Tensor) -> torch.Tensor:
    """x less the mean, divided by the standard deviation, of all processes' x, of the same size in each."""
    if WORLD_SIZE == 1:
        return (x - x.mean()) / (x.std() + 1e-8)
    size = WORLD_SIZE * x.numel()
    centred = x - averaged(x.mean())
    variance = averaged(centred.square().mean()) * size / (size - 1)
    return centred / (variance.sqrt() + 1e-8)


def spread(x: torch.Tensor) -> None:
    """Puts the first process's values into the tensor of every process."""
    if WORLD_SIZE > 1:
        distributed.broadcast(x, 0)


def any_true(values: list[bool], device: torch.device) -> list[bool]:
    """Which of these values are true in one of the processes."""
    if WORLD_SIZE == 1:
        return values
    flags = torch.tensor(values, dtype=torch.int32, device=device)
    distributed.all_reduce(flags, distributed.ReduceOp.MAX)
    return [bool(flag) for flag in flags.tolist()]
