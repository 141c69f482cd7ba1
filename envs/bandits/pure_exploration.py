"""What the pure exploration tasks share: statistics of the answers, the recommendation that is scored, and their pictures.

A task is one hidden instance theta. For `budget` steps the agent chooses queries and sees noisy answers; after the last one
a fixed estimator, which belongs to the environment, recommends an answer, and its loss is all that is rewarded:
reward = 1 - loss at the end, 0 before. The observation is the statistic that the estimator needs.

The instance is a field of the state, so that a lane can be given any: `envs.reset()`, then
`obs = envs.set_state(theta=thetas)` with one row per lane (or `lanes=` for some of them). The next reset draws a new one.
"""

import numpy as np
from gymnasium import spaces

from explore_gym.envs.bandits.checks import check_integer
from explore_gym.envs.engine import KernelEnv, kernel, state_dtype

LOSSES = ("error", "regret")


def exploration_state(queries, **fields):
    """The record of a task with that many queries and the task's own fields."""
    return state_dtype(
        counts=(np.float64, (queries,)),  # how often each was asked
        sums=(np.float64, (queries,)),  # of its answers
        answer=np.int32,  # what the estimator recommends now
        simple_regret=np.float64,  # of that answer
        **fields,
    )


@kernel
def begin(state):
    """No query has been asked."""
    for query in range(len(state.counts)):
        state.counts[query], state.sums[query] = 0.0, 0.0


@kernel
def score(params, state):
    """The step's return: 1 - loss and the end after the last query, 0 before."""
    if state.t < params.budget:
        return 0.0, False
    if params.regret_loss:
        return 1.0 - state.simple_regret, True
    return (1.0 if state.simple_regret == 0.0 else 0.0), True


@kernel
def observe(params, state, obs):
    for query in range(len(state.counts)):
        obs[query, 0], obs[query, 1] = state.counts[query], state.sums[query]
        obs[query, 2] = state.t / params.budget


class PureExploration(KernelEnv):
    """A task with queries, a budget and a loss.

    Args:
        queries: how many there are.
        budget: queries that may be asked.
        loss: "error" (0 or 1) or "regret" (simple regret).
        answers: (low, high) of a single answer.
        state: the record's dtype, of `exploration_state`.
        params: the task's own.
        info: the task's own metrics, beside answer, correct and simple_regret.
    Raises:
        ValueError: budget or loss is none of these.
    """

    def __init__(self, *, queries, budget, loss, answers, state, params, info, render_mode, max_episode_steps):
        check_integer("budget", budget, 1, 100_000)
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {LOSSES}, got {loss!r}")
        self.queries, self.budget, self.loss = queries, budget, loss
        low = np.tile(np.array([0.0, min(0.0, answers[0] * budget), 0.0], np.float32), (queries, 1))
        high = np.tile(np.array([budget, max(0.0, answers[1] * budget), 1.0], np.float32), (queries, 1))
        super().__init__(
            state=state,
            params=dict(budget=budget, regret_loss=loss == "regret", **params),
            observation_space=spaces.Box(low, high, dtype=np.float32),
            action_space=spaces.Discrete(queries),
            info=dict(answer=int, correct=bool, simple_regret=float, **info),
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def draw_queries(self, canvas, state, heights, gold, caption):
        """One bar per query: its hidden height in [0, 1], gold or blue; how often it was asked hangs below the line."""
        width = max(self.queries, 24)
        bar = width / self.queries
        canvas.size(width, 0.5 * width)
        line, unit = 0.3 * width, 0.28 * width
        canvas.rect(0, 0, width, 0.46 * width, (24, 26, 38))
        for query in range(self.queries):
            left, tall = bar * query + 0.1 * bar, max(unit * float(np.clip(heights[query], 0.0, 1.0)), 0.05)
            canvas.rect(left, line - tall, 0.8 * bar, tall, (240, 190, 60) if gold[query] else (90, 130, 200), "#")
            asked = 0.14 * width * float(state.counts[query]) / max(float(np.max(state.counts)), 1.0)
            if asked > 0.0:
                canvas.rect(left, line, 0.8 * bar, asked, (200, 110, 90), "o")
        canvas.line(0, line, width, line, (200, 200, 200), 0.003 * width)
        canvas.text(0.5, 0.465 * width, caption, (30, 30, 30), 0.028 * width)
