"""NIfTI: claims are checked before voxels are touched, and class folders of volumes give what was planted."""

import gzip
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
from volume_files import brain, write_nifti

from mriscope.data.nifti import read_nifti
from mriscope.data.read_options import ReadOptions, split_options, with_options
from mriscope.data.readers import read
from mriscope.errors import BadRowsError, DataError

AFFINE = np.array([[-1.0, 0, 0, 9], [0, 2, 0, -4], [0, 0, 1.5, 3], [0, 0, 0, 1]])


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, ">i2", np.uint16, np.float32, np.float64])
def test_voxels_and_affine_are_those_of_nibabel(tmp_path: Path, kind, name: str, dtype):
    voxels = (brain(0) // 4).astype(dtype)
    header = kind.header_class(endianness=">") if str(dtype).startswith(">") else None
    nibabel.save(kind(voxels, AFFINE, header), tmp_path / name)
    found = read_nifti(tmp_path / name)
    assert np.array_equal(found.data, voxels)
    assert np.allclose(found.affine, AFFINE)


def test_slope_and_intercept_are_applied_and_a_fourth_axis_of_one_is_dropped(tmp_path: Path):
    image = nibabel.Nifti1Image(brain(1)[..., None], AFFINE)
    image.header.set_slope_inter(0.5, -3)
    nibabel.save(image, tmp_path / "a.nii")
    reference = nibabel.Nifti1Image.from_filename(tmp_path / "a.nii").get_fdata()[..., 0]
    found = read_nifti(tmp_path / "a.nii").data
    assert found.shape == reference.shape
    assert np.abs(found - reference).max() <= 1e-3


def forged(path: Path, change, packed: bool = False) -> Path:
    """A small file whose header was changed after it was written."""
    write_nifti(path.with_name("plain.nii"), brain(2))
    content = bytearray(path.with_name("plain.nii").read_bytes())
    change(content)
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
    return path


def set_shape(*sides: int):
    def change(content: bytearray) -> None:
        content[40:56] = np.array([len(sides), *sides, *[1] * (7 - len(sides))], "<i2").tobytes()

    return change


def set_bytes(at: int, value: np.ndarray):
    def change(content: bytearray) -> None:
        content[at : at + value.nbytes] = value.tobytes()

    return change


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_shape(32_000, 32_000, 500), r"claims 32000 × 32000 × 500 voxels; expected 1 to 134,217,728 in all"),
        (set_shape(500, 500, 400), "claims 500 × 500 × 400 voxels, 200,000,352 bytes, and can hold"),
        (set_shape(20, 20, 20), "is cut short|claims 20 × 20 × 20 voxels, 16,352 bytes, and can hold 6,400 at most"),
        (set_shape(0, 4, 4), "claims 0 × 4 × 4 voxels"),
        (set_shape(7, 18, 12, 2), r"has 4 dimensions \(7 × 18 × 12 × 2\); expected one volume of three"),
        (set_bytes(70, np.array(128, "<i2")), "holds voxels of type .*R.*; expected real numbers"),
        (set_bytes(70, np.array(4242, "<i2")), "has a damaged NIfTI header"),
        (set_bytes(108, np.array(3e9, "<f4")), r"tells of voxels from byte 3e\+09 on"),
        (set_bytes(108, np.array(np.nan, "<f4")), "tells of voxels from byte nan on"),
        (set_bytes(0, np.array(77, "<i4")), "is no NIfTI file: it begins with neither 348 nor 540"),
        (set_bytes(344, np.frombuffer(b"ni1\0", np.uint8)), "is no NIfTI file of one part"),
    ],
)
def test_a_header_that_claims_what_cannot_be_is_refused(tmp_path: Path, change, said: str, packed: bool):
    path = forged(tmp_path / "a.nii", change, packed)
    tracemalloc.start()
    with pytest.raises(DataError, match=said):
        read_nifti(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 250e6


def test_damaged_gzip_files_are_found_out(tmp_path: Path):
    path = write_nifti(tmp_path / "a.nii.gz", brain(3))
    content = bytearray(path.read_bytes())
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="is a damaged gzip file"):
        read_nifti(path)
    content[-6] ^= 1  # of the checksum
    path.write_bytes(content)
    with pytest.raises(DataError, match="is a damaged gzip file"):
        read_nifti(path)


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path):
    plain = write_nifti(tmp_path / "a.nii", brain(4)).read_bytes()
    path = tmp_path / "bomb.nii.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(plain)
        for _ in range(40):
            file.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(DataError, match="holds more than the 6,048 bytes of voxels that its header tells of"):
        read_nifti(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_class_folders_of_volumes_give_subjects_parts_and_positions(tmp_path: Path):
    root, truth = tmp_path / "set", {}
    for seed, (part, name) in enumerate([("train", "AD"), ("train", "CN"), ("test", "AD"), ("test", "CN")]):
        path = f"{part}/{name}/IXI{seed:03d}-Guys-0{seed}28-T1.nii.gz"
        write_nifti(root / path, brain(seed), AFFINE)
        (root / path).with_name("scan.json").write_text("{}")
        truth[path] = (part, name, f"IXI{seed:03d}")
    found = read(root, size=16)
    for row, path in enumerate(found.paths.tolist()):
        volume, _, index = path.partition("#z")
        assert (found.parts[row], found.class_names[found.labels[row]], found.subject_names[row]) == truth[volume]
        assert found.positions[row] == 3 + 1.5 * int(index)
    assert found.parts.tolist() == ["train"] * 24 + ["test"] * 24


def test_options_of_volumes_are_part_of_the_source(tmp_path: Path):
    root = tmp_path / "set"
    for seed, name in enumerate(("AD", "CN")):
        write_nifti(root / name / "a.nii", brain(seed))
    found = read(f"{root}?plane=coronal&slices=3", size=16)
    assert len(found) == 6
    assert all("#y" in path for path in found.paths)
    assert read(f"{root}?slices=2:4", size=16).positions.tolist() == [2, 3, 4, 2, 3, 4]
    with pytest.raises(DataError, match="there is no option 'plan' of a source; did you mean plane"):
        read(f"{root}?plan=axial")
    with pytest.raises(DataError, match="there is no plane 'axial2'"):
        read(f"{root}?plane=axial2")


def test_options_are_written_and_read_as_one_text(tmp_path: Path):
    text = with_options(
        "a b/set", plane="sagittal", slices="-12:34.5", series="*_desc-x_T1w.nii.gz", label_column="a&b=c d"
    )
    assert split_options(text) == (
        "a b/set",
        ReadOptions(plane="sagittal", slices="-12:34.5", series="*_desc-x_T1w.nii.gz", label_column="a&b=c d"),
    )
    assert with_options(text, plane="axial", slices="all") == with_options(
        "a b/set", series="*_desc-x_T1w.nii.gz", label_column="a&b=c d"
    )
    assert with_options("set") == "set"
    odd = tmp_path / "what?plane=axial"
    odd.mkdir()
    assert split_options(str(odd)) == (str(odd), ReadOptions())


def test_bad_volumes_are_listed_and_cost_themselves_alone(tmp_path: Path):
    root = tmp_path / "set"
    for seed, name in enumerate(("AD", "CN")):
        write_nifti(root / name / "good.nii.gz", brain(seed))
    (root / "AD/cut.nii.gz").write_bytes((root / "AD/good.nii.gz").read_bytes()[:900])
    (root / "CN/empty.nii").write_bytes(b"")
    (root / "CN/mesh.gii").write_bytes(b"mesh")
    with pytest.raises(BadRowsError) as error:
        read(root, size=16)
    reasons = {bad.path: bad.reason for bad in error.value.rows}
    assert set(reasons) == {"AD/cut.nii.gz", "CN/empty.nii", "CN/mesh.gii"}
    assert reasons["AD/cut.nii.gz"].startswith("is a damaged gzip file")
    assert len(read(root, size=16, skip_bad=True, bad_rows_to=tmp_path / "bad.csv")) == 24


def test_without_its_packages_the_extra_is_named(tmp_path: Path):
    for seed, name in enumerate(("AD", "CN")):
        write_nifti(tmp_path / "set" / name / "a.nii", brain(seed))
    program = (
        "import sys\nsys.modules['nibabel'] = None\nimport mriscope\nfrom mriscope.errors import MriscopeError\n"
        f"try: mriscope.read({str(tmp_path / 'set')!r})\nexcept MriscopeError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "nibabel is not installed; run: pip install 'mriscope[volumes]'\n"


def test_a_table_lists_volumes_with_what_is_known_of_them(tmp_path: Path):
    root = tmp_path / "set"
    for seed in range(3):
        write_nifti(root / f"scans/{seed}.nii.gz", brain(seed, (6, 7, 4)))
    lines = ["file;diagnosis;subject;session;age", "scans/0.nii.gz;AD;007;m00;71", "scans/1.nii.gz;CN;12.0;;"]
    (root / "table.csv").write_text("\n".join([*lines, "scans/2.nii.gz;AD;007;m12;72", "scans/3.nii.gz;CN;12.0;;70"]))
    with pytest.raises(BadRowsError) as error:
        read(root, size=16)
    (bad,) = error.value.rows
    assert bad.path == "scans/3.nii.gz"
    for source in (root, root / "table.csv", f"{root / 'table.csv'}?slices=all"):
        found = read(source, size=16, skip_bad=True, bad_rows_to=tmp_path / "bad.csv")
        assert found.subject_names[::4].tolist() == ["007", "12.0", "007"]
        assert found.sessions[::4].tolist() == ["m00", "", "m12"]
        assert [found.class_names[label] for label in found.labels[::4]] == ["AD", "CN", "AD"]
        assert found.covariates["age"][::8].tolist() == [71, 72]
    assert len(read(root / "table.csv", slices="2", size=16, skip_bad=True, bad_rows_to=tmp_path / "bad.csv")) == 6


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_named_pipes_and_links_to_nowhere_are_bad_rows(tmp_path: Path):
    root = tmp_path / "set"
    for seed, name in enumerate(("AD", "CN")):
        write_nifti(root / name / "good.nii", brain(seed))
    os.mkfifo(root / "AD/pipe.nii")
    (root / "CN/annexed.nii.gz").symlink_to("nowhere")
    with pytest.raises(BadRowsError) as error:
        read(root, size=16)
    reasons = {bad.path: bad.reason for bad in error.value.rows}
    assert reasons["AD/pipe.nii"] == "is no ordinary file"
    assert reasons["CN/annexed.nii.gz"] == "cannot be read (No such file or directory)"


def test_segmentations_beside_scans_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for seed, who in enumerate(("AD/p1", "CN/p2")):
        write_nifti(tmp_path / f"{who}_T1.nii.gz", brain(seed, (8, 10, 4)))
        write_nifti(tmp_path / f"{who}_seg.nii.gz", brain(seed + 9, (8, 10, 4)))
    found = read(tmp_path, size=16)
    assert {path.partition("#")[0] for path in found.paths.tolist()} == {"AD/p1_T1.nii.gz", "CN/p2_T1.nii.gz"}
    assert "2 segmentations such as AD/p1_seg.nii.gz lie beside the images and were left out" in caplog.text
