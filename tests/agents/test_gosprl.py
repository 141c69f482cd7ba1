import json
import math
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

from explore_gym.agents import common, gosprl
from explore_gym.agents.gosprl import ARMS, Collection, collect
from explore_gym.envs.tabular import solvers
from explore_gym.envs.tabular.corridor import Corridor
from explore_gym.envs.tabular.river_swim import RiverSwim

RIVER = RiverSwim(size=6, max_steps=None).P
SHORT_RIVER = RiverSwim(size=3, max_steps=None).P
CYCLE = np.array([[[0.0, 1.0]], [[1.0, 0.0]]])


def never(state, action):
    raise AssertionError("nothing is to be sampled")


def test_the_interval_is_an_empirical_bernstein_box():
    collection = Collection(np.ones((2, 1), int), sampler=never, alpha_p=0.2, delta=0.05)
    m = collection.memory
    assert (m.low[0, 0].tolist(), m.room[0, 0].tolist(), m.slack[0, 0]) == ([0.0, 0.0], [1.0, 1.0], 1.0)  # anything
    m.counts[0, 0], m.transitions[0, 0] = 40, (34, 6)
    gosprl.set_interval(m, collection.settings, 0, 0)
    log_term = math.log(6 * 2 * 1 * 40 / 0.05)
    half = 0.2 * (math.sqrt(2 * 0.85 * 0.15 * log_term / 40) + 7 * log_term / (3 * 40))
    assert 0.15 < half < 0.2  # so that it is cut off at 0 and at 1
    assert m.low[0, 0] == pytest.approx([0.85 - half, 0.0])
    assert m.room[0, 0] == pytest.approx([0.15 + half, 0.15 + half])
    assert m.slack[0, 0] == pytest.approx(0.15 + half)
    m.counts[1, 0], m.transitions[1, 0] = 400, (200, 200)
    gosprl.set_interval(m, collection.settings, 1, 0)
    assert m.room[1, 0, 1] == pytest.approx(2 * (0.5 - m.low[1, 0, 1]))


def test_the_planners_put_free_mass_on_extreme_values_first():
    m = Collection(np.ones((3, 1), int), sampler=never).memory
    m.low[0, 0], m.room[0, 0], m.slack[0, 0] = (0.2, 0.3, 0.0), (0.5, 0.1, 0.6), 0.5
    m.values[:] = 3.0, 1.0, 2.0
    gosprl.sort_states(m.values, m.order)
    assert m.order.tolist() == [1, 2, 0]
    assert gosprl.expected_value(m, 0, 0, True) == pytest.approx(0.9 + 0.1 * 1 + 0.4 * 2)
    assert gosprl.expected_value(m, 0, 0, False) == pytest.approx(0.9 + 0.5 * 3)


def test_with_the_true_model_planning_finds_the_shortest_path():
    required = np.zeros((6, 2), int)
    required[4, 0] = 1
    collection = Collection(required, RIVER, arm="oracle", tolerance=1e-9)
    gosprl.plan(collection.memory, collection.settings)
    values, policy = solvers.shortest_path(RIVER, [4])
    assert collection.memory.values == pytest.approx(values, abs=1e-6)
    others = np.arange(6) != 4
    assert (collection.memory.policy == policy)[others].all()


def test_an_untried_action_may_lead_anywhere():
    required = np.zeros((6, 2), int)
    required[4, 0] = 1
    collection = Collection(required, RIVER)
    gosprl.plan(collection.memory, collection.settings)
    assert collection.memory.values.tolist() == [1, 1, 1, 1, 0, 1]


def test_former_goals_and_unreachable_ones_get_values_again():
    required = np.zeros((3, 1), int)
    required[2, 0] = 1
    collection = Collection(required, np.eye(3)[:, None], arm="oracle")  # nobody ever moves
    gosprl.plan(collection.memory, collection.settings)
    assert collection.memory.values.tolist() == [gosprl.MAX_VALUE, gosprl.MAX_VALUE, 0.0]


def test_with_the_true_model_average_reward_planning_finds_the_best_gain():
    env = RiverSwim(size=6, max_steps=None)
    collection = Collection(np.ones((6, 2), int), env.P, arm="oracle", tolerance=1e-9)
    collection.memory.rewards[:] = env.R
    gosprl.plan_average_reward(collection.memory, collection.settings)
    gain, _, policy = solvers.average_reward(env.P, env.R)
    assert gain > 0.2 and policy.tolist() == [1] * 6
    assert collection.memory.policy.tolist() == [1] * 6
    collection.memory.rewards[:] = [[1.0, 0.0]] + [[0.0, 0.0]] * 5  # rewards that are nearer
    gosprl.plan_average_reward(collection.memory, collection.settings)
    assert collection.memory.policy.tolist() == [0] * 6


def test_rmax_walks_to_what_it_does_not_know():
    collection = Collection(np.full((3, 2), 2), SHORT_RIVER, arm="rmax", rmax_gamma=0.5, tolerance=1e-9)
    m = collection.memory
    m.counts[:2], m.transitions[:2] = 10, np.rint(10 * SHORT_RIVER[:2])  # state 2 alone is unknown
    m.missing[:2] = 0
    for s in range(2):
        for a in range(2):
            gosprl.set_interval(m, collection.settings, s, a)
    gosprl.plan(m, collection.settings)
    p = m.transitions[:, 1] / 10  # what right does, as far as is known
    one = np.linalg.solve(np.eye(2) - 0.5 * p[:2, :2], 0.5 * p[:2, 2])  # known states are worth a discounted way to 1
    assert m.values == pytest.approx([*one, 1.0], abs=1e-6)
    assert m.policy[:2].tolist() == [1, 1]


def test_entropy_s_gradient_rewards_what_is_rare():
    collection = Collection(np.ones((2, 1), int), CYCLE, arm="maxent")
    m = collection.memory
    m.counts[:, 0], m.clock[gosprl.STEPS] = (99, 9), 997
    gosprl.plan(m, collection.settings)  # 997 + 2 pairs + 1 = 1000 = 10^3
    assert m.rewards[:, 0] == pytest.approx([1 - 2 / 3, 1 - 1 / 3])


def test_where_samples_are_missing_any_such_action_is_as_likely():
    required = np.array([[0, 3, 1, 2], [0, 0, 0, 0]])
    collection = Collection(required, sampler=never)
    drawn = np.bincount([gosprl.choose(collection.memory, collection.settings) for _ in range(3000)], minlength=4)
    assert drawn[0] == 0
    assert drawn[1:] / 3000 == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / 3000))


def test_an_attempt_ends_when_visits_double_or_a_goal_is_reached():
    required = np.zeros((3, 1), int)
    required[2, 0] = 1
    collection = Collection(required, sampler=never)
    m, c = collection.memory, collection.settings
    m.counts[0, 0], m.transitions[0, 0] = 3, (3, 0, 0)
    gosprl.plan(m, c)
    stale = []
    for _ in range(3):
        gosprl.observe(m, c, 0, 0, 0)
        stale.append(bool(m.clock[gosprl.STALE]))
    assert stale == [False, False, True]  # 3 visits before the attempt, 3 within it
    gosprl.plan(m, c)
    gosprl.observe(m, c, 0, 0, 2)
    assert m.clock[gosprl.STALE]
    assert not collection.finished
    gosprl.observe(m, c, 2, 0, 1)
    assert collection.finished


@pytest.mark.parametrize("fresh", [False, True])
def test_a_met_requirement_ends_an_episode_of_ucrl_with_fresh_rewards_only(fresh):
    collection = Collection(np.full((2, 1), 10), CYCLE, arm="01-ucrl", fresh_rewards=fresh)
    m, c = collection.memory, collection.settings
    m.counts[0, 0], m.transitions[0, 0] = 9, (0, 9)
    gosprl.plan(m, c)
    assert m.rewards.tolist() == [[1.0], [1.0]]
    gosprl.observe(m, c, 0, 0, 1)
    assert bool(m.clock[gosprl.STALE]) == fresh
    gosprl.plan(m, c)
    assert m.rewards.tolist() == [[0.0], [1.0]]


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_collects_what_is_required_and_counts_right(arm):
    required = np.array([[3, 0], [0, 7], [2, 5]])
    collection = Collection(required, SHORT_RIVER, arm=arm, seed=3)
    assert collection.satisfied == 0.0
    collection.advance(100_000)
    m = collection.memory
    assert collection.finished and collection.satisfied == 1.0
    assert (m.counts >= required).all()
    assert m.counts.sum() == collection.steps
    assert (m.transitions.sum(-1) == m.counts).all()
    assert (m.transitions[SHORT_RIVER == 0] == 0).all()
    assert np.abs(m.transitions.sum((0, 1)) - m.counts.sum(1)).sum() <= 2  # what flows in flows out, but for first and last
    again = Collection(required, SHORT_RIVER, arm=arm, seed=3)
    for until in range(7, 100_000, 7):  # in pieces
        again.advance(until)
        if again.finished:
            break
    assert (again.memory.transitions == m.transitions).all()


def test_transitions_are_drawn_from_the_model():
    collection = Collection(np.full((6, 2), 400), RIVER, seed=1)
    collection.advance(1_000_000)
    n = collection.memory.counts[..., None]
    assert (np.abs(collection.empirical_model() - RIVER) <= 4.5 * np.sqrt(RIVER * (1 - RIVER) / n)).all()


def median_steps(arm, P, samples, num_seeds=10, **kwargs):
    steps = []
    for seed in range(num_seeds):
        collection = Collection(np.full(P.shape[:2], samples), P, arm=arm, seed=seed, **kwargs)
        collection.advance(200_000)
        steps.append(collection.steps)
    return np.median(steps), max(steps)


def test_gosprl_collects_fast_in_the_river_and_never_stalls():
    median, longest = median_steps("gosprl", RIVER, 10)
    assert 120 <= median < 300 and longest < 3 * median
    assert median <= 0.9 * median_steps("01-ucrl", RIVER, 10)[0]
    assert median <= 0.05 * median_steps("random", RIVER, 10)[0]
    assert median <= 1.3 * median_steps("oracle", RIVER, 10)[0]
    # with intervals as wide as theory asks for, everything seems to lead to the goal for long
    assert median_steps("gosprl", RIVER, 10, alpha_p=1.0)[0] > 2 * median


def test_gosprl_walks_a_corridor_that_random_actions_never_do():
    P = Corridor(size=12).P
    assert median_steps("gosprl", P, 10, num_seeds=3)[1] < 2500
    assert median_steps("random", P, 10, num_seeds=1)[0] == 200_000


def test_modest_asks_for_samples_by_the_variance_seen():
    m = Collection(np.ones((2, 1), int), sampler=never, accuracy=0.5).memory
    m.counts[0, 0], m.transitions[0, 0] = 4, (3, 1)
    # (2 sqrt(3/16))^2 = 0.75; 0.75 / 0.25 + 1 / 0.5
    assert gosprl.modest_requirement(m, 0, 0, 0.5) == 5
    assert gosprl.modest_requirement(m, 1, 0, 0.5) == 2  # nothing seen yet


def test_modest_ends_at_the_accuracy_asked_for():
    collection = Collection(np.ones((3, 2), int), SHORT_RIVER, accuracy=0.2, seed=1)
    collection.advance(100_000)
    errors = np.abs(collection.empirical_model() - SHORT_RIVER).sum(-1)
    assert collection.finished and collection.satisfied == 1.0
    assert errors.max() <= 0.2
    np.testing.assert_allclose(collection.memory.errors, errors)
    # without a true model, when its own requirements for that accuracy are met; deterministic pairs need the fewest samples
    sample = sampler_of(SHORT_RIVER)
    collection = collect(np.ones((3, 2), int), sample, accuracy=0.2)
    assert collection.finished and collection.memory.level[0] == 0.2
    assert (collection.memory.counts >= collection.memory.required).all()
    assert collection.memory.required[:, 0].tolist() == [5, 5, 5]
    assert collection.memory.required[:, 1].min() > 20


def sampler_of(P):
    rng = np.random.default_rng(0)
    return lambda s, a: rng.choice(len(P), p=P[s, a])


def test_any_sampler_will_do():
    collection = collect(np.full((6, 2), 10), sampler_of(RIVER), seed=2)
    assert collection.finished and collection.steps < 600
    short = collect(np.full((6, 2), 10), sampler_of(RIVER), max_steps=50)
    assert (short.finished, short.steps, short.memory.counts.sum()) == (False, 50, 50)
    assert 0 < short.satisfied < 1
    nothing = collect(np.zeros((6, 2), int), never)
    assert (nothing.finished, nothing.steps) == (True, 0)


def test_an_environment_is_a_sampler_whose_ends_lead_back_to_the_start():
    sampler = gosprl.EnvSampler(gym.make("FrozenLake-v1", is_slippery=False, max_episode_steps=-1), seed=0)
    assert (sampler.shape, sampler.start) == ((16, 4), 0)
    assert [sampler(0, 2), sampler(1, 1)] == [1, 0]  # right, then down into the hole at 5
    required = np.zeros((16, 4), int)
    required[14] = 1  # beside the goal
    collection = collect(required, sampler)
    assert collection.finished
    assert collection.memory.transitions[14, 2, 0] >= 1  # the goal is an end as well
    with pytest.raises(common.UsageError, match=r"needs a Discrete observation space, got Box"):
        gosprl.EnvSampler(gym.make("CartPole-v1"), seed=0)


def test_the_exact_model_of_an_episodic_task_leads_from_its_end_to_its_start():
    P = gosprl.exact_model(gym.make("Explore/DeepSea-v0", size=3).unwrapped, seed=0)
    assert P.shape == (6, 2, 6)
    np.testing.assert_allclose(P.sum(-1), 1.0)
    assert (P[:, :, 0].sum(1) == 2).sum() == 3  # from each cell of the last row


def test_the_goal_free_test_measures_the_detour():
    P = np.array([[[0.5, 0.5], [0.75, 0.25]], [[0.5, 0.5], [0.25, 0.75]]])  # to the other state in 2 steps, or in 4
    collection = Collection(np.ones((2, 2), int), P)
    collection.memory.counts[:], collection.memory.transitions[:] = 4, 4 * P
    assert gosprl.goal_free_suboptimality(collection, np.random.default_rng(0)) == pytest.approx(0.0)
    collection.memory.transitions[:] = 4 * P[:, ::-1]  # learnt the wrong way round
    assert gosprl.goal_free_suboptimality(collection, np.random.default_rng(0)) == pytest.approx(1.0)
    stuck = Collection(np.ones((2, 2), int), np.array([[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]]))
    stuck.memory.counts[:], stuck.memory.transitions[:] = 1, stuck.memory.P[:, ::-1]
    assert gosprl.goal_free_suboptimality(stuck, np.random.default_rng(0)) == gosprl.NEVER_ARRIVES


def test_scaling_fits():
    steps = {f"RiverSwim/treasure-{c}": 7 * c + 50 for c in (5, 10, 20, 40)}
    steps |= {f"Corridor-{n}/treasure-10": 3 * n**2 for n in (12, 24, 48)}
    collections = {name: SimpleNamespace(steps=value) for name, value in steps.items()}
    metrics = gosprl.scaling_metrics(collections, seed=0)
    assert metrics["linearity/r2"] == pytest.approx(1.0)
    assert metrics["corridor/exponent"] == pytest.approx(1.0)  # of n B, which grows like n^2


def args(folder, **kwargs):
    return gosprl.Args(**{**dict(run_dir=str(folder), quiet=True, total_timesteps=3000, device="cpu"), **kwargs})


def rows(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in ("time", "sps")} for line in lines]


def test_a_run_logs_shares_on_the_way_and_steps_at_its_end(tmp_path):
    gosprl.train(args(tmp_path, tasks=("treasure-10", "random", "modest-0.5")))
    logged = rows(tmp_path)
    assert logged[-1]["step"] == 3000
    assert logged[0]["RiverSwim/treasure-10/satisfied"] < logged[-1]["RiverSwim/treasure-10/satisfied"] == 1.0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert 120 <= summary["RiverSwim/treasure-10/steps"] < 400
    assert 400 < summary["RiverSwim/random/steps"] < 3000
    assert 0 < summary["RiverSwim/modest-0.5/steps"] < 1000


@pytest.mark.parametrize("env", ["Explore/RiverSwim-v0", "FrozenLake-v1"])  # an exact model, and a sampler
def test_an_interrupted_run_goes_on_to_the_same_numbers(tmp_path, monkeypatch, env):
    settings = dict(env=env, tasks=("treasure-10", "random"), checkpoint_interval=1e-9)
    gosprl.train(args(tmp_path / "whole", **settings))
    original = gosprl.is_logged
    with monkeypatch.context() as patch:
        patch.setattr(gosprl, "is_logged", lambda step, interval: original(step, interval) if step < 200 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            gosprl.train(args(tmp_path / "cut", **settings))
    gosprl.train(args(tmp_path / "cut", resume=True, **settings))
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_arms_share_requirements_and_seeds_do_not():
    def required(seed, arm):
        settings = gosprl.Args(tasks=("random",), arm=arm)
        return gosprl.make_collections(settings, seed)["RiverSwim/random"].memory.required

    assert (required(1, "gosprl") == required(1, "random")).all()
    assert (required(1, "gosprl") != required(2, "gosprl")).any()
    assert required(1, "gosprl").min() >= 0 and required(1, "gosprl").max() <= 100


def test_the_suites_are_runnable():
    for suite in gosprl.SUITES:
        collections = gosprl.make_collections(gosprl.Args(suite=suite, seed=4), env_seed=4)
        assert all(name.count("/") == 1 for name in collections)
    first, other = (
        gosprl.make_collections(gosprl.Args(suite="scaling", seed=seed), 0)["Garnet/treasure-50"].memory.P for seed in (1, 2)
    )
    assert (first != other).any()  # every run has a Garnet of its own


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(tasks=("treasure",)), "a task must be treasure-<samples>, random or modest-<l1 error>, got 'treasure'"),
        (dict(tasks=("treasure-1.5",)), "got 'treasure-1.5'"),
        (dict(tasks=("modest-3",)), "got 'modest-3'"),
        (dict(alpha_p=0.0), "alpha_p must be positive, got 0.0"),
        (dict(delta=1.0), r"delta must lie in \(0, 1\), got 1.0"),
        (dict(num_envs=2), "num_envs must be 1, one continuing interaction, got 2"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(common.UsageError, match=message):
        gosprl.Args(**kwargs)


def test_an_environment_that_cannot_be_used_is_named(tmp_path):
    for env, message in (("Explore/Nowhere-v0", "Nowhere"), ("CartPole-v1", "Discrete observation space")):
        with pytest.raises(common.UsageError, match=message):
            gosprl.train(args(tmp_path / env, env=env))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(required=np.ones(3, int), sampler=never), r"integers >= 0 of shape \(S, A\), got int64 \(3,\)"),
        (dict(required=-np.ones((3, 2), int), sampler=never), "integers >= 0"),
        (dict(required=np.ones((3, 2), int)), "either a model or a sampler, got model=None"),
        (dict(required=np.ones((3, 2), int), sampler=never, arm="oracle"), "the last with a model only, got 'oracle'"),
        (dict(required=np.ones((3, 2), int), sampler=never, arm="ucb"), "arm must be one of gosprl, .* got 'ucb'"),
        (dict(required=np.ones((3, 2), int), sampler=never, start=3), r"start must be a state in \[0, 3\), got 3"),
        (dict(required=np.ones((3, 1), int), model=SHORT_RIVER), r"model must have shape \(3, 1, 3\).*got \(3, 2, 3\)"),
        (dict(required=np.ones((3, 2), int), sampler=never, delta=0.0), r"expected, got 0\.1, 0\.01, 0\.0, 0\.95, 0\.0"),
    ],
)
def test_bad_requests_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Collection(**kwargs)
    with pytest.raises(ValueError, match=r"must return a state in \[0, 3\), got 7 for 0, "):
        collect(np.ones((3, 2), int), lambda s, a: 7)
