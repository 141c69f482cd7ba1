"""What random policies of behaviour search do: small networks with random weights, each playing one episode.

python scripts/random_networks.py --env Explore/RedundantArm-v0 --networks 1000

The controllers are those of novelty search with emitters (Paolo et al., 2021, arXiv:2102.03140): two layers of five units, one
bias for a whole layer, activation 2 sigmoid(x) - 1, weights and biases from a standard normal distribution. Actions are scaled
to the bounds of the space. Printed are, as mean over draws of so many networks with its 95 % confidence interval (Student's t):
the share of the cells that episodes end in, the share of episodes that end in a goal's area, and steps.
"""

import json
import sys
from dataclasses import dataclass
from itertools import pairwise

import gymnasium as gym
import numpy as np
import tyro
from scipy import stats

import explore_gym  # noqa: F401  registers the ids


@dataclass
class Args:
    env: str = "Explore/HardMaze-v0"  # an id whose infos have cell and reward_area
    env_kwargs: str = "{}"  # JSON object with the environment's arguments
    networks: int = 200  # of a draw
    draws: int = 10
    hidden: tuple[int, ...] = (5, 5)
    num_cells: int = 2500  # that an episode can end in
    seed: int = 0

    def __post_init__(self):
        for name, least in (("networks", 1), ("draws", 2), ("num_cells", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")


class Networks:
    """Random networks, one for each lane: observations (lanes, inputs) -> actions (lanes, outputs), -1 to 1."""

    def __init__(self, rng, lanes, sizes):
        self.layers = [(rng.standard_normal((lanes, i, o)), rng.standard_normal((lanes, 1))) for i, o in pairwise(sizes)]

    def __call__(self, x):
        for weights, bias in self.layers:
            x = np.tanh((np.einsum("li,lio->lo", x, weights) + bias) / 2)  # 2 sigmoid(x) - 1
        return x


def play(args, rng):
    """One draw: the share of cells, the share of episodes in an area, and mean steps."""
    envs = gym.make_vec(args.env, num_envs=args.networks, autoreset_mode="Disabled", **json.loads(args.env_kwargs))
    space = envs.single_action_space
    networks = Networks(rng, args.networks, (envs.single_observation_space.shape[0], *args.hidden, space.shape[0]))
    obs, info = envs.reset(seed=0)
    cells, areas, steps = np.zeros(args.networks, int), np.full(args.networks, -1), np.zeros(args.networks, int)
    going = np.ones(args.networks, bool)
    while going.any():
        action = (space.low + (networks(obs) + 1) / 2 * (space.high - space.low)).astype(space.dtype)
        obs, _, terminated, truncated, info = envs.step(action)
        steps += going
        done = terminated | truncated
        ended = going & done
        cells[ended], areas[ended] = info["cell"][ended], info["reward_area"][ended]
        going &= ~done
        if done.any():  # lanes that are over start anew; nobody looks at them
            obs, _ = envs.reset(options={"reset_mask": done})
    return len(np.unique(cells)) / args.num_cells, (areas >= 0).mean(), steps.mean()


def measure(args):
    """Means over draws and the half widths of their confidence intervals, by name."""
    rng = np.random.default_rng(args.seed)
    found = np.array([play(args, rng) for _ in range(args.draws)])
    half = stats.t.ppf(0.975, args.draws - 1) * found.std(0, ddof=1) / args.draws**0.5
    return dict(zip(("cells", "areas", "steps"), zip(found.mean(0).tolist(), half.tolist())))


def main():
    try:
        args = tyro.cli(Args, description=__doc__)
        found = measure(args)
    except (ValueError, TypeError, gym.error.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    for name, text, scale in (
        ("cells", "% of cells", 100),
        ("areas", "% of episodes end in an area", 100),
        ("steps", "steps", 1),
    ):
        mean, half = found[name]
        print(f"{scale * mean:.3g} ± {scale * half:.2g} {text}")


if __name__ == "__main__":
    main()
