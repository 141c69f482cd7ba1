import numpy as np
import pytest
from scipy import stats

from explore_gym.envs.recommender.novelty_rec import NoveltyRec, NoveltyRecVector

SMALL = dict(topics=4, items_per_topic=2, session_steps=5, sessions=3, days=10, liked=1, hidden=1, popularity_weight=0.0)
SMALL["spread"] = 0.0  # items lie in the middle of their topics, so that those of known topics have novelty 0
STAY = dict(leave=[0.0, 0.0, 0.0], flip=0.0)
LANES = 20_000


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def lanes(affinity=(0.75, 0.5, 0.25, 0.0), known=(1.0, 1.0, 1.0, 1.0), intent=0, num_envs=LANES, **kwargs):
    """Users that are all the same, at the start of their first session."""
    envs = NoveltyRecVector(num_envs=num_envs, autoreset_mode="SameStep", **{**SMALL, **kwargs})
    envs.reset(seed=7)
    envs.set_state(affinity=np.tile(affinity, (num_envs, 1)), known=np.tile(known, (num_envs, 1)), intent=intent)
    return envs


def assert_frequency(happened, probability):
    """At the 0.1 % level of a binomial test."""
    happened = np.asarray(happened)
    assert stats.binomtest(int(happened.sum()), happened.size, probability).pvalue > 0.001


@pytest.mark.parametrize(("intent", "utility"), [(0, 1.0 - 1.5), (1, 1.0 + 1.5)])
def test_a_click_has_the_probability_of_taste_and_of_novelty_in_this_mood(intent, utility):
    envs = lanes(known=(0, 0, 0, 0), intent=intent, **STAY)
    _, reward, *_, info = envs.step(np.zeros(LANES, int))
    assert info["final_info"]["novelty"] == pytest.approx(1.0)  # nothing is known
    assert info["final_info"]["click_probability"] == pytest.approx(sigmoid(utility))  # 4 (0.75 - 0.5) and the novelty
    assert_frequency(reward, sigmoid(utility))
    assert (reward == info["final_info"]["click"]).all()
    assert (info["final_info"]["accepted_novelty"] == reward).all()


def test_novelty_is_the_distance_to_the_nearest_known_topic():
    env = NoveltyRec(**SMALL, novelty_weight=2.0, **STAY)
    env.reset(seed=0)
    cosines = env.catalogue.cosines()
    env.set_state(affinity=[0.5, 0.5, 0.5, 0.5], known=[0.0, 1.0, 1.0, 0.0], intent=1)
    *_, info = env.step(6)
    expected = 1.0 - max(cosines[6, 1], cosines[6, 2])
    assert 0.0 < expected <= 1.0
    assert info["novelty"] == pytest.approx(expected)
    assert info["click_probability"] == pytest.approx(sigmoid(2.0 * expected))


def test_popular_items_are_clicked_more():
    env = NoveltyRec(**{**SMALL, "popularity_weight": 0.5}, **STAY)
    env.reset(seed=0)
    logs = np.log(env.catalogue.popularity)
    env.set_state(affinity=[0.5] * 4, known=[1.0] * 4)
    *_, info = env.step(3)
    assert info["click_probability"] == pytest.approx(sigmoid(0.5 * (logs[3] - logs.mean()) / logs.std()))


def test_the_choice_from_a_slate_is_multinomial_logit():
    envs = lanes(slate=3, **STAY)
    _, reward, *_, info = envs.step(np.tile([0, 4, 0], (LANES, 1)))  # item 0 stands there twice and is shown once
    last = info["final_info"]
    assert (last["slate"] == [0, 4, -1]).all()
    weights = np.array([1.0, np.exp(1.0), np.exp(-1.0)])  # no click, affinities 0.75 and 0.25
    counts = [(last["choice"] == item).sum() for item in (-1, 0, 4)]
    assert stats.chisquare(counts, LANES * weights / weights.sum()).pvalue > 0.001
    assert last["click_probability"] == pytest.approx(1.0 - 1.0 / weights.sum())
    assert reward.sum() == counts[1] + counts[2]


def test_topics_tire_by_their_share_of_slates_and_recover_between_sessions():
    envs = lanes(num_envs=4, recovery=0.5, returns=[1.0, 0.0], **STAY)
    for showings in range(5):
        probability = envs.step([0, 0, 0, 0])[4]["final_info"]["click_probability"]
        assert probability == pytest.approx(sigmoid(1.0 - 0.3 * showings))
    assert envs.get_state()["fatigue"][:, 0] == pytest.approx(0.75)  # 1.5, and half of it after a day
    envs = lanes(num_envs=4, slate=3, **STAY)
    envs.step(np.tile([0, 1, 2], (4, 1)))
    assert envs.get_state()["fatigue"] == pytest.approx(np.tile([0.2, 0.1, 0.0, 0.0], (4, 1)))


def test_a_click_on_a_topic_makes_it_known():
    envs = lanes(affinity=(0.5, 0.75, 0.25, 0.9), known=(1, 0, 0, 0), novelty_weight=0.0, **STAY)
    obs, reward, *_, info = envs.step(np.full(LANES, 2))
    clicked = reward == 1.0
    assert (envs.get_state()["known"][:, 1] == clicked).all()
    assert (obs[:, 1] == clicked).all()
    assert (info["discovered"] == clicked).all()
    known = envs.get_state()["known"]
    *_, info = envs.step(np.full(LANES, 4))
    assert (info["discovered"] == clicked).all()  # topic 2 isn't one that the user likes
    *_, info = envs.step(np.full(LANES, 3))
    again = info["click"] & clicked
    assert (info["discovered"] <= 1).all()
    assert info["novelty"][again] == pytest.approx(1.0 - envs.env.catalogue.cosines()[3, 1])
    assert (known[:, 0] == 1.0).all()


@pytest.mark.parametrize(
    ("known", "intent", "click", "hazard"),
    [
        (1.0, 0, 1.0, 0.1),
        (1.0, 0, 0.0, 0.1 + 0.2),
        (0.0, 0, 1.0, 0.1 + 0.4),
        (0.0, 1, 1.0, 0.1),
        (0.0, 1, 0.0, 0.1 + 0.2),
    ],
)
def test_users_leave_without_a_click_and_when_novelty_misses_their_mood(known, intent, click, hazard):
    # a weight of 100 for popularity leaves no doubt about the click: 0 or 1 by the sign of the item's score
    envs = lanes(known=[known] * 4, intent=intent, leave=[0.1, 0.2, 0.4], novelty_weight=0.0, popularity_weight=100.0)
    scores = envs.env.catalogue.scores()
    item = int(scores.argmax() if click else scores.argmin())
    _, reward, *_, info = envs.step(np.full(LANES, item))
    assert (reward == click).all()
    assert info["final_info"]["novelty"] == pytest.approx(1.0 - known)
    assert_frequency(info["final_info"]["session_end"], hazard)


def test_moods_start_by_novelty_seeking_and_flip():
    envs = NoveltyRecVector(num_envs=LANES, preference=0.4, intent=[0.1, 0.5], flip=0.2, leave=[0.0] * 3, **SMALL)
    _, info = envs.reset(seed=3)
    assert (info["novelty_seeking"] == 0.4).all()
    assert_frequency(info["intent"], 0.1 + 0.5 * 0.4)
    before = info["intent"]
    *_, info = envs.step(np.zeros(LANES, int))
    assert_frequency(info["intent"] != before, 0.2)


def test_users_are_back_after_a_geometric_gap_that_satisfaction_shortens():
    envs = lanes(session_steps=5, leave=[1.0, 0.0, 0.0], returns=[0.2, 0.5], days=10)
    obs, reward, terminated, _, info = envs.step(np.zeros(LANES, int))
    last = info["final_info"]
    assert last["session_end"].all()
    assert (last["satisfaction"] == reward).all()
    for click, back in ((0.0, 0.2), (1.0, 0.7)):
        days = np.where(last["churn"], 10, last["day"])[reward == click]
        expected = [back * (1.0 - back) ** (gap - 1) for gap in range(1, 10)] + [(1.0 - back) ** 9]
        counts = np.bincount(days, minlength=11)[1:]
        expected = np.array(expected) * counts.sum()
        few = expected < 5.0
        pooled = [[*values[~few], values[few].sum()] for values in (counts, expected)] if few.any() else (counts, expected)
        assert stats.chisquare(*pooled).pvalue > 0.001
    assert (terminated == last["churn"]).all()
    assert last["churn"].sum() > 0
    assert (last["returns"] == ~last["churn"]).all()
    gap = last["day"][~terminated]
    scalars = obs[~terminated][:, envs.env.parts["scalars"]]
    assert scalars[:, 2:] == pytest.approx(
        np.stack([0 * gap, np.full(len(gap), 1 / 3), gap / 10, gap / (gap + 5), 0 * gap + 1], 1), abs=1e-6
    )


def test_an_episode_ends_after_its_sessions():
    env = NoveltyRec(**{**SMALL, "sessions": 2}, leave=[0.0] * 3, returns=[1.0, 0.0])
    env.reset(seed=0)
    steps = [env.step(0) for _ in range(10)]
    assert [step[2] for step in steps] == [False] * 9 + [True]
    assert [step[4]["session_end"] for step in steps] == [False, False, False, False, True] * 2
    info = steps[-1][4]
    assert (info["returns"], info["day"], info["churn"]) == (1, 1, False)
    assert info["clicks"] == sum(step[1] for step in steps)


def test_satisfaction_and_diversity_are_those_of_the_session():
    env = NoveltyRec(**SMALL, leave=[0.0] * 3)
    env.reset(seed=1)
    rewards, infos = [], []
    for item in (0, 1, 2, 7, 0):
        _, reward, *_, info = env.step(item)
        rewards.append(reward)
        infos.append(info)
    diversities = [info["diversity"] * np.log(4) for info in infos]
    expected = [0.0, 0.0, np.log(3) - 2 / 3 * np.log(2), 1.5 * np.log(2), stats.entropy([3, 1, 1])]
    assert diversities == pytest.approx(expected, abs=1e-12)
    assert [info["satisfaction"] for info in infos] == pytest.approx(np.cumsum(rewards) / np.arange(1, 6))
    assert env.step(0)[4]["diversity"] == 0.0  # of the next session


def test_the_platform_sees_showings_clicks_and_times():
    env = NoveltyRec(**{**SMALL, "spread": 0.5}, slate=3, **STAY, reveal=["affinity", "intent"])
    obs, info = env.reset(seed=2)
    parts = {name: obs[part] for name, part in env.parts.items()}
    assert parts["known"].sum() == 1.0
    assert parts["scalars"].tolist() == [0, 0, 0, 0, 0, 0, 1]
    assert parts["intent"] == info["intent"]
    assert parts["affinity"] == pytest.approx(info["affinity"])
    assert len(obs) == 7 * 4 + 7 + 1 + 4
    env.set_state(known=[1.0] * 4, affinity=[1.0] * 4)
    obs, reward, *_, info = env.step([0, 1, 6])
    parts = {name: obs[part] for name, part in env.parts.items()}
    assert parts["slate"] == pytest.approx([2 / 3, 0, 0, 1 / 3])
    assert parts["session_shown"] == pytest.approx([2 / 7, 0, 0, 1 / 6])
    assert parts["shown"] == pytest.approx([2 / 7, 0, 0, 1 / 6])
    assert reward == 1.0  # of this seed; the probability is above 0.95
    chosen = np.eye(4)[env.catalogue.topic[info["choice"]]]
    assert parts["choice"] == pytest.approx(chosen)
    assert parts["session_clicked"] == pytest.approx(chosen / 6)
    assert parts["clicked"] == pytest.approx(chosen / 6)
    novelty = (1.0 - env.catalogue.cosines().max(1))[[0, 1, 6]].mean()
    assert parts["scalars"] == pytest.approx([1.0, novelty, 0.2, 0, 0, 0, 0])


def test_of_a_topic_the_next_popular_item_is_shown():
    env = NoveltyRec(**SMALL, actions="topics", **STAY)
    assert env.action_space.n == 4
    env.reset(seed=0)
    popularity = env.catalogue.popularity
    first, second = (2, 3) if popularity[2] > popularity[3] else (3, 2)
    assert [env.step(1)[4]["slate"].tolist() for _ in range(3)] == [[first], [second], [first]]
    env = NoveltyRec(**SMALL, actions="topics", slate=3, **STAY)
    env.reset(seed=0)
    obs, *_, info = env.step([1, 1, 1])
    assert info["slate"].tolist() == [first, second, -1]
    assert obs[env.parts["slate"]] == pytest.approx([0.0, 2 / 3, 0.0, 0.0])


def test_a_slate_of_one_topic_has_all_of_it():
    env = NoveltyRec(**{**SMALL, "items_per_topic": 10}, actions="topics", slate=10, **STAY)
    env.reset(seed=0)
    obs, *_ = env.step([2] * 10)
    assert obs[env.parts["slate"]].tolist() == [0.0, 0.0, 1.0, 0.0]  # ten times a tenth would be more than 1 in float32


def test_users_have_liked_hidden_and_other_topics():
    envs = NoveltyRecVector(num_envs=LANES, **SMALL)
    _, info = envs.reset(seed=5)
    assert stats.kstest(info["novelty_seeking"], stats.beta(0.6, 0.6).cdf).pvalue > 0.001
    known, affinity = envs.get_state()["known"], info["affinity"]
    high = affinity >= 0.5
    assert (known.sum(1) == 1).all() and (high.sum(1) == 2).all()
    assert high[known == 1.0].all()
    assert stats.kstest(affinity[high], stats.uniform(0.5, 0.5).cdf).pvalue > 0.001
    assert stats.kstest(affinity[~high], stats.uniform(0.0, 0.3).cdf).pvalue > 0.001
    assert stats.chisquare(known.sum(0)).pvalue > 0.001


def test_catalogues_have_items_around_their_topics_and_come_from_the_seed():
    one, same, other = (NoveltyRec(model_seed=seed).catalogue for seed in (0, 0, 1))
    assert (one.embeddings == same.embeddings).all() and not (one.embeddings == other.embeddings).any()
    assert np.linalg.norm(one.embeddings, axis=1) == pytest.approx(1.0)
    own = one.cosines()[np.arange(500), one.topic]
    assert own.mean() == pytest.approx(1.0 / np.sqrt(1.0 + 0.5**2), abs=0.01)  # noise of length 0.5 across the topic's point
    assert (own == one.cosines().max(1)).mean() > 0.98
    assert NoveltyRec(spread=0.0).catalogue.cosines()[np.arange(500), one.topic] == pytest.approx(1.0)
    assert one.scores().std() == pytest.approx(1.0)
    ranking = one.ranking()
    assert (one.topic[ranking] == np.arange(20)[:, None]).all()
    assert (np.diff(one.popularity[ranking], axis=1) <= 0.0).all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(slate=0), r"slate must be an integer in \[1, 20\], got 0"),
        (dict(actions="genres"), "actions must be 'items' or 'topics', got 'genres'"),
        (dict(topics=1), "topics must be an integer in"),
        (dict(items_per_topic=0), "items_per_topic must be an integer"),
        (dict(dimension=1), "dimension must be an integer"),
        (dict(spread=-1.0), "spread must be a number"),
        (dict(model_seed=-1), "model_seed must be an integer"),
        (dict(liked=21), r"liked must be an integer in \[0, 20\], got 21"),
        (dict(hidden=18), r"hidden must be an integer in \[0, 17\], got 18"),
        (dict(preference=1.5), "preference must be"),
        (dict(preference=(0.01, 1.0)), "two numbers >= 0.05"),
        (dict(intent=(0.5, 0.6)), r"intent must be two numbers whose sum is at most 1, got \(0.5, 0.6\)"),
        (dict(returns=(0.5,)), r"returns must be 2 numbers in \[0, 1\], got \(0.5,\)"),
        (dict(leave=(0.0, 0.1, float("nan"))), "leave must be 3 numbers"),
        (dict(flip=2.0), "flip must be a number"),
        (dict(fatigue=-0.1), "fatigue must be a number"),
        (dict(recovery=1.1), "recovery must be a number"),
        (dict(novelty_weight=-1.0), "novelty_weight must be a number"),
        (dict(popularity_weight=-1.0), "popularity_weight must be a number"),
        (dict(session_steps=0), "session_steps must be an integer"),
        (dict(sessions=0), "sessions must be an integer"),
        (dict(days=0), "days must be an integer"),
        (dict(reveal=["eta"]), "reveal must be a list of"),
        (dict(reveal="intent"), "reveal must be a list of"),
        (dict(users=[]), "users must be a list of dicts"),
        (dict(users=[{"affinity": []}]), "users must be a list of dicts"),
        (dict(users=[dict(affinity=[0.5], liked=[], novelty_seeking=0.5)]), "affinity of user 0 must be 20 numbers"),
        (dict(users=[dict(affinity=[0.5] * 20, liked=[20], novelty_seeking=0.5)]), "a liked topic of user 0 must be"),
        (dict(users=[dict(affinity=[0.5] * 20, liked=[], novelty_seeking=2)]), "novelty_seeking of user 0 must lie"),
        (dict(users=[], file="u.data"), "give file or users, not both"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        NoveltyRec(**kwargs)


def test_the_drawing_shows_a_session():
    env = NoveltyRec(**SMALL, leave=[0.0] * 3, flip=0.0, returns=[1.0, 0.0], render_mode="ansi")
    env.reset(seed=0)
    env.set_state(affinity=[1.0, 0.0, 1.0, 0.0], known=[1.0] * 4, intent=1)
    infos = [env.step(item)[4] for item in (0, 6, 5, 1, 2)]  # the whole session; the next one has begun
    rows = [row.ljust(40) for row in env.render().split("\n")]
    assert rows[0][9:15] == "eeeee "
    for step, (topic, info) in enumerate(zip((0, 3, 2, 0, 1), infos)):
        column = "".join(row[9 + step] for row in rows[1:5])
        assert column == " " * topic + ("#" if info["click"] else "o") + " " * (3 - topic)
    assert rows[1].startswith("*topic 0")
    assert rows[2].startswith(" topic 1")
    assert any(f"day 1 of 10  clicks {infos[-1]['clicks']}" in row for row in rows)
