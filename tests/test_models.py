"""The networks: the course's layers, shapes and parameter counts, and the numbers they compute."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from gan_mnist import config
from gan_mnist.errors import UserError
from gan_mnist.models import MODELS, NetworkSpec, build_network, infer_spec, network_spec, parameter_count

SHAPE = (1, 28, 28)
NORM = ("gamma", "beta", "moving_mean", "moving_variance")
TANH = 2e-4
"""How far MindSpore's CPU Tanh may be off; measured: 1e-4."""


def build(role: str, **options: object) -> nn.Cell:
    """A network as a configuration asks for it."""
    return build_network(network_spec(config.Model(**{role: options}), role, SHAPE))  # type: ignore[arg-type]


def randomise(network: nn.Cell, seed: int = 0) -> dict[str, np.ndarray]:
    """Give every parameter, statistics included, a random value; return them in float64."""
    rng = np.random.default_rng(seed)
    values = {}
    for parameter in network.get_parameters():
        value = rng.normal(0, parameter.shape[-1] ** -0.5, parameter.shape)
        if parameter.name.endswith(("moving_variance", "gamma")):
            value = rng.uniform(0.5, 2, parameter.shape)
        value = value.astype(np.float32)
        parameter.set_data(ms.Tensor(value))
        values[parameter.name] = value.astype(np.float64)
    return values


def test_parameter_counts_are_the_courses() -> None:
    assert parameter_count(build("generator")) == 1_510_032
    assert parameter_count(build("discriminator")) == 533_505


def test_generator_has_the_courses_layers_in_order() -> None:
    shapes = {parameter.name: tuple(parameter.shape) for parameter in build("generator").get_parameters()}
    dense = {0: (100, 128), 2: (128, 256), 5: (256, 512), 8: (512, 1024), 11: (1024, 784)}
    expected = {}
    for index, (width_in, width_out) in dense.items():
        expected[f"generator.model.{index}.weight"] = (width_out, width_in)
        expected[f"generator.model.{index}.bias"] = (width_out,)
    for index, width in {3: 256, 6: 512, 9: 1024}.items():
        expected |= {f"generator.model.{index}.{name}": (width,) for name in NORM}
    assert shapes == expected


def test_discriminator_has_the_courses_layers_in_order() -> None:
    shapes = {parameter.name: tuple(parameter.shape) for parameter in build("discriminator").get_parameters()}
    expected = {}
    for index, (width_in, width_out) in {0: (784, 512), 2: (512, 256), 4: (256, 1)}.items():
        expected[f"discriminator.model.{index}.weight"] = (width_out, width_in)
        expected[f"discriminator.model.{index}.bias"] = (width_out,)
    assert shapes == expected


def test_generator_in_evaluation_computes_what_the_paper_says() -> None:
    G = build("generator").set_train(False)
    values = randomise(G)
    z = np.random.default_rng(1).standard_normal((5, 100)).astype(np.float32)

    h = z.astype(np.float64)
    for index in (0, 2, 5, 8):
        h = h @ values[f"generator.model.{index}.weight"].T + values[f"generator.model.{index}.bias"]
        if index:
            norm = {name: values[f"generator.model.{index + 1}.{name}"] for name in NORM}
            h = norm["gamma"] * (h - norm["moving_mean"]) / np.sqrt(norm["moving_variance"] + 1e-5) + norm["beta"]
        h = np.maximum(h, 0)
    expected = np.tanh(h @ values["generator.model.11.weight"].T + values["generator.model.11.bias"])

    image = G(ms.Tensor(z)).asnumpy()
    assert image.shape == (5, *SHAPE) and image.dtype == np.float32
    np.testing.assert_allclose(image.reshape(5, 784), expected, atol=TANH)


def test_generator_in_training_normalises_with_the_batch_and_gathers_statistics() -> None:
    G = build("generator", hidden=[6, 7]).set_train()
    values = randomise(G)
    z = np.random.default_rng(1).standard_normal((16, 100)).astype(np.float32)

    h = np.maximum(z.astype(np.float64) @ values["generator.model.0.weight"].T + values["generator.model.0.bias"], 0)
    h = h @ values["generator.model.2.weight"].T + values["generator.model.2.bias"]
    mean, variance = h.mean(axis=0), h.var(axis=0)
    normal = (h - mean) / np.sqrt(variance + 1e-5)
    h = np.maximum(values["generator.model.3.gamma"] * normal + values["generator.model.3.beta"], 0)
    expected = np.tanh(h @ values["generator.model.5.weight"].T + values["generator.model.5.bias"])

    np.testing.assert_allclose(G(ms.Tensor(z)).asnumpy().reshape(16, 784), expected, atol=TANH)
    moving = {parameter.name: parameter.asnumpy() for parameter in G.get_parameters()}
    before = values["generator.model.3.moving_mean"], values["generator.model.3.moving_variance"]
    np.testing.assert_allclose(moving["generator.model.3.moving_mean"], 0.9 * before[0] + 0.1 * mean, atol=1e-5)
    unbiased = variance * 16 / 15
    np.testing.assert_allclose(moving["generator.model.3.moving_variance"], 0.9 * before[1] + 0.1 * unbiased, rtol=1e-4)


def test_discriminator_computes_what_the_paper_says() -> None:
    D = build("discriminator").set_train(False)
    values = randomise(D)
    x = np.random.default_rng(1).uniform(-1, 1, (5, *SHAPE)).astype(np.float32)

    h = x.reshape(5, 784).astype(np.float64)
    for index in (0, 2):
        h = h @ values[f"discriminator.model.{index}.weight"].T + values[f"discriminator.model.{index}.bias"]
        h = np.where(h > 0, h, 0.2 * h)
    logits = h @ values["discriminator.model.4.weight"].T + values["discriminator.model.4.bias"]

    np.testing.assert_allclose(D.logits(ms.Tensor(x)).asnumpy(), logits, atol=1e-4)
    probability = D(ms.Tensor(x)).asnumpy()
    assert probability.shape == (5, 1)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-logits)), atol=2e-5)


def test_the_generators_options_decide_its_layers() -> None:
    z = np.random.default_rng(1).standard_normal((5, 100)).astype(np.float32)
    G = build("generator", hidden=[6, 7], activation="leaky_relu", batch_norm=False).set_train(False)
    values = randomise(G)
    assert [name for name in values if "weight" not in name] == [f"generator.model.{i}.bias" for i in (0, 2, 4)]
    assert all(parameter.requires_grad for parameter in G.get_parameters())
    h = z.astype(np.float64)
    for index in (0, 2, 4):
        h = h @ values[f"generator.model.{index}.weight"].T + values[f"generator.model.{index}.bias"]
        h = np.tanh(h) if index == 4 else np.where(h > 0, h, 0.2 * h)
    np.testing.assert_allclose(G(ms.Tensor(z)).asnumpy().reshape(5, 784), h, atol=TANH)


def test_the_generators_eps_is_added_to_the_variance() -> None:
    z = np.random.default_rng(1).standard_normal((5, 100)).astype(np.float32)
    G = build("generator", hidden=[6, 7], eps=0.8).set_train(False)
    values = randomise(G)
    h = np.maximum(z.astype(np.float64) @ values["generator.model.0.weight"].T + values["generator.model.0.bias"], 0)
    h = h @ values["generator.model.2.weight"].T + values["generator.model.2.bias"]
    gamma, beta, mean, variance = (values[f"generator.model.3.{name}"] for name in NORM)
    h = np.maximum(gamma * (h - mean) / np.sqrt(variance + 0.8) + beta, 0)
    expected = np.tanh(h @ values["generator.model.5.weight"].T + values["generator.model.5.bias"])
    np.testing.assert_allclose(G(ms.Tensor(z)).asnumpy().reshape(5, 784), expected, atol=TANH)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_discriminator_with_a_relu_before_its_sigmoid_never_says_less_than_a_half(dropout: float) -> None:
    x = ms.Tensor(np.random.default_rng(1).uniform(-20, 20, (50, *SHAPE)).astype(np.float32))
    noise = [ms.Tensor(np.random.default_rng(2).random((50, 768), dtype=np.float32))] if dropout else []
    sound, flawed = (build("discriminator", activation="relu", dropout=dropout, relu_logits=r) for r in (False, True))
    for D in (sound, flawed):
        randomise(D)
    logits = sound.logits(x, *noise).asnumpy()
    assert logits.min() < 0 < logits.max()
    np.testing.assert_array_equal(flawed.logits(x, *noise).asnumpy(), np.maximum(logits, 0))
    assert flawed(x).asnumpy().min() == 0.5


def test_a_discriminator_may_have_relu() -> None:
    D = build("discriminator", hidden=[6], activation="relu").set_train(False)
    values = {name.removeprefix("discriminator.model."): value for name, value in randomise(D).items()}
    x = np.random.default_rng(1).uniform(-1, 1, (5, *SHAPE)).astype(np.float32)
    h = np.maximum(x.reshape(5, 784) @ values["0.weight"].T + values["0.bias"], 0)
    np.testing.assert_allclose(D.logits(ms.Tensor(x)).asnumpy(), h @ values["2.weight"].T + values["2.bias"], atol=1e-4)


def test_other_sizes_follow_the_options() -> None:
    G = build_network(
        NetworkSpec(model="dense", role="generator", latent_size=3, image_shape=(3, 8, 6), options={"hidden": [5]})
    )
    assert G(ms.Tensor(np.zeros((2, 3), np.float32))).shape == (2, 3, 8, 6)
    assert parameter_count(G) == 3 * 5 + 5 + 5 * 144 + 144


def test_the_same_seed_gives_the_same_weights() -> None:
    def weights(seed: int) -> np.ndarray:
        ms.set_seed(seed)
        return build("discriminator").trainable_params()[0].asnumpy()

    assert np.array_equal(weights(1), weights(1))
    assert not np.array_equal(weights(1), weights(2))


@pytest.mark.parametrize("role", ["generator", "discriminator"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hiden": [8]}, r"unknown key `model.ROLE.hiden`; did you mean `model.ROLE.hidden`\?"),
        ({"hidden": 8}, "`model.ROLE.hidden` is 8, but"),
        ({"hidden": "8"}, "`model.ROLE.hidden` is '8', but"),
        ({"hidden": True}, "`model.ROLE.hidden` is True, but"),
        ({"latent_size": 8}, "unknown key `model.ROLE.latent_size`"),
        ({"hidden": []}, "model.ROLE.hidden"),
        ({"hidden": [0]}, "model.ROLE.hidden"),
        ({"hidden": [-5]}, "model.ROLE.hidden"),
        ({"activation": "tanh"}, "`model.ROLE.activation` is 'tanh', but .*'relu' or 'leaky_relu'"),
    ],
)
def test_a_wrong_option_is_refused_by_its_key(role: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("ROLE", role)):
        build(role, **options)


def test_batch_norm_without_an_eps_is_refused() -> None:
    with pytest.raises(UserError, match="`model.generator.eps` is 0"):
        build("generator", eps=0.0)


def test_an_unknown_architecture_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=f"model.name is 'dnse'; .*{next(iter(MODELS))}"):
        network_spec(config.Model(name="dnse"), "generator", SHAPE)
    with pytest.raises(UserError, match="'dnse' is not known here"):
        build_network(NetworkSpec(model="dnse", role="generator", latent_size=1, image_shape=SHAPE))


def test_a_description_builds_the_network_again() -> None:
    spec = network_spec(config.Model(generator={"hidden": [8, 9]}), "generator", SHAPE)
    again = NetworkSpec.model_validate_json(spec.model_dump_json())
    assert again == spec and again.options["hidden"] == [8, 9]
    first, second = (
        {p.name: tuple(p.shape) for p in build_network(description).get_parameters()} for description in (spec, again)
    )
    assert first == second


def shapes(*widths: int) -> dict[str, np.ndarray]:
    """Weights of Dense layers of these widths, as in the tutorial: `model.0.weight`, ..."""
    return {
        f"model.{3 * index}.weight": np.zeros((out, width), np.float32)
        for index, (width, out) in enumerate(zip(widths, widths[1:]))
    }


def test_the_tutorials_shapes_are_recognised() -> None:
    generator = infer_spec(shapes(100, 128, 256, 512, 1024, 784))
    assert generator == network_spec(config.Model(), "generator", SHAPE)
    assert infer_spec(shapes(784, 512, 256, 1)) == network_spec(config.Model(), "discriminator", SHAPE)
    small = infer_spec(shapes(7, 8, 1024))
    assert small and (small.latent_size, small.image_shape) == (7, (1, 32, 32)) and small.options["hidden"] == [8]


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        shapes(100, 784),
        shapes(100, 128, 785),
        shapes(100, 128, 256) | {"model.9.weight": np.zeros((784, 255), np.float32)},
        {"conv.weight": np.zeros((8, 1, 3, 3), np.float32)},
        {"model.0.bias": np.zeros(8, np.float32)},
        {"model.0.weight": np.zeros((8, 1, 3, 3), np.float32), "model.3.weight": np.zeros((1, 8, 3, 3), np.float32)},
    ],
    ids=["nothing", "one layer", "no square", "a gap", "other names", "no weights", "convolutions"],
)
def test_other_shapes_are_not(arrays: dict[str, np.ndarray]) -> None:
    assert infer_spec(arrays) is None
