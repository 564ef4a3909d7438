"""Atomic files: complete or absent, and every refusal of the system is one line that names the path."""

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from gan_mnist import files
from gan_mnist.errors import UserError


def test_a_finished_block_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    files.write_text(path, "old")
    with files.atomic_path(path) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".txt" and files.TEMPORARY_MARK in temporary.name
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt(), SystemExit(3)])
def test_an_exception_in_the_block_keeps_the_old_file_and_no_temporary_one(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(type(error)), files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_an_exception_before_anything_is_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError), files.atomic_path(tmp_path / "file.txt"):
        raise ValueError
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EDQUOT, "no space left"),
        (errno.EACCES, "no permission"),
        (errno.EPERM, "no permission"),
        (errno.EROFS, "no permission"),
        (errno.ENOTDIR, "a file stands where a folder is needed"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
@pytest.mark.parametrize("where", ["replace", "fsync", "write"])
def test_the_systems_refusal_is_one_line_that_names_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str, where: str
) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def refuse(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(
        *{"replace": (os, "replace"), "fsync": (os, "fsync"), "write": (Path, "write_bytes")}[where], refuse
    )
    with pytest.raises(UserError, match=message) as refusal:
        files.write_text(path, "new")
    monkeypatch.undo()
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_file_where_a_folder_is_needed_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="taken.*a file stands where a folder is needed"):
        files.write_text(tmp_path / "taken" / "file.txt", "new")


def test_a_folder_where_the_file_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file.txt").mkdir()
    with pytest.raises(UserError, match="file.txt"):
        files.write_text(tmp_path / "file.txt", "new")
    assert os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(UserError, match="no permission"):
            files.write_text(tmp_path / "file.txt", "new")
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_the_content_is_on_the_disk_before_the_file_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (calls.append("fsync"), fsync(number)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    files.write_text(tmp_path / "file.txt", "new")
    assert calls[:2] == ["fsync", "replace"]
    assert calls[2:] == (["fsync"] if os.name == "posix" else [])


def test_json_is_readable_and_ends_its_last_line(tmp_path: Path) -> None:
    files.write_json(tmp_path / "file.json", {"name": "数字", "list": [1, 2.5, None]})
    text = (tmp_path / "file.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"name": "数字", "list": [1, 2.5, None]}
    assert "数字" in text and text.endswith("}\n")


def test_only_leftovers_are_removed(tmp_path: Path) -> None:
    kept = {"file.txt", ".hidden", "notes.partial.txt"}
    for name in [*kept, f".file{files.TEMPORARY_MARK}0a1b2c3d.txt", f".run{files.TEMPORARY_MARK}00000000.json"]:
        (tmp_path / name).write_text("x")
    files.remove_leftovers(tmp_path)
    assert set(os.listdir(tmp_path)) == kept
    files.remove_leftovers(tmp_path / "nowhere")
