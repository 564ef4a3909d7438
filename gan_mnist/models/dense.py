"""The course's fully connected networks, after Goodfellow et al. 2014.

G: 100-128-256-512-1024-784 and D: 784-512-256-1 with the default options.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

from mindspore import Tensor, nn, ops
from pydantic import Field

from gan_mnist.config import Share, Widths
from gan_mnist.models import layers
from gan_mnist.models.layers import dense, drop
from gan_mnist.models.spectral import SpectralDense

Activation = Literal["relu", "leaky_relu"]
"""Between the layers: max(x, 0), or LeakyReLU(0.2), which lets a fifth of the gradient of negative inputs through."""
ACTIVATIONS: dict[str, Callable[[], nn.Cell]] = {"relu": nn.ReLU, "leaky_relu": lambda: layers.leaky_relu(0.2)}


class Generator(nn.Cell):
    """Latent codes to images: Dense layers with ReLU, BatchNorm from the second on, Tanh at the end.

    Args:
        latent_size: length of z.
        image_shape: (channels, height, width) of an image.
        hidden: widths of the hidden layers.
        activation: what follows each of them.
        batch_norm: whether there is a BatchNorm before it, from the second layer on.
        eps: what BatchNorm adds to the variance.
    """

    def __init__(
        self,
        latent_size: int,
        image_shape: tuple[int, int, int],
        *,
        hidden: Widths = [128, 256, 512, 1024],
        activation: Activation = "relu",
        batch_norm: bool = True,
        eps: Annotated[float, Field(gt=0)] = 1e-5,
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        cells: list[nn.Cell] = []
        for index, (width_in, width_out) in enumerate(zip([latent_size, *hidden], hidden)):
            if batch_norm and index > 0:
                cells += [dense(width_in, width_out, train_bias=False), layers.batch_norm(width_out, eps=eps)]
            else:
                cells += [dense(width_in, width_out)]
            cells += [ACTIVATIONS[activation]()]
        self.model = nn.SequentialCell(*cells, dense(hidden[-1], math.prod(image_shape)), nn.Tanh())

    def construct(self, z: Tensor) -> Tensor:
        """Latent codes z (N, latent_size) -> images (N, C, H, W) in [-1, 1]."""
        image = self.model(z)  # (N, C*H*W)
        return image.reshape(-1, *self.image_shape)  # (N, C, H, W)


class Discriminator(nn.Cell):
    """Images to the probability that they are real: Dense layers with LeakyReLU(0.2), Sigmoid at the end.

    Args:
        image_shape: (channels, height, width) of an image.
        hidden: widths of the hidden layers.
        dropout: share of the hidden units that is left out in training; the course has none.
        activation: what follows each hidden layer.
        relu_logits: a ReLU before the Sigmoid, a known slip: no probability is below 1/2, and where one is exactly 1/2
            no gradient passes.
        spectral_norm: whether every layer is normalised by its largest singular value (Miyato et al. 2018).
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        hidden: Widths = [512, 256],
        dropout: Share = 0.0,
        activation: Activation = "leaky_relu",
        relu_logits: bool = False,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        layer = SpectralDense if spectral_norm else dense
        cells: list[nn.Cell] = []
        for width_in, width_out in zip([math.prod(image_shape), *hidden], hidden):
            cells += [layer(width_in, width_out), ACTIVATIONS[activation]()]
        self.model = nn.SequentialCell(*cells, layer(hidden[-1], 1))
        self.hidden = hidden
        self.relu_logits = relu_logits
        self.keep = 1.0 - dropout
        self.noise_size = sum(hidden) if dropout else 0

    def logits(self, image: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> logits (N, 1); the losses work on these.

        Args:
            image: the images.
            noise: numbers from U(0, 1), (N, noise_size), which decide what dropout leaves out; None leaves out nothing.
        """
        x = image.reshape(image.shape[0], -1)
        if noise is None:
            x = self.model(x)
        else:
            for index, numbers in enumerate(ops.split(noise, self.hidden, axis=1)):
                x = self.model[2 * index + 1](self.model[2 * index](x))
                x = drop(x, numbers, keep=self.keep)
            x = self.model[-1](x)
        return ops.relu(x) if self.relu_logits else x

    def construct(self, image: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> probability (N, 1) that each is real."""
        return ops.sigmoid(self.logits(image))
