"""Pieces of brains whose heights are known, so that joining alone is judged, and its decisions by hand."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from audit_sets import strangers
from scipy.stats import median_abs_deviation, norm

from mriscope.audit.heights import Heights
from mriscope.audit.joining import (
    _accepted,
    _Candidates,
    _compare,
    _decoys,
    _Ends,
    _ends,
    _first_three,
    _persistent,
    _some,
    _standardised,
    _threshold,
    join_pieces,
)
from mriscope.audit.separation import Separation
from mriscope.audit.similarity import standardised
from mriscope.data.slices import SliceSet


@dataclass(frozen=True, eq=False)
class Pieces:
    """Brains cut in two, with the links within the pieces, and true heights."""

    slices: SliceSet
    groups: np.ndarray
    pairs: np.ndarray

    def joined(self, images: np.ndarray, *, proven: bool) -> np.ndarray:
        heights = Heights(self.slices.positions.astype(float), 1.5, np.zeros(len(self.slices), np.int64))
        return join_pieces(standardised(images), self.groups, self.pairs, heights, proven=proven)


def cut(slices: SliceSet, first: int, width: int) -> Pieces:
    kept = slices[(slices.positions < first) | (slices.positions >= first + width)]
    groups = 2 * kept.subjects + (kept.positions >= first)
    groups = np.unique(groups, return_inverse=True)[1]
    rows = np.flatnonzero(np.diff(groups, append=-1) == 0)
    return Pieces(kept, groups, np.stack([rows, rows + 1], axis=1))


@pytest.mark.parametrize("proven", [True, False])
def test_pieces_are_joined_with_those_of_their_own_brain_alone(phantom_brains: SliceSet, proven: bool) -> None:
    pieces = cut(phantom_brains, 14, 1)
    groups = pieces.joined(pieces.slices.images, proven=proven)
    assert strangers(pieces.slices.subjects, groups) == 0
    assert len(np.unique(groups)) < (48 if proven else 36)


def test_pieces_of_noise_are_not_joined(phantom_brains: SliceSet):
    pieces = cut(phantom_brains, 14, 2)
    images = np.random.default_rng(0).integers(0, 256, (len(pieces.groups), 32, 32), np.uint8)
    assert pieces.joined(images, proven=True).tolist() == pieces.groups.tolist()


def test_whole_brains_have_nothing_to_be_joined_with(phantom_brains: SliceSet):
    pieces = cut(phantom_brains, 14, 0)
    whole = Pieces(pieces.slices, pieces.slices.subjects, np.stack([rows := np.arange(767), rows + 1], axis=1))
    linked = whole.slices.subjects[whole.pairs]
    whole = Pieces(whole.slices, whole.groups, whole.pairs[linked[:, 0] == linked[:, 1]])
    assert whole.joined(whole.slices.images, proven=False).tolist() == whole.groups.tolist()


def test_without_heights_nothing_is_joined(phantom_brains: SliceSet):
    pieces = cut(phantom_brains, 14, 1)
    unknown = Heights(np.full(len(pieces.groups), np.nan), np.inf, np.full(len(pieces.groups), -1))
    rows = standardised(pieces.slices.images)
    found = join_pieces(rows, pieces.groups, pieces.pairs, unknown, proven=False)
    assert found.tolist() == pieces.groups.tolist()


# --- what is proven, likely and refused, by hand ------------------------------------------------------------------


def compared(likeness: list[list[float]], *, steps: int = 1, decoys: tuple[tuple[int, int, float], ...] = ()):
    """Every lower piece with every upper one: lower ones are groups 0, 1, …, upper ones go on from there."""
    table = np.array(likeness)
    lower, upper = (one.ravel() for one in np.indices(table.shape))
    below, above, values = zip(*decoys, strict=True) if decoys else ((), (), ())
    count = table.size + len(decoys)
    return _Candidates(
        np.full(count, steps),
        np.r_[lower, np.array(below, int)],
        np.r_[upper + len(table), np.array(above, int)],
        np.r_[table.ravel(), np.array(values)],
    )


def verdict(found: _Candidates) -> str:
    """Which joining takes groups 0 and the first upper one, and none takes any others."""
    first = [[0, int(found.upper[0])]]
    proven, likely = (_accepted(found, strict, np.zeros((2, 2))).tolist() for strict in (True, False))
    assert proven in ([], first)
    assert likely in ([], first)
    return "proven" if proven and likely else "likely" if likely else "refused" if not proven else "wrong"


@pytest.mark.parametrize(
    ("margin", "expected"), [(5.31, "proven"), (5.29, "likely"), (3.92, "likely"), (3.90, "refused")]
)
def test_a_join_is_proven_from_a_hundredth_of_a_false_one_and_likely_from_two(margin: float, expected: str) -> None:
    """Two pieces could be joined falsely: log(2 / 0.01) = 5.298. One is thought false at least: log(1 / 0.02) = 3.912.

    Without third-best pieces, the scale of margins is 1.
    """
    assert verdict(compared([[1 + margin, 1], [1, 0.5]])) == expected
    assert verdict(compared([[margin, -1], [-1, -2]])) == expected  # the margin is over no likeness at least
    assert verdict(compared([[1 + margin, 1], [0, 0.5]])) == expected  # of two rivals the better one counts,
    assert verdict(compared([[1 + margin, 0], [1, 0.5]])) == expected  # on either side
    assert verdict(compared([[1 + margin, 1, 0.5]])) == expected  # one lower and three upper pieces are two chances
    assert verdict(compared([[1 + margin], [1], [0.5]])) == expected


@pytest.mark.parametrize(
    ("margin", "expected"), [(2.86, "proven"), (2.84, "likely"), (1.96, "likely"), (1.95, "refused")]
)
def test_bounds_follow_the_scale_of_the_margins_of_chance(margin: float, expected: str) -> None:
    """Second and third best are 0.5, 0.25 and 0 apart on either side, in the mean 0.25; the scale is twice that.

    0.5 log(3 / 0.01) = 2.852, and 0.5 log(1 / 0.02) = 1.956.
    """
    assert verdict(compared([[1 + margin, 1, 0.5], [1, 0.25, 0], [0.5, 0, 0]])) == expected


@pytest.mark.parametrize(
    ("best", "rival", "expected"),
    [
        *[(2.01, -1, "proven"), (1.99, -1, "refused"), (2.0, -1, "refused")],  # the likeness is above 2
        *[(3.0, 2.49, "proven"), (3.0, 2.51, "refused")],  # the margin is 0.5 at least
    ],
)
def test_a_join_is_clear_however_alike_all_rivals_are(best: float, rival: float, expected: str) -> None:
    near = rival - 0.001
    assert verdict(compared([[best, rival, near], [rival, near, near], [near, near, near]])) == expected


@pytest.mark.parametrize(
    ("decoy", "expected"), [(2.0, "proven"), (4.0, "likely"), (4.2, "refused"), (7.9, "refused"), (8.1, "refused")]
)
@pytest.mark.parametrize("side", ["lower", "upper"])
def test_decoys_compete_with_pieces(decoy: float, side: str, expected: str) -> None:
    """The pair's likeness is 8: over decoys of 2, 4 and 4.2 its margin is 6, 4 and 3.8; a better decoy wins.

    The third best of the piece is 0.5 behind, so that the scale of margins is 1, as in the tests above.
    """
    third = decoy - 0.5 if decoy < 8 else 7.5
    table = [[8, third], [-9, -9]] if side == "lower" else [[8, -9], [third, -9]]
    assert verdict(compared(table, decoys=((0, -1, decoy) if side == "lower" else (-1, 2, decoy),))) == expected


def test_near_and_far_joins_are_counted_apart():
    for steps, expected in ((4, [[1, np.exp(-4)], [0, 0]]), (5, [[0, 0], [1, np.exp(-4)]])):
        made = np.zeros((2, 2))
        assert len(_accepted(compared([[5, 1], [1, 0]], steps=steps), False, made)) == 1
        np.testing.assert_allclose(made, expected)


def test_the_first_group_may_be_the_upper_piece():
    found = _Candidates(np.ones(1, int), np.ones(1, int), np.zeros(1, int), np.full(1, 9.0))
    assert _accepted(found, True, np.zeros((2, 2))).tolist() == [[1, 0]]


def test_pieces_with_decoys_alone_on_a_side_are_not_joined():
    found = _Candidates(np.ones(1, int), np.zeros(1, int), np.full(1, -1), np.full(1, 9.0))
    assert not len(_accepted(found, True, np.zeros((2, 2))))


@pytest.mark.parametrize(
    ("made", "chances", "expected", "after"),
    [
        # 0.1 is less than half the scale: 1 / (1 - exp(-0.5)) = 2.54 are thought false
        ([0, 0], 10, 5, [1, 2.5415 * np.exp(-5)]),  # 0.017 of 1; of the next it would be 0.047 of 2
        ([10, 0.05], 10, 3, [13, 0.05 + 2.5415 * np.exp(-3)]),  # 0.177 of 13
        ([0, 0], 1, 3, [3, np.exp(-3)]),  # of one chance one is false: 0.050 of 3
        ([0, 0.05], 10, np.inf, [0, 0.05]),
    ],
)
def test_so_many_joins_are_made_that_two_in_a_hundred_are_false(
    made: list[float], chances: float, expected: float, after: list[float]
) -> None:
    count = np.array(made, float)
    assert _threshold(np.array([3, 0.1, 5, 4]), 1.0, chances, count) == expected
    np.testing.assert_allclose(count, after, rtol=1e-4)


def test_margins_below_half_a_deviation_are_never_enough():
    made = np.array([1000.0, 0.0])
    assert _threshold(np.array([0.49]), 0.01, 1, made) == np.inf
    assert _threshold(np.array([0.51]), 0.01, 1, made) == 0.51


def test_the_three_best_of_each_group():
    side, likeness = np.array([2, 0, 0, 0, 0, -1]), np.array([5.0, 1, 4, 3, 2, 9])
    numbers, rows, values = _first_three(side, likeness)
    assert (numbers.tolist(), rows.tolist()) == ([0, 2], [2, 0])
    assert values.tolist() == [[4, 3, 2], [5, -np.inf, -np.inf]]


# --- what is compared ---------------------------------------------------------------------------------------------


def test_decoys_are_of_other_brains_as_many_as_candidates():
    apart = np.array([[True, False, True, True], [True, False, False, True], [True] * 4])
    row, column = _decoys(apart, np.array([1, 3, 0]), np.random.default_rng(0))
    assert apart[row, column].all()
    assert np.bincount(row, minlength=3).tolist() == [1, 2, 0]
    drawn = {int(_decoys(apart, np.array([1, 0, 0]), np.random.default_rng(one))[1][0]) for one in range(50)}
    assert drawn == {0, 2, 3}


def test_likeness_is_in_deviations_of_that_to_the_brains_at_the_other_height():
    deviation = partial(median_abs_deviation, scale=float(norm.ppf(0.75)))
    features = np.random.default_rng(0).normal(size=(40, 5))
    lower, upper, here, there = np.arange(3), np.arange(3, 7), np.arange(7, 20), np.arange(20, 40)
    found = _standardised(features, lower, upper, here, there)
    for row, one in enumerate(lower):
        for column, other in enumerate(upper):
            sides = features[one] @ features[there].T, features[other] @ features[here].T
            scores = [(features[one] @ features[other] - np.median(side)) / deviation(side) for side in sides]
            assert found[row, column] == pytest.approx(np.mean(scores), rel=1e-4)


def test_what_is_liker_than_brains_all_equally_like_counts_as_more():
    features = np.array([[1.0, 0]] * 2 + [[0.0, 1]] * 20)
    some = np.arange(2, 22)
    assert _standardised(features, np.array([0]), np.array([1]), some, some) == pytest.approx(1e6)


def test_ends_are_those_of_groups_that_may_be_pieces_by_height():
    groups, heights = np.array([0, 0, 1, 1, 2]), np.array([11.2, 10, 12, 13, 19.4])
    apart = np.array([[False, False, True], [False, False, True], [True, True, False]])
    found = _ends(groups, heights, Separation(np.eye(3, dtype=bool), apart))
    assert found is not None
    by_height = [[*map(np.ndarray.tolist, one)] for one in (found.at, found.tops, found.lows)]
    none: list[list[int]] = [[]] * 5
    assert by_height[0] == [[1], [0], [2], [3], *none, [4]]
    assert by_height[1] == [[], [0], [], [3], *none, []]
    assert by_height[2] == [[1], [], [2], [], *none, []]
    assert _ends(groups, heights, Separation(np.eye(3, dtype=bool), ~np.eye(3, dtype=bool))) is None
    assert _ends(groups, np.r_[heights[:4], np.nan], Separation(np.eye(3, dtype=bool), apart)) is None


def test_pieces_are_compared_from_one_step_below_to_eight_above_where_eight_slices_are():
    """A piece has its top at height 1, and one begins at each height; all other slices are of other brains."""
    at = [np.arange(8 * place, 8 * place + 8) for place in range(13)]  # the first of each begins a piece
    groups = np.arange(8 * 13)
    lows = [one[:1] for one in at]
    tops = [np.array([], int), np.array([8 * 13])] + [np.array([], int)] * 11
    at[1], groups = np.append(at[1], 8 * 13), np.append(groups, 8 * 13)
    at[4] = at[4][:7]
    apart = ~np.eye(len(groups), dtype=bool)
    apart[-1, ::8] = apart[::8, -1] = False  # piece 104 may go on in each of those that begin
    features = np.random.default_rng(0).normal(size=(len(groups), 6))
    separation = Separation(np.eye(len(groups), dtype=bool), apart)
    found = _compare(features, _Ends(at, tops, lows), separation, groups, np.random.default_rng(0))
    real = (found.lower >= 0) & (found.upper >= 0)
    assert found.steps[real].tolist() == [-1, 0, 1, 2, 4, 5, 6, 7, 8]
    assert set(found.lower[real]) == {104}
    assert found.upper[real].tolist() == [0, 8, 16, 24, 40, 48, 56, 64, 72]
    assert found.steps[found.upper < 0].tolist() == found.steps[found.lower < 0].tolist() == found.steps[real].tolist()
    assert set(found.lower[found.upper < 0]) == {104}
    assert found.upper[found.lower < 0].tolist() == found.upper[real].tolist()
    assert len(found.likeness) == 3 * real.sum()
    for row in np.flatnonzero(~real):  # a decoy's likeness is that of a slice at its height
        here, there = at[1], at[1 + found.steps[row]]
        lower, upper = (here, found.upper[[row]]) if found.lower[row] < 0 else (np.array([104]), there)
        assert np.isclose(_standardised(features, lower, upper, here, there), found.likeness[row]).any()


def test_where_no_piece_ends_or_nothing_can_go_on_nothing_is_compared():
    """Of two ends at a height only the first may go on; where there are none, no comparison is made at all."""
    at, groups = [np.arange(8), np.arange(8, 16)], np.arange(16)
    apart = ~np.eye(16, dtype=bool)
    apart[0, 8] = apart[8, 0] = False
    separation = Separation(np.eye(16, dtype=bool), apart)
    features = np.random.default_rng(0).normal(size=(16, 6))

    def compare(tops: list[list[int]], lows: list[list[int]]) -> _Candidates:
        ends = _Ends(at, *([np.array(one, int) for one in some] for some in (tops, lows)))
        return _compare(features, ends, separation, groups, np.random.default_rng(0))

    found = compare([[0, 1], []], [[], [8, 9]])
    assert (found.lower.tolist(), found.upper.tolist()) == ([0, 0, -1], [8, -1, 8])
    found = compare([[], []], [[], []])
    assert len(found.steps) == len(found.lower) == len(found.upper) == len(found.likeness) == 0


def test_no_reference_is_drawn_twice():
    random = np.random.default_rng(0)
    assert _some(np.arange(300), random).tolist() == [*range(300)]
    drawn = _some(np.arange(301), random)
    assert len(drawn) == len(np.unique(drawn)) == 300


def test_features_keep_what_tells_brains_and_lose_what_varies_within_them():
    """Of 20 brains eight components are the brain's own, two wander ten times as far, and one grows with height."""
    random = np.random.default_rng(0)
    own = np.repeat(random.normal(size=(20, 8)), 16, axis=0)
    wander = 10 * random.normal(size=(20 * 16, 2))
    heights, groups = np.tile(np.arange(-4.0, 12), 20), np.repeat(np.arange(20), 16)
    rows = torch.from_numpy(np.hstack([own, wander, 50 * heights[:, None]])).float()
    far_away = torch.ones(1, rows.shape[1])  # the mean of its height is itself
    every = _persistent(torch.cat([rows, far_away]), np.append(groups, 20), np.append(heights, 40))
    assert every is not None
    assert not every[-1].any()
    found = every[:-1]
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    same = groups[:, None] == groups
    likeness = found @ found.T
    assert np.median(likeness[same]) > 0.9
    assert abs(np.median(likeness[~same])) < 0.1


def test_single_slices_tell_nothing_of_what_varies_within_brains():
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(60, 20))).float()
    assert _persistent(rows, np.arange(60), np.tile(np.arange(6.0), 10)) is None
