"""The floor: the large matrix products that a step can't do without, and nothing else.

For every Dense layer of G the output, the gradient of the weights and, but for the first layer, of the input; the same
for D, with real and fake images as one batch of 2 N; and, in G's update, D's outputs and input gradients for N fakes:
28 products for the course's networks. Products with a row of ones that stand for sums (biases, BatchNorm) don't count.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import problem
from benchmarks.problem import Contestant, Problem


class Product(NamedTuple):
    """One matrix product of two named operands."""

    a: str
    b: str
    transpose_a: bool = False
    transpose_b: bool = False


def products(task: Problem) -> tuple[dict[str, tuple[int, int]], list[Product]]:
    """The operands' shapes by name, and the products of a step in its order.

    Of layer 2 of D, `d2.w` is the weight (width out, width in), `d2.x` what comes in, `d2.dy` the output's gradient;
    `f2.x` and `f2.dy` are the same for the fakes of G's update.
    """
    _, count, _ = task.z.shape
    operands: dict[str, tuple[int, int]] = {}
    for name, rows, layers in (
        ("g", count, task.generator),
        ("d", 2 * count, task.discriminator),
        ("f", count, task.discriminator),
    ):
        for index, (weight, _) in enumerate(layers):
            width_out, width_in = weight.shape
            operands[f"{name}{index}.w"] = (width_out, width_in)
            operands[f"{name}{index}.x"] = (rows, width_in)
            operands[f"{name}{index}.dy"] = (rows, width_out)

    g, d = range(len(task.generator)), range(len(task.discriminator))
    steps = [_output(f"g{i}", f"g{i}") for i in g]
    steps += [_output(f"d{i}", f"d{i}") for i in d] + _backward("d", d)
    steps += [_output(f"f{i}", f"d{i}") for i in d] + [Product(f"f{i}.dy", f"d{i}.w") for i in reversed(d)]
    steps += _backward("g", g)
    used = {name for product in steps for name in (product.a, product.b)}
    return {name: shape for name, shape in operands.items() if name in used}, steps


def _output(x: str, weight: str) -> Product:
    return Product(f"{x}.x", f"{weight}.w", transpose_b=True)


def _backward(name: str, layers: range) -> list[Product]:
    made = []
    for index in reversed(layers):
        made.append(Product(f"{name}{index}.dy", f"{name}{index}.x", transpose_a=True))
        if index > 0:
            made.append(Product(f"{name}{index}.dy", f"{name}{index}.w"))
    return made


def gigaflop(operands: dict[str, tuple[int, int]], steps: list[Product]) -> float:
    """Multiplications and additions of the products, in 10^9."""
    total = 0
    for product in steps:
        columns = operands[product.b][0 if product.transpose_b else 1]
        total += 2 * math.prod(operands[product.a]) * columns
    return total / 1e9


def build(path: Path, *, threads: int) -> Contestant:
    """The products in MindSpore (oneDNN), as one compiled graph, with the environment of our step."""
    from gan_mnist import environment

    environment.prepare()
    import mindspore as ms
    from mindspore import ops

    ms.set_device("CPU")
    shapes, steps = products(problem.load(path))
    random = np.random.default_rng(0)
    operands = tuple(ms.Tensor(random.standard_normal(shape, dtype=np.float32)) for shape in shapes.values())
    places = list(shapes)
    indices = [(places.index(product.a), places.index(product.b)) for product in steps]
    multiply = [ops.MatMul(product.transpose_a, product.transpose_b) for product in steps]

    @ms.jit(jit_level="O1")
    def run(operands: Any) -> ms.Tensor:
        results = []
        for matmul, (a, b) in zip(multiply, indices):
            results.append(matmul(operands[a], operands[b]))
        return ops.depend(operands[0][:1, :1], results)  # Needs them all, copies none.

    last: list[Any] = [None]

    def step(index: int) -> None:
        last[0] = run(operands)

    def wait() -> None:
        last[0].asnumpy()

    return Contestant(step, wait, {"mindspore": ms.__version__})
