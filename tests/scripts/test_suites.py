import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from explore_gym.agents.common import UsageError
from explore_gym.scripts.suites import SUITES, Task, read_suite

ROOT = Path(__file__).parents[2]
PRESENTATION = {"observation"}  # arguments that change no return
TASKS = {(task.env, task.name): task for tasks in SUITES.values() for task in tasks}


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_references_are_what_their_source_says(task):
    if task.source == "exact":
        env = gym.make(task.env, **task.kwargs).unwrapped
        random, optimal = env.random_value(), env.optimal_value()
    else:
        settings = json.loads((ROOT / "docs" / "envs" / "scores.json").read_text())["settings"]
        kwargs = {key: value for key, value in task.kwargs.items() if key not in PRESENTATION}
        (entry,) = (entry for entry in settings if (entry["id"], entry["kwargs"]) == (task.env, kwargs))
        random, optimal = np.mean(entry["random"]["return"]), np.mean(entry["exact"]["optimal"])
    assert (task.random, task.optimal) == (pytest.approx(random, abs=1e-6), pytest.approx(optimal, abs=1e-6))


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_twenty_episodes_fit_into_a_tenth_of_the_budget(task):
    """Over which a score is averaged."""
    env = gym.make(task.env, **task.kwargs).unwrapped
    assert env.time_limit is None or task.steps / 10 >= 20 * env.time_limit


def test_normalised_scores_lie_between_random_and_optimal():
    task = Task("Explore/DeepSea-v0", 100, random=-1.0, optimal=3.0, kwargs={"size": 5})
    assert [task.normalised(x) for x in (-1.0, 0.0, 3.0)] == [0.0, 0.25, 1.0]
    assert task.name == "DeepSea-v0,size=5"
    assert Task("Other/Env-v0", 1, 0, 1, kwargs={"path": "a/b c"}).name == "Other-Env-v0,path=a-b-c"


def test_names_are_unique_and_budgets_scale():
    for name, tasks in SUITES.items():
        assert read_suite(name) == tasks
        assert [task.steps for task in read_suite(name, 0.1)] == [task.steps // 10 for task in tasks]


def test_a_suite_of_ones_own_is_a_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('[{"env": "CartPole-v1", "steps": 1000, "random": 20, "optimal": 500}]')
    assert read_suite(str(path)) == [Task("CartPole-v1", 1000, 20, 500, "given", {})]


ENTRY = {"env": "CartPole-v1", "steps": 1000, "random": 20, "optimal": 500}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON file"),
        ("{}", "must hold a list of tasks, got dict"),
        ([{**ENTRY, "colour": 1}], "task 1: expected an object with env, steps, random, optimal, source, kwargs"),
        ([{"env": "CartPole-v1"}], "task 1: expected an object"),
        ([ENTRY, {**ENTRY, "optimal": 20}], "task 2: steps must be >= 1 and random < optimal"),
        ([{**ENTRY, "steps": "many"}], "task 1: steps must be >= 1"),
        ([{**ENTRY, "source": "hearsay"}], "source must be one of exact, stored, given"),
        ([ENTRY, ENTRY], "has the same task twice: CartPole-v1, CartPole-v1"),
    ],
)
def test_a_file_that_makes_no_sense(tmp_path, content, message):
    path = tmp_path / "mine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UsageError, match=message):
        read_suite(str(path))


def test_unknown_suite():
    with pytest.raises(UsageError, match=r"no suite 'chess', expected one of sparse, stochastic, .*tabular or a JSON"):
        read_suite("chess")


def test_the_page_lists_every_suite():
    page = (ROOT / "docs" / "benchmark.md").read_text()
    for name, tasks in SUITES.items():
        assert f"| `{name}` | " in page
        for task in tasks:
            row = f"| `{task.name}` | {task.steps:,} | {task.random:g} | {task.optimal:g} | {task.source} |"
            assert row in page, row
