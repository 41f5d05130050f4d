"""Folds are pooled; most tests write the folds' runs by hand, so that the answer is known."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from result_files import training, write_results
from sklearn.metrics import f1_score

import mriscope
from mriscope import cli
from mriscope.data.folds import fold_numbers, fold_split
from mriscope.data.slices import SliceSet
from mriscope.errors import MriscopeError, RecipeError, RunError, WriteError
from mriscope.evaluation import crossvalidation
from mriscope.evaluation.predictions import Predictions, write_predictions
from mriscope.recipe import Recipe, make_recipe, read_recipe, write_recipe
from mriscope.reports.crossvalidation import crossvalidation_text
from mriscope.results import CrossValidation
from mriscope.run_directory import ENVIRONMENT, METRICS, PREDICTIONS, RECIPE, WEIGHTS, RunDirectory
from mriscope.workflows import crossval, train
from mriscope.workflows.crossval import crossvalidate
from mriscope.workflows.split import fold_name, fold_recipe

SMALL = """
model: keras_like
data: phantom:subjects=24,slices=2,seed=1
input: {size: 32}
split: {validation: 0.2}
training: {epochs: 1, batch_size: 16}
"""
ASKED: dict[str, Any] = {"folds": 2, "repeats": 2}


def sixteen() -> SliceSet:
    """Four subjects of each class with three slices each."""
    subjects = np.repeat(np.arange(16), 3)
    return SliceSet.of(np.zeros((48, 2, 2), np.uint8), subjects % 4, subjects=subjects)


def called(slices: SliceSet, repeat: int) -> np.ndarray:
    """In repeat 0 one slice of each subject is called wrongly, in repeat 1 two of each of the subjects 0 to 7."""
    place = np.arange(48) % 3
    wrong = place == 0 if repeat == 0 else (place < 2) & (slices.subjects < 8)
    return np.where(wrong, (slices.labels + 1) % 4, slices.labels)


def predictions_of(slices: SliceSet, repeat: int, rows: np.ndarray, parts: Any) -> Predictions:
    probabilities = np.full((48, 4), 0.1)
    probabilities[np.arange(48), called(slices, repeat)] = 0.7
    columns = {"subjects": slices.subjects[rows], "paths": slices.paths[rows], "parts": parts}
    return Predictions.of(slices.labels[rows], probabilities[rows], **columns)


def write_folds(place: Path, recipe: Recipe, protocol: str = "by_subject", **records: Any) -> None:
    """Two repeats of two folds as finished runs."""
    slices = sixteen()
    for repeat, fold in np.ndindex(2, 2):
        split = fold_split(slices, protocol, folds=2, fold=fold, repeat=repeat, validation=0.5)
        rows = np.concatenate([split.validation, split.test])
        parts = np.repeat(["validation", "test"], [len(split.validation), len(split.test)])
        found = predictions_of(slices, repeat, rows, parts)
        run = RunDirectory(place / fold_name(repeat, fold))
        run.path.mkdir(parents=True)
        (run.path / RECIPE).write_text(write_recipe(fold_recipe(recipe, protocol, 2, fold, repeat)))
        (run.path / WEIGHTS).touch()
        write_predictions(found, run.path / PREDICTIONS)
        records = {"training": training(seconds=2.0)} | records
        write_results(run.path, recipe, found.of_part("test"), resamples=20, **records)


@pytest.fixture
def recipe() -> Recipe:
    return make_recipe({"model": "keras_like"})


@pytest.fixture
def untrained(monkeypatch) -> None:
    """No fold is trained, and intervals are drawn of few resamples."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a finished fold was trained")

    monkeypatch.setattr(crossvalidation, "RESAMPLES", 80)
    monkeypatch.setattr(train, "run", refuse)


def test_slices_and_subjects_are_pooled_over_folds_and_averaged_over_repeats(recipe, tmp_path, untrained):
    write_folds(tmp_path, recipe)
    summary = crossvalidate(recipe, tmp_path, **ASKED)
    assert summary.subject is not None
    slices, subjects = (level["four_classes"]["accuracy"] for level in (summary.slice, summary.subject))
    assert slices.value == pytest.approx((32 / 48 + 32 / 48) / 2)
    assert subjects.value == pytest.approx((16 / 16 + 8 / 16) / 2)
    assert subjects.low < 0.75 < subjects.high
    assert (summary.n_slices, summary.n_subjects, summary.leaky) == (48, 16, False)
    assert (summary.training_seconds, len(summary.by_fold)) == (8.0, 4)
    truth = sixteen()
    demented = truth.labels != 2
    expected = [f1_score(demented, called(truth, repeat) != 2, average="macro") for repeat in range(2)]
    assert summary.slice["non_vs_demented"]["macro_f1"].value == pytest.approx(np.mean(expected))
    assert CrossValidation.read(tmp_path / "summary.json") == summary


def test_the_pooled_table_holds_every_slice_once_in_each_repeat_with_its_fold(recipe, tmp_path, untrained):
    write_folds(tmp_path, recipe)
    crossvalidate(recipe, tmp_path, **ASKED)
    columns = pq.read_table(tmp_path / "predictions.parquet").to_pydict()
    assert list(columns)[:5] == ["path", "label", "predicted", "subject", "part"]
    assert list(columns)[-2:] == ["repeat", "fold"]
    assert set(columns["part"]) == {"test"}
    for repeat in range(2):
        expected = fold_numbers(sixteen(), "by_subject", folds=2, repeat=repeat).tolist()
        rows = zip(columns["path"], columns["repeat"], columns["fold"], strict=True)
        found = {int(path): fold for path, number, fold in rows if number == repeat}
        assert [found[row] for row in range(48)] == expected


def test_what_is_printed_has_an_interval_for_each_task_and_level(recipe, tmp_path, untrained):
    write_folds(tmp_path, recipe)
    text = crossvalidation_text(crossvalidate(recipe, tmp_path, **ASKED))
    lines = text.splitlines()
    assert lines[0] == "split by subject, 2 × 2 folds: 48 slices, 16 subjects"
    assert [line.split("  ")[0] for line in lines[3:9:2]] == ["four classes", "three classes", "non vs demented"]
    assert all(line.count("interval not reliable here") == 3 for line in lines[3:9])  # of 16 subjects
    assert "intervals are over subjects; metrics are means over 2 repeats" in text
    assert "they are widened by" in text
    page = (tmp_path / "summary.md").read_text()
    assert page.count("\n| 0 | ") == page.count("\n| 1 | ") == 2


def test_a_summary_stands_until_a_fold_or_its_version_changes(recipe, tmp_path, untrained, monkeypatch):
    write_folds(tmp_path, recipe)
    summed: list[int] = []

    def summarize(*given: Any, **more: Any) -> CrossValidation:
        summed.append(1)
        return crossvalidation.summarize_folds(*given, **more)

    monkeypatch.setattr(crossval, "summarize_folds", summarize)
    summary = crossvalidate(recipe, tmp_path, **ASKED)
    assert crossvalidate(recipe, tmp_path, **ASKED) == summary
    assert len(summed) == 1
    fold = RunDirectory(tmp_path / "repeat1-fold0")
    fold.metrics().model_copy(update={"training": training(seconds=9.0)}).write(fold.path / METRICS)
    assert crossvalidate(recipe, tmp_path, **ASKED).training_seconds == 15.0
    monkeypatch.setattr(crossval, "VERSION", crossval.VERSION + 1)
    monkeypatch.setattr(crossvalidation, "RESAMPLES", 81)
    assert crossvalidate(recipe, tmp_path, **ASKED).interval.resamples == 81
    assert crossvalidate(recipe, tmp_path, folds=2, repeats=1).repeats == 1
    assert len(summed) == 4
    for damage in ("{", "[]", "{}"):
        (tmp_path / "summary.json").write_text(damage)
        assert crossvalidate(recipe, tmp_path, folds=2, repeats=1).repeats == 1
    (tmp_path / "predictions.parquet").unlink()
    crossvalidate(recipe, tmp_path, folds=2, repeats=1)
    assert (tmp_path / "predictions.parquet").is_file()
    assert len(summed) == 8


def test_fresh_empties_every_fold_before_the_first_is_trained(tmp_path, untrained, monkeypatch):
    recipe = make_recipe({"model": "keras_like", "data": "phantom:subjects=16,slices=3,seed=1"})
    write_folds(tmp_path, recipe)
    crossvalidate(recipe, tmp_path, **ASKED)
    (tmp_path / "repeat1-fold1" / "notes.txt").write_text("mine")
    called = []

    def stopped(recipe: Recipe, folder: Path, **settings: Any) -> None:
        called.append((folder.name, settings))
        raise RunError("stopped")

    monkeypatch.setattr(train, "run", stopped)
    other = make_recipe({**recipe.model_dump(), "model": "nothing_like"})
    with pytest.raises(MriscopeError, match="nothing_like"):
        crossvalidate(other, tmp_path, **ASKED, fresh=True)
    assert all(RunDirectory(tmp_path / fold_name(*one)).finished for one in np.ndindex(2, 2))
    other = make_recipe({**recipe.model_dump(), "seed": 5})
    with pytest.raises(RunError, match="or train anew there with --fresh"):
        crossvalidate(other, tmp_path, **ASKED)
    with pytest.raises(RunError, match="stopped"):
        crossvalidate(other, tmp_path, **ASKED, fresh=True)
    assert [name for name, _ in called] == [fold_name(*one) for one in np.ndindex(2, 2)]
    assert [settings for _, settings in called] == [{"warn": True}, *[{"warn": False}] * 3]
    left = {file.name for folder in tmp_path.iterdir() if folder.is_dir() for file in folder.iterdir()}
    assert {name for name in left if name[0] != "."} == {ENVIRONMENT, "notes.txt"}


def test_what_subjects_share_is_said_once(tmp_path, monkeypatch):
    recipe = make_recipe({"model": "keras_like"})
    warned = []

    def run(recipe: Recipe, folder: Path, *, warn: bool) -> None:
        warned.append(warn)

    monkeypatch.setattr(train, "run", run)
    write_folds(tmp_path, recipe, "by_slice", leaky=True)
    for one in ("repeat0-fold1", "repeat1-fold0", "repeat1-fold1"):
        (tmp_path / one / WEIGHTS).unlink()
    crossvalidate(recipe, tmp_path, **ASKED, protocol="by_slice")
    assert warned == [True, False, False]


def test_folds_of_slices_are_leaky_and_say_nothing_of_subjects(recipe, tmp_path, untrained):
    write_folds(tmp_path, recipe, "by_slice", leaky=True)
    summary = crossvalidate(recipe, tmp_path, **ASKED, protocol="by_slice")
    assert (summary.leaky, summary.subject) == (True, None)
    assert "LEAKY: train and test share subjects" in crossvalidation_text(summary)
    assert "LEAKY: train and test share subjects" in (tmp_path / "summary.md").read_text()


def test_folds_on_different_data_are_not_pooled(recipe, tmp_path, untrained):
    write_folds(tmp_path, recipe)
    file = tmp_path / "repeat1-fold0" / METRICS
    file.write_text(file.read_text().replace("d" * 64, "e" * 64))
    with pytest.raises(RunError, match="repeat1-fold0 was trained on other data than"):
        crossvalidate(recipe, tmp_path, **ASKED)


@pytest.mark.parametrize(
    ("settings", "asked", "message"),
    [
        ({}, {"protocol": "published"}, "the published split has no folds"),
        ({}, {"protocol": "by_brain"}, r"split\.protocol: 'by_brain'"),
        ({}, {"repeats": 0}, "repeats is 0; ask for 1 or more"),
        ({}, {"folds": 1}, r"split\.folds: 1 should be greater"),
        ({}, {"folds": 0}, r"split\.folds: 0 should be greater"),
        ({}, {"folds": 10**9}, "1000000000 folds in 1 repeats are more than 10,000 runs"),
        ({"split": {"file": "x.json"}}, {}, r"split\.file names x\.json, and folds are drawn"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, untrained, settings, asked, message):
    with pytest.raises(RecipeError, match=message):
        crossvalidate(make_recipe({"model": "keras_like", **settings}), tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


def test_fresh_removes_no_permutation_of_somebody_else(recipe, tmp_path, untrained):
    (tmp_path / "permutation.json").write_text("mine")
    with pytest.raises(WriteError, match=r"holds permutation\.json that mriscope did not write"):
        crossvalidate(recipe, tmp_path, fresh=True, **ASKED)
    assert (tmp_path / "permutation.json").read_text() == "mine"


def test_a_folder_of_another_recipe_or_of_other_things_is_refused(recipe, tmp_path, untrained, monkeypatch):
    write_folds(tmp_path / "cv", recipe)
    other = make_recipe({"model": "keras_like", "training": {"epochs": 3}})
    with pytest.raises(RunError, match=r"of another recipe \(training\.epochs is 10 there and 3 here\)"):
        crossvalidate(other, tmp_path / "cv", **ASKED)
    with pytest.raises(RunError, match=r"another recipe \(split\.folds is 2 there and 5 here\)"):
        crossvalidate(recipe, tmp_path / "cv")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(RunError, match=r"holds thesis\.txt and is no cross-validation"):
        crossvalidate(recipe, tmp_path / "mine")
    with pytest.raises(RunError, match="is a file; name a folder"):
        crossvalidate(recipe, tmp_path / "mine" / "thesis.txt")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match="trains in one process"):
        crossvalidate(recipe, tmp_path / "new")


def test_after_a_kill_the_same_command_goes_on_and_a_folds_recipe_gives_its_run(tmp_path, capsys):
    """SIGKILL to a real process in its second fold; what was finished stays, and the rest is as if unbroken."""
    (tmp_path / "small.yaml").write_text(SMALL)
    place, second = tmp_path / "cv", tmp_path / "cv" / "repeat0-fold1"
    words = [
        "crossval",
        str(tmp_path / "small.yaml"),
        "--folds",
        "2",
        "--out",
        str(place),
        "--set",
        "seed=5",
        "--executor",
        "here",
    ]
    command = [sys.executable, "-c", "from mriscope.cli import main; main()", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    while not (second / RECIPE).exists() and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (place / "summary.json").exists()
    assert not (second / METRICS).exists()
    before = {file: file.stat().st_mtime_ns for file in (place / "repeat0-fold0").rglob("*") if file.is_file()}
    assert cli._run_app(words) == 0
    told = capsys.readouterr()
    assert "split by subject, 2 folds: 48 slices, 24 subjects" in told.out
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert "fold0" not in told.err
    recipe = read_recipe(second / RECIPE)
    assert (recipe.split.folds, recipe.split.fold, recipe.split.repeat, recipe.seed) == (2, 1, 0, 5)
    alone = mriscope.run(recipe, tmp_path / "alone", silent=True)
    for name in (PREDICTIONS, WEIGHTS, "split.json"):
        assert (alone.path / name).read_bytes() == (second / name).read_bytes()
