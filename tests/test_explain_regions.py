"""Regions of slices by grey values and depth, on brains whose anatomy was drawn by hand."""

import numpy as np
import pytest

from mriscope.errors import ArgumentError
from mriscope.explain.regions import find_regions

SIDE, RADIUS = 64, 28
WHITE, GREY, FLUID = 220, 140, 40
ROWS, COLUMNS = np.ogrid[:SIDE, :SIDE]
FROM_MIDDLE = np.hypot(ROWS - 31.5, COLUMNS - 31.5)


def draw(ventricle: float) -> np.ndarray:
    """Return a round slice: a ventricle in a disc of white matter, in a rim of grey matter, with a notch of fluid."""
    image = np.where(FROM_MIDDLE < RADIUS, GREY, 0)
    image[FROM_MIDDLE < 0.75 * RADIUS] = WHITE
    image[ventricle > FROM_MIDDLE] = FLUID
    image[(np.abs(COLUMNS - 31.5) < 2) & (ROWS < 31 - 0.7 * RADIUS) & (FROM_MIDDLE < RADIUS)] = FLUID  # a fissure
    return image.astype(np.uint8)


def test_regions_are_those_that_were_drawn() -> None:
    found = find_regions(draw(8)[None])
    assert (found.ventricles[0] == (FROM_MIDDLE < 8)).all()
    assert (found.brain[0] == (FROM_MIDDLE < RADIUS)).all()
    white = found.white_matter[0]
    assert white.sum() == pytest.approx(((FROM_MIDDLE >= 8) & (FROM_MIDDLE < 0.75 * RADIUS)).sum(), rel=0.02)
    depth = 1 - FROM_MIDDLE / RADIUS
    assert found.cortex[0][(depth > 0) & (depth < 0.15)].all()
    assert not found.cortex[0][depth > 0.25].any()


def test_regions_divide_the_brain() -> None:
    found = find_regions(np.stack([draw(4), draw(8), draw(12)]))
    parts = np.stack([found.ventricles, found.cortex, found.white_matter, found.rest])
    assert (parts.sum(0) == found.brain).all()


def test_a_fissure_is_fluid_and_no_ventricle() -> None:
    image = draw(0)
    found = find_regions(image[None])
    assert not found.ventricles.any()
    assert found.fluid[0][image == FLUID].all()


def test_specks_beside_the_brain_are_no_cortex_and_a_second_part_is() -> None:
    clean = draw(8)
    clean[:6, :6] = GREY  # 36 of 2460 pixels, as the tip of a pole in a low slice
    noisy = clean.copy()
    noisy[1::6, 61::2] = noisy[60:62, 2] = 30  # specks of one pixel and of two
    assert (noisy != clean).sum() > 20
    before, found = find_regions(clean[None]), find_regions(noisy[None])
    assert found.brain[0, :6, :6].all()
    for name in ("brain", "cortex", "ventricles", "fluid"):
        assert (getattr(found, name) == getattr(before, name)).all()


def test_an_empty_slice_has_no_regions() -> None:
    found = find_regions(np.zeros((2, SIDE, SIDE), np.uint8))
    assert not any(part.any() for part in vars(found).values())


def test_slices_of_another_kind_are_refused() -> None:
    with pytest.raises(ArgumentError, match="uint8"):
        find_regions(np.zeros((SIDE, SIDE), np.uint8))
