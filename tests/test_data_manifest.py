"""Subjects from a CSV file: attached by path, and every way in which the file does not fit has its sentence."""

import os
from pathlib import Path

import numpy as np
import pytest

from mriscope.data.manifest import manifest_csv, names_subjects, with_manifest
from mriscope.data.readers import read
from mriscope.data.slices import SliceSet
from mriscope.errors import DataError


def three() -> SliceSet:
    images = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    return SliceSet.of(images, [0, 1, 1], paths=["a.png", "b.png", "ü/c,d.png"], class_names=("sick", "well"))


def written(folder: Path, text: str) -> Path:
    (folder / "subjects.csv").write_text(text, encoding="utf-8")
    return folder / "subjects.csv"


def test_subjects_and_positions_go_to_their_paths_whatever_the_order(tmp_path: Path):
    rows = '"ü/c,d.png",test,well,7,0\nb.png,train,well,7,1\na.png,,sick,0,4\n'
    found = with_manifest(three(), written(tmp_path, "path,part,label,subject,position\n" + rows))
    assert found.subjects.tolist() == [0, 7, 7]
    assert found.positions.tolist() == [4, 1, 0]
    assert found.fingerprint == three().fingerprint
    assert found.parts.tolist() == ["", "", ""]


def test_path_and_subject_are_enough_and_what_is_empty_is_unknown(tmp_path: Path):
    text = '\ufeffsubject,path,note\n3,a.png,x\n,b.png,\n-1,"ü/c,d.png",\n'
    found = with_manifest(three(), written(tmp_path, text))
    assert found.subjects.tolist() == [3, -1, -1]
    assert np.isnan(found.positions).all()


def test_the_apostrophe_before_a_formula_is_no_part_of_a_name(tmp_path: Path):
    names = ["=a.png", "'=a.png", "'a.png"]
    slices = SliceSet.of(np.zeros((3, 2, 2), np.uint8), [0, 1, 1], paths=names, class_names=("+", "well"))
    text = "path,label,subject\n'a.png,well,3\n''=a.png,well,2\n'=a.png,'+,1\n"
    assert with_manifest(slices, written(tmp_path, text)).subjects.tolist() == [1, 2, 3]
    plain = "path,label,subject\n'a.png,well,3\n''=a.png,well,2\n=a.png,+,1\n"
    assert with_manifest(slices, written(tmp_path, plain)).subjects.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty, without path; expected path or subject"),
        ("path,label\na.png,sick\n", "has the columns path, label, without subject"),
        ("path,subject\na.png,1\n", "lacks 2 of the source's 3 slices, first 'b.png'"),
        ("path,subject\na.pgn,1\n", "names 1 of 1 slices that the source lacks, first 'a.pgn'; its paths are those"),
        ("path,subject\na.pgn,1\n", "such as 'a.png'; did you mean a.png?"),
        ("path,subject\na.png,1\nb.png,1\na.png,1\n", "names 'a.png' twice, in rows 1 and 3; keep one"),
        ('path,subject,position\na.png,1,x\nb.png,1,\n"ü/c,d.png",1,\n', "gives 'a.png' the position 'x'"),
        (
            'path,subject,label\na.png,1,well\nb.png,1,\n"ü/c,d.png",1,\n',
            "calls 'a.png' well where the source says sick",
        ),
    ],
)
def test_a_manifest_that_does_not_fit_says_why(tmp_path: Path, text: str, message: str):
    file = written(tmp_path, text)
    with pytest.raises(DataError) as error:
        with_manifest(three(), file)
    assert message.format(file=file) in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_no_table(tmp_path: Path):
    with pytest.raises(DataError, match=r"absent.csv cannot be read \(No such file or directory\)"):
        with_manifest(three(), tmp_path / "absent.csv")
    (tmp_path / "x.csv").write_bytes(b"path,subject\n\xff,1\n")
    with pytest.raises(DataError, match="is no CSV file in UTF-8 or UTF-16"):
        with_manifest(three(), tmp_path / "x.csv")


def test_rows_that_were_left_out_of_the_source_may_be_named(tmp_path: Path):
    file = written(tmp_path, 'path,subject\na.png,1\nb.png,1\n"ü/c,d.png",1\nbad.png,2\n')
    with pytest.raises(DataError, match=r"first 'bad.png'"):
        with_manifest(three(), file)
    assert with_manifest(three(), file, {"bad.png"}).n_subjects == 1


def test_read_takes_a_manifest(tmp_path: Path):
    source = "phantom:subjects=2,slices=2"
    paths = read(source).paths
    file = written(tmp_path, "path,subject\n" + "".join(f"{path},{row}\n" for row, path in enumerate(paths)))
    found = read(source, manifest=file)
    assert found.subjects.tolist() == [0, 1, 2, 3]
    assert found.fingerprint == read(source).fingerprint


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_of_spreadsheets(tmp_path: Path, delimiter: str, encoding: str, end: str):
    rows = (
        ["Unnamed: 0", "path", "Subject ID", "position"],
        ["0", "a.png", "sub-001", "1"],
        [""] * 4,
        ["1", "b.png", "12.0", ""],
    )
    lines = [*(delimiter.join(row) for row in rows), delimiter.join(["2", '"ü/c,d.png"', "007", "-3.5"]), "", ""]
    (tmp_path / "x.csv").write_bytes(end.join(lines).encode(encoding))
    found = with_manifest(three(), tmp_path / "x.csv")
    assert found.subject_names.tolist() == ["sub-001", "12.0", "007"]
    assert found.positions[[0, 2]].tolist() == [1, -3.5]
    assert np.isnan(found.positions[1])
    assert found.covariates == {}


def test_excels_line_that_names_the_delimiter_is_no_row(tmp_path: Path):
    text = 'sep=;\npath;subject;position\na.png;P1;1,5\nb.png;P1;2,5\n"ü/c,d.png";P2;0\n'
    found = with_manifest(three(), written(tmp_path, text))
    assert found.subject_names.tolist() == ["P1", "P1", "P2"]
    assert found.positions.tolist() == [1.5, 2.5, 0]


def test_further_columns_become_covariates_also_without_subjects(tmp_path: Path):
    file = written(tmp_path, 'path,age,sex,site,visit\na.png,71,F,007,v1\nb.png,n/a,,008,v2\n"ü/c,d.png",65.5,M,007,\n')
    found = with_manifest(three().with_subjects(np.array(["x", "y", ""]), np.full(3, np.nan)), file)
    assert found.subject_names.tolist() == ["x", "y", ""]
    assert found.covariates["age"].tolist()[::2] == [71, 65.5]
    assert np.isnan(found.covariates["age"][1])
    assert found.covariates["sex"].tolist() == ["F", "", "M"]
    assert found.covariates["site"].tolist() == ["007", "008", "007"]
    assert found.sessions.tolist() == ["v1", "v2", ""]
    assert not names_subjects(file)


def test_a_table_by_subject(tmp_path: Path):
    slices = three().with_subjects(np.array(["sub-1", "sub-2", "sub-1"]), np.full(3, np.nan))
    file = written(tmp_path, "participant_id\tage\nsub-1\t70\nsub-2\t80\nsub-3\t90\n")
    found = with_manifest(slices, file)
    assert found.covariates["age"].tolist() == [70, 80, 70]
    assert found.subject_names.tolist() == slices.subject_names.tolist()
    with pytest.raises(DataError, match="goes by participant_id, and no subject of the source is known"):
        with_manifest(three(), file)
    with pytest.raises(DataError, match=r"names none of the source's 2 subjects, such as 'sub-1'; its first is 'S9'"):
        with_manifest(slices, written(tmp_path, "subject,age\nS9,1\n"))
    with pytest.raises(DataError, match="names 'sub-1' twice, in rows 1 and 2; keep one, or add a session"):
        with_manifest(slices, written(tmp_path, "subject,age\nsub-1,1\nsub-1,2\n"))


def test_a_table_by_subject_and_session(tmp_path: Path):
    slices = three().with_subjects(np.array(["a", "a", "b"]), np.full(3, np.nan), sessions=np.array(["1", "2", "1"]))
    found = with_manifest(slices, written(tmp_path, "subject,session,age\na,1,70\na,2,71\nb,1,50\n"))
    assert found.covariates["age"].tolist() == [70, 71, 50]


def test_paths_are_found_whatever_their_slashes_and_accents(tmp_path: Path):
    text = 'path,subject\n.\\a.png,1\nb.png,1\n"u\u0308\\c,d.png",2\n'
    assert with_manifest(three(), written(tmp_path, text)).subjects.tolist() == [1, 1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,subject,subject\n", "has two columns 'subject'; rename one"),
        (",".join(f"c{number}" for number in range(20_000)), "has 20,000 columns, at most 2,000 are read"),
        ("path,subject\na.png,1,2\n", "row 1 of {file} has 3 cells where the header has 2"),
        (
            "path,patient_id,participant_id\n",
            "has the columns patient_id and participant_id, and each may be the subject",
        ),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, message: str):
    file = written(tmp_path, text)
    with pytest.raises(DataError) as error:
        with_manifest(three(), file)
    assert message.format(file=file) in str(error.value)


def test_a_named_pipe_is_refused_and_not_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="cannot be read \\(it is no ordinary file\\)"):
        with_manifest(three(), tmp_path / "pipe.csv")


def test_what_an_audit_writes_comes_back(tmp_path: Path):
    slices = three().with_subjects(np.array(["=007", "12.0", ""]), np.array([-1.5, np.nan, 30]))
    found = with_manifest(three(), written(tmp_path, manifest_csv(slices, {})))
    assert found.subject_names.tolist() == ["=007", "12.0", ""]
    assert np.array_equal(found.positions, slices.positions, equal_nan=True)


def test_what_an_audit_writes_keeps_covariates(tmp_path: Path):
    slices = SliceSet.of(
        np.arange(12, dtype=np.uint8).reshape(3, 2, 2),
        [0, 1, 0],
        subjects=["a", "b", "a"],
        paths=["x", "y", "z"],
        covariates={"age": [70.5, np.nan, 71.0], "site": ["=A1", "", "b"]},
    )
    lines = manifest_csv(slices, {"train": np.arange(3)}).splitlines()
    assert lines[0] == "path,part,label,subject,position,age,site"
    assert [line.split(",")[5:] for line in lines[1:]] == [["70.5", "'=A1"], ["", ""], ["71", "b"]]
    (tmp_path / "slices.csv").write_text("\n".join(lines))
    bare = SliceSet.of(slices.images, slices.labels, paths=slices.paths)
    found = with_manifest(bare, tmp_path / "slices.csv").covariates
    np.testing.assert_array_equal(found["age"], [70.5, np.nan, 71.0])
    assert found["site"].tolist() == ["=A1", "", "b"]
