"""Which groups of slices are proven to be different brains.

That no link was found between two groups proves nothing by itself: slices of one brain that lie far apart do not
resemble each other. Two groups are of different brains where a slice of one lies, in height, between two linked slices
of the other. If it were of that brain, it would lie nearer to both than they are to each other, and would be linked.
"""

from dataclasses import dataclass

import numpy as np

_BIN = 0.25  # steps of height
_COMMON = 2  # reference groups that two groups both lie beside, if their heights are to be compared


@dataclass(frozen=True, eq=False)
class Separation:
    """What each group of slices covers of the brain.

    Args:
        slices: bool (G, B), where the group has slices, by height.
        covered: bool (G, B), where a slice of the same brain would have been linked to it.
        beside: bool (G, R), beside which reference groups it lies.
    """

    slices: np.ndarray
    covered: np.ndarray
    beside: np.ndarray

    def proven(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return which pairs of groups are of different brains, bool (len(some), len(others)).

        Args:
            some: int64 numbers of groups.
            others: int64 numbers of groups.
        """
        here, there = (self.covered[one].astype(np.float32) for one in (some, others))
        mine, theirs = (self.slices[one].astype(np.float32) for one in (some, others))
        common = self.beside[some].astype(np.float32) @ self.beside[others].astype(np.float32).T
        return ((here @ theirs.T > 0) | (mine @ there.T > 0)) & (common >= _COMMON)


def separate(
    groups: np.ndarray, heights: np.ndarray, pairs: np.ndarray, margin: float, beside: np.ndarray | None = None
) -> Separation:
    """Find what each group covers.

    Args:
        groups: int64 (N,), from 0.
        heights: float64 (N,), in steps between slices; nan where unknown.
        pairs: int64 (L, 2), linked slices.
        margin: how far heights within a brain may be out of order; what is covered ends so far before its last slice.
        beside: bool (N, R), beside which reference groups the group of each slice lies; None: beside the same ones.
    """
    count = int(groups.max(initial=-1)) + 1
    known = np.isfinite(heights)
    if not known.any() or not np.isfinite(margin):
        return Separation(*np.zeros((3, count, 1), bool))
    places = np.full(len(heights), -1)
    places[known] = ((heights[known] - heights[known].min()) / _BIN).astype(int)
    width = int(places.max()) + 2
    slices = np.zeros((count, width), bool)
    slices[groups[known], places[known]] = True
    linked = pairs[known[pairs].all(axis=1)]
    low, high = np.sort(places[linked], axis=1).T
    change = np.zeros((count, width + 1), np.int32)  # a link covers the bins from its lower slice to its upper one
    np.add.at(change, (groups[linked[:, 0]], low), 1)
    np.add.at(change, (groups[linked[:, 0]], high), -1)
    covered = change[:, :-1].cumsum(axis=1) > 0
    near = np.full((count, _COMMON), beside is None)
    if beside is not None:
        near = np.zeros((count, beside.shape[1]), bool)
        np.logical_or.at(near, groups, beside)
    return Separation(slices, _shrunk(covered, int(np.ceil(margin / _BIN))), near)


def _shrunk(covered: np.ndarray, by: int) -> np.ndarray:
    """What is covered on both sides as far as `by` bins."""
    out = np.pad(covered, ((0, 0), (by, by)))
    total = np.pad(out.cumsum(axis=1, dtype=np.int32), ((0, 0), (1, 0)))
    window = 2 * by + 1
    return total[:, window:] - total[:, :-window] == window
