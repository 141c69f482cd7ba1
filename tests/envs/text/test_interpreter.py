import time

import pytest

from explore_gym.envs.text.interpreter import MAX_DEPTH, ProgramError, parse, run


@pytest.mark.parametrize(
    ("program", "result"),
    [
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("8 - 3 - 2", "3"),
        ("2 ** 3 ** 2", "512"),
        ("-2 ** 2", "-4"),
        ("2 ** -2", "1/4"),
        ("(-2) ** -3", "-1/8"),
        ("7 // 2; -7 // 2", "-4"),
        ("7 % 3 + -7 % 3", "3"),
        ("1 / 3 + 1 / 6", "1/2"),
        ("4 / -2", "-2"),
        ("0.25 * 3", "3/4"),
        ("x = 3 * 4; (x + 2) / 4", "7/2"),
        ("a = 1\nb = a + 1\n\na + b", "3"),
        ("max(1, 7/2, 3) - min(2, 5) + abs(-1/2)", "2"),
        ("gcd(12, 18) + floor(-7/2)", "2"),
        ("6 × 7 − 84 ÷ 2", "0"),
    ],
)
def test_results(program, result):
    assert run(program) == result


@pytest.mark.parametrize(
    ("program", "fault"),
    [
        ("", "the program is empty"),
        (" ;\n; ", "the program is empty"),
        ("1 / 0", "division by zero"),
        ("5 % (2 - 2)", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("x + 1", "'x' is not known"),
        ("1 +", "the expression is incomplete"),
        ("(1 + 2", "a bracket is not closed"),
        ("1 2", "'2' is out of place"),
        ("3 = 4", "'3' can't be assigned to"),
        ("max = 4", "'max' can't be assigned to"),
        ("2 ** 9 ** 9", "the number is too large"),
        ("2 ** 600", "the number is too large"),
        ("x = 2 ** 500; x * x", "the number is too large"),
        ("2 ** (1/2)", "the exponent is no integer"),
        ("9" * 41, "the number is too large"),
        ("(" * (MAX_DEPTH + 2) + "1" + ")" * (MAX_DEPTH + 2), "the expression is too deep"),
        ("-" * 200 + "1", "the expression is too deep"),
        ("1+" * 300 + "1", "the program is too long"),
        ("1" + " " * 2000, "the program is too long"),
        ("٣ + 1", "'٣' is no part of the language"),
        ("²", "'²' is no part of the language"),
        ("gcd(1/2, 3)", "gcd takes integers"),
        ("abs(1, 2)", "abs takes one number, got 2"),
        ("__import__('os')", "'(' is out of place"),
        ("open('/etc/passwd')", "'(' is out of place"),
        ("().__class__", "')' is out of place"),
        ("lambda: 1", "':' is out of place"),
        ("1 if 1 else 2", "'if' is out of place"),
    ],
)
def test_faults_are_told(program, fault):
    assert run(program) == f"error: {fault}"


def test_limits_are_not_reached_before():
    assert run("(" * MAX_DEPTH + "1" + ")" * MAX_DEPTH) == "1"
    assert run("2 ** 511") == str(2**511)
    assert run("+".join(["1"] * 200)) == "200"


def test_the_worst_programs_are_fast():
    worst = [
        "x = 2 ** 400; " + "; ".join(["x * x / x"] * 40),
        "7 % 3 " + "* 9 ** 9" * 80,
        "max(" + ",".join(["9 ** 99"] * 60) + ")",
    ]
    for program in worst:
        start = time.process_time()
        run(program)
        assert time.process_time() - start < 0.05


def test_trees():
    assert parse("1 - 2 - 3 * x") == ("-", ("-", "1", "2"), ("*", "3", "x"))
    assert parse("-2 ** 2\n+ abs(1)") == ("+", ("neg", ("**", "2", "2")), ("call", "abs", "1"))
    for text in ("", "1;2", "x = 1", "(1", "1)"):
        with pytest.raises(ProgramError):
            parse(text)
