"""A Gymnasium vector environment seen by a learner: torch tensors, one meaning in every autoreset mode, episode statistics."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import nn

from explore_gym.agents.common.errors import UsageError

SYMBOLIC_SIZES = (11, 6, 4)  # numbers of Minigrid's object, colour and state codes
MAX_CODES = 32  # bytes that are declared to stay below this are codes


def make_vec(
    env_id: str, num_envs: int, env_kwargs: dict, autoreset_mode: str, device: torch.device | None = None
) -> gym.vector.VectorEnv:
    """Makes a vector env in the autoreset mode asked for; a world with several agents has a lane for each of them.

    With a device, environments of the suite with one agent are on it, if the mode is SameStep.

    Raises:
        UsageError: unknown id, kwargs that the environment refuses, or lanes that don't fill whole worlds.
    """
    import explore_gym  # noqa: F401  registers the Explore ids
    from explore_gym.envs.engine import KernelEnv
    from explore_gym.envs.xland.lanes import AgentLanes

    try:
        spec = gym.spec(env_id)
        if spec.namespace == "Explore":
            if device is not None and autoreset_mode == "SameStep":
                env = gym.make(env_id, **env_kwargs).unwrapped
                if isinstance(env, KernelEnv) and getattr(env, "num_agents", 1) == 1:
                    options = {"autoreset_mode": autoreset_mode, "device": device, "copy": False}
                    return gym.make_vec(env_id, num_envs=num_envs, **options, **env_kwargs)
            envs = gym.make_vec(env_id, num_envs=num_envs, autoreset_mode=autoreset_mode, **env_kwargs)
            agents = getattr(envs.unwrapped.env, "num_agents", 1)
            if agents == 1:
                return envs
            envs.close()
            if num_envs % agents:
                raise UsageError(f"num_envs must be a multiple of {agents}, the number of agents in a world, got {num_envs}")
            return AgentLanes(gym.make_vec(env_id, num_envs=num_envs // agents, autoreset_mode=autoreset_mode, **env_kwargs))
        if spec.vector_entry_point and autoreset_mode == "NextStep":  # Gymnasium's own batches, which know this mode alone
            return gym.make_vec(env_id, num_envs=num_envs, **env_kwargs)
        vector_kwargs = {"autoreset_mode": AutoresetMode(autoreset_mode)}
        return gym.make_vec(env_id, num_envs=num_envs, vectorization_mode="sync", vector_kwargs=vector_kwargs, **env_kwargs)
    except (gym.error.Error, TypeError, ValueError, ModuleNotFoundError) as error:
        raise UsageError(f"cannot make {env_id!r} with kwargs {env_kwargs}: {error}") from error


@dataclass(frozen=True)
class Part:
    """Columns start:stop of an observation row: numbers, an image (H, W, C) of bytes, or categories with sizes."""

    name: str
    start: int
    stop: int
    shape: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    offsets: tuple[int, ...] = ()  # smallest category, subtracted

    @property
    def kind(self) -> str:
        return "categories" if self.sizes else "image" if len(self.shape) == 3 else "numbers"

    @property
    def symbolic(self) -> bool:
        """Whether this is a grid of (object, colour, state) codes as Minigrid draws it, rather than a photograph."""
        return self.kind == "image" and self.shape[2] == 3 and max(self.shape) <= 32


def obs_layout(space: spaces.Space) -> list[Part]:
    """Where each component of a Box, Discrete, MultiDiscrete or Dict observation lies in a row; Text is left out.

    A Box of bytes whose upper bounds are below MAX_CODES is categories.

    Raises:
        UsageError: another kind of space, or nothing left.
    """
    named = sorted(space.items()) if isinstance(space, spaces.Dict) else [("", space)]
    parts: list[Part] = []
    start = 0
    for name, component in named:
        if isinstance(component, spaces.Text) and isinstance(space, spaces.Dict):
            continue  # an instruction in words; the agents here see none
        if isinstance(component, spaces.Box) and component.dtype == np.uint8 and component.high.max() < MAX_CODES:
            sizes = (component.high.ravel() + 1).tolist()
            size = len(sizes)
            part = Part(name, start, start + size, sizes=tuple(sizes))
        elif isinstance(component, spaces.Box):
            size = int(np.prod(component.shape))
            image = len(component.shape) == 3 and component.dtype == np.uint8
            part = Part(name, start, start + size, shape=component.shape if image else (size,))
        elif isinstance(component, spaces.Discrete):
            size = 1
            part = Part(name, start, start + 1, sizes=(int(component.n),), offsets=(int(component.start),))
        elif isinstance(component, spaces.MultiDiscrete):
            sizes, offsets = component.nvec.ravel().tolist(), component.start.ravel().tolist()
            size = len(sizes)
            part = Part(name, start, start + size, sizes=tuple(sizes), offsets=tuple(offsets))
        elif isinstance(component, spaces.MultiBinary):
            size = int(np.prod(component.shape))
            part = Part(name, start, start + size, shape=(size,))
        else:
            raise UsageError(
                f"observations must be Box, Discrete, MultiDiscrete, MultiBinary or a Dict of those, got {component}"
            )
        parts.append(part)
        start += size
    if not parts:
        raise UsageError(f"no component of {space} can be observed")
    return parts


def rows_dtype(space: spaces.Space) -> torch.dtype:
    """The type of observation rows: uint8 if all components are, else float32."""
    components = space.values() if isinstance(space, spaces.Dict) else [space]
    bytes_only = all(c.dtype == np.uint8 for c in components if not isinstance(c, spaces.Text))
    return torch.uint8 if bytes_only else torch.float32


def actions_of(space: spaces.Space) -> tuple[int, int]:
    """The number of actions, and the first of them.

    Raises:
        UsageError: the space isn't Discrete.
    """
    if not isinstance(space, spaces.Discrete):
        raise UsageError(f"the action space must be Discrete, got {space}")
    return int(space.n), int(space.start)


class Features(nn.Module):
    """Observation rows (batch, obs_dim) -> float32 features (batch, dim), without parameters.

    Categories become one-hot, and so do the codes of symbolic images if `symbolic`; other images are divided by 255. A code
    beyond its part's has no feature.
    """

    dense: torch.Tensor  # columns taken as numbers, times scales
    scales: torch.Tensor
    columns: torch.Tensor  # columns of codes: column columns[i] has sizes[i] of them, features from firsts[i] on
    sizes: torch.Tensor
    firsts: torch.Tensor

    def __init__(self, layout: list[Part], symbolic: bool = True):
        super().__init__()
        dense: list[int] = []
        scales: list[float] = []
        columns: list[int] = []
        sizes: list[int] = []
        for part in layout:
            span = range(part.start, part.stop)
            found = SYMBOLIC_SIZES * (len(span) // 3) if symbolic and part.symbolic else part.sizes
            if found:
                columns += span
                sizes += found
            else:
                dense += span
                scales += [1 / 255 if part.kind == "image" else 1.0] * len(span)
        self.dim = len(dense) + sum(sizes)
        self.scaled = any(scale != 1.0 for scale in scales)
        self.register_buffer("dense", torch.tensor(dense, dtype=torch.long), persistent=False)
        self.register_buffer("scales", torch.tensor(scales), persistent=False)
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.long), persistent=False)
        self.register_buffer("sizes", torch.tensor(sizes, dtype=torch.long), persistent=False)
        self.register_buffer("firsts", self.sizes.cumsum(0) - self.sizes + len(dense), persistent=False)
        self.dense_span, self.columns_span = span_of(dense), span_of(columns)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        dense = rows[:, self.dense if self.dense_span is None else self.dense_span].float()
        if self.scaled:
            dense = dense * self.scales
        if not len(self.columns):
            return dense
        codes = rows[:, self.columns if self.columns_span is None else self.columns_span].long()
        known = (codes >= 0) & (codes < self.sizes)
        x = dense.new_zeros(len(rows), self.dim)
        x[:, : len(self.dense)] = dense
        return x.scatter_(1, self.firsts + torch.where(known, codes, 0), known.float())


def span_of(columns: list[int]) -> slice | None:
    """Columns in a row as a slice, which is cheaper to take than a list of them; None if there are gaps."""
    span = slice(columns[0], columns[-1] + 1) if columns else slice(0)
    return span if columns == list(range(span.start or 0, span.stop)) else None


class TorchVectorEnv:
    """Steps a vector env with tensors and tells the same story in every autoreset mode.

    `reset(seed)` returns obs; `step(action)` returns (next_obs, reward, terminated, truncated, info):

    - next_obs (num_envs, obs_dim), uint8 if all components are, else float32: what to act on next, on `device`;
    - reward float32, terminated, truncated bool (num_envs,), on the CPU;
    - info["valid"] bool (num_envs,): False where NEXT_STEP spent this step on a reset; leave these out of any loss;
    - info["final_obs"] (number done, obs_dim): last obs of the episodes that ended in this step, in lane order;
    - info["reached"]: the env's own info dict about the state reached, before any autoreset.

    `starts` bool (num_envs,), on `device`: which lanes have an episode's first observation in `obs`, or none to act on
    (NEXT_STEP before a reset). `reward`: that of the last step. Where worlds have several agents, `num_agents` lanes in a
    row are one world.

    `episode_metrics()` averages return, length and the float or bool infos at the end of episodes since its last call; with
    several agents in a world also the return of each.
    """

    dense = False  # final_obs has rows for ended episodes only, see `DeviceVectorEnv`

    def __init__(self, envs: gym.vector.VectorEnv, device: torch.device | str = "cpu"):
        self.envs, self.device, self.num_envs = envs, torch.device(device), envs.num_envs
        self.mode = envs.metadata["autoreset_mode"]
        self.num_agents = envs.num_agents if hasattr(envs, "worlds") else 1
        self.worlds = getattr(envs, "worlds", envs).unwrapped  # what has a state
        self.layout = obs_layout(envs.single_observation_space)
        self.obs_dim = self.layout[-1].stop
        self.obs_dtype = rows_dtype(envs.single_observation_space)
        self.num_actions, self.first_action = actions_of(envs.single_action_space)
        self.resetting = np.zeros(self.num_envs, bool)  # lanes whose next step is a reset (NEXT_STEP only)
        self.episode_return = np.zeros(self.num_envs)
        self.episode_length = np.zeros(self.num_envs, np.int64)
        self.sums: dict[str, float] = {}
        self.num_episodes = 0
        self.obs = torch.zeros(self.num_envs, self.obs_dim, dtype=self.obs_dtype, device=self.device)
        self.reward = torch.zeros(self.num_envs)

    @property
    def starts(self) -> torch.Tensor:
        return torch.from_numpy(self.episode_length == 0).to(self.device)

    def rows(self, obs: Any) -> torch.Tensor:
        """Flattens a batch of observations into (batch, obs_dim)."""
        dtype = np.uint8 if self.obs_dtype is torch.uint8 else np.float32
        components = [obs[part.name] if part.name else obs for part in self.layout]
        flat = [np.asarray(c).reshape(len(c), -1) for c in components]
        for i, part in enumerate(self.layout):
            if any(part.offsets):
                flat[i] = flat[i] - np.asarray(part.offsets)
        joined = flat[0] if len(flat) == 1 else np.concatenate(flat, 1, dtype=dtype, casting="unsafe")
        return torch.from_numpy(np.ascontiguousarray(joined, dtype)).to(self.device)

    def reset(self, seed: int | None = None) -> torch.Tensor:
        obs, _ = self.envs.reset(seed=seed)
        self.resetting[:] = False
        self.episode_return[:], self.episode_length[:] = 0.0, 0
        self.sums, self.num_episodes = {}, 0
        self.obs, self.reward = self.rows(obs), torch.zeros(self.num_envs)
        return self.obs

    def step(self, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, dict]:
        obs, reward, terminated, truncated, info = self.envs.step(action.cpu().numpy() + self.first_action)
        done = terminated | truncated
        valid = ~self.resetting
        self.episode_return += reward
        self.episode_length += valid
        reached = info
        final = obs  # indexed by `done` below: NEXT_STEP and DISABLED return the last obs itself
        if self.mode == AutoresetMode.SAME_STEP and "final_obs" in info:
            reached, final = info["final_info"], info["final_obs"]
        any_done = done.any()
        if any_done:
            final_obs = self.rows(take(final, done))
            self._record(done, reached)
            if self.mode == AutoresetMode.DISABLED:
                obs, _ = self.envs.reset(options={"reset_mask": done})
        else:
            final_obs = self.obs[:0]
        if self.mode == AutoresetMode.NEXT_STEP:
            self.resetting = done
        self.obs = self.rows(obs)
        self.reward = torch.from_numpy(np.asarray(reward, np.float32))
        info = {"valid": torch.from_numpy(valid), "final_obs": final_obs, "reached": reached}
        return self.obs, self.reward, torch.from_numpy(terminated), torch.from_numpy(truncated), info

    def _record(self, done: np.ndarray, reached: dict) -> None:
        ended = {"episode_return": self.episode_return[done], "episode_length": self.episode_length[done]}
        for key, value in reached.items():
            metric = isinstance(value, np.ndarray) and value.shape == done.shape and value.dtype.kind in "fb"
            if metric and not key.startswith("_"):
                ended[key] = value[done]
        for agent in range(self.num_agents if self.num_agents > 1 else 0):  # its share of the mean, times their number
            own = np.arange(self.num_envs) % self.num_agents == agent
            ended[f"episode_return/agent_{agent}"] = self.num_agents * (self.episode_return * own)[done]
        for key, value in ended.items():
            self.sums[key] = self.sums.get(key, 0.0) + float(value.sum())
        self.num_episodes += int(done.sum())
        self.episode_return[done], self.episode_length[done] = 0.0, 0

    def episode_metrics(self) -> dict[str, float]:
        metrics = {key: total / self.num_episodes for key, total in self.sums.items()}
        self.sums, self.num_episodes = {}, 0
        return metrics

    def state_dict(self) -> dict:
        """Everything that a resumed run needs, as tensors and plain values; env is None where it offers no snapshot."""
        snapshot = None
        if hasattr(self.worlds, "get_state"):
            snapshot = torch.from_numpy(np.frombuffer(self.worlds.get_state().tobytes(), np.uint8).copy())
        names = ("resetting", "episode_return", "episode_length")
        arrays = {name: torch.from_numpy(getattr(self, name).copy()) for name in names}
        return {"env": snapshot, "obs": self.obs, "sums": self.sums, "num_episodes": self.num_episodes, **arrays}

    def load_state_dict(self, state: dict) -> None:
        if state["env"] is None:
            warnings.warn("this environment offers no snapshot: it starts from a reset, the curve may differ", stacklevel=2)
            return
        self.envs.reset(seed=0)  # a fresh vector env wants one reset before anything else
        dtype = self.worlds.get_state().dtype
        self.worlds.set_state(np.frombuffer(state["env"].numpy().tobytes(), dtype).copy())
        for name in ("resetting", "episode_return", "episode_length"):
            setattr(self, name, state[name].numpy().copy())
        self.obs = state["obs"].to(self.device)
        self.sums, self.num_episodes = dict(state["sums"]), state["num_episodes"]

    def close(self) -> None:
        self.envs.close()


def take(obs: Any, mask: np.ndarray) -> Any:
    """Rows of a batch of observations; Gymnasium's `final_obs` holds one object per lane, None where not done."""
    if isinstance(obs, dict):
        return {key: take(value, mask) for key, value in obs.items() if isinstance(value, np.ndarray)}
    rows = obs[mask]
    if rows.dtype != object:
        return rows
    if isinstance(rows[0], dict):
        return {key: np.stack([row[key] for row in rows]) for key in rows[0] if not isinstance(rows[0][key], str)}
    return np.stack(rows)
