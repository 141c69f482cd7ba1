"""Noisy televisions: a part of the observation that shows pure noise, at random or when the agent presses the button."""

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from explore_gym.wrappers.lanes import LaneWrapper, box, is_integer, is_number


class NoisyTV(LaneWrapper):
    """Base of both televisions: where the noise goes, and of what kind it is.

    Noise is uniform between low and high, both included for integer observations. A television that extends the observation
    adds entries along its last axis: components of a vector, channels of an image.

    Args:
        region: the part that the television covers: an index into the array of one lane, such as `np.s_[2:5]` or
            `np.s_[:, :3]`.
        size: instead of a region, the number of entries to add along the last axis.
        key: which entry of a Dict observation.
        low, high: range of the noise; by default the bounds of the observation.

    Raises:
        ValueError: an argument doesn't fit the observation, which must be a Box or a Dict with a Box at `key`.
    """

    def __init__(
        self,
        env: VectorEnv,
        region: Any = None,
        size: int | None = None,
        key: str | None = None,
        low: float | None = None,
        high: float | None = None,
    ):
        super().__init__(env)
        space: Any = env.single_observation_space
        if isinstance(space, spaces.Dict) and key not in space.spaces:
            raise ValueError(f"key must be one of {sorted(space.spaces)} for a Dict observation, got {key!r}")
        if not isinstance(space, spaces.Dict) and key is not None:
            raise ValueError(f"key must be None for an observation that is no Dict, got {key!r}")
        part: Any = space if key is None else space.spaces[key]
        if not (isinstance(part, spaces.Box) and part.shape):
            raise ValueError(f"the television needs a Box with at least one axis, got {part}")
        if (region is None) == (size is None):
            raise ValueError(f"give either region or size, got region={region!r} and size={size!r}")
        self.key, self.shape, self.size, self.dtype = key, part.shape, size, part.dtype
        self.low, self.high = noise_range(part, low, high)
        if size is not None:
            if not (is_integer(size) and size >= 1):
                raise ValueError(f"size must be a positive integer, got {size!r}")
            added = (*self.shape[:-1], size)
            self.count = int(np.prod(added))
            lowest = np.concatenate([part.low, np.full(added, self.low)], axis=-1)
            highest = np.concatenate([part.high, np.full(added, self.high)], axis=-1)
        else:
            covered = np.zeros(self.shape, bool)
            try:
                covered[region] = True
            except (IndexError, TypeError) as error:
                raise ValueError(f"region must index an array of shape {self.shape}, got {region!r} ({error})") from None
            self.where = np.flatnonzero(covered)
            self.count = len(self.where)
            if self.count == 0:
                raise ValueError(f"region must cover some of an array of shape {self.shape}, got {region!r}")
            lowest = np.where(covered, np.minimum(part.low, self.low), part.low)
            highest = np.where(covered, np.maximum(part.high, self.high), part.high)
        changed = box(lowest, highest, like=part)
        self.set_observation_space(changed if key is None else spaces.Dict({**space.spaces, key: changed}))
        self.on = np.zeros(self.num_envs, bool)
        self.screen = np.full((self.num_envs, self.count), self.low, self.dtype)

    def extend(self, obs, index):
        if self.key is None:
            return self._show(obs, index)
        return {**obs, self.key: self._show(obs[self.key], index)}

    def _show(self, image, index):
        lead = image.shape[: image.ndim - len(self.shape)]  # (num_envs,), or () for one lane
        if self.size is not None:
            return np.concatenate([image, self.screen[index].reshape(*lead, *self.shape[:-1], self.size)], axis=-1)
        flat = image.reshape(*lead, -1).copy()
        flat[..., self.where] = np.where(self.on[index][..., None], self.screen[index], flat[..., self.where])
        return flat.reshape(image.shape)

    def _switch(self, lanes):
        """Show new noise in the given lanes."""
        u = self.random.uniform(self.count + 1, lanes)[:, 1:]
        if self.dtype.kind in "iu":
            self.screen[lanes] = np.floor(self.low + u * (self.high - self.low + 1))
        else:
            self.screen[lanes] = self.low + u * (self.high - self.low)


class RandomTV(NoisyTV):
    """A television that is on with probability p at each step, independently, and then shows new noise.

    While it is off, what it covers is to be seen, and what it adds is `low`. The first observation of an episode counts as
    a step.

    Args:
        p: probability, in [0, 1].
        region, size, key, low, high: as in `NoisyTV`.
    """

    def __init__(self, env: VectorEnv, p: float = 1.0, **kwargs: Any):
        super().__init__(env, **kwargs)
        if not (is_number(p) and 0.0 <= p <= 1.0):
            raise ValueError(f"p must lie in [0, 1], got {p!r}")
        self.p = p

    def advance(self, lanes, actions, obs, reward, terminated, truncated, info):
        self._draw(lanes)
        return reward

    def start(self, lanes, obs, info):
        self._draw(lanes)

    def _draw(self, lanes):
        self.on[lanes] = self.random.uniform(1)[lanes, 0] < self.p
        self.screen[lanes] = self.low
        self._switch(lanes & self.on)
        self.random.skip(lanes, self.count + 1)


class ControllableTV(NoisyTV):
    """A television that shows new noise exactly when the agent takes one action, and is a still picture otherwise.

    The picture is `low` all over when an episode starts, and covers what lies behind it all the time. What the action does
    in the environment it does as before.

    Args:
        action: the action that switches, an element of the environment's Discrete actions.
        region, size, key, low, high: as in `NoisyTV`.
    """

    def __init__(self, env: VectorEnv, action: int, **kwargs: Any):
        super().__init__(env, **kwargs)
        space = env.single_action_space
        if not (isinstance(space, spaces.Discrete) and is_integer(action) and space.contains(int(action))):
            raise ValueError(f"action must be an element of the environment's Discrete actions, {space}, got {action!r}")
        self.action = action
        self.on[:] = True

    def advance(self, lanes, actions, obs, reward, terminated, truncated, info):
        pressed = lanes & (np.asarray(actions) == self.action)
        self._switch(pressed)
        self.random.skip(pressed, self.count + 1)
        return reward

    def start(self, lanes, obs, info):
        self.screen[lanes] = self.low


def noise_range(part, low, high):
    """Lowest and highest value of the noise: those given, or the bounds of the Box."""
    whole = part.dtype.kind in "iu"
    limits = np.iinfo(part.dtype) if whole else np.finfo(part.dtype)
    low, high = part.low.min().item() if low is None else low, part.high.max().item() if high is None else high
    if not all(is_number(x) and limits.min <= x <= limits.max for x in (low, high)) or low >= high:
        raise ValueError(f"low and high must be finite numbers of {part.dtype} with low < high, got {low!r} and {high!r}")
    if whole and not (float(low).is_integer() and float(high).is_integer()):
        raise ValueError(f"low and high must be whole numbers for {part.dtype}, got {low!r} and {high!r}")
    return low, high
