import numpy as np
import pytest

from explore_gym.envs.coverage.point_coverage import PointCoverage, PointCoverageVector

SMALL = dict(raster=20, steps=50)  # cells of 2 m
EAST, NORTH = 1, 3


def test_thrust_and_drag():
    env = PointCoverage(**SMALL)
    env.reset(seed=0)
    env.set_state(x=0.0, y=1.0, vx=0.0, vy=1.0)
    obs, *_ = env.step(EAST)  # vx 2.5 * 0.2, vy less 1.25 * 0.2 of itself
    assert obs[:5] == pytest.approx([0.5 * 0.2 / 20, (1 + 0.75 * 0.2) / 20, 0.25, 0.375, 1 / 50])
    env.set_state(vx=2.0, vy=0.0)
    assert env.step(EAST)[0][2] == pytest.approx(1.0)  # the top speed
    env.set_state(vx=0.0, vy=0.0)
    assert env.step(2)[0][2:4] == pytest.approx([0.25 * 0.5**0.5] * 2)  # north-east
    assert env.step(0)[0][2:4] == pytest.approx([0.75 * 0.25 * 0.5**0.5] * 2)


def test_new_cells_pay_a_tenth_each():
    env = PointCoverage(**SMALL)
    _, info = env.reset(seed=0)
    assert (info["F"], info["coverage"], info["modular_reward"]) == (2.5, 25 / 400, 2.5)
    env.set_state(x=0.9, y=0.9, vx=0.0, vy=0.0)  # cell (9, 10)
    env.step(0)
    before = env.get_state()["seen"]
    env.set_state(x=2.1, y=0.9)  # the next cell
    _, reward, *_, info = env.step(0)
    assert (reward, info["cell"]) == (0.5, 9 * 20 + 11)
    assert env.get_state()["seen"] == before + 5
    env.set_state(x=-19.5, y=19.5)  # the corner: 3x3 cells inside
    assert (env.step(0)[1], env.step(0)[1]) == (0.9, 0.0)


def test_blocks_sum_up_the_map():
    envs = PointCoverageVector(num_envs=4, raster=40, steps=200, observation="map", autoreset_mode="Disabled")
    obs, _ = envs.reset(seed=1)
    assert obs.shape == (4, 5 + 1600) and obs[:, 5:].sum(1).tolist() == [25.0] * 4
    rng = np.random.default_rng(0)
    for _ in range(60):
        obs, _, _, _, info = envs.step(rng.integers(9, size=4))
    covered = obs[:, 5:].reshape(4, 20, 2, 20, 2)
    assert (envs.get_state()["blocks"].reshape(4, 20, 20) == covered.sum((2, 4))).all()
    assert info["F"] == pytest.approx(covered.sum((1, 2, 3, 4)) / 10)
    blocks = PointCoverage(raster=40, steps=200)
    blocks.reset(seed=0)
    shown = blocks.set_state(envs.get_state(0)[0])
    assert shown[5:] == pytest.approx(covered[0].mean((1, 3)).ravel())


def test_leaving_the_square_or_the_last_step_end_the_episode():
    env = PointCoverage(**SMALL)
    env.reset(seed=0)
    env.set_state(x=19.9, vx=2.0)
    obs, reward, terminated, truncated, info = env.step(EAST)
    assert (reward, terminated, truncated, info["F"]) == (0.0, True, False, 2.5)
    assert obs[0] == pytest.approx(20.3 / 20)
    env.reset()
    ends = [env.step(0)[2:4] for _ in range(50)]
    assert ends == [(False, False)] * 49 + [(True, False)]


def test_the_total_pays_in_every_step():
    envs = PointCoverageVector(num_envs=1, reward="total", **SMALL)
    envs.reset(seed=0)
    assert [envs.step([0])[1][0] for _ in range(2)] == [2.5, 2.5]
    assert PointCoverageVector(num_envs=1, observation="position", **SMALL).reset(seed=0)[0].shape == (1, 5)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(raster=30), "raster must be a multiple of 20, got 30"),
        (dict(raster=220), r"raster must be an integer in \[20, 200\], got 220"),
        (dict(steps=0), r"steps must be an integer in \[1, 10000\], got 0"),
        (dict(observation="history"), "observation must be one of blocks, position, map, got 'history'"),
        (dict(reward="modular"), "reward must be one of marginal, total, got 'modular'"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PointCoverage(**kwargs)


def test_the_drawing_shows_what_was_seen():
    env = PointCoverage(render_mode="ansi", **SMALL)
    env.reset(seed=0)
    env.set_state(x=1.0, y=1.0, covered=np.arange(400) < 20)
    rows = env.render().split("\n")
    assert rows[0] == "o" * 20 and rows[1] == "." * 20
    assert rows[9][10] == "@"
