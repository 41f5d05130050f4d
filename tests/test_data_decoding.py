"""decode: known pixels come back, and no bytes whatever raise anything but a DataError with a reason."""

import contextlib
import io
import os
import random
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_files import encoded, pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mriscope.data import decoding
from mriscope.data.decoding import bits_of, decode, decode_deep, fit, resize, to_8_bits
from mriscope.errors import DataError

LONG = "MRISCOPE_MUTATIONS" in os.environ  # part of `python3 run.py soak`
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
FILES = {
    "png": encoded(pixels(1, 24, 20)),
    "jpeg": encoded(pixels(1, 24, 20), "JPEG"),
    "progressive jpeg": encoded(pixels(1, 24, 20), "JPEG", progressive=True),
}


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def hand_made_png(width: int, height: int, depth: int, rows: bytes, more: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def as_file(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def reason(content: bytes) -> str:
    with pytest.raises(DataError) as error:
        decode(content)
    return str(error.value)


def test_grey_png_comes_back_exactly():
    found = decode(encoded(RAMP))
    assert found.dtype == np.uint8
    assert np.array_equal(found, RAMP)


def test_grey_jpeg_comes_back_as_its_own_decoder_has_it():
    assert np.abs(decode(encoded(RAMP, "JPEG", quality=100)).astype(int) - RAMP).max() <= 1


def test_colour_becomes_luma():
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [90, 90, 90]]], np.uint8)
    assert decode(encoded(colours)).tolist() == [[76, 150, 29, 90]]  # 0.299, 0.587, 0.114


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_what_is_transparent_lies_on_black(alpha: int):
    grey = np.array([[0, 70], [130, 255]], np.uint8)
    two = np.stack([grey, np.full_like(grey, alpha)], -1)
    four = np.stack([grey, grey, grey, np.full_like(grey, alpha)], -1)
    expected = np.round(grey * (alpha / 255))
    for found in (decode(encoded(two)), decode(encoded(four))):
        assert np.abs(found - expected).max() <= (0 if alpha in (0, 255) else 1)


def test_palette_becomes_grey_also_with_transparency():
    grey = np.array([[0, 70], [130, 255]], np.uint8)
    image = Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2), "L").convert("P")
    image.putpalette([value for level in grey.ravel().tolist() for value in (level, level, level)])
    for options, expected in (({}, grey), ({"transparency": bytes([0, 0, 51, 255])}, [[0, 0], [26, 255]])):
        file = io.BytesIO()
        image.save(file, "PNG", **options)
        assert np.array_equal(decode(file.getvalue()), expected)


def test_sixteen_bits_are_scaled_to_eight():
    wide = np.array([[0, 128, 129, 257], [32_896, 65_406, 65_407, 65_535]], np.uint16)
    assert decode(encoded(wide)).tolist() == [[0, 0, 1, 1], [128, 254, 255, 255]]


def test_one_bit_becomes_black_and_white():
    assert decode(hand_made_png(8, 1, 1, b"\x00\xa5")).tolist() == [[255, 0, 255, 0, 0, 255, 0, 255]]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty (0 bytes)"),
        (b"GIF89a and so on", "is no JPEG, PNG, TIFF or BMP"),
        (encoded(RAMP, "BMP")[:80], "is a BMP cut short"),
        (encoded(RAMP, "TIFF")[:60], "is a TIFF whose header is damaged or cut short"),
        (FILES["png"].replace(b"IEND", b"IEMD"), "is a damaged PNG (broken PNG file"),
        (FILES["png"][:-20], "is a PNG cut short"),
        (FILES["jpeg"][:-2], "is a JPEG cut short"),
        (FILES["jpeg"][:300], "is a JPEG cut short"),
        (hand_made_png(5000, 4000, 8, b""), "has 4000×5000 pixels; a slice has at most 16 million"),
        (hand_made_png(10_000, 10_000, 1, b""), "has 10000×10000 pixels; a slice has at most 16 million"),
        (hand_made_png(30_000, 30_000, 1, b""), "has more pixels than a slice, which has at most 16 million"),
    ],
)
def test_reasons(content: bytes, expected: str):
    assert reason(content).startswith(expected)


def test_four_thousand_squared_is_still_read():
    assert decode(hand_made_png(4000, 4000, 1, (b"\x00" + b"\xff" * 500) * 4000)).shape == (4000, 4000)


def test_blocks_of_an_image_give_what_the_whole_gives(monkeypatch):
    random = np.random.default_rng(0)
    colours, deep = random.integers(0, 256, (24, 20, 4), np.uint8), random.integers(0, 4000, (24, 20), np.uint16)
    palette = Image.fromarray(colours[..., 0] % 2).convert("P")
    palette.putpalette([0, 0, 0, 200, 190, 180])
    files = [
        *(encoded(one) for one in (colours, colours[..., :3], colours[..., :2], colours[..., 0], deep)),
        *(encoded(deep.astype(kind), "TIFF") for kind in (np.float32, np.int32)),
        as_file(palette, "PNG", transparency=b"\x10\x80"),
        as_file(Image.frombytes("CMYK", (20, 24), colours.tobytes()), "JPEG"),
    ]

    def found() -> list[np.ndarray]:
        images = [decode(file) for file in files]
        fitted = [fit(one, size, stretch=stretch) for one in images for size, stretch in ((7, False), (50, True))]
        return [*images, *map(decode_deep, files), *fitted]

    whole = found()
    monkeypatch.setattr(decoding, "_BLOCK", 64)  # three rows
    assert all(map(np.array_equal, found(), whole))


GROWTH = """
import sys
from pathlib import Path
from mriscope.data.decoding import decode, fit
for at, path in enumerate(sys.argv[1:]):
    fit(decode(Path(path).read_bytes()), 32)
    # VmHWM, as ru_maxrss begins with that of the process which started this one
    memory = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
    before = before if at else memory
print((memory - before) // 1024)
"""


SIDE = (3999, 3999)
LARGE: dict[str, Callable[[Path], None]] = {
    "RGBA.png": lambda path: Image.new("RGBA", SIDE, (10, 20, 30, 99)).save(path, compress_level=1),
    "F.tif": lambda path: Image.new("F", SIDE, 7).save(path, compression="tiff_deflate"),
    "16 bits.png": lambda path: Image.new("I;16", SIDE, 700).save(path, compress_level=1),
    "LA.png": lambda path: Image.new("LA", SIDE, (10, 99)).save(path, compress_level=1),
    "palette.png": lambda path: Image.new("P", SIDE, 3).save(path, compress_level=1, transparency=3),
    "CMYK.jpg": lambda path: Image.new("CMYK", SIDE, (9, 8, 7, 6)).save(path),
    "I.tif": lambda path: Image.new("I", SIDE, 700).save(path, compression="tiff_deflate"),
}
"""Small files of 16 million pixels; the first two are of the kinds that took most."""


@pytest.mark.parametrize("name", LARGE if LONG else [*LARGE][:2])
def test_a_small_file_of_many_pixels_takes_no_more_than_200_mib(tmp_path, name):
    Image.new("L", (40, 40)).save(tmp_path / "small.png")
    LARGE[name](tmp_path / name)
    assert (tmp_path / name).stat().st_size < 2**20
    paths = [str(tmp_path / "small.png"), str(tmp_path / name)]
    done = subprocess.run([sys.executable, "-c", GROWTH, *paths], capture_output=True, text=True, check=True)
    print(f"{name}: {(tmp_path / name).stat().st_size >> 10} kB, grown by {int(done.stdout)} MiB")
    assert int(done.stdout) < 200


def test_a_damaged_header_is_told_from_another_format():
    assert reason(FILES["jpeg"][:20]) == "is a JPEG whose header is damaged or cut short"


def test_a_bomb_of_text_is_refused():
    bomb = chunk(b"zTXt", b"k\x00\x00" + zlib.compress(bytes(100_000_000), 1))
    assert reason(hand_made_png(8, 1, 8, bytes(9), bomb)).startswith("is a damaged PNG (Decompressed data too large")


def test_a_flipped_bit_in_a_png_is_noticed():
    content = bytearray(FILES["png"])
    content[len(content) // 2] ^= 1
    assert "checksum" in reason(bytes(content))


@pytest.mark.parametrize("name", FILES)
def test_no_file_that_is_cut_short_is_half_decoded(name: str):
    spare = 4 if name == "png" else 0  # the last checksum of a PNG stands after all that it says
    for length in range(len(FILES[name]) - spare):
        assert reason(FILES[name][:length])


def test_pillows_warnings_stay_inside():
    broken_animation = chunk(b"acTL", struct.pack(">II", 0, 0))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert decode(hand_made_png(1, 1, 8, b"\x00\x07", broken_animation)).tolist() == [[7]]
        reason(hand_made_png(10_000, 10_000, 1, b""))
    assert not heard


@pytest.mark.parametrize("name", FILES)
def test_ten_thousand_mutated_files(name: str):
    lot = random.Random(name)
    for _ in range(10_000):
        content = bytearray(FILES[name])
        for _ in range(lot.randint(1, 6)):
            content[lot.randrange(len(content))] = lot.randrange(256)
        assert_slice_or_reason(bytes(content[: lot.randrange(len(content))] if lot.random() < 0.3 else content))


@settings(max_examples=300)
@given(st.sampled_from(sorted(FILES)), st.integers(0, 600), st.integers(0, 40), st.binary(max_size=40))
def test_any_bytes_in_any_place(name: str, start: int, dropped: int, put: bytes):
    content = FILES[name]
    assert_slice_or_reason(content[:start] + put + content[start + dropped :])


@settings(max_examples=200)
@given(st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]), st.binary(max_size=200))
def test_any_bytes_at_all(start: bytes, rest: bytes):
    assert_slice_or_reason(start + rest)


def assert_slice_or_reason(content: bytes) -> None:
    try:
        found, told = decode(content), "is a slice"
    except DataError as error:
        found, told = RAMP, str(error)
    assert told.isprintable()
    assert told.split()[0] in ("is", "has")
    assert found.dtype == np.uint8
    assert found.ndim == 2
    assert 0 < found.size <= 16_000_000


def test_shrinking_averages_areas():
    image = np.array([[0, 10, 100, 100], [20, 30, 100, 100], [0, 0, 8, 8], [0, 0, 8, 12]], np.uint8)
    assert resize(image, 2).tolist() == [[15, 100], [0, 9]]
    assert resize(np.full((208, 176), 37, np.uint8), 128).tolist() == np.full((128, 128), 37).tolist()
    thirds = np.array([[0, 90, 30]] * 3, np.uint8)  # two areas of one and a half columns each
    assert resize(thirds, 2)[0].tolist() == [30, 50]
    long = np.concatenate([np.zeros((1, 8_000_000), np.uint8), np.full((1, 8_000_000), 80, np.uint8)], axis=1)
    assert resize(long, 2).tolist() == [[0, 80]] * 2


def test_areas_agree_with_the_mean_of_a_finer_grid():
    image = pixels(3, 26, 22)
    fine = image.repeat(16, 0).repeat(16, 1).astype(float)
    expected = fine.reshape(16, 26, 16, 22).mean((1, 3))
    assert np.array_equal(resize(image, 16), np.floor(expected + 0.5))


def test_enlarging_is_bilinear():
    assert resize(np.array([[0, 100]] * 2, np.uint8), 4)[0].tolist() == [0, 25, 75, 100]


def test_each_axis_goes_its_own_way():
    image = np.array([[0, 100], [0, 100], [100, 200], [100, 200]] * 2, np.uint8)  # 8×2 to 4×4
    assert resize(image, 4).tolist() == [[0, 25, 75, 100], [100, 125, 175, 200]] * 2


def test_an_image_of_the_right_size_is_left_alone():
    assert resize(RAMP, 16) is RAMP


@pytest.mark.parametrize(("format", "options"), [("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {})])
def test_tiff_and_bmp_are_read(format: str, options: dict):
    assert np.array_equal(decode(encoded(RAMP, format, **options)), RAMP)


def test_sixteen_bits_of_a_tiff_are_read():
    wide = np.array([[0, 1000], [2047, 4095]], np.uint16)
    found = decode_deep(encoded(wide, "TIFF"))
    assert found.dtype == np.uint16
    assert np.array_equal(found, wide)


@pytest.mark.parametrize(("bits", "largest"), [(8, 255), (8, 3), (10, 1023), (12, 4095), (12, 2048), (16, 65_535)])
def test_the_bits_that_are_used_are_kept(bits: int, largest: int):
    assert bits_of(largest) == bits
    wide = np.linspace(0, 2**bits - 1, 256).round().astype(np.uint16)[None]
    assert len(np.unique(to_8_bits(wide, bits))) == 256
    assert to_8_bits(wide, bits)[0, [0, -1]].tolist() == [0, 255]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "turned"), [(1, np.array), (3, lambda x: x[::-1, ::-1]), (6, lambda x: np.rot90(x, -1))]
)
def test_the_orientation_of_exif_is_applied(format: str, orientation: int, turned):
    grey = np.repeat(np.repeat(np.array([[0, 90, 255], [30, 160, 200]], np.uint8), 16, 0), 16, 1)
    exif = Image.Exif()
    exif[274] = orientation
    found = decode(encoded(grey, format, exif=exif))
    assert found.shape == turned(grey).shape
    assert np.abs(found.astype(int) - turned(grey)).max() <= 3


def test_exif_that_cannot_be_read_tells_nothing():
    assert np.array_equal(decode(encoded(RAMP, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")), RAMP)


def test_a_tiff_of_pages_is_refused():
    pages = [Image.fromarray(RAMP), Image.fromarray(RAMP)]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    assert reason(file.getvalue()) == "is a TIFF of several pages; save each slice as a file"


def test_fractions_are_refused_and_whole_numbers_taken():
    assert "has fractions as pixels" in reason(encoded(np.array([[0.5, 1]], np.float32), "TIFF"))
    assert decode_deep(encoded(np.array([[7, 300]], np.float32), "TIFF")).tolist() == [[7, 300]]
    assert "has pixels up to 70,000" in reason(encoded(np.array([[0, 70_000]], np.int32), "TIFF"))


def test_colours_of_sixteen_bits_that_use_few_are_refused():
    def colour(most: int) -> bytes:
        rows = b"\0" + struct.pack(">6H", 0, 0, 0, most, most, most)
        head = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

    assert decode(colour(65_535)).tolist() == [[0, 255]]
    assert reason(colour(4095)) == "has colours of 16 bits and uses 12 of them; save it as 16-bit grey"


def scans(width: int, height: int, more: int) -> bytes:
    """A progressive JPEG with empty scans at its end."""
    content = encoded(np.zeros((height, width), np.uint8), "JPEG", progressive=True)
    return content[:-2] + b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x10" * more + b"\xff\xd9"


@pytest.mark.parametrize(("width", "height", "more"), [(64, 64, 20_000), (64, 64, 100), (3900, 3900, 40)])
def test_a_jpeg_of_many_scans_is_refused_at_once(width: int, height: int, more: int):
    assert "scans; a slice has at most " in reason(scans(width, height, more))


def test_a_few_scans_are_usual():
    assert decode(scans(64, 64, 20)).shape == (64, 64)


def test_many_scans_within_a_tiff_are_refused():
    content = encoded(np.zeros((64, 64), np.uint8), "TIFF", compression="jpeg")
    assert decode(content).shape == (64, 64)
    assert "scans; a slice has at most 100" in reason(content + b"\xff\xda" * 200)


@pytest.mark.parametrize(("height", "width"), [(20, 12), (12, 20), (7, 20), (16, 16), (40, 24)])
def test_the_aspect_is_kept_on_black(height: int, width: int):
    image = np.full((height, width), 200, np.uint8)
    found = fit(image, 20)
    scale = 20 / max(height, width)
    assert found.shape == (20, 20)
    assert found.sum() == pytest.approx(200 * height * width * scale**2, rel=1e-3)
    assert (fit(image, 20, stretch=True) == 200).all()


@pytest.mark.parametrize("name", ["tiff", "lzw tiff", "bmp", "sixteen bits"])
def test_mutated_tiff_and_bmp_files_give_pixels_or_a_reason(name: str):
    whole = {
        "tiff": encoded(pixels(1, 24, 20), "TIFF"),
        "lzw tiff": encoded(pixels(1, 24, 20), "TIFF", compression="tiff_lzw"),
        "bmp": encoded(pixels(1, 24, 20), "BMP"),
        "sixteen bits": encoded(pixels(1, 24, 20).astype(np.uint16), "TIFF"),
    }[name]
    lot = random.Random(name)
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(lot.randint(1, 4)):
            content[lot.randrange(len(content))] = lot.randrange(256)
        content = content[: lot.randrange(len(content))] if lot.random() < 0.1 else content
        with contextlib.suppress(DataError):
            assert decode(bytes(content)).ndim == 2
