"""The machine: device, seeds, and the record of what a run ran on."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import mindspore as ms

import gan_mnist
from gan_mnist import environment
from gan_mnist.config import Device
from gan_mnist.errors import UserError

DEVICES = ("Ascend", "GPU", "CPU")
"""Best first."""
COMPUTING = ("ActorThread_", "KernelThread_")
"""What the names of MindSpore's computing threads begin with."""
THREADS = Path("/proc/self/task")
"""This process's threads, on Linux."""


def start(device: Device, *, seed: int) -> str:
    """Choose the device, seed MindSpore's initialisers, and run one operation on it, so that any trouble shows now.

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
        ms.set_device(chosen)
        ms.set_seed(seed)
        (ms.Tensor([1.0]) + 1).asnumpy()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"--device {chosen}: MindSpore cannot use it ({str(error).splitlines()[0]})") from error
    if chosen == "CPU":
        part_threads()
    return chosen


def part_threads() -> None:
    """Give each of MindSpore's two computing threads a core of its own where there are two (Linux).

    They share every matrix product, and wait for each other spinning. Left alone, the kernel at times runs both on one
    core, beside Python's thread: a step of the Dense GAN takes a tenth longer. With more cores there is room, and
    nothing to win; which thread takes which core depends on the process, so that two trainings don't ask for the same.
    """
    if not (hasattr(os, "sched_setaffinity") and THREADS.is_dir()):
        return
    cores = sorted(os.sched_getaffinity(0))
    computing = [int(thread.name) for thread in THREADS.iterdir() if _name(thread).startswith(COMPUTING)]
    if len(cores) == len(computing) == 2:
        for place, thread in enumerate(sorted(computing), os.getpid()):
            with contextlib.suppress(OSError):  # Ended meanwhile, or not allowed: as before, then.
                os.sched_setaffinity(thread, {cores[place % 2]})


def _name(thread: Path) -> str:
    try:
        return (thread / "comm").read_text().strip()
    except OSError:
        return ""


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
