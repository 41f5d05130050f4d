"""What a split shares, counted by hand on a dozen slices."""

from dataclasses import replace

import numpy as np
import pytest
from audit_sets import nothing_found

from mriscope.audit.controls import Neighbours, find_neighbours
from mriscope.audit.leakage import (
    AuditedSplit,
    audit_slices,
    copy_groups,
    near_duplicate_threshold,
    nearest_by_subject,
    search_of,
    similar_pairs,
    worst_pairs,
)
from mriscope.data.slices import SliceSet
from mriscope.errors import DataError
from mriscope.results import LeakageReport, Power

CLASSES = ("sick", "well")


def rows(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, 8, 8), np.uint8)


def split(train: np.ndarray, validation: np.ndarray, test: np.ndarray) -> AuditedSplit:
    return AuditedSplit("by_slice", train, validation, test)


def audit(slices: SliceSet, parts: AuditedSplit | None) -> LeakageReport:
    """Audit slices of which pixels tell nothing, and a manifest what it says."""
    known_from = "manifest" if slices.n_subjects else None
    found = nothing_found(len(slices))
    return audit_slices(slices, find_neighbours(slices.images), found, known_from=known_from, split=parts)


def test_what_the_test_part_shares_is_counted():
    #        row: 0  1  2  3  4  5  6  7  8
    subjects = [0, 0, 0, 1, 1, 2, 2, 3, 3]
    labels = [0, 0, 0, 0, 0, 1, 1, 1, 1]
    slices = SliceSet.of(noise(9), labels, subjects=subjects, class_names=CLASSES)
    report = audit(slices, split(rows(0, 5), rows(3, 6), rows(1, 2, 4, 7, 8)))
    assert report.leaky is True
    assert report.split is not None
    shared = report.split.shared
    assert (shared.test_slices, shared.test_subjects) == (5, 3)
    assert (shared.slices_in_train, shared.slices_in_validation, shared.slices_in_either) == (2, 1, 3)
    assert (shared.subjects_in_train, shared.subjects_in_validation, shared.subjects_in_either) == (1, 1, 2)
    assert report.split.classes["sick"].slices_in_either == 3
    assert report.split.classes["well"].subjects_in_either == 0
    assert report.split.parts == {"train": 2, "validation": 2, "test": 5}
    assert report.classes["sick"].subjects == 2
    assert (report.classes["well"].slices, report.classes["well"].share) == (4, 4 / 9)
    assert report.classes["well"].parts == {"train": 1, "validation": 1, "test": 2}
    assert (report.subjects.n, report.subjects.fewest, report.subjects.most) == (4, 2, 3)
    assert (report.subjects.known_slices, report.subjects.groups, report.subjects.level) == (9, 0, None)
    assert report.split.power == Power(shared=3, settled=2, open=0, altered=0, searched=0)


def test_a_split_of_subjects_shares_nothing_and_unknown_subjects_leave_it_open():
    slices = SliceSet.of(noise(6), [0, 0, 1, 1, 0, 1], subjects=[0, 0, 1, 1, 2, 3], class_names=CLASSES)
    parts = split(rows(0, 1, 2, 3), rows(), rows(4, 5))
    assert audit(slices, parts).leaky is False
    unknown = audit(SliceSet.of(slices.images, slices.labels, class_names=CLASSES), parts)
    assert unknown.leaky is None
    assert unknown.split is not None
    assert unknown.split.shared.slices_in_either is None
    assert unknown.subjects.n is None
    assert audit(slices, None).leaky is None


def test_where_some_subjects_are_unknown_a_known_one_may_still_be_shared():
    images, labels = noise(4), [0, 1, 0, 1]
    parts = split(rows(0, 1), rows(), rows(2, 3))
    one = SliceSet.of(images, labels, subjects=[5, -1, 5, -1], class_names=CLASSES)
    assert audit(one, parts).leaky is True
    none = SliceSet.of(images, labels, subjects=[5, -1, 6, -1], class_names=CLASSES)
    report = audit(none, parts)
    assert report.leaky is None
    assert (report.subjects.n, report.subjects.known_slices) == (2, 2)
    assert report.split is not None
    assert report.split.power.open == 2
    assert (report.split.shared.test_subjects, report.split.shared.subjects_in_either) == (1, 0)


def test_exact_copies_are_grouped_and_a_blank_slice_is_a_copy_of_none():
    images = noise(6)
    images[3], images[4:] = images[0], 7
    assert len(np.unique(copy_groups(images))) == 5
    slices = SliceSet.of(images, [0, 0, 0, 1, 0, 1], class_names=CLASSES)
    report = audit(slices, split(rows(0, 1, 4), rows(), rows(2, 3, 5)))
    assert (report.duplicates.exact_groups, report.duplicates.exact_slices) == (1, 2)
    assert report.split is not None
    assert (report.split.shared.exact_copies, report.split.classes["well"].exact_copies) == (1, 1)
    assert report.leaky is True  # though no subject is known
    assert report.conflicts.exact_groups == 1


@pytest.mark.parametrize("grey", [0, 1, 255])
def test_slices_of_one_grey_value_are_copies_of_none(grey: int):
    images = np.full((3, 8, 8), grey, np.uint8)
    images[0, 0, 0] = 100
    assert len(np.unique(copy_groups(images))) == 3
    assert len(np.unique(copy_groups(images[[0, 0, 1]]))) == 2


def test_what_pixels_tell_of_the_set_is_reported():
    """Groups of 3, 1 and 2 slices: two show more than one slice of a brain; two pairs of copies are four slices."""
    images = noise(6)
    images[2], images[4] = images[0], images[3]
    slices = SliceSet.of(images, [0, 1, 0, 0, 1, 1], class_names=CLASSES)
    found = replace(nothing_found(6), groups=rows(0, 0, 0, 1, 2, 2), level=0.5, weakest=0.625, strongest=0.25)
    report = audit_slices(slices, find_neighbours(images), found, known_from=None)
    told = report.subjects
    assert (told.groups, told.level, told.weakest, told.strongest) == (2, 0.5, 0.625, 0.25)
    assert (told.clear, told.threshold, told.known_slices, told.fewest, told.most) == (False, 0.999, 0, None, None)
    assert (report.duplicates.exact_groups, report.duplicates.exact_slices) == (2, 4)
    assert report.duplicates.near_pairs_across_subjects is None
    assert (report.conflicts.exact_groups, report.conflicts.subjects) == (1, None)
    nothing = audit(slices, None).subjects
    assert (nothing.groups, nothing.level, nothing.weakest, nothing.strongest) == (0, None, None, None)


def test_a_conflict_is_between_slices_whose_labels_differ_and_twenty_are_listed():
    images = noise(50)
    images[25:] = images[:25]
    labels = [0] * 25 + [0] * 2 + [1] * 23
    slices = SliceSet.of(images, labels, subjects=[*range(25), *range(25)], class_names=CLASSES)
    report = audit(slices, None)
    assert (report.conflicts.exact_groups, report.conflicts.near_pairs, report.conflicts.subjects) == (23, 23, 23)
    assert len(report.conflicts.examples) == 20
    assert (report.duplicates.near_slices, report.duplicates.near_pairs_across_subjects) == (50, 0)


def test_near_duplicates_and_labels_that_contradict_each_other():
    images = noise(6)
    images[4] = np.clip(images[1].astype(int) + 3, 0, 255)  # brighter, and so correlated
    slices = SliceSet.of(images, [0, 0, 0, 1, 1, 1], subjects=[0, 1, 2, 0, 3, 4], class_names=CLASSES)
    report = audit(slices, split(rows(0, 1, 2), rows(), rows(3, 4, 5)))
    assert report.duplicates.near_slices == 2
    assert report.duplicates.near_pairs_across_subjects == 1
    assert report.conflicts.near_pairs == 1
    assert report.conflicts.subjects == 1  # 0 has a slice of each class
    assert report.conflicts.examples == (("1", "sick", "4", "well"),)
    assert report.split is not None
    assert report.split.shared.near_copies == 1


def test_pairs_come_once_and_the_most_similar_first():
    similarity = np.array([[0.5, 0.2], [0.9, 0.5], [0.9, 0.2]], np.float32)
    table = Neighbours(noise(3), similarity, rows(1, 2, 2, 0, 1, 0).reshape(3, 2))
    pairs, values = similar_pairs(table, 0.4)
    assert pairs.tolist() == [[1, 2], [0, 1]]
    assert values.tolist() == pytest.approx([0.9, 0.5])


def test_the_nearest_within_a_subject_and_beyond_it():
    similarity = np.array([[0.9, 0.3], [0.9, 0.4], [0.4, 0.3]], np.float32)
    table = Neighbours(noise(3), similarity, rows(1, 2, 0, 2, 1, 0).reshape(3, 2))
    same, other = nearest_by_subject(SliceSet.of(noise(3), [0, 0, 0], subjects=[8, 8, 9]), table)
    np.testing.assert_allclose(same, [0.9, 0.9, np.nan], rtol=1e-6)
    np.testing.assert_allclose(other, [0.3, 0.4, 0.4], rtol=1e-6)


def test_a_slice_of_unknown_subject_has_no_nearest_within_or_beyond_it():
    similarity = np.array([[0.9, 0.3], [0.9, 0.4], [0.4, 0.3]], np.float32)
    table = Neighbours(noise(3), similarity, rows(1, 2, 0, 2, 1, 0).reshape(3, 2))
    same, other = nearest_by_subject(SliceSet.of(noise(3), [0, 0, 0], subjects=[8, -1, 9]), table)
    assert np.isnan(same).all()
    np.testing.assert_allclose(other, [0.3, np.nan, 0.3], rtol=1e-6)
    same, _ = nearest_by_subject(SliceSet.of(noise(3), [0, 0, 0], subjects=[-1, -1, 9]), table)
    assert np.isnan(same).all()


def test_near_duplicates_are_more_alike_than_any_two_subjects_where_these_are_known():
    similarity = np.array([[0.9, 0.3], [0.9, 0.4], [0.4, 0.3]], np.float32)
    table = Neighbours(noise(3), similarity, rows(1, 2, 0, 2, 1, 0).reshape(3, 2))
    nothing = nothing_found(3)
    assert near_duplicate_threshold(table, nothing) == 0.999
    known = replace(nothing, subjects=rows(0, 0, 1))
    assert near_duplicate_threshold(table, known) == pytest.approx(0.4)
    assert near_duplicate_threshold(table, replace(nothing, subjects=rows(0, 0, -1))) == 0.999


def test_slices_that_are_proven_to_be_shared_are_not_looked_for():
    slices = SliceSet.of(noise(3), [0, 0, 0], class_names=CLASSES)
    found = nothing_found(3)
    both = split(rows(0), rows(), rows(1, 2))
    calls: list[tuple[int, int]] = []
    search = search_of(slices, replace(found, proven=rows(0, 0, 2)), both, progress=lambda *call: calls.append(call))
    assert search is not None
    assert calls[-1] == (1, 1)
    assert search.queries.tolist() == [2]
    assert search_of(slices, replace(found, proven=rows(0, 0, 0)), both) is None


def blend(image: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    return np.rint((1 - share) * image + share * other).astype(np.uint8)


def test_the_worst_pairs_are_one_for_each_subject():
    images = noise(6)  # the pairs below differ in correlation by far more than rounding
    images[1], images[2] = blend(images[0], images[1], 0.1), blend(images[0], images[2], 0.3)
    images[5] = blend(images[3], images[5], 0.2)
    slices = SliceSet.of(images, [0] * 6, subjects=[0, 0, 0, 1, 2, 1])
    pairs = worst_pairs(slices, find_neighbours(images), split(rows(0, 3, 4), rows(), rows(1, 2, 5)), 5)
    assert [(pair.row, pair.other) for pair in pairs] == [(1, 0), (5, 3)]
    assert [pair.similarity for pair in pairs] == sorted((pair.similarity for pair in pairs), reverse=True)
    assert len(worst_pairs(slices, find_neighbours(images), None, 1)) == 1
    anywhere = worst_pairs(slices, find_neighbours(images), None, 9)
    assert [{pair.row, pair.other} for pair in anywhere[:2]] == [{0, 1}, {3, 5}]
    unknown = SliceSet.of(images, [0] * 6)
    every = worst_pairs(unknown, find_neighbours(images), split(rows(0, 3, 4), rows(), rows(1, 2, 5)), 3)
    assert [(pair.row, pair.other) for pair in every] == [(1, 0), (5, 3), (2, 0)]  # each for itself


def test_two_slices_can_be_audited():
    report = audit(SliceSet.of(noise(2), [0, 1], class_names=CLASSES), None)
    assert (report.n_slices, report.subjects.groups, report.duplicates.near_slices) == (2, 0, 0)


def test_a_single_slice_cannot_be_audited():
    with pytest.raises(DataError, match="compares slices, and there is 1"):
        audit_slices(
            SliceSet.of(noise(1), [0]),
            Neighbours(noise(1), np.zeros((1, 0), np.float32), np.zeros((1, 0), np.int64)),
            nothing_found(1),
            known_from=None,
        )
