"""Gaussian processes on a grid of cells: covariances and draws."""

import math

import numpy as np

VARIANCE = math.log(2.0)  # of the process: softplus(0), at which the paper's code leaves gpytorch's scale
JITTER = 1e-9  # on the diagonal, against rounding


def cell_places(shape):
    """(row, column) of each cell, float64 (cells, 2)."""
    return np.argwhere(np.ones(shape, bool)).astype(np.float64)


def matern(places, others, lengthscale):
    """Covariances of a Matern process with smoothness 5/2 between places (n, 2) and others (m, 2): float64 (n, m)."""
    distance = math.sqrt(5.0) / lengthscale * np.linalg.norm(places[:, None] - others, axis=-1)
    return VARIANCE * (1.0 + distance + distance**2 / 3.0) * np.exp(-distance)


def draw_fields(shape, lengthscale, seed, num_contexts, num_fields=1):
    """Independent draws of the process, float64 (num_contexts, num_fields, cells); context k depends on seed and k alone."""
    places = cell_places(shape)
    factor = np.linalg.cholesky(matern(places, places, lengthscale) + JITTER * np.eye(len(places)))
    draws = [np.random.default_rng([seed, k]).standard_normal((num_fields, len(places))) for k in range(num_contexts)]
    return np.stack(draws) @ factor.T
