"""ToolRL: a language model learns to call tools from a reward that looks at the form, the names, the keys and the values.

GRPO with the reward of Qian et al. (2025, arXiv:2504.13958, section 3.3), and as flags the granularities, scales, schedules and
lengths that they compare (section 5), PPO in its place, and demonstrations before or instead of it. For Explore/ToolGrammar-v0,
which says how right form and calls are. A step is an iteration: responses to a batch of prompts, and the updates on them.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from explore_gym.agents import common
from explore_gym.agents.common import text
from explore_gym.envs.text.tool_grammar import KINDS, ToolGrammar

TESTS = {  # what is evaluated -> arguments of the environment
    "seen": dict(tools="seen", masked=0.0),
    "masked": dict(tools="seen", masked=1.0),
    "unseen": dict(tools="unseen", masked=0.0),
}
SECOND_STAGE = 30  # iteration
SMOOTH = 150  # iterations from the first scales to the last
LONGER = 105  # iterations in which a scheduled length grows as far as it does in the paper
PAPER_TOKENS = 1024  # of the paper's responses, which its lengths are for
LARGEST_LOG_RATIO = 20.0  # beyond it a ratio could become infinite, and 0 * inf is not a number


@dataclass(kw_only=True)
class Args(text.Args):
    env: str = "Explore/ToolGrammar-v0"  # no other task has the parts of this reward
    env_kwargs: str = '{"skill": 0.85, "sloppy": 0.5}'  # JSON object with ToolGrammar's arguments, of the base model
    num_envs: int = 32  # prompts per iteration
    total_timesteps: int = 100  # iterations
    train_prompts: int = 4096  # learning is on the tasks of the indices below this number
    eval_samples: int = 4  # responses to each prompt of an evaluation
    pass_k: str = "1"  # pass@k is logged for these numbers of responses, one of which has to be right
    context: int = 256  # of the small model: tokens of the longest prompt and response together
    algorithm: Literal["grpo", "ppo", "none"] = "grpo"  # none: the model is evaluated as it is
    group_size: int = 4  # responses to each prompt
    granularity: Literal["fine", "intermediate", "coarse", "strict"] = "fine"  # of correctness, see ToolGrammar
    matching: Literal["greedy", "optimal"] = "greedy"  # of calls with those that are wanted
    scale: Literal["fixed", "equal", "two_stage", "smooth"] = "fixed"  # what form and correctness earn, and when
    length: Literal["none", "fixed", "scheduled"] = "none"  # up to 1 for long thoughts
    sft_clean_prompts: int = 0  # the base model goes on with faultless demonstrations of so many tasks, one of each (0: none)
    sft_clean_steps: int = 400
    sft_clean_batch_size: int = 32  # demonstrations per step
    sft_clean_learning_rate: float = 3e-4
    clip_coef: float = 0.2
    kl_in_reward: float = 0.0  # of a token's divergence from the model before RL, off its reward; the released code's is 0.001
    ent_coef: float = 0.001
    num_minibatches: int = 4  # per iteration
    learning_rate: float = 1e-4
    critic_learning_rate: float = 1e-3  # ppo
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_minibatches", "sft_clean_steps", "sft_clean_batch_size"):
            common.at_least(self, name, 1)
        for name in ("sft_clean_prompts", "kl_in_reward", "ent_coef", "weight_decay"):
            common.at_least(self, name, 0)
        common.at_least(self, "group_size", 2 if self.algorithm == "grpo" else 1)
        common.at_least(self, "train_prompts", self.sft_clean_prompts)
        for name in ("sft_clean_learning_rate", "clip_coef", "learning_rate", "critic_learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise common.UsageError(f"{name} must be positive, got {getattr(self, name)}")
        for name in json.loads(self.env_kwargs).keys() & {"reward", "granularity", "matching"}:
            raise common.UsageError(f"env_kwargs must leave {name} open: rewards are flags here")


def make_env(args, split, **changed):
    """The environment of the arguments, some of them changed, at the level of tokens."""
    kwargs = {**json.loads(args.env_kwargs), **changed}
    env = text.make_env(dataclasses.replace(args, env_kwargs=json.dumps(kwargs)), split)
    if not isinstance(env.task, ToolGrammar):
        raise common.UsageError(f"env must be Explore/ToolGrammar-v0, got {args.env}")
    return env


def make_model(args, env, device):
    """The base model; with sft_clean_prompts it has gone on with faultless demonstrations, in an order of the seed's."""
    model = text.make_model(args, env, device)
    if args.sft_clean_prompts:
        config = common.SFTConfig(
            num_prompts=args.sft_clean_prompts,
            fixed=True,
            steps=args.sft_clean_steps,
            batch_size=args.sft_clean_batch_size,
            learning_rate=args.sft_clean_learning_rate,
            warm_up=1 + args.sft_clean_steps // 10,
            seed=args.seed,
        )
        common.fine_tune(model, make_env(args, "train", skill=1.0, sloppy=0.0).task, config)
    return model


def make_critic(model):
    """A copy of the model with a value, at first 0, of each of its last hidden states."""
    critic = copy.deepcopy(model)
    critic.value_head = nn.Linear(model.d_model, 1, device=model.device)
    nn.init.zeros_(critic.value_head.weight)
    nn.init.zeros_(critic.value_head.bias)
    return critic


def collect(model, task, prompts, t, args):
    """Responses to num_envs prompts with their rewards in iteration t, and metrics."""
    indices = prompts.draw(args.num_envs)
    b = text.rollout(model, task, indices, args.group_size, args)
    prompts.rollouts += len(b["rewards"])
    exact = b["rewards"]
    b |= judged(model, task, indices, b, args)
    b["rewards"] = shaped_rewards(b, t, args)
    metrics = {
        "episode_return": b["rewards"].mean(),
        "episode_length": b["lengths"].double().mean(),
        "success": exact.mean(),
        "format": b["form"].mean(),
        "correctness": b["correctness"].sum() / b["wanted"].sum().clamp(min=1),
        "thoughts": b["thoughts"].mean(),
        "ended": b["ended"].double().mean(),
        "signal": signals(b["rewards"], b["groups"]).double().mean(),
        "rollouts": prompts.rollouts,
        "tokens": b["lengths"].sum(),
    }
    return b, metrics


def judged(model, task, indices, b, args):
    """What rewards look at in responses to the tasks of these indices, float64 (rows,) each.

    form: 0 or 1. correctness: S / S_max, 0 where no call is wanted. wanted: whether one is. thoughts: words of them.
    """
    samples = common.Samples(*(b[key] for key in ("tokens", "written", "logprobs", "ended", "groups")))
    answers = list(zip([indices[group] for group in b["groups"].tolist()], model.texts(samples)))
    shares = [task.correctness(index, response, args.granularity, args.matching) for index, response in answers]
    found = {
        "form": [task.format_reward(index, response) for index, response in answers],
        "correctness": [share or 0.0 for share in shares],
        "wanted": [share is not None for share in shares],
        "thoughts": [thought_words(response) for _, response in answers],
    }
    return {key: torch.tensor(x, dtype=torch.float64, device=model.device) for key, x in found.items()}


def thought_words(response):
    """Words between <think> and </think>, 0 without these tags."""
    before, closed, _ = response.partition("</think>")
    _, opened, thoughts = before.rpartition("<think>")
    return len(thoughts.split()) if opened and closed else 0


def scales(scale, t):
    """What form and correctness earn in iteration t, which counts from 1: (least, most) of each."""
    if scale == "equal":
        return (0.0, 1.0), (-1.0, 1.0)
    if scale == "two_stage":
        return ((0.0, 1.0), (-1.0, 1.0)) if t < SECOND_STAGE else ((0.0, 0.5), (-3.0, 3.0))
    if scale == "smooth":
        share = t / SMOOTH
        return (min(-2 + 2 * share, -1.0), max(2 - share, 1.0)), (max(-2 - share, -3.0), min(2 + share, 3.0))
    return (0.0, 1.0), (-3.0, 3.0)


def length_target(length, t, max_tokens):
    """Words of thoughts that earn 1 in iteration t: as large a part of max_tokens as the paper's are of its responses."""
    words = 384 + (640 - 384) * t / LONGER if length == "scheduled" else 512
    return words * max_tokens / PAPER_TOKENS


def shaped_rewards(b, t, args):
    """Form + correctness, 0 where no call is wanted, + length of thoughts, on their scales in iteration t, float64 (rows,)."""
    (low, high), (least, most) = scales(args.scale, t)
    rewards = low + (high - low) * b["form"] + b["wanted"] * (least + (most - least) * b["correctness"])
    if args.length != "none":
        rewards = rewards + (b["thoughts"] / length_target(args.length, t, args.max_tokens)).clamp(max=1)
    return rewards


def token_rewards(b, args):
    """A response's reward at its last token, less kl_in_reward times the divergence of each, float64 (rows, length)."""
    last = b["written"] & (b["written"].cumsum(1) == b["lengths"].unsqueeze(1))
    rewards = torch.where(last, b["rewards"].unsqueeze(1), 0.0)
    if args.kl_in_reward:  # the estimate called k1
        rewards = rewards - args.kl_in_reward * (b["logprobs"] - b["base_logprobs"])
    return rewards


def signals(rewards, groups):
    """Whether the rewards within each group differ, bool (groups,); rewards and the number of each row's group are (rows,)."""
    none = rewards.new_zeros(int(groups.max()) + 1)
    low, high = (none.scatter_reduce(0, groups, rewards, how, include_self=False) for how in ("amin", "amax"))
    return high > low


def compute_advantages(rewards, groups):
    """Rewards less the mean of their group, by its standard deviation, the one with n - 1, plus 1e-6; float32 (rows,).

    Exactly 0 where all rewards of a group are equal.
    """
    signal = signals(rewards, groups)
    zeros = torch.zeros(len(signal), dtype=rewards.dtype, device=rewards.device)
    sizes = zeros.index_add(0, groups, torch.ones_like(rewards))
    centred = rewards - (zeros.index_add(0, groups, rewards) / sizes)[groups]
    std = (zeros.index_add(0, groups, centred.square()) / (sizes - 1)).sqrt()
    return torch.where(signal[groups], centred / (std[groups] + 1e-6), 0.0).float()


def gae(rewards, values, written):
    """Generalised advantage estimate with gamma = lambda = 1, and returns; all (rows, length), 0 where nothing was written.

    The sum over errors telescopes: what is still to come less the value of the state before the token.
    """
    returns = rewards.flip(1).cumsum(1).flip(1) * written
    return returns - values * written, returns


def whitened(x, written):
    """x (rows, length) with mean 0 and standard deviation 1 over what was written, 0 elsewhere."""
    std, mean = torch.std_mean(x[written])
    return torch.where(written, (x - mean) / (std + 1e-8), 0.0)


def state_values(critic, tokens):
    """Values of the states that each token was drawn in, float32 (rows, length); the first token's is 0."""
    return F.pad(critic.values(critic.hidden(tokens))[:, :-1], (1, 0))


def clipped_loss(model, m, args):
    """Clipped surrogate - ent_coef * entropy, and metrics, each a mean over tokens.

    m is a minibatch, or a part of one: weights (rows, length) are the shares of its tokens in the whole, so that losses and
    metrics of parts add up.
    """
    written, advantages = m["weights"] > 0, m["advantages"]
    logprobs, entropies = model.logprobs(model.hidden(m["tokens"]), m["tokens"], args.temperature, written=written)
    log_ratio = torch.where(written, logprobs - m["logprobs"], 0.0)
    policy_kl = log_ratio.exp() - 1 - log_ratio
    ratio = log_ratio.clamp(max=LARGEST_LOG_RATIO).exp()
    surrogate = torch.min(ratio * advantages, ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef) * advantages)
    policy_loss = -(m["weights"] * surrogate).sum()
    loss = policy_loss - args.ent_coef * (m["weights"] * entropies).sum()
    metrics = {
        "entropy": entropies,
        "approx_kl": policy_kl,
        "clip_low": (ratio < 1 - args.clip_coef) & (advantages < 0),
        "clip_high": (ratio > 1 + args.clip_coef) & (advantages > 0),
    }
    metrics = {key: (m["weights"] * x).sum() for key, x in metrics.items()}
    return loss, {key: x.detach() for key, x in {"loss/policy": policy_loss, **metrics}.items()}


def value_loss(critic, m):
    """Half the squared error of values, a mean over tokens; m as for `clipped_loss`."""
    errors = state_values(critic, m["tokens"]) - m["returns"]
    return (m["weights"] * errors.square()).sum() / 2


def learn(model, critic, optimizer, m, args):
    """A step of AdamW on a minibatch, for which gradients are at most max_grad_norm long; returns metrics."""
    m["weights"] = m["written"] / m["written"].sum()
    optimizer.zero_grad()
    metrics = defaultdict(float)
    for part in zip(*(x.split(args.micro_batch) for x in m.values())):
        part = dict(zip(m, part))
        loss, added = clipped_loss(model, part, args)
        if critic:
            error = value_loss(critic, part)
            loss, added["loss/value"] = loss + error, error.detach()
        loss.backward()
        for key, x in added.items():
            metrics[key] += x
    metrics["grad_norm"] = nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)
    if critic:
        nn.utils.clip_grad_norm_(critic.parameters(), args.max_grad_norm)
    optimizer.step()
    return metrics


def update(model, base, critic, optimizer, b, args):
    """A pass over an iteration's responses in random minibatches; returns the means of their metrics."""
    if args.kl_in_reward:
        b["base_logprobs"] = text.written_logprobs(base, b, args)[0]
    rewards = token_rewards(b, args)
    if critic:
        with torch.no_grad():
            values = torch.cat([state_values(critic, tokens) for tokens in b["tokens"].split(args.micro_batch)])
        advantages, returns = gae(rewards, values, b["written"])
        b["advantages"], b["returns"] = whitened(advantages, b["written"]).float(), returns.float()
    else:
        b["advantages"] = compute_advantages(rewards.sum(1), b["groups"]).unsqueeze(1) * b["written"]
    keys = ("tokens", "written", "logprobs", "advantages", *(["returns"] if critic else []))
    updates = []
    for index in torch.randperm(len(b["rewards"]), device=model.device).chunk(args.num_minibatches):
        updates.append(learn(model, critic, optimizer, {key: b[key][index] for key in keys}, args))
    return {key: sum(x[key] for x in updates) / len(updates) for key in updates[0]}


@torch.no_grad()
def evaluate(model, task, indices, seed, args):
    """Metrics of eval_samples responses to each of the tasks of these indices, drawn with the same numbers at each call.

    pass@k of all tasks; exact matches of the tasks of each kind; form, words of thoughts, tokens.
    """
    n = args.eval_samples
    generator = torch.Generator(model.device).manual_seed(seed)
    prompts = [model.prompt(task.prompt(i)) for i in indices]
    samples = model.sample(prompts, n, args.max_tokens, args.temperature, generator=generator)
    owners, responses = [indices[i] for i in samples.prompts.tolist()], model.texts(samples)
    exact = task.verify_batch(owners, responses)
    num_right = (exact == 1).reshape(-1, n).sum(1)
    kinds = np.array([task.instance(i).kind for i in owners])
    return {
        **{f"pass@{k}": common.pass_at_k(n, num_right, k).mean() for k in map(int, args.pass_k.split(","))},
        **{kind: exact[kinds == kind].mean() for kind in KINDS if kind in kinds},
        "format": np.mean([task.format_reward(i, response) for i, response in zip(owners, responses)]),
        "thoughts": np.mean([thought_words(response) for response in responses]),
        "length": samples.written.sum() / len(owners),
    }


def evaluate_all(model, tasks, seed, args):
    """`evaluate` on the first eval_episodes test tasks of each kind of tools; metrics as unseen/pass@1."""
    found = {name: evaluate(model, task, range(args.eval_episodes), seed, args) for name, task in tasks.items()}
    return {f"{name}/{key}": value for name, metrics in found.items() for key, value in metrics.items()}


def train(args):
    run = common.start(args, __file__)
    env = make_env(args, "train")
    tests = {name: make_env(args, "test", **changed).task for name, changed in TESTS.items()}
    args = dataclasses.replace(args, max_tokens=args.max_tokens or env.batch.max_tokens)
    model = make_model(args, env, run.device)
    base = copy.deepcopy(model).requires_grad_(False)
    critic = make_critic(model) if args.algorithm == "ppo" else None
    critics = {"critic": critic} if critic else {}
    groups = [{"params": x.parameters(), "lr": args.critic_learning_rate} for x in critics.values()]
    optimizer = torch.optim.AdamW([{"params": model.parameters()}, *groups], args.learning_rate, weight_decay=args.weight_decay)
    prompts = text.Prompts(args.train_prompts)
    run.persist(model=model, optimizer=optimizer, prompts=prompts, **critics)
    learns = args.algorithm != "none"
    if run.step == 0 and learns:
        run.log(0, evaluate_all(model, tests, run.eval_seed, args))
    for step in run.steps(1 if learns else args.total_timesteps):
        started, metrics = time.perf_counter(), {}
        if learns:
            b, metrics = collect(model, env.task, prompts, step, args)
            metrics |= update(model, base, critic, optimizer, b, args)
            metrics["tokens_per_second"] = metrics.pop("tokens") / (time.perf_counter() - started)
        if step % args.eval_interval == 0 or step == args.total_timesteps:
            metrics |= evaluate_all(model, tests, run.eval_seed, args)
        run.log(step, metrics)
    run.close()
    return run


if __name__ == "__main__":
    common.main(train, Args)
