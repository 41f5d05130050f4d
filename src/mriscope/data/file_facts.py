"""Facts about the files of slices that have nothing to do with the brain: size, format, colour, encoding, metadata."""

import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from mriscope.data.decoding import check_size, open_image
from mriscope.data.readers import open_source
from mriscope.data.rows import Row, unique_names
from mriscope.data.source import parse_source

MODES = {"1": "black and white", "L": "grey, 8 bit", "LA": "grey with alpha", "P": "palette", "RGB": "colour"}
"""What Pillow's modes mean; the others are shown as Pillow names them."""
TAGS = (ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software, ExifTags.Base.Orientation)
METADATA = ("icc_profile", "xmp", "comment", "photoshop", "adobe", "dpi", "Software", "gamma", "transparency")
"""What Pillow's `info` may hold beside EXIF; the names are given, and the values where they are short."""
MANY_SIZES = 12
_THUMBNAIL = 64  # pixels; enough to see whether an image has colour


@dataclass(frozen=True, eq=False)
class FileFact:
    """One fact about every slice of a set.

    Args:
        name: in words.
        values: (N,), str for categories, float64 for numbers; "" and nan where it is unknown.
        from_brain: whether the brain shown has a say in it, as in how many bytes a file takes.
    """

    name: str
    values: np.ndarray
    from_brain: bool = False


@dataclass(frozen=True)
class FileDescription:
    """What the header of an image file tells, and the colour of its pixels (grey levels between channels)."""

    width: int
    height: int
    format: str
    mode: str
    encoding: str
    metadata: str
    bytes_per_pixel: float
    saturation: float


def read_file_facts(source: str | Path, paths: Sequence[str]) -> tuple[FileFact, ...]:
    """Read the facts about the files of slices; only headers are decoded, and a small copy of colour images.

    Args:
        source: as mriscope.data.read takes it.
        paths: the slices that are meant, as they are called in the set that was read from it.

    Returns:
        size (or height and width, where there are many), format, colour mode, encoding (quality and chroma subsampling
        of a JPEG), metadata, colour saturation, and bytes per pixel; none for volumes, and for the phantom.

    Raises:
        DataError: the source cannot be read any more.

    Example:
        >>> slices = mriscope.read("folder of slices")
        >>> [fact.name for fact in read_file_facts("folder of slices", slices.paths)]
        ['size', 'format', 'colour mode', 'encoding', 'metadata', 'colour saturation', 'bytes per pixel']
    """
    return file_facts(describe_files(source), paths)


def describe_files(source: str | Path) -> dict[str, FileDescription | None]:
    """Describe the files of a source's rows by the names of their slices; None for a row that holds no image.

    Args:
        source: as mriscope.data.read takes it.

    Returns:
        nothing for volumes, and for the phantom.

    Raises:
        DataError: the source cannot be read.
    """
    if parse_source(source).kind == "phantom" or (opened := open_source(source)).of_volumes:
        return {}
    seen: list[Row] = []
    files: list[FileDescription | None] = []
    for row in opened.rows():
        seen.append(replace(row, content=None))
        files.append(_describe(row.content) if row.content and not row.problem else None)
    return dict(zip(unique_names(seen), files, strict=True))


def file_facts(described: Mapping[str, FileDescription | None], paths: Sequence[str]) -> tuple[FileFact, ...]:
    """Return the facts about the files of slices, as `read_file_facts` does.

    Args:
        described: describe_files of the source; where it is empty there are no facts.
        paths: the slices that are meant.
    """
    files = [described.get(path) for path in map(str, paths)]

    def words(of: Any) -> np.ndarray:
        return np.array(["" if file is None else of(file) for file in files], str)

    def numbers(name: str) -> np.ndarray:
        return np.array([np.nan if file is None else getattr(file, name) for file in files], np.float64)

    if not described:
        return ()
    size = FileFact("size", words(lambda file: f"{file.height}×{file.width}"))
    many = len(np.unique(size.values)) > MANY_SIZES
    return (
        *([FileFact("height", numbers("height")), FileFact("width", numbers("width"))] if many else [size]),
        FileFact("format", words(lambda file: file.format)),
        FileFact("colour mode", words(lambda file: file.mode)),
        FileFact("encoding", words(lambda file: file.encoding)),
        FileFact("metadata", words(lambda file: file.metadata)),
        FileFact("colour saturation", numbers("saturation")),
        FileFact("bytes per pixel", numbers("bytes_per_pixel"), from_brain=True),
    )


def _describe(content: bytes) -> FileDescription | None:
    """Return the facts of one file; None where it is no image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in `decode`, which says what is wrong with a file
            image = open_image(content)
            check_size(image, content)
            return FileDescription(
                width=image.width,
                height=image.height,
                format=str(image.format),
                mode=MODES.get(image.mode, image.mode),
                encoding=_encoding(image),
                metadata=_metadata(image),
                bytes_per_pixel=len(content) / (image.width * image.height),
                saturation=_saturation(image),  # last, as it loads the pixels
            )
    except Exception:  # damaged files raise whatever the parser stumbled over, and reading has told of them
        logging.getLogger("mriscope").debug("a file's header cannot be read", exc_info=True)
        return None


def _encoding(image: Any) -> str:
    """Return the quality of the JPEG tables as libjpeg counts it, chroma subsampling, and whether it is progressive."""
    from PIL.JpegImagePlugin import get_sampling

    if image.format != "JPEG":
        return "interlaced" if image.info.get("interlace") else "plain"
    table = tuple(image.quantization.get(0, ()))
    known = _tables_of_libjpeg().get(table)
    quality = f"JPEG quality {known}" if known else f"JPEG tables of sum {sum(table)}"
    sampling = {0: ", chroma 4:4:4", 1: ", chroma 4:2:2", 2: ", chroma 4:2:0"}.get(get_sampling(image), "")
    return quality + sampling + (", progressive" if image.info.get("progressive") else "")


@lru_cache(maxsize=1)
def _tables_of_libjpeg() -> dict[tuple[int, ...], int]:
    """Return the luminance tables of libjpeg's qualities from 1 to 100."""
    tables: dict[tuple[int, ...], int] = {}
    for quality in range(1, 101):
        file = io.BytesIO()
        Image.new("L", (8, 8)).save(file, "JPEG", quality=quality)
        image: Any = open_image(file.getvalue())
        tables[tuple(image.quantization[0])] = quality
    return tables


def _metadata(image: Any) -> str:
    texts = {name: str(image.info[name]) for name in METADATA if name in image.info}
    found = [f"{name} {text}" if len(text) <= 20 else name for name, text in texts.items()]
    if exif := image.getexif() if "exif" in image.info else None:
        told = [f"{ExifTags.TAGS[tag].lower()} {str(exif[tag])[:40]}" for tag in TAGS if tag in exif]
        found.insert(0, f"EXIF ({', '.join(told)})" if told else "EXIF")
    return ", ".join(found) or "none"


def _saturation(image: Any) -> float:
    """Compute the mean over pixels of the greatest less the least channel, in grey levels; 0 for a grey image."""
    if image.mode in ("1", "L", "LA") or image.mode.startswith(("I", "F")):
        return 0.0
    image.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.NEAREST)  # a JPEG is decoded at a fraction of its size
    channels = np.asarray(image.convert("RGB"), np.int16)
    return round(float((channels.max(axis=2) - channels.min(axis=2)).mean()), 1)
