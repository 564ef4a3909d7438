"""Drawing from a trained generator: images, grids, walks between latent codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import mindspore as ms
import numpy as np
from mindspore import nn

from gan_mnist import charts, checkpoint, files, imaging, runtime
from gan_mnist.config import Device, Latent
from gan_mnist.errors import UserError
from gan_mnist.latents import fixed_labels, fixed_latents
from gan_mnist.models import NetworkSpec

BATCH = 1000
"""Latent codes that pass through G at once; bounds the memory for large counts."""

Mode = Literal["eval", "train"]
Forward = Callable[..., ms.Tensor]


def compiled(network: nn.Cell) -> Forward:
    """A network as a compiled function: a tenth of the time for the same few inputs again and again."""

    @ms.jit
    def forward(*inputs: ms.Tensor) -> ms.Tensor:
        return network(*inputs)

    return forward


def generate(
    G: nn.Cell,
    latents: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    mode: Mode = "eval",
    forward: Forward | None = None,
) -> np.ndarray:
    """Images from latent codes.

    Args:
        G: a generator.
        latents: (N, latent_size) float32.
        labels: (N,) int32, for a G that is told the class; None for all classes in turn.
        mode: `eval` normalises with BatchNorm's running statistics, so that an image depends on its own code alone;
            `train` with the statistics of the codes drawn together (up to 1,000 at a time), as in training.
        forward: `compiled(G)`, always used in the same mode; None to call G itself.

    Returns:
        uint8 (N, H, W), or (N, H, W, 3) for colour; of points, float32 (N, coordinates). G is left in the mode that it
        was in.
    """
    forward = forward or G
    if labels is None and getattr(G, "classes", None):
        labels = fixed_labels(len(latents), G.classes)
    codes = (latents,) if labels is None else (latents, labels)
    before = G.training
    G.set_train(mode == "train")
    batches = [
        _shown(forward(*[ms.Tensor(array[start : start + BATCH]) for array in codes]).asnumpy())
        for start in range(0, len(latents), BATCH)
    ]
    G.set_train(before)
    return np.concatenate(batches)


def _shown(x: np.ndarray) -> np.ndarray:
    """G's outputs (N, C, H, W) as pixels or points."""
    if x.shape[2:] == (1, 1):
        return x[:, :, 0, 0]
    images = imaging.to_uint8(x)
    return images[:, 0] if images.shape[1] == 1 else images.transpose(0, 2, 3, 1)


def walk(latents: np.ndarray, *, steps: int, latent: Latent = "normal") -> np.ndarray:
    """Go from latent code to latent code along great circles: slerp (Shoemake 1985; White 2016 for latent codes).

    Codes from N(0, 1) lie near a sphere, and a straight line would cut through its empty inside. The direction turns at
    constant speed, the length changes linearly. Uniform codes fill a cube, and the straight line stays in it.

    Args:
        latents: (K, latent_size), K >= 2.
        steps: points from each code to the next, the first included.
        latent: what the codes were drawn from.

    Returns:
        ((K-1)*steps + 1, latent_size) float32; it begins with the first code and ends with the last.
    """
    if latent != "normal":
        share = np.arange(steps)[:, None] / steps
        lines = [start + share * (end - start) for start, end in zip(latents[:-1], latents[1:])]
        return np.concatenate([*lines, latents[-1:]]).astype(np.float32)
    path = []
    for start, end in zip(latents[:-1].astype(np.float64), latents[1:].astype(np.float64)):
        length_start, length_end = np.linalg.norm(start), np.linalg.norm(end)
        direction_start, direction_end = start / length_start, end / length_end
        angle = np.arccos(np.clip(direction_start @ direction_end, -1, 1))
        for t in np.arange(steps) / steps:
            if np.sin(angle) < 1e-6:  # Parallel: there is nothing to turn.
                direction = direction_start
            else:
                direction = np.sin((1 - t) * angle) * direction_start + np.sin(t * angle) * direction_end
                direction /= np.sin(angle)
            path.append(direction * ((1 - t) * length_start + t * length_end))
    return np.array([*path, latents[-1]], dtype=np.float32)


class Sampler(NamedTuple):
    """A trained generator, and the files that can be made with it."""

    G: nn.Cell
    spec: NetworkSpec
    ckpt: Path
    mode: Mode
    classes: tuple[int, ...] = ()
    """What is asked of a G that is told the class, in turn; nothing for one that is not."""
    truncation: float | None = None

    @classmethod
    def open(
        cls,
        ckpt: Path,
        *,
        device: Device,
        mode: Mode,
        classes: Sequence[int] | None = None,
        truncation: float | None = None,
    ) -> Sampler:
        """Load a generator from a checkpoint.

        Args:
            ckpt: its path.
            device: where to compute.
            mode: see `generate`.
            classes: to draw, in turn, by a G that is told the class; None for all.
            truncation: of the latent codes (`fixed_latents`).

        Raises:
            UserError: the checkpoint or the device can't be used, or the generator knows no such classes or codes.
        """
        runtime.start(device, seed=0)
        G, spec = checkpoint.load_network(ckpt, "generator")
        known = getattr(G, "classes", 0)
        if classes is not None and not known:
            raise UserError(f"--classes: {ckpt} draws whatever it likes; only a conditional generator can be asked")
        for asked in classes or ():
            if asked >= known:
                raise UserError(f"--classes: {ckpt} knows the classes 0 to {known - 1}, and no {asked}")
        if truncation is not None and spec.latent != "normal":
            raise UserError(f"--truncation: the codes of {ckpt} are {spec.latent}, and only normal ones have tails")
        return cls(G, spec, ckpt, mode, tuple(range(known)) if classes is None else tuple(classes), truncation)

    def sample(self, count: int, *, seed: int = 2323) -> np.ndarray:
        """`count` images, as `generate` gives them: the first are the same for any count (in evaluation mode)."""
        return generate(self.G, self.latents(count, seed=seed), self.labels(count), mode=self.mode)

    def latents(self, count: int, *, seed: int) -> np.ndarray:
        """`count` latent codes as this generator expects them, (count, latent_size) float32."""
        return fixed_latents(count, self.spec.latent_size, seed, self.spec.latent, truncation=self.truncation)

    def labels(self, count: int, *, repeat: int = 1) -> np.ndarray | None:
        """The classes of `count` images, in turn, each `repeat` times; None for a G that is not told the class."""
        if not self.classes:
            return None
        return np.array(self.classes, np.int32)[np.arange(count) // repeat % len(self.classes)]

    def write_grid(
        self, rows: int, columns: int, *, seed: int, by_class: bool = False, out: Path | None = None
    ) -> Path:
        """Write a grid of images as PNG (or, if `out` ends in .npy, as an array); returns the file's path.

        Points, rows * columns of them, are drawn where they lie.

        Args:
            rows: of images.
            columns: of images.
            seed: of the latent codes.
            by_class: a row shows one class, and a column one latent code.
            out: where to.
        """
        out = out or self._default(f"seed{seed}_{rows}x{columns}.png")
        if by_class:
            codes = np.tile(self.latents(columns, seed=seed), (rows, 1))
            images = generate(self.G, codes, self.labels(rows * columns, repeat=columns), mode=self.mode)
        else:
            images = self.sample(rows * columns, seed=seed)
        if out.suffix == ".npy":
            _save_array(out, images)
        else:
            _require_suffix(out, ".png")
            imaging.write_png(out, self._picture(images, rows, columns))
        return out

    def _picture(self, images: np.ndarray, rows: int, columns: int) -> np.ndarray:
        if not self.spec.on_points:
            return imaging.grid(images, rows=rows, columns=columns)
        if images.shape[1] == 1:
            return charts.line(images[:, 0], charts.extent(images)[0])
        return charts.plane(images, charts.extent(images))

    def write_images(self, count: int, *, seed: int, out: Path | None = None) -> Path:
        """Write one array, as `generate` gives it, if `out` ends in .npy, else 00000.png, ... in the folder `out`."""
        out = out or self._default(f"seed{seed}_{count}.npy")
        if out.suffix and out.suffix != ".npy" and not out.is_dir():
            raise UserError(f"--out {out}: --count writes a .npy array or a folder of PNGs; for a sheet use --grid")
        if self.spec.on_points and out.suffix != ".npy":
            raise UserError(f"--out {out}: {self.ckpt} draws points, not pictures; name a .npy file")
        images = self.sample(count, seed=seed)
        if out.suffix == ".npy":
            _save_array(out, images)
        else:
            digits = max(5, len(str(count - 1)))
            for index, image in enumerate(images):
                imaging.write_png(out / f"{index:0{digits}d}.png", image)
        return out

    def write_walk(self, codes: int, *, steps: int, seed: int, out: Path | None = None) -> Path:
        """Write a walk through `codes` codes: a PNG strip (a row from each code to the next) and, beside it, a GIF."""
        if self.spec.on_points:
            raise UserError(f"--interpolate: {self.ckpt} draws points, not pictures; --grid 50x50 shows where they lie")
        if codes < 2:
            raise UserError("--interpolate needs at least 2 codes to walk between")
        out = out or self._default(f"seed{seed}_walk{codes}.png")
        _require_suffix(out, ".png")
        path = walk(self.latents(codes, seed=seed), steps=steps, latent=self.spec.latent)
        images = generate(self.G, path, self.labels(len(path), repeat=len(path)), mode=self.mode)
        # Each row begins at a code and ends at the next one, which begins the next row.
        rows = np.concatenate([images[row * steps : (row + 1) * steps + 1] for row in range(codes - 1)])
        imaging.write_png(out, imaging.grid(rows, rows=codes - 1, columns=steps + 1))
        frames = [imaging.grid(image[None], rows=1, columns=1, scale=6) for image in images]
        imaging.write_gif(out.with_suffix(".gif"), frames, seconds_a_frame=0.08, hold=1.0)
        return out

    def _default(self, name: str) -> Path:
        """Where files go without --out: the run's samples/, or beside a checkpoint that lies outside a run."""
        folder = self.ckpt.parent
        folder = folder.parent / "samples" if folder.name == "checkpoints" else folder
        return folder / f"{self.ckpt.stem}_{name}"


def _save_array(out: Path, images: np.ndarray) -> None:
    with files.atomic_path(out) as temporary:
        np.save(temporary, images)


def _require_suffix(out: Path, suffix: str) -> None:
    if out.suffix.lower() != suffix:
        raise UserError(f"--out {out}: a picture's name must end in {suffix}")
