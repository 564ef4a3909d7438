"""The small BigGAN: its shapes, and its pieces against their formulas in NumPy."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from gan_mnist import config
from gan_mnist.errors import UserError
from gan_mnist.models import build_network, network_spec, parameter_count
from gan_mnist.models.biggan import Attention, ConditionalBatchNorm, DownBlock, UpBlock

N, SHAPE = 4, (1, 8, 8)
OPTIONS: dict[str, dict[str, object]] = {
    "generator": {"classes": 3, "channels": [8, 6, 6], "embedding": 5},
    "discriminator": {"classes": 3, "channels": [8, 6]},
}


def build(role: str, shape: tuple[int, int, int] = SHAPE, latent_size: int = 10, **changes: object) -> nn.Cell:
    ms.set_seed(3)
    model = config.Model(name="biggan", latent_size=latent_size, **{role: OPTIONS[role] | changes})  # type: ignore[arg-type]
    return build_network(network_spec(model, role, shape))  # type: ignore[arg-type]


def full_size(role: str) -> nn.Cell:
    return build_network(network_spec(config.Model(name="biggan"), role, (1, 28, 28)))  # type: ignore[arg-type]


def matrix(layer: nn.Cell) -> np.ndarray:
    """The weight that a layer works with in evaluation, (out, rest), float64."""
    return layer.spectral_norm.set_train(False)(layer.weight, layer.u).asnumpy().reshape(len(layer.weight), -1)


def randomise(network: nn.Cell) -> None:
    random = np.random.default_rng(8)
    for parameter in network.get_parameters():
        if parameter.name.endswith("moving_variance"):
            value = random.uniform(0.5, 2, parameter.shape)
        else:
            value = random.normal(0, 1, parameter.shape)
        parameter.set_data(ms.Tensor(value.astype(np.float32)))


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(6)


def inputs(random: np.random.Generator) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
    """z, images, classes."""
    z = ms.Tensor(random.standard_normal((N, 10), dtype=np.float32))
    image = ms.Tensor(random.uniform(-1, 1, (N, *SHAPE)).astype(np.float32))
    return z, image, ms.Tensor(np.array([0, 1, 2, 1], np.int32))


def test_parameter_counts_of_the_defaults() -> None:
    def conv(width_in: int, width_out: int, side: int = 3, bias: bool = True) -> int:
        return width_in * width_out * side * side + bias * width_out

    def up(width_in: int, width_out: int) -> int:
        norms = 2 * (32 + 33) * (width_in + width_out)
        return norms + conv(width_in, width_out, bias=False) + conv(width_out, width_out) + conv(width_in, width_out, 1)

    def attention(width: int) -> int:
        return 2 * width * (width // 8) + 2 * width * (width // 2) + 1

    first = 34 * 64 * 49 + 64 * 49
    assert parameter_count(full_size("generator")) == 10 * 32 + first + up(64, 32) + attention(32) + up(
        32, 32
    ) + 2 * 32 + conv(32, 1)
    assert parameter_count(full_size("discriminator")) == (
        conv(1, 32) + conv(32, 32) + conv(1, 32, 1) + attention(32) + conv(32, 64) + conv(64, 64) + conv(32, 64, 1)
    ) + (2 * conv(64, 64) + 65 + 10 * 64)


def test_shapes_and_ranges(random: np.random.Generator) -> None:
    z, image, y = inputs(random)
    G, D = build("generator"), build("discriminator")
    assert G.classes == D.classes == 3
    drawn = G(z, y).asnumpy()
    assert drawn.shape == (N, *SHAPE) and drawn.dtype == np.float32 and np.abs(drawn).max() <= 1
    logits, probability = D.logits(image, y).asnumpy(), D(image, y).asnumpy()
    assert logits.shape == (N, 1)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-logits)), atol=1e-6)
    colour = build("generator", (3, 16, 12), latent_size=11, attention=False)
    assert colour(ms.Tensor(np.zeros((2, 11), np.float32)), y[:2]).shape == (2, 3, 16, 12)


@pytest.mark.parametrize("role", ["generator", "discriminator"])
def test_the_class_counts(role: str, random: np.random.Generator) -> None:
    z, image, y = inputs(random)
    network = build(role).set_train(False)
    compute = network.logits if role == "discriminator" else network
    given = image if role == "discriminator" else z
    base, other = compute(given, y).asnumpy(), compute(given, ms.Tensor(np.array([0, 1, 0, 1], np.int32))).asnumpy()
    changed = np.abs(base - other).reshape(N, -1).max(axis=1)
    assert changed[2] > 1e-3 and not changed[[0, 1, 3]].any()


def test_every_part_of_z_counts(random: np.random.Generator) -> None:
    z, _, y = inputs(random)
    G = build("generator").set_train(False)
    base = G(z, y).asnumpy()
    for start, end in ((0, 4), (4, 7), (7, 10)):
        changed = z.asnumpy().copy()
        changed[0, start:end] += 1
        difference = np.abs(G(ms.Tensor(changed), y).asnumpy() - base)
        assert difference[0].max() > 1e-3 and not difference[1:].any()


def test_conditional_batch_norm_follows_its_formula(random: np.random.Generator) -> None:
    layer = ConditionalBatchNorm(3, 5).set_train()
    x, condition = random.normal(1, 2, (4, 3, 5, 5)), random.standard_normal((4, 5))
    mean, variance = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    gain, shift = 1 + condition @ matrix(layer.gain).T, condition @ matrix(layer.shift).T

    def expected(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
        normal = (x - mean[:, None, None]) / np.sqrt(variance + 1e-5)[:, None, None]
        return gain[:, :, None, None] * normal + shift[:, :, None, None]

    tensors = [ms.Tensor(array.astype(np.float32)) for array in (x, condition)]
    np.testing.assert_allclose(layer(*tensors).asnumpy(), expected(mean, variance), atol=1e-4)
    moving_mean, moving_variance = layer.moving_mean.asnumpy(), layer.moving_variance.asnumpy()
    np.testing.assert_allclose(moving_mean, 0.1 * mean, atol=1e-5)
    np.testing.assert_allclose(moving_variance, 0.9 + 0.1 * variance * 100 / 99, rtol=1e-3)
    layer.set_train(False)
    np.testing.assert_allclose(layer(*tensors).asnumpy(), expected(moving_mean, moving_variance), atol=1e-4)


def test_attention_follows_its_formula_and_begins_as_nothing(random: np.random.Generator) -> None:
    layer = Attention(16).set_train(False)
    x = random.standard_normal((2, 16, 4, 6), dtype=np.float32)
    np.testing.assert_array_equal(layer(ms.Tensor(x)).asnumpy(), x)
    layer.gamma.set_data(ms.Tensor(0.5, ms.float32))
    small = x.reshape(2, 16, 2, 2, 3, 2).mean(axis=(3, 5)).reshape(2, 16, 6)
    theta = np.einsum("oc,ncp->nop", matrix(layer.theta), x.reshape(2, 16, 24))
    phi, g = (np.einsum("oc,ncp->nop", matrix(part), small) for part in (layer.phi, layer.g))
    expected = x.copy().reshape(2, 16, 24)
    for image in range(2):
        for position in range(24):
            score = np.exp(theta[image, :, position] @ phi[image])
            expected[image, :, position] += 0.5 * matrix(layer.o) @ (g[image] @ (score / score.sum()))
    np.testing.assert_allclose(layer(ms.Tensor(x)).asnumpy(), expected.reshape(x.shape), atol=1e-5)


def test_the_discriminator_projects_its_features_on_the_class(random: np.random.Generator) -> None:
    _, image, y = inputs(random)
    D = build("discriminator").set_train(False)
    randomise(D)
    x = D.blocks[1](D.attention(D.blocks[0](image))).asnumpy()
    h = np.maximum(x, 0).sum(axis=(2, 3))
    embedding = D.spectral_norm(D.embedding, D.u).asnumpy()[y.asnumpy()]
    expected = h @ matrix(D.last).T + D.last.bias.asnumpy() + (embedding * h).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(D.logits(image, y).asnumpy(), expected, rtol=1e-4, atol=1e-4)


def test_blocks_add_their_two_ways(random: np.random.Generator) -> None:
    """The branches' layers have tests of their own; here, how they are put together."""
    x = ms.Tensor(random.standard_normal((2, 6, 4, 4), dtype=np.float32))
    condition = ms.Tensor(random.standard_normal((2, 5), dtype=np.float32))
    up = UpBlock(6, 8, condition=5).set_train(False)
    h = up.conv1(nn.ReLU()(up.norm1(x, condition)))
    h = up.conv2(nn.ReLU()(up.norm2(h, condition))).asnumpy()
    skip = up.skip(x).asnumpy().repeat(2, axis=2).repeat(2, axis=3)
    np.testing.assert_allclose(up(x, condition).asnumpy(), h + skip, atol=1e-5)

    down = DownBlock(6, 8, first=False, halve=True).set_train(False)
    h = down.conv2(nn.ReLU()(down.conv1(nn.ReLU()(x)))).asnumpy()
    skip = down.skip(x).asnumpy().reshape(2, 8, 2, 2, 2, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(down(x).asnumpy(), h + skip, atol=1e-5)


@pytest.mark.parametrize("role", ["generator", "discriminator"])
def test_weights_begin_orthogonal_and_biases_at_zero(role: str) -> None:
    for parameter in build(role).trainable_params():
        value = parameter.asnumpy().astype(np.float64)
        if value.ndim < 2:
            gains = parameter.name.endswith("norm.gamma") and "attention" not in parameter.name
            assert (value == gains).all(), parameter.name
            continue
        rows = value.reshape(len(value), -1)
        rows = rows if len(rows) <= len(rows[0]) else rows.T
        np.testing.assert_allclose(rows @ rows.T, np.eye(len(rows)), atol=1e-5, err_msg=parameter.name)


def test_gradients_are_finite_and_reach_every_weight(random: np.random.Generator) -> None:
    z, _, y = inputs(random)
    G, D = build("generator", channels=[8, 6]).set_train(), build("discriminator").set_train()
    for network in (G, D):
        network.attention.gamma.set_data(ms.Tensor(0.5, ms.float32))  # At 0, no gradient passes.
    weights = G.trainable_params() + D.trainable_params()

    def total(z: ms.Tensor, y: ms.Tensor) -> ms.Tensor:
        return D.logits(G(z, y), y).sum()

    for parameter, gradient in zip(weights, ms.jit(ms.grad(total, None, weights))(z, y), strict=True):
        assert np.isfinite(gradient.asnumpy()).all() and gradient.asnumpy().any(), parameter.name


@pytest.mark.parametrize(
    ("role", "shape", "latent_size", "message"),
    [
        ("generator", (1, 10, 8), 10, "model.generator.channels has 3 entries.* 10x8 does not divide"),
        ("discriminator", (1, 9, 8), 10, "model.discriminator.channels has 2 entries.* 9x8 does not divide"),
        ("generator", SHAPE, 2, "model.latent_size is 2, but model.generator.channels needs at least 3"),
    ],
)
def test_what_does_not_fit_is_refused(role: str, shape: tuple[int, int, int], latent_size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(role, shape, latent_size)
