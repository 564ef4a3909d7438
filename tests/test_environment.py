"""The process environment: what speeds a step up must not change it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gan_mnist import environment

ROOT = Path(__file__).resolve().parent.parent

SIX_STEPS = """
import hashlib, os
import numpy as np
import mindspore as ms
from gan_mnist import config
from gan_mnist.game import build_game

digest = hashlib.sha256()
for options in ([], ["model.discriminator.spectral_norm=true"]):
    game = build_game(config.load("configs/mnist.yaml", options), (1, 28, 28), steps_per_epoch=468)
    step = game.train_step()
    y = ms.Tensor(np.zeros(128, np.int32))
    random = np.random.default_rng(0)
    for _ in range(6):
        x = np.tanh(random.standard_normal((128, 1, 28, 28), dtype=np.float32))
        step(ms.Tensor(x), y, ms.Tensor(random.standard_normal((128, 100), dtype=np.float32)))
    for parameter in game.parameters():
        digest.update(parameter.asnumpy().tobytes())
os.write(2, f"digest {digest.hexdigest()}".encode())
"""


def digest_after_six_steps(settings: dict[str, str]) -> str:
    clean = {key: value for key, value in os.environ.items() if key not in environment.settings()}
    process = subprocess.run(
        [sys.executable, "-c", SIX_STEPS],
        cwd=ROOT,
        env=clean | settings | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return process.stderr.split("digest ")[-1]


def test_the_settings_change_the_speed_and_not_a_bit() -> None:
    """MindSpore warns that not copying weights before an update may cost accuracy; in our step it does not."""
    assert digest_after_six_steps(environment.settings()) == digest_after_six_steps({})


def test_a_late_call_is_refused() -> None:
    code = "import mindspore\nfrom gan_mnist import environment\nenvironment.prepare()"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "must run before mindspore is imported" in process.stderr


@pytest.mark.parametrize("name", ["MS_DEV_RUNTIME_CONF", "MS_DEV_SIDE_EFFECT_LOAD_ELIM"])
def test_the_users_own_setting_wins(name: str) -> None:
    code = f"import os\nfrom gan_mnist import environment\nenvironment.prepare()\nprint(os.environ['{name}'])"
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {name: "mine"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout == "mine\n"
