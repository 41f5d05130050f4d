"""mriscope.explain.overlays: pixels computed by hand, and grids that lose nothing."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

from mriscope.errors import MriscopeError, UnknownNameError
from mriscope.explain.overlays import grid, matrix, overlay, png_bytes

GREY = np.array([[0, 100], [201, 255]], np.uint8)
HEAT = np.array([[0.0, 0.5], [1.0, 0.0]], np.float32)


def near(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(pixels.astype(int) - colour).max(-1) < 16  # the bar has fewer rows than there are colours


def columns_of(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.flatnonzero(near(pixels, colour).any(0))


def rows_of(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.flatnonzero(near(pixels, colour).any(1))


def test_an_overlay_mixes_the_slice_and_the_colours():
    # jet runs from (0, 0, 0.5) over (0.49, 1, 0.48) to (0.5, 0, 0): dark blue, green, dark red.
    found = overlay(GREY, HEAT, "jet")
    jet = np.array(colormaps["jet"](HEAT))[..., :3] * 255
    assert found.dtype == np.uint8
    assert found.shape == (2, 2, 3)
    assert found[0, 0].tolist() == [0, 0, 64]
    assert found[1, 0].tolist() == [164, 100, 100]
    assert found[1, 1].tolist() == [128, 128, 191]
    assert np.abs(found - (GREY[..., None] + jet) / 2).max() <= 0.5


def test_alpha_reaches_from_the_grey_slice_to_the_colours():
    assert (overlay(GREY, HEAT, alpha=0) == GREY[..., None]).all()
    magma = np.rint(np.array(colormaps["magma"](HEAT))[..., :3] * 255)
    assert (overlay(GREY, HEAT, "magma", alpha=1) == magma).all()


def test_alpha_by_strength_leaves_the_slice_plain_where_the_map_is_0():
    found = overlay(GREY, HEAT, "magma", alpha=0.8, by_strength=True)
    assert found[0, 0].tolist() == [0, 0, 0]
    assert found[1, 1].tolist() == [255, 255, 255]
    full = np.array(colormaps["magma"](1.0))[:3] * 255  # the share is 0.8 · 1 there and 0.8 · 0.5 here
    assert found[1, 0].tolist() == np.rint(0.2 * 201 + 0.8 * full).tolist()
    half = np.array(colormaps["magma"](0.5))[:3] * 255
    assert found[0, 1].tolist() == np.rint(0.6 * 100 + 0.4 * half).tolist()


def test_colours_are_perceptually_uniform_by_default_and_stay_within_the_mask():
    inside = np.array([[True, True], [False, False]])
    found = overlay(GREY, HEAT, within=inside)
    assert (found[0] == overlay(GREY, HEAT, "inferno")[0]).all()
    assert (found[1] == GREY[1][:, None]).all()


def test_an_overlay_takes_tensors_too():
    assert (overlay(torch.from_numpy(GREY), torch.from_numpy(HEAT)) == overlay(GREY, HEAT)).all()


@pytest.mark.parametrize(
    ("pixels", "heat", "message"),
    [
        (GREY.astype(np.float32), HEAT, "the slice is float32"),
        (GREY[None], HEAT, "needs uint8"),
        (GREY, HEAT[:1], r"the map is float32 \(1, 2\); its slice needs floats \(2, 2\)"),
        (GREY, HEAT.astype(np.int64), "the map is int64"),
        (GREY, HEAT * 2, r"leaves \[0, 1\]"),
        (GREY, HEAT * np.nan, "NaN"),
    ],
)
def test_what_does_not_fit_is_refused(pixels: Any, heat: Any, message: str):
    with pytest.raises(MriscopeError, match=message):
        overlay(pixels, heat)


def test_an_unknown_colormap_names_the_near_ones():
    with pytest.raises(UnknownNameError, match="no colormap 'jett'; did you mean jet"):
        overlay(GREY, HEAT, "jett")
    with pytest.raises(MriscopeError, match="alpha is 50"):
        overlay(GREY, HEAT, alpha=50)


@pytest.fixture
def many() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.integers(0, 256, (5, 48, 40), np.uint8), random.random((5, 48, 40), np.float32)


def find_tile(page: np.ndarray, tile: np.ndarray) -> tuple[int, int]:
    """Row and column of a tile's upper left corner; fails where the tile is not on the page pixel by pixel."""
    height, width = tile.shape[:2]
    for y, x in np.argwhere((page[: 1 - height, : 1 - width] == tile[0, 0]).all(-1)):
        if (page[y : y + height, x : x + width] == tile).all():
            return int(y), int(x)
    return pytest.fail("the tile is not on the page")


def test_a_grid_holds_every_overlay_pixel_by_pixel(many: tuple[np.ndarray, np.ndarray]):
    slices, maps = many
    page = grid(slices, maps, ["true Mild"] * 5, columns=2, scale=3)
    places = [find_tile(page, overlay(*pair).repeat(3, 0).repeat(3, 1)) for pair in zip(slices, maps, strict=True)]
    rows, columns = zip(*places, strict=True)
    assert len(set(rows)) == 3
    assert len(set(columns)) == 2
    assert places == sorted(places)
    assert page.dtype == np.uint8


def test_a_grid_shows_the_plain_slice_beside_its_overlay(many: tuple[np.ndarray, np.ndarray]):
    slices, maps = many
    page = grid(slices, maps, [""] * 5, scale=1, side_by_side=True, alpha=0.3)
    for pixels, heat in zip(slices, maps, strict=True):
        find_tile(page, np.hstack([overlay(pixels, heat, alpha=0), overlay(pixels, heat, alpha=0.3)]))


def test_grid_and_matrix_colour_what_is_within_the_masks(many: tuple[np.ndarray, np.ndarray]):
    slices, maps = many
    masks = slices > 100
    for page in (
        grid(slices, maps, [""] * 5, scale=1, within=masks),
        matrix(slices, {"A": maps}, [""] * 5, within=masks),
    ):
        for pixels, heat, inside in zip(slices, maps, masks, strict=True):
            find_tile(page, overlay(pixels, heat, within=inside))


def test_a_grid_has_a_bar_from_0_to_1(many: tuple[np.ndarray, np.ndarray]):
    slices, maps = many
    page = grid(slices, maps, ["x"] * 5, colormap="viridis", alpha=0)
    top, bottom = (tuple(np.rint(np.array(colormaps["viridis"](end))[:3] * 255).astype(int)) for end in (1.0, 0.0))
    last = find_tile(page, overlay(slices[3], maps[3], alpha=0).repeat(2, 0).repeat(2, 1))
    assert columns_of(page, top).min() > last[1] + 80
    assert rows_of(page, top).max() < rows_of(page, bottom).min()


def test_a_matrix_holds_the_plain_slice_and_every_method(many: tuple[np.ndarray, np.ndarray]):
    slices, maps = many
    columns = {"Grad-CAM": maps, "Element-wise Grad-CAM": maps[::-1]}
    page = matrix(slices, columns, ["true Mild\npredicted Very mild 0.50"] * 5, scale=2, by_strength=True)
    for row, pixels in enumerate(slices):
        tiles = [overlay(pixels, maps[row], alpha=0)]
        tiles += [overlay(pixels, column[row], by_strength=True) for column in columns.values()]
        places = [find_tile(page, tile.repeat(2, 0).repeat(2, 1)) for tile in tiles]
        assert len({y for y, _ in places}) == 1
        assert places == sorted(places)
        assert places[0][1] > 150  # room for the title
    margin = np.concatenate([page[:8].reshape(-1, 3), page[-8:].reshape(-1, 3), page[:, :8].reshape(-1, 3)])
    assert (margin == 255).all()


def test_a_matrix_marks_empty_maps():
    black = np.zeros((2, 120, 160), np.uint8)
    maps = np.stack([np.zeros((120, 160), np.float32), np.eye(120, 160, dtype=np.float32)])
    page = matrix(black, {"Grad-CAM": maps}, ["", ""], alpha=0)
    find_tile(page, black[0][..., None].repeat(3, 2))
    empty = matrix(black, {"Grad-CAM": maps * 0}, ["", ""], alpha=0)
    white = [int((one == 255).all(-1).sum()) for one in (page, empty)]
    assert white[1] > white[0] + 10  # a second text


def test_a_heading_stands_above_grid_and_matrix_in_full(many: tuple[np.ndarray, np.ndarray]):
    slices, maps = many
    heading = "baseline_cnn, published split, LEAKY: train and test share subjects, and many more words than fit on one"
    for plain, headed in (
        (grid(slices, maps, ["x"] * 5), grid(slices, maps, ["x"] * 5, heading=heading)),
        (
            matrix(slices, {"A": maps}, ["x"] * 5, scale=2),
            matrix(slices, {"A": maps}, ["x"] * 5, scale=2, heading=heading),
        ),
    ):
        tile = overlay(slices[4], maps[4]).repeat(2, 0).repeat(2, 1)
        (y, x), (lower, same) = find_tile(plain, tile), find_tile(headed, tile)
        assert (lower - y, same) == (len(headed) - len(plain), x)
        assert lower > y
        above = headed[: -len(plain)]
        assert (above < 128).any()
        assert (above[:, -8:] == 255).all()


def test_a_matrix_that_does_not_fit_is_refused(many: tuple[np.ndarray, np.ndarray]):
    slices, maps = many
    with pytest.raises(MriscopeError, match="there are no maps"):
        matrix(slices, {}, ["x"] * 5)
    with pytest.raises(MriscopeError, match="5 slices, 4 maps and 5 titles"):
        matrix(slices, {"A": maps, "B": maps[1:]}, ["x"] * 5)
    with pytest.raises(MriscopeError, match="the slice is float32"):
        matrix(slices.astype(np.float32), {"A": maps}, ["x"] * 5)


def test_titles_are_neither_cut_off_nor_laid_over_a_slice():
    black, nothing = np.zeros((2, 30, 30), np.uint8), np.zeros((2, 30, 30), np.float32)
    page = grid(black, nothing, ["true Very_Mild_Demented\npredicted Moderate_Demented 0.93", "x"], scale=1)
    margin = np.concatenate([page[:8].reshape(-1, 3), page[-8:].reshape(-1, 3), page[:, :8].reshape(-1, 3)])
    assert (margin == 255).all()
    assert (page[:, -8:] == 255).all()
    # Three long lines need more room than the slices of 30 pixels have.
    first, second = np.sort(np.unique(columns_of(page, tuple(overlay(black[0], nothing[0])[0, 0]))))[[0, 30]]
    assert second - first > 150
    y, _ = find_tile(page, overlay(black[0], nothing[0]))
    assert y > 60


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"titles": ["x"]}, "5 slices, 5 maps and 1 titles"),
        ({"slices": [], "maps": [], "titles": []}, "0 slices"),
        ({"columns": 0}, "columns is 0"),
        ({"scale": 0}, "scale is 0"),
        ({"slices": [GREY] * 5}, "its slice needs floats"),
        ({"slices": [GREY, GREY[:1]], "maps": [HEAT, HEAT[:1]], "titles": ["", ""]}, "differ in size"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused(many: tuple[np.ndarray, np.ndarray], change: dict[str, Any], message: str):
    with pytest.raises(MriscopeError, match=message):
        grid(**({"slices": many[0], "maps": many[1], "titles": ["x"] * 5} | change))


@pytest.mark.parametrize("pixels", [overlay(GREY, HEAT), GREY])
def test_a_png_comes_back_pixel_by_pixel(pixels: np.ndarray):
    assert (np.asarray(Image.open(io.BytesIO(png_bytes(pixels)))) == pixels).all()


@pytest.mark.parametrize("array", [GREY.astype(float), GREY[0], np.zeros((2, 2, 4), np.uint8)])
def test_only_images_become_a_png(array: Any):
    with pytest.raises(MriscopeError, match="a PNG needs uint8"):
        png_bytes(array)
