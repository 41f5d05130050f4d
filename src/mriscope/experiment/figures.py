"""The pictures of a run, from what it recorded."""

from pathlib import Path
from typing import Any

from mriscope.data.slices import SliceSet
from mriscope.evaluation.calibration import reliability_curve, with_temperature
from mriscope.evaluation.intervals import Estimate
from mriscope.evaluation.plots import (
    confusion,
    headline,
    reliability,
    roc_curves,
    sample_slices,
    save,
    training_curves,
)
from mriscope.evaluation.predictions import Predictions
from mriscope.run_directory import FIGURES, RunDirectory
from mriscope.training.loop import Trained

LEAKY = "LEAKY: test subjects are also in the training part"


def draw_run(
    directory: RunDirectory, trained: Trained, slices: SliceSet, predictions: Predictions, metrics: dict[str, Any]
) -> None:
    """Every figure of a run: its training, its data and its judgement."""
    folder = directory.path / FIGURES
    title = _title(metrics, "accuracy")
    note = LEAKY if metrics["leaky"] else ""
    save(training_curves(trained.history, trained.epoch, title=title, note=note), folder / "training.png")
    save(sample_slices(slices, title="Slices of the data", note=note), folder / "slices.png")
    draw_evaluation(directory, predictions, metrics)


def draw_evaluation(directory: RunDirectory, predictions: Predictions, metrics: dict[str, Any]) -> None:
    """The confusion matrix and the ROC curves of some predictions, and where it was measured their calibration."""
    folder = directory.path / FIGURES
    note = LEAKY if metrics["leaky"] else ""
    save(confusion(predictions, title=_title(metrics, "accuracy"), note=note), folder / "confusion.png")
    save(roc_curves(predictions, title=_title(metrics, "auroc"), note=note), folder / "roc.png")
    if "calibration" in metrics:
        _draw_calibration(predictions, metrics, folder / "reliability.png", note)


def _draw_calibration(predictions: Predictions, metrics: dict[str, Any], path: Path, note: str) -> None:
    measured = metrics["calibration"]
    temperature, error = measured["temperature"], _estimate(measured["before"]["calibration_error"])
    curves = {"As the model says": reliability_curve(predictions)}
    if temperature is not None:
        scaled = with_temperature(predictions, temperature)
        curves[f"At temperature {temperature:.2f}, from validation"] = reliability_curve(scaled)
    title = headline("calibration_error", error, metrics["protocol"], level=metrics["interval"]["level"])
    save(reliability(curves, title=title, note=note), path)


def _title(metrics: dict[str, Any], name: str) -> str:
    figure = _estimate(metrics["metrics"][name])
    return headline(name, figure, metrics["protocol"], level=metrics["interval"]["level"])


def _estimate(figures: dict[str, float | None]) -> Estimate:
    return Estimate(**{key: float("nan") if value is None else value for key, value in figures.items()})
