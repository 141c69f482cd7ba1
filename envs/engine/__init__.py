"""The engine: an environment's kernels over one record become a `gym.Env` and a batched `gym.vector.VectorEnv`."""

from explore_gym.envs.engine.env import KernelEnv
from explore_gym.envs.engine.kernels import kernel, state_dtype
from explore_gym.envs.engine.random import bernoulli, categorical, normal, randint, seed_stream, uniform
from explore_gym.envs.engine.tabular import TabularModel
from explore_gym.envs.engine.vector import KernelVectorEnv, vectorize

__all__ = [
    "KernelEnv",
    "KernelVectorEnv",
    "TabularModel",
    "bernoulli",
    "categorical",
    "kernel",
    "normal",
    "randint",
    "seed_stream",
    "state_dtype",
    "uniform",
    "vectorize",
]
