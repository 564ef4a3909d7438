"""Whole epochs through the real trainer, watched from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.contestants.ours import training_images
from benchmarks.race import ROOT
from gan_mnist.data import DEFAULT_FOLDERS, idx
from gan_mnist.errors import UserError


class Training(NamedTuple):
    """What a run of scripts/train.py took."""

    first_step_s: float
    """From the start of the process to its first finished step."""
    steps_per_epoch: int
    epochs_s: list[float]
    """Each whole epoch: data, steps, log, grid, checkpoints and state; the first and the last are left out."""
    steps_s: list[float]
    """The part of each of these epochs before its grid and checkpoints."""
    peak_bytes: int
    """Largest resident set."""

    @property
    def saving(self) -> list[float]:
        """Share of each epoch that grid, checkpoints and state take."""
        return [1 - steps / whole for steps, whole in zip(self.steps_s, self.epochs_s)]


def train(overrides: list[str], *, epochs: int, folder: Path, meanwhile: Callable[[], None] | None = None) -> Training:
    """Run the real trainer on configs/mnist.yaml.

    Args:
        overrides: `section.key=value` words.
        epochs: at least 3, since the first warms up and the end of the last can't be seen.
        folder: for its results.
        meanwhile: called after the first step of every epoch, while the trainer stands still; its time is not counted.
    """
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "--config", str(ROOT / "configs" / "mnist.yaml")]
    command += [*overrides, f"train.epochs={epochs}", f"result_dir={folder}", "--overwrite", "--device", "CPU"]
    begins: dict[int, float] = {}
    resumes: dict[int, float] = {}
    with open(folder / "stderr", "w+", encoding="utf-8") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout
        for line in process.stdout:
            if match := re.match(r"Epoch:\[ *(\d+)/ *\d+\], step:\[ *0/", line):
                begins[int(match[1])] = time.perf_counter()
                if meanwhile:
                    process.send_signal(signal.SIGSTOP)
                    meanwhile()
                    process.send_signal(signal.SIGCONT)
                resumes[int(match[1])] = time.perf_counter()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        if process.returncode:
            errors.seek(0)
            raise UserError(f"the trainer ended with status {process.returncode}: {errors.read().strip()[-300:]}")
    metrics = [
        json.loads(line) for line in (folder / "mnist" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    steps = {entry["epoch"]: entry["epoch_s"] for entry in metrics if "epoch_s" in entry}
    watched = range(1, epochs - 1)
    return Training(
        first_step_s=begins[0] - start,
        steps_per_epoch=json.loads((folder / "mnist" / "run.json").read_text(encoding="utf-8"))["steps_per_epoch"],
        epochs_s=[begins[epoch + 1] - resumes[epoch] for epoch in watched],
        steps_s=[steps[epoch] - (resumes[epoch] - begins[epoch]) for epoch in watched],
        peak_bytes=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    )


def data_override(folder: Path) -> list[str]:
    """Where the trainer finds its images: MNIST if it is prepared, otherwise the random ones, written to `folder`."""
    if Path(DEFAULT_FOLDERS["mnist"], "train").is_dir():
        return []
    images = training_images()
    for split in ("train", "test"):
        for name, array in zip(idx.MNIST_NAMES[split], (images.pixels, images.labels)):
            idx.write_idx(folder / "data" / split / name, array)
    return [f"data.folder={folder / 'data'}"]
