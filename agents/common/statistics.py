"""Interquartile means over runs and their bootstrap intervals (Agarwal et al., 2021, arXiv:2108.13264)."""

from __future__ import annotations

import numpy as np

REPLICAS = 20_000
LEVEL = 0.95


def iqm(scores: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Mean of the middle half: a quarter of the values, rounded down, is cut off at each end.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    scores = np.asarray(scores, np.float64)
    if scores.size == 0 or not np.isfinite(scores).all():
        raise ValueError(f"scores must be finite numbers, at least one, got {scores}")
    ordered = np.sort(scores, axis)
    count = ordered.size if axis is None else ordered.shape[axis]
    cut = count // 4
    return np.take(ordered, range(cut, count - cut), axis).mean(axis)


def resample(scores: np.ndarray, rng: np.random.Generator, replicas: int = REPLICAS) -> np.ndarray:
    """Bootstrap replicas, shape (replicas, num_runs, num_tasks); scores (num_runs,) or (num_runs, num_tasks).

    Stratified: every replica draws num_runs runs with replacement within each task, independently of the other tasks.
    """
    scores = np.asarray(scores, np.float64)
    scores = scores.reshape(len(scores), -1)
    num_runs, num_tasks = scores.shape
    drawn = rng.integers(num_runs, size=(replicas, num_runs, num_tasks))
    return scores[drawn, np.arange(num_tasks)]


def bootstrap_iqm(scores: np.ndarray, rng: np.random.Generator, replicas: int = REPLICAS) -> np.ndarray:
    """IQM of each stratified bootstrap replica, shape (replicas,); scores (num_runs,) or (num_runs, num_tasks)."""
    return iqm(resample(scores, rng, replicas).reshape(replicas, -1), axis=1)


def interval(replicas: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval that holds `level` of the replicas."""
    tail = 50 * (1 - level)
    low, high = np.percentile(replicas, [tail, 100 - tail])
    return float(low), float(high)
