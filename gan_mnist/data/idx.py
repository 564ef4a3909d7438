"""The IDX format of MNIST's files, and the checks that images and labels belong together.

An IDX file is a big-endian header, two zero bytes, the element type (8: unsigned byte), the number of dimensions, each
dimension as 4 bytes, followed by the elements in C order (http://yann.lecun.com/exdb/mnist).
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from gan_mnist.errors import UserError
from gan_mnist.files import atomic_path

MNIST_NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""The images' and the labels' file of each split, in a folder named after the split."""

UNSIGNED_BYTE = 8
MOST_DIMENSIONS = 4
REMEDY = "make it again with `python scripts/prepare_data.py --dataset mnist`, or delete it"


def read_idx(path: str | Path) -> NDArray[np.uint8]:
    """Read an (unpacked) IDX file of unsigned bytes.

    Raises:
        UserError: the file is missing or unreadable, is not IDX, or is shorter or longer than its header says. This is
            found before memory is allocated.
    """
    with _opened(path) as stream:
        shape = _read_header(stream, path)
        return np.fromfile(stream, np.uint8, math.prod(shape)).reshape(shape)


def write_idx(path: str | Path, array: NDArray[np.uint8]) -> None:
    """Write `array` (uint8, 1 to 4 dimensions) as an IDX file, atomically.

    Raises:
        ValueError: another type or number of dimensions.
        UserError: the file can't be written.
    """
    if array.dtype != np.uint8 or not 1 <= array.ndim <= MOST_DIMENSIONS:
        raise ValueError(f"IDX files hold uint8 of 1 to {MOST_DIMENSIONS} dimensions, not {array.dtype} {array.shape}")
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, UNSIGNED_BYTE, array.ndim, *array.shape)
    with atomic_path(path) as temporary:
        temporary.write_bytes(header + array.tobytes())


def check_mnist(folder: str | Path, split: str) -> tuple[int, int, int]:
    """Check the two files of `split` (train or test) in `folder`/`split` and return the images' shape, (N, 28, 28).

    This reads the two headers and the labels, not the pixels, so it costs about a millisecond.

    Raises:
        UserError: a file is missing or damaged, or images and labels don't belong together.
    """
    images, labels = (Path(folder) / split / name for name in MNIST_NAMES[split])
    prepare = f"`python scripts/prepare_data.py --dataset mnist --out {folder}`"

    missing = [str(path) for path in (images, labels) if not path.is_file()]
    if missing:
        raise UserError(f"missing {' and '.join(missing)}: {prepare} downloads or imports them")

    with _opened(images) as stream:
        shape = _read_header(stream, images)
    if len(shape) != 3 or shape[1:] != (28, 28):
        raise UserError(f"{images} holds an array of {_times(shape)}, not images of 28x28 (Nx28x28): {REMEDY}")
    digits = read_idx(labels)
    if digits.ndim != 1:
        raise UserError(f"{labels} holds an array of {_times(digits.shape)}, not one label per image: {REMEDY}")
    if len(digits) != shape[0]:
        raise UserError(
            f"{images} holds {shape[0]} images but {labels} {len(digits)} labels: make both again with {prepare}"
        )
    if digits.max() > 9:
        at = int(np.argmax(digits > 9))
        raise UserError(f"{labels} holds the label {digits[at]} (for image {at}), but digits end at 9: {REMEDY}")
    return shape[0], 28, 28


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[BinaryIO]:
    """Open `path` for reading; the operating system's refusals become a `UserError`."""
    try:
        with open(path, "rb") as stream:
            yield stream
    except FileNotFoundError as error:
        raise UserError(f"missing {path}: `python scripts/prepare_data.py --dataset mnist` makes it") from error
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): is it a file, and readable for you?") from error


def _read_header(stream: BinaryIO, path: str | Path) -> tuple[int, ...]:
    """Read the header, leave `stream` at the first element and return the shape, which agrees with the file's size."""
    start = stream.read(4)
    if start[:2] == b"\x1f\x8b":
        raise UserError(f"{path} is still packed by gzip: unpack it, or {REMEDY}")
    if len(start) < 4 or start[:3] != bytes([0, 0, UNSIGNED_BYTE]) or not 1 <= start[3] <= MOST_DIMENSIONS:
        magic = start.hex() or "nothing"
        raise UserError(f"{path} is not an IDX file: it starts with {magic}, not with 00000801 or 00000803: {REMEDY}")
    sizes = stream.read(4 * start[3])
    if len(sizes) < 4 * start[3]:
        raise UserError(f"{path} is truncated: it ends within its header: {REMEDY}")
    shape = struct.unpack(f">{start[3]}I", sizes)
    expected, present = math.prod(shape), os.fstat(stream.fileno()).st_size - stream.tell()
    if expected == 0:
        raise UserError(f"{path} is empty: its header says {_times(shape)}: {REMEDY}")
    if expected != present:
        what = "truncated" if present < expected else "too long"
        raise UserError(
            f"{path} is {what}: its header says {_times(shape)} = {expected} bytes, but {present} follow: {REMEDY}"
        )
    return shape


def _times(shape: tuple[int, ...]) -> str:
    """Write a shape as people do: 60000x28x28."""
    return "x".join(map(str, shape))
