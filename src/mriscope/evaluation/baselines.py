"""Baselines that any model should surpass: two scalars of the brain, the majority class, and 1-nearest-neighbour."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from mriscope.data.slices import SliceSet
from mriscope.evaluation.confounds import weighted_auroc, widen_estimate
from mriscope.evaluation.intervals import bootstrap_repeats, units_of
from mriscope.evaluation.metrics import HEADLINE, Metric, applicable, auroc
from mriscope.evaluation.predictions import Predictions
from mriscope.evaluation.resampling import cluster_bootstrap, percentile_interval
from mriscope.results import Estimate
from mriscope.results.confounds import BaselineScores

LOG = logging.getLogger("mriscope")

SCALARS = ("brain_fraction", "csf_fraction")
RESAMPLES, LEVEL = 500, 0.95
MOST_WEIGHTS = 2_000_000
"""Of rows in resamples that are held at once: 16 MB an array."""
MOST_PAIRS = 3e8
"""Of a training and another slice that 1-nearest-neighbour compares: minutes on one core."""


@lru_cache(maxsize=2)
def _measurer(of_subjects: bool) -> Callable[[np.ndarray], np.ndarray]:
    """Return what measures the scalars of a unit's slices, and remembers them; made late, as it imports torch."""
    from mriscope.models.subject_rule import memoize_by_content
    from mriscope.models.tissue import VERSION, brain_fractions

    name = f"brain-fractions-{VERSION}" if of_subjects else None  # a file for each slice would cost more than it saves
    return memoize_by_content(lambda images: np.array(brain_fractions(images)), kept_as=name)


def predict_baselines(
    train: SliceSet, asked: SliceSet, part: str | np.ndarray, severity: tuple[str, ...] | None = None
) -> dict[str, Predictions]:
    """Fit every baseline to training slices, and predict others.

    A scalar is measured of all slices of a subject, or of each slice where subjects are unknown, and a multinomial
    logistic regression makes it probabilities. The majority class has the shares of the training slices.

    Args:
        train: at least one slice.
        asked: the slices to predict, at least one, of the same size and classes.
        part: of `asked`, as mriscope.evaluation.inference.predict takes it.
        severity: likewise.

    Returns:
        by name; without 1-nearest-neighbour where there are too many pairs to compare, which is logged.

    Example:
        >>> from mriscope import make_phantom
        >>> slices = make_phantom(8, slices=2, size=32).slices
        >>> sorted(predict_baselines(slices[:8], slices[8:], "test"))
        ['brain_fraction', 'csf_fraction', 'majority_class', 'nearest_neighbour']
    """
    classes = len(train.class_names)
    known, given = measure_scalars(train), measure_scalars(asked)
    shares = np.bincount(train.labels, minlength=classes) / len(train)
    found = {
        name: _fit_scalar(known[:, column], given[:, column], train.labels, shares)
        for column, name in enumerate(SCALARS)
    }
    found["majority_class"] = np.broadcast_to(shares, (len(asked), classes))
    if len(train) * len(asked) > MOST_PAIRS:
        LOG.warning("1-nearest-neighbour is left out: it would compare %s × %s slices", len(train), len(asked))
    else:
        from mriscope.models.nearest_neighbour import NearestNeighbour  # which imports torch

        nearest = NearestNeighbour(classes, train.images.shape[1])
        nearest.fit(train, 0)
        found["nearest_neighbour"] = nearest.predict_probabilities(asked)
    return {
        name: Predictions(
            paths=asked.paths,
            labels=asked.labels,
            subjects=asked.subjects,
            parts=np.broadcast_to(np.asarray(part), len(asked)),
            probabilities=probabilities.astype(np.float32),
            class_names=asked.class_names,
            severity=severity,
            subject_ids=asked.subject_ids,
        )
        for name, probabilities in found.items()
    }


def measure_scalars(slices: SliceSet) -> np.ndarray:
    """Return the scalars of the subject of each slice, or of the slice where subjects are unknown.

    Returns:
        float64 (N, 2), in the order of SCALARS; nan where there is no brain.
    """
    from mriscope.models.subject_rule import describe_each

    units = slices.subjects if slices.knows_subjects else np.arange(len(slices))
    unit = np.unique(units, return_inverse=True)[1]
    rows = np.split(np.lexsort((slices.positions, unit)), np.cumsum(np.bincount(unit))[:-1])
    return describe_each(_measurer(slices.knows_subjects), slices.images, rows)[unit]


def score_baselines(
    repeats: Sequence[Predictions],
    baselines: Mapping[str, Sequence[Predictions]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    widen_by: float = 1.0,
) -> dict[str, BaselineScores]:
    """Compute the metrics of baselines on the rows of a model, and by how much the model's AUROC is above theirs.

    Only AUROCs have intervals. Their difference is of the same resamples of subjects (slices, where a subject is
    unknown): it is that of mriscope.evaluation.differences.paired_difference.

    Args:
        repeats: of the model, the rows that its metrics are of; one or more.
        baselines: of each, the same rows in as many repeats.
        resamples: how many to draw; 0 leaves intervals and differences out.
        seed: of the draw.
        widen_by: stretch intervals by this factor, as those of a cross-validation need.
    """
    n_units = int(units_of(repeats).max(initial=-1)) + 1
    drawn = np.array(list(cluster_bootstrap(n_units, resamples if n_units > 1 else 0, seed))).reshape(-1, n_units)

    def in_resamples(rows: Sequence[Predictions]) -> np.ndarray:
        return np.mean([resample_auroc(one, units_of([one]), drawn) for one in rows], axis=0)

    ours, ours_drawn = _mean(repeats, auroc), in_resamples(repeats)
    found = {}
    for name, rows in baselines.items():
        values = {metric: _mean(rows, compute) for metric, compute in applicable(HEADLINE, rows[0]).items()}
        metrics = {metric: Estimate(value, np.nan, np.nan) for metric, value in values.items()}
        over = None
        if resamples:
            metrics |= bootstrap_repeats(rows, {"auroc": auroc}, resamples=resamples, seed=seed, widen_by=widen_by)
            theirs = metrics["auroc"]
            over = percentile_interval(ours - theirs.value, ours_drawn - in_resamples(rows), LEVEL)
            over = widen_estimate(over, widen_by, least=-1, reliable=theirs.reliable is True)
        found[name] = BaselineScores(metrics=metrics, auroc_over=over)
    return found


def resample_auroc(predictions: Predictions, units: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Compute the AUROC of mriscope.evaluation.metrics in all resamples at once.

    Args:
        predictions: N rows.
        units: int64 (N,), the unit of each row.
        drawn: int64 (R, U), how often each resample drew each unit.

    Returns:
        float64 (R,); nan where a resample lacks a class that has rows.

    Example:
        >>> rows = Predictions.of([0, 0, 1], [[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]], class_names=("sick", "well"))
        >>> resample_auroc(rows, np.arange(3), np.array([[1, 1, 1], [2, 0, 1], [3, 0, 0]])).tolist()
        [0.5, 1.0, nan]
    """
    counts = np.bincount(predictions.labels, minlength=len(predictions.class_names))
    present = np.flatnonzero((counts > 0) & (counts < len(predictions)))
    if not len(present):
        return np.full(len(drawn), np.nan)
    at_once = max(1, MOST_WEIGHTS // len(predictions))
    blocks = (drawn[start : start + at_once, units] for start in range(0, len(drawn), at_once))
    scores, is_class = predictions.ranks, predictions.labels == np.arange(len(counts))[:, None]
    found = [np.mean([weighted_auroc(scores[k], is_class[k], block) for k in present], axis=0) for block in blocks]
    return np.concatenate([np.empty(0), *found])


def _mean(rows: Sequence[Predictions], metric: Metric) -> float:
    return float(np.mean([metric(one) for one in rows]))


def _fit_scalar(known: np.ndarray, asked: np.ndarray, labels: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the probabilities (M, K) of a logistic regression on one number, fitted to training slices."""
    from sklearn.linear_model import LogisticRegression

    found = np.broadcast_to(shares, (len(asked), len(shares))).copy()
    usable, given = ~np.isnan(known), ~np.isnan(asked)
    spread = known[usable].std() if usable.any() else 0.0
    if spread == 0 or len(np.unique(labels[usable])) < 2 or not given.any():
        return found
    middle = known[usable].mean()
    model = LogisticRegression(C=100.0, max_iter=1000).fit((known[usable, None] - middle) / spread, labels[usable])
    found[given] = 0
    found[np.ix_(given, model.classes_)] = model.predict_proba((asked[given, None] - middle) / spread)
    return found
