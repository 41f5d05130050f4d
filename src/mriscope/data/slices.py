"""SliceSet: the one record that crosses every boundary."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mriscope.errors import DataError, check_type

CLASS_NAMES = ("Mild_Demented", "Moderate_Demented", "Non_Demented", "Very_Mild_Demented")
SEVERITY = ("Non_Demented", "Very_Mild_Demented", "Mild_Demented", "Moderate_Demented")
SIZE = 128
UNKNOWN = -1

_HEALTHY = (
    "non",
    "no",
    "cn",
    "nc",
    "hc",
    "normal",
    "cognitivelynormal",
    "control",
    "healthy",
    "healthycontrol",
    "controls",
)
_ALZHEIMER = ("ad", "alzheimer", "alzheimers", "alzheimersdisease")
_STAGES = (_HEALTHY, ("smc", "scd"), ("emci",), ("mci",), ("lmci",), _ALZHEIMER)
_GRADES = (_HEALTHY, ("verymild",), ("mild", "mildormoderate"), ("moderate",), ("severe",))
"""What classes of rising severity are called, reduced to letters; those of a set are all stages or all grades."""

_COLUMNS = ("images", "labels", "subjects", "positions", "paths", "parts")

Rows = slice | Sequence[int] | np.ndarray


@dataclass(frozen=True, eq=False)
class SliceSet:
    """Brain-MRI slices with what is known of each; checks itself and cannot be changed.

    Args:
        images: uint8 (N, H, W), 0 is background; may be memory-mapped.
        labels: int64 (N,), index into class_names.
        subjects: int64 (N,), equal for slices of one brain; -1 where unknown, which is never one subject.
        positions: int64 (N,), order within the subject from inferior to superior; -1 where unknown.
        paths: str (N,), name of each slice within its source.
        parts: str (N,), the published part each slice belongs to ("train", "test"); "" where none is published.
        class_names: name of each class, in the order of the labels.

    Raises:
        DataError: an array has another shape or type, or a value outside its range.
        ArgumentTypeError: a column is no array.
    """

    images: np.ndarray
    labels: np.ndarray
    subjects: np.ndarray
    positions: np.ndarray
    paths: np.ndarray
    parts: np.ndarray
    class_names: tuple[str, ...] = CLASS_NAMES

    def __post_init__(self) -> None:
        for name in _COLUMNS:
            check_type(name, getattr(self, name), np.ndarray, "an array, or use SliceSet.of, which takes lists")
        _check(self.images.ndim == 3 and self.images.dtype == np.uint8, "images", self.images, "uint8 (N, H, W)")
        for name in ("labels", "subjects", "positions"):
            column = getattr(self, name)
            _check(column.shape == (len(self),) and column.dtype == np.int64, name, column, f"int64 ({len(self)},)")
        for name in ("paths", "parts"):
            column = getattr(self, name)
            _check(column.shape == (len(self),) and column.dtype.kind == "U", name, column, f"str ({len(self)},)")
        self._check_values()
        for name in _COLUMNS:
            locked = getattr(self, name).view()
            locked.setflags(write=False)
            object.__setattr__(self, name, locked)

    def _check_values(self) -> None:
        outside = np.flatnonzero((self.labels < 0) | (self.labels >= len(self.class_names)))
        if len(outside):
            row = int(outside[0])
            raise DataError(
                f"label {self.labels[row]} of row {row} is outside the {len(self.class_names)} classes "
                f"{', '.join(self.class_names)}; labels count from 0"
            )
        for name in ("subjects", "positions"):
            if (getattr(self, name) < UNKNOWN).any():
                raise DataError(f"{name} holds a number under -1; use -1 where it is unknown")

    @classmethod
    def of(
        cls,
        images: np.ndarray,
        labels: Sequence[int] | np.ndarray,
        *,
        subjects: Sequence[int] | np.ndarray | None = None,
        positions: Sequence[int] | np.ndarray | None = None,
        paths: Sequence[str] | np.ndarray | None = None,
        parts: Sequence[str] | np.ndarray | None = None,
        class_names: Sequence[str] = CLASS_NAMES,
    ) -> "SliceSet":
        """A SliceSet from plain sequences; what is left out is unknown, and paths become row numbers."""
        count = len(images)

        def numbers(values: Sequence[int] | np.ndarray | None) -> np.ndarray:
            return np.full(count, UNKNOWN, np.int64) if values is None else np.asarray(values, np.int64)

        def words(values: Sequence[str] | np.ndarray) -> np.ndarray:
            return np.asarray(values, str).reshape(len(values))

        return cls(
            images=images,
            labels=numbers(labels),
            subjects=numbers(subjects),
            positions=numbers(positions),
            paths=words([str(row) for row in range(count)] if paths is None else paths),
            parts=words([""] * count if parts is None else parts),
            class_names=tuple(class_names),
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Rows) -> "SliceSet":
        """The slices at a range, an index array or a boolean mask, in that order."""
        chosen = rows if isinstance(rows, slice) else np.asarray(rows)
        if isinstance(chosen, np.ndarray) and not chosen.size:
            chosen = chosen.astype(np.int64)  # an empty list would be an array of floats
        return SliceSet(**{name: getattr(self, name)[chosen] for name in _COLUMNS}, class_names=self.class_names)

    def with_subjects(self, subjects: np.ndarray, positions: np.ndarray) -> "SliceSet":
        """The same slices with subjects that their source does not name; the fingerprint stays that of the source.

        Args:
            subjects: int64 (N,), -1 where unknown.
            positions: int64 (N,), order within the subject; -1 where unknown.
        """
        known = replace(self, subjects=subjects, positions=positions)
        known.__dict__["fingerprint"] = self.fingerprint
        return known

    @property
    def knows_subjects(self) -> bool:
        """Whether the subject of every slice is known."""
        return len(self) > 0 and bool((self.subjects != UNKNOWN).all())

    @property
    def n_subjects(self) -> int:
        """How many subjects are known; slices without one do not count."""
        return len(np.unique(self.subjects[self.subjects != UNKNOWN]))

    @property
    def severity(self) -> np.ndarray:
        """int64 (K,), rank of each class by severity; see severity_ranks."""
        return severity_ranks(self.class_names)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over what the source says of pixels, labels, subjects, positions and classes, wherever it is kept."""
        digest = hashlib.sha256(repr((self.images.shape, self.class_names)).encode())
        for column in (self.images, self.labels, self.subjects, self.positions):
            digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()


def concatenate(sets: Sequence[SliceSet]) -> SliceSet:
    """One set of the slices of several, in order; subject numbers are kept as they are.

    Raises:
        DataError: no sets, or sets whose image sizes or classes differ.
    """
    if not sets:
        raise DataError("there is no slice set to join; name at least one")
    for name, values in (
        ("image sizes", {s.images.shape[1:] for s in sets}),
        ("classes", {s.class_names for s in sets}),
    ):
        if len(values) > 1:
            raise DataError(f"sets with different {name} cannot be joined: {' and '.join(map(str, sorted(values)))}")
    columns = {name: np.concatenate([getattr(s, name) for s in sets]) for name in _COLUMNS}
    return SliceSet(**columns, class_names=sets[0].class_names)


def slice_digests(images: np.ndarray) -> np.ndarray:
    """A short name of each slice's pixels, by which another source's copy of it is known.

    Args:
        images: uint8 (N, H, W).

    Returns:
        str (N,), 64 bits of BLAKE2b in hexadecimal digits.
    """
    return np.array([hashlib.blake2b(one.tobytes(), digest_size=8).hexdigest() for one in images], "U16")


def majority_labels(labels: np.ndarray, group_of_row: np.ndarray, classes: int) -> np.ndarray:
    """Return the label of most rows of each group, such as a subject; of several that tie the first.

    Args:
        labels: int64 (N,).
        group_of_row: int64 (N,), from 0 without gaps.
        classes: number of classes K.

    Returns:
        int64 (G,).
    """
    cells = np.bincount(group_of_row * classes + labels, minlength=(group_of_row.max(initial=-1) + 1) * classes)
    return cells.reshape(-1, classes).argmax(axis=1)


def severity_ranks(class_names: Sequence[str]) -> np.ndarray:
    """Return the rank of each class by severity, or its place where the names say nothing of severity.

    For display, and for models that need some order; a metric of steps asks `known_severity`.

    Args:
        class_names: the classes of a set.

    Returns:
        int64 (K,), each rank from 0, the least severe, to K - 1 once.
    """
    known = known_severity(class_names)
    return np.arange(len(class_names)) if known is None else np.argsort(np.argsort(known))


def known_severity(class_names: Sequence[str], order: Sequence[str] | None = None) -> np.ndarray | None:
    """Return the step of severity of each class, where it is known.

    Known are the names of the field in their usual spellings: CN, NC or Normal < SMC < EMCI < MCI < LMCI < AD or
    Dementia; Non < Very mild < Mild < Moderate < Severe, with or without "demented" or "impairment". Of these, a
    class that the set lacks keeps its step: mild is two steps from non. Two classes are one step apart either way
    round, so that their order is always known.

    Args:
        class_names: the classes of a set.
        order: the same names from the least to the most severe; None takes the order that the names tell.

    Returns:
        int64 (K,), 0 for the least severe; None where the order is not known.

    Raises:
        DataError: `order` does not name every class once.

    Example:
        >>> known_severity(("AD", "CN", "MCI")).tolist()
        [2, 0, 1]
    """
    if order is not None:
        if sorted(order) != sorted(class_names):
            raise DataError(
                f"severity names {', '.join(order)}, and the classes are {', '.join(class_names)}; name each of them "
                "once, from the least to the most severe"
            )
        return np.array([list(order).index(name) for name in class_names], np.int64)
    words = [_severity_word(name) for name in class_names]
    for scale in (_STAGES, _GRADES):
        level_of = {word: level for level, same in enumerate(scale) for word in same}
        levels = np.array([level_of.get(word, -1) for word in words], np.int64)
        if (levels >= 0).all() and len(set(levels.tolist())) == len(levels):
            return levels - min(levels.tolist(), default=0) if scale is _GRADES else np.argsort(np.argsort(levels))
    return np.arange(len(class_names)) if len(class_names) <= 2 else None


def _severity_word(class_name: str) -> str:
    """Reduce a class name to the letters that tell its severity."""
    word = re.sub("final|jpe?g|png", "", re.sub("[^a-z]", "", class_name.lower()))
    word = re.sub("mildcognitive(impairment)?", "mci", word).replace("early", "e").replace("late", "l")
    return re.sub("demented|dementia|impairment|impaired", "", word) or ("ad" if "dement" in word else word)


def _check(fits: bool, name: str, found: np.ndarray, expected: str) -> None:
    if not fits:
        raise DataError(f"{name} is {found.dtype} {found.shape}; a SliceSet needs {expected}")
