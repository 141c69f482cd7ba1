"""A calculator that what a model writes may reach: exact arithmetic with variables, and nothing else.

    run("x = 3 * 4; (x + 2) / 4")  ->  "7/2"
    run("2 ** 9 ** 9")             ->  "error: the number is too large"

A program is a list of statements, `name = expression` or an expression, separated by `;` or line ends; its result is the last
value. Expressions have integers, decimals, names, brackets, + - * / // % ** and abs, min, max, gcd and floor. Numbers are exact
rationals. It is parsed by hand and never passed to Python; text, depth, steps and numbers are bounded, so a call takes less
than a millisecond or so. Verifiers parse expressions with the same `parse`.
"""

import math
import re
from functools import reduce
from typing import Any

MAX_TEXT, MAX_TOKENS, MAX_DEPTH, MAX_DIGITS, MAX_BITS = 2000, 400, 40, 40, 512
RANK = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2, "**": 4}
UNARY_RANK = 3
TOKEN = re.compile(r"\d+(?:\.\d+)?|[A-Za-z_]\w*|\*\*|//|[^ \t\r]", re.ASCII)
SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-"})
FUNCTIONS = ("abs", "min", "max", "gcd", "floor")
END = ""


class ProgramError(ValueError):
    """What is wrong with a program, in words for its author."""


def run(program: str) -> str:
    """The result of a program as text: an integer, a fraction `a/b`, or `error:` and what is wrong."""
    try:
        names: dict = {}
        result = None
        for name, tree in Parser(program).statements():
            result = evaluate(tree, names)
            if name is not None:
                names[name] = result
        return format_number(result) if result is not None else "error: the program is empty"
    except ProgramError as error:
        return f"error: {error}"


def parse(text: str) -> Any:
    """The tree of one expression: ("+", left, right), ("neg", operand), ("call", function, ...) or a leaf, which is a text.

    Raises:
        ProgramError: it isn't an expression, or it is too long or deep.
    """
    parser = Parser(text.replace("\n", " "))
    tree = parser.expression(1, 0)
    if parser.token != END:
        raise ProgramError(f"{parser.token!r} is out of place")
    return tree


class Parser:
    """Precedence climbing over the tokens of a text."""

    def __init__(self, text):
        if len(text) > MAX_TEXT:
            raise ProgramError("the program is too long")
        if not text.isascii():
            text = text.translate(SIGNS)
            if not text.isascii():
                raise ProgramError(f"{next(c for c in text if not c.isascii())!r} is no part of the language")
        self.tokens = TOKEN.findall(text)
        if len(self.tokens) > MAX_TOKENS:
            raise ProgramError("the program is too long")
        self.tokens.append(END)
        self.position, self.token = 0, self.tokens[0]

    def advance(self):
        self.position += 1
        self.token = self.tokens[self.position]

    def statements(self):
        """Pairs (name or None, tree)."""
        found = []
        while self.token != END:
            if self.token in (";", "\n"):
                self.advance()
                continue
            name = None
            if self.tokens[self.position + 1] == "=":
                name = self.token
                if not name[0].isalpha() or name in FUNCTIONS:
                    raise ProgramError(f"{name!r} can't be assigned to")
                self.advance(), self.advance()
            found.append((name, self.expression(1, 0)))
            if self.token not in (";", "\n", END):
                raise ProgramError(f"{self.token!r} is out of place")
        return found

    def expression(self, lowest, depth):
        """An expression of operators of at least the lowest rank."""
        if depth > MAX_DEPTH:
            raise ProgramError("the expression is too deep")
        left = self.operand(depth)
        while (rank := RANK.get(self.token, 0)) >= lowest:
            sign = self.token
            self.advance()
            left = sign, left, self.expression(rank if sign == "**" else rank + 1, depth + 1)
        return left

    def operand(self, depth):
        token = self.token
        if token.isalnum() or "." in token[1:] or "_" in token:
            self.advance()
            return self.call(token, depth) if self.token == "(" and token in FUNCTIONS else token
        if token == "(":
            self.advance()
            inner = self.expression(1, depth + 1)
            self.close()
            return inner
        if token == "-":
            self.advance()
            return "neg", self.expression(UNARY_RANK, depth + 1)
        raise ProgramError(f"{token!r} is out of place" if token else "the expression is incomplete")

    def call(self, function, depth):
        self.advance()
        arguments = [self.expression(1, depth + 1)]
        while self.token == ",":
            self.advance()
            arguments.append(self.expression(1, depth + 1))
        self.close()
        return ("call", function, *arguments)

    def close(self):
        if self.token != ")":
            raise ProgramError("a bracket is not closed")
        self.advance()


def evaluate(tree, names):
    """The value of a tree, a rational (numerator, denominator > 0), not reduced."""
    if type(tree) is str:
        return number(tree, names)
    if tree[0] == "neg":
        a, b = evaluate(tree[1], names)
        return -a, b
    if tree[0] == "call":
        return call(tree[1], [evaluate(argument, names) for argument in tree[2:]])
    return combine(tree[0], evaluate(tree[1], names), evaluate(tree[2], names))


def number(leaf, names):
    """The value of a number or name."""
    if not leaf[0].isdigit():
        if leaf not in names:
            raise ProgramError(f"{leaf!r} is not known")
        return names[leaf]
    if len(leaf) > MAX_DIGITS:
        raise ProgramError("the number is too large")
    if leaf.isdigit():
        return int(leaf), 1
    whole, _, decimals = leaf.partition(".")
    return int(whole + decimals), 10 ** len(decimals)


def combine(sign, x, y):
    """x sign y of rationals.

    Raises:
        ProgramError: division by zero, or the result is too large.
    """
    (a, b), (c, d) = x, y
    if sign == "+":
        result = a * d + c * b, b * d
    elif sign == "-":
        result = a * d - c * b, b * d
    elif sign == "*":
        result = a * c, b * d
    elif sign == "**":
        result = power(a, b, c, d)
    elif c == 0:
        raise ProgramError("division by zero")
    elif sign == "/":
        result = (a * d, b * c) if c > 0 else (-a * d, -b * c)
    elif sign == "//":
        result = (a * d) // (b * c), 1
    else:
        result = a * d - (a * d) // (b * c) * (b * c), b * d
    if result[0].bit_length() > MAX_BITS or result[1].bit_length() > MAX_BITS:
        raise ProgramError("the number is too large")
    return result


def power(a, b, c, d):
    common = math.gcd(c, d)
    exponent, d = c // common, d // common
    if d != 1:
        raise ProgramError("the exponent is no integer")
    if abs(exponent) > MAX_BITS or max(a.bit_length(), b.bit_length()) * abs(exponent) > 2 * MAX_BITS:
        raise ProgramError("the number is too large")
    if exponent >= 0:
        return a**exponent, b**exponent
    if a == 0:
        raise ProgramError("division by zero")
    return (b**-exponent, a**-exponent) if a**-exponent > 0 else (-(b**-exponent), -(a**-exponent))


def call(function, values):
    if function in ("abs", "floor") and len(values) != 1:
        raise ProgramError(f"{function} takes one number, got {len(values)}")
    a, b = values[0]
    if function == "abs":
        return abs(a), b
    if function == "floor":
        return a // b, 1
    if function == "gcd":
        if any(n % m for n, m in values):
            raise ProgramError("gcd takes integers")
        return math.gcd(*[n // m for n, m in values]), 1
    ahead = (lambda x, y: x[0] * y[1] > y[0] * x[1]) if function == "max" else (lambda x, y: x[0] * y[1] < y[0] * x[1])
    return reduce(lambda x, y: y if ahead(y, x) else x, values)


def format_number(value):
    a, b = value
    common = math.gcd(a, b)
    return str(a // common) if b == common else f"{a // common}/{b // common}"
