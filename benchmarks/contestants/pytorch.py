"""PyTorch: eager or compiled, Adam in its loop form or fused; and the step's matrix products alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own name for it)

from benchmarks import problem
from benchmarks.contestants.products import products
from benchmarks.problem import Contestant, Layers

VERSIONS = {"torch": torch.__version__}


def linear(weight: Any, bias: Any) -> nn.Linear:
    """A Linear layer with given weights."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    return layer


def generator(layers: Layers) -> nn.Sequential:
    """The bias before a BatchNorm, which subtracts it again, is left out, as PyTorch's users do."""
    made: list[nn.Module] = [linear(*layers[0]), nn.ReLU()]
    for weight, bias in layers[1:-1]:
        inner = linear(weight, bias)
        inner.bias = None
        made += [inner, nn.BatchNorm1d(len(bias)), nn.ReLU()]
    return nn.Sequential(*made, linear(*layers[-1]), nn.Tanh())


def discriminator(layers: Layers) -> nn.Sequential:
    """Without its sigmoid, which is in the loss."""
    made: list[nn.Module] = []
    for layer in layers[:-1]:
        made += [linear(*layer), nn.LeakyReLU(0.2)]
    return nn.Sequential(*made, linear(*layers[-1]))


def build(path: Path, *, compiled: bool, fused: bool, threads: int) -> Contestant:
    """One forward pass of G; real and fake go through D as one batch; no gradients of D's weights in G's update."""
    torch.set_num_threads(threads)
    task = problem.load(path)
    G, D = generator(task.generator), discriminator(task.discriminator)
    adam: dict[str, Any] = {"lr": task.lr, "betas": (task.beta1, task.beta2), "fused": fused}
    optim_g, optim_d = torch.optim.Adam(G.parameters(), **adam), torch.optim.Adam(D.parameters(), **adam)
    batches = [(torch.from_numpy(x), torch.from_numpy(z)) for x, z in zip(task.flat_x, task.z)]
    count = task.x.shape[1]
    ones, zeros = torch.ones(count, 1), torch.zeros(count, 1)

    def d_loss(x: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        real_logits, fake_logits = D(torch.cat([x, fake])).split(count)
        return F.binary_cross_entropy_with_logits(real_logits, ones) + F.binary_cross_entropy_with_logits(
            fake_logits, zeros
        )

    def g_loss(fake: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(D(fake), ones)

    draw: Any = G
    if compiled:
        draw, d_loss, g_loss = torch.compile(G), torch.compile(d_loss), torch.compile(g_loss)

    return alternating(draw, D, d_loss, g_loss, optim_d, optim_g, batches)


def alternating(
    draw: Callable[[torch.Tensor], torch.Tensor],
    D: nn.Module,
    d_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    g_loss: Callable[[torch.Tensor], torch.Tensor],
    optim_d: torch.optim.Optimizer,
    optim_g: torch.optim.Optimizer,
    batches: list[tuple[torch.Tensor, torch.Tensor]],
) -> Contestant:
    """D's update, then G's through the updated D, with one forward pass of G and no gradients of D's weights in G's."""
    last: list[Any] = [None]

    def step(index: int) -> None:
        x, z = batches[index % len(batches)]
        fake = draw(z)

        loss_d = d_loss(x, fake.detach())
        optim_d.zero_grad(set_to_none=True)
        loss_d.backward()
        optim_d.step()

        D.requires_grad_(False)
        loss_g = g_loss(fake)
        optim_g.zero_grad(set_to_none=True)
        loss_g.backward()
        optim_g.step()
        D.requires_grad_(True)
        last[0] = loss_d, loss_g

    def wait() -> tuple[float, float]:
        loss_d, loss_g = last[0]
        return loss_d.item(), loss_g.item()

    return Contestant(step, wait, VERSIONS)


def build_products(path: Path, *, threads: int) -> Contestant:
    """The products in PyTorch's library (MKL on x86-64), into memory that is allocated once."""
    torch.set_num_threads(threads)
    shapes, steps = products(problem.load(path))
    operands = {name: torch.randn(shape) for name, shape in shapes.items()}
    task = []
    for product in steps:
        a = operands[product.a].T if product.transpose_a else operands[product.a]
        b = operands[product.b].T if product.transpose_b else operands[product.b]
        task.append((a, b, a @ b))

    def step(index: int) -> None:
        for a, b, out in task:
            torch.mm(a, b, out=out)

    return Contestant(step, lambda: None, VERSIONS)
