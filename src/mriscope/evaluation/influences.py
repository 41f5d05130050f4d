"""Influence of each row or unit on a metric: what the value changes by, to first order, per unit of extra weight.

The variance of a value is the sum of the squared influences of independent units. For an AUROC they are DeLong's
placement values (DeLong, DeLong and Clarke-Pearson, 1988), summed over the slices of a subject (Obuchowski, 1997).
"""

from collections.abc import Iterable

import numpy as np


def mean_influences(values: np.ndarray, counted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean of the counted rows, and the influence of each row on it.

    Args:
        values: float (..., N).
        counted: bool (..., N), the rows that the mean is over.

    Returns:
        float64 (...,), nan where no row counts; float64 (..., N).
    """
    counts = np.asarray(counted.sum(axis=-1), np.float64)
    sums = np.where(counted, values, 0.0).sum(axis=-1)
    mean = np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    return mean, np.where(counted, values - mean[..., None], 0.0) / counts[..., None].clip(1)


def auroc_influences(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the area under the ROC curve, and the influence of each row on it.

    Args:
        scores: float or int (..., N), finite.
        positive: bool (..., N), the rows of the class.

    Returns:
        float64 (...,), nan where all rows or none are of the class; float64 (..., N).
    """
    from scipy.stats import rankdata

    scores = np.asarray(scores, np.float64)
    ones = positive.sum(axis=-1, keepdims=True).astype(np.float64)
    rest = positive.shape[-1] - ones
    ranks = rankdata(scores, axis=-1)
    among_ones = rankdata(np.where(positive, scores, np.inf), axis=-1)
    among_rest = rankdata(np.where(positive, np.inf, scores), axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        placements = np.where(positive, (ranks - among_ones) / rest, 1 - (ranks - among_rest) / ones)
        area = np.where(positive, placements, 0).sum(axis=-1, keepdims=True) / ones
        influences = (placements - area) / np.where(positive, ones, rest)
    exists = (ones > 0) & (rest > 0)
    return np.where(exists, area, np.nan)[..., 0], np.where(exists, influences, np.nan)


def sum_by_unit(rows: np.ndarray, units: np.ndarray, count: int) -> np.ndarray:
    """Sum the influences of the rows of each unit.

    Args:
        rows: float (..., N).
        units: int64 (N,), the unit of each row, from 0.
        count: U, how many units there are.

    Returns:
        float64 (..., U).
    """
    flat = rows.reshape(-1, rows.shape[-1])
    return np.stack([np.bincount(units, row, count) for row in flat]).reshape(*rows.shape[:-1], count)


def area_variance(influences: np.ndarray, of_class: np.ndarray) -> np.ndarray:
    """Compute the variance of an AUROC; for units of one row each it is that of DeLong.

    Args:
        influences: float (..., U), of each unit.
        of_class: bool (..., U), the units of the class.

    Returns:
        float64 (...,); nan where there is a single unit of the class, or of the rest.
    """
    return _variance_of_group(influences, of_class)[0] + _variance_of_group(influences, ~of_class)[0]


def welch_degrees(influences: np.ndarray, groups: Iterable[np.ndarray]) -> np.ndarray:
    """Compute degrees of freedom of a variance that is summed over groups of units (Welch, 1947).

    Brunner and Munzel (2000) use them for the area under the ROC curve: where one class is rare, its few units decide.

    Args:
        influences: float (..., U), of each unit.
        groups: each bool (..., U), the units of one class; no unit is in two.

    Returns:
        float64 (...,), inf where nothing varies.

    Example:
        >>> welch_degrees(np.array([1.0, -1.0, 0.0, 0.0, 0.0]), [np.array([True, True, False, False, False])])
        array(1.)
    """
    parts = [_variance_of_group(influences, group) for group in groups]
    total = np.sum([np.nan_to_num(variance) for variance, _ in parts], axis=0)
    spread = np.sum([np.nan_to_num(variance) ** 2 / np.maximum(size - 1, 1) for variance, size in parts], axis=0)
    return np.divide(total**2, spread, out=np.full(np.shape(total), np.inf), where=spread > 0)


def _variance_of_group(influences: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute what a group's units add to the variance, nan for a single unit; and their number."""
    size = group.sum(axis=-1).astype(np.float64)
    squares = np.where(group, influences**2, 0.0).sum(axis=-1)
    return np.where(size > 1, squares * size / np.maximum(size - 1, 1), np.nan), size
