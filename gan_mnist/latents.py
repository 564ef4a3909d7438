"""Random numbers of a game: the latent codes z, and what else a training step draws.

MindSpore's own random state can't be saved, so a step draws nothing itself: numbers come to it with its images, each as
a function of (seed, epoch, step).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from gan_mnist.config import Latent

TWO_SIDED = ("dropout", "instance_noise")
"""Numbers of which an update takes as many again for its generated images, after those for the real ones."""


def sides(name: str) -> int:
    """Kinds of images that have numbers of that name of their own."""
    return 2 if name in TWO_SIDED else 1


class Draw(NamedTuple):
    """Numbers that a training step takes beside images and latent codes."""

    name: str
    """`dropout`, `label_noise`, `instance_noise` or `mix`: see `steps.make_train_step`."""
    shape: tuple[int, ...]
    """Of a step's numbers, the first size counting images."""
    latent: Latent = "uniform01"
    """Their distribution."""
    scale: float = 1.0
    """What they are multiplied by."""

    @property
    def sides(self) -> int:
        """Kinds of images that have numbers of their own."""
        return sides(self.name)

    def numbers(self, random: np.random.Generator) -> np.ndarray:
        """Float32 of `shape`."""
        drawn = random_latents(random, self.shape, self.latent)
        return drawn if self.scale == 1 else drawn * np.float32(self.scale)


def random_latents(random: np.random.Generator, shape: tuple[int, ...], latent: Latent) -> np.ndarray:
    """Codes (N, latent_size), or any shape, float32, of one of the distributions in `config.Latent`."""
    if latent == "normal":
        return random.standard_normal(shape, dtype=np.float32)
    codes = random.random(shape, dtype=np.float32)
    return codes if latent == "uniform01" else 2 * codes - 1


def fixed_latents(
    count: int, latent_size: int, seed: int, latent: Latent = "normal", *, truncation: float | None = None
) -> np.ndarray:
    """The same latent codes for the same seed, on every machine and for ever: (count, latent_size) float32.

    NumPy's legacy generator is used since its stream is frozen; with seed 2323 these are the course's 25 codes. The
    first codes do not depend on `count`.

    Args:
        count: of codes.
        latent_size: their length.
        seed: decides them.
        latent: their distribution.
        truncation: draw from the part of N(0, 1) within [-truncation, truncation] (Brock et al. 2019, section 3.1);
            for `normal` only.
    """
    random = np.random.RandomState(seed)
    shape = (count, latent_size)
    if truncation is not None:
        tail = ndtr(-truncation)
        return ndtri(random.uniform(tail, 1 - tail, shape)).astype(np.float32)
    low = {"uniform": -1.0, "uniform01": 0.0}
    codes = random.normal(size=shape) if latent == "normal" else random.uniform(low[latent], 1.0, shape)
    return codes.astype(np.float32)


def fixed_labels(count: int, classes: int) -> np.ndarray:
    """The classes of `count` fixed codes: 0, 1, ... in turn, so that all are equally frequent; (count,) int32."""
    return (np.arange(count) % classes).astype(np.int32)
