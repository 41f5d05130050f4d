"""The methods of `honest.py` on twenty fresh draws of the folds, beside age and scalars, over all and over the old.

    MRISCOPE_COVARIATES=data/covariates.csv python3 run.py bench honest_draws

Reads the source that MRISCOPE_DATA names, and a CSV file with the columns age and nwbv, by path or subject, of the
reader's own; without MRISCOPE_COVARIATES only the draws are made. Each draw is kept in runs/honest_draws/ as soon as it
is done, so that the same command goes on after it was broken off; remove the folder where data or code have changed.
The folds are of all subjects: those of 60 and over are chosen among the evaluated subjects alone.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import honest
import numpy as np

from mriscope.data.covariates import value_by_unit, with_covariates
from mriscope.data.slices import SliceSet
from mriscope.evaluation.baselines import SCALARS, measure_scalars
from mriscope.evaluation.confounds import Units, analyse_confounding, weighted_auroc
from mriscope.evaluation.crossvalidation import WIDENED_BY_OF_REPEATS
from mriscope.evaluation.metrics import auroc, macro_f1
from mriscope.evaluation.predictions import Predictions
from mriscope.recipe import make_recipe
from mriscope.results import Estimate
from mriscope.workflows._load import load

TASK = "non_vs_demented"
SEEDS = range(1000, 1020)
"""Of the draws; none was looked at before these methods were frozen."""
OLD = 60.0  # years
RESAMPLES = 1000
FOLDER = Path("runs", "honest_draws")
COVARIATES = ("age", "nwbv")
TITLES = {
    "best_five": "best five averaged (`tissue_families`)",
    "tissue_histograms": "`tissue_histograms` as frozen",
    "nested": "choice of one",
    "all_families": "all 13 averaged",
    "age": "age",
    "nwbv": "normalised whole-brain volume",
    "brain_fraction": "brain fraction",
    "csf_fraction": "CSF fraction",
}


def make_draws(slices: SliceSet) -> list[dict[str, np.ndarray]]:
    """Make or read the probabilities of every subject on each draw: by method, (n, 2)."""
    for seed in SEEDS:
        file = FOLDER / f"draw{seed}.npz"
        if file.is_file():
            continue
        severity, described = describe(slices)
        started = time.process_time()
        found = honest.cross_validate(severity, described, seed, Counter(), {TASK: honest.WORST[TASK]})
        keep(file, {method: probabilities for (method, _), probabilities in found.items()})
        print(f"draw {seed}: {time.process_time() - started:.1f} s of processor time", flush=True)
    return [dict(np.load(FOLDER / f"draw{seed}.npz")) for seed in SEEDS]


def describe(slices: SliceSet) -> tuple[np.ndarray, np.ndarray]:
    """Make or read the severity and the description of every subject."""
    file = FOLDER / "subjects.npz"
    if not file.is_file():
        started = time.process_time()
        keep(file, dict(zip(("severity", "described"), honest.describe_subjects(slices), strict=True)))
        print(f"subjects described: {time.process_time() - started:.1f} s of processor time", flush=True)
    kept = np.load(file)
    return kept["severity"], kept["described"]


def keep(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays whole or not at all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part.npz")
    np.savez(part, allow_pickle=False, **arrays)
    part.replace(file)


def log_odds(probability: np.ndarray) -> np.ndarray:
    return np.log(probability) - np.log1p(-probability)


def compare(draws: list[dict[str, np.ndarray]], demented: np.ndarray, columns: dict[str, np.ndarray]) -> Iterator[str]:
    """Yield the rows of the table: AUROC over all and over the old, and how much of it is above the brain fraction."""
    groups = (columns["age"] > 0, columns["age"] >= OLD)
    for method in honest.METHODS:
        scores = np.array([log_odds(one[method][:, 1]) for one in draws])
        cells = []
        for group in groups:
            found = {
                name: analyse_confounding(
                    Units("", "subject", demented, scores, {name: columns[name]}).select(group),
                    resamples=RESAMPLES,
                    widen_by=WIDENED_BY_OF_REPEATS,
                )
                for name in ("brain_fraction", "nwbv", "age")
            }
            each = [weighted_auroc(one[group], demented[group], np.ones(group.sum()))[0] for one in scores]
            spread = f"{np.std(each, ddof=1):.3f}, {min(each):.3f} to {max(each):.3f}"
            over = [found[name].over_best for name in ("brain_fraction", "nwbv")]
            cells += [show(found["age"].auroc), spread, *(show(one.difference) for one in over if one is not None)]
            cells.append(show(found["age"].adjusted[0].auroc))
        yield row([TITLES[method], *cells])
    for name in (*COVARIATES, *SCALARS):
        cells = []
        for group in groups:
            alone = Units("", "subject", demented, columns[name][None], {name: columns[name]}).select(group)
            cells += [show(analyse_confounding(alone, resamples=RESAMPLES).single[0].auroc), *[""] * 4]
        yield row([f"{TITLES[name]} alone", *cells])


def show(one: Estimate) -> str:
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def list_draws(draws: list[dict[str, np.ndarray]], demented: np.ndarray) -> Iterator[str]:
    """Yield a row for each method and metric over all subjects: mean over draws, standard deviation and range."""
    for method in honest.METHODS:
        every = [Predictions.of(demented, one[method], class_names=("Non", "Demented")) for one in draws]
        for name, metric in (("AUROC", auroc), ("macro-F1", macro_f1)):
            values = [metric(one) for one in every]
            spread = f"{np.std(values, ddof=1):.3f}", f"{min(values):.3f} to {max(values):.3f}"
            yield row([TITLES[method], name, f"{np.mean(values):.3f}", *spread])


def main() -> None:
    source = os.environ.get("MRISCOPE_DATA", "../shared/data/alzheimer_mri")
    slices = load(source, recipe=make_recipe({"model": honest.CHOSEN})).slices
    draws = make_draws(slices)
    _, first, units = np.unique(slices.subjects, return_index=True, return_inverse=True)
    severity = slices.severity[slices.labels[first]]
    demented = (severity > 0).astype(int)
    print("\n".join([row(["method", "metric", "mean of draws", "sd", "range"]), *list_draws(draws, demented)]))
    file = os.environ.get("MRISCOPE_COVARIATES")
    if file is None:
        print("MRISCOPE_COVARIATES names no file of covariates, so there is no table beside them")
        return
    known = {name: with_covariates(slices, file).covariates[name] for name in COVARIATES}
    measured = dict(zip(SCALARS, measure_scalars(slices).T, strict=True))
    columns = {name: value_by_unit(column, units) for name, column in {**known, **measured}.items()}
    heads = ["AUROC", "sd of draws, range", "over the brain fraction", "over nwbv", "adjusted for age"]
    old = f"{(columns['age'] >= OLD).sum()} of {OLD:g} and over"
    print(row(["", *[f"all {len(severity)}: {head}" for head in heads], *[f"{old}: {head}" for head in heads]]))
    print("\n".join(compare(draws, severity > 0, columns)))


if __name__ == "__main__":
    main()
