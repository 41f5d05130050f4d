"""Mean maps of a cohort by class and position, with intervals over subjects."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mriscope.errors import ArgumentError
from mriscope.evaluation.resampling import cluster_bootstrap

Numbers = np.ndarray | Tensor

_AT_ONCE = 2**22  # values that a table of resamples may hold at once


@dataclass(frozen=True)
class MeanMap:
    """The mean of the maps of one class at one position.

    Args:
        mean: float32 (H, W); every slice counts alike.
        low: float32 (H, W), the lower bound of each pixel by itself; nan where there is one subject only.
        high: float32 (H, W), the upper bound.
        n_slices: how many maps.
        n_subjects: how many subjects they come from, or None where one is unknown and slices were resampled.
    """

    mean: Tensor
    low: Tensor
    high: Tensor
    n_slices: int
    n_subjects: int | None


def cohort_maps(
    maps: Tensor,
    labels: Numbers,
    positions: Numbers,
    subjects: Numbers,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[tuple[int, int], MeanMap]:
    """Compute the mean map of each class at each position, each pixel with its percentile interval over subjects.

    A resample draws as many subjects as the group holds, with replacement, and each brings all its slices (Field and
    Welsh, 2007). Bounds are of each pixel by itself: of all pixels together about 5 % lie outside by chance.

    Args:
        maps: float (N, H, W), finite. A mean asks for slices in register; mriscope does not move them.
        labels: int (N,), the classes to group by: those of the slices, or those explained.
        positions: int (N,) along the brain; pass positions // 4 to join four, or zeros to join all.
        subjects: int (N,); where one is negative (unknown), slices are resampled and the interval is too narrow.
        resamples: how many to draw.
        level: share of resamples within the interval, in (0, 1).
        seed: of the draw.

    Returns:
        mean maps on the CPU by (class, position), in rising order; combinations without a slice are left out.

    Raises:
        ArgumentError: numbers of maps, labels, positions and subjects differ, maps are not finite, or an option is
            out of range.
    """
    values = _as_numpy(maps).astype(np.float64)
    keys = np.stack([_as_numpy(labels), _as_numpy(positions)], 1) if len(labels) == len(positions) else np.empty((0, 2))
    units = _as_numpy(subjects)
    if values.ndim != 3 or not len(values) == len(keys) == len(units):
        raise ArgumentError(
            f"maps are {values.shape}, with {len(labels)} labels, {len(positions)} positions and {len(units)} "
            "subjects; give (N, H, W) and one of each for every map"
        )
    if not np.isfinite(values).all():
        raise ArgumentError("maps are not finite, and have no mean")
    if resamples < 1 or not 0 < level < 1:
        raise ArgumentError(f"resamples is {resamples} and level {level}; give 1 at least, and a share between 0 and 1")
    return {
        (int(key[0]), int(key[1])): _mean_map(values[rows], units[rows], resamples, level, seed)
        for key in np.unique(keys, axis=0)
        for rows in [(keys == key).all(1)]
    }


def _as_numpy(values: Numbers) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _mean_map(maps: np.ndarray, subjects: np.ndarray, resamples: int, level: float, seed: int) -> MeanMap:
    low, high = _bounds(maps.reshape(len(maps), -1), subjects, resamples, level, seed)
    mean, low, high = (
        torch.from_numpy(one.reshape(maps.shape[1:]).astype(np.float32)) for one in (maps.mean(0), low, high)
    )
    known = bool((subjects >= 0).all())
    return MeanMap(mean, low, high, len(maps), len(np.unique(subjects)) if known else None)


def _bounds(
    values: np.ndarray, subjects: np.ndarray, resamples: int, level: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return percentile bounds of the mean of each column of values (N, P): float64 (P,) each."""
    known = bool((subjects >= 0).all())
    units = np.unique(subjects, return_inverse=True)[1] if known else np.arange(len(subjects))
    count = int(units.max()) + 1
    if count < 2:
        return np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, units, values)
    drawn = np.array(list(cluster_bootstrap(count, resamples, seed)))
    shares = drawn / (drawn @ np.bincount(units))[:, None]
    tails = [(1 - level) / 2, (1 + level) / 2]
    width = max(1, _AT_ONCE // resamples)
    parts = [sums[:, start : start + width] for start in range(0, sums.shape[1], width)]
    low, high = np.concatenate([np.quantile(shares @ part, tails, axis=0) for part in parts], 1)
    return low, high
