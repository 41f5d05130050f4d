"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mriscope.errors import WriteError

_UNFINISHED = ".unfinished"


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


def remove_unfinished(folder: Path) -> None:
    """Remove what writers that were killed left in a folder."""
    for draft in folder.glob(f".*{_UNFINISHED}"):
        draft.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
