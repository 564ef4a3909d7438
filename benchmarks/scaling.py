"""What working together costs: a step with 1, 2 and 4 workers, beside a model of it.

    python benchmarks/scaling.py                                       configs/mnist.yaml, about 3 minutes on 2 cores
    python benchmarks/scaling.py --workers 1,2 --steps 50 --json scaling.json data.batch_size=256
    python benchmarks/scaling.py --project                             no measurement: Ascend cards, by the model

The workers are processes of this machine and share its cores, so nothing gets faster here; what is measured is the
share of a step that goes into communication. Every worker takes its part of the batch, and times, in turns,

    step       the whole step: gradients averaged, BatchNorm's statistics shared
    alone      the same step without a word to the others, all workers at work at the same time

and AllReduce by itself, of 4 bytes to 8 MB. A line through the latter, t = latency + bytes / bandwidth, times the
step's messages is the model's communication; docs/scaling.md puts other machines' numbers in. Times are medians.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks import machine
from benchmarks.tables import markdown
from gan_mnist import cli, config, distributed, environment, files, launcher, scheduler
from gan_mnist.errors import UserError, run

ROOT = Path(__file__).resolve().parent.parent
SIZES = (1, 1_000, 10_000, 100_000, 500_000, 2_000_000)
"""Of the AllReduces by themselves, in float32 numbers."""
REPEATS = 15
BURST = 5
"""Steps between two looks at the clock."""


class Messages(NamedTuple):
    """What a step sends to be summed."""

    number: int
    bytes: int


class Network(NamedTuple):
    """Of an AllReduce among given workers: t = latency + bytes / bandwidth."""

    latency: float
    """Seconds a message takes, however short."""
    bandwidth: float
    """Bytes a second."""

    def seconds(self, messages: Messages) -> float:
        """What a step's messages take, one after the other."""
        return messages.number * self.latency + messages.bytes / self.bandwidth


def fit(sizes: list[int], seconds: list[float]) -> Network:
    """The line through measured AllReduces, by least squares of the relative errors."""
    weights = 1 / np.array(seconds)
    columns = np.stack([weights, weights * 4 * np.array(sizes)], axis=1)
    (latency, per_byte), *_ = np.linalg.lstsq(columns, np.ones(len(sizes)), rcond=None)
    return Network(max(float(latency), 0.0), 1 / max(float(per_byte), 1e-15))


class Links(NamedTuple):
    """Between neighbours: one way, one message."""

    latency: float
    """Seconds."""
    bandwidth: float
    """Bytes a second."""

    def ring(self, workers: int, size: float) -> float:
        """Seconds of a ring's AllReduce: 2 (n - 1) messages of an n-th of the bytes (Patarasuk & Yuan 2009)."""
        return 2 * (workers - 1) * (self.latency + size / workers / self.bandwidth)


class Work(NamedTuple):
    """Two networks to train."""

    name: str
    flop: float
    """Of an image, in a step."""
    parameters: tuple[float, float]
    """Of G and of D, each summed in a message of its own."""
    widths: tuple[int, ...]
    """Of G's BatchNorms."""

    def messages(self) -> list[float]:
        """Bytes of each: gradients, and of a BatchNorm mean, variance and two sums on the way back."""
        return [4.0 * size for size in self.parameters] + [4.0 * part * w for w in self.widths for part in (1, 1, 2)]


CARD_FLOPS = 0.3 * 256e12
"""A second that an Ascend 910 reaches: 30 % of its float16 peak (Liao et al. 2021)."""
LAUNCHES = 1.5e-3
"""Seconds below which a step does not fall: some 300 kernels at 5 microseconds each."""
WITHIN, BETWEEN = Links(5e-6, 30e9), Links(10e-6, 12.5e9)
"""Assumed: HCCS among the cards of a machine, 100 Gbit/s Ethernet for each card among machines."""
WORKS = (
    Work("Dense, 28x28", 17.6e6, (1.51e6, 0.53e6), (256, 512, 1024)),
    Work("DCGAN, 64x64x3", 7.0e9, (12.7e6, 11.0e6), (1024, 512, 256, 128)),
)
PLACES = ((1, 1), (8, 1), (8, 8), (8, 64))
"""Cards a machine, and machines."""


def card_seconds(work: Work, images: float) -> float:
    """What a card computes on its part of the batch."""
    return max(LAUNCHES, work.flop * images / CARD_FLOPS)


def reduce_seconds(work: Work, cards: int, machines: int) -> float:
    """All messages of a step: a ring within each machine, and rings among machines for each card's share."""
    return sum(WITHIN.ring(cards, size) + BETWEEN.ring(machines, size / cards) for size in work.messages())


def projection() -> str:
    """Efficiency by the model: speed with n cards over n times the speed of one, as Markdown."""
    rows = []
    for work in WORKS:
        for each in (128, 1024):
            for cards, machines in PLACES:
                computing, talking = card_seconds(work, each), reduce_seconds(work, cards, machines)
                n = cards * machines
                efficiency = computing / (computing + talking)
                fixed = card_seconds(work, each) / (card_seconds(work, each / n) + talking)
                rows.append(
                    [work.name, str(each), f"{n} ({machines} x {cards})", f"{1e3 * computing:.1f}"]
                    + [f"{1e3 * talking:.1f}", f"{100 * efficiency:.0f} %", f"{fixed:.1f}" if each / n >= 2 else "-"]
                )
    header = ["networks", "images", "cards", "compute, ms", "communication, ms", "efficiency, images a card"]
    return markdown([*header, "speed-up, images in all"], rows)


def main() -> int:
    """Parse the command line; measure, as one of the workers or as the one who starts them."""
    if distributed.is_scheduler():
        return scheduler.run()
    parser = cli.Parser(__doc__)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="change a setting of the recipe")
    parser.add_argument("--config", default=str(ROOT / "configs" / "mnist.yaml"), help="the recipe")
    parser.add_argument("--workers", type=cli.numbers, default=[1, 2, 4], metavar="N,...", help="default: 1,2,4")
    parser.add_argument("--steps", type=cli.positive, default=60, help="of each kind; default: 60")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine and results there")
    parser.add_argument("--project", action="store_true", help="what the model says of Ascend cards")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)  # Where the leader of the workers leaves results.
    arguments = parser.parse_intermixed_args()
    if arguments.project:
        print(projection())
        return 0
    recipe = config.load(arguments.config, [*arguments.overrides, "device=CPU"])
    if arguments.out:
        return measure(recipe, arguments.steps, arguments.out)

    facts = machine.facts()
    print(f"{facts['cpu']}, {facts['cores']} cores; {facts['platform']}; {facts['date']}", flush=True)
    results = []
    with tempfile.TemporaryDirectory(prefix="gan_mnist-scaling-") as folder:
        for workers in arguments.workers:
            out = Path(folder) / f"{workers}.json"
            words = [__file__, *arguments.overrides, "--config", arguments.config, "--steps", str(arguments.steps)]
            if status := launcher.launch(workers, [*words, "--out", str(out)]):
                raise UserError(f"--workers {workers}: the measurement failed with exit status {status}")
            results.append(json.loads(out.read_text(encoding="utf-8")))
    print(table(results))
    if arguments.json:
        files.write_json(arguments.json, {"machine": facts, "command": sys.argv, "results": results})
    return 0


def table(results: list[dict[str, Any]]) -> str:
    """As Markdown."""
    header = ["workers", "images each", "step, ms", "alone, ms", "communication", "messages", "MB", "model, ms"]
    rows = []
    for one in results:
        rows.append(
            [
                str(one["workers"]),
                str(one["images_each"]),
                f"{1e3 * one['step_s']:.1f}",
                f"{1e3 * one['alone_s']:.1f}",
                f"{100 * (1 - one['alone_s'] / one['step_s']):.0f} %" if one["workers"] > 1 else "-",
                str(one["messages"]["number"]),
                f"{one['messages']['bytes'] / 1e6:.2f}",
                f"{1e3 * one['model_s']:.1f}",
            ]
        )
    lines = [markdown(header, rows)]
    for one in results:
        if one["workers"] > 1:
            network = Network(*one["network"])
            lines.append(
                f"AllReduce among {one['workers']}: {1e3 * network.latency:.2f} ms + bytes / "
                f"{network.bandwidth / 1e9:.2f} GB/s"
            )
    return "\n".join(lines)


def measure(recipe: config.Config, steps: int, out: Path) -> int:
    """Be one of the workers; the leader writes what all of them found, the slowest one's times."""
    environment.prepare(model=recipe.model.name)
    import mindspore as ms
    from mindspore import ops

    from gan_mnist import runtime
    from gan_mnist.collectives import Workers
    from gan_mnist.data import image_shape

    worker = distributed.worker_here()
    runtime.start(recipe.device, seed=1, worker=worker)
    workers = Workers(worker)
    shape = image_shape(recipe.data)

    reduce_times = []
    if worker.total > 1:
        all_reduce = ops.AllReduce()
        for size in SIZES:
            numbers = ms.Tensor(np.ones(size, np.float32))
            reduce_times.append(timed(partial(all_reduce, numbers), workers))

    together, messages = prepared_step(recipe, shape, worker, apart=False)
    alone, _ = prepared_step(recipe, shape, worker, apart=True)
    times: dict[str, list[float]] = {"together": [], "alone": []}
    for index in range(steps // BURST + 1):
        for name, step in (("together", together), ("alone", alone)):
            seconds = burst(step, workers)
            if index:  # The first one compiles.
                times[name].append(seconds)
    # Everybody's medians; a step is as slow as its slowest worker.
    step_s, alone_s = workers.gather([float(np.median(times[name])) for name in ("together", "alone")]).max(axis=0)
    network = fit(list(SIZES), reduce_times) if reduce_times else Network(0.0, 1e15)
    if worker.leads:
        found = {
            "workers": worker.total,
            "images_each": recipe.data.batch_size // worker.total,
            "step_s": float(step_s),
            "alone_s": float(alone_s),
            "messages": messages._asdict(),
            "all_reduce_s": dict(zip(map(str, SIZES), reduce_times)),
            "network": list(network),
            "model_s": float(alone_s) + (network.seconds(messages) if reduce_times else 0.0),
        }
        files.write_json(out, found)
    workers.wait()
    return 0


def prepared_step(
    recipe: config.Config, shape: tuple[int, int, int], worker: distributed.Worker, *, apart: bool
) -> tuple[Callable[[], Any], Messages]:
    """A worker's step on its part of a batch of noise, together with the others or apart; and what it sends."""
    import mindspore as ms

    from gan_mnist.game import build_game

    game = build_game(recipe, shape, steps_per_epoch=1, workers=1 if apart else worker.total)
    size = recipe.data.batch_size // worker.total
    random = np.random.default_rng(worker.rank)
    x = ms.Tensor(random.uniform(-1, 1, (size, *shape)).astype(np.float32))
    z = ms.Tensor(random.standard_normal((size, recipe.model.latent_size), dtype=np.float32))
    y = ms.Tensor(np.zeros(size, np.int32))
    step = game.train_step()

    def one() -> Any:
        return step(x, y, z)[0].asnumpy()

    gradients = [sum(weight.size for weight in net.trainable_params()) for net in (game.G, game.D)]
    widths = (
        [parameter.size for parameter in game.G.get_parameters() if parameter.name.endswith("moving_mean")]
        if recipe.distributed.sync_batch_norm
        else []
    )
    if worker.total == 1 or apart:
        return one, Messages(0, 0)
    # Of a BatchNorm: mean, variance, and on the way back two sums in one message.
    return one, Messages(len(gradients) + 3 * len(widths), 4 * (sum(gradients) + 4 * sum(widths)))


def burst(step: Callable[[], Any], workers: Any) -> float:
    """Seconds a step takes, of a few in a row that all begin together."""
    workers.wait()
    start = time.perf_counter()
    for _ in range(BURST):
        step()
    return (time.perf_counter() - start) / BURST


def timed(call: Callable[[], Any], workers: Any) -> float:
    """The median seconds of a call that all workers make at once."""
    call()
    seconds = []
    for _ in range(REPEATS):
        workers.wait()
        start = time.perf_counter()
        call().asnumpy()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


if __name__ == "__main__":
    sys.exit(run(main))
