"""Labelled images in memory, from files that are downloaded, imported or made where they are missing.

`gan_mnist.data.dataset` pairs them with latent codes. Nothing in this file needs MindSpore, so that missing or damaged
data is reported at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from gan_mnist import config
from gan_mnist.data import digits, faces, idx, pictures, prepare, toys
from gan_mnist.errors import UserError

DEFAULT_FOLDERS = {"mnist": "MNIST_Data", "digits": "MNIST_Data/digits", "images": "MNIST_Data/faces.zip"}


class Images(NamedTuple):
    """A labelled set of images in memory; the points of a toy data set are images of 1x1, a channel a coordinate."""

    pixels: np.ndarray
    """uint8 (count, height, width), or (count, height, width, 3) in colour; or points, float32 (count, coordinates)."""
    labels: np.ndarray
    """uint8, (count,)."""
    scale: config.Scale = "symmetric"
    """Of the pixels, as the networks take them."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        if self.pixels.ndim == 2:
            return self.pixels.shape[1], 1, 1
        _, height, width, *channels = self.pixels.shape
        return (channels[0] if channels else 1), height, width

    def inputs(self, chosen: np.ndarray) -> np.ndarray:
        """The chosen images as the networks take them: float32 (N, C, H, W); pixels in [-1, 1], as G's Tanh."""
        x = self.pixels[chosen].astype(np.float32)
        if self.pixels.dtype == np.uint8:  # In place: new arrays of this size cost four times as much as the sums.
            if self.scale == "symmetric":
                x -= 127.5
                x /= 127.5
            else:
                x /= 255
        if x.ndim == 4:
            x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        return x.reshape(-1, *self.shape)


def load_images(data: config.Data, split: str = "train") -> Images:
    """Read a split of the configured data set, after downloading or making its files if they are missing.

    Args:
        data: the `data` section of the configuration.
        split: `train` or `test`.

    Raises:
        UserError: files are missing and can't be downloaded, or are damaged; or a folder is named for data without one.
    """
    if data.dataset in toys.TOYS:
        if data.folder is not None:
            raise UserError(f"data.folder is {data.folder!r}, but {data.dataset} is drawn and not read; leave it out")
        points, modes = toys.load(data.dataset, split)
        return Images(points[: data.limit], modes[: data.limit])
    folder = Path(data.folder or DEFAULT_FOLDERS[data.dataset])
    if data.dataset == "images":
        if split != "train":
            raise UserError("data.dataset=images has no test images, which checkpoint.keep=best needs; keep 5 or all")
        if data.folder is None:
            faces.ensure_faces(folder)
        images = Images(*pictures.load_pictures(folder, size=data.image_size, channels=data.channels))
    else:
        if data.dataset == "digits":
            digits.ensure_digits(folder)
        else:
            prepare.ensure_mnist(folder)
        images = read_images(folder, split)
    return Images(images.pixels[: data.limit], images.labels[: data.limit], data.scale)


def image_shape(data: config.Data) -> tuple[int, int, int]:
    """(channels, height, width) of the configured data set's images, without reading them."""
    if data.dataset in toys.TOYS:
        return toys.TOYS[data.dataset].shape
    return (data.channels, data.image_size, data.image_size) if data.dataset == "images" else (1, 28, 28)


def read_images(folder: Path, split: str) -> Images:
    """Read `folder`/train or `folder`/test in the MNIST layout.

    Raises:
        UserError: a file is missing, damaged, or does not fit the other one.
    """
    idx.check_mnist(folder, split)
    pixels, labels = (idx.read_idx(folder / split / name) for name in idx.MNIST_NAMES[split])
    return Images(pixels, labels)
