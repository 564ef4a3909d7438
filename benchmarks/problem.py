"""The problem that every contestant solves: the same initial weights, the same batches, the same Adam.

Plain arrays in an .npz file, so that a contestant needs no library but its own and NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Layers = list[tuple[np.ndarray, np.ndarray]]
"""Weight (width out, width in) and bias (width out,) of each Dense layer."""


class Problem(NamedTuple):
    """The Dense GAN of `configs/mnist.yaml` in its initial state, and batches to train it on."""

    generator: Layers
    """ReLU between the layers, BatchNorm (gamma 1, beta 0, eps 1e-5) before it from the second on, Tanh at the end."""
    discriminator: Layers
    """LeakyReLU(0.2) between the layers; the loss is the binary cross-entropy of the logits' sigmoid."""
    x: np.ndarray
    """Real images in [-1, 1], (batches, N, C, H, W) float32."""
    z: np.ndarray
    """Latent codes, (batches, N, latent size) float32."""
    lr: float
    beta1: float
    beta2: float

    @property
    def flat_x(self) -> np.ndarray:
        """Real images as rows, (batches, N, C*H*W)."""
        return self.x.reshape(*self.x.shape[:2], -1)


class Contestant(NamedTuple):
    """What a worker process measures."""

    step: Callable[[int], None]
    """Start training on batch `k` modulo their number; may return before the step is done."""
    wait: Callable[[], tuple[float, float] | None]
    """Wait until all is done, weights included; loss_d and loss_g of the last step, None where there are none."""
    versions: dict[str, str]
    extra: dict[str, Callable[..., dict[str, Any]]] = {}
    """Further commands, by name."""


def save(problem: Problem, path: Path) -> None:
    """Write the problem to an .npz file."""
    arrays = {"x": problem.x, "z": problem.z, "adam": np.array([problem.lr, problem.beta1, problem.beta2])}
    for name, layers in (("g", problem.generator), ("d", problem.discriminator)):
        for index, (weight, bias) in enumerate(layers):
            arrays |= {f"{name}{index}.weight": weight, f"{name}{index}.bias": bias}
    np.savez(path, **arrays)


def load(path: Path) -> Problem:
    """Read what `save` wrote."""
    with np.load(path) as file:
        arrays = dict(file)

    def layers(name: str) -> Layers:
        count = sum(key.startswith(name) and key.endswith(".weight") for key in arrays)
        return [(arrays[f"{name}{index}.weight"], arrays[f"{name}{index}.bias"]) for index in range(count)]

    return Problem(layers("g"), layers("d"), arrays["x"], arrays["z"], *arrays["adam"].tolist())
