"""Formulas of intervals: numbers in, bounds out, for arrays of any shape; `benchmarks/coverage.py` measures these.

Every pair of bounds holds the value itself, and none has a width of 0 where the value is at an end of its range.
"""

from typing import Any

import numpy as np

Bounds = tuple[np.ndarray, np.ndarray]

_STEPS = 50  # of bisection: 2^-50 of [0, 1]
_FEW = 3 + 1e-9  # successes or failures; a share times a number of trials is rounded


def wilson_interval(value: Any, size: Any, level: float = 0.95) -> Bounds:
    """Compute Wilson's score interval of a proportion (Wilson, 1927), modified near 0 and 1.

    With one to three failures Wilson's upper bound lies too low: of 20 to 400 trials that fail 0.17 times on average
    the interval covers 84 %. There the bound is that of the Poisson distribution, 1 - chi2(1 - level; 2 x) / (2 n)
    for x failures (Brown, Cai and DasGupta, 2001, section 4.1.1), with which 92 % or more are covered; likewise the
    lower bound with few successes.

    Args:
        value: in [0, 1].
        size: how many independent trials it is of, or its effective number (see effective_size).
        level: of the interval.

    Example:
        >>> [round(float(bound), 3) for bound in wilson_interval(1.0, 10)]
        [0.722, 1.0]
        >>> [round(float(bound), 5) for bound in wilson_interval(0.99, 100)]
        [0.94554, 0.99949]
    """
    z2 = _z(level) ** 2
    value, size = np.asarray(value, np.float64), np.asarray(size, np.float64)
    middle = (value + z2 / (2 * size)) / (1 + z2 / size)
    half = np.sqrt(z2) / (1 + z2 / size) * np.sqrt(value * (1 - value) / size + z2 / (4 * size**2))
    low = np.minimum(np.minimum(middle - half, value), _poisson_bound(value, size, level))
    high = np.maximum(np.maximum(middle + half, value), 1 - _poisson_bound(1 - value, size, level))
    return np.clip(low, 0, 1), np.clip(high, 0, 1)


def _poisson_bound(value: np.ndarray, size: np.ndarray, level: float) -> np.ndarray:
    """Return the lower bound of a share that few trials have; inf where they are none, or not few."""
    from scipy.special import gammaincinv  # scipy.stats, which calls it, takes four times as long to import

    counted = value * size
    few = (counted > 0) & (counted <= np.minimum(_FEW, size / 2))
    return np.where(few, gammaincinv(np.where(few, counted, 1), 1 - level) / size, np.inf)


def effective_size(
    value: Any, variance: Any, units: Any, rows: Any, level: float = 0.95, *, most: Any = None
) -> np.ndarray:
    """Compute how many independent trials a proportion of clusters is worth (Kish, 1965; Korn and Graubard, 1998).

    It is v (1 - v) over the variance between clusters, less a correction by Student's t for few clusters; for a value
    of 0 or 1, whose variance cannot be seen, it is the number of clusters. Clusters of one trial each are worth their
    number.

    Args:
        value: the proportion.
        variance: of the proportion, between clusters.
        units: how many clusters there are.
        rows: how many trials in one repeat.
        level: of the interval that it is for.
        most: the most that it can be worth; None for the number of rows.
    """
    from scipy.special import stdtrit

    given = (np.asarray(one, np.float64) for one in (value, variance, units, rows))
    value, variance, units, rows = np.broadcast_arrays(*given)
    spread, fewer = value * (1 - value), np.maximum(units - 1, 1)
    seen = (spread > 0) & (variance > 0)
    size = np.divide(spread, variance, out=units.copy(), where=seen)
    few = (_z(level) / stdtrit(fewer, (1 + level) / 2)) ** 2
    corrected = size * np.where(rows > units, few, units / fewer)  # unit_variance divides by one unit less
    size = np.where(seen, corrected, units)
    return np.maximum(np.minimum(size, rows if most is None else most), 1)


def logit_interval(value: Any, error: Any, level: float = 0.95, *, degrees: Any = np.inf) -> Bounds:
    """Compute an interval on the logit scale (for an AUROC: Pepe, 2003, section 5.2.4) with Student's t.

    Args:
        value: in (0, 1); at 0 or 1 the bounds are nan.
        error: its standard error.
        level: of the interval.
        degrees: of freedom of the standard error; inf makes the interval normal.
    """
    from scipy.special import stdtrit

    value, error = np.asarray(value, np.float64), np.asarray(error, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        half = stdtrit(np.maximum(degrees, 1), (1 + level) / 2) * error / (value * (1 - value))
        middle = np.log(value / (1 - value))
        return 1 / (1 + np.exp(half - middle)), 1 / (1 + np.exp(-half - middle))


def score_interval_of_area(value: Any, of_class: Any, of_rest: Any, level: float = 0.95) -> Bounds:
    """Compute the score interval of an AUROC, which has a width at 0 and 1 too (Newcombe, 2006, method 5).

    The variance is that of Hanley and McNeil (1982), both numbers in its factor replaced by their mean.

    Args:
        value: in [0, 1].
        of_class: how many independent units are of the class.
        of_rest: how many are not.
        level: of the interval.

    Example:
        >>> [round(float(bound), 3) for bound in score_interval_of_area(1.0, 10, 10)]
        [0.8, 1.0]
    """
    value, one, rest = np.broadcast_arrays(*(np.asarray(given, np.float64) for given in (value, of_class, of_rest)))

    def outside(area: np.ndarray) -> np.ndarray:
        mean = (one + rest) / 2 - 1
        factor = 1 + mean * ((1 - area) / (2 - area) + area / (1 + area))
        return np.abs(value - area) > _z(level) * np.sqrt(np.maximum(area * (1 - area), 0) * factor / (one * rest))

    bounds = []
    for end in (0.0, 1.0):
        within, beyond = value.copy(), np.full(value.shape, end)
        for _ in range(_STEPS):
            middle = (within + beyond) / 2
            far = outside(middle)
            within, beyond = np.where(far, within, middle), np.where(far, middle, beyond)
        bounds.append(within)
    return bounds[0], bounds[1]


def area_interval(
    value: Any, error: Any, of_class: Any, of_rest: Any, level: float = 0.95, *, degrees: Any = np.inf
) -> Bounds:
    """Compute DeLong's interval on the logit scale, and the score interval at the ends, where that has no width."""
    inner = logit_interval(value, error, level, degrees=degrees)
    ends = score_interval_of_area(value, of_class, of_rest, level)
    usable = (np.asarray(error) > 0) & (np.asarray(value) > 0) & (np.asarray(value) < 1)
    return np.where(usable, inner[0], ends[0]), np.where(usable, inner[1], ends[1])


def log_interval(value: Any, error: Any, units: Any, level: float = 0.95) -> Bounds:
    """Compute an interval on the log scale with Student's t, for a mean loss, which is 0 or more and skewed.

    Args:
        value: 0 or more; of 0 there is none.
        error: its standard error.
        units: how many independent units it is the mean of.
        level: of the interval.
    """
    from scipy.special import stdtrit

    value = np.asarray(value, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        half = stdtrit(np.maximum(np.asarray(units) - 1, 1), (1 + level) / 2) * np.asarray(error) / value
        return value * np.exp(-half), value * np.exp(half)


def widen(value: Any, bounds: Bounds, factor: Any, *, least: float = 0.0, most: float = 1.0) -> Bounds:
    """Stretch an interval about its value, on the logit scale of its range where all three lie inside it.

    Args:
        value: what the interval is of.
        bounds: its ends.
        factor: of stretching; 1 changes nothing.
        least: the least that the value can be; -inf where there is none, and then nothing is transformed.
        most: the most; inf likewise.
    """
    value, (low, high) = np.asarray(value, np.float64), bounds
    plain = value + factor * (low - value), value + factor * (high - value)
    if not np.isfinite([least, most]).all():
        return np.maximum(plain[0], least), np.minimum(plain[1], most)

    def logit(number: Any) -> np.ndarray:
        share = (np.asarray(number, np.float64) - least) / (most - least)
        return np.log(share / (1 - share))

    found = []
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for bound, simple in zip((low, high), plain, strict=True):
            stretched = logit(value) + factor * (logit(bound) - logit(value))
            back = least + (most - least) / (1 + np.exp(-stretched))
            found.append(np.where(np.isfinite(stretched), back, np.clip(simple, least, most)))
    return found[0], found[1]


def few_units_factor(units: Any, level: float = 0.95) -> np.ndarray:
    """Compute by how much an interval of a Bayesian bootstrap is stretched for few units.

    Its variance of a mean is that of the sample over U + 1, where that of the mean has U - 1; and the quantile is the
    normal one, where few units need Student's t.

    Args:
        units: U, two or more.
        level: of the interval.
    """
    from scipy.special import stdtrit

    units = np.maximum(np.asarray(units, np.float64), 2)
    return stdtrit(units - 1, (1 + level) / 2) / _z(level) * np.sqrt((units + 1) / (units - 1))


def units_of_class_mean(of_class: Any) -> np.ndarray:
    """Compute how many units a mean over classes is worth: Welch's (1947) degrees of freedom and one.

    Each class adds the inverse of its number of units to the variance, as where all have the same spread.

    Args:
        of_class: float (..., K), units of each class; classes of fewer than two are left out.

    Example:
        >>> [round(float(units_of_class_mean(one)), 1) for one in ([25, 25], [10, 190])]
        [49.0, 11.0]
    """
    sizes = np.asarray(of_class, np.float64)
    parts = np.divide(1, sizes, out=np.zeros_like(sizes), where=sizes > 1)
    spread = (parts**2 / np.maximum(sizes - 1, 1)).sum(axis=-1)
    total = parts.sum(axis=-1) ** 2
    return 1 + np.divide(total, spread, out=np.ones_like(total), where=spread > 0)


def unit_variance(influences: np.ndarray) -> np.ndarray:
    """Compute the variance of a value from the influence of each independent unit on it, (..., U) (Hampel, 1974).

    The sum of squares is that of the infinitesimal jackknife; U / (U - 1) makes it unbiased for a mean.
    """
    units = influences.shape[-1]
    return (influences**2).sum(axis=-1) * (units / max(units - 1, 1))


def _z(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + level) / 2))
