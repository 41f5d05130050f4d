"""Maps laid over slices: one overlay, a titled grid of many, a matrix of slices by methods, and a PNG of each."""

import io
from collections.abc import Mapping, Sequence
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
_TEXT, _LINE, _GAP, _MARGIN = 15, 20, 16, 225  # pixels
_MEANING = "evidence"
_NOTHING = "carries nothing"


def overlay(
    pixels: "np.ndarray | Tensor",
    heat: "np.ndarray | Tensor",
    colormap: str = "jet",
    alpha: float = 0.5,
    by_strength: bool = False,
) -> np.ndarray:
    """A map as colours over its grey slice; the defaults are the reference study's.

    Args:
        pixels: uint8 (H, W), the slice.
        heat: float (H, W) in [0, 1], its map.
        colormap: name of a matplotlib colormap.
        alpha: share of the colours, from 0 (the grey slice) to 1 (the colours alone).
        by_strength: multiply that share by the map, so that the slice shows plain where the map is 0.

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
    check_colours(colormap, alpha)
    share = alpha * values[..., None] if by_strength else alpha
    mixed = (1 - share) * grey[..., None] + share * _colours(values, colormap)
    return np.rint(mixed).astype(np.uint8)


def check_colours(colormap: str, alpha: float) -> None:
    """Refuse colours that no overlay could have, before maps are made for it.

    Raises:
        UnknownName: matplotlib has no colormap of that name.
        MriscopeError: alpha is no share.
    """
    from matplotlib import colormaps

    if colormap not in colormaps:
        raise UnknownName("colormap", colormap, colormaps)
    if not 0 <= alpha <= 1:
        raise MriscopeError(f"alpha is {alpha}; give a share from 0 to 1")


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
    by_strength: bool = False,
    heading: str = "",
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
        by_strength: as in overlay.
        heading: stands above all.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        UnknownName: matplotlib has no colormap of that name.
        MriscopeError: slices, maps and titles differ in number, there are none, or one does not fit.
    """
    _check_grid(len(slices), len(maps), len(titles), columns, scale)
    tiles = [_tile(*pair, scale, side_by_side, colormap, alpha, by_strength) for pair in zip(slices, maps, strict=True)]
    _check_sizes(tiles)
    font = _font()
    width = max([tiles[0].width] + [ceil(font.getlength(word)) for title in titles for word in title.split()])
    captions = [_broken(title, font, width) for title in titles]
    top = max(len(lines) for lines in captions) * _LINE + _LINE // 4
    cells = [_captioned(*pair, width, top, font) for pair in zip(tiles, captions, strict=True)]
    return np.array(_headed(_page(cells, columns, _bar(tiles[0].height, colormap, font), top), heading, font))


def matrix(
    slices: "Sequence[np.ndarray | Tensor] | np.ndarray | Tensor",
    maps: "Mapping[str, np.ndarray | Tensor]",
    titles: Sequence[str],
    *,
    scale: int = 1,
    colormap: str = "jet",
    alpha: float = 0.5,
    by_strength: bool = False,
    heading: str = "",
    first: str = "Slice",
) -> np.ndarray:
    """A row for each slice: its title, the plain slice, and an overlay by each method; a map of zeros is said to be so.

    Args:
        slices: uint8 (N, H, W), or N slices of one size.
        maps: float (N, H, W) in [0, 1] by the title of their column.
        titles: N texts, which stand to the left of their rows, broken between words.
        scale: side of a pixel of a slice.
        colormap: name of a matplotlib colormap.
        alpha: share of the colours in the overlays.
        by_strength: as in overlay.
        heading: stands above all.
        first: head of the plain slices.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        UnknownName: matplotlib has no colormap of that name.
        MriscopeError: slices, maps and titles differ in number, there are none, or one does not fit.
    """
    if not maps:
        raise MriscopeError("there are no maps; a matrix needs those of one method at least")
    for column in maps.values():
        _check_grid(len(slices), len(column), len(titles), len(maps), scale)
    font = _font()

    def row_of(row: int, pixels: "np.ndarray | Tensor") -> list[Image.Image]:
        heats = [column[row] for column in maps.values()]
        over = [_tile(pixels, heat, scale, False, colormap, alpha, by_strength) for heat in heats]
        return [_plain_tile(pixels, scale), *(_noted(*pair, font) for pair in zip(over, heats, strict=True))]

    rows = [row_of(row, pixels) for row, pixels in enumerate(slices)]
    _check_sizes([tile for row in rows for tile in row])
    heads = [first, *maps]
    width = max([rows[0][0].width] + [ceil(font.getlength(word)) for head in heads for word in head.split()])
    lines = [_broken(head, font, width) for head in heads]
    margin = max([_MARGIN] + [ceil(font.getlength(word)) for title in titles for word in title.split()])
    words = [_broken(title, font, margin) for title in titles]
    page = _table_page(rows, lines, words, (width, margin), _bar(rows[0][0].height, colormap, font), font)
    return np.array(_headed(page, heading, font))


def save_png(array: np.ndarray, path: str | Path) -> None:
    """Write an image as PNG; whoever looks finds the old file or the whole new one, never a part.

    Args:
        array: uint8 (H, W) or (H, W, 3).
        path: the file; its folder is made where it is missing.

    Raises:
        MriscopeError: the array is no image.
        WriteError: the file cannot be written.
    """
    write_bytes(path, png_bytes(array))


def png_bytes(array: np.ndarray) -> bytes:
    """An image as a PNG file's content.

    Args:
        array: uint8 (H, W) or (H, W, 3).

    Raises:
        MriscopeError: the array is no image.
    """
    if array.dtype != np.uint8 or array.shape[2:] not in ((), (3,)) or array.ndim < 2:
        raise MriscopeError(f"the image is {array.dtype} {array.shape}; a PNG needs uint8 (H, W) or (H, W, 3)")
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def _array(values: "np.ndarray | Tensor") -> np.ndarray:
    return values if isinstance(values, np.ndarray) else values.detach().cpu().numpy()


def _colours(values: np.ndarray, colormap: str) -> np.ndarray:
    """Values in [0, 1] as float RGB from 0 to 255."""
    from matplotlib import colormaps

    return colormaps[colormap](values)[..., :3] * 255


def _check_grid(slices: int, maps: int, titles: int, columns: int, scale: int) -> None:
    if not slices == maps == titles or not slices:
        raise MriscopeError(
            f"{slices} slices, {maps} maps and {titles} titles; a grid needs at least one of each alike"
        )
    if columns < 1 or scale < 1:
        raise MriscopeError(f"columns is {columns} and scale is {scale}; both count from 1")


def _check_sizes(tiles: Sequence[Image.Image]) -> None:
    if len({tile.size for tile in tiles}) > 1:
        raise MriscopeError("the slices of a grid differ in size; bring them to one size first")


def _tile(
    pixels: "np.ndarray | Tensor",
    heat: "np.ndarray | Tensor",
    scale: int,
    side_by_side: bool,
    colormap: str,
    alpha: float,
    by_strength: bool,
) -> Image.Image:
    over = _enlarged(overlay(pixels, heat, colormap, alpha, by_strength), scale)
    return _beside(_plain_tile(pixels, scale), over) if side_by_side else over


def _plain_tile(pixels: "np.ndarray | Tensor", scale: int) -> Image.Image:
    return _enlarged(np.repeat(_array(pixels)[..., None], 3, axis=2), scale)


def _enlarged(pixels: np.ndarray, scale: int) -> Image.Image:
    tile = Image.fromarray(pixels)
    return tile.resize((tile.width * scale, tile.height * scale), Image.Resampling.NEAREST)


def _beside(left: Image.Image, right: Image.Image) -> Image.Image:
    return Image.fromarray(np.hstack([np.asarray(left), np.asarray(right)]))


def _noted(tile: Image.Image, heat: "np.ndarray | Tensor", font: ImageFont.FreeTypeFont) -> Image.Image:
    """The tile; of a map of zeros it says that it carries nothing, as its one colour might be taken for a finding."""
    if not _array(heat).any() and font.getlength(_NOTHING) <= tile.width:
        ImageDraw.Draw(tile).text((tile.width / 2, 2), _NOTHING, _PAPER, font, anchor="mt")
    return tile


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


def _table_page(
    rows: Sequence[Sequence[Image.Image]],
    heads: Sequence[Sequence[str]],
    words: Sequence[Sequence[str]],
    widths: tuple[int, int],
    bar: Image.Image,
    font: ImageFont.FreeTypeFont,
) -> Image.Image:
    """Rows of tiles under the lines of their heads, their words at the left, and the bar beside the first row."""
    width, margin = widths
    top = _GAP + max(map(len, heads)) * _LINE + _LINE // 4
    step_x = width + _GAP // 2
    step_y = max(rows[0][0].height, max(map(len, words)) * _LINE) + _GAP // 2
    left = _GAP + margin + _GAP
    height = max(top + len(rows) * step_y, top + bar.height) + _GAP
    page = Image.new("RGB", (left + len(heads) * step_x + bar.width + _GAP, height), _PAPER)
    draw = ImageDraw.Draw(page)
    for column, lines in enumerate(heads):
        for row, line in enumerate(lines):
            y = top - _LINE // 4 - (len(lines) - row) * _LINE
            draw.text((left + column * step_x, y), line, _INK, font)
    for row, (tiles, lines) in enumerate(zip(rows, words, strict=True)):
        y = top + row * step_y
        for place, line in enumerate(lines):
            draw.text((_GAP, y + place * _LINE), line, _INK, font)
        for column, tile in enumerate(tiles):
            page.paste(tile, (left + column * step_x, y))
    page.paste(bar, (left + len(heads) * step_x, top))
    return page


def _headed(page: Image.Image, heading: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """The page under a heading, which widens it no further than to its longest word."""
    if not heading:
        return page
    width = max(page.width, 2 * _GAP + max(ceil(font.getlength(word)) for word in heading.split()))
    lines = _broken(heading, font, width - 2 * _GAP)
    top = _GAP + len(lines) * _LINE
    headed = Image.new("RGB", (width, top + page.height), _PAPER)
    draw = ImageDraw.Draw(headed)
    for row, line in enumerate(lines):
        draw.text((_GAP, _GAP + row * _LINE), line, _INK, font)
    headed.paste(page, (0, top))
    return headed
