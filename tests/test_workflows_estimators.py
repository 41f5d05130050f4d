"""An estimator goes through every command that a network goes through."""

import json
from pathlib import Path

import numpy as np
import pytest
from data_files import png, write_files
from sklearn.neighbors import KNeighborsClassifier

from mriscope.data.readers import read
from mriscope.data.splits import read_split
from mriscope.errors import MriscopeError
from mriscope.recipe import make_recipe
from mriscope.run_directory import RunDirectory
from mriscope.workflows.compare import compare_runs
from mriscope.workflows.evaluate import evaluate_run
from mriscope.workflows.explain import ExplainOptions, explain_run
from mriscope.workflows.predict import predict_images
from mriscope.workflows.train import run

SOURCE = "phantom:subjects=24,slices=6,seed=3,size=32"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    """One run of each estimator on the same split."""
    folder = tmp_path_factory.mktemp("estimators")
    settings = {"data": SOURCE, "input": {"size": 32}, "split": {"test": 0.3, "validation": 0.2}}
    names = ("nearest_neighbour", "tissue_histograms", "tissue_families")
    store = f"sqlite:///{folder / 'mlflow.db'}"
    return {
        name: run(make_recipe({"model": name, **settings}), folder / name, silent=True, track=store) for name in names
    }


def test_the_nearest_neighbour_of_a_run_is_scikit_learns(runs):
    directory, slices = runs["nearest_neighbour"], read(SOURCE)
    split = read_split(directory.path / "split.json", slices)
    flat = slices.images.reshape(len(slices), -1) / 255.0
    oracle = KNeighborsClassifier(1).fit(flat[split.train], slices.labels[split.train])
    assert directory.predictions().of_part("test").predicted.tolist() == oracle.predict(flat[split.test]).tolist()
    training = directory.metrics().training
    assert training is not None
    assert (training.epochs, training.parameters) == (1, 0)


def test_all_slices_of_a_subject_get_its_probabilities(runs):
    predictions = runs["tissue_histograms"].predictions()
    for subject in np.unique(predictions.subjects):
        rows = predictions.probabilities[predictions.subjects == subject]
        assert (rows == rows[0]).all()
    metrics = evaluate_run(runs["tissue_histograms"].path, level="subject", task="non_vs_demented")
    assert metrics.n_subjects == len(np.unique(predictions.of_part("test").subjects))


def test_a_finished_run_answers_for_images_as_its_estimator_can(runs, tmp_path):
    write_files(tmp_path, {"one.png": png(0, 32, 32)})
    answer = predict_images(runs["nearest_neighbour"].path, [tmp_path / "one.png"]).slices[0]
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.out_of_distribution is None
    with pytest.raises(MriscopeError, match="looks at all slices of a subject"):
        predict_images(runs["tissue_histograms"].path, [tmp_path / "one.png"])


def test_estimators_are_compared_and_have_no_macs(runs, tmp_path):
    comparison = compare_runs([one.path for one in runs.values()], tmp_path)
    assert [one.macs for one in comparison.standings] == [None, None, None]


def test_what_looks_through_no_layers_cannot_be_explained(runs, tmp_path):
    with pytest.raises(MriscopeError, match="has no layers"):
        explain_run(runs["nearest_neighbour"].path, tmp_path, ExplainOptions())


def test_mlflow_gives_the_model_back(runs, monkeypatch: pytest.MonkeyPatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    directory = runs["nearest_neighbour"]
    record = json.loads((directory.path / "tracking.json").read_text())
    mlflow.set_tracking_uri(record["uri"])
    outputs = mlflow.MlflowClient().get_run(record["run_id"]).outputs
    assert outputs is not None
    (output,) = outputs.model_outputs
    model = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    predictions = directory.predictions().of_part("test")
    slices = read(SOURCE)
    rows = [slices.paths.tolist().index(path) for path in predictions.paths.tolist()]
    assert np.array_equal(model.predict(slices.images[rows]), predictions.probabilities)


def test_the_run_directory_is_whole(runs):
    for directory in runs.values():
        there = {path.name for path in Path(directory.path).iterdir()}
        assert {"recipe.yaml", "split.json", "model.safetensors", "predictions.parquet", "metrics.json"} <= there
