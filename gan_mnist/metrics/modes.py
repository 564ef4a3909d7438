"""Which modes of a known mixture were found, by the protocol of Lin et al. 2018 (PacGAN), section 4.1.

A sample is of high quality if it lies within three standard deviations of the mode nearest to it. A mode is covered if
at least one high-quality sample belongs to it. Of real points in the plane, 1 - exp(-9/2) = 98.9 % are of high quality.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

REACH = 3.0
"""Standard deviations."""


def high_quality(points: np.ndarray, centres: np.ndarray, *, sigma: float) -> NDArray[np.intp]:
    """How many samples of high quality each mode has.

    Args:
        points: (N, coordinates).
        centres: the modes, (modes, coordinates).
        sigma: standard deviation of a coordinate about its mode.

    Returns:
        (modes,); the sum is at most N.
    """
    squares = np.square(points[:, None, :].astype(np.float64) - centres).sum(axis=2)  # (N, modes)
    nearest = squares.argmin(axis=1)
    good = squares.min(axis=1) <= (REACH * sigma) ** 2
    return np.bincount(nearest[good], minlength=len(centres))


def covered(counts: np.ndarray) -> int:
    """Modes that have a sample of high quality."""
    return int((counts > 0).sum())


def divergence(counts: np.ndarray) -> float:
    """KL(p || uniform) in nats, p the shares of the modes among the samples of high quality.

    0 where all modes are equally frequent, log(modes / k) where only k of them are, equally. There must be such a
    sample. Lin et al. 2018 call it the reverse KL divergence.
    """
    p = counts[counts > 0] / counts.sum()
    return float((p * np.log(p * len(counts))).sum())
