"""The objectives of the game, as pure functions of D's logits.

Goodfellow et al. 2014, equation 1: min_G max_D E[log D(x)] + E[log(1 - D(G(z)))], D(x) = sigmoid(logits). All losses
here use the non-saturating generator objective of the paper's section 3 (maximise log D(G(z))).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from mindspore import Tensor, ops

from gan_mnist import config
from gan_mnist.errors import UserError


class Loss(NamedTuple):
    """One objective: what D minimises and what G minimises."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    """(logits of real images, logits of fakes), each (N, 1) -> scalar."""
    generator: Callable[[Tensor], Tensor]
    """Logits of fakes, (N, 1) -> scalar."""


def _bce(logits: Tensor, target: Tensor) -> Tensor:
    """`BCELoss(mean)` on probabilities, as in the course; its log is floored at 1e-12."""
    return ops.binary_cross_entropy(ops.sigmoid(logits), target, reduction="mean")


def _bce_logits(logits: Tensor, target: Tensor) -> Tensor:
    """The same value with the sigmoid inside the loss: exact, with a gradient, however sure D is."""
    return ops.binary_cross_entropy_with_logits(logits, target, reduction="mean")


def _non_saturating(cross_entropy: Callable[[Tensor, Tensor], Tensor], options: config.Loss) -> Loss:
    """D: BCE(D(x), 1 - smoothing) + BCE(D(G(z)), 0).   G: BCE(D(G(z)), 1)."""

    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        target = ops.full_like(real, 1.0 - options.smoothing)
        return cross_entropy(real, target) + cross_entropy(fake, ops.zeros_like(fake))

    def generator(fake: Tensor) -> Tensor:
        return cross_entropy(fake, ops.ones_like(fake))

    return Loss(discriminator, generator)


LOSSES: dict[str, Callable[[config.Loss], Loss]] = {
    "bce": partial(_non_saturating, _bce),
    "bce_logits": partial(_non_saturating, _bce_logits),
}


def make_loss(options: config.Loss) -> Loss:
    """The objective that a configuration asks for.

    Raises:
        UserError: there is none of that name.
    """
    if options.name not in LOSSES:
        raise UserError(f"loss.name is {options.name!r}; the known losses are: {', '.join(LOSSES)}")
    loss = LOSSES[options.name](options)
    whole = loss.discriminator

    def half(real: Tensor, fake: Tensor) -> Tensor:
        return 0.5 * whole(real, fake)

    return loss._replace(discriminator=half) if options.halve_d else loss
