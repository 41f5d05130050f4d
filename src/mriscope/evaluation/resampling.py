"""Cluster bootstrap: resamples of whole units, as the slices of one subject are not independent."""

import math
from collections.abc import Iterator

import numpy as np

from mriscope.results import Estimate

PERCENTILE = "percentile bootstrap"
"""Name of the method of percentile_interval."""


def cluster_bootstrap(n_units: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Draw bootstrap resamples of units (Efron and Tibshirani, 1993; by cluster: Field and Welsh, 2007).

    Each resample draws as many units as there are, with replacement; a unit brings all its rows.

    Args:
        n_units: how many units there are, such as subjects.
        resamples: how many to draw.
        seed: equal seeds give equal resamples of equally many units.

    Yields:
        int64 (n_units,), how often each unit was drawn.

    Example:
        >>> [drawn.tolist() for drawn in cluster_bootstrap(3, 2, seed=0)]
        [[0, 2, 1], [3, 0, 0]]
    """
    random = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(random.integers(max(n_units, 1), size=n_units), minlength=n_units)


def percentile_interval(value: float, drawn: np.ndarray, level: float) -> Estimate:
    """Return a value with the percentile interval of what resamples gave; nan among those is left out.

    Args:
        value: of all rows; where it is nan there is no interval.
        drawn: float64 (R,), the value of each resample.
        level: share of the resamples within, in (0, 1).
    """
    defined = drawn[~np.isnan(drawn)]
    if not len(defined) or math.isnan(value):
        return Estimate(float(value), math.nan, math.nan)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(value), float(low), float(high), method=PERCENTILE)


def mean_interval(
    values: np.ndarray, units: np.ndarray, *, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Return the mean of some values with its percentile interval over units.

    Args:
        values: float (N,); nan where one does not exist, which is left out.
        units: int64 (N,), equal for what is resampled together.
        resamples: how many to draw.
        level: share of the resamples within, in (0, 1).
        seed: of the draw.

    Returns:
        an estimate; its bounds are nan for a single unit, and all three numbers where no value exists.
    """
    there = ~np.isnan(values)
    if not there.any():
        return Estimate(math.nan, math.nan, math.nan)
    numbers = np.unique(units[there], return_inverse=True)[1]
    sums, counts = np.bincount(numbers, values[there]), np.bincount(numbers)
    value = float(sums.sum() / counts.sum())
    if len(sums) < 2:
        return Estimate(value, math.nan, math.nan)
    drawn = np.array(list(cluster_bootstrap(len(sums), resamples, seed)))
    return percentile_interval(value, (drawn @ sums) / (drawn @ counts), level)
