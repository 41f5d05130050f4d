"""Ids in names: what cohorts write is read whole, a user's pattern is held to its time, and nothing is guessed."""

import math
import time

import pytest

from mriscope.data import identifiers
from mriscope.data.identifiers import NOBODY, identify
from mriscope.errors import DataError

NOTHING: dict[str, str] = {}


@pytest.mark.parametrize(
    ("path", "subject", "session", "position", "further"),
    [
        ("Mild Dementia/OAS1_0028_MR1_mpr-1_100.jpg", "OAS1_0028", "MR1", 100, {"acquisition": "mpr-1"}),
        ("AD/OAS1_0028_MR2/7.png", "OAS1_0028", "MR2", 7, NOTHING),
        ("AD/OAS30001_MR_d0129/55.png", "OAS30001", "MR_d0129", 55, NOTHING),
        ("AD/141_S_0696_slice_Y74.jpg", "141_S_0696", "", 74, {"plane": "Y"}),
        (
            "ADNI/133_S_0912/MPR/S19884/ADNI_133_S_0912_MR_S19884_I119626_045.png",
            "133_S_0912",
            "S19884",
            45,
            {"series": "S19884", "image": "I119626"},
        ),
        (
            "ADNI/133_S_0912/2006-10-09/S19884/I119626/3.png",
            "133_S_0912",
            "S19884",
            3,
            {"series": "S19884", "image": "I119626"},
        ),
        ("AD/IXI002-Guys-0828-T1_100.png", "IXI002", "", 100, {"site": "Guys", "scan": "0828"}),
        ("AD/sub-01/ses-02/slice-045.png", "sub-01", "ses-02", 45, NOTHING),
        ("sub-01_ses-02_acq-mprage_run-1_T1w_z80.png", "sub-01", "ses-02", 80, {"acquisition": "mprage", "plane": "Z"}),
        ("CN/sub-ADNI002S0295_ses-M00_T1w.nii.gz", "sub-ADNI002S0295", "ses-M00", None, NOTHING),
        ("sub-001.png", "sub-001", "", None, NOTHING),
        ("AD/Patient 12/3.png", "Patient 12", "", 3, NOTHING),
        ("AD/patient 3/OAS1_0001_MR1_mpr-2_9.png", "OAS1_0001", "MR1", 9, {"acquisition": "mpr-2"}),
        ("AD/1.png", "", "", None, NOTHING),
        ("AD/sub-cortical/1.png", "", "", None, NOTHING),
        ("AD/20070219173556321.png", "", "", None, NOTHING),
    ],
)
def test_names_of_cohorts(path: str, subject: str, session: str, position: float | None, further: dict[str, str]):
    (found,), _ = identify([path])
    assert (found.subject, found.session, dict(found.further)) == (subject, session, further)
    assert math.isnan(found.position) if position is None else found.position == position


def test_one_subject_in_small_and_large_letters():
    found, _ = identify(["AD/OAS1_0028_MR1_mpr-1_1.jpg", "AD/oas1_0028_mr2_mpr-1_1.jpg"])
    assert [one.subject for one in found] == ["OAS1_0028", "OAS1_0028"]


def test_numbered_files_are_subjects_only_where_several_share_one():
    shared, notes = identify([f"AD/patient{who}_{at}.png" for who in range(3) for at in range(4)])
    assert {one.subject for one in shared} == {"patient0", "patient1", "patient2"}
    assert [one.position for one in shared[:4]] == [0, 1, 2, 3]
    assert notes[0].startswith("names tell the subjects (numbered files), such as AD/patient0_0.png: subject patient0")
    single, notes = identify([f"AD/case{at}.png" for at in range(12)])
    assert single == [NOBODY] * 12
    assert notes == ()


@pytest.mark.parametrize("form", ["{}/patient{}/{}.png", "{}/case_{}_{}.png", "train/{}/Subject {}/{}.png"])
def test_numbers_below_several_classes_count_anew_in_each(form: str):
    rows = [(form.format(c, who, at), c) for c in ("AD", "CN") for who in (1, 2) for at in range(4)]
    found, notes = identify([path for path, _ in rows], classes=[c for _, c in rows])
    assert len({one.subject for one in found}) == 4
    assert all(one.subject.startswith(f"{c}/") for one, (_, c) in zip(found, rows, strict=True))
    assert "count subjects anew in each class (2 numbers occur in several)" in notes[1]
    pattern = notes[1].split("'")[1]
    assert len({one.subject for one in identify([path for path, _ in rows], pattern)[0]}) == 2


@pytest.mark.parametrize(
    "form",
    ["{}/sub-0{}_{}.png", "{}/OAS1_002{}_MR1_mpr-1_{}.jpg", "{}/133_S_091{}_{}.png", "patient{1}/{0}/{2}.png"],
)
def test_ids_of_cohorts_and_numbers_above_classes_mean_one_subject_throughout(form: str):
    rows = [(form.format(c, who, at), c) for c in ("AD", "CN") for who in (1, 2) for at in range(4)]
    found, notes = identify([path for path, _ in rows], classes=[c for _, c in rows])
    assert len({one.subject for one in found}) == 2
    assert len(notes) == 1


def test_numbered_files_that_a_table_labels_mean_one_subject_throughout():
    found, _ = identify([f"i/patient{at // 4}_{at}.png" for at in range(8)], classes=["AD", "CN"] * 4)
    assert {one.subject for one in found} == {"patient0", "patient1"}


def test_three_examples_of_other_subjects_are_shown():
    (note,) = identify([f"AD/sub-{who:02d}_{at}.png" for who in range(5) for at in range(2)] + ["AD/other.png"])[1]
    assert note == (
        "names tell the subjects (BIDS), such as AD/sub-00_0.png: subject sub-00, position 0; AD/sub-01_0.png: subject "
        "sub-01, position 0; AD/sub-02_0.png: subject sub-02, position 0; 5 subjects of 10 of 11 slices"
    )


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("AD/{at} ({who}).jpg", r"(?P<subject>\d+) \(\d+\)"),
        ("AD/{who:03d}/slice_{at}.png", r"(?P<subject>\d+)/slice_\d+"),
        ("AD/P{who:03d}_{at}.png", r"P(?P<subject>\d+)_\d+"),
    ],
)
def test_names_that_may_hold_ids_are_pointed_out_with_a_pattern(name: str, pattern: str):
    paths = [name.format(who=who, at=at) for who in range(4) for at in range(5)]
    found, (note,) = identify(paths)
    assert {one.subject for one in found} == {""}
    assert note.endswith(f"--subject-pattern '{pattern}'")
    assert 4 <= len({one.subject for one in identify(paths, pattern)[0]}) <= 5  # which number it is, a user must say


def test_names_that_only_count_slices_need_no_words():
    assert identify([f"AD/mild_{at}.jpg" for at in range(50)])[1] == ()
    assert identify([])[1] == ()


def test_a_pattern_of_ones_own():
    pattern = r"^(?P<session>[^/]+)/(?P<subject>\d+)_(?P<position>-?[\d.]+)\.png"
    found, (note,) = identify(["a/007_-3.5.png", "b/007_2.png", "b/x.png"], pattern)
    assert [(one.subject, one.session) for one in found] == [("007", "a"), ("007", "b"), ("", "")]
    assert [one.position for one in found[:2]] == [-3.5, 2]
    assert "1 subjects and 2 sessions of 2 of 3 slices" in note


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "is no regular expression"),
        ("[a", "is no regular expression"),
        (r"\d+", r"names the groups \(none\); expected \(\?P<subject>"),
        (r"(?P<patient>\d+)", "names the groups patient; expected"),
        (r"(?P<subject>zebra)", "fits none of 2 paths, such as 'AD/1.png'"),
        (r"(?P<subject>\d)(?P<position>\D)", r"finds the position '\.' in 'AD/1.png'; expected a number"),
    ],
)
def test_patterns_that_are_none(pattern: str, message: str):
    with pytest.raises(DataError, match=message):
        identify(["AD/1.png", "AD/2.png"], pattern)


def test_a_pattern_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(identifiers, "SECONDS", 1.0)
    started = time.monotonic()
    with pytest.raises(DataError, match=r"takes more than 1 s on 1 names; leave out repetitions within repetitions"):
        identify(["a" * 60 + "!"], r"(?P<subject>(a+)+)$")
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("path", "position"),
    [
        ("AD/002_S_0002_2006-10-09.png", None),
        ("AD/OAS1_0001_MR1_2006_10_9.png", None),
        ("AD/002_S_0002_09.10.2006.png", None),
        ("AD/002_S_0002_2006-10-09_10_10_10.png", None),
        ("AD/002_S_0002_2006-10-09_045.png", 45),
        ("AD/OAS1_0001_MR1_mpr-1_100.png", 100),
    ],
)
def test_a_date_is_no_position(path: str, position: float | None):
    (found,), _ = identify([path])
    assert math.isnan(found.position) if position is None else found.position == position


@pytest.mark.parametrize(
    "name",
    [
        "series-{who}#z{at:03d}",
        "train-{who:05d}-of-00003#{at}",
        "data/train-{who:05d}-of-00003.parquet/{at}.png",
        "AD/fold{who}/{at}.png",
        "train_{who}/{at}.png",
    ],
)
def test_numbers_of_series_shards_and_folds_suggest_no_subject(name: str):
    _, notes = identify([name.format(who=who, at=at) for who in range(3) for at in range(8)])
    assert not notes


def test_numbers_of_folders_still_suggest_a_subject():
    _, notes = identify([f"AD/{who:04d}/{at}.png" for who in range(3) for at in range(8)])
    assert "--subject-pattern" in notes[0]
