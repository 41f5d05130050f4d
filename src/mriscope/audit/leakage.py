"""What a split shares between its parts, and what that does to a score."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from mriscope.audit.controls import Neighbours, run_controls
from mriscope.audit.subjects import RecoveredSubjects
from mriscope.audit.verdict import (
    CopySearch,
    Evidence,
    choose_queries,
    proven_shared,
    search_copies,
    weigh,
)
from mriscope.data.slices import UNKNOWN, SliceSet, slice_digests
from mriscope.errors import DataError
from mriscope.results import (
    ClassSummary,
    Conflicts,
    Duplicates,
    KnownFrom,
    LeakageReport,
    Part,
    Power,
    Sharing,
    SplitSummary,
    SubjectSummary,
)

DUPLICATE = 0.001
"""1 - correlation up to which slices are near-duplicates where pixels tell no subjects apart."""
SHOWN = 20
"""So many conflicts are listed by name."""


@dataclass(frozen=True, eq=False)
class AuditedSplit:
    """Rows of the parts that are audited; int64 each, `validation` may be empty."""

    protocol: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @property
    def learned(self) -> np.ndarray:
        """Rows that a model learns from or is chosen by."""
        return np.concatenate([self.train, self.validation])


@dataclass(frozen=True)
class Pair:
    """A slice, the slice most similar to it, and their correlation."""

    row: int
    other: int
    similarity: float


def audit_slices(
    slices: SliceSet,
    neighbours: Neighbours,
    found: RecoveredSubjects,
    *,
    known_from: KnownFrom | None,
    split: AuditedSplit | None = None,
    search: CopySearch | None = None,
    seed: int = 0,
) -> LeakageReport:
    """Audit a slice set and a split of it.

    Near-duplicates are slices more similar than any two slices of two subjects, where pixels tell subjects apart, else
    slices that are all but equal.

    Args:
        slices: with whatever is known of subjects.
        neighbours: find_neighbours of its images.
        found: recover_subjects of its images, for the threshold and the evidence.
        known_from: how subjects are known; None where none is.
        split: the parts to audit; None audits the data alone.
        search: for altered copies of test slices in the other parts, as `search_of` makes it; None where none was made.
        seed: of the controls.

    Raises:
        DataError: there are fewer than two slices.
    """
    if len(slices) < 2:
        raise DataError(f"an audit compares slices, and there is {len(slices)}; give it two at least")
    copies = copy_groups(slices.images)
    threshold = near_duplicate_threshold(neighbours, found)
    facts = None
    if split is not None:
        same = np.isin(copies[split.test], copies[split.learned])
        near = neighbours.among(split.test, split.learned)[0] > threshold
        named = slices.subjects if known_from in ("source", "manifest") else None
        evidence = weigh(named, found, search, split.test, split.learned, same | near)
        facts = _summarise_split(slices, split, evidence, same, near)
    parts: dict[Part, np.ndarray] = {}
    if split is not None:
        parts = {"train": split.train, "validation": split.validation, "test": split.test}
    return LeakageReport(
        leaky=None if facts is None else facts.power.leaky,
        fingerprint=slices.fingerprint,
        n_slices=len(slices),
        subjects=_summarise_subjects(slices, found, known_from, threshold),
        classes={name: _summarise_class(slices, label, parts) for label, name in enumerate(slices.class_names)},
        duplicates=_count_duplicates(slices, neighbours, copies, threshold),
        conflicts=_count_conflicts(slices, neighbours, copies, threshold),
        split=facts,
        controls=run_controls(slices, neighbours, None if split is None else (split.learned, split.test), seed=seed),
    )


def near_duplicate_threshold(neighbours: Neighbours, found: RecoveredSubjects) -> float:
    """Return the correlation of pixels above which slices are near-duplicates.

    Args:
        neighbours: of every slice.
        found: subjects as pixels tell.
    """
    if not found.clear:
        return 1 - DUPLICATE
    apart = found.subjects[neighbours.index] != found.subjects[:, None]
    return float(neighbours.similarity[apart].max(initial=0.0))


def search_of(
    slices: SliceSet,
    found: RecoveredSubjects,
    split: AuditedSplit,
    *,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> CopySearch | None:
    """Look for altered copies of those test slices whose brain is not yet proven to be in the other parts.

    Args:
        slices: the set.
        found: subjects as pixels tell.
        split: the parts.
        device: where to compute, as torch names it.
        progress: called with the slices that are done and how many there are.

    Returns:
        the search; None where every test slice is of a brain that the other parts hold.
    """
    open_ = split.test[~proven_shared(found.proven, split.test, split.learned)]
    queries = choose_queries(found.groups, open_)
    if not len(queries):
        return None
    return search_copies(slices.images, queries, split.learned, device=device, progress=progress)


def copy_groups(images: np.ndarray) -> np.ndarray:
    """Return int64 (N,), equal for slices of equal pixels; a slice of a single grey value is in a group of its own."""
    group = np.unique(slice_digests(images), return_inverse=True)[1].astype(np.int64)
    flat = images.reshape(len(images), -1)
    blank = np.flatnonzero(flat.min(axis=1, initial=255) >= flat.max(axis=1, initial=0))
    group[blank] = len(images) + np.arange(len(blank))
    return group


def similar_pairs(neighbours: Neighbours, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of slices more similar than a threshold, the most similar first.

    Returns:
        int64 (P, 2), the lower row first, and float32 (P,), their correlation.
    """
    similar = neighbours.similarity > threshold
    rows = np.repeat(np.arange(len(similar)), similar.sum(axis=1))
    pairs = np.sort(np.stack([rows, neighbours.index[similar]], axis=1), axis=1)
    pairs, first = np.unique(pairs, axis=0, return_index=True)
    values = neighbours.similarity[similar][first]
    order = np.argsort(-values, kind="stable")
    return pairs[order], values[order]


def _summarise_subjects(
    slices: SliceSet, found: RecoveredSubjects, known_from: KnownFrom | None, threshold: float
) -> SubjectSummary:
    known = slices.subjects[slices.subjects != UNKNOWN]
    counts = np.unique(known, return_counts=True)[1] if len(known) else None
    return SubjectSummary(
        known_from=known_from,
        n=None if counts is None else len(counts),
        known_slices=len(known),
        fewest=None if counts is None else int(counts.min()),
        most=None if counts is None else int(counts.max()),
        groups=int((np.bincount(found.groups) > 1).sum()),
        clear=found.clear,
        threshold=threshold,
        level=found.level if np.isfinite(found.level) else None,
        weakest=None if np.isnan(found.weakest) else found.weakest,
        strongest=None if np.isnan(found.strongest) else found.strongest,
    )


def _summarise_class(slices: SliceSet, label: int, parts: Mapping[Part, np.ndarray]) -> ClassSummary:
    mine = slices.labels == label
    return ClassSummary(
        slices=int(mine.sum()),
        share=float(mine.mean()),
        subjects=len(np.unique(slices.subjects[mine])) if slices.knows_subjects else None,
        parts={part: int(mine[rows].sum()) for part, rows in parts.items()},
    )


def _count_duplicates(slices: SliceSet, neighbours: Neighbours, copies: np.ndarray, threshold: float) -> Duplicates:
    sizes = np.unique(copies, return_counts=True)[1]
    pairs = similar_pairs(neighbours, threshold)[0]
    across = slices.subjects[pairs[:, 0]] != slices.subjects[pairs[:, 1]]
    return Duplicates(
        exact_groups=int((sizes > 1).sum()),
        exact_slices=int(sizes[sizes > 1].sum()),
        near_slices=int((neighbours.similarity[:, :1] > threshold).sum()),
        near_pairs_across_subjects=int(across.sum()) if slices.knows_subjects else None,
    )


def _count_conflicts(slices: SliceSet, neighbours: Neighbours, copies: np.ndarray, threshold: float) -> Conflicts:
    pairs = similar_pairs(neighbours, threshold)[0]
    labels = slices.labels[pairs]
    odd = pairs[labels[:, 0] != labels[:, 1]]
    return Conflicts(
        exact_groups=_count_groups_with_several(copies, slices.labels),
        near_pairs=len(odd),
        subjects=_count_groups_with_several(slices.subjects, slices.labels) if slices.knows_subjects else None,
        examples=tuple(_name_pair(slices, one, other) for one, other in odd[:SHOWN].tolist()),
    )


def _name_pair(slices: SliceSet, one: int, other: int) -> tuple[str, str, str, str]:
    names = [slices.class_names[slices.labels[row]] for row in (one, other)]
    return str(slices.paths[one]), names[0], str(slices.paths[other]), names[1]


def _count_groups_with_several(groups: np.ndarray, labels: np.ndarray) -> int:
    """Count the groups that hold more than one label."""
    both = np.unique(np.stack([groups, labels], axis=1), axis=0)
    return int((np.unique(both[:, 0], return_counts=True)[1] > 1).sum())


def _summarise_split(
    slices: SliceSet, split: AuditedSplit, evidence: Evidence, same: np.ndarray, near: np.ndarray
) -> SplitSummary:
    def shared(chosen: np.ndarray) -> Sharing:
        exact, close = int(same[chosen].sum()), int((near | same)[chosen].sum())
        return _count_sharing(slices, split, split.test[chosen], exact, close)

    labels = slices.labels[split.test]
    return SplitSummary(
        protocol=split.protocol,
        parts={name: len(getattr(split, name)) for name in ("train", "validation", "test")},
        shared=shared(np.full(len(labels), True)),
        classes={name: shared(labels == label) for label, name in enumerate(slices.class_names)},
        power=Power(**asdict(evidence.power)),
    )


def _count_sharing(slices: SliceSet, split: AuditedSplit, test: np.ndarray, exact: int, near: int) -> Sharing:
    known = slices.subjects != UNKNOWN
    if not known.any():
        return Sharing(test_slices=len(test), exact_copies=exact, near_copies=near)
    judged = slices.subjects[test[known[test]]]
    inside = [
        judged[np.isin(judged, slices.subjects[rows[known[rows]]])]
        for rows in (split.train, split.validation, split.learned)
    ]
    subjects = [len(np.unique(one)) for one in inside]
    return Sharing(
        test_slices=len(test),
        test_subjects=len(np.unique(judged)),
        slices_in_train=len(inside[0]),
        slices_in_validation=len(inside[1]),
        slices_in_either=len(inside[2]),
        subjects_in_train=subjects[0],
        subjects_in_validation=subjects[1],
        subjects_in_either=subjects[2],
        exact_copies=exact,
        near_copies=near,
    )


def nearest_by_subject(slices: SliceSet, neighbours: Neighbours) -> tuple[np.ndarray, np.ndarray]:
    """Return the similarity of each slice to its nearest slice, within its subject and outside it.

    Returns:
        two float32 (N,), correlation with the nearest slice of the same known subject, and of another; nan where there
        is none among the neighbours, or the subject is unknown.
    """
    subject, theirs = slices.subjects[:, None], slices.subjects[neighbours.index]
    known = (subject != UNKNOWN) & (theirs != UNKNOWN)
    found = []
    for wanted in (known & (subject == theirs), known & (subject != theirs)):
        first = (np.arange(len(slices)), wanted.argmax(axis=1))
        found.append(np.where(wanted.any(axis=1), neighbours.similarity[first], np.float32(np.nan)))
    return found[0], found[1]


def worst_pairs(slices: SliceSet, neighbours: Neighbours, split: AuditedSplit | None, count: int) -> list[Pair]:
    """Find the most similar pairs of a test and a training or validation slice, at most one for each test subject.

    Without a split, of any two slices. Slices of unknown subject count each for itself.
    """
    rows = np.arange(len(slices)) if split is None else split.test
    similarity, others = neighbours.among(rows, np.arange(len(slices)) if split is None else split.learned)
    pairs: list[Pair] = []
    seen: set[int] = set()
    for place in np.argsort(-similarity, kind="stable"):
        row, other = int(rows[place]), int(others[place])
        subject = int(slices.subjects[row])
        if len(pairs) == count:
            break
        if subject in seen:
            continue
        pairs.append(Pair(row, other, float(similarity[place])))
        seen |= {subject} - {UNKNOWN}
    return pairs
