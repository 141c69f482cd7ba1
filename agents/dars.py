"""DARS: prompts that a language model seldom answers get more rollouts, so that they count as much as others; in broad batches.

Depth-Breadth Synergy in RLVR (Yang et al., 2025, arXiv:2508.13755): difficulty-adaptive rollout sampling with the schedules
equal treatment (ET) and hardness weighted (HW), and as flags what it is compared with. For text tasks of one prompt and one
response. A step is an iteration: responses to a batch of prompts in two stages, and the updates on them.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from explore_gym.agents import common
from explore_gym.agents.common import text

LARGEST_GROUPS = {"none": 0, "et": 32, "hw": 64}  # the paper's, for groups of 8
LARGEST_LOG_RATIO = 20.0  # beyond it a ratio could become infinite, and 0 * inf is not a number


@dataclass(kw_only=True)
class Args(text.Args):
    group_size: int = 8  # responses to each prompt in the first stage
    schedule: Literal["none", "et", "hw"] = "hw"  # further ones: equal treatment of hard prompts, or the harder the more
    max_group_size: int = 0  # both stages together; 0: 32 with et, 64 with hw
    scale: Literal["none", "std"] = "none"  # std: divide advantages by the group's standard deviation
    clip_low: float = 0.2  # ratios below 1 - clip_low are clipped
    clip_high: float = 0.2  # ratios above 1 + clip_high are clipped
    ent_coef: float = 0.001
    recompute: bool = False  # old log-probs by a forward instead of sampling's, which rounds otherwise in bfloat16
    num_epochs: int = 1  # passes over one iteration's responses; the paper's breadth: 2
    num_minibatches: int = 8  # per epoch; breadth: 1, of many prompts
    learning_rate: float = 3e-4
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    base_samples: int = 32  # responses of the base model to each training prompt, for its success rate
    hard_rate: float = 0.1  # prompts with a lower rate count as hard, in a metric

    def __post_init__(self) -> None:
        super().__post_init__()
        self.max_group_size = self.max_group_size or max(LARGEST_GROUPS[self.schedule], self.group_size)
        for name in ("num_epochs", "num_minibatches", "base_samples"):
            common.at_least(self, name, 1)
        for name in ("clip_high", "ent_coef", "weight_decay"):
            common.at_least(self, name, 0)
        common.at_least(self, "group_size", 2)
        common.at_least(self, "max_group_size", self.group_size)
        for name in ("clip_low", "hard_rate"):
            common.within(self, name, 0.0, 1.0)
        for name in ("learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise common.UsageError(f"{name} must be positive, got {getattr(self, name)}")


@torch.no_grad()
def success_rates(model, task, indices, number, generator, args):
    """The share of right ones among a number of responses to each of the tasks of these indices, float64 (tasks,)."""
    prompts = [model.prompt(task.prompt(i)) for i in indices]
    samples = model.sample(prompts, number, args.max_tokens, args.temperature, generator=generator)
    answered = [indices[group] for group in samples.prompts.tolist()]
    right = torch.from_numpy(task.verify_batch(answered, model.texts(samples)) == 1)
    return right.double().reshape(-1, number).mean(1).to(model.device)


def extra_responses(rate, args):
    """How many responses the second stage adds for a prompt of which this share of the first stage was right.

    A response at rate u has a mean absolute advantage S(u), so a group of N a cumulative one of N S(u). Where u < 1/2, it is
    lifted to N S(1/2), or with hw to 2 (1 - u) times that: (target - N S(u)) / S(u) more, rounded up.
    """
    n = args.group_size
    if args.schedule == "none" or rate >= 0.5:
        return 0
    rate = rate or 0.5 / n  # none right: half a right one
    size, middle = 2 * rate * (1 - rate), 0.5
    if args.scale == "std":
        size, middle = 2 * math.sqrt(rate * (1 - rate)), 1.0
    target = n * middle * (2 * (1 - rate) if args.schedule == "hw" else 1)
    wanted = (target - n * size) / size
    return min(math.ceil(wanted - 1e-9), args.max_group_size - n)  # what rounding adds to a whole number is no response


def collect(model, task, prompts, hard, args):
    """Responses of both stages to num_envs prompts, without groups that have no signal, and metrics.

    hard, bool (train_prompts,), says of which prompts right responses are counted.
    """
    indices = prompts.draw(args.num_envs)
    b = first = text.rollout(model, task, indices, args.group_size, args)
    rates = (first["rewards"] == 1).double().reshape(-1, args.group_size).mean(1)
    extra = [extra_responses(rate, args) for rate in rates.tolist()]
    if any(extra):
        b = text.merge([first, text.rollout(model, task, indices, extra, args)], model.tokenizer.pad)
    prompts.rollouts += len(b["rewards"])
    found = signals(b["rewards"], b["groups"])
    found_first = signals(first["rewards"], first["groups"])
    kept = {key: x[found[b["groups"]]] for key, x in b.items()}
    owners = torch.tensor(indices, device=hard.device)[kept["groups"]]
    metrics = {
        "episode_return": first["rewards"].mean(),
        "episode_length": first["lengths"].double().mean(),
        "success": (first["rewards"] == 1).double().mean(),
        "ended": first["ended"].double().mean(),
        "signal": found.double().mean(),
        "signal_first": found_first.double().mean(),
        "rescued": (found & (rates == 0) & ~found_first).double().mean(),
        "rollouts": prompts.rollouts,
        "rollouts_second": sum(extra),
        "rollouts_trained": len(kept["rewards"]),
        "largest_group": args.group_size + max(extra),
        "hard_positives": ((kept["rewards"] == 1) & hard[owners]).sum(),
        "tokens": b["lengths"].sum(),
    }
    return kept, metrics


def signals(rewards, groups):
    """Whether the rewards within each group differ, bool (groups,); rewards and the number of each row's group are (rows,)."""
    none = rewards.new_zeros(int(groups.max()) + 1)
    low, high = (none.scatter_reduce(0, groups, rewards, how, include_self=False) for how in ("amin", "amax"))
    return high > low


def compute_advantages(rewards, groups, args):
    """Rewards less the mean of their group, which may be of any size, float32 (rows,); exactly 0 where all are equal.

    scale std: divided by the standard deviation, the one with n - 1, plus 1e-6.
    """
    signal = signals(rewards, groups)
    zeros = torch.zeros(len(signal), dtype=rewards.dtype, device=rewards.device)
    sizes = zeros.index_add(0, groups, torch.ones_like(rewards))
    centred = rewards - (zeros.index_add(0, groups, rewards) / sizes)[groups]
    advantages = centred
    if args.scale == "std":
        std = (zeros.index_add(0, groups, centred.square()) / (sizes - 1)).sqrt()
        advantages = advantages / (std[groups] + 1e-6)
    return torch.where(signal[groups], advantages, 0.0).float()


def dars_loss(model, m, args):
    """Clipped surrogate, summed, - ent_coef * mean entropy, and metrics, each a mean over tokens.

    m is a minibatch, or a part of one: weights and shares (rows, length) are those of its tokens in the whole, for the sum and
    for the means, so that losses and metrics of parts add up.
    """
    written, advantages = m["written"], m["advantages"].unsqueeze(1)
    logprobs, entropies = model.logprobs(model.hidden(m["tokens"]), m["tokens"], args.temperature, written=written)
    log_ratio = torch.where(written, logprobs - m["logprobs"], 0.0)
    policy_kl = log_ratio.exp() - 1 - log_ratio
    ratio = log_ratio.clamp(max=LARGEST_LOG_RATIO).exp()
    surrogate = torch.min(ratio * advantages, ratio.clamp(1 - args.clip_low, 1 + args.clip_high) * advantages)
    policy_loss = -(m["weights"] * surrogate).sum()
    loss = policy_loss - args.ent_coef * (m["shares"] * entropies).sum()
    metrics = {
        "entropy": entropies,
        "approx_kl": policy_kl,
        "clip_low": (ratio < 1 - args.clip_low) & (advantages < 0),
        "clip_high": (ratio > 1 + args.clip_high) & (advantages > 0),
    }
    metrics = {key: (m["shares"] * x).sum() for key, x in metrics.items()}
    return loss, {key: x.detach() for key, x in {"loss/policy": policy_loss, **metrics}.items()}


def learn(model, optimizer, m, args):
    """A step of AdamW on a minibatch, whose gradient is at most max_grad_norm long; returns metrics."""
    m["weights"] = m["written"] / args.max_tokens  # a sum over tokens and responses: a larger group counts for more
    m["shares"] = m["written"] / m["written"].sum()
    optimizer.zero_grad()
    metrics = defaultdict(float)
    for part in zip(*(x.split(args.micro_batch) for x in m.values())):
        loss, added = dars_loss(model, dict(zip(m, part)), args)
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


def train(args):
    run = common.start(args, __file__)
    envs = {split: text.make_env(args, split) for split in ("train", "test")}
    task = envs["train"].task
    args = dataclasses.replace(args, max_tokens=args.max_tokens or envs["train"].batch.max_tokens)
    model = text.make_model(args, envs["train"], run.device)
    base = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), args.learning_rate, weight_decay=args.weight_decay)
    prompts = text.Prompts(args.train_prompts)
    run.persist(model=model, optimizer=optimizer, prompts=prompts)
    generator = torch.Generator(run.device).manual_seed(run.eval_seed)
    hard = success_rates(base, task, range(args.train_prompts), args.base_samples, generator, args) < args.hard_rate
    if run.step == 0:
        run.log(0, {"hard": hard.double().mean(), **text.evaluate_splits(model, base, envs, run.eval_seed, args)})
    for step in run.steps(1):
        started = time.perf_counter()
        b, metrics = collect(model, task, prompts, hard, args)
        if len(b["rewards"]):  # none are left where no group had a signal
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
