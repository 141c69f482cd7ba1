"""Scripted agents for the bandit environments, from random to Bayes-optimal, vectorised over the lanes of a batch.

    envs = gym.make_vec("Explore/MetaBandit-v0", num_envs=1000, autoreset_mode="SameStep", family="bernoulli")
    returns, info = play(envs, Thompson(envs.unwrapped), seed=0)

Each agent keeps the same statistics, pulls and sums of rewards of every lane and arm, and says in `choose` which arm follows
from them. Priors, noise and budgets are read from the environment; nothing is read from its state or info. Ties are broken
at random. Agents for pure exploration read the statistics off the observation, which consists of them.
"""

import math

import numpy as np

from explore_gym.envs.bandits.gittins import bernoulli_gittins_table, gaussian_gittins
from explore_gym.envs.bandits.pure_exploration import PureExploration
from explore_gym.envs.bandits.references import BernoulliPlan, kl_bernoulli, optimal_allocation
from explore_gym.envs.engine.kernels import SAME_STEP
from explore_gym.envs.engine.vector import MODES

STEPS = 30  # of bisection


class Policy:
    """What all agents share: statistics of each lane's current task.

    Args:
        envs: the vector environment, of which only the fixed arguments are read.
        seed: of the agent's own random numbers.
    """

    def __init__(self, envs, seed=0):
        self.model, self.num_envs, self.arms = envs.env, envs.num_envs, int(envs.single_action_space.n)
        self.rng, self.lanes = np.random.default_rng(seed), np.arange(envs.num_envs)
        self.counts, self.sums = np.zeros((self.num_envs, self.arms)), np.zeros((self.num_envs, self.arms))

    def reset(self, mask):
        """Forget the tasks of the lanes in mask, bool (num_envs,)."""
        self.counts[mask], self.sums[mask] = 0.0, 0.0

    def act(self, obs):
        """The next actions (num_envs,) after the batch of observations."""
        if isinstance(self.model, PureExploration):
            self.counts, self.sums = obs[..., 0].astype(np.float64), obs[..., 1].astype(np.float64)
        return self.choose(obs)

    def choose(self, obs):
        raise NotImplementedError

    def update(self, action, reward):
        """Count the rewards that the actions earned; both (num_envs,)."""
        self.counts[self.lanes, action] += 1.0
        self.sums[self.lanes, action] += reward

    def pick(self, scores):
        """The arm of the highest score in each lane, a random one of those that tie."""
        best = scores == scores.max(1, keepdims=True)
        return (best * self.rng.random(scores.shape)).argmax(1)

    def averages(self, unknown=np.inf):
        """Each arm's average reward; `unknown` where it was never pulled."""
        return np.where(self.counts > 0.0, self.sums / np.maximum(self.counts, 1.0), unknown)

    def pulls(self):
        """How many each lane has made, (num_envs, 1)."""
        return self.counts.sum(1, keepdims=True)


def play(envs, policy, seed=None):
    """Play one episode in each lane. Returns the returns (num_envs,) and the infos of the last steps.

    Raises:
        ValueError: the environment isn't in "SameStep" mode.
    """
    envs = envs.unwrapped
    if MODES[envs.autoreset_mode] != SAME_STEP:
        raise ValueError(f"play needs autoreset_mode='SameStep', got {envs.autoreset_mode.value!r}")
    obs, _ = envs.reset(seed=seed)
    policy.reset(np.ones(envs.num_envs, bool))
    returns, playing, last = np.zeros(envs.num_envs), np.ones(envs.num_envs, bool), {}
    while playing.any():
        action = policy.act(obs)
        obs, reward, terminated, truncated, info = envs.step(action)
        policy.update(action, reward)
        returns += reward * playing
        done = terminated | truncated
        for key, value in info["final_info"].items():
            last.setdefault(key, value.copy())[done & playing] = value[done & playing]
        policy.reset(done)
        playing &= ~done
    return returns, last


class Random(Policy):
    """Uniformly random actions, in any environment with Discrete actions."""

    def choose(self, obs):
        return self.rng.integers(self.arms, size=self.num_envs)


# Rewards: agents for MetaBandit


class Posterior(Policy):
    """An agent that knows the prior and the noise of a MetaBandit's arms.

    Raises:
        ValueError: the arms drift.
    """

    def __init__(self, envs, seed=0):
        super().__init__(envs, seed)
        if self.model.drift:
            raise ValueError(f"the posterior is that of stationary arms, got drift={self.model.drift!r}")
        self.bernoulli, self.noise = self.model.family == "bernoulli", float(self.model.params["noise"][0])
        self.block = int(self.model.mean_pulls)  # pulls, or their mean

    def beta(self):
        """Parameters a and b of the arms' Beta posteriors."""
        a, b = self.model.prior
        return a + self.sums, b + self.counts - self.sums

    def gaussian(self):
        """Mean and sd of the arms' Gaussian posteriors."""
        mean, sd = self.model.prior
        precision, weight = self.noise**2, sd**2  # of prior and of rewards, times both variances
        total = precision + self.counts * weight
        return (precision * mean + weight * self.sums) / total, np.sqrt(precision * weight / total)

    def means(self):
        if self.bernoulli:
            a, b = self.beta()
            return self.known(a / (a + b))
        return self.known(self.gaussian()[0])

    def known(self, scores):
        """Scores with the safe arm's, if there is one, set to what it pays."""
        if self.model.safe_arm is not None:
            scores[:, 0] = self.model.safe_arm
        return scores


class Greedy(Posterior):
    """The arm of the highest posterior mean."""

    def choose(self, obs):
        return self.pick(self.means())


class EpsilonGreedy(Posterior):
    """A random arm with probability epsilon, else the arm of the highest posterior mean."""

    def __init__(self, envs, seed=0, epsilon=0.1):
        super().__init__(envs, seed)
        self.epsilon = epsilon

    def choose(self, obs):
        explore = self.rng.random(self.num_envs) < self.epsilon
        return np.where(explore, self.rng.integers(self.arms, size=self.num_envs), self.pick(self.means()))


class UCB1(Posterior):
    """Average + scale * sqrt(2 log(t) / pulls), each arm once first (Auer, Cesa-Bianchi and Fischer, 2002).

    The scale is the sd of Gaussian rewards and, as in the source, 1 for Bernoulli ones.
    """

    def choose(self, obs):
        radius = np.sqrt(2.0 * np.log(np.maximum(self.pulls(), 1.0)) / np.maximum(self.counts, 1.0))
        return self.pick(self.averages() + (1.0 if self.bernoulli else self.noise) * radius)


class KLUCB(Posterior):
    """The largest mean q with pulls * KL(average, q) <= log(t), each arm once first.

    Source: Garivier and Cappe, 2011, arXiv:1102.2490, with c = 0 as its authors recommend.
    """

    def choose(self, obs):
        level, known = np.log(np.maximum(self.pulls(), 1.0)) / np.maximum(self.counts, 1.0), self.counts > 0.0
        average = self.averages(unknown=0.0)
        if self.bernoulli:
            bound = largest_mean(average, level)
        else:
            bound = average + self.noise * np.sqrt(2.0 * level)
        return self.pick(np.where(known, bound, np.inf))


def largest_mean(p, level):
    """The largest q with KL(p, q) <= level, of Bernoulli distributions."""
    low, high = p.copy(), np.ones_like(p)
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        inside = kl_bernoulli(p, middle) <= level
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return low


class Thompson(Posterior):
    """An arm with the probability that it is the best one, given the rewards so far (Thompson, 1933)."""

    def choose(self, obs):
        if self.bernoulli:
            return self.pick(self.known(self.rng.beta(*self.beta())))
        mean, sd = self.gaussian()
        return self.pick(self.known(mean + sd * self.rng.standard_normal(mean.shape)))


class Gittins(Posterior):
    """The arm of the highest Gittins index; Bayes-optimal if each pull is followed by another one with probability gamma.

    That is the case in blocks of geometric length with one pull per episode; in blocks of fixed length it is a good rule.
    Arms with more pulls than the table of indices holds, six mean lengths of a geometric block, count with their mean.

    Args:
        gamma: None: 1 - 1 / the block's (mean) number of pulls.
    """

    def __init__(self, envs, seed=0, gamma=None):
        super().__init__(envs, seed)
        gamma = 1.0 - 1.0 / self.block if gamma is None else gamma
        self.size = (6 if self.model.params["geometric"][0] else 1) * self.block + 1
        if self.bernoulli:
            self.table = bernoulli_gittins_table(self.size, gamma, self.model.prior)
        else:
            self.table = gaussian_gittins(self.size, gamma, (self.noise / self.model.prior[1]) ** 2)

    def choose(self, obs):
        inside = self.counts < self.size
        counts, sums = np.where(inside, self.counts, 0.0).astype(int), np.where(inside, self.sums, 0.0).astype(int)
        if self.bernoulli:
            index = self.table[sums, counts - sums]
        else:
            index = self.gaussian()[0] + self.noise * self.table[counts]
        return self.pick(self.known(np.where(inside, index, self.means())))


class BayesOptimal(Posterior):
    """The policy that no other one beats on average over the prior, for few Bernoulli arms and pulls.

    Raises:
        ValueError: the arms aren't Bernoulli, one is safe, the block's length is random, or there are too many states.
    """

    def __init__(self, envs, seed=0):
        super().__init__(envs, seed)
        if not self.bernoulli or self.model.safe_arm is not None or self.model.params["geometric"][0]:
            raise ValueError("the plan needs Bernoulli arms, none of them safe, and blocks of fixed length")
        self.plan = BernoulliPlan([self.model.prior] * self.arms, self.block)

    def choose(self, obs):
        return self.plan.act(self.sums, self.counts - self.sums)


# Rewards that are linear: agents for LinearBandit and ContextualBandit


class LinearPosterior(Policy):
    """Bayesian linear regression with the prior N(0, I) on each hidden vector, and the contexts of the next pull.

    A lane has one hidden vector, or one per arm in a disjoint ContextualBandit; contexts are one per arm.
    """

    def __init__(self, envs, seed=0):
        super().__init__(envs, seed)
        self.dimension, self.variance = self.model.dimension, max(self.model.noise**2, 1e-6)
        self.disjoint = getattr(self.model, "model", None) == "disjoint"
        vectors = self.arms if self.disjoint else 1
        self.precision = np.zeros((self.num_envs, vectors, self.dimension, self.dimension))
        self.moment = np.zeros((self.num_envs, vectors, self.dimension))

    def reset(self, mask):
        super().reset(mask)
        self.precision[mask], self.moment[mask] = np.eye(self.dimension), 0.0

    def contexts(self, obs):
        """(num_envs, arms, dimension)."""
        if obs.ndim == 3:  # LinearBandit
            return obs[..., : self.dimension].astype(np.float64)
        shown = obs[:, : -self.arms - 2].reshape(self.num_envs, -1, self.dimension).astype(np.float64)
        return np.broadcast_to(shown, (self.num_envs, self.arms, self.dimension))

    def act(self, obs):
        self.shown = self.contexts(obs)
        return super().act(obs)

    def update(self, action, reward):
        super().update(action, reward)
        x, vector = self.shown[self.lanes, action], action if self.disjoint else np.zeros_like(action)
        self.precision[self.lanes, vector] += x[:, :, None] * x[:, None, :] / self.variance
        self.moment[self.lanes, vector] += x * reward[:, None] / self.variance

    def posterior(self):
        """Means (num_envs, vectors, dimension) and covariances of the hidden vectors."""
        covariance = np.linalg.inv(self.precision)
        return (covariance @ self.moment[..., None])[..., 0], covariance


class LinUCB(LinearPosterior):
    """Posterior mean + width * posterior sd of the arm's reward (Li et al., 2010, arXiv:1003.0146)."""

    def __init__(self, envs, seed=0, width=1.0):
        super().__init__(envs, seed)
        self.width = width

    def choose(self, obs):
        mean, covariance = self.posterior()
        variance = ((self.shown[:, :, None] @ covariance)[:, :, 0] * self.shown).sum(2)
        return self.pick((self.shown * mean).sum(2) + self.width * np.sqrt(variance))


class LinearThompson(LinearPosterior):
    """The best arm for hidden vectors drawn from the posterior (Agrawal and Goyal, 2013, arXiv:1209.3352)."""

    def choose(self, obs):
        mean, covariance = self.posterior()
        drawn = mean + (np.linalg.cholesky(covariance) @ self.rng.standard_normal((*mean.shape, 1)))[..., 0]
        return self.pick((self.shown * drawn).sum(2))


# Recommendations: agents for the pure exploration tasks


class Uniform(Policy):
    """Each query equally often: one of those asked least."""

    def choose(self, obs):
        return self.pick(-self.counts)


class SuccessiveElimination(Policy):
    """Arms in turn; one whose upper confidence bound is below the best lower one is out (Even-Dar, Mannor and Mansour, 2006).

    Args:
        delta: error probability for which the bounds are made.
    """

    def __init__(self, envs, seed=0, delta=0.1):
        super().__init__(envs, seed)
        self.delta = delta

    def choose(self, obs):
        counts, averages = np.maximum(self.counts, 1.0), self.averages(unknown=0.0)
        radius = np.sqrt(2.0 * np.log(4.0 * self.arms * counts**2 / self.delta) / counts)
        radius = np.where(self.counts > 0.0, radius, np.inf)
        alive = averages + radius >= (averages - radius).max(1, keepdims=True)
        return self.pick(np.where(alive, -self.counts, -np.inf))


class SequentialHalving(Policy):
    """Rounds of equal length, after each of which the worse half of the arms is dropped (Karnin, Koren and Somekh, 2013).

    A round pulls each arm left floor(budget / (arms left * rounds)) times, at least once; pulls that are over go to the last
    round. Averages are over all rounds, so that no pull is lost.
    """

    def __init__(self, envs, seed=0):
        super().__init__(envs, seed)
        rounds = math.ceil(math.log2(self.arms))
        self.sizes, self.starts, left, start = [], [], self.arms, 0
        for _ in range(rounds):
            self.sizes.append(left)
            self.starts.append(start)
            start += left * max(self.model.budget // (left * rounds), 1)
            left = math.ceil(left / 2)
        self.alive, self.before = np.ones((self.num_envs, self.arms), bool), np.zeros((self.num_envs, self.arms))

    def reset(self, mask):
        super().reset(mask)
        self.alive[mask], self.before[mask] = True, 0.0

    def choose(self, obs):
        pulls = self.pulls()[:, 0]
        for size, start in zip(self.sizes[1:], self.starts[1:], strict=True):
            begins = pulls == start
            averages = np.where(self.alive, self.averages(unknown=-np.inf), -np.inf)[begins]
            rank = np.argsort(np.argsort(-averages, 1), 1)
            self.alive[begins] &= rank < size
            self.before[begins] = self.counts[begins]
        return self.pick(np.where(self.alive, self.before - self.counts, -np.inf))


class LUCB(Policy):
    """Of the best average and its closest rival by upper confidence bound, the arm pulled less (Kalyanakrishnan et al., 2012).

    Args:
        delta: error probability for which the bounds are made.
    """

    def __init__(self, envs, seed=0, delta=0.1):
        super().__init__(envs, seed)
        self.delta = delta

    def choose(self, obs):
        averages, counts = self.averages(), np.maximum(self.counts, 1.0)
        level = np.log(1.25 * self.arms * np.maximum(self.pulls(), 1.0) ** 4 / self.delta)
        leader = self.pick(averages)
        bounds = averages + np.sqrt(2.0 * level / counts)
        bounds[self.lanes, leader] = -np.inf
        rival = self.pick(bounds)
        less = self.counts[self.lanes, rival] < self.counts[self.lanes, leader]
        chosen = np.where(less, rival, leader)
        return np.where((self.counts == 0.0).any(1), self.pick(-self.counts), chosen)


class TrackAndStop(Policy):
    """Pulls that track the allocation which would be optimal for the averages so far (Garivier and Kaufmann, 2016).

    D-tracking of arXiv:1602.04589, without its stopping rule as the budget is fixed: an arm pulled less than
    sqrt(t) - arms / 2 times goes first.
    """

    def choose(self, obs):
        pulls = self.pulls()
        starved = self.counts.min(1, keepdims=True) <= np.maximum(np.sqrt(pulls) - 0.5 * self.arms, 0.0)
        weights, _ = optimal_allocation(self.averages(unknown=0.0))
        return self.pick(np.where(starved, -self.counts, pulls * weights - self.counts))


class Identification(Policy):
    """An agent that weighs the answers of Thresholds or TwentyQuestions by their posterior probability.

    Args:
        error: of Thresholds, whose tendencies are unknown, the probability that an answer is wrong which is assumed.
    """

    def __init__(self, envs, seed=0, error=0.2):
        super().__init__(envs, seed)
        if hasattr(self.model, "yes"):
            self.yes = self.model.yes  # (hypotheses, queries)
        else:
            self.yes = np.where(self.model.hypotheses > 0.0, 1.0 - error, error)
        self.log_yes, self.log_no = np.log(self.yes).T, np.log1p(-self.yes).T

    def posterior(self):
        """(num_envs, hypotheses)."""
        log_weights = self.sums @ self.log_yes + (self.counts - self.sums) @ self.log_no
        weights = np.exp(log_weights - log_weights.max(1, keepdims=True))
        return weights / weights.sum(1, keepdims=True)


class SGBS(Identification):
    """Soft generalised binary search: the query whose likelier answers split the posterior most evenly (Nowak, 2011)."""

    def choose(self, obs):
        return self.pick(-np.abs(self.posterior() @ np.sign(self.yes - 0.5)))


class InformationGain(Identification):
    """The query whose answer is expected to lower the posterior's entropy most."""

    def choose(self, obs):
        weights = self.posterior()
        return self.pick(entropy(weights @ self.yes) - weights @ entropy(self.yes))


def entropy(p):
    """Of a Bernoulli distribution, in nats."""
    p = np.clip(p, 1e-15, 1.0 - 1e-15)
    return -p * np.log(p) - (1.0 - p) * np.log(1.0 - p)


class UncertaintySampling(Policy):
    """In RatingBandit, the item whose rating by this user is least certain."""

    def choose(self, obs):
        items = self.model.items
        precision = np.eye(items.shape[1]) + np.einsum("ni,ij,ik->njk", self.counts, items, items) / self.model.noise**2
        return self.pick(np.einsum("ij,njk,ik->ni", items, np.linalg.inv(precision), items))
