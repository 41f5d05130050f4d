"""The audit as a whole: its files, its verdict, and what it says of the real slices."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audit_sets import nothing_found
from data_files import png, write_files

from mriscope.data.manifest import with_manifest
from mriscope.data.readers import read
from mriscope.data.slices import SliceSet
from mriscope.data.split_files import read_split_file
from mriscope.data.splits import by_slice, by_subject, split_record
from mriscope.errors import DataError
from mriscope.recipe import make_recipe
from mriscope.reports.audit import slices_csv
from mriscope.workflows import _subjects, audit
from mriscope.workflows._load import load
from mriscope.workflows._subjects import with_known_subjects
from mriscope.workflows.audit import audit_source, exit_code
from mriscope.workflows.data_info import describe_source
from mriscope.workflows.split import write_splits

PHANTOM = "phantom:subjects=16,slices=6,size=64"


def split_of(folder: Path, slices: SliceSet, make=by_subject) -> str:
    file = folder / "split.json"
    split_record(slices, make(slices, test=0.3, seed=1), 1).write(file)
    return str(file)


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Two class folders of slices that have nothing in common."""
    files = {
        f"data/{name}/{seed}.png": png(row * 10 + seed) for row, name in enumerate(("AD", "CN")) for seed in range(6)
    }
    return write_files(tmp_path, files) / "data"


def test_a_split_by_slice_is_leaky_and_one_by_subject_is_not(tmp_path: Path):
    slices = read(PHANTOM)
    leaky = audit_source(PHANTOM, tmp_path / "leaky", split=split_of(tmp_path, slices, by_slice))
    assert (leaky["leaky"], exit_code(leaky)) == (True, 3)
    assert leaky["verdict"].startswith("LEAKY: 14 of the 14 test subjects, with 100 % of the test slices, also have")
    honest = audit_source(PHANTOM, tmp_path / "honest", split=split_of(tmp_path, slices))
    assert (honest["leaky"], exit_code(honest)) == (False, 0)
    shared = honest["split"]["shared"]
    assert (shared["subjects_in_either"], shared["slices_in_either"]) == (0, 0)
    assert honest["verdict"].startswith("No leak found: the ")
    assert honest["subjects"]["known_from"] == "source"


def test_the_three_files_hold_what_was_found(tmp_path: Path):
    slices = read(PHANTOM)
    facts = audit_source(PHANTOM, tmp_path / "out", split=split_of(tmp_path, slices, by_slice))
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"audit.json", "audit.html", "slices.csv"}
    assert json.loads((tmp_path / "out" / "audit.json").read_text()) == facts
    page = (tmp_path / "out" / "audit.html").read_text()
    assert facts["verdict"].split(":")[1].strip()[:60] in page
    assert page.count("data:image/png;base64,") == 2 + min(12, facts["split"]["shared"]["test_subjects"])
    assert 'src="http' not in page
    with (tmp_path / "out" / "slices.csv").open(newline="", encoding="utf-8") as file:
        listed = list(csv.DictReader(file))
    assert [row["path"] for row in listed] == slices.paths.tolist()
    assert [int(row["subject"]) for row in listed] == slices.subjects.tolist()
    assert {row["part"] for row in listed} == {"train", "validation", "test"}


def test_slices_csv_is_a_manifest(tmp_path: Path):
    audit_source(PHANTOM, tmp_path)
    found = read(PHANTOM, manifest=tmp_path / "slices.csv")
    assert found.subjects.tolist() == read(PHANTOM).subjects.tolist()
    assert found.positions.tolist() == read(PHANTOM).positions.tolist()
    facts = audit_source(PHANTOM, tmp_path, manifest=str(tmp_path / "slices.csv"))
    assert facts["subjects"]["known_from"] == "manifest"
    assert describe_source(PHANTOM, manifest=str(tmp_path / "slices.csv")).subjects_from == "manifest"


def test_names_that_begin_a_formula_are_safe_in_slices_csv_and_read_back(tmp_path: Path):
    paths = ["=1+1.png", "-a.png", "@b.png", "'=c.png"]
    slices = SliceSet.of(np.zeros((4, 2, 2), np.uint8), [0, 0, 1, 1], paths=paths, class_names=("=AD", "CN"))
    known = slices.with_subjects(np.arange(4), np.zeros(4, np.int64))
    (tmp_path / "slices.csv").write_text(slices_csv(known, {"train": np.arange(4)}), encoding="utf-8")
    with (tmp_path / "slices.csv").open(newline="", encoding="utf-8") as file:
        assert not any(cell[:1] in tuple("=+-@") for row in csv.reader(file) for cell in row)
    assert with_manifest(slices, tmp_path / "slices.csv").subjects.tolist() == [0, 1, 2, 3]


def test_without_a_split_the_data_alone_is_audited(tmp_path: Path):
    facts = audit_source(PHANTOM, tmp_path)
    assert (facts["split"], facts["leaky"], exit_code(facts)) == (None, None, 5)
    assert facts["verdict"].startswith("No split was audited")
    assert facts["controls"]["audited"] is None
    assert facts["controls"]["by_subject"]["draws"] == 10
    assert sum(one["subjects"] for one in facts["classes"].values()) == 16


def test_subjects_that_nobody_knows_are_said_to_be_unknown(
    noise: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    facts = audit_source(str(noise), tmp_path, split=split_of(tmp_path, read(noise), by_slice))
    assert (facts["leaky"], exit_code(facts), facts["subjects"]["known_from"]) == (None, 4, None)
    assert facts["verdict"].startswith(
        "CANNOT TELL whether the by slice split shares brains: of 4 of the 4 test slices"
    )
    assert facts["split"]["power"]["open"] == 4
    assert facts["split"]["shared"]["exact_copies"] == facts["split"]["shared"]["near_copies"] == 0
    assert describe_source(str(noise)).n_subjects is None
    assert describe_source(str(noise)).subjects_from is None
    assert not caplog.messages
    assert ",AD,,\n" in (tmp_path / "slices.csv").read_text()


def test_a_manifest_reaches_a_recipe_and_pixels_are_not_asked_then(noise: Path, tmp_path: Path):
    rows = [f"{path},{row // 3}" for row, path in enumerate(read(noise).paths)]
    (tmp_path / "m.csv").write_text("path,subject\n" + "\n".join(rows))
    settings = {"model": "baseline_cnn", "input": {"size": 32}, "manifest": str(tmp_path / "m.csv")}
    reading = load(str(noise), recipe=make_recipe(settings))
    found = reading.slices
    assert reading.subjects_from == "manifest"
    assert found.images.shape == (12, 32, 32)
    assert found.subjects.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert found.fingerprint == read(noise, size=32).fingerprint


@pytest.fixture
def partly(noise: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slices of which pixels are made to tell four subjects of two slices, and leave four slices in doubt."""
    numbers = np.array([0, 0, 1, 1, -1, -1, 2, 2, 3, 3, -1, -1])
    found = replace(nothing_found(12), subjects=numbers, positions=np.where(numbers < 0, -1, np.arange(12) % 2))
    groups = np.array([0, 0, 1, 1, 2, 3, 4, 4, 5, 5, 6, 7])
    found = replace(found, groups=groups, proven=groups)
    for module in (_subjects, audit):
        monkeypatch.setattr(module, "recovered", lambda slices: found)
    return noise


def test_subjects_that_pixels_tell_in_part_are_named_so_and_trained_on_by_nobody(partly: Path, tmp_path: Path):
    assert describe_source(str(partly)).subjects_from == "pixels, partly"
    with pytest.raises(DataError, match=r"the subject of 4 of 12 slices is unknown.*--repair DIR"):
        write_splits(str(partly), tmp_path / "s", protocol="by_subject")
    recipe = make_recipe({"model": "baseline_cnn", "input": {"size": 32}})
    assert load(str(partly), recipe=recipe).subjects_from == "pixels, partly"


def test_a_leaky_split_is_repaired_and_audited_again(tmp_path: Path):
    leaky = split_of(tmp_path, read(PHANTOM), by_slice)
    facts = audit_source(PHANTOM, tmp_path / "out", split=leaky, repair=tmp_path / "fixed")
    assert exit_code(facts) == 3
    repaired = facts["repaired"]
    assert (repaired["leaky"], repaired["left_out"]) == (False, 0)
    assert repaired["uneven"] <= 0.2  # of 16 subjects
    again = json.loads((tmp_path / "fixed" / "audit.json").read_text())
    assert again["leaky"] is False
    assert again["split"]["protocol"] == "by_subject"
    assert read_split_file(tmp_path / "fixed" / "repaired.json", read(PHANTOM)).protocol == "by_subject"


def test_splits_that_are_none(tmp_path: Path):
    with pytest.raises(DataError, match="publishes no train and test part; name a split file"):
        audit_source(PHANTOM, tmp_path / "out", split="published")
    with pytest.raises(DataError, match="there is no split by_slice; name published, or a file"):
        audit_source(PHANTOM, tmp_path / "out", split="by_slice")
    other = split_of(tmp_path, read("phantom:subjects=16,slices=6,size=64,seed=2"))
    with pytest.raises(DataError, match="was made for other data"):
        audit_source(PHANTOM, tmp_path / "out", split=other)
    assert not (tmp_path / "out").exists()


def test_the_published_split_of_the_real_slices_shares_every_subject(real_slices_folder: Path, tmp_path: Path):
    facts = audit_source(str(real_slices_folder), tmp_path)
    assert (facts["leaky"], exit_code(facts), facts["split"]["protocol"]) == (True, 3, "published")
    shared = facts["split"]["shared"]
    assert (shared["test_subjects"], shared["subjects_in_train"], shared["slices_in_train"]) == (200, 200, 1280)
    assert facts["subjects"]["known_from"] == "pixels"
    assert {name: one["subjects"] for name, one in facts["classes"].items()} == {
        "Mild_Demented": 28,
        "Moderate_Demented": 2,
        "Non_Demented": 100,
        "Very_Mild_Demented": 70,
    }
    assert facts["conflicts"]["near_pairs"] == facts["conflicts"]["subjects"] == 0
    controls = facts["controls"]
    assert controls["audited"]["accuracy"]["value"] >= 0.99
    assert controls["by_slice"]["least"] >= 0.99
    assert controls["by_subject"]["greatest"] < 0.6
    assert controls["audited_permuted"]["least"] >= 0.99
    assert controls["by_subject_permuted"]["mean"] == pytest.approx(controls["by_subject_permuted"]["chance"], abs=0.03)


def test_subjects_from_pixels_are_the_same_at_every_size_and_leave_the_fingerprint(real_slices_folder: Path):
    slices = read(real_slices_folder)
    known = with_known_subjects(slices, real_slices_folder)
    small = read(real_slices_folder, size=32)
    assert np.bincount(known.subjects).tolist() == [32] * 200
    assert np.array_equal(with_known_subjects(small, real_slices_folder).subjects, known.subjects)
    assert known.fingerprint == slices.fingerprint
