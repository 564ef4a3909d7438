"""The embedded digits: MNIST's format, the same bytes every time, no digit in both splits."""

from pathlib import Path

import numpy as np
import pytest

from gan_mnist.data import digits
from gan_mnist.data.idx import check_mnist, read_idx


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One copy of every digit."""
    folder = tmp_path_factory.mktemp("digits")
    digits.prepare_digits(folder, copies=1)
    return folder


def test_format_and_counts(folder: Path) -> None:
    assert check_mnist(folder, "train") == (1500, 28, 28)
    assert check_mnist(folder, "test") == (297, 28, 28)
    labels = read_idx(folder / "train" / "train-labels-idx1-ubyte")
    assert np.bincount(labels, minlength=10).min() > 140


def test_looks_like_mnist(folder: Path) -> None:
    images = read_idx(folder / "train" / "train-images-idx3-ubyte")
    assert 0.75 < np.mean(images == 0) < 0.85  # MNIST: 0.81
    assert 0.05 < np.mean(images > 250) < 0.15  # MNIST: 0.07
    assert np.all(images.max(axis=(1, 2)) > 200)


def test_same_bytes_every_time(folder: Path, tmp_path: Path) -> None:
    digits.prepare_digits(tmp_path, copies=1)
    for path in folder.rglob("*-ubyte"):
        assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes()


def test_copies_differ_but_keep_their_label(tmp_path: Path) -> None:
    digits.prepare_digits(tmp_path, copies=2)
    images = read_idx(tmp_path / "test" / "t10k-images-idx3-ubyte").reshape(2, 297, 28, 28)
    labels = read_idx(tmp_path / "test" / "t10k-labels-idx1-ubyte").reshape(2, 297)
    assert np.array_equal(labels[0], labels[1])
    assert np.all(np.any(images[0] != images[1], axis=(1, 2)))


def test_ensure_keeps_what_is_valid_and_mends_what_is_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    monkeypatch.setattr(digits, "prepare_digits", made.append)
    digits.ensure_digits(folder)
    assert made == []
    digits.ensure_digits(folder / "empty")
    assert made == [folder / "empty"]


def test_leftovers_of_a_kill_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / "train" / ".train-images-idx3-ubyte.partial-00"
    leftover.parent.mkdir()
    leftover.write_bytes(b"half")
    digits.prepare_digits(tmp_path, copies=1)
    assert not leftover.exists()
    assert check_mnist(tmp_path, "train") == (1500, 28, 28)
