"""Ids of subjects in tables: one subject is one, however its id is spelt and whatever session it ends with."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mriscope.data.manifest import subjects_of, with_manifest
from mriscope.data.readers import read
from mriscope.data.slices import SliceSet
from mriscope.data.subject_ids import split_session, unify_subjects
from mriscope.errors import DataError


def image_folder(folder: Path, *rows: str, header: str = "path,label,subject,part") -> Path:
    """A folder of one small image a row, numbered from 0, and the table that names them."""
    (folder / "i").mkdir(parents=True)
    for at in range(len(rows)):
        Image.fromarray(np.random.default_rng(at).integers(0, 256, (16, 16), np.uint8)).save(folder / f"i/{at}.png")
    (folder / "labels.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("OAS1_0028_MR1", ("OAS1_0028", "MR1")),
        ("OAS1_0028_MR2_mpr-1", ("OAS1_0028", "MR2")),
        ("OAS30001_MR_d0129", ("OAS30001", "MR_d0129")),
        ("OAS30001_ClinicalData_d0000", ("OAS30001", "")),
        ("133_S_0912_m12", ("133_S_0912", "m12")),
        ("IXI002-Guys-0828-T1", ("IXI002", "")),
        ("sub-01_ses-M00", ("sub-01", "ses-M00")),
        ("sub-01_ses-M00_run-1_T1w", ("sub-01", "ses-M00")),
        *((whole, (whole, "")) for whole in ("OAS1_0028", "133_S_0912", "sub-01", "sub-01_b", "p1_MR1", "7", "")),
    ],
)
def test_only_what_known_cohorts_write_after_a_subject_is_cut(name: str, parts: tuple[str, str]):
    assert split_session(name) == parts


def test_what_was_unified_is_said_and_else_nothing():
    assert unify_subjects(["p0", "p1", "", "p0"]).notes == ()
    assert "OAS1_0028_MR1" in unify_subjects(["OAS1_0028_MR1"]).notes[0]
    assert unify_subjects(["p0", "P0"]).notes[0].endswith("such as p0 and P0")
    told = unify_subjects(["p0", "p0 "])
    assert told.subjects == ["p0", "p0"]
    assert len(told.notes) == 1


def test_sessions_in_a_table_of_images_are_of_one_subject(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    ids = [("OAS1_0000_MR1", "train"), ("OAS1_0000_MR2", "test"), ("p0", "train"), ("P0", "test")]
    rows = [f"i/{at}.png,{('AD', 'CN')[at % 2]},{who},{part}" for at, (who, part) in enumerate(ids)]
    found = read(image_folder(tmp_path / "x", *rows))
    subject = dict(zip(found.paths.tolist(), found.subject_names.tolist(), strict=True))
    assert subject == {"i/0.png": "OAS1_0000", "i/1.png": "OAS1_0000", "i/2.png": "p0", "i/3.png": "p0"}
    assert set(found.sessions.tolist()) == {"MR1", "MR2", ""}
    assert "OAS1_0000_MR1" in caplog.text
    assert "p0 and P0" in caplog.text


def test_sessions_in_parquet_are_of_one_subject(tmp_path: Path):
    pixels = (image_folder(tmp_path / "x", "i/0.png,a,b,") / "i/0.png").read_bytes()
    ids = ["OAS1_0000_MR1", "OAS1_0000_MR2", "a", "A"]
    pq.write_table(pa.table({"image": [pixels] * 4, "label": [0, 1, 0, 1], "subject": ids}), tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet").subject_names.tolist() == ["OAS1_0000", "OAS1_0000", "a", "a"]


def test_a_manifest_means_one_subject_by_sessions_and_spellings(tmp_path: Path):
    slices = SliceSet.of(np.zeros((4, 2, 2), np.uint8), [0, 1, 1, 0], paths=list("abcd"), class_names=("AD", "CN"))
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,subject\na,OAS1_0000_MR1\nb,oas1_0000_MR2\nc,p0\nd,P0\n", encoding="utf-8")
    found = with_manifest(slices, manifest)
    assert found.subject_names.tolist() == ["OAS1_0000", "OAS1_0000", "p0", "p0"]
    assert found.sessions.tolist() == ["MR1", "MR2", "", ""]
    assert subjects_of(["b"], (), manifest).tolist() == subjects_of(["a"], (), manifest).tolist() == ["OAS1_0000"]
    manifest.write_text("subject,age\nOAS1_0000_MR1,70\nOAS1_0000_MR2,72\nP0,80\n", encoding="utf-8")
    assert with_manifest(found, manifest).covariates["age"].tolist() == [70, 72, 80, 80]


@pytest.mark.parametrize(
    ("second", "said"),
    [("./i/0.png,AD,p0,train", "say the same"), ("i/0.png,CN,p0,train", "differ"), ("i/0.png,AD,p7,train", "differ")],
)
def test_a_file_named_twice_is_an_error_with_both_rows(tmp_path: Path, second: str, said: str):
    folder = image_folder(tmp_path / "x", "i/0.png,AD,p0,train", "i/1.png,CN,p1,train", second)
    with pytest.raises(DataError, match=rf"twice, in rows 1 and 3, which {said}"):
        read(folder)


def test_a_short_row_is_an_error_with_its_number(tmp_path: Path):
    folder = image_folder(tmp_path / "x", "i/0.png,AD,p0,", "i/1.png,CN", "i/2.png,AD,p1,")
    for source in (folder, folder / "labels.csv"):
        with pytest.raises(DataError, match=r"row 2 of .* has 2 cells where the header has 4; it lacks subject, part"):
            read(source)


def test_labels_that_differ_only_in_case_are_one_class(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    rows = [f"i/{at}.png,{label},p{at},train" for at, label in enumerate(("AD", "ad", "CN", "Cn", "AD"))]
    found = read(image_folder(tmp_path / "x", *rows))
    assert found.class_names == ("AD", "CN")
    assert found.labels.tolist() == [0, 0, 1, 1, 0]
    assert "differ only in case are one class: AD, ad; CN, Cn" in caplog.text
    with pytest.raises(DataError, match="expected two classes"):
        read(image_folder(tmp_path / "y", "i/0.png,AD,p0,train", "i/1.png,ad,p1,train"))


@pytest.mark.parametrize(("kind", "bits"), [(pa.float64(), 53), (pa.float32(), 24)])
def test_decimal_ids_are_exact_or_refused(tmp_path: Path, kind: pa.DataType, bits: int):
    pixels = (image_folder(tmp_path / "x", "i/0.png,a,b,") / "i/0.png").read_bytes()
    exact = [2.0**bits - 1, 2.0**bits - 2, 2.0**bits - 3, None]
    for ids in (exact, [*exact[:3], 2.0**bits]):
        columns = {"image": [pixels] * 4, "label": [0, 1, 0, 1], "subject": pa.array(ids, kind)}
        pq.write_table(pa.table(columns), tmp_path / "x.parquet")
        if ids is exact:
            names = read(tmp_path / "x.parquet").subject_names.tolist()
            assert names == [str(2**bits - 1), str(2**bits - 2), str(2**bits - 3), ""]
    with pytest.raises(DataError, match=rf"below 2\^{bits} only; write the column subject as whole numbers or texts"):
        read(tmp_path / "x.parquet")
