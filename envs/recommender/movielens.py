"""Catalogue and users from ratings of films in MovieLens' format, in files on this machine.

Two forms are read: ratings.csv with movies.csv beside it (MovieLens Latest, 20M, 25M, 32M: comma-separated, with a header,
half stars), and u.data with u.item beside it (100K: separated by tabs and by bars, without header). What is made of them is
this suite's own model of the data:

- Catalogue: the MAX_ITEMS films with the most ratings (at least MIN_RATINGS). A film's embedding is the vector of its genres,
  of length 1, its topic the rarest of them in the catalogue, its popularity its number of ratings.
- Users: those with at least MIN_RATINGS ratings of films of the catalogue. Their affinity to a topic is the share of ratings
  >= LIKED among those of films of that genre, with PRIOR ratings of the average user added; the NUM_LIKED topics in which
  they gave most of these high ratings are known. Novelty seeking is the entropy of the topics of the films so rated, as a
  rank among users in (0, 1).

Source: Harper and Konstan, 2015, "The MovieLens datasets: history and context".
"""

import csv
from pathlib import Path

import numpy as np

from explore_gym.envs.recommender.catalogue import Catalogue, Users

MAX_ITEMS = 2000
MIN_RATINGS = 5  # of a film, and of a user
LIKED = 4.0  # stars
PRIOR = 5.0  # ratings
NUM_LIKED = 3  # topics
STARS = np.arange(0.5, 5.5, 0.5)
NO_GENRE = "(no genres listed)"
GENRES_100K = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]


def load_movielens(path):
    """Returns `Catalogue` and `Users`.

    Args:
        path: of ratings.csv or u.data; movies.csv or u.item lies beside it.
    Raises:
        FileNotFoundError: one of the two isn't there.
        ValueError: the name has another ending, a line is malformed, or too few ratings are left.
    """
    path = Path(path)
    if path.suffix == ".csv":
        films, ratings = read_movies_csv(path.with_name("movies.csv")), read_ratings_csv(path)
    elif path.suffix == ".data":
        films, ratings = read_items_100k(path.with_name("u.item")), read_ratings_100k(path)
    else:
        raise ValueError(f"file must be a ratings.csv or u.data of MovieLens, got {str(path)!r}")
    user, film, stars = index_ratings(path, ratings, films)
    return build(path, user, film, stars, list(films.values()))


def read_ratings_csv(path):
    """Rows (line number, user, film, stars), as strings."""
    return [(line, *row[:3]) for line, row in read_csv(path, ["userId", "movieId", "rating", "timestamp"])]


def read_movies_csv(path):
    """Film -> (title, genres)."""
    films = {}
    for line, (film, title, genres) in read_csv(path, ["movieId", "title", "genres"]):
        add_film(films, path, line, film, title, tuple(genres.split("|")) if genres else (NO_GENRE,))
    return films


def read_csv(path, header):
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        first = next(reader, None)
        if first != header:
            raise ValueError(f"{path}, line 1: the header must be {','.join(header)}, got {first}")
        for row in reader:
            if len(row) != len(header):
                raise ValueError(f"{path}, line {reader.line_num}: expected {len(header)} fields, got {len(row)}: {row}")
            yield reader.line_num, row


def read_ratings_100k(path):
    return [(line, *row[:3]) for line, row in read_separated(path, "\t", 4)]


def read_items_100k(path):
    films = {}
    for line, row in read_separated(path, "|", 5 + len(GENRES_100K)):
        if not set(row[5:]) <= {"0", "1"}:
            raise ValueError(f"{path}, line {line}: the last {len(GENRES_100K)} fields must be 0 or 1, got {row[5:]}")
        genres = tuple(genre for genre, flag in zip(GENRES_100K, row[5:]) if flag == "1")
        add_film(films, path, line, row[0], row[1], genres or (NO_GENRE,))
    return films


def read_separated(path, separator, count):
    with open(path, encoding="latin-1") as file:
        for line, text in enumerate(file, 1):
            row = text.rstrip("\n").split(separator)
            if len(row) != count:
                raise ValueError(f"{path}, line {line}: expected {count} fields, got {len(row)}: {text.rstrip()!r}")
            yield line, row


def add_film(films, path, line, film, title, genres):
    if film in films:
        raise ValueError(f"{path}, line {line}: film {film} is there twice")
    films[film] = title, genres


def index_ratings(path, ratings, films):
    """Users and films as indices from 0, int64, and stars, float64; each (ratings,)."""
    users, rows, seen = {}, {film: i for i, film in enumerate(films)}, set()
    table = np.zeros((len(ratings), 3))
    for i, (line, user, film, stars) in enumerate(ratings):
        try:
            value = float(stars)
        except ValueError:
            value = -1.0
        if value not in STARS:
            raise ValueError(f"{path}, line {line}: a rating must be 0.5, 1, ... 5, got {stars!r}")
        if film not in rows:
            raise ValueError(f"{path}, line {line}: film {film!r} isn't in the file of films")
        if (user, film) in seen:
            raise ValueError(f"{path}, line {line}: user {user} has rated film {film} before")
        seen.add((user, film))
        table[i] = users.setdefault(user, len(users)), rows[film], value
    return table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2]


def build(path, user, film, stars, films):
    counts = np.bincount(film, minlength=len(films))
    kept = np.argsort(-counts, kind="stable")[:MAX_ITEMS]
    kept = np.sort(kept[counts[kept] >= MIN_RATINGS])
    genres = sorted({genre for i in kept for genre in films[i][1]})
    if len(genres) < 2:
        raise ValueError(f"{path}: films with at least {MIN_RATINGS} ratings must have two genres or more, got {genres}")
    has = np.array([[genre in films[i][1] for genre in genres] for i in kept], np.float64)
    rarity = np.where(has > 0.0, has.sum(0), np.inf)
    names, topic = np.unique(rarity.argmin(1), return_inverse=True)  # genres that are a film's rarest
    if len(names) < 2:
        raise ValueError(f"{path}: all films have the topic {genres[names[0]]!r}, two topics or more are needed")
    catalogue = Catalogue(
        has / np.linalg.norm(has, axis=1, keepdims=True),
        topic.astype(np.int64),
        counts[kept].astype(np.float64),
        tuple(genres[i] for i in names),
        tuple(films[i][0] for i in kept),
    )
    index = np.full(len(films), -1)
    index[kept] = np.arange(len(kept))
    rated = index[film] >= 0
    user, item, positive = user[rated], index[film[rated]], stars[rated] >= LIKED
    many = np.flatnonzero(np.bincount(user, minlength=1) >= MIN_RATINGS)
    chosen = np.isin(user, many)
    if not (chosen & positive).any():
        raise ValueError(f"{path}: no user with at least {MIN_RATINGS} ratings has given {LIKED:g} stars or more")
    user, item, positive = np.searchsorted(many, user[chosen]), item[chosen], positive[chosen]
    return catalogue, make_users(user, item, positive, has[:, names], catalogue.topic)


def make_users(user, item, positive, member, topic):
    """Users from ratings (ratings,), whose films have genres `member` (items, topics) and topics (items,)."""
    num_users, topics = user.max() + 1, member.shape[1]
    rated, high, liked_films = (np.zeros((num_users, topics)) for _ in range(3))
    np.add.at(rated, user, member[item])
    np.add.at(high, user[positive], member[item[positive]])
    np.add.at(liked_films, (user[positive], topic[item[positive]]), 1.0)
    average = high.sum(0) / np.maximum(rated.sum(0), 1.0)
    affinity = (high + PRIOR * average) / (rated + PRIOR)
    order = np.argsort(-liked_films, 1, kind="stable")[:, :NUM_LIKED]
    liked = np.zeros((num_users, topics), np.uint8)
    np.put_along_axis(liked, order, 1, 1)
    liked[liked_films == 0.0] = 0
    share = liked_films / np.maximum(liked_films.sum(1, keepdims=True), 1.0)
    entropy = -(share * np.log(np.where(share > 0.0, share, 1.0))).sum(1)
    below, ties = (entropy[:, None] > entropy).sum(1), (entropy[:, None] == entropy).sum(1)
    return Users(affinity, liked, (below + 0.5 * ties) / num_users)
