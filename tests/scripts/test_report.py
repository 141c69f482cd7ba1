import numpy as np
import pytest

from explore_gym.agents.common.statistics import bootstrap_iqm, interval, iqm, resample
from explore_gym.scripts.report import (
    CURVE_POINTS,
    PAIR_REPLICAS,
    Result,
    bands,
    improvement,
    make_records,
    profile,
    read_results,
    score_rows,
    write_report,
    write_tables,
)
from explore_gym.scripts.suites import Task

TASKS = [Task("A-v0", 100, 0.0, 1.0), Task("B-v0", 200, 0.0, 2.0)]


def result(agent, task, seed, score, first=0):
    """A run whose curve is constant from point `first` on."""
    return Result(agent, "command", task, seed, score, [float("nan")] * first + [score] * (CURVE_POINTS - first), 1.0)


def test_probability_of_improvement_by_hand():
    x, y = np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[2.0, 5.0]])
    assert improvement(x, y) == 0.5  # task 1: one of two beats 2; task 2: two ties
    assert improvement(x, y - 1.0) == 0.875  # task 1: a tie and a win, 3/4; task 2: 1
    assert improvement(np.stack([x, x + 9.0]), np.stack([y, y])).tolist() == [0.5, 1.0]  # replicas in front


def test_performance_profile_by_hand():
    scores = np.array([[0.1, 0.5], [0.4, 0.9]])
    assert profile(scores, np.array([0.0, 0.1, 0.45, 1.0])).tolist() == [1.0, 0.75, 0.5, 0.0]


def test_agents_are_ranked_by_the_seeds_that_have_all_tasks():
    a, b = TASKS
    results = [result("x", a, 1, 0.5), result("x", b, 1, 0.5), result("x", a, 2, 9.0)]
    results += [result("y", a, 1, 0.6), result("y", b, 1, 0.6), result("z", a, 1, 1.0)]
    first, second, last = make_records(TASKS, results)
    assert [first.agent, second.agent, last.agent] == ["y", "x", "z"]
    assert second.seeds == [1]
    assert second.scores.tolist() == [[0.5, 0.25]]
    assert second.task_seeds(a) == [1, 2]
    assert last.seeds == []


def test_stored_results_have_the_same_scores(tmp_path):
    results = [result(agent, task, seed, 0.1 * seed) for agent in "xy" for task in TASKS for seed in (1, 2, 3)]
    write_tables(tmp_path, results)
    assert score_rows(TASKS, read_results(tmp_path / "results.csv", TASKS)) == score_rows(TASKS, results)
    assert score_rows(TASKS[:1], read_results(tmp_path / "results.csv", TASKS[:1]))[0][1:] == [
        "0.20 [0.10, 0.30] (n=3)",
        "0.20 [0.10, 0.30] (n=3)",
    ]


def test_a_report_tells_what_is_missing_and_escapes_names(tmp_path):
    results = [result("x", TASKS[0], 1, 0.5, first=3), result("x", TASKS[1], 1, 0.5, first=CURVE_POINTS - 1)]
    page = write_report(tmp_path, "suite", TASKS, results, ["y on A-v0, seed 1: failed <badly>"]).read_text()
    assert "failed &lt;badly&gt;" in page
    assert '<td>x</td><td class="number">0.38 [0.38, 0.38]</td>' in page  # mean of 0.5 and 0.25
    curves = (tmp_path / "curves.csv").read_text().splitlines()
    assert len(curves) == 1 + CURVE_POINTS - 3 + 1
    assert curves[1] == '"x","A-v0",1,8,0.5,0.5'  # the fourth of fifty points of 100 steps
    first = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    write_report(tmp_path, "suite", TASKS, results, [])
    assert {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()} == first


# rliable's bootstrap warns of the way in which its seed is passed
quiet = pytest.mark.filterwarnings("ignore:random_state is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(0)
    return rng.beta(2.0, 1.5, (10, 4)), rng.beta(2.0, 2.0, (8, 4))


@pytest.fixture(scope="module")
def rliable():
    pytest.importorskip("rliable")
    from rliable import library, metrics

    return library, metrics


@quiet
def test_iqm_and_interval_are_rliables(scores, rliable):
    library, metrics = rliable
    points, intervals = library.get_interval_estimates(
        {"x": scores[0]}, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=4000, random_state=np.random.RandomState(0)
    )
    assert iqm(scores[0]) == pytest.approx(points["x"][0])
    ours = bootstrap_iqm(scores[0], np.random.default_rng(1), 4000)
    # the 2.5 % quantile of 4000 replicas of standard deviation s has an error of about 0.04 s; both sides have it
    assert np.array(interval(ours)) == pytest.approx(intervals["x"][:, 0], abs=6 * 0.06 * ours.std())


@quiet
def test_probability_of_improvement_and_interval_are_rliables(scores, rliable):
    library, metrics = rliable
    points, intervals = library.get_interval_estimates(
        {"x,y": scores}, metrics.probability_of_improvement, reps=1000, random_state=np.random.RandomState(0)
    )
    assert improvement(*scores) == pytest.approx(float(points["x,y"]), abs=1e-9)
    drawn = [resample(x, np.random.default_rng(i), PAIR_REPLICAS) for i, x in enumerate(scores)]
    ours = improvement(*drawn)
    assert np.array(interval(ours)) == pytest.approx(np.ravel(intervals["x,y"]), abs=6 * 0.08 * ours.std())


def test_performance_profile_and_bands_are_rliables(scores, rliable):
    library, _ = rliable
    thresholds = np.linspace(0.0, 1.0, 9)
    points, intervals = library.create_performance_profile({"x": scores[0]}, thresholds, reps=2000)
    assert profile(scores[0], thresholds).tolist() == pytest.approx(points["x"].tolist())
    ours = bands(profile(resample(scores[0], np.random.default_rng(0), 2000), thresholds))
    assert ours == pytest.approx(intervals["x"], abs=0.05)  # shares are multiples of 1/40
