import numpy as np
import pytest
from scipy import stats

from explore_gym.envs.bandits.thresholds import Thresholds, ThresholdsVector

SURE = np.where(np.arange(25) >= 10, 1.0, -1.0).tolist()  # threshold 10, and no answer is wrong


def test_binary_search_finds_a_threshold_whose_answers_are_sure():
    env = Thresholds(theta=SURE, budget=5)
    obs, info = env.reset(seed=0)
    assert obs.tolist() == [[0, 0, 0]] * 25
    assert info["answer"] == 12  # the middle one of 0 to 25, as all 26 agree with no answers
    low, high = 0, 25  # the first yes is at one of low..high
    for _ in range(5):
        middle = min((low + high) // 2, 24)
        obs, reward, terminated, _, info = env.step(middle)
        yes = obs[middle, 1] == 1.0
        assert yes == (middle >= 10)
        low, high = (low, middle) if yes else (middle + 1, high)
        assert low <= info["answer"] <= high
        assert info["answer"] == (low + high) // 2
    assert (reward, terminated, info["answer"], info["correct"]) == (1.0, True, 10, True)
    assert (obs[:, 2] == 1.0).all()


def test_loss_is_the_error_or_the_excess_risk():
    for loss, expected in (("error", 0.0), ("regret", 1.0 - 2 * 0.6 / 50)):
        theta = 0.6 * np.array(SURE)
        env = Thresholds(theta=theta.tolist(), loss=loss)
        env.reset(seed=1)
        counts, sums = np.zeros(25), np.zeros(25)
        counts[[10, 11]] = 5.0, 5.0
        sums[11] = 5.0  # no at 10, yes at 11: threshold 11
        env.set_state(counts=counts, sums=sums, t=19)
        *_, reward, terminated, _, info = env.step(11)
        assert terminated
        assert info["answer"] == 11
        # wrong at position 10 alone: the next answer there is yes with 0.8 and no with 0.2
        assert info["simple_regret"] == pytest.approx((0.8 - 0.2) / 25)
        assert info["simple_regret"] == pytest.approx(2 * 0.6 / 50)
        assert reward == pytest.approx(expected)


def test_the_recommendation_is_numpy_s_middle_threshold_of_most_agreement():
    envs = ThresholdsVector(num_envs=300, margin=(0.0, 0.6), autoreset_mode="SameStep")
    envs.reset(seed=2)
    Z, rng = envs.env.hypotheses, np.random.default_rng(2)
    for _ in range(20):
        *_, info = envs.step(rng.integers(25, size=300))
        counts, yes = np.moveaxis(info["final_obs"][..., :2].astype(float), -1, 0)
        agreement = (2 * yes - counts) @ Z.T
        for i in range(300):
            tied = np.flatnonzero(agreement[i] == agreement[i].max())
            assert info["final_info"]["answer"][i] == tied[(len(tied) - 1) // 2]
        values = info["final_info"]["theta"] @ Z.T
        regret = (values.max(1) - values[np.arange(300), info["final_info"]["answer"]]) / 50
        assert info["final_info"]["simple_regret"] == pytest.approx(regret, abs=1e-12)
        assert (info["final_info"]["best_threshold"] == values.argmax(1)).all()


def test_instances_have_a_uniform_threshold_and_margins_and_answers_follow_them():
    envs = ThresholdsVector(num_envs=4000, margin=(0.2, 0.4))
    theta = envs.reset(seed=3)[1]["theta"]
    assert stats.chisquare(np.bincount((theta < 0).sum(1), minlength=26)).pvalue > 0.001
    assert (np.diff(theta > 0, axis=1).sum(1) <= 1).all()
    assert stats.kstest(np.abs(theta).ravel(), stats.uniform(0.2, 0.2).cdf).pvalue > 0.001
    envs.set_state(theta=np.full(25, -0.4))
    obs, *_ = envs.step(np.full(4000, 7))
    assert obs[:, 7, 1].mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / 4000))


def test_complexity_of_equal_margins_is_the_known_sum():
    # see test_complexity: sum over both sides of 1 / (2 i - 1), over the margin squared
    expected = sum(1 / (2 * i - 1) for i in range(1, 11)) + sum(1 / (2 * i - 1) for i in range(1, 16))
    assert Thresholds().complexity(0.5 * np.array(SURE)) == pytest.approx(4 * expected, rel=2e-3)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(positions=1), r"positions must be an integer in \[2, 1000\], got 1"),
        (dict(budget=2.5), "budget must be an integer"),
        (dict(margin=(0.5, 0.2)), r"0 <= low <= high <= 1, got \(0.5, 0.2\)"),
        (dict(margin=0.5), "margin must be two numbers"),
        (dict(theta=[1.5] * 25), r"25 finite numbers in \[-1.0, 1.0\]"),
        (dict(loss="mle"), "'mle'"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Thresholds(**kwargs)


def test_the_drawing_shows_probabilities_and_questions():
    env = Thresholds(theta=SURE, render_mode="ansi")
    env.reset(seed=4)
    env.step(3)
    rows = [row.ljust(25) for row in env.render().split("\n")]
    assert sum(row[20] == "#" for row in rows) >= 7  # yes for sure
    assert sum(row[2] == "#" for row in rows) <= 1
    assert any(row[3] == "o" for row in rows)
    assert any("question 1 of 20" in row for row in rows)
