"""Splits as files and settings, and the marks of a leaky one."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from test_data_splits import cohort

import mriscope
from mriscope.data.slices import SliceSet
from mriscope.data.split_files import split_for, warn_of_sharing
from mriscope.data.splits import by_slice, by_subject, shared_subjects
from mriscope.errors import DataError, RecipeError, RunError
from mriscope.recipe import Recipe, SplitSettings, make_recipe
from mriscope.reports import figures
from mriscope.reports.text import metrics_text
from mriscope.workflows.evaluate import evaluate_run
from mriscope.workflows.split import write_splits

SOURCE = "phantom:subjects=24,slices=3,seed=1,size=32"
LEAKY = "LEAKY: train and test share subjects"


def small(**split: object) -> Recipe:
    training = {"epochs": 1, "batch_size": 16}
    return make_recipe(
        {"model": "keras_like", "data": SOURCE, "input": {"size": 32}, "split": split, "training": training}
    )


def test_settings_name_a_protocol_or_a_fold():
    slices = cohort()
    assert (
        split_for(SplitSettings(test=0.3), slices, 4).test.tolist()
        == by_subject(slices, test=0.3, seed=4).test.tolist()
    )
    parts = [split_for(SplitSettings(folds=3, fold=fold, repeat=1), slices, 4).test for fold in range(3)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(140))


def test_one_warning_names_the_count_of_shared_subjects(caplog):
    slices = cohort(slices=20)
    split = by_slice(slices)
    with caplog.at_level(logging.WARNING, "mriscope"):
        warn_of_sharing(slices, split)
        warn_of_sharing(slices, by_subject(slices))
    (record,) = caplog.records
    shared = shared_subjects(slices, split)
    assert f"LEAKY: {shared} of 28 test subjects also have slices in the training part" in record.getMessage()
    assert record.getMessage().endswith("use split.protocol=by_subject")
    caplog.clear()
    warn_of_sharing(SliceSet.of(slices.images, slices.labels), split)
    assert caplog.text.count("subjects unknown") == 1


def test_a_leaky_run_is_marked_wherever_it_shows(tmp_path, caplog, monkeypatch):
    titles = []
    monkeypatch.setattr(figures, "save", lambda figure, path: titles.append(figure.get_suptitle().replace("\n", " ")))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    directory = mriscope.run(small(protocol="by_slice", test=0.4), tmp_path / "run", silent=True, track=uri)
    metrics = directory.metrics()
    shared, tested = metrics.shared_subjects, metrics.n_subjects
    assert metrics.leaky is True
    assert shared is not None
    assert tested is not None
    assert 0 < shared <= tested
    told = f"LEAKY: {shared} of {tested} test subjects also have slices in the training part"
    assert caplog.text.count(told) == 1
    assert told in metrics_text(metrics)
    assert told in metrics_text(evaluate_run(directory.path))
    assert len(titles) == 4
    assert all(LEAKY in title for title in titles)
    tracked = MlflowClient(uri).get_run(json.loads((directory.path / "tracking.json").read_text())["run_id"])
    assert (tracked.data.tags["leaky"], tracked.data.tags["protocol"]) == ("true", "by_slice")
    assert tracked.data.metrics["shared_subjects"] == shared
    assert told in tracked.data.tags["mlflow.note.content"]


@pytest.mark.parametrize(("shared", "leaky", "count"), [(False, None, None), (True, True, 1)])
def test_a_run_whose_subjects_are_partly_known_is_leaky_or_in_doubt_and_never_cleared(tmp_path, shared, leaky, count):
    slices = mriscope.read(SOURCE)
    split = by_subject(slices, test=0.3, validation=0.2, seed=0)
    train = np.concatenate([split.train, split.validation])
    subjects = np.where(np.isin(slices.subjects, slices.subjects[train]), slices.subjects, 100)
    tested = np.flatnonzero(subjects == 100)
    subjects[tested[0]] = -1
    if shared:
        subjects[tested[-1]] = subjects[train[0]]
    named = "".join(f"{path},{subject}\n" for path, subject in zip(slices.paths, subjects, strict=True))
    (tmp_path / "m.csv").write_text("path,subject\n" + named)
    (file,) = write_splits(SOURCE, tmp_path / "s", protocol="by_subject", test=0.3, validation=0.2)
    recipe = small(file=str(file)).model_copy(update={"manifest": str(tmp_path / "m.csv")})
    metrics = mriscope.run(recipe, tmp_path / "run", silent=True).metrics()
    assert (metrics.leaky, metrics.shared_subjects) == (leaky, count)


def test_a_file_for_each_fold_and_the_same_from_the_same_seed(tmp_path):
    files = write_splits(SOURCE, tmp_path / "one", protocol="by_subject", folds=2, repeats=2, seed=3)
    assert [file.name for file in files] == [f"repeat{repeat}-fold{fold}.json" for repeat in (0, 1) for fold in (0, 1)]
    again = write_splits(SOURCE, tmp_path / "two", protocol="by_subject", folds=2, repeats=2, seed=3)
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in again]
    records = [json.loads(file.read_text()) for file in files]
    assert {name: records[3][name] for name in ("protocol", "seed", "folds", "fold", "repeat", "size")} == {
        **{"protocol": "by_subject", "seed": 3, "folds": 2, "fold": 1, "repeat": 1, "size": [32, 32]}
    }
    assert not set(records[0]["parts"]["test"]) & set(records[1]["parts"]["test"])
    assert len(records[0]["parts"]["test"]) + len(records[1]["parts"]["test"]) == 72
    with pytest.raises(DataError, match=r"repeat0-fold0\.json holds another split; name another folder"):
        write_splits(SOURCE, tmp_path / "one", protocol="by_subject", folds=2, seed=4)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"protocol": "published", "folds": 3}, RecipeError, "the published split has no folds"),
        ({"protocol": "published"}, DataError, "publishes no train and test part"),
        ({"protocol": "by_brain"}, RecipeError, r"split\.protocol: 'by_brain'"),
        ({"protocol": "by_subject", "folds": 30}, DataError, "30 folds need 30 subjects at least, and there are 24"),
        ({"protocol": "by_slice", "test": 1.5}, RecipeError, r"split\.test: 1\.5"),
        ({"protocol": "by_slice", "folds": 10**9}, RecipeError, "are more than 10,000 runs"),
        ({"protocol": "by_slice", "folds": 2, "repeats": 0}, RecipeError, "repeats is 0"),
    ],
)
def test_splits_that_cannot_be_made_leave_nothing_behind(tmp_path, asked, error, message):
    with pytest.raises(error, match=message):
        write_splits(SOURCE, tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


def test_a_run_trains_on_the_split_of_a_file_and_takes_its_protocol(tmp_path):
    (file,) = write_splits(SOURCE, tmp_path, protocol="by_slice", test=0.4, seed=7)
    recipe = small(file=str(file))
    directory = mriscope.run(recipe, tmp_path / "run", silent=True)
    named = json.loads(file.read_text())["parts"]
    assert json.loads((directory.path / "split.json").read_text())["parts"] == named
    metrics = directory.metrics()
    assert (metrics.protocol, metrics.leaky) == ("by_slice", True)
    assert directory.predictions().of_part("test").paths.tolist() == named["test"]
    changed = json.loads(file.read_text())
    for column in ("parts", "classes", "pixels"):
        changed[column]["train"].pop()
    Path(file).write_text(json.dumps(changed))
    with pytest.raises(RunError, match=r"on another split than .*by_slice-seed7\.json holds now"):
        mriscope.run(recipe, tmp_path / "run", silent=True)


def test_a_split_for_other_slices_stops_a_run_before_anything_is_written(tmp_path):
    (file,) = write_splits("phantom:subjects=24,slices=3,seed=2,size=32", tmp_path, protocol="by_slice")
    with pytest.raises(DataError, match=r"was made for other data: \d+ of its 72 slices have other"):
        mriscope.run(small(file=str(file)), tmp_path / "run", silent=True)
    assert not (tmp_path / "run").exists()
