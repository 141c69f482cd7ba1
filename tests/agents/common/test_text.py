import numpy as np
import pytest
import torch
from letters import Letters

from explore_gym.agents import common
from explore_gym.agents.common import text
from explore_gym.envs.text.rule_chain import RuleChain


def arguments(**changed):
    task = dict(env="Explore/RuleChain-v0", env_kwargs='{"values": 6, "rules": 3}', context=16)
    sizes = dict(num_envs=8, train_prompts=64, sft_prompts=64, eval_episodes=16, eval_samples=4, pass_k="1,4")
    return text.Args(**{**task, **sizes, "max_tokens": 12, "quiet": True, "device": "cpu", **changed})


@pytest.fixture
def model():
    """A small model, far enough from uniform that what it draws depends on what it reads."""
    torch.manual_seed(0)
    task = RuleChain(values=6, rules=3)
    model = common.GPT(common.GPTConfig(task.tokenizer.vocab_size, 32, num_layers=2, d_model=32, num_heads=2), task.tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8.0)
    return model


def test_each_prompt_comes_once_in_an_epoch():
    torch.manual_seed(0)
    prompts = text.Prompts(10)
    batches = [prompts.draw(4) for _ in range(5)]
    drawn = [index for batch in batches for index in batch]
    assert [len(batch) for batch in batches] == [4] * 5
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert drawn[:10] != drawn[10:]
    again = text.Prompts(10)
    prompts.draw(3)
    again.load_state_dict(prompts.state_dict())
    assert again.draw(7) == prompts.draw(7)


class Answers:
    """A model that answers tasks 5 and 6 with given letters, each with log-prob -2."""

    tokenizer, device = Letters(), torch.device("cpu")
    said = ("b", "b", "a", "c", "a", "a", "a", "a")

    def prompt(self, text):
        return [1, *self.tokenizer.encode(text)]

    def sample(self, prompts, n, max_new_tokens, temperature, generator):
        rows = [[*prompts[i // n], *self.tokenizer.encode(letter), 2] for i, letter in enumerate(self.said)]
        written = torch.zeros(8, len(rows[0]), dtype=torch.bool)
        written[:, -2:] = True
        ended = torch.ones(8, dtype=torch.bool)
        return common.Samples(torch.tensor(rows), written, -2.0 * written, ended, torch.arange(8) // n)

    def texts(self, samples):
        return list(self.said)

    def hidden(self, tokens):
        return None

    def logprobs(self, hidden, tokens, temperature, written):
        return -2.0 * written, 3.0 * written


class Base(Answers):
    def logprobs(self, hidden, tokens, temperature, written):
        return -2.5 * written, 3.0 * written


def test_evaluation_worked_by_hand():
    class Task:
        def prompt(self, index):
            return "p"

        def verify_batch(self, indices, responses):
            assert indices == [5] * 4 + [6] * 4
            return np.array([1.0 if response in ("b", "c") else 0.5 for response in responses])

    metrics = text.evaluate(Answers(), Base(), Task(), [5, 6], 0, arguments(max_tokens=2))
    metrics = {key: float(x) for key, x in metrics.items()}
    expected = {"reward": (1 + 1 + 0.5 + 1 + 4 * 0.5) / 8, "pass@1": 3 / 8, "pass@4": 0.5, "distinct": 1.0}  # b and c; none
    assert metrics == pytest.approx({**expected, "length": 2, "entropy": 3, "kl": 0.5})


def test_evaluations_use_the_same_numbers_and_leave_training_alone(model):
    args, task = arguments(max_tokens=12), RuleChain(values=6, rules=3)
    before = torch.get_rng_state()
    first, again = (text.evaluate(model, model, task, range(8), 3, args) for _ in range(2))
    assert first == again
    assert torch.equal(torch.get_rng_state(), before)
    assert text.evaluate(model, model, task, range(8), 4, args)["length"] != first["length"]


def test_rollouts_of_different_lengths_are_merged(model):
    task, args = RuleChain(values=6, rules=3), arguments()
    first, second = text.rollout(model, task, [3, 1], 2, args), text.rollout(model, task, [0, 2], [1, 3], args)
    assert second["groups"].tolist() == [0, 1, 1, 1]
    longer = {key: torch.nn.functional.pad(x, (0, 3)) if x.dim() == 2 else x for key, x in second.items()}
    both = text.merge([first, longer], task.tokenizer.pad)
    assert both["tokens"].shape == (8, max(first["tokens"].shape[1], longer["tokens"].shape[1]))
    for rows, part in ((slice(4), first), (slice(4, 8), second)):
        assert torch.equal(both["rewards"][rows], part["rewards"])
        logprobs = text.written_logprobs(model, {key: x[rows] for key, x in both.items()}, args)[0]
        assert torch.allclose(logprobs, both["logprobs"][rows], atol=1e-4)
        assert both["written"][rows].sum(1).tolist() == part["lengths"].tolist()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(train_prompts=4), "train_prompts must be at least 8, got 4"),
        (dict(temperature=0.0), "temperature must be positive, got 0.0"),
        (dict(micro_batch=0), "micro_batch must be at least 1, got 0"),
        (dict(pass_k="1,8"), r"pass_k must be numbers in \[1, eval_samples = 4\] separated by commas, got '1,8'"),
        (dict(pass_k="all"), "pass_k must be numbers"),
        (dict(model="hf:somewhere", max_tokens=0), "max_tokens must be given where the model has a tokenizer of its own"),
        (dict(compile=True), "compile must be off"),
        (dict(autoreset_mode="Sometimes"), "autoreset_mode must be SameStep, NextStep or Disabled, got 'Sometimes'"),
    ],
)
def test_bad_arguments_are_named(changed, message):
    with pytest.raises(common.UsageError, match=message):
        arguments(**changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(env="Explore/FourRooms-v0", env_kwargs="{}"), "env must be a text task such as .* got Explore/FourRooms-v0"),
        (dict(env="Explore/GeneralPoints-v0", env_kwargs="{}"), "env must be a task of one response, but .* dialogue of up to"),
        (dict(env="Explore/Nothing-v0", env_kwargs="{}"), "cannot make 'Explore/Nothing-v0'"),
        (dict(env_kwargs='{"values": 1}'), "cannot make .* values must be an integer"),
        (dict(env_kwargs='{"split": "all"}'), "env_kwargs must leave the split open"),
        (dict(env_kwargs='{"num_tasks": 50}'), "num_tasks must be at least 64"),
        (dict(context=5), "context must be at least 10 for prompts and responses, got 5"),
    ],
)
def test_tasks_and_models_that_do_not_fit_are_named(changed, message):
    args = arguments(**{"max_tokens": 3, **changed})
    with pytest.raises(common.UsageError, match=message):
        text.make_model(args, text.make_env(args, "train"), torch.device("cpu"))
