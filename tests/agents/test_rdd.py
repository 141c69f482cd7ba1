import json

import numpy as np
import pytest
import scipy.stats
import torch

from explore_gym.agents import common, ppo, rdd


def test_bonus_is_the_mean_squared_distance_to_the_target_mean():
    prediction = torch.tensor([[1.0, 2.0, 0.0, -1.0]])
    mean = torch.tensor([[[0.0, 2.0, 2.0, 0.0]]])
    assert rdd.bonus(prediction, mean).tolist() == [(1 + 0 + 4 + 1) / 4]


def test_drnd_bonus_worked_by_hand():
    prediction = torch.tensor([[3.0, 0.5]])
    targets = torch.tensor([[[1.0, 0.0], [3.0, 2.0]]])  # means 2 and 1, second moments 5 and 2: variances 1 and 1
    distance = (3 - 2) ** 2 + (0.5 - 1) ** 2
    # |9 - 4| / 1 is clipped to 1; |0.25 - 1| / 1 = 0.75
    expected = 0.9 * distance + 0.1 * (1 + 0.75**0.5)
    assert rdd.drnd_bonus(prediction, targets, alpha=0.9).item() == pytest.approx(expected)
    exact = rdd.drnd_bonus(torch.tensor([[2.0, 1.0]]), targets, alpha=0.0)
    assert exact.item() == pytest.approx(2 * 1e-6**0.5)  # the ratio's lower clip


def test_every_draw_has_its_own_noise():
    torch.manual_seed(0)
    target = torch.full((4000, 1, 64), 2.0)
    first, second = rdd.draw(target, "rdd", 0.5), rdd.draw(target, "rdd", 0.5)
    noise = (first - 2.0) / 0.5
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    between_samples = (noise[:2000] * noise[2000:]).mean().item()
    between_uses = (noise * (second - 2.0) / 0.5).mean().item()
    between_dimensions = (noise[:, :32] * noise[:, 32:]).mean().item()
    assert [between_samples, between_uses, between_dimensions] == pytest.approx([0, 0, 0], abs=0.02)


def test_rnd_learns_the_target_itself_and_drnd_one_of_its_targets_per_sample():
    torch.manual_seed(0)
    target = torch.arange(3.0).view(1, 3, 1).expand(3000, 3, 2)
    assert torch.equal(rdd.draw(target[:, :1], "rnd", 1.0), torch.zeros(3000, 2))
    chosen = rdd.draw(target, "drnd", 1.0)
    assert torch.equal(chosen[:, 0], chosen[:, 1])  # a whole network's output
    assert torch.bincount(chosen[:, 0].long()).div(3000).tolist() == pytest.approx([1 / 3] * 3, abs=0.04)


@pytest.mark.parametrize("arm", ["rdd", "drnd"])
def test_rescale_gives_the_targets_unit_mean_square(arm):
    torch.manual_seed(0)
    novelty = rdd.Novelty(12, rdd.Args(arm=arm))
    x = 3 * torch.randn(500, 12)
    novelty.rescale(x)
    assert novelty.target(x).square().mean().item() == pytest.approx(1, abs=1e-5)
    assert novelty.target(x).shape == (500, 10 if arm == "drnd" else 1, 64)
    before = novelty.target(x[:1])
    novelty.rescale(x)  # again from scratch, not on top
    assert torch.allclose(novelty.target(x[:1]), before)
    assert not any(p.requires_grad for p in novelty.targets.parameters())


def test_constant_mean_is_one_everywhere():
    novelty = rdd.Novelty(3, rdd.Args(target_mean="const", bonus_dim=5))
    assert torch.equal(novelty.target(torch.randn(4, 3)), torch.ones(4, 1, 5))


def test_whitening_uses_running_moments_and_clips_at_five():
    novelty = rdd.Novelty(2, rdd.Args())
    torch.manual_seed(0)
    x = torch.randn(1000, 2) * torch.tensor([1.0, 20.0]) + torch.tensor([4.0, 0.0])
    for batch in x.split([100, 300, 600]):
        novelty.obs_stats.update(batch)
    assert torch.allclose(novelty.obs_stats.mean.float(), x.mean(0), atol=1e-3)
    assert torch.allclose(novelty.obs_stats.var.float(), x.var(0, correction=0), rtol=1e-3)
    assert novelty.whiten(torch.tensor([[400.0, -400.0]])).tolist() == [[5.0, -5.0]]
    assert novelty.whiten(x).std(0).tolist() == pytest.approx([1, 1], abs=0.03)


def test_return_scaler_discounts_along_time_and_never_across_envs():
    rewards = torch.tensor([[1.0, 10.0, 0.0], [0.0, 10.0, 4.0]])
    scaler = rdd.ReturnScaler(3, gamma=0.5)
    scaled = scaler(rewards)
    sums = np.array([[1.0, 10.0, 0.0], [0.5, 15.0, 4.0]])
    assert scaler.sums.tolist() == sums[1].tolist()
    assert torch.allclose(scaled, rewards / sums.std(), rtol=1e-3)
    scaler(torch.ones(1, 3))
    assert scaler.sums.tolist() == [1.25, 8.5, 3.0]  # carried over to the next rollout


class FixedAgent(torch.nn.Module):
    def __init__(self, probabilities, values):
        super().__init__()
        self.logits, self.values = torch.tensor(probabilities).log(), torch.tensor(values)

    def forward(self, obs):
        return self.logits, self.values


def test_loss_adds_the_second_value_and_the_predictor_to_ppo():
    minibatch = {
        "obs": torch.zeros(2, 1),
        "actions": torch.tensor([0, 1]),
        "logprobs": torch.tensor([0.4, 1.0]).log(),
        "advantages": torch.tensor([2.0, 1.0]),
        "returns": torch.tensor([2.0, 1.0]),
        "int_returns": torch.tensor([0.0, 4.0]),
        "whitened": torch.zeros(1, 3),
        "target": torch.full((1, 1, 64), 0.5),
    }
    probabilities = [[0.6, 0.4], [0.5, 0.5]]
    plain, _ = ppo.ppo_loss(FixedAgent(probabilities, [1.0, 3.0]), minibatch, ppo.Args(vf_coef=0.7, clip_coef=0.1))
    args = rdd.Args(arm="rnd", vf_coef=0.7, clip_coef=0.1, ent_coef=0.01)
    agent = FixedAgent(probabilities, [[1.0, 2.0], [3.0, 3.0]])
    novelty = rdd.Novelty(3, args)  # zero biases: the prediction at 0 is 0
    loss, metrics = rdd.rdd_loss(agent, novelty, minibatch, args)
    assert metrics["loss/int_value"].item() == pytest.approx((4 + 1) / 2)
    assert metrics["loss/predictor"].item() == pytest.approx(0.25)
    assert (loss - plain).item() == pytest.approx(0.7 * 2.5 + 0.25, abs=1e-5)


def test_visits_count_in_order_of_time():
    visits = rdd.Visits.__new__(rdd.Visits)
    visits.table, visits.ids = torch.zeros(6, dtype=torch.long), np.array([0, 2, 3, 5])
    numbers = visits.add(torch.tensor([[2, 2, 0], [2, 5, 0]]))
    assert numbers.tolist() == [[2, 2, 1], [3, 1, 2]]
    assert visits.counts.tolist() == [2, 0, 3, 0, 0, 1]
    assert visits.coverage == 0.75


def test_calibration_of_a_perfect_count_bonus_and_of_a_wrong_one():
    counts = np.array([0, 0, 1, 4, 9, 9, 100, 10_000])
    exact = rdd.calibration(np.where(counts > 0, np.maximum(counts, 1) ** -0.5, 2.0), counts)
    assert exact["calibration/spearman"] == pytest.approx(1)
    assert exact["calibration/slope"] == pytest.approx(-0.5)
    assert exact["calibration/r2"] == pytest.approx(1)
    assert exact["calibration/contrast"] == pytest.approx(2.0 / 0.01)
    rng = np.random.default_rng(0)
    b, n = rng.random(50), rng.integers(1, 9, 50)
    noise = rdd.calibration(b, n)
    assert noise["calibration/spearman"] == pytest.approx(scipy.stats.spearmanr(b, 1 / n)[0])
    assert "calibration/contrast" not in noise
    assert rdd.calibration(b, np.full(50, 3)) == {}


def fit(sigma, checkpoints):
    """The unit law's regression: 40 one-hot states, n draws each, weights n / sum n; yields (bonuses, n) at updates."""
    torch.manual_seed(0)
    novelty = rdd.Novelty(40, rdd.Args(bonus_dim=256))
    states = torch.eye(40)
    novelty.rescale(states)
    target = novelty.target(states)
    n = torch.logspace(0, 3, 40).round().long()
    # least squares on n stored draws is least squares on their mean, up to a constant
    means = torch.stack([rdd.draw(target[i : i + 1].expand(k, 1, 256), "rdd", sigma).mean(0) for i, k in enumerate(n)])
    weights = (n / n.sum()).unsqueeze(1)
    predictor = torch.nn.Sequential(torch.nn.Linear(40, 64), torch.nn.ReLU(), torch.nn.Linear(64, 256))
    optimizer = torch.optim.Adam(predictor.parameters(), lr=1e-3, fused=True)
    for done in range(1, max(checkpoints) + 1):
        loss = (weights * (predictor(states) - means).square()).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if done in checkpoints:
            yield rdd.bonus(predictor(states), target).detach().numpy(), n.numpy()


def follows_the_law(b, n):
    slope = np.polyfit(np.log(n), np.log(b), 1)[0]
    return -1.05 <= slope <= -0.95 and scipy.stats.spearmanr(b, 1 / n)[0] >= 0.98


@pytest.mark.slow
def test_unit_law_holds_for_rdd_and_not_for_rnd():
    assert all(follows_the_law(b, n) for b, n in fit(sigma=1.0, checkpoints=(4000,)))
    assert not any(follows_the_law(b, n) for b, n in fit(sigma=0.0, checkpoints=(500, 1000, 2000, 4000)))


SMALL = dict(num_envs=4, num_steps=32, warmup_rollouts=2, total_timesteps=512, quiet=True, calibration_interval=256)


@pytest.mark.parametrize(
    "arm", [("ppo", "net"), ("rnd", "net"), ("drnd", "net"), ("rdd", "net"), ("rdd", "const"), ("count", "net")]
)
def test_every_arm_trains_and_reports(tmp_path, arm):
    args = rdd.Args(arm=arm[0], target_mean=arm[1], run_dir=str(tmp_path), report_at=(256,), **SMALL)
    rdd.train(args)
    rows = common.read_metrics(tmp_path / "metrics.jsonl")
    summary = json.loads((tmp_path / "summary.json").read_text())
    saved = np.load(tmp_path / "visits.npz")
    assert saved["counts"].sum() == 512  # every step reaches one cell, warm-up not counted
    assert summary["final"]["coverage"] == rows[-1]["coverage"] == (saved["counts"] > 0).mean()
    assert summary["256"]["step"] == 256
    assert summary["256"]["coverage"] <= summary["final"]["coverage"]
    assert ("calibration/spearman" in summary["final"]) == (arm[0] != "ppo")
    assert ("loss/predictor" in rows[-1]) == (arm[0] not in ("ppo", "count"))
    if arm[0] == "count":
        assert summary["final"]["calibration/slope"] == pytest.approx(-0.5)
    if arm[0] == "ppo":
        assert rows[-1]["bonus"] == 0
    assert (tmp_path / "visits.png").read_bytes().startswith(b"\x89PNG")


def test_intrinsic_return_runs_on_after_an_episode_and_extrinsic_stops(tmp_path):
    args = rdd.Args(env_kwargs='{"max_steps": 160}', arm="count", **SMALL, run_dir=str(tmp_path))
    run = common.start(args, "rdd.py")
    envs = run.make_envs(4)
    agent = rdd.Agent(envs, args)
    envs.reset(seed=0)
    buffer = rdd.make_buffer(envs, 161)
    b = rdd.rollout(agent, envs, buffer)
    assert b["done"].nonzero()[:, 0].tolist() == [159] * 4
    start_values = agent(envs.rows(b["obs"][160]))[1].detach()
    assert torch.allclose(b["int_next_values"][159], start_values[:, 1])  # V_int of the reset obs
    assert torch.allclose(b["next_values"][159], agent(b["next_obs"][159])[1][:, 0].detach())  # V_ext of the last obs
    assert torch.equal(b["next_obs"][:159], b["obs"][1:160])
    assert not torch.equal(b["next_obs"][159], b["obs"][160])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(autoreset_mode="NextStep"), "intrinsic returns run across resets"),
        (dict(arm="rnd", target_mean="const"), "ablation of arm rdd, got arm 'rnd'"),
        (dict(arm="drnd", num_targets=1), "num_targets must be at least 2 for drnd, got 1"),
        (dict(update_proportion=1e-6), "leaves the predictor no sample"),
        (dict(sigma=-1.0), "sigma must be at least 0.0, got -1.0"),
        (dict(num_minibatches=5), "got 5"),
    ],
)
def test_bad_arguments_are_named(changed, message):
    with pytest.raises(common.UsageError, match=message):
        rdd.Args(**changed)


def test_count_arm_needs_cells(tmp_path):
    with pytest.raises(common.UsageError, match="needs an environment with cells, CartPole-v1 has none"):
        rdd.train(rdd.Args(env="CartPole-v1", arm="count", run_dir=str(tmp_path), **SMALL))
