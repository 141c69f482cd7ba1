"""NoveltyRec: keep users of a platform coming back whose wish for novelty is partly theirs and partly the session's.

Observation: float32 (7 topics + 7 + what is revealed,) in [0, 1], what a platform sees. For each topic: 1 if the user knows
             it (liked it at the start, or has clicked it since); how often it was shown and clicked in this session, and in
             all, each n as n / (n + 5); its share of the last slate; 1 if the last click was on it. Then: 1 if the last slate
             was clicked, its mean novelty, the shares that are over of this session's longest length, of the sessions and
             of the days, days since the session before (n / (n + 5)), and 1 before a session's first slate.
Action:      Discrete(items), or MultiDiscrete (slate,) of items if slate > 1; an item that stands in the slate twice is shown
             once. actions="topics": topics instead, of each of which the next item in order of popularity is shown.
Reward:      1 for a click, otherwise 0.
Terminates:  when the user, after leaving, isn't back within days (60), or after sessions (12) sessions.  Truncates: never.
Info:        what the agent must not see: intent (0 focus, 1 explore; of the next choice), novelty_seeking, affinity; of the
             last slate its slate (items, -1 for one shown already), choice (item, -1 for none), click, click_probability,
             novelty (mean), accepted_novelty (of the clicked item, else 0), session_end, and of its session satisfaction
             (clicks / slates) and diversity (entropy of the topics shown / log of their number); of the episode clicks,
             returns (sessions after the first), discovered (topics of affinity >= 0.5 that the user has come to know), day,
             churn.
Choice:      multinomial logit: item i is clicked with probability exp(u_i) / (1 + sum of exp(u) over the slate), where
             u_i = 4 (affinity of its topic - 0.5) + novelty_weight * (1 explore, -1 focus) * nov_i
             + popularity_weight * score_i - fatigue of its topic, nov_i = 1 - max cosine with the centre of a known topic,
             score_i standardised log popularity. Fatigue grows by fatigue / slate with each showing and fades by `recovery`
             per day.
Users:       novelty_seeking ~ Beta(preference), 3 liked and 3 further topics of affinity U(0.5, 1), the others U(0, 0.3). A
             session starts in the mood to explore with probability intent[0] + intent[1] * novelty_seeking and changes its
             mood with probability flip per slate. The user leaves with probability leave[0] + leave[1] (without a click)
             + leave[2] * abs(mean novelty - mood), or after session_steps (25) slates, and comes back on each day after
             with probability returns[0] + returns[1] * satisfaction.
Source:      the two levels of novelty seeking are those of Li et al., 2023, arXiv:2306.01476, the details of
             whose simulator could not be confirmed; this one and its numbers are this suite's, in the style of RecSim (Ie et
             al., 2019, arXiv:1909.04847).

The catalogue is drawn from model_seed, or read from ratings of films, see `movielens`; users= gives the users to draw from.
reveal= appends hidden quantities to the observation, for oracles: "intent", "novelty_seeking" and "affinity" (of each topic).
Without structure to exploit, as a control: preference=0.5, intent=[0.5, 0.0], flip=0.5 is a fair coin at each slate.
"""

import math

import numpy as np
from gymnasium import spaces

from explore_gym.envs.bandits.checks import check_integer, check_number
from explore_gym.envs.bandits.meta_bandit import beta
from explore_gym.envs.engine import KernelEnv, bernoulli, kernel, randint, state_dtype, uniform, vectorize
from explore_gym.envs.recommender.catalogue import RELEVANT, draw_catalogue, users_from
from explore_gym.envs.recommender.drawing import draw_session
from explore_gym.envs.recommender.movielens import load_movielens

TASTE = 4.0  # logits between affinities 0 and 1
IRRELEVANT = 0.3  # affinity of the others, at most
SATURATION = np.float32(5.0)  # count that is observed as 1 / 2
REVEALED = ("intent", "novelty_seeking", "affinity")


def novelty_rec_state(topics, slate, session_steps, sessions):
    return state_dtype(
        novelty_seeking=np.float64,
        intent=np.int32,
        affinity=(np.float64, (topics,)),
        known=(np.float64, (topics,)),
        fatigue=(np.float64, (topics,)),
        shown=(np.int32, (topics,)),  # in this session
        clicked=(np.int32, (topics,)),
        shown_ever=(np.int32, (topics,)),
        clicked_ever=(np.int32, (topics,)),
        slate=(np.int32, (slate,)),  # the last one
        weights=(np.float64, (slate,)),  # of the choice, scratch space
        choice=np.int32,  # position in the slate, -1 for none
        novelty=np.float64,
        accepted_novelty=np.float64,
        click_probability=np.float64,
        session=np.int32,
        session_step=np.int32,
        session_clicks=np.int32,
        session_end=np.bool_,  # with the last slate
        concentration=np.float64,  # sum of n log n over the topics shown in this session
        satisfaction=np.float64,
        diversity=np.float64,
        day=np.int32,
        gap=np.int32,  # days since the session before
        churn=np.bool_,
        clicks=np.int32,
        discovered=np.int32,
        drawn_steps=np.int32,  # what the picture shows: the session of the last slate,
        drawn_slates=(np.int32, (session_steps, slate)),
        drawn_choices=(np.int32, (session_steps,)),
        drawn_intents=(np.int32, (session_steps,)),
        visits=(np.int32, (sessions,)),  # and the days of all sessions
        visit_satisfaction=(np.float64, (sessions,)),
    )


@kernel
def reset(params, state):
    if params.from_users:
        user = randint(state, len(params.novelty_seeking))
        state.novelty_seeking = params.novelty_seeking[user]
        for topic in range(len(state.known)):
            state.affinity[topic], state.known[topic] = params.affinity[user, topic], params.liked[user, topic]
    else:
        draw_user(params, state)
    for topic in range(len(state.known)):
        state.fatigue[topic], state.shown_ever[topic], state.clicked_ever[topic] = 0.0, 0, 0
    for position in range(len(state.slate)):
        state.slate[position], state.weights[position] = -1, 0.0
    state.choice, state.novelty, state.accepted_novelty, state.click_probability = -1, 0.0, 0.0, 0.0
    state.session, state.session_end, state.day, state.gap, state.churn = 0, False, 0, 0, False
    state.satisfaction, state.diversity = 0.0, 0.0
    state.clicks, state.discovered, state.drawn_steps = 0, 0, 0
    for step in range(len(state.drawn_choices)):
        state.drawn_choices[step], state.drawn_intents[step] = -1, 0
        for position in range(len(state.slate)):
            state.drawn_slates[step, position] = -1
    for session in range(len(state.visits)):
        state.visits[session], state.visit_satisfaction[session] = -1, 0.0
    begin_session(params, state)


@kernel
def draw_user(params, state):
    if params.constant:
        state.novelty_seeking = params.preference[0]
    else:
        state.novelty_seeking = beta(state, params.preference[0], params.preference[1])
    topics = len(state.known)
    for topic in range(topics):
        state.affinity[topic], state.known[topic] = uniform(state, 0.0, IRRELEVANT), 0.0
    for relevant in range(params.num_liked + params.num_hidden):
        topic = randint(state, topics)
        while state.affinity[topic] >= RELEVANT:
            topic = randint(state, topics)
        state.affinity[topic] = uniform(state, RELEVANT, 1.0)
        state.known[topic] = 1.0 if relevant < params.num_liked else 0.0


@kernel
def begin_session(params, state):
    state.intent = 1 if bernoulli(state, params.intent[0] + params.intent[1] * state.novelty_seeking) else 0
    state.session_step, state.session_clicks, state.concentration = 0, 0, 0.0
    for topic in range(len(state.known)):
        state.shown[topic], state.clicked[topic] = 0, 0


@kernel
def step_item(params, state, action):
    show(params, state, 0, action)
    return respond(params, state)


@kernel
def step_slate(params, state, action):
    for position in range(len(state.slate)):
        show(params, state, position, action[position])
    return respond(params, state)


@kernel
def show(params, state, position, action):
    """Put an item into the slate, or a topic's next one; -1 if the slate has it already."""
    item = np.int64(action)
    if params.by_topic:
        item = np.int64(params.ranking[action, state.shown[action] % params.sizes[action]])
    for other in range(position):
        if state.slate[other] == item:
            item = np.int64(-1)
    state.slate[position] = item
    if item >= 0:
        topic = params.topic[item]
        state.concentration += params.count_entropy[state.shown[topic] + 1] - params.count_entropy[state.shown[topic]]
        state.shown[topic] += 1
        state.shown_ever[topic] += 1


@kernel
def novelty(params, state, item):
    """1 - cosine of the item with the nearest topic that the user knows, in [0, 1]."""
    closest = 0.0
    for topic in range(len(state.known)):
        closeness = state.known[topic] * params.cosines[item, topic]
        if closeness > closest:  # faster than max, which looks after NaN
            closest = closeness
    return 1.0 - closest


@kernel
def respond(params, state):
    """The user's reaction to the slate. Returns reward and whether the episode ends."""
    total, shown, state.novelty = 1.0, 0, 0.0
    mood = 1.0 if state.intent == 1 else -1.0
    for position in range(len(state.slate)):
        item, state.weights[position] = state.slate[position], 0.0
        if item >= 0:
            topic, new = params.topic[item], novelty(params, state, item)
            utility = TASTE * (state.affinity[topic] - 0.5) + params.novelty_weight * mood * new
            state.weights[position] = math.exp(utility + params.appeal[item] - state.fatigue[topic])
            total += state.weights[position]
            state.novelty += new
            shown += 1
    state.novelty /= shown
    state.click_probability = (total - 1.0) / total
    choose(params, state, total)
    for position in range(len(state.slate)):
        if state.slate[position] >= 0:
            state.fatigue[params.topic[state.slate[position]]] += params.fatigue / len(state.slate)
    remember(params, state)
    hazard = params.leave[0] + params.leave[2] * abs(state.novelty - state.intent)
    if state.choice < 0:
        hazard += params.leave[1]
    end = False
    state.session_end = state.session_step == len(state.drawn_choices) or bernoulli(state, min(hazard, 1.0))
    if state.session_end:
        end = away(params, state)
    elif bernoulli(state, params.flip):
        state.intent = 1 - state.intent
    return (1.0 if state.choice >= 0 else 0.0), end


@kernel
def choose(params, state, total):
    """Draw the choice from the weights, of which `total` is the sum, with 1 for no click."""
    rest = uniform(state, 0.0, total) - 1.0
    state.choice, state.accepted_novelty = -1, 0.0
    if rest < 0.0:
        return
    position = 0
    while position < len(state.slate) - 1 and rest >= state.weights[position]:
        rest -= state.weights[position]
        position += 1
    while state.slate[position] < 0:  # rounding has led beyond the last weight
        position -= 1
    state.choice = position
    item = state.slate[position]
    topic = params.topic[item]
    state.accepted_novelty = novelty(params, state, item)
    if state.known[topic] == 0.0 and state.affinity[topic] >= RELEVANT:
        state.discovered += 1
    state.known[topic] = 1.0
    state.clicked[topic] += 1
    state.clicked_ever[topic] += 1
    state.session_clicks += 1
    state.clicks += 1


@kernel
def remember(params, state):
    """Count the slate, and keep what metrics and the picture show of its session."""
    step = state.session_step
    for position in range(len(state.slate)):
        state.drawn_slates[step, position] = state.slate[position]
    state.drawn_choices[step], state.drawn_intents[step] = state.choice, state.intent
    state.session_step += 1
    state.drawn_steps = state.session_step
    state.satisfaction = state.session_clicks / state.session_step
    shown = 0
    for topic in range(len(state.shown)):
        shown += state.shown[topic]
    state.diversity = max(0.0, (params.count_entropy[shown] - state.concentration) / (shown * params.largest_entropy))
    state.visits[state.session], state.visit_satisfaction[state.session] = state.day, state.satisfaction


@kernel
def away(params, state):
    """The days until the next session, which then begins. Returns whether there is none."""
    state.session += 1
    if state.session == len(state.visits):
        return True
    back = params.returns[0] + params.returns[1] * state.satisfaction
    state.gap = 1
    while state.day + state.gap < params.days and not bernoulli(state, back):
        state.gap += 1
    state.day += state.gap
    if state.day >= params.days:
        state.churn = True
        return True
    for _ in range(state.gap):
        for topic in range(len(state.fatigue)):
            state.fatigue[topic] *= 1.0 - params.recovery
    begin_session(params, state)
    return False


@kernel
def saturate(count):
    share = np.float32(count)  # observed only; twice as fast as float64
    return share / (share + SATURATION)


@kernel
def observe(params, state, obs):
    topics = len(state.known)
    for topic in range(topics):
        obs[topic] = state.known[topic]
        obs[topics + topic] = saturate(state.shown[topic])
        obs[2 * topics + topic] = saturate(state.clicked[topic])
        obs[3 * topics + topic] = saturate(state.shown_ever[topic])
        obs[4 * topics + topic] = saturate(state.clicked_ever[topic])
        obs[5 * topics + topic] = 0.0
        obs[6 * topics + topic] = 0.0
    for position in range(len(state.slate)):
        if state.slate[position] >= 0:
            topic = params.topic[state.slate[position]]
            obs[5 * topics + topic] += 1.0
            if position == state.choice:
                obs[6 * topics + topic] = 1.0
    for topic in range(topics):
        obs[5 * topics + topic] /= len(state.slate)
    k = 7 * topics
    obs[k] = 1.0 if state.choice >= 0 else 0.0
    obs[k + 1] = state.novelty
    obs[k + 2] = state.session_step / len(state.drawn_choices)
    obs[k + 3] = state.session / len(state.visits)
    obs[k + 4] = state.day / params.days
    obs[k + 5] = saturate(state.gap)
    obs[k + 6] = 1.0 if state.session_step == 0 else 0.0
    k += 7
    if params.reveal[0]:
        obs[k] = state.intent
        k += 1
    if params.reveal[1]:
        obs[k] = state.novelty_seeking
        k += 1
    if params.reveal[2]:
        for topic in range(topics):
            obs[k + topic] = state.affinity[topic]


@kernel
def inform(params, state, info):
    info.intent, info.novelty_seeking = state.intent, state.novelty_seeking
    for topic in range(len(state.affinity)):
        info.affinity[topic] = state.affinity[topic]
    for position in range(len(state.slate)):
        info.slate[position] = state.slate[position]
    info.choice, info.click = -1, state.choice >= 0
    if state.choice >= 0:
        info.choice = state.slate[state.choice]
    info.click_probability = state.click_probability
    info.novelty, info.accepted_novelty = state.novelty, state.accepted_novelty
    info.session_end, info.satisfaction, info.diversity = state.session_end, state.satisfaction, state.diversity
    info.clicks, info.discovered, info.day, info.churn = state.clicks, state.discovered, state.day, state.churn
    returns = 0
    for session in range(1, len(state.visits)):
        if session < state.session or (session == state.session and not state.churn):
            returns += 1
    info.returns = returns


class NoveltyRec(KernelEnv):
    """Recommendation of items or slates to users with novelty seeking on two levels.

    Attributes:
        catalogue: `Catalogue` of the items.
        users: `Users` to draw from, None if they are drawn from the laws above.
        parts: name -> slice of the observation: known, session_shown, session_clicked, shown, clicked, slate, choice,
            scalars, and what is revealed.

    Args:
        slate: items that are shown at a time, 1 to 20.
        actions: "items" or "topics".
        topics: topics of a catalogue that is drawn, 2 to 100.
        items_per_topic: items of each, 1 to 1000.
        dimension: of the embeddings, 2 to 1000.
        spread: how far items lie from their topic's point, 0 to 10.
        model_seed: draws the catalogue; 0 to 2**32 - 1.
        file: path of MovieLens ratings, ratings.csv or u.data, to take catalogue and users from.
        users: list of dicts {"affinity": [topics numbers], "liked": [topics], "novelty_seeking": number} to draw from.
        liked, hidden: topics of high affinity that users know at the start, or don't.
        preference: (a, b) >= 0.05 of the Beta distribution of novelty seeking, or the novelty seeking of all users.
        intent: probability that a session starts in the mood to explore, without novelty seeking and by how much more with.
        flip: probability of a change of mood, per slate.
        novelty_weight: logits, 0 to 100.
        popularity_weight: logits per standard deviation of log popularity, 0 to 100.
        fatigue: logits by which a topic that fills a slate is less attractive afterwards, 0 to 100.
        recovery: share of the fatigue that fades per day; 1: every session starts without.
        leave: hazards of leaving: always, without a click, and per distance of novelty and mood; each in [0, 1].
        returns: probability to be back on a day, after a session without a click and by how much more if all were clicks.
        session_steps: slates of the longest session, 1 to 1000.
        sessions: of an episode, 1 to 1000.
        days: after which a user isn't waited for, 1 to 100_000.
        reveal: hidden quantities to observe, of "intent", "novelty_seeking" and "affinity".
    Raises:
        ValueError: an argument is outside the ranges above, or the file is malformed.
        FileNotFoundError: there is no such file.
    """

    def __init__(
        self,
        slate=1,
        actions="items",
        topics=20,
        items_per_topic=25,
        dimension=16,
        spread=0.5,
        model_seed=0,
        file=None,
        users=None,
        liked=3,
        hidden=3,
        preference=(0.6, 0.6),
        intent=(0.15, 0.7),
        flip=0.05,
        novelty_weight=1.5,
        popularity_weight=0.25,
        fatigue=0.3,
        recovery=0.5,
        leave=(0.03, 0.1, 0.1),
        returns=(0.3, 0.5),
        session_steps=25,
        sessions=12,
        days=60,
        reveal=(),
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("slate", slate, 1, 20)
        if actions not in ("items", "topics"):
            raise ValueError(f"actions must be 'items' or 'topics', got {actions!r}")
        if file is not None and users is not None:
            raise ValueError("give file or users, not both")
        if file is None:
            check_integer("topics", topics, 2, 100)
            check_integer("items_per_topic", items_per_topic, 1, 1000)
            check_integer("dimension", dimension, 2, 1000)
            check_number("spread", spread, 0.0, 10.0)
            check_integer("model_seed", model_seed, 0, 2**32 - 1)
            self.catalogue = draw_catalogue(topics, items_per_topic, dimension, spread, model_seed)
            self.users = None if users is None else users_from(users, topics)
        else:
            self.catalogue, self.users = load_movielens(file)
        topics = len(self.catalogue.topic_names)
        if self.users is None:
            check_integer("liked", liked, 0, topics)
            check_integer("hidden", hidden, 0, topics - liked)
        constant = np.isscalar(preference)
        pair = check_numbers("preference", (preference, 1.0) if constant else preference, 2, 1.0 if constant else 1e6)
        if not constant and pair.min() < 0.05:
            raise ValueError(f"preference must be a number in [0, 1] or two numbers >= 0.05, got {preference!r}")
        self.intent, self.returns = check_rate("intent", intent), check_rate("returns", returns)
        self.leave = check_numbers("leave", leave, 3)
        for name, value, high in (("flip", flip, 1.0), ("recovery", recovery, 1.0), ("fatigue", fatigue, 100.0)):
            check_number(name, value, 0.0, high)
        check_number("novelty_weight", novelty_weight, 0.0, 100.0)
        check_number("popularity_weight", popularity_weight, 0.0, 100.0)
        check_integer("session_steps", session_steps, 1, 1000)
        check_integer("sessions", sessions, 1, 1000)
        check_integer("days", days, 1, 100_000)
        if isinstance(reveal, str) or not set(reveal) <= set(REVEALED):
            raise ValueError(f"reveal must be a list of {REVEALED}, got {reveal!r}")
        self.dynamics = (reset, step_item if slate == 1 else step_slate, observe, inform)
        sizes = np.bincount(self.catalogue.topic)
        table = self.users
        choices = topics if actions == "topics" else len(self.catalogue.topic)
        self.parts = slices(topics, [name for name in REVEALED if name in reveal])
        super().__init__(
            state=novelty_rec_state(topics, slate, session_steps, sessions),
            params=dict(
                topic=self.catalogue.topic,
                cosines=self.catalogue.cosines(),
                appeal=popularity_weight * self.catalogue.scores(),
                ranking=self.catalogue.ranking(),
                sizes=sizes,
                by_topic=actions == "topics",
                from_users=table is not None,
                affinity=table.affinity if table else np.zeros((1, topics)),
                liked=table.liked if table else np.zeros((1, topics), np.uint8),
                novelty_seeking=table.novelty_seeking if table else np.zeros(1),
                num_liked=liked,
                num_hidden=hidden,
                constant=constant,
                preference=pair,
                intent=self.intent,
                flip=float(flip),
                novelty_weight=float(novelty_weight),
                fatigue=float(fatigue),
                recovery=float(recovery),
                leave=self.leave,
                returns=self.returns,
                days=days,
                count_entropy=[n * math.log(n or 1) for n in range(session_steps * slate + 1)],
                largest_entropy=math.log(topics),
                reveal=np.array([name in reveal for name in REVEALED]),
            ),
            observation_space=spaces.Box(0.0, 1.0, (max(part.stop for part in self.parts.values()),), np.float32),
            action_space=spaces.Discrete(choices) if slate == 1 else spaces.MultiDiscrete([choices] * slate),
            info=dict(
                intent=int,
                novelty_seeking=float,
                affinity=(float, (topics,)),
                slate=(int, (slate,)),
                choice=int,
                click=bool,
                click_probability=float,
                novelty=float,
                accepted_novelty=float,
                session_end=bool,
                satisfaction=float,
                diversity=float,
                clicks=int,
                returns=int,
                discovered=int,
                day=int,
                churn=bool,
            ),
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def draw(self, canvas, state):
        draw_session(canvas, state, self.catalogue, int(self.params["days"][0]))


def slices(topics, revealed):
    """Where the parts of an observation are."""
    names = ("known", "session_shown", "session_clicked", "shown", "clicked", "slate", "choice")
    sizes = {**dict.fromkeys(names, topics), "scalars": 7, **{name: topics if name == "affinity" else 1 for name in revealed}}
    ends = np.cumsum(list(sizes.values())).tolist()
    return {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends)}


def check_numbers(name, values, count, high=1.0):
    """The numbers as float64 (count,).

    Raises:
        ValueError: there are more or fewer, or one is outside [0, high].
    """
    array = np.asarray(values, np.float64)
    if array.shape != (count,) or not ((array >= 0.0) & (array <= high)).all():
        raise ValueError(f"{name} must be {count} numbers in [0, {high:g}], got {values!r}")
    return array


def check_rate(name, values):
    """Base and increase of a probability, float64 (2,).

    Raises:
        ValueError: their sum is above 1.
    """
    array = check_numbers(name, values, 2)
    if array.sum() > 1.0 + 1e-9:
        raise ValueError(f"{name} must be two numbers whose sum is at most 1, got {values!r}")
    return array


NoveltyRecVector = vectorize(NoveltyRec)
