"""The process environment that MindSpore and oneDNN read once, at import: set here, before MindSpore is imported.

Scripts call `prepare` first thing. Nothing here imports MindSpore.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

from gan_mnist import distributed, files

VERBOSE = "GAN_MNIST_VERBOSE"
"""Set to 1 to leave MindSpore's own messages on the console."""
CONVOLUTIONAL = frozenset({"dcgan", "biggan"})
"""Architectures with convolutions."""
TOGETHER = {
    # A collective operation on CPU fails when another worker is late by half a minute: one that draws, judges or saves.
    "MS_CPU_COMM_OP_TIMEOUT": "86400",
}
"""For one of several workers."""
HEAD = 4096
"""Bytes of a checkpoint in which the name of its architecture stands."""


def prepare(*, model: str | None = None, log_dir: Path | None = None) -> None:
    """Set the environment for MindSpore and send its noise away from the console.

    Args:
        model: the architecture of the networks, which decides the instruction set; None if there are none.
        log_dir: folder for MindSpore's logs and compile dumps; None for one that goes with the process.

    Raises:
        UserError: `log_dir` can't be made.
        RuntimeError: MindSpore is already imported, so that the settings would come too late.
    """
    if "mindspore" in sys.modules:
        raise RuntimeError("environment.prepare must run before mindspore is imported")
    chosen = settings(model) | (TOGETHER if distributed.is_launched() else {})
    for name, value in chosen.items():
        os.environ.setdefault(name, value)
    # With the cache on, MindSpore 2.10 starts a second run with NaN losses: never inherit it.
    os.environ["MS_COMPILER_CACHE_ENABLE"] = "0"
    # MindSpore imports it too, but with the number of OpenMP threads set to 1, which SciPy's BLAS would keep for good.
    importlib.import_module("scipy.linalg")
    if is_verbose():
        return
    if log_dir is None:
        log_dir = Path(tempfile.mkdtemp(prefix="gan_mnist-log-"))
        atexit.register(shutil.rmtree, log_dir, ignore_errors=True)
    with files.file_errors(log_dir):
        log_dir.mkdir(parents=True, exist_ok=True)
    os.environ["GLOG_v"] = "3"  # Errors only.
    os.environ["GLOG_logtostderr"] = "0"
    os.environ["GLOG_log_dir"] = str(log_dir)
    os.environ["MS_OM_PATH"] = str(log_dir)  # Dumps of a failed compilation, otherwise dropped in the current folder.
    logging.raiseExceptions = False  # Nor tracebacks of MindSpore's logger when the disk is full.
    _divert_native_stdout(log_dir / "mindspore.log")


def is_verbose() -> bool:
    """Whether the user wants MindSpore's own messages."""
    return os.environ.get(VERBOSE, "") not in ("", "0")


def settings(model: str | None = None) -> dict[str, str]:
    """Performance settings by environment variable for networks of an architecture; a user's own setting wins."""
    chosen = {
        # Without it the main thread busy-waits and costs one of two cores: 30-50 ms a step instead of 17.
        "MS_DEV_RUNTIME_CONF": "graph_pipeline:False",
        # Otherwise the compiler copies every weight that is read on both sides of an update, twice a step.
        "MS_DEV_SIDE_EFFECT_LOAD_ELIM": "3",
    }
    if model in CONVOLUTIONAL:
        # With AVX-512, MindSpore 2.10 finds no fast kernel for a convolution and takes oneDNN's reference loops: 40
        # times the time of a step. Dense networks want AVX-512, which their matrix products are twice as fast with.
        chosen["ONEDNN_MAX_CPU_ISA"] = "AVX2"
    return chosen


def model_of(checkpoint: Path) -> str | None:
    """The architecture of the network in one of our checkpoints, without MindSpore: `prepare` wants to know it.

    The description is the file's first entry. None where there is none; what is wrong with a file, its reader will say.
    """
    try:
        with checkpoint.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return None
    _, _, rest = head.partition('"network": {"model": "'.encode("utf-32-le"))
    name, quote, _ = rest[: len(rest) // 4 * 4].decode("utf-32-le", errors="replace").partition('"')
    return name if quote else None


def _divert_native_stdout(log: Path) -> None:
    """Keep Python's stdout on the console while file descriptor 1, which C++ prints to, leads to `log`."""
    sys.stdout.flush()
    encoding = sys.stdout.encoding
    console = os.dup(1)
    with open(log, "ab") as target:
        os.dup2(target.fileno(), 1)
    if sys.stdout is not sys.__stdout__:  # A notebook's own, which does not end in the descriptor.
        os.close(console)
        return
    sys.stdout = open(console, "w", encoding=encoding, errors="replace", buffering=1)  # noqa: SIM115
