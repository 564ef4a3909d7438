"""Make a run's page, loss curve and training film again, from what it has logged so far; also while it is running.

python scripts/report.py --run result/mnist                          report.html, loss_curve.png, training.gif
python scripts/report.py --run result/mnist --run result/slow_d      both side by side: report_mnist_vs_slow_d.html
"""

import sys
from pathlib import Path

import _clone  # noqa: F401  (makes this clone's gan_mnist importable)

from gan_mnist import cli, report
from gan_mnist.errors import UserError, run


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "--run", required=True, type=Path, action="append", metavar="DIR", help="a run directory; more to compare"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.html", help="the comparison's page")
    arguments = parser.parse_args()
    if len(arguments.run) > 1:
        print(f"wrote {report.compare(arguments.run, arguments.out)}")
        return
    if arguments.out:
        raise UserError("--out: is for comparing runs; the report of a single run goes to its own directory")
    for path in report.write(arguments.run[0]):
        print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(run(main))
