"""Slices in template space, on the phantom, whose heights are known, and on slices that lie elsewhere."""

from pathlib import Path

import numpy as np
import pytest

from mriscope.data.phantom import make_phantom
from mriscope.errors import ArgumentError
from mriscope.explain import placement as of_template
from mriscope.explain.placement import find_medial_temporal, place_slices

SLICES = 8
HEIGHTS = -12 + 46 * (np.arange(SLICES) + 0.5) / SLICES
"""mm of the phantom's slices before each brain is tilted, stretched and shifted by a few of them."""


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return make_phantom(6, SLICES, seed=3, size=64).slices.images


@pytest.fixture(scope="module")
def placement(images):
    return place_slices(images)


def test_heights_are_those_that_were_drawn(placement) -> None:
    away = placement.heights.reshape(-1, SLICES) - HEIGHTS
    assert placement.placed.mean() >= 0.9
    assert np.nanmax(np.abs(away)) <= 10
    assert np.nanmean(np.abs(away)) <= 3


def test_slices_that_lie_upside_down_have_the_same_heights_and_places(images, placement) -> None:
    turned = place_slices(images[:, ::-1])
    assert np.array_equal(turned.heights, placement.heights, equal_nan=True)
    upright = find_medial_temporal(placement, (64, 64))
    assert np.mean(find_medial_temporal(turned, (64, 64))[:, ::-1] == upright) == pytest.approx(1, abs=1e-3)


def test_a_slice_is_placed_by_itself(images, placement) -> None:
    assert place_slices(images[5:6]).heights[0] == placement.heights[5]


@pytest.mark.parametrize(
    "alter",
    [
        lambda one: one.swapaxes(1, 2),  # on its side
        lambda one: np.where(one > 0, 255 - one, 0).astype(np.uint8),  # as in T2
        lambda one: np.where(one > 0, 150, 0).astype(np.uint8),  # an outline alone
    ],
)
def test_what_is_no_axial_t1_slice_is_not_placed(images, alter) -> None:
    assert place_slices(alter(images)).placed.mean() < 0.25


def test_black_and_random_slices_are_not_placed() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64), np.uint8)
    found = place_slices(np.concatenate([np.zeros((1, 64, 64), np.uint8), noise]))
    assert not found.placed.any()
    assert np.isnan(found.likeness[0])


def test_the_medial_temporal_lobe_lies_low_on_both_sides(images, placement) -> None:
    found = find_medial_temporal(placement, images.shape[1:])
    sizes = found.sum((1, 2))
    assert (sizes[placement.heights <= 0] > 0).all()
    assert not sizes[placement.heights >= 12].any()
    lowest = found[0]
    rows, columns = np.nonzero(lowest)
    assert np.array_equal(lowest[:, : lowest.shape[1] // 4].any(1), np.zeros(64, bool))  # not at the rim
    assert (columns < 32).any()
    assert (columns > 32).any()
    assert 24 < rows.mean() < 44


def test_slices_of_another_kind_are_refused() -> None:
    with pytest.raises(ArgumentError, match="uint8"):
        place_slices(np.zeros((1, 64, 64)))


def test_the_slices_of_the_template_are_made_once_for_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MRISCOPE_CACHE", str(tmp_path))
    fresh = of_template._template_slices.__wrapped__
    made = fresh()
    monkeypatch.setattr(of_template, "load_atlas", None)  # whoever makes them again fails
    for kept, expected in zip(fresh(), made, strict=True):
        np.testing.assert_array_equal(kept, expected)
