"""Parzen window log-likelihood, the measure of Goodfellow et al. 2014 (after Breuleux et al. 2011)."""

from __future__ import annotations

import math

import numpy as np

CHUNK = 1000
"""Points whose distances to all samples are held at once."""


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
    points, samples = points.astype(np.float64), samples.astype(np.float64)
    squares = (samples**2).sum(axis=1)
    constant = math.log(len(samples)) + samples.shape[1] / 2 * math.log(2 * math.pi * sigma**2)
    densities = []
    for start in range(0, len(points), CHUNK):
        x = points[start : start + CHUNK]
        distances = (x**2).sum(axis=1)[:, None] - 2 * x @ samples.T + squares  # (n, S)
        exponents = -np.maximum(distances, 0) / (2 * sigma**2)
        highest = exponents.max(axis=1, keepdims=True)
        densities.append(highest[:, 0] + np.log(np.exp(exponents - highest).sum(axis=1)) - constant)
    return np.concatenate(densities)
