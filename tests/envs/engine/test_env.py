"""`KernelEnv`: Gymnasium's contract, state as data, and clear errors."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env


def rollout(env, actions):
    return [env.step(a) for a in actions]


def same(a, b):
    return all(np.array_equal(x["onehot"], y["onehot"]) and x["hint"] == y["hint"] for x, y in zip(a, b, strict=True))


def test_passes_gymnasiums_checker(toy):
    check_env(gym.make("Toy/Chain-v0", render_mode="rgb_array").unwrapped)


def test_a_step_by_hand(toy):
    env = toy.Chain(length=3, slip=0.0)
    env.reset(seed=0)
    env.set_state(cell=1, visited=[0, 1] + [0] * 7, count=1)
    obs, reward, terminated, truncated, info = env.step(1)
    assert obs["onehot"].tolist() == [0.0, 0.0, 1.0] and obs["cell"] == 2 and obs["hint"] == "go left"
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info["visited"] == 2 and info["coverage"] == 2 / 3 and info["home"] is False
    assert info["map"].tolist() == [0.0, 1.0, 1.0]


def test_types_are_gymnasiums(toy):
    env = toy.Chain()
    obs, info = env.reset(seed=np.int64(3))
    assert env.observation_space.contains(obs)
    _, reward, terminated, truncated, info = env.step(np.array(0))
    assert type(reward) is float and type(terminated) is bool and type(truncated) is bool
    assert [type(info[k]) for k in ("visited", "coverage", "home")] == [int, float, bool]


@pytest.mark.parametrize(
    ("kwargs", "limit"), [({}, 20), ({"max_steps": 3}, 3), ({"max_episode_steps": 7}, 7), ({"max_steps": None}, None)]
)
def test_the_clock_truncates(toy, kwargs, limit):
    env = toy.Chain(slip=0.0, **kwargs)
    env.reset(seed=1)
    flags = [env.step(0)[2:4] for _ in range(limit or 100)]
    assert flags[:-1] == [(False, False)] * (len(flags) - 1)
    assert flags[-1] == (False, limit is not None)


def test_reset_without_seed_continues_the_stream(toy):
    env, twin = toy.Chain(length=9), toy.Chain(length=9)
    firsts = [env.reset(seed=5)[0]["cell"]] + [env.reset()[0]["cell"] for _ in range(30)]
    assert firsts == [twin.reset(seed=5)[0]["cell"]] + [twin.reset()[0]["cell"] for _ in range(30)]
    assert len(set(firsts)) > 3


def test_two_environments_without_seed_differ(toy):
    assert toy.Chain().reset() is not None
    words = []
    for _ in range(2):
        env = toy.Chain()
        env.reset()
        words.append(int(env.get_state()["rng"]))
    assert words[0] != words[1]


def test_a_restored_state_has_the_same_future(toy):
    env = toy.Chain(length=9, slip=0.3, max_steps=None)
    env.reset(seed=2)
    rollout(env, [1, 0, 1])
    snapshot = env.get_state()
    first = [o for o, *_ in rollout(env, [1, 0, 0, 1, 0])]
    obs = env.set_state(snapshot)
    assert obs["cell"] == snapshot["cell"]
    assert same(first, [o for o, *_ in rollout(env, [1, 0, 0, 1, 0])])


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["deepcopy", "pickle"])
def test_a_clone_has_the_same_future_and_is_independent(toy, clone):
    env = toy.Chain(length=9, slip=0.3, max_steps=None)
    env.reset(seed=2)
    env.step(1)
    other = clone(env)
    assert same([o for o, *_ in rollout(env, [1, 0, 0])], [o for o, *_ in rollout(other, [1, 0, 0])])
    other.step(0)
    assert other.get_state()["t"] == env.get_state()["t"] + 1


def test_fork_starts_every_lane_here(toy):
    env = toy.Chain(length=9, slip=0.5, max_steps=None)
    env.reset(seed=2)
    envs, seeded = env.fork(64), env.fork(64, seed=1)
    env.set_state(cell=4), envs.set_state(cell=4), seeded.set_state(cell=4)
    obs, *_ = envs.step(np.ones(64, int))
    assert (obs["cell"] == env.step(1)[0]["cell"]).all()
    assert len(np.unique(seeded.step(np.ones(64, int))[0]["cell"])) == 2


def test_an_ended_episode_must_be_reset(toy):
    env = toy.Chain(max_steps=1)
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(gym.error.ResetNeeded, match="after the episode's end"):
        env.step(0)


@pytest.mark.parametrize("action", [2, -1, 0.5, 1.0, True, "left", None, [0], np.array([0]), np.nan])
def test_an_action_outside_the_space_is_named(toy, action):
    env = toy.Chain()
    env.reset(seed=0)
    before = env.get_state()
    with pytest.raises(gym.error.InvalidAction, match=r"element of Discrete\(2\), got"):
        env.step(action)
    assert env.get_state() == before


@pytest.mark.parametrize("call", ["step", "get_state", "set_state", "to_tabular", "fork", "render"])
def test_everything_needs_a_first_reset(toy, call):
    env = toy.Chain(render_mode="ansi")
    args = {"step": (0,), "fork": (2,)}.get(call, ())
    with pytest.raises(gym.error.ResetNeeded, match="before"):
        getattr(env, call)(*args)


@pytest.mark.parametrize("seed", [-1, 1.5, "7", 2**64, True])
def test_a_bad_seed_is_named(toy, seed):
    with pytest.raises(ValueError, match=r"seed must be None or an integer"):
        toy.Chain().reset(seed=seed)


def test_bad_constructor_arguments_are_named(toy):
    with pytest.raises(ValueError, match=r"length must lie in \[2, 9\], got 12"):
        toy.Chain(length=12)
    with pytest.raises(TypeError, match=r"Chain got an unexpected keyword argument 'size' \(expected one of length, slip"):
        gym.make("Toy/Chain-v0", size=3)
    with pytest.raises(ValueError, match="max_steps must be a positive integer or None, got 0"):
        toy.Chain(max_steps=0)
    with pytest.raises(ValueError, match="render_mode must be None or one of"):
        toy.Chain(render_mode="hologram")


def test_bad_states_are_named(toy):
    env, other = toy.Chain(), np.zeros((), [("x", np.int64)])
    env.reset(seed=0)
    with pytest.raises(ValueError, match="state must have the dtype"):
        env.set_state(other)
    with pytest.raises(ValueError, match="state has no field 'velocity'"):
        env.set_state(velocity=1)


def test_render_shows_the_agent(toy):
    text = toy.Chain(length=5, render_mode="ansi")
    text.reset(seed=0)
    text.set_state(cell=3)
    assert text.render() == "...A."
    pixels = toy.Chain(length=5, render_mode="rgb_array")
    pixels.reset(seed=0)
    pixels.set_state(cell=3)
    frame = pixels.render()
    assert frame.dtype == np.uint8 and frame.shape == (128, 640, 3)
    assert frame[64, 448].tolist() == [200, 40, 40] and frame[64, 64].tolist() != [200, 40, 40]


def test_a_window_shows_the_same_frames(toy, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = gym.make("Toy/Chain-v0", render_mode="human")
    env.reset(seed=0)
    assert env.render() is None
    env.step(1)
    env.close()
