import numpy as np
import pytest

from explore_gym.envs.recommender.novelty_rec import NoveltyRec
from explore_gym.envs.recommender.policies import Planner, Random, play
from explore_gym.envs.recommender.references import UserPlan, surjections
from explore_gym.envs.recommender.tiny_rec import TinyRec, TinyRecVector

WORLD = dict(topics=2, items_per_topic=1, dimension=8, spread=0.0, popularity_weight=0.0, recovery=1.0)
USER = dict(affinity=[0.75, 0.5], liked=[0], novelty_seeking=1.0)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def test_one_slate_is_worth_its_click():
    kwargs = dict(novelty_weight=2.0, session_steps=1, sessions=1, days=1)
    env = NoveltyRec(users=[USER], intent=[0.0, 0.25], **WORLD, **kwargs)
    far = 1.0 - env.catalogue.cosines()[1, 0]
    known, new, unwanted = sigmoid(1.0), sigmoid(2.0 * far), sigmoid(-2.0 * far)
    assert unwanted < known < new
    plan = UserPlan(env, 0)
    assert plan.value == pytest.approx(0.25 * new + 0.75 * known)
    assert plan.random_value() == pytest.approx(0.25 * (new + known) / 2 + 0.75 * (unwanted + known) / 2)


def test_leaving_and_coming_back_are_weighed():
    # one topic that is known, so that only hazards and returns matter: two sessions of one or two slates, three days
    user = dict(affinity=[0.75, 0.0], liked=[0, 1], novelty_seeking=0.0)
    kwargs = dict(users=[user], intent=[0.0, 0.0], flip=0.0, fatigue=0.0, session_steps=2, sessions=2, days=3)
    env = NoveltyRec(**WORLD, leave=[0.25, 0.5, 0.0], returns=[0.2, 0.6], **kwargs)
    click = sigmoid(1.0)
    session = click + (click * 0.75 + (1.0 - click) * 0.25) * click
    first = {0: (1.0 - click) * 0.75, 1: click * 0.25}  # left after one slate, by clicks
    second = {0: (1.0 - click) * 0.25 * (1.0 - click), 2: click * 0.75 * click}  # after two
    second[1] = (1.0 - click) * 0.25 * click + click * 0.75 * (1.0 - click)
    assert sum(first.values()) + sum(second.values()) == pytest.approx(1.0)
    share = [(chance, clicks / slates) for slates, left in ((1, first), (2, second)) for clicks, chance in left.items()]
    again = sum(chance * (1.0 - (1.0 - 0.2 - 0.6 * satisfaction) ** 2) for chance, satisfaction in share)  # on day 1 or 2
    assert UserPlan(env, 0).value == pytest.approx(session + again * session)


def test_random_slates_repeat_items():
    assert [surjections(2, size) for size in (1, 2)] == [1, 2]
    assert surjections(4, 2) == 14
    kwargs = dict(users=[USER], intent=[0.0, 0.0], session_steps=1, sessions=1, days=1)
    env = NoveltyRec(slate=2, **WORLD, **kwargs)
    far = 1.0 - env.catalogue.cosines()[1, 0]
    one, two = np.exp(1.0), np.exp(-1.5 * far)
    both = (one + two) / (1.0 + one + two)
    plan = UserPlan(env, 0)
    assert plan.value == pytest.approx(both)
    assert plan.random_value() == pytest.approx(both / 2 + (one / (1.0 + one) + two / (1.0 + two)) / 4)


@pytest.mark.parametrize("kwargs", [dict(), dict(slate=2, session_steps=2)])
def test_played_returns_are_those_of_the_plan(kwargs):
    envs = TinyRecVector(num_envs=4000, autoreset_mode="SameStep", **kwargs)
    values = []
    for policy, value in ((Planner, envs.env.optimal_value()), (Random, envs.env.random_value())):
        clicks, _ = play(envs, policy(envs), seed=10)
        assert clicks.mean() == pytest.approx(value, abs=3.5 * clicks.std() / np.sqrt(4000))
        values.append(value)
    assert values[0] > 1.2 * values[1]


def test_regrets_add_up_to_what_a_policy_loses():
    user, num_envs = 1, 400
    envs = TinyRecVector(num_envs=num_envs, autoreset_mode="SameStep")
    plan, users = UserPlan(envs.env, user), envs.env.users
    envs.reset(seed=20)
    seeking = users.novelty_seeking[user]
    envs.set_state(affinity=np.tile(users.affinity[user], (num_envs, 1)), novelty_seeking=seeking)
    envs.set_state(intent=np.random.default_rng(0).random(num_envs) < 0.15 + 0.7 * seeking)
    policy, playing, states, actions, lanes = Random(envs), np.ones(num_envs, bool), [], [], []
    while playing.any():
        action = policy.act(None)
        states.append(envs.get_state()[playing])
        actions.append(action[playing])
        lanes.append(np.flatnonzero(playing))
        _, _, terminated, *_ = envs.step(action)
        playing &= ~terminated
    states = np.concatenate(states)
    costs = plan.regrets(states, np.concatenate(actions))
    assert costs.min() >= 0.0
    assert plan.regrets(states[:100], plan.act(states[:100])) == pytest.approx(0.0)
    sums = np.bincount(np.concatenate(lanes), costs)
    assert sums.mean() == pytest.approx(plan.value - plan.random_value(), abs=3.5 * sums.std() / np.sqrt(num_envs))


def test_plans_need_a_small_world_without_memory_of_fatigue():
    with pytest.raises(ValueError, match="a plan needs users="):
        UserPlan(NoveltyRec(), 0)
    with pytest.raises(ValueError, match="recovery=1"):
        UserPlan(NoveltyRec(users=[USER], **{**WORLD, "recovery": 0.5}), 0)
    with pytest.raises(ValueError, match="a plan of 12 sessions and 2 topics has"):
        UserPlan(NoveltyRec(users=[USER], **WORLD), 0)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(slate=3), r"slate must be an integer in \[1, 2\], got 3"),
        (dict(session_steps=5), r"session_steps must be an integer in \[1, 4\], got 5"),
        (dict(sessions=0), "sessions must be an integer"),
        (dict(days=11), "days must be an integer"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TinyRec(**kwargs)
