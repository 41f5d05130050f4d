"""Sources as people really have them, where a quiet misreading would cost labels or subjects."""

import logging
from pathlib import Path

import nibabel
import pytest
from data_files import png, write_files
from volume_files import axial_series, brain, write_dicoms

from mriscope.data.readers import read
from mriscope.errors import BadRowsError, DataError


def test_class_folders_that_differ_in_case_are_one_class(tmp_path: Path):
    write_files(tmp_path, {"train/AD/1.png": png(1), "train/CN/2.png": png(2), "test/ad/3.png": png(3)})
    found = read(tmp_path)
    assert found.class_names == ("AD", "CN")
    assert dict(zip(found.paths.tolist(), found.labels.tolist(), strict=True)) == {
        "train/AD/1.png": 0,
        "train/CN/2.png": 1,
        "test/ad/3.png": 0,
    }


@pytest.mark.parametrize("by", ["folder", "file"])
def test_a_table_of_dicom_names_labels_subjects_and_covariates(tmp_path: Path, by: str):
    """Rows of the files of one series that say the same make one volume; folders beside the table are no classes."""
    lines = ["path,label,subject,age"]
    for number, label in ((1, "AD"), (2, "CN")):
        images = axial_series(
            brain(number, (8, 10, 4)), StudyInstanceUID=f"1.2.{number}", SeriesInstanceUID=f"1.2.{number}.1"
        )
        files = write_dicoms(tmp_path / f"p{number}", images)
        named = [f"p{number}"] if by == "folder" else [f"p{number}/{file.name}" for file in files]
        lines += [f"{path},{label},s{number},7{number}" for path in named]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    for source in (tmp_path, tmp_path / "table.csv"):
        found = read(source)
        assert found.subject_names.tolist() == ["s1"] * 4 + ["s2"] * 4
        assert [found.class_names[label] for label in found.labels] == ["AD"] * 4 + ["CN"] * 4
        assert found.positions.tolist() == [0, 1, 2, 3] * 2
        assert found.covariates["age"].tolist() == [71] * 4 + [72] * 4


def test_a_row_whose_folder_holds_no_dicom_is_a_bad_row(tmp_path: Path):
    write_dicoms(tmp_path / "p1", axial_series(brain(1, (8, 10, 4))))
    (tmp_path / "p2").mkdir()
    (tmp_path / "table.csv").write_text("path,label\np1,AD\np2,CN\n")
    with pytest.raises(BadRowsError, match=r"p2\): is a folder without DICOM files"):
        read(tmp_path / "table.csv")


def test_a_name_that_no_file_can_have_costs_its_row_alone(tmp_path: Path):
    write_files(tmp_path, {f"{number}.png": png(number) for number in range(2)})
    (tmp_path / "labels.csv").write_text(f"path,label\n0.png,AD\n1.png,CN\n{'x' * 300}.png,AD\na\0b.png,CN\n")
    for source in (tmp_path, tmp_path / "labels.csv"):
        with pytest.raises(BadRowsError) as error:
            read(source)
        reasons = [row.reason for row in error.value.rows]
        assert reasons == ["cannot be read (File name too long)", "has a name that no file can have"]


def test_images_that_a_table_leaves_out_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write_files(tmp_path, {f"{number}.png": png(number) for number in range(4)})
    (tmp_path / "labels.csv").write_text("path,label\n0.png,AD\n1.png,CN\n")
    with caplog.at_level(logging.WARNING, "mriscope"):
        assert len(read(tmp_path)) == 2
    assert "2 images such as 2.png are not named by labels.csv and were left out" in caplog.text


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("1.png,CN,x,train", "row 2 of .*labels.csv has the position 'x'"),
        ("1.png,CN,1,holdout", "row 2 of .*labels.csv is of the part 'holdout'"),
    ],
)
def test_an_odd_cell_is_named_by_file_and_row(tmp_path: Path, row: str, told: str):
    write_files(tmp_path, {"0.png": png(0), "1.png": png(1)})
    (tmp_path / "labels.csv").write_text(f"path,label,position,part\n0.png,AD,0,train\n{row}\n")
    with pytest.raises(DataError, match=told):
        read(tmp_path)


def test_a_volume_without_orientation_is_pointed_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for number, label in enumerate(("AD", "CN")):
        (tmp_path / label).mkdir()
        image = nibabel.Nifti1Image(brain(number), None)
        image.header["sform_code"] = image.header["qform_code"] = 0
        nibabel.save(image, tmp_path / label / "scan.nii")
    with caplog.at_level(logging.WARNING, "mriscope"):
        read(tmp_path)
    assert "2 volumes do not tell how they lie in space" in caplog.text


def test_numbers_in_several_parts_are_pointed_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Nobody but the user knows whether patient1 of the test part is that of the training part."""
    ends = [f"{label}/patient{label}{at}_{at}.png" for label in "12" for at in "34"]
    names = [f"{part}/{end}" for part in ("train", "test") for end in ends]
    names += [name.replace(".png", "5.png") for name in names]
    write_files(tmp_path, {name: png(seed) for seed, name in enumerate(names)})
    with caplog.at_level(logging.WARNING, "mriscope"):
        assert read(tmp_path).n_subjects == 4
    assert "patient13 lies in test and train and was taken for one subject, as were 3 others" in caplog.text
    assert read(tmp_path, subject_pattern=r"(?P<subject>.*patient\d+)").n_subjects == 8


@pytest.mark.parametrize("suffix", [".mgz", ".img", ".webp"])
def test_formats_that_are_not_read_are_named(tmp_path: Path, suffix: str):
    write_files(tmp_path, {f"AD/1{suffix}": b"x", f"CN/2{suffix}": b"x"})
    with pytest.raises(DataError, match=rf"AD/1\{suffix} is of a format that is not read, so convert it to NIfTI"):
        read(tmp_path)


def test_links_to_folders_are_named(tmp_path: Path):
    write_files(tmp_path / "real", {"1.png": png(1)})
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "AD").symlink_to(tmp_path / "real", target_is_directory=True)
    with pytest.raises(DataError, match="AD is a link to a folder, and those are not followed"):
        read(tmp_path / "set")


def test_a_spreadsheet_is_no_table(tmp_path: Path):
    write_files(tmp_path, {"set/AD/1.png": png(1), "set/CN/1.png": png(2), "people.xlsx": b"PK\x03\x04" + bytes(90)})
    with pytest.raises(DataError, match=r"people.xlsx is a spreadsheet or a zip file; save it as CSV UTF-8"):
        read(tmp_path / "set", manifest=tmp_path / "people.xlsx")
