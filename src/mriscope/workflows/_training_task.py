"""One of several trainings of a sweep; torch is imported where it trains, and not by the process that waits for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mriscope.imports import lasting_imports
from mriscope.recipe import Recipe


@dataclass(frozen=True)
class TrainingTask:
    """A training of a sweep: the arguments of mriscope.workflows.train.run."""

    recipe: Recipe
    folder: Path
    settings: Mapping[str, Any]


def run_task(task: TrainingTask) -> None:
    """Train one of several recipes or folds, in whatever process."""
    with lasting_imports():
        from mriscope.workflows.train import run

    run(task.recipe, task.folder, **task.settings)
