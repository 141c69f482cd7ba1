"""PPO with a causal transformer as its memory, discrete actions (Schulman et al., 2017, arXiv:1707.06347, eq. 7 and 9).

Each layer attends to the last `context` steps of the episode. Beside the observation the network sees its last action, the
reward for it, and where an episode starts (Duan et al., 2016, arXiv:1611.02779). The steps before a rollout are kept as they
were seen and encoded anew: acting and learning look at the same context with the same weights, nothing in it is stale. Where
a world has several agents, one policy plays them all against itself: each agent is a lane, with a context and rewards of its
own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from explore_gym.agents import common


@dataclass(kw_only=True)
class Args(common.Args):
    env: str = "Explore/MetaBandit-v0"  # any registered id
    num_envs: int = 64  # lanes; a world with several agents takes one for each
    context: int = 64  # steps that a layer sees, the present one included; 1: no memory
    d_model: int = 64
    num_layers: int = 2
    num_heads: int = 4  # per layer
    rl2: bool = True  # the network also sees its last action, the reward for it and the start of an episode
    num_steps: int = 64  # per env and rollout
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
        for name in ("context", "d_model", "num_layers", "num_heads", "num_steps", "num_epochs", "num_minibatches"):
            common.at_least(self, name, 1)
        for name in ("gamma", "gae_lambda"):
            common.within(self, name, 0.0, 1.0)
        if self.d_model % self.num_heads:
            raise common.UsageError(f"num_heads must divide d_model = {self.d_model}, got {self.num_heads}")
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


class Block(nn.Module):
    """Attention to the context and a feed-forward layer, each on a norm and added to what comes in."""

    def __init__(self, args):
        super().__init__()
        d, self.heads = args.d_model, args.num_heads
        self.norms = nn.ModuleList([nn.RMSNorm(d), nn.RMSNorm(d)])
        self.inputs, self.output = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.feed_forward = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))
        self.nearness = nn.Parameter(torch.zeros(args.num_heads, args.context))  # part of the score by the steps in between

    def forward(self, x, past, visible, distances):
        """x (num_steps, batch, d_model); past (earlier, batch, 2, heads, head_dim): keys and values of the steps before.

        visible (batch, 1, num_steps, earlier + num_steps), distances in steps (num_steps, earlier + num_steps). Returns x and
        its keys and values.
        """
        q, k, v = self.inputs(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        kept = torch.stack([k, v], 2)
        k, v = torch.cat([past, kept]).unbind(2)
        scores = torch.einsum("qbhd,kbhd->bhqk", q, k) / q.shape[-1] ** 0.5 + self.nearness[:, distances]
        weights = scores.masked_fill(~visible, -torch.inf).softmax(-1)
        x = x + self.output(torch.einsum("bhqk,kbhd->qbhd", weights, v).flatten(2))
        return x + self.feed_forward(self.norms[1](x)), kept


class Agent(nn.Module):
    """A policy and its value on the last `context` steps of the episode, in each layer."""

    def __init__(self, envs, args):
        super().__init__()
        self.inputs = Inputs(envs, args)
        self.encoder = nn.Linear(self.inputs.dim, args.d_model)
        self.blocks = nn.ModuleList([Block(args) for _ in range(args.num_layers)])
        self.norm = nn.RMSNorm(args.d_model)
        self.actor = layer(nn.Linear(args.d_model, envs.num_actions), 0.01)
        self.critic = layer(nn.Linear(args.d_model, 1), 1.0)
        self.context = args.context
        self.kept_shape = args.num_layers, 2, args.num_heads, args.d_model // args.num_heads
        self.last = None  # keys and values, episodes and action of the last calls of `act`

    def forward(self, obs, last_actions, last_rewards, starts, episodes, past, past_episodes):
        """Steps in a row, all (num_steps, batch, ...): what is seen of them and the number of the episode they belong to.

        past (earlier, batch, layers, 2, heads, head_dim) are the keys and values of the steps before, past_episodes (earlier,
        batch) their episodes. Returns logits (num_steps, batch, num_actions), values (num_steps, batch), and the keys and
        values of the steps.
        """
        known = torch.cat([past_episodes, episodes])
        index = torch.arange(len(known), device=obs.device)
        distances = index[len(past) :].unsqueeze(1) - index
        near = (distances >= 0) & (distances < self.context)
        visible = (near.unsqueeze(-1) & (episodes.unsqueeze(1) == known)).permute(2, 0, 1).unsqueeze(1)
        distances = distances.clamp(0, self.context - 1)
        x, kept = self.encoder(self.inputs(obs, last_actions, last_rewards, starts)), []
        for i, block in enumerate(self.blocks):
            x, keys_values = block(x, past[:, :, i], visible, distances)
            kept.append(keys_values)
        x = self.norm(x)
        return self.actor(x), self.critic(x).squeeze(-1), torch.stack(kept, 2)

    def replay(self, obs, last_actions, last_rewards, starts):
        """`forward` of steps without a past."""
        none, empty = starts[:0].long(), obs.new_zeros(0, obs.shape[1], *self.kept_shape, dtype=torch.float32)
        return self(obs, last_actions, last_rewards, starts, starts.cumsum(0), empty, none)

    def step(self, obs, last_action, last_reward, starts, episode, past, past_episodes, noise):
        """One step: the action drawn with `gumbel` noise, logits, value, keys and values, each (batch, ...)."""
        seen = (x.unsqueeze(0) for x in (obs, last_action, last_reward, starts, episode))
        logits, values, kept = self(*seen, past, past_episodes)
        return (logits[0] + noise).argmax(-1), logits[0], values[0], kept[0]

    @torch.no_grad()
    def act(self, obs, starts=None, rewards=None):
        """Draws actions for observation rows (batch, obs_dim), with those of the calls before as context.

        starts, bool (batch,): where an episode starts; in any case everywhere in the first call and with a new batch size.
        rewards (batch,): of the actions of the call before; by default 0.
        """
        if self.last is None or self.last[0].shape[1] != len(obs):
            past = torch.zeros(self.context - 1, len(obs), *self.kept_shape, device=obs.device)
            episodes = torch.zeros(self.context, len(obs), dtype=torch.long, device=obs.device)
            self.last = past, episodes, episodes[-1]
            starts = torch.ones(len(obs), dtype=torch.bool)
        past, episodes, action = self.last
        starts = torch.zeros(len(obs), dtype=torch.bool) if starts is None else starts
        rewards = torch.zeros(len(obs)) if rewards is None else rewards
        seen = obs, action, rewards.float().to(obs.device), starts.to(obs.device)
        episodes = torch.cat([episodes[1:], (episodes[-1] + seen[-1]).unsqueeze(0)])
        noise = gumbel((len(obs), self.actor.out_features), obs.device)
        action, _, _, kept = self.step(*seen, episodes[-1], past, episodes[:-1], noise)
        self.last = torch.cat([past, kept.unsqueeze(0)])[1:], episodes, action
        return action


def gumbel(shape, device):
    """Draws of the standard Gumbel distribution."""
    return torch.empty(shape, device=device).exponential_().log_().neg_()


class Lanes(nn.Module):
    """What each lane takes along from one rollout to the next: what was seen of the last `context` steps, the present included.

    All (context, num_envs, ...); before the first step there are rows of zeros, which belong to no episode.
    """

    def __init__(self, envs, context):
        super().__init__()
        shape = (context, envs.num_envs)
        self.register_buffer("obs", torch.zeros((*shape, envs.obs_dim), dtype=envs.obs_dtype))
        self.register_buffer("last_actions", torch.zeros(shape, dtype=torch.long))
        self.register_buffer("last_rewards", torch.zeros(shape))
        self.register_buffer("starts", torch.zeros(shape, dtype=torch.bool))


def make_buffer(envs, agent, num_steps):
    """Rollout storage: (num_steps, num_envs, ...); what is seen, episodes, keys and values also have the context before it."""
    shape, device = (num_steps, envs.num_envs), envs.device
    more = (agent.context + num_steps, envs.num_envs)
    buffer = {key: torch.zeros(shape, dtype=torch.bool, device=device) for key in ("terminated", "truncated", "valid")}
    buffer["logits"] = torch.zeros((*shape, envs.num_actions), device=device)
    buffer["values"] = torch.zeros((num_steps + 1, envs.num_envs), device=device)
    buffer["obs"] = torch.zeros((*more, envs.obs_dim), dtype=envs.obs_dtype, device=device)
    buffer["last_actions"] = torch.zeros(more, dtype=torch.long, device=device)
    buffer["last_rewards"] = torch.zeros(more, device=device)
    buffer["starts"] = torch.zeros(more, dtype=torch.bool, device=device)
    buffer["episodes"] = torch.zeros(more, dtype=torch.long, device=device)
    buffer["kept"] = torch.zeros((*more, *agent.kept_shape), device=device)
    return buffer


@torch.no_grad()
def rollout(agent, act, envs, lanes, buffer):
    """Plays the buffer full; returns a dict of (num_steps, num_envs, ...) tensors with logprobs and values.

    What is seen, episodes, keys and values have context - 1 rows more in front, from before the rollout, and one more behind. A
    row's last action and reward are those of the step before, so that the action of a step stands in the next row.
    """
    final_obs, before = [], agent.context - 1
    rows = {key: x.unbind() for key, x in buffer.items()}  # views of each step
    num_steps = len(rows["valid"])
    noise = gumbel((num_steps + 1, envs.num_envs, envs.num_actions), envs.device)
    for key, x in lanes.named_buffers():
        buffer[key][: agent.context].copy_(x)
    buffer["kept"][:before] = agent.replay(*(buffer[key][:before] for key in SEEN))[2]
    buffer["episodes"][:before] = buffer["starts"][:before].cumsum(0)
    episode = buffer["starts"][:before].sum(0)
    for t in range(num_steps + 1):
        now = before + t
        rows["obs"][now].copy_(envs.obs)
        rows["starts"][now].copy_(envs.starts)
        episode = episode + rows["starts"][now]
        rows["episodes"][now].copy_(episode)
        past = buffer["kept"][t:now], buffer["episodes"][t:now]
        action, logits, values, kept = act(*(rows[key][now] for key in (*SEEN, "episodes")), *past, noise[t])
        rows["values"][t].copy_(values)
        if t == num_steps:  # seen, but not acted on yet
            break
        rows["logits"][t].copy_(logits)
        rows["kept"][now].copy_(kept)
        _, reward, terminated, truncated, info = envs.step(action)
        rows["last_actions"][now + 1].copy_(action)
        rows["last_rewards"][now + 1].copy_(reward)
        rows["terminated"][t].copy_(terminated)
        rows["truncated"][t].copy_(truncated)
        rows["valid"][t].copy_(info["valid"])
        final_obs.append(info["final_obs"])
    for key, x in lanes.named_buffers():
        x.copy_(buffer[key][num_steps:])

    b = {**buffer, "actions": buffer["last_actions"][agent.context :], "rewards": buffer["last_rewards"][agent.context :]}
    b["done"] = done = b["terminated"] | b["truncated"]
    b["logprobs"] = buffer["logits"].log_softmax(-1).gather(-1, b["actions"].unsqueeze(-1)).squeeze(-1)
    b["values"], b["next_values"] = buffer["values"][:-1], buffer["values"][1:].clone()
    if done.any():  # the state reached, before any autoreset, in the context of its episode
        b["next_values"][done] = final_values(agent, b, torch.cat(final_obs))
    return b


def final_values(agent, b, final_obs):
    """V of the last observations of the episodes that ended in a rollout, in the order of b["done"]: (number done,)."""
    values, window = [], torch.arange(agent.context - 1, device=final_obs.device).unsqueeze(1)
    for obs, ends in zip(final_obs.split(256), b["done"].nonzero().split(256)):  # at once, they might be large
        t, lanes = ends.unbind(1)
        last = agent.context - 1 + t  # row of the last step
        seen = obs, b["actions"][t, lanes], b["rewards"][t, lanes], torch.zeros_like(t, dtype=torch.bool)
        past = t + 1 + window, lanes
        noise = torch.zeros(len(t), 1, device=obs.device)
        values.append(agent.step(*seen, b["episodes"][last, lanes], b["kept"][past], b["episodes"][past], noise)[2])
    return torch.cat(values)


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

    m is a minibatch of whole lanes, (num_steps, batch, ...), in which what is seen begins context - 1 steps earlier. Steps that
    a reset took are part of no mean.
    """
    logits, values, _ = agent.replay(*(m[key] for key in SEEN))
    logits, values = logits[agent.context - 1 :], values[agent.context - 1 :]
    all_logprobs = logits.log_softmax(-1)
    log_ratio = all_logprobs.gather(-1, m["actions"].unsqueeze(-1)).squeeze(-1) - m["logprobs"]
    entropies = -(all_logprobs.exp() * all_logprobs).sum(-1)
    valid = m["valid"]
    log_ratio, values, entropies, advantages, returns = (
        x[valid] for x in (log_ratio, values, entropies, m["advantages"], m["returns"])
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
    batch = {key: b[key][:-1] for key in SEEN}
    batch |= {key: b[key] for key in ("actions", "logprobs", "advantages", "returns", "valid")}
    for _ in range(args.num_epochs):
        for lanes in torch.randperm(args.num_envs, device=b["valid"].device).chunk(args.num_minibatches):
            m = {key: x.index_select(1, lanes) for key, x in batch.items()}
            grad, metrics = gradient(agent, m, args)
            optimizer.step(grad)
        if args.target_kl and metrics["approx_kl"] > args.target_kl:
            break
    return metrics


def train(args):
    run = common.start(args, __file__)
    envs = run.make_envs(args.num_envs)
    agent = Agent(envs, args).to(run.device)
    optimizer = common.Adam(agent, args.learning_rate, eps=1e-5)
    lanes = Lanes(envs, args.context).to(run.device)
    scale = RewardScale(args.num_envs, args.gamma).to(run.device)
    act = torch.no_grad()(common.compiled(agent.step, agent)) if args.compile else agent.step
    buffer = make_buffer(envs, agent, args.num_steps)
    envs.reset(seed=run.env_seed)
    run.persist(agent=agent, optimizer=optimizer, lanes=lanes, scale=scale, envs=envs)
    for step in run.steps(args.num_envs * args.num_steps):
        if args.anneal_lr:
            progress = (step - args.num_envs * args.num_steps) / args.total_timesteps
            optimizer.learning_rate.fill_(args.learning_rate * (1 - progress))
        b = rollout(agent, act, envs, lanes, buffer)
        rewards = scale(b["rewards"], b["done"]) if args.scale_rewards else b["rewards"]
        b["advantages"] = gae(rewards, b["values"], b["next_values"], b["terminated"], b["done"], args.gamma, args.gae_lambda)
        b["returns"] = b["advantages"] + b["values"]
        metrics = update(agent, optimizer, b, args)
        run.log(step, {**envs.episode_metrics(), **metrics})
    if args.eval_episodes:
        played = run.make_envs(args.num_envs)
        policy = lambda obs: agent.act(obs, played.starts, played.reward)
        run.summary.update(common.evaluate(policy, played, args.eval_episodes, run.eval_seed))
    run.close()
    return run


if __name__ == "__main__":
    common.main(train, Args)
