"""Record what the doctor sees of real runs, for tests/test_doctor.py; not a test itself.

python tests/record_evidence.py result/mnist result/no_batch_norm ...

Each run is looked at as it stood after some of its epochs. The evidence goes to tests/data/evidence.json, in place of
what was there of runs of the same name: logged values thinned to `KEPT`, numbers to four digits.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gan_mnist import doctor, files

EVIDENCE = Path(__file__).resolve().parent / "data" / "evidence.json"
EPOCHS = (0, 1, 2, 4, 9, 29)
"""Besides the last one."""
KEPT = 16


def record(run_dir: Path) -> list[dict[str, Any]]:
    """The evidence after some epochs, as plain values."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines(keepends=True)
    last = max(int(path.stem.removeprefix("epoch_")) for path in (run_dir / "images").glob("epoch_*.png"))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        past = Path(folder)
        shutil.copy(run_dir / "config.yaml", past)
        shutil.copy(run_dir / "run.json", past)
        (past / "images").mkdir()
        for epoch in range(last + 1):
            shutil.copy(run_dir / "images" / f"epoch_{epoch:04d}.png", past / "images")
            if epoch in EPOCHS or epoch == last:
                (past / "metrics.jsonl").write_text("".join(x for x in lines if json.loads(x)["epoch"] <= epoch))
                found.append({"epoch": epoch, **plain(doctor.gather(past))})
    return found


def plain(run: doctor.Run) -> dict[str, Any]:
    values = run._asdict()
    values["config"] = run.config.model_dump(mode="json", exclude_defaults=True)
    values["config"].get("data", {}).pop("folder", None)  # Where it lay on one machine.
    thin = slice(None, None, -1), slice(None, None, max(1, len(run.recent.get("loss_d", [])) // KEPT))
    values["recent"] = {name: array[thin[0]][thin[1]][thin[0]] for name, array in run.recent.items()}
    return {name: rounded(value) for name, value in values.items()}


def rounded(value: Any) -> Any:
    if isinstance(value, np.ndarray | list | tuple):
        return [rounded(entry) for entry in value]
    if isinstance(value, dict):
        return {name: rounded(entry) for name, entry in value.items()}
    # Four digits, but what a rule compares exactly, such as a probability of 0.5, to more.
    return float(f"{value:.7g}" if abs(value - 0.5) < 1e-4 else f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    known = json.loads(EVIDENCE.read_text()) if EVIDENCE.exists() else {}
    for name in sys.argv[1:]:
        known[Path(name).name] = record(Path(name))
    text = ",\n".join(
        f"{json.dumps(name)}: [\n" + ",\n".join(map(json.dumps, known[name])) + "]" for name in sorted(known)
    )
    files.write_text(EVIDENCE, "{\n" + text + "\n}\n")
