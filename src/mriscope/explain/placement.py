"""Place axial slices in template space: at which height each lies, and which pixels are medial temporal there.

A slice has no height of its own. It is compared with the axial slices of the MNI ICBM152 average, 2 mm apart,
each brain stretched to one bounding box, and takes the height of the one that it resembles most. A slice that
resembles none (another plane, a skull, another contrast) is not placed. The front of the brain may be above or below.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import scipy  # which imports its ndimage where that is used

from mriscope.data.anatomy import LOW, TEMPLATE, load_atlas
from mriscope.data.cache import cached_arrays, content_key
from mriscope.explain.metrics.localisation import brain_mask

LEAST_LIKENESS = 0.36
"""Correlation with the template from which a slice counts as placed; see docs/explain.md for what was measured."""
HEIGHTS = np.arange(-28.0, 53.0, 2.0)
"""Millimetres above the anterior commissure that are compared; the template reaches little further."""
_VERSION = 1  # of the template's slices: raise it where the atlas or what is made of it here changes
_CELLS = 32  # the bounding box of a brain, in each direction
_AMYGDALA, _TAIL = np.array([24.0, -1.0, -17.0]), np.array([27.0, -40.0, -4.0])  # mm; the left ones mirror them
_RADIUS = 12.0  # mm; from that axis it reaches to the parahippocampal gyrus


@dataclass(frozen=True, eq=False)
class Placement:
    """Where slices lie in template space.

    Args:
        heights: float64 (N,), mm above the anterior commissure; nan for a slice that is not placed.
        likeness: float64 (N,), correlation with the template at the height that the slice resembles most; nan without
            brain.
        scales: float64 (N, 2, 2), for rows then columns the offset and step that take a pixel to mm: y from posterior
            to anterior, x from left to right; nan where not placed.
    """

    heights: np.ndarray
    likeness: np.ndarray
    scales: np.ndarray

    @property
    def placed(self) -> np.ndarray:
        """Return which slices are placed, bool (N,)."""
        return ~np.isnan(self.heights)


def place_slices(images: np.ndarray) -> Placement:
    """Find the height and the scale of axial T1 slices without a skull, each by itself.

    Args:
        images: uint8 (N, H, W), the front of the brain above or below; 0 is background.

    Raises:
        ArgumentError: the images have another type or shape.

    Example:
        >>> from mriscope import make_phantom
        >>> slices = make_phantom(1, slices=2, seed=0).slices  # 23 mm apart
        >>> bool(15 < np.diff(place_slices(slices.images).heights).item() < 31)
        True
    """
    masks, (template, boxes) = brain_mask(images), _template_slices()
    heights, likeness = np.full((2, len(images)), np.nan)
    scales = np.full((len(images), 2, 2), np.nan)
    for row, (image, mask) in enumerate(zip(images, masks, strict=True)):
        if not mask.any():
            continue
        box = _bounding_box(mask)
        found = template @ _standardise(image, mask, box)
        best = int(found.argmax())
        likeness[row] = found[best]
        if found[best] >= LEAST_LIKENESS:
            heights[row], scales[row] = HEIGHTS[best % len(HEIGHTS)], _scale(box, boxes[best])
    return Placement(heights, likeness, scales)


def find_medial_temporal(placement: Placement, shape: tuple[int, int]) -> np.ndarray:
    """Mark the medial temporal lobe: within 12 mm of the axis from the amygdala to the tail of the hippocampus.

    The ends are near the centres that the AAL atlas (Tzourio-Mazoyer et al., 2002) gives for amygdala and hippocampus,
    drawn out to its tail. It is the same place in every brain, which no map of an altered brain is.

    Args:
        placement: of N slices.
        shape: height and width of the slices.

    Returns:
        bool (N, H, W); nothing where a slice is not placed or lies above the hippocampus. It does not stop at the
        outline of the brain.
    """
    found = np.zeros((len(placement.heights), *shape), bool)
    axis = _TAIL - _AMYGDALA
    for row in np.flatnonzero(placement.placed):
        (y0, dy), (x0, dx) = placement.scales[row]
        y, x = (y0 + dy * np.arange(shape[0]))[:, None], np.abs(x0 + dx * np.arange(shape[1]))
        away = [part - start for part, start in zip((x, y, placement.heights[row]), _AMYGDALA, strict=True)]
        along = np.clip(sum(part * step for part, step in zip(away, axis, strict=True)) / (axis @ axis), 0, 1)
        squares = [(part - along * step) ** 2 for part, step in zip(away, axis, strict=True)]
        found[row] = sum(squares) <= _RADIUS**2
    return found


@lru_cache(maxsize=1)
def _template_slices() -> tuple[np.ndarray, np.ndarray]:
    """Return the template at each height, standardised, float64 (2 Z, CELLS²), and bounding boxes in mm (2 Z, 2, 2).

    The first half has the front of the brain above, the second below, as in the public slices. They are kept in the
    user's cache, as making them takes a third of a second.
    """
    template = Path(str(files("mriscope.data"))) / TEMPLATE
    key = content_key({TEMPLATE: template}, version=_VERSION, heights=HEIGHTS.tolist(), cells=_CELLS)
    kept = cached_arrays("template", key, lambda: dict(zip(("slices", "boxes"), _make_template_slices(), strict=True)))
    return kept["slices"], kept["boxes"]


def _make_template_slices() -> tuple[np.ndarray, np.ndarray]:
    atlas, (x_left, y_back, lowest) = load_atlas(), LOW
    rows, boxes = [], []
    for layer in (HEIGHTS - lowest).astype(int):
        image = atlas.tissue[:, ::-1, layer].T  # anterior up, left to right
        deep = atlas.depth[:, :, layer // 2].repeat(2, 0).repeat(2, 1)[: image.shape[1], : image.shape[0]] > 0
        brain = deep[:, ::-1].T
        box = _bounding_box(brain)
        rows.append(_standardise(image, brain, box))
        front = y_back + len(image) - 1
        boxes.append([front - box[0], x_left + box[1]])
    upright, boxes = np.stack(rows).reshape(-1, _CELLS, _CELLS), np.array(boxes)
    turned = np.stack([boxes[:, 0, ::-1], boxes[:, 1]], axis=1)
    both = np.concatenate([upright, upright[:, ::-1]]).reshape(-1, _CELLS**2)
    return both, np.concatenate([boxes, turned])


def _bounding_box(mask: np.ndarray) -> np.ndarray:
    """Return the first and last row, and the first and last column, of a mask: float64 (2, 2)."""
    places = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    return np.array([[one[0], one[-1]] for one in places], np.float64)


def _standardise(image: np.ndarray, brain: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Sample a slice at CELLS × CELLS places of its bounding box: float64 (CELLS²,), of mean 0 and length 1.

    The mean is that of the brain, and what is outside is 0, so that an outline alone resembles nothing.
    """
    sigma = len(image) / 100
    share, sums = (scipy.ndimage.gaussian_filter(one, sigma) for one in (brain * 1.0, brain * image.astype(np.float64)))
    smooth = sums / np.maximum(share, 1e-6)  # not darker at the outline, of which all brains have one
    shares = (np.arange(_CELLS) + 0.5) / _CELLS
    places = np.meshgrid(*(first + shares * (last - first) for first, last in box), indexing="ij")
    values, inside = (scipy.ndimage.map_coordinates(one, places, order=1).ravel() for one in (smooth, brain * 1.0))
    values = np.where(inside > 0.5, values, 0)
    values = np.where(inside > 0.5, values - values.sum() / max((inside > 0.5).sum(), 1), 0)
    return values / max(np.linalg.norm(values), np.finfo(float).tiny)


def _scale(box: np.ndarray, millimetres: np.ndarray) -> np.ndarray:
    """Return offset and step from pixels to mm, for rows then columns, that take one bounding box to the other."""
    steps = np.diff(millimetres, axis=1)[:, 0] / np.maximum(np.diff(box, axis=1)[:, 0], 1)
    return np.stack([millimetres[:, 0] - steps * box[:, 0], steps], axis=1)
