"""The exact value of small recommender worlds: what the best policy earns that knows the user, mood and fatigue included.

No platform that has to infer these earns more on average, so it is an upper bound; random slates are evaluated likewise.
"""

import itertools
import math

import numpy as np

from explore_gym.envs.recommender.novelty_rec import TASTE

MAX_STATES = 3_000_000  # of a plan, in all sessions


class UserPlan:
    """The best slates for one known user, by backward induction.

    The state is the session, the day, the number of slates and clicks in the session, how often each topic was shown in it,
    the known topics and the mood. What is planned with are slates of distinct items: one that repeats an item shows fewer.

    Attributes:
        value: expected clicks of an episode of the best policy, when the user's first mood isn't known yet.

    Args:
        model: a `NoveltyRec` with actions="items", recovery=1 and users to draw from.
        user: which of them.
    Raises:
        ValueError: the model is of another kind, or there are more than MAX_STATES states.
    """

    def __init__(self, model, user):
        params = model.params[0]
        if model.users is None or params["by_topic"] or params["recovery"] != 1.0:
            raise ValueError("a plan needs users=, actions='items' and recovery=1, so that the state is finite")
        self.params, self.affinity = params, model.users.affinity[user]
        self.seeking, self.liked = model.users.novelty_seeking[user], model.users.liked[user]
        self.slots, self.topics = model.state_dtype["slate"].shape[0], len(self.affinity)
        self.steps, self.sessions = model.state_dtype["drawn_choices"].shape[0], model.state_dtype["visits"].shape[0]
        self.days = int(params["days"])
        self.base, masks = self.steps * self.slots + 1, 2**self.topics
        exposures = math.comb(self.steps * self.slots + self.topics, self.topics)
        states = self.sessions * self.steps * self.days * exposures * masks * 2 * (self.steps + 1)
        if states > MAX_STATES:
            raise ValueError(
                f"a plan of {self.sessions} sessions and {self.topics} topics has {states} states, of {MAX_STATES}"
            )
        counts = itertools.product(range(self.base), repeat=self.topics)
        self.exposures = np.array([count for count in counts if sum(count) < self.base])
        self.powers = self.base ** np.arange(self.topics - 1, -1, -1)
        items = range(len(params["topic"]))
        self.slates = [slate for size in range(1, self.slots + 1) for slate in itertools.combinations(items, size)]
        self.policy = {}
        self.value = self.solve(self._best)

    def _best(self, session, step, q_values):
        self.policy[session, step] = q_values.argmax(0)
        return q_values.max(0)

    def random_value(self):
        """Expected clicks of uniformly random actions."""
        total = len(self.params["topic"]) ** self.slots
        shares = np.array([surjections(self.slots, len(slate)) for slate in self.slates]) / total
        return self.solve(lambda session, step, q_values: np.tensordot(shares, q_values, 1))

    def act(self, states):
        """Best actions at state records (lanes,) of this user: (lanes,), or (lanes, slate); spare slots repeat an item."""
        actions = np.zeros((len(states), self.slots), np.int64)
        for lane, state in enumerate(states):
            best = self.policy[int(state["session"]), int(state["session_step"])][self._place(state)]
            actions[lane] = np.resize(self.slates[best], self.slots)
        return actions[:, 0] if self.slots == 1 else actions

    def regrets(self, states, actions):
        """How many clicks the actions cost in expectation, compared with the best ones, (lanes,).

        Summed over an episode they are, on average, what a policy's value lacks of `value`.
        """
        times = {}  # (session, step) -> lanes
        for lane, state in enumerate(states):
            times.setdefault((int(state["session"]), int(state["session_step"])), []).append(lane)
        chosen = [self.slates.index(tuple(np.unique(action).tolist())) for action in actions]
        costs = np.zeros(len(states))

        def compare(session, step, q_values):
            best = q_values.max(0)
            for lane in times.get((session, step), ()):
                place = self._place(states[lane])
                costs[lane] = best[place] - q_values[chosen[lane]][place]
            return best

        self.solve(compare)
        return costs

    def _place(self, state):
        """Where a state is in the arrays of its session and step."""
        mask = int(state["known"] @ 2.0 ** np.arange(self.topics))
        return int(state["day"]), int(self._index(state["shown"])), mask, int(state["intent"]), int(state["session_clicks"])

    def solve(self, backup):
        """Value of an episode, where backup(session, step, Q) gives V (days, exposures, masks, moods, clicks).

        Q has a further first axis, the slates.
        """
        params, masks = self.params, 2**self.topics
        explore = params["intent"][0] + params["intent"][1] * self.seeking
        begin = np.zeros((self.days, masks))  # value of the next session's start, none after the last one
        for session in reversed(range(self.sessions)):
            values = np.zeros((self.days, len(self.exposures), masks, 2, self.steps + 1))
            for step in reversed(range(self.steps)):
                q_values = self._q_values(step, values, self._away(begin, step + 1))
                values = backup(session, step, q_values)
            fresh = values[:, self._index(np.zeros(self.topics, int)), :, :, 0]  # (days, masks, moods)
            begin = (1.0 - explore) * fresh[..., 0] + explore * fresh[..., 1]
        return float(begin[0, int(self.liked @ 2 ** np.arange(self.topics))])

    def _away(self, begin, steps):
        """Value on leaving after so many slates, (days, masks, clicks)."""
        back = self.params["returns"][0] + self.params["returns"][1] * np.minimum(np.arange(self.steps + 1) / steps, 1.0)
        values = np.zeros((*begin.shape, self.steps + 1))
        for day in reversed(range(self.days - 1)):
            values[day] = back * begin[day + 1, :, None] + (1.0 - back) * values[day + 1]
        return values

    def _q_values(self, step, values, away):
        """Q (slates, days, exposures, masks, moods, clicks) from the values after this step."""
        q_values = np.zeros((len(self.slates), *values.shape))
        flip = self.params["flip"]
        staying = (1.0 - flip) * values + flip * values[..., ::-1, :]
        for (a, slate), mask, mood in itertools.product(enumerate(self.slates), range(values.shape[2]), (0, 1)):
            known = mask >> np.arange(self.topics) & 1
            novelties = 1.0 - (known * self.params["cosines"][list(slate)]).max(1)
            topics = self.params["topic"][list(slate)]
            after = self._index(self.exposures + np.bincount(topics, minlength=self.topics))
            utility = TASTE * (self.affinity[topics] - 0.5) + self.params["novelty_weight"] * (2 * mood - 1) * novelties
            utility = utility + self.params["appeal"][list(slate)]
            weights = np.exp(utility - self.params["fatigue"] / self.slots * self.exposures[:, topics])  # (exposures, slots)
            total = 1.0 + weights.sum(1)
            hazard = self.params["leave"][0] + self.params["leave"][2] * abs(novelties.mean() - mood)
            outcomes = [(1.0 / total, mask, 0, hazard + self.params["leave"][1])]
            outcomes += [(w / total, mask | 1 << topic, 1, hazard) for w, topic in zip(weights.T, topics.tolist())]
            for probability, then, click, leaving in outcomes:
                leaving = 1.0 if step == self.steps - 1 else min(leaving, 1.0)
                value = leaving * away[:, None, then] + (1.0 - leaving) * staying[:, after, then, mood]
                value = np.roll(value, -click, -1)  # the last entry, more clicks than slates, isn't reached
                q_values[a, :, :, mask, mood] += probability[:, None] * (click + value)
        return q_values

    def _index(self, counts):
        """Of exposures (..., topics); those that no session reaches have any index."""
        keys = self.exposures @ self.powers
        return np.minimum(np.searchsorted(keys, counts @ self.powers), len(keys) - 1)


def surjections(slots, items):
    """In how many ways all of the items can stand in the slots."""
    return sum((-1) ** i * math.comb(items, i) * (items - i) ** slots for i in range(items))
