from dataclasses import replace

import numpy as np
import pytest

from mriscope.data.severity import known_severity, severity_ranks
from mriscope.data.slices import CLASS_NAMES, SliceSet, concatenate, majority_labels
from mriscope.errors import DataError


def small_set(count: int = 4, **columns) -> SliceSet:
    images = np.arange(count * 4, dtype=np.uint8).reshape(count, 2, 2)
    return SliceSet.of(images, [row % 4 for row in range(count)], **columns)


def test_what_is_left_out_is_unknown():
    slices = small_set()
    assert slices.subjects.tolist() == [-1] * 4
    assert np.isnan(slices.positions).all()
    assert slices.sessions.tolist() == slices.subject_names.tolist() == [""] * 4
    assert slices.covariates == {}
    assert slices.paths.tolist() == ["0", "1", "2", "3"]
    assert slices.parts.tolist() == [""] * 4
    assert slices.class_names == CLASS_NAMES


def test_unknown_subjects_never_count_as_one():
    assert small_set().n_subjects == 0
    assert not small_set().knows_subjects
    assert small_set(subjects=[7, 7, -1, 9]).n_subjects == 2
    assert not small_set(subjects=[7, 7, -1, 9]).knows_subjects
    assert small_set(subjects=[7, 7, 8, 9]).knows_subjects


@pytest.mark.parametrize(
    "rows",
    [slice(1, 3), [1, 2], np.array([1, 2]), np.array([False, True, True, False]), [False, True, True, False]],
)
def test_slicing_takes_every_column(rows):
    taken = small_set(subjects=[5, 6, 7, 8], positions=[0, 1, 2, 3], paths=list("abcd"))[rows]
    assert taken.images[:, 0, 0].tolist() == [4, 8]
    assert taken.labels.tolist() == [1, 2]
    assert taken.subjects.tolist() == [6, 7]
    assert taken.positions.tolist() == [1, 2]
    assert taken.paths.tolist() == ["b", "c"]


def test_an_empty_choice_is_an_empty_set():
    assert len(small_set()[[]]) == 0


def test_concatenation_undoes_slicing():
    whole = small_set(subjects=[5, 6, 7, 8])
    assert concatenate([whole[:1], whole[1:]]).fingerprint == whole.fingerprint


def test_sets_of_other_sizes_or_classes_are_not_joined():
    other = SliceSet.of(np.zeros((1, 3, 3), np.uint8), [0])
    with pytest.raises(DataError, match="different image sizes"):
        concatenate([small_set(), other])
    with pytest.raises(DataError, match="different classes"):
        concatenate([small_set(1), small_set(1, class_names=("a", "b"))])
    with pytest.raises(DataError, match="at least one"):
        concatenate([])


def test_the_fingerprint_tells_content_and_nothing_else():
    one = small_set()
    assert one.fingerprint == small_set(paths=list("abcd")).fingerprint
    assert one.fingerprint != small_set(subjects=[1, 2, 3, 4]).fingerprint
    changed = one.images.copy()
    changed[0, 0, 0] += 1
    assert one.fingerprint != SliceSet.of(changed, one.labels).fingerprint
    assert one.fingerprint != SliceSet.of(one.images.reshape(4, 4, 1), one.labels).fingerprint


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"labels": [0, 1, 2, 4]}, "label 4 of row 3 is outside the 4 classes"),
        ({"labels": [0, 1, 2, -1]}, "label -1 of row 3"),
        ({"labels": [0, 1, 2]}, "labels is int64"),
        ({"labels": [0, 1, 2, 3], "subjects": [0, 0, 0, -2]}, "subjects holds a number under -1"),
        ({"labels": [0, 1, 2, 3], "paths": ["a"]}, "paths is"),
    ],
)
def test_unfit_columns_are_refused(columns, message):
    with pytest.raises(DataError, match=message):
        SliceSet.of(np.zeros((4, 2, 2), np.uint8), **columns)


def test_images_of_another_type_are_refused():
    with pytest.raises(DataError, match="images is float32"):
        SliceSet.of(np.zeros((1, 2, 2), np.float32), [0])


def test_a_set_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        small_set().images[0, 0, 0] = 1


def test_severity_runs_from_non_to_moderate():
    assert severity_ranks(CLASS_NAMES).tolist() == [2, 3, 0, 1]
    assert severity_ranks(["cat", "dog", "owl"]).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "rising",
    [
        ("CN", "SMC", "EMCI", "MCI", "LMCI", "AD"),
        ("NC", "early MCI", "late-MCI", "Alzheimer's disease"),
        ("Normal", "Mild Cognitive Impairment", "Dementia"),
        ("Final CN JPEG", "Final EMCI JPEG", "Final MCI JPEG", "Final LMCI JPEG", "Final AD JPEG"),
        ("nonDemented", "veryMildDemented", "mildDemented", "moderateDemented"),
        ("no_impairment", "very_mild_impairment", "mild_impairment", "moderate_impairment"),
        ("Non Demented", "Mild Dementia", "Severe Dementia"),
        ("NON-DEMENTED", "DEMENTED"),
    ],
)
def test_the_usual_names_tell_severity_in_any_order(rising):
    expected = {name: rank for rank, name in enumerate(rising)}
    for names in (rising, sorted(rising), rising[::-1]):
        assert dict(zip(names, severity_ranks(names).tolist(), strict=True)) == expected
        assert known_severity(names) is not None


def test_stages_are_a_step_apart_and_grades_keep_theirs():
    for names, steps in (
        (("AD", "CN", "MCI"), [2, 0, 1]),
        (("Mild_Demented", "Non_Demented", "Moderate_Demented"), [2, 0, 3]),
        (("Mild", "VeryMild", "Severe"), [1, 0, 3]),
        (("Mild_or_Moderate_Demented", "Non_Demented", "Very_Mild_Demented"), [2, 0, 1]),
    ):
        assert known_severity(names).tolist() == steps  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize(
    "names", [("x", "y", "z"), ("CN", "Normal", "AD"), ("CN", "Mild", "AD"), ("AD", "CN", "FTD"), ("0", "1", "2")]
)
def test_names_that_do_not_tell_an_order_have_none_unless_it_is_given(names):
    assert known_severity(names) is None
    assert known_severity(names, names[::-1]).tolist() == [2, 1, 0]  # pyright: ignore[reportOptionalMemberAccess]
    for wrong in (names[:2], (*names, "more"), (names[0], names[0], names[1])):
        with pytest.raises(DataError, match="name each of them once"):
            known_severity(names, wrong)


def test_two_classes_have_an_order_either_way_round():
    assert known_severity(("well", "sick")).tolist() == [0, 1]  # pyright: ignore[reportOptionalMemberAccess]


def test_a_group_has_the_label_of_most_of_its_rows_and_of_a_tie_the_first():
    labels, groups = np.array([1, 1, 0, 2, 2, 0, 1]), np.array([0, 0, 0, 1, 1, 2, 2])
    assert majority_labels(labels, groups, 3).tolist() == [1, 2, 0]
    assert majority_labels(labels[:0], groups[:0], 3).tolist() == []


def test_subjects_found_afterwards_leave_the_fingerprint_alone():
    slices = SliceSet.of(np.arange(8, dtype=np.uint8).reshape(2, 2, 2), [0, 1])
    known = slices.with_subjects(np.array([4, 5]), np.array([0, 0]))
    assert known.knows_subjects
    assert not slices.knows_subjects
    assert known.fingerprint == slices.fingerprint
    assert known.fingerprint != SliceSet.of(slices.images, [0, 1], subjects=[4, 5], positions=[0, 0]).fingerprint


def test_the_fingerprint_of_sets_without_names_is_what_it_was_before_sets_could_hold_names():
    plain = small_set(subjects=[5, 6, -1, 8], positions=[0, 1, -1, 3])
    assert plain.fingerprint.startswith("a654364c146058ed")


@pytest.mark.parametrize(
    "more",
    [
        {"subjects": ["a", "b", "", "c"]},
        {"sessions": ["1", "2", "", "1"]},
        {"covariates": {"age": [71.0, np.nan, 3, 4]}},
        {"positions": [-30.5, -28.0, 0, 2]},
    ],
)
def test_names_sessions_covariates_and_millimetres_are_part_of_the_fingerprint(more: dict):
    assert small_set(**more).fingerprint == small_set(**more).fingerprint != small_set().fingerprint


@pytest.mark.parametrize(
    "ids",
    [
        ["sub-001", "sub-001", "", "sub-010"],
        ["12.0", "12", "12.00", ""],
        ["002_S_0295", "007", "7", "-1x"],
        ["0", "7", "", "123456789012345678"],
        ["9223372036854775808", "1", "", "2"],
    ],
)
def test_the_names_of_subjects_stay_as_they_are(ids: list[str]):
    slices = small_set(subjects=ids)
    assert slices.subject_names.tolist() == ids
    assert slices[[3, 0]].subject_names.tolist() == [ids[3], ids[0]]
    assert slices.n_subjects == len({*ids} - {""})
    assert concatenate([slices[:1], slices[1:]]).subject_names.tolist() == ids
    other = small_set(subjects=["z", "007", "", "12"])
    joined = concatenate([slices, other])
    assert joined.subject_names.tolist() == [*ids, "z", "007", "", "12"]
    assert joined.n_subjects == len({*ids, "z", "007", "12"} - {""})
    found = small_set().with_subjects(np.array(ids), slices.positions)
    assert found.subject_names.tolist() == ids
    assert found.fingerprint == small_set().fingerprint


def test_whole_numbers_are_their_own_names():
    slices = small_set(subjects=["7", "", "12", "7"])
    assert (slices.subjects.tolist(), slices.subject_ids) == ([7, -1, 12, 7], ())
    assert slices.subject_names.tolist() == ["7", "", "12", "7"]


def test_slicing_takes_sessions_and_covariates():
    slices = small_set(sessions=list("abab"), covariates={"age": [70, 71, 72, 73], "sex": list("FMFM")})
    taken = slices[[2, 0]]
    assert taken.sessions.tolist() == ["a", "a"]
    assert {name: one.tolist() for name, one in taken.covariates.items()} == {"age": [72, 70], "sex": ["F", "F"]}
    assert concatenate([slices[:2], slices[2:]]).fingerprint == slices.fingerprint
    with pytest.raises(DataError, match="different covariates"):
        concatenate([slices, small_set()])
    with pytest.raises(ValueError, match="read-only"):
        taken.covariates["age"][0] = 1


def test_columns_of_another_kind_are_refused():
    with pytest.raises(DataError, match=r"the covariate age is float64 \(2,\)"):
        small_set(covariates={"age": [1, 2]})
    with pytest.raises(DataError, match="an infinite number"):
        small_set(positions=[np.inf, 0, 0, 0])
    with pytest.raises(DataError, match="subject_ids names 1"):
        replace(small_set(subjects=[0, 1, 2, 3]), subject_ids=("a",))
