import copy
import json
import math

import pytest
import torch
from torch.nn import functional as F

from explore_gym.agents import byol_hindsight, common
from explore_gym.agents.byol_hindsight import Args


def test_reconstruction_error_of_unit_vectors():
    w = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8]])
    prediction = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.8, -0.6]])
    assert byol_hindsight.reconstruction_error(prediction, w).tolist() == pytest.approx([0, 4, 2], abs=1e-6)  # 2 - 2 cos


def test_invariance_keeps_the_past_and_varies_the_code():
    scores = torch.tensor([[[2.0, 0.0], [1.0, 3.0]]])  # row i: past i with codes 0 and 1
    first = math.log(math.exp(2) / ((math.exp(2) + 1) / 2))
    second = math.log(math.exp(3) / ((math.exp(1) + math.exp(3)) / 2))
    assert byol_hindsight.invariance(scores)[0].tolist() == pytest.approx([first, second])
    perfect = byol_hindsight.invariance(20 * torch.eye(8).unsqueeze(0))
    assert perfect[0].tolist() == pytest.approx([math.log(8)] * 8, abs=1e-6)  # the most that 8 codes can show
    assert byol_hindsight.invariance(torch.full((1, 5, 5), 3.0)).abs().max().item() == pytest.approx(0, abs=1e-6)


def test_invariance_of_one_transition_may_be_negative():
    scores = torch.tensor([[[-1.0, 1.0], [0.0, 0.0]]])
    expected = -1 - math.log((math.exp(-1) + math.exp(1)) / 2)
    assert byol_hindsight.invariance(scores)[0].tolist() == pytest.approx([expected, 0.0])


def test_critic_is_bounded_and_ignores_what_a_row_has_in_common():
    torch.manual_seed(0)
    critic = byol_hindsight.Critic(3, Args(code_dim=4))
    with torch.no_grad():
        critic.past[-1].weight.mul_(30)
    past, z = torch.randn(2, 6, 3), torch.rand(2, 6, 4) * 2 - 1
    scores = critic(past, z)
    assert scores.shape == (2, 6, 6)
    assert 4 < scores.abs().max() <= 5
    assert critic(past, z[:, :1].expand(2, 6, 4)).abs().max().item() == pytest.approx(0, abs=1e-4)


def descending_sgd(module, rate=0.1):
    return torch.optim.SGD(module.parameters(), lr=rate)


def test_critic_finds_a_code_that_copies_the_outcome():
    torch.manual_seed(0)
    args = Args(code_dim=8, max_grad_norm=10.0)
    critic = byol_hindsight.Critic(8, args)
    optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3)

    def draw():  # the outcome is a function of the past, the code its copy
        past = F.one_hot(torch.randint(8, (4, 64)), 8).float()
        return past, 2 * past.roll(1, -1) - 1

    for _ in range(200):
        past, z = draw()
        byol_hindsight.alternate(critic, optimizer, past, z, args)
    past, z = draw()
    scores = critic(past, z)
    matching = (z.unsqueeze(2) == z.unsqueeze(1)).all(-1)
    accuracy = matching.gather(2, scores.argmax(2, keepdim=True)).float().mean().item()
    assert accuracy > 0.95  # chance is 1 / 8
    assert byol_hindsight.invariance(scores).mean().item() == pytest.approx(math.log(8), abs=0.25)


def test_critic_ascends_on_detached_inputs_and_is_frozen_in_the_descent():
    torch.manual_seed(0)
    args = Args(code_dim=4)
    critic = byol_hindsight.Critic(4, args)
    before = copy.deepcopy(critic)
    codes = torch.nn.Parameter(torch.randn(1, 32, 4))
    past = codes.detach().roll(1, -1)
    bound = byol_hindsight.invariance(before(past, codes)).mean().item()
    inv = byol_hindsight.alternate(critic, descending_sgd(critic), past, codes, args).mean()
    assert codes.grad is None
    assert inv.item() > bound
    ascended = copy.deepcopy(critic.state_dict())
    byol_hindsight.descend(torch.optim.SGD([codes], lr=0.1), inv, 10.0)
    assert all(torch.equal(x, ascended[name]) for name, x in critic.state_dict().items())
    assert byol_hindsight.invariance(critic(past, codes)).mean() < inv


class KnownWorld:
    """Windows with given errors: of k steps from p, 10 k + p, in one lane of 4 steps whose episode ends with the second."""

    def __init__(self, horizon):
        self.horizon = horizon

    def outcome(self, x):
        return x

    def windows(self, beliefs, actions, outcomes, done):
        for k in range(1, self.horizon + 1):
            p = torch.arange(5 - k)
            inside = torch.tensor([i for i in p.tolist() if not done[i : i + k - 1].any()])
            yield 10.0 * k + p, None, None, inside


def test_rewards_are_summed_over_the_windows_that_end_with_a_step():
    b = {"rewards": torch.zeros(4, 1), "next_features": None, "beliefs": None, "one_hot": None}
    b["done"] = torch.tensor([[False], [True], [False], [False]])
    args = Args(arm="byol_explore", rec_coef=0.5, horizon=2)
    paid, codes = byol_hindsight.surprises(KnownWorld(2), None, b, args)
    # step t: (p, k) = (t, 1) and (t - 1, 2); the window (1, 2) would cross the end of the episode
    assert paid[:, 0].tolist() == [0.5 * x for x in (10 + 0, 11 + 20, 12, 13 + 22)]
    assert codes is None


def make_world(arm="hindsight", **kwargs):
    torch.manual_seed(0)
    args = Args(arm=arm, **kwargs)
    return byol_hindsight.WorldModel(3, 2, args), args


def play(num_steps=5, num_lanes=2):
    """Random features, one-hot actions and last actions of a rollout in which lane 0 starts anew at step 3."""
    x = torch.randn(num_steps, num_lanes, 3)
    actions = F.one_hot(torch.randint(2, (num_steps, num_lanes)), 2).float()
    starts = torch.zeros(num_steps, num_lanes, dtype=torch.bool)
    starts[3, 0] = True
    last_actions = torch.cat([torch.zeros(1, num_lanes, 2), actions[:-1]]) * ~starts.unsqueeze(2)
    return x, actions, last_actions, starts


@torch.no_grad()
def test_belief_forgets_at_a_start_and_only_there():
    world, args = make_world()
    x, _, last_actions, starts = play()
    belief = torch.randn(2, args.belief_dim)
    beliefs = world.believe(x, last_actions, belief, starts)
    fresh = world.believe(x[3:], last_actions[3:], torch.zeros(2, args.belief_dim), starts[3:] & False)
    assert torch.allclose(beliefs[3:, 0], fresh[:, 0], atol=1e-6)
    assert not torch.allclose(beliefs[3:, 1], fresh[:, 1], atol=1e-2)
    one_by_one = [belief]
    for t in range(5):
        start = one_by_one[-1] * ~starts[t].unsqueeze(1)
        one_by_one.append(world.believe(x[t : t + 1], last_actions[t : t + 1], start, starts[:1] & False)[0])
    assert torch.allclose(beliefs, torch.stack(one_by_one[1:]), atol=1e-6)


@torch.no_grad()
def test_open_loop_looks_ahead_by_actions_and_never_across_an_end():
    world, args = make_world("byol_explore", horizon=3)
    x, actions, last_actions, starts = play()
    done = starts.roll(-1, 0)  # lane 0 ends with step 2
    beliefs = world.believe(x, last_actions, torch.zeros(2, args.belief_dim), starts)
    outcomes = world.outcome(torch.randn(5, 2, 3))
    windows = list(world.windows(beliefs, actions, outcomes, done))
    assert [len(error) for error, *_ in windows] == [10, 8, 6]
    numbers = [[f"{i // 2}{'ab'[i % 2]}" for i in inside.tolist()] for *_, inside in windows]
    assert numbers[0] == ["0a", "0b", "1a", "1b", "2a", "2b", "3a", "3b", "4a", "4b"]
    assert numbers[1] == ["0a", "0b", "1a", "1b", "2b", "3a", "3b"]
    assert numbers[2] == ["0a", "0b", "1b", "2b"]
    state = beliefs[1, 1]  # three steps ahead from step 1 of lane 1, by hand
    for t in (1, 2, 3):
        state = world.open(actions[t, 1].unsqueeze(0), state.unsqueeze(0))[0]
    prediction, _ = world.predictor(state.unsqueeze(0), None, outcomes[3, 1].unsqueeze(0))
    error = byol_hindsight.reconstruction_error(prediction, outcomes[3, 1])
    assert windows[2][0][3].item() == pytest.approx(error.item(), abs=1e-5)


def test_target_follows_slowly_and_outcomes_have_length_one():
    world, _ = make_world()
    start = copy.deepcopy(world.target.state_dict())
    with torch.no_grad():
        for parameter in world.encoder.parameters():
            parameter.add_(1.0)
    world.track(0.75)
    assert all(torch.allclose(x, start[name] + 0.25) for name, x in world.target.state_dict().items())
    outcome = world.outcome(torch.randn(4, 3))
    assert outcome.norm(dim=1).tolist() == pytest.approx([1.0] * 4)
    assert not outcome.requires_grad
    assert len(world.learned()) == len(list(world.parameters())) - len(list(world.target.parameters()))


def test_code_is_bounded_and_random_and_byol_has_none():
    torch.manual_seed(0)
    state, past, w = torch.randn(6, 4), torch.randn(6, 5), F.normalize(torch.randn(6, 7), dim=1)
    predictor = byol_hindsight.Predictor(4, 5, 7, Args())
    (prediction, z), (_, other) = predictor(state, past, w), predictor(state, past, w)
    assert z.shape == (6, 32)
    assert z.abs().max() < 1
    assert not torch.allclose(z, other)  # the generator draws
    assert prediction.norm(dim=1).tolist() == pytest.approx([1.0] * 6)
    plain, none = byol_hindsight.Predictor(4, 5, 7, Args(arm="byol_explore"))(state, past, w)
    assert none is None
    assert plain.shape == (6, 7)


def test_normalizer_divides_by_the_standard_deviation_and_clips_at_the_mean():
    normalizer = byol_hindsight.RewardNormalizer(decay=0.5)
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0]])  # mean 3, mean square 12.5: variance 3.5
    assert normalizer(x).flatten().tolist() == pytest.approx([0, 0, 0, 3 / 3.5**0.5], abs=1e-5)
    # debiased weights 1/3 for the old moments, 2/3 for the new ones, whose mean is 0 and mean square 4
    y = torch.tensor([2.0, -2.0])
    variance = 12.5 / 3 + 4 * 2 / 3 - 1
    assert normalizer(y).tolist() == pytest.approx([1 / variance**0.5, 0], abs=1e-5)


def test_icm_learns_features_from_actions_alone():
    torch.manual_seed(0)
    icm = byol_hindsight.ICM(3, 2, Args(arm="icm"))
    x, next_x, actions = torch.randn(6, 3), torch.randn(6, 3), torch.eye(2)[[0, 1, 0, 1, 0, 0]]
    features, next_features = icm.encoder(x), icm.encoder(next_x)
    error = icm.error(features, next_features, actions)
    predicted = icm.forward_model(torch.cat([features, actions], 1))
    assert error.tolist() == pytest.approx((0.5 * (predicted - next_features) ** 2).sum(1).tolist(), rel=1e-5)
    assert torch.autograd.grad(error.sum(), list(icm.encoder.parameters()), allow_unused=True) == (None,) * 4
    logprobs = icm.inverse(torch.cat([features, next_features], 1)).log_softmax(1)
    expected = -0.8 * (logprobs * actions).sum(1).mean() + 0.2 * error.mean()
    assert icm.loss(x, next_x, actions).item() == pytest.approx(expected.item(), rel=1e-5)


def test_rnd_whitens_by_all_it_has_seen():
    torch.manual_seed(0)
    rnd = byol_hindsight.RND(2, 5, Args(arm="rnd"))
    x = torch.randn(600, 2) * torch.tensor([1.0, 20.0]) + torch.tensor([4.0, 0.0])
    for batch in x.split([100, 300, 200]):
        rnd.watch(batch)
    assert torch.allclose(rnd.mean, x.mean(0), atol=1e-3)
    assert torch.allclose(rnd.var, x.var(0, correction=0), rtol=1e-3)
    whitened = ((x - rnd.mean) / rnd.var.sqrt()).clamp(-5, 5)
    expected = (rnd.predictor(whitened) - rnd.target(whitened)).square().mean(1)
    assert torch.allclose(rnd.bonus(None, x, None), expected, atol=1e-4)
    far = torch.tensor([[1e6, 0.0], [2e6, 0.0]])
    assert rnd.bonus(None, far, None)[0].item() == pytest.approx(rnd.bonus(None, far, None)[1].item())  # clipped
    assert not any(p.requires_grad for p in rnd.target.parameters())


def test_groups_hold_every_window_and_have_one_size():
    torch.manual_seed(0)
    index = byol_hindsight.groups(torch.tensor([3, 5, 7, 11, 13]), 4)
    assert index.shape == (2, 4)
    assert set(index.flatten().tolist()) == {3, 5, 7, 11, 13}
    whole = byol_hindsight.groups(torch.arange(12), 4)
    assert sorted(whole.flatten().tolist()) == list(range(12))


STATES, ACTIONS = 4, 2


def toss(count):
    """A table with a coin: states and actions uniform, and of the two outcomes that f(x, a) allows the coin picks one."""
    x, a, coin = torch.randint(STATES, (count,)), torch.randint(ACTIONS, (count,)), torch.randint(2, (count,))
    past = torch.cat([F.one_hot(x, STATES), F.one_hot(a, ACTIONS)], 1).float()
    return past, F.one_hot((x * ACTIONS + a) ^ coin, STATES * ACTIONS).float()


def learn_table(arm, updates):
    """The predictor after these updates on the table, and the mean reconstruction error over the last 100."""
    torch.manual_seed(0)
    args = Args(arm=arm, critic_steps=2, rec_coef=1.0)
    predictor = byol_hindsight.Predictor(6, 6, 8, args)
    critic = byol_hindsight.Critic(6, args)
    optimizer = torch.optim.Adam(predictor.parameters(), lr=1e-3, fused=True)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3, fused=True)
    errors = []
    for _ in range(updates):
        past, w = toss(256)
        prediction, z = predictor(past, past, w)
        error = byol_hindsight.reconstruction_error(prediction, w).mean()
        loss = args.rec_coef * error
        if args.invariant:
            pair = past.unflatten(0, (2, 128)), z.unflatten(0, (2, 128))
            loss = loss + byol_hindsight.alternate(critic, critic_optimizer, *pair, args).mean().clamp(min=0)
        byol_hindsight.descend(optimizer, loss, args.max_grad_norm)
        errors.append(error.item())
    return predictor, sum(errors[-100:]) / 100


def information(predictor):
    """The bound on I(Z; X, A) that a fresh critic reaches against the predictor as it is."""
    args = Args()
    critic = byol_hindsight.Critic(6, args)
    optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3, fused=True)
    bounds = []
    for _ in range(400):
        past, w = toss(512)
        with torch.no_grad():
            _, z = predictor(past, past, w)
        scores = critic(past.unflatten(0, (4, 128)), z.unflatten(0, (4, 128)))
        bounds.append(byol_hindsight.invariance(scores).mean())
        byol_hindsight.descend(optimizer, -bounds[-1], 10.0)
    return sum(bounds[-50:]).item() / 50


@pytest.mark.slow
def test_hindsight_explains_the_coin_and_nothing_else():
    _, irreducible = learn_table("byol_explore", updates=1000)
    assert irreducible == pytest.approx(2 - 2**0.5, rel=0.02)  # the best guess lies between two orthogonal outcomes
    predictor, error = learn_table("hindsight", updates=3000)
    assert error < 0.05 * irreducible
    assert information(predictor) < 0.05
    leaky, _ = learn_table("hindsight_noinv", updates=1000)
    assert information(leaky) > 0.5  # without the critic z tells the past


SMALL = dict(num_envs=8, num_steps=16, total_timesteps=512, quiet=True, device="cpu", model_minibatches=2, num_negatives=8)
ARMS = ["ppo", "rnd", "icm", "byol_explore", "hindsight", "hindsight_rec", "hindsight_noinv"]


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_trains_and_reports(tmp_path, arm):
    env_kwargs = '{"noise": "on_demand", "max_steps": 50}'
    byol_hindsight.train(Args(arm=arm, env_kwargs=env_kwargs, run_dir=str(tmp_path), eval_episodes=8, **SMALL))
    rows = common.read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [128, 256, 384, 512]
    assert ("coverage" in rows[-1], "trackers" in rows[-1]) == (True, True)  # episodes end with step 50: the last rollout
    assert ("signal/ratio" in rows[-1]) == (arm != "ppo")
    assert ("loss/inv" in rows[-1]) == (arm in ("hindsight", "hindsight_rec"))
    assert ("loss/bonus" in rows[-1]) == (arm in ("rnd", "icm"))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["eval/episode_length"] == 50


def test_a_saved_policy_remembers_until_told_that_an_episode_starts(tmp_path):
    run = byol_hindsight.train(Args(arm="ppo", env_kwargs='{"max_steps": 50}', run_dir=str(tmp_path), **SMALL))
    envs = run.make_envs(4)
    agent = byol_hindsight.Agent(envs, run.args)
    agent.load_state_dict(common.read_checkpoint(tmp_path / "checkpoint.pt")["state/agent"])
    policy, obs = common.load_policy(tmp_path), envs.reset(seed=0)
    believed = []
    for t in range(3):
        torch.manual_seed(t)
        action = agent.act(obs)
        torch.manual_seed(t)
        assert policy(obs.numpy()).tolist() == action.tolist()
        believed.append(agent.acting[0].belief)
    assert not torch.allclose(believed[0], believed[1], atol=1e-4)
    agent.act(obs, torch.tensor([True, False, False, True]))
    same = (agent.acting[0].belief - believed[0]).abs().amax(1) < 1e-6
    assert same.tolist() == [True, False, False, True]  # as at the first call, where memory was empty
    agent.act(obs[:2])
    assert torch.allclose(agent.acting[0].belief, believed[0][:2], atol=1e-6)
