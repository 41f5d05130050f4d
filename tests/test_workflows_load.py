"""The one way in of slices: what a workflow gets, and in which order it is checked."""

from pathlib import Path

import pytest
from data_files import png, write_files

from mriscope.errors import BadRowsError, DataError
from mriscope.recipe import make_recipe
from mriscope.workflows import _load
from mriscope.workflows._load import load

PHANTOM = "phantom:subjects=4,slices=3"


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Class folders with four slices, and a file that is no image."""
    files = {f"set/{name}/{name}{seed}.png": png(seed) for name in ("AD", "CN") for seed in range(2)}
    return write_files(tmp_path, files | {"set/AD/broken.png": b"no image"}) / "set"


def refuse(*_: object) -> None:
    raise AssertionError("subjects are sought")


def test_what_a_source_knows_is_taken_as_it_is():
    loaded = load(PHANTOM)
    assert (loaded.subjects_from, loaded.slices.n_subjects) == ("source", 4)
    assert loaded.slices is loaded.reading.slices
    assert loaded.slices.images.shape == (12, 128, 128)


def test_a_recipe_decides_size_and_manifest(tmp_path):
    paths = load(PHANTOM).slices.paths
    rows = "".join(f"{path},{row // 6}\n" for row, path in enumerate(paths))
    (tmp_path / "m.csv").write_text("path,subject\n" + rows)
    recipe = make_recipe({"model": "any", "input": {"size": 32}, "manifest": str(tmp_path / "m.csv")})
    loaded = load(PHANTOM, recipe=recipe)
    assert (loaded.subjects_from, loaded.slices.n_subjects) == ("manifest", 2)
    assert loaded.slices.images.shape == (12, 32, 32)


def test_bad_rows_are_listed_where_the_caller_says(damaged, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadRowsError, match=r"broken\.png"):
        load(str(damaged))
    loaded = load(str(damaged), skip_bad=True)
    assert len(loaded.slices) == 4
    assert not list(tmp_path.glob("*.csv"))
    loaded.report_bad_rows(tmp_path / "here.csv")
    assert "broken.png" in (tmp_path / "here.csv").read_text()
    assert "1 of 5 rows are unusable" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input": {"size": 128}}, r"has slices of 64×64 and input\.size is 128; set input\.size=64"),
        ({"input": {"size": 64}, "severity": ["AD", "CN"]}, "severity names AD, CN"),
    ],
)
def test_what_does_not_fit_is_said_before_subjects_are_sought(monkeypatch, settings, message):
    monkeypatch.setattr(_load, "with_known_subjects", refuse)
    with pytest.raises(DataError, match=message):
        load("phantom:subjects=4,slices=3,size=64", recipe=make_recipe({"model": "any", **settings}))
