"""The fast step is the course's mathematics: it follows a plain MindSpore step and NumPy in float64."""

from collections.abc import Callable
from typing import NamedTuple

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops
from reference import ReferenceGAN

from gan_mnist.config import Loss, Optimizer
from gan_mnist.losses import make_loss
from gan_mnist.models import NetworkSpec, build_network, dense, layers
from gan_mnist.steps import Rules, make_optimizer, make_train_step, own_parameters

STEPS, BATCH = 50, 128
IMAGE = (1, 28, 28)
NO_CLASS = ms.Tensor(np.zeros(BATCH, np.int32))


class Course(NamedTuple):
    """The course's networks from the library's layers, and its step: two forward passes of G, nothing shared."""

    G: nn.Cell
    D: nn.Cell
    step: Callable[[ms.Tensor, ms.Tensor], tuple[ms.Tensor, ms.Tensor]]


def plain_course() -> Course:
    sizes = [100, 128, 256, 512, 1024]
    cells: list[nn.Cell] = []
    for index, (width_in, width_out) in enumerate(zip(sizes, sizes[1:])):
        norm = [nn.BatchNorm1d(width_out, momentum=0.9)] if index else []
        cells += [nn.Dense(width_in, width_out), *norm, nn.ReLU()]
    G = nn.SequentialCell(*cells, nn.Dense(1024, 784), nn.Tanh())
    D = nn.SequentialCell(
        nn.Dense(784, 512), nn.LeakyReLU(0.2), nn.Dense(512, 256), nn.LeakyReLU(0.2), nn.Dense(256, 1), nn.Sigmoid()
    )
    G.update_parameters_name("plain_g.")
    D.update_parameters_name("plain_d.")
    optimizers = []
    for network, prefix in ((G, "plain_optim_g."), (D, "plain_optim_d.")):
        optimizer = nn.Adam(network.trainable_params(), learning_rate=2e-4, beta1=0.5, beta2=0.999)
        for parameter in own_parameters(optimizer, network):
            parameter.name = prefix + parameter.name
        optimizers.append(optimizer)
    optim_g, optim_d = optimizers
    bce = nn.BCELoss(reduction="mean")

    def loss_d(x: ms.Tensor, z: ms.Tensor) -> ms.Tensor:
        real, fake = D(x), D(G(z))
        return bce(real, ops.ones_like(real)) + bce(fake, ops.zeros_like(fake))

    def loss_g(z: ms.Tensor) -> ms.Tensor:
        fake = D(G(z))
        return bce(fake, ops.ones_like(fake))

    gradient_d = ms.value_and_grad(loss_d, None, D.trainable_params())
    gradient_g = ms.value_and_grad(loss_g, None, G.trainable_params())

    @ms.jit
    def step(x: ms.Tensor, z: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        d, gradients = gradient_d(x.reshape(x.shape[0], -1), z)
        optim_d(gradients)
        g, gradients = gradient_g(z)
        optim_g(gradients)
        return d, g

    return Course(G.set_train(), D.set_train(), step)


def our_networks() -> tuple[nn.Cell, nn.Cell]:
    ms.set_seed(1)
    networks = [
        build_network(NetworkSpec(model="dense", role=role, latent_size=100, image_shape=IMAGE))
        for role in ("generator", "discriminator")
    ]
    return networks[0].set_train(), networks[1].set_train()


def our_step(G: nn.Cell, D: nn.Cell, loss: str = "bce") -> Callable[..., tuple[ms.Tensor, ...]]:
    rates = np.full(1, 2e-4)
    optim_g = make_optimizer(G, Optimizer(), rates=rates, prefix="optim_g.")
    optim_d = make_optimizer(D, Optimizer(), rates=rates, prefix="optim_d.")
    return make_train_step(G, D, optim_g, optim_d, make_loss(Loss(name=loss)))


def arrays(network: nn.Cell) -> dict[str, np.ndarray]:
    """By name, from `model.` on; copies."""
    return {
        parameter.name[parameter.name.find("model.") :]: parameter.asnumpy().copy()
        for parameter in network.get_parameters()
    }


def batches(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches with structure for D to find: blobs on a black ground, as digits are."""
    random = np.random.default_rng(5)
    rows, columns = np.mgrid[:28, :28]
    found = []
    for _ in range(count):
        centre = random.uniform(8, 20, (BATCH, 2, 1, 1))
        distance = (rows - centre[:, :1]) ** 2 + (columns - centre[:, 1:]) ** 2
        x = 2 * np.exp(-distance / random.uniform(5, 40, (BATCH, 1, 1, 1))) - 1
        found.append((x.astype(np.float32), random.standard_normal((BATCH, 100), dtype=np.float32)))
    return found


def test_fifty_steps_follow_numpy_in_float64_as_closely_as_the_librarys_layers_do() -> None:
    G, D = our_networks()
    course = plain_course()
    for ours, plain in ((G, course.G), (D, course.D)):
        start = arrays(ours)
        for parameter in plain.get_parameters():
            parameter.set_data(ms.Tensor(start["model." + parameter.name.partition(".")[2]]))
    start_g, start_d = arrays(G), arrays(D)
    reference = ReferenceGAN(start_g, start_d)
    step = our_step(G, D)
    losses = []

    def assert_weights_follow(tolerance: float) -> None:
        for network, expected, start in ((G, reference.G, start_g), (D, reference.D, start_d)):
            for name, array in arrays(network).items():
                if ".moving_" not in name:
                    moved = np.abs(expected[name] - start[name]).mean()
                    assert np.abs(array - expected[name]).mean() < tolerance * moved + 1e-5, name

    for index, (x, z) in enumerate(batches(STEPS)):
        if index == 5:
            assert_weights_follow(0.03)
        tensors = ms.Tensor(x), ms.Tensor(z)
        ours = [float(loss.asnumpy()) for loss in step(tensors[0], NO_CLASS, tensors[1])[:2]]
        losses.append([ours, [float(loss.asnumpy()) for loss in course.step(*tensors)], reference.step(x, z)])
    ours, plain, exact = np.array(losses).transpose(1, 0, 2)

    np.testing.assert_allclose(ours[:10], exact[:10], rtol=1e-3)
    deviation, plain_deviation = np.abs(ours - exact).max(), np.abs(plain - exact).max()
    assert deviation < 0.02
    assert deviation < 3 * plain_deviation + 1e-3, "less exact than the library's own layers"
    np.testing.assert_allclose(ours, plain, atol=0.05)
    # Adam moves a weight by up to lr however small its gradient is, so rounding turns the tiniest round, ever more.
    assert_weights_follow(0.5)
    for name in (name for name in reference.G if ".moving_" in name):
        np.testing.assert_allclose(arrays(G)[name], reference.G[name], rtol=0.1, atol=0.02, err_msg=name)


def test_g_is_updated_through_the_updated_d() -> None:
    G, D = our_networks()
    before = ReferenceGAN(arrays(G), arrays(D))
    x, z = batches(1)[0]
    stale = -np.log(1 / (1 + np.exp(-before.discriminate(before.generate(z.astype(np.float64))[0])[0]))).mean()
    _, fresh = before.step(x, z)
    loss_g = float(our_step(G, D)(ms.Tensor(x), NO_CLASS, ms.Tensor(z))[1].asnumpy())
    assert loss_g == pytest.approx(fresh, abs=1e-4)
    assert abs(fresh - stale) > 1e-2, "the test would not notice"


def test_the_returned_logits_are_those_that_ds_update_saw() -> None:
    G, D = our_networks()
    reference = ReferenceGAN(arrays(G), arrays(D))
    x, z = batches(1)[0]
    _, _, real_logits, fake_logits = our_step(G, D)(ms.Tensor(x), NO_CLASS, ms.Tensor(z))
    np.testing.assert_allclose(real_logits.asnumpy(), reference.discriminate(x.reshape(BATCH, -1))[0], atol=1e-4)
    fake, _ = reference.generate(z.astype(np.float64))
    np.testing.assert_allclose(fake_logits.asnumpy(), reference.discriminate(fake)[0], atol=1e-4)


def test_a_discriminator_with_batch_norm_sees_real_and_fake_apart() -> None:
    class NormedD(dense.Discriminator):
        def __init__(self) -> None:
            super().__init__(IMAGE, hidden=[64])
            first, *rest = self.model
            self.model = nn.SequentialCell(first, nn.BatchNorm1d(64, momentum=0.9), *rest)

    ms.set_seed(1)
    G = dense.Generator(100, IMAGE, hidden=[32])
    G.update_parameters_name("generator.")
    D = NormedD().set_train()
    D.update_parameters_name("discriminator.")
    x, z = batches(1)[0]
    before = arrays(D)
    real_logits = our_step(G.set_train(), D)(ms.Tensor(x), NO_CLASS, ms.Tensor(z))[2].asnumpy()
    h = x.reshape(BATCH, -1) @ before["model.0.weight"].T + before["model.0.bias"]
    h = (h - h.mean(axis=0)) / np.sqrt(h.var(axis=0) + 1e-5)
    h = np.where(h > 0, h, 0.2 * h)
    expected = h @ before["model.3.weight"].T + before["model.3.bias"]
    np.testing.assert_allclose(real_logits, expected, atol=1e-3)


@pytest.mark.parametrize("training", [True, False])
def test_our_batch_norm_equals_the_librarys(training: bool) -> None:
    random = np.random.default_rng(0)
    ours, library = layers.BatchNorm1d(16), nn.BatchNorm1d(16, eps=1e-5, momentum=0.9)
    x, weight = random.normal(1, 2, (32, 16)).astype(np.float32), random.normal(size=(32, 16)).astype(np.float32)
    results = []
    for layer in (ours, library):
        for name in ("gamma", "beta", "moving_mean"):
            getattr(layer, name).set_data(ms.Tensor(random.uniform(0.5, 2, 16).astype(np.float32)))
        random = np.random.default_rng(0)
        random.normal(1, 2, (32, 16)), random.normal(size=(32, 16))
        layer.set_train(training)
        compute = ms.jit(ms.value_and_grad(weighted_sum_of(layer), 0, layer.trainable_params()))
        value, (dx, (dgamma, dbeta)) = compute(ms.Tensor(x), ms.Tensor(weight))
        results.append([*(t.asnumpy() for t in (value, dx, dgamma, dbeta, layer.moving_mean, layer.moving_variance))])
    for ours_value, library_value in zip(*results):
        np.testing.assert_allclose(ours_value, library_value, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("ours", "library"),
    [(layers.LeakyReLU(0.2), nn.LeakyReLU(0.2)), (layers.Dense(16, 8), nn.Dense(16, 8))],
    ids=["LeakyReLU", "Dense"],
)
def test_our_layers_equal_the_librarys(ours: nn.Cell, library: nn.Cell) -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((32, 16), dtype=np.float32)
    for source, target in zip(library.get_parameters(), ours.get_parameters()):
        assert source.name == target.name
        target.set_data(ms.Tensor(source.asnumpy()))
    results = []
    for layer in (ours, library):
        weight = np.random.default_rng(1).standard_normal(layer(ms.Tensor(x)).shape, dtype=np.float32)
        weights = layer.trainable_params() or None
        compute = ms.jit(ms.value_and_grad(weighted_sum_of(layer), 0, weights))
        value, gradients = compute(ms.Tensor(x), ms.Tensor(weight))
        dx, rest = gradients if weights else (gradients, ())
        results.append([tensor.asnumpy() for tensor in (value, dx, *rest)])
    for ours_value, library_value in zip(*results):
        np.testing.assert_allclose(ours_value, library_value, rtol=1e-4, atol=1e-5)


def weighted_sum_of(layer: nn.Cell) -> Callable[[ms.Tensor, ms.Tensor], ms.Tensor]:
    def weighted_sum(x: ms.Tensor, weight: ms.Tensor) -> ms.Tensor:
        return (layer(x) * weight).sum()

    return weighted_sum


def test_a_packed_discriminator_sees_images_together_and_dropout_their_numbers() -> None:
    """Against D written out: packs are images whose channels are joined, the real ones first."""
    random = np.random.default_rng(8)
    ms.set_seed(2)
    common = {"model": "dense", "latent_size": 10, "image_shape": (1, 6, 6)}
    G = build_network(NetworkSpec(role="generator", options={"hidden": [8, 12]}, **common)).set_train()
    options = {"hidden": [9, 5], "dropout": 0.25}
    D = build_network(NetworkSpec(role="discriminator", options=options, pack=2, **common)).set_train()
    optimizers = [
        make_optimizer(network, Optimizer(), rates=np.full(1, 2e-4), prefix=f"{name}.")
        for network, name in ((G, "g"), (D, "d"))
    ]
    x = random.uniform(-1, 1, (8, 1, 6, 6)).astype(np.float32)
    z, noise = random.standard_normal((8, 10), dtype=np.float32), random.random((8, 14), dtype=np.float32)
    fake = G(ms.Tensor(z)).asnumpy()

    weights = [parameter.asnumpy().astype(np.float64) for parameter in D.get_parameters()]
    hidden = np.concatenate([x, fake]).reshape(8, 72).astype(np.float64)  # Two neighbours make a row.
    start = 0
    for layer in range(3):
        hidden = hidden @ weights[2 * layer].T + weights[2 * layer + 1]
        if layer < 2:
            hidden = np.maximum(hidden, 0.2 * hidden)
            hidden *= (noise[:, start : start + hidden.shape[1]] < 0.75) / 0.75
            start += hidden.shape[1]
    step = make_train_step(G, D, *optimizers, make_loss(Loss()), Rules(pack=2, draws=("dropout",)))
    _, _, real_logits, fake_logits = step(ms.Tensor(x), NO_CLASS, ms.Tensor(z), ms.Tensor(noise))
    np.testing.assert_allclose(real_logits.asnumpy(), hidden[:4], atol=1e-5)
    np.testing.assert_allclose(fake_logits.asnumpy(), hidden[4:], atol=1e-5)
