"""PPO with a recurrent memory, GRU or LSTM, for discrete actions (Schulman et al., 2017, arXiv:1707.06347, eq. 7 and 9).

Beside the observation the network sees its last action, the reward for it, and where an episode starts (Duan et al., 2016,
arXiv:1611.02779). Gradients go back in time as far as one rollout. Where a world has several agents, one policy plays them
all against itself: each agent is a lane, with a memory and rewards of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from explore_gym.agents import common


@dataclass(kw_only=True)
class Args(common.Args):
    env: str = "Explore/MetaBandit-v0"  # any registered id
    num_envs: int = 64  # lanes; a world with several agents takes one for each
    memory: Literal["gru", "lstm"] = "gru"
    hidden: int = 128  # width of the encoder and of the memory
    rl2: bool = True  # the network also sees its last action, the reward for it and the start of an episode
    num_steps: int = 64  # per env and rollout; gradients go back in time as far as this
    num_epochs: int = 4  # passes over one rollout
    num_minibatches: int = 4  # per epoch, of whole lanes
    learning_rate: float = 1e-3
    anneal_lr: bool = True  # linearly to 0 at total_timesteps
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_coef: float = 0.2
    ent_coef: float = 0.01
    vf_coef: float = 0.5  # times the mean squared error
    max_grad_norm: float = 0.5
    target_kl: float = 0.0  # stop a rollout's epochs once the policy moved this far (0: never)
    norm_advantages: bool = True  # in each minibatch
    scale_rewards: bool = True  # divide by the standard deviation of returns where it exceeds 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("hidden", "num_steps", "num_epochs", "num_minibatches"):
            common.at_least(self, name, 1)
        for name in ("gamma", "gae_lambda"):
            common.within(self, name, 0.0, 1.0)
        if self.memory not in ("gru", "lstm"):
            raise common.UsageError(f"memory must be gru or lstm, got {self.memory!r}")
        if self.num_envs % self.num_minibatches:
            raise common.UsageError(f"num_minibatches must divide num_envs = {self.num_envs}, got {self.num_minibatches}")
        if self.num_envs // self.num_minibatches * self.num_steps < 4:
            raise common.UsageError("a minibatch must hold at least 4 steps: raise num_envs or num_steps")


SEEN = ("obs", "last_actions", "last_rewards", "starts")  # what the network is shown of a step


def layer(module, gain=2**0.5):
    """Orthogonal weights, zero biases."""
    nn.init.orthogonal_(module.weight, gain)
    nn.init.zeros_(module.bias)
    return module


class Inputs(nn.Module):
    """What is seen of a step -> (..., dim): the observation and, with rl2, the action and the reward before it.

    obs (..., obs_dim), last_actions, last_rewards, starts (...). Where an episode starts nothing came before.
    """

    def __init__(self, envs, args):
        super().__init__()
        self.features = common.Features(envs.layout)
        self.rl2 = args.rl2
        self.dim = self.features.dim + (envs.num_actions + 2 if args.rl2 else 0)
        self.register_buffer("actions", torch.arange(envs.num_actions), persistent=False)

    def forward(self, obs, last_actions, last_rewards, starts):
        x = self.features(obs.flatten(0, -2)).unflatten(0, obs.shape[:-1])
        if not self.rl2:
            return x
        starts = starts.unsqueeze(-1)
        reward = last_rewards.unsqueeze(-1)
        reward = reward.sign() * reward.abs().log1p()  # large ones become small, small ones stay
        return torch.cat([x, (last_actions.unsqueeze(-1) == self.actions) & ~starts, reward * ~starts, starts], -1)


class Agent(nn.Module):
    """A policy and its value with a memory (batch, memory_dim), which is zero where an episode starts."""

    def __init__(self, envs, args):
        super().__init__()
        self.inputs = Inputs(envs, args)
        self.encoder = nn.Sequential(layer(nn.Linear(self.inputs.dim, args.hidden)), nn.ReLU())
        self.lstm, self.hidden = args.memory == "lstm", args.hidden
        self.cell = (nn.LSTMCell if self.lstm else nn.GRUCell)(args.hidden, args.hidden)
        for name, parameter in self.cell.named_parameters():
            nn.init.zeros_(parameter) if "bias" in name else nn.init.orthogonal_(parameter)
        self.actor = layer(nn.Linear(args.hidden, envs.num_actions), 0.01)
        self.critic = layer(nn.Linear(args.hidden, 1), 1.0)
        self.memory_dim = args.hidden * (1 + self.lstm)  # of an LSTM: what it shows, then what it keeps
        self.last = None  # memory and action of the last call of `act`

    def forward(self, obs, last_actions, last_rewards, starts, memory):
        """Steps in a row: what is seen of them, (num_steps, batch, ...), and the memory before the first, (batch, memory_dim).

        Returns logits (num_steps, batch, num_actions), values (num_steps, batch), and the memory after each step
        (num_steps, batch, memory_dim).
        """
        inputs = self.encoder(self.inputs(obs, last_actions, last_rewards, starts)).unbind()
        memories = []
        for x, keep in zip(inputs, (~starts).unsqueeze(-1).unbind()):
            memory = memory * keep
            memory = torch.cat(self.cell(x, memory.chunk(2, -1)), -1) if self.lstm else self.cell(x, memory)
            memories.append(memory)
        memories = torch.stack(memories)
        return *self.read(memories), memories

    def read(self, memories):
        """Logits and values from the memory after a step."""
        shown = memories[..., : self.hidden]
        return self.actor(shown), self.critic(shown).squeeze(-1)

    def step(self, obs, last_action, last_reward, starts, memory, noise):
        """One step: the action drawn with `gumbel` noise (batch,), and the memory after it."""
        seen = (x.unsqueeze(0) for x in (obs, last_action, last_reward, starts))
        logits, _, memories = self(*seen, memory)
        return (logits[0] + noise).argmax(-1), memories[0]

    @torch.no_grad()
    def act(self, obs, starts=None, rewards=None):
        """Draws actions for observation rows (batch, obs_dim), with the memory of the calls before.

        starts, bool (batch,): where an episode starts; in any case everywhere in the first call and with a new batch size.
        rewards (batch,): of the actions of the call before; by default 0.
        """
        if self.last is None or len(self.last[0]) != len(obs):
            self.last = obs.new_zeros(len(obs), self.memory_dim, dtype=torch.float32), obs.new_zeros(len(obs), dtype=torch.long)
            starts = torch.ones(len(obs), dtype=torch.bool)
        memory, action = self.last
        starts = torch.zeros(len(obs), dtype=torch.bool) if starts is None else starts
        rewards = torch.zeros(len(obs)) if rewards is None else rewards
        noise = gumbel((len(obs), self.actor.out_features), obs.device)
        action, memory = self.step(obs, action, rewards.float().to(obs.device), starts.to(obs.device), memory, noise)
        self.last = memory, action
        return action


def gumbel(shape, device):
    """Draws of the standard Gumbel distribution."""
    return torch.empty(shape, device=device).exponential_().log_().neg_()


class Lanes(nn.Module):
    """What each lane takes along from one rollout to the next: its memory, its last action and the reward for it."""

    def __init__(self, agent, num_envs):
        super().__init__()
        self.register_buffer("memory", torch.zeros(num_envs, agent.memory_dim))
        self.register_buffer("last_actions", torch.zeros(num_envs, dtype=torch.long))
        self.register_buffer("last_rewards", torch.zeros(num_envs))


def make_buffer(envs, agent, num_steps):
    """Rollout storage: (num_steps, num_envs, ...), with one row more for what is seen and for memory."""
    shape, more, device = (num_steps, envs.num_envs), (num_steps + 1, envs.num_envs), envs.device
    flags = ("terminated", "truncated") if envs.dense else ("terminated", "truncated", "valid")
    buffer = {key: torch.zeros(shape, dtype=torch.bool, device=device) for key in flags}
    buffer["obs"] = torch.zeros((*more, envs.obs_dim), dtype=envs.obs_dtype, device=device)
    buffer["last_actions"] = torch.zeros(more, dtype=torch.long, device=device)
    buffer["last_rewards"] = torch.zeros(more, device=device)
    buffer["starts"] = torch.zeros(more, dtype=torch.bool, device=device)
    buffer["memory"] = torch.zeros((*more, agent.memory_dim), device=device)
    return buffer


@torch.no_grad()
def rollout(agent, act, envs, lanes, buffer):
    """Plays the buffer full; returns a dict of (num_steps, num_envs, ...) tensors with logprobs and values.

    Row t of what is seen and of memory belongs to the time before step t; they have one row more. A row's last action and
    reward are those of the step before, so that the action of step t stands in row t + 1.
    """
    final_obs = []
    rows = {key: x.unbind() for key, x in buffer.items()}  # views of each step
    num_steps = len(rows["terminated"])
    noise = gumbel((num_steps, envs.num_envs, envs.num_actions), envs.device)
    for key, x in lanes.named_buffers():
        rows[key][0].copy_(x)
    for t in range(num_steps):
        rows["obs"][t].copy_(envs.obs)
        rows["starts"][t].copy_(envs.starts)
        action, memory = act(*(rows[key][t] for key in (*SEEN, "memory")), noise[t])
        _, reward, terminated, truncated, info = envs.step(action)
        rows["memory"][t + 1].copy_(memory)
        rows["last_actions"][t + 1].copy_(action)
        rows["last_rewards"][t + 1].copy_(reward)
        rows["terminated"][t].copy_(terminated)
        rows["truncated"][t].copy_(truncated)
        if not envs.dense:
            rows["valid"][t].copy_(info["valid"])
        final_obs.append(info["final_obs"])
    rows["obs"][-1].copy_(envs.obs)
    rows["starts"][-1].copy_(envs.starts)
    for key, x in lanes.named_buffers():
        x.copy_(rows[key][-1])

    b = {**buffer, "actions": buffer["last_actions"][1:], "rewards": buffer["last_rewards"][1:]}
    b["done"] = done = b["terminated"] | b["truncated"]
    logits, b["values"] = agent.read(buffer["memory"][1:])
    b["logprobs"] = logits.log_softmax(-1).gather(-1, b["actions"].unsqueeze(-1)).squeeze(-1)
    last_value = agent(*(buffer[key][-1:] for key in SEEN), lanes.memory)[1]
    b["next_values"] = torch.cat([b["values"][1:], last_value])
    if envs.dense:
        seen = torch.cat(final_obs), b["actions"].flatten(), b["rewards"].flatten(), torch.zeros_like(done).flatten()
        final_values = agent(*(x.unsqueeze(0) for x in seen), buffer["memory"][1:].flatten(0, 1))[1]
        b["next_values"] = torch.where(done, final_values.view_as(done), b["next_values"])
    elif done.any():  # the state reached, before any autoreset, with the memory of its episode
        seen = torch.cat(final_obs), b["actions"][done], b["rewards"][done], torch.zeros_like(done[done])
        b["next_values"][done] = agent(*(x.unsqueeze(0) for x in seen), buffer["memory"][1:][done])[1][0]
    return b


class RewardScale(nn.Module):
    """Divides rewards by the standard deviation of the discounted sums of all rewards so far, if that is above 1.

    Policy and value share a network: the errors of large values would drown the policy's gradient. Moments are merged rollout
    by rollout (Chan et al., 1983).
    """

    def __init__(self, num_envs, gamma):
        super().__init__()
        self.gamma = gamma
        self.register_buffer("sums", torch.zeros(num_envs))  # discounted, of each lane's rewards in its episode
        for name in ("mean", "spread", "count"):  # spread: sum of squared distances to the mean
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    def forward(self, rewards, done):
        """rewards, done (num_steps, num_envs) -> rewards (num_steps, num_envs)."""
        sums = []
        for reward, going_on in zip(rewards, ~done):
            sums.append(self.gamma * self.sums + reward)
            self.sums.copy_(sums[-1] * going_on)
        x = torch.stack(sums).double()
        delta, total = x.mean() - self.mean, self.count + x.numel()
        self.spread += (x - x.mean()).square().sum() + delta**2 * self.count * x.numel() / total
        self.mean += delta * x.numel() / total
        self.count.copy_(total)
        return rewards / (self.spread / self.count).sqrt().clamp(min=1.0).float()


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

    m is a minibatch of whole lanes, (num_steps, batch, ...), with the memory before its first step. Steps that a reset took
    are part of no mean.
    """
    logits, values, _ = agent(*(m[key] for key in SEEN), m["memory"])
    all_logprobs = logits.log_softmax(-1)
    log_ratio = all_logprobs.gather(-1, m["actions"].unsqueeze(-1)).squeeze(-1) - m["logprobs"]
    entropies, advantages, returns = -(all_logprobs.exp() * all_logprobs).sum(-1), m["advantages"], m["returns"]
    if "valid" in m:
        log_ratio, values, entropies, advantages, returns = (
            x[m["valid"]] for x in (log_ratio, values, entropies, advantages, returns)
        )
    ratio = log_ratio.exp()
    if args.norm_advantages:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    clipped = ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
    policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
    value_loss = (values - returns).square().mean()
    entropy = entropies.mean()
    loss = policy_loss + args.vf_coef * value_loss - args.ent_coef * entropy
    metrics = {"loss/policy": policy_loss, "loss/value": value_loss, "entropy": entropy}
    metrics["approx_kl"] = (ratio - 1 - log_ratio).mean()
    return loss, {key: x.detach() for key, x in metrics.items()}


def gradient(agent, m, args):
    """Gradient of ppo_loss as one vector in the order of agent.parameters(), at most max_grad_norm long, and metrics."""
    loss, metrics = ppo_loss(agent, m, args)
    grad = torch.cat([x.flatten() for x in torch.autograd.grad(loss, list(agent.parameters()))])
    return grad * (args.max_grad_norm / (grad.norm() + 1e-6)).clamp(max=1.0), metrics


def update(agent, optimizer, b, args):
    """num_epochs passes over the rollout in minibatches of lanes. Returns the last one's metrics."""
    keys = (*SEEN, "actions", "logprobs", "advantages", "returns", "valid")
    batch = {key: b[key][: args.num_steps] for key in keys if key in b}
    for _ in range(args.num_epochs):
        for lanes in common.permutation(args.num_envs, b["done"].device).chunk(args.num_minibatches):
            m = {key: x.index_select(1, lanes) for key, x in batch.items()}
            m["memory"] = b["memory"][0].index_select(0, lanes)
            grad, metrics = gradient(agent, m, args)
            optimizer.step(grad)
        if args.target_kl and metrics["approx_kl"] > args.target_kl:
            break
    return metrics


def train(args):
    run = common.start(args, __file__)
    envs = run.make_envs(args.num_envs, on_device=True)
    agent = Agent(envs, args).to(run.device)
    optimizer = common.Adam(agent, args.learning_rate, eps=1e-5)
    lanes = Lanes(agent, args.num_envs).to(run.device)
    scale = RewardScale(args.num_envs, args.gamma).to(run.device)
    act = torch.no_grad()(common.compiled(agent.step, agent)) if args.compile else agent.step
    buffer = make_buffer(envs, agent, args.num_steps)
    envs.reset(seed=run.env_seed)
    run.persist(agent=agent, optimizer=optimizer, lanes=lanes, scale=scale, envs=envs)

    def iterate():
        b = rollout(agent, act, envs, lanes, buffer)
        rewards = scale(b["rewards"], b["done"]) if args.scale_rewards else b["rewards"]
        b["advantages"] = gae(rewards, b["values"], b["next_values"], b["terminated"], b["done"], args.gamma, args.gae_lambda)
        b["returns"] = b["advantages"] + b["values"]
        return update(agent, optimizer, b, args)

    if envs.dense and not args.target_kl:  # nothing waits for the device: a GPU replays the iteration as one graph
        iterate = common.captured(iterate, run.device)
    for step in run.steps(args.num_envs * args.num_steps):
        if args.anneal_lr:
            progress = (step - args.num_envs * args.num_steps) / args.total_timesteps
            optimizer.learning_rate.fill_(args.learning_rate * (1 - progress))
        metrics = iterate()
        run.log(step, {**envs.episode_metrics(), **metrics})
    if args.eval_episodes:
        played = run.make_envs(args.num_envs)
        policy = lambda obs: agent.act(obs, played.starts, played.reward)
        run.summary.update(common.evaluate(policy, played, args.eval_episodes, run.eval_seed))
    run.close()
    return run


if __name__ == "__main__":
    common.main(train, Args)
