"""A split in the place of a leaky one."""

import numpy as np
import pytest
from test_data_splits import cohort, subjects_of

from mriscope.audit.leakage import AuditedSplit
from mriscope.audit.repair import repair_split, uneven
from mriscope.data.slices import SliceSet
from mriscope.data.splits import Split, by_slice, shared_subjects
from mriscope.errors import DataError


def audited(split: Split) -> AuditedSplit:
    return AuditedSplit(split.protocol, split.train, split.validation, split.test)


def test_how_uneven_a_split_is_follows_from_its_counts():
    slices = cohort((4, 4), slices=1)
    split = Split("by_slice", np.array([0, 1, 4]), np.array([5]), np.array([2, 3, 6, 7]))
    assert uneven(slices, split) == 0
    split = Split("by_slice", np.array([0, 1, 2]), np.array([4]), np.array([3, 5, 6, 7]))
    assert uneven(slices, split) == 0.5  # 3 of 4, and 1 of 4


def test_a_repaired_split_shares_no_subject_and_keeps_the_sizes_of_the_parts():
    slices = cohort((40, 30, 20, 10))
    leaky = by_slice(slices, test=0.3, validation=0.2, seed=1)
    repaired = repair_split(slices, audited(leaky))
    assert repaired.protocol == "by_subject"
    assert shared_subjects(slices, repaired) == 0
    assert uneven(slices, repaired) <= 0.02
    parts = (repaired.train, repaired.validation, repaired.test)
    assert [len(one) for one in parts] == pytest.approx([280, 70, 150], abs=15)
    assert sorted(np.concatenate(parts).tolist()) == list(range(500))
    assert repair_split(slices, audited(leaky)).test.tolist() == repaired.test.tolist()


def test_slices_in_doubt_are_left_out():
    slices = cohort((6, 6))
    doubtful = np.where(np.arange(60) % 5 == 4, -1, slices.subjects)
    slices = slices.with_subjects(doubtful, slices.positions)
    repaired = repair_split(slices, None)
    parts = (repaired.train, repaired.validation, repaired.test)
    assert sorted(np.concatenate(parts).tolist()) == np.flatnonzero(doubtful >= 0).tolist()
    subjects = [subjects_of(slices, one) for one in parts]
    assert not subjects[0] & subjects[2] | subjects[1] & subjects[2] | subjects[0] & subjects[1]


def test_pairs_of_one_brain_go_to_one_part_whatever_subjects_they_were_given():
    slices = cohort((10, 10))
    same = np.stack([np.arange(0, 50, 10), np.arange(5, 55, 10)], axis=1)  # subjects 0 and 1, 2 and 3, …, 8 and 9
    for seed in range(5):
        repaired = repair_split(slices, None, same_brain=same, seed=seed)
        for part in (repaired.train, repaired.validation, repaired.test):
            held = subjects_of(slices, part)
            assert all((2 * pair in held) == (2 * pair + 1 in held) for pair in range(5))
    doubtful = slices.with_subjects(np.where(np.arange(100) < 5, -1, slices.subjects), slices.positions)
    over_one_in_doubt = repair_split(doubtful, None, same_brain=np.array([[5, 0], [0, 10]]))
    parts = (over_one_in_doubt.train, over_one_in_doubt.validation, over_one_in_doubt.test)
    assert all((1 in held) == (2 in held) for held in (subjects_of(doubtful, part) for part in parts))


@pytest.mark.parametrize("sizes", [(2, 2), (2, 1, 2)])
def test_parts_that_would_be_empty_are_refused_with_what_is_needed(sizes: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"some class needs three, one for each of the .* part; name the subjects"):
        repair_split(cohort(sizes), None)
    assert len(repair_split(cohort((*sizes, 3)), None).validation)


def test_among_even_splits_the_parts_are_as_large_as_before() -> None:
    """Subjects of 2 to 12 slices: a third of the subjects are not a third of the slices."""
    counts = np.random.default_rng(0).integers(2, 13, 60)
    subjects = np.repeat(np.arange(60), counts)
    slices = SliceSet.of(
        np.zeros((len(subjects), 2, 2), np.uint8), subjects % 2, subjects=subjects, class_names=("AD", "CN")
    )
    before = audited(by_slice(slices, test=0.3, validation=0.2, seed=0))
    for seed in range(3):
        repaired = repair_split(slices, before, seed=1000 * seed)
        assert uneven(slices, repaired) <= 0.02
        assert len(repaired.test) == pytest.approx(len(before.test), abs=0.02 * len(slices))
        assert len(repaired.train) == pytest.approx(len(before.train), abs=0.02 * len(slices))


@pytest.mark.parametrize("sure", [0, 2])
def test_too_few_subjects_cannot_be_split(sure: int) -> None:
    slices = cohort((3, 3))
    few = slices.with_subjects(np.where(slices.subjects < sure, slices.subjects, -1), slices.positions)
    with pytest.raises(DataError, match=f"{sure} subjects are beyond doubt among 30 slices.*--manifest"):
        repair_split(few, None)


def test_the_published_split_of_the_real_slices_is_repaired(real_slices: SliceSet) -> None:
    train, test = (np.flatnonzero(real_slices.parts == part) for part in ("train", "test"))
    repaired = repair_split(real_slices, AuditedSplit("published", train, train[:0], test))
    assert shared_subjects(real_slices, repaired) == 0
    assert uneven(real_slices, repaired) <= 0.02
    assert len(repaired.test) == pytest.approx(len(test), rel=0.1)
