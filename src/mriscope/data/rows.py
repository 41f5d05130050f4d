"""From the raw rows of a source to a slice set, with every row that holds no slice listed by its reason."""

import contextlib
import math
import os
import re
import tempfile
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from mriscope.data.decoding import bits_of, decode_deep, fit, to_8_bits
from mriscope.data.identifiers import NOBODY, Identity, identify
from mriscope.data.read_options import AS_IT_IS, ReadOptions
from mriscope.data.slices import SIZE, SliceSet
from mriscope.data.subject_ids import unify_subjects
from mriscope.errors import BadRow, DataError

if TYPE_CHECKING:
    from mriscope.data.sandbox import Sandbox
    from mriscope.data.scans import Scan

IN_FLIGHT = 2**24  # bytes of files that wait for a thread to decode them
SMALL = 2**14  # bytes of a file that is decoded sooner than a thread would take it


@dataclass(frozen=True)
class Row:
    """One row as its source holds it, not yet judged.

    Args:
        number: counted from 0 within its file or listing.
        path: its name there.
        file: name of the file that holds the row, within the source; "" for a listing.
        part: the published part ("train", "validation", "test"), or "".
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
        count: of the rows; 0 where it is unknown.
        notes: what its user should be told of how it was understood.
        of_volumes: whether its rows are cut from volumes, so that their size in pixels is no property of theirs.
        scans: finds its volumes, with a sandbox to read headers in; None where it has none that are files.
    """

    files: Mapping[str, Path | str]
    class_names: tuple[str, ...]
    rows: Callable[[], Iterator[Row]]
    count: int = 0
    notes: tuple[str, ...] = ()
    of_volumes: bool = False
    scans: Callable[["Sandbox"], Iterable["Scan"]] | None = None


@dataclass(frozen=True)
class Reading:
    """What came of reading a source: the slices, the rows that hold none, and what its user should be told.

    Args:
        slices: of one size.
        bad: the rows that hold no slice.
        notes: of how the source was read.
        sizes: int64 (N, 2), height and width of each slice in its file; None where they are not known.
        rows: int64 (N, 2), the place of each slice's row among all, and its number there; beside sizes.
    """

    slices: SliceSet
    bad: tuple[BadRow, ...] = ()
    notes: tuple[str, ...] = ()
    sizes: np.ndarray | None = None
    rows: np.ndarray | None = None


def gather(
    rows: Iterable[Row],
    class_names: Sequence[str],
    size: int | None,
    options: ReadOptions = AS_IT_IS,
    *,
    scratch: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Reading:
    """Decode rows into one slice set of one size, whatever sizes their files have.

    Grey images of more than 8 bits are brought to 8 by the bits that the brightest of them uses.

    Args:
        rows: read once, and one at a time.
        class_names: the classes that the labels count.
        size: height and width to bring every slice to; None: 128.
        options: of which stretch and subject_pattern count.
        scratch: a folder for the pixels until they are all there; None keeps them in memory.
        progress: is told how many rows are done.
    """
    target = size or SIZE
    seen: list[Row] = []
    reasons: list[str] = []
    found: list[_Decoded] = []
    deep: dict[int, np.ndarray] = {}
    with warnings.catch_warnings(), _Scratch(scratch) as pixels:  # threads that decode change the process's filters
        for row, one in _decode_all(rows, class_names, target, options.stretch):
            seen.append(row)
            reasons.append(one if isinstance(one, str) else "")
            if not isinstance(one, str):
                if one.pixels.dtype != np.uint8:
                    deep[len(found)] = one.pixels
                pixels.write(one.pixels.astype(np.uint8, copy=False).tobytes())
                found.append(replace(one, pixels=_NO_PIXELS))
            progress(len(seen))
        images = pixels.as_array((len(found), target, target))
    brightest = max((found[at].brightest for at in deep), default=0)
    for at, wide in deep.items():
        images[at] = to_8_bits(wide, bits_of(brightest))
    names = unique_names(seen)
    good = [index for index, reason in enumerate(reasons) if not reason]
    slices, notes = _slice_set(images, [seen[at] for at in good], [names[at] for at in good], class_names, options)
    told = zip(seen, names, reasons, strict=True)
    return Reading(
        slices,
        tuple(BadRow(row.number, name, reason) for row, name, reason in told if reason),
        (*_told(seen), *notes, *_depth_notes(len(deep), brightest)),
        sizes=np.array([one.shape for one in found], np.int64).reshape(-1, 2),
        rows=np.array([(at, seen[at].number) for at in good], np.int64).reshape(-1, 2),
    )


@dataclass(frozen=True)
class _Decoded:
    """A slice at its final size, the shape that its file has, and its brightest pixel there."""

    pixels: np.ndarray
    shape: tuple[int, int]
    brightest: int


_NO_PIXELS = np.zeros((0, 0), np.uint8)


def _decode_all(
    rows: Iterable[Row], class_names: Sequence[str], size: int, stretch: bool
) -> Iterator[tuple[Row, _Decoded | str]]:
    """Decode rows in order, large files on threads; the row without its content, and the slice or why there is none."""
    waiting: deque[tuple[Row, int, Future[_Decoded | str] | _Decoded | str]] = deque()
    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4)) as pool:
        weight = 0
        for row in rows:
            bare = replace(row, content=None, pixels=None)
            own = len(row.content or b"")
            small = row.pixels is None and own < SMALL
            task = row, class_names, size, stretch
            waiting.append((bare, own, _decode_row(*task) if small else pool.submit(_decode_row, *task)))
            weight += own
            while len(waiting) > 64 or (weight > IN_FLIGHT and waiting):
                done, own, found = waiting.popleft()
                weight -= own
                yield done, found.result() if isinstance(found, Future) else found
        for done, _, found in waiting:
            yield done, found.result() if isinstance(found, Future) else found


def _decode_row(row: Row, class_names: Sequence[str], size: int, stretch: bool) -> _Decoded | str:
    try:
        _check_row(row, class_names)
        image = decode_deep(row.content or b"") if row.pixels is None else row.pixels
    except DataError as error:
        return str(error)
    height, width = image.shape
    return _Decoded(fit(image, size, stretch=stretch), (height, width), int(image.max(initial=0)))


class _Scratch(contextlib.ExitStack):
    """Pixels on disk until they are all there; in memory without a folder, or where the disk takes no more."""

    def __init__(self, folder: Path | None) -> None:
        super().__init__()
        self._memory = bytearray()  # grows in place, where a list of arrays would be held twice while it is joined
        self._file: IO[bytes] | None = None
        self._size = 0
        if folder is not None:
            with contextlib.suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - gather closes it
                self._file = self.enter_context(file)

    def write(self, pixels: bytes) -> None:
        try:
            if self._file is not None and self._file.write(pixels) == len(pixels):
                self._size += len(pixels)
                return
        except OSError:
            pass
        if self._file is not None:
            self._file.seek(0)
            self._memory += self._file.read(self._size)
            self._file = None
        self._memory += pixels

    def as_array(self, shape: tuple[int, int, int]) -> np.ndarray:
        """Return the pixels as an array that can be changed; one on disk is mapped, not read."""
        if self._file is None or not shape[0]:
            return np.frombuffer(self._memory, np.uint8).reshape(shape)
        return np.memmap(self._file, np.uint8, "r+", shape=shape)


def _slice_set(
    images: np.ndarray, rows: Sequence[Row], names: Sequence[str], class_names: Sequence[str], options: ReadOptions
) -> tuple[SliceSet, tuple[str, ...]]:
    """Return the set, its subjects named by the source or else by paths, and what a user should be told of those."""
    who, notes = find_subjects(rows, class_names, options)
    known = list(zip(rows, who, strict=True))
    slices = SliceSet.of(
        images,
        np.array([row.label for row in rows], np.int64),
        paths=names,
        parts=[row.part for row in rows],
        subjects=np.array([one.subject for one in who], str),
        sessions=np.array([row.session or one.session for row, one in known], str),
        positions=np.array([one.position if math.isnan(row.position) else row.position for row, one in known]),
        covariates=as_covariates([{**one.further, **row.covariates} for row, one in known]),
        class_names=class_names,
    )
    return slices, notes


def find_subjects(
    rows: Sequence[Row], class_names: Sequence[str], options: ReadOptions
) -> tuple[list[Identity], tuple[str, ...]]:
    """Return the subjects that the source names, else those of paths, and what a user should be told of them.

    Args:
        rows: of the whole source, as one id may be another spelling of the next.
        class_names: the classes that labels count.
        options: of which subject_pattern counts.
    """
    if any(row.subject for row in rows) and options.subject_pattern is None:
        told = unify_subjects([row.subject for row in rows])
        pairs = zip(told.subjects, told.sessions, strict=True)
        return [replace(NOBODY, subject=subject, session=session) for subject, session in pairs], told.notes
    classes = ["" if row.label is None else class_names[row.label] for row in rows]
    return identify([row.path for row in rows], options.subject_pattern, classes)


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


def unique_names(rows: list[Row]) -> list[str]:
    """Make the rows' paths unique: as they are, else all after their part, else after their file, else with the row.

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


def _depth_notes(count: int, brightest: int) -> tuple[str, ...]:
    if not count or bits_of(brightest) == 16:
        return ()
    bits = bits_of(brightest)
    return (f"{count:,} slices of 16 bits use {bits} of them, so that {2**bits - 1:,} is white",)
