"""Cross-validate a recipe: each fold an ordinary run, all folds one summary."""

import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mriscope.data.cache import content_key
from mriscope.data.split_files import split_for
from mriscope.data.where import Condition
from mriscope.errors import ArgumentError, RecipeError, RunError, WriteError, check_type
from mriscope.evaluation.crossvalidation import LEVEL, RESAMPLES, Fold, summarize_folds
from mriscope.files import expand_home, write_bytes, write_text
from mriscope.output_folder import OutputFolder, written_with
from mriscope.recipe import Recipe
from mriscope.reports.crossvalidation import crossvalidation_markdown
from mriscope.results import CrossValidation, Environment, PermutationResult
from mriscope.run_directory import (
    CHECKPOINT,
    ENVIRONMENT,
    METRICS,
    PREDICTIONS,
    RECIPE,
    RunDirectory,
    check_place,
    empty_run,
    recipe_changes,
)
from mriscope.sweep import choose_executor, sweep
from mriscope.workflows._baselines import find_baselines
from mriscope.workflows._covariates import Known, know, know_own
from mriscope.workflows._load import load
from mriscope.workflows._training_task import TrainingTask, run_task
from mriscope.workflows.split import fold_name, fold_recipes

SUMMARY, MARKDOWN = "summary.json", "summary.md"
FILES = (SUMMARY, MARKDOWN, PREDICTIONS)
PERMUTATION, PERMUTED = "permutation.json", "permuted"
"""What a test with permuted labels leaves beside the folds; see mriscope.workflows.permutation."""
VERSION = 5
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
    executor: str = "here",
    covariates: str | None = None,
    where: str | None = None,
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
        executor: where folds are trained: here, serial, processes, processes:N, ray or ray:ADDRESS, as
            mriscope.sweep.parse_executor takes it. A fold that fails is reported when the others are trained.
        covariates: a CSV file of what is known of slices or subjects, such as age, beside what the source brings.
        where: a condition such as "age >= 60"; only test slices that it is true of are evaluated. Training and the
            choice of pooling use all, so that the same folds serve every condition.
        settings: further arguments of mriscope.workflows.train.run, such as device.

    Returns:
        what summary.json holds; see mriscope.evaluation.crossvalidation.summarize_folds.

    Raises:
        MriscopeError: the recipe does not fit, the folder holds something else, or a training cannot go on.
        InterruptedTrainingError: Ctrl-C; the same call goes on.
    """
    condition = None if where is None else Condition(where)
    check_type("recipe", recipe, Recipe, "what read_recipe or make_recipe gives")
    if recipe.split.file is not None:
        raise RecipeError("crossval", [f"split.file names {recipe.split.file}, and folds are drawn; leave it out"])
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RunError("crossval trains in one process; give a fold's recipe to `mriscope train` under torchrun")
    place = Path(folder)
    recipes = fold_recipes(recipe, protocol, folds, repeats)
    runs = {numbers: RunDirectory(place / fold_name(*numbers)) for numbers in recipes}
    _check_place(place, None if fresh else recipes[0, 0])
    output = _checked_output(place, runs.values())
    if fresh:
        _check_permutation(place)
        _check_fits(recipes[0, 0], settings)
        _remove_files(place)
    if (covariates or condition) and not all(runs[numbers].holds(one) for numbers, one in recipes.items()):
        slices = load(recipe.data, recipe=recipe, skip_bad=settings.get("skip_bad", False)).slices
        know(slices, covariates, condition, warn=False)  # a mistake in either is named before anything is trained
    output.claim(FILES)
    _train_missing(recipes, runs, executor, settings)
    decisive = [one.path / file for one in runs.values() for file in (RECIPE, METRICS, PREDICTIONS)]
    named = {file.relative_to(place).as_posix(): file for file in decisive}
    if covariates is not None:
        named["covariates"] = expand_home(covariates)
    key = content_key(named, version=VERSION, resamples=RESAMPLES, level=LEVEL, where=condition and condition.text)
    if (summary := _read_summary(place)) is not None and summary.made_from == key:
        return summary
    done = [
        Fold(*numbers, str(one.path), one.metrics(), one.predictions(), find_baselines(one))
        for numbers, one in runs.items()
    ]
    known = know_own(next(iter(runs.values())), covariates, condition)
    if known is not None and condition is not None:
        done = _restrict(done, known, condition)
    summary = summarize_folds(
        done,
        model=recipe.model,
        protocol=protocol,
        folds=folds,
        seed=recipe.seed,
        covariates=None if known is None else known.covariates_of,
    )
    summary = summary.model_copy(update={"made_from": key, "where": condition and condition.text})
    write_bytes(place / PREDICTIONS, _join_predictions(runs))
    write_text(place / MARKDOWN, crossvalidation_markdown(summary))
    summary.write(place / SUMMARY)
    return summary


def _train_missing(
    recipes: Mapping[tuple[int, int], Recipe],
    runs: Mapping[tuple[int, int], RunDirectory],
    executor: str,
    settings: Mapping[str, Any],
) -> None:
    """Train the folds that are not finished.

    Raises:
        RunError: some cannot be trained; the others are.
    """
    where = choose_executor(executor, len(recipes), settings.get("device", "auto"))
    missing = [numbers for numbers, one in recipes.items() if not runs[numbers].holds(one)]
    if not missing:
        return
    own = {} if where.kind in ("here", "serial") else {"silent": True}
    tasks = {
        str(runs[one].path): TrainingTask(recipes[one], runs[one].path, {"warn": one == missing[0], **settings, **own})
        for one in missing
    }
    done = sweep(run_task, tasks, where, doing="training", of=len(recipes))
    problems = {name: outcome.problem for name, outcome in done if outcome.problem is not None}
    if problems:
        reasons = dict.fromkeys(problems.values())  # one mistake is often that of every fold
        listed = "".join(f"\n  {', '.join(n for n, why in problems.items() if why == one)}: {one}" for one in reasons)
        raise RunError(f"{len(problems)} of {len(recipes)} folds could not be trained; the same call goes on{listed}")


def _restrict(done: Sequence[Fold], known: Known, condition: Condition) -> list[Fold]:
    """Keep the test slices that a condition is true of, and the folds that have some.

    Raises:
        ArgumentError: no fold has any.
    """
    restricted = [one.restrict(lambda paths: known.chosen[known.rows_of(paths)]) for one in done]
    kept = [one for one in restricted if one.metrics.n_slices]
    if not kept:
        raise ArgumentError(f"--where {condition.text!r} is true of none of the slices of the folds")
    return kept


def _checked_output(place: Path, runs: Iterable[RunDirectory]) -> OutputFolder:
    """Return the folder, in which no file is in the way; its first fold shows what a version without a list wrote."""
    proof = f"{fold_name(0, 0)}/{ENVIRONMENT}"
    output = OutputFolder(place, "crossval", written_with(proof, Environment.read, FILES))
    output.check(FILES)
    for run in runs:
        check_place(run.path)
    return output


def _check_place(place: Path, recipe: Recipe | None) -> None:
    """Refuse, before anything is trained, a folder of other things or of the folds of another recipe than the given."""
    if place.exists() and not place.is_dir():
        raise RunError(f"{place} is a file; name a folder for the cross-validation with --out")
    for one in sorted(place.iterdir()) if place.is_dir() else ():
        if one.name.startswith(".") or one.name in (*FILES, PERMUTATION, PERMUTED):
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


def _check_permutation(place: Path) -> None:
    """Refuse to remove a permutation.json that is no result of mriscope."""
    if not (place / PERMUTATION).exists():
        return
    try:
        PermutationResult.read(place / PERMUTATION)
    except RunError as error:
        raise WriteError(
            f"{place} holds {PERMUTATION} that mriscope did not write, which would be removed; move it elsewhere, or "
            "name another folder with --out"
        ) from error


def _check_fits(recipe: Recipe, settings: Mapping[str, Any]) -> None:
    """Load and split the data and make the model, so that a mistake is named while what was there is whole."""
    from mriscope.workflows._model import create_model_for

    slices = load(recipe.data, recipe=recipe, skip_bad=settings.get("skip_bad", False)).slices
    split_for(recipe.split, slices, recipe.seed)
    create_model_for(recipe, slices.class_names, pretrained=False)


def _remove_files(place: Path) -> None:
    """Remove the summary, then what every fold left: after a kill no old fold passes for a new one."""
    for pattern in ("permutation*.json", f"permutation*/*/{PREDICTIONS}", f"permutation*/*/{CHECKPOINT}"):
        for one in (place / PERMUTED).glob(f"{'[0-9a-f]' * 12}/{pattern}"):
            one.unlink()
    for name in (*FILES, PERMUTATION):
        (place / name).unlink(missing_ok=True)
    for one in sorted(place.iterdir()) if place.is_dir() else ():
        if _FOLD.fullmatch(one.name):
            empty_run(one)


def _read_summary(place: Path) -> CrossValidation | None:
    """Read the summary that is there; None where it is missing, damaged or without its other files."""
    if not all((place / name).is_file() for name in (MARKDOWN, PREDICTIONS)):
        return None
    try:
        return CrossValidation.read(place / SUMMARY)
    except RunError:
        return None


def _join_predictions(runs: Mapping[tuple[int, int], RunDirectory]) -> bytes:
    """Join the test rows of every fold as parquet: the columns of a run's predictions, then repeat and fold."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    tables = []
    for (repeat, fold), one in runs.items():
        table = pq.read_table(one.path / PREDICTIONS)
        tested = table.filter(pc.field("part") == "test")
        for name, number in (("repeat", repeat), ("fold", fold)):
            tested = tested.append_column(name, pa.array([number] * len(tested), pa.int64()))
        tables.append(tested)
    buffer = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), buffer, write_page_checksum=True)
    return buffer.getvalue()
