"""Maps over slices: one overlay, a titled grid of many, a matrix of slices by methods, and the content of a PNG."""

import io
import reprlib
import textwrap
from collections.abc import Mapping, Sequence, Sized
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from mriscope.errors import ArgumentError, ArgumentTypeError, UnknownNameError, check_type

if TYPE_CHECKING:
    from torch import Tensor

    Pixels = Sequence[np.ndarray | Tensor] | np.ndarray | Tensor

_LINE, _CHARACTER, _GAP, _MARGIN = 18, 8, 16, 225  # pixels; a character's width is an upper bound
_BAR, _BAR_WIDTH = 60, 12  # pixels; the least height of the bar, and room for it and its texts
_FONT, _INK = 11, "#202020"  # pixels


def overlay(
    pixels: "np.ndarray | Tensor",
    heat: "np.ndarray | Tensor",
    colormap: str = "inferno",
    alpha: float = 0.5,
    by_strength: bool = False,
    within: np.ndarray | None = None,
) -> np.ndarray:
    """Draw a map as colours over its grey slice.

    The colours are perceptually uniform by default: equal steps of the map look equal, also in grey (Smith and van der
    Walt, 2015). The reference study's are "jet".

    Args:
        pixels: uint8 (H, W), the slice.
        heat: float (H, W) in [0, 1], its map.
        colormap: name of a matplotlib colormap.
        alpha: share of the colours, from 0 (the grey slice) to 1 (the colours alone).
        by_strength: multiply that share by the map, so that the slice shows plain where the map is 0.
        within: bool (H, W), the pixels to colour, such as those of the brain; None colours all.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        UnknownNameError: matplotlib has no colormap of that name.
        ArgumentError: slice, map or alpha have another type, shape or range.

    Example:
        >>> overlay(np.array([[0, 200]], np.uint8), np.array([[1.0, 0.0]], np.float32), alpha=0.0).tolist()
        [[[0, 0, 0], [200, 200, 200]]]
    """
    grey, values = _array(pixels), _array(heat)
    if grey.dtype != np.uint8 or grey.ndim != 2:
        raise ArgumentError(f"the slice is {grey.dtype} {grey.shape}; an overlay needs uint8 (H, W)")
    if values.dtype.kind != "f" or values.shape != grey.shape:
        raise ArgumentError(f"the map is {values.dtype} {values.shape}; its slice needs floats {grey.shape}")
    if not ((values >= 0) & (values <= 1)).all():
        raise ArgumentError("the map leaves [0, 1] or holds NaN; make it with normalise=True")
    check_colours(colormap, alpha)
    from matplotlib import colormaps

    share = alpha * values[..., None] if by_strength else np.full((*values.shape, 1), alpha)
    if within is not None:
        share = share * within[..., None]
    mixed = (1 - share) * grey[..., None] + share * 255 * colormaps[colormap](values)[..., :3]
    return np.rint(mixed).astype(np.uint8)


def paint_regions(
    pixels: np.ndarray, areas: Mapping[str, np.ndarray], outlines: Mapping[str, np.ndarray], alpha: float = 0.5
) -> np.ndarray:
    """Paint regions over their grey slice.

    Args:
        pixels: uint8 (H, W), the slice.
        areas: by colour, such as "#0072b2", the mask bool (H, W) that is filled with it.
        outlines: by colour the mask whose edge is drawn with it, above the areas.
        alpha: share of the colours within areas.

    Returns:
        uint8 (H, W, 3), RGB.

    Example:
        >>> paint_regions(np.zeros((1, 2), np.uint8), {"#ff0000": np.array([[True, False]])}, {}, 1.0).tolist()
        [[[255, 0, 0], [0, 0, 0]]]
    """
    from scipy.ndimage import binary_erosion

    painted = np.repeat(pixels[..., None].astype(np.float64), 3, axis=2)
    edges = {colour: mask & ~np.asarray(binary_erosion(mask), bool) for colour, mask in outlines.items()}
    for share, masks in ((alpha, areas), (1.0, edges)):
        for colour, mask in masks.items():
            painted[mask] = (1 - share) * painted[mask] + share * np.array(ImageColor.getrgb(colour)[:3])
    return np.rint(painted).astype(np.uint8)


def colour_bar(colormap: str) -> np.ndarray:
    """Draw the colours of a map from 0 to 1, left to right: uint8 (12, 256, 3)."""
    from matplotlib import colormaps

    colours = colormaps[colormap](np.linspace(0, 1, 256))[:, :3]
    return np.rint(255 * colours).astype(np.uint8)[None].repeat(12, axis=0)


def check_colours(colormap: str, alpha: float) -> None:
    """Refuse colours that no overlay could have, before maps are made for it.

    Raises:
        UnknownNameError: matplotlib has no colormap of that name.
        ArgumentError: alpha is no share.
    """
    from matplotlib import colormaps

    if colormap not in colormaps:
        raise UnknownNameError("colormap", colormap, colormaps)
    if not 0 <= alpha <= 1:
        raise ArgumentError(f"alpha is {alpha}; give a share from 0 to 1")


def grid(
    slices: "Pixels",
    maps: "Pixels",
    titles: Sequence[str],
    columns: int = 4,
    *,
    scale: int = 2,
    side_by_side: bool = False,
    colormap: str = "inferno",
    alpha: float = 0.5,
    by_strength: bool = False,
    within: np.ndarray | None = None,
    heading: str = "",
) -> np.ndarray:
    """Draw overlays in rows under their titles, with a colour bar.

    Args:
        slices: uint8 (N, H, W), or N slices of one size.
        maps: float (N, H, W) in [0, 1], the map of each slice.
        titles: N texts; a long one is broken between words, and a column widens to its longest word.
        columns: overlays in a row.
        scale: side of a pixel of a slice on the grid.
        side_by_side: show each slice also plain, to the left of its overlay.
        colormap: name of a matplotlib colormap.
        alpha: share of the colours in the overlays.
        by_strength: as in overlay.
        within: bool (N, H, W), as in overlay.
        heading: stands above all.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        UnknownNameError: matplotlib has no colormap of that name.
        ArgumentError: slices, maps and titles differ in number, there are none, or one does not fit.

    Example:
        >>> slices, maps = np.zeros((2, 32, 32), np.uint8), np.ones((2, 32, 32), np.float32)
        >>> grid(slices, maps, ["first", "second"]).shape[2]
        3
    """
    for name, value in (("slices", slices), ("maps", maps), ("titles", titles)):
        check_type(name, value, Sized, "one for each place of the grid, in a list or an array")
    _check_grid(len(slices), len(maps), len(titles), columns, scale)
    tiles = [
        np.hstack([_plain(one)] * side_by_side + [overlay(one, heat, colormap, alpha, by_strength, inside)])
        for one, heat, inside in zip(slices, maps, [None] * len(maps) if within is None else within, strict=True)
    ]
    height, width = _tile_size(tiles, scale)
    columns = min(columns, len(tiles))
    cell = max(width, _longest_word(titles))
    captions = [_wrap(title, cell) for title in titles]
    top = max(len(lines) for lines in captions) * _LINE + _LINE // 3
    step_x, step_y, above = cell + _GAP, top + height + _GAP, _heading_height(heading, columns * (cell + _GAP))
    rows = ceil(len(tiles) / columns)
    page = _Page(_GAP + columns * step_x + _BAR, above + max(rows * step_y, top + _BAR + _GAP) + _GAP, heading)
    for place, (tile, lines) in enumerate(zip(tiles, captions, strict=True)):
        x, y = _GAP + place % columns * step_x, above + _GAP + place // columns * step_y
        page.write(lines, x, y + top - _LINE // 3 - len(lines) * _LINE)
        page.show(tile, x, y + top, scale)
    page.add_bar(_GAP + columns * step_x, above + _GAP + top, height, colormap)
    return page.draw()


def matrix(
    slices: "Pixels",
    maps: "Mapping[str, np.ndarray | Tensor]",
    titles: Sequence[str],
    *,
    scale: int = 1,
    colormap: str = "inferno",
    alpha: float = 0.5,
    by_strength: bool = False,
    within: np.ndarray | None = None,
    heading: str = "",
    first: str = "Slice",
) -> np.ndarray:
    """Draw a row for each slice: its title, the plain slice, and an overlay by each method; empty maps are marked.

    Args:
        slices: uint8 (N, H, W), or N slices of one size.
        maps: float (N, H, W) in [0, 1] by the title of their column.
        titles: N texts, which stand to the left of their rows, broken between words.
        scale: side of a pixel of a slice.
        colormap: name of a matplotlib colormap.
        alpha: share of the colours in the overlays.
        by_strength: as in overlay.
        within: bool (N, H, W), as in overlay.
        heading: stands above all.
        first: head of the plain slices.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        UnknownNameError: matplotlib has no colormap of that name.
        ArgumentError: slices, maps and titles differ in number, there are none, or one does not fit.
    """
    if not maps:
        raise ArgumentError("there are no maps; a matrix needs those of one method at least")
    for column in maps.values():
        _check_grid(len(slices), len(column), len(titles), len(maps), scale)
    masks = [None] * len(slices) if within is None else within
    tiles = [
        [_plain(one), *(overlay(one, column[row], colormap, alpha, by_strength, inside) for column in maps.values())]
        for row, (one, inside) in enumerate(zip(slices, masks, strict=True))
    ]
    height, width = _tile_size([tile for row in tiles for tile in row], scale)
    cell, margin = max(width, _longest_word([first, *maps])), max(_MARGIN, _longest_word(titles))
    heads, captions = [_wrap(head, cell) for head in (first, *maps)], [_wrap(title, margin) for title in titles]
    top, left = max(map(len, heads)) * _LINE + _LINE // 3, _GAP + margin + _GAP
    step_x, step_y = cell + _GAP // 2, max(height, max(map(len, captions)) * _LINE) + _GAP // 2
    above = _heading_height(heading, left + len(heads) * step_x)
    bottom = max(len(tiles) * step_y, _BAR + _GAP)
    page = _Page(left + len(heads) * step_x + _BAR, above + _GAP + top + bottom + _GAP, heading)
    y = above + _GAP + top
    for column, lines in enumerate(heads):
        page.write(lines, left + column * step_x, y - _LINE // 3 - len(lines) * _LINE)
    page.add_bar(left + len(heads) * step_x, y, height, colormap)
    for row, lines in enumerate(captions):
        page.write(lines, _GAP, y + row * step_y)
        for column, tile in enumerate(tiles[row]):
            page.show(tile, left + column * step_x, y + row * step_y, scale)
        for column, heats in enumerate(maps.values(), 1):
            if not _array(heats[row]).any():  # its one colour might be taken for a finding
                page.write(["empty map"], left + column * step_x + 2, y + row * step_y + 2, colour="white")
    return page.draw()


def png_bytes(array: np.ndarray) -> bytes:
    """Return an image as a PNG file's content.

    Args:
        array: uint8 (H, W) or (H, W, 3).

    Raises:
        ArgumentError: the array is no image.
    """
    if array.dtype != np.uint8 or array.shape[2:] not in ((), (3,)) or array.ndim < 2:
        raise ArgumentError(f"the image is {array.dtype} {array.shape}; a PNG needs uint8 (H, W) or (H, W, 3)")
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", compress_level=3)  # hardly larger than at 6, in half the time
    return buffer.getvalue()


def _array(values: "np.ndarray | Tensor") -> np.ndarray:
    if isinstance(values, np.ndarray):
        return values
    if not hasattr(values, "detach"):
        raise ArgumentTypeError(f"a slice or map is {reprlib.repr(values)}; give an array or a tensor")
    return values.detach().cpu().numpy()


def _check_grid(slices: int, maps: int, titles: int, columns: int, scale: int) -> None:
    if not slices == maps == titles or not slices:
        raise ArgumentError(
            f"{slices} slices, {maps} maps and {titles} titles; a grid needs at least one of each alike"
        )
    if columns < 1 or scale < 1:
        raise ArgumentError(f"columns is {columns} and scale is {scale}; both count from 1")


class _Page:
    """A white picture of so many pixels, with a heading; places are pixels from its upper left corner."""

    def __init__(self, width: int, height: int, heading: str) -> None:
        self.image = Image.new("RGB", (width, height), "white")
        self.write(_wrap(heading, width - 2 * _GAP), _GAP, _GAP)

    def show(self, tile: np.ndarray, x: int, y: int, scale: int) -> None:
        self.image.paste(Image.fromarray(tile.repeat(scale, 0).repeat(scale, 1)), (x, y))

    def write(self, lines: Sequence[str], x: int, y: int, colour: str = _INK) -> None:
        draw = ImageDraw.Draw(self.image)
        for row, line in enumerate(lines):
            draw.text((x, y + row * _LINE), line, colour, _font())

    def add_bar(self, x: int, y: int, height: int, colormap: str) -> None:
        height = max(height, _BAR)
        colours = colour_bar(colormap)[0, np.linspace(255, 0, height).round().astype(int)]
        self.show(colours[:, None].repeat(_BAR_WIDTH, 1), x, y, 1)
        draw = ImageDraw.Draw(self.image)
        for end, place, anchor in (("1", y, "lt"), ("0", y + height, "lb")):
            draw.text((x + _BAR_WIDTH + 3, place), end, _INK, _font(), anchor)
        label = Image.new("L", (_BAR, _LINE))
        ImageDraw.Draw(label).text((_BAR // 2, _LINE // 2), "evidence", 255, _font(), "mm")
        upwards = label.transpose(Image.Transpose.ROTATE_90)
        self.image.paste(_INK, (x + _BAR_WIDTH + 14, y + (height - _BAR) // 2), upwards)

    def draw(self) -> np.ndarray:
        return np.array(self.image)


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    """Return the font that matplotlib brings, which has the letters of most languages."""
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), _FONT)


def _plain(pixels: "np.ndarray | Tensor") -> np.ndarray:
    return np.repeat(_array(pixels)[..., None], 3, axis=2)


def _tile_size(tiles: Sequence[np.ndarray], scale: int) -> tuple[int, int]:
    """Return the height and width of all tiles on the page."""
    if len({tile.shape for tile in tiles}) > 1:
        raise ArgumentError("the slices of a grid differ in size; bring them to one size first")
    return tiles[0].shape[0] * scale, tiles[0].shape[1] * scale


def _wrap(text: str, width: int) -> list[str]:
    words = textwrap.TextWrapper(width // _CHARACTER, break_long_words=False, break_on_hyphens=False)
    lines = [words.wrap(line) for line in text.splitlines()]
    return [part for parts in lines for part in parts or [""]]


def _longest_word(texts: Sequence[str]) -> int:
    return _CHARACTER * max([len(word) for text in texts for word in text.split()], default=0)


def _heading_height(heading: str, width: int) -> int:
    return len(_wrap(heading, width - _GAP)) * _LINE + _GAP // 2 if heading else 0
