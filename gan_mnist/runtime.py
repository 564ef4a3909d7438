"""The machine: device, seeds, and the record of what a run ran on."""

from __future__ import annotations

import logging
import os
import platform
import sys
from importlib import metadata
from typing import Any

import mindspore as ms
from mindspore import communication

import gan_mnist
from gan_mnist import environment
from gan_mnist.config import Device
from gan_mnist.distributed import ALONE, Worker, is_launched
from gan_mnist.errors import UserError

DEVICES = ("Ascend", "GPU", "CPU")
"""Best first."""


def start(device: Device, *, seed: int, worker: Worker = ALONE) -> str:
    """Choose the device, seed MindSpore's initialisers, and run one operation on it, so that any trouble shows now.

    Args:
        device: which.
        seed: of the initial weights.
        worker: decides which of several GPUs or Ascend cards; meets the other workers, if there are any.

    Returns:
        The device in use.

    Raises:
        UserError: the asked device does not work here.
    """
    if not environment.is_verbose():
        _quieten_logger()
    chosen = next(name for name in DEVICES if _available(name)) if device == "auto" else device
    if not _available(chosen):
        usable = ", ".join(name for name in DEVICES if _available(name))
        raise UserError(f"--device {chosen}: not available on this machine; use --device auto, or one of: {usable}")
    try:
        ms.set_device(chosen, worker.local_rank if is_launched() and chosen != "CPU" else None)
        if is_launched():
            communication.init()  # MCCL, NCCL or HCCL, by the device.
        ms.set_seed(seed)
        (ms.Tensor([1.0]) + 1).asnumpy()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"--device {chosen}: MindSpore cannot use it ({str(error).splitlines()[0]})") from error
    return chosen


def _quieten_logger() -> None:
    """Leave MindSpore's Python log to its file: it would show warnings on stderr too, whatever the environment says."""
    logger = logging.getLogger(f"ME.mindspore.log.{os.getpid()}")
    for handler in list(logger.handlers):
        if handler.name == "StreamHandler":
            logger.removeHandler(handler)


def _available(device: str) -> bool:
    return device == "CPU" or bool(ms.hal.is_available(device))


def record(device: str) -> dict[str, Any]:
    """What a run ran on, for run.json."""
    packages = ("mindspore", "numpy", "imageio", "matplotlib", "pillow", "pydantic")
    return {
        "gan_mnist": gan_mnist.__version__,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": device,
        "command": sys.argv,
        "environment": {key: os.environ[key] for key in sorted(os.environ) if key.startswith(("MS_", "ONEDNN_"))},
    }
