import itertools
import math

import numpy as np
import pytest
import torch
from interruption import interrupted
from letters import Letters

from explore_gym.agents import common, knapsack_rl
from explore_gym.agents.common import text
from explore_gym.envs.text.rule_chain import RuleChain

CHAINS = dict(env="Explore/RuleChain-v0", env_kwargs='{"values": 6, "rules": 3, "max_length": 2, "skill": [0.0, 0.0]}')
MODEL = dict(context=16, num_layers=1, d_model=32, num_heads=2, sft_prompts=128)
SIZES = dict(num_envs=8, group_size=8, train_prompts=16, eval_episodes=16, eval_samples=4, pass_k="1,4", num_minibatches=2)


def arguments(**changed):
    short = dict(sft_steps=60, sft_batch_size=32, sft_learning_rate=1e-2, total_timesteps=4, quiet=True, device="cpu")
    return knapsack_rl.Args(**{**CHAINS, **MODEL, **SIZES, **short, "base_samples": 8, **changed})


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


def test_values_worked_by_hand():
    args = arguments()
    assert knapsack_rl.value(2, 0.5, args) == 0.5 * 0.125  # two responses differ in half of the cases; 1/2 * 1/4
    assert knapsack_rl.value(3, 0.5, args) == 0.75 * 0.125
    assert knapsack_rl.value(1, 0.3, args) == pytest.approx(0, abs=1e-12)  # one response has nothing to differ from
    assert knapsack_rl.value(2, 0.25, args) == pytest.approx((1 - 1 / 16 - 9 / 16) * 0.25 * 9 / 16)
    assert knapsack_rl.value(2, 0.25, arguments(gain="one")) == 6 / 16
    rates = np.linspace(0, 1, 101)
    assert rates[np.argmax([knapsack_rl.value(10**6, rate, args) for rate in rates])] == 0.33  # the gain's peak, at 1/3


def test_needed_responses_worked_by_hand():
    args = arguments()
    assert knapsack_rl.needed_responses(0.5, args) == 3  # ln 0.1 / ln 0.5 = 3.3
    assert knapsack_rl.needed_responses(0.9, args) == knapsack_rl.needed_responses(0.1, args) == 21  # 21.9
    assert knapsack_rl.needed_responses(0.01, args) == 128  # 229
    assert knapsack_rl.needed_responses(0.01, arguments(max_budget=1000)) == 229
    assert knapsack_rl.needed_responses(0.5, arguments(confidence=0.99)) == 6  # 6.6


def total_value(rates, extra, args):
    return sum(knapsack_rl.value(args.min_budget + k, rate, args) for rate, k in zip(rates, extra))


@pytest.mark.parametrize("gain", ["taylor", "one"])
def test_greedy_is_exact(gain):
    args = arguments(max_budget=8, gain=gain)
    rng = np.random.default_rng(0)
    for _ in range(20):
        rates, budget = rng.integers(1, 16, 4) / 16, int(rng.integers(1, 20))
        plans = [x for x in itertools.product(range(7), repeat=4) if sum(x) == budget]
        best = max(total_value(rates, plan, args) for plan in plans)
        extra = knapsack_rl.solve_greedily(rates, budget, args)
        assert sum(extra) == budget and max(extra) <= 6
        assert total_value(rates, extra, args) == pytest.approx(best, abs=1e-12)


def test_the_dynamic_programme_solves_the_problem_of_the_release():
    args = arguments(max_budget=8)
    rng = np.random.default_rng(1)

    def booked(rates, plan):
        return sum(knapsack_rl.value(2 + k, rate, args) for rate, k in zip(rates, plan) if k)

    differ = 0
    for _ in range(20):
        rates, budget = rng.uniform(0.05, 0.95, 4), int(rng.integers(1, 20))
        plans = [x for x in itertools.product(range(7), repeat=4) if sum(x) == budget]
        extra = knapsack_rl.solve_by_dp(rates, budget, args)
        assert sum(extra) == budget and max(extra) <= 6
        assert booked(rates, extra) == pytest.approx(max(booked(rates, plan) for plan in plans), abs=1e-12)
        exact = knapsack_rl.solve_greedily(rates, budget, args)
        assert total_value(rates, exact, args) >= total_value(rates, extra, args) - 1e-12
        differ += exact != extra
    assert differ > 0


@pytest.mark.parametrize("solve", [knapsack_rl.solve_greedily, knapsack_rl.solve_by_dp])
def test_solvers_give_no_more_than_the_largest_budget(solve):
    assert solve([0.3, 0.6], 100, arguments(max_budget=10)) == [8, 8]
    assert solve([0.3, 0.6], 0, arguments()) == [0, 0]


def allocated(rates, known=None, **changed):
    budgets, metrics = knapsack_rl.allocate(rates, known or [True] * len(rates), arguments(**changed))
    assert sum(budgets) == 8 * len(rates)
    return budgets, metrics["fallback"] * 8 * len(rates)


def test_allocations_worked_by_hand():
    # nothing known
    assert allocated([0.0, 0.3, 1.0], [False] * 3) == ([8, 8, 8], 0)
    # 0.5 needs 3 of the 24 - 6 = 18; 15 are for the prompt that was never right; then two and the three
    assert allocated([0.0, 0.5, 1.0]) == ([17, 5, 2], 15)
    # two that never were share: 32 - 8 - 3 = 21
    assert allocated([0.0, 0.5, 0.0, 1.0]) == ([2 + 11, 5, 2 + 10, 2], 21)
    # none never right: what isn't needed goes to the others that aren't sometimes right, known or not
    assert allocated([1.0, 0.5, 1.0]) == ([2 + 8, 5, 2 + 7], 15)
    assert allocated([1.0, 0.5, 0.0], [True, True, False]) == ([2 + 5, 5, 8 + 4], 9)
    # only one that is sometimes right: nobody to give to
    assert allocated([0.5]) == ([8], 0)
    # none sometimes right: everything to those that never were, or else to all
    assert allocated([0.0, 1.0, 0.0, 1.0]) == ([14, 2, 14, 2], 24)
    assert allocated([1.0, 1.0]) == ([8, 8], 0)
    # without fallback the knapsack gets it all
    assert allocated([0.0, 0.5, 1.0], fallback="off") == ([2, 20, 2], 0)
    # more than the largest budgets can take is spread over those that are sometimes right
    assert allocated([0.0, 0.5, 0.5, 1.0], fallback="off", max_budget=10) == ([2, 14, 14, 2], 0)


def test_hard_prompts_get_more_than_hopeless_and_easy_ones():
    rates = [0.01, 0.0625, 0.125, 0.25, 0.5, 0.75, 0.9375, 0.0]
    for solver in ("greedy", "dp_official"):
        budgets, fallback = allocated(rates, solver=solver)
        assert fallback == 0
        assert max(budgets) == max(budgets[1:4])
        assert budgets[-1] == 2
        assert max(budgets) > 2 * budgets[4]
    # the gain alone makes the difference between 0.0625 and 0.9375
    budgets, _ = allocated(rates, gain="one")
    assert abs(budgets[1] - budgets[6]) <= 1
    greedy, _ = allocated(rates)
    assert greedy[1] > greedy[6] + 2


def test_totals_are_conserved():
    rng = np.random.default_rng(2)
    for _ in range(60):
        n = int(rng.integers(1, 30))
        rates = (rng.integers(0, 17, n) / 16 * rng.integers(0, 2, n)).tolist()
        known = (rng.random(n) < rng.choice([0.0, 0.5, 1.0])).tolist()
        choices = dict(solver=rng.choice(["greedy", "dp_official"]), fallback=rng.choice(["on", "off"]))
        budgets, _ = allocated(rates, known, **{key: str(x) for key, x in choices.items()}, max_budget=16)
        assert min(budgets) >= 2


def test_success_rates_of_short_visits_reach_back_to_older_ones():
    history = knapsack_rl.History(5, window=16)

    def visit(index, right, wrong):
        rows = torch.tensor([True] * right + [False] * wrong)
        history.add([index], rows, torch.zeros(len(rows), dtype=torch.long))
        return history.rates[index].item()

    assert visit(3, 2, 6) == 2 / 8
    assert visit(3, 0, 2) == 2 / 10
    assert visit(3, 4, 0) == 6 / 14
    assert visit(3, 0, 4) == (4 + 0) / 16  # of 18, the first two are forgotten: they were right
    assert visit(3, 5, 15) == 5 / 20  # a long visit stands alone
    assert visit(3, 2, 0) == 2 / 16  # and is the last of what is remembered: 14 wrong ones before
    assert history.counts.tolist() == [0, 0, 0, 40, 0]
    assert history.solved.tolist() == [False, False, False, True, False]
    assert visit(1, 0, 8) == 0 and not history.solved[1]


def test_visits_of_a_batch_are_told_apart():
    history = knapsack_rl.History(5, window=16)
    right, groups = torch.tensor([1, 0, 0, 1, 1, 0]).bool(), torch.tensor([0, 1, 1, 0, 1, 2])
    history.add([4, 2, 0], right, groups)
    assert history.rates.tolist() == [0, 0, 1 / 3, 0, 1]
    assert history.counts.tolist() == [1, 0, 3, 0, 2]


class Scripted:
    """In the place of `rollout`: rewards of each prompt's responses, by index, one visit after the other."""

    def __init__(self, visits):
        self.visits, self.calls = {index: list(rewards) for index, rewards in visits.items()}, []

    def __call__(self, model, task, indices, counts, args):
        self.calls.append((list(indices), list(counts)))
        rewards = [self.visits[index].pop(0) for index in indices]
        rewards = [[x] * n if isinstance(x, int) else x for x, n in zip(rewards, counts)]
        assert [len(x) for x in rewards] == counts
        n, length = sum(counts), 3 + len(self.calls)
        written = torch.zeros(n, length, dtype=torch.bool)
        written[:, 1:] = True
        groups = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        tokens = torch.tensor(indices)[groups].unsqueeze(1).expand(-1, length)
        rewards = torch.tensor([x for group in rewards for x in group], dtype=torch.float64)
        b = {"tokens": tokens, "written": written, "logprobs": -written.float(), "rewards": rewards}
        return b | {"ended": rewards == 1, "groups": groups, "lengths": written.sum(1)}


class Collector:
    """Calls `collect` with scripted responses to three prompts."""

    def __init__(self, monkeypatch, visits, **changed):
        self.rollout = Scripted(visits)
        monkeypatch.setattr(text, "rollout", self.rollout)
        self.args = arguments(num_envs=3, train_prompts=3, **changed)
        self.prompts, self.history = text.Prompts(3), knapsack_rl.History(3, 16)
        self.pending = knapsack_rl.Pending(torch.device("cpu"))
        self.model = common.GPT(common.GPTConfig(19, 8, num_layers=1, d_model=8, num_heads=1), Letters())

    def __call__(self):
        b, metrics = knapsack_rl.collect(self.model, None, self.prompts, self.history, self.pending, self.args)
        return b, {key: float(x) for key, x in metrics.items()}

    def budgets(self):
        """Of the last call, by index."""
        indices, counts = self.rollout.calls[-1]
        return [counts[indices.index(i)] for i in range(3)]


def test_a_visit_decides_about_the_next_one(monkeypatch):
    half = [1, 0] * 4
    collect = Collector(monkeypatch, {0: [0, [0] * 16 + [1]], 1: [half, [1, 1, 0, 0, 0]], 2: [1, 1]})
    b, metrics = collect()
    assert collect.budgets() == [8, 8, 8]
    assert len(b["rewards"]) == metrics["rollouts"] == metrics["rollouts_trained"] == 24
    assert (metrics["signal"], metrics["effective"], metrics["unsolved"]) == (
        pytest.approx(1 / 3),
        pytest.approx(1 / 3),
        pytest.approx(1 / 3),
    )
    assert metrics["success"] == 0.5
    assert not any(key.startswith("budget/") for key in metrics)  # nothing was known
    assert metrics["largest_budget"] == 8

    b, metrics = collect()
    assert collect.budgets() == [17, 5, 2]
    assert metrics["fallback"] == 15 / 24
    assert (metrics["budget/0"], metrics["budget/0.5-0.75"], metrics["budget/1"]) == (17, 5, 2)
    assert metrics["effective"] == pytest.approx(22 / 24)
    assert (metrics["unsolved"], metrics["rollouts"], metrics["largest_budget"]) == (0, 48, 17)
    # 1 of 17, a long visit; 6 of 13
    assert collect.history.rates.tolist() == pytest.approx([1 / 17, 6 / 13, 1])
    expected = knapsack_rl.allocate([1 / 17, 6 / 13, 1.0], [True] * 3, collect.args)[0]
    collect.rollout.visits = {0: [0], 1: [0], 2: [0]}
    _, metrics = collect()
    assert collect.budgets() == expected
    assert (metrics["largest_budget"], metrics["largest_budget_so_far"]) == (max(expected), max(17, *expected))
    assert {"budget/0-0.1", "budget/0.25-0.5", "budget/1"} <= metrics.keys()


def test_uniform_budgets_ignore_history(monkeypatch):
    collect = Collector(monkeypatch, {i: [i % 2] * 3 for i in range(3)}, allocation="uniform")
    for _ in range(3):
        _, metrics = collect()
        assert collect.budgets() == [8, 8, 8]
    assert "fallback" not in metrics


def test_measured_rates_are_known_from_the_start(monkeypatch):
    collect = Collector(monkeypatch, {i: [0] for i in range(3)}, rates="oracle", oracle_samples=7)
    rates = {0: 0.0, 1: 0.5, 2: 1.0}

    def measured(model, task, indices, number, generator, args):
        assert number == 7
        return torch.tensor([rates[i] for i in indices], dtype=torch.float64)

    monkeypatch.setattr(knapsack_rl, "success_rates", measured)
    _, metrics = collect()
    assert collect.budgets() == [17, 5, 2]
    assert metrics["rollouts"] == 24  # what measures is not counted


def test_dynamic_sampling_learns_once_enough_groups_have_a_signal(monkeypatch):
    half, most = [1, 0] * 4, [1] * 7 + [0]
    collect = Collector(
        monkeypatch, {0: [half, half, 0, half], 1: [1, 1, most, half], 2: [0, 0, most, 0]}, allocation="dynamic"
    )
    b, metrics = collect()
    assert (len(b["rewards"]), metrics["rollouts"], metrics["effective"]) == (0, 24, pytest.approx(1 / 3))
    b, metrics = collect()
    assert (len(b["rewards"]), metrics["rollouts"]) == (0, 48)
    saved = knapsack_rl.Pending(torch.device("cpu"))
    saved.load_state_dict(collect.pending.state_dict())
    assert len(saved.batches) == 2
    collect.pending = saved
    b, metrics = collect()
    assert (len(b["rewards"]), metrics["rollouts_trained"], metrics["rollouts"]) == (24, 24, 72)  # the fourth is left out
    assert b["groups"].unique().numel() == 3
    assert b["tokens"][:16, 0].tolist() == [0] * 16
    assert b["rewards"].reshape(3, 8).sum(1).tolist() == [4, 4, 7]
    assert b["tokens"].shape == (24, 6)  # as long as the last draw
    advantages = knapsack_rl.compute_advantages(b["rewards"], b["groups"], collect.args)
    assert (advantages != 0).all()
    b, _ = collect()
    assert len(b["rewards"]) == 0 and len(collect.pending.batches) == 1  # nothing was left waiting


def test_advantages_worked_by_hand():
    # 1, 0, 0, 0 with standard deviation 0.5; equal ones; one of 40, where (39/40) / sqrt(1/40) = 6.2 is cut to 5
    rewards = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.1, 0.1, 0.1, 1.0, *[0.0] * 39], dtype=torch.float64)
    groups = torch.tensor([2] * 4 + [0] * 3 + [1] * 40)
    advantages = knapsack_rl.compute_advantages(rewards, groups, arguments())
    std = math.sqrt(1 / 40)  # 39 (1/40)^2 + (39/40)^2 = 39/40, divided by 39
    expected = [0.75 / 0.5] + [-0.25 / 0.5] * 3 + [0] * 3 + [5.0] + [-1 / 40 / std] * 39
    assert advantages.tolist() == pytest.approx(expected, abs=1e-4)
    assert (advantages[groups == 0] == 0).all()
    wide = knapsack_rl.compute_advantages(rewards, groups, arguments(largest_advantage=9.0))
    assert wide[7].item() == pytest.approx(39 / 40 / std, abs=1e-3)


def test_two_responses_that_differ_have_advantages_near_root_half():
    advantages = knapsack_rl.compute_advantages(torch.tensor([1.0, 0.0]), torch.tensor([0, 0]), arguments())
    assert advantages.tolist() == pytest.approx([math.sqrt(0.5), -math.sqrt(0.5)], abs=1e-5)


def by_hand(args):
    """Loss of two responses behind a prompt token: ratio 1.5 with advantage 1; ratios 0.5, 1, 20 with advantage -1."""
    ratios = torch.tensor([[7.0, 1.5, 7.0, 7.0], [7.0, 0.5, 1.0, 20.0]])
    written = torch.tensor([[False, True, False, False], [False, True, True, True]])
    old = torch.full((2, 4), -1.0)

    class Written:
        def hidden(self, tokens):
            return None

        def logprobs(self, hidden, tokens, temperature, written):
            return tuple(torch.where(written, x, 0.0) for x in (ratios.log() + old, torch.full((2, 4), 0.5)))

    m = {"tokens": torch.zeros(2, 4, dtype=torch.long), "written": written, "logprobs": old}
    m |= {"advantages": torch.tensor([1.0, -1.0]), "shares": written / written.sum()}
    loss, metrics = knapsack_rl.knapsack_loss(Written(), m, args)
    return loss.item(), {key: x.item() for key, x in metrics.items()}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        # ratio 1.5 is clipped to 1.28; of the other response, -0.8 - 1 and -20, which is cut to -10
        (dict(), -(1.28 - 0.8 - 1 - 10) / 4),
        (dict(dual_clip=30.0), -(1.28 - 0.8 - 1 - 20) / 4),
        (dict(clip_low=0.4), -(1.28 - 0.6 - 1 - 10) / 4),
        (dict(clip_high=0.7), -(1.5 - 0.8 - 1 - 10) / 4),
    ],
)
def test_losses_worked_by_hand(changed, expected):
    loss, metrics = by_hand(arguments(**changed))
    assert loss == pytest.approx(expected, abs=1e-6)
    assert metrics["entropy"] == pytest.approx(0.5)
    assert metrics["clip_high"] == (0.25 if "clip_high" not in changed else 0.0)
    assert metrics["clip_low"] == 0.25


def test_parts_and_order_of_a_batch_change_nothing(model):
    b = text.rollout(model, RuleChain(values=6, rules=3), range(4), [4, 10, 2, 5], arguments(max_tokens=12))
    b["advantages"] = torch.randn(len(b["rewards"]))
    order = torch.randperm(len(b["rewards"]))
    keys = ("tokens", "written", "logprobs", "advantages")

    def gradient(b, size):
        args = arguments(max_tokens=12, max_grad_norm=1e9, micro_batch=size)
        metrics = knapsack_rl.learn(model, torch.optim.SGD(model.parameters(), lr=0.0), {key: b[key] for key in keys}, args)
        return torch.cat([x.grad.flatten() for x in model.parameters()]), metrics

    expected, metrics = gradient(b, 1000)
    assert expected.abs().max() > 1e-3
    assert metrics["approx_kl"].item() == pytest.approx(0, abs=1e-6)  # the log-probs are those of sampling
    for same, size in ((b, 5), ({key: x[order] for key, x in b.items()}, 1000)):
        found, others = gradient(same, size)
        assert torch.allclose(found, expected, atol=1e-5)
        for key, x in metrics.items():
            assert others[key].item() == pytest.approx(x.item(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    "changed",
    [dict(), dict(solver="dp_official", rates="oracle", oracle_samples=16), dict(allocation="dynamic", train_prompts=48)],
)
def test_resumed_run_has_the_same_numbers(tmp_path, changed):
    whole, halves = interrupted(knapsack_rl, arguments, tmp_path, **changed)
    assert [row["step"] for row in whole] == [0, 1, 2, 3, 4, 4]
    assert [row["rollouts"] for row in whole[1:]] == [64, 128, 192, 256, 256]
    assert {"base/below_0.05", "base/above_0.8", "train/pass@4", "test/distinct", "effective", "unsolved"} <= whole[-1].keys()
    assert whole == halves
    assert "loss/policy" in whole[-1]
    if not changed:
        assert whole[1]["largest_budget"] == whole[2]["largest_budget"] == 8 < whole[3]["largest_budget"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(allocation="greedy"), "allocation must be one of knapsack, uniform, dynamic, got 'greedy'"),
        (dict(solver="dp"), "solver must be one of greedy, dp_official, got 'dp'"),
        (dict(group_size=1), "group_size must be at least 2, got 1"),
        (dict(min_budget=1), "min_budget must be at least 2, got 1"),
        (dict(max_budget=7), "max_budget must be at least 8, got 7"),
        (dict(confidence=1.0), "confidence must lie between 0 and 1, got 1.0"),
        (dict(train_prompts=20), "train_prompts must be a multiple of num_envs = 8, got 20"),
        (dict(dual_clip=1.0), "dual_clip must be greater than 1, got 1.0"),
        (dict(largest_advantage=0.0), "largest_advantage must be positive, got 0.0"),
        (dict(min_history=0), "min_history must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named(changed, message):
    with pytest.raises(common.UsageError, match=message):
        arguments(**changed)


@pytest.mark.slow
@pytest.mark.parametrize("changed", [dict(), dict(allocation="dynamic")])
def test_learns_rules_that_the_demonstrations_get_wrong(tmp_path, changed):
    task = dict(env_kwargs='{"values": 5, "rules": 2, "max_length": 2, "skill": [0.0, 0.0]}')
    sizes = dict(num_envs=32, group_size=8, train_prompts=64, total_timesteps=25, eval_episodes=48, eval_samples=16)
    base = dict(sft_steps=1000, sft_batch_size=64, sft_learning_rate=3e-3, learning_rate=1e-3)
    run = knapsack_rl.train(arguments(run_dir=str(tmp_path), **{**task, **sizes, **base, **changed}))
    first, last = common.read_metrics(tmp_path / "metrics.jsonl")[0], run.last
    assert first["train/pass@1"] < 0.6  # so often is a step of the demonstrations right
    assert last["train/pass@1"] > first["train/pass@1"] + 0.2
    assert last["test/pass@1"] > first["test/pass@1"] + 0.1
