"""GRPO: a language model learns from verified answers, each compared with the others to the same prompt.

Group-relative policy optimisation (Shao et al., 2024, arXiv:2402.03300, eq. 3), and as flags Dr. GRPO (Liu et al., 2025,
arXiv:2503.20783), DAPO (Yu et al., 2025, arXiv:2503.14476, eq. 8) and RLOO (Ahmadian et al., 2024, arXiv:2402.14740). For text
tasks of one prompt and one response. A step is an iteration: responses to a batch of prompts, and the updates on them.
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

VARIANTS = {  # which choices make up an algorithm
    "grpo": dict(
        baseline="mean",
        scale="std",
        ratio="token",
        aggregation="sequence",
        clip_high=0.2,
        no_signal="keep",
        overlong="keep",
    ),
    "dr_grpo": dict(
        baseline="mean",
        scale="none",
        ratio="token",
        aggregation="constant",
        clip_high=0.2,
        no_signal="keep",
        overlong="keep",
    ),
    "dapo": dict(
        baseline="mean",
        scale="std",
        ratio="token",
        aggregation="token",
        clip_high=0.28,
        no_signal="replace",
        overlong="mask",
    ),
    "rloo": dict(
        baseline="leave_one_out",
        scale="none",
        ratio="sequence",
        aggregation="sum",
        clip_high=0.2,
        no_signal="keep",
        overlong="keep",
    ),
}
LARGEST_LOG_RATIO = 20.0  # beyond it a ratio could become infinite, and 0 * inf is not a number


@dataclass(kw_only=True)
class Args(text.Args):
    group_size: int = 8  # responses to each prompt
    variant: Literal["grpo", "dr_grpo", "dapo", "rloo"] = "grpo"  # makes the choices that are left to it
    baseline: Literal["variant", "mean", "leave_one_out"] = "variant"  # subtracted: mean reward of the group, or of the others
    scale: Literal["variant", "none", "std"] = "variant"  # std: divide advantages by the group's standard deviation
    ratio: Literal["variant", "token", "sequence"] = "variant"  # probability ratios of tokens or of whole responses are clipped
    aggregation: Literal["variant", "sequence", "token", "constant", "sum"] = "variant"  # which mean over tokens the loss is
    clip_low: float = 0.2  # ratios below 1 - clip_low are clipped
    clip_high: float = 0.0  # ratios above 1 + clip_high are clipped; 0: the variant's
    dual_clip: float = 0.0  # no loss of a negative advantage exceeds it by this factor (0: no limit)
    no_signal: Literal["variant", "keep", "drop", "replace"] = "variant"  # groups of equal rewards; replace: by further prompts
    max_draws: int = 8  # batches of prompts per iteration, where groups are replaced
    overlong: Literal["variant", "keep", "mask"] = "variant"  # mask: nothing is learnt from responses that were cut off
    overlong_buffer: int = 0  # the last tokens before max_tokens, in which a response loses up to a reward of 1
    kl_coef: float = 0.0  # of the divergence from the base model, in the loss
    ent_coef: float = 0.0
    recompute: bool = False  # old log-probs by a forward instead of sampling's, which rounds otherwise in bfloat16
    num_epochs: int = 1  # passes over one iteration's responses
    num_minibatches: int = 4  # per epoch
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, choice in VARIANTS[self.variant].items():
            if getattr(self, name) in ("variant", 0.0):
                setattr(self, name, choice)
        for name in ("num_epochs", "num_minibatches", "max_draws"):
            common.at_least(self, name, 1)
        for name in ("overlong_buffer", "clip_high", "kl_coef", "weight_decay"):
            common.at_least(self, name, 0)
        common.at_least(self, "group_size", 2)
        common.within(self, "clip_low", 0.0, 1.0)
        for name in ("learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise common.UsageError(f"{name} must be positive, got {getattr(self, name)}")
        if self.dual_clip and not self.dual_clip > 1:
            raise common.UsageError(f"dual_clip must be greater than 1, or 0 for no limit, got {self.dual_clip}")
        if (self.ratio == "sequence") != (self.aggregation == "sum"):
            raise common.UsageError(
                f"ratio sequence and aggregation sum go together, got ratio {self.ratio} and aggregation {self.aggregation}"
            )


def collect(model, task, prompts, args):
    """Responses to num_envs prompts, without groups that have no signal if they are to be dropped, and metrics of all drawn.

    Where such groups are replaced, batches of prompts are drawn until num_envs groups have a signal or max_draws are drawn.
    """
    drawn, kept, number = [], [], 0
    for draw in range(args.max_draws if args.no_signal == "replace" else 1):
        b = text.rollout(model, task, prompts.draw(args.num_envs), args.group_size, args)
        prompts.rollouts += len(b["rewards"])
        b["groups"] = b["groups"] + draw * args.num_envs
        drawn.append(b)
        keep = signals(b["rewards"], b["groups"])
        if args.no_signal == "keep":
            keep = torch.ones_like(keep)
        keep &= keep.cumsum(0) <= args.num_envs - number
        number += int(keep.sum())
        kept.append({key: x[keep[b["groups"]]] for key, x in b.items()})
        if number == args.num_envs:
            break
    b = text.merge(drawn, model.tokenizer.pad)
    metrics = {
        "episode_return": b["rewards"].mean(),
        "episode_length": b["lengths"].double().mean(),
        "success": (b["rewards"] == 1).double().mean(),
        "ended": b["ended"].double().mean(),
        "signal": signals(b["rewards"], b["groups"]).double().mean(),
        "rollouts": prompts.rollouts,
        "rollouts_trained": sum(len(b["rewards"]) for b in kept),
        "tokens": b["lengths"].sum(),
    }
    return text.merge(kept, model.tokenizer.pad), metrics


def signals(rewards, groups):
    """Whether the rewards within each group differ, bool (groups,); rewards and the number of each row's group are (rows,)."""
    none = rewards.new_zeros(int(groups.max()) + 1)
    low, high = (none.scatter_reduce(0, groups, rewards, how, include_self=False) for how in ("amin", "amax"))
    return high > low


def shaped_rewards(b, args):
    """Rewards less what responses lose in the last overlong_buffer tokens (DAPO, eq. 13), float64 (rows,)."""
    if not args.overlong_buffer:
        return b["rewards"]
    excess = b["lengths"] - (args.max_tokens - args.overlong_buffer)
    return b["rewards"] - (excess / args.overlong_buffer).clamp(0, 1)


def compute_advantages(rewards, groups, args):
    """Rewards relative to those of their group, which may be of any size, float32 (rows,); exactly 0 where all are equal.

    baseline mean: r - mean(r). leave_one_out: r less the mean of the others. scale std: divided by the standard
    deviation, the one with n - 1, plus 1e-6.
    """
    signal = signals(rewards, groups)
    zeros = torch.zeros(len(signal), dtype=rewards.dtype, device=rewards.device)
    sizes = zeros.index_add(0, groups, torch.ones_like(rewards))
    centred = rewards - (zeros.index_add(0, groups, rewards) / sizes)[groups]
    advantages = centred
    if args.baseline == "leave_one_out":
        advantages = centred * (sizes / (sizes - 1))[groups]
    if args.scale == "std":
        std = (zeros.index_add(0, groups, centred.square()) / (sizes - 1)).sqrt()
        advantages = advantages / (std[groups] + 1e-6)
    return torch.where(signal[groups], advantages, 0.0).float()


def token_weights(trained, aggregation, max_tokens):
    """What each token counts in the loss of a minibatch, float32 (rows, length); trained, alike, are those that count at all.

    sequence: mean over the tokens of a response, then over responses (GRPO). token: mean over all tokens (DAPO). constant: sum
    over tokens divided by max_tokens, then mean over responses (Dr. GRPO). sum: sum over tokens, mean over responses (RLOO).
    """
    lengths = trained.sum(1, keepdim=True)
    responses = (lengths > 0).sum()
    each = {"sequence": lengths * responses, "token": lengths.sum(), "constant": responses * max_tokens, "sum": responses}
    return trained / each[aggregation].clamp(min=1)


def grpo_loss(model, m, args):
    """Clipped surrogate + kl_coef * divergence from the base model - ent_coef * entropy, and metrics, each a mean over tokens.

    m is a minibatch, or a part of one: weights and shares (rows, length) are those of its tokens in the whole, for the loss and
    for the metrics, so that losses and metrics of parts add up.
    """
    trained, advantages = m["shares"] > 0, m["advantages"].unsqueeze(1)
    logprobs, entropies = model.logprobs(model.hidden(m["tokens"]), m["tokens"], args.temperature, written=trained)
    log_ratio = torch.where(trained, logprobs - m["logprobs"], 0.0)
    policy_kl = log_ratio.exp() - 1 - log_ratio
    weights = m["weights"]
    if args.ratio == "sequence":  # a response is one action
        log_ratio, weights = log_ratio.sum(1, keepdim=True), weights.amax(1, keepdim=True)
    ratio = log_ratio.clamp(max=LARGEST_LOG_RATIO).exp()
    surrogate = torch.min(ratio * advantages, ratio.clamp(1 - args.clip_low, 1 + args.clip_high) * advantages)
    if args.dual_clip:
        surrogate = torch.where(advantages < 0, surrogate.max(args.dual_clip * advantages), surrogate)
    policy_loss = -(weights * surrogate).sum()
    loss = policy_loss - args.ent_coef * (m["weights"] * entropies).sum()
    metrics = {
        "entropy": entropies,
        "approx_kl": policy_kl,
        "clip_low": (ratio < 1 - args.clip_low) & (advantages < 0),
        "clip_high": (ratio > 1 + args.clip_high) & (advantages > 0),
    }
    if args.kl_coef:  # the unbiased and positive estimate called k3 (GRPO, eq. 4)
        difference = torch.where(trained, m["base_logprobs"] - logprobs, 0.0)
        metrics["kl"] = difference.exp() - difference - 1
        loss = loss + args.kl_coef * (m["weights"] * metrics["kl"]).sum()
    metrics = {key: (m["shares"] * x).sum() for key, x in metrics.items()}
    return loss, {key: x.detach() for key, x in {"loss/policy": policy_loss, **metrics}.items()}


def learn(model, optimizer, m, args):
    """A step of AdamW on a minibatch, whose gradient is at most max_grad_norm long; returns metrics."""
    m["weights"] = token_weights(m["trained"], args.aggregation, args.max_tokens)
    m["shares"] = token_weights(m["trained"], "token", args.max_tokens)
    optimizer.zero_grad()
    metrics = defaultdict(float)
    for part in zip(*(x.split(args.micro_batch) for x in m.values())):
        loss, added = grpo_loss(model, dict(zip(m, part)), args)
        loss.backward()
        for key, x in added.items():
            metrics[key] += x
    metrics["grad_norm"] = nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)
    optimizer.step()
    return metrics


def update(model, base, optimizer, b, args):
    """num_epochs passes over an iteration's responses in random minibatches; returns the means of their metrics."""
    b["trained"] = b["written"] & (b["ended"] | (args.overlong == "keep")).unsqueeze(1)
    if args.recompute:
        b["logprobs"] = text.written_logprobs(model, b, args)[0]
    if args.kl_coef:
        b["base_logprobs"] = text.written_logprobs(base, b, args)[0]
    keys = ("tokens", "trained", "logprobs", "advantages", *(["base_logprobs"] if args.kl_coef else []))
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
    if run.step == 0:
        run.log(0, text.evaluate_splits(model, base, envs, run.eval_seed, args))
    for step in run.steps(1):
        started = time.perf_counter()
        b, metrics = collect(model, task, prompts, args)
        if len(b["rewards"]):  # none are left where no group had a signal
            b["advantages"] = compute_advantages(shaped_rewards(b, args), b["groups"], args)
            metrics |= update(model, base, optimizer, b, args)
        metrics["tokens_per_second"] = metrics.pop("tokens") / (time.perf_counter() - started)
        if step % args.eval_interval == 0 or step == args.total_timesteps:
            metrics |= text.evaluate_splits(model, base, envs, run.eval_seed, args)
        run.log(step, metrics)
    run.close()
    return run


if __name__ == "__main__":
    common.main(train, Args)
