"""Uniformly random actions, for the test bed: what every algorithm has to beat.

python scripts/benchmark.py sparse --agents "random=python docs/examples/random_agent.py"
"""

import gymnasium as gym

import explore_gym  # noqa: F401  registers the ids
from explore_gym.scripts import external

args = external.arguments()
log = external.Logger(args.run_dir)
env = gym.make(args.env, **args.env_kwargs)
env.action_space.seed(args.seed)
env.reset(seed=args.seed)
episode_return = 0.0
for step in range(1, args.total_timesteps + 1):
    _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
    episode_return += reward
    if terminated or truncated:
        log(step, episode_return=episode_return)
        episode_return = 0.0
        env.reset()
