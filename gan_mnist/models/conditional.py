"""The course's fully connected networks, told the class beside z and beside the image (Mirza & Osindero 2014)."""

from __future__ import annotations

import math

from mindspore import Tensor, nn, ops
from pydantic import PositiveInt

from gan_mnist.config import Share, Widths
from gan_mnist.models import dense
from gan_mnist.models.layers import one_hot


class Generator(nn.Cell):
    """Latent codes and classes to images, by `dense.Generator`.

    Args:
        latent_size: length of z.
        image_shape: (channels, height, width) of an image.
        classes: how many there are.
        hidden: widths of the hidden layers.
    """

    def __init__(
        self,
        latent_size: int,
        image_shape: tuple[int, int, int],
        *,
        classes: PositiveInt = 10,
        hidden: Widths = [128, 256, 512, 1024],
    ) -> None:
        super().__init__()
        self.classes = classes
        self.network = dense.Generator(latent_size + classes, image_shape, hidden=hidden)

    def construct(self, z: Tensor, y: Tensor) -> Tensor:
        """Latent codes z (N, latent_size) and classes y (N,) int32 -> images (N, C, H, W) in [-1, 1]."""
        return self.network(ops.concat((z, one_hot(y, self.classes)), axis=1))


class Discriminator(nn.Cell):
    """Images and the classes that they claim to be of, to the probability that they are real, by `dense.Discriminator`.

    Args:
        image_shape: (channels, height, width) of an image.
        classes: how many there are.
        hidden: widths of the hidden layers.
        dropout: share of the hidden units that is left out in training.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        classes: PositiveInt = 10,
        hidden: Widths = [512, 256],
        dropout: Share = 0.0,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.network = dense.Discriminator((math.prod(image_shape) + classes, 1, 1), hidden=hidden, dropout=dropout)
        self.noise_size = self.network.noise_size

    def logits(self, image: Tensor, y: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] and classes y (N,) int32 -> logits (N, 1).

        Args:
            image: the images.
            y: their classes.
            noise: numbers from U(0, 1), (N, noise_size), which decide what dropout leaves out; None leaves out nothing.
        """
        x = ops.concat((image.reshape(image.shape[0], -1), one_hot(y, self.classes)), axis=1)
        return self.network.logits(x, noise)

    def construct(self, image: Tensor, y: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] and classes y (N,) int32 -> probability (N, 1) that each is real."""
        return ops.sigmoid(self.logits(image, y))
