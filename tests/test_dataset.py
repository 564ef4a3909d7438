"""The data set: what is in the batches, and that they depend on (seed, epoch, step) alone."""

import mindspore as ms
import numpy as np
import pytest

from gan_mnist.config import Model
from gan_mnist.data import Images
from gan_mnist.data.dataset import build_dataset, steps_per_epoch
from gan_mnist.errors import UserError
from gan_mnist.latents import Draw, fixed_latents

COUNT, BATCH = 70, 16
MODEL = Model(latent_size=50)


@pytest.fixture(scope="module")
def images() -> Images:
    """Every image says which one it is: in its first pixel, and by its label."""
    pixels = np.zeros((COUNT, 4, 4), np.uint8)
    pixels[:, 0, 0] = np.arange(COUNT)
    return Images(pixels, (np.arange(COUNT) % 10).astype(np.uint8))


def batches(images: Images, **options: object) -> list[tuple[np.ndarray, ...]]:
    arguments = {"batch_size": BATCH, "model": MODEL, "seed": 1} | options
    data = build_dataset(images, **arguments)  # type: ignore[arg-type]
    return list(data.create_tuple_iterator(num_epochs=1, output_numpy=True))


def numbers(batch: tuple[np.ndarray, ...]) -> list[int]:
    """Which images are in a batch."""
    return np.rint(batch[0][:, 0, 0, 0] * 127.5 + 127.5).astype(int).tolist()


def equal(one: list[tuple[np.ndarray, ...]], other: list[tuple[np.ndarray, ...]]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a, b) for x, y in zip(one, other) for a, b in zip(x, y, strict=True)
    )


def test_an_epoch_has_every_image_at_most_once_and_drops_the_remainder(images: Images) -> None:
    epoch = batches(images)
    seen = [number for batch in epoch for number in numbers(batch)]
    assert len(epoch) == COUNT // BATCH == steps_per_epoch(images, BATCH)
    assert len(seen) == len(set(seen)) == 64
    assert seen != sorted(seen)


def test_images_come_with_their_labels_in_the_range_of_tanh(images: Images) -> None:
    for image, label, _ in batches(images):
        assert image.shape == (BATCH, 1, 4, 4) and image.dtype == np.float32
        assert image.min() == -1 and image.max() <= 1
        assert (np.rint(image[:, 0, 0, 0] * 127.5 + 127.5).astype(int) % 10).tolist() == label.tolist()


def test_a_pixels_range_is_an_option(images: Images) -> None:
    chosen = np.arange(3)
    symmetric, unit = images.inputs(chosen), images._replace(scale="unit").inputs(chosen)
    assert unit.dtype == np.float32 and unit.min() == 0
    np.testing.assert_allclose(2 * unit - 1, symmetric, atol=1e-6)


def test_batches_are_a_function_of_seed_epoch_and_step(images: Images) -> None:
    noisy = {"draws": (Draw("dropout", (2 * BATCH, 7)),)}
    epoch = batches(images, epoch=3, **noisy)
    assert equal(batches(images, epoch=3, **noisy), epoch)
    assert equal(batches(images, epoch=3, first_step=2, **noisy), epoch[2:])
    for other in (batches(images, epoch=4, **noisy), batches(images, epoch=3, seed=2, **noisy)):
        for column in (0, 2, 3):
            assert not np.array_equal(other[0][column], epoch[0][column])


def test_nothing_random_repeats_within_an_epoch(images: Images) -> None:
    for column in (2, 3):
        rows = np.concatenate([batch[column] for batch in batches(images, draws=(Draw("dropout", (2 * BATCH, 7)),))])
        assert len(np.unique(rows, axis=0)) == len(rows)


@pytest.mark.parametrize(
    ("latent", "low", "high", "mean", "deviation"),
    [("normal", -6, 6, 0, 1), ("uniform", -1, 1, 0, 3**-0.5), ("uniform01", 0, 1, 0.5, 12**-0.5)],
)
def test_latent_codes_have_their_distribution(
    images: Images, latent: str, low: float, high: float, mean: float, deviation: float
) -> None:
    model = Model(latent_size=500, latent=latent)  # type: ignore[arg-type]
    drawn = np.concatenate([batch[2] for batch in batches(images, model=model)])
    for codes in (drawn, fixed_latents(64, 500, 5, latent)):  # type: ignore[arg-type]
        assert codes.dtype == np.float32 and codes.shape == (64, 500)
        assert low <= codes.min() and codes.max() <= high
        assert codes.mean() == pytest.approx(mean, abs=0.03)
        assert codes.std() == pytest.approx(deviation, abs=0.03)


def test_draws_have_their_shapes_and_distributions_and_are_independent(images: Images) -> None:
    shape = (2 * BATCH, 300)
    draws = Draw("dropout", shape), Draw("mix", shape), Draw("instance_noise", shape, "normal", 0.5)
    columns = [np.concatenate(column) for column in list(zip(*batches(images, draws=draws)))[3:]]
    assert all(column.shape == (4 * 2 * BATCH, 300) and column.dtype == np.float32 for column in columns)
    for uniform in columns[:2]:
        histogram, _ = np.histogram(uniform, bins=10, range=(0, 1))
        np.testing.assert_allclose(histogram / uniform.size, 0.1, atol=0.01)
    assert columns[2].std() == pytest.approx(0.5, rel=0.02) and columns[2].mean() == pytest.approx(0, abs=0.01)
    assert np.abs(np.corrcoef([column.ravel() for column in columns]) - np.eye(3)).max() < 0.02


def test_a_step_may_take_more_codes_than_images(images: Images) -> None:
    for _, _, latent in batches(images, codes=3 * BATCH):
        assert latent.shape == (3 * BATCH, 50)
    assert steps_per_epoch(images, BATCH, d_steps=2) == COUNT // (2 * BATCH)
    with pytest.raises(UserError, match=r"batch_size is 16 and train.d_steps 5, but there are 70 images"):
        steps_per_epoch(images, BATCH, d_steps=5)


def test_colour_images_come_channels_first_and_points_as_they_are() -> None:
    random = np.random.default_rng(0)
    labels = np.zeros(20, np.uint8)
    colour = Images(random.integers(0, 256, (20, 4, 6, 3), np.uint8), labels)
    points = Images(random.standard_normal((20, 2), dtype=np.float32), labels)
    assert (colour.shape, points.shape) == ((3, 4, 6), (2, 1, 1))
    chosen = np.array([3, 1])
    for channel in range(3):
        expected = colour.pixels[chosen, :, :, channel] / 127.5 - 1
        np.testing.assert_allclose(colour.inputs(chosen)[:, channel], expected, atol=1e-6)
    np.testing.assert_array_equal(points.inputs(chosen)[:, :, 0, 0], points.pixels[chosen])


def test_the_fixed_codes_are_the_courses() -> None:
    np.random.seed(2323)
    course = ms.Tensor(np.random.normal(size=(25, 100)), dtype=ms.float32).asnumpy()
    np.testing.assert_array_equal(fixed_latents(25, 100, 2323), course)
    np.testing.assert_array_equal(fixed_latents(7, 100, 2323), course[:7])


def test_too_few_images_for_a_batch_are_refused(images: Images) -> None:
    with pytest.raises(UserError, match=r"data\.batch_size is 71, but there are 70 images"):
        batches(images, batch_size=71)
