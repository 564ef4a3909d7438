"""gan_mnist: a GAN course lab on MindSpore. Importing it does not import MindSpore.

from gan_mnist import load_generator

G = load_generator("result/mnist")
images = G.sample(25, seed=1)       # uint8 (25, 28, 28)
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan_mnist.config import Device
    from gan_mnist.sampling import Sampler

__version__ = "0.1.0"


def load_generator(
    source: str | Path,
    *,
    classes: Sequence[int] | None = None,
    truncation: float | None = None,
    device: Device = "auto",
) -> Sampler:
    """Load a trained generator.

    The first call prepares the process for MindSpore and imports it. Convolutional networks want other settings than
    the others (`environment.settings`); of both kinds in one process, the second one to be loaded is slow.

    Args:
        source: a run directory, for its latest epoch, or a checkpoint: a path, or a name to look up in result/.
        classes: what a conditional generator is to draw, in turn; None for all.
        truncation: keep normal latent codes within [-truncation, truncation].
        device: where to compute.

    Returns:
        `sample(count, seed=...)` draws images, uint8 (count, H, W), in colour (count, H, W, 3), or points; `latents`
        gives the codes that they come from; `write_grid`, `write_images` and `write_walk` make files.

    Raises:
        UserError: there is no such generator, or it can't be used as asked.
    """
    from gan_mnist import environment, rundir

    folder = Path(source)
    path = rundir.latest_generator(folder)[1] if folder.is_dir() else rundir.find_checkpoint(str(source))
    if "mindspore" not in sys.modules:
        environment.prepare(model=environment.model_of(path))
    from gan_mnist.sampling import Sampler

    return Sampler.open(path, device=device, mode="eval", classes=classes, truncation=truncation)
