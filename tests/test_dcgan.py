"""The convolutional networks: shapes and counts, layers against slow NumPy ones, dropout, and the command line."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from gan_mnist import checkpoint, config, environment
from gan_mnist.errors import UserError
from gan_mnist.models import MODELS, NetworkSpec, build_network, network_spec, parameter_count
from gan_mnist.models.convolutions import batch_norm_2d, conv, conv_transpose, halved

Cli = Callable[..., CompletedProcess[str]]
ROOT = Path(__file__).resolve().parent.parent
FACES = {"channels": [1024, 512, 256, 128], "kernel": 4}


def spec_of(role: str, image_shape: tuple[int, int, int] = (1, 28, 28), **options: object) -> NetworkSpec:
    """A description as a configuration gives it."""
    return network_spec(config.Model(name="dcgan", **{role: options}), role, image_shape)  # type: ignore[arg-type]


def shapes(network: nn.Cell) -> dict[str, tuple[int, ...]]:
    return {parameter.name: tuple(parameter.shape) for parameter in network.get_parameters()}


def slow_conv(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Stride 2, the kernel centred on every second pixel: sum over the kernel, pixel by pixel."""
    n, _, height, width = x.shape
    k = weight.shape[-1]
    pad = (k - 1) // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    y = np.zeros((n, len(weight), halved(height, k), halved(width, k)))
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            patch = padded[:, :, 2 * i : 2 * i + k, 2 * j : 2 * j + k]
            y[:, :, i, j] = np.einsum("ncuv,ocuv->no", patch, weight)
    return y


def slow_conv_transpose(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Every pixel paints its kernel into the doubled image; what falls outside is cut off."""
    n, _, height, width = x.shape
    k = weight.shape[-1]
    pad = (k - 1) // 2
    y = np.zeros((n, weight.shape[1], 2 * height + 2 * k, 2 * width + 2 * k))
    for i in range(height):
        for j in range(width):
            y[:, :, 2 * i : 2 * i + k, 2 * j : 2 * j + k] += np.einsum("nc,couv->nouv", x[:, :, i, j], weight)
    return y[:, :, pad : pad + 2 * height, pad : pad + 2 * width]


@pytest.mark.parametrize(("height", "width"), [(8, 6), (7, 5)])
@pytest.mark.parametrize("kernel", [3, 4, 5])
def test_a_convolution_halves_as_the_slow_one(kernel: int, height: int, width: int) -> None:
    rng = np.random.default_rng(kernel)
    layer = conv(3, 4, kernel=kernel)
    bias = rng.standard_normal(4).astype(np.float32)
    layer.bias.set_data(ms.Tensor(bias))
    x = rng.standard_normal((2, 3, height, width)).astype(np.float32)
    expected = slow_conv(x, layer.weight.asnumpy()) + bias[:, None, None]
    np.testing.assert_allclose(layer(ms.Tensor(x)).asnumpy(), expected, atol=1e-5)


@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
def test_a_transposed_convolution_doubles_as_the_slow_one(kernel: int) -> None:
    rng = np.random.default_rng(kernel)
    layer = conv_transpose(3, 4, kernel=kernel)
    bias = rng.standard_normal(4).astype(np.float32)
    layer.bias.set_data(ms.Tensor(bias))
    x = rng.standard_normal((2, 3, 4, 3)).astype(np.float32)
    expected = slow_conv_transpose(x, layer.weight.asnumpy()) + bias[:, None, None]
    assert expected.shape == (2, 4, 8, 6)
    np.testing.assert_allclose(layer(ms.Tensor(x)).asnumpy(), expected, atol=1e-5)


def test_batch_norm_normalises_each_channel_and_its_gradient_is_the_papers() -> None:
    """Ioffe & Szegedy 2015: the transform of section 3, the gradients below it."""
    rng = np.random.default_rng(0)
    layer = batch_norm_2d(3).set_train()
    gamma, beta = rng.uniform(0.5, 2, 3).astype(np.float32), rng.standard_normal(3).astype(np.float32)
    layer.gamma.set_data(ms.Tensor(gamma))
    layer.beta.set_data(ms.Tensor(beta))
    x = rng.normal(1, 2, (4, 3, 5, 6)).astype(np.float32)
    dy = rng.standard_normal(x.shape).astype(np.float32)

    y, gradient = ms.vjp(layer, ms.Tensor(x), weights=[layer.gamma, layer.beta])
    (dx,), (dgamma, dbeta) = gradient(ms.Tensor(dy))

    axes, count = (0, 2, 3), 4 * 5 * 6
    mean, variance = x.mean(axes, np.float64, keepdims=True), x.var(axes, np.float64, keepdims=True)
    r = 1 / np.sqrt(variance + 1e-5)
    h = (x - mean) * r
    by_channel = (slice(None), None, None)
    np.testing.assert_allclose(y.asnumpy(), gamma[by_channel] * h + beta[by_channel], atol=1e-5)
    np.testing.assert_allclose(dbeta.asnumpy(), dy.sum(axes), atol=1e-4)
    np.testing.assert_allclose(dgamma.asnumpy(), (dy * h).sum(axes), atol=1e-4)
    inner = dy - (dy.sum(axes, keepdims=True) + h * (dy * h).sum(axes, keepdims=True)) / count
    np.testing.assert_allclose(dx.asnumpy(), gamma[by_channel] * r * inner, atol=1e-5)
    moved = 0.1 * variance.ravel() * count / (count - 1) + 0.9
    np.testing.assert_allclose(layer.moving_mean.asnumpy(), 0.1 * mean.ravel(), atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance.asnumpy(), moved, rtol=1e-5)


def test_networks_for_digits() -> None:
    G, D = build_network(spec_of("generator")), build_network(spec_of("discriminator"))
    assert parameter_count(G) == 100 * 7 * 7 * 256 + 2 * 256 + 256 * 128 * 25 + 2 * 128 + 128 * 25 + 1
    convolutions = (25 * 1 + 1) * 32 + (25 * 32 + 1) * 64 + (25 * 64 + 1) * 128
    assert parameter_count(D) == convolutions + 4 * 4 * 128 + 1
    assert all(name.startswith(("generator.model.", "discriminator.model.")) for name in shapes(G) | shapes(D))
    image = G(ms.Tensor(np.random.default_rng(0).standard_normal((3, 100)).astype(np.float32)))
    assert image.shape == (3, 1, 28, 28) and np.abs(image.asnumpy()).max() <= 1
    assert D.logits(image).shape == (3, 1)
    np.testing.assert_allclose(D(image).asnumpy(), 1 / (1 + np.exp(-D.logits(image).asnumpy())), atol=1e-5)


def test_networks_for_faces_are_the_papers() -> None:
    G = build_network(spec_of("generator", (3, 64, 64), **FACES))
    D = build_network(spec_of("discriminator", (3, 64, 64), channels=[128, 256, 512, 1024], kernel=4, normalize=True))
    kernels = [shape for shape in shapes(G).values() if len(shape) == 4]
    assert kernels == [(1024, 512, 4, 4), (512, 256, 4, 4), (256, 128, 4, 4), (128, 3, 4, 4)]
    assert shapes(G)["generator.model.0.weight"] == (4 * 4 * 1024, 100)
    kernels = [shape for shape in shapes(D).values() if len(shape) == 4]
    assert kernels == [(128, 3, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4), (1024, 512, 4, 4)]
    norms = [shape for name, shape in shapes(D).items() if name.endswith("moving_mean")]
    assert norms == [(256,), (512,), (1024,)]


def test_small_networks_for_colour() -> None:
    G = build_network(spec_of("generator", (3, 64, 32), channels=[4, 3, 2], kernel=4))
    D = build_network(spec_of("discriminator", (3, 64, 32), channels=[2, 3, 4], kernel=4, normalize=True))
    image = G(ms.Tensor(np.ones((2, 100), np.float32)))
    assert image.shape == (2, 3, 64, 32)
    assert D.logits(image).shape == (2, 1)


def test_weights_begin_as_in_the_paper() -> None:
    ms.set_seed(0)
    for role in ("generator", "discriminator"):
        for parameter in build_network(spec_of(role)).trainable_params():
            if parameter.name.endswith("weight") and parameter.size > 1000:
                assert abs(parameter.asnumpy().std() - 0.02) < 0.001, parameter.name
                assert abs(parameter.asnumpy().mean()) < 0.002, parameter.name


@pytest.mark.parametrize(
    ("role", "options", "message"),
    [
        ("generator", {"channels": [8, 8, 8]}, "model.generator.channels: 3 .* divisible by 8, and 28x28 is not"),
        ("discriminator", {"channels": [2] * 6, "kernel": 4}, "model.discriminator.channels: images of 28x28"),
        ("generator", {"kernel": 1}, "`model.generator.kernel` is 1, but"),
        ("discriminator", {"dropout": 1.0}, "`model.discriminator.dropout` is 1.0, but"),
        ("discriminator", {"normalise": True}, "did you mean `model.discriminator.normalize`"),
    ],
)
def test_impossible_options_are_refused_by_key(role: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_network(spec_of(role, **options))


def test_dropout_leaves_out_what_its_numbers_say() -> None:
    D = build_network(spec_of("discriminator", (1, 8, 8), channels=[3, 2], kernel=3, dropout=0.5)).set_train()
    assert D.noise_size == 3 * 4 * 4 + 2 * 2 * 2
    assert build_network(spec_of("discriminator", (1, 8, 8), channels=[3, 2])).noise_size == 0
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (2, 1, 8, 8)).astype(np.float32)
    noise = rng.uniform(size=(2, D.noise_size)).astype(np.float32)
    values = {name.removeprefix("discriminator."): p.asnumpy() for name, p in D.parameters_dict().items()}
    kernels = [value for value in values.values() if value.ndim == 4]

    h, start = x.astype(np.float64), 0
    for kernel in kernels:
        h = slow_conv(h, kernel)
        h = np.where(h > 0, h, 0.2 * h)
        size = h[0].size
        h *= (noise[:, start : start + size].reshape(h.shape) < 0.5) * 2.0
        start += size
    expected = h.reshape(2, -1) @ values["model.2.weight"].T
    np.testing.assert_allclose(D.logits(ms.Tensor(x), ms.Tensor(noise)).asnumpy(), expected, atol=1e-5)
    everything = D.logits(ms.Tensor(x), ms.Tensor(np.zeros_like(noise))).asnumpy()
    assert not np.allclose(everything, expected)


def test_the_environment_knows_which_architectures_convolve() -> None:
    for name, architecture in MODELS.items():
        networks = [architecture.generator(8, (1, 28, 28)), architecture.discriminator((1, 28, 28))]
        weights = [parameter for network in networks for parameter in network.get_parameters()]
        convolves = any(weight.ndim == 4 for weight in weights)
        assert convolves == (name in environment.CONVOLUTIONAL), name


def test_a_checkpoint_tells_its_architecture_without_mindspore(tmp_path: Path) -> None:
    path = tmp_path / "Generator0.ckpt"
    for name, options in (("dcgan", {"channels": [2]}), ("dense", {"hidden": [2]})):
        spec = network_spec(config.Model(name=name, generator=options), "generator", (1, 28, 28))
        checkpoint.save_network(path, build_network(spec), spec, epoch=0)
        assert environment.model_of(path) == name
    whole = path.read_bytes()
    for content in (b"", whole[:50], whole[:100], b"\xff" * 9999, "no checkpoint at all".encode("utf-32-le")):
        path.write_bytes(content)
        assert environment.model_of(path) is None
    assert environment.model_of(tmp_path) is None
    assert environment.model_of(tmp_path / "nowhere.ckpt") is None


def test_convolutions_choose_their_instruction_set_unless_the_user_did(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.settings("dcgan")["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert "ONEDNN_MAX_CPU_ISA" not in environment.settings("dense")
    code = "import os; from gan_mnist import environment; environment.prepare(model='dcgan')"
    code += "; print(os.environ['ONEDNN_MAX_CPU_ISA'])"
    for own, expected in (({}, "AVX2\n"), ({"ONEDNN_MAX_CPU_ISA": "AVX"}, "AVX\n")):
        process = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=own | {"PATH": ""}, capture_output=True, text=True, check=True
        )
        assert process.stdout == expected


@pytest.fixture(scope="module")
def small(digits: Path) -> list[str]:
    """Arguments of train.py for 4 steps an epoch of small convolutional networks with dropout."""
    overrides = [f"data.folder={digits}", "data.dataset=digits", "data.limit=120", "data.batch_size=30"]
    overrides += ["model.generator.channels=[4, 3]", "model.discriminator.channels=[2, 3]"]
    overrides += ["model.discriminator.dropout=0.3", "train.ema=0.5"]
    return ["--config", str(ROOT / "configs" / "mnist_dcgan.yaml"), *overrides, "--device", "CPU"]


def test_train_resume_sample_and_score(
    cli: Cli, small: list[str], tmp_path_factory: pytest.TempPathFactory, digits: Path
) -> None:
    straight, halves = tmp_path_factory.mktemp("straight"), tmp_path_factory.mktemp("halves")
    for folder, arguments in ((straight, ["train.epochs=2"]), (halves, ["train.epochs=1"])):
        process = cli("train", *small, *arguments, cwd=folder)
        assert process.returncode == 0, process.stderr
    process = cli("train", *small, "train.epochs=2", "--resume", cwd=halves)
    assert process.returncode == 0, process.stderr
    for name in ("checkpoints/Generator1.ckpt", "checkpoints/Discriminator1.ckpt", "images/epoch_0001.png"):
        one, other = (folder / "result" / "mnist_dcgan" / name for folder in (straight, halves))
        assert one.read_bytes() == other.read_bytes(), name
    record = json.loads((straight / "result" / "mnist_dcgan" / "run.json").read_text())
    assert record["environment"]["ONEDNN_MAX_CPU_ISA"] == "AVX2"

    process = cli("sample", "--ckpt", "Generator1.ckpt", "--grid", "5x5", "--out", "grid.png", cwd=straight)
    assert process.returncode == 0, process.stderr
    grid = straight / "result" / "mnist_dcgan" / "images" / "epoch_0001.png"
    assert (straight / "grid.png").read_bytes() == grid.read_bytes()
    process = cli("score", "--ckpt", "Discriminator1.ckpt", "grid.png", cwd=straight)
    assert process.returncode == 0, process.stderr
    assert 0 <= float(process.stdout.split()[0]) <= 1
