"""Cross-validate a recipe with the labels of the subjects permuted: what a pipeline gives where nothing is known."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mriscope.data.slices import SliceSet
from mriscope.data.split_files import split_for
from mriscope.errors import RecipeError, RunError
from mriscope.evaluation.crossval_tests import measure_folds, permute_labels, summarize_permutations
from mriscope.evaluation.crossvalidation import Fold
from mriscope.evaluation.inference import predict
from mriscope.evaluation.predictions import Predictions, read_predictions, write_predictions
from mriscope.recipe import Recipe, write_recipe
from mriscope.results import PermutationResult, ResultFile
from mriscope.run_directory import PREDICTIONS, RunDirectory
from mriscope.sweep import choose_executor, sweep
from mriscope.training.devices import pick_device
from mriscope.training.fitting import fit
from mriscope.training.progress import Monitor
from mriscope.workflows._load import load
from mriscope.workflows._model import create_model_for
from mriscope.workflows.crossval import PERMUTATION, PERMUTED, crossvalidate
from mriscope.workflows.split import fold_name, fold_recipe

_MOST = 100_000  # permutations, each of which is a file; p is then as small as 1e-5


class _Measured(ResultFile):
    """The metrics of one permutation: by level, task and name."""

    REMEDY: ClassVar[str] = "remove the file, and give the command again"

    metrics: dict[str, dict[str, dict[str, float]]]


def permute(
    recipe: Recipe,
    folder: str | Path,
    *,
    permutations: int,
    folds: int = 5,
    protocol: str = "by_subject",
    device: str = "auto",
    skip_bad: bool = False,
    executor: str = "here",
    **settings: Any,
) -> PermutationResult:
    """Cross-validate a recipe, then again with the labels of the subjects permuted, everything refitted each time.

    What is finished is kept, fold by fold, so that the same call finishes what a kill left. Only the first repeat is
    compared, as each permutation is cross-validated once.

    Args:
        recipe: as for crossvalidate; its seed also draws the permutations.
        folder: that of the cross-validation; gets permutation.json, and the folder permuted for what is in work.
        permutations: how many; p is at least 1 / (permutations + 1).
        folds: how many.
        protocol: by_subject or by_slice.
        device: auto, cpu or cuda.
        skip_bad: leave unusable rows out.
        executor: where folds and permutations are fitted, as for crossvalidate.
        settings: further arguments of crossvalidate.

    Raises:
        MriscopeError: as crossvalidate; or the subject of a slice is unknown.
    """
    if not 1 <= permutations <= _MOST:
        raise RecipeError("crossval", [f"permute is {permutations}; ask for 1 to {_MOST:,}"])
    place, common = Path(folder), {"folds": folds, "protocol": protocol, "device": device, "skip_bad": skip_bad}
    if (place / PERMUTATION).exists():
        PermutationResult.read(place / PERMUTATION)  # what is no result of this command is not replaced
    summary = crossvalidate(recipe, place, **common, executor=executor, **settings)
    tasks, levels = list(summary.slice), ["slice", *(["subject"] if summary.subject is not None else [])]
    recipes = [fold_recipe(recipe, protocol, folds, fold, 0) for fold in range(folds)]
    runs = [RunDirectory(place / fold_name(0, fold)) for fold in range(folds)]
    own = [Fold(0, number, str(one.path), one.metrics(), one.predictions()) for number, one in enumerate(runs)]
    observed = measure_folds(own, tasks, levels)
    slices = load(recipe.data, recipe=recipe, skip_bad=skip_bad).slices
    decisive = f"{write_recipe(recipes[0])}{slices.fingerprint}".encode()
    work = place / PERMUTED / hashlib.sha256(decisive).hexdigest()[:12]
    files = [work / f"permutation{number}.json" for number in range(permutations)]
    asked = _Asked(recipes, own, tasks, levels, device, skip_bad)
    missing = {
        f"permutation {number + 1} of {permutations}": (asked, number, file)
        for number, file in enumerate(files)
        if not file.is_file()
    }
    where = choose_executor(executor, permutations, device)
    done = sweep(_measure_permutation, missing, where, doing="refitting", of=permutations)
    problems = [f"{name}: {outcome.problem}" for name, outcome in done if outcome.problem is not None]
    if problems:
        raise RunError(f"{len(problems)} permutations failed; the same call goes on. {problems[0]}")
    measured = [_Measured.read(file).metrics for file in files]
    result = PermutationResult(
        model=recipe.model,
        protocol=protocol,
        folds=folds,
        seed=recipe.seed,
        permutations=permutations,
        metrics=summarize_permutations(observed, measured),
    )
    result.write(place / PERMUTATION)
    return result


@dataclass(frozen=True, eq=False)
class _Asked:
    """What all permutations of a cross-validation have in common."""

    recipes: Sequence[Recipe]
    """Of the folds."""
    folds: Sequence[Fold]
    tasks: Sequence[str]
    levels: Sequence[str]
    device: str
    skip_bad: bool


@lru_cache(maxsize=1)
def _load_slices(asked: _Asked) -> SliceSet:
    return load(asked.recipes[0].data, recipe=asked.recipes[0], skip_bad=asked.skip_bad).slices


def _measure_permutation(task: tuple[_Asked, int, Path]) -> None:
    """Refit all folds on the labels of one permutation, and write their metrics."""
    asked, number, file = task
    permuted = permute_labels(_load_slices(asked), asked.recipes[0].seed, number)
    folder = file.with_suffix("")
    done = [
        replace(one, predictions=_fit_fold(asked.recipes[one.fold], permuted, folder, asked.device))
        for one in asked.folds
    ]
    _Measured(metrics=measure_folds(done, asked.tasks, asked.levels)).write(file)


def _fit_fold(recipe: Recipe, slices: SliceSet, folder: Path, device: str) -> Predictions:
    """Fit one fold on permuted labels, or read what an earlier call left of it."""
    place = folder / fold_name(0, recipe.split.fold or 0)
    if (place / PREDICTIONS).is_file():
        return read_predictions(place / PREDICTIONS)
    place.mkdir(parents=True, exist_ok=True)
    split = split_for(recipe.split, slices, recipe.seed)
    model = create_model_for(recipe, slices.class_names, pretrained=True)
    trained = fit(
        model,
        slices,
        split.train,
        split.validation,
        recipe.training,
        scale=recipe.input.scale,
        seed=recipe.seed,
        device=pick_device(device),
        folder=place,
        monitor=Monitor(silent=True),
    )
    model.load_state_dict(trained.weights)
    rows = np.concatenate([split.validation, split.test])
    parts = np.repeat(["validation", "test"], [len(split.validation), len(split.test)])
    predictions = predict(model, slices[rows], recipe.input.scale, parts, severity=recipe.severity)
    write_predictions(predictions, place / PREDICTIONS)
    return predictions
