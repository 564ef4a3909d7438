"""A contestant as a process: builds itself, takes a few checked steps, then does what it is told, line by line.

    python -m benchmarks.worker MODULE FUNCTION ARGUMENTS        (ARGUMENTS: keyword arguments as JSON)

It writes JSON lines. First `{"first_step": ...}` after one step, then `{"losses": ..., "versions": ...}`, or
`{"missing": MODULE}` if its library is not installed; from then on an answer to each line that it reads:

    {"do": "steps", "count": 20}  ->  {"seconds": ..., "cpu_seconds": ...}     20 steps and the wait for their end
    {"do": "memory"}              ->  {"peak_bytes": ...}
    {"do": NAME, ...}             ->  what the contestant's own command NAME returns
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from benchmarks.problem import Contestant

CHECKED_STEPS = 10
"""Their losses are compared among the contestants."""


def main() -> None:
    """Serve until the input ends."""
    module, function, arguments = sys.argv[1:]
    answers = _private_stdout()
    keywords = json.loads(arguments)
    try:
        build = getattr(importlib.import_module(module), function)
        contestant: Contestant = build(Path(keywords.pop("path")), **keywords)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("benchmarks"):
            raise
        _send(answers, {"missing": error.name})
        return
    losses = []
    for index in range(CHECKED_STEPS):
        contestant.step(index)
        losses.append(contestant.wait())
        if index == 0:
            _send(answers, {"first_step": True})
    _send(answers, {"losses": None if losses[0] is None else losses, "versions": contestant.versions})
    steps = CHECKED_STEPS
    for line in sys.stdin:
        command = json.loads(line)
        match command.pop("do"):
            case "steps":
                _send(answers, burst(contestant, command["count"], first=steps))
                steps += command["count"]
            case "memory":
                # In bytes on macOS, in KiB elsewhere.
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
                _send(answers, {"peak_bytes": peak})
            case name:
                _send(answers, contestant.extra[name](**command))


def burst(contestant: Contestant, count: int, *, first: int) -> dict[str, float]:
    """Time `count` steps from number `first` on, up to the end of the last one."""
    start, cpu_start = time.perf_counter(), time.process_time()
    for index in range(first, first + count):
        contestant.step(index)
    contestant.wait()
    return {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu_start}


def _private_stdout() -> TextIO:
    """The old stdout; what libraries print goes to stderr."""
    sys.stdout.flush()
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return stream


def _send(stream: TextIO, answer: dict[str, Any]) -> None:
    print(json.dumps(answer), file=stream, flush=True)


if __name__ == "__main__":
    main()
