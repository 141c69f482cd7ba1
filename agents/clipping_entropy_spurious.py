"""Clipping, entropy and spurious rewards: what GRPO's clipping does to a language model whose rewards are coins.

An analysis with switches (Chen et al., 2025, arXiv:2512.16912): true, random or mixed rewards, each side of the clipping on or
off, minimal entropy as an aim of its own, one update per iteration as a control; and what the analysis is about is measured.
For text tasks of one prompt and one response. A step is an iteration: responses to a batch of prompts, and the updates on them.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from explore_gym.agents import common
from explore_gym.agents.common import text

LARGEST_LOG_RATIO = 20.0  # beyond it a ratio could become infinite, and 0 * inf is not a number
OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}


@dataclass(kw_only=True)
class Args(text.Args):
    group_size: int = 16  # responses to each prompt
    reward: Literal["true", "random", "mixed", "none"] = "true"  # random: a fair coin per response; none: entropy alone counts
    true_share: float = 0.3  # mixed: probability that a response's reward is the verified one, and not a coin
    clip: Literal["both", "none", "low", "high"] = "both"  # which ratios are clipped: below 1 - clip_coef, above 1 + clip_coef
    clip_coef: float = 0.2
    ent_min: float = 0.0  # times the mean entropy, which the loss adds: it is minimised
    recompute: bool = False  # old log-probs by a forward instead of sampling's, which rounds otherwise in bfloat16
    num_minibatches: int = 8  # updates per iteration; 1: every ratio is 1, and nothing is clipped
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 1e-4
    max_grad_norm: float = 1.0
    state_prompts: int = 400  # the first training prompts: one response of the base model to each visits the fixed states

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_minibatches", "state_prompts"):
            common.at_least(self, name, 1)
        common.at_least(self, "group_size", 2)
        common.at_least(self, "ent_min", 0)
        common.within(self, "true_share", 0.0, 1.0)
        common.within(self, "clip_coef", 0.0, 1.0)
        for name in ("learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise common.UsageError(f"{name} must be positive, got {getattr(self, name)}")
        if self.reward == "none" and not self.ent_min:
            raise common.UsageError("reward none needs a positive ent_min: there would be nothing to learn")
        if self.state_prompts > self.train_prompts:
            most = f"at most train_prompts, {self.train_prompts}"
            raise common.UsageError(f"state_prompts must be {most}, got {self.state_prompts}")

    @property
    def wrong_labels(self) -> float:
        """The probability that a response's reward is not the verified one."""
        return {"true": 0.0, "random": 0.5, "mixed": (1 - self.true_share) / 2, "none": 0.0}[self.reward]


class Labels:
    """Draws rewards that know nothing of the responses, from a generator of its own, which checkpoints hold."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def rewards(self, verified, args):
        """The rewards that are learnt from, of verified ones, float64 (rows,) both."""
        coins, shares = torch.rand(2, len(verified), generator=self.generator, dtype=torch.float64).to(verified.device)
        coins = (coins < 0.5).double()
        mixed = torch.where(shares < args.true_share, verified, coins)
        return {"true": verified, "random": coins, "mixed": mixed, "none": torch.zeros_like(verified)}[args.reward]

    def state_dict(self):
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state):
        self.generator.set_state(state["generator"])


class Totals(nn.Module):
    """Sums over a run: sizes of the two parts of the loss, and the damage of labels by the number of correct responses."""

    def __init__(self, group_size):
        super().__init__()
        self.register_buffer("raw", torch.zeros((), dtype=torch.float64))
        self.register_buffer("high", torch.zeros((), dtype=torch.float64))
        self.register_buffer("damage", torch.zeros(group_size + 1, 3, dtype=torch.float64))  # groups, damage, its square

    def count(self, num_correct, damages):
        moments = torch.stack([torch.ones_like(damages), damages, damages.square()], 1)
        self.damage.index_add_(0, num_correct, moments)

    def ratio(self, metrics):
        """Size of raw over that of correction/high, summed over the run so far; nothing before a ratio is above the limit."""
        self.raw += metrics["raw"]
        self.high += metrics["correction/high"]
        return {"raw_to_high": self.raw / self.high} if self.high > 0 else {}

    def damage_table(self, wrong_labels):
        """For each number of correct responses that occurred: groups, mean and variance of the damage, and what is expected."""
        rows = []
        for num_correct, (groups, damage, square) in enumerate(self.damage.tolist()):
            if groups:
                mean, variance = expected_damage(num_correct, len(self.damage) - 1, wrong_labels)
                row = {"correct": num_correct, "groups": int(groups), "mean": damage / groups, "expected_mean": mean}
                rows.append(row | {"variance": square / groups - (damage / groups) ** 2, "expected_variance": variance})
        return rows


def collect(model, task, prompts, labels, totals, args):
    """Responses to num_envs prompts, with the rewards to learn from, and metrics of them."""
    b = text.rollout(model, task, prompts.draw(args.num_envs), args.group_size, args)
    prompts.rollouts += len(b["rewards"])
    verified = b["rewards"]
    b["rewards"] = labels.rewards(verified, args)
    num_correct, damages = label_damage(verified, b["rewards"], b["groups"])
    totals.count(num_correct, damages)
    metrics = {
        "episode_return": verified.mean(),
        "episode_length": b["lengths"].double().mean(),
        "success": (verified == 1).double().mean(),
        "ended": b["ended"].double().mean(),
        "reward": b["rewards"].mean(),
        "signal": signals(b["rewards"], b["groups"]).double().mean(),
        "damage": damages.mean(),
        "damage/expected": expected_damage(num_correct.double(), args.group_size, args.wrong_labels)[0].mean(),
        "rollouts": prompts.rollouts,
        "tokens": b["lengths"].sum(),
    }
    return b, metrics


def signals(rewards, groups):
    """Whether the rewards within each group differ, bool (groups,); rewards and the number of each row's group are (rows,)."""
    none = rewards.new_zeros(int(groups.max()) + 1)
    low, high = (none.scatter_reduce(0, groups, rewards, how, include_self=False) for how in ("amin", "amax"))
    return high > low


def compute_advantages(rewards, groups):
    """Rewards relative to those of their group, float32 (rows,); exactly 0 where all are equal.

    (r - mean(r)) / std(r), the standard deviation with n - 1, plus 1e-6.
    """
    signal = signals(rewards, groups)
    zeros = torch.zeros(len(signal), dtype=rewards.dtype, device=rewards.device)
    sizes = zeros.index_add(0, groups, torch.ones_like(rewards))
    centred = rewards - (zeros.index_add(0, groups, rewards) / sizes)[groups]
    std = (zeros.index_add(0, groups, centred.square()) / (sizes - 1)).sqrt()
    advantages = centred / (std[groups] + 1e-6)
    return torch.where(signal[groups], advantages, 0.0).float()


def label_damage(verified, rewards, groups):
    """The correct responses of each group, and the centred advantage that they lose by labels which aren't the right ones.

    The sum over correct responses of (c - mean(c)) - (r - mean(r)), where c is 1 for a correct response and otherwise 0; both
    (groups,). It is g (1 - n / G) + f n / G with n of G responses correct, g of them not rewarded, and f others rewarded.
    """
    correct = (verified == 1).double()
    sums = torch.zeros(4, int(groups.max()) + 1, dtype=torch.float64, device=groups.device)
    each = torch.stack([torch.ones_like(correct), correct, correct - rewards, correct * (correct - rewards)])
    sizes, num_correct, excess, lost = sums.index_add(1, groups, each)
    return num_correct.long(), lost - num_correct / sizes * excess


def expected_damage(num_correct, group_size, wrong_labels=0.5):
    """Mean and variance of the damage where each label is wrong with a probability; for coins n (G - n) / G and n (G - n) / 4G.

    Proposition 5.2 and Theorem 5.3 have the mean for coins.
    """
    spread = num_correct * (group_size - num_correct) / group_size
    return 2 * wrong_labels * spread, wrong_labels * (1 - wrong_labels) * spread


def clipped_loss(model, m, args):
    """Clipped surrogate, summed over tokens, + ent_min * mean entropy, and metrics, each a mean over tokens.

    What is clipped is taken away from the raw surrogate: with both sides on, min(rho A, clip(rho) A) remains. m is a minibatch,
    or a part of one: weights and shares (rows, length) are those of its tokens in the whole, for the loss and for the metrics,
    so that losses and metrics of parts add up.
    """
    advantages = m["advantages"].unsqueeze(1)
    logprobs, entropies = model.logprobs(model.hidden(m["tokens"]), m["tokens"], args.temperature, written=m["written"])
    log_ratio = torch.where(m["written"], logprobs - m["logprobs"], 0.0)
    policy_kl = log_ratio.exp() - 1 - log_ratio
    ratio = log_ratio.clamp(max=LARGEST_LOG_RATIO).exp()
    raw = (m["weights"] * ratio * advantages).sum()
    high = (m["weights"] * (ratio - 1 - args.clip_coef).relu() * advantages.relu()).sum()
    low = (m["weights"] * (1 - args.clip_coef - ratio).relu() * (-advantages).relu()).sum()
    policy_loss = -(raw - high * (args.clip in ("both", "high")) - low * (args.clip in ("both", "low")))
    entropy = (m["shares"] * entropies).sum()
    metrics = {
        "loss/policy": policy_loss,
        "entropy": entropy,
        "approx_kl": (m["shares"] * policy_kl).sum(),
        "clip_low": (m["shares"] * ((ratio < 1 - args.clip_coef) & (advantages < 0))).sum(),
        "clip_high": (m["shares"] * ((ratio > 1 + args.clip_coef) & (advantages > 0))).sum(),
        "raw": raw,
        "correction/low": low,
        "correction/high": high,
    }
    return policy_loss + args.ent_min * entropy, {key: x.detach() for key, x in metrics.items()}


def learn(model, optimizer, m, args):
    """A step of the optimizer on a minibatch, whose gradient is at most max_grad_norm long; returns metrics."""
    m["weights"] = m["written"] / len(m["written"])  # sum over tokens, mean over responses
    m["shares"] = m["written"] / m["written"].sum()
    optimizer.zero_grad()
    metrics = defaultdict(float)
    for part in zip(*(x.split(args.micro_batch) for x in m.values())):
        loss, added = clipped_loss(model, dict(zip(m, part)), args)
        loss.backward()
        for key, x in added.items():
            metrics[key] += x
    metrics["raw"] = metrics["raw"].abs()
    metrics["grad_norm"] = nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)
    optimizer.step()
    return metrics


def update(model, optimizer, b, args):
    """One pass over an iteration's responses in random minibatches; returns the means of their metrics."""
    if args.recompute:
        b["logprobs"] = text.written_logprobs(model, b, args)[0]
    keys = ("tokens", "written", "logprobs", "advantages")
    updates = []
    for index in torch.randperm(len(b["rewards"]), device=model.device).chunk(args.num_minibatches):
        updates.append(learn(model, optimizer, {key: b[key][index] for key in keys}, args))
    return {key: sum(x[key] for x in updates) / len(updates) for key in updates[0]}


@torch.no_grad()
def draw_states(base, task, seed, args):
    """The fixed states: tokens and written, (state_prompts, length), of one response of the base model to each prompt."""
    prompts = [base.prompt(task.prompt(i)) for i in range(args.state_prompts)]
    generator = torch.Generator(base.device).manual_seed(seed)
    samples = base.sample(prompts, 1, args.max_tokens, args.temperature, generator=generator)
    return {"tokens": samples.tokens, "written": samples.written}


@torch.no_grad()
def next_logprobs(model, states, args):
    """Log-probs of every token in each of the fixed states, float32 (states, vocab_size)."""
    parts = zip(states["tokens"].split(args.micro_batch), states["written"].split(args.micro_batch))
    hidden = torch.cat([model.hidden(tokens)[:, :-1][written[:, 1:]] for tokens, written in parts])
    return (model.logits(hidden) / args.temperature).log_softmax(-1)


def entropy_of(logprobs):
    """Entropies, in nats, (...,), of log-probs (..., vocab_size)."""
    return -(logprobs.exp() * logprobs).sum(-1)


def skewness(logprobs):
    """The change of entropy to expect of independent changes of the logits, per unit of their variance, (...,).

    Half the trace of the entropy's second derivative, -sum_a [p (1 - p) + p (1 - 2p) (log p + H)] / 2, of log-probs
    (..., vocab_size): negative where all tokens are alike, positive where one of them stands out.
    """
    probs, surprise = logprobs.exp(), logprobs + entropy_of(logprobs).unsqueeze(-1)
    return -(probs * (1 - probs) + probs * (1 - 2 * probs) * surprise).sum(-1) / 2


def entropy_metrics(first, before, after):
    """Entropy in the fixed states after an iteration, its changes, and what the formula makes of the one by this iteration.

    Arguments are log-probs (states, vocab_size), of the base model, before and after the iteration. The variance of the
    logits' changes is measured in each state, over the vocabulary: what is added to all of them drops out.
    """
    variances = (after - before).var(-1)
    return {
        "fixed/entropy": entropy_of(after).mean(),
        "fixed/drift": (entropy_of(after) - entropy_of(first)).mean(),
        "fixed/change": (entropy_of(after) - entropy_of(before)).mean(),
        "fixed/predicted": (variances * skewness(before)).mean(),
        "fixed/variance": variances.mean(),
    }


@torch.no_grad()
def greedy_accuracy(model, task, number, args):
    """The share of the first tasks whose most likely response, token by token, is right."""
    prompts = [model.prompt(task.prompt(i)) for i in range(number)]
    samples = model.sample(prompts, 1, args.max_tokens, 0.0, generator=torch.Generator(model.device))
    return (task.verify_batch(range(number), model.texts(samples)) == 1).mean()


def evaluate(model, base, envs, seed, args):
    """What `text.evaluate_splits` measures at the temperature of training, and the accuracy without randomness."""
    metrics = text.evaluate_splits(model, base, envs, seed, args)
    for split, env in envs.items():
        number = min(args.eval_episodes, args.train_prompts) if split == "train" else args.eval_episodes
        metrics[f"{split}/greedy"] = greedy_accuracy(model, env.task, number, args)
    return metrics


def train(args):
    run = common.start(args, __file__)
    envs = {split: text.make_env(args, split) for split in ("train", "test")}
    task = envs["train"].task
    args = dataclasses.replace(args, max_tokens=args.max_tokens or envs["train"].batch.max_tokens)
    model = text.make_model(args, envs["train"], run.device)
    base = copy.deepcopy(model).requires_grad_(False)
    optimizer = OPTIMIZERS[args.optimizer](model.parameters(), args.learning_rate)
    prompts, labels, totals = text.Prompts(args.train_prompts), Labels(run.env_seed), Totals(args.group_size).to(run.device)
    run.persist(model=model, optimizer=optimizer, prompts=prompts, labels=labels, totals=totals)
    states = draw_states(base, task, run.eval_seed, args)
    first, before = next_logprobs(base, states, args), next_logprobs(model, states, args)
    if run.step == 0:
        run.log(0, evaluate(model, base, envs, run.eval_seed, args) | {"fixed/entropy": entropy_of(first).mean()})
    for step in run.steps(1):
        started = time.perf_counter()
        b, metrics = collect(model, task, prompts, labels, totals, args)
        b["advantages"] = compute_advantages(b["rewards"], b["groups"])
        metrics |= update(model, optimizer, b, args)
        metrics["tokens_per_second"] = metrics.pop("tokens") / (time.perf_counter() - started)
        after = next_logprobs(model, states, args)
        metrics |= entropy_metrics(first, before, after) | totals.ratio(metrics)
        before = after
        if step % args.eval_interval == 0 or step == args.total_timesteps:
            metrics |= evaluate(model, base, envs, run.eval_seed, args)
        run.log(step, metrics)
    run.summary["damage"] = totals.damage_table(args.wrong_labels)
    run.close()
    return run


if __name__ == "__main__":
    common.main(train, Args)
