import gymnasium as gym
import numpy as np
import pytest
import recall  # noqa: F401  registers Recall-v0
import torch
from interruption import interrupted

from explore_gym.agents import common, ppo, ppo_rnn

MODES = ["SameStep", "NextStep", "Disabled"]
BANDIT = dict(env="Explore/MetaBandit-v0", env_kwargs='{"recurrence": 6, "length": "geometric"}')  # about 6 steps an episode
TAG = dict(env="Explore/XLand-Tag-v0", env_kwargs='{"size": 9, "trial_steps": 20}')  # a chaser and a runner
SIZES = dict(num_envs=4, num_steps=16, num_minibatches=2, hidden=16, quiet=True, device="cpu")


def arguments(**changed):
    return ppo_rnn.Args(**{**BANDIT, **SIZES, **changed})


class Player:
    """An agent whose logits tell memories apart, and what it needs to play rollouts."""

    def __init__(self, tmp_path, **changed):
        self.args = arguments(run_dir=str(tmp_path / "run"), **changed)
        run = common.start(self.args, "ppo_rnn.py")
        self.envs = run.make_envs(self.args.num_envs)
        self.agent = ppo_rnn.Agent(self.envs, self.args)
        torch.nn.init.orthogonal_(self.agent.actor.weight)
        self.lanes = ppo_rnn.Lanes(self.agent, self.args.num_envs)
        self.buffer = ppo_rnn.make_buffer(self.envs, self.agent, self.args.num_steps)
        self.envs.reset(seed=3)

    def rollout(self, act=None):
        b = ppo_rnn.rollout(self.agent, act or self.agent.step, self.envs, self.lanes, self.buffer)
        return {key: x.clone() for key, x in b.items()}


def minibatch(b, **changed):
    """All lanes of a rollout, with made-up advantages."""
    torch.manual_seed(0)
    m = {key: b[key][:16] for key in (*ppo_rnn.SEEN, "actions", "logprobs", "valid")}
    m |= {"memory": b["memory"][0], "advantages": torch.randn(16, 4), "returns": b["values"]}
    return {**m, **changed}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("memory", ["gru", "lstm"])
def test_learning_sees_the_logprobs_and_values_of_acting(tmp_path, memory, mode):
    player = Player(tmp_path, memory=memory, autoreset_mode=mode)
    player.rollout()
    b = player.rollout()
    assert b["memory"][0].abs().max() > 0.01  # carried over from the rollout before
    assert b["done"].any()
    logits, values, memories = player.agent(*(b[key][:16] for key in ppo_rnn.SEEN), b["memory"][0])
    logprobs = logits.log_softmax(-1).gather(-1, b["actions"].unsqueeze(-1)).squeeze(-1)
    assert logits.std() > 0.01
    assert torch.allclose(logprobs, b["logprobs"], atol=1e-6)
    assert torch.allclose(values, b["values"], atol=1e-6)
    assert torch.allclose(memories, b["memory"][1:], atol=1e-6)
    _, metrics = ppo_rnn.ppo_loss(player.agent, minibatch(b), player.args)
    assert metrics["approx_kl"].item() == pytest.approx(0, abs=1e-6)
    assert metrics["loss/value"].item() == pytest.approx(0, abs=1e-9)


def test_memory_and_value_at_the_end_of_a_rollout_are_those_at_the_start_of_the_next(tmp_path):
    player = Player(tmp_path)
    first, second = player.rollout(), player.rollout()
    going_on = ~first["done"][-1]
    assert going_on.any()
    assert torch.equal(second["memory"][0], first["memory"][-1])
    assert torch.equal(second["last_actions"][0], first["actions"][-1])
    assert torch.equal(second["last_rewards"][0], first["rewards"][-1])
    assert torch.allclose(second["values"][0][going_on], first["next_values"][-1][going_on], atol=1e-6)
    assert torch.equal(first["next_values"][:-1][~first["done"][:-1]], first["values"][1:][~first["done"][:-1]])


@pytest.mark.parametrize("memory", ["gru", "lstm"])
def test_memory_is_zero_where_an_episode_starts_and_kept_where_none_does(tmp_path, memory):
    player = Player(tmp_path, memory=memory)
    player.rollout()
    b = player.rollout()
    t = next(t for t in range(1, 16) if 0 < b["starts"][t].sum() < 4)
    agent, starts, before = player.agent, b["starts"][t], b["memory"][t]
    x = agent.encoder(agent.inputs(*(b[key][t] for key in ppo_rnn.SEEN)))
    fresh, carried = agent.cell(x), agent.cell(x, tuple(before.chunk(2, -1)) if memory == "lstm" else before)
    if memory == "lstm":
        fresh, carried = torch.cat(fresh, -1), torch.cat(carried, -1)
    assert torch.allclose(b["memory"][t + 1][starts], fresh[starts], atol=1e-6)
    assert torch.allclose(b["memory"][t + 1][~starts], carried[~starts], atol=1e-6)
    assert (fresh - carried).abs().amax(1).min() > 1e-3


def test_gradients_go_back_to_the_start_of_the_episode_and_no_further(tmp_path):
    player = Player(tmp_path)
    player.rollout()
    b = player.rollout()
    t, lane = next((t, lane) for t in range(10, 2, -1) for lane in range(4) if b["starts"][t, lane])
    last = next((i for i in range(t + 1, 16) if b["starts"][i, lane]), 16) - 1
    assert last > t
    obs = b["obs"][:16].clone().requires_grad_()
    logits = player.agent(obs, *(b[key][:16] for key in ppo_rnn.SEEN[1:]), b["memory"][0])[0]
    reach = torch.autograd.grad(logits[last, lane, 0], obs)[0].abs().sum(-1) > 0
    assert reach[:, lane].tolist() == [t <= i <= last for i in range(16)]
    assert reach.sum() == last - t + 1  # and to no other lane


def test_an_ended_episode_bootstraps_from_its_last_observation_with_its_memory(tmp_path):
    player = Player(tmp_path, num_steps=64)
    b = player.rollout()
    envs = Player(tmp_path / "again").envs
    finals = torch.cat([envs.step(action)[4]["final_obs"] for action in b["actions"]])
    ends = b["done"].nonzero().tolist()
    assert len(ends) > 3
    for (t, lane), obs in zip(ends, finals):
        action, reward = b["actions"][t, lane], b["rewards"][t, lane]
        seen = [x.view(1, 1, -1)[..., 0] for x in (action, reward, torch.tensor(False))]
        value = player.agent(obs.view(1, 1, -1), *seen, b["memory"][t + 1, lane].unsqueeze(0))[1]
        assert b["next_values"][t, lane].item() == pytest.approx(value.item(), abs=1e-6)


def test_every_mode_gives_the_same_targets(tmp_path):
    targets = {}
    for mode in MODES:
        torch.manual_seed(0)
        player = Player(tmp_path / mode, autoreset_mode=mode, num_steps=64)
        step = player.agent.step
        b = player.rollout(lambda *x: (torch.ones(4, dtype=torch.long), step(*x)[1]))  # noqa: B023  always arm 1
        advantages = ppo_rnn.gae(b["rewards"], b["values"], b["next_values"], b["terminated"], b["done"], 0.9, 0.8)
        assert b["valid"].all() == (mode != "NextStep")
        for lane in range(4):
            valid = b["valid"][:, lane]
            whole = int(valid[: int(b["done"][:40, lane].nonzero().max()) + 1].sum())  # of episodes over in every mode
            targets[mode, lane] = advantages[:, lane][valid][:whole]
    for mode in MODES[1:]:
        for lane in range(4):
            count = min(len(targets[mode, lane]), len(targets["SameStep", lane]))
            assert count > 10
            assert torch.allclose(targets[mode, lane][:count], targets["SameStep", lane][:count], atol=1e-5), (mode, lane)


def test_what_is_seen_of_a_step_worked_by_hand():
    envs = common.TorchVectorEnv(common.make_vec("Explore/RiverSwim-v0", 2, {}, "SameStep"))
    inputs = ppo_rnn.Inputs(envs, arguments())
    obs, starts = torch.tensor([[3.0], [0.0]]), torch.tensor([False, True])
    rows = inputs(obs, torch.tensor([1, 1]), torch.tensor([-1.7182818, 5.0]), starts)
    state, action = [0.0, 0, 0, 1, 0, 0], [0.0, 1.0]
    assert torch.allclose(rows[0], torch.tensor([*state, *action, -1.0, 0.0]))  # -log(1 + 1.718) = -1
    assert rows[1].tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]  # nothing came before
    assert ppo_rnn.Inputs(envs, arguments(rl2=False))(obs, None, None, starts).tolist() == rows[:, :6].tolist()
    assert (inputs.dim, ppo_rnn.Inputs(envs, arguments(rl2=False)).dim) == (10, 6)


def test_loss_of_lanes_without_memory_is_that_of_ppo(tmp_path):
    """With a memory that forgets everything at once the recurrent loss is ppo.py's on the flattened steps."""
    player = Player(tmp_path)
    b = player.rollout()
    m = minibatch(b, starts=torch.ones(16, 4, dtype=torch.bool), returns=torch.randn(16, 4))
    loss, metrics = ppo_rnn.ppo_loss(player.agent, m, player.args)

    def stateless(obs):
        none = torch.zeros(1, len(obs))
        seen = obs.unsqueeze(0), none.long(), none, none == 0
        logits, values, _ = player.agent(*seen, torch.zeros(len(obs), 16))
        return logits[0], values[0]

    flat = {key: m[key].flatten(0, 1) for key in ("obs", "actions", "logprobs", "advantages", "returns")}
    expected, expected_metrics = ppo.ppo_loss(stateless, flat, ppo.Args())
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    assert {key: x.item() for key, x in metrics.items()} == pytest.approx({k: x.item() for k, x in expected_metrics.items()})


def test_steps_that_a_reset_took_are_part_of_no_mean(tmp_path):
    player = Player(tmp_path, autoreset_mode="NextStep")
    b = player.rollout()
    resets = ~b["valid"]
    assert resets.any()
    assert torch.equal(b["starts"][1:][resets], torch.ones(int(resets.sum()), dtype=torch.bool))
    m = minibatch(b)
    spoilt = {key: torch.where(resets, 100.0, m[key]) for key in ("advantages", "returns", "logprobs")}
    loss, metrics = ppo_rnn.ppo_loss(player.agent, m, player.args)
    spoilt_loss, spoilt_metrics = ppo_rnn.ppo_loss(player.agent, {**m, **spoilt}, player.args)
    assert spoilt_loss == loss
    assert spoilt_metrics == metrics
    spoilt_loss, _ = ppo_rnn.ppo_loss(player.agent, {**m, **spoilt, "valid": torch.ones(16, 4, dtype=torch.bool)}, player.args)
    assert spoilt_loss != loss


def test_gae_is_that_of_ppo():
    torch.manual_seed(0)
    rewards, values, next_values = torch.randn(3, 6, 4)
    done = torch.rand(6, 4) < 0.4
    terminated = done & (torch.rand(6, 4) < 0.5)
    given = rewards, values, next_values, terminated, done, 0.9, 0.8
    assert torch.equal(ppo_rnn.gae(*given), ppo.gae(*given))


def test_rewards_are_divided_by_the_standard_deviation_of_their_discounted_sums():
    scale = ppo_rnn.RewardScale(2, gamma=0.5)
    rewards, ends = torch.tensor([[4.0, 0.0], [2.0, 8.0]]), torch.tensor([[False, False], [True, False]])
    # sums 4, 2 + 2 = 4 in lane 0; 0, 8 in lane 1: mean 4, variance (0 + 0 + 16 + 16) / 4
    assert torch.allclose(scale(rewards, ends), rewards / 8**0.5)
    # lane 0 starts anew with 6, lane 1 goes on with 4 + 2: over all six mean 28 / 6, mean of squares 168 / 6
    last = torch.tensor([[6.0, 2.0]])
    assert torch.allclose(scale(last, torch.tensor([[False, False]])), last / (28 - (28 / 6) ** 2) ** 0.5)
    small = ppo_rnn.RewardScale(2, gamma=0.5)
    assert torch.equal(small(rewards / 10, ends), rewards / 10)


def test_acting_remembers_until_told_that_an_episode_starts(tmp_path):
    player = Player(tmp_path)
    agent, obs = player.agent, player.envs.obs
    some, rewards = torch.tensor([True, False, False, True]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    noise, zeros = torch.zeros(4, 5), torch.zeros(4)
    agent.act(obs)
    memory, action = agent.last
    fresh = agent.step(obs, zeros.long(), zeros, zeros == 0, torch.zeros(4, 16), noise)[1]
    assert torch.equal(memory, fresh)
    agent.act(obs, some, rewards)
    expected = agent.step(obs, action, rewards, some, memory, noise)[1]
    assert torch.equal(agent.last[0], expected)
    assert torch.allclose(expected[some], fresh[some], atol=1e-6)
    assert (expected[~some] - fresh[~some]).abs().amax(1).min() > 1e-3
    memory, action = agent.last
    agent.act(obs)
    assert torch.equal(agent.last[0], agent.step(obs, action, zeros, zeros == 1, memory, noise)[1])
    agent.act(obs[:2])
    assert torch.allclose(agent.last[0], fresh[:2], atol=1e-6)


def test_a_saved_policy_acts_as_the_agent_told_the_same(tmp_path):
    run = ppo_rnn.train(arguments(run_dir=str(tmp_path), total_timesteps=64))
    envs = run.make_envs(4)
    agent = ppo_rnn.Agent(envs, run.args)
    agent.load_state_dict(common.read_checkpoint(tmp_path / "checkpoint.pt")["state/agent"])
    policy, obs = common.load_policy(tmp_path), envs.reset(seed=0)
    seen = []
    for t in range(20):
        torch.manual_seed(t)
        action = agent.act(obs, envs.starts, envs.reward)
        torch.manual_seed(t)
        assert policy(obs.numpy(), envs.starts.numpy(), envs.reward.numpy()).tolist() == action.tolist()
        seen.append(envs.starts)
        obs = envs.step(action)[0]
    assert torch.stack(seen[1:]).any()


@pytest.mark.parametrize(
    "changed", [dict(memory="gru", autoreset_mode="NextStep"), dict(memory="lstm", norm_advantages=False), TAG]
)
def test_resumed_run_has_the_same_numbers(tmp_path, changed):
    whole, halves = interrupted(ppo_rnn, arguments, tmp_path, stop=128, total_timesteps=256, eval_episodes=4, **changed)
    assert len(whole) == 5
    assert "eval/episode_return" in whole[-1]
    assert whole == halves


def test_one_policy_plays_all_agents_of_a_world_for_their_own_rewards(tmp_path):
    player = Player(tmp_path, **TAG, num_steps=24)
    b = player.rollout()
    assert player.envs.num_agents == 2
    assert player.envs.worlds.num_envs == 2
    assert b["rewards"].shape == (24, 4)  # two worlds of two agents
    assert torch.equal(b["rewards"][:, 0::2] + b["rewards"][:, 1::2], torch.ones(24, 2))  # caught or not, one of them is paid
    assert b["done"].nonzero()[:, 0].tolist() == [19] * 4  # the clock's end, for both
    metrics = player.envs.episode_metrics()
    chaser, runner = (b["rewards"][:20, i::2].sum(0).mean().item() for i in range(2))
    assert metrics["episode_return/agent_0"] == pytest.approx(chaser)
    assert metrics["episode_return/agent_1"] == pytest.approx(runner)
    assert metrics["episode_return"] == pytest.approx(10)
    directions = player.envs.worlds.get_state()["direction"].reshape(-1)
    assert player.envs.obs[:, 0].tolist() == directions.tolist()  # each sees its own


def test_self_play_trains_on_a_batch_of_all_agents_and_reports_each(tmp_path, monkeypatch):
    shapes, loss = [], ppo_rnn.ppo_loss

    def recording_loss(agent, m, args):
        shapes.append(tuple(m["advantages"].shape))
        return loss(agent, m, args)

    monkeypatch.setattr(ppo_rnn, "ppo_loss", recording_loss)
    run = ppo_rnn.train(arguments(**TAG, run_dir=str(tmp_path), total_timesteps=128, num_epochs=1, eval_episodes=4))
    assert shapes == [(16, 2)] * 4  # two minibatches of two lanes, two rollouts
    rows = common.read_metrics(tmp_path / "metrics.jsonl")
    assert rows[-1]["step"] == 128  # steps of agents
    assert rows[-1]["episode_return/agent_0"] + rows[-1]["episode_return/agent_1"] == pytest.approx(20)
    returns = [run.summary[f"eval/episode_return/agent_{i}"] for i in range(2)]
    assert sum(returns) == pytest.approx(20)
    assert run.summary["eval/episode_return"] == pytest.approx(10)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(num_minibatches=3), "num_minibatches must divide num_envs = 4, got 3"),
        (dict(num_minibatches=4, num_steps=3), "at least 4 steps"),
        (dict(hidden=0), "hidden must be at least 1, got 0"),
        (dict(memory="elephant"), "memory must be gru or lstm, got 'elephant'"),
        (dict(gae_lambda=1.5), r"gae_lambda must lie in \[0.0, 1.0\], got 1.5"),
    ],
)
def test_bad_arguments_are_named(changed, message):
    with pytest.raises(common.UsageError, match=message):
        arguments(**changed)


def test_lanes_that_do_not_fill_worlds_are_named(tmp_path):
    with pytest.raises(common.UsageError, match="num_envs must be a multiple of 2, the number of agents in a world, got 5"):
        ppo_rnn.train(arguments(**TAG, num_envs=5, num_minibatches=1, run_dir=str(tmp_path)))


@pytest.mark.parametrize(
    ("env", "kwargs"),
    [
        ("Explore/RiverSwim-v0", "{}"),
        ("Explore/FourRooms-v0", '{"size": 9}'),
        ("Explore/XLand-v0", "{}"),
        ("CartPole-v1", "{}"),
    ],
)
def test_trains_on_every_kind_of_observation(tmp_path, env, kwargs):
    ppo_rnn.train(arguments(env=env, env_kwargs=kwargs, run_dir=str(tmp_path), total_timesteps=128))
    assert len(common.read_metrics(tmp_path / "metrics.jsonl")) == 2


@pytest.mark.slow
def test_compiled_run_is_the_eager_one_up_to_rounding(tmp_path):
    rows = []
    for compiled in (False, True):
        folder = tmp_path / str(compiled)
        ppo_rnn.train(arguments(run_dir=str(folder), total_timesteps=256, compile=compiled))
        rows.append(common.read_metrics(folder / "metrics.jsonl"))
    for eager, other in zip(*rows):
        for row in (eager, other):
            del row["time"], row["sps"]
        assert other == pytest.approx(eager, rel=1e-3, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["gru", "lstm"])
def test_learns_to_recall_and_the_saved_policy_does_if_told_where_episodes_start(tmp_path, memory):
    sizes = dict(num_envs=32, num_steps=32, hidden=64, total_timesteps=32_000)
    args = ppo_rnn.Args(env="Recall-v0", run_dir=str(tmp_path), memory=memory, eval_episodes=256, quiet=True, **sizes)
    assert ppo_rnn.train(args).summary["eval/episode_return"] > 0.9  # without memory 0.25
    policy = common.load_policy(tmp_path)
    envs = gym.make_vec("Recall-v0", num_envs=32, vector_kwargs={"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP})
    obs, _ = envs.reset(seed=0)
    starts, rewards, total, episodes = np.ones(32, bool), np.zeros(32), 0.0, 0
    for _ in range(60):
        obs, rewards, starts, _, _ = envs.step(policy(obs, starts, rewards))
        total, episodes = total + rewards.sum(), episodes + starts.sum()
    assert total / episodes > 0.9
