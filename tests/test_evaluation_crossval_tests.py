"""Permuted labels and compared cross-validations, with answers known beforehand."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from mriscope.data.phantom import make_phantom
from mriscope.data.slices import SliceSet
from mriscope.errors import ArgumentError, DataError, RecipeError, RunError, UnknownNameError
from mriscope.evaluation.crossval_tests import Declared, permute_labels, summarize_permutations
from mriscope.evaluation.differences import Difference, widen_difference
from mriscope.recipe import Recipe, make_recipe
from mriscope.reports.crossvalidation import crossval_comparison_text, permutation_text
from mriscope.results import CrossvalComparison, PermutationResult
from mriscope.workflows.compare_crossval import compare_crossvals
from mriscope.workflows.crossval import crossvalidate
from mriscope.workflows.permutation import permute


@pytest.fixture
def recipe() -> Recipe:
    settings = {"model": "tissue_histograms", "data": "phantom:subjects=24,slices=4,seed=1", "input": {"size": 32}}
    return make_recipe({**settings, "split": {"validation": 0.25}})


def test_subjects_get_each_others_labels_and_slices_stay_together() -> None:
    slices = make_phantom(12, slices=3, size=32).slices
    one, again, other = (permute_labels(slices, 0, number) for number in (0, 0, 1))
    assert (one.labels == again.labels).all()
    assert (one.labels != other.labels).any()
    firsts = [np.unique(each.subjects, return_index=True)[1] for each in (slices, one)]
    assert sorted(slices.labels[firsts[0]]) == sorted(one.labels[firsts[1]])
    for subject in np.unique(one.subjects):
        assert len(set(one.labels[one.subjects == subject])) == 1
    unknown = SliceSet.of(np.zeros((2, 4, 4), np.uint8), [0, 1])
    with pytest.raises(DataError, match="labels are permuted between subjects"):
        permute_labels(unknown, 0, 0)


def test_p_is_the_share_of_permutations_as_good_with_the_data_as_one_of_them() -> None:
    def values(auroc: float, steps: float) -> dict:
        return {"subject": {"own_classes": {"auroc": auroc, "severity_error": steps}}}

    permuted = [values(auroc, steps) for auroc, steps in ((0.5, 1.0), (0.6, 0.2), (0.9, 2.0))]
    found = summarize_permutations(values(0.8, 0.5), permuted)["subject"]["own_classes"]
    assert found["auroc"].p == (1 + 1) / 4
    assert found["severity_error"].p == (1 + 1) / 4  # lower is better: only 0.2 is as good
    assert found["auroc"].mean == pytest.approx(2 / 3)


def test_a_widened_p_is_that_of_the_larger_standard_error() -> None:
    found = widen_difference(Difference(0.2, 0.1, 0.4, float(2 * norm.sf(2.8))), 1.4)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.06, 0.48))
    assert found.p == pytest.approx(2 * norm.sf(2))
    assert widen_difference(Difference(0, 0, 0, 1.0), 1.4).p == 1


def test_names_of_tests_are_checked() -> None:
    assert Declared.parse("non_vs_demented/auroc") == ("non_vs_demented", "auroc")
    for text in ("nonsense/auroc", "non_vs_demented/nonsense"):
        with pytest.raises(UnknownNameError):
            Declared.parse(text)
    with pytest.raises(ArgumentError, match="write both, such as non_vs_demented/macro_f1"):
        Declared.parse("macro_f1")


def test_permuting_refits_all_and_resumes(recipe: Recipe, tmp_path: Path) -> None:
    settings = {"folds": 2, "silent": True}
    found = permute(recipe, tmp_path, permutations=2, **settings)
    measured = sorted(tmp_path.glob("permuted/*/permutation?.json"))
    assert len(measured) == 2
    times = [file.stat().st_mtime_ns for file in measured]
    more = permute(recipe, tmp_path, permutations=3, **settings)
    assert [file.stat().st_mtime_ns for file in measured] == times
    assert PermutationResult.read(tmp_path / "permutation.json") == more
    for result in (found, more):
        for tasks in result.metrics.values():
            for one in (one for metrics in tasks.values() for one in metrics.values()):
                assert 1 / (result.permutations + 1) <= one.p <= 1
    assert "3 permutations" in permutation_text(more)
    crossvalidate(recipe, tmp_path, fresh=True, **settings)
    assert not list(tmp_path.rglob("permutation*.json"))
    for number in (0, 10**12):
        with pytest.raises(RecipeError, match=f"permute is {number}; ask for 1 to 100,000"):
            permute(recipe, tmp_path, permutations=number)


def test_crossvals_compare_on_the_same_subjects(recipe: Recipe, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    crossvalidate(recipe, one, folds=2, silent=True)
    crossvalidate(recipe.model_copy(update={"model": "tissue_families"}), other, folds=2, silent=True)
    declared = ["non_vs_demented/auroc", "non_vs_demented/accuracy", "non_vs_demented/auroc"]
    found = compare_crossvals([one, other], declared, out=tmp_path / "out")
    assert CrossvalComparison.read(tmp_path / "out" / "comparison.json") == found
    area, accuracy = found.tests
    assert np.isnan(accuracy.p_delong)
    assert area.difference.value == pytest.approx(area.values[0] - area.values[1])
    assert area.adjusted >= area.p_delong
    assert accuracy.adjusted >= accuracy.p_bootstrap
    back = compare_crossvals([other, one], declared).tests[0]
    assert back.difference.value == pytest.approx(-area.difference.value)
    assert back.p_delong == pytest.approx(area.p_delong)
    assert "Holm's correction is for the 2 tests declared" in crossval_comparison_text(found)
    for folders, tests, message in (
        ([one], declared, "name two cross-validations or more"),
        ([one, one], declared, "each once"),
        ([one, other], [], "no test is declared"),
        ([one, other], ["own_classes/auroc"], "declare one of these"),
        ([one, tmp_path / "none"], declared, "cannot be read"),
    ):
        with pytest.raises(RunError, match=message):
            compare_crossvals(folders, tests)
