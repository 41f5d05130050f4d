"""Cross-validate a recipe: each fold an ordinary run, all folds one summary."""

import io
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mriscope.data.cache import content_key
from mriscope.errors import RecipeError, RunError
from mriscope.evaluation.crossvalidation import LEVEL, RESAMPLES, Fold, summarize_folds
from mriscope.experiment.splitting import fold_name, fold_recipe, split_for
from mriscope.files import write_bytes, write_text
from mriscope.output_folder import OutputFolder, written_with
from mriscope.recipe import Recipe
from mriscope.reports.crossvalidation import crossvalidation_markdown
from mriscope.results import CrossValidation, Environment
from mriscope.run_directory import (
    ENVIRONMENT,
    METRICS,
    PREDICTIONS,
    RECIPE,
    RunDirectory,
    check_place,
    empty_run,
    recipe_changes,
)

LOG = logging.getLogger("mriscope")

SUMMARY, MARKDOWN = "summary.json", "summary.md"
FILES = (SUMMARY, MARKDOWN, PREDICTIONS)
VERSION = 1
"""Of what a summary says; raise it where the same folds would give another one, so that no old summary stands."""

_FOLD = re.compile(r"repeat\d+-fold\d+")


def crossvalidate(
    recipe: Recipe,
    folder: str | Path,
    *,
    folds: int = 5,
    repeats: int = 1,
    protocol: str = "by_subject",
    fresh: bool = False,
    **settings: Any,
) -> CrossValidation:
    """Train and evaluate a recipe on every fold of a repeated K-fold cross-validation, and summarize the folds.

    A fold that is finished is left alone and one that was broken off goes on, so that the same call finishes what a
    kill left; a summary stands while neither the folds nor `VERSION` have changed. Nothing is chosen on a test part:
    epoch and way of pooling come from each fold's own validation part.

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
        what summary.json holds; see mriscope.evaluation.crossvalidation.summarize_folds.

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
    proof = f"{fold_name(0, 0)}/{ENVIRONMENT}"  # of a version that kept no list
    output = OutputFolder(place, "crossval", written_with(proof, Environment.read, FILES))
    output.check(FILES)
    for repeat, fold in recipes:
        check_place(place / fold_name(repeat, fold))
    if fresh:
        _check_fits(recipes[0, 0], settings)
        _remove_files(place)
    output.claim(FILES)
    trained = False
    for (repeat, fold), one in recipes.items():
        trained |= _train(one, place / fold_name(repeat, fold), settings, warn=not trained)
    key = _make_key(place, list(recipes))
    if (summary := _read_summary(place)) is not None and summary.made_from == key:
        return summary
    done = [_read_fold(place, repeat, fold) for repeat, fold in recipes]
    summary = summarize_folds(done, model=recipe.model, protocol=protocol, folds=folds, seed=recipe.seed)
    summary = summary.model_copy(update={"made_from": key})
    _write(place, done, summary)
    return summary


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
        if one.name.startswith(".") or one.name in FILES:
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


def _remove_files(place: Path) -> None:
    """Remove the summary, then what every fold left: after a kill no old fold passes for a new one."""
    for name in FILES:
        (place / name).unlink(missing_ok=True)
    for one in sorted(place.iterdir()) if place.is_dir() else ():
        if _FOLD.fullmatch(one.name):
            empty_run(one)


def _train(recipe: Recipe, folder: Path, settings: Mapping[str, Any], *, warn: bool) -> bool:
    """Return whether there was anything to train."""
    if RunDirectory(folder).holds(recipe):
        return False
    from mriscope.experiment.running import run

    LOG.warning("training %s", folder)
    run(recipe, folder, warn=warn, **settings)
    return True


def _make_key(place: Path, folds: Sequence[tuple[int, int]]) -> str:
    """Digest all that decides the summary: what each fold holds, and how folds are summarized."""
    names = [f"{fold_name(*one)}/{file}" for one in folds for file in (RECIPE, METRICS, PREDICTIONS)]
    return content_key({name: place / name for name in names}, version=VERSION, resamples=RESAMPLES, level=LEVEL)


def _read_summary(place: Path) -> CrossValidation | None:
    """Read the summary that is there; None where it is missing, damaged or without its other files."""
    if not all((place / name).is_file() for name in (MARKDOWN, PREDICTIONS)):
        return None
    try:
        return CrossValidation.read(place / SUMMARY)
    except RunError:
        return None


def _read_fold(place: Path, repeat: int, fold: int) -> Fold:
    directory = RunDirectory(place / fold_name(repeat, fold))
    return Fold(repeat, fold, str(directory.path), directory.metrics(), directory.predictions())


def _write(place: Path, done: Sequence[Fold], summary: CrossValidation) -> None:
    write_bytes(place / PREDICTIONS, _join_predictions(place, done))
    write_text(place / MARKDOWN, crossvalidation_markdown(summary))
    summary.write(place / SUMMARY)


def _join_predictions(place: Path, done: Sequence[Fold]) -> bytes:
    """Join the test rows of every fold as parquet: the columns of a run's predictions, then repeat and fold."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    def rows() -> Iterator[pa.Table]:
        for one in done:
            table = pq.read_table(place / fold_name(one.repeat, one.fold) / PREDICTIONS)
            tested = table.filter(pc.field("part") == "test")
            for name, number in (("repeat", one.repeat), ("fold", one.fold)):
                tested = tested.append_column(name, pa.array([number] * len(tested), pa.int64()))
            yield tested

    buffer = io.BytesIO()
    pq.write_table(pa.concat_tables(rows()), buffer, write_page_checksum=True)
    return buffer.getvalue()
