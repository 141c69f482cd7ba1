import inspect

import gymnasium as gym
import numpy as np
import pytest
import recall  # noqa: F401  registers Recall-v0
import torch
from interruption import interrupted

from explore_gym.agents import common, ppo, ppo_rnn
from explore_gym.agents import ppo_transformer as pt

MODES = ["SameStep", "NextStep", "Disabled"]
BANDIT = dict(env="Explore/MetaBandit-v0", env_kwargs='{"recurrence": 6, "length": "geometric"}')  # about 6 steps an episode
TAG = dict(env="Explore/XLand-Tag-v0", env_kwargs='{"size": 9, "trial_steps": 20}')  # a chaser and a runner
SIZES = dict(num_envs=4, num_steps=16, num_minibatches=2, context=8, d_model=16, num_heads=2, quiet=True, device="cpu")
BEFORE = 7  # steps of the context that lie before a rollout


def arguments(**changed):
    return pt.Args(**{**BANDIT, **SIZES, **changed})


class Player:
    """An agent whose logits tell contexts apart, and what it needs to play rollouts."""

    def __init__(self, tmp_path, **changed):
        self.args = arguments(run_dir=str(tmp_path / "run"), **changed)
        run = common.start(self.args, "ppo_transformer.py")
        self.envs = run.make_envs(self.args.num_envs)
        self.agent = pt.Agent(self.envs, self.args)
        torch.nn.init.orthogonal_(self.agent.actor.weight)
        for block in self.agent.blocks:
            torch.nn.init.normal_(block.nearness)
        self.lanes = pt.Lanes(self.envs, self.args.context)
        self.buffer = pt.make_buffer(self.envs, self.agent, self.args.num_steps)
        self.envs.reset(seed=3)

    def rollout(self, act=None):
        b = pt.rollout(self.agent, act or self.agent.step, self.envs, self.lanes, self.buffer)
        return {key: x.clone() for key, x in b.items()}


def minibatch(b, **changed):
    """All lanes of a rollout, with made-up advantages."""
    torch.manual_seed(0)
    m = {key: b[key][:-1] for key in pt.SEEN} | {key: b[key] for key in ("actions", "logprobs", "valid")}
    return {**m, "advantages": torch.randn(16, 4), "returns": b["values"], **changed}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("context", [1, 8, 40])  # none, shorter and longer than a rollout
def test_learning_sees_the_logprobs_and_values_of_acting(tmp_path, context, mode):
    player = Player(tmp_path, context=context, autoreset_mode=mode)
    for _ in range(3):
        b = player.rollout()
    assert b["done"].any()
    logits, values, _ = player.agent.replay(*(b[key][:-1] for key in pt.SEEN))
    logits, values = logits[context - 1 :], values[context - 1 :]
    logprobs = logits.log_softmax(-1).gather(-1, b["actions"].unsqueeze(-1)).squeeze(-1)
    assert logits.std() > 0.01
    assert torch.allclose(logprobs, b["logprobs"], atol=1e-5)
    assert torch.allclose(values, b["values"], atol=1e-5)
    _, metrics = pt.ppo_loss(player.agent, minibatch(b), player.args)
    assert metrics["approx_kl"].item() == pytest.approx(0, abs=1e-6)
    assert metrics["loss/value"].item() == pytest.approx(0, abs=1e-9)


def test_a_rollout_goes_on_where_the_last_one_ended(tmp_path):
    player = Player(tmp_path, num_layers=1)  # of more layers, what lies at the edge of the context differs
    first, second = player.rollout(), player.rollout()
    for key in pt.SEEN[:3]:
        assert torch.equal(second[key][:8], first[key][16:])  # 7 steps, and the present one
    assert torch.equal(second["starts"][:8], first["starts"][16:])
    going_on = ~first["done"][-1]
    assert going_on.any()
    assert torch.allclose(second["values"][0][going_on], first["next_values"][-1][going_on], atol=1e-5)
    assert torch.equal(first["next_values"][:-1][~first["done"][:-1]], first["values"][1:][~first["done"][:-1]])


@pytest.mark.parametrize(("num_layers", "reaches"), [(1, 7), (2, 14)])
def test_attention_goes_back_to_the_start_of_the_episode_or_of_the_context_and_no_further(tmp_path, num_layers, reaches):
    player = Player(tmp_path, num_layers=num_layers)
    obs = torch.randn(20, 4, player.envs.obs_dim, requires_grad=True)
    actions, rewards = torch.randint(5, (20, 4)), torch.randn(20, 4)
    starts = torch.zeros(20, 4, dtype=torch.bool)
    starts[0], starts[15, 1], starts[19, 2] = True, True, True
    logits = player.agent.replay(obs, actions, rewards, starts)[0]
    for lane, first in enumerate([19 - reaches, 15, 19, 19 - reaches]):
        reach = torch.autograd.grad(logits[19, lane, 0], obs, retain_graph=True)[0].abs().sum(-1) > 0
        assert reach[:, lane].tolist() == [i >= first for i in range(20)]
        assert reach.sum() == 20 - first  # and to no other lane


def test_one_block_worked_by_hand():
    """One head of width 2, identity everywhere: weights are softmaxes of scores and nearness."""
    block = pt.Block(pt.Args(d_model=2, num_heads=1, num_layers=1, context=2))
    with torch.no_grad():
        block.inputs.weight.copy_(torch.cat([torch.eye(2)] * 3))
        block.output.weight.copy_(torch.eye(2))
        block.nearness.copy_(torch.tensor([[0.0, 0.5]]))
        block.feed_forward[2].weight.zero_()
        block.feed_forward[2].bias.zero_()
    x = torch.tensor([[3.0, 3.0], [-2.0, 2.0]]).unsqueeze(1)  # the norm makes (1, 1) and (-1, 1)
    visible = torch.tensor([[True, False], [True, True]]).view(1, 1, 2, 2)
    y, kept = block(x, torch.zeros(0, 1, 2, 1, 2), visible, torch.tensor([[0, 1], [1, 0]]))
    # second step: scores 0 and 2 / sqrt(2), nearness 0.5 one step back and 0 now
    weight = torch.tensor([0.5, 2**0.5]).softmax(0)[0].item()
    assert torch.allclose(y[0, 0], torch.tensor([4.0, 4.0]), atol=1e-4)
    assert torch.allclose(y[1, 0], torch.tensor([-2.0 + weight - (1 - weight), 2.0 + 1.0]), atol=1e-4)
    later, _ = block(x[1:], kept[:1], visible[:, :, 1:], torch.tensor([[1, 0]]))  # the first step as past
    assert torch.allclose(later[0], y[1], atol=1e-6)


def test_an_ended_episode_bootstraps_from_its_last_observation_in_its_context(tmp_path):
    player = Player(tmp_path, num_steps=64, num_layers=1)
    b = player.rollout()
    envs = Player(tmp_path / "again").envs
    finals = torch.cat([envs.step(action)[4]["final_obs"] for action in b["actions"]])
    ends = b["done"].nonzero().tolist()
    assert len(ends) > 3
    for (t, lane), obs in zip(ends, finals):
        rows = slice(t + 1, BEFORE + t + 2)  # the 7 steps before, and the row of the observation after a reset
        seen = [b[key][rows, lane : lane + 1].clone() for key in pt.SEEN]
        seen[0][-1], seen[3][-1] = obs, False
        assert seen[1][-1] == b["actions"][t, lane]
        value = player.agent.replay(*seen)[1][-1]
        assert b["next_values"][t, lane].item() == pytest.approx(value.item(), abs=1e-5)


def test_every_mode_gives_the_same_targets(tmp_path):
    targets = {}
    for mode in MODES:
        torch.manual_seed(0)
        player = Player(tmp_path / mode, autoreset_mode=mode, num_steps=64)
        step = player.agent.step
        b = player.rollout(lambda *x: (torch.ones(4, dtype=torch.long), *step(*x)[1:]))  # noqa: B023  always arm 1
        advantages = pt.gae(b["rewards"], b["values"], b["next_values"], b["terminated"], b["done"], 0.9, 0.8)
        assert b["valid"].all() == (mode != "NextStep")
        for lane in range(4):
            valid = b["valid"][:, lane]
            whole = int(valid[: int(b["done"][:40, lane].nonzero().max()) + 1].sum())  # of episodes over in every mode
            targets[mode, lane] = advantages[:, lane][valid][:whole]
    for mode in MODES[1:]:
        for lane in range(4):
            count = min(len(targets[mode, lane]), len(targets["SameStep", lane]))
            assert count > 10
            assert torch.allclose(targets[mode, lane][:count], targets["SameStep", lane][:count], atol=1e-4), (mode, lane)


def test_loss_with_a_context_of_one_step_is_that_of_ppo(tmp_path):
    player = Player(tmp_path, context=1)
    b = player.rollout()
    m = minibatch(b, returns=torch.randn(16, 4))
    loss, metrics = pt.ppo_loss(player.agent, m, player.args)

    def stateless(rows):
        seen = (rows[key].unsqueeze(0) for key in pt.SEEN)
        logits, values, _ = player.agent.replay(*seen)
        return logits[0], values[0]

    flat = {key: m[key].flatten(0, 1) for key in ("actions", "logprobs", "advantages", "returns")}
    flat["obs"] = {key: m[key].flatten(0, 1) for key in pt.SEEN}
    expected, expected_metrics = ppo.ppo_loss(stateless, flat, ppo.Args())
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    assert {key: x.item() for key, x in metrics.items()} == pytest.approx({k: x.item() for k, x in expected_metrics.items()})


def test_steps_that_a_reset_took_are_part_of_no_mean(tmp_path):
    player = Player(tmp_path, autoreset_mode="NextStep")
    b = player.rollout()
    resets = ~b["valid"]
    assert resets.any()
    assert torch.equal(b["starts"][BEFORE + 1 :][resets], torch.ones(int(resets.sum()), dtype=torch.bool))
    m = minibatch(b)
    spoilt = {key: torch.where(resets, 100.0, m[key]) for key in ("advantages", "returns", "logprobs")}
    loss, metrics = pt.ppo_loss(player.agent, m, player.args)
    spoilt_loss, spoilt_metrics = pt.ppo_loss(player.agent, {**m, **spoilt}, player.args)
    assert spoilt_loss == loss
    assert spoilt_metrics == metrics
    spoilt_loss, _ = pt.ppo_loss(player.agent, {**m, **spoilt, "valid": torch.ones(16, 4, dtype=torch.bool)}, player.args)
    assert spoilt_loss != loss


def test_what_the_agents_with_a_memory_share_is_the_same():
    for name in ("Inputs", "RewardScale", "gae", "gradient", "gumbel", "layer"):
        assert inspect.getsource(getattr(pt, name)) == inspect.getsource(getattr(ppo_rnn, name)), name
    assert inspect.getsource(pt.gae) == inspect.getsource(ppo.gae)


def test_acting_remembers_until_told_that_an_episode_starts(tmp_path):
    player = Player(tmp_path, num_layers=1)
    agent, steps = player.agent, 12  # more than the context
    obs, rewards = torch.randn(steps, 4, player.envs.obs_dim), torch.randn(steps, 4)
    starts = torch.zeros(steps, 4, dtype=torch.bool)
    starts[9, 2] = True
    played, acted = [], agent.step

    def recording_step(*seen):
        played.append(acted(*seen))
        return played[-1]

    agent.step = recording_step
    actions = torch.stack([agent.act(obs[t], starts[t], rewards[t]) for t in range(steps)])
    starts[0] = True  # in any case
    last_actions = torch.cat([torch.zeros(1, 4, dtype=torch.long), actions[:-1]])
    logits = agent.replay(obs, last_actions, rewards, starts)[0]
    assert torch.allclose(torch.stack([x[1] for x in played]), logits, atol=1e-5)
    agent.act(obs[0, :2])
    assert torch.allclose(played[-1][1], logits[0, :2], atol=1e-5)  # another batch size: from the start


def test_a_saved_policy_acts_as_the_agent_told_the_same(tmp_path):
    run = pt.train(arguments(run_dir=str(tmp_path), total_timesteps=64))
    envs = run.make_envs(4)
    agent = pt.Agent(envs, run.args)
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


@pytest.mark.parametrize("changed", [dict(autoreset_mode="NextStep"), dict(context=30, norm_advantages=False), TAG])
def test_resumed_run_has_the_same_numbers(tmp_path, changed):
    whole, halves = interrupted(pt, arguments, tmp_path, stop=128, total_timesteps=256, eval_episodes=4, **changed)
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
    shapes, loss = [], pt.ppo_loss

    def recording_loss(agent, m, args):
        shapes.append(tuple(m["advantages"].shape))
        return loss(agent, m, args)

    monkeypatch.setattr(pt, "ppo_loss", recording_loss)
    run = pt.train(arguments(**TAG, run_dir=str(tmp_path), total_timesteps=128, num_epochs=1, eval_episodes=4))
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
        (dict(context=0), "context must be at least 1, got 0"),
        (dict(num_heads=3), "num_heads must divide d_model = 16, got 3"),
        (dict(num_minibatches=3), "num_minibatches must divide num_envs = 4, got 3"),
        (dict(num_minibatches=4, num_steps=3), "at least 4 steps"),
        (dict(gamma=-0.5), r"gamma must lie in \[0.0, 1.0\], got -0.5"),
    ],
)
def test_bad_arguments_are_named(changed, message):
    with pytest.raises(common.UsageError, match=message):
        arguments(**changed)


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
    pt.train(arguments(env=env, env_kwargs=kwargs, run_dir=str(tmp_path), total_timesteps=128))
    assert len(common.read_metrics(tmp_path / "metrics.jsonl")) == 2


@pytest.mark.slow
def test_compiled_run_is_the_eager_one_up_to_rounding(tmp_path):
    rows = []
    for compiled in (False, True):
        folder = tmp_path / str(compiled)
        pt.train(arguments(run_dir=str(folder), total_timesteps=256, compile=compiled))
        rows.append(common.read_metrics(folder / "metrics.jsonl"))
    for eager, other in zip(*rows):
        for row in (eager, other):
            del row["time"], row["sps"]
        assert other == pytest.approx(eager, rel=1e-3, abs=1e-4)


@pytest.mark.slow
def test_learns_to_recall_and_the_saved_policy_does_if_told_where_episodes_start(tmp_path):
    sizes = dict(num_envs=32, num_steps=32, context=16, d_model=32, total_timesteps=24_000)
    args = pt.Args(env="Recall-v0", run_dir=str(tmp_path), eval_episodes=256, quiet=True, **sizes)
    assert pt.train(args).summary["eval/episode_return"] > 0.9  # without memory 0.25
    policy = common.load_policy(tmp_path)
    envs = gym.make_vec("Recall-v0", num_envs=32, vector_kwargs={"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP})
    obs, _ = envs.reset(seed=0)
    starts, rewards, total, episodes = np.ones(32, bool), np.zeros(32), 0.0, 0
    for _ in range(60):
        obs, rewards, starts, _, _ = envs.step(policy(obs, starts, rewards))
        total, episodes = total + rewards.sum(), episodes + starts.sum()
    assert total / episodes > 0.9
