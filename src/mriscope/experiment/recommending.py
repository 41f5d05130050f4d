"""Which method of explanation to use on a run, from what was measured of each."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

RANDOM, CENTRE = "random", "centre"
"""The names of the maps that know nothing of the model."""
_RESAMPLES = 2000
_FASTER = 2  # times; what is less may be the luck of a measurement


@dataclass(frozen=True)
class Measured:
    """One method's maps, measured.

    Args:
        name: of the method or the baseline.
        title: its name in print.
        baseline: whether it knows nothing of the model.
        values: float64 (N,) by metric; nan where a metric does not exist for a slice.
        maps: float32 (N, H, W).
        seconds: for the map of one slice; None for baselines.
        silent: how many maps carry nothing.
        randomisation: what the check found; None for baselines.
    """

    name: str
    title: str
    baseline: bool
    values: Mapping[str, np.ndarray]
    maps: Tensor
    seconds: float | None = None
    silent: int = 0
    randomisation: Mapping[str, Any] | None = None

    @property
    def gain(self) -> np.ndarray:
        """Insertion less deletion, the quality by which methods are ranked."""
        return self.values["insertion"] - self.values["deletion"]


def recommend(measured: Sequence[Measured], units: np.ndarray, seed: int = 0) -> tuple[str | None, str]:
    """The method to use and why, by the rule that compare_methods states; None where no method can be recommended.

    Args:
        measured: methods, and the baseline random_maps.
        units: int64 (N,), what each slice is resampled with.
        seed: of resampling.
    """
    random = next(one for one in measured if one.name == RANDOM)
    methods = [one for one in measured if not one.baseline]
    passing = [one for one in methods if one.randomisation and one.randomisation["passes"]]
    fit = [one for one in passing if _beats(one, random, units, seed)]
    if not fit:
        return None, (
            f"No method can be recommended: of {len(methods)}, {len(passing)} pass the randomisation check, "
            "and none of these beats random maps in both deletion and insertion."
        )
    best = max(fit, key=lambda one: float(np.nanmean(one.gain)))
    tied = [one for one in fit if one is best or not _certain(best.gain - one.gain, units, seed)]
    quickest = min(tied, key=lambda one: one.seconds or 0)
    chosen = quickest if (best.seconds or 0) >= _FASTER * (quickest.seconds or 0) else best
    return chosen.name, " ".join(_reasons(chosen, best, f"{len(fit)} of {len(methods)}", measured, units, seed))


def _reasons(
    chosen: Measured, best: Measured, fit: str, measured: Sequence[Measured], units: np.ndarray, seed: int
) -> Iterator[str]:
    value, low, high = (f"{number:.3f}" for number in mean_interval(chosen.gain, units, seed))
    gain, why = f"its insertion less deletion of {value} ({low} to {high})", "is the greatest"
    if chosen is not best:
        times = (best.seconds or 0) / (chosen.seconds or 1)
        why = f"is not told from the greatest, that of {best.title}, while it is {times:.1f} times as fast"
    yield (
        f"Recommended: {chosen.title}, as it passes the randomisation check, beats random maps in deletion and "
        f"insertion ({fit} methods do both), and {gain} {why}."
    )
    for one in measured:
        if one.name == CENTRE and not mean_interval(chosen.gain - one.gain, units, seed)[1] > 0:
            yield "It is not told from a bump in the centre of each slice, so its maps say little about a single slice."


def _beats(one: Measured, random: Measured, units: np.ndarray, seed: int) -> bool:
    differences = (
        random.values["deletion"] - one.values["deletion"],
        one.values["insertion"] - random.values["insertion"],
    )
    return all(mean_interval(difference, units, seed)[1] > 0 for difference in differences)


def _certain(difference: np.ndarray, units: np.ndarray, seed: int) -> bool:
    """Whether the mean difference is not 0, by its interval."""
    _, low, high = mean_interval(difference, units, seed)
    return bool(low > 0 or high < 0)


def mean_interval(values: np.ndarray, units: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """A mean with its 95 % percentile bootstrap interval over units, each of which brings all its values.

    Args:
        values: float64 (N,); nan where one does not exist, which is left out.
        units: int64 (N,), equal for what is resampled together.
        seed: of 2,000 resamples.

    Returns:
        value, low and high; bounds are nan for a single unit, and all three where no value exists.
    """
    there = ~np.isnan(values)
    if not there.any():
        return math.nan, math.nan, math.nan
    numbers = np.unique(units[there], return_inverse=True)[1]
    sums, counts = np.bincount(numbers, values[there]), np.bincount(numbers)
    value = float(sums.sum() / counts.sum())
    if len(sums) < 2:
        return value, math.nan, math.nan
    drawn = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), _RESAMPLES)
    low, high = np.quantile((drawn @ sums) / (drawn @ counts), [0.025, 0.975])
    return value, float(low), float(high)
