"""Arithmetic on vectors stored as (3, ...): numpy is faster on three long rows than on rows of three."""

import numpy as np


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scalar products of (3, N) vectors; (N,)."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Vector product of vectors (3, ...)."""
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def fraction(values: np.ndarray) -> np.ndarray:
    """The part after the decimal point, in [0, 1); much faster than the remainder of a division by 1."""
    return values - np.floor(values)
