"""DeLong's method: intervals of an area under the ROC curve and of the difference of two, without resampling.

The variance comes from placement values: of each row of the class, the share of the others that it stands above, and
of each other row, the share of the class that stands above it (DeLong, DeLong and Clarke-Pearson, 1988), by midranks as
Sun and Xu (2014) compute them. Rows must be independent, so that it is for subjects and not for their slices.
"""

import numpy as np

from mriscope.errors import DataError
from mriscope.evaluation.cohort import DELONG
from mriscope.evaluation.differences import Difference, aligned
from mriscope.evaluation.interval_formulas import area_interval
from mriscope.evaluation.predictions import Predictions
from mriscope.results import Estimate


def delong_interval(predictions: Predictions, class_index: int, *, level: float = 0.95) -> Estimate:
    """Compute the AUROC of a class against the rest, with its interval.

    Args:
        predictions: one row for each subject, or of slices whose subjects are unknown, which must be independent.
        class_index: the class.
        level: of the interval, which is normal on the logit scale; where the area is 0 or 1 it is the score interval.

    Returns:
        an estimate; nan where none or all rows are of the class, its bounds nan where there is a single row of either.

    Raises:
        DataError: a subject has several rows.
    """
    positive = _positive(predictions, class_index)
    areas, covariance = _areas(positive, predictions.probabilities[:, [class_index]])
    sizes = int(positive.sum()), int((~positive).sum())
    if min(sizes) < 2:
        return Estimate(float(areas[0]), np.nan, np.nan)
    low, high = area_interval(areas[0], np.sqrt(covariance[0, 0]), *sizes, level)
    return Estimate(float(areas[0]), float(low), float(high), method=DELONG)


def delong_difference(one: Predictions, other: Predictions, class_index: int, *, level: float = 0.95) -> Difference:
    """Compute how much larger the AUROC of one model is than another's on the same rows.

    Args:
        one: as for delong_interval.
        other: of the same rows, in any order.
        class_index: the class, against the rest.
        level: of the interval.

    Returns:
        one's area less the other's, and the two-sided p of the paired test; p is 1 where the two order all rows alike.

    Raises:
        DataError: they are not of the same rows, or a subject has several.
    """
    from scipy.stats import norm

    one, other = aligned(one, other)
    scores = np.stack([one.probabilities[:, class_index], other.probabilities[:, class_index]], axis=1)
    areas, covariance = _areas(_positive(one, class_index), scores)
    difference = float(areas[0] - areas[1])
    error = np.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0))
    if np.isnan(error):
        return Difference(difference, np.nan, np.nan, np.nan)
    half = norm.ppf((1 + level) / 2) * error
    if error < 1e-12:
        return Difference(difference, difference, difference, 1.0 if abs(difference) < 1e-12 else 0.0)
    p = 2 * norm.sf(abs(difference) / error)
    return Difference(difference, float(difference - half), float(difference + half), float(p))


def _positive(predictions: Predictions, class_index: int) -> np.ndarray:
    """Return bool (N,), the rows of the class."""
    if predictions.knows_subjects and predictions.n_subjects < len(predictions):
        raise DataError(
            f"DeLong's method takes rows as independent, and the {len(predictions):,} slices are of "
            f"{predictions.n_subjects:,} subjects; pool them by subject first"
        )
    return predictions.labels == class_index


def _areas(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute areas (S,) of scores (N, S) of the same rows, and their covariance (S, S); nan where there is none."""
    from scipy.stats import rankdata

    count, columns = [int((~positive).sum()), int(positive.sum())], scores.shape[1]
    if not min(count):
        return np.full(columns, np.nan), np.full((columns, columns), np.nan)
    ranks = rankdata(scores, axis=0)
    above = (ranks[positive] - rankdata(scores[positive], axis=0)) / count[0]
    below = 1 - (ranks[~positive] - rankdata(scores[~positive], axis=0)) / count[1]
    if min(count) < 2:
        return above.mean(axis=0), np.full((columns, columns), np.nan)
    spread = [np.atleast_2d(np.cov(values, rowvar=False)) for values in (above, below)]
    return above.mean(axis=0), spread[0] / count[1] + spread[1] / count[0]
