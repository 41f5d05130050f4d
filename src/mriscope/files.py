"""Files: written whole or not at all, read only where they are regular files, named and shown without surprises."""

import errno
import hashlib
import os
import re
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mriscope.errors import WriteError

_UNFINISHED = ".unfinished"
_LONGEST_DRAFT = 200  # bytes of a name that gets more around it; file systems take 255
_LONGEST_STEM = 80  # characters of a name within the name of a picture
_MOST_BYTES = 1 << 30  # of a file that is read as a whole
_HIDDEN = re.compile(
    "[\0-\b\v-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"  # control characters, and what is no character
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # marks that turn the direction of writing
)
_FORMULA = r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"


@contextmanager
def replacing(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """Write a file whole or not at all: a reader finds the old one or the new one, also after a kill or a power cut.

    Args:
        path: the file to make or to replace; folders above it are made.
        durable: wait until the disk has it, which takes milliseconds; without it a power cut may leave a damaged file.

    Yields:
        A path beside it to write to. It takes the place of `path` when the block ends, and goes when it fails.

    Raises:
        WriteError: the system refuses to write there.
    """
    target = Path(path)
    name = target.name
    if len(os.fsencode(name)) > _LONGEST_DRAFT:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    draft = target.with_name(f".{name}.{os.getpid()}{_UNFINISHED}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        if durable:
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
    """Put a text into a file as UTF-8, whole or not at all, as `replacing` does.

    Bytes of a file's name that are no UTF-8, which Python keeps as lone surrogates, become U+FFFD.
    """
    write_bytes(path, text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode())


def expand_home(path: str | Path) -> Path:
    """Return a path in which ~ is the user's home; ~name stays as it is where nobody of that name is known.

    Example:
        >>> expand_home("~no-such-user/x.csv").parts
        ('~no-such-user', 'x.csv')
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises RuntimeError there


def read_file(path: str | Path, most: int = _MOST_BYTES) -> bytes:
    """Read a regular file as a whole.

    Args:
        path: the file; ~ stands for the user's home.
        most: bytes it may have.

    Raises:
        OSError: as `check_file`.
    """
    return check_file(path, most).read_bytes()


def check_file(path: str | Path, most: int | None = None) -> Path:
    """Return the path of a regular file; a pipe or a device, which may never end, is refused at once.

    Args:
        path: the file; ~ stands for the user's home.
        most: bytes it may have; None for any number.

    Raises:
        OSError: it is not there, is no regular file, or is larger; `strerror` says which.
    """
    try:
        place = expand_home(path)
        found = place.stat()
    except ValueError as error:  # a NUL within
        raise OSError(errno.EINVAL, f"its name cannot be used: {error}", str(path)) from error
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device; give a file", str(path))
    if most is not None and found.st_size > most:
        raise OSError(errno.EFBIG, f"it has {found.st_size:,} bytes, at most {most:,} are read", str(path))
    return place


def check_archive(path: Path) -> None:
    """Refuse a zip archive that unpacks to more than it has: torch.save stores its tensors as they are.

    Raises:
        OSError: it is no regular file.
        ValueError: its entries are compressed, or together larger than the file.
    """
    size = check_file(path).stat().st_size
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise ValueError(f"it is a damaged archive: {error}") from error
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("it is a compressed archive, which torch.save never writes")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("its entries are together larger than the file")


def file_stem(path: str | Path) -> str:
    """Return a file's name without its ending as part of a new name: short, and of characters that file systems take.

    Example:
        >>> file_stem("scans/brain 1.png"), file_stem("a:b.png")
        ('brain 1', 'a_b')
    """
    stem = re.sub(r'[<>:"/\\|?*]', "_", Path(str(path).replace("\0", "_")).stem)
    return "".join(one if one.isprintable() else "_" for one in stem)[:_LONGEST_STEM].strip(". ") or "_"


def visible(text: str) -> str:
    r"""Return a text such that a terminal or a page shows all of it: control characters become escapes.

    Escape sequences, marks that turn the direction of writing, and bytes that are no UTF-8 are shown as the escapes of
    JSON, so that JSON stays what it was; line ends and tabs stay.

    Example:
        >>> print(visible("scan\x1b[31m.png"))
        scan\u001b[31m.png
    """
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


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
        if is_unfinished(draft.name):
            draft.unlink(missing_ok=True)


def is_unfinished(name: str) -> bool:
    """Return whether a file's name is that of a draft of `replacing`, which a writer that was killed leaves behind."""
    return re.fullmatch(rf"\..+\.[0-9]+{re.escape(_UNFINISHED)}", name, re.DOTALL) is not None


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
