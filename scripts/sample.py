"""Draw images from a trained generator.

    python scripts/sample.py --ckpt Generator199.ckpt                          a 5x5 grid
    python scripts/sample.py --ckpt Generator199.ckpt --grid 8x12 --seed 7
    python scripts/sample.py --ckpt Generator199.ckpt --count 1000 --out images.npy    uint8 (1000, 28, 28); or a folder
    python scripts/sample.py --ckpt Generator199.ckpt --interpolate 5          a walk through 5 codes: strip and GIF
    python scripts/sample.py --ckpt Generator49.ckpt --classes 0-9 --truncation 0.5     of a conditional one: by class

A bare file name is looked up in result/*/checkpoints/; the newest wins.
"""

import sys
from pathlib import Path

import _clone  # noqa: F401  (makes this clone's gan_mnist importable)

from gan_mnist import cli, environment
from gan_mnist.errors import run
from gan_mnist.rundir import find_checkpoint

MODE_HELP = """how BatchNorm normalises. eval (default): with the mean and variance it gathered during training, so
that an image depends on its own code alone. train: with those of the codes drawn together, as G knew it in training;
then the same code gives another image in other company, and one code alone gives a constant"""


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--ckpt", required=True, help="a Generator<E>.ckpt: a path, or a name to look up")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--grid", metavar="RxC", type=cli.rows_and_columns, help="rows x columns (5x5)")
    what.add_argument("--count", metavar="N", type=cli.positive, help="N images: --out FILE.npy, or a folder for PNGs")
    what.add_argument("--interpolate", metavar="K", type=cli.positive, help="a walk through K codes on great circles")
    parser.add_argument("--steps", type=cli.positive, default=10, help="pictures from one code to the next (10)")
    parser.add_argument("--seed", type=cli.seed, default=2323, help="of the codes (2323: those of the training grids)")
    parser.add_argument("--classes", metavar="0-9", type=cli.numbers, help="of a conditional G: a row each")
    parser.add_argument("--truncation", metavar="T", type=cli.above_zero, help="z within [-T, T]: finer, less varied")
    parser.add_argument("--mode", choices=["eval", "train"], default="eval", help=MODE_HELP)
    parser.add_argument("--out", type=Path, help="where to; by default in samples/, beside the checkpoint's folder")
    parser.add_argument("--device", choices=cli.DEVICES, default="auto")
    arguments = parser.parse_args()

    ckpt = find_checkpoint(arguments.ckpt)
    environment.prepare(model=environment.model_of(ckpt))
    from gan_mnist import sampling  # MindSpore reads its environment when it is imported.

    sampler = sampling.Sampler.open(
        ckpt,
        device=arguments.device,
        mode=arguments.mode,
        classes=arguments.classes,
        truncation=arguments.truncation,
    )
    if arguments.count:
        written = sampler.write_images(arguments.count, seed=arguments.seed, out=arguments.out)
    elif arguments.interpolate:
        written = sampler.write_walk(
            arguments.interpolate, steps=arguments.steps, seed=arguments.seed, out=arguments.out
        )
    else:
        rows, columns = arguments.grid or ((len(arguments.classes), 10) if arguments.classes else (5, 5))
        by_class = arguments.classes is not None
        written = sampler.write_grid(rows, columns, seed=arguments.seed, by_class=by_class, out=arguments.out)
    print(f"wrote {written}")


if __name__ == "__main__":
    sys.exit(run(main))
