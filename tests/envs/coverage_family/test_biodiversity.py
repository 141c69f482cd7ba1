import numpy as np
import pytest

from explore_gym.envs.coverage.biodiversity import Biodiversity, BiodiversityVector


def test_each_population_adds_up_to_its_share_of_a_hundred_percent():
    env = Biodiversity()
    assert env.weights.shape == (1, 3, 900)
    assert env.weights.sum(2) == pytest.approx(100 / 3) and env.weights.min() > 0.0
    assert env.quotas == pytest.approx([5.0] * 3)  # 15 % of 33.3
    correlations = np.corrcoef(np.log(Biodiversity(species=6, num_contexts=40, shape=(6, 6)).weights[:, :, 0].T))
    assert np.abs(correlations - np.eye(6)).max() < 0.6  # species live where they like to, not where others do


def test_beyond_enough_a_species_counts_nothing():
    envs = BiodiversityVector(num_envs=1, species=2, enough=0.5, shape=(3, 3), reach=0, start=(0, 0), steps=20)
    _, info = envs.reset(seed=0)
    weights, covered = envs.env.weights[0], [0]
    assert info["F"][0] == pytest.approx(weights[:, 0].sum())
    for cell in (8, 4, 8, 2, 6, 1, 3, 5, 7):
        before = info["F"][0]
        envs.set_state(cell=cell)
        _, reward, _, _, info = envs.step([0])
        covered.append(cell)
        assert reward[0] == pytest.approx(info["F"][0] - before)
        assert info["F"][0] == pytest.approx(np.minimum(weights[:, sorted(set(covered))].sum(1), 25.0).sum())
    assert (info["F"][0], info["coverage"][0]) == pytest.approx((50.0, 1.0))


def test_one_species_without_a_limit_is_plain_coverage():
    env = Biodiversity(species=1, enough=1.0, shape=(5, 5), start=(0, 0))
    assert env.set_function([0]) == pytest.approx(env.weights[0, 0].reshape(5, 5)[:2, :2].sum())
    assert env.set_function(range(25)) == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(species=7), r"species must be an integer in \[1, 6\], got 7"),
        (dict(enough=0.0), r"enough must lie in \(0, 1\], got 0.0"),
        (dict(reach=-1), r"reach must be an integer in \[0, 5\], got -1"),
        (dict(lengthscale=float("nan")), "lengthscale must be a number"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Biodiversity(**kwargs)


def test_the_drawing_names_the_commonest_species():
    env = Biodiversity(species=2, shape=(4, 4), start=(0, 0), render_mode="ansi")
    env.reset(seed=0)
    relative = env.weights[0] / env.weights[0].max(1, keepdims=True)
    rows = [row[:4] for row in env.render().split("\n")[:4]]
    expected = np.array(["1", "2"])[relative.argmax(0)].reshape(4, 4)
    expected[:2, :2] = "."
    expected[0, 0] = "@"
    assert rows == ["".join(row) for row in expected]
