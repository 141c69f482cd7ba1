"""Countdown: make a number from cards with + - * / and brackets, each card used exactly once.

Observation: text `3 8 8 3 ; 24 =`: cards and target, with face cards `3 8 J K ; J = 9 Q = 8 K = 10 ; 24 =`; or its tokens.
Action:      text `8 / ( 3 - 8 / 3 )`: an expression; in form "steps" one operation in each part; or its tokens one by one.
Reward:      1 if the expression has each card exactly once and the target as its value, otherwise 0.
Terminates:  with the response.  Truncates: never.
Source:      the game of 24 (Yao et al., 2023, arXiv:2305.10601, section 4.1), with targets and face values of its own for each
             task as in GeneralPoints (Chu et al., 2025, arXiv:2501.17161).

Every task has a solution: an exact solver decides. Two expressions are the same solution if they differ in the order of the
operands of + and * or in brackets that change nothing; `solutions` gives one text for each, `canonical` the solution a
response is. Cards have a value from low to high (1 to 13); with `faces`, three in 13 cards are J, Q or K, whose values are
drawn for each task from the given ones and told in the prompt. Responses state values, never letters. Spaces don't matter, a
sign is no operation, `×` and `÷` are understood, and `= 24` may follow. A response may end in <answer>expression</answer>
behind a thought.
"""

import re
import string
from functools import lru_cache
from itertools import combinations
from math import gcd

from explore_gym.envs.bandits.checks import check_integer, check_number
from explore_gym.envs.text.interpreter import SIGNS, ProgramError, combine, evaluate, parse
from explore_gym.envs.text.task import Task, final_answer
from explore_gym.envs.text.token_env import environments
from explore_gym.envs.text.tokenizers import CharTokenizer, WordTokenizer

LARGEST = 200  # number with a token of its own: of cards, targets and intermediate results
LETTERS = ("J", "Q", "K")
FORMS = ("expression", "steps")
WORDINGS = ("short", "long")
MAX_ANSWER = 500  # characters; brackets that change nothing are welcome, but not without end
RANK = {"+": 1, "-": 1, "*": 2, "/": 2}
NUMBER = r"(-?\d+|\(\s*-?\d+\s*/\s*\d+\s*\))"
STEP = re.compile(rf"\s*{NUMBER}\s*([-+*/])\s*{NUMBER}\s*=\s*{NUMBER}\s*", re.ASCII)
ALPHABET = re.compile(r"[\d\s()+\-*/=;]*", re.ASCII)


class Countdown(Task):
    """The numbers game with an exact solver.

    Args:
        cards: number of cards, 2 to 6.
        low, high: values of the numbered cards, 1 to 200.
        target: what to make, an integer in [1, 200] or a pair (lowest, highest) to draw it from.
        faces: values to draw those of J, Q and K from, or {"J": 11, "Q": 12, "K": 13}, 1 to 200; None: no face cards.
        form: "expression", or "steps": `8 / 3 = ...` for each operation, parts separated by `;` or line ends, 2 to 4 cards.
        solutions: how many a task may have, a pair (fewest, most), for 2 to 4 cards; None: at least one.
        skill: probability that a demonstration is right; otherwise it is a random expression of the cards.
        wording: "short", or "long" for prompts in English and a token per character.
        split: "train", "test" or "all".
        num_tasks: the tasks are those of the indices below this number; None: below 2**31.
        seed: draws the tasks.

    Raises:
        ValueError: an argument is outside the ranges above.
    """

    def __init__(
        self,
        cards=4,
        low=1,
        high=13,
        target=24,
        faces=None,
        form="expression",
        solutions=None,
        skill=1.0,
        wording="short",
        split="train",
        num_tasks=None,
        seed=0,
    ):
        super().__init__(split, num_tasks, seed)
        check_integer("cards", cards, 2, 6)
        check_integer("low", low, 1, LARGEST)
        check_integer("high", high, low, LARGEST)
        lowest, highest = (target, target) if not isinstance(target, (list, tuple)) else check_pair("target", target)
        check_integer("target", lowest, 1, LARGEST)
        check_integer("target", highest, lowest, LARGEST)
        if isinstance(faces, dict) and faces.keys() != set(LETTERS):
            raise ValueError(f"faces must be a list of values or give J, Q and K a value, got {faces!r}")
        self.faces = None  # else the values that each letter may have
        if faces is not None:
            self.faces = [[faces[letter]] for letter in LETTERS] if isinstance(faces, dict) else [list(faces)] * 3
            for values in self.faces:
                for value in values:
                    check_integer("faces", value, 1, LARGEST)
        if form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
        if wording not in WORDINGS:
            raise ValueError(f"wording must be one of {', '.join(WORDINGS)}, got {wording!r}")
        if cards > 4 and (form == "steps" or solutions is not None):
            raise ValueError(f"form='steps' and solutions= are for 2 to 4 cards, got cards={cards}")
        check_number("skill", skill, 0.0, 1.0)
        self.cards, self.low, self.high, self.targets, self.form = cards, low, high, (lowest, highest), form
        self.wanted = None if solutions is None else check_pair("solutions", solutions)
        self.skill, self.wording = skill, wording
        self.tokenizer = WordTokenizer([*map(str, range(LARGEST + 1)), *LETTERS, *"+-*/()=;"])
        self.prompt_tokens = cards + 3 + (0 if faces is None else 10)
        self.response_tokens = 4 * cards - 5 if form == "expression" else 6 * (cards - 1) - 1
        self.response_tokens = max(self.response_tokens, 3)
        if wording == "long":
            self.tokenizer = CharTokenizer(string.printable)
            self.prompt_tokens, self.response_tokens = 260, 4 * self.response_tokens

    def sample(self, rng):
        """Cards (numbers or letters), the letters' values and the target."""
        ranks = rng.integers(self.low, self.high + 1, self.cards).tolist()
        faces = ()
        if self.faces is not None:
            faces = tuple(int(values[rng.integers(len(values))]) for values in self.faces)
            pictures = rng.integers(13, size=self.cards).tolist()
            ranks = [LETTERS[p] if p < 3 else rank for p, rank in zip(pictures, ranks)]
        instance = tuple(ranks), faces, int(rng.integers(self.targets[0], self.targets[1] + 1))
        numbers = self.numbers(instance)
        if self.form == "steps" or self.wanted is not None:
            count = len(self.ways(instance))
            low, high = self.wanted or (1, count)
            return instance if max(low, 1) <= count <= high else None
        return None if find(numbers, (instance[2], 1)) is None else instance

    def numbers(self, instance):
        """The cards' values, in ascending order."""
        ranks, faces, _ = instance
        return tuple(sorted(faces[LETTERS.index(rank)] if rank in LETTERS else rank for rank in ranks))

    def key(self, instance):
        return self.numbers(instance), instance[2]

    def ask(self, instance):
        ranks, faces, target = instance
        cards, meaning = " ".join(map(str, ranks)), [f"{letter} = {value}" for letter, value in zip(LETTERS, faces)]
        if self.wording == "short":
            return " ; ".join([cards, *([" ".join(meaning)] if faces else []), f"{target} ="])
        told = f" (the face cards count {', '.join(meaning)})" if faces else ""
        form = "Answer with the expression" if self.form == "expression" else "Answer with one operation per line, as 1 + 2 = 3"
        return f"Use each of the cards {cards} exactly once{told}, with + - * / and brackets, to make {target}. {form}."

    def check(self, instance, response):
        return 1.0 if self.judge(instance, response) == "right" else 0.0

    def judge(self, instance, response):
        """What a response is: "right", "value" (another one), "cards" (not each once) or "syntax" (no expression)."""
        text = clean(response)
        if text is None:
            return "syntax"
        cards, target = self.numbers(instance), instance[2]
        if self.form == "steps":
            return judge_steps(text, cards, target)
        expression, equals, stated = text.partition("=")
        stated = stated.strip()
        if equals and not stated.isdigit():
            return "syntax"
        try:
            tree = parse(expression)
        except ProgramError:
            return "syntax"
        used: list = []
        if not collect(tree, used):
            return "syntax"
        used.sort()
        if tuple(used) != cards:
            return "cards"
        try:
            a, b = evaluate(tree, {})
        except ProgramError:
            return "value"
        return "right" if a == target * b and (not equals or int(stated) == target) else "value"

    def canonical(self, response):
        """The solution that an expression stands for, fully bracketed, None if it is no expression."""
        text = clean(response)
        try:
            tree = parse((text or "").partition("=")[0])
        except ProgramError:
            return None
        return canonical(tree) if collect(tree, []) else None

    def ways(self, instance):
        """All solutions, fully bracketed; in form "steps" those whose intermediate results are integers in [0, 200]."""
        found = solve_all(self.numbers(instance), (instance[2], 1))
        return [text for text in found if is_plain_way(parse(text))] if self.form == "steps" else found

    def write(self, way):
        """A fully bracketed solution as a response."""
        tree = parse(way)
        if self.form == "steps":
            lines: list = []
            write_steps(tree, lines)
            return (" ; " if self.wording == "short" else "\n").join(lines)
        return render(tree)

    def answer(self, instance):
        if self.form == "steps":
            return self.write(self.ways(instance)[0])
        return self.write(find(self.numbers(instance), (instance[2], 1)))

    def solutions(self, index):
        """One response for each solution, for up to 5 cards."""
        if self.cards > 5:
            raise ValueError(f"solutions can be enumerated for up to 5 cards, this task has {self.cards}")
        return [self.write(way) for way in self.ways(self.instance(index))]

    def demonstrate(self, index, rng, memory=None):
        """A solution drawn uniformly (of more than 4 cards: the solver's), or else a random expression of the cards."""
        instance = self.instance(index)
        if rng.random() >= self.skill:
            return self.write(random_expression(self.numbers(instance), rng, self.form == "steps"))
        if self.cards > 4:
            return self.answer(instance)
        ways = self.ways(instance)
        return self.write(ways[rng.integers(len(ways))])


def check_pair(name, pair):
    if len(pair) != 2 or not pair[0] <= pair[1]:
        raise ValueError(f"{name} must be a pair (lowest, highest), got {pair!r}")
    return int(pair[0]), int(pair[1])


def clean(response):
    """The answer in a response, in ASCII; None if there is none or it has characters that no expression has."""
    text = final_answer(response)
    if text is None or len(text) > MAX_ANSWER:
        return None
    if not text.isascii():
        text = text.translate(SIGNS)
    return text if ALPHABET.fullmatch(text) else None


def collect(tree, used):
    """Append the integers of a tree to a list. Returns whether it consists of them and + - * / alone."""
    if type(tree) is str:
        if not tree.isdigit():
            return False
        used.append(int(tree))
        return True
    return tree[0] in RANK and collect(tree[1], used) and collect(tree[2], used)


def judge_steps(text, cards, target):
    """As `judge`, of one operation per part: each takes two of the numbers that are there and puts back its result."""
    there = [(card, 1) for card in cards]
    for part in re.split(r"[;\n]", text):
        step = STEP.fullmatch(part)
        if step is None:
            return "syntax"
        x, y, stated = (reduced(step[i]) for i in (1, 3, 4))
        if x is None or y is None or stated is None:
            return "syntax"
        for operand in (x, y):
            if operand not in there:
                return "cards"
            there.remove(operand)
        try:
            result = lowest_terms(combine(step[2], x, y))
        except ProgramError:
            return "value"
        if result != stated:
            return "value"
        there.append(stated)
    if len(there) > 1:
        return "cards"
    return "right" if there == [(target, 1)] else "value"


def reduced(text):
    """The rational that a text such as `-3` or `(8/3)` states, in lowest terms; None of a zero denominator."""
    top, _, bottom = text.strip("() ").partition("/")
    return lowest_terms((int(top), int(bottom or 1))) if int(bottom or 1) else None


def lowest_terms(value):
    common = gcd(*value)
    return value[0] // common, value[1] // common


def canonical(tree):
    """An expression's text, fully bracketed, the operands of + and * in alphabetical order."""
    if type(tree) is str:
        return str(int(tree))
    return joined(tree[0], canonical(tree[1]), canonical(tree[2]))


def joined(sign, left, right):
    if sign in "+*" and right < left:
        left, right = right, left
    return f"({left}{sign}{right})"


def render(tree):
    """An expression with the brackets it needs and spaces between its words."""
    if type(tree) is str:
        return tree
    sign, left, right = tree
    rank = RANK[sign]
    if sign in "+*" and rank_of(right) == rank and rank_of(left) != rank:
        left, right = right, left
    first = f"( {render(left)} )" if rank_of(left) < rank else render(left)
    second = f"( {render(right)} )" if rank_of(right) <= rank else render(right)
    return f"{first} {sign} {second}"


def rank_of(tree):
    return 3 if type(tree) is str else RANK[tree[0]]


def write_steps(tree, lines):
    """Append a line for each operation, operands first. Returns the value, an integer or a fraction as text."""
    if type(tree) is str:
        return tree
    left, right = write_steps(tree[1], lines), write_steps(tree[2], lines)
    a, b = lowest_terms(evaluate(tree, {}))
    value = str(a) if b == 1 else f"({a}/{b})"
    lines.append(f"{left} {tree[0]} {right} = {value}")
    return value


def is_plain_way(tree):
    """Whether all results on the way are integers in [0, LARGEST]."""
    if type(tree) is str:
        return True
    if not (is_plain_way(tree[1]) and is_plain_way(tree[2])):
        return False
    a, b = lowest_terms(evaluate(tree, {}))
    return b == 1 and 0 <= a <= LARGEST


def parts(numbers):
    """All ways to cut sorted numbers into two sorted parts, the smaller first, each way once."""
    places, cuts = range(len(numbers)), {}
    for size in range(1, len(numbers) // 2 + 1):
        for chosen in combinations(places, size):
            first = tuple(numbers[i] for i in chosen)
            rest = tuple(numbers[i] for i in places if i not in chosen)
            if (rest, first) not in cuts:
                cuts[first, rest] = None
    return list(cuts)


def operations(x, y):
    """All results (sign, swapped, value) of x and y, values in lowest terms."""
    found = [("+", False, combine("+", x, y)), ("*", False, combine("*", x, y))]
    found += [("-", False, combine("-", x, y)), ("-", True, combine("-", y, x))]
    if y[0]:
        found.append(("/", False, combine("/", x, y)))
    if x[0]:
        found.append(("/", True, combine("/", y, x)))
    return [(sign, swapped, lowest_terms(value)) for sign, swapped, value in found]


@lru_cache(maxsize=512)
def expressions(numbers):
    """All expressions of sorted numbers: value -> fully bracketed texts."""
    if len(numbers) == 1:
        return {(numbers[0], 1): [str(numbers[0])]}
    found: dict = {}
    for text, value in roots(numbers):
        found.setdefault(value, set()).add(text)
    return {value: sorted(texts) for value, texts in found.items()}


def roots(numbers):
    """The text and value of each expression of two or more sorted numbers; some occur twice."""
    for first, second in parts(numbers):
        for x, lefts in expressions(first).items():
            for y, rights in expressions(second).items():
                for sign, swapped, value in operations(x, y):
                    for left in lefts:
                        for right in rights:
                            yield (joined(sign, right, left) if swapped else joined(sign, left, right)), value


@lru_cache(maxsize=4096)
def solve_all(numbers, target):
    """All expressions of sorted numbers whose value is the target, sorted."""
    return sorted({text for text, value in roots(numbers) if value == target})


@lru_cache(maxsize=1 << 16)
def reachable(numbers):
    """The values of at most three sorted numbers, each with one expression."""
    if len(numbers) == 1:
        return {(numbers[0], 1): str(numbers[0])}
    found: dict = {}
    for first, second in parts(numbers):
        for x, left in reachable(first).items():
            for y, right in reachable(second).items():
                for sign, swapped, value in operations(x, y):
                    found.setdefault(value, joined(sign, right, left) if swapped else joined(sign, left, right))
    return found


@lru_cache(maxsize=1 << 16)
def find(numbers, target):
    """One expression of sorted numbers whose value is the target, None if there is none.

    The smaller part's value is tried, and what the larger must then be is searched for in the same way.
    """
    if len(numbers) <= 3:
        return reachable(numbers).get(target)
    for first, second in parts(numbers):
        for value, text in reachable(first).items():
            for sign, swapped, missing in inverses(value, target):
                found = any_expression(second) if missing is None else find(second, missing)
                if found is not None:
                    return joined(sign, text, found) if swapped else joined(sign, found, text)
    return None


def inverses(y, target):
    """What z must be: (sign, swapped, z) for z sign y = target, swapped y sign z = target; z None if it doesn't matter."""
    found = [("+", False, combine("-", target, y)), ("-", False, combine("+", target, y)), ("-", True, combine("-", y, target))]
    if y[0]:
        found += [("*", False, combine("/", target, y)), ("/", False, combine("*", target, y))]
        if target[0]:
            found.append(("/", True, combine("/", y, target)))
    found = [(sign, swapped, lowest_terms(z)) for sign, swapped, z in found]
    return [*found, ("*", False, None)] if not y[0] and not target[0] else found


def any_expression(numbers):
    text = str(numbers[0])
    for number in numbers[1:]:
        text = joined("+", text, str(number))
    return text


def random_expression(numbers, rng, plain):
    """A fully bracketed expression of the numbers, drawn by joining random pairs; if `plain`, by + and * alone."""
    there = [(str(n), (n, 1)) for n in numbers]
    while len(there) > 1:
        x = there.pop(rng.integers(len(there)))
        y = there.pop(rng.integers(len(there)))
        results = [r for r in operations(x[1], y[1]) if not plain or (r[2][1] == 1 and 0 <= r[2][0] <= LARGEST)]
        sign, swapped, value = results[rng.integers(len(results))]
        there.append((joined(sign, y[0], x[0]) if swapped else joined(sign, x[0], y[0]), value))
    return there[0][0]


CountdownEnv, CountdownEnvVector = environments(Countdown)
