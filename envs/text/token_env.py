"""Text tasks as environments of tokens: the observation is what has been said so far, the action the next token.

A prompt becomes `bos` and its tokens; then the agent writes, token by token. Its response ends with `eos`, or where it has
`max_tokens` tokens without one; then it is verified. In a dialogue that goes on, either the reply's tokens follow, or the
context starts afresh with the next prompt, as the task says. All rewards but those at the end of a response are 0.

Observation: tokens int32 (context,), `pad` behind the first `length` of them; length; mask (context,), 1 where the agent wrote.
Action: Discrete(vocabulary).
"""

import inspect
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.error import InvalidAction
from gymnasium.vector import AutoresetMode

from explore_gym.envs.engine.env import Actions, check_keywords
from explore_gym.envs.text.env import TextEnv, TextVectorEnv
from explore_gym.envs.text.task import Task
from explore_gym.envs.text.tokenizers import ByteTokenizer, Tokenizer

LEVELS = ("tokens", "strings")


class TokenVectorEnv(TextVectorEnv):
    """A batch of a text task, token by token.

    Args:
        task: what is asked and how answers are verified.
        tokenizer: None for the task's own, "bytes", or any object with the interface of `tokenizers.Tokenizer`.
        max_tokens: of a response, eos included; None: as many as the task's own solutions need.
        num_envs, autoreset_mode, render_mode, max_episode_steps: as in `TextVectorEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        task: Task,
        num_envs: int = 1,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        tokenizer: str | Tokenizer | None = None,
        max_tokens: int | None = None,
    ):
        if isinstance(tokenizer, str) and tokenizer != "bytes":
            raise ValueError(f"tokenizer must be None, 'bytes' or a tokenizer, got {tokenizer!r}")
        self.tokenizer = task.tokenizer if tokenizer is None else ByteTokenizer() if isinstance(tokenizer, str) else tokenizer
        own = tokenizer is None
        prompt, reply = (task.prompt_tokens, task.reply_tokens) if own else (task.max_prompt, task.max_prompt)
        self.max_tokens = (task.response_tokens if own else task.max_response) + 1 if max_tokens is None else max_tokens
        if not (isinstance(self.max_tokens, int) and self.max_tokens > 0):
            raise ValueError(f"max_tokens must be a positive integer, got {max_tokens!r}")
        self.context = 1 + prompt + self.max_tokens
        if not task.fresh:
            self.context += (task.turns - 1) * (reply + self.max_tokens)
        super().__init__(task, num_envs, autoreset_mode, render_mode, max_episode_steps)
        self._actions = Actions(self.single_action_space)

    def _spaces(self):
        observation = spaces.Dict(
            tokens=spaces.Box(0, self.tokenizer.vocab_size - 1, (self.context,), np.int32),
            length=spaces.Discrete(self.context + 1),
            mask=spaces.MultiBinary(self.context),
        )
        return observation, spaces.Discrete(self.tokenizer.vocab_size)

    def _fields(self):
        return {
            "tokens": (np.int32, (self.context,)),
            "mask": (np.int8, (self.context,)),
            "length": np.int64,
            "start": np.int64,  # of the response that is being written
        }

    def _checked(self, actions):
        actions = self._actions.batch(actions, self.num_envs)
        bad = (actions < 0) | (actions >= self.tokenizer.vocab_size)
        if bad.any():
            lane = int(bad.argmax())
            raise InvalidAction(f"lane {lane}: action must be an element of {self.single_action_space}, got {actions[lane]}")
        return actions

    def _act(self, lanes, actions, reward, terminated):
        state, actions = self._state, actions[lanes]
        length = state["length"][lanes]
        state["tokens"][lanes, length] = actions
        state["mask"][lanes, length] = 1
        state["length"][lanes] = length = length + 1
        ended = (actions == self.tokenizer.eos) | (length - state["start"][lanes] >= self.max_tokens)
        if not ended.any():
            return
        lanes = lanes[ended]
        spans = zip(state["tokens"][lanes].tolist(), state["start"][lanes].tolist(), length[ended].tolist())
        replies = self._respond(lanes, [self.tokenizer.decode(tokens[start:end]) for tokens, start, end in spans])
        reward[lanes], terminated[lanes] = [reply.reward for reply in replies], [reply.terminated for reply in replies]
        go_on = ~terminated[lanes]
        if not go_on.any():
            return
        texts = [reply.text for reply in replies if not reply.terminated]
        if self.task.fresh:
            self._open(lanes[go_on], texts)
        else:
            self._append(lanes[go_on], [self.tokenizer.encode(text) for text in texts])

    def _open(self, lanes, prompts):
        state = self._state
        state["tokens"][lanes], state["mask"][lanes], state["length"][lanes] = self.tokenizer.pad, 0, 0
        self._append(lanes, [[self.tokenizer.bos, *self.tokenizer.encode(prompt)] for prompt in prompts])

    def _append(self, lanes, written):
        """Append tokens of the environment; a response starts behind them."""
        state = self._state
        for lane, ids in zip(lanes.tolist(), written):
            length = int(state["length"][lane])
            if length + len(ids) + self.max_tokens > self.context:
                room = self.context - length - self.max_tokens
                raise ValueError(f"a text of {len(ids)} tokens doesn't fit in the {room} that are left of the context")
            state["tokens"][lane, length : length + len(ids)] = ids
            state["length"][lane] = state["start"][lane] = length + len(ids)

    def _observe(self):
        return {key: self._state[key].copy() for key in ("tokens", "length", "mask")}

    def _draw(self, lane):
        record = self._state[lane]
        return self.tokenizer.decode(record["tokens"][: record["start"]]) + " | " + self._written(record)

    def _written(self, record):
        return self.tokenizer.decode(record["tokens"][record["start"] : record["length"]])

    def _like(self, num_envs, autoreset_mode=None):
        mode = autoreset_mode or self.autoreset_mode
        tokenizer = None if self.tokenizer is self.task.tokenizer else self.tokenizer
        options = dict(tokenizer=tokenizer, max_tokens=self.max_tokens)
        return TokenVectorEnv(self.task, num_envs, mode, self.render_mode, self.time_limit, **options)


class TokenEnv(TextEnv):
    """A single environment of tokens: a batch of one lane."""

    batch: TokenVectorEnv

    @property
    def tokenizer(self) -> Tokenizer:
        return self.batch.tokenizer

    def _first(self, obs):
        return {"tokens": obs["tokens"][0], "length": obs["length"][0], "mask": obs["mask"][0]}

    def _lane_of(self, action):
        return np.asarray([self.batch._actions.one(action)])


def environments(cls: type[Task]) -> tuple[Any, Any]:
    """The two constructors of a task's environments, single and batch, for the registry.

    Both take the task's arguments and `level` ("tokens" or "strings"), `render_mode` and `max_episode_steps`; at the level of
    tokens `tokenizer` and `max_tokens`; the batch `num_envs` and `autoreset_mode`.
    """

    def batch(level, tokenizer, max_tokens, kwargs, **options):
        check_keywords(cls, kwargs)
        if level not in LEVELS:
            raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {level!r}")
        task = cls(**kwargs)
        if level == "tokens":
            return TokenVectorEnv(task, tokenizer=tokenizer, max_tokens=max_tokens, **options)
        if tokenizer is not None or max_tokens is not None:
            raise ValueError("tokenizer and max_tokens are for level='tokens', not for level='strings'")
        return TextVectorEnv(task, **options)

    def single(level="tokens", tokenizer=None, max_tokens=None, render_mode=None, max_episode_steps=None, **kwargs):
        options = dict(render_mode=render_mode, max_episode_steps=max_episode_steps, autoreset_mode=AutoresetMode.DISABLED)
        lane = batch(level, tokenizer, max_tokens, kwargs, **options)
        return TokenEnv(lane) if level == "tokens" else TextEnv(lane)

    def vector(
        num_envs=1,
        autoreset_mode=AutoresetMode.NEXT_STEP,
        level="tokens",
        tokenizer=None,
        max_tokens=None,
        render_mode=None,
        max_episode_steps=None,
        **kwargs,
    ):
        options = dict(render_mode=render_mode, max_episode_steps=max_episode_steps, autoreset_mode=autoreset_mode)
        return batch(level, tokenizer, max_tokens, kwargs, num_envs=num_envs, **options)

    own = list(inspect.signature(cls).parameters.values())
    for make, suffix in ((single, "Env"), (vector, "EnvVector")):
        make.__name__ = make.__qualname__ = f"{cls.__name__}{suffix}"
        make.__module__, make.__doc__ = cls.__module__, cls.__doc__
        common = [p for p in inspect.signature(make).parameters.values() if p.kind is not p.VAR_KEYWORD]
        vars(make)["__signature__"] = inspect.Signature([*own, *common])
    return single, vector
