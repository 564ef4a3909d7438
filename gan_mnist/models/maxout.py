"""The networks of Goodfellow et al. 2014 for MNIST, after the paper's section 5 and its published configuration.

G: z-1200-1200-784, ReLU, sigmoid at the end. D: 784, two maxout layers of 240 units with 5 pieces each (Goodfellow
et al. 2013), a sigmoid; dropout on the input (0.2) and on both hidden layers (0.5). No BatchNorm: it came a year later.
"""

from __future__ import annotations

import math

from mindspore import Tensor, nn, ops
from mindspore.common.initializer import Uniform

from gan_mnist.config import Widths
from gan_mnist.models.layers import dense, drop


class Generator(nn.Cell):
    """Latent codes to images: Dense layers with ReLU, a sigmoid at the end.

    Args:
        latent_size: length of z.
        image_shape: (channels, height, width) of an image.
        hidden: widths of the hidden layers.
        irange: weights begin uniformly in [-irange, irange].
    """

    def __init__(
        self,
        latent_size: int,
        image_shape: tuple[int, int, int],
        *,
        hidden: Widths = [1200, 1200],
        irange: float = 0.05,
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        layers: list[nn.Cell] = []
        for width_in, width_out in zip([latent_size, *hidden], hidden):
            layers += [dense(width_in, width_out, weights=Uniform(irange)), nn.ReLU()]
        layers += [dense(hidden[-1], math.prod(image_shape), weights=Uniform(irange)), nn.Sigmoid()]
        self.model = nn.SequentialCell(*layers)

    def construct(self, z: Tensor) -> Tensor:
        """Latent codes z (N, latent_size) -> images (N, C, H, W) in [-1, 1]: the paper's [0, 1], stretched."""
        return (2.0 * self.model(z) - 1.0).reshape(-1, *self.image_shape)


class Maxout(nn.Cell):
    """The largest of `pieces` neighbours: (N, pieces * units) -> (N, units) (Goodfellow et al. 2013, section 3)."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def construct(self, x: Tensor) -> Tensor:
        """See the class."""
        return ops.max(x.reshape(x.shape[0], -1, self.pieces), axis=2)[0]


class Discriminator(nn.Cell):
    """Images to the probability that they are real: maxout layers with dropout, a sigmoid at the end.

    Args:
        image_shape: (channels, height, width) of an image.
        hidden: units of the maxout layers.
        pieces: linear pieces of a unit.
        keep_input: share of the pixels that dropout keeps.
        keep_hidden: share of the units that dropout keeps.
        irange: weights begin uniformly in [-irange, irange].
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        hidden: Widths = [240, 240],
        pieces: int = 5,
        keep_input: float = 0.8,
        keep_hidden: float = 0.5,
        irange: float = 0.005,
    ) -> None:
        super().__init__()
        widths = [math.prod(image_shape), *hidden]
        self.pieces = pieces
        self.widths = widths
        self.keep = [keep_input] + [keep_hidden] * len(hidden)
        self.noise_size = sum(widths)
        layers = []
        for width_in, width_out in zip(widths, hidden):
            pieced = dense(width_in, pieces * width_out, weights=Uniform(irange))
            layers.append(nn.SequentialCell(pieced, Maxout(pieces)))
        self.model = nn.SequentialCell(*layers, dense(hidden[-1], 1, weights=Uniform(irange)))

    def logits(self, image: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> logits (N, 1).

        Args:
            image: the images.
            noise: numbers from U(0, 1), (N, noise_size), which decide what dropout leaves out; None leaves out nothing.
        """
        x = 0.5 * image.reshape(image.shape[0], -1) + 0.5
        start = 0
        for width, keep, layer in zip(self.widths, self.keep, self.model):
            if noise is not None:
                x = drop(x, noise[:, start : start + width], keep=keep)
                start += width
            x = layer(x)
        return x

    def construct(self, image: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> probability (N, 1) that each is real; dropout leaves out nothing."""
        return ops.sigmoid(self.logits(image))
