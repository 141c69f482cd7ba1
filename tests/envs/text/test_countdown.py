from fractions import Fraction
from itertools import combinations_with_replacement

import numpy as np
import pytest

from explore_gym.envs.text import countdown
from explore_gym.envs.text.countdown import Countdown, find, solve_all
from explore_gym.envs.text.general_points import GeneralPoints
from explore_gym.envs.text.interpreter import parse


def task_of(cards, target=24, faces=(), **kwargs):
    task = Countdown(cards=len(cards), **kwargs)
    task._instances = {0: (tuple(cards), faces, target)}
    return task


def brute_force(numbers):
    """All (text, value) by joining every pair in every order, texts with sorted operands of + and *; slow and independent."""
    found = set()

    def join(there):
        if len(there) == 1:
            found.add(there[0])
            return
        for i in range(len(there)):
            for j in range(len(there)):
                if i == j:
                    continue
                (left, x), (right, y) = there[i], there[j]
                rest = [there[k] for k in range(len(there)) if k not in (i, j)]
                one, two = sorted((left, right))
                join([*rest, (f"({one}+{two})", x + y)])
                join([*rest, (f"({one}*{two})", x * y)])
                join([*rest, (f"({left}-{right})", x - y)])
                if y:
                    join([*rest, (f"({left}/{right})", x / y)])

    join([(str(n), Fraction(n)) for n in numbers])
    return found


@pytest.mark.parametrize("numbers", [(3, 3, 8, 8), (1, 2, 3, 4), (1, 1, 5, 7), (2, 12, 13)])
def test_solutions_are_those_of_brute_force(numbers):
    every = brute_force(numbers)
    for target in (24, 1, 7):
        expected = sorted({text for text, value in every if value == target})
        assert solve_all(tuple(sorted(numbers)), (target, 1)) == expected
        found = find(tuple(sorted(numbers)), (target, 1))
        assert found in expected if expected else found is None


def test_the_solver_finds_a_solution_exactly_where_there_is_one():
    """1362 of the 1820 hands of four cards from 1 to 13 make 24."""
    hands = list(combinations_with_replacement(range(1, 14), 4))
    solvable = [find(hand, (24, 1)) is not None for hand in hands]
    assert (len(hands), sum(solvable)) == (1820, 1362)
    for hand, found in list(zip(hands, solvable))[::90]:
        assert bool(solve_all(hand, (24, 1))) == found


def test_the_solver_of_five_cards_agrees_with_the_enumeration():
    for hand, target in (((1, 1, 1, 2, 11), 29), ((1, 1, 1, 1, 1), 24), ((2, 3, 5, 7, 11), 199), ((1, 1, 2, 2, 9), 0)):
        every = solve_all(hand, (target, 1))
        found = find(hand, (target, 1))
        assert (found is None) == (not every), (hand, target)
        assert found is None or countdown.canonical(parse(found)) in every


def test_the_one_solution_of_a_hard_hand():
    task = task_of((3, 3, 8, 8))
    assert task.prompt(0) == "3 3 8 8 ; 24 ="
    assert task.solutions(0) == ["8 / ( 3 - 8 / 3 )"]
    assert task.verify(0, "8/(3-8/3)") == 1.0


@pytest.mark.parametrize(
    ("response", "judged"),
    [
        ("(5 - 1 / 5) * 5", "right"),
        ("5*(5-(1/5))", "right"),
        ("5 × (5 − 1 ÷ 5)", "right"),
        ("((5)*((5-1/5))) = 24", "right"),
        ("05 * (5 - 1/5)", "right"),
        ("think 5*5=25 <answer>5*(5-1/5)</answer> ", "right"),
        ("5*(5-1/5) = 25", "value"),
        ("5*5*5*1", "value"),
        ("5*5-1/(5-5)", "cards"),
        ("1/(5-5)+5", "value"),
        ("5*5-1", "cards"),
        ("24", "cards"),
        ("5*(5-1/5)+0", "cards"),
        ("55*(1-5)", "cards"),
        ("-5*(1/5-5)", "syntax"),
        ("5*(5-1/5", "syntax"),
        ("5*(5-1/5) or 5*5-1", "syntax"),
        ("<answer>5*(5-1/5)</answer><answer>1</answer>", "syntax"),
        ("5**1*5-1/5", "syntax"),
        ("5//1*5-5", "syntax"),
        ("", "syntax"),
        ("5*(5-1/5) = x", "syntax"),
        ("5 5 * 1 5", "syntax"),
        ("²4", "syntax"),
    ],
)
def test_judgement_of_responses(response, judged):
    task = task_of((5, 1, 5, 5))
    assert task.judge(task.instance(0), response) == judged
    assert task.verify(0, response) == float(judged == "right")


@pytest.mark.parametrize(
    ("response", "judged"),
    [
        ("8 / 3 = (8/3) ; 3 - (8/3) = (1/3) ; 8 / (1/3) = 24", "right"),
        ("8/3=(8/3)\n3-(16/6)=(1/3)\n8/(1/3)=24", "right"),
        ("8 / 3 = 3 ; 8 * 3 = 24", "value"),
        ("8 * 3 = 24", "cards"),
        ("8 * 3 = 24 ; 24 * 1 = 24 ; 24 / 1 = 24", "cards"),
        ("3 - 3 = 0 ; 8 / 0 = 8 ; 8 * 8 = 64", "value"),
        ("3 * 8 = 24 ; 8 / 3 = (8/3) ; 24 * (8/3) = 64", "value"),
        ("8 / (3 - 8 / 3)", "syntax"),
        ("8 / 3 = (8/0) ; 1", "syntax"),
    ],
)
def test_judgement_of_steps(response, judged):
    task = task_of((8, 3, 8, 3), form="steps")
    assert task.judge(task.instance(0), response) == judged


def test_steps_write_each_operation_with_plain_results():
    task = task_of((1, 2, 3, 4), form="steps")
    for solution in task.solutions(0):
        assert task.verify(0, solution) == 1.0
        assert len(solution.split(";")) == 3
        task.tokenizer.encode(solution)
    assert "1 + 2 = 3 ; 3 + 3 = 6 ; 6 * 4 = 24" in task.solutions(0)


def test_canonical_solutions():
    task = task_of((1, 2, 3, 4))
    assert task.canonical("2 * (3 * 4) * 1") == task.canonical("1*((4*3)*2)") == "(((3*4)*2)*1)"
    assert task.canonical("1 - 2") != task.canonical("2 - 1")
    assert task.canonical("call me") is None
    found = [task.canonical(solution) for solution in task.solutions(0)]
    assert len(set(found)) == len(found) == len(solve_all((1, 2, 3, 4), (24, 1)))
    assert all(task.verify(0, solution) == 1.0 for solution in task.solutions(0))


def test_faces_are_told_and_count_what_is_told():
    task = task_of(("J", 2, "Q", 1), faces=(9, 8, 10), target=19)
    assert task.prompt(0) == "J 2 Q 1 ; J = 9 Q = 8 K = 10 ; 19 ="
    assert task.verify(0, "9 + 2 + 8 * 1") == 1.0
    assert task.verify(0, "11 + 2 + 12 * 1") == 0.0
    drawn = Countdown(faces=[8, 9], high=7, num_tasks=50)
    maps = {drawn.instance(i)[1] for i in range(50)}
    assert {value for faces in maps for value in faces} == {8, 9}
    fixed = Countdown(faces={"J": 11, "Q": 12, "K": 13}, num_tasks=5)
    assert {fixed.instance(i)[1] for i in range(5)} == {(11, 12, 13)}


def test_arguments_draw_what_they_say():
    task = Countdown(cards=3, low=2, high=5, target=(10, 12))
    for i in range(40):
        cards, _, target = task.instance(i)
        assert len(cards) == 3 and all(2 <= card <= 5 for card in cards) and 10 <= target <= 12
        assert task.verify(i, task.solve(i)) == 1.0
    few = Countdown(solutions=(2, 3))
    assert all(2 <= len(few.solutions(i)) <= 3 for i in range(10))
    many = Countdown(cards=6, high=30, target=(30, 99))
    assert [many.verify(i, many.solve(i)) for i in range(3)] == [1.0] * 3
    with pytest.raises(ValueError, match="solutions can be enumerated for up to 5 cards, this task has 6"):
        many.solutions(0)


def test_skill_is_the_share_of_right_demonstrations():
    rng = np.random.default_rng(0)
    task = Countdown(num_tasks=20)
    assert all(task.verify(i, task.demonstrate(i, rng)) for i in range(20))
    assert len({task.demonstrate(1, rng) for _ in range(1000)}) == len(task.solutions(1))
    worse = Countdown(num_tasks=20, skill=0.25)
    rewards = [worse.verify(i % 20, worse.demonstrate(i % 20, rng)) for i in range(400)]
    assert 0.15 < np.mean(rewards) < 0.4  # a random expression is right now and then


def test_no_hand_is_in_both_splits():
    hands = [{task.key(task.instance(i)) for i in range(300)} for task in (Countdown(), Countdown(split="test"))]
    assert hands[0] and hands[1] and not hands[0] & hands[1]


def test_long_wording_tells_the_rules():
    task = task_of((1, 2, 3, 4), wording="long")
    assert task.prompt(0).startswith("Use each of the cards 1 2 3 4 exactly once, with + - * / and brackets, to make 24.")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(cards=7), "cards must be"),
        (dict(low=0), "low must be"),
        (dict(high=201), "high must be"),
        (dict(target=0), "target must be"),
        (dict(target=[5, 3]), r"target must be a pair \(lowest, highest\), got \[5, 3\]"),
        (dict(faces=[0]), "faces must be"),
        (dict(faces={"J": 11}), "faces must be a list of values or give J, Q and K a value"),
        (dict(form="tree"), "form must be one of expression, steps, got 'tree'"),
        (dict(cards=5, form="steps"), "are for 2 to 4 cards, got cards=5"),
        (dict(skill=2.0), "skill must be"),
        (dict(wording="rude"), "wording must be one of short, long, got 'rude'"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Countdown(**kwargs)


def test_general_points_replies_and_rewards():
    task = GeneralPoints(attempts=2)
    memory = task.new_memory()
    assert task.begin(3, memory) == task.prompt(3)
    cards = task.numbers(task.instance(3))
    added = " + ".join(map(str, cards))
    assert sum(cards) != 24
    for response, reward, fault in (
        ("+", -3.0, "syntax"),
        ("1", -2.0, "cards"),
        (added, -1.0, "value"),
        (task.solve(3), 5.0, ""),
    ):
        reply = task.respond(3, task.new_memory(), response)
        assert (reply.reward, reply.text) == (reward, f"wrong {fault}" if fault else "")
        assert reply.terminated == (not fault)
    assert task.respond(3, memory, "1")[:3] == ("wrong cards", -2.0, False)
    assert task.respond(3, memory, "1")[:3] == ("", -2.0, True)
    with pytest.raises(ValueError, match=r"attempts must be an integer in \[1, 20\], got 0"):
        GeneralPoints(attempts=0)
