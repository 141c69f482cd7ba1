import asyncio
import sys
from pathlib import Path

import pytest

pytest.importorskip("verifiers.v1")
import verifiers.v1 as vf

from explore_gym.envs.text.general_points import GeneralPoints
from explore_gym.wrappers.verifiers import ChatHarness, TextEnv, TextEnvConfig, TextTaskset

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _module_beside_the_package(monkeypatch):
    """Found as in an installation, also where the tests run from a folder."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])


def environment(env, **kwargs):
    return vf.load_environment(TextEnvConfig(taskset={"id": "explore-gym-verifiers", "env": env, "kwargs": kwargs}))


def play(env, server, index, **config):
    """The episode of a task."""
    client = vf.EvalClientConfig(base_url=server.url, api_key_var="OPENAI_API_KEY")
    context = vf.ModelContext(model="m", client=client, sampling=vf.SamplingConfig(temperature=0.5))

    async def run():
        task = next(iter(env.taskset.include(idx=[str(index)])))
        async with env.serving():
            return await env.run_episode(task, context)

    return asyncio.run(run())


def test_a_task_of_one_response(chat_server):
    env = environment("Explore/Countdown-Text-v0", num_tasks=4)
    assert type(env) is TextEnv and type(env.taskset) is TextTaskset
    text = env.taskset.text
    tasks = list(env.taskset)
    assert [task.data.prompt for task in tasks] == [text.prompt(i) for i in range(4)]
    for said, reward in ((text.solve(2), 1.0), ("1 + 1", 0.0)):
        server = chat_server(lambda request, said=said: said)
        episode = play(env, server, 2)
        assert episode.ok, episode.errors
        (trace,) = episode.traces
        assert trace.reward == reward and trace.metrics["success"] == reward
        (request,) = server.requests
        assert request["messages"] == [{"role": "user", "content": text.prompt(2)}]
        assert (request["model"], request["temperature"]) == ("m", 0.5)


def test_a_dialogue(chat_server):
    """Cards, value, right: -2 - 1 + 5, and each reply is the next message of the user."""
    text = GeneralPoints(wording="long", num_tasks=3)
    wrong = "+".join(map(str, text.numbers(text.instance(1))))
    assert text.judge(text.instance(1), wrong) == "value"
    said = iter(["1 + 1", wrong, text.solve(1)])
    env, server = environment("Explore/GeneralPoints-Text-v0", num_tasks=3), chat_server(lambda request: next(said))
    episode = play(env, server, 1)
    assert episode.ok, episode.errors
    (trace,) = episode.traces
    assert trace.reward == 2.0 and trace.metrics["success"] == 1.0 and trace.num_turns == 3
    roles = [message["role"] for message in server.requests[2]["messages"]]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    contents = [message["content"] for message in server.requests[2]["messages"]]
    assert contents[0] == text.prompt(1)
    assert contents[1:] == [
        "1 + 1",
        "Each card must be used exactly once. Try again.",
        wrong,
        "The value is another one. Try again.",
    ]


def test_a_bandit_with_metrics_that_are_no_numbers(chat_server):
    env = environment("Explore/TextBandit-v0", level="strings", arms=2, pulls=3, reward="regret", num_tasks=2)
    best = env.taskset.text.solve(0)
    episode = play(env, chat_server(lambda request: best), 0)
    assert episode.ok, episode.errors
    (trace,) = episode.traces
    assert trace.reward == 3.0 and trace.metrics["cumulative_regret"] == 0.0 and "means" not in trace.metrics


def test_a_server_that_fails_fails_the_episode(chat_server):
    env = environment("Explore/Countdown-Text-v0", num_tasks=1)
    episode = play(env, chat_server(lambda request: (500, {}, "out of memory")), 0)
    assert not episode.ok
    assert any("out of memory" in error.message for trace in episode.traces for error in trace.errors)


def test_the_guides_program(chat_server, guide_program, capsys):
    text = GeneralPoints(wording="long", num_tasks=1000)
    answers = {text.prompt(i): text.solve(i) for i in range(16)}
    server = chat_server(lambda request: answers[request["messages"][0]["content"]])
    asyncio.run(eval(guide_program("verifiers", server.url), {}))
    assert capsys.readouterr().out == f"{[5.0] * 16}\n"


def test_tasks_without_a_number_are_infinite():
    env = environment("Explore/Countdown-Text-v0")
    assert not env.taskset.bounded
    assert [task.data.index for task in env.taskset.take(3)] == [0, 1, 2]
    assert type(vf.load_harness(vf.default_agent_harness("explore-gym-verifiers"))) is ChatHarness


def test_environments_of_tokens_are_refused():
    with pytest.raises(ValueError, match=r"env must take strings .* got Explore/Countdown-v0"):
        environment("Explore/Countdown-v0")
