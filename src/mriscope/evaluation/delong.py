"""DeLong's method: intervals of an area under the ROC curve and of the difference of two, without resampling.

The variance comes from placement values: of each row of the class, the share of the others that it stands above, and
of each other row, the share of the class that stands above it (DeLong, DeLong and Clarke-Pearson, 1988), by midranks as
Sun and Xu (2014) compute them. Rows must be independent, so that it is for subjects and not for their slices.
"""

from collections.abc import Sequence

import numpy as np

from mriscope.errors import DataError
from mriscope.evaluation.cohort import DELONG
from mriscope.evaluation.differences import Difference, aligned
from mriscope.evaluation.influences import area_variance, auroc_influences, welch_degrees
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
    area, influences = auroc_influences(predictions.probabilities[:, class_index], positive)
    sizes = int(positive.sum()), int((~positive).sum())
    if min(sizes) < 2:
        return Estimate(float(area), np.nan, np.nan)
    degrees = welch_degrees(influences, (positive, ~positive))
    low, high = area_interval(area, np.sqrt(area_variance(influences, positive)), *sizes, level, degrees=degrees)
    return Estimate(float(area), float(low), float(high), method=DELONG)


def delong_difference(
    one: Predictions | Sequence[Predictions],
    other: Predictions | Sequence[Predictions],
    class_index: int,
    *,
    level: float = 0.95,
) -> Difference:
    """Compute how much larger the AUROC of one model is than another's on the same rows.

    Args:
        one: as for delong_interval; or those of its repeats, whose areas are averaged.
        other: of the same rows, in any order; it may have another number of repeats.
        class_index: the class, against the rest.
        level: of the interval.

    Returns:
        one's area less the other's, and the two-sided p of the paired test; p is 1 where the two order all rows alike.

    Raises:
        DataError: they are not of the same rows, or a subject has several.
    """
    from scipy.special import ndtr, ndtri

    ours, theirs = ([given] if isinstance(given, Predictions) else list(given) for given in (one, other))
    positive = _positive(aligned(ours[0], ours[0])[0], class_index)
    areas, influences = [], []
    for group in (ours, theirs):
        rows = [aligned(ours[0], each)[1].probabilities[:, class_index] for each in group]
        found = [auroc_influences(scores, positive) for scores in rows]
        areas.append(np.mean([area for area, _ in found]))
        influences.append(np.mean([influence for _, influence in found], axis=0))
    difference = float(areas[0] - areas[1])
    error = float(np.sqrt(area_variance(influences[0] - influences[1], positive)))
    if np.isnan(error):
        return Difference(difference, np.nan, np.nan, np.nan)
    half = ndtri((1 + level) / 2) * error
    if error < 1e-12:
        return Difference(difference, difference, difference, 1.0 if abs(difference) < 1e-12 else 0.0)
    p = 2 * ndtr(-abs(difference) / error)
    return Difference(difference, float(difference - half), float(difference + half), float(p))


def _positive(predictions: Predictions, class_index: int) -> np.ndarray:
    """Return bool (N,), the rows of the class."""
    if predictions.knows_subjects and predictions.n_subjects < len(predictions):
        raise DataError(
            f"DeLong's method takes rows as independent, and the {len(predictions):,} slices are of "
            f"{predictions.n_subjects:,} subjects; pool them by subject first"
        )
    return predictions.labels == class_index
