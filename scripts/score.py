"""Print a trained discriminator's probability that each image is real.

    python scripts/score.py --ckpt Discriminator199.ckpt a.png b.jpg images.npy

Pictures of any size are made grey (or, where D knows colour, coloured), and their centre resized. MNIST's digits are
white on black: for ink on paper add --invert.
"""

import sys
from pathlib import Path

import _clone  # noqa: F401  (makes this clone's gan_mnist importable)

from gan_mnist import cli, environment
from gan_mnist.errors import run
from gan_mnist.rundir import find_checkpoint


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--ckpt", required=True, help="a Discriminator<E>.ckpt: a path, or a name to look up")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a picture, or a .npy array of them")
    parser.add_argument("--invert", action="store_true", help="swap black and white first")
    parser.add_argument("--label", type=cli.whole, metavar="N", help="the class they show, for a conditional D")
    parser.add_argument("--device", choices=cli.DEVICES, default="auto")
    arguments = parser.parse_args()

    ckpt = find_checkpoint(arguments.ckpt)
    environment.prepare(model=environment.model_of(ckpt))
    from gan_mnist import scoring  # MindSpore reads its environment when it is imported.

    scored = scoring.score_files(
        ckpt, arguments.images, device=arguments.device, invert=arguments.invert, label=arguments.label
    )
    for name, probability in scored:
        print(f"{probability:.4f}  {name}")


if __name__ == "__main__":
    sys.exit(run(main))
