"""BIDS: labels and covariates by subject and session, and several sessions of one subject stay that subject."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from volume_files import brain, write_nifti

from mriscope.data.readers import open_source, read
from mriscope.errors import BadRowsError, DataError

SHAPE = (8, 10, 4)


def table(path: Path, rows: Sequence[Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


def volumes(root: Path, names: Sequence[str]) -> None:
    for seed, name in enumerate(names):
        write_nifti(root / name, brain(seed, SHAPE))


def by_session(root: Path) -> Mapping[str, tuple[str, str, str, float, str]]:
    """Three subjects; the second turned from MCI to AD between two sessions. The truth by volume."""
    truth = {
        "sub-01/ses-M00/anat/sub-01_ses-M00_T1w.nii.gz": ("sub-01", "ses-M00", "CN", 71.0, "F"),
        "sub-02/ses-M00/anat/sub-02_ses-M00_T1w.nii.gz": ("sub-02", "ses-M00", "MCI", 80.0, "M"),
        "sub-02/ses-M24/anat/sub-02_ses-M24_run-1_T1w.nii.gz": ("sub-02", "ses-M24", "AD", 82.0, "M"),
        "sub-02/ses-M24/anat/sub-02_ses-M24_run-2_T1w.nii.gz": ("sub-02", "ses-M24", "AD", 82.0, "M"),
        "sub-03/ses-M00/anat/sub-03_ses-M00_T1w.nii.gz": ("sub-03", "ses-M00", "CN", np.nan, ""),
    }
    volumes(root, [*truth, "sub-01/ses-M00/anat/sub-01_ses-M00_FLAIR.nii.gz"])
    table(
        root / "participants.tsv",
        [("participant_id", "sex"), ("sub-01", "F"), ("sub-02", "M"), ("sub-03", "n/a"), ("sub-99", "M")],
    )
    for who, rows in {
        "sub-01": [("ses-M00", "CN", "71")],
        "sub-02": [("ses-M00", "MCI", "80"), ("ses-M24", "AD", "82")],
        "sub-03": [("M00", "CN", "n/a")],
    }.items():
        table(root / who / f"{who}_sessions.tsv", [("session_id", "diagnosis", "age"), *rows])
    return truth


def test_labels_sessions_subjects_and_covariates_are_those_of_the_tables(tmp_path: Path, caplog):
    truth = by_session(tmp_path / "set")
    found = read(tmp_path / "set", size=16)
    assert found.class_names == ("AD", "CN", "MCI")
    assert len(found) == 5 * SHAPE[2]
    for row, path in enumerate(found.paths.tolist()):
        volume, _, index = path.partition("#z")
        subject, session, label, age, sex = truth[volume]
        assert found.subject_names[row] == subject
        assert found.sessions[row] == session
        assert found.class_names[found.labels[row]] == label
        assert found.covariates["age"][row] == age or np.isnan(age)
        assert found.covariates["sex"][row] == sex
        assert found.positions[row] == int(index)
    assert "labels are the column diagnosis of sub-01/sub-01_sessions.tsv" in caplog.text


def plain(root: Path, column: str = "diagnosis", words: Sequence[str] = ("CN", "AD", "CN", "AD")) -> Path:
    volumes(root, [f"sub-{who}/anat/sub-{who}_T1w.nii" for who in range(len(words))])
    rows = [(f"sub-{who}", word) for who, word in enumerate(words)]
    table(root / "participants.tsv", [("participant_id", column), *rows])
    return root


def test_a_data_set_without_sessions_has_none(tmp_path: Path):
    found = read(plain(tmp_path / "set"), size=16)
    assert set(found.sessions.tolist()) == {""}
    assert found.subject_names[:: SHAPE[2]].tolist() == ["sub-0", "sub-1", "sub-2", "sub-3"]


def test_classes_of_this_field_get_their_names(tmp_path: Path):
    words = ("Non Demented", "very mild dementia", "mild-demented", "ModerateDemented")
    found = open_source(plain(tmp_path / "set", "group", words))
    assert found.class_names == ("Mild_Demented", "Moderate_Demented", "Non_Demented", "Very_Mild_Demented")


def test_a_column_can_be_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    root = plain(tmp_path / "set", "CDR global", ("0", "0.5", "1", "0"))
    found = read(f"{root}?label_column=CDR global", size=16)
    assert found.class_names == ("0", "0.5", "1")
    assert "labels are" not in caplog.text
    with pytest.raises(DataError, match="names no labels; its tables have CDR global; name one with --label-column"):
        read(root)
    with pytest.raises(DataError, match="no table has a column 'cdr_global'; did you mean CDR global"):
        read(f"{root}?label_column=cdr_global")


def test_derivatives_take_the_table_of_their_data_set(tmp_path: Path):
    root = plain(tmp_path / "set")
    names = [f"sub-{who}/anat/sub-{who}_desc-preproc_T1w.nii.gz" for who in range(4)]
    volumes(root / "derivatives" / "fmriprep", names)
    found = read(root / "derivatives" / "fmriprep", size=16)
    assert len(found) == 4 * SHAPE[2]
    assert found.class_names == ("AD", "CN")
    assert len(read(root, size=16)) == 4 * SHAPE[2]  # the derivatives within are not counted again


def test_copies_of_one_scan_are_refused_until_one_kind_is_chosen(tmp_path: Path):
    root = plain(tmp_path / "set")
    volumes(root, [f"sub-{who}/anat/sub-{who}_space-MNI_T1w.nii.gz" for who in range(4)])
    with pytest.raises(DataError, match=r"holds one scan 2 times: .*sub-.*_T1w.nii.*choose one kind with --series"):
        read(root)
    found = read(f"{root}?series=*_space-MNI_T1w.nii.gz", size=16)
    assert {path.split("#")[0] for path in found.paths} == {
        f"sub-{who}/anat/sub-{who}_space-MNI_T1w.nii.gz" for who in range(4)
    }
    with pytest.raises(DataError, match=r"no volume in anat that is called \*_T2w.nii.gz; it has sub-0/anat"):
        read(f"{root}?series=*_T2w.nii.gz")


def test_who_has_no_label_is_listed(tmp_path: Path):
    root = plain(tmp_path / "set", words=("CN", "AD", "n/a", "CN"))
    volumes(root, ["sub-9/anat/sub-9_T1w.nii"])
    with pytest.raises(BadRowsError) as error:
        read(root, size=16)
    assert {bad.path: bad.reason for bad in error.value.rows} == {
        "sub-2/anat/sub-2_T1w.nii": "has no diagnosis in participants.tsv",
        "sub-9/anat/sub-9_T1w.nii": "is of sub-9, which no table names",
    }


@pytest.mark.parametrize(
    ("column", "words", "said"),
    [
        ("diagnosis", ("AD", "AD"), "the column diagnosis has 1 different values"),
        ("age", ("71", "82"), "names no labels; its tables have age"),
        ("diagnosis", tuple(map(str, range(21))), "has 21 different values .* expected 2 to 20 classes"),
    ],
)
def test_a_column_that_holds_no_classes_is_refused(tmp_path: Path, column: str, words: Sequence[str], said: str):
    with pytest.raises(DataError, match=said):
        open_source(plain(tmp_path / "set", column, words))


def test_a_set_without_tables_says_what_to_add(tmp_path: Path):
    root = plain(tmp_path / "set")
    (root / "participants.tsv").unlink()
    with pytest.raises(DataError, match=r"has no participants.tsv or sessions.tsv with labels; add one"):
        read(root)


def test_rows_of_one_subject_that_contradict_each_other_are_refused(tmp_path: Path):
    root = plain(tmp_path / "set")
    rows = [("participant_id", "diagnosis"), ("sub-0", "CN"), ("sub-1", "AD"), ("0", "AD"), ("sub-1", "AD")]
    table(root / "participants.tsv", rows)
    said = (
        "row 1 of participants.tsv and row 3 of participants.tsv both name sub-0, with diagnosis CN and AD; keep one "
        "of them, or give each its session_id"
    )
    with pytest.raises(DataError, match=f"^{said}$"):
        open_source(root)
    table(root / "participants.tsv", [row for row in rows if row[0] != "0"])  # a row twice, and the same: no harm
    volumes(root, ["sub-0/anat/sub-0_T1w.nii"])
    assert open_source(root).class_names == ("AD", "CN")


def in_sessions(root: Path, named: Sequence[str]) -> Path:
    """One subject, CN in ses-01 and AD in ses-02, by a table that calls these otherwise; the subject itself is MCI."""
    volumes(root, [f"sub-1/ses-{one}/anat/sub-1_ses-{one}_T1w.nii" for one in ("01", "02")])
    table(root / "participants.tsv", [("participant_id", "diagnosis"), ("sub-1", "MCI")])
    rows = list(zip(named, ("CN", "AD"), strict=True))
    table(root / "sub-1" / "sub-1_sessions.tsv", [("session_id", "diagnosis"), *rows])
    return root


@pytest.mark.parametrize("named", [("1", "2"), ("ses-1", "ses-002"), ("01", "02")])
def test_sessions_are_matched_whatever_their_zeros(tmp_path: Path, named: Sequence[str]):
    found = read(in_sessions(tmp_path / "set", named), size=16)
    words = [found.class_names[label] for label in found.labels]
    labels = {str(path).split("/")[1]: word for path, word in zip(found.paths, words, strict=True)}
    assert labels == {"ses-01": "CN", "ses-02": "AD"}


def test_sessions_of_a_table_that_are_no_folders_are_refused(tmp_path: Path):
    said = (
        r"row 1 of sub-1/sub-1_sessions.tsv names the session ses-M00 of sub-1, whose volumes are in ses-01, ses-02; "
        "give both the same names"
    )
    with pytest.raises(DataError, match=said):
        open_source(in_sessions(tmp_path / "set", ("M00", "M12")))


def test_a_data_set_one_folder_below_is_named(tmp_path: Path):
    plain(tmp_path / "set" / "rawdata")
    with pytest.raises(DataError, match=r"holds a data set in BIDS in its folder rawdata; name that, .*set/rawdata$"):
        open_source(tmp_path / "set")
