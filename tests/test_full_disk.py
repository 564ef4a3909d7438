"""A disk that fills up costs nothing that was saved before. Needs the right to mount a small file system of its own."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gan_mnist.data.digits import prepare_digits

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if not mount or subprocess.run([mount, "-t", "tmpfs", "-o", "size=95m", "tmpfs", folder], check=False).returncode:
        pytest.skip("mounting a file system is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_stops_training_in_one_line_and_what_was_saved_goes_on(tmp_path: Path, small_disk: Path) -> None:
    prepare_digits(tmp_path / "digits", copies=1)
    command = [sys.executable, str(ROOT / "scripts/train.py"), "--config", str(ROOT / "configs/quickstart.yaml")]
    command += ["data.limit=256", "data.batch_size=64", f"data.folder={tmp_path}/digits", "train.epochs=9"]

    full = subprocess.run(command, cwd=small_disk, capture_output=True, text=True, check=False)
    assert full.returncode == 1
    warning, error = full.stderr.splitlines()
    assert warning.startswith("warning: this run will need about 14")
    assert error.startswith("error: no space left to write result/quickstart/checkpoints/")
    assert not list(small_disk.rglob("*.partial-*")), "the half-written file is left"

    for checkpoint in small_disk.glob("result/quickstart/checkpoints/Generator*.ckpt"):
        checkpoint.unlink()
    resumed = subprocess.run(
        [*command, "train.epochs=4", "--resume"], cwd=small_disk, capture_output=True, text=True, check=False
    )
    assert resumed.returncode == 0, resumed.stderr
