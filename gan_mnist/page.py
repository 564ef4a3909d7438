"""A run, or several beside one another, as one HTML file that opens offline. Needs no device and no MindSpore.

The templates hold all sentences in both languages; this module turns a run's files into what they show: numbers as
JSON for the curves, pictures as base64.
"""

from __future__ import annotations

import base64
import io
import math
import statistics
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jinja2
import numpy as np
from PIL import Image

from gan_mnist import scoreboard
from gan_mnist.config import Config, flatten
from gan_mnist.errors import UserError
from gan_mnist.scoreboard import MEASURES

MOST_POINTS = 1500
"""Of a curve; longer ones keep each stretch's extremes."""
MOST_GRID_BYTES = 7_000_000
"""Of all embedded grids together, before base64 makes them a third larger."""
MOST_PICTURE_BYTES = 700_000
"""Of any other embedded picture."""
COLOURS = ("#d9730d", "#1f6fb4", "#2e8b57", "#a23b9c", "#7a6a00", "#b3261e")
"""D and real images, G and generated images; of compared runs, one each."""

Text = tuple[str, str]
"""The same in English and in Chinese."""

LOSSES: tuple[tuple[str, Text], ...] = (("loss_d", ("D's loss", "D 的损失")), ("loss_g", ("G's loss", "G 的损失")))
PROBABILITIES: tuple[tuple[str, Text], ...] = (
    ("d_real", ("D(x), real", "D(x)，真实图像")),
    ("d_fake", ("D(G(z)), generated", "D(G(z))，生成图像")),
)
RATES: tuple[tuple[str, Text], ...] = (
    ("lr_d", ("D's learning rate", "D 的学习率")),
    ("lr_g", ("G's learning rate", "G 的学习率")),
)
EQUILIBRIUM: Text = ("equilibrium", "均衡")
REAL: Text = ("real training images", "真实训练图像")
CHINESE = {
    "parzen": "Parzen 窗对数似然（nat）",
    "parzen_sigma": "Parzen 窗的宽度",
    "fid": "Fréchet 距离",
    "kid": "核距离",
    "precision": "精确率",
    "recall": "召回率",
    "density": "密度",
    "coverage": "覆盖率",
    "classifier_score": "分类器得分（1 到 10）",
    "digits_distance": "数字频率的总变差",
    "modes": "出现的数字（共 10 个）",
    "class_accuracy": "读作所要类别的样本",
    "modes_covered": "覆盖的模式数",
    "high_quality": "高质量样本所占比例",
    "modes_divergence": "模式频率与均匀分布的 KL 散度（nat）",
    "points_mean": "均值",
    "points_std": "标准差",
    "wasserstein": "Wasserstein-1 距离",
    "diversity": "平均两两距离（像素）",
    "diversity_features": "平均两两距离（特征）",
    "neighbour": "最近的训练图像（像素）：中位数",
    "neighbour_1st": "最近的训练图像（像素）：第 1 百分位",
    "neighbour_features": "最近的训练图像（特征）：中位数",
    "neighbour_features_1st": "最近的训练图像（特征）：第 1 百分位",
    "d_accuracy_real": "D 判为真的测试图像",
    "d_accuracy_fake": "D 判为假的生成图像",
}
"""The measures' Chinese names."""
ENGLISH = {
    "parzen_sigma": "Parzen window's width",
    "diversity_features": "Mean pairwise distance, features",
    "neighbour_1st": "Nearest training image, pixels: 1st percentile",
    "neighbour_features": "Nearest training image, features: median",
    "neighbour_features_1st": "Nearest training image, features: 1st percentile",
}
"""Their English names where the table's are indented under another one."""
STATUSES = {
    "running": ("running", "运行中"),
    "interrupted": ("interrupted", "已中断"),
    "finished": ("finished", "已完成"),
    "failed": ("failed", "失败"),
}


class Finding(Protocol):
    """Something about a run that its owner should know, in two lines."""

    @property
    def name(self) -> str:
        """A short name."""

    @property
    def en(self) -> str:
        """In English."""

    @property
    def zh(self) -> str:
        """In Chinese."""


@dataclass(frozen=True)
class Run:
    """What is known of a run; everything but the metrics may be missing."""

    path: Path
    metrics: list[dict[str, Any]]
    steps_per_epoch: int
    record: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    """The resolved configuration, dotted."""
    evaluations: list[scoreboard.Entry] = field(default_factory=list)
    grids: dict[int, Path] = field(default_factory=dict)
    """Epoch -> its picture."""
    walk: Path | None = None
    neighbours: Path | None = None
    calibration: Path | None = None
    findings: Sequence[Finding] = ()

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.path.resolve().name


def measures_of(line: Mapping[str, Any]) -> dict[str, float]:
    """The results of an epoch in its line of metrics.jsonl: means over its steps, and quality where measured."""
    return {key: value for key, value in line.items() if key.startswith("mean_") or key in MEASURES}


def final_measures(metrics: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The latest value of each result in the lines of metrics.jsonl."""
    final: dict[str, float] = {}
    for line in metrics:
        final |= measures_of(line)
    return final


def render(run: Run) -> str:
    """The page of a run.

    Raises:
        UserError: a picture is damaged.
    """
    frames = _frames(run.grids)
    return _page(
        "report.html",
        title=run.name,
        run=run,
        statuses=STATUSES,
        tiles=_tiles(run),
        frames=frames,
        charts={"losses": _loss_charts(run), "quality": _quality_charts([run])},
        scores=_scores(run),
        digits=_digits(run),
        pictures={
            kind: _embedded(path, MOST_PICTURE_BYTES) if path else None
            for kind, path in (("walk", run.walk), ("neighbours", run.neighbours), ("calibration", run.calibration))
        },
        settings=_settings(run),
        environment=_environment(run),
        texts={"epoch": ("epoch", "轮次"), "play": ("Play", "播放"), "pause": ("Pause", "暂停")},
    )


def render_comparison(runs: Sequence[Run]) -> str:
    """The page of several runs side by side.

    Raises:
        UserError: a picture is damaged.
    """
    names = _names(runs)
    return _page(
        "comparison.html",
        title=" / ".join(names),
        runs=[
            {
                "name": name,
                "colour": colour,
                "status": STATUSES.get(run.record.get("status", "")),
                "epoch": max(run.grids) if run.grids else None,
                "grid": _embedded(run.grids[max(run.grids)], MOST_PICTURE_BYTES) if run.grids else None,
            }
            for name, colour, run in zip(names, COLOURS, runs)
        ],
        differences=differences([run.settings for run in runs]),
        environments=differences([_plain_environment(run) for run in runs]),
        measures=_compared_measures(runs),
        charts={"losses": _compared_charts(runs), "quality": _quality_charts(runs)},
        texts={"epoch": ("epoch", "轮次")},
    )


def differences(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """What differs between dotted settings: key -> a value of each, None where there is no such key."""
    keys = dict.fromkeys(key for values in settings for key in values)
    rows = {key: [values.get(key) for values in settings] for key in keys}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row)}


def equilibrium(settings: Mapping[str, Any]) -> dict[str, float]:
    """Where the game rests with p_G = p_data, by the names in metrics.jsonl; {} for a loss that has no such point.

    D minimises t BCE(d, 1) + (1 - t) BCE(d, 0) + BCE(d, 0), t being its label for real images: d = t / 2 (with t = 1,
    proposition 1 of Goodfellow et al. 2014), and there loss_d = -t ln d - (2 - t) ln(1 - d) = 2 ln 2, loss_g = ln 2.
    """
    name = settings.get("loss.name", "bce")
    if name not in ("bce", "bce_logits", "minimax"):
        return {}
    t = 1 - settings.get("loss.smoothing", 0.0)
    d = t / 2
    loss_d = -t * math.log(d) - (2 - t) * math.log(1 - d)
    return {
        "loss_d": loss_d / 2 if settings.get("loss.halve_d") else loss_d,
        "loss_g": math.log(1 - d) if name == "minimax" else -math.log(d),
        "d_real": d,
        "d_fake": d,
    }


def thin(x: Sequence[float], y: Sequence[float], most: int = MOST_POINTS) -> tuple[list[float], list[float]]:
    """Points of a curve, about `most` of them: of each stretch the lowest and the highest, so that spikes stay."""
    if len(x) <= most:
        return list(x), list(y)
    kept = {0, len(x) - 1}
    for stretch in np.array_split(np.arange(len(x)), most // 2):
        values = [y[index] for index in stretch]
        kept |= {int(stretch[np.argmin(values)]), int(stretch[np.argmax(values)])}
    return [x[index] for index in sorted(kept)], [y[index] for index in sorted(kept)]


def _page(template: str, **content: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gan_mnist"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    environment.filters["value"] = _value
    return environment.get_template(template).render(**_finite(content))


def _finite(value: Any) -> Any:
    """Nested plain values with None for numbers that JSON does not know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_finite(inner) for inner in value)
    return value


def _number(value: float | None, decimals: int = 3) -> str:
    return "" if value is None else f"{value:,.{decimals}f}"


def _value(value: Any) -> str:
    """A setting as in YAML."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _names(runs: Sequence[Run]) -> list[str]:
    """The runs' names; their paths where two have the same."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def title_of(measure: str) -> Text:
    """A measure's name."""
    english = ENGLISH.get(measure, MEASURES[measure].title)
    return english, CHINESE.get(measure, english)


def _tiles(run: Run) -> list[tuple[Text, str]]:
    """The headline numbers: of the last epoch, or, in the first one, of the last step."""
    last, final = run.metrics[-1], final_measures(run.metrics)
    tiles: list[tuple[Text, str]] = []
    whole = [line["epoch"] for line in run.metrics if "mean_loss_d" in line]
    epochs = run.settings.get("train.epochs")
    tiles.append((("epochs", "轮次"), f"{whole[-1] + 1 if whole else 0}" + (f" / {epochs}" if epochs else "")))
    for key, text in (*LOSSES, *PROBABILITIES):
        tiles.append((text, _number(final.get(f"mean_{key}", last[key]))))
    for measure in ("fid", "parzen", "classifier_score"):
        latest = run.evaluations[-1]["scores"].get(measure, {}).get("value") if run.evaluations else None
        value = final.get(measure) if latest is None else latest
        if value is not None:
            tiles.append((title_of(measure), _number(value, MEASURES[measure].decimals)))
    return tiles


# Curves. A chart is {title, series: [{name, colour, x, y, faint}], lines: [{y, colour, name}], min, max, shift, log}, x
# in epochs; what belongs to the end of epoch E stands at E + shift.


def _epochs(run: Run, lines: Iterable[Mapping[str, Any]]) -> list[float]:
    return [round(line["epoch"] + line["step"] / run.steps_per_epoch, 4) for line in lines]


def _series(name: Text, colour: str, x: Sequence[float], y: Sequence[float], *, faint: bool = False) -> dict[str, Any]:
    x, y = thin(x, y)
    return {"name": name, "colour": colour, "x": x, "y": [_short(value) for value in y], "faint": faint}


def _short(value: float | None) -> float | None:
    """Five significant digits: more than a curve can show."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.5g}")


def _step_series(run: Run, key: str, name: Text, colour: str) -> list[dict[str, Any]]:
    """A quantity's trace over the logged steps, faint, and over it the epochs' means where there are some."""
    lines = [line for line in run.metrics if key in line]
    means = [line for line in lines if f"mean_{key}" in line]
    trace = _series(name, colour, _epochs(run, lines), [line[key] for line in lines], faint=bool(means))
    if not means:
        return [trace]
    middles = [line["epoch"] + 0.5 for line in means]
    return [trace, _series(name, colour, middles, [line[f"mean_{key}"] for line in means])]


def _loss_top(run: Run) -> float:
    """Where the losses' axis ends: spikes may leave it."""
    shown = np.array([[line["loss_d"], line["loss_g"]] for line in run.metrics])
    return 1.1 * max(float(np.percentile(shown, 99.5)), 2 * math.log(2))


def _loss_bottom(run: Run) -> float:
    lowest = min(min(line["loss_d"], line["loss_g"]) for line in run.metrics)
    return 1.1 * lowest if lowest < 0 else 0.0


def _loss_charts(run: Run) -> list[dict[str, Any]]:
    rest = equilibrium(run.settings)
    panels: list[tuple[Text, tuple[tuple[str, Text], ...], float, float]] = [
        (("Losses (nats)", "损失（nat）"), LOSSES, _loss_bottom(run), _loss_top(run)),
        (("D's probability of real", "D 判断为真的概率"), PROBABILITIES, 0.0, 1.0),
    ]
    rates = [line[key] for line in run.metrics for key, _ in RATES if key in line]
    if any(line.get(key) != run.metrics[0].get(key) for line in run.metrics for key, _ in RATES):
        panels.append((("Learning rates", "学习率"), RATES, 0.0, 1.05 * max(rates)))
    return [
        {
            "title": title,
            "series": [
                series
                for (key, name), colour in zip(quantities, COLOURS)
                for series in _step_series(run, key, name, colour)
            ],
            "lines": [
                {"y": round(rest[key], 4), "colour": colour, "name": EQUILIBRIUM}
                for (key, _), colour in zip(quantities, COLOURS)
                if key in rest
            ],
            "min": bottom,
            "max": top,
            "shift": 1,
        }
        for title, quantities, bottom, top in panels
    ]


def _compared_charts(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A chart for each quantity, with a curve for each run."""
    charts = []
    rests = [equilibrium(run.settings) for run in runs]
    for key, title in (*LOSSES, *PROBABILITIES):
        is_loss = key.startswith("loss")
        rest = {round(found[key], 4) for found in rests if key in found}
        charts.append(
            {
                "title": title,
                "series": [
                    series
                    for run, name, colour in zip(runs, _names(runs), COLOURS)
                    for series in _step_series(run, key, (name, name), colour)
                ],
                "lines": [{"y": y, "colour": "#666666", "name": EQUILIBRIUM} for y in sorted(rest)],
                "min": min(_loss_bottom(run) for run in runs) if is_loss else 0.0,
                "max": max(_loss_top(run) for run in runs) if is_loss else 1.0,
                "shift": 1,
            }
        )
    return charts


def _quality_curves(run: Run) -> list[tuple[Text, dict[str, tuple[list[int], list[float]]]]]:
    """Quality by epoch, from each source: what it is called, and measure -> (epochs, values)."""
    sources: dict[Text, list[tuple[int, dict[str, float]]]] = {}
    for line in run.metrics:
        if scores := {key: value for key, value in line.items() if key in MEASURES}:
            source = ("2,000 samples, in training", "训练中，2,000 个样本")
            sources.setdefault(source, []).append((line["epoch"], scores))
    for entry in run.evaluations:
        if entry["epoch"] is not None:
            count, mode = entry["protocol"].get("samples"), entry["protocol"].get("mode", "eval")
            source = (f"evaluate.py, {count:,} samples, {mode}", f"evaluate.py，{count:,} 个样本，{mode}")
            scores = {key: score["value"] for key, score in entry["scores"].items()}
            sources.setdefault(source, []).append((entry["epoch"], scores))
    curves = []
    for source, points in sources.items():
        by_measure: dict[str, tuple[list[int], list[float]]] = {}
        for epoch, scores in sorted(points, key=lambda point: point[0]):
            for measure, value in scores.items():
                epochs, values = by_measure.setdefault(measure, ([], []))
                epochs.append(epoch)
                values.append(value)
        curves.append((source, by_measure))
    return curves


def _quality_charts(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A chart for each measure, with a curve for each run and source."""
    curves: list[tuple[Text, dict[str, tuple[list[int], list[float]]]]] = []
    for run, name in zip(runs, _names(runs)):
        for (en, zh), by_measure in _quality_curves(run):
            curves.append(((f"{name}: {en}", f"{name}：{zh}") if len(runs) > 1 else (en, zh), by_measure))
    real = {
        key: score["real"]
        for run in runs
        for entry in run.evaluations
        for key, score in entry["scores"].items()
        if score.get("real") is not None
    }
    charts = []
    for measure in (name for names in scoreboard.DRAWN for name in names):
        series = [
            _series(source, colour, *by_measure[measure])
            for (source, by_measure), colour in zip(curves, COLOURS)
            if measure in by_measure
        ]
        if not series:
            continue
        levels = [y for one in series for y in one["y"] if y is not None] + [real.get(measure, math.nan)]
        finite = [level for level in levels if math.isfinite(level)] or [0.0]
        bottom, top = min(finite), max(finite)
        margin = 0.06 * (top - bottom) or 0.1 * abs(top) or 1.0
        en, zh = title_of(measure)
        better = MEASURES[measure].better
        hint_en, hint_zh = {"higher": (" ↑", " ↑"), "lower": (" ↓", " ↓")}.get(better, ("", ""))
        charts.append(
            {
                "title": (en + hint_en, zh + hint_zh),
                "series": series,
                "lines": [{"y": _short(real[measure]), "colour": "#666666", "name": REAL}] if measure in real else [],
                "min": bottom - margin,
                "max": top + margin,
                "shift": 0,
            }
        )
    return charts


# Tables.


def _scores(run: Run) -> dict[str, Any] | None:
    """The table of the latest evaluation."""
    if not run.evaluations:
        return None
    entry = run.evaluations[-1]
    rows = [
        {
            "title": title_of(name),
            "value": _number(score["value"], MEASURES[name].decimals),
            "error": _number(score.get("standard_error"), MEASURES[name].decimals),
            "real": _number(score.get("real"), MEASURES[name].decimals),
            "published": MEASURES[name].published,
        }
        for name, score in entry["scores"].items()
    ]
    samples = entry["protocol"].get("samples")
    return {
        "checkpoint": entry["checkpoint"],
        "samples": samples,
        "rows": rows,
        "source": "; ".join(scoreboard.sources(entry["scores"])),
    }


def _digits(run: Run) -> list[dict[str, float]]:
    """How often each digit appears among the samples and the real images of the latest evaluation that counted."""
    counted = [entry["digits"] for entry in run.evaluations if "digits" in entry]
    if not counted:
        return []
    pairs = list(zip(counted[-1]["samples"], counted[-1]["real"]))
    highest = max(max(pair) for pair in pairs) or 1
    return [
        {"samples": 100 * fake, "real": 100 * real, "height": 100 * fake / highest, "level": 100 * real / highest}
        for fake, real in pairs
    ]


def _settings(run: Run) -> list[dict[str, Any]]:
    """The configuration, each key with its default and whether it differs."""
    defaults = flatten(Config().model_dump(mode="json"))
    return [
        {"key": key, "value": value, "default": defaults.get(key), "changed": value != defaults.get(key)}
        for key, value in run.settings.items()
    ]


def _plain_environment(run: Run) -> dict[str, Any]:
    """What a run ran on, dotted."""
    record = run.record
    facts = {key: record.get(key) for key in ("device", "gan_mnist", "python", "platform", "machine", "cores")}
    facts |= record.get("packages") or {}
    facts |= record.get("environment") or {}
    facts.pop("MS_OM_PATH", None)  # A folder of the run.
    return {key: value for key, value in facts.items() if value is not None}


def _environment(run: Run) -> list[tuple[Text, str]]:
    """Times and environment."""
    record, rows = run.record, []
    for key, text in (
        ("started", ("started (UTC)", "开始时间（UTC）")),
        ("updated", ("last update (UTC)", "最后更新（UTC）")),
    ):
        if key in record:
            rows.append((text, str(record[key]).replace("T", " ").removesuffix("+00:00")))
    seconds = [line["epoch_s"] for line in run.metrics if "epoch_s" in line]
    if seconds:
        rows.append((("training, all epochs", "训练总时间"), _duration(sum(seconds))))
        rows.append((("an epoch (median)", "每轮时间（中位数）"), f"{statistics.median(seconds):.2f} s"))
    speeds = [line["images_per_s"] for line in run.metrics if "images_per_s" in line]
    if speeds:
        rows.append((("images a second (median)", "每秒图像数（中位数）"), f"{statistics.median(speeds):,.0f}"))
    for resumed in record.get("resumed", []):
        epoch, step = resumed["at"]
        moment = str(resumed["time"]).replace("T", " ").removesuffix("+00:00")
        rows.append((("resumed", "恢复训练"), f"{moment}: epoch {epoch}, step {step}"))
    if record.get("command"):
        rows.append((("command", "命令"), "python " + " ".join(map(str, record["command"]))))
    if record.get("error"):
        rows.append((("error", "错误"), str(record["error"])))
    rows += [((key, key), str(value)) for key, value in _plain_environment(run).items()]
    return rows


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _compared_measures(runs: Sequence[Run]) -> list[tuple[Text, list[str]]]:
    """The final measures of each run, a row for each that any of them has."""
    rows: list[tuple[Text, list[str]]] = []
    finals = [final_measures(run.metrics) for run in runs]
    for key, (en, zh) in (*LOSSES, *PROBABILITIES):
        values = [final.get(f"mean_{key}") for final in finals]
        if any(value is not None for value in values):
            rows.append(((f"{en}, last epoch's mean", f"{zh}，最后一轮均值"), [_number(value) for value in values]))
    epochs = [[line["epoch_s"] for line in run.metrics if "epoch_s" in line] for run in runs]
    if any(epochs):
        medians = [f"{statistics.median(seconds):.2f}" if seconds else "" for seconds in epochs]
        rows.append((("seconds an epoch (median)", "每轮秒数（中位数）"), medians))
    if any(run.evaluations for run in runs):
        which = [_evaluated(run) for run in runs]
        rows.append((("evaluated: checkpoint, samples", "评估：检查点、样本数"), which))
    for name, measure in MEASURES.items():
        en, zh = title_of(name)
        trained = [final.get(name) for final in finals]
        if any(value is not None for value in trained):
            text = (f"{en}, in training, 2,000 samples", f"{zh}，训练中，2,000 个样本")
            rows.append((text, [_number(value, measure.decimals) for value in trained]))
        scores = [run.evaluations[-1]["scores"].get(name, {}) if run.evaluations else {} for run in runs]
        if any(scores):
            rows.append(((en, zh), [_with_error(score, measure.decimals) for score in scores]))
    return rows


def _evaluated(run: Run) -> str:
    if not run.evaluations:
        return ""
    entry = run.evaluations[-1]
    return f"{entry['checkpoint']}, {entry['protocol'].get('samples'):,}"


def _with_error(score: Mapping[str, Any], decimals: int) -> str:
    error = score.get("standard_error")
    return _number(score.get("value"), decimals) + (f" ± {_number(error, decimals)}" if error else "")


# Pictures.


def _frames(grids: Mapping[int, Path], most: int = 200) -> dict[str, Any]:
    """The grids for the player: every one, or every second, third, ... and the last; smaller if all are too large."""
    stride = math.ceil(len(grids) / most) or 1
    epochs = sorted(grids)[::-stride][::-1]
    sizes = [grids[epoch].stat().st_size for epoch in epochs]
    if sum(sizes) <= MOST_GRID_BYTES:
        return {"epochs": epochs, "images": [_embedded(grids[epoch], max(sizes)) for epoch in epochs]}
    budget = MOST_GRID_BYTES // len(epochs)
    # What suits the most crowded one of a few suits all, or nearly; each is checked.
    probes = sorted(epochs[:: max(1, len(epochs) // 5)])
    side = min(_fitting_side(_read(grids[epoch]), budget) for epoch in probes)
    return {"epochs": epochs, "images": [_embedded(grids[epoch], budget, side=side) for epoch in epochs]}


def _embedded(path: Path, most_bytes: int, *, side: int | None = None) -> str:
    """A picture as a data URI: as it is if it is small enough, else compressed anew and, if need be, made smaller.

    Args:
        path: a PNG.
        most_bytes: that it may have.
        side: of the smaller picture, if it is known.

    Raises:
        UserError: it is damaged.
    """
    picture = _read(path)
    content, kind = path.read_bytes(), "png"
    if len(content) > most_bytes:
        side = side or max(picture.size)
        content, kind = _webp(picture, side), "webp"
        if len(content) > most_bytes:
            content = _webp(picture, _fitting_side(picture, most_bytes))
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _fitting_side(picture: Image.Image, most_bytes: int) -> int:
    """The longest side with which a picture takes no more than so many bytes."""
    side = max(picture.size)
    while side > 64:
        size = len(_webp(picture, side))
        if size <= most_bytes:
            break
        side = int(side * min(0.9, math.sqrt(most_bytes / size)))
    return side


def _webp(picture: Image.Image, side: int) -> bytes:
    scale = side / max(picture.size)
    width, height = (max(1, round(scale * length)) for length in picture.size)
    smaller = picture if scale >= 1 else picture.resize((width, height), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    smaller.save(buffer, "webp", quality=70, method=1)
    return buffer.getvalue()


def _read(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of damaged metadata: the pixels count.
            with Image.open(path) as picture:
                return picture.convert("L" if picture.mode == "L" else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as a picture; delete it, and make the report again") from error
