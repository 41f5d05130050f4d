"""Intervals by bootstrap, resampling subjects where they are known: slices of one brain are not independent."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mriscope.evaluation.metrics import CLASS_METRICS, HEADLINE, ClassMetric, Metric, accuracy, confusion_matrix
from mriscope.evaluation.predictions import Predictions, join

SLICE_NOTE = "subjects are unknown, so the interval resamples slices and is too narrow where slices of one brain agree"


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; nan where a number does not exist."""

    value: float
    low: float
    high: float


def interval_unit(predictions: Predictions) -> str:
    """What a resample draws: "subject" where the subject of every slice is known, else "slice"."""
    return "subject" if predictions.knows_subjects else "slice"


def resamples_of(predictions: Predictions, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Bootstrap resamples, each as how often every slice counts; equal for equal units, number and seed.

    A resample draws as many units (subjects or slices) as there are, with replacement, and each brings all its slices.

    Returns:
        `resamples` arrays, int64 (N,).
    """
    units = _units(predictions)
    count = units.max(initial=-1) + 1
    random = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(random.integers(max(count, 1), size=count), minlength=count)[units]


def bootstrap(
    predictions: Predictions,
    metrics: Mapping[str, Metric] = HEADLINE,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Each metric with its percentile interval (Efron and Tibshirani, 1993; by cluster: Field and Welsh, 2007).

    Resamples in which a metric does not exist are left out; a mean over classes does not where one has no slice. A
    single unit says nothing of how units differ: its bounds are nan. Where every slice is right, every resample is
    too, and the interval has no width.

    Args:
        metrics: what to measure, by name.
        resamples: how many to draw; the bounds of 2,000 have a standard error of 1.5 % of the interval's width.
        level: share of resamples within the interval, in (0, 1).
        seed: of the draw; equal seeds give equal intervals.
    """
    drawn = _measured(predictions, metrics, resamples, seed)
    enough = _n_units(predictions) > 1
    return {name: _estimate(metric(predictions), drawn[name], level, enough=enough) for name, metric in metrics.items()}


def bootstrap_classes(
    predictions: Predictions,
    metrics: Mapping[str, ClassMetric] = CLASS_METRICS,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, dict[str, Estimate]]:
    """As bootstrap, for each class; bounds are nan for a class whose slices come from fewer than two units.

    Returns:
        estimates by class name, then by metric.
    """
    drawn = _measured(predictions, metrics, resamples, seed)
    values = {name: metric(predictions) for name, metric in metrics.items()}
    units = _units(predictions)
    found: dict[str, dict[str, Estimate]] = {}
    for row, class_name in enumerate(predictions.class_names):
        enough = len(np.unique(units[predictions.labels == row])) > 1
        found[class_name] = {
            name: _estimate(values[name][row], drawn[name][:, row], level, enough=enough) for name in metrics
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
    """The mean of each metric over repeats, with the interval of that mean.

    A resample draws subjects (slices, where a subject is unknown) once and has them in every repeat: the interval
    covers the choice of the subjects and not the luck of training, which the mean makes smaller.

    Args:
        repeats: of each repeat of a cross-validation the pooled folds (see join), or of each seed of a recipe the test
            part. Repeats may differ in their slices; a unit that a repeat lacks adds nothing to it.
        metrics: what to measure, by name; see bootstrap for these and the rest.

    Raises:
        DataError: there are no repeats, or two have other classes.
    """
    averaged = {name: mean_over(repeats, metric) for name, metric in metrics.items()}
    return bootstrap(stacked(repeats), averaged, resamples=resamples, level=level, seed=seed)


def bootstrap_values(predictions: Predictions, metric: Metric, resamples: int, seed: int) -> np.ndarray:
    """A metric in every resample in which it exists: float64, at most (R,)."""
    drawn = _measured(predictions, {"": metric}, resamples, seed)[""]
    return drawn[~np.isnan(drawn)]


def stacked(repeats: Sequence[Predictions]) -> Predictions:
    """All repeats' predictions in one; the unit of every slice stands as its subject, so that resamples draw units.

    Raises:
        DataError: there are no repeats, or two have other classes.
    """
    return replace(join(repeats), subjects=units_of(repeats))


def mean_over(repeats: Sequence[Predictions], metric: Metric | ClassMetric) -> Any:
    """A metric averaged over repeats, as one metric of their stacked predictions."""
    ends = np.cumsum([len(repeat) for repeat in repeats])[:-1]

    def mean_over_repeats(_: Predictions, weights: np.ndarray | None = None, /) -> Any:
        shares = [None] * len(repeats) if weights is None else np.split(weights, ends)
        return np.array([metric(one, share) for one, share in zip(repeats, shares, strict=True)]).mean(axis=0)

    return mean_over_repeats


def units_of(repeats: Sequence[Predictions]) -> np.ndarray:
    """int64 (N of all repeats,), the number from 0 of each slice's subject, or of its path where one is unknown."""
    name = "subjects" if all(one.knows_subjects for one in repeats) else "paths"
    return np.unique(np.concatenate([getattr(one, name) for one in repeats]), return_inverse=True)[1].astype(np.int64)


def summary(predictions: Predictions, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Every metric with its interval, overall and for each class, ready for JSON: what does not exist is None."""
    level = 0.95
    headline = bootstrap(predictions, resamples=resamples, level=level, seed=seed)
    by_class = bootstrap_classes(predictions, resamples=resamples, level=level, seed=seed)
    return {
        **_counts(predictions, np.full(len(predictions), True)),
        "interval": {
            "level": level,
            "unit": interval_unit(predictions),
            "resamples": resamples,
            "note": "; ".join(_notes(predictions)) or None,
        },
        "metrics": {name: plain(estimate) for name, estimate in headline.items()},
        "classes": {
            class_name: {
                **_counts(predictions, predictions.labels == row),
                **{name: plain(estimate) for name, estimate in by_class[class_name].items()},
            }
            for row, class_name in enumerate(predictions.class_names)
        },
        "confusion_matrix": confusion_matrix(predictions).tolist(),
    }


def _notes(predictions: Predictions) -> Iterator[str]:
    if interval_unit(predictions) == "slice":
        yield SLICE_NOTE
    if accuracy(predictions) == 1:  # the rule of three: Hanley and Lippman-Hand, 1983
        count = _n_units(predictions)
        yield (
            f"nothing is wrong, so the accuracy's interval has no width; with {count} "
            f"{interval_unit(predictions)}s all right, up to {min(1, 3 / count):.1%} of them may be wrong elsewhere"
        )
    for label in np.unique(predictions.labels):
        count = len(np.unique(_units(predictions)[predictions.labels == label]))
        if count == 1:
            name = predictions.class_names[label]
            yield f"{name} is one {interval_unit(predictions)} only, so intervals cannot show how such ones differ"


def _units(predictions: Predictions) -> np.ndarray:
    """int64 (N,), which unit each slice belongs to, from 0."""
    if interval_unit(predictions) == "slice":
        return np.arange(len(predictions))
    return np.unique(predictions.subjects, return_inverse=True)[1]


def _n_units(predictions: Predictions) -> int:
    return int(_units(predictions).max(initial=-1)) + 1


def _measured(
    predictions: Predictions, metrics: Mapping[str, Metric] | Mapping[str, ClassMetric], resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """Each metric in every resample: float64 (R,), or (R, K) for a metric of classes."""
    drawn: dict[str, list[Any]] = {name: [] for name in metrics}
    for weights in resamples_of(predictions, resamples, seed):
        for name, metric in metrics.items():
            drawn[name].append(metric(predictions, weights))
    return {name: np.reshape(drawn[name], (resamples, *np.shape(metrics[name](predictions)))) for name in metrics}


def _estimate(value: float, drawn: np.ndarray, level: float, *, enough: bool) -> Estimate:
    defined = drawn[~np.isnan(drawn)]
    if not enough or not len(defined) or np.isnan(value):
        return Estimate(float(value), np.nan, np.nan)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(value), float(low), float(high))


def _counts(predictions: Predictions, chosen: np.ndarray) -> dict[str, int | None]:
    subjects = predictions.subjects[chosen]
    return {
        "n_slices": len(subjects),
        "n_subjects": len(np.unique(subjects)) if predictions.knows_subjects else None,
    }


def plain(estimate: Estimate) -> dict[str, float | None]:
    """An estimate for JSON: what does not exist is None."""
    values = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {name: None if np.isnan(value) else value for name, value in values.items()}
