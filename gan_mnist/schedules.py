"""Learning rates, momenta and noise over time, as plain numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gan_mnist.config import Config, Optimizer


def learning_rates(options: Optimizer, *, epochs: int, steps_per_epoch: int) -> np.ndarray:
    """The learning rate of every step of a run.

        rate(t) = lr max(final, shape(t)) min(1, (t + 1) / warmup)

    with T steps in all and p = t / T:
        constant      shape = 1
        linear        shape = 1 - (1 - final) p
        cosine        shape = final + (1 - final) (1 + cos(pi p)) / 2      (Loshchilov & Hutter 2017, equation 5)
        exponential   shape = decay^t
        step          shape = decay^floor(epoch / every)

    Args:
        options: the optimizer's settings.
        epochs: of the whole run.
        steps_per_epoch: updates by this optimizer in an epoch.

    Returns:
        (epochs * steps_per_epoch,) float64.
    """
    schedule = options.schedule
    total = epochs * steps_per_epoch
    t = np.arange(total, dtype=np.float64)
    final = schedule.final
    shapes: dict[str, Callable[[], np.ndarray]] = {
        "constant": lambda: np.ones(total),
        "linear": lambda: 1 - (1 - final) * t / total,
        "cosine": lambda: final + (1 - final) * (1 + np.cos(np.pi * t / total)) / 2,
        "exponential": lambda: schedule.decay**t,
        "step": lambda: schedule.decay ** (t // (schedule.every * steps_per_epoch)),
    }
    shape = shapes[schedule.name]()
    rise = np.minimum(1, (t + 1) / schedule.warmup) if schedule.warmup else 1.0
    return options.lr * np.maximum(final, shape) * rise


def batch_factor(config: Config) -> float:
    """What `distributed.scale_lr` multiplies both learning rates by."""
    growth = config.data.batch_size / config.distributed.base_batch
    return {"none": 1.0, "linear": growth, "sqrt": growth**0.5}[config.distributed.scale_lr]


def momentum(options: Optimizer, epoch: int) -> float:
    """The momentum of an epoch: from `momentum` to `final_momentum`, linearly over `momentum_epochs`."""
    if options.final_momentum is None:
        return options.momentum
    share = min(1.0, epoch / options.momentum_epochs)
    return options.momentum + share * (options.final_momentum - options.momentum)


def fading(epochs: int | None, epoch: int) -> float:
    """1 at first, 0 after `epochs` epochs, linearly between; None: always 1."""
    return 1.0 if epochs is None else max(0.0, 1.0 - epoch / epochs)
