"""The data set: every image with its label and a latent code of its own, in batches.

Which images make batch k of epoch e, and which latent codes go with them, depends on (seed, e, k) alone. So an epoch
can be entered at any step, and a resumed run sees exactly what an uninterrupted one would have seen.
"""

from __future__ import annotations

import mindspore.dataset as ds
import numpy as np

from gan_mnist.config import Model
from gan_mnist.data import Images
from gan_mnist.errors import UserError
from gan_mnist.latents import random_latents

# Independent random streams from one seed.
_SHUFFLE, _LATENT, _NOISE = 0, 1, 2


class _Batches:
    """Random access to the batches of one epoch, for GeneratorDataset."""

    def __init__(
        self, images: Images, batch_size: int, model: Model, noise_size: int, seed: list[int], epoch: int, first: int
    ) -> None:
        self.images = images
        self.batch_size = batch_size
        self.model = model
        self.noise_size = noise_size
        self.seed = seed
        self.epoch = epoch
        self.first = first
        self.order = np.random.default_rng([_SHUFFLE, epoch, *seed]).permutation(len(images.labels))

    def __len__(self) -> int:
        return len(self.order) // self.batch_size - self.first

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        step = int(index) + self.first
        chosen = self.order[step * self.batch_size : (step + 1) * self.batch_size]
        image = self.images.inputs(chosen)
        latent = random_latents(
            self._random(_LATENT, step), (self.batch_size, self.model.latent_size), self.model.latent
        )
        columns = image, self.images.labels[chosen].astype(np.int32), latent
        if not self.noise_size:
            return columns
        noise = self._random(_NOISE, step).random(
            (2 * self.batch_size // self.model.pack, self.noise_size), dtype=np.float32
        )
        return *columns, noise

    def _random(self, stream: int, step: int) -> np.random.Generator:
        return np.random.default_rng([stream, self.epoch, step, *self.seed])


def build_dataset(
    images: Images,
    *,
    batch_size: int,
    model: Model,
    noise_size: int = 0,
    seed: int | list[int],
    epoch: int = 0,
    first_step: int = 0,
) -> ds.GeneratorDataset:
    """One epoch of batches: image (N, C, H, W) float32 in [-1, 1], label (N,) int32, latent (N, latent_size) float32.

    The source hands over whole batches, so that no Python runs per sample (0.4 s a pass over MNIST, where the course's
    pipeline takes 3-5 s), and the remainder of the epoch is dropped (60,000 images in batches of 128: 468 steps).

    Args:
        images: what to draw from.
        batch_size: N.
        model: decides the latent codes.
        noise_size: if not 0, a fourth column holds as many numbers from U(0, 1) for each of 2 N / pack: what D draws at
            random (dropout) for the real images and for the generated ones.
        seed: decides order and latent codes, together with `epoch`.
        epoch: 0-based.
        first_step: enter the epoch here.

    Raises:
        UserError: there are fewer images than a batch needs.
    """
    steps_per_epoch(images, batch_size)
    seed = [seed] if isinstance(seed, int) else seed
    batches = _Batches(images, batch_size, model, noise_size, seed, epoch, first_step)
    columns = ["image", "label", "latent", *(["noise"] if noise_size else [])]
    return ds.GeneratorDataset(batches, columns, shuffle=False, num_parallel_workers=1, python_multiprocessing=False)


def steps_per_epoch(images: Images, batch_size: int) -> int:
    """Whole batches in an epoch.

    Raises:
        UserError: there is none.
    """
    count = len(images.labels)
    if count < batch_size:
        raise UserError(f"data.batch_size is {batch_size}, but there are {count} images; make it smaller")
    return count // batch_size
