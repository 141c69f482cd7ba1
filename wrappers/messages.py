"""Messages as features: an integer of the info or a text of the observation becomes a one-hot vector."""

from collections.abc import Sequence

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from explore_gym.wrappers.lanes import LaneWrapper


class MessageFeatures(LaneWrapper):
    """Makes a message a one-hot component of the observation, float32 (vocabulary size,).

    With a number of messages as vocabulary, `info[key]` holds ids in 0..n-1: a float vector is extended by the one-hot
    vector, any other observation becomes a Dict that has it at `key`. In lanes whose info has no message it is zero.
    With a sequence of strings as vocabulary, the text `obs[key]` of a Dict observation is replaced by the one-hot vector.

    Args:
        key: name of the message.
        vocabulary: number of messages, or all texts in the order of their ids.

    Raises:
        ValueError: an argument is none of these; from `reset` and `step`, a message that the vocabulary lacks.
    """

    def __init__(self, env: VectorEnv, key: str, vocabulary: int | Sequence[str]):
        super().__init__(env)
        self.key, self.ids = key, {}
        space = env.single_observation_space
        if isinstance(vocabulary, int) and not isinstance(vocabulary, bool) and vocabulary >= 1:
            self.size = vocabulary
            self.add_component(key, self.size, 0.0, 1.0)
        elif isinstance(vocabulary, list | tuple) and vocabulary and all(isinstance(text, str) for text in vocabulary):
            if len(set(vocabulary)) < len(vocabulary):
                raise ValueError(f"vocabulary must hold each text once, got {vocabulary!r}")
            texts = (
                [name for name, part in space.items() if isinstance(part, spaces.Text)]
                if isinstance(space, spaces.Dict)
                else []
            )
            if not isinstance(space, spaces.Dict) or key not in texts:
                raise ValueError(f"key must name a Text of a Dict observation, one of {texts}, got {key!r}")
            self.ids = {text: k for k, text in enumerate(vocabulary)}
            self.size = len(vocabulary)
            self.set_observation_space(spaces.Dict({**space.spaces, key: spaces.Box(0.0, 1.0, (self.size,), np.float32)}))
        else:
            raise ValueError(f"vocabulary must be a positive integer or a non-empty list of strings, got {vocabulary!r}")
        self.one_hot = np.zeros((self.num_envs, self.size), np.float32)

    def advance(self, lanes, actions, obs, reward, terminated, truncated, info):
        self._read(lanes, info)
        return reward

    def start(self, lanes, obs, info):
        self._read(lanes, info)

    def extend(self, obs, index):
        if not self.ids:
            return self.join(obs, self.one_hot[index])
        batch = isinstance(index, slice)
        one_hot = np.eye(self.size, dtype=np.float32)[self._text_ids(obs[self.key] if batch else [obs[self.key]])]
        return {**obs, self.key: one_hot if batch else one_hot[0]}

    def _read(self, lanes, info):
        if self.ids:
            return
        self.one_hot[lanes] = 0.0
        if self.key not in info:
            return
        present = lanes & info.get("_" + self.key, lanes)
        ids = np.asarray(info[self.key])
        if ids.dtype.kind not in "iu" or ids.shape != lanes.shape:
            raise ValueError(f"info[{self.key!r}] must be integers of shape {lanes.shape}, got {ids.dtype} {ids.shape}")
        outside = present & ((ids < 0) | (ids >= self.size))
        if outside.any():
            raise ValueError(f"info[{self.key!r}] must lie in [0, {self.size}), got {ids[outside].tolist()}")
        self.one_hot[np.flatnonzero(present), ids[present]] = 1.0

    def _text_ids(self, texts):
        try:
            return np.array([self.ids[text] for text in texts])  # a batch of texts is a tuple of Python strings
        except KeyError as error:
            raise ValueError(f"obs[{self.key!r}] must be one of {list(self.ids)}, got {error}") from None
