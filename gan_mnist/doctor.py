"""The doctor: says what is wrong with a run, judged by its metrics and sample grids. Needs no device and no MindSpore.

Each rule looks for one illness, and must see it in the numbers or in the pictures; the configuration then helps to name
the cause and the remedy. A sound run, too, begins with noise and a D that is ahead: the rules have patience.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from gan_mnist import config, imaging
from gan_mnist.config import Config
from gan_mnist.errors import UserError
from gan_mnist.rundir import RunDir

TAIL = 2**17
"""Bytes at the end of metrics.jsonl that are read, some 600 lines: quick after any number of epochs."""
WINDOW = 1000
"""Steps that a rule looks back over."""
FEWEST_LINES = 8
"""Lines in the window below which there is no telling."""
NEARLY_ALL = 0.9
"""The share of the window's lines that must show an illness."""
PATIENCE = 1000
"""Steps after which pictures of a sound run are no longer noise, nor all alike."""
GRIDS = 4
"""Sample grids that are looked at, from all over the run; besides, the newest two."""
MOST_IMAGES = 50
"""Of a grid."""
FLOOR = -math.log(1e-12)
"""27.63 nats: the largest loss of an image under `BCELoss`, whose logarithm is floored; beyond, no gradient passes."""
CROSS_ENTROPY = ("bce", "bce_logits", "minimax")
"""The losses under which D's output is a probability."""
QUANTITIES = ("loss_d", "loss_g", "d_real", "d_fake")


class Finding(NamedTuple):
    """An illness: two lines in each language, what was seen, and the likely cause with the one change to try."""

    name: str
    en: str
    zh: str


class Portrait(NamedTuple):
    """What a set of pictures looks like; brightness goes from 0 to 1."""

    brightness: float
    """Mean of the pixels."""
    contrast: float
    """Their standard deviation."""
    smoothness: float
    """Correlation of neighbouring pixels: 0 for noise, 0.8 for handwriting."""
    neighbour: float
    """Distance of a picture to the one most like it, at half the resolution; the median over all."""


class Run(NamedTuple):
    """The evidence."""

    config: Config
    steps: int
    """Taken so far."""
    recent: dict[str, np.ndarray]
    """QUANTITIES as logged in the newest `WINDOW` steps; empty where there are too few lines."""
    grids: list[Portrait]
    """Some sample grids from all over the run, in order; the last two are the newest two."""
    moved: float | None
    """Distance between the newest two grids, from a picture to that of the same latent code, at half the resolution."""
    real: Portrait | None
    """Real images, in sets as large as a grid."""
    inputs: list[float] | None
    """The smallest and the largest number of a real image as it enters D."""
    modes: float | None
    """Digits that the classifier found among the samples, where the run was evaluated."""
    error: str
    """Why the run failed."""


def diagnose(run_dir: Path) -> list[Finding]:
    """Say what is wrong with a run as it stands now, also while it is training.

    Returns:
        The findings, the gravest first; none for a healthy run, or one that has just begun.

    Raises:
        UserError: this is no run directory, or its config.yaml is damaged.
    """
    return judge(gather(run_dir))


def judge(run: Run) -> list[Finding]:
    """The findings that the evidence allows, the gravest first."""
    findings = []
    for rule in RULES:
        if finding := rule(run):
            findings.append(finding)
            if rule in CONCLUSIVE:
                break
    return findings


class Doctor:
    """Looks after a run in training, and says every finding once."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.said: set[str] = set()

    def visit(self) -> Iterator[str]:
        """What is newly wrong after an epoch."""
        for finding in diagnose(self.run_dir):
            if finding.name not in self.said:
                self.said.add(finding.name)
                yield f"doctor: {finding.en}"


def gather(run_dir: Path) -> Run:
    """Read the evidence in a run directory; what is missing or cut short is no evidence.

    Raises:
        UserError: this is no run directory, or its config.yaml is damaged.
    """
    if not (run_dir / "config.yaml").is_file():
        raise UserError(f"{run_dir}: no run directory (it has no config.yaml); name one, such as result/mnist")
    options = config.load(run_dir / "config.yaml")
    record = RunDir(run_dir).read_record()
    lines = _last_lines(run_dir / "metrics.jsonl")
    steps_per_epoch = record.get("steps_per_epoch", 1)
    taken = [line["epoch"] * steps_per_epoch + line["step"] + 1 for line in lines]
    recent = [line for line, step in zip(lines, taken) if step > taken[-1] - WINDOW]
    quantities = {name: np.array([line[name] for line in recent]) for name in QUANTITIES}
    judged = [line["modes"] for line in lines if "modes" in line]
    looked = record.get("real", {})
    real = Portrait(*looked["portrait"]) if "portrait" in looked else None
    grids = _grids(run_dir / "images", options.sample.rows, options.sample.columns) if real else []
    points = [_halved(_grey(grid)) for grid in grids[-2:]]
    return Run(
        config=options,
        steps=taken[-1] if taken else 0,
        recent=quantities if len(recent) >= FEWEST_LINES else {},
        grids=[portrait(grid) for grid in grids],
        moved=float(np.linalg.norm(points[1] - points[0], axis=1).mean()) if len(points) == 2 else None,
        real=real,
        inputs=looked.get("inputs"),
        modes=judged[-1] if judged else None,
        error=str(record.get("error", "")) if record.get("status") == "failed" else "",
    )


def first_look(pixels: np.ndarray, inputs: np.ndarray, *, count: int) -> dict[str, Any]:
    """What the doctor wants to know about the data, for run.json.

    Args:
        pixels: the training images, uint8 (N, H, W) or (N, H, W, 3); anything else is no picture.
        inputs: some of them as they enter D.
        count: pictures in a sample grid.
    """
    if pixels.dtype != np.uint8:
        return {}
    looked = {"inputs": [float(inputs.min()), float(inputs.max())]}
    count = min(count, MOST_IMAGES)
    if not 1 < count <= len(pixels):
        return looked
    random = np.random.default_rng(0)
    sets = [portrait(pixels[np.sort(random.choice(len(pixels), count, replace=False))]) for _ in range(20)]
    return looked | {"portrait": np.mean(sets, axis=0).tolist()}


def portrait(images: np.ndarray) -> Portrait:
    """Describe pictures, uint8 (N, H, W) or (N, H, W, 3), N > 1; colours count as grey."""
    x = _grey(images)
    centred = x - x.mean()
    variance = max(float(np.square(centred).mean()), 1e-9)
    beside, below = (centred[:, :, 1:] * centred[:, :, :-1]).mean(), (centred[:, 1:] * centred[:, :-1]).mean()
    points = _halved(x)
    distances = np.linalg.norm(points[:, None] - points, axis=2) + np.diag(np.full(len(x), np.inf))
    neighbour = float(np.median(distances.min(axis=1)))
    return Portrait(float(x.mean()), math.sqrt(variance), float(beside + below) / 2 / variance, neighbour)


def _not_finite(run: Run) -> Finding | None:
    broken = re.match(r"(.+?) is (no longer finite|nan|inf|-inf) at (epoch \d+, step \d+)", run.error)
    if not broken:
        return None
    slower = _slower(run.config)
    return Finding(
        "not_finite",
        f"{broken[1]} was no longer a finite number at {broken[3]}, and the run stopped.\n"
        f"Training has diverged: the steps were too large. Try {slower}.",
        f"{broken[1]} 在 {broken[3]} 不再是有限的数值，训练已停止。\n训练发散：步长太大。请试 {slower}。",
    )


def _relu_logits(run: Run) -> Finding | None:
    if not run.recent or run.config.loss.name not in CROSS_ENTROPY:
        return None
    real, fake = run.recent["d_real"], run.recent["d_fake"]
    halves = float((abs(fake - 0.5) < 1e-6).mean())
    if min(real.min(), fake.min()) < 0.5 - 1e-6 or halves < 0.5:
        return None
    return Finding(
        "relu_logits",
        f"D(G(z)) is exactly 0.5 in {halves:.0%} of the steps, and neither it nor D(x) is ever below.\n"
        "Something cuts off D's negative outputs before its Sigmoid, and with them G's gradient. "
        "Try model.discriminator.relu_logits=false.",
        f"{halves:.0%} 的步中 D(G(z)) 恰为 0.5，且没有任何 D(x)、D(G(z)) 低于 0.5：G 得不到梯度。\n"
        "D 的负输出在 Sigmoid 之前被截断。请试 model.discriminator.relu_logits=false。",
    )


def _stuck(run: Run) -> Finding | None:
    if not run.recent or run.config.loss.name not in CROSS_ENTROPY:
        return None
    newest = max(FEWEST_LINES, len(run.recent["loss_d"]) // 8)  # There is no way back from this: little will do.
    loss_d, loss_g, real, fake = (run.recent[name][-newest:] for name in QUANTITIES)
    if (abs(real - fake) < 1e-4).mean() < NEARLY_ALL:
        return None
    numbers = f"loss_d = {np.median(loss_d):.2f}, loss_g = {abs(np.median(loss_g)):.2f}, "
    numbers += f"D(x) = {np.median(real):.4f}, D(G(z)) = {np.median(fake):.4f}"
    floor = FLOOR / (2 if run.config.loss.halve_d else 1)
    at_floor = run.config.loss.name == "bce" and abs(np.median(loss_d) - floor) < 0.01 * floor
    slower = _slower(run.config, "d")
    why_en = (
        f"beyond {floor:.2f}, where BCELoss floors its logarithm, no gradient leads back"
        if at_floor
        else "it has run away"
    )
    why_zh = f"超过 {floor:.2f}（BCELoss 对数的下限）就没有梯度能让它回来" if at_floor else "它已失控"
    return Finding(
        "d_stuck",
        f"D gives the same answer to every image, real or generated: {numbers}.\n"
        f"A step of D was too large: {why_en}. Try {slower}.",
        f"无论真假，D 对每张图都给出同样的答案：{numbers}。\nD 的某一步太大：{why_zh}。请试 {slower}。",
    )


def _vanished(run: Run) -> Finding | None:
    if not run.recent or run.config.loss.name not in ("bce", "minimax"):
        return None
    fake, loss_g = run.recent["d_fake"], run.recent["loss_g"]
    if run.config.loss.name == "minimax" and (fake < 0.03).mean() >= NEARLY_ALL:
        seen = f"D(G(z)) is {np.median(fake):.1g}", f"D(G(z)) 为 {np.median(fake):.1g}"
        why_en, why_zh = "log(1 - D(G(z))) has the slope D(G(z))", "log(1 - D(G(z))) 的斜率就是 D(G(z))"
        change = "loss.name=bce"
    elif run.config.loss.name == "bce" and (loss_g > 0.99 * FLOOR).mean() >= 0.5:
        seen = f"loss_g stands at {np.median(loss_g):.2f}", f"loss_g 停在 {np.median(loss_g):.2f}"
        why_en, why_zh = "BCELoss floors its logarithm there", "BCELoss 的对数在此处被截断"
        change = "loss.name=bce_logits"
    else:
        return None
    return Finding(
        "g_vanished",
        f"{seen[0]}: D recognises all that G draws, and G's gradient has vanished.\n"
        f"{why_en}: the surer D is, the less G learns. Try {change}.",
        f"{seen[1]}：D 认出了 G 画的一切，G 的梯度已消失。\n{why_zh}：D 越有把握，G 学到的越少。请试 {change}。",
    )


def _saturated(run: Run) -> Finding | None:
    if not run.recent:
        return None
    loss, optim_d, optim_g = run.config.loss, run.config.optim_d, run.config.optim_g
    loss_d, real, fake = (run.recent[name] for name in ("loss_d", "d_real", "d_fake"))
    if loss.name in CROSS_ENTROPY:
        sure = (real > 0.97 * (1 - loss.smoothing)) & (fake < 0.03)
    elif loss.name in ("hinge", "least_squares"):
        sure = loss_d < 0.02
    else:
        return None  # A critic's loss has no zero.
    if sure.mean() < NEARLY_ALL:
        return None
    if optim_d.name == optim_g.name and optim_d.lr > optim_g.lr:
        why_en, why_zh = (
            f"D learns {optim_d.lr / optim_g.lr:.3g} times as fast as G",
            f"D 的学习率是 G 的 {optim_d.lr / optim_g.lr:.3g} 倍",
        )
        change = f"optim_d.lr={optim_g.lr:g}" if optim_g.lr > 1e-5 else f"optim_g.lr={optim_d.lr:g}"
    else:
        why_en, why_zh = "D is too strong for this G", "对这个 G 来说 D 太强"
        change = (
            "loss.smoothing=0.1"
            if loss.name in ("bce", "bce_logits") and not loss.smoothing
            else _slower(run.config, "d")
        )
    numbers = f"loss_d = {np.median(loss_d):.2g}, D(x) = {np.median(real):.3f}, D(G(z)) = {np.median(fake):.2g}"
    return Finding(
        "d_saturated",
        f"D has been telling real from generated without fail: {numbers}.\n"
        f"{why_en}, and a D that is always right shows G no way. Try {change}.",
        f"D 一直毫无差错地分辨真假：{numbers}。\n{why_zh}，永远正确的 D 无法给 G 指路。请试 {change}。",
    )


def _range(run: Run) -> Finding | None:
    if not run.inputs or run.inputs[0] < -0.5:
        return None
    low, high = run.inputs
    seen_en, seen_zh = f"Real pixels enter D from {low:.2f} to {high:.2f}", f"真实像素以 {low:.2f} 到 {high:.2f} 进入 D"
    if run.real and run.grids and run.steps >= 300:
        seen_en += (
            f"; the samples' mean brightness is {run.grids[-1].brightness:.2f}, real images' {run.real.brightness:.2f}"
        )
        seen_zh += f"；样本的平均亮度为 {run.grids[-1].brightness:.2f}，真实图像为 {run.real.brightness:.2f}"
    return Finding(
        "range",
        f"{seen_en}.\nG's Tanh gives -1 to 1: what it draws on black looks grey here, and D has an easy sign. "
        "Try data.scale=symmetric.",
        f"{seen_zh}。\nG 的 Tanh 输出 -1 到 1，两者范围不符：背景发灰，D 轻易识破。请试 data.scale=symmetric。",
    )


def _collapsed(run: Run) -> Finding | None:
    options = run.config.model.generator
    eps = options.get("eps")
    large_eps = isinstance(eps, float) and eps > 0.01
    if run.modes is not None and run.modes < 8 and run.steps >= PATIENCE:
        seen = f"The samples show {run.modes:.0f} of 10 digits only", f"样本中只有 10 个数字里的 {run.modes:.0f} 个"
    elif run.real and len(run.grids) > 1 and run.steps >= PATIENCE:
        now, before = run.grids[-1].neighbour, run.grids[-2].neighbour
        best = max(grid.neighbour for grid in run.grids)
        flawed = large_eps and max(now, before) < 0.3 * run.real.neighbour
        alike = max(now, before) < 0.04 * run.real.neighbour
        fell = best > 0.3 * run.real.neighbour and max(now, before) < 0.4 * best
        if not (flawed or alike or fell):
            return None
        share = now / run.real.neighbour
        seen = (
            f"The samples are alike: each differs from its nearest by {share:.1%} of what real images do",
            f"样本彼此雷同：每张与最相近者的差别只有真实图像的 {share:.1%}",
        )
    else:
        return None
    if options.get("batch_norm") is False:
        why = "G has no BatchNorm to tell the codes of a batch apart", "G 没有 BatchNorm，分不开一批中的隐码"
        change = "model.generator.batch_norm=true"
    elif large_eps:
        why = (
            f"BatchNorm's eps is {eps:g}, more than the variances it is added to",
            f"BatchNorm 的 eps 为 {eps:g}，比它所加的方差还大",
        )
        change = "model.generator.eps=1e-5"
    else:
        why = "G has found a few images that D lets pass", "G 找到了几张能骗过 D 的图，只画它们"
        change = "model.pack=2" if run.config.model.pack == 1 else _slower(run.config, "g")
    return Finding(
        "mode_collapse",
        f"{seen[0]}.\n{why[0]}: mode collapse. Try {change}.",
        f"{seen[1]}。\n{why[1]}：模式坍塌。请试 {change}。",
    )


def _oscillating(run: Run) -> Finding | None:
    if not run.recent or run.config.loss.name not in CROSS_ENTROPY:
        return None
    fake = run.recent["d_fake"]
    extremes = fake[(fake < 0.1) | (fake > 0.9)] > 0.5
    swings = int(np.abs(np.diff(extremes.astype(int))).sum())
    if swings < 4:
        return None
    slower = _slower(run.config)
    return Finding(
        "oscillation",
        f"D(G(z)) swung between below 0.1 and above 0.9 {swings} times in the last {WINDOW:,} steps.\n"
        f"The players overtake one another instead of approaching: the steps are too large. Try {slower}.",
        f"最近 {WINDOW:,} 步中，D(G(z)) 在 0.1 以下与 0.9 以上之间来回摆动了 {swings} 次。\n"
        f"双方轮流压倒对方而不是一起靠近：步长太大。请试 {slower}。",
    )


def _other_mode(run: Run) -> Finding | None:
    if run.config.sample.mode != "train":
        return None
    count = run.config.sample.rows * run.config.sample.columns
    return Finding(
        "train_mode",
        f"The grids are drawn in training mode: BatchNorm takes its statistics from these {count} codes alone.\n"
        "So an image depends on the others drawn with it, and is not what sample.py shows. Try sample.mode=eval.",
        f"样本图是在训练模式下画的：BatchNorm 只用这 {count} 个隐码的统计量。\n"
        "因此每张图取决于同时画的其他图，也与 sample.py 画的不同。请试 sample.mode=eval。",
    )


def _nothing_learned(run: Run) -> Finding | None:
    if not run.real or len(run.grids) < 2 or run.steps < PATIENCE:
        return None
    now, before = run.grids[-1], run.grids[-2]
    if max(now.smoothness, before.smoothness) > 0.3 * run.real.smoothness and now.contrast > 0.3 * run.real.contrast:
        return None
    still = run.moved is not None and run.moved < 0.05 * run.real.neighbour
    epochs_en = "and no longer change from epoch to epoch" if still else "after so many steps"
    epochs_zh = "且逐轮不再变化" if still else "步数已不少"
    faster = (
        f"optim_g.lr={10 * run.config.optim_g.lr:g}" if run.config.optim_g.lr < 1e-4 else "train.epochs twice as large"
    )
    faster_zh = faster.replace("train.epochs twice as large", "把 train.epochs 加倍")
    return Finding(
        "nothing_learned",
        f"The samples are noise {epochs_en} ({run.steps:,}): neighbouring pixels correlate by {now.smoothness:.2f}, "
        f"in real images by {run.real.smoothness:.2f}.\n"
        f"G has learned nothing yet; if nothing graver is said, try {faster}.",
        f"样本仍是噪声，{epochs_zh}（{run.steps:,} 步）：相邻像素的相关系数为 {now.smoothness:.2f}，"
        f"真实图像为 {run.real.smoothness:.2f}。\nG 还没有学到东西；若没有更严重的诊断，请试 {faster_zh}。",
    )


RULES = (
    _not_finite,
    _relu_logits,
    _stuck,
    _vanished,
    _saturated,
    _range,
    _collapsed,
    _oscillating,
    _other_mode,
    _nothing_learned,
)
"""From the gravest on."""
CONCLUSIVE = (_not_finite, _relu_logits, _stuck)
"""After these, everything else is a consequence."""


def _slower(options: Config, player: str = "dg") -> str:
    """The change that makes a player's steps smaller."""
    rate = max(getattr(options, f"optim_{name}").lr for name in player)
    lower = 2e-4 if rate > 4e-4 else rate / 4
    return " ".join(f"optim_{name}.lr={lower:g}" for name in player)


def _last_lines(path: Path) -> list[dict[str, Any]]:
    """The sound lines at the end of metrics.jsonl."""
    lines: list[dict[str, Any]] = []
    with contextlib.suppress(OSError), open(path, "rb") as log:
        log.seek(max(0, path.stat().st_size - TAIL))
        for line in log:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                lines.append({name: entry[name] for name in ("epoch", "step", *QUANTITIES)} | entry)
    return lines


def _grids(folder: Path, rows: int, columns: int) -> list[np.ndarray]:
    """The images of some epochs' grids, the last two being the newest."""
    paths = sorted(folder.glob("epoch_*.png"), key=lambda path: (len(path.name), path.name))
    if rows * columns < 2:
        return []
    older, newest = paths[:-2], paths[-2:]
    found = []
    for path in [*older[:: max(1, -(-len(older) // GRIDS))], *newest]:
        with contextlib.suppress(OSError, ValueError, SyntaxError), Image.open(path) as picture:
            found.append(imaging.cells(np.asarray(picture), rows=rows, columns=columns)[:MOST_IMAGES])
    return found


def _grey(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W) or (N, H, W, 3) -> float32 (N, H, W) in [0, 1]."""
    x = images.astype(np.float32) / 255
    return x if x.ndim == 3 else x.mean(axis=3)


def _halved(x: np.ndarray) -> np.ndarray:
    """(N, H, W) -> (N, H/2 * W/2): means of 2 x 2 pixels, so that a little noise is no difference."""
    count, height, width = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(count, height // 2, 2, width // 2, 2).mean(axis=(2, 4)).reshape(count, -1)
