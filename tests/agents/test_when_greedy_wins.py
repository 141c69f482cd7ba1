import numpy as np
import pytest
import torch
from interruption import interrupted

from explore_gym.agents import common
from explore_gym.agents import when_greedy_wins as wgw
from explore_gym.agents.common import sft
from explore_gym.envs.text.text_bandit import TextBandit

SMALL = dict(env_kwargs='{"arms": 3}', no_think=True, num_layers=1, d_model=16, num_heads=2, quiet=True, device="cpu")
SIZES = dict(num_envs=4, num_turns=5, total_timesteps=80, num_minibatches=2, eval_episodes=8, audit_turns=10, max_tokens=4)
BASE = dict(base_turns=10, base_transitions=64, base_steps=150, base_batch_size=16, base_learning_rate=1e-2)
SFT = dict(sft_transitions=32, sft_epochs=2, sft_batch_size=8)


def arguments(**changed):
    return wgw.Args(**{**SMALL, **SIZES, **BASE, **SFT, **changed})


class Speaker(common.GPT):
    """A small model; it says what it is told to, where it is told: a response for each bandit, turn by turn."""

    said = None

    def draw(self, prompts, owners, uniforms, drawing):
        if self.said is None:
            return super().draw(prompts, owners, uniforms, drawing)
        answers = [[*self.tokenizer.encode(answer), self.tokenizer.eos] for answer in self.said.pop(0)]
        lengths = torch.tensor([len(answer) for answer in answers])
        tokens = torch.zeros(len(answers), int(lengths.max()), dtype=torch.long)
        for row, answer in zip(tokens, answers):
            row[: len(answer)] = torch.tensor(answer)
        return tokens, -torch.ones(tokens.shape), lengths


@pytest.fixture
def model():
    """Far enough from uniform that what it draws depends on what it reads; and with values."""
    torch.manual_seed(0)
    tokenizer = TextBandit().tokenizer
    config = common.GPTConfig(tokenizer.vocab_size, 64, num_layers=2, d_model=16, num_heads=2, value_head=True)
    model = Speaker(config, tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8.0)
        model.value_head.weight.normal_()
    return model


def rolled_out(model, args):
    """A round with all that a minibatch needs, its rows one after the other."""
    torch.manual_seed(1)
    task = wgw.make_env(args, split="train", pulls=args.num_turns).task
    b, _ = wgw.rollout(model, task, np.arange(args.num_envs), args)
    advantages = wgw.dual_gae(b["rewards"], b["values"], b["written"], args)
    b["returns"], b["advantages"] = advantages + b["values"], wgw.normalised(advantages, b["written"])
    return {key: b[key].flatten(0, 1) for key in ("tokens", "written", "logprobs", "advantages", "returns")}


def gradient(model, m, args):
    m = {**m, "shares": m["written"] / m["written"].sum()}
    loss, metrics = wgw.ppo_loss(model, m, args)
    return torch.cat([x.flatten() for x in torch.autograd.grad(loss, list(model.parameters()))]), metrics


def test_dual_gae_worked_by_hand():
    # one bandit, two turns of two tokens behind a prompt; the prompt of the second is longer
    written = torch.tensor([[[0, 1, 1, 0]], [[0, 0, 1, 1]]]).bool()
    values = torch.tensor([[[9.0, 0.5, 1.0, 9.0]], [[9.0, 9.0, 2.0, 1.5]]])
    rewards = torch.tensor([[1.0], [2.0]])
    args = arguments(gamma_intra=1.0, lambda_intra=0.5, gamma_inter=0.8, lambda_inter=0.25)
    # from behind: 2 - 1.5; 1.5 - 2 + 0.5 * 0.5; 1 + 0.8 * 2 - 1 + 0.8 * 0.25 * -0.25; 1 - 0.5 + 0.5 * 1.55
    expected = [[[0, 1.275, 1.55, 0]], [[0, 0, -0.25, 0.5]]]
    assert torch.allclose(wgw.dual_gae(rewards, values, written, args), torch.tensor(expected))
    args = arguments(gamma_intra=0.5, lambda_intra=1.0, gamma_inter=0.0, lambda_inter=1.0)
    # nothing comes back over the turns: 0.5; 0.75 - 2 + 0.5 * 0.5; 1 - 1; 0.5 - 0.5 + 0
    expected = [[[0, 0.0, 0.0, 0]], [[0, 0, -1.0, 0.5]]]
    assert torch.allclose(wgw.dual_gae(rewards, values, written, args), torch.tensor(expected))


def random_turns(turns=4, bandits=3, length=9):
    torch.manual_seed(0)
    starts, counts = torch.randint(1, 4, (turns, bandits, 1)), torch.randint(1, 6, (turns, bandits, 1))
    columns = torch.arange(length)
    written = (columns >= starts) & (columns < starts + counts)
    return torch.randn(turns, bandits), torch.randn(turns, bandits, length), written


def test_dual_gae_is_the_sum_over_all_later_tokens():
    rewards, values, written = random_turns()
    args = arguments(gamma_intra=0.9, lambda_intra=0.7, gamma_inter=0.6, lambda_inter=0.8)
    advantages = wgw.dual_gae(rewards, values, written, args)
    assert (advantages[~written] == 0).all()
    for lane in range(3):
        tokens = [(turn, column) for turn in range(4) for column in written[turn, lane].nonzero().flatten().tolist()]
        ends = [i + 1 == len(tokens) or tokens[i + 1][0] > turn for i, (turn, _) in enumerate(tokens)]
        v = [float(values[turn, lane, column]) for turn, column in tokens] + [0.0]
        for k, (turn, column) in enumerate(tokens):
            total, weight = 0.0, 1.0
            for i in range(k, len(tokens)):
                gamma, trace = (0.6, 0.8) if ends[i] else (0.9, 0.7)
                reward = float(rewards[tokens[i][0], lane]) if ends[i] else 0.0
                total += weight * (reward + gamma * v[i + 1] - v[i])
                weight *= gamma * trace
            assert float(advantages[turn, lane, column]) == pytest.approx(total, abs=1e-5)


def test_undiscounted_returns_are_the_rewards_to_come():
    rewards, values, written = random_turns()
    args = arguments(gamma_intra=1.0, lambda_intra=1.0, gamma_inter=1.0, lambda_inter=1.0)
    returns = wgw.dual_gae(rewards, values, written, args) + values
    to_come = rewards.flip(0).cumsum(0).flip(0).unsqueeze(-1).expand_as(values)
    assert torch.allclose(returns[written], to_come[written], atol=1e-5)


def test_a_myopic_reward_is_not_discounted_between_turns():
    assert arguments(method="alg").gamma_inter == 0.0 and arguments(method="stg").gamma_inter == 0.95
    assert arguments(method="alg", gamma_inter=0.5).gamma_inter == 0.5
    assert wgw.horizon(arguments(method="alg")) == 1.0
    assert wgw.horizon(arguments(method="og", gamma_inter=0.5, num_turns=3)) == 1.75
    assert wgw.horizon(arguments(method="og", gamma_inter=1.0, num_turns=5)) == 5.0


def test_advantages_are_normalised_over_all_tokens():
    written = torch.tensor([[[0, 1], [0, 0]], [[0, 1], [1, 0]]]).bool()
    advantages = torch.tensor([[[9.0, 1.0], [9.0, 9.0]], [[9.0, 2.0], [3.0, 9.0]]])
    expected = torch.tensor([[[0, -1.0], [0, 0]], [[0, 0], [1.0, 0]]])  # of 1, 2, 3: mean 2, standard deviation 1
    assert torch.allclose(wgw.normalised(advantages, written), expected, atol=1e-6)


def said(model, reward, means, answers, **changed):
    """Rewards and report of one bandit of these means that gets these answers."""
    args = arguments(**changed)
    task = wgw.make_env(args, split="train", pulls=len(answers), reward=reward).task
    task._instances[7] = means
    model.said = [[answer] for answer in answers]
    b, report = wgw.rollout(model, task, np.array([7]), args)
    return b["rewards"].flatten().tolist(), report, task


def test_rewards_worked_by_hand(model):
    means = (0.2, 0.5, 0.6)
    answers = ["2", "2", "3", "1", "<answer>3</answer>"]
    rewards, report, task = said(model, wgw.REWARDS["og"], means, answers)
    drawn = [task.draw(7, arm, count) for arm, count in ((1, 0), (1, 1), (2, 0), (0, 0), (2, 1))]
    assert rewards == report["pulled"].flatten().tolist() == drawn
    assert report["arm"].flatten().tolist() == [1, 1, 2, 0, 2]
    assert report["regret"].flatten().tolist() == pytest.approx([0.1, 0.1, 0.0, 0.4, 0.0])
    rewards, _, _ = said(model, wgw.REWARDS["stg"], means, answers)
    assert rewards == pytest.approx([0.75, 0.75, 1.0, 0.0, 1.0])  # (mean - 0.2) / 0.4
    rewards, _, task = said(model, wgw.REWARDS["alg"], means, answers[:4])
    assert rewards == [1.0, 0.0, 1.0, 1.0]  # arms come first that were not pulled yet; any of them is right


def test_rewards_of_ties(model):
    assert said(model, "regret", (0.5, 0.5, 0.5), ["1", "3"])[0] == [1.0, 1.0]
    rewards, _, _ = said(model, "teacher", (1.0, 1.0, 0.0), ["1", "2", "3", "2"])
    assert rewards == [1.0, 1.0, 1.0, 1.0]  # 1 and 2 have equal counts and means
    rewards, _, _ = said(model, "teacher", (1.0, 1.0, 0.0), ["1", "2", "3", "1", "1", "3"])
    assert rewards == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]


def test_a_response_without_an_arm_costs_a_little(model):
    for reward in wgw.REWARDS.values():
        rewards, report, _ = said(model, reward, (1.0, 0.5, 0.0), ["4", "one", "1"], format_penalty=0.25)
        assert rewards == [-0.25, -0.25, 1.0]
        assert report["arm"].flatten().tolist() == [-1, -1, 0]


def test_each_turn_is_a_prompt_of_its_own_and_reads_what_was_pulled(model):
    args = arguments(model="hf:mine", instructions="go ")
    task = wgw.make_env(args, split="train", pulls=2).task
    task._instances[7], task._instances[8] = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
    model.said = [["2", "<think>10</think>3"], ["1", "1"]]
    b, _ = wgw.rollout(model, task, np.array([7, 8]), args)
    assert b["tokens"].shape[:2] == (2, 2)
    texts = [[model.tokenizer.decode(row[1:].tolist()) for row in turn] for turn in b["tokens"]]
    assert texts[0] == ["go 1 0 0.00\n2 0 0.00\n3 0 0.00\n2", "go 1 0 0.00\n2 0 0.00\n3 0 0.00\n<think>10</think>3"]
    assert texts[1] == ["go 1 0 0.00\n2 1 1.00\n3 0 0.00\n1", "go 1 0 0.00\n2 0 0.00\n3 0 0.00\n1"]  # that answer names no arm
    assert b["written"].sum(-1).tolist() == [[2, 6], [2, 2]]  # eos included
    assert (b["logprobs"] == -b["written"].float()).all()


def test_values_stand_before_the_token_that_is_drawn(model):
    args = arguments()
    task = wgw.make_env(args, split="train", pulls=3).task
    b, _ = wgw.rollout(model, task, np.arange(4), args)
    with torch.no_grad():
        values = model.values(model.hidden(b["tokens"].flatten(0, 1))).unflatten(0, (3, 4))
    assert torch.allclose(b["values"][..., 1:], values[..., :-1], atol=1e-5)
    assert b["values"][b["written"]].std() > 0.1


class Told:
    """A model whose log-probs, entropies and values are given."""

    def __init__(self, logprobs, entropies, values):
        self.results, self.states = (logprobs, entropies), values

    def hidden(self, tokens):
        return None

    def logprobs(self, hidden, tokens, temperature, written):
        return tuple(torch.where(written, x, 0.0) for x in self.results)

    def values(self, hidden):
        return self.states


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        # ratio 1.5 with advantage 1: 1.2; ratios 0.5 and 2 with advantage -1: min(-0.5, -0.8), min(-2, -1.2); mean of three
        (dict(vf_coef=0.0), -(1.2 - 0.8 - 2.0) / 3),
        (dict(vf_coef=0.0, clip_coef=0.6), -(1.5 - 0.5 - 2.0) / 3),
        (dict(vf_coef=0.0, ent_coef=0.3), 1.6 / 3 - 0.3 * 0.5),
        (dict(vf_coef=0.5), 1.6 / 3 + 0.5 * (1 + 4 + 9) / 3),
    ],
)
def test_losses_worked_by_hand(changed, expected):
    written = torch.tensor([[False, True, False], [False, True, True]])
    ratios = torch.tensor([[7.0, 1.5, 7.0], [7.0, 0.5, 2.0]])
    old = torch.full((2, 3), -1.0)
    states = torch.tensor([[2.0, 50.0, 50.0], [3.0, 4.0, 50.0]])  # a token's value is that of the state before it
    m = {"tokens": torch.zeros(2, 3, dtype=torch.long), "logprobs": old, "shares": written / 3}
    m |= {"advantages": torch.tensor([[9.0, 1.0, 9.0], [9.0, -1.0, -1.0]]) * written}
    m |= {"returns": torch.tensor([[9.0, 1.0, 9.0], [9.0, 1.0, 1.0]])}  # errors 1, 2 and 3
    loss, metrics = wgw.ppo_loss(Told(ratios.log() + old, torch.full((2, 3), 0.5), states), m, arguments(**changed))
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert metrics["loss/value"].item() == pytest.approx(14 / 3, abs=1e-5)
    assert metrics["entropy"].item() == pytest.approx(0.5)
    k3 = sum(ratio - 1 - np.log(ratio) for ratio in (1.5, 0.5, 2.0)) / 3
    assert metrics["approx_kl"].item() == pytest.approx(k3, abs=1e-6)
    assert metrics["clipped"].item() == pytest.approx(1 / 3 if "clip_coef" in changed else 1)


def test_only_states_before_written_tokens_learn(model, monkeypatch):
    args = arguments(ent_coef=0.1)
    m = rolled_out(model, args)
    m["shares"] = m["written"] / m["written"].sum()
    hidden = model.hidden(m["tokens"]).detach().requires_grad_()
    monkeypatch.setattr(model, "hidden", lambda tokens: hidden)
    wgw.ppo_loss(model, m, args)[0].backward()
    learns = hidden.grad.abs().sum(-1) > 0
    assert torch.equal(learns[:, :-1], m["written"][:, 1:])  # prompts and padding are left out
    assert not learns[:, -1].any()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_of_learning_are_those_of_sampling(model, temperature):
    args = arguments(temperature=temperature)
    m = rolled_out(model, args)
    assert m["logprobs"][m["written"]].std() > 0.3
    _, metrics = gradient(model, m, args)
    assert metrics["approx_kl"].item() == pytest.approx(0, abs=1e-7)
    assert metrics["clipped"] == 0


def test_padding_order_and_parts_of_a_batch_change_nothing(model):
    args = arguments(max_grad_norm=1e9)
    m = rolled_out(model, args)
    expected, metrics = gradient(model, m, args)
    assert expected.abs().max() > 1e-3
    wider = {key: torch.nn.functional.pad(x, (0, 5)) for key, x in m.items()}
    order = torch.randperm(len(m["tokens"]))
    for same in (wider, {key: x[order] for key, x in m.items()}):
        assert torch.allclose(gradient(model, same, args)[0], expected, atol=1e-5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for size in (3, 1000):
        parts = wgw.learn(model, optimizer, dict(m), arguments(max_grad_norm=1e9, micro_batch=size))
        assert torch.allclose(torch.cat([x.grad.flatten() for x in model.parameters()]), expected, atol=1e-5)
        assert parts["loss/value"].item() == pytest.approx(metrics["loss/value"].item(), rel=1e-4)
        assert parts["grad_norm"].item() == pytest.approx(expected.norm().item(), rel=1e-4)


def test_behaviour_worked_by_hand():
    # the best arm is 0 in both runs; turns downwards, runs across
    arm = np.array([[0, 1], [1, 0], [2, 0], [-1, 1], [1, 0], [1, 1]])
    optimal = (arm == 0).astype(float)
    report = {"arm": arm, "optimal": optimal, "regret": np.where(arm == 0, 0.0, 0.5), "pulled": np.arange(12.0).reshape(6, 2)}
    report |= {"greedy": np.ones((6, 2)), "teacher": np.array([[1, 0]] * 6)}
    report = {key: np.concatenate([x, x], 1) for key, x in report.items()}  # twice, as four runs are the least
    metrics = wgw.behaviour(report, 3, (3, 6))
    expected = {
        "suffix_fail@3": 0.5,  # the first run never comes back to arm 0 after three turns
        "regret@3": (1.0 + 0.5) / 2,
        "regret@6": (2.5 + 1.5) / 2,
        "best_arm@3": 0.5,
        "best_arm@6": 4 / 12,
        "reward@3": 2.5,
        "reward@6": 5.5,
        "min_frac@3": 3 * (1 + 0) / 2 / 3,  # the second run never pulls arm 2
        "min_frac@6": 3 * (1 + 0) / 2 / 6,
        "greedy": 1.0,
        "teacher": 0.5,
        "valid": 11 / 12,
    }
    assert metrics.pop("bimodality") == pytest.approx(wgw.bimodality(np.array([1, 3, 1, 3]) / 6))
    assert metrics == pytest.approx(expected)


def test_bimodality_worked_by_hand():
    # skewness 2 and excess kurtosis 4 with their corrections: (4 + 1) / (4 + 3 * 9 / 2)
    assert wgw.bimodality(np.array([0.0, 0.0, 0.0, 1.0])) == pytest.approx(5 / 17.5)
    assert wgw.bimodality(np.linspace(0, 1, 100_001)) == pytest.approx(5 / 9, abs=1e-3)
    assert wgw.bimodality(np.random.default_rng(0).standard_normal(100_000)) == pytest.approx(1 / 3, abs=0.01)
    assert wgw.bimodality(np.repeat([0.0, 1.0], [300, 700])) == pytest.approx(1.0, abs=0.01)
    assert wgw.bimodality(np.full(10, 0.3)) == 0.0


def audited(method, **changed):
    args = arguments(method=method, eval_episodes=60, audit_turns=40, **changed)
    return wgw.audit(None, wgw.make_env(args, split="test", pulls=args.audit_turns).task, args, seed=5)


def test_scripted_players_are_what_they_are_called():
    found = {method: audited(method) for method in wgw.SCRIPTED}
    assert found["ucb"]["audit/teacher"] == 1.0
    assert found["greedy"]["audit/greedy"] > found["ucb"]["audit/greedy"]
    assert found["greedy"]["audit/suffix_fail@20"] > found["thompson"]["audit/suffix_fail@20"]
    assert 0.3 < found["thompson"]["audit/teacher"] < 0.9 and 0.3 < found["sub_ucb"]["audit/teacher"] < 0.9
    for metrics in found.values():
        assert metrics["audit/valid"] == 1.0
        assert metrics["audit/regret@40"] < 40 * (3 / 4 - 1 / 2) * 0.8  # uniform pulls lose 1/4 per turn
    assert audited("ucb") == found["ucb"] != audited("ucb", env_kwargs='{"arms": 3, "exploration": 1.0}')


def test_greedy_pulls_each_arm_once_first():
    task = TextBandit(arms=3, pulls=6)
    answer = wgw.scripted("greedy", task, 2, 0)
    report = wgw.play(task, np.array([0, 1]), answer)
    assert sorted(report["arm"][:3, 0]) == [0, 1, 2]
    memory = task.new_memory()
    memory["counts"], memory["sums"] = [50, 50, 1], [40.0, 39.0, 0.0]
    assert answer(None, [memory]) == ["1"]
    memory["counts"], memory["sums"] = [2, 1, 1], [-3.0, -2.0, -1.0]
    assert answer(None, [memory]) == ["3"]


def test_the_audit_may_have_other_bandits():
    metrics = audited("ucb", audit_kwargs='{"family": "gaussian", "arms": 10, "exploration": 1.0}')
    assert 0.8 < metrics["audit/reward@40"] < 1.6  # the best of ten normal means is 1.5 on average
    assert metrics["audit/regret@40"] > 10


def test_transitions_are_ucbs_turns_answered_by_the_demonstrator():
    task = TextBandit(arms=3, pulls=30, think=False, demonstrator="base")
    turns = wgw.Transitions(task, 300, 2, "say ")
    again, others = wgw.Transitions(task, 300, 2, "say "), wgw.Transitions(task, 300, 3)
    pulls, greedy, rng = [], 0, np.random.default_rng(0)
    for index in reversed(range(300)):
        prompt, answer = turns.prompt(index), turns.demonstrate(index, rng)
        assert prompt == again.prompt(index)
        assert prompt.startswith("say ")
        lines = [line.split() for line in prompt.removeprefix("say ").splitlines()]
        means = [float(mean) for _, _, mean in lines]
        pulls.append(sum(int(count) for _, count, _ in lines))
        greedy += means[int(answer) - 1] == max(means)
    assert 0 <= min(pulls) < 4 and 26 <= max(pulls) < 30 and np.mean(pulls) == pytest.approx(14.5, abs=1.6)
    assert 0.5 < greedy / 300 < 0.85  # 0.4 + 0.6 / 3, and ties
    assert len({turns.demonstrate(7, rng) for _ in range(50)}) == 3  # drawn anew each time
    assert sum(others.prompt(i) == turns.prompt(i).removeprefix("say ") for i in range(100)) < 20


def test_resumed_run_has_the_same_numbers(tmp_path):
    whole, halves = interrupted(wgw, arguments, tmp_path, stop=40, method="og", num_epochs=2, ent_coef=0.01)
    assert [row["step"] for row in whole] == [20, 40, 60, 80, 80]
    assert whole[-1]["audit/valid"] > 0.5
    assert {"audit/regret@10", "audit/suffix_fail@5", "audit/bimodality", "loss/value", "teacher"} <= whole[-1].keys()
    assert not any(key.startswith("audit") for row in whole[:3] for key in row)
    assert whole == halves


def test_methods_without_rounds_are_audited_at_the_last_step(tmp_path, monkeypatch):
    rows = {}
    for method in ("base", "sft", "ucb"):
        learning = dict(sft_epochs=20, sft_learning_rate=1e-2)
        wgw.train(arguments(run_dir=str(tmp_path / method), method=method, **learning))
        [rows[method]] = common.read_metrics(tmp_path / method / "metrics.jsonl")
        monkeypatch.setattr(sft, "fine_tune", lambda *_: pytest.fail("the base model was trained again"))
    assert [row["step"] for row in rows.values()] == [80, 80, 80]
    assert rows["sft"]["loss/sft"] > 0
    assert rows["sft"]["audit/regret@10"] != rows["base"]["audit/regret@10"]


def test_sft_has_its_epochs_and_other_seeds_other_turns(model, monkeypatch):
    seen = []

    def fine_tune(model, transitions, config, log):
        seen.append((transitions.prompt(0), transitions.task.demonstrator, transitions.task.turns, config.steps, config.seed))

    monkeypatch.setattr(common, "fine_tune", fine_tune)
    for seed in (1, 2):
        wgw.imitate(model, arguments(seed=seed, sft_transitions=50, sft_epochs=3, sft_batch_size=8, num_turns=9))
    assert [turn[1:] for turn in seen] == [("ucb", 9, 19, 1), ("ucb", 9, 19, 2)]  # 150 turns in batches of 8
    assert seen[0][0] != seen[1][0]


def test_thoughts_are_written_and_read(tmp_path):
    run = wgw.train(
        arguments(
            run_dir=str(tmp_path), no_think=False, max_tokens=0, num_turns=3, audit_turns=3, num_envs=2, total_timesteps=1
        )
    )
    assert run.last["length"] > 3
    assert 0 <= run.last["valid"] <= 1
    task = wgw.make_env(arguments(no_think=False), split="train", pulls=5).task
    assert wgw.Transitions(task, 10, 0).demonstrate(3, np.random.default_rng(0)).startswith("<think>1 ")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(method="ppo"), "method must be one of base, sft, og, stg, alg, ucb, sub_ucb, greedy, thompson, got 'ppo'"),
        (dict(gamma_inter=1.5), r"gamma_inter must lie in \[0.0, 1.0\], got 1.5"),
        (dict(lambda_intra=-0.5), r"lambda_intra must lie in \[0.0, 1.0\], got -0.5"),
        (dict(num_turns=0), "num_turns must be at least 1, got 0"),
        (dict(audit_turns=4), "audit_turns must be at least 5, got 4"),
        (dict(eval_episodes=3), "eval_episodes must be at least 4, got 3"),
        (dict(num_minibatches=21), "num_minibatches must be at most 20 responses, got 21"),
        (dict(temperature=0.0), "temperature must be positive, got 0.0"),
        (dict(format_penalty=-1.0), "format_penalty must be at least 0, got -1.0"),
        (dict(instructions="go"), "instructions are for a model that reads"),
        (dict(model="hf:mine", max_tokens=0), "max_tokens must be given where the model has a tokenizer of its own"),
        (dict(compile=True), "compile must be off"),
        (dict(audit_kwargs="[]"), r"audit_kwargs must be a JSON object .*, got '\[\]'"),
    ],
)
def test_bad_arguments_are_named(changed, message):
    with pytest.raises(common.UsageError, match=message):
        arguments(**changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(env="Explore/Parity-v0", env_kwargs="{}"), "cannot make 'Explore/Parity-v0' as a TextBandit with kwargs {}"),
        (dict(env_kwargs='{"arms": 1}'), "arms must be"),
        (dict(env_kwargs='{"pulls": 3, "think": true}'), "env_kwargs and audit_kwargs must leave pulls, think to the agent"),
    ],
)
def test_bad_environments_are_named(changed, message):
    with pytest.raises(common.UsageError, match=message):
        wgw.make_env(arguments(**changed), split="test", pulls=5)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "alg"])
def test_learns_to_play(tmp_path, method):
    bandits = dict(env_kwargs='{"arms": 2}', num_envs=64, num_turns=10, audit_turns=10, eval_episodes=256)
    network = dict(num_layers=2, d_model=32, max_tokens=2)
    base = dict(base_turns=20, base_transitions=2000, base_steps=300, base_batch_size=64, base_learning_rate=5e-3)
    learning = dict(total_timesteps=16_000, learning_rate=3e-3, num_minibatches=8)
    imitation = dict(sft_transitions=6000, sft_epochs=4, sft_batch_size=64, sft_learning_rate=5e-3)
    regrets = {}
    for name in ("base", method):
        given = {**bandits, **network, **base, **learning, **imitation, "method": name}
        run = wgw.train(arguments(**given, run_dir=str(tmp_path / name)))
        assert run.last["audit/valid"] > 0.9
        regrets[name] = run.last["audit/regret@10"]
    assert 1.3 < regrets["base"] < 1.8  # uniform pulls lose 10 * (2/3 - 1/2)
    assert regrets[method] < 0.85 * regrets["base"]


@pytest.mark.slow
def test_trains_a_hugging_face_model(tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {token: i for i, token in enumerate(("<pad>", "<bos>", "<eos>", *"0123456789.- "))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    special = dict(pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(tmp_path / "model")
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=16, n_positions=48, n_embd=32, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    for method in ("stg", "sft"):
        folder = tmp_path / method
        wgw.train(arguments(method=method, model=f"hf:{tmp_path / 'model'}", max_tokens=2, run_dir=str(folder)))
        rows = common.read_metrics(folder / "metrics.jsonl")
        assert "audit/regret@10" in rows[-1]
        assert (rows[-1].get("grad_norm") or rows[-1].get("loss/sft")) > 0
