import math

import numpy as np
import pytest

from explore_gym.envs.text.text_bandit import TextBandit


def remember(task, counts, sums):
    memory = task.new_memory()
    memory["counts"], memory["sums"] = counts, sums
    return memory


def test_the_prompt_shows_counts_and_rounded_means():
    task = TextBandit(arms=3)
    assert task.prompt(0) == "1 0 0.00\n2 0 0.00\n3 0 0.00\n"
    assert task.tell(remember(task, [12, 0, 3], [-6.4, 0.0, 2.0])) == "1 12 -0.53\n2 0 0.00\n3 3 0.67\n"
    assert task.tell(remember(task, [1, 0, 0], [-0.001, 0.0, 0.0])).startswith("1 1 0.00\n")


def test_ucb_by_hand():
    task = TextBandit(arms=2, exploration=0.5)
    memory = remember(task, [4, 1], [2.4, 0.2])  # turn 6: means 0.6 and 0.2, bonuses 0.5 sqrt(ln 6 / 4) and 0.5 sqrt(ln 6)
    assert task.bonuses(memory) == pytest.approx([0.5 * math.sqrt(math.log(6) / 4), 0.5 * math.sqrt(math.log(6))])
    assert task.best(memory) == [0]  # 0.93 against 0.87
    assert TextBandit(arms=2, exploration=1.0).best(memory) == [1]  # 1.27 against 1.54
    assert TextBandit(arms=2, exploration=1.0).best(memory, "sub_ucb") == [0]  # 0.6 + sqrt(ln 5 / 4), 0.2 + sqrt(ln 2)
    assert task.best(memory, "greedy") == [0]
    assert task.best(remember(task, [0, 3], [0.0, 3.0])) == [0]
    assert task.best(remember(task, [2, 2], [1.0, 1.0])) == [0, 1]
    assert task.rationale(memory) == "1 4 0.60 0.33 0.93\n2 1 0.20 0.67 0.87\n"
    assert task.rationale(remember(task, [1, 0], [1.0, 0.0])) == "1 1 1.00 0.42 1.42\n2 0 0.00 new\n"


def test_rewards_of_the_three_kinds():
    means = (0.2, 0.5, 0.6)
    for reward, expected in (("raw", None), ("regret", 0.75), ("teacher", 1.0)):
        task = TextBandit(arms=3, reward=reward, pulls=2)
        task._instances[0] = means
        memory = task.new_memory()
        reply = task.respond(0, memory, "<think>any</think><answer>2</answer>")
        pulled = task.draw(0, 1, 0)
        assert reply.reward == pytest.approx(pulled if expected is None else expected)
        assert (reply.metrics["pulled"], reply.metrics["arm"], reply.metrics["optimal"]) == (pulled, 1, False)
        assert reply.metrics["regret"] == pytest.approx(0.1)
        assert not reply.terminated and reply.text == f"1 0 0.00\n2 1 {pulled:.2f}\n3 0 0.00\n"
        reply = task.respond(0, memory, "2")
        assert reply.terminated and reply.text == ""
        assert not reply.metrics["teacher"]  # arms 1 and 3 come first
        assert reply.metrics["cumulative_regret"] == pytest.approx(0.2)
    assert task.verify(0, "3") == 1.0 and task.verify(0, "1") == 0.0 and task.verify(0, "4") == 0.0


def test_an_answer_without_an_arm_pulls_none():
    task = TextBandit(arms=3)
    task._instances[0] = (0.2, 0.5, 0.6)
    for response in ("", "4", "0", "arm 2", "<answer>2", "2 3"):
        memory = task.new_memory()
        reply = task.respond(0, memory, response)
        assert (reply.reward, reply.metrics["arm"], memory["counts"].sum(), memory["turn"]) == (0.0, -1, 0, 1)
        assert reply.metrics["regret"] == pytest.approx(0.4)


@pytest.mark.parametrize("family", ["bernoulli", "gaussian"])
def test_rewards_are_functions_of_the_task_with_its_means(family):
    task = TextBandit(family=family)
    drawn = np.array([[task.draw(5, arm, n) for n in range(3000)] for arm in range(5)])
    means = np.array(task.instance(5))
    deviation = np.sqrt(means * (1 - means)) if family == "bernoulli" else np.ones(5)
    assert (abs(drawn.mean(1) - means) < 4 * deviation / np.sqrt(3000) + 1e-9).all()
    assert drawn.std(1) == pytest.approx(deviation, abs=0.05)
    assert task.draw(5, 2, 7) == drawn[2, 7]


def test_ucb_regret_at_50_pulls_is_that_of_simulations():
    """Bernoulli: 5.2 with exploration 0.5, greedy 4.7, uniform 16.7 = 50 * (5/6 - 1/2), over many runs."""
    regrets = {}
    for demonstrator in ("ucb", "uniform"):
        task, rng = TextBandit(demonstrator=demonstrator, think=False), np.random.default_rng(0)
        totals = []
        for index in range(150):
            memory = task.new_memory()
            for _ in range(50):
                reply = task.respond(index, memory, task.demonstrate(index, rng, memory))
            totals.append(reply.metrics["cumulative_regret"])
        regrets[demonstrator] = np.mean(totals)
    assert regrets["ucb"] == pytest.approx(5.2, abs=0.9)
    assert regrets["uniform"] == pytest.approx(16.7, abs=1.7)


def test_demonstrations_answer_the_prompt_they_stand_with():
    task, rng = TextBandit(pulls=10), np.random.default_rng(1)
    turns = []
    for prompt, response in task.demonstrations(range(60), rng):
        lines = [line.split() for line in prompt.splitlines()]
        memory = remember(task, [int(n) for _, n, _ in lines], [int(n) * float(m) for _, n, m in lines])
        assert task.arm_of(response) in task.best(memory)
        assert response.startswith("<think>1 ")
        turns.append(sum(int(n) for _, n, _ in lines))
    assert set(turns) == set(range(10))


def test_the_base_is_greedy_in_two_of_five_pulls():
    task, rng = TextBandit(demonstrator="base", think=False), np.random.default_rng(0)
    memory = remember(task, [5, 5, 5, 5, 5], [1.0, 2.0, 3.0, 4.0, 5.0])
    pulls = [task.demonstrate(0, rng, memory) for _ in range(2000)]
    assert pulls.count("5") / 2000 == pytest.approx(0.4 + 0.6 / 5, abs=0.05)
    assert pulls.count("1") / 2000 == pytest.approx(0.6 / 5, abs=0.03)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(family="poisson"), "family must be one of bernoulli, gaussian, got 'poisson'"),
        (dict(reward="none"), "reward must be one of raw, regret, teacher"),
        (dict(demonstrator="me"), "demonstrator must be one of"),
        (dict(arms=1), "arms must be"),
        (dict(pulls=0), "pulls must be"),
        (dict(exploration=-1.0), "exploration must be"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TextBandit(**kwargs)
