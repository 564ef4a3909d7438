"""A small BigGAN (Brock et al. 2019): class-conditional, residual, spectrally normalised, with self-attention.

G: z is split into a chunk for the first layer and one for every block. A block's chunk, joined to the embedding of the
class, sets the gains and biases of its BatchNorms. From 7x7, each block doubles the resolution. D: residual blocks, all
but the last of which halve the resolution; the sum over the last one's positions is compared with the class's
embedding (Miyato & Koyama 2018). Weights begin orthogonal. The sizes fit 28x28 images and a CPU.
"""

from __future__ import annotations

from itertools import pairwise

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import Orthogonal, initializer
from mindspore.ops import operations as P  # noqa: N812 (MindSpore's own name for it)
from pydantic import PositiveInt

from gan_mnist.config import Widths
from gan_mnist.errors import UserError
from gan_mnist.models.layers import MOMENTUM, BatchNorm2d, one_hot
from gan_mnist.models.spectral import SpectralConv2d, SpectralDense, SpectralNorm, first_u


class Generator(nn.Cell):
    """Latent codes and classes to images.

    Args:
        latent_size: length of z.
        image_shape: (channels, height, width) of an image; every block doubles height and width.
        classes: how many there are.
        channels: of the first layer's output and of every block's.
        embedding: length of the vector by which the blocks know a class.
        attention: self-attention at half the image's resolution.
    """

    def __init__(
        self,
        latent_size: int,
        image_shape: tuple[int, int, int],
        *,
        classes: PositiveInt = 10,
        channels: Widths = [64, 32, 32],
        embedding: PositiveInt = 32,
        attention: bool = True,
    ) -> None:
        super().__init__()
        blocks = len(channels) - 1
        depth, height, width = image_shape
        _check_resolution("generator", channels, height, width)
        chunk = latent_size // len(channels)
        if not chunk:
            raise UserError(
                f"model.latent_size is {latent_size}, but model.generator.channels needs at least {len(channels)}: a "
                "share of z for every entry"
            )
        self.classes = classes
        self.chunks = [latent_size - blocks * chunk] + [chunk] * blocks
        self.base = (channels[0], height // 2**blocks, width // 2**blocks)
        self.embedding = Parameter(initializer(Orthogonal(), (classes, embedding)), name="embedding")
        self.first = SpectralDense(self.chunks[0], channels[0] * self.base[1] * self.base[2], weights=Orthogonal())
        self.blocks = nn.CellList([UpBlock(*pair, condition=embedding + chunk) for pair in pairwise(channels)])
        self.attention = Attention(channels[-2]) if attention and blocks else None
        self.norm = BatchNorm2d(channels[-1])
        self.last = SpectralConv2d(channels[-1], depth, 3)

    def construct(self, z: Tensor, y: Tensor) -> Tensor:
        """Latent codes z (N, latent_size) and classes y (N,) int32 -> images (N, C, H, W) in [-1, 1]."""
        known = _rows(self.embedding, y, self.classes)  # (N, embedding)
        first, *rest = ops.split(z, self.chunks, axis=1)
        x = self.first(first).reshape(-1, *self.base)  # (N, channels[0], 7, 7)
        for index, block in enumerate(self.blocks):
            if self.attention is not None and index == len(self.blocks) - 1:
                x = self.attention(x)
            x = block(x, ops.concat((known, rest[index]), axis=1))  # (N, channels[index + 1], twice as high and wide)
        return ops.tanh(self.last(ops.relu(self.norm(x))))


class Discriminator(nn.Cell):
    """Images and the classes that they claim to be of, to the probability that they are real.

    Args:
        image_shape: (channels, height, width) of an image; every block but the last halves height and width.
        classes: how many there are.
        channels: of every block's output.
        attention: self-attention at half the image's resolution.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        classes: PositiveInt = 10,
        channels: Widths = [32, 64, 64],
        attention: bool = True,
    ) -> None:
        super().__init__()
        depth, height, width = image_shape
        _check_resolution("discriminator", channels, height, width)
        self.classes = classes
        self.blocks = nn.CellList(
            [
                DownBlock(width_in, width_out, first=index == 0, halve=index < len(channels) - 1)
                for index, (width_in, width_out) in enumerate(pairwise([depth, *channels]))
            ]
        )
        self.attention = Attention(channels[0]) if attention and len(channels) > 1 else None
        self.last = SpectralDense(channels[-1], 1, weights=Orthogonal())
        self.embedding = Parameter(initializer(Orthogonal(), (classes, channels[-1])), name="embedding")
        self.u = first_u(classes)
        self.spectral_norm = SpectralNorm()

    def logits(self, image: Tensor, y: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] and classes y (N,) int32 -> logits (N, 1)."""
        x = image
        for index, block in enumerate(self.blocks):
            x = block(x)
            if self.attention is not None and index == 0:
                x = self.attention(x)
        n, channels, height, width = x.shape
        h = ops.reshape(ops.relu(x), (n * channels, height * width))
        h = ops.reshape(h.sum(axis=1), (n, channels))
        embedding = _rows(self.spectral_norm(self.embedding, self.u), y, self.classes)  # (N, channels)
        return self.last(h) + (embedding * h).sum(axis=1, keepdims=True)

    def construct(self, image: Tensor, y: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] and classes y (N,) int32 -> probability (N, 1) that each is real."""
        return ops.sigmoid(self.logits(image, y))


class ConditionalBatchNorm(nn.Cell):
    """Batch normalisation whose gain and bias are linear in a condition (de Vries et al. 2017).

    Args:
        channels: of the images.
        condition: length of the condition.
    """

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.ones, self.zeros = Tensor(np.ones(channels, np.float32)), Tensor(np.zeros(channels, np.float32))
        self.moving_mean = Parameter(initializer("zeros", channels), name="moving_mean", requires_grad=False)
        self.moving_variance = Parameter(initializer("ones", channels), name="moving_variance", requires_grad=False)
        self.eps = 1e-5
        self.by_own_batch = P.BatchNorm(is_training=True, epsilon=self.eps, momentum=1.0 - MOMENTUM)
        self.by_batch = None  # See `layers.synchronise`.
        self.by_statistics = P.BatchNorm(is_training=False, epsilon=self.eps)
        self.gain = SpectralDense(condition, channels, has_bias=False, weights=Orthogonal())
        self.shift = SpectralDense(condition, channels, has_bias=False, weights=Orthogonal())

    def construct(self, x: Tensor, condition: Tensor) -> Tensor:
        """(N, C, H, W) and (N, condition) -> (N, C, H, W); in training, N H W > 1."""
        if self.training and self.by_batch is not None:
            y = self.by_batch(x, self.ones, self.zeros, self.moving_mean, self.moving_variance)
        else:
            norm = self.by_own_batch if self.training else self.by_statistics
            y = norm(x, self.ones, self.zeros, self.moving_mean, self.moving_variance)[0]
        # One row or one "channel" for each image's channel: four-dimensional broadcasting is slow on a CPU.
        n, channels, height, width = x.shape
        gain = ops.reshape(1.0 + self.gain(condition), (n * channels, 1))
        shift = ops.reshape(self.shift(condition), (n * channels,))
        y = ops.reshape(y, (n * channels, height * width)) * gain
        y = ops.bias_add(ops.reshape(y, (1, n * channels, height, width)), shift)
        return ops.reshape(y, (n, channels, height, width))


class UpBlock(nn.Cell):
    """G's residual block (Brock et al. 2019, figure 15b): doubles height and width.

    Args:
        channels_in: of the input.
        channels_out: of the output.
        condition: length of what conditions the BatchNorms.
    """

    def __init__(self, channels_in: int, channels_out: int, *, condition: int) -> None:
        super().__init__()
        self.norm1 = ConditionalBatchNorm(channels_in, condition)
        self.conv1 = SpectralConv2d(channels_in, channels_out, 3, resample="up", has_bias=False)
        self.norm2 = ConditionalBatchNorm(channels_out, condition)
        self.conv2 = SpectralConv2d(channels_out, channels_out, 3)
        self.skip = SpectralConv2d(channels_in, channels_out, 1)

    def construct(self, x: Tensor, condition: Tensor) -> Tensor:
        """(N, in, H, W) and (N, condition) -> (N, out, 2H, 2W)."""
        h = self.conv1(ops.relu(self.norm1(x, condition)))  # (N, out, 2H, 2W)
        h = self.conv2(ops.relu(self.norm2(h, condition)))
        # Enlarging after the 1x1 convolution is the same as before it, and cheaper.
        return h + ops.interpolate(self.skip(x), scale_factor=2.0, recompute_scale_factor=True)


class DownBlock(nn.Cell):
    """D's residual block (Brock et al. 2019, figure 15c).

    Args:
        channels_in: of the input.
        channels_out: of the output.
        first: the input is the image, to which no ReLU is applied.
        halve: whether height and width are halved.
    """

    def __init__(self, channels_in: int, channels_out: int, *, first: bool, halve: bool) -> None:
        super().__init__()
        self.first = first
        self.halve = halve
        self.conv1 = SpectralConv2d(channels_in, channels_out, 3)
        self.conv2 = SpectralConv2d(channels_out, channels_out, 3, resample="down" if halve else "")
        self.skip = SpectralConv2d(channels_in, channels_out, 1) if halve or channels_in != channels_out else None

    def construct(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W), or half as high and wide."""
        h = self.conv1(x if self.first else ops.relu(x))  # (N, out, H, W)
        h = self.conv2(ops.relu(h))
        if self.halve:
            x = ops.avg_pool2d(x, 2, 2)
        return h + (x if self.skip is None else self.skip(x))


class Attention(nn.Cell):
    """Self-attention over the positions of an image (Zhang et al. 2019, section 3), added to it in a learned share.

        beta = softmax(theta(x)^T phi(x)),   y = x + gamma o(beta g(x)),   gamma begins at 0

    As in BigGAN, what is looked at (phi and g) has half the resolution; by the mean of 2x2, since the gradient of their
    maximum is slow on a CPU.

    Args:
        channels: of the images; theta and phi have an eighth of them, g half.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow, half = max(1, channels // 8), max(1, channels // 2)
        self.theta = SpectralConv2d(channels, narrow, 1, has_bias=False)
        self.phi = SpectralConv2d(channels, narrow, 1, has_bias=False)
        self.g = SpectralConv2d(channels, half, 1, has_bias=False)
        self.o = SpectralConv2d(half, channels, 1, has_bias=False)
        self.gamma = Parameter(Tensor(0.0, ms.float32), name="gamma")
        self.compare = P.BatchMatMul(transpose_a=True)
        self.gather = P.BatchMatMul(transpose_b=True)

    def construct(self, x: Tensor) -> Tensor:
        """(N, C, H, W), H and W even -> the same shape."""
        n, _, height, width = x.shape
        small = ops.avg_pool2d(x, 2, 2)
        theta = ops.reshape(self.theta(x), (n, -1, height * width))
        phi = ops.reshape(self.phi(small), (n, -1, height * width // 4))
        g = ops.reshape(self.g(small), (n, -1, height * width // 4))
        beta = ops.softmax(self.compare(theta, phi), axis=-1)  # (N, H W, H W / 4)
        found = ops.reshape(self.gather(g, beta), (n, -1, height, width))
        return x + self.gamma * self.o(found)


def _rows(table: Tensor, y: Tensor, classes: int) -> Tensor:
    """Row y of a table (classes, width), for each y (N,); as a matrix product, whose gradient is fast."""
    return ops.matmul(one_hot(y, classes), table)


def _check_resolution(role: str, channels: list[int], height: int, width: int) -> None:
    times = len(channels) - 1
    if height % 2**times or width % 2**times:
        raise UserError(
            f"model.{role}.channels has {len(channels)} entries, which halves the image {times} times, and {height}x"
            f"{width} does not divide so often; give fewer"
        )
