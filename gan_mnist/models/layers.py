"""Layers whose forward and backward passes are a few large kernels each: the fast way on a CPU.

Each computes the same function as its namesake in `mindspore.nn`, with the same parameters under the same names, so
that checkpoints are interchangeable. The kernels differ: the graph that automatic differentiation makes of the stock
layers spends half of a small network's time in slow broadcasts, in `Select` and `BatchNorm` kernels, and in launching
some 300 of them. Here the gradients are written out, in the `bprop` of small cells without parameters.

A `bprop` here reads only what its `construct` returned, and `dout`: an input that is a Parameter reaches it with the
value that it had when the compiled step began, and the gradient would go through the old D without a word.

On GPU and Ascend the library's layers are the fast ones: `dense`, `batch_norm` and `leaky_relu` choose.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import Initializer, initializer
from mindspore.ops import operations as P  # noqa: N812 (MindSpore's own name for it)
from mindspore.ops.operations import _grad_ops
from mindspore.ops.primitive import constexpr

from gan_mnist.collectives import Mean, mean_over

MOMENTUM = 0.9
"""BatchNorm's, in MindSpore's convention: moving = 0.9 moving + 0.1 batch."""

_matmul = P.MatMul()
_bias_add = P.BiasAdd()  # Adds a row to every row, much faster than a broadcasting Add.
_relu_grad = _grad_ops.ReluGrad()


def dense(width_in: int, width_out: int, *, train_bias: bool = True, weights: Initializer | None = None) -> nn.Cell:
    """Dense layer, (N, width_in) -> (N, width_out).

    Args:
        width_in: inputs.
        width_out: outputs.
        train_bias: False keeps the bias as it is. Before a BatchNorm its gradient is zero: the batch mean, which is
            subtracted, contains it.
        weights: their initial distribution, the bias then beginning at zero; None for MindSpore's own of both.
    """
    layer = Dense(width_in, width_out) if _on_cpu() else nn.Dense(width_in, width_out)
    if weights is not None:
        layer.weight.set_data(initializer(weights, layer.weight.shape))
        layer.bias.set_data(initializer("zeros", layer.bias.shape))
    layer.bias.requires_grad = train_bias
    return layer


def batch_norm(width: int, *, eps: float = 1e-5) -> nn.Cell:
    """Batch normalisation over (N, width), MindSpore's momentum 0.9 (Ioffe & Szegedy 2015).

    Args:
        width: features.
        eps: added to the variance. By name only: `BatchNorm1d(256, 0.8)`, meant as a momentum, is an eps of 0.8.
    """
    return BatchNorm1d(width, eps=eps) if _on_cpu() else LibraryBatchNorm1d(width, eps=eps)


def synchronise(network: nn.Cell, workers: int) -> None:
    """Let a network's BatchNorms normalise, in training, by the statistics of all workers' images together.

    `nn.SyncBatchNorm` does that on Ascend alone.

    Args:
        network: one of `models`, not compiled yet.
        workers: how many there are.
    """
    for _, cell in network.cells_and_names():
        if hasattr(cell, "by_batch"):
            cell.by_batch = NormalizeByBatch(cell.eps, workers=workers)


def leaky_relu(alpha: float) -> nn.Cell:
    """max(x, alpha x), 0 < alpha < 1."""
    return LeakyReLU(alpha) if _on_cpu() else nn.LeakyReLU(alpha)


def one_hot(y: Tensor, classes: int) -> Tensor:
    """Classes y (N,) int32 as rows (N, classes): 1 at the class, 0 elsewhere."""
    return ops.one_hot(y, classes, Tensor(1.0, ms.float32), Tensor(0.0, ms.float32))


def drop(x: Tensor, numbers: Tensor, *, keep: float) -> Tensor:
    """Leave out entries at random, and scale the others up in return (Srivastava et al. 2014).

    Args:
        x: (N, width).
        numbers: from U(0, 1), (N, width): an entry stays where its number is below `keep`. They come from outside:
            what MindSpore draws itself could not be drawn again after a resume.
        keep: the share that stays.
    """
    return x * ops.cast(numbers < keep, x.dtype) * (1.0 / keep)


def _on_cpu() -> bool:
    return ms.get_context("device_target") == "CPU"


@constexpr
def _full(shape: tuple[int, ...], value: float) -> Tensor:
    """A constant of the compiled graph; `ops.full` would run a kernel at every step."""
    return Tensor(np.full(shape, value, np.float32))


class _AddBias(nn.Cell):
    """x + bias, the bias gradient as a product with a row of ones, which is faster than BiasAddGrad."""

    def construct(self, x: Tensor, bias: Tensor) -> Tensor:
        return _bias_add(x, bias)

    def bprop(self, x: Tensor, bias: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        ones = _full((1, dout.shape[0]), 1.0)
        return dout, ops.reshape(_matmul(ones, dout), (-1,))


class Dense(nn.Dense):
    """`nn.Dense` for (N, in) inputs."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.add_bias = _AddBias()

    def construct(self, x: Tensor) -> Tensor:
        """(N, in) -> (N, out)."""
        return self.add_bias(self.matmul(x, self.weight), self.bias)


class _LeakyReLU(nn.Cell):
    """Returns the output and the slope at each element, by which the gradient is multiplied."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rise, low = _full(x.shape, 1.0 - self.alpha), _full(x.shape, self.alpha)
        slope = _relu_grad(rise, x) + low  # 1 where x > 0, else alpha; a Select would be slow.
        return x * slope, slope

    def bprop(self, x: Tensor, out: tuple[Tensor, Tensor], dout: tuple[Tensor, Tensor]) -> tuple[Tensor]:
        return (dout[0] * out[1],)


class LeakyReLU(nn.Cell):
    """`nn.LeakyReLU`."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.leaky_relu = _LeakyReLU(alpha)

    def construct(self, x: Tensor) -> Tensor:
        """Any shape."""
        return self.leaky_relu(x)[0]


class _Normalize(nn.Cell):
    """Batch normalisation in training.

    Returns the output (N, C) and what it was made of: x - mean (N, C), and the rows (1, C) of 1 / standard deviation,
    scale, -mean and biased variance.

    Args:
        eps: added to the variance.
        mean: over workers that have N rows each, of statistics and of what flows back through them.
    """

    def __init__(self, eps: float, mean: Mean) -> None:
        super().__init__()
        self.eps = eps
        self.mean = mean

    def construct(self, x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
        minus_mean = _matmul(_full((1, x.shape[0]), -1.0 / x.shape[0]), x)  # Negative: BiasAdd then subtracts the mean.
        (minus_mean,) = self.mean((minus_mean,))
        centred = _bias_add(x, ops.reshape(minus_mean, (-1,)))
        variance = _matmul(_full((1, x.shape[0]), 1.0 / x.shape[0]), centred * centred)
        (variance,) = self.mean((variance,))
        r = ops.rsqrt(variance + self.eps)
        scale = gamma * r
        return _bias_add(centred * scale, beta), centred, r, scale, minus_mean, variance

    def bprop(
        self, x: Tensor, gamma: Tensor, beta: Tensor, out: tuple[Tensor, ...], dout: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        # dx = scale (dy - dbeta / N - h dgamma / N), h = (x - mean) r the normalised input.
        _, centred, r, scale, _, _ = out
        dy, count = dout[0], x.shape[0]
        ones = _full((1, count), 1.0)
        dbeta = _matmul(ones, dy)
        dgamma = r * _matmul(ones, dy * centred)
        # The gradients of all workers' gamma and beta are averaged with all others, later; x needs the means now.
        mean_dgamma, mean_dbeta = self.mean((dgamma, dbeta))
        fraction = scale * (-1.0 / count)
        dx = _bias_add(dy * scale + centred * (fraction * r * mean_dgamma), ops.reshape(fraction * mean_dbeta, (-1,)))
        return dx, ops.reshape(dgamma, (-1,)), ops.reshape(dbeta, (-1,))


class NormalizeByBatch(nn.Cell):
    """Batch normalisation in training; the statistics for later: moving = momentum moving + (1 - momentum) batch.

    Args:
        eps: added to the variance.
        momentum: in MindSpore's convention.
        workers: how many have a part of the batch each, all of the same size.
    """

    def __init__(self, eps: float, momentum: float = MOMENTUM, *, workers: int = 1) -> None:
        super().__init__()
        self.momentum = momentum
        self.workers = workers
        self.normalize = _Normalize(eps, mean_over(workers))

    def construct(
        self, x: Tensor, gamma: Tensor, beta: Tensor, moving_mean: Parameter, moving_variance: Parameter
    ) -> Tensor:
        """(N, C) or (N, C, H, W) -> the same shape."""
        if x.ndim == 4:
            n, channels, height, width = x.shape
            rows = ops.reshape(ops.transpose(x, (0, 2, 3, 1)), (-1, channels))  # (N H W, C)
            y = self.construct(rows, gamma, beta, moving_mean, moving_variance)
            return ops.transpose(ops.reshape(y, (n, height, width, channels)), (0, 3, 1, 2))
        y, _, _, _, minus_mean, variance = self.normalize(x, gamma, beta)
        new, count = 1.0 - self.momentum, self.workers * x.shape[0]
        unbiased = count / max(1, count - 1)
        minus_mean = ops.stop_gradient(ops.reshape(minus_mean, (-1,)))
        variance = ops.stop_gradient(ops.reshape(variance, (-1,)))
        ops.assign_add(moving_mean, -new * (minus_mean + moving_mean))
        ops.assign_add(moving_variance, new * (unbiased * variance - moving_variance))
        return y


class BatchNorm1d(nn.Cell):
    """`nn.BatchNorm1d` over (N, C)."""

    def __init__(self, num_features: int, *, eps: float = 1e-5, momentum: float = MOMENTUM) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.gamma = Parameter(initializer("ones", num_features), name="gamma")
        self.beta = Parameter(initializer("zeros", num_features), name="beta")
        self.moving_mean = Parameter(initializer("zeros", num_features), name="moving_mean", requires_grad=False)
        self.moving_variance = Parameter(initializer("ones", num_features), name="moving_variance", requires_grad=False)
        self.by_batch = NormalizeByBatch(eps, momentum)

    def construct(self, x: Tensor) -> Tensor:
        """(N, C) -> (N, C); in training, N > 1."""
        if not self.training:
            scale = self.gamma * ops.rsqrt(self.moving_variance + self.eps)
            return _bias_add(x * scale, self.beta - self.moving_mean * scale)
        return self.by_batch(x, self.gamma, self.beta, self.moving_mean, self.moving_variance)


class LibraryBatchNorm1d(nn.BatchNorm1d):
    """`nn.BatchNorm1d`, which `synchronise` replaces by our own in training."""

    def __init__(self, num_features: int, *, eps: float = 1e-5) -> None:
        super().__init__(num_features, eps=eps, momentum=MOMENTUM)
        self.by_batch = None

    def construct(self, x: Tensor) -> Tensor:
        """(N, C) -> (N, C)."""
        if self.training and self.by_batch is not None:
            return self.by_batch(x, self.gamma, self.beta, self.moving_mean, self.moving_variance)
        return super().construct(x)


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d`, which `synchronise` replaces by our own in training."""

    def __init__(self, num_features: int, *, eps: float = 1e-5) -> None:
        super().__init__(num_features, eps=eps, momentum=MOMENTUM)
        self.by_batch = None

    def construct(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        if self.training and self.by_batch is not None:
            return self.by_batch(x, self.gamma, self.beta, self.moving_mean, self.moving_variance)
        return super().construct(x)
