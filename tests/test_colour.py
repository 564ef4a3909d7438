"""Colour from a folder of pictures to samples and scores, through the real command line; and resume, to the bit."""

import json
from collections.abc import Callable
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from conftest import Cli
from PIL import Image

from gan_mnist import config, evaluation, scoring
from gan_mnist.data.pictures import load_pictures
from gan_mnist.errors import UserError

CliHere = Callable[..., None]
COUNT, EPOCHS = 80, 4
RECIPE = ["data.dataset=images", "data.image_size=8", "data.batch_size=16", f"train.epochs={EPOCHS}", "train.ema=0.9"]
RECIPE += ["model.generator.hidden=[32]", "model.discriminator.hidden=[32]", "sample={rows: 2, columns: 3, seed: 7}"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures: red ones above, blue ones below, of several sizes, one of them broken."""
    folder = tmp_path_factory.mktemp("colour")
    random = np.random.default_rng(0)
    for index in range(COUNT):
        pixels = np.zeros((2, 2, 3), np.uint8)
        pixels[0, :, 0], pixels[1, :, 2] = random.integers(150, 256, (2, 2))
        path = folder / "pictures" / f"{index % 3}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((8 + index % 5, 8 + index % 4)).save(path)
    (folder / "pictures" / "1" / "broken.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def arguments(work: Path) -> list[object]:
    recipe = Path(__file__).resolve().parent.parent / "configs" / "mnist.yaml"
    return ["--config", recipe, *RECIPE, f"data.folder={work / 'pictures'}", "--run-name", "colour", "--device", "CPU"]


@pytest.fixture(scope="module")
def run(cli: Cli, work: Path, arguments: list[object]) -> Path:
    """Half of it is trained, and then the rest."""
    first = cli("train", *arguments, f"train.epochs={EPOCHS // 2}", cwd=work)
    assert first.returncode == 0, first.stderr
    warning = f"warning: {work / 'pictures'}: skipped 1 of {COUNT + 1} pictures: 1/broken.png: empty\n"
    assert first.stderr == warning
    second = cli("train", *arguments, "--resume", cwd=work)
    assert second.returncode == 0 and f"from epoch {EPOCHS // 2}" in second.stdout, second.stderr
    return work / "result" / "colour"


def metrics(run: Path) -> list[dict[str, float]]:
    """What is logged, without what depends on the machine."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line.keys() - {"images_per_s", "epoch_s"}} for line in lines]


def test_resume_equals_a_run_without_a_stop(cli: Cli, work: Path, arguments: list[object], run: Path) -> None:
    straight = cli("train", *arguments, f"result_dir={work / 'straight'}", cwd=work)
    assert straight.returncode == 0, straight.stderr
    other = work / "straight" / "colour"
    names = [f"checkpoints/{role}{epoch}.ckpt" for role in ("Generator", "Discriminator") for epoch in range(EPOCHS)]
    names += [f"images/epoch_{epoch:04d}.png" for epoch in range(EPOCHS)]
    for name in names:
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    assert metrics(run) == metrics(other)


def test_grids_and_film_are_in_colour(run: Path) -> None:
    grid = imageio.imread(run / "images" / f"epoch_{EPOCHS - 1:04d}.png")
    assert grid.shape == (2 * 18 + 2, 3 * 18 + 2, 3)
    assert np.ptp(grid[2:18, 2:18].astype(int), axis=-1).max() > 0
    with Image.open(run / "training.gif") as film:
        assert film.n_frames == EPOCHS and film.size[0] == grid.shape[1]
        assert np.ptp(np.asarray(film.convert("RGB")).astype(int), axis=-1).max() > 0


def test_samples_are_drawn_in_colour(cli_here: CliHere, run: Path, tmp_path: Path) -> None:
    ckpt = ["--ckpt", run / "checkpoints" / f"Generator{EPOCHS - 1}.ckpt", "--device", "CPU", "--seed", 7]
    cli_here("sample", *ckpt, "--count", 7, "--out", "x.npy")
    cli_here("sample", *ckpt, "--count", 7, "--out", "folder")
    cli_here("sample", *ckpt, "--grid", "2x3", "--out", "grid.png")
    cli_here("sample", *ckpt, "--interpolate", 2, "--steps", 3, "--out", "walk.png")
    array = np.load(tmp_path / "x.npy")
    assert array.shape == (7, 8, 8, 3) and array.dtype == np.uint8
    assert np.ptp(array.astype(int), axis=-1).max() > 0
    pictures = [imageio.imread(path) for path in sorted((tmp_path / "folder").iterdir())]
    assert np.array_equal(pictures, array)
    last = run / "images" / f"epoch_{EPOCHS - 1:04d}.png"
    assert (tmp_path / "grid.png").read_bytes() == last.read_bytes()
    strip = imageio.imread(tmp_path / "walk.png")
    assert strip.shape == (20, 4 * 18 + 2, 3)
    assert np.array_equal(strip[2:18:2, 2:18:2], array[0])
    with Image.open(tmp_path / "walk.gif") as film:
        assert film.n_frames == 4


def test_scores_of_colour_pictures(run: Path, work: Path, tmp_path: Path, cli_here: CliHere) -> None:
    ckpt = str(run / "checkpoints" / f"Discriminator{EPOCHS - 1}.ckpt")
    paths = sorted((work / "pictures" / "0").iterdir(), key=lambda path: path.name)
    pixels, _ = load_pictures(work / "pictures" / "0", size=8, channels=3, cache=tmp_path / "cache")
    np.save(tmp_path / "last.npy", pixels)
    np.save(tmp_path / "first.npy", (pixels / 127.5 - 1).astype(np.float32).transpose(0, 3, 1, 2))
    np.save(tmp_path / "one.npy", pixels[0])
    files = [*paths, tmp_path / "last.npy", tmp_path / "first.npy", tmp_path / "one.npy"]
    scored = scoring.score_files(ckpt, files, device="CPU", invert=False)
    probabilities = np.array([probability for _, probability in scored])
    assert len(scored) == 3 * len(paths) + 1 and ((probabilities >= 0) & (probabilities <= 1)).all()
    pictures, last, first = probabilities[:-1].reshape(3, len(paths))
    np.testing.assert_allclose(pictures, last, atol=1e-6)  # A picture is seen as in training.
    np.testing.assert_allclose(first, last, atol=1e-6)
    assert probabilities[-1] == pytest.approx(last[0], abs=1e-6) and np.ptp(last) > 0

    Image.fromarray(np.full((5, 9), 200, np.uint8)).save(tmp_path / "grey.png")
    as_colour = np.full((1, 8, 8, 3), 200, np.uint8)
    assert np.array_equal(scoring.read_images(tmp_path / "grey.png", shape=(3, 8, 8)), as_colour)
    for wrong in (np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 8, 4), np.uint8)):
        np.save(tmp_path / "wrong.npy", wrong)
        with pytest.raises(UserError, match=r"wrong.npy: its shape is .*\(N, 8, 8, 3\) are needed"):
            cli_here("score", "--ckpt", ckpt, tmp_path / "wrong.npy", "--device", "CPU")


def test_evaluation_of_pictures_is_refused(run: Path, cli_here: CliHere) -> None:
    with pytest.raises(UserError, match="trained on data.dataset=images, but the classifier and the published numbers"):
        cli_here("evaluate", "--ckpt", run / "checkpoints" / f"Generator{EPOCHS - 1}.ckpt", "--device", "CPU")


def test_training_does_not_judge_pictures() -> None:
    with pytest.raises(UserError, match="nothing here can judge images"):
        evaluation.judge(config.Data(dataset="images"))


def test_a_resumed_run_keeps_the_size_of_its_pictures(
    cli: Cli, arguments: list[object], run: Path, refused: Callable[..., str]
) -> None:
    process = cli("train", *arguments, "data.image_size=16", "--resume", cwd=run.parents[1])
    process.stderr = process.stderr[process.stderr.index("error: ") :]  # After the warning of the broken picture.
    assert "--resume: `data.image_size` was 8 and is now 16" in refused(process)


def test_a_dry_run_shows_networks_of_the_configured_shape(
    cli_here: CliHere, arguments: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    cli_here("train", *arguments, "--dry-run")
    assert "images (3, 8, 8), hidden=[32]" in capsys.readouterr().out
