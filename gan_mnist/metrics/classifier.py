"""The classifier whose features the published measures are taken on: MNIST's stand-in for ImageNet's Inception.

Its weights ship with the package (`classifier.ckpt`), so that a Frechet distance means the same to everybody;
`scripts/train_classifier.py` makes them again, to the bit on the same kind of machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from gan_mnist import checkpoint

WEIGHTS = Path(__file__).with_name("classifier.ckpt")
"""Float16, 0.4 MB."""
FEATURES = 96
BATCH = 500
"""Images that pass through together, always as many: each new shape would be compiled anew."""

_CHANNELS = (1, 32, 64, 64)


class Reading(NamedTuple):
    """What the classifier sees in images."""

    features: np.ndarray
    """float32 (N, FEATURES): the layer before the last, after its ReLU."""
    probabilities: np.ndarray
    """float32 (N, 10): of each digit."""


class Classifier(nn.Cell):
    """Three convolutions (kernel 4, stride 2) and two dense layers.

    The convolutions are written as matrix products over columns of patches: oneDNN's own, with the instruction set that
    a Dense GAN wants in the same process, run a hundred times slower (see `gan_mnist.environment`).

    Args:
        rng: draws the initial weights (He et al. 2015).
    """

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__()

        def layer(number: int, width_in: int, width_out: int) -> tuple[Parameter, Parameter]:
            weight = rng.standard_normal((width_in, width_out), dtype=np.float32) * np.float32((2 / width_in) ** 0.5)
            return (
                Parameter(Tensor(weight), name=f"layer{number}.weight"),
                Parameter(Tensor(np.zeros(width_out, np.float32)), name=f"layer{number}.bias"),
            )

        for number, (channels_in, channels_out) in enumerate(zip(_CHANNELS, _CHANNELS[1:]), start=1):
            weight, bias = layer(number, 16 * channels_in, channels_out)
            setattr(self, f"weight{number}", weight)
            setattr(self, f"bias{number}", bias)
        self.weight4, self.bias4 = layer(4, 4 * 4 * _CHANNELS[-1], FEATURES)
        self.weight5, self.bias5 = layer(5, FEATURES, 10)

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 28, 28) in [0, 1] -> features (N, FEATURES), logits (N, 10)."""
        x = ops.reshape(x, (-1, 28, 28, 1))
        x = _convolve(x, self.weight1, self.bias1, (1, 1))  # (N, 14, 14, 32)
        x = _convolve(x, self.weight2, self.bias2, (1, 1))  # (N, 7, 7, 64)
        x = _convolve(x, self.weight3, self.bias3, (1, 2))  # (N, 4, 4, 64)
        x = ops.reshape(x, (-1, 4 * 4 * _CHANNELS[-1]))
        features = ops.relu(ops.matmul(x, self.weight4) + self.bias4)
        return features, ops.matmul(features, self.weight5) + self.bias5


def _convolve(x: Tensor, weight: Tensor, bias: Tensor, pad: tuple[int, int]) -> Tensor:
    """Convolution with a 4x4 kernel and stride 2, then ReLU: (N, H, W, C) -> (N, h, w, C'), 2h + 2 = H + sum(pad).

    Cut into blocks of 2x2 pixels, an image needs a 2x2 kernel over blocks with stride 1: four slices instead of 16.

    Args:
        x: the images.
        weight: (16 C, C').
        bias: (C',).
        pad: rows of zeros above and below, and columns left and right.
    """
    count, height, width, channels = x.shape
    before, after = (ops.zeros((count, rows, width, channels), x.dtype) for rows in pad)
    x = ops.concat((before, x, after), axis=1)  # `ops.pad` and indexing take ten times as long as concat and slice.
    height += sum(pad)
    before, after = (ops.zeros((count, height, columns, channels), x.dtype) for columns in pad)
    x = ops.concat((before, x, after), axis=2)
    h, w = height // 2 - 1, (width + sum(pad)) // 2 - 1
    x = ops.reshape(x, (count, h + 1, 2, w + 1, 2 * channels))
    x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4)), (count, h + 1, w + 1, 4 * channels))
    corners = ((0, 0), (0, 1), (1, 0), (1, 1))
    neighbours = [ops.slice(x, (0, row, column, 0), (count, h, w, 4 * channels)) for row, column in corners]
    patches = ops.concat(neighbours, axis=3)  # (N, h, w, 16 C)
    y = ops.relu(ops.matmul(ops.reshape(patches, (-1, 16 * channels)), weight) + bias)
    return ops.reshape(y, (count, h, w, -1))


class Reader:
    """The trained classifier, compiled once.

    Args:
        weights: its checkpoint.

    Raises:
        UserError: the file is missing or damaged.
    """

    def __init__(self, weights: Path = WEIGHTS) -> None:
        network = Classifier(np.random.default_rng(0))
        parameters = {parameter.name: parameter for parameter in network.get_parameters()}
        checkpoint.assign(parameters, checkpoint.load(weights).arrays, weights)
        network.set_train(False)

        @ms.jit
        def forward(x: Tensor) -> tuple[Tensor, Tensor]:
            features, logits = network(x)
            return features, ops.softmax(logits, axis=-1)

        self._forward = forward

    def read(self, images: np.ndarray) -> Reading:
        """Features and class probabilities of uint8 images (N, 28, 28), white on black; each on its own."""
        features: list[np.ndarray] = []
        probabilities: list[np.ndarray] = []
        for start in range(0, len(images), BATCH):
            x = images[start : start + BATCH].astype(np.float32) / 255
            outputs = self._forward(Tensor(np.pad(x, ((0, BATCH - len(x)), (0, 0), (0, 0)))))
            for collected, output in zip((features, probabilities), outputs):
                collected.append(output.asnumpy()[: len(x)])
        return Reading(np.concatenate(features), np.concatenate(probabilities))
