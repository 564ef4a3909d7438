"""Nothing is lost: a run that is stopped in any way and resumed leaves what an uninterrupted one leaves, bit for bit.

GAN_MNIST_KILLS=50 python -m pytest tests/test_resume.py -k kill     for a night of kill -9
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from events import scalars

from gan_mnist.data.digits import prepare_digits

ROOT = Path(__file__).resolve().parent.parent
KILLS = int(os.environ.get("GAN_MNIST_KILLS", "3"))
TIMINGS = {"images_per_s", "epoch_s"}

EPOCHS = 4
RECIPE = ["data.limit=640", "data.batch_size=32", f"train.epochs={EPOCHS}", "train.log_every=3"]  # 20 steps an epoch
# All that has a state or randomness of its own: the average of G's weights, both optimizers, a schedule, a growing
# momentum, dropout.
RECIPE += [
    "train.ema=0.9",
    "optim_d={name: momentum, lr: 0.01, momentum: 0.5, final_momentum: 0.7, momentum_epochs: 3}",
]
RECIPE += ["optim_d.schedule={name: exponential, decay: 0.99, warmup: 10}", "model.discriminator.dropout=0.3"]
RECIPE += ["train.tensorboard=true"]  # Its curves must come out whole, too.


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    prepare_digits(folder, copies=1)
    return folder


@pytest.fixture(scope="module")
def start(data: Path) -> Callable[..., subprocess.Popen[str]]:
    def start(folder: Path, *arguments: str, config: str = "configs/quickstart.yaml") -> subprocess.Popen[str]:
        command = [sys.executable, str(ROOT / "scripts/train.py"), "--config", str(ROOT / config)]
        command += [*RECIPE, f"data.folder={data}", *arguments]
        return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


@pytest.fixture(scope="module")
def train(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., subprocess.CompletedProcess[str]]:
    def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = start(folder, *arguments)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return train


@pytest.fixture(scope="module")
def straight(
    tmp_path_factory: pytest.TempPathFactory, train: Callable[..., subprocess.CompletedProcess[str]]
) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("straight")
    finished = train(folder)
    assert finished.returncode == 0, finished.stderr
    return contents(folder)


@pytest.fixture(scope="module")
def half_way(tmp_path_factory: pytest.TempPathFactory, train: Callable[..., subprocess.CompletedProcess[str]]) -> Path:
    folder = tmp_path_factory.mktemp("half_way")
    assert train(folder, "train.epochs=2").returncode == 0
    return folder


@pytest.fixture
def stopped(tmp_path: Path, half_way: Path) -> Path:
    """A copy of a run that was stopped after half of its epochs."""
    shutil.copytree(half_way, tmp_path, dirs_exist_ok=True)
    return tmp_path


def contents(folder: Path) -> dict[str, object]:
    """Everything of a run that must not depend on how often it was stopped."""
    run = folder / "result/quickstart"
    found: dict[str, object] = {
        path.name: path.read_bytes()
        for pattern in ("checkpoints/[GD]*.ckpt", "images/*.png")
        for path in run.glob(pattern)
    }
    text = (run / "metrics.jsonl").read_text() if (run / "metrics.jsonl").exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    found["metrics"] = [{key: line[key] for key in line.keys() - TIMINGS} for line in lines]
    if (run / "run.json").exists() and status(folder) == "finished":  # Else a kill may have cut a record short.
        curves = scalars(run / "tensorboard")
        found["curves"] = {tag: curves[tag] for tag in curves.keys() - TIMINGS}
    return found


def wait_for_line(process: subprocess.Popen[str], pattern: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if re.search(pattern, line):
            return
    raise AssertionError(f"no line {pattern!r}: {process.stderr and process.stderr.read()}")


def status(folder: Path) -> str:
    return json.loads((folder / "result/quickstart/run.json").read_text())["status"]


def test_the_straight_run_is_whole(straight: dict[str, object]) -> None:
    names = {f"{kind}{epoch}.ckpt" for kind in ("Generator", "Discriminator") for epoch in range(EPOCHS)}
    names |= {f"epoch_{epoch:04d}.png" for epoch in range(EPOCHS)}
    assert straight.keys() == names | {"metrics", "curves"}
    assert [step for step, _ in straight["curves"]["loss_d"]] == list(range(EPOCHS * 20))  # type: ignore[index]
    assert len(straight["metrics"]) == EPOCHS * 8  # type: ignore[arg-type]  # Steps 0, 3, ... 18 and 19.


def test_n_epochs_and_resume_and_n_epochs_equal_2n(
    stopped: Path, straight: dict[str, object], train: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    resumed = train(stopped, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "from epoch 2, step 0" in resumed.stdout
    assert contents(stopped) == straight
    record = json.loads((stopped / "result/quickstart/run.json").read_text())
    assert record["resumed"][0]["changes"] == {"train.epochs": [2, EPOCHS]}


@pytest.mark.parametrize(("number", "exit_status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_of_an_epoch_loses_nothing(
    tmp_path: Path,
    straight: dict[str, object],
    start: Callable[..., subprocess.Popen[str]],
    train: Callable[..., subprocess.CompletedProcess[str]],
    number: signal.Signals,
    exit_status: int,
) -> None:
    process = start(tmp_path)
    wait_for_line(process, r"Epoch:\[  1/  4\], step:\[   6/")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == exit_status
    assert re.fullmatch(r"interrupted at .*To go on: python scripts/train\.py --resume \S+\n", err)
    assert status(tmp_path) == "interrupted"
    assert "interrupted" in (tmp_path / "result/quickstart/report.html").read_text()
    resumed = train(tmp_path, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert re.search(r"from epoch \d, step [1-9]", resumed.stdout)
    assert contents(tmp_path) == straight
    assert status(tmp_path) == "finished"


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start(tmp_path, "train.epochs=1000")
    wait_for_line(process, r"Epoch:\[  0/")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


def test_kill_9_at_any_instant_loses_nothing(
    tmp_path: Path,
    straight: dict[str, object],
    start: Callable[..., subprocess.Popen[str]],
    train: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    dice = random.Random(KILLS)
    for _ in range(KILLS):
        begun = (tmp_path / "result/quickstart/config.yaml").exists()
        if begun and len(contents(tmp_path)["metrics"]) == len(straight["metrics"]):  # type: ignore[arg-type]
            assert train(tmp_path, "--resume").returncode == 0
            assert contents(tmp_path) == straight
            shutil.rmtree(tmp_path / "result")
            begun = False
        process = start(tmp_path, *(["--resume"] if begun else []), "checkpoint.every_minutes=1e-6")
        if dice.random() < 0.8:
            wait_for_line(process, "^training|^finished")
        time.sleep(dice.uniform(0, 2.5))
        process.kill()
        _, err = process.communicate(timeout=60)
        assert "error" not in err
    resumed = train(tmp_path, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert contents(tmp_path) == straight
    assert not list(tmp_path.rglob("*.partial-*")), "temporary files are left"


def test_a_damaged_state_is_named_and_the_one_before_it_used(
    stopped: Path, straight: dict[str, object], train: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    state = stopped / "result/quickstart/checkpoints/TrainState.ckpt"
    damaged = bytearray(state.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    state.write_bytes(damaged)
    resumed = train(stopped, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert re.search(r"warning: \S+TrainState\.ckpt: damaged.*using the one before it", resumed.stderr)
    assert "from epoch 1, step 0" in resumed.stdout
    assert contents(stopped) == straight


def test_what_cannot_change_is_refused_by_name(
    stopped: Path, straight: dict[str, object], train: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    for override in ("model.latent_size=50", "data.batch_size=64", "train.seed=2", "model.generator={hidden: [64]}"):
        refused = train(stopped, "--resume", override)
        assert refused.returncode == 1
        assert re.fullmatch(
            rf"error: --resume: `{re.escape(override.split('=')[0])}.*cannot change.*\n", refused.stderr
        )
    metrics = stopped / "result/quickstart/metrics.jsonl"
    assert len(metrics.read_text().splitlines()) == 2 * 8, "a refusal changes nothing"
    for name in ("TrainState.ckpt", "TrainState.previous.ckpt"):
        (stopped / "result/quickstart/checkpoints" / name).write_bytes(b"")
    refused = train(stopped, "--resume")
    assert refused.returncode == 1
    assert re.fullmatch(r"error: --resume: \S+TrainState\.ckpt: .*start anew with --overwrite\n", refused.stderr)


def test_another_learning_rate_takes_effect_and_is_recorded(
    stopped: Path, straight: dict[str, object], train: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    assert train(stopped, "--resume", "optim_g.lr=1e-3").returncode == 0
    changed = contents(stopped)
    assert changed["Generator1.ckpt"] == straight["Generator1.ckpt"]
    assert changed["Generator2.ckpt"] != straight["Generator2.ckpt"]
    assert [line["lr_g"] for line in changed["metrics"]][-1] == 1e-3  # type: ignore[union-attr]
    record = json.loads((stopped / "result/quickstart/run.json").read_text())
    assert record["resumed"][0]["changes"]["optim_g.lr"] == [2e-4, 1e-3]


def test_divergence_stops_with_the_last_good_state_kept(
    tmp_path: Path, train: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    stopped = train(tmp_path, "optim_d.lr=1e30", "optim_g.lr=1e30")
    assert stopped.returncode == 1
    assert re.fullmatch(r"error: (loss_[dg]|d_real|d_fake) is nan at epoch 0, step \d+: .*\n", stopped.stderr)
    assert status(tmp_path) == "failed"
    resumed = train(tmp_path, "--resume")
    assert resumed.returncode == 0, resumed.stderr


def test_keep_the_newest_checkpoints(tmp_path: Path, train: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert train(tmp_path, "checkpoint.keep=2").returncode == 0
    kept = {path.name for path in (tmp_path / "result/quickstart/checkpoints").glob("[GD]*.ckpt")}
    assert kept == {f"{kind}{epoch}.ckpt" for kind in ("Generator", "Discriminator") for epoch in (2, 3)}
