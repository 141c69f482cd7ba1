"""Knapsack RL: rollouts go where they are likely to give a gradient, the same number of them in each iteration.

Knapsack RL (Li et al., 2025, arXiv:2509.25849): a prompt is an item, whose value depends on how many responses it gets and on
how often it was answered rightly the last time; and as flags what this is compared with. For text tasks of one prompt and one
response. A step is an iteration: num_envs * group_size responses, and the updates on them.
"""

from __future__ import annotations

import copy
import dataclasses
import heapq
import itertools
import math
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from explore_gym.agents import common
from explore_gym.agents.common import text

EDGES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # of the success rates whose mean budgets are logged
LARGEST_LOG_RATIO = 20.0  # beyond it a ratio could become infinite, and 0 * inf is not a number


@dataclass(kw_only=True)
class Args(text.Args):
    train_prompts: int = 512  # learning is on the tasks of the indices below this number, a multiple of num_envs
    group_size: int = 8  # responses to a prompt, on average
    allocation: Literal["knapsack", "uniform", "dynamic"] = "knapsack"  # dynamic: only groups with a signal fill a batch
    solver: Literal["greedy", "dp_official"] = "greedy"  # exact, or the release's, for which 2 responses are worth nothing
    rates: Literal["history", "oracle"] = "history"  # success rates are of earlier visits, or measured for the present model
    oracle_samples: int = 256  # responses to each prompt that measure it; they are not counted as rollouts
    gain: Literal["taylor", "one"] = "taylor"  # what a gradient is worth: p (1 - p)^2, or the same at each success rate p
    fallback: Literal["on", "off"] = "on"  # what prompts that are sometimes right don't need goes to those that never were
    min_budget: int = 2  # responses to a prompt of known success rate
    max_budget: int = 128
    confidence: float = 0.9  # probability of a signal that says how many responses are needed
    window: int = 16  # a visit of fewer responses is extended by older ones to this number
    min_history: int = 8  # responses without which the success rate isn't known
    largest_advantage: float = 5.0  # absolute value to which they are clamped
    clip_low: float = 0.2  # ratios below 1 - clip_low are clipped
    clip_high: float = 0.28  # ratios above 1 + clip_high are clipped
    dual_clip: float = 10.0  # no loss of a negative advantage exceeds it by this factor
    recompute: bool = False  # old log-probs by a forward instead of sampling's, which rounds otherwise in bfloat16
    num_epochs: int = 1  # passes over one iteration's responses
    num_minibatches: int = 8  # per epoch
    learning_rate: float = 3e-4
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    base_samples: int = 32  # responses of the base model to each training prompt, which tell how hard they are

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_epochs", "num_minibatches", "base_samples", "oracle_samples", "window", "min_history"):
            common.at_least(self, name, 1)
        for name in ("clip_high", "weight_decay"):
            common.at_least(self, name, 0)
        common.at_least(self, "min_budget", 2)
        common.at_least(self, "group_size", self.min_budget)
        common.at_least(self, "max_budget", self.group_size)
        common.within(self, "clip_low", 0.0, 1.0)
        for name in ("learning_rate", "max_grad_norm", "largest_advantage"):
            if not getattr(self, name) > 0:
                raise common.UsageError(f"{name} must be positive, got {getattr(self, name)}")
        if not self.dual_clip > 1:
            raise common.UsageError(f"dual_clip must be greater than 1, got {self.dual_clip}")
        if not 0 < self.confidence < 1:
            raise common.UsageError(f"confidence must lie between 0 and 1, got {self.confidence}")
        if self.train_prompts % self.num_envs:
            raise common.UsageError(f"train_prompts must be a multiple of num_envs = {self.num_envs}, got {self.train_prompts}")


def value(budget, rate, args):
    """What a prompt with this success rate is worth with so many responses: P(they differ) times the gain of a gradient.

    P = 1 - p^n - (1 - p)^n. The gain in success of an update is p (1 - p)^2 by a Taylor expansion (the paper's proposition 1).
    """
    return (1 - rate**budget - (1 - rate) ** budget) * (rate * (1 - rate) ** 2 if args.gain == "taylor" else 1.0)


def needed_responses(rate, args):
    """How many give a signal with the probability `confidence`, at most max_budget, rounded down."""
    return int(min(args.max_budget, math.log(1 - args.confidence) / math.log(max(rate, 1 - rate))))


def solve_greedily(rates, budget, args):
    """Further responses for prompts that have min_budget each, a list: always to whom the next one is worth most.

    That is exact, as the value is a concave function of the number of responses.
    """

    def entry(i, extra):
        n = args.min_budget + extra
        return value(n, rates[i], args) - value(n + 1, rates[i], args), i  # of a heap, whose first is the lowest

    extra, heap = [0] * len(rates), [entry(i, 0) for i in range(len(rates))]
    heapq.heapify(heap)
    while budget and heap:
        _, i = heap[0]
        extra[i] += 1
        budget -= 1
        if args.min_budget + extra[i] < args.max_budget:
            heapq.heapreplace(heap, entry(i, extra[i]))
        else:
            heapq.heappop(heap)
    return extra


def solve_by_dp(rates, budget, args):
    """The same by the dynamic programme of the release, which books nothing for a prompt without further responses."""
    most = args.max_budget - args.min_budget
    budget = min(budget, most * len(rates))
    best, choices = np.full(budget + 1, -np.inf), []
    best[0] = 0.0
    for rate in rates:
        values = np.array([0.0, *(value(args.min_budget + k, rate, args) for k in range(1, most + 1))])
        before = np.concatenate([np.full(most, -np.inf), best])
        totals = np.lib.stride_tricks.sliding_window_view(before, most + 1)[:, ::-1] + values  # [w, k]: k of w are for this one
        choices.append(totals.argmax(1))
        best = totals.max(1)
    extra = []
    for choice in reversed(choices):
        extra.append(int(choice[budget]))
        budget -= extra[-1]
    return extra[::-1]


def spread(number, receivers, budgets):
    """Adds a number of responses to the budgets of these prompts, as equally as possible."""
    for position, i in enumerate(receivers):
        budgets[i] += number // len(receivers) + (position < number % len(receivers))


def allocate(rates, known, args):
    """How many responses each prompt of a batch gets, a list that adds up to group_size per prompt, and metrics.

    rates are success rates, known says of which prompts. An unknown one gets group_size. The others get min_budget; what is
    left is for those that are sometimes right, or, as far as these don't need it, for those that never were.
    """
    batch = range(len(rates))
    total = args.group_size * len(rates)
    budgets = [args.min_budget if known[i] else args.group_size for i in batch]
    sometimes = [i for i in batch if known[i] and 0 < rates[i] < 1]
    never = [i for i in batch if known[i] and rates[i] == 0]
    left, surplus = total - sum(budgets), 0
    if not sometimes and never:
        surplus = left
        spread(surplus, never, budgets)
    elif not sometimes:
        budgets = [args.group_size] * len(rates)
    else:
        receivers = never or [i for i in batch if i not in sometimes]
        if args.fallback == "on" and receivers:
            surplus = max(0, left - sum(needed_responses(rates[i], args) for i in sometimes))
            spread(surplus, receivers, budgets)
        solve = solve_greedily if args.solver == "greedy" else solve_by_dp
        extra = solve([rates[i] for i in sometimes], left - surplus, args)
        for i, more in zip(sometimes, extra):
            budgets[i] += more
        spread(left - surplus - sum(extra), sometimes, budgets)  # where all have max_budget
    assert sum(budgets) == total, f"budgets must add up to {total}, got {sum(budgets)}"
    return budgets, {"fallback": surplus / total}


class History(nn.Module):
    """The success rate of each training prompt, from its last visits, and what is to be remembered of a run."""

    def __init__(self, num_prompts: int, window: int):
        super().__init__()
        self.register_buffer("recent", torch.zeros(num_prompts, window, dtype=torch.bool))  # right or not, newest last
        self.register_buffer("counts", torch.zeros(num_prompts, dtype=torch.long))
        self.register_buffer("rates", torch.zeros(num_prompts, dtype=torch.float64))
        self.register_buffer("solved", torch.zeros(num_prompts, dtype=torch.bool))
        self.register_buffer("largest_budget", torch.zeros((), dtype=torch.long))

    def add(self, indices, right, groups):
        """Visits of the prompts of these indices; right, bool, and groups, the position in indices, are (rows,)."""
        window = self.recent.shape[1]
        for position, index in enumerate(indices):
            visit = right[groups == position]
            self.counts[index] += len(visit)
            self.recent[index] = torch.cat([self.recent[index], visit])[-window:]
            latest = visit if len(visit) >= window else self.recent[index][-int(self.counts[index]) :]
            self.rates[index] = latest.double().mean()
            self.solved[index] |= visit.any()


class Pending:
    """Groups with a signal that wait until there are enough of them; goes into checkpoints."""

    def __init__(self, device):
        self.device, self.batches = device, []

    def state_dict(self):
        return {"batches": self.batches}

    def load_state_dict(self, state):
        self.batches = [{key: x.to(self.device) for key, x in b.items()} for b in state["batches"]]


@torch.no_grad()
def success_rates(model, task, indices, number, generator, args):
    """The share of right ones among a number of responses to each of the tasks of these indices, float64 (tasks,)."""
    prompts = [model.prompt(task.prompt(i)) for i in indices]
    samples = model.sample(prompts, number, args.max_tokens, args.temperature, generator=generator)
    answered = [indices[group] for group in samples.prompts.tolist()]
    right = torch.from_numpy(task.verify_batch(answered, model.texts(samples)) == 1)
    return right.double().reshape(-1, number).mean(1).to(model.device)


def collect(model, task, prompts, history, pending, args):
    """Responses to num_envs prompts, as many as are allocated to each; those to learn from now, or none, and metrics.

    With dynamic sampling, groups that have a signal are put aside until there are num_envs of them.
    """
    indices = prompts.draw(args.num_envs)
    if args.rates == "oracle":
        rates, known = success_rates(model, task, indices, args.oracle_samples, None, args), [True] * len(indices)
    else:
        rates, known = history.rates[indices], (history.counts[indices] >= args.min_history).tolist()
    budgets, metrics = [args.group_size] * len(indices), {}
    if args.allocation == "knapsack":
        budgets, metrics = allocate(rates.tolist(), known, args)
        metrics |= budgets_by_rate(rates.tolist(), known, budgets)
    b = text.rollout(model, task, indices, budgets, args)
    found, right = signals(b["rewards"], b["groups"]), b["rewards"] == 1
    prompts.rollouts += len(right)
    history.add(indices, right, b["groups"])
    history.largest_budget.fill_(max(int(history.largest_budget), *budgets))
    ready = b
    if args.allocation == "dynamic":
        waiting = {**b, "groups": b["groups"] + len(pending.batches) * args.num_envs}
        pending.batches.append({key: x[found[b["groups"]]] for key, x in waiting.items()})
        ready = enough_groups(pending, model.tokenizer.pad, args)
    metrics |= {
        "episode_return": b["rewards"].mean(),
        "episode_length": b["lengths"].double().mean(),
        "success": right.double().mean(),
        "ended": b["ended"].double().mean(),
        "signal": found.double().mean(),
        "effective": found[b["groups"]].double().mean(),
        "rollouts": prompts.rollouts,
        "rollouts_trained": len(ready["rewards"]),
        "unsolved": 1 - history.solved.double().mean(),
        "largest_budget": max(budgets),
        "largest_budget_so_far": history.largest_budget,
        "tokens": b["lengths"].sum(),
    }
    return ready, metrics


def enough_groups(pending, pad, args):
    """The first num_envs groups that wait, if there are so many, and then nothing waits any more; otherwise none."""
    waiting = text.merge(pending.batches, pad)
    numbers = waiting["groups"].unique()
    if len(numbers) < args.num_envs:
        return {key: x[:0] for key, x in waiting.items()}
    pending.batches = []
    return {key: x[waiting["groups"] <= numbers[args.num_envs - 1]] for key, x in waiting.items()}


def budgets_by_rate(rates, known, budgets):
    """The mean budget of prompts whose success rate lies in an interval, of those that were there."""
    names = ["0", *(f"{low:g}-{high:g}" for low, high in itertools.pairwise(EDGES)), "1"]
    found = defaultdict(list)
    for rate, is_known, budget in zip(rates, known, budgets):
        if is_known:
            place = sum(rate >= edge for edge in EDGES) if rate > 0 else 0
            found[names[place]].append(budget)
    return {f"budget/{name}": sum(found[name]) / len(found[name]) for name in names if name in found}


def signals(rewards, groups):
    """Whether the rewards within each group differ, bool (groups,); rewards and the number of each row's group are (rows,)."""
    none = rewards.new_zeros(int(groups.max()) + 1)
    low, high = (none.scatter_reduce(0, groups, rewards, how, include_self=False) for how in ("amin", "amax"))
    return high > low


def compute_advantages(rewards, groups, args):
    """Rewards relative to those of their group, which may be of any size, float32 (rows,); exactly 0 where all are equal.

    (r - mean(r)) / (std(r) + 1e-6), std being the one with n - 1, clamped to largest_advantage in both directions.
    """
    signal = signals(rewards, groups)
    zeros = torch.zeros(len(signal), dtype=rewards.dtype, device=rewards.device)
    sizes = zeros.index_add(0, groups, torch.ones_like(rewards))
    centred = rewards - (zeros.index_add(0, groups, rewards) / sizes)[groups]
    std = (zeros.index_add(0, groups, centred.square()) / (sizes - 1)).sqrt()
    advantages = (centred / (std[groups] + 1e-6)).clamp(-args.largest_advantage, args.largest_advantage)
    return torch.where(signal[groups], advantages, 0.0).float()


def knapsack_loss(model, m, args):
    """Clipped surrogate, and metrics, each a mean over tokens.

    m is a minibatch, or a part of one: shares (rows, length) are those of its tokens in the whole, so that losses and metrics
    of parts add up.
    """
    written, advantages = m["written"], m["advantages"].unsqueeze(1)
    logprobs, entropies = model.logprobs(model.hidden(m["tokens"]), m["tokens"], args.temperature, written=written)
    log_ratio = torch.where(written, logprobs - m["logprobs"], 0.0)
    policy_kl = log_ratio.exp() - 1 - log_ratio
    ratio = log_ratio.clamp(max=LARGEST_LOG_RATIO).exp()
    surrogate = torch.min(ratio * advantages, ratio.clamp(1 - args.clip_low, 1 + args.clip_high) * advantages)
    surrogate = torch.where(advantages < 0, surrogate.max(args.dual_clip * advantages), surrogate)
    policy_loss = -(m["shares"] * surrogate).sum()
    metrics = {
        "entropy": entropies,
        "approx_kl": policy_kl,
        "clip_low": (ratio < 1 - args.clip_low) & (advantages < 0),
        "clip_high": (ratio > 1 + args.clip_high) & (advantages > 0),
    }
    metrics = {key: (m["shares"] * x).sum() for key, x in metrics.items()}
    return policy_loss, {key: x.detach() for key, x in {"loss/policy": policy_loss, **metrics}.items()}


def learn(model, optimizer, m, args):
    """A step of AdamW on a minibatch, whose gradient is at most max_grad_norm long; returns metrics."""
    m["shares"] = m["written"] / m["written"].sum()
    optimizer.zero_grad()
    metrics = defaultdict(float)
    for part in zip(*(x.split(args.micro_batch) for x in m.values())):
        loss, added = knapsack_loss(model, dict(zip(m, part)), args)
        loss.backward()
        for key, x in added.items():
            metrics[key] += x
    metrics["grad_norm"] = nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)
    optimizer.step()
    return metrics


def update(model, optimizer, b, args):
    """num_epochs passes over an iteration's responses in random minibatches; returns the means of their metrics."""
    if args.recompute:
        b["logprobs"] = text.written_logprobs(model, b, args)[0]
    keys = ("tokens", "written", "logprobs", "advantages")
    updates = []
    for _ in range(args.num_epochs):
        for index in torch.randperm(len(b["rewards"]), device=model.device).chunk(args.num_minibatches):
            updates.append(learn(model, optimizer, {key: b[key][index] for key in keys}, args))
    return {key: sum(x[key] for x in updates) / len(updates) for key in updates[0]}


def spread_of_difficulty(rates, args):
    """Metrics of the base model's success rates; prints their histogram, for where all are alike there is nothing to choose."""
    if not args.quiet:
        print("base model: prompts by tenths of success rate", rates.histc(10, 0, 1).long().tolist(), flush=True)
    return {"base/below_0.05": (rates < 0.05).double().mean(), "base/above_0.8": (rates > 0.8).double().mean()}


def train(args):
    run = common.start(args, __file__)
    envs = {split: text.make_env(args, split) for split in ("train", "test")}
    task = envs["train"].task
    args = dataclasses.replace(args, max_tokens=args.max_tokens or envs["train"].batch.max_tokens)
    model = text.make_model(args, envs["train"], run.device)
    base = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), args.learning_rate, weight_decay=args.weight_decay)
    prompts, history = text.Prompts(args.train_prompts), History(args.train_prompts, args.window).to(run.device)
    pending = Pending(run.device)
    run.persist(model=model, optimizer=optimizer, prompts=prompts, history=history, pending=pending)
    if run.step == 0:
        generator = torch.Generator(run.device).manual_seed(run.eval_seed)
        rates = success_rates(base, task, range(args.train_prompts), args.base_samples, generator, args)
        run.log(0, {**spread_of_difficulty(rates, args), **text.evaluate_splits(model, base, envs, run.eval_seed, args)})
    for step in run.steps(1):
        started = time.perf_counter()
        b, metrics = collect(model, task, prompts, history, pending, args)
        if len(b["rewards"]):  # none where too few groups with a signal wait
            b["advantages"] = compute_advantages(b["rewards"], b["groups"], args)
            metrics |= update(model, optimizer, b, args)
        metrics["tokens_per_second"] = metrics.pop("tokens") / (time.perf_counter() - started)
        if step % args.eval_interval == 0 or step == args.total_timesteps:
            metrics |= text.evaluate_splits(model, base, envs, run.eval_seed, args)
        run.log(step, metrics)
    run.close()
    return run


if __name__ == "__main__":
    common.main(train, Args)
