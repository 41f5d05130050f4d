"""What a figure owes to covariates such as age: AUROC adjusted for them, within strata, in matched pairs.

Every interval resamples units, subjects where they are known, once for all repeats of a model's scores. It is marked as
not reliable for few subjects, as mriscope.evaluation.intervals does, and where every resample gave the same number.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mriscope.evaluation.interval_formulas import widen
from mriscope.evaluation.intervals import LEAST_OF_CLASS, LEAST_UNITS
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

Statistic = Callable[[np.ndarray], np.ndarray]
"""From how often each unit counts, float (R, U), to float (R,); nan where the number does not exist."""
_MOST_WEIGHTS = 2_000_000
"""Of units in resamples that are looked at at once: 16 MB an array."""
_SINGULAR = 1e-10
"""Of the greatest eigenvalue of normal equations: less is none, and a regression is not determined."""


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


def weighted_auroc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute the AUROC of scores, each unit counted as often as its weight says; ties count half.

    Args:
        scores: float (U,), or (R, U) where each resample has its own.
        positive: bool (U,).
        weights: float or int (R, U), or (U,) for R = 1.

    Returns:
        float64 (R,) in [0, 1]; nan where one group has no weight.

    Example:
        >>> weighted_auroc(np.array([1.0, 2.0, 3.0]), np.array([False, True, True]), np.array([[1, 1, 1], [1, 1, 0]]))
        array([1., 1.])
    """
    scores, weights = np.atleast_2d(scores), np.atleast_2d(weights)
    order = np.argsort(scores, axis=1, kind="stable")
    arrays = (scores, np.where(positive, weights, 0.0), np.where(positive, 0.0, weights))
    ordered, above, below = (np.take_along_axis(one, order, axis=1) for one in arrays)
    border, differs = np.ones((len(ordered), 1), np.bool_), ordered[:, 1:] != ordered[:, :-1]
    first, last = np.hstack([border, differs]), np.hstack([differs, border])
    upto = below.cumsum(axis=1)
    lower = np.maximum.accumulate(np.where(first, upto - below, 0.0), axis=1)  # weight of those with a lower score
    with_ties = np.minimum.accumulate(np.where(last, upto, np.inf)[:, ::-1], axis=1)[:, ::-1]
    pairs = above.sum(axis=1) * below.sum(axis=1)
    won = (above * (lower + with_ties)).sum(axis=1) / 2
    return np.divide(won, pairs, out=np.full(len(pairs), math.nan), where=pairs > 0)


def residuals(scores: np.ndarray, positive: np.ndarray, design: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Subtract from each score what a linear regression on covariates, fitted to the negatives alone, expects.

    Their AUROC is the covariate-adjusted AUROC of Janes and Pepe (2009) where the score's mean among negatives is
    linear in the covariates and the spread around it is the same everywhere.

    Args:
        scores: float (U,).
        positive: bool (U,).
        design: float (U, P), with a column of ones; the others about 0, of about unit spread.
        weights: float or int (R, U), of R resamples.

    Returns:
        float64 (R, U); nan where the negatives of a resample are too few or too alike to fit P numbers.
    """
    counted = weights * ~positive
    normal = np.einsum("ru,up,uq->rpq", counted, design, design, optimize=True)
    there = np.linalg.matrix_rank(normal, rtol=_SINGULAR, hermitian=True) == design.shape[1]
    normal[~there] = np.eye(design.shape[1])
    coefficients = np.linalg.solve(normal, ((counted * scores) @ design)[:, :, None])[:, :, 0]
    return np.where(there[:, None], scores - coefficients @ design.T, math.nan)


def analyse_confounding(
    units: Units, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0, widen_by: float = 1.0
) -> Confounding:
    """Compute everything that is said of a model beside covariates.

    Units of which a covariate is unknown are left out and counted. The best single covariate and its direction are
    chosen once, on the same units, which favours the covariate.

    Args:
        units: at least one covariate.
        resamples: of the bootstrap.
        level: of the intervals.
        seed: of the draw.
        widen_by: stretch the intervals of what the model's scores enter by this factor, as those of a cross-validation
            need; covariates alone are not trained.
    """
    known = np.all([~is_unknown(column) for column in units.covariates.values()], axis=0)
    unknown, units = int((~known).sum()), units.select(known)
    draw = _Draw(len(units.positive), resamples, level, seed, widen_by)
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
        auroc=draw.estimate(_mean_auroc(units), units),
        single=single,
        adjusted=[_adjust(units, some, draw) for some in sets],
        strata=[stratum for name in names for stratum in _strata(units, name, draw)],
        pairs=_pairs(units, names, draw),
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
        here = draw if draw is not None and known.all() else _Draw(int(known.sum()), resamples, LEVEL)
        lower = weighted_auroc(value, positive, np.ones(len(value)))[0] < 0.5
        signed = -value if lower else value
        auroc, drawn = here.values(lambda weights, s=signed, p=positive: weighted_auroc(s, p, weights))
        strict = percentile_interval(auroc, drawn, 1 - (1 - LEVEL) / tests)
        found.append(
            CovariateAuroc(
                covariate=name,
                contrast=units.contrast,
                lower=bool(lower),
                auroc=here.bounded(auroc, drawn, units.select(known), widen_by=1.0),
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


def widen_estimate(found: Estimate, factor: float, *, least: float, reliable: bool) -> Estimate:
    """Stretch the interval of an estimate, see mriscope.evaluation.interval_formulas.widen.

    Args:
        found: of a number from `least` to 1; without an interval it is returned as it is.
        factor: 1 stretches nothing.
        least: 0 of an AUROC, -1 of a difference of two.
        reliable: whether there are units enough; an interval of no width is never reliable.
    """
    if not found.has_interval:
        return found
    bounds = widen(found.value, (np.array(found.low), np.array(found.high)), factor, least=least)
    low, high = (float(bound) for bound in bounds)
    return replace(found, low=low, high=high, reliable=reliable and low < high)


class _Draw:
    """The same resamples of units for every statistic, so that differences are paired."""

    def __init__(self, units: int, resamples: int, level: float, seed: int = 0, widen_by: float = 1.0) -> None:
        self._units, self._level, self._seed, self._widen_by = units, level, seed, widen_by
        drawn = [one.astype(np.int32) for one in cluster_bootstrap(units, resamples, seed)]
        self._weights = np.array(drawn, np.int32).reshape(resamples, units)

    def values(self, statistic: Statistic) -> tuple[float, np.ndarray]:
        """Return a statistic of all units, and of every resample."""
        at_once = max(1, _MOST_WEIGHTS // max(self._units, 1))
        blocks = [self._weights[start : start + at_once] for start in range(0, len(self._weights), at_once)]
        value = float(statistic(np.ones((1, self._units)))[0])
        return value, np.concatenate([np.empty(0), *(statistic(block) for block in blocks)])

    def estimate(self, statistic: Statistic, units: Units, least: float = 0.0) -> Estimate:
        """Return a statistic with its interval; least is the least that it can be."""
        return self.bounded(*self.values(statistic), units, least=least)

    def bounded(
        self, value: float, drawn: np.ndarray, units: Units, *, least: float = 0.0, widen_by: float | None = None
    ) -> Estimate:
        """Return a value with its interval, or without where a group of the units that it is of has a single one."""
        smaller = int(min(units.positive.sum(), (~units.positive).sum()))
        found = percentile_interval(value, drawn if smaller > 1 else np.empty(0), self._level)
        enough = units.unit == "subject" and len(units.positive) >= LEAST_UNITS and smaller >= LEAST_OF_CLASS
        factor = self._widen_by if widen_by is None else widen_by
        return widen_estimate(found, factor, least=least, reliable=enough)

    def share(self, wins: np.ndarray, unit: str) -> Estimate:
        """Return the mean of what each pair gives, with its interval over pairs."""
        if len(wins) < 2:
            return Estimate(float(wins.mean()) if len(wins) else math.nan, math.nan, math.nan)
        pairs = _Draw(len(wins), len(self._weights), self._level, self._seed)
        value, drawn = pairs.values(lambda weights: weights @ wins / weights.sum(axis=1))
        enough = unit == "subject" and len(wins) >= LEAST_UNITS
        found = percentile_interval(value, drawn, self._level)
        return widen_estimate(found, self._widen_by, least=0, reliable=enough)


def _mean_auroc(units: Units) -> Statistic:
    return lambda weights: np.mean([weighted_auroc(one, units.positive, weights) for one in units.scores], axis=0)


def _adjust(units: Units, names: Sequence[str], draw: _Draw) -> AdjustedAuroc:
    columns = [one for name in names for one in _regressors(units, name)]
    design = np.column_stack([np.ones(len(units.positive)), *columns])

    def adjusted(weights: np.ndarray) -> np.ndarray:
        left = [residuals(one, units.positive, design, weights) for one in units.scores]
        found = [weighted_auroc(one, units.positive, weights) for one in left]
        return np.where(np.isnan(left).any(axis=(0, 2)), math.nan, np.mean(found, axis=0))

    outside = np.zeros(len(units.positive), np.bool_)
    for column in columns:
        own = column[~units.positive]
        outside |= (column < own.min(initial=np.inf)) | (column > own.max(initial=-np.inf))
    share = float(outside[units.positive].mean()) if units.positive.any() else math.nan
    return AdjustedAuroc(covariates=list(names), auroc=draw.estimate(adjusted, units), outside=share)


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

        def within(weights: np.ndarray, chosen: np.ndarray = chosen, inside: Units = inside) -> np.ndarray:
            return _mean_auroc(inside)(weights[:, chosen])

        found.append(
            Stratum(
                covariate=name,
                values=values,
                n_positive=int(inside.positive.sum()),
                n_negative=int((~inside.positive).sum()),
                auroc=draw.estimate(within, inside),
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


def _pairs(units: Units, names: Sequence[str], draw: _Draw) -> MatchedPairs | None:
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
    share = draw.share(wins, units.unit)
    return MatchedPairs(covariates=list(names), n_pairs=len(wins), n_positive=len(ill), share=share)


def _over(units: Units, best: CovariateAuroc, draw: _Draw) -> CovariateDifference:
    """Compute the model's AUROC less that of a covariate, paired."""
    values = next(
        one for name in units.covariates for key, one in as_numbers(units, name).items() if key == best.covariate
    )
    signed, model = -values if best.lower else values, _mean_auroc(units)

    def difference(weights: np.ndarray) -> np.ndarray:
        return model(weights) - weighted_auroc(signed, units.positive, weights)

    return CovariateDifference(covariate=best.covariate, difference=draw.estimate(difference, units, least=-1))
