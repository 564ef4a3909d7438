"""The machine: what it is, and how busy others keep it."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from gan_mnist.rundir import now


def cores() -> set[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def busy_seconds() -> float | None:
    """CPU seconds spent so far on our cores by all processes (and by other guests of the host); None if unknown."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    ours = {f"cpu{core}" for core in cores()}
    ticks = 0
    for name, *fields in map(str.split, lines):
        if name in ours:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def facts() -> dict[str, Any]:
    """For the record."""
    return {
        "cpu": _cpu_model(),
        "cores": len(cores()),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in ("mindspore", "numpy", "torch", "jax", "jaxlib", "optax")},
        "environment": {
            key: value for key, value in sorted(os.environ.items()) if key.split("_")[0] in _SPEED_VARIABLES
        },
        "date": now(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


_SPEED_VARIABLES = ("MS", "OMP", "GOMP", "ONEDNN", "MKL", "XLA", "TORCH", "TORCHINDUCTOR", "JAX")


def _cpu_model() -> str:
    """The name, and the widest vectors it has: what decides the speed of a matrix product."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = about.get("flags", "").split()
    vectors = [
        label for flag, label in (("avx512f", "AVX-512"), ("amx_tile", "AMX"), ("avx2", "AVX2")) if flag in flags
    ]
    return " ".join([about.get("model name", platform.machine()), *(f"({label})" for label in vectors[:1])])


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
