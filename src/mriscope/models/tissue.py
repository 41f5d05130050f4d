"""Descriptions of a subject's tissue: grey values normalised to white matter, and their histograms by region.

An axial slab is a group of consecutive slices; a concentric ring is a band around the middle of a slice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy  # which imports its ndimage where that is used

VERSION = 1
"""Of what is computed here, and of the blocks that models join: raise it with every change, so that no description
which another version left in the cache stands."""
BINS = 12  # of grey values from 0 to _TOP; fluid lies in the third to sixth, grey matter up to the eighth
_TOP = 1.2  # times white matter; what is brighter (vessels, fat) joins the last bin
_BRAIN = 8  # grey values of the brain begin here; below lie background and the rims that JPEG leaves
_SATURATED = 252
_NEAR = 0.12  # in logarithms of brightness; how far white matter may lie from the last fit of the shading
_ROUNDS = 4
_STRIDE = 3  # in pixels; shading is smooth, so that one pixel in nine determines it
_MAP = (8, 16, 16)
MAP_WIDTH = 8 * 16 * 16
"""Number of values of a tissue map."""
_BORDER = 0.84  # of half the side; the brain's outline in registered slices
_GREY_MATTER = (0.5, 0.8)  # times white matter; between them lies its most frequent grey value
_FLUID = 2 / 3  # of that value; between fluid and grey matter, wherever a scanner and age put the latter


@dataclass(frozen=True)
class Regions:
    """Regions of a stack of slices, and the values that are counted in each.

    Args:
        slabs: number of axial slabs, equally thick.
        rings: number of concentric rings, equally wide; the last holds the background too.
        sigma: None counts grey values; else pairs of a grey value and its local mean are counted, where a Gaussian of
            this standard deviation, as a share of the side, takes the mean.
    """

    slabs: int
    rings: int
    sigma: float | None = None

    @property
    def bins(self) -> int:
        """Number of bins of each histogram."""
        return BINS if self.sigma is None else BINS**2

    @property
    def width(self) -> int:
        """Number of values that describe a subject."""
        return self.slabs * self.rings * self.bins


def normalize_volume(images: np.ndarray) -> np.ndarray:
    """Scale slices so that white matter is 1: each slice by its own level, the stack by a smooth shading.

    Public slices are stretched to full contrast one by one, so their grey values do not compare as they are.

    Args:
        images: uint8 (S, H, W), skull-stripped slices of one subject in order; 0 is background.

    Returns:
        float32 (S, H, W), 0 where the background is.
    """
    levels = np.array([white_matter_level(image) for image in images], np.float32)
    volume = images / levels[:, None, None]
    return volume * np.exp(-_estimate_shading(volume))


def white_matter_level(image: np.ndarray) -> float:
    """Find the most frequent grey value among the bright tenth of a skull-stripped T1 slice and the nearly as bright.

    Args:
        image: uint8 (H, W); 0 is background.

    Returns:
        grey value in (0, 255]; 1 where the slice is empty.
    """
    brain = image[image > _BRAIN]
    if not brain.size:
        return 1.0
    counts = np.bincount(brain, minlength=256).astype(float)
    counts[_SATURATED:] = 0
    lowest = int(0.9 * np.percentile(brain, 90))
    return float(lowest + scipy.ndimage.gaussian_filter1d(counts, 3)[lowest:].argmax())


def region_histograms(volume: np.ndarray, regions: Regions) -> np.ndarray:
    """Compute square roots of the share of each grey value in each region, so that distances are Hellinger's.

    Args:
        volume: float32 (S, H, W) in order, white matter at 1.
        regions: the regions, and what is counted in each.

    Returns:
        float32 (slabs * rings * bins,), each region's squares summing to 1; 0 in a region without pixels.
    """
    return _count_in_regions(_code_values(volume, regions.sigma), regions)


def _code_values(volume: np.ndarray, sigma: float | None) -> np.ndarray:
    """Return the bin of what is counted at each pixel, int64 (S, H, W)."""
    codes = _bin_values(volume)
    if sigma is None:
        return codes
    around = sigma * volume.shape[-1]
    return codes * BINS + _bin_values(scipy.ndimage.gaussian_filter(volume, (0, around, around)))


def _count_in_regions(codes: np.ndarray, regions: Regions) -> np.ndarray:
    """Return square roots of the shares of the codes in each region, as region_histograms does."""
    where = _label_regions(codes.shape, regions.slabs, regions.rings)
    counts = np.bincount((where * regions.bins + codes).ravel(), minlength=regions.width).astype(float)
    counts = counts.reshape(-1, regions.bins)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.sqrt(shares).ravel().astype(np.float32)


def tissue_map(volume: np.ndarray) -> np.ndarray:
    """Blur and coarsen what is not fluid, as voxel-based morphometry (Ashburner and Friston, 2000) does.

    Args:
        volume: float32 (S, H, W) in order, white matter at 1.

    Returns:
        float32 (MAP_WIDTH,), from 0 to 1: 8 heights, 16 rows and 16 columns, whatever the size of the volume.
    """
    tissue = np.clip((volume - 0.3) / 0.3, 0, 1)
    along_z, along_y, along_x = (_blur_matrix(side, cells) for side, cells in zip(volume.shape, _MAP, strict=True))
    rows = np.tensordot(along_z, np.matmul(along_y, tissue @ along_x.T), 1)
    return rows.ravel().astype(np.float32)


@lru_cache(maxsize=8)
def _blur_matrix(side: int, cells: int) -> np.ndarray:
    """Return the Gaussian filter of an axis at the places that the map keeps alone: float64 (cells, side)."""
    kept = np.arange(cells) * side // cells
    return scipy.ndimage.gaussian_filter1d(np.eye(side), side / cells, axis=0)[kept]


def brain_fractions(images: np.ndarray) -> tuple[float, float]:
    """Measure two scalars of a subject that any model should surpass: how much is brain, and how much fluid inside.

    Fluid is what is darker than two thirds of the most frequent grey value of grey matter, within the outline of each
    slice with its holes filled.

    Args:
        images: uint8 (S, H, W), skull-stripped slices of one subject in order; 0 is background.

    Returns:
        the share of the outline that is not fluid, as normalised whole-brain volume measures it of a whole head; and
        the share of fluid in the inner half of the outline by its radius, most of it ventricles. nan without brain.
    """
    volume, inside, fluid = segment_fluid(images)
    if not inside.any():
        return float("nan"), float("nan")
    inner = inside & (_label_regions(volume.shape, 1, 2) == 0)
    return float(1 - fluid.sum() / inside.sum()), float((fluid & inner).sum() / max(inner.sum(), 1))


def segment_fluid(images: np.ndarray, below: float = _FLUID) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Segment brain and fluid of one subject by grey values: fluid as `brain_fractions` takes it.

    Args:
        images: uint8 (S, H, W), skull-stripped slices of one subject in order; 0 is background.
        below: fluid is what is darker than this multiple of the most frequent grey value of grey matter.

    Returns:
        three arrays of the images' shape: float32 grey values with white matter at 1; bool, within the outline of each
        slice, holes filled; and bool, fluid within it.
    """
    volume = normalize_volume(images)
    inside = _fill_holes(images > _BRAIN)
    if not inside.any():
        return volume, inside, inside
    counts, edges = np.histogram(volume[inside], bins=60, range=(0, _TOP))
    middles = (edges[:-1] + edges[1:]) / 2
    grey = np.flatnonzero((middles >= _GREY_MATTER[0]) & (middles <= _GREY_MATTER[1]))
    peak = middles[grey[scipy.ndimage.gaussian_filter1d(counts.astype(float), 1.5)[grey].argmax()]]
    return volume, inside, inside & (volume < below * peak)


def _fill_holes(masks: np.ndarray) -> np.ndarray:
    """Fill the holes of each mask, bool (S, H, W), as scipy.ndimage.binary_fill_holes does of one, in half the time."""
    within_slice = scipy.ndimage.generate_binary_structure(3, 1)
    within_slice[[0, 2]] = False
    pieces, count = scipy.ndimage.label(~masks, within_slice)
    outside = np.zeros(count + 1, bool)
    for border in (pieces[:, 0], pieces[:, -1], pieces[:, :, 0], pieces[:, :, -1]):
        outside[border] = True
    outside[0] = False  # the mask itself
    return ~outside[pieces]


def describe(images: np.ndarray, blocks: Sequence[Regions]) -> np.ndarray:
    """Concatenate all histograms of a subject: float32 (sum of widths,) of uint8 (S, H, W) slices in order."""
    return np.concatenate(several_histograms(normalize_volume(images), blocks))


def several_histograms(volume: np.ndarray, blocks: Sequence[Regions]) -> list[np.ndarray]:
    """Compute region_histograms of several blocks; those of one sigma share the local means."""
    codes = {sigma: _code_values(volume, sigma) for sigma in {block.sigma for block in blocks}}
    return [_count_in_regions(codes[block.sigma], block) for block in blocks]


def _bin_values(volume: np.ndarray) -> np.ndarray:
    """Return the bin of each grey value, int64 from 0 to BINS - 1."""
    return np.clip((volume * (BINS / _TOP)).astype(np.int64), 0, BINS - 1)


def _estimate_shading(volume: np.ndarray) -> np.ndarray:
    """Fit the logarithm of the smooth gain over a stack, a cubic, to white matter in several rounds.

    Returns:
        float32 of the volume's shape.
    """
    terms, coarse = (
        _polynomial_terms(volume.shape),
        (slice(None), slice(None, None, _STRIDE), slice(None, None, _STRIDE)),
    )
    basis = terms[(slice(None), *coarse)].reshape(len(terms), -1)
    observed = np.log(np.maximum(volume[coarse].ravel(), 1e-3))
    weights = np.zeros(len(terms), np.float32)
    for _ in range(_ROUNDS):
        near = np.abs(observed - weights @ basis) < _NEAR
        white, target = basis[:, near], observed[near]
        ridge = 1e-5 * max(white.shape[1], 1) * np.eye(len(terms))  # an empty slice, or a single one, decides nothing
        weights = np.linalg.solve(white @ white.T + ridge, white @ target).astype(np.float32)
    return np.tensordot(weights, terms, 1)


@lru_cache(maxsize=4)
def _polynomial_terms(shape: tuple[int, int, int]) -> np.ndarray:
    """Return all products of powers of z, y and x up to degree 3 (z up to 2): float32 (19, S, H, W)."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    powers = [(i, j, k) for k in range(3) for i in range(4) for j in range(4) if i + j + k <= 3]
    return np.stack([y**i * x**j * z**k for i, j, k in powers])


@lru_cache(maxsize=16)
def _label_regions(shape: tuple[int, int, int], slabs: int, rings: int) -> np.ndarray:
    """Return the region of each pixel, int64 (S, H, W)."""
    slices, height, width = shape
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    ring = np.minimum((np.hypot(y, x) / _BORDER * rings).astype(np.int64), rings - 1)
    return (np.arange(slices) * slabs // slices)[:, None, None] * rings + ring
