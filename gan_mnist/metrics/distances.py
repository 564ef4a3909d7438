"""Euclidean distances between sets of points, in portions, as matrix products."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

PORTION = 1000
"""Points whose distances to all others are held at once."""


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
        distances = x[rows] @ y.T
        distances *= -2
        distances += x_squares[rows, None]
        distances += y_squares
        yield rows, np.maximum(distances, 0, out=distances)


def nearest(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest point of y for each point of x: its index (N,) and its distance (N,)."""
    indices, distances = [], []
    for rows, squares in squared_distances(x, y):
        index = squares.argmin(axis=1)
        indices.append(index)
        distances.append(np.linalg.norm(x[rows] - y[index], axis=1))
    return np.concatenate(indices), np.concatenate(distances)


def mean_pairwise(x: np.ndarray) -> float:
    """Mean distance between two different points of x (N, d), N > 1: the diversity of a set of samples."""
    total = sum(float(np.sqrt(squares).sum(dtype=np.float64)) for _, squares in squared_distances(x, x))
    return total / (len(x) * (len(x) - 1))
