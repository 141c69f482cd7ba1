import gymnasium as gym
import numpy as np
import pytest
from scipy import stats

import explore_gym  # noqa: F401  registers the ids
from explore_gym.envs.bandits import policies, references
from explore_gym.envs.bandits.meta_bandit import MetaBanditVector
from explore_gym.envs.bandits.references import BernoulliPlan


def bernoulli(num_envs, **kwargs):
    return MetaBanditVector(num_envs=num_envs, family="bernoulli", autoreset_mode="SameStep", **kwargs)


def score(envs, policy, **kwargs):
    """Mean return and its standard error."""
    returns, _ = policies.play(envs, policy(envs.unwrapped, **kwargs), seed=1)
    return returns.mean(), returns.std() / np.sqrt(len(returns))


def thompson_probabilities(successes, failures):
    """Exact probabilities that an arm is the best one of two, by integration on a grid."""
    x = (np.arange(1000) + 0.5) / 1000
    cdf = stats.beta.cdf(x, 1 + successes[..., None], 1 + failures[..., None])
    density = np.diff(stats.beta.cdf(np.arange(1001) / 1000, 1 + successes[..., None], 1 + failures[..., None]), axis=-1)
    first = (density[:, 0] * cdf[:, 1]).sum(1)
    return np.stack((first, 1.0 - first), 1)


def greedy_probabilities(successes, failures):
    mean = (1.0 + successes) / (2.0 + successes + failures)
    best = mean >= mean.max(1, keepdims=True) - 1e-12
    return best / best.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def two_arms():
    return bernoulli(10_000, arms=2, recurrence=12), BernoulliPlan([[1.0, 1.0]] * 2, 12)


def test_simulated_agents_earn_their_exact_value_and_none_beats_the_bayes_optimal_one(two_arms):
    envs, plan = two_arms
    exact = {
        p: plan.evaluate(q) for p, q in ((policies.Thompson, thompson_probabilities), (policies.Greedy, greedy_probabilities))
    }
    assert exact[policies.Thompson] < exact[policies.Greedy] < plan.value
    for policy, expected in exact.items():
        mean, error = score(envs, policy)
        assert mean == pytest.approx(expected, abs=4 * error)
        assert mean <= plan.value + 3 * error
    mean, error = score(envs, policies.BayesOptimal)
    assert mean == pytest.approx(plan.value, abs=4 * error)
    mean, error = score(envs, policies.Random)
    assert mean == pytest.approx(6.0, abs=4 * error)
    for policy in (policies.EpsilonGreedy, policies.UCB1, policies.KLUCB, policies.Gittins):
        mean, error = score(envs, policy)
        assert 6.0 + 5 * error < mean <= plan.value + 3 * error


def test_thompson_and_gittins_earn_what_was_published():
    """Five uniform Bernoulli arms, 100 pulls: 74.7 and 78.3 in table 1 of Duan et al., 2016, arXiv:1611.02779."""
    envs = bernoulli(10_000, recurrence=100)
    for policy, published in ((policies.Thompson, 74.7), (policies.Gittins, 78.3)):
        mean, error = score(envs, policy)
        assert mean == pytest.approx(published, abs=3 * error + 0.05)


def test_gittins_is_optimal_in_blocks_of_geometric_length():
    envs = bernoulli(10_000, arms=2, recurrence=10, length="geometric")
    lower, upper = references.discounted_value([[1.0, 1.0]] * 2, 0.9, 60)  # each pull is followed by another one with 0.9
    mean, error = score(envs, policies.Gittins)
    assert lower - 4 * error < mean < upper + 4 * error
    assert score(envs, policies.Random)[0] < lower - 10 * error
    agent = statistics(policies.Gittins(bernoulli(1, arms=2, recurrence=10, length="geometric")), [100, 0], [71, 0])
    assert agent.choose(None) == [0]  # behind the table: 72/102 > 0.7029
    assert statistics(agent, [100, 0], [69, 0]).choose(None) == [1]


def test_gaussian_agents_rank_as_in_the_literature():
    envs = MetaBanditVector(num_envs=4000, autoreset_mode="SameStep")
    means = {p.__name__: score(envs, p)[0] for p in (policies.Random, policies.Thompson, policies.Greedy, policies.Gittins)}
    assert means["Gittins"] == pytest.approx(30 * 0.87, rel=0.04)  # the level of a good Bayesian index
    assert means["Random"] < 1.0
    assert means["Random"] < min(means["Thompson"], means["Greedy"])
    assert means["Gittins"] > max(means["Thompson"], means["Greedy"]) + 1.0
    assert score(envs, policies.UCB1) == pytest.approx(score(envs, policies.KLUCB))  # the same bound, for Gaussian arms


def test_the_safe_arm_is_known():
    for family in ("gaussian", "bernoulli"):
        envs = MetaBanditVector(num_envs=50, family=family, safe_arm=0.9, autoreset_mode="SameStep")
        envs.reset(seed=0)
        agent = policies.Greedy(envs)
        assert (agent.act(None) == 0).all()  # better than any prior mean
        agent.sums[:, 0], agent.counts[:, 0] = 0.0, 10.0
        assert (agent.act(None) == 0).all()


def test_the_index_of_kl_ucb_solves_its_equation():
    p, level = np.array([[0.0, 0.3, 0.9]]), np.array([[0.5, 0.1, 0.01]])
    q = policies.largest_mean(p, level)
    assert references.kl_bernoulli(p, q) == pytest.approx(level, abs=1e-6)
    assert (q > p).all()
    assert q[0, 0] == pytest.approx(1 - np.exp(-0.5), abs=1e-6)


def statistics(agent, counts, sums):
    agent.counts, agent.sums = np.array([counts], float), np.array([sums], float)
    return agent


def test_index_rules_by_hand():
    envs = bernoulli(1, arms=2, recurrence=40)
    # averages 0.6 after 10 pulls and 0.5 after 4, log(14) = 2.64: 0.6 + 0.726 < 0.5 + 1.149
    assert statistics(policies.UCB1(envs), [10, 4], [6, 2]).choose(None) == [1]
    assert statistics(policies.UCB1(envs), [10, 8], [6, 2]).choose(None) == [0]  # 0.6 + 0.760 > 0.25 + 0.850
    assert statistics(policies.UCB1(envs), [10, 0], [10, 0]).choose(None) == [1]  # each arm once first
    assert statistics(policies.KLUCB(envs), [10, 0], [10, 0]).choose(None) == [1]
    assert statistics(policies.Greedy(envs), [10, 0], [6, 0]).choose(None) == [0]  # 7/12 > 1/2
    assert statistics(policies.Greedy(envs), [10, 0], [4, 0]).choose(None) == [1]
    # at gamma 0.9 the indices of 1 win, 1 loss and of no pulls are 0.6346 and 0.7029
    assert statistics(policies.Gittins(envs, gamma=0.9), [2, 0], [1, 0]).choose(None) == [1]
    assert statistics(policies.Gittins(envs, gamma=0.9), [1, 0], [1, 0]).choose(None) == [0]


def test_ties_are_broken_at_random_and_statistics_are_forgotten():
    envs = bernoulli(3000, arms=4)
    agent = policies.Greedy(envs)
    envs.reset(seed=0)
    assert stats.chisquare(np.bincount(agent.act(None), minlength=4)).pvalue > 0.001
    agent.update(np.full(3000, 2), np.ones(3000))
    assert (agent.act(None) == 2).all()
    agent.reset(np.arange(3000) < 1000)
    assert agent.counts[:, 2].sum() == 2000
    assert stats.chisquare(np.bincount(agent.act(None)[:1000], minlength=4)).pvalue > 0.001


@pytest.fixture(scope="module")
def best_arm():
    theta = [0.0, 0.2, 0.9, 0.1, 0.0, -0.2, -0.4, 0.3, 0.2, 0.1]
    return gym.make_vec("Explore/BestArm-v0", num_envs=4000, autoreset_mode="SameStep", theta=theta, copy=False), theta


def test_equal_pulls_have_their_exact_error(best_arm):
    envs, theta = best_arm
    mean, error = score(envs, policies.Uniform)
    assert 1.0 - mean == pytest.approx(references.uniform_error(theta, 3), abs=4 * error)


@pytest.mark.parametrize("policy", [policies.SequentialHalving, policies.LUCB, policies.TrackAndStop])
def test_adaptive_pulls_find_the_best_arm_more_often(best_arm, policy):
    envs, theta = best_arm
    mean, error = score(envs, policy)
    assert mean > 1.0 - references.uniform_error(theta, 3) + 3 * error
    assert mean > score(envs, policies.Random)[0] + 0.05


def test_successive_elimination_drops_arms_that_are_surely_worse(best_arm):
    envs, _ = best_arm
    agent = policies.SuccessiveElimination(envs.unwrapped)
    counts, sums = np.full((4000, 10), 40.0), np.zeros((4000, 10))
    sums[:, [3, 8]] = 80.0  # averages 2, the others 0; the radius is sqrt(2 log(4 * 10 * 1600 / 0.1) / 40) = 0.82
    agent.counts, agent.sums = counts, sums
    assert set(agent.choose(None)) == {3, 8}
    agent.sums[:, 5] = 20.0  # 0.5 + 0.82 >= 2 - 0.82
    assert set(agent.choose(None)) == {3, 5, 8}


def test_sequential_halving_follows_its_schedule(best_arm):
    envs, _ = best_arm
    agent = policies.SequentialHalving(envs.unwrapped)
    assert (agent.sizes, agent.starts) == ([10, 5, 3, 2], [0, 10, 15, 21])
    obs, _ = envs.reset(seed=3)
    agent.reset(np.ones(4000, bool))
    for pull in range(30):
        if pull in (10, 15, 21, 29):
            assert (agent.alive.sum(1) == {10: 10, 15: 5, 21: 3, 29: 2}[pull]).all()
        if pull == 10:
            assert (obs[..., 0] == 1).all()
            order = obs[..., 1].argsort(1)[:, ::-1]
        action = agent.act(obs)
        if 10 <= pull < 15:
            assert (action[:, None] == order[:, :5]).any(1).all()
        obs, *_ = envs.step(action)


def test_track_and_stop_pulls_starved_arms_first_and_then_tracks(best_arm):
    envs, _ = best_arm
    agent = policies.TrackAndStop(envs.unwrapped)
    counts, sums = np.full((4000, 10), 20.0), np.zeros((4000, 10))
    counts[:, 4] = 5.0
    agent.counts, agent.sums = counts, sums
    assert (agent.choose(None) == 4).all()  # 5 < sqrt(185) - 5
    counts[:, 4], sums[:, 7] = 20.0, 20.0
    assert (agent.choose(None) == 7).all()  # the best arm's share is 1 / 4, twice as large as any other's


def test_lucb_pulls_the_less_known_of_leader_and_rival(best_arm):
    envs, _ = best_arm
    agent = policies.LUCB(envs.unwrapped)
    counts, sums = np.full((4000, 10), 20.0), np.zeros((4000, 10))
    counts[:, 0], sums[:, 0], counts[:, 3], sums[:, 3] = 30.0, 60.0, 25.0, 45.0
    agent.counts, agent.sums = counts, sums
    assert (agent.choose(None) == 3).all()  # averages 2.0 and 1.8
    counts[:, 3], sums[:, 3] = 40.0, 72.0
    assert (agent.choose(None) == 0).all()


def test_binary_search_needs_five_sure_answers():
    envs = gym.make_vec("Explore/Thresholds-v0", num_envs=500, autoreset_mode="SameStep", margin=(1.0, 1.0), budget=5)
    assert score(envs, policies.SGBS, error=1e-6)[0] == 1.0
    assert score(envs, policies.Uniform)[0] < 0.5


def test_questions_that_divide_the_posterior_beat_equal_ones():
    for id, least in (("Explore/Thresholds-v0", 0.3), ("Explore/TwentyQuestions-v0", 0.04)):
        envs = gym.make_vec(id, num_envs=2000, autoreset_mode="SameStep")
        uniform, error = score(envs, policies.Uniform)
        assert score(envs, policies.SGBS)[0] > uniform + least + 2 * error
        assert score(envs, policies.InformationGain)[0] > uniform + 0.2


def test_uncertain_items_are_worth_asking_for():
    envs = gym.make_vec("Explore/RatingBandit-v0", num_envs=2000, autoreset_mode="SameStep")
    assert score(envs, policies.UncertaintySampling)[0] > score(envs, policies.Uniform)[0] + 0.03


@pytest.mark.parametrize(
    ("id", "kwargs"),
    [("LinearBandit", {}), ("ContextualBandit", {}), ("ContextualBandit", {"model": "shared"})],
)
def test_linear_agents_lie_between_random_and_optimal(id, kwargs):
    envs = gym.make_vec(f"Explore/{id}-v0", num_envs=400, autoreset_mode="SameStep", **kwargs)
    optimal = envs.unwrapped.env.optimal_value()
    for policy in (policies.LinUCB, policies.LinearThompson):
        mean, error = score(envs, policy)
        assert 0.4 * optimal < mean < optimal + 3 * error


def test_the_linear_posterior_is_bayesian_regression():
    envs = gym.make_vec("Explore/ContextualBandit-v0", num_envs=3, autoreset_mode="SameStep", noise=0.5)
    agent = policies.LinearThompson(envs.unwrapped)
    obs, _ = envs.reset(seed=0)
    agent.reset(np.ones(3, bool))
    data = []
    for action in (0, 1, 0, 0, 4):
        agent.act(obs)
        shown = obs[:, :5].astype(float)
        obs, reward, *_ = envs.step(np.full(3, action))
        agent.update(np.full(3, action), reward)
        data.append((action, shown[1], reward[1]))
    mean, covariance = agent.posterior()
    X, y = np.array([x for a, x, _ in data if a == 0]), np.array([r for a, _, r in data if a == 0])
    expected = np.linalg.inv(np.eye(5) + X.T @ X / 0.25)
    assert covariance[1, 0] == pytest.approx(expected)
    assert mean[1, 0] == pytest.approx(expected @ X.T @ y / 0.25)
    assert covariance[1, 2] == pytest.approx(np.eye(5))


def test_wrong_environments_are_named():
    envs = gym.make_vec("Explore/MetaBandit-v0", num_envs=2)
    with pytest.raises(ValueError, match="autoreset_mode='SameStep', got 'NextStep'"):
        policies.play(envs, policies.Random(envs.unwrapped))
    with pytest.raises(ValueError, match=r"drift=0\.1"):
        policies.Thompson(MetaBanditVector(num_envs=2, drift=0.1))
    for kwargs in (dict(), dict(family="bernoulli", safe_arm=0.5), dict(family="bernoulli", length="geometric")):
        with pytest.raises(ValueError, match="the plan needs Bernoulli arms"):
            policies.BayesOptimal(MetaBanditVector(num_envs=2, **kwargs))
