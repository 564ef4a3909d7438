"""Several workers on one machine, started, watched and ended together: what `train.py --workers N` does.

It starts the processes that msrun would start, by the environment variables documented for MindSpore's "dynamic
cluster", and does what msrun leaves undone: a signal reaches the workers, who save; nothing is left behind; the exit
status is theirs, and one line says which of them failed. For several machines there is msrun.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import FrameType
from typing import IO, NamedTuple

from gan_mnist import distributed
from gan_mnist.interrupts import SIGNALS

POLL = 0.1
"""Seconds between two looks at the workers."""
GRACE = 15.0
"""Seconds that the others have to end after the first of them has stopped as it was asked to."""
LAST_WORDS = 5.0
"""Seconds that the leader has to say what is wrong after another worker has ended for the same reason, perhaps."""


class _Child(NamedTuple):
    process: subprocess.Popen[bytes]
    output: IO[bytes] | None
    """What it printed; None for the leader, who speaks to the console."""

    def last_words(self) -> str:
        """The last line that it printed, in brackets."""
        if self.output is None:
            return ""
        self.output.seek(0)
        lines = self.output.read().decode(errors="replace").split("\n")
        return next((f" ({line.strip()})" for line in reversed(lines) if line.strip()), "")


def launch(workers: int, command: Sequence[str]) -> int:
    """Run a Python script in several workers.

    Args:
        workers: how many.
        command: the script and its arguments.

    Returns:
        The exit status: the leader's, or 1 if another worker failed.
    """
    shared = {distributed.COUNT: str(workers), "MS_SCHED_HOST": "127.0.0.1", "MS_SCHED_PORT": str(_free_port())}
    shared |= {"MS_RETRY_INTERVAL_LOWER": "1", "MS_RETRY_INTERVAL_UPPER": "1"}  # Seconds; else they meet in 20, not 10.
    children: list[_Child] = []

    def forward(number: int, frame: FrameType | None) -> None:
        for child in children[:workers]:
            child.process.send_signal(number)

    with ExitStack() as stack:
        for number in SIGNALS:
            stack.callback(signal.signal, number, signal.signal(number, forward))
        stack.callback(_kill, children)
        for rank in [*range(workers), None]:  # The last one is the scheduler.
            role = {distributed.ROLE: "MS_SCHED" if rank is None else "MS_WORKER"}
            place = {distributed.RANK: str(rank or 0), distributed.DEVICE: str(rank or 0)}
            output = None if rank == 0 else stack.enter_context(tempfile.TemporaryFile())
            process = subprocess.Popen(  # noqa: S603 (our own script)
                [sys.executable, *command],
                env={**os.environ, **shared, **role, **place},
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches them through us, once.
            )
            if rank is not None and hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(process.pid, _cores(rank, workers))
            children.append(_Child(process, output))
        return _watch(children)


def _watch(children: list[_Child]) -> int:
    """Wait until all workers have ended, or one of them or the scheduler has failed; say which.

    Args:
        children: the workers, and last the scheduler.

    Returns:
        The exit status.
    """
    deadline = float("inf")
    culprit: int | None = None
    statuses: list[int | None] = [None] * len(children)
    while None in statuses[:-1] and time.monotonic() < deadline:
        time.sleep(POLL)
        statuses = [child.process.poll() for child in children]
        if culprit is None and any(statuses):
            culprit = next(index for index, status in enumerate(statuses) if status)
            first = statuses[culprit] or 0
            deadline = time.monotonic() + (GRACE if _has_stopped(first) else LAST_WORDS if first > 0 else 0)
    status = (0 if culprit is None else statuses[culprit]) or 0
    if not status or _has_stopped(status):
        return status
    if (statuses[0] or 0) > 0:  # The leader has said why.
        return statuses[0] or 0
    total, culprit = len(children) - 1, culprit or 0
    who = f"worker {culprit} of {total}" if culprit < total else "the scheduler"
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"failed with exit status {status}"
    print(
        f"error: {who} {how}{children[culprit].last_words()}; the others were ended; what was saved last is whole: "
        "go on with --resume",
        file=sys.stderr,
    )
    return 1


def _cores(rank: int, workers: int) -> list[int]:
    """A worker's share of the processor; MindSpore's waiting threads spin, and would take one another's time."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[rank * len(cores) // workers : (rank + 1) * len(cores) // workers] or [cores[rank % len(cores)]]


def _has_stopped(status: int | None) -> bool:
    """Whether a worker ended because Ctrl-C or SIGTERM asked it to."""
    return status in [128 + number for number in SIGNALS]


def _kill(children: list[_Child]) -> None:
    for child in children:
        child.process.kill()
    for child in children:
        child.process.wait()


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
