import numpy as np
import pytest

from explore_gym.envs.coverage.grid import DOWN, LEFT, RIGHT, STAY
from explore_gym.envs.coverage.grid_coverage import GridCoverage, GridCoverageVector

SMALL = dict(shape=(4, 5), steps=6, start=(0, 0))  # as in the tests of the grid, so that loops are compiled once


def test_only_what_is_new_pays():
    env = GridCoverage(density="constant", **SMALL)
    _, info = env.reset(seed=0)
    assert info == {"F": 4.0, "modular_reward": 4.0, "coverage": 4 / 20, "cell": 0}  # the start and three beside it
    steps = [env.step(action) for action in (RIGHT, LEFT, STAY, DOWN, DOWN, DOWN)]
    assert [step[1] for step in steps] == [2.0, 0.0, 0.0, 2.0, 2.0, 0.0]  # the fourth row was seen from the third
    assert [step[4]["F"] for step in steps] == [6.0, 6.0, 6.0, 8.0, 10.0, 10.0]
    assert [step[4]["modular_reward"] for step in steps] == [4.0, 4.0, 4.0, 4.0, 4.0, 2.0]
    assert steps[-1][4]["coverage"] == 10 / 20


def test_modular_rewards_pay_again_and_again():
    envs = GridCoverageVector(num_envs=1, density="constant", reward="modular", **SMALL)
    envs.reset(seed=0)
    assert [envs.step([action])[1][0] for action in (STAY, STAY, RIGHT, LEFT)] == [4.0] * 4
    assert envs.get_state()["F"][0] == 6.0  # what the walk is worth doesn't depend on what is paid


def test_reach_widens_what_a_visit_covers():
    worth = [GridCoverage(density="constant", reach=reach).set_function([34]) for reach in range(4)]
    assert worth == [1.0, 4.0, 9.0, 16.0]
    envs = GridCoverageVector(num_envs=1, density="constant", reach=2, **SMALL)
    assert envs.reset(seed=0)[1]["F"] == 9.0
    assert envs.step([RIGHT])[1] == 3.0


def test_densities():
    bimodal = GridCoverage(density="bimodal").weights.reshape(30, 30)
    assert bimodal[0, 0] == bimodal[-1, -1] == pytest.approx(0.7310586)  # 1 / (1 + exp(-1))
    assert bimodal[0, -1] == bimodal[-1, 0] == pytest.approx(0.2689414)
    gp = np.stack([GridCoverage(shape=(8, 8), layout_seed=seed).weights for seed in range(50)])
    assert gp.min() >= 0.0 and gp.mean() == pytest.approx(3.0, abs=0.4)
    assert not (gp[0] == gp[1]).any()
    rough, smooth = (np.diff(GridCoverage(lengthscale=scale).weights.reshape(30, 30)).std() for scale in (3.0, 10.0))
    assert rough > 2.0 * smooth


def test_defaults_are_the_papers():
    env = GridCoverage()
    assert (env.free.shape, env.steps, env.params["start"][0]) == ((30, 30), 39, 34)
    assert GridCoverage(density="constant").set_function(range(34, 54)) == 2 * 21  # a row of twenty cells


def test_the_drawing_shows_weights_what_was_covered_and_the_walker():
    env = GridCoverage(density="bimodal", render_mode="ansi", **SMALL)
    env.reset(seed=0)
    env.step(DOWN)
    rows = env.render().split("\n")
    assert rows[:4] == ["..653", "@.665", "..677", "35689"]  # tenths of the highest weight
    assert env.get_state()["F"] == pytest.approx(3.3535, abs=1e-4)
