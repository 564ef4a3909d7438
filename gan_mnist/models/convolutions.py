"""Layers of the convolutional networks, over (N, C, H, W).

Their kernels are the library's, which on a CPU need the instruction set of `environment.settings`. A BatchNorm of our
own, as the Dense networks have one in `layers`, would pass over memory more often than oneDNN's.
"""

from __future__ import annotations

from collections.abc import Callable

from mindspore import Tensor, nn
from mindspore.common.initializer import Normal

from gan_mnist.models.layers import BatchNorm2d

WEIGHTS = Normal(0.02)
"""Initial weights of Radford et al. 2016, section 3."""


def halved(side: int, kernel: int) -> int:
    """What `conv` makes of a side: half of it, where it is odd rounded up for odd kernels, down for even ones."""
    return (side + 2 * ((kernel - 1) // 2) - kernel) // 2 + 1


def conv(channels_in: int, channels_out: int, *, kernel: int, bias: bool = True) -> nn.Cell:
    """Convolution of stride 2, (N, channels_in, H, W) -> (N, channels_out, H / 2, W / 2); see `halved`."""
    return _of_stride_2(nn.Conv2d, channels_in, channels_out, kernel, bias)


class ConvTranspose(nn.Conv2dTranspose):
    """`nn.Conv2dTranspose` of stride 2 that makes the sides exactly twice as long.

    The library's reaches that size for odd kernels by `output_padding`, which fills the last row and column with zeros
    instead of computing them.
    """

    def construct(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, 2 H, 2 W)."""
        count, _, height, width = x.shape
        y = self.conv2d_transpose(x, self.weight, (count, self.out_channels, 2 * height, 2 * width))
        return self.bias_add(y, self.bias) if self.has_bias else y


def conv_transpose(channels_in: int, channels_out: int, *, kernel: int, bias: bool = True) -> nn.Cell:
    """Transposed convolution of stride 2, (N, channels_in, H, W) -> (N, channels_out, 2 H, 2 W); kernel > 1."""
    return _of_stride_2(ConvTranspose, channels_in, channels_out, kernel, bias)


def _of_stride_2(
    layer: Callable[..., nn.Cell], channels_in: int, channels_out: int, kernel: int, bias: bool
) -> nn.Cell:
    return layer(
        channels_in,
        channels_out,
        kernel,
        stride=2,
        pad_mode="pad",
        padding=(kernel - 1) // 2,
        has_bias=bias,
        weight_init=WEIGHTS,
        bias_init="zeros",
    )


def batch_norm_2d(channels: int) -> nn.Cell:
    """Batch normalisation of each channel, eps 1e-5, MindSpore's momentum 0.9 (Ioffe & Szegedy 2015, section 3.2)."""
    return BatchNorm2d(channels)
