"""Mistakes that are answered before torch is imported or data are read."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mriscope.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from mriscope.recipe import Recipe
    from mriscope.run_directory import RunDirectory


def check_data(source: str | None, manifest: str | None = None, split: str | None = None) -> None:
    """Refuse a source or a file beside it that is not there.

    Raises:
        DataError: names it, and what was expected.
    """
    from mriscope.data.source import find_path, parse_source

    if source is not None and parse_source(source).kind == "path":
        find_path(source)
    for file, kind in ((manifest, "a CSV file with a header"), (split, "a file of `mriscope split` or of a run")):
        if file is not None and not Path(file).expanduser().is_file():
            reason = "is no ordinary file" if Path(file).expanduser().exists() else "does not exist"
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
    """Refuse a recipe that names a model, a source or a file that does not exist.

    Raises:
        UnknownNameError: there is no such model.
        DataError: there is no such source or file.
    """
    from mriscope.models.names import check_model_name

    check_model_name(recipe.model)
    check_data(recipe.data, recipe.manifest, recipe.split.file)


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
        if parse_source(image).kind == "path" and not find_paths(Path(path).expanduser()):
            raise DataError(f"there is no file {path}; name images, volumes, or folders of them")


def check_run(path: Path, class_name: str | None = None) -> "RunDirectory":
    """Open a finished run, and refuse a class that its data does not have.

    Raises:
        RunError: there is no such run, or it is unfinished.
        UnknownNameError: there is no such class.
    """
    from mriscope.run_directory import open_run

    run = open_run(path)
    if class_name is not None and not run.imported and (known := run.metrics().classes) and class_name not in known:
        raise UnknownNameError("class", class_name, known)
    return run
