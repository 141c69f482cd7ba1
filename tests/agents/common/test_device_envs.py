"""Environments on the device, which numba's simulator takes the place of: there these tests run once more, and others first."""

import json
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
import torch

from explore_gym.agents import common, global_episodic_bonus, ppo, ppo_rnn, rdd

SIMULATED = bool(numba.config.ENABLE_CUDASIM)
in_simulator = pytest.mark.skipif(not SIMULATED, reason="runs with NUMBA_ENABLE_CUDASIM=1")
ROOMS = dict(env="Explore/FourRooms-v0", env_kwargs='{"size": 7, "max_steps": 6}', num_envs=4)
SWIM = dict(env="Explore/RiverSwim-v0", env_kwargs='{"max_steps": 5}', num_envs=3)


def run_of(folder, **settings):
    args = common.Args(**{**ROOMS, **settings}, run_dir=str(folder), device="cpu", quiet=True)
    return common.start(args, "agents/test.py")


@pytest.mark.skipif(SIMULATED, reason="starts the simulator")
@pytest.mark.slow
def test_in_the_simulator():
    pytest.importorskip("numba_cuda")
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout and "skipped" in done.stdout


@pytest.mark.skipif(SIMULATED, reason="the simulator takes the place of a GPU")
def test_without_a_gpu_environments_are_on_the_host(tmp_path):
    assert isinstance(run_of(tmp_path).make_envs(4, on_device=True), common.TorchVectorEnv)


@in_simulator
@pytest.mark.parametrize("settings", [ROOMS, SWIM])
def test_tells_the_same_story_as_on_the_host(tmp_path, settings):
    run = run_of(tmp_path, **settings)
    host, device = run.make_envs(run.args.num_envs), run.make_envs(run.args.num_envs, on_device=True)
    assert isinstance(device, common.DeviceVectorEnv)
    assert (device.layout, device.num_actions, device.obs_dtype) == (host.layout, host.num_actions, host.obs_dtype)
    assert torch.equal(device.reset(seed=3), host.reset(seed=3))
    ended = 0
    for _ in range(20):
        assert torch.equal(device.starts, host.starts)
        action = torch.randint(host.num_actions, (host.num_envs,))
        obs, reward, terminated, truncated, info = host.step(action)
        ours = device.step(action)
        assert torch.equal(ours[0], obs) and torch.equal(device.obs, obs)
        assert torch.equal(device.reward, reward) and torch.equal(ours[1], reward)
        assert torch.equal(ours[2], terminated) and torch.equal(ours[3], truncated)
        done = terminated | truncated
        assert torch.equal(ours[4]["final_obs"][done], info["final_obs"])
        assert torch.equal(ours[4]["final_obs"][~done], obs[~done])
        ended += int(done.sum())
    assert ended > 0
    theirs = host.episode_metrics()
    assert device.episode_metrics() == pytest.approx(theirs)
    assert theirs["episode_length"] <= json.loads(settings["env_kwargs"])["max_steps"]
    assert device.episode_metrics() == {}


@in_simulator
def test_a_snapshot_goes_on_as_before(tmp_path):
    run = run_of(tmp_path)
    first, second = (run.make_envs(4, on_device=True) for _ in range(2))
    actions = torch.randint(first.num_actions, (12, 4))
    first.reset(seed=1)
    for action in actions[:5]:
        first.step(action)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for action in actions[5:]:
        for mine, theirs in zip(first.step(action)[:4], second.step(action)[:4]):
            assert torch.equal(mine, theirs)
    assert first.episode_metrics() == second.episode_metrics() != {}
    assert np.array_equal(first.worlds.get_state(), second.worlds.get_state())


@in_simulator
def test_other_modes_and_worlds_for_several_stay_on_the_host(tmp_path):
    for number, settings in enumerate((dict(autoreset_mode="NextStep"), dict(env="Explore/XLand-Tag-v0", env_kwargs="{}"))):
        envs = run_of(tmp_path / str(number), **settings).make_envs(4, on_device=True)
        assert isinstance(envs, common.TorchVectorEnv)


@in_simulator
@pytest.mark.parametrize(
    ("agent", "settings"),
    [
        (ppo, {}),
        (ppo, dict(**SWIM, num_minibatches=3)),
        (ppo_rnn, {}),
        (ppo_rnn, dict(memory="lstm", scale_rewards=True)),
        (rdd, dict(arm="rdd", warmup_rollouts=1)),
        (rdd, dict(arm="count", env="Explore/MazeRooms-v0", env_kwargs='{"max_steps": 6}')),
        (global_episodic_bonus, dict(arm="e3b")),
        (global_episodic_bonus, dict(arm="e3b_noveld", released_shift=True)),
    ],
)
def test_agents_learn_the_same_on_the_device(tmp_path, agent, settings, monkeypatch):
    def train(name):
        sizes = dict(num_steps=8, num_epochs=2, num_minibatches=2, hidden=16, total_timesteps=3 * 8 * 4, learning_rate=1e-2)
        args = agent.Args(**{**ROOMS, **sizes, **settings}, run_dir=str(tmp_path / name), device="cpu", quiet=True)
        agent.train(args)
        rows = common.read_metrics(tmp_path / name / "metrics.jsonl")
        return [{key: x for key, x in row.items() if key not in ("time", "sps")} for row in rows]

    given = []
    monkeypatch.setattr(common, "captured", lambda function, device: given.append(device) or function)
    on_device = train("device")
    assert given == [torch.device("cpu")]  # the whole iteration would be a graph
    make = common.Run.make_envs
    monkeypatch.setattr(common.Run, "make_envs", lambda run, num_envs, on_device=False: make(run, num_envs))
    on_host = train("host")
    assert len(on_device) >= 3
    for ours, theirs in zip(on_device, on_host):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
