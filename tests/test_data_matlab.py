"""The figshare brain tumours: image, label and patient as MATLAB wrote them."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from volume_files import write_tumour

from mriscope.data.matlab import read_tumour_slice
from mriscope.data.readers import read
from mriscope.errors import DataError


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3000, (20, 24)).astype(np.int16)


def test_a_folder_of_tumours_gives_classes_and_patients(tmp_path: Path):
    root, truth = tmp_path / "set", {}
    for number in range(1, 13):
        patient = ("100360", "MR0212A", "007")[number % 3]
        write_tumour(root / f"{number}.mat", image(number), number % 3 + 1, patient)
        truth[f"{number}.mat"] = (number % 3, patient, number)
    with h5py.File(root / "cvind.mat", "w") as file:
        file["cvind"] = np.ones((1, 12))
    found = read(root, size=24)
    assert found.class_names == ("meningioma", "glioma", "pituitary")
    assert found.paths.tolist() == [f"{number}.mat" for number in range(1, 13)]
    for row, path in enumerate(found.paths.tolist()):
        assert (found.labels[row], found.subject_names[row]) == truth[path][:2]


def test_the_image_is_upright_and_spans_black_to_white(tmp_path: Path):
    pixels = image(0)
    found = read_tumour_slice(write_tumour(tmp_path / "1.mat", pixels, 2, "100360"))
    low, high = int(pixels.min()), int(pixels.max())
    expected = np.floor((pixels.astype(float) - low) * 255 / (high - low) + 0.5)
    assert found.image.shape == (20, 24)
    assert np.abs(found.image - expected).max() <= 1
    assert (found.label, found.subject) == (1, "100360")


def changed(path: Path, kind: str) -> Path:
    write_tumour(path, image(1), 1, "1")
    if kind == "old":
        path.write_bytes(b"MATLAB 5.0 MAT-file, Platform: PCWIN64".ljust(600, b" "))
    if kind == "text":
        path.write_text("no file of MATLAB")
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:1500])
    if kind in ("large", "label", "lacks", "colour", "linked", "outside"):
        other = write_tumour(path.with_name("other"), image(2), 1, "1")
        with h5py.File(path, "r+") as file:
            if kind == "large":  # a claim of 400 GB in 2 KB
                del file["cjdata/image"]
                file.create_dataset("cjdata/image", (500_000, 400_000), np.int16, chunks=(100, 100))
            if kind == "label":
                del file["cjdata/label"]
                file["cjdata/label"] = np.array([[4.0]])
            if kind == "lacks":
                del file["cjdata/image"]
            if kind in ("linked", "outside"):  # pixels that lie in another file, which nobody named
                del file["cjdata/image"]
            if kind == "linked":
                file["cjdata/image"] = h5py.ExternalLink(str(other), "cjdata/image")
            if kind == "outside":
                file.create_dataset("cjdata/image", (20, 24), np.int16, external=[(str(other), 0, 960)])
            if kind == "colour":
                del file["cjdata/image"]
                file["cjdata/image"] = np.zeros((3, 4, 5))
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("old", "is a MATLAB file older than 7.3; expected HDF5 with cjdata, or save it again with -v7.3"),
        ("text", "is no MATLAB file of format 7.3"),
        ("cut", "is a damaged MATLAB file"),
        ("large", r"holds an image of shape \(500000, 400000\)"),
        ("label", "holds a label that is none of 1, 2 and 3"),
        ("lacks", "lacks cjdata.image or cjdata.label"),
        ("linked", "lacks cjdata.image or cjdata.label"),
        ("outside", "lacks cjdata.image or cjdata.label"),
        ("colour", r"holds an image of shape \(3, 4, 5\)"),
    ],
)
def test_a_file_of_no_use_says_why(tmp_path: Path, kind: str, said: str):
    with pytest.raises(DataError, match=said):
        read_tumour_slice(changed(tmp_path / "1.mat", kind))
