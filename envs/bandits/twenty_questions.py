"""TwentyQuestions: guess the hidden object from yes and no, though some answers are wrong and most objects look alike.

A task is one object. A question is answered yes with the probability that its cell of a table (objects, questions) says, and
every answer is turned round with probability `noise`; the same question may be asked again and is answered afresh. After
`budget` questions the object of the highest posterior probability is recommended (prior uniform, table and noise known).

Observation: float32 (questions, 3): how often it was asked, yes among the answers, share of the budget that is spent.
Action:      Discrete(questions): the question to ask.
Reward:      0 but for the last question, which earns 1 if the recommended object is the hidden one.
Terminates:  after budget (20) questions.  Truncates: never.
Source:      the noisy 20 Questions of Zhang, Jain and Jamieson, 2020, arXiv:2010.15382.

The table is drawn from model_seed by a logistic model of low rank: the log-odds of yes are `scale` (4) times the
product of an object's and a question's vector, each N(0, I) in `rank` (4) dimensions, over sqrt(rank). With file= it is
read from a local .npy or .csv file of probabilities, a row per object. The object is uniform, or `target` in each
episode; `envs.set_state(target=...)` after a reset gives each lane its own. The info has what the agent must not see:
`target`, and of the object that would be recommended now, `answer`, whether it is `correct`, its `simple_regret` (0 or
1) and the hidden object's posterior probability `belief`.
"""

import math

import numpy as np

from explore_gym.envs.bandits.checks import check_integer, check_number, load_matrix
from explore_gym.envs.bandits.complexity import hypothesis_complexity
from explore_gym.envs.bandits.pure_exploration import PureExploration, begin, exploration_state, observe, score
from explore_gym.envs.engine import bernoulli, kernel, randint, vectorize


def twenty_questions_state(objects, questions):
    return exploration_state(questions, target=np.int32, log_posterior=(np.float64, (objects,)))  # not normalised


@kernel
def recommend(state):
    """The object of the highest posterior, the first of those that tie."""
    state.answer = 0
    for candidate in range(1, len(state.log_posterior)):
        if state.log_posterior[candidate] > state.log_posterior[state.answer]:
            state.answer = candidate
    state.simple_regret = 0.0 if state.answer == state.target else 1.0


@kernel
def reset(params, state):
    state.target = randint(state, len(state.log_posterior)) if params.target < 0 else params.target
    for candidate in range(len(state.log_posterior)):
        state.log_posterior[candidate] = 0.0
    begin(state)
    recommend(state)


@kernel
def step(params, state, action):
    yes = bernoulli(state, params.yes[state.target, action])
    state.counts[action] += 1.0
    state.sums[action] += 1.0 if yes else 0.0
    for candidate in range(len(state.log_posterior)):
        likelihood = params.log_yes[candidate, action] if yes else params.log_no[candidate, action]
        state.log_posterior[candidate] += likelihood
    recommend(state)
    return score(params, state)


@kernel
def inform(params, state, info):
    highest, total = state.log_posterior[state.answer], 0.0
    for candidate in range(len(state.log_posterior)):
        total += math.exp(state.log_posterior[candidate] - highest)
    info.belief = math.exp(state.log_posterior[state.target] - highest) / total
    info.target, info.answer = state.target, state.answer
    info.correct = state.answer == state.target
    info.simple_regret = 0.0 if state.answer == state.target else 1.0


class TwentyQuestions(PureExploration):
    """Identification of an object by noisy yes-no questions.

    Args:
        objects: rows of the table that is drawn, 2 to 10_000.
        questions: columns of it, 2 to 10_000.
        budget: questions that may be asked, 1 to 100_000.
        noise: probability that an answer is turned round, above 0 and below 0.5.
        rank: of the log-odds, 1 to 100.
        scale: of the log-odds, 0 to 100; the larger, the surer the answers.
        model_seed: draws the table; 0 to 2**32 - 1.
        file: path of a table to take instead of drawing one, .npy or .csv, probabilities of yes.
        target: the object of every episode; None: drawn for each.
    Raises:
        ValueError: an argument is outside the ranges above, or the file's numbers are no probabilities.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        objects=64,
        questions=40,
        budget=20,
        noise=0.1,
        rank=4,
        scale=4.0,
        model_seed=0,
        file=None,
        target=None,
        render_mode=None,
        max_episode_steps=None,
    ):
        check_number("noise", noise, 1e-6, 0.5 - 1e-6)
        if file is None:
            check_integer("objects", objects, 2, 10_000)
            check_integer("questions", questions, 2, 10_000)
            check_integer("rank", rank, 1, 100)
            check_number("scale", scale, 0.0, 100.0)
            check_integer("model_seed", model_seed, 0, 2**32 - 1)
            table = draw_table(objects, questions, rank, scale, model_seed)
        else:
            table = load_matrix(file)
            if not (table.min() >= 0.0 and table.max() <= 1.0):  # also false of NaN
                raise ValueError(f"{file} must hold probabilities in [0, 1], got {table.min()} to {table.max()}")
        objects, questions = table.shape
        if target is not None:
            check_integer("target", target, 0, objects - 1)
        self.yes = noise + (1.0 - 2.0 * noise) * table  # (objects, questions) probabilities of a yes, noise included
        super().__init__(
            queries=questions,
            budget=budget,
            loss="error",
            answers=(0.0, 1.0),
            state=twenty_questions_state(objects, questions),
            params=dict(
                yes=self.yes,
                log_yes=np.log(self.yes),
                log_no=np.log1p(-self.yes),
                target=-1 if target is None else target,
            ),
            info=dict(target=int, belief=float),
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def complexity(self, target):
        """Least expected number of questions per unit of log-evidence for this object against the most similar one."""
        p, others = self.yes[target], np.delete(self.yes, target, 0)
        divergences = p * np.log(p / others) + (1.0 - p) * np.log((1.0 - p) / (1.0 - others))
        return hypothesis_complexity(divergences)[1]

    def draw(self, canvas, state):
        """The hidden object's probabilities of yes above the line, gold where an answer was; the questions below it."""
        counts = np.asarray(state.counts)
        caption = f"question {state.t} of {self.budget}  recommended {state.answer}  hidden {state.target}"
        self.draw_queries(canvas, state, self.yes[state.target], counts > 0, caption)


def draw_table(objects, questions, rank, scale, model_seed):
    """Probabilities of yes (objects, questions) by the low rank logistic model."""
    rng = np.random.default_rng(model_seed)
    log_odds = scale / np.sqrt(rank) * rng.standard_normal((objects, rank)) @ rng.standard_normal((rank, questions))
    return 1.0 / (1.0 + np.exp(-log_odds))


TwentyQuestionsVector = vectorize(TwentyQuestions)
