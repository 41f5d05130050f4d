"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_UNFINISHED = ".unfinished"


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write a file whole or not at all: a reader finds the old one or the new one, also after a kill or a power cut.

    Args:
        path: the file to make or to replace; folders above it are made.

    Yields:
        A path beside it to write to. It takes the place of `path` when the block ends, and goes when it fails.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}{_UNFINISHED}")
    try:
        yield draft
        _flush_to_disk(draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Put a text into a file, whole or not at all."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def remove_unfinished(folder: Path) -> None:
    """Remove what writers that were killed left in a folder."""
    for draft in folder.glob(f".*{_UNFINISHED}"):
        draft.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
