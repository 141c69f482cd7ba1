"""Scripted recommenders, from random to oracle, vectorised over the lanes of a batch.

    envs = gym.make_vec("Explore/NoveltyRec-v0", num_envs=1000, autoreset_mode="SameStep")
    clicks, info = play(envs, ConstantNovelty(envs.unwrapped, 0.5), seed=0)

Each acts on the observation alone, which has all that a platform knows, and so keeps no memory of its own. They know the
choice model and the catalogue; `Oracle` also reads what the environment reveals, and `Planner` the state itself.
"""

import numpy as np

from explore_gym.envs.bandits.policies import play
from explore_gym.envs.recommender.catalogue import RELEVANT
from explore_gym.envs.recommender.novelty_rec import SATURATION, TASTE
from explore_gym.envs.recommender.references import UserPlan

__all__ = ["ConstantNovelty", "Oracle", "Planner", "Popular", "Random", "play"]

LIKED, UNKNOWN = 0.5 * (RELEVANT + 1.0), 0.25  # affinity that is expected of topics before they have been shown
PRIOR = 2.0  # showings


class Policy:
    """What all recommenders share.

    Args:
        envs: a vector environment of NoveltyRec.
        seed: of the recommender's own random numbers.
    """

    def __init__(self, envs, seed=0):
        self.envs, self.model, self.num_envs = envs, envs.env, envs.num_envs
        self.params, self.shape = self.model.params[0], self.model.action_space.shape
        self.slots = self.shape[0] if self.shape else 1
        self.rng = np.random.default_rng(seed)

    def reset(self, mask):
        """All memory is in the observation."""

    def update(self, action, reward):
        """All memory is in the observation."""

    def part(self, obs, name):
        return obs[:, self.model.parts[name]].astype(np.float64)

    def counts(self, obs, name):
        """Counts (lanes, topics) from how they are observed."""
        share = self.part(obs, name)
        return np.round(float(SATURATION) * share / (1.0 - share))

    def novelties(self, obs):
        """1 - cosine with the nearest known topic, (lanes, items)."""
        known, closest = self.part(obs, "known"), np.zeros((len(obs), len(self.params["topic"])))
        for topic, cosines in enumerate(self.params["cosines"].T):
            np.maximum(closest, known[:, topic, None] * cosines, out=closest)
        return 1.0 - closest

    def utilities(self, obs, affinity, mood):
        """Logits of clicks (lanes, items), from affinities (lanes, topics) and moods, -1 to 1."""
        fatigue = self.params["fatigue"] / self.slots * self.counts(obs, "session_shown")
        taste = (TASTE * (affinity - 0.5) - fatigue)[:, self.params["topic"]]
        return taste + self.params["novelty_weight"] * mood * self.novelties(obs) + self.params["appeal"]

    def slate(self, scores):
        """Actions from scores (lanes, items): the best item of each of the best topics."""
        groups = self.params["ranking"]  # (topics, items)
        best = np.stack([group[scores[:, group].argmax(1)] for group in groups], 1)
        order = np.argsort(-np.take_along_axis(scores, best, 1), 1, kind="stable")
        order = order[:, np.arange(self.slots) % len(groups)]
        actions = order if self.params["by_topic"] else np.take_along_axis(best, order, 1)
        return actions if self.shape else actions[:, 0]


class Random(Policy):
    """Uniformly random actions."""

    def act(self, obs):
        choices = self.params["ranking"].shape[0] if self.params["by_topic"] else len(self.params["topic"])
        return self.rng.integers(choices, size=(self.num_envs, *self.shape))


class Popular(Policy):
    """The most popular items, or topics, in order; each session begins with the first."""

    def __init__(self, envs, seed=0):
        super().__init__(envs, seed)
        popularity = self.model.catalogue.popularity
        if self.params["by_topic"]:
            popularity = np.bincount(self.params["topic"], popularity)
        self.order = np.argsort(-popularity, kind="stable")

    def act(self, obs):
        steps = np.round(self.part(obs, "scalars")[:, 2] * self.model.state_dtype["drawn_choices"].shape[0]).astype(int)
        places = steps[:, None] * self.slots + np.arange(self.slots)
        actions = self.order[places % len(self.order)]
        return actions if self.shape else actions[:, 0]


class ConstantNovelty(Policy):
    """The most attractive items, if the user's mood is always to explore as much as `level` says: 0 focus, 1 explore.

    Affinities are estimated from the click rates of topics; level=0.5 leaves novelty out, which is greedy.
    """

    def __init__(self, envs, level=0.5, seed=0):
        super().__init__(envs, seed)
        self.level = level

    def act(self, obs):
        return self.slate(self.utilities(obs, self.affinity(obs), 2.0 * self.level - 1.0))

    def affinity(self, obs):
        """Affinities (lanes, topics) whose click rate is that observed, with PRIOR showings of what is expected."""
        expected = 1.0 / (1.0 + np.exp(-TASTE * (np.where(self.part(obs, "known") > 0.0, LIKED, UNKNOWN) - 0.5)))
        rate = (self.counts(obs, "clicked") + PRIOR * expected) / (self.counts(obs, "shown") + PRIOR)
        rate = np.clip(rate, 0.01, 0.99)
        return 0.5 + np.log(rate / (1.0 - rate)) / TASTE


class Oracle(ConstantNovelty):
    """The items of the best clicks, less what the risk of leaving costs, to a user whose mood it sees.

    It sees the user's affinities too if they are revealed, and estimates them otherwise.

    Args:
        patience: clicks that are lost if the user leaves.
    Raises:
        ValueError: the environment doesn't reveal the intent.
    """

    def __init__(self, envs, patience=4.0, seed=0):
        super().__init__(envs, seed=seed)
        if "intent" not in self.model.parts:
            raise ValueError(f"the oracle needs reveal=['intent'], got the parts {list(self.model.parts)}")
        self.patience = patience

    def act(self, obs):
        intent = self.part(obs, "intent")
        affinity = self.part(obs, "affinity") if "affinity" in self.model.parts else self.affinity(obs)
        click = 1.0 / (1.0 + np.exp(-self.utilities(obs, affinity, 2.0 * intent - 1.0)))
        leaving = self.params["leave"][1] * (1.0 - click) + self.params["leave"][2] * abs(self.novelties(obs) - intent)
        return self.slate(click - self.patience * leaving)


class Planner(Policy):
    """The best slates in a small world, from the `UserPlan` of each user."""

    def __init__(self, envs, seed=0):
        super().__init__(envs, seed)
        self.plans = [UserPlan(self.model, user) for user in range(len(self.model.users.novelty_seeking))]

    def act(self, obs):
        states, users = self.envs.get_state(), self.model.users
        same = (states["affinity"][:, None] == users.affinity).all(2) & (
            states["novelty_seeking"][:, None] == users.novelty_seeking
        )
        user, actions = same.argmax(1), np.zeros((self.num_envs, *self.shape), np.int64)
        for index, plan in enumerate(self.plans):
            actions[user == index] = plan.act(states[user == index])
        return actions
