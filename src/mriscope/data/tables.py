"""CSV tables as spreadsheets and cohorts write them, and what their columns are called."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mriscope.data.naming import as_word
from mriscope.errors import DataError, suggest
from mriscope.files import expand_home, read_safe_cell

SUFFIXES = (".csv", ".tsv")
MAX_BYTES = 2**28
MOST_COLUMNS = 2_000
UNKNOWN_WORDS = ("", "na", "n/a", "nan", "<na>", "none", "null")
"""What stands in a cell where its value is unknown, in small letters."""
ROLES = {
    "path": ("path", "filename", "file", "filepath", "imagepath", "imagefile"),
    "image": ("image", "img", "picture", "slice"),
    "label": ("label", "labels", "class", "diagnosis", "dx"),
    "subject": ("subject", "subjectid", "patient", "patientid", "participant", "participantid"),
    "session": ("session", "sessionid", "ses", "visit"),
    "position": ("position", "sliceposition", "sliceindex", "slicenumber"),
    "part": ("part", "split"),
}
"""The columns that mean the same, as `as_word` reduces them: patient_id and PatientID are both patientid."""
_INDEX = re.compile(r"|index|unnamed:? ?\d*|__index_level_\d+__", re.IGNORECASE)
"""The names that pandas gives to its row numbers."""


@dataclass(frozen=True)
class Table:
    """A CSV file as texts.

    Args:
        path: of the file.
        columns: their names.
        rows: a mapping from each column to its cell, without the rows that are empty.
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[dict[str, str]]


class BadLineError(DataError):
    """A row of a table that has more or fewer cells than the header.

    Attributes:
        columns: the header's.
    """

    def __init__(self, columns: tuple[str, ...], text: str) -> None:
        super().__init__(text)
        self.columns = columns


def read_table(path: str | Path) -> Table:
    """Read a CSV file: commas, semicolons or tabs; UTF-8 or UTF-16, with or without a mark; blank rows are left out.

    The apostrophe that `spreadsheet_safe` puts before a text is taken off.

    Raises:
        DataError: the file cannot be read, is no table, has more than 2,000 columns, or a row has more or fewer cells
            than the header.
    """
    path = expand_home(path)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise OSError(0, "it is no ordinary file")
        if size > MAX_BYTES:
            raise OSError(0, f"it has {size // 2**20} MiB, where a table has less than {MAX_BYTES // 2**20}")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"{path} cannot be read ({reason}); name a CSV file with a header") from error
    if content.startswith(b"PK\x03\x04"):
        raise DataError(f"{path} is a spreadsheet or a zip file; save it as CSV UTF-8")
    try:
        text = content.decode(_encoding(content)).removeprefix("\ufeff")
        text, delimiter = _delimiter(text)
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except (UnicodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file in UTF-8 or UTF-16 ({error}); save it as CSV UTF-8") from error
    header, *cells = [[cell.strip() for cell in line] for line in lines if any(map(str.strip, line))] or [[]]
    if len(header) > MOST_COLUMNS:
        raise DataError(f"{path} has {len(header):,} columns, at most {MOST_COLUMNS:,} are read; keep those you need")
    columns = tuple(name for name in header if name)
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise DataError(f"{path} has two columns {twice[0]!r}; rename one")
    rows = [_row(path, number, header, line) for number, line in enumerate(cells, 1)]
    return Table(path, columns, rows)


def find_column(
    role: str, columns: Sequence[str], given: str | None, where: object, usual: Sequence[str] | None = None
) -> str | None:
    """Find the column of a role, such as subject: the one that is given, else the one of a usual name.

    Args:
        role: a key of ROLES, or another for which `usual` is given.
        columns: the names to choose from.
        given: what the user calls it; None where they do not say.
        where: the file, for messages.
        usual: what such a column is called, as `as_word` reduces it; None takes the names of ROLES.

    Raises:
        DataError: there is no such column, or several have usual names.
    """
    if given is not None:
        if given not in columns:
            raise DataError(f"{where} has no column {given!r} for the {role}; {suggest(given, columns)}")
        return given
    if role in columns:
        return role
    found = [name for name in columns if as_word(name) in (usual or ROLES[role])]
    if len(found) > 1:
        raise DataError(
            f"{where} has the columns {' and '.join(found)}, and each may be the {role}; "
            + (f"name one with --{role}-column" if role in ("image", "label", "subject", "predicted") else "rename one")
        )
    return found[0] if found else None


def column_notes(where: str, roles: Mapping[str, str | None], told: Sequence[str]) -> tuple[str, ...]:
    """Say which columns were taken for what, where a column has another name than its role.

    Example:
        >>> column_notes("x.csv", {"subject": "PatientID", "label": "label"}, ("subject", "label"))
        ('x.csv: the column PatientID is taken as the subject',)
    """
    taken = [f"the column {roles[role]} is taken as the {role}" for role in told if roles.get(role) not in (None, role)]
    return (f"{where}: {', '.join(taken)}",) if taken else ()


def is_index(column: str) -> bool:
    """Tell whether a column is called as pandas calls its row numbers."""
    return bool(_INDEX.fullmatch(column))


def known(cell: str | None) -> str:
    """Return a cell's text, "" where it says that its value is unknown.

    Example:
        >>> known(" sub-001 "), known("n/a"), known(None)
        ('sub-001', '', '')
    """
    text = (cell or "").strip()
    return "" if text.lower() in UNKNOWN_WORDS else text


def position_of(text: str) -> float | None:
    """Return the number in a cell, nan where it is unknown; None where it is no number."""
    if not known(text):
        return float("nan")
    decimal = text.strip().replace(",", ".")
    return float(decimal) if re.fullmatch(r"[-+]?(\d{1,18}(\.\d*)?|\.\d+)([eE][-+]?\d{1,2})?", decimal) else None


def _encoding(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    head = content[:64]
    if b"\0" in head:  # UTF-16 without a mark: the letters of a header are ASCII, each beside a zero
        return "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
    return "utf-8"


def _delimiter(text: str) -> tuple[str, str]:
    """Return a table's text, without the line in which Excel names the delimiter, and its delimiter."""
    if named := re.match(r"sep=([;,\t|])\r?\n", text):
        return text[named.end() :], named[1]
    header = next((line for line in text.splitlines() if line.strip(" ,;\t|")), "")
    outside = re.sub(r'"[^"]*"', "", header)
    return text, max(",;\t|", key=outside.count)


def _row(path: Path, number: int, header: Sequence[str], line: Sequence[str]) -> dict[str, str]:
    columns = tuple(name for name in header if name)
    if any(line[len(header) :]):
        raise BadLineError(
            columns,
            f"row {number} of {path} has {len(line)} cells where the header has {len(header)}; "
            "put a cell that holds the delimiter in quotes",
        )
    if any(header[len(line) :]):
        raise BadLineError(
            columns,
            f"row {number} of {path} has {len(line)} cells where the header has {len(header)}; it lacks "
            f"{', '.join(filter(None, header[len(line) :]))}, so give it an empty cell where a value is unknown",
        )
    padded = [*line, *[""] * (len(header) - len(line))]
    return {name: read_safe_cell(cell) for name, cell in zip(header, padded, strict=False) if name}
