"""read: what is resized is said, what is unusable is named, and every wrong source gets its sentence."""

import csv
import logging
import os
import re
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_files import encoded, pixels, png, write_files, write_parquet

from mriscope.data import listing, readers, rows
from mriscope.data.cache import cache_folder
from mriscope.data.decoding import resize
from mriscope.data.readers import read
from mriscope.errors import BadRow, BadRowsError, DataError, WriteError

GOOD = [(png(seed), f"{seed}.png", seed % 4) for seed in range(5)]
ALL_KINDS = [
    (None, None, 0),
    (None, "null.png", 0),
    (b"", "empty.png", 0),
    (b"text", "text.png", 0),
    (png(5)[:500], "cut.png", 0),
    (encoded(pixels(5), "JPEG")[:-9], "cut.jpg", 0),
    (png(6), "unlabelled.png", None),
    (png(6), "elsewhere.png", 4),
    (png(7, 96, 80), "small.png", 0),
    (encoded(np.zeros((4001, 4000), np.uint8)), "large.png", 0),
]
REASONS = [
    "has no image bytes",
    "has no image bytes",
    "is empty (0 bytes)",
    "is no JPEG, PNG, TIFF or BMP",
    "is a PNG cut short",
    "is a JPEG cut short",
    "has no label",
    "has the label 4, outside the 4 classes Mild_Demented, Moderate_Demented, Non_Demented, Very_Mild_Demented",
    "is 96×80 where most slices are 128×128; bring every slice to one size with --size 128 (size=128)",
    "has 4001×4000 pixels; a slice has at most 16 million",
]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Five good slices, then one row of every bad kind."""
    return write_parquet(tmp_path / "mixed.parquet", GOOD + ALL_KINDS)


def test_one_error_lists_every_bad_row(mixed: Path):
    with pytest.raises(BadRowsError) as error:
        read(mixed)
    names = ["mixed#5"] + [str(name) for _, name, _ in ALL_KINDS[1:]]
    expected = [BadRow(5 + row, name, reason) for row, (name, reason) in enumerate(zip(names, REASONS, strict=True))]
    assert list(error.value.rows) == expected
    assert f"{mixed}: 10 of 15 rows are unusable" in str(error.value)


def test_bad_rows_are_left_out_in_the_open(mixed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    found = read(mixed, skip_bad=True, bad_rows_to=tmp_path / "left_out.csv")
    assert np.array_equal(found.images, [pixels(seed) for seed in range(5)])
    assert found.labels.tolist() == [0, 1, 2, 3, 0]
    assert f"10 of 15 rows are unusable and were left out; {tmp_path / 'left_out.csv'} lists them" in caplog.text
    with (tmp_path / "left_out.csv").open(newline="", encoding="utf-8") as file:
        listed = list(csv.reader(file))
    assert listed[0] == ["row", "path", "reason"]
    assert [reason for _, _, reason in listed[1:]] == REASONS
    assert listed[1] == ["5", "mixed#5", "has no image bytes"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["left_out.csv", "mixed.parquet"]


def test_a_cached_reading_says_and_lists_the_same(mixed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    said, lists = [], []
    for _ in range(2):
        caplog.clear()
        found = read(mixed, skip_bad=True, size=64, bad_rows_to=tmp_path / "bad.csv")
        assert isinstance(found.images, np.memmap)
        said.append(caplog.messages)
        lists.append((tmp_path / "bad.csv").read_text())
    assert said[0] == said[1]
    assert lists[0] == lists[1]
    assert len(said[0]) == 2


def test_the_list_goes_to_the_current_folder(mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    read(mixed, skip_bad=True)
    assert (tmp_path / "bad_rows.csv").read_text().startswith("row,path,reason\n5,mixed#5,has no image bytes\n")


def test_the_list_holds_no_formulas(tmp_path: Path):
    source = write_parquet(tmp_path / "x.parquet", [*GOOD, (b"", "=1+1.png", 0)])
    read(source, skip_bad=True, bad_rows_to=tmp_path / "bad.csv")
    assert (tmp_path / "bad.csv").read_text() == "row,path,reason\n5,'=1+1.png,is empty (0 bytes)\n"


def test_nothing_is_left_out_when_it_cannot_be_listed(mixed: Path, tmp_path: Path):
    with pytest.raises(WriteError, match=r"is no list of bad rows and would be replaced; move it"):
        read(mixed, skip_bad=True, bad_rows_to=tmp_path)


def test_rows_that_are_all_bad_are_no_set(tmp_path: Path):
    source = write_parquet(tmp_path / "x.parquet", ALL_KINDS[:3])
    with pytest.raises(BadRowsError):
        read(source)
    with pytest.raises(BadRowsError, match=r"3 of 3 rows are unusable; no slice is left") as error:
        read(source, skip_bad=True, bad_rows_to=tmp_path / "bad.csv")
    assert len(error.value.rows) == 3
    assert not (tmp_path / "bad.csv").exists()


def test_rows_of_several_files_keep_their_own_numbers(tmp_path: Path):
    write_parquet(tmp_path / "train.parquet", [*GOOD, (b"", "a.png", 0)])
    write_parquet(tmp_path / "test.parquet", [(png(8), "b.png", 0), (b"", "a.png", 0)])
    with pytest.raises(BadRowsError) as error:
        read(tmp_path)
    assert [(bad.row, bad.path) for bad in error.value.rows] == [(5, "train/a.png"), (1, "test/a.png")]


def test_a_uniform_size_is_resized_and_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    rows = [(png(seed, 208, 176), f"{seed}.png", seed) for seed in range(4)]
    source = write_parquet(tmp_path / "x.parquet", rows)
    found = read(source)
    padded = [np.pad(pixels(seed, 208, 176), ((0, 0), (16, 16))) for seed in range(4)]
    assert np.array_equal(found.images, [resize(one, 128) for one in padded])
    said = "4 slices of 208×176 were resized to 128×128 by area"
    more = "; 4 that are not square were padded to a square with black (--stretch fills it instead)"
    assert caplog.record_tuples == [("mriscope", logging.WARNING, f"{source}: {said}{more}")]
    caplog.clear()
    stretched = read(source, stretch=True)
    assert np.array_equal(stretched.images, [resize(pixels(seed, 208, 176), 128) for seed in range(4)])
    assert caplog.messages == [f"{source}: {said}; 4 that are not square were stretched"]


def test_a_size_resizes_every_slice(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    sizes = [(128, 128), (64, 64), (208, 176), (64, 64), (64, 200)]
    rows = [(png(seed, *size), f"{seed}.png", seed % 4) for seed, size in enumerate(sizes)]
    source = write_parquet(tmp_path / "x.parquet", rows)
    found = read(source, size=128, stretch=True)
    assert np.array_equal(found.images, [resize(pixels(seed, *size), 128) for seed, size in enumerate(sizes)])
    said = "4 slices of 3 sizes, most often 64×64, were resized to 128×128 by area and bilinearly"
    assert caplog.messages == [f"{source}: {said}; 2 that are not square were stretched"]
    kept = read(source, size=128).images[4]
    assert not kept[:43].any()
    assert not kept[85:].any()  # 64×200 becomes 41×128 in the middle
    assert kept[45:83].any(axis=1).all()
    assert read(source, size=20).images.shape == (5, 20, 20)


def test_slices_of_the_right_size_need_no_words(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    source = write_parquet(tmp_path / "x.parquet", GOOD)
    assert read(source, size=128).fingerprint == read(source).fingerprint
    assert not caplog.messages


@pytest.mark.parametrize("size", [0, 15, 1025, -1, 128.0, 128.5, "128"])
def test_sizes_that_are_none(size: int):
    with pytest.raises(DataError, match=r"size is .*; choose a whole number from 16 to 1024"):
        read("phantom", size=size)


def test_a_set_is_read_only(tmp_path: Path):
    found = read(write_parquet(tmp_path / "x.parquet", GOOD))
    with pytest.raises(ValueError, match="read-only"):
        found.images[0, 0, 0] = 1


def test_the_phantom():
    found = read("phantom:subjects=3,slices=2,seed=5")
    assert found.images.shape == (6, 128, 128)
    assert found.subjects.tolist() == [0, 0, 1, 1, 2, 2]
    assert isinstance(found.images, np.memmap)
    assert read("phantom:subjects=3,slices=2,seed=5").fingerprint == found.fingerprint
    assert read("phantom:subjects=3,slices=2,seed=6").fingerprint != found.fingerprint
    assert read("phantom:subjects=1,slices=1", size=64).images.shape == (1, 64, 64)


def test_a_path_is_never_the_phantom_or_the_hub():
    for name in ("phantom", "hf:owner/name"):
        with pytest.raises(DataError, match="does not exist"):
            read(Path(name))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "nowhere/at/all",
            "nowhere/at/all does not exist; expected a folder of class folders of images or volumes",
        ),
        ("a\0b", "cannot be opened (embedded null byte)"),
        ("x" * 5000, "cannot be opened ("),
        ("", "no source is named; expected a folder of class folders"),
        ("hf:Falah", "hf:Falah names no data set of the hub; write hf:owner/name"),
        ("hf:../x/y", "names no data set of the hub"),
        ("phantom:heads=2", "heads"),
    ],
)
def test_sources_that_are_none(source: str, expected: str):
    with pytest.raises(DataError) as error:
        read(source)
    assert expected in str(error.value)


def test_a_file_of_no_known_kind(tmp_path: Path):
    write_files(tmp_path, {"table.xlsx": b"a,b"})
    with pytest.raises(DataError, match=r"table.xlsx is a file of no known kind; expected a folder"):
        read(tmp_path / "table.xlsx")


def test_home_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_parquet(tmp_path / "sets" / "x.parquet", GOOD)
    assert len(read("~/sets")) == 5


@pytest.mark.parametrize(("bits", "most"), [(8, 255), (10, 1023), (12, 4095), (16, 65_535)])
def test_bits_of_a_set_are_kept_and_dark_slices_stay_dark(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bits: int, most: int
):
    ramp = np.tile(np.linspace(0, most, 128).round().astype(np.uint16), (128, 1))
    rows = [(encoded(ramp // (1 + 7 * (row == 3))), f"{row}.png", row) for row in range(4)]
    found = read(write_parquet(tmp_path / "x.parquet", rows))
    assert [len(np.unique(one)) for one in found.images[:3]] == [128] * 3
    assert found.images.max(axis=(1, 2)).tolist()[:3] == [255] * 3
    assert found.images[3].max() == 255 // 8 or found.images[3].max() == 32
    said = f"4 slices of 16 bits use {bits} of them, so that {most:,} is white"
    assert caplog.messages == ([] if bits == 16 else [f"{tmp_path / 'x.parquet'}: {said}"])


@pytest.mark.parametrize("kind", ["set.parquet", "set.csv", "set"])
def test_a_named_pipe_is_no_source(tmp_path: Path, kind: str):
    os.mkfifo(tmp_path / kind)
    with pytest.raises(DataError, match="is no ordinary file, but a named pipe or a device; expected"):
        read(tmp_path / kind)


def test_a_source_that_nobody_wrote_to_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = write_parquet(tmp_path / "set" / "x.parquet", GOOD).parent
    monkeypatch.setattr(listing, "SETTLED", -5.0)  # as if the files were old
    first = read(source)
    real = readers.open_path
    opened = []
    monkeypatch.setattr(readers, "open_path", lambda *given: opened.append(given) or real(*given))
    assert read(source).fingerprint == first.fingerprint
    assert not opened
    read(source, stretch=True)
    assert len(opened) == 1
    write_parquet(source / "x.parquet", GOOD[:4])
    assert len(read(source)) == 4
    assert len(opened) == 2


def test_an_entry_that_was_written_to_is_checked_whatever_the_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = write_parquet(tmp_path / "x.parquet", GOOD)
    monkeypatch.setattr(listing, "SETTLED", -5.0)
    monkeypatch.setenv("MRISCOPE_CACHE", str(tmp_path / "cache"))
    expected = read(source).fingerprint
    (kept,) = cache_folder().glob("*/images.npy")
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(content)
    assert read(source).fingerprint == expected


def test_options_of_a_source_are_part_of_its_text(tmp_path: Path):
    table = pa.table({"scan": [png(0), png(1)], "dx": ["AD", "CN"], "label": [5, 6]})
    pq.write_table(table, tmp_path / "x.parquet")
    found = read(f"{tmp_path / 'x.parquet'}?label_column=dx&image_column=scan")
    assert found.class_names == ("AD", "CN")
    assert found.fingerprint == read(tmp_path / "x.parquet", label_column="dx", image_column="scan").fingerprint
    for text, message in (
        ("?colour=red", "there is no option 'colour' of a source"),
        ("?plane=coronal", "holds no volumes, and plane is for volumes; leave it out"),
        ("?stretch=1", "stretch is '1'; choose yes or no"),
        ("?label_column=dy", "has no column 'dy' for the label; choose one of dx, label, scan"),
    ):
        with pytest.raises(DataError, match=re.escape(message)):
            read(f"{tmp_path / 'x.parquet'}{text}")


@pytest.mark.parametrize("named", ["images/{}.png", "../other/{}.png", "{root}/other/{}.png"])
@pytest.mark.parametrize("source", ["set", "set/labels.csv"])
def test_images_that_a_table_names_are_read_again_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, source: str
):
    monkeypatch.setattr(listing, "SETTLED", -5.0)
    for folder in ("set/images", "other"):
        write_files(tmp_path / folder, {f"{row}.png": png(row) for row in range(2)})
    rows = "".join(f"{named.format(row, root=tmp_path)},{row}\n" for row in range(2))
    (tmp_path / "set" / "labels.csv").write_text(f"path,label\n{rows}")
    assert np.array_equal(read(tmp_path / source).images, [pixels(0), pixels(1)])
    for folder in ("set/images", "other"):
        write_files(tmp_path / folder, {"1.png": png(9)})
    assert np.array_equal(read(tmp_path / source).images, [pixels(0), pixels(9)])


@pytest.mark.parametrize("option", ["slices=3", "plane=coronal", "label_column=dx", "subject_pattern=x"])
def test_the_phantom_has_no_volumes_and_no_tables(option: str):
    with pytest.raises(DataError, match=rf"^the phantom .*, and {option.split('=')[0]} is for"):
        read(f"phantom?{option}")


def test_filters_of_warnings_are_put_back_whatever_threads_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    decode = rows.decode_deep

    def leaving(content: bytes) -> np.ndarray:
        warnings.simplefilter("ignore")  # as two threads do that put back each other's
        return decode(content)

    monkeypatch.setattr(rows, "decode_deep", leaving)
    before = list(warnings.filters)
    read(write_files(tmp_path / "set", {f"{name}/1.png": png(seed) for seed, name in enumerate(("AD", "CN"))}))
    assert warnings.filters == before
