"""Draw the pictures of a run, from what it recorded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mriscope.data.slices import SliceSet
from mriscope.evaluation.calibration import reliability_curve, with_temperature
from mriscope.evaluation.plots import (
    confusion,
    reliability,
    roc_curves,
    sample_slices,
    save,
    training_curves,
)
from mriscope.evaluation.predictions import Predictions
from mriscope.evaluation.titles import headline, split_title
from mriscope.results import Calibration, Estimate, Metrics


def draw_run(
    folder: Path,
    history: Sequence[Mapping[str, Any]],
    slices: SliceSet,
    predictions: Predictions,
    metrics: Metrics,
    *,
    epoch_kept: int,
) -> None:
    """Draw every picture of a run: its training, its data and its evaluation."""
    title = _make_title("accuracy", metrics.metrics["accuracy"], metrics)
    if "train_loss" in history[0]:  # an estimator has no epochs to draw
        save(training_curves(history, epoch_kept, title=title), folder / "training.png")
    data = f"Slices of the data, {split_title(metrics.protocol, _known_leaky(metrics))}"
    save(sample_slices(slices, title=data), folder / "slices.png")
    draw_evaluation(folder, predictions, metrics)


def draw_evaluation(folder: Path, predictions: Predictions, metrics: Metrics) -> None:
    """Draw the confusion matrix of some predictions, and where they were measured ROC curves and calibration."""
    accuracy = _make_title("accuracy", metrics.metrics["accuracy"], metrics)
    save(confusion(predictions, title=accuracy), folder / "confusion.png")
    if "auroc" in metrics.metrics:
        auroc = _make_title("auroc", metrics.metrics["auroc"], metrics)
        save(roc_curves(predictions, title=auroc), folder / "roc.png")
    if metrics.calibration is not None:
        _draw_calibration(predictions, metrics, metrics.calibration, folder / "reliability.png")


def _draw_calibration(predictions: Predictions, metrics: Metrics, measured: Calibration, path: Path) -> None:
    curves = {"As the model says": reliability_curve(predictions)}
    if measured.temperature is not None:
        scaled = with_temperature(predictions, measured.temperature)
        curves[f"At temperature {measured.temperature:.2f}, from validation"] = reliability_curve(scaled)
    title = _make_title("calibration_error", measured.before["calibration_error"], metrics)
    save(reliability(curves, title=title), path)


def _make_title(name: str, estimate: Estimate, metrics: Metrics) -> str:
    return headline(name, estimate, metrics.protocol, level=metrics.interval.level, leaky=_known_leaky(metrics))


def _known_leaky(metrics: Metrics) -> bool | None:
    """Return None where subjects are unknown; another part than test, or another source, shares nothing with itself."""
    untold = metrics.part == "test" and metrics.leaky is None
    return None if untold or metrics.n_subjects is None else bool(metrics.leaky)
