"""Catalogues of items and tables of users: what a recommender's world is made of, drawn here or read from files.

A topic's centre is the mean of its items' embeddings, of length 1, and the cosines of items with centres are all that
users perceive of embeddings.
"""

from dataclasses import dataclass

import numpy as np

from explore_gym.envs.bandits.checks import check_integer

RELEVANT = 0.5  # affinity of topics that a user likes, at least


@dataclass(frozen=True)
class Catalogue:
    """Items with one topic each.

    Attributes:
        embeddings: float64 (items, dimension), of length 1.
        topic: int64 (items,), 0..topics-1; every topic has an item.
        popularity: float64 (items,) > 0, such as numbers of ratings.
        topic_names: one string for each topic; titles: one for each item.
    """

    embeddings: np.ndarray
    topic: np.ndarray
    popularity: np.ndarray
    topic_names: tuple[str, ...]
    titles: tuple[str, ...]

    def centres(self):
        """float64 (topics, dimension), of length 1."""
        sums = np.zeros((len(self.topic_names), self.embeddings.shape[1]))
        np.add.at(sums, self.topic, self.embeddings)
        return sums / np.linalg.norm(sums, axis=1, keepdims=True)

    def cosines(self):
        """float64 (items, topics), of items with centres; negative ones are 0."""
        return np.clip(self.embeddings @ self.centres().T, 0.0, 1.0)

    def scores(self):
        """float64 (items,): standardised logarithms of popularity, 0 if all items are equally popular."""
        logs = np.log(self.popularity)
        return (logs - logs.mean()) / (logs.std() or 1.0)

    def ranking(self):
        """int32 (topics, largest topic): items of each topic, most popular first, over again where it has fewer."""
        order = np.argsort(-self.popularity, kind="stable")
        groups = [order[self.topic[order] == topic] for topic in range(len(self.topic_names))]
        return np.array([np.resize(group, max(map(len, groups))) for group in groups], np.int32)


@dataclass(frozen=True)
class Users:
    """Users to draw from, in place of users drawn from the simulator's own laws.

    Attributes:
        affinity: float64 (users, topics) in [0, 1]; liked: uint8 (users, topics), 1 for topics that the user knows from the
            start; novelty_seeking: float64 (users,) in [0, 1].
    """

    affinity: np.ndarray
    liked: np.ndarray
    novelty_seeking: np.ndarray


def draw_catalogue(topics, items_per_topic, dimension, spread, model_seed):
    """Topics uniform on the unit sphere, items around them, popularity log-normal.

    An item's embedding is its topic's point + spread * N(0, I / dimension), scaled to length 1.
    """
    rng = np.random.default_rng(model_seed)
    points = rng.standard_normal((topics, dimension))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    topic = np.arange(topics).repeat(items_per_topic)
    embeddings = points[topic] + spread / np.sqrt(dimension) * rng.standard_normal((len(topic), dimension))
    return Catalogue(
        embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True),
        topic,
        np.exp(rng.standard_normal(len(topic))),
        tuple(f"topic {i}" for i in range(topics)),
        tuple(f"item {i}" for i in range(len(topic))),
    )


def users_from(table, topics):
    """Users from a list of dicts {"affinity": [topics numbers], "liked": [topics], "novelty_seeking": number}.

    Raises:
        ValueError: an entry has other keys, or a value out of range.
    """
    keys = {"affinity", "liked", "novelty_seeking"}
    if not (
        isinstance(table, list | tuple) and table and all(isinstance(user, dict) and user.keys() == keys for user in table)
    ):
        raise ValueError(f"users must be a list of dicts with the keys {sorted(keys)}, got {table!r}")
    affinity, liked = np.zeros((len(table), topics)), np.zeros((len(table), topics), np.uint8)
    seeking = np.zeros(len(table))
    for i, user in enumerate(table):
        values = np.asarray(user["affinity"], np.float64)
        if values.shape != (topics,) or not ((values >= 0.0) & (values <= 1.0)).all():
            raise ValueError(f"affinity of user {i} must be {topics} numbers in [0, 1], got {user['affinity']!r}")
        if not 0.0 <= user["novelty_seeking"] <= 1.0:
            raise ValueError(f"novelty_seeking of user {i} must lie in [0, 1], got {user['novelty_seeking']!r}")
        for topic in user["liked"]:
            check_integer(f"a liked topic of user {i}", topic, 0, topics - 1)
            liked[i, topic] = 1
        affinity[i], seeking[i] = values, user["novelty_seeking"]
    return Users(affinity, liked, seeking)
