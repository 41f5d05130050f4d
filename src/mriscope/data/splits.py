"""Split slices into those that train a model, choose its best epoch and evaluate it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mriscope.data.slices import UNKNOWN, SliceSet, majority_labels, slice_digests
from mriscope.errors import DataError, RunError
from mriscope.results import Parts, SplitRecord

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """Index arrays into one slice set; no slice is in two parts.

    Args:
        protocol: published, by_slice or by_subject.
        train: int64, training rows.
        validation: int64, rows that select the best epoch; taken from the training part.
        test: int64, test rows, never used for model selection.
    """

    protocol: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    def __post_init__(self) -> None:
        for name in PARTS:
            if not len(getattr(self, name)):
                raise DataError(f"the {name} part of the {self.protocol} split is empty; give it a larger share")
        every = np.concatenate([getattr(self, name) for name in PARTS])
        if len(np.unique(every)) < len(every):
            raise DataError(f"the {self.protocol} split has slices in two of its parts; each may be in one only")


def published(slices: SliceSet, *, validation: float = 0.1, seed: int = 0) -> Split:
    """Return the split that came with the data; a validation part that it lacks is drawn from its training part.

    It is drawn as the test part was: by subject where train and test are known to share none, else by slice. Held-out
    subjects would make the choice of an epoch honest on a test part that is not, and are no help where subjects are
    unknown.

    Args:
        slices: a set whose `parts` are "train", "test" and, where it is published, "validation".
        validation: share of the training part, in (0, 1); without effect where a validation part is published.
        seed: of the draw.

    Raises:
        DataError: the set has no published parts.
    """
    train, test = (np.flatnonzero(slices.parts == part) for part in ("train", "test"))
    if not len(train) or not len(test):
        found = ", ".join(sorted({*slices.parts.tolist()} - {""})) or "none"
        raise DataError(
            f"the source publishes no train and test part (it has {found}); draw one with "
            "--set split.protocol=by_subject (or by_slice)"
        )
    held = np.flatnonzero(slices.parts == "validation")
    if len(held):
        return Split("published", train, held, test)
    apart = slices.knows_subjects and not len(np.intersect1d(slices.subjects[train], slices.subjects[test]))
    kept, held = divide(slices, train, validation, apart, stream(seed, "validation"))
    return Split("published", kept, held, test)


def by_slice(slices: SliceSet, *, test: float = 0.2, validation: float = 0.1, seed: int = 0) -> Split:
    """Draw a random split of slices, stratified by class; slices of one brain may lie in several parts.

    Args:
        slices: the set to split.
        test: share of all slices, in (0, 1).
        validation: share of what remains, in (0, 1).
        seed: of the draw.

    Raises:
        DataError: a part would be empty.
    """
    return _random_split(slices, test, validation, seed, whole_subjects=False)


def by_subject(slices: SliceSet, *, test: float = 0.2, validation: float = 0.1, seed: int = 0) -> Split:
    """Draw a random split of subjects, stratified by class: no subject has slices in two parts.

    A subject's class is that of most of its slices. Every class with three subjects or more is in every part.

    Args:
        slices: a set whose subjects are all known.
        test: share of all subjects, in (0, 1).
        validation: share of the remaining subjects, in (0, 1).
        seed: of the draw.

    Raises:
        DataError: a slice has no known subject, or a part would be empty.
    """
    check_subjects(slices)
    return _random_split(slices, test, validation, seed, whole_subjects=True)


def make_split(slices: SliceSet, protocol: str, *, test: float, validation: float, seed: int) -> Split:
    """Make the split of a protocol by its name."""
    if protocol == "published":
        return published(slices, validation=validation, seed=seed)
    draw = {"by_slice": by_slice, "by_subject": by_subject}[protocol]
    return draw(slices, test=test, validation=validation, seed=seed)


def check_subjects(slices: SliceSet) -> None:
    """Refuse a set of which not every subject is known.

    Raises:
        DataError: counts the slices without one.
    """
    if not slices.knows_subjects:
        missing = int((slices.subjects == UNKNOWN).sum())
        raise DataError(
            f"the subject of {missing} of {len(slices)} slices is unknown, and a split by subject needs every one; "
            "name subjects with a manifest or a pattern of their paths, let `mriscope audit SOURCE --repair DIR` write "
            "a split of the slices whose subjects are certain, or use the protocol published or by_slice"
        )


def shared_subjects(slices: SliceSet, split: Split) -> int | None:
    """Return how many test subjects also have slices in the training or validation part.

    None where none is known to have any, and a slice of the split is of unknown subject.
    """
    seen = slices.subjects[np.concatenate([split.train, split.validation])]
    tested = slices.subjects[split.test]
    shared = len(np.setdiff1d(np.intersect1d(seen, tested), UNKNOWN))
    return None if not shared and (UNKNOWN in seen or UNKNOWN in tested) else shared


def split_record(slices: SliceSet, split: Split, seed: int) -> SplitRecord:
    """Return the split as a record: rows are named by their paths, so it can be used on another machine.

    The slices of the training and validation parts are also named by their pixels (`seen`), by which a source that
    holds some of them is known.

    Raises:
        DataError: two slices have one path, so that a path names no row.
    """
    names, counts = np.unique(slices.paths, return_counts=True)
    if (counts > 1).any():
        raise DataError(f"two slices have the path {str(names[counts > 1][0])!r}; a split needs a path for each")
    parts = Parts(**{name: slices.paths[getattr(split, name)].tolist() for name in PARTS})
    seen = np.unique(slice_digests(slices.images[np.concatenate([split.train, split.validation])])).tolist()
    return SplitRecord(protocol=split.protocol, seed=seed, data=slices.fingerprint, parts=parts, seen=seen)


def read_split(path: Path, slices: SliceSet) -> Split:
    """Read the split that split_record described, for the same data.

    Raises:
        RunError: the file is damaged, or was made for other data.
    """
    record = SplitRecord.read(path, remedy="train with --fresh to make it anew")
    if record.data != slices.fingerprint:
        raise RunError(
            f"{path} was made for other data (fingerprint {record.data[:12]}, this source has "
            f"{slices.fingerprint[:12]}); give the run's own source with --data, or train anew with --fresh"
        )
    row_of = {name: row for row, name in enumerate(slices.paths.tolist())}
    try:
        rows = {name: np.array([row_of[one] for one in getattr(record.parts, name)], np.int64) for name in PARTS}
    except KeyError as error:
        raise RunError(f"{path} names the slice {error.args[0]!r}, which this source lacks") from error
    return Split(record.protocol, **rows)


def divide(
    slices: SliceSet, rows: np.ndarray, share: float, whole_subjects: bool, random: np.random.Generator, keep: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Divide rows into those to keep and those to hold out: a share of the units (subjects or slices) of every class.

    Args:
        slices: what `rows` number.
        rows: int64 (N,), those to divide.
        share: to hold out, in (0, 1).
        whole_subjects: whether units are subjects; else slices.
        random: draws.
        keep: units of each class that are to stay, where it has enough.
    """
    classes, unit_of_row = units_of(slices, rows, whole_subjects)
    held = _stratified_draw(classes, share, keep, random)[unit_of_row]
    return rows[~held], rows[held]


def units_of(slices: SliceSet, rows: np.ndarray, whole_subjects: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return what a draw takes whole: subjects or slices, in the order of their numbers.

    Returns:
        int64 (U,), the class of each unit, a subject's being that of most of its slices; int64 (N,), the unit of each
        row, from 0.
    """
    units = slices.subjects[rows] if whole_subjects else np.arange(len(rows))
    unit_of_row = np.unique(units, return_inverse=True)[1]
    return majority_labels(slices.labels[rows], unit_of_row, len(slices.class_names)), unit_of_row


def stream(seed: int, purpose: str) -> np.random.Generator:
    """Return a generator for one purpose, so that another test share does not change the validation draw."""
    return np.random.default_rng([seed, *purpose.encode()])


def _random_split(slices: SliceSet, test: float, validation: float, seed: int, whole_subjects: bool) -> Split:
    rows = np.arange(len(slices))
    # Two of each class stay, one to train and one to validate.
    rest, tested = divide(slices, rows, test, whole_subjects, stream(seed, "test"), keep=2)
    kept, held = divide(slices, rest, validation, whole_subjects, stream(seed, "validation"))
    return Split("by_subject" if whole_subjects else "by_slice", kept, held, tested)


def _stratified_draw(classes: np.ndarray, share: float, keep: int, random: np.random.Generator) -> np.ndarray:
    """Return a mask of the units drawn: a share of each class, one at least of two, leaving `keep` where possible."""
    drawn = np.zeros(len(classes), bool)
    for label in np.unique(classes):
        members = random.permutation(np.flatnonzero(classes == label))
        left = max(min(keep, len(members) - 1), 1)
        count = min(max(round(share * len(members)), 1), len(members) - left)
        drawn[members[:count]] = True
    return drawn
