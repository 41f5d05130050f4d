"""Score predictions: of slices or of subjects, in the classes of a task, every metric with its interval."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from mriscope.choices import Level, PoolingChoice
from mriscope.errors import DataError, RunError, UnknownNameError
from mriscope.evaluation.calibration import calibration_summary
from mriscope.evaluation.intervals import (
    FEW_NOTE,
    SLICE_NOTE,
    bootstrap,
    bootstrap_classes,
    interval_unit,
    unit_numbers,
)
from mriscope.evaluation.metrics import (
    HEADLINE,
    applicable,
    confusion_matrix,
    severity_error,
)
from mriscope.evaluation.pooling import POOLINGS, check_subjects, choose_pooling, divided_labels, pool_by_subject
from mriscope.evaluation.predictions import Predictions
from mriscope.evaluation.tasks import TASKS, to_task
from mriscope.results import ClassMetrics, Estimate, Interval, Pooling, Scores

CHOSEN = "chosen"
"""The way of pooling that is chosen on the validation part."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What to evaluate of a run; checks itself.

    Args:
        level: "slice" or "subject".
        task: a name in mriscope.evaluation.tasks; None for the classes as they are.
        pooling: for subjects, a name in mriscope.evaluation.pooling, or "chosen", which None is too.

    Raises:
        UnknownNameError: there is no such level, task or way of pooling.
        RunError: slices are to be evaluated, and a way of pooling is named.
    """

    level: str = "slice"
    task: str | None = None
    pooling: str | None = None

    def __post_init__(self) -> None:
        for kind, name, known in (
            ("level", self.level, get_args(Level)),
            ("task", self.task, TASKS),
            ("way of pooling", self.pooling, get_args(PoolingChoice)),
        ):
            if name is not None and name not in known:
                raise UnknownNameError(kind, name, known)
        if self.level == "slice" and self.pooling is not None:
            raise RunError(f"--pooling {self.pooling} goes with --level subject: slices are not pooled")

    @property
    def chooses_pooling(self) -> bool:
        """Tell whether the way of pooling is to be chosen."""
        return self.pooling in (None, CHOSEN)


@dataclass(frozen=True)
class Aggregated:
    """Predictions in the classes and at the level of an evaluation.

    Attributes:
        slices: of each slice, in the classes of the task.
        rows: the same, or a row for each subject; they are scored.
        validation: the validation part as `rows`, for a temperature; None where there is none.
        pooling: how slices were pooled; None where they were not.
    """

    slices: Predictions
    rows: Predictions
    validation: Predictions | None
    pooling: str | None


def aggregate(config: EvaluationConfig, predictions: Predictions, validation: Predictions | None) -> Aggregated:
    """Bring predictions of slices to the task and level of an evaluation: join classes first, then pool slices.

    Args:
        config: task, level and pooling.
        predictions: of the slices that are evaluated.
        validation: of slices that neither trained the model nor are evaluated; None or empty where there are none.

    Raises:
        DataError: subjects are to be evaluated and a slice's subject is unknown; the way of pooling is to be chosen and
            there is nothing to choose it on; or the classes do not fit the task.
    """
    held = validation if validation is not None and len(validation) else None
    if config.task is not None:
        predictions = to_task(predictions, config.task)
        held = None if held is None else to_task(held, config.task)
    if config.level == "slice":
        return Aggregated(predictions, predictions, held, None)
    check_subjects(predictions)
    pooled = None if held is None or not held.knows_subjects else held
    how = str(config.pooling)
    if config.chooses_pooling:
        if pooled is None:
            raise DataError(
                "there is no validation part with known subjects, besides what is evaluated, to choose the way of "
                f"pooling on; name it with --pooling: {', '.join(POOLINGS)}"
            )
        how = choose_pooling(pooled)
    rows = pool_by_subject(predictions, how)
    return Aggregated(predictions, rows, None if pooled is None else pool_by_subject(pooled, how), how)


def evaluate(config: EvaluationConfig, aggregated: Aggregated, *, resamples: int = 2000, seed: int = 0) -> Scores:
    """Compute every metric of an evaluation with its interval.

    Beside what `score` gives: level, task and pooling, the error in steps of severity where there are more than two
    classes of known order, and calibration before and after a temperature. `n_slices` counts slices at either level.

    Args:
        config: what was aggregated by.
        aggregated: the predictions.
        resamples: of the bootstrap.
        seed: of the same.
    """
    rows, slices = aggregated.rows, aggregated.slices
    scores = score(rows, resamples=resamples, seed=seed)
    found = {}
    if aggregated.pooling is not None:
        found["level"] = "subject"
        found["pooling"] = Pooling(
            how=aggregated.pooling, chosen=config.chooses_pooling, divided_subjects=divided_labels(slices)
        )
        found["n_slices"] = len(slices)
        found["classes"] = {
            name: one.model_copy(update={"n_slices": int((slices.labels == row).sum())})
            for row, (name, one) in enumerate(scores.classes.items())
        }
    if len(rows.class_names) > 2 and rows.severity_ranks is not None:
        found["severity"] = bootstrap(rows, {"severity_error": severity_error}, resamples=resamples, seed=seed)
    calibration = calibration_summary(rows, aggregated.validation, resamples=resamples, seed=seed)
    return scores.model_copy(update={"task": config.task, "calibration": calibration, **found})


def score(predictions: Predictions, *, resamples: int = 2000, seed: int = 0) -> Scores:
    """Compute every metric with its interval, overall and for each class, of predictions as they are.

    Metrics of steps are left out, and `omitted` says why, where the order of the classes by severity is not known.
    """
    level = 0.95
    headline = bootstrap(predictions, applicable(HEADLINE, predictions), resamples=resamples, level=level, seed=seed)
    by_class = bootstrap_classes(predictions, resamples=resamples, level=level, seed=seed)
    every = [*headline.values(), *(one for found in by_class.values() for one in found.values())]
    knows_subjects = predictions.knows_subjects
    return Scores(
        n_slices=len(predictions),
        n_subjects=predictions.n_subjects if knows_subjects else None,
        interval=Interval(
            level=level,
            unit=interval_unit(predictions),
            resamples=resamples,
            note="; ".join(_interval_notes(predictions, every)) or None,
        ),
        metrics=headline,
        omitted=reason_omitted(predictions),
        classes={
            class_name: ClassMetrics(
                n_slices=int((predictions.labels == row).sum()),
                n_subjects=len(np.unique(predictions.subjects[predictions.labels == row])) if knows_subjects else None,
                **by_class[class_name],
            )
            for row, class_name in enumerate(predictions.class_names)
        },
        confusion_matrix=confusion_matrix(predictions).tolist(),
    )


def reason_omitted(predictions: Predictions) -> str | None:
    """Say which metrics do not apply to some predictions, and why; None where all do."""
    if predictions.severity_ranks is not None:
        return None
    return (
        "quadratic kappa and the error in steps of severity are left out, as nothing says how "
        f"{', '.join(predictions.class_names)} rise in severity; name them in the recipe from the least to the most "
        "severe, as in severity: [CN, MCI, AD]"
    )


def _interval_notes(predictions: Predictions, estimates: Sequence[Estimate]) -> Iterator[str]:
    """Say what a reader should know of the intervals."""
    unit, units = interval_unit(predictions), unit_numbers(predictions)
    if unit == "slice":
        yield SLICE_NOTE
    elif not all(one.reliable for one in estimates if one.is_defined):
        yield FEW_NOTE
    for label in np.unique(predictions.labels):
        if len(np.unique(units[predictions.labels == label])) == 1:
            name = predictions.class_names[label]
            yield f"{name} is one {unit} only, so intervals cannot show how such ones differ"
