"""PPO with the clipped surrogate, discrete actions (Schulman et al., 2017, arXiv:1707.06347, eq. 7 and 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from explore_gym.agents import common


@dataclass(kw_only=True)
class Args(common.Args):
    num_steps: int = 128  # per env and rollout
    num_epochs: int = 4  # passes over one rollout
    num_minibatches: int = 4  # per epoch
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
    hidden: int = 64  # width of both layers of actor and critic
    encoder: Literal["auto", "mlp", "cnn"] = "auto"  # auto: symbolic grids one-hot, photographs cnn; mlp: pixels / 255

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_steps", "num_epochs", "num_minibatches", "hidden"):
            common.at_least(self, name, 1)
        for name in ("gamma", "gae_lambda"):
            common.within(self, name, 0.0, 1.0)
        batch = self.num_envs * self.num_steps
        if batch % self.num_minibatches or batch // self.num_minibatches < 2:
            raise common.UsageError(
                f"num_minibatches must divide num_envs * num_steps = {batch} into parts of 2 or more, "
                f"got {self.num_minibatches}"
            )


def layer(module, gain=2**0.5):
    """Orthogonal weights, zero biases."""
    nn.init.orthogonal_(module.weight, gain)
    nn.init.zeros_(module.bias)
    return module


class Pair(nn.Module):
    """Two linear layers as one product, (2, batch, num_inputs) -> (2, batch, num_outputs)."""

    def __init__(self, num_inputs, num_outputs):
        super().__init__()
        layers = [layer(nn.Linear(num_inputs, num_outputs)) for _ in range(2)]
        self.weight = nn.Parameter(torch.stack([x.weight.detach().T for x in layers]))
        self.bias = nn.Parameter(torch.zeros(2, 1, num_outputs))

    def forward(self, x):
        return torch.baddbmm(self.bias, x, self.weight)


class Encoder(nn.Module):
    """Observation rows (batch, obs_dim) -> features (batch, dim); only images that take the cnn have parameters."""

    def __init__(self, layout, kind):
        super().__init__()
        self.images = [p for p in layout if p.kind == "image" and kind != "mlp" and (kind == "cnn" or not p.symbolic)]
        self.features = common.Features([p for p in layout if p not in self.images], symbolic=kind == "auto")
        self.convs = nn.ModuleList()
        self.dim = self.features.dim
        for part in self.images:
            height, width, channels = part.shape
            if min(height, width) >= 36:  # Mnih et al., 2015
                shapes = [(channels, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1)]
            else:
                shapes = [(channels, 32, 3, 1), (32, 64, 3, 1)]
            convs = [m for shape in shapes for m in (layer(nn.Conv2d(*shape)), nn.ReLU())]
            conv = nn.Sequential(*convs, nn.Flatten())
            flat = conv(torch.zeros(1, channels, height, width)).shape[1]
            self.convs.append(conv.append(layer(nn.Linear(flat, 256))).append(nn.ReLU()))
            self.dim += 256

    def forward(self, rows):
        x = [self.features(rows)]
        for part, conv in zip(self.images, self.convs):
            image = rows[:, part.start : part.stop].unflatten(1, part.shape).permute(0, 3, 1, 2)
            x.append(conv(image / (10.0 if part.symbolic else 255.0)))
        return torch.cat(x, 1) if self.images else x[0]


class Agent(nn.Module):
    """Observation rows (batch, obs_dim) -> logits (batch, num_actions), values (batch,).

    Actor and critic share nothing, but layers of the same shape are computed together: half as many calls, and work for two
    threads in each.
    """

    def __init__(self, envs, args):
        super().__init__()
        self.encoder = Encoder(envs.layout, args.encoder)
        self.layers = nn.ModuleList([Pair(self.encoder.dim, args.hidden), Pair(args.hidden, args.hidden)])
        self.actor = layer(nn.Linear(args.hidden, envs.num_actions), 0.01)
        self.critic = layer(nn.Linear(args.hidden, 1), 1.0)

    def forward(self, obs):
        x = self.encoder(obs)
        x = x.expand(2, *x.shape)
        for pair in self.layers:
            x = pair(x).tanh()
        return self.actor(x[0]), self.critic(x[1]).squeeze(-1)

    def act(self, obs, noise=None):
        """A draw from softmax(logits): the largest of logits + noise, by default fresh `gumbel` noise."""
        x = self.encoder(obs)
        for pair in self.layers:
            x = torch.addmm(pair.bias[0], x, pair.weight[0]).tanh()
        logits = self.actor(x)
        return (logits + (gumbel(logits.shape, logits.device) if noise is None else noise)).argmax(-1)


def gumbel(shape, device):
    """Draws of the standard Gumbel distribution."""
    return torch.empty(shape, device=device).exponential_().log_().neg_()


def make_buffer(envs, num_steps):
    """Rollout storage, (num_steps, num_envs, ...); obs has one row more. What stays on the CPU moves once per rollout."""
    shape, device = (num_steps, envs.num_envs), envs.device
    source = device if envs.dense else "cpu"  # where the environments are
    buffer = {key: torch.zeros(shape, dtype=torch.bool, device=source) for key in ("terminated", "truncated")}
    buffer["rewards"] = torch.zeros(shape, device=source)
    if not envs.dense:
        buffer["valid"] = torch.zeros(shape, dtype=torch.bool)
    buffer["actions"] = torch.zeros(shape, dtype=torch.long, device=device)
    buffer["obs"] = torch.zeros((num_steps + 1, envs.num_envs, envs.obs_dim), dtype=envs.obs_dtype, device=device)
    return buffer


@torch.no_grad()
def rollout(agent, act, envs, buffer):
    """Plays the buffer full; returns a dict of (num_steps, num_envs, ...) tensors with logprobs and values.

    Only actions are computed on the way: logprobs and values follow in one batch, V(final_obs) of ended episodes too.
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
        if not envs.dense:
            rows["valid"][t].copy_(info["valid"])
        final_obs.append(info["final_obs"])
    b = {key: x.to(envs.device) for key, x in buffer.items()}
    b["obs"], b["done"] = buffer["obs"][:-1], b["terminated"] | b["truncated"]
    logits, values = forward(agent, buffer["obs"].flatten(0, 1))
    values = values.unflatten(0, buffer["obs"].shape[:2])
    logprobs = logits.log_softmax(-1).unflatten(0, buffer["obs"].shape[:2])[:-1]
    b["logprobs"] = logprobs.gather(-1, b["actions"].unsqueeze(-1)).squeeze(-1)
    b["values"], b["next_values"] = values[:-1], values[1:].clone()
    if envs.dense:  # the state reached, before any autoreset
        b["next_values"] = torch.where(b["done"], forward(agent, torch.cat(final_obs))[1].view_as(b["done"]), b["next_values"])
    else:
        b["next_values"][b["done"]] = agent(torch.cat(final_obs))[1]
    return b


def forward(agent, obs):
    """agent(obs) of many rows (batch, obs_dim), some at a time."""
    rows = 4096 if obs.device.type == "cpu" else 65536
    return tuple(torch.cat(x) for x in zip(*map(agent, obs.split(rows))))


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


def train(args):
    run = common.start(args, __file__, parallel=True)
    envs = run.make_envs(args.num_envs, on_device=True)
    agent = Agent(envs, args).to(run.device)
    optimizer = common.Adam(agent, args.learning_rate, eps=1e-5)
    act, learn_minibatch = agent.act, lambda batch, index: learn(agent, optimizer, batch, index, args)
    if args.compile:
        act, learn_minibatch = common.compiled(act, agent), common.compiled(learn_minibatch, agent, optimizer)
    buffer = make_buffer(envs, args.num_steps)
    envs.reset(seed=run.env_seed)
    run.persist(agent=agent, optimizer=optimizer, envs=envs)
    common.spread(optimizer.vector)

    def iterate():
        b = rollout(agent, act, envs, buffer)
        b["advantages"] = gae(
            b["rewards"], b["values"], b["next_values"], b["terminated"], b["done"], args.gamma, args.gae_lambda
        )
        b["returns"] = b["advantages"] + b["values"]
        return update(learn_minibatch, b, args)

    if envs.dense and not args.target_kl:  # nothing waits for the device: a GPU replays the iteration as one graph
        iterate = common.captured(iterate, run.device)
    batch_size = common.WORLD_SIZE * args.num_envs * args.num_steps
    for step in run.steps(batch_size):
        if args.anneal_lr:
            optimizer.learning_rate.fill_(args.learning_rate * (1 - (step - batch_size) / args.total_timesteps))
        metrics = iterate()
        run.log(step, {**envs.episode_metrics(), **metrics})
    if args.eval_episodes:
        run.summary.update(common.evaluate(agent.act, run.make_envs(args.num_envs), args.eval_episodes, run.eval_seed))
    run.close()
    return run


if __name__ == "__main__":
    common.main(train, Args)
