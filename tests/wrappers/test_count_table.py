"""`CountTable` counts as a dictionary does; keys are read from the info or made by a function."""

from collections import Counter

import numpy as np
import pytest

from explore_gym.wrappers.count_table import CountTable, check_key, read_keys


def test_counts_as_a_dictionary_does():
    rng, table, counter = np.random.default_rng(0), CountTable(), Counter()
    for size in [1, 0, 200, *rng.integers(0, 60, 200)]:
        owners = rng.integers(0, 3, size)
        keys = rng.choice([rng.integers(-30, 30, size), rng.integers(-(2**63), 2**63 - 1, size)])
        counts = table.add(owners, keys)
        pairs = list(zip(owners.tolist(), keys.tolist()))
        counter.update(pairs)
        assert counts.tolist() == [counter[pair] for pair in pairs]
    assert len(table) == len(counter) > 2000
    entries = zip(*(part.tolist() for part in table.entries()))
    assert {(owner, key): count for owner, key, count in entries} == dict(counter)


def test_owners_that_are_gone_are_dropped_and_the_table_stays_small():
    table = CountTable()
    for episode in range(1000):
        alive = np.full(8, episode)
        assert table.add(alive, np.arange(8), alive=alive).tolist() == [1] * 8
        assert table.add(alive, np.arange(8), alive=alive).tolist() == [2] * 8
    assert len(table.counts) <= 128


def test_keys_of_lanes():
    lanes, info = np.array([True, False, True]), {"cell": np.array([4, 5, 6], np.int32), "_cell": np.array([True, False, True])}
    assert read_keys("cell", None, info, lanes).tolist() == [4, 6]
    assert read_keys(lambda obs, info: obs + info["cell"], np.array([1, 1, 2]), info, lanes).tolist() == [5, 8]
    with pytest.raises(ValueError, match=r"info must have 'cell' for every lane, it has \['cell'\]"):
        read_keys("cell", None, info, ~lanes)
    with pytest.raises(ValueError, match=r"info must have 'place' for every lane, it has \['cell'\]"):
        read_keys("place", None, info, lanes)
    with pytest.raises(ValueError, match=r"keys must be integers of shape \(3,\), got float64 \(3,\)"):
        read_keys(lambda obs, info: np.ones(3), None, info, lanes)
    with pytest.raises(ValueError, match=r"key must name an entry of the info or be a function of \(obs, info\), got 3"):
        check_key(3)
