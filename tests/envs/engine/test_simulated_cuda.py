"""`CudaVectorEnv` in numba's simulator, where its tensors are the CPU's. Run by test_cuda.py, with NUMBA_ENABLE_CUDASIM=1."""

import copy
import pickle
from types import SimpleNamespace

import gymnasium as gym
import numba
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from explore_gym.envs import testing

if not numba.config.ENABLE_CUDASIM:
    pytest.skip("runs with NUMBA_ENABLE_CUDASIM=1", allow_module_level=True)

import torch

from explore_gym.envs.engine import KernelEnv, kernel, state_dtype
from explore_gym.envs.engine.cuda import CudaVectorEnv
from explore_gym.envs.engine.device import LAYOUTS
from explore_gym.scripts import gpu_check

N = 5
# Refused actions are found by lanes that others don't wait for, so that these have moved: see the tests below
CHECKS = [name for name in testing.CHECKS if name != "bad_input"]


@kernel
def reset(params, state):
    state.x = 0.0


@kernel
def step(params, state, action):
    state.x += action[0] - action[1]
    return state.x, False


@kernel
def observe(params, state, obs):
    obs[0], obs[1] = state.x, -state.x


class Drift(KernelEnv):
    """Actions and observations are a Box each, and there are no metrics."""

    dynamics = (reset, step, observe)

    def __init__(self):
        super().__init__(
            state=state_dtype(x=np.float64),
            params={},
            observation_space=spaces.Box(-np.inf, np.inf, (2,), np.float64),
            action_space=spaces.Box(-1.0, 1.0, (2,), np.float32),
        )


class OnHost(gym.vector.VectorWrapper):
    """The environment with arrays and strings in place of tensors."""

    def __init__(self, envs):
        super().__init__(envs)
        self.single_observation_space = envs.env.observation_space
        self.observation_space = batch_space(envs.env.observation_space, envs.num_envs)

    def reset(self, **kwargs):
        return self.on_host(self.env.reset(**kwargs))

    def step(self, actions):
        return self.on_host(self.env.step(torch.tensor(actions)))

    def set_state(self, *args, **kwargs):
        return self.on_host(self.env.set_state(*args, **kwargs))

    def get_state(self, lanes=None):
        return self.env.get_state(lanes)

    def fork(self, lanes):
        return OnHost(self.env.fork(lanes))

    @property
    def unwrapped(self):
        return self

    def on_host(self, value, key=None):
        if isinstance(value, dict):
            return {name: self.on_host(part, name) for name, part in value.items()}
        if isinstance(value, tuple):
            return tuple(map(self.on_host, value))
        if key in self.env.texts:
            return tuple(self.env.texts[key][index] for index in value.tolist())
        return value.numpy()


@pytest.fixture(params=LAYOUTS, autouse=True)
def layout(request, monkeypatch):
    monkeypatch.setattr(CudaVectorEnv, "layout", request.param)
    monkeypatch.setattr(CudaVectorEnv, "threads", 2)  # so that 5 lanes are 3 blocks, the last not full
    return request.param


def chain(toy, num_envs=N, **kwargs):
    return toy.ChainVector(num_envs, device="cuda", **kwargs)


@pytest.mark.parametrize("check", CHECKS)
def test_vector_check(toy, check):
    make_single = lambda: toy.Chain(max_steps=6)

    def make_vec(num_envs, autoreset_mode=AutoresetMode.NEXT_STEP, copy=True):
        return OnHost(chain(toy, num_envs, max_steps=6, autoreset_mode=autoreset_mode, copy=copy))

    reason = testing.run_check(check, make_vec, make_single, num_steps=60)
    assert reason in (None, "the factory takes no num_threads")


@pytest.mark.parametrize("mode", AutoresetMode)
def test_equals_the_cpu(toy, mode):
    ours, theirs = OnHost(chain(toy, autoreset_mode=mode, max_steps=6)), toy.ChainVector(N, autoreset_mode=mode, max_steps=6)
    assert testing.difference(ours.reset(seed=9), theirs.reset(seed=9), "reset") is None
    done, episodes = np.zeros(N, bool), 0
    for step in range(40):
        if mode is AutoresetMode.DISABLED and done.any():
            options = {"reset_mask": done}
            found = testing.difference(ours.reset(options=options), theirs.reset(options=options), f"reset {step}")
            assert found is None, found
        actions = np.random.default_rng(step).integers(2, size=N)
        returned = theirs.step(actions)
        assert testing.difference(ours.step(actions), returned, f"step {step}") is None
        done = returned[2] | returned[3]
        episodes += done.sum()
    assert episodes > 10
    assert (ours.get_state() == theirs.get_state()).all()


def test_returns_are_tensors_and_instructions_indices(toy):
    envs = chain(toy, autoreset_mode="SameStep", slip=0.0, length=4)
    envs.reset(seed=0)
    envs.set_state(cell=[0, 1, 2, 0, 2])
    obs, reward, terminated, truncated, info = envs.step(torch.ones(N, dtype=torch.int64))
    assert (reward.dtype, terminated.dtype, truncated.dtype) == (torch.float64, torch.bool, torch.bool)
    assert reward.tolist() == [0.0, 0.0, 1.0, 0.0, 1.0]
    assert terminated.tolist() == [False, False, True, False, True] == info["_final_obs"].tolist()
    assert info["final_obs"]["cell"].tolist() == [1, 2, 3, 1, 3]
    assert info["final_info"]["coverage"].dtype is torch.float64
    assert (obs["onehot"].dtype, obs["onehot"].shape) == (torch.float32, (N, 4))
    assert envs.single_observation_space["hint"] == spaces.Discrete(2)
    assert envs.observation_space["hint"].shape == obs["hint"].shape
    assert [envs.texts["hint"][i] for i in obs["hint"].tolist()] == ["go right" if c < 2 else "go left" for c in obs["cell"]]


def test_states_of_cpu_and_gpu_are_interchangeable(toy):
    ours, theirs = chain(toy, slip=0.5), toy.ChainVector(N, slip=0.5)
    theirs.reset(seed=0)
    obs = ours.set_state(theirs.get_state())
    assert obs["cell"].tolist() == theirs.get_state()["cell"].tolist()
    for _ in range(10):
        ones = np.ones(N, int)
        assert ours.step(torch.tensor(ones))[0]["cell"].tolist() == theirs.step(ones)[0]["cell"].tolist()


def test_copies_are_fresh_and_views_are_not(toy):
    fresh, shared = chain(toy), chain(toy, copy=False)
    kept, held = fresh.reset(seed=1)[0]["onehot"], shared.reset(seed=1)[0]["onehot"]
    before = kept.clone()
    for _ in range(10):
        ones = torch.ones(N, dtype=torch.int64)
        a, b = fresh.step(ones)[0]["onehot"], shared.step(ones)[0]["onehot"]
        assert b.data_ptr() == held.data_ptr() and a.data_ptr() != kept.data_ptr()
        assert torch.equal(a, b)
    assert torch.equal(kept, before)


def test_clones_have_the_same_future(toy):
    envs = chain(toy, slip=0.5)
    envs.reset(seed=0)
    clones = [copy.deepcopy(envs), pickle.loads(pickle.dumps(envs)), envs.fork(range(N))]
    for _ in range(10):
        cells = envs.step(torch.ones(N, dtype=torch.int64))[0]["cell"].tolist()
        for clone in clones:
            assert clone.step(torch.ones(N, dtype=torch.int64))[0]["cell"].tolist() == cells


def test_actions_may_come_from_elsewhere_and_of_any_integer_type(toy):
    envs = chain(toy, slip=0.0, length=9)
    envs.reset(seed=0)
    envs.set_state(cell=[0, 0, 0, 0, 0])
    for actions in ([1] * N, np.ones(N, np.int8), torch.ones(N, dtype=torch.int32)):
        obs = envs.step(actions)[0]
    assert obs["cell"].tolist() == [3] * N


def test_an_action_outside_the_space_moves_no_lane_of_its_own_and_is_raised_later(toy):
    envs = chain(toy, slip=0.0, length=9)
    envs.reset(seed=0)
    envs.set_state(cell=[0] * N)
    reward, terminated = envs.step(torch.tensor([1, 1, 2, 1, -7]))[1:3]
    assert reward.isnan().tolist() == [False, False, True, False, True] and not terminated.any()
    assert envs.step(torch.ones(N, dtype=torch.int64))[0]["cell"].tolist() == [2, 2, 1, 2, 1]
    for ask in (envs.check, envs.get_state, envs.close, envs.reset, lambda: envs.set_state(cell=[0] * N)):
        with pytest.raises(
            gym.error.InvalidAction, match=r"lane 2: action must be an element of Discrete\(2\), got np.int64\(2\)"
        ):
            ask()
        envs.check()  # raised once
        envs.step(torch.tensor([1, 1, 2, 1, -7]))
    with pytest.raises(gym.error.InvalidAction, match="lane 2"):
        envs.check()


def test_actions_of_a_box_bring_no_gradients_along():
    envs = CudaVectorEnv(Drift(), N)
    envs.reset(seed=0)
    actions = torch.full((N, 2), 0.5, requires_grad=True) * torch.tensor([1.0, -0.5])
    obs, reward, *_, info = envs.step(actions)
    assert reward.tolist() == [0.75] * N and obs.tolist() == [[0.75, -0.75]] * N and info == {}
    assert not obs.requires_grad and not reward.requires_grad
    actions = torch.tensor([[1.0, -1.0], [0.0, 1.5], [np.nan, 0.0], [-1.0, 1.0], [0.0, 0.0]])
    obs, reward = envs.step(actions)[:2]
    assert reward.isnan().tolist() == [False, True, True, False, False]
    assert obs[[0, 3, 4], 0].tolist() == [2.75, -1.25, 0.75]
    with pytest.raises(gym.error.InvalidAction, match=r"lane 1: action must be an element of Box.*1\.5"):
        envs.check()


def test_check_raises_in_the_step(toy):
    envs = chain(toy, check=True)
    envs.reset(seed=0)
    with pytest.raises(gym.error.InvalidAction, match="lane 4"):
        envs.step(torch.tensor([1, 1, 0, 1, -7]))
    envs.step(torch.zeros(N, dtype=torch.int64))


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (torch.zeros(N), r"must be integers of shape \(5,\), .* got torch.float32"),
        (torch.zeros(N, dtype=torch.bool), "got torch.bool"),
        (torch.zeros(N - 1, dtype=torch.int64), r"of shape \(4,\)"),
        (np.zeros(N), "must be integers"),
        (None, "must be integers"),
    ],
)
def test_actions_of_another_kind_are_refused_at_once(toy, actions, message):
    envs = chain(toy)
    envs.reset(seed=0)
    with pytest.raises(gym.error.InvalidAction, match=message):
        envs.step(actions)


def test_a_done_lane_stays_without_autoreset(toy):
    envs = chain(toy, autoreset_mode="Disabled", slip=0.0, length=3)
    envs.reset(seed=0)
    envs.set_state(cell=[0, 1, 0, 1, 0])
    envs.step(torch.ones(N, dtype=torch.int64))
    reward = envs.step(torch.ones(N, dtype=torch.int64))[1]
    assert reward.isnan().tolist() == [False, True, False, True, False]
    with pytest.raises(gym.error.ResetNeeded, match=r"lanes \[1, 3\] are done"):
        envs.check()


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (torch.ones(N), TypeError, "bool tensor, got torch.float32"),
        (torch.ones(N - 1, dtype=torch.bool), ValueError, r"shape \(5,\), got shape \(4,\)"),
        (np.zeros(N, bool), ValueError, "at least one True"),
    ],
)
def test_bad_reset_masks_are_named(toy, mask, error, message):
    envs = chain(toy)
    envs.reset(seed=0)
    with pytest.raises(error, match=message):
        envs.reset(options={"reset_mask": mask})


def test_calls_before_the_first_reset_are_refused(toy):
    envs = chain(toy)
    for call in (lambda: envs.step([0] * N), envs.get_state, lambda: envs.set_state(cell=[0] * N)):
        with pytest.raises(gym.error.ResetNeeded):
            call()
    with pytest.raises(gym.error.ResetNeeded, match="first reset must start all lanes"):
        envs.reset(options={"reset_mask": torch.arange(N) < 2})


def test_render_gives_a_frame_per_lane(toy):
    envs = chain(toy, 3, render_mode="ansi", length=4)
    envs.reset(seed=0)
    envs.set_state(cell=[0, 1, 3])
    assert envs.render() == ("A...", ".A..", "...A")


def test_make_vec_and_its_spec(toy):
    envs = gym.make_vec("Toy/Chain-v0", num_envs=3, device="cuda", autoreset_mode="SameStep", length=3)
    again = gym.make_vec(gym.envs.registration.EnvSpec.from_json(envs.spec.to_json()))
    assert isinstance(again, CudaVectorEnv) and again.autoreset_mode is AutoresetMode.SAME_STEP


class Graph:
    """Stands for a CUDA graph: calls the function again, or something else."""

    def __init__(self, function):
        self.replay = function


@pytest.mark.parametrize("mode", AutoresetMode)
def test_the_check_of_graphs(monkeypatch, mode):
    monkeypatch.setattr(gpu_check, "capture", Graph)
    assert "reach the same 2 states" in gpu_check.replay_policy(mode, num_envs=2, num_steps=3)["found"]
    monkeypatch.setattr(gpu_check, "capture", lambda function: Graph(lambda: None))
    with pytest.raises(AssertionError, match=r"states differ in .* after 3 replays"):
        gpu_check.replay_policy(mode, num_envs=2, num_steps=3)


def test_what_is_measured(monkeypatch, layout):
    needs = SimpleNamespace(attributes=SimpleNamespace(num_regs=40, local_size_bytes=8))
    monkeypatch.setattr(gpu_check, "capture", lambda function, warm_up: Graph(function))
    monkeypatch.setattr(gpu_check, "steps_per_second", lambda play, *args: play() and 2.5e6)
    monkeypatch.setattr(CudaVectorEnv, "kernel", lambda self, name: needs)
    row = gpu_check.measure("Explore/RiverSwim-v0", 3, 0.1, layout, threads=2)
    assert (row["id"], row["num_envs"], row["layout"], row["threads"]) == ("Explore/RiverSwim-v0", 3, layout, 2)
    assert (row["graph_per_second"], row["registers"], row["local_bytes"]) == (2.5e6, 40, 8)
    assert row["found"].startswith("2.5 M/s in a graph, 2.5 M/s by single calls; 40 registers, 8 B local, state")
