"""Parzen window log-likelihood, the measure of Goodfellow et al. 2014 (section 5, after Breuleux et al. 2011).

Comparable with the literature of its time, and a poor judge of pictures: in 784 dimensions the estimate is far from the
true likelihood however many samples are drawn, and ranks models otherwise than the likelihood or the eye do (Theis, van
den Oord & Bethge 2016, "A note on the evaluation of generative models", section 3.2; there k-means centres beat the
training images themselves). It forgives blur, and scores above those of real images mean nothing.
"""

from __future__ import annotations

import math

import numpy as np

from gan_mnist.metrics import Score
from gan_mnist.metrics.distances import squared_distances

SIGMAS = tuple(np.logspace(-1, 0, 10).tolist())
"""The widths among which the paper's code chooses."""


def log_likelihood(points: np.ndarray, samples: np.ndarray, *, sigma: float) -> np.ndarray:
    """Log-density of points under Gaussians of width sigma around samples.

        log p(x) = log 1/S sum_s exp(-|x - s|^2 / (2 sigma^2)) - d/2 log(2 pi sigma^2)

    In float64; squared distances by one matrix product, the sum by log-sum-exp.

    Args:
        points: (N, d), in the samples' units ([0, 1] in the paper).
        samples: (S, d).
        sigma: width of the window, > 0.

    Returns:
        (N,) in nats.
    """
    return _log_likelihoods(points, samples, [sigma])[0]


def choose_sigma(points: np.ndarray, samples: np.ndarray) -> float:
    """The width of SIGMAS with the highest mean log-likelihood of validation points (N, d) under samples (S, d)."""
    means = _log_likelihoods(points, samples, SIGMAS).mean(axis=1)
    return SIGMAS[int(means.argmax())]


def score(points: np.ndarray, samples: np.ndarray, *, sigma: float) -> Score:
    """Mean log-likelihood of test points with its standard error over the points, as the paper's table 1 reports it."""
    densities = log_likelihood(points, samples, sigma=sigma)
    return Score(float(densities.mean()), float(densities.std() / math.sqrt(len(densities))))


def _log_likelihoods(points: np.ndarray, samples: np.ndarray, sigmas: tuple[float, ...] | list[float]) -> np.ndarray:
    """(len(sigmas), N): the distances, which cost most, are computed once for all widths."""
    points, samples = points.astype(np.float64), samples.astype(np.float64)
    densities = np.empty((len(sigmas), len(points)))
    for rows, squares in squared_distances(points, samples):
        squares -= (nearest := squares.min(axis=1, keepdims=True))  # So that the largest term of the sum is exp(0).
        for row, sigma in enumerate(sigmas):
            terms = squares * (-0.5 / sigma**2)
            total = np.exp(terms, out=terms).sum(axis=1)
            constant = math.log(len(samples)) + samples.shape[1] / 2 * math.log(2 * math.pi * sigma**2)
            densities[row, rows] = np.log(total) - nearest[:, 0] / (2 * sigma**2) - constant
    return densities
