"""Judge a run, and ask it about images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mriscope.data.images import read_images
from mriscope.errors import DataError, RunError, UnknownName
from mriscope.evaluation.inference import predict, predict_probabilities
from mriscope.evaluation.intervals import summary
from mriscope.evaluation.predictions import Predictions, write_predictions
from mriscope.experiment.figures import draw_evaluation
from mriscope.experiment.parts import load_model, read_for
from mriscope.run_directory import METRICS, PREDICTIONS, RunDirectory, open_run
from mriscope.training.devices import pick_device


def evaluate_run(
    folder: str | Path,
    *,
    part: str = "test",
    source: str | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    skip_bad: bool = False,
) -> dict[str, Any]:
    """Judge a run with every metric and its interval.

    Args:
        folder: the run.
        part: test or validation; of another source, all slices are judged.
        source: another source than the run's own; None judges the predictions the run kept.
        out: folder that gets metrics.json, predictions.parquet and figures; None writes nothing.
        device: auto, cpu or cuda.
        skip_bad: leave unusable rows out where they would be an error.

    Raises:
        RunError: no finished run, or the source is the one it was trained on.
        DataError: the source cannot be read or has other classes.
    """
    directory = open_run(folder)
    if part not in ("test", "validation"):
        raise UnknownName("part", part, ("test", "validation"))
    own = directory.metrics()
    if source is None:
        predictions, protocol = directory.predictions().of_part(part), own["protocol"]
    else:
        predictions, protocol, part = _ask(directory, source, device, skip_bad), "external", "whole"
    metrics = {
        "protocol": protocol,
        "part": part,
        "leaky": own["leaky"] if source is None else None,
        **summary(predictions, seed=directory.recipe.seed),
        "model": own["model"],
    }
    if out is not None:
        judged = RunDirectory(Path(out))
        write_predictions(predictions, judged.path / PREDICTIONS)
        draw_evaluation(judged, predictions, metrics)
        judged.write_json(METRICS, metrics)
    return metrics


def _ask(directory: RunDirectory, source: str, device: str, skip_bad: bool) -> Predictions:
    """A run's predictions for all slices of a source it has not seen."""
    model, class_names = load_model(directory, pick_device(device))
    slices = read_for(directory.recipe, source, skip_bad=skip_bad)
    if slices.fingerprint == directory.metrics()["data"]:
        raise RunError(f"{source} holds the slices this run was trained on; leave --data out to judge its test part")
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
