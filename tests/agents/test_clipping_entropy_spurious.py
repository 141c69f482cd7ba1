import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from interruption import interrupted

from explore_gym.agents import clipping_entropy_spurious as spurious
from explore_gym.agents import common
from explore_gym.agents.common import text
from explore_gym.envs.text.rule_chain import RuleChain

CHAINS = dict(env="Explore/RuleChain-v0", env_kwargs='{"values": 6, "rules": 3, "max_length": 2, "skill": [0.0, 0.0]}')
MODEL = dict(context=16, num_layers=1, d_model=32, num_heads=2, sft_prompts=128)
SIZES = dict(num_envs=8, group_size=4, train_prompts=64, eval_episodes=16, eval_samples=4, pass_k="1,4", num_minibatches=2)


def arguments(**changed):
    short = dict(sft_steps=60, sft_batch_size=32, sft_learning_rate=1e-2, total_timesteps=4, quiet=True, device="cpu")
    return spurious.Args(**{**CHAINS, **MODEL, **SIZES, **short, "state_prompts": 20, **changed})


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


class Written:
    """A model for which the log-probs and entropies of tokens are given."""

    def __init__(self, logprobs, entropies):
        self.results = logprobs, entropies

    def hidden(self, tokens):
        return None

    def logprobs(self, hidden, tokens, temperature, written):
        return tuple(torch.where(written, x, 0.0) for x in self.results)


def minibatch(written, old, advantages):
    weights, shares = written / len(written), written / written.sum()
    m = {"tokens": torch.zeros(written.shape, dtype=torch.long), "written": written, "logprobs": old, "advantages": advantages}
    return m | {"weights": weights, "shares": shares}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        # raw: 1.5 - 0.4 - 1 - 2 = -1.9; 1.5 is 0.3 above 1.2, 0.4 is 0.4 below 0.8, 2 has a negative advantage and goes on
        (dict(clip="none"), 1.9 / 2),
        (dict(clip="high"), (1.9 + 0.3) / 2),
        (dict(clip="low"), (1.9 + 0.4) / 2),
        (dict(clip="both"), (1.9 + 0.3 + 0.4) / 2),
        (dict(clip="both", clip_coef=0.3), (1.9 + 0.2 + 0.3) / 2),
        (dict(clip="none", ent_min=0.1), 1.9 / 2 + 0.1 * (0.2 + 3 * 0.6) / 4),
    ],
)
def test_losses_worked_by_hand(changed, expected):
    ratios = torch.tensor([[7.0, 1.5, 7.0, 7.0], [7.0, 0.4, 1.0, 2.0]])
    written = torch.tensor([[False, True, False, False], [False, True, True, True]])
    entropies = torch.tensor([[9.0, 0.2, 9.0, 9.0], [9.0, 0.6, 0.6, 0.6]])
    old = torch.full((2, 4), -1.0)
    m = minibatch(written, old, torch.tensor([1.0, -1.0]))
    loss, metrics = spurious.clipped_loss(Written(ratios.log() + old, entropies), m, arguments(**changed))
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert metrics["entropy"].item() == pytest.approx(0.5)
    assert metrics["raw"].item() == pytest.approx(-1.9 / 2)
    assert metrics["clip_high"] == metrics["clip_low"] == 0.25  # measured in all modes
    assert metrics["approx_kl"].item() == pytest.approx(sum(x - 1 - math.log(x) for x in (1.5, 0.4, 1, 2)) / 4, abs=1e-6)
    if "clip_coef" not in changed:
        assert (metrics["correction/high"].item(), metrics["correction/low"].item()) == pytest.approx((0.3 / 2, 0.4 / 2))


def test_with_both_sides_on_the_surrogate_is_ppos_minimum():
    torch.manual_seed(0)
    written = torch.rand(64, 6) < 0.7
    old, advantages = -torch.rand(64, 6) - 1.0, torch.randn(64)
    gradients = []
    for ours in (True, False):
        new = (old + 0.5 * torch.randn(64, 6, generator=torch.Generator().manual_seed(1))).requires_grad_()
        if ours:
            m = minibatch(written, old, advantages)
            loss, metrics = spurious.clipped_loss(Written(new, torch.zeros(64, 6)), m, arguments(clip="both"))
            assert metrics["clip_high"] > 0.05 < metrics["clip_low"]
        else:
            ratio = (new - old).exp()
            surrogate = torch.min(ratio * advantages[:, None], ratio.clamp(0.8, 1.2) * advantages[:, None])
            loss = -(surrogate * written).sum() / 64
        loss.backward()
        gradients.append((loss.item(), new.grad))
    assert gradients[0][0] == pytest.approx(gradients[1][0], abs=1e-5)
    assert torch.allclose(gradients[0][1], gradients[1][1], atol=1e-7)


@pytest.mark.parametrize("clip", ["both", "none", "low", "high"])
def test_parts_of_a_batch_add_up(model, clip):
    args = arguments(max_tokens=12, max_grad_norm=1e9, clip=clip, ent_min=0.1)
    torch.manual_seed(1)
    b = text.rollout(model, RuleChain(values=6, rules=3), range(8), 4, args)
    b["logprobs"] = b["logprobs"] + 0.3 * torch.randn_like(b["logprobs"])
    b["advantages"] = torch.randn(32)
    keys, found = ("tokens", "written", "logprobs", "advantages"), []
    for size in (5, 1000):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        small = dataclasses.replace(args, micro_batch=size)
        metrics = spurious.learn(model, optimizer, {key: b[key] for key in keys}, small)
        found.append((metrics, torch.cat([x.grad.flatten() for x in model.parameters()])))
    (first, gradient), (second, same) = found
    assert gradient.abs().max() > 1e-3
    assert torch.allclose(gradient, same, atol=1e-5)
    assert {key: x.item() for key, x in first.items()} == pytest.approx({key: x.item() for key, x in second.items()}, rel=1e-4)
    assert first["raw"] > 0 and first["correction/high"] > 0 and first["correction/low"] > 0


def test_advantages_worked_by_hand():
    # 1, 0, 0, 0 with standard deviation sqrt((0.75^2 + 3 * 0.25^2) / 3) = 0.5; three of 0.1, whose mean is not quite 0.1
    rewards = torch.tensor([1.0, 0.1, 0.0, 0.1, 0.0, 0.1, 0.0], dtype=torch.float64)
    groups = torch.tensor([2, 1, 2, 1, 2, 1, 2])
    advantages = spurious.compute_advantages(rewards, groups)
    assert advantages.tolist() == pytest.approx([x / (0.5 + 1e-6) for x in (0.75, 0, -0.25, 0, -0.25, 0, -0.25)])
    assert (advantages[groups == 1] == 0).all()
    assert spurious.signals(rewards, groups).tolist() == [False, False, True]


def test_coins_know_nothing_of_the_responses():
    ones, zeros = torch.ones(20_000, dtype=torch.float64), torch.zeros(20_000, dtype=torch.float64)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    random = [spurious.Labels(3).rewards(verified, arguments(reward="random")) for verified in (ones, zeros)]
    assert torch.equal(torch.get_rng_state(), state)  # nor does sampling know of the coins
    assert torch.equal(*random)
    assert set(random[0].tolist()) == {0.0, 1.0}
    assert random[0].mean().item() == pytest.approx(0.5, abs=0.02)
    assert not torch.equal(random[0], spurious.Labels(4).rewards(ones, arguments(reward="random")))
    assert torch.equal(spurious.Labels(3).rewards(ones, arguments(reward="true")), ones)
    assert torch.equal(spurious.Labels(3).rewards(ones, arguments(reward="none", ent_min=1.0)), zeros)
    for verified, expected in ((ones, 0.6 + 0.4 / 2), (zeros, 0.4 / 2)):
        mixed = spurious.Labels(3).rewards(verified, arguments(reward="mixed", true_share=0.6))
        assert mixed.mean().item() == pytest.approx(expected, abs=0.02)
        assert torch.equal(mixed != verified, (mixed == random[0]) & (mixed != verified))  # the same coins


def test_coins_go_on_where_a_checkpoint_left_them():
    args, verified = arguments(reward="random"), torch.ones(16, dtype=torch.float64)
    labels, other = spurious.Labels(1), spurious.Labels(2)
    labels.rewards(verified, args)
    other.load_state_dict(labels.state_dict())
    again, following = other.rewards(verified, args), labels.rewards(verified, args)
    assert torch.equal(again, following)
    assert not torch.equal(following, labels.rewards(verified, args))


def test_damage_worked_by_hand():
    # of four, three are correct; one of them gets nothing (g = 1) and the wrong one is rewarded (f = 1): 1 * 1/4 + 1 * 3/4;
    # two correct of four, right labels; one correct of two, both labels wrong: 1 * 1/2 + 1 * 1/2
    groups = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
    verified = torch.tensor([1, 1, 1, 0, 1, 0, 1, 0, 1, 0], dtype=torch.float64)
    rewards = torch.tensor([1, 0, 1, 1, 1, 0, 1, 0, 0, 1], dtype=torch.float64)
    num_correct, damages = spurious.label_damage(verified, rewards, groups)
    assert num_correct.tolist() == [3, 2, 1]
    assert damages.tolist() == pytest.approx([1.0, 0.0, 1.0])


@pytest.mark.parametrize("wrong", [0.5, 0.35])
@pytest.mark.parametrize("num_correct", range(6))
def test_mean_and_variance_of_the_damage_by_enumeration(num_correct, wrong):
    size = 5
    verified = (torch.arange(size) < num_correct).double()
    flips = torch.tensor(list(itertools.product((0.0, 1.0), repeat=size)), dtype=torch.float64)  # of all labels
    rewards = (verified - flips).abs()
    groups = torch.arange(len(flips)).repeat_interleave(size)
    found, damages = spurious.label_damage(verified.repeat(len(flips)), rewards.flatten(), groups)
    probs = (wrong**flips * (1 - wrong) ** (1 - flips)).prod(1)
    mean = (probs * damages).sum().item()
    variance = (probs * damages.square()).sum().item() - mean**2
    assert (found == num_correct).all()
    assert (mean, variance) == pytest.approx(spurious.expected_damage(num_correct, size, wrong), abs=1e-12)
    if wrong == 0.5:
        spread = num_correct * (size - num_correct) / size
        assert (mean, variance) == pytest.approx((spread, spread / 4), abs=1e-12)


def test_formula_of_the_entropys_change_against_drawn_changes():
    uniform, peaked = torch.full((10,), 0.1), torch.tensor([0.91] + 9 * [0.01])
    other = torch.tensor([0.4, 0.3, 0.1, 0.1, 0.04, 0.02, 0.02, 0.01, 0.005, 0.005])
    logprobs = torch.stack([uniform, peaked, other]).double().log()
    expected = spurious.skewness(logprobs)
    assert expected[0].item() == pytest.approx(-10 * 0.1 * 0.9 / 2)
    assert expected[1].item() == pytest.approx(0.247, abs=1e-3)
    changes = 0.05 * torch.randn(100_000, 1, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pairs = torch.cat([changes, -changes])  # what is of first order cancels
    differences = spurious.entropy_of((logprobs + pairs).log_softmax(-1)) - spurious.entropy_of(logprobs)
    assert (differences.mean(0) / 0.05**2).tolist() == pytest.approx(expected.tolist(), rel=0.05)


def test_predicted_and_measured_changes_of_entropy_agree():
    probs = torch.tensor([[0.91] + 9 * [0.01], 10 * [0.1]])
    before = probs.log().repeat(20_000, 1)
    changes = 0.05 * torch.randn(20_000, 10, generator=torch.Generator().manual_seed(0))
    changes = torch.cat([changes, -changes]) + 3.0  # what all logits get changes nothing
    for rows in (slice(0, None, 2), slice(1, None, 2)):  # the peaked states, the uniform ones
        after = (before + changes)[rows].log_softmax(-1)
        metrics = spurious.entropy_metrics(probs.log()[rows].repeat(20_000, 1), before[rows], after)
        metrics = {key: x.item() for key, x in metrics.items()}
        assert metrics["fixed/variance"] == pytest.approx(0.05**2, rel=0.02)
        assert metrics["fixed/predicted"] == pytest.approx(metrics["fixed/change"], rel=0.1)
        assert metrics["fixed/drift"] == pytest.approx(metrics["fixed/change"], abs=1e-6)
        first = spurious.entropy_of(before[rows][0]).item()
        assert metrics["fixed/entropy"] == pytest.approx(first + metrics["fixed/drift"], abs=1e-5)


def test_fixed_states_are_those_of_one_set_of_responses(model):
    args, task = arguments(max_tokens=12), RuleChain(values=6, rules=3)
    before = torch.get_rng_state()
    states, again = (spurious.draw_states(model, task, 5, args) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(states["tokens"], again["tokens"])
    assert len(states["tokens"]) == 20
    logprobs = spurious.next_logprobs(model, states, args)
    assert logprobs.shape == (states["written"].sum(), task.tokenizer.vocab_size)
    drawn = logprobs.gather(1, states["tokens"][states["written"]].unsqueeze(1)).squeeze(1)
    expected, entropies = text.written_logprobs(model, states, args)
    assert torch.allclose(drawn, expected[states["written"]], atol=1e-5)
    assert torch.allclose(spurious.entropy_of(logprobs), entropies[states["written"]], atol=1e-5)
    parts = spurious.next_logprobs(model, states, dataclasses.replace(args, micro_batch=7))
    assert torch.allclose(parts, logprobs, atol=1e-5)


def test_greedy_accuracy_takes_the_most_likely_tokens(model):
    task, args = RuleChain(values=6, rules=3), arguments(max_tokens=12)
    before = torch.get_rng_state()
    samples = model.sample([model.prompt(task.prompt(i)) for i in range(6)], 1, 12, 0.0)
    said = dict(zip(range(6), model.texts(samples)))
    torch.set_rng_state(before)

    class Judge(RuleChain):
        def verify_batch(self, indices, responses):
            right = [i != 2 and said[i] == response for i, response in zip(indices, responses)]
            return np.where(np.array(indices) == 4, 0.5, right)

    assert spurious.greedy_accuracy(model, Judge(values=6, rules=3), 6, args) == pytest.approx(4 / 6)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_update_per_iteration_clips_nothing(tmp_path):
    changed = dict(reward="random", num_minibatches=1, recompute=True, learning_rate=1e-2)
    run = spurious.train(arguments(run_dir=str(tmp_path), **changed))
    rows = common.read_metrics(tmp_path / "metrics.jsonl")[1:]
    for row in rows:
        assert row["clip_high"] == row["clip_low"] == row["correction/high"] == row["correction/low"] == 0
        assert row["approx_kl"] == pytest.approx(0, abs=1e-6)
        assert row["grad_norm"] > 0
        assert "raw_to_high" not in row
    assert run.last["fixed/drift"] != 0


@pytest.mark.parametrize(
    "changed",
    [
        dict(reward="random", learning_rate=3e-3, num_minibatches=4),
        dict(reward="mixed", clip="none", optimizer="sgd", learning_rate=0.1, recompute=True, ent_min=0.1),
    ],
)
def test_resumed_run_has_the_same_numbers(tmp_path, changed):
    whole, halves = interrupted(spurious, arguments, tmp_path, **changed)
    assert [row["step"] for row in whole] == [0, 1, 2, 3, 4, 4]
    assert {"train/greedy", "test/pass@4", "raw", "clip_high", "fixed/predicted", "damage"} <= whole[-1].keys()
    assert whole[0]["fixed/entropy"] + whole[4]["fixed/drift"] == pytest.approx(whole[4]["fixed/entropy"], abs=1e-5)
    assert sum(row["fixed/change"] for row in whole[1:5]) == pytest.approx(whole[4]["fixed/drift"], abs=1e-5)
    assert sum(row["groups"] for row in whole[-1]["damage"]) == 4 * 8
    if changed["reward"] == "random":
        raw, high = (sum(row[key] for row in whole[1:5]) for key in ("raw", "correction/high"))
        assert whole[-1]["raw_to_high"] == pytest.approx(raw / high, rel=1e-5)
    assert whole == halves


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(reward="noise"), "reward must be one of true, random, mixed, none, got 'noise'"),
        (dict(clip="upper"), "clip must be one of both, none, low, high, got 'upper'"),
        (dict(optimizer="rmsprop"), "optimizer must be one of adam, sgd, got 'rmsprop'"),
        (dict(reward="none"), "reward none needs a positive ent_min"),
        (dict(ent_min=-0.1), "ent_min must be at least 0, got -0.1"),
        (dict(true_share=1.5), r"true_share must lie in \[0.0, 1.0\], got 1.5"),
        (dict(clip_coef=-0.2), r"clip_coef must lie in \[0.0, 1.0\], got -0.2"),
        (dict(group_size=1), "group_size must be at least 2, got 1"),
        (dict(num_minibatches=0), "num_minibatches must be at least 1, got 0"),
        (dict(state_prompts=65), "state_prompts must be at most train_prompts, 64, got 65"),
        (dict(learning_rate=0.0), "learning_rate must be positive, got 0.0"),
    ],
)
def test_bad_arguments_are_named(changed, message):
    with pytest.raises(common.UsageError, match=message):
        arguments(**changed)


class Table(common.LanguageModel):
    """A policy without a network: a row of logits for each of `states` prompts of one token, which one token answers."""

    def __init__(self, logits):
        super().__init__()
        self.table = torch.nn.Parameter(logits.clone())

    def hidden(self, tokens):
        return F.embedding(tokens.clamp(max=len(self.table) - 1), self.table)

    def logits(self, hidden):
        return hidden


def drift(logits, clip):
    """The change of a table's mean entropy by 40 iterations of coins, each of 64 random prompts answered 16 times."""
    torch.manual_seed(0)
    args = arguments(reward="random", clip=clip, num_minibatches=8, max_grad_norm=1e9)
    table, labels, first = Table(logits), spurious.Labels(0), logits.log_softmax(-1)
    optimizer = torch.optim.SGD(table.parameters(), 0.5 * 128)  # steps of 0.5 per response: the loss is a mean over 128
    for _ in range(40):
        prompts = torch.randint(len(logits), (64,)).repeat_interleave(16)
        logprobs = table.table.detach()[prompts].log_softmax(-1)
        answers = torch.multinomial(logprobs.exp(), 1)
        rewards = labels.rewards(torch.zeros(1024, dtype=torch.float64), args)
        b = {"tokens": torch.cat([prompts.unsqueeze(1), answers], 1), "rewards": rewards}
        b["written"] = torch.tensor([[False, True]]).repeat(1024, 1)
        b["logprobs"] = F.pad(logprobs.gather(1, answers), (1, 0))
        b["advantages"] = spurious.compute_advantages(rewards, torch.arange(64).repeat_interleave(16))
        spurious.update(table, optimizer, b, args)
    last = table.table.detach().log_softmax(-1)
    return (spurious.entropy_of(last) - spurious.entropy_of(first)).mean().item()


def test_clipping_decides_where_coins_lead_the_entropy_of_a_table():
    """Without a network: coins alone spread a peaked policy, clipping high ratios narrows it, clipping low ones doesn't."""
    noise = torch.randn(256, 32, generator=torch.Generator().manual_seed(0))
    flat, peaked = 0.1 * noise, 0.3 * noise
    peaked[:, 0] += 5.5
    assert peaked.softmax(-1)[:, 0].mean().item() == pytest.approx(0.88, abs=0.01)
    assert spurious.skewness(flat.log_softmax(-1)).mean() < -0.4
    assert spurious.skewness(peaked.log_softmax(-1)).mean() > 0.3
    found = {clip: drift(peaked, clip) for clip in ("high", "both", "none", "low")}
    assert found["high"] < -0.1
    assert found["both"] < -0.01
    assert found["none"] > 0.1
    assert found["low"] > found["none"] + 0.1
    for clip in ("both", "none"):
        assert drift(flat, clip) < -0.05


@pytest.mark.slow
def test_true_rewards_teach_coins_do_not_and_less_entropy_leaves_the_mode(tmp_path):
    task = dict(env_kwargs='{"values": 5, "rules": 2, "max_length": 2, "skill": [0.5, 0.5]}')
    sizes = dict(num_envs=32, group_size=8, num_minibatches=4, total_timesteps=20, eval_episodes=48, eval_samples=16)
    base = dict(sft_steps=1000, sft_batch_size=64, sft_learning_rate=3e-3)
    gained, changed = {}, {}
    for arm in (dict(reward="true"), dict(reward="random"), dict(reward="none", ent_min=1.0)):
        name = arm["reward"]
        run = spurious.train(arguments(run_dir=str(tmp_path / name), learning_rate=1e-3, **arm, **task, **sizes, **base))
        first = common.read_metrics(tmp_path / name / "metrics.jsonl")[0]
        gained[name] = run.last["train/pass@1"] - first["train/pass@1"]
        changed[name] = run.last["fixed/drift"]
        if name == "true":
            assert all(row["mean"] == row["variance"] == row["expected_mean"] == 0 for row in run.summary["damage"])
        if name == "random":
            rows = [row for row in run.summary["damage"] if row["groups"] >= 30]
            assert len(rows) >= 5
            for row in rows:  # within four standard errors
                spread = row["expected_variance"]
                assert row["mean"] == pytest.approx(row["expected_mean"], abs=4 * math.sqrt(spread / row["groups"]) + 1e-9)
                assert row["variance"] == pytest.approx(spread, abs=4 * spread * math.sqrt(2 / row["groups"]) + 1e-9)
    assert gained["true"] > 0.15
    assert gained["random"] < 0.05
    assert gained["none"] > 0.1  # the demonstrations' likeliest step is right
    assert changed["none"] < -0.1
