"""How good is a generator: published measures of a checkpoint or of every epoch of a run, beside real images' own.

Everything is compared with MNIST's 10,000 test images, which no recipe trains on; what real images reach (the ceiling)
is measured on the first training images, as many as there are samples, in the samples' place. Toy data sets are judged
by their known distribution instead: `gan_mnist.toy_evaluation`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gan_mnist import checkpoint, config, files, imaging, runtime, scoreboard, scoring
from gan_mnist.data import DEFAULT_FOLDERS, Images, load_images, prepare, read_images
from gan_mnist.data.toys import TOYS
from gan_mnist.errors import UserError
from gan_mnist.metrics import Score, classes, distances, frechet, manifolds, parzen
from gan_mnist.metrics.classifier import WEIGHTS, Reader, Reading
from gan_mnist.rundir import RunDir, epoch_of, generators, partner_of
from gan_mnist.sampling import Mode, Sampler
from gan_mnist.scoreboard import MEASURES, Entry
from gan_mnist.toy_evaluation import PointJudge

PROTOCOL = 2
"""Counts up when a measure changes its meaning: older results are then computed again."""
SAMPLES = 10_000
FEWEST, MOST = 100, 50_000
"""Samples; beyond, the ceiling's images would be those that choose Parzen's window."""
VALIDATION = 1000
"""Images that choose Parzen's window: the first of the last 10,000 training images."""
BINS = 20
"""Of the histograms of D(x) and D(G(z))."""

Scores = dict[str, Score]
"""By the names of `scoreboard.MEASURES`."""


class Settings(NamedTuple):
    """What to measure, and how."""

    groups: Collection[str] = scoreboard.GROUPS
    samples: int | None = None
    """None for as many as the published numbers are of: 10,000 images, or 2,500 points."""
    seed: int = 2323
    mode: Mode = "eval"
    device: config.Device = "auto"
    data: Path | None = None
    """MNIST's folder; None for the run's, or MNIST_Data."""


class View(NamedTuple):
    """Images, and what the classifier sees in them."""

    images: np.ndarray
    """uint8 (N, 28, 28)."""
    reading: Reading
    labels: np.ndarray | None
    """(N,): what they show, or were asked to show; None if they were not asked."""

    @property
    def pixels(self) -> np.ndarray:
        """float32 (N, 784) in [0, 1]."""
        return _flat(self.images)


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 255


def _spread(array: np.ndarray, count: int) -> np.ndarray:
    """`count` entries from all over an array: MNIST's first 5,000 test images are by tidier writers than the rest."""
    return array[np.linspace(0, len(array), count, endpoint=False).astype(int)]


class Reference:
    """Real images: the test set to compare with, the training set to look for copies in, and their own scores.

    Args:
        folder: MNIST's; the scores of real images are kept there too, since they take half a minute.
        samples: how many images have their scores taken.

    Raises:
        UserError: MNIST is not there, and can't be downloaded.
    """

    def __init__(self, folder: Path, *, samples: int) -> None:
        prepare.ensure_mnist(folder)
        train, test = read_images(folder, "train"), read_images(folder, "test")
        self.reader = Reader()
        self.test = View(test.pixels, self.reader.read(test.pixels), test.labels)
        self.train_images, self.train_labels = train.pixels, train.labels
        self.validation = _flat(train.pixels[-10_000:][:VALIDATION])
        self.samples = samples
        digest = hashlib.sha256(train.pixels.tobytes() + test.pixels.tobytes())
        self.data = digest.hexdigest()[:16]
        self._cache = folder / "evaluation_ceiling.json"

    @functools.cached_property
    def train(self) -> View:
        """All training images."""
        return View(self.train_images, self.reader.read(self.train_images), self.train_labels)

    @functools.cached_property
    def first(self) -> View:
        """The first training images, as many as there are samples."""
        images = self.train_images[: self.samples]
        return View(images, self.reader.read(images), self.train_labels[: self.samples])

    @functools.cached_property
    def gaussian(self) -> frechet.Gaussian:
        """Of the test images' features."""
        return frechet.Gaussian.of(self.test.reading.features)

    def ceiling(self, group: str) -> Scores:
        """The scores of real images: of the first training images or, in the search for copies, of the test images."""
        key = f"{PROTOCOL} {self.data} {_classifier()} {self.samples} {group}"
        known: dict[str, Scores] = {}
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(self._cache.read_text(encoding="utf-8"))
        if key not in known:
            known[key] = COMPUTE[group](self.test if group == "memorisation" else self.first, self)
            with contextlib.suppress(UserError):  # A folder that can't be written is no reason to stop.
                files.write_json(self._cache, known)
        return {name: Score(*score) for name, score in known[key].items()}


def _parzen(view: View, reference: Reference) -> Scores:
    sigma = parzen.choose_sigma(reference.validation, view.pixels)
    score = parzen.score(reference.test.pixels, view.pixels, sigma=sigma)
    return {"parzen": score, "parzen_sigma": Score(sigma)}


def _fid(view: View, reference: Reference) -> Scores:
    return {"fid": Score(frechet.frechet_distance(frechet.Gaussian.of(view.reading.features), reference.gaussian))}


def _kid(view: View, reference: Reference) -> Scores:
    rng = np.random.default_rng(0)
    return {"kid": frechet.kernel_distance(view.reading.features, reference.test.reading.features, rng=rng)}


def _manifolds(view: View, reference: Reference) -> Scores:
    real, fake = reference.test.reading.features, view.reading.features
    count = min(len(real), len(fake))  # The papers' sets are of equal size.
    found = manifolds.compare(_spread(real, count), fake[:count])
    errors = {name: math.sqrt(p * (1 - p) / count) for name, p in found._asdict().items() if name != "density"}
    return {name: Score(value, errors.get(name)) for name, value in found._asdict().items()}


def _classes(view: View, reference: Reference) -> Scores:
    frequencies, real = (classes.histogram(v.reading.probabilities) for v in (view, reference.test))
    values = {
        "classifier_score": classes.classifier_score(view.reading.probabilities),
        "digits_distance": Score(classes.total_variation(frequencies, real)),
        "modes": Score(classes.modes_covered(frequencies, real)),
    }
    if view.labels is not None:
        right = view.reading.probabilities.argmax(axis=1) == view.labels
        values["class_accuracy"] = Score(float(right.mean()), float(right.std() / math.sqrt(len(right))))
    return values


def _diversity(view: View, reference: Reference) -> Scores:
    return {
        "diversity": Score(distances.mean_pairwise(view.pixels)),
        "diversity_features": Score(distances.mean_pairwise(view.reading.features)),
    }


def _memorisation(view: View, reference: Reference) -> Scores:
    values: Scores = {}
    spaces = {
        "neighbour": (view.pixels, reference.train.pixels),
        "neighbour_features": (view.reading.features, reference.train.reading.features),
    }
    for name, (points, train) in spaces.items():
        _, found = distances.nearest(points, train)
        values |= {name: Score(float(np.median(found))), f"{name}_1st": Score(float(np.percentile(found, 1)))}
    return values


COMPUTE: dict[str, Callable[[View, Reference], Scores]] = {
    "parzen": _parzen,
    "fid": _fid,
    "kid": _kid,
    "manifolds": _manifolds,
    "classes": _classes,
    "diversity": _diversity,
    "memorisation": _memorisation,
}
"""The groups of measures that images alone can tell."""


def evaluate_checkpoint(path: Path, settings: Settings) -> list[Path]:
    """Evaluate one generator and print its table; see `evaluate`."""
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file")
    folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    return evaluate([path], folder, settings)


def evaluate_run(folder: Path, settings: Settings) -> list[Path]:
    """Evaluate every saved generator of a run that has not been yet, draw the curve and print the last one's table.

    Raises:
        UserError: there is no generator in it; and as `evaluate`.
    """
    paths = list(generators(folder).values())
    if not paths:
        raise UserError(f"--run {folder}: holds no checkpoints/Generator<E>.ckpt; name a run, such as result/mnist")
    written = evaluate(paths, folder, settings)
    results = scoreboard.read(written[0])
    curve = [entry for entry in results if entry["epoch"] is not None and entry["protocol"] == results[-1]["protocol"]]
    scoreboard.write_curve(folder / "evaluation.png", curve, title=folder.resolve().name)
    return [*written, folder / "evaluation.png"]


def evaluate(paths: list[Path], folder: Path, settings: Settings) -> list[Path]:
    """Evaluate generators into `folder`/evaluation.json, which is written after each; print the last one's table.

    What is there already with the same settings, of the same files, is not computed again. Pictures are made of the
    last generator, if it was evaluated now: its samples' neighbours and, if its discriminator lies beside it, how well
    that is calibrated.

    Args:
        paths: generators' checkpoints.
        folder: a run directory, or that of the checkpoints.
        settings: what to measure, and how.

    Returns:
        The files written, evaluation.json first.

    Raises:
        UserError: a file, the data or the device can't be used, or the run is neither on MNIST nor on a toy.
    """
    if settings.samples is not None and not FEWEST <= settings.samples <= MOST:
        raise UserError(f"--samples {settings.samples}: between {FEWEST} and {MOST} are needed")
    run = RunDir(folder)
    data = config.load(run.config, []).data if run.config.is_file() else config.Data()
    if data.dataset in TOYS:
        return _evaluate_points(paths, folder, settings, data)
    return _evaluate_images(paths, folder, settings, _mnist_folder(run, data, settings))


def _evaluate_images(paths: list[Path], folder: Path, settings: Settings, data: Path) -> list[Path]:
    count = settings.samples or SAMPLES
    results = folder / "evaluation.json"
    entries = scoreboard.read(results)
    runtime.start(settings.device, seed=0)
    reference = Reference(data, samples=count)
    protocol = {
        "version": PROTOCOL,
        "samples": count,
        "seed": settings.seed,
        "mode": settings.mode,
        "data": reference.data,
        "classifier": _classifier(),
    }
    pictures: list[Path] = []
    for path in paths:
        partner = _partner(path)
        entry: Entry = {
            "checkpoint": path.name,
            "epoch": epoch_of(path),
            "files": {file.name: _sha256(file) for file in (path, partner) if file},
            "protocol": protocol,
            "scores": {},
        }
        old = next((e for e in entries if (e["checkpoint"], e["protocol"]) == (path.name, protocol)), None)
        if old and old["files"] == entry["files"]:
            entry = old
        done = {MEASURES[name].group for name in entry["scores"]}
        missing = [group for group in settings.groups if group not in done and (group in COMPUTE or partner)]
        if missing:
            samples, labels = _draw(path, settings, count)
            view = View(samples, reference.reader.read(samples), labels)
            if partner and "discriminator" in missing:
                _judge_discriminator(entry, partner, view, reference)
            _measure(entry, missing, view, reference)
            entries = [e for e in entries if e is not old] + [entry]
            scoreboard.write(results, entries)
            if path is paths[-1]:
                pictures = _pictures(entry, path, folder, view, reference)
        if len(paths) > 1:
            print(f"{path.name}: {scoreboard.summary(entry)}", flush=True)
    print(f"\n{paths[-1]}, {count:,} samples, seed {settings.seed}, G in {settings.mode} mode")
    print(scoreboard.table(entry))
    return [results, *pictures]


def evaluate_images(path: Path, settings: Settings) -> list[Path]:
    """Measure images that somebody else's program drew (or real ones), as those of our generators; print the table.

    Args:
        path: a .npy array of them, as `scoring.read_images` reads.
        settings: what to measure; `samples`, `seed` and `mode` play no part, as all the images are taken as they are.

    Returns:
        The files written beside it: the scores, and the neighbours of the first images.

    Raises:
        UserError: the file or the data can't be used, or there are too few or too many images.
    """
    images = scoring.read_images(path, shape=(1, 28, 28))
    if not FEWEST <= len(images) <= MOST:
        raise UserError(f"{path}: holds {len(images):,} images; between {FEWEST} and {MOST:,} are needed")
    groups = [group for group in settings.groups if group in COMPUTE]
    if not groups:
        raise UserError(f"--metrics {','.join(settings.groups)}: needs a checkpoint, and {path} holds images")
    runtime.start(settings.device, seed=0)
    reference = Reference(settings.data or Path(DEFAULT_FOLDERS["mnist"]), samples=len(images))
    protocol = {
        "version": PROTOCOL,
        "samples": len(images),
        "data": reference.data,
        "classifier": _classifier(),
    }
    entry: Entry = {"files": {path.name: _sha256(path)}, "protocol": protocol, "scores": {}}
    _measure(entry, groups, View(images, reference.reader.read(images), None), reference)
    written = [path.with_suffix(".evaluation.json"), path.with_suffix(".neighbours.png")]
    files.write_json(written[0], entry)
    imaging.write_png(written[1], neighbours_panel(images, reference.train_images))
    print(f"\n{path}, {len(images):,} images")
    print(scoreboard.table(entry))
    return written


def _measure(entry: Entry, groups: Collection[str], view: View, reference: Reference) -> None:
    """Enter what those groups say of images, the discriminator's aside, beside what they say of real ones."""
    entry["digits"] = {
        "samples": classes.histogram(view.reading.probabilities).tolist(),
        "real": classes.histogram(reference.test.reading.probabilities).tolist(),
    }
    for group in groups:
        if group in COMPUTE:
            _enter(entry, COMPUTE[group](view, reference), reference.ceiling(group))
    entry["scores"] = {name: entry["scores"][name] for name in MEASURES if name in entry["scores"]}


def _evaluate_points(paths: list[Path], folder: Path, settings: Settings, data: config.Data) -> list[Path]:
    """As `evaluate`, for a run on a toy data set; takes no time, so all of it is done anew."""
    judge = PointJudge(data.dataset)
    if judge.group not in settings.groups:
        asked = ",".join(settings.groups)
        raise UserError(f"--metrics {asked}: of {data.dataset}, only `{judge.group}` can be measured")
    if settings.data is not None:
        raise UserError(f"--data {settings.data}: {data.dataset} is drawn and not read; leave it out")
    count = settings.samples or judge.SAMPLES
    results = folder / "evaluation.json"
    entries = scoreboard.read(results)
    protocol = {
        "version": PROTOCOL,
        "samples": count,
        "seed": settings.seed,
        "mode": settings.mode,
        "data": data.dataset,
    }
    real = judge.measure(load_images(data.model_copy(update={"limit": count})).pixels)
    for path in paths:
        entry: Entry = {
            "checkpoint": path.name,
            "epoch": epoch_of(path),
            "files": {path.name: _sha256(path)},
            "protocol": protocol,
            "scores": {},
        }
        samples = Sampler.open(path, device=settings.device, mode=settings.mode).sample(count, seed=settings.seed)
        if samples.shape[1:] != judge.test.shape[1:]:
            raise UserError(f"{path}: draws {samples.shape[1:]}, but {data.dataset} has {judge.test.shape[1:]}")
        _enter(entry, judge.measure(samples), real)
        entries = [e for e in entries if (e["checkpoint"], e["protocol"]) != (path.name, protocol)] + [entry]
        if len(paths) > 1:
            print(f"{path.name}: {scoreboard.summary(entry)}", flush=True)
    scoreboard.write(results, entries)
    print(f"\n{paths[-1]}, {count:,} samples, seed {settings.seed}")
    print(scoreboard.table(entry))
    return [results]


def _mnist_folder(run: RunDir, data: config.Data, settings: Settings) -> Path:
    """Where MNIST is: as asked, as the run had it, or the usual place; other data is refused.

    The classifier knows MNIST only, and so do the published numbers: a Frechet distance of other digits would be a
    number without a meaning.
    """
    if data.dataset != "mnist":
        raise UserError(
            f"{run.config}: trained on data.dataset={data.dataset}, but the classifier and the published numbers are "
            "those of MNIST; evaluate a run on MNIST (configs/mnist.yaml)"
        )
    return settings.data or Path(data.folder or DEFAULT_FOLDERS["mnist"])


def _draw(path: Path, settings: Settings, count: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Samples, and what a conditional generator was asked for: all classes in turn."""
    sampler = Sampler.open(path, device=settings.device, mode=settings.mode)
    samples = sampler.sample(count, seed=settings.seed)
    if samples.shape[1:] != (28, 28):
        raise UserError(f"{path}: draws images of {samples.shape[1:]}, but MNIST's are (28, 28)")
    return samples, sampler.labels(count)


def _enter(entry: Entry, values: Scores, real: Scores) -> None:
    for name, score in values.items():
        entry["scores"][name] = {**score._asdict(), "real": real[name].value}


def _judge_discriminator(entry: Entry, path: Path, view: View, reference: Reference) -> None:
    """D's accuracy and the histograms of its probabilities, on test images and on samples (or on packs of them)."""
    D, spec = checkpoint.load_network(path, "discriminator")
    if spec.image_shape != (1, 28, 28):
        raise UserError(f"{path}: judges images of {spec.image_shape}, but MNIST's are (1, 28, 28)")
    probabilities = {
        name: scoring.score(
            D,
            seen.images[: len(seen.images) // spec.pack * spec.pack],
            seen.labels.astype(np.int32) if hasattr(D, "classes") and seen.labels is not None else None,
            pack=spec.pack,
        )
        for name, seen in (("real", reference.test), ("fake", view))
    }
    for name, right in (("real", probabilities["real"] > 0.5), ("fake", probabilities["fake"] <= 0.5)):
        error = float(right.std() / math.sqrt(len(right)))
        entry["scores"][f"d_accuracy_{name}"] = {"value": float(right.mean()), "standard_error": error, "real": None}
    entry["discriminator"] = {
        name: np.histogram(values, bins=BINS, range=(0, 1))[0].tolist() for name, values in probabilities.items()
    }


def _pictures(entry: Entry, path: Path, folder: Path, view: View, reference: Reference) -> list[Path]:
    place = folder / "images" if path.parent.name == "checkpoints" else folder
    name = path.stem if entry["epoch"] is None else entry["epoch"]
    written = [place / f"neighbours_{name}.png"]
    imaging.write_png(written[0], neighbours_panel(view.images, reference.train_images))
    if "discriminator" in entry:
        written.append(place / f"calibration_{name}.png")
        histograms = entry["discriminator"]
        title = f"{folder.resolve().name}, {path.stem}: what D says"
        scoreboard.write_calibration(written[1], histograms["real"], histograms["fake"], title=title)
    return written


def neighbours_panel(samples: np.ndarray, train: np.ndarray, *, rows: int = 5, columns: int = 5) -> np.ndarray:
    """Rows of samples and, framed in yellow, the training image nearest to the one beside it.

    As figure 2 of Goodfellow et al. 2014, "to demonstrate that the model has not memorized the training set".

    Args:
        samples: uint8 (N, 28, 28); the first rows*columns are shown.
        train: uint8 (M, 28, 28).
        rows: of the panel.
        columns: of samples.

    Returns:
        uint8 (height, width, 3).
    """
    shown = samples[: rows * columns].reshape(rows, columns, *samples.shape[1:])
    indices, _ = distances.nearest(_flat(shown[:, -1]), _flat(train))
    cells = np.concatenate([shown, train[indices][:, None]], axis=1)  # (rows, columns + 1, H, W)
    colour = cells[..., None].repeat(3, axis=-1)
    for edge in (np.s_[:, -1, [0, -1], :], np.s_[:, -1, :, [0, -1]]):
        colour[edge] = (255, 200, 0)
    return imaging.grid(colour.reshape(-1, *colour.shape[2:]), rows=rows, columns=columns + 1, scale=3)


def _partner(path: Path) -> Path | None:
    """The Discriminator<E>.ckpt beside a Generator<E>.ckpt."""
    partner = partner_of(path)
    return partner if partner != path and partner.is_file() else None


def _classifier() -> str:
    return _sha256(WEIGHTS)[:16]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Judge:
    """The light version, for curves during training: everything about the real images is computed once.

    Deterministic and without random numbers, so that training goes on as if nobody had looked. With 2,000 samples the
    Frechet distance is biased upwards, by about the trace of the covariances over the number of samples: compare it
    with others of as many samples only, and with `Judge.score` of 2,000 real images for the ceiling.

    Args:
        test: MNIST's test images.
        points: how many of them measure the log-likelihood.
    """

    SAMPLES = 2000
    """How many to draw."""
    SIGMA = 0.2
    """Fixed; about what the full protocol chooses."""

    def __init__(self, test: Images, *, points: int = 1000) -> None:
        self._reader = Reader()
        self._real = self._reader.read(test.pixels)
        self._gaussian = frechet.Gaussian.of(self._real.features)
        self._digits = classes.histogram(self._real.probabilities)
        self._points = _flat(_spread(test.pixels, min(points, len(test.pixels))))

    def score(self, samples: np.ndarray) -> dict[str, float]:
        """The scores of uint8 samples (N, 28, 28), N about 2,000, by the names of `scoreboard.MEASURES`."""
        reading, pixels = self._reader.read(samples), _flat(samples)
        digits = classes.histogram(reading.probabilities)
        real = _spread(self._real.features, min(len(samples), len(self._real.features)))
        return {
            "parzen": parzen.score(self._points, pixels, sigma=self.SIGMA).value,
            "fid": frechet.frechet_distance(frechet.Gaussian.of(reading.features), self._gaussian),
            "kid": frechet.polynomial_mmd(reading.features, real),
            **manifolds.compare(real, reading.features)._asdict(),
            "classifier_score": classes.classifier_score(reading.probabilities, splits=1).value,
            "digits_distance": classes.total_variation(digits, self._digits),
            "modes": float(classes.modes_covered(digits, self._digits)),
            "diversity": distances.mean_pairwise(pixels),
        }


def judge(data: config.Data) -> Judge | PointJudge:
    """The judge for a run on these data.

    Raises:
        UserError: they are neither a toy nor MNIST, which is all that the classifier knows, or its test images are
            missing.
    """
    if data.dataset in TOYS:
        return PointJudge(data.dataset)
    if data.dataset != "mnist":
        raise UserError(
            f"train.evaluate_every needs data.dataset=mnist or one of the toys: nothing here can judge {data.dataset}"
        )
    return Judge(load_images(data, "test"))
