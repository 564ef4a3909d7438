"""What a classifier's probabilities tell: how sure and how varied, which digits, and how evenly."""

from __future__ import annotations

import math

import numpy as np

from gan_mnist.metrics import Score

CLASSES = 10
COVERED_SHARE = 0.2
"""A digit counts as covered with at least this part of its share among real images."""


def classifier_score(probabilities: np.ndarray, *, splits: int = 10) -> Score:
    """The Inception score's formula with a classifier of digits: between 1 and 10 (Salimans et al. 2016, section 4).

        exp(E_x KL(p(y|x) || p(y)))

    High where each image is surely some digit, and all digits are equally frequent. It sees no lack of variety within
    a digit, and no real images.

    Args:
        probabilities: (N, classes), N >= splits, in random order.
        splits: parts whose scores are averaged; 1 for no standard error.
    """
    scores = []
    for part in np.array_split(probabilities.astype(np.float64), splits):
        marginal = part.mean(axis=0)
        safe = np.where(part > 0, part, 1)  # 0 log 0 = 0.
        divergence = (part * (np.log(safe) - np.log(np.where(marginal > 0, marginal, 1)))).sum(axis=1)
        scores.append(math.exp(divergence.mean()))
    error = float(np.std(scores, ddof=1) / math.sqrt(splits)) if splits > 1 else None
    return Score(float(np.mean(scores)), error)


def histogram(probabilities: np.ndarray) -> np.ndarray:
    """The share of images taken for each digit: (10,), sums to 1."""
    counts = np.bincount(probabilities.argmax(axis=1), minlength=CLASSES)
    return counts / counts.sum()


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """Half of sum |p - q|: the share of images that would have to become another digit for p to be q."""
    return float(np.abs(p - q).sum() / 2)


def modes_covered(p: np.ndarray, real: np.ndarray) -> int:
    """Digits whose share in p reaches COVERED_SHARE of their share among real images."""
    return int((p >= COVERED_SHARE * real).sum())
