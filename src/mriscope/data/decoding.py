"""From the bytes of an image file to grey pixels, and from one size to another."""

import io
import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from mriscope.errors import DataError

MAX_PIXELS = 16_000_000
MAX_SIDE = 16_384
MAX_SCANS = 100
MAX_SCANNED = 400_000_000  # pixels of all scans of a JPEG; libjpeg walks the whole picture for each
_BLOCK = 2**20  # pixels that are computed with at once, as wider numbers of all would take many times the image
FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")

_BEGINNINGS = {b"\xff\xd8": "JPEG", b"\x89PNG": "PNG", b"II": "TIFF", b"MM": "TIFF", b"BM": "BMP"}


def decode(content: bytes) -> np.ndarray:
    """Decode an image file to grey pixels of 8 bits, see `decode_deep` and `to_8_bits`.

    Args:
        content: the file, whole.

    Returns:
        uint8 (H, W), 0 is black.

    Raises:
        DataError: why there is no slice in these bytes, as the predicate of a sentence ("is cut short").
    """
    pixels = decode_deep(content)
    return pixels if pixels.dtype == np.uint8 else to_8_bits(pixels, bits_of(int(pixels.max(initial=0))))


def decode_deep(content: bytes) -> np.ndarray:
    """Decode an image file (JPEG, PNG, TIFF, BMP) to grey pixels of the bits it has.

    Colour becomes luma (ITU-R BT.601), transparent pixels lie on black, and the orientation that EXIF tells is applied.
    The checksums of a PNG are verified; JPEG has none, so that damage which leaves a well-formed stream cannot be seen.

    Args:
        content: the file, whole.

    Returns:
        uint8 (H, W), or uint16 (H, W) of a grey image of more than 8 bits; 0 is black.

    Raises:
        DataError: why there is no slice in these bytes, as the predicate of a sentence ("is cut short").
    """
    if not content:
        raise DataError("is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            # Pillow warns of sizes that are refused below and of side matters such as a broken animation header.
            warnings.simplefilter("ignore")
            return _decode(content)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # besides OSError, damaged files raise whatever the parser stumbled over
        raise DataError(_reason(content, error)) from error


def bits_of(largest: int) -> int:
    """Return how many bits the pixels of images use, 8 to 16, from the largest of all their values.

    Example:
        >>> bits_of(200), bits_of(1023), bits_of(4000)
        (8, 10, 12)
    """
    return max(8, largest.bit_length())


def to_8_bits(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Bring pixels of more bits to 8, rounded: the largest number of these bits becomes 255.

    Args:
        pixels: uint16 of any shape, all below 2**bits.
        bits: 8 to 16; images of one set have one number of bits, so that they stay comparable.
    """
    most = 2**bits - 1
    values, small = pixels.reshape(-1), np.empty(pixels.size, np.uint8)
    for start in range(0, pixels.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        small[block] = (values[block].astype(np.uint32) * 255 + most // 2) // most
    return small.reshape(pixels.shape)


def fit(pixels: np.ndarray, size: int, *, stretch: bool = False) -> np.ndarray:
    """Bring an image to a square: its aspect is kept and the rest is background, or it is stretched.

    Args:
        pixels: uint8 or uint16 (H, W).
        size: height and width to reach, in pixels.
        stretch: whether height and width are resized each by itself.

    Returns:
        (size, size), of the same type.
    """
    longest = max(pixels.shape)
    return _resample(pixels, size, pixels.shape if stretch else (longest, longest))


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize an image: averaged over areas where it shrinks, bilinear where it grows.

    A pixel on a border counts by the share of it that lies within (the BOX filter of Pillow takes it whole or not at
    all). Areas have no meaning between pixels, hence the second rule; it acts on each axis by itself.

    Args:
        pixels: uint8 or uint16 (H, W).
        size: height and width to reach, in pixels.

    Returns:
        (size, size), of the same type.
    """
    return _resample(pixels, size, pixels.shape)


def _resample(pixels: np.ndarray, size: int, frame: tuple[int, ...]) -> np.ndarray:
    """Resize an image that lies in the middle of a black frame, which is nowhere made."""
    if pixels.shape == frame == (size, size):
        return pixels
    height, width = pixels.shape
    down, across = _weights(height, frame[0], size), _weights(width, frame[1], size)
    values, columns = np.empty((size, width)), max(1, _BLOCK // height)
    for start in range(0, width, columns):
        block = slice(start, start + columns)
        values[:, block] = down @ np.ascontiguousarray(pixels[:, block], np.float64)
    values = (across @ np.ascontiguousarray(values.T)).T
    return np.floor(values + (0.5 + 1e-6)).astype(pixels.dtype)  # halves go up, whatever the last bit of the sums


@lru_cache(maxsize=256)
def _weights(length: int, whole: int, size: int) -> Any:
    """Return the share of each pixel of a row in each of the resized row.

    Args:
        length: pixels of the row, in the middle of the whole.
        whole: pixels of the row with what is black at its ends.
        size: pixels to reach.

    Returns:
        sparse matrix (size, length).
    """
    from scipy.sparse import csr_array  # which most readings need not import

    if size < whole:  # the share of each pixel that lies between two borders
        borders = np.arange(size + 1)[:, None] * (whole / size)
        places = borders[:-1].astype(int) + np.arange(whole // size + 2)
        shares = np.minimum(places + 1, borders[1:]) - np.maximum(places, borders[:-1])
        shares = shares.clip(0) * (size / whole)
    else:  # between the middles of two pixels; beyond the outer ones theirs
        middles = ((np.arange(size)[:, None] + 0.5) * (whole / size) - 0.5).clip(0, whole - 1)
        places = middles.astype(int) + np.arange(2)
        shares = (1 - np.abs(places - middles)).clip(0)
    columns = places - (whole - length) // 2
    rows = np.broadcast_to(np.arange(size)[:, None], places.shape)
    held = (columns >= 0) & (columns < length) & (shares > 0)
    return csr_array((shares[held], (rows[held], columns[held])), shape=(size, length))


def _decode(content: bytes) -> np.ndarray:
    image = open_image(content)
    check_size(image, content)
    if image.format == "PNG":
        image.verify()
        image = open_image(content)  # one that was verified cannot be loaded any more
    if image.format == "TIFF":
        _check_tiff(image, content)
    if image.mode not in ("I", "F") and _bits(image, content) == 16 and not image.mode.startswith("I;"):
        _check_wide(image)
    image = _upright(image)
    if image.mode.startswith(("I", "F")):
        return _deep(image)
    grey = np.empty((image.height, image.width), np.uint8)
    for rows, band in _bands(image):
        grey[rows] = np.asarray(_grey(band))
    return grey


def _bands(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """Yield the rows of an image, as many as make a block, and the image of them."""
    height = max(1, _BLOCK // image.width)
    for top in range(0, image.height, height):
        rows = slice(top, min(top + height, image.height))
        yield rows, image.crop((0, top, image.width, rows.stop)) if height < image.height else image


def _grey(image: Image.Image) -> Image.Image:
    """Return the luma of an image, on black where it is transparent."""
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        colour = image.convert("RGBA")
        image = Image.composite(colour, Image.new("RGBA", colour.size, (0, 0, 0, 255)), colour.getchannel("A"))
    return image.convert("L")


def check_size(image: Image.Image, content: bytes) -> None:
    """Refuse what takes long to decode, before it is decoded."""
    height, width = image.height, image.width
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        limit = f"at most {MAX_PIXELS // 10**6} million" if width * height > MAX_PIXELS else f"sides of {MAX_SIDE:,}"
        raise DataError(f"has {height}×{width} pixels; a slice has {limit}")
    if image.format == "JPEG":
        _check_scans(content, height * width)


def _check_scans(content: bytes, pixels: int) -> None:
    scans = content.count(b"\xff\xda")
    if scans > MAX_SCANS or scans * pixels > MAX_SCANNED:
        raise DataError(
            f"is a JPEG of {scans:,} scans; a slice has at most {min(MAX_SCANS, MAX_SCANNED // max(pixels, 1)):,}, "
            "so save it again"
        )


def _check_tiff(image: Image.Image, content: bytes) -> None:
    if str(image.info.get("compression", "")).endswith("jpeg"):
        _check_scans(content, image.height * image.width)
    try:
        image.seek(1)
    except EOFError:
        image.seek(0)
    else:
        raise DataError("is a TIFF of several pages; save each slice as a file")


def _bits(image: Image.Image, content: bytes) -> int:
    """Return the bits of a channel as the header of a PNG or TIFF tells them; 8 where nothing does."""
    if image.format == "PNG":
        return content[24]
    tags = getattr(image, "tag_v2", None)
    return max(tags.get(258, (8,))) if tags is not None else 8


def _check_wide(image: Image.Image) -> None:
    """Refuse images of several 16-bit channels that use few of the bits, as Pillow keeps the upper 8 alone."""
    brightest = max(high for _, high in image.convert("RGB").getextrema())  # pyright: ignore[reportGeneralTypeIssues]
    if 0 < brightest < 64:
        raise DataError(f"has colours of 16 bits and uses {8 + brightest.bit_length()} of them; save it as 16-bit grey")


def _upright(image: Image.Image) -> Image.Image:
    """Apply the orientation that EXIF tells; EXIF that cannot be read tells none."""
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception:
        turned = False
    return ImageOps.exif_transpose(image) if turned else image


def _deep(image: Image.Image) -> np.ndarray:
    """Return grey pixels of more than 8 bits."""
    pixels, largest = np.empty((image.height, image.width), np.uint16), 0
    for rows, band in _bands(image):
        values: Any = np.asarray(band)
        if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
            raise DataError("has fractions as pixels; save it as grey of 8 or 16 bits")
        largest = max(largest, values.max(initial=0))
        pixels[rows] = np.clip(values, 0, 65_535)
    if largest > 65_535:
        raise DataError(f"has pixels up to {largest:,.0f}; a slice has at most 65,535, so save it as 16-bit grey")
    return pixels


def open_image(content: bytes) -> Image.Image:
    """Open the header of an image file; its pixels are not decoded yet."""
    return Image.open(io.BytesIO(content), formats=FORMATS)


def _reason(content: bytes, error: Exception) -> str:
    kind = next((name for begin, name in _BEGINNINGS.items() if content.startswith(begin)), "")
    if not kind:
        return "is no JPEG, PNG, TIFF or BMP"
    if isinstance(error, Image.DecompressionBombError):
        return f"has more pixels than a slice, which has at most {MAX_PIXELS // 10**6} million"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"is a {kind} whose header is damaged or cut short"
    text = " ".join(str(error).split())[:100]
    return f"is a {kind} cut short" if "truncated" in text.lower() else f"is a damaged {kind} ({text})"
