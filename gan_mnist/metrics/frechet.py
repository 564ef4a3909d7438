"""Distances between the distributions of two sets of features: Frechet (FID) and kernel (KID)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from gan_mnist.metrics import Score
from gan_mnist.metrics.distances import products


class Gaussian(NamedTuple):
    """Mean (d,) and covariance (d, d) of features, in float64."""

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Gaussian:
        """Fit to (N, d), N > 1; the covariance is divided by N - 1, as in the FID's reference code."""
        features = features.astype(np.float64)
        return cls(features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False)))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Squared Frechet (2-Wasserstein) distance of two Gaussians (Dowson & Landau 1982, equation 4).

        d^2 = |m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2))

    Between features of generated and of real images this is the FID (Heusel et al. 2017, section 4). It falls with the
    number of samples: two sets of 10,000 real images lie closer than two of 2,000 (Binkowski et al. 2018, section 4).

    tr (A B)^(1/2) is the sum of the singular values of A^(1/2) B^(1/2), with symmetric square roots, which exist and
    stay real for singular covariances too.
    """
    products = np.linalg.svd(_root(a.covariance) @ _root(b.covariance), compute_uv=False)
    traces = np.trace(a.covariance) + np.trace(b.covariance) - 2 * products.sum()
    return max(0.0, float(((a.mean - b.mean) ** 2).sum() + traces))


def _root(covariance: np.ndarray) -> np.ndarray:
    """Symmetric square root of a positive semidefinite matrix; eigenvalues below zero are rounding errors."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def kernel_distance(
    x: np.ndarray, y: np.ndarray, *, rng: np.random.Generator, subsets: int = 100, size: int = 1000
) -> Score:
    """KID: squared maximum mean discrepancy with the kernel (x.y / d + 1)^3 (Binkowski et al. 2018, section 4).

    Unbiased (equation 4 of the paper; Gretton et al. 2012, lemma 6): for two sets of the same distribution it is 0 in
    the mean, and as often negative.

    Args:
        x: features (N, d).
        y: features (M, d).
        rng: draws the subsets.
        subsets: how many pairs of subsets, each drawn without repetition.
        size: of a subset; at most N and M are taken.

    Returns:
        The mean over the subsets, and the standard deviation over them / sqrt(subsets). Subsets overlap, so that this
        error is that of the drawing, not of the N samples.
    """
    size = min(size, len(x), len(y))
    values = [
        polynomial_mmd(x[rng.choice(len(x), size, replace=False)], y[rng.choice(len(y), size, replace=False)])
        for _ in range(subsets)
    ]
    return Score(float(np.mean(values)), float(np.std(values) / math.sqrt(subsets)))


def polynomial_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared MMD of x (N, d) and y (M, d), N and M > 1, with the kernel (x.y / d + 1)^3, in float64."""
    x, y = x.astype(np.float64), y.astype(np.float64)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        base = products(a, b) / a.shape[1] + 1
        return base * base * base

    def mean_of_pairs(a: np.ndarray) -> float:
        matrix = kernel(a, a)
        return (matrix.sum() - np.trace(matrix)) / (len(a) * (len(a) - 1))

    return float(mean_of_pairs(x) + mean_of_pairs(y) - 2 * kernel(x, y).mean())
