"""Facts about files: each is read as the file was written, and stands at its slice."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import encoded, pixels, png, write_files, write_parquet
from PIL import Image

from mriscope.data.file_facts import read_file_facts
from mriscope.data.readers import read


def facts_of(folder: Path, *contents: bytes) -> dict[str, list]:
    rows = [(content, f"{row}.png", row % 2) for row, content in enumerate(contents)]
    source = write_parquet(folder / "x.parquet", rows)
    return {fact.name: fact.values.tolist() for fact in read_file_facts(source, [name for _, name, _ in rows])}


def colour(mode: str, value: tuple[int, ...], format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (20, 10), value).save(file, format, **options)
    return file.getvalue()


def test_size_format_and_bytes(tmp_path: Path):
    contents = [png(0, 20, 30), encoded(pixels(1, 20, 30), "JPEG")]
    found = facts_of(tmp_path, *contents)
    assert found["size"] == ["20×30", "20×30"]
    assert found["format"] == ["PNG", "JPEG"]
    assert found["colour mode"] == ["grey, 8 bit", "grey, 8 bit"]
    assert found["bytes per pixel"] == [len(one) / 600 for one in contents]
    assert found["colour saturation"] == [0, 0]
    assert found["metadata"] == ["none", "none"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"quality": 83}, "JPEG quality 83"),
        ({"quality": 75, "progressive": True}, "JPEG quality 75, progressive"),
        ({"qtables": [[7] * 64]}, "JPEG tables of sum 448"),
    ],
)
def test_the_quality_of_a_grey_jpeg(tmp_path: Path, options: dict[str, Any], expected: str):
    content = encoded(pixels(0), "JPEG", **options)
    assert facts_of(tmp_path, content, png(0))["encoding"] == [expected, "plain"]


def test_chroma_subsampling_and_colour(tmp_path: Path):
    red = [colour("RGB", (255, 0, 0), "JPEG", quality=90, subsampling=way) for way in (0, 2)]
    found = facts_of(tmp_path, *red, colour("RGB", (9, 9, 9)), colour("RGB", (30, 10, 20)))
    assert found["encoding"] == ["JPEG quality 90, chroma 4:4:4", "JPEG quality 90, chroma 4:2:0", "plain", "plain"]
    assert found["colour mode"] == ["colour"] * 4
    assert found["colour saturation"][:2] == pytest.approx([255, 255], abs=5)
    assert found["colour saturation"][2:] == [0, 20]


def test_metadata(tmp_path: Path):
    exif = Image.Exif()
    exif[305], exif[274] = "scanner 7", 1
    contents = [
        colour("L", (9,), "JPEG", exif=exif),
        colour("L", (9,), "JPEG", exif=exif, comment=b"x" * 30),
        colour("L", (9,), icc_profile=b"x" * 200),
        colour("L", (9,), dpi=(72, 72)),
    ]
    found = facts_of(tmp_path, *contents)["metadata"]
    assert found[:3] == [
        "EXIF (software scanner 7, orientation 1), dpi (72, 72)",  # what EXIF says where JFIF is silent
        "EXIF (software scanner 7, orientation 1), comment, dpi (72, 72)",
        "icc_profile",
    ]
    assert found[3].startswith("dpi (")


def test_many_sizes_are_numbers(tmp_path: Path):
    found = facts_of(tmp_path, *[png(seed, 20 + seed, 40) for seed in range(13)])
    assert found["height"] == list(range(20, 33))
    assert found["width"] == [40] * 13
    assert "size" not in found


def test_facts_stand_at_their_slices_and_unusable_rows_are_passed_over(tmp_path: Path):
    files = {"AD/1.png": png(0), "AD/2.png": b"x", "CN/1.jpg": encoded(pixels(1), "JPEG"), "CN/2.png": png(2)}
    source = write_files(tmp_path / "set", files)
    slices = read(source, skip_bad=True, bad_rows_to=tmp_path / "bad.csv")
    facts = {fact.name: fact.values.tolist() for fact in read_file_facts(source, slices.paths[::-1].tolist())}
    assert slices.paths.tolist() == ["AD/1.png", "CN/1.jpg", "CN/2.png"]
    assert facts["format"] == ["PNG", "JPEG", "PNG"]
    unknown = {fact.name: fact.values.tolist() for fact in read_file_facts(source, ["AD/2.png"])}
    assert unknown["format"] == [""]
    assert np.isnan(unknown["bytes per pixel"]).all()


def test_the_phantom_has_no_files():
    assert read_file_facts("phantom:subjects=2", ["0"]) == ()
