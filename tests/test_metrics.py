"""The measures against closed forms, other libraries and slow, obvious loops; the classifier against SciPy."""

import importlib
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import scipy.signal
import scipy.spatial
from sklearn.datasets import load_digits
from sklearn.neighbors import KernelDensity, NearestNeighbors

from gan_mnist import checkpoint
from gan_mnist.data import read_images
from gan_mnist.errors import UserError
from gan_mnist.metrics import classes, classifier, distances, frechet, manifolds, parzen

ROOT = Path(__file__).resolve().parent.parent
MNIST = ROOT / "MNIST_Data"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(scope="module")
def reader() -> classifier.Reader:
    return classifier.Reader()


# Distances.


def test_nearest_agrees_with_scikit_learn(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "PORTION", 7)
    x, y = rng.standard_normal((31, 5)), rng.standard_normal((40, 5))
    indices, found = distances.nearest(x, y)
    expected, expected_indices = NearestNeighbors(n_neighbors=1).fit(y).kneighbors(x)
    assert np.array_equal(indices, expected_indices[:, 0])
    np.testing.assert_allclose(found, expected[:, 0])


def test_a_copy_is_at_distance_zero_exactly(rng: np.random.Generator) -> None:
    y = rng.random((50, 784)).astype(np.float32)
    indices, found = distances.nearest(y[[3, 8]], y)
    assert indices.tolist() == [3, 8] and found.tolist() == [0, 0]


def test_mean_pairwise_distance_agrees_with_scipy(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "PORTION", 7)
    x = rng.standard_normal((31, 5))
    assert distances.mean_pairwise(x) == pytest.approx(scipy.spatial.distance.pdist(x).mean())
    assert distances.mean_pairwise(np.ones((9, 3))) == 0


# Parzen window.


def test_the_likelihood_agrees_with_scikit_learn(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "PORTION", 7)
    points, samples = rng.random((20, 30)), rng.random((25, 30))
    for sigma in (0.1, 0.5):
        expected = KernelDensity(bandwidth=sigma).fit(samples).score_samples(points)
        np.testing.assert_allclose(parzen.log_likelihood(points, samples, sigma=sigma), expected)


def test_far_points_do_not_underflow() -> None:
    far = parzen.log_likelihood(np.full((1, 784), 100.0), np.zeros((3, 784)), sigma=0.1)
    assert far[0] == pytest.approx(-784 * 1e4 / 0.02 - 392 * math.log(2 * math.pi * 0.01))


def test_one_sample_is_a_gaussian() -> None:
    assert parzen.log_likelihood(np.array([[1.0]]), np.array([[0.0]]), sigma=1)[0] == pytest.approx(
        -0.5 - 0.5 * math.log(2 * math.pi)
    )


def test_the_widths_are_the_papers_and_the_best_one_is_chosen(rng: np.random.Generator) -> None:
    assert len(parzen.SIGMAS) == 10 and parzen.SIGMAS[0] == pytest.approx(0.1) and parzen.SIGMAS[-1] == 1
    np.testing.assert_allclose(np.diff(np.log10(parzen.SIGMAS)), 1 / 9)
    points, samples = 0.3 * rng.standard_normal((50, 4)), 0.3 * rng.standard_normal((60, 4))
    means = [KernelDensity(bandwidth=sigma).fit(samples).score_samples(points).mean() for sigma in parzen.SIGMAS]
    assert parzen.choose_sigma(points, samples) == parzen.SIGMAS[int(np.argmax(means))]


def test_the_score_is_mean_and_standard_error_over_the_points(rng: np.random.Generator) -> None:
    points, samples = rng.random((40, 6)), rng.random((30, 6))
    densities = parzen.log_likelihood(points, samples, sigma=0.2)
    score = parzen.score(points, samples, sigma=0.2)
    assert score == pytest.approx((densities.mean(), densities.std() / math.sqrt(40)))


# Frechet and kernel distance.


def gaussian(mean: list[float], covariance: list[list[float]]) -> frechet.Gaussian:
    return frechet.Gaussian(np.array(mean), np.array(covariance))


def test_frechet_distance_of_diagonal_gaussians_is_that_of_means_and_deviations() -> None:
    a, b = gaussian([0, 1], [[4, 0], [0, 9]]), gaussian([3, 1], [[1, 0], [0, 16]])
    assert frechet.frechet_distance(a, b) == pytest.approx(9 + (2 - 1) ** 2 + (3 - 4) ** 2)


def test_frechet_distance_agrees_with_the_matrix_square_root(rng: np.random.Generator) -> None:
    a, b = (frechet.Gaussian.of(rng.standard_normal((50, 6)) @ rng.standard_normal((6, 6))) for _ in range(2))
    root = np.real(scipy.linalg.sqrtm(a.covariance @ b.covariance))
    expected = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance + b.covariance - 2 * root)
    assert frechet.frechet_distance(a, b) == pytest.approx(expected)
    assert frechet.frechet_distance(b, a) == pytest.approx(expected)


def test_frechet_distance_survives_singular_covariances(rng: np.random.Generator) -> None:
    thin = frechet.Gaussian.of(rng.standard_normal((4, 20)))  # Rank 3.
    assert frechet.frechet_distance(thin, thin) == pytest.approx(0, abs=1e-6)
    point = frechet.Gaussian(thin.mean, np.zeros((20, 20)))
    assert frechet.frechet_distance(thin, point) == pytest.approx(np.trace(thin.covariance))


def test_a_gaussian_is_fitted_without_bias() -> None:
    fitted = frechet.Gaussian.of(np.array([[0, 0], [2, 4]], np.float32))
    assert fitted.mean.tolist() == [1, 2] and fitted.covariance.tolist() == [[2, 4], [4, 8]]


def test_the_kernel_distance_agrees_with_its_definition(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((6, 3)), rng.standard_normal((8, 3)) + 0.5

    def mean_kernel(a: np.ndarray, b: np.ndarray, *, same: bool) -> float:
        return np.mean(
            [
                (sum(p * q for p, q in zip(u, v)) / 3 + 1) ** 3
                for i, u in enumerate(a)
                for j, v in enumerate(b)
                if not (same and i == j)
            ]
        )

    expected = mean_kernel(x, x, same=True) + mean_kernel(y, y, same=True) - 2 * mean_kernel(x, y, same=False)
    assert frechet.polynomial_mmd(x, y) == pytest.approx(expected)
    whole = frechet.kernel_distance(x, y[:6], rng=rng, subsets=3, size=6)
    assert whole == pytest.approx((frechet.polynomial_mmd(x, y[:6]), 0), abs=1e-9)


def test_the_kernel_distance_is_unbiased(rng: np.random.Generator) -> None:
    values = [frechet.polynomial_mmd(rng.standard_normal((40, 4)), rng.standard_normal((40, 4))) for _ in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(200) and min(values) < 0
    shifted = frechet.kernel_distance(
        rng.standard_normal((300, 4)) + 1, rng.standard_normal((300, 4)), rng=rng, subsets=10, size=100
    )
    assert shifted.value > 10 * (shifted.standard_error or 0) > 0


# Precision, recall, density, coverage.


def slow_manifolds(real: np.ndarray, fake: np.ndarray) -> list[float]:
    def radius(points: np.ndarray, i: int, k: int) -> float:
        return sorted(math.dist(points[i], points[j]) for j in range(len(points)) if j != i)[k - 1]

    def inside(point: np.ndarray, points: np.ndarray, i: int, k: int) -> bool:
        return math.dist(point, points[i]) <= radius(points, i, k)

    n, m = len(real), len(fake)
    return [
        np.mean([any(inside(f, real, i, 3) for i in range(n)) for f in fake]),
        np.mean([any(inside(r, fake, j, 3) for j in range(m)) for r in real]),
        sum(inside(f, real, i, 5) for f in fake for i in range(n)) / (5 * m),
        np.mean([any(inside(f, real, i, 5) for f in fake) for i in range(n)]),
    ]


def test_the_manifolds_agree_with_their_definitions(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "PORTION", 7)
    real, fake = rng.standard_normal((24, 3)), rng.standard_normal((20, 3)) * 0.7 + 0.6
    assert manifolds.compare(real, fake) == pytest.approx(slow_manifolds(real, fake))


def test_equal_sets_and_sets_apart(rng: np.random.Generator) -> None:
    real = rng.standard_normal((60, 4))
    same = manifolds.compare(real, real)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert manifolds.compare(real, real + 100) == (0, 0, 0, 0)


def test_a_generator_that_repeats_itself_has_precision_but_no_recall(rng: np.random.Generator) -> None:
    real = rng.standard_normal((100, 4))
    stuck = real[:1] + 1e-3 * rng.standard_normal((100, 4))
    found = manifolds.compare(real, stuck)
    assert found.precision == 1 and found.recall <= 0.02 and found.coverage <= 0.2


# What the classifier's probabilities tell.


def test_the_classifier_score_is_ten_for_sure_even_digits_and_one_for_a_single_one() -> None:
    even = np.tile(np.eye(10), (20, 1))
    assert classes.classifier_score(even) == pytest.approx((10, 0))
    assert classes.classifier_score(even[::10]) == pytest.approx((1, 0))
    assert classes.classifier_score(np.full((50, 10), 0.1)) == pytest.approx((1, 0))


def test_the_classifier_score_agrees_with_its_definition(rng: np.random.Generator) -> None:
    p = rng.dirichlet(np.full(10, 0.3), 60)
    scores = []
    for part in (p[:20], p[20:40], p[40:]):
        marginal = part.mean(axis=0)
        scores.append(math.exp(np.mean([sum(q * math.log(q / m) for q, m in zip(row, marginal)) for row in part])))
    expected = (np.mean(scores), np.std(scores, ddof=1) / math.sqrt(3))
    assert classes.classifier_score(p.astype(np.float32), splits=3) == pytest.approx(expected, rel=1e-5)
    assert classes.classifier_score(p, splits=1).standard_error is None


def test_digit_frequencies() -> None:
    frequencies = classes.histogram(np.eye(10)[[0, 0, 1, 9]])
    assert frequencies.tolist() == [0.5, 0.25, 0, 0, 0, 0, 0, 0, 0, 0.25]
    even = np.full(10, 0.1)
    assert classes.total_variation(even, even) == 0
    assert classes.total_variation(frequencies, even) == pytest.approx(0.7)
    assert classes.total_variation(np.eye(10)[0], np.eye(10)[1]) == 1
    assert classes.modes_covered(frequencies, even) == 3
    assert classes.modes_covered(np.array([0.827, *[0.019] * 8, 0.021]), even) == 2


# The classifier.


def slow_classifier(arrays: dict[str, np.ndarray], image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features and logits of an image (28, 28) in [0, 1], by SciPy's correlation."""
    weights = {name: array.astype(np.float64) for name, array in arrays.items()}
    x = image[..., None]
    for layer, after in ((1, 1), (2, 1), (3, 2)):
        x = np.pad(x, ((1, after), (1, after), (0, 0)))
        channels = x.shape[-1]
        # A column holds four blocks of 2x2 pixels.
        kernels = weights[f"layer{layer}.weight"].reshape(2, 2, 2, 2, channels, -1)  # block row, column, row, column
        kernels = kernels.transpose(0, 2, 1, 3, 4, 5).reshape(4, 4, channels, -1)
        maps = [
            sum(scipy.signal.correlate2d(x[..., c], kernels[..., c, o], "valid") for c in range(channels))
            for o in range(kernels.shape[-1])
        ]
        x = np.maximum(np.stack(maps, axis=-1)[::2, ::2] + weights[f"layer{layer}.bias"], 0)
    features = np.maximum(x.ravel() @ weights["layer4.weight"] + weights["layer4.bias"], 0)
    return features, features @ weights["layer5.weight"] + weights["layer5.bias"]


def test_the_classifier_is_three_convolutions_and_two_dense_layers(reader: classifier.Reader, digits: Path) -> None:
    images = read_images(digits, "test").pixels[:2]
    reading = reader.read(images)
    arrays = checkpoint.load(classifier.WEIGHTS).arrays
    for image, features, probabilities in zip(images, *reading):
        expected, logits = slow_classifier(arrays, image / 255)
        np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(probabilities, scipy.special.softmax(logits), atol=1e-4)


def test_each_image_is_read_on_its_own(reader: classifier.Reader, digits: Path) -> None:
    images = np.tile(read_images(digits, "test").pixels, (2, 1, 1))  # 594: more than a batch.
    reading = reader.read(images)
    assert reading.features.shape == (594, classifier.FEATURES) and reading.features.dtype == np.float32
    np.testing.assert_allclose(reading.probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(reader.read(images[590:]).features, reading.features[590:], rtol=1e-5, atol=1e-5)


def test_the_weights_are_small_and_know_other_peoples_digits(reader: classifier.Reader, digits: Path) -> None:
    assert classifier.WEIGHTS.stat().st_size < 1e6
    test = read_images(digits, "test")
    images, labels = test.pixels, test.labels
    assert len(labels) == len(load_digits().target) - 1500
    assert (reader.read(images).probabilities.argmax(axis=1) == labels).mean() > 0.85


@pytest.mark.skipif(not (MNIST / "test").is_dir(), reason="needs MNIST")
def test_the_classifier_is_right_on_mnists_test_images(reader: classifier.Reader) -> None:
    test = read_images(MNIST, "test")
    assert (reader.read(test.pixels).probabilities.argmax(axis=1) == test.labels).mean() >= 0.992


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    content = bytearray(classifier.WEIGHTS.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "classifier.ckpt").write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        classifier.Reader(tmp_path / "classifier.ckpt")


def test_training_it_twice_gives_the_same_bytes(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    script = importlib.import_module("train_classifier")
    for name in ("a.ckpt", "b.ckpt"):
        script.train(digits, epochs=1, out=tmp_path / name)
    assert "of the test images right" in capsys.readouterr().out
    assert (tmp_path / "a.ckpt").read_bytes() == (tmp_path / "b.ckpt").read_bytes()
    made, shipped = (checkpoint.load(path).arrays for path in (tmp_path / "a.ckpt", classifier.WEIGHTS))
    assert {name: (a.dtype, a.shape) for name, a in made.items()} == {n: (a.dtype, a.shape) for n, a in shipped.items()}
