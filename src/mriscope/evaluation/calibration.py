"""Calibration: of the predictions made with 80 % confidence, 80 % should be right.

Confidence is the probability of the predicted class. Nothing here is fitted on what it evaluates: the temperature comes
from the validation part.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mriscope.errors import DataError
from mriscope.evaluation.intervals import (
    LEAST_UNITS,
    bootstrap,
    count_units,
    interval_unit,
    resample_weights,
    unit_numbers,
)
from mriscope.evaluation.metrics import LEAST_PROBABILITY, Metric, Weights, brier_score, log_loss
from mriscope.evaluation.predictions import Predictions
from mriscope.results import Calibration, Consistency, Estimate

BINS = 10
TEMPERATURES = (0.05, 20.0)
"""Where a temperature is looked for; a validation part without a single mistake would have one of 0."""

By = Literal["width", "mass"]


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy of the predictions in each bin of confidence that has some: float64 (B,) each.

    Attributes:
        confidence: mean over the predictions, in [0, 1].
        accuracy: share of them that are right.
        low: of the interval of accuracy by bootstrap; nan where the bin's predictions come from a single unit.
        high: of the same.
        counts: int64, how many predictions.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray
    counts: np.ndarray


def reliability_curve(
    predictions: Predictions, *, bins: int = BINS, by: By = "width", resamples: int = 2000, seed: int = 0
) -> Reliability:
    """Compute the reliability curve (Murphy and Winkler, 1977), with a 95 % interval by subject for each point.

    Args:
        predictions: one row at least.
        bins: how many.
        by: "width" has bins of equal width, "mass" of about equally many predictions.
        resamples: of the bootstrap.
        seed: of the same.
    """
    bin_of_row = _bins(predictions, bins, by)
    counts = np.bincount(bin_of_row, minlength=bins)
    weighed = [
        _bin_sums(predictions, bin_of_row, bins, weight) for weight in resample_weights(predictions, resamples, seed)
    ]
    drawn = [np.divide(right, count, out=np.full(bins, np.nan), where=count > 0) for count, _, right in weighed]
    _, confident, right = _bin_sums(predictions, bin_of_row, bins, np.ones(len(predictions)))
    low, high = np.full((2, bins), np.nan)
    for row in np.flatnonzero(counts):
        if len(np.unique(unit_numbers(predictions)[bin_of_row == row])) > 1:
            low[row], high[row] = np.nanquantile(np.array(drawn)[:, row], [0.025, 0.975])
    some = counts > 0
    return Reliability(
        confident[some] / counts[some], right[some] / counts[some], low[some], high[some], counts[some].astype(np.int64)
    )


def calibration_error(
    predictions: Predictions, weights: Weights = None, /, *, bins: int = BINS, by: By = "width"
) -> float:
    """Compute the expected calibration error: mean gap of confidence and accuracy over bins (Naeini et al., 2015).

    It is not 0 for few rows of a model that is perfectly calibrated: 0.05 for 200 predictions with ten bins, 0.02 for
    1,280. consistency_test allows for that.

    Returns:
        in [0, 1]; nan without rows.
    """
    weight = np.ones(len(predictions)) if weights is None else weights
    return _gap(*_bin_sums(predictions, _bins(predictions, bins, by), bins, weight))


def consistency_test(
    predictions: Predictions, *, bins: int = BINS, by: By = "width", resamples: int = 2000, seed: int = 0
) -> Consistency:
    """Test whether the calibration error is that of a calibrated model (Bröcker and Smith, 2007).

    Classes are drawn anew from the probabilities themselves, which are then calibrated by construction, and the error
    is computed of these. An interval of the error would not do: it lies above the 0 of a calibrated model, and its
    bootstrap intervals cover far less than they claim. The slices of a subject share one draw, as they share one truth.

    Args:
        predictions: one row at least.
        bins: of the calibration error.
        by: how bins are made; see reliability_curve.
        resamples: how often classes are drawn.
        seed: of the draw.

    Returns:
        the range of 95 % of the errors drawn, and p as (k + 1) / (n + 1), where k errors are as large as the one found.
        `reliable` is False for fewer than 20 subjects, of which hardly any error is too large, and where they are
        unknown.
    """
    random, units = np.random.default_rng(seed), unit_numbers(predictions)
    value, bin_of_row = calibration_error(predictions, bins=bins, by=by), _bins(predictions, bins, by)
    upper = predictions.probabilities.cumsum(axis=1, dtype=np.float64)
    rows, called = np.arange(len(predictions)), predictions.predicted
    high, low = upper[rows, called], np.where(called > 0, upper[rows, called - 1], 0.0)
    counts = np.bincount(bin_of_row, minlength=bins).astype(np.float64)
    confident = np.bincount(bin_of_row, _confidence(predictions), bins)
    errors = np.empty(resamples)
    for draw in range(resamples):
        level = random.random(units.max(initial=-1) + 1)[units] * upper[:, -1]
        right = np.bincount(bin_of_row, (low <= level) & (level < high), bins)
        errors[draw] = _gap(counts, confident, right)
    least, most = np.quantile(errors, [0.025, 0.975])
    p = float((1 + (errors >= value - 1e-12).sum()) / (resamples + 1))
    enough = predictions.knows_subjects and count_units(predictions) >= LEAST_UNITS
    return Consistency(low=least, high=most, p=p, reliable=enough)


def fit_temperature(validation: Predictions) -> float:
    """Fit the temperature under which the validation part has the least log loss (Guo et al., 2017).

    Over 1 it takes confidence away, under 1 it gives some. The loss has one minimum, as it is convex in 1/T.

    Args:
        validation: rows that did not train the model and do not evaluate it.

    Raises:
        DataError: there are no rows.
    """
    from scipy.optimize import minimize_scalar

    if not len(validation):
        raise DataError("the validation part is empty, and a temperature is fitted on it; leave calibration out")
    logs = _logarithms(validation)
    true = logs[np.arange(len(validation)), validation.labels]

    def loss(log_temperature: float) -> float:
        temperature = np.exp(log_temperature)
        return float(np.mean(np.logaddexp.reduce(logs / temperature, axis=1) - true / temperature))

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def with_temperature(predictions: Predictions, temperature: float) -> Predictions:
    """Divide log probabilities by a temperature, so that each row sums to 1 again.

    The order of the classes stays in every row, and with it the predicted class.

    Args:
        predictions: of slices or of subjects.
        temperature: over 0; 1 changes nothing.
    """
    return replace(predictions, probabilities=scale_by_temperature(predictions.probabilities, temperature))


def scale_by_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the logarithms of probabilities (N, K) by a temperature; float32 (N, K), each row sums to 1 again."""
    scaled = np.log(np.maximum(probabilities.astype(np.float64), LEAST_PROBABILITY)) / temperature
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return (scaled / scaled.sum(axis=1, keepdims=True)).astype(np.float32)


def calibration_summary(
    predictions: Predictions, validation: Predictions | None, *, resamples: int = 2000, seed: int = 0
) -> Calibration:
    """Measure calibration before and after a temperature, each metric with its interval.

    Args:
        predictions: what is evaluated.
        validation: what the temperature is fitted on, in the same classes and at the same level; None or empty for
            none, and no "after".
        resamples: of the bootstrap.
        seed: of the same.
    """
    temperature = fit_temperature(validation) if validation is not None and len(validation) else None
    scaled = None if temperature is None else with_temperature(predictions, temperature)
    return Calibration(
        bins=BINS,
        temperature=temperature,
        before=_calibration_metrics(predictions, resamples, seed),
        after=None if scaled is None else _calibration_metrics(scaled, resamples, seed),
        consistency=_consistency(predictions, resamples, seed),
        consistency_after=None if scaled is None else _consistency(scaled, resamples, seed),
        note=None if temperature is None else _temperature_note(validation),
    )


def _temperature_note(validation: Predictions | None) -> str | None:
    """Say so where a temperature is fitted on few units."""
    if validation is None or (count := count_units(validation)) >= LEAST_UNITS:
        return None
    unit, end = interval_unit(validation), "" if count == 1 else "s"
    return f"the temperature is fitted on {count} {unit}{end} of the validation part only, so it may be far off"


_ERRORS: Mapping[str, By] = {"calibration_error": "width", "calibration_error_by_mass": "mass"}
_LOSSES: Mapping[str, Metric] = {"brier_score": brier_score, "log_loss": log_loss}


def _calibration_metrics(predictions: Predictions, resamples: int, seed: int) -> dict[str, Estimate]:
    return {
        **{name: Estimate(calibration_error(predictions, by=by), np.nan, np.nan) for name, by in _ERRORS.items()},
        **bootstrap(predictions, _LOSSES, resamples=resamples, seed=seed),
    }


def _consistency(predictions: Predictions, resamples: int, seed: int) -> dict[str, Consistency]:
    return {name: consistency_test(predictions, by=by, resamples=resamples, seed=seed) for name, by in _ERRORS.items()}


def _confidence(predictions: Predictions) -> np.ndarray:
    return predictions.probabilities.max(axis=1).astype(np.float64)


def _bins(predictions: Predictions, bins: int, by: By) -> np.ndarray:
    """Return int64 (N,), the bin of each row from 0; a prediction on an edge lies under it."""
    confidence, edges = _confidence(predictions), np.linspace(0, 1, bins + 1)
    if by == "mass" and len(predictions):
        edges = np.quantile(confidence, edges)
    return np.searchsorted(edges[1:-1], confidence)


def _bin_sums(
    predictions: Predictions, bin_of_row: np.ndarray, bins: int, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum weights, weighted confidence and weighted correct predictions in each bin: float64 (bins,) each."""
    right = weight * (predictions.predicted == predictions.labels)
    sums = [np.bincount(bin_of_row, one, bins) for one in (weight, weight * _confidence(predictions), right)]
    return sums[0], sums[1], sums[2]


def _gap(counts: np.ndarray, confident: np.ndarray, right: np.ndarray) -> float:
    return float(np.abs(confident - right).sum() / counts.sum()) if counts.sum() else np.nan


def _logarithms(predictions: Predictions) -> np.ndarray:
    return np.log(np.maximum(predictions.probabilities.astype(np.float64), LEAST_PROBABILITY))
