"""Which slices show one brain beyond doubt: links, and the level that no two brains reach.

Slices are compared after whitening. In the public set, neighbours within a brain then correlate at 0.74 or more, and
slices of two brains at 0.31 at most. The level between them is not looked for as a gap, which missing slices would
fill: it is taken from slices that cannot be of one brain, as false discoveries are counted in proteomics (target and
decoy; Elias and Gygi, 2007). A slice mirrored left to right is a brain like any other, but of nobody in the set. What
the best of these decoys reaches follows a Gumbel distribution, and the level is where one false link is to be expected
in a hundred sets of this size.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mriscope.audit.similarity import fit_whitening, nearest_rows, neighbours, standardised

if TYPE_CHECKING:
    from torch import Tensor

FALSE_LINKS = 0.01
"""False links to be expected in the whole of a set."""
FEWEST = 16  # slices; of fewer, whitening leaves nothing to compare
_NEIGHBOURS = 64
_DECOYS = 4096  # mirrored slices; more of them make the level no surer
_SURE = 0.75  # correlation of slices that are put together before the decoys are judged
_RANK = 3  # the best and second best may be the slice's own brain, where the set holds it mirrored or in pieces
_SCATTER = 1e-6
_UNLIKE = 1.5  # ratio of the levels from decoys and from other brains, from which on decoys are not like other brains


@dataclass(frozen=True, eq=False)
class Links:
    """Slices that show one brain.

    Args:
        pairs: int64 (L, 2), which slices; each pair in one order or in both.
        groups: int64 (N,), equal for slices that links connect, from 0 in the order of their first slices.
        level: whitened correlation from which on two slices are linked; inf where there are none to compare with.
        weakest: the least correlation in which a slice of a group is linked to another; nan without links.
        strongest: the highest correlation of slices of two groups; nan without any.
    """

    pairs: np.ndarray
    groups: np.ndarray
    level: float
    weakest: float
    strongest: float


def link_slices(images: np.ndarray, rows: "Tensor", *, device: str = "cpu") -> Links:
    """Link slices of one brain.

    Args:
        images: uint8 (N, H, W).
        rows: `standardised` of them.
        device: where to compute, as torch names it.
    """
    shown = np.flatnonzero((rows.norm(dim=1) > 0).cpu().numpy())
    equal = _equal(rows, shown)
    if len(shown) - len(equal) < FEWEST:
        return Links(equal, connected(equal, len(rows)), np.inf, np.nan, np.nan)
    whitening = fit_whitening(rows[rows.norm(dim=1) > 0])
    white = whitening(rows)
    similarity, index = neighbours(white, _NEIGHBOURS)
    chosen = shown[:: -(-len(rows) // _DECOYS)]
    mirrored = whitening(standardised(np.ascontiguousarray(images[chosen, :, ::-1]), device=device))
    decoys, decoy_index = nearest_rows(mirrored, white, _NEIGHBOURS, same=False)
    level = _level(similarity, index, decoys, decoy_index, chosen)
    found = [_pairs(similarity, index, level, np.arange(len(rows))), equal]
    if np.isfinite(level):  # a decoy that is nearly equal to a slice is no decoy: the set holds that brain mirrored
        found.append(_pairs(decoys, decoy_index, max(level, _SURE), chosen))
    pairs = np.concatenate(found)
    groups = connected(pairs, len(rows))
    apart = groups[index] != groups[:, None]
    linked = similarity[:, 0][similarity[:, 0] >= level]
    others = similarity[apart & np.isfinite(similarity)]
    return Links(pairs, groups, level, float(linked.min(initial=np.inf)) if len(linked) else np.nan, _highest(others))


def _level(
    similarity: np.ndarray, index: np.ndarray, decoys: np.ndarray, decoy_index: np.ndarray, chosen: np.ndarray
) -> float:
    """Return the correlation that links: from decoys, or from other brains where these are more alike than decoys."""
    count, everyone = len(similarity), np.arange(len(similarity))
    sure = [_pairs(similarity, index, _SURE, everyone), _pairs(decoys, decoy_index, _SURE, chosen)]
    groups = connected(np.concatenate(sure), count)
    level = np.inf
    for _ in range(2):
        level = gumbel_level(ranked_groups(decoys, decoy_index, groups, groups[chosen]), _RANK, count, FALSE_LINKS)
        groups = connected(_pairs(similarity, index, level, everyone), count)
    rank = _RANK + 2  # other pieces of the same brain, in a set with missing slices, take the first ranks
    others = gumbel_level(ranked_groups(similarity, index, groups, groups, rank), rank, count, FALSE_LINKS)
    same_rank = gumbel_level(ranked_groups(decoys, decoy_index, groups, groups[chosen], rank), rank, count, FALSE_LINKS)
    return max(level, others) if others > _UNLIKE * same_rank else level


def ranked_groups(
    similarity: np.ndarray, index: np.ndarray, groups: np.ndarray, own: np.ndarray, rank: int = _RANK
) -> np.ndarray:
    """Return each slice's correlation with the other group that is its first, second, … or `rank`-th nearest.

    Args:
        similarity: float32 (R, k), from the highest.
        index: int64 (R, k), which slices these are with.
        groups: int64 (N,), of all slices.
        own: int64 (R,), the group that does not count.
        rank: from 1.

    Returns:
        float64, of the slices that have so many other groups among their neighbours.
    """
    theirs, best = groups[index], similarity.astype(np.float64)
    open_, row = (theirs != own[:, None]) & np.isfinite(best), np.arange(len(best))
    for _ in range(rank - 1):
        taken = theirs[row, np.where(open_, best, -np.inf).argmax(axis=1)]
        open_ &= theirs != taken[:, None]
    return np.where(open_, best, -np.inf).max(axis=1)[open_.any(axis=1)]


def gumbel_level(values: np.ndarray, rank: int, count: int, expected: float) -> float:
    """Return the level that the best of many reach `expected` times in `count` draws, from what the rank-th reach.

    The highest of many values follows a Gumbel distribution, and its moments follow from those of any lower rank; the
    best themselves may not be what they are taken for.

    Args:
        values: float64, the rank-th highest of each draw.
        rank: from 1.
        count: draws for which the level holds.
        expected: how many of these may reach it, in the mean.
    """
    if len(values) < FEWEST:
        return np.inf
    places = np.arange(1, rank)
    if values.std() < _SCATTER:  # decoys that are all alike are no brains
        return np.inf
    scale = float(values.std() / np.sqrt(np.pi**2 / 6 - (1 / places**2).sum()))
    location = float(values.mean() - scale * (np.euler_gamma - (1 / places).sum()))
    return location + scale * float(np.log(count / expected))


def connected(pairs: np.ndarray, count: int) -> np.ndarray:
    """Return int64 (count,), the number of each one's connected group, from 0 in the order of first members."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    graph = csr_matrix((np.ones(len(pairs), np.bool_), pairs.T), shape=(count, count))
    found = connected_components(graph, directed=False)[1]
    _, first, group = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group].astype(np.int64)


def _equal(rows: "Tensor", shown: np.ndarray) -> np.ndarray:
    """Return pairs of slices that are the same, int64 (P, 2), each with the first of its kind."""
    digests = np.array([hash(row.tobytes()) for row in rows.cpu().numpy()[shown]])
    _, first, kind = np.unique(digests, return_index=True, return_inverse=True)
    pairs = np.stack([shown, shown[first[kind]]], axis=1)
    return pairs[pairs[:, 0] != pairs[:, 1]]


def _pairs(similarity: np.ndarray, index: np.ndarray, level: float, rows: np.ndarray) -> np.ndarray:
    row, place = np.nonzero(similarity >= level)
    return np.stack([rows[row], index[row, place]], axis=1)


def _highest(values: np.ndarray) -> float:
    return float(values.max()) if len(values) else float("nan")
