import numpy as np
import pytest
from scipy import stats

from explore_gym.envs.bandits.complexity import transductive_complexity
from explore_gym.envs.bandits.rating_bandit import RatingBandit, RatingBanditVector

USER = [1.0, -1.0, 0.5, 0.0, 2.0]


def test_an_episode_asks_and_recommends():
    env = RatingBandit(theta=USER, budget=2)
    ratings = env.bias + env.items @ USER
    obs, info = env.reset(seed=0)
    assert obs.tolist() == [[0, 0, 0]] * 50
    assert info["best_item"] == ratings.argmax()
    assert info["answer"] == 0  # all posterior means are 0.5
    assert info["simple_regret"] == pytest.approx(ratings.max() - ratings[0])
    obs, reward, terminated, _, info = env.step(7)
    assert (reward, terminated) == (0.0, False)
    assert obs[7].tolist()[::2] == [1.0, 0.5]
    _, reward, terminated, _, info = env.step(7)
    assert terminated
    assert reward == 1.0 - info["simple_regret"]
    assert info["simple_regret"] == pytest.approx(ratings.max() - ratings[info["answer"]])
    env = RatingBandit(theta=USER, budget=1, loss="error")
    env.reset(seed=0)
    _, reward, _, _, info = env.step(7)
    assert reward == float(info["correct"])


def test_the_posterior_is_numpy_s_linear_regression():
    envs = RatingBanditVector(num_envs=200, autoreset_mode="Disabled")
    envs.reset(seed=1)
    model, rng = envs.env, np.random.default_rng(1)
    for _ in range(10):
        obs, reward, *_, info = envs.step(rng.integers(50, size=200))
    counts, sums = np.moveaxis(obs[..., :2].astype(float), -1, 0)
    precision = np.eye(5) + np.einsum("ni,ij,ik->njk", counts, model.items, model.items) / 0.2**2
    moment = (sums - counts * model.bias) @ model.items / 0.2**2
    mean = np.linalg.solve(precision, moment[..., None])[..., 0]
    state = envs.get_state()
    assert state["mean"] == pytest.approx(mean, abs=1e-4)  # observations are float32
    assert state["covariance"] == pytest.approx(np.linalg.inv(precision), abs=1e-9)
    assert (info["answer"] == (model.bias + state["mean"] @ model.items.T).argmax(1)).all()
    ratings = model.bias + info["theta"] @ model.items.T
    assert info["simple_regret"] == pytest.approx(ratings.max(1) - ratings[np.arange(200), info["answer"]])
    assert (info["correct"] == (ratings.argmax(1) == info["answer"])).all()
    assert reward == pytest.approx(1.0 - info["simple_regret"])
    z = (info["theta"] - state["mean"]) / np.sqrt(np.einsum("njj->nj", state["covariance"]))
    assert stats.kstest(z.ravel(), stats.norm.cdf).pvalue > 0.001  # the posterior is calibrated


def test_users_are_drawn_from_the_prior_and_ratings_are_noisy():
    envs = RatingBanditVector(num_envs=4000, noise=0.3)
    theta = envs.reset(seed=2)[1]["theta"]
    assert stats.kstest(theta.ravel(), stats.norm.cdf).pvalue > 0.001
    ratings = envs.env.bias + theta @ envs.env.items.T
    assert ratings.std() == pytest.approx(0.2, rel=0.1)
    envs.set_state(theta=np.tile(USER, (4000, 1)))
    obs, *_ = envs.step(np.full(4000, 3))
    expected = envs.env.bias[3] + envs.env.items[3] @ USER
    assert stats.kstest(obs[:, 3, 1], stats.norm(expected, 0.3).cdf).pvalue > 0.001


def test_ratings_from_a_file_are_scaled_filled_and_factorised(tmp_path):
    rng = np.random.default_rng(3)
    low_rank = rng.standard_normal((30, 2)) @ rng.standard_normal((2, 8))
    path = str(tmp_path / "ratings.npy")
    np.save(path, -10 + 20 * (low_rank - low_rank.min()) / np.ptp(low_rank))
    env = RatingBandit(file=path, rank=2)
    users = env.params["users"][0]
    assert users.mean(0) == pytest.approx(0.0, abs=1e-9)
    assert users.T @ users / 30 == pytest.approx(np.eye(2), abs=1e-9)
    scaled = (low_rank - low_rank.min()) / np.ptp(low_rank)
    assert env.bias + users @ env.items.T == pytest.approx(scaled, abs=1e-9)  # nothing is lost at the right rank
    _, info = env.reset(seed=0)
    assert np.abs(users - info["theta"]).sum(1).min() == pytest.approx(0.0)
    path = tmp_path / "ratings.csv"
    path.write_text("1,5,\n3,1,2\n,3,4\n")
    env = RatingBandit(file=str(path), rank=1)
    assert env.bias == pytest.approx([0.25, 0.5, 0.5])  # of 0 and 0.5; of 1, 0 and 0.5; of 0.25 and 0.75


def test_complexity_is_that_of_the_linear_problem():
    env = RatingBandit(noise=0.5)
    expected = transductive_complexity(env.items, env.items, USER)  # equal offsets cancel
    assert env.complexity(USER) == pytest.approx(expected.value * 0.25, rel=2e-3)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(items=1), r"items must be an integer in \[2, 10000\], got 1"),
        (dict(rank=0), r"rank must be an integer in \[1, 100\], got 0"),
        (dict(budget=-1), "budget must be an integer"),
        (dict(noise=0.0), "noise must be a number in"),
        (dict(model_seed=0.5), "model_seed must be an integer"),
        (dict(theta=[0.0]), "theta must be 5 finite numbers"),
        (dict(loss="ndcg"), "'ndcg'"),
        (dict(file="ratings.parquet"), "a .npy or .csv file"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        RatingBandit(**kwargs)


def test_bad_files_are_named(tmp_path):
    path = str(tmp_path / "ratings.npy")
    np.save(path, np.array([[1.0, np.nan], [2.0, np.nan], [3.0, np.nan]]))
    with pytest.raises(ValueError, match="at least one of each item"):
        RatingBandit(file=path, rank=1)
    np.save(path, np.array([[1.0, 2.0], [2.0, 1.0], [3.0, 3.0]]))
    with pytest.raises(ValueError, match=r"shape \(3, 2\) are too few for rank 3"):
        RatingBandit(file=path, rank=3)


def test_the_drawing_shows_ratings_and_questions():
    env = RatingBandit(theta=USER, render_mode="ansi")
    env.reset(seed=4)
    env.step(10)
    rows = [row.ljust(50) for row in env.render().split("\n")]
    heights = np.array([sum(row[column] == "#" for row in rows) for column in range(50)])
    assert np.corrcoef(heights, env.bias + env.items @ USER)[0, 1] > 0.9
    assert any(row[10] == "o" for row in rows)
    assert any("rating 1 of 10  recommended" in row for row in rows)
