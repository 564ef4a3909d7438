"""A convolutional recipe's own train step, and the problem that it sets: its initial weights, rates, and batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.problem import Contestant

RECIPES = Path(__file__).resolve().parents[2] / "configs"
BATCHES = 4


class Problem(NamedTuple):
    """A DCGAN in its initial state (biases 0, BatchNorms' gains 1), and batches to train it on."""

    options: dict[str, Any]
    """`image_shape`, `generator` and `discriminator` (as in `models.dcgan`), `optim_g`, `optim_d`, `smoothing`."""
    generator: list[np.ndarray]
    """Weights of its layers in their order, as MindSpore and PyTorch lay them out."""
    discriminator: list[np.ndarray]
    x: np.ndarray
    """Images in [-1, 1], (batches, N, C, H, W) float32."""
    z: np.ndarray
    """Latent codes, (batches, N, latent size) float32."""


def build(path: Path, *, recipe: str, threads: int) -> Contestant:
    """Our step as the trainer builds it, on random pixels; writes the problem to `path`, for the others.

    Args:
        path: of the problem.
        recipe: its file in configs/; of `model.name: dcgan`.
        threads: as many as there are cores, which is what MindSpore uses.
    """
    from gan_mnist import config, environment

    settings = config.load(RECIPES / recipe, ["device=CPU"])
    environment.prepare(model=settings.model.name)
    import mindspore as ms

    from gan_mnist import runtime
    from gan_mnist.game import build_game

    runtime.start("CPU", seed=settings.train.seed)
    data = settings.data
    image_shape = (1, 28, 28) if data.dataset == "mnist" else (data.channels, data.image_size, data.image_size)
    game = build_game(settings, image_shape, steps_per_epoch=1)
    random = np.random.default_rng(settings.train.seed)
    x = random.uniform(-1, 1, (BATCHES, data.batch_size, *image_shape)).astype(np.float32)
    z = random.standard_normal((BATCHES, data.batch_size, settings.model.latent_size), dtype=np.float32)
    options = {
        "image_shape": image_shape,
        "generator": game.spec_g.options,
        "discriminator": game.spec_d.options,
        "optim_g": settings.optim_g.model_dump(),
        "optim_d": settings.optim_d.model_dump(),
        "smoothing": settings.loss.smoothing,
    }
    save(Problem(options, weights(game.G), weights(game.D), x, z), path)
    train_step = game.train_step()
    y = ms.Tensor(np.zeros(data.batch_size, np.int32))
    batches = [(ms.Tensor(some_x), y, ms.Tensor(some_z)) for some_x, some_z in zip(x, z)]
    last: list[Any] = [None]
    some_weight = game.G.trainable_params()[-1]

    def step(index: int) -> None:
        last[0] = train_step(*batches[index % BATCHES])

    def wait() -> tuple[float, float]:
        some_weight.asnumpy()
        return float(last[0][0].asnumpy()), float(last[0][1].asnumpy())

    return Contestant(step, wait, {"mindspore": ms.__version__})


def weights(network: Any) -> list[np.ndarray]:
    """Of its Dense layers and convolutions, in their order."""
    return [parameter.asnumpy().copy() for parameter in network.get_parameters() if parameter.name.endswith(".weight")]


def save(problem: Problem, path: Path) -> None:
    """Write the problem to an .npz file."""
    arrays = {f"g{index}": weight for index, weight in enumerate(problem.generator)}
    arrays |= {f"d{index}": weight for index, weight in enumerate(problem.discriminator)}
    np.savez(path, options=json.dumps(problem.options), x=problem.x, z=problem.z, **arrays)


def load(path: Path) -> Problem:
    """Read what `save` wrote."""
    with np.load(path) as file:
        arrays = dict(file)
    G, D = ([arrays[f"{name}{index}"] for index in range(len(arrays)) if f"{name}{index}" in arrays] for name in "gd")
    return Problem(json.loads(str(arrays["options"])), G, D, arrays["x"], arrays["z"])
