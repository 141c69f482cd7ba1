"""Checks of the bandits' arguments, and of the files they read."""

from pathlib import Path

import numpy as np

from explore_gym.envs.engine.env import is_integer


def check_integer(name, value, low, high):
    if not (is_integer(value) and low <= value <= high):
        raise ValueError(f"{name} must be an integer in [{low}, {high}], got {value!r}")


def check_number(name, value, low, high):
    if not (np.isscalar(value) and low <= value <= high):
        raise ValueError(f"{name} must be a number in [{low}, {high}], got {value!r}")


def check_instance(theta, size, low=-np.inf, high=np.inf):
    """A fixed instance as float64 (size,).

    Raises:
        ValueError: it has another shape, isn't finite or leaves [low, high].
    """
    array = np.asarray(theta, np.float64)
    if array.shape != (size,) or not np.isfinite(array).all() or array.min() < low or array.max() > high:
        raise ValueError(f"theta must be {size} finite numbers in [{low}, {high}], got {theta!r}")
    return array


def load_matrix(path):
    """The matrix in a local .npy or comma-separated .csv file, float64; empty cells of a .csv are NaN.

    Raises:
        ValueError: another kind of file, or its content isn't a matrix of numbers.
        FileNotFoundError: there is no such file.
    """
    kinds = {".npy": lambda: np.load(path, allow_pickle=False), ".csv": lambda: np.genfromtxt(path, delimiter=",", ndmin=2)}
    suffix = Path(path).suffix
    if suffix not in kinds:
        raise ValueError(f"file must be a .npy or .csv file, got {path!r}")
    matrix = kinds[suffix]()
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiub" or min(matrix.shape) < 2:
        raise ValueError(
            f"{path} must hold a matrix of numbers with at least 2 rows and columns, got {matrix.shape} {matrix.dtype}"
        )
    return matrix.astype(np.float64)
