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
from gan_mnist.latents import Draw
from gan_mnist.losses import Loss, make_loss
from gan_mnist.models import NetworkSpec, build_network, network_spec
from gan_mnist.models.layers import synchronise
from gan_mnist.steps import Rules, TrainStep, make_optimizer, make_train_step, own_parameters


class Game(NamedTuple):
    """The two players and their optimizers."""

    G: nn.Cell
    D: nn.Cell
    spec_g: NetworkSpec
    spec_d: NetworkSpec
    optim_g: nn.Optimizer
    optim_d: nn.Optimizer
    rates_g: np.ndarray
    """G's learning rate at every one of its updates in the run, `rules.g_steps` a step."""
    rates_d: np.ndarray
    loss: Loss
    average: Average | None
    """The moving average of G's weights (`train.ema`)."""
    rules: Rules
    """Of a step."""
    draws: tuple[Draw, ...]
    """The random numbers that a step takes."""

    @property
    def sampled(self) -> nn.Cell:
        """The generator that is saved, sampled and judged."""
        return self.average.network if self.average else self.G

    @property
    def classes(self) -> int | None:
        """Classes that both networks are told, if they are conditional."""
        return getattr(self.G, "classes", None)

    def rates(self, step: int) -> dict[str, float]:
        """Both learning rates at the beginning of a step, counted over the whole run."""
        now_d, now_g = self.rates_d[step * self.rules.d_steps], self.rates_g[step * self.rules.g_steps]
        return {"lr_d": float(now_d), "lr_g": float(now_g)}

    def train_step(self) -> TrainStep:
        """The compiled step of this game."""
        return make_train_step(self.G, self.D, self.optim_g, self.optim_d, self.loss, self.rules)

    def parameters(self) -> list[ms.Parameter]:
        """All that training changes: weights, BatchNorm statistics, the average, and the optimizers' own.

        Not the learning rates: they belong to the configuration, and restoring them would undo a change of it.
        """
        networks = [self.G, self.D, *([self.average.network] if self.average else [])]
        own = own_parameters(self.optim_g, self.G) + own_parameters(self.optim_d, self.D)
        own = [parameter for parameter in own if not parameter.name.endswith("learning_rate")]
        return [*(parameter for network in networks for parameter in network.get_parameters()), *own]


def build_game(config: Config, image_shape: tuple[int, int, int], *, steps_per_epoch: int, workers: int = 1) -> Game:
    """Build both networks, fresh or from pretrained weights, and their optimizers.

    Args:
        config: the resolved configuration.
        image_shape: (channels, height, width) of an image.
        steps_per_epoch: steps in an epoch.
        workers: how many play it together.

    Raises:
        UserError: an option or a checkpoint does not fit.
    """
    loss = make_loss(config.loss)
    _require_divisible(config, workers)
    if config.train.amp != "off" and ms.get_context("device_target") == "CPU":
        raise UserError(
            f"train.amp is {config.train.amp}, but a CPU gains nothing by it: MindSpore's matrix product there is "
            "slow in float16 and missing in bfloat16; set it to off"
        )
    ms.set_seed(config.train.seed)
    spec_g = network_spec(config.model, "generator", image_shape)
    spec_d = network_spec(config.model, "discriminator", image_shape)
    G, D = build_network(spec_g), build_network(spec_d)
    for network, path in ((G, config.pretrained.generator), (D, config.pretrained.discriminator)):
        if path is not None:
            checkpoint.restore(network, checkpoint.load(path), path)
    rates_g, rates_d = (
        schedules.learning_rates(options, epochs=config.train.epochs, steps_per_epoch=steps_per_epoch * updates)
        * schedules.batch_factor(config)
        for options, updates in ((config.optim_g, config.train.g_steps), (config.optim_d, config.train.d_steps))
    )
    optim_g = make_optimizer(G, config.optim_g, rates=rates_g, prefix="optim_g.")
    optim_d = make_optimizer(D, config.optim_d, rates=rates_d, prefix="optim_d.")
    average = Average(G, build_network(spec_g), decay=config.train.ema) if config.train.ema else None
    draws = _draws(config, D, image_shape, loss)
    rules = Rules(
        d_steps=config.train.d_steps,
        g_steps=config.train.g_steps,
        generator_first=config.train.first == "generator",
        pack=config.model.pack,
        conditional=_classes(G, D, config) is not None,
        draws=tuple(draw.name for draw in draws),
        workers=workers,
        slices=config.distributed.grad_accumulation,
        amp=config.train.amp,
    )
    if workers > 1 and config.distributed.sync_batch_norm:
        for network in (G, D):
            synchronise(network, workers)
    G.set_train()
    D.set_train()
    return Game(G, D, spec_g, spec_d, optim_g, optim_d, rates_g, rates_d, loss, average, rules, draws)


def _require_divisible(config: Config, workers: int) -> None:
    """Refuse a batch whose parts would not be equal, or too small for BatchNorm.

    Raises:
        UserError: naming the batch, and what it is divided by.
    """
    size, pack, slices = config.data.batch_size, config.model.pack, config.distributed.grad_accumulation
    if size % pack:
        raise UserError(f"data.batch_size is {size}, which model.pack={pack} does not divide")
    parts = workers * slices
    if size % (parts * pack) or size // parts < 2:
        shares = [f"{workers} workers"] * (workers > 1)
        shares += [f"distributed.grad_accumulation={slices}"] * (slices > 1)
        whole = f", each with whole packs of {pack}" if pack > 1 else ""
        raise UserError(
            f"data.batch_size is {size}, which {' and '.join(shares)} can't share equally{whole}, 2 images each at "
            f"least; make it a multiple of {parts * max(pack, 2)}"
        )
    one_by_one = config.train.d_steps == config.train.g_steps == 1 and config.train.first == "discriminator"
    if slices > 1 and not one_by_one:
        raise UserError(
            f"distributed.grad_accumulation is {slices}, which needs train.d_steps=1, train.g_steps=1 and "
            "train.first=discriminator"
        )


def _classes(G: nn.Cell, D: nn.Cell, config: Config) -> int | None:
    """The number of classes that both networks are told; None if they are told none.

    Raises:
        UserError: they differ, or D judges packs of images, which have no single class.
    """
    classes: int | None = getattr(G, "classes", None)
    if classes != getattr(D, "classes", None):
        raise UserError("model.generator.classes and model.discriminator.classes differ; set both to the same number")
    if classes is not None and config.model.pack > 1:
        raise UserError(f"model.pack is {config.model.pack}, but packs of images have no single class; set it to 1")
    return classes


def _draws(config: Config, D: nn.Cell, image_shape: tuple[int, int, int], loss: Loss) -> tuple[Draw, ...]:
    """The random numbers of a step (see `steps.make_train_step`), the first epoch's."""
    images = config.data.batch_size * config.train.d_steps
    packs = images // config.model.pack
    draws = []
    if noise_size := getattr(D, "noise_size", 0):  # Of a D that draws at random itself; see `models`.
        draws.append(Draw("dropout", (2 * packs, noise_size)))
    if config.loss.label_noise:
        draws.append(Draw("label_noise", (packs, 1)))
    if config.loss.instance_noise:
        draws.append(Draw("instance_noise", (2 * images, *image_shape), "normal", config.loss.instance_noise))
    if loss.gradient_penalty:
        draws.append(Draw("mix", (packs, 1, 1, 1)))
    return tuple(draws)


def draws_of(game: Game, config: Config, *, epoch: int) -> tuple[Draw, ...]:
    """A step's random numbers in an epoch: instance noise may fade."""
    fading = schedules.fading(config.loss.instance_noise_epochs, epoch)
    return tuple(
        draw._replace(scale=fading * draw.scale) if draw.name == "instance_noise" else draw for draw in game.draws
    )


def set_momentum(game: Game, config: Config, *, epoch: int) -> None:
    """Set the momentum of an epoch in those optimizers whose momentum changes."""
    for optimizer, options in ((game.optim_g, config.optim_g), (game.optim_d, config.optim_d)):
        if options.name == "momentum" and options.final_momentum is not None:
            ops.assign(optimizer.momentum, ms.Tensor(schedules.momentum(options, epoch), ms.float32))
