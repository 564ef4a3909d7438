"""Toy data sets: their points, the measures that know their modes, the pictures, and the scripts on small runs."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import imageio.v3 as imageio
import mindspore as ms
import numpy as np
import pytest

from gan_mnist import charts, checkpoint, config, portraits, report, scoreboard, scoring, trainer
from gan_mnist.data import load_images, toys
from gan_mnist.errors import UserError
from gan_mnist.game import build_game
from gan_mnist.interrupts import Interrupt
from gan_mnist.latents import fixed_latents
from gan_mnist.metrics import modes
from gan_mnist.models import build_network, network_spec, parameter_count
from gan_mnist.rundir import RunDir
from gan_mnist.sampling import generate
from gan_mnist.toy_evaluation import PointJudge

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
Cli = Callable[..., CompletedProcess[str]]
CliHere = Callable[..., None]
Refused = Callable[[CompletedProcess[str]], str]

TINY = ["data.limit=640", "data.batch_size=64", "train.epochs=2", "model.generator.hidden=[8]"]
TINY += ["model.discriminator.hidden=[8]", "sample={rows: 10, columns: 10}", "device=CPU"]


def recipe(toy: str, folder: Path, *overrides: str) -> config.Config:
    return config.load(CONFIGS / f"toy_{toy}.yaml", [*TINY, f"result_dir={folder}", *overrides])


# The points.


@pytest.mark.parametrize(("toy", "count", "size"), [("gaussian", 1, 1), ("ring8", 8, 2), ("grid25", 25, 2)])
def test_points_scatter_about_their_modes(toy: str, count: int, size: int) -> None:
    images = load_images(config.Data(dataset=toy))  # type: ignore[arg-type]
    mixture = toys.TOYS[toy]
    assert images.pixels.shape == (100_000, size) and images.pixels.dtype == np.float32
    assert images.shape == mixture.shape == (size, 1, 1)
    assert images.labels.dtype == np.uint8 and set(images.labels) == set(range(count))
    for mode, centre in enumerate(mixture.centres):
        points = images.pixels[images.labels == mode]
        error = mixture.sigma / np.sqrt(len(points))
        assert len(points) / 100_000 == pytest.approx(1 / count, rel=0.1)
        np.testing.assert_allclose(points.mean(axis=0), centre, atol=5 * error)
        np.testing.assert_allclose(points.std(axis=0), mixture.sigma, rtol=0.1)


def test_the_modes_are_the_papers() -> None:
    ring, grid = toys.TOYS["ring8"], toys.TOYS["grid25"]
    np.testing.assert_allclose(np.linalg.norm(ring.centres, axis=1), 1)
    gaps = np.linalg.norm(ring.centres - np.roll(ring.centres, 1, axis=0), axis=1)
    np.testing.assert_allclose(gaps, 2 * np.sin(np.pi / 8))
    assert {tuple(centre) for centre in grid.centres} == {(x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)}
    assert (ring.sigma, grid.sigma) == (0.01, 0.05)


def test_the_points_are_the_same_everywhere_and_those_for_testing_are_others() -> None:
    train, test = (load_images(config.Data(dataset="ring8"), split) for split in ("train", "test"))
    assert zlib.crc32(np.rint(train.pixels[:1000] * 1e4).astype(np.int32).tobytes()) == 0xAC5F492C
    assert len(test.pixels) == 10_000
    assert not {tuple(point) for point in test.pixels} & {tuple(point) for point in train.pixels}
    some = load_images(config.Data(dataset="ring8", limit=70))
    assert len(some.labels) == 70 and np.array_equal(some.pixels, train.pixels[:70])


def test_a_folder_for_drawn_points_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.folder is 'here', but ring8 is drawn and not read; leave it out"):
        load_images(config.Data(dataset="ring8", folder="here"))


# The measures.


def slow_counts(points: np.ndarray, centres: np.ndarray, sigma: float) -> list[int]:
    counts = [0] * len(centres)
    for point in points:
        distances = [sum((float(a) - b) ** 2 for a, b in zip(point, centre)) ** 0.5 for centre in centres]
        if min(distances) <= 3 * sigma:
            counts[distances.index(min(distances))] += 1
    return counts


@pytest.mark.parametrize("toy", ["ring8", "grid25"])
def test_modes_are_counted_as_the_slow_way_counts_them(toy: str) -> None:
    mixture = toys.TOYS[toy]
    rng = np.random.default_rng(1)
    points, _ = mixture.draw(300, seed=1)
    points[:150] += rng.normal(0, 3 * mixture.sigma, (150, 2)).astype(np.float32)
    points = points[points[:, 0] > -0.5]  # Some modes are left out.
    counts = modes.high_quality(points, mixture.centres, sigma=mixture.sigma)
    slow = slow_counts(points, mixture.centres, mixture.sigma)
    assert counts.tolist() == slow and 0 < sum(slow) < len(points)
    assert modes.covered(counts) == sum(count > 0 for count in slow) < len(slow)
    shares = [count / sum(slow) for count in slow]
    expected = sum(p * np.log(p / (1 / len(slow))) for p in shares if p)
    assert modes.divergence(counts) == pytest.approx(expected)


def test_a_sample_exactly_three_sigma_away_is_good_and_overlapping_modes_share_none() -> None:
    centres = np.array([[0.0, 0.0], [4.0, 0.0]])
    points = np.array([[-3.0, 0], [-3.01, 0], [1.9, 0], [2.1, 0], [0, 3.0], [4, 3.01]])
    assert modes.high_quality(points, centres, sigma=1.0).tolist() == [3, 1]


def test_divergence_of_known_frequencies() -> None:
    assert modes.divergence(np.full(25, 7)) == pytest.approx(0)
    assert modes.divergence(np.array([5, 0, 5, 0, 0, 0, 0, 0])) == pytest.approx(np.log(4))


def test_real_points_reach_what_the_normal_distribution_says() -> None:
    for toy, count in (("ring8", 8), ("grid25", 25)):
        scores = PointJudge(toy).score(toys.load(toy, "train")[0][:20_000])
        assert scores["modes_covered"] == count and scores["modes_divergence"] < 0.001
        assert scores["high_quality"] == pytest.approx(1 - np.exp(-4.5), abs=0.003)
    moments = PointJudge("gaussian").score(toys.load("gaussian", "train")[0][:20_000])
    assert moments["points_mean"] == pytest.approx(4, abs=0.02)
    assert moments["points_std"] == pytest.approx(0.5, abs=0.01)


def test_the_wasserstein_distance_of_shifted_points_is_the_shift() -> None:
    judge = PointJudge("gaussian")
    assert judge.score(judge.test)["wasserstein"] == pytest.approx(0, abs=1e-6)
    assert judge.score(judge.test + 0.25)["wasserstein"] == pytest.approx(0.25, abs=1e-5)
    spread = 4 + 2 * (judge.test - 4)  # Sorted, each moves by |x - 4|.
    assert judge.score(spread)["wasserstein"] == pytest.approx(float(np.abs(judge.test - 4).mean()), abs=1e-4)


def test_points_far_from_everything_have_no_frequencies() -> None:
    assert PointJudge("ring8").score(np.full((100, 2), 50, np.float32)) == {"modes_covered": 0, "high_quality": 0}


# The networks.


def test_the_networks_compute_what_numpy_computes() -> None:
    activations = {
        "relu": lambda x: np.maximum(x, 0),
        "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
        "tanh": np.tanh,
    }
    x = np.random.default_rng(0).normal(0, 2, (40, 3)).astype(np.float32)
    for name, activation in activations.items():
        model = config.Model(
            name="toy",
            latent_size=3,
            pack=3,
            generator={"hidden": [16, 8], "activation": name},
            discriminator={"hidden": [16, 8], "activation": name},
        )
        for role, shape in (("generator", (2, 1, 1)), ("discriminator", (1, 1, 1))):
            spec = network_spec(model, role, shape)  # type: ignore[arg-type]
            network = build_network(spec)
            weights = [parameter.asnumpy() for parameter in network.get_parameters()]
            width = 2 if role == "generator" else 1
            assert parameter_count(network) == 3 * 16 + 16 + 16 * 8 + 8 + 8 * width + width
            hidden = activation(activation(x @ weights[0].T + weights[1]) @ weights[2].T + weights[3])
            expected = hidden @ weights[4].T + weights[5]
            if role == "generator":
                found = network(ms.Tensor(x)).asnumpy()
                assert found.shape == (40, 2, 1, 1)
            else:
                found = network.logits(ms.Tensor(x[:, :, None, None])).asnumpy()
            np.testing.assert_allclose(found.reshape(40, width), expected, atol=5e-4)


def test_generated_points_are_unbounded() -> None:
    model = config.Model(name="toy", latent_size=2)
    G = build_network(network_spec(model, "generator", (2, 1, 1)))
    points = generate(G, 1000 * fixed_latents(1500, 2, 1))
    assert points.shape == (1500, 2) and points.dtype == np.float32 and np.abs(points).max() > 10
    np.testing.assert_allclose(points[:3], generate(G, 1000 * fixed_latents(3, 2, 1)), rtol=1e-5)


def test_an_unknown_activation_is_refused() -> None:
    model = config.Model(name="toy", generator={"activation": "sine"})
    with pytest.raises(UserError, match=r"model\.generator\.activation.*'sine'.*'tanh'"):
        network_spec(model, "generator", (2, 1, 1))


# The pictures.


def test_the_plane_shows_points_and_surface_where_they_are() -> None:
    box = np.array([[-1.0, 1.0], [-1.0, 1.0]])
    surface = np.zeros((16, 16))
    surface[:8] = 1  # D holds the lower half for real.
    corner = np.full((1, 2), 0.95)
    picture = charts.plane(np.zeros((1, 2)), box, real=corner, surface=surface)
    assert picture.shape == (charts.SIDE, charts.SIDE, 3) and picture.dtype == np.uint8
    upper, lower = picture[150, 150].astype(int), picture[380, 150].astype(int)
    assert upper[0] > upper[2] + 30, "red: fake"
    assert lower[2] > lower[0] + 30, "blue: real"
    green = (picture[..., 1].astype(int) - picture[..., 0] > 80) & (picture[..., 1].astype(int) - picture[..., 2] > 80)
    rows, columns = np.nonzero(green[100:])  # Beneath the legend.
    assert abs(rows.mean() + 100 - 235) < 8 and abs(columns.mean() - 257) < 8


def test_a_single_point_can_be_drawn() -> None:
    for points in (np.zeros((1, 2), np.float32), np.full((5, 2), 7, np.float32)):
        assert charts.plane(points, charts.extent(points)).std() > 1
        assert charts.line(points[:, 0], charts.extent(points)[0]).std() > 1


@pytest.mark.parametrize("pack", [1, 2])
def test_the_surface_is_ds_mean_judgement_of_each_place(tmp_path: Path, pack: int) -> None:
    settings = recipe("ring8", tmp_path, f"model.pack={pack}")
    images = load_images(settings.data)
    game = build_game(settings, images.shape, steps_per_epoch=1)
    box = charts.extent(images.pixels)
    surface = portraits.surface_of_d(settings, game, images.pixels, box)()
    assert surface.shape == (portraits.LATTICE**2,) and game.D.training
    side = np.linspace(*box[0], portraits.LATTICE), np.linspace(*box[1], portraits.LATTICE)
    for index in (0, 70, portraits.LATTICE**2 - 1):
        place = np.array([side[0][index % portraits.LATTICE], side[1][index // portraits.LATTICE]], np.float32)
        packs = [
            np.concatenate([place, *images.pixels[k * (pack - 1) : (k + 1) * (pack - 1)]])
            for k in range(portraits.PARTNERS)
        ]
        assert surface[index] == pytest.approx(scoring.score(game.D, np.array(packs)).mean(), abs=1e-5)


# Whole runs.


@pytest.fixture(scope="module")
def ring_run(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny run of toy_ring8.yaml; only for reading."""
    folder = tmp_path_factory.mktemp("toys")
    process = cli("train", "--config", CONFIGS / "toy_ring8.yaml", *TINY, "model.pack=1", cwd=folder)
    assert process.returncode == 0, process.stderr
    return folder / "result" / "toy_ring8"


def test_a_run_leaves_pictures_measures_and_a_film(ring_run: Path) -> None:
    lines = [line for line in report.read_metrics(ring_run) if "modes_covered" in line]
    assert [line["epoch"] for line in lines] == [0, 1]
    samples = generate(
        checkpoint.load_network(ring_run / "checkpoints/Generator1.ckpt", "generator")[0], fixed_latents(2500, 2, 2323)
    )
    assert PointJudge("ring8").score(samples).items() <= lines[-1].items()
    first, last = (imageio.imread(ring_run / f"images/epoch_{epoch:04d}.png") for epoch in (0, 1))
    assert first.shape == last.shape == (charts.SIDE, charts.SIDE, 3) and not np.array_equal(first, last)
    assert len(imageio.imread(ring_run / "training.gif", index=None)) == 2
    assert imageio.imread(ring_run / "quality_curve.png").std() > 5
    assert imageio.imread(ring_run / "loss_curve.png").std() > 5


@pytest.mark.parametrize("toy", ["gaussian", "grid25"])
def test_the_other_recipes_train(toy: str, tmp_path: Path) -> None:
    settings = recipe(toy, tmp_path)
    run = RunDir(settings.run_dir)
    with run.claim():
        assert trainer.train(settings, load_images(settings.data), run, interrupt=Interrupt()) == 0
    measure = {"gaussian": "wasserstein", "grid25": "modes_covered"}[toy]
    assert [measure in line for line in report.read_metrics(run.path)][-1]
    assert imageio.imread(run.images / "epoch_0001.png").shape == (charts.SIDE, charts.SIDE, 3)


def test_resume_is_exact(tmp_path: Path) -> None:
    def play(name: str, *, resume: bool = False, epochs: int = 3) -> RunDir:
        constant = ["optim_g={lr: 1e-3}", "optim_d={lr: 1e-3}"]  # A schedule would depend on the number of epochs.
        settings = recipe("grid25", tmp_path, *constant, f"name={name}", f"train.epochs={epochs}")
        run = RunDir(settings.run_dir)
        with run.claim():
            trainer.train(settings, load_images(settings.data), run, interrupt=Interrupt(), resume=resume)
        return run

    straight = play("straight")
    play("resumed", epochs=1)
    resumed = play("resumed", resume=True)
    for name in ("checkpoints/Generator2.ckpt", "checkpoints/Discriminator2.ckpt", "images/epoch_0002.png"):
        assert (straight.path / name).read_bytes() == (resumed.path / name).read_bytes(), name


def test_sampling_and_scoring_points(
    cli_here: CliHere, ring_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    G, D = (ring_run / "checkpoints" / f"{name}1.ckpt" for name in ("Generator", "Discriminator"))
    cli_here("sample", "--ckpt", G, "--count", 30, "--out", "points.npy")
    points = np.load(tmp_path / "points.npy")
    assert points.shape == (30, 2) and points.dtype == np.float32
    cli_here("sample", "--ckpt", G, "--grid", "20x20", "--out", "points.png")
    assert imageio.imread(tmp_path / "points.png").shape == (charts.SIDE, charts.SIDE, 3)

    capsys.readouterr()
    cli_here("score", "--ckpt", D, "points.npy")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 30 and lines[3].endswith("points.npy[3]")
    network, _ = checkpoint.load_network(D, "discriminator")
    np.testing.assert_allclose([float(line.split()[0]) for line in lines], scoring.score(network, points), atol=1e-4)


def test_what_points_cannot_be_asked_is_refused(cli_here: CliHere, ring_run: Path, tmp_path: Path) -> None:
    G, D = (ring_run / "checkpoints" / f"{name}1.ckpt" for name in ("Generator", "Discriminator"))
    arrays = {
        "flat": np.zeros(4),
        "three": np.zeros((4, 3)),
        "none": np.zeros((0, 2)),
        "whole": np.zeros((4, 2), np.int64),
        "infinite": np.full((4, 2), np.inf),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(UserError, match=rf"{name}\.npy: .* a \.npy array of floats \(N, 2\) is needed"):
            cli_here("score", "--ckpt", D, f"{name}.npy")
    with pytest.raises(UserError, match=r"a\.png: this discriminator judges points, not pictures"):
        cli_here("score", "--ckpt", D, "a.png")
    with pytest.raises(UserError, match=r"--invert: .* judges points"):
        cli_here("score", "--ckpt", D, "flat.npy", "--invert")
    with pytest.raises(UserError, match=r"--interpolate: .* draws points.*--grid"):
        cli_here("sample", "--ckpt", G, "--interpolate", 3)
    with pytest.raises(UserError, match=r"--out folder: .* draws points.*name a \.npy file"):
        cli_here("sample", "--ckpt", G, "--count", 3, "--out", "folder")


def test_evaluation_of_points(
    cli_here: CliHere, ring_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    G = ring_run / "checkpoints" / "Generator1.ckpt"
    cli_here("evaluate", "--ckpt", G)
    shown = capsys.readouterr().out
    assert scoreboard.MEASURES["modes_covered"].title in shown and "6.3 of 8" in shown and "2,500 samples" in shown
    assert "[2] GAN on ring and grid in Lin et al. 2018" in shown and "[1]" not in shown
    (entry,) = json.loads((ring_run / "evaluation.json").read_text())["checkpoints"]
    logged = [line for line in report.read_metrics(ring_run) if "modes_covered" in line][-1]
    for name, score in entry["scores"].items():
        assert score["value"] == logged[name]
    assert entry["scores"]["modes_covered"]["real"] == 8 and entry["scores"]["high_quality"]["real"] > 0.98
    cli_here("evaluate", "--run", ring_run)
    assert len(json.loads((ring_run / "evaluation.json").read_text())["checkpoints"]) == 2
    with pytest.raises(UserError, match=r"--metrics parzen,fid: of ring8, only `mixture` can be measured"):
        cli_here("evaluate", "--ckpt", G, "--metrics", "parzen,fid")
    with pytest.raises(UserError, match=r"--data MNIST_Data: ring8 is drawn and not read"):
        cli_here("evaluate", "--ckpt", G, "--data", "MNIST_Data")


def test_the_best_checkpoint_of_points_cannot_be_kept(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"checkpoint\.keep is best, which judges images, but ring8 has points"):
        trainer.Referee(recipe("ring8", tmp_path))
