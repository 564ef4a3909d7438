"""The IDX format: what is written is read again, and what is damaged is refused in one line."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gan_mnist.data.idx import check_mnist, read_idx, write_idx
from gan_mnist.errors import UserError

IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def header(*shape: int, kind: int = 8) -> bytes:
    """An IDX header."""
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A valid test split of 5 images."""
    write_idx(tmp_path / "test" / IMAGES, np.full((5, 28, 28), 7, np.uint8))
    write_idx(tmp_path / "test" / LABELS, np.array([0, 1, 2, 8, 9], np.uint8))
    return tmp_path


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 28, 28), (2, 3, 4, 5)])
def test_round_trip(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    write_idx(tmp_path / "file", array)
    assert (tmp_path / "file").read_bytes() == header(*shape) + array.tobytes()
    np.testing.assert_array_equal(read_idx(tmp_path / "file"), array)


def test_writes_only_bytes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="float32"):
        write_idx(tmp_path / "file", np.zeros(3, np.float32))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with nothing"),
        (b"<html>captive portal", "not an IDX file: it starts with 3c68746d"),
        (header(3, kind=13) + bytes(12), "not an IDX file"),
        (header(5)[:6], "truncated: it ends within its header"),
        (header(5) + bytes(4), r"truncated: its header says 5 = 5 bytes, but 4 follow"),
        (header(5) + bytes(6), "too long"),
        (header(0, 28, 28), "empty"),
        (header(0, 2**32 - 1, 2**32 - 1), "empty"),
        (header(2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(100), "truncated"),
        (gzip.compress(header(5) + bytes(5), mtime=0), "still packed by gzip"),
    ],
)
def test_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "some-idx"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"some-idx.*{message}.*prepare_data.py --dataset mnist.*delete it"):
        read_idx(path)


def test_missing_file_and_folder_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing .*nowhere"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(UserError, match="cannot read"):
        read_idx(tmp_path)


@settings(max_examples=300, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=64),
        st.builds(
            lambda shape, body: header(*shape) + body,
            st.lists(st.integers(0, 6) | st.integers(0, 2**32 - 1), min_size=1, max_size=6),
            st.binary(max_size=64),
        ),
    )
)
def test_fuzz_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fuzz").write_bytes(content)
    tracemalloc.start()
    try:
        array = read_idx(tmp_path / "fuzz")
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert header(*array.shape) + array.tobytes() == content
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 10**6


def test_valid_split(folder: Path) -> None:
    assert check_mnist(folder, "test") == (5, 28, 28)


def test_missing_files_are_both_named(folder: Path) -> None:
    with pytest.raises(UserError, match="train-images-idx3-ubyte and .*train-labels-idx1-ubyte.*prepare_data.py"):
        check_mnist(folder, "train")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (LABELS, np.zeros(4, np.uint8), "5 images but .* 4 labels"),
        (LABELS, np.array([0, 1, 10, 3, 4], np.uint8), r"label 10 \(for image 2\)"),
        (LABELS, np.zeros((5, 28, 28), np.uint8), "5x28x28, not one label per image"),
        (IMAGES, np.zeros((5, 32, 32), np.uint8), "5x32x32, not images of 28x28"),
        (IMAGES, np.zeros(5, np.uint8), "not images of 28x28"),
    ],
)
def test_files_that_do_not_fit(folder: Path, name: str, array: NDArray[np.uint8], message: str) -> None:
    write_idx(folder / "test" / name, array)
    with pytest.raises(UserError, match=message):
        check_mnist(folder, "test")
