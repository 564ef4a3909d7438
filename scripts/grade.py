"""Look over runs that were handed in, and write a table of them.

python scripts/grade.py handed_in/*/result/mnist                                            writes grades.csv
python scripts/grade.py --config configs/mnist.yaml train.epochs=20 handed_in/*/result/mnist     as asked, too?

Columns: complete (finished, every epoch there), as_asked (the settings, apart from where things are), checkpoints (of
the last epoch: sound, and those of the training state), samples (the checkpoint draws the last grid), and the quality
of 2,000 fresh samples. Remarks say what is wrong.
"""

import sys
from pathlib import Path

import _clone  # noqa: F401  (makes this clone's gan_mnist importable)

from gan_mnist import cli, environment
from gan_mnist.config import load
from gan_mnist.errors import UserError, run
from gan_mnist.rundir import RunDir


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("words", nargs="*", metavar="RUN", help="run directories, and section.key=value for --config")
    parser.add_argument("--config", help="the recipe that was asked for")
    parser.add_argument("--out", type=Path, default=Path("grades.csv"), help="the table (grades.csv)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="MNIST's folder (each run's, or MNIST_Data)")
    parser.add_argument("--device", choices=cli.DEVICES, default="auto")
    arguments = parser.parse_intermixed_args()

    overrides = [word for word in arguments.words if "=" in word]
    folders = [Path(word) for word in arguments.words if "=" not in word]
    if not folders:
        raise UserError("which runs? Name run directories, such as result/mnist; see --help")
    if overrides and not arguments.config:
        raise UserError(f"{overrides[0]} changes a recipe, but there is none: give --config configs/mnist.yaml")
    asked = load(arguments.config, overrides) if arguments.config else None
    convolutional = [model for folder in folders if (model := model_of(folder)) in environment.CONVOLUTIONAL]
    environment.prepare(model=convolutional[0] if convolutional else None)
    from gan_mnist import grading  # MindSpore reads its environment when it is imported.

    grading.grade_all(folders, arguments.out, asked=asked, device=arguments.device, data=arguments.data)
    print(f"wrote {arguments.out}")


def model_of(folder: Path) -> str | None:
    """The architecture of a run; None where it can't be told."""
    try:
        return load(RunDir(folder).config).model.name
    except UserError:
        return None


if __name__ == "__main__":
    sys.exit(run(main))
