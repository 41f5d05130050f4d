"""Influence of each row or unit on a metric: what the value changes by, to first order, per unit of extra weight.

The variance of a value is the sum of the squared influences of independent units. For an AUROC they are DeLong's
placement values (DeLong, DeLong and Clarke-Pearson, 1988), summed over the slices of a subject (Obuchowski, 1997).
"""

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
    total = np.zeros(influences.shape[:-1])
    for group in (of_class, ~of_class):
        size = group.sum(axis=-1).astype(np.float64)
        squares = np.where(group, influences**2, 0.0).sum(axis=-1)
        total += np.where(size > 1, squares * size / np.maximum(size - 1, 1), np.nan)
    return total
