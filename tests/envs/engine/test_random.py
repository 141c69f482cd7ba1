"""The random stream: published numbers, laws of the draws, independence of batches."""

import math

import numpy as np
import pytest

from explore_gym.envs.engine import bernoulli, categorical, normal, randint, seed_stream, state_dtype, uniform
from explore_gym.envs.engine.kernels import kernel
from explore_gym.envs.engine.random import initial_words, next_word

N = 20_000


def record(word=0):
    state = np.zeros(1, state_dtype())
    state["rng"] = word
    return state


@kernel
def fill(state, kind, p, table, out):
    s = state[0]
    for i in range(out.shape[0]):
        if kind == 0:
            out[i] = uniform(s, 2.0, 4.0)
        elif kind == 1:
            out[i] = randint(s, 7)
        elif kind == 2:
            out[i] = bernoulli(s, p)
        elif kind == 3:
            out[i] = normal(s)
        else:
            out[i] = categorical(s, table)


@kernel
def words(state, out):
    for i in range(out.shape[0]):
        out[i] = next_word(state[0])


@kernel
def restart(state, seed, stream):
    seed_stream(state[0], seed, stream)


def draws(kind, p=0.3, table=(1.0,)):
    out = np.empty(N)
    fill(record(12345), kind, p, np.array(table), out)
    return out


def test_splitmix64_gives_the_published_numbers():
    out = np.empty(3, np.uint64)
    words(record(0), out)
    assert [hex(w) for w in out] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4", "0x6c45d188009454f"]


def test_uniform_fills_its_range_evenly():
    x = draws(0)
    assert x.min() >= 2.0 and x.max() < 4.0
    counts = np.histogram(x, 20, (2.0, 4.0))[0]
    assert ((counts - N / 20) ** 2 / (N / 20)).sum() < 43.8  # chi-square, 19 degrees of freedom, p = 0.001


def test_randint_is_uniform():
    counts = np.bincount(draws(1).astype(int), minlength=7)
    assert len(counts) == 7 and ((counts - N / 7) ** 2 / (N / 7)).sum() < 22.5  # 6 degrees of freedom, p = 0.001


def test_bernoulli_has_its_probability():
    assert draws(2).mean() == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / N))


def test_categorical_has_its_probabilities():
    counts = np.bincount(draws(4, table=(0.1, 0.1, 0.6, 1.0)).astype(int), minlength=4) / N
    assert counts[1] == 0.0
    assert counts == pytest.approx([0.1, 0.0, 0.5, 0.4], abs=4 * 0.5 / math.sqrt(N))


def test_normal_has_the_moments_of_a_standard_normal():
    x = draws(3)
    assert x.mean() == pytest.approx(0.0, abs=4 / math.sqrt(N))
    assert x.var() == pytest.approx(1.0, abs=4 * math.sqrt(2 / N))
    assert (x**4).mean() == pytest.approx(3.0, abs=4 * math.sqrt(96 / N))
    assert np.corrcoef(x[:-1], x[1:])[0, 1] == pytest.approx(0.0, abs=4 / math.sqrt(N))


def test_neighbouring_seeds_give_unrelated_words():
    word = initial_words(np.arange(1000))
    bits = np.unpackbits(word.view(np.uint8)).reshape(1000, 64).astype(float)
    assert len(np.unique(word)) == 1000
    assert np.abs(np.diff(bits, axis=0)).mean() == pytest.approx(0.5, abs=0.01)


def test_a_stream_is_a_function_of_seed_and_index():
    states = [record(w) for w in (1, 2, 3)]
    restart(states[0], 7, 1)
    restart(states[1], 7, 1)
    restart(states[2], 7, 2)
    assert states[0]["rng"] == states[1]["rng"] != states[2]["rng"]
