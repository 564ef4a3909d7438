"""Fidelity and variety told apart, by balls around points of feature space that reach to the k-th neighbour."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gan_mnist.metrics.distances import squared_distances


class Manifolds(NamedTuple):
    """Four shares; real images against other real images reach nearly 1 in all (density about 1)."""

    precision: float
    """Samples that lie among the real images: within the ball of any."""
    recall: float
    """Real images that lie among the samples."""
    density: float
    """In how many real images' balls a sample lies, in the mean, divided by k: unlike precision hardly moved by a single
    real outlier with a large ball. May exceed 1."""
    coverage: float
    """Real images with a sample in their ball."""


def radii(points: np.ndarray, *, k: int) -> np.ndarray:
    """Squared distance from each point (N, d) to its k-th nearest other point, 1 <= k < N: (N,)."""
    found = []
    for rows, squares in squared_distances(points, points):
        own = np.arange(len(points))[rows]
        squares[np.arange(len(own)), own] = np.inf
        found.append(np.partition(squares, k - 1, axis=1)[:, k - 1])
    return np.concatenate(found)


def compare(real: np.ndarray, fake: np.ndarray, *, k_precision: int = 3, k_density: int = 5) -> Manifolds:
    """Improved precision and recall, density and coverage.

    Precision and recall after Kynkaanniemi et al. 2019, equations 1 and 2, with their k = 3; density and coverage after
    Naeem et al. 2020, equations 4 and 5, with their k = 5. Both papers compare sets of equal size.

    Args:
        real: features of real images (N, d), N > k_density.
        fake: features of samples (M, d), M > k_precision.
        k_precision: the neighbour that bounds a ball, for precision and recall.
        k_density: the same for density and coverage.
    """
    real_radii, fake_radii, real_radii_density = (
        radii(real, k=k_precision),
        radii(fake, k=k_precision),
        radii(real, k=k_density),
    )
    inside_real, inside, balls = [], np.zeros(len(real), bool), 0
    covered = np.zeros(len(real), bool)
    for rows, squares in squared_distances(fake, real):
        inside_real.append((squares <= real_radii).any(axis=1))
        inside |= (squares <= fake_radii[rows, None]).any(axis=0)
        in_density_ball = squares <= real_radii_density
        balls += int(in_density_ball.sum())
        covered |= in_density_ball.any(axis=0)
    return Manifolds(
        precision=float(np.concatenate(inside_real).mean()),
        recall=float(inside.mean()),
        density=balls / (k_density * len(fake)),
        coverage=float(covered.mean()),
    )
