"""Arrays to pictures: grids, strips, GIFs and curves. Needs no MindSpore; every file is written atomically."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import imageio.v3 as imageio
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gan_mnist import files
from gan_mnist.errors import UserError

MOST_PIXELS = 2**25
"""Of a picture that is read: a header may claim any size."""


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Images in [-1, 1] -> uint8 in [0, 255], same shape, rounded and clipped."""
    return np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)


def grid(images: np.ndarray, *, rows: int, columns: int, scale: int = 2, gap: int = 2) -> np.ndarray:
    """Lay out images in rows, enlarged and with white gaps.

    Args:
        images: uint8 (rows*columns, H, W) or (rows*columns, H, W, 3); missing ones at the end stay black.
        rows: number of rows.
        columns: number of columns.
        scale: each pixel becomes scale x scale.
        gap: white pixels between and around the images.

    Returns:
        uint8 (height, width) or (height, width, 3).
    """
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = images.shape[1] + gap, images.shape[2] + gap
    sheet = np.full((rows * height + gap, columns * width + gap, *images.shape[3:]), 255, np.uint8)
    for index in range(rows * columns):
        top, left = gap + index // columns * height, gap + index % columns * width
        cell = images[index] if index < len(images) else 0
        sheet[top : top + height - gap, left : left + width - gap] = cell
    return sheet


def cells(sheet: np.ndarray, *, rows: int, columns: int, scale: int = 2, gap: int = 2) -> np.ndarray:
    """The images of a `grid` again, uint8 (rows*columns, H, W) or (rows*columns, H, W, 3); the arguments are those.

    Raises:
        ValueError: the sheet is no such grid.
    """
    (height, left_over), (width, left_over_too) = (
        divmod(sheet.shape[0] - gap, rows),
        divmod(sheet.shape[1] - gap, columns),
    )
    if left_over or left_over_too or min(height, width) <= gap:
        raise ValueError(f"{sheet.shape} is no grid of {rows} x {columns}")
    inner = sheet[gap:, gap:].reshape(rows, height, columns, width, *sheet.shape[2:]).swapaxes(1, 2)
    return inner[:, :, : height - gap : scale, : width - gap : scale].reshape(
        rows * columns, -(-(height - gap) // scale), -(-(width - gap) // scale), *sheet.shape[2:]
    )


def write_png(path: Path, image: np.ndarray) -> None:
    """Write a uint8 (H, W) or (H, W, 3) image."""
    with files.atomic_path(path) as temporary:
        imageio.imwrite(temporary, image)


def encode_png(image: np.ndarray) -> bytes:
    """A uint8 (H, W) or (H, W, 3) image as the content of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def read_image(path: Path, *, size: tuple[int, int] | None = None, channels: int = 1) -> np.ndarray:
    """Read any picture from a file; see `decode_image`.

    Raises:
        UserError: the file is missing or no picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of damaged metadata: the pixels count.
            return decode_image(path, size=size, channels=channels)
    except FileNotFoundError:
        raise UserError(f"{path}: no such picture") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as a picture ({error})") from error


def decode_image(
    source: Path | IO[bytes], *, size: tuple[int, int] | None = None, channels: int = 1
) -> NDArray[np.uint8]:
    """Any picture as grey uint8 (H, W), or with 3 channels as colour (H, W, 3).

    Transparent parts count as white paper. Of other proportions than `size`, the picture's largest centred part that
    has them is taken; nothing is distorted.

    Args:
        source: a path, or an open file.
        size: (height, width) to resize to; None for the picture's own.
        channels: 1 or 3.

    Raises:
        Exception: it is no sound picture; Pillow's decoders have exceptions of all kinds.
    """
    with Image.open(source) as opened:
        picture: Image.Image = opened
        if picture.width * picture.height > MOST_PIXELS:
            raise ValueError(f"{picture.width} x {picture.height} pixels are too many; make it smaller")
        if picture.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip at 255.
            picture = Image.fromarray(np.clip(np.asarray(picture) / 257, 0, 255).round().astype(np.uint8))
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        picture = picture.convert("L" if channels == 1 else "RGB")
        if size is not None and picture.size != size[::-1]:
            picture = picture.resize(size[::-1], Image.Resampling.LANCZOS, box=_centre(picture, *size))
        return np.asarray(picture)


def _centre(picture: Image.Image, height: int, width: int) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the picture's largest centred part with the proportions height : width."""
    part_width = min(picture.width, picture.height * width / height)
    part_height = min(picture.height, picture.width * height / width)
    left, top = (picture.width - part_width) / 2, (picture.height - part_height) / 2
    return left, top, left + part_width, top + part_height


def caption(image: np.ndarray, text: str) -> np.ndarray:
    """Put a line of text on a white strip above a uint8 (H, W) or (H, W, 3) image."""
    height = 22
    sheet = Image.new("L" if image.ndim == 2 else "RGB", (image.shape[1], image.shape[0] + height), "white")
    sheet.paste(Image.fromarray(image), (0, height))
    ImageDraw.Draw(sheet).text((6, 3), text, fill="black", font=ImageFont.load_default(14))
    return np.asarray(sheet)


def write_gif(path: Path, frames: Sequence[np.ndarray], *, seconds_a_frame: float = 0.1, hold: float = 2.0) -> None:
    """Write uint8 frames of one shape as an endless GIF.

    Args:
        path: where to.
        frames: in order.
        seconds_a_frame: how long each is shown.
        hold: seconds for the last one.
    """
    durations = [seconds_a_frame * 1000] * (len(frames) - 1) + [hold * 1000]
    duration = durations if len(frames) > 1 else durations[0]  # Pillow takes no list for a single frame.
    film = np.stack(frames)
    if film.ndim == 3:  # As colour, since a grey GIF cannot be read back by imageio with Pillow 13; it is no larger.
        film = film[..., None].repeat(3, axis=-1)
    with files.atomic_path(path) as temporary:
        imageio.imwrite(temporary, film, duration=duration, loop=0)
