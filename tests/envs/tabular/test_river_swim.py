import numpy as np
import pytest

from explore_gym.envs.tabular.river_swim import RiverSwim, RiverSwimVector

LEFT, RIGHT = 0, 1


def test_the_smallest_river_is_the_table_of_the_source():
    env = RiverSwim(size=3)
    assert env.P[:, LEFT].tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert env.P[:, RIGHT].tolist() == [[0.4, 0.6, 0], [0.05, 0.6, 0.35], [0, 0.4, 0.6]]
    assert env.R.tolist() == [[0.005, 0], [0, 0], [0, 1]]


def test_it_starts_at_the_left_end_and_pays_at_both_ends():
    envs = RiverSwimVector(num_envs=12)
    obs, _ = envs.reset(seed=0)
    assert (obs == 0).all()
    envs.set_state(s=np.repeat(np.arange(6), 2))
    _, reward, terminated, truncated, _ = envs.step(np.tile([LEFT, RIGHT], 6))
    assert reward.tolist() == [0.005, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert not (terminated | truncated).any()


@pytest.mark.parametrize(
    ("s", "following"),
    [
        (0, {0: 0.4, 1: 0.6}),
        (1, {0: 0.05, 1: 0.6, 2: 0.35}),
        (4, {3: 0.05, 4: 0.6, 5: 0.35}),
        (5, {4: 0.4, 5: 0.6}),
    ],
)
def test_right_moves_with_the_probabilities_of_the_source(s, following):
    envs = RiverSwimVector(num_envs=20_000)
    envs.reset(seed=s)
    envs.set_state(s=s)
    obs = envs.step(np.full(20_000, RIGHT))[0]
    assert set(obs) == set(following)
    for target, probability in following.items():
        sigma = np.sqrt(probability * (1 - probability) / 20_000)
        assert (obs == target).mean() == pytest.approx(probability, abs=4 * sigma)
    envs.set_state(s=s)
    assert (envs.step(np.full(20_000, LEFT))[0] == max(s - 1, 0)).all()


def test_an_episode_is_truncated_after_max_steps_and_a_continuing_one_never():
    env = RiverSwim()
    env.reset(seed=1)
    ends = [env.step(RIGHT)[2:4] for _ in range(20)]
    assert ends == [(False, False)] * 19 + [(False, True)]
    envs = RiverSwimVector(num_envs=4, max_steps=None)
    envs.reset(seed=1)
    for _ in range(1000):
        _, _, terminated, truncated, _ = envs.step(np.full(4, RIGHT))
        assert not (terminated | truncated).any()


def test_coverage_is_the_share_of_positions_visited_in_the_episode():
    env = RiverSwim(size=4)
    assert env.reset(seed=2)[1]["coverage"] == 0.25
    seen = {0}
    for _ in range(20):
        obs, _, _, truncated, info = env.step(RIGHT)
        seen.add(int(obs))
        assert info["coverage"] == len(seen) / 4
    assert truncated
    assert len(seen) > 1
    assert env.reset()[1]["coverage"] == 0.25


def test_optimal_and_random_value_of_short_episodes():
    # two steps are too few for the large reward: stay, 2 * 0.005
    assert RiverSwim(size=3, max_steps=2).optimal_value() == pytest.approx(0.01)
    # three steps: right, and right again if at 1 (0.05 * 0.005 + 0.35 * 1), else stay (2 * 0.005)
    assert RiverSwim(size=3, max_steps=3).optimal_value() == pytest.approx(0.4 * 0.01 + 0.6 * 0.35025)
    # two random steps: 0.0025 at once; then at 0 with (1 + 0.4) / 2
    assert RiverSwim(size=3, max_steps=2).random_value() == pytest.approx(0.0025 + 0.7 * 0.0025)
    # a shorter time limit counts
    assert RiverSwim(size=3, max_steps=20, max_episode_steps=2).optimal_value() == pytest.approx(0.01)
    with pytest.raises(ValueError, match="continuing"):
        RiverSwim(max_steps=None).optimal_value()


def test_uniformly_random_actions_earn_the_random_value():
    num_envs, rng = 20_000, np.random.default_rng(3)
    envs = RiverSwimVector(num_envs=num_envs, max_steps=60)
    envs.reset(seed=3)
    total = sum(envs.step(rng.integers(2, size=num_envs))[1] for _ in range(60))
    assert total.mean() == pytest.approx(envs.env.random_value(), abs=4 * total.std() / np.sqrt(num_envs))


def test_the_optimal_gain_is_that_of_swimming_right_for_ever():
    # detailed balance for size 3: 0.6 p0 = 0.05 p1 and 0.35 p1 = 0.4 p2, so p ~ (1, 12, 10.5); reward 0.6 + 0.4 = 1 at 2
    assert RiverSwim(size=3, max_steps=None).optimal_gain() == pytest.approx(10.5 / 23.5, abs=1e-8)
    envs = RiverSwimVector(num_envs=4000, max_steps=None)
    envs.reset(seed=4)
    envs.set_state(s=5)
    total = np.zeros(4000)
    for step in range(300):
        reward = envs.step(np.full(4000, RIGHT))[1]
        total += reward if step >= 100 else 0.0
    gains = total / 200
    assert gains.mean() == pytest.approx(envs.env.optimal_gain(), abs=4 * gains.std() / np.sqrt(4000))


@pytest.mark.parametrize("size", [3, 6])
def test_the_tabular_export_is_the_model_itself(size):
    env = RiverSwim(size=size)
    env.reset(seed=5)
    model = env.to_tabular()
    s = model.states["s"]
    assert sorted(s) == list(range(size))
    np.testing.assert_allclose(model.P, env.P[np.ix_(s, [LEFT, RIGHT], s)], atol=1e-12)
    np.testing.assert_allclose(model.R, env.R[s], atol=1e-12)
    assert not model.terminated.any()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(size=2), r"size must be an integer in \[3, 1000\], got 2"),
        (dict(size="6"), "got '6'"),
        (dict(max_steps=0), "max_steps must be a positive integer or None, got 0"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        RiverSwim(**kwargs)


def test_the_drawing_shows_the_swimmer_and_the_large_reward():
    env = RiverSwim(size=5, render_mode="ansi")
    env.reset(seed=6)
    env.set_state(s=2)
    assert env.render() == "~~@~$"
