import ctypes
import shutil

import numpy as np
import pytest
from minigrid.envs.fourrooms import FourRoomsEnv
from parity import assert_same_law, minigrid_layouts, our_layouts, play
from scipy import stats

from explore_gym.envs.gridworlds.four_rooms import FourRooms, FourRoomsVector
from explore_gym.envs.gridworlds.grid import EAST, EMPTY, FORWARD, GREEN_GOAL, GREY_WALL, SOUTH, TURN_LEFT, TURN_RIGHT
from explore_gym.scripts.yardsticks import load


def test_random_steps_are_minigrids():
    assert play(FourRooms(), FourRoomsEnv(), num_steps=3000, seed=1)["episodes"] >= 30


@pytest.mark.slow
def test_a_hundred_thousand_random_steps_are_minigrids():
    events = play(FourRooms(), FourRoomsEnv(), num_steps=100_000)
    assert events["success"] > 20
    assert events["truncated"] > 500


def test_gaps_and_positions_are_distributed_as_minigrids():
    ours = our_layouts(FourRoomsVector, 4000, seed=1)
    for wall in (ours.grid[:, :, 9], ours.grid[:, 9, :]):
        for first, last in ((1, 9), (10, 18)):
            gaps = wall[:, first:last] != GREY_WALL
            assert np.all(gaps.sum(1) == 1)
            assert stats.chisquare(gaps.sum(0)).pvalue > 1e-3
    assert np.all((ours.grid != GREY_WALL).sum((1, 2)) == 16 * 16 + 4)
    assert np.all((ours.grid == GREEN_GOAL).sum((1, 2)) == 1)
    assert np.all(ours.grid[np.arange(4000), ours.row, ours.col] == EMPTY)
    assert_same_law(ours, minigrid_layouts(FourRoomsEnv(), 1500))


def test_reward_falls_with_the_time_that_the_goal_takes():
    env = FourRooms(agent_pos=(2, 2), goal_pos=(4, 2), max_steps=50)
    env.reset(seed=0)
    env.set_state(direction=EAST)
    assert env.step(FORWARD)[1:4] == (0.0, False, False)
    _, reward, terminated, truncated, info = env.step(FORWARD)
    assert reward == pytest.approx(1 - 0.9 * 2 / 50)
    assert (terminated, truncated, info["success"]) == (True, False, True)


def test_the_clock_truncates_without_reward():
    env = FourRooms(max_steps=3)
    env.reset(seed=0)
    results = [env.step(TURN_LEFT)[1:4] for _ in range(3)]
    assert results == [(0.0, False, False), (0.0, False, False), (0.0, False, True)]


def test_metrics_count_distinct_cells():
    env = FourRooms(size=9, agent_pos=(1, 1), goal_pos=(7, 7))
    _, info = env.reset(seed=0)
    assert info == dict(
        cell=10, visited=1, first_visit=0, coverage=1 / 40, success=False, context=-1
    )  # 4 rooms of 3x3 and 4 gaps
    env.set_state(direction=EAST)
    for action in (FORWARD, TURN_LEFT, TURN_LEFT, FORWARD, TURN_LEFT, FORWARD):  # east, back west, then south
        info = env.step(action)[4]
    assert (info["cell"], info["visited"], info["coverage"]) == (19, 3, 3 / 40)


def test_fixed_positions():
    for seed in range(20):
        env = FourRooms(agent_pos=(3, 12), goal_pos=(16, 1))
        env.reset(seed=seed)
        state = env.get_state()
        assert (state["row"], state["col"]) == (12, 3)
        assert np.argwhere(state["grid"] == GREEN_GOAL).tolist() == [[1, 16]]


def test_contexts_are_as_many_as_asked_for_and_the_same_for_all_lanes():
    def episodes(seed, **kwargs):
        envs = FourRoomsVector(num_envs=200, **kwargs)
        _, info = envs.reset(seed=seed)
        state = envs.get_state()
        found = {}
        for context, record in zip(info["context"].tolist(), state, strict=True):
            episode = (record["grid"].tobytes(), int(record["row"]), int(record["col"]), int(record["direction"]))
            assert found.setdefault(context, episode) == episode
        return found

    first = episodes(0, num_contexts=4)
    assert sorted(first) == [0, 1, 2, 3]
    assert len(set(first.values())) == 4
    assert episodes(77, num_contexts=4) == first
    assert episodes(0, num_contexts=2) == {c: first[c] for c in (0, 1)}
    assert set(episodes(0, num_contexts=4, layout_seed=1).values()).isdisjoint(first.values())


def test_a_fresh_episode_each_time_without_contexts():
    env = FourRooms()
    env.reset(seed=0)
    grids = set()
    for _ in range(50):
        _, info = env.reset()
        grids.add(env.get_state()["grid"].tobytes())
        assert info["context"] == -1
    assert len(grids) == 50


def test_contexts_leave_the_lanes_random_stream_alone():
    env = FourRooms(num_contexts=3)
    env.reset(seed=5)
    contexts = [env.reset()[1]["context"] for _ in range(300)]
    assert stats.chisquare(np.bincount(contexts)).pvalue > 1e-3


def test_image_observation_is_the_image():
    images, dicts = FourRooms(observation="image"), FourRooms()
    assert images.observation_space == dicts.observation_space["image"]
    np.testing.assert_array_equal(images.reset(seed=4)[0], dicts.reset(seed=4)[0]["image"])
    np.testing.assert_array_equal(images.step(TURN_RIGHT)[0], dicts.step(TURN_RIGHT)[0]["image"])


def test_states_of_the_model_are_poses():
    env = FourRooms(size=5, agent_pos=(1, 1), goal_pos=(3, 3))
    env.reset(seed=0)
    model = env.to_tabular()
    assert len(model.states) == 28  # (4 rooms of one cell + 4 gaps - the goal) x 4 directions; what was visited is no state
    env.set_state(direction=SOUTH)
    values = env.to_tabular().optimal_values(horizon=5)
    assert values[0] == pytest.approx(1 - 0.9 / 100)  # 2 south, turn left, 2 east; the model's clock stands still
    assert env.to_tabular().optimal_values(horizon=4)[0] == 0.0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(size=18), r"size must be an odd integer in \[5, 255\], got 18"),
        (dict(size=3), "got 3"),
        (dict(size=257), "got 257"),
        (dict(size=19.0), "got 19.0"),
        (dict(num_contexts=0), "num_contexts must be an integer in .*, got 0"),
        (dict(layout_seed=-1), "layout_seed must be an integer in .*, got -1"),
        (dict(agent_pos=7), "agent_pos must be .*, got 7"),
        (dict(agent_pos=(9, 3)), r"agent_pos must be .*, got \(9, 3\)"),
        (dict(goal_pos=(0, 3)), r"goal_pos must be .*, got \(0, 3\)"),
        (dict(agent_pos=(2, 2), goal_pos=(2, 2)), "must differ"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        FourRooms(**kwargs)


@pytest.mark.parametrize("size", [5, 7, 33])
def test_sizes(size):
    env = FourRooms(size=size)
    env.reset(seed=0)
    grid = env.get_state()["grid"]
    assert grid.shape == (size, size)
    assert (grid != GREY_WALL).sum() == (size - 3) ** 2 + 4


@pytest.mark.skipif(shutil.which("gcc") is None and shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("defines", [(), ("KEEP_VIEW",)])
def test_the_c_loop_of_the_yardstick_follows_the_same_trajectory(defines):
    library, num_envs, rng = load("four_rooms", *defines), 64, np.random.default_rng(0)
    envs = FourRoomsVector(num_envs=num_envs)
    envs.reset(seed=3)
    state = envs.get_state()
    obs, infos = envs.env.observations.empty(num_envs), envs.env.metrics.empty(num_envs)
    assert (library.state_size(), library.obs_size(), library.info_size()) == (state.itemsize, obs.itemsize, infos.itemsize)
    reward, terminated, truncated = np.empty(num_envs), np.empty(num_envs, bool), np.empty(num_envs, bool)

    def pointer(array):
        return ctypes.c_void_p(array.ctypes.data)

    for _ in range(350):
        action = rng.choice(7, num_envs, p=[0.15, 0.15, 0.5, 0.05, 0.05, 0.05, 0.05])
        outputs = [pointer(array) for array in (obs, reward, terminated, truncated, infos)]
        library.step(ctypes.c_int64(num_envs), pointer(state), pointer(action), ctypes.c_int64(100), *outputs)
        expected, expected_reward, expected_terminated, expected_truncated, expected_infos = envs.step(action)
        np.testing.assert_array_equal(obs["image"].reshape(num_envs, 7, 7, 3), expected["image"])
        np.testing.assert_array_equal(obs["direction"], expected["direction"])
        np.testing.assert_allclose(reward, expected_reward, rtol=1e-15)  # the C compiler fuses the multiplication
        np.testing.assert_array_equal(terminated, expected_terminated)
        np.testing.assert_array_equal(truncated, expected_truncated)
        for name in infos.dtype.names:
            np.testing.assert_array_equal(infos[name], expected_infos[name])
