"""BestArm: find the arm with the highest mean in a few noisy pulls, which themselves earn nothing.

A task is one vector theta of the arms' means. After `budget` pulls the arm with the highest average is recommended (arms
that were never pulled are not), and only that recommendation is rewarded. Before that the info tells what it would be.

Observation: float32 (arms, 3): pulls of the arm, sum of their results, share of the budget that is spent.
Action:      Discrete(arms): the arm to pull.
Reward:      0 but for the last pull, which earns 1 - loss: loss="error" is 1 unless the recommended arm is best,
             loss="regret" is the simple regret, best mean - recommended arm's mean.
Terminates:  after budget (30) pulls.  Truncates: never.
Source:      the best arm task of Zhang, Jain and Jamieson, 2020, arXiv:2010.15382; fixed budget best arm identification
             with its complexity is that of Audibert, Bubeck and Munos, 2010.

A pull of arm a returns theta[a] + N(0, 1). Means are drawn from the class of complexity at most r = max_complexity
(30), C(theta) = sum over suboptimal arms of 1 / gap^2: a direction from N(0, I), scaled such that C(theta) = r u, u
uniform on (0.3, 1). With theta= they are the same in each episode; `envs.set_state(theta=...)` after a reset gives each
lane its own. The info has what the agent must not see: `theta`, `best_arm`, `complexity`, and of the arm that would be
recommended now, `answer`, whether it is `correct` and its `simple_regret`.
"""

import math

import numpy as np

from explore_gym.envs.bandits.checks import check_instance, check_integer, check_number
from explore_gym.envs.bandits.complexity import MIN_GAP, best_arm_complexity
from explore_gym.envs.bandits.pure_exploration import PureExploration, begin, exploration_state, observe, score
from explore_gym.envs.engine import kernel, normal, uniform, vectorize

EASIEST = 0.3  # least C(theta) of a drawn instance, as a share of max_complexity


def best_arm_state(arms):
    return exploration_state(arms, theta=(np.float64, (arms,)))


@kernel
def find_best(theta):
    best = 0
    for arm in range(1, len(theta)):
        if theta[arm] > theta[best]:
            best = arm
    return best


@kernel
def complexity(theta):
    best, total = find_best(theta), 0.0
    for arm in range(len(theta)):
        if arm != best:
            gap = max(theta[best] - theta[arm], MIN_GAP)
            total += 1.0 / (gap * gap)
    return total


@kernel
def draw_instance(params, state):
    tied = True
    while tied:  # gaps that the complexity doesn't tell from 0 are drawn again
        for arm in range(len(state.theta)):
            state.theta[arm] = normal(state)
        best, tied = find_best(state.theta), False
        for arm in range(len(state.theta)):
            tied = tied or (arm != best and state.theta[best] - state.theta[arm] < MIN_GAP)
    scale = math.sqrt(complexity(state.theta) / (params.max_complexity * uniform(state, EASIEST, 1.0)))
    for arm in range(len(state.theta)):
        state.theta[arm] *= scale


@kernel
def recommend(state):
    """The highest average among the arms that were pulled, the first of them if there is a tie."""
    state.answer = 0
    highest = -math.inf
    for arm in range(len(state.counts)):
        if state.counts[arm] > 0.0 and state.sums[arm] / state.counts[arm] > highest:
            state.answer, highest = arm, state.sums[arm] / state.counts[arm]


@kernel
def reset(params, state):
    if params.fixed:
        for arm in range(len(state.theta)):
            state.theta[arm] = params.theta[arm]
    else:
        draw_instance(params, state)
    begin(state)
    recommend(state)
    state.simple_regret = state.theta[find_best(state.theta)] - state.theta[state.answer]


@kernel
def step(params, state, action):
    state.counts[action] += 1.0
    state.sums[action] += state.theta[action] + normal(state)
    recommend(state)
    state.simple_regret = state.theta[find_best(state.theta)] - state.theta[state.answer]
    return score(params, state)


@kernel
def inform(params, state, info):
    best = find_best(state.theta)
    info.answer, info.best_arm = state.answer, best
    info.simple_regret = state.theta[best] - state.theta[state.answer]
    info.correct = info.simple_regret == 0.0
    info.complexity = complexity(state.theta)
    for arm in range(len(state.theta)):
        info.theta[arm] = state.theta[arm]


class BestArm(PureExploration):
    """Fixed budget best arm identification with unit variance Gaussian arms.

    Args:
        arms: number of arms, 2 to 1000.
        budget: pulls, 1 to 100_000.
        max_complexity: of the instances that are drawn, C(theta) <= max_complexity.
        theta: the means of every episode, a list of numbers; None: drawn for each.
        loss: "error" or "regret".
    Raises:
        ValueError: an argument is outside the ranges above.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        arms=10,
        budget=30,
        max_complexity=30.0,
        theta=None,
        loss="error",
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("arms", arms, 2, 1000)
        check_number("max_complexity", max_complexity, 1e-3, 1e6)
        self.theta = None if theta is None else check_instance(theta, arms)
        super().__init__(
            queries=arms,
            budget=budget,
            loss=loss,
            answers=(-np.inf, np.inf),
            state=best_arm_state(arms),
            params=dict(
                fixed=theta is not None,
                theta=np.zeros(arms) if theta is None else self.theta,
                max_complexity=float(max_complexity),
            ),
            info=dict(best_arm=int, complexity=float, theta=(float, (arms,))),
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def complexity(self, theta):
        """C(theta) of instances (..., arms)."""
        return best_arm_complexity(theta)

    def draw(self, canvas, state):
        """The means above the line, the best arm's gold; the pulls below it."""
        theta = np.asarray(state.theta)
        heights = (theta - theta.min()) / max(float(np.ptp(theta)), MIN_GAP)
        caption = f"pull {state.t} of {self.budget}  recommended {state.answer}  regret {state.simple_regret:.2f}"
        self.draw_queries(canvas, state, heights, theta == theta.max(), caption)


BestArmVector = vectorize(BestArm)
