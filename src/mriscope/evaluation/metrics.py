"""Metrics: pure functions from Predictions to numbers.

Each takes `weights`, float or int (N,), how often each slice counts (none: once): a bootstrap resample is a vector of
weights, and a slice with weight 0 is not there. Where a class or a ratio does not exist, the value is nan and averages
leave it out; this is scikit-learn with zero_division=nan for single classes, and its defaults for averages.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from mriscope.evaluation.predictions import Predictions

Weights = np.ndarray | None

LEAST_PROBABILITY = float(np.finfo(np.float32).eps)
"""No logarithm is taken of less, so that one slice called impossible does not count without end; as scikit-learn."""


class Metric(Protocol):
    """A number for predictions; higher is better, except where its name says loss, error or Brier score."""

    def __call__(self, predictions: Predictions, weights: Weights = None, /) -> float:
        """Compute it, each row counted as often as its weight says."""
        ...


class ClassMetric(Protocol):
    """A number for each class."""

    def __call__(self, predictions: Predictions, weights: Weights = None, /) -> np.ndarray:
        """Compute them, float64 (K,), each row counted as often as its weight says."""
        ...


def confusion_matrix(predictions: Predictions, weights: Weights = None) -> np.ndarray:
    """Count slices by true class (rows) and predicted class (columns).

    Returns:
        int64 (K, K); float64 where weights are given.
    """
    classes = len(predictions.class_names)
    cells = predictions.labels * classes + predictions.predicted
    return np.bincount(cells, weights, minlength=classes**2).reshape(classes, classes)


def accuracy(predictions: Predictions, weights: Weights = None) -> float:
    """Compute the share of slices whose predicted class is the true one; nan without slices."""
    table = confusion_matrix(predictions, weights)
    return float(_ratio(table.trace(), table.sum()))


def precision(predictions: Predictions, weights: Weights = None) -> np.ndarray:
    """Compute the share of the slices predicted as a class that are of it.

    Returns:
        float64 (K,) in [0, 1]; nan for a class that is never predicted.
    """
    table = confusion_matrix(predictions, weights)
    return _ratio(table.diagonal(), table.sum(axis=0))


def recall(predictions: Predictions, weights: Weights = None) -> np.ndarray:
    """Compute the share of the slices of a class that are predicted as it (sensitivity).

    Returns:
        float64 (K,) in [0, 1]; nan for a class without slices.
    """
    return recall_of(confusion_matrix(predictions, weights))


def f1(predictions: Predictions, weights: Weights = None) -> np.ndarray:
    """Compute the harmonic mean of precision and recall.

    Returns:
        float64 (K,) in [0, 1]; nan for a class that has no slices and is never predicted, 0 if only one of these.
    """
    return f1_of(confusion_matrix(predictions, weights))


def balanced_accuracy(predictions: Predictions, weights: Weights = None) -> float:
    """Compute the mean recall over the classes that have slices (Brodersen et al., 2010)."""
    return _mean(recall(predictions, weights), predictions, weights)


def macro_f1(predictions: Predictions, weights: Weights = None) -> float:
    """Compute the mean F1 over the classes that have slices or are predicted; each counts alike, however rare."""
    return _mean(f1(predictions, weights), predictions, weights)


def class_auroc(predictions: Predictions, weights: Weights = None) -> np.ndarray:
    """Compute the area under the ROC curve of each class against the rest.

    It is the share of pairs, one slice of the class and one of another, in which the first has the higher probability
    of the class; a tie counts half (Mann-Whitney; Hanley and McNeil, 1982).

    Returns:
        float64 (K,) in [0, 1]; nan for a class that none or all of the slices belong to.
    """
    classes, count = predictions.ranks.shape
    weight = np.ones(count) if weights is None else weights
    is_class = predictions.labels == np.arange(classes)[:, None]
    positive = _by_rank(predictions, np.where(is_class, weight, 0.0))
    negative = _by_rank(predictions, np.where(is_class, 0.0, weight))
    below = negative.cumsum(axis=1) - negative / 2
    return _ratio((positive * below).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def auroc(predictions: Predictions, weights: Weights = None) -> float:
    """Compute the mean one-versus-rest AUROC over the classes that have slices; nan if all slices are of one class.

    Where a class has no slices, scikit-learn refuses and this averages the others, as balanced accuracy does.
    """
    return _mean(class_auroc(predictions, weights), predictions, weights)


def quadratic_kappa(predictions: Predictions, weights: Weights = None) -> float:
    """Compute agreement beyond chance; an error counts by the square of its steps of severity (Cohen, 1968).

    The order is that of `Predictions.severity`, or else what the names of the classes tell (see
    mriscope.data.severity.known_severity); a class that has no slices keeps its step.

    Returns:
        at most 1; 0 is chance. nan where the order is not known, and if all slices are of one class and predicted as
        it.
    """
    return float(quadratic_kappa_of(confusion_matrix(predictions, weights), predictions.severity_ranks))


def severity_error(predictions: Predictions, weights: Weights = None) -> float:
    """Compute the mean absolute error of the predicted class in steps of severity, as quadratic_kappa orders them.

    It scores the class that is predicted, as accuracy and kappa do, not a mean over the probabilities.

    Returns:
        from 0 to the number of classes less one; nan without slices, and where the order is not known.
    """
    return float(severity_error_of(confusion_matrix(predictions, weights), predictions.severity_ranks))


def recall_of(tables: np.ndarray) -> np.ndarray:
    """Compute recall from confusion matrices, (..., K, K), all at once: float64 (..., K)."""
    return _ratio(tables.diagonal(axis1=-2, axis2=-1), tables.sum(axis=-1))


def f1_of(tables: np.ndarray) -> np.ndarray:
    """Compute F1 from confusion matrices, (..., K, K), all at once: float64 (..., K)."""
    return _ratio(2 * tables.diagonal(axis1=-2, axis2=-1), tables.sum(axis=-2) + tables.sum(axis=-1))


def quadratic_kappa_of(tables: np.ndarray, ranks: np.ndarray | None) -> np.ndarray:
    """Compute quadratic_kappa from confusion matrices, (..., K, K), all at once: float64 (...,).

    Args:
        tables: rows are the true classes.
        ranks: int64 (K,), by severity; None where the order is not known, so that values are nan.
    """
    if ranks is None:
        return np.full(tables.shape[:-2], np.nan)
    cost = np.subtract.outer(ranks, ranks) ** 2
    chance = tables.sum(axis=-1)[..., :, None] * tables.sum(axis=-2)[..., None, :]
    both = (-2, -1)
    return 1 - _ratio((cost * tables).sum(axis=both) * tables.sum(axis=both), (cost * chance).sum(axis=both))


def severity_error_of(tables: np.ndarray, ranks: np.ndarray | None) -> np.ndarray:
    """Compute severity_error from confusion matrices, as quadratic_kappa_of does: float64 (...,)."""
    if ranks is None:
        return np.full(tables.shape[:-2], np.nan)
    steps = np.abs(np.subtract.outer(ranks, ranks))
    return _ratio((steps * tables).sum(axis=(-2, -1)), tables.sum(axis=(-2, -1)))


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Compute the mean over classes, the last axis, for which a value exists; nan where there is none."""
    there = ~np.isnan(values)
    return _ratio(np.where(there, values, 0).sum(axis=-1), there.sum(axis=-1))


def log_loss(predictions: Predictions, weights: Weights = None) -> float:
    """Compute the mean negative log likelihood: minus the natural logarithm of the true class's probability.

    Returns:
        0 or more, at most 15.9 (see LEAST_PROBABILITY); nan without slices.
    """
    return _row_mean(row_log_losses(predictions), weights)


def row_log_losses(predictions: Predictions) -> np.ndarray:
    """Compute the negative log likelihood of each row, float64 (N,)."""
    true = predictions.probabilities[np.arange(len(predictions)), predictions.labels].astype(np.float64)
    return -np.log(np.clip(true, LEAST_PROBABILITY, 1))


def brier_score(predictions: Predictions, weights: Weights = None) -> float:
    """Compute the mean squared difference between probabilities and truth, summed over classes (Brier, 1950).

    For two classes it is the half of that sum, which is the square for either class alone, as scikit-learn has it.

    Returns:
        from 0 to 2, or to 1 for two classes; nan without slices.
    """
    return _row_mean(row_brier_scores(predictions), weights)


def row_brier_scores(predictions: Predictions) -> np.ndarray:
    """Compute the squared difference of each row, float64 (N,); see brier_score."""
    truth = np.eye(len(predictions.class_names))[predictions.labels]
    squares = ((predictions.probabilities - truth) ** 2).sum(axis=1)
    return squares / 2 if len(predictions.class_names) == 2 else squares


def roc_curve(predictions: Predictions, class_index: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute the ROC curve of one class against the rest, a point for each distinct probability.

    Returns:
        false and true positive rates, float64 (P,) each, rising from 0 to 1; nan where the rate does not exist.
    """
    ranks = predictions.ranks[class_index]
    positive = predictions.labels == class_index
    rates = []
    for group in (~positive, positive):
        above = np.bincount(ranks, group, minlength=1)[::-1].cumsum()
        rates.append(_ratio(np.append(0, above), above[-1]))
    return rates[0], rates[1]


HEADLINE: dict[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "auroc": auroc,
    "quadratic_kappa": quadratic_kappa,
}

SHARES = frozenset({"accuracy", "balanced_accuracy", "macro_f1", "precision", "recall", "f1"})
"""Metrics that are shown in per cent wherever people read them; JSON and CSV hold them as fractions."""
ORDINAL = frozenset({"quadratic_kappa", "severity_error"})
"""Metrics of steps of severity, which do not exist where the order of the classes is not known."""

CLASS_METRICS: dict[str, ClassMetric] = {"precision": precision, "recall": recall, "f1": f1, "auroc": class_auroc}


def print_format(metric: str) -> tuple[str, int, int]:
    """Return how a metric is shown: its unit, the factor before it, and digits behind the point.

    Example:
        >>> print_format("accuracy"), print_format("auroc")
        ((' %', 100, 1), ('', 1, 3))
    """
    return (" %", 100, 1) if metric in SHARES else ("", 1, 3)


def chance(counts: Sequence[int]) -> dict[str, float]:
    """Compute what a guess has that knows nothing of a row and is drawn in the proportions of the classes.

    Of class k with the share p_k of the rows it has a precision, a recall and an F1 of p_k, up to the luck of the draw,
    so that their means over the classes are 1 / K, and an accuracy of the sum of p_k squared.

    Args:
        counts: rows of each class; a class without rows does not count.

    Returns:
        of each headline metric, by name; none where there are no rows.

    Example:
        >>> chance([3, 1])
        {'accuracy': 0.625, 'balanced_accuracy': 0.5, 'macro_f1': 0.5, 'auroc': 0.5, 'quadratic_kappa': 0.0}
    """
    shares = np.array([count for count in counts if count]) / max(sum(counts), 1)
    if not len(shares):
        return {}
    mean = 1 / len(shares)
    found = {"accuracy": float((shares**2).sum()), "balanced_accuracy": mean, "macro_f1": mean}
    return {**found, "auroc": 0.5, "quadratic_kappa": 0.0}


def applicable(metrics: Mapping[str, Metric], predictions: Predictions) -> dict[str, Metric]:
    """Leave out metrics of steps where the order of the classes by severity is not known."""
    ordered = predictions.severity_ranks is not None
    return {name: metric for name, metric in metrics.items() if ordered or name not in ORDINAL}


def _by_rank(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Sum weights (K, N) at each rank, for each class."""
    classes, count = predictions.ranks.shape
    bins = predictions.ranks + count * np.arange(classes)[:, None]
    return np.bincount(bins.ravel(), weights.ravel(), minlength=classes * count).reshape(classes, count)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), whole)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _row_mean(values: np.ndarray, weights: Weights) -> float:
    """Compute the mean over slices of a value of each."""
    weight = np.ones(len(values)) if weights is None else weights
    return float(_ratio(values @ weight, weight.sum()))


def _mean(values: np.ndarray, predictions: Predictions, weights: Weights) -> float:
    """Compute the mean over the classes for which a value exists; nan where a class that has slices weighs nothing.

    The mean over fewer classes is another metric: a resample without its worst class would look better than it is.
    """
    if weights is not None and not np.bincount(predictions.labels, weights)[np.unique(predictions.labels)].all():
        return np.nan
    return float(mean_of_defined(values))
