"""What every coverage task pays is the marginal gain of a monotone submodular function of the places visited."""

import numpy as np
import pytest

from explore_gym.envs.coverage.biodiversity import Biodiversity
from explore_gym.envs.coverage.building_exploration import BuildingExploration
from explore_gym.envs.coverage.experiment_design import ExperimentDesign
from explore_gym.envs.coverage.grid_coverage import GridCoverage
from explore_gym.envs.coverage.item_collection import ItemCollection
from explore_gym.envs.coverage.point_coverage import HALF, VIEW, PointCoverage

SMALL = dict(shape=(4, 5), start=(0, 0), steps=20)
GRIDS = [
    GridCoverage(reach=2, num_contexts=3, **SMALL),
    Biodiversity(enough=0.4, num_contexts=3, **SMALL),
    BuildingExploration(plan=["S..#.", "#....", "..##.", "....."], steps=20),
    ItemCollection(counts=(5, 7, 4), needed=(2, 3, 1), num_contexts=3, **SMALL),
    ExperimentDesign(noise=0.05, known=2, lengthscale=2.0, num_contexts=3, **SMALL),
]
POINT = PointCoverage(raster=20, steps=50)
name = lambda env: type(env).__name__
NUM_CHAINS = 200
ROUNDING = 1e-9


def place(env, envs, cells):
    """Visit these cells, one in each lane, wherever the lanes are. Returns the gains of F."""
    before = worth(envs)
    if env is POINT:
        size = 2 * HALF / env.raster
        row, column = np.divmod(cells, env.raster)
        envs.set_state(x=(column + 0.5) * size - HALF, y=HALF - (row + 0.5) * size, vx=0.0, vy=0.0)
    else:
        envs.set_state(cell=cells)
    _, reward, _, _, _ = envs.step(np.zeros(len(cells), int))  # neither moves
    assert reward == pytest.approx(worth(envs) - before, abs=ROUNDING)
    return reward


def worth(envs):
    state = envs.get_state()
    return state["F"] if "F" in state.dtype.names else state["seen"] / 10


def places(env):
    return np.arange(env.raster**2) if env is POINT else np.flatnonzero(env.free)


@pytest.mark.parametrize("env", [*GRIDS, POINT], ids=name)
def test_rewards_are_gains_of_a_monotone_submodular_function(env):
    rng = np.random.default_rng(0)
    tight = 0
    for _ in range(5):
        env.reset(seed=int(rng.integers(1000)))  # some context
        envs = env.fork(NUM_CHAINS)
        size_of_a, size_of_b = np.sort(rng.integers(0, 12, 2))
        for i in range(size_of_b + 1):
            if i == size_of_a:
                a = envs.get_state()
            if i < size_of_b:
                assert (place(env, envs, rng.choice(places(env), NUM_CHAINS)) >= 0.0).all()
        b, new = envs.get_state(), rng.choice(places(env), NUM_CHAINS)
        envs.set_state(a)
        to_a = place(env, envs, new)
        envs.set_state(b)
        to_b = place(env, envs, new)
        assert (to_a >= to_b - ROUNDING).all() and (to_b >= 0.0).all()
        tight += (to_a > to_b + ROUNDING).sum()
    assert tight > 20  # returns do diminish


@pytest.mark.parametrize("env", [*GRIDS, POINT], ids=name)
def test_the_order_of_visits_does_not_matter(env):
    rng = np.random.default_rng(1)
    cells = rng.choice(places(env), (10, NUM_CHAINS))
    env.reset(seed=3)
    values = []
    for order in (range(10), rng.permutation(10)):
        envs = env.fork(NUM_CHAINS)
        for i in order:
            place(env, envs, cells[i])
        values.append(worth(envs))
    assert values[0] == pytest.approx(values[1], abs=ROUNDING)


@pytest.mark.parametrize("env", GRIDS, ids=name)
def test_the_rewards_of_a_walk_add_up_to_the_set_function(env):
    rng = np.random.default_rng(2)
    env.reset(seed=5)
    envs = env.fork(20)
    total = np.zeros(20)
    for step in range(20):
        _, reward, terminated, _, info = envs.step(rng.integers(5, size=20))
        total += reward
        assert terminated.all() == (step == 19)
    for lane, state in enumerate(envs.get_state()):
        context, path = int(state["context"]), state["path"]
        walk, start = env.set_function(path, context), env.set_function(path[:1], context)
        assert info["F"][lane] == pytest.approx(walk, abs=ROUNDING)
        assert total[lane] == pytest.approx(walk - start, abs=ROUNDING)
        assert info["modular_reward"][lane] == pytest.approx(env.set_function(path[-1:], context))
        assert (np.bincount(path, minlength=env.free.size) == state["visits"]).all()
        assert env.free.ravel()[path].all()


def test_the_rewards_of_a_flight_add_up_to_the_cells_around_it():
    rng = np.random.default_rng(3)
    POINT.reset(seed=0)
    covered, total = np.zeros((20, 20), bool), 0.0
    while True:
        row, column = divmod(int(POINT.get_state()["cell"]), 20)
        covered[max(row - VIEW, 0) : row + VIEW + 1, max(column - VIEW, 0) : column + VIEW + 1] = True
        assert POINT.get_state()["seen"] == covered.sum()
        if POINT.get_state()["done"]:
            break
        total += POINT.step(int(rng.integers(1, 3)))[1]  # east or north-east
    assert total == pytest.approx((covered.sum() - 25) / 10)
    assert covered.sum() > 50


def test_a_finished_walk_counts_no_more_visits():
    env = GRIDS[0]
    env.reset(seed=0)
    envs = env.fork(1)
    for _ in range(20):
        envs.step([1])
    envs.set_state(done=False)
    before = envs.get_state()
    _, reward, terminated, _, _ = envs.step([2])
    assert (reward[0], terminated[0]) == (0.0, True)
    assert (envs.get_state()["path"] == before["path"]).all() and envs.get_state()["F"] == before["F"]
