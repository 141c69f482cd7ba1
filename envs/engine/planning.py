"""Shortest ways through deterministic environments: all actions are played in whole frontiers of states at once, as batches.

Success is a positive reward. The clock stands still, so that ways may be longer than the time limit. Two states are the same
if their records agree in all fields but `env.untracked`, up to a chance of 2^-128 for each pair of them.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from explore_gym.envs.engine.kernels import DISABLED

if TYPE_CHECKING:
    from explore_gym.envs.engine.env import KernelEnv

WIDTH = 1024  # states whose actions are played at once
END = -1  # instead of the number of a state where the task ends


class Solution(NamedTuple):
    """All states that can be reached from the one that an environment was in.

    Attributes:
        states: structured array (S,), the records; states[0] is that one.
        steps: int64 (S,), fewest actions to success, -1 where no way leads there. If success pays 1 and nothing else does, the
            optimal value at discount gamma is gamma ** (steps - 1).
    """

    states: NDArray
    steps: NDArray[np.int64]


def shortest_path(env: "KernelEnv", max_states: int = 1_000_000) -> list[int] | None:
    """The fewest actions that lead from the environment's state to success, None if there is no way.

    Raises:
        ValueError: the actions aren't Discrete, a step draws random numbers, or there are more than max_states states.
    """
    edges, first = [(-1, -1)], 0  # how each state was found, (state before, action); number of the frontier's first state
    for _, rewards, targets in search(env, max_states, "shortest_path"):
        successes = np.argwhere(rewards > 0.0)
        if len(successes):
            row, last = successes[0].tolist()
            state, actions = first + row, [last]
            while state > 0:
                state, action = edges[state]
                actions.append(action)
            return [int(env.actions.first) + action for action in reversed(actions)]
        numbers, found_at = np.unique(targets, return_index=True)
        rows, columns = np.unravel_index(found_at[numbers >= len(edges)], targets.shape)
        edges += zip((first + rows).tolist(), columns.tolist(), strict=True)
        first += len(targets)
    return None


def shortest_paths(env: "KernelEnv", max_states: int = 1_000_000) -> Solution:
    """The fewest actions to success from every state that can be reached from the environment's.

    Raises:
        ValueError: as in `shortest_path`.
    """
    layers = list(search(env, max_states, "shortest_paths"))
    states, rewards, targets = (np.concatenate(column) for column in zip(*layers, strict=True))
    far = len(states) + 1
    steps, changed = np.full(far, far), True  # the last entry is END's
    while changed:
        better = 1 + np.where(rewards > 0.0, 0, steps[targets]).min(1)
        changed = bool((better < steps[:-1]).any())
        steps[:-1] = np.minimum(steps[:-1], better)
    return Solution(states, np.where(steps[:-1] < far, steps[:-1], -1))


def search(env: "KernelEnv", max_states: int, caller: str) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Breadth-first search, frontier by frontier: its states (n,), and for all actions the rewards and targets (n, A).

    Targets are the numbers of the states after, or END. States are numbered in the order of the frontiers, from 0 on.
    """
    if not isinstance(env.action_space, spaces.Discrete):
        raise ValueError(f"{caller} needs a Discrete action space, got {env.action_space}")
    frontier = env.get_state().reshape(1)
    names = frontier.dtype.names or ()
    tracked = [name for name in names if name not in ("rng", "t", "done", *env.untracked)]
    index = {keys(frontier, tracked)[0]: 0}
    while len(frontier):
        rewards, targets, following = [], [], []
        for states in np.split(frontier, range(WIDTH, len(frontier), WIDTH)):
            after, reward, terminated = step_all(env, states, caller)
            target, fresh = np.full(len(after), END), []
            for i, (key, ended) in enumerate(zip(keys(after, tracked), terminated.tolist(), strict=True)):
                if not ended:
                    known = len(index)
                    target[i] = number = index.setdefault(key, known)
                    if number == known:
                        fresh.append(i)
            rewards.append(reward.reshape(len(states), -1))
            targets.append(target.reshape(len(states), -1))
            following.append(after[fresh])
        yield frontier, np.concatenate(rewards), np.concatenate(targets)
        if len(index) > max_states:
            raise ValueError(f"{caller} found more than {max_states} states (max_states)")
        frontier = np.concatenate(following)


def step_all(env, states, caller):
    """All actions in all states, those of a state in a row: records after, rewards, terminated, (len(states) * A,) each."""
    actions = np.arange(env.actions.first, env.actions.last + 1)
    before, action = np.repeat(states, len(actions)), np.tile(actions, len(states))
    after, n = before.copy(), len(before)
    after["done"] = False
    reward, terminated, truncated = np.empty(n), np.empty(n, bool), np.empty(n, bool)
    flags = reward, terminated, truncated
    args = (DISABLED, env.params, after, action, action, env.actions.low, env.actions.high)
    args = (*args, env.observations.empty(n), *flags, env.metrics.empty(n))
    env.loops.get("step_batch", args)(*args)
    drawn = np.flatnonzero(after["rng"] != before["rng"])
    if len(drawn):
        raise ValueError(f"{caller} needs deterministic steps, but action {action[drawn[0]]} draws random numbers")
    after["t"], after["done"] = before["t"], False
    return after, reward, terminated


def keys(states, tracked):
    """A 128-bit linear hash of each record's tracked fields, a list."""
    columns = [states[name].reshape(len(states), -1) for name in tracked]
    words = np.concatenate([c.view(np.uint64) if c.dtype.kind == "f" else c.astype(np.uint64) for c in columns], 1)
    weights = np.random.default_rng(0).integers(2**64, size=(2, words.shape[1]), dtype=np.uint64)
    return list(zip(*((words * w).sum(1).tolist() for w in weights), strict=True))
