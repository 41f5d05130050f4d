"""Write the splits of a source as files."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mriscope.data.split_files import split_file, split_for, warn_of_sharing
from mriscope.errors import DataError, RecipeError, RunError
from mriscope.recipe import Recipe, SplitSettings, make_recipe
from mriscope.results import SplitRecord
from mriscope.workflows._load import load

LOG = logging.getLogger("mriscope")

_MOST_FOLDS = 10_000  # each has a recipe, which is made before data are read


def fold_recipe(recipe: Recipe, protocol: str, folds: int, fold: int, repeat: int) -> Recipe:
    """Return a recipe for one fold of a cross-validation.

    Raises:
        RecipeError: protocol and folds do not go together.
    """
    settings = recipe.model_dump()
    settings["split"] |= {"protocol": protocol, "folds": folds, "fold": fold, "repeat": repeat, "file": None}
    return make_recipe(settings, "crossval")


def fold_recipes(recipe: Recipe, protocol: str, folds: int, repeats: int) -> dict[tuple[int, int], Recipe]:
    """Return a recipe for each fold of a cross-validation, by repeat and fold.

    Raises:
        RecipeError: protocol and folds do not go together, there are no repeats, or more than 10,000 folds in all.
    """
    if repeats < 1:
        raise RecipeError("crossval", [f"repeats is {repeats}; ask for 1 or more"])
    if folds * repeats > _MOST_FOLDS:
        raise RecipeError("crossval", [f"{folds} folds in {repeats} repeats are more than {_MOST_FOLDS:,} runs"])
    return {
        (repeat, fold): fold_recipe(recipe, protocol, folds, fold, repeat)
        for repeat in range(repeats)
        for fold in range(max(1, folds))  # none are refused with the sentence for one
    }


def fold_name(repeat: int, fold: int) -> str:
    """Return the name of a fold's run directory and split file."""
    return f"repeat{repeat}-fold{fold}"


def write_splits(
    source: str,
    out: str | Path,
    *,
    protocol: str,
    folds: int | None = None,
    repeats: int = 1,
    seed: int = 0,
    test: float = 0.2,
    validation: float = 0.1,
    manifest: str | None = None,
    skip_bad: bool = False,
) -> list[Path]:
    """Write the splits of a source as JSON files that the setting split.file takes: one, or one for each fold.

    Args:
        source: that mriscope.data.read takes.
        out: folder; a file that is there already with other content is not replaced.
        protocol: published, by_slice or by_subject.
        folds: for K-fold cross-validation; None makes a single split.
        repeats: how many divisions into folds.
        seed: of all draws.
        test: share of a single split's test part.
        validation: share of the training part.
        manifest: a CSV file that gives the slices their subjects; None: as the source or its pixels tell.
        skip_bad: leave unusable rows out where they would be an error.

    Raises:
        RecipeError: the settings do not go together.
        DataError: the source cannot be read or does not allow the split, or a file is in the way.
    """
    shares = {"protocol": protocol, "test": test, "validation": validation}
    asked = list(_settings(shares, folds, repeats, seed))
    loaded = load(source, manifest=manifest, skip_bad=skip_bad)
    loaded.report_bad_rows()
    slices = loaded.slices
    splits = [split_for(settings, slices, seed) for _, settings in asked]
    warn_of_sharing(slices, splits[0])
    files = {}
    for (name, settings), split in zip(asked, splits, strict=True):
        unused = {"test"} if settings.folds or settings.protocol == "published" else set()
        told = settings.model_dump(exclude_none=True, exclude={"protocol", *unused})
        files[Path(out) / f"{name}.json"] = split_file(slices, split, seed).model_copy(update=told)
    for file, record in files.items():
        if file.exists() and not _holds(file, record):
            raise DataError(f"{file} holds another split; name another folder with --out")
    for file, record in files.items():
        record.write(file)
    return list(files)


def _holds(file: Path, record: SplitRecord) -> bool:
    try:
        return SplitRecord.read(file) == record
    except RunError:
        return False


def _settings(
    shares: dict[str, Any], folds: int | None, repeats: int, seed: int
) -> Iterator[tuple[str, SplitSettings]]:
    """Name and settings of each split, checked as a recipe's are."""
    base = make_recipe({"model": "any", "split": shares, "seed": seed}, "split")
    if folds is None:
        yield f"{shares['protocol']}-seed{seed}", base.split
        return
    for numbers, recipe in fold_recipes(base, shares["protocol"], folds, repeats).items():
        yield fold_name(*numbers), recipe.split
