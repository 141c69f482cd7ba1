"""What the agents share and what is not the algorithm: runs, environments as tensors, evaluation, plots."""

from explore_gym.agents.common.device_envs import DeviceVectorEnv
from explore_gym.agents.common.distributed import RANK, WORLD_SIZE, averaged, join, spread, standardised
from explore_gym.agents.common.envs import Features, Part, TorchVectorEnv, make_vec, obs_layout
from explore_gym.agents.common.errors import UsageError
from explore_gym.agents.common.evaluation import evaluate
from explore_gym.agents.common.generation import Samples
from explore_gym.agents.common.language_model import GPT, GPTConfig, LanguageModel, load_model, pass_at_k
from explore_gym.agents.common.plots import heat_map, learning_curve
from explore_gym.agents.common.policies import load_policy
from explore_gym.agents.common.run import Args, Run, at_least, main, read_checkpoint, read_metrics, start, within
from explore_gym.agents.common.sft import SFTConfig, base_model, fine_tune
from explore_gym.agents.common.speed import Adam, captured, compiled, permutation

__all__ = [
    "GPT",
    "RANK",
    "WORLD_SIZE",
    "Adam",
    "Args",
    "DeviceVectorEnv",
    "Features",
    "GPTConfig",
    "LanguageModel",
    "Part",
    "Run",
    "SFTConfig",
    "Samples",
    "TorchVectorEnv",
    "UsageError",
    "at_least",
    "averaged",
    "base_model",
    "captured",
    "compiled",
    "evaluate",
    "fine_tune",
    "heat_map",
    "join",
    "learning_curve",
    "load_model",
    "load_policy",
    "main",
    "make_vec",
    "obs_layout",
    "pass_at_k",
    "permutation",
    "read_checkpoint",
    "read_metrics",
    "spread",
    "standardised",
    "start",
    "within",
]
