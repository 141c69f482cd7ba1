import numpy as np
import pytest

from explore_gym.envs.recommender.novelty_rec import NoveltyRecVector
from explore_gym.envs.recommender.policies import ConstantNovelty, Oracle, Popular, Random, play

WORLD = dict(topics=6, items_per_topic=5, liked=2, hidden=2, sessions=4, autoreset_mode="SameStep")


def clicks(policy, num_envs=600, **kwargs):
    envs = NoveltyRecVector(num_envs=num_envs, reveal=["intent", "affinity"], **WORLD, **kwargs)
    return play(envs, policy(envs), seed=0)[0]


def test_an_oracle_beats_every_constant_novelty_and_these_beat_chance():
    scores = {level: clicks(lambda envs, level=level: ConstantNovelty(envs, level)).mean() for level in (0.0, 0.5, 1.0)}
    chance = max(clicks(Random).mean(), clicks(Popular).mean())
    assert min(scores.values()) > 1.1 * chance
    assert clicks(Oracle).mean() > 1.15 * max(scores.values())


def test_without_structure_the_mood_is_worth_nothing():
    fair = dict(preference=0.5, intent=[0.5, 0.0], flip=0.5)
    for kwargs, low, high in ((fair, 0.4, 0.6), (dict(preference=1.0, intent=[0.0, 1.0], flip=0.0), 1.0, 1.0)):
        envs = NoveltyRecVector(num_envs=2000, **WORLD, **kwargs)
        before = envs.reset(seed=0)[1]["intent"]
        after = envs.step(np.zeros(2000, int))[4]["final_info"]["intent"]
        assert low <= (before == after).mean() <= high


def test_constant_novelty_estimates_affinity_and_follows_its_level():
    envs = NoveltyRecVector(num_envs=1, **{**WORLD, "spread": 0.0, "popularity_weight": 0.0})
    obs, _ = envs.reset(seed=0)
    policy = ConstantNovelty(envs)
    known = obs[0, envs.env.parts["known"]] == 1.0
    assert policy.affinity(obs)[0] == pytest.approx(np.where(known, 0.75, 0.25))
    envs.set_state(shown_ever=[[8] * 6], clicked_ever=[[4] * 6])
    obs = envs.set_state(session_step=0)
    expected = 1.0 / (1.0 + np.exp(-4.0 * (0.75 - 0.5)))
    rate = (4 + 2 * expected) / 10
    assert policy.affinity(obs)[0][known] == pytest.approx(0.5 + np.log(rate / (1 - rate)) / 4)
    topic = envs.env.catalogue.topic
    assert known[topic[ConstantNovelty(envs, 0.0).act(obs)[0]]]
    assert not known[topic[ConstantNovelty(envs, 100.0).act(obs)[0]]]


def test_popular_items_come_in_order():
    envs = NoveltyRecVector(num_envs=2, slate=2, **WORLD, leave=[0.0] * 3)
    obs, _ = envs.reset(seed=0)
    policy, popularity = Popular(envs), envs.env.catalogue.popularity
    order = np.argsort(-popularity)
    assert policy.act(obs).tolist() == [order[:2].tolist()] * 2
    obs, *_ = envs.step(policy.act(obs))
    assert policy.act(obs).tolist() == [order[2:4].tolist()] * 2


def test_recommenders_fill_slates_of_items_and_topics():
    for actions, count in (("items", 30), ("topics", 6)):
        envs = NoveltyRecVector(num_envs=3, slate=2, actions=actions, reveal=["intent"], **WORLD)
        obs, _ = envs.reset(seed=0)
        for policy in (Random(envs), Popular(envs), ConstantNovelty(envs), Oracle(envs)):
            action = policy.act(obs)
            assert action.shape == (3, 2) and action.min() >= 0 and action.max() < count
    with pytest.raises(ValueError, match="the oracle needs reveal"):
        Oracle(NoveltyRecVector(num_envs=1))
