"""BYOL-Hindsight: PPO driven by what a world model can't reconstruct even in hindsight (Jarrett et al., arXiv:2211.10515).

A generator sees the outcome of a transition and puts into a code z what couldn't be foreseen; a critic keeps z independent
of the past; the error that is left is the reward (Algorithms 1 and 2). The arms are flags: --arm hindsight, hindsight_rec
(reward without the invariance term), hindsight_noinv (no invariance loss at all), byol_explore (no z; Guo et al., 2022,
arXiv:2206.08332), icm (Pathak et al., 2017, arXiv:1705.05363), rnd (Burda et al., 2018, arXiv:1810.12894), ppo (random
rewards). All arms share the policy, its memory and the pipeline of rewards.
"""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from explore_gym.agents import common

EPS = 1e-8
MAZE = "Explore/HindsightMaze-v0"  # where the signals are measured
NOOP, MIRRORED = 4, (0, 3, 2, 1, 4)  # its action that does nothing; its actions in the mirror
WARM, NUM = 8, 64  # steps before a held-out transition, and how many there are of each kind


@dataclass(kw_only=True)
class Args(common.Args):
    env: str = "Explore/HindsightMaze-v0"  # any registered id
    num_envs: int = 128
    total_timesteps: int = 1_000_000  # environment steps, rounded up to whole iterations
    arm: Literal["ppo", "rnd", "icm", "byol_explore", "hindsight", "hindsight_rec", "hindsight_noinv"] = "hindsight"
    ext_coef: float = 0.0  # weight of the environment's reward
    int_coef: float = 1.0  # weight of the arm's reward
    rec_coef: float = 1.0  # weight of the reconstruction error beside the invariance term: lambda
    horizon: int = 1  # steps that the open loop looks ahead: K
    hidden: int = 64  # width of every hidden layer
    embedding_dim: int = 16  # outputs of the encoder
    belief_dim: int = 64  # state of both GRUs
    code_dim: int = 32  # numbers in z
    noise_dim: int = 32  # Gaussian numbers that the generator draws
    num_negatives: int = 128  # codes that the critic compares, its own included
    critic_steps: int = 2  # ascents of the critic per descent of the model
    target_decay: float = 1.0  # of the target encoder, per descent; 1 freezes it, the paper has 0.99
    reward_decay: float = 0.99  # of the moments that rewards are normalised with, per rollout
    model_epochs: int = 2  # passes of the world model over one rollout
    model_minibatches: int = 8  # per epoch, each of whole lanes
    model_learning_rate: float = 3e-3
    critic_learning_rate: float = 3e-3
    model_momentum: float = 0.5  # of model and critic: with 0.9 they circle around each other, and z keeps telling the past
    policy_starts: int = 0  # steps of random play from which only the world model or the bonus learns
    num_steps: int = 32  # per env and rollout
    num_epochs: int = 4  # passes of the policy over one rollout
    num_minibatches: int = 4  # per epoch
    learning_rate: float = 1e-3
    gamma: float = 0.995
    gae_lambda: float = 0.95
    clip_coef: float = 0.2
    ent_coef: float = 0.003
    vf_coef: float = 0.5  # times the mean squared error
    max_grad_norm: float = 0.5
    norm_advantages: bool = True  # in each minibatch

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("horizon", "hidden", "embedding_dim", "belief_dim", "code_dim", "noise_dim", "critic_steps"):
            common.at_least(self, name, 1)
        for name in ("model_epochs", "model_minibatches", "num_steps", "num_epochs", "num_minibatches"):
            common.at_least(self, name, 1)
        common.at_least(self, "num_negatives", 2)
        common.at_least(self, "rec_coef", 0.0)
        common.at_least(self, "policy_starts", 0)
        for name in ("gamma", "gae_lambda", "target_decay", "reward_decay"):
            common.within(self, name, 0.0, 1.0)
        common.within(self, "model_momentum", 0.0, 0.999)
        common.within(self, "horizon", 1, self.num_steps)
        batch = self.num_envs * self.num_steps
        if batch % self.num_minibatches or batch // self.num_minibatches < 2:
            raise common.UsageError(
                f"num_minibatches must divide num_envs * num_steps = {batch} into parts of 2 or more, "
                f"got {self.num_minibatches}"
            )
        if self.num_envs % self.model_minibatches:
            raise common.UsageError(f"model_minibatches must divide num_envs = {self.num_envs}, got {self.model_minibatches}")
        if self.autoreset_mode == "NextStep":
            raise common.UsageError("autoreset_mode must be SameStep or Disabled: every step must be a transition to learn")

    @property
    def invariant(self) -> bool:
        """Whether a critic keeps z independent of the past."""
        return self.arm in ("hindsight", "hindsight_rec")


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


def net(num_inputs, hidden, num_outputs):
    """One hidden layer of ReLU, for everything but the policy."""
    return nn.Sequential(layer(nn.Linear(num_inputs, hidden)), nn.ReLU(), layer(nn.Linear(hidden, num_outputs), 1.0))


class Predictor(nn.Module):
    """Generator p(z | past, w) and reconstructor of w from the foreseen state and z; without z the predictor of BYOL-Explore.

    state (batch, state_dim) knows the action, past (batch, past_dim) is what came before the outcome, w (batch, dim) the
    outcome, of length 1 -> prediction (batch, dim), of length 1, and z in (-1, 1) (batch, code_dim) or None.
    """

    def __init__(self, state_dim, past_dim, dim, args):
        super().__init__()
        self.noise_dim = args.noise_dim
        self.generator = None
        if args.arm.startswith("hindsight"):
            self.generator = net(args.noise_dim + past_dim + dim, args.hidden, args.code_dim)
            state_dim += args.code_dim
        self.reconstructor = net(state_dim, args.hidden, dim)

    def forward(self, state, past, w):
        if self.generator is None:
            return F.normalize(self.reconstructor(state), dim=-1), None
        noise = torch.randn(len(w), self.noise_dim, device=w.device)
        w = w * w.shape[1] ** 0.5  # as large as the other inputs
        z = self.generator(torch.cat([noise, past, w], 1)).tanh()  # bounded: it can't outrun the critic
        return F.normalize(self.reconstructor(torch.cat([state, z], 1)), dim=-1), z


class Critic(nn.Module):
    """Scores 5 tanh(g) of every pair in a group: past (groups, m, past_dim), z (groups, n, code_dim) -> (groups, m, n).

    The same number added to a row of g changes nothing in `invariance` but ends tanh's slope: rows are centred.
    """

    def __init__(self, past_dim, args):
        super().__init__()
        self.past = mlp(past_dim, args.hidden, args.hidden, 1.0)  # of tanh: units of ReLU die in a game like this
        self.code = mlp(args.code_dim, args.hidden, args.hidden, 1.0)

    def forward(self, past, z):
        scores = self.past(past) @ self.code(z).mT / math.sqrt(self.past[-1].out_features)
        return 5 * (scores - scores.mean(2, keepdim=True)).tanh()


def reconstruction_error(prediction, w):
    """Squared distance of two vectors of length 1, in [0, 4]."""
    return (prediction - w).square().sum(-1)


def invariance(scores):
    """log of exp(own score) / mean of exp(scores with all codes of the group): (groups, n, n) -> (groups, n).

    Its mean is a lower bound of the information between past and z, tight for the best critic.
    """
    return scores.diagonal(dim1=1, dim2=2) - scores.logsumexp(2) + math.log(scores.shape[2])


class WorldModel(nn.Module):
    """Encoder, its slow copy, closed loop GRU (memory), open loop GRU (look-ahead) and predictor."""

    def __init__(self, dim, num_actions, args):
        super().__init__()
        self.encoder = net(dim, args.hidden, args.embedding_dim)
        self.target = copy.deepcopy(self.encoder).requires_grad_(False)
        self.horizon = args.horizon
        self.closed = nn.GRU(args.embedding_dim + num_actions, args.belief_dim)
        self.open = nn.GRUCell(num_actions, args.belief_dim)
        self.predictor = Predictor(args.belief_dim, args.belief_dim + num_actions, args.embedding_dim, args)

    def learned(self):
        return [p for p in self.parameters() if p.requires_grad]

    def track(self, decay):
        """Moves the target encoder towards the encoder."""
        torch._foreach_lerp_(list(self.target.parameters()), [p.detach() for p in self.encoder.parameters()], 1 - decay)

    def outcome(self, x):
        """What a state is to be predicted as: features (..., dim) -> (..., embedding_dim), of length 1."""
        with torch.no_grad():
            return F.normalize(self.target(x), dim=-1)

    def believe(self, x, last_actions, belief, starts):
        """Runs the closed loop over x (steps, lanes, dim), clearing its state where an episode starts.

        last_actions (steps, lanes, num_actions) is one-hot, 0 at starts; starts bool (steps, lanes); belief (lanes,
        belief_dim) is the state before -> beliefs (steps, lanes, belief_dim).
        """
        inputs = torch.cat([self.encoder(x), last_actions], 2)
        cuts = (starts[1:].any(1).nonzero().squeeze(1) + 1).tolist()
        beliefs = []
        for first, last in pairwise([0, *cuts, len(x)]):
            belief = belief * ~starts[first].unsqueeze(1)
            beliefs.append(self.closed(inputs[first:last], belief.unsqueeze(0))[0])
            belief = beliefs[-1][-1]
        return torch.cat(beliefs)

    def windows(self, beliefs, actions, outcomes, done):
        """For k = 1..K, everything about the prediction k steps ahead from each step that lies k steps before the end.

        beliefs, one-hot actions, outcomes of these actions (steps, lanes, ...) and done (steps, lanes) -> per k
        reconstruction error, past, z (windows, ...), and the numbers of the windows that cross no end of an episode.
        """
        state, inside = beliefs, torch.ones_like(done)
        for k in range(self.horizon):
            count = len(done) - k
            past = torch.cat([state[:count], actions[k:]], 2).flatten(0, 1)
            state = self.open(actions[k:].flatten(0, 1), state[:count].flatten(0, 1))
            w = outcomes[k:].flatten(0, 1)
            prediction, z = self.predictor(state, past, w)
            yield reconstruction_error(prediction, w), past, z, inside.flatten().nonzero().squeeze(1)
            state = state.unflatten(0, (count, -1))
            inside = inside[: count - 1] & ~done[k : len(done) - 1]


class ICM(nn.Module):
    """Features in which the action can be told from two neighbouring states, and the model that predicts them."""

    FORWARD_SHARE = 0.2  # of the loss; the rest is the inverse model's

    def __init__(self, dim, num_actions, args):
        super().__init__()
        self.encoder = net(dim, args.hidden, args.embedding_dim)
        self.inverse = net(2 * args.embedding_dim, args.hidden, num_actions)
        self.forward_model = net(args.embedding_dim + num_actions, args.hidden, args.embedding_dim)

    def error(self, features, next_features, actions):
        """Half the squared error of the forward model (eq. 6), which trains no features; actions are one-hot."""
        prediction = self.forward_model(torch.cat([features.detach(), actions], -1))
        return (prediction - next_features.detach()).square().sum(-1) / 2

    def bonus(self, x, next_x, actions):
        return self.error(self.encoder(x), self.encoder(next_x), actions)

    def loss(self, x, next_x, actions):
        features, next_features = self.encoder(x), self.encoder(next_x)
        logits = self.inverse(torch.cat([features, next_features], -1))
        inverse_loss = F.cross_entropy(logits, actions.argmax(-1))
        return (1 - self.FORWARD_SHARE) * inverse_loss + self.FORWARD_SHARE * self.error(
            features, next_features, actions
        ).mean()


class RND(nn.Module):
    """A frozen random network of whitened states, and the predictor that learns it."""

    def __init__(self, dim, num_actions, args):
        super().__init__()
        self.target = net(dim, args.hidden, args.embedding_dim).requires_grad_(False)
        self.predictor = nn.Sequential(
            layer(nn.Linear(dim, args.hidden)), nn.ReLU(), *net(args.hidden, args.hidden, args.embedding_dim)
        )
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("var", torch.zeros(dim))
        self.register_buffer("count", torch.zeros(()))

    def watch(self, x):
        """Takes states (batch, dim) into the moments that whiten (Chan et al., 1983)."""
        mean, share = x.mean(0), len(x) / (self.count + len(x))
        var = (x - mean).square().mean(0)
        self.var += share * (var - self.var + (1 - share) * (mean - self.mean).square())
        self.mean += share * (mean - self.mean)
        self.count += len(x)

    def bonus(self, x, next_x, actions):
        whitened = ((next_x - self.mean) / (self.var.sqrt() + EPS)).clamp(-5, 5)
        return (self.predictor(whitened) - self.target(whitened)).square().mean(-1)

    def loss(self, x, next_x, actions):
        return self.bonus(x, next_x, actions).mean()


class RewardNormalizer(nn.Module):
    """Divides by a slow standard deviation, subtracts the slow mean and clips at 0: only what surprises above average pays."""

    def __init__(self, decay):
        super().__init__()
        self.decay = decay
        self.register_buffer("moments", torch.zeros(2, dtype=torch.float64))  # of x and x^2, before debiasing
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64))

    def forward(self, surprises):
        moments = torch.stack([surprises.mean(), surprises.square().mean()])
        self.moments.lerp_(moments.double(), 1 - self.decay)
        self.weight.lerp_(torch.ones_like(self.weight), 1 - self.decay)
        mean, square = (self.moments / self.weight).tolist()
        sigma = math.sqrt(max(square - mean**2, 0.0)) + EPS
        return ((surprises - mean) / sigma).clamp(min=0.0)


class Agent(nn.Module):
    """The world model, and the policy on the state's features and the belief about it.

    features (batch, dim), beliefs (batch, belief_dim) -> logits (batch, num_actions), values (batch,).
    """

    def __init__(self, envs, args):
        super().__init__()
        self.features = common.Features(envs.layout)
        self.world = WorldModel(self.features.dim, envs.num_actions, args)
        self.actor = mlp(self.features.dim + args.belief_dim, args.hidden, envs.num_actions, 0.01)
        self.critic = mlp(self.features.dim + args.belief_dim, args.hidden, 1, 1.0)
        self.memory_size = envs.num_actions, args.belief_dim
        self.acting = ()  # memory of `act`, in a tuple, or it would be part of the network

    def policy_parameters(self):
        return [*self.actor.parameters(), *self.critic.parameters()]

    def forward(self, features, beliefs):
        x = torch.cat([features, beliefs], 1)
        return self.actor(x), self.critic(x).squeeze(-1)

    def draw(self, features, beliefs):
        """Actions (batch,), drawn from the policy."""
        logits = self.actor(torch.cat([features, beliefs], 1))
        return (logits - torch.empty_like(logits).exponential_().log()).argmax(-1)  # Gumbel-max: a draw from softmax

    @torch.no_grad()
    def act(self, obs, starts=None):
        """Draws actions for a batch of observation rows, with the memory of the calls before.

        Memory is forgotten in the lanes where `starts` (batch,) says that an episode starts, and with a new batch size.
        """
        if not self.acting or len(self.acting[0].belief) != len(obs):
            self.acting = (Memory(len(obs), *self.memory_size).to(obs.device),)
        (memory,) = self.acting
        if starts is not None:
            memory.forget(starts)
        x = self.features(obs)
        belief = believe_one(self, memory, x)
        action = self.draw(x, belief)
        memory.see(belief, action)
        return action


class Memory(nn.Module):
    """What each lane brings along: belief and last action, one-hot; both 0 where an episode starts."""

    def __init__(self, num_envs, num_actions, belief_dim):
        super().__init__()
        self.register_buffer("belief", torch.zeros(num_envs, belief_dim))
        self.register_buffer("last_action", torch.zeros(num_envs, num_actions))

    def see(self, belief, action):
        self.belief, self.last_action = belief, F.one_hot(action, self.last_action.shape[1]).float()

    def forget(self, mask):
        """Sets the lanes where mask (num_envs,) to 0."""
        going_on = ~mask.unsqueeze(1)
        self.belief, self.last_action = self.belief * going_on, self.last_action * going_on


def believe_one(agent, memory, x):
    """Beliefs (lanes, belief_dim) about the states with features x (lanes, dim), without a step in memory."""
    never = torch.zeros(1, len(x), dtype=torch.bool, device=x.device)
    return agent.world.believe(x.unsqueeze(0), memory.last_action.unsqueeze(0), memory.belief, never)[0]


def make_buffer(envs, agent, args):
    """Rollout storage, (num_steps, num_envs, ...); features and beliefs have one row more."""
    shape, device = (args.num_steps, envs.num_envs), envs.device
    buffer = {key: torch.zeros(shape, dtype=torch.bool, device=device) for key in ("terminated", "truncated")}
    buffer["features"] = torch.zeros(args.num_steps + 1, envs.num_envs, agent.features.dim, device=device)
    buffer["beliefs"] = torch.zeros(args.num_steps + 1, envs.num_envs, args.belief_dim, device=device)
    buffer["last_actions"] = torch.zeros(*shape, envs.num_actions, device=device)
    buffer["actions"] = torch.zeros(shape, dtype=torch.long, device=device)
    buffer["rewards"] = torch.zeros(shape, device=device)
    buffer["trackers"] = torch.zeros(shape)  # reached in the maze so far in this episode
    return buffer


@torch.no_grad()
def rollout(agent, memory, envs, buffer):
    """Plays the buffer full; returns a dict of (num_steps, num_envs, ...) tensors with logprobs and values.

    Only beliefs and actions are computed on the way: logprobs and values follow in one batch, V(final_obs) of ended
    episodes too. starts tells where a belief began anew, start_belief what came before the first step.
    """
    final_obs = []
    start_belief = memory.belief
    for t in range(len(buffer["actions"])):
        x = agent.features(envs.obs)
        belief = believe_one(agent, memory, x)
        action = agent.draw(x, belief)
        buffer["last_actions"][t] = memory.last_action
        _, reward, terminated, truncated, info = envs.step(action)
        buffer["features"][t], buffer["beliefs"][t], buffer["actions"][t], buffer["rewards"][t] = x, belief, action, reward
        buffer["terminated"][t], buffer["truncated"][t] = terminated, truncated
        memory.see(belief, action)
        memory.forget(buffer["terminated"][t] | buffer["truncated"][t])
        final_obs.append(info["final_obs"])
        buffer["trackers"][t] = torch.as_tensor(info["reached"].get("trackers", 0))
    buffer["features"][-1] = agent.features(envs.obs)
    buffer["beliefs"][-1] = believe_one(agent, memory, buffer["features"][-1])
    b = {**buffer, "features": buffer["features"][:-1], "beliefs": buffer["beliefs"][:-1]}
    b["done"] = buffer["terminated"] | buffer["truncated"]
    b["starts"] = torch.cat([torch.zeros_like(b["done"][:1]), b["done"][:-1]])
    b["start_belief"] = start_belief
    b["one_hot"] = F.one_hot(b["actions"], envs.num_actions).float()
    logits, values = agent(buffer["features"].flatten(0, 1), buffer["beliefs"].flatten(0, 1))
    values = values.unflatten(0, (-1, envs.num_envs))
    logprobs = logits.log_softmax(-1).unflatten(0, (-1, envs.num_envs))[:-1]
    b["logprobs"] = logprobs.gather(-1, b["actions"].unsqueeze(-1)).squeeze(-1)
    b["values"], b["next_values"] = values[:-1], values[1:].clone()
    b["next_features"] = buffer["features"][1:].clone()
    if b["done"].any():  # the state reached, before any autoreset
        x, belief, action = agent.features(torch.cat(final_obs)), b["beliefs"][b["done"]], b["one_hot"][b["done"]]
        never = torch.zeros(1, len(x), dtype=torch.bool, device=x.device)
        belief = agent.world.believe(x.unsqueeze(0), action.unsqueeze(0), belief, never)[0]
        b["next_values"][b["done"]] = agent(x, belief)[1]
        b["next_features"][b["done"]] = x
    return b


def gae(rewards, values, next_values, terminated, done, gamma, gae_lambda):
    """Generalised advantage estimate (Schulman et al., 2016, eq. 16). All tensors (num_steps, num_envs)."""
    deltas = rewards + gamma * next_values * ~terminated - values
    decays = gamma * gae_lambda * ~done
    advantages, carry = torch.empty_like(deltas), torch.zeros_like(deltas[0])
    for t in reversed(range(len(deltas))):
        advantages[t] = carry = torch.addcmul(deltas[t], decays[t], carry)
    return advantages


def groups(windows, size):
    """Draws numbers of windows into random groups of `size`, (groups, size); some come twice if they don't divide."""
    count = -(-len(windows) // size) * size
    return windows[torch.randperm(count, device=windows.device) % len(windows)].view(-1, size)


@torch.no_grad()
def surprises(world, critic, b, args):
    """What the world model is paid for: for every step, the sum over all windows (p, k) that end with it (num_steps, num_envs).

    A window pays rec_coef * reconstruction error + invariance, the latter among codes of random other steps and lanes.
    Also returns the codes of the last group.
    """
    total, codes = torch.zeros_like(b["rewards"]), None
    outcomes = world.outcome(b["next_features"])
    for k, (error, past, z, inside) in enumerate(world.windows(b["beliefs"], b["one_hot"], outcomes, b["done"])):
        surprise = torch.zeros_like(error)
        surprise[inside] = args.rec_coef * error[inside]
        if args.arm == "hindsight":
            index = groups(inside, args.num_negatives)
            codes = z[index]
            inv = torch.zeros_like(error)
            inv[index] = invariance(critic(past[index], codes))
            surprise += inv
        total[k:] += surprise.unflatten(0, (-1, total.shape[1]))
    return total, None if codes is None else codes[-1]


def descend(optimizer, loss, max_grad_norm):
    """One step of the optimizer's parameters alone, whatever else the loss depends on."""
    parameters = optimizer.param_groups[0]["params"]
    for parameter, grad in zip(parameters, torch.autograd.grad(loss, parameters)):
        parameter.grad = grad
    nn.utils.clip_grad_norm_(parameters, max_grad_norm, foreach=True)
    optimizer.step()


def alternate(critic, critic_optimizer, past, z, args):
    """Lets the critic ascend on detached inputs, then returns the invariance term for the model to descend on.

    past (groups, n, past_dim), z (groups, n, code_dim) -> (groups, n).
    """
    for _ in range(args.critic_steps):
        bound = invariance(critic(past.detach(), z.detach())).mean()
        descend(critic_optimizer, -bound, args.max_grad_norm)
    return invariance(critic(past, z))


def learn_world(agent, critic, optimizer, critic_optimizer, b, args):
    """model_epochs passes over the rollout in minibatches of whole lanes; returns the last one's metrics."""
    world, metrics = agent.world, {}
    for _ in range(args.model_epochs):
        for lanes in torch.randperm(args.num_envs, device=b["rewards"].device).chunk(args.model_minibatches):
            m = {key: b[key][:, lanes] for key in ("features", "next_features", "last_actions", "one_hot", "starts", "done")}
            beliefs = world.believe(m["features"], m["last_actions"], b["start_belief"][lanes], m["starts"])
            losses = []
            for error, past, z, inside in world.windows(beliefs, m["one_hot"], world.outcome(m["next_features"]), m["done"]):
                losses.append(args.rec_coef * error[inside].mean())
                metrics["loss/rec"] = error[inside].mean()
                if args.invariant:
                    index = groups(inside, args.num_negatives)
                    inv = alternate(critic, critic_optimizer, past[index], z[index], args).mean()
                    losses.append(inv.clamp(min=0))  # information isn't negative: below 0 there is nothing to hide
                    metrics["loss/inv"] = inv
            descend(optimizer, sum(losses) / args.horizon, args.max_grad_norm)
            world.track(args.target_decay)
    return {key: x.detach() for key, x in metrics.items()}


def learn_bonus(bonus, optimizer, b, args):
    """The same passes for the networks of ICM and RND, in minibatches of random transitions."""
    batch = [b[key].flatten(0, 1) for key in ("features", "next_features", "one_hot")]
    for _ in range(args.model_epochs):
        for index in torch.randperm(len(batch[0]), device=batch[0].device).chunk(args.model_minibatches):
            loss = bonus.loss(*(x[index] for x in batch))
            descend(optimizer, loss, args.max_grad_norm)
    return {"loss/bonus": loss.detach()}


def ppo_loss(agent, m, args):
    """Clipped surrogate (eq. 7) + vf_coef * value error - ent_coef * entropy (eq. 9), and metrics; m is a minibatch."""
    logits, values = agent(m["features"], m["beliefs"])
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


def learn_policy(agent, optimizer, b, args):
    """num_epochs passes over the rollout in minibatches; returns the last minibatch's metrics."""
    keys = ("features", "beliefs", "actions", "logprobs", "advantages", "returns")
    batch = {key: b[key].flatten(0, 1) for key in keys}  # (num_steps * num_envs, ...)
    for _ in range(args.num_epochs):
        for index in torch.randperm(len(batch["actions"]), device=batch["actions"].device).chunk(args.num_minibatches):
            loss, metrics = ppo_loss(agent, {key: x.index_select(0, index) for key, x in batch.items()}, args)
            descend(optimizer, loss, args.max_grad_norm)
    return metrics


def held_out(agent, args, device):
    """Transitions of the maze that no training sees, the last ones of WARM steps: what an arm pays for them is what draws it.

    First NUM of pure noise: no-ops in the hub, the last one under a screen of noise (the environment's own, on demand
    where it has none). Then NUM novel ones: moves in the arms of the maze's mirror image, ending without noise if it can
    be. Returns features (WARM + 1, 2 NUM, dim) and one-hot actions (WARM, 2 NUM, num_actions).
    """
    kwargs = json.loads(args.env_kwargs)
    if kwargs.get("noise") not in ("pixel", "persistent"):
        kwargs["noise"] = "on_demand"
    lanes, rng = 32 * NUM, np.random.default_rng(0)
    envs = common.TorchVectorEnv(common.make_vec(args.env, lanes, kwargs, "Disabled"), device)
    noisy = torch.arange(lanes) < lanes // 2
    actions = torch.where(noisy, NOOP, torch.from_numpy(rng.integers(4, size=(WARM, lanes))))
    envs.reset(seed=0)
    free = np.argwhere(~envs.envs.unwrapped.env.walls)
    arms = free[abs(free - free.mean(0)).max(1) > 3]
    row, col = np.where(noisy, free.mean(0).astype(int)[:, None], arms[rng.integers(len(arms), size=lanes)].T)
    rows = [envs.rows(envs.envs.unwrapped.set_state(row=row, col=col))] + [envs.step(action)[0] for action in actions]
    x = agent.features(torch.stack(rows).flatten(0, 1)).unflatten(0, (WARM + 1, lanes))
    layers = x.unflatten(2, (5, 5, 5))  # the last one is the screen
    screen, moved = layers[-1, :, 4].any(2).any(1), (layers[-1, :, :4] != layers[-2, :, :4]).flatten(1).any(1)
    noise = (noisy & screen).nonzero().squeeze(1)[:NUM]
    novel = (~noisy & moved & (~screen | (kwargs["noise"] == "persistent"))).nonzero().squeeze(1)[:NUM]
    mirrored = layers[:, novel].flip(4).flatten(2)
    actions = torch.cat([actions[:, noise], torch.tensor(MIRRORED)[actions[:, novel]]], 1)
    return torch.cat([x[:, noise], mirrored], 1), F.one_hot(actions, envs.num_actions).float()


@torch.no_grad()
def signals(agent, critic, bonus, transitions, codes, args):
    """What the arm pays on average, before normalisation, for held-out noise and for novel places, and their ratio.

    codes (num_negatives, code_dim), from the last rollout, are what the codes of these transitions are compared with.
    """
    x, actions = transitions
    if bonus is not None:
        paid = bonus.bonus(x[-2], x[-1], actions[-1])
    else:
        last_actions = torch.cat([torch.zeros_like(actions[:1]), actions[:-1]])
        never = torch.zeros(last_actions.shape[:2], dtype=torch.bool, device=x.device)
        belief = agent.world.believe(x[:-1], last_actions, torch.zeros(x.shape[1], args.belief_dim, device=x.device), never)
        window = belief[-1:], actions[-1:], agent.world.outcome(x[-1:]), never[-1:]
        error, past, z, _ = next(agent.world.windows(*window))
        paid = args.rec_coef * error
        if args.arm == "hindsight":
            among = torch.cat([z.unsqueeze(1), codes[1:].expand(len(z), -1, -1)], 1)  # own code first
            scores = critic(past.unsqueeze(1), among)
            paid += scores[:, 0, 0] - scores[:, 0].logsumexp(1) + math.log(len(codes))
    noise, novel = paid.view(2, -1).mean(1).tolist()
    return {"signal/noise": noise, "signal/novel": novel, "signal/ratio": noise / novel}


def train(args):
    run = common.start(args, __file__)
    envs = run.make_envs(args.num_envs)
    agent = Agent(envs, args).to(run.device)
    world, memory = agent.world, Memory(args.num_envs, *agent.memory_size).to(run.device)
    critic = Critic(args.belief_dim + envs.num_actions, args).to(run.device)
    normalizer = RewardNormalizer(args.reward_decay).to(run.device)
    optimizer = torch.optim.Adam(agent.policy_parameters(), lr=args.learning_rate, eps=1e-5, fused=True)
    betas = args.model_momentum, 0.99
    model_optimizer = torch.optim.Adam(world.learned(), lr=args.model_learning_rate, betas=betas, fused=True)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=args.critic_learning_rate, betas=betas, fused=True)
    stateful = dict(model_optimizer=model_optimizer, critic=critic, critic_optimizer=critic_optimizer)
    bonus = None
    if args.arm in ("icm", "rnd"):
        bonus = (ICM if args.arm == "icm" else RND)(agent.features.dim, envs.num_actions, args).to(run.device)
        learned = [p for p in bonus.parameters() if p.requires_grad]
        bonus_optimizer = torch.optim.Adam(learned, lr=args.model_learning_rate, fused=True)
        stateful.update(bonus=bonus, bonus_optimizer=bonus_optimizer)
    buffer = make_buffer(envs, agent, args)
    in_maze = args.env == MAZE
    transitions = held_out(agent, args, run.device) if in_maze else None
    envs.reset(seed=run.env_seed)
    run.persist(agent=agent, memory=memory, normalizer=normalizer, optimizer=optimizer, envs=envs, **stateful)
    for step in run.steps(args.num_envs * args.num_steps):
        b = rollout(agent, memory, envs, buffer)
        codes = None
        if args.arm == "ppo":
            paid = torch.rand_like(b["rewards"])
        elif bonus is None:
            paid, codes = surprises(world, critic, b, args)
        else:
            if args.arm == "rnd":
                bonus.watch(b["next_features"].flatten(0, 1))
            with torch.no_grad():
                paid = bonus.bonus(b["features"], b["next_features"], b["one_hot"])
        metrics = {**envs.episode_metrics(), "paid": paid.mean()}
        if in_maze:
            metrics["noop"] = (b["actions"] == NOOP).float().mean()
            if b["done"].any():
                metrics["trackers"] = b["trackers"][b["done"].cpu()].mean()
            if args.arm != "ppo":
                metrics |= signals(agent, critic, bonus, transitions, codes, args)
        rewards = args.ext_coef * b["rewards"] + args.int_coef * normalizer(paid)
        b["advantages"] = gae(rewards, b["values"], b["next_values"], b["terminated"], b["done"], args.gamma, args.gae_lambda)
        b["returns"] = b["advantages"] + b["values"]
        if step > args.policy_starts:
            metrics |= learn_policy(agent, optimizer, b, args)
        metrics |= learn_world(agent, critic, model_optimizer, critic_optimizer, b, args)
        if bonus is not None:
            metrics |= learn_bonus(bonus, bonus_optimizer, b, args)
        run.log(step, metrics)
    if args.eval_episodes:
        played = run.make_envs(args.num_envs)
        policy = lambda obs: agent.act(obs, torch.from_numpy(played.episode_length == 0).to(run.device))
        run.summary.update(common.evaluate(policy, played, args.eval_episodes, run.eval_seed))
    run.close()
    return run


if __name__ == "__main__":
    common.main(train, Args)
