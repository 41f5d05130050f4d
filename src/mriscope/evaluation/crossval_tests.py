"""Tests on cross-validations: labels permuted, and two recipes compared on the same subjects."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mriscope.data.slices import SliceSet, majority_labels
from mriscope.errors import ArgumentError, DataError, UnknownNameError
from mriscope.evaluation.crossvalidation import METRICS, OWN_CLASSES, Fold, pool_repeats, widening
from mriscope.evaluation.delong import delong_difference
from mriscope.evaluation.differences import paired_difference, widen_difference
from mriscope.evaluation.intervals import mean_over
from mriscope.evaluation.metrics import applicable
from mriscope.evaluation.ranking import holm
from mriscope.evaluation.tasks import TASKS
from mriscope.results import CrossvalComparison, DeclaredTest, Estimate, PermutedMetric

Values = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Metrics by level, task and name."""
LOWER_IS_BETTER = frozenset({"severity_error"})
RESAMPLES = 5000
"""Of a paired bootstrap; p is not under 2 / (RESAMPLES + 1) before it is widened."""


class Declared(NamedTuple):
    """A test that a family declares: a metric of a task."""

    task: str
    metric: str

    @classmethod
    def parse(cls, text: str) -> "Declared":
        """Parse TASK/METRIC, such as non_vs_demented/auroc.

        Raises:
            ArgumentError: it is no such pair.
            UnknownNameError: there is no such task or metric.
        """
        task, slash, metric = text.partition("/")
        if not slash:
            example = f"non_vs_demented/{text if text in METRICS else 'auroc'}"
            raise ArgumentError(f"--test {text!r} is not TASK/METRIC; write both, such as {example}")
        if task not in (*TASKS, OWN_CLASSES):
            raise UnknownNameError("task", task, (*TASKS, OWN_CLASSES))
        if metric not in METRICS:
            raise UnknownNameError("metric", metric, METRICS)
        return cls(task, metric)


def permute_labels(slices: SliceSet, seed: int, number: int) -> SliceSet:
    """Give the subjects each other's labels at random; all slices of a subject get the same.

    Args:
        slices: whose subjects are all known.
        seed: of the draw.
        number: which permutation of this seed.

    Raises:
        DataError: a subject is unknown.
    """
    if not slices.knows_subjects:
        raise DataError(
            "labels are permuted between subjects, and the subject of some slices is unknown; find them with "
            "`mriscope audit SOURCE --out DIR`, and give its slices.csv as a manifest"
        )
    subject = np.unique(slices.subjects, return_inverse=True)[1]
    labels = majority_labels(slices.labels, subject, len(slices.class_names))
    return replace(slices, labels=np.random.default_rng([seed, number]).permutation(labels)[subject])


def measure_folds(done: Sequence[Fold], tasks: Sequence[str], levels: Sequence[str]) -> dict[str, dict]:
    """Compute every metric over the repeats of some folds, without intervals: by level, task and name."""
    found: dict[str, dict] = {}
    for level in levels:
        for task in tasks:
            repeats = pool_repeats(done, task, level)
            metrics = applicable(METRICS, repeats[0])
            found.setdefault(level, {})[task] = {
                name: float(mean_over(repeats, one)(repeats[0])) for name, one in metrics.items()
            }
    return found


def summarize_permutations(
    observed: Values, permuted: Sequence[Values]
) -> dict[str, dict[str, dict[str, PermutedMetric]]]:
    """Set metrics beside those of permuted labels; p is (k + 1) / (n + 1) (Phipson and Smyth, 2010)."""

    def compare(level: str, task: str, name: str) -> PermutedMetric:
        value, drawn = observed[level][task][name], np.array([one[level][task][name] for one in permuted])
        sign = -1 if name in LOWER_IS_BETTER else 1
        as_good = int((sign * drawn >= sign * value - 1e-12).sum())
        return PermutedMetric(
            observed=value, mean=drawn.mean(), deviation=drawn.std(), p=(as_good + 1) / (len(drawn) + 1)
        )

    return {
        level: {task: {name: compare(level, task, name) for name in metrics} for task, metrics in tasks.items()}
        for level, tasks in observed.items()
    }


def compare_folds(
    folds: Mapping[str, Sequence[Fold]], declared: Sequence[Declared], level: str, *, seed: int = 0
) -> CrossvalComparison:
    """Compare cross-validations with the first of them, on the same subjects, in every declared metric.

    The tests are paired: by DeLong's method for an AUROC of two classes, and by bootstrap over subjects for any metric.
    Standard errors are widened as the intervals of a cross-validation are. Holm's correction is for all tests that were
    declared, also where one cannot be made.

    Args:
        folds: of each cross-validation by its name, two at least.
        declared: the family.
        level: "slice" or "subject".
        seed: of the bootstrap.

    Raises:
        DataError: they are not of the same slices or subjects.
    """
    names = list(folds)
    factor = max(widening(len({one.repeat for one in done})) for done in folds.values())
    tests: list[DeclaredTest] = []
    for other in names[1:]:
        for task, metric in declared:
            ours, theirs = (pool_repeats(folds[name], task, level) for name in (names[0], other))
            if metric not in applicable(METRICS, ours[0]):
                raise DataError(f"{metric} needs the order of the classes by severity, which is not known for {task}")
            values = [float(mean_over(one, METRICS[metric])(one[0])) for one in (ours, theirs)]
            drawn = paired_difference(ours, theirs, METRICS[metric], resamples=RESAMPLES, seed=seed)
            drawn = widen_difference(drawn, factor)
            found, p_delong = drawn, np.nan
            if metric == "auroc" and len(ours[0].class_names) == 2 and level == "subject":
                found = widen_difference(delong_difference(ours, theirs, 1), factor)
                p_delong = found.p
            method = "DeLong" if found is not drawn else "percentile bootstrap"
            tests.append(
                DeclaredTest(
                    first=names[0],
                    second=other,
                    level="slice" if level == "slice" else "subject",
                    task=task,
                    metric=metric,
                    values=(values[0], values[1]),
                    difference=Estimate(found.value, found.low, found.high, method=f"paired {method}, widened"),
                    p_bootstrap=drawn.p,
                    p_delong=p_delong,
                    adjusted=np.nan,
                )
            )
    p_values = [one.p_bootstrap if np.isnan(one.p_delong) else one.p_delong for one in tests]
    adjusted = holm(np.nan_to_num(p_values, nan=1.0))
    tests = [one.model_copy(update={"adjusted": float(p)}) for one, p in zip(tests, adjusted, strict=True)]
    return CrossvalComparison(tests=tests, widened_by=factor)
