"""Which groups are of different brains, in cases that can be counted on a ruler."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mriscope.audit.heights import Heights
from mriscope.audit.separation import separate

STEPS = np.arange(9.0)  # the heights of group 0, of which each slice is linked to the next
LINKS = np.stack([np.arange(8), np.arange(1, 9)], axis=1)


def one_family(values: np.ndarray, margin: float) -> Heights:
    return Heights(values, margin, np.zeros(len(values), np.int64))


def proven(heights: list[float], pairs: np.ndarray = LINKS, margin: float = 0.5) -> bool:
    """Whether group 1, with slices at these heights, is of another brain than group 0."""
    groups = np.repeat([0, 1], [len(STEPS), len(heights)])
    separation = separate(groups, one_family(np.concatenate([STEPS, heights]), margin), pairs)
    found = separation.proven(np.array([0]), np.array([1]))
    assert np.array_equal(found, separation.proven(np.array([1]), np.array([0])))
    return bool(found[0, 0])


def test_a_slice_between_linked_slices_is_of_another_brain():
    assert proven([4.5])
    assert proven([20.0, 3.0])


def test_a_slice_beyond_the_last_or_within_the_margin_of_it_proves_nothing():
    assert not proven([9.0])
    assert not proven([-3.0, -2.0])
    assert not proven([7.8])
    assert proven([7.8], margin=0.0)
    assert not proven([4.5], margin=6.0)


def test_a_hole_that_no_link_spans_proves_nothing():
    apart = LINKS[np.abs(LINKS[:, 0] - 3.5) > 1]  # 2, 3 and 4 are linked to none above them: 3 and 4 lie in a hole
    assert not proven([3.5], apart)
    assert proven([6.5], apart)


def test_pieces_one_above_the_other_may_be_of_one_brain():
    groups = np.repeat([0, 1], [4, 5])
    pairs = LINKS[LINKS[:, 0] != 3]
    assert not separate(groups, one_family(STEPS, 0.5), pairs).proven(np.array([0]), np.array([1])).any()


def test_without_heights_nothing_is_proven():
    groups = np.repeat([0, 1], [9, 1])
    unknown = separate(groups, one_family(np.full(10, np.nan), 0.5), LINKS)
    assert not unknown.proven(np.arange(2), np.arange(2)).any()
    unordered = separate(groups, one_family(np.append(STEPS, 4.5), np.inf), LINKS)
    assert not unordered.proven(np.arange(2), np.arange(2)).any()
    one = separate(groups, one_family(np.append(STEPS, np.nan), 0.5), LINKS)
    assert not one.proven(np.array([0]), np.array([1])).any()
    assert separate(np.empty(0, np.int64), one_family(np.empty(0), 0.5), np.empty((0, 2), np.int64)).slices.shape == (
        0,
        1,
    )


def test_heights_of_two_families_are_not_compared():
    groups, values = np.repeat([0, 1], [9, 1]), np.append(STEPS, 4.5)
    for family, expected in ((0, True), (1, False), (-1, False)):
        heights = Heights(values, 0.5, np.append(np.zeros(9, np.int64), family))
        assert separate(groups, heights, LINKS).proven(np.array([0]), np.array([1]))[0, 0] == expected


@given(st.lists(st.floats(0, 31), min_size=1, max_size=12), st.floats(0, 8), st.floats(0, 8))
def test_a_larger_margin_proves_less(heights: list[float], one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert proven(heights, margin=small) or not proven(heights, margin=large)
