"""The doctor: recognises every broken recipe, and is silent on sound ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan_mnist import config, doctor, imaging, report
from gan_mnist.config import Config
from gan_mnist.data import Images
from gan_mnist.doctor import Portrait, Run
from gan_mnist.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
EVIDENCE: dict[str, list[dict[str, Any]]] = json.loads((ROOT / "tests/data/evidence.json").read_text())
"""By run, after some of its epochs; `tests/record_evidence.py` makes it from run directories."""

ILLNESSES = {
    "unit_range": "range",
    "relu_before_sigmoid": "relu_logits",
    "batch_norm_eps": "mode_collapse",
    "no_batch_norm": "mode_collapse",
    "saturating_minimax": "g_vanished",
    "strong_discriminator": "d_saturated",
    "high_rate": "d_stuck",
    "train_mode_samples": "train_mode",
}
REMEDIES = {
    "unit_range": "data.scale=symmetric",
    "relu_before_sigmoid": "model.discriminator.relu_logits=false",
    "batch_norm_eps": "model.generator.eps=1e-5",
    "no_batch_norm": "model.generator.batch_norm=true",
    "saturating_minimax": "loss.name=bce",
    "strong_discriminator": "optim_g.lr=0.0002",
    "high_rate": "optim_d.lr=0.0002",
    "train_mode_samples": "sample.mode=eval",
}
SOUND = sorted(EVIDENCE.keys() - ILLNESSES)


def evidence(values: dict[str, Any]) -> Run:
    """As recorded; see `Run`."""
    fields = {name: value for name, value in values.items() if name != "epoch"}
    fields["config"] = Config.model_validate(fields["config"])
    fields["recent"] = {name: np.array(array) for name, array in fields["recent"].items()}
    fields["grids"] = [Portrait(*grid) for grid in fields["grids"]]
    fields["real"] = Portrait(*fields["real"]) if fields["real"] else None  # Of toys and colour pictures there is none.
    return Run(**fields)


def names(run: Run) -> list[str]:
    return [finding.name for finding in doctor.judge(run)]


def test_every_broken_recipe_has_its_illness_recorded() -> None:
    broken = {path.stem for path in (ROOT / "configs/failures").glob("*.yaml")}
    assert broken == ILLNESSES.keys() == REMEDIES.keys() and broken <= EVIDENCE.keys()


@pytest.mark.parametrize("name", ILLNESSES)
def test_a_broken_recipe_is_recognised_and_mended(name: str) -> None:
    run = evidence(EVIDENCE[name][-1])
    recipe = config.load(ROOT / f"configs/failures/{name}.yaml")
    assert (run.config.model, run.config.loss) == (recipe.model, recipe.loss), "recorded with the recipe as it is"
    first = doctor.judge(run)[0]
    assert first.name == ILLNESSES[name]
    for text in (first.en, first.zh):
        assert len(text.splitlines()) == 2 and REMEDIES[name] in text.splitlines()[1]
    assert any(character.isdigit() for character in first.en.splitlines()[0]), "the numbers that were seen"


@pytest.mark.parametrize("name", SOUND)
def test_there_is_no_false_alarm_at_any_time_of_a_sound_run(name: str) -> None:
    assert {values["epoch"]: names(evidence(values)) for values in EVIDENCE[name]} == {
        values["epoch"]: [] for values in EVIDENCE[name]
    }


def healthy(**changes: Any) -> Run:
    """A sound run's evidence, changed."""
    options = changes.pop("options", {})
    run = evidence(EVIDENCE["mnist"][-1])
    return run._replace(config=Config.model_validate(options), **changes)


def lines(**values: Any) -> dict[str, np.ndarray]:
    """The last steps' log: a number for a constant."""
    base = {"loss_d": 1.3, "loss_g": 0.8, "d_real": 0.55, "d_fake": 0.45} | values
    return {name: np.broadcast_to(np.asarray(value, float), (40,)) for name, value in base.items()}


FLOOR = 27.631021


@pytest.mark.parametrize(
    ("halved", "seen", "words"),
    [
        (False, {"loss_d": FLOOR, "loss_g": 0, "d_real": 1, "d_fake": 1}, "27.63"),
        (True, {"loss_d": FLOOR / 2, "loss_g": 0, "d_real": 1, "d_fake": 1}, "13.82"),
        (False, {"loss_d": FLOOR, "loss_g": FLOOR, "d_real": 1e-30, "d_fake": 1e-20}, "27.63"),
        (False, {"loss_d": 1.386, "loss_g": 0.693, "d_real": 0.4999, "d_fake": 0.4999}, "1.39"),
    ],
)
def test_a_discriminator_with_one_answer_for_everything_is_stuck(
    halved: bool, seen: dict[str, float], words: str
) -> None:
    (finding,) = doctor.judge(healthy(recent=lines(**seen), options={"loss": {"halve_d": halved}}))
    assert finding.name == "d_stuck" and words in finding.en and words in finding.zh
    assert ("BCELoss" in finding.en) == (seen["loss_d"] > 5)


def test_a_vanished_gradient_is_recognised_by_the_loss_that_loses_it() -> None:
    lost = {"loss_d": 0, "loss_g": FLOOR, "d_real": 1, "d_fake": 1e-15}
    finding = doctor.judge(healthy(recent=lines(**lost)))[0]
    assert finding.name == "g_vanished" and "loss.name=bce_logits" in finding.en
    assert names(healthy(recent=lines(**lost), options={"loss": {"name": "bce_logits"}})) == ["d_saturated"]
    lost = {"loss_d": 0.02, "loss_g": -0.02, "d_real": 0.99, "d_fake": 0.02}
    finding = doctor.judge(healthy(recent=lines(**lost), options={"loss": {"name": "minimax"}}))[0]
    assert finding.name == "g_vanished" and "loss.name=bce" in finding.en


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({"optim_d": {"lr": 8e-4}}, "optim_d.lr=0.0002"),
        ({"optim_g": {"lr": 2e-6}}, "optim_g.lr=0.0002"),
        ({}, "loss.smoothing=0.1"),
        ({"loss": {"smoothing": 0.1}}, "optim_d.lr=5e-05"),
        ({"loss": {"name": "hinge"}}, "optim_d.lr=5e-05"),
    ],
)
def test_a_discriminator_that_is_never_wrong_is_named_with_the_change_to_try(
    options: dict[str, Any], change: str
) -> None:
    finding = doctor.judge(healthy(recent=lines(loss_d=0.01, d_real=0.99, d_fake=0.01), options=options))[0]
    assert finding.name == "d_saturated" and change in finding.en and change in finding.zh


def test_a_lead_of_the_discriminator_is_no_illness() -> None:
    assert names(healthy(recent=lines(loss_d=0.2, d_real=0.9, d_fake=0.1))) == []


def test_a_loss_without_probabilities_is_not_judged_by_them() -> None:
    seen = lines(loss_d=0.4, d_real=0.99, d_fake=0.01)
    assert names(healthy(recent=seen, options={"loss": {"name": "hinge"}})) == []


def test_samples_that_grow_alike_after_they_differed_have_collapsed() -> None:
    run = healthy()
    assert run.real
    same, apart = (run.grids[-1]._replace(neighbour=share * run.real.neighbour) for share in (0.2, 0.8))
    assert names(run._replace(grids=[apart, same, same])) == ["mode_collapse"]
    assert names(run._replace(grids=[same, same, same])) == [], "a slow start is none"
    assert names(run._replace(grids=[apart, same, apart])) == [], "nor is a single grid"
    nearly_one = run.grids[-1]._replace(neighbour=0.02 * run.real.neighbour)
    (finding,) = doctor.judge(run._replace(grids=[nearly_one, nearly_one]))
    assert finding.name == "mode_collapse" and "model.pack=2" in finding.en and "2.0%" in finding.zh
    assert names(run._replace(grids=[nearly_one, nearly_one], steps=900)) == [], "nor is the beginning"


def test_missing_digits_are_mode_collapse() -> None:
    (finding,) = doctor.judge(healthy(modes=5.0))
    assert finding.name == "mode_collapse" and "5 of 10" in finding.en
    assert names(healthy(modes=10.0)) == []
    assert names(healthy(modes=5.0, steps=500)) == []  # Too early to tell.


def test_swings_of_the_discriminator_are_oscillation() -> None:
    swinging = 0.5 + 0.48 * np.sin(np.arange(40) / 2)
    (finding,) = doctor.judge(healthy(recent=lines(d_fake=swinging)))
    assert (
        finding.name == "oscillation" and "5 times" in finding.en and "optim_d.lr=5e-05 optim_g.lr=5e-05" in finding.zh
    )
    assert names(healthy(recent=lines(d_fake=0.5 + 0.35 * np.sin(np.arange(40) / 2)))) == []


def test_values_that_are_not_finite_are_told_from_the_runs_record() -> None:
    message = "loss_d is nan at epoch 3, step 17: training has diverged; the last good state is kept; try ..."
    (finding,) = doctor.judge(healthy(error=message))
    assert finding.name == "not_finite" and "loss_d" in finding.en and "epoch 3, step 17" in finding.zh
    weight = "`generator.model.0.bias` is no longer finite at epoch 0, step 3: ..."
    assert "`generator.model.0.bias`" in doctor.judge(healthy(error=weight))[0].en
    assert names(healthy(error="no space left to write result")) == []


def test_noise_after_many_steps_is_nothing_learned() -> None:
    noise = doctor.portrait(np.random.default_rng(0).integers(0, 256, (25, 28, 28), dtype=np.uint8))
    assert abs(noise.smoothness) < 0.05
    (finding,) = doctor.judge(healthy(grids=[noise, noise], steps=1200, options={"optim_g": {"lr": 1e-6}}))
    assert finding.name == "nothing_learned" and "optim_g.lr=1e-05" in finding.en
    assert names(healthy(grids=[noise, noise], steps=800)) == []


def test_a_portrait_tells_brightness_contrast_smoothness_and_the_nearest_neighbour() -> None:
    images = np.zeros((4, 8, 8), np.uint8)
    images[0, :, :4] = images[1, :, :4] = images[2, :, 4:] = images[3, :, 4:] = 255
    images[1, 0, 0] = images[3, 0, 7] = 0  # One pixel apart: a quarter of brightness at half the resolution.
    look = doctor.portrait(images)
    mean = (4 * 32 - 2) / 256
    assert look.brightness == pytest.approx(mean) and look.contrast == pytest.approx((mean * (1 - mean)) ** 0.5)
    assert look.neighbour == pytest.approx(0.25)
    assert look.smoothness > 0.7
    assert doctor.portrait(images[..., None].repeat(3, axis=3)) == pytest.approx(look)
    assert doctor.portrait(np.full((2, 8, 8), 7, np.uint8)).neighbour == 0


def test_only_pictures_are_looked_at() -> None:
    points = Images(np.ones((9, 2), np.float32), np.zeros(9, np.uint8))
    assert doctor.first_look(points.pixels, points.inputs(np.arange(9)), count=4) == {}
    pictures = Images(np.full((9, 4, 4), 255, np.uint8), np.zeros(9, np.uint8), "unit")
    assert doctor.first_look(pictures.pixels, pictures.inputs(np.arange(9)), count=1) == {"inputs": [1.0, 1.0]}
    assert doctor.first_look(pictures.pixels, pictures.inputs(np.arange(9)), count=4)["portrait"][0] == 1


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A young run: forty lines, three grids of noise."""
    run = tmp_path / "young"
    values = {"loss_d": 1.3, "loss_g": 0.8, "d_real": 0.6, "d_fake": 0.4}
    recent = [{"epoch": i // 20, "step": i % 20, **values} for i in range(40)]
    random = np.random.default_rng(0)
    for epoch in range(3):
        images = random.integers(0, 256, (25, 28, 28), dtype=np.uint8)
        (run / "images").mkdir(parents=True, exist_ok=True)
        imaging.write_png(run / f"images/epoch_{epoch:04d}.png", imaging.grid(images, rows=5, columns=5))
    look = {"inputs": [-1.0, 1.0], "portrait": list(doctor.portrait(images))}
    (run / "run.json").write_text(json.dumps({"steps_per_epoch": 20, "real": look}))
    (run / "config.yaml").write_text("name: young\n")
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in recent))
    return run


def test_the_evidence_is_read_from_a_runs_files(run_dir: Path) -> None:
    run = doctor.gather(run_dir)
    assert run.steps == 40 and {len(array) for array in run.recent.values()} == {40}
    assert len(run.grids) == 3 and run.grids[-1] == run.real and run.moved and run.moved > 1
    assert run.inputs == [-1, 1] and run.modes is None and run.error == ""


def test_the_report_shows_the_findings(run_dir: Path) -> None:
    record = json.loads((run_dir / "run.json").read_text())
    assert report.read_run(run_dir).findings == []
    record["real"]["inputs"] = [0.0, 1.0]
    (run_dir / "run.json").write_text(json.dumps(record))
    assert [finding.name for finding in report.read_run(run_dir).findings] == ["range"]
    (run_dir / "config.yaml").write_text("no_such_setting: 1\n")
    assert report.read_run(run_dir).findings == []


@pytest.mark.parametrize("missing", ["run.json", "metrics.jsonl", "images", "images/epoch_0001.png"])
@pytest.mark.parametrize("damaged", [False, True])
def test_what_is_missing_or_damaged_is_no_evidence(run_dir: Path, missing: str, damaged: bool) -> None:
    path = run_dir / missing
    content = path.read_bytes()[:100] if path.is_file() else b""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if damaged and content:
        path.write_bytes(content)
    assert isinstance(doctor.diagnose(run_dir), list)


def test_a_grid_is_taken_apart_again() -> None:
    random = np.random.default_rng(0)
    for shape in ((6, 5, 7), (6, 5, 7, 3)):
        images = random.integers(0, 256, shape, dtype=np.uint8)
        for scale, gap in ((2, 2), (1, 3), (3, 1)):
            sheet = imaging.grid(images, rows=2, columns=3, scale=scale, gap=gap)
            again = imaging.cells(sheet, rows=2, columns=3, scale=scale, gap=gap)
            np.testing.assert_array_equal(again, images)
    with pytest.raises(ValueError, match="no grid"):
        imaging.cells(np.zeros((31, 30), np.uint8), rows=2, columns=3)


def test_a_folder_without_a_run_is_refused(cli_here: Callable[..., None], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run directory"):
        cli_here("doctor", "--run", tmp_path)
    with pytest.raises(UserError, match="--lang"):
        cli_here("doctor", "--run", tmp_path, "--lang", "de")


def test_a_broken_recipe_is_recognised_live_and_afterwards(
    cli_here: Callable[..., int],
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "unit_range"
    recipe = ROOT / f"configs/failures/{name}.yaml"
    small = [
        "data.dataset=digits",
        f"data.folder={digits}",
        "data.limit=1000",
        "data.batch_size=20",
        "train.log_every=2",
    ]
    narrow = ["model.generator.hidden=[32, 32]", "model.discriminator.hidden=[32]", "sample.every_steps=20"]
    cli_here("train", "--config", recipe, *small, *narrow, "train.epochs=2", "--device", "CPU")
    said = capsys.readouterr().err
    assert said.count("doctor: ") == 1
    for lang, heading in (("en", "Try "), ("zh", "请试")):
        cli_here("doctor", "--run", tmp_path / "result" / name, "--lang", lang)
        told = capsys.readouterr().out
        assert told.startswith(f"{ILLNESSES[name]}: ") and REMEDIES[name] in told and heading in told


def test_a_sound_run_is_silent(cli_here: Callable[..., None], trained_run: Path, capsys: Any) -> None:
    cli_here("doctor", "--run", trained_run)
    assert "nothing found" in capsys.readouterr().out
