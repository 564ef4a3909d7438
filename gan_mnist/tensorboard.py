"""TensorBoard's event files: scalars of every step, grids, weight histograms, hyper-parameters. Imports no MindSpore.

tensorboardX makes the records. They are written in this process, not by its `SummaryWriter`: that one's thread hides a
full disk and then blocks, and its `flush` may miss what is still queued, which a kill after the next saved state would
lose.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from gan_mnist import files
from gan_mnist.config import flatten

BINS = 64
"""Of a histogram of weights."""
_FRAME = 16
"""Bytes around each record: its length (8), a checksum of that (4), and after the record its own checksum (4)."""


class Board:
    """Writes what TensorBoard shows of a run; use it as a context.

    Args:
        folder: the run's tensorboard/.
        first_step: where the run begins or goes on, counted over all epochs.
        rates: tag -> the value of every step of the run, for scalars known in advance (learning rates).
        images_per_step: real images that a step takes.

    Raises:
        UserError: here and in all methods: the files can't be written.
    """

    def __init__(self, folder: Path, *, first_step: int, rates: Mapping[str, np.ndarray], images_per_step: int) -> None:
        self.folder = folder
        self.rates = rates
        self.images_per_step = images_per_step
        with files.file_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # Numbered, since two files of one second would bear the same name.
            self._writer = EventsWriter(str(folder / "events"), f".{len(_event_files(folder))}")
        # A TensorBoard that is watching forgets what it has read of later steps.
        self._add(first_step, session_log=SessionLog(status=SessionLog.START))

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with files.file_errors(self.folder):
            self._writer.close()

    def flush(self) -> None:
        """Put everything on the disk: before a state is saved that says it is there."""
        with files.file_errors(self.folder):
            self._writer.flush()

    def add_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Points of curves: tag -> value."""
        self._add(step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=scalars[tag]) for tag in scalars]))

    def add_steps(self, first_step: int, steps: Sequence[Mapping[str, float]], *, seconds: float) -> None:
        """The statistics of consecutive steps, which took so many seconds each."""
        for step, statistics in enumerate(steps, first_step):
            rates = {tag: float(values[step]) for tag, values in self.rates.items()}
            self.add_scalars(step, {**statistics, **rates, "images_per_s": self.images_per_step / seconds})

    def add_epoch(self, step: int, measures: Mapping[str, float], grid: Path) -> None:
        """What came out of an epoch, under its last step: name -> value, and the PNG of its samples."""
        self.add_scalars(step, {f"epoch/{name}": value for name, value in measures.items()})
        with Image.open(grid) as picture:
            size = {"width": picture.width, "height": picture.height, "colorspace": len(picture.getbands())}
        image = Summary.Image(encoded_image_string=grid.read_bytes(), **size)
        self._add(step, summary=Summary(value=[Summary.Value(tag="samples", image=image)]))

    def add_histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Distributions of the entries of arrays: tag -> finite array."""
        for tag, array in arrays.items():
            self._add(step, summary=summary.histogram(tag, array, BINS))

    def add_hyperparameters(self, step: int, config: Mapping[str, Any], measures: Mapping[str, float]) -> None:
        """What decided the run, beside what came out: a row of TensorBoard's table of runs.

        Args:
            step: the number of steps of the whole run, so that a run that goes on drops this row.
            config: the resolved configuration as nested plain values.
            measures: name -> value; shown as final/<name>.
        """
        final = {f"final/{name}": value for name, value in measures.items()}
        settings = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in flatten(config).items()
            if value is not None
        }
        for part in summary.hparams(settings, final):
            self._add(step, summary=part)
        self.add_scalars(step, final)

    def _add(self, step: int, **content: Summary | SessionLog) -> None:
        with files.file_errors(self.folder):
            self._writer.write_event(Event(wall_time=time.time(), step=step, **content))


def keep_before(folder: Path, step: int) -> None:
    """Drop from a run's event files what belongs to a step or later ones, and a last record that a kill cut short.

    A resumed run computes those steps again. TensorBoard alone would hide the older points, other readers would not.

    Raises:
        UserError: a file can't be rewritten.
    """
    for path in _event_files(folder):
        content = path.read_bytes()
        kept = b"".join(record for record in _records(content) if Event.FromString(record[12:-4]).step < step)
        if kept != content:
            files.write_bytes(path, kept)


def _event_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("events.out.tfevents.*"))


def _records(content: bytes) -> Iterator[bytes]:
    """The whole records of an event file, with their frames."""
    start = 0
    while start + _FRAME <= len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        end = start + _FRAME + length
        if end > len(content):
            return
        yield content[start:end]
        start = end
