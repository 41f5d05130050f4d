"""Subjects from a CSV file, for sources that name none."""

import csv
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from mriscope.data.slices import SliceSet
from mriscope.errors import DataError, suggest
from mriscope.files import read_safe_cell

COLUMNS = ("path", "part", "label", "subject", "position")
"""What `mriscope audit` writes to slices.csv; path and subject are needed, part is not read."""
UNKNOWN_WORDS = ("", "-1", "na", "n/a", "nan", "<na>", "none", "null")
"""What stands in a cell where its value is unknown, in small letters."""

Table = Sequence[dict[str, str]]


def with_manifest(slices: SliceSet, manifest: str | Path, passed_over: Collection[str] = ()) -> SliceSet:
    """The slices with the subjects and positions that a CSV file gives them by their paths.

    Args:
        slices: what a source holds; its fingerprint stays.
        manifest: UTF-8, with a header. path and subject are needed; subject and position are whole numbers from 0, and
            -1 or nothing where unknown; label is the name of a class, and checked. Other columns are passed over. The
            apostrophe that `spreadsheet_safe` puts before a path or class is taken off.
        passed_over: paths that the file may name though there is no such slice, as its row was unusable.

    Raises:
        DataError: the file cannot be read, lacks a column, or does not name each slice once, with its own label.
    """
    table = _read(Path(manifest).expanduser())
    line_of, paths = _lines_by_path(table, manifest), slices.paths.tolist()
    _check_known(paths, line_of, passed_over, manifest)
    _check_named(paths, line_of, manifest, "the source's")
    lines = [line_of[path] for path in paths]
    _check_labels([slices.class_names[label] for label in slices.labels], table, lines, manifest)
    return slices.with_subjects(_subjects(table, lines), _positions(table, lines, manifest))


def subjects_of(paths: Sequence[str], labels: Sequence[str], manifest: str | Path) -> np.ndarray:
    """The subjects that a CSV file gives to slices of a run, whatever others it names.

    Args:
        paths: of the slices.
        labels: the class of each, or nothing where it is not to be checked.
        manifest: as with_manifest takes it.

    Returns:
        str (N,), what each subject is called; "" where the file leaves it unknown.

    Raises:
        DataError: the file cannot be read, lacks a column or a slice, or gives one another label.
    """
    table = _read(Path(manifest).expanduser())
    line_of = _lines_by_path(table, manifest)
    _check_named(paths, line_of, manifest, "the run's")
    lines = [line_of[path] for path in paths]
    _check_labels(labels, table, lines, manifest)
    return _subjects(table, lines)


def _read(path: Path) -> Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            names = list(reader.fieldnames or ())
            table = [_without_apostrophes(row) for row in reader]
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name a CSV file of paths and subjects") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file in UTF-8 ({error}); expected the columns path and subject") from error
    for needed in ("path", "subject"):
        if needed not in names:
            found = f"has the columns {', '.join(names)}" if names else "is empty"
            raise DataError(f"{path} {found}, without {needed}; expected path and subject, and position where known")
    return table


def _without_apostrophes(row: dict[str, str]) -> dict[str, str]:
    return {**row, **{name: read_safe_cell(row[name]) for name in ("path", "label") if name in row}}


def _lines_by_path(table: Table, manifest: str | Path) -> dict[str, int]:
    line_of: dict[str, int] = {}
    for line, row in enumerate(table):
        first = line_of.setdefault(row["path"], line)
        if first != line:
            raise DataError(f"{manifest} names {row['path']!r} twice, in rows {first + 1} and {line + 1}; keep one")
    return line_of


def _check_known(paths: Sequence[str], line_of: dict[str, int], passed_over: Collection[str], where: object) -> None:
    known = {*paths, *passed_over}
    if unknown := [path for path in line_of if path not in known]:
        near = suggest(unknown[0], paths) if paths else "the source is empty"
        hint = f"; {near}" if near.startswith("did you mean") else ""
        raise DataError(
            f"{where} names {len(unknown):,} of {len(line_of):,} slices that the source lacks, first {unknown[0]!r}; "
            f"its paths are those that `mriscope audit` writes to slices.csv, such as {paths[0]!r}{hint}"
        )


def _check_named(paths: Sequence[str], line_of: dict[str, int], where: object, whose: str) -> None:
    if missing := [path for path in paths if path not in line_of]:
        raise DataError(
            f"{where} lacks {len(missing):,} of {whose} {len(paths):,} slices, first {missing[0]!r}; "
            "give each a row, with an empty subject where it is unknown"
        )


def _check_labels(labels: Sequence[str], table: Table, lines: Sequence[int], manifest: str | Path) -> None:
    for line, own in zip(lines, labels, strict=False):
        named, path = table[line].get("label", ""), table[line]["path"]
        if named not in ("", own):
            raise DataError(
                f"{manifest} calls {path!r} {named} where the source says {own}; "
                "correct the file, or leave its label column out"
            )


def _subjects(table: Table, lines: Sequence[int]) -> np.ndarray:
    """Return what the subjects are called; "" where unknown."""
    texts = [(table[line].get("subject") or "").strip() for line in lines]
    return np.array(["" if text.lower() in UNKNOWN_WORDS else text for text in texts], str)


def _positions(table: Table, lines: Sequence[int], manifest: str | Path) -> np.ndarray:
    values = np.full(len(lines), np.nan)
    for row, line in enumerate(lines):
        text = (table[line].get("position") or "").strip()
        if text.lower() in UNKNOWN_WORDS:
            continue
        try:
            values[row] = float(text)
        except ValueError:
            values[row] = np.inf
        if not np.isfinite(values[row]):
            raise DataError(
                f"row {line + 1} of {manifest} has the position {text!r}; expected a number, an index or millimetres "
                "from inferior to superior, or nothing where it is unknown"
            )
    return values
