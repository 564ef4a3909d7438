"""The machine: device, seeds, signals, and the record of what a run ran on."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import sys
from collections.abc import Iterator
from importlib import metadata
from types import FrameType
from typing import Any

import mindspore as ms

import gan_mnist
from gan_mnist.config import Device
from gan_mnist.errors import UserError

DEVICES = ("Ascend", "GPU", "CPU")
"""Best first."""


def start(device: Device, *, seed: int) -> str:
    """Choose the device, seed MindSpore's initialisers, and run one operation on it, so that any trouble shows now.

    Returns:
        The device in use.

    Raises:
        UserError: the asked device does not work here.
    """
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
    return chosen


def _available(device: str) -> bool:
    return device == "CPU" or bool(ms.hal.is_available(device))


class Interrupt:
    """Set by the first Ctrl-C or SIGTERM; the loop looks at it after every step."""

    signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def exit_status(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + (self.signal or 0)


@contextlib.contextmanager
def interrupts() -> Iterator[Interrupt]:
    """While the block runs, the first Ctrl-C or SIGTERM only sets a flag; a second one stops the process at once.

    MindSpore installs a handler of its own, in C++, that ends the process without a word; it does so with its first
    operation, so this must come after `start`.
    """
    interrupt = Interrupt()

    def handle(number: int, frame: FrameType | None) -> None:
        if interrupt:
            os._exit(interrupt.exit_status)
        interrupt.signal = number

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
