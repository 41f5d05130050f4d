"""Files that are there whole or not at all, and cells of CSV files that no spreadsheet takes for formulas."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mriscope.errors import WriteError

_UNFINISHED = ".unfinished"
_FORMULA = r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write a file whole or not at all: a reader finds the old one or the new one, also after a kill or a power cut.

    Args:
        path: the file to make or to replace; folders above it are made.

    Yields:
        A path beside it to write to. It takes the place of `path` when the block ends, and goes when it fails.

    Raises:
        WriteError: the system refuses to write there.
    """
    target = Path(path)
    draft = target.with_name(f".{target.name}.{os.getpid()}{_UNFINISHED}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        _flush_to_disk(draft)
        draft.replace(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise WriteError(f"{path} cannot be written ({reason}); make room there or name another folder") from error
    finally:
        with suppress(OSError):  # a folder that could not be made holds no draft either
            draft.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Put bytes into a file, whole or not at all, as `replacing` does."""
    with replacing(path) as draft:
        draft.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Put a text into a file, whole or not at all, as `replacing` does."""
    write_bytes(path, text.encode())


def spreadsheet_safe(cell: Any) -> Any:
    """Return a cell of a CSV file such that a spreadsheet takes no text for a formula.

    A text that begins with =, +, -, @ (also in full width), a tab or a line end gets an apostrophe before it (OWASP,
    "CSV injection"). So does one that begins so after apostrophes of its own, so that `read_safe_cell` gives every text
    back. Numbers stay as they are.

    Example:
        >>> spreadsheet_safe("=1+1.png"), spreadsheet_safe("a.png"), spreadsheet_safe(-0.5)
        ("'=1+1.png", 'a.png', -0.5)
    """
    return f"'{cell}" if isinstance(cell, str) and re.match(f"'*{_FORMULA}", cell) else cell


def read_safe_cell(text: str) -> str:
    """Return the text that `spreadsheet_safe` made a cell of; any other text stays as it is.

    Example:
        >>> read_safe_cell("'=1+1.png"), read_safe_cell("'a.png")
        ('=1+1.png', "'a.png")
    """
    return text[1:] if re.match(f"'+{_FORMULA}", text) else text


def remove_unfinished(folder: Path) -> None:
    """Remove what writers that were killed left in a folder."""
    for draft in folder.glob(f".*{_UNFINISHED}"):
        draft.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
