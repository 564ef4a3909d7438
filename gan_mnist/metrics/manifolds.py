"""Fidelity and variety told apart, by balls around points of feature space that reach to the k-th neighbour."""

from __future__ import annotations

from collections.abc import Sequence
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
    """In how many real images' balls a sample lies, in the mean, divided by k; may exceed 1. Unlike precision it is
    hardly moved by a single real outlier with a large ball."""
    coverage: float
    """Real images with a sample in their ball."""


def squared_radii(points: np.ndarray, *, ks: Sequence[int]) -> list[np.ndarray]:
    """Squared distance from each point (N, d) to its k-th nearest other point, 1 <= k < N: (N,) for each k of ks."""
    found = []
    for rows, squares in squared_distances(points, points):
        own = np.arange(len(points))[rows]
        squares[np.arange(len(own)), own] = np.inf
        found.append(np.sort(np.partition(squares, max(ks) - 1, axis=1)[:, : max(ks)], axis=1))
    ordered = np.concatenate(found)  # (N, max(ks))
    return [ordered[:, k - 1] for k in ks]


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
    real_radii, real_radii_density = squared_radii(real, ks=(k_precision, k_density))
    (fake_radii,) = squared_radii(fake, ks=(k_precision,))
    precise, balls = 0, 0
    recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for rows, squares in squared_distances(fake, real):
        precise += int((squares <= real_radii).any(axis=1).sum())
        recalled |= (squares <= fake_radii[rows, None]).any(axis=0)
        inside = squares <= real_radii_density
        balls += int(inside.sum())
        covered |= inside.any(axis=0)
    return Manifolds(
        precision=precise / len(fake),
        recall=float(recalled.mean()),
        density=balls / (k_density * len(fake)),
        coverage=float(covered.mean()),
    )
