import itertools

import pytest
import torch

from explore_gym.agents import common, ppo


def test_gae_cuts_the_trace_at_every_end_and_the_bootstrap_at_terminations_only():
    rewards = torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    values = torch.tensor([[0.5, 0.5], [1.0, 1.0], [1.5, 1.5]])
    next_values = torch.tensor([[1.0, 1.0], [4.0, 4.0], [2.0, 2.0]])
    terminated = torch.tensor([[False, False], [True, False], [False, False]])
    done = torch.tensor([[False, False], [True, True], [False, False]])  # lane 0 terminates, lane 1 truncates
    advantages = ppo.gae(rewards, values, next_values, terminated, done, gamma=0.5, gae_lambda=0.8)
    # last row, both: 3 + 0.5 * 2 - 1.5 = 2.5; middle: 2 - 1 = 1 terminated, 2 + 0.5 * 4 - 1 = 3 truncated
    # first row: 1 + 0.5 * 1 - 0.5 = 1, plus 0.5 * 0.8 times the middle row
    assert torch.allclose(advantages, torch.tensor([[1.4, 2.2], [1.0, 3.0], [2.5, 2.5]]))


def test_gae_with_lambda_one_is_the_discounted_return_minus_the_value():
    torch.manual_seed(0)
    rewards, values = torch.randn(6, 3), torch.randn(7, 3)
    none = torch.zeros(6, 3, dtype=torch.bool)
    advantages = ppo.gae(rewards, values[:-1], values[1:], none, none, gamma=0.9, gae_lambda=1.0)
    expected = sum(0.9**k * rewards[k] for k in range(6)) + 0.9**6 * values[6] - values[0]
    assert torch.allclose(advantages[0], expected, atol=1e-5)


class FixedAgent(torch.nn.Module):
    def __init__(self, probabilities, values):
        super().__init__()
        self.logits, self.values = torch.tensor(probabilities).log(), torch.tensor(values)

    def forward(self, obs):
        return self.logits, self.values


def test_loss_of_two_samples_worked_by_hand():
    agent = FixedAgent([[0.6, 0.4], [0.5, 0.5]], [1.0, 3.0])
    minibatch = {
        "obs": torch.zeros(2, 1),
        "actions": torch.tensor([0, 1]),
        "logprobs": torch.tensor([0.4, 1.0]).log(),  # ratios 1.5 and 0.5
        "advantages": torch.tensor([2.0, 1.0]),
        "returns": torch.tensor([2.0, 1.0]),
    }
    args = ppo.Args(clip_coef=0.2, vf_coef=0.7, ent_coef=0.1, norm_advantages=False)
    loss, metrics = ppo.ppo_loss(agent, minibatch, args)
    policy = -(1.2 * 2.0 + 0.5 * 1.0) / 2  # the first ratio is clipped; the second is lower than its clipped version
    value = ((1.0 - 2.0) ** 2 + (3.0 - 1.0) ** 2) / 2
    entropy = (0.6730117 + 0.6931472) / 2  # nats of (0.6, 0.4) and (0.5, 0.5)
    assert metrics["loss/policy"].item() == pytest.approx(policy)
    assert metrics["loss/value"].item() == pytest.approx(value)
    assert metrics["entropy"].item() == pytest.approx(entropy, abs=1e-6)
    assert metrics["approx_kl"].item() == pytest.approx((0.5 - 0.4054651 + -0.5 + 0.6931472) / 2, abs=1e-6)
    assert loss.item() == pytest.approx(policy + 0.7 * value - 0.1 * entropy, abs=1e-6)


def test_advantages_are_normalised_in_the_minibatch():
    agent = FixedAgent([[0.5, 0.5]] * 2, [0.0, 0.0])
    minibatch = {
        "obs": torch.zeros(2, 1),
        "actions": torch.tensor([0, 1]),
        "logprobs": torch.tensor([0.5, 0.25]).log(),  # ratios 1 and 2
        "advantages": torch.tensor([10.0, 30.0]),  # mean 20, sample standard deviation 14.142
        "returns": torch.zeros(2),
    }
    _, metrics = ppo.ppo_loss(agent, minibatch, ppo.Args(clip_coef=0.5))
    assert metrics["loss/policy"].item() == pytest.approx(-(-0.7071068 + 1.5 * 0.7071068) / 2)


def test_act_draws_from_the_softmax_of_the_logits():
    torch.manual_seed(0)
    agent = ppo.Agent.__new__(ppo.Agent)
    torch.nn.Module.__init__(agent)
    agent.encoder, agent.layers = torch.nn.Identity(), []
    agent.actor = lambda x: torch.tensor([0.7, 0.2, 0.1]).log().expand(len(x), 3)
    frequencies = torch.bincount(agent.act(torch.zeros(100_000, 1)), minlength=3) / 100_000
    assert torch.allclose(frequencies, torch.tensor([0.7, 0.2, 0.1]), atol=0.006)  # four standard errors


def test_act_takes_the_largest_of_logits_and_noise():
    agent = ppo.Agent.__new__(ppo.Agent)
    torch.nn.Module.__init__(agent)
    agent.encoder, agent.layers = torch.nn.Identity(), []
    agent.actor = lambda x: torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert agent.act(torch.zeros(2, 1), torch.tensor([[0.0, 0.9], [0.0, 1.1]])).tolist() == [0, 1]


def test_actor_and_critic_are_two_networks():
    agent, m, _ = small_agent()
    logits, values = agent(m["obs"])
    x, weights = m["obs"].float() / 255, [pair.weight for pair in agent.layers]
    for lane, head, found in ((0, agent.actor, logits), (1, agent.critic, values.unsqueeze(-1))):
        hidden = torch.tanh(torch.tanh(x @ weights[0][lane]) @ weights[1][lane])
        assert torch.allclose(head(hidden), found, atol=1e-6)
        for weight, grad in zip(weights, torch.autograd.grad(found.sum(), weights, retain_graph=True)):
            assert grad[lane].abs().max() > 0 and not grad[1 - lane].any()
            rows = weight[lane].T if len(weight[lane]) > len(weight[lane].T) else weight[lane]
            assert torch.allclose(rows @ rows.T, 2 * torch.eye(len(rows)), atol=1e-4)  # orthogonal, gain sqrt(2)
    assert torch.equal(agent.act(m["obs"], torch.zeros_like(logits)), logits.argmax(-1))


def small_agent(**changed):
    """A PPO agent for FourRooms images and a minibatch that it has never seen."""
    torch.manual_seed(0)
    args = ppo.Args(num_envs=4, num_steps=8, num_minibatches=2, hidden=16, encoder="mlp", **changed)
    envs = common.TorchVectorEnv(common.make_vec("Explore/FourRooms-v0", 4, {"observation": "image"}, "SameStep"))
    minibatch = {
        "obs": torch.randint(0, 11, (16, envs.obs_dim), dtype=torch.uint8),
        "actions": torch.randint(0, envs.num_actions, (16,)),
        "logprobs": -2 + 0.3 * torch.randn(16),
        "advantages": torch.randn(16),
        "returns": torch.randn(16),
    }
    return ppo.Agent(envs, args), minibatch, args


@pytest.mark.parametrize("max_grad_norm", [0.05, 1e6])  # shorter and longer than the gradient
def test_gradient_is_that_of_backward_and_clip_grad_norm(max_grad_norm):
    agent, minibatch, args = small_agent(max_grad_norm=max_grad_norm)
    grad, metrics = ppo.gradient(agent, minibatch, args)
    loss, expected_metrics = ppo.ppo_loss(agent, minibatch, args)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(agent.parameters(), max_grad_norm)
    assert 0.05 < norm < 1e6
    assert torch.allclose(grad, torch.cat([p.grad.flatten() for p in agent.parameters()]), rtol=1e-5, atol=1e-8)
    assert metrics == expected_metrics


def test_minibatches_keep_their_size_where_resets_took_steps_of_the_rollout():
    args = ppo.Args(num_envs=2, num_steps=4, num_minibatches=2, num_epochs=3)
    b = {key: torch.zeros(4, 2) for key in ("actions", "logprobs", "advantages", "returns")}
    b["obs"] = torch.arange(8).view(4, 2, 1)
    b["valid"] = torch.tensor([[True, True], [False, True], [True, False], [True, True]])  # rows 2 and 5 are resets
    seen = []

    def learn_minibatch(batch, index):
        seen.append(batch["obs"][index].flatten().tolist())

    ppo.update(learn_minibatch, b, args)
    assert [len(x) for x in seen] == [4] * 6
    for first, second in zip(seen[::2], seen[1::2]):
        counts = torch.bincount(torch.tensor(first + second), minlength=8)
        assert sorted(counts.tolist()) == [0, 0, 1, 1, 1, 1, 2, 2]
        assert counts[[2, 5]].tolist() == [0, 0]


@pytest.mark.slow
def test_compiled_gradient_and_act_are_the_eager_ones_up_to_rounding():
    agent, minibatch, args = small_agent()
    weights = common.Adam(agent, 0.1).vector
    compiled = common.compiled(lambda m: ppo.gradient(agent, m, args), agent)
    for _ in range(2):
        grad, metrics = ppo.gradient(agent, minibatch, args)
        compiled_grad, compiled_metrics = compiled(minibatch)
        assert grad.norm() > 0.1
        assert torch.allclose(compiled_grad, grad, atol=1e-6)
        assert list(compiled_metrics) == list(metrics)
        for key, x in metrics.items():
            assert compiled_metrics[key].item() == pytest.approx(x.item(), abs=1e-5)
        with torch.no_grad():
            weights += 0.01 * torch.randn_like(weights)  # the graph must read the weights anew
    half = {key: x[:8] for key, x in minibatch.items()}
    assert torch.allclose(compiled(half)[0], ppo.gradient(agent, half, args)[0], atol=1e-6)
    noise = ppo.gumbel((16, agent.actor.out_features), "cpu")
    with torch.no_grad():
        action = common.compiled(agent.act, agent)(minibatch["obs"], noise)
        assert torch.equal(action, agent.act(minibatch["obs"], noise))


@pytest.mark.slow
def test_compiled_run_resumes_to_the_same_numbers(tmp_path):
    sizes = dict(env="Explore/RiverSwim-v0", num_envs=4, num_steps=16, hidden=8, quiet=True, compile=True, anneal_lr=False)
    names = ("whole", "parts", "eager")
    whole, parts, eager = (dict(sizes, run_dir=str(tmp_path / name)) for name in names)
    ppo.train(ppo.Args(**whole, total_timesteps=512))
    ppo.train(ppo.Args(**parts, total_timesteps=256))
    config = tmp_path / "parts" / "config.json"
    config.write_text(config.read_text().replace('"total_timesteps": 256', '"total_timesteps": 512'))
    ppo.train(ppo.Args(**parts, total_timesteps=512, resume=True))
    ppo.train(ppo.Args(**{**eager, "compile": False}, total_timesteps=512))
    rows = [common.read_metrics(tmp_path / name / "metrics.jsonl") for name in names]
    for row in itertools.chain(*rows):
        del row["time"], row["sps"]
    assert len(rows[0]) == 8
    assert rows[1] == rows[0]
    for compiled_row, eager_row in zip(rows[0], rows[2]):
        assert compiled_row == pytest.approx(eager_row, rel=1e-3, abs=1e-4)


def test_learning_rate_falls_linearly_from_its_full_value(tmp_path, monkeypatch):
    rates = []
    original = ppo.learn

    def recording_learn(agent, optimizer, *rest):
        rates.append(optimizer.learning_rate.item())
        return original(agent, optimizer, *rest)

    monkeypatch.setattr(ppo, "learn", recording_learn)
    sizes = dict(num_envs=2, num_steps=8, total_timesteps=64, num_minibatches=1, num_epochs=1)
    ppo.train(ppo.Args(env="CartPole-v1", run_dir=str(tmp_path / "run"), quiet=True, learning_rate=0.4, **sizes))
    assert rates == pytest.approx([0.4, 0.3, 0.2, 0.1])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(num_minibatches=3), "num_minibatches must divide num_envs \\* num_steps = 16 .* got 3"),
        (dict(num_minibatches=16), "parts of 2 or more, got 16"),
        (dict(num_epochs=0), "num_epochs must be at least 1, got 0"),
        (dict(gamma=1.5), r"gamma must lie in \[0.0, 1.0\], got 1.5"),
    ],
)
def test_bad_sizes_are_named(changed, message):
    with pytest.raises(common.UsageError, match=message):
        ppo.Args(**{"num_envs": 2, "num_steps": 8, **changed})


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_learns_cart_pole(tmp_path, compiled):
    args = ppo.Args(
        env="CartPole-v1",
        autoreset_mode="NextStep",  # Gymnasium's own batch
        num_envs=8,
        num_steps=128,
        num_epochs=10,
        num_minibatches=8,
        gamma=0.98,
        gae_lambda=0.9,
        ent_coef=0.0,
        total_timesteps=80_000,
        run_dir=str(tmp_path / "run"),
        quiet=True,
        eval_episodes=32,
        compile=compiled,
    )
    run = ppo.train(args)
    assert run.summary["eval/episode_return"] > 400


@pytest.mark.slow
def test_learns_small_four_rooms(tmp_path):
    args = ppo.Args(
        env="Explore/FourRooms-v0",
        env_kwargs='{"size": 9}',
        num_envs=32,
        total_timesteps=200_000,
        run_dir=str(tmp_path / "run"),
        quiet=True,
        eval_episodes=64,
    )
    assert ppo.train(args).summary["eval/episode_return"] > 0.6
