"""Points and what D thinks of their surroundings, drawn: for toy data sets. Needs no MindSpore."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REAL, FAKE, JUDGE = "black", "tab:green", "tab:blue"
"""The colours of figure 1 of Goodfellow et al. 2014: data, generated, D."""
SIDE = 480
"""Pixels."""
BINS = 80
"""Of a histogram."""


def extent(points: np.ndarray, *, margin: float = 0.2) -> np.ndarray:
    """The box that holds all points, wider by `margin` of its size on each side: (coordinates, 2), lower and upper."""
    low, high = points.min(axis=0).astype(np.float64), points.max(axis=0).astype(np.float64)
    rim = margin * np.maximum(high - low, 1e-3)
    return np.stack([low - rim, high + rim], axis=1)


def plane(
    fake: np.ndarray, box: np.ndarray, *, real: np.ndarray | None = None, surface: np.ndarray | None = None
) -> np.ndarray:
    """Points in the plane over D's surface.

    Args:
        fake: generated points, (N, 2).
        box: what is shown, (2, 2) as `extent` returns it.
        real: points of the data set, (M, 2).
        surface: D(x) on a lattice over the box, (rows, columns), the lowest row first: red 0 for fake, blue 1 for real.

    Returns:
        uint8 (SIDE, SIDE, 3).
    """
    figure = _figure()
    axes = figure.add_axes((0.1, 0.07, 0.87, 0.88))
    if surface is not None:
        axes.imshow(
            surface,
            origin="lower",
            extent=tuple(box.ravel()),
            aspect="auto",
            interpolation="bilinear",
            cmap="RdBu",
            vmin=0,
            vmax=1,
            alpha=0.6,
        )
    for points, colour, label in ((real, REAL, "real"), (fake, FAKE, "generated")):
        if points is not None:
            axes.plot(points[:, 0], points[:, 1], ".", color=colour, markersize=2.5, label=label)
    axes.set_xlim(*box[0])
    axes.set_ylim(*box[1])
    axes.set_title("D(x): red 0, white 1/2, blue 1" if surface is not None else "", fontsize=8)
    axes.legend(loc="upper right", fontsize=8, markerscale=4)
    return _pixels(figure)


def line(
    fake: np.ndarray,
    box: np.ndarray,
    *,
    real: np.ndarray | None = None,
    judged: np.ndarray | None = None,
    walk: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Points on a line as figure 1 of Goodfellow et al. 2014: both densities, D(x), and beneath them how z becomes x.

    Args:
        fake: generated points, (N,).
        box: what is shown, (lower, upper).
        real: points of the data set, (M,).
        judged: D(x) at equidistant x from lower to upper.
        walk: latent codes in steady steps, (K,), and G's point for each, (K,).

    Returns:
        uint8 (SIDE, SIDE, 3).
    """
    figure = _figure()
    axes = figure.add_axes((0.1, 0.36, 0.87, 0.59) if walk else (0.1, 0.07, 0.87, 0.88))
    for points, colour, style, label in ((real, REAL, ":", "data"), (fake, FAKE, "-", "generated")):
        if points is not None:
            heights, edges = np.histogram(points, bins=BINS, range=tuple(box), density=False)
            density = heights / (len(points) * (edges[1] - edges[0]))  # Of all points, those outside included.
            axes.plot((edges[:-1] + edges[1:]) / 2, density, style, color=colour, label=f"density, {label}")
    if judged is not None:
        axes.plot(np.linspace(box[0], box[1], len(judged)), judged, "--", color=JUDGE, label="D(x)")
    axes.set_xlim(*box)
    axes.set_ylim(0, 1.4)
    axes.legend(loc="upper right", fontsize=8)
    if walk:
        z, x = walk
        share = (z - z.min()) / (z.max() - z.min())
        beneath = figure.add_axes((0.1, 0.07, 0.87, 0.22))
        beneath.plot(np.stack([box[0] + share * (box[1] - box[0]), x]), [[0], [1]], color=FAKE, linewidth=0.6)
        beneath.set_xlim(*box)
        beneath.set_ylim(0, 1)
        beneath.set_yticks([0, 1], ["z", "x"])
        beneath.set_xticks([])
    return _pixels(figure)


def _figure() -> Figure:
    from matplotlib.figure import Figure  # Imported here since it takes a second, and only plots need it.

    return Figure(figsize=(SIDE / 100, SIDE / 100), dpi=100)


def _pixels(figure: Figure) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba", dpi=figure.dpi)
    return np.frombuffer(buffer.getvalue(), np.uint8).reshape(SIDE, SIDE, 4)[..., :3]
