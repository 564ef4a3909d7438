"""Results of evaluations: what each number is called, evaluation.json, the table, the curve. Needs no MindSpore."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from gan_mnist import files
from gan_mnist.errors import UserError

Entry = dict[str, Any]
"""An evaluated checkpoint in evaluation.json; it has KEYS at least."""
KEYS = {"checkpoint", "epoch", "files", "protocol", "scores"}


class Measure(NamedTuple):
    """How a number is shown."""

    title: str
    group: str
    """What `--metrics` calls it, together with others computed at once."""
    better: Literal["higher", "lower", ""]
    decimals: int = 3
    published: str = ""


MEASURES: dict[str, Measure] = {
    "parzen": Measure("Parzen log-likelihood (nats)", "parzen", "higher", 1, "225 +- 2 [1]"),
    "parzen_sigma": Measure("  its window", "parzen", ""),
    "fid": Measure("Frechet distance", "fid", "lower", 2),
    "kid": Measure("Kernel distance", "kid", "lower", 3),
    "precision": Measure("Precision", "manifolds", "higher"),
    "recall": Measure("Recall", "manifolds", "higher"),
    "density": Measure("Density", "manifolds", "higher"),
    "coverage": Measure("Coverage", "manifolds", "higher"),
    "classifier_score": Measure("Classifier score (1 to 10)", "classes", "higher", 2),
    "digits_distance": Measure("Digit frequencies: total variation", "classes", "lower"),
    "modes": Measure("Digits covered, of 10", "classes", "higher", 0),
    "class_accuracy": Measure("Samples that show the asked digit", "classes", "higher"),
    "diversity": Measure("Mean pairwise distance, pixels", "diversity", "higher", 2),
    "diversity_features": Measure("  in features", "diversity", "higher", 2),
    "neighbour": Measure("Nearest training image, pixels: median", "memorisation", "", 2),
    "neighbour_1st": Measure("  1st percentile", "memorisation", "", 2),
    "neighbour_features": Measure("  in features: median", "memorisation", "", 2),
    "neighbour_features_1st": Measure("  1st percentile", "memorisation", "", 2),
    "d_accuracy_real": Measure("D: test images held for real", "discriminator", ""),
    "d_accuracy_fake": Measure("D: samples held for fake", "discriminator", ""),
    "modes_covered": Measure("Modes covered", "mixture", "higher", 0, "6.3 of 8, 17.3 of 25 [2]"),
    "high_quality": Measure("Share of high-quality samples", "mixture", "higher"),
    "modes_divergence": Measure("Mode frequencies: KL to uniform (nats)", "mixture", "lower"),
    "points_mean": Measure("Mean", "moments", ""),
    "points_std": Measure("Standard deviation", "moments", ""),
    "wasserstein": Measure("Wasserstein-1 distance", "moments", "lower"),
}
GROUPS = tuple(dict.fromkeys(measure.group for measure in MEASURES.values()))
"""The choices of `--metrics`."""
SOURCES = {
    "[1]": "adversarial nets in Goodfellow et al. 2014, table 1; there: deep GSN 214 +- 1.1, DBN 138 +- 2, stacked CAE "
    "121 +- 1.6",
    "[2]": "GAN on ring and grid in Lin et al. 2018 (PacGAN), of 2,500 samples; there: PacGAN4 7.8 and 24.8",
}
DRAWN = (
    ("parzen",),
    ("fid",),
    ("kid",),
    ("precision", "recall"),
    ("density", "coverage"),
    ("classifier_score",),
    ("digits_distance",),
    ("class_accuracy",),
    ("diversity",),
    ("d_accuracy_real", "d_accuracy_fake"),
    ("modes_covered",),
    ("high_quality",),
    ("modes_divergence",),
    ("points_mean",),
    ("points_std",),
    ("wasserstein",),
)
"""The panels of the curve."""
FEWEST_OBSERVED = 20
"""Images in a column of the histograms, for a share of real ones among them to be drawn."""


def read(path: Path) -> list[Entry]:
    """The entries of an evaluation.json; none where there is no such file.

    Raises:
        UserError: the file is damaged.
    """
    try:
        entries: list[Entry] = json.loads(path.read_text(encoding="utf-8"))["checkpoints"]
        for entry in entries:
            if not entry.keys() >= KEYS or entry["scores"].keys() - MEASURES:
                raise ValueError
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: damaged, or not written by evaluate.py; delete it, and evaluate again") from None
    return entries


def write(path: Path, entries: Sequence[Entry]) -> None:
    """Write evaluation.json, the entries in the order of their epochs."""
    ordered = sorted(entries, key=lambda entry: (-1 if entry["epoch"] is None else entry["epoch"], entry["checkpoint"]))
    cited = {name for entry in ordered for name in entry["scores"]}
    files.write_json(path, {"published": " ".join(sources(cited)), "checkpoints": ordered})


def table(entry: Entry) -> str:
    """The scores of a checkpoint, with those of real training images in their place and the published ones."""
    rows = [["", "score", "+-", "real images", "published"]]
    for name, score in entry["scores"].items():
        measure = MEASURES[name]
        numbers = [_number(score.get(key), measure.decimals) for key in ("value", "standard_error", "real")]
        rows.append([measure.title, *numbers, measure.published])
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, *sources(entry["scores"])])


def sources(names: Iterable[str]) -> list[str]:
    """Where the published numbers of some measures come from."""
    cited = " ".join(MEASURES[name].published for name in names)
    return [f"{mark} {source}" for mark, source in SOURCES.items() if mark in cited]


def summary(entry: Entry) -> str:
    """A few scores in one line."""
    scores = entry["scores"]
    shown = [name for name in ("parzen", "fid", "precision", "recall", "classifier_score") if name in scores]
    return ", ".join(f"{name} {_number(scores[name]['value'], MEASURES[name].decimals)}" for name in shown or scores)


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def write_curve(path: Path, entries: Sequence[Entry], *, title: str) -> None:
    """Draw the scores over the epochs, each with the level of real training images (dotted).

    Args:
        path: the picture.
        entries: in the order of their epochs, all of one protocol.
        title: of the picture.
    """
    from matplotlib.figure import Figure  # Imported here since it takes a second, and only plots need it.

    panels = [names for names in DRAWN if any(name in entry["scores"] for entry in entries for name in names)]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows + 0.4), layout="constrained")
    axes_of = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axes, names in zip(axes_of, panels):
        for name, colour in zip(names, ("tab:blue", "tab:orange")):
            shown = [entry for entry in entries if name in entry["scores"]]
            scores = [entry["scores"][name] for entry in shown]
            axes.errorbar(
                [entry["epoch"] for entry in shown],
                [score["value"] for score in scores],
                yerr=[score.get("standard_error") or 0 for score in scores],
                color=colour,
                label=MEASURES[name].title.strip(),
                marker="o" if len(shown) < 15 else None,
                markersize=4,
            )
            if scores and scores[-1].get("real") is not None:
                axes.axhline(scores[-1]["real"], color=colour, linestyle=":", linewidth=1.2)
        better = MEASURES[names[0]].better
        axes.set_title(" / ".join(MEASURES[name].title.strip() for name in names), fontsize=9)
        axes.set_ylabel(f"{better} is better" if better else "", fontsize=8)
        axes.grid(alpha=0.2)
        if len(names) > 1:
            axes.legend(fontsize=7)
        if names == ("fid",) or names == ("kid",):
            axes.set_yscale("symlog", linthresh=1)
    for axes in axes_of[len(panels) :]:
        axes.set_visible(False)
    for axes in axes_of[max(0, len(panels) - columns) : len(panels)]:
        axes.set_xlabel("epoch")
        axes.tick_params(labelbottom=True)
    compared = any(score.get("real") is not None for entry in entries for score in entry["scores"].values())
    dotted = "; dotted: real training images" if compared else ""
    figure.suptitle(f"{title}: quality by epoch{dotted}", fontsize=10)
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def write_calibration(path: Path, real: Sequence[int], fake: Sequence[int], *, title: str) -> None:
    """Draw how often D gives which probability, to test images and to samples.

    The best D knows p(x) = real / (real + fake) in each column (Goodfellow et al. 2014, proposition 1): the second
    panel compares what D says with it.
    """
    from matplotlib.figure import Figure

    edges = np.linspace(0, 1, len(real) + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    shares_real, shares_fake = (np.asarray(counts) / max(1, sum(counts)) for counts in (real, fake))
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    sides = ((shares_real, "D(x), test images", "tab:orange"), (shares_fake, "D(G(z)), samples", "tab:blue"))
    for shares, label, colour in sides:
        left.bar(middles, shares, width=1 / len(real), alpha=0.5, color=colour, label=label)
    left.set_xlabel("D's probability of real")
    left.set_ylabel("share of images")
    left.legend(fontsize=8)
    filled = np.add(real, fake) >= FEWEST_OBSERVED
    share = shares_real[filled] / (shares_real + shares_fake)[filled]
    right.plot([0, 1], [0, 1], color="grey", linestyle=":", label="calibrated")
    right.plot(middles[filled], share, color="tab:green", marker="o", markersize=4, label="observed")
    right.set_xlabel("D's probability of real")
    right.set_ylabel("share that is real")
    right.set_ylim(-0.03, 1.03)
    right.legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
