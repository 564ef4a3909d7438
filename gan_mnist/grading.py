"""Looking over runs that were handed in: whole, as asked, true to their own files, and how good they are.

What a run says about itself is not believed where it can be checked: the last epoch's samples are drawn again from the
checkpoint, the checkpoints compared with the training state, and the quality measured afresh.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import imageio.v3 as imageio
import numpy as np

from gan_mnist import checkpoint, config, evaluation, files, imaging, page, report, rundir, runtime, sampling, state
from gan_mnist.config import Config, Device
from gan_mnist.errors import UserError
from gan_mnist.latents import fixed_latents
from gan_mnist.rundir import RunDir
from gan_mnist.toy_evaluation import PointJudge

FREE = ("name", "result_dir", "device", "data.folder", "pretrained")
"""Settings that need not be as asked: where things are."""
TOLERANCE = 2
"""Of 255, by which a pixel may differ that another kind of machine draws again."""
MEASURES = ("parzen", "fid", "classifier_score", "modes_covered", "high_quality", "wasserstein")
"""The measures that get a column."""
COLUMNS = ("run", "complete", "epochs", "as_asked", "checkpoints", "samples", *MEASURES, "remarks")


class Grade(NamedTuple):
    """A line of the table: `yes`, `no` or empty for each check, numbers, and remarks that say why."""

    cells: dict[str, str]

    def __str__(self) -> str:
        shown = [f"{name} {self.cells[name]}" for name in COLUMNS[1:-1] if self.cells[name]]
        return (
            f"{self.cells['run']}: " + ", ".join(shown) + (f"; {remarks}" if (remarks := self.cells["remarks"]) else "")
        )


def grade(folder: Path, *, asked: Config | None, device: Device, data: Path | None) -> Grade:
    """Look over one run.

    Args:
        folder: the run directory.
        asked: the settings that it should have; None to take its own.
        device: where to draw samples.
        data: MNIST's folder; None for the run's, or MNIST_Data.

    Returns:
        Its line; faults of the run are remarks in it.
    """
    cells = dict.fromkeys(COLUMNS, "") | {"run": str(folder)}
    remarks: list[str] = []

    def check(column: str, faults: list[str]) -> None:
        cells[column] = "no" if faults else "yes"
        remarks.extend(faults)

    try:
        own = config.load(RunDir(folder).config)
        check("as_asked", _deviations(own, asked) if asked else [])
        epochs, faults = _complete(folder, own if asked is None else asked)
        cells["epochs"] = str(epochs)
        check("complete", faults)
        epoch, path = rundir.latest_generator(folder)
        check("checkpoints", _strangers(folder, epoch, path))
        sampler = sampling.Sampler.open(path, device=device, mode="eval")
        if not sampler.spec.on_points:
            check("samples", _other_picture(folder, epoch, sampler, own))
        folder_of_data = data or (Path(own.data.folder) if own.data.folder else None)
        judge = _judge(own.data.dataset, None if folder_of_data is None else str(folder_of_data))
        if judge is not None:
            scores = judge.score(sampler.sample(judge.SAMPLES, seed=own.sample.seed))
            cells |= {name: f"{scores[name]:.4g}" for name in MEASURES if name in scores}
    except UserError as error:
        remarks.append(str(error))
    return Grade(cells | {"remarks": "; ".join(remarks)})


def grade_all(
    folders: Sequence[Path], out: Path, *, asked: Config | None, device: Device, data: Path | None = None
) -> None:
    """Look over many runs, print a line for each, and write a CSV file that spreadsheets open.

    Raises:
        UserError: the file can't be written.
    """
    runtime.start(device, seed=0)
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS)
    writer.writeheader()
    for folder in folders:
        line = grade(folder, asked=asked, device=device, data=data)
        print(line, flush=True)
        writer.writerow(line.cells)
    files.write_bytes(out, table.getvalue().encode("utf-8-sig"))  # With a mark, for spreadsheets to read Chinese.


def _deviations(own: Config, asked: Config) -> list[str]:
    """Where the settings are not those asked for."""
    wanted, found = (config.flatten(settings.model_dump(mode="json")) for settings in (asked, own))
    differing = page.differences([wanted, found])
    return [f"{key} is {got}, asked was {want}" for key, (want, got) in differing.items() if not key.startswith(FREE)]


def _complete(folder: Path, asked: Config) -> tuple[int, list[str]]:
    """The number of whole epochs, and what is missing."""
    run = RunDir(folder)
    whole = {line["epoch"] for line in report.read_metrics(folder) if "mean_loss_d" in line}
    wanted = range(asked.train.epochs)
    faults = []
    if (status := run.read_record().get("status")) != "finished":
        faults.append(f"its status is {status}")
    if missing := sorted(set(wanted) - whole):
        faults.append(f"metrics.jsonl lacks {len(missing)} of {len(wanted)} epochs, first {missing[0]}")
    pictures = [epoch for epoch in wanted if not (run.images / f"epoch_{epoch:04d}.png").is_file()]
    if pictures:
        faults.append(f"images/ lacks {len(pictures)} of {len(wanted)} epochs, first {pictures[0]}")
    return len(whole), faults


def _strangers(folder: Path, epoch: int, path: Path) -> list[str]:
    """Which of the last epoch's networks are not those of the training state, to the bit."""
    faults = []
    saved = state.load(RunDir(folder).checkpoints)
    if saved is None:
        return ["there is no TrainState.ckpt to compare the checkpoints with"]
    position = saved[0].description["position"]
    if (position["epoch"], position["step"]) != (epoch + 1, 0):
        return [f"TrainState.ckpt is of epoch {position['epoch']}, step {position['step']}, not of the end of {epoch}"]
    arrays = saved[0].arrays
    for network in (path, rundir.partner_of(path)):
        for name, array in checkpoint.load(network).arrays.items():
            trained = arrays.get(checkpoint.AVERAGED + name, arrays.get(name))
            if trained is None or not np.array_equal(trained, array):
                faults.append(f"{network.name} is not what the run's TrainState.ckpt holds (`{name}`)")
                break
    return faults


def _other_picture(folder: Path, epoch: int, sampler: sampling.Sampler, own: Config) -> list[str]:
    """Whether the last epoch's grid shows something else than what its checkpoint draws."""
    rows, columns = own.sample.rows, own.sample.columns
    codes = fixed_latents(rows * columns, own.model.latent_size, own.sample.seed, own.model.latent)
    drawn = imaging.grid(sampling.generate(sampler.G, codes, mode=own.sample.mode), rows=rows, columns=columns)
    picture = RunDir(folder).images / f"epoch_{epoch:04d}.png"
    try:
        shown = imageio.imread(picture)
    except (OSError, ValueError) as error:
        return [f"{picture.name} cannot be read ({error})"]
    if shown.shape != drawn.shape or np.abs(shown.astype(int) - drawn).max() > TOLERANCE:
        return [f"{picture.name} does not show what {sampler.ckpt.name} draws"]
    return []


@functools.cache
def _judge(dataset: str, folder: str | None) -> evaluation.Judge | PointJudge | None:
    """For these data; None where nothing can be measured."""
    if dataset in ("digits", "images"):
        return None
    return evaluation.judge(config.Data(dataset=dataset, folder=folder))  # type: ignore[arg-type]
