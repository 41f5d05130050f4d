"""From the bytes of a JPEG or PNG file to grey pixels, and from one size to another."""

import io
import warnings

import numpy as np
from PIL import Image

from mriscope.errors import DataError

MAX_PIXELS = 16_000_000
FORMATS = ("JPEG", "PNG")


def decode(content: bytes) -> np.ndarray:
    """Decode a JPEG or PNG file to grey pixels.

    Colour becomes luma (ITU-R BT.601), 16-bit grey is divided by 257 and rounded, transparency and orientation marks
    play no part. The checksums of a PNG are verified; JPEG has none, so that damage which leaves a well-formed stream
    cannot be seen.

    Args:
        content: the file, whole.

    Returns:
        uint8 (H, W), 0 is black.

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


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize an image: averaged over areas where it shrinks, bilinear where it grows.

    A pixel on a border counts by the share of it that lies within (the BOX filter of Pillow takes it whole or not at
    all). Areas have no meaning between pixels, hence the second rule; it acts on each axis by itself.

    Args:
        pixels: uint8 (H, W).
        size: height and width to reach, in pixels.

    Returns:
        uint8 (size, size).
    """
    if pixels.shape == (size, size):
        return pixels
    values = pixels
    for length in pixels.shape:
        values = (_areas(values, size) if size < length else _between(values, size)).T
    return np.floor(values + (0.5 + 1e-6)).astype(np.uint8)  # halves go up, whatever the last bit of the sums


def _areas(values: np.ndarray, size: int) -> np.ndarray:
    """Compute means over equal stretches of the first axis: differences of the running total at their borders."""
    borders = np.arange(size + 1) * (len(values) / size)
    whole = np.minimum(borders.astype(int), len(values) - 1)
    total = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=total[1:])
    return np.diff(total[whole] + (borders - whole)[:, None] * values[whole], axis=0) * (size / len(values))


def _between(values: np.ndarray, size: int) -> np.ndarray:
    """Interpolate between the pixels of the first axis; beyond the outer ones their values hold."""
    places = ((np.arange(size) + 0.5) * (len(values) / size) - 0.5).clip(0, len(values) - 1)
    lower = places.astype(int)
    upper = np.minimum(lower + 1, len(values) - 1)
    share = (places - lower)[:, None]
    return (1 - share) * values[lower] + share * values[upper]


def _decode(content: bytes) -> np.ndarray:
    image = open_image(content)
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"has {image.height}×{image.width} pixels; a slice has at most {MAX_PIXELS // 10**6} million")
    if image.format == "PNG":
        image.verify()
        image = open_image(content)  # one that was verified cannot be loaded any more
    if image.mode.startswith("I"):
        wide = np.clip(np.asarray(image, np.int64), 0, 65_535)
        return ((wide + 128) // 257).astype(np.uint8)
    return np.array(image.convert("L"))


def open_image(content: bytes) -> Image.Image:
    """Open the header of a JPEG or PNG file; its pixels are not decoded yet."""
    return Image.open(io.BytesIO(content), formats=FORMATS)


def _reason(content: bytes, error: Exception) -> str:
    kind = "JPEG" if content.startswith(b"\xff\xd8") else "PNG" if content.startswith(b"\x89PNG") else ""
    if not kind:
        return "is neither JPEG nor PNG"
    if isinstance(error, Image.DecompressionBombError):
        return f"has more pixels than a slice, which has at most {MAX_PIXELS // 10**6} million"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"is a {kind} whose header is damaged or cut short"
    text = " ".join(str(error).split())[:100]
    return f"is a {kind} cut short" if "truncated" in text.lower() else f"is a damaged {kind} ({text})"
