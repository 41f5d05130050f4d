"""Cross-validate a recipe: each fold an ordinary run, all folds one answer."""

import io
import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mriscope.data.cache import content_key
from mriscope.data.slices import CLASS_NAMES
from mriscope.errors import RecipeError, RunError
from mriscope.evaluation.intervals import (
    SLICE_NOTE,
    bootstrap,
    bootstrap_repeats,
    interval_unit,
    plain,
)
from mriscope.evaluation.metrics import HEADLINE, Metric, severity_error
from mriscope.evaluation.pooling import choose_pooling, pool_by_subject
from mriscope.evaluation.predictions import Predictions, join
from mriscope.evaluation.tasks import TASKS, to_task
from mriscope.experiment.splitting import fold_name, fold_recipe, split_for
from mriscope.files import write_bytes, write_text
from mriscope.recipe import Recipe
from mriscope.reports.crossvalidation import crossvalidation_markdown
from mriscope.run_directory import METRICS as METRICS_FILE
from mriscope.run_directory import PREDICTIONS, RECIPE, RunDirectory, empty_run, recipe_changes

LOG = logging.getLogger("mriscope")

SUMMARY, MARKDOWN = "summary.json", "summary.md"
OWN_CLASSES = "own_classes"
"""The task of data whose classes are not the field's four."""
METRICS: dict[str, Metric] = {**HEADLINE, "severity_error": severity_error}
RESAMPLES, LEVEL = 2000, 0.95

CODE = (
    __name__,
    *(f"mriscope.evaluation.{name}" for name in ("intervals", "metrics", "pooling", "predictions", "tasks")),
    "mriscope.reports.crossvalidation",
)
"""Modules that decide what a summary says."""

_FOLD = re.compile(r"repeat\d+-fold\d+")


@dataclass(frozen=True)
class Fold:
    """One fold's finished run."""

    repeat: int
    fold: int
    directory: RunDirectory
    metrics: Mapping[str, Any]
    predictions: Predictions

    def of(self, part: str, task: str) -> Predictions:
        """The predictions of one part, in the classes of a task."""
        predictions = self.predictions.of_part(part)
        return predictions if task == OWN_CLASSES else to_task(predictions, task)


def crossvalidate(
    recipe: Recipe,
    folder: str | Path,
    *,
    folds: int = 5,
    repeats: int = 1,
    protocol: str = "by_subject",
    fresh: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Train and judge a recipe on every fold of a repeated K-fold cross-validation, and pool what the folds say.

    A fold that is finished is left alone and one that was broken off goes on, so that the same call finishes what a
    kill left; a summary stands while neither the folds nor the code that sums them up have changed. Nothing is chosen
    on a test part: epoch and way of pooling come from each fold's own validation part.

    Args:
        recipe: its seed draws the folds; protocol and folds of its split are replaced.
        folder: gets a run directory repeat<r>-fold<f> for each fold, predictions.parquet with the test slices of all of
            them, summary.md, and summary.json last.
        folds: how many, 2 or more.
        repeats: how many divisions into folds.
        protocol: by_subject or by_slice.
        fresh: begin every fold anew, whatever the folder holds of a cross-validation.
        settings: further arguments of mriscope.experiment.running.run, such as device.

    Returns:
        what summary.json holds; see `summarised`.

    Raises:
        MriscopeError: the recipe does not fit, the folder holds something else, or a training cannot go on.
        Interrupted: Ctrl-C; the same call goes on.
    """
    _check_alone(recipe, repeats)
    place = Path(folder)
    recipes = {
        (repeat, fold): fold_recipe(recipe, protocol, folds, fold, repeat)
        for repeat in range(repeats)
        for fold in range(folds)
    }
    _check_place(place, None if fresh else recipes[0, 0])
    if fresh:
        _check_fits(recipes[0, 0], settings)
        _empty(place)
    trained = False
    for (repeat, fold), one in recipes.items():
        trained |= _train(one, place / fold_name(repeat, fold), settings, warn=not trained)
    key = _key(place, list(recipes))
    if kept := _kept(place, key):
        return kept
    done = [_read(place, repeat, fold) for repeat, fold in recipes]
    facts = {**summarised(done, recipes[0, 0]), "made_from": key}
    _write(place, done, facts)
    return facts


def _check_alone(recipe: Recipe, repeats: int) -> None:
    if recipe.split.file is not None:
        raise RecipeError("crossval", [f"split.file names {recipe.split.file}, and folds are drawn; leave it out"])
    if repeats < 1:
        raise RecipeError("crossval", [f"repeats is {repeats}; ask for 1 or more"])
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RunError("crossval trains in one process; give a fold's recipe to `mriscope train` under torchrun")


def _check_place(place: Path, recipe: Recipe | None) -> None:
    """Refuse, before anything is trained, a folder of other things or of the folds of another recipe than the given."""
    if place.exists() and not place.is_dir():
        raise RunError(f"{place} is a file; name a folder for the cross-validation with --out")
    for one in sorted(place.iterdir()) if place.is_dir() else ():
        if one.name.startswith(".") or one.name in (SUMMARY, MARKDOWN, PREDICTIONS):
            continue
        if not _FOLD.fullmatch(one.name):
            raise RunError(
                f"{place} holds {one.name} and is no cross-validation; name an empty or new folder with --out"
            )
        if recipe is None or not (one / RECIPE).is_file():
            continue
        told = ("split.fold is", "split.repeat is")
        changes = [text for text in recipe_changes(RunDirectory(one).recipe, recipe) if not text.startswith(told)]
        if changes:
            raise RunError(
                f"{place} holds the cross-validation of another recipe ({'; '.join(changes)}); "
                "name another folder with --out, or train anew there with --fresh"
            )


def _check_fits(recipe: Recipe, settings: Mapping[str, Any]) -> None:
    """Read and split the data and make the model, so that a mistake is named while what was there is whole."""
    from mriscope.experiment.parts import model_for, read_for

    slices = read_for(recipe, recipe.data, skip_bad=settings.get("skip_bad", False)).slices
    split_for(recipe.split, slices, recipe.seed)
    model_for(recipe, slices.class_names, pretrained=False)


def _empty(place: Path) -> None:
    """Remove the summary, then what every fold left: after a kill no old fold passes for a new one."""
    for name in (SUMMARY, MARKDOWN, PREDICTIONS):
        (place / name).unlink(missing_ok=True)
    for one in sorted(place.iterdir()) if place.is_dir() else ():
        if _FOLD.fullmatch(one.name):
            empty_run(one)


def _train(recipe: Recipe, folder: Path, settings: Mapping[str, Any], *, warn: bool) -> bool:
    """Whether there was anything to train."""
    if RunDirectory(folder).holds(recipe):
        return False
    from mriscope.experiment.running import run

    LOG.warning("training %s", folder)
    run(recipe, folder, warn=warn, **settings)
    return True


def _key(place: Path, folds: Sequence[tuple[int, int]]) -> str:
    """Of all that decides the summary: what each fold holds, and the code that sums them up."""
    names = [f"{fold_name(*one)}/{file}" for one in folds for file in (RECIPE, METRICS_FILE, PREDICTIONS)]
    code = {module: Path(str(sys.modules[module].__file__)) for module in CODE}
    files = {name: place / name for name in names}
    return content_key({**files, **code}, resamples=RESAMPLES, level=LEVEL)


def _kept(place: Path, key: str) -> dict[str, Any] | None:
    """The summary that is there, if it was made of the same."""
    if not all((place / name).is_file() for name in (MARKDOWN, PREDICTIONS)):
        return None
    try:
        facts = json.loads((place / SUMMARY).read_text(encoding="utf-8"))
        return facts if facts["made_from"] == key else None
    except (OSError, ValueError, KeyError, TypeError):  # missing, damaged or of an earlier version
        return None


def _read(place: Path, repeat: int, fold: int) -> Fold:
    directory = RunDirectory(place / fold_name(repeat, fold))
    return Fold(repeat, fold, directory, directory.metrics(), directory.predictions())


def summarised(done: Sequence[Fold], recipe: Recipe) -> dict[str, Any]:
    """What all folds say together, as plain values for JSON.

    Figures are computed on the pooled folds of each repeat and averaged over repeats; an interval resamples subjects
    (slices, where they are unknown) once for all repeats. Subjects are judged where each is in one test part, which is
    where they were split; each fold pools as suits its validation part.

    Args:
        done: every fold of every repeat.
        recipe: of any fold.

    Returns:
        facts; "slice" and "subject" with value, low and high by task and metric ("subject" may be None); and "folds", a
        record of each.

    Raises:
        RunError: the folds were trained on different data, or a slice is in two test parts of one repeat.
    """
    repeats = [join([one.of("test", OWN_CLASSES) for one in group]) for group in _by_repeat(done)]
    _check_whole(done, repeats)
    first, split = repeats[0], recipe.split
    known = set(first.class_names) == set(CLASS_NAMES)
    tasks = list(TASKS) if known else [OWN_CLASSES]
    apart = split.protocol == "by_subject"
    unit = interval_unit(first)
    leaky = {one.metrics["leaky"] for one in done}
    pooled = {task: [_pooled(one, task) for one in done] for task in tasks} if apart else {}
    return {
        "model": recipe.model,
        "protocol": split.protocol,
        "folds": split.folds,
        "repeats": len(repeats),
        "seed": recipe.seed,
        "leaky": True if True in leaky else None if None in leaky else False,
        "data": done[0].metrics["data"],
        "n_slices": len(first),
        "n_subjects": first.n_subjects if first.knows_subjects else None,
        "interval": {"level": LEVEL, "unit": unit, "resamples": RESAMPLES, "note": _note(unit)},
        "slice": {task: _figures(done, [one.of("test", task) for one in done]) for task in tasks},
        "subject": {task: _figures(done, [rows for _, rows in pooled[task]]) for task in tasks} if apart else None,
        "training_seconds": sum(one.metrics["training"]["seconds"] for one in done),
        "by_fold": [_fold_record(one, {task: pooled[task][row] for task in pooled}) for row, one in enumerate(done)],
    }


def _by_repeat(done: Sequence[Fold]) -> list[list[Fold]]:
    return [[one for one in done if one.repeat == repeat] for repeat in sorted({one.repeat for one in done})]


def _check_whole(done: Sequence[Fold], repeats: Sequence[Predictions]) -> None:
    for one in done:
        if one.metrics["data"] != done[0].metrics["data"]:
            raise RunError(
                f"{one.directory.path} was trained on other data than {done[0].directory.path}; remove the folder of "
                "the one that is wrong, and give the command again"
            )
    for number, repeat in enumerate(repeats):
        if len(set(repeat.paths.tolist())) < len(repeat) or len(repeat) != len(repeats[0]):
            raise RunError(
                f"the test parts of repeat {number} do not hold every slice once; remove the folders of its folds, and "
                "give the command again"
            )


def _pooled(one: Fold, task: str) -> tuple[str, Predictions]:
    """How a fold pools, by its validation part, and its test subjects."""
    how = choose_pooling(one.of("validation", task))
    return how, pool_by_subject(one.of("test", task), how)


def _figures(done: Sequence[Fold], rows: Sequence[Predictions]) -> dict[str, Any]:
    """Every metric over the repeats, from the rows of every fold."""
    row_of = {id(one): place for place, one in enumerate(done)}
    repeats = [join([rows[row_of[id(one)]] for one in group]) for group in _by_repeat(done)]
    found = bootstrap_repeats(repeats, METRICS, resamples=RESAMPLES, level=LEVEL)
    return {name: plain(estimate) for name, estimate in found.items()}


def _note(unit: str) -> str | None:
    return SLICE_NOTE if unit == "slice" else None


def _fold_record(one: Fold, pooled: Mapping[str, tuple[str, Predictions]]) -> dict[str, Any]:
    subjects = {task: bootstrap(rows, METRICS, resamples=RESAMPLES // 4) for task, (_, rows) in pooled.items()}
    return {
        "repeat": one.repeat,
        "fold": one.fold,
        "n_slices": one.metrics["n_slices"],
        "n_subjects": one.metrics["n_subjects"],
        "slice": one.metrics["metrics"],
        "subject": {task: {name: plain(figure) for name, figure in found.items()} for task, found in subjects.items()},
        "pooling": {task: how for task, (how, _) in pooled.items()},
    }


def _write(place: Path, done: Sequence[Fold], facts: Mapping[str, Any]) -> None:
    write_bytes(place / PREDICTIONS, _table(done))
    write_text(place / MARKDOWN, crossvalidation_markdown(facts))
    write_text(place / SUMMARY, json.dumps(facts, indent=2, allow_nan=False) + "\n")


def _table(done: Sequence[Fold]) -> bytes:
    """The test rows of every fold as parquet: the columns of a run's predictions, then repeat and fold."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    def rows() -> Iterator[pa.Table]:
        for one in done:
            table = pq.read_table(one.directory.path / PREDICTIONS)
            tested = table.filter(pc.field("part") == "test")
            for name, number in (("repeat", one.repeat), ("fold", one.fold)):
                tested = tested.append_column(name, pa.array([number] * len(tested), pa.int64()))
            yield tested

    buffer = io.BytesIO()
    pq.write_table(pa.concat_tables(rows()), buffer, write_page_checksum=True)
    return buffer.getvalue()
