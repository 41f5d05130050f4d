"""Affine registration of a brain to the MNI152 template."""

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from mriscope.errors import DataError
from mriscope.preparation.grids import Grid, load_itk
from mriscope.preparation.template import load_template

LEAST_LIKENESS = 0.6  # correlation with the template; see docs/data.md
_PITCHES, _OTHERS = (-30, -15, 0, 15, 30), (-20, 0, 20)  # degrees, from which registration is begun
_STARTS = 3  # of them that are pursued
_SMALLEST, _LARGEST = 0.8, 1.25  # times the template, in length
_FAR = 8.0  # mm around the template's brain that count, so that its border does
_EVERY = 37  # of the voxels there, by which starts are compared


@dataclass(frozen=True, eq=False)
class Alignment:
    """How a brain lies in the space of the template.

    Args:
        matrix: float64 (4, 4), from mm in the template to mm of the volume.
        likeness: correlation of the brain's values with the template's, over the template's brain and 8 mm around it;
            nan where the brain was not registered.
    """

    matrix: np.ndarray
    likeness: float

    @property
    def scale(self) -> float:
        """Return how much larger the brain is than the template, in volume."""
        return float(np.linalg.det(self.matrix[:3, :3]))


def register(brain: Grid) -> Alignment:
    """Find the affine map from the template to a brain by the correlation of their values.

    Pitches of up to 30 degrees and turns of 20 degrees about the other axes are compared, the three best of them are
    pursued on a grid of 8 mm, and the best of those on grids of 4 and 2 mm, each with 12 parameters.

    Args:
        brain: values without a skull, 0 outside, on an axis-aligned grid of about 2 mm.

    Raises:
        DataError: no map makes the brain look like the template.
        MissingExtraError: SimpleITK is not installed.
    """
    coarse = _method([4], [2.0], [1.0], longest=1.0, shortest=0.01)
    fine = _method([2, 1], [1.0, 0.0], [1.0, 0.25], longest=0.5, shortest=0.002)
    moving = brain.to_itk()
    try:
        best = max((_improve(coarse, start, moving) for start in _starts(brain)), key=lambda one: one.likeness)
        best = _improve(fine, best.matrix, moving)
    except RuntimeError as error:  # of SimpleITK: no part of the brain lies on the template
        raise DataError(
            f"cannot be registered to the template ({str(error).splitlines()[-1].strip()[:120]})"
        ) from error
    likeness = best.likeness
    if not likeness >= LEAST_LIKENESS:
        raise DataError(
            f"is not like the template after registration (correlation {likeness:.2f}, expected {LEAST_LIKENESS} at "
            "least); look at its picture: is it a whole brain in T1, and does its header tell how it lies?"
        )
    return best


def _improve(method: Any, start: np.ndarray, moving: Any) -> Alignment:
    transform = load_itk().AffineTransform(3)
    transform.SetMatrix(start[:3, :3].ravel().tolist())
    transform.SetTranslation(start[:3, 3].tolist())
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(_template()[0].to_itk(), moving)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = np.reshape(transform.GetMatrix(), (3, 3)), transform.GetTranslation()
    return Alignment(matrix, -float(method.GetMetricValue()))


@lru_cache(maxsize=1)
def _template() -> tuple[Grid, np.ndarray]:
    """Return the template, and where it counts: its brain and some mm around."""
    template = load_template()
    away = np.asarray(ndimage.distance_transform_edt(template.data == 0, sampling=template.spacings))
    return template, away <= _FAR


def _starts(brain: Grid) -> list[np.ndarray]:
    """Return the most promising maps from the template to a brain: equal centres and volumes, turned."""
    template, near = _template()
    centre, volume = _centre(brain)
    middle, whole = _centre(template)
    voxels = np.argwhere(near)[::_EVERY]
    points = voxels @ template.affine[:3, :3].T + template.affine[:3, 3]
    values = ndimage.gaussian_filter(template.data, 2)[tuple(voxels.T)]
    smooth = brain.with_data(ndimage.gaussian_filter(brain.data, 2))
    found = []
    for turn in itertools.product(_PITCHES, _OTHERS, _OTHERS):
        start = np.eye(4)
        start[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
        start[:3, :3] *= np.clip((volume / whole) ** (1 / 3), _SMALLEST, _LARGEST)
        start[:3, 3] = centre - start[:3, :3] @ middle
        seen = smooth.sample((points @ start[:3, :3].T + start[:3, 3]).T)
        found.append((float(np.corrcoef(seen, values)[0, 1]) if seen.std() else -1.0, start))
    return [start for _, start in sorted(found, key=lambda one: -one[0])[:_STARTS]]


def _centre(grid: Grid) -> tuple[np.ndarray, float]:
    """Return the centre of what is brighter than 0, in mm, and its volume in mm³."""
    voxels = np.argwhere(grid.data > 0)
    return voxels.mean(axis=0) @ grid.affine[:3, :3].T + grid.affine[:3, 3], len(voxels) * grid.spacings.prod()


def _method(shrinks: list[int], sigmas: list[float], shares: list[float], longest: float, shortest: float) -> Any:
    """Return an optimiser of the correlation over the template's brain, by gradient descent in steps in mm."""
    sitk = load_itk()
    template, near = _template()
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetMetricFixedMask(sitk.Cast(template.with_data(near).to_itk(), sitk.sitkUInt8))
    method.SetMetricSamplingStrategy(method.REGULAR)  # which draws nothing at random
    method.SetMetricSamplingPercentagePerLevel(shares)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(shrinks)
    method.SetSmoothingSigmasPerLevel(sigmas)
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(False)
    method.SetOptimizerAsRegularStepGradientDescent(longest, shortest, 100, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    return method
