"""A cohort of independent units, and the interval of each metric over it."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from mriscope.evaluation.influences import (
    area_variance,
    auroc_influences,
    mean_influences,
    sum_by_unit,
    welch_degrees,
)
from mriscope.evaluation.interval_formulas import (
    Bounds,
    area_interval,
    effective_size,
    few_units_factor,
    log_interval,
    logit_interval,
    score_interval_of_area,
    unit_variance,
    units_of_class_mean,
    widen,
    wilson_interval,
)
from mriscope.evaluation.metrics import (
    accuracy,
    auroc,
    balanced_accuracy,
    brier_score,
    class_auroc,
    f1,
    f1_of,
    log_loss,
    macro_f1,
    mean_of_defined,
    precision,
    quadratic_kappa,
    quadratic_kappa_of,
    recall,
    recall_of,
    row_brier_scores,
    row_log_losses,
    severity_error,
    severity_error_of,
)
from mriscope.evaluation.predictions import Predictions, join
from mriscope.evaluation.resampling import PERCENTILE, cluster_bootstrap

WILSON, DELONG, LOG_SCALE, BAYESIAN = "Wilson", "DeLong, logit scale", "Student, log scale", "Bayesian bootstrap"
PROPORTIONS: tuple[Any, ...] = (accuracy, precision, recall)
AREAS: tuple[Any, ...] = (auroc, class_auroc)
LOSSES: tuple[Any, ...] = (log_loss, brier_score)
OF_CONFUSIONS: dict[Any, Callable[[np.ndarray, np.ndarray | None], np.ndarray]] = {
    balanced_accuracy: lambda tables, _: mean_of_defined(recall_of(tables)),
    macro_f1: lambda tables, _: mean_of_defined(f1_of(tables)),
    f1: lambda tables, _: f1_of(tables),
    quadratic_kappa: quadratic_kappa_of,
    severity_error: severity_error_of,
}
"""Metrics of the confusion matrix, and how they are computed from many, (..., K, K), with the ranks by severity."""
MOST_WEIGHTS = 2_000_000
"""Of units in resamples that are held at once: 16 MB."""
SEVERAL_CLASSES: tuple[Any, ...] = (auroc, class_auroc, balanced_accuracy, macro_f1, quadratic_kappa)
"""Metrics that need enough units of every class, or of one and of the rest."""
RANGES: dict[Any, tuple[float, float]] = {quadratic_kappa: (-1, 1), severity_error: (0, np.inf)}
"""The least and most that a metric can be; of those that are not here 0 and 1."""
PRIOR = 0.25
"""Weight of each cell of the confusion matrix that the Bayesian bootstrap adds before it draws, in independent trials.

A prediction of a subject is a trial; several slices of one are by Kish's effective number.
"""

Named = tuple[str, Any, Any, Bounds, str]
"""Name of a metric, the metric, its value or values, bounds and method."""


class Cohort:
    """Predictions of one or several repeats over the same independent units.

    Args:
        repeats: see mriscope.evaluation.intervals.bootstrap_repeats.

    Raises:
        DataError: there are no repeats, or two have other classes.
    """

    def __init__(self, repeats: Sequence[Predictions]) -> None:
        self.repeats, self._whole = list(repeats), join(repeats)
        self.class_names = self._whole.class_names
        self.knows_subjects = all(one.knows_subjects for one in repeats)
        if len(self.repeats) == 1 and not self.knows_subjects:
            self.units = np.arange(len(self._whole))
        else:
            names = [one.subjects if self.knows_subjects else one.paths for one in repeats]
            self.units = np.unique(np.concatenate(names), return_inverse=True)[1].astype(np.int64)
        self.n_units = int(self.units.max(initial=-1)) + 1
        self._ends = np.cumsum([len(one) for one in repeats])[:-1]

    @cached_property
    def units_of_class(self) -> list[int]:
        """Count the units that have slices of each class."""
        return self.has_class.sum(axis=1).tolist()

    @cached_property
    def has_class(self) -> np.ndarray:
        """Tell which units have slices of each class: bool (K, U)."""
        found = np.zeros((len(self.class_names), self.n_units), bool)
        found[self._whole.labels, self.units] = True
        return found

    @cached_property
    def has_rest(self) -> np.ndarray:
        """Tell which units have slices that are not of each class: bool (K, U); a unit of several classes has both."""
        return self.has_class.sum(axis=0) > self.has_class

    @cached_property
    def n_wrong(self) -> int:
        """Count the units that have a wrong prediction, in any repeat."""
        return len(np.unique(self.units[self._whole.predicted != self._whole.labels]))

    def intervals(self, metrics: Mapping[str, Any], resamples: int, level: float, seed: int) -> Iterator[Named]:
        """Compute each metric, of all or of each class, and its interval; bounds of a single unit are nan."""
        drawn = self._resample(metrics, resamples, seed)
        for name, metric in metrics.items():
            value = np.array([metric(one) for one in self.repeats]).mean(axis=0)
            none = np.full_like(value, np.nan, dtype=np.float64)
            if self.n_units < 2:
                yield name, metric, value, (none, none), ""
            elif metric in PROPORTIONS:
                yield name, metric, value, self._of_proportion(metric, value, level), WILSON
            elif metric in AREAS:
                yield name, metric, value, self._of_area(metric, value, level), DELONG
            elif metric in LOSSES:
                error = np.sqrt(unit_variance(self._influences(lambda one, of=metric: _row_losses(one, of))))
                yield name, metric, value, log_interval(value, error, self.n_units, level), LOG_SCALE
            elif metric in OF_CONFUSIONS:
                low, high = _quantiles(drawn[name], level)
                bounds = np.minimum(low, value), np.maximum(high, value)
                least, most = RANGES.get(metric, (0, 1))
                rare_counts = metric is balanced_accuracy  # as much as a common class
                worth = units_of_class_mean(self.units_of_class) if rare_counts else self.n_units
                factor = few_units_factor(worth, level)
                yield name, metric, value, widen(value, bounds, factor, least=least, most=most), BAYESIAN
            else:
                yield name, metric, value, _quantiles(drawn[name], level), PERCENTILE

    def worth_of_losses(self, metric: Any) -> float:
        """Compute Kish's effective number of units, their losses as weights: how many units the mean loss rests on."""

        def of_rows(one: Predictions) -> np.ndarray:
            return row_log_losses(one) if metric is log_loss else row_brier_scores(one)

        losses = self._influences(of_rows)
        return float(losses.sum() ** 2 / max((losses**2).sum(), np.finfo(float).tiny))

    def _influences(self, of_rows: Any, units: np.ndarray | None = None, count: int = 0) -> np.ndarray:
        """Compute the influence of each unit, or of others by row, on the mean over repeats: float64 (..., U)."""
        units, count = (self.units, self.n_units) if units is None else (units, count)
        parts = zip(self.repeats, np.split(units, self._ends), strict=True)
        return np.mean([sum_by_unit(of_rows(one), rows, count) for one, rows in parts], axis=0)

    def _of_proportion(self, metric: Any, value: np.ndarray, level: float) -> Bounds:
        def counted(one: Predictions) -> np.ndarray:
            classes = np.arange(len(one.class_names))[:, None]
            if metric is accuracy:
                return np.ones(len(one), bool)
            return (one.labels if metric is recall else one.predicted) == classes

        def of_rows(one: Predictions) -> np.ndarray:
            return mean_influences(np.broadcast_to(one.predicted == one.labels, counted(one).shape), counted(one))[1]

        influences = self._influences(of_rows)
        every = np.concatenate([counted(one) for one in self.repeats], axis=-1)
        present = sum_by_unit(every.astype(float), self.units, self.n_units) > 0
        units = present.sum(axis=-1)
        variance = (influences**2).sum(axis=-1) * units / np.maximum(units - 1, 1)
        rows = every.sum(axis=-1) / len(self.repeats)
        most = rows if len(self.repeats) == 1 else self._worth_of_slices(of_rows, value, rows)
        return wilson_interval(value, effective_size(value, variance, units, rows, level, most=most), level)

    def _worth_of_slices(self, of_rows: Any, value: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Compute how many trials repeats were worth if slices were independent: more than one has if they disagree."""
        names, slices = np.unique(np.concatenate([one.paths for one in self.repeats]), return_inverse=True)
        variance = (self._influences(of_rows, slices, len(names)) ** 2).sum(axis=-1)
        spread = np.asarray(value * (1 - value))
        return np.divide(spread, variance, out=np.array(rows, np.float64), where=(spread > 0) & (variance > 0))

    def _of_area(self, metric: Any, value: np.ndarray, level: float) -> Bounds:
        def of_rows(one: Predictions) -> np.ndarray:
            return auroc_influences(one.ranks, one.labels == np.arange(len(one.class_names))[:, None])[1]

        influences = self._influences(of_rows)
        of_class, rest = self.has_class.sum(axis=1), self.has_rest.sum(axis=1)
        divided = np.asarray((self.has_class & self.has_rest).any(axis=1))
        variances = np.where(divided, unit_variance(influences), area_variance(influences, self.has_class))
        if metric is class_auroc:
            error = np.sqrt(variances)
            degrees = np.where(divided, self.n_units - 1, welch_degrees(influences, (self.has_class, ~self.has_class)))
            low, high = area_interval(value, error, of_class.clip(1), rest.clip(1), level, degrees=degrees)
            both = (of_class > 1) & (rest > 1)
            return np.where(both, low, np.nan), np.where(both, high, np.nan)
        there = (of_class > 0) & (rest > 0)
        if there.sum() < 2 or min(of_class[there]) < 2:
            return np.array(np.nan), np.array(np.nan)
        if len(self.class_names) == 2:
            degrees = self.n_units - 1 if divided[0] else welch_degrees(influences[0], self.has_class)
            return area_interval(value, np.sqrt(variances[0]), of_class[0], of_class[1], level, degrees=degrees)
        mean = influences[there].mean(axis=0)
        error = np.sqrt(unit_variance(mean))
        if error == 0 or value in (0, 1):  # the mean of the score intervals, as a class has little to say of another's
            ends = score_interval_of_area(value, of_class[there], rest[there], level)
            return ends[0].mean(), ends[1].mean()
        degrees = self.n_units - 1 if divided.any() else welch_degrees(mean, self.has_class[there])
        return logit_interval(value, error, level, degrees=degrees)

    def _resample(self, metrics: Mapping[str, Any], resamples: int, seed: int) -> dict[str, np.ndarray]:
        """Draw each metric that needs it: float64 (R,), or (R, K) for a metric of classes."""
        ours = {name: one for name, one in metrics.items() if one in OF_CONFUSIONS}
        others = {
            name: one for name, one in metrics.items() if one not in (*OF_CONFUSIONS, *PROPORTIONS, *AREAS, *LOSSES)
        }
        drawn: dict[str, list[Any]] = {name: [] for name in (*ours, *others)}
        for counts in cluster_bootstrap(self.n_units, resamples if others else 0, seed):
            shares = np.split(counts[self.units], self._ends)
            for name, metric in others.items():
                found = [metric(*pair) for pair in zip(self.repeats, shares, strict=True)]
                drawn[name].append(np.mean(found, axis=0)[None])
        for tables in self._draw_confusions(resamples if ours else 0, seed):
            for name, metric in ours.items():
                drawn[name].append(OF_CONFUSIONS[metric](tables, self._whole.severity_ranks).mean(axis=0))
        return {name: np.concatenate(found) for name, found in drawn.items()}

    def _draw_confusions(self, resamples: int, seed: int) -> Iterator[np.ndarray]:
        """Draw confusion matrices by the Bayesian bootstrap; every cell of classes that have slices or are predicted.

        Yields:
            float64 (M, B, K, K), of M repeats in B of the resamples.
        """
        classes, random = len(self.class_names), np.random.default_rng(seed)
        true = np.unique(self._whole.labels)
        cells = (true[:, None] * classes + np.union1d(true, self._whole.predicted)).ravel()
        counts = np.zeros((len(self.repeats), self.n_units, classes**2))
        for one, units, table in zip(self.repeats, np.split(self.units, self._ends), counts, strict=True):
            np.add.at(table, (units, one.labels * classes + one.predicted), 1)
        rows = self._rows_of_a_trial()
        at_once = max(1, MOST_WEIGHTS // max(self.n_units, classes**2))
        for start in range(0, resamples, at_once):
            gamma = np.empty((min(at_once, resamples - start), self.n_units))
            added = np.zeros((len(gamma), classes**2))
            for one in range(len(gamma)):
                gamma[one] = random.standard_gamma(1, self.n_units)
                added[one, cells] = rows * random.standard_gamma(PRIOR, len(cells))
            yield (gamma @ counts + added).reshape(len(counts), len(gamma), classes, classes)

    def _rows_of_a_trial(self) -> float:
        """Compute how many slices of a repeat are worth one independent trial, from 1 to those of a unit.

        It is 1 where slices err independently. A weight of whole units would then be more errors than were seen, and
        the interval would lie on one side of the value.
        """
        rows = len(self._whole) / len(self.repeats)
        if not rows:
            return 1.0
        right = np.array([accuracy(one) for one in self.repeats]).mean()
        influences = self._influences(
            lambda one: mean_influences(one.predicted == one.labels, np.ones(len(one), bool))[1]
        )
        worth = effective_size(right, unit_variance(influences), self.n_units, rows)
        return float(rows / max(worth, self.n_units))


def _row_losses(one: Predictions, metric: Any) -> np.ndarray:
    losses = row_log_losses(one) if metric is log_loss else row_brier_scores(one)
    return mean_influences(losses, np.ones(len(losses), bool))[1]


def _quantiles(drawn: np.ndarray, level: float) -> Bounds:
    """Compute the bounds of drawn values (R, ...), without those that do not exist."""
    columns = drawn.reshape(len(drawn), math.prod(drawn.shape[1:]))
    there = ~np.isnan(columns).all(axis=0)  # NumPy warns of a column that holds nothing else
    bounds = np.full((2, columns.shape[1]), np.nan)
    bounds[:, there] = np.nanquantile(columns[:, there], [(1 - level) / 2, (1 + level) / 2], axis=0)
    low, high = bounds.reshape(2, *drawn.shape[1:])
    return low, high
