"""The objectives of the game, as pure functions of D's logits.

Goodfellow et al. 2014, equation 1: min_G max_D E[log D(x)] + E[log(1 - D(G(z)))], D(x) = sigmoid(logits).

To add one: a function of the `loss` section that returns a `Loss`, and a line in LOSSES.
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
    """D: BCE(D(x), 1 - smoothing) + BCE(D(G(z)), 0).   G: BCE(D(G(z)), 1): maximise log D(G(z)) (section 3)."""

    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        target = ops.full_like(real, 1.0 - options.smoothing)
        return cross_entropy(real, target) + cross_entropy(fake, ops.zeros_like(fake))

    def generator(fake: Tensor) -> Tensor:
        return cross_entropy(fake, ops.ones_like(fake))

    return Loss(discriminator, generator)


def _minimax(options: config.Loss) -> Loss:
    """The paper's equation 1 itself: G minimises E[log(1 - D(G(z)))] = -E[softplus(logits)].

    Its gradient by the logits is -D(G(z)): while D recognises every generated image, as early in training, it vanishes.
    """

    def generator(fake: Tensor) -> Tensor:
        return -ops.softplus(fake).mean()

    return _non_saturating(_bce_logits, options)._replace(generator=generator)


def _least_squares(options: config.Loss) -> Loss:
    """D: E[(D(x) - 1)^2] / 2 + E[D(G(z))^2] / 2.   G: E[(D(G(z)) - 1)^2] / 2   (Mao et al. 2017, equation 9).

    D(x) stands for the logits; on real images their target is 1 - smoothing.
    """

    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        return 0.5 * (ops.square(real - (1.0 - options.smoothing)).mean() + ops.square(fake).mean())

    def generator(fake: Tensor) -> Tensor:
        return 0.5 * ops.square(fake - 1.0).mean()

    return Loss(discriminator, generator)


def _hinge(options: config.Loss) -> Loss:
    """D: E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))].   G: -E[D(G(z))]   (Lim & Ye 2017; Miyato et al. 2018).

    D(x) stands for the logits.
    """
    if options.smoothing:
        raise UserError(
            f"loss.smoothing is {options.smoothing}, but the hinge loss has no labels to smooth; set it to 0"
        )

    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        return ops.relu(1.0 - real).mean() + ops.relu(1.0 + fake).mean()

    def generator(fake: Tensor) -> Tensor:
        return -fake.mean()

    return Loss(discriminator, generator)


LOSSES: dict[str, Callable[[config.Loss], Loss]] = {
    "bce": partial(_non_saturating, _bce),
    "bce_logits": partial(_non_saturating, _bce_logits),
    "minimax": _minimax,
    "least_squares": _least_squares,
    "hinge": _hinge,
}


def make_loss(options: config.Loss) -> Loss:
    """The objective that a configuration asks for.

    Raises:
        UserError: there is none of that name, or it has no such option.
    """
    if options.name not in LOSSES:
        raise UserError(f"loss.name is {options.name!r}; the known losses are: {', '.join(LOSSES)}")
    loss = LOSSES[options.name](options)
    whole = loss.discriminator

    def half(real: Tensor, fake: Tensor) -> Tensor:
        return 0.5 * whole(real, fake)

    return loss._replace(discriminator=half) if options.halve_d else loss
