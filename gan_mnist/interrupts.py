"""Ctrl-C and SIGTERM that wait for the step in flight, and for what must be saved. Imports no MindSpore.

MindSpore runs every compiled step under a C++ handler that turns Ctrl-C into SIGTERM, and dies of that without a word.
So both signals are blocked in all threads, and one of ours waits for them. Threads inherit what is blocked: this must
begin before MindSpore and NumPy, which start threads, are imported.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """True once a signal has asked the run to stop. A second one ends the process at once."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The signal that this process received."""
        self.agreed: int | None = None
        """The signal because of which all workers stop, whichever of them received it."""
        self.deferring = False

    def __bool__(self) -> bool:
        return self.number is not None

    @property
    def exit_status(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + (self.number or self.agreed or 0)

    def defer(self) -> None:
        """There is something to save from here on, so the first signal only asks; before, it ends the process."""
        self.deferring = True

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """Take note of a signal."""
        second = self.number is not None
        self.number = number
        if second or not self.deferring:
            os._exit(self.exit_status)


@contextlib.contextmanager
def watch() -> Iterator[Interrupt]:
    """Receive signals while the block runs; must begin before MindSpore and NumPy are imported."""
    interrupt = Interrupt()
    if not hasattr(signal, "pthread_sigmask"):  # Windows: handlers are all there is.
        for number in SIGNALS:
            signal.signal(number, interrupt.receive)
        yield interrupt
        return

    def wait() -> None:
        while True:
            interrupt.receive(signal.sigwait(SIGNALS))

    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    threading.Thread(target=wait, name="signals", daemon=True).start()
    try:
        yield interrupt
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
