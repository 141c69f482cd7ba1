import numpy as np
import pytest

from explore_gym.envs.text.tool_grammar import KINDS, SYLLABLES, Request, ToolGrammar, correctness, greedy_total, optimal_total

PRICES = (("price", (("a", "O"), ("b", "S"))), ("price", (("a", "O"), ("b", "L"))))


def request_of(kind, *calls):
    return Request(kind, False, (), "", 1, "", calls)


def task_of(kind, *calls, **kwargs):
    task = ToolGrammar(**kwargs)
    task._instances[0] = request_of(kind, *calls)
    return task


def respond(*calls, response=None):
    lines = "\n".join(calls)
    said = f"\n<response> {response} </response>" if response else ""
    called = f"\n<tool_call>\n{lines}\n</tool_call>" if calls else ""
    return f"<think> hm </think>{called}{said}"


ONE = '{"name": "price", "parameters": {"a": "O", "b": "S"}}'
TWO = '{"name": "price", "parameters": {"a": "O", "b": "L"}}'


def test_vectors_of_the_paper_s_figure():
    task = task_of("parallel", *PRICES)
    partial = respond(ONE, '{"name": "price", "parameters": {"b": "L"}}')
    for matching in ("greedy", "optimal"):
        assert task.correctness(0, partial, matching=matching) == pytest.approx(5.5 / 7)  # 6 * 5.5 / 7 - 3 = 1.714
    other = respond('{"name": "flight", "parameters": {"f": 1, "t": 2}}', TWO)
    assert task.correctness(0, other) == pytest.approx((1 / 3 + 2) / 7)  # the first wanted call steals it: -1.0
    assert task.correctness(0, other, matching="optimal") == pytest.approx((1 / 3 + 3) / 7)  # -0.143


@pytest.mark.parametrize(
    ("granularity", "expected"),
    [("fine", 5.5 / 7), ("coarse", 0.0), ("intermediate", 2 / 3), ("strict", (1 + 3 + 0 + 1) / 7)],
)
def test_granularities(granularity, expected):
    partial = respond(ONE, '{"name": "price", "parameters": {"b": "L"}}')
    assert correctness(request_of("parallel", *PRICES), partial, granularity) == pytest.approx(expected)
    assert correctness(request_of("parallel", *PRICES), respond(TWO, ONE), granularity) == 1.0


def test_matchings_by_hand():
    scores = [[2.0, 3.0], [None, 3.5]]
    assert greedy_total(scores) == 3.0
    assert optimal_total(scores) == 5.5
    assert optimal_total([[None], [1.0]]) == 1.0


@pytest.mark.parametrize(
    ("response", "form", "exact"),
    [
        (respond(ONE, TWO), 1, 1),
        (respond(TWO, ONE), 1, 1),
        (respond(ONE + TWO), 1, 1),
        (respond(ONE), 1, 0),
        (respond(ONE, TWO, TWO), 1, 0),
        (respond(ONE, TWO, response="hello"), 0, 0),
        (respond(ONE, TWO) + " done", 0, 0),
        (respond(ONE, TWO) + "\n", 1, 1),
        ("<tool_call>" + ONE + TWO + "</tool_call>", 0, 0),
        (respond(ONE, TWO.replace('"L"', "1")), 1, 0),
        (respond(ONE, TWO.replace('"parameters"', '"arguments"')), 1, 0),
        (respond(ONE, TWO[:-1]), 1, 0),
        (respond("[" * 5000), 1, 0),
    ],
)
def test_form_and_exact_calls(response, form, exact):
    task = task_of("parallel", *PRICES)
    assert (task.format_reward(0, response), task.verify(0, response)) == (form, exact)


def test_types_of_values_matter():
    task = task_of("single", ("count", (("n", 1),)))
    call = '{"name": "count", "parameters": {"n": %s}}'
    rewards = {value: task.verify(0, respond(call % value)) for value in ("1", '"1"', "1.0", "true", "NaN", "1e400")}
    assert rewards == {"1": 1.0, '"1"': 0.0, "1.0": 0.0, "true": 0.0, "NaN": 0.0, "1e400": 0.0}


def test_without_a_fitting_tool_a_response_is_wanted():
    task = task_of("none", reward="toolrl")
    assert task.verify(0, "<think> no </think> <response> sorry </response>") == 1.0
    assert task.verify(0, respond(ONE)) == 0.0
    assert task.correctness(0, respond(ONE)) is None
    assert task.respond(0, task.new_memory(), respond(ONE)).reward == 0.0  # a call costs the form alone, as in the paper's code


def test_the_reward_of_the_paper_lies_between_minus_3_and_4():
    task = task_of("parallel", *PRICES, reward="toolrl")
    for response, reward in (
        (respond(ONE, TWO), 4.0),
        ("", -3.0),
        (respond("{"), -2.0),
        (respond(ONE, ONE), 1 + 6 * 6 / 7 - 3),
    ):
        assert task.respond(0, task.new_memory(), response).reward == pytest.approx(reward)
    reply = task.respond(0, task.new_memory(), respond(ONE, ONE))
    assert (reply.metrics["format"], reply.metrics["kind"], reply.metrics["success"]) == (True, KINDS.index("parallel"), False)


def test_kinds_have_their_shares_and_prompts_what_calls_need():
    task = ToolGrammar()
    requests = [task.instance(i) for i in range(600)]
    shares = [sum(r.kind == kind for r in requests) / 600 for kind in KINDS]
    assert shares == pytest.approx([0.4, 0.25, 0.2, 0.15], abs=0.08)
    assert sum(r.masked for r in requests) / 600 == pytest.approx(0.25, abs=0.07)
    for r in requests:
        offered = {tool.name: tool.keys for tool in r.tools}
        assert 3 <= len(offered) == len(r.tools) <= 6
        assert all(tuple(key for key, _ in pairs) == offered[name] for name, pairs in r.calls)
        assert (not r.calls) == (r.kind == "none")
        assert len(r.calls) in ((2, 3) if r.kind == "parallel" else (0, 1))
        assert all((name in SYLLABLES) == r.masked for name in offered)


def test_dates_are_counted_from_today():
    task, found = ToolGrammar(), 0
    for i in range(200):
        request = task.instance(i)
        if len(request.calls) == 1 and "next week + " in request.text and request.text.count(" + ") == 1:
            ahead = 7 + int(request.text.split("next week + ")[1].split()[0])
            assert f"d{request.today + ahead}" in dict(request.calls[0][1]).values()
            found += 1
    assert found > 5


def test_unseen_tools_are_others():
    seen, unseen = ToolGrammar().toolbox, ToolGrammar(tools="unseen").toolbox
    assert (len(seen), len(unseen)) == (40, 20)
    assert not {tool.name for tool in seen} & {tool.name for tool in unseen}


def test_demonstrations_have_the_skill_they_say():
    rng = np.random.default_rng(0)
    sloppy = ToolGrammar(sloppy=0.5)
    forms = [sloppy.format_reward(i, sloppy.demonstrate(i, rng)) for i in range(300)]
    assert np.mean(forms) == pytest.approx(0.5, abs=0.12)
    noisy = ToolGrammar(skill=0.0)
    for i in range(50):
        text = noisy.demonstrate(i, rng)
        noisy.tokenizer.encode(text)
        assert noisy.format_reward(i, text) == 1.0
        assert noisy.verify(i, text) == float(noisy.instance(i).kind == "none")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(tools="all"), "tools must be one of seen, unseen, got 'all'"),
        (dict(reward="bleu"), "reward must be one of exact, toolrl"),
        (dict(granularity="rough"), "granularity must be one of"),
        (dict(matching="best"), "matching must be one of greedy, optimal"),
        (dict(masked=2.0), "masked must be"),
        (dict(sloppy=-0.1), "sloppy must be"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ToolGrammar(**kwargs)
