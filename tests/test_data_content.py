"""One file as bytes: the slices are those that reading it from a disk gives, and nothing is written."""

import io

import numpy as np
import pytest
from PIL import Image
from volume_files import axial_series, brain, enhanced, write_dicoms, write_nifti

from mriscope.data.content import read_content
from mriscope.data.images import read_images
from mriscope.data.sandbox import Sandbox
from mriscope.data.volumes import Cut, Volume, cut_volume
from mriscope.errors import DataError


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "16 bits"])
def test_a_picture_is_read_as_from_a_disk(tmp_path, sandbox, kind):
    deep = kind == "16 bits"
    pixels = (
        np.random.default_rng(0).integers(0, 1000 if deep else 256, (40, 30)).astype(np.uint16 if deep else np.uint8)
    )
    Image.fromarray(pixels).save(tmp_path / "one", "PNG" if deep else kind)
    found = read_content("one", (tmp_path / "one").read_bytes(), sandbox, size=32)
    np.testing.assert_array_equal(found.images, read_images([tmp_path / "one"], 32).images)
    assert found.paths == ("one",)


@pytest.mark.parametrize("plane", ["axial", "coronal"])
def test_a_volume_gives_its_slices(tmp_path, sandbox, plane):
    voxels = brain(1, (32, 32, 32))
    content = write_nifti(tmp_path / "scan.nii.gz", voxels).read_bytes()
    found = read_content("scan.nii.gz", content, sandbox, size=32, cut=Cut(plane))
    np.testing.assert_array_equal(found.images, cut_volume(Volume(voxels, np.eye(4)), Cut(plane)).images)
    assert found.paths[:2] == (
        ("scan.nii.gz#z000", "scan.nii.gz#z001") if plane == "axial" else ("scan.nii.gz#y000", "scan.nii.gz#y001")
    )


@pytest.mark.parametrize("orientation", [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1]])
def test_a_dicom_image_is_read_in_its_own_plane(tmp_path, sandbox, orientation):
    (image,) = axial_series(brain(2, (32, 32, 8)))[3:4]
    image.ImageOrientationPatient = orientation
    (path,) = write_dicoms(tmp_path, [image])
    found = read_content("IM3", path.read_bytes(), sandbox, size=32)
    (name,) = found.paths
    assert name == {(1, 1): "IM3#z000", (1, -1): "IM3#y000", (0, -1): "IM3#x000"}[orientation[0], sum(orientation[3:])]
    shown = found.images[0]
    assert len(np.unique(shown)) > 100  # the picture itself, not a line of it


def test_an_enhanced_file_is_a_volume(tmp_path, sandbox):
    (path,) = write_dicoms(tmp_path, [enhanced(axial_series(brain(3, (20, 20, 6))))])
    assert len(read_content("many.dcm", path.read_bytes(), sandbox, size=32)) == 6


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "scan is empty"),
        (b"hello", "scan is no JPEG, PNG, TIFF or BMP; expected a JPEG, PNG, TIFF, BMP, NIfTI or DICOM file"),
        (b"\x1f\x8b" + bytes(50), "scan is a damaged gzip file"),
        ((348).to_bytes(4, "little") + bytes(600), "scan has a damaged NIfTI header"),
        (bytes(128) + b"DICM" + bytes(100), "scan has the transfer syntax that is not told"),
    ],
)
def test_a_wrong_file_is_answered_with_its_name_and_the_reason(sandbox, content, told):
    with pytest.raises(DataError, match=told):
        read_content("scan", content, sandbox, size=32)


def test_a_cut_picture_is_told_as_such(sandbox):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(buffer, "PNG")
    with pytest.raises(DataError, match="half is a PNG cut short"):
        read_content("half", buffer.getvalue()[:2000], sandbox, size=32)
