"""Judge a run, and ask it about images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mriscope.data.images import read_images
from mriscope.data.manifest import subjects_of
from mriscope.data.readers import report_bad_rows
from mriscope.data.slices import UNKNOWN, slice_digests
from mriscope.errors import DataError, RunError
from mriscope.evaluation.inference import predict, predict_probabilities
from mriscope.evaluation.levels import Question, answer, judgement
from mriscope.evaluation.predictions import Predictions, write_predictions
from mriscope.experiment.figures import draw_evaluation
from mriscope.experiment.parts import load_model, read_for
from mriscope.experiment.splitting import sharing
from mriscope.run_directory import BAD_ROWS, IMPORTED, METRICS, PREDICTIONS, RECIPE, RunDirectory, open_run
from mriscope.training.devices import pick_device

_UNKNOWN_PAST = "the weights were imported, so slices of this source may have trained them, which flatters the figures"


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
) -> dict[str, Any]:
    """Judge a run with every metric and its interval.

    The temperature of its calibration, and the way of pooling where none is named, come from the run's own validation
    part, and from nothing that is judged: a run that is judged on its validation part has neither.

    Args:
        folder: the run.
        part: test or validation, None is test; of another source, all slices are judged.
        source: another source than the run's own; None judges the predictions the run kept.
        manifest: a CSV file that gives the slices their subjects: those of the source, or all of the run's own.
        out: folder that gets metrics.json, predictions.parquet and figures; None writes nothing.
        device: auto, cpu or cuda.
        skip_bad: leave unusable rows out where they would be an error.
        level: "slice", or "subject" to pool each subject's slices into one answer.
        task: "four_classes", "three_classes" or "non_vs_demented"; None for the run's own classes.
        pooling: "mean_probability", "mean_logit", "majority", or "chosen", which None is too; for subjects alone.

    Raises:
        UnknownName: there is no such part, level, task or way of pooling.
        RunError: no finished run, options that do not go together, or a source with slices the run was trained on.
        DataError: the source cannot be read or has other classes, or subjects are unknown and needed.
    """
    question = Question(level, task, pooling)
    directory = open_run(folder)
    own = directory.metrics()
    if source is None:
        if skip_bad:
            raise RunError("--skip-bad goes with --data: the run's own predictions are judged without reading slices")
        part, protocol = part or "test", own["protocol"]
        predictions = _kept(directory, part, manifest)
    elif part is not None:
        raise RunError(f"all of {source} is judged, whatever the part; leave out --part or --data")
    else:
        protocol = IMPORTED if directory.imported else "external"
        predictions, part = _ask(directory, source, manifest, device, skip_bad), "whole"
    given = answer(question, predictions, _validation(directory, part, manifest if source is None else None))
    metrics = {
        "protocol": protocol,
        "part": part,
        **_sharing(directory, own, part, manifest),
        **judgement(question, given, seed=directory.recipe.seed),
        "model": own["model"],
    }
    if directory.imported:
        metrics["interval"]["note"] = "; ".join(filter(None, (metrics["interval"]["note"], _UNKNOWN_PAST)))
    if out is not None:
        _write(RunDirectory(Path(out)), given.judged, metrics)
    return metrics


def _kept(directory: RunDirectory, part: str, manifest: str | None) -> Predictions:
    """The run's own predictions of a part, their subjects those of a manifest where one is named."""
    predictions = directory.predictions().of_part(part)
    if manifest is None:
        return predictions
    labels = [predictions.class_names[label] for label in predictions.labels]
    return replace(predictions, subjects=subjects_of(predictions.paths.tolist(), labels, manifest))


def _validation(directory: RunDirectory, judged_part: str, manifest: str | None) -> Predictions | None:
    """The run's own validation part, unless it is what is judged or the run has no predictions of its own."""
    if directory.imported or judged_part == "validation":
        return None
    return _kept(directory, "validation", manifest)


def _sharing(directory: RunDirectory, own: Mapping[str, Any], part: str, manifest: str | None) -> dict[str, Any]:
    """What the run's test part shares with what trained it; other subjects may share what the run's own do not."""
    if part != "test":
        return {"leaky": None, "shared_subjects": None}
    if manifest is None:
        return {"leaky": own["leaky"], "shared_subjects": own.get("shared_subjects")}
    parts = directory.parts()
    seen = subjects_of([*parts["train"], *parts["validation"]], (), manifest)
    tested = subjects_of(parts["test"], (), manifest)
    unknown = UNKNOWN in seen or UNKNOWN in tested
    return sharing(None if unknown else len(np.intersect1d(seen, tested)))


def _write(judged: RunDirectory, predictions: Predictions, metrics: dict[str, Any]) -> None:
    if (judged.path / RECIPE).exists():
        raise RunError(f"{judged.path} is a run directory, which keeps its own figures; name another folder with --out")
    write_predictions(predictions, judged.path / PREDICTIONS)
    draw_evaluation(judged, predictions, metrics)
    judged.write_json(METRICS, metrics)


def _ask(directory: RunDirectory, source: str, manifest: str | None, device: str, skip_bad: bool) -> Predictions:
    """A run's predictions for all slices of a source it has not seen."""
    model, class_names = load_model(directory, pick_device(device))
    recipe = directory.recipe.model_copy(update={"manifest": manifest})  # the recipe's own is of its own data
    reading = read_for(recipe, source, skip_bad=skip_bad)
    slices = reading.slices
    report_bad_rows(source, reading, BAD_ROWS)
    seen = int(np.isin(slice_digests(slices.images), directory.seen_slices()).sum())
    if seen:
        raise RunError(
            f"{seen:,} of the {len(slices):,} slices of {source} were in this run's training or validation part; "
            "judge it on slices it has not seen, or leave --data out to judge its own test part"
        )
    if slices.class_names != class_names:
        raise DataError(
            f"{source} has the classes {', '.join(slices.class_names)}; the run knows {', '.join(class_names)}"
        )
    return predict(model, slices, directory.recipe.input.scale, "test")


def predict_images(folder: str | Path, images: Sequence[str | Path], *, device: str = "auto") -> list[dict[str, Any]]:
    """Ask a run about images.

    Args:
        folder: the run.
        images: JPEG or PNG files, or folders of them.
        device: auto, cpu or cuda.

    Returns:
        for each image its path, its class and the probability of each class.

    Raises:
        RunError: no finished run.
        DataError: files that hold no image; every one is listed.
    """
    directory = open_run(folder)
    asked = read_images(images, directory.recipe.input.size)
    model, class_names = load_model(directory, pick_device(device))
    probabilities = predict_probabilities(model, asked.images, directory.recipe.input.scale)
    return [
        {
            "path": path,
            "class": class_names[int(row.argmax())],
            "probabilities": dict(zip(class_names, map(float, row), strict=True)),
        }
        for path, row in zip(asked.paths, probabilities, strict=True)
    ]
