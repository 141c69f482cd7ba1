import inspect
import itertools
import json

import numpy as np
import pytest
import torch

from explore_gym.agents import common, ppo, subpo
from explore_gym.envs.coverage import references
from explore_gym.envs.coverage.grid_coverage import GridCoverage
from explore_gym.envs.coverage.references import best_walk, greedy_walk

GRID = "Explore/GridCoverage-v0"
SMALL = dict(shape=[4, 4], start=[0, 0], steps=5)
TINY = dict(shape=[3, 2], start=[1, 0], steps=2, reach=0, lengthscale=1.0)


def arguments(kwargs=SMALL, **changed):
    settings = dict(env=GRID, env_kwargs=json.dumps(kwargs), num_envs=8, num_groups=2, device="cpu", quiet=True)
    return subpo.Args(**{**settings, "total_timesteps": 120, **changed})


def make(kwargs=SMALL, num_envs=8, **changed):
    """Arguments, environments after a reset, and an agent."""
    torch.manual_seed(0)
    args = arguments(kwargs, num_envs=num_envs, **changed)
    envs = common.TorchVectorEnv(common.make_vec(args.env, num_envs, json.loads(args.env_kwargs), args.autoreset_mode))
    envs.reset(seed=0)
    return args, envs, subpo.Agent(envs, args)


# gains of two walks of three steps, F of the start being 10; beside them the same places' rewards if nothing was visited before
TRACE = {
    "rewards": torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]),
    "modular_rewards": torch.tensor([[2.0, 1.0], [2.0, 3.0], [2.0, 3.0]]),
    "F": torch.tensor([[12.0, 11.0], [12.0, 14.0], [13.0, 14.0]]),
}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (dict(arm="subpo-m", baseline=False), [[3, 4], [1, 3], [1, 0]]),  # what is still to come
        (dict(arm="subpo-nm", baseline=False), [[3, 4], [1, 3], [1, 0]]),
        (dict(arm="subpo-m"), [[-1, 1], [-2, 2], [1, -1]]),  # less that of the other walk
        (dict(arm="modpo", baseline=False), [[6, 7], [4, 6], [2, 3]]),
        (dict(arm="modpo"), [[-1, 1], [-2, 2], [-1, 1]]),
        (dict(arm="final", baseline=False), [[3, 4], [3, 4], [3, 4]]),
        (dict(arm="final"), [[-1, 1], [-1, 1], [-1, 1]]),
        (dict(arm="subpo-m", release_weighting=True), [[12, 11], [12, 14], [13, 14]]),  # what there is so far
    ],
)
def test_weights_of_a_trace_worked_by_hand(flags, expected):
    weights = subpo.action_weights(TRACE, arguments(**flags))
    assert weights.tolist() == expected


def test_the_baseline_is_the_mean_of_the_other_walks():
    b = {"rewards": torch.tensor([[1.0, 2.0, 6.0, 7.0]])}
    weights = subpo.action_weights(b, arguments())
    assert weights[0] == pytest.approx([1 - 15 / 3, 2 - 14 / 3, 6 - 10 / 3, 7 - 9 / 3])


@pytest.mark.parametrize("slip", [0.0, 0.5])
def test_gains_to_come_are_f_of_the_walk_less_f_of_its_beginning(slip):
    args, envs, agent = make({**SMALL, "slip": slip}, baseline=False)
    start = envs.worlds.get_state()["F"][0]
    b, _ = subpo.rollout(agent, agent.act, envs, subpo.make_buffer(envs, 5))
    before = torch.cat([torch.full((1, 8), float(start)), b["F"][:-1]])
    assert torch.allclose(subpo.action_weights(b, args), b["F"][-1] - before, atol=1e-5)
    assert len(b["F"][-1].unique()) > 1 and start > 0
    assert b["done"].tolist() == [[False] * 8] * 4 + [[True] * 8]


def all_walks(arm, **flags):
    """Everything that can happen in a tiny world, one walk in each lane, with random logits: args, agent, b."""
    args, envs, agent = make({**TINY, "observation": "position"}, num_envs=25, num_groups=5, arm=arm, policy="table", **flags)
    agent.actor.logits.data.normal_()
    actions = iter(torch.tensor(list(itertools.product(range(5), repeat=2))).T)
    b, _ = subpo.rollout(agent, lambda obs, noise: next(actions), envs, subpo.make_buffer(envs, 2))
    b["obs"] = b["obs"][:-1]
    return args, agent, b


def logprobs_of(agent, b):
    """Of whole walks, (num_walks,)."""
    logits = agent(b["obs"].flatten(0, 1))[0].log_softmax(-1).unflatten(0, b["actions"].shape)
    return logits.gather(-1, b["actions"].unsqueeze(-1)).sum((0, 2))


def exact_gradient(agent, b, values):
    """Of the sum over walks of probability * value."""
    return torch.autograd.grad((logprobs_of(agent, b).exp() * values).sum(), agent.actor.logits)[0].flatten()


def expected_estimate(args, agent, b):
    """Of the gradient that two walks give, drawn independently of each other."""
    probabilities = logprobs_of(agent, b).exp().detach()
    total = 0.0
    for pair in itertools.product(range(25), repeat=2):
        two = {key: b[key][:, list(pair)] for key in ("obs", "actions", "rewards", "modular_rewards", "F")}
        two["weights"] = subpo.action_weights(two, args)
        total = total - probabilities[list(pair)].prod() * subpo.walk_gradient(agent, two)[0]
    return total


@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize(("arm", "rewards"), [("subpo-m", "rewards"), ("final", "rewards"), ("modpo", "modular_rewards")])
def test_the_estimate_has_no_bias(arm, rewards, baseline):
    args, agent, b = all_walks(arm, baseline=baseline)
    exact = exact_gradient(agent, b, b[rewards].sum(0))
    assert exact.norm() > 0.05
    assert torch.allclose(expected_estimate(args, agent, b), exact, atol=1e-5)


def test_the_released_weighting_is_no_gradient_of_f():
    args, agent, b = all_walks("subpo-m", release_weighting=True)
    exact = exact_gradient(agent, b, b["rewards"].sum(0))
    estimate = expected_estimate(args, agent, b)
    assert (estimate - exact).norm() > 0.3 * exact.norm()


class Recorder:
    def step(self, grad):
        self.grad = grad


def test_groups_of_walks_make_up_the_gradient_and_tell_its_noise():
    args, envs, agent = make(num_envs=8, num_groups=4)
    b, _ = subpo.rollout(agent, agent.act, envs, subpo.make_buffer(envs, 5))
    optimizer = Recorder()
    metrics = subpo.climb(lambda m: subpo.walk_gradient(agent, m), optimizer, b, args)
    m = {"obs": b["obs"][:-1], "actions": b["actions"], "weights": subpo.action_weights(b, args)}
    whole = subpo.walk_gradient(agent, m)[0]
    assert torch.allclose(optimizer.grad, whole, atol=1e-5)
    grads = torch.stack([subpo.walk_gradient(agent, {k: x[:, i : i + 2] for k, x in m.items()})[0] for i in (0, 2, 4, 6)])
    assert metrics["gradient/norm"] == pytest.approx(float(whole.norm()), rel=1e-4)
    assert metrics["gradient/std"] == pytest.approx(float(grads.norm(dim=1).std()), rel=1e-4)
    assert metrics["gradient/noise"] == pytest.approx(float(grads.var(0).sum().sqrt()), rel=1e-4)
    assert metrics["entropy"] == pytest.approx(np.log(5), abs=0.01)  # nearly uniform at first


def test_a_table_has_a_row_for_each_time_and_cell():
    _, envs, agent = make(dict(shape=[3, 4], start=[2, 1], steps=5), policy="table")
    logits = agent.actor.logits.data
    logits.copy_(torch.arange(float(logits.numel())).view_as(logits))
    assert logits.shape == (5 * 12, 5)
    assert (agent(envs.obs)[0] == logits[9]).all()  # cell 2 * 4 + 1, time 0
    envs.step(torch.full((8,), 1))
    assert (agent(envs.obs)[0] == logits[12 + 10]).all()
    envs.step(torch.full((8,), 4))
    assert (agent(envs.obs)[0] == logits[24 + 6]).all()


def test_who_sees_the_visits():
    for arm, sees in (("subpo-m", False), ("modpo", False), ("final", False), ("subpo-nm", True), ("ppo", True)):
        _, envs, agent = make(arm=arm)
        changed = envs.obs.clone()
        changed[:, 3 + 7] = 1.0  # cell 7 visited
        assert (agent(changed)[0] != agent(envs.obs)[0]).any() == sees


def test_planned_walks_are_played(tmp_path):
    kwargs = dict(**SMALL, lengthscale=1.0, layout_seed=2)
    env = GridCoverage(**kwargs)
    env.reset(seed=0)
    values = {"greedy": greedy_walk(env)[0], "optimum": best_walk(env)[0]}
    assert values["optimum"] > values["greedy"]
    for arm, value in values.items():
        run = subpo.train(arguments(kwargs, arm=arm, run_dir=str(tmp_path / arm)))
        assert run.last["episode_return"] == pytest.approx(value, rel=1e-5)
        assert run.last["of_greedy"] == pytest.approx(value / values["greedy"], rel=1e-5)


def test_random_actions_are_uniform():
    _, envs, agent = make(arm="random")
    drawn = torch.bincount(torch.cat([agent.act(envs.obs) for _ in range(500)]), minlength=5) / 4000
    assert drawn.tolist() == pytest.approx([0.2] * 5, abs=4 * np.sqrt(0.16 / 4000))


def test_what_is_ppo_s_is_the_same_to_the_letter():
    for name in ("layer", "gumbel", "gae", "ppo_loss", "gradient", "learn", "update"):
        assert inspect.getsource(getattr(subpo, name)) == inspect.getsource(getattr(ppo, name))


def test_values_of_states_reached_come_from_before_the_reset():
    _, envs, agent = make(arm="ppo", num_steps=7)  # an episode has 5
    b, final_obs = subpo.rollout(agent, agent.act, envs, subpo.make_buffer(envs, 7))
    obs = b["obs"]
    subpo.evaluate(agent, b, final_obs)
    assert len(final_obs) == 8 and (final_obs[:, 2] == 1.0).all()
    assert torch.allclose(b["values"], agent(obs[:-1].flatten(0, 1))[1].view(7, 8), atol=1e-6)
    assert torch.allclose(b["next_values"][4], agent(final_obs)[1], atol=1e-6)
    assert torch.allclose(b["next_values"][[0, 5]], b["values"][[1, 6]])
    logits = agent(obs[3])[0].log_softmax(-1)
    assert torch.allclose(b["logprobs"][3], logits[torch.arange(8), b["actions"][3]], atol=1e-6)


def test_the_plateau_is_reached_where_the_return_first_comes_close_to_the_last_ones():
    assert subpo.epochs_to_plateau([1.0, 5.0, 9.4, 9.5, 8.0, 9.0, 10.0, 11.0, 10.0, 10.0]) == 4  # 0.95 * 10
    assert subpo.epochs_to_plateau([10.0] * 10 + [20.0] * 8 + [21.0, 19.0]) == 11  # the last tenth: 20


@pytest.mark.parametrize(("policy", "learning_rate"), [("mlp", 2e-2), ("table", 0.2)])
def test_learns_to_cover_two_new_cells_in_every_step(tmp_path, policy, learning_rate):
    kwargs = dict(density="constant", shape=[10, 10], steps=14, observation="position")
    settings = dict(policy=policy, learning_rate=learning_rate, num_envs=500, num_groups=10, total_timesteps=40 * 500 * 14)
    run = subpo.train(arguments(kwargs, run_dir=str(tmp_path), **settings))
    assert run.last["F"] >= 0.95 * (4 + 2 * 14)
    first = common.read_metrics(run.metrics_file)[0]
    assert first["F"] < 0.7 * 32 and first["episode_length"] == 14


def rows(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in ("time", "sps")} for line in lines]


@pytest.mark.parametrize(
    "flags",
    [
        dict(arm="subpo-m"),
        dict(arm="modpo", policy="table"),
        dict(arm="subpo-nm", release_weighting=True, env_kwargs=json.dumps({**SMALL, "slip": 0.3, "observation": "history"})),
        dict(arm="ppo", num_steps=5, num_minibatches=2),
        dict(arm="greedy"),
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_numbers(tmp_path, monkeypatch, flags):
    settings = dict(checkpoint_interval=1e-9, **flags)
    subpo.train(arguments(run_dir=str(tmp_path / "whole"), **settings))
    original, calls = subpo.rollout, []

    def cut_off(*args):
        calls.append(0)
        return original(*args) if len(calls) < 3 else 1 / 0

    with monkeypatch.context() as patch:
        patch.setattr(subpo, "rollout", cut_off)
        with pytest.raises(ZeroDivisionError):
            subpo.train(arguments(run_dir=str(tmp_path / "cut"), **settings))
    subpo.train(arguments(run_dir=str(tmp_path / "cut"), resume=True, **settings))
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    assert len(rows(tmp_path / "whole")) == 3


@pytest.mark.parametrize(
    "flags", [dict(arm="subpo-m", policy="table"), dict(arm="subpo-nm"), dict(arm="greedy"), dict(arm="ppo")]
)
def test_a_trained_policy_plays_elsewhere(tmp_path, flags):
    args = arguments(run_dir=str(tmp_path), **flags)
    run = subpo.train(args)
    policy = common.load_policy(tmp_path)
    env = GridCoverage(**SMALL)
    obs, _ = env.reset(seed=0)
    total, terminated = 0.0, False
    while not terminated:
        (action,) = policy(obs[None], starts=np.array([False]), rewards=np.zeros(1, np.float32))
        obs, reward, terminated, _, _ = env.step(action)
        total += reward
    assert total > 0
    if args.arm == "greedy":
        assert total == pytest.approx(run.last["episode_return"], rel=1e-5)


def test_ppo_and_random_take_any_environment(tmp_path):
    for arm in ("ppo", "random"):
        settings = dict(arm=arm, env="CartPole-v1", env_kwargs="{}", num_steps=16, gamma=0.99, total_timesteps=500)
        run = subpo.train(arguments(run_dir=str(tmp_path / arm), **settings))
        assert run.last["episode_return"] > 5
        assert "of_greedy" not in run.last


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            dict(arm="final", release_weighting=True),
            "release_weighting is an ablation of subpo-m and subpo-nm, got arm 'final'",
        ),
        (dict(arm="subpo-nm", policy="table"), "a table has room for place and time alone.* got arm 'subpo-nm'"),
        (dict(num_groups=3), "num_groups must divide num_envs = 8, got 3"),
        (dict(num_groups=1), "num_groups must be at least 2, got 1"),
        (dict(hidden=()), r"hidden must be one or more widths of at least 1, got \(\)"),
        (dict(hidden=(8, 0)), r"got \(8, 0\)"),
        (dict(arm="ppo", num_steps=5, num_minibatches=3), "num_minibatches must divide num_envs \\* num_steps = 40.* got 3"),
        (dict(gamma=1.5), r"gamma must lie in \[0.0, 1.0\], got 1.5"),
        (dict(autoreset_mode="NextStep"), "autoreset_mode must be SameStep or Disabled"),
    ],
)
def test_bad_arguments_are_named(flags, message):
    with pytest.raises(common.UsageError, match=message):
        arguments(**flags)


@pytest.mark.parametrize(
    ("flags", "kwargs", "message"),
    [
        (dict(env="Explore/PointCoverage-v0"), {}, "arm subpo-m needs walks .* got Explore/PointCoverage-v0, on which ppo"),
        (dict(env="CartPole-v1", arm="greedy"), {}, "arm greedy needs walks .* got CartPole-v1"),
        (dict(), {"reward": "modular"}, "neither reward='modular' nor max_episode_steps, got {'reward': 'modular'}"),
        (dict(arm="modpo"), {"max_episode_steps": 3}, "got {'max_episode_steps': 3}"),
        (dict(arm="subpo-nm"), {"observation": "position"}, "must be 'map' or 'history', got 'position'"),
        (dict(arm="greedy"), {"slip": 0.1}, "arm greedy needs one layout and moves that don't slip, got {'slip': 0.1}"),
        (dict(arm="optimum"), {"num_contexts": 2}, "got {'num_contexts': 2}"),
        (dict(arm="optimum"), {"shape": [20, 20]}, "arm optimum can't plan on .*: best_walk needs more than"),
        (dict(), {"density": "uniform"}, "cannot make 'Explore/GridCoverage-v0'.*density must be one of"),
    ],
)
def test_an_environment_that_cannot_be_used_is_named(tmp_path, monkeypatch, flags, kwargs, message):
    monkeypatch.setattr(references, "MAX_STATES", 1000)
    with pytest.raises(common.UsageError, match=message):
        subpo.train(arguments(kwargs, run_dir=str(tmp_path), **flags))
