import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from explore_gym.agents import common, ppo

MODES = [mode.value for mode in AutoresetMode]


class Counter(gym.Env):
    """Counts its steps; odd ids terminate after 3 of them, even ids are truncated after 4. Rewards are the count."""

    observation_space = spaces.Box(-100, 100, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, number):
        self.number, self.episode = number, 0

    def reset(self, *, seed=None, options=None):
        self.count, self.episode = 0, self.episode + 1
        return self._obs(), {}

    def step(self, action):
        self.count += 1
        odd = self.number % 2 == 1
        ended = self.count == (3 if odd else 4)
        info = {"progress": self.count / 4, "success": odd and ended, "steps": self.count}
        return self._obs(), float(self.count), odd and ended, not odd and ended, info

    def _obs(self):
        return np.array([self.number + 10 * self.episode, self.count], np.float32)


class ScriptedAgent(torch.nn.Module):
    """Values 10 * episode + count, logits that prefer action 1; act says always 1."""

    def forward(self, obs):
        return torch.tensor([0.25, 0.75]).log().expand(len(obs), 2), obs[:, 0] + obs[:, 1] / 7

    def act(self, obs, noise):
        return torch.ones(len(obs), dtype=torch.long)


def play(mode, num_steps):
    envs = SyncVectorEnv([lambda i=i: Counter(i) for i in range(3)], autoreset_mode=AutoresetMode(mode))
    envs = common.TorchVectorEnv(envs)
    envs.reset(seed=0)
    agent = ScriptedAgent()
    b = ppo.rollout(agent, agent.act, envs, ppo.make_buffer(envs, num_steps))
    b["advantages"] = ppo.gae(
        b["rewards"], b["values"], b["next_values"], b["terminated"], b["done"], gamma=0.9, gae_lambda=0.8
    )
    return b, envs


def transitions(b, lane, count):
    valid = b["valid"][:, lane]
    return {key: b[key][:, lane][valid][:count] for key in ("obs", "rewards", "terminated", "done", "next_values")}


def test_same_transitions_in_every_autoreset_mode():
    same, next_step, disabled = (play(mode, 24)[0] for mode in ("SameStep", "NextStep", "Disabled"))
    assert same["valid"].all()
    assert disabled["valid"].all()
    assert (~next_step["valid"]).sum() == 6 + 4 + 4  # one in four steps of lane 1, one in five of the others
    for lane in range(3):
        expected = transitions(same, lane, 18)
        for other in (next_step, disabled):
            for key, value in transitions(other, lane, 18).items():
                assert torch.equal(value, expected[key]), (lane, key)


def test_same_gae_targets_in_every_autoreset_mode():
    targets = {}
    for mode in MODES:
        b, _ = play(mode, 40)
        for lane in range(3):
            valid = b["valid"][:, lane]
            length = 3 if lane % 2 else 4
            whole_episodes = length * 7  # seven of them are over within 40 steps in every mode
            targets[mode, lane] = b["advantages"][:, lane][valid][:whole_episodes]
    for mode in MODES[1:]:
        for lane in range(3):
            assert torch.equal(targets[mode, lane], targets[MODES[0], lane]), (mode, lane)


@pytest.mark.parametrize("mode", MODES)
def test_truncated_episode_bootstraps_from_its_last_observation(mode):
    b, _ = play(mode, 4)
    # lane 2, first episode: the fourth step reaches count 4 and is cut by the clock; V = 12 + 4 / 7 there
    assert b["next_values"][3, 2].item() == pytest.approx(12 + 4 / 7)
    assert b["advantages"][3, 2].item() == pytest.approx(4 + 0.9 * (12 + 4 / 7) - (12 + 3 / 7))
    # lane 1 terminated on its third step: no bootstrap
    assert b["advantages"][2, 1].item() == pytest.approx(3 - (11 + 2 / 7))


@pytest.mark.parametrize("mode", MODES)
def test_episode_metrics_average_over_finished_episodes(mode):
    _, envs = play(mode, 4)
    metrics = envs.episode_metrics()
    # lanes 0 and 2 end with 1 + 2 + 3 + 4, lane 1 with 1 + 2 + 3
    assert metrics["episode_return"] == pytest.approx((10 + 6 + 10) / 3)
    assert metrics["episode_length"] == pytest.approx((4 + 3 + 4) / 3)
    assert metrics["success"] == pytest.approx(1 / 3)
    assert metrics["progress"] == pytest.approx((1 + 0.75 + 1) / 3)
    assert "steps" not in metrics  # whole numbers are ids and counters
    assert envs.episode_metrics() == {}


@pytest.mark.parametrize("mode", MODES)
def test_explore_env_gives_the_same_episodes_in_every_mode(mode):
    envs = common.TorchVectorEnv(common.make_vec("Explore/RiverSwim-v0", 4, {}, mode))
    obs = envs.reset(seed=3)
    assert obs.shape == (4, 1)
    seen, ends = [], 0
    for _ in range(300):
        obs, reward, terminated, truncated, info = envs.step(torch.ones(4, dtype=torch.long))
        ends += int((terminated | truncated).sum())
        assert len(info["final_obs"]) == int((terminated | truncated).sum())
        seen.append(float(reward[info["valid"]].sum()))
    assert reward.dtype == torch.float32
    assert ends > 0
    assert sum(seen) > 0


def test_rows_join_a_dict_and_features_expand_it():
    space = spaces.Dict(
        {
            "image": spaces.Box(0, 255, (2, 1, 3), np.uint8),
            "direction": spaces.Discrete(3, start=1),
            "mission": spaces.Text(10),
            "speed": spaces.Box(-1, 1, (2,), np.float32),
        }
    )
    layout = common.obs_layout(space)
    assert [(p.name, p.start, p.stop) for p in layout] == [("direction", 0, 1), ("image", 1, 7), ("speed", 7, 9)]
    row = torch.tensor([[2.0, 10, 5, 3, 1, 0, 2, 0.5, -0.5]])
    symbolic = common.Features(layout)(row)[0]
    assert len(symbolic) == 2 + 3 + 2 * (11 + 6 + 4)
    assert symbolic[:2].tolist() == [0.5, -0.5]
    assert symbolic[2:].nonzero().squeeze(1).tolist() == [2, 3 + 10, 14 + 5, 20 + 3, 24 + 1, 35 + 0, 41 + 2]
    plain = common.Features(layout, symbolic=False)(row)[0]
    assert torch.allclose(plain[:8], torch.tensor([10 / 255, 5 / 255, 3 / 255, 1 / 255, 0, 2 / 255, 0.5, -0.5]))


def test_bytes_with_small_upper_bounds_are_categories():
    high = np.array([[1, 3], [0, 2]], np.uint8)
    space = spaces.Dict(
        {"codes": spaces.Box(np.zeros_like(high), high, dtype=np.uint8), "picture": spaces.Box(0, 255, (4,), np.uint8)}
    )
    layout = common.obs_layout(space)
    assert [(p.name, p.kind, p.sizes) for p in layout] == [("codes", "categories", (2, 4, 1, 3)), ("picture", "numbers", ())]
    row = torch.tensor([[1, 3, 0, 1, 7, 8, 9, 200]], dtype=torch.uint8)
    assert common.Features(layout)(row)[0].tolist() == [7, 8, 9, 200, 0, 1, 0, 0, 0, 1, 1, 0, 1, 0]


def test_codes_beyond_their_part_have_no_feature_and_columns_may_alternate():
    layout = common.obs_layout(spaces.Dict(a=spaces.Discrete(2), b=spaces.Box(-1, 1, (1,)), c=spaces.Discrete(3)))
    rows = torch.tensor([[1, 0.5, 2], [2, -0.5, -1]])
    assert common.Features(layout)(rows).tolist() == [[0.5, 0, 1, 0, 0, 1], [-0.5, 0, 0, 0, 0, 0]]


def test_bits_are_numbers():
    layout = common.obs_layout(spaces.Dict(last=spaces.MultiBinary((1, 2)), place=spaces.Discrete(3)))
    assert [(p.name, p.start, p.stop, p.kind) for p in layout] == [("last", 0, 2, "numbers"), ("place", 2, 3, "categories")]
    assert common.Features(layout)(torch.tensor([[1, 0, 2]]))[0].tolist() == [1, 0, 0, 0, 1]


@pytest.mark.parametrize("mode", MODES)
def test_starts_are_first_observations_and_those_that_a_reset_takes_the_place_of(mode):
    envs = SyncVectorEnv([lambda: Counter(1)], autoreset_mode=AutoresetMode(mode))  # episodes of three steps
    envs = common.TorchVectorEnv(envs)
    envs.reset(seed=0)
    starts, rewards = [], []
    for _ in range(8):
        starts.append(envs.starts.item())
        rewards.append(envs.reward.item())
        envs.step(torch.zeros(1, dtype=torch.long))
    if mode == "NextStep":
        assert starts == [True, False, False, True, True, False, False, True]
        assert rewards == [0, 1, 2, 3, 0, 1, 2, 3]
    else:
        assert starts == [True, False, False] * 2 + [True, False]
        assert rewards == [0, 1, 2, 3, 1, 2, 3, 1]


def test_discrete_start_is_subtracted_and_bytes_stay_bytes():
    class Fake(gym.Env):
        observation_space = spaces.Discrete(3, start=5)
        action_space = spaces.Discrete(2, start=7)

        def reset(self, *, seed=None, options=None):
            return 6, {}

        def step(self, action):
            return action, 0.0, False, False, {}  # 7 or 8: the category shows which action arrived

    envs = common.TorchVectorEnv(SyncVectorEnv([Fake] * 2))
    assert envs.reset().tolist() == [[1.0], [1.0]]
    assert envs.step(torch.tensor([0, 0]))[0].tolist() == [[2.0], [2.0]]
    bytes_space = spaces.Box(0, 255, (4, 4, 1), np.uint8)
    Fake.observation_space = bytes_space
    envs = common.TorchVectorEnv(SyncVectorEnv([Fake]))
    assert envs.obs_dtype == torch.uint8


@pytest.mark.parametrize("kind", ["mlp", "cnn", "auto"])
@pytest.mark.parametrize("shape", [(7, 7, 3), (40, 40, 1)])
def test_encoder_handles_images(kind, shape):
    layout = common.obs_layout(spaces.Box(0, 255, shape, np.uint8))
    encoder = ppo.Encoder(layout, kind)
    x = torch.randint(0, 4, (5, int(np.prod(shape))), dtype=torch.uint8)
    assert encoder(x).shape == (5, encoder.dim)
    takes_cnn = kind == "cnn" or (kind == "auto" and shape == (40, 40, 1))
    assert (sum(p.numel() for p in encoder.parameters()) > 0) == takes_cnn


@pytest.mark.parametrize(
    ("env", "kwargs", "message"),
    [
        ("Explore/Nothing-v0", {}, "cannot make 'Explore/Nothing-v0'"),
        ("Explore/RiverSwim-v0", {"depht": 3}, "with kwargs .'depht': 3.*depht"),
        ("CartPole-v1", {"depht": 3}, "depht"),
    ],
)
def test_unknown_env_or_kwargs_are_named(env, kwargs, message):
    with pytest.raises(common.UsageError, match=message):
        common.make_vec(env, 2, kwargs, "SameStep")


def test_continuous_actions_are_refused():
    with pytest.raises(common.UsageError, match="action space must be Discrete, got Box"):
        common.TorchVectorEnv(gym.make_vec("Pendulum-v1", 2))


def test_sequence_observations_are_refused():
    with pytest.raises(common.UsageError, match="observations must be Box"):
        common.obs_layout(spaces.Sequence(spaces.Discrete(2)))
