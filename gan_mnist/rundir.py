"""The run directory: who may write it, its state in run.json, its metrics. Imports no MindSpore."""

from __future__ import annotations

import contextlib
import datetime
import glob
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import filelock

from gan_mnist import files
from gan_mnist.errors import UserError

Status = Literal["running", "interrupted", "finished", "failed"]

OWN_ENTRIES = (
    "config.yaml",
    "run.json",
    "metrics.jsonl",
    "checkpoints",
    "images",
    "loss_curve.png",
    "quality_curve.png",
    "training.gif",
    "report.html",
    "evaluation.json",
    "evaluation.png",
    "tensorboard",
)
"""What a run leaves; `--overwrite` removes these and nothing else. Not log/, which MindSpore writes to by then."""


class RunDir:
    """Paths and small files of one run; create it with `claim`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.checkpoints = path / "checkpoints"
        self.images = path / "images"
        self.tensorboard = path / "tensorboard"
        self.log = path / "log"
        self.metrics = path / "metrics.jsonl"
        self.record = path / "run.json"

    @property
    def holds_run(self) -> bool:
        """Whether a run has begun here."""
        return self.config.exists() or self.metrics.exists()

    def require(self, *, resume: bool, overwrite: bool) -> None:
        """Make sure that there is a run to go on with, or none that would be lost.

        Raises:
            UserError: otherwise.
        """
        if resume and not self.holds_run:
            raise UserError(f"--resume: {self.path} holds no run; start it without --resume")
        if self.holds_run and not resume and not overwrite:
            raise UserError(
                f"{self.path}: holds a run already; --resume it, --overwrite it, or choose another --run-name"
            )

    @contextlib.contextmanager
    def claim(self, *, leads: bool = True) -> Iterator[None]:
        """Keep every other process out of this run while the block runs; the claim dies with its holder.

        Args:
            leads: False for one of several workers whose leader claims the run for all.

        Raises:
            UserError: another process trains here, or the folder can't be written.
        """
        if not leads:
            yield
            return
        with files.file_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.path / ".lock", timeout=0)
            try:
                lock.acquire()
            except filelock.Timeout:
                raise UserError(
                    f"{self.path}: another process is training here; wait for it, or choose another --run-name"
                ) from None
        try:
            yield
        finally:
            lock.release()

    def clear(self) -> None:
        """Remove what an earlier run left."""
        with files.file_errors(self.path):
            for name in OWN_ENTRIES:
                entry = self.path / name
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink(missing_ok=True)

    def read_record(self) -> dict[str, Any]:
        """The content of run.json; its status reads `interrupted` where it says `running` but no process is.

        Returns:
            An empty dictionary if there is no readable run.json.
        """
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(record, dict):
            return {}
        if record.get("status") == "running" and not self.is_claimed():
            record["status"] = "interrupted"
        return record

    def is_claimed(self) -> bool:
        """Whether a living process trains here."""
        if not (self.path / ".lock").exists():
            return False
        try:
            with filelock.FileLock(self.path / ".lock", timeout=0):
                return False
        except (filelock.Timeout, OSError):
            return True

    def write_record(self, status: Status, **entries: Any) -> None:
        """Merge entries into run.json, with a new status."""
        record = {**self.read_record(), **entries, "status": status, "updated": now()}
        files.write_json(self.record, record)

    def keep_metrics_before(self, epoch: int, step: int) -> None:
        """Drop the lines of metrics.jsonl from a position on, and a last line that a kill cut short."""
        kept = []
        if self.metrics.exists():
            for line in self.metrics.read_text(encoding="utf-8").splitlines(keepends=True):
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    if line.endswith("\n") and (entry["epoch"], entry["step"]) < (epoch, step):
                        kept.append(line)
        files.write_text(self.metrics, "".join(kept))

    def append_metrics(self, entry: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl; it is with the operating system when this returns."""
        with files.file_errors(self.metrics), open(self.metrics, "a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")


def now() -> str:
    """The time as ISO 8601, UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def find_checkpoint(name: str, *, result_dir: Path = Path("result")) -> Path:
    """The checkpoint file that `--ckpt` means: a path, or a bare name looked up in all runs.

    The newest of several wins; which one it is, is said on stderr.

    Raises:
        UserError: there is none.
    """
    path = Path(name)
    if path.exists() or path.name != name:
        return path
    found = sorted(result_dir.glob(f"*/checkpoints/{glob.escape(name)}"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise UserError(
            f"--ckpt {name}: no such file here or in {result_dir}/*/checkpoints/; give a path, or train first"
        )
    print(f"using {found[-1]}", file=sys.stderr)
    return found[-1]


def epoch_of(path: Path) -> int | None:
    """The E of Generator<E>.ckpt; None for another name."""
    match = re.fullmatch(r"Generator(\d+)", path.stem)
    return int(match[1]) if match else None


def partner_of(path: Path) -> Path:
    """Where the Discriminator<E>.ckpt of a Generator<E>.ckpt lies; the path itself if it has another name."""
    return path.with_name(path.name.replace("Generator", "Discriminator"))


def generators(run_dir: Path) -> dict[int, Path]:
    """The Generator<E>.ckpt of a run by their E, in order."""
    found = {epoch_of(path): path for path in RunDir(run_dir).checkpoints.glob("Generator*.ckpt")}
    return {epoch: found[epoch] for epoch in sorted(epoch for epoch in found if epoch is not None)}


def latest_generator(run_dir: Path) -> tuple[int, Path]:
    """The last saved epoch of a run, and its Generator<E>.ckpt.

    Raises:
        UserError: there is none.
    """
    if not (found := generators(run_dir)):
        raise UserError(f"{run_dir}: holds no checkpoints/Generator<E>.ckpt; name a run, such as result/mnist")
    return list(found.items())[-1]
