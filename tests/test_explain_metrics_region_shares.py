"""Shares of maps by region, on regions drawn by hand and on the phantom."""

import csv
import io
import math

import numpy as np
import pytest

from mriscope.data.phantom import make_phantom
from mriscope.errors import ArgumentError
from mriscope.explain.metrics.region_shares import (
    FEWEST_SUBJECTS,
    REGIONS,
    SliceRegions,
    find_slice_regions,
    tabulate_regions,
)
from mriscope.explain.placement import Placement
from mriscope.reports.regions import region_rows, regions_csv, slice_rows
from mriscope.results import RegionTable


def drawn(count: int, placed: int | None = None) -> SliceRegions:
    """Return slices of 2×4 pixels: a brain of 2×3, of which 1 pixel is ventricle and 2 are cortex."""
    brain, ventricle, cortex = (np.zeros((2, 4), bool) for _ in range(3))
    brain[:, :3], ventricle[0, 1], cortex[:, 0] = True, True, True
    there = np.arange(count) < (count if placed is None else placed)
    masks = {name: np.zeros((count, 2, 4), bool) for name in REGIONS}
    masks["ventricles"][there], masks["cortex"][there] = ventricle, cortex
    heights = np.where(there, 0.0, np.nan)
    placement = Placement(heights, np.where(there, 0.9, 0.2), np.zeros((count, 2, 2)))
    return SliceRegions(masks, np.where(there[:, None, None], brain, False), placement)


def table_of(maps: np.ndarray, regions: SliceRegions, subjects: np.ndarray) -> RegionTable:
    return tabulate_regions({"gradcam": maps}, {"gradcam": "Grad-CAM"}, regions, subjects)


def test_shares_are_of_the_brain_and_divide_as_worked_out_by_hand() -> None:
    heat = np.array([[[1, 3, 0, 9], [1, 1, 0, 9]], [[0, 0, 0, 5], [0, 0, 0, 0]]], np.float32)  # the second: none inside
    regions = drawn(2)
    assert regions.area_shares()["ventricles"].tolist() == pytest.approx([1 / 6, 1 / 6])
    shares = regions.map_shares(heat)
    assert shares["ventricles"].tolist() == pytest.approx([3 / 6, math.nan], nan_ok=True)
    assert shares["cortex"].tolist() == pytest.approx([2 / 6, math.nan], nan_ok=True)
    assert np.isnan(shares["medial_temporal"]).all()
    found = {one.region: one for one in table_of(heat, regions, np.array([0, 1])).methods[0].regions}
    assert (found["ventricles"].n_slices, found["ventricles"].ratio.value) == (1, pytest.approx(3))
    assert found["cortex"].ratio.value == pytest.approx(1)
    assert not found["white_matter"].ratio.is_defined


def test_the_ratio_is_of_means_with_an_interval_over_subjects() -> None:
    random = np.random.default_rng(0)
    count = 2 * FEWEST_SUBJECTS
    heat = random.uniform(0, 1, (count, 2, 4)).astype(np.float32)
    subjects = np.repeat(np.arange(FEWEST_SUBJECTS), 2)
    regions = drawn(count)
    share = table_of(heat, regions, subjects).methods[0].regions[0]
    inside = heat[:, 0, 1] / heat[:, :, :3].sum((1, 2))
    assert share.map_share == pytest.approx(inside.mean(), rel=1e-6)
    assert share.ratio.value == pytest.approx(6 * inside.mean(), rel=1e-6)
    error = 6 * inside.reshape(-1, 2).mean(1).std() / np.sqrt(FEWEST_SUBJECTS)
    assert share.ratio.high - share.ratio.low == pytest.approx(2 * 2.09 * error, rel=0.1)  # Student's t of 19
    few = table_of(heat[:-2], regions[np.arange(count - 2)], subjects[:-2]).methods[0].regions[0]
    assert not few.ratio.has_interval
    assert few.ratio.is_defined
    unknown = table_of(heat, regions, np.full(count, -1))
    assert not unknown.methods[0].regions[0].ratio.has_interval
    assert "the subjects of slices are unknown" in unknown.note


def test_slices_that_cannot_be_placed_are_left_out_and_said() -> None:
    heat = np.ones((4, 2, 4), np.float32)
    some = table_of(heat, drawn(4, placed=3), np.arange(4))
    assert some.note.startswith("Of 3 of 4 slices. The rest, 1, cannot be placed:")
    assert some.areas[0].n_slices == some.methods[0].regions[0].n_slices == 3
    none = table_of(heat, drawn(4, placed=0), np.arange(4))
    assert (none.methods, none.areas) == ([], [])
    assert none.note.startswith("There is no table by region, as most of the 4 slices cannot be placed")
    assert regions_csv(none).count("\n") == 1


def test_a_map_of_another_shape_is_refused() -> None:
    with pytest.raises(ArgumentError, match="one map for each slice"):
        drawn(2).map_shares(np.ones((1, 2, 4)))


def test_tables_say_what_was_measured() -> None:
    heat = np.array([[[1, 3, 0, 9], [1, 1, 0, 9]]], np.float32)
    table = table_of(heat, drawn(1), np.array([0]))
    heads, (areas, ratios) = region_rows(table)
    assert heads == ["method", "ventricles", "cortex", "white matter", "the rest", "medial temporal"]
    assert areas[:2] == ["share of the area", "16.7 %\n1 slice of 1 subject"]
    assert ratios[:2] == ["Grad-CAM", "3.00\n50.0 % of the map"]
    assert ratios[-1] == "–"
    rows = list(csv.DictReader(io.StringIO(regions_csv(table))))
    assert [row["region"] for row in rows] == list(REGIONS)
    assert float(rows[0]["ratio"]) == pytest.approx(3)
    assert (rows[0]["ratio_low"], rows[-1]["map_share"]) == ("", "")
    heads, rows = slice_rows(
        {"ventricles": 0.1, "rest": math.nan}, {"Grad-CAM": {"ventricles": 0.25, "rest": math.nan}}
    )
    assert (heads, rows[1]) == (["method", "ventricles"], ["Grad-CAM", "25.0 %\n2.50 times its area"])


def test_a_map_of_the_ventricles_is_found_there_on_the_phantom() -> None:
    slices = make_phantom(3, 4, seed=1, size=64).slices
    regions = find_slice_regions(slices.images, slices.subjects)
    assert regions.placement.placed.mean() > 0.8
    parts = np.stack([regions.masks[name] for name in REGIONS[:4]])
    assert (parts.sum(0) == regions.brains).all()
    assert not (regions.masks["medial_temporal"] & ~regions.brains).any()
    heat = regions.masks["ventricles"].astype(np.float32)
    shares = regions.map_shares(heat)["ventricles"]
    assert (shares[~np.isnan(shares)] == 1).all()
    assert (~np.isnan(shares)).sum() >= 6
    alone = find_slice_regions(slices.images, np.full(len(slices), -1))
    assert alone.masks["ventricles"].any()


def test_slices_of_another_plane_have_no_regions_at_all() -> None:
    slices = make_phantom(8, 4, seed=1, size=64).slices
    turned = find_slice_regions(slices.images.swapaxes(1, 2), slices.subjects)
    assert not turned.placement.placed.any()
    assert not turned.brains.any()
    assert find_slice_regions(slices.images, slices.subjects).placement.placed.mean() > 0.8
