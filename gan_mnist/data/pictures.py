"""Folders and zips of pictures: decoded once, in parallel, into a file that is mapped into memory.

The archive is never unpacked: its members are decoded in memory, so no path that it names is ever written to. Memory
stays bounded however many pictures there are; 70,000 of 64x64 in colour are a file of 860 MB, of which the operating
system keeps in memory what it has room for.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError
from tqdm import tqdm

from gan_mnist import files, imaging
from gan_mnist.data.prepare import DAMAGE
from gan_mnist.errors import UserError

CACHE = Path("MNIST_Data/pictures")
"""Where decoded pictures are kept."""
VERSION = 1
"""Of the decoding: another one decodes anew."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""Files with other names are no pictures, and no fault."""
LARGEST_FILE = 64 * 2**20
"""Bytes of a picture's file, unpacked."""
MOST_THREADS = 8
"""That decode at once; Pillow and zlib let one another run. Each may hold a picture of `imaging.MOST_PIXELS`."""
PORTION = 512
"""Pictures that are in work or wait to be written."""
MOST_NAMED = 5
"""Broken pictures that are listed on the console."""
MOST_LABELS = 256

Contents = dict[str, tuple[int, int]]
"""A picture's name -> what changes when it does: size and time of its last change, or size and CRC-32 in a zip."""


def load_pictures(
    source: str | Path, *, size: int, channels: int, cache: Path = CACHE
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read all pictures of a folder or zip, subfolders included, in the order of their names.

    Of a picture, the largest centred square is taken and resized (Lanczos); transparent parts count as white. Broken
    ones are named on stderr and left out. What has been decoded is kept in `cache`, and decoded again when a picture's
    name, size or time has changed.

    Args:
        source: a folder or a zip.
        size: height and width to resize to.
        channels: 1 for grey, 3 for colour.
        cache: a folder.

    Returns:
        Pixels (count, size, size), in colour (count, size, size, 3), mapped from a file; and labels (count,), see
        `label`.

    Raises:
        UserError: there is no such folder or zip, it is damaged, or holds no picture that can be read; or the cache
            can't be written.
    """
    source = Path(source)
    with _opened(source) as (contents, read):
        if not contents:
            raise UserError(f"data.folder={source}: holds no pictures ({', '.join(SUFFIXES)})")
        names = sorted(contents)
        key = hashlib.sha256(json.dumps([VERSION, size, channels, sorted(contents.items())]).encode()).hexdigest()
        place = hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:8]
        path = cache / f"{source.stem}-{channels}x{size}x{size}-{place}.bin"
        shape = (size, size) if channels == 1 else (size, size, channels)
        decoded = _read(path, key, shape)
        if decoded is None:
            _decode(names, read, path, key, shape)
            decoded = _read(path, key, shape)
        if decoded is None:
            raise UserError(f"{path}: is not what was just written to it; choose another place to work in")

    pixels, broken = decoded
    if broken:
        listed = "; ".join(f"{name}: {reason}" for name, reason in list(broken.items())[:MOST_NAMED])
        more = f"; and {len(broken) - MOST_NAMED:,} more, see {path.with_suffix('.json')}"
        more = more if len(broken) > MOST_NAMED else ""
        print(f"warning: {source}: skipped {len(broken):,} of {len(names):,} pictures: {listed}{more}", file=sys.stderr)
    if not len(pixels):
        raise UserError(f"data.folder={source}: none of its {len(names):,} pictures can be read")
    return pixels, label(names)[[name not in broken for name in names]]


def label(names: list[str]) -> NDArray[np.uint8]:
    """The number of each picture's folder, among the sorted ones: flowers/rose/1.png 0, flowers/tulip/1.png 1.

    It is the first folder below the one that all pictures share; so all labels are 0 where there is only one, and also
    where there are more folders than a label can count.
    """
    folders = [PurePosixPath(name).parent.parts for name in names]
    shared = len(os.path.commonprefix(folders))
    classes, labels = np.unique([folder[shared] if folder[shared:] else "" for folder in folders], return_inverse=True)
    if len(classes) > MOST_LABELS:
        print(f"warning: {len(classes):,} subfolders are too many for labels; all pictures get 0", file=sys.stderr)
        labels = np.zeros_like(labels)
    return labels.astype(np.uint8)


def is_picture(name: str) -> bool:
    """Whether a file of this name should be a picture: not hidden, and with a picture's suffix."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") and part != ".." or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[tuple[Contents, Callable[[str], bytes]]]:
    """The pictures of a folder or zip, and how to read one of them, which may be done by several threads at once."""
    if source.is_dir():
        found = {path.relative_to(source).as_posix(): path for path in source.rglob("*") if path.is_file()}
        stats = {name: path.stat() for name, path in found.items() if is_picture(name)}

        def read_file(name: str) -> bytes:
            with open(source / name, "rb") as file:
                return file.read(LARGEST_FILE + 1)

        yield {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}, read_file
    elif source.is_file():
        try:
            archive = zipfile.ZipFile(source)
        except DAMAGE as error:
            raise UserError(f"data.folder={source}: neither a folder nor a sound zip ({error})") from error

        def read_member(name: str) -> bytes:
            with archive.open(name) as file:
                return file.read(LARGEST_FILE + 1)

        with archive:
            members = [member for member in archive.infolist() if is_picture(member.filename)]
            yield {member.filename: (member.file_size, member.CRC) for member in members}, read_member
    else:
        raise UserError(f"data.folder={source}: there is no such folder or zip")


def _read(path: Path, key: str, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], dict[str, str]] | None:
    """What was decoded earlier, and the broken pictures with their faults; None if it is missing, old or damaged."""
    try:
        index = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if index["key"] != key:
            return None
        if index["count"] == 0:
            return np.zeros((0, *shape), np.uint8), index["broken"]
        pixels = np.memmap(path, np.uint8, "r", shape=(index["count"], *shape))
        sound = zlib.crc32(pixels.data) == index["crc32"]
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return (pixels, index["broken"]) if sound else None


def _decode(names: list[str], read: Callable[[str], bytes], path: Path, key: str, shape: tuple[int, ...]) -> None:
    """Decode the pictures into `path`, one behind the other, and describe it in a .json beside it."""
    channels = 1 if len(shape) == 2 else 3

    def decode(name: str) -> NDArray[np.uint8] | str:
        try:
            content = read(name)
            if len(content) > LARGEST_FILE:
                return f"more than {LARGEST_FILE / 1e6:.0f} MB"
            return imaging.decode_image(io.BytesIO(content), size=(shape[0], shape[1]), channels=channels)
        except UnidentifiedImageError:
            return "no picture" if content else "empty"
        except Exception as error:  # Of all kinds, from Pillow's decoders and from zipfile.
            return " ".join(str(error).split()) or type(error).__name__

    count, crc = 0, 0
    broken: dict[str, str] = {}
    with (
        files.atomic_path(path) as temporary,
        open(temporary, "wb") as file,
        ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool,
        tqdm(total=len(names), desc="decoding", unit="picture", leave=False, disable=None) as progress,
        warnings.catch_warnings(),  # Around the threads, as filters belong to the process.
    ):
        warnings.simplefilter("ignore")  # Of damaged metadata: the pixels count.
        for start in range(0, len(names), PORTION):
            portion = names[start : start + PORTION]
            for name, decoded in zip(portion, pool.map(decode, portion), strict=True):
                if isinstance(decoded, str):
                    broken[name] = decoded
                else:
                    pixels = decoded.tobytes()
                    file.write(pixels)
                    crc = zlib.crc32(pixels, crc)
                    count += 1
                progress.update()
    index = {"key": key, "count": count, "crc32": crc, "broken": broken}
    files.write_text(path.with_suffix(".json"), json.dumps(index))
