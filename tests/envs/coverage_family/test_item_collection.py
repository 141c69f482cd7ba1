import numpy as np
import pytest

from explore_gym.envs.coverage.item_collection import ItemCollection, ItemCollectionVector, place_items


def test_every_item_lies_on_a_cell_of_its_own():
    weights = ItemCollection().weights[0]
    assert weights.sum(1).tolist() == [18, 14, 13, 16, 18, 14]
    assert set(weights.sum(0)) == {0.0, 1.0}
    assert (weights == place_items((18, 14, 13, 16, 18, 14), 105, [0, 0])).all()
    assert not (weights == ItemCollection(layout_seed=1).weights[0]).all()


def test_no_more_of_a_kind_count_than_are_needed():
    envs = ItemCollectionVector(num_envs=1, steps=200)
    _, info = envs.reset(seed=0)
    weights, collected, total = envs.env.weights[0], np.zeros(6), info["F"][0]
    collected[weights[:, 34] == 1] = 1
    for cell in range(105):
        kind = np.flatnonzero(weights[:, cell])
        useful = bool(len(kind)) and cell != 34 and collected[kind[0]] < (3, 2, 3, 4, 6, 3)[kind[0]]
        collected[kind] += cell != 34
        envs.set_state(cell=cell)
        _, reward, _, _, info = envs.step([0])
        assert reward[0] == useful
        total += reward[0]
        assert info["modular_reward"][0] == len(kind)
    assert info["F"][0] == total == 21.0
    assert info["coverage"][0] == 1.0


def test_counts_needs_and_contexts_are_arguments():
    envs = ItemCollectionVector(num_envs=1, counts=(3, 1), needed=(2, 1), shape=(2, 2), start=(0, 0), steps=4, num_contexts=4)
    obs, _ = envs.reset(seed=0)
    assert obs.shape == (1, 3 + 4 + 2 * 4)
    assert (obs[0, 7:] == envs.env.weights[envs.get_state()["context"][0]].ravel()).all()
    for cell in range(4):
        envs.set_state(cell=cell)
        info = envs.step([0])[4]
    assert info["F"][0] == 3.0  # two of the three items of a kind, one of the other


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(counts=(1, 2), needed=(1,)), r"a number for each of 1 to 7 kinds, got \(1, 2\) and \(1,\)"),
        (dict(counts=(), needed=()), "1 to 7 kinds"),
        (dict(counts=(0,), needed=(1,)), r"counts must be an integer in \[1, 105\], got 0"),
        (dict(counts=(3,), needed=(4,)), r"needed must be an integer in \[1, 3\], got 4"),
        (dict(counts=(60, 60), needed=(1, 1)), "counts must add up to at most 105 cells, got 120"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ItemCollection(**kwargs)


def test_the_drawing_shows_the_kinds_and_what_is_collected():
    env = ItemCollection(render_mode="ansi")
    env.reset(seed=0)
    rows = env.render().split("\n")
    letters = "".join(row[:15] for row in rows[:7])
    hidden = env.weights[0, :, 34].astype(int)  # under the walker
    assert np.array([letters.count(letter) for letter in "ABCDEF"]) + hidden == pytest.approx([18, 14, 13, 16, 18, 14])
    assert rows[2][4] == "@"
