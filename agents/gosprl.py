"""GOSPRL: collects required numbers of samples as fast as possible (Tarbouriech et al., 2021, arXiv:2007.06437).

Which samples are needed is one question, how to get them online, without resets, another. Here is the answer to the second:
all states where samples are missing are the goals of one stochastic shortest path problem; go to the nearest in
expectation, under the most favourable model that the data allow, sample there, plan anew.
The algorithms know the numbers of states and actions and the transitions they have seen. A true model, where there is one,
serves to draw transitions, to measure errors, and for the oracle.
"""

from __future__ import annotations

import json
import math
import zlib
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numba import njit

import explore_gym  # noqa: F401  registers the Explore ids
from explore_gym.agents import common
from explore_gym.envs.engine.random import initial_words, randint, uniform
from explore_gym.envs.tabular import solvers

ARMS = ("gosprl", "01-ucrl", "maxent", "rmax", "random", "oracle")
GOSPRL, UCRL, MAXENT, RMAX, RANDOM, ORACLE = range(6)
MAX_VALUE = 1e4  # cap of expected steps, which diverge where the intervals exclude all ways to a goal
MAX_SWEEPS = 10_000
APERIODICITY = 0.1  # share of each step that stays, in the average-reward planner
LOG_GROWTH = 1.05  # of the distance between rows of metrics
GOALS = 20  # of the goal-free test
NEVER_ARRIVES = 10.0  # suboptimality that counts where a policy may miss the goal for ever

# Experiments: name of an MDP -> id, arguments, tasks; a model_seed of None is the seed of the run
BASIC = ("treasure-1", "treasure-10", "random")
SUITES: dict[str, dict[str, tuple[str, dict, tuple[str, ...]]]] = {
    "paper": {
        "RiverSwim": ("Explore/RiverSwim-v0", {"size": 6}, (*BASIC, "modest-0.3")),
        "Corridor": ("Explore/Corridor-v0", {"size": 24}, BASIC),
        "SlipperyRooms": ("Explore/SlipperyRooms-v0", {"size": 7}, BASIC),
        "Garnet": ("Explore/Garnet-v0", {"model_seed": None}, BASIC),
    },
    "scaling": {
        "RiverSwim": (
            "Explore/RiverSwim-v0",
            {"size": 6},
            ("treasure-5", "treasure-10", "treasure-20", "treasure-40", "treasure-50"),
        ),
        "Corridor-12": ("Explore/Corridor-v0", {"size": 12}, ("treasure-10",)),
        "Corridor-24": ("Explore/Corridor-v0", {"size": 24}, ("treasure-10", "treasure-50")),
        "Corridor-48": ("Explore/Corridor-v0", {"size": 48}, ("treasure-10",)),
        "SlipperyRooms": ("Explore/SlipperyRooms-v0", {"size": 7}, ("treasure-50",)),
        "Garnet": ("Explore/Garnet-v0", {"model_seed": None}, ("treasure-50",)),
    },
}


@dataclass(kw_only=True)
class Args(common.Args):
    arm: Literal["gosprl", "01-ucrl", "maxent", "rmax", "random", "oracle"] = "gosprl"  # how samples are collected
    env: str = "Explore/RiverSwim-v0"  # any id with to_tabular(), or with Discrete observations and actions
    tasks: tuple[str, ...] = ("treasure-10",)  # treasure-<samples>, random, modest-<l1 error>
    suite: Literal["", "paper", "scaling"] = ""  # the MDPs and tasks of the claim, instead of --env and --tasks
    alpha_p: float = 0.1  # width of the confidence intervals; 1 is what theory asks for
    delta: float = 0.1  # confidence of the intervals
    tolerance: float = 0.01  # at which planning stops
    fresh_rewards: bool = False  # 0/1-UCRL: a met requirement ends the episode, so that its rewards are never out of date
    rmax_gamma: float = 0.95  # discount of R-MAX
    log_interval: int = 10  # steps between looks; rows of metrics lie ever further apart
    num_envs: int = 1  # one continuing interaction
    total_timesteps: int = 500_000  # budget of each collection

    def __post_init__(self) -> None:
        super().__post_init__()
        common.at_least(self, "log_interval", 1)
        for name in ("alpha_p", "tolerance"):
            if not getattr(self, name) > 0:
                raise common.UsageError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("delta", "rmax_gamma"):
            if not 0 < getattr(self, name) < 1:
                raise common.UsageError(f"{name} must lie in (0, 1), got {getattr(self, name)}")
        if self.num_envs != 1:
            raise common.UsageError(f"num_envs must be 1, one continuing interaction, got {self.num_envs}")
        for task in self.tasks:
            parse_task(task)


def parse_task(task: str) -> tuple[str, float]:
    """Kind and number of a task.

    Raises:
        UsageError: it is none of treasure-<samples>, random and modest-<error>.
    """
    kind, _, number = task.partition("-")
    try:
        value = float(number) if number else math.nan
    except ValueError:
        value = math.nan
    if task == "random" or (kind == "treasure" and value >= 1 and value.is_integer()) or (kind == "modest" and 0 < value <= 2):
        return kind, value
    raise common.UsageError(f"a task must be treasure-<samples>, random or modest-<l1 error>, got {task!r}")


Settings = namedtuple("Settings", "arm alpha_p delta tolerance fresh_rewards rmax_gamma accuracy")
Memory = namedtuple(
    "Memory",
    "counts transitions required visits low room slack values order policy missing rewards errors clock level rng "
    "successors cumulative P",
)
POSITION, STEPS, OPEN, STALE, FINISHED, INACCURATE = range(6)  # of Memory.clock


@njit(cache=True)
def set_interval(m, c, s, a):
    """What the planners may assume of p(. | s, a): a lower bound, the room above it, and the mass that is left to place.

    Empirical Bernstein: abs(p - p_hat) <= alpha_p (sqrt(2 p_hat (1 - p_hat) L / n) + 7 L / (3 n)), L = log(6 S A n / delta);
    anything where n = 0. The planner of R-MAX takes p_hat itself.
    """
    num_states, num_actions = m.counts.shape
    n = m.counts[s, a]
    log_term = math.log(6.0 * num_states * num_actions * n / c.delta) / n
    total = 0.0
    for t in range(num_states):
        p = m.transitions[s, a, t] / n
        half = 0.0 if c.arm == RMAX else c.alpha_p * (math.sqrt(2.0 * p * (1.0 - p) * log_term) + 7.0 / 3.0 * log_term)
        low = max(p - half, 0.0)
        m.low[s, a, t] = low
        m.room[s, a, t] = min(p + half, 1.0) - low
        total += low
    m.slack[s, a] = 1.0 - total


@njit(cache=True)
def sort_states(values, order):
    """Brings order (S,) into ascending order of values; quick where little has changed."""
    for i in range(1, len(order)):
        state, j = order[i], i
        while j > 0 and values[order[j - 1]] > values[state]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = state


@njit(cache=True)
def expected_value(m, s, a, lowest):
    """The lowest (or highest) expectation of values under p(. | s, a) within its interval: mass goes to extremes first."""
    num_states = len(m.values)
    total, slack = 0.0, m.slack[s, a]
    for t in range(num_states):
        total += m.low[s, a, t] * m.values[t]
    i = 0 if lowest else num_states - 1
    while slack > 1e-12 and 0 <= i < num_states:
        t = m.order[i]
        moved = min(m.room[s, a, t], slack)
        total += moved * m.values[t]
        slack -= moved
        i += 1 if lowest else -1
    return total


@njit(cache=True)
def plan_shortest_path(m, c):
    """VI_SSP: policy that reaches a state with missing samples in the fewest steps, in the most favourable model."""
    num_states, num_actions = m.counts.shape
    new = np.zeros(num_states)
    for s in range(num_states):
        m.values[s] = 0.0 if m.missing[s] else max(m.values[s], 1.0)
    for _ in range(MAX_SWEEPS):
        sort_states(m.values, m.order)
        change = 0.0
        for s in range(num_states):
            new[s] = 0.0
            if m.missing[s]:
                continue
            best = np.inf
            for a in range(num_actions):
                q = 1.0 + expected_value(m, s, a, True)
                if q < best:
                    best, m.policy[s] = q, a
            new[s] = min(best, MAX_VALUE)
            change = max(change, abs(new[s] - m.values[s]))
        m.values[:] = new
        if change < c.tolerance:
            return


@njit(cache=True)
def plan_average_reward(m, c):
    """UCRL2's extended value iteration, made aperiodic: policy of highest reward per step in the most favourable model."""
    num_states, num_actions = m.counts.shape
    new = np.zeros(num_states)
    for _ in range(MAX_SWEEPS):
        sort_states(m.values, m.order)
        smallest, largest = np.inf, -np.inf
        for s in range(num_states):
            best = -np.inf
            for a in range(num_actions):
                q = m.rewards[s, a] + (1.0 - APERIODICITY) * expected_value(m, s, a, False) + APERIODICITY * m.values[s]
                if q > best:
                    best, m.policy[s] = q, a
            new[s] = best
            smallest, largest = min(smallest, best - m.values[s]), max(largest, best - m.values[s])
        m.values[:] = new - new.min()
        if largest - smallest < c.tolerance:
            return


@njit(cache=True)
def plan_rmax(m, c):
    """R-MAX: pairs that are not known yet are worth 1, known ones what the empirical model says, discounted."""
    num_states, num_actions = m.counts.shape
    new = np.zeros(num_states)
    for _ in range(MAX_SWEEPS):
        change = 0.0
        for s in range(num_states):
            best = -1.0
            for a in range(num_actions):
                known = m.counts[s, a] >= max(m.required[s, a], 1)
                q = c.rmax_gamma * expected_value(m, s, a, False) if known else 1.0
                if q > best:
                    best, m.policy[s] = q, a
            new[s] = best
            change = max(change, abs(best - m.values[s]))
        m.values[:] = new
        if change < (1.0 - c.rmax_gamma) * c.tolerance:
            return


@njit(cache=True)
def plan(m, c):
    """A policy for the next attempt (episode); visits within it start at 0."""
    m.visits[:] = 0
    m.clock[STALE] = 0
    num_states, num_actions = m.counts.shape
    if c.arm == GOSPRL or c.arm == ORACLE:
        plan_shortest_path(m, c)
    elif c.arm == RMAX:
        plan_rmax(m, c)
    else:
        smoothed = m.clock[STEPS] + num_states * num_actions + 1.0
        for s in range(num_states):
            for a in range(num_actions):
                if c.arm == UCRL:
                    m.rewards[s, a] = 1.0 if m.counts[s, a] < m.required[s, a] else 0.0
                else:  # gradient of the entropy of smoothed visits, as a share of its largest value
                    m.rewards[s, a] = 1.0 - math.log(m.counts[s, a] + 1.0) / math.log(smoothed)
        plan_average_reward(m, c)


@njit(cache=True)
def choose(m, c):
    """The next action."""
    num_actions = m.counts.shape[1]
    s = m.clock[POSITION]
    if c.arm == RANDOM:
        return randint(m.rng[0], num_actions)
    if m.missing[s] and (c.arm == GOSPRL or c.arm == RMAX or c.arm == ORACLE):
        index = randint(m.rng[0], m.missing[s])  # any action that lacks samples
        for a in range(num_actions):
            if m.counts[s, a] < m.required[s, a]:
                if index == 0:
                    return a
                index -= 1
    if m.clock[STALE]:
        plan(m, c)
    return m.policy[s]


@njit(cache=True)
def modest_requirement(m, s, a, accuracy):
    """Samples for an l1 error of about `accuracy`: (sum over s' of sqrt(p_hat (1 - p_hat)))^2 / accuracy^2 + 1 / accuracy.

    The first term is what the standard errors ask for, the second what transitions that have not been seen yet may weigh.
    """
    n, deviation = m.counts[s, a], 0.0
    for t in range(m.counts.shape[0]):
        p = m.transitions[s, a, t] / max(n, 1)
        deviation += math.sqrt(p * (1.0 - p))
    return math.ceil(deviation**2 / accuracy**2 + 1.0 / accuracy)


@njit(cache=True)
def require(m, s, a, samples):
    """Sets the requirement of a pair, and what follows from it."""
    before = m.counts[s, a] < m.required[s, a]
    m.required[s, a] = samples
    after = m.counts[s, a] < samples
    if before != after:
        step = 1 if after else -1
        m.missing[s] += step
        m.clock[OPEN] += step
        m.clock[STALE] = 1


@njit(cache=True)
def learn_requirements(m, c, s, a):
    """MODEST: the requirement of the pair just seen; when all are met, the accuracy asked for rises by sqrt(2)."""
    require(m, s, a, modest_requirement(m, s, a, m.level[0]))
    while m.clock[OPEN] == 0 and (m.P.size or m.level[0] > c.accuracy):
        m.level[0] = m.level[0] * math.sqrt(0.5)
        if not m.P.size:
            m.level[0] = max(m.level[0], c.accuracy)
        for i in range(m.counts.shape[0]):
            for j in range(m.counts.shape[1]):
                require(m, i, j, modest_requirement(m, i, j, m.level[0]))


@njit(cache=True)
def measure_error(m, c, s, a):
    """The l1 error of p_hat(. | s, a), and how many pairs are above the accuracy asked for."""
    error = 0.0
    for t in range(m.counts.shape[0]):
        error += abs(m.transitions[s, a, t] / m.counts[s, a] - m.P[s, a, t])
    m.clock[INACCURATE] += (1 if error > c.accuracy else 0) - (1 if m.errors[s, a] > c.accuracy else 0)
    m.errors[s, a] = error


@njit(cache=True)
def observe(m, c, s, a, next_s):
    """Takes in a transition: counts, requirements, intervals, and whether the attempt (episode) ends with it."""
    m.counts[s, a] += 1
    m.transitions[s, a, next_s] += 1
    m.visits[s, a] += 1
    m.clock[STEPS] += 1
    m.clock[POSITION] = next_s
    if m.counts[s, a] == m.required[s, a]:
        m.missing[s] -= 1
        m.clock[OPEN] -= 1
        if c.arm == RMAX or (c.arm == UCRL and c.fresh_rewards) or (c.arm == ORACLE and m.missing[s] == 0):
            m.clock[STALE] = 1
    elif c.arm == RMAX and m.counts[s, a] == 1 and m.required[s, a] == 0:
        m.clock[STALE] = 1
    if c.arm != RANDOM and c.arm != ORACLE:
        set_interval(m, c, s, a)
    if c.arm == GOSPRL or c.arm == UCRL or c.arm == MAXENT:
        doubled = m.visits[s, a] >= max(m.counts[s, a] - m.visits[s, a], 1)
        if doubled or (c.arm == GOSPRL and m.missing[next_s]):
            m.clock[STALE] = 1
    if c.accuracy > 0.0:
        learn_requirements(m, c, s, a)
        if m.P.size:
            measure_error(m, c, s, a)
    done = m.clock[INACCURATE] == 0 if c.accuracy > 0.0 and m.P.size else m.clock[OPEN] == 0
    if done:
        m.clock[FINISHED] = 1


@njit(cache=True)
def walk(m, c, until):
    """Collects from the true model until all requirements are met, or `until` steps have been taken."""
    while not m.clock[FINISHED] and m.clock[STEPS] < until:
        s, a = m.clock[POSITION], choose(m, c)
        u, i = uniform(m.rng[0], 0.0, 1.0), 0
        while u >= m.cumulative[s, a, i]:
            i += 1
        observe(m, c, s, a, m.successors[s, a, i])


class Collection:
    """One continuing interaction that collects what a task requires.

    Args:
        required: int (S, A), samples that every pair needs; MODEST starts with it.
        model: float (S, A, S), true transition probabilities to draw from; None: transitions come from `sampler`.
        sampler: function (state, action) -> next state.
        start: state in which the interaction begins.
        arm: one of ARMS; the oracle needs a model.
        accuracy: > 0 for MODEST, largest l1 error of the model that is learnt; 0: `required` stays as it is.
        seed: of the algorithm's own draws and of those from the model.
    Raises:
        ValueError: an argument is outside the ranges above.
    """

    def __init__(
        self,
        required: np.ndarray,
        model: np.ndarray | None = None,
        sampler: Callable[[int, int], int] | None = None,
        start: int = 0,
        arm: str = "gosprl",
        accuracy: float = 0.0,
        seed: int = 0,
        alpha_p: float = 0.1,
        delta: float = 0.1,
        tolerance: float = 0.01,
        fresh_rewards: bool = False,
        rmax_gamma: float = 0.95,
    ):
        required = np.asarray(required)
        if required.ndim != 2 or required.dtype.kind not in "iu" or required.min() < 0:
            raise ValueError(f"required must be integers >= 0 of shape (S, A), got {required.dtype} {required.shape}")
        if (model is None) == (sampler is None):
            raise ValueError(f"transitions come from either a model or a sampler, got model={model!r}, sampler={sampler!r}")
        if arm not in ARMS or (arm == "oracle" and model is None):
            raise ValueError(f"arm must be one of {', '.join(ARMS)}, the last with a model only, got {arm!r}")
        S, A = required.shape
        if not 0 <= start < S:
            raise ValueError(f"start must be a state in [0, {S}), got {start!r}")
        P = np.zeros((0, 0, 0)) if model is None else np.ascontiguousarray(solvers.check_model(model))
        if model is not None and (P.shape != (S, A, S) or P.sum(-1).min() < 1.0 - 1e-9):
            raise ValueError(f"model must have shape {(S, A, S)} and rows that sum to 1, got {P.shape}")
        if not (alpha_p > 0 and tolerance > 0 and 0 < delta < 1 and 0 < rmax_gamma < 1 and 0 <= accuracy <= 2):
            found = f"{alpha_p}, {tolerance}, {delta}, {rmax_gamma}, {accuracy}"
            raise ValueError(f"alpha_p, tolerance > 0, delta, rmax_gamma in (0, 1), accuracy in [0, 2] expected, got {found}")
        if accuracy > 0.0:
            required = np.maximum(required, 1)
        errors = np.zeros((S, A)) if model is None else np.abs(1.0 / S - P).sum(-1)
        successors, cumulative = compress(P)
        known = arm == "oracle"
        clock = np.zeros(6, np.int64)
        clock[POSITION], clock[OPEN], clock[STALE] = start, (required > 0).sum(), 1
        clock[INACCURATE], clock[FINISHED] = (errors > accuracy).sum(), not required.any()
        self.sampler = sampler
        self.settings = Settings(ARMS.index(arm), alpha_p, delta, tolerance, fresh_rewards, rmax_gamma, accuracy)
        self.memory = Memory(
            counts=np.zeros((S, A), np.int64),
            transitions=np.zeros((S, A, S), np.int64),
            required=required.astype(np.int64),
            visits=np.zeros((S, A), np.int64),
            low=P.copy() if known else np.zeros((S, A, S)),
            room=np.zeros((S, A, S)) if known else np.ones((S, A, S)),
            slack=np.zeros((S, A)) if known else np.ones((S, A)),
            values=np.zeros(S),
            order=np.arange(S),
            policy=np.zeros(S, np.int64),
            missing=(required > 0).sum(1),
            rewards=np.zeros((S, A)),
            errors=errors,
            clock=clock,
            level=np.ones(1),
            rng=np.array([(initial_words([seed])[0],)], [("rng", np.uint64)]),
            successors=successors,
            cumulative=cumulative,
            P=P,
        )

    def advance(self, until: int) -> None:
        """Goes on until everything required is there, or `until` steps have been taken since the start."""
        m, c = self.memory, self.settings
        if self.sampler is None:
            walk(m, c, until)
            return
        while not self.finished and self.steps < until:
            s, a = int(m.clock[POSITION]), int(choose(m, c))
            next_s = int(self.sampler(s, a))
            if not 0 <= next_s < len(m.counts):
                raise ValueError(f"the sampler must return a state in [0, {len(m.counts)}), got {next_s} for {s}, {a}")
            observe(m, c, s, a, next_s)

    @property
    def finished(self) -> bool:
        return bool(self.memory.clock[FINISHED])

    @property
    def steps(self) -> int:
        """Steps taken so far; when finished, how many it took."""
        return int(self.memory.clock[STEPS])

    @property
    def satisfied(self) -> float:
        """Share of the states that lack no samples; for MODEST with a model, share of the pairs that are accurate."""
        if self.settings.accuracy > 0.0 and self.sampler is None:
            return float((self.memory.errors <= self.settings.accuracy).mean())
        return float((self.memory.missing == 0).mean())

    def empirical_model(self) -> np.ndarray:
        """p_hat (S, A, S); uniform where nothing has been seen."""
        n = self.memory.counts[..., None]
        return np.where(n > 0, self.memory.transitions / np.maximum(n, 1), 1.0 / len(self.memory.counts))

    def state_dict(self) -> dict[str, int]:
        """Everything follows from the seed and the number of steps: a resumed collection is played again up to them."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.advance(state["steps"])


def compress(P):
    """States (S, A, K) that each pair can lead to and their cumulative probabilities, which end in 1."""
    if not P.size:
        return np.zeros(P.shape, np.int64), P
    width = (P > 0.0).sum(-1).max()
    successors = np.ascontiguousarray(np.argsort(P == 0.0, axis=-1, kind="stable")[..., :width])
    sums = np.take_along_axis(P, successors, -1).cumsum(-1)
    return successors, sums / sums[..., -1:]


def collect(required, sampler, max_steps=1_000_000, **kwargs) -> Collection:
    """Collects the required samples, int (S, A), from `sampler(state, action) -> next state`, one continuing interaction.

    kwargs are those of `Collection`. The result has `memory.counts` (S, A), `memory.transitions` (S, A, S),
    `empirical_model()`, `steps` and `finished`, which is False where max_steps did not suffice, for instance because a
    required pair is out of reach.
    """
    collection = Collection(required, sampler=sampler, **kwargs)
    collection.advance(max_steps)
    return collection


class EnvSampler:
    """The transitions of a Gymnasium environment with Discrete spaces, states and actions numbered from 0.

    The end of an episode is a transition to the first state of the next one: nothing can be collected in a terminal state.

    Raises:
        UsageError: the spaces are others.
    """

    def __init__(self, env: gym.Env, seed: int):
        for name, space in (("observation", env.observation_space), ("action", env.action_space)):
            if not isinstance(space, spaces.Discrete):
                raise common.UsageError(
                    f"an environment without a small exact model needs a Discrete {name} space, got {space}"
                )
        self.env, self.first_state, self.first_action = env, env.observation_space.start, env.action_space.start
        self.shape = int(env.observation_space.n), int(env.action_space.n)
        self.start = int(env.reset(seed=seed)[0] - self.first_state)

    def __call__(self, s: int, a: int) -> int:
        obs, _, terminated, truncated, _ = self.env.step(a + self.first_action)
        if terminated or truncated:
            obs, _ = self.env.reset()
        return int(obs - self.first_state)


def exact_model(env: gym.Env, seed: int) -> np.ndarray | None:
    """P (S, A, S) of the continuing task, 0 being the state after reset, to which the end of an episode leads back.

    None where the environment offers no `to_tabular()`.
    """
    if not hasattr(env, "to_tabular"):
        return None
    env.reset(seed=seed)
    model = env.to_tabular()
    P = model.P.copy()
    P[:, :, 0] += model.terminated
    return P


def make_collection(args: Args, env_id: str, kwargs: dict, task: str, name: str, env_seed: int) -> Collection:
    """The collection of a task; its seeds follow from the run's and the name, so that all arms have the same requirements.

    Raises:
        UsageError: the environment can't be made, or is neither small nor Discrete.
    """
    seeds = np.random.SeedSequence([env_seed, zlib.crc32(name.encode())]).generate_state(2, np.uint64)
    rng, seed = np.random.default_rng(int(seeds[0])), int(seeds[1])
    try:
        limits = {} if gym.spec(env_id).namespace == "Explore" else {"max_episode_steps": -1}  # no time limit
        env = gym.make(env_id, **kwargs, **limits)
        model = exact_model(env.unwrapped, env_seed)
    except (gym.error.Error, TypeError, ValueError) as error:
        raise common.UsageError(f"cannot use {env_id!r} with kwargs {kwargs}: {error}") from error
    sampler = None if model is not None else EnvSampler(env, env_seed)
    shape = sampler.shape if sampler else model.shape[:2]
    kind, number = parse_task(task)
    required = rng.integers(0, 101, shape) if kind == "random" else np.full(shape, int(number) if kind == "treasure" else 1)
    return Collection(
        required,
        model,
        sampler,
        start=sampler.start if sampler else 0,
        arm=args.arm,
        accuracy=number if kind == "modest" else 0.0,
        seed=seed,
        alpha_p=args.alpha_p,
        delta=args.delta,
        tolerance=args.tolerance,
        fresh_rewards=args.fresh_rewards,
        rmax_gamma=args.rmax_gamma,
    )


def make_collections(args: Args, env_seed: int) -> dict[str, Collection]:
    """One for each MDP and task, under `<MDP>/<task>`."""
    if args.suite:
        mdps = SUITES[args.suite]
    else:
        mdps = {args.env.rpartition("/")[2].partition("-v")[0]: (args.env, json.loads(args.env_kwargs), args.tasks)}
    collections = {}
    for mdp, (env_id, kwargs, tasks) in mdps.items():
        own = {key: args.seed if key == "model_seed" and value is None else value for key, value in kwargs.items()}
        for task in tasks:
            collections[f"{mdp}/{task}"] = make_collection(args, env_id, own, task, f"{mdp}/{task}", env_seed)
    return collections


def goal_free_suboptimality(collection: Collection, rng: np.random.Generator) -> float:
    """How much longer, on average over random goals and starts, the best ways in the model learnt are in the true one."""
    P, learnt = collection.memory.P, collection.empirical_model()
    found = []
    for goal in rng.integers(len(P), size=GOALS):
        best, policy = solvers.shortest_path(P, [goal])[0], solvers.shortest_path(learnt, [goal])[1]
        ended, costs = P.copy(), np.ones(P.shape[:2])
        ended[goal], costs[goal] = 0.0, 0.0
        if not solvers.ends(ended[np.arange(len(P)), policy]).all():
            found.append(NEVER_ARRIVES)
            continue
        others = np.arange(len(P)) != goal
        found.append((solvers.policy_evaluation(ended, costs, policy)[others] / best[others]).mean() - 1.0)
    return float(np.mean(found))


def scaling_metrics(collections: dict[str, Collection], seed: int) -> dict[str, float]:
    """Fits over the tasks of the suite `scaling`, and the goal-free test on all tasks with 50 samples of every pair."""
    samples = [5, 10, 20, 40]
    steps = [collections[f"RiverSwim/treasure-{c}"].steps for c in samples]
    lengths = np.array([12, 24, 48])
    walks = [collections[f"Corridor-{n}/treasure-10"].steps for n in lengths]
    metrics = {
        "linearity/r2": float(np.corrcoef(samples, steps)[0, 1] ** 2),
        # B grows like n, so that n B grows like n^2
        "corridor/exponent": float(np.polyfit(np.log(lengths**2), np.log(walks), 1)[0]),
    }
    for name, collection in collections.items():
        mdp, _, task = name.partition("/")
        if task == "treasure-50" and collection.finished:
            metrics[f"{mdp}/suboptimality"] = goal_free_suboptimality(collection, np.random.default_rng(seed))
    return metrics


def is_logged(step, interval):
    """Whether a row of metrics is due: at distances that grow with the step."""
    return int(math.log(step, LOG_GROWTH)) > int(math.log(max(step - interval, 1), LOG_GROWTH))


def train(args):
    run = common.start(args, __file__)
    collections = make_collections(args, run.env_seed)
    run.persist(**collections)
    for step in run.steps(args.log_interval):
        for collection in collections.values():
            if not collection.finished:
                collection.advance(step)
        ended = step >= args.total_timesteps
        if ended or is_logged(step, args.log_interval):
            metrics: dict[str, Any] = {f"{name}/satisfied": x.satisfied for name, x in collections.items()}
            if ended:
                metrics.update({f"{name}/steps": x.steps for name, x in collections.items()})
                metrics.update(scaling_metrics(collections, run.eval_seed) if args.suite == "scaling" else {})
            run.log(step, metrics)
    run.close()
    return run


if __name__ == "__main__":
    from explore_gym.agents import gosprl  # under this name numba finds the compiled kernels on disk, under __main__ it doesn't

    common.main(gosprl.train, gosprl.Args)
