import numpy as np
import pytest

from explore_gym.agents.common.statistics import bootstrap_iqm, interval, iqm


def test_iqm_is_the_mean_of_the_middle_half():
    assert iqm([100.0, 3.0, 1.0, 5.0, 4.0, 2.0, -50.0, 6.0]) == pytest.approx(3.5)  # 2, 3, 4, 5 are left
    assert iqm([7.0, 1.0, 3.0]) == pytest.approx(11 / 3)  # a quarter of 3 is none
    assert iqm(np.array([[0.0, 9.0], [1.0, 8.0], [2.0, 7.0], [90.0, 6.0]]), axis=0) == pytest.approx([1.5, 7.5])


@pytest.mark.parametrize("scores", [[], [1.0, np.nan], [np.inf]])
def test_iqm_refuses_what_has_no_mean(scores):
    with pytest.raises(ValueError, match="finite"):
        iqm(scores)


def test_bootstrap_of_two_runs_has_its_three_outcomes():
    replicas = bootstrap_iqm([0.0, 1.0], np.random.default_rng(0), replicas=40_000)
    values, counts = np.unique(replicas, return_counts=True)
    assert values.tolist() == [0.0, 0.5, 1.0]
    assert counts / 40_000 == pytest.approx([0.25, 0.5, 0.25], abs=0.01)


def test_bootstrap_is_stratified_by_task():
    """Runs are drawn within a task: a constant task stays constant, and the two tasks vary independently."""
    scores = np.array([[0.0, 10.0], [1.0, 11.0]])
    replicas = bootstrap_iqm(scores, np.random.default_rng(0), replicas=40_000)
    # The four values drawn are two of task 0 and two of task 1; the middle two are its largest and task 1's smallest.
    assert set(replicas) == {5.0, 5.5, 6.0}
    assert np.mean(replicas == 5.0) == pytest.approx(0.25 * 0.75, abs=0.01)  # both 0 from task 0; a 10 from task 1
    assert np.mean(replicas == 6.0) == pytest.approx(0.75 * 0.25, abs=0.01)


def test_interval_cuts_equal_tails():
    assert interval(np.arange(1001.0), level=0.9) == pytest.approx((50.0, 950.0))


@pytest.mark.filterwarnings("ignore:random_state is deprecated:FutureWarning")
@pytest.mark.parametrize("num_tasks", [1, 3])
def test_agrees_with_rliable(num_tasks):
    rliable = pytest.importorskip("rliable.library")
    from rliable import metrics

    scores = np.random.default_rng(1).normal(size=(10, num_tasks))
    point, spread = rliable.get_interval_estimates(
        {"arm": scores}, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=3000, random_state=np.random.RandomState(0)
    )
    assert iqm(scores) == pytest.approx(point["arm"][0])
    ours = interval(bootstrap_iqm(scores, np.random.default_rng(0), replicas=50_000))
    assert ours == pytest.approx(spread["arm"].ravel(), abs=0.03)  # intervals are about one wide
