"""The data set: every image with its label and a latent code of its own, in batches.

Which images make batch k of epoch e, and which latent codes go with them, depends on (seed, e, k) alone. So an epoch
can be entered at any step, and a resumed run sees exactly what an uninterrupted one would have seen.
"""

from __future__ import annotations

import mindspore.dataset as ds
import numpy as np

from gan_mnist.data import Images
from gan_mnist.errors import UserError

COLUMNS = ["image", "label", "latent"]

# Independent random streams from one seed.
_SHUFFLE, _LATENT = 0, 1


class _Batches:
    """Random access to the batches of one epoch, for GeneratorDataset."""

    def __init__(
        self, images: Images, *, batch_size: int, latent_size: int, seed: list[int], epoch: int, first: int
    ) -> None:
        self.images = images
        self.batch_size = batch_size
        self.latent_size = latent_size
        self.seed = seed
        self.epoch = epoch
        self.first = first
        self.order = np.random.default_rng([_SHUFFLE, epoch, *seed]).permutation(len(images.labels))

    def __len__(self) -> int:
        return len(self.order) // self.batch_size - self.first

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        step = int(index) + self.first
        chosen = self.order[step * self.batch_size : (step + 1) * self.batch_size]
        pixels = self.images.pixels[chosen].astype(np.float32)
        image = ((pixels - 127.5) / 127.5).reshape(-1, *self.images.shape)  # [0, 255] -> [-1, 1], as G's Tanh
        random = np.random.default_rng([_LATENT, self.epoch, step, *self.seed])
        latent = random.standard_normal((self.batch_size, self.latent_size), dtype=np.float32)
        return image, self.images.labels[chosen].astype(np.int32), latent


def build_dataset(
    images: Images, *, batch_size: int, latent_size: int, seed: int | list[int], epoch: int = 0, first_step: int = 0
) -> ds.GeneratorDataset:
    """One epoch of batches: image (N, C, H, W) float32 in [-1, 1], label (N,) int32, latent (N, latent_size) ~ N(0, 1).

    The source hands over whole batches, so that no Python runs per sample (0.4 s a pass over MNIST, where the course's
    pipeline takes 3-5 s), and the remainder of the epoch is dropped (60,000 images in batches of 128: 468 steps).

    Args:
        images: what to draw from.
        batch_size: N.
        latent_size: length of z.
        seed: decides order and latent codes, together with `epoch`.
        epoch: 0-based.
        first_step: enter the epoch here.

    Raises:
        UserError: there are fewer images than a batch needs.
    """
    steps_per_epoch(images, batch_size)
    seed = [seed] if isinstance(seed, int) else seed
    batches = _Batches(images, batch_size=batch_size, latent_size=latent_size, seed=seed, epoch=epoch, first=first_step)
    return ds.GeneratorDataset(batches, COLUMNS, shuffle=False, num_parallel_workers=1, python_multiprocessing=False)


def steps_per_epoch(images: Images, batch_size: int) -> int:
    """Whole batches in an epoch.

    Raises:
        UserError: there is none.
    """
    count = len(images.labels)
    if count < batch_size:
        raise UserError(f"data.batch_size is {batch_size}, but there are {count} images; make it smaller")
    return count // batch_size


def fixed_latents(count: int, latent_size: int, seed: int) -> np.ndarray:
    """The same latent codes for the same seed, on every machine and for ever: (count, latent_size) float32.

    NumPy's legacy generator is used since its stream is frozen; with seed 2323 these are the course's 25 codes. The
    first codes do not depend on `count`.
    """
    return np.random.RandomState(seed).normal(size=(count, latent_size)).astype(np.float32)
