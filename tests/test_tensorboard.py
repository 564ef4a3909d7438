"""TensorBoard's files, read back by an independent reader."""

import errno
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from events import read_events, scalars
from PIL import Image
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from gan_mnist import imaging, report, tensorboard, trainer
from gan_mnist.config import load
from gan_mnist.data import Images, read_images
from gan_mnist.errors import UserError
from gan_mnist.interrupts import Interrupt
from gan_mnist.rundir import RunDir

RECIPE = Path(__file__).resolve().parent.parent / "configs/quickstart.yaml"
STEP = {"loss_d": 1.25, "loss_g": 0.75, "d_real": 0.5, "d_fake": 0.25}
STEPS = 4
"""Of an epoch of `play`."""


def board(folder: Path, first_step: int = 0) -> tensorboard.Board:
    rates = {"lr_d": np.linspace(1, 2, 100), "lr_g": np.full(100, 0.5)}
    return tensorboard.Board(folder, first_step=first_step, rates=rates, images_per_step=64)


def test_every_step_is_a_point_of_every_curve(tmp_path: Path) -> None:
    with board(tmp_path) as one:
        one.add_steps(0, [STEP, STEP], seconds=0.5)
        one.add_steps(2, [STEP], seconds=0.25)
    curves = scalars(tmp_path)
    assert curves.keys() == {*STEP, "lr_d", "lr_g", "images_per_s"}
    assert all([step for step, _ in points] == [0, 1, 2] for points in curves.values())
    assert [value for _, value in curves["images_per_s"]] == [128, 128, 256]
    assert [value for _, value in curves["lr_d"]] == pytest.approx([1, 1 + 1 / 99, 1 + 2 / 99])
    assert [value for _, value in curves["loss_d"]] == [1.25] * 3


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
def test_a_grid_comes_back_to_the_pixel(tmp_path: Path, shape: tuple[int, ...]) -> None:
    folder = tmp_path / "tensorboard"
    grid = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    with board(folder) as one:
        imaging.write_png(tmp_path / "grid.png", grid)
        one.add_epoch(9, {"mean_loss_d": 1.5, "fid": 12.0}, tmp_path / "grid.png")
    (picture,) = [value for event in read_events(folder) for value in event.summary.value if value.HasField("image")]
    assert picture.tag == "samples"
    assert (picture.image.height, picture.image.width, picture.image.colorspace) == (20, 30, 3 if grid.ndim == 3 else 1)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture.image.encoded_image_string))), grid)
    assert scalars(folder) == {"epoch/mean_loss_d": [(9, 1.5)], "epoch/fid": [(9, 12.0)]}


def test_a_histogram_counts_every_weight(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).normal(size=(30, 40)).astype(np.float32)
    with board(tmp_path) as one:
        one.add_histograms(9, {"generator.weight": weights, "generator.bias": np.zeros(7, np.float32)})
    found = {value.tag: value.histo for event in read_events(tmp_path) for value in event.summary.value}
    assert found.keys() == {"generator.weight", "generator.bias"}
    histogram = found["generator.weight"]
    assert histogram.num == sum(histogram.bucket) == 1200
    assert (histogram.min, histogram.max) == (weights.min(), weights.max())
    edges = np.array(histogram.bucket_limit)
    below = [float((weights <= edge * (1 + 1e-9)).sum()) for edge in edges[[10, 30, 50]]]
    assert np.cumsum(histogram.bucket)[[10, 30, 50]] == pytest.approx(below, abs=1)


def test_hyperparameters_stand_beside_the_final_measures(tmp_path: Path) -> None:
    config = load(RECIPE).model_dump(mode="json")
    with board(tmp_path) as one:
        one.add_hyperparameters(99, config, {"mean_loss_d": 1.5})
    values = {value.tag: value for event in read_events(tmp_path) for value in event.summary.value}
    start, experiment = (
        HParamsPluginData.FromString(values[f"_hparams_/{tag}"].metadata.plugin_data.content)
        for tag in ("session_start_info", "experiment")
    )
    shown = start.session_start_info.hparams
    assert shown["optim_d.lr"].number_value == config["optim_d"]["lr"]
    assert shown["data.dataset"].string_value == "digits" and shown["loss.halve_d"].bool_value is False
    assert [metric.name.tag for metric in experiment.experiment.metric_infos] == ["final/mean_loss_d"]
    assert values["final/mean_loss_d"].simple_value == 1.5


def test_what_comes_again_is_dropped_and_so_is_a_record_cut_short(tmp_path: Path) -> None:
    with board(tmp_path) as one:
        one.add_steps(0, [STEP] * 10, seconds=1)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])  # Step 9 is not whole: a kill.
    tensorboard.keep_before(tmp_path, 6)
    with board(tmp_path, first_step=6) as two:
        two.add_steps(6, [STEP] * 4, seconds=1)
    assert len(list(tmp_path.iterdir())) == 2, "files of the same second do not overwrite each other"
    assert [step for step, _ in scalars(tmp_path)["loss_d"]] == list(range(10))
    assert [event.step for event in read_events(tmp_path) if event.HasField("session_log")] == [0, 6]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_cut_anywhere_leaves_whole_records(tmp_path: Path, cut: int) -> None:
    with board(tmp_path) as one:
        one.add_steps(0, [STEP] * 3, seconds=1)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-cut])
    tensorboard.keep_before(tmp_path, 100)
    assert [step for step, _ in scalars(tmp_path)["loss_d"]] == [0, 1]


def test_a_folder_that_is_not_there_has_nothing_to_drop(tmp_path: Path) -> None:
    tensorboard.keep_before(tmp_path / "none", 5)
    assert not (tmp_path / "none").exists()


def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with board(tmp_path) as one:

        def full() -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(one._writer, "flush", full)
            with pytest.raises(UserError, match="no space left to write"):
                one.flush()


@pytest.fixture
def play(tmp_path: Path, digits: Path) -> Callable[..., Path]:
    def play(name: str, *overrides: str, resume: bool = False) -> Path:
        small = ["data.batch_size=32", "train.epochs=3", "train.log_every=3", "model.generator={hidden: [16, 16]}"]
        config = load(RECIPE, [*small, f"name={name}", f"result_dir={tmp_path}", f"data.folder={digits}", *overrides])
        train = read_images(digits, "train")
        images = Images(train.pixels[: 32 * STEPS], train.labels[: 32 * STEPS])
        run = RunDir(config.run_dir)
        with run.claim():
            assert trainer.train(config, images, run, interrupt=Interrupt(), resume=resume) == 0
        return run.path

    return play


def without_timing(folder: Path) -> dict[str, Any]:
    return {tag: points for tag, points in scalars(folder).items() if tag != "images_per_s"}


def test_a_run_and_a_resumed_one_leave_the_same_curves(play: Callable[..., Path]) -> None:
    straight = play("straight", "train.tensorboard=true", "train.histograms=2")
    curves = without_timing(straight / "tensorboard")
    assert [step for step, _ in curves["loss_d"]] == list(range(3 * STEPS))
    logged = {
        (line["epoch"], line["step"]): line
        for line in map(json.loads, (straight / "metrics.jsonl").read_text().splitlines())
    }
    for (epoch, step), line in logged.items():
        for tag in (*STEP, "lr_d", "lr_g"):
            assert dict(curves[tag])[epoch * STEPS + step] == pytest.approx(line[tag])
    assert [step for step, _ in curves["epoch/mean_loss_d"]] == [3, 7, 11]
    assert curves["final/mean_loss_g"] == [(12, pytest.approx(logged[2, 3]["mean_loss_g"]))]
    values = [(event.step, value) for event in read_events(straight / "tensorboard") for value in event.summary.value]
    pictures = [(step, value.image.encoded_image_string) for step, value in values if value.HasField("image")]
    for epoch, (step, picture) in enumerate(pictures):
        shown = np.asarray(Image.open(io.BytesIO(picture)))
        assert step == 4 * epoch + 3
        assert np.array_equal(shown, imaging.read_image(straight / f"images/epoch_{epoch:04d}.png"))
    assert {step for step, value in values if value.HasField("histo")} == {7}
    assert any(value.HasField("histo") and value.tag.startswith("discriminator") for _, value in values)

    resumed = play("resumed", "train.tensorboard=true", "train.epochs=2")
    assert scalars(resumed / "tensorboard")["final/mean_loss_g"][0][0] == 8
    # As after a kill: steps that were written, but which the state does not know.
    with board(resumed / "tensorboard", first_step=8) as lost:
        lost.add_steps(8, [STEP] * 3, seconds=1)
    play("resumed", "train.tensorboard=true", resume=True)
    assert without_timing(resumed / "tensorboard") == curves


def test_a_run_that_is_not_asked_to_leaves_no_event_files(trained_run: Path) -> None:
    assert not (trained_run / "tensorboard").exists()
    assert (trained_run / "report.html").exists() and report.read_metrics(trained_run)
