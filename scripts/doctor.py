"""Say what is wrong with a run, and which setting to try; also while it is running.

python scripts/doctor.py --run result/mnist
python scripts/doctor.py --run result/mnist --lang zh
"""

import sys
from pathlib import Path

import _clone  # noqa: F401  (makes this clone's gan_mnist importable)

from gan_mnist import cli, doctor
from gan_mnist.errors import run

HEALTHY = {
    "en": "nothing found: the run looks healthy, or is too young to tell",
    "zh": "未发现问题：训练正常，或尚早不能判断",
}


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--run", required=True, type=Path, help="a run directory")
    parser.add_argument("--lang", choices=list(HEALTHY), default="en", help="language of the findings")
    arguments = parser.parse_args()
    findings = doctor.diagnose(arguments.run)
    for finding in findings:
        print(f"{finding.name}: {getattr(finding, arguments.lang)}")
    if not findings:
        print(HEALTHY[arguments.lang])


if __name__ == "__main__":
    sys.exit(run(main))
