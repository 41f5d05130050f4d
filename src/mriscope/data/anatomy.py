"""Template anatomy of the phantom: a sharpened T1 volume, and distances to the structures that age.

The template is the MNI ICBM152 2009a nonlinear symmetric average (Fonov et al., NeuroImage 54, 2011), skull-stripped.
Copyright (C) 1993-2004 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill
University. `icbm152_2009a_t1.LICENSE.txt` beside the array holds the whole notice and says what was changed.

Points are in mm: x from left to right, y from posterior to anterior, z from inferior to superior.
"""

import zlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from zipfile import BadZipFile

import numpy as np

from mriscope.errors import DataError

TEMPLATE = "icbm152_2009a_t1.npz"

LOW, _HIGH = np.array([-82, -114, -34]), np.array([82, 82, 54])  # all that a warped slab can reach
"""Millimetres at the first voxel of the template and the atlas."""
_COARSE = 2  # mm; distances are smooth, so a coarse grid serves them
_RIGHT, _LEFT = np.array([15, -25, 22]), np.array([-15, -25, 22])  # mm; a point in each lateral ventricle
_FLUID = 0.25  # brightness of what bathes the brain; the ventricles are darker, grey matter is 0.6, white 0.9


@dataclass(frozen=True)
class Atlas:
    """Hold volumes of the template, to be sampled at points in mm.

    Args:
        tissue: float32 in [0, 1.1], brightness on a 1 mm grid.
        depth: float32, mm beneath the surface of the brain on a 2 mm grid; negative outside.
        distance: float32, mm from the lateral ventricles on a 2 mm grid; negative inside.
        normals: three float32 volumes on a 2 mm grid, the direction away from the ventricles; a unit vector, but
            shorter where two of their walls are equally far.
    """

    tissue: np.ndarray
    depth: np.ndarray
    distance: np.ndarray
    normals: tuple[np.ndarray, ...]


@lru_cache(maxsize=1)
def load_atlas() -> Atlas:
    """Derive the atlas from the template; made once per process, in about a second.

    Raises:
        DataError: the package's template is missing or damaged.
    """
    bright = _read_template()
    inside = bright > 0
    coarse = (slice(None, None, _COARSE),) * 3
    depth = _signed_distance(inside[coarse])
    distance = -_signed_distance(_lateral_ventricles(bright[coarse], depth))
    normals = np.gradient(_smooth(distance, 1.0), _COARSE)
    return Atlas(_sharpen(bright, inside), _smooth(depth, 0.5), _smooth(distance, 0.7), tuple(normals))


def sample(volume: np.ndarray, points: np.ndarray, step: int = _COARSE) -> np.ndarray:
    """Interpolate an atlas volume trilinearly; beyond its border the nearest voxel counts.

    Args:
        volume: float32, one of the atlas.
        points: float32 (3, N), mm.
        step: mm between its voxels.

    Returns:
        float32 (N,).
    """
    from scipy.ndimage import map_coordinates

    voxels = (points - LOW[:, None].astype(np.float32)) / np.float32(step)
    return map_coordinates(volume, voxels, order=1, mode="nearest", output=np.float32)


def _read_template() -> np.ndarray:
    """Return brightness in [0, 1] on the 1 mm grid from LOW to _HIGH, float32; 0 outside the brain."""
    path = files("mriscope.data") / TEMPLATE
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            left = np.cumsum(arrays["steps"], axis=1, dtype=np.uint8)  # it is stored as differences modulo 256
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is missing or damaged and the phantom needs it; install mriscope afresh") from error
    return np.concatenate([left, left[-2::-1]]).astype(np.float32) / 255  # the template is symmetric about x = 0


def _sharpen(bright: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Apply an unsharp mask: an average of 152 brains has pale, blurred sulci."""
    local = _smooth(bright, 4) / (_smooth(inside.astype(np.float32), 4) + 1e-3)  # not affected by what is outside
    return np.where(inside, bright + (bright - local), np.float32(_FLUID)).clip(0, 1.1)


def _lateral_ventricles(bright: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Segment the lateral ventricles on the coarse grid, bool: dark components around the two seed points."""
    from scipy.ndimage import label

    fluid = (bright < 0.5) & (depth > 20)
    fluid[len(fluid) // 2] = False  # on the midline, cisterns and third ventricle would join the two sides
    labels = np.zeros(fluid.shape, np.int32)
    label(fluid, output=labels)
    return np.isin(labels, [labels[tuple((seed - LOW) // _COARSE)] for seed in (_RIGHT, _LEFT)])


def _signed_distance(shape: np.ndarray) -> np.ndarray:
    """Compute the distance in mm to the border of a shape on the coarse grid; positive inside."""
    from scipy.ndimage import distance_transform_edt

    inner, outer = (np.asarray(distance_transform_edt(side)) for side in (shape, ~shape))
    return (_COARSE * (inner - outer)).astype(np.float32)


def _smooth(volume: np.ndarray, sigma: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(volume, sigma)
