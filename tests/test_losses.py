"""The losses and their gradients against closed forms in float64, compiled as the train step compiles them."""

import functools
from collections.abc import Callable

import mindspore as ms
import numpy as np
import pytest

from gan_mnist import config
from gan_mnist.errors import UserError
from gan_mnist.losses import LOSSES, Loss, make_loss

MODERATE = np.random.default_rng(0).normal(0, 3, (2, 64, 1)).astype(np.float32)


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-softplus(-x))


@functools.cache
def compiled(player: Callable[..., ms.Tensor], places: int | tuple[int, ...]) -> Callable[..., tuple]:
    """A loss with its gradients; outside jit, MindSpore 2.10 divides bce_logits' by the first batch's size."""
    return ms.jit(ms.value_and_grad(player, places))


def discriminator(loss: Loss, real: np.ndarray, fake: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """D's loss, and its gradients by the logits of real images and of fakes."""
    value, (by_real, by_fake) = compiled(loss.discriminator, (0, 1))(ms.Tensor(real), ms.Tensor(fake))
    return float(value.asnumpy()), by_real.asnumpy(), by_fake.asnumpy()


def named(name: str) -> Loss:
    return make_loss(config.Loss(name=name))


def generator(loss: Loss, fake: np.ndarray) -> tuple[float, np.ndarray]:
    """G's loss, and its gradient by the logits of fakes."""
    value, by_fake = compiled(loss.generator, 0)(ms.Tensor(fake))
    return float(value.asnumpy()), by_fake.asnumpy()


def expected_discriminator(real: np.ndarray, fake: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """-E[log D(x)] - E[log(1 - D(G(z)))]."""
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    value = softplus(-real).mean() + softplus(fake).mean()
    return value, -sigmoid(-real) / real.size, sigmoid(fake) / fake.size


def expected_generator(fake: np.ndarray) -> tuple[float, np.ndarray]:
    """-E[log D(G(z))], the non-saturating objective."""
    fake = fake.astype(np.float64)
    return softplus(-fake).mean(), -sigmoid(-fake) / fake.size


def expected(name: str, real: np.ndarray, fake: np.ndarray) -> tuple[tuple, tuple]:
    """Value and gradients of D's loss, and of G's, by their papers' formulas."""
    x, y = real.astype(np.float64), fake.astype(np.float64)
    if name in ("bce", "bce_logits"):
        return expected_discriminator(x, y), expected_generator(y)
    if name == "minimax":
        return expected_discriminator(x, y), (np.log1p(-sigmoid(y)).mean(), -sigmoid(y) / y.size)
    if name == "least_squares":
        return (
            (((x - 1) ** 2).mean() / 2 + (y**2).mean() / 2, (x - 1) / x.size, y / y.size),
            (((y - 1) ** 2).mean() / 2, (y - 1) / y.size),
        )
    if name == "wasserstein_gp":
        return (y.mean() - x.mean(), np.full_like(x, -1 / x.size), np.full_like(y, 1 / y.size)), (
            -y.mean(),
            np.full_like(y, -1 / y.size),
        )
    assert name == "hinge"
    value = np.clip(1 - x, 0, None).mean() + np.clip(1 + y, 0, None).mean()
    return (value, -1.0 * (x < 1) / x.size, (y > -1) / y.size), (-y.mean(), np.full_like(y, -1 / y.size))


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_are_the_papers(name: str) -> None:
    real, fake = MODERATE
    of_d, of_g = expected(name, real, fake)
    for got, wanted in ((discriminator(named(name), real, fake), of_d), (generator(named(name), fake), of_g)):
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-6)


def test_at_equilibrium_the_losses_are_2_ln_2_and_ln_2() -> None:
    undecided = np.zeros((8, 1), np.float32)
    for loss in (named("bce"), named("bce_logits")):
        assert discriminator(loss, undecided, undecided)[0] == pytest.approx(2 * np.log(2), rel=1e-6)
        assert generator(loss, undecided)[0] == pytest.approx(np.log(2), rel=1e-6)


def test_bce_equals_bce_logits_where_d_is_not_too_sure() -> None:
    real, fake = MODERATE
    plain, stable = named("bce"), named("bce_logits")
    for one, other in zip(discriminator(plain, real, fake), discriminator(stable, real, fake), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("real", [-1000.0, -50.0, 50.0, 1000.0])
@pytest.mark.parametrize("fake", [-1000.0, -50.0, 50.0, 1000.0])
def test_bce_logits_is_exact_however_sure_d_is(real: float, fake: float) -> None:
    x, y = np.full((4, 1), real, np.float32), np.full((4, 1), fake, np.float32)
    for got, expected in (
        (discriminator(named("bce_logits"), x, y), expected_discriminator(x, y)),
        (generator(named("bce_logits"), y), expected_generator(y)),
    ):
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-20)


@pytest.mark.parametrize("logit", [-1000.0, -50.0, 50.0, 1000.0])
def test_bce_stays_finite_however_sure_d_is(logit: float) -> None:
    logits = np.full((4, 1), logit, np.float32)
    for value in (
        *discriminator(named("bce"), logits, -logits),
        *generator(named("bce"), logits),
    ):
        assert np.isfinite(value).all()


def test_a_batch_counts_by_its_mean_not_its_sum() -> None:
    real, fake = MODERATE
    for loss in map(named, LOSSES):
        once = discriminator(loss, real, fake)[0]
        twice = discriminator(loss, np.concatenate([real, real]), np.concatenate([fake, fake]))[0]
        assert once == pytest.approx(twice, rel=1e-5)


def test_gs_gradient_vanishes_in_minimax_where_d_is_sure_and_not_in_the_non_saturating_game() -> None:
    recognised = np.full((4, 1), -20, np.float32)  # D(G(z)) = 2e-9
    assert np.abs(generator(named("minimax"), recognised)[1]).max() < 1e-8
    assert np.abs(generator(named("bce_logits"), recognised)[1]).min() == pytest.approx(1 / 4, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_half_of_ds_loss_is_half_of_it(name: str) -> None:
    real, fake = MODERATE
    whole, half = named(name), make_loss(config.Loss(name=name, halve_d=True))
    for one, other in zip(discriminator(whole, real, fake), discriminator(half, real, fake), strict=True):
        np.testing.assert_allclose(np.asarray(one) / 2, other, rtol=1e-6)
    np.testing.assert_array_equal(generator(whole, fake)[1], generator(half, fake)[1])


def test_least_squares_smooths_its_target_and_hinge_has_none() -> None:
    real, fake = MODERATE
    _, by_real, by_fake = discriminator(make_loss(config.Loss(name="least_squares", smoothing=0.1)), real, fake)
    np.testing.assert_allclose(by_real, (real - 0.9) / real.size, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(by_fake, fake / fake.size, rtol=1e-5)
    for refused in ({"name": "hinge", "smoothing": 0.1}, {"name": "wasserstein_gp", "label_noise": 0.2}):
        key, value = list(refused.items())[1]
        with pytest.raises(UserError, match=f"loss.{key} is {value}, but the loss {refused['name']} has no labels"):
            make_loss(config.Loss(**refused))  # type: ignore[arg-type]


def test_only_the_wasserstein_loss_wants_a_gradient_penalty_by_itself() -> None:
    assert {name: named(name).gradient_penalty for name in LOSSES if named(name).gradient_penalty} == {
        "wasserstein_gp": 10
    }
    assert make_loss(config.Loss(name="wasserstein_gp", gradient_penalty=1.0)).gradient_penalty == 1
    assert make_loss(config.Loss(r1=2.0)).r1 == 2


@pytest.mark.parametrize("name", ["bce", "bce_logits"])
def test_smoothing_asks_less_of_d_on_real_images_only(name: str) -> None:
    real, fake = MODERATE
    smooth = make_loss(config.Loss(name=name, smoothing=0.1))
    value, by_real, by_fake = discriminator(smooth, real, fake)
    x, y = real.astype(np.float64), fake.astype(np.float64)
    expected = 0.9 * softplus(-x).mean() + 0.1 * softplus(x).mean() + softplus(y).mean()
    assert value == pytest.approx(expected, rel=2e-4)
    np.testing.assert_allclose(by_real, (sigmoid(x) - 0.9) / x.size, rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(by_fake, sigmoid(y) / y.size, rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(generator(smooth, fake)[1], expected_generator(fake)[1], rtol=2e-4, atol=2e-6)
