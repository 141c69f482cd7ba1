"""Text tasks: what is asked, and how an answer is verified, solved and demonstrated, each a function of an index.

What is random in a task comes from a stream that `seed` and the index alone start. A hash of what makes a task itself (its hand
of cards, its chain of rules) says whether it belongs to the training or to the test set, so none occurs in both. Most tasks are
one prompt and one response; in the others, dialogues, the environment replies up to `turns` times, and all that it has to
remember is a record of type `memory`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from explore_gym.envs.bandits.checks import check_integer
from explore_gym.envs.text.tokenizers import Tokenizer

SPLITS = ("train", "test", "all")
TEST_PARTS = 8  # one in so many tasks is a test task
MAX_DRAWS = 10_000  # until a task is of the split and solvable
MAX_TASKS = 2**31
CACHED = 1 << 15  # instances that are kept
TOO_LONG = 20_000  # characters; no verifier looks at longer responses


class Reply(NamedTuple):
    """What a response brings about: the environment's words, the reward, whether it was the last, and the task's metrics."""

    text: str
    reward: float
    terminated: bool
    metrics: dict[str, Any]


class Task:
    """A text task. Subclasses define `sample`, `ask`, `check` and `answer`, dialogues `begin` and `respond`.

    Attributes:
        tokenizer: the task's own; any other may be used.
        prompt_tokens, response_tokens: bounds of what is asked and of what solves and demonstrates, in its tokens, without eos.
        characters: that prompts and responses may have beside printable ASCII.
        max_prompt, max_response: characters of the longest prompt or reply, and of responses that environments accept.
        turns: responses at most. If `fresh`, each turn's prompt stands alone, otherwise it continues what was said.
        reply_tokens: bound of a reply within a dialogue.
        memory_fields: what a dialogue remembers, names -> type or (type, shape).
        metrics: what environments report beside `success`: names -> int, float or bool, or (type, shape).

    Args:
        split: "train", "test" (one in 8 tasks, none of them in "train") or "all".
        num_tasks: the tasks are those of the indices below this number; None: below 2**31.
        seed: draws the tasks, and what they have in common.

    Raises:
        ValueError: an argument is unknown or out of range.
    """

    tokenizer: Tokenizer
    prompt_tokens: int
    response_tokens: int
    characters: str = "×·÷−"
    max_prompt: int = 1000
    max_response: int = 1000
    turns: int = 1
    fresh: bool = False
    reply_tokens: int = 0
    memory_fields: Mapping[str, Any] = {}
    metrics: Mapping[str, Any] = {}

    def __init__(self, split: str = "train", num_tasks: int | None = None, seed: int = 0):
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        check_integer("num_tasks", MAX_TASKS if num_tasks is None else num_tasks, 1, MAX_TASKS)
        check_integer("seed", seed, 0, 2**32 - 1)
        self.split, self.seed = split, int(seed)
        self.num_tasks = MAX_TASKS if num_tasks is None else int(num_tasks)
        self._instances: dict[int, Any] = {}

    def sample(self, rng: np.random.Generator) -> Any:
        """Draw an instance, None to draw again."""
        raise NotImplementedError

    def key(self, instance: Any) -> Any:
        """What makes a task itself: instances with equal keys are in the same split."""
        return instance

    def ask(self, instance: Any) -> str:
        """The prompt of an instance."""
        raise NotImplementedError

    def check(self, instance: Any, response: str) -> float:
        """How right a response is, 0 to 1; it is at most TOO_LONG characters long, and may be anything."""
        raise NotImplementedError

    def answer(self, instance: Any) -> str | None:
        """A right response, None if there is none."""
        raise NotImplementedError

    def instance(self, index: int) -> Any:
        """The task of an index.

        Raises:
            ValueError: the index is no integer in [0, num_tasks).
            RuntimeError: no task of the split was found.
        """
        try:
            return self._instances[index]
        except (KeyError, TypeError):
            check_integer("index", index, 0, self.num_tasks - 1)
        for attempt in range(MAX_DRAWS):
            instance = self.sample(np.random.default_rng((self.seed, int(index), attempt)))
            if instance is not None and self.split in ("all", split_of(self.key(instance))):
                if len(self._instances) >= CACHED:
                    self._instances.clear()
                self._instances[int(index)] = instance
                return instance
        raise RuntimeError(f"{type(self).__name__} found no task of the split {self.split!r} in {MAX_DRAWS} draws")

    def prompt(self, index: int) -> str:
        """What is asked."""
        return self.ask(self.instance(index))

    def verify(self, index: int, response: str) -> float:
        """How right any text is as a response, 0 to 1; 1 is right."""
        instance = self.instance(index)
        return self.check(instance, response) if len(response) <= TOO_LONG else 0.0

    def verify_batch(self, indices: Sequence[int] | NDArray, responses: Sequence[str]) -> NDArray[np.float64]:
        """`verify` for many, float64 (n,)."""
        verify = self.verify
        return np.array([verify(i, r) for i, r in zip(np.asarray(indices).tolist(), responses, strict=True)], np.float64)

    def solve(self, index: int) -> str | None:
        """A right response, None if none is known."""
        return self.answer(self.instance(index))

    def solutions(self, index: int) -> list[str]:
        """All right responses, one for each way to be right that the task tells apart.

        Raises:
            ValueError: they can't be enumerated.
        """
        raise ValueError(f"the solutions of {type(self).__name__} can't be enumerated")

    def demonstrate(self, index: int, rng: np.random.Generator, memory: Any = None) -> str:
        """A response to imitate, as good as the task's skill arguments say; in a dialogue with `memory`, the next one."""
        solution = self.solve(index)
        if solution is None:
            raise ValueError(f"task {index} has no solution to demonstrate")
        return solution

    def demonstrations(self, indices: Sequence[int] | NDArray, rng: np.random.Generator) -> list[tuple[str, str]]:
        """Pairs (prompt, response) to imitate, one for each index."""
        return [(self.prompt(i), self.demonstrate(i, rng)) for i in np.asarray(indices).tolist()]

    @property
    def memory_dtype(self) -> np.dtype:
        fields = [(name, *kind) if isinstance(kind, tuple) else (name, kind) for name, kind in self.memory_fields.items()]
        return np.dtype([("turn", np.int32), *fields], align=True)

    def new_memory(self) -> Any:
        """An empty record of a dialogue, for `begin` and `respond`."""
        return np.zeros(1, self.memory_dtype)[0]

    def begin(self, index: int, memory: Any) -> str:
        """Start a dialogue, writing what it has to remember. Returns the prompt."""
        return self.prompt(index)

    def respond(self, index: int, memory: Any, response: str) -> Reply:
        """Reply to a response, and remember it."""
        memory["turn"] += 1
        reward = self.verify(index, response)
        return Reply("", reward, True, {"success": reward == 1.0})

    def respond_batch(self, indices: NDArray, memories: NDArray, responses: Sequence[str]) -> list[Reply]:
        """`respond` for many; `memories` is a structured array (n,) that is written to."""
        return [self.respond(i, m, r) for i, m, r in zip(indices.tolist(), memories, responses, strict=True)]


def split_of(key: Any) -> str:
    """The split that a task belongs to, from a hash of its key, which consists of strings, integers and tuples."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest, "little") % TEST_PARTS == 0 else "train"


def final_answer(response: str) -> str | None:
    """What stands between <answer> and </answer> if that pair ends the response, or all of it if it has no such tag.

    None if the tags are out of order or there are several: nobody may hand in two answers.
    """
    if "answer>" not in response:
        return response
    thought, opened, rest = response.partition("<answer>")
    if not opened:
        return None if "</answer>" in response else response
    answer, closed, after = rest.partition("</answer>")
    if not closed or after.strip() or "</answer>" in thought or "<answer>" in answer:
        return None
    return answer
