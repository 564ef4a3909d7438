"""The report of a run: made from its files alone, whole or as far as it has got."""

import json
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import Image

from gan_mnist import files, imaging, report
from gan_mnist.errors import UserError


def lines(epochs: int, steps: int = 4) -> list[dict[str, Any]]:
    """Metrics as the trainer logs them, with a mean at the end of each epoch."""
    logged: list[dict[str, Any]] = []
    for epoch in range(epochs):
        for step in range(steps):
            values = {"loss_d": 1.4 - 0.1 * epoch, "loss_g": 0.7 + 0.1 * step, "d_real": 0.6, "d_fake": 0.4}
            logged.append({"epoch": epoch, "step": step, **values, "lr_d": 2e-4, "lr_g": 2e-4, "images_per_s": 1e4})
        logged[-1] |= {f"mean_{key}": value for key, value in values.items()}
    return logged


def make_run(folder: Path, *, epochs: int = 3, grids: int | None = None) -> Path:
    """A run directory such as training leaves."""
    run = folder / "some_run"
    files.write_text(run / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines(epochs)))
    files.write_json(run / "run.json", {"status": "finished", "steps_per_epoch": 4})
    for epoch in range(epochs if grids is None else grids):
        imaging.write_png(run / "images" / f"epoch_{epoch:04d}.png", np.full((60, 100), 20 * epoch % 256, np.uint8))
    return run


def shades(film: Path) -> list[int]:
    """The shade of each frame's picture, below its caption."""
    return [int(frame[-5, 50].max()) for frame in imageio.imread(film, index=None)]


def test_curve_and_film_of_a_run_are_written(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert report.write(run) == [run / name for name in ("loss_curve.png", "training.gif", "report.html")]
    curve = imageio.imread(run / "loss_curve.png")
    assert curve.shape[0] > 500 and curve.shape[1] > 500 and curve[..., :3].std() > 10
    assert shades(run / "training.gif") == pytest.approx([0, 20, 40], abs=1)
    with Image.open(run / "training.gif") as film:
        film.seek(film.n_frames - 1)
        assert film.info["duration"] == 2000
    assert not [path for path in run.iterdir() if files.TEMPORARY_MARK in path.name]


def test_a_report_can_be_made_again(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    report.write(run)
    before = (run / "training.gif").read_bytes()
    report.write(run)
    assert (run / "training.gif").read_bytes() == before


def test_a_run_in_its_first_epoch_has_a_curve_and_no_film_yet(tmp_path: Path) -> None:
    run = tmp_path / "young"
    for count in (1, 2):
        files.write_text(run / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines(1)[:count]))
        assert report.write(run) == [run / "loss_curve.png", run / "report.html"]


def test_a_film_of_many_epochs_is_thinned_and_keeps_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MOST_FRAMES", 4)
    run = make_run(tmp_path, epochs=10)
    report.write(run)
    assert shades(run / "training.gif") == pytest.approx([0, 60, 120, 180], abs=1)
    run = make_run(tmp_path / "more", epochs=11)
    report.write(run)
    assert shades(run / "training.gif") == pytest.approx([20, 80, 140, 200], abs=1)


def test_as_many_epochs_as_frames_are_all_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MOST_FRAMES", 4)
    run = make_run(tmp_path, epochs=4)
    report.write(run)
    assert shades(run / "training.gif") == pytest.approx([0, 20, 40, 60], abs=1)


def test_grids_are_ordered_by_epoch_beyond_four_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, epochs=1, grids=0)
    for epoch, shade in ((9999, 10), (10000, 20), (10001, 30)):
        imaging.write_png(run / "images" / f"epoch_{epoch:04d}.png", np.full((60, 100), shade, np.uint8))
    report.write(run)
    assert shades(run / "training.gif") == pytest.approx([10, 20, 30], abs=1)


def test_frames_carry_their_epochs_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles = []
    caption = imaging.caption
    monkeypatch.setattr(imaging, "caption", lambda image, text: (titles.append(text), caption(image, text))[1])
    report.write(make_run(tmp_path, epochs=3))
    assert titles == ["epoch 0", "epoch 1", "epoch 2"]


def test_metrics_are_read_whole(tmp_path: Path) -> None:
    assert report.read_metrics(make_run(tmp_path, epochs=2)) == lines(2)


@pytest.mark.parametrize("rest", ['{"epoch": 3, "st', '{"epoch": 3', "{", '{"epoch": 3}'])
def test_a_last_line_that_was_cut_short_is_left_out(tmp_path: Path, rest: str) -> None:
    run = make_run(tmp_path, epochs=2)
    with open(run / "metrics.jsonl", "a") as metrics:
        metrics.write(rest)
    assert report.read_metrics(run) == lines(2)


DAMAGED = [
    b'{"epoch": 0, "st',
    b"nonsense",
    b"\xff\xfe\x80",
    b"[1, 2]",
    b"null",
    b"{}",
]


@pytest.mark.parametrize("damage", DAMAGED, ids=repr)
def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path, damage: bytes) -> None:
    run = make_run(tmp_path, epochs=2)
    whole = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    whole[2] = damage + b"\n"
    (run / "metrics.jsonl").write_bytes(b"".join(whole))
    with pytest.raises(UserError, match=r"metrics.jsonl: line 3 is damaged"):
        report.write(run)


def test_a_folder_that_is_no_run_and_a_run_without_lines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run directory"):
        report.write(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="nothing has been logged yet"):
        report.write(tmp_path)


@pytest.mark.parametrize("record", ["", "{", "null", "[1]", "{}", '"text"'])
def test_a_damaged_record_does_not_matter_to_the_report(tmp_path: Path, record: str) -> None:
    run = make_run(tmp_path)
    (run / "run.json").write_text(record)
    assert (run / "loss_curve.png") in report.write(run)


def test_a_damaged_grid_is_refused_by_name(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "images" / "epoch_0001.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="epoch_0001.png"):
        report.write(run)
