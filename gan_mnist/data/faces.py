"""The anime-faces archive: 70,171 heads of 96x96 pixels, which training reads from the zip as it is."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from gan_mnist import files
from gan_mnist.data.pictures import is_picture
from gan_mnist.data.prepare import DAMAGE, SourceError, download
from gan_mnist.errors import UserError

URL = "https://download.mindspore.cn/dataset/Faces/faces.zip"
LARGEST_ARCHIVE, LARGEST_CONTENTS = 2 * 2**30, 8 * 2**30
"""Bytes, packed and unpacked: many times what is expected."""


def prepare_faces(path: str | Path, *, source: str | None = None) -> None:
    """Put the archive at `path`, if it is not there yet, whole.

    Its publisher gives no checksum to compare with, and this project has none of its own. So what is verified is that
    the zip is whole (the CRC-32 of all its members) and holds pictures, not that they are the ones expected.

    Args:
        path: where to.
        source: a zip, or an http(s) or file URL of one; None for `URL`.

    Raises:
        UserError: it can't be had, is damaged, or can't be written.
    """
    path = Path(path)
    files.remove_leftovers(path.parent)
    if path.exists():
        try:
            print(f"{path}: already there, a whole zip of {_verify(path):,} pictures")
            return
        except SourceError as error:
            print(f"{path}: {error}; replacing it")
    place = URL if source is None else source
    try:
        with files.atomic_path(path) as temporary:
            _fetch(place, temporary)
            count = _verify(temporary)
    except SourceError as error:
        if source is not None:
            raise UserError(f"--source {source}: {error}; give a zip of pictures") from error
        raise UserError(
            f"{URL}: {error}; fetch it in another way and run `python scripts/prepare_data.py --dataset faces --source "
            f"ZIP`, or train on pictures of your own with data.folder=FOLDER_OR_ZIP"
        ) from error
    print(f"{path}: written, a whole zip of {count:,} pictures (no checksum of it is published to compare with)")


def ensure_faces(path: str | Path) -> None:
    """Prepare the archive if nothing is at `path`.

    Raises:
        UserError: as `prepare_faces`.
    """
    if not Path(path).exists():
        prepare_faces(path)


def _fetch(place: str, target: Path) -> None:
    """Download or copy."""
    scheme = urlsplit(place).scheme if "://" in place else ""
    if scheme in ("http", "https"):
        print(f"downloading {place}")
        with open(target, "w+b") as file:
            try:
                download(place, LARGEST_ARCHIVE, file)
            except FileNotFoundError as error:
                raise SourceError("the server has no such file") from error
        return
    if scheme not in ("", "file"):
        raise SourceError(f"{scheme} URLs are not understood, only http, https and file")
    zipped = Path(url2pathname(urlsplit(place).path)) if scheme else Path(place)
    if zipped.is_dir():
        raise SourceError(f"it is a folder, which needs no preparation: train with data.folder={zipped}")
    if not zipped.is_file():
        raise SourceError("there is no such zip")
    shutil.copyfile(zipped, target)


def _verify(path: Path) -> int:
    """How many pictures a zip holds.

    Raises:
        SourceError: it is damaged, or holds none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > LARGEST_CONTENTS:
                raise SourceError(f"it unpacks to more than {LARGEST_CONTENTS / 1e9:.0f} GB")
            if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
                raise SourceError("it is packed in an unusual way; pack it again, as a plain zip")
            damaged = archive.testzip()
    except DAMAGE as error:
        raise SourceError(f"it is not a sound zip ({error})") from error
    if damaged is not None:
        raise SourceError(f"{damaged} in it is damaged")
    count = sum(is_picture(member.filename) for member in members)
    if not count:
        raise SourceError("it holds no pictures")
    return count
