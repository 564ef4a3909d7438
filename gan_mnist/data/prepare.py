"""Fetch MNIST's four files: from the web, a folder, a zip or a URL, verified by SHA-256, written atomically.

Nothing that is offered is trusted: never more than a file's known size is unpacked, archive members are chosen by
their name alone, and only contents with the right hash are written.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import io
import queue
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from gan_mnist.errors import UserError
from gan_mnist.files import remove_leftovers, write_bytes


class DataFile(NamedTuple):
    """One unpacked file of the data set."""

    split: str
    name: str
    size: int  # bytes
    sha256: str

    def within(self, folder: Path) -> Path:
        """Where the file belongs."""
        return folder / self.split / self.name


MNIST_FILES: tuple[DataFile, ...] = (
    DataFile(
        "train",
        "train-images-idx3-ubyte",
        47_040_016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    DataFile(
        "train",
        "train-labels-idx1-ubyte",
        60_008,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    DataFile(
        "test",
        "t10k-images-idx3-ubyte",
        7_840_016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    DataFile(
        "test",
        "t10k-labels-idx1-ubyte",
        10_008,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)

MIRRORS: tuple[str, ...] = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
    "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/MNIST_Data.zip",
)

PATIENCE = 10.0
"""Seconds in which a mirror must answer; all are asked at once, so this is also what a dead network costs."""
CONNECT_TIMEOUT, STALL_TIMEOUT = 5.0, 20.0  # seconds
ATTEMPTS = 3
"""Downloads of one file from one mirror, if the transfer breaks off."""
PAUSE = 1.0
"""Seconds before the second attempt; twice that before the third."""
LARGEST_ARCHIVE = 64 * 2**20
"""Bytes; MNIST has 55 MB unpacked."""

Offers = Iterator[tuple[str, Callable[[], IO[bytes]]]]
"""What a source has under a file's name, packed or not: where it is, and how to open it (seekable)."""
Source = Callable[[DataFile], Offers]

DAMAGE = (OSError, EOFError, RuntimeError, ValueError, struct.error, zlib.error, zipfile.BadZipFile)
"""What reading a damaged, encrypted or forged gzip or zip raises."""


class SourceError(Exception):
    """Why a source can't serve: another one may."""


def prepare_mnist(folder: str | Path, *, source: str | None = None) -> None:
    """Put MNIST's four files into `folder`/train and `folder`/test; those that are there and right stay as they are.

    `source` is a folder, a zip, or an http(s) or file URL of either; files in it may be packed by gzip, and lie flat,
    in train/ and test/ or in MNIST_Data/. Without it, files that the user placed in `folder` itself serve, then
    `MIRRORS` in turn. What was complete when an attempt fails is kept, and nothing is half-written.

    Raises:
        UserError: no source serves, or `folder` can't be written.
    """
    folder = Path(folder)
    wanted = []
    for file in MNIST_FILES:
        remove_leftovers(file.within(folder).parent)
        if _is_right(file, folder):
            print(f"{file.within(folder)}: already there, verified")
        else:
            wanted.append(file)
    if not wanted:
        return

    here, reason = "", "no mirror answered"
    for place in [source] if source is not None else _places(folder, wanted[0]):
        try:
            with _opened(place) as offers_of:
                while wanted:
                    _import(wanted[0], folder, offers_of(wanted[0]))
                    del wanted[0]
            return
        except SourceError as error:
            if source is None and place == str(folder):
                here = f" ({error})"
            else:
                reason = str(error)
            if place in MIRRORS:
                print(f"{place}: {error}")

    names = ", ".join(file.name for file in MNIST_FILES)
    if source is not None:
        raise UserError(f"--source {source}: {reason}; give a folder or zip that holds {names} (with .gz or not)")
    raise UserError(
        f"MNIST is not in {folder}{here} and could not be downloaded ({reason}): place {names} (with .gz or not) in "
        f"{folder} and start again, or, if a folder DIR has them, run `python scripts/prepare_data.py --dataset mnist "
        f"--source DIR`; configs/quickstart.yaml runs without any download"
    )


def ensure_mnist(folder: str | Path) -> None:
    """Return at once if MNIST's four files are in `folder` (unread: `check_mnist` looks into them), else prepare them.

    Nothing is prepared around files that are not MNIST's own: they may be the user's data.

    Raises:
        UserError: as `prepare_mnist`.
    """
    folder = Path(folder)
    present = [file for file in MNIST_FILES if file.within(folder).exists()]
    if len(present) < len(MNIST_FILES) and all(_is_right(file, folder) for file in present):
        prepare_mnist(folder)


def _is_right(file: DataFile, folder: Path) -> bool:
    """Whether `folder` holds `file`, by size and SHA-256 (0.2 s for all of MNIST)."""
    path = file.within(folder)
    try:
        return path.stat().st_size == file.size and _sha256(path.read_bytes()) == file.sha256
    except OSError:
        return False


def _import(file: DataFile, folder: Path, offers: Offers) -> None:
    """Find `file` among what is offered, and write it into `folder`."""
    origin, content = _find(file, offers)
    path = file.within(folder)
    write_bytes(path, content)
    print(f"{path}: written and verified ({file.size:,} bytes from {origin})")
    if origin == f"{path}.gz":  # As gunzip does; MindSpore's MnistDataset would choke on it.
        Path(origin).unlink()


def _find(file: DataFile, offers: Offers) -> tuple[str, bytes]:
    """Return where `file` was found, and its content; offers with any other content are passed over.

    Raises:
        SourceError: none of the offers is `file`; says what was wrong with the last.
    """
    reason = f"{file.name} is not there"
    for origin, opened in offers:
        try:
            with opened() as stream:
                content = _unpacked(stream, file.size)
        except FileNotFoundError:
            continue
        except DAMAGE as error:
            reason = f"{origin} cannot be read ({error})"
            continue
        if len(content) > file.size:
            reason = f"{origin} holds more than the {file.size} bytes of {file.name}"
        elif len(content) < file.size:
            reason = f"{origin} holds {len(content)} bytes, not the {file.size} of {file.name}"
        elif _sha256(content) != file.sha256:
            reason = f"{origin} is not MNIST's (SHA-256 {_sha256(content)[:12]}..., not {file.sha256[:12]}...)"
        else:
            return origin, content
    raise SourceError(reason)


def _unpacked(stream: IO[bytes], size: int) -> bytes:
    """Read `stream`, through gzip if it is packed, but never more than one byte beyond `size`."""
    # By content, not by name: some servers unpack a .gz on the way.
    packed = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    if not packed:
        return stream.read(size + 1)
    with gzip.GzipFile(fileobj=stream) as unpacking:
        return unpacking.read(size + 1)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _places(folder: Path, probe: DataFile) -> Iterator[str]:
    """Yield `folder` itself, then the mirrors that answer (they have `probe`), in their order."""
    import pooch

    if folder.is_dir():
        yield str(folder)

    print("downloading MNIST (11 MB)")
    answers: dict[str, queue.SimpleQueue[bool]] = {mirror: queue.SimpleQueue() for mirror in MIRRORS}

    def ask(mirror: str) -> None:
        url = mirror if _is_zip(mirror) else f"{mirror}/{probe.name}.gz"
        try:
            answers[mirror].put(pooch.HTTPDownloader(timeout=CONNECT_TIMEOUT)(url, None, None, check_only=True))
        except (OSError, ValueError):  # requests' exceptions are OSErrors
            answers[mirror].put(False)

    deadline = time.monotonic() + PATIENCE
    for mirror in MIRRORS:
        # Daemons, because a name look-up in a dead network can neither be limited nor interrupted.
        threading.Thread(target=ask, args=(mirror,), daemon=True).start()
    for mirror in MIRRORS:
        with contextlib.suppress(queue.Empty):
            if answers[mirror].get(timeout=max(0.0, deadline - time.monotonic())):
                yield mirror


@contextlib.contextmanager
def _opened(place: str) -> Iterator[Source]:
    """Open a folder, zip or URL.

    Raises:
        SourceError: there is no such thing.
    """
    try:
        scheme = urlsplit(place).scheme if "://" in place else ""
    except ValueError as error:
        raise SourceError(f"it is not a URL ({error})") from error
    if scheme in ("http", "https") and _is_zip(place):
        with _archive(download(place, LARGEST_ARCHIVE)) as archive:
            yield archive
    elif scheme in ("http", "https"):
        yield functools.partial(_offers_of_url, place)
    elif scheme not in ("", "file"):
        raise SourceError(f"{scheme} URLs are not understood, only http, https and file")
    else:
        path = Path(url2pathname(urlsplit(place).path)) if scheme else Path(place)
        if path.is_dir():
            yield functools.partial(_offers_of_folder, path)
        elif path.is_file():
            with open(path, "rb") as stream, _archive(stream) as archive:
                yield archive
        else:
            raise SourceError("there is no such folder or zip")


@contextlib.contextmanager
def _archive(stream: IO[bytes]) -> Iterator[Source]:
    try:
        archive = zipfile.ZipFile(stream)
    except DAMAGE as error:
        raise SourceError(f"it is neither a folder nor a sound zip ({error})") from error
    with archive:
        yield functools.partial(_offers_of_zip, archive)


def _offers_of_zip(archive: zipfile.ZipFile, file: DataFile) -> Offers:
    for member in archive.infolist():
        # By base name: nothing is ever written where an archive says, `../` or not.
        named = PurePosixPath(member.filename).name in (file.name, f"{file.name}.gz")
        if named and member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            yield member.filename, functools.partial(archive.open, member)


def _offers_of_folder(folder: Path, file: DataFile) -> Offers:
    for name in _names(file):
        path = folder / name
        if path.is_file():
            yield str(path), functools.partial(_open, path)


def _open(path: Path) -> IO[bytes]:
    return open(path, "rb")


def _offers_of_url(url: str, file: DataFile) -> Offers:
    for name in _names(file):
        address = f"{url.rstrip('/')}/{name}"
        # What gzip can't make smaller, it makes a little larger.
        yield address, functools.partial(download, address, file.size + file.size // 100 + 2**16)


def _names(file: DataFile) -> Iterator[str]:
    """Where `file` may lie below a folder or URL; .gz first, which is what the mirrors have."""
    for place in ("", f"{file.split}/", "MNIST_Data/", f"MNIST_Data/{file.split}/"):
        yield f"{place}{file.name}.gz"
        yield f"{place}{file.name}"


def _is_zip(url: str) -> bool:
    return urlsplit(url).path.lower().endswith(".zip")


class _Bounded:
    """A file that ends a download when the server sends more than `limit` bytes."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self.file = file
        self.limit = limit

    def write(self, chunk: bytes) -> int:
        if self.file.tell() + len(chunk) > self.limit:
            raise SourceError(f"the server sends more than {self.limit} bytes")
        return self.file.write(chunk)

    def flush(self) -> None:
        """As Pooch does after every piece."""
        self.file.flush()


def download(url: str, limit: int, file: IO[bytes] | None = None) -> IO[bytes]:
    """Write what `url` holds to a file, at most `limit` bytes; a transfer that breaks off is tried again.

    Args:
        url: http or https.
        limit: bytes.
        file: empty and open for writing; None for one in memory.

    Returns:
        The file, at its beginning.

    Raises:
        FileNotFoundError: the server has no such file.
        SourceError: the server can't be reached, refuses, fails, or sends too much.
    """
    import pooch
    import requests
    from tqdm import tqdm

    reason = ""
    file = file or io.BytesIO()
    for attempt in range(ATTEMPTS):
        time.sleep(attempt * PAUSE)
        file.seek(0)
        file.truncate()
        title = PurePosixPath(urlsplit(url).path).name
        with tqdm(total=limit, desc=title, unit="B", unit_scale=True, leave=False, disable=None) as bar:
            fetch = pooch.HTTPDownloader(progressbar=bar, chunk_size=2**16, timeout=(CONNECT_TIMEOUT, STALL_TIMEOUT))
            try:
                fetch(url, _Bounded(file, limit), None)
            except requests.HTTPError as error:
                status = error.response.status_code if error.response is not None else 0
                if status in (404, 410):
                    raise FileNotFoundError(url) from error
                if status < 500:
                    raise SourceError(f"the server refuses {url} with status {status}") from error
                reason = f"the server fails with status {status}"
            except requests.exceptions.ChunkedEncodingError:
                reason = "the transfer breaks off"
            except (requests.RequestException, ValueError) as error:
                raise SourceError(f"{urlsplit(url).netloc} cannot be reached ({type(error).__name__})") from error
            else:
                file.seek(0)
                return file
    raise SourceError(f"{reason}, {ATTEMPTS} times: {url}")
