"""evaluate.py on a small run, with the embedded digits in MNIST's place; and the judge for use during training."""

import functools
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import imageio.v3 as imageio
import mindspore as ms
import numpy as np
import pytest

from gan_mnist import config, evaluation, imaging, scoreboard
from gan_mnist.data import read_images
from gan_mnist.errors import UserError
from gan_mnist.latents import fixed_latents
from gan_mnist.losses import make_loss
from gan_mnist.models import build_network, network_spec
from gan_mnist.steps import make_optimizer, make_train_step

Cli = Callable[..., CompletedProcess[str]]
CliHere = Callable[..., None]
Refused = Callable[[CompletedProcess[str]], str]

IMAGES_ONLY = [name for name, measure in scoreboard.MEASURES.items() if measure.group in evaluation.COMPUTE]
OF_IMAGES = [*IMAGES_ONLY, "d_accuracy_real", "d_accuracy_fake"]


@pytest.fixture(scope="session")
def mnist_like(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded digits in a folder of their own, so that the scores kept beside them are this file's."""
    folder = tmp_path_factory.mktemp("mnist_like")
    shutil.copytree(digits, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="module", autouse=True)
def one_reader() -> Iterator[None]:
    """The classifier is compiled once for all tests here, which saves most of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "Reader", functools.cache(evaluation.Reader))
        yield


@pytest.fixture
def run(trained_run: Path, mnist_like: Path, tmp_path: Path) -> Path:
    """A copy of the small run, as if its data had been MNIST."""
    folder = tmp_path / "result" / "small"
    shutil.copytree(trained_run, folder)
    text = (folder / "config.yaml").read_text(encoding="utf-8")
    lines = [f"  folder: {mnist_like}" if line.startswith("  folder:") else line for line in text.splitlines()]
    (folder / "config.yaml").write_text("\n".join(lines).replace("dataset: digits", "dataset: mnist"), encoding="utf-8")
    return folder


def entries(folder: Path) -> list[dict]:
    return json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))["checkpoints"]


def test_a_whole_run_from_the_command_line(cli: Cli, run: Path) -> None:
    process = cli("evaluate", "--run", run, "--samples", 200, "--device", "CPU", cwd=run)
    assert process.returncode == 0, process.stderr
    first, last = entries(run)
    assert [first["epoch"], last["epoch"]] == [0, 1]
    unconditional = [name for name in OF_IMAGES if name != "class_accuracy"]
    assert list(last["scores"]) == unconditional
    assert last["files"].keys() == {"Generator1.ckpt", "Discriminator1.ckpt"}
    for name, score in last["scores"].items():
        assert math.isfinite(score["value"]), name
        assert (score["real"] is None) == (name not in IMAGES_ONLY), name
    for name in ("fid", "kid"):  # After 24 steps the samples are no digits.
        assert last["scores"][name]["value"] > 3 * last["scores"][name]["real"] > 0
    assert last["scores"]["parzen"]["value"] < last["scores"]["parzen"]["real"]
    assert sum(last["discriminator"]["fake"]) == 200 and sum(last["discriminator"]["real"]) == 297
    assert sum(last["digits"]["samples"]) == pytest.approx(1)

    assert "Generator0.ckpt: parzen " in process.stdout
    for text in (scoreboard.MEASURES["fid"].title, "225 +- 2 [1]", "Goodfellow", "real images", "evaluation.json"):
        assert text in process.stdout
    for picture in ("evaluation.png", "images/neighbours_1.png", "images/calibration_1.png"):
        assert imageio.imread(run / picture).std() > 10
    assert not (run / "images" / "neighbours_0.png").exists()


def test_what_is_evaluated_is_not_evaluated_again(
    cli_here: CliHere, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "--run", run, "--samples", 150, "--metrics", "classes,discriminator", "--device", "CPU"]
    cli_here(*command)
    before, said = (run / "evaluation.json").read_bytes(), capsys.readouterr().out

    drawn: list[str] = []
    draw = evaluation._draw

    def watched(path: Path, settings: evaluation.Settings, count: int) -> tuple[np.ndarray, np.ndarray | None]:
        drawn.append(path.name)
        return draw(path, settings, count)

    monkeypatch.setattr(evaluation, "_draw", watched)
    cli_here(*command)
    assert drawn == [] and (run / "evaluation.json").read_bytes() == before
    table = capsys.readouterr().out
    assert scoreboard.MEASURES["modes"].title in table and table.split("wrote")[0] == said.split("wrote")[0]

    # Other measures are added to what is there.
    command[6] = "diversity"
    cli_here(*command)
    assert drawn == ["Generator0.ckpt", "Generator1.ckpt"]
    assert {"diversity", "modes", "d_accuracy_fake"} <= entries(run)[1]["scores"].keys()

    # A changed file is evaluated again, and by itself.
    drawn.clear()
    shutil.copy(run / "checkpoints" / "Generator1.ckpt", run / "checkpoints" / "Generator0.ckpt")
    cli_here(*command)
    assert drawn == ["Generator0.ckpt"]
    again = entries(run)
    assert len(again) == 2 and again[0]["scores"]["diversity"] == again[1]["scores"]["diversity"]
    assert "modes" not in again[0]["scores"]

    # So is everything with another seed; the old results stay.
    drawn.clear()
    cli_here(*command, "--seed", 4)
    assert len(drawn) == 2 and len(entries(run)) == 4


def test_a_checkpoint_outside_a_run(cli_here: CliHere, run: Path, mnist_like: Path, tmp_path: Path) -> None:
    shutil.copy(run / "checkpoints" / "Generator1.ckpt", tmp_path / "friend.ckpt")
    options = ["--samples", 150, "--metrics", "classes", "--data", mnist_like, "--device", "CPU"]
    cli_here("evaluate", "--ckpt", "friend.ckpt", *options)
    (entry,) = entries(tmp_path)
    assert entry["checkpoint"] == "friend.ckpt" and entry["epoch"] is None
    assert (tmp_path / "neighbours_friend.png").is_file()
    assert not list(tmp_path.glob("calibration*"))

    # The same samples as in its run: the codes are sample.py's.
    cli_here("evaluate", "--ckpt", "Generator1.ckpt", *options)
    inside = entries(run)[0]
    assert inside["epoch"] == 1 and inside["scores"] == entry["scores"]
    cli_here("evaluate", "--ckpt", "Generator1.ckpt", *options, "--mode", "train")
    assert entries(run)[1]["scores"] != entry["scores"]


def test_images_from_elsewhere_are_measured_as_ours(
    cli_here: CliHere, run: Path, mnist_like: Path, tmp_path: Path
) -> None:
    """What sample.py wrote, as the generator that drew it; but there is no discriminator to judge."""
    options = ["--metrics", "classes,diversity,discriminator", "--data", mnist_like, "--device", "CPU"]
    cli_here("evaluate", "--ckpt", "Generator1.ckpt", "--samples", 150, *options)
    cli_here("sample", "--ckpt", "Generator1.ckpt", "--count", 150, "--out", "images.npy", "--device", "CPU")
    cli_here("evaluate", "--images", "images.npy", *options)
    theirs = json.loads((tmp_path / "images.evaluation.json").read_text(encoding="utf-8"))
    ours = entries(run)[-1]
    assert "d_accuracy_real" in ours["scores"]
    assert theirs["scores"] == {name: score for name, score in ours["scores"].items() if "d_accuracy" not in name}
    assert theirs["digits"] == ours["digits"]
    assert (tmp_path / "images.neighbours.png").is_file()


def test_images_that_cannot_be_measured_are_refused(cli_here: CliHere, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.zeros((99, 28, 28), np.uint8))
    np.save(tmp_path / "large.npy", np.zeros((200, 32, 32), np.uint8))
    np.save(tmp_path / "fine.npy", np.zeros((200, 28, 28), np.uint8))
    with pytest.raises(UserError, match="few.npy: holds 99 images; between 100 and 50,000"):
        cli_here("evaluate", "--images", "few.npy")
    with pytest.raises(UserError, match=r"large.npy: its shape is \(200, 32, 32\)"):
        cli_here("evaluate", "--images", "large.npy")
    with pytest.raises(UserError, match="--metrics discriminator: needs a checkpoint"):
        cli_here("evaluate", "--images", "fine.npy", "--metrics", "discriminator")
    with pytest.raises(UserError, match="nowhere.npy: no such file"):
        cli_here("evaluate", "--images", "nowhere.npy")


def test_the_scores_of_real_images_are_kept_beside_them_and_not_trusted_blindly(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "data")
    fresh = evaluation.Reference(tmp_path / "data", samples=150).ceiling("classes")
    kept = tmp_path / "data" / "evaluation_ceiling.json"
    known = json.loads(kept.read_text(encoding="utf-8"))
    (key,) = known
    known[key]["modes"][0] = 7
    kept.write_text(json.dumps(known), encoding="utf-8")
    assert evaluation.Reference(tmp_path / "data", samples=150).ceiling("classes")["modes"].value == 7
    assert evaluation.Reference(tmp_path / "data", samples=151).ceiling("classes")["modes"].value == 10
    kept.write_text("{", encoding="utf-8")
    assert evaluation.Reference(tmp_path / "data", samples=150).ceiling("classes") == fresh


def test_copies_of_training_images_are_noticed(mnist_like: Path) -> None:
    reference = evaluation.Reference(mnist_like, samples=150)
    images = reference.train_images[200:350]
    copied = evaluation._memorisation(evaluation.View(images, reference.reader.read(images), None), reference)
    assert copied["neighbour"].value == 0 and copied["neighbour_features_1st"].value < 1e-4
    honest = reference.ceiling("memorisation")
    assert 0 < honest["neighbour_1st"].value < honest["neighbour"].value


def test_the_panel_shows_the_neighbour_of_the_sample_beside_it() -> None:
    rng = np.random.default_rng(0)
    train = np.zeros((40, 28, 28), np.uint8)
    train[:, 4:24, 4:24] = rng.integers(0, 255, (40, 20, 20))
    samples = train[np.arange(25)]
    panel = evaluation.neighbours_panel(samples, train)
    plain = imaging.grid(train[[0, 1, 2, 3, 4, 4, 5]], rows=5, columns=6, scale=3)
    assert panel.shape == (*plain.shape, 3)
    right = panel[2 : 2 + 84, -86:-2]  # The last image of the first row.
    assert right[0, 0].tolist() == [255, 200, 0]
    assert np.array_equal(right[6:-6, 6:-6, 0], train[4].repeat(3, axis=0).repeat(3, axis=1)[6:-6, 6:-6])
    assert np.array_equal(panel[2 : 2 + 84, -172:-88, 0], train[4].repeat(3, axis=0).repeat(3, axis=1))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--run", "nowhere"], r"--run nowhere: holds no checkpoints"),
        (["--ckpt", "Generator9.ckpt"], r"--ckpt Generator9.ckpt: no such file"),
        (["--ckpt", "a/Generator9.ckpt"], r"no such checkpoint file"),
        (["--run", "x", "--metrics", "parzen,fib"], r"'fib' is not one of parzen, fid"),
        (["--run", "x", "--samples", "0"], r"'0' is not a positive"),
        (["--run", "x", "--ckpt", "y"], r"not allowed with"),
        ([], r"one of the arguments --ckpt --run --images is required"),
    ],
)
def test_bad_arguments_are_refused(cli_here: CliHere, arguments: list[str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        cli_here("evaluate", *arguments)


def test_bad_files_are_refused(cli_here: CliHere, run: Path, trained_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trained on data.dataset=digits.*evaluate a run on MNIST"):
        cli_here("evaluate", "--run", trained_run)
    with pytest.raises(UserError, match="--samples 60000: between 100 and 50000"):
        cli_here("evaluate", "--run", run, "--samples", 60000)
    with pytest.raises(UserError, match="holds a discriminator, but a generator"):
        cli_here("evaluate", "--ckpt", run / "checkpoints" / "Discriminator1.ckpt", "--samples", 100)
    for damage in ("{", "[]", '{"checkpoints": [{}]}', '{"checkpoints": 3}'):
        (run / "evaluation.json").write_text(damage, encoding="utf-8")
        with pytest.raises(UserError, match=r"evaluation.json: damaged"):
            cli_here("evaluate", "--run", run, "--samples", 100)


def test_a_digits_run_is_refused_in_one_line(cli: Cli, refused: Refused, trained_run: Path) -> None:
    assert "data.dataset=digits" in refused(cli("evaluate", "--run", trained_run, cwd=trained_run))


# During training.


def test_the_judge_prefers_digits_to_noise(mnist_like: Path) -> None:
    judge = evaluation.Judge(read_images(mnist_like, "test"), points=100)
    digits = read_images(mnist_like, "train").pixels[:297]
    noise = np.random.default_rng(0).integers(0, 255, digits.shape).astype(np.uint8)
    good, bad = judge.score(digits), judge.score(noise)
    assert good.keys() == bad.keys() <= scoreboard.MEASURES.keys()
    for name, score in good.items():
        better = scoreboard.MEASURES[name].better
        if name != "diversity":  # Noise is diverse.
            assert score >= bad[name] if better == "higher" else score <= bad[name], name
    assert good["fid"] < 0.1 * bad["fid"] and good["modes"] == 10
    assert judge.score(digits) == good


def test_the_judge_leaves_training_as_it_is(mnist_like: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (4, 60, 1, 28, 28)).astype(np.float32)
    z = fixed_latents(240, 100, 3).reshape(4, 60, 100)
    judge = evaluation.Judge(read_images(mnist_like, "test"), points=50)

    def weights(*, judged: bool) -> list[np.ndarray]:
        ms.set_seed(5)
        G, D = (
            build_network(network_spec(config.Model(), role, (1, 28, 28))) for role in ("generator", "discriminator")
        )
        rates = np.full(4, 2e-4)
        optimizers = [
            make_optimizer(network, config.Optimizer(), rates=rates, prefix=f"optim_{name}.")
            for network, name in ((G, "g"), (D, "d"))
        ]
        step = make_train_step(G.set_train(), D.set_train(), *optimizers, make_loss(config.Loss()))
        np.random.seed(1)  # noqa: NPY002
        state = np.random.get_state()[1].copy()  # type: ignore[union-attr]
        for images, latents in zip(x, z):
            step(ms.Tensor(images), ms.Tensor(np.zeros(len(images), np.int32)), ms.Tensor(latents))
            if judged:
                judge.score(read_images(mnist_like, "train").pixels[:200])
        assert np.array_equal(np.random.get_state()[1], state)  # type: ignore[arg-type]
        return [parameter.asnumpy() for parameter in (*G.get_parameters(), *D.get_parameters())]

    for judged, alone in zip(weights(judged=True), weights(judged=False), strict=True):
        assert np.array_equal(judged, alone)


def test_training_looks_at_its_quality_when_asked(
    cli: Cli, recipe: list[str], mnist_like: Path, tmp_path: Path
) -> None:
    overrides = ["data.dataset=mnist", f"data.folder={mnist_like}", "train.epochs=3", "train.ema=0.9"]
    assert cli("train", *recipe, *overrides, "name=plain", cwd=tmp_path).returncode == 0
    process = cli("train", *recipe, *overrides, "name=judged", "train.evaluate_every=2", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    plain, judged = (
        [json.loads(line) for line in (tmp_path / "result" / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("plain", "judged")
    )
    assert [(line["epoch"], line["step"]) for line in judged if "fid" in line] == [(1, 11)]
    names = {"parzen", "fid", "kid", "precision", "classifier_score", "digits_distance", "modes", "diversity"}
    scores = next(line for line in judged if "fid" in line)
    assert names <= scores.keys() and all(math.isfinite(scores[name]) for name in names)
    timings = {"images_per_s", "epoch_s"}
    for one, other in zip(plain, judged, strict=True):  # Training does not notice.
        assert all(other[key] == value for key, value in one.items() if key not in timings)
    curve = tmp_path / "result" / "judged" / "quality_curve.png"
    assert imageio.imread(curve).shape[1] > 1000, "three panels side by side, and not the film"
    assert (tmp_path / "result" / "judged" / "training.gif").exists()
    assert not (tmp_path / "result" / "plain" / "quality_curve.png").exists()


def test_training_on_other_data_cannot_be_judged(cli: Cli, recipe: list[str], tmp_path: Path, refused: Refused) -> None:
    line = refused(cli("train", *recipe, "train.evaluate_every=1", cwd=tmp_path))
    assert "train.evaluate_every needs data.dataset=mnist" in line
