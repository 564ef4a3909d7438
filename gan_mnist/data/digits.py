"""The embedded digits: scikit-learn's 1,797 real handwritten ones, enlarged to MNIST's format without a download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gan_mnist.data.idx import MNIST_NAMES, check_mnist, write_idx
from gan_mnist.errors import UserError
from gan_mnist.files import remove_leftovers

TRAINING_DIGITS = 1500
"""The first so many digits serve for training, all others for testing: none is in both."""

SEED = 2323


def prepare_digits(folder: str | Path, *, copies: int = 8) -> None:
    """Write `folder`/train and `folder`/test as MNIST's IDX files: `copies` variants of every embedded digit.

    The same bytes every time: 12,000 training and 2,376 test images with the default.

    Raises:
        UserError: the files can't be written.
    """
    from sklearn.datasets import load_digits

    base = load_digits()
    strokes, labels = base.images / 16.0, base.target.astype(np.uint8)  # (1797, 8, 8) in [0, 1]
    parts = {"train": slice(TRAINING_DIGITS), "test": slice(TRAINING_DIGITS, None)}
    for number, (split, part) in enumerate(parts.items()):
        rng = np.random.default_rng([SEED, number])
        remove_leftovers(Path(folder) / split)
        images_name, labels_name = MNIST_NAMES[split]
        write_idx(Path(folder) / split / images_name, _enlarge(np.tile(strokes[part], (copies, 1, 1)), rng))
        write_idx(Path(folder) / split / labels_name, np.tile(labels[part], copies))


def ensure_digits(folder: str | Path) -> None:
    """Return at once if `folder` holds valid digits, else write them."""
    try:
        check_mnist(folder, "train")
        check_mnist(folder, "test")
    except UserError:
        prepare_digits(folder)


def _enlarge(strokes: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw digits of (N, 8, 8) as (N, 28, 28), each gently turned, sheared, scaled and shifted by chance.

    The digit fills about 20 pixels, as in MNIST. The grey ramp that enlarging leaves at a stroke's edge is stretched,
    so that strokes are white with smooth edges and the background exactly 0.
    """
    from scipy.ndimage import affine_transform

    count = len(strokes)
    turn = np.radians(rng.uniform(-10, 10, count))
    shear = rng.uniform(-0.1, 0.1, count)
    height = 8 / 20 * rng.uniform(0.92, 1.08, count)  # source pixels per pixel
    width = 8 / 22 * rng.uniform(0.92, 1.08, count)  # a little wider: the originals were squeezed into a square
    shift = rng.uniform(-2, 2, (count, 2))

    # From a pixel (row, column) of the large image to the point of the small one that it shows, both about the centre.
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    scale = np.array([[height, np.zeros(count)], [shear * width, width]])
    matrices = np.einsum("ijn,jkn->nik", scale, rotation)  # (N, 2, 2)
    padded = np.pad(strokes, ((0, 0), (2, 2), (2, 2)))  # (N, 12, 12): or strokes at the border would be cut
    offsets = 5.5 - np.einsum("nij,nj->ni", matrices, 13.5 + shift)

    images = np.empty((count, 28, 28), np.uint8)
    for image, stroke, matrix, offset in zip(images, padded, matrices, offsets, strict=True):
        grey = affine_transform(stroke, matrix, offset, output_shape=(28, 28), order=3)
        image[:] = np.rint(255 * np.clip((grey - 0.42) / (0.76 - 0.42), 0, 1))
    return images
