"""How much the optimal value differs between contexts where a feature of the state is the same: `python scripts/value_variance.py`.

Henaff et al. (2023, arXiv:2306.03236) explain with it when a global novelty bonus helps (values agree) and when an episodic
one does (they don't). The score is E_psi[Var_c(V(psi, c))]: V(psi, c) is the mean optimal value of the states of context c
with feature psi, the mean over psi is weighted by the number of contexts that have it, and features of one context alone
don't count. Optimal values come from every state that can be reached, by value iteration over the exact graph.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import tyro

import explore_gym  # noqa: F401  registers the ids
from explore_gym.envs.engine import KernelVectorEnv

WIDTH = 4096  # states stepped at once
INFO_KEYS = {"position": "cell", "message": "message"}
# environment, its arguments, the feature that is counted there
SETTINGS: list[tuple[str, dict[str, Any], Literal["position", "message"]]] = [
    ("Explore/Corridors-v0", {"num_contexts": 1}, "position"),
    ("Explore/KeyRoom-v0", {}, "message"),
    ("Explore/LavaMultiRoom-v0", {"num_rooms": 4}, "position"),
]


@dataclass
class Args:
    num_contexts: int = 30  # contexts drawn of each environment
    gamma: float = 0.99
    seed: int = 0
    output: Path | None = None  # JSON file of the scores


def reachable(envs, start, key):
    """Every state that can be reached from a record, with deterministic steps; the clock stands still.

    `envs` is a batch of WIDTH lanes that don't reset by themselves. Returns successors, rewards, terminated, each
    (num_states, num_actions), and features (num_states,): info[key] of each state, -1 of the first one until it is reached
    again. State 0 is the start. States are told apart by a 64-bit hash of the fields that aren't metrics.

    Raises:
        ValueError: a step draws random numbers.
    """
    env, num_actions = envs.env, int(envs.single_action_space.n)
    tracked = [name for name in start.dtype.names if name not in ("rng", "t", "done", *env.untracked)]
    weights = np.random.default_rng(0).integers(2**64, size=sum(start[name].size for name in tracked), dtype=np.uint64)

    def hashes(states):
        words = [states[name].reshape(len(states), -1).astype(np.uint64) for name in tracked]
        return (np.concatenate(words, 1) * weights).sum(1).tolist()

    index = {hashes(start[None])[0]: 0}
    frontier = start[None]
    tables: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    features = {0: -1}
    while len(frontier):
        new = []
        for states in np.split(frontier, range(WIDTH, len(frontier), WIDTH)):
            n = len(states)
            table = np.zeros((n, num_actions), np.int64), np.zeros((n, num_actions)), np.zeros((n, num_actions), bool)
            padded = np.concatenate([states, np.repeat(states[:1], WIDTH - n)])
            for action in range(num_actions):
                envs.set_state(padded)
                _, reward, terminated, _, info = envs.step(np.full(WIDTH, action))
                after = envs.get_state()[:n]
                if (after["rng"] != states["rng"]).any():
                    raise ValueError(f"steps must be deterministic, but action {action} draws random numbers")
                after["t"], after["done"] = start["t"], False
                for i, (word, feature) in enumerate(zip(hashes(after), info[key][:n].tolist())):
                    known = len(index)
                    table[0][i, action] = number = index.setdefault(word, known)
                    if number == known:
                        new.append(after[i])
                    features[number] = feature
                table[1][:, action], table[2][:, action] = reward[:n], terminated[:n]
            tables.append(table)
        frontier = np.array(new, start.dtype)
    successors, rewards, terminated = (np.concatenate(x) for x in zip(*tables))
    return successors, rewards, terminated, np.array([features[i] for i in range(len(index))])


def optimal_values(successors, rewards, terminated, gamma):
    """V* of each state, without a time limit."""
    values = np.zeros(len(successors))
    while True:
        better = (rewards + gamma * ~terminated * values[successors]).max(1)
        if np.array_equal(better, values):
            return values
        values = better


def variance_over_contexts(values):
    """The score, from a dict feature -> V(psi, c) in each context that has it."""
    shared = [x for x in values.values() if len(x) > 1]
    if not shared:
        raise ValueError("no feature is shared by two contexts")
    return float(np.average([np.var(x) for x in shared], weights=[len(x) for x in shared]))


def score(env_id, kwargs, feature, args):
    """The score of an environment over args.num_contexts of its contexts."""
    env = gym.make(env_id, **kwargs).unwrapped
    starts = KernelVectorEnv(env, args.num_contexts)
    starts.reset(seed=args.seed)
    envs = KernelVectorEnv(env, WIDTH, autoreset_mode="Disabled")
    by_feature: dict[int, list[float]] = {}
    for start in starts.get_state():
        successors, rewards, terminated, features = reachable(envs, start, INFO_KEYS[feature])
        values = optimal_values(successors, rewards, terminated, args.gamma)
        ended = np.zeros(len(values), bool)
        ended[successors[terminated]] = True  # nothing is to be had there any more
        for psi in np.unique(features[~ended]).tolist():
            by_feature.setdefault(psi, []).append(float(values[~ended & (features == psi)].mean()))
    by_feature.pop(-1, None)
    return variance_over_contexts(by_feature)


def main(args: Args) -> None:
    scores = {}
    for env_id, kwargs, feature in SETTINGS:
        scores[env_id] = score(env_id, kwargs, feature, args)
        print(f"{env_id} {json.dumps(kwargs)} {feature}: {scores[env_id]:.3g}")
    if args.output:
        settings = {"num_contexts": args.num_contexts, "gamma": args.gamma, "seed": args.seed}
        args.output.write_text(json.dumps({**settings, "scores": scores}, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
