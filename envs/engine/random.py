"""Random draws for kernels: a SplitMix64 stream whose word lives in the state record.

The same word gives the same numbers on the CPU, on a GPU and in plain Python, whatever the batch size.
Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).
"""

import math

import numpy as np

from explore_gym.envs.engine.kernels import kernel

GAMMA = np.uint64(0x9E3779B97F4A7C15)
MIX_1, MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
U11, U27, U30, U31, U32 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)


@kernel
def mix(word):
    """SplitMix64's output function, a bijection of the 64-bit words."""
    word = (word ^ (word >> U30)) * MIX_1
    word = (word ^ (word >> U27)) * MIX_2
    return word ^ (word >> U31)


@kernel
def next_word(state):
    """The stream's next 64 random bits."""
    state.rng = state.rng + GAMMA
    return mix(state.rng)


@kernel
def seed_stream(state, seed, stream):
    """Start the state's stream afresh from two non-negative integers, as for a fixed set of layouts."""
    state.rng = mix(mix(np.uint64(seed) + GAMMA) + np.uint64(stream) * GAMMA)


@kernel
def uniform(state, low, high):
    """A float64 in [low, high), from 53 random bits."""
    return low + (high - low) * (np.float64(next_word(state) >> U11) * 2.0**-53)


@kernel
def randint(state, n):
    """An int64 in 0..n-1, for n < 2**32; its bias is below n / 2**32."""
    return np.int64(((next_word(state) >> U32) * np.uint64(n)) >> U32)


@kernel
def bernoulli(state, p):
    """True with probability p."""
    return uniform(state, 0.0, 1.0) < p


@kernel
def categorical(state, cumulative):
    """An index drawn with the given cumulative probabilities, a vector that ends at 1."""
    u = uniform(state, 0.0, 1.0)
    index = 0
    while index < cumulative.shape[0] - 1 and u >= cumulative[index]:
        index += 1
    return index


@kernel
def normal(state):
    """A standard normal float64 (Box and Muller, 1958); uses two words of the stream."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(state, 0.0, 1.0)))
    return radius * math.cos(2.0 * math.pi * uniform(state, 0.0, 1.0))


def initial_words(seeds):
    """The random words of lanes with these seeds: uint64 (num_envs,) from uint64 (num_envs,)."""
    with np.errstate(over="ignore"):  # 64-bit arithmetic wraps by design
        word = np.asarray(seeds, np.uint64) + GAMMA
        word = (word ^ (word >> U30)) * MIX_1
        word = (word ^ (word >> U27)) * MIX_2
        return word ^ (word >> U31)
