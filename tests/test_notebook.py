"""notebooks/lab.ipynb: it runs from top to bottom, with few digits, and is kept without outputs."""

from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

NOTEBOOK = ROOT / "notebooks" / "lab.ipynb"


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_valid_and_kept_without_outputs(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


def test_it_runs(
    notebook: nbformat.NotebookNode, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two short epochs, from the notebook's own folder, as Jupyter starts it; the kernel gets its own environment."""
    (parameters,) = (i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    smaller = f"EPOCHS, LIMIT, DATA, RESULT = 2, 1280, {str(digits)!r}, {str(tmp_path)!r}"
    notebook.cells.insert(parameters + 1, nbformat.v4.new_code_cell(smaller))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()

    printed = "".join(out.text for cell in notebook.cells for out in cell.get("outputs", []) if "text" in out)
    assert "10 steps of 128, 0 images left out" in printed
    assert "1,510,032" in printed and "533,505" in printed  # Parameters of G and of D.
    assert "give the same image: True" in printed
    assert (tmp_path / "notebook" / "report.html").is_file()
