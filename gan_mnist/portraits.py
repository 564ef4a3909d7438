"""The picture after an epoch: what there is to see depends on the kind of data, and is chosen once."""

from __future__ import annotations

from collections.abc import Callable

import mindspore as ms
import numpy as np

from gan_mnist import charts, imaging, sampling
from gan_mnist.config import Config, Latent
from gan_mnist.data import Images
from gan_mnist.game import Game
from gan_mnist.latents import fixed_latents

Portrait = Callable[[], np.ndarray]
"""Draws G and D as they are now: uint8 (height, width) or (height, width, 3)."""

LATTICE = 64
"""Points of a side at which D's surface is computed; on a line, four times as many."""
PARTNERS = 8
"""Packs over which the surface of a D of packs is averaged."""
THREADS = 40
"""Latent codes whose way to x is drawn."""


def portrait(config: Config, game: Game, images: Images) -> Portrait:
    """What to draw for these data: a grid of images, or points over D's surface, from the same codes every time."""
    count = config.sample.rows * config.sample.columns
    latents = fixed_latents(count, config.model.latent_size, config.sample.seed, config.model.latent)
    forward = sampling.compiled(game.sampled)

    def samples() -> np.ndarray:
        return sampling.generate(game.sampled, latents, mode=config.sample.mode, forward=forward)

    def grid() -> np.ndarray:
        return imaging.grid(samples(), rows=config.sample.rows, columns=config.sample.columns)

    if images.pixels.ndim != 2:
        return grid

    real = images.pixels
    box = charts.extent(real)
    shown = real[:count]
    surface = surface_of_d(config, game, real, box)
    if real.shape[1] == 2:
        return lambda: charts.plane(samples(), box, real=shown, surface=surface().reshape(LATTICE, LATTICE))

    codes = _steady(config.model.latent)

    def line() -> np.ndarray:
        walk = None
        if config.model.latent_size == 1:
            walk = codes, sampling.generate(game.sampled, codes[:, None])[:, 0]
        return charts.line(samples()[:, 0], box[0], real=real[:, 0], judged=surface(), walk=walk)

    return line


def surface_of_d(config: Config, game: Game, real: np.ndarray, box: np.ndarray) -> Callable[[], np.ndarray]:
    """D(x) on a lattice over the box, row by row; of a D of packs, the mean over packs of x with real points."""
    side = LATTICE if len(box) == 2 else 4 * LATTICE
    axes = np.meshgrid(*[np.linspace(low, high, side) for low, high in box])
    x = np.stack([axis.ravel() for axis in axes], axis=1).astype(np.float32)  # (points, coordinates)
    pack = config.model.pack
    packs = PARTNERS if pack > 1 else 1
    partners = real[np.arange(packs * (pack - 1)) % len(real)].reshape(packs, 1, -1).repeat(len(x), axis=1)
    joined = np.concatenate([np.broadcast_to(x, (packs, *x.shape)), partners], axis=2)  # (packs, points, pack * coords)
    inputs = ms.Tensor(joined.reshape(-1, joined.shape[2], 1, 1))
    judge = sampling.compiled(game.D)

    def surface() -> np.ndarray:
        game.D.set_train(False)
        probabilities = judge(inputs).asnumpy().reshape(packs, len(x)).mean(axis=0)
        game.D.set_train(True)
        return probabilities

    return surface


def _steady(latent: Latent) -> np.ndarray:
    """Codes of one number in steady steps over where they are drawn from (of N(0, 1), the middle 99 %): (THREADS,)."""
    low, high = {"normal": (-2.58, 2.58), "uniform": (-1.0, 1.0), "uniform01": (0.0, 1.0)}[latent]
    return np.linspace(low, high, THREADS, dtype=np.float32)
