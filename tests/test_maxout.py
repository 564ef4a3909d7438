"""The networks of the 2014 paper, against their formulas in NumPy, and their training step with dropout."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from gan_mnist.config import Loss, Optimizer
from gan_mnist.losses import make_loss
from gan_mnist.models import NetworkSpec, build_network, parameter_count
from gan_mnist.steps import Rules, make_optimizer, make_train_step

IMAGE, N = (1, 6, 6), 8
OPTIONS = {
    "generator": {"hidden": [20, 20], "irange": 0.5},
    "discriminator": {"hidden": [7, 5], "pieces": 3, "irange": 0.5},
}


def build(role: str) -> nn.Cell:
    ms.set_seed(4)
    spec = NetworkSpec(model="maxout", role=role, latent_size=9, image_shape=IMAGE, options=OPTIONS[role])  # type: ignore[arg-type]
    return build_network(spec)


def weights(network: nn.Cell) -> list[np.ndarray]:
    """weight, bias, weight, bias, ... from input to output, float64."""
    return [parameter.asnumpy().astype(np.float64) for parameter in network.get_parameters()]


def logits(arrays: list[np.ndarray], image: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
    """D, written out."""
    x = (image.reshape(len(image), -1).astype(np.float64) + 1) / 2
    start = 0
    for layer, keep in enumerate((0.8, 0.5, 0.5)):
        if noise is not None:
            x = np.where(noise[:, start : start + x.shape[1]] < keep, x / keep, 0)
            start += len(x[0])
        x = x @ arrays[2 * layer].T + arrays[2 * layer + 1]
        if layer < 2:
            x = np.array([[max(row[3 * unit : 3 * unit + 3]) for unit in range(len(row) // 3)] for row in x])
    return x


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(6)


def test_the_discriminator_follows_its_formula_with_and_without_dropout(random: np.random.Generator) -> None:
    D = build("discriminator")
    image = random.uniform(-1, 1, (N, *IMAGE)).astype(np.float32)
    noise = random.random((N, D.noise_size), dtype=np.float32)
    assert D.noise_size == 36 + 7 + 5
    for given in (None, noise):
        arguments = [ms.Tensor(image)] if given is None else [ms.Tensor(image), ms.Tensor(given)]
        np.testing.assert_allclose(D.logits(*arguments).asnumpy(), logits(weights(D), image, given), atol=1e-5)


def test_the_generator_follows_its_formula(random: np.random.Generator) -> None:
    G = build("generator")
    z = random.uniform(-1, 1, (N, 9)).astype(np.float32)
    w0, b0, w1, b1, w2, b2 = weights(G)
    hidden = np.maximum(np.maximum(z @ w0.T + b0, 0) @ w1.T + b1, 0)
    expected = 2 / (1 + np.exp(-(hidden @ w2.T + b2))) - 1
    np.testing.assert_allclose(G(ms.Tensor(z)).asnumpy().reshape(N, -1), expected, atol=1e-4)


def test_weights_begin_as_the_paper_says() -> None:
    G = build_network(NetworkSpec(model="maxout", role="generator", latent_size=100, image_shape=(1, 28, 28)))
    D = build_network(NetworkSpec(model="maxout", role="discriminator", latent_size=100, image_shape=(1, 28, 28)))
    assert parameter_count(G) == 101 * 1200 + 1201 * 1200 + 1201 * 784
    assert parameter_count(D) == 785 * 1200 + 241 * 1200 + 241
    for network, irange in ((G, 0.05), (D, 0.005)):
        for array in weights(network):
            if array.ndim == 2:
                assert 0.95 * irange < np.abs(array).max() <= irange
            else:
                assert not array.any()


def test_a_step_moves_d_down_the_gradient_of_its_formula(random: np.random.Generator) -> None:
    """One step of plain descent on D, against central differences of the loss written out."""
    G, D = build("generator"), build("discriminator")
    for parameter in D.get_parameters():  # Biases too: pieces that tie have no gradient to compare.
        parameter.set_data(ms.Tensor(random.normal(0, 0.3, parameter.shape).astype(np.float32)))
    x = np.tanh(random.standard_normal((N, *IMAGE))).astype(np.float32)
    z = random.uniform(-1, 1, (N, 9)).astype(np.float32)
    noise = random.random((2 * N, D.noise_size), dtype=np.float32)
    fake = G(ms.Tensor(z)).asnumpy()
    arrays, lr = weights(D), 0.05

    def loss_d() -> float:
        both = logits(arrays, np.concatenate([x, fake]), noise)
        return 0.5 * float(np.logaddexp(0, -both[:N]).mean() + np.logaddexp(0, both[N:]).mean())

    expected = [array.copy() for array in arrays]
    for array, moved in zip(arrays, expected):
        for index in random.choice(array.size, min(6, array.size), replace=False):
            place = np.unravel_index(index, array.shape)
            before = array[place]
            array[place] = before + 1e-5
            high = loss_d()
            array[place] = before - 1e-5
            moved[place] -= lr * (high - loss_d()) / 2e-5
            array[place] = before
    value = loss_d()

    options = Optimizer(name="momentum", lr=lr, momentum=0.5)
    optimizers = [make_optimizer(net, options, rates=np.full(1, lr), prefix=f"{p}.") for net, p in ((G, "g"), (D, "d"))]
    step = make_train_step(
        G, D, *optimizers, make_loss(Loss(name="bce_logits", halve_d=True)), Rules(draws=("dropout",))
    )
    before_g = weights(G)
    got = step(ms.Tensor(x), ms.Tensor(np.zeros(N, np.int32)), ms.Tensor(z), ms.Tensor(noise))
    assert float(got[0].asnumpy()) == pytest.approx(value, rel=1e-4)
    for before, after, moved in zip(arrays, weights(D), expected):
        tried = moved != before
        np.testing.assert_allclose(after[tried], moved[tried], atol=2e-6)
    assert all((one != other).any() for one, other in zip(before_g, weights(G)))
    # G's loss goes through the D just updated, and the same units are left out of it.
    logits_after = logits(weights(D), fake, noise[N:])
    assert float(got[1].asnumpy()) == pytest.approx(np.logaddexp(0, -logits_after).mean(), rel=1e-4)
