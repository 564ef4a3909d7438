"""The data set: every image with its label and a latent code of its own, in batches.

Which images make batch k of epoch e, and which latent codes go with them, depends on (seed, e, k) alone. So an epoch
can be entered at any step, and a resumed run sees exactly what an uninterrupted one would have seen.
"""

from __future__ import annotations

import mindspore.dataset as ds
import numpy as np

from gan_mnist.config import Model
from gan_mnist.data import Images
from gan_mnist.distributed import ALONE, Worker
from gan_mnist.errors import UserError
from gan_mnist.latents import Draw, random_latents

# Independent random streams from one seed.
_SHUFFLE, _LATENT = 0, 1
_DRAWS = {"dropout": 2, "label_noise": 3, "instance_noise": 4, "mix": 5}


class _Batches:
    """Random access to the batches of one epoch, for GeneratorDataset."""

    def __init__(
        self,
        images: Images,
        batch_size: int,
        codes: int,
        model: Model,
        draws: tuple[Draw, ...],
        seed: list[int],
        epoch: int,
        first: int,
        d_steps: int,
        worker: Worker,
    ) -> None:
        self.images = images
        self.batch_size = batch_size
        self.codes = codes
        self.model = model
        self.draws = draws
        self.seed = seed
        self.epoch = epoch
        self.first = first
        self.d_steps = d_steps
        self.worker = worker
        self.order = np.random.default_rng([_SHUFFLE, epoch, *seed]).permutation(len(images.labels))

    def __len__(self) -> int:
        return len(self.order) // self.batch_size - self.first

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        step, share = int(index) + self.first, self.worker.share
        chosen = share(self.order[step * self.batch_size : (step + 1) * self.batch_size], self.d_steps)
        image = self.images.inputs(chosen)
        # Drawn for all workers, so that the numbers do not depend on how many there are.
        latent = random_latents(self._random(_LATENT, step), (self.codes, self.model.latent_size), self.model.latent)
        latent = share(latent, self.codes * self.d_steps // self.batch_size)
        drawn = [
            share(draw.numbers(self._random(_DRAWS[draw.name], step)), draw.sides * self.d_steps) for draw in self.draws
        ]
        return image, self.images.labels[chosen].astype(np.int32), latent, *drawn

    def _random(self, stream: int, step: int) -> np.random.Generator:
        return np.random.default_rng([stream, self.epoch, step, *self.seed])


def build_dataset(
    images: Images,
    *,
    batch_size: int,
    codes: int | None = None,
    model: Model,
    draws: tuple[Draw, ...] = (),
    seed: int | list[int],
    epoch: int = 0,
    first_step: int = 0,
    d_steps: int = 1,
    worker: Worker = ALONE,
) -> ds.GeneratorDataset:
    """One epoch of batches: image (N, C, H, W) float32 in [-1, 1], label (N,) int32, latent (N, latent_size) float32.

    The source hands over whole batches, so that no Python runs per sample (0.3 s a pass over MNIST, where the course's
    pipeline takes 3-5 s), and the remainder of the epoch is dropped (60,000 images in batches of 128: 468 steps).

    Args:
        images: what to draw from.
        batch_size: N, the images that a step takes, of all workers together.
        codes: latent codes that a step takes, likewise; N if None.
        model: decides the latent codes.
        draws: further columns of random numbers.
        seed: decides order and latent codes, together with `epoch`.
        epoch: 0-based.
        first_step: enter the epoch here.
        d_steps: the updates of D that share the images of a step.
        worker: gets its part of each update's images, latent codes and numbers; all parts together are what one worker
            alone would get.

    Raises:
        UserError: there are fewer images than a batch needs.
    """
    steps_per_epoch(images, batch_size)
    seed = [seed] if isinstance(seed, int) else seed
    batches = _Batches(images, batch_size, codes or batch_size, model, draws, seed, epoch, first_step, d_steps, worker)
    columns = ["image", "label", "latent", *(draw.name for draw in draws)]
    return ds.GeneratorDataset(batches, columns, shuffle=False, num_parallel_workers=1, python_multiprocessing=False)


def steps_per_epoch(images: Images, batch_size: int, *, d_steps: int = 1) -> int:
    """Steps in an epoch: whole batches, divided by the batches that a step takes.

    Raises:
        UserError: there is none.
    """
    count = len(images.labels)
    if count < batch_size * d_steps:
        times = f" and train.d_steps {d_steps}" if d_steps > 1 else ""
        raise UserError(f"data.batch_size is {batch_size}{times}, but there are {count} images; make it smaller")
    return count // (batch_size * d_steps)
