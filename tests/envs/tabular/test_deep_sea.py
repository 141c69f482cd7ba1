import numpy as np
import pytest

from explore_gym.envs.tabular.deep_sea import DeepSea, DeepSeaVector


def rollout(env, actions):
    env.reset(seed=0)
    steps = [env.step(action) for action in actions]
    return [list(column) for column in zip(*steps)]


def test_always_right_pays_every_move_and_finds_the_treasure():
    env = DeepSea(size=4, randomize_actions=False)
    obs, rewards, terminated, truncated, infos = rollout(env, [1, 1, 1, 1])
    assert [np.argwhere(o).tolist() for o in obs] == [[[1, 1]], [[2, 2]], [[3, 3]], []]  # nothing below the last row
    assert rewards == pytest.approx([-0.0025, -0.0025, -0.0025, 0.9975])
    assert sum(rewards) == pytest.approx(0.99)
    assert terminated == [False, False, False, True]
    assert truncated == [False] * 4
    assert [info["treasure"] for info in infos] == [False, False, False, True]
    assert not infos[-1]["bad_episode"]


def test_left_is_free_stays_inside_and_spoils_the_episode_only_on_the_diagonal():
    env = DeepSea(size=4, randomize_actions=False)
    _, rewards, terminated, _, infos = rollout(env, [0, 1, 1, 1])
    assert rewards == pytest.approx([0.0, -0.0025, -0.0025, -0.0025])
    assert [(info["row"], info["column"]) for info in infos] == [(1, 0), (2, 1), (3, 2), (4, 3)]
    assert [info["bad_episode"] for info in infos] == [True] * 4
    assert terminated[-1]
    env.reset()
    env.set_state(row=2, column=1)
    assert not env.step(0)[4]["bad_episode"]  # already off the diagonal


def test_move_cost_is_an_argument():
    assert sum(rollout(DeepSea(size=5, randomize_actions=False, unscaled_move_cost=0.5), [1] * 5)[1]) == pytest.approx(0.5)


class SlowDeepSea:
    """The deterministic rules as published, one Python statement each; the reference for parity."""

    def __init__(self, size, mapping):
        self.size, self.mapping, self.row, self.column = size, mapping, 0, 0

    def step(self, action):
        reward = 0.0
        if action == self.mapping[self.row][self.column]:
            if self.column == self.size - 1:
                reward = reward + 1.0
            reward = reward - 0.01 / self.size
            self.column = min(self.size - 1, self.column + 1)
        else:
            self.column = max(0, self.column - 1)
        self.row = self.row + 1
        obs = np.zeros((self.size, self.size))
        if self.row < self.size:
            obs[self.row, self.column] = 1.0
        return obs, reward, self.row == self.size


@pytest.mark.parametrize("size", [2, 20])
def test_parity_with_a_slow_reference_under_bsuite_s_action_mapping(size):
    mapping = np.random.RandomState(7).binomial(1, 0.5, [size, size])
    env, rng = DeepSea(size=size, mapping_seed=7), np.random.default_rng(1)
    for episode in range(100):
        reference = SlowDeepSea(size, mapping)
        env.reset(seed=episode)
        terminated = False
        while not terminated:
            # to the right with 0.9, so that both corners are reached
            right = mapping[reference.row, reference.column]
            action = int(right if rng.random() < 0.9 else 1 - right)
            obs, reward, terminated, _, _ = env.step(action)
            expected_obs, expected_reward, expected_terminated = reference.step(action)
            assert (obs == expected_obs).all()
            assert (reward, terminated) == (expected_reward, expected_terminated)


def test_the_mapping_depends_on_mapping_seed_alone():
    first, other = DeepSea(mapping_seed=3), DeepSea(mapping_seed=4)
    assert (first.mapping == DeepSea(mapping_seed=3).mapping).all()
    assert 20 < (first.mapping != other.mapping).sum() < 80
    obs = [rollout(first, [0] * 10)[0], rollout(first, [0] * 10)[0]]
    first.reset(seed=99)
    assert np.array_equal(obs[0][0], first.step(0)[0])


def test_in_a_continuing_sea_the_diver_is_back_at_the_top_after_every_dive():
    env = DeepSea(size=3, randomize_actions=False, continuing=True)
    obs, rewards, terminated, truncated, infos = rollout(env, [1, 1, 1, 0, 1, 1, 1])
    assert [np.argwhere(o).tolist() for o in obs] == [[[1, 1]], [[2, 2]], [[0, 0]], [[1, 0]], [[2, 1]], [[0, 0]], [[1, 1]]]
    assert rewards[2] == pytest.approx(1 - 0.01 / 3)
    assert not any(terminated) and not any(truncated)
    assert [info["treasure"] for info in infos] == [False, False, True, False, False, False, False]
    assert [info["bad_episode"] for info in infos] == [False, False, False, True, True, True, False]
    model = env.to_tabular()
    assert len(model.states) == 6
    assert not model.terminated.any()


def test_the_wind_holds_right_back_with_probability_one_over_size():
    envs = DeepSeaVector(num_envs=20_000, size=5, deterministic=False, randomize_actions=False)
    envs.reset(seed=2)
    for column in (0, 2, 3):
        envs.set_state(row=3, column=column, t=3, done=False)
        _, reward, _, _, info = envs.step(np.ones(20_000, int))
        assert set(info["column"]) == {column, column + 1}
        assert (info["column"] == column).mean() == pytest.approx(0.2, abs=4 * np.sqrt(0.2 * 0.8 / 20_000))
        assert reward == pytest.approx(-0.002)
        envs.set_state(row=3, column=column, t=3, done=False)
        assert (envs.step(np.zeros(20_000, int))[4]["column"] == max(column - 1, 0)).all()  # left never fails


@pytest.mark.parametrize(("column", "action", "mean"), [(0, 0, 0.0), (0, 1, -0.002), (4, 0, 0.0), (4, 1, 0.998)])
def test_reward_noise_is_standard_normal_in_the_two_corners(column, action, mean):
    envs = DeepSeaVector(num_envs=20_000, size=5, deterministic=False, randomize_actions=False)
    envs.reset(seed=3)
    envs.set_state(row=4, column=column)
    reward = envs.step(np.full(20_000, action))[1]
    assert reward.mean() == pytest.approx(mean, abs=4 / np.sqrt(20_000))
    assert reward.std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * 20_000))


@pytest.mark.parametrize(("row", "column"), [(4, 1), (4, 3), (3, 0), (2, 2)])
def test_there_is_no_reward_noise_elsewhere(row, column):
    envs = DeepSeaVector(num_envs=100, size=5, deterministic=False, randomize_actions=False)
    envs.reset(seed=4)
    envs.set_state(row=row, column=column)
    assert (envs.step(np.zeros(100, int))[1] == 0).all()


def test_optimal_value():
    assert DeepSea().optimal_value() == pytest.approx(0.99)
    assert DeepSea(size=50, unscaled_move_cost=0.2).optimal_value() == pytest.approx(0.8)
    assert DeepSea(unscaled_move_cost=2.0).optimal_value() == 0.0  # then it is better to stay left
    # size 3: c = 0.01 / 3, right works with 2/3 and one goes on only while on the diagonal:
    # 2/3 (2/3 (1 - c) - c) - c = 4/9 - 19/9 c
    assert DeepSea(size=3, deterministic=False).optimal_value() == pytest.approx(4 / 9 - 19 / 9 * 0.01 / 3)


def test_the_optimal_policy_earns_the_optimal_value_of_the_stochastic_variant():
    num_envs, size = 40_000, 5
    envs = DeepSeaVector(num_envs=num_envs, size=size, deterministic=False)
    _, info = envs.reset(seed=5)
    total = np.zeros(num_envs)
    for row in range(size):
        on_path = info["column"] == row
        right = envs.env.mapping[row, info["column"]]
        _, reward, terminated, _, info = envs.step(np.where(on_path, right, 1 - right))
        total += reward
    assert terminated.all()
    assert total.mean() == pytest.approx(envs.env.optimal_value(), abs=4 * total.std() / np.sqrt(num_envs))


@pytest.mark.parametrize("deterministic", [True, False])
def test_uniformly_random_actions_earn_the_random_value(deterministic):
    num_envs, size = 40_000, 5
    envs = DeepSeaVector(num_envs=num_envs, size=size, deterministic=deterministic)
    envs.reset(seed=6)
    rng, total = np.random.default_rng(7), np.zeros(num_envs)
    for _ in range(size):
        _, reward, _, _, info = envs.step(rng.integers(2, size=num_envs))
        total += reward
    if deterministic:  # all five actions right with 2^-5, half a move per step
        assert envs.env.random_value() == pytest.approx(1 / 32 - 0.005)
        assert info["treasure"].mean() == pytest.approx(1 / 32, abs=4 * np.sqrt(1 / 32 / num_envs))
    assert total.mean() == pytest.approx(envs.env.random_value(), abs=4 * total.std() / np.sqrt(num_envs))


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_tabular_export_is_the_analytic_model(deterministic):
    size = 4
    env = DeepSea(size=size, deterministic=deterministic, mapping_seed=1)
    env.reset(seed=8)
    model = env.to_tabular()
    cells = list(zip(model.states["row"].tolist(), model.states["column"].tolist()))
    assert sorted(cells) == [(row, column) for row in range(size) for column in range(row + 1)]
    P, R, ends = np.zeros((10, 2, 10)), np.zeros((10, 2)), np.zeros((10, 2))
    for s, (row, column) in enumerate(cells):
        right, left = int(env.mapping[row, column]), 1 - int(env.mapping[row, column])
        R[s, right] = -0.0025 + (column == size - 1)
        if row == size - 1:
            ends[s] = 1.0
            continue
        P[s, left, cells.index((row + 1, max(column - 1, 0)))] += 1.0
        P[s, right, cells.index((row + 1, column + 1))] += 1.0 if deterministic else 0.75
        P[s, right, cells.index((row + 1, column))] += 0.0 if deterministic else 0.25
    np.testing.assert_allclose(model.P, P, atol=1e-12)
    np.testing.assert_allclose(model.R, R, atol=1e-12)
    np.testing.assert_array_equal(model.terminated, ends)
    assert model.optimal_values()[0] == pytest.approx(env.optimal_value())


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(size=1), r"size must be an integer in \[2, 200\], got 1"),
        (dict(size=201), "got 201"),
        (dict(size=10.0), r"got 10\.0"),
        (dict(unscaled_move_cost=-0.1), r"unscaled_move_cost must be finite and >= 0, got -0\.1"),
        (dict(unscaled_move_cost=float("inf")), "got inf"),
        (dict(mapping_seed=-1), "mapping_seed must be an integer"),
        (dict(mapping_seed=None), "got None"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        DeepSea(**kwargs)


def test_the_drawing_shows_diver_and_treasure():
    env = DeepSea(size=3, randomize_actions=False, render_mode="ansi")
    env.reset(seed=9)
    env.step(1)
    assert env.render() == ".\n.@\n..$"
