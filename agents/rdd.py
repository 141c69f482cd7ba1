"""RDD: PPO with a novelty bonus from distilling a random distribution (Fang et al., 2025, arXiv:2505.11044, eq. 11).

The arms are flags: --arm ppo, rnd (Burda et al., 2018, arXiv:1810.12894), drnd (Yang et al., 2024, arXiv:2401.09750),
rdd, count (the oracle 1 / sqrt(visits)); --target-mean const is RDD's ablation. Observations are vectors or symbolic
grids. Where the environment reports info["cell"] and offers cell_observations(), the run also measures coverage and
how well the bonus is calibrated against the true visit counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import nn

from explore_gym.agents import common


@dataclass(kw_only=True)
class Args(common.Args):
    env: str = "Explore/MazeRooms-v0"  # any registered id
    num_envs: int = 64
    total_timesteps: int = 3_000_000  # environment steps, rounded up to whole iterations
    arm: Literal["ppo", "rnd", "drnd", "rdd", "count"] = "rdd"  # where the bonus comes from
    target_mean: Literal["net", "const"] = "net"  # mean of the target: a frozen random network, or 1 everywhere
    sigma: float = 1.0  # standard deviation of the target (rdd)
    num_targets: int = 10  # frozen networks (drnd)
    alpha: float = 0.9  # weight of the first term of the bonus (drnd); the released code has 0.95
    bonus_dim: int = 64  # outputs of target and predictor
    update_proportion: float = 0.25  # share of each minibatch that trains the predictor
    rdd_lr_decay: bool = False  # predictor's learning rate linearly to 0: longer averages of the draws
    warmup_rollouts: int = 50  # rollouts of random actions that start the observation statistics, not counted as steps
    ext_coef: float = 2.0  # weight of the extrinsic advantage
    int_coef: float = 1.0  # weight of the intrinsic advantage
    int_gamma: float = 0.99  # discount of the bonus
    num_steps: int = 128  # per env and rollout
    num_epochs: int = 4  # passes over one rollout
    num_minibatches: int = 4  # per epoch
    learning_rate: float = 3e-4
    gamma: float = 0.999
    gae_lambda: float = 0.95
    clip_coef: float = 0.1
    ent_coef: float = 0.001
    vf_coef: float = 0.5  # times the mean squared error
    max_grad_norm: float = 0.5
    norm_advantages: bool = True  # in each minibatch
    hidden: int = 64  # width of every hidden layer
    calibration_interval: int = 100_000  # steps between comparisons of bonus and visit counts
    report_at: tuple[int, ...] = (1_000_000,)  # steps whose coverage, success and calibration go to summary.json

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_steps", "num_epochs", "num_minibatches", "hidden", "num_targets", "bonus_dim"):
            common.at_least(self, name, 1)
        for name in ("warmup_rollouts", "calibration_interval"):
            common.at_least(self, name, 1)
        for name in ("gamma", "int_gamma", "gae_lambda", "alpha", "update_proportion"):
            common.within(self, name, 0.0, 1.0)
        common.at_least(self, "sigma", 0.0)
        batch = self.num_envs * self.num_steps
        if batch % self.num_minibatches or batch // self.num_minibatches < 2:
            raise common.UsageError(
                f"num_minibatches must divide num_envs * num_steps = {batch} into parts of 2 or more, "
                f"got {self.num_minibatches}"
            )
        if int(batch // self.num_minibatches * self.update_proportion) < 1:
            raise common.UsageError(f"update_proportion {self.update_proportion} leaves the predictor no sample")
        if self.target_mean == "const" and self.arm != "rdd":
            raise common.UsageError(f"target_mean const is an ablation of arm rdd, got arm {self.arm!r}")
        if self.arm == "drnd" and self.num_targets < 2:
            raise common.UsageError(f"num_targets must be at least 2 for drnd, got {self.num_targets}")
        if self.autoreset_mode == "NextStep":
            raise common.UsageError("autoreset_mode must be SameStep or Disabled: intrinsic returns run across resets")

    @property
    def predicts(self) -> bool:
        return self.arm in ("rnd", "drnd", "rdd")


def layer(module, gain=2**0.5):
    """Orthogonal weights, zero biases."""
    nn.init.orthogonal_(module.weight, gain)
    nn.init.zeros_(module.bias)
    return module


def mlp(num_inputs, hidden, num_outputs, gain):
    return nn.Sequential(
        layer(nn.Linear(num_inputs, hidden)),
        nn.Tanh(),
        layer(nn.Linear(hidden, hidden)),
        nn.Tanh(),
        layer(nn.Linear(hidden, num_outputs), gain),
    )


class Agent(nn.Module):
    """Observation rows (batch, obs_dim) -> logits (batch, num_actions), extrinsic and intrinsic values (batch, 2)."""

    def __init__(self, envs, args):
        super().__init__()
        self.encoder = common.Features(envs.layout)
        self.actor = mlp(self.encoder.dim, args.hidden, envs.num_actions, 0.01)
        self.critic = mlp(self.encoder.dim, args.hidden, 2, 1.0)

    def forward(self, obs):
        x = self.encoder(obs)
        return self.actor(x), self.critic(x)

    def act(self, obs):
        logits = self.actor(self.encoder(obs))
        return (logits - torch.empty_like(logits).exponential_().log()).argmax(-1)  # Gumbel-max: a draw from softmax


class RunningMeanStd(nn.Module):
    """Mean and variance of everything seen so far, merged batch by batch (Chan et al., 1983)."""

    def __init__(self, shape=()):
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("var", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("count", torch.tensor(1e-4, dtype=torch.float64))

    def update(self, x):
        """x (batch, *shape)."""
        mean = x.mean(0)
        var = (x - mean).square_().mean(0)  # five times faster than torch.var_mean along this axis
        total = self.count + len(x)
        delta = mean.double() - self.mean
        spread = self.var * self.count + var.double() * len(x) + delta**2 * self.count * len(x) / total
        for old, new in ((self.mean, self.mean + delta * len(x) / total), (self.var, spread / total), (self.count, total)):
            old.copy_(new)


class ReturnScaler(nn.Module):
    """Divides rewards by the running standard deviation of their discounted sum, which no episode end interrupts."""

    def __init__(self, num_envs, gamma):
        super().__init__()
        self.gamma = gamma
        self.stats = RunningMeanStd()
        self.register_buffer("sums", torch.zeros(num_envs))

    def forward(self, rewards):
        """rewards (num_steps, num_envs): each env has its own sum, which runs along time."""
        sums = torch.empty_like(rewards)
        for t, reward in enumerate(rewards):
            sums[t] = self.sums.mul_(self.gamma).add_(reward)
        self.stats.update(sums.flatten())
        return rewards / (self.stats.var.sqrt().float() + 1e-8)


class Novelty(nn.Module):
    """Frozen random targets, the predictor that learns them, and the whitening of their input.

    Targets have two hidden layers, the predictor three, all ReLU.
    """

    def __init__(self, dim, args):
        super().__init__()
        self.args = args

        def net(num_hidden):
            sizes = [dim] + [args.hidden] * num_hidden
            layers = [m for i, o in pairwise(sizes) for m in (layer(nn.Linear(i, o)), nn.ReLU())]
            return nn.Sequential(*layers, layer(nn.Linear(args.hidden, args.bonus_dim)))

        self.targets = nn.ModuleList(net(2) for _ in range(args.num_targets if args.arm == "drnd" else 1))
        self.targets.requires_grad_(False)
        self.predictor = net(3)
        self.obs_stats = RunningMeanStd((dim,))
        self.register_buffer("scale", torch.ones(()))

    def whiten(self, x):
        scale = self.obs_stats.var.sqrt().clamp(min=1e-8).reciprocal()
        shift = -self.obs_stats.mean * scale
        return torch.addcmul(shift.float(), x, scale.float()).clamp_(-5, 5)

    def target(self, whitened):
        """whitened (batch, dim) -> (batch, number of targets, bonus_dim)."""
        if self.args.target_mean == "const":
            return torch.ones(len(whitened), 1, self.args.bonus_dim, device=whitened.device)
        return torch.stack([net(whitened) for net in self.targets], 1) * self.scale

    @torch.no_grad()
    def rescale(self, whitened):
        """Gives the targets mean square 1 over this batch."""
        self.scale.fill_(1.0)
        self.scale.copy_(self.target(whitened).square().mean().rsqrt())

    def bonus(self, whitened, target):
        prediction = self.predictor(whitened)
        return drnd_bonus(prediction, target, self.args.alpha) if self.args.arm == "drnd" else bonus(prediction, target)


def bonus(prediction, target):
    """RND's and RDD's bonus (eq. 11): mean squared distance to the target's *mean*, never to a draw.

    prediction (batch, d), target (batch, 1, d) -> (batch,).
    """
    return (prediction - target[:, 0]).square().mean(-1)


def drnd_bonus(prediction, target, alpha):
    """DRND's bonus (Yang et al., 2024, eq. 9): distance to the mean of the targets, and a pseudo-count from moments.

    prediction (batch, d), target (batch, num_targets, d) -> (batch,).
    """
    mean, second_moment = target.mean(1), target.square().mean(1)
    distance = (prediction - mean).square().sum(-1)
    ratio = (prediction.square() - mean.square()).abs() / (second_moment - mean.square())
    return alpha * distance + (1 - alpha) * ratio.clamp(1e-6, 1).sqrt().sum(-1)


def draw(target, arm, sigma):
    """What the predictor learns in one gradient use, fresh for every sample: (batch, targets, d) -> (batch, d)."""
    if arm == "drnd":
        choice = torch.randint(target.shape[1], (len(target),), device=target.device)
        return target[torch.arange(len(target), device=target.device), choice]
    if arm == "rdd":
        return target[:, 0] + sigma * torch.randn_like(target[:, 0])
    return target[:, 0]


class Visits:
    """True visit counts of an environment's cells, for coverage, calibration and the oracle bonus; the agent sees none.

    counts (num_cells,): of a square grid, row by row; ids: its reachable cells; obs: their observation rows.
    """

    def __init__(self, envs):
        env = envs.envs.unwrapped.env
        self.ids, obs = env.cell_observations()
        self.obs = envs.rows(obs)
        self.table = torch.zeros(env.num_cells, dtype=torch.long, device=envs.device if envs.dense else "cpu")

    def add(self, cells):
        """Counts cells (num_steps, num_envs) in order of time; returns each one's count after its own step."""
        numbers, ones = torch.empty_like(cells), torch.ones_like(cells[0])
        for t, cell in enumerate(cells):
            numbers[t] = self.table.index_add_(0, cell, ones)[cell]
        return numbers

    @property
    def counts(self):
        return self.table.cpu().numpy()

    @property
    def coverage(self):
        return float((self.counts[self.ids] > 0).mean())

    def state_dict(self):
        return {"counts": self.table}

    def load_state_dict(self, state):
        self.table.copy_(state["counts"])


def make_buffer(envs, num_steps):
    """Rollout storage, (num_steps, num_envs, ...); obs has one row more."""
    shape, device = (num_steps, envs.num_envs), envs.device
    flags = ("terminated", "truncated") if envs.dense else ("terminated", "truncated", "valid")
    buffer = {key: torch.zeros(shape, dtype=torch.bool, device=device) for key in flags}
    buffer["obs"] = torch.zeros((num_steps + 1, envs.num_envs, envs.obs_dim), dtype=envs.obs_dtype, device=device)
    buffer["actions"] = torch.zeros(shape, dtype=torch.long, device=device)
    buffer["rewards"] = torch.zeros(shape, device=device)
    buffer["cells"] = torch.zeros(shape, dtype=torch.long, device=device if envs.dense else "cpu")
    return buffer


@torch.no_grad()
def rollout(agent, envs, buffer):
    """Plays the buffer full; returns a dict of (num_steps, num_envs, ...) tensors with logprobs and values.

    Only actions are computed on the way: logprobs and values follow in one batch, V(final_obs) of ended episodes too.
    """
    final_obs = []
    buffer["obs"][0] = envs.obs
    for t in range(len(buffer["actions"])):
        action = agent.act(buffer["obs"][t])
        next_obs, reward, terminated, truncated, info = envs.step(action)
        buffer["obs"][t + 1], buffer["actions"][t], buffer["rewards"][t] = next_obs, action, reward
        buffer["terminated"][t], buffer["truncated"][t] = terminated, truncated
        if not envs.dense:
            buffer["valid"][t] = info["valid"]
        buffer["cells"][t] = torch.as_tensor(info["reached"].get("cell", 0))
        final_obs.append(info["final_obs"])
    b = {**buffer, "obs": buffer["obs"][:-1], "done": buffer["terminated"] | buffer["truncated"]}
    logits, values = forward(agent, buffer["obs"].flatten(0, 1))
    values = values.unflatten(0, buffer["obs"].shape[:2])
    logprobs = logits.log_softmax(-1).unflatten(0, buffer["obs"].shape[:2])[:-1]
    b["logprobs"] = logprobs.gather(-1, b["actions"].unsqueeze(-1)).squeeze(-1)
    b["values"], b["next_values"] = values[:-1, ..., 0], values[1:, ..., 0].clone()
    b["int_values"], b["int_next_values"] = values[:-1, ..., 1], values[1:, ..., 1]  # the bonus runs on after a reset
    final_obs = torch.cat(final_obs)
    if envs.dense:  # the state reached, before any autoreset
        final_values = forward(agent, final_obs)[1][:, 0].view_as(b["done"])
        b["next_values"] = torch.where(b["done"], final_values, b["next_values"])
        b["next_obs"] = final_obs.view_as(b["obs"])
    else:
        b["next_values"][b["done"]] = agent(final_obs)[1][:, 0]
        b["next_obs"] = buffer["obs"][1:].clone()
        b["next_obs"][b["done"]] = final_obs
    return b


def forward(agent, obs):
    """agent(obs) of many rows (batch, obs_dim), some at a time."""
    rows = 4096 if obs.device.type == "cpu" else 65536
    return tuple(torch.cat(x) for x in zip(*map(agent, obs.split(rows))))


@torch.no_grad()
def warm_up(novelty, agent, envs, args):
    """Random play that starts the observation statistics and fixes the targets' scale on its first rollout."""
    first = None
    for _ in range(args.warmup_rollouts):
        actions = torch.randint(envs.num_actions, (args.num_steps, envs.num_envs), device=envs.device)
        rows = [envs.step(action)[0].clone() for action in actions]
        x = agent.encoder(torch.cat(rows))
        novelty.obs_stats.update(x)
        first = x if first is None else first
    novelty.rescale(novelty.whiten(first))


def gae(rewards, values, next_values, terminated, done, gamma, gae_lambda):
    """Generalised advantage estimate (Schulman et al., 2016, eq. 16). All tensors (num_steps, num_envs)."""
    deltas = rewards + gamma * next_values * ~terminated - values
    decays = gamma * gae_lambda * ~done
    advantages, carry = torch.empty_like(deltas), torch.zeros_like(deltas[0])
    for t in reversed(range(len(deltas))):
        advantages[t] = carry = torch.addcmul(deltas[t], decays[t], carry)
    return advantages


def rdd_loss(agent, novelty, m, args):
    """PPO's loss on the joint advantage and both values, plus the predictor's on its share of the minibatch m."""
    logits, values = agent(m["obs"])
    all_logprobs = logits.log_softmax(-1)
    log_ratio = all_logprobs.gather(-1, m["actions"].unsqueeze(-1)).squeeze(-1) - m["logprobs"]
    ratio = log_ratio.exp()
    advantages = m["advantages"]
    if args.norm_advantages:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    clipped = ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
    policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
    value_loss = (values[:, 0] - m["returns"]).square().mean()
    int_value_loss = (values[:, 1] - m["int_returns"]).square().mean()
    entropy = -(all_logprobs.exp() * all_logprobs).sum(-1).mean()
    loss = policy_loss + args.vf_coef * (value_loss + int_value_loss) - args.ent_coef * entropy
    metrics = {"loss/policy": policy_loss, "loss/value": value_loss, "entropy": entropy}
    metrics["approx_kl"] = (ratio - 1 - log_ratio).mean()
    metrics["loss/int_value"] = int_value_loss
    if args.predicts:
        prediction = novelty.predictor(m["whitened"])
        metrics["loss/predictor"] = (prediction - draw(m["target"], args.arm, args.sigma)).square().mean()
        loss = loss + metrics["loss/predictor"]
    return loss, {key: x.detach() for key, x in metrics.items()}


def gradient(loss, modules, max_grad_norm):
    """Gradient of the loss as one vector for each module in the order of its parameters; together at most so long."""
    sizes = [sum(x.numel() for x in module.parameters()) for module in modules]
    grads = torch.autograd.grad(loss, [x for module in modules for x in module.parameters()])
    grad = torch.cat([x.flatten() for x in grads])
    return (grad * (max_grad_norm / (grad.norm() + 1e-6)).clamp(max=1.0)).split(sizes)


def update(agent, novelty, optimizers, loss_function, b, args):
    """num_epochs passes over the rollout in minibatches; returns the last minibatch's metrics."""
    keys = ("obs", "actions", "logprobs", "advantages", "returns", "int_returns")
    batch = {key: b[key].flatten(0, 1) for key in keys}  # (num_steps * num_envs, ...)
    valid = b["valid"].flatten().nonzero().squeeze(1) if "valid" in b else None
    size, device = len(batch["actions"]) if valid is None else len(valid), batch["actions"].device
    learning = {"agent": agent, **({"predictor": novelty.predictor} if args.predicts else {})}
    for _ in range(args.num_epochs):
        order = common.permutation(size, device)
        if valid is not None:
            order = valid[order]
        for index in order.chunk(args.num_minibatches):
            m = {key: x.index_select(0, index) for key, x in batch.items()}
            if args.predicts:  # the order is random, so the first samples are a random share
                share = index[: int(len(index) * args.update_proportion)]
                m["whitened"], m["target"] = b["whitened"][share], b["target"][share]
            loss, metrics = loss_function(agent, novelty, m, args)
            for name, grad in zip(learning, gradient(loss, learning.values(), args.max_grad_norm)):
                optimizers[name].step(grad)
    return metrics


@torch.no_grad()
def intrinsic_rewards(agent, novelty, visits, b, args):
    """The arm's bonus for every state reached, (num_steps, num_envs); leaves the predictor's batch in b."""
    shape = b["rewards"].shape
    if visits:
        numbers = visits.add(b["cells"])
    if args.arm == "count":
        return (numbers.double() ** -0.5).to(b["rewards"])
    if not args.predicts:
        return torch.zeros_like(b["rewards"])
    x = agent.encoder(b["next_obs"].flatten(0, 1))
    novelty.obs_stats.update(x)
    b["whitened"] = novelty.whiten(x)
    b["target"] = novelty.target(b["whitened"])
    return novelty.bonus(b["whitened"], b["target"]).view(shape)


def ranks(x):
    """Ranks from 1, ties averaged."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def calibration(bonuses, counts):
    """How well bonuses (cells,) follow visit counts (cells,).

    spearman of b and 1/N, slope and r2 of log b against log N over visited cells; contrast = mean b(unvisited) / mean
    b(top tenth of visits) where some cell is unvisited. Empty with fewer than three different counts.
    """
    visited = counts > 0
    b, n = bonuses[visited], counts[visited]
    if len(np.unique(n)) < 3 or b.min() <= 0 or np.ptp(b) == 0:
        return {}
    log_b, log_n = np.log(b), np.log(n)
    metrics = {
        "calibration/spearman": np.corrcoef(ranks(b), ranks(-n))[0, 1],
        "calibration/slope": np.polyfit(log_n, log_b, 1)[0],
        "calibration/r2": np.corrcoef(log_b, log_n)[0, 1] ** 2,
    }
    if not visited.all():
        metrics["calibration/contrast"] = bonuses[~visited].mean() / b[n >= np.quantile(n, 0.9)].mean()
    return {key: float(x) for key, x in metrics.items()}


@torch.no_grad()
def bonus_map(agent, novelty, visits, args):
    """The bonus of every reachable cell as it stands, (cells,)."""
    if args.arm == "count":
        return np.maximum(visits.counts[visits.ids], 1) ** -0.5
    if not args.predicts:
        return np.zeros(len(visits.ids))
    whitened = novelty.whiten(agent.encoder(visits.obs))
    return novelty.bonus(whitened, novelty.target(whitened)).double().cpu().numpy()


def report(run, metrics, window):
    """Coverage, success over the last `window` steps, and calibration, for summary.json."""
    rows = [row for row in common.read_metrics(run.metrics_file) if row["step"] > run.step - window]
    success = [row["success"] for row in rows if "success" in row]
    entry = {"step": run.step, "success": float(np.mean(success))} if success else {"step": run.step}
    return {**entry, **{key: x for key, x in metrics.items() if key == "coverage" or key.startswith("calibration/")}}


def train(args):
    run = common.start(args, __file__)
    envs = run.make_envs(args.num_envs, on_device=True)
    agent = Agent(envs, args).to(run.device)
    novelty = Novelty(agent.encoder.dim, args).to(run.device)
    scaler = ReturnScaler(args.num_envs, args.int_gamma).to(run.device)
    modules = {"agent": agent, "predictor": novelty.predictor}
    optimizers = {name: common.Adam(module, args.learning_rate, eps=1e-5) for name, module in modules.items()}
    loss_function = torch.compile(rdd_loss) if args.compile else rdd_loss
    buffer = make_buffer(envs, args.num_steps)
    visits = Visits(envs) if hasattr(getattr(envs.envs.unwrapped, "env", None), "cell_observations") else None
    if args.arm == "count" and not visits:
        raise common.UsageError(f"--arm count needs an environment with cells, {args.env} has none")
    int_coef = 0.0 if args.arm == "ppo" else args.int_coef
    envs.reset(seed=run.env_seed)
    stateful = {f"{name}_optimizer": optimizer for name, optimizer in optimizers.items()}
    if visits:
        stateful["visits"] = visits
    run.persist(agent=agent, novelty=novelty, scaler=scaler, envs=envs, **stateful)
    if run.step == 0 and args.predicts:
        warm_up(novelty, agent, envs, args)
        envs.reset(seed=run.env_seed)

    def iterate():
        b = rollout(agent, envs, buffer)
        bonuses = intrinsic_rewards(agent, novelty, visits, b, args)
        int_rewards = scaler(bonuses)
        rewards, never = b["rewards"].clamp(-1, 1), torch.zeros_like(b["done"])
        ext_advantages = gae(rewards, b["values"], b["next_values"], b["terminated"], b["done"], args.gamma, args.gae_lambda)
        int_advantages = gae(int_rewards, b["int_values"], b["int_next_values"], never, never, args.int_gamma, args.gae_lambda)
        b["returns"] = ext_advantages + b["values"]
        b["int_returns"] = int_advantages + b["int_values"]
        b["advantages"] = args.ext_coef * ext_advantages + int_coef * int_advantages
        return {**update(agent, novelty, optimizers, loss_function, b, args), "bonus": bonuses.mean()}

    if envs.dense:  # nothing waits for the device: a GPU replays the iteration as one graph
        iterate = common.captured(iterate, run.device)
    for step in run.steps(args.num_envs * args.num_steps):
        previous = step - args.num_envs * args.num_steps
        if args.rdd_lr_decay:
            progress = previous / args.total_timesteps
            optimizers["predictor"].learning_rate.fill_(args.learning_rate * (1 - progress))
        metrics = {**iterate(), **envs.episode_metrics()}
        if visits:
            metrics["coverage"] = visits.coverage  # of the whole training, not of an episode
        reports = [str(at) for at in args.report_at if previous < at <= step]
        if step >= args.total_timesteps:
            reports.append("final")
        if visits and (reports or step // args.calibration_interval > previous // args.calibration_interval):
            metrics |= calibration(bonus_map(agent, novelty, visits, args), visits.counts[visits.ids])
        run.log(step, metrics)
        for name in reports:
            run.summary[name] = report(run, metrics, args.calibration_interval)
    if visits:
        bonuses = bonus_map(agent, novelty, visits, args)
        np.savez(run.dir / "visits.npz", ids=visits.ids, counts=visits.counts[visits.ids], bonuses=bonuses)
        side = math.isqrt(len(visits.counts))
        common.heat_map(visits.counts.reshape(side, side), run.dir / "visits.png", f"visits, {args.arm}")
    if args.eval_episodes:
        run.summary.update(common.evaluate(agent.act, run.make_envs(args.num_envs), args.eval_episodes, run.eval_seed))
    run.close()
    return run


if __name__ == "__main__":
    common.main(train, Args)
