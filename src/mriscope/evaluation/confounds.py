"""What a figure owes to covariates such as age: AUROC adjusted for them, within strata, in matched pairs.

Every interval resamples units, subjects where they are known, once for all repeats of a model's scores.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mriscope.evaluation.resampling import cluster_bootstrap, percentile_interval
from mriscope.results import Estimate
from mriscope.results.confounds import (
    AdjustedAuroc,
    Confounding,
    CovariateAuroc,
    CovariateDifference,
    MatchedPairs,
    Stratum,
)

RESAMPLES, LEVEL = 2000, 0.95
CALIPER = 0.2
"""Of a standard deviation: how far the numbers of a matched pair may differ (Austin, 2011)."""
STRATA = 3
"""Parts of equally many subjects into which a number is cut; fewer values are a stratum each."""

Statistic = Callable[[np.ndarray], float]
"""From how often each unit counts, float (U,), to a number; nan where it does not exist."""


@dataclass(frozen=True)
class Units:
    """Subjects of two groups with their scores and covariates; slices where subjects are unknown.

    Attributes:
        contrast: which groups, in words.
        unit: "subject" or "slice".
        positive: bool (U,), who is of the second group.
        scores: float64 (R, U), of each repeat; higher speaks for the second group.
        covariates: by name float64 (U,) or str (U,), unknown as in a SliceSet.
    """

    contrast: str
    unit: str
    positive: np.ndarray
    scores: np.ndarray
    covariates: Mapping[str, np.ndarray]

    def select(self, chosen: np.ndarray) -> "Units":
        """Return some units, by a mask or indices."""
        columns = {name: column[chosen] for name, column in self.covariates.items()}
        return Units(self.contrast, self.unit, self.positive[chosen], self.scores[:, chosen], columns)


def weighted_auroc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> float:
    """Compute the AUROC of scores, each unit counted as often as its weight says; ties count half.

    Args:
        scores: float (U,).
        positive: bool (U,).
        weights: float or int (U,).

    Returns:
        in [0, 1]; nan where one group has no weight.

    Example:
        >>> weighted_auroc(np.array([1.0, 2.0, 3.0]), np.array([False, True, True]), np.ones(3))
        1.0
    """
    ranks = np.unique(scores, return_inverse=True)[1]
    above = np.bincount(ranks, weights * positive)
    below = np.bincount(ranks, weights * ~positive)
    total = above.sum() * below.sum()
    return float(above @ (np.cumsum(below) - below / 2) / total) if total > 0 else math.nan


def residuals(scores: np.ndarray, positive: np.ndarray, design: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Subtract from each score what a linear regression on covariates, fitted to the negatives alone, expects.

    Their AUROC is the covariate-adjusted AUROC of Janes and Pepe (2009) where the score's mean among negatives is
    linear in the covariates and the spread around it is the same everywhere.

    Args:
        scores: float (U,).
        positive: bool (U,).
        design: float (U, P), with a column of ones.
        weights: float or int (U,).

    Returns:
        float64 (U,); nan where the negatives are too few or too alike to fit P numbers.
    """
    root = np.sqrt(weights * ~positive)
    coefficients, _, rank, _ = np.linalg.lstsq(design * root[:, None], scores * root, rcond=1e-10)
    return scores - design @ coefficients if rank == design.shape[1] else np.full(len(scores), np.nan)


def analyse_confounding(
    units: Units, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> Confounding:
    """Compute everything that is said of a model beside covariates.

    Units of which a covariate is unknown are left out and counted. The best single covariate and its direction are
    chosen once, on the same units, which favours the covariate.

    Args:
        units: at least one covariate.
        resamples: of the bootstrap.
        level: of the intervals.
        seed: of the draw.
    """
    known = np.all([~is_unknown(column) for column in units.covariates.values()], axis=0)
    unknown, units = int((~known).sum()), units.select(known)
    draw = _Draw(len(units.positive), resamples, level, seed)
    single = covariate_aurocs(units, draw=draw)
    best = max(single, key=lambda one: np.nan_to_num(one.auroc.value), default=None)
    names = list(units.covariates)
    sets = [*([name] for name in names), *([names] if len(names) > 1 else [])]
    return Confounding(
        contrast=units.contrast,
        unit="subject" if units.unit == "subject" else "slice",
        n_positive=int(units.positive.sum()),
        n_negative=int((~units.positive).sum()),
        n_unknown=unknown,
        auroc=draw.estimate(_mean_auroc(units)),
        single=single,
        adjusted=[_adjust(units, some, draw) for some in sets],
        strata=[stratum for name in names for stratum in _strata(units, name, draw)],
        pairs=_pairs(units, names, level, resamples, seed),
        over_best=None if best is None else _over(units, best, draw),
        resamples=resamples,
    )


def covariate_aurocs(
    units: Units, *, tests: int | None = None, draw: "_Draw | None" = None, resamples: int = RESAMPLES
) -> list[CovariateAuroc]:
    """Compute how well each covariate alone tells the groups; of a text each value, of two the first.

    Args:
        units: their scores are not looked at.
        tests: how many are made in all, for `separates`; None: as many as here.
        draw: of the resamples; None draws anew.
        resamples: how many, then.
    """
    columns = {name: one for column in units.covariates for name, one in as_numbers(units, column).items()}
    tests = tests or max(len(columns), 1)
    found = []
    for name, values in columns.items():
        known = ~np.isnan(values)
        positive, value = units.positive[known], values[known]
        here = draw if draw is not None and known.all() else _Draw(int(known.sum()), resamples, LEVEL, 0)
        lower = weighted_auroc(value, positive, np.ones(len(value))) < 0.5
        signed = -value if lower else value
        auroc, drawn = here.values(lambda weights, s=signed, p=positive: weighted_auroc(s, p, weights))
        strict = percentile_interval(auroc, drawn, 1 - (1 - LEVEL) / tests)
        found.append(
            CovariateAuroc(
                covariate=name,
                contrast=units.contrast,
                lower=bool(lower),
                auroc=here.bounded(auroc, drawn, positive),
                n_positive=int(positive.sum()),
                n_negative=int((~positive).sum()),
                separates=bool(strict.low > 0.5 and min(positive.sum(), (~positive).sum()) > 1),
            )
        )
    return found


def as_numbers(units: Units, name: str) -> dict[str, np.ndarray]:
    """Return a covariate as numbers: itself, or of texts an indicator of each value, of two values of the first."""
    column = units.covariates[name]
    if column.dtype.kind != "U":
        return {name: column}
    values = sorted(set(column.tolist()) - {""})
    kept = values[:1] if len(values) < 3 else values
    return {f"{name}={value}": np.where(column == "", np.nan, (column == value).astype(float)) for value in kept}


def is_unknown(column: np.ndarray) -> np.ndarray:
    """Return where a covariate is unknown, bool (U,)."""
    return column == "" if column.dtype.kind == "U" else np.isnan(column)


class _Draw:
    """The same resamples of units for every statistic, so that differences are paired."""

    def __init__(self, units: int, resamples: int, level: float, seed: int) -> None:
        self._units, self._level = units, level
        self._weights = np.array(list(cluster_bootstrap(units, resamples, seed))).reshape(resamples, units)

    def values(self, statistic: Statistic) -> tuple[float, np.ndarray]:
        """Return a statistic of all units, and of every resample."""
        return statistic(np.ones(self._units)), np.array([statistic(weights) for weights in self._weights])

    def estimate(self, statistic: Statistic) -> Estimate:
        """Return a statistic with its percentile interval."""
        return percentile_interval(*self.values(statistic), self._level)

    def bounded(self, value: float, drawn: np.ndarray, positive: np.ndarray) -> Estimate:
        """Return a value with its interval, or without where a group has a single unit."""
        enough = min(positive.sum(), (~positive).sum()) > 1
        return percentile_interval(value, drawn if enough else np.empty(0), self._level)


def _mean_auroc(units: Units) -> Statistic:
    return lambda weights: float(np.mean([weighted_auroc(one, units.positive, weights) for one in units.scores]))


def _adjust(units: Units, names: Sequence[str], draw: _Draw) -> AdjustedAuroc:
    columns = [one for name in names for one in _regressors(units, name)]
    design = np.column_stack([np.ones(len(units.positive)), *columns])

    def adjusted(weights: np.ndarray) -> float:
        rows = [residuals(one, units.positive, design, weights) for one in units.scores]
        if np.isnan(rows).any():
            return math.nan
        return float(np.mean([weighted_auroc(one, units.positive, weights) for one in rows]))

    outside = np.zeros(len(units.positive), np.bool_)
    for column in columns:
        own = column[~units.positive]
        outside |= (column < own.min(initial=np.inf)) | (column > own.max(initial=-np.inf))
    share = float(outside[units.positive].mean()) if units.positive.any() else math.nan
    return AdjustedAuroc(covariates=list(names), auroc=draw.estimate(adjusted), outside=share)


def _regressors(units: Units, name: str) -> list[np.ndarray]:
    """Return the columns of a regression: a number centred and scaled, a text's values but one as indicators."""
    column = units.covariates[name]
    if column.dtype.kind != "U":
        spread = column.std() if len(column) else 0.0
        return [(column - column.mean()) / spread] if spread > 0 else []
    return [(column == value).astype(float) for value in sorted(set(column.tolist()))[1:]]


def _strata(units: Units, name: str, draw: _Draw) -> list[Stratum]:
    """Compute the AUROC within parts of a covariate."""
    found = []
    for values, chosen in _cut(units.covariates[name]):
        inside = units.select(chosen)
        enough = min(inside.positive.sum(), (~inside.positive).sum()) > 1

        def within(weights: np.ndarray, chosen: np.ndarray = chosen, inside: Units = inside) -> float:
            return _mean_auroc(inside)(weights[chosen])

        value, drawn = draw.values(within)
        found.append(
            Stratum(
                covariate=name,
                values=values,
                n_positive=int(inside.positive.sum()),
                n_negative=int((~inside.positive).sum()),
                auroc=percentile_interval(value, drawn if enough else np.empty(0), LEVEL),
            )
        )
    return found


def _cut(column: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Cut a covariate: each value of few or of texts; else parts of equally many."""
    values = np.unique(column)
    if column.dtype.kind == "U" or len(values) <= STRATA:
        return [(f"{value:g}" if column.dtype.kind != "U" else str(value), column == value) for value in values]
    borders = np.unique(np.quantile(column, np.linspace(0, 1, STRATA + 1)[1:-1]))
    part = np.searchsorted(borders, column, side="right")
    parts = [np.flatnonzero(part == number) for number in range(len(borders) + 1)]
    return [
        (f"{column[rows].min():g} to {column[rows].max():g}", np.isin(np.arange(len(column)), rows))
        for rows in parts
        if len(rows)
    ]


def _pairs(units: Units, names: Sequence[str], level: float, resamples: int, seed: int) -> MatchedPairs | None:
    """Match each positive with a negative of the same texts and nearly the same numbers, and compare their scores.

    The pairs are those of least total distance (optimal matching: Rosenbaum, 1989) within the caliper; an interval
    resamples pairs.
    """
    from scipy.optimize import linear_sum_assignment

    ill, well = np.flatnonzero(units.positive), np.flatnonzero(~units.positive)
    if not len(ill) or not len(well) or len(ill) * len(well) > 10**7:
        return None
    distance, allowed = np.zeros((len(ill), len(well))), np.ones((len(ill), len(well)), np.bool_)
    for name in names:
        column = units.covariates[name]
        if column.dtype.kind == "U":
            allowed &= column[ill, None] == column[well]
        elif spread := column.std():
            apart = np.abs(column[ill, None] - column[well]) / spread
            distance, allowed = distance + apart**2, allowed & (apart <= CALIPER)
    far = 1e3 * (1 + distance.max())
    rows, columns = linear_sum_assignment(np.where(allowed, distance, far))
    matched = allowed[rows, columns]
    one, other = units.scores[:, ill[rows[matched]]], units.scores[:, well[columns[matched]]]
    wins = ((one > other) + 0.5 * (one == other)).mean(axis=0)
    count = len(wins)
    if count < 2:
        share = Estimate(float(wins.mean()) if count else math.nan, math.nan, math.nan)
    else:
        share = _Draw(count, resamples, level, seed).estimate(lambda weights: float(weights @ wins / weights.sum()))
    return MatchedPairs(covariates=list(names), n_pairs=count, n_positive=len(ill), share=share)


def _over(units: Units, best: CovariateAuroc, draw: _Draw) -> CovariateDifference:
    """Compute the model's AUROC less that of a covariate, paired."""
    values = next(
        one for name in units.covariates for key, one in as_numbers(units, name).items() if key == best.covariate
    )
    signed, model = -values if best.lower else values, _mean_auroc(units)

    def difference(weights: np.ndarray) -> float:
        return model(weights) - weighted_auroc(signed, units.positive, weights)

    return CovariateDifference(covariate=best.covariate, difference=draw.estimate(difference))
