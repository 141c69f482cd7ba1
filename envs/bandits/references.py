"""Exact references for bandits: Bayes-optimal values by dynamic programming, and lower bounds on regret and on samples.

The Bayes-optimal value is what the best policy earns on average over the prior, and so an upper bound for every agent that
doesn't know more than the prior; the lower bounds hold for every agent that works on all problems of a family.
"""

import math

import numpy as np

MAX_STATES = 20_000_000  # of a plan, summed over its steps
STEPS = 50  # of bisection


class BernoulliPlan:
    """The Bayes-optimal policy for Bernoulli arms with independent Beta priors, over a finite horizon.

    Backward induction over the arms' counts of successes and failures, which are the whole posterior. With equal priors
    arms can be swapped, and only one of each set of swapped counts is kept.
    Source: Bradt, Johnson and Karlin, 1956, "On sequential designs for maximizing the sum of n observations".

    Attributes:
        value: expected (discounted) number of successes in `horizon` pulls.

    Args:
        priors: (arms, 2) the a and b of each arm's Beta prior.
        horizon: pulls.
        gamma: discount of each pull against the one before.
    Raises:
        ValueError: an argument is out of range, or there are more than MAX_STATES states.
    """

    def __init__(self, priors, horizon, gamma=1.0):
        self.priors = np.asarray(priors, np.float64)
        if self.priors.ndim != 2 or self.priors.shape[1] != 2 or not (self.priors > 0.0).all():
            raise ValueError(f"priors must be (arms, 2) numbers > 0, got {priors!r}")
        if not (isinstance(horizon, (int, np.integer)) and horizon >= 1):
            raise ValueError(f"horizon must be an integer >= 1, got {horizon!r}")
        if not 0.0 <= gamma <= 1.0:
            raise ValueError(f"gamma must lie in [0, 1], got {gamma!r}")
        self.horizon, self.gamma, self.arms = horizon, gamma, len(self.priors)
        self.exchangeable = bool((self.priors == self.priors[0]).all())
        self.base = horizon + 1
        states = math.comb(horizon + 2 * self.arms, 2 * self.arms) // (math.factorial(self.arms) if self.exchangeable else 1)
        if states > MAX_STATES or self.base ** (2 * self.arms) >= 2**62:
            raise ValueError(f"{self.arms} arms and {horizon} pulls have about {states} states, more than {MAX_STATES}")
        self._enumerate()
        self.values = self.solve(lambda q_values, *_: q_values.max(1))
        self.value = float(self.values[0][0])

    def _enumerate(self):
        """The states after each number of pulls, as sorted keys, and where each arm's success or failure leads."""
        self.layers, self.successors = [np.zeros(1, np.int64)], []
        for _ in range(self.horizon):
            codes = self._codes(self.layers[-1])
            after = np.repeat(codes[:, None, None, :], self.arms, 1).repeat(2, 2)  # (states, arms, outcomes, arms)
            for arm in range(self.arms):
                after[:, arm, 0, arm] += self.base  # a success
                after[:, arm, 1, arm] += 1
            keys, index = np.unique(self._keys(after), return_inverse=True)
            self.layers.append(keys)
            self.successors.append(index.reshape(after.shape[:3]).astype(np.int32))

    def _codes(self, keys):
        """Each arm's successes * base + failures, (states, arms)."""
        powers = (self.base**2) ** np.arange(self.arms - 1, -1, -1)
        return keys[:, None] // powers % self.base**2

    def _keys(self, codes):
        """One integer per state; swapped states have the same one if priors are equal."""
        powers = (self.base**2) ** np.arange(self.arms - 1, -1, -1)
        return (np.sort(codes, -1) if self.exchangeable else codes) @ powers

    def solve(self, backup):
        """Values of the states of each layer, where backup(Q, successes, failures), all (states, arms), gives V (states,)."""
        values = [np.zeros(len(self.layers[-1]))]
        for pulls in range(self.horizon - 1, -1, -1):
            successes, failures = np.divmod(self._codes(self.layers[pulls]), self.base)
            a, b = self.priors[:, 0] + successes, self.priors[:, 1] + failures
            mean, after = a / (a + b), values[0][self.successors[pulls]]
            q_values = mean * (1.0 + self.gamma * after[..., 0]) + (1.0 - mean) * self.gamma * after[..., 1]
            values.insert(0, backup(q_values, successes, failures))
        return values

    def evaluate(self, policy):
        """Expected (discounted) successes of a policy: (successes, failures), each (states, arms) -> action probabilities.

        With equal priors the policy sees the arms in another order than they were pulled, which must not matter to it.
        """
        return float(self.solve(lambda q_values, s, f: (policy(s, f) * q_values).sum(1))[0][0])

    def act(self, successes, failures):
        """The best arms (lanes,) from counts (lanes, arms); lanes may have made different numbers of pulls, below horizon."""
        successes, failures = np.asarray(successes, np.int64), np.asarray(failures, np.int64)
        pulls, best = (successes + failures).sum(1), np.zeros(len(successes), np.int64)
        for count in np.unique(pulls):
            lanes = np.flatnonzero(pulls == count)
            codes = successes[lanes] * self.base + failures[lanes]
            order = (
                np.argsort(codes, 1, kind="stable") if self.exchangeable else np.arange(self.arms)[None].repeat(len(lanes), 0)
            )
            state = np.searchsorted(self.layers[count], self._keys(codes))
            a, b = self.priors[:, 0] + successes[lanes], self.priors[:, 1] + failures[lanes]
            mean = np.take_along_axis(a / (a + b), order, 1)
            after = self.values[count + 1][self.successors[count][state]]
            q_values = mean * (1.0 + self.gamma * after[..., 0]) + (1.0 - mean) * self.gamma * after[..., 1]
            best[lanes] = np.take_along_axis(order, q_values.argmax(1)[:, None], 1)[:, 0]
        return best


def discounted_value(priors, gamma, horizon):
    """Bounds (lower, upper) on the Bayes-optimal expected sum of gamma^t reward_t for ever, from a plan over the horizon."""
    if not 0.0 <= gamma < 1.0:
        raise ValueError(f"gamma must lie in [0, 1), got {gamma!r}")
    value = BernoulliPlan(priors, horizon, gamma).value
    return value, value + gamma**horizon / (1.0 - gamma)


def kl_bernoulli(p, q):
    """Kullback-Leibler divergence of Bernoulli(p) from Bernoulli(q), elementwise."""
    p, q = np.clip(p, 1e-15, 1.0 - 1e-15), np.clip(q, 1e-15, 1.0 - 1e-15)
    return p * np.log(p / q) + (1.0 - p) * np.log((1.0 - p) / (1.0 - q))


def kl_gaussian(p, q):
    """Kullback-Leibler divergence of N(p, 1) from N(q, 1), elementwise."""
    return 0.5 * (np.asarray(p) - np.asarray(q)) ** 2


DIVERGENCES = {"bernoulli": kl_bernoulli, "gaussian": kl_gaussian}


def divergence_of(family):
    if family not in DIVERGENCES:
        raise ValueError(f"family must be one of {tuple(DIVERGENCES)}, got {family!r}")
    return DIVERGENCES[family]


def lai_robbins_constant(means, family="bernoulli"):
    """c in regret >= c log(pulls), asymptotically, for every policy of subpolynomial regret on all problems of the family.

    The sum over suboptimal arms of gap / KL(mean, best mean). Source: Lai and Robbins, 1985.
    """
    divergence, means = divergence_of(family), np.asarray(means, np.float64)
    worse = means[means < means.max()]
    return float(((means.max() - worse) / divergence(worse, means.max())).sum())


def optimal_allocation(means, family="gaussian"):
    """Proportions w of pulls that identify the best arm fastest, (..., arms), and the rate at which they do, (...).

    The rate is max over w of min over arms a of w_1 d(mu_1, m) + w_a d(mu_a, m), m the weighted mean of the two; both sides
    are equal for all a at the optimum, which two nested bisections find. Several best arms: equal shares and rate 0.
    Source: Garivier and Kaufmann, 2016, arXiv:1602.04589, theorem 5.
    """
    divergence, means = divergence_of(family), np.asarray(means, np.float64)
    ordered = np.sort(means, -1)
    best, others = ordered[..., -1:], ordered[..., :-1]
    tied = others[..., -1:] >= best
    others = np.where(tied, best - 1e-9 - 1e-9 * np.arange(others.shape[-1]), others)

    def mixed(x):
        return (best + x * others) / (1.0 + x)

    def shares(y):  # x_a with d(best, m_a) + x_a d(mu_a, m_a) = y; the left side grows from 0 to d(best, mu_a)
        if family == "gaussian":  # it is d(best, mu_a) x_a / (1 + x_a)
            return y / (divergence(best, others) - y)
        low, high = np.zeros_like(others), np.ones_like(others)  # of x / (1 + x)
        for _ in range(STEPS):
            middle = 0.5 * (low + high)
            x = middle / (1.0 - middle)
            less = divergence(best, mixed(x)) + x * divergence(others, mixed(x)) < y
            low, high = np.where(less, middle, low), np.where(less, high, middle)
        return low / (1.0 - low)

    low, high = np.zeros_like(best), divergence(best, others[..., -1:])
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        x = shares(middle)
        with np.errstate(divide="ignore"):  # infinite where x is, far above 1
            less = (divergence(best, mixed(x)) / divergence(others, mixed(x))).sum(-1, keepdims=True) < 1.0
        low, high = np.where(less, middle, low), np.where(less, high, middle)
    x = np.concatenate((shares(low), np.ones_like(best)), -1)
    weights = x / x.sum(-1, keepdims=True)
    rank = np.argsort(np.argsort(means, -1, kind="stable"), -1, kind="stable")
    weights = np.where(tied, 1.0 / means.shape[-1], np.take_along_axis(weights, rank, -1))
    return weights, np.where(tied, 0.0, low / x.sum(-1, keepdims=True))[..., 0]


def sample_lower_bound(means, delta, family="gaussian"):
    """Least expected number of pulls of any agent that names the best arm of every problem with error at most delta.

    kl(delta, 1 - delta) / rate. Source: Garivier and Kaufmann, 2016, arXiv:1602.04589, theorem 1.
    """
    if not 0.0 < delta < 0.5:
        raise ValueError(f"delta must lie in (0, 0.5), got {delta!r}")
    with np.errstate(divide="ignore"):
        return float(kl_bernoulli(delta, 1.0 - delta) / optimal_allocation(means, family)[1])


def uniform_error(theta, pulls_per_arm, points=20_001):
    """Exact probability that the highest average of so many pulls per arm isn't the best arm's, arms N(theta, 1)."""
    theta = np.asarray(theta, np.float64)
    z = np.linspace(-9.0, 9.0, points)
    normal_cdf = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2.0)))
    correct = np.exp(-0.5 * z**2) / np.exp(-0.5 * z**2).sum()
    for gap in theta.max() - np.delete(theta, theta.argmax()):
        correct = correct * normal_cdf(z + gap * math.sqrt(pulls_per_arm))
    return float(1.0 - correct.sum())
