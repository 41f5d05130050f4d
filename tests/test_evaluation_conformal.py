"""Prediction sets: thresholds worked out by hand, and coverage over draws of planted subjects."""

import numpy as np
import pytest

from mriscope.errors import ArgumentError, DataError
from mriscope.evaluation.conformal import fit_conformal, prediction_sets, share_covered
from mriscope.evaluation.predictions import Predictions
from mriscope.results import Conformal

TWO = ("a", "b")


def _predictions(scores, subjects):
    """Predictions of class a whose true class lacks these probabilities."""
    return Predictions.of(
        np.zeros(len(scores), int), [[1 - one, one] for one in scores], subjects=subjects, class_names=TWO
    )


def test_each_subject_weighs_the_same_however_many_slices_it_has():
    """Weights of 1/4 a subject: 0.1 and 0.2 reach 1/2, the three slices of the third subject 1/12 each."""
    found = _predictions([0.1, 0.2, 0.3, 0.4, 0.5], [0, 1, 2, 2, 2])
    for coverage, threshold in ((0.5, 0.2), (0.55, 0.3), (0.65, 0.4), (0.75, 0.5)):
        assert fit_conformal(found, coverage=coverage).threshold == pytest.approx(threshold)
    assert fit_conformal(found, coverage=0.5).n_units == 3


def test_too_few_subjects_exclude_no_class():
    found = fit_conformal(_predictions(np.linspace(0, 0.8, 8), range(8)), coverage=0.9)
    assert np.isnan(found.threshold)
    assert prediction_sets(np.array([[1.0, 0.0]], np.float32), found).all()
    nine = fit_conformal(_predictions(np.linspace(0, 0.8, 9), range(9)), coverage=0.9)
    assert nine.threshold == pytest.approx(0.8)


def test_slices_are_units_where_subjects_are_unknown():
    found = fit_conformal(_predictions(np.linspace(0, 0.9, 10), [-1] * 10), unseen=True)
    assert (found.unit, found.n_units, found.unseen) == ("slice", 10, None)


def test_sets_hold_the_likely_classes_and_always_the_most_probable():
    conformal = Conformal(coverage=0.9, threshold=0.7, unit="subject", n_units=20, unseen=True)
    rows = np.array([[0.5, 0.35, 0.15], [0.25, 0.28, 0.47]], np.float32)
    assert prediction_sets(rows, conformal).tolist() == [[True, True, False], [False, False, True]]
    strict = conformal.model_copy(update={"threshold": 0.1})
    assert prediction_sets(rows, strict).tolist() == [[True, False, False], [False, False, True]]


def test_slices_of_new_subjects_are_covered_as_often_as_promised():
    """Scores are a subject's own level plus noise; the bound holds over draws of all subjects (4,000 here)."""
    stream = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        levels = stream.uniform(0, 0.9, 60)
        counts = stream.integers(1, 12, 60)
        subjects = np.repeat(np.arange(60), counts)
        scores = np.clip(levels[subjects] + stream.uniform(-0.1, 0.1, len(subjects)), 0, 1)
        known = subjects < 40
        conformal = fit_conformal(_predictions(scores[known], subjects[known]))
        right = scores[~known] <= conformal.threshold
        numbers = subjects[~known] - 40
        shares.append(np.mean(np.bincount(numbers, right) / np.bincount(numbers)))
    assert np.mean(shares) == pytest.approx(0.9 + 0.1 / 41, abs=0.02)


def test_coverage_is_a_mean_over_subjects():
    conformal = Conformal(coverage=0.9, threshold=0.3, unit="subject", n_units=20, unseen=True)
    found = _predictions([0.2, 0.8, 0.8, 0.8], [0, 1, 1, 1])
    assert share_covered(found, conformal) == 0.5
    with pytest.raises(DataError, match="subject of some slices is unknown"):
        share_covered(_predictions([0.2], [-1]), conformal)


def test_nothing_is_calibrated_on_nothing():
    with pytest.raises(DataError, match="the validation part is empty"):
        fit_conformal(_predictions([], []))
    with pytest.raises(ArgumentError, match=r"coverage is 90; give a share"):
        fit_conformal(_predictions([0.1], [0]), coverage=90)
