"""Strings and tokens: the contract of every environment of the suite, and what the two levels add to it."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from explore_gym.envs import testing
from explore_gym.envs.text.arithmetic import ArithmeticEnv, ArithmeticEnvVector
from explore_gym.envs.text.countdown import CountdownEnv, CountdownEnvVector
from explore_gym.envs.text.general_points import GeneralPoints, GeneralPointsEnv, GeneralPointsEnvVector
from explore_gym.envs.text.parity import ParityEnv, ParityEnvVector
from explore_gym.envs.text.rule_chain import RuleChain, RuleChainEnv, RuleChainEnvVector
from explore_gym.envs.text.sorting import SortingEnv, SortingEnvVector
from explore_gym.envs.text.text_bandit import TextBanditEnv, TextBanditEnvVector
from explore_gym.envs.text.tokenizers import ByteTokenizer
from explore_gym.envs.text.tool_grammar import ToolGrammarEnv, ToolGrammarEnvVector

CASES = [
    (RuleChainEnv, RuleChainEnvVector, {}),
    (CountdownEnv, CountdownEnvVector, {"max_tokens": 5, "num_tasks": 9}),
    (CountdownEnv, CountdownEnvVector, {"level": "strings", "wording": "long", "num_tasks": 9}),
    (GeneralPointsEnv, GeneralPointsEnvVector, {"max_tokens": 4, "attempts": 3, "num_tasks": 9}),
    (ArithmeticEnv, ArithmeticEnvVector, {"tool": True, "max_tokens": 6}),
    (SortingEnv, SortingEnvVector, {"tokenizer": "bytes", "max_tokens": 5}),
    (ParityEnv, ParityEnvVector, {"level": "strings", "max_episode_steps": 3}),
    (TextBanditEnv, TextBanditEnvVector, {"pulls": 4, "max_tokens": 3, "think": False}),
    (TextBanditEnv, TextBanditEnvVector, {"pulls": 4, "level": "strings"}),
    (ToolGrammarEnv, ToolGrammarEnvVector, {"max_tokens": 6, "num_tasks": 9}),
]
CHECKS = [name for name in testing.CHECKS if name != "options"]  # copy= and num_threads= are those of kernels
NAMES = [f"{single.__name__}{kwargs}" for single, _, kwargs in CASES]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(("single", "vector", "kwargs"), CASES, ids=NAMES)
def test_contract(single, vector, kwargs, check):
    def make_vec(num_envs, **options):
        return vector(num_envs=num_envs, **options, **kwargs)

    assert testing.run_check(check, make_vec, lambda: single(**kwargs), num_steps=30) is None


@pytest.mark.parametrize(("single", "vector", "kwargs"), CASES, ids=NAMES)
def test_gymnasium_check_env(single, vector, kwargs):
    name = f"{single.__name__}-v0"
    gym.register(name, entry_point=single, vector_entry_point=vector, kwargs=kwargs)
    try:
        check_env(gym.make(name).unwrapped, skip_render_check=True)
    finally:
        gym.registry.pop(name)


def write(env, text):
    """Write a response and eos. Returns what the last step returned."""
    for token in [*env.tokenizer.encode(text), env.tokenizer.eos]:
        *returned, info = env.step(token)
    return *returned, info


def test_tokens_of_an_episode_and_who_wrote_them():
    env = RuleChainEnv(values=5, rules=3, min_length=2, max_length=2)
    task, tokenizer = env.task, env.tokenizer
    obs, info = env.reset(options={"index": 7})
    prompt = [tokenizer.bos, *tokenizer.encode(task.prompt(7))]
    assert obs["length"] == len(prompt) == 5
    assert obs["tokens"].tolist() == [*prompt, *[tokenizer.pad] * 5]  # two steps, #, the answer and eos are to come
    assert (info["index"], info["turn"], info["success"]) == (7, 0, False)
    obs, reward, terminated, truncated, info = write(env, task.solve(7))
    assert obs["mask"].tolist() == [0] * 5 + [1] * 5
    assert obs["tokens"].tolist() == [*prompt, *tokenizer.encode(task.solve(7)), tokenizer.eos]
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert (info["turn"], info["success"]) == (1, True)


def test_a_response_without_eos_ends_at_its_limit_and_is_verified():
    env = RuleChainEnv(max_tokens=2)
    env.reset(options={"index": 3})
    answer = str(env.task.chain(env.task.instance(3))[-1])
    (first, second) = env.tokenizer.encode(f"# {answer}")
    assert env.step(first)[1:4] == (0.0, False, False)
    assert env.step(second)[1:4] == (1.0, True, False)


def test_special_tokens_in_a_response_are_seen_by_the_verifier():
    env = CountdownEnv()
    env.reset(options={"index": 0})
    solution = env.tokenizer.encode(env.task.solve(0))
    for token in [solution[0], env.tokenizer.pad, *solution[1:]][: env.batch.max_tokens - 1]:
        env.step(token)
    assert env.step(env.tokenizer.eos)[1] == 0.0


def test_a_reply_is_appended_with_mask_0_and_the_dialogue_goes_on():
    env = ArithmeticEnv(tool=True, operations=(1, 1))
    obs, _ = env.reset(options={"index": 2})
    start = int(obs["length"])
    text, value = env.task.instance(2)
    obs, reward, terminated, _, info = write(env, f"call {text}")
    said, length = env.tokenizer.encode(f"call {text}"), int(obs["length"])
    reply = env.tokenizer.encode(f"\n{value}\n")
    assert obs["tokens"][start:length].tolist() == [*said, env.tokenizer.eos, *reply]
    assert obs["mask"][start:length].tolist() == [1] * (len(said) + 1) + [0] * len(reply)
    assert (reward, terminated, info["calls"], info["turn"]) == (0.0, False, 1, 1)
    assert write(env, str(value))[1:3] == (1.0, True)


def test_fresh_dialogues_start_their_context_again():
    env = TextBanditEnv(pulls=2, think=False)
    env.reset(options={"index": 0})
    obs, *_ = write(env, "3")
    shown = env.tokenizer.decode(obs["tokens"][1 : obs["length"]])
    reward = env.task.draw(0, 2, 0)
    assert shown == f"1 0 0.00\n2 0 0.00\n3 1 {reward:.2f}\n4 0 0.00\n5 0 0.00\n"
    assert not obs["mask"].any()
    assert write(env, "1")[2]


def test_strings_of_a_dialogue():
    env = GeneralPointsEnv(level="strings", attempts=3, render_mode="ansi")
    obs, _ = env.reset(options={"index": 0})
    assert obs == GeneralPoints().prompt(0)
    obs, reward, terminated, _, info = env.step("1 + 1")
    assert (obs, reward, terminated, info["fault"]) == ("wrong cards", -2.0, False, 2)
    assert env.render() == "> 1 + 1\nwrong cards"
    obs, reward, terminated, _, info = env.step(env.task.solve(0))
    assert (obs, reward, terminated, info["turn"], info["success"]) == ("", 5.0, True, 2, True)


def test_a_batch_can_be_given_its_tasks():
    envs = CountdownEnvVector(num_envs=3, level="strings")
    _, info = envs.reset(options={"index": np.array([4, 0, 9])})
    assert info["index"].tolist() == [4, 0, 9]
    task = envs.task
    _, reward, *_ = envs.step(tuple(task.solve(i) for i in (4, 0, 9)))
    assert reward.tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match=r"index'\] must be an integer, one in \[0, 2147483647\] or 3 of them"):
        envs.reset(options={"index": -1})


def test_tasks_are_drawn_uniformly_below_num_tasks():
    envs = ParityEnvVector(num_envs=4000, num_tasks=4)
    _, info = envs.reset(seed=0)
    counts = np.bincount(info["index"], minlength=4)
    assert counts.sum() == 4000 and (abs(counts - 1000) < 4 * np.sqrt(750)).all()


def test_a_snapshot_continues_in_the_middle_of_a_response():
    env = RuleChainEnv()
    env.reset(options={"index": 5})
    ids = [*env.tokenizer.encode(env.task.solve(5)), env.tokenizer.eos]
    env.step(ids[0])
    state = env.get_state()
    env.step(ids[0])
    env.set_state(state)
    assert [env.step(token)[1] for token in ids[1:]][-1] == 1.0
    with pytest.raises(gym.error.ResetNeeded):
        env.step(ids[0])


def test_another_tokenizer_has_room_for_every_text():
    env = RuleChainEnv(tokenizer="bytes", max_tokens=3)
    obs, _ = env.reset(options={"index": 1})
    assert ByteTokenizer().decode(obs["tokens"][1 : obs["length"]]) == RuleChain().prompt(1)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"level": "words"}, ValueError, "level must be one of tokens, strings, got 'words'"),
        ({"tokenizer": "word"}, ValueError, "tokenizer must be None, 'bytes' or a tokenizer, got 'word'"),
        ({"level": "strings", "max_tokens": 3}, ValueError, "are for level='tokens'"),
        ({"max_tokens": 0}, ValueError, "max_tokens must be a positive integer, got 0"),
        ({"render_mode": "human"}, ValueError, "render_mode must be None or 'ansi', got 'human'"),
        ({"bits": 3}, TypeError, "unexpected keyword argument 'bits'"),
        ({"max_episode_steps": -1}, ValueError, "max_episode_steps must be a positive integer, got -1"),
    ],
)
def test_bad_arguments_are_named(kwargs, error, message):
    with pytest.raises(error, match=message):
        ParityEnv(**kwargs)


def test_refused_actions_name_what_is_wrong():
    env = ParityEnv(level="strings")
    env.reset(seed=0)
    for action, message in ((3, "must be a string, got 3"), ("é", "got 'é'"), ("1" * 1001, "at most 1000 characters long")):
        with pytest.raises(gym.error.InvalidAction, match=message):
            env.step(action)
