"""The moving average of G's weights."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from gan_mnist.averaging import EVERY, Average
from gan_mnist.models import NetworkSpec, build_network

SPEC = NetworkSpec(model="dense", role="generator", latent_size=6, image_shape=(1, 8, 8), options={"hidden": [16, 12]})
DECAY = 0.99


@pytest.fixture
def G() -> nn.Cell:
    ms.set_seed(3)
    return build_network(SPEC).set_train()


def arrays(network: nn.Cell) -> dict[str, np.ndarray]:
    return {
        parameter.name.removeprefix("average."): parameter.asnumpy().copy() for parameter in network.get_parameters()
    }


def disturb(network: nn.Cell, random: np.random.Generator) -> None:
    """Move all weights, as a training step does: in place."""
    for parameter in network.trainable_params():
        noise = random.standard_normal(parameter.shape, dtype=np.float32)
        ms.ops.assign(parameter, ms.Tensor(parameter.asnumpy() + 0.1 * noise))


def test_the_average_follows_its_formula(G: nn.Cell) -> None:
    average = Average(G, build_network(SPEC), decay=DECAY)
    expected = {name: array.astype(np.float64) for name, array in arrays(G).items()}
    random = np.random.default_rng(0)
    for step in range(1, 5 * EVERY + 1):
        disturb(G, random)
        average.follow(step)
        if step % EVERY == 0:
            for name, current in arrays(G).items():
                expected[name] += (1 - DECAY**EVERY) * (current - expected[name])
    for name, array in arrays(average.network).items():
        if ".moving_" not in name:
            np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_following_at_every_step_would_hardly_differ(G: nn.Cell) -> None:
    """On weights that drift, moving every 8th step stays within a hundredth of the way that a step-by-step one goes."""
    average = Average(G, build_network(SPEC), decay=DECAY)
    start = arrays(G)
    each_step = {name: array.astype(np.float64) for name, array in start.items()}
    for step in range(1, 50 * EVERY + 1):
        for parameter in G.trainable_params():
            ms.ops.assign(parameter, parameter + 1e-3)
        average.follow(step)
        for name, current in arrays(G).items():
            each_step[name] += (1 - DECAY) * (current - each_step[name])
    for name, array in arrays(average.network).items():
        if ".moving_" not in name and not np.array_equal(each_step[name], start[name]):
            way = np.abs(each_step[name] - start[name]).mean()
            assert np.abs(array - each_step[name]).mean() < 0.02 * way, name


def test_settling_gives_batch_norm_the_statistics_of_the_averaged_weights(G: nn.Cell) -> None:
    average = Average(G, build_network(SPEC), decay=DECAY)
    random = np.random.default_rng(1)
    for _ in range(3):
        disturb(G, random)
        average.follow(EVERY)
    z = ms.Tensor(random.standard_normal((500, 6), dtype=np.float32))
    average.settle(z)
    assert not average.network.training
    settled = average.network(z).asnumpy()
    # In training mode the network uses the batch's own statistics, which are those that were settled.
    by_batch = average.network.set_train(True)(z).asnumpy()
    np.testing.assert_allclose(settled, by_batch, atol=2e-3)
    average.settle(z)
    np.testing.assert_allclose(average.network(z).asnumpy(), settled, atol=1e-6)


def test_the_average_leaves_g_alone(G: nn.Cell) -> None:
    before = arrays(G)
    average = Average(G, build_network(SPEC), decay=DECAY)
    average.follow(EVERY)
    average.settle(ms.Tensor(np.zeros((4, 6), np.float32)))
    for name, array in arrays(G).items():
        np.testing.assert_array_equal(array, before[name])
