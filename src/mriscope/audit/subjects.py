"""Which slices show one brain, from pixels alone: no names, no labels, no threshold given.

In registered slices, neighbours within a brain correlate more than any two slices of two brains. The minimum spanning
tree over 1 - correlation then holds two kinds of links, those along each brain and the longer ones between brains
(single linkage; Gower & Ross, 1969), and the widest gap between them, as a ratio, tells them apart. The weakest link of
a brain is what counts, so a brain that lacks slices in between may leave no gap.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mriscope.audit.similarity import neighbours, standardised, whitened

if TYPE_CHECKING:
    from torch import Tensor

DUPLICATE = 0.001
"""1 - correlation up to which two slices count as near-duplicates of each other."""
_NEIGHBOURS, _MOST_NEIGHBOURS = 64, 1024
_FEWEST = 16  # distinct slices; of fewer, any gap may be chance
_WIDE, _WIDER_FOR_FEW = 0.5, 1.0  # natural logarithm of the ratio across a clear gap, and what few groups add to it


@dataclass(frozen=True, eq=False)
class RecoveredSubjects:
    """Subjects found in the pixels of slices.

    Args:
        subjects: int64 (N,), from 0 in the order of their first slices; near-duplicates alone where `clear` is False.
        positions: int64 (N,), order within the subject from 0, from inferior to superior as far as pixels tell.
        clear: whether a gap parts the links within subjects from those between them.
        threshold: correlation in the middle of the gap.
        within: weakest correlation that links a subject.
        between: strongest correlation of slices of two subjects.
        measure: "pixels" or "whitened", what the correlations are of.
    """

    subjects: np.ndarray
    positions: np.ndarray
    clear: bool
    threshold: float
    within: float
    between: float
    measure: str = "pixels"


@dataclass(frozen=True, eq=False)
class _Tree:
    """Links of the minimum spanning tree over groups of near-duplicates, from the shortest; 1 - correlation each."""

    ends: np.ndarray  # int64 (L, 2)
    lengths: np.ndarray  # float64 (L,)
    count: int  # groups


def recover_subjects(images: np.ndarray, *, device: str = "cpu") -> RecoveredSubjects:
    """Group slices by brain, and order those of each brain.

    Pixels are correlated as they are; where that leaves no clear gap and there are at least 1,000 slices, they are
    correlated after whitening. Slices whose subject cannot be told stay apart, but for near-duplicates.

    Args:
        images: uint8 (N, H, W), of one size.
        device: where to compute, as torch names it.

    Raises:
        DataError: the images are of another type or shape.
    """
    rows = standardised(images, device=device)
    pairs, distance = _connected(rows)
    copies = _components(pairs[distance <= DUPLICATE], len(rows))
    tree, measure = _tree(pairs, distance, copies), "pixels"
    cut = _gap(tree)
    if cut is None and (other := whitened(rows)) is not None:
        found = _tree(*_connected(other), copies)
        if (cut := _gap(found)) is not None:
            tree, measure = found, "whitened"
    kept = 0 if cut is None else cut
    subjects = _components(tree.ends[:kept], tree.count)[copies]
    within, between = 1 - tree.lengths[kept - 1] if kept else 1 - DUPLICATE, 1 - tree.lengths[kept : kept + 1].sum()
    threshold = 1 - float(np.sqrt((1 - within) * (1 - between))) if kept else 1 - DUPLICATE
    positions = _positions(images, rows, subjects)
    return RecoveredSubjects(subjects, positions, cut is not None, threshold, float(within), float(between), measure)


def _connected(rows: "Tensor") -> tuple[np.ndarray, np.ndarray]:
    """Pairs of near rows and 1 - their correlation, so many that they connect all rows where that is possible."""
    k = _NEIGHBOURS
    pairs, distance = neighbours(rows, k)
    while k < min(len(rows) - 1, _MOST_NEIGHBOURS) and _components(pairs, len(rows)).any():
        k *= 4
        pairs, distance = neighbours(rows, k)
    return pairs, distance


def _tree(pairs: np.ndarray, distance: np.ndarray, copies: np.ndarray) -> _Tree:
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import minimum_spanning_tree

    count = int(copies.max(initial=-1)) + 1
    ends = np.sort(copies[pairs], axis=1)
    apart = ends[:, 0] != ends[:, 1]
    ends, distance = ends[apart], distance[apart]
    order = np.lexsort((distance, ends[:, 1], ends[:, 0]))
    ends, distance = ends[order], distance[order]
    first = np.ones(len(ends), np.bool_)  # of several distances between two groups, the shortest
    first[1:] = (ends[1:] != ends[:-1]).any(1)
    graph = csr_matrix((np.maximum(distance[first], 1e-9), ends[first].T), shape=(count, count))
    links = minimum_spanning_tree(graph).tocoo()
    rising = np.argsort(links.data, kind="stable")
    return _Tree(np.stack([links.row, links.col], axis=1)[rising].astype(np.int64), links.data[rising], count)


def _components(pairs: np.ndarray, count: int) -> np.ndarray:
    """int64 (count,), the number of each one's group, from 0 in the order of first members."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    graph = csr_matrix((np.ones(len(pairs), np.bool_), pairs.T), shape=(count, count))
    found = connected_components(graph, directed=False)[1]
    _, first, group = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group].astype(np.int64)


def _gap(tree: _Tree) -> int | None:
    """How many links lie within subjects, or None where no gap is clear.

    A gap is clear if it is wide, twice as wide as any other, leaves the average subject two slices or more, and leaves
    no subject more than half of all. Of few links some are far apart by chance, so few groups need a wider one.
    """
    least = tree.count // 2
    jumps = np.diff(np.log(tree.lengths))[max(least - 1, 0) :]
    if tree.count < _FEWEST or not len(jumps):
        return None
    kept = least + int(jumps.argmax())
    widest, second = jumps.max(), np.sort(jumps)[-2] if len(jumps) > 1 else 0.0
    groups = _components(tree.ends[:kept], tree.count)
    needed = max(_WIDE + _WIDER_FOR_FEW / np.sqrt(groups.max() + 1), 2 * second)
    return kept if widest >= needed and 2 * np.bincount(groups).max() <= tree.count else None


def _positions(images: np.ndarray, rows: "Tensor", subjects: np.ndarray) -> np.ndarray:
    """Order of slices within each subject, int64 (N,).

    A subject runs as the largest one does, whose slices its own resemble in turn, and all run so that the brain, over
    all subjects, gets smaller: above the temporal lobes it does towards the crown.
    """
    positions = np.zeros(len(subjects), np.int64)
    counts = np.bincount(subjects)
    members = np.split(np.argsort(subjects, kind="stable"), np.cumsum(counts)[:-1])
    if counts.max(initial=0) < 2:
        return positions
    largest = members[int(counts.argmax())]
    reference = rows[largest[_chain(rows[largest])]].T
    areas, rising = _brain_areas(images), 0.0
    for slices in members:
        order = slices[_chain(rows[slices])]
        order = order if _trend((rows[order] @ reference).argmax(1).cpu().numpy()) >= 0 else order[::-1]
        rising += _trend(areas[order])
        positions[order] = np.arange(len(order))
    return counts[subjects] - 1 - positions if rising > 0 else positions


def _chain(rows: "Tensor") -> np.ndarray:
    """Order of slices along a brain, by the Fiedler vector of their similarity (Atkins et al., 1998)."""
    if len(rows) < 3:
        return np.arange(len(rows))
    distance = (1 - (rows @ rows.T).double().cpu().numpy()).clip(1e-6)
    np.fill_diagonal(distance, np.inf)
    weight = np.exp(-distance / np.median(distance.min(1)))
    return np.linalg.eigh(np.diag(weight.sum(1)) - weight)[1][:, 1].argsort(kind="stable")


def _trend(values: np.ndarray) -> float:
    """Whether values rise along the order: their covariance with it."""
    return float((np.arange(len(values)) - (len(values) - 1) / 2) @ values)


def _brain_areas(images: np.ndarray) -> np.ndarray:
    """Share of each slice that is brighter than a fifth of the bright tenth of all pixels; float64 (N,)."""
    few = images[:, ::4, ::4]
    bright = np.percentile(few[:: max(1, len(few) // 1000)], 90)
    return np.array([(one > 0.2 * bright).mean() for one in few])
