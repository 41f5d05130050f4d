"""Which slices show one brain, from pixels alone: no names, no labels, no threshold given.

In registered slices, neighbours within a brain correlate more than any two slices of two brains. The minimum spanning
tree over 1 - correlation then holds two kinds of edges, those that link the slices of a brain and the weaker ones
between brains; the widest gap between its edges, as a ratio, tells them apart.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mriscope.audit.similarity import nearest_rows, standardised

if TYPE_CHECKING:
    from torch import Tensor

DUPLICATE = 0.001
"""1 - correlation up to which two slices are near-duplicates; neighbours in a brain lie 0.005 and more apart."""
_NEIGHBOURS = 64
_CLEAR = 0.25


@dataclass(frozen=True, eq=False)
class RecoveredSubjects:
    """Subjects found in the pixels of slices.

    Args:
        subjects: int64 (N,), from 0 in the order of their first slices; near-duplicates alone where `clear` is False.
        positions: int64 (N,), order within the subject from 0, from inferior to superior; duplicates of one slice
            follow each other.
        clear: whether a gap parts the links within subjects from those between them.
        threshold: correlation in the middle of the gap.
        within: weakest correlation that links a subject.
        between: strongest correlation of slices of two subjects.
    """

    subjects: np.ndarray
    positions: np.ndarray
    clear: bool
    threshold: float
    within: float
    between: float


def recover_subjects(images: np.ndarray, *, device: str = "cpu") -> RecoveredSubjects:
    """Group slices by brain, and order those of each brain.

    Args:
        images: uint8 (N, H, W).
        device: where to compute, as torch names it.

    Raises:
        DataError: the images are of another type or shape.
    """
    rows = standardised(images, device=device)
    pairs, distance = _links(rows)
    edges = _tree(pairs, distance, len(images))
    cut, clear = _gap(edges)
    subjects = _components(pairs[distance <= cut], len(images))
    apart = subjects[pairs[:, 0]] != subjects[pairs[:, 1]]
    within = 1 - float(edges[edges <= cut].max(initial=0))
    between = 1 - float(distance[apart].min(initial=2))
    positions = _positions(images, rows, subjects)
    return RecoveredSubjects(subjects, positions, clear, 1 - cut, within, between)


def _links(rows: "Tensor") -> tuple[np.ndarray, np.ndarray]:
    """Pairs of similar slices int64 (P, 2), and float64 (P,), 1 - their correlation."""
    similarity, index = nearest_rows(rows, None, _NEIGHBOURS)
    pairs = np.stack([np.repeat(np.arange(len(rows)), index.shape[1]), index.ravel()], axis=1)
    return pairs, 1 - similarity.ravel().astype(np.float64)


def _tree(pairs: np.ndarray, distance: np.ndarray, count: int) -> np.ndarray:
    """Edges of the minimum spanning tree, float64, rising."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import minimum_spanning_tree

    graph = csr_matrix((np.maximum(distance, 1e-9), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return np.sort(minimum_spanning_tree(graph.maximum(graph.T)).data)


def _components(pairs: np.ndarray, count: int) -> np.ndarray:
    """int64 (count,), the number of each one's group, from 0 in the order of first members."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    graph = csr_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    found = connected_components(graph, directed=False)[1]
    _, first, group = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group].astype(np.int64)


def _gap(edges: np.ndarray) -> tuple[float, bool]:
    """The distance that parts links within subjects from those between them, and whether it does so clearly."""
    edges = edges[edges > DUPLICATE]
    slices = len(edges) + 1  # distinct ones
    jumps = np.diff(np.log(edges))
    least = slices // 2  # links, so that most slices have a neighbour
    if slices < 4 or not len(jumps[least - 1 :]):
        return DUPLICATE, False
    at = least - 1 + int(jumps[least - 1 :].argmax())
    second = np.delete(jumps[least - 1 :], at - least + 1).max(initial=0)
    if jumps[at] < max(_CLEAR, 2 * second):
        return DUPLICATE, False
    return float(np.sqrt(edges[at] * edges[at + 1])), True


def _positions(images: np.ndarray, rows: "Tensor", subjects: np.ndarray) -> np.ndarray:
    positions = np.zeros(len(subjects), np.int64)
    members = np.split(np.argsort(subjects, kind="stable"), np.cumsum(np.bincount(subjects))[:-1])
    reference = max(members, key=len)
    reference = reference[_chain(rows[reference])]
    rising = 0.0
    for slices in members:
        order = slices[_chain(rows[slices])]
        order = order if _trend((rows[order] @ rows[reference].T).argmax(1).cpu().numpy()) >= 0 else order[::-1]
        rising += _trend(_brain_areas(images[order]))
        positions[order] = np.arange(len(order))
    if rising > 0:  # towards the crown the brain gets smaller
        positions = np.bincount(subjects)[subjects] - 1 - positions
    return positions


def _chain(rows: "Tensor") -> np.ndarray:
    """Order of slices along a brain by spectral seriation (Atkins et al., 1998): the Fiedler vector of similarity."""
    distance = 1 - (rows @ rows.T).double().cpu().numpy()
    if len(distance) < 3:
        return np.arange(len(distance))
    np.fill_diagonal(distance, np.inf)
    weight = np.exp(-distance / np.median(distance.min(1)).clip(1e-6))
    laplacian = np.diag(weight.sum(1)) - weight
    return np.linalg.eigh(laplacian)[1][:, 1].argsort(kind="stable")


def _trend(values: np.ndarray) -> float:
    """Whether values rise along the order: their covariance with it."""
    along = np.arange(len(values)) - (len(values) - 1) / 2
    return float(along @ values)


def _brain_areas(images: np.ndarray) -> np.ndarray:
    """Share of pixels brighter than a fifth of the brightest tenth."""
    few = images[:, ::4, ::4]
    return (few > 0.2 * np.percentile(few, 90)).mean((1, 2))
