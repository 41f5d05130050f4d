"""Covariates, conditions and baselines through the commands, on a phantom whose ages are written by hand."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from mriscope.data.covariates import value_by_unit, with_covariates
from mriscope.data.phantom import make_phantom
from mriscope.data.slices import SliceSet
from mriscope.data.where import Condition
from mriscope.errors import ArgumentError, DataError, RunError
from mriscope.evaluation.confounding import describe_covariates
from mriscope.recipe import make_recipe
from mriscope.reports.confounds import covariates_text
from mriscope.reports.crossvalidation import crossvalidation_markdown, crossvalidation_text
from mriscope.reports.text import metrics_text
from mriscope.results import CrossValidation
from mriscope.run_files import check_finished
from mriscope.workflows._covariates import know
from mriscope.workflows.compare_crossval import compare_crossvals
from mriscope.workflows.crossval import SUMMARY, crossvalidate
from mriscope.workflows.evaluate import evaluate_run

SOURCE = "phantom:subjects=24,slices=2,seed=1"
BASELINES = ["brain_fraction", "csf_fraction", "majority_class", "nearest_neighbour"]


@pytest.fixture(scope="module")
def phantom() -> SliceSet:
    return make_phantom(24, slices=2, seed=1, size=32).slices


@pytest.fixture(scope="module")
def ages(phantom: SliceSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every Non is 50 to 61, every other 60 and over."""
    well = phantom.class_names.index("Non_Demented")
    rows = ["subject,age,sex"]
    for subject in range(24):
        ill = phantom.labels[phantom.subjects == subject][0] != well
        rows.append(f"{subject},{60 + subject if ill else 50 + subject / 2},{'FM'[subject % 2]}")
    file = tmp_path_factory.mktemp("ages") / "ages.csv"
    file.write_text("\n".join(rows) + "\n")
    return file


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("folds") / "crossval"
    crossvalidate(_recipe(), place, folds=2, silent=True)
    return place


def _recipe():
    return make_recipe(
        {"model": "nearest_neighbour", "data": SOURCE, "input": {"size": 32}, "split": {"validation": 0.2}}
    )


def test_covariates_by_subject_reach_every_slice(phantom: SliceSet, ages: Path) -> None:
    found = with_covariates(phantom, ages)
    assert found.fingerprint == phantom.fingerprint
    assert found.covariates["sex"].tolist() == ["FM"[subject % 2] for subject in phantom.subjects]
    table = describe_covariates(found)
    assert table is not None
    assert table.unit == "subject"
    assert sum(one.n for one in table.cells if one.covariate == "age") == 24
    (age,) = (one for one in table.aurocs if one.covariate == "age")
    assert (age.lower, age.separates) == (False, True)
    assert "warning: age alone tells" in covariates_text(table)


def test_a_file_without_covariates_is_refused(phantom: SliceSet, tmp_path: Path) -> None:
    file = tmp_path / "empty.csv"
    file.write_text("subject,label\n1,Non_Demented\n")
    with pytest.raises(DataError, match="none is a covariate"):
        with_covariates(phantom, file)


def test_a_subject_has_the_mean_number_and_the_most_frequent_text() -> None:
    units = np.array([0, 0, 0, 1, 2])
    assert value_by_unit(np.array([1.0, 2, np.nan, 5, np.nan]), units)[:2].tolist() == [1.5, 5]
    assert value_by_unit(np.array(["", "", "F", "M", ""]), units).tolist() == ["F", "M", ""]


def test_crossval_prints_baselines_and_what_is_left_beside_covariates(
    folds: Path, ages: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = CrossValidation.read(folds / SUMMARY)
    assert plain.baselines is not None
    assert plain.baselines.subject is not None
    assert sorted(plain.baselines.subject["non_vs_demented"]) == BASELINES
    same = plain.baselines.subject["non_vs_demented"]["nearest_neighbour"]  # the model is this baseline
    assert same.auroc_over is not None
    model = plain.subject["non_vs_demented"] if plain.subject else {}
    assert same.metrics["accuracy"].value == model["accuracy"].value
    summary = crossvalidate(_recipe(), folds, folds=2, covariates=str(ages), where="age >= 60")
    assert summary.where == "age >= 60"
    shutil.copytree(folds, tmp_path / "same")
    compare_crossvals([folds, tmp_path / "same"], ["non_vs_demented/auroc"])
    assert f"{folds} was evaluated where age >= 60; the tests are of all its subjects" in caplog.text
    assert summary.n_slices < plain.n_slices
    (found,) = summary.confounding
    assert found.unit == "subject"
    assert {tuple(one.covariates) for one in found.adjusted} == {("age",), ("sex",), ("age", "sex")}
    for text in (crossvalidation_text(summary), crossvalidation_markdown(summary)):
        assert "where age >= 60" in text
        assert "adjusted for age" in text
        assert "brain fraction alone" in text


def test_crossval_names_a_mistake_in_a_condition_before_it_trains(tmp_path: Path, ages: Path) -> None:
    for covariates, where in ((None, "age >= 60"), (str(ages), "agee >= 60"), (str(ages), "age > 200")):
        with pytest.raises(ArgumentError, match="--where"):
            crossvalidate(_recipe(), tmp_path / "folds", folds=2, covariates=covariates, where=where)
        assert not (tmp_path / "folds").exists()


def test_slices_that_a_condition_leaves_out_as_unknown_are_counted(
    phantom: SliceSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "some.csv"
    names = sorted(set(phantom.subject_names.tolist()))
    file.write_text(f"subject,age\n{names[0]},70\n{names[1]},50\n")
    known = know(phantom, str(file), Condition("age >= 60"))
    assert set(phantom.subject_names[known.chosen]) == {names[0]}
    unknown = int((~np.isin(phantom.subject_names, names[:2])).sum())
    assert f"age is unknown of {unknown} of the {len(phantom)} slices" in caplog.text
    caplog.clear()
    know(phantom, str(file), Condition("age >= 60 or not age >= 60 or position >= 0"))
    assert "unknown" not in caplog.text  # the position decides, so that nothing is left out


def test_evaluate_prints_the_same_of_a_run(folds: Path, ages: Path) -> None:
    with pytest.raises(RunError, match=r"is a cross-validation; .*each fold is a run, such as .*repeat0-fold0"):
        check_finished(folds)
    run = check_finished(folds / "repeat0-fold0")
    metrics = evaluate_run(run, level="subject", pooling="majority", task="non_vs_demented", covariates=str(ages))
    assert sorted(metrics.baselines) == BASELINES
    assert metrics.confounding[0].contrast == "Demented vs Non_Demented"
    assert "pairs matched by age, sex" in metrics_text(metrics)
    some = evaluate_run(run, covariates=str(ages), where="sex == 'F'")
    assert 0 < some.n_slices < metrics.n_slices
    with pytest.raises(ArgumentError, match="true of none"):
        evaluate_run(run, covariates=str(ages), where="age > 200")
