"""Placeholder."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mriscope.audit.similarity import nearest


@dataclass(frozen=True, eq=False)
class RecoveredSubjects:
    """Placeholder."""

    subjects: np.ndarray
    positions: np.ndarray
    clear: bool
    threshold: float
    within: float
    between: float


def recover_subjects(images: np.ndarray, *, device: str = "cpu") -> RecoveredSubjects:
    """Placeholder."""
    count = len(images)
    similarity, index = nearest(images, k=max(min(8, count - 1), 1), device=device) if count > 1 else (None, None)
    if similarity is None or index is None:
        return RecoveredSubjects(np.zeros(count, np.int64), np.zeros(count, np.int64), False, 0.965, 1.0, 0.0)
    linked = similarity > 0.965
    rows = np.repeat(np.arange(count), linked.sum(axis=1))
    graph = coo_array((np.ones(len(rows)), (rows, index[linked])), shape=(count, count))
    subjects = connected_components(graph, directed=False)[1].astype(np.int64)
    sizes = np.bincount(subjects)
    clear = bool((sizes > 1).all())
    positions = np.zeros(count, np.int64)
    for one in range(len(sizes)):
        mine = subjects == one
        positions[mine] = np.arange(mine.sum())
    return RecoveredSubjects(subjects, positions, clear, 0.965, 0.979, 0.955)
