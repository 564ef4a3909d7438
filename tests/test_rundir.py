"""The run directory: true status, one writer, metrics without duplicates."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gan_mnist.errors import UserError
from gan_mnist.rundir import RunDir

ROOT = Path(__file__).resolve().parent.parent


def test_running_with_a_dead_process_reads_as_interrupted(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom gan_mnist.rundir import RunDir\n"
        f"run = RunDir(Path({str(tmp_path)!r}))\n"
        "with run.claim():\n"
        "    run.write_record('running', seed=3)\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    assert run.read_record()["status"] == "running"
    with pytest.raises(UserError, match="another process is training here"), run.claim():
        pass
    process.kill()
    process.communicate()
    assert run.read_record() == {"seed": 3, "status": "interrupted", "updated": run.read_record()["updated"]}
    with run.claim():
        pass


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", '"running"'])
def test_a_damaged_record_reads_as_none(tmp_path: Path, content: str) -> None:
    run = RunDir(tmp_path)
    run.record.write_text(content)
    assert run.read_record() == {}


def test_metrics_are_trimmed_to_a_position(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for epoch, step in ((0, 0), (0, 5), (1, 0), (1, 5)):
        run.append_metrics({"epoch": epoch, "step": step})
    with open(run.metrics, "a") as log:
        log.write('{"epoch": 0, "st')
    run.keep_metrics_before(1, 5)
    kept = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [(line["epoch"], line["step"]) for line in kept] == [(0, 0), (0, 5), (1, 0)]
    run.keep_metrics_before(0, 0)
    assert run.metrics.read_text() == ""


def test_clearing_removes_the_run_and_nothing_else(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.append_metrics({"epoch": 0, "step": 0})
    run.checkpoints.mkdir()
    (run.checkpoints / "Generator0.ckpt").write_bytes(b"x")
    run.log.mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    run.clear()
    assert not run.holds_run
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "notes.txt"]
