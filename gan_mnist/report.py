"""From a run directory to loss curve, training film and page. Needs no device and no MindSpore.

Everything is made from the run's files, so it can be made again at any time (`scripts/report.py`).
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from gan_mnist import doctor, files, imaging, page, scoreboard
from gan_mnist.config import flatten
from gan_mnist.errors import UserError
from gan_mnist.rundir import RunDir

QUANTITIES = ("epoch", "step", "loss_d", "loss_g", "d_real", "d_fake")
"""What every line of metrics.jsonl holds, of that which is drawn."""
MOST_FRAMES = 200
"""A film of more epochs than this shows every second, third, ... one."""


def write(run_dir: Path) -> list[Path]:
    """Make a run's loss_curve.png, training.gif, report.html and, if its quality was measured, quality_curve.png.

    Returns:
        The files written.

    Raises:
        UserError: this is no run directory, nothing has been logged yet, or a file is damaged.
    """
    run = read_run(run_dir)
    metrics = run.metrics
    written = [run_dir / "loss_curve.png"]
    rest = page.equilibrium(run.settings)
    write_loss_curve(written[0], metrics, rest, steps_per_epoch=run.steps_per_epoch, title=run_dir.name)
    judged = [line for line in metrics if line.keys() & scoreboard.MEASURES.keys()]
    if judged:
        written.append(run_dir / "quality_curve.png")
        entries = [{"epoch": line["epoch"], "scores": _scores(line)} for line in judged]
        scoreboard.write_curve(written[-1], entries, title=run_dir.name)
    if run.grids:
        written.append(run_dir / "training.gif")
        write_film(written[-1], list(run.grids.values()))
    written.append(run_dir / "report.html")
    files.write_text(written[-1], page.render(run))
    return written


def compare(run_dirs: Sequence[Path], out: Path | None = None) -> Path:
    """Set runs side by side on a page.

    Args:
        run_dirs: two or more, up to the number of colours.
        out: the page; by default report_A_vs_B.html beside the first run.

    Returns:
        The page.

    Raises:
        UserError: one of them is no run directory or has a damaged file, or there are too many.
    """
    if len(run_dirs) > len(page.COLOURS):
        raise UserError(f"--run: {len(run_dirs)} runs are too many for one page; compare up to {len(page.COLOURS)}")
    runs = [read_run(run_dir) for run_dir in run_dirs]
    name = f"report_{'_vs_'.join(run.name for run in runs)}.html"
    out = out or run_dirs[0].resolve().parent / name
    files.write_text(out, page.render_comparison(runs))
    return out


def read_run(run_dir: Path) -> page.Run:
    """All that a run's files tell; those of an old or young run may be missing.

    Raises:
        UserError: it has no metrics, or a file is damaged.
    """
    metrics = read_metrics(run_dir)
    record = RunDir(run_dir).read_record()
    grids = sorted((run_dir / "images").glob("epoch_*.png"), key=_epoch_of)
    return page.Run(
        path=run_dir,
        metrics=metrics,
        steps_per_epoch=record.get("steps_per_epoch", max(line["step"] for line in metrics) + 1),
        record=record,
        settings=_read_settings(RunDir(run_dir).config),
        evaluations=scoreboard.read(run_dir / "evaluation.json"),
        grids={_epoch_of(grid): grid for grid in grids},
        walk=_newest(run_dir / "samples", "*walk*.png", since=record.get("started")),
        neighbours=_newest(run_dir / "images", "neighbours_*.png"),
        calibration=_newest(run_dir / "images", "calibration_*.png"),
        findings=_findings(run_dir),
    )


def _findings(run_dir: Path) -> list[doctor.Finding]:
    """What the doctor says; nothing of a run whose settings are an older version's."""
    try:
        return doctor.diagnose(run_dir)
    except UserError:
        return []


def _read_settings(path: Path) -> dict[str, Any]:
    """The settings as they were written, dotted: those of an older version too, which `config.load` might refuse."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read; put it back, or delete it, and make the report again") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no settings; put it back, or delete it, and make the report again")
    return flatten(values)


def _newest(folder: Path, pattern: str, *, since: str | None = None) -> Path | None:
    """The latest picture in a folder, made since the run began: samples/ may hold an earlier run's."""
    begun = datetime.datetime.fromisoformat(since).timestamp() if since else 0.0
    made = {path: path.stat().st_mtime for path in folder.glob(pattern)}
    return max((path for path in made if made[path] >= begun), key=lambda path: made[path], default=None)


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl.

    Raises:
        UserError: the file is missing, empty or damaged.
    """
    path = run_dir / "metrics.jsonl"
    if not path.is_file():
        raise UserError(f"{run_dir}: no run directory (it has no metrics.jsonl); name one, such as result/mnist")
    lines = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            break  # Being written right now, or cut short by a kill.
        try:
            entry = json.loads(line)
            lines.append({key: entry[key] for key in QUANTITIES} | entry)
        except (ValueError, KeyError, TypeError):  # UnicodeDecodeError is a ValueError.
            raise UserError(f"{path}: line {number} is damaged; delete it, or resume the run, which mends it") from None
    if not lines:
        raise UserError(f"{path}: nothing has been logged yet; train first")
    return lines


def write_loss_curve(
    path: Path, metrics: list[dict[str, Any]], rest: dict[str, float], *, steps_per_epoch: int, title: str
) -> None:
    """Draw both losses (epoch means over a light trace of the logged steps), and D(x) and D(G(z)) beneath.

    Args:
        path: of the picture.
        metrics: lines of metrics.jsonl.
        rest: the game's equilibrium (`page.equilibrium`), which the dotted lines mark.
        steps_per_epoch: of the run.
        title: of the picture.
    """
    from matplotlib.figure import Figure  # Imported here since it takes a second, and only plots need it.

    epochs = np.array([line["epoch"] + line["step"] / steps_per_epoch for line in metrics])
    means = [line for line in metrics if "mean_loss_d" in line]
    figure = Figure(figsize=(9, 7), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    panels = [
        (top, {"loss_d": ("D's loss", "tab:orange"), "loss_g": ("G's loss", "tab:blue")}),
        (bottom, {"d_real": ("D(x), real", "tab:orange"), "d_fake": ("D(G(z)), generated", "tab:blue")}),
    ]
    for axes, quantities in panels:
        for key, (label, colour) in quantities.items():
            axes.plot(epochs, [line[key] for line in metrics], color=colour, alpha=0.25, linewidth=0.6)
            middle = [line["epoch"] + 0.5 for line in means]
            axes.plot(middle, [line[f"mean_{key}"] for line in means], color=colour, label=label, marker=_marker(means))
            if key in rest:
                axes.axhline(rest[key], color=colour, linestyle=":", linewidth=1)
        axes.legend(loc="upper right")
        axes.grid(alpha=0.2)
    top.set_ylabel("loss (nats)" if rest else "loss")
    dotted = f"; dotted: equilibrium ({rest['loss_d']:.3f}, {rest['loss_g']:.3f})" if rest else ""
    top.set_title(f"{title}: epoch means over the logged steps{dotted}")
    shown = np.array([[line["loss_d"], line["loss_g"]] for line in metrics])
    low, high = np.percentile(shown, [0.5, 99.5])  # Some losses go below zero.
    top.set_ylim(1.1 * min(low, 0), 1.1 * max(high, *rest.values(), 0.1))
    bottom.set_ylabel("D's probability of real")
    bottom.set_ylim(0, 1)
    bottom.set_xlabel("epoch")
    bottom.set_xlim(0, max(epochs[-1], 1 / steps_per_epoch))
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def write_film(path: Path, grids: list[Path]) -> None:
    """Join the sample grids in their order into a GIF, each with its epoch number, the last one held."""
    stride = math.ceil(len(grids) / MOST_FRAMES)
    chosen = grids[::-stride][::-1]
    frames = []
    for grid in chosen:
        try:
            with Image.open(grid) as picture:
                frames.append(imaging.caption(np.asarray(picture), f"epoch {_epoch_of(grid)}"))
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(f"{grid}: cannot be read as a picture; delete it, and make the report again") from error
    imaging.write_gif(path, frames, seconds_a_frame=min(0.5, max(0.08, 12 / len(frames))))


def _scores(line: dict[str, Any]) -> dict[str, Any]:
    return {name: {"value": line[name]} for name in scoreboard.MEASURES if name in line}


def _epoch_of(grid: Path) -> int:
    match = re.search(r"epoch_(\d+)", grid.stem)
    return int(match[1]) if match else -1


def _marker(means: list[dict[str, Any]]) -> str | None:
    """Show single points where there are too few to make a line."""
    return "o" if len(means) < 15 else None
