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

    discriminator: Callable[..., Tensor]
    """(logits of real images, logits of fakes), each (N, 1) -> scalar. With label noise, a third argument (N, 1) holds
    numbers from U(0, 1) that move the real images' labels."""
    generator: Callable[[Tensor], Tensor]
    """Logits of fakes, (N, 1) -> scalar."""
    r1: float = 0.0
    """Weight of the gradient's penalty on real images."""
    gradient_penalty: float = 0.0
    """Weight of the gradient's penalty between real and generated images."""
    orthogonal: float = 0.0
    """Weight of G's orthogonal regularisation."""


def _bce(logits: Tensor, target: Tensor) -> Tensor:
    """`BCELoss(mean)` on probabilities, as in the course; its log is floored at 1e-12."""
    return ops.binary_cross_entropy(ops.sigmoid(logits), target, reduction="mean")


def _bce_logits(logits: Tensor, target: Tensor) -> Tensor:
    """The same value with the sigmoid inside the loss: exact, with a gradient, however sure D is."""
    return ops.binary_cross_entropy_with_logits(logits, target, reduction="mean")


def _non_saturating(cross_entropy: Callable[[Tensor, Tensor], Tensor], options: config.Loss) -> Loss:
    """D: BCE(D(x), 1 - smoothing) + BCE(D(G(z)), 0).   G: BCE(D(G(z)), 1): maximise log D(G(z)) (section 3)."""
    labels = _labels(options)

    def discriminator(real: Tensor, fake: Tensor, *moves: Tensor) -> Tensor:
        return cross_entropy(real, labels(real, *moves)) + cross_entropy(fake, ops.zeros_like(fake))

    def generator(fake: Tensor) -> Tensor:
        return cross_entropy(fake, ops.ones_like(fake))

    return Loss(discriminator, generator)


def _labels(options: config.Loss) -> Callable[..., Tensor]:
    """What D is asked for on real images: logits (N, 1) -> labels (N, 1), smoothed, and moved by numbers (N, 1)."""
    smooth, noise = 1.0 - options.smoothing, options.label_noise

    def labels(real: Tensor, *moves: Tensor) -> Tensor:
        target = ops.full_like(real, smooth)
        return target + noise * (2.0 * moves[0] - 1.0) if moves else target

    return labels


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
    labels = _labels(options)

    def discriminator(real: Tensor, fake: Tensor, *moves: Tensor) -> Tensor:
        return 0.5 * (ops.square(real - labels(real, *moves)).mean() + ops.square(fake).mean())

    def generator(fake: Tensor) -> Tensor:
        return 0.5 * ops.square(fake - 1.0).mean()

    return Loss(discriminator, generator)


def _hinge(options: config.Loss) -> Loss:
    """D: E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))].   G: -E[D(G(z))]   (Lim & Ye 2017; Miyato et al. 2018).

    D(x) stands for the logits.
    """
    _refuse_labels(options)

    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        return ops.relu(1.0 - real).mean() + ops.relu(1.0 + fake).mean()

    def generator(fake: Tensor) -> Tensor:
        return -fake.mean()

    return Loss(discriminator, generator)


def _wasserstein_gp(options: config.Loss) -> Loss:
    """D: E[D(G(z))] - E[D(x)] + 10 E[(|grad D(x')| - 1)^2], x' between real and generated images.   G: -E[D(G(z))].

    Gulrajani et al. 2017, equation 3: D (the logits), a critic rather than a judge of probability, approaches the
    Wasserstein distance between the two distributions.
    """
    _refuse_labels(options)

    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def generator(fake: Tensor) -> Tensor:
        return -fake.mean()

    return Loss(discriminator, generator, gradient_penalty=10.0)


def _refuse_labels(options: config.Loss) -> None:
    for key in ("smoothing", "label_noise"):
        if value := getattr(options, key):
            raise UserError(f"loss.{key} is {value}, but the loss {options.name} has no labels; set it to 0")


LOSSES: dict[str, Callable[[config.Loss], Loss]] = {
    "bce": partial(_non_saturating, _bce),
    "bce_logits": partial(_non_saturating, _bce_logits),
    "minimax": _minimax,
    "least_squares": _least_squares,
    "hinge": _hinge,
    "wasserstein_gp": _wasserstein_gp,
}


def make_loss(options: config.Loss) -> Loss:
    """The objective that a configuration asks for.

    Raises:
        UserError: there is none of that name, or it has no such option.
    """
    if options.name not in LOSSES:
        raise UserError(f"loss.name is {options.name!r}; the known losses are: {', '.join(LOSSES)}")
    loss = LOSSES[options.name](options)
    loss = loss._replace(r1=options.r1, orthogonal=options.orthogonal)
    if options.gradient_penalty is not None:
        loss = loss._replace(gradient_penalty=options.gradient_penalty)
    whole = loss.discriminator

    def half(real: Tensor, fake: Tensor, *moves: Tensor) -> Tensor:
        return 0.5 * whole(real, fake, *moves)

    return loss._replace(discriminator=half) if options.halve_d else loss
