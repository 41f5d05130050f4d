"""Whether a split shares brains between its parts: what is proven, what is excluded, and what nobody can tell.

Leaky needs proof of one shared brain or copy. Not leaky needs power: a shared brain must be one that would have been
seen. What lies between is doubt, and is said as such, slice by slice.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mriscope.audit.copies import Copies, find_copies
from mriscope.audit.linking import connected
from mriscope.audit.subjects import UNKNOWN, RecoveredSubjects

SEARCHED = 3000
"""Test slices for which altered copies are looked for; of more, these are drawn from as many brains as there are."""
_CHANCE = 1e-4  # probability that so many certain origins are found where none is


@dataclass(frozen=True, eq=False)
class CopySearch:
    """What a search for altered copies found.

    Args:
        queries: int64 (Q,), rows that were looked for.
        references: int64 (R,), rows where they were looked for.
        copies: what was found; origins are places in `references`.
        proven: whether more origins are certain than chance gives.
    """

    queries: np.ndarray
    references: np.ndarray
    copies: Copies
    proven: bool

    @property
    def pairs(self) -> np.ndarray:
        """Return the slices found to be of one brain, int64 (P, 2): a query and its origin."""
        found = self.copies.certain
        return np.stack([self.queries[found], self.references[self.copies.origin[found]]], axis=1)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of each test slice.

    Args:
        shared: bool (T,), its brain, or a copy of it, is proven to be in the training or validation part.
        settled: bool (T,), its brain is proven not to be there.
        altered: bool (T,), it is an altered copy of a slice there, or shows the brain of one.
        searched: slices for which altered copies were looked for.
    """

    shared: np.ndarray
    settled: np.ndarray
    altered: np.ndarray
    searched: int

    @property
    def power(self) -> "Power":
        """Return the evidence in numbers."""
        open_ = ~self.shared & ~self.settled
        counts = (int(one.sum()) for one in (self.shared, self.settled, open_, self.altered))
        return Power(*counts, searched=self.searched)


@dataclass(frozen=True)
class Power:
    """What can be said of the slices of a test part; the first three numbers add up to all of them.

    Args:
        shared: slices whose brain, or a copy of them, is proven to be in the training or validation part.
        settled: slices whose brain is proven not to be there.
        open: slices of which neither can be told.
        altered: slices that are altered copies of slices there, or show the brain of an altered one.
        searched: slices for which altered copies were looked for.
    """

    shared: int
    settled: int
    open: int
    altered: int
    searched: int

    @property
    def leaky(self) -> bool | None:
        """Return whether brains are shared; None where it cannot be told."""
        return True if self.shared else None if self.open else False


def search_copies(
    images: np.ndarray,
    queries: np.ndarray,
    references: np.ndarray,
    *,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> CopySearch:
    """Look for the slices that some slices were made from.

    Args:
        images: uint8 (N, H, W).
        queries: int64 (Q,), rows to look for.
        references: int64 (R,), rows where to look; none of the queries.
        device: where to compute, as torch names it.
        progress: called with the queries that are done and Q.
    """
    from scipy.stats import binom

    found = find_copies(images[queries], images, among=references, device=device, progress=progress)
    rate = found.false_rate if np.isfinite(found.false_rate) else 1.0
    chance = float(binom.sf(int(found.certain.sum()) - 1, len(queries), rate)) if found.certain.any() else 1.0
    return CopySearch(queries, references, found, chance < _CHANCE)


def with_copies(found: RecoveredSubjects, search: CopySearch) -> RecoveredSubjects:
    """Put altered copies with the brain of their origin.

    Args:
        found: subjects as links tell.
        search: for copies among the same slices.
    """
    if not search.proven or not len(search.pairs):
        return found
    merged = [_merged(groups, search.pairs) for groups in (found.groups, found.proven)]
    subjects, positions = found.subjects.copy(), found.positions.copy()
    copy, origin = search.pairs.T
    lonely = subjects[copy] < 0
    subjects[copy[lonely]], positions[copy[lonely]] = subjects[origin[lonely]], positions[origin[lonely]]
    return replace(found, groups=merged[0], proven=merged[1], subjects=subjects, positions=positions)


def choose_queries(groups: np.ndarray, rows: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the rows to look for: all, or SEARCHED of them from as many groups as possible, int64.

    Args:
        groups: int64 (N,), brains as far as they can be told.
        rows: int64 (R,), rows that may be chosen.
        seed: of the draw.
    """
    if len(rows) <= SEARCHED:
        return rows
    shuffled = np.random.default_rng(seed).permutation(rows)
    order = np.argsort(groups[shuffled], kind="stable")
    ranked = groups[shuffled][order]
    turn = np.arange(len(ranked)) - np.searchsorted(ranked, ranked)  # of each group the first, then the second, …
    return np.sort(shuffled[order][np.argsort(turn, kind="stable")[:SEARCHED]])


def proven_shared(brains: np.ndarray, test: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """Return which test slices are of a brain that the other parts hold too, bool (T,)."""
    return np.isin(brains[test], brains[learned])


def settle(found: RecoveredSubjects, test: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """Return which test slices are proven to be of none of the brains of the other parts, bool (T,).

    Args:
        found: the groups, and what they cover.
        test: int64 (T,), rows.
        learned: int64, rows of the training and validation part.
    """
    separation = found.separation(found.groups)
    there = np.unique(found.groups[learned])
    here, place = np.unique(found.groups[test], return_inverse=True)
    blocks = np.array_split(here, len(here) // 500 + 1)
    apart = [(separation.proven(one, there) & (one[:, None] != there)).all(axis=1) for one in blocks]
    return np.concatenate(apart)[place]


def weigh(
    subjects: np.ndarray | None,
    found: RecoveredSubjects,
    search: CopySearch | None,
    test: np.ndarray,
    learned: np.ndarray,
    copied: np.ndarray,
) -> Evidence:
    """Weigh what is known of each test slice.

    Args:
        subjects: int64 (N,), as someone named them, -1 where unknown; None where nobody did.
        found: subjects as pixels tell.
        search: for altered copies of the test slices; None where none was made.
        test: int64 (T,), rows.
        learned: int64, rows of the training and validation part.
        copied: bool (T,), test slices that have an exact or near copy there.
    """
    altered = np.zeros(len(test), bool)
    if search is not None and search.proven:
        altered = np.isin(test, search.pairs[:, 0])
    shared = copied | altered | proven_shared(found.proven, test, learned)
    settled = np.zeros(len(test), bool)
    if subjects is not None:
        there = subjects[learned]
        shared |= (subjects[test] != UNKNOWN) & np.isin(subjects[test], there)
        settled = np.full(len(test), bool((there != UNKNOWN).all())) & (subjects[test] != UNKNOWN)
    doubtful = np.bincount(found.groups)[found.groups[test]] == 1  # altered slices link to none, and are of some brain
    if search is not None:
        doubtful |= np.isin(test, search.pairs[:, 0])
    settled = ~shared & (settled | (settle(found, test, learned) & ~doubtful))
    return Evidence(shared, settled, altered, 0 if search is None else len(search.queries))


def _merged(groups: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return connected(groups[pairs], int(groups.max()) + 1)[groups]
