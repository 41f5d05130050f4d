"""What a CSV file tells of slices: subjects, sessions, positions and covariates, by path or by subject."""

import csv
import io
import logging
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mriscope.data.rows import as_covariates
from mriscope.data.slices import SliceSet
from mriscope.data.subject_ids import fold, split_session, unify_subjects
from mriscope.data.tables import ROLES, Table, find_column, is_index, known, position_of, read_table
from mriscope.errors import DataError, suggest
from mriscope.files import spreadsheet_safe

COLUMNS = ("path", "part", "label", "subject", "position")
"""What `mriscope audit` writes to slices.csv, and session where one is known."""

Rows = Sequence[Mapping[str, str]]
LOG = logging.getLogger("mriscope")


def with_manifest(slices: SliceSet, manifest: str | Path, passed_over: Collection[str] = ()) -> SliceSet:
    """Return the slices with what a CSV file tells of them, by their paths or, without a column path, their subjects.

    Args:
        slices: what a source holds; its fingerprint stays.
        manifest: a table as `read_table` takes it. path names every slice, or subject (also patient_id and the like)
            every row's subject. Any text is a subject; nothing, n/a, nan or -1 is an unknown one, and slices of
            unknown subject stay so beside known ones. position is a number, label the name of a class, which is
            checked, and part is not read. Each other column becomes a covariate.
        passed_over: paths that the file may name though there is no such slice, as its row was unusable.

    Raises:
        DataError: the file cannot be read, lacks a column, or does not name each slice once, with its own label.
    """
    table = read_table(manifest)
    columns = {role: find_column(role, table.columns, None, manifest) for role in ROLES}
    if columns["path"] is None and columns["subject"] is not None:
        return _by_subject(slices, table, columns)
    table, endings = _unify(table, columns["subject"], columns["path"])
    if columns["path"] is not None and {*table.columns} <= {columns["path"], columns["label"], columns["part"]}:
        raise _lacks(table, "subject")
    rows = _rows_by_path(slices.paths.tolist(), table, columns["path"], "the source's", passed_over)
    _check_labels([slices.class_names[label] for label in slices.labels], rows, columns, manifest)
    subjects = slices.subject_names if columns["subject"] is None else _subjects(rows, columns["subject"])
    positions = (
        slices.positions
        if columns["position"] is None
        else _positions(rows, columns["position"], str(columns["path"]), manifest)
    )
    sessions = None if columns["session"] is None else _texts(rows, columns["session"])
    if sessions is None and any(endings.values()):
        sessions = np.array([endings[row[str(columns["path"])]] for row in rows], str)
    return slices.with_subjects(subjects, positions, sessions=sessions, covariates=_covariates(table, rows, columns))


def names_subjects(manifest: str | Path) -> bool:
    """Tell whether a CSV file names subjects by path; it may tell nothing but covariates.

    Raises:
        DataError: the file cannot be read.
    """
    columns = read_table(manifest).columns
    return all(find_column(role, columns, None, manifest) for role in ("path", "subject"))


def subjects_of(paths: Sequence[str], labels: Sequence[str], manifest: str | Path) -> np.ndarray:
    """Return the subjects that a CSV file gives to slices of a run, whatever others it names.

    Args:
        paths: of the slices.
        labels: the class of each, or nothing where it is not to be checked.
        manifest: as with_manifest takes it, with path and subject.

    Returns:
        str (N,), what each subject is called; "" where the file leaves it unknown.

    Raises:
        DataError: the file cannot be read, lacks a column or a slice, or gives one another label.
    """
    table = read_table(manifest)
    columns = {role: find_column(role, table.columns, None, manifest) for role in ("path", "label", "subject")}
    if columns["subject"] is None:
        raise _lacks(table, "subject")
    table, _ = _unify(table, columns["subject"])
    rows = _rows_by_path(paths, table, columns["path"], "the run's", None)
    _check_labels(labels, rows, columns, manifest)
    return _subjects(rows, columns["subject"])


def manifest_csv(slices: SliceSet, parts: Mapping[str, np.ndarray]) -> str:
    """Format slices as a manifest: path, part, label, subject, position, covariates; empty where unknown.

    Args:
        slices: the set.
        parts: the rows of each part.
    """
    part_of = np.full(len(slices), "", "U10")
    for name, rows in parts.items():
        part_of[rows] = name
    subjects = slices.subject_names.tolist()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    covariates = {name: values for name, values in slices.covariates.items() if name not in COLUMNS}
    writer.writerow((*COLUMNS, *map(spreadsheet_safe, covariates)))
    for row, path in enumerate(slices.paths):
        position = "" if np.isnan(slices.positions[row]) else f"{slices.positions[row]:.10g}"
        names = (path, part_of[row], slices.class_names[slices.labels[row]], subjects[row])
        further = [_cell(values[row]) for values in covariates.values()]
        writer.writerow((*map(spreadsheet_safe, names), position, *further))
    return text.getvalue()


def match_paths(paths: Sequence[str], known_paths: Sequence[str], where: object) -> np.ndarray:
    """Return the row of each path among those of a source.

    Paths are compared whole; where not all are found so, without as many folders before them as it takes, on the
    table's side or on the source's, down to the names of files; then each has to be found once.

    Args:
        paths: of a table.
        known_paths: of the slices of a source.
        where: the table, for messages.

    Returns:
        int64 (N,).

    Raises:
        DataError: a path is not found, or several slices have its name.

    Example:
        >>> match_paths(["/data/AD/1.png", "/data/CN/1.png"], ["CN/1.png", "AD/1.png"], "x.csv").tolist()
        [1, 0]
    """
    mine, theirs = ([_pieces(path) for path in some] for some in (paths, known_paths))
    if not any("." in one[-1] for one in mine if one):  # identifiers of images, which tables give without ".png"
        theirs = [(*one[:-1], one[-1].partition(".")[0]) for one in theirs]
    for kept in range(max(map(len, [*mine, *theirs]), default=1), 0, -1):
        row_of: dict[tuple[str, ...], int] = {}
        twice = set()
        for row, pieces in enumerate(theirs):
            if row_of.setdefault(pieces[-kept:], row) != row:
                twice.add(pieces[-kept:])
        ends = [pieces[-kept:] for pieces in mine]
        if all(end in row_of and end not in twice for end in ends) and len({*ends}) == len(ends):
            return np.array([row_of[end] for end in ends], np.int64)
    times = Counter(one[-1:] for one in theirs)
    absent = [path for path, pieces in zip(paths, mine, strict=True) if pieces[-1:] not in times]
    if not absent:
        path = next((one for one, pieces in zip(paths, mine, strict=True) if times[pieces[-1:]] > 1), paths[0])
        raise DataError(
            f"{where} names {path!r}, and the source has several of this name, or the table names one slice twice; "
            f"name the folders that tell them apart, as in {known_paths[0]!r}"
        )
    hint = suggest(absent[0], known_paths)
    if not hint.startswith("did you mean"):
        hint = f"its first is {known_paths[0]!r}"
    raise DataError(f"{where} names {absent[0]!r}, and the source has no slice of this name; {hint}")


def _pieces(path: str) -> tuple[str, ...]:
    return tuple(piece for piece in plain_path(path).split("/") if piece not in ("", "."))


def _unify(table: Table, column: str | None, path: str | None = None) -> tuple[Table, dict[str, str]]:
    """Return the table with one spelling of each subject, and the session that its id ends with, by path."""
    if column is None:
        return table, {}
    told = unify_subjects([known(row[column]) for row in table.rows])
    for note in told.notes:
        LOG.warning("%s: %s", table.path, note)
    rows = [{**row, column: subject} for row, subject in zip(table.rows, told.subjects, strict=True)]
    endings = zip(table.rows, told.sessions, strict=True)
    return replace(table, rows=rows), {} if path is None else {row[path]: when for row, when in endings}


def _cell(value: float | str) -> str:
    if isinstance(value, str):
        return str(spreadsheet_safe(value))
    return "" if np.isnan(value) else f"{value:.10g}"


def _lacks(table: Table, column: str) -> DataError:
    found = f"has the columns {', '.join(table.columns)}" if table.columns else "is empty"
    return DataError(
        f"{table.path} {found}, without {column}; expected path or subject, and what is known of each: subject, "
        "session, position and covariates such as age"
    )


def _rows_by_path(
    paths: Sequence[str], table: Table, column: str | None, whose: str, passed_over: Collection[str] | None
) -> Rows:
    """Return the row of each path; with `passed_over` given, the table may name no other path than those.

    A path is found whatever its slashes and the composition of its accents.
    """
    if column is None:
        raise _lacks(table, "path")
    row_of: dict[str, int] = {}
    for number, row in enumerate(table.rows):
        first = row_of.setdefault(row[column], number)
        if first != number:
            raise DataError(f"{table.path} names {row[column]!r} twice, in rows {first + 1} and {number + 1}; keep one")
    by_form = {plain_path(path): number for path, number in row_of.items()}
    found = [row_of.get(path, by_form.get(plain_path(path))) for path in paths]
    if passed_over is not None:
        own = {plain_path(path) for path in (*paths, *passed_over)}
        _check_known(paths, [path for path in row_of if plain_path(path) not in own], table)
    if missing := [path for path, number in zip(paths, found, strict=True) if number is None]:
        raise DataError(
            f"{table.path} lacks {len(missing):,} of {whose} {len(paths):,} slices, first {missing[0]!r}; "
            "give each a row, with an empty subject where it is unknown"
        )
    return [table.rows[number] for number in found if number is not None]


def plain_path(path: str) -> str:
    r"""Return a path in the form in which its spellings are equal: slashes, composed accents, no ./ before it.

    Example:
        >>> plain_path(r".\CN\1.png")
        'CN/1.png'
    """
    return unicodedata.normalize("NFC", path.replace("\\", "/").removeprefix("./"))


def _check_known(paths: Sequence[str], strangers: Sequence[str], table: Table) -> None:
    if strangers:
        near = suggest(strangers[0], paths) if paths else "the source is empty"
        hint = f"; {near}" if near.startswith("did you mean") else ""
        raise DataError(
            f"{table.path} names {len(strangers):,} of {len(table.rows):,} slices that the source lacks, first "
            f"{strangers[0]!r}; its paths are those that `mriscope audit` writes to slices.csv, such as "
            f"{paths[0]!r}{hint}"
        )


def _check_labels(labels: Sequence[str], rows: Rows, columns: Mapping[str, str | None], manifest: str | Path) -> None:
    label, path = columns["label"], columns["path"]
    for row, own in zip(rows, labels, strict=False):
        if label is not None and row[label].casefold() not in ("", own.casefold()):
            raise DataError(
                f"{manifest} calls {row[path or label]!r} {row[label]} where the source says {own}; "
                "correct the file, or leave its label column out"
            )


def _subjects(rows: Rows, column: str) -> np.ndarray:
    """Return what subjects are called; -1 is an unknown one, as earlier versions wrote it."""
    return np.array(["" if name == "-1" else name for name in _texts(rows, column).tolist()], str)


def _texts(rows: Rows, column: str) -> np.ndarray:
    return np.array([known(row[column]) for row in rows], str)


def _positions(rows: Rows, column: str, path: str, manifest: str | Path) -> np.ndarray:
    numbers = [position_of(row[column]) for row in rows]
    if None in numbers:
        odd = rows[numbers.index(None)]
        raise DataError(
            f"{manifest} gives {odd[path]!r} the position {odd[column]!r}; expected a number, an index "
            "or millimetres from inferior to superior, or nothing where it is unknown"
        )
    values = np.array(numbers, np.float64)
    indices = (values[~np.isnan(values)] == np.floor(values[~np.isnan(values)])).all() and not (values < -1).any()
    return np.where(values == -1, np.nan, values) if indices else values  # an index of -1 is an unknown one


def _covariates(table: Table, rows: Rows, columns: Mapping[str, str | None]) -> dict[str, np.ndarray]:
    names = [name for name in table.columns if name not in columns.values() and not is_index(name)]
    return as_covariates([{name: known(row[name]) for name in names} for row in rows])


def _by_subject(slices: SliceSet, table: Table, columns: Mapping[str, str | None]) -> SliceSet:
    """Give every slice the covariates of its subject, or of its subject's session where the table has one."""
    subject, session = str(columns["subject"]), columns["session"]
    if not slices.n_subjects:
        raise DataError(
            f"{table.path} goes by {subject}, and no subject of the source is known; give a column path too, or name "
            "the subjects in the source, as with --subject-pattern"
        )
    row_of: dict[tuple[str, str], int] = {}
    by_session = bool(session)
    for number, row in enumerate(table.rows):
        who, ending = split_session(row[subject])
        key = (fold(who), known(row[session]) if session else ending)
        by_session = by_session or bool(key[1])
        if (first := row_of.setdefault(key, number)) != number:
            raise DataError(
                f"{table.path} names {row[subject]!r} twice, in rows {first + 1} and {number + 1}; keep one, or add a "
                "session"
            )
    keys = zip(slices.subject_names.tolist(), slices.sessions.tolist(), strict=True)
    nothing = dict.fromkeys(table.columns, "")
    found = [row_of.get((fold(who), when if by_session else "")) for who, when in keys]
    if all(number is None for number in found):
        mine = next(name for name in slices.subject_names.tolist() if name)
        raise DataError(
            f"{table.path} names none of the source's {slices.n_subjects:,} subjects, such as {mine!r}; its first is "
            f"{table.rows[0][subject] if table.rows else ''!r}"
        )
    rows = [nothing if number is None else table.rows[number] for number in found]
    labels = [slices.class_names[label] for label in slices.labels]
    _check_labels(labels, rows, {**columns, "path": subject}, table.path)
    covariates = _covariates(table, rows, columns)
    return slices.with_subjects(slices.subject_names, slices.positions, covariates=covariates)
