"""Put a data set where training looks for it: download or import MNIST or the anime faces, or write the digits.

python scripts/prepare_data.py --dataset mnist                    downloads, verifies, unpacks into MNIST_Data
python scripts/prepare_data.py --dataset mnist --source DIR|URL   takes the four files from a folder, a zip or a URL
python scripts/prepare_data.py --dataset digits                   needs no download
python scripts/prepare_data.py --dataset faces [--source ZIP|URL] the anime faces, into MNIST_Data/faces.zip
"""

import sys
from pathlib import Path

import _clone  # noqa: F401  (makes this clone's gan_mnist importable)

from gan_mnist import cli
from gan_mnist.data import DEFAULT_FOLDERS
from gan_mnist.data.digits import prepare_digits
from gan_mnist.data.faces import prepare_faces
from gan_mnist.data.idx import check_mnist
from gan_mnist.data.prepare import prepare_mnist
from gan_mnist.errors import UserError, run


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--dataset", choices=("mnist", "digits", "faces"), default="mnist", help="default: %(default)s")
    parser.add_argument("--source", metavar="DIR|URL", help="take the files from this folder, zip or URL")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: MNIST_Data, or in it digits or faces.zip")
    options = parser.parse_args()

    if options.dataset == "faces":
        prepare_faces(options.out or DEFAULT_FOLDERS["images"], source=options.source)
        return
    folder = options.out or Path(DEFAULT_FOLDERS[options.dataset])
    if options.dataset == "digits":
        if options.source is not None:
            raise UserError(
                "--source is for --dataset mnist and faces; the digits come with scikit-learn: leave it out"
            )
        prepare_digits(folder)
    else:
        prepare_mnist(folder, source=options.source)
    train, test = check_mnist(folder, "train")[0], check_mnist(folder, "test")[0]
    print(f"{folder} is ready: {train} images for training, {test} for testing")


if __name__ == "__main__":
    sys.exit(run(main))
