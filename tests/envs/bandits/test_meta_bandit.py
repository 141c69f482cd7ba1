import ctypes
import shutil

import numpy as np
import pytest
from scipy import stats

from explore_gym.envs.bandits.meta_bandit import MetaBandit, MetaBanditVector
from explore_gym.scripts.yardsticks import load


def test_a_noiseless_pull_pays_the_mean_and_shows_in_the_next_observation():
    env = MetaBandit(arms=3, noise=0.0, recurrence=4)
    obs, info = env.reset(seed=0)
    assert obs.tolist() == [0, 0, 0, 0, 1, 0]  # no action, no reward, an episode starts, 0 of 4 pulls over
    assert (info["regret"], info["optimal"], info["task_end"]) == (0.0, False, False)
    env.set_state(means=[0.25, -1.5, 2.0], best_mean=2.0, best_arm=2)
    obs, reward, terminated, truncated, info = env.step(1)
    assert obs.tolist() == [0, 1, 0, -1.5, 1, 0.25]
    assert (reward, terminated, truncated) == (-1.5, False, False)
    assert (info["regret"], info["optimal"], info["best_arm"]) == (3.5, False, 2)
    obs, reward, _, _, info = env.step(2)
    assert obs.tolist() == [0, 0, 1, 2.0, 1, 0.5]
    assert (reward, info["regret"], info["cumulative_regret"], info["optimal"]) == (2.0, 0.0, 3.5, True)
    assert info["means"].tolist() == [0.25, -1.5, 2.0]


def test_the_end_of_an_episode_is_shown_and_only_the_end_of_the_block_terminates():
    env = MetaBandit(recurrence=2, pulls_per_episode=3)
    env.reset(seed=1)
    means, starts, shares, ends = [], [], [], []
    for _ in range(6):
        obs, _, terminated, truncated, info = env.step(0)
        means.append(info["means"])
        starts.append(obs[6])
        shares.append(obs[7])
        ends.append((info["episode_end"], info["task_end"], terminated, truncated))
    assert starts == [0, 0, 1, 0, 0, 1]
    assert shares == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert [end[0] for end in ends] == [False, False, True, False, False, True]
    assert [end[1:] for end in ends] == [(False, False, False)] * 5 + [(True, True, False)]
    assert np.ptp(means, 0).max() == 0.0
    assert not np.any(env.reset()[1]["means"] == means[0])


def test_recurrence_one_draws_a_new_task_after_every_episode():
    envs = MetaBanditVector(num_envs=100, recurrence=1, autoreset_mode="SameStep")
    _, info = envs.reset(seed=2)
    before = info["means"]
    obs, _, terminated, _, info = envs.step(np.zeros(100, int))
    assert terminated.all()
    assert not np.any(info["means"] == before)
    assert (obs == [0, 0, 0, 0, 0, 0, 1, 0]).all()


def test_geometric_blocks_end_after_each_episode_with_probability_one_over_recurrence():
    envs = MetaBanditVector(num_envs=2000, recurrence=5, pulls_per_episode=2, length="geometric", autoreset_mode="SameStep")
    envs.reset(seed=3)
    ends = []
    for pull in range(20):
        _, _, terminated, _, info = envs.step(np.zeros(2000, int))
        assert (info["final_obs"][:, 7] == 0).all()  # no share of an unknown length
        if pull % 2 == 0:
            assert not terminated.any()
        else:
            ends.append(terminated)
    assert np.mean(ends) == pytest.approx(0.2, abs=4 * np.sqrt(0.2 * 0.8 / np.size(ends)))


def test_gaussian_means_and_rewards_follow_their_laws():
    envs = MetaBanditVector(num_envs=20_000, prior=(1.0, 2.0), noise=0.5)
    means = envs.reset(seed=4)[1]["means"]
    assert stats.kstest(means.ravel(), stats.norm(1.0, 2.0).cdf).pvalue > 0.001
    assert np.abs(np.corrcoef(means.T) - np.eye(5)).max() < 4 / np.sqrt(20_000)
    reward = envs.step(np.arange(20_000) % 5)[1]
    noise = reward - means[np.arange(20_000), np.arange(20_000) % 5]
    assert stats.kstest(noise, stats.norm(0.0, 0.5).cdf).pvalue > 0.001


@pytest.mark.parametrize("prior", [(1.0, 1.0), (2.0, 3.0), (0.5, 0.2), (0.05, 40.0)])
def test_bernoulli_probabilities_follow_the_beta_prior(prior):
    envs = MetaBanditVector(num_envs=4000, family="bernoulli", prior=prior)
    means = envs.reset(seed=5)[1]["means"]
    assert stats.kstest(means.ravel(), stats.beta(*prior).cdf).pvalue > 0.001


def test_bernoulli_arms_pay_one_with_their_probability():
    envs = MetaBanditVector(num_envs=20_000, arms=3, family="bernoulli")
    envs.reset(seed=6)
    envs.set_state(means=[0.0, 0.3, 1.0])
    rewards = [envs.step(np.full(20_000, arm))[1] for arm in range(3)]
    assert (rewards[0] == 0).all()
    assert set(rewards[1]) == {0.0, 1.0}
    assert rewards[1].mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / 20_000))
    assert (rewards[2] == 1).all()


@pytest.mark.parametrize("family", ["gaussian", "bernoulli"])
def test_the_safe_arm_pays_the_same_in_every_task_and_the_others_vary(family):
    envs = MetaBanditVector(num_envs=1000, family=family, safe_arm=0.5)
    means = envs.reset(seed=7)[1]["means"]
    assert (means[:, 0] == 0.5).all()
    assert (means[:, 1:].std(0) > 0.2).all()
    _, reward, _, _, info = envs.step(np.zeros(1000, int))
    assert (reward == 0.5).all()
    assert info["regret"] == pytest.approx(means.max(1) - 0.5)


def test_restless_means_walk_between_pulls_and_the_safe_arm_stays():
    envs = MetaBanditVector(num_envs=10_000, arms=3, noise=0.0, drift=0.5, safe_arm=1.0)
    start = envs.reset(seed=8)[1]["means"]
    for pull in range(5):
        _, reward, _, _, info = envs.step(np.full(10_000, 2))
        assert (reward == info["means"][:, 2]).all()  # those of the pull itself
        assert (info["best_arm"] == info["means"].argmax(1)).all()
        assert info["regret"] == pytest.approx(info["means"].max(1) - reward)
        if pull == 0:
            assert (info["means"] == start).all()
    walk = info["means"] - start
    assert (walk[:, 0] == 0).all()
    assert walk[:, 1:].std(0) == pytest.approx(1.0, abs=4 / np.sqrt(2 * 10_000))  # 0.5 * sqrt(4 steps)


def test_optimal_and_random_value_of_a_block():
    best_of_five = 1.1629645  # expected maximum of five standard normals
    assert MetaBandit().optimal_value() == pytest.approx(30 * best_of_five, rel=1e-6)
    scaled = MetaBandit(prior=(1.0, 2.0), recurrence=2, pulls_per_episode=4)
    assert scaled.optimal_value() == pytest.approx(8 * (1 + 2 * best_of_five), rel=1e-6)
    assert scaled.random_value() == 8.0
    uniform = MetaBandit(arms=4, family="bernoulli", recurrence=10)
    assert uniform.optimal_value() == pytest.approx(10 * 4 / 5)  # the maximum of 4 uniforms
    assert uniform.random_value() == 5.0
    # max(0.5, one uniform): half of the time 0.5, otherwise 0.75 on average
    assert MetaBandit(arms=2, family="bernoulli", recurrence=1, safe_arm=0.5).optimal_value() == pytest.approx(0.625)
    assert MetaBandit(recurrence=10, safe_arm=0.5).random_value() == pytest.approx(10 * 0.5 / 5)
    with pytest.raises(ValueError, match=r"drift=0\.1"):
        MetaBandit(drift=0.1).optimal_value()


@pytest.mark.parametrize("kwargs", [dict(safe_arm=0.5), dict(family="bernoulli", prior=(0.3, 6.0)), dict(arms=2)])
def test_optimal_value_is_the_average_best_mean(kwargs):
    best = MetaBanditVector(num_envs=40_000, **kwargs).reset(seed=9)[1]["means"].max(1)
    expected = MetaBandit(recurrence=1, **kwargs).optimal_value()
    assert best.mean() == pytest.approx(expected, abs=4 * best.std() / np.sqrt(len(best)))


def greedy(mean, sd, rng):
    return mean


def pseudo_thompson(mean, sd, rng):
    return mean + 0.5 * sd * rng.standard_normal(mean.shape)


def thompson(mean, sd, rng):
    return mean + sd * rng.standard_normal(mean.shape)


def random(mean, sd, rng):
    return rng.random(mean.shape)


@pytest.mark.parametrize(
    ("pulls", "safe_arm", "score", "expected"),
    [
        (10, None, random, 0.0),
        (10, None, greedy, 0.575),
        (10, None, pseudo_thompson, 0.544),
        (10, None, thompson, 0.409),
        (30, None, greedy, 0.772),
        (30, None, pseudo_thompson, 0.828),
        (30, None, thompson, 0.727),
        (100, None, greedy, 0.867),
        (100, None, thompson, 0.964),
        (30, 0.5, random, 0.1),
        (30, 0.5, greedy, 0.5),
        (30, 0.5, pseudo_thompson, 0.774),
        (30, 0.5, thompson, 0.729),
    ],
)
def test_exact_bayesian_agents_earn_their_known_reward_per_pull(pulls, safe_arm, score, expected):
    """The agents know prior and noise; the expected values come from a simulation of 4000 tasks."""
    num_envs, rng = 4000, np.random.default_rng(10)
    envs = MetaBanditVector(num_envs=num_envs, recurrence=pulls, safe_arm=safe_arm)
    envs.reset(seed=11)
    lanes, counts, sums, total = np.arange(num_envs), np.zeros((num_envs, 5)), np.zeros((num_envs, 5)), np.zeros(num_envs)
    for _ in range(pulls):
        mean, sd = sums / (counts + 1), 1 / np.sqrt(counts + 1)
        if safe_arm is not None:
            mean[:, 0], sd[:, 0] = safe_arm, 0.0
        action = (score(mean, sd, rng) + 1e-9 * rng.random((num_envs, 5))).argmax(1)  # ties at random
        _, reward, terminated, _, _ = envs.step(action)
        counts[lanes, action] += 1
        sums[lanes, action] += reward
        total += reward
    assert terminated.all()
    per_pull = total / pulls
    assert per_pull.mean() == pytest.approx(expected, abs=4 * np.sqrt(2) * max(per_pull.std(), 1e-6) / np.sqrt(num_envs))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(arms=1), r"arms must be an integer in \[2, 1000\], got 1"),
        (dict(arms=2.5), "got 2.5"),
        (dict(family="poisson"), "'poisson'"),
        (dict(length="random"), "'random'"),
        (dict(recurrence=0), "recurrence must be an integer >= 1, got 0"),
        (dict(pulls_per_episode=True), "pulls_per_episode must be an integer >= 1, got True"),
        (dict(recurrence=2**20, pulls_per_episode=2**20), "at most"),
        (dict(noise=-1.0), r"noise must be finite and >= 0, got -1\.0"),
        (dict(drift=float("nan")), "drift must be finite and >= 0, got nan"),
        (dict(prior=(1.0,)), "two finite numbers"),
        (dict(prior=(0.0, -1.0)), "sd >= 0"),
        (dict(family="bernoulli", prior=(0.0, 1.0)), r"both >= 0\.05"),
        (dict(family="bernoulli", drift=0.1), "drift needs gaussian arms"),
        (dict(safe_arm=float("inf")), "safe_arm must be None or a finite number"),
        (dict(family="bernoulli", safe_arm=1.5), r"\[0, 1\], got 1\.5"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MetaBandit(**kwargs)


def test_the_drawing_shows_bars_last_reward_and_regret():
    env = MetaBandit(noise=0.0, render_mode="ansi")
    env.reset(seed=12)
    env.set_state(means=[-2.0, 0.0, 0.0, 0.0, 3.0], best_mean=3.0, best_arm=4)
    env.step(0)
    rows = env.render().split("\n")
    assert [row.ljust(24)[17] for row in rows[:8]] == [" ", "#", "#", "#", " ", " ", " ", " "]  # arm 4, up to 3
    assert "".join(row.ljust(24)[2] for row in rows[:8]) == "    ##o "  # arm 0, down to -2, with the reward
    assert rows[8].startswith("pull 1  regret 5.00")


@pytest.mark.skipif(not (shutil.which("gcc") or shutil.which("cc")), reason="needs a C compiler")
def test_the_c_loop_of_the_yardstick_follows_the_same_trajectory():
    library = load("meta_bandit")
    num_envs, rng = 64, np.random.default_rng(13)
    envs = MetaBanditVector(num_envs=num_envs, recurrence=6, pulls_per_episode=2)
    envs.reset(seed=14)
    state = envs.get_state()
    infos = np.empty(num_envs, envs.env.metrics.dtype)
    assert (library.state_size(), library.info_size()) == (state.itemsize, infos.itemsize)
    obs, reward = np.empty((num_envs, 8), np.float32), np.empty(num_envs)
    terminated, truncated = np.empty(num_envs, bool), np.empty(num_envs, bool)
    pointer = lambda array: ctypes.c_void_p(array.ctypes.data)
    size = ctypes.c_int64
    for _ in range(40):
        action = rng.integers(5, size=num_envs)
        buffers = [pointer(array) for array in (obs, reward, terminated, truncated, infos)]
        library.step(size(num_envs), pointer(state), pointer(action), size(6), size(2), *buffers)
        expected_obs, expected_reward, expected_terminated, expected_truncated, expected_infos = envs.step(action)
        assert obs == pytest.approx(expected_obs, rel=1e-6)
        assert reward == pytest.approx(expected_reward, rel=1e-12)
        assert (terminated == expected_terminated).all()
        assert (truncated == expected_truncated).all()
        for name in infos.dtype.names:
            assert infos[name] == pytest.approx(expected_infos[name], rel=1e-12, abs=1e-12)
