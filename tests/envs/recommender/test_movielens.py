import numpy as np
import pytest

from explore_gym.envs.recommender.movielens import load_movielens
from explore_gym.envs.recommender.novelty_rec import NoveltyRec

FILMS = {  # film -> title, genres; drama is the most frequent genre, western the rarest
    "1": ("Plain, The", "Drama|Western"),
    "2": ("Tears", "Drama"),
    "3": ("Laughter", "Comedy|Drama"),
    "4": ("Jokes", "Comedy"),
    "5": ("Sorrow", "Drama"),
    "9": ("Nobody's", "Drama|War"),  # one rating only
}
STARS = {  # user -> film -> stars; the last two users have too few ratings, and the first two films then have 5 and 6
    "a": {"1": 5.0, "2": 4.5, "3": 4.0, "4": 1.0, "5": 2.0},
    "b": {"1": 0.5, "2": 1.0, "3": 4.0, "4": 5.0, "5": 3.5},
    "c": {"1": 3.0, "2": 4.0, "3": 3.0, "4": 3.0, "5": 4.0, "9": 5.0},
    "d": {"1": 2.0, "2": 3.0, "3": 2.0, "4": 1.0, "5": 3.0},
    "e": {"1": 3.0, "2": 3.0, "3": 1.0, "4": 2.0},
    "f": {"2": 5.0, "5": 1.0},
}
GENRES = ["unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"]
GENRES += ["Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"]


def write_csv(folder):
    films = "".join(f'{film},"{title}",{genres}\n' for film, (title, genres) in FILMS.items())
    (folder / "movies.csv").write_text("movieId,title,genres\n" + films)
    ratings = "".join(f"{user},{film},{stars},0\n" for user, rated in STARS.items() for film, stars in rated.items())
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + ratings)
    return folder / "ratings.csv"


def write_100k(folder):
    lines = ""
    for film, (title, genres) in FILMS.items():
        flags = "|".join(str(int(genre in genres.split("|"))) for genre in GENRES)
        lines += f"{film}|{title}|01-Jan-1995||http://example.org|{flags}\n"
    (folder / "u.item").write_text(lines + "10|Café|||" + "|0" * 19 + "\n", encoding="latin-1")
    ratings = "".join(f"{user}\t{film}\t{stars}\t0\n" for user, rated in STARS.items() for film, stars in rated.items())
    (folder / "u.data").write_text(ratings)
    return folder / "u.data"


@pytest.mark.parametrize("write", [write_csv, write_100k])
def test_films_become_items_and_their_rarest_genres_topics(tmp_path, write):
    catalogue, _ = load_movielens(write(tmp_path))
    assert catalogue.titles == ("Plain, The", "Tears", "Laughter", "Jokes", "Sorrow")  # the sixth has one rating
    assert catalogue.topic_names == ("Comedy", "Drama", "Western")
    assert catalogue.topic.tolist() == [2, 1, 0, 0, 1]
    assert catalogue.popularity.tolist() == [5, 6, 5, 5, 5]
    half = np.sqrt(0.5)
    expected = [[0, half, half], [0, 1, 0], [half, half, 0], [1, 0, 0], [0, 1, 0]]
    assert catalogue.embeddings == pytest.approx(np.array(expected))
    # the centre of comedy is the mean of films 3 and 4, and film 2 lies at half the angle from drama to it
    comedy = np.array([1 + half, half, 0]) / np.linalg.norm([1 + half, half, 0])
    assert catalogue.centres()[0] == pytest.approx(comedy)
    assert catalogue.cosines()[1] == pytest.approx([comedy[1], 1.0, half])


@pytest.mark.parametrize("write", [write_csv, write_100k])
def test_ratings_become_affinities_known_topics_and_novelty_seeking(tmp_path, write):
    _, users = load_movielens(write(tmp_path))
    assert users.affinity.shape == (4, 3)  # users e and f have fewer than five ratings
    # comedy: 3 of 8 ratings are high (films 3 and 4: those of a, b and b again); drama: 6 of 16; western: 1 of 4
    assert users.affinity[0] == pytest.approx([(1 + 5 * 3 / 8) / 7, (3 + 5 * 6 / 16) / 9, (1 + 5 / 4) / 6])
    assert users.affinity[1] == pytest.approx([(2 + 5 * 3 / 8) / 7, (1 + 5 * 6 / 16) / 9, (5 / 4) / 6])
    assert users.liked.tolist() == [[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0]]
    # entropies of the topics of films rated high: log 3, 0, 0 and 0 (d has none)
    assert users.novelty_seeking == pytest.approx([3.5 / 4, 1.5 / 4, 1.5 / 4, 1.5 / 4])


def test_the_environment_draws_its_users_from_the_file(tmp_path):
    env = NoveltyRec(file=str(write_csv(tmp_path)), popularity_weight=0.0)
    assert env.action_space.n == 5
    seen = set()
    for seed in range(40):
        _, info = env.reset(seed=seed)
        (user,) = np.flatnonzero((env.users.affinity == info["affinity"]).all(1))
        assert info["novelty_seeking"] == env.users.novelty_seeking[user]
        assert (env.get_state()["known"] == env.users.liked[user]).all()
        seen.add(int(user))
    assert seen == {0, 1, 2, 3}
    env.set_state(affinity=[0.0, 0.75, 0.0], known=[0.0, 1.0, 0.0], intent=1)
    _, _, _, _, info = env.step(1)
    assert info["novelty"] == 0.0
    assert info["click_probability"] == pytest.approx(np.exp(1.0) / (1.0 + np.exp(1.0)))  # 4 (0.75 - 0.5)


def edit(path, old, new):
    text = path.read_text(encoding="latin-1")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="latin-1")


@pytest.mark.parametrize(
    ("write", "file", "old", "new", "message"),
    [
        (
            write_csv,
            "ratings.csv",
            "userId,",
            "user,",
            "ratings.csv, line 1: the header must be userId,movieId,rating,timestamp",
        ),
        (write_csv, "ratings.csv", "a,1,5.0,0", "a,1,5.0", r"ratings.csv, line 2: expected 4 fields, got 3"),
        (write_csv, "ratings.csv", "a,1,5.0,0", "a,1,five,0", r"line 2: a rating must be 0.5, 1, ... 5, got 'five'"),
        (write_csv, "ratings.csv", "a,1,5.0,0", "a,1,6.0,0", "line 2: a rating must be"),
        (write_csv, "ratings.csv", "a,1,5.0,0", "a,77,5.0,0", "line 2: film '77' isn't in the file of films"),
        (write_csv, "ratings.csv", "a,2,4.5,0", "a,1,4.5,0", "line 3: user a has rated film 1 before"),
        (write_csv, "movies.csv", "2,", "1,", "movies.csv, line 3: film 1 is there twice"),
        (write_csv, "movies.csv", ",Drama\n", "\n", "movies.csv, line 3: expected 3 fields, got 2"),
        (write_100k, "u.data", "\t5.0\t", " 5.0 ", "u.data, line 1: expected 4 fields, got 2"),
        (write_100k, "u.item", "|1\n", "|2\n", "u.item, line 1: the last 19 fields must be 0 or 1"),
        (write_100k, "u.item", "|01-Jan-1995", "", "u.item, line 1: expected 24 fields, got 23"),
    ],
)
def test_malformed_lines_are_named(tmp_path, write, file, old, new, message):
    path = write(tmp_path)
    edit(tmp_path / file, old, new)
    with pytest.raises(ValueError, match=message):
        load_movielens(path)


def test_missing_files_and_too_few_ratings_are_named(tmp_path):
    path = write_csv(tmp_path)
    with pytest.raises(ValueError, match=r"must be a ratings.csv or u.data"):
        load_movielens(tmp_path / "ratings.parquet")
    with pytest.raises(FileNotFoundError, match=r"nowhere.csv|movies.csv"):
        load_movielens(tmp_path / "folder" / "nowhere.csv")
    lines = path.read_text().splitlines(True)
    path.write_text(lines[0])
    with pytest.raises(ValueError, match="films with at least 5 ratings must have two genres or more, got"):
        load_movielens(path)
    path.write_text("".join(lines).replace("4.0", "3.0").replace("4.5", "3.0").replace("5.0", "3.0"))
    with pytest.raises(ValueError, match="no user with at least 5 ratings has given 4 stars or more"):
        load_movielens(path)
    path.write_text("".join(lines))
    films = "".join(f"{film},a film,Comedy|Drama\n" for film in FILMS)
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n" + films)
    with pytest.raises(ValueError, match="all films have the topic 'Comedy', two topics or more are needed"):
        load_movielens(path)
