"""The files of a folder, and a stamp that changes when any of them does."""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from mriscope.errors import DataError

PASSED_OVER = ("thumbs.db", "desktop.ini", "__macosx")
"""What file managers leave behind; it is passed over, as is every name that begins with a dot."""
SETTLED = 2.0  # seconds after which a file that changes again has another time, on every file system


def walk(name: str, root: Path) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """List every file below a folder, and whatever else is no folder. Links to folders are not followed.

    Args:
        name: the source as its user wrote it, for messages.
        root: the folder.

    Yields:
        the path within the folder, with slashes, and the entry.

    Raises:
        DataError: a folder cannot be listed.
    """
    waiting = [("", str(root))]
    while waiting:
        above, folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                found = [(entry, entry.is_dir(follow_symlinks=False)) for entry in entries]
        except OSError as error:
            raise DataError(f"{name}: {error.filename} cannot be listed ({error.strerror}); allow it to be") from error
        for entry, is_folder in found:
            if entry.name.startswith(".") or entry.name.lower() in PASSED_OVER:
                continue
            if is_folder:
                waiting.append((f"{above}{entry.name}/", entry.path))
            else:
                yield above + entry.name, entry


def stamp(name: str, path: Path) -> str | None:
    """Return a digest of the names, sizes and times of a file, or of all files of a folder.

    It is the same as long as nothing was written there, and costs no reading.

    Returns:
        hexadecimal digits; None where a file was changed within the last two seconds, so that a change to come might
        not show, or cannot be looked at.
    """
    latest = (time.time() - SETTLED) * 1e9
    try:
        told = [("", path.stat())] if path.is_file() else [(at, entry.stat()) for at, entry in walk(name, path)]
    except OSError:
        return None
    marks = sorted((at, one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino) for at, one in told)
    if any(modified > latest or changed > latest for _, _, modified, changed, _ in marks):
        return None
    return hashlib.sha256(repr(marks).encode("utf-8", "surrogateescape")).hexdigest()


def find_paths(path: Path) -> list[Path]:
    """Return the path where it exists, else what it fits as a pattern with * or ?, in order; none where neither is."""
    if path.exists():
        return [path]
    if not any(sign in str(path) for sign in "*?["):
        return []
    try:
        return sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))
    except ValueError:  # ** beside other signs, or a NUL within
        return []


def kind_of(path: Path) -> Literal["file", "folder", "other", "nothing"]:
    """Tell what is at a path; nothing also where no file can have the name."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return "nothing"
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def problem_of(path: Path, largest: int) -> str:
    """Return why a file cannot be read as an ordinary one of at most so many bytes, or "".

    Named pipes and devices, which may never end or never answer, are told without being opened.
    """
    try:
        found = path.stat()
    except ValueError:  # a NUL within
        return "has a name that no file can have"
    except OSError as error:
        leads_nowhere = error.errno in (errno.ENOENT, errno.ELOOP) and path.is_symlink()
        return "is a link that leads to no file" if leads_nowhere else f"cannot be read ({error.strerror})"
    if not stat.S_ISREG(found.st_mode):
        return "is no ordinary file"
    if found.st_size > largest:
        return f"has {found.st_size // 2**20} MiB, where a slice has less than {largest // 2**20}"
    return ""
