"""A split as a file of its own: rows by their paths, checked by their pixels, wherever the slices are kept."""

import json
import logging
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from mriscope.data.slices import SliceSet, slice_digests
from mriscope.data.splits import PARTS, PROTOCOLS, Split, split_record
from mriscope.errors import DataError

LOG = logging.getLogger("mriscope")

Lists = Mapping[str, Sequence[str]]


def split_file(slices: SliceSet, split: Split, seed: int) -> dict[str, Any]:
    """What split_record says, and what makes it usable elsewhere: size, and class and pixels of each row.

    The path within the source is a row's identity, as nothing else is left where slices are resized. Digests of pixels
    and names of classes are what shows that the paths mean the same slices.

    Raises:
        DataError: two slices have one path, so that a path names no row.
    """
    rows = {part: getattr(split, part) for part in PARTS}
    return {
        **split_record(slices, split, seed),
        "size": list(slices.images.shape[1:]),
        "classes": {part: [slices.class_names[label] for label in slices.labels[one]] for part, one in rows.items()},
        "pixels": {part: slice_digests(slices.images[one]).tolist() for part, one in rows.items()},
    }


def read_split_file(path: str | Path, slices: SliceSet) -> Split:
    """The split of a file that `mriscope split` or a run wrote, for the same slices.

    The same are slices of one fingerprint, or whose paths, classes and pixels are those of the file; where slices are
    read at another size than the file's, paths and classes have to do. A run's split.json knows the fingerprint alone.
    Slices of no part are left out, which is said through the logger "mriscope".

    Raises:
        DataError: the file cannot be read or is no split, a row is in two parts or twice in one, the source lacks rows,
            or holds other slices by their paths.
    """
    record = _read(path)
    parts: Lists = record["parts"]
    _check_once(path, parts)
    row_of = {name: row for row, name in enumerate(slices.paths.tolist())}
    named = [name for part in PARTS for name in parts[part]]
    missing = [name for name in named if name not in row_of]
    if missing:
        raise DataError(
            f"{path} names {len(named):,} slices, and this source lacks {len(missing):,} of them, {missing[0]!r} for "
            "one; name the source that it was made for"
        )
    if record["data"] != slices.fingerprint:
        _check_content(path, record, slices[[row_of[name] for name in named]])
    if len(named) < len(slices):
        LOG.warning("%s names %d of the %d slices; the others are left out", path, len(named), len(slices))
    return Split(
        record["protocol"], **{part: np.array([row_of[one] for one in parts[part]], np.int64) for part in PARTS}
    )


def _read(path: str | Path) -> Mapping[str, Any]:
    try:
        record = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no JSON"
        raise DataError(f"{path} cannot be read as a split ({reason}); make one with `mriscope split`") from error
    lists = [record.get(name) for name in ("parts", "classes", "pixels")] if isinstance(record, dict) else [None]
    fit = _are_lists(lists[0]) and all(one is None or _same_lengths(one, lists[0]) for one in lists[1:])
    if not fit or not isinstance(record.get("data"), str):
        raise DataError(
            f"{path} is no split: it needs data, and parts with lists of paths; make one with `mriscope split`"
        )
    if record.get("protocol") not in PROTOCOLS:
        raise DataError(
            f"{path} has the protocol {record.get('protocol')!r}; it should be one of {', '.join(PROTOCOLS)}"
        )
    return record


def _are_lists(parts: object) -> bool:
    return isinstance(parts, dict) and all(
        isinstance(parts.get(part), list) and all(isinstance(one, str) for one in parts[part]) for part in PARTS
    )


def _same_lengths(columns: Any, parts: Any) -> bool:
    return _are_lists(columns) and all(len(columns[part]) == len(parts[part]) for part in PARTS)


def _check_once(path: str | Path, parts: Lists) -> None:
    found: dict[str, str] = {}
    for part in PARTS:
        for name in parts[part]:
            if name in found:
                where = (
                    f"in its {found[name]} and its {part} part" if found[name] != part else f"twice in its {part} part"
                )
                raise DataError(f"{path} has the slice {name!r} {where}; a slice may be in one part only")
            found[name] = part


def _check_content(path: str | Path, record: Mapping[str, Any], here: SliceSet) -> None:
    """Refuse slices whose classes or pixels are not those of the file."""
    if "classes" not in record or "pixels" not in record:
        raise DataError(
            f"{path} was made for other data (fingerprint {record['data'][:12]}, this source has other pixels, size or "
            "labels), and as it comes from a run it cannot be checked row by row; make one with `mriscope split`"
        )
    columns = {"classes": np.array(here.class_names)[here.labels]}
    if record.get("size") == list(here.images.shape[1:]):
        columns["pixels"] = slice_digests(here.images)
    for name, found in columns.items():
        expected = np.array(list(chain.from_iterable(record[name][part] for part in PARTS)))
        other = np.flatnonzero(found != expected)
        if len(other):
            raise DataError(
                f"{path} was made for other data: {len(other):,} of its {len(here):,} slices have other {name} here, "
                f"{str(here.paths[other[0]])!r} for one; name the source that it was made for"
            )
