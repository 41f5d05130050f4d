"""Prediction sets: the classes that cannot be excluded, by split conformal prediction with subjects as units.

Slices of one brain are no independent draws. The quantile is therefore that of hierarchical conformal prediction (Lee,
Barber and Willett, 2023, "Distribution-free inference with hierarchical data"): each calibration subject weighs the
same, shared by its slices, and the new subject has the weight of one more. A slice of a new subject then has its true
class in its set with the probability named, over draws of subjects.
"""

import numpy as np

from mriscope.data.slices import UNKNOWN
from mriscope.errors import ArgumentError, DataError
from mriscope.evaluation.predictions import Predictions
from mriscope.results import Conformal

COVERAGE = 0.9


def fit_conformal(validation: Predictions, *, coverage: float = COVERAGE, unseen: bool | None = None) -> Conformal:
    """Fit the threshold of prediction sets; the score of a class is 1 less its probability (Sadinle et al., 2019).

    Args:
        validation: calibrated predictions of slices that did not train the model.
        coverage: in (0, 1).
        unseen: whether their subjects are unseen in training; kept beside the threshold.

    Raises:
        DataError: there are no rows.
        ArgumentError: the coverage is no share.

    Example:
        >>> nineteen = Predictions.of([0] * 19, [[1 - n / 20, n / 20] for n in range(19)], class_names=("a", "b"))
        >>> round(fit_conformal(nineteen).threshold, 2)  # the 18th of 19 scores, as 18 / (19 + 1) is 0.9
        0.85
    """
    if not len(validation):
        raise DataError("the validation part is empty, and prediction sets are calibrated on it; enlarge it")
    if not 0 < coverage < 1:
        raise ArgumentError(f"coverage is {coverage}; give a share between 0 and 1, such as 0.9")
    known = validation.knows_subjects
    units = validation.subjects if known else np.arange(len(validation))
    _, unit_of_row, slices_of_unit = np.unique(units, return_inverse=True, return_counts=True)
    count = len(slices_of_unit)
    scores = 1 - validation.probabilities[np.arange(len(validation)), validation.labels].astype(np.float64)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(1 / ((count + 1) * slices_of_unit[unit_of_row[order]]))
    place = int(np.searchsorted(reached, coverage - 1e-9))  # the sum of weights is rounded
    return Conformal(
        coverage=coverage,
        threshold=float(scores[order[place]]) if place < len(order) else np.nan,
        unit="subject" if known else "slice",
        n_units=count,
        unseen=unseen if known else None,
    )


def prediction_sets(probabilities: np.ndarray, conformal: Conformal) -> np.ndarray:
    """Return which classes are in the set of each row: bool (N, K), never none.

    The most probable class always is, so that a model which is right more often than the coverage has sets of one
    class, and covers more.

    Args:
        probabilities: float (N, K), calibrated.
        conformal: what fit_conformal gave.
    """
    if np.isnan(conformal.threshold):
        return np.ones(probabilities.shape, bool)
    inside = 1 - probabilities.astype(np.float64) <= conformal.threshold
    inside[np.arange(len(inside)), probabilities.argmax(axis=1)] = True
    return inside


def share_covered(predictions: Predictions, conformal: Conformal) -> float:
    """Compute the mean over subjects of the share of their slices whose set holds the true class.

    Raises:
        DataError: the subject of a slice is unknown.
    """
    if (predictions.subjects == UNKNOWN).any():
        raise DataError("the subject of some slices is unknown, and coverage is a mean over subjects; name them")
    inside = prediction_sets(predictions.probabilities, conformal)
    right = inside[np.arange(len(predictions)), predictions.labels]
    _, subject_of_row = np.unique(predictions.subjects, return_inverse=True)
    return float(np.mean(np.bincount(subject_of_row, right) / np.bincount(subject_of_row)))
