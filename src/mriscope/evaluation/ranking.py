"""Rank recipes, with tests of whether they differ: pure functions of predictions.

A recipe is evaluated by one run, or by several that differ in their seed: `Runs`. All recipes of a ranking are
evaluated on the same slices, or seed by seed on the same slices where the seed draws the split.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np

from mriscope.evaluation.intervals import bootstrap_classes, bootstrap_repeats, units_of
from mriscope.evaluation.metrics import HEADLINE, accuracy, applicable, recall
from mriscope.evaluation.predictions import Predictions
from mriscope.results import Estimate, PairedTest, RunsEstimate

Runs = Sequence[Predictions]

ALPHA = 0.05
"""Two recipes differ significantly where the adjusted p of their paired test is under this."""


class RunsSummary(NamedTuple):
    """Metrics of a recipe over its runs: by name, and the recall of each class."""

    metrics: dict[str, RunsEstimate]
    recalls: dict[str, RunsEstimate]


@dataclass(frozen=True)
class Place:
    """Where a recipe stands in a ranking.

    Attributes:
        index: of the recipe among those that were given.
        rank: from 1.
        above: test against the recipe above, corrected for all neighbours; None for the first.
        leader: test against the leader of the rank above it, corrected for all pairs; None for the first.
    """

    index: int
    rank: int
    above: PairedTest | None = None
    leader: PairedTest | None = None


def rank_recipes(recipes: Sequence[Runs]) -> list[Place]:
    """Rank recipes by falling accuracy; those that do not differ significantly by paired tests share a rank.

    A recipe joins the rank above unless it differs significantly from the recipe above, or from the leader of that
    rank, which is its first; else it leads a rank of its own, that of its position, as in a competition (1, 1, 3).
    Tests between neighbours alone would tie the best with the worst by steps too small to see, as the absence of a
    significant difference is not transitive. For that reason the last of a rank may also tie with the first of the
    next.

    Args:
        recipes: the runs of each; those of equal accuracy keep their order.
    """
    means = [np.mean([accuracy(run) for run in runs]) for runs in recipes]
    order = sorted(range(len(recipes)), key=lambda row: -means[row])
    neighbours, every = (_test_pairs(recipes, list(pairs)) for pairs in (pairwise(order), combinations(order, 2)))
    places, leader = [Place(order[0], 1)], order[0]
    for position, (one, row) in enumerate(pairwise(order), start=2):
        above, against = neighbours[one, row], every[leader, row]
        if min(above.adjusted, against.adjusted) < ALPHA:
            leader, rank = row, position
        else:
            rank = places[-1].rank
        places.append(Place(row, rank, above, against))
    return places


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjust p values so that the chance of any false finding among them stays under the level (Holm, 1979).

    Returns:
        float64 (T,), in the order given; none under its own p, none over 1.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.minimum(1, p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(stepped)
    return adjusted


def sign_flip_test(differences: np.ndarray) -> float:
    """Test paired differences, exact and two-sided, by flipping their signs (Fisher, 1935).

    p says how often random signs bring the sum as far from 0 as it was found.

    Were neither side better, each unit's difference could as well have the other sign. Nothing is drawn: the whole
    distribution is computed. For single slices, with differences of -1, 0 and 1, this is McNemar's exact test (McNemar,
    1947): a binomial test on the slices that one side alone has right. With a difference for each subject it respects
    that slices of one brain agree; n subjects then give no p under 2^(1-n).

    Args:
        differences: int64 (U,), one for each independent unit.

    Returns:
        p in [0, 1]; 1 where nothing differs.
    """
    sizes = np.sort(np.abs(differences[differences != 0]))
    chances = np.ones(1)  # of each sum of the sizes that got a plus
    for size in sizes:
        wider = np.zeros(len(chances) + size)
        wider[: len(chances)] += chances / 2
        wider[size:] += chances / 2
        chances = wider
    sums = 2 * np.arange(len(chances)) - sizes.sum()
    return float(min(1, chances[np.abs(sums) >= abs(differences.sum())].sum()))


def unit_differences(first: Runs, second: Runs) -> np.ndarray:
    """Count how many more slices of each unit the first recipe has right, summed over its runs.

    A unit is a subject where the subject of every slice is known, else a slice. Recipes with unequal numbers of runs
    are brought to one scale.

    Returns:
        int64 (U,), in the order of the units' numbers or paths.
    """
    runs = [*first, *second]
    signs = np.repeat([len(second), -len(first)], [len(first), len(second)])
    right = [sign * (run.predicted == run.labels) for sign, run in zip(signs, runs, strict=True)]
    scale = np.gcd(len(first), len(second))
    return np.bincount(units_of(runs), np.concatenate(right)).round().astype(np.int64) // scale


def paired_test_text(recipes: Sequence[Runs]) -> str:
    """Describe the paired test between neighbours, and what it does not see."""
    every = [run for runs in recipes for run in runs]
    count = len(np.unique(units_of(every)))
    if all(run.knows_subjects for run in every):
        text = f"exact sign-flip test over the {count:,} test subjects"
        tests = max(len(recipes) - 1, 1)
        too_few = tests * 2.0 ** (1 - count) >= ALPHA
        return text + ("; they are too few for any difference to be significant" if too_few else "")
    several = any(len(runs) > 1 for runs in recipes)
    name = "exact sign-flip test over slices" if several else "McNemar's exact test"
    return f"{name}; subjects are unknown, and where slices of one brain agree its p values are too small"


def summarize_runs(runs: Runs, *, resamples: int = 2000, seed: int = 0) -> RunsSummary:
    """Compute the mean of every metric over the runs of a recipe, its interval, and the least and greatest run.

    A resample draws subjects (or slices) once for all runs, and the interval is that of the mean over them: it covers
    the choice of the test part. The spread from the least to the greatest run shows the luck of training.
    """
    metrics = applicable(HEADLINE, runs[0])
    headline = bootstrap_repeats(runs, metrics, resamples=resamples, seed=seed)
    by_class = bootstrap_classes(runs, {"recall": recall}, resamples=resamples, seed=seed)
    columns = np.array([recall(run) for run in runs]).T
    return RunsSummary(
        {name: _add_spread(one, [metrics[name](run) for run in runs]) for name, one in headline.items()},
        {
            name: _add_spread(one["recall"], column)
            for (name, one), column in zip(by_class.items(), columns, strict=True)
        },
    )


def _test_pairs(recipes: Sequence[Runs], pairs: Sequence[tuple[int, int]]) -> dict[tuple[int, int], PairedTest]:
    p_values = [sign_flip_test(unit_differences(recipes[one], recipes[other])) for one, other in pairs]
    adjusted = holm(p_values).tolist()
    tests = [PairedTest(p=p, adjusted=corrected) for p, corrected in zip(p_values, adjusted, strict=True)]
    return dict(zip(pairs, tests, strict=True))


def _add_spread(estimate: Estimate, by_run: Sequence[float] | np.ndarray) -> RunsEstimate:
    least, greatest = float(np.min(by_run)), float(np.max(by_run))
    told = {"method": estimate.method, "reliable": estimate.reliable}
    return RunsEstimate(estimate.value, estimate.low, estimate.high, least, greatest, **told)
