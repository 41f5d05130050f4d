"""From the raw rows of a source to a slice set, with every row that holds no slice listed by its reason."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mriscope.data.decoding import decode, resize
from mriscope.data.naming import natural
from mriscope.data.slices import SIZE, UNKNOWN, SliceSet
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
        content: bytes of a JPEG or PNG file; None where the source has none.
        problem: why the row is unusable, where its reader already knows; or "".
        subject: what its source calls the subject; or "".
    """

    number: int
    path: str
    file: str = ""
    part: str = ""
    label: int | None = None
    content: bytes | None = None
    problem: str = ""
    subject: str = ""


@dataclass(frozen=True)
class Source:
    """A source whose kind and classes are known and whose rows are still unread.

    Args:
        files: the files that decide its content, by their names within the source; a text tells why one is unusable.
        class_names: the classes that the labels count.
        rows: reads the rows; can be called again.
    """

    files: Mapping[str, Path | str]
    class_names: tuple[str, ...]
    rows: Callable[[], Iterator[Row]]


@dataclass(frozen=True)
class Reading:
    """What came of reading a source: the slices, the rows that hold none, and what its user should be told."""

    slices: SliceSet
    bad: tuple[BadRow, ...] = ()
    notes: tuple[str, ...] = ()


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
        seen.append(replace(row, content=None))
        try:
            image = decode(_content(row, class_names))
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
        subjects=_numbered([seen[index].subject for index in good]),
        class_names=class_names,
    )
    told = zip(seen, names, reasons, strict=True)
    bad = tuple(BadRow(row.number, name, reason) for row, name, reason in told if reason)
    return Reading(slices, bad, _notes(shapes, target))


def _numbered(subjects: Sequence[str]) -> list[int]:
    """Numbers from 0 for subjects in natural order, -1 for those without a name."""
    number = {name: place for place, name in enumerate(sorted({*subjects} - {""}, key=natural))}
    return [number.get(name, UNKNOWN) for name in subjects]


def _content(row: Row, class_names: Sequence[str]) -> bytes:
    if row.problem:
        raise DataError(row.problem)
    if row.content is None:
        raise DataError("has no image bytes")
    if row.label is None:
        raise DataError("has no label")
    if not 0 <= row.label < len(class_names):
        raise DataError(f"has the label {row.label}, outside the {len(class_names)} classes {', '.join(class_names)}")
    return row.content


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
