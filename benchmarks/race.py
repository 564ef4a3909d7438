"""Contestants in processes of their own, timed in turns, so that a slow minute of the machine is slow for all."""

from __future__ import annotations

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import machine
from gan_mnist.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
OTHERS_LIMIT = 0.08
"""Share of our cores' time that other processes may take during a burst."""
TRIES = 3
"""Bursts that are tried for a quiet one."""
TOLERANCE = 1e-3
"""Relative difference of a Dense network's losses, float32 against float32 over the checked steps."""
LEAD_IN = 3
"""Steps before a burst that are not timed: they bring the contestant's data back into the caches."""


class Entry(NamedTuple):
    """A contestant, before it is started."""

    about: str
    build: str
    """`module:function` that makes a `problem.Contestant` of a problem's path and the arguments."""
    arguments: dict[str, Any] = {}
    trains: bool = True
    """False for the floors, which have no losses to check."""
    pace: int = 1
    """Its bursts have so many times fewer steps."""
    peer: bool = False
    """Needs no MindSpore, and may run in another Python."""
    tolerance: float = TOLERANCE
    """By how much of their value its first losses may differ from the reference's."""


class MissingLibraryError(Exception):
    """A contestant's library is not installed."""


class Worker:
    """A running contestant; see benchmarks/worker.py for what it understands."""

    def __init__(self, entry: Entry, problem: Path, *, python: str = sys.executable) -> None:
        """Start the process and wait for its first steps.

        Raises:
            MissingLibraryError: its library is not installed.
            UserError: it failed.
        """
        self.entry = entry
        self.errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (lives as long as the worker)
        module, function = entry.build.split(":")
        arguments = entry.arguments | {"path": str(problem), "threads": len(machine.cores())}
        start = time.perf_counter()
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", module, function, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        answer = self._answer()
        self.first_step_s = time.perf_counter() - start
        if "missing" in answer:
            self.stop()
            raise MissingLibraryError(answer["missing"])
        answer = self._answer()
        self.losses: list[list[float]] | None = answer["losses"]
        self.versions: dict[str, str] = answer["versions"]

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and wait for the answer."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def stop(self) -> None:
        """End the process."""
        assert self.process.stdin and self.process.stdout
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            self.errors.seek(0)
            said = self.errors.read().strip().splitlines() or ["it said nothing"]
            self.stop()
            raise UserError(f"{self.entry.about}: its process ended with status {status}: {said[-1]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Burst(NamedTuple):
    """A timed run of some steps."""

    ms: float
    """Per step."""
    cores: float
    """How many it kept busy."""
    others: float | None
    """Share of our cores' time that other processes took; None if unknown."""

    @property
    def quiet(self) -> bool:
        """Whether it can be trusted."""
        return self.others is None or self.others < OTHERS_LIMIT


@contextlib.contextmanager
def started(
    entries: dict[str, Entry], problem: Path, *, peers_python: str = sys.executable
) -> Iterator[tuple[dict[str, Worker], dict[str, str]]]:
    """Start contestants one after the other, the first of them the reference that writes the problem.

    Args:
        entries: by name.
        problem: path of the problem.
        peers_python: the interpreter of those that need no MindSpore.

    Yields:
        The workers, and the library that is missing for each of the others.

    Raises:
        UserError: a contestant does not compute what the first one computes.
    """
    workers: dict[str, Worker] = {}
    missing: dict[str, str] = {}
    try:
        for name, entry in entries.items():
            try:
                workers[name] = Worker(entry, problem, python=peers_python if entry.peer else sys.executable)
            except MissingLibraryError as error:
                missing[name] = str(error)
                continue
            if entry.trains:
                reference = next(iter(workers.values())).losses
                require_same_losses(name, workers[name].losses, reference, tolerance=entry.tolerance)
        yield workers, missing
    finally:
        for worker in workers.values():
            worker.stop()


def require_same_losses(
    name: str, losses: list[list[float]] | None, reference: list[list[float]] | None, *, tolerance: float = TOLERANCE
) -> None:
    """Compare loss_d and loss_g of the first steps from the same weights on the same batches.

    Raises:
        UserError: they differ, so it is not the same mathematics.
    """
    for step, (theirs, ours) in enumerate(zip(losses or [], reference or [], strict=True)):
        for which, value, expected in zip(("loss_d", "loss_g"), theirs, ours, strict=True):
            if not abs(value - expected) <= tolerance * abs(expected):
                raise UserError(
                    f"{name} is not the same step: {which} of step {step} is {value:.6f}, ours is {expected:.6f}; "
                    "there is no race between different mathematics"
                )


def largest_difference(losses: list[list[float]], reference: list[list[float]]) -> float:
    """The largest relative difference of the checked losses."""
    pairs = [pair for step in zip(losses, reference) for pair in zip(*step)]
    return max((abs(value - expected) / abs(expected) for value, expected in pairs), default=0.0)


def race(workers: dict[str, Worker], *, rounds: int, steps: int) -> list[dict[str, Burst]]:
    """Let every worker run a burst in every round, in a new order each time.

    Returns:
        Per round the burst of each worker.
    """
    order = random.Random(0)
    results = []
    for _ in range(rounds):
        names = list(workers)
        order.shuffle(names)
        results.append({name: quiet_burst(workers[name], steps) for name in names})
    return results


def quiet_burst(worker: Worker, steps: int) -> Burst:
    """A burst that other processes did not disturb, if a few tries bring one; otherwise the quietest."""
    bursts: list[Burst] = []
    while len(bursts) < TRIES:
        bursts.append(one_burst(worker, max(2, steps // worker.entry.pace)))
        if bursts[-1].quiet:
            return bursts[-1]
    return min(bursts, key=lambda burst: burst.others or 0.0)


def one_burst(worker: Worker, steps: int) -> Burst:
    """Time some steps, and what others do meanwhile."""
    worker.ask("steps", count=max(1, LEAD_IN // worker.entry.pace))
    before = machine.busy_seconds()
    answer = worker.ask("steps", count=steps)
    after = machine.busy_seconds()
    seconds = answer["seconds"]
    others = None
    if before is not None and after is not None:
        # The kernel counts in ticks of 10 ms: forgive one for each core.
        ticks = 0.01 * len(machine.cores())
        others = max(0.0, after - before - answer["cpu_seconds"] - ticks) / (seconds * len(machine.cores()))
    return Burst(1e3 * seconds / steps, answer["cpu_seconds"] / seconds, others)


class Spread(NamedTuple):
    """Order statistics of some values."""

    median: float
    least: float
    quartile_1: float
    quartile_3: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """At least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0], values[0])
        first, median, third = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, min(values), first, third)


def kept(rounds: list[dict[str, Burst]]) -> list[dict[str, Burst]]:
    """The rounds in which every burst was quiet; all of them if there is none."""
    return [bursts for bursts in rounds if all(burst.quiet for burst in bursts.values())] or rounds


def times(rounds: list[dict[str, Burst]], name: str) -> Spread:
    """A contestant's ms per step."""
    return Spread.of([bursts[name].ms for bursts in rounds])


def ratios(rounds: list[dict[str, Burst]], name: str, reference: str) -> Spread:
    """A contestant's time in units of the reference's, compared within each round."""
    return Spread.of([bursts[name].ms / bursts[reference].ms for bursts in rounds])
