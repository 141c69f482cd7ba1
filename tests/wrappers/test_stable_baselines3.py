import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

pytest.importorskip("stable_baselines3")
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor

import explore_gym  # noqa: F401
from explore_gym.wrappers.stable_baselines3 import StableBaselines3VecEnv


def batch(env_id="Explore/RiverSwim-v0", num_envs=3, **kwargs):
    return StableBaselines3VecEnv(gym.make_vec(env_id, num_envs=num_envs, autoreset_mode="SameStep", **kwargs))


@pytest.mark.parametrize(
    ("env_id", "kwargs"), [("Explore/RiverSwim-v0", {"max_steps": 5}), ("Explore/FourRooms-v0", {"observation": "image"})]
)
def test_equals_stable_baselines3s_own_vector_environment(env_id, kwargs):
    """Seeded alike: the same observations, rewards, ends and infos, also where episodes end."""
    ours, theirs = batch(env_id, **kwargs), make_vec_env(env_id, n_envs=3, env_kwargs=kwargs)
    ours.seed(7), theirs.seed(7)
    assert np.array_equal(ours.reset(), theirs.reset())
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(250):
        actions = rng.integers(ours.action_space.n, size=3)
        obs, rewards, dones, infos = ours.step(actions)
        their_obs, their_rewards, their_dones, their_infos = theirs.step(actions)
        assert np.array_equal(obs, their_obs)
        assert np.array_equal(rewards, their_rewards)
        assert rewards.dtype == their_rewards.dtype == np.float32
        assert np.array_equal(dones, their_dones)
        for info, their_info in zip(infos, their_infos):
            their_info.pop("episode", None)  # of the Monitor that make_vec_env puts around each
            assert info.keys() == their_info.keys()
            assert all(np.array_equal(info[key], their_info[key]) for key in info)
        assert ours.reset_infos == theirs.reset_infos
        ends += dones.sum()
    assert ends >= 6


def test_a_cut_by_time_is_told_from_an_end():
    envs = batch(max_steps=2)  # RiverSwim never terminates
    envs.reset()
    assert [info["TimeLimit.truncated"] for info in envs.step([1, 1, 1])[3]] == [False] * 3
    infos = envs.step([0, 0, 0])[3]
    assert [info["TimeLimit.truncated"] for info in infos] == [True] * 3
    assert [info["terminal_observation"] in (0, 1) for info in infos] == [True] * 3
    envs = batch("Explore/DeepSea-v0", size=2)
    envs.reset()
    envs.step([0, 0, 0])
    infos = envs.step([0, 0, 0])[3]
    assert [info["TimeLimit.truncated"] for info in infos] == [False] * 3  # the dive is over


def test_dict_observations_and_gymnasiums_own_batches():
    class Pair(gym.Env):
        observation_space = gym.spaces.Dict(x=gym.spaces.Box(0, 9, (2,)), t=gym.spaces.Discrete(9))
        action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            self.t = 0
            return self.obs(), {}

        def step(self, action):
            self.t += 1
            return self.obs(), 1.0, self.t == 2, False, {"double": 2 * self.t}

        def obs(self):
            return {"x": np.full(2, self.t, np.float32), "t": self.t}

    own = gym.vector.SyncVectorEnv([Pair, Pair], autoreset_mode=AutoresetMode.SAME_STEP)
    envs = StableBaselines3VecEnv(own)
    envs.reset()
    envs.step([0, 0])
    obs, _, dones, infos = envs.step([0, 0])
    assert dones.tolist() == [True, True]
    assert obs["t"].tolist() == [0, 0]
    assert infos[1]["terminal_observation"]["x"].tolist() == [2.0, 2.0]
    assert infos[1]["double"] == 4


def test_stable_baselines3_learns_and_evaluates_with_it():
    envs = VecMonitor(batch("Explore/RiverSwim-v0", num_envs=4, max_steps=5))
    model = DQN("MlpPolicy", envs, learning_starts=50, train_freq=4, seed=0, device="cpu").learn(400)
    assert len(model.ep_info_buffer) == 80  # 400 steps in episodes of 5
    mean, _ = evaluate_policy(model, envs, n_eval_episodes=8)
    assert 0.0 <= mean <= 5.0


def test_what_is_asked_of_a_batch():
    envs = batch()
    assert envs.get_attr("num_envs", indices=[0, 2]) == [3, 3]
    assert envs.env_is_wrapped(gym.Wrapper) == [False] * 3
    with pytest.raises(AttributeError):
        envs.get_attr("colour")
    with pytest.raises(ValueError, match=r"colour cannot be set for \[1\] alone"):
        envs.set_attr("colour", "red", indices=[1])
    envs.set_attr("colour", "red")
    assert envs.get_attr("colour") == ["red"] * 3
    with pytest.raises(NotImplementedError, match="a batch has no environment to call compute_reward of"):
        envs.env_method("compute_reward")
    envs.set_options([{"a": 1}, {}, {}])
    with pytest.raises(ValueError, match="options must be the same for all environments"):
        envs.reset()


def test_what_is_refused():
    with pytest.raises(ValueError, match=r'autoreset_mode="SameStep", got AutoresetMode.NEXT_STEP'):
        StableBaselines3VecEnv(gym.make_vec("Explore/RiverSwim-v0", num_envs=2))
    with pytest.raises(ValueError, match=r'takes no text, but the observations have mission: .* observation="image"'):
        batch("Explore/FourRooms-v0")
