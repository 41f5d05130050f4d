"""What the text of a source names, and what others are shown of it."""

from pathlib import Path

import pytest

from mriscope.data.listing import find_paths
from mriscope.data.source import parse_source, strip_folders
from mriscope.recipe import make_recipe


@pytest.mark.parametrize(
    ("text", "kind", "label"),
    [
        ("phantom", "phantom", "phantom"),
        ("phantom:subjects=40,seed=3", "phantom", "phantom:subjects=40,seed=3"),
        ("hf:owner/name", "hub", "hf:owner/name"),
        ("phantom_scans", "path", "phantom_scans"),
        ("phantom_scans/", "path", "phantom_scans"),
        ("/home/Jane Doe/phantom_scans/", "path", "phantom_scans"),
        ("~/scans/slices.parquet", "path", "slices.parquet"),
        ("hf", "path", "hf"),
        ("hf/Jane", "path", "Jane"),
        ("./phantom", "path", "./phantom"),
        ("/home/Jane/phantom:subjects=40", "path", "./phantom:subjects=40"),
        ("/home/Jane/hf:owner", "path", "./hf:owner"),
        (".", "path", "."),
        ("", "path", ""),
    ],
)
def test_kind_and_label_of_a_text(text, kind, label):
    source = parse_source(text)
    assert (source.kind, source.label) == (kind, label)


@pytest.mark.parametrize("name", ["phantom", "hf:owner"])
def test_a_path_is_a_path_whatever_its_name(name):
    source = parse_source(Path(name))
    assert source.kind == "path"
    assert parse_source(source.text) == source  # the text names the folder, not the phantom


def test_the_address_names_the_source_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_source("slices").address == str(tmp_path / "slices")
    assert parse_source("~/slices").address == str(Path("~/slices").expanduser().resolve())
    assert parse_source("hf:owner/name").address == "hf:owner/name"
    assert parse_source("phantom:seed=1").address == "phantom:seed=1"


def test_a_source_reads_itself():
    reading = parse_source("phantom:subjects=4,slices=8").read(size=32)
    assert reading.slices.images.shape == (32, 32, 32)
    assert reading.slices.n_subjects == 4


def test_no_folder_is_left_in_a_recipe_that_others_read():
    home = "/home/Jane Doe"
    recipe = make_recipe(
        {
            "model": "resnet50",
            "model_options": {"weights": f"{home}/w.safetensors", "dropout": 0.1},
            "data": f"{home}/slices",
            "manifest": f"{home}/subjects.csv",
            "split": {"file": f"{home}/split.json"},
        }
    )
    shown = strip_folders(recipe)
    assert (shown.data, shown.manifest) == ("slices", "subjects.csv")
    assert shown.split.file == "split.json"
    assert shown.model_options == {"weights": "w.safetensors", "dropout": 0.1}
    assert "Jane" not in shown.model_dump_json()
    assert strip_folders(shown) == shown


def test_a_pattern_that_no_file_can_fit_finds_none(tmp_path):
    (tmp_path / "a.png").touch()
    for pattern in ("**a/*.png", "*\0"):
        assert find_paths(tmp_path / pattern) == []
    assert find_paths(tmp_path / "*.png") == [tmp_path / "a.png"]
