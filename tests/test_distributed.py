"""Several workers follow one: the same batches, the same weights, step by step."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from gan_mnist import checkpoint, distributed, runtime, schedules
from gan_mnist.collectives import Workers
from gan_mnist.config import Config, Distributed, Model
from gan_mnist.data import Images
from gan_mnist.data.dataset import build_dataset
from gan_mnist.distributed import ALONE, Worker
from gan_mnist.errors import UserError
from gan_mnist.game import build_game
from gan_mnist.latents import Draw
from gan_mnist.report import read_metrics

ROOT = Path(__file__).resolve().parent.parent
STATISTICS = ("loss_d", "loss_g", "d_real", "d_fake")
SMALL = ["data.limit=640", "data.batch_size=64", "train.log_every=1", "checkpoint.keep=1", "train.ema=0.9"]
SMALL += ["model.generator.hidden=[32, 64]", "model.discriminator.hidden=[32]"]
STEPS = 10
"""Of an epoch."""


@pytest.mark.parametrize("total", [2, 4])
def test_the_parts_of_all_workers_are_the_batch_of_one(total: int) -> None:
    """Update by update, and for D's two kinds of images apart: nothing twice, nothing left out."""
    images = Images(np.arange(48, dtype=np.uint8).reshape(48, 1, 1), np.arange(48, dtype=np.uint8))
    draws = (Draw("dropout", (2 * 16, 3), sides=2), Draw("mix", (16, 1, 1, 1)))

    def epoch(worker: Worker) -> list[list[np.ndarray]]:
        batches = build_dataset(
            images, batch_size=16, codes=24, model=Model(), draws=draws, seed=5, d_steps=2, worker=worker
        )
        return [[column.asnumpy() for column in batch] for batch in batches.create_tuple_iterator(num_epochs=1)]

    parts = [epoch(Worker(rank, total)) for rank in range(total)]
    updates = (2, 2, 3, 4, 2)
    for step, whole in enumerate(epoch(ALONE)):
        for column, (blocks, expected) in enumerate(zip(updates, whole)):
            shares = [part[step][column].reshape(blocks, -1, *expected.shape[1:]) for part in parts]
            np.testing.assert_array_equal(np.concatenate(shares, axis=1).reshape(expected.shape), expected)


def test_a_process_learns_its_place_from_msruns_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MS_ROLE", raising=False)
    assert distributed.worker_here() == ALONE and ALONE.leads and not distributed.is_scheduler()
    for name, value in {"MS_ROLE": "MS_WORKER", "MS_NODE_ID": "5", "MS_WORKER_NUM": "8", "DEVICE_ID": "1"}.items():
        monkeypatch.setenv(name, value)
    assert distributed.worker_here() == Worker(5, 8, 1)
    assert not distributed.worker_here().leads
    monkeypatch.delenv("MS_NODE_ID")
    with pytest.raises(UserError, match=r"--node_rank"):
        distributed.worker_here()
    monkeypatch.setenv("MS_ROLE", "MS_SCHED")
    assert distributed.is_scheduler()


@pytest.mark.parametrize(("device", "number"), [("GPU", 3), ("Ascend", 3), ("CPU", None)])
def test_the_local_rank_picks_the_device(monkeypatch: pytest.MonkeyPatch, device: str, number: int | None) -> None:
    """With MindSpore's calls replaced: no machine with several devices was at hand."""
    calls: list[tuple[object, ...]] = []
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    monkeypatch.setattr(runtime, "_available", lambda name: True)
    monkeypatch.setattr(ms, "set_device", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(runtime.communication, "init", lambda: calls.append(("init",)))
    assert runtime.start(device, seed=1, worker=Worker(rank=11, total=16, local_rank=3)) == device  # type: ignore[arg-type]
    assert calls == [(device, number), ("init",)]


@pytest.mark.parametrize(
    ("batch", "pack", "workers", "word"),
    [
        (64, 1, 3, "make it a multiple of 6"),
        (4, 1, 4, "2 images each"),
        (30, 3, 4, "whole packs of 3"),
        (6, 4, 1, "pack=4"),
    ],
)
def test_a_batch_that_cannot_be_shared_equally_is_refused(batch: int, pack: int, workers: int, word: str) -> None:
    config = Config.model_validate({"data": {"batch_size": batch}, "model": {"pack": pack}})
    with pytest.raises(UserError, match=rf"data\.batch_size is {batch}, .*{word}"):
        build_game(config, (1, 28, 28), steps_per_epoch=1, workers=workers)


@pytest.mark.parametrize(("rule", "factor"), [("none", 1), ("linear", 4), ("sqrt", 2)])
def test_learning_rates_grow_with_the_batch_and_not_with_the_workers(rule: str, factor: float) -> None:
    config = Config.model_validate({"data": {"batch_size": 512}, "distributed": {"scale_lr": rule}})
    assert schedules.batch_factor(config) == factor
    for workers in (1, 2):
        game = build_game(config, (1, 4, 4), steps_per_epoch=3, workers=workers)
        assert game.rates(0) == {"lr_d": pytest.approx(2e-4 * factor), "lr_g": pytest.approx(2e-4 * factor)}
    assert Distributed().scale_lr == "none"


def test_one_worker_asks_nobody() -> None:
    alone, rows = Workers(ALONE), np.arange(6.0).reshape(2, 3)
    assert alone.mean(rows) is rows and alone.from_leader("ü {}") == "ü {}"


Train = Callable[..., Path]


@pytest.fixture(scope="module")
def train(digits: Path) -> Train:
    """`train(folder, "train.epochs=5", workers=2)` -> the run's directory."""

    def train(folder: Path, *arguments: str, workers: int = 1) -> Path:
        command = [sys.executable, str(ROOT / "scripts/train.py"), "--config", str(ROOT / "configs/quickstart.yaml")]
        command += [f"data.folder={digits}", *SMALL, *arguments, "--workers", str(workers), "--device", "CPU"]
        process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
        assert (process.returncode, process.stderr) == (0, ""), process.stderr
        lines = process.stdout.splitlines()
        assert all(line.startswith(("Epoch:[", "time of epoch", "training ", "finished: ")) for line in lines)
        return folder / "result/quickstart"

    return train


@pytest.fixture(scope="module")
def straight(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One worker, 50 steps."""
    return train(tmp_path_factory.mktemp("one"), "train.epochs=5")


def assert_follows(run: Path, expected: Path, *, tolerance: float = 2e-6) -> None:
    """The same statistics at every step, and the same final weights."""
    ours, others = read_metrics(run), read_metrics(expected)[: len(read_metrics(run))]
    for name in STATISTICS:
        np.testing.assert_allclose([e[name] for e in ours], [e[name] for e in others], atol=tolerance, err_msg=name)
    for path in expected.glob("checkpoints/[GD]*.ckpt"):
        arrays, wanted = (checkpoint.load(folder / "checkpoints" / path.name).arrays for folder in (run, expected))
        assert arrays.keys() == wanted.keys()
        for name, array in wanted.items():
            np.testing.assert_allclose(arrays[name], array, atol=tolerance, err_msg=name)


def test_one_worker_then_two_then_one_follow_one_straight(train: Train, straight: Path, tmp_path: Path) -> None:
    """50 steps, 30 of them by two workers, who begin with the state that one left."""
    train(tmp_path, "train.epochs=1")
    train(tmp_path, "train.epochs=4", "--resume", workers=2)
    run = train(tmp_path, "train.epochs=5", "--resume")
    assert_follows(run, straight)
    assert [entry["step"] for entry in read_metrics(run)] == 5 * list(range(STEPS))
    assert json.loads((run / "run.json").read_text())["workers"] == 1
    assert os.listdir(tmp_path) == ["result"] and "worker_1" in os.listdir(run / "log")
