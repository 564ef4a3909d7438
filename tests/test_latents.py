"""Fixed latent codes and classes."""

import argparse

import numpy as np
import pytest
from scipy import stats

from gan_mnist import cli
from gan_mnist.latents import fixed_labels, fixed_latents
from gan_mnist.schedules import fading


def test_truncated_codes_are_the_middle_of_the_normal_distribution() -> None:
    codes = fixed_latents(500, 40, 3, truncation=0.5)
    assert codes.dtype == np.float32 and np.abs(codes).max() <= 0.5
    assert stats.kstest(codes.ravel(), stats.truncnorm(-0.5, 0.5).cdf).pvalue > 0.01
    np.testing.assert_array_equal(fixed_latents(9, 40, 3, truncation=0.5), codes[:9])
    np.testing.assert_allclose(fixed_latents(500, 40, 3, truncation=30.0).std(), 1, atol=0.02)


def test_classes_come_in_turn() -> None:
    assert fixed_labels(7, 3).tolist() == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize(("text", "expected"), [("0-9", list(range(10))), ("3", [3]), ("1,3, 5-7", [1, 3, 5, 6, 7])])
def test_lists_of_numbers(text: str, expected: list[int]) -> None:
    assert cli.numbers(text) == expected


@pytest.mark.parametrize("text", ["", "a", "9-0", "1,,2", "-3", "1.5"])
def test_other_lists_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no list of whole numbers"):
        cli.numbers(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x"])
def test_a_truncation_is_above_zero(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number above 0"):
        cli.above_zero(text)


def test_instance_noise_fades_linearly() -> None:
    assert [fading(None, epoch) for epoch in (0, 1000)] == [1, 1]
    assert [fading(4, epoch) for epoch in (0, 1, 4, 9)] == [1, 0.75, 0, 0]
