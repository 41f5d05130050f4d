"""Results as tests write them by hand into run directories."""

from pathlib import Path
from typing import Any

from mriscope.evaluation.predictions import Predictions
from mriscope.evaluation.scoring import score
from mriscope.recipe import Recipe
from mriscope.results import Environment, Metrics, TrainingSummary
from mriscope.run_directory import ENVIRONMENT, METRICS


def environment(**changes: Any) -> Environment:
    """An environment whose fields are of no matter but those that are given."""
    facts: dict[str, Any] = {
        "mriscope": "0.1.0",
        "commit": None,
        "python": "3.11.7",
        "packages": {"torch": "2.15.0"},
        "system": "Linux",
        "processor": "any",
        "cores": 2,
        "device": "CPU",
        "started": "2026-11-26T13:01:59+00:00",
        "source": "phantom",
        "data": "d" * 64,
        "subjects_from": "source",
    }
    return Environment(**{**facts, **changes})


def training(**changes: Any) -> TrainingSummary:
    facts = {"epochs": 3, "epoch_kept": 2, "seconds": 61.5, "slices_per_second": 150.0, "parameters": 1234}
    return TrainingSummary(**{**facts, **changes})


def metrics(tested: Predictions, *, resamples: int = 50, **changes: Any) -> Metrics:
    """The metrics of a run with some predictions of its test part."""
    facts: dict[str, Any] = {
        "protocol": "by_subject",
        "part": "test",
        "leaky": False,
        "training": training(),
        "model": "baseline_cnn",
        "data": "d" * 64,
    }
    return Metrics(**dict(score(tested, resamples=resamples)), **{**facts, **changes})


def write_results(folder: Path, recipe: Recipe, tested: Predictions, *, device: str = "CPU", **changes: Any) -> None:
    """Write environment.json and metrics.json of a run; `changes` are fields of the metrics."""
    found = metrics(tested, model=recipe.model, **changes)
    environment(device=device, source=recipe.data, data=found.data).write(folder / ENVIRONMENT)
    found.write(folder / METRICS)
