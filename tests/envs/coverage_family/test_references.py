import itertools

import numpy as np
import pytest

from explore_gym.envs.coverage import references
from explore_gym.envs.coverage.experiment_design import ExperimentDesign
from explore_gym.envs.coverage.grid import make_moves
from explore_gym.envs.coverage.grid_coverage import GridCoverage
from explore_gym.envs.coverage.item_collection import ItemCollection
from explore_gym.envs.coverage.point_coverage import PointCoverage

SMALL = dict(shape=(4, 5), start=(0, 0), steps=6)
TASKS = [
    lambda seed: GridCoverage(reach=0, lengthscale=1.0, layout_seed=seed, **SMALL),
    lambda seed: ItemCollection(counts=(5, 7, 4), needed=(1, 2, 1), layout_seed=seed, **SMALL),
    lambda seed: ExperimentDesign(noise=0.05, known=2, lengthscale=2.0, layout_seed=seed, **SMALL),
]
NAMES = ["GridCoverage", "ItemCollection", "ExperimentDesign"]


def enumerate_walks(env):
    """The best return of all sequences of actions, by the slow set function."""
    values, start = [], int(env.params["start"][0])
    for actions in itertools.product(range(5), repeat=env.steps):
        path = [start]
        for action in actions:
            path.append(int(env.moves[path[-1], action]))
        values.append(tuple(path))
    return max(env.set_function(path) for path in set(values)) - env.set_function([start])


@pytest.mark.parametrize("make", TASKS, ids=NAMES)
def test_greedy_is_at_most_best_is_at_most_the_bound(make):
    best_found = 0
    for seed in range(4):
        env = make(seed)
        env.reset(seed=0)
        (greedy, actions), (best, best_actions) = references.greedy_walk(env), references.best_walk(env)
        far, _ = references.greedy_walk(env, depth=3)
        assert 0.0 < greedy <= best + 1e-9 and far <= best + 1e-9
        assert references.upper_bound(env) >= best - 1e-9
        for value, walk in ((greedy, actions), (best, best_actions)):
            env.reset(seed=0)
            assert sum(env.step(action)[1] for action in walk) == pytest.approx(value)
        best_found += best > greedy + 1e-9
    assert best_found > 0  # greedy walks are not always best


def test_the_best_walk_is_that_of_all_walks():
    env = GridCoverage(reach=1, lengthscale=1.0, **{**SMALL, "steps": 5})
    env.reset(seed=0)
    assert references.best_walk(env)[0] == pytest.approx(enumerate_walks(env))


def test_on_a_constant_density_greedy_is_optimal():
    env = GridCoverage(density="constant")
    env.reset(seed=0)
    assert references.greedy_walk(env)[0] == references.upper_bound(env) == 2 * 39  # two new cells in each step


def test_references_start_from_the_present_state():
    env = GridCoverage(density="constant", **SMALL)
    env.reset(seed=0)
    env.step(1)
    env.step(1)
    value, actions = references.greedy_walk(env)
    assert len(actions) == 4
    assert references.best_walk(env)[0] == value == 8.0
    state = env.get_state()
    assert state["length"] == 3  # and leave it as it is


def test_references_do_not_depend_on_what_is_paid():
    values = []
    for reward in ("marginal", "modular"):
        env = GridCoverage(reward=reward, reach=0, lengthscale=1.0, **SMALL)
        env.reset(seed=0)
        values.append((references.greedy_walk(env), references.best_walk(env), references.upper_bound(env)))
    assert values[0] == values[1]


def test_visits_are_taken_when_they_are_within_reach():
    gains, distances = np.array([5.0, 10.0, 9.0]), np.array([1.0, 2.0, 2.0])
    assert references.best_visits(gains, distances, 1) == 5.0
    assert references.best_visits(gains, distances, 2) == 15.0
    assert references.best_visits(gains, distances, 5) == 24.0
    assert references.best_visits(gains, distances, 3, again=True) == 25.0
    assert references.best_visits(gains, distances, 2, per_step=2) == 24.0


def test_steps_go_around_walls():
    class Env:
        free = np.array([[True, False, True], [True, True, True], [True, False, True]])

    Env.moves = make_moves(Env.free)
    assert references.steps_to(Env, 0).tolist() == [0, np.inf, 4, 1, 2, 3, 2, np.inf, 4]


def test_a_greedy_flight_covers_new_ground():
    env = PointCoverage(raster=20, steps=50)
    env.reset(seed=0)
    value, actions = references.greedy_walk(env, depth=2)
    assert value > 0.0 and sum(env.step(action)[1] for action in actions) == pytest.approx(value)


@pytest.mark.parametrize("reference", [references.greedy_walk, references.best_walk, references.upper_bound])
def test_slips_and_large_look_aheads_are_refused(reference):
    env = GridCoverage(slip=0.1, **SMALL)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"a reference needs moves that don't slip, got slip=0\.1"):
        reference(env)
    env = GridCoverage(**SMALL)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"depth must be >= 1 .* got 9"):
        references.greedy_walk(env, depth=9)


def test_too_many_states_are_refused(monkeypatch):
    monkeypatch.setattr(references, "MAX_STATES", 50)
    env = GridCoverage(**SMALL)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="best_walk needs more than 50 states after 3 steps"):
        references.best_walk(env)
