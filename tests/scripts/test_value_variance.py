import json
from pathlib import Path

import gymnasium as gym
import pytest

import explore_gym  # noqa: F401  registers the ids
from explore_gym.scripts import value_variance

STORED = Path(__file__).parents[2] / "docs" / "papers" / "global_episodic_bonus" / "value_variance.json"


def test_variances_are_weighted_by_the_number_of_contexts():
    # 0.25 in two contexts and 0 in three; one context alone has no variance
    values = {0: [0.0, 1.0], 1: [0.5], 2: [0.2, 0.2, 0.2]}
    assert value_variance.variance_over_contexts(values) == pytest.approx(0.25 * 2 / 5)
    with pytest.raises(ValueError, match="no feature is shared by two contexts"):
        value_variance.variance_over_contexts({0: [1.0], 1: [0.5]})


def test_a_singleton_has_no_variance():
    args = value_variance.Args(num_contexts=3)
    kwargs = dict(corridors=3, length=4)
    assert value_variance.score("Explore/Corridors-v0", dict(num_contexts=1, **kwargs), "position", args) == pytest.approx(0.0)


def test_features_are_those_of_the_info():
    env = gym.make("Explore/Corridors-v0", corridors=3, length=4).unwrapped
    _, info = env.reset(seed=0)
    assert value_variance.FEATURES["position"](env.get_state().reshape(1)).tolist() == [info["cell"]]


def test_stored_scores_are_ordered_as_the_paper_explains_its_results():
    scores = json.loads(STORED.read_text())["scores"]
    corridors, keys, lava = (scores[env_id] for env_id, _, _ in value_variance.SETTINGS)
    assert corridors == pytest.approx(0.0, abs=1e-12)
    assert corridors < keys < lava


@pytest.mark.slow
def test_stored_scores_are_computed_again():
    stored = json.loads(STORED.read_text())
    args = value_variance.Args(num_contexts=stored["num_contexts"], gamma=stored["gamma"], seed=stored["seed"])
    for setting in value_variance.SETTINGS:
        assert value_variance.score(*setting, args) == pytest.approx(stored["scores"][setting[0]], rel=1e-9, abs=1e-12)


def test_page_states_the_stored_scores():
    scores, page = json.loads(STORED.read_text())["scores"], STORED.with_name("index.md").read_text()
    for env_id, _, feature in value_variance.SETTINGS:
        name = env_id.removeprefix("Explore/").removesuffix("-v0")
        (row,) = (line for line in page.splitlines() if line.startswith(f"| {name}"))
        assert [cell.strip() for cell in row.strip("|").split("|")][1:] == [feature, f"{round(scores[env_id], 12):.2g}"]
