"""The notebooks run from top to bottom on synthetic brains, and are kept with outputs from the real slices."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from test_workflows_compare import write_run

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL = "phantom:subjects=20,slices=4,seed=1"


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def executed(name: str, folder: Path) -> Any:
    """A notebook after its cells have run, in a folder of its own beside an empty ../runs."""
    place = folder / "notebooks"
    place.mkdir(parents=True)
    notebook = read(ROOT / "notebooks" / name)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = re.sub(r"^epochs = \d+$", "epochs = 1", cell.source, flags=re.MULTILINE)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(place)}}).execute()
    return notebook


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def text_of(notebook: Any) -> str:
    return "".join(output.get("text", "") for output in outputs(notebook))


def pictures(notebook: Any) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


@pytest.fixture
def on_phantom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRISCOPE_DATA", SMALL)
    monkeypatch.delenv("MRISCOPE_RUNS", raising=False)


@pytest.mark.usefixtures("on_phantom")
def test_main_trains_judges_and_explains(tmp_path):
    done = executed("main.ipynb", tmp_path)
    assert pictures(done) == 5
    assert "80 slices of 128×128, 20 subjects" in text_of(done)
    assert "by subject split, test part" in text_of(done)
    assert (tmp_path / "runs" / "notebook-phantom" / "metrics.json").is_file()
    assert len(list((tmp_path / "runs" / "notebook-phantom-explained").glob("*.png"))) == 9


@pytest.mark.usefixtures("on_phantom")
def test_models_compare_trains_and_ranks(tmp_path):
    done = executed("models_compare.ipynb", tmp_path)
    assert pictures(done) == 1
    trained = [f"notebook-compared-{model}" for model in ("baseline_cnn", "different_baseline", "gpt_cnn")]
    for name in trained:
        assert text_of(done).count(name) >= 2
    assert (tmp_path / "runs" / "notebook-compared" / "compare.html").is_file()


def test_models_compare_loads_finished_runs(tmp_path, monkeypatch):
    right = [True] * 60
    write_run(tmp_path / "runs" / "all_right", right, training={"learning_rate": 0.1})
    write_run(tmp_path / "runs" / "one_wrong", [False, *right[1:]], training={"learning_rate": 0.2})
    monkeypatch.setenv("MRISCOPE_RUNS", "../runs")
    done = executed("models_compare.ipynb", tmp_path)
    assert text_of(done).startswith("all_right\none_wrong\n")
    assert pictures(done) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_call_the_package_and_define_nothing(path):
    code = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "code")
    assert not re.search(r"^\s*(def|class|lambda)\b", code, re.MULTILINE)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_kept_with_outputs_of_the_real_slices(path):
    notebook = read(path)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert "published split, test part: 1,280 slices" in text_of(notebook)
    assert path.stat().st_size < 700_000
