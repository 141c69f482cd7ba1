"""How much optimal values differ between contexts where a feature of the state is the same: `python scripts/value_variance.py`.

Henaff et al. (2023, arXiv:2306.03236) explain with it when a global novelty bonus helps (values agree) and when an episodic
one does (they don't). The score is E_psi[Var_c(V(psi, c))]: V(psi, c) is the mean optimal value of the states of context c
with feature psi, the mean over psi is weighted by the number of contexts that have it, and features of one context alone
don't count. Optimal values come from breadth-first search over every state that can be reached; success pays 1 and ends.
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
from explore_gym.envs.engine.planning import shortest_paths

# of states, structured array (S,)
FEATURES = {
    "position": lambda states: states["row"] * states["grid"].shape[2] + states["col"],
    "message": lambda states: states["message"],
}
# environment, its arguments, the feature that is counted there
SETTINGS: list[tuple[str, dict[str, Any], Literal["position", "message"]]] = [
    ("Explore/Corridors-v0", {"num_contexts": 1}, "position"),
    ("Explore/KeyRoom-v0", {"size": 8}, "message"),
    ("Explore/LavaMultiRoom-v0", {"num_rooms": 4}, "position"),
]


@dataclass
class Args:
    num_contexts: int = 30  # contexts drawn of each environment
    gamma: float = 0.99
    seed: int = 0
    output: Path | None = None  # JSON file of the scores


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
    by_feature: dict[int, list[float]] = {}
    for start in starts.get_state():
        env.set_state(start)
        states, steps = shortest_paths(env)
        values, features = np.where(steps > 0, args.gamma ** (steps - 1.0), 0.0), FEATURES[feature](states)
        for psi in np.unique(features).tolist():
            by_feature.setdefault(psi, []).append(float(values[features == psi].mean()))
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
