"""Maps laid over slices: one overlay, a titled grid of many, and a PNG of either."""

import io
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mriscope.errors import MriscopeError, UnknownName
from mriscope.files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor

_PAPER, _INK = (255, 255, 255), (32, 32, 32)
_TEXT, _LINE, _GAP = 15, 20, 16  # pixels
_MEANING = "evidence"


def overlay(
    pixels: "np.ndarray | Tensor", heat: "np.ndarray | Tensor", colormap: str = "jet", alpha: float = 0.5
) -> np.ndarray:
    """A map as colours over its grey slice; the defaults are the reference study's.

    Args:
        pixels: uint8 (H, W), the slice.
        heat: float (H, W) in [0, 1], its map.
        colormap: name of a matplotlib colormap.
        alpha: share of the colours, from 0 (the grey slice) to 1 (the colours alone).

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        UnknownName: matplotlib has no colormap of that name.
        MriscopeError: slice, map or alpha have another type, shape or range.
    """
    grey, values = _array(pixels), _array(heat)
    if grey.dtype != np.uint8 or grey.ndim != 2:
        raise MriscopeError(f"the slice is {grey.dtype} {grey.shape}; an overlay needs uint8 (H, W)")
    if values.dtype.kind != "f" or values.shape != grey.shape:
        raise MriscopeError(f"the map is {values.dtype} {values.shape}; its slice needs floats {grey.shape}")
    if not ((values >= 0) & (values <= 1)).all():
        raise MriscopeError("the map leaves [0, 1] or holds NaN; make it with normalise=True")
    if not 0 <= alpha <= 1:
        raise MriscopeError(f"alpha is {alpha}; give a share from 0 to 1")
    mixed = (1 - alpha) * grey[..., None] + alpha * _colours(values, colormap)
    return np.rint(mixed).astype(np.uint8)


def grid(
    slices: "Sequence[np.ndarray | Tensor] | np.ndarray | Tensor",
    maps: "Sequence[np.ndarray | Tensor] | np.ndarray | Tensor",
    titles: Sequence[str],
    columns: int = 4,
    *,
    scale: int = 2,
    side_by_side: bool = False,
    colormap: str = "jet",
    alpha: float = 0.5,
) -> np.ndarray:
    """Overlays in rows under their titles, with a bar that says what the colours mean.

    Args:
        slices: uint8 (N, H, W), or N slices of one size.
        maps: float (N, H, W) in [0, 1], the map of each slice.
        titles: N texts; a long one is broken between words, and a column widens to its longest word.
        columns: overlays in a row.
        scale: side of a pixel of a slice on the grid.
        side_by_side: show each slice also plain, to the left of its overlay.
        colormap: name of a matplotlib colormap.
        alpha: share of the colours in the overlays.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        UnknownName: matplotlib has no colormap of that name.
        MriscopeError: slices, maps and titles differ in number, there are none, or one does not fit.
    """
    _check_grid(len(slices), len(maps), len(titles), columns, scale)
    tiles = [_tile(*pair, scale, side_by_side, colormap, alpha) for pair in zip(slices, maps, strict=True)]
    if len({tile.size for tile in tiles}) > 1:
        raise MriscopeError("the slices of a grid differ in size; bring them to one size first")
    font = _font()
    width = max([tiles[0].width] + [ceil(font.getlength(word)) for title in titles for word in title.split()])
    captions = [_broken(title, font, width) for title in titles]
    heading = max(len(lines) for lines in captions) * _LINE + _LINE // 4
    cells = [_captioned(*pair, width, heading, font) for pair in zip(tiles, captions, strict=True)]
    return np.array(_page(cells, columns, _bar(tiles[0].height, colormap, font), heading))


def save_png(array: np.ndarray, path: str | Path) -> None:
    """Write an image as PNG; whoever looks finds the old file or the whole new one, never a part.

    Args:
        array: uint8 (H, W) or (H, W, 3).
        path: the file; its folder is made where it is missing.

    Raises:
        MriscopeError: the array is no image.
        WriteError: the file cannot be written.
    """
    if array.dtype != np.uint8 or array.shape[2:] not in ((), (3,)) or array.ndim < 2:
        raise MriscopeError(f"the image is {array.dtype} {array.shape}; a PNG needs uint8 (H, W) or (H, W, 3)")
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def _array(values: "np.ndarray | Tensor") -> np.ndarray:
    return values if isinstance(values, np.ndarray) else values.detach().cpu().numpy()


def _colours(values: np.ndarray, colormap: str) -> np.ndarray:
    """Values in [0, 1] as float RGB from 0 to 255."""
    from matplotlib import colormaps

    if colormap not in colormaps:
        raise UnknownName("colormap", colormap, colormaps)
    return colormaps[colormap](values)[..., :3] * 255


def _check_grid(slices: int, maps: int, titles: int, columns: int, scale: int) -> None:
    if not slices == maps == titles or not slices:
        raise MriscopeError(
            f"{slices} slices, {maps} maps and {titles} titles; a grid needs at least one of each alike"
        )
    if columns < 1 or scale < 1:
        raise MriscopeError(f"columns is {columns} and scale is {scale}; both count from 1")


def _tile(
    pixels: "np.ndarray | Tensor",
    heat: "np.ndarray | Tensor",
    scale: int,
    side_by_side: bool,
    colormap: str,
    alpha: float,
) -> Image.Image:
    over = overlay(pixels, heat, colormap, alpha)
    plain = np.repeat(_array(pixels)[..., None], 3, axis=2)
    tile = Image.fromarray(np.hstack([plain, over]) if side_by_side else over)
    return tile.resize((tile.width * scale, tile.height * scale), Image.Resampling.NEAREST)


def _font() -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib, so that a grid looks alike on every machine."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), _TEXT)


def _broken(title: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The lines of a title, broken between words where a line would be wider."""
    lines: list[str] = []
    for paragraph in title.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


def _captioned(
    tile: Image.Image, lines: Sequence[str], width: int, heading: int, font: ImageFont.FreeTypeFont
) -> Image.Image:
    """A tile under its title, whose last line stands next to it."""
    cell = Image.new("RGB", (width, heading + tile.height), _PAPER)
    draw = ImageDraw.Draw(cell)
    top = heading - _LINE // 4 - len(lines) * _LINE
    for row, line in enumerate(lines):
        draw.text((0, top + row * _LINE), line, _INK, font)
    cell.paste(tile, (0, heading))
    return cell


def _bar(height: int, colormap: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """The colours from 0 at the bottom to 1 at the top, and what they stand for."""
    label = Image.new("RGB", (ceil(font.getlength(_MEANING)), _LINE), _PAPER)
    ImageDraw.Draw(label).text((0, 0), _MEANING, _INK, font)
    height = max(height, label.width + 2 * _LINE)
    bar = Image.new("RGB", (_LINE + 4 + _LINE, height), _PAPER)
    ramp = _colours(np.linspace(1, 0, height)[:, None].repeat(_LINE * 3 // 4, axis=1), colormap)
    bar.paste(Image.fromarray(np.rint(ramp).astype(np.uint8)), (0, 0))
    draw = ImageDraw.Draw(bar)
    draw.text((_LINE, 0), "1", _INK, font, anchor="lt")
    draw.text((_LINE, height - 1), "0", _INK, font, anchor="lb")
    bar.paste(label.rotate(90, expand=True), (_LINE, (height - label.width) // 2))
    return bar


def _page(cells: Sequence[Image.Image], columns: int, bar: Image.Image, heading: int) -> Image.Image:
    """Cells in rows, and the bar beside the first tiles of the last column."""
    columns = min(columns, len(cells))
    rows = ceil(len(cells) / columns)
    step_x, step_y = cells[0].width + _GAP, cells[0].height + _GAP
    height = max(rows * step_y, heading + bar.height + _GAP)
    page = Image.new("RGB", (_GAP + columns * step_x + bar.width + _GAP, _GAP + height), _PAPER)
    for place, cell in enumerate(cells):
        page.paste(cell, (_GAP + place % columns * step_x, _GAP + place // columns * step_y))
    page.paste(bar, (_GAP + columns * step_x, _GAP + heading))
    return page
