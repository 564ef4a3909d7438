"""Toy data, points instead of images: a Gaussian on a line, and mixtures of Gaussians in the plane.

Few enough dimensions to see everything: the densities, D's whole surface, and which modes G leaves out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

COUNT = 100_000
"""Points in the training set, as many as Lin et al. 2018 train on."""
TEST_COUNT = 10_000
SEEDS = {"train": 2323, "test": 2324}


class Mixture(NamedTuple):
    """Gaussians of equal weight and equal width in every direction."""

    centres: NDArray[np.float64]
    """The modes, (modes, coordinates)."""
    sigma: float
    """Standard deviation of a coordinate about its mode."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a point as an image: of one pixel, with a channel for each coordinate."""
        return self.centres.shape[1], 1, 1

    def draw(self, count: int, *, seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """The same points for the same seed, on every machine and for ever: NumPy's legacy generator is frozen.

        Returns:
            Points (count, coordinates) float32, and the mode (count,) uint8 that each belongs to.
        """
        random = np.random.RandomState(seed)
        modes = random.randint(len(self.centres), size=count)
        noise = random.normal(size=(count, self.centres.shape[1]))
        return (self.centres[modes] + self.sigma * noise).astype(np.float32), modes.astype(np.uint8)


def _ring(modes: int) -> NDArray[np.float64]:
    angles = 2 * np.pi * np.arange(modes) / modes
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _grid(side: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)


TOYS: dict[str, Mixture] = {
    "gaussian": Mixture(np.array([[4.0]]), 0.5),
    "ring8": Mixture(_ring(8), 0.01),
    "grid25": Mixture(_grid(np.linspace(-4, 4, 5)), 0.05),
}
"""By `data.dataset`. The mixtures are those of Lin et al. 2018 (PacGAN), section 4.1: 8 modes on the unit circle, and
25 at the points of {-4, -2, 0, 2, 4}^2, variance 0.0025."""


def load(name: str, split: str) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Points and modes of a split, `train` or `test`, of the toy `name`."""
    return TOYS[name].draw(COUNT if split == "train" else TEST_COUNT, seed=SEEDS[split])
