"""Sets that are written in several files: shards that are missing, and files that are copies of others."""

import filecmp
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from mriscope.errors import DataError

MOST_SHARDS = 100_000
_SHARD = re.compile(r"(?P<before>.*-)(?P<number>\d{1,6})-of-(?P<total>\d{1,6})(?P<after>.*)")
_COPY = re.compile(r" ?\(\d+\)$|( - |[ _])copy( ?\(?\d+\)?)?$", re.IGNORECASE)


def check_copies(name: str, names: Mapping[Path, Path]) -> None:
    """Refuse a file that a browser or a file manager named as the copy of another, and that is one.

    Args:
        name: the source as its user wrote it.
        names: the path of each file, and its path in the source.

    Raises:
        DataError: a copy lies beside its origin.
    """
    for path, file in names.items():
        origin = path.with_name(_COPY.sub("", path.stem) + path.suffix)
        if origin != path and origin in names and filecmp.cmp(path, origin, shallow=False):
            raise DataError(f"{name}: {file.as_posix()} is a copy of {origin.name}; move it away")


def missing_shards(files: Iterable[str]) -> tuple[str, ...]:
    """Say which shards are not there, of those that names such as train-00000-of-00003 count.

    Example:
        >>> missing_shards(["train-00000-of-00002.parquet"])[0][:19]
        'shards are missing,'
    """
    found: dict[tuple[str, str, str], set[int]] = {}
    for file in files:
        if shard := _SHARD.fullmatch(file):
            found.setdefault((shard["before"], shard["total"], shard["after"]), set()).add(int(shard["number"]))
    missing = [
        f"{before}{number:0{len(total)}d}-of-{total}{after}"
        for (before, total, after), numbers in found.items()
        for number in range(min(int(total), MOST_SHARDS))
        if number not in numbers
    ]
    if not missing:
        return ()
    more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
    return (f"shards are missing, and the set is read without them: {', '.join(missing[:4])}{more}; download them",)
