"""The course's way: PyNative mode, the library's layers, two forward passes of G, Python for every sample."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import nn, ops

from benchmarks import problem
from benchmarks.problem import Contestant, Layers, Problem


class Generator(nn.Cell):
    """z (N, latent size) -> images (N, 1, 28, 28)."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        layers = [nn.Dense(widths[0], widths[1]), nn.ReLU()]
        for width_in, width_out in zip(widths[1:-2], widths[2:-1]):
            layers += [nn.Dense(width_in, width_out), nn.BatchNorm1d(width_out, eps=1e-5, momentum=0.9), nn.ReLU()]
        self.model = nn.SequentialCell(*layers, nn.Dense(widths[-2], widths[-1]), nn.Tanh())

    def construct(self, z: ms.Tensor) -> ms.Tensor:
        """Images in [-1, 1]."""
        return self.model(z).reshape(-1, 1, 28, 28)


class Discriminator(nn.Cell):
    """Images (N, 1, 28, 28) -> probability (N, 1)."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        layers: list[nn.Cell] = []
        for width_in, width_out in zip(widths[:-2], widths[1:-1]):
            layers += [nn.Dense(width_in, width_out), nn.LeakyReLU(0.2)]
        self.model = nn.SequentialCell(*layers, nn.Dense(widths[-2], widths[-1]))

    def logits(self, image: ms.Tensor) -> ms.Tensor:
        """Before the sigmoid, (N, 1)."""
        return self.model(image.reshape(image.shape[0], -1))

    def construct(self, image: ms.Tensor) -> ms.Tensor:
        """Probability that each image is real."""
        return ops.sigmoid(self.logits(image))


def networks(task: Problem) -> tuple[nn.Cell, nn.Cell]:
    """G and D of the library's layers, in training mode, with the problem's weights."""
    made = []
    for role, network, layers in (
        ("generator", Generator, task.generator),
        ("discriminator", Discriminator, task.discriminator),
    ):
        cell = network([layers[0][0].shape[1], *(len(bias) for _, bias in layers)])
        cell.update_parameters_name(f"{role}.")
        assign(cell, layers)
        made.append(cell.set_train())
    return made[0], made[1]


def assign(network: nn.Cell, layers: Layers) -> None:
    """Set the Dense layers' weights; before the first step, since MindSpore's graphs would not notice later."""
    dense = [cell for _, cell in network.cells_and_names() if isinstance(cell, nn.Dense)]
    for cell, (weight, bias) in zip(dense, layers, strict=True):
        cell.weight.set_data(ms.Tensor(weight))
        cell.bias.set_data(ms.Tensor(bias))


class Samples:
    """Image by image, as the course's data set is."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[np.ndarray]:
        return (self.pixels[index],)


def build(path: Path, *, threads: int) -> Contestant:
    """The course's script with MindSpore's default settings, which use all cores."""
    ms.set_context(mode=ms.PYNATIVE_MODE, device_target="CPU")
    task = problem.load(path)
    G, D = networks(task)
    adam: dict[str, Any] = {"learning_rate": task.lr, "beta1": task.beta1, "beta2": task.beta2}
    optim_g, optim_d = nn.Adam(G.trainable_params(), **adam), nn.Adam(D.trainable_params(), **adam)
    optim_g.update_parameters_name("optim_g.")
    optim_d.update_parameters_name("optim_d.")
    bce = nn.BCELoss(reduction="mean")

    def discriminator_forward(x: ms.Tensor, z: ms.Tensor) -> ms.Tensor:
        real, fake = D(x), D(G(z))
        return bce(real, ops.ones_like(real)) + bce(fake, ops.zeros_like(fake))

    def generator_forward(z: ms.Tensor) -> ms.Tensor:
        fake = D(G(z))
        return bce(fake, ops.ones_like(fake))

    discriminator_grad = ms.value_and_grad(discriminator_forward, None, optim_d.parameters)
    generator_grad = ms.value_and_grad(generator_forward, None, optim_g.parameters)
    batches = [(ms.Tensor(x), ms.Tensor(z)) for x, z in zip(task.x, task.z)]
    last: list[Any] = [None]
    _, count, _, _, _ = task.x.shape
    latent_size = task.z.shape[-1]

    def train(x: ms.Tensor, z: ms.Tensor) -> None:
        loss_d, gradients = discriminator_grad(x, z)
        optim_d(gradients)
        loss_g, gradients = generator_grad(z)
        optim_g(gradients)
        last[0] = loss_d, loss_g

    def wait() -> tuple[float, float]:
        optim_g.parameters[-1].asnumpy()
        loss_d, loss_g = last[0]
        return float(loss_d.asnumpy()), float(loss_g.asnumpy())

    def normalise(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        latent = np.random.normal(size=latent_size).astype(np.float32)
        return (image.astype(np.float32)[None] - 127.5) / 127.5, latent

    def piped(steps: int) -> dict[str, float]:
        """Seconds a step, with the data from the per-sample pipeline; its first steps are not counted."""
        warm_up = 5
        pixels = np.resize((task.x * 127.5 + 127.5).astype(np.uint8), ((steps + warm_up) * count, 28, 28))
        samples = ds.GeneratorDataset(Samples(pixels), ["image"], shuffle=True)
        samples = samples.map(normalise, ["image"], ["image", "latent"]).project(["image", "latent"])
        start = 0.0
        for index, (x, z) in enumerate(samples.batch(count, drop_remainder=True).create_tuple_iterator(num_epochs=1)):
            if index == warm_up:
                wait()
                start = time.perf_counter()
            train(x, z)
        wait()
        return {"seconds": (time.perf_counter() - start) / steps}

    def step(index: int) -> None:
        train(*batches[index % len(batches)])

    return Contestant(step, wait, {"mindspore": ms.__version__}, {"piped": piped})
