"""How many noisy answers a pure exploration problem takes: its complexity C(theta), from information-theoretic lower bounds.

The answer to a problem is the hypothesis z of the largest value <z, theta>. Queries x return <x, theta> plus noise of
variance at most 1. Whoever splits the queries in proportions lambda can't tell the best hypothesis z* from another one z
before about norm(z* - z)^2 / <z* - z, theta>^2 of them, A(lambda) = sum_x lambda_x x x', so that

    C(theta) = min over lambda of max over z != z* of norm(z* - z)^2 / <z* - z, theta>^2, norm(y)^2 = y' A(lambda)^-1 y.

C scales like a noise variance: C(c theta) = C(theta) / c^2, so a class {theta: C(theta) <= r} is left and entered by scaling.
Source: Fiez et al., 2019, arXiv:1906.08399 (the transductive linear form); Zhang, Jain and Jamieson, 2020, arXiv:2010.15382
(classes of problems by C); Torsney, 1983, "A moment inequality and monotonicity of an algorithm" (the multiplicative step).
"""

from typing import NamedTuple

import numpy as np

RATE = 0.5  # of the optimistic exponential weights in a matrix game with entries of at most 1
MIN_SHARE = 1e-9  # of a query in an allocation
MIN_GAP = 1e-3  # values closer than this count as this far apart: C is infinite for tied best hypotheses


class Complexity(NamedTuple):
    """C(theta) with its certificate.

    value: the largest ratio under `allocation`, an upper bound on C(theta), above it by at most the tolerance.
    lower: a lower bound on C(theta), from the dual.
    allocation: (queries,) proportions lambda that reach `value`.
    gradient: (d,) of `value` in theta, by Danskin's theorem: that of the worst hypothesis under the fixed allocation.
    """

    value: float
    lower: float
    allocation: np.ndarray
    gradient: np.ndarray


def best_arm_complexity(theta):
    """sum over suboptimal arms of 1 / gap^2, (...) from means (..., arms); see `MIN_GAP`.

    The transductive form with queries = hypotheses = arms lies between this sum and twice it (Garivier and Kaufmann, 2016,
    arXiv:1602.04589, whose characteristic time is 2 C(theta) for unit variance).
    """
    ordered = np.sort(np.asarray(theta, np.float64), -1)
    gaps = np.maximum(ordered[..., -1:] - ordered[..., :-1], MIN_GAP)
    return (1.0 / gaps**2).sum(-1)


def transductive_complexity(queries, hypotheses, theta, offsets=None, tolerance=1e-3, max_steps=20_000):
    """C(theta) of the transductive linear problem, a `Complexity`.

    Exponential weights on the hypotheses play against multiplicative steps on the allocation. For weights w over the
    hypotheses, f(lambda) = sum_z w_z y_z' A^-1 y_z is convex and homogeneous of degree -1, so f(lambda)^2 / max_x g_x with
    g = -gradient of f is a lower bound on its minimum and on C(theta); the loop stops when both bounds agree.

    Args:
        queries: (queries, d) of rank d, divided by the noise's sd.
        hypotheses: (hypotheses, d).
        theta: (d,).
        offsets: (hypotheses,) known parts of the hypotheses' values; None: 0.
        tolerance: largest relative distance of the two bounds.
    Raises:
        ValueError: shapes disagree, fewer than two hypotheses, or queries of a lower rank than d.
        RuntimeError: the bounds still differ after max_steps.
    """
    X, Z, theta = np.asarray(queries, np.float64), np.asarray(hypotheses, np.float64), np.asarray(theta, np.float64)
    if theta.ndim != 1 or X.ndim != 2 or Z.ndim != 2 or X.shape[1] != len(theta) or Z.shape[1] != len(theta):
        raise ValueError(f"expected queries (n, d), hypotheses (m, d), theta (d,), got {X.shape}, {Z.shape}, {theta.shape}")
    if len(Z) < 2:
        raise ValueError(f"expected at least two hypotheses, got {len(Z)}")
    if np.linalg.matrix_rank(X) < len(theta):
        raise ValueError(f"queries must be of rank {len(theta)}, got rank {np.linalg.matrix_rank(X)}")
    values = Z @ theta + (0.0 if offsets is None else np.asarray(offsets, np.float64))
    best = values.argmax()
    others = np.arange(len(Z)) != best
    gaps = np.maximum(values[best] - values[others], MIN_GAP)
    Y = (Z[best] - Z[others]) / gaps[:, None]
    allocation, log_weights = np.full(len(X), 1.0 / len(X)), np.zeros(len(Y))
    upper, lower = np.inf, 0.0
    for step in range(max_steps):
        solved = np.linalg.solve((X.T * allocation) @ X, Y.T)  # A^-1 y, (d, hypotheses)
        ratios = (Y.T * solved).sum(0)
        if ratios.max() < upper:
            upper, best_allocation, worst = ratios.max(), allocation, ratios.argmax()
            gradient = -2.0 * upper / gaps[worst] * (Z[best] - Z[others][worst])
        log_weights += (ratios / ratios.max() - 1.0) * min(1.0, 4.0 / np.sqrt(step + 1.0))
        weights = np.exp(log_weights - log_weights.max())
        weights /= weights.sum()
        information = (X @ solved) ** 2 @ weights  # g, (queries,)
        lower = max(lower, (weights @ ratios) ** 2 / information.max())
        if upper <= lower * (1.0 + tolerance):
            return Complexity(float(upper), float(lower), best_allocation, gradient)
        allocation = np.maximum(allocation * np.sqrt(information), MIN_SHARE)  # keeps A regular
        allocation /= allocation.sum()
    raise RuntimeError(f"the bounds {lower} and {upper} still differ by more than {tolerance} after {max_steps} steps")


def hypothesis_complexity(divergences, tolerance=1e-3, max_steps=100_000):
    """Least expected number of answers per unit of log-evidence against the hardest wrong hypothesis, a pair of bounds.

    max over allocations of min over hypotheses of sum_x lambda_x d[z, x] is the value of a matrix game (Chernoff, 1959);
    the complexity is its inverse. Exponential weights on both sides; bounds are those of the averaged weights.

    Args:
        divergences: (hypotheses, queries) KL divergences of the true hypothesis's answers from each wrong one's.
    Returns:
        (lower, upper) bounds on the complexity.
    Raises:
        ValueError: an entry is negative or not finite, or a hypothesis differs in no query, which makes C infinite.
        RuntimeError: the bounds still differ by more than the tolerance (relative) after max_steps.
    """
    D = np.asarray(divergences, np.float64)
    if D.ndim != 2 or not np.isfinite(D).all() or D.min() < 0.0 or not D.any(1).all():
        raise ValueError(f"divergences must be finite, >= 0 and positive somewhere in each row, got {D}")
    scale = D.max()
    D = D / scale
    row_gains, column_gains = np.zeros(len(D)), np.zeros(D.shape[1])
    rows, columns = np.zeros(len(D)), np.zeros(D.shape[1])
    row, column = np.full(len(D), 1.0 / len(D)), np.full(D.shape[1], 1.0 / D.shape[1])
    for step in range(1, max_steps + 1):
        rows, columns = rows + step * row, columns + step * column  # later steps count more
        total = step * (step + 1) / 2
        low, high = (D @ columns).min() / total, (rows @ D).max() / total
        if low > 0.0 and high <= low * (1.0 + tolerance):
            return float(1.0 / (scale * high)), float(1.0 / (scale * low))
        row_loss, column_gain = D @ column, row @ D
        row_gains, column_gains = row_gains + row_loss, column_gains + column_gain
        # optimistic: the last round counts twice, which converges like 1 / step in zero-sum games
        row = softmax(-RATE * (row_gains + row_loss))
        column = softmax(RATE * (column_gains + column_gain))
    raise RuntimeError(f"the bounds {low * scale} and {high * scale} on the game's value still differ after {max_steps} steps")


def softmax(x):
    weights = np.exp(x - x.max())
    return weights / weights.sum()
