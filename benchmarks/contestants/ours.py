"""gan_mnist's own train step, with its own networks or with the library's layers."""

from __future__ import annotations

import time
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import problem
from benchmarks.problem import Contestant, Layers, Problem
from gan_mnist import config, environment
from gan_mnist.data import DEFAULT_FOLDERS, Images, read_images

RECIPE = Path(__file__).resolve().parents[2] / "configs" / "mnist.yaml"
BATCHES = 16


def build(path: Path, *, overrides: list[str], library_layers: bool, threads: int) -> Contestant:
    """Our step as the trainer builds it; writes the problem to `path`, for the others.

    Args:
        path: of the problem.
        overrides: `section.key=value` words behind configs/mnist.yaml.
        library_layers: take the networks from `mindspore.nn`, and the problem as it lies there.
        threads: as many as there are cores, which is what MindSpore uses.
    """
    settings = config.load(RECIPE, [*overrides, "device=CPU"])
    environment.prepare(model=settings.model.name)
    import mindspore as ms

    from benchmarks.contestants import course
    from gan_mnist import runtime
    from gan_mnist.data import dataset
    from gan_mnist.game import build_game
    from gan_mnist.steps import make_optimizer

    runtime.start("CPU", seed=settings.train.seed)
    game = build_game(settings, (1, 28, 28), steps_per_epoch=1)
    if library_layers:
        task = problem.load(path)
        G, D = course.networks(task)
        optim_g = make_optimizer(G, settings.optim_g, rates=game.rates_g, prefix="library_optim_g.")
        optim_d = make_optimizer(D, settings.optim_d, rates=game.rates_d, prefix="library_optim_d.")
        game = game._replace(G=G, D=D, optim_g=optim_g, optim_d=optim_d)
    else:
        task = make_problem(settings, dense_layers(game.G), dense_layers(game.D))
        problem.save(task, path)
    train_step = game.train_step()
    y = ms.Tensor(np.zeros(len(task.x[0]), np.int32))
    batches = [(ms.Tensor(x), y, ms.Tensor(z)) for x, z in zip(task.x, task.z)]
    last: list[Any] = [None]
    some_weight = game.G.trainable_params()[-1]

    def step(index: int) -> None:
        last[0] = train_step(*batches[index % len(batches)])

    def wait() -> tuple[float, float]:
        some_weight.asnumpy()
        return float(last[0][0].asnumpy()), float(last[0][1].asnumpy())

    def data_pass() -> dict[str, float]:
        """Seconds of one pass over the training data without training."""
        made = dataset.build_dataset(
            training_images(),
            batch_size=settings.data.batch_size,
            model=settings.model,
            seed=settings.train.seed,
        )
        start = time.perf_counter()
        for _ in made.create_tuple_iterator(num_epochs=1, do_copy=False):
            pass
        return {"seconds": time.perf_counter() - start}

    return Contestant(step, wait, {"mindspore": ms.__version__}, {"data_pass": data_pass})


def dense_layers(network: Any) -> Layers:
    """Weights and biases of a network's Dense layers, in their order."""
    arrays = {parameter.name: parameter.asnumpy().copy() for parameter in network.get_parameters()}
    names = [name.removesuffix(".weight") for name in arrays if name.endswith(".weight")]
    return [(arrays[f"{name}.weight"], arrays[f"{name}.bias"]) for name in names]


def make_problem(settings: config.Config, generator: Layers, discriminator: Layers) -> Problem:
    """The initial weights with the first batches of the training images."""
    count = settings.data.batch_size
    images = training_images()
    x = images.inputs(np.arange(BATCHES * count) % len(images.labels)).reshape(BATCHES, count, *images.shape)
    random = np.random.default_rng(settings.train.seed)
    z = random.standard_normal((BATCHES, count, settings.model.latent_size), dtype=np.float32)
    adam = settings.optim_g
    if adam != settings.optim_d:
        raise ValueError("the contestants give both networks the same Adam")
    return Problem(generator, discriminator, x, z, adam.lr, adam.beta1, adam.beta2)


def training_images() -> Images:
    """MNIST where it is prepared, otherwise random pixels of its shape, always the same."""
    folder = Path(DEFAULT_FOLDERS["mnist"])
    if folder.joinpath("train").is_dir():
        return read_images(folder, "train")
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (60000, 28, 28), dtype=np.uint8)
    return Images(pixels, np.fromiter(cycle(range(10)), np.uint8, len(pixels)))
