import numpy as np
import pytest

from explore_gym.envs.coverage import grid
from explore_gym.envs.coverage.fields import VARIANCE, cell_places, draw_fields, matern
from explore_gym.envs.coverage.grid import DOWN, LEFT, RIGHT, STAY, UP
from explore_gym.envs.coverage.grid_coverage import GridCoverage, GridCoverageVector

SMALL = dict(density="constant", shape=(4, 5), steps=6, start=(0, 0))


def test_moves_stop_at_edges_and_walls():
    moves = grid.make_moves(np.array([[True, True, True], [True, False, True]]))  # cells 0 1 2 / 3 wall 5
    assert moves[0].tolist() == [0, 1, 3, 0, 0]
    assert moves[1].tolist() == [1, 2, 1, 0, 1]  # the wall is below
    assert moves[5].tolist() == [5, 5, 5, 5, 2]


def test_the_map_shows_position_clock_and_visited_cells():
    env = GridCoverage(**SMALL)
    obs, info = env.reset(seed=0)
    assert obs.tolist() == [0, 0, 0, 1] + [0] * 19
    assert info["cell"] == 0
    for action in (RIGHT, RIGHT, DOWN, LEFT, UP, STAY):
        obs, _, terminated, truncated, info = env.step(action)
    assert obs[:3] == pytest.approx([0, 1 / 4, 1])
    assert np.flatnonzero(obs[3:]).tolist() == [0, 1, 2, 6, 7] and obs[3:].max() == 1
    assert (info["cell"], terminated, truncated) == (1, True, False)  # the walk has its seven visits


def test_the_position_alone_leaves_the_past_out():
    envs = GridCoverageVector(num_envs=2, observation="position", **SMALL)
    assert envs.reset(seed=0)[0].shape == (2, 3)
    envs.step([RIGHT, DOWN])
    obs = envs.step([DOWN, RIGHT])[0]
    assert obs[0] == pytest.approx([1 / 3, 1 / 4, 2 / 6])
    assert (obs[0] == obs[1]).all()


def test_the_history_lists_all_visits_in_order():
    envs = GridCoverageVector(num_envs=1, observation="history", **SMALL)
    assert envs.reset(seed=0)[0].shape == (1, 3 + 2 * 7)
    envs.step([DOWN])
    obs = envs.step([RIGHT])[0][0]
    assert obs[:3] == pytest.approx([1 / 3, 1 / 4, 2 / 6])
    assert obs[3:9] == pytest.approx([0, 0, 1 / 3, 0, 1 / 3, 1 / 4])
    assert (obs[9:] == -1).all()


def test_a_slip_draws_any_of_the_five_actions():
    envs = GridCoverageVector(num_envs=20_000, slip=0.5, observation="position", **{**SMALL, "start": (1, 1)})
    envs.reset(seed=0)
    cells = envs.step(np.full(20_000, RIGHT))[4]["cell"]
    share = np.bincount(cells, minlength=20) / 20_000
    expected = {7: 0.6, 6: 0.1, 11: 0.1, 5: 0.1, 1: 0.1}  # right of cell 6, stay, down, left, up
    for cell, p in expected.items():
        assert abs(share[cell] - p) < 4.5 * np.sqrt(p * (1 - p) / 20_000)
    assert share[list(expected)].sum() == pytest.approx(1.0)


def test_an_episode_draws_one_of_the_contexts_and_shows_it():
    kwargs = dict(shape=(4, 5), steps=6, start=(0, 0), layout_seed=5, autoreset_mode="SameStep")
    envs = GridCoverageVector(num_envs=300, num_contexts=3, **kwargs)
    obs, _ = envs.reset(seed=0)
    contexts = envs.get_state()["context"]
    assert np.bincount(contexts).min() > 60
    assert obs[:, 23:] == pytest.approx(envs.env.weights[contexts, 0])
    assert not (envs.env.weights[0] == envs.env.weights[1]).any()
    for _ in range(6):
        envs.step(np.zeros(300, int))
    assert (envs.get_state()["context"] != contexts).any()
    alone = GridCoverage(shape=(4, 5), start=(0, 0), layout_seed=5)
    assert alone.observation_space.shape == (23,)
    assert (alone.weights[0] == envs.env.weights[0]).all()  # context 0 is the same however many there are
    assert GridCoverageVector(num_envs=1, num_contexts=3, observation="position", **kwargs).reset(seed=0)[0].shape == (1, 3)


def test_matern_covariance():
    places = cell_places((1, 3))
    assert places.tolist() == [[0, 0], [0, 1], [0, 2]]
    covariance = matern(places, places, lengthscale=2.0)
    assert covariance.diagonal() == pytest.approx(VARIANCE)
    assert covariance[0, 2] == pytest.approx(0.6931472 * 0.5239942, rel=1e-6)  # (1 + sqrt 5 + 5/3) exp(-sqrt 5)


def test_fields_have_the_covariance():
    draws = draw_fields((2, 2), lengthscale=2.0, seed=0, num_contexts=20_000)[:, 0]
    expected = matern(cell_places((2, 2)), cell_places((2, 2)), 2.0)
    assert np.cov(draws.T) == pytest.approx(expected, abs=0.03)
    assert draws.mean(0) == pytest.approx(np.zeros(4), abs=0.03)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(density="hills"), "density must be one of gp, constant, bimodal, got 'hills'"),
        (dict(shape=(30, 51)), r"columns must be an integer in \[2, 50\], got 51"),
        (dict(shape=7), r"shape must be \(rows, columns\), got 7"),
        (dict(reach=6), r"reach must be an integer in \[0, 5\], got 6"),
        (dict(lengthscale=0.0), r"lengthscale must be a number in \[0.1, 1000.0\], got 0.0"),
        (dict(steps=0), r"steps must be an integer in \[1, 10000\], got 0"),
        (dict(slip=1.5), r"slip must lie in \[0, 1\], got 1.5"),
        (dict(start=(30, 0)), r"start must be the \(row, column\) of a cell of a 30x30 grid, got \[30, 0\]"),
        (dict(start=(1.0, 0.0)), r"got \[1.0, 0.0\]"),
        (dict(num_contexts=0), r"num_contexts must be an integer in \[1, 1000\], got 0"),
        (dict(density="constant", num_contexts=2), "num_contexts must be 1 unless density is gp, got 2 with constant"),
        (dict(layout_seed=-1), r"layout_seed must be an integer in \[0, 4294967295\], got -1"),
        (dict(observation="image"), "observation must be one of position, map, history, got 'image'"),
        (dict(reward="total"), "reward must be one of marginal, modular, got 'total'"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        GridCoverage(**kwargs)
