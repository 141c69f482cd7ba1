"""What holds for every wrapper, on this suite's vector environments and on Gymnasium's SyncVectorEnv."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import explore_gym
from explore_gym import wrappers
from explore_gym.envs import testing
from explore_gym.wrappers.lanes import LaneRandom, LaneWrapper, lane_seeds, overwritten

MODES = tuple(AutoresetMode)
ID, KWARGS = "Explore/FourRooms-v0", dict(max_steps=7)
WRAPPERS = {
    "VisitCounts": lambda envs: wrappers.VisitCounts(envs, bonus="product", coef=0.5, shared=False),
    "VisitCounts, function": lambda envs: wrappers.VisitCounts(
        envs, key=lambda obs, info: np.asarray(obs["direction"]) + 4 * info["cell"], bonus="episodic", shared=False
    ),
    "RandomTV, region": lambda envs: wrappers.RandomTV(envs, 0.7, region=np.s_[:, :2], key="image"),
    "RandomTV, size": lambda envs: wrappers.RandomTV(envs, 0.7, size=1, key="image"),
    "ControllableTV": lambda envs: wrappers.ControllableTV(envs, 6, region=np.s_[2:5], key="image", low=0, high=10),
    "StickyActions": lambda envs: wrappers.StickyActions(envs, 0.5),
    "BrownianDistractors": lambda envs: wrappers.BrownianDistractors(envs, 3, sigma=0.4),
    "StepCounter": lambda envs: wrappers.StepCounter(envs, 7),
    "MessageFeatures, ids": lambda envs: wrappers.MessageFeatures(envs, "visited", 10),
    "MessageFeatures, texts": lambda envs: wrappers.MessageFeatures(envs, "mission", ["flee", "reach the goal"]),
    "ExplorationStatistics": lambda envs: wrappers.ExplorationStatistics(envs),
    "DelayReward": lambda envs: wrappers.DelayReward(wrappers.VisitCounts(envs, bonus="episodic", shared=False), 3),
    "SparseReward": lambda envs: wrappers.SparseReward(wrappers.VisitCounts(envs, bonus="episodic", shared=False), 2),
    "MetaEpisodes": lambda envs: wrappers.MetaEpisodes(envs, 3),
    "stack": lambda envs: wrappers.StepCounter(
        wrappers.BrownianDistractors(wrappers.MetaEpisodes(wrappers.StickyActions(envs), 2, features=()))
    ),
}
GLOBAL = ("VisitCounts", "DelayReward", "SparseReward")  # remember, in what they return, what was before a reset
cases = pytest.mark.parametrize("name", WRAPPERS)


def make_single():
    return gym.make(ID, disable_env_checker=True, **KWARGS)


def native(name):
    return lambda num_envs, **kwargs: WRAPPERS[name](gym.make_vec(ID, num_envs=num_envs, **KWARGS, **kwargs))


def sync(name):
    def make_vec(num_envs, autoreset_mode=AutoresetMode.NEXT_STEP):
        return WRAPPERS[name](SyncVectorEnv([make_single] * num_envs, autoreset_mode=autoreset_mode))

    return make_vec


def test_every_wrapper_is_tried():
    names = {name.split(",")[0] for name in WRAPPERS}
    assert set(wrappers.__all__) <= names and explore_gym is not None


@cases
def test_lanes_do_not_depend_on_their_number(name):
    testing.check_num_envs(native(name), num_steps=30)


@cases
def test_a_lane_is_a_batch_of_one(name):
    batch = testing.player(native(name), num_steps=20, seed=8)
    events = batch.play(20)
    for i in range(3):
        one = testing.player(native(name), 1, seed=None)
        one.tapes = [batch.tapes[i]]
        one.reset(seed=8 + i)
        testing.assert_equal([events[i]], one.play(20), "in the batch", "in a batch of one")


@cases
def test_all_autoreset_modes_give_the_same_transitions(name):
    assert testing.check_autoreset_modes(native(name), num_steps=30) is None


@cases
@pytest.mark.parametrize("mode", MODES)
def test_equals_on_sync_vector_env(name, mode):
    ours, theirs = (testing.play(make(name), num_steps=20, seed=4, autoreset_mode=mode) for make in (native, sync))
    testing.assert_equal(ours, theirs, "natively", "on SyncVectorEnv")


@cases
@pytest.mark.parametrize("make", [native, sync])
def test_infos_have_gymnasiums_form(name, make):
    testing.check_infos(make(name), num_steps=20)


@cases
def test_a_partial_reset_concerns_its_lanes_alone(name):
    testing.check_partial_reset(native(name), num_steps=10)


@cases
def test_what_is_returned_stays_as_it_is(name):
    testing.check_buffers(native(name), num_steps=20)


@pytest.mark.parametrize("name", ["VisitCounts", "RandomTV, size", "StickyActions", "MetaEpisodes", "stack"])
def test_what_is_refused_changes_nothing(name):
    testing.check_bad_input(native(name), num_steps=10)


@pytest.mark.parametrize("name", [name for name in WRAPPERS if name.split(",")[0] not in GLOBAL])
def test_a_seed_fixes_the_run(name):
    testing.check_determinism(native(name), num_steps=30)


@cases
def test_observations_lie_in_the_declared_space(name):
    p = testing.player(native(name), autoreset_mode=AutoresetMode.SAME_STEP, num_steps=20)
    space = p.envs.single_observation_space
    assert p.envs.observation_space == gym.vector.utils.batch_space(space, p.envs.num_envs)
    for events in p.play(20):
        assert all(space.contains(single(space, event.observation)) for event in events)


def single(space, obs):
    """An element of `space`, with the arrays of dtype int64 that batches of Discrete are."""
    return {key: part if isinstance(space[key], spaces.Text) else np.asarray(part) for key, part in obs.items()}


@cases
def test_reused_buffers_give_the_same_numbers(name):
    usual, reused = (testing.play(native(name), num_steps=40, copy=copy) for copy in (True, False))
    testing.assert_equal(usual, reused, "by default", "with copy=False")


@pytest.mark.parametrize("name", [name for name in WRAPPERS if name != "VisitCounts, function"])
def test_a_pickled_wrapper_goes_on_as_before(name):
    p = testing.player(native(name), num_steps=20)
    p.play(10)
    envs = pickle.loads(pickle.dumps(p.envs))
    for _ in range(10):
        action = p.next_action()
        found = testing.difference(envs.step(action), p.step(), "returned")
        assert found is None, found


def test_the_wrapped_environment_must_be_a_batch():
    with pytest.raises(ValueError, match=r"env must be a gymnasium.vector.VectorEnv \(see gym.make_vec\), got OrderEnforcing"):
        LaneWrapper(make_single())


def test_the_autoreset_mode_must_be_known(line):
    envs = line()
    del envs.metadata["autoreset_mode"]
    with pytest.raises(ValueError, match=r"env.metadata\['autoreset_mode'\] must be an AutoresetMode, got None"):
        LaneWrapper(envs)


def test_metadata_is_not_shared(line):
    envs = LaneWrapper(line(mode="SameStep"))
    line(mode="Disabled")
    envs.env.metadata["autoreset_mode"] = AutoresetMode.DISABLED
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


def test_random_numbers_are_uniform_and_normal_and_used_up_by_skip():
    random = LaneRandom(200, stream=1)
    random.seed(list(range(200)), np.ones(200, bool))
    u, z = random.uniform(500), random.normal(500)
    assert u.min() >= 0 and u.max() < 1
    assert u.mean() == pytest.approx(1 / 2, abs=5e-3) and u.var() == pytest.approx(1 / 12, abs=2e-3)  # 5 sd of the mean: 4.6e-3
    assert z.mean() == pytest.approx(0, abs=0.016) and z.var() == pytest.approx(1, abs=0.023)  # 5 standard deviations each
    assert abs(np.corrcoef(u[:-1].ravel(), u[1:].ravel())[0, 1]) < 0.016
    random.skip(np.arange(200) == 7, 3)
    after = random.uniform(497)
    assert (after[7] == u[7, 3:]).all() and (after[8] == u[8, :497]).all()


def test_streams_differ_between_wrappers_of_one_stack(line):
    inner = wrappers.BrownianDistractors(line(), 1)
    outer = wrappers.BrownianDistractors(inner, 1)
    outer.reset(seed=0)
    obs, *_ = outer.step([1])
    assert outer.single_observation_space.shape == (4,) and obs[0, 2] != obs[0, 3]


def test_seeds_of_lanes():
    assert lane_seeds(3, 2) == [3, 4] and lane_seeds(None, 2) == [None, None] and lane_seeds([5, None], 2) == [5, None]
    for bad in (-1, 0.5, "ab", [1], [1, -1], True):
        with pytest.raises(ValueError, match="seed"):
            lane_seeds(bad, 2)


def test_infos_are_merged_lane_by_lane():
    lanes = np.array([True, False])
    old = {"a": np.array([1, 2]), "_a": np.array([True, True]), "d": {"x": np.array([1.0, 2.0]), "_x": lanes}, "_d": lanes}
    new = {"b": np.array(["p", None], object), "_b": lanes, "a": np.array([7, 8]), "_a": lanes}
    merged = overwritten(old, new, lanes)
    assert merged["a"].tolist() == [7, 2] and merged["_a"].tolist() == [True, True]
    assert merged["b"].tolist() == ["p", None] and merged["_b"].tolist() == [True, False]
    assert merged["d"]["x"].tolist() == [0.0, 2.0] and merged["_d"].tolist() == [False, False]


def test_added_components_name_the_clash():
    envs = gym.make_vec(ID, num_envs=1, **KWARGS)
    with pytest.raises(ValueError, match="the observation has a key 'mission' already"):
        wrappers.MessageFeatures(envs, "mission", 3)


def test_an_observation_that_is_no_vector_becomes_a_dict():
    envs = wrappers.StepCounter(gym.make_vec("Explore/RiverSwim-v0", num_envs=2))
    assert envs.single_observation_space == spaces.Dict(
        {"observation": spaces.Discrete(6), "steps": spaces.Box(0.0, np.inf, (1,), np.float32)}
    )
    obs, _ = envs.reset(seed=0)
    assert obs["observation"].tolist() == [0, 0] and obs["steps"].tolist() == [[0.0], [0.0]]
