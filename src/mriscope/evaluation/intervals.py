"""Intervals of metrics, for subjects where they are known: slices of one brain are not independent.

Each metric has a method of its own, named in its estimate; `benchmarks/coverage.py` measures their coverage, and
docs/method.md says what is measured so far. Where none is known to cover, the estimate is marked as not reliable.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from mriscope.errors import check_type
from mriscope.evaluation.cohort import AREAS, LOSSES, OF_CONFUSIONS, RANGES, SEVERAL_CLASSES, Cohort
from mriscope.evaluation.interval_formulas import widen
from mriscope.evaluation.metrics import (
    CLASS_METRICS,
    HEADLINE,
    ClassMetric,
    Metric,
    precision,
    recall,
)
from mriscope.evaluation.predictions import Predictions, join
from mriscope.evaluation.resampling import cluster_bootstrap
from mriscope.results import Estimate

SLICE_NOTE = "subjects are unknown, so the interval resamples slices and is too narrow where slices of one brain agree"
LEAST_UNITS, LEAST_OF_CLASS, LEAST_OF_SKEWED = 20, 10, 200
"""Subjects in all, of each class that a metric is about, and in all for a skewed metric, that make it reliable.

A loss is a mean of many small and few large numbers: of 50 subjects and a good model its intervals cover 85 to 90 %. So
is the AUROC, recall or precision of a class over several slices of each subject: 86 to 95 % (docs/method.md).
"""
LEAST_WORTH = 10
"""Units that a mean loss has to rest on (see Cohort.worth_of_losses): a near perfect model's rests on one or two."""
LEAST_WRONG = 5
"""Subjects with a wrong prediction, if there is any, that a metric of the confusion matrix has to rest on."""
FEW_NOTE = (
    f"intervals are reliable from {LEAST_UNITS} subjects on, {LEAST_OF_CLASS} of each class that a metric is about, "
    f"and of log loss, Brier score, and the AUROC, recall and precision of slices from {LEAST_OF_SKEWED}; "
    f"a mean loss has to rest on {LEAST_WORTH} or more, and balanced accuracy, F1, kappa and steps of severity "
    f"on {LEAST_WRONG} wrong subjects or none"
)


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
    """Compute each metric with the interval that suits it; `method` of the estimate names how it was made.

    Proportions have Wilson's interval, an AUROC DeLong's on the logit scale, losses one on the log scale, and what
    else is computed from the confusion matrix a Bayesian bootstrap (Rubin, 1981); subjects are the independent units
    of each. Any other metric has a percentile interval (Efron and Tibshirani, 1993; by cluster: Field and Welsh,
    2007); resamples in which it does not exist are left out. The bounds of a single unit are nan.

    Args:
        predictions: of slices or subjects.
        metrics: what to measure, by name.
        resamples: how many to draw, where an interval is made of resamples.
        level: of the interval, in (0, 1).
        seed: of the draw; equal seeds give equal intervals.

    Returns:
        estimates by name; `reliable` is False for fewer than 20 subjects, for fewer than ten of a class that the metric
        is about, and where subjects are unknown; for fewer than 200 subjects of a loss, and of an AUROC, recall or
        precision over several slices of each; and for a loss that fewer than ten subjects carry.

    Example:
        >>> right = Predictions.of([0, 1, 1, 1], [[1, 0], [0, 1], [0, 1], [1, 0]], class_names=("sick", "well"))
        >>> bootstrap(right)["accuracy"].value
        0.75
    """
    check_type("predictions", predictions, Predictions, "Predictions, such as Predictions.of gives")
    return bootstrap_repeats([predictions], metrics, resamples=resamples, level=level, seed=seed)


def bootstrap_classes(
    predictions: Predictions | Sequence[Predictions],
    metrics: Mapping[str, ClassMetric] = CLASS_METRICS,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, dict[str, Estimate]]:
    """Do as bootstrap_repeats, for each class; bounds are nan for a class whose slices come from fewer than two units.

    Args:
        predictions: of slices or subjects, or those of several repeats.
        metrics: what to measure of each class, by name.
        resamples: how many to draw.
        level: of the interval.
        seed: of the draw.

    Returns:
        estimates by class name, then by metric.
    """
    cohort = Cohort([predictions] if isinstance(predictions, Predictions) else predictions)
    found: dict[str, dict[str, Estimate]] = {name: {} for name in cohort.class_names}
    for metric_name, metric, values, (low, high), method in cohort.intervals(metrics, resamples, level, seed):
        for row, class_name in enumerate(cohort.class_names):
            count = cohort.units_of_class[row]
            bounds = (low[row], high[row]) if count > 1 else (np.nan, np.nan)
            rest = int(cohort.has_rest[row].sum()) if metric in SEVERAL_CLASSES else LEAST_OF_CLASS
            reliable = _is_reliable(cohort, min(count, rest), metric)
            found[class_name][metric_name] = _estimate(values[row], bounds, method, reliable)
    return found


def bootstrap_repeats(
    repeats: Sequence[Predictions],
    metrics: Mapping[str, Metric] = HEADLINE,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    widen_by: float = 1.0,
) -> dict[str, Estimate]:
    """Compute the mean of each metric over repeats, with the interval of that mean.

    Subjects (slices, where a subject is unknown) are the units, and each is the same one in every repeat: the interval
    covers the choice of the subjects and not the luck of training, which the mean makes smaller.

    Args:
        repeats: of each repeat of a cross-validation the pooled folds (see join), or of each seed of a recipe the test
            part. Repeats may differ in their slices; a unit that a repeat lacks adds nothing to it.
        metrics: what to measure, by name; see bootstrap for these and the rest.
        resamples: how many to draw.
        level: of the interval.
        seed: of the draw.
        widen_by: stretch each interval by this factor about its value, as those of a cross-validation need (see
            mriscope.evaluation.crossvalidation).

    Raises:
        DataError: there are no repeats, or two have other classes.
    """
    cohort = Cohort(repeats)
    some = [count for count in cohort.units_of_class if count]
    found = {}
    for name, metric, value, bounds, method in cohort.intervals(metrics, resamples, level, seed):
        if widen_by != 1:
            least, most = RANGES.get(metric, (0, 1))
            bounds = widen(value, bounds, widen_by, least=least, most=most)
        least_of_class = min(some, default=0) if metric in SEVERAL_CLASSES else LEAST_OF_CLASS
        reliable = _is_reliable(cohort, least_of_class, metric)
        found[name] = _estimate(value, bounds, method, reliable)
    return found


def bootstrap_values(predictions: Predictions, metric: Metric, resamples: int, seed: int) -> np.ndarray:
    """Compute a metric in every resample in which it exists: float64, at most (R,)."""
    drawn = np.array([metric(predictions, weights) for weights in resample_weights(predictions, resamples, seed)])
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
    return Cohort(repeats).units


def unit_numbers(predictions: Predictions) -> np.ndarray:
    """Return the unit that each slice belongs to, int64 (N,), counted from 0."""
    if interval_unit(predictions) == "slice":
        return np.arange(len(predictions))
    return np.unique(predictions.subjects, return_inverse=True)[1]


def count_units(predictions: Predictions) -> int:
    """Count the subjects, or the slices where a subject is unknown."""
    return int(unit_numbers(predictions).max(initial=-1)) + 1


def _is_reliable(cohort: Cohort, least_of_class: int, metric: object) -> bool:
    by_slice = cohort.n_units < max(len(one) for one in cohort.repeats)
    skewed = metric in LOSSES or (by_slice and metric in (*AREAS, recall, precision))
    least_units = LEAST_OF_SKEWED if skewed else LEAST_UNITS
    if metric in LOSSES and cohort.worth_of_losses(metric) < LEAST_WORTH:
        return False
    if metric in OF_CONFUSIONS and 0 < cohort.n_wrong < LEAST_WRONG:
        return False
    return cohort.knows_subjects and cohort.n_units >= least_units and least_of_class >= LEAST_OF_CLASS


def _estimate(value: Any, bounds: tuple[Any, Any], method: str, reliable: bool) -> Estimate:
    """Return an estimate; its bounds are nan, and it has no method, where one of them does not exist."""
    low, high = (float(bound) for bound in bounds)
    if np.isnan([value, low, high]).any():
        return Estimate(float(value), np.nan, np.nan, reliable=False)
    low, high = min(low, float(value)), max(high, float(value))
    return Estimate(float(value), low, high, method=method, reliable=reliable and low < high)
