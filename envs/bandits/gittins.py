"""Gittins indices: for each arm alone the sure reward per pull that is worth as much as the arm, by calibration.

With discount gamma, the policy that pulls the arm of the highest index maximises the expected discounted reward of
independent arms. The index of a state is the known reward at which pulling on, with the choice of retiring to the known
arm later, is worth exactly as much as retiring now. It is found by dynamic programming over the arm's posteriors up to a
horizon, where two bounds on the rest close the recursion: an arm of posterior mean m and variance v is worth at least
max(m, known) and at most that + (sqrt(v + d^2) - d) / 2, d = abs(m - known) (Scarf, 1958), per pull for ever.
Source: Gittins, Glazebrook and Weber, 2011, "Multi-armed bandit allocation indices", chapters 7 and 8.
"""

import math

import numpy as np

STEPS = 24  # of bisection
GRID, REACH = 1201, 6.0  # posterior means of a Gaussian arm: points, and standard deviations to either side
NODES, MIN_NODES = 400, 31  # of the integral over the next posterior mean at precision 1, where it moves most


def check_discount(gamma):
    if not (np.isscalar(gamma) and 0.0 <= gamma < 1.0):
        raise ValueError(f"gamma must lie in [0, 1), got {gamma!r}")


def scarf(variance, distance):
    """Upper bound on what choosing between a sure amount and one with this variance gains, at this distance of means."""
    return 0.5 * (np.sqrt(variance + distance**2) - np.abs(distance))


def bernoulli_advantage(known, a, b, gamma, horizon, size=1, informed=False):
    """Worth of pulling on - worth of retiring now, of the states with fewer than `size` pulls since Beta(a, b).

    Args:
        known: (...) rewards of the known arm.
        informed: whether the rest behind the horizon takes its upper bound, else its lower one.
    Returns:
        (..., size, size) by successes and failures since then; NaN where they sum to size or more.
    """
    known = np.asarray(known, np.float64)[..., None]
    retire = known / (1.0 - gamma)
    advantage = np.full((*known.shape[:-1], size, size), np.nan)
    values = None
    for pulls in range(horizon, -1, -1):
        successes = np.arange(pulls + 1)
        mean = (a + successes) / (a + b + pulls)
        if values is None:
            variance = mean * (1.0 - mean) / (a + b + pulls + 1.0)
            gain = scarf(variance, mean - known) if informed else 0.0
            values = (np.maximum(mean, known) + gain) / (1.0 - gamma)
            continue
        pull = mean * (1.0 + gamma * values[..., 1:]) + (1.0 - mean) * gamma * values[..., :-1]
        if pulls < size:
            advantage[..., successes, pulls - successes] = pull - retire
        values = np.maximum(pull, retire)
    return advantage


def bernoulli_gittins(a, b, gamma, tolerance=1e-4):
    """Bounds (lower, upper), no further apart than the tolerance, on the index of a Bernoulli arm with posterior Beta(a, b).

    Raises:
        ValueError: a or b isn't positive, or gamma isn't in [0, 1).
    """
    check_discount(gamma)
    if not (a > 0.0 and b > 0.0):
        raise ValueError(f"a and b must be > 0, got {a!r} and {b!r}")
    horizon = 16
    while True:
        low, high = (bisect(a, b, gamma, horizon, informed) for informed in (False, True))
        if high - low <= tolerance:
            return low, high
        horizon *= 2


def bisect(a, b, gamma, horizon, informed):
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        if bernoulli_advantage(middle, a, b, gamma, horizon, informed=informed)[0, 0] > 0.0:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def bernoulli_gittins_table(size, gamma, prior=(1.0, 1.0), points=1001):
    """Indices (size, size) by successes and failures, NaN where they sum to size or more, accurate to about 1e-4.

    One recursion for each of many known rewards, `points` in [0, 1], gives the advantage of all states, and its zero is
    interpolated. The lower bound on the rest takes over 4 / (1 - gamma) pulls behind the last ones in the table.
    """
    check_discount(gamma)
    known = 0.5 - 0.5 * np.cos(np.linspace(0.0, np.pi, points))  # closer at the ends, where indices are
    horizon = size + math.ceil(4.0 / (1.0 - gamma))
    parts = np.array_split(known, 20)  # which need less memory one after the other
    advantage = np.concatenate([bernoulli_advantage(part, *prior, gamma, horizon, size) for part in parts])
    positive = advantage > 0.0
    last = points - 1 - positive[::-1].argmax(0)  # the last known reward that is worth less
    last = np.minimum(last, points - 2)
    above, below = (np.take_along_axis(advantage, index[None], 0)[0] for index in (last, last + 1))
    index = known[last] + above / (above - below) * (known[last + 1] - known[last])
    return np.where(np.isnan(advantage[0]), np.nan, index)


def gaussian_gittins(size, gamma, precision=1.0):
    """Indices (size,) of a Gaussian arm with posterior mean 0 and precision `precision` + 0, 1, 2 ... in units of the noise.

    Rewards are N(mu, 1) and mu ~ N(m, 1 / n): the index is m + indices[k] with n = precision + k. With noise sd s and prior
    sd p it is m + s * indices[k] at precision s^2 / p^2. The recursion runs over m sqrt(n) on a grid, the known reward is 0,
    and 5 / (1 - gamma) pulls behind the last index an arm is worth its mean; errors are about 1e-4.

    Raises:
        ValueError: gamma isn't in [0, 1) or the precision isn't positive.
    """
    check_discount(gamma)
    if not precision > 0.0:
        raise ValueError(f"precision must be > 0, got {precision!r}")
    grid = np.linspace(-REACH, REACH, GRID)  # standardised posterior means
    indices, extra = np.zeros(size), math.ceil(5.0 / (1.0 - gamma))
    option = np.zeros(GRID)  # worth of the state - max(mean, 0) / (1 - gamma), which vanishes on both sides
    for k in range(size + extra - 1, -1, -1):
        n = precision + k
        mean = grid / math.sqrt(n)
        z = np.linspace(-REACH, REACH, max(int(NODES / math.sqrt(n)), MIN_NODES))
        weights = np.exp(-0.5 * z**2) / np.exp(-0.5 * z**2).sum()
        after = mean[:, None] + z / math.sqrt(n * (n + 1.0))  # posterior means one pull later
        worth = np.maximum(after, 0.0) / (1.0 - gamma) + np.interp(after * math.sqrt(n + 1.0), grid, option, 0.0, 0.0)
        pull = mean + gamma * worth @ weights
        if k < size:
            indices[k] = -np.interp(0.0, pull, mean)
        option = np.maximum(pull, 0.0) - np.maximum(mean, 0.0) / (1.0 - gamma)
    return indices
