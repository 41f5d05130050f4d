"""The split that settings ask for; and a split as a file: rows by their paths, checked by their pixels."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mriscope.data.folds import fold_split
from mriscope.data.slices import SliceSet, slice_digests
from mriscope.data.splits import PARTS, Split, make_split, shared_subjects, split_record
from mriscope.errors import DataError
from mriscope.recipe import SplitSettings
from mriscope.results import Parts, SplitRecord

LOG = logging.getLogger("mriscope")

Lists = Mapping[str, Sequence[str]]


def split_for(settings: SplitSettings, slices: SliceSet, seed: int) -> Split:
    """Make the split that settings ask for.

    Raises:
        DataError: the slices do not allow it, or the file of a split does not fit them.
    """
    if settings.file is not None:
        return read_split_file(settings.file, slices)
    if settings.folds is not None and settings.fold is not None:
        return fold_split(
            slices,
            settings.protocol,
            folds=settings.folds,
            fold=settings.fold,
            repeat=settings.repeat or 0,
            validation=settings.validation,
            seed=seed,
        )
    return make_split(slices, settings.protocol, test=settings.test, validation=settings.validation, seed=seed)


def split_file(slices: SliceSet, split: Split, seed: int) -> SplitRecord:
    """Return split_record, with what makes it usable elsewhere: size, and class and pixels of each row.

    The path within the source is a row's identity, as nothing else is left where slices are resized. Digests of pixels
    and names of classes are what shows that the paths mean the same slices.

    Raises:
        DataError: two slices have one path, so that a path names no row.
    """
    rows = {part: getattr(split, part) for part in PARTS}
    classes = {part: [slices.class_names[label] for label in slices.labels[one]] for part, one in rows.items()}
    pixels = {part: slice_digests(slices.images[one]).tolist() for part, one in rows.items()}
    height, width = slices.images.shape[1:]
    added = {"size": (height, width), "classes": Parts(**classes), "pixels": Parts(**pixels)}
    return split_record(slices, split, seed).model_copy(update=added)


def read_split_file(path: str | Path, slices: SliceSet) -> Split:
    """Read the split of a file that `mriscope split` or a run wrote, for the same slices.

    The same are slices of one fingerprint, or whose paths, classes and pixels are those of the file; where slices are
    read at another size than the file's, paths and classes have to do. A run's split.json knows the fingerprint alone.
    Slices of no part are left out, which is said through the logger "mriscope".

    Raises:
        DataError: the file cannot be read or is no split, a row is in two parts or twice in one, the source lacks rows,
            or holds other slices by their paths.
    """
    remedy = "make one with `mriscope split`"
    record = SplitRecord.read(path, error=DataError, remedy=remedy)
    parts = {part: getattr(record.parts, part) for part in PARTS}
    _check_once(path, parts)
    row_of = {name: row for row, name in enumerate(slices.paths.tolist())}
    named = record.parts.named()
    missing = [name for name in named if name not in row_of]
    if missing:
        raise DataError(
            f"{path} names {len(named):,} slices, and this source lacks {len(missing):,} of them, {missing[0]!r} for "
            "one; name the source that it was made for"
        )
    if record.data != slices.fingerprint:
        _check_content(path, record, slices[[row_of[name] for name in named]])
    if len(named) < len(slices):
        LOG.warning("%s names %d of the %d slices; the others are left out", path, len(named), len(slices))
    return Split(record.protocol, **{part: np.array([row_of[one] for one in parts[part]], np.int64) for part in PARTS})


def warn_of_sharing(slices: SliceSet, split: Split) -> None:
    """Say through the logger "mriscope" how many test subjects a model is trained on, or that nobody knows."""
    shared = shared_subjects(slices, split)
    if shared is None:
        LOG.warning(
            "subjects unknown: slices of one brain may lie in the training and in the test part, which flatters every "
            "figure; name a source that says which slices show one brain"
        )
    elif shared:
        LOG.warning(
            "LEAKY: %d of %d test subjects also have slices in the training part, so the figures say little about new "
            "subjects; use split.protocol=by_subject",
            shared,
            len(np.unique(slices.subjects[split.test])),
        )


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


def _check_content(path: str | Path, record: SplitRecord, here: SliceSet) -> None:
    """Refuse slices whose classes or pixels are not those of the file."""
    if record.classes is None or record.pixels is None:
        raise DataError(
            f"{path} was made for other data (fingerprint {record.data[:12]}, this source has other pixels, size or "
            "labels), and as it comes from a run it cannot be checked row by row; make one with `mriscope split`"
        )
    columns = {"classes": (record.classes, np.array(here.class_names)[here.labels])}
    if record.size == here.images.shape[1:]:
        columns["pixels"] = (record.pixels, slice_digests(here.images))
    for name, (expected, found) in columns.items():
        other = np.flatnonzero(found != np.array(expected.named()))
        if len(other):
            raise DataError(
                f"{path} was made for other data: {len(other):,} of its {len(here):,} slices have other {name} here, "
                f"{str(here.paths[other[0]])!r} for one; name the source that it was made for"
            )
