"""Each row of docs/data.md about images and tables: its command finds all that was planted in a tree of that shape."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from layouts import LAYOUTS, Planted

from mriscope import cli
from mriscope.data.read_options import with_options
from mriscope.data.readers import read
from mriscope.data.slices import SliceSet

PAGE = Path(__file__).resolve().parents[1] / "docs" / "data.md"
TABLE = re.search(r"## Images and tables.*?\n\|---\|---\|---\|\n(.*?)\n\n", PAGE.read_text(encoding="utf-8"), re.DOTALL)
ROWS = TABLE[1].splitlines() if TABLE else []


def words_of(row: int, root: Path) -> list[str]:
    command = re.findall("`([^`]+)`", ROWS[row].rpartition("|")[0].rpartition("|")[2])[0]
    return [
        word.replace("SET", str(root)).replace("MORE", str(root.with_name("more"))) for word in shlex.split(command)
    ]


def read_as(words: list[str]) -> SliceSet:
    """Read what `mriscope data info` with these words describes."""
    options = {words[at][2:].replace("-", "_"): words[at + 1] for at in range(4, len(words), 2)}
    size, manifest = options.pop("size", None), options.pop("manifest", None)
    return read(with_options(words[3], **options), size=None if size is None else int(size), manifest=manifest)


def test_the_table_has_a_tree_for_each_row():
    assert len(ROWS) == len(LAYOUTS)


@pytest.mark.parametrize("row", range(len(LAYOUTS)), ids=[make.__name__ for make in LAYOUTS])
def test_a_row_finds_what_was_planted(row: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    planted = LAYOUTS[row](tmp_path / "set")
    words = words_of(row, tmp_path / "set")
    assert words[:3] == ["mriscope", "data", "info"]
    code = cli._run_app([*words[1:], "--json"])
    told = json.loads(capsys.readouterr().out)
    subjects = {one.subject for one in planted.values()} - {""}
    assert (code, told["n_slices"], told["n_subjects"]) == (0, len(planted), len(subjects) or None)
    check(read_as(words), planted)


def check(found: SliceSet, planted: Planted) -> None:
    """All labels, subjects, sessions, positions and parts are right, by paths or, where files have none, in order."""
    paths = found.paths.tolist()
    expected = [planted[path] for path in paths] if set(paths) == set(planted) else list(planted.values())
    assert len(expected) == len(found)
    assert [found.class_names[label] for label in found.labels] == [one.label for one in expected]
    assert found.subject_names.tolist() == [one.subject for one in expected]
    assert found.sessions.tolist() == [one.session for one in expected]
    assert found.parts.tolist() == [one.part for one in expected]
    for position, one in zip(found.positions.tolist(), expected, strict=True):
        assert np.isnan(position) if one.position is None else position == one.position


def test_sessions_and_acquisitions_of_one_subject_are_one_group(tmp_path: Path):
    found = (LAYOUTS[3](tmp_path / "set"), read(tmp_path / "set"))[1]
    twice = found.subject_names == "OAS1_0028"
    assert len({*found.subjects[twice].tolist()}) == 1
    assert len({*found.sessions[twice].tolist()}) == len({*found.covariates["acquisition"][twice].tolist()}) == 2


def test_columns_beside_become_covariates(tmp_path: Path):
    LAYOUTS[9](tmp_path / "set")
    found = read(tmp_path / "set")
    assert sorted(found.covariates) == ["age", "sex"]
    assert found.covariates["age"].tolist() == [70, 70, 73, 73, 71, 71, 72, 72]  # train, validation, test
    assert found.covariates["sex"].tolist() == ["F"] * 8


def test_the_page_says_what_is_recognised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    LAYOUTS[3](tmp_path / "set")
    assert cli._run_app(["data", "info", str(tmp_path / "set")]) == 0
    assert "3 subjects in 4 sessions named by the source" in capsys.readouterr().out
    assert "names tell the subjects (OASIS), such as Data/Mild Dementia/OAS1_0028_MR1_mpr-1_100.jpg" in caplog.text
    assert caplog.text.count("OAS1_0003_MR1_mpr-1_100.jpg: subject OAS1_0003, session MR1, position 100") == 1


def test_names_that_look_like_ids_and_are_not_used_are_pointed_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    LAYOUTS[7](tmp_path / "set")
    assert not read(tmp_path / "set").n_subjects
    assert "hold numbers that several slices share and that are not used; if one is the subject" in caplog.text
