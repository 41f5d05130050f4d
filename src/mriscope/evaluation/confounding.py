"""From predictions and covariates of slices to what is said of a model beside covariates."""

from collections.abc import Mapping, Sequence

import numpy as np

from mriscope.data.covariates import value_by_unit
from mriscope.data.severity import known_severity
from mriscope.data.slices import SliceSet, majority_labels
from mriscope.evaluation.confounds import RESAMPLES, Units, analyse_confounding, covariate_aurocs, is_unknown
from mriscope.evaluation.metrics import LEAST_PROBABILITY
from mriscope.evaluation.pooling import pool_by_subject
from mriscope.evaluation.predictions import Predictions
from mriscope.results.confounds import Confounding, CovariateCell, CovariateTable

ALL = "all"
"""The part of a table that holds every slice."""


def list_contrasts(class_names: Sequence[str], severity: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return which classes are told apart: the least severe from all others, else each from the rest.

    Args:
        class_names: K.
        severity: int64 (K,), the rank of each class; None where it is unknown.

    Returns:
        by what the contrast is called, bool (K,), the classes of its second group.

    Example:
        >>> list_contrasts(("AD", "CN"), np.array([1, 0]))
        {'AD vs CN': array([ True, False])}
    """
    if severity is not None and len(class_names) > 1:
        least = int(np.argmin(severity))
        others = np.arange(len(class_names)) != least
        name = class_names[int(np.flatnonzero(others)[0])] if others.sum() == 1 else "all others"
        return {f"{name} vs {class_names[least]}": others}
    if len(class_names) == 2:
        return {f"{class_names[1]} vs {class_names[0]}": np.array([False, True])}
    return {f"{name} vs all others": np.arange(len(class_names)) == row for row, name in enumerate(class_names)}


def confounding_of(
    repeats: Sequence[Predictions],
    slices: Predictions,
    covariates: Mapping[str, np.ndarray],
    *,
    seed: int = 0,
    widen_by: float = 1.0,
) -> list[Confounding]:
    """Compute what is left of a model beside covariates, for each contrast of its classes.

    Args:
        repeats: of slices, or of subjects as pool_by_subject gives them; the slices of known subjects are pooled here.
            Repeats hold the same rows.
        slices: the slices that the rows are of.
        covariates: by name, of these slices.
        seed: of the draw.
        widen_by: see analyse_confounding.

    Returns:
        none where there are no covariates.
    """
    if not covariates:
        return []
    rows = [_pooled(one) for one in repeats]
    rows = [one.select(np.argsort(one.paths, kind="stable")) for one in rows]
    first = rows[0]
    columns = _align(covariates, slices, first)
    found = []
    for contrast, positive in list_contrasts(first.class_names, first.severity_ranks).items():
        share = [one.probabilities.astype(np.float64)[:, positive].sum(axis=1) for one in rows]
        inside = np.clip(share, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        scores = np.log(inside / (1 - inside))
        unit = "subject" if first.knows_subjects else "slice"
        units = Units(contrast, unit, positive[first.labels], scores, columns)
        known = np.all([~is_unknown(one) for one in columns.values()], axis=0)
        if len(np.unique(units.positive[known])) == 2:
            found.append(analyse_confounding(units, seed=seed, widen_by=widen_by))
    return found


def describe_covariates(slices: SliceSet, severity: Sequence[str] | None = None) -> CovariateTable | None:
    """Make the table of covariates by class and part, and the AUROC of each alone; None without covariates.

    Args:
        slices: with covariates.
        severity: the classes from the least to the most severe; None: as their names tell.
    """
    if not slices.covariates:
        return None
    units = np.unique(slices.subjects, return_inverse=True)[1] if slices.knows_subjects else np.arange(len(slices))
    columns = {name: value_by_unit(column, units) for name, column in slices.covariates.items()}
    labels = majority_labels(slices.labels, units, len(slices.class_names))
    parts = {ALL: units, **{name: units[slices.parts == name] for name in np.unique(slices.parts).tolist() if name}}
    unit = "subject" if slices.knows_subjects else "slice"
    contrasts = list_contrasts(slices.class_names, known_severity(slices.class_names, severity))
    tests = len(contrasts) * sum(max(_n_values(column), 1) for column in columns.values())
    nothing = np.zeros((0, len(labels)))
    return CovariateTable(
        unit=unit,
        cells=[
            _describe(name, column[chosen], class_name, part)
            for name, column in columns.items()
            for row, class_name in enumerate(slices.class_names)
            for part, there in parts.items()
            if (chosen := np.isin(np.arange(len(labels)), there) & (labels == row)).any()
        ],
        aurocs=[
            one
            for contrast, positive in contrasts.items()
            for one in covariate_aurocs(Units(contrast, unit, positive[labels], nothing, columns), tests=tests)
            if one.auroc.is_defined
        ],
        resamples=RESAMPLES,
    )


def _n_values(column: np.ndarray) -> int:
    """Count how many AUROCs a covariate has: a number one, a text one for each value but of two values."""
    count = len(set(column.tolist()) - {""}) if column.dtype.kind == "U" else 1
    return 1 if count == 2 else count


def _pooled(predictions: Predictions) -> Predictions:
    many = predictions.knows_subjects and predictions.n_subjects < len(predictions)
    return pool_by_subject(predictions, "mean_probability") if many else predictions


def _align(covariates: Mapping[str, np.ndarray], slices: Predictions, rows: Predictions) -> dict[str, np.ndarray]:
    """Return the covariates of each row: of its subject where subjects are known, else of its slice."""
    key = "subject_names" if rows.knows_subjects else "paths"
    names, units = np.unique(getattr(slices, key), return_inverse=True)
    places = np.searchsorted(names, getattr(rows, key))
    return {name: value_by_unit(column, units)[places] for name, column in covariates.items()}


def _describe(name: str, values: np.ndarray, class_name: str, part: str) -> CovariateCell:
    known = values[~is_unknown(values)]
    numbers = known if known.dtype.kind != "U" and len(known) else np.array([np.nan])
    counts = np.unique(known, return_counts=True) if known.dtype.kind == "U" else ((), ())
    return CovariateCell(
        covariate=name,
        class_name=class_name,
        part=part,
        n=len(values),
        n_known=len(known),
        mean=float(numbers.mean()),
        sd=float(numbers.std(ddof=1)) if len(numbers) > 1 else float("nan"),
        least=float(numbers.min()),
        greatest=float(numbers.max()),
        counts={str(value): int(count) for value, count in zip(*counts, strict=True)},
    )
