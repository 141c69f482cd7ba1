"""Global and episodic novelty bonuses in contextual MDPs (Henaff et al., 2023, arXiv:2306.03236), on a recurrent PPO.

The arms are flags: --arm none; from visit counts of a feature of the state reached (--feature) global (eq. 7), episodic
(eq. 8), product, sum; from networks e3b (Henaff et al., 2022, arXiv:2210.05805), rnd (Burda et al., 2018,
arXiv:1810.12894), noveld (Zhang et al., 2021), e3b_rnd and e3b_noveld (products), e3b_plus_rnd (a sum). The bonus,
divided by its running standard deviation and times --coef, is added to the reward, and the sum is clipped to [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import nn

from explore_gym.agents import common

Arm = Literal["none", "global", "episodic", "product", "sum", "e3b", "rnd", "noveld", "e3b_rnd", "e3b_noveld", "e3b_plus_rnd"]


@dataclass(kw_only=True)
class Args(common.Args):
    env: str = "Explore/LavaMultiRoom-v0"  # any registered id
    num_envs: int = 256
    total_timesteps: int = 2_000_000  # environment steps, rounded up to whole iterations
    arm: Arm = "product"  # where the bonus comes from
    feature: Literal["position", "message"] = "position"  # what is counted: info["cell"] or info["message"]
    coef: float = 0.005  # weight of the bonus beside the reward
    beta: float = 1.0  # weight of the second bonus in sum (the global one) and e3b_plus_rnd (RND's)
    norm_bonus: bool = True  # divide the bonus by its running standard deviation
    shared_counts: bool = True  # one global table for all lanes; the released code has one per process
    released_std: bool = False  # the released code's estimate of the bonus's standard deviation, too large by about sqrt(lanes)
    released_shift: bool = False  # E3B's bonus of the state left rather than of the state reached, as in the released code
    squared_norm: bool = False  # RND's error squared, as the paper writes it; the released code takes the norm
    ridge: float = 0.1  # E3B's lambda: the inverse covariance starts at I / ridge
    phi_dim: int = 64  # features of E3B; the released code has 1024
    noveld_scale: float = 0.1  # share of the old state's error that NovelD subtracts
    rnd_dim: int = 128  # outputs of RND's target and predictor
    aux_hidden: int = 128  # width of the networks of E3B and RND
    aux_learning_rate: float = 1e-4
    aux_max_grad_norm: float = 40.0
    num_steps: int = 32  # per env and rollout; gradients go back in time as far as this
    num_epochs: int = 4  # passes over one rollout; the networks of E3B and RND learn in the first
    num_minibatches: int = 4  # per epoch, of whole lanes
    learning_rate: float = 1e-3
    anneal_lr: bool = True  # the policy's, linearly to 0 at total_timesteps
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_coef: float = 0.2
    ent_coef: float = 0.01
    vf_coef: float = 0.5  # times the mean squared error
    max_grad_norm: float = 0.5
    norm_advantages: bool = True  # in each minibatch
    hidden: int = 64  # width of the encoder and of the policy's memory

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_steps", "num_epochs", "num_minibatches", "hidden", "phi_dim", "rnd_dim", "aux_hidden"):
            common.at_least(self, name, 1)
        for name in ("gamma", "gae_lambda", "noveld_scale"):
            common.within(self, name, 0.0, 1.0)
        for name in ("coef", "beta"):
            common.at_least(self, name, 0.0)
        if not self.ridge > 0:
            raise common.UsageError(f"ridge must be positive, got {self.ridge}")
        if self.num_envs % self.num_minibatches:
            raise common.UsageError(f"num_minibatches must divide num_envs = {self.num_envs}, got {self.num_minibatches}")
        if self.num_envs // self.num_minibatches * self.num_steps < 2:
            raise common.UsageError("a minibatch must hold at least 2 steps: raise num_envs or num_steps")
        if self.autoreset_mode == "NextStep":
            raise common.UsageError("autoreset_mode must be SameStep or Disabled: a reset isn't a step of the memory")

    @property
    def counts(self) -> bool:
        return self.arm in ("global", "episodic", "product", "sum")

    @property
    def has_e3b(self) -> bool:
        return self.arm.startswith("e3b")

    @property
    def has_rnd(self) -> bool:
        return self.arm in ("rnd", "noveld", "e3b_rnd", "e3b_noveld", "e3b_plus_rnd")


def layer(module, gain=2**0.5):
    """Orthogonal weights, zero biases."""
    nn.init.orthogonal_(module.weight, gain)
    nn.init.zeros_(module.bias)
    return module


def relu_net(*sizes):
    """Linear layers of these sizes with ReLU in between."""
    layers = [m for i, o in pairwise(sizes) for m in (layer(nn.Linear(i, o)), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


class Agent(nn.Module):
    """A policy and its value with a memory: a GRU, whose state is zero where an episode starts."""

    def __init__(self, envs, args):
        super().__init__()
        self.features = common.Features(envs.layout)
        self.encoder = nn.Sequential(layer(nn.Linear(self.features.dim, args.hidden)), nn.ReLU())
        self.cell = nn.GRUCell(args.hidden, args.hidden)
        for name, parameter in self.cell.named_parameters():
            nn.init.zeros_(parameter) if "bias" in name else nn.init.orthogonal_(parameter)
        self.actor = layer(nn.Linear(args.hidden, envs.num_actions), 0.01)
        self.critic = layer(nn.Linear(args.hidden, 1), 1.0)
        self.hidden = args.hidden
        self.memory = None  # of `act`

    def forward(self, features, memory, starts):
        """features (num_steps, batch, dim), memory before the first step (batch, hidden), starts (num_steps, batch).

        Returns logits (num_steps, batch, num_actions), values (num_steps, batch), and memory after each step
        (num_steps, batch, hidden).
        """
        inputs = self.encoder(features).unbind()
        memories = []
        for x, keep in zip(inputs, (~starts).unsqueeze(-1).unbind()):
            memory = self.cell(x, memory * keep)
            memories.append(memory)
        memories = torch.stack(memories)
        return self.actor(memories), self.critic(memories).squeeze(-1), memories

    def step(self, obs, memory, starts, noise):
        """One step of acting: features, action drawn with `gumbel` noise, logits, value, new memory, each (batch, ...)."""
        features = self.features(obs)
        logits, values, memories = self(features.unsqueeze(0), memory, starts.unsqueeze(0))
        return features, (logits[0] + noise).argmax(-1), logits[0], values[0], memories[0]

    @torch.no_grad()
    def act(self, obs, starts=None):
        """Draws actions for a batch of observation rows, with the memory of the calls before.

        Memory is forgotten in the lanes where `starts` (batch,) says that an episode starts, and with a new batch size.
        """
        if self.memory is None or len(self.memory) != len(obs):
            self.memory = torch.zeros(len(obs), self.hidden, device=obs.device)
        if starts is None:
            starts = torch.zeros(len(obs), dtype=torch.bool, device=obs.device)
        noise = gumbel((len(obs), self.actor.out_features), obs.device)
        _, action, _, _, self.memory = self.step(obs, self.memory, starts, noise)
        return action


def gumbel(shape, device):
    """Draws of the standard Gumbel distribution."""
    return torch.empty(shape, device=device).exponential_().log_().neg_()


class Lanes(nn.Module):
    """What each lane takes along from one rollout to the next: the policy's memory, and whether an episode starts."""

    def __init__(self, num_envs, hidden):
        super().__init__()
        self.register_buffer("memory", torch.zeros(num_envs, hidden))
        self.register_buffer("starts", torch.ones(num_envs, dtype=torch.bool))


class Counts:
    """Visits of features: by all lanes or, unless shared, by each; and those that are a lane's first in its episode.

    Feature ids below TABLE_SIZE have an entry each; larger ones are hashed into the table.
    """

    TABLE_SIZE = 2**16

    def __init__(self, num_envs, shared):
        self.lanes = np.arange(num_envs)
        self.tables = np.zeros_like(self.lanes) if shared else self.lanes  # of each lane
        self.visits = np.zeros((self.tables[-1] + 1, 64), np.int64)  # N
        self.last_episode = np.zeros((num_envs, 64), np.int64)  # that reached a feature, so that nothing is cleared at its end
        self.episode = np.ones(num_envs, np.int64)

    def add(self, ids, done):
        """Counts the feature ids of the states reached, in order of time; all arrays (num_steps, num_envs).

        Returns N after each step (int64; lanes that reach the same feature at once have the same N) and whether this was
        the first visit in the episode.
        """
        keys = np.where(ids < self.TABLE_SIZE, ids, ids * 0x9E3779B1 % self.TABLE_SIZE)
        while keys.max() >= self.visits.shape[1]:
            self.visits, self.last_episode = (np.pad(x, ((0, 0), (0, x.shape[1]))) for x in (self.visits, self.last_episode))
        numbers, first = np.empty(keys.shape, np.int64), np.empty(keys.shape, bool)
        for t, key in enumerate(keys):
            np.add.at(self.visits, (self.tables, key), 1)
            numbers[t] = self.visits[self.tables, key]
            first[t] = self.last_episode[self.lanes, key] != self.episode
            self.last_episode[self.lanes, key] = self.episode
            self.episode += done[t]
        return numbers, first

    def state_dict(self):
        return {name: torch.from_numpy(getattr(self, name).copy()) for name in ("visits", "last_episode", "episode")}

    def load_state_dict(self, state):
        for name in ("visits", "last_episode", "episode"):
            setattr(self, name, state[name].numpy().copy())


class InverseDynamics(nn.Module):
    """Features phi of a state, learnt by telling the action from the states before and after it."""

    def __init__(self, dim, num_actions, args):
        super().__init__()
        self.phi = relu_net(dim, args.aux_hidden, args.phi_dim)
        self.head = relu_net(2 * args.phi_dim, args.aux_hidden, num_actions)

    def loss(self, features, actions, done):
        """features (num_steps + 1, batch, dim); a step that ends an episode has no successor among them."""
        phi = self.phi(features)
        logits = self.head(torch.cat([phi[:-1], phi[1:]], -1))
        errors = nn.functional.cross_entropy(logits.flatten(0, 1), actions.flatten(), reduction="none")
        return (errors * ~done.flatten()).sum() / (~done).sum().clamp(min=1)


class Ellipses(nn.Module):
    """E3B's memory of an episode: the inverse of C = ridge I + sum of phi phi^T in each lane."""

    def __init__(self, num_envs, args, masked=False):
        super().__init__()
        self.masked = masked  # all lanes are computed and some kept, so that nothing waits for a GPU
        self.register_buffer("start", torch.eye(args.phi_dim) / args.ridge, persistent=False)
        self.register_buffer("inverses", self.start.repeat(num_envs, 1, 1))

    def clear(self, lanes):
        self.inverses[lanes] = self.start

    def begin(self, starts, phi=None):
        """`clear` the lanes in starts, bool (num_envs,), and `add` phi (num_envs, d) to them if given."""
        before, starts = self.inverses.clone(), starts.view(-1, 1, 1)
        self.inverses.copy_(self.start)
        if phi is not None:
            self.add(phi)
        self.inverses.copy_(torch.where(starts, self.inverses, before))

    def add(self, phi, lanes=slice(None)):
        """Takes phi (batch, d) of these lanes in and returns phi^T C^-1 phi of before, (batch,)."""
        inverses = self.inverses[lanes]
        u = torch.bmm(inverses, phi.unsqueeze(-1))
        bonus = (phi * u.squeeze(-1)).sum(-1)
        scaled = u / (1 + bonus).view(-1, 1, 1)
        self.inverses[lanes] = inverses.baddbmm_(u, scaled.mT, alpha=-1)  # Sherman and Morrison, 1950
        return bonus


class RND(nn.Module):
    """The error of a predictor that learns a frozen random network; both see a frozen random encoding of the state."""

    def __init__(self, dim, args):
        super().__init__()
        width, outputs = args.aux_hidden, args.rnd_dim
        self.target = nn.Sequential(relu_net(dim, width), nn.ReLU(), relu_net(width, *[outputs] * 4)).requires_grad_(False)
        self.predictor = relu_net(width, width, width, *[outputs] * 3)
        self.squared = args.squared_norm

    def forward(self, features):
        """features (..., dim) -> error (...)."""
        encoding = self.target[:2](features)
        error = self.predictor(encoding) - self.target[2](encoding)
        return error.square().sum(-1) if self.squared else error.norm(dim=-1)


class RunningStd(nn.Module):
    """Standard deviation of everything seen so far, merged batch by batch (Chan et al., 1983).

    The released code divides a batch's sums by its number of steps alone, without the lanes; `released` does so, too.
    """

    def __init__(self, released=False):
        super().__init__()
        self.released = released
        for name in ("mean", "spread", "count"):  # spread: sum of squared distances to the mean
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    def update(self, x):
        """x (num_steps, num_envs)."""
        x = x.double()
        count = len(x) if self.released else x.numel()
        mean = x.sum() / count
        total = self.count + count
        delta = mean - self.mean
        self.spread += (x - mean).square().sum() + delta**2 * self.count * count / total
        self.mean += delta * count / total
        self.count.copy_(total)

    @property
    def std(self):
        return (self.spread / self.count).sqrt().float()


def make_buffer(envs, agent, num_steps):
    """Rollout storage, (num_steps, num_envs, ...); features, memory and starts have one row more."""
    shape, more, device = (num_steps, envs.num_envs), (num_steps + 1, envs.num_envs), envs.device
    buffer = {key: torch.zeros(shape, dtype=torch.bool, device=device) for key in ("terminated", "truncated")}
    buffer["actions"] = torch.zeros(shape, dtype=torch.long, device=device)
    buffer["rewards"] = torch.zeros(shape, device=device)
    buffer["logits"] = torch.zeros((*shape, envs.num_actions), device=device)
    buffer["values"] = torch.zeros(more, device=device)
    buffer["features"] = torch.zeros((*more, agent.features.dim), device=device)
    buffer["memory"] = torch.zeros((*more, agent.hidden), device=device)
    buffer["starts"] = torch.zeros(more, dtype=torch.bool, device=device)
    buffer["ids"] = torch.zeros(shape, dtype=torch.long)
    return buffer


@torch.no_grad()
def rollout(agent, act, envs, lanes, buffer, args):
    """Plays the buffer full; returns a dict of (num_steps, num_envs, ...) tensors.

    Of features, memory and starts row t belongs to the state before step t, memory without having seen it; they have one
    row more. next_features are those of the state reached, before any autoreset.
    """
    final_obs = []
    rows = {key: x.unbind() for key, x in buffer.items()}  # views of each step
    noise = gumbel((len(rows["actions"]) + 1, envs.num_envs, envs.num_actions), envs.device)
    rows["memory"][0].copy_(lanes.memory)
    rows["starts"][0].copy_(lanes.starts)
    for t, action in enumerate(rows["actions"]):
        features, chosen, logits, values, memory = act(envs.obs, rows["memory"][t], rows["starts"][t], noise[t])
        action.copy_(chosen)
        _, reward, terminated, truncated, info = envs.step(action)
        rows["features"][t].copy_(features)
        rows["logits"][t].copy_(logits)
        rows["values"][t].copy_(values)
        rows["memory"][t + 1].copy_(memory)
        rows["rewards"][t].copy_(reward)
        rows["terminated"][t].copy_(terminated)
        rows["truncated"][t].copy_(truncated)
        rows["starts"][t + 1].copy_(terminated | truncated)
        if args.counts:
            rows["ids"][t].copy_(feature_ids(info["reached"], args))
        final_obs.append(info["final_obs"])
    lanes.memory.copy_(rows["memory"][-1])
    lanes.starts.copy_(rows["starts"][-1])
    features, _, _, values, _ = act(envs.obs, lanes.memory, lanes.starts, noise[-1])
    rows["features"][-1].copy_(features)
    rows["values"][-1].copy_(values)

    b = {**buffer, "done": buffer["starts"][1:], "values": buffer["values"][:-1], "next_values": buffer["values"][1:].clone()}
    b["logprobs"] = buffer["logits"].log_softmax(-1).gather(-1, buffer["actions"].unsqueeze(-1)).squeeze(-1)
    final = agent.features(torch.cat(final_obs)).unsqueeze(0)  # the state reached, before any autoreset
    memory = buffer["memory"][1:].flatten(0, 1) if envs.dense else buffer["memory"][1:][b["done"]]
    final_values = agent(final, memory, torch.zeros_like(final[..., 0], dtype=torch.bool))[1][0]
    if envs.dense:
        b["next_values"] = torch.where(b["done"], final_values.view_as(b["done"]), b["next_values"])
        b["next_features"] = final[0].unflatten(0, b["done"].shape)
        return b
    b["next_values"][b["done"]] = final_values
    if args.has_e3b or args.has_rnd:
        b["next_features"] = buffer["features"][1:].clone()
        b["next_features"][b["done"]] = final[0]
    return b


def feature_ids(info, args):
    """What is counted of the states reached, int64 (num_envs,)."""
    key = {"position": "cell", "message": "message"}[args.feature]
    if key not in info:
        raise common.UsageError(f"--feature {args.feature} needs an environment that reports info[{key!r}], {args.env} doesn't")
    return torch.as_tensor(info[key])


@torch.no_grad()
def intrinsic_rewards(b, counts, inverse, ellipses, rnd, args):
    """The arm's bonus of every step, (num_steps, num_envs)."""
    if args.arm == "none":
        return torch.zeros_like(b["rewards"])
    if args.counts:
        numbers, first = counts.add(b["ids"].numpy(), b["done"].cpu().numpy())
        scarcity, first = (torch.from_numpy(x).to(b["rewards"]) for x in (numbers**-0.5, first))
        if args.arm == "global":
            return scarcity
        if args.arm == "episodic":
            return first
        return first * scarcity if args.arm == "product" else first + args.beta * scarcity
    if args.has_e3b:
        elliptical = elliptical_bonuses(inverse, ellipses, b, args)
        if args.arm == "e3b":
            return elliptical
    error = rnd(b["next_features"])
    if args.arm == "e3b_plus_rnd":
        return elliptical + args.beta * error
    if args.arm in ("noveld", "e3b_noveld"):
        error = (error - args.noveld_scale * rnd(b["features"][:-1])).clamp(min=0)
    return elliptical * error if args.has_e3b else error


def elliptical_bonuses(inverse, ellipses, b, args):
    """E3B's bonus phi^T C^-1 phi of the state that each step reaches, with the phi of acting time, (num_steps, num_envs).

    C holds the states of the episode before; its first state is taken in, but nobody is paid for it. With
    args.released_shift a step is paid for the state that it leaves, and so nothing for an episode's first.
    """
    starts, bonuses = b["starts"][:-1], torch.empty_like(b["rewards"])
    phi = inverse.phi(b["features"][:-1] if args.released_shift else b["next_features"])
    for t in range(len(phi)):
        if ellipses.masked:
            ellipses.begin(starts[t], None if args.released_shift else inverse.phi(b["features"][t]))
        elif len(lanes := starts[t].nonzero().squeeze(1)):
            ellipses.clear(lanes)
            if not args.released_shift:
                ellipses.add(inverse.phi(b["features"][t, lanes]), lanes)
        bonuses[t] = ellipses.add(phi[t])
    return bonuses * ~starts if args.released_shift else bonuses


def mixed_rewards(rewards, bonuses, stats, args):
    """clip(r + coef * b / running std of b, -1, 1), all (num_steps, num_envs)."""
    if args.arm != "none" and args.norm_bonus:
        stats.update(bonuses)
        bonuses = bonuses / (stats.std + 1e-8)
    return (rewards + args.coef * bonuses).clamp(-1, 1)


def gae(rewards, values, next_values, terminated, done, gamma, gae_lambda):
    """Generalised advantage estimate (Schulman et al., 2016, eq. 16). All tensors (num_steps, num_envs)."""
    deltas = rewards + gamma * next_values * ~terminated - values
    decays = gamma * gae_lambda * ~done
    advantages, carry = torch.empty_like(deltas), torch.zeros_like(deltas[0])
    for t in reversed(range(len(deltas))):
        advantages[t] = carry = torch.addcmul(deltas[t], decays[t], carry)
    return advantages


def ppo_loss(agent, m, args):
    """Clipped surrogate (eq. 7) + vf_coef * value error - ent_coef * entropy (eq. 9), and metrics.

    m is a minibatch of whole lanes, (num_steps, batch, ...), with the memory before its first step.
    """
    logits, values, _ = agent(m["features"][:-1], m["memory"], m["starts"][:-1])
    all_logprobs = logits.log_softmax(-1)
    log_ratio = all_logprobs.gather(-1, m["actions"].unsqueeze(-1)).squeeze(-1) - m["logprobs"]
    ratio = log_ratio.exp()
    advantages = m["advantages"]
    if args.norm_advantages:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    clipped = ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
    policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
    value_loss = (values - m["returns"]).square().mean()
    entropy = -(all_logprobs.exp() * all_logprobs).sum(-1).mean()
    loss = policy_loss + args.vf_coef * value_loss - args.ent_coef * entropy
    metrics = {"loss/policy": policy_loss, "loss/value": value_loss, "entropy": entropy}
    metrics["approx_kl"] = (ratio - 1 - log_ratio).mean()
    return loss, {key: x.detach() for key, x in metrics.items()}


def descend(loss, module, optimizer, max_grad_norm):
    """A step of Adam against the gradient of the loss, which is at most max_grad_norm long."""
    grad = torch.cat([x.flatten() for x in torch.autograd.grad(loss, list(module.parameters()))])
    optimizer.step(grad * (max_grad_norm / (grad.norm() + 1e-6)).clamp(max=1.0))


def update(agent, inverse, rnd, optimizers, b, args):
    """num_epochs passes over the rollout in minibatches of lanes; E3B's and RND's networks learn in the first.

    Returns the last minibatch's metrics.
    """
    keys = ("features", "starts", "actions", "logprobs", "advantages", "returns", "done")
    aux_metrics = {}
    for epoch in range(args.num_epochs):
        for lanes in common.permutation(args.num_envs, b["rewards"].device).chunk(args.num_minibatches):
            m = {key: b[key].index_select(1, lanes) for key in keys}
            m["memory"] = b["memory"][0].index_select(0, lanes)
            loss, metrics = ppo_loss(agent, m, args)
            descend(loss, agent, optimizers["agent"], args.max_grad_norm)
            if epoch == 0 and args.has_e3b:
                loss = inverse.loss(m["features"], m["actions"], m["done"])
                aux_metrics["loss/inverse"] = loss.detach()
                descend(loss, inverse, optimizers["inverse"], args.aux_max_grad_norm)
            if epoch == 0 and args.has_rnd:
                loss = rnd(m["features"][1:]).mean()
                aux_metrics["loss/rnd"] = loss.detach()
                descend(loss, rnd.predictor, optimizers["rnd"], args.aux_max_grad_norm)
    return {**metrics, **aux_metrics}


def train(args):
    run = common.start(args, __file__)
    envs = run.make_envs(args.num_envs, on_device=not args.counts)  # counts are the host's
    agent = Agent(envs, args).to(run.device)
    lanes = Lanes(args.num_envs, args.hidden).to(run.device)
    stats = RunningStd(args.released_std).to(run.device)
    stateful = {"agent": agent, "lanes": lanes, "stats": stats, "envs": envs}
    optimizers = {"agent": common.Adam(agent, args.learning_rate, eps=1e-5)}
    counts, inverse, ellipses, rnd = None, None, None, None
    if args.counts:
        stateful["counts"] = counts = Counts(args.num_envs, args.shared_counts)
    if args.has_e3b:
        stateful["inverse"] = inverse = InverseDynamics(agent.features.dim, envs.num_actions, args).to(run.device)
        stateful["ellipses"] = ellipses = Ellipses(args.num_envs, args, envs.dense).to(run.device)
        optimizers["inverse"] = common.Adam(inverse, args.aux_learning_rate)
    if args.has_rnd:
        stateful["rnd"] = rnd = RND(agent.features.dim, args).to(run.device)
        optimizers["rnd"] = common.Adam(rnd.predictor, args.aux_learning_rate)
    act = torch.no_grad()(common.compiled(agent.step, agent)) if args.compile else agent.step
    buffer = make_buffer(envs, agent, args.num_steps)
    envs.reset(seed=run.env_seed)
    run.persist(**stateful, **{f"{name}_optimizer": x for name, x in optimizers.items()})

    def iterate():
        b = rollout(agent, act, envs, lanes, buffer, args)
        bonuses = intrinsic_rewards(b, counts, inverse, ellipses, rnd, args)
        rewards = mixed_rewards(b["rewards"], bonuses, stats, args)
        b["advantages"] = gae(rewards, b["values"], b["next_values"], b["terminated"], b["done"], args.gamma, args.gae_lambda)
        b["returns"] = b["advantages"] + b["values"]
        metrics = update(agent, inverse, rnd, optimizers, b, args)
        return {**metrics, "bonus": bonuses.mean(), "reward": rewards.mean()}

    if envs.dense:  # nothing waits for the device: a GPU replays the iteration as one graph
        iterate = common.captured(iterate, run.device)
    for step in run.steps(args.num_envs * args.num_steps):
        if args.anneal_lr:
            progress = (step - args.num_envs * args.num_steps) / args.total_timesteps
            optimizers["agent"].learning_rate.fill_(args.learning_rate * (1 - progress))
        metrics = iterate()
        metrics = {"episodes": int(envs.num_episodes), **envs.episode_metrics(), **metrics}
        run.log(step, metrics)
    if args.eval_episodes:
        played = run.make_envs(args.num_envs)
        policy = lambda obs: agent.act(obs, torch.from_numpy(played.episode_length == 0).to(run.device))
        run.summary.update(common.evaluate(policy, played, args.eval_episodes, run.eval_seed))
    run.close()
    return run


if __name__ == "__main__":
    common.main(train, Args)
