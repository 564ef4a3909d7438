"""Spectral normalisation and orthogonal regularisation, against singular values and finite differences in NumPy."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from gan_mnist import config
from gan_mnist.config import Loss, Optimizer
from gan_mnist.losses import make_loss
from gan_mnist.models import build_network, network_spec, parameter_count
from gan_mnist.models.spectral import SpectralConv2d, SpectralDense, orthogonal_gradient
from gan_mnist.steps import make_optimizer, make_train_step


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(3)


def set_weight(layer: nn.Cell, random: np.random.Generator) -> np.ndarray:
    """A random weight; returns it as a matrix (out, rest), float64."""
    weight = random.standard_normal(layer.weight.shape, dtype=np.float32)
    layer.weight.set_data(ms.Tensor(weight))
    return weight.reshape(len(weight), -1).astype(np.float64)


def one_iteration(matrix: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """u, v and sigma after one step of the paper's algorithm 1, from u (out,)."""
    v = matrix.T @ u
    v /= np.linalg.norm(v)
    u = matrix @ v
    u /= np.linalg.norm(u)
    return u, v, float(u @ matrix @ v)


@pytest.mark.parametrize("layer", [SpectralDense(9, 7), SpectralConv2d(3, 7, 3)], ids=["dense", "convolution"])
def test_sigma_becomes_the_largest_singular_value(layer: nn.Cell, random: np.random.Generator) -> None:
    matrix = set_weight(layer, random)
    layer.set_train()
    for _ in range(200):
        normalized = layer.spectral_norm(layer.weight, layer.u).asnumpy()
    exact = np.linalg.svd(matrix)
    np.testing.assert_allclose(normalized.reshape(matrix.shape), matrix / exact[1][0], rtol=1e-4, atol=1e-6)
    assert abs(float(layer.u.asnumpy()[0] @ exact[0][:, 0])) == pytest.approx(1, abs=1e-5)


def test_a_pass_in_training_takes_one_iteration_and_evaluation_only_reads(random: np.random.Generator) -> None:
    layer = SpectralDense(9, 7)
    matrix = set_weight(layer, random)
    x = random.standard_normal((4, 9), dtype=np.float32)
    u = layer.u.asnumpy()[0].astype(np.float64)
    assert np.linalg.norm(u) == pytest.approx(1)
    for training in (True, True, False, False):
        new, _, sigma = one_iteration(matrix, u)
        y = layer.set_train(training)(ms.Tensor(x)).asnumpy()
        np.testing.assert_allclose(y, x @ (matrix / sigma).T + layer.bias.asnumpy(), atol=1e-5)
        u = new if training else u
        np.testing.assert_allclose(layer.u.asnumpy()[0], u, atol=1e-6)


def test_the_gradient_is_that_with_u_and_v_held(random: np.random.Generator) -> None:
    layer = SpectralDense(6, 5).set_train()
    matrix = set_weight(layer, random)
    x, share = random.standard_normal((4, 6), dtype=np.float32), random.standard_normal((4, 5), dtype=np.float32)
    u, v, _ = one_iteration(matrix, layer.u.asnumpy()[0].astype(np.float64))

    def loss(weight: np.ndarray) -> float:
        return float((share * (x @ (weight / (u @ weight @ v)).T)).sum())

    expected = np.zeros_like(matrix)
    for place in np.ndindex(*matrix.shape):
        change = np.zeros_like(matrix)
        change[place] = 1e-5
        expected[place] = (loss(matrix + change) - loss(matrix - change)) / 2e-5

    def weighted_sum(x: ms.Tensor, share: ms.Tensor) -> ms.Tensor:
        return (layer(x) * share).sum()

    gradients = ms.jit(ms.grad(weighted_sum, None, layer.trainable_params()))(ms.Tensor(x), ms.Tensor(share))
    np.testing.assert_allclose(gradients[0].asnumpy(), expected, atol=1e-4)
    np.testing.assert_allclose(gradients[1].asnumpy(), share.sum(axis=0), atol=1e-5)


def convolve(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A convolution with odd kernel, stride 1, that keeps the resolution."""
    side = weight.shape[-1]
    padded = np.pad(x, ((0, 0), (0, 0), (side // 2, side // 2), (side // 2, side // 2)))
    y = np.zeros((len(x), len(weight), *x.shape[2:]))
    for row in range(side):
        for column in range(side):
            window = padded[:, :, row : row + x.shape[2], column : column + x.shape[3]]
            y += np.einsum("nchw,oc->nohw", window, weight[:, :, row, column])
    return y


@pytest.mark.parametrize("resample", ["", "up", "down"])
@pytest.mark.parametrize("channels", [1, 9])
def test_a_convolution_resamples_as_the_slow_way_does(
    resample: str, channels: int, random: np.random.Generator
) -> None:
    layer = SpectralConv2d(5, channels, 3, resample=resample).set_train()  # type: ignore[arg-type]
    matrix = set_weight(layer, random)
    layer.bias.set_data(ms.Tensor(random.standard_normal(channels, dtype=np.float32)))
    x = random.standard_normal((2, 5, 6, 8), dtype=np.float32)
    _, _, sigma = one_iteration(matrix, layer.u.asnumpy()[0].astype(np.float64))
    large = x.repeat(2, axis=2).repeat(2, axis=3) if resample == "up" else x
    expected = convolve(large, matrix.reshape(layer.weight.shape) / sigma)
    if resample == "down":
        expected = expected.reshape(2, channels, 3, 2, 4, 2).mean(axis=(3, 5))
    expected += layer.bias.asnumpy()[:, None, None]
    np.testing.assert_allclose(layer(ms.Tensor(x)).asnumpy(), expected, atol=1e-5)


def test_one_by_one_convolutions_mix_channels(random: np.random.Generator) -> None:
    layer = SpectralConv2d(5, 4, 1, has_bias=False).set_train(False)
    matrix = set_weight(layer, random)
    x = random.standard_normal((2, 5, 3, 3), dtype=np.float32)
    _, _, sigma = one_iteration(matrix, layer.u.asnumpy()[0].astype(np.float64))
    np.testing.assert_allclose(layer(ms.Tensor(x)).asnumpy(), np.einsum("nchw,oc->nohw", x, matrix / sigma), atol=1e-5)


def test_a_discriminators_step_follows_numpy(random: np.random.Generator) -> None:
    """D's update and G's loss through the D just updated, each with an iteration of its own."""
    common = {"latent_size": 4}
    ms.set_seed(2)
    model = config.Model(**common, generator={"hidden": [8]}, discriminator={"hidden": [6], "spectral_norm": True})
    G, D = (build_network(network_spec(model, role, (1, 3, 3))).set_train() for role in ("generator", "discriminator"))  # type: ignore[arg-type]
    assert parameter_count(D) == 9 * 6 + 6 + 6 + 1
    assert [tuple(parameter.shape) for parameter in D.get_parameters() if parameter.name.endswith(".u")] == [
        (1, 6),
        (1, 1),
    ]
    x = random.uniform(-1, 1, (5, 1, 3, 3)).astype(np.float32)
    z = random.standard_normal((5, 4), dtype=np.float32)
    fake = G(ms.Tensor(z)).asnumpy().reshape(5, 9)
    state = {parameter.name: parameter.asnumpy().astype(np.float64) for parameter in D.get_parameters()}
    lr = 0.1

    def logits(image: np.ndarray, values: dict[str, np.ndarray]) -> np.ndarray:
        """D as it would see images next, from `values`; u and v come from `state`."""
        h = image.astype(np.float64)
        for index in (0, 2):
            name = f"discriminator.model.{index}."
            u, v, _ = one_iteration(state[name + "weight"], state[name + "u"][0])
            weight = values[name + "weight"]
            h = h @ (weight / (u @ weight @ v)).T + values[name + "bias"]
            h = np.maximum(h, 0.2 * h) if index == 0 else h
        return h

    def loss_d(values: dict[str, np.ndarray]) -> float:
        real, generated = logits(x.reshape(5, 9), values), logits(fake, values)
        return float(np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + generated).mean())

    expected = {name: value.copy() for name, value in state.items()}
    for name, value in state.items():
        if name.endswith(".u"):
            expected[name][0] = one_iteration(state[name[:-1] + "weight"], value[0])[0]
            continue
        for place in np.ndindex(*value.shape):
            values = {other: array.copy() for other, array in state.items()}
            values[name][place] += 1e-6
            high = loss_d(values)
            values[name][place] -= 2e-6
            expected[name][place] -= lr * (high - loss_d(values)) / 2e-6

    options = Optimizer(name="momentum", lr=lr, momentum=0.5)
    optimizers = [make_optimizer(net, options, rates=np.full(1, lr), prefix=f"{p}.") for net, p in ((G, "g"), (D, "d"))]
    step = make_train_step(G, D, *optimizers, make_loss(Loss(name="hinge")))
    got = step(ms.Tensor(x), ms.Tensor(np.zeros(5, np.int32)), ms.Tensor(z))
    assert float(got[0].asnumpy()) == pytest.approx(loss_d(state), abs=1e-4)
    after = {parameter.name: parameter.asnumpy() for parameter in D.get_parameters()}
    for name, value in expected.items():
        if not name.endswith(".u"):
            np.testing.assert_allclose(after[name], value, atol=1e-4, err_msg=name)
    state = expected
    assert float(got[1].asnumpy()) == pytest.approx(-logits(fake, expected).mean(), abs=1e-4)
    for name in [name for name in expected if name.endswith(".u")]:
        u = one_iteration(expected[name[:-1] + "weight"], expected[name][0])[0]
        np.testing.assert_allclose(after[name][0], u, atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (4, 2, 3, 3)])
def test_the_orthogonal_gradient_is_that_of_the_papers_equation(
    shape: tuple[int, ...], random: np.random.Generator
) -> None:
    weight = random.standard_normal(shape)

    def penalty(weight: np.ndarray) -> float:
        rows = weight.reshape(len(weight), -1)
        products = rows @ rows.T
        return float((products**2).sum() - (np.diag(products) ** 2).sum())

    expected = np.zeros(shape)
    for place in np.ndindex(*shape):
        change = np.zeros(shape)
        change[place] = 1e-5
        expected[place] = (penalty(weight + change) - penalty(weight - change)) / 2e-5
    got = orthogonal_gradient(ms.Tensor(weight.astype(np.float32))).asnumpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    orthogonal = np.linalg.qr(random.standard_normal((6, 6)))[0][:4].astype(np.float32)
    assert np.abs(orthogonal_gradient(ms.Tensor(3 * orthogonal)).asnumpy()).max() < 1e-4
