"""ContextualBandit: which arm is best depends on a context that changes with every pull, in a way to be learnt.

A task is one draw of hidden weights ~ N(0, I). It lasts a block of `horizon` pulls, each of which shows new contexts, uniform
on the unit sphere and independent of what the agent does. model="disjoint": one context x, and arm a pays <x, weights[a]>,
so that nothing is learnt about an arm by pulling another one. model="shared": each arm has its own context x[a] and pays
<x[a], weights>, so that every pull tells about all arms.

Observation: float32 (dimension + arms + 2,), or (arms * dimension + arms + 2,) if shared: contexts of the next pull (arm by
             arm), previous action one-hot (zeros before the first pull), previous reward (0 before the first pull),
             share of the block that is over.
Action:      Discrete(arms): the arm to pull.
Reward:      the arm's mean in this context + noise * N(0, 1).
Terminates:  at the end of the block, after horizon (100) pulls.  Truncates: never.
Source:      the linear models, disjoint and shared, of Li et al., 2010, arXiv:1003.0146.

A new block draws new weights; `envs.set_state(weights=...)` after a reset gives each lane its own, (arms, dimension) or
(1, dimension) if shared. The info has what the agent must not see: `weights`, and of the last pull the `means` of the
arms in its context (those of the first context before it), `best_arm`, `optimal` (it was of a best arm) and `regret`
(best mean - mean pulled); `cumulative_regret` over the block and `task_end`.
"""

import math

import numpy as np
from gymnasium import spaces

from explore_gym.envs.bandits.checks import check_integer, check_number
from explore_gym.envs.bandits.linear_rewards import (
    draw_direction,
    draw_means,
    expected_largest_normal,
    expected_largest_projection,
)
from explore_gym.envs.engine import KernelEnv, kernel, normal, state_dtype, vectorize

MODELS = ("disjoint", "shared")


def contextual_bandit_state(arms, dimension, model):
    disjoint = model == "disjoint"
    return state_dtype(
        weights=(np.float64, (arms if disjoint else 1, dimension)),
        contexts=(np.float64, (1 if disjoint else arms, dimension)),  # of the next pull
        means=(np.float64, (arms,)),  # in the context of the last pull
        action=np.int32,  # previous one, -1 before the first pull
        reward=np.float64,
        regret=np.float64,
        cumulative_regret=np.float64,
    )


@kernel
def evaluate(state):
    """The arms' means in the current contexts; weights and contexts have one row, or one per arm."""
    for arm in range(len(state.means)):
        state.means[arm] = 0.0
        for k in range(state.weights.shape[1]):
            weight = state.weights[min(arm, state.weights.shape[0] - 1), k]
            state.means[arm] += weight * state.contexts[min(arm, state.contexts.shape[0] - 1), k]


@kernel
def reset(params, state):
    for row in range(state.weights.shape[0]):
        for k in range(state.weights.shape[1]):
            state.weights[row, k] = normal(state)
    for row in range(state.contexts.shape[0]):
        draw_direction(state, state.contexts, row)
    evaluate(state)
    state.action, state.reward = -1, 0.0
    state.regret, state.cumulative_regret = 0.0, 0.0


@kernel
def step(params, state, action):
    evaluate(state)
    highest = -math.inf
    for arm in range(len(state.means)):
        highest = max(highest, state.means[arm])
    state.action, state.reward = action, state.means[action] + params.noise * normal(state)
    state.regret = highest - state.means[action]
    state.cumulative_regret += state.regret
    for row in range(state.contexts.shape[0]):
        draw_direction(state, state.contexts, row)
    return state.reward, state.t == params.horizon


@kernel
def observe(params, state, obs):
    rows, dimension = state.contexts.shape
    for row in range(rows):
        for k in range(dimension):
            obs[row * dimension + k] = state.contexts[row, k]
    arms = len(state.means)
    for arm in range(arms):
        obs[rows * dimension + arm] = 1.0 if arm == state.action else 0.0
    obs[rows * dimension + arms] = state.reward
    obs[rows * dimension + arms + 1] = state.t / params.horizon


@kernel
def inform(params, state, info):
    info.best_arm = 0
    for arm in range(len(state.means)):
        info.means[arm] = state.means[arm]
        if state.means[arm] > state.means[info.best_arm]:
            info.best_arm = arm
    for row in range(state.weights.shape[0]):
        for k in range(state.weights.shape[1]):
            info.weights[row, k] = state.weights[row, k]
    info.optimal = state.action >= 0 and state.regret == 0.0
    info.regret, info.cumulative_regret = state.regret, state.cumulative_regret
    info.task_end = state.t == params.horizon


class ContextualBandit(KernelEnv):
    """Blocks of pulls with linear rewards in contexts that are drawn for each pull.

    Args:
        arms: number of arms, 2 to 1000.
        dimension: of the contexts, 2 to 100.
        model: "disjoint" or "shared" weights.
        horizon: pulls per block, 1 to 1_000_000.
        noise: sd of the rewards, 0 to 100.
    Raises:
        ValueError: an argument is outside the ranges above.
    """

    dynamics = (reset, step, observe, inform)
    untracked = ("means", "regret", "cumulative_regret")

    def __init__(
        self,
        arms=5,
        dimension=5,
        model="disjoint",
        horizon=100,
        noise=1.0,
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("arms", arms, 2, 1000)
        check_integer("dimension", dimension, 2, 100)
        if model not in MODELS:
            raise ValueError(f"model must be one of {MODELS}, got {model!r}")
        check_integer("horizon", horizon, 1, 1_000_000)
        check_number("noise", noise, 0.0, 100.0)
        self.arms, self.dimension, self.model, self.horizon, self.noise = arms, dimension, model, horizon, float(noise)
        state = contextual_bandit_state(arms, dimension, model)
        contexts = state["contexts"].shape[0] * dimension
        low = np.array([-1.0] * contexts + [0.0] * arms + [-np.inf, 0.0], np.float32)
        high = np.array([1.0] * contexts + [1.0] * arms + [np.inf, 1.0], np.float32)
        super().__init__(
            state=state,
            params=dict(horizon=horizon, noise=self.noise),
            observation_space=spaces.Box(low, high, dtype=np.float32),
            action_space=spaces.Discrete(arms),
            info=dict(
                weights=(float, state["weights"].shape),
                means=(float, (arms,)),
                best_arm=int,
                optimal=bool,
                regret=float,
                cumulative_regret=float,
                task_end=bool,
            ),
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def optimal_value(self):
        """Expected return per block of an oracle that knows the weights: E[best mean] * horizon."""
        if self.model == "disjoint":  # a unit context makes the means independent N(0, 1)
            return expected_largest_normal(self.arms) * self.horizon
        return expected_largest_projection(self.arms, self.dimension) * self.horizon

    def random_value(self):
        """Expected return per block of uniformly random pulls."""
        return 0.0

    def draw(self, canvas, state):
        """One bar per arm: its mean at the last pull, above or below the zero line, and the reward as a white dot."""
        caption = f"pull {state.t}  regret {state.cumulative_regret:.2f}"
        draw_means(canvas, np.asarray(state.means), state.action, state.reward, caption)


ContextualBanditVector = vectorize(ContextualBandit)
