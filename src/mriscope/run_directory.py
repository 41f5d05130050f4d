"""A run directory: the interface between commands, readable without torch.

recipe.yaml         every setting
environment.json    versions, machine, commit, data source and its fingerprint
split.json          which slices were in which part
last.ckpt           the state of the training, for going on
history.csv         loss and accuracy of each epoch
model.safetensors   the weights kept
inference.json      temperature, prediction sets, distance from which a slice is out of distribution
reference.safetensors   features of the training slices, summed up for that distance
predictions.parquet probabilities for the validation and the test part
baselines/          predictions of each baseline for the same parts
figures/            pictures
tracking.json       which run of MLflow records it
metrics.json        written last: present means finished
"""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import get_args

from filelock import FileLock, Timeout

from mriscope.choices import Baseline
from mriscope.data.source import parse_source
from mriscope.errors import RunError
from mriscope.evaluation.predictions import Predictions, read_predictions
from mriscope.files import is_unfinished, read_file, remove_unfinished, write_text
from mriscope.output_folder import LIST, OutputFolder, written_with
from mriscope.output_folder import LOCK as LIST_LOCK
from mriscope.recipe import Recipe, flatten_settings, read_recipe, write_recipe
from mriscope.results import IMPORTED, Environment, Metrics, Parts, SplitRecord
from mriscope.run_files import METRICS, RECIPE, WEIGHTS, check_finished

ENVIRONMENT, SPLIT, PREDICTIONS = "environment.json", "split.json", "predictions.parquet"
CHECKPOINT, HISTORY, FIGURES = "last.ckpt", "history.csv", "figures"
BASELINE_FOLDER, BASELINES = "baselines", get_args(Baseline)
LOCK, BAD_ROWS = ".lock", "bad_rows.csv"
TRACKING = "tracking.json"
INFERENCE, REFERENCE = "inference.json", "reference.safetensors"
FILES = (
    *(RECIPE, ENVIRONMENT, SPLIT, CHECKPOINT, HISTORY, WEIGHTS),
    *(INFERENCE, REFERENCE, PREDICTIONS, METRICS, TRACKING),
)
PICTURES = ("training.png", "slices.png", "confusion.png", "roc.png")
BASELINE_FILES = tuple(f"{BASELINE_FOLDER}/{name}.parquet" for name in BASELINES)
WRITTEN = (*FILES, BAD_ROWS, *BASELINE_FILES, *(f"{FIGURES}/{picture}" for picture in PICTURES))


@dataclass(frozen=True)
class RunDirectory:
    """One run on disk."""

    path: Path

    @property
    def name(self) -> str:
        """Return its folder's name, without the folders above."""
        return self.path.resolve().name

    @property
    def evaluated(self) -> bool:
        """Tell whether its metrics are there, also where its weights were left behind as too large to carry."""
        return all((self.path / name).is_file() for name in (RECIPE, METRICS))

    @property
    def finished(self) -> bool:
        """Tell whether it holds a finished run."""
        return self.evaluated and (self.path / WEIGHTS).is_file()

    def holds(self, recipe: Recipe) -> bool:
        """Return whether it is the finished run of a recipe, as far as can be told without reading its data again."""
        if not self.finished:
            return False
        sources = (recipe.data, parse_source(recipe.data).address)
        return not recipe_changes(self.recipe, recipe) and self.environment.source in sources

    @cached_property
    def recipe(self) -> Recipe:
        """Read the run's settings."""
        return read_recipe(self.path / RECIPE)

    @cached_property
    def environment(self) -> Environment:
        """Read environment.json."""
        return Environment.read(self.path / ENVIRONMENT)

    @property
    def imported(self) -> bool:
        """Tell whether another program trained the weights; such a run has no data and no predictions of its own."""
        return self.environment.imported is not None

    @property
    def protocol(self) -> str:
        """Return how train and test were split; "imported" for weights that another program trained."""
        return IMPORTED if self.imported else self.metrics().protocol

    @property
    def leaky(self) -> bool | None:
        """Tell whether test subjects also have slices in the training part; None where that is unknown."""
        return None if self.imported else self.metrics().leaky

    def metrics(self) -> Metrics:
        """Read metrics.json.

        Raises:
            RunError: it is missing or damaged, or the weights were imported and so have no metrics.
        """
        self._refuse_imported()
        return Metrics.read(self.path / METRICS)

    def predictions(self) -> Predictions:
        """Read predictions.parquet; its severity is that of the recipe.

        Raises:
            RunError: it is missing or damaged, or the weights were imported and so have no predictions.
        """
        self._refuse_imported()
        return self._read_predictions(self.path / PREDICTIONS)

    def baselines(self) -> dict[str, Predictions]:
        """Read the predictions of each baseline for the same parts, by name; none where an earlier version trained.

        Raises:
            RunError: one is damaged.
        """
        files = {name: self.path / BASELINE_FOLDER / f"{name}.parquet" for name in BASELINES}
        return {name: self._read_predictions(file) for name, file in files.items() if file.is_file()}

    def _read_predictions(self, file: Path) -> Predictions:
        found = read_predictions(file)
        return found if self.recipe.severity is None else replace(found, severity=self.recipe.severity)

    def parts(self) -> Parts:
        """Read the paths of the slices of each part.

        Raises:
            RunError: split.json is missing or damaged.
        """
        return SplitRecord.read(self.path / SPLIT).parts

    def seen_slices(self) -> list[str]:
        """Read the digests of the training and validation slices, see slice_digests; none of imported weights.

        Raises:
            RunError: split.json is missing or damaged.
        """
        return [] if self.imported else SplitRecord.read(self.path / SPLIT).seen

    def history(self) -> list[dict[str, float]]:
        """Read what was measured in each epoch.

        Raises:
            RunError: history.csv is missing or damaged.
        """
        try:
            text = io.StringIO(read_file(self.path / HISTORY).decode(), newline="")
            rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(text)]
            if not all("epoch" in row for row in rows):
                raise ValueError("no epoch")
        except (OSError, ValueError, TypeError, csv.Error) as error:
            raise RunError(f"{self.path / HISTORY} is missing or damaged; train the run again with --fresh") from error
        return rows

    def _refuse_imported(self) -> None:
        if self.imported:
            raise RunError(
                f"the weights in {self.path} were imported and never evaluated; evaluate them with --data SOURCE"
            )


def open_run(path: str | Path) -> RunDirectory:
    """Open a finished run.

    Raises:
        RunError: there is none at this path, or it is unfinished.
        ArgumentTypeError: the path is no path.
    """
    return RunDirectory(check_finished(path))


@contextmanager
def prepared_run(
    path: str | Path, recipe: Recipe, *, fresh: bool, environment: Environment, split: SplitRecord
) -> Iterator[RunDirectory]:
    """Prepare the directory of a run that begins or goes on, and lock it within the block.

    Args:
        path: where; made if it is not there.
        recipe: of the run.
        fresh: remove what a run left there before.
        environment: of a run that begins.
        split: of a run that begins.

    Raises:
        RunError: the folder holds another recipe's run or no run at all, or another process is at work there.
    """
    run = RunDirectory(Path(path))
    with _lock(run.path):
        if fresh:
            _remove_files(run.path)
        elif (run.path / RECIPE).is_file():
            _check_same(run, recipe)
        remove_unfinished(run.path)
        remove_unfinished(run.path / FIGURES)
        if not (run.path / RECIPE).is_file():
            environment.write(run.path / ENVIRONMENT)
            split.write(run.path / SPLIT)
            write_text(run.path / RECIPE, write_recipe(recipe))
        yield run


def empty_run(path: str | Path) -> None:
    """Remove what a run left in its directory, so that it begins anew there; other files are left alone.

    Raises:
        RunError: it is no run directory, or another process is at work there.
    """
    with _lock(Path(path)):
        _remove_files(Path(path))


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Lock a run's directory against other processes within the block."""
    check_place(path)
    path.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path / LOCK, timeout=0):
            output_of_run(path).claim(WRITTEN)  # before the first file: what is not listed is somebody else's
            yield
    except Timeout as error:
        raise RunError(
            f"another process is at work in {path}; wait for it, or name another folder with --out"
        ) from error


def output_of_run(path: Path) -> OutputFolder:
    """Return the folder of a run as a place to write to; environment.json shows which folders older runs wrote."""
    return OutputFolder(path, "train", written_with(ENVIRONMENT, Environment.read, WRITTEN))


def check_place(path: str | Path) -> None:
    """Refuse a folder that mriscope did not make, or files in a run's that it did not write: they are somebody's work.

    Raises:
        RunError: the path is a file, or a folder with other files.
        WriteError: it is a run directory, in which a file would be replaced that mriscope did not write.
    """
    folder = output_of_run(Path(path))
    if folder.path.exists() and not folder.path.is_dir():
        raise RunError(f"{path} is a file; name a folder for the run with --out")
    if folder.path.is_dir() and ENVIRONMENT not in folder.written():
        names = sorted(one.name for one in folder.path.iterdir() if not is_unfinished(one.name))
        strangers = [name for name in names if name not in (LOCK, LIST, LIST_LOCK)]
        if strangers:
            raise RunError(
                f"{path} holds {strangers[0]} and is no run directory; name an empty or new folder with --out"
            )
    folder.check(WRITTEN)


def _remove_files(folder: Path) -> None:
    """Remove what a run wrote: metrics.json first, so that no moment shows a finished run without its parts."""
    for name in (METRICS, RECIPE, *WRITTEN):
        if name != ENVIRONMENT:
            (folder / name).unlink(missing_ok=True)


def recipe_changes(there: Recipe, here: Recipe) -> list[str]:
    """Say in what two recipes differ, a phrase for each setting; the place of the data and the study's row apart."""
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
