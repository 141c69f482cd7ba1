"""SubPO: policy gradients for walks that a submodular set function pays for (Prajapat et al., 2024, arXiv:2307.13372).

What a walk is worth, F of the set of its visits, isn't a sum of rewards of places: a visit adds its marginal gain, which
depends on the visits before. The gradient of E[F] weighs each action with the marginal gains that come after it.
The arms are flags: --arm subpo-m (the policy sees place and time), subpo-nm (it sees the visits, too), modpo (the same
gradient, of rewards as if nothing had been visited before), final (each action is weighed with F of the whole walk), ppo (on
the environment's rewards, whatever they are), random, and two planned walks, greedy and optimum.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from explore_gym.agents import common
from explore_gym.envs.coverage.grid import WalkGrid
from explore_gym.envs.coverage.references import best_walk, greedy_walk

PLANNERS = {"greedy": greedy_walk, "optimum": best_walk}
PLATEAU = 0.95  # share of the last epochs' return from which on a run counts as arrived


@dataclass(kw_only=True)
class Args(common.Args):
    arm: Literal["subpo-m", "subpo-nm", "modpo", "final", "ppo", "random", "greedy", "optimum"] = "subpo-m"  # see above
    env: str = "Explore/GridCoverage-v0"  # a coverage task on a grid; for ppo and random any id
    num_envs: int = 500  # walks in an epoch
    total_timesteps: int = 2_340_000  # environment steps, rounded up to whole epochs
    policy: Literal["mlp", "table"] = "mlp"  # table: a row of logits for each time and cell
    hidden: tuple[int, ...] = (64, 32)  # widths of the layers, tanh
    learning_rate: float = 2e-2
    baseline: bool = True  # subtract from an action's weight its mean over the other walks
    release_weighting: bool = False  # weigh an action with F up to it, as the released code does: the past, not what follows
    num_groups: int = 10  # parts of an epoch's walks whose gradients are compared
    num_steps: int = 128  # ppo: per env and rollout (the others: a whole walk)
    num_epochs: int = 4  # ppo: passes over one rollout
    num_minibatches: int = 4  # ppo: per epoch
    gamma: float = 1.0  # ppo; anything below 1 isn't E[F] any more
    gae_lambda: float = 0.95  # ppo
    clip_coef: float = 0.2  # ppo
    ent_coef: float = 0.0  # ppo
    vf_coef: float = 0.5  # ppo: times the mean squared error
    max_grad_norm: float = 0.5  # ppo
    target_kl: float = 0.0  # ppo: stop a rollout's epochs once the policy moved this far (0: never)
    norm_advantages: bool = True  # ppo: in each minibatch

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_steps", "num_epochs", "num_minibatches"):
            common.at_least(self, name, 1)
        common.at_least(self, "num_groups", 2)
        for name in ("gamma", "gae_lambda"):
            common.within(self, name, 0.0, 1.0)
        if min(self.hidden, default=0) < 1:
            raise common.UsageError(f"hidden must be one or more widths of at least 1, got {self.hidden}")
        if self.release_weighting and self.arm not in ("subpo-m", "subpo-nm"):
            raise common.UsageError(f"release_weighting is an ablation of subpo-m and subpo-nm, got arm {self.arm!r}")
        if self.policy == "table" and not self.markovian:
            raise common.UsageError(f"a table has room for place and time alone: subpo-m, modpo or final, got arm {self.arm!r}")
        if self.follows_gradient and self.num_envs % self.num_groups:
            raise common.UsageError(f"num_groups must divide num_envs = {self.num_envs}, got {self.num_groups}")
        batch = self.num_envs * self.num_steps
        if self.arm == "ppo" and (batch % self.num_minibatches or batch // self.num_minibatches < 2):
            raise common.UsageError(
                f"num_minibatches must divide num_envs * num_steps = {batch} into parts of 2 or more, "
                f"got {self.num_minibatches}"
            )
        if self.arm != "ppo" and self.autoreset_mode == "NextStep":
            raise common.UsageError("autoreset_mode must be SameStep or Disabled: a reset isn't a step of a walk")

    @property
    def markovian(self) -> bool:
        return self.arm in ("subpo-m", "modpo", "final")

    @property
    def follows_gradient(self) -> bool:
        return self.markovian or self.arm == "subpo-nm"


def layer(module, gain=2**0.5):
    """Orthogonal weights, zero biases."""
    nn.init.orthogonal_(module.weight, gain)
    nn.init.zeros_(module.bias)
    return module


def tanh_net(*sizes, gain):
    """Linear layers of these sizes with tanh in between; the last one's weights are scaled by gain."""
    layers = [m for i, o in pairwise(sizes[:-1]) for m in (layer(nn.Linear(i, o)), nn.Tanh())]
    return nn.Sequential(*layers, layer(nn.Linear(*sizes[-2:]), gain))


class Table(nn.Module):
    """Logits for each time and cell of a grid, read off place and time, the first three numbers of an observation."""

    def __init__(self, world, num_actions):
        super().__init__()
        self.rows, self.columns = world.free.shape
        self.steps = world.steps
        self.logits = nn.Parameter(torch.zeros(self.steps * self.rows * self.columns, num_actions))

    def forward(self, obs):
        scales = torch.tensor([self.rows - 1, self.columns - 1, self.steps], device=obs.device)
        row, column, time = (obs[:, :3] * scales).round().long().unbind(1)
        time = time.clamp(max=self.steps - 1)  # after the last step nothing is chosen any more
        return self.logits[(time * self.rows + row) * self.columns + column]


class Script(nn.Module):
    """Logits that don't learn: 0 for random actions (steps=None), or those of a walk, on which the time alone decides."""

    def __init__(self, steps, num_actions):
        super().__init__()
        self.steps = steps
        self.register_buffer("logits", torch.zeros(steps or 1, num_actions))

    def write(self, actions):
        """Takes the actions of a walk, a list of `steps`."""
        self.logits.fill_(-1e9)
        self.logits[range(len(actions)), actions] = 0.0

    def forward(self, obs):
        if self.steps is None:
            return self.logits.expand(len(obs), -1)
        return self.logits[(obs[:, 2] * self.steps).round().long().clamp(max=self.steps - 1)]


class Centred(nn.Module):
    """A network that sees place and time, the first three numbers of an observation, from -1 to 1 instead of 0 to 1."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, obs):
        return self.net(torch.cat([2.0 * obs[:, :3] - 1.0, obs[:, 3:]], 1))


class Agent(nn.Module):
    """Observation rows (batch, obs_dim) -> logits (batch, num_actions), values (batch,), which are 0 without a critic.

    Raises:
        UsageError: the arm can't be used on this environment.
    """

    def __init__(self, envs, args):
        super().__init__()
        world = check_world(envs, args)
        self.features = common.Features(envs.layout)
        self.seen = 3 if args.markovian else self.features.dim  # of the features: place and time come first
        self.critic = tanh_net(self.seen, *args.hidden, 1, gain=1.0) if args.arm == "ppo" else None
        if args.policy == "table":
            self.actor = Table(world, envs.num_actions)
        elif args.follows_gradient:
            self.actor = Centred(tanh_net(self.seen, *args.hidden, envs.num_actions, gain=0.01))
        elif args.arm == "ppo":
            self.actor = tanh_net(self.seen, *args.hidden, envs.num_actions, gain=0.01)
        else:
            self.actor = Script(world.steps if args.arm in PLANNERS else None, envs.num_actions)

    def forward(self, obs):
        x = self.features(obs)[:, : self.seen]
        values = self.critic(x).squeeze(-1) if self.critic else x.new_zeros(len(x))
        return self.actor(x), values

    def act(self, obs, noise=None):
        """A draw from softmax(logits): the largest of logits + noise, by default fresh `gumbel` noise."""
        logits = self.actor(self.features(obs)[:, : self.seen])
        return (logits + (gumbel(logits.shape, logits.device) if noise is None else noise)).argmax(-1)


def check_world(envs, args):
    """The single environment behind a batch, a WalkGrid for all arms but ppo and random.

    Raises:
        UsageError: it isn't, or it doesn't pay or show what the arm needs.
    """
    world = getattr(envs.worlds, "env", None)
    if args.arm in ("ppo", "random"):
        return world
    if not isinstance(world, WalkGrid):
        raise common.UsageError(
            f"arm {args.arm} needs walks of a fixed number of steps that a set function pays for: GridCoverage, Biodiversity, "
            f"ExperimentDesign, ItemCollection or BuildingExploration; got {args.env}, on which ppo and random can be used"
        )
    kwargs = json.loads(args.env_kwargs)
    if kwargs.get("reward", "marginal") != "marginal" or kwargs.get("max_episode_steps") is not None:
        raise common.UsageError(
            f"arm {args.arm} needs marginal gains of whole walks: neither reward='modular' nor max_episode_steps, got {kwargs}"
        )
    if args.arm == "subpo-nm" and kwargs.get("observation") == "position":
        raise common.UsageError("arm subpo-nm needs to see the visits: observation must be 'map' or 'history', got 'position'")
    if args.arm in PLANNERS and (world.slip > 0.0 or world.num_contexts > 1):
        raise common.UsageError(f"arm {args.arm} needs one layout and moves that don't slip, got {kwargs}")
    return world


def gumbel(shape, device):
    """Draws of the standard Gumbel distribution."""
    return torch.empty(shape, device=device).exponential_().log_().neg_()


def make_buffer(envs, num_steps):
    """Rollout storage, (num_steps, num_envs, ...); obs has one row more. What stays on the CPU moves once per rollout."""
    shape, device = (num_steps, envs.num_envs), envs.device
    buffer = {key: torch.zeros(shape, dtype=torch.bool) for key in ("terminated", "truncated", "valid")}
    buffer |= {key: torch.zeros(shape) for key in ("rewards", "modular_rewards", "F")}
    buffer["actions"] = torch.zeros(shape, dtype=torch.long, device=device)
    buffer["obs"] = torch.zeros((num_steps + 1, envs.num_envs, envs.obs_dim), dtype=envs.obs_dtype, device=device)
    return buffer


@torch.no_grad()
def rollout(agent, act, envs, buffer):
    """Plays the buffer full; returns a dict of (num_steps, num_envs, ...) tensors, and the last obs of ended episodes.

    F is that of the walk up to and with the place that a step leads to; it stays 0 where the environment reports none.
    """
    final_obs = []
    rows = {key: x.unbind() for key, x in buffer.items()}  # views of each step
    noise = gumbel((*buffer["actions"].shape, envs.num_actions), envs.device)
    rows["obs"][0].copy_(envs.obs)
    for t, action in enumerate(rows["actions"]):
        action.copy_(act(rows["obs"][t], noise[t]))
        next_obs, reward, terminated, truncated, info = envs.step(action)
        rows["obs"][t + 1].copy_(next_obs)
        rows["rewards"][t].copy_(reward)
        rows["terminated"][t].copy_(terminated)
        rows["truncated"][t].copy_(truncated)
        rows["valid"][t].copy_(info["valid"])
        if "F" in info["reached"]:
            rows["F"][t].copy_(torch.from_numpy(info["reached"]["F"]))
            rows["modular_rewards"][t].copy_(torch.from_numpy(info["reached"]["modular_reward"]))
        final_obs.append(info["final_obs"])
    b = {key: x.to(envs.device) for key, x in buffer.items()}
    b["done"] = b["terminated"] | b["truncated"]
    return b, torch.cat(final_obs)


def action_weights(b, args):
    """What the gradient weighs log pi of each action with, (num_steps, num_envs), for walks of num_steps.

    The marginal gains that come after the action, F(walk) - F(walk before it), less a baseline: their mean over the *other*
    walks, so that the estimate of the gradient has no bias at all.
    """
    if args.release_weighting:
        return b["F"]  # over a constant there, which is nothing to Adam
    gains = b["modular_rewards"] if args.arm == "modpo" else b["rewards"]
    weights = gains.sum(0).expand_as(gains) if args.arm == "final" else gains.flip(0).cumsum(0).flip(0)
    if args.baseline:
        num_walks = weights.shape[1]
        weights = (weights - weights.mean(1, keepdim=True)) * (num_walks / (num_walks - 1))
    return weights


def walk_gradient(agent, m):
    """Gradient of -E[sum of weight * log pi(action)] as one vector in the order of agent.parameters(), and the entropy.

    m has some walks' obs, actions and weights, (num_steps, walks, ...).
    """
    logits, _ = agent(m["obs"].flatten(0, 1))
    all_logprobs = logits.log_softmax(-1)
    logprobs = all_logprobs.gather(-1, m["actions"].flatten().unsqueeze(-1)).squeeze(-1)
    loss = -(m["weights"].flatten() * logprobs).sum() / m["weights"].shape[1]
    entropy = -(all_logprobs.exp() * all_logprobs).sum(-1).mean().detach()
    return torch.cat([x.flatten() for x in torch.autograd.grad(loss, list(agent.parameters()))]), entropy


def climb(group_gradient, optimizer, b, args):
    """A step of Adam along the gradient of all walks, the mean of its groups' gradients. Returns metrics.

    The norms of the groups' gradients vary by gradient/std; gradient/noise is the norm of their standard deviations.
    """
    batch = {"obs": b["obs"][:-1], "actions": b["actions"], "weights": action_weights(b, args)}
    parts = {key: x.chunk(args.num_groups, 1) for key, x in batch.items()}
    found = [group_gradient({key: x[group] for key, x in parts.items()}) for group in range(args.num_groups)]
    grads, entropies = (torch.stack(x) for x in zip(*found))
    grad = grads.mean(0)
    optimizer.step(grad)
    metrics = {"gradient/norm": grad.norm(), "gradient/std": grads.norm(dim=1).std(), "gradient/noise": grads.std(0).norm()}
    return {**metrics, "entropy": entropies.mean()}


@torch.no_grad()
def evaluate(agent, b, final_obs):
    """Adds logprobs and values of a rollout to b, those of the states reached, before any autoreset, too."""
    logits, values = (torch.cat(x) for x in zip(*map(agent, b["obs"].flatten(0, 1).split(4096))))
    values = values.unflatten(0, b["obs"].shape[:2])
    logprobs = logits.log_softmax(-1).unflatten(0, b["obs"].shape[:2])[:-1]
    b["obs"] = b["obs"][:-1]
    b["logprobs"] = logprobs.gather(-1, b["actions"].unsqueeze(-1)).squeeze(-1)
    b["values"], b["next_values"] = values[:-1], values[1:].clone()
    b["next_values"][b["done"]] = agent(final_obs)[1]


def gae(rewards, values, next_values, terminated, done, gamma, gae_lambda):
    """Generalised advantage estimate (Schulman et al., 2016, eq. 16). All tensors (num_steps, num_envs)."""
    deltas = rewards + gamma * next_values * ~terminated - values
    decays = gamma * gae_lambda * ~done
    advantages, carry = torch.empty_like(deltas), torch.zeros_like(deltas[0])
    for t in reversed(range(len(deltas))):
        advantages[t] = carry = torch.addcmul(deltas[t], decays[t], carry)
    return advantages


def ppo_loss(agent, m, args):
    """Clipped surrogate (eq. 7) + vf_coef * value error - ent_coef * entropy (eq. 9), and metrics; m is a minibatch."""
    logits, values = agent(m["obs"])
    all_logprobs = logits.log_softmax(-1)
    log_ratio = all_logprobs.gather(-1, m["actions"].unsqueeze(-1)).squeeze(-1) - m["logprobs"]
    ratio = log_ratio.exp()
    advantages = m["advantages"]
    if args.norm_advantages:
        advantages = common.standardised(advantages)
    clipped = ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
    policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
    value_loss = (values - m["returns"]).square().mean()
    entropy = -(all_logprobs.exp() * all_logprobs).sum(-1).mean()
    loss = policy_loss + args.vf_coef * value_loss - args.ent_coef * entropy
    metrics = {"loss/policy": policy_loss, "loss/value": value_loss, "entropy": entropy}
    metrics["approx_kl"] = (ratio - 1 - log_ratio).mean()
    return loss, {key: x.detach() for key, x in metrics.items()}


def gradient(agent, m, args):
    """Gradient of ppo_loss as one vector in the order of agent.parameters(), at most max_grad_norm long, and metrics.

    Several processes have the same gradient, that of all their minibatches together; metrics are of one's own.
    """
    loss, metrics = ppo_loss(agent, m, args)
    grad = torch.cat([x.flatten() for x in torch.autograd.grad(loss, list(agent.parameters()))])
    grad = common.averaged(grad)
    return grad * (args.max_grad_norm / (grad.norm() + 1e-6)).clamp(max=1.0), metrics


def learn(agent, optimizer, batch, index, args):
    """A step of Adam on the rows `index` of the batch; returns metrics."""
    m = {key: x.index_select(0, index) for key, x in batch.items()}
    grad, metrics = gradient(agent, m, args)
    optimizer.step(grad)
    return metrics


def update(learn_minibatch, b, args):
    """num_epochs passes over the rollout in minibatches. Returns the last one's metrics.

    Where resets took some steps of the rollout, some of the others count twice: minibatches keep their size.
    """
    keys = ("obs", "actions", "logprobs", "advantages", "returns")
    batch = {key: b[key].flatten(0, 1) for key in keys}  # (num_steps * num_envs, ...)
    size, device = len(batch["actions"]), batch["actions"].device
    valid = b["valid"].flatten().nonzero().squeeze(1) if "valid" in b else None
    for _ in range(args.num_epochs):
        order = common.permutation(size, device)
        if valid is not None:
            order = valid[order % len(valid)]
        for index in order.chunk(args.num_minibatches):
            metrics = learn_minibatch(batch, index)
        if args.target_kl and metrics["approx_kl"] > args.target_kl:
            break
    return metrics


def plan_walk(args, planner):
    """The value of a planner's walk, its marginal gains added up, and its actions.

    Raises:
        UsageError: the task is too large for it.
    """
    world = gym.make(args.env, **json.loads(args.env_kwargs)).unwrapped
    world.reset(seed=args.seed)
    try:
        return planner(world)
    except ValueError as error:
        raise common.UsageError(f"arm {args.arm} can't plan on {args.env} with {args.env_kwargs}: {error}") from error


def epochs_to_plateau(returns):
    """The first epoch, from 1, whose return is at least PLATEAU times the mean return of the last tenth of them."""
    plateau = np.mean(returns[-max(1, len(returns) // 10) :])
    return 1 + int(np.argmax(np.asarray(returns) >= PLATEAU * plateau))


def train(args):
    run = common.start(args, __file__)
    envs = run.make_envs(args.num_envs)
    agent = Agent(envs, args).to(run.device)
    world = getattr(envs.worlds, "env", None)
    walks = isinstance(world, WalkGrid)
    num_steps = world.steps if walks and args.arm != "ppo" else args.num_steps
    if args.arm in PLANNERS:
        agent.actor.write(plan_walk(args, PLANNERS[args.arm])[1])
    plannable = walks and not (world.slip > 0.0 or world.num_contexts > 1)
    greedy_value = plan_walk(args, greedy_walk)[0] if plannable else None
    stateful = {"agent": agent, "envs": envs}
    act, group_gradient = agent.act, lambda m: walk_gradient(agent, m)
    if args.follows_gradient or args.arm == "ppo":
        stateful["optimizer"] = optimizer = common.Adam(agent, args.learning_rate, eps=1e-5 if args.arm == "ppo" else 1e-8)
        learn_minibatch = lambda batch, index: learn(agent, optimizer, batch, index, args)
        if args.compile:
            act, group_gradient = common.compiled(act, agent), common.compiled(group_gradient, agent)
            learn_minibatch = common.compiled(learn_minibatch, agent, optimizer)
    buffer = make_buffer(envs, num_steps)
    envs.reset(seed=run.env_seed)
    run.persist(**stateful)
    for step in run.steps(args.num_envs * num_steps):
        b, final_obs = rollout(agent, act, envs, buffer)
        metrics = {"episodes": envs.num_episodes, **envs.episode_metrics()}
        if args.follows_gradient:
            metrics |= climb(group_gradient, optimizer, b, args)
        elif args.arm == "ppo":
            evaluate(agent, b, final_obs)
            b["advantages"] = gae(
                b["rewards"], b["values"], b["next_values"], b["terminated"], b["done"], args.gamma, args.gae_lambda
            )
            b["returns"] = b["advantages"] + b["values"]
            metrics |= update(learn_minibatch, b, args)
        if greedy_value and "episode_return" in metrics:
            metrics["of_greedy"] = metrics["episode_return"] / greedy_value
        if step >= args.total_timesteps:
            rows = [*common.read_metrics(run.metrics_file), metrics]
            metrics["epochs_to_plateau"] = epochs_to_plateau([row["episode_return"] for row in rows if "episode_return" in row])
        run.log(step, metrics)
    if args.eval_episodes:
        run.summary.update(common.evaluate(agent.act, run.make_envs(args.num_envs), args.eval_episodes, run.eval_seed))
    run.close()
    return run


if __name__ == "__main__":
    common.main(train, Args)
