"""A run directory names what is wrong with its files; results.py has the tests of its JSON."""

from pathlib import Path

import numpy as np
import pytest
from result_files import environment, write_results

from mriscope.environment import describe_environment
from mriscope.errors import RunError
from mriscope.evaluation.predictions import Predictions, write_predictions
from mriscope.recipe import make_recipe, write_recipe
from mriscope.results import Environment, ImportedWeights
from mriscope.run_directory import ENVIRONMENT, HISTORY, PREDICTIONS, RECIPE, WEIGHTS, RunDirectory, open_run

TESTED = Predictions.of([0, 1, 2, 2], np.eye(3)[[0, 1, 2, 0]], class_names=("x", "y", "z"))


def finished_run(folder: Path, **settings: object) -> RunDirectory:
    folder.mkdir()
    recipe = make_recipe({"model": "keras_like", **settings})
    (folder / RECIPE).write_text(write_recipe(recipe))
    (folder / WEIGHTS).touch()
    write_predictions(TESTED, folder / PREDICTIONS)
    write_results(folder, recipe, TESTED, resamples=5)
    return RunDirectory(folder)


def test_results_are_read_typed(tmp_path: Path) -> None:
    run = open_run(finished_run(tmp_path / "run").path)
    assert (run.protocol, run.leaky, run.imported) == ("by_subject", False, False)
    assert run.metrics().metrics["accuracy"].value == 0.75
    assert run.environment == environment(source="phantom")
    assert run.holds(run.recipe)
    assert run.predictions().severity is None


def test_the_severity_of_the_recipe_is_that_of_the_predictions(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", severity=["z", "y", "x"])
    assert run.predictions().severity_ranks.tolist() == [2, 1, 0]  # pyright: ignore[reportOptionalMemberAccess]


def test_imported_weights_have_a_protocol_and_no_results(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    origin = ImportedWeights(file="a.pth", sha256="0" * 64, matched_by="names", by_order=[])
    environment(imported=origin).write(run.path / ENVIRONMENT)
    run = RunDirectory(run.path)
    assert (run.protocol, run.leaky, run.seen_slices()) == ("imported", None, [])
    for read in (run.metrics, run.predictions):
        with pytest.raises(RunError, match="were imported and never evaluated; evaluate them with --data SOURCE"):
            read()


@pytest.mark.parametrize(
    "content", [b"epoch\nx\n", b"epoch,loss\n1\n", b"epoch\n1,2\n", b"loss\n1\n", b"epoch\n\xff\n", b"epoch\n\x001\n"]
)
def test_a_damaged_history_is_named(tmp_path: Path, content: bytes) -> None:
    run = finished_run(tmp_path / "run")
    (run.path / HISTORY).write_bytes(b"epoch,loss\n1,0.5\n")
    assert run.history() == [{"epoch": 1.0, "loss": 0.5}]
    (run.path / HISTORY).write_bytes(content)
    with pytest.raises(RunError, match=r"history\.csv is missing or damaged"):
        run.history()


def test_the_environment_is_written_whatever_the_source_is_called(tmp_path: Path) -> None:
    made = describe_environment("CPU", source="scans-\udcff", data="d" * 64)
    made.write(tmp_path / ENVIRONMENT)
    assert Environment.read(tmp_path / ENVIRONMENT).source == "scans-\ufffd"
    assert set(made.packages) == {"torch", "numpy", "pillow", "scikit-learn", "scipy"}
