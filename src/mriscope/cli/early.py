"""Mistakes that are answered before torch is imported or data are read."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mriscope.errors import DataError, UnknownNameError
from mriscope.files import expand_home

if TYPE_CHECKING:
    from mriscope.recipe import Recipe


def check_data(source: str | None, manifest: str | None = None, split: str | None = None) -> None:
    """Refuse a source or a file beside it that is not there.

    Raises:
        DataError: names it, and what was expected.
    """
    from mriscope.data.phantom_options import phantom_options
    from mriscope.data.read_options import OF_TABLES, OF_VOLUMES, split_options
    from mriscope.data.source import find_path, parse_source

    if source is not None:
        name, options = split_options(source)
        kind = parse_source(name).kind
        if kind == "path":
            find_path(source)
        elif kind == "phantom":
            options.refuse((*OF_VOLUMES, *OF_TABLES), "the phantom is made as slices")
            phantom_options(str(name))
    for file, kind in ((manifest, "a CSV file with a header"), (split, "a file of `mriscope split` or of a run")):
        if file is not None and not expand_home(file).is_file():
            reason = "is no ordinary file" if expand_home(file).exists() else "does not exist"
            raise DataError(f"{file} {reason}; name {kind}")


def check_condition(text: str | None) -> None:
    """Refuse a condition that cannot be read.

    Raises:
        ArgumentError: says what is wrong with it.
    """
    from mriscope.data.where import Condition

    if text is not None:
        Condition(text)


def check_recipe(recipe: "Recipe") -> None:
    """Refuse a recipe that names a model, an option, an optimizer, a source or a file that does not exist.

    Raises:
        UnknownNameError: there is no such model or optimizer.
        RecipeError: the model has no such option.
        DataError: there is no such source or file.
    """
    from mriscope.models.names import check_model_name, check_option_names
    from mriscope.training.optimizer_names import check_optimizer_name

    check_model_name(recipe.model)
    check_option_names(recipe.model, recipe.model_options)
    check_optimizer_name(recipe.training.optimizer)
    check_data(recipe.data, recipe.manifest, recipe.split.file)


def check_published(recipe: "Recipe") -> None:
    """Refuse to train by the published split of a phantom, which has none.

    Raises:
        DataError: says how to draw one.
    """
    from mriscope.data.source import parse_source

    if recipe.split.protocol == "published" and not recipe.split.file and parse_source(recipe.data).kind == "phantom":
        raise DataError(
            f"{recipe.data} publishes no train and test part; draw one with "
            "--set split.protocol=by_subject (or by_slice)"
        )


def check_images(images: Sequence[str | Path]) -> None:
    """Refuse images, volumes and sets that are not there.

    Raises:
        DataError: names the first.
    """
    from mriscope.data.listing import find_paths
    from mriscope.data.read_options import split_options
    from mriscope.data.source import parse_source

    for image in images:
        path = str(split_options(image)[0])
        if parse_source(image).kind == "path" and not find_paths(expand_home(path)):
            raise DataError(f"there is no file {path}; name images, volumes, or folders of them")


def check_run(path: Path, class_name: str | None = None) -> None:
    """Refuse a folder that holds no finished run, and a class that the run's data does not have.

    Raises:
        RunError: there is no such run, or it is unfinished.
        UnknownNameError: there is no such class.
    """
    from mriscope.run_files import check_finished

    check_finished(path)
    if class_name is None:
        return
    from mriscope.run_directory import RunDirectory

    run = RunDirectory(path)
    if not run.imported and (known := run.metrics().classes) and class_name not in known:
        raise UnknownNameError("class", class_name, known)
