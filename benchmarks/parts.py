"""The parts of the benchmark; each returns what goes into the JSON file."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import epoch, problem
from benchmarks.contestants import products
from benchmarks.contestants.ours import training_images
from benchmarks.race import (
    Burst,
    Entry,
    Spread,
    Worker,
    kept,
    largest_difference,
    one_burst,
    race,
    ratios,
    started,
    times,
)

CONTESTANTS: dict[str, Entry] = {
    "ours": Entry("gan_mnist", "benchmarks.contestants.ours:build", {"library_layers": False}),
    "library": Entry(
        "gan_mnist's step, layers of mindspore.nn", "benchmarks.contestants.ours:build", {"library_layers": True}
    ),
    "course": Entry("course-style script, PyNative", "benchmarks.contestants.course:build", pace=10),
    "torch": Entry(
        "PyTorch eager", "benchmarks.contestants.pytorch:build", {"compiled": False, "fused": False}, peer=True
    ),
    "torch-fused": Entry(
        "PyTorch eager, fused Adam",
        "benchmarks.contestants.pytorch:build",
        {"compiled": False, "fused": True},
        peer=True,
    ),
    "torch-compile": Entry(
        "torch.compile, fused Adam",
        "benchmarks.contestants.pytorch:build",
        {"compiled": True, "fused": True},
        peer=True,
    ),
    "jax": Entry("JAX jit, donated buffers", "benchmarks.contestants.jax_optax:build", {"donate": True}, peer=True),
    "jax-kept": Entry("JAX jit, buffers kept", "benchmarks.contestants.jax_optax:build", {"donate": False}, peer=True),
    "floor": Entry("matrix products alone, MindSpore", "benchmarks.contestants.products:build", trains=False),
    "floor-torch": Entry(
        "matrix products alone, PyTorch", "benchmarks.contestants.pytorch:build_products", trains=False, peer=True
    ),
}
CHAOS = 0.03
"""Tolerance for DCGANs: the first losses agree to 1e-5, then the BatchNorms amplify what rounding differs by."""
CONVOLUTIONAL: dict[str, Entry] = {
    "ours": Entry("gan_mnist", "benchmarks.contestants.convolutional:build"),
    "torch-fused": Entry(
        "PyTorch eager, fused Adam",
        "benchmarks.contestants.pytorch_convolutional:build",
        {"channels_last": False},
        peer=True,
        tolerance=CHAOS,
    ),
    "torch-last": Entry(
        "the same, channels last",
        "benchmarks.contestants.pytorch_convolutional:build",
        {"channels_last": True},
        peer=True,
        tolerance=CHAOS,
    ),
}
CONVOLUTIONAL_RECIPES = ("mnist_dcgan.yaml", "emoji64.yaml")
CONVOLUTIONAL_PACE = 15
"""Their steps take about so many times longer than the Dense one's."""
BATCH_SIZES = (32, 64, 128, 256, 512, 1024)
BATCH_PEERS = ("ours", "torch-fused", "jax")
"""Who runs at every batch size."""
EPOCHS = 6
"""Through the trainer, of which four are watched."""
LATENT_SIZES = (2, 10, 100, 400)
DATA_LIMITS = (6000, 15000, 30000)
COURSE_STEPS = 40
"""Steps of the course-style script through its own pipeline, from which its epoch is reckoned."""


class Settings(NamedTuple):
    """What the command line asks for."""

    only: list[str]
    """Names of contestants; ours is always among them."""
    overrides: list[str]
    """`section.key=value` words behind configs/mnist.yaml."""
    rounds: int
    steps: int
    peers_python: str
    folder: Path
    """For temporary files."""

    def entries(self, *overrides: str) -> dict[str, Entry]:
        """The contestants that take part, ours with further overrides."""
        chosen = {name: entry for name, entry in CONTESTANTS.items() if name in {"ours", *self.only}}
        for name in chosen.keys() & {"ours", "library"}:
            entry = chosen[name]
            chosen[name] = entry._replace(arguments=entry.arguments | {"overrides": [*self.overrides, *overrides]})
        return chosen


def race_part(settings: Settings) -> dict[str, Any]:
    """All contestants against each other, at the recipe's batch size."""
    path = settings.folder / "race.npz"
    with started(settings.entries(), path, peers_python=settings.peers_python) as (workers, missing):
        rounds = race(workers, rounds=settings.rounds, steps=settings.steps)
        peaks = {name: worker.ask("memory")["peak_bytes"] for name, worker in workers.items()}
    task = problem.load(path)
    operands, steps = products.products(task)
    quiet = kept(rounds)
    reference = workers["ours"].losses
    return {
        "rounds": len(rounds),
        "quiet_rounds": sum(all(burst.quiet for burst in bursts.values()) for bursts in rounds),
        "steps": settings.steps,
        "batch_size": task.x.shape[1],
        "missing": missing,
        "products": {"count": len(steps), "gigaflop": products.gigaflop(operands, steps)},
        "contestants": {
            name: {
                "about": worker.entry.about,
                "versions": worker.versions,
                "trains": worker.entry.trains,
                "ratio": ratios(quiet, name, "ours")._asdict(),
                "ms": times(quiet, name)._asdict(),
                "first_step_s": worker.first_step_s,
                "peak_bytes": peaks[name],
                "losses": worker.losses,
                "largest_difference": largest_difference(worker.losses or [], reference or []),
                "samples": [bursts[name]._asdict() for bursts in rounds],
            }
            for name, worker in workers.items()
        },
    }


def epoch_part(settings: Settings) -> dict[str, Any]:
    """Our epochs through the real trainer; between them, as many bare steps in another process."""
    path = settings.folder / "epoch.npz"
    data = epoch.data_override(settings.folder)
    entries = {name: entry for name, entry in settings.entries().items() if name in ("ours", "course")}
    with started(entries, path, peers_python=settings.peers_python) as (workers, _):
        steps = len(training_images().labels) // problem.load(path).x.shape[1]
        bare: list[Burst] = []
        training = epoch.train(
            [*settings.overrides, *data],
            epochs=EPOCHS,
            folder=settings.folder,
            meanwhile=lambda: bare.append(one_burst(workers["ours"], steps)),
        )
        passes = [workers["ours"].ask("data_pass")["seconds"] for _ in range(3)]
        course = workers["course"].ask("piped", steps=COURSE_STEPS)["seconds"] if "course" in workers else None
    bare_s = [burst.ms * steps / 1e3 for burst in bare]
    # An epoch lies between two stretches of bare steps: the first watched one between the second and the third.
    paired = [whole / statistics.mean(around) for whole, around in zip(training.epochs_s, zip(bare_s[1:], bare_s[2:]))]
    return {
        "steps": steps,
        "epoch_to_bare_steps": Spread.of(paired)._asdict(),
        "epoch_s": Spread.of(training.epochs_s)._asdict(),
        "bare_steps_s": Spread.of(bare_s)._asdict(),
        "saving_share": statistics.median(training.saving),
        "first_step_s": training.first_step_s,
        "peak_bytes": training.peak_bytes,
        "data_pass_s": statistics.median(passes),
        "course_epoch_s": course and course * steps,
        "samples": {
            **training._asdict(),
            "data_passes_s": passes,
            "bare_steps_s": bare_s,
            "others": [burst.others for burst in bare],
        },
    }


def growth_part(settings: Settings) -> dict[str, Any]:
    """How time grows with the sizes of batch, latent code and data set."""
    data = epoch.data_override(settings.folder)
    return {
        "batch_size": {str(size): _batch_size(settings, size) for size in BATCH_SIZES},
        "latent_size": _latent_sizes(settings),
        "data_limit": {
            str(limit): epoch.train(
                [*settings.overrides, *data, f"data.limit={limit}"], epochs=4, folder=settings.folder
            )._asdict()
            for limit in DATA_LIMITS
        },
    }


def convolutions_part(settings: Settings) -> dict[str, Any]:
    """A short race of the convolutional recipes' steps, on random pixels."""
    results = {}
    for recipe in CONVOLUTIONAL_RECIPES:
        ours = CONVOLUTIONAL["ours"]
        entries = CONVOLUTIONAL | {"ours": ours._replace(arguments={"recipe": recipe})}
        path = settings.folder / f"{recipe}.npz"
        with started(entries, path, peers_python=settings.peers_python) as (workers, missing):
            steps = max(2, settings.steps // CONVOLUTIONAL_PACE)
            results[recipe] = {
                "missing": missing,
                "contestants": _short(race(workers, rounds=max(3, settings.rounds // 3), steps=steps)),
            }
    return results


def _batch_size(settings: Settings, size: int) -> dict[str, Any]:
    """A short race at another batch size."""
    entries = {n: entry for n, entry in settings.entries(f"data.batch_size={size}").items() if n in BATCH_PEERS}
    path = settings.folder / f"batch{size}.npz"
    with started(entries, path, peers_python=settings.peers_python) as (workers, _):
        steps = max(5, min(settings.steps * 128 // size, 3 * settings.steps))
        return _short(race(workers, rounds=max(3, settings.rounds // 5), steps=steps))


def _latent_sizes(settings: Settings) -> dict[str, Any]:
    """A short race of ours against itself with other latent codes."""
    workers: dict[str, Worker] = {}
    with contextlib.ExitStack() as stack:
        for size in LATENT_SIZES:
            entries = {"ours": settings.entries(f"model.latent_size={size}")["ours"]}
            race_of_one = started(entries, settings.folder / f"latent{size}.npz", peers_python=settings.peers_python)
            workers[str(size)] = stack.enter_context(race_of_one)[0]["ours"]
        return _short(race(workers, rounds=max(3, settings.rounds // 3), steps=settings.steps))


def _short(rounds: list[dict[str, Burst]]) -> dict[str, Any]:
    """Median ms per step and the ratio to the first contestant, by name."""
    quiet = kept(rounds)
    reference = next(iter(rounds[0]))
    return {
        name: {
            "ms": times(quiet, name).median,
            "ratio": ratios(quiet, name, reference)._asdict(),
            "samples": [bursts[name]._asdict() for bursts in rounds],
        }
        for name in rounds[0]
    }


PARTS: dict[str, Callable[[Settings], dict[str, Any]]] = {
    "race": race_part,
    "epoch": epoch_part,
    "growth": growth_part,
    "convolutions": convolutions_part,
}
