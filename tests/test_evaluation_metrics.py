import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mriscope.evaluation import metrics
from mriscope.evaluation.predictions import Predictions

FOUR = ("Mild_Demented", "Moderate_Demented", "Non_Demented", "Very_Mild_Demented")
BY_SEVERITY = [2, 3, 0, 1]  # the labels of FOUR from the least severe
NAN: Any = np.nan  # scikit-learn takes numbers here, though its signature says str
ZERO: Any = 0
ALL = {**metrics.HEADLINE, **metrics.CLASS_METRICS}


def one_hot(labels: list[int], predicted: list[int], class_names: tuple[str, ...] = FOUR) -> Predictions:
    return Predictions.of(labels, np.eye(len(class_names))[predicted], class_names=class_names)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Predictions, np.ndarray]:
    """Predictions with many ties and often absent classes, and weights above 0."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, classes = draw(st.integers(1, 40)), draw(st.integers(2, 5))
    present = draw(st.integers(1, classes))
    scores = random.integers(1, draw(st.integers(2, 8)), size=(count, classes))
    names = FOUR if classes == 4 else ("CN", "SMC", "EMCI", "MCI", "LMCI")[:classes]
    labels = random.permutation(classes)[:present][random.integers(present, size=count)]
    weights = random.uniform(0.1, 3, count) if draw(st.booleans()) else random.integers(1, 4, count).astype(float)
    return Predictions.of(labels, scores / scores.sum(axis=1, keepdims=True), class_names=names), weights


several = settings(max_examples=60)


@several
@given(cases())
def test_counts_agree_with_scikit_learn(case: tuple[Predictions, np.ndarray]) -> None:
    p, weights = case
    labels = range(len(p.class_names))
    ours, theirs = metrics.confusion_matrix(p), sk.confusion_matrix(p.labels, p.predicted, labels=labels)
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == np.int64
    for w in (None, weights):
        theirs = sk.confusion_matrix(p.labels, p.predicted, labels=labels, sample_weight=w)
        np.testing.assert_allclose(metrics.confusion_matrix(p, w), theirs)
        assert metrics.accuracy(p, w) == pytest.approx(sk.accuracy_score(p.labels, p.predicted, sample_weight=w))


@several
@given(cases())
def test_class_metrics_agree_with_scikit_learn(case: tuple[Predictions, np.ndarray]) -> None:
    p, weights = case
    for w in (None, weights):
        theirs = sk.precision_recall_fscore_support(
            p.labels, p.predicted, labels=range(len(p.class_names)), sample_weight=w, zero_division=NAN
        )
        for ours, other in zip((metrics.precision, metrics.recall, metrics.f1), theirs[:3], strict=True):
            np.testing.assert_allclose(ours(p, w), other)


@several
@given(cases())
def test_averages_agree_with_scikit_learn(case: tuple[Predictions, np.ndarray]) -> None:
    p, weights = case
    for w in (None, weights):
        f1 = sk.f1_score(p.labels, p.predicted, average="macro", zero_division=ZERO, sample_weight=w)
        assert metrics.macro_f1(p, w) == pytest.approx(f1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a predicted class without slices
            balanced = sk.balanced_accuracy_score(p.labels, p.predicted, sample_weight=w)
        assert metrics.balanced_accuracy(p, w) == pytest.approx(balanced)


@several
@given(cases())
def test_auroc_agrees_with_scikit_learn(case: tuple[Predictions, np.ndarray]) -> None:
    p, weights = case
    for w in (None, weights):
        found = metrics.class_auroc(p, w)
        for row in range(len(p.class_names)):
            positive = p.labels == row
            if positive.any() and not positive.all():
                theirs = sk.roc_auc_score(positive, p.probabilities[:, row], sample_weight=w)
                assert found[row] == pytest.approx(theirs)
            else:
                assert np.isnan(found[row])
        if len(p.class_names) > 2 and set(p.labels) == set(range(len(p.class_names))):
            theirs = sk.roc_auc_score(p.labels, p.probabilities, multi_class="ovr", sample_weight=w)
            assert metrics.auroc(p, w) == pytest.approx(theirs)


@several
@given(cases())
def test_quadratic_kappa_agrees_with_scikit_learn(case: tuple[Predictions, np.ndarray]) -> None:
    p, weights = case
    order = BY_SEVERITY if p.class_names == FOUR else range(len(p.class_names))
    for w in (None, weights):
        ours = metrics.quadratic_kappa(p, w)
        if len({*p.labels.tolist(), *p.predicted.tolist()}) == 1:
            assert np.isnan(ours)
        else:
            theirs = sk.cohen_kappa_score(
                p.labels, p.predicted, labels=list(order), weights="quadratic", sample_weight=w
            )
            assert ours == pytest.approx(theirs, abs=1e-9)


@several
@given(cases(), st.integers(0, 2**32 - 1))
def test_a_weight_is_how_often_a_slice_counts(case: tuple[Predictions, np.ndarray], seed: int) -> None:
    p, _ = case
    times = np.random.default_rng(seed).integers(0, 4, len(p))
    repeated = Predictions.of(
        np.repeat(p.labels, times), np.repeat(p.probabilities, times, axis=0), class_names=p.class_names
    )
    whole = set(p.labels) == set(repeated.labels)
    for metric in ALL.values():
        if whole or metric not in (metrics.balanced_accuracy, metrics.macro_f1, metrics.auroc):
            np.testing.assert_allclose(metric(p, times), metric(repeated), atol=1e-12)
        else:  # the mean over fewer classes would be another metric
            assert np.isnan(metric(p, times))


@several
@given(cases())
def test_the_roc_curve_agrees_with_scikit_learn(case: tuple[Predictions, np.ndarray]) -> None:
    p, _ = case
    for row in range(len(p.class_names)):
        positive = p.labels == row
        if positive.any() and not positive.all():
            false, true, _ = sk.roc_curve(positive, p.probabilities[:, row], drop_intermediate=False)
            ours = metrics.roc_curve(p, row)
            np.testing.assert_allclose(ours[0], false)
            np.testing.assert_allclose(ours[1], true)


def test_values_by_hand() -> None:
    p = one_hot([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2], ("CN", "MCI", "AD"))
    assert metrics.confusion_matrix(p).tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert metrics.accuracy(p) == pytest.approx(4 / 6)
    np.testing.assert_allclose(metrics.precision(p), [1, 1 / 2, 1 / 2])
    np.testing.assert_allclose(metrics.recall(p), [2 / 3, 1 / 2, 1])
    np.testing.assert_allclose(metrics.f1(p), [4 / 5, 1 / 2, 2 / 3])
    assert metrics.balanced_accuracy(p) == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert metrics.macro_f1(p) == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)
    # observed cost 1 + 1 = 2 of 6; by chance the rows (3, 2, 1) and columns (2, 2, 2) cost (6+24+4+4+8+2)/6 = 8
    assert metrics.quadratic_kappa(p) == pytest.approx(1 - 2 / 8)


def test_auroc_by_hand_counts_a_tie_as_half() -> None:
    p = Predictions.of([0, 0, 1, 1], [[0.9, 0.1], [0.4, 0.6], [0.4, 0.6], [0.2, 0.8]], class_names=("a", "b"))
    np.testing.assert_allclose(metrics.class_auroc(p), [3.5 / 4, 3.5 / 4])
    assert metrics.auroc(p, np.array([0, 2, 1, 0])) == 0.5  # what is left is the tie


def test_a_mistake_costs_kappa_by_its_steps_of_severity() -> None:
    non, very_mild, _, moderate = BY_SEVERITY
    labels = [0, 1, 2, 3] * 5
    near = one_hot([*labels, non], [*labels, very_mild])
    far = one_hot([*labels, non], [*labels, moderate])
    assert 1 > metrics.quadratic_kappa(near) > metrics.quadratic_kappa(far)


def test_a_class_that_is_absent_keeps_its_step_of_severity() -> None:
    p = one_hot([2, 0, 1, 2], [2, 0, 1, 0])  # no very mild slice: mild is still two steps from non-demented
    table = metrics.confusion_matrix(p)[np.ix_(BY_SEVERITY, BY_SEVERITY)]
    cost = np.subtract.outer(range(4), range(4)) ** 2
    expected = 1 - (cost * table).sum() * 4 / (cost * np.outer(table.sum(1), table.sum(0))).sum()
    assert metrics.quadratic_kappa(p) == pytest.approx(expected)
    same = one_hot([1, 0, 2, 1], [1, 0, 2, 0], ("Mild_Demented", "Non_Demented", "Moderate_Demented"))
    assert metrics.quadratic_kappa(same) == pytest.approx(expected)


def test_absent_classes_by_hand() -> None:
    p = one_hot([0, 0, 2], [0, 1, 2])  # class 1 has no slices, class 3 neither slices nor predictions
    np.testing.assert_allclose(metrics.recall(p), [0.5, np.nan, 1, np.nan])
    np.testing.assert_allclose(metrics.precision(p), [1, 0, 1, np.nan])
    np.testing.assert_allclose(metrics.f1(p), [2 / 3, 0, 1, np.nan])
    assert metrics.balanced_accuracy(p) == pytest.approx(0.75)
    assert metrics.macro_f1(p) == pytest.approx((2 / 3 + 0 + 1) / 3)
    np.testing.assert_allclose(metrics.class_auroc(p), [0.75, np.nan, 1, np.nan])
    assert metrics.auroc(p) == pytest.approx(0.875)


def test_one_class_has_no_auroc_and_no_kappa() -> None:
    p = one_hot([1, 1], [1, 1])
    assert np.isnan(metrics.auroc(p))
    assert np.isnan(metrics.quadratic_kappa(p))
    assert metrics.accuracy(p) == metrics.macro_f1(p) == 1


def test_without_slices_every_metric_is_nan() -> None:
    empty = one_hot([], [])
    for name, metric in ALL.items():
        assert np.isnan(metric(empty)).all(), name
        assert np.isnan(metric(one_hot([0, 1], [1, 1]), np.zeros(2))).all(), name


def test_the_headline_names_are_these() -> None:
    assert list(metrics.HEADLINE) == ["accuracy", "balanced_accuracy", "macro_f1", "auroc", "quadratic_kappa"]


def test_chance_is_what_guesses_in_the_proportions_of_the_classes_come_to() -> None:
    counts = [6000, 0, 9000, 45000]
    random = np.random.default_rng(0)
    labels = np.repeat(range(4), counts)
    guesses = one_hot(labels.tolist(), random.permutation(labels).tolist())
    expected = metrics.chance(counts)
    assert list(expected) == list(metrics.HEADLINE)
    for name, value in expected.items():
        assert metrics.HEADLINE[name](guesses) == pytest.approx(value, abs=0.02), name
    for metric in (metrics.precision, metrics.recall, metrics.f1):
        assert metric(guesses)[[0, 2, 3]] == pytest.approx([0.1, 0.15, 0.75], abs=0.02)
    assert metrics.chance([0, 0]) == {}


@several
@given(cases())
def test_losses_agree_with_scikit_learn(case: tuple[Predictions, np.ndarray]) -> None:
    p, weights = case
    labels = list(range(len(p.class_names)))
    probabilities = p.probabilities.astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    for w in (None, weights):
        theirs = sk.log_loss(p.labels, probabilities, labels=labels, sample_weight=w)
        assert metrics.log_loss(p, w) == pytest.approx(theirs, rel=1e-5, abs=1e-6)
        if len(labels) == 2:
            theirs = sk.brier_score_loss(p.labels, probabilities[:, 1], pos_label=1, sample_weight=w)
        else:
            theirs = np.average(((probabilities - np.eye(len(labels))[p.labels]) ** 2).sum(axis=1), weights=w)
        assert metrics.brier_score(p, w) == pytest.approx(theirs, rel=1e-5, abs=1e-6)
        ranks = np.array([2, 3, 0, 1] if p.class_names == FOUR else labels)
        theirs = sk.mean_absolute_error(ranks[p.labels], ranks[p.predicted], sample_weight=w)
        assert metrics.severity_error(p, w) == pytest.approx(theirs)


def test_losses_by_hand() -> None:
    p = Predictions.of([0, 1], [[0.8, 0.2], [0.75, 0.25]], class_names=("a", "b"))
    assert metrics.log_loss(p) == pytest.approx((np.log(1.25) + np.log(4)) / 2)
    assert metrics.brier_score(p) == pytest.approx((0.04 + 0.5625) / 2)
    assert metrics.brier_score(one_hot([2], [0])) == 2
    assert metrics.log_loss(one_hot([2], [0])) == pytest.approx(23 * np.log(2))  # and not infinite
    assert metrics.severity_error(one_hot([2, 1], [0, 1])) == 1  # Non called Mild; Moderate rightly called
    nothing = one_hot([], [])
    assert np.isnan([metrics.log_loss(nothing), metrics.brier_score(nothing), metrics.severity_error(nothing)]).all()


def test_the_roc_curve_of_no_slices_has_no_rates():
    nothing = Predictions.of(labels=[], probabilities=np.empty((0, 2)), class_names=("sick", "well"))
    for rates in metrics.roc_curve(nothing, 0):
        assert len(rates) == 2
        assert np.isnan(rates).all()
