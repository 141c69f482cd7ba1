import math

import numpy as np
import pytest
import torch
from interruption import interrupted
from letters import Letters

from explore_gym.agents import common, dars
from explore_gym.agents.common import text
from explore_gym.envs.text.rule_chain import RuleChain

CHAINS = dict(env="Explore/RuleChain-v0", env_kwargs='{"values": 6, "rules": 3, "max_length": 2, "skill": [0.0, 0.0]}')
MODEL = dict(context=16, num_layers=1, d_model=32, num_heads=2, sft_prompts=128)
SIZES = dict(num_envs=8, group_size=4, train_prompts=64, eval_episodes=16, eval_samples=4, pass_k="1,4", num_minibatches=2)


def arguments(**changed):
    short = dict(sft_steps=60, sft_batch_size=32, sft_learning_rate=1e-2, total_timesteps=4, quiet=True, device="cpu")
    return dars.Args(**{**CHAINS, **MODEL, **SIZES, **short, "base_samples": 8, **changed})


@pytest.fixture
def model():
    """A small model, far enough from uniform that what it draws depends on what it reads."""
    torch.manual_seed(0)
    task = RuleChain(values=6, rules=3)
    model = common.GPT(common.GPTConfig(task.tokenizer.vocab_size, 32, num_layers=2, d_model=32, num_heads=2), task.tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8.0)
    return model


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (dict(schedule="et"), [24, 11, 3, 1, 0, 0, 0, 0, 0]),
        (dict(schedule="hw"), [56, 24, 8, 3, 0, 0, 0, 0, 0]),
        (dict(schedule="none"), [0] * 9),
        # at 0, 1/16 counts: S = 0.1171875 and (4 - 8 S) / S = 26.1, (7.5 - 8 S) / S = 56
        (dict(schedule="et", max_group_size=64), [27, 11, 3, 1, 0, 0, 0, 0, 0]),
        (dict(schedule="hw", max_group_size=16), [8, 8, 8, 3, 0, 0, 0, 0, 0]),
        # S = 2 sqrt(u (1 - u)) is 0.484, 0.661, 0.866, 0.968; target 8, with hw 8 times 2 (1 - u) = 15/8, 14/8, 12/8, 10/8
        (dict(schedule="et", scale="std"), [9, 5, 2, 1, 0, 0, 0, 0, 0]),
        (dict(schedule="hw", scale="std"), [23, 14, 6, 3, 0, 0, 0, 0, 0]),
    ],
)
def test_the_second_stage_by_the_table(changed, expected):
    args = arguments(group_size=8, **changed)
    assert [dars.extra_responses(right / 8, args) for right in range(9)] == expected


def test_rounding_adds_no_response():
    # hardness weighted, without standard deviations: N / (2 u) - N, a whole number at u = k / N where k divides N / 2 * N
    args = arguments(group_size=10, schedule="hw", max_group_size=1000)
    assert [dars.extra_responses(right / 10, args) for right in (1, 2)] == [40, 15]
    assert dars.extra_responses(3 / 10, args) == 7  # 50 / 3 - 10 = 6.7


def test_the_cumulative_advantage_is_lifted_to_that_of_a_medium_prompt():
    args = arguments(group_size=8, schedule="et", max_group_size=1000)
    for right in range(1, 4):
        rate, size = right / 8, 2 * right / 8 * (1 - right / 8)
        total = 8 + dars.extra_responses(rate, args)
        assert (total - 1) * size < 8 * 0.5 <= total * size


def by_hand(args):
    """Loss of two responses behind a prompt token: ratio 1.5 with advantage 1; ratios 0.5, 1, 2 with advantage -1."""
    ratios = torch.tensor([[7.0, 1.5, 7.0, 7.0], [7.0, 0.5, 1.0, 2.0]])
    written = torch.tensor([[False, True, False, False], [False, True, True, True]])
    old = torch.full((2, 4), -1.0)

    class Written:
        def hidden(self, tokens):
            return None

        def logprobs(self, hidden, tokens, temperature, written):
            return tuple(torch.where(written, x, 0.0) for x in (ratios.log() + old, torch.full((2, 4), 0.5)))

    m = {"tokens": torch.zeros(2, 4, dtype=torch.long), "written": written, "logprobs": old}
    m |= {"advantages": torch.tensor([1.0, -1.0]), "weights": written / args.max_tokens, "shares": written / written.sum()}
    loss, metrics = dars.dars_loss(Written(), m, args)
    return loss.item(), {key: x.item() for key, x in metrics.items()}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        # ratio 1.5 is clipped to 1.2; of the other response, min(-0.5, -0.8) - 1 + min(-2, -1.2) = -3.8
        (dict(ent_coef=0.0), -(1.2 - 3.8) / 5),
        (dict(), -(1.2 - 3.8) / 5 - 0.001 * 0.5),
        (dict(ent_coef=0.1), -(1.2 - 3.8) / 5 - 0.1 * 0.5),
        (dict(ent_coef=0.0, clip_low=0.4), -(1.2 - 0.6 - 1 - 2) / 5),
        (dict(ent_coef=0.0, clip_high=0.7), -(1.5 - 3.8) / 5),
    ],
)
def test_losses_worked_by_hand(changed, expected):
    loss, metrics = by_hand(arguments(max_tokens=5, **changed))
    assert loss == pytest.approx(expected, abs=1e-6)
    assert metrics["entropy"] == pytest.approx(0.5)
    assert metrics["clip_high"] == (0.25 if "clip_high" not in changed else 0.0)  # 2 has a negative advantage
    assert metrics["clip_low"] == 0.25
    k3 = sum(ratio - 1 - math.log(ratio) for ratio in (1.5, 0.5, 1, 2)) / 4
    assert metrics["approx_kl"] == pytest.approx(k3, abs=1e-6)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (dict(), [0.75, 0.0, -0.25, 0.0, -0.25, 0.0, -0.25]),
        (dict(scale="std"), [1.5 / (1 + 2e-6), 0.0, -0.5 / (1 + 2e-6), 0.0, -0.5 / (1 + 2e-6), 0.0, -0.5 / (1 + 2e-6)]),
    ],
)
def test_advantages_of_mixed_groups_worked_by_hand(changed, expected):
    # 1, 0, 0, 0 with standard deviation sqrt((0.75^2 + 3 * 0.25^2) / 3) = 0.5; three of 0.1, whose mean is not quite 0.1
    rewards = torch.tensor([1.0, 0.1, 0.0, 0.1, 0.0, 0.1, 0.0], dtype=torch.float64)
    groups = torch.tensor([4, 1, 4, 1, 4, 1, 4])
    advantages = dars.compute_advantages(rewards, groups, arguments(**changed))
    assert advantages.tolist() == pytest.approx(expected, abs=1e-6)
    assert (advantages[groups == 1] == 0).all()


class Scripted:
    """In the place of `rollout`: rewards of each prompt's responses, by stage."""

    def __init__(self, first, second):
        self.stages, self.calls = [first, second], []

    def __call__(self, model, task, indices, counts, args):
        rewards = self.stages[len(self.calls)]
        self.calls.append((list(indices), counts))
        sizes = [counts] * len(indices) if isinstance(counts, int) else counts
        assert [len(x) for x in rewards] == sizes
        n, length = sum(sizes), 3 + len(self.calls)
        written = torch.zeros(n, length, dtype=torch.bool)
        written[:, 1:] = True
        groups = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        tokens = torch.tensor(indices)[groups].unsqueeze(1).expand(-1, length)
        rewards = torch.tensor([x for group in rewards for x in group], dtype=torch.float64)
        b = {"tokens": tokens, "written": written, "logprobs": -written.float(), "rewards": rewards}
        return b | {"ended": rewards == 1, "groups": groups, "lengths": written.sum(1)}


def collected(monkeypatch, model, first, second, hard, **changed):
    scripted, prompts = Scripted(first, second), text.Prompts(4)
    monkeypatch.setattr(text, "rollout", scripted)
    args = arguments(num_envs=4, group_size=4, train_prompts=4, **changed)
    b, metrics = dars.collect(model, None, prompts, hard, args)
    return b, {key: float(x) for key, x in metrics.items()}, scripted.calls, prompts


def test_stages_are_merged_before_groups_without_signal_are_dropped(monkeypatch, model):
    # N = 4 and hw: none right counts as 1/8: 4 / (2/8) - 4 = 12, at most 10 - 4 = 6; 1/4: 4 / (2/4) - 4 = 4; at 1 none
    first = [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
    second = [[0, 1, 0, 0, 0, 0], [0, 0, 1, 1], [], [0] * 6]
    torch.manual_seed(0)
    hard = torch.ones(4, dtype=torch.bool)
    b, metrics, calls, prompts = collected(monkeypatch, model, first, second, hard, schedule="hw", max_group_size=10)
    (indices, first_counts), (again, counts) = calls
    assert sorted(indices) == [0, 1, 2, 3] and again == indices
    assert (first_counts, counts) == (4, [6, 4, 0, 6])
    assert b["groups"].bincount().tolist() == [10, 8]
    assert b["tokens"][b["groups"] == 0, 0].eq(indices[0]).all()
    advantages = dars.compute_advantages(b["rewards"], b["groups"], arguments())
    assert advantages.tolist() == pytest.approx(
        [-0.1] * 4 + [0.625] + [-0.375] * 3 + [-0.1, 0.9] + [-0.1] * 4 + [-0.375] * 2 + [0.625] * 2
    )
    assert (metrics["signal"], metrics["signal_first"], metrics["rescued"]) == (0.5, 0.25, 0.25)
    assert (metrics["rollouts"], metrics["rollouts_second"], metrics["rollouts_trained"]) == (32, 16, 18)
    assert (metrics["largest_group"], metrics["hard_positives"]) == (10, 4)
    assert metrics["success"] == metrics["episode_return"] == pytest.approx(5 / 16)  # of the first stage
    assert metrics["tokens"] == 16 * 3 + 16 * 4
    assert b["tokens"].shape == (18, 5)
    assert prompts.rollouts == 32


def test_right_responses_count_for_hard_prompts_only(monkeypatch, model):
    first = [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [0, 0, 1, 1]]
    torch.manual_seed(0)
    indices = text.Prompts(4).order.tolist()
    hard = torch.zeros(4, dtype=torch.bool)
    hard[[indices[1], indices[2]]] = True
    torch.manual_seed(0)
    _, metrics, calls, _ = collected(monkeypatch, model, first, None, hard)
    assert calls == [(indices, 4)]  # nothing is added from a half on
    assert metrics["hard_positives"] == 3  # all right: nothing is learnt from it
    assert metrics["rollouts_second"] == 0


class Answers:
    """A model that answers two prompts with given letters."""

    tokenizer, device = Letters(), torch.device("cpu")
    said = ("b", "b", "a", "c", "a", "a", "b", "a")

    def prompt(self, text):
        return [1, *self.tokenizer.encode(text)]

    def sample(self, prompts, n, max_new_tokens, temperature, generator):
        assert (len(prompts), n, max_new_tokens, temperature) == (2, 4, 2, 0.7)
        empty = torch.zeros(8, 3, dtype=torch.long)
        return common.Samples(empty, empty.bool(), empty.float(), empty[:, 0].bool(), torch.arange(8) // n)

    def texts(self, samples):
        return list(self.said)


def test_success_rates_worked_by_hand():
    class Task:
        def prompt(self, index):
            return "p"

        def verify_batch(self, indices, responses):
            assert indices == [5] * 4 + [6] * 4
            return np.array([1.0 if response in ("b", "c") else 0.5 for response in responses])

    rates = dars.success_rates(Answers(), Task(), [5, 6], 4, None, arguments(max_tokens=2, temperature=0.7))
    assert rates.tolist() == [0.75, 0.25]  # half a reward is not right


def gradient(model, b, args):
    """What a step of SGD with learning rate 1 moves the parameters by, and metrics."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    keys = ("tokens", "written", "logprobs", "advantages")
    metrics = dars.learn(model, optimizer, {key: b[key] for key in keys}, args)
    return torch.cat([x.grad.flatten() for x in model.parameters()]), metrics


def rolled_out(model, args, counts):
    torch.manual_seed(1)
    b = text.rollout(model, RuleChain(values=6, rules=3), range(len(counts)), counts, args)
    b["advantages"] = torch.randn(len(b["rewards"]))
    return b


def test_parts_padding_and_order_of_a_batch_change_nothing(model):
    args = arguments(max_tokens=12, max_grad_norm=1e9, ent_coef=0.1)
    b = rolled_out(model, args, [4, 10, 1, 5])
    expected, metrics = gradient(model, b, args)
    assert expected.abs().max() > 1e-3
    wider = {key: torch.nn.functional.pad(x, (0, 5)) if x.dim() == 2 else x for key, x in b.items()}
    order = torch.randperm(len(b["rewards"]))
    shuffled = {key: x[order] for key, x in b.items()}
    for same, size in ((wider, 1000), (shuffled, 1000), (b, 3)):
        found, others = gradient(model, same, arguments(max_tokens=12, max_grad_norm=1e9, ent_coef=0.1, micro_batch=size))
        assert torch.allclose(found, expected, atol=1e-4)
        for key, x in metrics.items():
            assert others[key].item() == pytest.approx(x.item(), rel=1e-4, abs=1e-5)


def test_a_larger_group_counts_for_more(model):
    args = arguments(max_tokens=12, max_grad_norm=1e9, ent_coef=0.0)
    b = rolled_out(model, args, [4, 4])
    once, _ = gradient(model, b, args)
    second = {key: x[b["groups"] == 1] for key, x in b.items()}
    alone, _ = gradient(model, second, args)
    repeated = {key: torch.cat([x, second[key], second[key]]) for key, x in b.items()}
    assert torch.allclose(gradient(model, repeated, args)[0], once + 2 * alone, atol=1e-4)
    assert alone.abs().max() > 1e-3


def test_log_probs_of_learning_are_those_of_sampling(model):
    args = arguments(max_tokens=12)
    b = rolled_out(model, args, [4, 10, 1, 5])
    _, metrics = gradient(model, b, args)
    assert metrics["approx_kl"].item() == pytest.approx(0, abs=1e-6)
    assert metrics["clip_low"] == metrics["clip_high"] == 0


@pytest.mark.parametrize(
    "changed",
    [dict(schedule="hw"), dict(schedule="et", scale="std", num_epochs=2, num_minibatches=1, recompute=True, hard_rate=1.0)],
)
def test_resumed_run_has_the_same_numbers(tmp_path, changed):
    whole, halves = interrupted(dars, arguments, tmp_path, **changed)
    assert [row["step"] for row in whole] == [0, 1, 2, 3, 4, 4]
    assert {"train/pass@4", "test/distinct", "loss/policy", "clip_high", "rollouts", "hard_positives"} <= whole[-1].keys()
    assert whole[-1]["rollouts"] > 4 * 8 * 4  # there was a second stage
    assert whole[-1]["test/kl"] != 0
    assert whole == halves
    if "hard_rate" in changed:
        assert whole[0]["hard"] > 0 < whole[1]["hard_positives"]


def test_nothing_is_learnt_where_nothing_has_a_signal(tmp_path, monkeypatch):
    monkeypatch.setattr(RuleChain, "check", lambda self, instance, response: 0.0)
    dars.train(arguments(run_dir=str(tmp_path), total_timesteps=2))
    rows = common.read_metrics(tmp_path / "metrics.jsonl")
    assert [row.get("rollouts") for row in rows] == [None, 128, 256]  # 8 prompts, 4 + 12 responses to each
    assert all("loss/policy" not in row and row["largest_group"] == 16 for row in rows[1:])
    assert rows[2]["test/kl"] == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(schedule="easy"), "schedule must be one of none, et, hw, got 'easy'"),
        (dict(group_size=1), "group_size must be at least 2, got 1"),
        (dict(max_group_size=3), "max_group_size must be at least 4, got 3"),
        (dict(clip_low=1.5), r"clip_low must lie in \[0.0, 1.0\], got 1.5"),
        (dict(hard_rate=-0.1), r"hard_rate must lie in \[0.0, 1.0\], got -0.1"),
        (dict(base_samples=0), "base_samples must be at least 1, got 0"),
        (dict(learning_rate=0.0), "learning_rate must be positive, got 0.0"),
    ],
)
def test_bad_arguments_are_named(changed, message):
    with pytest.raises(common.UsageError, match=message):
        arguments(**changed)


def test_caps_are_the_papers():
    assert [arguments(schedule=x, group_size=8).max_group_size for x in ("none", "et", "hw")] == [8, 32, 64]
    assert arguments(schedule="none", group_size=48).max_group_size == 48


@pytest.mark.slow
@pytest.mark.parametrize("changed", [dict(schedule="hw"), dict(schedule="et", num_epochs=2, num_minibatches=1)])
def test_learns_rules_that_the_demonstrations_get_wrong(tmp_path, changed):
    task = dict(env_kwargs='{"values": 5, "rules": 2, "max_length": 2, "skill": [0.0, 0.0]}')
    sizes = dict(num_envs=32, group_size=8, num_minibatches=2, total_timesteps=25, eval_episodes=48, eval_samples=16)
    base = dict(sft_steps=1000, sft_batch_size=64, sft_learning_rate=3e-3, learning_rate=1e-3)
    run = dars.train(arguments(run_dir=str(tmp_path), **{**task, **sizes, **base, **changed}))
    first, last = common.read_metrics(tmp_path / "metrics.jsonl")[0], run.last
    assert first["train/pass@1"] < 0.6  # so often is a step of the demonstrations right
    assert last["train/pass@1"] > first["train/pass@1"] + 0.2
    assert last["test/pass@1"] > first["test/pass@1"] + 0.1
