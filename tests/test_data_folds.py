import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_data_splits import cohort, subjects_of

from mriscope.data.folds import fold_numbers, fold_split
from mriscope.data.slices import SliceSet
from mriscope.data.splits import shared_subjects
from mriscope.errors import DataError

PROTOCOLS = ("by_slice", "by_subject")


def units_of_class(slices: SliceSet, protocol: str) -> np.ndarray:
    """Classes by unit: of each subject, or of each slice."""
    return slices.labels if protocol == "by_slice" else slices.labels[np.unique(slices.subjects, return_index=True)[1]]


def test_two_hundred_subjects_in_five_folds_by_hand():
    slices = cohort((28, 2, 100, 70), slices=3)
    number = fold_numbers(slices, "by_subject", folds=5)
    assert [len(subjects_of(slices, number == fold)) for fold in range(5)] == [40] * 5
    by_class = [
        [int(((number == fold) & (slices.labels == label)).sum()) // 3 for fold in range(5)] for label in range(4)
    ]
    assert sorted(by_class[0]) == [5, 5, 6, 6, 6]
    assert sorted(by_class[1]) == [0, 0, 0, 1, 1]  # two subjects cannot be in five test parts
    assert by_class[2:] == [[20] * 5, [14] * 5]
    for fold in range(5):
        split = fold_split(slices, "by_subject", folds=5, fold=fold, validation=0.1)
        assert 1 in slices.labels[split.train]
        assert len(subjects_of(slices, split.validation)) == 2 + 8 + 6 + (by_class[1][fold] == 0)


def test_the_rare_class_is_not_judged_in_the_same_folds_of_every_repeat():
    slices = cohort((28, 2, 100, 70), slices=1)
    rare = {
        tuple(sorted(fold_numbers(slices, "by_subject", folds=5, repeat=repeat)[slices.labels == 1].tolist()))
        for repeat in range(20)
    }
    assert len(rare) > 4


@given(
    st.lists(st.integers(1, 14), min_size=2, max_size=4),
    st.integers(2, 6),
    st.integers(0, 5),
    st.sampled_from(PROTOCOLS),
    st.integers(0, 50),
)
def test_folds_cover_every_slice_once_in_equal_parts_of_every_class(per_class, folds, repeat, protocol, seed):
    slices = cohort(tuple(per_class), slices=2)
    classes = units_of_class(slices, protocol)
    if len(classes) < folds:
        with pytest.raises(DataError, match=f"{folds} folds need {folds} su?[bl]"):
            fold_numbers(slices, protocol, folds=folds)
        return
    number = fold_numbers(slices, protocol, folds=folds, repeat=repeat, seed=seed)
    assert number.tolist() == fold_numbers(slices, protocol, folds=folds, repeat=repeat, seed=seed).tolist()
    by_unit = number if protocol == "by_slice" else number[np.unique(slices.subjects, return_index=True)[1]]
    assert np.ptp(np.bincount(by_unit, minlength=folds)) <= 1
    for label in range(len(per_class)):
        assert np.ptp(np.bincount(by_unit[classes == label], minlength=folds)) <= 1
    if protocol == "by_subject":
        assert (number == by_unit[slices.subjects]).all()


@given(st.lists(st.integers(3, 9), min_size=4, max_size=4), st.integers(2, 4), st.sampled_from(PROTOCOLS), st.data())
def test_a_folds_parts_are_disjoint_and_hold_every_class_that_is_large_enough(per_class, folds, protocol, data):
    slices = cohort(tuple(per_class), slices=2)
    fold, seed = data.draw(st.integers(0, folds - 1)), data.draw(st.integers(0, 9))
    split = fold_split(slices, protocol, folds=folds, fold=fold, validation=0.2, seed=seed)
    parts = [split.train, split.validation, split.test]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(slices)))
    number = fold_numbers(slices, protocol, folds=folds, seed=seed)
    assert split.test.tolist() == np.flatnonzero(number == fold).tolist()
    if protocol == "by_subject":
        train, validation, test = (subjects_of(slices, rows) for rows in parts)
        assert not train & validation | train & test | validation & test
        assert shared_subjects(slices, split) == 0
    counts = np.bincount(units_of_class(slices, protocol))
    for label, count in enumerate(counts):
        assert label in slices.labels[split.train]
        held = count - -(-count // folds)  # units that the largest fold leaves
        assert label in slices.labels[split.validation] or held < 2
        assert label in slices.labels[split.test] or count < folds


def test_repeats_and_seeds_draw_other_folds():
    slices = cohort()
    drawn = [
        fold_numbers(slices, "by_subject", folds=4, repeat=repeat, seed=seed).tolist()
        for repeat, seed in ((0, 0), (1, 0), (0, 1))
    ]
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]


def test_folds_by_subject_need_known_subjects():
    slices = cohort()
    unknown = SliceSet.of(slices.images, slices.labels)
    with pytest.raises(DataError, match="the subject of 140 of 140 slices is unknown"):
        fold_split(unknown, "by_subject", folds=5, fold=0)
    assert len(fold_split(unknown, "by_slice", folds=5, fold=0).test) == 28


def test_a_class_of_one_subject_does_not_stop_a_cross_validation():
    slices = cohort((5, 1, 5, 5))
    tested = [1 in slices.labels[fold_split(slices, "by_subject", folds=5, fold=fold).test] for fold in range(5)]
    assert sum(tested) == 1
