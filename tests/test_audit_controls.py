"""Controls: nearest slices and what shuffled labels leave, computed by hand on tiny sets."""

import numpy as np
import pytest

from mriscope.audit.controls import (
    Matches,
    Neighbours,
    chance_agreement,
    find_neighbours,
    match,
    permuted,
    run_controls,
    score,
    subject_classes,
)
from mriscope.data.slices import SliceSet
from mriscope.data.splits import by_subject
from mriscope.errors import DataError


def rows(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def brains(subjects: int = 12, slices: int = 4, size: int = 16) -> SliceSet:
    """Slices of noise: those of a subject share most of it, those of two nothing; two classes in turn."""
    random = np.random.default_rng(0)
    own = random.integers(0, 200, (subjects, 1, size, size))
    images = (own + random.integers(0, 56, (subjects, slices, size, size))).astype(np.uint8)
    numbers = np.arange(subjects).repeat(slices)
    return SliceSet.of(images.reshape(-1, size, size), numbers % 2, subjects=numbers, class_names=("one", "two"))


def test_the_nearest_among_a_reference_is_the_first_that_is_in_it():
    table = Neighbours(
        np.zeros((4, 2, 2), np.uint8), np.array([[0.9, 0.8], [0.7, 0.6]], np.float32), rows(1, 2, 3, 0).reshape(2, 2)
    )
    similarity, index = table.among(rows(0, 1), rows(2, 3))
    assert similarity.tolist() == pytest.approx([0.8, 0.7])
    assert index.tolist() == [2, 3]


def test_what_is_beyond_the_table_is_looked_for():
    slices = brains()
    whole = find_neighbours(slices.images)
    short = Neighbours(slices.images, whole.similarity[:, :2], whole.index[:, :2])
    train, test = np.arange(20, 48), np.arange(20)
    for one, other in zip(whole.among(test, train), short.among(test, train), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_score_counts_right_labels_over_all_draws():
    slices = SliceSet.of(np.zeros((6, 2, 2), np.uint8), [0, 0, 1, 1, 1, 0], subjects=[0, 0, 1, 1, 2, 3])
    draws = [Matches(rows(0, 2), rows(1, 3)), Matches(rows(4, 5), rows(0, 1))]  # right, right; wrong, right
    found = score(slices, draws)
    assert found is not None
    assert (found.draws, found.n_slices, found.n_subjects, found.unit) == (2, 4, 4, "subject")
    assert found.accuracy.value == 0.75
    assert found.balanced_accuracy.value == 0.75  # 1/2 of class 1, 2/2 of class 0
    assert (found.least, found.greatest, found.majority) == (0.5, 1.0, 0.5)
    assert found.accuracy.low <= 0.75 <= found.accuracy.high
    assert score(slices, []) is None


def test_chance_is_the_probability_that_two_subjects_agree():
    assert chance_agreement(rows(0, 0, 0, 1)) == pytest.approx(3 / 6)  # of 6 pairs, 3 agree
    assert chance_agreement(rows(0, 1)) == 0
    assert np.isnan(chance_agreement(rows(0)))


def test_a_subjects_class_is_that_of_most_of_its_slices():
    slices = SliceSet.of(np.zeros((5, 2, 2), np.uint8), [0, 1, 1, 0, 0], subjects=[7, 7, 7, 2, 2])
    classes, subject = subject_classes(slices)
    assert classes.tolist() == [0, 1]
    assert subject.tolist() == [1, 1, 1, 0, 0]
    with pytest.raises(DataError, match="subject of a slice is unknown"):
        subject_classes(SliceSet.of(slices.images, slices.labels))


def test_shuffled_labels_stay_right_within_a_subject_and_fall_to_chance_between_them():
    slices = brains(subjects=40)
    within = [Matches(np.arange(0, 160, 4), np.arange(1, 160, 4))]
    between = [Matches(np.arange(0, 160, 4), (np.arange(0, 160, 4) + 4) % 160)]
    same, other = (permuted(slices, draws, 200, seed=1) for draws in (within, between))
    assert same is not None
    assert (same.mean, same.least, same.greatest) == (1, 1, 1)
    assert other is not None
    assert other.chance == pytest.approx(19 / 39)
    assert other.mean == pytest.approx(other.chance, abs=0.03)
    assert permuted(SliceSet.of(slices.images, slices.labels), within, 5) is None


def test_controls_tell_recognised_brains_from_knowledge():
    slices = brains(subjects=24)
    table = find_neighbours(slices.images)
    leaky = np.arange(0, 96, 4)
    found = run_controls(slices, table, (np.setdiff1d(np.arange(96), leaky), leaky), draws=3, seed=5)
    assert found.audited is not None
    assert found.by_slice is not None
    assert found.by_subject is not None
    assert found.audited.accuracy.value == found.by_slice.accuracy.value == 1
    assert found.by_subject.accuracy.value < 0.8  # of noise nothing is known
    assert found.audited_permuted is not None
    assert found.by_subject_permuted is not None
    assert found.audited_permuted.mean == 1
    assert found.by_subject_permuted.mean < 0.7
    assert run_controls(slices, table, (np.setdiff1d(np.arange(96), leaky), leaky), draws=3, seed=5) == found


def test_without_subjects_there_is_no_control_by_subject():
    slices = brains()
    unknown = SliceSet.of(slices.images, slices.labels, class_names=slices.class_names)
    found = run_controls(unknown, find_neighbours(slices.images), None, draws=2)
    assert found.by_slice is not None
    assert found.by_slice.unit == "slice"
    assert (found.audited, found.by_subject, found.audited_permuted, found.by_subject_permuted) == (None,) * 4


def test_matches_of_a_split_by_subject_are_of_other_subjects():
    slices = brains()
    split = by_subject(slices, seed=0)
    found = match(find_neighbours(slices.images), np.concatenate([split.train, split.validation]), split.test)
    assert not np.intersect1d(slices.subjects[found.nearest], slices.subjects[found.rows]).size
