"""SliceSet: the one record that crosses every boundary."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from mriscope.data.naming import CLASS_NAMES, natural
from mriscope.data.severity import severity_ranks
from mriscope.errors import DataError, check_type

SEVERITY = ("Non_Demented", "Very_Mild_Demented", "Mild_Demented", "Moderate_Demented")
SIZE = 128
UNKNOWN = -1


COLUMNS = ("images", "labels", "subjects", "positions", "paths", "parts", "sessions")
"""The arrays of a SliceSet with a row for each slice, beside its covariates."""

Rows = slice | Sequence[int] | np.ndarray


@dataclass(frozen=True, eq=False)
class SliceSet:
    """Brain-MRI slices with what is known of each; checks itself and cannot be changed.

    Args:
        images: uint8 (N, H, W), 0 is background; may be memory-mapped.
        labels: int64 (N,), index into class_names.
        subjects: int64 (N,), equal for slices of one brain; -1 where unknown, which is never one subject.
        positions: float64 (N,), place along the scan from inferior to superior, as an index or in millimetres; nan
            where unknown.
        paths: str (N,), name of each slice within its source.
        parts: str (N,), the published part each slice belongs to ("train", "validation", "test"); "" where none is
            published.
        sessions: str (N,), the scanning session of its subject that each slice is of; "" where unknown.
        class_names: name of each class, in the order of the labels.
        subject_ids: what each subject is called, by its number, such as ("sub-001", "sub-002"); () where the numbers
            themselves are the names. See `subject_names`.
        covariates: further columns by their names (age, sex, site, scanner), each float64 (N,) with nan, or str (N,)
            with "", where unknown.

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
    sessions: np.ndarray
    class_names: tuple[str, ...] = CLASS_NAMES
    subject_ids: tuple[str, ...] = ()
    covariates: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in COLUMNS:
            check_type(name, getattr(self, name), np.ndarray, "an array, or use SliceSet.of, which takes lists")
        _check(self.images.ndim == 3 and self.images.dtype == np.uint8, "images", self.images, "uint8 (N, H, W)")
        for kind, names in (("int64", COLUMNS[1:3]), ("float64", COLUMNS[3:4]), ("str", COLUMNS[4:])):
            for name in names:
                column = getattr(self, name)
                found = "str" if column.dtype.kind == "U" else column.dtype.name
                _check((found, column.shape) == (kind, (len(self),)), name, column, f"{kind} ({len(self)},)")
        for name, column in self.covariates.items():
            fits = column.shape == (len(self),) and (column.dtype == np.float64 or column.dtype.kind == "U")
            _check(fits, f"the covariate {name}", column, f"float64 or str ({len(self)},)")
        self._check_values()
        for name in COLUMNS:
            object.__setattr__(self, name, _locked(getattr(self, name)))
        object.__setattr__(self, "covariates", {name: _locked(column) for name, column in self.covariates.items()})

    def _check_values(self) -> None:
        outside = np.flatnonzero((self.labels < 0) | (self.labels >= len(self.class_names)))
        if len(outside):
            row = int(outside[0])
            raise DataError(
                f"label {self.labels[row]} of row {row} is outside the {len(self.class_names)} classes "
                f"{', '.join(self.class_names)}; labels count from 0"
            )
        if (self.subjects < UNKNOWN).any():
            raise DataError("subjects holds a number under -1; use -1 where it is unknown")
        if self.subject_ids and (self.subjects >= len(self.subject_ids)).any():
            raise DataError(
                f"subjects holds {self.subjects.max()}, and subject_ids names {len(self.subject_ids)}; name each"
            )
        if np.isinf(self.positions).any():
            raise DataError("positions holds an infinite number; use nan where it is unknown")

    @classmethod
    def of(
        cls,
        images: np.ndarray,
        labels: Sequence[int] | np.ndarray,
        *,
        subjects: Sequence[int] | Sequence[str] | np.ndarray | None = None,
        positions: Sequence[float] | np.ndarray | None = None,
        paths: Sequence[str] | np.ndarray | None = None,
        parts: Sequence[str] | np.ndarray | None = None,
        sessions: Sequence[str] | np.ndarray | None = None,
        class_names: Sequence[str] = CLASS_NAMES,
        covariates: Mapping[str, Sequence[float] | Sequence[str] | np.ndarray] | None = None,
    ) -> "SliceSet":
        """Make a SliceSet from plain sequences; what is left out is unknown, and paths become row numbers.

        Subjects may be numbers, -1 where unknown, or texts, "" where unknown. Whole numbers as positions may be -1, and
        others nan, where unknown.
        """
        count = len(images)

        def words(values: Sequence[str] | np.ndarray) -> np.ndarray:
            return np.asarray(values, str).reshape(len(values))

        who = np.full(count, UNKNOWN) if subjects is None else np.asarray(subjects)
        named, ids = number_subjects(who.tolist()) if who.dtype.kind == "U" else (np.asarray(who, np.int64), ())
        columns = {name: np.asarray(column) for name, column in (covariates or {}).items()}
        return cls(
            images=images,
            labels=np.asarray(labels, np.int64),
            subjects=named,
            positions=np.full(count, np.nan) if positions is None else _as_positions(positions),
            paths=words([str(row) for row in range(count)] if paths is None else paths),
            parts=words([""] * count if parts is None else parts),
            sessions=words([""] * count if sessions is None else sessions),
            class_names=tuple(class_names),
            subject_ids=ids,
            covariates={name: one if one.dtype.kind == "U" else one.astype(float) for name, one in columns.items()},
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Rows) -> "SliceSet":
        """Return the slices at a range, an index array or a boolean mask, in that order."""
        chosen = rows if isinstance(rows, slice) else np.asarray(rows)
        if isinstance(chosen, np.ndarray) and not chosen.size:
            chosen = chosen.astype(np.int64)  # an empty list would be an array of floats
        columns: dict[str, Any] = {name: getattr(self, name)[chosen] for name in COLUMNS}
        columns["covariates"] = {name: column[chosen] for name, column in self.covariates.items()}
        return replace(self, **columns)

    def with_subjects(
        self,
        subjects: np.ndarray,
        positions: np.ndarray,
        *,
        sessions: np.ndarray | None = None,
        covariates: Mapping[str, np.ndarray] | None = None,
    ) -> "SliceSet":
        """Return the same slices with what their source does not tell of them; the fingerprint stays the source's.

        Args:
            subjects: int64 (N,), -1 where unknown; or str (N,), "" where unknown.
            positions: float64 (N,), nan where unknown; or int64 (N,), -1 where unknown.
            sessions: str (N,); None keeps those that are known.
            covariates: as in a SliceSet, added to those that are known.
        """
        numbers, ids = number_subjects(subjects.tolist()) if subjects.dtype.kind == "U" else (subjects, ())
        known = replace(
            self,
            subjects=numbers,
            subject_ids=ids,
            positions=_as_positions(positions),
            sessions=self.sessions if sessions is None else sessions,
            covariates={**self.covariates, **(covariates or {})},
        )
        known.__dict__["fingerprint"] = self.fingerprint
        return known

    @property
    def knows_subjects(self) -> bool:
        """Whether the subject of every slice is known."""
        return len(self) > 0 and bool((self.subjects != UNKNOWN).all())

    @property
    def subject_names(self) -> np.ndarray:
        """Str (N,), what the subject of each slice is called; "" where unknown.

        Example:
            >>> pixels = np.zeros((3, 16, 16), np.uint8)
            >>> SliceSet.of(pixels, [0, 0, 1], subjects=["sub-02", "", "sub-01"]).subject_names.tolist()
            ['sub-02', '', 'sub-01']
        """
        return names_of_subjects(self.subjects, self.subject_ids)

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
        """SHA-256 over what the source says of its slices, but for paths and parts, wherever it is kept.

        Whole positions count as int64 with -1, and names of subjects, sessions and covariates only where there are any,
        as they did before sets could hold others.
        """
        digest = hashlib.sha256(repr((self.images.shape, self.class_names)).encode())
        whole = np.where(np.isnan(self.positions), UNKNOWN, self.positions)
        plain = bool((whole >= UNKNOWN).all() and (whole == np.floor(whole)).all())
        for column in (self.images, self.labels, self.subjects, whole.astype(np.int64) if plain else self.positions):
            digest.update(np.ascontiguousarray(column).data)
        if self.subject_ids:
            digest.update(repr(self.subject_names.tolist()).encode())
        if (self.sessions != "").any():
            digest.update(repr(self.sessions.tolist()).encode())
        for name in sorted(self.covariates):
            digest.update(repr((name, self.covariates[name].tolist())).encode())
        return digest.hexdigest()


def concatenate(sets: Sequence[SliceSet]) -> SliceSet:
    """Join the slices of several sets, in order; one name is one subject, and without names one number is.

    Raises:
        DataError: no sets, or sets whose image sizes, classes or covariates differ.
    """
    if not sets:
        raise DataError("there is no slice set to join; name at least one")
    for name, values in (
        ("image sizes", {s.images.shape[1:] for s in sets}),
        ("classes", {s.class_names for s in sets}),
        ("covariates", {tuple(sorted(s.covariates)) for s in sets}),
    ):
        if len(values) > 1:
            raise DataError(f"sets with different {name} cannot be joined: {' and '.join(map(str, sorted(values)))}")
    columns = {name: np.concatenate([getattr(s, name) for s in sets]) for name in COLUMNS}
    columns["subjects"], ids = join_subjects([(s.subjects, s.subject_ids) for s in sets])
    covariates = {name: np.concatenate([s.covariates[name] for s in sets]) for name in sets[0].covariates}
    return SliceSet(**columns, class_names=sets[0].class_names, subject_ids=ids, covariates=covariates)


def number_subjects(names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Assign numbers to subjects that are named by texts.

    Args:
        names: of each slice's subject; "" where unknown.

    Returns:
        int64 (N,), -1 where unknown; and the name of each number. Where every name is a whole number in its usual
        spelling, these are the numbers, and there are no names beside them. Other names are numbered in natural order.

    Example:
        >>> number_subjects(["7", "", "12"])[0].tolist(), number_subjects(["007", "", "6"])[1]
        ([7, -1, 12], ('6', '007'))
    """
    known = sorted({*names} - {""}, key=natural)
    if all(re.fullmatch("0|[1-9][0-9]{0,17}", name) for name in known):
        return np.array([int(name) if name else UNKNOWN for name in names], np.int64), ()
    number_of = {name: number for number, name in enumerate(known)}
    return np.array([number_of.get(name, UNKNOWN) for name in names], np.int64), tuple(known)


def names_of_subjects(subjects: np.ndarray, subject_ids: Sequence[str]) -> np.ndarray:
    """Return what the subjects of slices are called, "" where unknown: str (N,)."""
    if not subject_ids:
        return np.where(subjects == UNKNOWN, "", subjects.astype(str))
    return np.array([*subject_ids, ""], str)[subjects]  # -1 is the last


def join_subjects(several: Sequence[tuple[np.ndarray, tuple[str, ...]]]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Join the subjects of several sets, given as their numbers and names; see `number_subjects`."""
    if len({ids for _, ids in several}) == 1:
        return np.concatenate([numbers for numbers, _ in several]), several[0][1]
    return number_subjects(np.concatenate([names_of_subjects(*one) for one in several]).tolist())


def slice_digests(images: np.ndarray) -> np.ndarray:
    """Compute a short name of each slice's pixels, by which another source's copy of it is known.

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


def _as_positions(positions: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return positions as float64, nan where whole numbers are -1."""
    given = np.asarray(positions)
    return np.where(given == UNKNOWN, np.nan, given) if given.dtype.kind in "iu" else given.astype(np.float64)


def _locked(column: np.ndarray) -> np.ndarray:
    view = column.view()
    view.setflags(write=False)
    return view


def _check(fits: bool, name: str, found: np.ndarray, expected: str) -> None:
    if not fits:
        raise DataError(f"{name} is {found.dtype} {found.shape}; a SliceSet needs {expected}")
