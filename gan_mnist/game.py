"""The two players of a run with all that trains them."""

from __future__ import annotations

from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from gan_mnist import checkpoint, schedules
from gan_mnist.averaging import Average
from gan_mnist.config import Config
from gan_mnist.errors import UserError
from gan_mnist.losses import Loss, make_loss
from gan_mnist.models import NetworkSpec, build_network, network_spec
from gan_mnist.steps import make_optimizer, own_parameters


class Game(NamedTuple):
    """The two players and their optimizers."""

    G: nn.Cell
    D: nn.Cell
    spec_g: NetworkSpec
    spec_d: NetworkSpec
    optim_g: nn.Optimizer
    optim_d: nn.Optimizer
    rates_g: np.ndarray
    """G's learning rate at every step of the run."""
    rates_d: np.ndarray
    loss: Loss
    average: Average | None
    """The moving average of G's weights (`train.ema`)."""

    @property
    def sampled(self) -> nn.Cell:
        """The generator that is saved, sampled and judged."""
        return self.average.network if self.average else self.G

    @property
    def noise_size(self) -> int:
        """Random numbers that D needs for each image; see `models`."""
        return getattr(self.D, "noise_size", 0)

    def parameters(self) -> list[ms.Parameter]:
        """All that training changes: weights, BatchNorm statistics, the average, and the optimizers' own.

        Not the learning rates: they belong to the configuration, and restoring them would undo a change of it.
        """
        networks = [self.G, self.D, *([self.average.network] if self.average else [])]
        own = own_parameters(self.optim_g, self.G) + own_parameters(self.optim_d, self.D)
        own = [parameter for parameter in own if not parameter.name.endswith("learning_rate")]
        return [*(parameter for network in networks for parameter in network.get_parameters()), *own]


def build_game(config: Config, image_shape: tuple[int, int, int], *, steps_per_epoch: int) -> Game:
    """Build both networks, fresh or from pretrained weights, and their optimizers.

    Args:
        config: the resolved configuration.
        image_shape: (channels, height, width) of an image.
        steps_per_epoch: updates of each network in an epoch.

    Raises:
        UserError: an option or a checkpoint does not fit.
    """
    loss = make_loss(config.loss)
    if config.data.batch_size % config.model.pack:
        raise UserError(
            f"data.batch_size is {config.data.batch_size}, which model.pack={config.model.pack} does not divide"
        )
    ms.set_seed(config.train.seed)
    spec_g = network_spec(config.model, "generator", image_shape)
    spec_d = network_spec(config.model, "discriminator", image_shape)
    G, D = build_network(spec_g), build_network(spec_d)
    for network, path in ((G, config.pretrained.generator), (D, config.pretrained.discriminator)):
        if path is not None:
            checkpoint.restore(network, checkpoint.load(path), path)
    rates_g, rates_d = (
        schedules.learning_rates(options, epochs=config.train.epochs, steps_per_epoch=steps_per_epoch)
        for options in (config.optim_g, config.optim_d)
    )
    optim_g = make_optimizer(G, config.optim_g, rates=rates_g, prefix="optim_g.")
    optim_d = make_optimizer(D, config.optim_d, rates=rates_d, prefix="optim_d.")
    average = Average(G, build_network(spec_g), decay=config.train.ema) if config.train.ema else None
    return Game(G.set_train(), D.set_train(), spec_g, spec_d, optim_g, optim_d, rates_g, rates_d, loss, average)


def set_momentum(game: Game, config: Config, *, epoch: int) -> None:
    """Set the momentum of an epoch in those optimizers whose momentum changes."""
    for optimizer, options in ((game.optim_g, config.optim_g), (game.optim_d, config.optim_d)):
        if options.name == "momentum" and options.final_momentum is not None:
            ops.assign(optimizer.momentum, ms.Tensor(schedules.momentum(options, epoch), ms.float32))
