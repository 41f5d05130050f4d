"""The pictures of a run, from what it recorded."""

from typing import Any

from mriscope.data.slices import SliceSet
from mriscope.evaluation.intervals import Estimate
from mriscope.evaluation.plots import confusion, headline, roc_curves, sample_slices, save, training_curves
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
    """The confusion matrix and the ROC curves of some predictions."""
    folder = directory.path / FIGURES
    note = LEAKY if metrics["leaky"] else ""
    save(confusion(predictions, title=_title(metrics, "accuracy"), note=note), folder / "confusion.png")
    save(roc_curves(predictions, title=_title(metrics, "auroc"), note=note), folder / "roc.png")


def _title(metrics: dict[str, Any], name: str) -> str:
    figures = {key: float("nan") if value is None else value for key, value in metrics["metrics"][name].items()}
    return headline(name, Estimate(**figures), metrics["protocol"], level=metrics["interval"]["level"])
