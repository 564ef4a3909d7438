"""Results as Markdown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table; the first column is text, the others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def race_table(race: dict[str, Any]) -> str:
    """The contestants, the fastest first."""
    contestants = race["contestants"]
    rows = []
    for name, one in sorted(contestants.items(), key=lambda item: float(item[1]["ms"]["median"])):
        ms = one["ms"]
        rows.append(
            [
                f"{one['about']} (`{name}`)",
                "1" if name == "ours" else spread(one["ratio"], 2),
                spread(ms, 2),
                f"{ms['least']:.2f}",
                f"{1e3 * race['batch_size'] / ms['median']:,.0f}" if one["trains"] else "",
                f"{one['first_step_s']:.1f}",
                f"{one['peak_bytes'] / 1e6:,.0f}",
            ]
        )
    header = [
        f"batch {race['batch_size']}",
        "time / ours",
        "ms a step",
        "least",
        "images/s",
        "first step after s",
        "peak MB",
    ]
    products = race["products"]
    agreement = max(one["largest_difference"] for one in contestants.values())
    notes = [
        f"Median (quartiles) of {race['quiet_rounds']} quiet rounds of {race['rounds']}, {race['steps']} steps each; "
        "ratios are taken within a round.",
        f"The losses of the first steps agree with ours within {agreement:.0e} of their value.",
        f"The floor: {products['count']} matrix products, {products['gigaflop']:.2f} GFLOP a step.",
    ]
    if race["quiet_rounds"] == 0:
        notes.insert(0, "**The machine was busy in every round: measure again before believing any of this.**")
    notes += [f"Left out: {name}, since {library} is not installed." for name, library in race["missing"].items()]
    return "\n".join([markdown(header, rows), "", *notes])


def epoch_table(epoch: dict[str, Any]) -> str:
    """What is around the steps."""
    rows = [
        ["an epoch through the trainer / as many bare steps", spread(epoch["epoch_to_bare_steps"], 3)],
        ["grid, checkpoints and state, share of an epoch", f"{epoch['saving_share']:.1%}"],
        ["an epoch through the trainer", f"{spread(epoch['epoch_s'], 2)} s"],
        [f"{epoch['steps']} bare steps, between the epochs", f"{spread(epoch['bare_steps_s'], 2)} s"],
        ["a pass over the data without training", f"{epoch['data_pass_s']:.2f} s"],
        ["process start to first finished step", f"{epoch['first_step_s']:.1f} s"],
        ["peak memory", f"{epoch['peak_bytes'] / 1e6:,.0f} MB"],
    ]
    if epoch["course_epoch_s"]:
        seconds = epoch["course_epoch_s"]
        rows.append(["an epoch of the course-style script with its own data pipeline", f"{seconds:.0f} s"])
        rows.append(["the same / an epoch of ours", f"{seconds / epoch['epoch_s']['median']:.1f}"])
    return markdown(["ours, whole epochs", ""], rows)


def growth_table(growth: dict[str, Any]) -> str:
    """Three tables: batch size, latent size, images."""
    peers = [name for name in next(iter(growth["batch_size"].values())) if name != "ours"]
    batch = [
        [
            size,
            f"{one['ours']['ms']:.2f}",
            f"{1e3 * int(size) / one['ours']['ms']:,.0f}",
            *(spread(one[name]["ratio"], 2) for name in peers),
        ]
        for size, one in growth["batch_size"].items()
    ]
    latent = [[size, f"{one['ms']:.2f}"] for size, one in growth["latent_size"].items()]
    data = [
        [
            f"{int(limit):,}",
            f"{min(one['epochs_s']):.2f}",
            f"{1e6 * min(one['epochs_s']) / int(limit):.0f}",
            f"{one['first_step_s']:.1f}",
            f"{one['peak_bytes'] / 1e6:,.0f}",
        ]
        for limit, one in growth["data_limit"].items()
    ]
    return "\n\n".join(
        [
            markdown(["batch size", "ours ms a step", "images/s", *(f"{name} / ours" for name in peers)], batch),
            markdown(["latent size", "ours ms a step"], latent),
            markdown(["images", "s an epoch", "us an image", "first step after s", "peak MB"], data),
        ]
    )


def convolutions_table(convolutions: dict[str, Any]) -> str:
    """Of each recipe what there is to compare it with."""
    peers = list(dict.fromkeys(name for one in convolutions.values() for name in one["contestants"] if name != "ours"))
    rows = [
        [
            recipe,
            f"{one['contestants']['ours']['ms']:.0f}",
            *(spread(one["contestants"][name]["ratio"], 2) if name in one["contestants"] else "" for name in peers),
        ]
        for recipe, one in convolutions.items()
    ]
    missing = {name: library for one in convolutions.values() for name, library in one["missing"].items()}
    notes = [f"Left out: {name}, since {library} is not installed." for name, library in missing.items()]
    table = markdown(["convolutional recipes", "ours ms a step", *(f"{name} / ours" for name in peers)], rows)
    return "\n".join([table, *([""] if notes else []), *notes])


def spread(values: dict[str, float], digits: int) -> str:
    """Median and quartiles."""
    middle, low, high = (f"{values[key]:.{digits}f}" for key in ("median", "quartile_1", "quartile_3"))
    return f"{middle} ({low}-{high})"


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "race": race_table,
    "epoch": epoch_table,
    "growth": growth_table,
    "convolutions": convolutions_table,
}
