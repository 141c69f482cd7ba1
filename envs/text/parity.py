"""Parity: say whether the number of ones is odd.

Observation: text `1 0 1 1 =`; or its tokens.
Action:      text `1 1 0 1 # 1`: the parity of each beginning, then the answer; or its tokens one by one.
Reward:      1 if the answer is right, otherwise 0.
Terminates:  with the response.  Truncates: never.
Source:      written for this suite, a diagnostic of intermediate steps.

The answer is what follows the only `#`, or the whole response if it has none. What is written before it is not verified.
"""

from explore_gym.envs.bandits.checks import check_integer, check_number
from explore_gym.envs.text.task import Task, final_answer
from explore_gym.envs.text.token_env import environments
from explore_gym.envs.text.tokenizers import CharTokenizer, WordTokenizer


class Parity(Task):
    """Strings of bits.

    Args:
        min_length, max_length: bits in a string, 1 to 100.
        steps: whether demonstrations write the parity of each beginning.
        skill: probability of each step of a demonstration to be right.
        wording: "short", or "long" for prompts in English and a token per character.
        split: "train", "test" or "all".
        num_tasks: the tasks are those of the indices below this number; None: below 2**31.
        seed: draws the tasks.

    Raises:
        ValueError: an argument is outside the ranges above.
    """

    def __init__(
        self, min_length=8, max_length=16, steps=True, skill=1.0, wording="short", split="train", num_tasks=None, seed=0
    ):
        super().__init__(split, num_tasks, seed)
        check_integer("min_length", min_length, 1, 100)
        check_integer("max_length", max_length, min_length, 100)
        check_number("skill", skill, 0.0, 1.0)
        if wording not in ("short", "long"):
            raise ValueError(f"wording must be 'short' or 'long', got {wording!r}")
        self.lengths, self.steps, self.skill, self.wording = (min_length, max_length), bool(steps), skill, wording
        self.tokenizer = WordTokenizer(["0", "1", "=", "#"])
        self.prompt_tokens, self.response_tokens = max_length + 1, max_length + 2 if steps else 2
        if wording == "long":
            self.tokenizer = CharTokenizer("".join(map(chr, range(32, 127))) + "\n")
            self.prompt_tokens, self.response_tokens = 100 + 2 * max_length, 2 * max_length + 3

    def sample(self, rng):
        """The bits."""
        return tuple(rng.integers(2, size=rng.integers(self.lengths[0], self.lengths[1] + 1)).tolist())

    def ask(self, instance):
        bits = " ".join(map(str, instance))
        if self.wording == "short":
            return f"{bits} ="
        return f"Is the number of ones odd? Answer with 1 if it is and with 0 if not, behind #: {bits}."

    def check(self, instance, response):
        before, marked, answer = (final_answer(response) or "").partition("#")
        return float((answer if marked else before).strip() == str(sum(instance) % 2))

    def answer(self, instance):
        return self.write([sum(instance[: i + 1]) % 2 for i in range(len(instance))])

    def solutions(self, index):
        """The one answer, in the form of the demonstrations."""
        return [self.solve(index)]

    def demonstrate(self, index, rng, memory=None):
        parities, parity = [], 0
        for bit in self.instance(index):
            parity ^= bit ^ (rng.random() >= self.skill)
            parities.append(int(parity))
        return self.write(parities)

    def write(self, parities):
        return " ".join(map(str, [*parities, "#", parities[-1]] if self.steps else ["#", parities[-1]]))


ParityEnv, ParityEnvVector = environments(Parity)
