"""Shortest ways to success in a deterministic gridworld, exactly: over poses, doors and what is carried or lies around."""

from typing import NamedTuple

import numpy as np

from explore_gym.envs.engine.kernels import DISABLED

LANES = 4096  # states whose actions are played at once
SUCCESS, END = -2, -1  # where an action leads to no further state


class Solution(NamedTuple):
    """All states that can be reached from the one that an environment was in.

    Attributes:
        states: structured array (S,), the records; states[0] is that one.
        steps: int64 (S,), fewest steps to success, -1 where no way leads there. With reward 1 on success the optimal value at
            discount gamma is gamma ** (steps - 1).
    """

    states: np.ndarray
    steps: np.ndarray


def shortest_paths(env, max_states=200_000):
    """The `Solution` from the state that `env`, a single environment, is in. Success is the state's field `success`.

    The clock is left out: steps may exceed the time limit. So are fields in `env.untracked`, as in `env.to_tabular`.

    Raises:
        ValueError: a step draws random numbers, or there are more than max_states states.
    """
    tracked = [name for name in env.state_dtype.names if name not in ("rng", "t", "done", *env.untracked)]
    frontier, targets = env.get_state().reshape(1), []
    index, found = {key(frontier, tracked)[0]: 0}, [frontier]
    while len(frontier):
        parts = [step_all(env, part) for part in np.array_split(frontier, 1 + len(frontier) // LANES)]
        after, terminated = (np.concatenate(column) for column in zip(*parts, strict=True))
        target = np.where(after["success"], SUCCESS, END)
        going, fresh = np.flatnonzero(~terminated), []
        for i, name in zip(going.tolist(), key(after[going], tracked), strict=True):
            known = len(index)
            target[i] = place = index.setdefault(name, known)
            if place == known:
                fresh.append(i)
        if len(index) > max_states:
            raise ValueError(f"shortest_paths found more than {max_states} states")
        targets.append(target.reshape(len(frontier), -1))
        frontier = after[fresh]
        found.append(frontier)
    return Solution(np.concatenate(found), count_back(np.concatenate(targets)))


def step_all(env, states):
    """All actions in all states: the states after and whether the task ended, (len(states) * num_actions,) each."""
    num_actions = int(env.action_space.n)
    after, action = np.repeat(states, num_actions), np.tile(np.arange(num_actions), len(states))
    after["t"], after["done"], after["success"], n = 0, False, False, len(after)
    terminated, low, high = np.zeros(n, bool), env.actions.low, env.actions.high
    outputs = env.observations.empty(n), np.zeros(n), terminated, np.zeros(n, bool), env.metrics.empty(n)
    args = (DISABLED, env.params, after, action, action, low, high, *outputs)
    env.loops.get("step_batch", args)(*args)
    if not np.array_equal(after["rng"], np.repeat(states["rng"], num_actions)):
        raise ValueError("shortest_paths needs deterministic steps, but these draw random numbers")
    return after, terminated


def key(states, tracked):
    """The bytes of each state's tracked fields, a list."""
    columns = [np.ascontiguousarray(states[name]).view(np.uint8).reshape(len(states), -1) for name in tracked]
    return [row.tobytes() for row in np.concatenate(columns, 1)]


def count_back(targets):
    """int64 (S,): steps to success, from the numbers of each state's successors, SUCCESS or END, int64 (S, A)."""
    far = len(targets) + 1
    steps, changed = np.full(far, far), True  # the last one stands for ends without success
    while changed:
        new = np.minimum(steps[:-1], 1 + np.where(targets == SUCCESS, 0, steps[targets]).min(1))
        changed = not np.array_equal(new, steps[:-1])
        steps[:-1] = new
    return np.where(steps[:-1] < far, steps[:-1], -1)
