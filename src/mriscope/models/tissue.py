"""What a subject's slices say of its tissue: grey values where white matter is 1, and their histograms by region."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

BINS = 12  # of grey values from 0 to _TOP; fluid lies in the third to sixth, grey matter up to the eighth
_TOP = 1.2  # times white matter; what is brighter (vessels, fat) joins the last bin
_BRAIN = 8  # grey values of the brain begin here; below lie background and the rims that JPEG leaves
_SATURATED = 252
_NEAR = 0.12  # how far, in logarithms of brightness, white matter may lie from the shading fitted last
_ROUNDS = 4
_STRIDE = 3  # in pixels; shading is smooth, so one pixel in nine tells it
_MAP = (8, 16, 16)
MAP_WIDTH = 8 * 16 * 16
"""How many numbers a tissue map has."""
_BORDER = 0.84  # of half the side; the brain's outline in registered slices


@dataclass(frozen=True)
class Regions:
    """Parts of a stack of slices, and what is counted in each.

    Args:
        slabs: how many groups of consecutive slices, equally thick.
        rings: how many rings around the middle of the slice, equally wide; the last holds the background too.
        sigma: None counts grey values; else pairs of a grey value and the mean around it, by a Gaussian of this
            standard deviation as a share of the side.
    """

    slabs: int
    rings: int
    sigma: float | None = None

    @property
    def bins(self) -> int:
        return BINS if self.sigma is None else BINS**2

    @property
    def width(self) -> int:
        """How many numbers describe a subject."""
        return self.slabs * self.rings * self.bins


def flat_volume(images: np.ndarray) -> np.ndarray:
    """Slices with white matter at 1 everywhere: each slice by its own level, the stack by a smooth shading.

    Public slices are stretched to full contrast one by one, so their grey values do not compare as they are.

    Args:
        images: uint8 (S, H, W), skull-stripped slices of one subject in order; 0 is background.

    Returns:
        float32 (S, H, W), 0 where the background is.
    """
    levels = np.array([white_matter_level(image) for image in images], np.float32)
    volume = images / levels[:, None, None]
    return volume * np.exp(-_shading(volume))


def white_matter_level(image: np.ndarray) -> float:
    """The grey value most frequent among the bright tenth of a skull-stripped T1 slice and what is nearly as bright.

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
    return float(lowest + gaussian_filter1d(counts, 3)[lowest:].argmax())


def region_histograms(volume: np.ndarray, regions: Regions) -> np.ndarray:
    """Square roots of the share of each grey value in each region, so that distances are Hellinger's.

    Args:
        volume: float32 (S, H, W) in order, white matter at 1.
        regions: where and what is counted.

    Returns:
        float32 (slabs * rings * bins,), each region's squares summing to 1; 0 in a region without pixels.
    """
    codes = _binned(volume)
    if regions.sigma is not None:
        around = regions.sigma * volume.shape[-1]
        codes = codes * BINS + _binned(gaussian_filter(volume, (0, around, around)))
    where = _region_of_pixels(volume.shape, regions.slabs, regions.rings)
    counts = np.bincount((where * regions.bins + codes).ravel(), minlength=regions.width).astype(float)
    counts = counts.reshape(-1, regions.bins)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.sqrt(shares).ravel().astype(np.float32)


def tissue_map(volume: np.ndarray) -> np.ndarray:
    """What is not fluid, blurred and coarse, as voxel-based morphometry (Ashburner and Friston, 2000) has it.

    Args:
        volume: float32 (S, H, W) in order, white matter at 1.

    Returns:
        float32 (MAP_WIDTH,), from 0 to 1: 8 heights, 16 rows and 16 columns, whatever the size of the volume.
    """
    tissue = np.clip((volume - 0.3) / 0.3, 0, 1)
    blurred = gaussian_filter(tissue, [side / cells for side, cells in zip(volume.shape, _MAP, strict=True)])
    at = (np.arange(cells) * side // cells for side, cells in zip(volume.shape, _MAP, strict=True))
    return blurred[np.ix_(*at)].ravel().astype(np.float32)


def describe(images: np.ndarray, blocks: Sequence[Regions]) -> np.ndarray:
    """All histograms of a subject in a row: float32 (sum of widths,) of uint8 (S, H, W) slices in order."""
    volume = flat_volume(images)
    return np.concatenate([region_histograms(volume, block) for block in blocks])


def _binned(volume: np.ndarray) -> np.ndarray:
    return np.clip((volume * (BINS / _TOP)).astype(np.int64), 0, BINS - 1)


def _shading(volume: np.ndarray) -> np.ndarray:
    """Logarithm of the smooth gain over a stack: a cubic fitted to white matter again and again.

    Returns:
        float32 of the volume's shape.
    """
    terms, coarse = _terms(volume.shape), (slice(None), slice(None, None, _STRIDE), slice(None, None, _STRIDE))
    basis = terms[(slice(None), *coarse)].reshape(len(terms), -1)
    seen = np.log(np.maximum(volume[coarse].ravel(), 1e-3))
    weights = np.zeros(len(terms), np.float32)
    for _ in range(_ROUNDS):
        white = basis[:, np.abs(seen - weights @ basis) < _NEAR]
        ridge = 1e-5 * max(white.shape[1], 1) * np.eye(len(terms))  # an empty slice, or a single one, decides nothing
        target = seen[np.abs(seen - weights @ basis) < _NEAR]
        weights = np.linalg.solve(white @ white.T + ridge, white @ target).astype(np.float32)
    return np.tensordot(weights, terms, 1)


@lru_cache(maxsize=4)
def _terms(shape: tuple[int, int, int]) -> np.ndarray:
    """Every product of powers of z, y and x up to the third degree (z to the second): float32 (19, S, H, W)."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    powers = [(i, j, k) for k in range(3) for i in range(4) for j in range(4) if i + j + k <= 3]
    return np.stack([y**i * x**j * z**k for i, j, k in powers])


@lru_cache(maxsize=16)
def _region_of_pixels(shape: tuple[int, int, int], slabs: int, rings: int) -> np.ndarray:
    """int64 (S, H, W), the region of each pixel."""
    slices, height, width = shape
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    ring = np.minimum((np.hypot(y, x) / _BORDER * rings).astype(np.int64), rings - 1)
    return (np.arange(slices) * slabs // slices)[:, None, None] * rings + ring
