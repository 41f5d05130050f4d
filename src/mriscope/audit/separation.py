"""Which groups of slices are proven to be different brains.

That no link was found between two groups proves nothing by itself: slices of one brain that lie far apart do not
resemble each other. Two groups are of different brains where a slice of one lies, in height, between two linked slices
of the other. If it were of that brain, it would lie nearer to both than they are to each other, and would be linked.
"""

from dataclasses import dataclass

import numpy as np

from mriscope.audit.heights import Heights

_BIN = 0.25  # steps of height
_BLOCK = 1000  # groups


@dataclass(frozen=True, eq=False)
class Separation:
    """What each group of slices covers of the brain.

    Args:
        slices: bool (G, B), where the group has slices, by height.
        covered: bool (G, B), where a slice of the same brain would have been linked to it.
    """

    slices: np.ndarray
    covered: np.ndarray

    def proven(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return which pairs of groups are of different brains, bool (len(some), len(others)).

        Args:
            some: int64 numbers of groups.
            others: int64 numbers of groups.
        """
        here, there = (self.covered[one].astype(np.float32) for one in (some, others))
        mine, theirs = (self.slices[one].astype(np.float32) for one in (some, others))
        return (here @ theirs.T > 0) | (mine @ there.T > 0)


def separate(groups: np.ndarray, heights: Heights, pairs: np.ndarray) -> Separation:
    """Find what each group covers.

    Args:
        groups: int64 (N,), from 0.
        heights: of the slices. What is covered ends by their margin before its last slice.
        pairs: int64 (L, 2), linked slices.
    """
    count = int(groups.max(initial=-1)) + 1
    known = np.isfinite(heights.values) & (heights.families >= 0)
    if not known.any() or not np.isfinite(heights.margin):
        return Separation(*np.zeros((2, count, 1), bool))
    by = int(np.ceil(heights.margin / _BIN))
    within = ((heights.values[known] - heights.values[known].min()) / _BIN).astype(int)
    places = np.full(len(known), -1)
    places[known] = within + heights.families[known] * (within.max() + 1)  # families share no bin
    width = int(places.max()) + 2
    slices = np.zeros((count, width), bool)
    slices[groups[known], places[known]] = True
    linked = pairs[known[pairs].all(axis=1)]
    low, high = np.sort(places[linked], axis=1).T
    change = np.zeros((count, width + 1), np.int32)  # a link covers the bins from its lower slice to its upper one
    np.add.at(change, (groups[linked[:, 0]], low), 1)
    np.add.at(change, (groups[linked[:, 0]], high), -1)
    covered = change[:, :-1].cumsum(axis=1) > 0
    return Separation(slices, _shrunk(covered, by))


def blocks(numbers: np.ndarray) -> list[np.ndarray]:
    """Split numbers of groups, so that memory for `Separation.proven` stays small."""
    return np.array_split(numbers, len(numbers) // _BLOCK + 1)


def _shrunk(covered: np.ndarray, by: int) -> np.ndarray:
    """Keep what is covered on both sides as far as `by` bins."""
    out = np.pad(covered, ((0, 0), (by, by)))
    total = np.pad(out.cumsum(axis=1, dtype=np.int32), ((0, 0), (1, 0)))
    window = 2 * by + 1
    return total[:, window:] - total[:, :-window] == window
