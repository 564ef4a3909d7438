"""Training from the command line: what a run leaves, what it prints, and how it refuses."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import Image

from gan_mnist import checkpoint, config, report
from gan_mnist.data import load_images
from gan_mnist.errors import UserError
from gan_mnist.rundir import RunDir

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
Cli = Callable[..., CompletedProcess[str]]
Refused = Callable[[CompletedProcess[str]], str]

STEPS = 12
"""Steps an epoch of the fixture `recipe`."""
STATISTICS = ("loss_d", "loss_g", "d_real", "d_fake")


def tree(folder: Path) -> dict[str, bytes]:
    """All files and their content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def small(recipe: list[str], *more: str) -> list[str]:
    """The recipe with networks that compile and train in no time."""
    return [*recipe, "model.generator.hidden=[8,8]", "model.discriminator.hidden=[8]", *more]


def test_a_run_leaves_what_the_contract_says(training: CompletedProcess[str], trained_run: Path) -> None:
    assert (trained_run / "log/mindspore.log").stat().st_size > 0, "MindSpore's own messages are kept"
    files = {name for name in tree(trained_run) if not name.startswith("log/")}
    assert files - {".lock", "checkpoints/TrainState.previous.ckpt"} == {
        "config.yaml",
        "run.json",
        "metrics.jsonl",
        "loss_curve.png",
        "training.gif",
        "report.html",
        "images/epoch_0000.png",
        "images/epoch_0001.png",
        *(f"checkpoints/{name}{epoch}.ckpt" for name in ("Generator", "Discriminator") for epoch in (0, 1)),
        "checkpoints/TrainState.ckpt",
    }


def test_nothing_else_is_dropped_into_the_current_folder(training: CompletedProcess[str], trained_run: Path) -> None:
    folder = trained_run.parents[1]
    assert [path.name for path in folder.iterdir()] == ["result"]
    assert [path.name for path in (folder / "result").iterdir()] == ["quickstart"]


def test_the_resolved_configuration_is_kept(trained_run: Path, recipe: list[str], digits: Path) -> None:
    kept = config.load(trained_run / "config.yaml")
    overrides = [word for word in recipe if "=" in word] + ["device=CPU"]
    assert kept == config.load(recipe[1], overrides)
    assert kept.train.epochs == 2 and kept.data.folder == str(digits)


def test_the_record_says_what_ran_where_and_how_it_ended(trained_run: Path) -> None:
    record = json.loads((trained_run / "run.json").read_text())
    assert record["status"] == "finished" and record["device"] == "CPU"
    assert record["seed"] == 1 and record["steps_per_epoch"] == STEPS
    assert record["packages"]["mindspore"] == "2.10.0" and record["python"] and record["gan_mnist"]
    assert record["command"][0].endswith("train.py")
    assert record["environment"]["MS_DEV_RUNTIME_CONF"] == "graph_pipeline:False"
    assert record["started"] <= record["updated"]


def test_metrics_hold_a_line_every_ten_steps_and_one_at_the_epochs_end(trained_run: Path) -> None:
    lines = report.read_metrics(trained_run)
    assert [(line["epoch"], line["step"]) for line in lines] == [(e, s) for e in (0, 1) for s in (0, 10, 11)]
    for line in lines:
        assert {"epoch", "step", *STATISTICS, "lr_d", "lr_g", "images_per_s"} <= line.keys()
        assert line["lr_d"] == line["lr_g"] == 2e-4 and line["images_per_s"] > 0
        assert 0 < line["d_real"] < 1 and 0 < line["d_fake"] < 1 and line["loss_d"] > 0 and line["loss_g"] > 0
        assert ("mean_loss_d" in line) == (line["step"] == STEPS - 1)


def test_a_fresh_game_begins_near_the_equilibrium(trained_run: Path) -> None:
    first = report.read_metrics(trained_run)[0]
    assert first["loss_d"] == pytest.approx(2 * np.log(2), abs=0.1)
    assert first["loss_g"] == pytest.approx(np.log(2), abs=0.1)


def test_the_console_shows_the_courses_lines(training: CompletedProcess[str], trained_run: Path) -> None:
    lines = training.stdout.splitlines()
    step = (
        r"Epoch:\[ *(\d+)/ *2\], step:\[ *(\d+)/ *12\], "
        r"loss_d:(\d\.\d{6}) , loss_g:(\d\.\d{6}) , time:(\d+\.\d{3})s, lr:0\.000200"
    )
    shown = [re.fullmatch(step, line) for line in lines]
    found = [(int(m[1]), int(m[2]), float(m[3]), float(m[4]), float(m[5])) for m in shown if m]
    logged = [line for line in report.read_metrics(trained_run) if line["step"] % 10 == 0]
    assert [(f[0], f[1]) for f in found] == [(line["epoch"], line["step"]) for line in logged]
    for one, line in zip(found, logged):
        assert one[2:4] == pytest.approx((line["loss_d"], line["loss_g"]), abs=1e-6)
    assert any(line.startswith("Epoch:[  0/  2], step:[   0/  12], loss_d:") for line in lines)
    for epoch in (0, 1):
        ends = [re.fullmatch(rf"time of epoch {epoch + 1} is (\d+\.\d\d)s", line) for line in lines]
        (seconds,) = (float(end[1]) for end in ends if end)
        first, rest = (one[4] for one in found if one[0] == epoch)  # Of step 0, and the mean of the ten after it.
        assert 0 < first + 10 * rest <= seconds + 0.05


def test_the_console_shows_nothing_else_but_the_first_and_last_line(training: CompletedProcess[str]) -> None:
    lines = training.stdout.splitlines()
    rest = [line for line in lines if not line.startswith(("Epoch:[", "time of epoch "))]
    assert len(rest) == 2, rest
    assert "1,510,032 parameters" in rest[0] and "533,505" in rest[0] and "CPU" in rest[0]
    assert "result/quickstart" in rest[1]
    assert training.stderr == ""


def test_grids_are_pictures_of_25_samples_that_change(trained_run: Path) -> None:
    first, second = (imageio.imread(trained_run / "images" / f"epoch_{epoch:04d}.png") for epoch in (0, 1))
    assert first.shape == second.shape == (5 * 58 + 2, 5 * 58 + 2)
    assert not np.array_equal(first, second)
    cells = [second[2 + 58 * r : 58 + 58 * r, 2 + 58 * c : 58 + 58 * c] for r in range(5) for c in range(5)]
    assert len({cell.tobytes() for cell in cells}) == 25


def test_the_film_has_a_frame_for_every_epoch(trained_run: Path) -> None:
    with Image.open(trained_run / "training.gif") as film:
        assert film.n_frames == 2


def test_checkpoints_hold_the_networks_of_their_epoch(trained_run: Path) -> None:
    for role in ("generator", "discriminator"):
        loaded = [checkpoint.load(trained_run / "checkpoints" / f"{role.capitalize()}{e}.ckpt") for e in (0, 1)]
        assert [one.description["epoch"] for one in loaded] == [0, 1]
        assert all(name.startswith(f"{role}.model.") for name in loaded[0].arrays)
        weights = [name for name in loaded[0].arrays if name.endswith(".weight")]
        assert not any(np.array_equal(loaded[0].arrays[name], loaded[1].arrays[name]) for name in weights)


def test_epoch_means_are_over_all_steps_and_the_same_run_again_is_equal(
    cli: Cli, recipe: list[str], trained_run: Path, tmp_path: Path
) -> None:
    arguments = [*recipe, "train.epochs=1", "train.log_every=1", "--run-name", "every_step"]
    process = cli("train", *arguments, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    run = tmp_path / "result" / "every_step"
    lines = report.read_metrics(run)
    assert [line["step"] for line in lines] == list(range(STEPS))
    for name in STATISTICS:
        recomputed = np.mean([line[name] for line in lines])
        assert lines[-1][f"mean_{name}"] == pytest.approx(recomputed, rel=1e-9)
    sparse = report.read_metrics(trained_run)[:3]
    assert [sparse[0][name] for name in STATISTICS] == [lines[0][name] for name in STATISTICS]
    assert [sparse[2][f"mean_{name}"] for name in STATISTICS] == [lines[-1][f"mean_{name}"] for name in STATISTICS]
    for file in ("Generator0.ckpt", "Discriminator0.ckpt"):
        one, other = (checkpoint.load(path / "checkpoints" / file).arrays for path in (run, trained_run))
        assert all(np.array_equal(one[name], other[name]) for name in other)
    name = "images/epoch_0000.png"
    assert (run / name).read_bytes() == (trained_run / name).read_bytes()


def test_a_run_may_be_one_epoch_long_and_start_from_pretrained_weights(
    cli: Cli, recipe: list[str], trained_run: Path, tmp_path: Path
) -> None:
    pretrained = [
        f"pretrained.{r}={trained_run}/checkpoints/{r.capitalize()}1.ckpt" for r in ("generator", "discriminator")
    ]
    process = cli("train", *recipe, *pretrained, "train.epochs=1", "optim_g.lr=1e-12", "optim_d.lr=1e-12", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    checkpoints = tmp_path / "result" / "quickstart" / "checkpoints"
    for role in ("Generator", "Discriminator"):
        old = checkpoint.load(trained_run / "checkpoints" / f"{role}1.ckpt").arrays
        new = checkpoint.load(checkpoints / f"{role}0.ckpt").arrays
        for name in old:
            if not name.endswith(("moving_mean", "moving_variance")):
                np.testing.assert_allclose(new[name], old[name], atol=1e-8)
    first, last = report.read_metrics(tmp_path / "result" / "quickstart")[0], report.read_metrics(trained_run)[-1]
    assert abs(first["loss_d"] - last["loss_d"]) < 0.5


def test_a_dry_run_shows_settings_and_sizes_and_writes_nothing(cli: Cli, tmp_path: Path, recipe: list[str]) -> None:
    process = cli("train", *recipe, "optim_g.lr=1e-3", "--dry-run", cwd=tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    assert "1,510,032 parameters" in process.stdout and "533,505 parameters" in process.stdout
    shown, *_ = process.stdout.split("\n\n")
    (tmp_path / "shown.yaml").write_text(shown)
    assert config.load(tmp_path / "shown.yaml").optim_g.lr == 1e-3
    assert [path.name for path in tmp_path.iterdir()] == ["shown.yaml"]


def copy_of(run: Path, folder: Path) -> Path:
    """A run that a test may harm, in `folder`/result/quickstart."""
    return Path(shutil.copytree(run, folder / "result" / "quickstart"))


def test_a_run_is_not_overwritten_unasked(
    cli: Cli, refused: Refused, recipe: list[str], trained_run: Path, tmp_path: Path
) -> None:
    run = copy_of(trained_run, tmp_path)
    before = tree(tmp_path)
    line = refused(cli("train", *recipe, cwd=tmp_path))
    assert "result/quickstart: holds a run already" in line
    assert all(word in line for word in ("--resume", "--overwrite", "--run-name"))
    assert tree(tmp_path) == before

    with RunDir(run).claim():
        line = refused(cli("train", *recipe, "--overwrite", cwd=tmp_path))
    assert "result/quickstart: another process is training here" in line
    after = tree(tmp_path)
    assert all(after[name] == content for name, content in before.items() if not name.endswith(".lock"))


def test_a_refused_overwrite_leaves_the_old_run_as_it_was(
    cli: Cli, refused: Refused, recipe: list[str], trained_run: Path, tmp_path: Path
) -> None:
    run = copy_of(trained_run, tmp_path)
    before = tree(run)
    wrong = f"pretrained.generator={trained_run}/checkpoints/Discriminator1.ckpt"
    line = refused(cli("train", *recipe, "--overwrite", wrong, cwd=tmp_path))
    assert "Discriminator1.ckpt: is of another architecture" in line
    after = tree(run)
    changed = {name for name in before if after.get(name) != before[name]}
    assert not {name for name in changed if not name.startswith("log/")} - {".lock"}


@pytest.mark.parametrize(
    "arguments", [["train.epoch=5"], ["train.epochs=0"], ["--device", "TPU"], ["--epochs", "5"], ["5"]]
)
def test_wrong_words_are_refused(
    cli: Cli, refused: Refused, recipe: list[str], tmp_path: Path, arguments: list[str]
) -> None:
    line = refused(cli("train", *recipe, *arguments, cwd=tmp_path))
    assert arguments[0].split("=")[0] in line
    assert not list(tmp_path.iterdir())


def test_missing_recipes_and_runs_are_refused(cli: Cli, refused: Refused, recipe: list[str], tmp_path: Path) -> None:
    assert "--config" in refused(cli("train", cwd=tmp_path))
    assert "nowhere.yaml: no such file" in refused(cli("train", "--config", "nowhere.yaml", cwd=tmp_path))
    assert "holds no run" in refused(cli("train", *recipe, "--resume", cwd=tmp_path))
    assert "holds no run" in refused(cli("train", "--resume", "result/nothing", cwd=tmp_path))
    assert not list(tmp_path.iterdir())


def test_an_unavailable_device_is_refused(cli: Cli, refused: Refused, recipe: list[str], tmp_path: Path) -> None:
    line = refused(cli("train", *small(recipe), "--device", "Ascend", cwd=tmp_path))
    assert "--device Ascend: not available on this machine" in line and "CPU" in line
    assert not RunDir(tmp_path / "result" / "quickstart").holds_run


def test_a_corrupt_data_file_is_refused(
    cli: Cli, refused: Refused, recipe: list[str], digits: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "MNIST_Data"
    shutil.copytree(digits, folder)
    file = folder / "train" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    line = refused(cli("train", *recipe, f"data.folder={folder}", "data.dataset=mnist", cwd=tmp_path))
    assert "train-images-idx3-ubyte" in line


def test_a_file_where_results_should_go_is_refused(
    cli: Cli, refused: Refused, recipe: list[str], tmp_path: Path
) -> None:
    (tmp_path / "result").write_text("a file")
    line = refused(cli("train", *recipe, cwd=tmp_path))
    assert "cannot write result/quickstart: a file stands where a folder is needed" in line
    assert (tmp_path / "result").read_text() == "a file"


def resolved(recipe: list[str], *overrides: str) -> config.Config:
    return config.load(recipe[1], [*(word for word in recipe if "=" in word), *overrides])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.name=bcee", "loss.name is 'bcee'; the known losses are: bce"),
        ("model.name=dnse", "model.name is 'dnse'; the known architectures are: dense"),
        ("model.generator.hiden=[8]", "model.generator.hiden.*did you mean"),
        ("pretrained.generator=nowhere.ckpt", "nowhere.ckpt: no such checkpoint"),
        ("model.generator.hidden=[8]", "Generator1.ckpt: is of another architecture"),
        ("model.latent_size=99", "Generator1.ckpt: is of another architecture"),
    ],
)
def test_a_game_that_cannot_be_built_is_refused(
    recipe: list[str], trained_run: Path, override: str, message: str
) -> None:
    from gan_mnist.game import build_game

    overrides = [f"pretrained.generator={trained_run}/checkpoints/Generator1.ckpt", override]
    with pytest.raises(UserError, match=message):
        build_game(resolved(recipe, *overrides), (1, 28, 28), steps_per_epoch=1)


def test_a_batch_larger_than_the_data_is_refused_before_a_run_is_made(
    cli: Cli, refused: Refused, recipe: list[str], tmp_path: Path
) -> None:
    line = refused(cli("train", *small(recipe, "data.batch_size=2000"), cwd=tmp_path))
    assert "data.batch_size is 2000, but there are 1450 images" in line
    assert not RunDir(tmp_path / "result" / "quickstart").holds_run


def test_the_data_of_a_recipe_are_limited_and_in_order(recipe: list[str]) -> None:
    some, all_of_them = (load_images(resolved(recipe, f"data.limit={limit}").data) for limit in ("200", "null"))
    assert len(some.labels) == 200 and len(all_of_them.labels) == 1500 and some.shape == (1, 28, 28)
    assert np.array_equal(some.pixels, all_of_them.pixels[:200])


def test_only_the_newest_checkpoints_are_kept_if_asked(tmp_path: Path, recipe: list[str]) -> None:
    from gan_mnist import trainer
    from gan_mnist.state import Position

    run = RunDir(tmp_path)
    run.checkpoints.mkdir()
    for keep, position, expected in (
        ("all", Position(epoch=5), [0, 1, 2, 3, 4, 5]),
        ("3", Position(epoch=5), [3, 4, 5]),
        ("best", Position(epoch=5, best_epoch=4), [4]),
    ):
        for epoch in range(6):
            for role in ("Generator", "Discriminator"):
                (run.checkpoints / f"{role}{epoch}.ckpt").write_bytes(b"")
        others = [run.checkpoints / name for name in ("TrainState.ckpt", "GeneratorOfMine.ckpt", "notes.txt")]
        for other in others:
            other.write_bytes(b"")
        trainer.remove_old_checkpoints(resolved(recipe, f"checkpoint.keep={keep}"), run, position)
        left = {path.name for path in run.checkpoints.iterdir()}
        assert left == {f"{role}{e}.ckpt" for role in ("Generator", "Discriminator") for e in expected} | {
            other.name for other in others
        }


def test_a_record_that_says_running_without_a_process_reads_interrupted(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    with run.claim():
        run.write_record("running", seed=1)
        assert run.is_claimed() and run.read_record()["status"] == "running"
    assert not run.is_claimed() and run.read_record()["status"] == "interrupted"
    run.write_record("finished")
    record: dict[str, Any] = run.read_record()
    assert record["status"] == "finished" and record["seed"] == 1
