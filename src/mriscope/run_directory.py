"""A run directory: the interface between commands, readable without torch.

recipe.yaml         every setting
environment.json    versions, machine, commit, data source and its fingerprint
split.json          which slices were in which part
last.ckpt           the state of the training, for going on
history.csv         figures of each epoch
model.safetensors   the weights kept
predictions.parquet probabilities for the validation and the test part
figures/            pictures
tracking.json       which run of MLflow records it
metrics.json        written last: present means finished
"""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mriscope.errors import RunError
from mriscope.evaluation.predictions import Predictions, read_predictions
from mriscope.files import remove_unfinished, write_text
from mriscope.recipe import Recipe, flatten_settings, read_recipe, write_recipe

RECIPE, ENVIRONMENT, SPLIT = "recipe.yaml", "environment.json", "split.json"
WEIGHTS, PREDICTIONS, METRICS = "model.safetensors", "predictions.parquet", "metrics.json"
CHECKPOINT, HISTORY, FIGURES = "last.ckpt", "history.csv", "figures"
LOCK, BAD_ROWS = ".lock", "bad_rows.csv"
TRACKING = "tracking.json"
FILES = (RECIPE, ENVIRONMENT, SPLIT, CHECKPOINT, HISTORY, WEIGHTS, PREDICTIONS, METRICS, TRACKING)
IMPORTED = "imported"
"""The protocol of a run whose weights another program trained: by none that is known."""
PICTURES = ("training.png", "slices.png", "confusion.png", "roc.png")


@dataclass(frozen=True)
class RunDirectory:
    """One run on disk."""

    path: Path

    @property
    def judged(self) -> bool:
        """Whether its figures are there, also where its weights were left behind as too large to carry."""
        return all((self.path / name).is_file() for name in (RECIPE, METRICS))

    @property
    def finished(self) -> bool:
        return self.judged and (self.path / WEIGHTS).is_file()

    def holds(self, recipe: Recipe) -> bool:
        """Whether it is the finished run of a recipe, as far as can be told without reading its data again."""
        if not self.finished:
            return False
        sources = (recipe.data, str(Path(recipe.data).expanduser().resolve()))
        return not recipe_changes(self.recipe, recipe) and self.environment.get("source") in sources

    @cached_property
    def recipe(self) -> Recipe:
        return read_recipe(self.path / RECIPE)

    @cached_property
    def environment(self) -> dict[str, Any]:
        return self._json(ENVIRONMENT)

    def metrics(self) -> dict[str, Any]:
        return self._json(METRICS)

    @cached_property
    def imported(self) -> bool:
        """Whether another program trained the weights; such a run has no data and no predictions of its own."""
        return self.metrics().get("protocol") == IMPORTED

    def predictions(self) -> Predictions:
        if not (self.path / PREDICTIONS).is_file() and self.imported:
            raise RunError(f"the weights in {self.path} were imported and never judged; judge them with --data SOURCE")
        return read_predictions(self.path / PREDICTIONS)

    def parts(self) -> dict[str, list[str]]:
        """The paths of the slices of each part."""
        return self._json(SPLIT)["parts"]

    def seen_slices(self) -> list[str]:
        """Digests of the training and validation slices; see slice_digests."""
        return list(self._json(SPLIT).get("seen", []))

    def history(self) -> list[dict[str, float]]:
        try:
            with (self.path / HISTORY).open(newline="", encoding="utf-8") as file:
                return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
        except (OSError, ValueError, TypeError) as error:
            raise RunError(f"{self.path / HISTORY} is missing or damaged; train the run again with --fresh") from error

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        write_text(self.path / name, json.dumps(content, indent=2, allow_nan=False) + "\n")

    def _json(self, name: str) -> dict[str, Any]:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path / name} is missing or damaged; train the run again with --fresh") from error


def open_run(path: str | Path) -> RunDirectory:
    """A finished run.

    Raises:
        RunError: there is none at this path, or it is unfinished.
    """
    run = RunDirectory(Path(path))
    if not (run.path / RECIPE).is_file():
        raise RunError(f"{path} is no run directory (it holds no {RECIPE}); name one that `mriscope train` wrote")
    if not run.finished:
        raise RunError(f"the run in {path} is not finished; give its `mriscope train` command again to finish it")
    return run


@contextmanager
def prepared_run(
    path: str | Path, recipe: Recipe, *, fresh: bool, environment: dict[str, Any], split: dict[str, Any]
) -> Iterator[RunDirectory]:
    """The directory of a run that begins or goes on, held against other processes within the block.

    Args:
        path: where; made if it is not there.
        recipe: of the run.
        fresh: remove what a run left there before.
        environment: what environment.json is to hold of a run that begins.
        split: what split.json is to hold of a run that begins.

    Raises:
        RunError: the folder holds another recipe's run or no run at all, or another process is at work there.
    """
    run = RunDirectory(Path(path))
    with _held(run.path):
        if fresh:
            _empty(run.path)
        elif (run.path / RECIPE).is_file():
            _check_same(run, recipe)
        remove_unfinished(run.path)
        remove_unfinished(run.path / FIGURES)
        if not (run.path / RECIPE).is_file():
            run.write_json(ENVIRONMENT, environment)  # first: it is what tells a run from a stranger's folder
            run.write_json(SPLIT, split)
            write_text(run.path / RECIPE, write_recipe(recipe))
        yield run


def empty_run(path: str | Path) -> None:
    """Remove what a run left in its directory, so that it begins anew there; other files are left alone.

    Raises:
        RunError: it is no run directory, or another process is at work there.
    """
    with _held(Path(path)):
        _empty(Path(path))


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """A run's directory, held against other processes within the block."""
    _check_place(path)
    path.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise RunError(
            f"another process is at work in {path}; wait for it, or name another folder with --out"
        ) from error


def _check_place(path: Path) -> None:
    """Refuse a folder that mriscope did not make, as its files may be somebody's work."""
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; name a folder for the run with --out")
    if not path.is_dir() or (path / ENVIRONMENT).is_file():
        return
    strangers = sorted(one.name for one in path.iterdir() if one.name not in (LOCK, BAD_ROWS))
    if strangers:
        raise RunError(f"{path} holds {strangers[0]} and is no run directory; name an empty or new folder with --out")


def _empty(folder: Path) -> None:
    """Remove what a run wrote: metrics.json first, so that no moment shows a finished run without its parts."""
    for name in (METRICS, RECIPE, *FILES, BAD_ROWS, *(f"{FIGURES}/{picture}" for picture in PICTURES)):
        if name != ENVIRONMENT:
            (folder / name).unlink(missing_ok=True)


def recipe_changes(there: Recipe, here: Recipe) -> list[str]:
    """In what two recipes differ, a phrase for each setting; the place of the data and the study's figures apart."""
    old, new = (flatten_settings(one.model_dump(exclude={"data", "study"})) for one in (there, here))
    return [
        f"{key} is {old.get(key)} there and {new.get(key)} here"
        for key in dict.fromkeys((*new, *old))
        if old.get(key) != new.get(key)
    ]


def _check_same(run: RunDirectory, recipe: Recipe) -> None:
    changes = recipe_changes(run.recipe, recipe)
    if changes:
        raise RunError(
            f"{run.path} holds the run of another recipe ({'; '.join(changes)}); "
            "name another folder with --out, or train anew there with --fresh"
        )
