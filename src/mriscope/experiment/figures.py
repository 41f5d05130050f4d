"""The pictures of a run, from what it recorded."""

from typing import Any

from mriscope.data.slices import SliceSet
from mriscope.evaluation.intervals import Estimate
from mriscope.evaluation.plots import confusion, headline, roc_curves, sample_slices, save, split_title, training_curves
from mriscope.evaluation.predictions import Predictions
from mriscope.run_directory import FIGURES, RunDirectory
from mriscope.training.loop import Trained


def draw_run(
    directory: RunDirectory, trained: Trained, slices: SliceSet, predictions: Predictions, metrics: dict[str, Any]
) -> None:
    """Every figure of a run: its training, its data and its judgement."""
    folder = directory.path / FIGURES
    title = _title(metrics, "accuracy")
    save(training_curves(trained.history, trained.epoch, title=title), folder / "training.png")
    data = f"Slices of the data, {split_title(metrics['protocol'], _leaky(metrics))}"
    save(sample_slices(slices, title=data), folder / "slices.png")
    draw_evaluation(directory, predictions, metrics)


def draw_evaluation(directory: RunDirectory, predictions: Predictions, metrics: dict[str, Any]) -> None:
    """The confusion matrix and the ROC curves of some predictions."""
    folder = directory.path / FIGURES
    save(confusion(predictions, title=_title(metrics, "accuracy")), folder / "confusion.png")
    save(roc_curves(predictions, title=_title(metrics, "auroc")), folder / "roc.png")


def _title(metrics: dict[str, Any], name: str) -> str:
    figures = {key: float("nan") if value is None else value for key, value in metrics["metrics"][name].items()}
    level = metrics["interval"]["level"]
    return headline(name, Estimate(**figures), metrics["protocol"], level=level, leaky=_leaky(metrics))


def _leaky(metrics: dict[str, Any]) -> bool | None:
    """None where subjects are unknown; another part than test, or another source, shares nothing with itself."""
    return None if metrics["n_subjects"] is None else bool(metrics["leaky"])
