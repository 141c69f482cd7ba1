import numpy as np
import pytest
from scipy import stats

from explore_gym.envs.bandits.linear_bandit import LinearBandit, LinearBanditVector


def test_a_noiseless_pull_pays_the_projection_and_shows_in_the_next_observation():
    env = LinearBandit(arms=3, dimension=2, noise=0.0, horizon=4)
    obs, info = env.reset(seed=0)
    assert obs[:, 2:].tolist() == [[0, 0, 0]] * 3  # no action, no reward, 0 of 4 pulls over
    assert obs[:, :2] ** 2 @ [1, 1] == pytest.approx(1.0)  # points on the unit circle
    assert (info["regret"], info["optimal"], info["task_end"]) == (0.0, False, False)
    points = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]])
    obs = env.set_state(theta=[1.0, 2.0], features=points)
    assert obs[:, :2] == pytest.approx(points)
    obs, reward, terminated, truncated, info = env.step(0)
    assert obs[:, 2:] == pytest.approx(np.array([[1, 1, 0.25], [0, 1, 0.25], [0, 1, 0.25]]))
    assert (reward, terminated, truncated) == (1.0, False, False)
    assert info["means"] == pytest.approx([1.0, 2.2, -2.0])
    assert (info["best_arm"], info["optimal"], info["regret"]) == (1, False, pytest.approx(1.2))
    *_, info = env.step(2)
    assert info["cumulative_regret"] == pytest.approx(1.2 + 4.2)
    *_, info = env.step(1)
    assert (info["optimal"], info["regret"], info["task_end"]) == (True, 0.0, False)
    _, _, terminated, _, info = env.step(1)
    assert terminated
    assert info["task_end"]
    assert info["theta"].tolist() == [1.0, 2.0]


def test_arms_and_theta_stay_for_a_block_and_are_new_in_the_next():
    envs = LinearBanditVector(num_envs=50, horizon=3, autoreset_mode="SameStep")
    first, info = envs.reset(seed=1)
    for pull in range(3):
        obs, _, terminated, _, info = envs.step(np.zeros(50, int))
        assert (info["final_obs"][..., :4] == first[..., :4]).all()
        assert terminated.all() == (pull == 2)
    assert not np.any(obs[..., :4] == first[..., :4])
    assert not np.any(info["theta"] == info["final_info"]["theta"])


def test_draws_follow_their_laws():
    envs = LinearBanditVector(num_envs=5000, noise=0.5)
    obs, info = envs.reset(seed=2)
    points = obs[..., :4].reshape(-1, 4)
    assert np.linalg.norm(points, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert points.mean(0) == pytest.approx(0.0, abs=4 * 0.5 / np.sqrt(50_000))
    assert points.T @ points / 50_000 == pytest.approx(np.eye(4) / 4, abs=0.01)
    assert stats.kstest(info["theta"].ravel(), stats.norm.cdf).pvalue > 0.001
    reward = envs.step(np.arange(5000) % 10)[1]
    noise = reward - info["means"][np.arange(5000), np.arange(5000) % 10]
    assert stats.kstest(noise, stats.norm(0.0, 0.5).cdf).pvalue > 0.001


def test_optimal_value_is_the_average_best_mean():
    best = LinearBanditVector(num_envs=20_000).reset(seed=3)[1]["means"].max(1)
    assert best.mean() == pytest.approx(LinearBandit().optimal_value() / 100, abs=4 * best.std() / np.sqrt(20_000))
    # two points on a circle: E max(x1, x2) = E|x1 - x2| / 2 = 4 / pi^2, times E|theta| = sqrt(pi / 2)
    assert LinearBandit(arms=2, dimension=2, horizon=10).optimal_value() == pytest.approx(
        10 * 4 / np.pi**2 * np.sqrt(np.pi / 2), rel=1e-4
    )
    assert LinearBandit().random_value() == 0.0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(arms=1), r"arms must be an integer in \[2, 1000\], got 1"),
        (dict(dimension=1), r"dimension must be an integer in \[2, 100\], got 1"),
        (dict(horizon=0), "horizon must be an integer"),
        (dict(noise=-1.0), r"noise must be a number in \[0.0, 100.0\], got -1.0"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        LinearBandit(**kwargs)


def test_the_drawing_shows_bars_last_reward_and_regret():
    env = LinearBandit(arms=3, dimension=2, noise=0.0, horizon=4, render_mode="ansi")
    env.reset(seed=4)
    env.set_state(theta=[0.0, 3.0], features=[[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    env.step(2)
    rows = [row.ljust(24) for row in env.render().split("\n")]
    assert "".join(row[10] for row in rows[:8]) == " ###    "  # arm 1, up to 3
    assert "".join(row[18] for row in rows[:8]) == "    ### "  # arm 2, down to -3
    assert "".join(row[20] for row in rows[:8]) == "    ###o"  # with the reward
    assert rows[8].startswith("pull 1  regret 6.00")
