"""What the agents share and what is not the algorithm: runs, environments as tensors, evaluation, plots."""

from explore_gym.agents.common.envs import Features, Part, TorchVectorEnv, make_vec, obs_layout
from explore_gym.agents.common.errors import UsageError
from explore_gym.agents.common.evaluation import evaluate
from explore_gym.agents.common.plots import heat_map, learning_curve
from explore_gym.agents.common.policies import load_policy
from explore_gym.agents.common.run import Args, Run, at_least, main, read_checkpoint, read_metrics, start, within
from explore_gym.agents.common.speed import Adam, compiled

__all__ = [
    "Adam",
    "Args",
    "Features",
    "Part",
    "Run",
    "TorchVectorEnv",
    "UsageError",
    "at_least",
    "compiled",
    "evaluate",
    "heat_map",
    "learning_curve",
    "load_policy",
    "main",
    "make_vec",
    "obs_layout",
    "read_checkpoint",
    "read_metrics",
    "start",
    "within",
]
