import dataclasses
import math
import multiprocessing

import numpy as np
import pytest
import torch
from letters import EOS, PAD, Letters, Successor

from explore_gym.agents import common
from explore_gym.agents.common import sft
from explore_gym.agents.common.language_model import GPT, GPTConfig
from explore_gym.agents.common.sft import SFTConfig, base_model, demonstrations

SMALL = GPTConfig(19, context=16, num_layers=1, d_model=32, num_heads=2)
SHORT = SFTConfig(num_prompts=20, steps=3, batch_size=8, warm_up=2)


def make(cache_dir, task=None, description=None, config=SMALL, train=SHORT, **how):
    return base_model(Letters(), task or Successor(), description or {}, config, train, cache_dir=cache_dir, **how)


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))


def test_what_is_learnt_is_the_demonstration_and_its_end_but_not_the_prompt():
    class Task:
        def prompt(self, index):
            return "abc"[: index + 1]

        def demonstrate(self, index, rng):
            return "pp"[index:]

    model = GPT(SMALL, Letters())
    tokens, written = demonstrations(model, Task(), SFTConfig(num_prompts=2, batch_size=40), np.random.default_rng(0))
    assert {tuple(row) for row in tokens.tolist()} == {(1, 3, 18, 18, EOS), (1, 3, 4, 18, EOS)}
    for row, mask in zip(tokens.tolist(), written.tolist()):
        assert mask == ([False, False, True, True, True] if row[2] == 18 else [False, False, False, True, True])


def test_shorter_demonstrations_are_padded_and_padding_is_not_learnt():
    class Task:
        def prompt(self, index):
            return "a" * (1 + index)

        def demonstrate(self, index, rng):
            return "b"

    tokens, written = demonstrations(GPT(SMALL, Letters()), Task(), SFTConfig(num_prompts=2), np.random.default_rng(0))
    short = tokens[:, 2] == 4
    assert short.any() and not short.all()
    assert (tokens[short, 4] == PAD).all() and not written[short, 4].any()


def test_fixed_demonstrations_are_one_per_prompt():
    model, task = GPT(SMALL, Letters()), Successor(wrong=0.5)
    answers = {}
    for fixed in (True, False):
        config = SFTConfig(num_prompts=12, batch_size=400, fixed=fixed)
        tokens, _ = demonstrations(model, task, config, np.random.default_rng(0))
        seen = {}
        for row in tokens.tolist():
            seen.setdefault(tuple(row[:3]), set()).add(tuple(row[3:]))
        answers[fixed] = seen
    assert all(len(found) == 1 for found in answers[True].values())
    assert len(set.union(*answers[True].values())) > 2  # wrong for some prompts, right for others
    assert max(len(found) for found in answers[False].values()) == 2


@pytest.mark.slow
def test_a_model_learns_to_answer_as_often_rightly_as_it_was_shown():
    train = SFTConfig(num_prompts=150, steps=400, batch_size=64, learning_rate=3e-3)
    task, losses = Successor(wrong=0.4), {}
    torch.manual_seed(0)
    model = GPT(GPTConfig(19, context=16, num_layers=2, d_model=64, num_heads=2), Letters())
    sft.fine_tune(model, task, train, lambda step, metrics: losses.update({step: metrics["loss/sft"]}))
    assert sorted(losses) == [100, 200, 300, 400]
    entropy = (
        -(0.4 * math.log(0.4) + 0.6 * math.log(0.6)) / 3
    )  # the least loss: nats over 3 tokens, most answers differ from aa
    assert entropy - 0.05 < losses[400] < entropy + 0.05 < losses[100]
    prompts = [model.prompt(task.prompt(i)) for i in range(20, 120)]
    texts = model.texts(model.sample(prompts, 4, max_new_tokens=8))
    rights = [task.verify(20 + i // 4, text) for i, text in enumerate(texts)]
    assert np.mean(rights) == pytest.approx(0.6, abs=0.12)
    greedy = model.texts(model.sample(prompts, max_new_tokens=8, temperature=0))
    assert np.mean([task.verify(20 + i, text) for i, text in enumerate(greedy)]) > 0.8


def test_a_base_model_is_trained_once_and_then_read(tmp_path, monkeypatch):
    torch.manual_seed(5)
    expected_draw = torch.rand(1)
    torch.manual_seed(5)
    first = make(tmp_path)
    assert torch.equal(torch.rand(1), expected_draw)  # the caller's random numbers are their own
    torch.manual_seed(0)
    assert not same(first, GPT(SMALL, Letters()))  # it was trained
    monkeypatch.setattr(sft, "fine_tune", None)
    assert same(make(tmp_path), first)
    (file,) = tmp_path.iterdir()
    assert file.suffix == ".pt"


def test_training_again_gives_the_same_model(tmp_path):
    assert same(make(tmp_path / "a"), make(tmp_path / "b"))
    assert not same(make(tmp_path / "a"), make(tmp_path / "b", train=dataclasses.replace(SHORT, seed=1)))


def test_whatever_the_model_depends_on_is_in_the_key(tmp_path):
    make(tmp_path)
    make(tmp_path, description={"env": "Explore/RuleChain-v0"})
    make(tmp_path, task=Successor(wrong=0.2))  # the same description, but other demonstrations
    make(tmp_path, config=dataclasses.replace(SMALL, positions="learned"))
    make(tmp_path, train=dataclasses.replace(SHORT, learning_rate=1e-3))
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_damaged_file_is_named(tmp_path, damage):
    make(tmp_path)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    file.write_bytes({"cut": content[:middle], "flipped": flipped, "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(common.UsageError, match=f"{file.name} is damaged .* delete it to train this model again"):
        make(tmp_path)


def test_a_file_of_another_configuration_is_not_taken(tmp_path):
    make(tmp_path / "a")
    make(tmp_path / "b", description={"env": "other"})
    (a,), (b,) = (tmp_path / "a").iterdir(), (tmp_path / "b").iterdir()
    b.replace(a)
    with pytest.raises(common.UsageError, match=r"holds a model of another configuration, .*\"env\": \"other\""):
        make(tmp_path / "a")


def race(cache_dir, ready):
    torch.set_num_threads(1)
    ready.wait()
    make(cache_dir)


@pytest.mark.slow
def test_processes_may_write_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(3)
    processes = [context.Process(target=race, args=(tmp_path, ready)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list(tmp_path.iterdir())) == 1  # and no temporary one
    assert same(make(tmp_path), make(tmp_path / "alone"))


def test_a_failed_training_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        make(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_default_folder_is_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    make(None)
    assert len(list((tmp_path / "explore_gym" / "models").iterdir())) == 1


def test_bad_numbers_are_named():
    for name in ("num_prompts", "steps", "batch_size", "warm_up"):
        with pytest.raises(common.UsageError, match=f"{name} must be at least 1, got 0"):
            SFTConfig(**{name: 0})
