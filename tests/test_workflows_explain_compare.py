"""The comparison of methods of explanation as a whole: its files, its truth, and whom its intervals resample."""

import base64
import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mriscope
from mriscope.data.phantom import make_phantom, phantom_masks
from mriscope.data.readers import read
from mriscope.errors import DataError, MriscopeError, UnknownNameError
from mriscope.evaluation.predictions import write_predictions
from mriscope.explain.methods import METHODS
from mriscope.explain.metrics.comparison import cheap_methods
from mriscope.output_folder import OutputFolder
from mriscope.recipe import make_recipe
from mriscope.reports.explanation_comparison import METRICS, comparison_text
from mriscope.results import ExplainComparison
from mriscope.run_directory import RunDirectory
from mriscope.workflows.explain_compare import compare_methods

PHANTOM = "phantom:subjects=24,slices=4,seed=1"
SETTINGS = {
    "model": "baseline_cnn",
    "data": PHANTOM,
    "input": {"size": 32},
    "split": {"protocol": "by_subject", "test": 0.3, "validation": 0.2},
    "training": {"epochs": 2, "batch_size": 16},
}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    return mriscope.run(make_recipe(SETTINGS), tmp_path_factory.mktemp("runs") / "run", silent=True).path


@pytest.fixture(scope="module")
def compared(run_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    return compare_methods(run_folder, out, ("gradcam", "layercam"), count=12, seed=3), out


def test_the_masks_are_those_of_the_phantom():
    whole = make_phantom(subjects=24, slices=4, seed=1, size=32)
    slices = read(PHANTOM, size=32)
    rows = np.random.default_rng(0).permutation(len(slices))[:20]
    masks = phantom_masks(slices[rows], PHANTOM)
    assert masks is not None
    assert np.array_equal(masks, whole.masks[rows])
    assert whole.masks[rows].any()


def test_other_slices_have_no_truth_and_another_phantom_is_refused():
    slices = read(PHANTOM, size=32)
    assert phantom_masks(slices, "data/train.parquet") is None
    with pytest.raises(DataError, match="makes other brains than these slices show"):
        phantom_masks(slices, "phantom:subjects=24,slices=4,seed=2")


def test_every_method_and_baseline_has_every_figure_with_its_interval(compared):
    facts, _ = compared
    assert [one.name for one in facts.methods] == ["gradcam", "layercam", "random", "centre"]
    assert facts.unit == "subject"
    assert facts.leaky is False
    for one in facts.methods:
        assert set(one.metrics) == {*METRICS, "gain"}
        for name, figure in one.metrics.items():
            assert figure.is_defined, name
            assert figure.low <= figure.value <= figure.high, name
        assert (one.seconds is None) == (one.kind == "baseline")
        assert (one.randomisation is None) == (one.kind == "baseline")
    random = facts.methods[2]
    found = random.against_random["deletion"]
    assert (found.value, found.low, found.high) == (0, 0, 0)
    matrix = np.array(facts.agreement.matrix, float)
    assert np.allclose(np.diag(matrix), 1)
    assert np.allclose(matrix, matrix.T)


def test_the_three_files_say_the_same(compared):
    facts, out = compared
    files = {f"explain_compare.{kind}" for kind in ("csv", "html", "json")}
    assert {file.name for file in out.iterdir() if file.name[0] != "."} == {
        *files,
        "explain_compare_regions.csv",
        "cohort.png",
    }
    assert ExplainComparison.read(out / "explain_compare.json") == facts
    rows = list(csv.DictReader((out / "explain_compare.csv").read_text().splitlines()))
    assert [float(row["deletion"]) for row in rows] == [one.metrics["deletion"].value for one in facts.methods]
    page = (out / "explain_compare.html").read_text()
    assert facts.recommendation.sentence.split(":")[0] in page
    assert "nothing on this page is a diagnosis" in page
    assert "where disease changed a slice of the phantom" in page
    assert "LEAKY" not in page
    text = comparison_text(facts)
    assert text.endswith(facts.recommendation.sentence)
    assert "Deletion AUC ↓" in text


def test_mean_maps_are_on_the_page_with_whom_they_are_of(compared):
    facts, out = compared
    cohort, page = facts.cohort, (out / "explain_compare.html").read_text()
    assert sum(one.n_slices for one in cohort.groups) == facts.n_slices
    assert cohort.method == (facts.recommendation.method or "gradcam")
    assert any(one.width is not None for one in cohort.groups)
    assert base64.b64encode((out / "cohort.png").read_bytes()).decode() in page
    assert "thirds of their range" in page
    for one in cohort.groups:
        assert one.positions is not None
        assert f"{one.third} ({one.positions[0]} to {one.positions[1]})" in page


def test_regions_are_told_of_every_method_and_baseline_alike_in_all_files(compared):
    facts, out = compared
    table = facts.regions
    assert table is not None
    assert table.n_placed >= 6
    assert [one.name for one in table.methods] == [one.name for one in facts.methods]
    shares = {one.region: one for one in table.methods[2].regions}  # a random map knows nothing of regions
    assert shares["cortex"].ratio.value == pytest.approx(1, abs=0.15)
    assert sum(shares[name].map_share for name in ("cortex", "white_matter")) < 1
    rows = list(csv.DictReader((out / "explain_compare_regions.csv").read_text().splitlines()))
    assert len(rows) == 5 * len(facts.methods)
    assert float(rows[1]["ratio"]) == table.methods[0].regions[1].ratio.value
    assert table.note in (out / "explain_compare.html").read_text()
    assert table.note in comparison_text(facts)


def test_the_same_seed_gives_the_same_figures(compared, run_folder, tmp_path):
    facts, _ = compared
    again = compare_methods(run_folder, tmp_path, ("layercam",), count=12, seed=3)
    here, there = (next(one for one in each.methods if one.name == "layercam") for each in (facts, again))
    assert here.metrics == there.metrics
    assert here.randomisation == there.randomisation


def test_subjects_are_those_that_the_run_was_judged_by(run_folder, tmp_path):
    """A manifest that named other subjects may be gone; the run's predictions know them."""
    shutil.copytree(run_folder, tmp_path / "run")
    kept = RunDirectory(tmp_path / "run").predictions()
    write_predictions(replace(kept, subjects=np.zeros(len(kept), np.int64)), tmp_path / "run" / "predictions.parquet")
    with OutputFolder(tmp_path / "out", "explain-compare").writing(["cohort.png"]) as out:
        (out / "cohort.png").write_text("of an earlier comparison")
    facts = compare_methods(tmp_path / "run", tmp_path / "out", ("gradcam",), count=4)
    assert facts.n_subjects == 1
    assert not facts.methods[0].metrics["deletion"].has_interval
    assert not (tmp_path / "out" / "cohort.png").exists()
    assert "one subject, no interval, not drawn" in (tmp_path / "out" / "explain_compare.html").read_text()
    write_predictions(replace(kept, subjects=np.full(len(kept), -1)), tmp_path / "run" / "predictions.parquet")
    facts = compare_methods(tmp_path / "run", tmp_path / "out", ("gradcam",), count=4)
    assert facts.unit == "slice"
    assert "too narrow where slices of one brain agree" in facts.unit_note


def test_what_takes_many_passes_is_compared_only_if_named():
    assert {"gradcam", "layercam", "eigencam", "fullgrad"} <= set(cheap_methods())
    assert not {"scorecam", "ablationcam"} & set(cheap_methods())
    assert set(cheap_methods()) < set(METHODS)


def test_mistakes_are_told_before_anything_is_measured(run_folder, tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean layercam"):
        compare_methods(run_folder, tmp_path, ("layercan",))
    with pytest.raises(MriscopeError, match="features"):
        compare_methods(run_folder, tmp_path, ("gradcam",), layer="features.conv9")
    assert not list(tmp_path.iterdir())
