"""CleanRL's PPO script, unchanged, on an id of ours in its own interface: a peer of scripts/throughput.py.

python cleanrl_ppo.py <their ppo.py> <id> <JSON object of the id's arguments> <their flags>

The id is made one by one and its observation flattened, since their network takes a vector and their environments are
Gymnasium's sync vector environment.
"""

import json
import runpy
import sys

import gymnasium as gym
from gymnasium.wrappers import FlattenObservation

import explore_gym  # noqa: F401  registers the ids


def make(render_mode=None):
    return FlattenObservation(gym.make(env_id, render_mode=render_mode, **env_kwargs))


script, env_id, env_kwargs = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
gym.register("Yardstick-v0", entry_point=make, disable_env_checker=True)
sys.argv = [script, "--env-id", "Yardstick-v0", *sys.argv[4:]]
runpy.run_path(script, run_name="__main__")
