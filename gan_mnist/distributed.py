"""Which of several processes this one is: what `msrun`, or `train.py --workers`, says in the environment.

    msrun --worker_num=4 --local_worker_num=4 --join=True scripts/train.py --config configs/mnist.yaml

starts the script five times: as four workers and as a scheduler, through which the workers find one another. Here is
what a process knows of its place before it imports MindSpore, and how it ends when the others have.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from gan_mnist.errors import UserError
from gan_mnist.interrupts import Interrupt

if TYPE_CHECKING:
    import numpy as np  # Its threads would begin before `interrupts.watch` has blocked the signals in all threads.

ROLE, RANK, COUNT, DEVICE = "MS_ROLE", "MS_NODE_ID", "MS_WORKER_NUM", "DEVICE_ID"
"""Names in the environment, documented for MindSpore's "dynamic cluster"."""
POLL = 0.2
"""Seconds between two looks at the other processes."""
GRACE = 20.0
"""Seconds that a worker has to save and leave after what started it is gone."""


class Worker(NamedTuple):
    """One of the processes that train together, or the only one."""

    rank: int = 0
    total: int = 1
    local_rank: int = 0
    """Among those of this machine: the number of its device."""

    @property
    def leads(self) -> bool:
        """Writes the files and speaks; the others compute."""
        return self.rank == 0

    @property
    def folder(self) -> str:
        """Of this worker's log, within the run's."""
        return "" if self.leads else f"worker_{self.rank}"

    def share(self, batch: np.ndarray, updates: int) -> np.ndarray:
        """This worker's part of what a step draws for all.

        Args:
            batch: (updates * B, ...): B rows for each of a step's updates, one after the other.
            updates: how many.

        Returns:
            (updates * B / total, ...): of each update's rows the same part.
        """
        if self.total == 1:
            return batch
        return batch.reshape(updates, self.total, -1, *batch.shape[1:])[:, self.rank].reshape(-1, *batch.shape[1:])


ALONE = Worker()


def is_scheduler() -> bool:
    """Whether this process only brings the workers together."""
    return os.environ.get(ROLE) == "MS_SCHED"


def is_launched() -> bool:
    """Whether this process is one of several."""
    return ROLE in os.environ


def worker_here() -> Worker:
    """This process's place among the workers.

    Raises:
        UserError: msrun left the ranks open.
    """
    if not is_launched():
        return ALONE
    rank = os.environ.get(RANK, "")
    if not rank.isdecimal():
        raise UserError("msrun left the workers' ranks open; give it --node_rank=0, 1, ... on each machine")
    return Worker(int(rank), int(os.environ[COUNT]), int(os.environ.get(DEVICE, "0")))


def follow_parent(interrupt: Interrupt) -> None:
    """Ask this worker to stop when the process that started it is gone, so that none is left behind.

    Alone, a process may outlive the shell that started it.

    Args:
        interrupt: receives SIGTERM then, as if it had come from outside.
    """
    if not is_launched():
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        if not interrupt:
            interrupt.receive(signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def leave(status: int) -> NoReturn:
    """End this process; after an error without MindSpore's own farewell, which waits for the other workers."""
    if is_launched() and status == 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
