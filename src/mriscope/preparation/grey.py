"""Grey levels of prepared slices: by slice, by the tissue of the volume, or by its percentiles."""

import numpy as np
from scipy import ndimage

from mriscope.choices import Intensity

WHITE = 217
"""Grey level of white matter; that of the public slices: the median of its peak in every hundredth of them is 216.5."""
_BINS, _SMOOTH = 256, 3.0
_LEAST_PEAK = 0.05  # of the highest, by which a peak must rise above what is around it


def white_peak(values: np.ndarray) -> float:
    """Return the value of white matter: the brightest peak in the histogram of a brain in T1.

    Args:
        values: (N,), of the voxels of a brain, above 0.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> brain = np.concatenate([draw.normal(60, 6, 5000), draw.normal(100, 5, 4000)])
        >>> round(white_peak(brain), -1)
        100.0
    """
    from scipy.signal import find_peaks  # takes half a second, which the other methods need not

    top = float(np.quantile(values, 0.998))
    counts, edges = np.histogram(values, _BINS, (0, top))
    smooth = np.concatenate([[0], ndimage.gaussian_filter1d(counts.astype(float), _SMOOTH), [0]])
    peaks, _ = find_peaks(smooth, prominence=_LEAST_PEAK * smooth.max())
    return float(edges[peaks[-1] - 1] + (edges[1] - edges[0]) / 2) if len(peaks) else top


def to_grey(images: np.ndarray, brain: np.ndarray, intensity: Intensity) -> np.ndarray:
    """Return grey levels of slices, linear between two values and clipped there.

    Args:
        images: float32 (N, H, W), 0 or more; 0 is background.
        brain: (M,), the values of the volume's brain, above 0.
        intensity: see PrepareOptions.

    Returns:
        uint8 (N, H, W).

    Example:
        >>> to_grey(np.array([[[0, 5, 10]]], np.float32), np.array([5.0, 10.0]), "minmax").tolist()
        [[[0, 128, 255]]]
    """
    low, high = np.zeros((1, 1, 1)), np.zeros((1, 1, 1))
    if intensity == "minmax":
        low, high = images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2), keepdims=True)
    elif intensity == "tissue":
        high = high + white_peak(brain) * 255 / WHITE
    else:
        low, high = (low + np.quantile(brain, share) for share in (0.001, 0.999))
    grey = (images - low) * (255 / np.maximum(high - low, np.finfo(np.float32).tiny))
    return (grey + 0.5).clip(0, 255).astype(np.uint8)
