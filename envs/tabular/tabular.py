"""Finite MDPs from explicit arrays: the dynamics shared by the tabular chains.

An environment of this family is a transition array P (states, actions, states), a reward array R (states, actions) and a
start distribution (states,). Sampling inverts the cumulative probabilities with one uniform draw.
"""

import numpy as np
from gymnasium import spaces

from explore_gym.envs.engine import KernelEnv, categorical, kernel, state_dtype


@kernel
def visit(state, s):
    state.s = s
    if state.visited[s] == 0:
        state.visited[s] = 1
        state.distinct += 1


@kernel
def reset(params, state):
    for s in range(len(state.visited)):
        state.visited[s] = 0
    state.distinct = 0
    visit(state, categorical(state, params.start))


@kernel
def step(params, state, action):
    reward = params.rewards[state.s, action]
    visit(state, categorical(state, params.cumulative[state.s, action]))
    return reward, False


@kernel
def observe(params, state, obs):
    obs[0] = state.s


@kernel
def inform(params, state, info):
    info.coverage = state.distinct / len(state.visited)


def cumulate(probabilities, name):
    """Cumulative sums along the last axis, made to end in exactly 1.

    Raises:
        ValueError: the last axis is not a probability distribution.
    """
    if probabilities.min() < 0.0 or np.abs(probabilities.sum(-1) - 1.0).max() > 1e-9:
        raise ValueError(f"{name} must be >= 0 and sum to 1 over its last axis, got {probabilities}")
    sums = probabilities.cumsum(-1)
    return sums / sums[..., -1:]


class Tabular(KernelEnv):
    """A finite MDP that never terminates.

    Args:
        P: (states, actions, states) transition probabilities.
        R: (states, actions) rewards.
        start: (states,) start distribution.
        max_steps: truncates the episode after so many steps; None: the interaction goes on for ever.
    Raises:
        ValueError: shapes disagree, or a distribution doesn't sum to 1.
    """

    dynamics = (reset, step, observe, inform)
    untracked = ("visited", "distinct")

    def __init__(self, P, R, start, max_steps, render_mode=None, max_episode_steps=None):
        self.P, self.R, self.start = (np.array(array, np.float64) for array in (P, R, start))
        if self.R.ndim != 2 or self.P.shape != (*self.R.shape, len(self.R)) or self.start.shape != (len(self.R),):
            shapes = f"P {self.P.shape}, R {self.R.shape}, start {self.start.shape}"
            raise ValueError(f"P, R, start must have shapes (S, A, S), (S, A), (S,), got {shapes}")
        num_states, num_actions = self.R.shape
        super().__init__(
            state=state_dtype(s=np.int32, visited=(np.uint8, (num_states,)), distinct=np.int32),
            params=dict(cumulative=cumulate(self.P, "P"), rewards=self.R, start=cumulate(self.start, "start")),
            observation_space=spaces.Discrete(num_states),
            action_space=spaces.Discrete(num_actions),
            info=dict(coverage=float),
            max_steps=max_steps,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def evaluate(self, backup):
        """Expected return of an episode, by dynamic programming: backup maps Q (states, actions) to V (states,)."""
        if self.time_limit is None:
            raise ValueError("the return of a continuing environment is unbounded: give max_steps, or use optimal_gain")
        values = np.zeros(len(self.R))
        for _ in range(self.time_limit):
            values = backup(self.R + self.P @ values)
        return float(self.start @ values)

    def optimal_value(self):
        """Expected return of an episode under the best, time-dependent policy.

        Raises:
            ValueError: the environment is continuing.
        """
        return self.evaluate(lambda q_values: q_values.max(-1))

    def random_value(self):
        """Expected return of an episode under uniformly random actions.

        Raises:
            ValueError: the environment is continuing.
        """
        return self.evaluate(lambda q_values: q_values.mean(-1))

    def optimal_gain(self, tolerance=1e-10):
        """Reward per step of the best policy of the continuing environment, by relative value iteration.

        Half of each update stays where it is, which leaves the gain as it is and rules out periodic chains.
        """
        values, change = np.zeros(len(self.R)), np.array([0.0, np.inf])
        while np.ptp(change) > tolerance:
            change = (self.R + self.P @ values).max(-1) - values
            values += 0.5 * (change - change[0])
        return float(change.max() + change.min()) / 2.0
