"""stable-baselines3's DQN, for the test bed.

python scripts/benchmark.py sparse --agents "dqn=python docs/examples/sb3_dqn.py"
"""

import gymnasium as gym
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecMonitor

import explore_gym  # noqa: F401  registers the ids
from explore_gym.scripts import external
from explore_gym.wrappers.stable_baselines3 import StableBaselines3VecEnv


class LogEpisodes(BaseCallback):
    def __init__(self, log):
        super().__init__()
        self.log = log

    def _on_step(self):
        returns = [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
        if returns:
            self.log(self.num_timesteps, episode_return=sum(returns) / len(returns))
        return True


args = external.arguments()
torch.set_num_threads(1)
envs = gym.make_vec(args.env, num_envs=8, autoreset_mode="SameStep", **args.env_kwargs)
model = DQN(
    "MlpPolicy",
    VecMonitor(StableBaselines3VecEnv(envs)),
    learning_starts=1000,
    train_freq=4,  # steps of the batch
    gradient_steps=8,  # one for every 4 environment steps
    target_update_interval=1000,
    policy_kwargs={"normalize_images": False},  # grids are codes, not pixels
    seed=args.seed,
    device="cpu",
)
model.learn(args.total_timesteps, callback=LogEpisodes(external.Logger(args.run_dir)))
