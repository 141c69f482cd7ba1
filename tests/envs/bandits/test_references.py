import itertools

import numpy as np
import pytest

from explore_gym.envs.bandits import references
from explore_gym.envs.bandits.gittins import bernoulli_gittins, bernoulli_gittins_table
from explore_gym.envs.bandits.references import BernoulliPlan, discounted_value, optimal_allocation, sample_lower_bound

UNIFORM = [[1.0, 1.0], [1.0, 1.0]]


def brute_force(counts, horizon, gamma):
    """Expected successes of the best policy by going through every history; counts: [a, b] of each arm."""
    if horizon == 0:
        return 0.0
    best = 0.0
    for arm, (a, b) in enumerate(counts):
        value = 0.0
        for success in (0, 1):
            after = [list(c) for c in counts]
            after[arm][1 - success] += 1
            value += (a if success else b) / (a + b) * (success + gamma * brute_force(after, horizon - 1, gamma))
        best = max(best, value)
    return best


@pytest.mark.parametrize("priors", [UNIFORM, [[1.0, 1.0]] * 3, [[2.0, 1.0], [1.0, 3.0]], [[0.5, 0.5], [1.0, 1.0], [3.0, 2.0]]])
@pytest.mark.parametrize("gamma", [1.0, 0.8])
def test_the_plan_s_value_is_that_of_all_histories(priors, gamma):
    for horizon in (1, 2, 5):
        assert BernoulliPlan(priors, horizon, gamma).value == pytest.approx(brute_force(priors, horizon, gamma))


def test_values_of_two_uniform_arms_by_hand():
    assert BernoulliPlan(UNIFORM, 1).value == pytest.approx(1 / 2)
    assert BernoulliPlan(UNIFORM, 2).value == pytest.approx(1 / 2 + 1 / 2 * 2 / 3 + 1 / 2 * 1 / 2)
    # three pulls: stay after a success, which leads to 3/4 or, with the other arm or this one, 1/2; else change, to 2/3 or 1/3
    success = 2 / 3 + 2 / 3 * 3 / 4 + 1 / 3 * 1 / 2
    failure = 1 / 2 + 1 / 2 * 2 / 3 + 1 / 2 * 1 / 3
    assert BernoulliPlan(UNIFORM, 3).value == pytest.approx(1 / 2 + 1 / 2 * success + 1 / 2 * failure)
    assert BernoulliPlan([[1.0, 1.0]], 10).value == pytest.approx(5.0)  # a single arm


def random(successes, failures):
    return np.full(successes.shape, 1.0 / successes.shape[1])


def greedy(successes, failures):
    mean = (1.0 + successes) / (2.0 + successes + failures)
    best = mean >= mean.max(1, keepdims=True) - 1e-12
    return best / best.sum(1, keepdims=True)


def test_published_values_of_five_uniform_arms():
    """Per 10 pulls random 5.0, greedy 6.6 and the best learner 6.7: Duan et al., 2016, arXiv:1611.02779, table 1."""
    plan = BernoulliPlan([[1.0, 1.0]] * 5, 10)
    assert plan.evaluate(random) == pytest.approx(5.0)
    assert plan.evaluate(greedy) == pytest.approx(6.6, abs=0.05)
    assert plan.value == pytest.approx(6.7, abs=0.05)
    assert plan.evaluate(greedy) < plan.value


def test_gittins_indices_are_optimal_under_discount():
    """The index theorem: the policy of the highest index earns the Bayes-optimal value."""
    gamma, horizon = 0.7, 24
    table = bernoulli_gittins_table(horizon, gamma)

    def gittins(successes, failures):
        index = table[successes, failures]
        best = index >= index.max(1, keepdims=True) - 1e-9
        return best / best.sum(1, keepdims=True)

    for arms in (2, 3):
        plan = BernoulliPlan([[1.0, 1.0]] * arms, horizon if arms == 2 else 14, gamma)
        rest = gamma ** (horizon if arms == 2 else 14) / (1 - gamma)
        assert plan.value - rest <= plan.evaluate(gittins) <= plan.value + 1e-12
        assert plan.evaluate(greedy) < plan.evaluate(gittins) - 1e-4


def test_an_arm_is_worth_pulling_beside_a_known_one_up_to_its_index():
    gamma = 0.8
    lower, upper = bernoulli_gittins(1.0, 1.0, gamma)
    for known, pulls in ((lower - 0.01, True), (upper + 0.01, False)):
        sure = [known * 1e9, (1.0 - known) * 1e9]
        low, high = discounted_value([[1.0, 1.0], sure], gamma, 40)
        worth = known / (1.0 - gamma)
        assert (low > worth + 1e-6) == pulls
        assert (high < worth + 0.01) != pulls or pulls
        assert high - low == pytest.approx(gamma**40 / (1 - gamma))


def test_the_plan_acts_as_its_value_says():
    plan, rng, lanes = BernoulliPlan([[1.0, 1.0], [2.0, 1.0], [1.0, 1.0]], 8), np.random.default_rng(0), 20_000
    means = rng.beta(*np.array([[1.0, 1.0], [2.0, 1.0], [1.0, 1.0]]).T, (lanes, 3))
    successes, failures, total = np.zeros((lanes, 3), int), np.zeros((lanes, 3), int), np.zeros(lanes)
    for _ in range(8):
        arm = plan.act(successes, failures)
        reward = rng.random(lanes) < means[np.arange(lanes), arm]
        successes[np.arange(lanes), arm] += reward
        failures[np.arange(lanes), arm] += ~reward
        total += reward
    assert total.mean() == pytest.approx(plan.value, abs=4 * total.std() / np.sqrt(lanes))


def test_the_plan_acts_on_lanes_of_different_age_and_swapped_arms():
    plan = BernoulliPlan(UNIFORM, 6)
    successes = np.array([[2, 0], [0, 2], [0, 0], [0, 3]])
    failures = np.array([[0, 1], [1, 0], [1, 0], [1, 1]])
    assert plan.act(successes, failures).tolist() == [0, 1, 1, 1]


def test_lai_robbins_constants_by_hand():
    # two Gaussian arms: gap / (gap^2 / 2) = 2 / gap
    assert references.lai_robbins_constant([0.5, 0.0], "gaussian") == pytest.approx(4.0)
    kl = 0.2 * np.log(0.2 / 0.4) + 0.8 * np.log(0.8 / 0.6)
    assert references.lai_robbins_constant([0.4, 0.2, 0.4]) == pytest.approx(0.2 / kl)


def test_optimal_allocations_are_the_published_ones():
    """Garivier and Kaufmann, 2016, arXiv:1602.04589, section 6."""
    weights, _ = optimal_allocation([0.5, 0.45, 0.43, 0.4], "bernoulli")
    assert weights == pytest.approx([0.417, 0.390, 0.136, 0.057], abs=5e-4)
    weights, _ = optimal_allocation([0.3, 0.21, 0.2, 0.19, 0.18], "bernoulli")
    assert weights == pytest.approx([0.336, 0.251, 0.177, 0.132, 0.104], abs=5e-4)


def test_optimal_allocation_balances_all_arms_and_is_best_among_neighbours():
    rng = np.random.default_rng(1)
    for family, means in (("gaussian", rng.standard_normal((4, 5))), ("bernoulli", rng.random((4, 5)))):
        weights, rate = optimal_allocation(means, family)
        assert weights.sum(1) == pytest.approx(1.0)
        assert guaranteed_rate(weights, means, family) == pytest.approx(rate, rel=1e-6)
        for i, j in itertools.permutations(range(5), 2):
            moved = weights.copy()
            moved[:, i] += 0.01 * moved[:, j]
            moved[:, j] *= 0.99
            assert (guaranteed_rate(moved, means, family) <= rate * (1 + 1e-9)).all()


def guaranteed_rate(weights, means, family):
    divergence = references.DIVERGENCES[family]
    best = means.argmax(1)[:, None]
    w, mu = np.take_along_axis(weights, best, 1), np.take_along_axis(means, best, 1)
    mixed = (w * mu + weights * means) / (w + weights)
    rates = w * divergence(mu, mixed) + weights * divergence(means, mixed)
    np.put_along_axis(rates, best, np.inf, 1)
    return rates.min(1)


def test_allocations_by_hand():
    weights, rate = optimal_allocation([[1.0, 0.0], [2.0, 2.0]])
    assert weights == pytest.approx(np.full((2, 2), 0.5))
    assert rate == pytest.approx([1 / 8, 0.0])  # 2 * 0.5 * 0.5^2 / 2; tied arms can't be told apart
    weights, rate = optimal_allocation([0.0, 0.5, 0.0, 0.0, 0.0])
    assert weights == pytest.approx([1 / 6, 1 / 3, 1 / 6, 1 / 6, 1 / 6])
    assert 2 * rate == pytest.approx(1 / (9 / 0.25))  # twice the rate is 1 / C(theta), see test_complexity
    assert sample_lower_bound([1.0, 0.0], 0.1) == pytest.approx(8 * 0.8 * np.log(9))
    assert sample_lower_bound([1.0, 1.0], 0.1) == np.inf


def test_the_error_of_equal_pulls_is_exact():
    # two arms: P(N(gap, 2 / n) < 0)
    assert references.uniform_error([0.0, 1.0], 2) == pytest.approx(0.158655, abs=1e-5)
    assert references.uniform_error([0.0] * 10, 3) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BernoulliPlan([[1.0, 0.0]], 3), "priors must be"),
        (lambda: BernoulliPlan([1.0, 1.0], 3), "priors must be"),
        (lambda: BernoulliPlan(UNIFORM, 0), "horizon must be an integer >= 1, got 0"),
        (lambda: BernoulliPlan(UNIFORM, 3, 1.5), r"gamma must lie in \[0, 1\], got 1.5"),
        (lambda: BernoulliPlan([[1.0, 1.0]] * 8, 100), "more than 20000000"),
        (lambda: discounted_value(UNIFORM, 1.0, 3), "got 1.0"),
        (lambda: references.lai_robbins_constant([0.1, 0.2], "poisson"), r"\('bernoulli', 'gaussian'\), got 'poisson'"),
        (lambda: sample_lower_bound([0.0, 1.0], 0.7), "got 0.7"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
