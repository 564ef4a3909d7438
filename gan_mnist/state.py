"""The state that exact resume needs: saved whole, verified when read, with the one before it as a reserve.

Latent codes and shuffling are pure functions of (seed, epoch, step), so a position stands for all randomness.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np

from gan_mnist import checkpoint, files
from gan_mnist.config import Config
from gan_mnist.data import Images
from gan_mnist.errors import UserError

NAME, PREVIOUS, NEXT = "TrainState.ckpt", "TrainState.previous.ckpt", "TrainState.next.ckpt"

FIXED = (
    "model",
    "loss.name",
    *("data.dataset", "data.image_size", "data.channels", "data.batch_size", "data.limit"),
    *("train.seed", "train.ema"),
    "sample",
)
"""Keys that a resumed run can't change: the rest of it would be another experiment under the same name."""


@dataclasses.dataclass
class Position:
    """How far a run has got: everything about it that is not a parameter."""

    epoch: int = 0
    step: int = 0
    """The next step of the epoch."""
    totals: list[float] = dataclasses.field(default_factory=lambda: [0.0] * 4)
    """Sums of the step's statistics over the epoch so far."""
    detour: int = 0
    """How often the run went back after a loss was not finite; changes the batches drawn from there on."""
    best: float | None = None
    """The highest Parzen log-likelihood so far, in nats (`checkpoint.keep: best`)."""
    best_epoch: int | None = None


def save(folder: Path, parameters: Iterable[ms.Parameter], position: Position, config: Config, data: list[int]) -> None:
    """Write the state, and keep the one before it; at every instant one of the two is complete.

    Args:
        folder: the run's checkpoints.
        parameters: all that training changes.
        position: how far the run has got.
        config: the resolved configuration.
        data: `fingerprint` of the training images.

    Raises:
        UserError: the disk is full or the folder can't be written; or a weight is not finite, and nothing is written.
    """
    description = {
        "position": dataclasses.asdict(position),
        "config": config.model_dump(mode="json"),
        "data": data,
    }
    checkpoint.save(folder / NEXT, parameters, description)
    with files.file_errors(folder / NAME):
        if (folder / NAME).exists():
            os.replace(folder / NAME, folder / PREVIOUS)
        os.replace(folder / NEXT, folder / NAME)


def load(folder: Path) -> tuple[checkpoint.Checkpoint, Path] | None:
    """Read the newest sound state; a damaged newer one is named on stderr.

    Returns:
        The state and its file, or None if nothing was saved yet.

    Raises:
        UserError: all states are damaged.
    """
    faults = []
    for path in (folder / NAME, folder / PREVIOUS):
        if path.exists():
            try:
                loaded = checkpoint.load(path)
                Position(**loaded.description["position"])
                Config.model_validate(loaded.description["config"])
            except UserError as error:
                faults.append(str(error))
            except (KeyError, TypeError, ValueError):
                faults.append(f"{path}: holds no training state")
            else:
                for fault in faults:
                    print(f"warning: {fault}; using the one before it", file=sys.stderr)
                return loaded, path
    if faults:
        raise UserError(f"--resume: {faults[0]}, and no other state is left; start anew with --overwrite")
    return None


def restore(
    state: checkpoint.Checkpoint, path: Path, parameters: Iterable[ms.Parameter], config: Config, data: list[int]
) -> tuple[Position, dict[str, Any]]:
    """Put a saved state into parameters that no step has used yet.

    Returns:
        The position to go on from, and what the configuration changes: key -> [old, new].

    Raises:
        UserError: the configuration or the data changes what must stay, or a parameter does not fit.
    """
    # Through Config, so that a key added since counts as its default.
    before = Config.model_validate(state.description["config"])
    changes = changed(before.model_dump(mode="json"), config.model_dump(mode="json"))
    for key, (old, new) in changes.items():
        if any(key == fixed or key.startswith(f"{fixed}.") for fixed in FIXED):
            raise UserError(
                f"--resume: `{key}` was {old!r} and is now {new!r}, which a resumed run cannot change; set it back, "
                "or start another run with --run-name"
            )
    if state.description["data"] != data:
        raise UserError("--resume: the training images are not those the run began with; put them back")
    checkpoint.assign({parameter.name: parameter for parameter in parameters}, state.arrays, path)
    return Position(**state.description["position"]), changes


def changed(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> dict[str, list[Any]]:
    """The dotted keys whose values differ: key -> [old, new]."""
    changes: dict[str, list[Any]] = {}
    for key in old.keys() | new.keys():
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changes |= changed(before, after, f"{prefix}{key}.")
        elif before != after:
            changes[prefix + key] = [before, after]
    return changes


def fingerprint(images: Images) -> list[int]:
    """Count and CRC-32 of a set of images: tells it from any other."""
    return [len(images.labels), zlib.crc32(np.ascontiguousarray(images.pixels).data, zlib.crc32(images.labels.data))]
