"""Which groups are of different brains, in cases that can be counted on a ruler."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mriscope.audit.separation import separate

STEPS = np.arange(9.0)  # the heights of group 0, of which each slice is linked to the next
LINKS = np.stack([np.arange(8), np.arange(1, 9)], axis=1)


def proven(heights: list[float], pairs: np.ndarray = LINKS, margin: float = 0.5) -> bool:
    """Whether group 1, with slices at these heights, is of another brain than group 0."""
    groups = np.repeat([0, 1], [len(STEPS), len(heights)])
    separation = separate(groups, np.concatenate([STEPS, heights]), pairs, margin)
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
    assert not separate(groups, STEPS, pairs, 0.5).proven(np.array([0]), np.array([1])).any()


def test_without_heights_nothing_is_proven():
    groups = np.repeat([0, 1], [9, 1])
    unknown = separate(groups, np.full(10, np.nan), LINKS, 0.5)
    assert not unknown.proven(np.arange(2), np.arange(2)).any()
    unordered = separate(groups, np.append(STEPS, 4.5), LINKS, np.inf)
    assert not unordered.proven(np.arange(2), np.arange(2)).any()
    one = separate(groups, np.append(STEPS, np.nan), LINKS, 0.5)
    assert not one.proven(np.array([0]), np.array([1])).any()
    assert separate(np.empty(0, np.int64), np.empty(0), np.empty((0, 2), np.int64), 0.5).slices.shape == (0, 1)


@given(st.lists(st.floats(0, 31), min_size=1, max_size=12), st.floats(0, 8), st.floats(0, 8))
def test_a_larger_margin_proves_less(heights: list[float], one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert proven(heights, margin=small) or not proven(heights, margin=large)
