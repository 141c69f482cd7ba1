"""Text tasks for TRL's trainers: prompts as a dataset, and a reward function for the responses.

task = Countdown(wording="long")
trainer = GRPOTrainer("model", reward_funcs=reward_function(task), train_dataset=prompt_dataset(task, range(4096)))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from datasets import Dataset

from explore_gym.envs.text.task import Task


def prompt_dataset(task: Task, indices: Iterable[int], conversational: bool = True) -> Dataset:
    """Tasks to train on: columns `prompt`, a user's message or, if not `conversational`, the bare text, and `index`.

    Raises:
        ValueError: the task is a dialogue, or has no such index.
    """
    check_single_turn(task)
    rows = [(task.begin(index, task.new_memory()), index) for index in map(int, indices)]
    prompts = [[{"role": "user", "content": text}] if conversational else text for text, _ in rows]
    return Dataset.from_dict({"prompt": prompts, "index": [index for _, index in rows]})


def reward_function(task: Task) -> Callable[..., list[float]]:
    """What the environment pays for a response, as a function with TRL's signature and the task's name.

    It wants the dataset's column `index`, and logs the share of right responses as `success`.

    Raises:
        ValueError: the task is a dialogue.
    """
    check_single_turn(task)

    def reward(
        completions: list[Any], index: list[int], log_metric: Callable[[str, float], None] | None = None, **_: Any
    ) -> list[float]:
        texts = [text if isinstance(text, str) else text[-1]["content"] or "" for text in completions]
        replies = [task.respond(i, task.new_memory(), text) for i, text in zip(index, texts, strict=True)]
        if log_metric is not None:
            log_metric("success", sum(bool(reply.metrics["success"]) for reply in replies) / len(replies))
        return [float(reply.reward) for reply in replies]

    reward.__name__ = reward.__qualname__ = type(task).__name__
    return reward


def check_single_turn(task: Task) -> None:
    if task.turns > 1:
        raise ValueError(
            f"the task must be one prompt and one response, but {type(task).__name__} is a dialogue of up to {task.turns} "
            "turns, which TRL has no settled interface for"
        )
