"""Thresholds: find where on a line the answers turn from no to yes, though every answer may be wrong.

A task is a vector theta of answer tendencies: position x says yes with probability (1 + theta[x]) / 2. A threshold j calls
the positions from j on yes and those before it no; it is worth <z_j, theta> with z_j = +1 or -1 at each position. After
`budget` questions the threshold that contradicts the fewest answers is recommended, the middle one if several do.

Observation: float32 (positions, 3): questions at the position, yes among the answers, share of the budget that is spent.
Action:      Discrete(positions): the position to ask at.
Reward:      0 but for the last question, which earns 1 - loss: loss="error" is 1 unless the recommended threshold is best,
             loss="regret" is its excess risk, by how much more often than the best threshold it is wrong about the next
             answer at a random position.
Terminates:  after budget (20) questions.  Truncates: never.
Source:      the one-dimensional thresholds of Zhang, Jain and Jamieson, 2020, arXiv:2010.15382; noisy binary search.

theta is drawn with a threshold that is uniform on the positions + 1 possible ones and |theta[x]| uniform on the range
`margin` (0.5, 0.9). With theta= it is the same in each episode; `envs.set_state(theta=...)` after a reset gives each
lane its own, values in [-1, 1]. The info has what the agent must not see: `theta`, `best_threshold` (the first, if
several are), and of the threshold that would be recommended now, `answer`, whether it is `correct` and its
`simple_regret` (the excess risk).
"""

import numpy as np

from explore_gym.envs.bandits.checks import check_instance, check_integer
from explore_gym.envs.bandits.complexity import transductive_complexity
from explore_gym.envs.bandits.pure_exploration import PureExploration, begin, exploration_state, observe, score
from explore_gym.envs.engine import bernoulli, kernel, randint, uniform, vectorize


def thresholds_state(positions):
    return exploration_state(positions, theta=(np.float64, (positions,)))


@kernel
def excess_risk(theta, answer):
    """(value of the best threshold - value of this one) / 2 positions, and the best threshold."""
    value = 0.0  # of threshold j, up to what is common to all: from j to j + 1 position j turns from +1 to -1
    highest, best, own = 0.0, 0, 0.0
    for position in range(len(theta)):
        value -= 2.0 * theta[position]
        if value > highest:
            highest, best = value, position + 1
        if answer == position + 1:
            own = value
    return (highest - own) / (2.0 * len(theta)), best


@kernel
def recommend(state):
    """The threshold that most answers agree with; the middle one of those that tie."""
    positions = len(state.counts)
    agreement, most, tied = 0.0, 0.0, 1
    for position in range(positions):
        agreement += 2.0 * (state.counts[position] - 2.0 * state.sums[position])  # noes minus yeses, now right minus wrong
        if agreement > most:
            most, tied = agreement, 1
        elif agreement == most:
            tied += 1
    agreement, rank, state.answer = 0.0, (tied - 1) // 2, 0
    for threshold in range(positions + 1):
        if agreement == most:
            if rank == 0:
                state.answer = threshold
            rank -= 1
        if threshold < positions:
            agreement += 2.0 * (state.counts[threshold] - 2.0 * state.sums[threshold])


@kernel
def reset(params, state):
    threshold = randint(state, len(state.theta) + 1)
    for position in range(len(state.theta)):
        if params.fixed:
            state.theta[position] = params.theta[position]
        else:
            size = uniform(state, params.margin[0], params.margin[1])
            state.theta[position] = size if position >= threshold else -size
    begin(state)
    recommend(state)
    state.simple_regret, _ = excess_risk(state.theta, state.answer)


@kernel
def step(params, state, action):
    state.counts[action] += 1.0
    if bernoulli(state, 0.5 + 0.5 * state.theta[action]):
        state.sums[action] += 1.0
    recommend(state)
    state.simple_regret, _ = excess_risk(state.theta, state.answer)
    return score(params, state)


@kernel
def inform(params, state, info):
    info.answer = state.answer
    info.simple_regret, info.best_threshold = excess_risk(state.theta, state.answer)
    info.correct = info.simple_regret == 0.0
    for position in range(len(state.theta)):
        info.theta[position] = state.theta[position]


class Thresholds(PureExploration):
    """Noisy binary search on a line.

    Args:
        positions: where questions can be asked, 2 to 1000.
        budget: questions, 1 to 100_000.
        margin: (low, high) in [0, 1] of the |theta| that are drawn; 1: no answer is wrong.
        theta: the tendencies of every episode, a list of numbers in [-1, 1]; None: drawn for each.
        loss: "error" or "regret".
    Raises:
        ValueError: an argument is outside the ranges above.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        positions=25,
        budget=20,
        margin=(0.5, 0.9),
        theta=None,
        loss="error",
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("positions", positions, 2, 1000)
        if not (np.shape(margin) == (2,) and 0.0 <= margin[0] <= margin[1] <= 1.0):
            raise ValueError(f"margin must be two numbers, 0 <= low <= high <= 1, got {margin!r}")
        self.theta = None if theta is None else check_instance(theta, positions, -1.0, 1.0)
        super().__init__(
            queries=positions,
            budget=budget,
            loss=loss,
            answers=(0.0, 1.0),
            state=thresholds_state(positions),
            params=dict(
                fixed=theta is not None,
                theta=np.zeros(positions) if theta is None else self.theta,
                margin=np.array(margin, np.float64),
            ),
            info=dict(best_threshold=int, theta=(float, (positions,))),
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    @property
    def hypotheses(self):
        """z of every threshold, (positions + 1, positions) of +1 and -1."""
        return np.where(np.arange(self.queries) >= np.arange(self.queries + 1)[:, None], 1.0, -1.0)

    def complexity(self, theta):
        """C(theta) of an instance (positions,), from the answers as +1 and -1."""
        return transductive_complexity(np.eye(self.queries), self.hypotheses, theta).value

    def draw(self, canvas, state):
        """The probability of yes above the line, gold from the recommended threshold on; the questions below it."""
        yes, gold = 0.5 + 0.5 * np.asarray(state.theta), np.arange(self.queries) >= state.answer
        caption = f"question {state.t} of {self.budget}  recommended {state.answer}  regret {state.simple_regret:.2f}"
        self.draw_queries(canvas, state, yes, gold, caption)


ThresholdsVector = vectorize(Thresholds)
