"""Arithmetic: work out a sum, by heart or with a calculator.

Observation: text `17 + 4 * 3 =`, with a modulus `17 + 4 * 3 mod 97 =`; after a call of the calculator its result; or tokens.
Action:      text `29`: the number, or with tool=True `call 17 + 4 * 3`; or its characters one by one.
Reward:      1 if the number is right, otherwise 0; calls earn nothing.
Terminates:  with a response that is no call, or after `calls` (5) calls and one response.  Truncates: never.
Source:      written for this suite, a diagnostic.

The calculator understands what `interpreter` says: exact arithmetic with + - * / // % **, brackets, names and a few functions,
bounded in time and size. A fault is answered by `error:` and its reason. The info counts `calls` and `errors`.
"""

import re

from explore_gym.envs.bandits.checks import check_integer, check_number
from explore_gym.envs.text.interpreter import SIGNS, combine, evaluate, parse, run
from explore_gym.envs.text.task import Reply, Task, final_answer
from explore_gym.envs.text.token_env import environments
from explore_gym.envs.text.tokenizers import CharTokenizer

OPERATORS = "+-*"
INTEGER = re.compile(r"\s*([+-]?[0-9]{1,100})\s*")
CALL = "call "
LONGEST_RESULT = 100  # characters of the calculator's answer


class Arithmetic(Task):
    """Chains of operations on integers.

    Args:
        operations: a pair (fewest, most), 1 to 20.
        digits: of the largest number, 1 to 9.
        operators: those that occur, of "+-*".
        modulus: the answer is wanted modulo this number, 2 to 1_000_000; None: as it is.
        tool: whether a calculator may be called.
        calls: most calls in an episode, 1 to 20.
        skill: probability that a demonstration is right; otherwise one digit of the answer is wrong.
        wording: "short", or "long" for prompts in English.
        split: "train", "test" or "all".
        num_tasks: the tasks are those of the indices below this number; None: below 2**31.
        seed: draws the tasks.

    Raises:
        ValueError: an argument is outside the ranges above.
    """

    metrics = {"calls": int, "errors": int}
    memory_fields = {"calls": "i4", "errors": "i4"}

    def __init__(
        self,
        operations=(1, 3),
        digits=2,
        operators="+-*",
        modulus=None,
        tool=False,
        calls=5,
        skill=1.0,
        wording="short",
        split="train",
        num_tasks=None,
        seed=0,
    ):
        super().__init__(split, num_tasks, seed)
        if len(operations) != 2:
            raise ValueError(f"operations must be a pair (fewest, most), got {operations!r}")
        check_integer("operations", operations[0], 1, 20)
        check_integer("operations", operations[1], operations[0], 20)
        check_integer("digits", digits, 1, 9)
        check_integer("calls", calls, 1, 20)
        check_number("skill", skill, 0.0, 1.0)
        if not operators or set(operators) - set(OPERATORS):
            raise ValueError(f"operators must be some of {OPERATORS}, got {operators!r}")
        if modulus is not None:
            check_integer("modulus", modulus, 2, 1_000_000)
        if wording not in ("short", "long"):
            raise ValueError(f"wording must be 'short' or 'long', got {wording!r}")
        self.operations, self.digits, self.operators, self.modulus = tuple(operations), digits, operators, modulus
        self.tool, self.skill, self.wording = bool(tool), skill, wording
        self.turns = calls + 1 if tool else 1
        self.tokenizer = CharTokenizer("".join(map(chr, range(32, 127))) + "\n", [CALL, " mod "])
        longest = (digits + 3) * (operations[1] + 1)
        self.prompt_tokens = longest + (12 if wording == "short" else 120)
        self.response_tokens = longest + 14 if tool else digits * (operations[1] + 1) + 1
        self.reply_tokens = LONGEST_RESULT + 3

    def sample(self, rng):
        """The expression and its value."""
        count = int(rng.integers(self.operations[0], self.operations[1] + 1))
        numbers = rng.integers(10**self.digits, size=count + 1).tolist()
        signs = [self.operators[i] for i in rng.integers(len(self.operators), size=count)]
        text = " ".join([str(numbers[0]), *(f"{sign} {number}" for sign, number in zip(signs, numbers[1:]))])
        value = evaluate(parse(text), {})
        return text, (value if self.modulus is None else combine("%", value, (self.modulus, 1)))[0]

    def ask(self, instance):
        modulo = "" if self.modulus is None else f" mod {self.modulus}"
        if self.wording == "short":
            return f"{instance[0]}{modulo} ="
        calculator = f" You may write `{CALL}` and an expression to use a calculator." if self.tool else ""
        return f"What is {instance[0]}{modulo}? Answer with the number alone.{calculator}"

    def check(self, instance, response):
        stated = INTEGER.fullmatch((final_answer(response) or "").translate(SIGNS))
        return float(stated is not None and int(stated[1]) == instance[1])

    def answer(self, instance):
        return str(instance[1])

    def solutions(self, index):
        """The one answer."""
        return [self.solve(index)]

    def demonstrate(self, index, rng, memory=None):
        """A call of the calculator first if there is one, then the answer."""
        text, value = self.instance(index)
        if self.tool and (memory is None or memory["turn"] == 0):
            return CALL + (text if self.modulus is None else f"({text}) % {self.modulus}")
        digits = list(str(value))
        if rng.random() >= self.skill:
            place = rng.integers(value < 0, len(digits))
            digits[place] = str((int(digits[place]) + rng.integers(1, 10)) % 10)
        return "".join(digits)

    def respond(self, index, memory, response):
        memory["turn"] += 1
        counts = {"calls": int(memory["calls"]), "errors": int(memory["errors"])}
        if self.tool and response.lstrip().startswith(CALL) and memory["turn"] < self.turns:
            result = run(response.lstrip()[len(CALL) :])
            memory["calls"] += 1
            memory["errors"] += result.startswith("error")
            counts = {"calls": int(memory["calls"]), "errors": int(memory["errors"])}
            return Reply(f"\n{result[:LONGEST_RESULT]}\n", 0.0, False, {"success": False, **counts})
        reward = self.verify(index, response)
        return Reply("", reward, True, {"success": reward == 1.0, **counts})


ArithmeticEnv, ArithmeticEnvVector = environments(Arithmetic)
