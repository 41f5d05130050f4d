"""Decoded slice sets as memory-mapped uint8 on disk, keyed by their source's content.

An entry is a folder named by its key: one .npy file per column and entry.json, which records the size and SHA-256 of
each. An entry appears by one rename, so it is whole or absent; one that was changed since is noticed and built anew.
What is found out about a set, such as its subjects, is kept beside the entries as small .npz files.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from mriscope.data.rows import Reading
from mriscope.data.slices import COLUMNS, SliceSet
from mriscope.errors import BadRow, DataError, WriteError
from mriscope.files import replacing, write_text

LOG = logging.getLogger("mriscope")

FORMAT = 5
"""Goes up with changes of the entries, or of how pixels and subjects are made; entries of others are never opened."""
VARIABLE = "MRISCOPE_CACHE"

_UNUSABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, DataError)
_WORK = ".building-"
_STALE = 24 * 3600  # seconds after which a folder that was being built belongs to a process that is gone


def cache_folder() -> Path:
    """Return the folder of the entries: below the one named by MRISCOPE_CACHE, else below the user's cache folder."""
    return Path(os.environ.get(VARIABLE) or platformdirs.user_cache_dir("mriscope", appauthor=False)) / "slices"


def content_key(files: Mapping[str, Path | str], **options: object) -> str:
    """Compute SHA-256 over names and content of files, over options and over FORMAT; where the files lie plays no part.

    Args:
        files: by their names; a text stands for a file that will not be read.
        options: whatever else decides the pixels; values that JSON can hold.
    """
    content = [[name, file if isinstance(file, str) else _file_digest(file)] for name, file in files.items()]
    return _digest([FORMAT, options, content])


def cached(
    key_of: Callable[[], str],
    build: Callable[[], Reading],
    stamp: str | None = None,
    covers: Callable[[], bool] = lambda: True,
) -> Reading:
    """Return the reading that is kept under a key, or else the one that is built, and kept from now on.

    A cache that cannot be written costs one logged warning, not the reading.

    Args:
        key_of: computes the key; called again after building, so that a source which changed meanwhile is not kept.
        build: reads the source.
        stamp: a digest that is the same as long as key_of gives the same, and is found without reading the source;
            None where there is none. Neither the source nor an entry that nobody wrote to since is read again.
        covers: tells, once the source is open, whether the stamp tells of all its files.

    Returns:
        the reading, its images memory-mapped and read-only wherever the cache could be used.
    """
    if stamp is not None and (kept := _load_stamped(stamp)):
        return kept
    key = key_of()
    if kept := _load(key):
        _keep_stamp(stamp if covers() else None, key)
        return kept
    if os.path.lexists(cache_folder() / key):
        LOG.warning("%s was damaged or changed; its source is decoded anew", cache_folder() / key)
    built = build()
    refused = any(row.reason.startswith("cannot be read") for row in built.bad)  # which may pass: the key is of content
    if not len(built.slices) or refused or key_of() != key:
        return built
    try:
        _store(key, built)
    except OSError as error:
        LOG.warning("%s: decoded slices cannot be kept there (%s); every reading decodes anew", cache_folder(), error)
        return built
    if kept := _load(key):
        _keep_stamp(stamp if covers() else None, key)
    return kept or built


def _load_stamped(stamp: str) -> Reading | None:
    """Read the entry that a source had when it bore this stamp, unless a file of the entry was written to since."""
    try:
        kept = json.loads(_stamp_file(stamp).read_text(encoding="utf-8"))
        place = cache_folder() / kept["key"]
        return _open(place, kept["key"], checked=kept["entry"] == _marks(place))
    except _UNUSABLE:
        return None


def _keep_stamp(stamp: str | None, key: str) -> None:
    if stamp is not None:
        with contextlib.suppress(OSError, WriteError):
            write_text(_stamp_file(stamp), json.dumps({"key": key, "entry": _marks(cache_folder() / key)}))


def _stamp_file(stamp: str) -> Path:
    return cache_folder().with_name("stamps") / f"{stamp}.json"


def _marks(place: Path) -> list[list[int | str]]:
    """Return the size, times and number of each file of an entry, which change when one is written to."""
    found = [(path.name, path.stat()) for path in sorted(place.iterdir())]
    return [[name, one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino] for name, one in found]


def cached_arrays(kind: str, key: str, build: Callable[[], Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Return the arrays that are kept under a kind and a key, or else those that are built, and kept from now on.

    Args:
        kind: name of the folder beside the entries.
        key: see content_key.
        build: makes the arrays; numbers become arrays without dimensions.
    """
    place = cache_folder().with_name(kind) / f"{key}.npz"
    # A damaged archive may fail in any way: in zip, zlib or numpy.
    with contextlib.suppress(Exception), place.open("rb") as file, np.load(file, allow_pickle=False) as kept:
        return {name: kept[name] for name in kept.files}
    built = {name: np.asarray(value) for name, value in build().items()}
    try:
        # An archive has checksums, so that one which a power cut damaged is made anew.
        with replacing(place, durable=False) as draft, draft.open("wb") as file:
            np.savez(file, allow_pickle=False, **built)
    except WriteError as error:
        LOG.warning("%s; it is found out anew each time", error)
    return built


def _load(key: str) -> Reading | None:
    """Read the entry of a key; None where there is none that can be trusted."""
    try:
        return _open(cache_folder() / key, key)
    except _UNUSABLE:
        return None


def _open(place: Path, key: str, *, checked: bool = False) -> Reading:
    """Return the reading of an entry, once everything recorded of it is found unchanged, unless it was before."""
    record: Any = json.loads((place / "entry.json").read_text(encoding="utf-8"))
    entry = record["entry"]
    if entry["key"] != key or not (checked or record["sha256"] == _digest(entry)):
        raise ValueError("another entry")
    for name in entry["files"] if not checked else ():
        path = place / f"{name}.npy"
        if [path.stat().st_size, _file_digest(path)] != entry["files"][name]:
            raise ValueError("another file")
    arrays = {
        name: np.load(place / f"{name}.npy", mmap_mode="r" if name == "images" else None, allow_pickle=False)
        for name in entry["files"]
    }
    covariates = {name: arrays.pop(f"covariate_{at}") for at, name in enumerate(entry["covariates"])}
    sizes, rows = arrays.pop("sizes", None), arrays.pop("rows", None)
    slices = SliceSet(
        **arrays,
        class_names=tuple(entry["class_names"]),
        subject_ids=tuple(entry["subject_ids"]),
        covariates=covariates,
    )
    return Reading(slices, tuple(BadRow(*row) for row in entry["bad"]), tuple(entry["notes"]), sizes, rows)


def _store(key: str, reading: Reading) -> None:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder)
    work = Path(tempfile.mkdtemp(prefix=_WORK, dir=folder))
    try:
        _write(work / "new", key, reading)
        if _load(key):
            return  # another process was faster
        with contextlib.suppress(FileNotFoundError):
            (folder / key).rename(work / "old")
        _publish(work / "new", folder / key)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _publish(new: Path, place: Path) -> None:
    try:
        new.rename(place)
    except OSError:
        if not place.is_dir():
            raise
        return  # another process was faster by a hair, and its entry is the same
    _sync(place.parent)


def _write(place: Path, key: str, reading: Reading) -> None:
    place.mkdir()
    arrays = {name: getattr(reading.slices, name) for name in COLUMNS}
    arrays |= {f"covariate_{at}": column for at, column in enumerate(reading.slices.covariates.values())}
    arrays |= {name: one for name, one in (("sizes", reading.sizes), ("rows", reading.rows)) if one is not None}
    files = {}
    for name, array in arrays.items():
        path = place / f"{name}.npy"
        with path.open("wb") as file:
            np.save(file, array, allow_pickle=False)
            _flush(file)
        files[name] = [path.stat().st_size, _file_digest(path)]
    entry = {
        "key": key,
        "files": files,
        "class_names": reading.slices.class_names,
        "subject_ids": reading.slices.subject_ids,
        "covariates": list(reading.slices.covariates),
        "bad": [astuple(row) for row in reading.bad],
        "notes": reading.notes,
    }
    with (place / "entry.json").open("w", encoding="utf-8") as file:
        json.dump({"sha256": _digest(entry), "entry": entry}, file)
        _flush(file)
    _sync(place)


def _remove_stale(folder: Path) -> None:
    for work in folder.glob(f"{_WORK}*"):
        with contextlib.suppress(OSError):
            if time.time() - work.stat().st_mtime > _STALE:
                shutil.rmtree(work, ignore_errors=True)


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make the names in a folder last; only POSIX systems let a folder be opened for it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"
