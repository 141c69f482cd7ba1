"""Sorting: write the given numbers in order.

Observation: text `31 4 15 =`; or its tokens.
Action:      text `4 15 31`: all the numbers, each as often as it was given, the smallest first; or its tokens one by one.
Reward:      1 if they are in order, otherwise 0.
Terminates:  with the response.  Truncates: never.
Source:      written for this suite, a diagnostic.

Numbers in a response stand between spaces or commas, in square brackets or not.
"""

from explore_gym.envs.bandits.checks import check_integer, check_number
from explore_gym.envs.text.task import Task, final_answer
from explore_gym.envs.text.token_env import environments
from explore_gym.envs.text.tokenizers import CharTokenizer, WordTokenizer

MAX_ANSWER = 2000  # characters


class Sorting(Task):
    """Lists of integers to sort.

    Args:
        min_length, max_length: numbers in a list, 1 to 100.
        high: largest number, 1 to 999.
        skill: probability that a demonstration is right; otherwise a number is missing.
        wording: "short", or "long" for prompts in English and a token per character.
        split: "train", "test" or "all".
        num_tasks: the tasks are those of the indices below this number; None: below 2**31.
        seed: draws the tasks.

    Raises:
        ValueError: an argument is outside the ranges above.
    """

    def __init__(self, min_length=3, max_length=8, high=99, skill=1.0, wording="short", split="train", num_tasks=None, seed=0):
        super().__init__(split, num_tasks, seed)
        check_integer("min_length", min_length, 1, 100)
        check_integer("max_length", max_length, min_length, 100)
        check_integer("high", high, 1, 999)
        check_number("skill", skill, 0.0, 1.0)
        if wording not in ("short", "long"):
            raise ValueError(f"wording must be 'short' or 'long', got {wording!r}")
        self.lengths, self.high, self.skill, self.wording = (min_length, max_length), high, skill, wording
        self.tokenizer = WordTokenizer([*map(str, range(high + 1)), "="])
        self.prompt_tokens, self.response_tokens = max_length + 1, max_length
        if wording == "long":
            self.tokenizer = CharTokenizer("".join(map(chr, range(32, 127))) + "\n")
            self.prompt_tokens, self.response_tokens = 60 + 4 * max_length, 4 * max_length

    def sample(self, rng):
        """The numbers."""
        length = rng.integers(self.lengths[0], self.lengths[1] + 1)
        return tuple(rng.integers(self.high + 1, size=length).tolist())

    def key(self, instance):
        return tuple(sorted(instance))

    def ask(self, instance):
        numbers = " ".join(map(str, instance))
        return f"{numbers} =" if self.wording == "short" else f"Sort these numbers, the smallest first: {numbers}."

    def check(self, instance, response):
        text = final_answer(response)
        if text is None or len(text) > MAX_ANSWER:
            return 0.0
        text = text.strip()
        if text.startswith("[") and text.endswith("]"):
            text = text[1:-1]
        stated = text.replace(",", " ").split()
        if len(stated) != len(instance) or not all(word.isascii() and word.isdigit() for word in stated):
            return 0.0
        return float([int(word) for word in stated] == sorted(instance))

    def answer(self, instance):
        return " ".join(map(str, sorted(instance)))

    def solutions(self, index):
        """The one order."""
        return [self.solve(index)]

    def demonstrate(self, index, rng, memory=None):
        numbers = sorted(self.instance(index))
        if rng.random() >= self.skill:
            del numbers[rng.integers(len(numbers))]
        return " ".join(map(str, numbers))


SortingEnv, SortingEnvVector = environments(Sorting)
