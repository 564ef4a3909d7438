"""Measures of quality, computed from arrays; only `classifier`, which makes features of images, needs MindSpore."""

from __future__ import annotations

from typing import NamedTuple


class Score(NamedTuple):
    """A measured number."""

    value: float
    standard_error: float | None = None
    """None where none is defined."""
