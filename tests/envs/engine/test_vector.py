"""`KernelVectorEnv`: equal to single environments and to Gymnasium's SyncVectorEnv, with clear errors."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

N = 5


def assert_equal(ours, theirs):
    if isinstance(theirs, dict):
        for key in theirs:
            assert_equal(ours[key], theirs[key])
    elif isinstance(theirs, tuple):
        for a, b in zip(ours, theirs, strict=True):
            assert_equal(a, b)
    else:
        np.testing.assert_array_equal(ours, theirs)
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_equals_gymnasiums_sync_vector_env(toy, mode):
    ours = toy.ChainVector(N, autoreset_mode=mode, max_steps=6)
    theirs = SyncVectorEnv([lambda: toy.Chain(max_steps=6)] * N, autoreset_mode=mode)
    assert_equal(ours.reset(seed=9), theirs.reset(seed=9))
    rng, episodes = np.random.default_rng(0), 0
    done = np.zeros(N, bool)
    for _ in range(100):
        if mode is AutoresetMode.DISABLED and done.any():
            assert_equal(*(e.reset(options={"reset_mask": done.copy()}) for e in (ours, theirs)))
        actions = rng.integers(2, size=N)
        (*flow, info), (*flow_theirs, info_theirs) = ours.step(actions), theirs.step(actions)
        for a, b in zip(flow, flow_theirs, strict=True):
            assert_equal(a, b)
        done = flow[2] | flow[3]
        episodes += done.sum()
        final_obs, final_info = info_theirs.pop("final_obs", None), info_theirs.pop("final_info", None)
        masks = {k: info_theirs.pop(k) for k in ("_final_obs", "_final_info") if k in info_theirs}
        assert_equal(info, info_theirs)
        for key, mask in masks.items():
            assert_equal(info[key], mask)
        for lane in np.flatnonzero(done) if final_obs is not None else ():
            assert_equal(info["final_obs"]["onehot"][lane], final_obs[lane]["onehot"])
            assert info["final_obs"]["hint"][lane] == final_obs[lane]["hint"]
            assert {k: info["final_info"][k][lane].tolist() for k in ("visited", "map")} == {
                k: final_info[k][lane].tolist() for k in ("visited", "map")
            }
    assert episodes > 20


def test_final_obs_is_dense(toy):
    envs = toy.ChainVector(N, autoreset_mode="SameStep", slip=0.0, length=4)
    envs.reset(seed=0)
    envs.set_state(cell=[0, 1, 2, 0, 2])
    obs, _, terminated, _, info = envs.step(np.ones(N, int))
    assert terminated.tolist() == [False, False, True, False, True] == info["_final_obs"].tolist()
    assert info["final_obs"]["cell"].tolist() == [1, 2, 3, 1, 3]
    assert obs["cell"][~terminated].tolist() == [1, 2, 1]
    assert info["final_info"]["visited"][terminated].tolist() != [] and (info["visited"][terminated] == 1).all()


@pytest.mark.parametrize("num_threads", [1, 2])
def test_buffers_are_fresh_or_shared_as_asked(toy, num_threads):
    fresh = toy.ChainVector(N, num_threads=num_threads, autoreset_mode="SameStep")
    shared = toy.ChainVector(N, num_threads=num_threads, autoreset_mode="SameStep", copy=False)
    kept, held = fresh.reset(seed=1)[0]["onehot"], shared.reset(seed=1)[0]["onehot"]
    before = kept.copy()
    for _ in range(30):
        a, b = fresh.step(np.ones(N, int)), shared.step(np.ones(N, int))
        assert_equal(b[0]["onehot"], a[0]["onehot"])
        assert b[0]["onehot"].base is not None and np.shares_memory(b[0]["onehot"], held)
        assert not np.shares_memory(a[0]["onehot"], kept)
    assert_equal(kept, before)


def test_threads_give_the_same_lanes(toy):
    one, two = toy.ChainVector(300), toy.ChainVector(300, num_threads=2)
    assert_equal(one.reset(seed=3)[0]["onehot"], two.reset(seed=3)[0]["onehot"])
    for _ in range(30):
        actions = np.random.default_rng(1).integers(2, size=300)
        (a, ra, *_), (b, rb, *_) = one.step(actions), two.step(actions)
        assert_equal(a["onehot"], b["onehot"]), assert_equal(ra, rb)


def test_an_unseeded_batch_has_different_lanes(toy):
    envs = toy.ChainVector(8)
    envs.reset()
    assert len(np.unique(envs.get_state()["rng"])) == 8


def test_a_list_of_seeds_is_one_per_lane(toy):
    envs, single = toy.ChainVector(3), toy.Chain()
    obs, _ = envs.reset(seed=[4, None, 2**63])
    assert obs["cell"][0] == single.reset(seed=4)[0]["cell"] and obs["cell"][2] == single.reset(seed=2**63)[0]["cell"]


def test_a_partial_reset_leaves_the_others_alone(toy):
    envs = toy.ChainVector(N, autoreset_mode="Disabled", max_steps=None)
    envs.reset(seed=0)
    before = envs.get_state()
    options = {"reset_mask": np.array([True, False, False, True, False])}
    envs.reset(seed=7, options=options)
    after = envs.get_state()
    assert (before == after).tolist()[1:3] == [True, True] and before[4] == after[4] and before[0] != after[0]
    assert options["reset_mask"].tolist() == [True, False, False, True, False]
    assert after["rng"][3] == toy_rng(toy, 7 + 3)


def toy_rng(toy, seed):
    env = toy.Chain()
    env.reset(seed=seed)
    return env.get_state()["rng"]


def test_state_by_lane_round_trip(toy):
    envs = toy.ChainVector(N, max_steps=None)
    envs.reset(seed=0)
    saved = envs.get_state([1, 3])
    trajectory = [envs.step(np.ones(N, int))[0]["cell"][[1, 3]].tolist() for _ in range(5)]
    obs = envs.set_state(saved, lanes=[1, 3])
    assert obs["cell"][[1, 3]].tolist() == saved["cell"].tolist()
    assert trajectory == [envs.step(np.ones(N, int))[0]["cell"][[1, 3]].tolist() for _ in range(5)]


def test_fork_and_clones_have_the_same_future(toy):
    envs = toy.ChainVector(N, slip=0.5)
    envs.reset(seed=0)
    clones = [copy.deepcopy(envs), pickle.loads(pickle.dumps(envs)), envs.fork(range(N))]
    for _ in range(20):
        cells = envs.step(np.ones(N, int))[0]["cell"]
        for clone in clones:
            assert_equal(clone.step(np.ones(N, int))[0]["cell"], cells)


def test_render_gives_a_frame_per_lane(toy):
    envs = toy.ChainVector(3, render_mode="ansi", length=4)
    envs.reset(seed=0)
    envs.set_state(cell=[0, 1, 3])
    assert envs.render() == ("A...", ".A..", "...A")


def test_make_vec_and_its_spec(toy):
    envs = gym.make_vec("Toy/Chain-v0", num_envs=3, autoreset_mode="SameStep", max_episode_steps=4, length=3)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP and envs.env.time_limit == 4
    again = gym.make_vec(gym.envs.registration.EnvSpec.from_json(envs.spec.to_json()))
    assert again.num_envs == 3 and again.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.array([0, 1, 2, 0, 0]), r"lane 2: action must be an element of Discrete\(2\), got .*2"),
        (np.array([0, 1, 0, 0, -(2**40)]), "lane 4"),
        (np.zeros(N), "must be integers of shape"),
        (np.zeros(N - 1, int), r"shape \(5,\)"),
        (np.zeros((N, 1), int), r"shape \(5,\)"),
        (0, r"shape \(5,\)"),
        (None, "must be integers"),
        (["left"] * N, "must be integers"),
    ],
)
def test_bad_actions_are_named_and_move_no_lane(toy, actions, message):
    envs = toy.ChainVector(N)
    envs.reset(seed=0)
    before = envs.get_state()
    with pytest.raises(gym.error.InvalidAction, match=message):
        envs.step(actions)
    assert (envs.get_state() == before).all()


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        ([True] * N, TypeError, "bool array, got list"),
        (np.ones(N, int), TypeError, "got int64"),
        (np.ones(N - 1, bool), ValueError, r"shape \(5,\)"),
        (np.zeros(N, bool), ValueError, "at least one True"),
    ],
)
def test_bad_reset_masks_are_named(toy, mask, error, message):
    envs = toy.ChainVector(N)
    envs.reset(seed=0)
    with pytest.raises(error, match=message):
        envs.reset(options={"reset_mask": mask})


def test_a_done_lane_cannot_be_stepped_without_autoreset(toy):
    envs = toy.ChainVector(N, autoreset_mode="Disabled", slip=0.0, length=3)
    envs.reset(seed=0)
    envs.set_state(cell=[0, 1, 0, 1, 0])
    envs.step(np.ones(N, int))
    with pytest.raises(gym.error.ResetNeeded, match=r"lanes \[1, 3\] are done"):
        envs.step(np.ones(N, int))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_envs": 0}, "num_envs must be a positive integer, got 0"),
        ({"num_envs": 2.0}, "got 2.0"),
        ({"num_threads": 0}, r"num_threads must be an integer in \[1, "),
        ({"num_threads": 10_000}, "got 10000"),
        ({"autoreset_mode": "Never"}, r"autoreset_mode must be one of \['NextStep', 'SameStep', 'Disabled'\], got 'Never'"),
    ],
)
def test_bad_constructor_arguments_are_named(toy, kwargs, message):
    with pytest.raises(ValueError, match=message):
        toy.ChainVector(**kwargs)


def test_unknown_arguments_lanes_and_seeds_are_named(toy):
    with pytest.raises(TypeError, match="Chain got an unexpected keyword argument 'size'"):
        toy.ChainVector(3, size=4)
    envs = toy.ChainVector(3)
    with pytest.raises(gym.error.ResetNeeded):
        envs.step(np.zeros(3, int))
    for seed in (-1, 1.5, [1, 2], "abc", 2**64 - 1):
        with pytest.raises(ValueError, match="seed must be"):
            envs.reset(seed=seed)
    envs.reset(seed=0)
    for lanes in ([3], [-1], [0.5]):
        with pytest.raises(ValueError, match=r"lanes must be integers in \[0, 3\)"):
            envs.get_state(lanes)
    with pytest.raises(ValueError, match="state must hold 3 records"):
        envs.set_state(envs.get_state([0, 1]))
