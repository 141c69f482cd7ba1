"""Arithmetic, sorting and parity."""

import numpy as np
import pytest

from explore_gym.envs.text.arithmetic import Arithmetic
from explore_gym.envs.text.parity import Parity
from explore_gym.envs.text.sorting import Sorting


def given(task, instance):
    task._instances[0] = instance
    return task


def test_arithmetic_by_hand():
    task = given(Arithmetic(), ("17 + 4 * 3", 29))
    assert (task.prompt(0), task.solve(0), task.solutions(0)) == ("17 + 4 * 3 =", "29", ["29"])
    for response, reward in (
        (" 29 ", 1),
        ("+029", 1),
        ("<answer>29</answer>", 1),
        ("29.0", 0),
        ("30", 0),
        ("29 30", 0),
        ("", 0),
    ):
        assert task.verify(0, response) == reward
    assert given(Arithmetic(), ("3 - 20", -17)).verify(0, "−17") == 1.0
    assert given(Arithmetic(modulus=97), ("3 - 20", 80)).prompt(0) == "3 - 20 mod 97 ="
    assert given(Arithmetic(wording="long"), ("3 - 20", -17)).prompt(0) == "What is 3 - 20? Answer with the number alone."


def test_arithmetic_draws_what_its_arguments_say():
    task = Arithmetic(operations=(2, 4), digits=3, operators="+*", modulus=10)
    for i in range(60):
        text, value = task.instance(i)
        numbers, signs = text.split()[::2], text.split()[1::2]
        assert 2 <= len(signs) <= 4 and set(signs) <= {"+", "*"} and max(map(len, numbers)) <= 3
        assert value == eval(text) % 10
    assert all(task.verify(i, task.solve(i)) == 1.0 for i in range(60))


def test_the_calculator_is_called_answered_and_counted():
    task = given(Arithmetic(tool=True, calls=2), ("17 + 4 * 3", 29))
    rng, memory = np.random.default_rng(0), task.new_memory()
    call = task.demonstrate(0, rng, memory)
    assert call == "call 17 + 4 * 3"
    reply = task.respond(0, memory, call)
    assert (reply.text, reply.reward, reply.terminated) == ("\n29\n", 0.0, False)
    reply = task.respond(0, memory, "call 1 / 0")
    assert reply.text == "\nerror: division by zero\n"
    assert (reply.metrics["calls"], reply.metrics["errors"]) == (2, 1)
    reply = task.respond(0, memory, "call 29")  # no call is left: it counts as the answer
    assert (reply.reward, reply.terminated) == (0.0, True)
    assert task.respond(0, task.new_memory(), "29")[:3] == ("", 1.0, True)
    assert given(Arithmetic(), ("1 + 1", 2)).respond(0, task.new_memory(), "call 1 + 1").terminated
    assert given(Arithmetic(tool=True, modulus=7), ("9 + 9", 4)).demonstrate(0, rng) == "call (9 + 9) % 7"


def test_sorting_by_hand():
    task = given(Sorting(), (31, 4, 15, 4))
    assert (task.prompt(0), task.solve(0)) == ("31 4 15 4 =", "4 4 15 31")
    right = ("4 4 15 31", "4,4, 15 ,31", "[4, 4, 15, 31]", "<answer>4 4 15 31</answer>")
    wrong = ("4 15 31", "4 4 31 15", "4 4 15 31 31", "4 4 15 31.0", "[4 4 15 31", "")
    assert [task.verify(0, response) for response in (*right, *wrong)] == [1.0] * 4 + [0.0] * 6


def test_sorting_draws_what_its_arguments_say():
    task = Sorting(min_length=2, max_length=3, high=5)
    lists = [task.instance(i) for i in range(100)]
    assert {len(numbers) for numbers in lists} == {2, 3}
    assert {number for numbers in lists for number in numbers} == set(range(6))
    rng = np.random.default_rng(0)
    assert all(Sorting(skill=0.0).verify(i, Sorting(skill=0.0).demonstrate(i, rng)) == 0.0 for i in range(20))


def test_parity_by_hand():
    task = given(Parity(), (1, 0, 1, 1))
    assert (task.prompt(0), task.solve(0)) == ("1 0 1 1 =", "1 1 0 1 # 1")
    for response, reward in (("# 1", 1), ("1", 1), ("0 0 # 1", 1), ("1 1 0 1", 0), ("# 0", 0), ("# 1 # 1", 0), ("", 0)):
        assert task.verify(0, response) == reward
    assert given(Parity(steps=False), (1, 1)).solve(0) == "# 0"


def test_skill_of_parity_is_that_of_each_step():
    task, rng = Parity(min_length=2, max_length=2, skill=0.8), np.random.default_rng(0)
    rewards = [task.verify(0, task.demonstrate(0, rng)) for _ in range(2000)]
    assert np.mean(rewards) == pytest.approx(0.8**2 + 0.2**2, abs=0.04)  # two faults cancel


def test_skill_of_arithmetic():
    task, rng = Arithmetic(skill=0.5), np.random.default_rng(0)
    assert np.mean([task.verify(i % 50, task.demonstrate(i % 50, rng)) for i in range(1000)]) == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize(
    ("cls", "kwargs", "message"),
    [
        (Arithmetic, dict(operations=(1,)), "operations must be a pair"),
        (Arithmetic, dict(operations=(3, 2)), "operations must be an integer"),
        (Arithmetic, dict(operators="+^"), "operators must be some of"),
        (Arithmetic, dict(modulus=1), "modulus must be"),
        (Arithmetic, dict(wording="verse"), "wording must be 'short' or 'long', got 'verse'"),
        (Sorting, dict(high=0), "high must be"),
        (Sorting, dict(min_length=5, max_length=4), "max_length must be"),
        (Parity, dict(min_length=0), "min_length must be"),
        (Parity, dict(skill=-1), "skill must be"),
    ],
)
def test_bad_arguments_are_named(cls, kwargs, message):
    with pytest.raises(ValueError, match=message):
        cls(**kwargs)
