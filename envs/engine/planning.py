"""Shortest paths of deterministic environments, found by stepping whole frontiers of states as batches."""

from typing import TYPE_CHECKING

import numpy as np
from gymnasium import spaces

if TYPE_CHECKING:
    from explore_gym.envs.engine.env import KernelEnv

WIDTH = 4096  # states stepped at once


def shortest_path(env: "KernelEnv", max_states: int = 1_000_000) -> list[int] | None:
    """The fewest actions that lead from the environment's state to a positive reward, by breadth-first search.

    The clock stands still meanwhile. Two states are the same if their records agree in all fields but `env.untracked`, up to
    a chance of 2^-128 for each pair of them.

    Returns:
        The actions, or None if no positive reward can be reached.

    Raises:
        ValueError: the actions aren't Discrete, a step draws random numbers, or there are more than max_states states.
    """
    from explore_gym.envs.engine.vector import KernelVectorEnv

    if not isinstance(env.action_space, spaces.Discrete):
        raise ValueError(f"shortest_path needs a Discrete action space, got {env.action_space}")
    start = env.get_state()
    first = int(env.action_space.start)
    actions = range(first, first + int(env.action_space.n))
    tracked = [name for name in env.state_dtype.names or () if name not in ("rng", "t", "done", *env.untracked)]
    envs = KernelVectorEnv(env, WIDTH, autoreset_mode="Disabled")
    weights = np.random.default_rng(0).integers(2**64, size=(2, sum(start[name].size for name in tracked)), dtype=np.uint64)

    def keys(states: np.ndarray) -> list[tuple[int, int]]:
        """A 128-bit linear hash of each record."""
        columns = [states[name].reshape(len(states), -1) for name in tracked]
        words = np.concatenate([c.view(np.uint64) if c.dtype.kind == "f" else c.astype(np.uint64) for c in columns], 1)
        return list(zip(*((words * w).sum(1).tolist() for w in weights)))

    frontier = start[None]
    seen = {key: -1 for key in keys(frontier)}  # number of the edge that leads to each state
    edges: list[tuple[int, int]] = []  # (edge before, action)
    reached = [-1]  # the edge that leads to each state of the frontier
    while len(frontier):
        following, numbers = [], []
        for begin in range(0, len(frontier), WIDTH):
            states = frontier[begin : begin + WIDTH]
            padded = np.concatenate([states, np.repeat(states[:1], WIDTH - len(states))])
            for action in actions:
                envs.set_state(padded)
                _, reward, terminated, _, _ = envs.step(np.full(WIDTH, action))
                after = envs.get_state()[: len(states)]
                if (after["rng"] != states["rng"]).any():
                    raise ValueError(f"shortest_path needs deterministic steps, but action {action} draws random numbers")
                winners = np.flatnonzero(reward[: len(states)] > 0.0)
                if len(winners):
                    path, edge = [action], reached[begin + winners[0]]
                    while edge >= 0:
                        edge, action = edges[edge]
                        path.append(action)
                    return path[::-1]
                after["t"], after["done"] = start["t"], False
                for i, key in enumerate(keys(after)):
                    if not terminated[i] and key not in seen:
                        seen[key] = len(edges)
                        edges.append((reached[begin + i], action))
                        numbers.append(len(edges) - 1)
                        following.append(after[i])
                if len(seen) > max_states:
                    raise ValueError(f"shortest_path found more than {max_states} states (max_states)")
        frontier = np.array(following, env.state_dtype)
        reached = numbers
    return None
