"""The bias field of a brain: the slow change of brightness that the coils of a scanner cause."""

import numpy as np

from mriscope.errors import DataError
from mriscope.preparation.grids import Grid, load_itk

_SHRINK = 2  # of a grid of 2 mm; the field is smooth
_ITERATIONS = (30, 30, 20)  # by level of its B-spline, from coarse to fine
_ENOUGH = 1e-3  # change of the field at which a level ends
_STRONGEST = 10.0  # times; no coil is so uneven


def estimate_bias(brain: Grid, inside: np.ndarray) -> Grid:
    """Estimate the bias field by N4, scaled to a mean of 1 in the brain.

    Tustison et al. (2010), N4ITK: improved N3 bias correction, IEEE Transactions on Medical Imaging 29.

    Args:
        brain: on an axis-aligned grid of about 2 mm.
        inside: bool, its voxels that count.

    Returns:
        what values are to be divided by, on the grid of the brain.

    Raises:
        DataError: the brain has no bright voxels.
        MissingExtraError: SimpleITK is not installed.
    """
    sitk = load_itk()
    inside = inside & (brain.data > 0)  # the field is found in logarithms
    if not inside[::_SHRINK, ::_SHRINK, ::_SHRINK].any():
        raise DataError("shows no brain: no voxel in its mask is brighter than the background")
    image, mask = brain.to_itk(), sitk.Cast(brain.with_data(inside).to_itk(), sitk.sitkUInt8)
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(_ITERATIONS)
    n4.SetConvergenceThreshold(_ENOUGH)
    n4.Execute(sitk.Shrink(image, [_SHRINK] * 3), sitk.Shrink(mask, [_SHRINK] * 3))
    field = np.exp(sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).transpose(2, 1, 0))
    return brain.with_data((field / field[inside].mean()).clip(1 / _STRONGEST, _STRONGEST))
