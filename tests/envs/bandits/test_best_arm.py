import numpy as np
import pytest
from scipy import stats

from explore_gym.envs.bandits.best_arm import BestArm, BestArmVector
from explore_gym.envs.bandits.complexity import best_arm_complexity, transductive_complexity

MEANS = [0.0, 1.0, 0.25, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0]


def test_the_observation_is_what_was_pulled_and_the_info_what_is_hidden():
    env = BestArm(budget=4, theta=MEANS)
    obs, info = env.reset(seed=0)
    assert obs.tolist() == [[0, 0, 0]] * 10
    assert (info["best_arm"], info["answer"], info["correct"], info["simple_regret"]) == (1, 0, False, 1.0)
    assert info["complexity"] == pytest.approx(1.0 + 1.0 / 0.75**2 + 7.0 / 4.0)
    assert info["theta"].tolist() == MEANS
    obs, reward, terminated, truncated, info = env.step(2)
    assert obs[:, 0].tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert (obs[:, 2] == 0.25).all()
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert (info["answer"], info["simple_regret"]) == (2, 0.75)  # arms that weren't pulled are not recommended


def test_only_the_last_recommendation_is_rewarded():
    for loss, right, wrong in (("error", 1.0, 0.0), ("regret", 1.0, 0.25)):
        env = BestArm(budget=4, theta=MEANS, loss=loss)
        env.reset(seed=1)
        env.step(1)
        for sums, expected in (([0, 9, 8], right), ([0, 8, 9], wrong)):  # averages of 3 pulls and of 1, then of 2
            counts = np.zeros(10)
            counts[:3] = 0, 1, 1
            env.set_state(counts=counts, sums=np.array(sums + [0] * 7), t=3, done=False)
            *_, reward, terminated, _, info = env.step(3)
            assert (reward, terminated) == (expected, True)
            assert info["correct"] == (expected == 1.0)


def test_the_recommended_arm_is_numpy_s_best_average():
    envs = BestArmVector(num_envs=500, autoreset_mode="SameStep")
    envs.reset(seed=2)
    rng = np.random.default_rng(2)
    for _ in range(30):
        _, reward, terminated, _, info = envs.step(rng.integers(4, size=500))  # most arms stay unknown
        final, last = info["final_obs"].astype(float), info["final_info"]
        with np.errstate(invalid="ignore"):
            averages = np.where(final[..., 0] > 0, final[..., 1] / final[..., 0], -np.inf)
        clear = np.sort(averages, 1)[:, -1] - np.sort(averages, 1)[:, -2] > 1e-4  # observations are float32
        assert (last["answer"] == averages.argmax(1))[clear].all()
        lanes, theta = np.arange(500), last["theta"]
        assert last["simple_regret"] == pytest.approx(theta.max(1) - theta[lanes, last["answer"]])
        assert (last["correct"] == (theta.argmax(1) == last["answer"])).all()
    assert terminated.all()
    assert (reward == last["correct"]).all()


def test_instances_are_of_the_asked_complexity_and_a_lane_can_be_given_its_own():
    envs = BestArmVector(num_envs=5000, max_complexity=20.0)
    _, info = envs.reset(seed=3)
    assert info["complexity"] == pytest.approx(best_arm_complexity(info["theta"]))
    assert stats.kstest(info["complexity"] / 20.0, stats.uniform(0.3, 0.7).cdf).pvalue > 0.001
    assert stats.chisquare(np.bincount(info["best_arm"], minlength=10)).pvalue > 0.001
    theta = np.zeros((2, 10))
    theta[0, 4], theta[1, 9] = 5.0, 0.5
    envs.set_state(theta=theta, lanes=[0, 3])
    info = envs.step(np.zeros(5000, int))[4]
    assert info["best_arm"][[0, 3]].tolist() == [4, 9]
    assert info["complexity"][[0, 3]] == pytest.approx([9.0 / 25.0, 9.0 / 0.25])


def test_pulls_are_normal_around_the_mean():
    envs = BestArmVector(num_envs=5000, theta=MEANS)
    envs.reset(seed=4)
    obs, *_ = envs.step(np.full(5000, 2))
    assert stats.kstest(obs[:, 2, 1], stats.norm(0.25, 1.0).cdf).pvalue > 0.001


def test_complexity_of_an_instance_is_that_of_its_linear_form_up_to_a_factor():
    env = BestArm()
    found = transductive_complexity(np.eye(10), np.eye(10), MEANS)
    assert env.complexity(MEANS) <= found.value <= 4.0 * env.complexity(MEANS)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(arms=1), r"arms must be an integer in \[2, 1000\], got 1"),
        (dict(budget=0), r"budget must be an integer in \[1, 100000\], got 0"),
        (dict(max_complexity=0.0), r"max_complexity must be a number in \[0.001, 1000000.0\], got 0.0"),
        (dict(theta=[1.0, 2.0]), r"theta must be 10 finite numbers in \[-inf, inf\], got \[1.0, 2.0\]"),
        (dict(theta=[float("nan")] * 10), "theta must be 10 finite numbers"),
        (dict(loss="mse"), r"loss must be one of \('error', 'regret'\), got 'mse'"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        BestArm(**kwargs)


def test_the_drawing_shows_means_pulls_and_regret():
    env = BestArm(theta=MEANS, render_mode="ansi")
    env.reset(seed=5)
    env.step(3)
    rows = [row.ljust(24) for row in env.render().split("\n")]
    assert sum(row[3] == "#" for row in rows) == 7  # arm 1, the best
    assert all(row[8] != "#" or row is rows[6] or row is rows[7] for row in rows)  # arm 3, the worst
    assert sum(row[8] == "o" for row in rows) >= 3
    assert "pull 1 of 30  recommende" in rows[11]
