"""The loop: from a configuration to a run directory with checkpoints, sample grids, metrics, curve and film."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from scipy.special import expit
from tqdm import tqdm

from gan_mnist import (
    checkpoint,
    doctor,
    evaluation,
    files,
    imaging,
    page,
    portraits,
    report,
    rundir,
    runtime,
    sampling,
    state,
    tensorboard,
)
from gan_mnist.collectives import Workers
from gan_mnist.config import Config
from gan_mnist.data import Images, dataset, load_images
from gan_mnist.data.toys import TOYS
from gan_mnist.distributed import ALONE, Worker
from gan_mnist.errors import NonFiniteError, UserError
from gan_mnist.game import Game, build_game, draws_of, set_momentum
from gan_mnist.interrupts import Interrupt
from gan_mnist.latents import fixed_latents
from gan_mnist.metrics import parzen
from gan_mnist.models import NetworkSpec, parameter_count
from gan_mnist.rundir import RunDir
from gan_mnist.state import Position

STATISTICS = ("loss_d", "loss_g", "d_real", "d_fake")
"""What is logged of every step: both losses, and D's mean probability for real and for generated images."""
SETTLING = 1000
"""Latent codes that give the averaged generator's BatchNorm its statistics."""
MOST_DETOURS = 3
"""Rollbacks after non-finite values before the run gives up."""

DIVERGED = "training has diverged; the last good state is kept; try smaller optim_d.lr and optim_g.lr"


def train(
    config: Config,
    images: Images | None,
    run: RunDir,
    *,
    interrupt: Interrupt,
    resume: bool = False,
    worker: Worker = ALONE,
) -> int:
    """Train as configured and leave everything in the run directory.

    Args:
        config: the resolved configuration.
        images: the training images; None to load them once the other workers are there, who may have to make them.
        run: the run directory, claimed by this process, or by the leader of the workers.
        interrupt: asks the run to save everything and stop.
        resume: go on where the run in it stopped, exactly; otherwise an earlier run in it is removed.
        worker: which of several processes this is; the leader alone writes, the others compute their part.

    Returns:
        The process's exit status: 0, or 130 / 143 after Ctrl-C / SIGTERM.

    Raises:
        UserError: a checkpoint, option or device can't be used, a file can't be written, or training diverged.
    """
    device = runtime.start(config.device, seed=config.train.seed, worker=worker)
    images = load_images(config.data) if images is None else images
    workers = Workers(worker)
    before = _read(run.record)
    detour = 0
    try:
        while True:
            try:
                status = _play(config, images, run, workers, interrupt, device=device, resume=resume, detour=detour)
                break
            except NonFiniteError as error:
                if config.train.on_nonfinite == "stop" or detour == MOST_DETOURS:
                    raise
                resume, detour = True, detour + 1
                if worker.leads:
                    print(f"{error}; going back to the last state, for other batches (try {detour} of {MOST_DETOURS})")
    except BaseException as error:
        if worker.leads and _read(run.record) != before:  # Else the run has not begun: what is there is an older one's.
            with contextlib.suppress(UserError, OSError):
                run.write_record("failed", error=str(error))
                report.write(run.path)  # What led there is what somebody will want to see.
        raise
    workers.wait()  # The leader still writes when the others are done; they leave together.
    return status


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _play(
    config: Config,
    images: Images,
    run: RunDir,
    workers: Workers,
    interrupt: Interrupt,
    *,
    device: str,
    resume: bool,
    detour: int,
) -> int:
    """Play the game from the start, or from the saved state, to the end; see `train`."""
    # Players: fresh, pretrained, or as they were when the run stopped.
    leads = workers.here.leads
    steps_per_epoch = dataset.steps_per_epoch(images, config.data.batch_size, d_steps=config.train.d_steps)
    game = build_game(config, images.shape, steps_per_epoch=steps_per_epoch, workers=workers.here.total)
    if game.classes and game.classes <= (largest := int(images.labels.max())):
        raise UserError(
            f"model.generator.classes is {game.classes}, but the data has a class {largest}; make it larger"
        )
    position = Position()
    changes: dict[str, Any] = {}
    data = state.fingerprint(images)
    saved = state.load(run.checkpoints) if resume and leads else None
    if saved:
        position, changes = state.restore(*saved, game.parameters(), config, data)
        position.detour += detour
    position = Position(**json.loads(workers.from_leader(json.dumps(dataclasses.asdict(position)))))
    workers.follow_leader(game.parameters())
    train_step = game.train_step()
    portrait = portraits.portrait(config, game, images)
    seed, latent = config.sample.seed, config.model.latent
    settling_latents = ms.Tensor(fixed_latents(SETTLING, config.model.latent_size, seed, latent))
    every = config.train.evaluate_every
    judge = evaluation.judge(config.data) if every else None
    judged_latents = fixed_latents(judge.SAMPLES if judge else 0, config.model.latent_size, seed, latent)
    referee = Referee(config) if config.checkpoint.keep == "best" else None

    def draw(name: str) -> None:
        if game.average:
            game.average.settle(settling_latents)
        if leads or config.sample.mode == "train":  # In which BatchNorm may ask for all workers.
            picture = portrait()
        if leads:
            imaging.write_png(run.images / name, picture)

    # The run directory: a fresh one, or the old one without what came after the saved state.
    done = position.epoch * steps_per_epoch + position.step
    if leads:
        if not saved:
            run.clear()
        files.write_text(run.config, config.to_yaml())
        facts: dict[str, Any] = {"seed": config.train.seed, "steps_per_epoch": steps_per_epoch}
        facts["workers"] = workers.here.total
        some = images.inputs(np.arange(min(1000, len(images.labels))))
        facts["real"] = doctor.first_look(images.pixels, some, count=config.sample.rows * config.sample.columns)
        if saved:
            record = {"at": [position.epoch, position.step], "time": rundir.now(), "changes": changes}
            facts["resumed"] = [*run.read_record().get("resumed", []), record]
        else:
            facts["started"] = rundir.now()
        run.write_record("running", **facts, **runtime.record(device))
        run.keep_metrics_before(position.epoch, position.step)
        tensorboard.keep_before(run.tensorboard, done)
        for folder in (run.path, run.checkpoints, run.images):
            files.remove_leftovers(folder)
        if not saved:
            state.save(run.checkpoints, game.parameters(), position, config, data)
            warn_of_full_disk(config, run)
    physician = doctor.Doctor(run.path)
    interrupt.defer()
    if leads:
        begin = f" from epoch {position.epoch}, step {position.step}" if saved else ""
        players = describe(game, images, config, steps_per_epoch=steps_per_epoch)
        places = f"{workers.here.total} x {device}" if workers.here.total > 1 else device
        print(f"training{begin} on {places}: {players}; results in {run.path}/", flush=True)

    total = config.train.epochs * steps_per_epoch
    with (
        open_board(config, run, game, first_step=done) if leads else contextlib.nullcontext() as board,
        tqdm(total=total, initial=done, unit="step", disable=None if leads else True, dynamic_ncols=True) as progress,
    ):
        last_save = time.monotonic()
        while position.epoch < config.train.epochs:
            epoch, first_step = position.epoch, position.step
            batches = dataset.build_dataset(
                images,
                batch_size=config.data.batch_size * config.train.d_steps,
                codes=config.data.batch_size * (config.train.d_steps + config.train.g_steps - 1),
                model=config.model,
                draws=draws_of(game, config, epoch=epoch),
                seed=[config.train.seed, position.detour] if position.detour else config.train.seed,
                epoch=epoch,
                first_step=first_step,
                d_steps=config.train.d_steps,
                worker=workers.here,
            )
            set_momentum(game, config, epoch=epoch)
            log = StepLog(position, board, workers, first_step=epoch * steps_per_epoch + first_step)
            epoch_start = time.perf_counter()
            for step, batch in enumerate(batches.create_tuple_iterator(num_epochs=1, do_copy=False), first_step):
                # One update of D, one of G (or as many of each as the recipe says).
                log.add(train_step(*batch))
                if game.average:
                    game.average.follow(epoch * steps_per_epoch + step + 1)
                progress.update()
                if config.sample.every_steps and (epoch * steps_per_epoch + step + 1) % config.sample.every_steps == 0:
                    draw(f"step_{epoch:04d}_{step:05d}.png")

                # Log.
                last = step == steps_per_epoch - 1
                if step % config.train.log_every == 0 or last:
                    statistics, seconds = log.fold()
                    entry = {"epoch": epoch, "step": step, **statistics}
                    entry |= game.rates(epoch * steps_per_epoch + step)
                    entry["images_per_s"] = round(config.data.batch_size * config.train.d_steps / seconds, 1)
                    if last:
                        entry |= log.means(steps_per_epoch)
                        entry["epoch_s"] = round(time.perf_counter() - epoch_start, 3)
                    if leads and not last:
                        run.append_metrics(entry)
                    if leads and step % config.train.log_every == 0:
                        progress.write(course_line(config, entry, steps_per_epoch, seconds), file=sys.stdout)

                # Save the state within a long epoch, or before leaving.
                overdue = time.monotonic() - last_save > 60 * config.checkpoint.every_minutes
                stop, save = workers.agree(interrupt, overdue)
                if (stop or save) and not last:
                    log.fold()
                    require_finite(game, epoch=epoch, step=step)
                    position.step = step + 1
                    if board:
                        board.flush()
                    if leads:
                        state.save(run.checkpoints, game.parameters(), position, config, data)
                    last_save = time.monotonic()
                    if stop:
                        return _stop(run, interrupt, position, leads=leads)
            if leads:
                seconds = time.perf_counter() - epoch_start
                progress.write(f"time of epoch {epoch + 1} is {seconds:.2f}s", file=sys.stdout)

            require_finite(game, epoch=epoch, step=steps_per_epoch - 1)
            workers.require_equal(shared_parameters(game, config), epoch=epoch)

            # Samples from the same latents every epoch, checkpoints, and last the state that says all this is done.
            draw(f"epoch_{epoch:04d}.png")
            if leads:
                for network, spec in ((game.sampled, game.spec_g), (game.D, game.spec_d)):
                    checkpoint.save_network(network_path(run, spec, epoch), network, spec, epoch=epoch)
                if judge and every and (epoch + 1) % every == 0:
                    entry |= judge.score(sampling.generate(game.sampled, judged_latents))
                run.append_metrics(entry)
            if board:
                last_step = (epoch + 1) * steps_per_epoch - 1
                board.add_epoch(last_step, page.measures_of(entry), run.images / f"epoch_{epoch:04d}.png")
                if config.train.histograms and (epoch + 1) % config.train.histograms == 0:
                    weights = [*game.G.trainable_params(), *game.D.trainable_params()]
                    board.add_histograms(last_step, {weight.name: weight.asnumpy() for weight in weights})
                board.flush()
            if referee:
                referee.judge(game, position)
            if leads:
                remove_old_checkpoints(config, run, position)
            position.epoch, position.step, position.totals = epoch + 1, 0, [0.0] * len(STATISTICS)
            if leads:
                state.save(run.checkpoints, game.parameters(), position, config, data)
                for complaint in physician.visit():
                    progress.write(complaint, file=sys.stderr)
            last_save = time.monotonic()
            stop, _ = workers.agree(interrupt, now=True)
            if stop and position.epoch < config.train.epochs:
                return _stop(run, interrupt, position, leads=leads)
        if board:
            board.add_hyperparameters(
                total, config.model_dump(mode="json"), page.final_measures(report.read_metrics(run.path))
            )

    # Curve, film and page.
    if leads:
        run.write_record("finished")
        report.write(run.path)
        where = f"open {run.path}/report.html, or look at training.gif, loss_curve.png and images/ in {run.path}/"
        print(f"finished: {where}")
    return 0


def _stop(run: RunDir, interrupt: Interrupt, position: Position, *, leads: bool) -> int:
    if not leads:
        return interrupt.exit_status
    run.write_record("interrupted")
    print(
        f"interrupted at epoch {position.epoch}, step {position.step}; everything is saved. To go on: "
        f"python scripts/train.py --resume {shlex.quote(str(run.path))}",
        file=sys.stderr,
    )
    try:
        report.write(run.path)
    except UserError as error:
        print(f"warning: there is no report: {error}", file=sys.stderr)
    return interrupt.exit_status


def require_finite(game: Game, *, epoch: int, step: int) -> None:
    """Look at everything that is about to be saved.

    Raises:
        NonFiniteError: a weight, statistic or moment is NaN or infinite.
    """
    if broken := checkpoint.not_finite({parameter.name: parameter.asnumpy() for parameter in game.parameters()}):
        raise NonFiniteError(f"`{broken}` is no longer finite at epoch {epoch}, step {step}: {DIVERGED}")


def shared_parameters(game: Game, config: Config) -> list[ms.Parameter]:
    """Those that are the same for all workers."""
    local = () if config.distributed.sync_batch_norm else (".moving_mean", ".moving_variance")
    return [parameter for parameter in game.parameters() if not parameter.name.endswith(local)]


def describe(game: Game, images: Images, config: Config, *, steps_per_epoch: int) -> str:
    """One line: sizes of the networks and of the data."""
    return (
        f"{config.model.name} G ({parameter_count(game.G):,} parameters) against D ({parameter_count(game.D):,}), "
        f"{len(images.labels):,} images, {steps_per_epoch} steps of {config.data.batch_size} an epoch, "
        f"{config.train.epochs} epochs"
    )


def open_board(
    config: Config, run: RunDir, game: Game, *, first_step: int
) -> contextlib.AbstractContextManager[tensorboard.Board | None]:
    """Where TensorBoard's files go, if they are asked for; `first_step` counts over all epochs."""
    if not (config.train.tensorboard or config.train.histograms):
        return contextlib.nullcontext()
    rates = {"lr_d": game.rates_d[:: game.rules.d_steps], "lr_g": game.rates_g[:: game.rules.g_steps]}
    return tensorboard.Board(
        run.tensorboard,
        first_step=first_step,
        rates=rates,
        images_per_step=config.data.batch_size * config.train.d_steps,
    )


class StepLog:
    """The statistics of an epoch's steps: read from the device when a line is due, since reading waits for the step."""

    def __init__(
        self, position: Position, board: tensorboard.Board | None, workers: Workers, *, first_step: int
    ) -> None:
        self.position = position
        self.board = board
        self.workers = workers
        self.first_step = first_step
        """Of those pending, counted over all epochs."""
        self.pending: list[tuple[ms.Tensor, ...]] = []
        self.last: np.ndarray = np.zeros(len(STATISTICS))
        self.steps_read = position.step
        self.start = time.perf_counter()

    def add(self, step: tuple[ms.Tensor, ...]) -> None:
        """Note what a step returned: both losses, the logits of real and of generated images."""
        self.pending.append(step)

    def fold(self) -> tuple[dict[str, float], float]:
        """Add the pending steps to the epoch's totals, as means over all workers.

        Returns:
            The statistics of the latest step, and the mean seconds a step took since the last call.

        Raises:
            NonFiniteError: a statistic is NaN or infinite.
        """
        rows, read = np.empty((len(self.pending), len(STATISTICS))), []
        for row, step in zip(rows, self.pending):
            loss_d, loss_g, real_logits, fake_logits = (tensor.asnumpy().astype(np.float64) for tensor in step)
            row[:] = [loss_d, loss_g, expit(real_logits).mean(), expit(fake_logits).mean()]
        for row in self.workers.mean(rows):
            self.last = row
            for name, value in zip(STATISTICS, self.last):
                if not np.isfinite(value):
                    raise NonFiniteError(
                        f"{name} is {value} at epoch {self.position.epoch}, step {self.steps_read}: {DIVERGED}"
                    )
            self.position.totals = [total + value for total, value in zip(self.position.totals, self.last.tolist())]
            self.steps_read += 1
            read.append(dict(zip(STATISTICS, self.last.tolist())))
        seconds = (time.perf_counter() - self.start) / max(1, len(self.pending))
        if self.board:
            self.board.add_steps(self.first_step, read, seconds=seconds)
        self.first_step += len(read)
        self.pending, self.start = [], time.perf_counter()
        return dict(zip(STATISTICS, self.last.tolist())), seconds

    def means(self, steps: int) -> dict[str, float]:
        """Means over the whole epoch, all its steps included."""
        return {f"mean_{name}": total / steps for name, total in zip(STATISTICS, self.position.totals)}


class Referee:
    """Judges G after every epoch by Parzen window on held-out images, to keep the best checkpoint."""

    SAMPLES, POINTS, SIGMA = 2000, 1000, 0.2

    def __init__(self, config: Config) -> None:
        if config.data.dataset in TOYS:
            raise UserError(
                f"checkpoint.keep is best, which judges images, but {config.data.dataset} has points; "
                "set it to all, or to how many of the newest to keep"
            )
        held_out = load_images(config.data, "test").pixels[: self.POINTS]
        self.points = held_out.reshape(len(held_out), -1) / 255
        self.latents = fixed_latents(self.SAMPLES, config.model.latent_size, config.sample.seed, config.model.latent)

    def judge(self, game: Game, position: Position) -> None:
        """Enter the epoch into the position if it is the best so far."""
        samples = sampling.generate(game.sampled, self.latents).reshape(self.SAMPLES, -1) / 255
        score = float(parzen.log_likelihood(self.points, samples, sigma=self.SIGMA).mean())
        if position.best is None or score > position.best:
            position.best, position.best_epoch = score, position.epoch


def network_path(run: RunDir, spec: NetworkSpec, epoch: int) -> Path:
    """Generator<E>.ckpt or Discriminator<E>.ckpt, E being the 0-based epoch as in the course."""
    return run.checkpoints / f"{spec.role.capitalize()}{epoch}.ckpt"


def remove_old_checkpoints(config: Config, run: RunDir, position: Position) -> None:
    """Apply `checkpoint.keep` after an epoch."""
    if config.checkpoint.keep == "all":
        return
    if config.checkpoint.keep == "best":
        kept = {position.best_epoch}
    else:
        kept = set(range(position.epoch - config.checkpoint.keep + 1, position.epoch + 1))
    for path in [*run.checkpoints.glob("Generator*.ckpt"), *run.checkpoints.glob("Discriminator*.ckpt")]:
        number = path.stem.removeprefix("Generator").removeprefix("Discriminator")
        if number.isdecimal() and int(number) not in kept:
            path.unlink(missing_ok=True)


def warn_of_full_disk(config: Config, run: RunDir) -> None:
    """Say on stderr if the run's checkpoints will not fit on the disk, judged by the state just saved."""
    size = (run.checkpoints / state.NAME).stat().st_size
    weights = size / 3  # Adam keeps two moments for every weight.
    epochs = config.train.epochs
    kept = {"all": epochs, "best": 1}.get(str(config.checkpoint.keep)) or min(epochs, int(config.checkpoint.keep))
    need, free = 3 * size + kept * weights + epochs * 50_000, shutil.disk_usage(run.path).free
    if need > free:
        print(
            f"warning: this run will need about {need / 1e6:,.0f} MB in {run.path}, but {free / 1e6:,.0f} MB are free; "
            "checkpoint.keep=5 keeps the newest five checkpoints only",
            file=sys.stderr,
        )


def course_line(config: Config, entry: dict[str, Any], steps_per_epoch: int, seconds: float) -> str:
    """The console line of the course."""
    return (
        f"Epoch:[{entry['epoch']:>3d}/{config.train.epochs:>3d}], step:[{entry['step']:>4d}/{steps_per_epoch:>4d}], "
        f"loss_d:{entry['loss_d']:>4f} , loss_g:{entry['loss_g']:>4f} , time:{seconds:>.3f}s, lr:{entry['lr_g']:>6f}"
    )
