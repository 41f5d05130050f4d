"""What a run is asked: of slices or subjects, in which classes; and all that can be measured of the answer."""

from dataclasses import dataclass
from typing import Any

from mriscope.errors import DataError, RunError, UnknownName
from mriscope.evaluation.calibration import calibration_summary
from mriscope.evaluation.delong import delong_interval
from mriscope.evaluation.intervals import bootstrap, plain, summary
from mriscope.evaluation.metrics import severity_error
from mriscope.evaluation.pooling import POOLINGS, check_subjects, choose_pooling, divided_labels, pool_by_subject
from mriscope.evaluation.predictions import Predictions
from mriscope.evaluation.tasks import TASKS, to_task

LEVELS = ("slice", "subject")
CHOSEN = "chosen"
"""The way of pooling that is chosen on the validation part."""


@dataclass(frozen=True)
class Question:
    """What is judged of a run; checks itself.

    Args:
        level: "slice" or "subject".
        task: a name in mriscope.evaluation.tasks; None for the classes as they are.
        pooling: for subjects, a name in mriscope.evaluation.pooling, or "chosen", which None is too.

    Raises:
        UnknownName: there is no such level, task or way of pooling.
        RunError: slices are asked of, and a way of pooling is named.
    """

    level: str = "slice"
    task: str | None = None
    pooling: str | None = None

    def __post_init__(self) -> None:
        for kind, name, known in (
            ("level", self.level, LEVELS),
            ("task", self.task, TASKS),
            ("way of pooling", self.pooling, (*POOLINGS, CHOSEN)),
        ):
            if name is not None and name not in known:
                raise UnknownName(kind, name, known)
        if self.level == "slice" and self.pooling is not None:
            raise RunError(f"--pooling {self.pooling} goes with --level subject: slices are not pooled")

    @property
    def chooses(self) -> bool:
        """Whether the way of pooling is to be chosen."""
        return self.pooling in (None, CHOSEN)


@dataclass(frozen=True)
class Answer:
    """Predictions as a question asks for them.

    Attributes:
        slices: of each slice, in the classes of the task.
        judged: the same, or a row for each subject.
        validation: the validation part as `judged`, for a temperature; None where there is none.
        pooling: how slices were pooled; None where they were not.
    """

    slices: Predictions
    judged: Predictions
    validation: Predictions | None
    pooling: str | None


def answer(question: Question, predictions: Predictions, validation: Predictions | None) -> Answer:
    """Predictions of slices as a question asks for them: classes are joined first, and slices pooled then.

    Args:
        question: what is asked.
        predictions: of the slices that are judged.
        validation: of slices that neither trained the model nor are judged; None or empty where there are none.

    Raises:
        DataError: subjects are asked of and a slice's subject is unknown; the way of pooling is to be chosen and there
            is nothing to choose it on; or a task is asked of that the classes do not fit.
    """
    held = validation if validation is not None and len(validation) else None
    if question.task is not None:
        predictions = to_task(predictions, question.task)
        held = None if held is None else to_task(held, question.task)
    if question.level == "slice":
        return Answer(predictions, predictions, held, None)
    check_subjects(predictions)
    pooled = None if held is None or not held.knows_subjects else held
    how = _chosen(pooled) if question.chooses else str(question.pooling)
    judged = pool_by_subject(predictions, how)
    return Answer(predictions, judged, None if pooled is None else pool_by_subject(pooled, how), how)


def _chosen(validation: Predictions | None) -> str:
    if validation is None:
        raise DataError(
            "there is no validation part with known subjects, besides what is judged, to choose the way of pooling on; "
            f"name it with --pooling: {', '.join(POOLINGS)}"
        )
    return choose_pooling(validation)


def judgement(question: Question, given: Answer, *, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Every figure of an answer with its interval, ready for JSON: what does not exist is None.

    Beside what mriscope.evaluation.intervals.summary gives: level, task and pooling, the error in steps of severity
    where there are more than two classes, calibration before and after a temperature, and for subjects the AUROC of
    each class with DeLong's interval. `n_slices` counts slices at either level.
    """
    judged = given.judged
    figures = summary(judged, resamples=resamples, seed=seed)
    if question.level == "subject":
        figures["n_slices"] = len(given.slices)
        for row, name in enumerate(judged.class_names):
            figures["classes"][name]["n_slices"] = int((given.slices.labels == row).sum())
            figures["classes"][name]["auroc_delong"] = plain(delong_interval(judged, row))
    pooling = {
        "how": given.pooling,
        "chosen": question.chooses,
        "divided_subjects": divided_labels(given.slices),
    }
    ordinal = bootstrap(judged, {"severity_error": severity_error}, resamples=resamples, seed=seed)
    return {
        "level": question.level,
        "task": question.task,
        "pooling": pooling if given.pooling else None,
        **figures,
        "severity": {name: plain(one) for name, one in ordinal.items()} if len(judged.class_names) > 2 else None,
        "calibration": calibration_summary(judged, given.validation, resamples=resamples, seed=seed),
    }
