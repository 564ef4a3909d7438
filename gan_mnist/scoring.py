"""Asking a trained discriminator how real images look to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn

from gan_mnist import checkpoint, imaging, runtime
from gan_mnist.config import Device
from gan_mnist.data import Images
from gan_mnist.errors import UserError

BATCH = 1000


def score_files(
    ckpt: Path, paths: Sequence[Path], *, device: Device, invert: bool, label: int | None = None
) -> list[tuple[str, float]]:
    """D's probability that each image in the files is real.

    Args:
        ckpt: a discriminator's checkpoint.
        paths: pictures, or .npy arrays of images or of points.
        device: where to compute.
        invert: swap black and white first: MNIST's digits are white on black, a scanned page is not.
        label: what the images show, for a D that judges images of a class; None: whatever it finds likeliest.

    Returns:
        (name, probability) of every image, in order; images of an array are named `file.npy[3]`.

    Raises:
        UserError: a file or the device can't be used.
    """
    runtime.start(device, seed=0)
    D, spec = checkpoint.load_network(ckpt, "discriminator")
    if spec.pack > 1:
        raise UserError(f"{ckpt}: this discriminator judges packs of {spec.pack} images at once, and no single ones")
    if spec.on_points and invert:
        raise UserError(f"--invert: {ckpt} judges points, which have no black and white; leave it out")
    known = getattr(D, "classes", 0)
    if label is not None and label >= known:
        why = f"knows the classes 0 to {known - 1}" if known else "is told no class"
        raise UserError(f"--label {label}: {ckpt} {why}; leave it out")
    classes = range(known) if label is None else [label]
    scored = []
    for file in paths:
        if spec.on_points:
            images = read_points(file, coordinates=spec.image_shape[0])
        else:
            images = read_images(file, shape=spec.image_shape)
        images = 255 - images if invert else images
        if known:
            asked = [score(D, images, np.full(len(images), number, np.int32)) for number in classes]
            probabilities = np.max(asked, axis=0)
        else:
            probabilities = score(D, images)
        names = [str(file)] if file.suffix != ".npy" else [f"{file}[{index}]" for index in range(len(images))]
        scored += list(zip(names, probabilities.tolist()))
    return scored


def score(D: nn.Cell, images: np.ndarray, labels: np.ndarray | None = None, *, pack: int = 1) -> np.ndarray:
    """D's probability that each image, or each pack of images, is real.

    Args:
        D: a discriminator.
        images: uint8 (N, H, W), or (N, H, W, 3) in colour; or points, float32 (N, coordinates).
        labels: (N / pack,) int32, for one that is told the class.
        pack: how many images D judges at once; divides N.

    Returns:
        (N / pack,) float32 in [0, 1].
    """
    D.set_train(False)
    x = Images(images, np.zeros(len(images), np.uint8)).inputs(np.arange(len(images)))  # (N, C, H, W) in [-1, 1]
    x = x.reshape(len(x) // pack, -1, *x.shape[2:])
    arrays = (x,) if labels is None else (x, labels)
    batches = [[ms.Tensor(array[start : start + BATCH]) for array in arrays] for start in range(0, len(x), BATCH)]
    return np.concatenate([D(*batch).asnumpy()[:, 0] for batch in batches])


def read_images(path: Path, *, shape: tuple[int, int, int]) -> np.ndarray:
    """Read a picture of any size and format, or a .npy array of images.

    Args:
        path: a picture, or an array of uint8, or of floats in [0, 1] or [-1, 1]: (N, H, W), (N, 1, H, W) or (H, W); in
            colour (N, H, W, 3), (N, 3, H, W) or (H, W, 3).
        shape: (channels, height, width) of D's images; pictures are made grey or coloured, and resized to it.

    Returns:
        uint8 (N, height, width), or (N, height, width, 3) in colour.

    Raises:
        UserError: the file is missing, damaged, or holds no such images.
    """
    channels, height, width = shape
    if path.suffix != ".npy":
        return imaging.read_image(path, size=(height, width), channels=channels)[None]
    array = _read_array(path)
    expected = (height, width) if channels == 1 else (height, width, channels)
    if array.ndim == len(expected):
        array = array[None]
    if array.shape[1:] == shape:  # Channels first.
        array = array[:, 0] if channels == 1 else array.transpose(0, 2, 3, 1)
    if array.shape[1:] != expected or len(array) == 0:
        needed = ", ".join(map(str, expected))
        raise UserError(f"{path}: its shape is {array.shape}; images of shape (N, {needed}) are needed")
    if array.dtype == np.uint8:
        return np.asarray(array)
    if array.dtype.kind != "f" or not np.isfinite(array).all() or np.abs(array).max() > 1:
        raise UserError(f"{path}: its values are {array.dtype}; uint8 in [0, 255] or floats in [-1, 1] are needed")
    return imaging.to_uint8(array if array.min() < 0 else array * 2 - 1)


def read_points(path: Path, *, coordinates: int) -> np.ndarray:
    """Read a .npy array of points, (N, coordinates) finite floats.

    Raises:
        UserError: the file is missing, damaged, or holds no such points.
    """
    wanted = f"a .npy array of floats (N, {coordinates})"
    if path.suffix != ".npy":
        raise UserError(f"{path}: this discriminator judges points, not pictures; give it {wanted}")
    array = _read_array(path)
    if array.ndim != 2 or array.shape[1] != coordinates or len(array) == 0:
        raise UserError(f"{path}: its shape is {array.shape}; {wanted} is needed")
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise UserError(f"{path}: its values are not finite floats ({array.dtype}); {wanted} is needed")
    return np.asarray(array)


def _read_array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")  # A pickle could run code; a map reads no false sizes.
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # NumPy reads the header with Python's tokenizer, which has errors of its own.
        raise UserError(f"{path}: cannot be read as a NumPy array ({error})") from error
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path}: is an archive of arrays; save a single array with np.save")
    return array
