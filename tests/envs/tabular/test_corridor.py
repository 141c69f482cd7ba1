import numpy as np
import pytest

from explore_gym.envs.tabular import solvers
from explore_gym.envs.tabular.corridor import Corridor, CorridorVector


def wrong(env, s):
    return (int(env.right[s]) + 1) % 4


def test_the_right_action_moves_on_unless_it_slips_and_the_others_throw_back():
    env = Corridor()
    for s in range(24):
        expected = np.zeros((4, 24))
        expected[:, max(s - 3, 0)] = 1.0
        expected[env.right[s]] = 0.0
        expected[env.right[s], s] += 0.05
        expected[env.right[s], min(s + 1, 23)] += 0.95
        np.testing.assert_allclose(env.P[s], expected, atol=1e-12)
    assert np.argwhere(env.R).tolist() == [[23, env.right[23]]]
    assert env.R.max() == 1.0


def test_slip_and_setback_are_arguments():
    env = Corridor(size=5, slip=0.25, setback=1)
    assert env.P[2, env.right[2]] == pytest.approx([0, 0, 0.25, 0.75, 0])
    assert env.P[2, wrong(env, 2)].tolist() == [0, 1, 0, 0, 0]


def test_the_right_actions_depend_on_mapping_seed_alone():
    first, other = Corridor(size=200, mapping_seed=1), Corridor(size=200, mapping_seed=2)
    assert (first.right == Corridor(size=200, mapping_seed=1).right).all()
    assert 0.1 < (first.right == other.right).mean() < 0.4  # 1/4 by chance
    assert set(first.right) == {0, 1, 2, 3}


def test_sampled_moves_have_the_model_s_frequencies():
    envs = CorridorVector(num_envs=20_000, size=6, max_steps=None)
    envs.reset(seed=0)
    right = envs.env.right
    for s in (0, 4, 5):
        envs.set_state(s=s)
        obs, reward, *_ = envs.step(np.full(20_000, right[s]))
        for target in range(6):
            p = envs.env.P[s, right[s], target]
            assert (obs == target).mean() == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 20_000))
        assert (reward == (s == 5)).all()
        envs.set_state(s=s)
        assert (envs.step(np.full(20_000, wrong(envs.env, s)))[0] == max(s - 3, 0)).all()


def test_the_fastest_way_to_the_end_is_geometric_in_each_cell():
    env = Corridor(size=10, slip=0.2)
    assert solvers.shortest_path(env.P, [9])[0] == pytest.approx([(9 - s) / 0.8 for s in range(10)])


def test_values_of_short_episodes_by_hand():
    # two cells, no slip: one step to the last cell, then a reward per step
    assert Corridor(size=2, slip=0.0, max_steps=5).optimal_value() == pytest.approx(4.0)
    # at random for two steps: at the last cell after the first with 1/4, right there with 1/4
    assert Corridor(size=2, slip=0.0, max_steps=2).random_value() == pytest.approx(1 / 16)
    assert Corridor(size=4, slip=0.05, max_steps=None).optimal_gain() == pytest.approx(1.0)


def test_it_is_episodic_or_continuing_and_reports_coverage():
    env = Corridor(size=4, slip=0.0, max_steps=3)
    assert env.reset(seed=0)[1] == {"coverage": 0.25}
    steps = [env.step(int(env.right[s])) for s in range(3)]
    assert [step[0] for step in steps] == [1, 2, 3]
    assert [step[4]["coverage"] for step in steps] == [0.5, 0.75, 1.0]
    assert [step[2:4] for step in steps] == [(False, False), (False, False), (False, True)]
    envs = CorridorVector(num_envs=2, size=4, max_steps=None)
    envs.reset(seed=0)
    assert not any((envs.step(np.zeros(2, int))[3]).any() for _ in range(500))


def test_the_tabular_export_is_the_model_itself():
    env = Corridor(size=7)
    env.reset(seed=1)
    model = env.to_tabular()
    s = model.states["s"]
    assert sorted(s) == list(range(7))
    np.testing.assert_allclose(model.P, env.P[np.ix_(s, range(4), s)], atol=1e-12)
    np.testing.assert_allclose(model.R, env.R[s], atol=1e-12)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(size=1), r"size must be an integer in \[2, 1000\], got 1"),
        (dict(slip=1.0), r"slip must lie in \[0, 1\), got 1\.0"),
        (dict(setback=0), "setback must be an integer >= 1, got 0"),
        (dict(mapping_seed=-1), r"mapping_seed must be an integer in \[0, 2\*\*32\), got -1"),
        (dict(max_steps=0), "max_steps must be a positive integer or None, got 0"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Corridor(**kwargs)


def test_the_drawing_shows_the_walker_and_the_reward():
    env = Corridor(size=5, render_mode="ansi")
    env.reset(seed=0)
    env.set_state(s=2)
    assert env.render() == "..@.$"
