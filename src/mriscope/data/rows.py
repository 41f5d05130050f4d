"""From the raw rows of a source to a slice set, with every row that holds no slice listed by its reason."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mriscope.data.decoding import decode, resize
from mriscope.data.slices import SIZE, SliceSet
from mriscope.errors import BadRow, DataError


@dataclass(frozen=True)
class Row:
    """One row as its source holds it, not yet judged.

    Args:
        number: counted from 0 within its file or listing.
        path: its name there.
        file: name of the file that holds the row, within the source; "" for a listing.
        part: the published part ("train", "test"), or "".
        label: index into the classes; None where the source has none.
        content: bytes of an image file; None where the source has none.
        problem: why the row is unusable, where its reader already knows; or "".
        subject: what its source calls the subject; or "".
        session: what its source calls the scanning session of the subject; or "".
        position: place along the scan from inferior to superior, an index or millimetres; nan where unknown.
        covariates: further columns of its source by their names, as texts, "" where unknown.
        pixels: uint8 (H, W), 0 is background, where the reader has decoded them already, in the place of content.
        told: what was done to the file of this row that its user should know, in words, with how many it was done to.
    """

    number: int
    path: str
    file: str = ""
    part: str = ""
    label: int | None = None
    content: bytes | None = None
    problem: str = ""
    subject: str = ""
    session: str = ""
    position: float = math.nan
    covariates: Mapping[str, str] = field(default_factory=dict)
    pixels: np.ndarray | None = None
    told: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A source whose kind and classes are known and whose rows are still unread.

    Args:
        files: the files that decide its content, by their names within the source; a text tells why one is unusable.
        class_names: the classes that the labels count.
        rows: reads the rows; can be called again.
        options: whatever else decides the pixels, as JSON can hold it.
        notes: what its user should be told of how it was understood.
        of_volumes: whether its rows are cut from volumes, so that their size in pixels is no property of theirs.
    """

    files: Mapping[str, Path | str]
    class_names: tuple[str, ...]
    rows: Callable[[], Iterator[Row]]
    options: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    of_volumes: bool = False


@dataclass(frozen=True)
class Reading:
    """What came of reading a source: the slices, the rows that hold none, and what its user should be told.

    `subjects_from` is manifest, source or pixels; None where nobody asked or a subject is unknown.
    """

    slices: SliceSet
    bad: tuple[BadRow, ...] = ()
    notes: tuple[str, ...] = ()
    subjects_from: str | None = None


def gather(rows: Iterable[Row], class_names: Sequence[str], size: int | None) -> Reading:
    """Decode rows into one slice set.

    Args:
        rows: read once, and one at a time.
        class_names: the classes that the labels count.
        size: height and width to bring every slice to; None: 128, and a slice of another size than most is bad.
    """
    seen: list[Row] = []
    reasons: list[str] = []
    shapes: list[tuple[int, int]] = []
    pixels = bytearray()  # grows in place, where a list of arrays would be held twice while it is joined
    target = size or SIZE
    for row in rows:
        seen.append(replace(row, content=None, pixels=None))
        try:
            _check_row(row, class_names)
            image = decode(row.content or b"") if row.pixels is None else row.pixels
        except DataError as error:
            reasons.append(str(error))
            continue
        reasons.append("")
        shapes.append((image.shape[0], image.shape[1]))
        pixels += resize(image, target).tobytes()
    images = np.frombuffer(pixels, np.uint8).reshape(-1, target, target)
    if size is None:
        images, shapes = _without_misfits(images, shapes, reasons)
    names = unique_names(seen)
    good = [index for index, reason in enumerate(reasons) if not reason]
    slices = SliceSet.of(
        images,
        np.array([seen[index].label for index in good], np.int64),
        paths=[names[index] for index in good],
        parts=[seen[index].part for index in good],
        subjects=np.array([seen[index].subject for index in good], str),
        sessions=np.array([seen[index].session for index in good], str),
        positions=np.array([seen[index].position for index in good], np.float64),
        covariates=as_covariates([seen[index].covariates for index in good]),
        class_names=class_names,
    )
    told = zip(seen, names, reasons, strict=True)
    bad = tuple(BadRow(row.number, name, reason) for row, name, reason in told if reason)
    return Reading(slices, bad, (*_told(seen), *_notes(shapes, target)))


def as_covariates(rows: Sequence[Mapping[str, str]]) -> dict[str, np.ndarray]:
    """Return the columns of a table of texts: float64 where every known one is a number, str otherwise.

    Args:
        rows: each by the names of the columns; "" or no entry where unknown.

    Example:
        >>> as_covariates([{"age": "71", "sex": "F"}, {"age": ""}])
        {'age': array([71., nan]), 'sex': array(['F', ''], dtype='<U1')}
    """
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _as_column([row.get(name, "") for row in rows]) for name in names}


def _as_column(texts: Sequence[str]) -> np.ndarray:
    # 007 is the name of a site, and no number
    if all(re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?", text) for text in texts if text):
        return np.array([float(text or "nan") for text in texts], np.float64)
    return np.array(texts, str)


def _check_row(row: Row, class_names: Sequence[str]) -> None:
    if row.problem:
        raise DataError(row.problem)
    if row.content is None and row.pixels is None:
        raise DataError("has no image bytes")
    if row.label is None:
        raise DataError("has no label")
    if not 0 <= row.label < len(class_names):
        raise DataError(f"has the label {row.label}, outside the {len(class_names)} classes {', '.join(class_names)}")


def _without_misfits(
    images: np.ndarray, shapes: list[tuple[int, int]], reasons: list[str]
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The images of the most common shape, and their shapes; the others get a reason."""
    if len(set(shapes)) < 2:
        return images, shapes
    common = Counter(shapes).most_common(1)[0][0]
    decoded = [index for index, reason in enumerate(reasons) if not reason]
    for index, shape in zip(decoded, shapes, strict=True):
        if shape != common:
            reasons[index] = (
                f"is {_text(shape)} where most slices are {_text(common)}; read with size={SIZE} to resize every slice"
            )
    fits = np.array([shape == common for shape in shapes])
    return images[fits], [common] * int(fits.sum())


def unique_names(rows: list[Row]) -> list[str]:
    """The rows' paths as they are; where two are equal, all after their part, else their file, else with the row.

    A path names its slice in every report, so no two slices share one.
    """
    names: list[str] = []
    for names in (
        [row.path for row in rows],
        [f"{row.part}/{row.path}" if row.part else row.path for row in rows],
        [f"{row.file}/{row.path}" if row.file else row.path for row in rows],
    ):
        if len(set(names)) == len(rows):
            return names
    return [f"{name}#{row.number}" for name, row in zip(names, rows, strict=True)]


def _told(rows: Sequence[Row]) -> list[str]:
    """Return what rows tell of their files, each with its total."""
    totals: Counter[str] = Counter()
    for row in rows:
        totals.update(row.told)
    return [f"{count:,} {words}" for words, count in totals.items()]


def _notes(shapes: list[tuple[int, int]], target: int) -> tuple[str, ...]:
    resized = Counter(shape for shape in shapes if shape != (target, target))
    if not resized:
        return ()
    sides = [side for shape in resized for side in shape]
    ways = [("by area", max(sides) > target), ("bilinearly", min(sides) < target)]
    how = " and ".join(way for way, used in ways if used)
    common = _text(resized.most_common(1)[0][0])
    sizes = common if len(resized) == 1 else f"{len(resized)} sizes, most often {common},"
    return (f"{resized.total()} slices of {sizes} were resized to {_text((target, target))} {how}",)


def _text(shape: tuple[int, int]) -> str:
    return f"{shape[0]}×{shape[1]}"
