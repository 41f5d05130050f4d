"""Differences between two models on the same subjects, with interval and paired test."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mriscope.errors import DataError
from mriscope.evaluation.intervals import bootstrap_values, mean_over, stack_repeats
from mriscope.evaluation.metrics import Metric
from mriscope.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Difference:
    """The difference of a metric between two models; nan where a number does not exist.

    Attributes:
        value: one's less the other's.
        low: of its interval.
        high: of its interval.
        p: two-sided, of the hypothesis that neither has more.
    """

    value: float
    low: float
    high: float
    p: float


def paired_difference(
    one: Predictions | Sequence[Predictions],
    other: Predictions | Sequence[Predictions],
    metric: Metric,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Compute the difference of a metric between two models on the same slices or subjects, by paired bootstrap.

    A resample draws subjects (slices, where a subject is unknown) once and has them in all of both models' repeats, so
    that what is hard for both counts for neither. p is twice the share of resamples on the rarer side of 0, and not
    under 2 / (resamples + 1) (Davison and Hinkley, 1997).

    Args:
        one: its predictions, or those of its repeats, whose metrics are averaged; see bootstrap_repeats.
        other: the same of the other; it may have another number of repeats.
        metric: what to measure.
        resamples: how many to draw.
        level: of the percentile interval.
        seed: of the draw.

    Raises:
        DataError: two of the predictions differ in their slices, labels, subjects or classes.
    """
    ours, theirs = ([given] if isinstance(given, Predictions) else list(given) for given in (one, other))
    every = [*ours, *theirs]
    for another in every[1:]:
        aligned(every[0], another)
    both = stack_repeats(every)
    border = sum(len(repeat) for repeat in ours)
    first, second = mean_over(ours, metric), mean_over(theirs, metric)

    def difference(_: Predictions, weights: np.ndarray | None = None, /) -> float:
        shares = (None, None) if weights is None else (weights[:border], weights[border:])
        return float(first(both, shares[0]) - second(both, shares[1]))

    value, drawn = difference(both), bootstrap_values(both, difference, resamples, seed)
    if both.n_subjects < 2 or not len(drawn) or np.isnan(value):
        return Difference(value, np.nan, np.nan, np.nan)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    rarer = 1 + min((drawn <= 0).sum(), (drawn >= 0).sum())
    return Difference(value, float(low), float(high), float(min(1, 2 * rarer / (len(drawn) + 1))))


def widen_difference(difference: Difference, factor: float) -> Difference:
    """Stretch the interval of a difference about its value, and take its p from as much larger a standard error."""
    from scipy.special import ndtr, ndtri

    value = difference.value
    low, high = (value + factor * (bound - value) for bound in (difference.low, difference.high))
    p = min(1.0, float(2 * ndtr(ndtri(difference.p / 2) / factor)))
    return Difference(value, low, high, p)


def aligned(one: Predictions, other: Predictions) -> tuple[Predictions, Predictions]:
    """Return both in the order of their paths.

    Raises:
        DataError: they differ in their paths, labels, subjects or classes.
    """
    if one.class_names != other.class_names:
        raise DataError(
            f"one model knows the classes {', '.join(one.class_names)} and the other {', '.join(other.class_names)}; "
            "only models of the same classes compare"
        )
    first, second = (_in_order(predictions) for predictions in (one, other))
    for name in ("paths", "labels", "subjects"):
        here, there = getattr(first, name), getattr(second, name)
        if not np.array_equal(here, there):
            raise DataError(
                f"two models compare on the same slices or subjects, and the {name} of these differ "
                f"({len(first):,} rows and {len(second):,}); evaluate both on the same split"
            )
    return first, second


def _in_order(predictions: Predictions) -> Predictions:
    order = np.argsort(predictions.paths, kind="stable")
    columns = ("paths", "labels", "subjects", "parts", "probabilities")
    return replace(predictions, **{name: getattr(predictions, name)[order] for name in columns})
