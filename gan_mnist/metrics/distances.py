"""Euclidean distances between sets of points, in portions, as matrix products."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg import get_blas_funcs

PORTION = 250
"""Points whose distances to all others are held at once: few enough for the processor's cache, which is what counts."""


def products(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Scalar products of the rows of x (N, d) and y (M, d), of the same float type: (N, M).

    By SciPy's BLAS: the older one that comes with NumPy 1.26 does not know the newest processors, and is then four
    times slower.
    """
    gemm = get_blas_funcs("gemm", (x, y))
    result: np.ndarray = gemm(1.0, y.T, x.T, trans_a=True).T
    return result


def squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """|x - y|^2 = |x|^2 - 2 x.y + |y|^2, some rows at a time.

    Args:
        x: (N, d).
        y: (M, d), of the same float type; in float32 the error is about 1e-6 of |x|^2 + |y|^2.

    Yields:
        which rows of x, and their squared distances (n, M) to all of y, never negative.
    """
    x_squares, y_squares = (x**2).sum(axis=1), (y**2).sum(axis=1)
    for start in range(0, len(x), PORTION):
        rows = slice(start, start + PORTION)
        distances = products(x[rows], y)
        distances *= -2
        distances += x_squares[rows, None]
        distances += y_squares
        yield rows, np.maximum(distances, 0, out=distances)


def nearest(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest point of y for each point of x: its index (N,) and its distance (N,)."""
    # |y|^2 - 2 x.y has its smallest value where |x - y|^2 has, and is a single product: (x, 1) . (-2 y, |y|^2).
    x_one = np.column_stack([x, np.ones(len(x), x.dtype)])
    y_squares = np.column_stack([-2 * y, (y**2).sum(axis=1)])
    portions = range(0, len(x), PORTION)
    indices = np.concatenate([products(x_one[start : start + PORTION], y_squares).argmin(axis=1) for start in portions])
    return indices, np.linalg.norm(x - y[indices], axis=1)


def mean_pairwise(x: np.ndarray) -> float:
    """Mean distance between two different points of x (N, d), N > 1: the diversity of a set of samples."""
    total = sum(float(np.sqrt(squares).sum(dtype=np.float64)) for _, squares in squared_distances(x, x))
    return total / (len(x) * (len(x) - 1))
