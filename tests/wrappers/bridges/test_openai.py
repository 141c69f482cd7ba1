import os
import re
import socket
import string
import subprocess
import sys
import threading
import time
import urllib.request

import gymnasium as gym
import pytest

pytest.importorskip("openai")

import explore_gym  # noqa: F401
from explore_gym.envs.text.countdown import find
from explore_gym.envs.text.tokenizers import CharTokenizer
from explore_gym.wrappers.openai import ChatPolicy, ServerError


def batch(env_id="Explore/GeneralPoints-Text-v0", num_envs=2, autoreset_mode="SameStep", **kwargs):
    return gym.make_vec(env_id, num_envs=num_envs, autoreset_mode=autoreset_mode, **kwargs)


def last(request):
    return request["messages"][-1]["content"]


def policy_of(server, envs=None, **kwargs):
    return ChatPolicy(envs or batch(), "m", server.url, **{"max_retries": 0, "timeout": 5.0, **kwargs})


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_a_conversation_is_an_episode(chat_server, mode):
    """Two attempts an episode: the second is asked for with what was said, the next episode starts anew."""
    envs = batch(num_envs=1, autoreset_mode=mode, attempts=2)
    server = chat_server(lambda request: "1 + 1")
    policy = policy_of(server, envs, system="Play.", temperature=0.5)
    obs, _ = envs.reset(seed=0)
    prompts, rewards = [obs[0]], []
    for _ in range(5):
        obs, reward, terminated, truncated, _ = envs.step(policy.act(obs))
        policy.reset(terminated | truncated)
        rewards += reward.tolist()
        prompts += [obs[0]] if obs[0].startswith("Use") else []
    hint = "Each card must be used exactly once. Try again."
    opening = [{"role": "system", "content": "Play."}, {"role": "user", "content": prompts[0]}]
    assert server.requests[0]["messages"] == opening
    assert server.requests[1]["messages"] == [
        *opening,
        {"role": "assistant", "content": "1 + 1"},
        {"role": "user", "content": hint},
    ]
    assert server.requests[2]["messages"] == [opening[0], {"role": "user", "content": prompts[1]}]
    assert len(server.requests) == (5 if mode == "SameStep" else 4)  # a step that only resets asks nothing
    assert rewards == ([-2.0] * 5 if mode == "SameStep" else [-2.0, -2.0, 0.0, -2.0, -2.0])
    assert (server.requests[0]["model"], server.requests[0]["temperature"]) == ("m", 0.5)


def test_prompts_that_stand_alone_are_asked_alone(chat_server):
    envs = batch("Explore/TextBandit-v0", num_envs=1, level="strings", arms=2)
    server = chat_server(lambda request: "<answer>1</answer>")
    policy = policy_of(server, envs)
    obs, _ = envs.reset(seed=0)
    for _ in range(2):
        obs, *_ = envs.step(policy.act(obs))
    assert [len(request["messages"]) for request in server.requests] == [1, 1]
    assert last(server.requests[0]).startswith("1 0 0.00\n2 0 0.00") and last(server.requests[1]).startswith("1 1 ")


def test_right_answers_are_paid_in_every_lane(chat_server):
    envs = batch("Explore/Countdown-Text-v0", num_envs=6)
    task = envs.unwrapped.task
    obs, info = envs.reset(seed=3)
    answers = {text: task.solve(i) for text, i in zip(obs, info["index"].tolist())}
    assert len(answers) == 6
    policy = policy_of(chat_server(lambda request: answers[last(request)]), envs)
    assert envs.step(policy.act(obs))[1].tolist() == [1.0] * 6


def test_requests_under_way_are_bounded_and_lanes_keep_their_order(chat_server):
    lock, counts = threading.Lock(), {"now": 0, "most": 0}

    def reply(request):
        with lock:
            counts["now"] += 1
            counts["most"] = max(counts["most"], counts["now"])
        time.sleep(0.02 * (1 + int(last(request)) % 3))
        with lock:
            counts["now"] -= 1
        return last(request)

    policy = policy_of(chat_server(reply), batch(num_envs=12), concurrency=3)
    assert policy.act([str(i) for i in range(12)]) == tuple(str(i) for i in range(12))
    assert counts["most"] == 3


def test_responses_are_made_to_fit_the_action_space(chat_server):
    """The end of what is too long, `?` for what the space lacks; nothing said is an empty response."""
    said = iter(["é" + "a" * 999 + "\n<answer>1 × 2</answer>", "a🙂\x00b"])
    envs = batch(num_envs=1)
    policy = policy_of(chat_server(lambda request: next(said)), envs)
    (action,) = policy.act(["go"])
    assert len(action) == 1000 and action.endswith("a\n<answer>1 × 2</answer>") and set(action[:900]) == {"a"}
    assert policy.conversations[0][-1]["content"].startswith("é")
    assert policy.act(["on"]) == ("a??b",)
    assert envs.single_action_space.contains(action)


def test_a_refusal_is_an_empty_response(chat_server):
    assert policy_of(chat_server(lambda request: None)).act(["a", "b"]) == ("", "")


@pytest.mark.parametrize("status", [500, 503, 429])
def test_passing_faults_are_asked_again(chat_server, status):
    answers = iter([(status, {"retry-after-ms": "5"}, "busy"), (status, {"retry-after-ms": "5"}, "busy"), "12"])
    server = chat_server(lambda request: next(answers))
    assert policy_of(server, batch(num_envs=1), max_retries=2).act(["a"]) == ("12",)
    assert len(server.requests) == 3


def test_waits_between_attempts_double(chat_server):
    times = []

    def reply(request):
        times.append(time.monotonic())
        return (500, {}, "down")

    with pytest.raises(ServerError, match="status 500"):
        policy_of(chat_server(reply), batch(num_envs=1), max_retries=2).act(["a"])
    first, second = times[1] - times[0], times[2] - times[1]
    assert 0.37 < first < 0.9 and 0.74 < second < 1.5  # 0.5 s and 1 s, up to a quarter less


def silent(request):
    time.sleep(0.6)
    return "late"


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (silent, r"did not answer within 0.3 s, asked once"),
        (lambda request: (500, {}, "out of memory"), "answered with status 500: out of memory"),
        (lambda request: (401, {}, '{"error": "no key"}'), r'status 401: set OPENAI_API_KEY: {"error": "no key"}'),
        (lambda request: (404, {}, "no model m"), "answered with status 404: no model m"),
        (lambda request: (200, {}, '{"choices": [{"mess'), "what is no chat completion: "),
        (lambda request: (200, {}, "{}"), "what is no chat completion: "),
        (lambda request: (200, {}, '{"choices": []}'), "what is no chat completion: "),
        (lambda request: (200, {}, '{"choices": [{"message": {"content": 7}}]}'), "what is no chat completion: "),
        (lambda request: (200, {}, '{"choices": "none"}'), "what is no chat completion: "),
        (lambda request: (200, {}, "[1, 2]"), "what is no chat completion: "),
        (lambda request: (200, {"Content-Type": "text/html"}, "<html>hello</html>"), "no chat completion: <html>hello"),
        (lambda request: (200, {"Content-Length": "999", "Connection": "close"}, "{"), "cannot be reached, asked once: "),
    ],
)
def test_faults_are_named(chat_server, reply, message):
    server = chat_server(reply)
    policy = policy_of(server, timeout=0.3)
    with pytest.raises(ServerError, match=message) as raised:
        policy.act(["a", ""])
    assert str(raised.value).startswith(f"the server at {server.url}/ (model 'm') ")
    assert policy.conversations == [[], []]


def test_nobody_there():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        policy = ChatPolicy(batch(), "m", f"http://127.0.0.1:{taken.getsockname()[1]}/v1", max_retries=0)
        with pytest.raises(ServerError, match=r"cannot be reached, asked once: .*refused"):
            policy.act(["a", "b"])


def test_the_key_comes_from_the_environment_and_stays_out_of_errors(chat_server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    server = chat_server(lambda request: (403, {}, "no"))
    with pytest.raises(ServerError) as raised:
        policy_of(server).act(["a", ""])
    assert server.keys == ["Bearer sesame"] and "sesame" not in str(raised.value)
    monkeypatch.delenv("OPENAI_API_KEY")
    server = chat_server(lambda request: "1")
    policy_of(server).act(["a", ""])
    assert server.keys == ["Bearer none"]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"concurrency": 0}, "concurrency must be an integer of at least 1, got 0"),
        ({"max_retries": -1}, "max_retries must be an integer of at least 0, got -1"),
        ({"timeout": 0.0}, "timeout must be positive, got 0.0"),
    ],
)
def test_arguments_out_of_range(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ChatPolicy(batch(), "m", "http://localhost/v1", **kwargs)


def test_environments_of_tokens_are_refused():
    with pytest.raises(ValueError, match=r"envs must take strings .* got Discrete"):
        ChatPolicy(gym.make_vec("Explore/Countdown-v0", num_envs=1), "m")


def test_the_guides_program(chat_server, guide_program, capsys):
    """Hands with an ace are given up on, the others solved at the second attempt."""

    def reply(request):
        prompt, attempts = request["messages"][0]["content"], len(request["messages"]) // 2
        cards = [10 if card in "JQK" else int(card) for card in re.search("cards (.*) exactly", prompt)[1].split()]
        given_up.add((prompt, 1 in cards))
        return find(tuple(sorted(cards)), (24, 1)) if attempts and 1 not in cards else "24"

    given_up = set()
    server = chat_server(reply)
    exec(guide_program("OpenAI-compatible servers", server.url), {})
    solved = float(capsys.readouterr().out)
    assert 0.3 < solved < 1.0 and len(given_up) >= 200
    assert max(len(request["messages"]) for request in server.requests) == 9  # the fifth attempt


@pytest.mark.slow
def test_a_model_served_by_transformers_plays(tmp_path, as_theirs):
    """`transformers serve` with a model of random weights: dialogues are played to their ends, whatever it says."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    pytest.importorskip("fastapi"), pytest.importorskip("uvicorn")
    torch.manual_seed(0)
    tokenizer = as_theirs(CharTokenizer(string.printable))
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = transformers.LlamaForCausalLM(config)
    model.generation_config.do_sample = True
    model.save_pretrained(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(tmp_path)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with open(tmp_path / "log", "w") as log, subprocess.Popen(command, stdout=log, stderr=log, env=quiet) as server:
        try:
            wait_for(f"http://127.0.0.1:{port}/health", server, tmp_path / "log")
            envs = batch(num_envs=3, attempts=2, num_tasks=8)
            policy = ChatPolicy(envs, str(tmp_path), f"http://127.0.0.1:{port}/v1", temperature=1.0, max_tokens=16)
            obs, _ = envs.reset(seed=0)
            first = policy.act(obs)
            assert all(0 < len(said) <= 16 for said in first) and len(set(first)) == 3
            obs, reward, terminated, *_ = envs.step(first)
            assert reward.tolist() == [-3.0] * 3 and not terminated.any()
            _, reward, terminated, *_ = envs.step(policy.act(obs))
            assert reward.tolist() == [-3.0] * 3 and terminated.all()
            assert [len(conversation) for conversation in policy.conversations] == [4] * 3
        finally:
            server.terminate()


def wait_for(url, server, log):
    """Until a server answers.

    Raises:
        AssertionError: it has ended, or doesn't within three minutes.
    """
    for _ in range(900):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())
