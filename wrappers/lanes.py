"""What all wrappers share: the course of events in all autoreset modes, random numbers by lane, added components."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from numpy.typing import NDArray

ALL = slice(None)
Seed = int | Sequence[int | None] | None

GAMMA = 0x9E3779B97F4A7C15
MIX_1, MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
U11, U27, U30, U31 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)


class LaneWrapper(gym.vector.VectorWrapper):
    """A wrapper whose memory follows the episodes of each lane, in every autoreset mode.

    Subclasses override hooks. Each gets a mask of the lanes concerned, bool (num_envs,), and changes memory of those alone;
    `obs` and `info` are batches, valid in those lanes, in SAME_STEP mode those reached by the step before any autoreset.

    - `act(actions, lanes)` returns the actions for the wrapped environment and changes no memory, since it may refuse them;
    - `advance(lanes, actions, obs, reward, terminated, truncated, info)`: the lanes took a step; returns rewards (num_envs,);
    - `start(lanes, obs, info)`: the lanes begin an episode;
    - `extend(obs, index)` returns the observation made from the wrapped one and memory: of the batch if `index` is `ALL`,
      of lane `index` alone if that is an integer;
    - `report()` returns what the memory adds to the info: arrays (num_envs, ...) by name;
    - `reset_env(seed, options)` and `step_env(actions)` are the wrapped environment's `reset` and `step`.

    Raises:
        ValueError: env is not a vector environment or doesn't say its autoreset mode.
    """

    def __init__(self, env: VectorEnv):
        if not isinstance(env, VectorEnv):
            raise ValueError(f"env must be a gymnasium.vector.VectorEnv (see gym.make_vec), got {type(env).__name__}")
        super().__init__(env)
        mode = env.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise ValueError(f"env.metadata['autoreset_mode'] must be an AutoresetMode, got {mode!r}")
        self.metadata = dict(env.metadata)  # SyncVectorEnv writes into metadata that instances share
        self.autoreset_mode = mode
        self.pending = np.zeros(self.num_envs, bool)  # NEXT_STEP: the next step resets these lanes
        self.random = LaneRandom(self.num_envs, stream_of(self))
        self._component: tuple[str, bool] | None = None  # name, and whether it is joined to a vector

    def act(self, actions, lanes):
        return actions

    def advance(self, lanes, actions, obs, reward, terminated, truncated, info):
        return reward

    def start(self, lanes, obs, info):
        pass

    def extend(self, obs, index):
        return obs

    def report(self):
        return {}

    def reset_env(self, seed, options):
        return self.env.reset(seed=seed, options=options)

    def step_env(self, actions):
        return self.env.step(actions)

    def reset(self, *, seed: Seed = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start episodes in all lanes, or in those of `options["reset_mask"]`, bool (num_envs,)."""
        seeds = lane_seeds(seed, self.num_envs)
        obs, info = self.reset_env(seed, None if options is None else dict(options))  # SyncVectorEnv removes the mask from it
        lanes = reset_lanes(options, self.num_envs)
        self.random.seed(seeds, lanes)
        self.pending &= ~lanes
        self.start(lanes, obs, info)
        return self.extend(obs, ALL), {**info, **masked(self.report(), lanes)}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all lanes."""
        lanes = ~self.pending
        actions = self.act(actions, lanes)
        obs, reward, terminated, truncated, info = self.step_env(actions)
        done = terminated | truncated
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            reached = self._reached(obs, info, done)
            reward = self.advance(lanes, actions, reached[0], reward, terminated, truncated, reached[1])
            if "final_obs" in info:  # SyncVectorEnv has none where no episode ended
                info = {**info, **self._final(info, done)}
            if done.any():
                self.start(done, obs, info)
        else:
            if self.pending.any():
                self.start(self.pending, obs, info)
            reward = self.advance(lanes, actions, obs, reward, terminated, truncated, info)
            if self.autoreset_mode is AutoresetMode.NEXT_STEP:
                self.pending = done.copy()
        info = {**info, **masked(self.report(), np.ones(self.num_envs, bool))}
        return self.extend(obs, ALL), reward, terminated, truncated, info

    def set_observation_space(self, space: gym.Space) -> None:
        """Declare the observation of one lane."""
        self.single_observation_space, self.observation_space = space, batch_space(space, self.num_envs)

    def add_component(self, name: str, size: int, low: float, high: float) -> None:
        """Declare `size` more float components: joined to a float vector, otherwise the key `name` of a Dict.

        An observation that is neither becomes the key "observation" of one.

        Raises:
            ValueError: the Dict has that key.
        """
        space, added = self.env.single_observation_space, spaces.Box(low, high, (size,), np.float32)
        joined = isinstance(space, spaces.Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating)
        self._component = name, joined
        if isinstance(space, spaces.Box) and joined:
            low_bounds, high_bounds = np.concatenate([space.low, added.low]), np.concatenate([space.high, added.high])
            self.set_observation_space(box(low_bounds, high_bounds, like=space))
        elif isinstance(space, spaces.Dict):
            if name in space.spaces:
                raise ValueError(
                    f"the observation has a key {name!r} already, expected another name than {sorted(space.spaces)}"
                )
            self.set_observation_space(spaces.Dict({**space.spaces, name: added}))
        else:
            self.set_observation_space(spaces.Dict({"observation": space, name: added}))

    def join(self, obs: Any, features: NDArray) -> Any:
        """The observation, of a batch or of one lane, with the component that `add_component` declared."""
        assert self._component is not None, "add_component comes first"
        name, joined = self._component
        if joined:
            return np.concatenate([obs, features.astype(obs.dtype)], axis=-1)
        return {**(obs if isinstance(obs, dict) else {"observation": obs}), name: features.astype(np.float32)}

    def _reached(self, obs, info, done):
        """Observations and infos behind this step and before any autoreset, dense whatever form the environment gives."""
        if not done.any():
            return obs, info
        final_obs = info["final_obs"]
        if is_object_array(final_obs):
            space = self.env.single_observation_space
            rows = [final_obs[i] if done[i] else row for i, row in enumerate(iterate(self.env.observation_space, obs))]
            empty = create_empty_array(space, self.num_envs)
            final_obs = concatenate(space, rows, empty)
        return final_obs, overwritten(info, info["final_info"], done)

    def _final(self, info, done):
        """`final_obs` and `final_info` with what memory adds, dense or for the ended lanes alone, as they come."""
        final_obs = info["final_obs"]
        if is_object_array(final_obs):
            extended = np.full(self.num_envs, None, object)
            for i in np.flatnonzero(done).tolist():
                extended[i] = self.extend(final_obs[i], i)
            return {"final_obs": extended, "final_info": {**info["final_info"], **masked(self.report(), done)}}
        report = masked(self.report(), np.ones(self.num_envs, bool))
        return {"final_obs": self.extend(final_obs, ALL), "final_info": {**info["final_info"], **report}}


class LaneRandom:
    """A SplitMix64 stream for each lane, so that its numbers depend on its seed alone. Looking at them doesn't use them up.

    Args:
        num_envs: number of lanes.
        stream: tells apart the streams that several wrappers get from one seed.
    """

    def __init__(self, num_envs: int, stream: int):
        self.stream = np.uint64(stream * GAMMA % 2**64)
        self.state = np.random.default_rng().integers(2**64, size=num_envs, dtype=np.uint64)

    def seed(self, seeds: list[int | None], lanes: NDArray) -> None:
        """Start the streams of those lanes afresh that have a seed."""
        chosen = lanes & np.array([seed is not None for seed in seeds])
        words = np.array([((seed or 0) + GAMMA) % 2**64 for seed in seeds], np.uint64)
        self.state[chosen] = mix(mix(words[chosen]) + self.stream)

    def words(self, count: int, lanes: Any = ALL) -> NDArray:
        """The next random bits of the given lanes, uint64 (lanes, count)."""
        return mix(self.state[lanes][:, None] + np.uint64(GAMMA) * np.arange(1, count + 1, dtype=np.uint64))

    def uniform(self, count: int, lanes: Any = ALL) -> NDArray:
        """The next numbers in [0, 1), float64 (lanes, count)."""
        return (self.words(count, lanes) >> U11) * 2.0**-53

    def normal(self, count: int, lanes: Any = ALL) -> NDArray:
        """Standard normal numbers (Box and Muller, 1958), float64 (lanes, count); they use up 2 * count."""
        u = self.uniform(2 * count, lanes)
        return np.sqrt(-2.0 * np.log1p(-u[:, :count])) * np.cos(2.0 * np.pi * u[:, count:])

    def skip(self, lanes: NDArray, count: int) -> None:
        """Use up the next `count` numbers of those lanes."""
        self.state[lanes] += np.uint64(GAMMA * count % 2**64)


def mix(words: NDArray) -> NDArray:
    """SplitMix64's output function, uint64 arrays."""
    words = (words ^ (words >> U30)) * MIX_1
    words = (words ^ (words >> U27)) * MIX_2
    return words ^ (words >> U31)


def stream_of(wrapper: gym.vector.VectorWrapper) -> int:
    """A number for this class, another one for each wrapper of the same class in a stack."""
    stream, inner = zlib.crc32(type(wrapper).__name__.encode()), wrapper.env
    while isinstance(inner, gym.vector.VectorWrapper):
        stream, inner = stream + (type(inner) is type(wrapper)), inner.env
    return stream


def lane_seeds(seed: Any, num_envs: int) -> list[int | None]:
    """Each lane's seed: an int gives lane i seed + i."""
    if seed is None:
        return [None] * num_envs
    if is_integer(seed):
        seeds = [int(seed) + i for i in range(num_envs)]
    elif isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str) and len(seed) == num_envs:
        seeds = list(seed)
    else:
        raise ValueError(f"seed must be None, an integer or a sequence of {num_envs} integers and Nones, got {seed!r}")
    if not all(s is None or (is_integer(s) and s >= 0) for s in seeds):
        raise ValueError(f"seeds must be non-negative integers, got {seed!r}")
    return [None if s is None else int(s) for s in seeds]


def reset_lanes(options: dict[str, Any] | None, num_envs: int) -> NDArray:
    """The lanes that a reset with these options starts, bool (num_envs,)."""
    return np.array(options["reset_mask"]) if options and "reset_mask" in options else np.ones(num_envs, bool)


def box(low: NDArray, high: NDArray, like: Any) -> spaces.Box:
    """A Box with these bounds and the dtype of another one."""
    return spaces.Box(low.astype(like.dtype), high.astype(like.dtype), dtype=like.dtype.type)


def is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def is_object_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == object


def masked(report: Mapping[str, NDArray], lanes: NDArray) -> dict[str, NDArray]:
    """A report in the form of an info: zero outside `lanes`, each key with its mask, nothing shared with the memory."""
    info = {}
    for name, value in report.items():
        info[name], info["_" + name] = value.copy(), lanes.copy()
        info[name][~lanes] = 0
    return info


def overwritten(info: Mapping[str, Any], other: Mapping[str, Any], lanes: NDArray) -> dict[str, Any]:
    """An info whose given lanes have what `other` has for them, and whose other lanes have what they had.

    A key that one of the two lacks is zero, or None in an object array, where it is absent.
    """
    merged: dict[str, Any] = {}
    names = [key for part in (info, other) for key in part if not (key.startswith("_") and key[1:] in part)]
    for name in dict.fromkeys(names):
        if name in ("final_obs", "final_info"):
            continue
        values = [part.get(name) for part in (info, other)]
        own, new = (part.get("_" + name, np.full(len(lanes), name in part)) for part in (info, other))
        merged["_" + name] = np.where(lanes, new, own)
        if any(isinstance(value, dict) for value in values):
            merged[name] = overwritten(values[0] or {}, values[1] or {}, lanes)
            continue
        old, update = (blank(values[1 - k]) if value is None else value for k, value in enumerate(values))
        merged[name] = np.where(lanes.reshape(-1, *[1] * (old.ndim - 1)), update, old)
    return merged


def blank(array: Any) -> NDArray:
    """What Gymnasium puts where a lane has no value: zero, or None in an object array."""
    return np.full_like(array, None if array.dtype == object else 0)
