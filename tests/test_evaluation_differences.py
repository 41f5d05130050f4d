import numpy as np
import pytest

from mriscope.errors import DataError
from mriscope.evaluation.differences import paired_difference
from mriscope.evaluation.metrics import accuracy, macro_f1
from mriscope.evaluation.predictions import Predictions
from mriscope.evaluation.ranking import sign_flip_test, unit_differences

TWO = ("a", "b")


def judged(right: np.ndarray, subjects: np.ndarray | None = None, order: np.ndarray | None = None) -> Predictions:
    """Slices of two classes in turn, each called rightly or not; rows may be given in another order."""
    labels = np.arange(len(right)) % 2
    probabilities = np.eye(2)[np.where(right, labels, 1 - labels)]
    rows = np.arange(len(right)) if order is None else order
    return Predictions.of(
        labels[rows],
        probabilities[rows],
        subjects=None if subjects is None else np.asarray(subjects)[rows],
        paths=[f"slice{row:04}" for row in rows],
        class_names=TWO,
    )


def test_two_subjects_by_hand() -> None:
    """Of resamples of two subjects half hold both, and a quarter one of them twice: differences 0.5, 1 and 0."""
    subjects = np.array([0, 0, 1, 1])
    found = paired_difference(judged(np.ones(4), subjects), judged(np.array([0, 0, 1, 1]), subjects), accuracy)
    assert (found.value, found.low, found.high) == (0.5, 0, 1)
    assert found.p == pytest.approx(0.5, abs=0.05)


def test_a_model_does_not_differ_from_itself() -> None:
    p = judged(np.arange(30) % 3 > 0, np.arange(30) // 2)
    found = paired_difference(p, p, macro_f1, resamples=100)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_p_agrees_with_the_exact_test_by_subject() -> None:
    random = np.random.default_rng(1)
    subjects = np.repeat(np.arange(60), 4)
    for better in (0.0, 0.12, 0.25):
        skill = np.repeat(random.uniform(0.4, 0.7, 60), 4)
        one, other = (judged(random.random(240) < skill + more, subjects) for more in (better, 0))
        exact = sign_flip_test(unit_differences([one], [other]))
        found = paired_difference(one, other, accuracy)
        assert found.p == pytest.approx(exact, abs=0.04)
        assert (found.low > 0 or found.high < 0) == (found.p < 0.05)


def test_without_a_difference_it_is_seldom_sure() -> None:
    """Models that agree within a brain: slices as units would be sure in most cases."""
    random, sure = np.random.default_rng(0), {"subject": 0, "slice": 0}
    subjects = np.repeat(np.arange(50), 20)
    for seed in range(40):
        right = [np.repeat(random.random(50) < 0.7, 20) for _ in range(2)]
        for unit, known in (("subject", subjects), ("slice", None)):
            one, other = (judged(of_one, known) for of_one in right)
            sure[unit] += paired_difference(one, other, accuracy, resamples=150, seed=seed).p < 0.05
    assert sure["subject"] <= 6
    assert sure["slice"] > 20


def test_rows_may_stand_in_any_order() -> None:
    random = np.random.default_rng(0)
    right, subjects, order = random.random((2, 40)) < 0.7, np.arange(40) // 4, random.permutation(40)
    one, other = (judged(of_one, subjects) for of_one in right)
    turned = judged(right[1], subjects, order)
    assert paired_difference(one, other, accuracy, resamples=50) == paired_difference(
        one, turned, accuracy, resamples=50
    )
    there = paired_difference(turned, one, accuracy, resamples=50)
    assert there.value == pytest.approx(-paired_difference(one, other, accuracy, resamples=50).value)


def test_repeats_are_averaged_and_need_not_be_as_many() -> None:
    random = np.random.default_rng(2)
    subjects = np.arange(40) // 2
    one, *others = (judged(random.random(40) < share, subjects) for share in (0.9, 0.6, 0.4))
    found = paired_difference([one], others, accuracy, resamples=200)
    assert found.value == pytest.approx(accuracy(one) - np.mean([accuracy(other) for other in others]))
    assert paired_difference([one] * 3, others, accuracy, resamples=200).low == pytest.approx(found.low)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (judged(np.ones(6)), r"the paths of these differ \(4 rows and 6\)"),
        (judged(np.ones(4), np.array([1, 2, 3, 4])), "the subjects of these differ"),
        (Predictions.of([0] * 4, np.eye(4)[[0] * 4]), "one model knows the classes a, b and the other Mild_Demented"),
    ],
)
def test_other_rows_or_classes_are_refused(other: Predictions, message: str) -> None:
    with pytest.raises(DataError, match=message):
        paired_difference(judged(np.ones(4)), other, accuracy)


def test_a_single_subject_has_no_interval() -> None:
    one, other = judged(np.ones(4), np.zeros(4, int)), judged(np.zeros(4), np.zeros(4, int))
    found = paired_difference(one, other, accuracy, resamples=10)
    assert found.value == 1
    assert np.isnan([found.low, found.high, found.p]).all()
