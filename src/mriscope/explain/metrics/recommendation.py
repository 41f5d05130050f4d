"""Which method of explanation to use on a model, from the scores of each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mriscope.evaluation.resampling import mean_interval
from mriscope.results import Randomisation

RULE = (
    "A method can be recommended if its maps pass the randomisation check (they change when the weights become random) "
    "and beat random maps in deletion and in insertion, each by a paired difference whose 95 % interval excludes 0. "
    "Among these the greatest insertion less deletion wins, unless a method that does not differ significantly from it "
    "is at least twice as fast. From fewer than 32 slices of 16 subjects none is recommended."
)
FEWEST_SLICES, FEWEST_SUBJECTS = 32, 16
"""From fewer, which method comes first is the luck of the sample."""
RANDOM, CENTRE = "random", "centre"
"""The names of the baselines, whose maps know nothing of the model."""
_FASTER = 2  # times; what is less may be the luck of a measurement


@dataclass(frozen=True)
class MethodScores:
    """The maps of one method, and their scores.

    Args:
        name: of the method or the baseline.
        title: its name in print.
        baseline: whether it knows nothing of the model.
        values: float64 (N,) by metric; nan where a metric does not exist for a slice.
        maps: float32 (N, H, W).
        seconds: for the map of one slice; None for baselines.
        n_empty: how many maps are empty.
        randomisation: what the check found; None for baselines.
    """

    name: str
    title: str
    baseline: bool
    values: Mapping[str, np.ndarray]
    maps: Tensor
    seconds: float | None = None
    n_empty: int = 0
    randomisation: Randomisation | None = None

    @property
    def gain(self) -> np.ndarray:
        """Return insertion less deletion, the quality by which methods are ranked."""
        return self.values["insertion"] - self.values["deletion"]


def recommend(scores: Sequence[MethodScores], units: np.ndarray, seed: int = 0) -> tuple[str | None, str]:
    """Choose a method by RULE, and say why; None where no method can be recommended, or the slices are too few.

    Args:
        scores: of methods, and of the baseline random.
        units: int64 (N,), what each slice is resampled with.
        seed: of resampling.
    """
    if len(units) < FEWEST_SLICES or len(np.unique(units)) < FEWEST_SUBJECTS:
        return None, (
            f"No method is recommended from {len(units)} slices of {len(np.unique(units))} subjects, as that would be "
            f"luck: {FEWEST_SLICES} slices of {FEWEST_SUBJECTS} subjects are needed at least. Take more with --n."
        )

    def differ(one: np.ndarray, other: np.ndarray) -> bool:
        found = mean_interval(one - other, units, seed=seed)
        return found.low > 0 or found.high < 0

    def exceeds(one: np.ndarray, other: np.ndarray) -> bool:
        return mean_interval(one - other, units, seed=seed).low > 0

    random = next(one for one in scores if one.name == RANDOM).values
    methods = [one for one in scores if not one.baseline]
    passing = [one for one in methods if one.randomisation is not None and one.randomisation.passes]
    fit = [
        one
        for one in passing
        if exceeds(random["deletion"], one.values["deletion"]) and exceeds(one.values["insertion"], random["insertion"])
    ]
    if not fit:
        return None, (
            f"No method can be recommended: of {len(methods)}, {len(passing)} pass the randomisation check, "
            "and none of these beats random maps in both deletion and insertion."
        )
    best = max(fit, key=lambda one: float(np.nanmean(one.gain)))
    tied = [one for one in fit if one is best or not differ(best.gain, one.gain)]
    quickest = min(tied, key=lambda one: one.seconds or 0)
    chosen = quickest if (best.seconds or 0) >= _FASTER * (quickest.seconds or 0) else best
    return chosen.name, " ".join(_reasons(chosen, best, f"{len(fit)} of {len(methods)}", scores, units, seed))


def _reasons(
    chosen: MethodScores, best: MethodScores, fit: str, scores: Sequence[MethodScores], units: np.ndarray, seed: int
) -> Iterator[str]:
    found = mean_interval(chosen.gain, units, seed=seed)
    gain = f"its insertion less deletion of {found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
    why = "is the greatest"
    if chosen is not best:
        times = (best.seconds or 0) / (chosen.seconds or 1)
        why = (
            f"does not differ significantly from the greatest, that of {best.title}, while it is {times:.1f} times as "
            "fast"
        )
    yield (
        f"Recommended: {chosen.title}, as it passes the randomisation check, beats random maps in deletion and "
        f"insertion ({fit} methods do both), and {gain} {why}."
    )
    for one in scores:
        if one.name == CENTRE and not mean_interval(chosen.gain - one.gain, units, seed=seed).low > 0:
            yield (
                "It does not differ significantly from a bump in the centre of each slice, so its maps tell little "
                "about a single slice."
            )
