"""Orders and heights that are known."""

import numpy as np
import pytest
import torch

from mriscope.audit.heights import measure_heights, seriate, trend
from mriscope.audit.similarity import standardised


def arc(count: int, seed: int) -> torch.Tensor:
    """Unit vectors that turn by 0.1 rad each, in a plane of their own."""
    one, other = np.linalg.qr(np.random.default_rng(seed).normal(size=(40, 2)))[0].T
    angles = 0.1 * np.arange(count)[:, None]
    return torch.from_numpy(np.cos(angles) * one + np.sin(angles) * other).float()


def test_slices_along_an_arc_are_put_in_order_from_either_end():
    rows = torch.cat([arc(20, 0), arc(9, 1)])
    shuffled = np.random.default_rng(0).permutation(29)
    groups = [shuffled[shuffled < 20], shuffled[shuffled >= 20]]
    for order, expected in zip(seriate(rows, groups), (range(20), range(20, 29)), strict=True):
        assert order.tolist() in (list(expected), list(expected)[::-1])


def test_fewer_than_three_slices_keep_their_order():
    rows = arc(4, 0)
    assert [one.tolist() for one in seriate(rows, [np.array([2, 0]), np.array([1])])] == [[2, 0], [1]]


@pytest.mark.parametrize(("values", "expected"), [([0, 1, 2], 2), ([2, 1, 0], -2), ([5, 5], 0), ([3], 0)])
def test_a_trend_is_the_covariance_with_the_order(values: list[float], expected: float) -> None:
    assert trend(np.array(values, float)) == expected


def test_slices_of_which_none_are_of_one_brain_have_no_height():
    images = np.random.default_rng(0).integers(0, 256, (30, 16, 16), np.uint8)
    heights = measure_heights(images, standardised(images), np.arange(30), np.ones(30))
    assert np.isnan(heights.values).all()
    assert heights.margin == np.inf
