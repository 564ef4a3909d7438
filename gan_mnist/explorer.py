"""Playing with a trained run: pictures of codes, between and beyond two of them, and D's opinion. Knows no web page."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mindspore import nn, ops

from gan_mnist import checkpoint, imaging, rundir, runtime, sampling, scoring
from gan_mnist.config import Device
from gan_mnist.errors import UserError
from gan_mnist.latents import fixed_labels, fixed_latents
from gan_mnist.models import NetworkSpec
from gan_mnist.sampling import Mode

BATCH = 16
"""Codes that pass through G at once, unless it is one alone: each other number would be compiled anew."""
DIRECTIONS = 8
"""Directions of the latent space that have a slider."""
PAIRS = 512
"""Mirrored pairs of codes by which the directions are found."""
STEPS = 100
"""From one end of `between` to the other."""


class Explorer:
    """The networks of a run, compiled once, into which the weights of any saved epoch are put.

    May be called from several threads; one at a time computes.

    Args:
        run_dir: a run directory.
        device: where to compute.

    Raises:
        UserError: the run has no saved generator, or its data are points.
    """

    def __init__(self, run_dir: Path, *, device: Device = "auto") -> None:
        self.run_dir = run_dir
        self.name = run_dir.absolute().name
        epoch, path = rundir.latest_generator(run_dir)
        runtime.start(device, seed=0)
        self._lock = threading.Lock()
        # One for each mode: a pass in training mode moves BatchNorm's running statistics.
        self._generators: dict[Mode, _Generator] = {
            "eval": _Generator(path, "eval"),
            "train": _Generator(path, "train"),
        }
        self._judge: tuple[Path, nn.Cell, NetworkSpec] | None = None
        self.spec = self._generators["eval"].spec
        self.classes: int = getattr(self._generators["eval"].network, "classes", 0)
        if self.spec.on_points:
            raise UserError(f"{run_dir}: its generator draws points, not pictures; its images/ show where they lie")
        self.directions = self._directions(epoch)
        """(DIRECTIONS, latent_size), orthonormal: along which the picture changes most, the strongest first."""
        for codes in (self.codes(1), self.codes(BATCH)):
            self.draw(codes, epoch=epoch)
        self.draw_together(self.codes(BATCH), epoch=epoch)

    @property
    def epochs(self) -> list[int]:
        """The saved epochs, in order; there may be more of them later, when the run is still training."""
        return list(rundir.generators(self.run_dir))

    @property
    def span(self) -> tuple[float, float]:
        """Between which numbers a coordinate of z lies: all but 1 in 16,000 of a normal one."""
        return {"normal": (-4.0, 4.0), "uniform": (-1.0, 1.0), "uniform01": (0.0, 1.0)}[self.spec.latent]

    def codes(self, count: int, *, seed: int = 2323, truncation: float | None = None) -> np.ndarray:
        """`count` latent codes (count, latent_size), those that sample.py draws with this seed."""
        return fixed_latents(count, self.spec.latent_size, seed, self.spec.latent, truncation=truncation)

    def coordinates(self, code: np.ndarray) -> np.ndarray:
        """Where a code (latent_size,) lies along the directions, (DIRECTIONS,)."""
        return self.directions @ code

    def moved(self, code: np.ndarray, coordinates: Sequence[float]) -> np.ndarray:
        """A code (latent_size,) moved to other coordinates along the directions; everything else in it stays."""
        change = np.asarray(coordinates, np.float32) - self.coordinates(code)
        return (code + change @ self.directions).astype(np.float32)

    def between(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The codes from one to another in STEPS equal steps, (STEPS + 1, latent_size); see `sampling.walk`."""
        return sampling.walk(np.stack([start, end]), steps=STEPS, latent=self.spec.latent)

    def analogy(self, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        """The code a - b + c (Radford et al. 2016, figure 7), brought back to where codes lie, (latent_size,).

        The sum of three normal codes is longer than almost every code that G has seen, and gets their mean length; one
        of uniform codes may leave their cube, and is clipped to it.
        """
        total = a - b + c
        if self.spec.latent != "normal":
            return np.clip(total, *self.span).astype(np.float32)
        length = np.mean([np.linalg.norm(code) for code in (a, b, c)])
        return (total * (length / max(np.linalg.norm(total), 1e-6))).astype(np.float32)

    def draw(self, codes: np.ndarray, *, epoch: int, label: int | None = None) -> np.ndarray:
        """Pictures in evaluation mode: each depends on its own code alone.

        Args:
            codes: (N, latent_size).
            epoch: a saved one.
            label: the class, for a G that is told it; None for all classes in turn.

        Returns:
            uint8 (N, H, W), or (N, H, W, 3) in colour.

        Raises:
            UserError: the epoch was not saved, or its file can't be read, or G knows no such class.
        """
        labels = self._labels(len(codes), label)
        images = []
        for start in range(0, len(codes), BATCH):
            part = slice(start, start + BATCH)
            images.append(self._pass("eval", epoch, codes[part], None if labels is None else labels[part]))
        return np.concatenate(images)

    def draw_together(self, codes: np.ndarray, *, epoch: int, label: int | None = None) -> np.ndarray:
        """BATCH pictures in training mode: BatchNorm takes the statistics of these codes; else as `draw`."""
        if len(codes) != BATCH:
            raise ValueError(f"{len(codes)} codes are not {BATCH}")
        return self._pass("train", epoch, codes, self._labels(len(codes), label))

    def score(self, image: np.ndarray, *, epoch: int, label: int | None = None) -> tuple[float, int | None]:
        """D's probability that a picture is real.

        Args:
            image: uint8 (H, W), or (H, W, 3), of the size of G's.
            epoch: whose D is asked.
            label: what it shows, for a D that is told the class; None for the class that D finds likeliest.

        Returns:
            The probability, and the class that it is for, if D is told one.

        Raises:
            UserError: that epoch's D was not saved, can't be read, or judges no single pictures.
        """
        path = rundir.partner_of(self._path(epoch))
        with self._lock:
            if self._judge is None or self._judge[0] != path:
                self._judge = (path, *checkpoint.load_network(path, "discriminator"))
            _, D, spec = self._judge
            if spec.pack > 1:
                raise UserError(f"{path.name} judges packs of {spec.pack} images at once, and no single ones")
            labels = self._labels(self.classes if label is None else 1, label)
            probabilities = scoring.score(D, np.stack([image] * (1 if labels is None else len(labels))), labels)
        best = int(probabilities.argmax())
        return float(probabilities[best]), None if labels is None else int(labels[best])

    def read(self, path: Path, *, invert: bool) -> np.ndarray:
        """A picture from a file as D is shown it, uint8 (H, W) or (H, W, 3).

        Args:
            path: a picture of any size and format.
            invert: swap light and dark: MNIST's digits are white on black, ink on paper is not.

        Raises:
            UserError: it can't be read as a picture.
        """
        channels, height, width = self.spec.image_shape
        image = imaging.read_image(path, size=(height, width), channels=channels)
        return 255 - image if invert else image

    def decode(self, content: bytes) -> np.ndarray:
        """A picture as `read` gives it, from the content of a file.

        Raises:
            UserError: it is no picture.
        """
        channels, height, width = self.spec.image_shape
        try:
            return imaging.decode_image(io.BytesIO(content), size=(height, width), channels=channels)
        except Exception as error:  # Pillow's decoders have exceptions of all kinds.
            raise UserError(f"what was drawn cannot be read as a picture ({error})") from error

    def _path(self, epoch: int) -> Path:
        known = rundir.generators(self.run_dir)
        if epoch not in known:
            raise UserError(f"epoch {epoch} was not saved in {self.run_dir}; there are {_spans(list(known))}")
        return known[epoch]

    def _labels(self, count: int, label: int | None) -> np.ndarray | None:
        if not self.classes:
            return None
        if label is None:
            return fixed_labels(count, self.classes)
        if not 0 <= label < self.classes:
            raise UserError(f"class {label}: the generator knows the classes 0 to {self.classes - 1}")
        return np.full(count, label, np.int32)

    def _pass(self, mode: Mode, epoch: int, codes: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """Pictures of at most BATCH codes, of which the last is repeated up to the number that is compiled."""
        filled = np.minimum(np.arange(1 if len(codes) == 1 else BATCH), len(codes) - 1)
        path = self._path(epoch)
        with self._lock:
            generator = self._generators[mode]
            generator.load(path)
            return generator.draw(codes[filled], None if labels is None else labels[filled])[: len(codes)]

    def _directions(self, epoch: int) -> np.ndarray:
        """The principal directions of G's best linear approximation.

        Over codes of independent coordinates with variance 1, that is x = E[x] + B^T z with B = E[z x^T]. Of
        B = U S V^T, the columns of U are orthonormal directions in the latent space, and S says how far the mean
        picture moves along each. Codes come as z and -z, which removes all that is even in z from the estimate.
        Rotating a cube leads out of it: for uniform codes, the directions are the coordinates that B is largest in.
        """
        codes = self.codes(PAIRS, seed=0)
        centre = sum(self.span) / 2
        away = codes - centre
        odd = (self._flat(codes, epoch) - self._flat(2 * centre - codes, epoch)) / 2
        linear = away.T @ odd / PAIRS  # (latent_size, pixels)
        count = min(DIRECTIONS, *linear.shape)
        if self.spec.latent == "normal":
            directions = np.linalg.svd(linear, full_matrices=False)[0][:, :count].T
        else:
            strongest = np.argsort(-np.linalg.norm(linear, axis=1))[:count]
            directions = np.eye(self.spec.latent_size)[strongest]
        return directions.astype(np.float32)

    def _flat(self, codes: np.ndarray, epoch: int) -> np.ndarray:
        return self.draw(codes, epoch=epoch).reshape(len(codes), -1) / np.float32(255)


class _Generator:
    """A generator in one mode, compiled, whose weights can be exchanged."""

    def __init__(self, path: Path, mode: Mode) -> None:
        self.mode: Mode = mode
        self.network, self.spec = checkpoint.load_network(path, "generator")
        self.forward = sampling.compiled(self.network)
        self.loaded = path

    def load(self, path: Path) -> None:
        """Take the weights of another checkpoint of the same run."""
        if path == self.loaded:
            return
        other, spec = checkpoint.load_network(path, "generator")
        if spec != self.spec:
            raise UserError(
                f"{path}: is of another architecture than {self.loaded.name} beside it; was it copied here?"
            )
        # `set_data` would not reach the compiled graph.
        for parameter, weights in zip(self.network.get_parameters(), other.get_parameters(), strict=True):
            ops.assign(parameter, weights)
        self.loaded = path

    def draw(self, codes: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        return sampling.generate(self.network, codes, labels, mode=self.mode, forward=self.forward)


def _spans(numbers: list[int]) -> str:
    """Whole numbers, in order, as 0-3, 7, 9-12."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], number]
        else:
            spans.append([number])
    return ", ".join("-".join(map(str, span)) for span in spans)
