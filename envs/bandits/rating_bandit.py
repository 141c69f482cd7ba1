"""RatingBandit: recommend to a new user the item that they would rate best, after asking for a few ratings.

A task is one user. Items have known vectors v and mean ratings b, and a user with the hidden vector theta rates item i
b[i] + <v[i], theta> on average, plus N(0, noise^2) each time. After `budget` ratings the item of the highest posterior mean
is recommended; the posterior is that of Bayesian linear regression with the prior theta ~ N(0, I).

Observation: float32 (items, 3): ratings of the item so far, their sum, share of the budget that is spent.
Action:      Discrete(items): the item to have rated.
Reward:      0 but for the last rating, which earns 1 - loss: loss="regret" is the simple regret, best item's mean rating -
             recommended one's; loss="error" is 1 unless the recommended item is best.
Terminates:  after budget (10) ratings.  Truncates: never.
Source:      the joke recommendation of Zhang, Jain and Jamieson, 2020, arXiv:2010.15382, whose ratings are those of Jester
             (Goldberg et al., 2001).

Items are drawn from model_seed: b = 0.5, v ~ N(0, I) 0.2 / sqrt(rank), so that mean ratings have standard deviation 0.2
over users, and users are drawn from the prior. With file= a local .npy or .csv matrix of ratings (users, items) is
read, NaN or empty where there is none; its ratings are scaled to [0, 1], missing ones set to the item's mean, and the
leading `rank` singular vectors give items and users, of whom each task draws one. With theta= the user is the same in
each episode; `envs.set_state(theta=...)` after a reset gives each lane its own. The info has what the agent must not
see: `theta`, `best_item`, and of the item that would be recommended now, `answer`, whether it is `correct` and its
`simple_regret`.
"""

import math

import numpy as np

from explore_gym.envs.bandits.checks import check_instance, check_integer, check_number, load_matrix
from explore_gym.envs.bandits.complexity import transductive_complexity
from explore_gym.envs.bandits.pure_exploration import PureExploration, begin, exploration_state, observe, score
from explore_gym.envs.engine import kernel, normal, randint, vectorize

MEAN, SPREAD = 0.5, 0.2  # of drawn ratings over users


def rating_bandit_state(items, rank):
    return exploration_state(
        items,
        theta=(np.float64, (rank,)),
        mean=(np.float64, (rank,)),  # of the posterior
        covariance=(np.float64, (rank, rank)),
        gain=(np.float64, (rank,)),  # scratch space
    )


@kernel
def rating(params, theta, item):
    """An item's mean rating by the user with this vector."""
    total = params.bias[item]
    for k in range(len(theta)):
        total += params.items[item, k] * theta[k]
    return total


@kernel
def best_item(params, theta):
    best, highest = 0, -math.inf
    for item in range(len(params.bias)):
        value = rating(params, theta, item)
        if value > highest:
            best, highest = item, value
    return best


@kernel
def recommend(params, state):
    state.answer = best_item(params, state.mean)
    best = rating(params, state.theta, best_item(params, state.theta))
    state.simple_regret = best - rating(params, state.theta, state.answer)


@kernel
def condition(params, state, item, outcome):
    """The posterior after a rating (Sherman and Morrison's update of the covariance)."""
    rank, variance = len(state.mean), params.noise * params.noise
    error = outcome - rating(params, state.mean, item)
    for j in range(rank):
        state.gain[j] = 0.0
        for k in range(rank):
            state.gain[j] += state.covariance[j, k] * params.items[item, k]
        variance += params.items[item, j] * state.gain[j]
    for j in range(rank):
        state.mean[j] += state.gain[j] * error / variance
        for k in range(rank):
            state.covariance[j, k] -= state.gain[j] * state.gain[k] / variance


@kernel
def reset(params, state):
    user = randint(state, params.users.shape[0])
    for j in range(len(state.theta)):
        if params.from_users:
            state.theta[j] = params.users[user, j]
        else:
            state.theta[j] = normal(state)
        state.mean[j], state.gain[j] = 0.0, 0.0
        for k in range(len(state.theta)):
            state.covariance[j, k] = 1.0 if j == k else 0.0
    begin(state)
    recommend(params, state)


@kernel
def step(params, state, action):
    outcome = rating(params, state.theta, action) + params.noise * normal(state)
    state.counts[action] += 1.0
    state.sums[action] += outcome
    condition(params, state, action, outcome)
    recommend(params, state)
    return score(params, state)


@kernel
def inform(params, state, info):
    info.answer, info.best_item = state.answer, best_item(params, state.theta)
    info.simple_regret = rating(params, state.theta, info.best_item) - rating(params, state.theta, state.answer)
    info.correct = info.simple_regret == 0.0
    for j in range(len(state.theta)):
        info.theta[j] = state.theta[j]


class RatingBandit(PureExploration):
    """Recommendation to a new user from a few ratings, in a model of low rank.

    Args:
        items: items that are drawn, 2 to 10_000.
        rank: of the ratings, 1 to 100.
        budget: ratings, 1 to 100_000.
        noise: sd of a rating, 1e-3 to 10.
        model_seed: draws the items; 0 to 2**32 - 1.
        file: path of ratings (users, items) to take instead of drawing items, .npy or .csv.
        theta: the user of every episode, a list of `rank` numbers; None: drawn for each.
        loss: "error" or "regret".
    Raises:
        ValueError: an argument is outside the ranges above, or the file's ratings are all the same or an item has none.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        items=50,
        rank=5,
        budget=10,
        noise=0.2,
        model_seed=0,
        file=None,
        theta=None,
        loss="regret",
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("rank", rank, 1, 100)
        check_number("noise", noise, 1e-3, 10.0)
        if file is None:
            check_integer("items", items, 2, 10_000)
            check_integer("model_seed", model_seed, 0, 2**32 - 1)
            rng = np.random.default_rng(model_seed)
            self.items, self.bias = SPREAD / np.sqrt(rank) * rng.standard_normal((items, rank)), np.full(items, MEAN)
            users = None
        else:
            self.items, self.bias, users = factorise(load_matrix(file), rank, file)
        if theta is not None:
            users = check_instance(theta, rank)[None]
        self.noise = float(noise)
        super().__init__(
            queries=len(self.items),
            budget=budget,
            loss=loss,
            answers=(-np.inf, np.inf),
            state=rating_bandit_state(len(self.items), rank),
            params=dict(
                items=self.items,
                bias=self.bias,
                users=np.zeros((1, rank)) if users is None else users,
                from_users=users is not None,
                noise=self.noise,
            ),
            info=dict(best_item=int, theta=(float, (rank,))),
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def complexity(self, theta):
        """C(theta) of a user (rank,)."""
        return transductive_complexity(self.items / self.noise, self.items, theta, self.bias).value

    def draw(self, canvas, state):
        """The user's mean ratings above the line, the best item's gold; the ratings that were asked for below it."""
        ratings = self.bias + self.items @ np.asarray(state.theta)
        caption = f"rating {state.t} of {self.budget}  recommended {state.answer}  regret {state.simple_regret:.2f}"
        self.draw_queries(canvas, state, ratings, ratings == ratings.max(), caption)


def factorise(ratings, rank, file):
    """Item vectors (items, rank), mean ratings (items,) and user vectors (users, rank) with mean 0 and covariance I."""
    if np.isnan(ratings).all(0).any() or not np.nanmin(ratings) < np.nanmax(ratings):
        raise ValueError(f"{file} must hold ratings that differ, at least one of each item, got {ratings}")
    if min(ratings.shape[0] - 1, ratings.shape[1]) < rank:
        raise ValueError(f"ratings of shape {ratings.shape} are too few for rank {rank}")
    ratings = (ratings - np.nanmin(ratings)) / (np.nanmax(ratings) - np.nanmin(ratings))
    bias = np.nanmean(ratings, 0)
    users, values, items = np.linalg.svd(np.where(np.isnan(ratings), 0.0, ratings - bias), full_matrices=False)
    root = np.sqrt(len(ratings))
    return items[:rank].T * values[:rank] / root, bias, users[:, :rank] * root


RatingBanditVector = vectorize(RatingBandit)
