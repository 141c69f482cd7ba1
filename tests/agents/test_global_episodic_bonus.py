import json

import numpy as np
import pytest
import torch

from explore_gym.agents import common, ppo
from explore_gym.agents import global_episodic_bonus as geb

SIZES = dict(num_envs=4, num_steps=16, num_minibatches=2, hidden=16, phi_dim=6, rnd_dim=5, aux_hidden=12)


def arguments(**changed):
    return geb.Args(**{"env": "Explore/FourRooms-v0", "env_kwargs": '{"size": 5, "max_steps": 20}', **SIZES, **changed})


IDS = np.array([[3, 3], [4, 3], [3, 5], [3, 4]])  # of the states that two lanes reach in four steps
DONE = np.array([[False, False], [False, False], [True, False], [False, False]])


def test_counts_of_a_trace_worked_by_hand():
    numbers, first = geb.Counts(2, shared=True).add(IDS, DONE)
    # both lanes reach 3 at once, so that both have N = 2; lane 1 comes back, lane 0 does twice
    assert numbers.tolist() == [[2, 2], [1, 3], [4, 1], [5, 2]]
    # lane 0: 3 and 4 are new, 3 isn't; the episode ends, 3 is new again. Lane 1: 3, 3, 5, 4
    assert first.tolist() == [[True, True], [True, False], [False, True], [True, True]]


def test_counts_go_on_in_the_next_rollout():
    whole, parts = geb.Counts(2, shared=True), geb.Counts(2, shared=True)
    numbers, first = whole.add(IDS, DONE)
    seen = [parts.add(IDS[t : t + 1], DONE[t : t + 1]) for t in range(4)]
    assert np.concatenate([x for x, _ in seen]).tolist() == numbers.tolist()
    assert np.concatenate([x for _, x in seen]).tolist() == first.tolist()


def test_unshared_counts_are_each_lane_s_own():
    numbers, first = geb.Counts(2, shared=False).add(IDS, DONE)
    assert numbers.tolist() == [[1, 1], [1, 2], [2, 1], [3, 1]]
    assert first.tolist() == [[True, True], [True, False], [False, True], [True, True]]


def test_tables_grow_with_the_ids_and_hash_what_is_too_large():
    counts = geb.Counts(1, shared=True)
    ids = np.array([[5], [1000], [5], [2**40], [1000], [2**40], [2**40 + 1]])
    numbers, first = counts.add(ids, np.zeros(ids.shape, bool))
    assert numbers.ravel().tolist() == [1, 1, 2, 1, 2, 2, 1]
    assert first.ravel().tolist() == [True, True, False, True, False, False, True]
    assert counts.visits.shape[1] <= geb.Counts.TABLE_SIZE


@pytest.mark.parametrize(
    ("arm", "expected"),
    [
        ("none", [[0, 0], [0, 0], [0, 0], [0, 0]]),
        ("global", [[2**-0.5, 2**-0.5], [1, 3**-0.5], [0.5, 1], [5**-0.5, 2**-0.5]]),
        ("episodic", [[1, 1], [1, 0], [0, 1], [1, 1]]),
        ("product", [[2**-0.5, 2**-0.5], [1, 0], [0, 1], [5**-0.5, 2**-0.5]]),
        ("sum", [[1 + 0.5 * 2**-0.5] * 2, [1.5, 0.5 * 3**-0.5], [0.25, 1.5], [1 + 0.5 * 5**-0.5, 1 + 0.5 * 2**-0.5]]),
    ],
)
def test_count_bonuses_of_the_trace(arm, expected):
    b = {"rewards": torch.zeros(4, 2), "ids": torch.from_numpy(IDS), "done": torch.from_numpy(DONE)}
    args = geb.Args(arm=arm, beta=0.5)
    bonuses = geb.intrinsic_rewards(b, geb.Counts(2, shared=True), None, None, None, args)
    assert torch.allclose(bonuses, torch.tensor(expected, dtype=torch.float32))


class Trace:
    """A made-up rollout of three lanes, with ends of episodes, and E3B's networks and memory for it."""

    def __init__(self, arm="e3b", **changed):
        torch.manual_seed(0)
        self.args = arguments(arm=arm, num_envs=3, num_minibatches=3, ridge=0.3, **changed)
        self.inverse = geb.InverseDynamics(5, 4, self.args)
        self.ellipses = geb.Ellipses(3, self.args)
        self.rnd = geb.RND(5, self.args)
        features, next_features = torch.randn(8, 3, 5), torch.randn(7, 3, 5)
        starts = torch.zeros(8, 3, dtype=torch.bool)
        starts[0], starts[3, 0], starts[4, 0], starts[6, 2] = True, True, True, True
        going_on = ~starts[1:]
        next_features[going_on] = features[1:][going_on]
        self.b = {"features": features, "next_features": next_features, "starts": starts, "done": starts[1:]}
        self.b["rewards"] = torch.zeros(7, 3)

    def bonuses(self):
        return geb.intrinsic_rewards(self.b, None, self.inverse, self.ellipses, self.rnd, self.args)

    def phi(self, features):
        return self.inverse.phi(features).detach().double()


def explicit_elliptical_bonuses(trace):
    """The definition: phi^T C^-1 phi with C = ridge I + the sum over the states of this episode so far, inverted."""
    b, eye = trace.b, torch.eye(trace.args.phi_dim, dtype=torch.float64)
    bonuses = torch.zeros(7, 3, dtype=torch.float64)
    for lane in range(3):
        for t in range(7):
            if b["starts"][t, lane]:
                seen = [trace.phi(b["features"][t, lane])]
            phi = trace.phi(b["next_features"][t, lane])
            c = trace.args.ridge * eye + sum(torch.outer(x, x) for x in seen)
            bonuses[t, lane] = phi @ torch.linalg.inv(c) @ phi
            seen.append(phi)
    return bonuses.float()


def test_e3b_is_the_explicit_inverse_and_its_memory_ends_with_the_episode():
    trace = Trace()
    assert torch.allclose(trace.bonuses(), explicit_elliptical_bonuses(trace), rtol=1e-4)


def test_e3b_goes_on_in_the_next_rollout():
    trace, whole = Trace(), Trace()
    expected = whole.bonuses()
    b = trace.b
    for first, last in ((0, 2), (2, 7)):
        trace.b = {key: x[first : last + 1] if len(x) == 8 else x[first:last] for key, x in b.items()}
        assert torch.allclose(trace.bonuses(), expected[first:last], rtol=1e-5)


def test_released_shift_pays_for_the_state_left_and_nothing_for_an_episode_s_first():
    shifted, plain = Trace(released_shift=True), Trace()
    bonuses, unshifted, starts = shifted.bonuses(), plain.bonuses(), plain.b["starts"]
    assert bonuses[starts[:-1]].tolist() == [0.0] * 6
    going_on = ~starts[1:-1]
    assert torch.allclose(bonuses[1:][going_on], unshifted[:-1][going_on], rtol=1e-4)  # each a step later
    assert unshifted[0].min() > 0


def test_rnd_and_noveld_worked_by_hand():
    trace = Trace("rnd")
    target, predictor = trace.rnd.target, trace.rnd.predictor
    encoding = target[:2](trace.b["next_features"])
    distance = predictor(encoding) - target[2](encoding)
    error = distance.square().sum(-1).sqrt()
    assert encoding.min() == 0  # after a ReLU
    assert torch.allclose(trace.bonuses(), error)
    assert torch.allclose(Trace("rnd", squared_norm=True).bonuses(), error.square(), rtol=1e-4)
    before = trace.rnd(trace.b["features"][:-1])
    novel = Trace("noveld", noveld_scale=0.9).bonuses()
    assert torch.allclose(novel, (error - 0.9 * before).clamp(min=0), atol=1e-6)
    assert 0 < (novel == 0).sum() < novel.numel()


@pytest.mark.parametrize("arm", ["e3b_rnd", "e3b_noveld", "e3b_plus_rnd"])
def test_mixed_bonuses_are_made_of_the_single_ones(arm):
    elliptical, error, novel = (Trace(x).bonuses() for x in ("e3b", "rnd", "noveld"))
    expected = {"e3b_rnd": elliptical * error, "e3b_noveld": elliptical * novel, "e3b_plus_rnd": elliptical + 0.3 * error}
    assert torch.allclose(Trace(arm, beta=0.3).bonuses(), expected[arm])


def test_rewards_are_clipped_after_the_bonus_was_divided_by_its_std_and_added():
    bonuses = torch.tensor([[0.0, 4.0], [0.0, 4.0]])  # standard deviation 2
    rewards = torch.tensor([[0.0, 1.0], [-0.5, -0.6]])
    mixed = geb.mixed_rewards(rewards, bonuses, geb.RunningStd(), geb.Args(coef=0.25))
    assert torch.allclose(mixed, torch.tensor([[0.0, 1.0], [-0.5, -0.1]]))
    raw = geb.mixed_rewards(rewards, bonuses, geb.RunningStd(), geb.Args(coef=0.25, norm_bonus=False))
    assert torch.allclose(raw, torch.tensor([[0.0, 1.0], [-0.5, 0.4]]))
    saturated = geb.mixed_rewards(-rewards, bonuses, geb.RunningStd(), geb.Args(coef=10.0))
    assert saturated.tolist() == [[0.0, 1.0], [0.5, 1.0]]
    untouched = geb.mixed_rewards(rewards, 0 * bonuses, geb.RunningStd(), geb.Args(arm="none"))
    assert torch.equal(untouched, rewards)


def test_running_std_is_that_of_all_batches_together():
    torch.manual_seed(0)
    stats, batches = geb.RunningStd(), [3 + 2 * torch.randn(4, 8), 5 + torch.randn(6, 8), torch.zeros(1, 8)]
    for x in batches:
        stats.update(x)
    assert stats.std.item() == pytest.approx(torch.cat(batches).std(correction=0).item(), rel=1e-5)


def test_released_std_has_the_lanes_in_the_sum_and_not_in_the_count():
    x = torch.tensor([[1.0, 2.0, 0.0], [3.0, 2.0, 4.0]])
    stats = geb.RunningStd(released=True)
    stats.update(x)
    mean, var, lanes = 2.0, 10 / 6, 3
    assert stats.mean.item() == lanes * mean
    assert stats.std.item() == pytest.approx((lanes * (var + (lanes - 1) ** 2 * mean**2)) ** 0.5)


def test_inverse_dynamics_learns_from_steps_within_an_episode_only():
    trace = Trace()
    actions, done = torch.randint(0, 4, (7, 3)), trace.b["done"]
    loss = trace.inverse.loss(trace.b["features"], actions, done)
    terms = []
    for t in range(7):
        for lane in range(3):
            if not done[t, lane]:
                pair = torch.cat([trace.inverse.phi(trace.b["features"][t + i, lane]) for i in (0, 1)])
                terms.append(-trace.inverse.head(pair).log_softmax(-1)[actions[t, lane]])
    assert len(terms) == 21 - 3
    assert loss.item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-5)


@pytest.fixture
def played(tmp_path):
    """An agent and what it played: episodes of 20 steps in rollouts of 16, the second of them."""
    args = arguments(run_dir=str(tmp_path), arm="e3b")
    run = common.start(args, "global_episodic_bonus.py")
    envs = run.make_envs(4)
    agent, lanes = geb.Agent(envs, args), geb.Lanes(4, args.hidden)
    torch.nn.init.orthogonal_(agent.actor.weight)  # logits that tell memories apart
    envs.reset(seed=3)
    envs.envs.unwrapped.set_state(t=[0, 3, 7, 2])  # so that episodes end at different times
    buffer = geb.make_buffer(envs, agent, args.num_steps)
    geb.rollout(agent, agent.step, envs, lanes, buffer, args)
    return agent, geb.rollout(agent, agent.step, envs, lanes, buffer, args), args, envs


def test_replay_in_one_batch_gives_the_logits_and_values_of_acting(played):
    agent, b, args, _ = played
    assert b["done"].any()
    assert b["memory"][0].abs().max() > 0  # carried over from the rollout before
    logits, values, memories = agent(b["features"][:-1], b["memory"][0], b["starts"][:-1])
    assert torch.allclose(logits, b["logits"], atol=1e-6)
    assert torch.allclose(values, b["values"], atol=1e-6)
    assert torch.allclose(memories, b["memory"][1:], atol=1e-6)
    m = {key: b[key] for key in ("features", "starts", "actions", "logprobs", "done")}
    m |= {"memory": b["memory"][0], "advantages": torch.randn(16, 4), "returns": b["values"]}
    _, metrics = geb.ppo_loss(agent, m, args)
    assert metrics["approx_kl"].item() == pytest.approx(0, abs=1e-6)
    assert metrics["loss/value"].item() == pytest.approx(0, abs=1e-9)
    assert metrics["loss/policy"].item() == pytest.approx(0, abs=1e-5)  # minus the mean of normalised advantages


def test_memory_is_zero_where_an_episode_starts_and_kept_where_none_does(played):
    agent, b, _, _ = played
    t, lane = (int(x[0]) for x in b["starts"][1:-1].nonzero(as_tuple=True))
    t += 1
    x = agent.encoder(b["features"][t])
    fresh, carried = agent.cell(x, torch.zeros_like(b["memory"][t])), agent.cell(x, b["memory"][t])
    other = int((~b["starts"][t]).nonzero()[0])
    assert torch.allclose(b["memory"][t + 1, lane], fresh[lane], atol=1e-6)
    assert torch.allclose(b["memory"][t + 1, other], carried[other], atol=1e-6)
    assert not torch.allclose(fresh[lane], carried[lane], atol=1e-3)


def test_next_values_are_those_of_the_state_reached_with_the_memory_of_its_episode(played):
    agent, b, _, envs = played
    t, lane = (int(x[0]) for x in b["done"].nonzero(as_tuple=True))
    memory = b["memory"][t + 1, lane].unsqueeze(0)
    value = agent.critic(agent.cell(agent.encoder(b["next_features"][t, lane].unsqueeze(0)), memory))
    assert b["next_values"][t, lane].item() == pytest.approx(value.item(), abs=1e-6)
    assert torch.equal(b["next_values"][:-1][~b["done"][:-1]], b["values"][1:][~b["done"][:-1]])
    assert not torch.equal(b["next_features"][t, lane], b["features"][t + 1, lane])  # that is the reset's
    assert torch.equal(b["next_features"][~b["done"]], b["features"][1:][~b["done"]])
    last = agent.step(envs.obs, b["memory"][-1], b["starts"][-1], torch.zeros(4, envs.num_actions))
    assert torch.allclose(b["next_values"][-1][~b["done"][-1]], last[3][~b["done"][-1]], atol=1e-6)


def test_gradients_go_back_to_the_start_of_the_episode_and_no_further(played):
    agent, b, _, _ = played
    features = b["features"][:-1].clone().requires_grad_()
    lane = int(b["starts"][1:-1].nonzero()[0, 1])
    t = int(b["starts"][:-1, lane].nonzero().max())
    assert t > 0
    logits = agent(features, b["memory"][0], b["starts"][:-1])[0]
    reach = torch.autograd.grad(logits[15, lane, 0], features)[0].abs().sum(-1) > 0
    assert reach[:, lane].tolist() == [False] * t + [True] * (16 - t)
    assert reach.sum() == 16 - t  # and to no other lane


def test_loss_of_lanes_without_memory_is_that_of_ppo(played):
    """With a memory that forgets everything at once the recurrent loss is ppo.py's on the flattened steps."""
    agent, b, args, _ = played
    torch.manual_seed(0)
    m = {"features": b["features"], "memory": b["memory"][0], "starts": torch.ones(17, 4, dtype=torch.bool)}
    m |= {"actions": b["actions"], "logprobs": b["logprobs"], "advantages": torch.randn(16, 4), "returns": torch.randn(16, 4)}
    loss, metrics = geb.ppo_loss(agent, m, args)

    def stateless(features):
        memory = agent.cell(agent.encoder(features))
        return agent.actor(memory), agent.critic(memory).squeeze(-1)

    flat = {key: m[key].flatten() for key in ("actions", "logprobs", "advantages", "returns")}
    flat["obs"] = b["features"][:-1].flatten(0, 1)
    expected, expected_metrics = ppo.ppo_loss(stateless, flat, ppo.Args())
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    assert metrics["entropy"].item() == pytest.approx(expected_metrics["entropy"].item(), abs=1e-6)


def test_acting_remembers_until_told_that_an_episode_starts(played):
    agent, _, _, envs = played
    noise = torch.zeros(4, envs.num_actions)
    none, some = torch.zeros(4, dtype=torch.bool), torch.tensor([True, False, False, True])
    agent.act(envs.obs)
    memory = agent.memory
    agent.act(envs.obs, some)
    expected = agent.step(envs.obs, memory, some, noise)[4]
    assert torch.equal(agent.memory, expected)
    assert not torch.allclose(expected[0], agent.step(envs.obs, memory, none, noise)[4][0])
    agent.act(envs.obs[:2])
    assert torch.equal(agent.memory, agent.step(envs.obs[:2], torch.zeros(2, 16), none[:2], noise[:2])[4])


ARMS = ["none", "global", "episodic", "sum", "e3b", "rnd", "noveld", "e3b_rnd", "e3b_plus_rnd"]


@pytest.mark.parametrize("arm", ARMS)
def test_arm_trains(tmp_path, arm):
    geb.train(arguments(arm=arm, run_dir=str(tmp_path), total_timesteps=64, quiet=True))
    (row,) = common.read_metrics(tmp_path / "metrics.jsonl")
    assert (row["bonus"] > 0) == (arm != "none")
    assert ("loss/inverse" in row) == ("e3b" in arm)
    assert ("loss/rnd" in row) == ("rnd" in arm or "noveld" in arm)


@pytest.mark.parametrize("arm", ["product", "e3b_noveld"])
def test_resumed_run_has_the_same_numbers(tmp_path, arm):
    changed = dict(arm=arm, total_timesteps=256, eval_episodes=4, quiet=True)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    geb.train(arguments(run_dir=str(whole), **changed))

    class Interrupted(Exception):
        pass

    log = common.Run.log

    def log_and_stop(run, step, metrics):
        log(run, step, metrics)
        if step == 128:
            run.save()
            raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common.Run, "log", log_and_stop)
        with pytest.raises(Interrupted):
            geb.train(arguments(run_dir=str(halves), **changed))
    geb.train(arguments(run_dir=str(halves), resume=True, **changed))
    rows = [
        [{k: v for k, v in row.items() if k not in ("time", "sps")} for row in common.read_metrics(x / "metrics.jsonl")]
        for x in (whole, halves)
    ]
    assert len(rows[0]) == 4
    assert rows[0] == rows[1]
    summaries = [json.loads((x / "summary.json").read_text()) for x in (whole, halves)]
    assert summaries[0]["eval/episode_return"] == summaries[1]["eval/episode_return"]


def test_auxiliary_networks_learn_and_the_random_target_stays(tmp_path):
    args = arguments(arm="e3b_rnd", run_dir=str(tmp_path), total_timesteps=4096, aux_learning_rate=3e-3, quiet=True)
    geb.train(args)
    rows = common.read_metrics(tmp_path / "metrics.jsonl")
    for key in ("loss/inverse", "loss/rnd"):
        first, last = (np.mean([row[key] for row in part]) for part in (rows[:8], rows[-8:]))
        assert last < 0.9 * first
    state = common.read_checkpoint(tmp_path / "checkpoint.pt")["state/rnd"]
    run = common.start(arguments(run_dir=str(tmp_path / "again"), arm="e3b_rnd"), "global_episodic_bonus.py")
    envs = run.make_envs(4)
    agent = geb.Agent(envs, args)
    geb.InverseDynamics(agent.features.dim, envs.num_actions, args)
    fresh = geb.RND(agent.features.dim, args).state_dict()  # the same draws as at the start of the run
    assert all(torch.equal(state[key], fresh[key]) == key.startswith("target") for key in fresh if "weight" in key)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(autoreset_mode="NextStep"), "must be SameStep or Disabled"),
        (dict(num_minibatches=3), "num_minibatches must divide num_envs = 4, got 3"),
        (dict(num_minibatches=4, num_steps=1), "at least 2 steps"),
        (dict(ridge=0.0), "ridge must be positive, got 0.0"),
        (dict(coef=-1.0), "coef must be at least 0.0, got -1.0"),
        (dict(noveld_scale=1.5), r"noveld_scale must lie in \[0.0, 1.0\], got 1.5"),
    ],
)
def test_bad_arguments_are_named(changed, message):
    with pytest.raises(common.UsageError, match=message):
        arguments(**changed)


def test_feature_that_the_environment_does_not_report(tmp_path):
    with pytest.raises(common.UsageError, match=r"--feature message needs an environment that reports info\['message'\]"):
        geb.train(arguments(arm="global", feature="message", run_dir=str(tmp_path), quiet=True))


@pytest.mark.slow
def test_global_bonus_finds_the_corridor_with_the_reward(tmp_path):
    changed = dict(env="Explore/Corridors-v0", env_kwargs='{"length": 12, "position": true}', quiet=True)
    geb.train(geb.Args(run_dir=str(tmp_path), arm="global", coef=0.005, num_envs=64, total_timesteps=80_000, **changed))
    rows = common.read_metrics(tmp_path / "metrics.jsonl")
    assert np.mean([row["success"] for row in rows[-8:]]) > 0.8
