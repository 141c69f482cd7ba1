import math

import pytest
import torch
from interruption import interrupted
from letters import Letters

from explore_gym.agents import common, grpo
from explore_gym.agents.common import sft, text
from explore_gym.envs.text.parity import Parity
from explore_gym.envs.text.rule_chain import RuleChain

CHAINS = dict(env="Explore/RuleChain-v0", env_kwargs='{"values": 6, "rules": 3, "max_length": 2, "skill": [0.0, 0.0]}')
MODEL = dict(context=16, num_layers=1, d_model=32, num_heads=2, sft_prompts=128)
SIZES = dict(num_envs=8, group_size=4, train_prompts=64, eval_episodes=16, eval_samples=4, pass_k="1,4", num_minibatches=2)


def arguments(**changed):
    short = dict(sft_steps=60, sft_batch_size=32, sft_learning_rate=1e-2, total_timesteps=4, quiet=True, device="cpu")
    return grpo.Args(**{**CHAINS, **MODEL, **SIZES, **short, **changed})


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


def rolled_out(model, args, indices=(0, 1, 2, 3, 4, 5, 6, 7)):
    """Responses to some tasks, with made-up advantages and all that a minibatch needs."""
    torch.manual_seed(1)
    b = text.rollout(model, RuleChain(values=6, rules=3), indices, args.group_size, args)
    b["advantages"] = torch.randn(len(b["rewards"]))
    return minibatch(b, args)


def minibatch(b, args):
    b["trained"] = b["written"] & (b["ended"] | (args.overlong == "keep")).unsqueeze(1)
    b["weights"] = grpo.token_weights(b["trained"], args.aggregation, args.max_tokens)
    b["shares"] = grpo.token_weights(b["trained"], "token", args.max_tokens)
    return b


def gradient(model, m, args):
    loss, _ = grpo.grpo_loss(model, m, args)
    return torch.cat([x.flatten() for x in torch.autograd.grad(loss, list(model.parameters()))])


class Written:
    """A model for which the log-probs and entropies of tokens are given."""

    def __init__(self, logprobs, entropies):
        self.results = logprobs, entropies

    def hidden(self, tokens):
        return None

    def logprobs(self, hidden, tokens, temperature, written):
        return tuple(torch.where(written, x, 0.0) for x in self.results)


def by_hand(args, base=0.0):
    """Loss of two responses behind a prompt token: ratio 1.5 with advantage 1; ratios 0.5, 1, 2 with advantage -1."""
    ratios = torch.tensor([[7.0, 1.5, 7.0, 7.0], [7.0, 0.5, 1.0, 2.0]])
    written = torch.tensor([[False, True, False, False], [False, True, True, True]])
    old = torch.full((2, 4), -1.0)
    new = ratios.log() + old
    m = {"tokens": torch.zeros(2, 4, dtype=torch.long), "written": written, "ended": torch.tensor([True, True])}
    m |= {"logprobs": old, "base_logprobs": new + base, "advantages": torch.tensor([1.0, -1.0])}
    loss, metrics = grpo.grpo_loss(Written(new, torch.full((2, 4), 0.5)), minibatch(m, args), args)
    return loss.item(), {key: x.item() for key, x in metrics.items()}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        # ratio 1.5 is clipped to 1.2; of the other response, min(-0.5, -0.8) - 1 + min(-2, -1.2) = -3.8
        (dict(variant="grpo"), -(1.2 - 3.8 / 3) / 2),
        (dict(variant="dr_grpo"), -(1.2 - 3.8) / 5 / 2),
        (dict(variant="dapo"), -(1.28 - 3.8) / 4),
        (dict(variant="rloo"), -(1.2 - 0.5 * 1 * 2) / 2),  # responses are single actions
        (dict(clip_low=0.4), -(1.2 - (0.6 + 1 + 2) / 3) / 2),
        (dict(clip_high=0.7), -(1.5 - 3.8 / 3) / 2),
        (dict(dual_clip=1.5), -(1.2 - (0.8 + 1 + 1.5) / 3) / 2),
        (dict(ent_coef=0.1), -(1.2 - 3.8 / 3) / 2 - 0.1 * 0.5),
        (dict(variant="dr_grpo", ent_coef=0.1), 0.26 - 0.1 * 0.5 * (1 + 3) / 5 / 2),
        (dict(kl_coef=0.1), -(1.2 - 3.8 / 3) / 2 + 0.1 * (2 - math.log(2) - 1)),  # k3 of a base model twice as fond of them
    ],
)
def test_losses_worked_by_hand(changed, expected):
    loss, metrics = by_hand(arguments(max_tokens=5, **changed), base=math.log(2))
    assert loss == pytest.approx(expected, abs=1e-6)
    assert metrics["entropy"] == pytest.approx(0.5)
    if "kl_coef" in changed:
        assert metrics["kl"] == pytest.approx(1 - math.log(2), abs=1e-6)


def test_clip_fractions_and_divergence_worked_by_hand():
    _, metrics = by_hand(arguments(max_tokens=5))
    assert metrics["clip_high"] == 0.25  # 1.5; the ratio 2 has a negative advantage and goes on learning
    assert metrics["clip_low"] == 0.25  # 0.5
    k3 = sum(ratio - 1 - math.log(ratio) for ratio in (1.5, 0.5, 1, 2)) / 4
    assert metrics["approx_kl"] == pytest.approx(k3, abs=1e-6)
    _, metrics = by_hand(arguments(max_tokens=5, variant="rloo"))
    assert (metrics["clip_high"], metrics["clip_low"]) == (0.25, 0.0)  # the one token of the first response; 1 for the second


def test_weights_worked_by_hand():
    trained = torch.tensor([[0, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]]).bool()  # nothing is learnt from the third
    rows = {"sequence": (1 / 2, 1 / 6), "token": (1 / 4, 1 / 4), "constant": (1 / 10, 1 / 10), "sum": (1 / 2, 1 / 2)}
    for aggregation, (first, second) in rows.items():
        weights = grpo.token_weights(trained, aggregation, 5)
        assert torch.allclose(weights, trained * torch.tensor([[first], [second], [1.0]])), aggregation
        assert (grpo.token_weights(trained & False, aggregation, 5) == 0).all()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (dict(), [0.75 / (0.5 + 1e-6), 0.0, -0.25 / (0.5 + 1e-6), 0.0, -0.25 / (0.5 + 1e-6), 0.0, -0.25 / (0.5 + 1e-6)]),
        (dict(scale="none"), [0.75, 0, -0.25, 0, -0.25, 0, -0.25]),
        (dict(variant="rloo"), [1, 0, -1 / 3, 0, -1 / 3, 0, -1 / 3]),
    ],
)
def test_advantages_of_mixed_groups_worked_by_hand(changed, expected):
    # 1, 0, 0, 0 with standard deviation sqrt((0.75^2 + 3 * 0.25^2) / 3) = 0.5; three of 0.1, whose mean is not quite 0.1
    rewards = torch.tensor([1.0, 0.1, 0.0, 0.1, 0.0, 0.1, 0.0], dtype=torch.float64)
    groups = torch.tensor([4, 1, 4, 1, 4, 1, 4])
    advantages = grpo.compute_advantages(rewards, groups, arguments(**changed))
    assert advantages.tolist() == pytest.approx(expected, abs=1e-6)
    assert (advantages[groups == 1] == 0).all()
    assert grpo.signals(rewards, groups).tolist() == [False, False, False, False, True]


def test_a_single_response_has_no_advantage():
    rewards, groups = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0, 1, 1])
    for variant in grpo.VARIANTS:
        advantages = grpo.compute_advantages(rewards, groups, arguments(variant=variant))
        assert advantages[0] == 0
        assert advantages[1] == -advantages[2] != 0


@pytest.mark.parametrize("variant", grpo.VARIANTS)
def test_groups_without_signal_contribute_exactly_nothing(model, variant):
    args = arguments(max_tokens=12, variant=variant)
    m = rolled_out(model, args)
    with torch.no_grad():
        m["logprobs"] -= torch.randn_like(m["logprobs"])
    silent = m["groups"] < 4
    whole = m["advantages"].clone()
    m["advantages"][silent] = 0.0
    some = gradient(model, m, args)
    m["logprobs"][silent] -= 60.0  # ratios that would be infinite
    assert torch.equal(gradient(model, m, args), some)
    assert some.abs().max() > 0
    m["advantages"] = whole * silent * 0.0
    assert (gradient(model, m, args) == 0).all()


@pytest.mark.parametrize("variant", grpo.VARIANTS)
def test_only_states_before_written_tokens_learn(model, variant, monkeypatch):
    args = arguments(max_tokens=12, variant=variant)
    m = rolled_out(model, args)
    assert not m["ended"].all()
    hidden = model.hidden(m["tokens"]).detach().requires_grad_()
    monkeypatch.setattr(model, "hidden", lambda tokens: hidden)
    grpo.grpo_loss(model, m, args)[0].backward()
    learns = hidden.grad.abs().sum(-1) > 0
    assert torch.equal(learns[:, :-1], m["trained"][:, 1:])  # prompts, padding and what was masked are left out
    assert not learns[:, -1].any()
    assert m["trained"][~m["ended"]].any() == (variant != "dapo")


def test_log_probs_of_learning_are_those_of_sampling(model):
    for temperature in (1.0, 0.7):
        args = arguments(max_tokens=12, temperature=temperature)
        m = rolled_out(model, args)
        logprobs, entropies = text.written_logprobs(model, m, args)
        assert torch.allclose(logprobs, m["logprobs"], atol=1e-4)
        assert m["logprobs"][m["written"]].std() > 0.3
        assert (entropies[m["written"]] > 0).all()
        _, metrics = grpo.grpo_loss(model, m, args)
        assert metrics["approx_kl"].item() == pytest.approx(0, abs=1e-7)
        assert metrics["clip_low"] == metrics["clip_high"] == 0


@pytest.mark.parametrize("variant", grpo.VARIANTS)
def test_padding_order_and_parts_of_a_batch_change_nothing(model, variant):
    args = arguments(max_tokens=12, variant=variant, learning_rate=1.0, max_grad_norm=1e9)
    m = rolled_out(model, args)
    expected, (loss, _) = gradient(model, m, args), grpo.grpo_loss(model, m, args)
    assert expected.abs().max() > 1e-3
    wider = {key: torch.nn.functional.pad(x, (0, 5)) if x.dim() == 2 else x for key, x in m.items()}
    order = torch.randperm(len(m["rewards"]))
    shuffled = {key: x[order] for key, x in m.items()}
    for same in (wider, shuffled):
        assert torch.allclose(gradient(model, same, args), expected, atol=1e-5)
    keys = ("tokens", "trained", "logprobs", "advantages")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for size in (5, 1000):
        small = arguments(max_tokens=12, variant=variant, max_grad_norm=1e9, micro_batch=size)
        metrics = grpo.learn(model, optimizer, {key: m[key] for key in keys}, small)
        summed = torch.cat([x.grad.flatten() for x in model.parameters()])
        assert torch.allclose(summed, expected, atol=1e-5)
        assert metrics["loss/policy"].item() == pytest.approx(loss.item(), abs=1e-6)
        assert metrics["grad_norm"].item() == pytest.approx(expected.norm().item(), rel=1e-4)


def test_on_policy_the_gradient_of_rloo_is_that_of_summed_tokens(model):
    args, summed = (arguments(max_tokens=12, variant=variant) for variant in ("rloo", "dr_grpo"))
    m = rolled_out(model, args)
    expected = gradient(model, m, args)
    assert torch.allclose(12 * gradient(model, minibatch(m, summed), summed), expected, atol=1e-5)


def test_responses_that_were_cut_off_count_in_their_group_but_teach_nothing(model):
    args = arguments(max_tokens=12, overlong="mask")
    m = rolled_out(model, args)
    cut = ~m["ended"]
    assert 0 < cut.sum() < len(cut)
    alone = minibatch({key: x[~cut] for key, x in m.items()}, args)
    assert torch.allclose(gradient(model, alone, args), gradient(model, m, args), atol=1e-6)


def test_the_last_tokens_cost_reward():
    b = {"rewards": torch.tensor([1.0, 1.0, 1.0, 0.0]), "lengths": torch.tensor([6, 7, 8, 10])}
    assert grpo.shaped_rewards(b, arguments(max_tokens=10, overlong_buffer=4)).tolist() == [1.0, 0.75, 0.5, -1.0]
    assert grpo.shaped_rewards(b, arguments(max_tokens=10)).tolist() == [1.0, 1.0, 1.0, 0.0]


class Scripted:
    """In the place of `rollout`: group g of a call has two responses, which differ in reward if the script says so."""

    def __init__(self, *scripts):
        self.scripts, self.calls = list(scripts), []

    def __call__(self, model, task, indices, counts, args):
        script = self.scripts[len(self.calls)]
        self.calls.append(list(indices))
        n, length = len(indices), 3 + len(self.calls)
        written = torch.zeros(2 * n, length, dtype=torch.bool)
        written[:, 1:] = True
        rewards = torch.tensor([[1.0, 1.0 - differ] for differ in script], dtype=torch.float64).flatten()
        tokens = torch.tensor(indices).repeat_interleave(2).unsqueeze(1).expand(-1, length)
        b = {"tokens": tokens, "written": written, "logprobs": -written.float(), "rewards": rewards}
        return b | {"ended": rewards == 1, "groups": torch.arange(n).repeat_interleave(2), "lengths": written.sum(1)}


def collected(monkeypatch, scripts, **changed):
    scripted, prompts = Scripted(*scripts), text.Prompts(100)
    monkeypatch.setattr(text, "rollout", scripted)
    model = common.GPT(common.GPTConfig(19, 8, num_layers=1, d_model=8, num_heads=1), Letters())
    b, metrics = grpo.collect(model, None, prompts, arguments(num_envs=3, group_size=2, **changed))
    return b, {key: float(x) for key, x in metrics.items()}, scripted.calls


def test_groups_without_signal_are_kept_dropped_or_replaced(monkeypatch):
    scripts = [[True, False, False], [False, True, False], [True, True, True], [True, True, True]]
    b, metrics, calls = collected(monkeypatch, scripts)
    assert (len(calls), len(b["rewards"])) == (1, 6)
    assert (metrics["signal"], metrics["rollouts"], metrics["rollouts_trained"]) == (pytest.approx(1 / 3), 6, 6)

    b, metrics, calls = collected(monkeypatch, scripts, no_signal="drop")
    assert b["tokens"][:, 0].tolist() == [calls[0][0]] * 2
    assert (metrics["rollouts"], metrics["rollouts_trained"]) == (6, 2)

    b, metrics, calls = collected(monkeypatch, scripts, no_signal="replace")
    assert b["tokens"][:, 0].tolist() == [calls[0][0]] * 2 + [calls[1][1]] * 2 + [calls[2][0]] * 2
    assert b["groups"].unique().tolist() == [0, 4, 6]
    assert (metrics["rollouts"], metrics["rollouts_trained"]) == (18, 6)
    assert metrics["signal"] == pytest.approx(5 / 9)  # of all that were drawn
    assert metrics["success"] == metrics["episode_return"] == pytest.approx(13 / 18)
    assert metrics["tokens"] == 6 * (3 + 4 + 5)
    assert b["tokens"].shape == (6, 6)  # the longest draw
    assert b["written"].sum(1).tolist() == b["lengths"].tolist() == [3, 3, 4, 4, 5, 5]
    assert (b["tokens"][:2, 4:] == 0).all()


def test_draws_are_bounded(monkeypatch):
    b, metrics, calls = collected(monkeypatch, [[False] * 3, [False, True, False]], no_signal="replace", max_draws=2)
    assert (len(calls), len(b["rewards"]), metrics["rollouts"]) == (2, 2, 12)
    b, metrics, calls = collected(monkeypatch, [[False] * 3] * 2, no_signal="replace", max_draws=2)
    assert (len(calls), len(b["rewards"]), metrics["signal"]) == (2, 0, 0)


def test_nothing_is_learnt_where_nothing_has_a_signal(tmp_path, monkeypatch):
    monkeypatch.setattr(Parity, "check", lambda self, instance, response: 0.0)
    env = dict(env="Explore/Parity-v0", env_kwargs='{"min_length": 2, "max_length": 4}')
    run = grpo.train(arguments(**env, variant="dapo", max_draws=2, total_timesteps=2, run_dir=str(tmp_path)))
    rows = common.read_metrics(tmp_path / "metrics.jsonl")
    assert [row.get("rollouts") for row in rows] == [None, 64, 128]
    assert all("loss/policy" not in row and row["success"] == 0 for row in rows[1:])
    assert run.summary == {}
    assert rows[2]["test/kl"] == rows[0]["test/kl"] == 0


@pytest.mark.parametrize("changed", [dict(kl_coef=0.1, num_epochs=2, ent_coef=0.01), dict(variant="dapo", recompute=True)])
def test_resumed_run_has_the_same_numbers(tmp_path, changed):
    whole, halves = interrupted(grpo, arguments, tmp_path, **changed)
    assert [row["step"] for row in whole] == [0, 1, 2, 3, 4, 4]
    assert {"train/pass@4", "test/distinct", "loss/policy", "clip_high", "rollouts"} <= whole[-1].keys()
    assert whole[-1]["test/kl"] != 0
    assert whole == halves


def test_the_base_model_is_trained_once(tmp_path, monkeypatch):
    grpo.train(arguments(run_dir=str(tmp_path / "first"), total_timesteps=1))
    monkeypatch.setattr(sft, "fine_tune", lambda *_: pytest.fail("trained again"))
    grpo.train(arguments(run_dir=str(tmp_path / "second"), total_timesteps=1, variant="rloo"))
    rows = [common.read_metrics(tmp_path / name / "metrics.jsonl")[0] for name in ("first", "second")]
    assert rows[0]["test/pass@1"] == rows[1]["test/pass@1"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(variant="ppo"), "variant must be one of grpo, dr_grpo, dapo, rloo, got 'ppo'"),
        (dict(aggregation="mean"), "aggregation must be one of variant, sequence, token, constant, sum, got 'mean'"),
        (dict(group_size=1), "group_size must be at least 2, got 1"),
        (dict(clip_low=1.5), r"clip_low must lie in \[0.0, 1.0\], got 1.5"),
        (dict(dual_clip=0.5), "dual_clip must be greater than 1, or 0 for no limit, got 0.5"),
        (dict(ratio="sequence"), "ratio sequence and aggregation sum go together, got ratio sequence and aggregation sequence"),
    ],
)
def test_bad_arguments_are_named(changed, message):
    with pytest.raises(common.UsageError, match=message):
        arguments(**changed)


@pytest.mark.slow
@pytest.mark.parametrize("variant", grpo.VARIANTS)
def test_learns_rules_that_the_demonstrations_get_wrong(tmp_path, variant):
    task = dict(env_kwargs='{"values": 5, "rules": 2, "max_length": 2, "skill": [0.5, 0.5]}')
    sizes = dict(num_envs=32, group_size=8, num_minibatches=1, total_timesteps=25, eval_episodes=48, eval_samples=16)
    base = dict(sft_steps=1000, sft_batch_size=64, sft_learning_rate=3e-3)
    run = grpo.train(arguments(run_dir=str(tmp_path), variant=variant, learning_rate=1e-3, **task, **sizes, **base))
    first, last = common.read_metrics(tmp_path / "metrics.jsonl")[0], run.last
    assert first["train/pass@1"] < 0.7  # so often is a step of the demonstrations right
    assert last["train/pass@1"] > first["train/pass@1"] + 0.2
    assert last["test/pass@1"] > first["test/pass@1"] + 0.1
    assert last["test/kl"] > 0.03
    assert last["test/entropy"] < first["test/entropy"]


@pytest.mark.slow
def test_trains_a_hugging_face_model(tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    with pytest.raises(common.UsageError, match=r"there is no nowhere/config.json"):
        grpo.train(arguments(model="nowhere", max_tokens=4, run_dir=str(tmp_path / "none")))
    vocabulary = {token: i for i, token in enumerate(("<pad>", "<bos>", "<eos>", "0", "1", "=", "#"))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    special = dict(pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(tmp_path / "model")
    config = transformers.GPT2Config(vocab_size=7, n_positions=24, n_embd=32, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    task = dict(env="Explore/Parity-v0", env_kwargs='{"min_length": 2, "max_length": 4, "steps": false}', max_tokens=3)
    for name in (f"hf:{tmp_path / 'model'}", str(tmp_path / "model")):
        grpo.train(arguments(**task, model=name, group_size=16, run_dir=str(tmp_path / f"run{len(name)}"), total_timesteps=2))
        rows = common.read_metrics(tmp_path / f"run{len(name)}" / "metrics.jsonl")
        assert rows[-1]["signal"] > 0 and rows[-1]["grad_norm"] > 0
        assert rows[0]["test/kl"] == 0 != rows[-1]["test/kl"]
