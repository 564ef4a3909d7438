"""What the scripts' command lines share: one-line refusals and argument types."""

from __future__ import annotations

import argparse
import math
import re
from typing import NoReturn, get_args

from gan_mnist import config
from gan_mnist.errors import UserError

DEVICES = list(get_args(config.Device))


class Parser(argparse.ArgumentParser):
    """Shows a script's docstring as its help, and refuses bad arguments in one line, as everything else here does."""

    def __init__(self, description: str | None) -> None:
        super().__init__(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and exiting with 2."""
        raise UserError(f"{message}; see --help")


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def whole(text: str) -> int:
    """A whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def seed(text: str) -> int:
    """A whole number that seeds NumPy's legacy generator."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number between 0 and {2**32 - 1}")
    return int(text)


def port(text: str) -> int:
    """A TCP port."""
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 1 to {2**16 - 1}")
    return int(text)


def numbers(text: str) -> list[int]:
    """Whole numbers and ranges of them, such as 0-9 or 1,3,5-7."""
    found: list[int] = []
    for word in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", word)
        span = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
        if not span:
            raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers, such as 0-9 or 1,3,5-7")
        found += span
    return found


def above_zero(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def rows_and_columns(text: str) -> tuple[int, int]:
    """The shape of a grid, such as 5x5."""
    match = re.fullmatch(r"([1-9]\d{0,2})x([1-9]\d{0,2})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not rows x columns, such as 5x5")
    return int(match[1]), int(match[2])
