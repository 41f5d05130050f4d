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
    split_title,
    training_curves,
)
from mriscope.evaluation.predictions import Predictions
from mriscope.run_directory import FIGURES, RunDirectory
from mriscope.training.loop import Trained


def draw_run(
    directory: RunDirectory, trained: Trained, slices: SliceSet, predictions: Predictions, metrics: dict[str, Any]
) -> None:
    """Every figure of a run: its training, its data and its judgement."""
    folder = directory.path / FIGURES
    title = _title(metrics, "accuracy")
    if "train_loss" in trained.history[0]:  # an estimator has no epochs to draw
        save(training_curves(trained.history, trained.epoch, title=title), folder / "training.png")
    data = f"Slices of the data, {split_title(metrics['protocol'], _leaky(metrics))}"
    save(sample_slices(slices, title=data), folder / "slices.png")
    draw_evaluation(directory, predictions, metrics)


def draw_evaluation(directory: RunDirectory, predictions: Predictions, metrics: dict[str, Any]) -> None:
    """The confusion matrix and the ROC curves of some predictions, and where it was measured their calibration."""
    folder = directory.path / FIGURES
    save(confusion(predictions, title=_title(metrics, "accuracy")), folder / "confusion.png")
    save(roc_curves(predictions, title=_title(metrics, "auroc")), folder / "roc.png")
    if "calibration" in metrics:
        _draw_calibration(predictions, metrics, folder / "reliability.png")


def _draw_calibration(predictions: Predictions, metrics: dict[str, Any], path: Path) -> None:
    measured = metrics["calibration"]
    temperature, error = measured["temperature"], _estimate(measured["before"]["calibration_error"])
    curves = {"As the model says": reliability_curve(predictions)}
    if temperature is not None:
        scaled = with_temperature(predictions, temperature)
        curves[f"At temperature {temperature:.2f}, from validation"] = reliability_curve(scaled)
    save(reliability(curves, title=_headline("calibration_error", error, metrics)), path)


def _title(metrics: dict[str, Any], name: str) -> str:
    return _headline(name, _estimate(metrics["metrics"][name]), metrics)


def _headline(name: str, estimate: Estimate, metrics: dict[str, Any]) -> str:
    level = metrics["interval"]["level"]
    return headline(name, estimate, metrics["protocol"], level=level, leaky=_leaky(metrics))


def _estimate(figures: dict[str, float | None]) -> Estimate:
    return Estimate(**{key: float("nan") if value is None else value for key, value in figures.items()})


def _leaky(metrics: dict[str, Any]) -> bool | None:
    """None where subjects are unknown; another part than test, or another source, shares nothing with itself."""
    untold = metrics["part"] == "test" and metrics["leaky"] is None
    return None if untold or metrics["n_subjects"] is None else bool(metrics["leaky"])
