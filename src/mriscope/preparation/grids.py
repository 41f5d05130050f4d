"""Volumes on regular grids in mm: oriented, sampled at points, and brought to another grid."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from mriscope.choices import Orientation
from mriscope.data.volumes import Volume, check_affine
from mriscope.errors import DataError, need


def move(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply an affine map, (4, 4), to points, (3, ...)."""
    return np.tensordot(matrix[:3, :3], points, 1) + matrix[:3, 3].reshape(3, *[1] * (points.ndim - 1))


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxels along RAS+ axes, or nearly so.

    Args:
        data: float32 (I, J, K).
        affine: float64 (4, 4), from voxel indices to mm.
    """

    data: np.ndarray
    affine: np.ndarray

    @property
    def spacings(self) -> np.ndarray:
        """Return the sides of a voxel, (3,), mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def with_data(self, data: np.ndarray) -> "Grid":
        """Return other values at the same places."""
        return replace(self, data=data.astype(np.float32, copy=False))

    def to_itk(self) -> Any:
        """Return an image of SimpleITK at the same mm; the axes of the grid must be those of space."""
        image = load_itk().GetImageFromArray(np.ascontiguousarray(self.data.transpose(2, 1, 0)))
        image.SetOrigin(self.affine[:3, 3].tolist())
        image.SetSpacing(self.spacings.tolist())
        return image

    def sample(self, points: np.ndarray) -> np.ndarray:
        """Interpolate linearly at points, (3, ...) in mm, to float32 (...); 0 outside the grid."""
        voxels = move(np.linalg.inv(self.affine), points)
        return ndimage.map_coordinates(self.data, voxels, order=1, output=np.float32)

    def cubic(self) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function that interpolates as `sample` does, by a cubic spline clipped to the values of the grid."""
        spline = np.asarray(ndimage.spline_filter(self.data, 3), np.float32)
        inverse, low, high = np.linalg.inv(self.affine), self.data.min(), self.data.max()

        def sample(points: np.ndarray) -> np.ndarray:
            found = ndimage.map_coordinates(spline, move(inverse, points), order=3, output=np.float32, prefilter=False)
            return found.clip(low, high)

        return sample

    def points(self) -> np.ndarray:
        """Return the place of each voxel, float32 (3, I, J, K), mm."""
        return move(self.affine.astype(np.float32), np.indices(self.data.shape, np.float32))

    def resampled(self, low: np.ndarray, high: np.ndarray, spacing: float) -> "Grid":
        """Return the values on an axis-aligned grid between two corners in mm, smoothed where it is coarser."""
        blur = np.sqrt(np.maximum((spacing / self.spacings) ** 2 - 1, 0)) / 2.355  # full width at half maximum: a voxel
        smooth = self.with_data(ndimage.gaussian_filter(self.data, blur) if blur.any() else self.data)
        axes = [np.arange(first, last + spacing / 2, spacing) for first, last in zip(low, high, strict=True)]
        affine = np.diag([spacing, spacing, spacing, 1.0])
        affine[:3, 3] = low
        return Grid(smooth.sample(np.array(np.meshgrid(*axes, indexing="ij"))), affine)


def load_itk() -> Any:
    """Import SimpleITK, with one thread: the order of sums, and so their last bits, would depend on their number.

    Raises:
        MissingExtraError: it is not installed.
    """
    sitk: Any = need("prepare", "SimpleITK")
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    return sitk


def orient(volume: Volume, orientation: Orientation) -> Grid:
    """Turn a volume to the nearest RAS+ axes; what is no finite number becomes the least value.

    Args:
        volume: as it was read.
        orientation: header goes by the affine; axes takes the axes of the voxels for right, anterior and superior.

    Raises:
        DataError: an affine that is none, or layers that are not equally spaced.
    """
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    if volume.origins is not None:
        raise DataError("has gaps between its slices, which cannot be interpolated; complete the series")
    affine = np.asarray(volume.affine, np.float64)
    check_affine(affine)
    data = np.asarray(volume.data).astype(np.float32)
    if not (finite := np.isfinite(data)).all():
        data[~finite] = data[finite].min(initial=0)
    if orientation == "axes":
        affine = np.diag([*np.linalg.norm(affine[:3, :3], axis=0), 1.0])
        affine[:3, 3] = -affine[:3, :3] @ (np.array(data.shape) - 1) / 2
    turned = io_orientation(affine)
    return Grid(np.ascontiguousarray(apply_orientation(data, turned)), affine @ inv_ornt_aff(turned, data.shape))


def crop(grid: Grid, mask: np.ndarray, margin: float) -> tuple[Grid, np.ndarray]:
    """Return the box around a mask with a margin in mm, and the mask there."""
    box, start = [], []
    for axis, spacing in enumerate(grid.spacings):
        layers = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        extra = int(np.ceil(margin / spacing))
        start.append(max(0, int(layers[0]) - extra))
        box.append(slice(start[-1], int(layers[-1]) + extra + 1))
    affine = grid.affine.copy()
    affine[:3, 3] += grid.affine[:3, :3] @ start
    return Grid(grid.data[tuple(box)], affine), mask[tuple(box)]
