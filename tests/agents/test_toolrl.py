import math

import numpy as np
import pytest
import torch
from interruption import interrupted

from explore_gym.agents import common, toolrl
from explore_gym.agents.common import sft, text
from explore_gym.envs.text.tool_grammar import GRANULARITIES, Request, ToolGrammar

PRICES = (("price", (("a", "O"), ("b", "S"))), ("price", (("a", "O"), ("b", "L"))))
ONE = '{"name": "price", "parameters": {"a": "O", "b": "S"}}'
TWO = '{"name": "price", "parameters": {"a": "O", "b": "L"}}'
HALF = '{"name": "price", "parameters": {"b": "L"}}'
MODEL = dict(num_layers=1, d_model=32, num_heads=2, sft_prompts=64)
SIZES = dict(num_envs=4, train_prompts=64, eval_episodes=8, eval_samples=1, num_minibatches=2, sft_clean_steps=4)


def arguments(**changed):
    short = dict(sft_steps=2, sft_batch_size=8, sft_clean_batch_size=8, total_timesteps=4, quiet=True, device="cpu")
    return toolrl.Args(**{**MODEL, **SIZES, **short, **changed})


@pytest.fixture
def task():
    """Two calls, then none, are wanted."""
    task = ToolGrammar()
    task._instances[0] = Request("parallel", False, (), "", 1, "", PRICES)
    task._instances[1] = Request("none", False, (), "", 1, "", ())
    return task


@pytest.fixture
def model():
    """A small model, far enough from uniform that what it draws depends on what it reads."""
    torch.manual_seed(0)
    task = ToolGrammar()
    model = common.GPT(common.GPTConfig(task.tokenizer.vocab_size, 256, num_layers=1, d_model=32, num_heads=2), task.tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8.0)
    return model


def called(*calls, thoughts="hm"):
    return f"<think> {thoughts} </think> <tool_call> {' '.join(calls)} </tool_call>"


def answered(thoughts="hm"):
    return f"<think> {thoughts} </think> <response> sorry </response>"


class Answers:
    """A model that answers with given texts, n for each prompt."""

    device = torch.device("cpu")

    def __init__(self, texts):
        self.said = list(texts)

    def prompt(self, text):
        return [1]

    def sample(self, prompts, n, max_new_tokens, temperature, generator):
        written = torch.ones(len(self.said), 5, dtype=torch.bool)
        return common.Samples(written.long(), written, -1.0 * written, written[:, 0], torch.arange(len(self.said)) // n)

    def texts(self, samples):
        return self.said


def judged(task, texts, groups, **changed):
    rows = torch.zeros(len(texts), 2)
    b = {"tokens": rows.long(), "written": rows > 0, "logprobs": rows, "ended": rows[:, 0] == 0, "groups": torch.tensor(groups)}
    return toolrl.judged(Answers(texts), task, [0, 1], b, arguments(**changed))


def rolled_out(model, args):
    """Responses to some tasks, with made-up advantages and all that a minibatch needs."""
    torch.manual_seed(1)
    b = text.rollout(model, ToolGrammar(), range(4), args.group_size, args)
    b["advantages"] = torch.randn(len(b["rewards"]), 1) * b["written"]
    b["weights"] = b["written"] / b["written"].sum()
    b["returns"] = torch.randn(b["weights"].shape) * b["written"]
    return b


def gradient(model, m, args):
    loss, _ = toolrl.clipped_loss(model, m, args)
    return torch.cat([x.flatten() for x in torch.autograd.grad(loss, list(model.parameters()))])


def test_what_is_looked_at_worked_by_hand(task):
    texts = [called(ONE, HALF, thoughts="a b c"), called(TWO, ONE), called(ONE)[:-12], answered("a b"), called(ONE)]
    b = judged(task, texts, [0, 0, 0, 1, 1])
    assert b["form"].tolist() == [1, 1, 0, 1, 0]
    assert b["correctness"].tolist() == pytest.approx([5.5 / 7, 1, 0, 0, 0])
    assert b["wanted"].tolist() == [1, 1, 1, 0, 0]
    assert b["thoughts"].tolist() == [3, 1, 1, 2, 1]
    other = called('{"name": "flight", "parameters": {"f": 1, "t": 2}}', TWO)
    for matching, expected in (("greedy", (1 / 3 + 2) / 7), ("optimal", (1 / 3 + 3) / 7)):
        assert judged(task, [other], [0], matching=matching)["correctness"] == pytest.approx(expected)
    for granularity, expected in (("coarse", 0), ("intermediate", 2 / 3), ("strict", 5 / 7)):
        assert judged(task, texts[:1], [0], granularity=granularity)["correctness"] == pytest.approx(expected)


def test_words_are_counted_between_the_tags():
    for response, words in (
        ("<think> a b </think> c", 2),
        ("<think> </think>", 0),
        ("<think> a <think> b </think>", 1),
        ("<think> a b", 0),
        ("a </think>", 0),
        ("</think> a <think>", 0),
    ):
        assert toolrl.thought_words(response) == words, response


B = {  # half right, all right, not even the form, and a response without a call where none is wanted
    "form": torch.tensor([1.0, 1, 0, 1]).double(),
    "correctness": torch.tensor([0.5, 1, 0, 0]).double(),
    "wanted": torch.tensor([1.0, 1, 1, 0]).double(),
    "thoughts": torch.tensor([0.0, 16, 32, 48]).double(),
}


@pytest.mark.parametrize(
    ("scale", "t", "expected"),
    [
        ("fixed", 1, [1 + 0, 1 + 3, -3, 1]),
        ("fixed", 100, [1 + 0, 1 + 3, -3, 1]),
        ("equal", 1, [1 + 0, 1 + 1, -1, 1]),
        ("two_stage", 29, [1 + 0, 1 + 1, -1, 1]),
        ("two_stage", 30, [0.5 + 0, 0.5 + 3, -3, 0.5]),
        ("smooth", 15, [1.9, 1.9 + 2.1, -1.8 - 2.1, 1.9]),  # a tenth of the way: form from -1.8 to 1.9
        ("smooth", 75, [1.5, 1.5 + 2.5, -1 - 2.5, 1.5]),
        ("smooth", 120, [1.2, 1.2 + 2.8, -1 - 2.8, 1.2]),  # form costs 1 at least
        ("smooth", 150, [1, 1 + 3, -1 - 3, 1]),
        ("smooth", 300, [1, 1 + 3, -1 - 3, 1]),
    ],
)
def test_scales_and_schedules_worked_by_hand(scale, t, expected):
    assert toolrl.shaped_rewards(B, t, arguments(scale=scale)).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("length", "t", "max_tokens", "expected"),
    [
        ("fixed", 1, 1024, [0, 16 / 512, 32 / 512, 48 / 512]),
        ("fixed", 80, 64, [0, 0.5, 1, 1]),  # 32 words
        ("scheduled", 21, 1024, [16 * i / 435.2 for i in range(4)]),  # 384 + 256 / 5
        ("scheduled", 105, 1024, [16 * i / 640 for i in range(4)]),
        ("scheduled", 105, 64, [0, 0.4, 0.8, 1]),  # 40 words
    ],
)
def test_lengths_worked_by_hand(length, t, max_tokens, expected):
    plain, shaped = (toolrl.shaped_rewards(B, t, arguments(length=x, max_tokens=max_tokens)) for x in ("none", length))
    assert (shaped - plain).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_without_schedules_the_reward_is_the_environment_s(granularity):
    task = ToolGrammar(reward="toolrl", granularity=granularity)
    sloppy = ToolGrammar(skill=0.6, sloppy=0.3)
    rng = np.random.default_rng(0)
    texts = [sloppy.demonstrate(i, rng) for i in range(60)]
    rows = torch.zeros(60, 2)
    b = {"tokens": rows.long(), "written": rows > 0, "logprobs": rows, "ended": rows[:, 0] == 0, "groups": torch.arange(60)}
    args = arguments(granularity=granularity)
    rewards = toolrl.shaped_rewards(toolrl.judged(Answers(texts), task, range(60), b, args), 50, args)
    expected = [task.respond(i, task.new_memory(), response).reward for i, response in enumerate(texts)]
    assert rewards.tolist() == pytest.approx(expected)
    assert len({round(x, 6) for x in expected}) > 4


def test_advantages_of_mixed_groups_worked_by_hand():
    # 4, -3, -3, -3 are 1, 0, 0, 0 but for scale: standard deviation 7 * 0.5; three of 0.1, whose mean is not quite 0.1
    rewards = torch.tensor([4.0, 0.1, -3.0, 0.1, -3.0, 0.1, -3.0], dtype=torch.float64)
    groups = torch.tensor([4, 1, 4, 1, 4, 1, 4])
    advantages = toolrl.compute_advantages(rewards, groups)
    assert advantages.tolist() == pytest.approx([1.5, 0, -0.5, 0, -0.5, 0, -0.5], abs=1e-5)
    assert (advantages[groups == 1] == 0).all()
    assert toolrl.signals(rewards, groups).tolist() == [False, False, False, False, True]


WRITTEN = torch.tensor([[False, True, True, False], [False, True, True, True]])


def test_rewards_of_tokens_worked_by_hand():
    b = {"written": WRITTEN, "lengths": torch.tensor([2, 3]), "rewards": torch.tensor([4.0, -3.0]).double()}
    b |= {"logprobs": -1.0 * WRITTEN, "base_logprobs": -2.0 * WRITTEN}
    assert toolrl.token_rewards(b, arguments()).tolist() == [[0, 0, 4, 0], [0, 0, 0, -3]]
    rewards = toolrl.token_rewards(b, arguments(kl_in_reward=0.1))
    assert rewards.flatten().tolist() == pytest.approx([0, -0.1, 3.9, 0, 0, -0.1, -0.1, -3.1])


def test_gae_worked_by_hand():
    rewards = torch.tensor([[0, -0.1, 3.9, 0], [0, 0, 0, -3]])
    values = torch.tensor([[9, 1, 2, 9], [9, -1, 0, 1.0]])
    advantages, returns = toolrl.gae(rewards, values, WRITTEN)
    assert returns.flatten().tolist() == pytest.approx([0, 3.8, 3.9, 0, 0, -3, -3, -3])
    assert advantages.flatten().tolist() == pytest.approx([0, 2.8, 1.9, 0, 0, -2, -3, -4])
    # the recursion that telescopes: errors, summed from the end
    errors = (rewards[1, 1:] + torch.tensor([0, 1.0, 0]) - values[1, 1:]).tolist()
    assert advantages[1, 1].item() == pytest.approx(sum(errors))


def test_whitening_leaves_out_what_was_not_written():
    x = torch.tensor([[50, 1, 2, 50], [50, 3, 4, 5.0]])  # mean 3, variance 10 / 4
    white = toolrl.whitened(x, WRITTEN)
    assert white.flatten().tolist() == pytest.approx(
        [0, *(i / math.sqrt(2.5) for i in (-2, -1)), 0, 0, *(i / math.sqrt(2.5) for i in (0, 1, 2))]
    )


class Written:
    """A model for which the log-probs and entropies of tokens, or the values of states, are given."""

    def __init__(self, *results):
        self.results = results

    def hidden(self, tokens):
        return None

    def logprobs(self, hidden, tokens, temperature, written):
        return tuple(torch.where(written, x, 0.0) for x in self.results)

    def values(self, hidden):
        return self.results[0]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        # ratio 1.5 is clipped to 1.2; of the other response, min(-0.5, -0.8) - 1 + min(-2, -1.2) = -3.8; four tokens
        (dict(ent_coef=0.0), -(1.2 - 3.8) / 4),
        (dict(ent_coef=0.1), -(1.2 - 3.8) / 4 - 0.1 * 0.5),
        (dict(ent_coef=0.0, clip_coef=0.6), -(1.5 - 3.5) / 4),
    ],
)
def test_policy_losses_worked_by_hand(changed, expected):
    ratios = torch.tensor([[7.0, 1.5, 7.0, 7.0], [7.0, 0.5, 1.0, 2.0]])
    written = torch.tensor([[False, True, False, False], [False, True, True, True]])
    old = torch.full((2, 4), -1.0)
    advantages = torch.tensor([[1.0], [-1.0]]) * written
    m = {"tokens": torch.zeros(2, 4).long(), "weights": written / 4, "logprobs": old, "advantages": advantages}
    loss, metrics = toolrl.clipped_loss(Written(ratios.log() + old, torch.full((2, 4), 0.5)), m, arguments(**changed))
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert metrics["entropy"] == pytest.approx(0.5)
    assert metrics["approx_kl"].item() == pytest.approx(sum(x - 1 - math.log(x) for x in (1.5, 0.5, 1, 2)) / 4, abs=1e-6)
    clipped = 0.25 * (changed.get("clip_coef", 0.2) < 0.5)  # 1.5 and 0.5; the ratio 2 goes on learning
    assert (metrics["clip_high"], metrics["clip_low"]) == (clipped, clipped)


def test_value_losses_worked_by_hand():
    values = torch.tensor(
        [[1.0, 2, 50, 50], [0, 1, 2, 50]]
    )  # of the states after tokens, so that a token's is one column before
    returns = torch.tensor([[0.0, 4, 4, 0], [0, -3, -3, -3]])
    m = {"tokens": torch.zeros(2, 4).long(), "weights": WRITTEN / 5, "returns": returns}
    loss = toolrl.value_loss(Written(values), m)
    assert loss.item() == pytest.approx((3**2 + 2**2 + 3**2 + 4**2 + 5**2) / 5 / 2)


def test_a_critic_starts_at_0_and_learns_apart_from_the_policy(model):
    critic, args = toolrl.make_critic(model), arguments(max_tokens=6, algorithm="ppo")
    m = rolled_out(model, args)
    assert (toolrl.state_values(critic, m["tokens"]) == 0).all()
    before = [x.clone() for x in model.parameters()]
    groups = [{"params": model.parameters(), "lr": 0.0}, {"params": critic.parameters(), "lr": 0.01}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    batch = {key: m[key] for key in ("tokens", "written", "logprobs", "advantages", "returns")}
    losses = [toolrl.learn(model, critic, optimizer, dict(batch), args)["loss/value"].item() for _ in range(30)]
    assert losses[0] == pytest.approx(m["returns"][m["written"]].square().mean().item() / 2, rel=1e-5)
    assert losses[-1] < losses[0] / 2
    assert all(torch.equal(x, y) for x, y in zip(before, model.parameters()))
    assert model.value_head is None


def test_groups_without_signal_contribute_exactly_nothing(model):
    args = arguments(max_tokens=6, ent_coef=0.0)
    m = rolled_out(model, args)
    silent = m["groups"] < 2
    m["advantages"][silent] = 0.0
    some = gradient(model, m, args)
    m["logprobs"][silent] -= 60.0  # ratios that would be infinite
    assert torch.equal(gradient(model, m, args), some)
    assert some.abs().max() > 0


def test_only_states_before_written_tokens_learn(model, monkeypatch):
    args = arguments(max_tokens=6)
    m, critic = rolled_out(model, args), toolrl.make_critic(model)
    torch.nn.init.ones_(critic.value_head.weight)
    losses = {model: lambda: toolrl.clipped_loss(model, m, args)[0], critic: lambda: toolrl.value_loss(critic, m)}
    for network, loss in losses.items():
        hidden = network.hidden(m["tokens"]).detach().requires_grad_()
        monkeypatch.setattr(network, "hidden", lambda tokens, hidden=hidden: hidden)
        loss().backward()
        learns = hidden.grad.abs().sum(-1) > 0
        assert torch.equal(learns[:, :-1], m["written"][:, 1:])  # prompts and padding are left out
        assert not learns[:, -1].any()


def test_log_probs_of_learning_are_those_of_sampling(model):
    args = arguments(max_tokens=6, temperature=0.7)
    _, metrics = toolrl.clipped_loss(model, rolled_out(model, args), args)
    assert metrics["approx_kl"].item() == pytest.approx(0, abs=1e-7)
    assert metrics["clip_low"] == metrics["clip_high"] == 0


def test_padding_order_and_parts_of_a_batch_change_nothing(model):
    args = arguments(max_tokens=6, max_grad_norm=1e9)
    m = rolled_out(model, args)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    expected, (loss, _) = gradient(model, m, args), toolrl.clipped_loss(model, m, args)
    assert expected.abs().max() > 1e-3
    wider = {key: torch.nn.functional.pad(x, (0, 5)) if x.dim() == 2 else x for key, x in m.items()}
    order = torch.randperm(len(m["rewards"]))
    for same in (wider, {key: x[order] for key, x in m.items()}):
        assert torch.allclose(gradient(model, same, args), expected, atol=1e-5)
    for size in (5, 1000):
        small = arguments(max_tokens=6, max_grad_norm=1e9, micro_batch=size)
        part = {key: m[key] for key in ("tokens", "written", "logprobs", "advantages")}
        metrics = toolrl.learn(model, None, optimizer, part, small)
        summed = torch.cat([x.grad.flatten() for x in model.parameters()])
        assert torch.allclose(summed, expected, atol=1e-5)
        assert metrics["loss/policy"].item() + 0.001 * -metrics["entropy"].item() == pytest.approx(loss.item(), abs=1e-5)
        assert metrics["grad_norm"].item() == pytest.approx(expected.norm().item(), rel=1e-4)


def test_evaluation_worked_by_hand(task):
    right, wrong, none = called(ONE, TWO, thoughts="a b c"), called(ONE, HALF), answered()
    metrics = toolrl.evaluate(Answers([right, wrong, none, none[8:]]), task, [0, 1], 0, arguments(eval_samples=2, pass_k="1,2"))
    metrics = {key: float(x) for key, x in metrics.items()}
    expected = {"pass@1": 0.5, "pass@2": 1, "parallel": 0.5, "none": 0.5, "format": 0.75, "thoughts": (3 + 1 + 1 + 0) / 4}
    assert metrics == {**expected, "length": 5}


def test_each_test_has_the_tools_it_says():
    tasks = {name: toolrl.make_env(arguments(), "test", **changed).task for name, changed in toolrl.TESTS.items()}
    requests = {name: [task.instance(i) for i in range(40)] for name, task in tasks.items()}
    assert {name: {r.masked for r in rs} for name, rs in requests.items()} == {
        "seen": {False},
        "masked": {True},
        "unseen": {False},
    }
    tools = {name: {(tool.verb, tool.noun) for r in rs for tool in r.tools} for name, rs in requests.items()}
    assert tools["seen"] & tools["masked"]
    assert not tools["unseen"] & (tools["seen"] | tools["masked"])
    assert all(task.split == "test" for task in tasks.values())


@pytest.mark.parametrize(
    "changed",
    [dict(sft_clean_prompts=16, kl_in_reward=0.1, scale="smooth"), dict(algorithm="ppo", group_size=1, length="fixed")],
)
def test_resumed_run_has_the_same_numbers(tmp_path, changed):
    whole, halves = interrupted(toolrl, arguments, tmp_path, max_tokens=16, **changed)
    assert [row["step"] for row in whole] == [0, 1, 2, 3, 4, 4]
    assert {"seen/pass@1", "unseen/format", "masked/thoughts", "loss/policy", "clip_high", "rollouts"} <= whole[-1].keys()
    assert ("loss/value" in whole[-1]) == (changed.get("algorithm") == "ppo")
    assert whole == halves


def test_schedules_count_iterations(tmp_path, monkeypatch):
    seen = []
    scales = toolrl.scales
    monkeypatch.setattr(toolrl, "scales", lambda scale, t: seen.append((scale, t)) or scales(scale, t))
    toolrl.train(arguments(max_tokens=4, scale="two_stage", run_dir=str(tmp_path)))
    assert seen == [("two_stage", t) for t in (1, 2, 3, 4)]


def test_clean_demonstrations_change_the_model_in_an_order_of_the_seed_s(tmp_path):
    rows, weights = [], []
    for seed, prompts in ((1, 0), (1, 16), (2, 16)):
        args = arguments(
            max_tokens=16, algorithm="none", seed=seed, sft_clean_prompts=prompts, run_dir=str(tmp_path / f"{seed}{prompts}")
        )
        run = toolrl.train(args)
        rows.append(common.read_metrics(run.metrics_file))
        weights.append(common.read_checkpoint(run.checkpoint_file)["state/model"]["embedding.weight"])
    assert [[row["step"] for row in metrics] for metrics in rows] == [[4], [4], [4]]  # evaluated once, trained never
    assert not any(torch.equal(weights[i], weights[j]) for i, j in ((0, 1), (1, 2)))


def test_clean_demonstrations_have_no_fault(monkeypatch):
    shown = []
    monkeypatch.setattr(common, "fine_tune", lambda model, task, config: shown.append((task, config)))
    args = arguments(sft_clean_prompts=20, seed=3)
    toolrl.make_model(args, toolrl.make_env(args, "train"), torch.device("cpu"))
    ((task, config),) = shown
    assert all(task.verify(i, task.demonstrate(i, np.random.default_rng(i))) == 1 for i in range(20))
    assert (config.num_prompts, config.fixed, config.steps, config.seed) == (20, True, 4, 3)


def test_the_base_model_is_trained_once(tmp_path, monkeypatch):
    toolrl.train(arguments(max_tokens=4, run_dir=str(tmp_path / "first"), total_timesteps=1))
    monkeypatch.setattr(sft, "fine_tune", lambda *_: pytest.fail("trained again"))
    toolrl.train(arguments(max_tokens=4, run_dir=str(tmp_path / "second"), total_timesteps=1, scale="equal"))
    rows = [common.read_metrics(tmp_path / name / "metrics.jsonl")[0] for name in ("first", "second")]
    assert rows[0]["seen/length"] == rows[1]["seen/length"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(algorithm="dpo"), "algorithm must be one of grpo, ppo, none, got 'dpo'"),
        (dict(scale="linear"), "scale must be one of fixed, equal, two_stage, smooth, got 'linear'"),
        (dict(length="long"), "length must be one of none, fixed, scheduled, got 'long'"),
        (dict(group_size=1), "group_size must be at least 2, got 1"),
        (dict(algorithm="ppo", group_size=0), "group_size must be at least 1, got 0"),
        (dict(sft_clean_prompts=100), "train_prompts must be at least 100, got 64"),
        (dict(kl_in_reward=-0.1), "kl_in_reward must be at least 0, got -0.1"),
        (dict(clip_coef=0.0), "clip_coef must be positive, got 0.0"),
        (dict(critic_learning_rate=0.0), "critic_learning_rate must be positive, got 0.0"),
        (dict(env_kwargs='{"granularity": "coarse"}'), "env_kwargs must leave granularity open: rewards are flags here"),
    ],
)
def test_bad_arguments_are_named(changed, message):
    with pytest.raises(common.UsageError, match=message):
        arguments(**changed)


def test_other_tasks_are_refused(tmp_path):
    with pytest.raises(common.UsageError, match="env must be Explore/ToolGrammar-v0, got Explore/Parity-v0"):
        toolrl.train(arguments(env="Explore/Parity-v0", env_kwargs="{}", run_dir=str(tmp_path)))


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_learns_the_form_that_the_demonstrations_get_wrong(tmp_path, algorithm):
    sizes = dict(num_envs=16 if algorithm == "grpo" else 64, group_size=4 if algorithm == "grpo" else 1, total_timesteps=25)
    base = dict(sft_prompts=1024, sft_steps=200, sft_batch_size=16, sft_learning_rate=1e-2)
    rates = dict(learning_rate=1e-3, critic_learning_rate=3e-3)
    run = toolrl.train(arguments(run_dir=str(tmp_path), algorithm=algorithm, **sizes, **base, **rates))
    rows = common.read_metrics(tmp_path / "metrics.jsonl")[1:]
    first, last = (np.mean([row["format"] for row in part]) for part in (rows[:5], rows[-5:]))
    assert last > first + 0.15
    assert run.last["episode_return"] > rows[0]["episode_return"]
