"""The audit as a whole: its files, its verdict, and what it says of the real slices."""

import csv
import html
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audit_sets import nothing_found
from data_files import encoded, png, write_files

from mriscope.audit.copies import Copies, Pose
from mriscope.audit.verdict import CopySearch
from mriscope.cli import app
from mriscope.data.manifest import manifest_csv, with_manifest
from mriscope.data.readers import read
from mriscope.data.slices import SliceSet
from mriscope.data.split_files import read_split_file
from mriscope.data.splits import by_slice, by_subject, split_record
from mriscope.errors import DataError
from mriscope.recipe import make_recipe, read_recipe
from mriscope.recipes import match_recipes
from mriscope.results import Audit, SplitRecord
from mriscope.workflows import _leakage, _subjects
from mriscope.workflows._load import load, read_any_size
from mriscope.workflows._subjects import with_known_subjects
from mriscope.workflows.audit import _copy_strips, audit_source, exit_code
from mriscope.workflows.data_info import describe_source
from mriscope.workflows.split import write_splits

PHANTOM = "phantom:subjects=16,slices=6,size=64"


def commands_of(page: Path) -> list[list[str]]:
    """The next steps that a page names, each as words without the first, mriscope."""
    found = re.findall("<code>(.*?)</code>", page.read_text(encoding="utf-8"))
    commands = [shlex.split(html.unescape(one)) for one in found]
    assert all(words[0] == "mriscope" for words in commands)
    return [words[1:] for words in commands]


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
    assert (leaky.leaky, exit_code(leaky)) == (True, 3)
    assert leaky.verdict.startswith("LEAKY: 14 of the 14 test subjects, with 100 % of the test slices, also have")
    honest = audit_source(PHANTOM, tmp_path / "honest", split=split_of(tmp_path, slices))
    assert (honest.leaky, exit_code(honest)) == (False, 0)
    assert honest.split is not None
    shared = honest.split.shared
    assert (shared.subjects_in_either, shared.slices_in_either) == (0, 0)
    assert honest.verdict.startswith("No leak found: the ")
    assert honest.subjects.known_from == "source"


def test_the_three_files_hold_what_was_found(tmp_path: Path):
    slices = read(PHANTOM)
    found = audit_source(PHANTOM, tmp_path / "out", split=split_of(tmp_path, slices, by_slice))
    written = {file.name for file in (tmp_path / "out").iterdir() if file.name[0] != "."}
    assert written == {"audit.json", "audit.html", "slices.csv"}
    assert Audit.read(tmp_path / "out" / "audit.json") == found
    assert found.split is not None
    page = (tmp_path / "out" / "audit.html").read_text()
    assert found.verdict.split(":")[1].strip()[:60] in page
    assert page.count("data:image/png;base64,") == 2 + min(12, found.split.shared.test_subjects or 0)
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
    found = audit_source(PHANTOM, tmp_path, manifest=str(tmp_path / "slices.csv"))
    assert found.subjects.known_from == "manifest"
    assert describe_source(PHANTOM, manifest=str(tmp_path / "slices.csv")).subjects_from == "manifest"


def test_names_that_begin_a_formula_are_safe_in_slices_csv_and_read_back(tmp_path: Path):
    paths = ["=1+1.png", "-a.png", "@b.png", "'=c.png"]
    slices = SliceSet.of(np.zeros((4, 2, 2), np.uint8), [0, 0, 1, 1], paths=paths, class_names=("=AD", "CN"))
    known = slices.with_subjects(np.arange(4), np.zeros(4, np.int64))
    (tmp_path / "slices.csv").write_text(manifest_csv(known, {"train": np.arange(4)}), encoding="utf-8")
    with (tmp_path / "slices.csv").open(newline="", encoding="utf-8") as file:
        assert not any(cell[:1] in tuple("=+-@") for row in csv.reader(file) for cell in row)
    assert with_manifest(slices, tmp_path / "slices.csv").subjects.tolist() == [0, 1, 2, 3]


def test_without_a_split_the_data_alone_is_audited(tmp_path: Path):
    found = audit_source(PHANTOM, tmp_path)
    assert (found.split, found.leaky, exit_code(found)) == (None, None, 5)
    assert found.verdict.startswith("No split was audited")
    assert found.controls.audited is None
    assert found.controls.by_subject is not None
    assert found.controls.by_subject.draws == 10
    assert sum(one.subjects or 0 for one in found.classes.values()) == 16


def test_subjects_that_nobody_knows_are_said_to_be_unknown(
    noise: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    found = audit_source(str(noise), tmp_path, split=split_of(tmp_path, read(noise), by_slice))
    assert found.split is not None
    assert (found.leaky, exit_code(found), found.subjects.known_from) == (None, 4, None)
    assert found.verdict.startswith("CANNOT TELL whether the by slice split shares brains: of 4 of the 4 test slices")
    assert found.split.power.open == 4
    assert found.split.shared.exact_copies == found.split.shared.near_copies == 0
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


def pretend(numbers: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pixels tell these subjects of the slices, -1 for one in doubt."""
    subjects_told = np.array(numbers)
    alone = subjects_told.max() + 1 + np.arange(len(numbers))
    groups = np.unique(np.where(subjects_told < 0, alone, subjects_told), return_inverse=True)[1]
    positions = np.where(subjects_told < 0, -1, np.arange(len(numbers)) % 2)
    found = replace(
        nothing_found(len(numbers)), subjects=subjects_told, positions=positions, groups=groups, proven=groups
    )
    for module in (_subjects, _leakage):
        monkeypatch.setattr(module, "recovered", lambda slices: found)


@pytest.fixture
def partly(noise: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slices of which pixels are made to tell four subjects of two slices, and leave four slices in doubt."""
    pretend([0, 0, 1, 1, -1, -1, 2, 2, 3, 3, -1, -1], monkeypatch)
    return noise


def test_subjects_that_pixels_tell_in_part_are_named_so_and_trained_on_by_nobody(partly: Path, tmp_path: Path):
    assert describe_source(str(partly)).subjects_from == "pixels, partly"
    with pytest.raises(DataError, match=r"the subject of 4 of 12 slices is unknown.*--repair DIR"):
        write_splits(str(partly), tmp_path / "s", protocol="by_subject")
    recipe = make_recipe({"model": "baseline_cnn", "input": {"size": 32}})
    assert load(str(partly), recipe=recipe).subjects_from == "pixels, partly"


def test_a_repaired_split_leaves_out_what_is_in_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = {f"d/{name}/{seed}.png": png(10 * row + seed) for row, name in enumerate(("AD", "CN")) for seed in range(8)}
    source = str(write_files(tmp_path, files) / "d")
    pretend([0, 0, 1, 1, 2, 2, -1, -1, 3, 3, 4, 4, 5, 5, -1, -1], monkeypatch)
    found = audit_source(
        source, tmp_path / "a", split=split_of(tmp_path, read(source), by_slice), repair=tmp_path / "r"
    )
    assert (found.subjects.known_from, found.subjects.known_slices) == ("pixels, partly", 12)
    assert found.repaired is not None
    assert (found.repaired.left_out, found.repaired.uneven, found.repaired.leaky) == (4, 0, None)
    assert exit_code(found) == 3
    parts = SplitRecord.read(tmp_path / "r" / "repaired.json").parts
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (4, 4, 4)  # a subject of each class in each
    again = Audit.read(tmp_path / "r" / "audit.json")
    assert again.split is not None
    assert (again.split.shared.subjects_in_either, again.verdict) == (0, found.repaired.verdict)
    assert Audit.read(tmp_path / "a" / "audit.json") == found


def test_a_set_too_small_to_be_repaired_is_audited_and_the_way_out_is_named(partly: Path, tmp_path: Path):
    split = split_of(tmp_path, read(partly), by_slice)
    with pytest.raises(
        DataError, match=r"4 subjects .* among 12 slices \(AD 2, CN 2\), .* some class needs three, .*; name"
    ):
        audit_source(str(partly), tmp_path / "a", split=split, repair=tmp_path / "r")
    assert Audit.read(tmp_path / "a" / "audit.json").repaired is None
    assert not (tmp_path / "r").exists()


def test_copies_of_two_named_subjects_stay_on_one_side_of_a_repaired_split(tmp_path: Path):
    slices = read(PHANTOM)
    images = slices.images.copy()
    images[slices.subjects == 1] = images[slices.subjects == 0]  # one brain under two names
    data = {
        f"d/{slices.class_names[label]}/{row:02}.png": encoded(images[row]) for row, label in enumerate(slices.labels)
    }
    source = str(write_files(tmp_path, data) / "d")
    named = {path: row for row, path in enumerate(data)}
    lines = [f"{path},{slices.subjects[named[f'd/{path}']]}" for path in read(source).paths]
    (tmp_path / "m.csv").write_text("path,subject\n" + "\n".join(lines), encoding="utf-8")
    manifest = str(tmp_path / "m.csv")
    found = audit_source(source, tmp_path / "a", manifest=manifest, repair=tmp_path / "r")
    assert found.repaired is not None
    assert found.repaired.leaky is False
    again = Audit.read(tmp_path / "r" / "audit.json")
    assert again.split is not None
    assert (again.split.shared.exact_copies, again.split.shared.subjects_in_either) == (0, 0)


def test_next_steps_work_as_they_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    audit_source(PHANTOM, "out put", split=split_of(tmp_path, read(PHANTOM), by_slice))
    repair, crossval = commands_of(Path("out put/audit.html"))
    assert (repair[0], crossval[0], len(match_recipes(crossval[1]))) == ("audit", "crossval", 1)
    assert app(repair, standalone_mode=False) == 3
    assert Audit.read("repaired/audit.json").leaky is False
    train = commands_of(Path("repaired/audit.html"))[0]
    assert read_recipe(train[1], train[train.index("--set") + 1 :]).split.file == "repaired/repaired.json"


def test_slices_of_which_no_subject_is_known_have_a_next_step_too(
    noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    audit_source(str(noise), "out")
    (words,) = commands_of(Path("out/audit.html"))
    assert words[2:4] == ["--manifest", "out/slices.csv"]
    assert app(words, standalone_mode=False) == 5


def test_a_leaky_split_is_repaired_and_audited_again(tmp_path: Path):
    leaky = split_of(tmp_path, read(PHANTOM), by_slice)
    found = audit_source(PHANTOM, tmp_path / "out", split=leaky, repair=tmp_path / "fixed")
    assert exit_code(found) == 3
    repaired = found.repaired
    assert repaired is not None
    assert (repaired.leaky, repaired.left_out) == (False, 0)
    assert repaired.uneven <= 0.2  # of 16 subjects
    again = Audit.read(tmp_path / "fixed" / "audit.json")
    assert again.leaky is False
    assert again.split is not None
    assert again.split.protocol == "by_subject"
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
    found = audit_source(str(real_slices_folder), tmp_path)
    assert found.split is not None
    assert (found.leaky, exit_code(found), found.split.protocol) == (True, 3, "published")
    shared = found.split.shared
    assert (shared.test_subjects, shared.subjects_in_train, shared.slices_in_train) == (200, 200, 1280)
    assert found.subjects.known_from == "pixels"
    assert {name: one.subjects for name, one in found.classes.items()} == {
        "Mild_Demented": 28,
        "Moderate_Demented": 2,
        "Non_Demented": 100,
        "Very_Mild_Demented": 70,
    }
    assert found.conflicts.near_pairs == found.conflicts.subjects == 0
    controls = found.controls
    assert controls.audited is not None
    assert controls.audited.accuracy.value >= 0.99
    assert controls.by_slice is not None
    assert controls.by_slice.least >= 0.99
    assert controls.by_subject is not None
    assert controls.by_subject.greatest < 0.6
    assert controls.audited_permuted is not None
    assert controls.audited_permuted.least >= 0.99
    assert controls.by_subject_permuted is not None
    assert controls.by_subject_permuted.mean == pytest.approx(controls.by_subject_permuted.chance, abs=0.03)


def test_subjects_from_pixels_are_the_same_at_every_size_and_leave_the_fingerprint(real_slices_folder: Path):
    slices = read(real_slices_folder)
    known = with_known_subjects(slices, real_slices_folder)
    small = read(real_slices_folder, size=32)
    assert np.bincount(known.subjects).tolist() == [32] * 200
    assert np.array_equal(with_known_subjects(small, real_slices_folder).subjects, known.subjects)
    assert known.fingerprint == slices.fingerprint


def test_slices_of_several_sizes_are_audited_at_the_usual_one(tmp_path: Path) -> None:
    files = {f"{name}/{seed}.png": png(seed, 64, 64) for seed, name in enumerate(["ill"] * 3 + ["well"] * 3)}
    several = write_files(tmp_path / "several", {**files, "well/9.png": png(9, 96, 96)})
    assert read_any_size(str(several), manifest=None, skip_bad=False).slices.images.shape == (7, 128, 128)
    broken = write_files(tmp_path / "broken", {**files, "well/9.png": b"no picture"})
    with pytest.raises(DataError, match=r"9\.png"):
        read_any_size(str(broken), manifest=None, skip_bad=False)


def test_altered_slices_stand_beside_their_origins_with_the_change_in_words() -> None:
    """Slices 4 to 7 were looked for among 0 to 3; that the last has an origin is not certain."""
    slices = read(PHANTOM)[:8]
    poses = (Pose(True, 0.2, 1.0, (0, 0)), Pose(False, -15.2, 1.1, (0, 0)), Pose(False, 0.0, 1.0, (2, 0)))
    copies = Copies(
        origin=np.array([2, 0, 1, -1]),
        nearest=np.array([2, 0, 1, 3]),
        correlation=np.array([0.7, 0.9, 0.8, 0.95], np.float32),
        poses=(*poses, poses[0]),
        copy=np.array([True, True, True, False]),
        level=0.6,
        false_rate=0.0,
    )
    strips = _copy_strips(slices, CopySearch(np.arange(4, 8), np.arange(4)[::-1].copy(), copies, True))
    assert [one.similarity for one in strips] == pytest.approx([0.9, 0.8, 0.7])
    told = [one.lines for one in strips]
    changes = ["turned 15° right, zoom 1.10", "in the same pose", "mirrored"]
    assert [lines[1].rpartition(": ")[2] for lines in told] == changes
    assert [slices.paths[row] in lines[0] for row, lines in zip((5, 6, 4), told, strict=True)] == [True] * 3
    assert [slices.paths[row] in lines[2] for row, lines in zip((3, 2, 1), told, strict=True)] == [True] * 3
