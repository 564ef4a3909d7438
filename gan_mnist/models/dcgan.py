"""Deep convolutional networks, after Radford et al. 2016, "Unsupervised Representation Learning with DCGANs".

The options decide the size: for 28x28 images G with channels [256, 128] goes 7x7x256 - 14x14x128 - 28x28x1; the paper's
own for 64x64 is [1024, 512, 256, 128] with kernel 4: 4x4x1024 - 8x8x512 - 16x16x256 - 32x32x128 - 64x64x3.
"""

from __future__ import annotations

from typing import Annotated

from mindspore import Tensor, nn, ops
from pydantic import Field

from gan_mnist.config import Share, Widths
from gan_mnist.errors import UserError
from gan_mnist.models.convolutions import WEIGHTS, batch_norm_2d, conv, conv_transpose, halved
from gan_mnist.models.layers import dense, drop, leaky_relu

Kernel = Annotated[int, Field(ge=2)]
"""Side of the convolutions' square kernels."""


class Generator(nn.Cell):
    """Latent codes to images: a projection, then transposed convolutions that double the sides; BatchNorm and ReLU.

    Args:
        latent_size: length of z.
        image_shape: (channels, height, width) of an image; the sides are divisible by 2 to the number of `channels`.
        channels: of the projection and of each transposed convolution but the last, which makes the image.
        kernel: side of the kernels.

    Raises:
        UserError: the sides of the images are not divisible.
    """

    def __init__(
        self,
        latent_size: int,
        image_shape: tuple[int, int, int],
        *,
        channels: Widths = [256, 128],
        kernel: Kernel = 5,
    ) -> None:
        super().__init__()
        colours, height, width = image_shape
        factor = 2 ** len(channels)
        if height % factor or width % factor:
            raise UserError(
                f"model.generator.channels: {len(channels)} transposed convolutions make images whose sides are "
                f"divisible by {factor}, and {height}x{width} is not; give fewer channels"
            )
        start = (channels[0], height // factor, width // factor)
        layers: list[nn.Cell] = [
            nn.Dense(latent_size, start[0] * start[1] * start[2], weight_init=WEIGHTS, has_bias=False),
            nn.Unflatten(1, start),
        ]
        for channels_in, channels_out in zip(channels, channels[1:]):
            layers += [batch_norm_2d(channels_in), nn.ReLU()]
            layers += [conv_transpose(channels_in, channels_out, kernel=kernel, bias=False)]
        layers += [batch_norm_2d(channels[-1]), nn.ReLU(), conv_transpose(channels[-1], colours, kernel=kernel)]
        self.model = nn.SequentialCell(*layers, nn.Tanh())

    def construct(self, z: Tensor) -> Tensor:
        """Latent codes z (N, latent_size) -> images (N, C, H, W) in [-1, 1]."""
        return self.model(z)


class Discriminator(nn.Cell):
    """Images to the probability that they are real: convolutions that halve the sides, LeakyReLU(0.2), one Dense.

    Args:
        image_shape: (channels, height, width) of an image.
        channels: of each convolution.
        kernel: side of the kernels.
        normalize: BatchNorm after each convolution but the first, as in the paper.
        dropout: share of each convolution's units that is left out in training; the paper has none.

    Raises:
        UserError: the images are too small for so many convolutions.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        channels: Widths = [32, 64, 128],
        kernel: Kernel = 5,
        normalize: bool = False,
        dropout: Share = 0.0,
    ) -> None:
        super().__init__()
        colours, height, width = image_shape
        blocks: list[nn.Cell] = []
        self.shapes: list[tuple[int, int, int]] = []  # What each block returns.
        for index, (channels_in, channels_out) in enumerate(zip([colours, *channels], channels)):
            norm = normalize and index > 0
            block = [conv(channels_in, channels_out, kernel=kernel, bias=not norm)]
            block += [batch_norm_2d(channels_out)] if norm else []
            blocks.append(nn.SequentialCell(*block, leaky_relu(0.2)))
            height, width = halved(height, kernel), halved(width, kernel)
            self.shapes.append((channels_out, height, width))
        if min(height, width) < 1:
            raise UserError(
                f"model.discriminator.channels: images of {image_shape[1]}x{image_shape[2]} can't be halved "
                f"{len(channels)} times by kernels of {kernel}; give fewer channels"
            )
        sizes = [size * height * width for size, height, width in self.shapes]
        self.keep = 1.0 - dropout
        self.noise_size = sum(sizes) if dropout else 0
        self.model = nn.SequentialCell(*blocks, dense(sizes[-1], 1, weights=WEIGHTS))

    def logits(self, image: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> logits (N, 1); the losses work on these.

        Args:
            image: the images.
            noise: numbers from U(0, 1), (N, noise_size), which decide what dropout leaves out; None leaves out nothing.
        """
        x = image
        start = 0
        for index, (channels, height, width) in enumerate(self.shapes):
            x = self.model[index](x)  # (N, channels, height, width)
            if noise is not None:
                size = channels * height * width
                x = drop(x, noise[:, start : start + size].reshape(x.shape), keep=self.keep)
                start += size
        return self.model[-1](x.reshape(x.shape[0], -1))

    def construct(self, image: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> probability (N, 1) that each is real; dropout leaves out nothing."""
        return ops.sigmoid(self.logits(image))
