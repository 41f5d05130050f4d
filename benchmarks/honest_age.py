"""Two questions to the figures of `honest_draws.py`: is more reached with a known age, and does a threshold flatter?

    MRISCOPE_COVARIATES=data/covariates.csv python3 run.py bench honest_age

Reads the source that MRISCOPE_DATA names, and a CSV file with the columns age and nwbv of the reader's own. Beside the
best five families: the same averaged with support vector machines, and the same on features less a line on age that is
fitted on Non of the training fold. Then the brain fraction whose threshold of fluid each training fold chooses by nwbv.
"""

import os
from functools import partial
from typing import Any

import honest
import numpy as np
from honest_draws import COVARIATES, OLD, RESAMPLES, describe, row, show
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC

from mriscope.data.covariates import value_by_unit, with_covariates
from mriscope.data.slices import SliceSet
from mriscope.evaluation.confounds import weighted_auroc, widen_estimate
from mriscope.evaluation.crossvalidation import WIDENED_BY_OF_REPEATS
from mriscope.evaluation.resampling import percentile_interval
from mriscope.models.tissue import segment_fluid
from mriscope.models.tissue_families import TAKEN, family_columns, sort_families
from mriscope.recipe import make_recipe
from mriscope.workflows._load import load

SEEDS = range(3000, 3020)
"""Of the draws; the variants were first looked at on seeds 2000 to 2009, after they had been written down."""
THRESHOLDS = (0.5, 0.55, 0.6, 2 / 3, 0.7, 0.75, 0.8)
VARIANTS = {
    "best_five": "best five averaged",
    "kernels": "the same averaged with Gaussian-kernel support vector machines",
    "without_age": "best five of features less the line on age",
}


def best_five(train: np.ndarray, test: np.ndarray, worse: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Log odds of the test subjects, and the families that were averaged."""
    known, asked = honest.fit_families(train, test, worse, 2)
    taken = sort_families(known, worse > 0)[:TAKEN]
    return honest.averaged(asked, taken) @ [-1, 1], taken


def by_kernel(train: np.ndarray, test: np.ndarray, worse: np.ndarray) -> np.ndarray:
    """Log odds of a support vector machine, calibrated on left-out training subjects.

    Features are divided by the root of their summed variance, so that the kernel's width is that of the data.
    """
    scale = np.sqrt(2 * train.var(axis=0, dtype=float).sum())
    kernel: Any = partial(rbf_kernel, gamma=1.0)
    machine = SVC(C=1.0, kernel=kernel)
    left = np.empty(len(worse))
    for kept, out in StratifiedKFold(honest.FOLDS, shuffle=True, random_state=0).split(train, worse):
        left[out] = machine.fit(train[kept] / scale, worse[kept]).decision_function(train[out] / scale)
    calibration = LogisticRegression(C=100.0, max_iter=1000).fit(left[:, None], worse)
    asked = machine.fit(train / scale, worse).decision_function(test / scale)
    return calibration.decision_function(asked[:, None])


def without_age(described: np.ndarray, age: np.ndarray, healthy: np.ndarray) -> np.ndarray:
    """Features less a line on age that is fitted on some subjects, who are healthy and of the training part."""
    design = np.column_stack([np.ones_like(age), age])
    line = np.linalg.lstsq(design[healthy], described[healthy].astype(float), rcond=None)[0]
    return described - design @ line


def draw(severity: np.ndarray, described: np.ndarray, age: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Log odds of every subject by each variant, from folds in which others were trained on."""
    found = {name: np.zeros(len(severity)) for name in VARIANTS}
    folds = StratifiedKFold(honest.FOLDS, shuffle=True, random_state=seed).split(severity, np.minimum(severity, 2))
    for train, test in folds:
        worse = np.minimum(severity[train], 1)
        base, taken = best_five(described[train], described[test], worse)
        columns = [described[:, family_columns(name)] for name in taken]
        machines = np.mean([by_kernel(one[train], one[test], worse) for one in columns], axis=0)
        plain = without_age(described, age, train[worse == 0])
        found["best_five"][test], found["kernels"][test] = base, (base + machines) / 2
        found["without_age"][test] = best_five(plain[train], plain[test], worse)[0]
    return found


def compare(draws: list[dict[str, np.ndarray]], demented: np.ndarray, group: np.ndarray, name: str) -> list[str]:
    """Cells of the table: mean AUROC, its range over draws, and the paired difference to the best five."""
    resampled = np.random.default_rng(0).multinomial(group.sum(), np.full(group.sum(), 1 / group.sum()), RESAMPLES)
    weights = np.concatenate([np.ones((1, group.sum())), resampled])
    areas, base = (
        np.array([weighted_auroc(one[key][group], demented[group], weights) for one in draws])
        for key in (name, "best_five")
    )
    each, difference = areas[:, 0], (areas - base).mean(axis=0)
    found = percentile_interval(difference[0], difference[1:], 0.95)
    widened = widen_estimate(found, WIDENED_BY_OF_REPEATS, least=-1.0, reliable=True)
    return [f"{each.mean():.3f}", f"{each.min():.3f} to {each.max():.3f}", "" if name == "best_five" else show(widened)]


def brain_fractions(slices: SliceSet) -> np.ndarray:
    """The brain fraction of every subject at each threshold: float64 (n, T)."""
    rows = np.lexsort((slices.positions, slices.subjects))
    starts = np.unique(slices.subjects[rows], return_index=True)[1]
    found = []
    for one in np.split(rows, starts[1:]):
        segments = [segment_fluid(slices.images[one], below) for below in THRESHOLDS]
        found.append([1 - fluid.sum() / inside.sum() for _, inside, fluid in segments])
    return np.array(found)


def by_fold(fractions: np.ndarray, severity: np.ndarray, volume: np.ndarray, seed: int) -> np.ndarray:
    """The brain fraction of every subject at the threshold that goes best with nwbv in the other folds."""
    found = np.empty(len(severity))
    folds = StratifiedKFold(honest.FOLDS, shuffle=True, random_state=seed).split(severity, np.minimum(severity, 2))
    for train, test in folds:
        known = [np.corrcoef(one[train], volume[train])[0, 1] for one in fractions.T]
        found[test] = fractions[test, int(np.argmax(known))]
    return found


def main() -> None:
    source = os.environ.get("MRISCOPE_DATA", "../shared/data/alzheimer_mri")
    slices = load(source, recipe=make_recipe({"model": honest.CHOSEN})).slices
    severity, described = describe(slices)
    units = np.unique(slices.subjects, return_inverse=True)[1]
    known = with_covariates(slices, os.environ["MRISCOPE_COVARIATES"]).covariates
    age, volume = (value_by_unit(known[name], units) for name in COVARIATES)
    demented, every, old = severity > 0, np.ones(len(severity), bool), age >= OLD
    draws = [draw(severity, described, age, seed) for seed in SEEDS]
    heads = ("AUROC", "range of draws", "less the best five")
    print(row(["", *[f"all: {head}" for head in heads], *[f"{OLD:g} and over: {head}" for head in heads]]))
    for name, title in VARIANTS.items():
        print(row([title, *compare(draws, demented, every, name), *compare(draws, demented, old, name)]))
    fractions = brain_fractions(slices)
    rows = {f"{below:.2f}": one[None] for below, one in zip(THRESHOLDS, fractions.T, strict=True)}
    rows["chosen by fold"] = np.array([by_fold(fractions, severity, volume, seed) for seed in SEEDS])
    print(row(["threshold", "correlation with nwbv", "AUROC", f"AUROC of {OLD:g} and over"]))
    for name, drawn in rows.items():
        found = [
            (np.corrcoef(one, volume)[0, 1], roc_auc_score(demented, -one), roc_auc_score(demented[old], -one[old]))
            for one in drawn
        ]
        print(row([name, *[f"{value:.3f}" for value in np.mean(found, axis=0)]]))


if __name__ == "__main__":
    main()
