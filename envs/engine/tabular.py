"""Exact tabular models of environments with small state spaces, read off their own kernels.

The kernels run in plain Python with their random draws replaced by an enumeration of the outcomes, so that probabilities
are exact and the dynamics stay defined in one place.
"""

import dataclasses

import numpy as np

from explore_gym.envs.engine import random
from explore_gym.envs.engine.kernels import Record, rebuild
from explore_gym.envs.tabular import solvers

MAX_BYTES = 2**30  # of the transition array


@dataclasses.dataclass(frozen=True)
class TabularModel:
    """A finite Markov decision process.

    Attributes:
        P: float64 (S, A, S), probability of each next state; a row sums to 1 minus the probability of termination.
        R: float64 (S, A), expected reward.
        terminated: float64 (S, A), probability that the task ends.
        states: the S state records, structured array; row 0 is the state that the search started from.
    """

    P: np.ndarray
    R: np.ndarray
    terminated: np.ndarray
    states: np.ndarray

    def optimal_values(self, gamma=1.0, horizon=None, tolerance=1e-10, max_sweeps=1_000_000):
        """float64 (S,): optimal values, over `horizon` steps or (None) the fixed point of value iteration.

        Raises:
            RuntimeError: the values haven't converged after max_sweeps, as happens with gamma = 1 and no end in reach.
        """
        if horizon is not None:
            return solvers.finite_horizon(self.P, self.R, horizon, gamma)[0][0]
        return solvers.value_iteration(self.P, self.R, gamma, tolerance, max_sweeps)[0]


class Outcomes:
    """Stands in for the engine's random draws and runs through their outcomes, one per replay.

    Each replay follows `choices`; a draw beyond them takes its first outcome. `advance` moves on like an odometer.
    """

    def __init__(self, additive_noise):
        self.additive_noise = additive_noise
        self.choices, self.sizes = [], []
        self.depth, self.probability = 0, 1.0

    def advance(self):
        """Set up the next replay. False when all outcomes have been seen."""
        while self.choices and self.choices[-1] == self.sizes[-1] - 1:
            self.choices.pop(), self.sizes.pop()
        if not self.choices:
            return False
        self.choices[-1] += 1
        self.depth, self.probability = 0, 1.0
        return True

    def draw(self, probabilities):
        if self.depth == len(self.choices):
            self.choices.append(0)
            self.sizes.append(len(probabilities))
        choice = self.choices[self.depth]
        self.depth += 1
        self.probability *= probabilities[choice]
        return choice

    def randint(self, state, n):
        return self.draw([1.0 / n] * int(n))

    def bernoulli(self, state, p):
        return bool(self.draw([1.0 - min(p, 1.0), min(p, 1.0)]))

    def categorical(self, state, cumulative):
        return self.draw(np.diff(cumulative, prepend=0.0))

    def normal(self, state):
        if not self.additive_noise:
            raise ValueError("to_tabular needs discrete random draws, but these dynamics draw from a normal distribution")
        return 0.0

    def uniform(self, state, low, high):
        raise ValueError("to_tabular needs discrete random draws, but these dynamics draw from a continuous range")


DRAWS = ("randint", "bernoulli", "categorical", "normal", "uniform")


def interpreted(function, outcomes):
    """The kernel as a plain Python function whose draws, also those of kernels it calls, come from `outcomes`."""

    def wrap(original, copy):
        is_draw = original.__module__ == random.__name__ and original.__name__ in DRAWS
        return getattr(outcomes, original.__name__) if is_draw else copy

    return rebuild(function, wrap, {})


def enumerate_model(env, start, max_states):
    """The `TabularModel` of all states that can be reached from `start`: breadth-first search over state records."""
    if env.action_space.shape != () or env.actions.dtype != np.int64:
        raise ValueError(f"to_tabular needs a Discrete action space, got {env.action_space}")
    outcomes = Outcomes(env.additive_noise)
    step = interpreted(env.loops.kernels["step"], outcomes)
    params = Record(env.params[0])
    actions = range(int(env.actions.first), int(env.actions.last) + 1)
    tracked = [name for name in start.dtype.names if name not in ("rng", "t", "done", *env.untracked)]

    def key(record):
        return b"".join(record[name].tobytes() for name in tracked)

    clock = int(start["t"])
    start = np.array([start])
    index, states, rows = {key(start): 0}, [start], []
    for source, state in enumerate(states):
        for a, action in enumerate(actions):
            outcomes.choices, outcomes.sizes, outcomes.depth, outcomes.probability = [], [], 0, 1.0
            more = True
            while more:
                following = state.copy()
                following["t"] = clock + 1
                reward, terminated = step(params, Record(following[0]), action)
                target = -1
                if outcomes.probability > 0.0 and not terminated:
                    following["t"] = clock
                    target = index.setdefault(key(following), len(states))
                    if target == len(states):
                        states.append(following)
                if len(states) > max_states or len(states) ** 2 * len(actions) * 8 > MAX_BYTES:
                    raise ValueError(f"to_tabular found more than {len(states) - 1} states (max_states={max_states})")
                rows.append((source, a, target, outcomes.probability, float(reward)))
                more = outcomes.advance()
    shape = len(states), len(actions)
    P, R, terminates = np.zeros((*shape, len(states))), np.zeros(shape), np.zeros(shape)
    for source, a, target, probability, reward in rows:
        R[source, a] += probability * reward
        if target >= 0:
            P[source, a, target] += probability
        else:
            terminates[source, a] += probability
    return TabularModel(P, R, terminates, np.concatenate(states))
