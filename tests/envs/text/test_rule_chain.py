import numpy as np
import pytest

from explore_gym.envs.text.rule_chain import RuleChain


def tiny(**kwargs):
    """Four values; rule 0 adds one, rule 1 doubles and adds one in a circle of four with 3 and 1 exchanged."""
    task = RuleChain(values=4, rules=2, min_length=2, max_length=2, **kwargs)
    task.table = np.array([[1, 2, 3, 0], [3, 1, 0, 2]])
    task.decoys = np.array([[0, 0, 0, 1], [1, 3, 2, 0]])
    task._instances = {0: (2, (0, 1))}  # 2 -> 3 -> 2
    return task


def test_prompt_chain_and_solution_by_hand():
    task = tiny()
    assert task.prompt(0) == "2 r0 r1 ="
    assert task.chain(task.instance(0)) == [2, 3, 2]
    assert task.solve(0) == "3 2 # 2"
    assert task.solutions(0) == ["3 2 # 2"]


@pytest.mark.parametrize(
    ("style", "solution"),
    [
        ("pairs", "2 3 ; 3 2 ; # 2"),
        ("rules", "2 r0 > 3 ; 3 r1 > 2 ; # 2"),
        ("checks", "2 r0 > 3 ; ? 2 r0 3 ; 3 r1 > 2 ; ? 3 r1 2 ; # 2"),
        ("chunks", "2 # 2"),
        ("answer", "# 2"),
    ],
)
def test_styles_write_the_same_chain(style, solution):
    task = tiny(style=style)
    assert task.solve(0) == solution
    assert task.verify(0, solution) == 1.0
    assert all(task.truth(0, solution))
    assert len(solution.split()) == task.response_tokens


@pytest.mark.parametrize(
    ("response", "reward"),
    [("# 2", 1.0), ("0 0 #2 ", 1.0), ("3 2 2", 0.0), ("3 2 # 3", 0.0), ("# 2 # 3", 0.0), ("# 3 # 2", 0.0), ("# 2 2", 0.0)],
)
def test_only_what_follows_the_only_mark_counts(response, reward):
    assert tiny().verify(0, response) == reward


def test_truth_of_each_step():
    task = tiny()
    assert task.truth(0, "3 1 # 1") == [True, False]
    assert task.truth(0, "0 2 2 # 2") == [False, True, False]
    assert task.truth(0, "2 r0 > 3 ; 3 r1 > 0 ; # 0") == [True, False]


def test_success_rate_by_hand():
    # step 1 is right with 0.8 + 0.2 * 0.5 / 4 = 0.825; else from 0 with 0.2 * (0.5 + 0.125), from 1 and 2 with 0.025 each
    task = tiny(skill=(np.log(4.0), 0.0), decoy_mass=0.5)
    assert task.skill == pytest.approx([0.8, 0.5])
    # step 2 ends at 2: rightly from 3 with 0.5, by decoy from 2 with 0.25, by chance with 0.0625 from all
    assert task.success_rate(0) == pytest.approx(0.825 * 0.5 + 0.025 * 0.25 + 0.0625)


def test_demonstrations_succeed_as_often_as_success_rate_says():
    task, rng = RuleChain(max_length=3, seed=2), np.random.default_rng(0)
    for index in (1, 4, 6):
        p = task.success_rate(index)
        hits = sum(task.verify(index, task.demonstrate(index, rng)) for _ in range(2000))
        assert hits / 2000 == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 2000) + 1e-9)


def test_wrong_steps_go_on_from_what_was_written():
    task, rng = tiny(skill=(0.0, 50.0), decoy_mass=1.0), np.random.default_rng(0)
    assert {task.demonstrate(0, rng) for _ in range(50)} == {"3 2 # 2", "0 3 # 3"}  # decoy of 2 is 0, which rule 1 leads to 3


def test_rules_are_permutations_and_decoys_are_wrong():
    task = RuleChain(seed=5)
    assert (np.sort(task.table) == np.arange(96)).all()
    assert (task.decoys != task.table).all()
    assert (RuleChain(seed=5, split="test", max_length=2).table == task.table).all()
    assert not (RuleChain(seed=6).table == task.table).all()


def test_rules_of_a_chain_lie_around_a_centre_and_lengths_in_range():
    task = RuleChain(min_length=2, max_length=5, spread=1)
    instances = [task.instance(i) for i in range(300)]
    assert {len(rules) for _, rules in instances} == {2, 3, 4, 5}
    assert max(max(rules) - min(rules) for _, rules in instances) == 2


def test_no_task_is_in_both_splits():
    train, test = RuleChain(rules=3, values=5, max_length=2), RuleChain(rules=3, values=5, max_length=2, split="test")
    prompts = [{task.prompt(i) for i in range(400)} for task in (train, test)]
    assert prompts[0] and prompts[1] and not prompts[0] & prompts[1]
    every = RuleChain(rules=3, values=5, max_length=2, split="all")
    shared = [every.prompt(i) in prompts[1] for i in range(2000)]
    assert 0.02 < np.mean(shared) < 0.4  # one in eight, up to the few prompts there are


def test_batches_are_verified_as_single_responses():
    task = RuleChain()
    responses = [task.solve(i) if i % 3 else "# 1" for i in range(60)]
    batch = task.verify_batch(np.arange(60), responses)
    assert batch.dtype == np.float64
    assert batch.tolist() == [task.verify(i, r) for i, r in enumerate(responses)]
    with pytest.raises(ValueError):
        task.verify_batch([0, 1], ["# 1"])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(values=1), "values must be an integer in"),
        (dict(rules=1), "rules must be an integer in"),
        (dict(min_length=0), "min_length must be"),
        (dict(max_length=0), r"max_length must be an integer in \[1, 32\], got 0"),
        (dict(spread=-1), "spread must be"),
        (dict(skill=[0.5]), "skill must be two log-odds or 32 probabilities"),
        (dict(skill=[2.0] * 32), "skill must hold probabilities"),
        (dict(decoy_mass=1.5), "decoy_mass must be a number"),
        (dict(style="verse"), "style must be one of steps, pairs, rules, checks, chunks, answer, got 'verse'"),
        (dict(split="dev"), "split must be one of train, test, all, got 'dev'"),
        (dict(num_tasks=0), "num_tasks must be"),
        (dict(seed=-1), "seed must be"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        RuleChain(**kwargs)


def test_an_index_outside_the_tasks_is_refused():
    task = RuleChain(num_tasks=3)
    for index in (-1, 3, 0.5, "0"):
        with pytest.raises(ValueError, match=r"index must be an integer in \[0, 2\]"):
            task.prompt(index)
