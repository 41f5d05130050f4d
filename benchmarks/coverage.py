"""Coverage and width of 95 % intervals over simulated cohorts whose true values are known.

    python3 run.py bench coverage
    .venv/bin/python benchmarks/coverage.py [--part NAME] [--cohorts 2000] [--out FILE] [--minutes 9] [--first 39]
        [--table]

A cell is a kind of cohort: subjects, slices of each, shares of the classes, separation. Each finished cell is one line
of FILE, and the same command goes on where it stopped; --table puts what is there into docs/method.md.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from mriscope.environment import describe_environment
from mriscope.evaluation.calibration import consistency_test
from mriscope.evaluation.cohort import PRIOR
from mriscope.evaluation.influences import area_variance, auroc_influences, mean_influences, welch_degrees
from mriscope.evaluation.interval_formulas import (
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
from mriscope.evaluation.intervals import LEAST_OF_CLASS, LEAST_OF_SKEWED, LEAST_UNITS, LEAST_WORTH, LEAST_WRONG
from mriscope.evaluation.predictions import Predictions

LEVEL, RESAMPLES, CHUNK = 0.95, 400, 50
LEAST_COHORTS = 100
"""Of less, no coverage is told."""
ICC = 0.7
"""Share of the variance of a slice's score that its subject decides."""
SHARES = {
    "2 of 50 %": (0.5, 0.5),
    "2 of 20 %": (0.8, 0.2),
    "2 of 5 %": (0.95, 0.05),
    "2 of 1 %": (0.99, 0.01),
    "3 equal": (1 / 3, 1 / 3, 1 / 3),
    "3 unequal": (0.5, 0.35, 0.15),
    "4 of the public set": (0.5, 0.35, 0.14, 0.01),
}
SEPARATIONS = {"chance": 0.0, "fair": 1.2, "good": 2.3, "near perfect": 4.5, "perfect": 12.0}
"""Distance of the classes' means in standard deviations of a score.

Of two classes the AUROC is 0.5, 0.885, 0.989, 1.000 and 1, the accuracy of equal ones 0.5, 0.80, 0.95, 0.999 and 1.
"""
LOGIT_T = "DeLong on the logit scale, Student's t"
Bounds = tuple[np.ndarray, np.ndarray]


def draw_cohorts(random: np.random.Generator, cell: dict[str, Any], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels int (C, n) of subjects and probabilities (C, n, m, K) of their slices; each class has two subjects."""
    shares, subjects, slices = SHARES[cell["classes"]], cell["subjects"], cell["slices"]
    labels = random.choice(len(shares), size=(count, subjects), p=shares)
    labels[:, : 2 * len(shares)] = np.where(
        _lacking(labels, len(shares))[:, None], np.tile(np.arange(len(shares)), 2), labels[:, : 2 * len(shares)]
    )
    separation = SEPARATIONS[cell["separation"]]
    shape = (count, subjects, slices, len(shares))
    subject = random.normal(size=(count, subjects, 1, len(shares)))
    noise = np.sqrt(ICC) * subject + np.sqrt(1 - ICC) * random.normal(size=shape) if slices > 1 else subject
    scores = (noise + separation * np.eye(len(shares))[labels][:, :, None]) / np.sqrt(2)
    logits = max(separation, 0.5) * np.sqrt(2) * scores
    logits -= logits.max(axis=-1, keepdims=True)
    raised = np.exp(logits)
    return labels, raised / raised.sum(axis=-1, keepdims=True)


def _lacking(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.min([(labels == one).sum(axis=1) for one in range(classes)], axis=0) < 2


def confusion(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Cells of each subject's slices: float64 (C, n, K, K)."""
    classes = probabilities.shape[-1]
    predicted = np.eye(classes)[probabilities.argmax(axis=-1)].sum(axis=2)
    return np.eye(classes)[labels][..., :, None] * predicted[..., None, :]


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def balanced_accuracy(table: np.ndarray) -> np.ndarray:
    return np.nanmean(ratio(np.einsum("...kk->...k", table), table.sum(axis=-1)), axis=-1)


def macro_f1(table: np.ndarray) -> np.ndarray:
    whole = table.sum(axis=-1) + table.sum(axis=-2)
    return np.nanmean(ratio(2 * np.einsum("...kk->...k", table), whole), axis=-1)


def last_f1(table: np.ndarray) -> np.ndarray:
    return ratio(2 * table[..., -1, -1], table[..., -1, :].sum(axis=-1) + table[..., -1].sum(axis=-1))


def quadratic_kappa(table: np.ndarray) -> np.ndarray:
    steps = np.arange(table.shape[-1])
    cost = np.subtract.outer(steps, steps) ** 2
    chance = table.sum(axis=-1)[..., :, None] * table.sum(axis=-2)[..., None, :]
    return 1 - ratio((cost * table).sum(axis=(-2, -1)) * table.sum(axis=(-2, -1)), (cost * chance).sum(axis=(-2, -1)))


def severity_error(table: np.ndarray) -> np.ndarray:
    steps = np.arange(table.shape[-1])
    return ratio((np.abs(np.subtract.outer(steps, steps)) * table).sum(axis=(-2, -1)), table.sum(axis=(-2, -1)))


OF_TABLES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "f1 of the last class": last_f1,
    "quadratic_kappa": quadratic_kappa,
    "severity_error": severity_error,
}


def quantiles(value: np.ndarray, drawn: np.ndarray) -> Bounds:
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def bca(value: np.ndarray, drawn: np.ndarray, influences: np.ndarray) -> Bounds:
    """Bias-corrected and accelerated interval (Efron, 1987), its acceleration from influences (..., U)."""
    share = np.nanmean((drawn < value) + 0.5 * (drawn == value), axis=0)
    bias = norm.ppf(share.clip(1 / len(drawn), 1 - 1 / len(drawn)))
    power = np.maximum((influences**2).sum(axis=-1), 1e-30) ** 1.5
    acceleration = (influences**3).sum(axis=-1) / (6 * power)
    bounds = []
    for end in (norm.ppf((1 - LEVEL) / 2), norm.ppf((1 + LEVEL) / 2)):
        place = norm.cdf(bias + (bias + end) / (1 - acceleration * (bias + end)))
        ordered = np.sort(drawn, axis=0)
        row = np.nan_to_num(place * (len(drawn) - 1)).round().astype(int)
        bounds.append(np.take_along_axis(ordered, row[None], axis=0)[0])
    return bounds[0], bounds[1]


def table_bounds(random: np.random.Generator, cells: np.ndarray) -> Iterator[tuple[str, str, np.ndarray, Bounds]]:
    """Metric, candidate, values (C,) and bounds of every metric of confusion matrices; cells (C, n, K, K)."""
    count, subjects, classes = cells.shape[:3]
    flat, whole = cells.reshape(count, subjects, classes**2), cells.sum(axis=1)
    shape = (-1, count, classes, classes)
    drawn = random.multinomial(subjects, np.full(subjects, 1 / subjects), RESAMPLES)
    tables = np.matmul(drawn, flat).transpose(1, 0, 2).reshape(shape)
    gamma = np.matmul(random.standard_gamma(1, (RESAMPLES, subjects)), flat).transpose(1, 0, 2).reshape(shape)
    rows = cells[0, 0].sum()
    of_class = (cells.sum(axis=-1) > 0).sum(axis=1)
    least = np.where(of_class > 0, of_class, subjects).min(axis=1)
    without = whole[:, None] - cells
    added = rows * random.standard_gamma(PRIOR, (RESAMPLES, 1, classes, classes))
    for name, metric in OF_TABLES.items():
        value, resampled = metric(whole), metric(tables)
        yield name, "percentile", value, quantiles(value, resampled)
        yield name, "BCa", value, bca(value, resampled, -np.nan_to_num(metric(without) - value[:, None]))
        low, high = quantiles(value, metric(gamma + added))
        bounds = np.minimum(low, value), np.maximum(high, value)
        yield name, "Bayesian bootstrap", value, bounds
        ends = {"quadratic_kappa": (-1, 1), "severity_error": (0, np.inf)}.get(name, (0, 1))
        worth = {"": np.full(count, subjects), " of the least class": least}
        if name == "balanced_accuracy":
            worth[" by class"] = units_of_class_mean(of_class)
        for words, units in worth.items():
            wider = widen(value, bounds, few_units_factor(units), least=ends[0], most=ends[1])
            yield name, f"Bayesian bootstrap, Student's t{words}", value, wider
        if name not in ("quadratic_kappa", "severity_error"):
            yield name, "logit", value, logit_interval(value, np.nanstd(resampled, axis=0, ddof=1))


def proportion_bounds(random: np.random.Generator, cells: np.ndarray) -> Iterator[tuple[str, str, np.ndarray, Bounds]]:
    """The same of accuracy, and of recall and precision of the last class."""
    from scipy.stats import beta

    right = np.einsum("cnkk->cn", cells)
    sides = {
        "accuracy": (right, cells.sum(axis=(2, 3))),
        "recall of the last class": (cells[..., -1, -1], cells[..., -1, :].sum(axis=-1)),
        "precision of the last class": (cells[..., -1, -1], cells[..., -1].sum(axis=-1)),
    }
    for name, (part, whole) in sides.items():
        value = ratio(part.sum(axis=1), whole.sum(axis=1))
        units, trials = (whole > 0).sum(axis=1), whole.sum(axis=1)
        residuals = (part - value[:, None] * whole) / trials[:, None].clip(1)
        variance = (residuals**2).sum(axis=1) * units / np.maximum(units - 1, 1)
        size = effective_size(value, variance, units, trials)
        yield name, "Wilson", value, wilson_interval(value, size)
        k = value * size
        with np.errstate(invalid="ignore"):
            low = np.where(k > 0, beta.ppf(0.025, k, size - k + 1), 0)
            high = np.where(k < size, beta.ppf(0.975, k + 1, size - k), 1)
        yield name, "Clopper-Pearson", value, (low, high)
        subjects = part.shape[1]
        drawn = random.multinomial(subjects, np.full(subjects, 1 / subjects), RESAMPLES)
        yield name, "percentile", value, quantiles(value, ratio(drawn @ part.T, drawn @ whole.T))


def auroc_bounds(
    random: np.random.Generator, labels: np.ndarray, probabilities: np.ndarray, resampled: bool = True
) -> Iterator[tuple[str, str, np.ndarray, Bounds]]:
    """The same of the AUROC of the last class, and of the mean over classes where there are more than two."""
    count, subjects, slices, classes = probabilities.shape
    rows = labels.repeat(slices, axis=1)
    wanted = range(classes) if classes > 2 else [classes - 1]
    values, by_unit, sizes = [], [], []
    for one in wanted:
        scores = probabilities[..., one].reshape(count, -1)
        value, influences = auroc_influences(scores, rows == one)
        units = influences.reshape(count, subjects, slices).sum(axis=2)
        of_class = (labels == one).sum(axis=1)
        values.append(value)
        by_unit.append(units)
        sizes.append((of_class, subjects - of_class))
    value, units, (ones, rest) = values[-1], by_unit[-1], sizes[-1]
    positive = labels == classes - 1
    variance = area_variance(units, positive)
    error = np.sqrt(variance)
    name = "AUROC of the last class"
    yield name, "DeLong", value, (np.clip(value - 1.96 * error, 0, 1), np.clip(value + 1.96 * error, 0, 1))
    yield name, "DeLong on the logit scale", value, area_interval(value, error, ones, rest)
    degrees = welch_degrees(units, (positive, ~positive))
    yield name, LOGIT_T, value, area_interval(value, error, ones, rest, degrees=degrees)
    yield name, "Newcombe", value, score_interval_of_area(value, ones, rest)
    if resampled and subjects * slices <= 400:
        drawn = resample_auroc(random, probabilities[..., -1].reshape(count, -1), rows == classes - 1, slices)
        yield name, "percentile", value, quantiles(value, drawn)
        yield name, "BCa", value, bca(value, drawn, units)
    if classes > 2:
        value, units = np.mean(values, axis=0), np.mean(by_unit, axis=0)
        ends = [score_interval_of_area(np.ones(count), *size)[0] for size in sizes]
        degrees = welch_degrees(units, [labels == one for one in range(classes)])
        for candidate, free in (("DeLong on the logit scale", np.inf), (LOGIT_T, degrees)):
            low, high = logit_interval(value, np.sqrt(unit_variance(units)), degrees=free)
            perfect = value >= 1
            bounds = np.where(perfect, np.mean(ends, axis=0), low), np.where(perfect, 1, high)
            yield "AUROC", candidate, value, bounds


def resample_auroc(random: np.random.Generator, scores: np.ndarray, positive: np.ndarray, slices: int) -> np.ndarray:
    """AUROC in resamples of subjects: float64 (R, C)."""
    subjects = scores.shape[1] // slices
    drawn = random.multinomial(subjects, np.full(subjects, 1 / subjects), RESAMPLES).repeat(slices, axis=1)
    found = np.empty((RESAMPLES, len(scores)))
    for row, (one, is_class) in enumerate(zip(scores, positive, strict=True)):
        order = np.argsort(one)
        weight, of_class = drawn[:, order], is_class[order]
        rest = np.where(of_class, 0, weight)
        below = rest.cumsum(axis=1)
        ones = weight[:, of_class]
        found[:, row] = ratio((ones * below[:, of_class]).sum(axis=1), ones.sum(axis=1) * below[:, -1])
    return found


def losses_of(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Log loss and Brier score of each slice: float64 (C, n, m)."""
    classes = probabilities.shape[-1]
    truth = np.eye(classes)[labels][:, :, None]
    return {
        "log_loss": -np.log(np.maximum((truth * probabilities).sum(axis=-1), np.finfo(np.float32).eps)),
        "brier_score": ((truth - probabilities) ** 2).sum(axis=-1) / (2 if classes == 2 else 1),
    }


def loss_bounds(
    random: np.random.Generator, labels: np.ndarray, probabilities: np.ndarray
) -> Iterator[tuple[str, str, np.ndarray, Bounds]]:
    """The same of the log loss and the Brier score."""
    subjects = labels.shape[1]
    drawn = random.multinomial(subjects, np.full(subjects, 1 / subjects), RESAMPLES)
    for name, loss in losses_of(labels, probabilities).items():
        means = loss.mean(axis=2)
        value, units = mean_influences(means, np.ones_like(means, bool))
        yield name, "log scale", value, log_interval(value, np.sqrt(unit_variance(units)), subjects)
        resampled = drawn @ means.T / subjects
        yield name, "percentile", value, quantiles(value, resampled)
        yield name, "BCa", value, bca(value, resampled, units)


def measure_cell(
    cell: dict[str, Any], cohorts: int, seed: int, bounds: Callable[..., Iterator[Any]] | None = None
) -> list[dict[str, Any]]:
    """Coverage, misses on either side and mean width of every candidate for every metric, or of those of bounds."""
    random = np.random.default_rng(seed)
    truths = true_values(random, cell)
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for start in range(0, cohorts, CHUNK):
        labels, probabilities = draw_cohorts(random, cell, min(CHUNK, cohorts - start))
        for name, candidate, value, (low, high) in (bounds or every_bound)(random, labels, probabilities):
            truth, there = truths[name.split(",")[0]], np.isfinite(value)
            low, high = np.where(np.isnan(low), value, low), np.where(np.isnan(high), value, high)
            enough = reliable(name, labels, probabilities)
            rows = np.stack([truth < low - 1e-9, truth > high + 1e-9, high - low, enough])[:, there]
            found.setdefault((name, candidate), []).append(rows)
    rows = []
    for (name, candidate), pieces in found.items():
        every = np.concatenate(pieces, axis=1).astype(float)
        for enough in (1, 0):
            some = every[:3, every[3] == enough]
            if some.shape[1] >= LEAST_COHORTS:
                under, over, width = some.mean(axis=1)
                rows.append({"metric": name, "candidate": candidate, "reliable": bool(enough),
                             "cohorts": some.shape[1], "covered": 1 - under - over, "low misses": under,
                             "high misses": over, "width": width, "truth": truths[name.split(",")[0]]})  # fmt: skip
    return rows


def reliable(name: str, labels: np.ndarray, probabilities: np.ndarray, *, least_wrong: int = LEAST_WRONG) -> np.ndarray:
    """Tell for which cohorts an interval of this metric is printed as reliable: bool (C,); see docs/method.md."""
    classes, slices = probabilities.shape[-1], probabilities.shape[2]
    counts = np.stack([(labels == one).sum(axis=1) for one in range(classes)])
    metric = name.split(",")[0]
    losses = metric in ("log_loss", "brier_score")
    if losses or metric in ("accuracy", "severity_error"):
        least = counts.sum(axis=0)
    elif metric == "AUROC of the last class":
        least = np.minimum(counts[-1], counts[:-1].sum(axis=0))
    elif metric.endswith("of the last class"):
        least = counts[-1]
    else:
        least = counts.min(axis=0)
    skewed = losses or (slices > 1 and metric.startswith(("AUROC", "recall", "precision")))
    enough = (least >= LEAST_OF_CLASS) & (labels.shape[1] >= (LEAST_OF_SKEWED if skewed else LEAST_UNITS))
    if losses:
        means = losses_of(labels, probabilities)[metric].mean(axis=2)
        enough &= worth_of(means) >= LEAST_WORTH
    if metric in OF_TABLES:
        wrong = (probabilities.argmax(axis=-1) != labels[..., None]).any(axis=2).sum(axis=1)
        enough &= (wrong == 0) | (wrong >= least_wrong)
    return enough


def worth_of(losses: np.ndarray) -> np.ndarray:
    """Compute how many subjects a mean loss rests on: Kish's effective number, of losses (C, n) as weights."""
    return losses.sum(axis=1) ** 2 / np.maximum((losses**2).sum(axis=1), np.finfo(float).tiny)


def formula_bounds(
    random: np.random.Generator, labels: np.ndarray, probabilities: np.ndarray
) -> Iterator[tuple[str, str, np.ndarray, Bounds]]:
    """The same without resamples, of AUROC and losses; losses by how many subjects they are worth."""
    yield from auroc_bounds(random, labels, probabilities, resampled=False)
    for name, loss in losses_of(labels, probabilities).items():
        means = loss.mean(axis=2)
        value, units = mean_influences(means, np.ones_like(means, bool))
        bounds = log_interval(value, np.sqrt(unit_variance(units)), labels.shape[1])
        worth = worth_of(means)
        for words, least, most in WORTH:
            yield f"{name}, {words}", "log scale", np.where((worth >= least) & (worth < most), value, np.nan), bounds


WORTH = (("worth under 5", 0, 5), ("worth 5 to 10", 5, 10), ("worth 10 to 20", 10, 20), ("worth 20 or more", 20, 1e9))
"""How many subjects a mean loss rests on; see worth_of."""


def measure_formulas(cell: dict[str, Any], cohorts: int, seed: int) -> list[dict[str, Any]]:
    return measure_cell(cell, cohorts, seed, formula_bounds)


def every_bound(
    random: np.random.Generator, labels: np.ndarray, probabilities: np.ndarray
) -> Iterator[tuple[str, str, np.ndarray, Bounds]]:
    cells = confusion(labels, probabilities)
    yield from table_bounds(random, cells)
    yield from proportion_bounds(random, cells)
    yield from auroc_bounds(random, labels, probabilities)
    yield from loss_bounds(random, labels, probabilities)


def true_values(random: np.random.Generator, cell: dict[str, Any]) -> dict[str, float]:
    """Metrics of the population, from 400,000 subjects of one or two slices."""
    big = {**cell, "subjects": 400_000, "slices": min(cell["slices"], 2)}
    labels, probabilities = draw_cohorts(random, big, 1)
    table = confusion(labels, probabilities).sum(axis=(0, 1))
    values = {name: float(metric(table)) for name, metric in OF_TABLES.items()}
    last = table.shape[0] - 1
    areas = [float(auroc_influences(probabilities[0, :, 0, one], labels[0] == one)[0]) for one in range(table.shape[0])]
    true = np.take_along_axis(probabilities[0, :, 0], labels[0][:, None], axis=1)
    squares = ((np.eye(last + 1)[labels[0]] - probabilities[0, :, 0]) ** 2).sum(axis=-1)
    return {
        **values,
        "accuracy": float(table.trace() / table.sum()),
        "recall of the last class": float(table[last, last] / table[last].sum()),
        "precision of the last class": float(table[last, last] / table[:, last].sum()),
        "AUROC of the last class": areas[-1],
        "AUROC": float(np.mean(areas)),
        "log_loss": float(-np.log(np.maximum(true, np.finfo(np.float32).eps)).mean()),
        "brier_score": float(squares.mean() / (2 if last == 1 else 1)),
    }


TELLING = (
    (20, 1, "2 of 50 %", ("fair", "chance", "good", "near perfect")),
    (20, 1, "3 unequal", ("fair",)),
    (50, 1, "2 of 50 %", ("fair", "chance", "good", "near perfect", "perfect")),
    (50, 1, "2 of 20 %", ("fair", "good")),
    (50, 1, "3 unequal", ("fair", "good")),
    (200, 1, "2 of 5 %", ("fair", "good")),
    (200, 1, "4 of the public set", ("fair", "chance", "good")),
    (400, 1, "2 of 5 %", ("fair", "good")),
    (400, 1, "2 of 1 %", ("fair",)),
    (400, 1, "4 of the public set", ("fair",)),
    (100, 1, "2 of 20 %", ("fair", "good")),
    (100, 1, "3 unequal", ("fair", "near perfect")),
    (200, 1, "3 unequal", ("fair", "good")),
    (200, 1, "2 of 20 %", ("near perfect",)),
    (50, 8, "2 of 50 %", ("fair", "good")),
    (100, 8, "2 of 50 %", ("fair", "good")),
    (200, 8, "2 of 50 %", ("fair", "good")),
    (100, 8, "3 unequal", ("fair",)),
    (50, 60, "2 of 50 %", ("fair",)),
    (200, 60, "2 of 50 %", ("good",)),
)
"""Subjects, slices, classes and separations that are measured first; `--first 39` measures these alone."""


def cells_of_cohorts() -> Iterator[dict[str, Any]]:
    """Cells that tell most, then the other cells of subjects, one prediction each, and the others of slices."""
    every = [
        *((subjects, slices, classes, one) for subjects, slices, classes, many in TELLING for one in many),
        *product((50, 200, 20, 100, 400), (1,), SHARES, SEPARATIONS),
        *product((50, 200, 20, 100), (8, 60), ("2 of 50 %", "2 of 20 %", "3 unequal"), ("fair", "good")),
    ]
    for cell in dict.fromkeys(every):
        yield dict(zip(("subjects", "slices", "classes", "separation"), cell, strict=True))


FACTORS = (1.0, 1.25, 1.4, 1.5, 1.75)
"""By which a cross-validated interval is widened, as candidates; 1.5 is that of Nadeau and Bengio for five folds."""
PENALTY, FOLDS = 10.0, 5


def cells_of_crossvalidation() -> Iterator[dict[str, Any]]:
    """Cells of ridge regressions on normal features, cross-validated over subjects."""
    for subjects, features, distance, repeats in product((50, 100, 200), (5, 30), (0.0, 1.2, 2.3), (1, 5)):
        yield {"subjects": subjects, "features": features, "distance": distance, "repeats": repeats}


def measure_crossvalidation(cell: dict[str, Any], cohorts: int, seed: int) -> list[dict[str, Any]]:
    """Coverage of expected performance by widened intervals, and the bias of pooled folds and of their mean.

    Expected performance is the mean AUROC, known exactly for a linear rule and normal features, over all rules that
    training sets of this size give.
    """
    random, n, d = np.random.default_rng(seed), cell["subjects"], cell["features"]
    shift = np.zeros(d)
    shift[0] = cell["distance"]
    labels = np.arange(n) % 2
    pooled, of_folds, true, errors = [], [], [], []
    for _ in range(cohorts):
        x = random.normal(size=(n, d)) + labels[:, None] * shift
        found = [_cross_validate(random, x, labels, shift) for _ in range(cell["repeats"])]
        pooled.append(np.mean([one[0] for one in found]))
        of_folds.append(np.mean([one[1] for one in found]))
        true.append(np.mean([one[2] for one in found]))
        errors.append(np.sqrt(area_variance(np.mean([one[3] for one in found], axis=0), labels == 1)))
    value, error, truth = np.array(pooled), np.array(errors), float(np.mean(true))
    rows = []
    for factor in FACTORS:
        low, high = widen(value, logit_interval(value, error), factor)
        covered, width = float(np.mean((low <= truth) & (truth <= high))), float(np.mean(high - low))
        rows.append(
            {"metric": "AUROC", "candidate": f"logit x {factor}", "covered": covered, "width": width, "truth": truth}
        )
    spread = {
        "spread over printed": float(value.std() / error.mean()),
        "bias of pooled folds": float(value.mean() - truth),
        "bias of the mean of folds": float(np.mean(of_folds) - truth),
        "sd of pooled folds": float(value.std()),
        "sd of the mean of folds": float(np.std(of_folds)),
    }
    return [*rows, {"metric": "AUROC", "candidate": "spread", **spread}]


def _cross_validate(
    random: np.random.Generator, x: np.ndarray, labels: np.ndarray, shift: np.ndarray
) -> tuple[float, float, float, np.ndarray]:
    """AUROC of pooled folds, the mean over folds, the mean true AUROC of the rules, and influences (n,)."""
    fold = np.empty(len(x), int)
    for one in (0, 1):
        rows = np.flatnonzero(labels == one)
        fold[random.permutation(rows)] = np.arange(len(rows)) % FOLDS
    scores, of_folds, true = np.empty(len(x)), [], []
    for number in range(FOLDS):
        train, test = fold != number, fold == number
        middle = x[train].mean(axis=0)
        centred = x[train] - middle
        weight = np.linalg.solve(centred.T @ centred + PENALTY * np.eye(x.shape[1]), centred.T @ (labels[train] - 0.5))
        scores[test] = (x[test] - middle) @ weight
        of_folds.append(auroc_influences(scores[test], labels[test] == 1)[0])
        true.append(norm.cdf(weight @ shift / np.sqrt(2 * weight @ weight)))
    value, influences = auroc_influences(scores, labels == 1)
    return float(value), float(np.mean(of_folds)), float(np.mean(true)), influences


def cells_of_calibration() -> Iterator[dict[str, Any]]:
    """Cells of two equal classes whose probabilities are right, and of the same with twice the logits."""
    for logits, subjects, slices in product((1.0, 2.0), (50, 100, 200, 20), (1, 8)):
        yield {"subjects": subjects, "slices": slices, "logits times": logits}


def measure_calibration(cell: dict[str, Any], cohorts: int, seed: int) -> list[dict[str, Any]]:
    """How often the consistency test rejects at 5 %."""
    random = np.random.default_rng(seed)
    labels, probabilities = draw_cohorts(random, {**cell, "classes": "2 of 50 %", "separation": "fair"}, cohorts)
    raised = probabilities ** cell["logits times"]
    raised /= raised.sum(axis=-1, keepdims=True)
    subjects = np.arange(cell["subjects"]).repeat(cell["slices"])
    rejected = [
        consistency_test(
            Predictions.of(one.repeat(cell["slices"]), each.reshape(-1, 2), subjects=subjects, class_names=("a", "b")),
            resamples=199,
            seed=row,
        ).p
        <= 1 - LEVEL
        for row, (one, each) in enumerate(zip(labels, raised, strict=True))
    ]
    return [{"metric": "calibration error", "candidate": "consistency test", "rejected": float(np.mean(rejected))}]


def measured(part: str, cell: dict[str, Any], cohorts: int) -> dict[str, Any]:
    made, started = describe_environment("cpu"), time.process_time()
    seed = sum(map(ord, json.dumps(cell)))
    rows = MEASURES[part](cell, cohorts, seed)
    return {
        "part": part,
        "cell": cell,
        "cohorts": cohorts,
        "seconds": round(time.process_time() - started, 2),
        "commit": made.commit,
        "processor": made.processor,
        "rows": rows,
    }


PARTS = {
    "cohorts": cells_of_cohorts,
    "formulas": cells_of_cohorts,
    "crossval": cells_of_crossvalidation,
    "calibration": cells_of_calibration,
}
MEASURES = {
    "cohorts": measure_cell,
    "formulas": measure_formulas,
    "crossval": measure_crossvalidation,
    "calibration": measure_calibration,
}


def coverage_table(lines: list[dict[str, Any]]) -> Iterator[str]:
    """Rows of Markdown: least and greatest coverage over cells, of each candidate by number of subjects.

    What is printed as not reliable, and what near perfect and perfect models give, is told of chosen candidates alone.
    """
    groups: dict[tuple[str, ...], dict[int, list[dict[str, Any]]]] = {}
    for line in lines:
        cell = line["cell"]
        near = cell["separation"] in ("near perfect", "perfect")
        for row in line["rows"]:
            kind = "2" if near else f"{cell['slices'] > 1:d}"
            key = (f"{kind}{not row['reliable']:d}", row["metric"], row["candidate"])
            groups.setdefault(key, {}).setdefault(cell["subjects"], []).append(row)
    sizes = sorted({size for found in groups.values() for size in found})
    yield f"| metric | interval | {' | '.join(f'{size} subjects' for size in sizes)} |"
    yield f"|{' --- |' * (2 + len(sizes))}"
    kind = ""
    for key, found in sorted(groups.items(), key=lambda pair: pair[0][0]):
        chosen = key[2] == CHOSEN_OF[key[1]] if key[1] in CHOSEN_OF else key[2] in CHOSEN
        if not chosen and key[0] not in ("00", "10"):
            continue
        if key[0] != kind:
            kind = key[0]
            yield f"| **{KINDS[kind]}** |{' |' * (1 + len(sizes))}"
        cells = [_least_and_greatest(found.get(size, [])) for size in sizes]
        candidate = f"**{key[2]}**" if chosen else key[2]
        yield f"| {key[1]} | {candidate} | {' | '.join(cells)} |"


def _least_and_greatest(rows: list[dict[str, Any]]) -> str:
    found = [100 * row["covered"] for row in rows]
    if not found:
        return ""
    span = f"{min(found):.0f}" if len(found) == 1 else f"{min(found):.0f} to {max(found):.0f}"
    return f"{span} ({np.mean([row['width'] for row in rows]):.2f})"


def crossval_table(lines: list[dict[str, Any]]) -> Iterator[str]:
    """Rows of Markdown: coverage by factor, and bias, of each cross-validated cell."""
    factors = [f"logit x {factor}" for factor in FACTORS]
    yield (
        "| subjects, features, expected AUROC, repeats | cohorts | true spread over printed | "
        + " | ".join(f"× {factor:g}" for factor in FACTORS)
        + " | bias pooled, mean of folds | sd pooled, mean of folds |"
    )
    yield f"|{' --- |' * (5 + len(FACTORS))}"
    for line in lines:
        if line["part"] == "crossval":
            cell, rows = line["cell"], {row["candidate"]: row for row in line["rows"]}
            spread, truth = rows["spread"], rows[factors[0]]["truth"]
            words = f"{cell['subjects']}, {cell['features']}, {truth:.2f}, {cell['repeats']}"
            covered = " | ".join(f"{100 * rows[one]['covered']:.1f}" for one in factors)
            bias = f"{spread['bias of pooled folds']:.3f}, {spread['bias of the mean of folds']:.3f}"
            sd = f"{spread['sd of pooled folds']:.3f}, {spread['sd of the mean of folds']:.3f}"
            yield (
                f"| {words} | {line['cohorts']:,} | {spread['spread over printed']:.2f} | {covered} | {bias} | {sd} |"
            )


def calibration_table(lines: list[dict[str, Any]]) -> Iterator[str]:
    """Rows of Markdown: how often the consistency test rejects."""
    yield "| subjects | slices of each | logits | cohorts | p of 0.05 or less |"
    yield "| --- | --- | --- | --- | --- |"
    for line in lines:
        if line["part"] == "calibration":
            cell = line["cell"]
            logits = "right" if cell["logits times"] == 1 else f"{cell['logits times']:g} times"
            share = f"{100 * line['rows'][0]['rejected']:.1f} %"
            yield f"| {cell['subjects']} | {cell['slices']} | {logits} | {line['cohorts']:,} | {share} |"


KINDS = {
    "00": "one prediction of a subject",
    "01": "the same, printed as not reliable",
    "10": "several slices of a subject",
    "11": "the same, printed as not reliable",
    "20": "near perfect and perfect models, one prediction of a subject",
    "21": "the same, printed as not reliable",
}
CHOSEN = frozenset({"Wilson", LOGIT_T, "log scale", "Bayesian bootstrap, Student's t"})
CHOSEN_OF = {"balanced_accuracy": "Bayesian bootstrap, Student's t by class"}
TABLES = {
    "cohorts": coverage_table,
    "formulas": coverage_table,
    "crossval": crossval_table,
    "calibration": calibration_table,
}
METHOD = Path(__file__).parents[1] / "docs" / "method.md"


def write_tables(lines: list[dict[str, Any]]) -> None:
    """Put the tables between their marks in docs/method.md, with commit and machine."""
    text = METHOD.read_text(encoding="utf-8")
    for part, make in TABLES.items():
        found = [line for line in lines if line["part"] == part]
        if found:
            commits = ", ".join(sorted({line["commit"] for line in found}))
            cells, every = len(found), len(list(PARTS[part]()))
            seconds = sum(line["seconds"] for line in found)
            told = f"{cells} of {every} cells; commit {commits}; {found[0]['processor']}, {seconds:.0f} s of one core."
            start, end = f"<!-- {part} -->\n", f"<!-- end of {part} -->"
            before, rest = text.split(start)
            table = "\n".join(make(found))
            text = f"{before}{start}\n{table}\n\n{told}\n\n{end}{rest.split(end)[1]}"
    METHOD.write_text(text, encoding="utf-8")


def asked(cell: dict[str, Any], only: list[str]) -> bool:
    """Tell whether a cell has one of the values asked for, of each key that is named."""
    wanted: dict[str, set[str]] = {}
    for text in only:
        key, _, value = text.partition("=")
        wanted.setdefault(key, set()).add(value)
    return all(str(cell.get(key)) in values for key, values in wanted.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--cohorts", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("runs/coverage.jsonl"))
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--only", metavar="KEY=VALUE", action="append", default=[], help="Cells with this; repeatable.")
    parser.add_argument("--first", type=int, help="This many cells of each part, the most telling first; default all.")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    lines = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.is_file() else []
    done = {json.dumps([line["part"], line["cell"]]) for line in lines if line["cohorts"] >= given.cohorts}
    end = time.monotonic() + 60 * given.minutes
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for part in PARTS if given.part == "all" else [given.part]:
        for cell in () if given.table else list(PARTS[part]())[: given.first]:
            if not asked(cell, given.only) or json.dumps([part, cell]) in done:
                continue
            if time.monotonic() < end:
                lines.append(measured(part, cell, given.cohorts))
                with given.out.open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
    latest = {json.dumps([line["part"], line["cell"]]): line for line in lines}  # of more cohorts, where run again
    if given.table:
        write_tables(list(latest.values()))


if __name__ == "__main__":
    main()
