"""DICOM: the order of slices is that of space, series stay apart, and nobody's name is kept."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.uid as uid_names
import pytest
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_windowing
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, JPEGLosslessSV1
from volume_files import axial_series, brain, dataset, enhanced, write_dicoms

from mriscope.data import dicom
from mriscope.data.readers import read
from mriscope.data.series import find_series
from mriscope.data.volumes import Cut, Slices, Volume, cut_volume
from mriscope.errors import BadRowsError, DataError

SALT = b"salt"


def slices_of(folder: Path, pattern: str | None = None, cut: Cut | None = None) -> Slices:
    """The slices of the one series in a folder, read in this process."""
    headers = {path.name: dicom.read_header(path, SALT) for path in folder.iterdir()}
    (series,) = find_series(headers, pattern)
    if series.problem:
        raise DataError(series.problem)
    layers = [[(folder / name, frame) for name, frame in layer] for layer in series.layers]
    return cut_volume(dicom.read_series(layers, series.frames)[0], cut or Cut())


def test_a_series_gives_the_slices_of_the_same_volume_in_nifti(tmp_path: Path):
    affine = np.array([[0.9, 0, 0, -7], [0, 0.9, 0, 4], [0, 0, 3, 11], [0, 0, 0, 1.0]])
    voxels = brain(0)
    write_dicoms(tmp_path, axial_series(voxels, affine))
    for plane in ("axial", "coronal", "sagittal"):
        expected = cut_volume(Volume(voxels, affine), Cut(plane))
        found = slices_of(tmp_path, cut=Cut(plane))
        assert np.array_equal(found.images, expected.images), plane
        assert np.allclose(found.positions, expected.positions)


@pytest.mark.parametrize("degrees", [0, 12])
def test_names_play_no_part_in_the_order_of_slices(tmp_path: Path, degrees: int):
    """A hundred shuffled namings, instance numbers too: right each time."""
    angle = np.deg2rad(degrees)
    affine = np.eye(4)
    affine[:3, :3] = [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    voxels = brain(1, (6, 7, 9))
    expected = cut_volume(Volume(voxels, affine), Cut())
    rng = np.random.default_rng(degrees)
    images = axial_series(voxels, affine)
    paths = write_dicoms(tmp_path, images)
    headers = [dicom.read_header(path, SALT) for path in paths]
    for _ in range(100):
        names = [f"I{number}" for number in rng.permutation(len(paths))]
        shuffled = dict(sorted(zip(names, headers, strict=True)))
        (series,) = find_series(shuffled)
        order = [names.index(name) for ((name, _),) in series.layers]
        assert order in (list(range(9)), list(range(8, -1, -1)))
    found = slices_of(tmp_path)
    assert np.array_equal(found.images, expected.images)
    assert np.allclose(found.positions, expected.positions)


def test_frames_of_an_enhanced_file_are_ordered_like_files(tmp_path: Path):
    voxels = brain(2)
    images = axial_series(voxels)
    order = np.random.default_rng(0).permutation(len(images))
    write_dicoms(tmp_path, [enhanced([images[at] for at in order])])
    assert np.array_equal(slices_of(tmp_path).images, cut_volume(Volume(voxels, np.eye(4)), Cut()).images)


def test_frames_that_tell_no_place_are_refused(tmp_path: Path):
    (path,) = write_dicoms(tmp_path, [dataset(np.zeros((3, 4, 5), np.int16), NumberOfFrames=3)])
    with pytest.raises(DataError, match="holds 3 frames, and does not tell where each lies"):
        dicom.read_header(path, SALT)


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEG2000Lossless", "JPEGLSLossless", "ImplicitVRLittleEndian"])
def test_transfer_syntaxes_of_the_list_give_the_same_pixels(tmp_path: Path, syntax: str):
    uid = getattr(uid_names, syntax)
    voxels = brain(3, (40, 36, 4))
    images = axial_series(voxels.astype(np.uint16))
    for image in images:
        if uid.is_compressed:
            image.compress(uid)
        image.file_meta.TransferSyntaxUID = uid
    write_dicoms(tmp_path, images)
    assert np.array_equal(slices_of(tmp_path).images, cut_volume(Volume(voxels, np.eye(4)), Cut()).images)


def test_lossless_jpeg_gives_the_same_pixels(tmp_path: Path):
    import gdcm

    voxels = brain(4, (20, 24, 3))
    for path in write_dicoms(tmp_path, axial_series(voxels.astype(np.uint16))):
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(path))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == JPEGLosslessSV1
    assert np.array_equal(slices_of(tmp_path).images, cut_volume(Volume(voxels, np.eye(4)), Cut()).images)


def test_a_pipe_is_no_dicom_file_and_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    assert not dicom.is_dicom(tmp_path / "pipe")


def test_every_syntax_of_the_list_has_a_decoder():
    for uid in dicom.TRANSFER_SYNTAXES:
        assert get_decoder(UID(uid)).is_available, uid


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT"])
@pytest.mark.parametrize("colours", ["MONOCHROME2", "MONOCHROME1"])
def test_rescale_window_and_monochrome1_agree_with_pydicom(tmp_path: Path, function: str, colours: str):
    voxels = brain(5)
    tags = {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": [600, 1], "WindowWidth": [900, 2]}
    images = axial_series(voxels, VOILUTFunction=function, PhotometricInterpretation=colours, **tags)
    write_dicoms(tmp_path, images)
    window = apply_windowing(images[0].pixel_array * 2 - 100, images[0])
    span = 2 * 65_535  # pydicom's window ends at the rescaled range of 16 bits
    low = 2 * -32_768 - 100
    expected = (window - low) / span * 255
    if colours == "MONOCHROME1":
        expected = 255 - expected
    found = slices_of(tmp_path).images[0]
    assert np.abs(found[:, ::1] - expected[:, ::-1]).max() <= 1


def test_windows_that_differ_are_no_window(tmp_path: Path):
    voxels = brain(6)
    images = axial_series(voxels)
    for at, image in enumerate(images):
        image.WindowCenter, image.WindowWidth = 100 + at, 50
    write_dicoms(tmp_path, images)
    assert np.array_equal(slices_of(tmp_path).images, cut_volume(Volume(voxels, np.eye(4)), Cut()).images)


def test_two_series_in_one_folder_are_refused_with_their_list_and_one_can_be_chosen(tmp_path: Path):
    t1, flair = brain(7), brain(8)
    other = {"SeriesInstanceUID": "1.2.3.9", "SeriesNumber": 11, "SeriesDescription": "FLAIR"}
    images = [*axial_series(t1), *axial_series(flair, **other)]
    names = [f"{number}" for number in np.random.default_rng(0).permutation(len(images))]
    write_dicoms(tmp_path, images, names)
    listed = r"holds 2 series \(4: T1 MPRAGE, 12 images; 11: FLAIR, 12 images\); choose one .* with --series"
    with pytest.raises(DataError, match=listed):
        slices_of(tmp_path)
    for pattern, voxels in (("*t1*", t1), ("4", t1), ("11", flair), ("flair", flair)):
        found = slices_of(tmp_path, pattern).images
        assert np.array_equal(found, cut_volume(Volume(voxels, np.eye(4)), Cut()).images), pattern
    with pytest.raises(DataError, match=r"holds no series that match --series \*pd\* \(4: T1 MPRAGE"):
        slices_of(tmp_path, "*pd*")


def test_images_of_several_directions_or_sizes_in_one_series_are_refused(tmp_path: Path):
    images = axial_series(brain(9))
    images[3].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    write_dicoms(tmp_path / "turned", images)
    with pytest.raises(DataError, match=r"mixes images of 2 kinds \(11 axial of 18×14 .*; 1 sagittal of 18×14"):
        slices_of(tmp_path / "turned")
    write_dicoms(tmp_path / "sizes", [*axial_series(brain(9)), dataset(np.zeros((4, 4), np.int16), (0, 0, 99))])
    with pytest.raises(DataError, match=r"mixes images of 2 kinds \(12 axial of 18×14 .*; 1 axial of 4×4 pixels"):
        slices_of(tmp_path / "sizes")


def test_directions_that_differ_by_rounding_are_one(tmp_path: Path):
    images = axial_series(brain(9))
    for at, image in enumerate(images):
        image.ImageOrientationPatient = [1, 1e-6 * (at % 2), 0, 0, 1, 5e-3 + 1e-6 * (at % 3)]
    write_dicoms(tmp_path, images)
    assert len(slices_of(tmp_path).images) == 12


def test_equal_doubles_are_dropped_and_different_ones_refused(tmp_path: Path):
    voxels = brain(10)
    images = axial_series(voxels)
    write_dicoms(tmp_path, [*images, *axial_series(voxels)[3:5]], [f"{at:02d}" for at in range(14)])
    headers = {path.name: dicom.read_header(path, SALT) for path in tmp_path.iterdir()}
    (series,) = find_series(headers)
    assert sorted(map(len, series.layers)) == [1] * 10 + [2] * 2
    layers = [[(tmp_path / name, at) for name, at in layer] for layer in series.layers]
    volume, doubles = dicom.read_series(layers, series.frames)
    assert doubles == 2
    assert np.array_equal(cut_volume(volume, Cut()).images, cut_volume(Volume(voxels, np.eye(4)), Cut()).images)
    echo = axial_series(brain(11))[6]
    echo.save_as(tmp_path / "echo")
    with pytest.raises(DataError, match=r"holds two different images at one place, 06 and echo"):
        slices_of(tmp_path)


def test_a_missing_image_leaves_a_gap_and_not_another_place(tmp_path: Path):
    voxels = brain(12)
    images = axial_series(voxels)
    del images[4:6]
    write_dicoms(tmp_path, images)
    assert slices_of(tmp_path).positions.tolist() == [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]
    with pytest.raises(DataError, match="is axial with gaps"):
        slices_of(tmp_path, cut=Cut("coronal"))


def test_the_header_that_leaves_the_parser_names_nobody(tmp_path: Path):
    image = dataset(np.ones((4, 4), np.int16))
    image.OtherPatientIDs, image.PatientBirthDate, image.InstitutionName = "X-99", "19400101", "St Elsewhere"
    (path,) = write_dicoms(tmp_path, [image])
    told = [str(dicom.read_header(path, salt)) for salt in (b"1", b"2")]
    for secret in ("Doe", "Jane", "4711", "X-99", "19400101", "Elsewhere", "1.2.3"):
        assert secret not in told[0]
    assert told[0] != told[1]  # another key, another digest
    assert dicom.read_header(path, b"1") == dicom.read_header(path, b"1")


def test_what_a_damaged_value_says_is_not_repeated(tmp_path: Path):
    image = dataset(np.ones((4, 4), np.int16))
    (path,) = write_dicoms(tmp_path, [image], ["a.dcm"])
    content = bytearray(path.read_bytes())
    at = content.index(b"\x28\x00\x30\x00DS") + 8  # the value of PixelSpacing, behind its length
    content[at : at + 3] = b"Doe"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        dicom.read_header(path, SALT)
    assert "Doe" not in str(error.value)
    assert "is a damaged DICOM file" in str(error.value)


def bad_file(path: Path, kind: str) -> Path:
    image = dataset(np.ones((4, 4), np.int16))
    if kind == "colour":
        image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
    if kind == "no place":
        del image.ImagePositionPatient
    if kind == "deflated":
        image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    if kind == "claims":
        image.Rows = image.Columns = 65_000
    if kind == "skewed":
        image.ImageOrientationPatient = [1, 0, 0, 1, 0, 0]
    write_dicoms(path.parent, [image], [path.name])
    if kind == "text":
        path.write_text("a note " * 40)
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("colour", "is RGB, 3 samples a pixel; expected grey images"),
        ("no place", r"does not tell where it lies \(ImagePositionPatient"),
        ("deflated", "has the transfer syntax Deflated Explicit VR Little Endian, which is not read"),
        ("claims", "claims 65000 × 65000 × 1 pixels"),
        ("skewed", "is not two directions at right angles"),
        ("text", "is no DICOM file: it lacks the mark DICM at byte 128"),
    ],
)
def test_a_file_of_no_use_says_why(tmp_path: Path, kind: str, said: str):
    with pytest.raises(DataError, match=said):
        dicom.read_header(bad_file(tmp_path / "bad.dcm", kind), SALT)


def class_folders(root: Path) -> dict[str, tuple[str, str, int]]:
    """Four patients in two class folders, the first with two visits; the truth by the folder of each series."""
    truth, seed = {}, 20
    for label, who in enumerate((("a", "b"), ("c", "d"))):
        for patient in who:
            for visit in range(2 if patient == "a" else 1):
                seed += 1
                study = {"StudyInstanceUID": f"1.9.{seed}", "StudyDate": f"2020010{2 - visit}"}  # the later one first
                series: dict[str, Any] = {"PatientID": f"SECRET-{patient}", "SeriesInstanceUID": f"1.8.{seed}", **study}
                folder = f"{('AD', 'CN')[label]}/{patient}{visit}"
                images = axial_series(brain(seed, (10, 12, 5)), **series)
                names = [f"IM{at}" for at in np.random.default_rng(seed).permutation(5)]
                write_dicoms(root / folder, images, names)
                truth[folder] = (patient, str(2 - visit) if patient == "a" else "1", seed)
    return truth


def test_class_folders_of_series_give_subjects_sessions_and_positions(tmp_path: Path, caplog):
    root = tmp_path / "set"
    truth = class_folders(root)
    found = read(root, size=16)
    assert found.class_names == ("AD", "CN")
    names = dict(zip("abcd", ("patient-001", "patient-002", "patient-003", "patient-004"), strict=True))
    for row, path in enumerate(found.paths.tolist()):
        folder = path.rpartition("/series-4#")[0]
        patient, session, _ = truth[folder]
        assert found.class_names[found.labels[row]] == folder.split("/")[0]
        assert found.subject_names[row] == names[patient]
        assert found.sessions[row] == session
        assert found.positions[row] == int(path[-3:])
    assert len(found) == 25
    everything = json.dumps([found.paths.tolist(), found.subject_names.tolist(), caplog.messages])
    assert "SECRET" not in everything


def test_one_patient_id_for_all_is_nobodys(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for at, folder in enumerate(("AD/one", "CN/two")):
        study: dict[str, Any] = {"StudyInstanceUID": f"1.{at}", "SeriesInstanceUID": f"1.{at}.1"}
        write_dicoms(tmp_path / "set" / folder, axial_series(brain(at, (8, 9, 4)), PatientID="ANONYMOUS", **study))
    found = read(tmp_path / "set", size=16)
    assert not found.n_subjects
    assert "2 series have one and the same PatientID; it was taken for nobody's" in caplog.text


def test_what_is_unusable_is_listed_and_the_rest_is_read(tmp_path: Path):
    root = tmp_path / "set"
    class_folders(root)
    bad_file(root / "AD/b0/colour.dcm", "colour")
    (root / "CN/c0/notes.doc").write_bytes(b"word")
    (root / "CN/c0/DICOMDIR").write_bytes(b"index")
    with pytest.raises(BadRowsError) as error:
        read(root, size=16)
    told = {bad.path: bad.reason for bad in error.value.rows}
    assert told == {
        "AD/b0/colour.dcm": "is RGB, 3 samples a pixel; expected grey images",
        "CN/c0/notes.doc": "is no volume; expected .nii, .nii.gz or DICOM files",
    }
    assert len(read(root, size=16, skip_bad=True, bad_rows_to=tmp_path / "bad.csv")) == 25


def test_spellings_and_sessions_of_a_patient_id_are_one_patient(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    ids = {"AD/one": "p01", "AD/two": "P01 ", "CN/one": "OAS1_0001_MR1", "CN/two": "OAS1_0001_MR2", "CN/three": "p02"}
    for at, (folder, patient) in enumerate(ids.items()):
        study: dict[str, Any] = {"StudyInstanceUID": f"1.{at}", "SeriesInstanceUID": f"1.{at}.1"}
        write_dicoms(tmp_path / "set" / folder, axial_series(brain(at, (8, 9, 4)), PatientID=patient, **study))
    found = read(tmp_path / "set", size=16)
    whose = {"/".join(path.split("/")[:2]): who for path, who in zip(found.paths, found.subject_names, strict=True)}
    assert whose["AD/one"] == whose["AD/two"]
    assert whose["CN/one"] == whose["CN/two"]
    assert found.n_subjects == 3
    assert "PatientIDs that differ only in case" in caplog.text
