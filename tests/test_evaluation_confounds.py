"""Statistics of confounding: by hand, against scikit-learn and a planted truth."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from mriscope.evaluation.baselines import resample_auroc, score_baselines
from mriscope.evaluation.confounding import list_contrasts
from mriscope.evaluation.confounds import Units, analyse_confounding, covariate_aurocs, residuals, weighted_auroc
from mriscope.evaluation.differences import paired_difference
from mriscope.evaluation.metrics import accuracy, auroc
from mriscope.evaluation.predictions import Predictions

TRUTH = float(norm.cdf(1.0 / np.sqrt(2)))
"""AUROC of a score that the disease raises by one standard deviation."""


def confounded(count: int, seed: int) -> Units:
    """Half are ill and twelve years older; a score rises with age and, by 1, with the disease."""
    rng = np.random.default_rng(seed)
    ill = np.arange(count) % 2 == 1
    age = 65 + 8 * rng.standard_normal(count) + 12 * ill
    score = 0.15 * (age - 65) + ill + rng.standard_normal(count)
    return Units("ill vs well", "subject", ill, score[None], {"age": age, "sex": rng.choice(["F", "M"], count)})


def test_weighted_auroc_counts_units_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 9, 60).astype(float), rng.random(60) < 0.4
    weights = rng.integers(0, 4, (3, 60))
    expected = [roc_auc_score(positive, scores, sample_weight=one) for one in weights]
    np.testing.assert_allclose(weighted_auroc(scores, positive, weights), expected, atol=1e-12)
    own = np.stack([scores, -scores, scores])
    np.testing.assert_allclose(
        weighted_auroc(own, positive, weights), [expected[0], 1 - expected[1], expected[2]], atol=1e-12
    )
    assert np.isnan(weighted_auroc(scores, positive, weights * positive)).all()


def test_residuals_leave_what_the_negatives_do_not_explain() -> None:
    age = np.array([60.0, 70, 80, 60, 80])
    ill = np.array([False, False, False, True, True])
    design = np.column_stack([np.ones(5), age])
    weights = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 1, 1], [2, 1, 0, 1, 1]])
    found = residuals(0.1 * age + 2 * ill, ill, design, weights)
    np.testing.assert_allclose(found[[0, 2]], [[0, 0, 0, 2, 2]] * 2, atol=1e-9)
    assert np.isnan(found[1]).all()  # one negative determines no line


def test_adjusted_auroc_is_the_planted_one_where_the_crude_one_is_too_high() -> None:
    found = analyse_confounding(confounded(4000, 1), resamples=20)
    by_covariates = {tuple(one.covariates): one.auroc.value for one in found.adjusted}
    assert found.auroc.value > TRUTH + 0.1
    assert by_covariates["age",] == pytest.approx(TRUTH, abs=0.02)
    assert by_covariates["age", "sex"] == pytest.approx(TRUTH, abs=0.02)
    assert by_covariates["sex",] == pytest.approx(found.auroc.value, abs=0.01)
    assert found.pairs is not None
    assert found.pairs.share.value == pytest.approx(TRUTH, abs=0.04)


def test_single_covariates_have_a_direction_and_separate_only_where_they_do() -> None:
    units = confounded(400, 2)
    flipped = Units(units.contrast, "subject", units.positive, units.scores, {"youth": -units.covariates["age"]})
    age, sex = covariate_aurocs(units, resamples=200)
    (youth,) = covariate_aurocs(flipped, resamples=200)
    assert (age.covariate, age.lower, age.separates) == ("age", False, True)
    assert (sex.covariate, sex.separates) == ("sex=F", False)
    assert youth.lower
    assert youth.auroc.value == age.auroc.value
    assert age.auroc.value == pytest.approx(roc_auc_score(units.positive, units.covariates["age"]), abs=1e-12)


def test_unknown_values_are_left_out_and_counted() -> None:
    units = confounded(100, 3)
    age, sex = units.covariates["age"].copy(), units.covariates["sex"].copy()
    age[:3], sex[2:5] = np.nan, ""
    found = analyse_confounding(
        Units(units.contrast, "subject", units.positive, units.scores, {"age": age, "sex": sex}), resamples=20
    )
    assert (found.n_unknown, found.n_positive + found.n_negative) == (5, 95)
    rest = units.select(np.arange(100) >= 5)
    assert found.auroc.value == roc_auc_score(rest.positive, rest.scores[0])


def test_strata_and_pairs_by_hand() -> None:
    ill = np.array([False, True, False, True, False, True])
    score = np.array([[1.0, 2, 3, 3, 5, 4]])
    units = Units("ill vs well", "subject", ill, score, {"site": np.array(["a", "a", "b", "b", "c", "c"])})
    found = analyse_confounding(units, resamples=10)
    assert [(one.values, one.auroc.value) for one in found.strata] == [("a", 1.0), ("b", 0.5), ("c", 0.0)]
    assert all(not one.auroc.has_interval for one in found.strata)  # one of each group varies in no resample
    assert found.pairs is not None
    assert (found.pairs.n_pairs, found.pairs.share.value) == (3, 0.5)


def test_the_difference_to_the_best_covariate_is_paired() -> None:
    units = confounded(200, 4)
    same = Units(
        units.contrast, "subject", units.positive, units.covariates["age"][None], {"age": units.covariates["age"]}
    )
    found = analyse_confounding(same, resamples=50).over_best
    assert found is not None
    assert (found.difference.value, found.difference.low, found.difference.high) == (0, 0, 0)


def test_intervals_of_what_a_model_says_are_widened_and_those_of_few_subjects_not_reliable() -> None:
    units = confounded(60, 5)
    plain, wide = (analyse_confounding(units, resamples=50, widen_by=factor) for factor in (1, 1.4))
    assert plain.single == wide.single
    assert plain.pairs is not None
    assert wide.pairs is not None
    for one, other in ((plain.auroc, wide.auroc), (plain.adjusted[0].auroc, wide.adjusted[0].auroc)):
        assert (one.value, one.reliable) == (other.value, True)
        assert other.low < one.low < one.high < other.high
    assert wide.pairs.share.low < plain.pairs.share.low
    few = analyse_confounding(units.select(np.arange(60) < 18), resamples=50)
    assert few.auroc.reliable is False
    perfect = Units("", "subject", units.positive, units.positive[None].astype(float), units.covariates)
    assert analyse_confounding(perfect, resamples=50).auroc.reliable is False  # 1 to 1 is no interval


def test_contrasts_follow_severity() -> None:
    names = ("Mild", "Non", "Very")
    ((contrast, positive),) = list_contrasts(names, np.array([2, 0, 1])).items()
    assert (contrast, positive.tolist()) == ("all others vs Non", [True, False, True])
    assert list(list_contrasts(("a", "b", "c"), None)) == ["a vs all others", "b vs all others", "c vs all others"]


def make_predictions(seed: int, classes: int, rows: int = 90, subjects: int = 30) -> Predictions:
    """Probabilities in tenths, so that many tie; three slices a subject, in an order of their own."""
    rng = np.random.default_rng(seed)
    labels = np.arange(subjects).repeat(rows // subjects) % classes
    probabilities = (rng.dirichlet(np.ones(classes), rows) * 10).round() / 10 + 1e-9
    made = Predictions.of(
        labels,
        probabilities / probabilities.sum(axis=1, keepdims=True),
        subjects=np.arange(rows) // (rows // subjects),
        class_names=tuple("abcd"[:classes]),
        paths=[f"{row:03d}" for row in range(rows)],
    )
    return made.select(rng.permutation(rows))


@pytest.mark.parametrize("classes", [2, 4])
def test_baselines_are_compared_as_paired_difference_does(classes: int) -> None:
    ours = [make_predictions(seed, classes) for seed in (0, 1)]
    theirs = [make_predictions(seed, classes) for seed in (2, 3)]
    found = score_baselines(ours, {"other": theirs}, resamples=60, seed=5)["other"]
    expected = paired_difference(ours, theirs, auroc, resamples=60, seed=5)
    assert found.auroc_over is not None
    got = (found.auroc_over.value, found.auroc_over.low, found.auroc_over.high)
    assert got == pytest.approx((expected.value, expected.low, expected.high), abs=1e-12)
    bare = score_baselines(ours, {"other": theirs}, resamples=0)["other"]
    assert bare.auroc_over is None
    wide = score_baselines(ours, {"other": theirs}, resamples=60, seed=5, widen_by=1.4)["other"].auroc_over
    assert wide is not None
    assert wide.low < found.auroc_over.low < found.auroc_over.high < wide.high
    assert bare.metrics["accuracy"].value == np.mean([accuracy(one) for one in theirs])


def test_resampled_aurocs_are_those_of_the_metric() -> None:
    rows = make_predictions(7, 3)
    units = np.unique(rows.subjects, return_inverse=True)[1]
    drawn = np.random.default_rng(0).integers(0, 2, (40, 30))
    drawn[0, np.unique(units[rows.labels == 2])] = 0  # no slice of a class: the mean over the others is another metric
    expected = [auroc(rows, weights[units]) for weights in drawn]
    np.testing.assert_allclose(resample_auroc(rows, units, drawn), expected, atol=1e-12)
    assert np.isnan(expected[0])


def test_without_a_second_class_there_is_no_auroc() -> None:
    rows = make_predictions(7, 3)
    alone = rows.select(rows.labels == 1)
    found = score_baselines([alone], {"same": [alone]}, resamples=5)["same"]
    assert found.auroc_over is not None
    assert not found.auroc_over.is_defined
