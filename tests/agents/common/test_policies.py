import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
import torch

from explore_gym.agents import common, ppo, rdd
from explore_gym.scripts import record

SIZES = dict(num_envs=4, num_steps=16, total_timesteps=128, quiet=True, hidden=8)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A PPO run on the whole FourRooms observation: a dict with a text in it."""
    path = tmp_path_factory.mktemp("runs") / "ppo"
    ppo.train(ppo.Args(env="Explore/FourRooms-v0", env_kwargs='{"size": 9}', run_dir=str(path), **SIZES))
    return path


@pytest.fixture
def damaged(run_dir, tmp_path):
    return shutil.copytree(run_dir, tmp_path / "damaged")


def test_actions_are_drawn_with_the_probabilities_of_the_trained_agent(run_dir):
    policy = common.load_policy(run_dir)
    envs = gym.make_vec("Explore/FourRooms-v0", num_envs=1, size=9)
    obs, _ = envs.reset(seed=0)
    many = {key: np.repeat(x, 20_000, 0) if isinstance(x, np.ndarray) else x * 20_000 for key, x in obs.items()}
    actions = policy(many)
    assert actions.dtype == np.int64
    assert actions.shape == (20_000,)
    args = ppo.Args(env="Explore/FourRooms-v0", **SIZES)
    agent = ppo.Agent(common.TorchVectorEnv(envs), args)
    agent.load_state_dict(common.read_checkpoint(run_dir / "checkpoint.pt")["state/agent"])
    rows = common.TorchVectorEnv(envs).rows(obs)
    probabilities = agent(rows)[0].softmax(-1).detach().numpy()[0]
    assert np.bincount(actions, minlength=len(probabilities)) / 20_000 == pytest.approx(probabilities, abs=0.014)


def test_actions_are_numbered_as_the_environment_numbers_them(tmp_path):
    class Offset(gym.Env):
        observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        action_space = gym.spaces.Discrete(3, start=5)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.zeros(2, np.float32), {}

        def step(self, action):
            assert self.action_space.contains(action), action
            return np.zeros(2, np.float32), 0.0, True, False, {}

    gym.register("Offset-v0", Offset)
    try:
        ppo.train(ppo.Args(env="Offset-v0", run_dir=str(tmp_path / "run"), **SIZES))
        actions = common.load_policy(tmp_path / "run")(np.zeros((200, 2), np.float32))
    finally:
        del gym.registry["Offset-v0"]
    assert set(actions.tolist()) == {5, 6, 7}


def test_a_run_of_rdd_is_loaded_with_its_own_agent(tmp_path):
    maze = dict(warmup_rollouts=1, calibration_interval=64)
    rdd.train(rdd.Args(env="Explore/MazeRooms-v0", run_dir=str(tmp_path / "run"), **SIZES, **maze))
    envs = gym.make_vec("Explore/MazeRooms-v0", num_envs=3)
    obs, _ = envs.reset(seed=0)
    envs.step(common.load_policy(str(tmp_path / "run"))(obs))


def test_a_trained_run_is_recorded(run_dir, tmp_path):
    paths = record.run(record.Args(run_dir=run_dir, steps=5, out=tmp_path / "trained"))
    assert [path.name for path in paths] == ["trained.gif", "trained.png"]
    assert all(path.stat().st_size > 100 for path in paths)


def test_a_directory_without_a_run_is_named(tmp_path):
    with pytest.raises(common.UsageError, match=r"run_dir must hold a run, but there is no .*config\.json"):
        common.load_policy(tmp_path)


def test_a_missing_and_a_damaged_checkpoint_are_named(damaged):
    checkpoint = damaged / "checkpoint.pt"
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 255
    checkpoint.write_bytes(content)
    with pytest.raises(common.UsageError, match=r"checkpoint\.pt is damaged"):
        common.load_policy(damaged)
    checkpoint.unlink()
    with pytest.raises(common.UsageError, match=r"there is no checkpoint .*checkpoint\.pt"):
        common.load_policy(damaged)


def test_a_checkpoint_of_another_network_is_named(damaged):
    change(damaged, hidden=9)
    with pytest.raises(common.UsageError, match=r"(?s)checkpoint\.pt does not fit this program: .*size mismatch"):
        common.load_policy(damaged)


@pytest.mark.parametrize("changed", [{"agent": "nobody"}, {"agent": 3}, {"num_steps": 0}, {"wings": 2}])
def test_a_config_of_no_known_run_is_named(damaged, changed):
    change(damaged, **changed)
    with pytest.raises(common.UsageError, match=r"config\.json does not describe a run"):
        common.load_policy(damaged)


@pytest.mark.parametrize("text", ["", "[]", '{"args": 1}', "{}"])
def test_a_damaged_config_is_named(damaged, text):
    (damaged / "config.json").write_text(text)
    with pytest.raises(common.UsageError, match=r"config\.json does not describe a run"):
        common.load_policy(damaged)


def change(run_dir, **changed):
    content = json.loads((run_dir / "config.json").read_text())
    content["args"].update(changed)
    (run_dir / "config.json").write_text(json.dumps(content))


def test_loading_leaves_the_random_numbers_of_the_caller_alone(run_dir):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    common.load_policy(run_dir)
    assert torch.equal(torch.rand(3), expected)
