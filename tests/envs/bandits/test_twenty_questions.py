import numpy as np
import pytest
from scipy import stats

from explore_gym.envs.bandits.twenty_questions import TwentyQuestions, TwentyQuestionsVector

TABLE = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.5]])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "table.npy"
    np.save(path, TABLE)
    return str(path)


def test_the_posterior_by_hand(file):
    env = TwentyQuestions(file=file, noise=0.2, target=1, budget=2)
    assert env.yes == pytest.approx(np.array([[0.8, 0.8], [0.8, 0.2], [0.2, 0.5]]))
    obs, info = env.reset(seed=0)
    assert obs.tolist() == [[0, 0, 0]] * 2
    assert (info["target"], info["answer"], info["belief"]) == (1, 0, pytest.approx(1 / 3))
    env.set_state(counts=[1.0, 0.0], sums=[1.0, 0.0], log_posterior=np.log([0.8, 0.8, 0.2]), t=1)
    outcomes = {}
    for seed in range(20):
        env.set_state(rng=np.uint64(seed), done=False, t=1, counts=[1, 0], sums=[1, 0], log_posterior=np.log([0.8, 0.8, 0.2]))
        obs, reward, terminated, _, info = env.step(1)
        outcomes[bool(obs[1, 1])] = reward, terminated, info
    reward, terminated, info = outcomes[False]  # no: 0.8 * 0.2, 0.8 * 0.8, 0.2 * 0.5
    assert (reward, terminated, info["answer"], info["correct"], info["simple_regret"]) == (1.0, True, 1, True, 0.0)
    assert info["belief"] == pytest.approx(0.64 / 0.9)
    reward, terminated, info = outcomes[True]  # yes: 0.8 * 0.8, 0.8 * 0.2, 0.2 * 0.5
    assert (reward, terminated, info["answer"], info["correct"], info["simple_regret"]) == (0.0, True, 0, False, 1.0)
    assert info["belief"] == pytest.approx(0.16 / 0.9)


def test_the_recommendation_is_numpy_s_most_probable_object_given_the_observation():
    envs = TwentyQuestionsVector(num_envs=400, autoreset_mode="SameStep")
    envs.reset(seed=1)
    yes, rng = envs.env.yes, np.random.default_rng(1)
    for _ in range(20):
        _, reward, terminated, _, info = envs.step(rng.integers(40, size=400))
        counts, sums = np.moveaxis(info["final_obs"][..., :2].astype(float), -1, 0)
        log_posterior = sums @ np.log(yes).T + (counts - sums) @ np.log(1 - yes).T
        posterior = np.exp(log_posterior - log_posterior.max(1, keepdims=True))
        posterior /= posterior.sum(1, keepdims=True)
        last = info["final_info"]
        assert (last["answer"] == posterior.argmax(1)).all()
        assert last["belief"] == pytest.approx(posterior[np.arange(400), last["target"]])
    assert terminated.all()
    assert (reward == (last["answer"] == last["target"])).all()
    assert posterior.max(1).mean() == pytest.approx(last["correct"].mean(), abs=4 * 0.5 / 20)  # the posterior is calibrated


def test_objects_are_uniform_and_answers_follow_the_table():
    envs = TwentyQuestionsVector(num_envs=6400)
    targets = envs.reset(seed=2)[1]["target"]
    assert stats.chisquare(np.bincount(targets, minlength=64)).pvalue > 0.001
    envs.set_state(target=np.full(6400, 5))
    obs, *_ = envs.step(np.full(6400, 3))
    p = envs.env.yes[5, 3]
    assert obs[:, 3, 1].mean() == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 6400))


def test_the_table_is_of_low_rank_and_drawn_from_its_seed():
    env = TwentyQuestions(rank=2, noise=0.05)
    assert env.yes.shape == (64, 40)
    assert 0.05 <= env.yes.min() < 0.06 and 0.94 < env.yes.max() <= 0.95
    table = (env.yes - 0.05) / 0.9
    assert np.linalg.matrix_rank(np.log(table / (1 - table)), tol=1e-6) == 2
    assert (TwentyQuestions(rank=2, noise=0.05).yes == env.yes).all()
    assert not (TwentyQuestions(rank=2, noise=0.05, model_seed=1).yes == env.yes).all()
    assert (TwentyQuestions(scale=0.0).yes == 0.5).all()


def test_a_table_from_a_csv_file_is_the_same(tmp_path, file):
    path = tmp_path / "table.csv"
    path.write_text("1,1\n1,0\n0,0.5\n")
    assert (TwentyQuestions(file=str(path)).yes == TwentyQuestions(file=file).yes).all()


def test_complexity_of_an_object_by_hand(file):
    env = TwentyQuestions(file=file, noise=0.2)
    # object 1 and object 0 differ in question 1 alone, by KL(0.2, 0.8) = 0.6 log 4; object 2 needs little of question 0
    to_0 = 0.6 * np.log(4)
    to_2 = np.array([0.6 * np.log(4), 0.2 * np.log(0.4) + 0.8 * np.log(1.6)])
    share = to_2[0] / (to_2[0] + to_0 - to_2[1])  # of question 1, so that both are equally hard
    assert env.complexity(1) == pytest.approx(1 / (share * to_0), rel=2e-3)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(objects=1), r"objects must be an integer in \[2, 10000\], got 1"),
        (dict(questions=True), "questions must be an integer"),
        (dict(noise=0.5), "noise must be a number in"),
        (dict(rank=0), r"rank must be an integer in \[1, 100\], got 0"),
        (dict(scale=-1.0), "scale must be a number"),
        (dict(model_seed=-1), "model_seed must be an integer"),
        (dict(target=64), r"target must be an integer in \[0, 63\], got 64"),
        (dict(file="table.txt"), "a .npy or .csv file, got 'table.txt'"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TwentyQuestions(**kwargs)


def test_bad_files_are_named(tmp_path):
    path = str(tmp_path / "table.npy")
    with pytest.raises(FileNotFoundError):
        TwentyQuestions(file=path)
    np.save(path, TABLE + 0.5)
    with pytest.raises(ValueError, match=r"table.npy must hold probabilities in \[0, 1\], got 0.5 to 1.5"):
        TwentyQuestions(file=path)
    np.save(path, TABLE[0])
    with pytest.raises(ValueError, match=r"must hold a matrix of numbers with at least 2 rows and columns, got \(2,\)"):
        TwentyQuestions(file=path)


def test_the_drawing_shows_the_hidden_object_and_the_questions():
    env = TwentyQuestions(target=7, render_mode="ansi")
    env.reset(seed=4)
    env.step(10)
    rows = [row.ljust(40) for row in env.render().split("\n")]
    heights = np.array([sum(row[column] == "#" for row in rows) for column in range(40)])
    assert np.corrcoef(heights, env.yes[7])[0, 1] > 0.95
    assert any(row[10] == "o" for row in rows)
    assert any("question 1 of 20  recommended" in row for row in rows)
