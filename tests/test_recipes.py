"""Every recipe in configs/: its header tells what it must, and it trains through the real command line."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli
from PIL import Image

from gan_mnist.config import load

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
RECIPES = sorted(CONFIGS.glob("*.yaml"))
TRAINED = [path for path in [*RECIPES, *sorted(CONFIGS.glob("failures/*.yaml"))] if path.stem != "quickstart"]
"""The quickstart is what all other tests train."""

SMALLER = {
    "faces64": ["model.generator.channels=[32,16,8,8]", "model.discriminator.channels=[8,8,16,32]"],
}
"""Large networks made small."""


def header(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_header_names_command_time_result_and_source(path: Path) -> None:
    text = header(path)
    assert f"python scripts/train.py --config configs/{path.name}" in text
    for word in ("Time:", "Result", "ource"):
        assert word in text, word


def test_every_recipe_has_a_name_of_its_own() -> None:
    names = [load(path).name for path in CONFIGS.rglob("*.yaml")]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.stem)
def test_it_trains_and_its_generator_draws(
    path: Path, cli: Cli, cli_here: Callable[..., None], digits: Path, tmp_path: Path
) -> None:
    """Three steps of an epoch, with few images in a batch; the networks are the recipe's own, unless they are large."""
    recipe = load(path)
    count = 8 * recipe.model.pack
    overrides = ["train.epochs=1", f"data.batch_size={count}", f"data.limit={3 * count * recipe.train.d_steps}"]
    if recipe.data.dataset == "mnist":
        overrides += ["data.dataset=digits", f"data.folder={digits}", "train.evaluate_every=null"]
    elif recipe.data.dataset == "images":
        pictures = np.random.default_rng(0).integers(0, 256, (4 * count, 8, 8, 3), np.uint8)
        (tmp_path / "pictures").mkdir()
        for index, pixels in enumerate(pictures):
            Image.fromarray(pixels).save(tmp_path / "pictures" / f"{index}.png")
        overrides += ["data.folder=pictures"]
    overrides += SMALLER.get(path.stem, [])
    process = cli("train", "--config", path, *overrides, "--device", "CPU", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    run = tmp_path / "result" / recipe.name
    record = json.loads((run / "run.json").read_text())
    assert (record["status"], record["steps_per_epoch"]) == ("finished", 3)
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 2 and all(np.isfinite(last[f"mean_{name}"]) for name in ("loss_d", "loss_g"))
    with Image.open(run / "images" / "epoch_0000.png") as picture:
        assert np.asarray(picture).std() > 0
    assert {path.name for path in (run / "checkpoints").iterdir()} >= {"Generator0.ckpt", "Discriminator0.ckpt"}
    cli_here("sample", "--ckpt", "Generator0.ckpt", "--count", 12, "--out", "samples.npy", "--device", "CPU")
    samples = np.load(tmp_path / "samples.npy")
    assert len(np.unique(samples, axis=0)) == 12
