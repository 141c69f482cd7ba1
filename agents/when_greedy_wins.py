"""When greedy wins: a language model learns to play bandits, and an audit shows what it has learnt.

Token-level PPO with an advantage estimate of two time scales, or imitation of UCB (Chen et al., 2025, arXiv:2509.24923,
section 3), for Explore/TextBandit. Each turn is a prompt of its own, a summary of the arms; an episode is its turns in a row. A
round is a batch of new bandits, played to the end, and the updates on them. The audit plays longer ones.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import explore_gym  # noqa: F401  registers the Explore ids
from explore_gym.agents import common
from explore_gym.agents.common import text
from explore_gym.envs.bandits import policies
from explore_gym.envs.text.text_bandit import TextBandit

REWARDS = {"og": "raw", "stg": "regret", "alg": "teacher"}  # what reinforcement learning is on -> the task's name for it
SCRIPTED = {  # players without a model: what makes their rule of the task's UCB
    "ucb": dict(demonstrator="ucb"),
    "sub_ucb": dict(demonstrator="sub_ucb"),
    "greedy": dict(demonstrator="ucb", exploration=0.0),  # each arm once, then the largest mean
    "thompson": dict(),
}
METHODS = ("base", "sft", *REWARDS, *SCRIPTED)
GAMMA = 0.95  # between turns, where the reward is not myopic
LARGEST_LOG_RATIO = 20.0  # beyond it a ratio could become infinite, and 0 * inf is not a number


@dataclass(kw_only=True)
class Args(common.Args):
    env: str = "Explore/TextBandit-v0"
    num_envs: int = 64  # bandits per round
    total_timesteps: int = 640_000  # turns of og, stg and alg, rounded up to whole rounds
    method: Literal["base", "sft", "og", "stg", "alg", "ucb", "sub_ucb", "greedy", "thompson"] = "alg"  # see above
    num_turns: int = 50  # of a bandit in training and in sft's demonstrations
    no_think: bool = False  # answers alone; otherwise a rationale stands before each
    model: str = "gpt"  # gpt: a small one, trained on a poor player's answers first; or a folder with one of Hugging Face
    instructions: str = ""  # said before each prompt, to a model that reads
    max_tokens: int = 0  # of a response, its end included; 0: as many as demonstrations in the task's own tokens need
    temperature: float = 1.0  # in training and audit
    micro_batch: int = 256  # responses in one forward; a minibatch's gradient is summed over them
    num_layers: int = 4  # of the small model
    d_model: int = 128
    num_heads: int = 4  # per layer
    base_turns: int = 300  # of a bandit in the small model's first demonstrations: audits have no number that is new to it
    base_transitions: int = 32_000  # turns in these demonstrations, which a poor player answers
    base_steps: int = 3000
    base_batch_size: int = 256
    base_learning_rate: float = 1e-3
    base_seed: int = 0
    sft_transitions: int = 32_000  # of UCB
    sft_epochs: int = 6
    sft_batch_size: int = 256
    sft_learning_rate: float = 3e-4
    gamma_intra: float = 1.0  # from token to token
    lambda_intra: float = 1.0
    gamma_inter: float = -1.0  # from turn to turn; -1: 0 in alg, whose reward is myopic, otherwise 0.95
    lambda_inter: float = 0.95
    format_penalty: float = 0.1  # for a response that names no arm
    num_epochs: int = 1  # passes over one round's responses
    num_minibatches: int = 8  # per epoch
    learning_rate: float = 3e-4
    anneal_lr: bool = True  # linearly to 0 at total_timesteps
    clip_coef: float = 0.2
    vf_coef: float = 0.5
    ent_coef: float = 0.0
    max_grad_norm: float = 1.0
    eval_episodes: int = 512  # bandits of the audit, which comes last
    audit_turns: int = 300  # of a bandit in the audit
    audit_kwargs: str = "{}"  # JSON object with the environment's arguments that are others in the audit

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in METHODS:
            raise common.UsageError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        for name in ("num_turns", "base_turns", "micro_batch", "sft_epochs", "num_epochs", "num_minibatches"):
            common.at_least(self, name, 1)
        for name in ("max_tokens", "format_penalty", "vf_coef"):
            common.at_least(self, name, 0)
        common.at_least(self, "audit_turns", max(self.num_turns, 2))
        common.at_least(self, "eval_episodes", 4)
        if self.gamma_inter == -1:
            self.gamma_inter = 0.0 if self.method == "alg" else GAMMA
        for name in ("gamma_intra", "lambda_intra", "gamma_inter", "lambda_inter", "clip_coef"):
            common.within(self, name, 0.0, 1.0)
        for name in ("temperature", "learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise common.UsageError(f"{name} must be positive, got {getattr(self, name)}")
        if self.num_minibatches > self.num_envs * self.num_turns:
            responses = self.num_envs * self.num_turns
            raise common.UsageError(f"num_minibatches must be at most {responses} responses, got {self.num_minibatches}")
        if self.model == "gpt" and self.instructions:
            raise common.UsageError("instructions are for a model that reads: leave them out, or name a folder as model")
        if self.model != "gpt" and not self.max_tokens:
            raise common.UsageError("max_tokens must be given where the model has a tokenizer of its own")
        try:
            is_object = isinstance(json.loads(self.audit_kwargs), dict)
        except json.JSONDecodeError:
            is_object = False
        if not is_object:
            raise common.UsageError(f"audit_kwargs must be a JSON object such as '{{\"arms\": 10}}', got {self.audit_kwargs!r}")
        if self.compile:
            raise common.UsageError("compile must be off: batches differ in length, and each length would compile anew")


def make_env(args, **own):
    """The environment of the arguments, token by token: its task, tokenizer and lengths; `own` are what the agent decides."""
    kwargs = json.loads(args.env_kwargs) | (json.loads(args.audit_kwargs) if own["split"] == "test" else {})
    if taken := [key for key in kwargs if key in ("pulls", "reward", "demonstrator", "think", "split", "level")]:
        raise common.UsageError(f"env_kwargs and audit_kwargs must leave {', '.join(taken)} to the agent")
    try:
        return gym.make(args.env, **kwargs, think=not args.no_think, **own).unwrapped
    except (gym.error.Error, TypeError, ValueError, ModuleNotFoundError) as error:
        raise common.UsageError(f"cannot make {args.env!r} as a TextBandit with kwargs {kwargs}: {error}") from error


class Transitions:
    """Turns of bandits that UCB plays, one of each, with what the task's demonstrator answers: for supervised training.

    The prompt of an index is the same each time, the answer is drawn anew; another seed has other bandits.
    """

    def __init__(self, task, number, seed, instructions=""):
        self.task, self.first, self.seed, self.instructions, self.moments = task, seed * number, seed, instructions, {}

    def moment(self, index):
        if index not in self.moments:
            self.moments[index] = self.task.moment(self.first + index, np.random.default_rng((self.seed, index)))
        return self.moments[index]

    def prompt(self, index):
        return self.instructions + self.task.tell(self.moment(index))

    def demonstrate(self, index, rng):
        return self.task.demonstrate(self.first + index, rng, self.moment(index))


def report_to(args, name, steps):
    """What is called with the losses of supervised training: prints a line each time."""

    def report(step, metrics):
        if not args.quiet:
            print(f"{name}: step {step} of {steps}, loss {metrics['loss/sft']:.3f}", flush=True)

    return report


def make_model(args, envs, device):
    """The model to start from, with a value head: a folder's, or a GPT trained on the poor player "base", cached on disk."""
    own = dict(split="train", pulls=args.base_turns, demonstrator="base")
    env = make_env(args, **own)
    config = common.GPTConfig(
        env.tokenizer.vocab_size,
        max(x.batch.context - x.batch.max_tokens for x in envs.values()) + args.max_tokens,
        num_layers=args.num_layers,
        d_model=args.d_model,
        num_heads=args.num_heads,
        value_head=True,
    )
    if args.model != "gpt":
        name = args.model if args.model.startswith("hf:") else f"hf:{args.model}"
        return common.load_model(name, config=config).to(device)
    sft = common.SFTConfig(
        num_prompts=args.base_transitions,
        steps=args.base_steps,
        batch_size=args.base_batch_size,
        learning_rate=args.base_learning_rate,
        seed=args.base_seed,
    )
    transitions = Transitions(env.task, args.base_transitions, args.base_seed)
    description = {"env": args.env, "think": not args.no_think, **own, **json.loads(args.env_kwargs)}
    log = report_to(args, "base model", sft.steps)
    return common.base_model(env.tokenizer, transitions, description, config, sft, device, log=log)


def imitate(model, args):
    """Supervised training on UCB's turns; returns the loss of the last steps, in nats per token."""
    task = make_env(args, split="train", pulls=args.num_turns, demonstrator="ucb").task
    transitions = Transitions(task, args.sft_transitions, args.base_seed + 1 + args.seed, args.instructions)
    sft = common.SFTConfig(
        num_prompts=args.sft_transitions,
        steps=-(-args.sft_epochs * args.sft_transitions // args.sft_batch_size),
        batch_size=args.sft_batch_size,
        learning_rate=args.sft_learning_rate,
        seed=args.seed,
    )
    return common.fine_tune(model, transitions, sft, report_to(args, "sft", sft.steps))


def play(task, indices, answer):
    """Plays these bandits, all of them a turn at once, to the end; answer(prompts, memories) gives the responses.

    Returns rewards and what the task reports of each turn, a dict of float64 (turns, bandits).
    """
    memories = np.zeros(len(indices), task.memory_dtype)
    prompts = [task.begin(index, memory) for index, memory in zip(indices.tolist(), memories)]
    keys = ("arm", "regret", "optimal", "greedy", "teacher", "pulled")
    report = {key: np.zeros((task.turns, len(indices))) for key in ("rewards", *keys)}
    for turn in range(task.turns):
        replies = task.respond_batch(indices, memories, answer(prompts, memories))
        prompts = [reply.text for reply in replies]
        report["rewards"][turn] = [reply.reward for reply in replies]
        for key in keys:
            report[key][turn] = [reply.metrics[key] for reply in replies]
    return report


def respond(model, prompts, args, generator=None):
    prompts = [model.prompt(args.instructions + prompt) for prompt in prompts]
    return model.sample(prompts, 1, args.max_tokens, args.temperature, generator=generator)


@torch.no_grad()
def rollout(model, task, indices, args):
    """Plays bandits with the model; a dict of tensors, and what `play` reports.

    tokens, written, logprobs and values (turns, bandits, length), values before each token; rewards (turns, bandits), less
    format_penalty where no arm was named.
    """
    turns = []

    def answer(prompts, memories):
        samples = respond(model, prompts, args)
        turns.append({key: getattr(samples, key) for key in ("tokens", "written", "logprobs")})
        return model.texts(samples)

    report = play(task, indices, answer)
    b = text.merge(turns, model.tokenizer.pad)
    b["values"] = torch.cat([state_values(model, model.hidden(x)) for x in b["tokens"].split(args.micro_batch)])
    b = {key: x.unflatten(0, (len(turns), -1)) for key, x in b.items()}
    rewards = report["rewards"] - args.format_penalty * (report["arm"] < 0)
    b["rewards"] = torch.from_numpy(rewards).float().to(model.device)
    return b, report


def state_values(model, hidden):
    """Values before each token, (batch, length), from the states after each, (batch, length, d_model); of the first, 0."""
    return F.pad(model.values(hidden)[:, :-1], (1, 0))


def dual_gae(rewards, values, written, args):
    """Advantages of tokens, (turns, bandits, length) like values and written; rewards (turns, bandits) (paper's section 3).

    A turn's reward is for its last token. Discount and trace are gamma_intra and lambda_intra from a token to the next one of
    its turn, gamma_inter and lambda_inter from a turn's last token to the next turn's first; behind the last turn there is
    nothing. Where nothing was written, 0.
    """
    advantages = torch.zeros_like(values)
    carry, next_values = torch.zeros_like(rewards[0]), torch.zeros_like(rewards[0])
    for turn in reversed(range(len(rewards))):
        last = written[turn] & ~F.pad(written[turn][:, 1:], (0, 1))
        for column in reversed(written[turn].any(0).nonzero().flatten().tolist()):
            here, end, value = written[turn][:, column], last[:, column], values[turn][:, column]
            gamma = torch.where(end, args.gamma_inter, args.gamma_intra)
            trace = gamma * torch.where(end, args.lambda_inter, args.lambda_intra)
            advantage = rewards[turn] * end + gamma * next_values - value + trace * carry
            carry, next_values = torch.where(here, advantage, carry), torch.where(here, value, next_values)
            advantages[turn][:, column] = advantage * here
    return advantages


def horizon(args):
    """What a reward of 1 in each turn is worth; rewards are divided by it, so that values are of the size of one."""
    return sum(args.gamma_inter**turn for turn in range(args.num_turns))


def normalised(advantages, written):
    """Advantages less their mean over a round's tokens, divided by their standard deviation; 0 where nothing was written."""
    x = advantages[written]
    return (advantages - x.mean()) / (x.std() + 1e-8) * written


def ppo_loss(model, m, args):
    """Clipped surrogate + vf_coef * value error - ent_coef * entropy, each a mean over tokens, and metrics.

    m is a minibatch, or a part of one: shares (rows, length) are those of its tokens in the whole, so that losses and metrics
    of parts add up. There is no divergence from the base model in it.
    """
    written, shares, advantages = m["shares"] > 0, m["shares"], m["advantages"]
    hidden = model.hidden(m["tokens"])
    logprobs, entropies = model.logprobs(hidden, m["tokens"], args.temperature, written=written)
    log_ratio = torch.where(written, logprobs - m["logprobs"], 0.0)
    ratio = log_ratio.clamp(max=LARGEST_LOG_RATIO).exp()
    surrogate = torch.min(ratio * advantages, ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef) * advantages)
    policy_loss, entropy = -(shares * surrogate).sum(), (shares * entropies).sum()
    value_loss = (shares * (state_values(model, hidden) - m["returns"]).square()).sum()
    loss = policy_loss + args.vf_coef * value_loss - args.ent_coef * entropy
    metrics = {"loss/policy": policy_loss, "loss/value": value_loss, "entropy": entropy}
    metrics["approx_kl"] = (shares * (ratio - 1 - log_ratio)).sum()
    metrics["clipped"] = (shares * ((ratio - 1).abs() > args.clip_coef)).sum()
    return loss, {key: x.detach() for key, x in metrics.items()}


def learn(model, optimizer, m, args):
    """A step of Adam on a minibatch, whose gradient is at most max_grad_norm long; returns metrics."""
    written = m.pop("written")
    m["shares"] = written / written.sum()
    optimizer.zero_grad()
    metrics = defaultdict(float)
    for part in zip(*(x.split(args.micro_batch) for x in m.values())):
        loss, added = ppo_loss(model, dict(zip(m, part)), args)
        loss.backward()
        for key, x in added.items():
            metrics[key] += x
    metrics["grad_norm"] = nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)
    optimizer.step()
    return metrics


def update(model, optimizer, b, args):
    """num_epochs passes over a round's responses in random minibatches; returns the means of their metrics."""
    batch = {key: b[key].flatten(0, 1) for key in ("tokens", "written", "logprobs", "advantages", "returns")}
    updates = []
    for _ in range(args.num_epochs):
        for index in torch.randperm(len(batch["tokens"]), device=model.device).chunk(args.num_minibatches):
            updates.append(learn(model, optimizer, {key: x[index] for key, x in batch.items()}, args))
    return {key: sum(x[key] for x in updates) / len(updates) for key in updates[0]}


def scripted(method, task, number, seed):
    """The answers of a player without a model, a function like `play` takes."""
    if method == "thompson":
        bandits = gym.make_vec("Explore/MetaBandit-v0", num_envs=number, family=task.family, arms=task.arms).unwrapped
        policy = policies.Thompson(bandits, seed)

        def draw(prompts, memories):
            policy.counts, policy.sums = memories["counts"].astype(np.float64), memories["sums"]
            return [str(arm + 1) for arm in policy.choose(None).tolist()]

        return draw
    kwargs = dict(arms=task.arms, family=task.family, exploration=task.exploration, think=False)
    player, rng = TextBandit(**{**kwargs, **SCRIPTED[method]}), np.random.default_rng(seed)
    return lambda prompts, memories: [player.demonstrate(0, rng, memory) for memory in memories]


@torch.no_grad()
def audit(model, task, args, seed):
    """Metrics of eval_episodes bandits of this task, the same bandits and random numbers at each call."""
    indices = np.random.default_rng(seed).integers(task.num_tasks, size=args.eval_episodes)
    if args.method in SCRIPTED:
        answer = scripted(args.method, task, len(indices), seed)
    else:
        generator = torch.Generator(model.device).manual_seed(seed)

        def answer(prompts, memories):
            return model.texts(respond(model, prompts, args, generator))

    metrics = behaviour(play(task, indices, answer), task.arms, sorted({args.num_turns, task.turns}))
    return {f"audit/{key}": value for key, value in metrics.items()}


def behaviour(report, num_arms, times):
    """What the audit says about the turns that `play` reports, up to each of `times` or to the end.

    regret@t: summed over t turns. best_arm@t: share of the turns that pull the best arm; reward@t: mean of the rewards drawn.
    min_frac@t: num_arms * pulls of the arm pulled least / t. suffix_fail@t: share of the runs that never pull the best arm
    after t, half of all turns. greedy, teacher, valid: shares of the turns that pull the arm of the largest mean so far, one
    that UCB would, any at all. bimodality: of the runs' shares of turns with the best arm.
    """
    optimal, half = report["optimal"], len(report["optimal"]) // 2
    metrics = {f"suffix_fail@{half}": 1 - optimal[half:].any(0).mean()}
    for t in times:
        pulls = (report["arm"][:t, :, None] == np.arange(num_arms)).sum(0)  # (runs, arms)
        metrics[f"regret@{t}"] = report["regret"][:t].sum(0).mean()
        metrics[f"best_arm@{t}"] = optimal[:t].mean()
        metrics[f"reward@{t}"] = report["pulled"][:t].mean()
        metrics[f"min_frac@{t}"] = num_arms * pulls.min(1).mean() / t
    metrics |= {key: report[key].mean() for key in ("greedy", "teacher")}
    metrics["valid"] = (report["arm"] >= 0).mean()
    return metrics | {"bimodality": bimodality(optimal.mean(0))}


def bimodality(x):
    """Bimodality coefficient of x (n,), n > 3: (skewness^2 + 1) / kurtosis with the corrections for small n, 0 without spread.

    5/9 for a uniform distribution and about 1/3 for a normal one; 1 if there are only two values.
    """
    n, centred = len(x), x - x.mean()
    variance = (centred**2).mean()
    if variance < 1e-12:
        return 0.0
    skewness = (centred**3).mean() / variance**1.5 * np.sqrt(n * (n - 1)) / (n - 2)
    excess = (centred**4).mean() / variance**2 - 3
    excess = (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * excess + 6)
    return (skewness**2 + 1) / (excess + 3 * (n - 1) ** 2 / ((n - 2) * (n - 3)))


def train(args):
    run = common.start(args, __file__)
    reward = REWARDS.get(args.method, "raw")
    envs = {
        "train": make_env(args, split="train", pulls=args.num_turns, reward=reward),
        "test": make_env(args, split="test", pulls=args.audit_turns),
    }
    args = dataclasses.replace(args, max_tokens=args.max_tokens or max(env.batch.max_tokens for env in envs.values()))
    model = None
    if args.method in SCRIPTED:
        run.persist()
    else:
        model = make_model(args, envs, run.device)
        optimizer = torch.optim.Adam(model.parameters(), args.learning_rate, eps=1e-5)
        run.persist(model=model, optimizer=optimizer)
    num_steps = args.num_envs * args.num_turns if args.method in REWARDS else args.total_timesteps
    for step in run.steps(num_steps):
        metrics = {}
        if args.method == "sft":
            metrics["loss/sft"] = imitate(model, args)
        elif args.method in REWARDS:
            started = time.perf_counter()
            if args.anneal_lr:
                optimizer.param_groups[0]["lr"] = args.learning_rate * (1 - (step - num_steps) / args.total_timesteps)
            task = envs["train"].task
            b, report = rollout(model, task, torch.randint(task.num_tasks, (args.num_envs,)).numpy(), args)
            advantages = dual_gae(b["rewards"] / horizon(args), b["values"], b["written"], args)
            b["returns"], b["advantages"] = advantages + b["values"], normalised(advantages, b["written"])
            metrics = update(model, optimizer, b, args)
            metrics |= {key: report[key].mean() for key in ("optimal", "greedy", "teacher")}
            metrics["regret"], metrics["episode_return"] = report["regret"].sum(0).mean(), b["rewards"].sum(0).mean()
            metrics["valid"], metrics["length"] = (report["arm"] >= 0).mean(), b["written"].sum() / b["rewards"].numel()
            metrics["tokens_per_second"] = b["written"].sum() / (time.perf_counter() - started)
        if step >= args.total_timesteps:
            metrics |= audit(model, envs["test"].task, args, run.eval_seed)
        run.log(step, metrics)
    run.close()
    return run


if __name__ == "__main__":
    common.main(train, Args)
