"""The cache: what is kept is what was read, whatever happened to the files since, and it never costs a reading."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from data_files import png, write_files, write_parquet

from mriscope.data import cache
from mriscope.data.cache import cache_folder, cached, cached_arrays, content_key
from mriscope.data.readers import read
from mriscope.data.rows import Reading
from mriscope.data.slices import COLUMNS, SliceSet
from mriscope.errors import BadRow

KEY = "0" * 64


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MRISCOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "slices"


def reading(first: int = 0) -> Reading:
    images = np.arange(first, first + 24, dtype=np.uint8).reshape(6, 2, 2)
    known = {"subjects": ["007", "007", "sub-2", "sub-2", "3.0", ""], "sessions": list("ab" * 3)}
    covariates = {"age": np.array([71, 71.5, np.nan, 4, 5, 6]), "sex": ["F", "F", "", "M", "", "M"]}
    columns = {**known, "covariates": covariates, "positions": [0, 1, 0, 1, 0, -1], "parts": ["train"] * 5 + ["test"]}
    slices = SliceSet.of(images, [0, 1, 0, 1, 0, 1], paths=list("äbcdef"), class_names=("AD", "CN"), **columns)
    return Reading(slices, (BadRow(3, "x.png", "is empty"),), ("2 slices of 4×4 were resized",))


def same(one: Reading, other: Reading) -> bool:
    here, there = (
        {name: getattr(some.slices, name) for name in COLUMNS} | dict(some.slices.covariates) for some in (one, other)
    )
    columns = here.keys() == there.keys() and all(
        np.array_equal(here[name], there[name], equal_nan=here[name].dtype.kind == "f") for name in here
    )
    names = (one.slices.class_names, one.slices.subject_ids) == (other.slices.class_names, other.slices.subject_ids)
    return columns and names and one.bad == other.bad and one.notes == other.notes


def no_building() -> Reading:
    raise AssertionError("the entry should have been used")


def keep(key: str = KEY) -> Reading:
    return cached(lambda: key, reading)


def test_the_folder_follows_the_variable_else_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert cache_folder() == tmp_path / "cache" / "slices"
    monkeypatch.delenv("MRISCOPE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    assert cache_folder().parts[-2:] == ("mriscope", "slices")


def test_an_entry_gives_back_all_that_was_read():
    built = keep()
    found = cached(lambda: KEY, no_building)
    for one in (built, found):
        assert same(one, reading())
        assert isinstance(one.slices.images, np.memmap)
        assert one.slices.images.mode == "r"
        assert not one.slices.images.flags.writeable


def test_an_entry_holds_no_pickle(folder: Path):
    keep()
    arrays = [path for path in (folder / KEY).iterdir() if path.name != "entry.json"]
    assert {f"{name}.npy" for name in COLUMNS} <= {path.name for path in arrays}
    for path in arrays:
        np.load(path, allow_pickle=False)
    for name in COLUMNS:
        assert np.load(folder / KEY / f"{name}.npy", allow_pickle=False).shape[0] == 6


def edit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def claim(path: Path) -> None:
    record = json.loads(path.read_text())
    record["entry"]["class_names"] = ["CN", "AD"]
    path.write_text(json.dumps(record))


@pytest.mark.parametrize("name", [*(f"{name}.npy" for name in COLUMNS), "entry.json"])
@pytest.mark.parametrize("damage", [edit, Path.unlink, lambda path: os.truncate(path, path.stat().st_size - 1)])
def test_a_damaged_entry_is_noticed_and_built_anew(folder: Path, name: str, damage, caplog: pytest.LogCaptureFixture):
    keep()
    damage(folder / KEY / name)
    assert same(keep(), reading())
    assert caplog.messages == [f"{folder / KEY} was damaged or changed; its source is decoded anew"]
    assert same(cached(lambda: KEY, no_building), reading())
    assert [path.name for path in folder.iterdir()] == [KEY]


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"sha256": 3, "entry": []}', "\xff", "[" * 100_000])
def test_a_foreign_entry_is_built_anew(folder: Path, content: str):
    keep()
    (folder / KEY / "entry.json").write_text(content, encoding="latin-1")
    assert same(keep(), reading())
    assert same(cached(lambda: KEY, no_building), reading())


def test_an_edited_record_is_noticed(folder: Path):
    keep()
    claim(folder / KEY / "entry.json")
    assert keep().slices.class_names == ("AD", "CN")


def test_the_entry_of_another_key_is_noticed(folder: Path):
    keep("a" * 64)
    shutil.copytree(folder / ("a" * 64), folder / KEY)
    assert same(cached(lambda: KEY, lambda: reading(7)), reading(7))


@pytest.mark.parametrize("is_file", [True, False])
def test_what_lies_in_the_place_of_an_entry_gives_way(folder: Path, is_file: bool):
    folder.mkdir(parents=True)
    (folder / KEY).write_text("in the way") if is_file else (folder / KEY).mkdir()
    assert same(keep(), reading())
    assert same(cached(lambda: KEY, no_building), reading())


def test_an_open_set_outlives_its_entry(folder: Path):
    found = keep()
    edit(folder / KEY / "images.npy")
    damaged = np.array(found.slices.images)
    keep()
    shutil.rmtree(folder)
    assert np.array_equal(found.slices.images, damaged)


def test_a_source_that_changes_while_it_is_read_is_not_kept(folder: Path):
    keys = iter(["b" * 64, "c" * 64])
    assert same(cached(lambda: next(keys), reading), reading())
    assert not folder.exists()


def test_a_reading_without_slices_is_not_kept(folder: Path):
    empty = Reading(SliceSet.of(np.zeros((0, 2, 2), np.uint8), []), (BadRow(0, "x", "is empty"),))
    assert cached(lambda: KEY, lambda: empty) is empty
    assert not folder.exists()


def test_a_cache_that_cannot_be_written_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MRISCOPE_CACHE", str(tmp_path / "file"))
    assert same(keep(), reading())
    assert len(caplog.messages) == 1
    assert f"{tmp_path / 'file' / 'slices'}: decoded slices cannot be kept there (" in caplog.text


def test_a_full_disk_costs_one_warning(folder: Path, tmp_path: Path):
    source = write_parquet(tmp_path / "x.parquet", [(png(seed), f"{seed}.png", 0) for seed in range(8)])
    done = child(
        "import logging, resource, sys; logging.basicConfig(format='%(message)s')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from mriscope.data.readers import read; print(len(read(sys.argv[1]).images))",
        str(source),
    )
    out, told = done.communicate(timeout=60)
    assert (done.returncode, out) == (0, "8\n"), told
    assert told.count("cannot be kept") == 1
    assert "decoded slices cannot be kept there" in told
    assert list(folder.iterdir()) == []


def child(code: str, *arguments: str) -> "subprocess.Popen[str]":
    command, pipe = [sys.executable, "-c", code, *arguments], subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.parametrize("damaged", [False, True])
def test_processes_may_build_one_entry_at_once(folder: Path, tmp_path: Path, damaged: bool):
    rows = [(png(seed), f"{seed}.png", seed % 4) for seed in range(200)]
    source = write_parquet(tmp_path / "x.parquet", rows)
    expected = read(source).fingerprint
    if damaged:
        edit(next(folder.glob("*/images.npy")))
    else:
        shutil.rmtree(folder)
    code = (
        "import sys\nfrom mriscope.data.readers import read\n"
        "print('ready', flush=True); input(); print(read(sys.argv[1]).fingerprint)"
    )
    children = [child(code, str(source)) for _ in range(3)]
    assert [one.stdout.readline() for one in children if one.stdout] == ["ready\n"] * 3
    for one in children:
        assert one.stdin
        one.stdin.write("\n")
        one.stdin.flush()
    told = [one.communicate(timeout=60) for one in children]
    assert [out for out, _ in told] == [f"{expected}\n"] * 3, told
    assert len(list(folder.iterdir())) == 1
    assert isinstance(read(source).images, np.memmap)


def test_another_process_that_was_faster_is_let_be(folder: Path):
    def slow() -> Reading:
        keep()
        (folder / KEY / "mark").write_text("theirs")
        return reading()

    assert same(cached(lambda: KEY, slow), reading())
    assert (folder / KEY / "mark").exists()


def test_another_process_that_was_faster_by_a_hair_is_let_be(folder: Path, monkeypatch: pytest.MonkeyPatch, caplog):
    publish = cache._publish

    def late(new: Path, place: Path) -> None:
        shutil.copytree(new, place)
        (place / "mark").write_text("theirs")
        publish(new, place)

    monkeypatch.setattr(cache, "_publish", late)
    assert same(keep(), reading())
    assert (folder / KEY / "mark").exists()
    assert [path.name for path in folder.iterdir()] == [KEY]
    assert not caplog.messages


def test_what_killed_processes_left_is_removed_after_a_day(folder: Path):
    for name, age in (("old", 25), ("new", 23)):
        write_files(folder / f".building-{name}", {"new/images.npy": b"x"})
        then = time.time() - 3600 * age
        os.utime(folder / f".building-{name}", (then, then))
    (folder / "not-ours").mkdir()
    os.utime(folder / "not-ours", (0, 0))
    keep()
    assert sorted(path.name for path in folder.iterdir()) == [".building-new", KEY, "not-ours"]


def test_arrays_that_are_damaged_are_made_anew(folder: Path):
    place, expected = folder.with_name("kind") / f"{KEY}.npz", np.arange(6.0)

    def find() -> np.ndarray:
        return cached_arrays("kind", KEY, lambda: {"a": expected})["a"]

    find()
    whole = place.read_bytes()
    for at in range(whole.index(b"PK\1\2"), len(whole)):  # the archive's directory, whose damage is of many kinds
        place.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        assert np.array_equal(find(), expected)
    for content in (b"", whole[:-9]):
        place.write_bytes(content)
        assert np.array_equal(find(), expected)
        assert place.read_bytes() != content


def test_the_key_is_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"one")
    key = content_key({"x": tmp_path / "a"}, size=128)
    assert content_key({"x": tmp_path / "b"}, size=128) == key
    others = [
        content_key({"y": tmp_path / "a"}, size=128),
        content_key({"x": tmp_path / "a"}, size=None),
        content_key({"x": "is no image"}, size=128),
        content_key({"x": tmp_path / "gone"}, size=128),
    ]
    (tmp_path / "a").write_bytes(b"two")
    others.append(content_key({"x": tmp_path / "a"}, size=128))
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    others.append(content_key({"x": tmp_path / "b"}, size=128))
    assert len({key, *others}) == 7


def test_a_copied_source_finds_its_entry_and_a_changed_one_does_not(folder: Path, tmp_path: Path):
    files = {"AD/1.png": png(1), "CN/1.png": png(2)}
    read(write_files(tmp_path / "one", files))
    read(write_files(tmp_path / "two", files))
    assert len(list(folder.iterdir())) == 1
    changed = read(write_files(tmp_path / "two", {"AD/1.png": png(3)}))
    assert len(list(folder.iterdir())) == 2
    assert changed.fingerprint != read(tmp_path / "one").fingerprint
    (tmp_path / "two" / "AD" / "1.png").rename(tmp_path / "two" / "CN" / "2.png")
    write_files(tmp_path / "two", {"AD/1.png": png(1)})
    assert read(tmp_path / "two").labels.tolist() == [0, 1, 1]
