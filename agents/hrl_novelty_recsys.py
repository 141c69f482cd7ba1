"""Hierarchical RL on two levels of novelty-seeking intent (Li et al., 2023, arXiv:2306.01476), for recommenders.

The paper's abstract names the parts, its method section could not be confirmed: the equations are this project's definition.

- static level: x_k = GRU_long(x_{k-1}, summary of session k-1), updated where a session starts; a head z(x_k) predicts which
  share of the novelty shown was accepted over all of the user's history.
- manager: every `period` slates, and where a session starts, the goal g in [0, 1] = mu(x_k, s_t, z, p) + noise, by TD3
  (Fujimoto et al., 2018, arXiv:1802.09477) on transitions of up to `period` slates, relabelled as in HIRO (Nachum et al.,
  2018, arXiv:1805.08296).
- worker: s_t = GRU_short(session so far); softmax over the items i on offer of <q, e_i> + taste of their topic + popularity +
  (w(s, x, g) + w_n (g - 1/2)) nov(i), by advantage actor-critic; a head p(s_t, x_k) predicts the accepted novelty.

Arms: hrl; no_static (x_k = 0); no_manager (g = --goal); flat (one GRU over all of the user's history, without goal and intent
heads, same reward); accuracy (flat, reward for clicks alone). Scripted yardsticks: constant (novelty --goal), oracle (sees
the mood), oracle_taste (affinities, too), halfway (every other user has the oracle, the rest constant novelty).
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from explore_gym.agents import common
from explore_gym.envs.recommender import policies
from explore_gym.envs.recommender.novelty_rec import SATURATION, NoveltyRec

Arm = Literal["hrl", "no_static", "no_manager", "flat", "accuracy", "constant", "halfway", "oracle", "oracle_taste"]
SCRIPTED = ("constant", "halfway", "oracle", "oracle_taste")
CLICK, NOVELTY, STEP, SESSION, DAY, GAP, FIRST = range(7)  # the observation's scalars
TOPIC_FEATURES = 8
SUMMARY = 7  # numbers that are kept of a session
PROBED = 500  # users of an evaluation whose memories are probed


@dataclass(kw_only=True)
class Args(common.Args):
    env: str = "Explore/NoveltyRec-Topics-v0"  # a NoveltyRec that shows one item at a time
    num_envs: int = 128
    total_timesteps: int = 1_000_000  # slates, rounded up to whole iterations
    arm: Arm = "hrl"  # the last four are scripted
    goal: float = 0.5  # no_manager: the constant g; constant and halfway: the novelty of the scripted recommender
    period: int = 4  # slates between the manager's decisions
    alpha: float = 0.5  # reward for accepted novelty
    beta: float = 0.1  # reward for diversity: mean 1 - cosine to what the session has shown
    kappa: float = 0.1  # reward where the session goes on
    lambda_goal: float = 0.1  # worker's cost of the squared distance between novelty and goal
    intent_coef: float = 0.1  # weight of the intent heads' losses
    gamma: float = 0.95  # worker's and flat agent's discount
    cut_sessions: bool = True  # the worker's and the flat agent's returns end with the session
    manager_gamma: float = 0.99  # per slate, across sessions
    num_steps: int = 16  # per env and rollout; gradients go back as far in a session, and to the user's first session
    hidden: int = 64  # width of both memories and all hidden layers
    learning_rate: float = 2e-3
    anneal_lr: bool = True  # linearly to 0 at total_timesteps
    gae_lambda: float = 0.95
    ent_coef: float = 0.01
    vf_coef: float = 0.5  # times the mean squared error
    max_grad_norm: float = 0.5
    manager_lr: float = 3e-4
    manager_updates: int = 2  # minibatches per rollout; the actor learns from every second one
    manager_batch: int = 128
    manager_noise: float = 0.1  # standard deviation, in training
    manager_tau: float = 0.01  # share of the networks that each update mixes into the delayed ones
    replay_size: int = 4096  # newest transitions of the manager: few, because worker and memories change
    relabel: bool = True  # replace old goals by those that make the worker's actions most likely
    relabel_samples: int = 10  # around the novelty that was shown, beside the original goal
    eval_episodes: int = 2000  # users who are not in training, one episode each, without the manager's noise
    eval_interval: int = 0  # slates between evaluations; 0: at the end alone

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("period", "hidden", "manager_batch", "replay_size", "relabel_samples", "eval_episodes"):
            common.at_least(self, name, 1)
        for name in ("manager_updates", "eval_interval", "manager_noise", "lambda_goal", "intent_coef"):
            common.at_least(self, name, 0)
        for name in ("goal", "gamma", "manager_gamma", "gae_lambda", "manager_tau"):
            common.within(self, name, 0.0, 1.0)
        if self.num_steps <= self.period:
            raise common.UsageError(f"num_steps must be above period = {self.period}, got {self.num_steps}")
        if self.autoreset_mode == "NextStep":
            raise common.UsageError("autoreset_mode must be SameStep or Disabled: a reset isn't a slate")

    @property
    def flat(self) -> bool:
        return self.arm in ("flat", "accuracy")

    @property
    def managed(self) -> bool:
        return self.arm in ("hrl", "no_static")


def layer(module, gain=2**0.5):
    """Orthogonal weights, zero biases."""
    nn.init.orthogonal_(module.weight, gain)
    nn.init.zeros_(module.bias)
    return module


def gru(num_inputs, hidden):
    """A cell with orthogonal weights and zero biases."""
    cell = nn.GRUCell(num_inputs, hidden)
    for name, parameter in cell.named_parameters():
        nn.init.zeros_(parameter) if "bias" in name else nn.init.orthogonal_(parameter)
    return cell


def mlp(num_inputs, hidden, num_outputs, gain):
    return nn.Sequential(layer(nn.Linear(num_inputs, hidden)), nn.ReLU(), layer(nn.Linear(hidden, num_outputs), gain))


def recommender(envs):
    """The environment's model.

    Raises:
        UsageError: it isn't a NoveltyRec that shows one item at a time, hides what it knows, and ends by itself.
    """
    model = getattr(envs.worlds, "env", None)
    if not isinstance(model, NoveltyRec) or model.params["reveal"].any():
        raise common.UsageError(f"env must be NoveltyRec with slate=1 and reveal=[], got {envs.envs.spec}")
    if model.time_limit is not None:
        raise common.UsageError(f"max_episode_steps must be None: users leave by themselves, got {model.time_limit}")
    return model


class Agent(nn.Module):
    """Both levels' memories and heads, the manager, and the worker, for rows of observations (batch, obs_dim)."""

    def __init__(self, envs, args):
        super().__init__()
        model, self.args, hidden = recommender(envs), args, args.hidden
        catalogue, self.parts = model.catalogue, model.parts
        self.max_sessions = model.state_dtype["visits"].shape[0]
        topics = len(catalogue.topic_names)
        columns = (catalogue.embeddings, np.eye(topics)[catalogue.topic], catalogue.scores()[:, None])
        self.register_buffer("items", torch.tensor(np.concatenate(columns, 1)).float(), persistent=False)
        self.register_buffer("cosines", torch.tensor(catalogue.cosines()).float(), persistent=False)
        self.register_buffer("ranking", torch.tensor(catalogue.ranking()).long(), persistent=False)
        self.register_buffer("sizes", torch.tensor(np.bincount(catalogue.topic)), persistent=False)
        self.by_topic = bool(model.params["by_topic"][0])
        self.dim = catalogue.embeddings.shape[1]
        seen = envs.obs_dim + 1 if args.flat else 5 * topics + 5
        context = hidden if args.flat else 2 * hidden + 1
        self.short_cell = gru(seen, hidden)
        self.topic_net = nn.Sequential(layer(nn.Linear(TOPIC_FEATURES, 16)), nn.ReLU())
        self.actor = mlp(context, hidden, self.dim + 16 + 1, 0.01)
        self.critic = mlp(context + 16, hidden, 1, 1.0)
        self.popularity_weight = nn.Parameter(torch.zeros(1))
        if not args.flat:
            self.long_cell = gru(SUMMARY, hidden)
            self.static_head = layer(nn.Linear(hidden, 1), 0.1)
            self.session_head = layer(nn.Linear(2 * hidden, 2), 0.1)
            self.goal_weight = nn.Parameter(torch.tensor(4.0))
            self.manager = mlp(2 * hidden + 2, hidden, 1, 0.01)
        self.acting = ()  # lanes of `act`, in a tuple, or they would be part of the network

    def part(self, obs, name):
        return obs[:, self.parts[name]]

    def counts(self, obs, name):
        """Counts (batch, topics) from how they are observed."""
        share = self.part(obs, name)
        return float(SATURATION) * share / (1.0 - share)

    def candidates(self, obs):
        """The item that each action shows, (batch, actions): its own, or the topic's next one in order of popularity."""
        if not self.by_topic:
            return torch.arange(len(self.items), device=obs.device).expand(len(obs), -1)
        place = self.counts(obs, "session_shown").round().long() % self.sizes
        return self.ranking[torch.arange(len(self.sizes), device=obs.device), place]

    def novelties(self, obs):
        """1 - cosine of each action's item with the nearest known topic, (batch, actions)."""
        known = self.part(obs, "known")
        if self.by_topic:
            return 1.0 - (self.cosines[self.candidates(obs)] * known.unsqueeze(1)).amax(-1)
        closest = known.new_zeros(len(obs), len(self.cosines))
        for topic in range(known.shape[1]):  # a tenth of the memory of one big product
            torch.maximum(closest, known[:, topic, None] * self.cosines[:, topic], out=closest)
        return 1.0 - closest

    def diversities(self, obs, actions):
        """Mean 1 - cosine of the items (batch,) with the topics that the session has shown before; 0 for its first slate."""
        items = self.candidates(obs).gather(1, actions.unsqueeze(1)).squeeze(1)
        counts = self.counts(obs, "session_shown")
        return ((1.0 - self.cosines[items]) * counts).sum(1) / counts.sum(1).clamp(min=1.0)

    def topics(self, obs):
        """What is known of each topic: (batch, topics, TOPIC_FEATURES)."""
        names = ("known", "session_shown", "session_clicked", "shown", "clicked")
        features = [self.part(obs, name) for name in names]
        rate = (self.counts(obs, "clicked") + 1.0) / (self.counts(obs, "shown") + 2.0)
        features += [self.counts(obs, "session_shown") / 5.0, rate, rate * features[0]]
        return torch.stack(features, -1)

    def seen(self, obs):
        """Input of GRU_short (batch, ...): the session so far; for the flat agent the whole observation."""
        scalars = self.part(obs, "scalars")
        accepted = scalars[:, CLICK : CLICK + 1] * scalars[:, NOVELTY : NOVELTY + 1]
        if self.args.flat:
            return torch.cat([obs, accepted], 1)
        last = torch.cat([self.part(obs, "slate"), self.part(obs, "choice"), scalars[:, : NOVELTY + 1], accepted], 1)
        now = [self.part(obs, name) for name in ("known", "session_shown", "session_clicked")]
        return torch.cat([*now, last * (1.0 - scalars[:, FIRST:]), scalars[:, [STEP, FIRST]]], 1)

    def remember(self, summaries, sessions):
        """x_k from the summaries (batch, sessions, SUMMARY) of that many sessions (batch,), with the parameters of now."""
        long = summaries.new_zeros(len(summaries), self.args.hidden)
        if self.args.flat or self.args.arm == "no_static":
            return long
        for k in range(int(sessions.max())):
            long = torch.where((k < sessions).unsqueeze(1), self.long_cell(summaries[:, k], long), long)
        return long

    def update_long(self, summary, long, new, starts):
        """x_{k+1} where a session starts; 0 where a user does."""
        if self.args.flat or self.args.arm == "no_static" or not (new | starts).any():
            return long
        long = torch.where(new.unsqueeze(1), self.long_cell(summary, long), long)
        return long * ~starts.unsqueeze(1)

    def forgets(self, new, starts):
        """Where GRU_short starts anew: with the session, in the flat agent with the user alone."""
        return starts if self.args.flat else new | starts

    def extract(self, short, long):
        """z (batch,), and the two numbers behind `acceptance` (batch, 2)."""
        both = self.session_head(torch.cat([short, long], -1))
        return self.static_head(long).squeeze(-1).sigmoid(), both

    def features(self, short, long):
        """What the manager sees, (batch, 2 hidden + 2), without gradient: x_k, s_t, z and p."""
        short, long = short.detach(), long.detach()
        with torch.no_grad():
            z, both = self.extract(short, long)
            p = acceptance(both, torch.ones_like(z))
        return torch.cat([long, short, z.unsqueeze(-1), p.unsqueeze(-1)], -1)

    def decide(self, features):
        """g (batch,) without noise."""
        return self.manager(features).squeeze(-1).sigmoid()

    def forward(self, short, long, goal, obs, novelties):
        """Scores of all actions (batch, actions) and values (batch,)."""
        context = short if self.args.flat else torch.cat([short, long, goal.unsqueeze(-1)], -1)
        topics = self.topic_net(self.topics(obs))
        query, taste, weight = self.actor(context).split([self.dim, 16, 1], -1)
        by_topic = (topics @ taste.unsqueeze(-1)).squeeze(-1)
        weights = torch.cat([query, by_topic, self.popularity_weight.expand(len(obs), 1)], -1)
        if not self.args.flat:
            weight = weight + self.goal_weight * (goal.unsqueeze(-1) - 0.5)
        if self.by_topic:
            liking = (self.items[self.candidates(obs)] @ weights.unsqueeze(-1)).squeeze(-1)
        else:
            liking = weights @ self.items.T
        return liking + weight * novelties, self.critic(torch.cat([context, topics.mean(1)], -1)).squeeze(-1)

    @torch.no_grad()
    def observe(self, lanes, obs, noise=0.0):
        """Takes in the observations (batch, obs_dim): memories, summaries of sessions, and the manager's decisions."""
        scalars = self.part(obs, "scalars")
        starts = (scalars[:, FIRST] == 1) & (scalars[:, SESSION] == 0)
        new = (scalars[:, FIRST] == 1) & ~starts
        click, novelty = scalars[:, CLICK], scalars[:, NOVELTY]
        response = torch.stack([torch.ones_like(click), click, novelty, click * novelty], 1) * ~starts.unsqueeze(1)
        lanes.ever[starts], lanes.sums[starts], lanes.sessions[starts] = 0.0, 0.0, 0
        lanes.ever += response[:, 2:]
        lanes.sums += response
        lanes.summary = summarise(lanes.sums, scalars[:, GAP], self.part(obs, "known").mean(1))
        lanes.summaries[new, lanes.sessions[new]] = lanes.summary[new]
        lanes.sessions += new
        lanes.sums[new] = 0.0
        lanes.new, lanes.starts = new, starts
        lanes.long = self.update_long(lanes.summary, lanes.long, new, starts)
        lanes.carried = lanes.short * ~self.forgets(new, starts).unsqueeze(1)
        lanes.short = self.short_cell(self.seen(obs), lanes.carried)
        if self.args.managed:
            lanes.decision = new | starts | (lanes.clock == self.args.period)
            goal = self.decide(self.features(lanes.short, lanes.long))
            goal = (goal + noise * torch.randn_like(goal)).clamp(0.0, 1.0) if noise else goal
            lanes.goal = torch.where(lanes.decision, goal, lanes.goal)
            lanes.clock = torch.where(lanes.decision, 0, lanes.clock) + 1

    @torch.no_grad()
    def choose(self, lanes, obs):
        """Draws actions (batch,) from the worker's policy; also the novelties of all."""
        novelties = self.novelties(obs)
        scores, _ = self(lanes.short, lanes.long, lanes.goal, obs, novelties)
        return torch.multinomial(scores.softmax(-1), 1).squeeze(1), novelties

    def act(self, obs):
        """Draws actions for observation rows (batch, obs_dim), with the memory of the calls before.

        The observation shows where a user starts; in a new batch size all are new.
        """
        if not self.acting or len(self.acting[0].goal) != len(obs):
            self.acting = (Lanes(self, len(obs)).to(obs.device),)
        (lanes,) = self.acting
        self.observe(lanes, obs)
        return self.choose(lanes, obs)[0]

    def signs(self):
        """What the lanes of `act` show of the user's intent, each (batch,), and their memories (batch, size)."""
        (lanes,) = self.acting
        if self.args.flat:
            return {"memory": lanes.short}
        z, both = self.extract(lanes.short, lanes.long)
        p = acceptance(both, torch.ones_like(z))
        return {"z": z, "p": p, "goal": lanes.goal, "memory": torch.cat([lanes.short, lanes.long], 1)}


def acceptance(both, novelty):
    """Probability of a click on an item of that novelty (...), from two numbers (..., 2): level and slope of its logit."""
    return (both[..., 0] + both[..., 1] * novelty).sigmoid()


def summarise(sums, gap, known):
    """A session as numbers (batch, SUMMARY).

    From its sums (batch, 4) of slates, clicks, novelty and accepted novelty, the days since (batch,) and the share of topics
    that the user knows (batch,).
    """
    slates, clicks, novelty, accepted = sums.unbind(1)
    rates = clicks / slates.clamp(min=1), novelty / slates.clamp(min=1)
    on_novel, on_known = accepted / novelty.clamp(min=0.1), (clicks - accepted) / (slates - novelty).clamp(min=0.1)
    return torch.stack([slates / (slates + 5), *rates, on_novel, on_known, gap, known], 1)


class Lanes(nn.Module):
    """What each lane takes along: memories, sums over its session and over all, the goal, summaries of the user's sessions."""

    def __init__(self, agent, num_envs):
        super().__init__()
        hidden = agent.args.hidden
        for name, size in (
            ("short", hidden),
            ("carried", hidden),
            ("long", hidden),
            ("sums", 4),
            ("ever", 2),
            ("summary", SUMMARY),
        ):
            self.register_buffer(name, torch.zeros(num_envs, size))
        self.register_buffer("summaries", torch.zeros(num_envs, agent.max_sessions, SUMMARY))
        self.register_buffer("goal", torch.full((num_envs,), agent.args.goal))
        for name in ("sessions", "clock"):
            self.register_buffer(name, torch.zeros(num_envs, dtype=torch.long))
        for name in ("new", "starts", "decision"):
            self.register_buffer(name, torch.zeros(num_envs, dtype=torch.bool))


KEPT = ("short", "long", "goal", "decision", "new", "starts", "summary", "ever")  # of lanes, at every row


@torch.no_grad()
def rollout(agent, envs, lanes, args):
    """Plays num_steps in every lane; returns a dict of tensors (num_steps, num_envs, ...).

    What is known before a slate, KEPT and obs, has a row more, the last one's. carried, summaries and sessions (num_envs, ...)
    are those of the first row: with them and the rest, learning makes the memories anew.
    """
    b = {name: getattr(lanes, name).clone() for name in ("carried", "summaries", "sessions")}
    rows = [{"obs": envs.obs, **{name: getattr(lanes, name).clone() for name in KEPT}}]
    steps = []
    noise = args.manager_noise if args.managed else 0.0
    for _ in range(args.num_steps):
        obs = envs.obs
        action, novelties = agent.choose(lanes, obs)
        shown = novelties.gather(1, action.unsqueeze(1)).squeeze(1)
        next_obs, reward, terminated, _, _ = envs.step(action)
        agent.observe(lanes, next_obs, noise)
        rows.append({"obs": next_obs, **{name: getattr(lanes, name).clone() for name in KEPT}})
        steps.append(
            dict(
                actions=action,
                clicks=reward.to(obs.device),
                novelties=novelties,
                novelty=shown,
                diversity=agent.diversities(obs, action),
                done=terminated.to(obs.device),
            )
        )
    b |= {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
    b |= {key: torch.stack([step[key] for step in steps]) for key in steps[0]}
    b["session_end"] = b["new"][1:] | b["starts"][1:]
    return b


def rewards(b, args):
    """Rewards of the worker or flat agent, and those that the manager sums up, each (num_steps, num_envs).

    Novelty pays where it is accepted: otherwise random items would be best.
    """
    if args.arm == "accuracy":
        return b["clicks"], b["clicks"]
    common_part = b["clicks"] + args.alpha * b["clicks"] * b["novelty"] + args.kappa * ~b["session_end"]
    own = common_part + args.beta * b["diversity"]
    if not args.flat:
        own = own - args.lambda_goal * (b["novelty"] - b["goal"][:-1]).square()
    return own, common_part


def gae(rewards, values, next_values, terminated, done, gamma, gae_lambda):
    """Generalised advantage estimate (Schulman et al., 2016, eq. 16). All tensors (num_steps, num_envs)."""
    deltas = rewards + gamma * next_values * ~terminated - values
    decays = gamma * gae_lambda * ~done
    advantages, carry = torch.empty_like(deltas), torch.zeros_like(deltas[0])
    for t in reversed(range(len(deltas))):
        advantages[t] = carry = torch.addcmul(deltas[t], decays[t], carry)
    return advantages


def unroll(agent, b):
    """s_t and x_k before every slate, and after the last, (num_steps + 1, num_envs, hidden), with the parameters of now.

    x_k comes from the summaries of all sessions of the user, so that no stored one is out of date; s_t starts from what was
    carried into the first row.
    """
    long, short = agent.remember(b["summaries"], b["sessions"]), b["carried"]
    seen = agent.seen(b["obs"].flatten(0, 1)).unflatten(0, b["obs"].shape[:2])
    shorts, longs = [], []
    for t in range(len(seen)):
        if t:
            long = agent.update_long(b["summary"][t], long, b["new"][t], b["starts"][t])
            short = short * ~agent.forgets(b["new"][t], b["starts"][t]).unsqueeze(1)
        short = agent.short_cell(seen[t], short)
        shorts.append(short)
        longs.append(long)
    return torch.stack(shorts), torch.stack(longs)


def intent_loss(agent, short, long, b):
    """Squared errors of both intent heads, each on average over (num_steps, num_envs), where there is something to predict.

    z: the share of the novelty shown so far that was accepted; p: the accepted novelty of the slate that comes.
    """
    z, both = agent.extract(short, long)
    shown, accepted = b["ever"][:-1].unbind(-1)
    known = shown > 0
    static = ((z - accepted / shown.clamp(min=1e-6)).square() * known).sum() / known.sum().clamp(min=1)
    novelty = b["novelty"]
    session = (novelty * acceptance(both, novelty) - novelty * b["clicks"]).square().mean()
    return static, session


def worker_loss(agent, b, args):
    """Advantage actor-critic with an entropy bonus, plus intent_coef times the intent heads' losses; and metrics."""
    shorts, longs = unroll(agent, b)
    num_steps = len(b["actions"])
    short, long, goal, obs = (x[:num_steps].flatten(0, 1) for x in (shorts, longs, b["goal"], b["obs"]))
    scores, values = agent(short, long, goal, obs, b["novelties"].flatten(0, 1))
    values = values.unflatten(0, b["actions"].shape)
    own, _ = rewards(b, args)
    ends = b["session_end"] if args.cut_sessions else b["done"]
    with torch.no_grad():
        last_obs = b["obs"][-1]
        last = agent(shorts[-1], longs[-1], b["goal"][-1], last_obs, torch.zeros_like(b["novelties"][0]))[1]
        next_values = torch.cat([values[1:], last.unsqueeze(0)])
        advantages = gae(own, values, next_values, ends, ends, args.gamma, args.gae_lambda)
        returns = advantages + values
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    all_logprobs = scores.log_softmax(-1)
    logprobs = all_logprobs.gather(1, b["actions"].flatten().unsqueeze(1)).squeeze(1)
    policy_loss = -(logprobs * advantages.flatten()).mean()
    value_loss = (values - returns).square().mean()
    entropy = -(all_logprobs.exp() * all_logprobs).sum(-1).mean()
    loss = policy_loss + args.vf_coef * value_loss - args.ent_coef * entropy
    metrics = {"loss/policy": policy_loss, "loss/value": value_loss, "entropy": entropy, "reward": own.mean()}
    if not args.flat:
        static, session = intent_loss(agent, shorts[:-1], longs[:-1], b)
        loss = loss + args.intent_coef * (static + session)
        metrics |= {"loss/static": static, "loss/session": session, "goal": b["goal"].mean()}
    return loss, {key: x.detach() for key, x in metrics.items()}


class Replay(nn.Module):
    """The newest transitions of the manager, from one decision to the next, with what the worker saw and did between."""

    def __init__(self, agent, obs_dim, args):
        super().__init__()
        features, period = 2 * args.hidden + 2, args.period
        shapes = dict(features=(features,), goals=(), rewards=(), next_features=(features,), discounts=(),
                      obs=(period, obs_dim), shorts=(period, args.hidden), longs=(args.hidden,))  # fmt: skip
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(args.replay_size, *shape))
        self.register_buffer("actions", torch.zeros(args.replay_size, period, dtype=torch.long))
        self.register_buffer("played", torch.zeros(args.replay_size, period, dtype=torch.bool))
        self.register_buffer("added", torch.zeros((), dtype=torch.long))
        self.names = (*shapes, "actions", "played")

    def add(self, transitions):
        number = len(transitions["goals"])
        index = (int(self.added) + torch.arange(number, device=self.goals.device)) % len(self.goals)
        for name in self.names:
            getattr(self, name)[index] = transitions[name]
        self.added += number

    def sample(self, size):
        index = torch.randint(min(int(self.added), len(self.goals)), (size,), device=self.goals.device)
        return {name: getattr(self, name)[index] for name in self.names}


@torch.no_grad()
def manager_transitions(agent, b, args):
    """Transitions between decisions in a rollout, (number, ...); one that goes on in the next rollout is left out."""
    num_steps, period = len(b["actions"]), args.period
    ahead = F.pad(b["decision"], (0, 0, 0, period)).unfold(0, period + 1, 1)[:num_steps, :, 1:]  # of the next `period` rows
    begin, lane = (b["decision"][:num_steps] & ahead.any(-1)).nonzero(as_tuple=True)
    length = ahead[begin, lane].float().argmax(-1) + 1
    offsets = torch.arange(period, device=begin.device)
    played = offsets < length.unsqueeze(1)
    rows = (begin.unsqueeze(1) + offsets).clamp(max=num_steps - 1)
    lanes = lane.unsqueeze(1)
    paid = rewards(b, args)[1][rows, lanes] * played * args.manager_gamma**offsets
    end = begin + length
    going_on = ~b["done"][end - 1, lane]
    features = agent.features(b["short"], b["long"])
    return dict(
        features=features[begin, lane], goals=b["goal"][begin, lane], rewards=paid.sum(1), next_features=features[end, lane],
        discounts=args.manager_gamma**length * going_on, obs=b["obs"][rows, lanes], shorts=b["short"][rows, lanes],
        longs=b["long"][begin, lane], actions=b["actions"][rows, lanes], played=played,
    )  # fmt: skip


@torch.no_grad()
def relabel(agent, m, noise, args):
    """Goals (batch,) that make the worker's actions most likely now (HIRO, sec. 3.3).

    Candidates are the original goal and the mean novelty that was shown + `manager_noise` times noise (batch, samples).
    """
    shape = m["actions"].shape  # (batch, period)
    obs, actions = m["obs"].flatten(0, 1), m["actions"].flatten()
    novelties = agent.novelties(obs)
    shown = novelties.gather(1, actions.unsqueeze(1)).view(shape)
    centre = (shown * m["played"]).sum(1) / m["played"].sum(1)
    around = (centre.unsqueeze(1) + args.manager_noise * noise).clamp(0.0, 1.0)
    candidates = torch.cat([m["goals"].unsqueeze(1), around], 1)
    number, longs = candidates.shape[1], m["longs"].repeat_interleave(shape[1], 0)
    goals = candidates.T.repeat_interleave(shape[1], 1).flatten()  # candidates in the outer dimension, slates in the inner
    given = (x.repeat(number, 1) for x in (obs, novelties))
    scores, _ = agent(m["shorts"].flatten(0, 1).repeat(number, 1), longs.repeat(number, 1), goals, *given)
    logprobs = scores.gather(1, actions.repeat(number).unsqueeze(1)).squeeze(1) - scores.logsumexp(1)
    best = (logprobs.view(number, *shape) * m["played"]).sum(-1).argmax(0)
    return candidates.gather(1, best.unsqueeze(1)).squeeze(1)


class Critics(nn.Module):
    """Two values Q_h(features, g): (batch, features), (batch,) -> (2, batch)."""

    def __init__(self, args):
        super().__init__()
        self.nets = nn.ModuleList(mlp(2 * args.hidden + 3, args.hidden, 1, 1.0) for _ in range(2))

    def forward(self, features, goals):
        x = torch.cat([features, goals.unsqueeze(1)], 1)
        return torch.stack([net(x).squeeze(1) for net in self.nets])


def critic_loss(critics, delayed_critics, delayed_manager, m, noise, args):
    """TD3's: both values of the goal against R + discount * the lesser delayed value of the delayed manager's noisy goal."""
    with torch.no_grad():
        goals = delayed_manager(m["next_features"]).squeeze(1).sigmoid()
        goals = (goals + (args.manager_noise * noise).clamp(-0.25, 0.25)).clamp(0.0, 1.0)
        targets = m["rewards"] + m["discounts"] * delayed_critics(m["next_features"], goals).amin(0)
    return (critics(m["features"], m["goals"]) - targets).square().mean()


def descend(loss, parameters, optimizer, max_grad_norm):
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, max_grad_norm, foreach=True)
    optimizer.step()


class Manager:
    """How the manager learns: critics, delayed networks, optimisers and the replay. The policy itself is the agent's."""

    def __init__(self, agent, obs_dim, args):
        device = agent.items.device
        self.args, self.agent = args, agent
        self.critics = Critics(args).to(device)
        self.delayed = nn.ModuleDict({"critics": deepcopy(self.critics), "manager": deepcopy(agent.manager)}).requires_grad_(
            False
        )
        self.actor_optimizer = torch.optim.Adam(agent.manager.parameters(), lr=args.manager_lr, fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=args.manager_lr, fused=True)
        self.replay = Replay(agent, obs_dim, args).to(device)
        self.stateful = dict(critics=self.critics, delayed=self.delayed, actor_optimizer=self.actor_optimizer,
                             critic_optimizer=self.critic_optimizer, replay=self.replay)  # fmt: skip

    def update(self, b):
        """Takes over a rollout's transitions and learns from minibatches. Returns metrics."""
        args, agent, metrics = self.args, self.agent, {}
        self.replay.add(manager_transitions(agent, b, args))
        metrics["decisions_per_session"] = b["decision"][1:].sum() / b["session_end"].sum().clamp(min=1)
        if self.replay.added < args.manager_batch:
            return metrics
        for number in range(args.manager_updates):
            m = self.replay.sample(args.manager_batch)
            if args.relabel:
                noise = torch.randn(args.manager_batch, args.relabel_samples, device=m["goals"].device)
                goals = relabel(agent, m, noise, args)
                metrics["relabelled"] = (goals - m["goals"]).abs().mean()
                m["goals"] = goals
            noise = torch.randn_like(m["goals"])
            loss = critic_loss(self.critics, self.delayed["critics"], self.delayed["manager"], m, noise, args)
            descend(loss, list(self.critics.parameters()), self.critic_optimizer, args.max_grad_norm)
            metrics["loss/manager_critic"] = loss.detach()
            if number % 2 == 1:
                value = self.critics(m["features"], agent.decide(m["features"]))[0].mean()
                descend(-value, list(agent.manager.parameters()), self.actor_optimizer, args.max_grad_norm)
                metrics["manager_value"] = value.detach()
            online = [*self.critics.parameters(), *agent.manager.parameters()]
            with torch.no_grad():
                torch._foreach_lerp_(list(self.delayed.parameters()), online, args.manager_tau)
        return metrics


def ranks(x):
    """Ranks from 1, ties averaged."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def auc(scores, labels):
    """Probability that a score where labels (bool) is above one where not, ties counted half; 0.5 if one kind is missing."""
    positive = int(labels.sum())
    pairs = positive * (len(labels) - positive)
    return float((ranks(scores)[labels].sum() - positive * (positive + 1) / 2) / pairs) if pairs else 0.5


def spearman(x, y):
    """Rank correlation; 0 where one is constant."""
    a, b = ranks(x), ranks(y)
    return float(np.corrcoef(a, b)[0, 1]) if a.std() and b.std() else 0.0


def linear_probe(memories, labels, fitted):
    """Scores (rows,) of the ridge regression of labels (rows,) on memories (rows, size), on the rows where `fitted`."""
    x = np.concatenate([memories, np.ones((len(memories), 1))], 1).astype(np.float64)
    gram = x[fitted].T @ x[fitted] + 1e-3 * fitted.sum() * np.eye(x.shape[1])
    return x @ np.linalg.solve(gram, x[fitted].T @ labels[fitted])


@torch.no_grad()
def play_users(act, envs, seed, signs=None):
    """One episode of a fresh user in every lane.

    Returns the infos at their ends (users,), and the rows of all slates in order of time: user, session and mood (rows,),
    and of a learning agent its `signs`: z, p, goal (rows,) and the memories of the first PROBED users.
    """
    obs = envs.reset(seed=seed)
    playing, ends, rows = np.ones(envs.num_envs, bool), {}, []
    while playing.any():
        state, (users,) = envs.worlds.get_state(), playing.nonzero()
        actions = act(obs)
        row = dict(user=users, session=state["session"][users], mood=state["intent"][users] == 1)
        if signs:
            row |= {name: x[users].cpu().numpy() for name, x in signs().items()}
            row["memory"] = row["memory"][users < PROBED]
        rows.append(row)
        obs, _, terminated, _, info = envs.step(actions)
        over = terminated.numpy() & playing
        for key in ("clicks", "discovered", "returns", "novelty_seeking"):
            value = info["reached"][key]
            ends.setdefault(key, np.zeros(envs.num_envs))[over] = value[over]
        accepted, clicked = (info["reached"][key] * playing for key in ("accepted_novelty", "click"))
        ends["accepted"] = ends.get("accepted", 0.0) + accepted
        ends["clicked"] = ends.get("clicked", 0.0) + clicked
        playing &= ~over
    return ends, {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}


def user_metrics(ends, rows):
    """Means over users, and how well both levels of intent were recovered in their last sessions."""
    metrics = {
        "eval/clicks": ends["clicks"].mean(),
        "eval/sessions": ends["returns"].mean() + 1,
        "eval/slates": len(rows["user"]) / len(ends["clicks"]),
        "eval/discovered": ends["discovered"].mean(),
        "eval/accepted_novelty": ends["accepted"].sum() / ends["clicked"].sum(),
    }
    last = rows["session"] == ends["returns"][rows["user"]]
    if "goal" in rows:
        users, first = np.unique(rows["user"][last], return_index=True)
        metrics["eval/static_spearman"] = spearman(rows["z"][last][first], ends["novelty_seeking"][users])
        metrics["eval/propensity_auc"] = auc(rows["p"][last], rows["mood"][last])
        metrics["eval/goal_auc"] = auc(rows["goal"][last], rows["mood"][last])
    if "memory" in rows:
        probed = rows["user"] < PROBED
        user, mood, last = (x[probed] for x in (rows["user"], rows["mood"], last))
        fitted = user % 2 == 0  # of the others, the last session is scored
        scores = linear_probe(rows["memory"], mood, fitted)
        metrics["eval/probe_auc"] = auc(scores[last & ~fitted], mood[last & ~fitted])
    return {key: float(x) for key, x in metrics.items()}


def scripted(arm, envs, goal):
    """The function from observation rows to items of a scripted recommender."""
    world = envs.worlds
    constant = policies.ConstantNovelty(world, goal)
    oracle = None if arm == "constant" else policies.Oracle(world)
    constant_users = np.arange(world.num_envs) % 2 == 1 if arm == "halfway" else np.full(world.num_envs, arm == "constant")

    def act(obs):
        rows = obs.cpu().numpy()
        actions = np.zeros(len(rows), np.int64)
        for policy, users in ((constant, constant_users), (oracle, ~constant_users)):
            if users.any():
                actions[users] = policy.act(rows[users])
        return torch.from_numpy(actions)

    return act


def evaluate(run, agent, args):
    """Metrics of play for users who aren't in training."""
    kwargs = json.loads(args.env_kwargs)
    if args.arm in SCRIPTED[1:]:
        kwargs["reveal"] = ["intent", "affinity"] if args.arm == "oracle_taste" else ["intent"]
    envs = common.make_vec(args.env, args.eval_episodes, kwargs, args.autoreset_mode)
    envs = common.TorchVectorEnv(envs, run.device)
    if args.arm in SCRIPTED:
        metrics = user_metrics(*play_users(scripted(args.arm, envs, args.goal), envs, run.eval_seed))
    else:
        agent.acting = ()
        metrics = user_metrics(*play_users(agent.act, envs, run.eval_seed, agent.signs))
        agent.acting = ()
        metrics["eval/intent_auc"] = metrics["eval/goal_auc" if args.managed else "eval/probe_auc"]
    envs.close()
    return metrics


def train(args):
    run = common.start(args, __file__)
    envs = run.make_envs(args.num_envs)
    agent = Agent(envs, args).to(run.device)
    lanes = Lanes(agent, args.num_envs).to(run.device)
    worker = [p for name, p in agent.named_parameters() if not name.startswith("manager.")]
    optimizer = torch.optim.Adam(worker, lr=args.learning_rate, eps=1e-5, fused=True)
    manager = Manager(agent, envs.obs_dim, args) if args.managed else None
    agent.observe(lanes, envs.reset(seed=run.env_seed))
    run.persist(agent=agent, lanes=lanes, optimizer=optimizer, envs=envs, **(manager.stateful if manager else {}))
    per_iteration = args.num_envs * args.num_steps
    for step in run.steps(per_iteration):
        before, metrics = step - per_iteration, {}
        if args.arm not in SCRIPTED:
            if args.anneal_lr:
                optimizer.param_groups[0]["lr"] = args.learning_rate * (1 - before / args.total_timesteps)
            b = rollout(agent, envs, lanes, args)
            loss, metrics = worker_loss(agent, b, args)
            descend(loss, worker, optimizer, args.max_grad_norm)
            if manager:
                metrics |= manager.update(b)
            metrics |= envs.episode_metrics()
        last = step >= args.total_timesteps
        if last or (args.eval_interval and step // args.eval_interval > before // args.eval_interval):
            metrics |= evaluate(run, agent, args)
        if metrics:
            run.log(step, metrics)
    run.close()
    return run


if __name__ == "__main__":
    common.main(train, Args)
