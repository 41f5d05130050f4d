"""Evaluate a run, on its own test part or on another source."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from mriscope.data.manifest import subjects_of
from mriscope.data.slices import SliceSet, number_subjects, slice_digests
from mriscope.data.where import Condition
from mriscope.errors import ArgumentError, DataError, RunError
from mriscope.evaluation.confounding import confounding_of
from mriscope.evaluation.inference import predict
from mriscope.evaluation.predictions import Predictions, write_predictions
from mriscope.evaluation.scoring import Aggregated, EvaluationConfig, aggregate, evaluate
from mriscope.output_folder import OutputFolder, written_with
from mriscope.reports.figures import draw_evaluation
from mriscope.results import IMPORTED, Confounding, Metrics
from mriscope.run_directory import BAD_ROWS, FIGURES, METRICS, PREDICTIONS, RECIPE, RunDirectory, open_run
from mriscope.training.devices import pick_device
from mriscope.workflows._baselines import find_baselines, predict_other, score_beside
from mriscope.workflows._covariates import Known, know, know_own
from mriscope.workflows._load import check_bad_rows_place, load
from mriscope.workflows._model import load_network

FILES = (PREDICTIONS, f"{FIGURES}/confusion.png", f"{FIGURES}/roc.png", METRICS)
RELIABILITY = f"{FIGURES}/reliability.png"
_UNKNOWN_PAST = "the weights were imported, so slices of this source may have trained them, which flatters the metrics"


def evaluate_run(
    folder: str | Path,
    *,
    part: str | None = None,
    source: str | None = None,
    manifest: str | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    skip_bad: bool = False,
    level: str = "slice",
    task: str | None = None,
    pooling: str | None = None,
    covariates: str | None = None,
    where: str | None = None,
) -> Metrics:
    """Evaluate a run with every metric and its interval.

    The temperature of its calibration, and the way of pooling where none is named, come from the run's own validation
    part, and from nothing that is evaluated: a run that is evaluated on its validation part has neither.

    Args:
        folder: the run.
        part: test or validation, None is test; of another source, all slices are evaluated.
        source: another source than the run's own; None evaluates the predictions the run kept.
        manifest: a CSV file that gives the slices their subjects: those of the source, or all of the run's own.
        out: folder that gets metrics.json, predictions.parquet and figures; None writes nothing.
        device: auto, cpu or cuda.
        skip_bad: leave unusable rows out where they would be an error.
        level: "slice", or "subject" to pool each subject's slices into one prediction.
        task: "four_classes", "three_classes" or "non_vs_demented"; None for the run's own classes.
        pooling: "mean_probability", "mean_logit", "majority", or "chosen", which None is too; for subjects alone.
        covariates: a CSV file of what is known of slices or subjects, such as age, beside what the source brings.
        where: a condition such as "age >= 60"; only slices that it is true of are evaluated.

    Raises:
        UnknownNameError: there is no such part, level, task or way of pooling.
        RunError: no finished run, options that do not go together, or a source with slices the run was trained on.
        DataError: the source cannot be read or has other classes, or subjects are unknown and needed.
        ArgumentError: the condition cannot be read, names no column, or is true of no slice.
        WriteError: a file cannot be written, or one of its name is in `out` that mriscope did not write.
    """
    condition = None if where is None else Condition(where)
    config = EvaluationConfig(level, task, pooling)
    directory = open_run(folder)
    if out is not None:
        _check_output(out)
    if source is None:
        if skip_bad:
            raise RunError(
                "--skip-bad goes with --data: the run's own predictions are evaluated without reading slices"
            )
        part, protocol = part or "test", directory.protocol
        predictions = _read_part(directory, part, manifest)
        known = know_own(directory, covariates, condition)
        beside = {name: _own(one.of_part(part), manifest) for name, one in find_baselines(directory).items()}
    elif part is not None:
        raise RunError(f"all of {source} is evaluated, whatever the part; leave out --part or --data")
    else:
        protocol = IMPORTED if directory.imported else "external"
        predictions, slices = _predict_all(directory, source, manifest, device, skip_bad)
        part, beside = "whole", predict_other(directory, slices)
        known = know(slices, covariates, condition)
    validation = None  # none where it is what is evaluated, or the run has no predictions of its own
    if not directory.imported and part != "validation":
        validation = _read_part(directory, "validation", manifest if source is None else None)
    if known is not None and condition is not None:
        chosen = known.chosen[known.rows_of(predictions.paths)]
        if not chosen.any():
            raise ArgumentError(f"--where {condition.text!r} is true of none of the {len(chosen):,} slices evaluated")
        predictions = predictions.select(chosen)
        beside = {name: one.select(chosen) for name, one in beside.items()}
    aggregated = aggregate(config, predictions, validation)
    scores = evaluate(config, aggregated, seed=directory.recipe.seed)
    scores = scores.model_copy(
        update={
            "baselines": score_beside(config, aggregated.rows, beside, directory.recipe.seed),
            "where": None if condition is None else condition.text,
            "confounding": _confounding(aggregated, known, directory.recipe.seed),
        }
    )
    if directory.imported:
        note = "; ".join(filter(None, (scores.interval.note, _UNKNOWN_PAST)))
        scores = scores.model_copy(update={"interval": scores.interval.model_copy(update={"note": note})})
    leaky, shared = _count_shared(directory, part, manifest)
    metrics = Metrics(
        protocol=protocol,
        part=part,
        leaky=leaky,
        shared_subjects=shared,
        **dict(scores),
        model=directory.recipe.model,
    )
    if out is not None:
        written = FILES if metrics.calibration is None else (*FILES, RELIABILITY)
        with _output(out).writing(written) as place:
            write_predictions(aggregated.rows, place / PREDICTIONS)
            draw_evaluation(place / FIGURES, aggregated.rows, metrics)
            metrics.write(place / METRICS)
    return metrics


def _confounding(aggregated: Aggregated, known: Known | None, seed: int) -> list[Confounding]:
    if known is None:
        return []
    covariates = known.covariates_of(aggregated.slices.paths)
    return confounding_of([aggregated.rows], aggregated.slices, covariates, seed=seed)


def _read_part(directory: RunDirectory, part: str, manifest: str | None) -> Predictions:
    """Read the run's own predictions of a part, their subjects those of a manifest where one is named."""
    return _own(directory.predictions().of_part(part), manifest)


def _own(predictions: Predictions, manifest: str | None) -> Predictions:
    """Return predictions with the subjects of a manifest, where one is named."""
    if manifest is None:
        return predictions
    labels = [predictions.class_names[label] for label in predictions.labels]
    subjects, ids = number_subjects(subjects_of(predictions.paths.tolist(), labels, manifest).tolist())
    return replace(predictions, subjects=subjects, subject_ids=ids)


def _count_shared(directory: RunDirectory, part: str, manifest: str | None) -> tuple[bool | None, int | None]:
    """Count the subjects that the test part shares with training; subjects of a manifest may not be the run's own.

    Returns:
        whether there are any, and how many; None where that is unknown or another part is evaluated.
    """
    if part != "test":
        return None, None
    if manifest is None:
        own = directory.metrics()
        return own.leaky, own.shared_subjects
    parts = directory.parts()
    seen = subjects_of([*parts.train, *parts.validation], (), manifest)
    tested = subjects_of(parts.test, (), manifest)
    if "" in seen or "" in tested:
        return None, None
    shared = len(np.intersect1d(seen, tested))
    return shared > 0, shared


def _output(out: str | Path) -> OutputFolder:
    """Return the folder of an evaluation; metrics.json shows which files there an older version wrote."""
    earlier = written_with(METRICS, Metrics.read, (*FILES, RELIABILITY))
    return OutputFolder(Path(out), "evaluate", earlier)


def _check_output(out: str | Path) -> None:
    if (Path(out) / RECIPE).exists():
        raise RunError(f"{out} is a run directory, which keeps its own metrics; name another folder with --out")
    _output(out).check((*FILES, RELIABILITY))


def _predict_all(
    directory: RunDirectory, source: str, manifest: str | None, device: str, skip_bad: bool
) -> tuple[Predictions, SliceSet]:
    """Predict all slices of a source that the run has not seen."""
    if skip_bad:
        check_bad_rows_place(BAD_ROWS)
    model, class_names = load_network(directory, pick_device(device))
    recipe = directory.recipe.model_copy(update={"manifest": manifest})  # the recipe's own is of its own data
    loaded = load(source, recipe=recipe, skip_bad=skip_bad)
    slices = loaded.slices
    loaded.report_bad_rows()
    seen = int(np.isin(slice_digests(slices.images), directory.seen_slices()).sum())
    if seen:
        raise RunError(
            f"{seen:,} of the {len(slices):,} slices of {source} were in this run's training or validation part; "
            "evaluate it on slices it has not seen, or leave --data out to evaluate its own test part"
        )
    if slices.class_names != class_names:
        raise DataError(
            f"{source} has the classes {', '.join(slices.class_names)}; the run knows {', '.join(class_names)}"
        )
    return predict(model, slices, directory.recipe.input.scale, "test", severity=recipe.severity), slices
