"""MetaBandit: find the best arm of a bandit that is met again and again, then keep pulling it.

A task is one draw of the arms' means. It lasts a block: `recurrence` episodes of `pulls_per_episode` pulls, with the
same means. The end of an episode is only shown; the end of the block is the end of the task and terminates.

Observation: float32 (arms + 3,): previous action one-hot (zeros before the first pull), previous reward (0 before the
             first pull), 1 if the next pull starts an episode, share of the block that is over (0 if geometric).
Action:      Discrete(arms): the arm to pull.
Reward:      gaussian: mean of the arm + noise * N(0, 1), means ~ N(prior[0], prior[1]^2) (0, 1).
             bernoulli: 1 with the arm's probability, otherwise 0, probabilities ~ Beta(prior[0], prior[1]) (1, 1).
             With safe_arm, arm 0 pays exactly that value in every task.
Terminates:  at the end of the block: after recurrence (30) episodes, or after each episode with probability
             1 / recurrence if length="geometric".  Truncates: never.
Source:      Rentschler and Roberts, 2025, arXiv:2508.01287 (Gaussian arms, recurring tasks); the observation is that of
             RL^2 (Duan et al., 2016, arXiv:1611.02779); drifting means: the restless bandit of Whittle, 1988.

The info has what the agent must not see: `means` at the last pull, `best_arm`, `optimal` (the last pull was of a best
arm), `regret` (best mean - mean pulled), `cumulative_regret` over the block, `episode_end` and `task_end`.
"""

import math

import numpy as np
from gymnasium import spaces

from explore_gym.envs.engine import KernelEnv, bernoulli, kernel, normal, state_dtype, uniform, vectorize
from explore_gym.envs.engine.env import is_integer

FAMILIES = {"gaussian": (0.0, 1.0), "bernoulli": (1.0, 1.0)}  # and their default priors
LENGTHS = ("fixed", "geometric")


def meta_bandit_state(arms):
    return state_dtype(
        means=(np.float64, (arms,)),
        best_mean=np.float64,
        best_arm=np.int32,
        pull=np.int32,  # within the episode
        episode=np.int32,  # within the block
        action=np.int32,  # previous one, -1 before the first pull
        reward=np.float64,
        regret=np.float64,
        cumulative_regret=np.float64,
        episode_end=np.bool_,
        task_end=np.bool_,
    )


@kernel
def gamma(state, shape):
    """Draw from Gamma(shape, 1) by rejection (Marsaglia and Tsang, 2000)."""
    d = (shape if shape >= 1.0 else shape + 1.0) - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    draw = 0.0
    while draw == 0.0:
        x = normal(state)
        v = 1.0 + c * x
        v = v * v * v
        if v > 0.0 and math.log(1.0 - uniform(state, 0.0, 1.0)) < 0.5 * x * x + d - d * v + d * math.log(v):
            draw = d * v
    if shape < 1.0:
        draw *= math.pow(1.0 - uniform(state, 0.0, 1.0), 1.0 / shape)
    return draw


@kernel
def beta(state, a, b):
    if a == 1.0 and b == 1.0:
        return uniform(state, 0.0, 1.0)
    x = gamma(state, a)
    return x / (x + gamma(state, b))


@kernel
def find_best(state):
    state.best_arm = 0
    for arm in range(1, len(state.means)):
        if state.means[arm] > state.means[state.best_arm]:
            state.best_arm = arm
    state.best_mean = state.means[state.best_arm]


@kernel
def reset(params, state):
    for arm in range(len(state.means)):
        if params.safe and arm == 0:
            state.means[arm] = params.safe_mean
        elif params.bernoulli:
            state.means[arm] = beta(state, params.prior[0], params.prior[1])
        else:
            state.means[arm] = params.prior[0] + params.prior[1] * normal(state)
    find_best(state)
    state.pull, state.episode = 0, 0
    state.action, state.reward = -1, 0.0
    state.regret, state.cumulative_regret = 0.0, 0.0
    state.episode_end, state.task_end = False, False


@kernel
def drift(params, state):
    """One step of the restless means' random walk; the safe arm stays."""
    for arm in range(1 if params.safe else 0, len(state.means)):
        state.means[arm] += params.drift * normal(state)
    find_best(state)


@kernel
def pull(params, state, arm):
    mean = state.means[arm]
    if params.safe and arm == 0:
        return mean
    if params.bernoulli:
        return 1.0 if bernoulli(state, mean) else 0.0
    return mean + params.noise * normal(state)


@kernel
def step(params, state, action):
    if params.drift > 0.0 and state.t > 1:  # between two pulls, so that the info shows the means of the last pull
        drift(params, state)
    state.action, state.reward = action, pull(params, state, action)
    state.regret = state.best_mean - state.means[action]
    state.cumulative_regret += state.regret
    state.pull += 1
    state.episode_end, state.task_end = state.pull == params.pulls_per_episode, False
    if state.episode_end:
        state.pull = 0
        state.episode += 1
        if params.geometric:
            state.task_end = bernoulli(state, 1.0 / params.recurrence)
        else:
            state.task_end = state.episode == params.recurrence
    return state.reward, state.task_end


@kernel
def observe(params, state, obs):
    arms = len(state.means)
    for arm in range(arms):
        obs[arm] = 1.0 if arm == state.action else 0.0
    obs[arms] = state.reward
    obs[arms + 1] = 1.0 if state.pull == 0 else 0.0
    obs[arms + 2] = 0.0 if params.geometric else state.t / (params.recurrence * params.pulls_per_episode)


@kernel
def inform(params, state, info):
    for arm in range(len(state.means)):
        info.means[arm] = state.means[arm]
    info.best_arm = state.best_arm
    info.optimal = state.action >= 0 and state.regret == 0.0
    info.regret = state.regret
    info.cumulative_regret = state.cumulative_regret
    info.episode_end = state.episode_end
    info.task_end = state.task_end


class MetaBandit(KernelEnv):
    """Recurring bandit tasks with the arms' means redrawn for each block.

    Args:
        arms: number of arms, 2 to 1000.
        family: "gaussian" or "bernoulli" rewards.
        prior: (mean, sd) of the Gaussian means, or (a, b) >= 0.05 of the Beta distributed probabilities.
        noise: sd of the Gaussian rewards.
        recurrence: episodes per block (1: a new task after every episode), or their mean if geometric.
        pulls_per_episode: pulls per episode.
        length: "fixed" or "geometric" number of episodes per block.
        safe_arm: if given, arm 0 pays exactly this in every task.
        drift: sd of the random walk step of the Gaussian means between two pulls; 0: stationary arms.
    Raises:
        ValueError: an argument is outside the ranges above.
    """

    dynamics = (reset, step, observe, inform)
    untracked = ("regret", "cumulative_regret", "episode_end", "task_end")

    def __init__(
        self,
        arms=5,
        family="gaussian",
        prior=None,
        noise=1.0,
        recurrence=30,
        pulls_per_episode=1,
        length="fixed",
        safe_arm=None,
        drift=0.0,
        render_mode=None,
        max_episode_steps=None,
    ):
        if not (is_integer(arms) and 2 <= arms <= 1000):
            raise ValueError(f"arms must be an integer in [2, 1000], got {arms!r}")
        if family not in FAMILIES:
            raise ValueError(f"family must be one of {tuple(FAMILIES)}, got {family!r}")
        if length not in LENGTHS:
            raise ValueError(f"length must be one of {LENGTHS}, got {length!r}")
        for name, value in (("recurrence", recurrence), ("pulls_per_episode", pulls_per_episode)):
            if not (is_integer(value) and value >= 1):
                raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
        if recurrence * pulls_per_episode > 2**31 - 1:
            raise ValueError(f"a block has at most 2**31 - 1 pulls, got {recurrence} * {pulls_per_episode}")
        for name, value in (("noise", noise), ("drift", drift)):
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{name} must be finite and >= 0, got {value!r}")
        bernoulli_arms = family == "bernoulli"
        prior = FAMILIES[family] if prior is None else prior
        if len(prior) != 2 or not all(math.isfinite(value) for value in prior):
            raise ValueError(f"prior must be two finite numbers, got {prior!r}")
        if bernoulli_arms and min(prior) < 0.05:
            raise ValueError(f"prior of bernoulli arms must be (a, b) with both >= 0.05, got {prior!r}")
        if not bernoulli_arms and prior[1] < 0.0:
            raise ValueError(f"prior of gaussian arms must be (mean, sd) with sd >= 0, got {prior!r}")
        if bernoulli_arms and drift:
            raise ValueError(f"drift needs gaussian arms, got drift={drift!r} with family='bernoulli'")
        if safe_arm is not None and not math.isfinite(safe_arm):
            raise ValueError(f"safe_arm must be None or a finite number, got {safe_arm!r}")
        if safe_arm is not None and bernoulli_arms and not 0.0 <= safe_arm <= 1.0:
            raise ValueError(f"safe_arm of a bernoulli bandit must lie in [0, 1], got {safe_arm!r}")
        self.arms, self.family, self.prior = arms, family, (float(prior[0]), float(prior[1]))
        self.safe_arm, self.drift, self.mean_pulls = safe_arm, drift, recurrence * pulls_per_episode
        low, high = np.zeros(arms + 3, np.float32), np.ones(arms + 3, np.float32)
        if not bernoulli_arms:
            low[arms], high[arms] = -np.inf, np.inf
        super().__init__(
            state=meta_bandit_state(arms),
            params=dict(
                prior=np.array(self.prior),
                bernoulli=bernoulli_arms,
                noise=float(noise),
                recurrence=recurrence,
                pulls_per_episode=pulls_per_episode,
                geometric=length == "geometric",
                safe=safe_arm is not None,
                safe_mean=float(safe_arm or 0.0),
                drift=float(drift),
            ),
            observation_space=spaces.Box(low, high, dtype=np.float32),
            action_space=spaces.Discrete(arms),
            info=dict(
                means=(float, (arms,)),
                best_arm=int,
                optimal=bool,
                regret=float,
                cumulative_regret=float,
                episode_end=bool,
                task_end=bool,
            ),
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def prior_quantiles(self, points=200_001):
        """Grid values of a mean under the prior and the probability between them: (points,), (points + 1,) cdf."""
        a, b = self.prior
        if self.family == "gaussian":
            z = np.linspace(-10.0, 10.0, points)
            x, log_density = a + b * z, -0.5 * z**2
        else:  # in log-odds, where the Beta density is smooth for every a and b
            z = np.linspace(-40.0, 40.0, points) / min(a, b, 1.0)
            x, log_density = np.exp(-np.logaddexp(0.0, -z)), -a * np.logaddexp(0.0, -z) - b * np.logaddexp(0.0, z)
        density = np.exp(log_density - log_density.max())
        cdf = np.concatenate(([0.0], np.cumsum(density)))
        return x, cdf / cdf[-1]

    def optimal_value(self):
        """Expected return per block of an oracle that knows the means: E[best mean] * expected pulls.

        Raises:
            ValueError: the arms drift.
        """
        if self.drift:
            raise ValueError(f"optimal_value is known for stationary arms only, got drift={self.drift!r}")
        x, cdf = self.prior_quantiles()
        if self.safe_arm is None:
            best_mean = x @ np.diff(cdf**self.arms)
        else:
            best_mean = np.maximum(x, self.safe_arm) @ np.diff(cdf ** (self.arms - 1))
        return float(best_mean * self.mean_pulls)

    def random_value(self):
        """Expected return per block of uniformly random pulls."""
        a, b = self.prior
        mean = a if self.family == "gaussian" else a / (a + b)
        if self.safe_arm is not None:
            mean += (self.safe_arm - mean) / self.arms
        return mean * self.mean_pulls

    def draw(self, canvas, state):
        """One bar per arm: its mean above or below the zero line, the best arm gold, the last reward a white dot."""
        zero, unit = (4.0, 1.0) if self.family == "gaussian" else (7.0, 6.0)  # row of the zero line; cells per 1.0
        width = max(4 * self.arms, 24)
        canvas.size(width, 9)
        canvas.rect(0, 0, width, 8, (24, 26, 38))
        for arm in range(self.arms):
            top = zero - min(max(unit * float(state.means[arm]), zero - 8.0), zero)
            color = (240, 190, 60) if arm == state.best_arm else (90, 130, 200)
            canvas.rect(4 * arm + 0.5, min(top, zero), 3, max(abs(top - zero), 0.05), color, "#")
        canvas.line(0, zero, width, zero, (200, 200, 200), 0.05)
        if state.action >= 0:
            row = zero - min(max(unit * float(state.reward), zero - 7.7), zero - 0.3)
            canvas.circle(4 * state.action + 2, row, 0.3, (255, 255, 255), "o")
        canvas.text(0.5, 8.2, f"pull {state.t}  regret {state.cumulative_regret:.2f}", (30, 30, 30), 0.6)


MetaBanditVector = vectorize(MetaBandit)
