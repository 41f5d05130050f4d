"""DICOM: the order of slices is that of space, series stay apart, and nobody's name is kept."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from volume_files import axial_series, brain, dataset, enhanced, write_dicoms

from mriscope.data import dicom
from mriscope.data.series import find_series
from mriscope.data.volumes import Cut, Slices, Volume, cut_volume
from mriscope.errors import DataError

SALT = b"salt"


def slices_of(folder: Path, pattern: str | None = None, cut: Cut | None = None) -> Slices:
    """The slices of the one series in a folder, read in this process."""
    headers = {path.name: dicom.read_header(path, SALT) for path in folder.iterdir()}
    (series,) = find_series(headers, pattern)
    if series.problem:
        raise DataError(series.problem)
    layers = [[(folder / name, frame) for name, frame in layer] for layer in series.layers]
    return cut_volume(dicom.read_series(layers)[0], cut or Cut())


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
def test_names_play_no_part_in_the_order_of_slices(tmp_path: Path, degrees: float):
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


SYNTAXES = [
    (pydicom.uid.RLELossless, {}),
    (pydicom.uid.JPEG2000Lossless, {}),
    (pydicom.uid.JPEGLSLossless, {}),
    (pydicom.uid.ImplicitVRLittleEndian, None),
    (pydicom.uid.ExplicitVRBigEndian, None),
]


@pytest.mark.parametrize(("syntax", "options"), SYNTAXES, ids=[uid.keyword for uid, _ in SYNTAXES])
def test_transfer_syntaxes_of_the_list_give_the_same_pixels(tmp_path: Path, syntax: pydicom.uid.UID, options):
    assert syntax in dicom.TRANSFER_SYNTAXES
    voxels = brain(3)
    images = axial_series(voxels.astype(np.uint16))
    for image in images:
        if options is not None:
            image.compress(syntax, **options)
        else:
            image.file_meta.TransferSyntaxUID = syntax
            if syntax == pydicom.uid.ExplicitVRBigEndian:
                image.PixelData = image.pixel_array.astype(">u2").tobytes()
    folder = tmp_path / "series"
    folder.mkdir()
    for number, image in enumerate(images):
        pydicom.dcmwrite(folder / f"{number}", image, enforce_file_format=True, force_encoding=True) if False else (
            image.save_as(folder / f"{number}", enforce_file_format=True)
        )
    assert np.array_equal(slices_of(folder).images, cut_volume(Volume(voxels, np.eye(4)), Cut()).images)
