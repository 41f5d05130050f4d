import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mriscope.data.slices import SliceSet
from mriscope.data.splits import by_slice, by_subject, published, read_split, shared_subjects, split_record
from mriscope.errors import DataError, RunError


def cohort(per_class: tuple[int, ...] = (6, 4, 10, 8), slices: int = 5, parts: list[str] | None = None) -> SliceSet:
    """Subjects of each class, numbered on, with some slices each."""
    labels = np.repeat(np.arange(len(per_class)), np.array(per_class) * slices)
    subjects = np.repeat(np.arange(sum(per_class)), slices)
    return SliceSet.of(np.zeros((len(labels), 2, 2), np.uint8), labels, subjects=subjects, parts=parts)


def subjects_of(slices: SliceSet, rows: np.ndarray) -> set[int]:
    return set(slices.subjects[rows].tolist())


@given(
    st.lists(st.integers(3, 12), min_size=4, max_size=4),
    st.floats(0.1, 0.5),
    st.floats(0.1, 0.5),
    st.integers(0, 100),
)
def test_by_subject_shares_no_subject_and_no_class_is_missing(per_class, test, validation, seed):
    slices = cohort(tuple(per_class))
    split = by_subject(slices, test=test, validation=validation, seed=seed)
    parts = [split.train, split.validation, split.test]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(slices)))
    subjects = [subjects_of(slices, rows) for rows in parts]
    assert not subjects[0] & subjects[1]
    assert not subjects[0] & subjects[2]
    assert not subjects[1] & subjects[2]
    for rows in parts:
        assert set(slices.labels[rows].tolist()) == {0, 1, 2, 3}
    assert shared_subjects(slices, split) == 0


def test_shares_are_those_asked_for():
    slices = cohort((50, 50, 50, 50), slices=1)
    split = by_slice(slices, test=0.2, validation=0.25, seed=3)
    assert (len(split.test), len(split.validation), len(split.train)) == (40, 40, 120)
    assert np.bincount(slices.labels[split.test]).tolist() == [10] * 4


def test_by_slice_shares_subjects_and_says_how_many():
    slices = cohort(slices=20)
    split = by_slice(slices, seed=0)
    assert shared_subjects(slices, split) == len(subjects_of(slices, split.test)) > 20
    unknown = SliceSet.of(slices.images, slices.labels)
    assert shared_subjects(unknown, split) is None


def test_where_some_subjects_are_unknown_only_a_shared_one_is_counted():
    slices = cohort((3, 3), slices=2)
    split = by_subject(slices, test=0.4, validation=0.3, seed=0)
    assert shared_subjects(slices, split) == 0
    for doubtful in (split.train[0], split.validation[0], split.test[0]):
        subjects = np.where(np.arange(12) == doubtful, -1, slices.subjects)
        assert shared_subjects(slices.with_subjects(subjects, slices.positions), split) is None
        subjects[split.test[-1]] = subjects[split.train[-1]]
        assert shared_subjects(slices.with_subjects(subjects, slices.positions), split) == 1


def test_a_split_is_drawn_by_its_seed_alone():
    slices = cohort()
    one, same, other = (by_subject(slices, seed=seed) for seed in (1, 1, 2))
    assert one.test.tolist() == same.test.tolist() != other.test.tolist()


def test_published_keeps_the_test_part_and_divides_the_training_part():
    slices = cohort(parts=["train"] * 100 + ["test"] * 40)
    split = published(slices, validation=0.2, seed=0)
    assert split.test.tolist() == list(range(100, 140))
    assert sorted([*split.train, *split.validation]) == list(range(100))
    assert not subjects_of(slices, split.train) & subjects_of(slices, split.validation)


def test_a_published_split_that_shares_subjects_validates_by_slice_as_it_tests():
    parts = ["train", "train", "train", "train", "test"] * 28
    split = published(cohort(parts=parts), validation=0.25, seed=0)
    assert shared_subjects(cohort(), split) == 28
    assert len(split.validation) == 28  # a quarter of the slices of each class: 6 + 4 + 10 + 8
    assert subjects_of(cohort(), split.validation) & subjects_of(cohort(), split.train)


def test_seeds_draw_what_they_always_drew():
    """Rows written down before cross-validation came: results of old recipes must not change."""
    slices, parts = cohort(), ["train"] * 100 + ["test"] * 40
    unknown = SliceSet.of(slices.images, slices.labels, parts=parts)
    for split, test, validation, sizes in (
        (by_slice(slices, seed=3), [6, 16, 20, 21], [0, 24, 34, 40, 53, 68, 77, 89], (101, 11, 28)),
        (by_subject(slices, seed=3), [25, 26, 27, 28], [0, 1, 2, 3, 4, 35, 36, 37], (90, 20, 30)),
        (published(cohort(parts=parts), seed=3), [100, 101, 102, 103], [0, 1, 2, 3, 4, 40, 41, 42], (85, 15, 40)),
        (published(unknown, seed=3), [100, 101, 102, 103], [23, 26, 29, 35, 44, 61, 76, 81], (90, 10, 40)),
    ):
        assert split.test[:4].tolist() == test
        assert split.validation[:8].tolist() == validation
        assert (len(split.train), len(split.validation), len(split.test)) == sizes


def test_splits_that_cannot_be_made_say_why():
    slices = cohort()
    with pytest.raises(DataError, match="publishes no train and test part"):
        published(slices)
    with pytest.raises(DataError, match="the subject of 140 of 140 slices is unknown"):
        by_subject(SliceSet.of(slices.images, slices.labels))
    partly = slices.with_subjects(np.where(slices.subjects == 3, -1, slices.subjects), slices.positions)
    with pytest.raises(DataError, match=r"the subject of 5 of 140 slices is unknown.*manifest.*--repair DIR"):
        by_subject(partly)
    with pytest.raises(DataError, match="part of the by_slice split is empty"):
        by_slice(slices[:1])


def test_a_recorded_split_is_read_back(tmp_path):
    slices = cohort()
    split = by_subject(slices, seed=5)
    file = tmp_path / "split.json"
    split_record(slices, split, seed=5).write(file)
    again = read_split(file, slices)
    assert again.protocol == "by_subject"
    for part in ("train", "validation", "test"):
        assert getattr(again, part).tolist() == getattr(split, part).tolist()


def test_a_split_for_other_data_or_a_damaged_one_is_refused(tmp_path):
    slices = cohort()
    file = tmp_path / "split.json"
    record = split_record(slices, by_subject(slices), seed=0)
    record.write(file)
    with pytest.raises(RunError, match="was made for other data"):
        read_split(file, cohort((5, 5, 5, 5)))
    file.write_text(record.to_json()[:100])
    with pytest.raises(RunError, match="is damaged: it is no valid JSON"):
        read_split(file, slices)
    parts = record.parts.model_copy(update={"test": ["nowhere.png"]})
    record.model_copy(update={"parts": parts}).write(file)
    with pytest.raises(RunError, match=r"names the slice 'nowhere\.png'"):
        read_split(file, slices)


def test_two_slices_of_one_path_cannot_be_told_apart():
    slices = cohort()
    twins = SliceSet.of(slices.images, slices.labels, subjects=slices.subjects, paths=["same"] * len(slices))
    with pytest.raises(DataError, match="two slices have the path 'same'"):
        split_record(twins, by_subject(twins), seed=0)


def test_a_published_validation_part_is_used_as_such():
    images = np.zeros((6, 2, 2), np.uint8)
    parts = ["train", "validation", "test", "train", "validation", ""]
    slices = SliceSet.of(images, [0, 1, 0, 1, 0, 1], parts=parts)
    split = published(slices, validation=0.5)
    assert [part.tolist() for part in (split.train, split.validation, split.test)] == [[0, 3], [1, 4], [2]]
    with pytest.raises(DataError, match=r"no train and test part \(it has train, validation\)"):
        published(slices[slices.parts != "test"])
