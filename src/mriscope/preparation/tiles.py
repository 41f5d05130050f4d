"""Small pictures of the steps from a volume to its slices."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from mriscope.data.volumes import PLANES
from mriscope.preparation.grids import Grid

SIDE = 96  # pixels
_LINE = (255, 140, 0)


@dataclass(frozen=True)
class Tile:
    """A picture of one step.

    Args:
        step: what was done, such as "as read".
        view: what is seen of it, such as "axial".
        jpeg: the file's bytes.
    """

    step: str
    view: str
    jpeg: bytes


def draw_layer(
    step: str, plane: str, grid: Grid, high: float, outline: np.ndarray | None = None, low: float = 0
) -> Tile:
    """Draw the middle layer of a volume along one axis.

    Args:
        step: what was done.
        plane: axial, coronal or sagittal.
        grid: the volume.
        high: the value that is white.
        outline: bool (I, J, K), whose border is drawn; None for none. Its middle is where the layer is taken.
        low: the value that is black.
    """
    normal = PLANES.index(plane)
    shown = np.argwhere(grid.data > 0 if outline is None else outline)
    middle = int((shown[:, normal].min() + shown[:, normal].max()) / 2) if len(shown) else grid.data.shape[normal] // 2
    rows, columns = (axis for axis in (2, 1, 0) if axis != normal)
    image, border = (
        None if one is None else np.moveaxis(one, (normal, rows, columns), (0, 1, 2))[middle, ::-1]
        for one in (grid.data, outline)
    )
    assert image is not None
    grey = ((image - low) * (255 / max(high - low, 1e-6))).clip(0, 255).astype(np.uint8)
    height, width = (
        round(one * grid.spacings[axis] * 4) for one, axis in zip(image.shape, (rows, columns), strict=True)
    )
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX).convert("RGB")).copy()
    if border is not None:
        mask = np.asarray(Image.fromarray(border).resize(size, Image.Resampling.NEAREST))
        picture[mask & ~np.asarray(ndimage.binary_erosion(mask), bool)] = _LINE
    return Tile(step, plane, _on_square(picture))


def draw_slice(step: str, view: str, image: np.ndarray) -> Tile:
    """Draw a slice, uint8 (H, W)."""
    small = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX).convert("RGB")
    return Tile(step, view, _on_square(np.asarray(small)))


def _on_square(picture: np.ndarray) -> bytes:
    square = np.zeros((SIDE, SIDE, 3), np.uint8)
    top, left = ((SIDE - side) // 2 for side in picture.shape[:2])
    square[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    file = io.BytesIO()
    Image.fromarray(square).save(file, "JPEG", quality=80)
    return file.getvalue()
