"""Slices to predict: names that lead to one volume, options behind names, and what is refused."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_files import write_files
from volume_files import axial_series, brain, write_dicoms, write_nifti

from mriscope.data.read_options import ReadOptions, override_options
from mriscope.data.unlabelled import read_unlabelled
from mriscope.errors import BadRowsError, DataError
from mriscope.reports.model_page import page_part

SHAPE = (32, 32, 4)
AXIAL = ReadOptions()


def test_options_behind_a_name_count_even_where_they_are_the_usual_ones():
    trained = ReadOptions(plane="coronal", slices="8", stretch=True)
    assert override_options("scan.nii", trained) == trained
    assert override_options("scan.nii?plane=axial", trained) == ReadOptions(slices="8", stretch=True)
    assert override_options("scan.nii?slices=all&stretch=no", trained) == ReadOptions(plane="coronal")


def test_a_volume_is_cut_along_the_plane_behind_its_name(tmp_path: Path):
    file = write_nifti(tmp_path / "scan.nii.gz", brain(1, SHAPE))
    coronal = read_unlabelled([file], 32, ReadOptions(plane="coronal", slices="2"))
    assert [path.split("#")[1][0] for path in coronal.paths] == ["y", "y"]
    axial = read_unlabelled([f"{file}?plane=axial&slices=all"], 32, ReadOptions(plane="coronal", slices="2"))
    assert [path.split("#")[1] for path in axial.paths] == ["z000", "z001", "z002", "z003"]


def test_dicom_files_that_are_named_one_by_one_are_one_series(tmp_path: Path):
    """A shell puts the files in place of its pattern, in the order of their names."""
    files = write_dicoms(tmp_path / "scan", axial_series(brain(1, SHAPE)), ["c", "a", "d", "b"])
    whole = read_unlabelled([tmp_path / "scan"], 32, AXIAL)
    one_by_one = read_unlabelled(sorted(files), 32, AXIAL)
    np.testing.assert_array_equal(one_by_one.images, whole.images)
    assert one_by_one.paths == whole.paths
    assert one_by_one.origins == whole.origins
    assert len({one.volume for one in one_by_one.origins}) == 1
    assert [one.position for one in one_by_one.origins] == [0, 1, 2, 3]


def test_a_volume_that_is_named_twice_is_read_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    file = write_nifti(tmp_path / "some" / "sub-01_T1w.nii.gz", brain(1, SHAPE))
    with caplog.at_level(logging.WARNING, "mriscope"):
        found = read_unlabelled([file, tmp_path / "some", str(tmp_path / "some" / "*.gz")], 32, AXIAL)
    assert len(found) == 4
    assert "2 files were named more than once, and are read once" in caplog.text
    assert len(read_unlabelled([file, f"{file}?slices=2"], 32, AXIAL)) == 6


def test_of_several_series_one_is_chosen_behind_the_name(tmp_path: Path):
    about: dict[str, Any] = {"StudyInstanceUID": "1.1"}
    write_dicoms(tmp_path / "scan", axial_series(brain(1, SHAPE), **about, SeriesInstanceUID="1.1.1"), list("abcd"))
    flair: dict[str, Any] = {"SeriesInstanceUID": "1.1.2", "SeriesNumber": 9, "SeriesDescription": "FLAIR"}
    write_dicoms(tmp_path / "scan", axial_series(brain(2, SHAPE), **about, **flair), list("efgh"))
    with pytest.raises(BadRowsError, match=r"holds 2 series") as told:
        read_unlabelled([tmp_path / "scan"], 32, AXIAL)
    assert "behind a name, as in 'NAME?series=4'" in str(told.value)
    assert len(read_unlabelled([f"{tmp_path / 'scan'}?series=9"], 32, AXIAL)) == 4


@pytest.mark.parametrize("labels", [None, ["AD", "AD"], [None, "CN"]])
def test_tables_without_two_classes_are_refused_with_what_helps(tmp_path: Path, labels: list[str] | None):
    content = page_part("examples/phantom-1.png")
    columns = {"image": [{"bytes": content, "path": "a.png"}] * 2, **({"label": labels} if labels else {})}
    pq.write_table(pa.table(columns), tmp_path / "set.parquet")
    header, rows = ("path,label", zip("ab", labels, strict=True)) if labels else ("path", zip("ab"))
    lines = [",".join([f"{row[0]}.png", *(one or "" for one in row[1:])]) for row in rows]
    write_files(tmp_path, {"a.png": content, "b.png": content, "set.csv": "\n".join([header, *lines]).encode()})
    for name in ("set.parquet", "set.csv"):
        with pytest.raises(DataError, match="has no labels of two classes or more; predict uses none"):
            read_unlabelled([tmp_path / name], 32, AXIAL)
