"""LinearBandit: arms are points in space and pay along a hidden direction, so that each pull tells about all of them.

A task is a set of arms, points x that are uniform on the unit sphere, and a hidden vector theta ~ N(0, I). Both stay for a
block of `horizon` pulls. The arms are shown, so that what one arm paid can be carried over to those that lie close to it.

Observation: float32 (arms, dimension + 3): the arm's point, 1 if it was pulled last, previous reward (0 before the first
             pull), share of the block that is over; the last two are the same in each row.
Action:      Discrete(arms): the arm to pull.
Reward:      <x, theta> + noise * N(0, 1).
Terminates:  at the end of the block, after horizon (100) pulls.  Truncates: never.
Source:      Auer, 2002, "Using confidence bounds for exploitation-exploration trade-offs"; finite sets of arms as in
             Lattimore and Szepesvari, 2020, "Bandit algorithms", chapter 22.

A new block draws new arms and a new theta; `envs.set_state(theta=..., features=...)` after a reset gives each lane its
own. The info has what the agent must not see: `theta`, `means` of the arms, `best_arm`, `optimal` (the last pull was of
a best arm), `regret` (best mean - mean pulled), `cumulative_regret` over the block and `task_end`.
"""

import math

import numpy as np
from gymnasium import spaces

from explore_gym.envs.bandits.checks import check_integer, check_number
from explore_gym.envs.bandits.linear_rewards import draw_direction, draw_means, expected_largest_projection
from explore_gym.envs.engine import KernelEnv, kernel, normal, state_dtype, vectorize


def linear_bandit_state(arms, dimension):
    return state_dtype(
        features=(np.float64, (arms, dimension)),
        theta=(np.float64, (dimension,)),
        action=np.int32,  # previous one, -1 before the first pull
        reward=np.float64,
        cumulative_regret=np.float64,
    )


@kernel
def mean_reward(state, arm):
    total = 0.0
    for k in range(len(state.theta)):
        total += state.features[arm, k] * state.theta[k]
    return total


@kernel
def best_mean(state):
    highest = -math.inf
    for arm in range(state.features.shape[0]):
        highest = max(highest, mean_reward(state, arm))
    return highest


@kernel
def reset(params, state):
    for arm in range(state.features.shape[0]):
        draw_direction(state, state.features, arm)
    for k in range(len(state.theta)):
        state.theta[k] = normal(state)
    state.action, state.reward, state.cumulative_regret = -1, 0.0, 0.0


@kernel
def step(params, state, action):
    mean = mean_reward(state, action)
    state.action, state.reward = action, mean + params.noise * normal(state)
    state.cumulative_regret += best_mean(state) - mean
    return state.reward, state.t == params.horizon


@kernel
def observe(params, state, obs):
    dimension = len(state.theta)
    for arm in range(state.features.shape[0]):
        for k in range(dimension):
            obs[arm, k] = state.features[arm, k]
        obs[arm, dimension] = 1.0 if arm == state.action else 0.0
        obs[arm, dimension + 1] = state.reward
        obs[arm, dimension + 2] = state.t / params.horizon


@kernel
def inform(params, state, info):
    info.best_arm = 0
    for arm in range(state.features.shape[0]):
        info.means[arm] = mean_reward(state, arm)
        if info.means[arm] > info.means[info.best_arm]:
            info.best_arm = arm
    for k in range(len(state.theta)):
        info.theta[k] = state.theta[k]
    info.regret = info.means[info.best_arm] - info.means[state.action] if state.action >= 0 else 0.0
    info.optimal = state.action >= 0 and info.regret == 0.0
    info.cumulative_regret = state.cumulative_regret
    info.task_end = state.t == params.horizon


class LinearBandit(KernelEnv):
    """Blocks of pulls from a fixed set of arms with linear rewards.

    Args:
        arms: number of arms, 2 to 1000.
        dimension: of the arms' points and of theta, 2 to 100.
        horizon: pulls per block, 1 to 1_000_000.
        noise: sd of the rewards, 0 to 100.
    Raises:
        ValueError: an argument is outside the ranges above.
    """

    dynamics = (reset, step, observe, inform)
    untracked = ("cumulative_regret",)

    def __init__(self, arms=10, dimension=4, horizon=100, noise=1.0, render_mode=None, max_episode_steps=None):
        check_integer("arms", arms, 2, 1000)
        check_integer("dimension", dimension, 2, 100)
        check_integer("horizon", horizon, 1, 1_000_000)
        check_number("noise", noise, 0.0, 100.0)
        self.arms, self.dimension, self.horizon, self.noise = arms, dimension, horizon, float(noise)
        low = np.tile(np.array([-1.0] * dimension + [0.0, -np.inf, 0.0], np.float32), (arms, 1))
        high = np.tile(np.array([1.0] * dimension + [1.0, np.inf, 1.0], np.float32), (arms, 1))
        super().__init__(
            state=linear_bandit_state(arms, dimension),
            params=dict(horizon=horizon, noise=self.noise),
            observation_space=spaces.Box(low, high, dtype=np.float32),
            action_space=spaces.Discrete(arms),
            info=dict(
                theta=(float, (dimension,)),
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
        """Expected return per block of an oracle that knows theta: E[best mean] * horizon."""
        return expected_largest_projection(self.arms, self.dimension) * self.horizon

    def random_value(self):
        """Expected return per block of uniformly random pulls."""
        return 0.0

    def draw(self, canvas, state):
        """One bar per arm: its mean above or below the zero line, the best arm gold, the last reward a white dot."""
        means = np.asarray(state.features) @ np.asarray(state.theta)
        draw_means(canvas, means, state.action, state.reward, f"pull {state.t}  regret {state.cumulative_regret:.2f}")


LinearBanditVector = vectorize(LinearBandit)
