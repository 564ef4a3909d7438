"""One step of the game, compiled: the only place that computes gradients and calls the optimizers."""

from __future__ import annotations

from collections.abc import Callable

import mindspore as ms
from mindspore import Tensor, nn, ops

from gan_mnist import config
from gan_mnist.losses import Loss

TrainStep = Callable[[Tensor, Tensor], Tensor]
STATISTICS = ("loss_d", "loss_g", "d_real", "d_fake")
"""What a step returns, in this order, as one tensor."""


def make_adam(network: nn.Cell, options: config.Adam, *, prefix: str) -> nn.Adam:
    """Adam over a network's trainable parameters; what it owns itself is named with `prefix`.

    `Optimizer.update_parameters_name` would rename the network's parameters too, which checkpoints know by name.
    """
    optimizer = nn.Adam(network.trainable_params(), learning_rate=options.lr, beta1=options.beta1, beta2=options.beta2)
    for parameter in own_parameters(optimizer, network):
        parameter.name = prefix + parameter.name
    return optimizer


def own_parameters(optimizer: nn.Optimizer, network: nn.Cell) -> list[ms.Parameter]:
    """The optimizer's parameters (moments, beta powers, step, learning rate) without the network's."""
    shared = {id(parameter) for parameter in network.get_parameters()}
    return [parameter for parameter in optimizer.get_parameters() if id(parameter) not in shared]


def make_train_step(G: nn.Cell, D: nn.Cell, optim_g: nn.Optimizer, optim_d: nn.Optimizer, loss: Loss) -> TrainStep:
    """Compile one update of D followed by one of G (Goodfellow et al. 2014, algorithm 1 with k = 1).

        D: minimise BCE(D(x), 1) + BCE(D(G(z)), 0)
        G: minimise BCE(D(G(z)), 1), through the D just updated, with the same z     (losses by name: gan_mnist.losses)

    G does not change between the two updates, so its forward pass runs once and serves both.

    Returns:
        train_step(x, z): x (N, C, H, W) real images in [-1, 1], z (N, latent_size) -> (4,) statistics of the step:
        loss_d, loss_g, and the means of D(x) and D(G(z)) that D's update saw.
    """
    discriminator_loss, generator_loss = loss
    weights_g = tuple(G.trainable_params())

    def loss_d_of(x: Tensor, fake: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        real_logits, fake_logits = D.logits(x), D.logits(fake)
        return discriminator_loss(real_logits, fake_logits), real_logits, fake_logits

    def loss_g_of(fake: Tensor) -> Tensor:
        return generator_loss(D.logits(fake))

    gradient_d = ms.value_and_grad(loss_d_of, None, tuple(D.trainable_params()), has_aux=True)
    gradient_of_fake = ms.value_and_grad(loss_g_of, 0)

    @ms.jit(jit_level="O1")
    def train_step(x: Tensor, z: Tensor) -> Tensor:
        fake, backward_g = ms.vjp(G, z, weights=weights_g)
        # Update D.
        (loss_d, real_logits, fake_logits), gradients_d = gradient_d(x, ops.stop_gradient(fake))
        loss_d = ops.depend(loss_d, optim_d(gradients_d))
        # Update G through the D just updated.
        fake = ops.depend(fake, loss_d)
        loss_g, fake_gradient = gradient_of_fake(fake)
        gradients_g = backward_g(fake_gradient)[1]
        loss_g = ops.depend(loss_g, optim_g(gradients_g))
        return ops.stack((loss_d, loss_g, ops.sigmoid(real_logits).mean(), ops.sigmoid(fake_logits).mean()))

    return train_step
