"""Large batches in little memory: a step whose gradients are added up slice by slice, then applied once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from gan_mnist.collectives import Mean

TrainStep = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]
Gradients = tuple[Tensor, ...]


def make_sliced_step(
    of_d: Callable[..., tuple[tuple[Tensor, Tensor, Tensor], Gradients]],
    of_g: Callable[..., tuple[Tensor, Gradients]],
    optim_d: nn.Optimizer,
    optim_g: nn.Optimizer,
    mean: Mean,
    *,
    slices: int,
    sides: Sequence[int],
) -> TrainStep:
    """A step that updates D, then G, each by the mean of the gradients of as many slices of the batch.

    BatchNorm normalises each slice by itself, and G draws every image twice, once for D and once for itself; else it is
    the mathematics of the step that takes the batch at once.

    Args:
        of_d: (x, y, z, *drawn) -> (loss_d, logits of x, logits of G(z)), D's gradients.
        of_g: (x, y, z, *drawn) -> loss_g, G's gradients.
        optim_d: D's optimizer.
        optim_g: G's.
        mean: over all workers, of gradients.
        slices: how many; divides N.
        sides: for each of the step's arguments 1, or 2 if it holds N rows for real images, then N for generated ones.

    Returns:
        train_step, as `steps.make_train_step` describes it.
    """
    sums_d, sums_g = _zeros_like(optim_d.parameters), _zeros_like(optim_g.parameters)

    def add(sums: list[Parameter], gradients: Gradients) -> None:
        for total, gradient in zip(sums, gradients):
            ops.assign_add(total, gradient)

    @ms.jit(jit_level="O1")
    def add_d(*batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen, gradients = of_d(*batch)
        add(sums_d, gradients)
        return seen

    @ms.jit(jit_level="O1")
    def add_g(*batch: Tensor) -> Tensor:
        loss_g, gradients = of_g(*batch)
        add(sums_g, gradients)
        return loss_g

    @ms.jit(jit_level="O1")
    def update_d() -> None:
        optim_d(mean([total / slices for total in sums_d]))
        for total in sums_d:
            ops.assign(total, ops.zeros_like(total))

    @ms.jit(jit_level="O1")
    def update_g() -> None:
        optim_g(mean([total / slices for total in sums_g]))
        for total in sums_g:
            ops.assign(total, ops.zeros_like(total))

    def cut(whole: Tensor, parts: int, index: int) -> Tensor:
        """A slice of the batch: rows of each part."""
        rows = ops.reshape(whole, (parts, slices, -1, *whole.shape[1:]))[:, index]
        return ops.reshape(rows, (-1, *whole.shape[1:]))

    def train_step(*batch: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pieces = [[cut(whole, parts, index) for whole, parts in zip(batch, sides)] for index in range(slices)]
        losses_d, real_logits, fake_logits = zip(*[add_d(*piece) for piece in pieces])
        update_d()
        losses_g = [add_g(*piece) for piece in pieces]
        update_g()
        return (
            sum(losses_d) / slices,
            sum(losses_g) / slices,
            ops.concat(real_logits),
            ops.concat(fake_logits),
        )

    return train_step


def _zeros_like(weights: Sequence[Parameter]) -> list[Parameter]:
    return [Parameter(ops.zeros_like(weight), name=f"sum.{weight.name}") for weight in weights]
