"""The Python interface, used as the README says, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli

from gan_mnist import load_generator
from gan_mnist.errors import UserError

EXAMPLE = """
from gan_mnist import load_generator
import numpy as np

G = load_generator({source!r})
images = G.sample(6, seed=1)
print(images.dtype, images.shape)
np.save({out!r}, images)
"""


def test_it_draws_what_sample_draws(cli: Cli, trained_run: Path, tmp_path: Path) -> None:
    cli(
        "sample",
        "--ckpt",
        trained_run / "checkpoints" / "Generator1.ckpt",
        "--count",
        6,
        "--seed",
        1,
        "--out",
        "a.npy",
        cwd=tmp_path,
    )
    example = EXAMPLE.format(source=str(trained_run), out=str(tmp_path / "b.npy"))
    process = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True)
    assert process.stdout == "uint8 (6, 28, 28)\n"
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_importing_the_package_does_not_import_mindspore() -> None:
    code = "import sys, gan_mnist; sys.exit('mindspore' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("source", ["nothing_here", "Generator7.ckpt"])
def test_what_is_not_there_is_refused(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such file here or in result"):
        load_generator(source)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no checkpoints/Generator<E>.ckpt"):
        load_generator("empty")
