"""Finite MDPs from explicit arrays: the dynamics shared by the tabular chains.

An environment of this family is a transition array P (states, actions, states), a reward array R (states, actions) and a
start distribution (states,). Sampling inverts the cumulative probabilities with one uniform draw; kernels see only the
states that a pair of state and action can lead to.
"""

import numpy as np
from gymnasium import spaces

from explore_gym.envs.engine import KernelEnv, categorical, kernel, state_dtype
from explore_gym.envs.tabular import solvers


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
    drawn = categorical(state, params.cumulative[state.s, action])
    visit(state, params.successors[state.s, action, drawn])
    return reward, False


@kernel
def observe(params, state, obs):
    obs[0] = state.s


@kernel
def inform(params, state, info):
    info.coverage = state.distinct / len(state.visited)


def check_distribution(probabilities, name):
    """Raises a ValueError where the last axis is not a probability distribution."""
    if not (probabilities.min() >= 0.0 and np.abs(probabilities.sum(-1) - 1.0).max() <= 1e-9):  # also true of NaN
        raise ValueError(f"{name} must be >= 0 and sum to 1 over its last axis, got {probabilities}")


def cumulate(probabilities):
    """Cumulative sums along the last axis, made to end in exactly 1."""
    sums = probabilities.cumsum(-1)
    return sums / sums[..., -1:]


def compress(P):
    """States (S, A, K) that each pair can lead to, in order, and their cumulative probabilities; K is the largest number."""
    width = (P > 0.0).sum(-1).max()
    successors = np.argsort(P == 0.0, axis=-1, kind="stable")[..., :width]
    return successors.astype(np.int32), cumulate(np.take_along_axis(P, successors, -1))


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
        check_distribution(self.P, "P")
        check_distribution(self.start, "start")
        num_states, num_actions = self.R.shape
        successors, cumulative = compress(self.P)
        super().__init__(
            state=state_dtype(s=np.int32, visited=(np.uint8, (num_states,)), distinct=np.int32),
            params=dict(successors=successors, cumulative=cumulative, rewards=self.R, start=cumulate(self.start)),
            observation_space=spaces.Discrete(num_states),
            action_space=spaces.Discrete(num_actions),
            info=dict(coverage=float),
            max_steps=max_steps,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def horizon(self):
        """Length of an episode.

        Raises:
            ValueError: the environment is continuing.
        """
        if self.time_limit is None:
            raise ValueError("the return of a continuing environment is unbounded: give max_steps, or use optimal_gain")
        return self.time_limit

    def optimal_value(self):
        """Expected return of an episode under the best, time-dependent policy.

        Raises:
            ValueError: the environment is continuing.
        """
        return float(self.start @ solvers.finite_horizon(self.P, self.R, self.horizon())[0][0])

    def random_value(self):
        """Expected return of an episode under uniformly random actions.

        Raises:
            ValueError: the environment is continuing.
        """
        uniform = np.full(self.R.shape, 1.0 / self.R.shape[1])
        return float(self.start @ solvers.policy_evaluation(self.P, self.R, uniform, horizon=self.horizon()))

    def optimal_gain(self, tolerance=1e-10):
        """Reward per step of the best policy of the continuing environment, by relative value iteration."""
        return solvers.average_reward(self.P, self.R, tolerance)[0]
