"""Summarize the folds of a cross-validation: metrics on the pooled folds, averaged over repeats."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mriscope.data.slices import CLASS_NAMES
from mriscope.errors import RunError
from mriscope.evaluation.baselines import score_baselines
from mriscope.evaluation.confounding import confounding_of
from mriscope.evaluation.intervals import SLICE_NOTE, bootstrap, bootstrap_repeats, interval_unit
from mriscope.evaluation.metrics import HEADLINE, Metric, applicable, severity_error
from mriscope.evaluation.pooling import choose_pooling, pool_by_subject
from mriscope.evaluation.predictions import Predictions, join
from mriscope.evaluation.scoring import reason_omitted
from mriscope.evaluation.tasks import TASKS, to_task
from mriscope.results import (
    BaselineScores,
    Confounding,
    CrossValidation,
    Estimate,
    FoldBaselines,
    FoldResult,
    Interval,
    Metrics,
)

OWN_CLASSES = "own_classes"
"""The task of data whose classes are not the field's four."""
METRICS: dict[str, Metric] = {**HEADLINE, "severity_error": severity_error}
RESAMPLES, LEVEL = 2000, 0.95
WIDENED_BY, WIDENED_BY_OF_REPEATS = 1.25, 1.4
"""How much wider the interval of expected performance is than that of these models, for one repeat and for several.

Resampled test subjects do not show how training sets differ, and repeats narrow the print and not the truth
(Nadeau and Bengio, 2003). Measured by `benchmarks/coverage.py --part crossval`; see docs/method.md.
"""
EXPECTED = "expected performance on new subjects, over training sets of this size"
SUBJECT_PROTOCOL = "by_subject"
"""The protocol that has each subject in one test part, so that subjects can be evaluated too."""


@dataclass(frozen=True)
class Fold:
    """One fold's finished run.

    Attributes:
        repeat: which division into folds, from 0.
        fold: which of its folds, from 0.
        name: where the run is, for messages.
        metrics: what its metrics.json holds.
        predictions: of its validation and test part.
        baselines: those of each baseline, by name.
    """

    repeat: int
    fold: int
    name: str
    metrics: Metrics
    predictions: Predictions
    baselines: Mapping[str, Predictions] = field(default_factory=dict)

    def select(self, part: str, task: str) -> Predictions:
        """Return the predictions of one part, in the classes of a task."""
        return _in_task(self.predictions.of_part(part), task)

    def select_baseline(self, name: str, task: str) -> Predictions:
        """Return the test slices of a baseline, in the classes of a task."""
        return _in_task(self.baselines[name].of_part("test"), task)

    def restrict(self, chosen: Callable[[np.ndarray], np.ndarray]) -> "Fold":
        """Return the fold with some of its test slices; its validation part stays, as it chooses the way of pooling.

        Args:
            chosen: from paths, str (N,), to bool (N,).
        """

        def select(rows: Predictions) -> Predictions:
            return rows.select((rows.parts != "test") | chosen(rows.paths))

        rows = select(self.predictions)
        tested = rows.of_part("test")
        metrics = self.metrics.model_copy(
            update={
                "n_slices": len(tested),
                "n_subjects": tested.n_subjects if tested.knows_subjects else None,
                "metrics": bootstrap(tested, applicable(METRICS, tested), resamples=RESAMPLES // 4)
                if len(tested)
                else {},
            }
        )
        baselines = {name: select(one) for name, one in self.baselines.items()}
        return replace(self, metrics=metrics, predictions=rows, baselines=baselines)


def summarize_folds(
    done: Sequence[Fold],
    *,
    model: str,
    protocol: str,
    folds: int,
    seed: int,
    covariates: Callable[[np.ndarray], Mapping[str, np.ndarray]] | None = None,
) -> CrossValidation:
    """Summarize all folds of all repeats.

    Metrics are computed on the pooled folds of each repeat and averaged over repeats. Intervals are over subjects
    (slices, where they are unknown), the same in all repeats, and widened to cover the expected performance. Subjects
    are evaluated where each is in one test part, which is where they were split; each fold pools as suits its
    validation part.

    Args:
        done: every fold of every repeat.
        model: its name.
        protocol: by_subject or by_slice.
        folds: how many a repeat has.
        seed: that drew the folds.
        covariates: of slices, from their paths; None where none are known.

    Raises:
        RunError: the folds were trained on different data, or a slice is in two test parts of one repeat.
    """
    repeats = [join([one.select("test", OWN_CLASSES) for one in group]) for group in _group_by_repeat(done)]
    _check_whole(done, repeats)
    first = repeats[0]
    tasks = list(TASKS) if set(first.class_names) == set(CLASS_NAMES) else [OWN_CLASSES]
    pooled = {task: [_pool_fold(one, task) for one in done] for task in tasks} if protocol == SUBJECT_PROTOCOL else {}
    unit, leaky = interval_unit(first), {one.metrics.leaky for one in done}
    return CrossValidation(
        model=model,
        protocol=protocol,
        folds=folds,
        repeats=len(repeats),
        seed=seed,
        leaky=True if True in leaky else None if None in leaky else False,
        data=done[0].metrics.data or "unknown",
        n_slices=len(first),
        n_subjects=first.n_subjects if first.knows_subjects else None,
        interval=Interval(
            level=LEVEL,
            unit=unit,
            resamples=RESAMPLES,
            note=SLICE_NOTE if unit == "slice" else None,
            widened_by=widening(len(repeats)),
            covers=EXPECTED,
        ),
        omitted=reason_omitted(first),
        slice={task: _pool_folds(done, [one.select("test", task) for one in done]) for task in tasks},
        subject={task: _pool_folds(done, [rows for _, rows in found]) for task, found in pooled.items()} or None,
        baselines=_score_baselines(done, tasks, pooled),
        confounding=[] if covariates is None else _confounding(done, tasks, pooled, covariates(first.paths)),
        training_seconds=sum(one.metrics.training.seconds for one in done if one.metrics.training is not None),
        by_fold=[_summarize_fold(one, {task: pooled[task][row] for task in pooled}) for row, one in enumerate(done)],
    )


def _group_by_repeat(done: Sequence[Fold]) -> list[list[Fold]]:
    return [[one for one in done if one.repeat == repeat] for repeat in sorted({one.repeat for one in done})]


def _check_whole(done: Sequence[Fold], repeats: Sequence[Predictions]) -> None:
    """Refuse folds of different data, and repeats whose test parts do not hold every slice once."""
    for one in done:
        if one.metrics.data != done[0].metrics.data:
            raise RunError(
                f"{one.name} was trained on other data than {done[0].name}; remove the folder of the one that is "
                "wrong, and give the command again"
            )
    for number, repeat in enumerate(repeats):
        if len(set(repeat.paths.tolist())) < len(repeat) or len(repeat) != len(repeats[0]):
            raise RunError(
                f"the test parts of repeat {number} do not hold every slice once; remove the folders of its folds, and "
                "give the command again"
            )


def _pool_fold(one: Fold, task: str) -> tuple[str, Predictions]:
    """Choose how a fold pools, by its validation part, and pool its test slices by subject."""
    how = choose_pooling(one.select("validation", task))
    return how, pool_by_subject(one.select("test", task), how)


def _in_task(predictions: Predictions, task: str) -> Predictions:
    return predictions if task == OWN_CLASSES else to_task(predictions, task)


def _join_repeats(done: Sequence[Fold], rows: Sequence[Predictions]) -> list[Predictions]:
    """Join the rows of every fold to those of every repeat."""
    row_of = {id(one): place for place, one in enumerate(done)}
    return [join([rows[row_of[id(one)]] for one in group]) for group in _group_by_repeat(done)]


def _score_baselines(
    done: Sequence[Fold], tasks: Sequence[str], pooled: Mapping[str, Sequence[tuple[str, Predictions]]]
) -> FoldBaselines | None:
    """Score the baselines that every fold has; of slices without intervals where subjects are scored too."""
    names = [name for name in done[0].baselines if all(name in one.baselines for one in done)]
    if not names:
        return None
    by_slice: dict[str, dict[str, BaselineScores]] = {}
    by_subject: dict[str, dict[str, BaselineScores]] = {}
    factor = widening(len(_group_by_repeat(done)))
    for task in tasks:
        rows = {name: [one.select_baseline(name, task) for one in done] for name in names}
        model = _join_repeats(done, [one.select("test", task) for one in done])
        joined = {name: _join_repeats(done, some) for name, some in rows.items()}
        by_slice[task] = score_baselines(model, joined, resamples=0 if pooled else RESAMPLES // 4, widen_by=factor)
        if pooled:
            means = {name: [pool_by_subject(one, "mean_probability") for one in some] for name, some in rows.items()}
            joined = {name: _join_repeats(done, some) for name, some in means.items()}
            model = _join_repeats(done, [one for _, one in pooled[task]])
            by_subject[task] = score_baselines(model, joined, widen_by=factor)
    return FoldBaselines(slice=by_slice, subject=by_subject or None)


def _confounding(
    done: Sequence[Fold],
    tasks: Sequence[str],
    pooled: Mapping[str, Sequence[tuple[str, Predictions]]],
    covariates: Mapping[str, np.ndarray],
) -> list[Confounding]:
    """Compute what is left beside covariates, of the task of two classes where there is one."""
    task = tasks[-1]
    slices = _join_repeats(done, [one.select("test", task) for one in done])
    rows = _join_repeats(done, [one for _, one in pooled[task]]) if pooled else slices
    return confounding_of(rows, slices[0], covariates, widen_by=widening(len(rows)))


def _pool_folds(done: Sequence[Fold], rows: Sequence[Predictions]) -> dict[str, Estimate]:
    """Compute every metric over the repeats, from the rows of every fold, with widened intervals."""
    repeats = _join_repeats(done, rows)
    metrics, factor = applicable(METRICS, repeats[0]), widening(len(repeats))
    return bootstrap_repeats(repeats, metrics, resamples=RESAMPLES, level=LEVEL, widen_by=factor)


def widening(repeats: int) -> float:
    """Return the factor by which the intervals of a cross-validation are widened."""
    return WIDENED_BY if repeats == 1 else WIDENED_BY_OF_REPEATS


def pool_repeats(done: Sequence[Fold], task: str, level: str) -> list[Predictions]:
    """Join the test parts of the folds of each repeat, of slices, or of subjects as each fold pools them."""
    return _join_repeats(
        done, [one.select("test", task) if level == "slice" else _pool_fold(one, task)[1] for one in done]
    )


def _summarize_fold(one: Fold, pooled: Mapping[str, tuple[str, Predictions]]) -> FoldResult:
    return FoldResult(
        repeat=one.repeat,
        fold=one.fold,
        n_slices=one.metrics.n_slices,
        n_subjects=one.metrics.n_subjects,
        slice=one.metrics.metrics,
        subject={
            task: bootstrap(rows, applicable(METRICS, rows), resamples=RESAMPLES // 4)
            for task, (_, rows) in pooled.items()
        },
        pooling={task: how for task, (how, _) in pooled.items()},
    )
