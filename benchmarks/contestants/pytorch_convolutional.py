"""PyTorch's step of the same DCGAN: eager, fused Adam, images laid out as PyTorch's default or channels last."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own name for it)

from benchmarks.contestants.convolutional import load
from benchmarks.contestants.pytorch import alternating
from benchmarks.problem import Contestant


def generator(latent_size: int, image_shape: list[int], options: dict[str, Any]) -> nn.Sequential:
    """As `gan_mnist.models.dcgan.Generator`."""
    channels, kernel = options["channels"], options["kernel"]
    colours, height, width = image_shape
    start = (channels[0], height // 2 ** len(channels), width // 2 ** len(channels))
    made: list[nn.Module] = [nn.Linear(latent_size, math.prod(start), bias=False), nn.Unflatten(1, start)]
    padding = (kernel - 1) // 2
    doubling = {"stride": 2, "padding": padding, "output_padding": 2 + 2 * padding - kernel}
    for width_in, width_out in zip(channels, channels[1:]):
        made += [nn.BatchNorm2d(width_in), nn.ReLU()]
        made += [nn.ConvTranspose2d(width_in, width_out, kernel, bias=False, **doubling)]
    made += [nn.BatchNorm2d(channels[-1]), nn.ReLU(), nn.ConvTranspose2d(channels[-1], colours, kernel, **doubling)]
    return nn.Sequential(*made, nn.Tanh())


def discriminator(image_shape: list[int], options: dict[str, Any]) -> nn.Sequential:
    """As `gan_mnist.models.dcgan.Discriminator`, without its sigmoid, which is in the loss."""
    channels, kernel = options["channels"], options["kernel"]
    made: list[nn.Module] = []
    for index, (width_in, width_out) in enumerate(zip([image_shape[0], *channels], channels)):
        norm = options["normalize"] and index > 0
        made += [nn.Conv2d(width_in, width_out, kernel, 2, (kernel - 1) // 2, bias=not norm)]
        made += [*([nn.BatchNorm2d(width_out)] if norm else []), nn.LeakyReLU(0.2)]
    layers = nn.Sequential(*made, nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(layers(torch.zeros(1, *image_shape)).shape[1], 1))


def start(network: nn.Sequential, weights: list[np.ndarray]) -> None:
    """Give its layers these weights, biases 0, and BatchNorms their usual beginning."""
    layers = [module for module in network if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
    with torch.no_grad():
        for layer, weight in zip(layers, weights, strict=True):
            layer.weight.copy_(torch.from_numpy(weight))
            if layer.bias is not None:
                layer.bias.zero_()
        for module in network:
            if isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()


def build(path: Path, *, channels_last: bool, threads: int) -> Contestant:
    """One forward pass of G; real and fake through D as one batch, unless its BatchNorm would mix them."""
    torch.set_num_threads(threads)
    task = load(path)
    options, count = task.options, task.x.shape[1]
    G = generator(task.z.shape[2], options["image_shape"], options["generator"])
    D = discriminator(options["image_shape"], options["discriminator"])
    start(G, task.generator)
    start(D, task.discriminator)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    G, D = G.to(memory_format=layout), D.to(memory_format=layout)
    batches = [(torch.from_numpy(x).to(memory_format=layout), torch.from_numpy(z)) for x, z in zip(task.x, task.z)]
    optim_g, optim_d = (
        torch.optim.Adam(network.parameters(), lr=adam["lr"], betas=(adam["beta1"], adam["beta2"]), fused=True)
        for network, adam in ((G, options["optim_g"]), (D, options["optim_d"]))
    )
    jointly = not options["discriminator"]["normalize"]
    real, ones, zeros = torch.full((count, 1), 1 - options["smoothing"]), torch.ones(count, 1), torch.zeros(count, 1)
    bce = F.binary_cross_entropy_with_logits

    def d_loss(x: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        real_logits, fake_logits = D(torch.cat([x, fake])).split(count) if jointly else (D(x), D(fake))
        return bce(real_logits, real) + bce(fake_logits, zeros)

    def g_loss(fake: torch.Tensor) -> torch.Tensor:
        return bce(D(fake), ones)

    return alternating(G, D, d_loss, g_loss, optim_d, optim_g, batches)
