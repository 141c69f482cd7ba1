import numpy as np
import pytest
from scipy import stats

from explore_gym.envs.bandits.contextual_bandit import ContextualBandit, ContextualBanditVector


def test_disjoint_arms_pay_their_own_weights_in_the_context_that_was_shown():
    env = ContextualBandit(arms=3, dimension=2, noise=0.0, horizon=4)
    obs, info = env.reset(seed=0)
    assert obs[2:].tolist() == [0, 0, 0, 0, 0]  # no action, no reward, 0 of 4 pulls over
    assert obs[:2] @ obs[:2] == pytest.approx(1.0)
    assert (info["regret"], info["optimal"], info["task_end"]) == (0.0, False, False)
    weights = [[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]
    obs = env.set_state(weights=weights, contexts=[[0.6, 0.8]])
    assert obs[:2] == pytest.approx([0.6, 0.8])
    obs, reward, terminated, truncated, info = env.step(0)
    assert (reward, terminated, truncated) == (pytest.approx(0.6), False, False)
    assert obs[2:] == pytest.approx([1, 0, 0, 0.6, 0.25])
    assert not np.any(obs[:2] == [0.6, 0.8])  # a new context
    assert info["means"] == pytest.approx([0.6, 1.6, 1.4])
    assert (info["best_arm"], info["optimal"], info["regret"]) == (1, False, pytest.approx(1.0))
    env.set_state(contexts=[[1.0, 0.0]])
    _, reward, _, _, info = env.step(2)
    assert (reward, info["optimal"], info["regret"]) == (1.0, True, 0.0)
    assert info["cumulative_regret"] == pytest.approx(1.0)
    assert info["weights"].tolist() == weights
    env.step(0)
    _, _, terminated, _, info = env.step(0)
    assert terminated
    assert info["task_end"]


def test_shared_weights_pay_in_each_arm_s_own_context():
    env = ContextualBandit(arms=3, dimension=2, model="shared", noise=0.0, horizon=4)
    obs, _ = env.reset(seed=0)
    assert obs.shape == (3 * 2 + 3 + 2,)
    contexts = [[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]]
    obs = env.set_state(weights=[[1.0, 2.0]], contexts=contexts)
    assert obs[:6] == pytest.approx(np.ravel(contexts))
    obs, reward, _, _, info = env.step(0)
    assert reward == 1.0
    assert info["means"] == pytest.approx([1.0, 2.2, -2.0])
    assert info["regret"] == pytest.approx(1.2)
    assert obs[6:] == pytest.approx([1, 0, 0, 1.0, 0.25])


def test_weights_stay_for_a_block_and_contexts_change_with_every_pull():
    envs = ContextualBanditVector(num_envs=50, horizon=3, autoreset_mode="SameStep")
    before, info = envs.reset(seed=1)
    weights = info["weights"]
    for _ in range(3):
        _, _, terminated, _, info = envs.step(np.zeros(50, int))
        assert not np.any(info["final_obs"][:, :5] == before[:, :5])
        assert (info["final_info"]["weights"] == weights).all()
        before = info["final_obs"]
    assert terminated.all()
    assert not np.any(info["weights"] == weights)


@pytest.mark.parametrize("model", ["disjoint", "shared"])
def test_draws_follow_their_laws_and_optimal_value_is_the_average_best_mean(model):
    envs = ContextualBanditVector(num_envs=20_000, model=model, noise=0.5)
    obs, info = envs.reset(seed=2)
    contexts = obs[:, :-7].reshape(20_000, -1, 5)
    assert np.linalg.norm(contexts, axis=2) == pytest.approx(1.0, abs=1e-5)
    assert stats.kstest(info["weights"].ravel(), stats.norm.cdf).pvalue > 0.001
    assert info["means"] == pytest.approx(np.broadcast_to((info["weights"] * contexts).sum(2), (20_000, 5)), abs=1e-5)
    best = info["means"].max(1)
    expected = ContextualBandit(model=model).optimal_value() / 100
    assert best.mean() == pytest.approx(expected, abs=4 * best.std() / np.sqrt(20_000))
    action = np.arange(20_000) % 5
    reward = envs.step(action)[1]
    assert stats.kstest(reward - info["means"][np.arange(20_000), action], stats.norm(0.0, 0.5).cdf).pvalue > 0.001


def test_optimal_and_random_value_of_a_block():
    assert ContextualBandit(horizon=10).optimal_value() == pytest.approx(10 * 1.1629645, rel=1e-5)  # best of five normals
    assert ContextualBandit().random_value() == 0.0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(arms=0), r"arms must be an integer in \[2, 1000\], got 0"),
        (dict(dimension=1), r"dimension must be an integer in \[2, 100\], got 1"),
        (dict(model="hybrid"), r"model must be one of \('disjoint', 'shared'\), got 'hybrid'"),
        (dict(horizon=True), "horizon must be an integer"),
        (dict(noise=float("nan")), "noise must be a number"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ContextualBandit(**kwargs)


def test_the_drawing_shows_the_means_of_the_last_pull():
    env = ContextualBandit(arms=3, dimension=2, noise=0.0, horizon=4, render_mode="ansi")
    env.reset(seed=3)
    env.set_state(weights=[[3.0, 0.0], [0.0, 0.0], [-2.0, 0.0]], contexts=[[1.0, 0.0]])
    env.step(2)
    rows = [row.ljust(24) for row in env.render().split("\n")]
    assert "".join(row[2] for row in rows[:8]) == " ###    "  # arm 0, up to 3
    assert "".join(row[20] for row in rows[:8]) == "    ##o "  # arm 2, down to -2, with the reward
    assert rows[8].startswith("pull 1  regret 5.00")
