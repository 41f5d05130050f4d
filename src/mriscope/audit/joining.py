"""Pieces of brains that missing slices have parted, put together again.

Slices four or more apart in a brain are no more alike, as pixels go, than slices of two brains. What is left of a
brain after taking off the mean brain at each height, and the differences that also occur within a brain (within-class
covariance normalisation; Hatch et al., 2006), tells it over a longer way. The top slice of a piece is compared with the
lowest slice of each piece that may go on from it, and its likeness is measured in standard deviations of that to the
other brains at the same height. Two pieces are joined where each is the other's best by a clear margin, also among
decoys, slices proven to be of other brains (target-decoy competition; Elias and Gygi, 2007).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mriscope.audit.heights import Heights
from mriscope.audit.linking import connected
from mriscope.audit.separation import Separation, blocks, separate

if TYPE_CHECKING:
    from torch import Tensor

PROVEN, LIKELY = 0.01, 0.02
"""False joins to be expected: in a set, where a leak is to follow from them; among the joins, where subjects do."""
_DIRECTIONS, _SLICES_PER_DIRECTION = 512, 6
_NEAREST, _FARTHEST = 2.5, 6.5  # steps between the slices whose differences are what varies within a brain
_WIDEST, _NEAR = 8, 4  # steps that a join may bridge, and up to which most are right
_FEWEST = 8  # slices at a height, of fewer none is told from the rest
_REFERENCES = 300  # slices at a height that the likeness is measured against
_ROUNDS, _RIDGE, _LEAST, _CLEAR = 8, 1e-2, 2.0, 0.5


def join_pieces(
    rows: "Tensor", groups: np.ndarray, pairs: np.ndarray, heights: Heights, *, proven: bool, seed: int = 0
) -> np.ndarray:
    """Join groups that are pieces of one brain.

    Args:
        rows: float32 (N, D), `standardised` slices.
        groups: int64 (N,), slices that are linked.
        pairs: int64 (L, 2), the links.
        heights: of the slices.
        proven: whether to join only what would be right even if no piece had another of its brain in the set.
        seed: of the choice of decoys.

    Returns:
        int64 (N,), the groups after joining, from 0 in the order of their first slices.
    """
    if not len(groups):
        return groups
    made = np.zeros((2, 2))
    for attempt in range(_ROUNDS):
        separation = separate(groups, heights, pairs)
        ends = _ends(groups, heights.values, separation)
        if ends is None:
            break
        features = _persistent(rows, groups, heights.values)
        if features is None:
            break
        found = _compare(features, ends, separation, groups, np.random.default_rng([seed, attempt]))
        accepted = _accepted(found, proven, made)
        if not len(accepted):
            break
        groups = connected(accepted, int(groups.max()) + 1)[groups]
    return groups


@dataclass(frozen=True, eq=False)
class _Ends:
    """Slices by height, and the top and lowest slices of the groups that may be pieces."""

    at: list[np.ndarray]  # rows of the slices of each bin of height
    tops: list[np.ndarray]
    lows: list[np.ndarray]


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Comparisons of a lower and an upper piece, by number of their groups; -1 stands for a decoy."""

    steps: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    likeness: np.ndarray


def _ends(groups: np.ndarray, heights: np.ndarray, separation: Separation) -> _Ends | None:
    """Return None where every group is proven to be another brain than every other."""
    if not np.isfinite(heights).all():
        return None
    everyone = np.arange(int(groups.max()) + 1)
    open_ = np.concatenate([(~separation.proven(some, everyone)).sum(axis=1) > 1 for some in blocks(everyone)])
    if not open_.any():
        return None
    order = np.lexsort((heights, groups))
    first = np.flatnonzero(np.diff(groups[order], prepend=-1))
    lows, tops = order[first], order[np.append(first[1:], len(order)) - 1]
    bins = np.round(heights - heights.min()).astype(int)

    def by_bin(slices: np.ndarray) -> list[np.ndarray]:
        return [slices[bins[slices] == one] for one in range(bins.max() + 1)]

    return _Ends(by_bin(np.arange(len(groups))), by_bin(tops[open_]), by_bin(lows[open_]))


def _persistent(rows: "Tensor", groups: np.ndarray, heights: np.ndarray) -> "np.ndarray | None":
    """Compute features that persist over several steps of height, float32 (N, K), unit length; None if too few do."""
    import torch

    from mriscope.audit.similarity import unit

    kept = min(_DIRECTIONS, len(rows) // _SLICES_PER_DIRECTION, rows.shape[1])
    centred = rows - rows.mean(0)
    features = centred @ torch.linalg.eigh((centred.T @ centred).double())[1][:, -kept:].to(rows.dtype)
    bins = torch.from_numpy(np.round(heights - heights.min()).astype(np.int64))
    sums = torch.zeros(int(bins.max()) + 3, kept).index_add_(0, bins + 1, features.cpu())
    counts = torch.zeros(len(sums)).index_add_(0, bins + 1, torch.ones(len(rows)))
    means = (sums[:-2] + sums[1:-1] + sums[2:]) / (counts[:-2] + counts[1:-1] + counts[2:]).clamp_min(1)[:, None]
    features = features.cpu() - means[bins]
    order = np.lexsort((heights, groups))
    spread, count = torch.zeros(kept, kept, dtype=torch.float64), 0
    for lag in range(2, 7):
        one, other = order[:-lag], order[lag:]
        apart = heights[other] - heights[one]
        far = (groups[one] == groups[other]) & (apart >= _NEAREST) & (apart <= _FARTHEST)
        steps = features[other[far]] - features[one[far]]
        spread, count = spread + (steps.T @ steps).double(), count + len(steps)
    if count < kept:
        return None
    spread += _RIDGE * spread.trace() / kept * torch.eye(kept, dtype=torch.float64)
    variance, directions = torch.linalg.eigh(spread)
    return unit(features @ (directions / variance.sqrt() * count**0.5).to(rows.dtype)).numpy()


def _compare(
    features: np.ndarray, ends: _Ends, separation: Separation, groups: np.ndarray, random: np.random.Generator
) -> _Candidates:
    """Compare the top of each piece with the lowest slice of those that may go on from it, and both with decoys."""
    found: list[tuple[np.ndarray, ...]] = []
    for place, tops in enumerate(ends.tops):
        for other in range(max(place - 1, 0), min(place + _WIDEST + 1, len(ends.at))):
            lows = ends.lows[other]
            here, there = (_some(ends.at[bin_], random) for bin_ in (place, other))
            if not len(tops) or not len(lows) or min(len(here), len(there)) < _FEWEST:
                continue
            upper, lower = np.concatenate([lows, there]), np.concatenate([tops, here])
            likeness = _standardised(features, lower, upper, here, there)
            n, m = len(tops), len(lows)
            apart = separation.proven(groups[lower], groups[upper])
            same = groups[lower][:, None] == groups[upper]
            one, two = np.nonzero(~apart[:n, :m] & ~same[:n, :m])
            pairs = groups[tops[one]], groups[lows[two]], likeness[one, two]
            apart &= ~same
            row, column = _decoys(apart[:n, m:], np.bincount(one, minlength=n), random)
            below = groups[tops[row]], np.full(len(row), -1), likeness[row, m + column]
            row, column = _decoys(apart[n:, :m].T, np.bincount(two, minlength=m), random)
            above = np.full(len(row), -1), groups[lows[row]], likeness[n + column, row]
            found += [(np.full(len(some[0]), other - place), *some) for some in (pairs, below, above)]
    columns = [np.concatenate(one) for one in zip(*found, strict=True)] if found else [np.empty(0)] * 4
    steps, lower, upper = (one.astype(int) for one in columns[:3])
    return _Candidates(steps, lower, upper, columns[3])


def _some(slices: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return slices if len(slices) <= _REFERENCES else random.choice(slices, _REFERENCES, replace=False)


def _standardised(
    features: np.ndarray, lower: np.ndarray, upper: np.ndarray, here: np.ndarray, there: np.ndarray
) -> np.ndarray:
    """Express likeness in standard deviations of that to all brains at the other's height, the mean of both sides."""
    value = features[lower] @ features[upper].T
    sides = features[lower] @ features[there].T, (features[here] @ features[upper].T).T
    levels = [np.median(one, axis=1) for one in sides]
    spreads = [
        1.4826 * np.median(np.abs(one - level[:, None]), axis=1) for one, level in zip(sides, levels, strict=True)
    ]
    first, second = ((level, spread + 1e-6) for level, spread in zip(levels, spreads, strict=True))
    return ((value - first[0][:, None]) / first[1][:, None] + (value - second[0]) / second[1]) / 2


def _decoys(apart: np.ndarray, counts: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw for each piece as many slices of other brains as it has candidates, or all if there are fewer.

    Args:
        apart: bool (P, S), which of the slices are proven to be of another brain than the piece.
        counts: int64 (P,), candidates of each piece.
        random: draws the decoys.

    Returns:
        of each decoy the piece and the slice, int64 each.
    """
    draw = np.where(apart, random.random(apart.shape), -1.0)
    rank = np.argsort(np.argsort(-draw, axis=1), axis=1)
    row, column = np.nonzero((rank < counts[:, None]) & apart)
    return row, column


def _accepted(found: _Candidates, proven: bool, made: np.ndarray) -> np.ndarray:
    """Return pairs of groups to join, int64 (J, 2).

    `made`, float64 (2, 2), counts near and far joins of all rounds, and the false ones to be expected among them.
    """
    sides = [_first_three(side, found.likeness) for side in (found.lower, found.upper)]
    if not all(len(numbers) for numbers, _, _ in sides):
        return np.empty((0, 2), np.int64)
    rivals = np.full(len(found.likeness), -np.inf)
    mutual = np.full(len(found.likeness), True)
    for side, (numbers, rows, values) in zip((found.lower, found.upper), sides, strict=True):
        real = side >= 0
        place = np.searchsorted(numbers, side[real])
        mutual[real] &= rows[place] == np.flatnonzero(real)
        rivals[real] = np.maximum(rivals[real], values[place, 1])
    decoy = (found.lower < 0) | (found.upper < 0)
    margin = found.likeness - np.maximum(rivals, 0)
    mutual &= (margin > 0) & (found.likeness > _LEAST)
    good = mutual & ~decoy
    spacings = np.concatenate([2 * (one[:, 1] - one[:, 2]) for one in (v[np.isfinite(v[:, 2])] for _, _, v in sides)])
    scale = float(spacings.mean()) if len(spacings) else 1.0
    chances = (len(sides[0][0]) + len(sides[1][0])) / 2
    if proven:
        good &= margin >= max(scale * np.log(max(chances, 1) / PROVEN), _CLEAR)
    else:
        candidates, far = good, found.steps > _NEAR
        good = np.zeros(len(good), bool)
        for some, so_far in zip((~far, far), made, strict=True):
            good |= candidates & some & (margin >= _threshold(margin[candidates & some], scale, chances, so_far))
    return np.stack([found.lower[good], found.upper[good]], axis=1)


def _threshold(margins: np.ndarray, scale: float, chances: float, made: np.ndarray) -> float:
    """Return the lowest margin at which the expected share of false joins is LIKELY; inf where there is none.

    False ones win by a margin that follows an exponential distribution, and small margins tell how many they are
    (false discovery rate; Benjamini and Hochberg, 1995). The share is that among the joins of this round and of those
    before it, `made`: float64 (2,), how many there were, and how many of them were expected to be false. It is updated.
    """
    false = min(chances, (margins < scale / 2).sum() / (1 - np.exp(-0.5)))
    ranked = np.sort(margins)[::-1]
    expected = made[1] + max(false, 1) * np.exp(-ranked / scale)
    fits = np.flatnonzero((expected <= LIKELY * (made[0] + np.arange(1, len(ranked) + 1))) & (ranked >= _CLEAR))
    if not len(fits):
        return np.inf
    made[:] = made[0] + fits[-1] + 1, expected[fits[-1]]
    return float(ranked[fits[-1]])


def _first_three(side: np.ndarray, likeness: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each group on a side its number, the row of its best comparison, and its top three similarities."""
    rows = np.flatnonzero(side >= 0)
    rows = rows[np.lexsort((-likeness[rows], side[rows]))]
    numbers, start, count = np.unique(side[rows], return_index=True, return_counts=True)
    places = start[:, None] + np.arange(3)
    values = np.where(np.arange(3) < count[:, None], likeness[rows[places.clip(max=len(rows) - 1)]], -np.inf)
    return numbers, rows[start], values
