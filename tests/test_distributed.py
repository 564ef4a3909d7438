"""Several workers follow one: the same batches, the same weights, step by step."""

import json
import re
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import mindspore as ms
import numpy as np
import psutil
import pytest
from mindspore import nn, ops

from gan_mnist import checkpoint, distributed, runtime, schedules
from gan_mnist.collectives import Workers
from gan_mnist.config import Config, Distributed, Model
from gan_mnist.data import Images
from gan_mnist.data.dataset import build_dataset
from gan_mnist.distributed import ALONE, Worker
from gan_mnist.errors import UserError
from gan_mnist.game import build_game
from gan_mnist.latents import Draw
from gan_mnist.models import NetworkSpec, build_network, layers
from gan_mnist.report import read_metrics

ROOT = Path(__file__).resolve().parent.parent
STATISTICS = ("loss_d", "loss_g", "d_real", "d_fake")
SMALL = ["data.limit=640", "data.batch_size=64", "train.log_every=1", "train.ema=0.9"]
SMALL += ["model.generator.hidden=[32, 64]", "model.discriminator.hidden=[32]"]
STEPS = 10
"""Of an epoch."""


@pytest.mark.parametrize("total", [2, 4])
def test_the_parts_of_all_workers_are_the_batch_of_one(total: int) -> None:
    """Update by update, and for D's two kinds of images apart: nothing twice, nothing left out."""
    images = Images(np.arange(48, dtype=np.uint8).reshape(48, 1, 1), np.arange(48, dtype=np.uint8))
    draws = (Draw("dropout", (2 * 16, 3)), Draw("mix", (16, 1, 1, 1)))

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


def test_slices_of_a_batch_make_the_update_of_the_batch() -> None:
    """Without BatchNorm; with dropout and noise, which come for real and for generated images."""
    random = np.random.default_rng(3)
    x = ms.Tensor(random.uniform(-1, 1, (12, 1, 4, 4)).astype(np.float32))
    y, z = ms.Tensor(np.zeros(12, np.int32)), ms.Tensor(random.standard_normal((12, 100), dtype=np.float32))
    after = []
    for slices in (1, 3):
        config = Config.model_validate(
            {
                "model": {
                    "generator": {"hidden": [8, 8], "batch_norm": False},
                    "discriminator": {"hidden": [8, 6], "dropout": 0.3},
                },
                "data": {"batch_size": 12},
                "loss": {"instance_noise": 0.1, "label_noise": 0.1},
                "distributed": {"grad_accumulation": slices},
            }
        )
        game = build_game(config, (1, 4, 4), steps_per_epoch=1)
        step = game.train_step()
        numbers = [ms.Tensor(draw.numbers(np.random.default_rng(9))) for draw in game.draws]
        results = [tensor.asnumpy() for _ in range(3) for tensor in step(x, y, z, *numbers)]
        after.append([*results, *(weight.asnumpy() for weight in game.parameters())])
    for whole, cut in zip(*after, strict=True):
        np.testing.assert_allclose(cut, whole, rtol=1e-4, atol=1e-6)


def test_float16_follows_float32_and_keeps_float32_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, whose float16 is slow but there; with the library's layers, as on GPU and Ascend."""
    monkeypatch.setattr(layers, "_on_cpu", lambda: False)
    random = np.random.default_rng(3)
    x = ms.Tensor(random.uniform(-1, 1, (12, 1, 4, 4)).astype(np.float32))
    y, z = ms.Tensor(np.zeros(12, np.int32)), ms.Tensor(random.standard_normal((12, 100), dtype=np.float32))
    config = Config.model_validate(
        {"model": {"generator": {"hidden": [8, 8]}, "discriminator": {"hidden": [8]}}, "data": {"batch_size": 12}}
    )
    results = []
    for amp in ("off", "fp16"):
        game = build_game(config, (1, 4, 4), steps_per_epoch=1)
        step = game._replace(rules=game.rules._replace(amp=amp)).train_step()
        results.append([[tensor.asnumpy() for tensor in step(x, y, z)] for _ in range(3)])
        assert all(weight.dtype == ms.float32 for weight in game.G.trainable_params())
    for full, low in zip(*results):
        for one, other in zip(full, low):
            assert other.dtype == np.float32
            np.testing.assert_allclose(other, one, atol=3e-3)
    assert not np.array_equal(results[0][0][2], results[1][0][2]), "nothing was computed in float16"


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_is_refused_on_a_cpu(amp: str) -> None:
    with pytest.raises(UserError, match=rf"train\.amp is {amp}, but a CPU .* set it to off"):
        build_game(Config.model_validate({"train": {"amp": amp}}), (1, 4, 4), steps_per_epoch=1)


@pytest.mark.parametrize("override", [{"d_steps": 2}, {"g_steps": 2}, {"first": "generator"}])
def test_slices_are_refused_where_updates_are_otherwise_ordered(override: dict[str, object]) -> None:
    config = Config.model_validate({"train": override, "distributed": {"grad_accumulation": 2}})
    with pytest.raises(UserError, match=r"distributed\.grad_accumulation is 2, which needs"):
        build_game(config, (1, 4, 4), steps_per_epoch=1)


@pytest.mark.parametrize(("rule", "factor"), [("none", 1), ("linear", 4), ("sqrt", 2)])
def test_learning_rates_grow_with_the_batch_and_not_with_the_workers(rule: str, factor: float) -> None:
    config = Config.model_validate({"data": {"batch_size": 512}, "distributed": {"scale_lr": rule}})
    assert schedules.batch_factor(config) == factor
    for workers in (1, 2):
        game = build_game(config, (1, 4, 4), steps_per_epoch=3, workers=workers)
        assert game.rates(0) == {"lr_d": pytest.approx(2e-4 * factor), "lr_g": pytest.approx(2e-4 * factor)}
    assert Distributed().scale_lr == "none"


class Spoiled(Workers):
    """Worker 0 of three, the last of whom has other weights in `spoiled`."""

    def __init__(self, honest: np.ndarray, spoiled: np.ndarray) -> None:
        super().__init__(Worker(0, 3))
        self.others = np.stack([np.zeros_like(honest), honest, spoiled])

    def _sum(self, array: np.ndarray) -> np.ndarray:
        return array + self.others


def test_weights_that_differ_are_named_with_their_worker() -> None:
    parameters = [ms.Parameter(ms.Tensor([1.0, float(index)]), name=f"weight{index}") for index in range(3)]

    def halves(parameters: list[ms.Parameter]) -> np.ndarray:
        sums = [zlib.crc32(parameter.asnumpy().tobytes()) for parameter in parameters]
        return np.array([[value >> 16, value & 0xFFFF] for value in sums], np.float32).ravel()

    spoiled = [parameters[0], ms.Parameter(parameters[1] + 1e-7, name="weight1"), parameters[2]]
    Spoiled(halves(parameters), halves(parameters)).require_equal(parameters, epoch=4)
    workers = Spoiled(halves(parameters), halves(spoiled))
    with pytest.raises(UserError, match=r"after epoch 4, `weight1` of worker 2 is not worker 0's any more .*--resume"):
        workers.require_equal(parameters, epoch=4)


def test_one_worker_asks_nobody() -> None:
    alone, rows = Workers(ALONE), np.arange(6.0).reshape(2, 3)
    assert alone.mean(rows) is rows and alone.from_leader("ü {}") == "ü {}"


@pytest.mark.parametrize("model", ["dcgan", "biggan"])
def test_our_batch_norm_of_images_equals_the_librarys(model: str) -> None:
    """What `synchronise` puts in its place, with the workers' mean being that of one: images, gradients, statistics."""
    options = {"dcgan": {"channels": [8, 4]}, "biggan": {"channels": [8, 8, 4], "embedding": 4}}[model]
    spec = NetworkSpec(model=model, role="generator", latent_size=12, image_shape=(1, 8, 8), options=options)
    z = ms.Tensor(np.random.default_rng(1).standard_normal((6, 12), dtype=np.float32))
    codes = (z, ms.Tensor(np.arange(6, dtype=np.int32))) if model == "biggan" else (z,)
    found = []
    for ours in (False, True):
        ms.set_seed(4)
        G = build_network(spec).set_train()
        if ours:
            layers.synchronise(G, 1)
        weights = G.trainable_params()

        def total(*codes: ms.Tensor, G: nn.Cell = G) -> ms.Tensor:
            return ops.square(G(*codes) - 0.3).sum()

        value, gradients = ms.value_and_grad(total, None, weights)(*codes)
        moving = [parameter for parameter in G.get_parameters() if ".moving_" in parameter.name]
        assert moving
        found.append([tensor.asnumpy() for tensor in (value, *gradients, *moving)])
    for ours_value, library_value in zip(*found, strict=True):
        np.testing.assert_allclose(ours_value, library_value, rtol=2e-3, atol=2e-4)


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def start(digits: Path) -> Start:
    """`start(folder, "train.epochs=5", workers=2)` starts a training there."""

    def start(folder: Path, *arguments: str, workers: int = 1) -> "subprocess.Popen[str]":
        command = [sys.executable, str(ROOT / "scripts/train.py"), "--config", str(ROOT / "configs/quickstart.yaml")]
        command += [f"data.folder={digits}", *SMALL, *arguments, "--workers", str(workers), "--device", "CPU"]
        return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def finish(process: "subprocess.Popen[str]") -> str:
    """Wait for a training's good end, and return what it printed."""
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    return out


@pytest.fixture(scope="module")
def straight(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one worker's run, 80 steps."""
    folder = tmp_path_factory.mktemp("one")
    finish(start(folder, "train.epochs=8"))
    return folder


def wait_for_line(process: "subprocess.Popen[str]", beginning: str) -> list[str]:
    """Read the console until a line begins so; returns the lines."""
    assert process.stdout is not None and process.stderr is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(beginning):
            return lines
    raise AssertionError(f"no line {beginning!r}: {process.stderr.read()}")


def family(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The scheduler and the workers that a training started, these in order."""
    children = psutil.Process(process.pid).children()
    return sorted(children, key=lambda child: (child.environ()["MS_ROLE"], child.environ()["MS_NODE_ID"]))


def assert_follows(folder: Path, expected: Path) -> None:
    """The same statistics at every step so far, the same weights, as closely as float32 allows."""
    run, other = folder / "result/quickstart", expected / "result/quickstart"
    ours = read_metrics(run)
    for name in STATISTICS:
        wanted = [entry[name] for entry in read_metrics(other)[: len(ours)]]
        np.testing.assert_allclose([entry[name] for entry in ours], wanted, atol=2e-6, err_msg=name)
    for path in run.glob("checkpoints/[GD]*.ckpt"):
        arrays, wanted = (checkpoint.load(one / "checkpoints" / path.name).arrays for one in (run, other))
        assert arrays.keys() == wanted.keys()
        for name, array in wanted.items():
            np.testing.assert_allclose(arrays[name], array, atol=2e-6, err_msg=f"{path.name} {name}")


def status(folder: Path) -> str:
    return json.loads((folder / "result/quickstart/run.json").read_text())["status"]


def test_one_then_two_stopped_by_a_signal_then_one_again_follow_one(
    start: Start, straight: Path, tmp_path: Path
) -> None:
    """Over 80 steps, at least 50 of them by two workers, who begin with what one left."""
    finish(start(tmp_path, "train.epochs=1"))
    two = start(tmp_path, "train.epochs=1000", "--resume", workers=2)
    lines = wait_for_line(two, "time of epoch 6 ")
    assert lines[0].startswith("training from epoch 1, step 0 on 2 x CPU: ")
    assert all(line.startswith(("Epoch:[", "time of epoch ")) for line in lines[1:]), "one clean console"
    processes = family(two)
    assert len(processes) == 3
    two.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    _, err = two.communicate(timeout=120)
    assert two.returncode == 143 and err.startswith("interrupted at epoch ") and len(err.splitlines()) == 1
    assert time.monotonic() - asked < 30
    assert not psutil.wait_procs(processes, timeout=5)[1], "orphans"
    assert status(tmp_path) == "interrupted"
    assert not list((tmp_path / "result/quickstart").rglob("*.partial-*"))
    finish(start(tmp_path, "train.epochs=8", "--resume"))
    assert_follows(tmp_path, straight)
    assert [entry["step"] for entry in read_metrics(tmp_path / "result/quickstart")] == 8 * list(range(STEPS))


def test_four_workers_follow_one_until_one_is_killed(start: Start, straight: Path, tmp_path: Path) -> None:
    """Which is named, leaves no orphans, and a whole state."""
    process = start(tmp_path, "train.epochs=1000", workers=4)
    wait_for_line(process, "time of epoch 2 ")
    processes = family(process)
    assert len(processes) == 5
    processes[3].kill()
    asked = time.monotonic()
    _, err = process.communicate(timeout=120)
    assert time.monotonic() - asked < 15
    assert process.returncode == 1
    assert re.fullmatch(r"error: worker 2 of 4 was killed by SIGKILL.*go on with --resume\n", err), err
    assert not psutil.wait_procs(processes, timeout=5)[1], "orphans"
    checkpoint.load(tmp_path / "result/quickstart/checkpoints/TrainState.ckpt")
    assert_follows(tmp_path, straight)
