"""The rows of docs/data.md about volumes, and a BIDS data set from training to explanation."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_files import write_files
from volume_files import axial_series, brain, enhanced, phantom_bids, write_dicoms, write_nifti, write_tumour

from mriscope import cli
from mriscope.results import Answer

PAGE = Path(__file__).resolve().parents[1] / "docs" / "data.md"
TABLE = re.search(r"## Volumes.*?\n\|---\|---\|---\|\n(.*?)\n\n", PAGE.read_text(encoding="utf-8"), re.DOTALL)
SHAPE = (8, 10, 4)


def class_folders(root: Path) -> None:
    for seed in range(4):
        write_nifti(root / ("AD", "CN")[seed % 2] / f"IXI{seed:03d}-Guys-0{seed}28-T1.nii.gz", brain(seed, SHAPE))


def bids(root: Path, column: str = "diagnosis", tail: str = "_T1w") -> None:
    table = f"participant_id\t{column}\tage\n" + "".join(
        f"sub-{n}\t{('AD', 'CN')[n % 2]}\t{70 + n}\n" for n in range(4)
    )
    write_files(root, {"participants.tsv": table.encode()})
    for seed in range(4):
        write_nifti(root / f"sub-{seed}/anat/sub-{seed}{tail}.nii.gz", brain(seed, SHAPE))


def derivatives(root: Path) -> None:
    bids(root)
    for seed in range(4):
        name = f"derivatives/fmriprep/sub-{seed}/anat/sub-{seed}_desc-preproc_T1w.nii.gz"
        write_nifti(root / name, brain(seed, SHAPE))


def copies(root: Path) -> None:
    bids(root)
    bids(root, tail="_space-MNI_T1w")


def dicom(root: Path) -> None:
    for seed in range(4):
        about: dict[str, Any] = {
            "PatientID": f"{seed}",
            "StudyInstanceUID": f"1.{seed}",
            "SeriesInstanceUID": f"1.{seed}.1",
        }
        images = axial_series(brain(seed, SHAPE), **about)
        folder = root / ("AD", "CN")[seed % 2] / f"p{seed}"
        if seed:
            write_dicoms(folder, images, [f"IM{at}" for at in (2, 0, 3, 1)])
        else:
            whole = enhanced(images)
            whole.PatientID, whole.StudyInstanceUID, whole.SeriesInstanceUID = about.values()
            write_dicoms(folder, [whole])


def listed(root: Path) -> None:
    for seed in range(4):
        write_nifti(root / f"{seed}.nii.gz", brain(seed, SHAPE))
    rows = [f"{seed}.nii.gz,{('AD', 'CN')[seed % 2]},{seed % 3:03d}" for seed in range(4)]
    write_files(root, {"table.csv": "\n".join(["path,label,subject", *rows]).encode()})


def packed(root: Path) -> None:
    contents = [write_nifti(root.parent / f"{seed}.nii.gz", brain(seed, SHAPE)).read_bytes() for seed in range(4)]
    told = pa.array([{"bytes": one, "path": f"{at}.nii.gz"} for at, one in enumerate(contents)])
    table = pa.table({"nifti": told, "label": ["AD", "CN", "AD", "CN"], "subject": ["007", "008", "009", "010"]})
    root.mkdir()
    pq.write_table(table, root / "train-00000.parquet")


def two_series(root: Path) -> None:
    dicom(root)
    for seed in range(4):
        about: dict[str, Any] = {
            "PatientID": f"{seed}",
            "StudyInstanceUID": f"1.{seed}",
            "SeriesInstanceUID": f"1.{seed}.2",
        }
        flair: dict[str, Any] = {"SeriesNumber": 9, "SeriesDescription": "FLAIR", **about}
        folder = root / ("AD", "CN")[seed % 2] / f"p{seed}"
        write_dicoms(folder, axial_series(brain(9, SHAPE), **flair), [f"x{at}" for at in range(4)])


def tumours(root: Path) -> None:
    for number in range(1, 7):
        write_tumour(root / f"{number}.mat", brain(number, SHAPE)[:, :, 1], number % 3 + 1, f"{number % 4}")


ROWS: list[tuple[Callable[[Path], None], int, int]] = [
    (class_folders, 16, 4),
    (bids, 12, 4),
    (lambda root: bids(root, "cdr_global"), 16, 4),
    (derivatives, 16, 4),
    (copies, 16, 4),
    (dicom, 40, 4),
    (listed, 12, 3),
    (packed, 12, 4),
    (two_series, 16, 4),
    (tumours, 6, 4),
]
"""What makes the tree of each row, and the slices and subjects in it."""


def test_the_table_has_a_tree_for_each_row():
    assert TABLE is not None
    assert len(TABLE[1].splitlines()) == len(ROWS)


@pytest.mark.parametrize("row", range(len(ROWS)))
def test_the_command_of_a_row_does_what_it_says(row: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert TABLE is not None
    command = re.findall("`([^`]+)`", TABLE[1].splitlines()[row].rpartition("|")[0].rpartition("|")[2])[0]
    make, slices, subjects = ROWS[row]
    make(tmp_path / "set")
    words = [word.replace("SET", str(tmp_path / "set")) for word in shlex.split(command)]
    assert words[0] == "mriscope"
    code = cli._run_app([*words[1:], "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (code, told["n_slices"], told["n_subjects"], told["subjects_from"]) == (0, slices, subjects, "source")


def test_a_bids_data_set_is_trained_on_audited_explained_and_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Twelve phantom brains, with two sessions of the first: a run by subject never divides it."""
    root = tmp_path / "bids"
    phantom_bids(root)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        f"model: baseline_cnn\ndata: {root}\ninput: {{size: 32}}\ntraining: {{epochs: 1, batch_size: 16}}\n"
        "split: {protocol: by_subject, test: 0.3, validation: 0.2}\n"
    )
    run = tmp_path / "run"
    assert cli._run_app(["train", str(recipe), "--slices", "6", "--out", str(run)]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["leaky"] is False
    assert metrics["n_subjects"] * 6 <= metrics["n_slices"] <= (metrics["n_subjects"] + 1) * 6
    code = cli._run_app(
        ["audit", str(root), "--slices", "6", "--split", str(run / "split.json"), "--out", str(tmp_path / "audit")]
    )
    assert code in (0, 3, 4)  # phantom brains cut anew are too few to prove that none is another's copy
    assert (tmp_path / "audit" / "audit.html").is_file()
    assert cli._run_app(["explain", str(run), "--out", str(tmp_path / "maps")]) == 0
    capsys.readouterr()
    assert cli._run_app(["predict", str(run), str(root), "--json"]) == 0
    answer = Answer.from_json(capsys.readouterr().out)
    assert [one.name for one in answer.subjects] == [f"sub-{who:02d}" for who in range(12)]
    assert [one.n_slices for one in answer.subjects] == [12, *[6] * 11]  # two sessions of the first, six slices each
    page = (tmp_path / "maps" / "explain.html").read_text()
    assert page.count("<span>L</span>the slice<span>R</span>") == 8
    assert "not known of image files" not in page
    capsys.readouterr()
