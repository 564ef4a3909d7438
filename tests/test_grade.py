"""Handed-in runs: sound ones pass, and each way of tampering is noticed."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_mnist import grading
from gan_mnist.config import load
from gan_mnist.errors import UserError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / "handed_in"))


def grade(run: Path) -> dict[str, str]:
    return grading.grade(run, asked=None, device="CPU", data=None).cells


def test_a_sound_run_passes_and_the_table_says_so(
    trained_run: Path, cli_here: Callable[..., None], tmp_path: Path
) -> None:
    own = trained_run / "config.yaml"
    cli_here(
        "grade", "--config", own, trained_run, tmp_path / "missing", "--device", "CPU", "--out", tmp_path / "g.csv"
    )
    with open(tmp_path / "g.csv", encoding="utf-8-sig", newline="") as table:
        sound, missing = csv.DictReader(table)
    assert sound["run"] == str(trained_run) and sound["epochs"] == "2"
    assert [sound[name] for name in ("complete", "as_asked", "checkpoints", "samples")] == ["yes"] * 4
    assert (sound["remarks"], sound["parzen"]) == ("", "")  # Digits have no published measures.
    assert "no such file" in missing["remarks"] and missing["complete"] == ""


def test_other_settings_are_named(run: Path) -> None:
    asked = load(run / "config.yaml", ["optim_d.lr=1e-3", "train.epochs=5", "name=other"])
    cells = grading.grade(run, asked=asked, device="CPU", data=None).cells
    assert (cells["as_asked"], cells["complete"]) == ("no", "no")
    assert "optim_d.lr is 0.0002, asked was 0.001" in cells["remarks"]
    assert "lacks 3 of 5 epochs, first 2" in cells["remarks"]
    assert "name" not in cells["remarks"]


def test_a_generator_of_another_epoch_is_noticed(run: Path) -> None:
    shutil.copy(run / "checkpoints" / "Generator0.ckpt", run / "checkpoints" / "Generator1.ckpt")
    cells = grade(run)
    assert (cells["checkpoints"], cells["samples"]) == ("no", "no")
    assert "Generator1.ckpt is not what the run's TrainState.ckpt holds" in cells["remarks"]
    assert "epoch_0001.png does not show what Generator1.ckpt draws" in cells["remarks"]


def test_a_painted_grid_is_noticed(run: Path) -> None:
    picture = run / "images" / "epoch_0001.png"
    pixels = np.asarray(Image.open(picture)).copy()
    pixels[10:20, 10:20] = 255
    Image.fromarray(pixels).save(picture)
    assert (grade(run)["checkpoints"], grade(run)["samples"]) == ("yes", "no")


def test_what_is_missing_is_named(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"status": "interrupted"}))
    (run / "images" / "epoch_0000.png").unlink()
    for path in (run / "checkpoints").glob("TrainState*"):
        path.unlink()
    cells = grade(run)
    assert (cells["complete"], cells["checkpoints"], cells["samples"]) == ("no", "no", "yes")
    for words in ("its status is interrupted", "images/ lacks 1 of 2 epochs, first 0", "there is no TrainState.ckpt"):
        assert words in cells["remarks"]


def test_a_state_of_another_moment_is_said_to_be_one(run: Path) -> None:
    shutil.copy(run / "checkpoints" / "TrainState.previous.ckpt", run / "checkpoints" / "TrainState.ckpt")
    assert "TrainState.ckpt is of epoch 1, step 0, not of the end of 1" in grade(run)["remarks"]


def test_a_damaged_checkpoint_is_a_remark(run: Path) -> None:
    path = run / "checkpoints" / "Generator1.ckpt"
    path.write_bytes(path.read_bytes()[:-100])
    cells = grade(run)
    assert "Generator1.ckpt: " in cells["remarks"] and cells["checkpoints"] != "yes"


def test_bad_arguments_are_refused(cli_here: Callable[..., None]) -> None:
    with pytest.raises(UserError, match="which runs"):
        cli_here("grade")
    with pytest.raises(UserError, match="train.epochs=3 changes a recipe, but there is none"):
        cli_here("grade", "train.epochs=3", "result/mnist")
