"""Measure how good a generator is, beside real images and published numbers.

    python scripts/evaluate.py --ckpt Generator199.ckpt                       evaluation.json, pictures and a table
    python scripts/evaluate.py --ckpt Generator199.ckpt --metrics parzen,fid
    python scripts/evaluate.py --run result/mnist                             every saved epoch, and a curve over epochs
    python scripts/evaluate.py --images samples.npy                           of any other program: uint8 (N, 28, 28)

A bare file name is looked up in result/*/checkpoints/; the newest wins. What has been evaluated is not evaluated again.
"""

import sys
from pathlib import Path

import _clone  # noqa: F401  (makes this clone's gan_mnist importable)

from gan_mnist import cli, environment
from gan_mnist.errors import UserError, run
from gan_mnist.rundir import RunDir, find_checkpoint
from gan_mnist.scoreboard import GROUPS


def groups(text: str) -> list[str]:
    """Groups of measures, in their usual order."""
    chosen = [name.strip() for name in text.split(",")]
    for name in chosen:
        if name not in GROUPS:
            raise UserError(f"--metrics {text}: {name!r} is not one of {', '.join(GROUPS)}")
    return [name for name in GROUPS if name in chosen]


def main() -> None:
    parser = cli.Parser(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--ckpt", help="a Generator<E>.ckpt: a path, or a name to look up")
    what.add_argument("--run", type=Path, metavar="DIR", help="a run directory, such as result/mnist")
    what.add_argument("--images", type=Path, metavar="FILE.npy", help="images to measure as if G had drawn them")
    parser.add_argument("--metrics", type=groups, default=list(GROUPS), help=f"some of {','.join(GROUPS)} (all)")
    parser.add_argument("--samples", type=cli.positive, help="to draw (as published: 10000, or 2500 points)")
    parser.add_argument("--seed", type=cli.seed, default=2323, help="of the latent codes (2323)")
    parser.add_argument("--mode", choices=["eval", "train"], default="eval", help="as in sample.py")
    parser.add_argument("--data", type=Path, metavar="DIR", help="MNIST's folder (the run's, or MNIST_Data)")
    parser.add_argument("--device", choices=cli.DEVICES, default="auto")
    arguments = parser.parse_args()

    model = None
    if arguments.run:
        model = environment.model_of(next(RunDir(arguments.run).checkpoints.glob("Generator*.ckpt"), arguments.run))
    elif arguments.ckpt:
        model = environment.model_of(ckpt := find_checkpoint(arguments.ckpt))
    environment.prepare(model=model)
    from gan_mnist import evaluation  # MindSpore reads its environment when it is imported.

    settings = evaluation.Settings(
        groups=arguments.metrics,
        samples=arguments.samples,
        seed=arguments.seed,
        mode=arguments.mode,
        device=arguments.device,
        data=arguments.data,
    )
    if arguments.run:
        written = evaluation.evaluate_run(arguments.run, settings)
    elif arguments.images:
        written = evaluation.evaluate_images(arguments.images, settings)
    else:
        written = evaluation.evaluate_checkpoint(ckpt, settings)
    print("wrote " + ", ".join(map(str, written)))


if __name__ == "__main__":
    sys.exit(run(main))
