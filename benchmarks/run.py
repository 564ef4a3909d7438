"""How fast is a step, next to PyTorch, JAX and the course's script?

    python benchmarks/run.py                        everything, about 10 minutes on 2 cores
    python benchmarks/run.py --quick                the race only, shorter
    python benchmarks/run.py --only ours,jax,floor --rounds 40 --json result.json

Each contestant is a process that stays alive. All train the Dense GAN of configs/mnist.yaml (D first, then G through
the updated D, the same latent codes for both) from the same initial weights on the same batches of 128 in memory, with
as many threads as there are cores to use. Before the race the losses of the first 10 steps must agree with ours.

In each round every contestant runs one burst of steps, in shuffled order; a burst's time ends when its last step has
changed the weights. Times are in ms per step over the bursts; a ratio compares two bursts of the same round, and the
median and quartiles of the rounds' ratios are shown. Bursts during which other processes took more than 8 % of our
cores are run again, and the round is left out if that does not help.

The floors are the step's 28 large matrix products alone (benchmarks/contestants/products.py lists them).

`pip install ".[bench]"` brings PyTorch and JAX; a contestant without its library is named and left out. The newest JAX
needs NumPy 2, which MindSpore does not work with: `--peers-python PYTHON` runs PyTorch and JAX in another environment.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine
from benchmarks.parts import CONTESTANTS, PARTS, Settings
from benchmarks.tables import TABLES
from gan_mnist import cli, files
from gan_mnist.errors import run


def main() -> int:
    """Parse the command line, measure, print."""
    parser = cli.Parser(__doc__)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="change a setting of mnist.yaml")
    parser.add_argument("--only", type=names(CONTESTANTS), metavar="NAME,...", help=", ".join(CONTESTANTS))
    parser.add_argument("--parts", type=names(PARTS), metavar="NAME,...", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="the race only, 5 rounds of 10 steps")
    parser.add_argument("--rounds", type=cli.positive, help="default: 25")
    parser.add_argument("--steps", type=cli.positive, help="of a burst; default: 30")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine, results and all samples there")
    parser.add_argument("--peers-python", default=sys.executable, metavar="PYTHON", help="runs PyTorch and JAX")
    arguments = parser.parse_intermixed_args()

    facts = machine.facts()
    print(f"{facts['cpu']}, {facts['cores']} cores; {facts['platform']}; {facts['date']}", flush=True)
    report: dict[str, Any] = {"machine": facts, "command": sys.argv}
    with tempfile.TemporaryDirectory(prefix="gan_mnist-bench-") as folder:
        settings = Settings(
            only=arguments.only or list(CONTESTANTS),
            overrides=arguments.overrides,
            rounds=arguments.rounds or (5 if arguments.quick else 25),
            steps=arguments.steps or (10 if arguments.quick else 30),
            peers_python=arguments.peers_python,
            folder=Path(folder),
        )
        for part in arguments.parts or (["race"] if arguments.quick else PARTS):
            report[part] = PARTS[part](settings)
            print(f"\n{TABLES[part](report[part])}", flush=True)
    if arguments.json:
        files.write_json(arguments.json, report)
    return 0


def names(known: Collection[str]) -> Callable[[str], list[str]]:
    """An argument that lists some of the known names."""

    def parse(text: str) -> list[str]:
        for name in text.split(","):
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not known; known are: {', '.join(known)}")
        return text.split(",")

    return parse


if __name__ == "__main__":
    sys.exit(run(main))
