"""Latent codes: the distributions that z is drawn from."""

from __future__ import annotations

import numpy as np

from gan_mnist.config import Latent


def random_latents(random: np.random.Generator, shape: tuple[int, int], latent: Latent) -> np.ndarray:
    """Codes (N, latent_size) float32 of one of the distributions in `config.Latent`."""
    if latent == "normal":
        return random.standard_normal(shape, dtype=np.float32)
    codes = random.random(shape, dtype=np.float32)
    return codes if latent == "uniform01" else 2 * codes - 1


def fixed_latents(count: int, latent_size: int, seed: int, latent: Latent = "normal") -> np.ndarray:
    """The same latent codes for the same seed, on every machine and for ever: (count, latent_size) float32.

    NumPy's legacy generator is used since its stream is frozen; with seed 2323 these are the course's 25 codes. The
    first codes do not depend on `count`.
    """
    random = np.random.RandomState(seed)
    shape = (count, latent_size)
    low = {"uniform": -1.0, "uniform01": 0.0}
    codes = random.normal(size=shape) if latent == "normal" else random.uniform(low[latent], 1.0, shape)
    return codes.astype(np.float32)
