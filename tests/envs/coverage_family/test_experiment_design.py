import numpy as np
import pytest

from explore_gym.envs.coverage.experiment_design import ExperimentDesign, ExperimentDesignVector
from explore_gym.envs.coverage.fields import VARIANCE, matern
from explore_gym.envs.coverage.grid import DOWN, RIGHT, STAY

SMALL = dict(shape=(4, 5), known=1, noise=1.0, steps=6, start=(0, 0))


def test_independent_measurements_and_repeated_ones():
    env = ExperimentDesign(lengthscale=0.1, **SMALL)  # no two cells know of each other
    obs, info = env.reset(seed=0)
    first = 0.5 * np.log(1 + np.log(2))
    again = 0.5 * np.log(1 + np.log(2) / (1 + np.log(2)))  # a measurement leaves the variance ln 2 / (1 + ln 2)
    assert (first, again) == pytest.approx((0.2632945, 0.1715762), rel=1e-5)
    assert info["F"] == pytest.approx(first, rel=1e-6)
    rewards = []
    for action in (STAY, RIGHT, DOWN):
        obs, reward, _, _, info = env.step(action)
        rewards.append(reward)
    assert rewards == pytest.approx([again, first, first], rel=1e-6)
    assert info["modular_reward"] == pytest.approx(first, rel=1e-6)
    assert info["coverage"] == 3 / 20
    assert obs[3:].tolist() == [2, 1, 0, 0, 0, 0, 1] + [0] * 13  # the map counts visits


def test_near_cells_tell_less():
    envs = ExperimentDesignVector(num_envs=3, lengthscale=3.0, noise=0.1, shape=(4, 5), steps=6, start=(0, 0))
    envs.reset(seed=0)
    envs.set_state(cell=[0, 1, 19])
    _, reward, _, _, info = envs.step([0, 0, 0])
    ratio = reward / info["modular_reward"]
    assert ratio[0] < ratio[1] < ratio[2] <= 1.0


def test_the_prior_is_conditioned_on_the_known_places():
    env = ExperimentDesign(shape=(6, 6), known=3, noise=0.2, lengthscale=2.0, layout_seed=4)
    cells, places = np.argwhere(np.ones((6, 6))).astype(float), env.places[0]
    gram = matern(places, places, 2.0) + 0.04 * np.eye(3)
    across = matern(cells, places, 2.0)
    expected = matern(cells, cells, 2.0) - across @ np.linalg.solve(gram, across.T)
    assert env.covariance(np.arange(36)) == pytest.approx(expected, abs=1e-10)
    variances = expected.diagonal()
    assert env.params["alone"][0, 0] == pytest.approx(0.5 * np.log(1 + variances / 0.04))
    assert (variances < VARIANCE).all()


def test_small_noise_and_many_repeats_stay_exact():
    envs = ExperimentDesignVector(num_envs=1, steps=60)  # the paper's noise, 0.001
    envs.reset(seed=0)
    for action in [STAY] * 20 + [RIGHT, STAY] * 20:
        _, reward, _, _, info = envs.step([action])
        assert reward[0] > 0.0
    path = envs.get_state()["path"][0, :61]
    assert info["F"][0] == pytest.approx(envs.env.set_function(path), rel=1e-9)


def test_known_places_are_the_context():
    envs = ExperimentDesignVector(num_envs=50, num_contexts=2, **{**SMALL, "known": 2})
    obs, _ = envs.reset(seed=0)
    contexts = envs.get_state()["context"]
    assert obs.shape == (50, 3 + 20 + 4) and set(contexts) == {0, 1}
    assert obs[:, 23:] == pytest.approx((envs.env.places / [3, 4])[contexts].reshape(50, 4))
    assert (ExperimentDesign(**{**SMALL, "known": 2}).places[0] == envs.env.places[0]).all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(known=0), r"known must be an integer in \[1, 100\], got 0"),
        (dict(noise=0.0), r"noise must be a number in \[0.0001, 100.0\], got 0.0"),
        (dict(steps=1000), r"steps must be an integer in \[1, 999\], got 1000"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ExperimentDesign(**kwargs)


def test_the_drawing_is_darkest_where_the_field_is_known():
    env = ExperimentDesign(shape=(8, 8), known=1, start=(0, 0), lengthscale=2.0, render_mode="ansi")
    env.places[0, 0] = 7.0, 7.0
    env.reset(seed=0)
    rows = env.render().split("\n")
    assert rows[0][0] == "@" and rows[7][7] == "+"
    assert int(rows[0][1]) < int(rows[0][5])
