"""Why the course material's faces never came: loss_d = 13.8155 and loss_g = -0.0 from the first step to the last.

Together the two numbers say that D is certain of every image, real or generated: D(x) = D(G(z)) = 1, to the last bit of
float32, so that loss_g = -ln 1, and loss_d = (-ln 1 - ln(1 - 1)) / 2 with BCELoss's floor of 1e-12 under the logarithm,
6 ln 10. There Sigmoid's slope is 0, and with it every gradient: neither player can ever move again, whatever the data.

One slip is enough. MindSpore's `Normal` takes the standard deviation first, other frameworks the mean: Radford et
al.'s N(0, 0.02) and N(1, 0.02), written as Normal(0, 0.02) and Normal(1, 0.02), are weights of exactly 0.02 and scales
from N(0.02, 1).
"""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops
from mindspore.common.initializer import Normal, initializer

from gan_mnist import config
from gan_mnist.losses import Loss, make_loss
from gan_mnist.models import build_network, network_spec

COURSES = config.Loss(name="bce", halve_d=True)
OURS = config.Loss(name="bce_logits", halve_d=True)
IMAGES = 2


def losses(loss: Loss, real: float, fake: float) -> tuple[float, float, np.ndarray]:
    """loss_d and loss_g where D's logits are the same for all images, and D's gradient by those of generated ones."""
    ones = np.ones((8, 1), np.float32)
    of_d = ms.jit(ms.value_and_grad(loss.discriminator, 1))
    value, gradient = of_d(ms.Tensor(real * ones), ms.Tensor(fake * ones))
    return float(value), float(loss.generator(ms.Tensor(fake * ones))), gradient.asnumpy()


def discriminator(*, slip: bool) -> nn.Cell:
    """That of configs/faces64.yaml, fresh, or with its N(mean, deviation) handed to MindSpore in this order."""
    options = {"channels": [64, 128, 256, 512], "kernel": 4, "normalize": True}
    D = build_network(network_spec(config.Model(name="dcgan", discriminator=options), "discriminator", (3, 64, 64)))
    for parameter in D.trainable_params() if slip else []:
        if parameter.name.endswith("weight"):
            parameter.set_data(initializer(Normal(0, 0.02), parameter.shape))
        elif parameter.name.endswith("gamma"):
            parameter.set_data(initializer(Normal(1, 0.02), parameter.shape))
    return D.set_train()


def first_step(D: nn.Cell, options: config.Loss) -> tuple[float, float, float]:
    """loss_d, loss_g and the length of D's gradient; both kinds of images are noise, of different distributions."""
    random, loss = np.random.default_rng(0), make_loss(options)
    real = random.uniform(-1, 1, (IMAGES, 3, 64, 64)).astype(np.float32)
    fake = np.tanh(random.normal(0, 0.3, (IMAGES, 3, 64, 64))).astype(np.float32)

    def loss_d(x: ms.Tensor, fake: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        logits = D.logits(fake)
        return loss.discriminator(D.logits(x), logits), loss.generator(logits)

    of_d = ms.value_and_grad(loss_d, None, D.trainable_params(), has_aux=True)
    (value, of_g), gradients = of_d(ms.Tensor(real), ms.Tensor(fake))
    return float(value), float(of_g), float(sum(ops.square(gradient).sum() for gradient in gradients)) ** 0.5


def test_certainty_of_every_image_gives_their_numbers_and_leaves_no_gradient() -> None:
    loss_d, loss_g, gradient = losses(make_loss(COURSES), 20, 20)
    assert (f"{loss_d:.4f}", f"{loss_g:.1f}") == ("13.8155", "-0.0")
    assert loss_d == pytest.approx(6 * np.log(10), rel=1e-6)
    assert not gradient.any()


@pytest.mark.parametrize(("real", "fake"), [(20, 15), (5, 20), (0, 20), (-20, 20), (20, -20), (0, 0)])
def test_nothing_less_gives_their_numbers(real: float, fake: float) -> None:
    loss_d, loss_g, _ = losses(make_loss(COURSES), real, fake)
    assert (f"{loss_d:.4f}", f"{loss_g:.1f}") != ("13.8155", "-0.0")


def test_with_the_sigmoid_inside_the_loss_a_certain_discriminator_can_learn() -> None:
    loss_d, _, gradient = losses(make_loss(OURS), 20, 20)
    assert loss_d == pytest.approx(10)
    np.testing.assert_allclose(gradient, 1 / 16, rtol=1e-6)


def test_mean_and_deviation_in_the_wrong_order_give_their_numbers() -> None:
    loss_d, loss_g, gradient = first_step(discriminator(slip=True), COURSES)
    assert (f"{loss_d:.4f}", f"{loss_g:.1f}") == ("13.8155", "-0.0")
    assert gradient == 0


def test_ours_begins_near_the_equilibrium_with_a_gradient() -> None:
    loss_d, loss_g, gradient = first_step(discriminator(slip=False), OURS)
    assert 0.1 < loss_d < 2 and 0.1 < loss_g < 3
    assert gradient > 0.1
