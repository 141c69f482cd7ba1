"""A policy that plays text environments by asking an OpenAI-compatible server.

envs = gym.make_vec("Explore/GeneralPoints-Text-v0", num_envs=64, autoreset_mode="SameStep")
policy = ChatPolicy(envs, "model", base_url="http://localhost:8000/v1", temperature=0.7)
obs, info = envs.reset(seed=0)
while True:
    obs, reward, terminated, truncated, info = envs.step(policy.act(obs))
    policy.reset(terminated | truncated)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium as gym
import numpy as np
import openai
from gymnasium import spaces
from numpy.typing import NDArray

SHOWN = 300  # characters of a server's words in an error


class ServerError(RuntimeError):
    """A server gave no answer, or one that is no chat completion, also when asked again."""


class ChatPolicy:
    """Answers in all lanes at once, each lane a conversation of its own.

    A conversation starts with the episode's prompt and goes on with the responses and replies; where the task says that each
    prompt stands alone (`fresh`), it has that prompt only. The key is taken from the environment variable OPENAI_API_KEY.
    A response is what the environment accepts: of one that is too long the end is taken, where the answer stands, and
    characters that the action space lacks become question marks. Nothing said (a refusal, or thought without end) is "".

    Args:
        envs: a batch of a text task at the level of strings.
        model: as the server calls it.
        base_url: where the API is, such as "http://localhost:8000/v1"; None: the variable OPENAI_BASE_URL, or OpenAI's.
        system: a system message to start conversations with.
        concurrency: requests under way at once, at most.
        timeout: seconds to wait for a connection, and for the answer.
        max_retries: further attempts after a time-out, a broken connection, or status 408, 409, 429 and from 500 on. Waits
            double from half a second up to eight, with jitter, unless the server says how long.
        sampling: whatever else the server takes: temperature, max_completion_tokens, seed, extra_body ...

    Raises:
        ValueError: the environments take no strings, or an argument is out of range.
    """

    def __init__(
        self,
        envs: gym.vector.VectorEnv,
        model: str,
        base_url: str | None = None,
        system: str | None = None,
        concurrency: int = 16,
        timeout: float = 120.0,
        max_retries: int = 4,
        **sampling: Any,
    ):
        if not isinstance(envs.single_action_space, spaces.Text):
            raise ValueError(f'envs must take strings (ids with -Text, or level="strings"), got {envs.single_action_space}')
        for name, number, least in (("concurrency", concurrency, 1), ("max_retries", max_retries, 0)):
            if not isinstance(number, int) or number < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {number!r}")
        if timeout <= 0:
            raise ValueError(f"timeout must be positive, got {timeout}")
        unwrapped: Any = envs.unwrapped
        self.space, self.fresh = envs.single_action_space, unwrapped.task.fresh
        self.model, self.concurrency, self.timeout, self.max_retries = model, concurrency, timeout, max_retries
        self.sampling = sampling
        self.opening = [] if system is None else [{"role": "system", "content": system}]
        self.conversations: list[list[dict[str, str]]] = [[*self.opening] for _ in range(envs.num_envs)]
        key = os.environ.get("OPENAI_API_KEY") or "none"  # servers of one's own want none
        self.client: Any = openai.OpenAI(api_key=key, base_url=base_url, timeout=timeout, max_retries=max_retries)

    def reset(self, done: NDArray[np.bool_]) -> None:
        """Forget what was said in the lanes where an episode is over, bool (num_envs,)."""
        for lane in np.flatnonzero(done):
            self.conversations[lane] = [*self.opening]

    def act(self, obs: Sequence[str]) -> tuple[str, ...]:
        """A response to what each lane says; an empty text, as after the last response, needs none and gets "".

        Raises:
            ServerError: the server failed. What was said in this step is not remembered: act can be called again.
        """
        lanes = [lane for lane, text in enumerate(obs) if text]
        asked = [
            [*(self.opening if self.fresh else self.conversations[lane]), {"role": "user", "content": obs[lane]}]
            for lane in lanes
        ]
        with ThreadPoolExecutor(self.concurrency) as pool:
            said = list(pool.map(self.ask, asked))
        actions = [""] * len(obs)
        for lane, messages, text in zip(lanes, asked, said):
            self.conversations[lane] = [*messages, {"role": "assistant", "content": text}]
            actions[lane] = self.fit(text)
        return tuple(actions)

    def ask(self, messages: list[dict[str, str]]) -> str:
        """What the model says next.

        Raises:
            ServerError: the server failed.
        """
        try:
            answer = self.client.chat.completions.create(model=self.model, messages=messages, **self.sampling)
        except openai.APITimeoutError:
            raise self.error(f"did not answer within {self.timeout:g} s, {self.attempts}") from None
        except openai.APIStatusError as error:
            hint = ": set OPENAI_API_KEY" if error.status_code == 401 else ""
            raise self.error(f"answered with status {error.status_code}{hint}: {error.response.text[:SHOWN]}") from error
        except openai.APIConnectionError as error:
            raise self.error(f"cannot be reached, {self.attempts}: {error.__cause__ or error}") from error
        except (openai.APIError, ValueError) as error:  # the client lets errors of JSON through
            raise self.error(f"answered with what is no chat completion: {error}") from error
        try:
            content = answer.choices[0].message.content
        except (AttributeError, IndexError, TypeError):  # the client takes any JSON, and any text that says it is none
            content = answer
        if not isinstance(content, (str, type(None))) or content is answer:
            raise self.error(f"answered with what is no chat completion: {str(answer)[:SHOWN]}")
        return content or ""

    @property
    def attempts(self) -> str:
        return f"asked {self.max_retries + 1} times" if self.max_retries else "asked once"

    def error(self, what: str) -> ServerError:
        return ServerError(f"the server at {self.client.base_url} (model {self.model!r}) {what}")

    def fit(self, text: str) -> str:
        """The action that a response is."""
        characters = self.space.character_set
        return "".join(c if c in characters else "?" for c in text[-self.space.max_length :])

    def close(self) -> None:
        self.client.close()
