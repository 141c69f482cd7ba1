import numpy as np
import pytest

from explore_gym.envs.tabular import solvers
from explore_gym.envs.tabular.garnet import Garnet, GarnetVector, is_communicating


def test_every_pair_leads_to_branching_states():
    env = Garnet()
    assert env.P.shape == (50, 5, 50)
    assert ((env.P > 0).sum(-1) == 3).all()
    np.testing.assert_allclose(env.P.sum(-1), 1.0)
    assert ((Garnet(num_states=7, num_actions=2, branching=4).P > 0).sum(-1) == 4).all()
    assert ((env.R >= 0) & (env.R < 1)).all()


def test_probabilities_are_the_pieces_of_a_cut_interval():
    # with two random cuts each piece has a mean of 1/3 and a variance of 1/18, and any state is as likely as any other
    P = np.concatenate([Garnet(model_seed=seed).P.reshape(-1, 50) for seed in range(20)])  # 5000 rows
    pieces = P[P > 0]
    assert pieces.mean() == pytest.approx(1 / 3)
    assert pieces.var() == pytest.approx(1 / 18, rel=0.05)
    share = (P > 0).mean(0)
    assert share == pytest.approx(3 / 50, abs=4.5 * np.sqrt(0.06 * 0.94 / 5000))


def test_the_model_is_a_function_of_model_seed_alone():
    first, again, other = Garnet(model_seed=4), Garnet(model_seed=4), Garnet(model_seed=5)
    assert (first.P == again.P).all() and (first.R == again.R).all()
    assert (first.P != other.P).any()


def test_every_state_can_be_reached_from_every_other():
    for seed in range(20):  # so small that most draws would not do
        assert solvers.diameter(Garnet(num_states=6, num_actions=1, branching=2, model_seed=seed).P) < np.inf
    one_way = np.array([[[0.5, 0.5]], [[0.0, 1.0]]])
    assert not is_communicating(one_way)
    assert is_communicating(np.roll(np.eye(9), 1, axis=1)[:, None])  # a cycle of nine


def test_sampled_moves_have_the_model_s_frequencies():
    envs = GarnetVector(num_envs=20_000, num_states=8, num_actions=2)
    envs.reset(seed=0)
    for s in range(8):
        for action in range(2):
            envs.set_state(s=s)
            obs, reward, *_ = envs.step(np.full(20_000, action))
            p = envs.env.P[s, action]
            share = np.bincount(obs, minlength=8) / 20_000
            assert (np.abs(share - p) <= 4.5 * np.sqrt(p * (1 - p) / 20_000)).all()
            assert (reward == envs.env.R[s, action]).all()


def test_it_starts_in_state_0_and_is_episodic_or_continuing():
    env = Garnet(num_states=8, num_actions=2, max_steps=2)
    obs, info = env.reset(seed=0)
    assert (obs, info) == (0, {"coverage": 1 / 8})
    assert [env.step(1)[2:4] for _ in range(2)] == [(False, False), (False, True)]
    envs = GarnetVector(num_envs=2, num_states=8, num_actions=2, max_steps=None)
    envs.reset(seed=0)
    assert not any((envs.step(np.zeros(2, int))[3]).any() for _ in range(500))


def test_values_of_an_episode():
    env = Garnet(num_states=8, num_actions=2, max_steps=2)
    best = env.R.max(1)
    assert env.optimal_value() == pytest.approx((env.R[0] + env.P[0] @ best).max())
    assert env.random_value() == pytest.approx((env.R[0] + env.P[0] @ env.R.mean(1)).mean())


def test_the_tabular_export_is_the_model_itself():
    env = Garnet(num_states=8, num_actions=2)
    env.reset(seed=1)
    model = env.to_tabular()
    s = model.states["s"]
    assert sorted(s) == list(range(8))
    np.testing.assert_allclose(model.P, env.P[np.ix_(s, range(2), s)], atol=1e-12)
    np.testing.assert_allclose(model.R, env.R[s], atol=1e-12)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(num_states=1), r"num_states must be an integer in \[2, 1000\], got 1"),
        (dict(num_actions=0), r"num_actions must be an integer in \[1, 100\], got 0"),
        (dict(num_states=5, branching=6), r"branching must be an integer in \[1, num_states = 5\], got 6"),
        (dict(model_seed=2**32), r"model_seed must be an integer in \[0, 2\*\*32\), got 4294967296"),
        (dict(num_states=100, num_actions=1, branching=1), "none of 1000 draws had all states within reach"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Garnet(**kwargs)


def test_the_drawing_shows_all_states_and_the_current_one():
    env = Garnet(num_states=8, num_actions=2, render_mode="ansi")
    env.reset(seed=0)
    text = env.render()
    assert text.count("o") == 7 and text.count("@") == 1
