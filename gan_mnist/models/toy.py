"""Small Dense networks for points: G's outputs are unbounded, since points are not confined to [-1, 1]."""

from __future__ import annotations

import math
from typing import Literal

from mindspore import Tensor, nn, ops

from gan_mnist.config import Widths
from gan_mnist.models.layers import dense, leaky_relu

Activation = Literal["relu", "leaky_relu", "tanh"]


def _layers(width_in: int, hidden: Widths, width_out: int, activation: Activation) -> nn.SequentialCell:
    """Dense layers, an activation after each but the last."""
    layers: list[nn.Cell] = []
    for width, next_width in zip([width_in, *hidden], hidden):
        layers += [dense(width, next_width), _activation(activation)]
    return nn.SequentialCell(*layers, dense(hidden[-1], width_out))


def _activation(name: Activation) -> nn.Cell:
    return leaky_relu(0.2) if name == "leaky_relu" else {"relu": nn.ReLU, "tanh": nn.Tanh}[name]()


class Generator(nn.Cell):
    """Latent codes to points.

    Args:
        latent_size: length of z.
        image_shape: (coordinates, 1, 1).
        hidden: widths of the hidden layers.
        activation: after each of them.
    """

    def __init__(
        self,
        latent_size: int,
        image_shape: tuple[int, int, int],
        *,
        hidden: Widths = [128, 128],
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.model = _layers(latent_size, hidden, math.prod(image_shape), activation)

    def construct(self, z: Tensor) -> Tensor:
        """Latent codes z (N, latent_size) -> points (N, coordinates, 1, 1), unbounded."""
        return self.model(z).reshape(-1, *self.image_shape)


class Discriminator(nn.Cell):
    """Points to the probability that they are real.

    Args:
        image_shape: (coordinates, 1, 1); of a pack, its points' coordinates joined.
        hidden: widths of the hidden layers.
        activation: after each of them.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        hidden: Widths = [128, 128],
        activation: Activation = "leaky_relu",
    ) -> None:
        super().__init__()
        self.model = _layers(math.prod(image_shape), hidden, 1, activation)

    def logits(self, image: Tensor) -> Tensor:
        """Points (N, coordinates, 1, 1) -> logits (N, 1)."""
        return self.model(image.reshape(image.shape[0], -1))

    def construct(self, image: Tensor) -> Tensor:
        """Points (N, coordinates, 1, 1) -> probability (N, 1) that each is real."""
        return ops.sigmoid(self.logits(image))
