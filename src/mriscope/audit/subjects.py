"""Which slices show one brain, from pixels alone: no names, no labels, no threshold given.

Slices of a brain are linked (`linking`), put on one scale of height (`heights`), and pieces that missing slices have
parted are joined (`joining`). What results are groups; those that are proven to be different brains (`separation`) are
subjects. Every other slice keeps its doubt: it may be of a subject, of another group, or of a brain of its own.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mriscope.audit.heights import Heights, measure_heights, seriate, trend
from mriscope.audit.joining import join_pieces
from mriscope.audit.linking import link_slices
from mriscope.audit.separation import Separation, blocks, separate
from mriscope.audit.similarity import standardised

if TYPE_CHECKING:
    from torch import Tensor

UNKNOWN = -1
RECOVERY_VERSION = 4
"""Of the method: raise it with every change in similarity, linking, heights, joining, separation or here that may give
any set other subjects, positions, groups or heights. Subjects that were found by another version are found anew."""


@dataclass(frozen=True, eq=False)
class RecoveredSubjects:
    """Subjects found in the pixels of slices.

    Args:
        subjects: int64 (N,), from 0 in the order of their first slices; -1 for a slice whose subject is in doubt.
        positions: int64 (N,), order within the subject from 0, from inferior to superior as far as pixels tell; -1 for
            a slice in doubt.
        groups: int64 (N,), slices that are of one brain as far as can be told, also where the group may be a piece of a
            brain of which another group is another piece; a slice that links to none is a group of its own.
        proven: int64 (N,), the same from links and joins beyond doubt alone, so that a leak may follow from them.
        heights: float64 (N,), in steps between neighbouring slices; nan where unknown.
        margin: how far heights within a brain may be out of order, in steps.
        families: int64 (N,), of slices whose heights can be compared; see Heights.
        pairs: int64 (L, 2), linked slices.
        level: whitened correlation from which on two slices are linked; inf where nothing tells.
        weakest: the least correlation in which a linked slice is linked to another; nan without links.
        strongest: the highest correlation of slices of two groups that are not linked; nan without any.
    """

    subjects: np.ndarray
    positions: np.ndarray
    groups: np.ndarray
    proven: np.ndarray
    heights: np.ndarray
    margin: float
    families: np.ndarray
    pairs: np.ndarray
    level: float
    weakest: float
    strongest: float

    @property
    def known(self) -> np.ndarray:
        """Return which slices have a subject, bool (N,)."""
        return self.subjects != UNKNOWN

    @property
    def clear(self) -> bool:
        """Return whether every slice has a subject."""
        return len(self.subjects) > 0 and bool(self.known.all())

    def separation(self, groups: np.ndarray) -> Separation:
        """Return what each of some groups covers of the brain, for whether two are of different brains."""
        return separate(groups, Heights(self.heights, self.margin, self.families), self.pairs)


def recover_subjects(images: np.ndarray, *, device: str = "cpu") -> RecoveredSubjects:
    """Group slices by brain, and order those of each brain.

    Args:
        images: uint8 (N, H, W), of one size.
        device: where to compute, as torch names it.

    Raises:
        DataError: the images are of another type or shape.

    Example:
        >>> import mriscope
        >>> slices = mriscope.read("phantom:subjects=24,slices=32")
        >>> found = recover_subjects(slices.images)
        >>> found.clear, int(found.subjects.max()) + 1
        (True, 24)
    """
    rows = standardised(images, device=device)
    links = link_slices(images, rows, device=device)
    areas = _brain_areas(images)
    heights = measure_heights(images, rows, links.groups, areas)
    proven = join_pieces(rows, links.groups, links.pairs, heights, proven=True)
    groups = join_pieces(rows, proven, links.pairs, heights, proven=False)
    subjects = _different_brains(groups, separate(groups, heights, links.pairs))
    positions = _positions(rows, subjects, heights, areas)
    return RecoveredSubjects(
        subjects=subjects,
        positions=positions,
        groups=groups,
        proven=proven,
        heights=heights.values,
        margin=heights.margin,
        families=heights.families,
        pairs=links.pairs,
        level=links.level,
        weakest=links.weakest,
        strongest=links.strongest,
    )


def _different_brains(groups: np.ndarray, separation: Separation) -> np.ndarray:
    """Label the groups that are proven to be of different brains, the largest first; -1 for slices of the others."""
    sizes = np.bincount(groups)
    several = np.flatnonzero(sizes >= 2)
    apart = np.concatenate([separation.proven(some, several) for some in blocks(several)])
    possible, kept = np.ones(len(several), bool), np.zeros(len(sizes), bool)
    for place in np.argsort(-sizes[several], kind="stable"):
        if possible[place]:
            kept[several[place]] = True
            possible &= apart[place]
    subjects = np.where(kept[groups], groups, UNKNOWN)
    numbers = np.unique(subjects[subjects != UNKNOWN])
    return np.where(subjects == UNKNOWN, UNKNOWN, np.searchsorted(numbers, subjects)).astype(np.int64)


def _positions(rows: "Tensor", subjects: np.ndarray, heights: Heights, areas: np.ndarray) -> np.ndarray:
    """Order of the slices within each subject by their likeness, upwards as heights tell, else as brain areas do."""
    positions = np.full(len(subjects), UNKNOWN, np.int64)
    upwards = heights.values if np.isfinite(heights.values).all() else -areas
    members = np.split(np.argsort(subjects, kind="stable"), np.flatnonzero(np.diff(np.sort(subjects))) + 1)
    for order in seriate(rows, [one for one in members if len(one) and subjects[one[0]] != UNKNOWN]):
        positions[order if trend(upwards[order]) >= 0 else order[::-1]] = np.arange(len(order))
    return positions


def _brain_areas(images: np.ndarray) -> np.ndarray:
    """Compute the share of each slice that is brighter than a fifth of the bright tenth of all pixels; float64 (N,)."""
    few = np.asarray(images)[:, ::4, ::4]
    if not len(few):
        return np.empty(0)
    bright = np.percentile(few[:: max(1, len(few) // 1000)], 90)
    return np.array([(one > 0.2 * bright).mean() for one in few])
