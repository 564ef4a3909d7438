"""What the tests share: the scripts as a user runs them, the embedded digits, and one small trained run."""

import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

from gan_mnist import environment
from gan_mnist.data.digits import prepare_digits

os.environ |= {
    **environment.settings(),
    "MS_COMPILER_CACHE_ENABLE": "0",
    "GLOG_v": "3",
    "GLOG_logtostderr": "0",
    "GLOG_log_dir": tempfile.gettempdir(),
    "MS_OM_PATH": tempfile.gettempdir(),
}

hypothesis.settings.register_profile(
    "gan_mnist",
    deadline=2000,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("gan_mnist")


def pytest_configure() -> None:
    """Give each of pytest-xdist's workers, and what it starts, a core: MindSpore's threads spin, and disturb others."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


def pytest_collection_finish() -> None:
    """MindSpore takes a device only before its first operation, whichever test that is in."""
    if "mindspore" in sys.modules:
        import mindspore

        mindspore.set_device("CPU")


ROOT = Path(__file__).resolve().parent.parent

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def cli() -> Cli:
    """`cli("train", "--config", ..., cwd=folder)` runs scripts/train.py there, without the tests' own settings."""

    def run(
        script: str, *arguments: object, cwd: Path, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("MS_", "GLOG_", "GAN_MNIST_"))}
        return subprocess.run(
            [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *map(str, arguments)],
            cwd=cwd,
            env=clean | (env or {}),
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture
def cli_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """`cli_here("sample", "--ckpt", ...)` calls a script's main in this process, with an empty current folder.

    Quicker than `cli` by the seconds that importing MindSpore takes; refusals come as `UserError`.
    """

    def run(script: str, *arguments: object) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *map(str, arguments)])
        monkeypatch.syspath_prepend(str(ROOT / "scripts"))
        monkeypatch.setattr(environment, "prepare", lambda **settings: None)
        runpy.run_path(str(ROOT / "scripts" / f"{script}.py"))["main"]()

    return run


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded digits, one copy of each: 1,500 for training, 297 for testing."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    prepare_digits(folder, copies=1)
    return folder


@pytest.fixture(scope="session")
def recipe(digits: Path) -> list[str]:
    """Arguments of train.py for a small run: 12 steps of 120 digits an epoch, and 2 epochs."""
    config = ROOT / "configs" / "quickstart.yaml"
    overrides = [f"data.folder={digits}", "data.limit=1450", "data.batch_size=120", "train.epochs=2"]
    return ["--config", str(config), *overrides, "--device", "CPU"]


@pytest.fixture(scope="session")
def training(cli: Cli, recipe: list[str], tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """The process that trained the recipe; `trained_run` is what it left."""
    folder = tmp_path_factory.mktemp("training")
    process = cli("train", *recipe, cwd=folder)
    assert process.returncode == 0, process.stderr
    process.folder = folder  # type: ignore[attr-defined]
    return process


@pytest.fixture(scope="session")
def trained_run(training: subprocess.CompletedProcess[str]) -> Path:
    """The run directory of a finished small run; only for reading."""
    return training.folder / "result" / "quickstart"  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def refused() -> Callable[[subprocess.CompletedProcess[str]], str]:
    """Check that a process was refused as a user's mistake is, and return its one line."""

    def check(process: subprocess.CompletedProcess[str]) -> str:
        assert process.returncode == 1, (process.returncode, process.stdout, process.stderr)
        assert "Traceback" not in process.stderr
        lines = process.stderr.splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), process.stderr
        return lines[0]

    return check
