"""What agents that train a language model on verified answers share: arguments, task and model, responses, evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import gymnasium as gym
import torch
import torch.nn.functional as F
from torch import nn

import explore_gym  # noqa: F401  registers the Explore ids
from explore_gym.agents.common import run
from explore_gym.agents.common.errors import UsageError
from explore_gym.agents.common.language_model import GPTConfig, LanguageModel, load_model, pass_at_k
from explore_gym.agents.common.run import at_least
from explore_gym.agents.common.sft import SFTConfig, base_model
from explore_gym.envs.text.env import Task, TextEnv

Batch = dict[str, torch.Tensor]


@dataclass(kw_only=True)
class Args(run.Args):
    env: str = "Explore/RuleChain-v0"  # any text task of one turn
    num_envs: int = 64  # prompts per iteration
    total_timesteps: int = 300  # iterations
    model: str = "gpt"  # gpt: a small one, trained on demonstrations first; or a folder with one of Hugging Face, hf:<folder>
    train_prompts: int = 2048  # learning is on the tasks of the indices below this number
    max_tokens: int = 0  # of a response, its end included; 0: as many as solutions in the task's own tokens need
    temperature: float = 1.0  # in training and evaluation
    micro_batch: int = 1024  # responses in one forward; a minibatch's gradient is summed over them
    eval_episodes: int = 128  # prompts of each split in an evaluation
    eval_samples: int = 32  # responses to each prompt of an evaluation
    eval_interval: int = 50  # iterations; evaluations are before the first and after the last, too
    pass_k: str = "1,4,16"  # pass@k is logged for these numbers of responses, one of which has to be right
    context: int = 128  # of the small model: tokens of the longest prompt and response together
    num_layers: int = 4  # of the small model
    d_model: int = 128
    num_heads: int = 4  # per layer
    sft_prompts: int = 4096  # the tasks of the indices below this number are demonstrated
    sft_fixed: bool = False  # one demonstration per task; otherwise a new one each time
    sft_steps: int = 3000  # of training the small model on demonstrations
    sft_batch_size: int = 256  # demonstrations per step
    sft_learning_rate: float = 3e-4
    sft_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is Literal and getattr(self, name) not in get_args(kind):
                raise UsageError(f"{name} must be one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}")
        for name in ("micro_batch", "eval_episodes", "eval_interval"):
            at_least(self, name, 1)
        at_least(self, "max_tokens", 0)
        at_least(self, "train_prompts", self.num_envs)
        if not self.temperature > 0:
            raise UsageError(f"temperature must be positive, got {self.temperature}")
        if self.model != "gpt" and not self.max_tokens:
            raise UsageError("max_tokens must be given where the model has a tokenizer of its own")
        if self.compile:
            raise UsageError("compile must be off: batches differ in length, and each length would compile anew")
        if not all(k.strip().isdigit() and 1 <= int(k) <= self.eval_samples for k in self.pass_k.split(",")):
            raise UsageError(
                f"pass_k must be numbers in [1, eval_samples = {self.eval_samples}] separated by commas, got {self.pass_k!r}"
            )


def make_env(args: Args, split: str) -> TextEnv:
    """The environment of the arguments at the level of tokens: it has the task of a split, its tokenizer and lengths."""
    kwargs = json.loads(args.env_kwargs)
    if "split" in kwargs:
        raise UsageError("env_kwargs must leave the split open: learning is on train, evaluation on both")
    try:
        env = gym.make(args.env, **kwargs).unwrapped
        if isinstance(env, TextEnv):
            env = gym.make(args.env, **{**kwargs, "level": "tokens", "split": split}).unwrapped
    except (gym.error.Error, TypeError, ValueError, ModuleNotFoundError) as error:
        raise UsageError(f"cannot make {args.env!r} with kwargs {kwargs}: {error}") from error
    if not isinstance(env, TextEnv):
        raise UsageError(f"env must be a text task such as Explore/RuleChain-v0, got {args.env}")
    if env.task.turns > 1:
        turns = f"{args.env} with kwargs {kwargs} is a dialogue of up to {env.task.turns}"
        raise UsageError(f"env must be a task of one response, but {turns}")
    demonstrated = args.sft_prompts if args.model == "gpt" else 0
    needed = max(args.train_prompts, demonstrated) if split == "train" else args.eval_episodes
    if env.task.num_tasks < needed:
        raise UsageError(f"num_tasks must be at least {needed} for the prompts asked for, got {env.task.num_tasks}")
    return env


def make_model(args: Args, env: TextEnv, device: torch.device) -> LanguageModel:
    """The model to start from: a folder's, or a GPT trained on the task's demonstrations, from the cache if it is there."""
    if args.model != "gpt":
        return load_model(args.model if args.model.startswith("hf:") else f"hf:{args.model}").to(device)
    batch = env.batch
    needed = batch.context - batch.max_tokens + args.max_tokens
    if args.context < needed:
        raise UsageError(f"context must be at least {needed} for prompts and responses, got {args.context}")
    config = GPTConfig(
        batch.tokenizer.vocab_size, args.context, num_layers=args.num_layers, d_model=args.d_model, num_heads=args.num_heads
    )
    sft = SFTConfig(
        num_prompts=args.sft_prompts,
        fixed=args.sft_fixed,
        steps=args.sft_steps,
        batch_size=args.sft_batch_size,
        learning_rate=args.sft_learning_rate,
        seed=args.sft_seed,
    )

    def report(step, metrics):
        if not args.quiet:
            print(f"base model: step {step} of {sft.steps}, loss {metrics['loss/sft']:.3f}", flush=True)

    description = {"env": args.env, **json.loads(args.env_kwargs)}
    return base_model(batch.tokenizer, env.task, description, config, sft, device, log=report)


class Prompts(nn.Module):
    """Task indices in random order, each once in an epoch, and how many responses were drawn so far."""

    def __init__(self, num_prompts: int):
        super().__init__()
        self.register_buffer("order", torch.randperm(num_prompts))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))
        self.register_buffer("rollouts", torch.zeros((), dtype=torch.long))

    def draw(self, number: int) -> list[int]:
        """The next indices, a list; a batch that is larger than the rest of an epoch goes on in the next one."""
        start = int(self.position)
        indices = self.order[start : start + number].tolist()
        missing = number - len(indices)
        if missing:
            self.order.copy_(torch.randperm(len(self.order)))
            indices += self.order[:missing].tolist()
        self.position.fill_(missing or start + number)
        return indices


@torch.no_grad()
def rollout(model: LanguageModel, task: Task, indices: Sequence[int], counts: int | Sequence[int], args: Args) -> Batch:
    """Draws and verifies counts (a number, or one per prompt) responses to each of these tasks, a dict of (rows, ...) tensors.

    tokens, written and logprobs (rows, length) are those of `Samples`, groups the number of the prompt in indices.
    """
    prompts = [model.prompt(task.prompt(i)) for i in indices]
    samples = model.sample(prompts, counts, args.max_tokens, args.temperature)
    answered = [indices[group] for group in samples.prompts.tolist()]
    b = {key: getattr(samples, key) for key in ("tokens", "written", "logprobs", "ended")}
    b["groups"], b["lengths"] = samples.prompts, samples.written.sum(1)
    b["rewards"] = torch.from_numpy(task.verify_batch(answered, model.texts(samples))).to(model.device)  # float64
    return b


def merge(rollouts: Sequence[Batch], pad: int) -> Batch:
    """Rollouts as one, padded to the longest; groups keep their numbers."""
    length = max(b["tokens"].shape[1] for b in rollouts)
    fill = {"tokens": pad, "written": False, "logprobs": 0.0}

    def widened(key, x):
        return F.pad(x, (0, length - x.shape[1]), value=fill[key]) if key in fill else x

    return {key: torch.cat([widened(key, b[key]) for b in rollouts]) for key in rollouts[0]}


@torch.no_grad()
def written_logprobs(model: LanguageModel, b: Batch, args: Args) -> tuple[torch.Tensor, ...]:
    """Log-probs and entropies of the tokens that were drawn, (rows, length) each, by a forward of some rows at a time."""
    parts = zip(b["tokens"].split(args.micro_batch), b["written"].split(args.micro_batch))
    results = [model.logprobs(model.hidden(tokens), tokens, args.temperature, written) for tokens, written in parts]
    return tuple(torch.cat(x) for x in zip(*results))


@torch.no_grad()
def evaluate(
    model: LanguageModel, base: LanguageModel, task: Task, indices: Sequence[int], seed: int, args: Args
) -> dict[str, Any]:
    """Metrics of eval_samples responses to each of the tasks of these indices, drawn with the same numbers at each call.

    distinct counts the different right responses to a prompt, kl is the divergence from the base model in nats per token.
    """
    n = args.eval_samples
    generator = torch.Generator(model.device).manual_seed(seed)
    prompts = [model.prompt(task.prompt(i)) for i in indices]
    samples = model.sample(prompts, n, args.max_tokens, args.temperature, generator=generator)
    owners, texts = [indices[i] for i in samples.prompts.tolist()], model.texts(samples)
    rewards = task.verify_batch(owners, texts)
    canonical = getattr(task, "canonical", str.strip)  # a task may say which texts are the same solution
    found = {(owner, canonical(text)) for owner, text, reward in zip(owners, texts, rewards) if reward == 1}
    num_right = (rewards == 1).reshape(-1, n).sum(1)
    b = {"tokens": samples.tokens, "written": samples.written}
    (logprobs, entropies), (base_logprobs, _) = (written_logprobs(x, b, args) for x in (model, base))
    num_tokens = samples.written.sum()
    return {
        "reward": rewards.mean(),
        **{f"pass@{k}": pass_at_k(n, num_right, k).mean() for k in map(int, args.pass_k.split(","))},
        "distinct": len(found) / len(indices),
        "length": num_tokens / len(owners),
        "entropy": entropies.sum() / num_tokens,
        "kl": (logprobs - base_logprobs).sum() / num_tokens,
    }


def evaluate_splits(
    model: LanguageModel, base: LanguageModel, envs: dict[str, TextEnv], seed: int, args: Args
) -> dict[str, Any]:
    """`evaluate` on the first eval_episodes tasks of each split in envs; metrics as train/pass@1."""
    metrics = {}
    for split, env in envs.items():
        number = min(args.eval_episodes, args.train_prompts) if split == "train" else args.eval_episodes
        found = evaluate(model, base, env.task, range(number), seed, args)
        metrics |= {f"{split}/{key}": value for key, value in found.items()}
    return metrics
