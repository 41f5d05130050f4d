"""Data sets in BIDS: volumes below sub-*/[ses-*/]anat, labels and covariates in participants.tsv and sessions.tsv.

BIDS 1.10, https://bids-specification.readthedocs.io. A data set of derivatives is one of its own.
"""

import fnmatch
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mriscope.data.naming import natural, number_classes, printable, spelling_notes
from mriscope.data.nifti import is_nifti
from mriscope.data.rows import Source
from mriscope.data.scans import Scan
from mriscope.data.tables import known, read_table
from mriscope.data.volume_folders import Listing, volume_source
from mriscope.data.volumes import Cut
from mriscope.errors import DataError, suggest

LABEL_COLUMNS = ("diagnosis", "dx", "dx_group", "group", "label", "class", "cdr", "clinical_status", "condition")
"""What the column of the labels is called where nobody says, in small letters, the surest first."""
MOST_CLASSES = 20
SUFFIX = "T1w"
_SUBJECT, _SESSION = re.compile(r"sub-[a-zA-Z0-9+]+"), re.compile(r"ses-[a-zA-Z0-9+]+")

Key = tuple[str, str]
"""Subject and session; the session is "" where a table speaks of the subject alone."""


@dataclass(frozen=True)
class _Tables:
    """What the tables of a data set say, by subject and session, and the names of those tables."""

    cells: dict[Key, dict[str, str]] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    rows: dict[Key, str] = field(default_factory=dict)
    """Where each subject and session stands first, such as "row 3 of participants.tsv"."""

    def add(self, key: Key, told: dict[str, str], where: str) -> None:
        """Add what a row tells.

        Raises:
            DataError: another row tells otherwise.
        """
        cells, first = self.cells.setdefault(key, {}), self.rows.setdefault(key, where)
        if other := next((column for column, text in told.items() if cells.get(column, text) != text), None):
            raise DataError(
                f"{first} and {where} both name {' '.join(key).strip()}, with {other} {cells[other]} and "
                f"{told[other]}; keep one of them, or give each its session_id"
            )
        cells.update(told)

    def match_sessions(self, name: str, folders: Collection[Key]) -> None:
        """Give the sessions of the tables the names of their folders: 1 is ses-01 where there is no ses-1.

        Args:
            name: the source as its user wrote it.
            folders: the subject and the session of each volume.

        Raises:
            DataError: a subject has sessions in a table, and none of them is one of its folders.
        """
        for subject in sorted({subject for subject, _ in folders}):
            of_folders = sorted({session for who, session in folders if who == subject})
            by_number = {_unpadded(session): session for session in of_folders}
            of_tables = [key for key, told in self.cells.items() if key[0] == subject and key[1] and told]
            for key in of_tables:
                session = by_number.get(_unpadded(key[1]), "")
                if key[1] not in of_folders and session:
                    self.add((subject, session), self.cells.pop(key), self.rows[key])
            if of_tables and not any((subject, session) in self.cells for session in of_folders if session):
                there = ", ".join(filter(None, of_folders)) or "no folder of a session"
                raise DataError(
                    f"{name}: {self.rows[of_tables[0]]} names the session {of_tables[0][1]} of {subject}, whose "
                    f"volumes are in {there}; give both the same names"
                )

    def cell(self, subject: str, session: str, column: str) -> str:
        """Return what stands in a column for a session, else for its subject; "" where neither is known."""
        for key in ((subject, session), (subject, "")):
            if text := self.cells.get(key, {}).get(column, ""):
                return text
        return ""


def is_bids(files: Iterable[str]) -> bool:
    """Tell whether files are those of a BIDS data set: volumes below the anat folder of a subject at the top."""
    return any(scan_of(path) for path in files)


def open_bids(
    name: str, root: Path, files: Listing, cut: Cut, label_column: str | None = None, pattern: str | None = None
) -> Source:
    """Open a BIDS data set, listed but unread; every session of a subject is the same subject.

    The label of a volume is that of its session, else that of its subject.

    Args:
        name: the source as its user wrote it.
        root: its folder. Where it lacks participants.tsv, that of the data set which it is derived from serves.
        files: all files in it.
        cut: how volumes become slices.
        label_column: the column of the labels; None takes one of LABEL_COLUMNS.
        pattern: which volumes to take, such as *_desc-preproc_T1w.nii.gz; None: all of T1w.

    Raises:
        DataError: no table, no such column, volumes of which several are one scan, rows that contradict each other,
            sessions that are no folders, or fewer than two classes.
    """
    volumes = choose_volumes(name, files, pattern)
    tables = _read_tables(root, files)
    tables.match_sessions(name, {key for path in files if (key := scan_of(path))})
    column = _label_column(name, tables, label_column)
    keys = {path: key for path in volumes if (key := scan_of(path))}
    words = {path: tables.cell(*key, column) for path, key in keys.items()}
    class_names, labels = _classes(name, column, set(words.values()) - {""})
    others = [other for other in tables.columns if other != column]
    scans = []
    for path, (subject, session) in keys.items():
        named = (subject, session) in tables.cells or (subject, "") in tables.cells
        lacking = f"has no {column} in {tables.columns[column]}" if named else f"is of {subject}, which no table names"
        scans.append(
            Scan(
                path,
                {"task": "nifti", "files": [str(files[path])]},
                label=labels.get(words[path]),
                subject=subject,
                session=session,
                covariates={other: printable(tables.cell(subject, session, other)) for other in others},
                problem="" if words[path] else lacking,
            )
        )
    deciding = {**{path: files[path] for path in volumes}, **tables.files}
    notes = [] if label_column else [f"labels are the column {column} of {tables.columns[column]}"]
    notes += spelling_notes(words.values())
    return volume_source(deciding, class_names, lambda _: scans, cut, notes=notes)


def scan_of(path: str) -> Key | None:
    """Return subject and session of a volume by its folders, None where they are not those of BIDS."""
    subject, *rest = path.split("/")
    session = rest.pop(0) if len(rest) == 3 and _SESSION.fullmatch(rest[0]) else ""
    fits = len(rest) == 2 and rest[0] == "anat" and is_nifti(path) and rest[1].startswith(subject)
    return (subject, session) if fits and _SUBJECT.fullmatch(subject) else None


def choose_volumes(name: str, files: Iterable[str], pattern: str | None) -> list[str]:
    """Return the volumes that are wanted, in order; of one scan there may be only one copy."""
    all_of_them = sorted(path for path in files if scan_of(path))
    stem = pattern or f"*_{SUFFIX}.nii*"
    wanted = [path for path in all_of_them if fnmatch.fnmatchcase(path.rpartition("/")[2], stem)]
    if not wanted:
        raise DataError(
            f"{name} holds no volume in anat that is called {stem}; it has {_listed(all_of_them)}; name others with "
            "--series, such as --series '*_FLAIR.nii.gz'"
        )
    copies: dict[str, list[str]] = {}
    for path in wanted:
        scan = re.sub("_(space|desc|res|den|rec|ce)-[a-zA-Z0-9+]+", "", path.removesuffix(".gz"))
        copies.setdefault(scan, []).append(path)
    if double := next((paths for paths in copies.values() if len(paths) > 1), None):
        names = [path.rpartition("/")[2] for path in double]
        raise DataError(
            f"{name} holds one scan {len(double)} times: {_listed(names)}; choose one kind with --series, such as "
            f"--series '*{names[0].removeprefix(double[0].split('/')[0])}'"
        )
    return sorted(wanted, key=lambda path: [*map(natural, path.split("/"))])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _read_tables(root: Path, files: Listing) -> _Tables:
    """Read participants.tsv, sessions.tsv, and the sessions of each subject."""
    tables = _Tables()
    named = {path: file for path, file in files.items() if re.fullmatch(r"(participants|sessions)\.tsv", path)}
    named |= {path: file for path, file in files.items() if re.fullmatch(r"(sub-[^/]+)/\1_sessions\.tsv", path)}
    if "participants.tsv" not in named:
        for above in list(root.resolve().parents)[:2]:  # derivatives/NAME lies two folders below its data set
            if (above / "participants.tsv").is_file() and root.resolve().relative_to(above).parts[0] == "derivatives":
                named["../participants.tsv"] = above / "participants.tsv"
    for path, file in sorted(named.items()):
        tables.files[path] = file
        table = read_table(file)
        for column in table.columns:
            if column not in ("participant_id", "session_id"):
                tables.columns.setdefault(column, path)
        for number, row in enumerate(table.rows, 1):
            subject = _with_prefix("sub-", row.pop("participant_id", path.split("/")[0] if "/" in path else ""))
            session = _with_prefix("ses-", row.pop("session_id", ""))
            told = {column: text for column, text in row.items() if known(text)}
            tables.add((subject, session), told, f"row {number} of {path}")
    return tables


def _unpadded(session: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", session).lower()


def _with_prefix(prefix: str, name: str) -> str:
    return name if not name or name.startswith(prefix) else f"{prefix}{name}"


def _label_column(name: str, tables: _Tables, wanted: str | None) -> str:
    if not tables.columns:
        raise DataError(
            f"{name} has no participants.tsv or sessions.tsv with labels; add one with participant_id and diagnosis"
        )
    if wanted is not None:
        if wanted not in tables.columns:
            raise DataError(f"{name}: no table has a column {wanted!r}; {suggest(wanted, tables.columns)}")
        return wanted
    found = [column for known in LABEL_COLUMNS for column in tables.columns if column.lower() == known]
    if len(found) != 1:
        several = f"has columns that could all be labels: {', '.join(found)}" if found else "names no labels"
        raise DataError(f"{name} {several}; its tables have {', '.join(tables.columns)}; name one with --label-column")
    return found[0]


def _classes(name: str, column: str, words: set[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the names of the classes, and the label of each word in the column."""
    if not 2 <= len(words) <= MOST_CLASSES:
        raise DataError(
            f"{name}: the column {column} has {len(words)} different values among the subjects with volumes; expected "
            f"2 to {MOST_CLASSES} classes; name another with --label-column"
        )
    return number_classes(name, words)
