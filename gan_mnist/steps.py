"""One step of the game, compiled: the only place that computes gradients and calls the optimizers."""

from __future__ import annotations

from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from gan_mnist import config
from gan_mnist.losses import Loss

TrainStep = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]


def make_optimizer(network: nn.Cell, options: config.Optimizer, *, rates: np.ndarray, prefix: str) -> nn.Optimizer:
    """The optimizer of a network's trainable parameters; what it owns itself is named with `prefix`.

    `Optimizer.update_parameters_name` would rename the network's parameters too, which checkpoints know by name.

    Args:
        network: what it trains.
        options: its settings.
        rates: the learning rate of every step (`schedules.learning_rates`).
        prefix: such as `optim_g.`.
    """
    weights = network.trainable_params()
    rate = rates.tolist() if np.ptp(rates) else options.lr
    if options.name == "adam":
        optimizer = nn.Adam(weights, learning_rate=rate, beta1=options.beta1, beta2=options.beta2)
    else:
        optimizer = nn.Momentum(weights, learning_rate=rate, momentum=options.momentum)
    for parameter in own_parameters(optimizer, network):
        parameter.name = prefix + parameter.name
    return optimizer


def own_parameters(optimizer: nn.Optimizer, network: nn.Cell) -> list[ms.Parameter]:
    """The optimizer's parameters (moments, beta powers, step, learning rate) without the network's."""
    shared = {id(parameter) for parameter in network.get_parameters()}
    return [parameter for parameter in optimizer.get_parameters() if id(parameter) not in shared]


def make_train_step(
    G: nn.Cell, D: nn.Cell, optim_g: nn.Optimizer, optim_d: nn.Optimizer, loss: Loss, *, pack: int = 1
) -> TrainStep:
    """Compile one update of D followed by one of G (Goodfellow et al. 2014, algorithm 1 with k = 1).

        D: minimise BCE(D(x), 1) + BCE(D(G(z)), 0)
        G: minimise BCE(D(G(z)), 1), through the D just updated, with the same z     (losses by name: gan_mnist.losses)

    G does not change between the two updates, so its forward pass runs once and serves both.

    A D that draws at random (dropout: `models`) is handed numbers from U(0, 1) instead, so that a step is a function of
    its arguments: G's update sees the same ones for its images as D's did.

    Args:
        G: the generator.
        D: the discriminator.
        optim_g: its optimizer.
        optim_d: likewise.
        loss: what each of them minimises.
        pack: images that D judges at once, their channels joined (Lin et al. 2018); divides N.

    Returns:
        train_step(x, z, *noise): real images x (N, C, H, W) in [-1, 1], latent codes z (N, latent_size), and for a D
        with `noise_size` the numbers (2 N / pack, noise_size) for real and generated images -> loss_d, loss_g, and the
        logits (N / pack, 1) of x and of G(z) that D's update saw.
    """
    loss_of_d, loss_of_g = loss
    # Real and generated images go through D as one batch, unless D's BatchNorm would mix their statistics.
    jointly = not any(parameter.name.endswith("moving_mean") for parameter in D.get_parameters())

    def packs(images: Tensor) -> Tensor:
        return images.reshape(images.shape[0] // pack, -1, *images.shape[2:])

    def d_loss(x: Tensor, fake: Tensor, *noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        count = x.shape[0] // pack
        if jointly:
            real_logits, fake_logits = ops.split(D.logits(packs(ops.concat((x, fake))), *noise), count)
        else:
            real_logits = D.logits(packs(x), *[numbers[:count] for numbers in noise])
            fake_logits = D.logits(packs(fake), *[numbers[count:] for numbers in noise])
        return loss_of_d(real_logits, fake_logits), real_logits, fake_logits

    def g_loss(fake: Tensor, *noise: Tensor) -> Tensor:
        return loss_of_g(D.logits(packs(fake), *noise))

    d_gradient = ms.value_and_grad(d_loss, None, optim_d.parameters, has_aux=True)
    gradient_of_fake = ms.value_and_grad(g_loss, 0)

    @ms.jit(jit_level="O1")
    def train_step(x: Tensor, z: Tensor, *noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        fake, g_backward = ms.vjp(G, z, weights=optim_g.parameters)

        (loss_d, real_logits, fake_logits), gradients = d_gradient(x, fake, *noise)
        optim_d(gradients)

        loss_g, fake_gradient = gradient_of_fake(fake, *[numbers[x.shape[0] // pack :] for numbers in noise])
        _, gradients = g_backward(fake_gradient)
        optim_g(gradients)
        return loss_d, loss_g, real_logits, fake_logits

    return train_step
