"""The loop, in this process: what the real command line can't be made to do at will."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest

from gan_mnist import trainer
from gan_mnist.config import Config, load
from gan_mnist.data import Images, read_images
from gan_mnist.errors import NonFiniteError
from gan_mnist.game import Game
from gan_mnist.interrupts import Interrupt
from gan_mnist.rundir import RunDir
from gan_mnist.steps import TrainStep

RECIPE = Path(__file__).resolve().parent.parent / "configs/quickstart.yaml"


@pytest.fixture
def play(tmp_path: Path, digits: Path) -> Callable[..., RunDir]:
    def play(*overrides: str) -> RunDir:
        config = small(tmp_path, digits, *overrides)
        run = RunDir(config.run_dir)
        with run.claim():
            assert trainer.train(config, images(digits), run, interrupt=Interrupt()) == 0
        return run

    return play


def small(folder: Path, digits: Path, *overrides: str) -> Config:
    small = ["data.batch_size=32", "train.epochs=3", "train.log_every=1", "model.generator={hidden: [16, 16]}"]
    return load(RECIPE, [*small, f"result_dir={folder}", f"data.folder={digits}", *overrides])


def images(digits: Path) -> Images:
    train = read_images(digits, "train")
    return Images(train.pixels[:128], train.labels[:128])


def break_step(monkeypatch: pytest.MonkeyPatch, *, games: int, at: int) -> None:
    """Let a step (counted from 1) of the first `games` games return NaN."""
    make_train_step = Game.train_step
    made = []

    def make_broken_step(game: Game) -> TrainStep:
        step = make_train_step(game)
        made.append(step)
        calls = []

        def broken_step(*batch: ms.Tensor) -> tuple[ms.Tensor, ...]:
            calls.append(batch)
            statistics = step(*batch)
            return (
                (statistics[0] * float("nan"), *statistics[1:])
                if len(made) <= games and len(calls) == at
                else statistics
            )

        return broken_step

    monkeypatch.setattr(Game, "train_step", make_broken_step)


def test_rollback_goes_on_from_the_last_state_with_other_batches(
    play: Callable[..., RunDir], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    straight = [json.loads(line) for line in play("name=straight").metrics.read_text().splitlines()]
    break_step(monkeypatch, games=1, at=6)
    run = play("name=rolled", "train.on_nonfinite=rollback")
    rolled = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    position = [(line["epoch"], line["step"]) for line in rolled]
    assert position == [(epoch, step) for epoch in range(3) for step in range(4)]
    assert [line["loss_d"] for line in rolled[:4]] == [line["loss_d"] for line in straight[:4]]
    assert rolled[4]["loss_d"] != straight[4]["loss_d"]
    assert json.loads(run.record.read_text())["status"] == "finished"


def test_rollback_gives_up_when_it_does_not_help(
    play: Callable[..., RunDir], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    break_step(monkeypatch, games=100, at=2)
    with pytest.raises(NonFiniteError, match="loss_d is nan at epoch 0, step 1"):
        play("name=lost", "train.on_nonfinite=rollback")
    assert json.loads((tmp_path / "lost/run.json").read_text())["status"] == "failed"
    assert (tmp_path / "lost/report.html").is_file()


def test_grids_are_drawn_between_epochs_too_and_change_nothing(play: Callable[..., RunDir]) -> None:
    plain, often = play("name=plain"), play("name=often", "sample.every_steps=3")
    pictures = {path.name for path in often.images.iterdir()}
    steps = {"step_0000_00002.png", "step_0001_00001.png", "step_0002_00000.png", "step_0002_00003.png"}
    assert pictures == {path.name for path in plain.images.iterdir()} | steps
    last, again = often.images / "epoch_0002.png", often.images / "step_0002_00003.png"
    assert last.read_bytes() == again.read_bytes() == (plain.images / last.name).read_bytes()


def test_a_grid_drawn_in_training_mode_is_another(play: Callable[..., RunDir]) -> None:
    right, wrong = play("name=right"), play("name=wrong", "sample.mode=train")
    losses = [[json.loads(line)["loss_g"] for line in run.metrics.read_text().splitlines()] for run in (right, wrong)]
    assert losses[0] == losses[1]
    pictures = [(run.images / "epoch_0002.png").read_bytes() for run in (right, wrong)]
    assert pictures[0] != pictures[1]


def test_keep_best_keeps_the_epoch_with_the_highest_likelihood(
    play: Callable[..., RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([-5.0, 7.0, 3.0])
    monkeypatch.setattr(trainer.parzen, "log_likelihood", lambda *_, **__: np.array([next(scores)]))
    run = play("checkpoint.keep=best")
    assert [path.name for path in run.checkpoints.glob("Generator*.ckpt")] == ["Generator1.ckpt"]
    assert [path.name for path in run.checkpoints.glob("Discriminator*.ckpt")] == ["Discriminator1.ckpt"]


def test_a_weight_that_is_not_finite_is_named_and_never_saved(
    play: Callable[..., RunDir], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    save = trainer.state.save

    def save_and_spoil(folder: Path, parameters: list[ms.Parameter], *rest: Any) -> None:
        save(folder, parameters, *rest)
        # Its update makes the bias NaN, and ReLU hides that from every loss.
        spoilt = next(p for p in parameters if p.name == "optim_g.moment2.generator.model.0.bias")
        spoilt.set_data(ms.Tensor(np.full(spoilt.shape, np.inf, np.float32)))

    monkeypatch.setattr(trainer.state, "save", save_and_spoil)
    with pytest.raises(NonFiniteError, match=r"`generator.model.0.bias` is no longer finite at epoch 0, step 3"):
        play("name=broken")
    assert [path.name for path in (tmp_path / "broken/checkpoints").iterdir()] == ["TrainState.ckpt"]
    assert trainer.state.load(tmp_path / "broken/checkpoints"), "the last good state can be read"
