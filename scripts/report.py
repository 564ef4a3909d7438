"""Make a run's loss curve and training film again, from what it has logged so far; also while it is running.

python scripts/report.py --run result/mnist
"""

import sys
from pathlib import Path

import _clone  # noqa: F401  (makes this clone's gan_mnist importable)

from gan_mnist import cli, report
from gan_mnist.errors import run


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--run", required=True, type=Path, help="a run directory")
    arguments = parser.parse_args()
    for path in report.write(arguments.run):
        print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(run(main))
