"""Intervals by bootstrap, resampling subjects where they are known: slices of one brain are not independent."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from mriscope.errors import check_type
from mriscope.evaluation.metrics import CLASS_METRICS, HEADLINE, ClassMetric, Metric
from mriscope.evaluation.predictions import Predictions, join
from mriscope.evaluation.resampling import cluster_bootstrap, percentile_interval
from mriscope.results import Estimate

SLICE_NOTE = "subjects are unknown, so the interval resamples slices and is too narrow where slices of one brain agree"


def interval_unit(predictions: Predictions) -> Literal["subject", "slice"]:
    """Return what a resample draws: "subject" where the subject of every slice is known, else "slice"."""
    return "subject" if predictions.knows_subjects else "slice"


def resample_weights(predictions: Predictions, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Draw bootstrap resamples of subjects or slices, each as how often every slice counts.

    Equal for equal units, number and seed.

    Yields:
        `resamples` arrays, int64 (N,).
    """
    units = unit_numbers(predictions)
    for drawn in cluster_bootstrap(units.max(initial=-1) + 1, resamples, seed):
        yield drawn[units]


def bootstrap(
    predictions: Predictions,
    metrics: Mapping[str, Metric] = HEADLINE,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Compute each metric with its percentile interval (Efron and Tibshirani, 1993; by cluster: Field and Welsh, 2007).

    Resamples in which a metric does not exist are left out; a mean over classes does not where one has no slice. The
    bounds of a single unit are nan. Where every slice is right, every resample is
    too, and the interval has no width.

    Args:
        predictions: of slices or subjects.
        metrics: what to measure, by name.
        resamples: how many to draw; the bounds of 2,000 have a standard error of 1.5 % of the interval's width.
        level: share of resamples within the interval, in (0, 1).
        seed: of the draw; equal seeds give equal intervals.

    Example:
        >>> right = Predictions.of([0, 1, 1, 1], [[1, 0], [0, 1], [0, 1], [1, 0]], class_names=("sick", "well"))
        >>> bootstrap(right)["accuracy"].value
        0.75
    """
    check_type("predictions", predictions, Predictions, "Predictions, such as Predictions.of gives")
    drawn = _resample_metrics(predictions, metrics, resamples, seed)
    enough = len(np.unique(unit_numbers(predictions))) > 1
    return {
        name: percentile_interval(metric(predictions), drawn[name] if enough else np.empty(0), level)
        for name, metric in metrics.items()
    }


def bootstrap_classes(
    predictions: Predictions,
    metrics: Mapping[str, ClassMetric] = CLASS_METRICS,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, dict[str, Estimate]]:
    """Do as bootstrap, for each class; bounds are nan for a class whose slices come from fewer than two units.

    Returns:
        estimates by class name, then by metric.
    """
    drawn = _resample_metrics(predictions, metrics, resamples, seed)
    values = {name: metric(predictions) for name, metric in metrics.items()}
    units = unit_numbers(predictions)
    found: dict[str, dict[str, Estimate]] = {}
    for row, class_name in enumerate(predictions.class_names):
        enough = len(np.unique(units[predictions.labels == row])) > 1
        found[class_name] = {
            name: percentile_interval(values[name][row], drawn[name][:, row] if enough else np.empty(0), level)
            for name in metrics
        }
    return found


def bootstrap_repeats(
    repeats: Sequence[Predictions],
    metrics: Mapping[str, Metric] = HEADLINE,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Compute the mean of each metric over repeats, with the interval of that mean.

    A resample draws subjects (slices, where a subject is unknown) once and has them in every repeat: the interval
    covers the choice of the subjects and not the luck of training, which the mean makes smaller.

    Args:
        repeats: of each repeat of a cross-validation the pooled folds (see join), or of each seed of a recipe the test
            part. Repeats may differ in their slices; a unit that a repeat lacks adds nothing to it.
        metrics: what to measure, by name; see bootstrap for these and the rest.
        resamples: how many to draw.
        level: of the interval.
        seed: of the draw.

    Raises:
        DataError: there are no repeats, or two have other classes.
    """
    averaged = {name: mean_over(repeats, metric) for name, metric in metrics.items()}
    return bootstrap(stack_repeats(repeats), averaged, resamples=resamples, level=level, seed=seed)


def bootstrap_values(predictions: Predictions, metric: Metric, resamples: int, seed: int) -> np.ndarray:
    """Compute a metric in every resample in which it exists: float64, at most (R,)."""
    drawn = _resample_metrics(predictions, {"": metric}, resamples, seed)[""]
    return drawn[~np.isnan(drawn)]


def stack_repeats(repeats: Sequence[Predictions]) -> Predictions:
    """Join all repeats; the unit of every slice stands as its subject, so that resamples draw units.

    Raises:
        DataError: there are no repeats, or two have other classes.
    """
    return replace(join(repeats), subjects=units_of(repeats), subject_ids=())


def mean_over(repeats: Sequence[Predictions], metric: Metric | ClassMetric) -> Any:
    """Return a metric averaged over repeats, as one metric of their stacked predictions."""
    ends = np.cumsum([len(repeat) for repeat in repeats])[:-1]

    def mean_over_repeats(_: Predictions, weights: np.ndarray | None = None, /) -> Any:
        shares = [None] * len(repeats) if weights is None else np.split(weights, ends)
        return np.array([metric(one, share) for one, share in zip(repeats, shares, strict=True)]).mean(axis=0)

    return mean_over_repeats


def units_of(repeats: Sequence[Predictions]) -> np.ndarray:
    """Return the unit of each slice, int64 (N of all repeats,), from 0: its subject, or its path where unknown."""
    name = "subjects" if all(one.knows_subjects for one in repeats) else "paths"
    return np.unique(np.concatenate([getattr(one, name) for one in repeats]), return_inverse=True)[1].astype(np.int64)


def unit_numbers(predictions: Predictions) -> np.ndarray:
    """Return the unit that each slice belongs to, int64 (N,), counted from 0."""
    if interval_unit(predictions) == "slice":
        return np.arange(len(predictions))
    return np.unique(predictions.subjects, return_inverse=True)[1]


def _resample_metrics(
    predictions: Predictions, metrics: Mapping[str, Metric] | Mapping[str, ClassMetric], resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """Compute each metric in every resample: float64 (R,), or (R, K) for a metric of classes."""
    drawn: dict[str, list[Any]] = {name: [] for name in metrics}
    for weights in resample_weights(predictions, resamples, seed):
        for name, metric in metrics.items():
            drawn[name].append(metric(predictions, weights))
    return {name: np.reshape(drawn[name], (resamples, *np.shape(metrics[name](predictions)))) for name in metrics}
