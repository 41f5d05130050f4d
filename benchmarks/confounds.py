"""Covariate-adjusted AUROC on brains with planted age and planted confounding, against the AUROC without it.

    python3 run.py bench confounds

Age and disease enlarge the same ventricles of the phantom, and the ill are older, so that a score of CSF owes much of
its AUROC to age. The truth is the AUROC of ill and well subjects of the same ages, from brains of their own.
"""

import time
from statistics import mean, stdev

import numpy as np

from mriscope.data.phantom import make_brain
from mriscope.evaluation.confounds import Units, analyse_confounding, weighted_auroc
from mriscope.models.tissue import brain_fractions

SEEDS, SUBJECTS, TRUE_SUBJECTS = 20, 150, 2000
SLICES, SIZE = 8, 64
MIDDLE, SPREAD, OLDER = 64.0, 6.0, 12.0
"""Years: mean age of the well, standard deviation, and by how much the ill are older."""
BY_YEAR, BY_DISEASE, BASE, OWN = 0.016, 0.2, 0.45, 0.05
"""Severity of the phantom gained by a year and by the disease, at the age of 70, and standard deviation around it."""
STRATUM = 5.0  # years


def score_brain(number: int, age: float, ill: bool, seed: int) -> float:
    """Return the CSF fraction of one brain."""
    own = OWN * np.random.default_rng([seed, number]).standard_normal()
    severity = float(np.clip(BASE + BY_YEAR * (age - 70) + BY_DISEASE * ill + own, 0, 1.2))
    return brain_fractions(make_brain(number, severity, SLICES, seed, SIZE)[0])[1]


def draw_cohort(subjects: int, seed: int) -> Units:
    """Draw subjects, every second of them ill and older, with age and the CSF fraction of their brains."""
    ill = np.arange(subjects) % 2 == 1
    age = MIDDLE + SPREAD * np.random.default_rng(seed).standard_normal(subjects) + OLDER * ill
    scores = [score_brain(number, float(age[number]), bool(ill[number]), seed) for number in range(subjects)]
    return Units("ill vs well", "subject", ill, np.array([scores]), {"age": age})


def true_auroc(subjects: int, seed: int) -> float:
    """Return the AUROC among subjects of the same age, in strata of the ages of the ill, averaged over the ill."""
    ill = np.arange(subjects) % 2 == 1
    drawn = MIDDLE + OLDER + SPREAD * np.random.default_rng(seed).standard_normal(subjects // 2)
    age = (np.round(drawn / STRATUM) * STRATUM).repeat(2)  # an ill subject and a well one of each age
    scores = np.array([score_brain(number, float(age[number]), bool(ill[number]), seed) for number in range(subjects)])
    values, counts = np.unique(age, return_counts=True)
    return float(
        sum(
            count * weighted_auroc(scores[age == value], ill[age == value], np.ones(count))[0]
            for value, count in zip(values, counts, strict=True)
        )
        / counts.sum()
    )


def main() -> None:
    started = time.process_time()
    crude, adjusted, paired, covered = [], [], [], 0
    truth = true_auroc(TRUE_SUBJECTS, 10_000)
    print(f"truth {truth:.3f} from {TRUE_SUBJECTS:,} subjects of equal ages", flush=True)
    for seed in range(SEEDS):
        found = analyse_confounding(draw_cohort(SUBJECTS, seed), resamples=500, seed=seed)
        one = found.adjusted[0].auroc
        crude.append(found.auroc.value)
        adjusted.append(one.value)
        paired.append(found.pairs.share.value if found.pairs is not None else np.nan)
        covered += one.low <= truth <= one.high
        print(
            f"seed {seed:2d}: crude {crude[-1]:.3f}, adjusted {one.value:.3f} ({one.low:.3f} to {one.high:.3f})",
            flush=True,
        )
    for name, values in (("crude", crude), ("adjusted for age", adjusted), ("pairs matched by age", paired)):
        error = stdev(values) / np.sqrt(SEEDS)
        print(f"{name:<21} {mean(values):.3f}, standard error {error:.3f}, less the truth {mean(values) - truth:+.3f}")
    print(f"the interval of the adjusted AUROC covers the truth in {covered} of {SEEDS}")
    print(f"{time.process_time() - started:.0f} s of processor time")


if __name__ == "__main__":
    main()
