"""Asking a trained discriminator how real images look to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn

from gan_mnist import checkpoint, imaging, runtime
from gan_mnist.config import Device
from gan_mnist.errors import UserError

BATCH = 1000


def score_files(
    ckpt: Path, paths: Sequence[Path], *, device: Device, invert: bool, label: int | None = None
) -> list[tuple[str, float]]:
    """D's probability that each image in the files is real.

    Args:
        ckpt: a discriminator's checkpoint.
        paths: pictures, or .npy arrays of images.
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
    known = getattr(D, "classes", 0)
    if label is not None and label >= known:
        why = f"knows the classes 0 to {known - 1}" if known else "is told no class"
        raise UserError(f"--label {label}: {ckpt} {why}; leave it out")
    classes = range(known) if label is None else [label]
    scored = []
    for file in paths:
        images = read_images(file, size=spec.image_shape[1:])
        images = 255 - images if invert else images
        if known:
            asked = [score(D, images, np.full(len(images), number, np.int32)) for number in classes]
            probabilities = np.max(asked, axis=0)
        else:
            probabilities = score(D, images)
        names = [str(file)] if file.suffix != ".npy" else [f"{file}[{index}]" for index in range(len(images))]
        scored += list(zip(names, probabilities.tolist()))
    return scored


def score(D: nn.Cell, images: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    """D's probability that each image is real.

    Args:
        D: a discriminator.
        images: uint8 (N, H, W), or (N, pack, H, W) for one that judges packs of images.
        labels: (N,) int32, for one that is told the class.

    Returns:
        (N,) float32 in [0, 1].
    """
    D.set_train(False)
    x = (images.astype(np.float32) - 127.5) / 127.5
    x = x[:, None] if x.ndim == 3 else x  # (N, C, H, W) in [-1, 1]
    arrays = (x,) if labels is None else (x, labels)
    batches = [[ms.Tensor(array[start : start + BATCH]) for array in arrays] for start in range(0, len(x), BATCH)]
    return np.concatenate([D(*batch).asnumpy()[:, 0] for batch in batches])


def read_images(path: Path, *, size: tuple[int, int]) -> np.ndarray:
    """Read a picture of any size and format, or a .npy array of images.

    Args:
        path: a picture, or an array (N, H, W), (N, 1, H, W) or (H, W) of uint8, or of floats in [0, 1] or [-1, 1].
        size: (height, width) of D's images; pictures are resized to it.

    Returns:
        uint8 (N, height, width).

    Raises:
        UserError: the file is missing, damaged, or holds no such images.
    """
    if path.suffix != ".npy":
        return imaging.read_image(path, size=size)[None]
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")  # A pickle could run code; a map reads no false sizes.
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # NumPy reads the header with Python's tokenizer, which has errors of its own.
        raise UserError(f"{path}: cannot be read as a NumPy array ({error})") from error
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path}: is an archive of arrays; save a single array with np.save")
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 3 or array.shape[1:] != size or len(array) == 0:
        raise UserError(f"{path}: its shape is {array.shape}; images of shape (N, {size[0]}, {size[1]}) are needed")
    if array.dtype == np.uint8:
        return np.asarray(array)
    if array.dtype.kind != "f" or not np.isfinite(array).all() or np.abs(array).max() > 1:
        raise UserError(f"{path}: its values are {array.dtype}; uint8 in [0, 255] or floats in [-1, 1] are needed")
    return imaging.to_uint8(array if array.min() < 0 else array * 2 - 1)
