"""Subjects from a CSV file: attached by path, and every way in which the file does not fit has its sentence."""

from pathlib import Path

import numpy as np
import pytest

from mriscope.data.manifest import with_manifest
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
        ('path,subject,position\na.png,1,x\nb.png,1,\n"ü/c,d.png",1,\n', "has the position 'x'"),
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
