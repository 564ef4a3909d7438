"""Files that are complete or absent: temporary file, fsync, rename.

Every file this project leaves behind passes through `atomic_path`, so a kill -9, a full disk or a power cut leaves the
old file or the new one, never half of one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gan_mnist.errors import UserError

TEMPORARY_MARK = ".partial-"
"""In the name of every temporary file; what a kill left behind is recognised (and removed) by it."""


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, the file written there becomes `path`.

    The temporary name keeps the suffix, because image writers choose their format by it. If the block raises, the
    temporary file is removed and `path` stays as it was.

    Raises:
        UserError: the folder can't be written, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}{TEMPORARY_MARK}{secrets.token_hex(4)}{path.suffix}")
    try:
        with file_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with open(temporary, "r+b") as written:  # Windows syncs only what is open for writing.
                os.fsync(written.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content` to `path`, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` to `path` as readable JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def file_errors(path: str | Path) -> Iterator[None]:
    """Turn the operating system's refusals about `path` into a `UserError` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"no space left to write {path}: free some disk space or quota, then go on") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(f"cannot write {path}: no permission; choose another folder or mend its rights") from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise UserError(f"cannot write {path}: a file stands where a folder is needed") from error
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another place") from error


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed process left in `folder`."""
    for leftover in folder.glob(f".*{TEMPORARY_MARK}*"):
        with contextlib.suppress(OSError):
            leftover.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Windows can't open folders, and does not need it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
