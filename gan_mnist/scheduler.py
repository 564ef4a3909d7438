"""The process through which the workers of a job find one another. It computes nothing, and ends with them.

MindSpore's scheduler notices a lost worker after half a minute, and msrun waits for that; and it never ends if msrun is
killed. So it looks itself whether the workers of this machine are still there: they are started by the same process.
"""

from __future__ import annotations

import os
import threading
import time

import psutil

from gan_mnist import distributed, environment

POLL = 0.2
"""Seconds between two looks."""
PATIENCE = 3.0
"""Seconds after the last worker's end in which MindSpore's scheduler ends by itself, if all is well."""


def run() -> int:
    """Bring the workers together, and stay until they have ended."""
    environment.prepare()
    threading.Thread(target=_attend, args=(psutil.Process(os.getppid()),), name="workers", daemon=True).start()
    from mindspore import communication

    communication.init()
    return 0


def _attend(parent: psutil.Process) -> None:
    """End this process soon after the last worker, and say which one ended first (msrun shows lines with ERROR)."""
    ranks: dict[psutil.Process, str] = {}
    alive: set[psutil.Process] = set()
    first: psutil.Process | None = None
    while alive or not ranks:
        time.sleep(POLL)
        for process in _children(parent):
            if process not in ranks and (rank := _rank(process)):
                ranks[process] = rank
        before, alive = alive, {process for process in ranks if _runs(process)}
        first = first or next(iter(before - alive), None)
        if not ranks and not parent.is_running():
            break
    time.sleep(PATIENCE)
    if first:
        print(f"ERROR: worker {ranks[first]} (process {first.pid}) was the first to end", flush=True)
    os._exit(1)


def _children(parent: psutil.Process) -> list[psutil.Process]:
    try:
        return parent.children()
    except psutil.Error:
        return []


def _rank(process: psutil.Process) -> str | None:
    """Of a worker; None for any other process."""
    try:
        variables = process.environ()
    except (psutil.Error, OSError):
        return None
    return variables.get(distributed.RANK) if variables.get(distributed.ROLE) == "MS_WORKER" else None


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
