"""The recipes that come with the package, each found by its name: `baseline_cnn`, or `study/baseline_cnn`.

* `study/`: one for each row of the reference study's table, with its settings;
* `honest/`: for subjects that training has not seen;
* `published/`: for the published split.
"""

import glob
import logging
from fnmatch import fnmatchcase
from pathlib import Path

from mriscope.errors import RecipeError, suggest
from mriscope.files import expand_home

LOG = logging.getLogger("mriscope")

FOLDER = Path(__file__).parent
LISTED = "name a YAML file, or a recipe that `mriscope recipes` lists"


def match_recipes(pattern: str) -> list[Path]:
    """Return the files of the package's recipes that fit a name, or a pattern of names, in order.

    Args:
        pattern: such as `baseline_cnn`, `study/baseline*`, or `recipes/study/*.yaml`, their path in the sources.

    Example:
        >>> [file.stem for file in match_recipes("study/resnet*")]
        ['resnet50_10epochs', 'resnet50_20epochs']
    """
    path = pattern.replace("\\", "/")
    if path.startswith("recipes/") and path.endswith(".yaml") and path.count("/") == 2:
        path = path.removeprefix("recipes/").removesuffix(".yaml")
    return [
        file
        for file in sorted(FOLDER.glob("*/*.yaml"))
        if fnmatchcase(f"{file.parent.name}/{file.stem}" if "/" in path else file.stem, path)
    ]


def find_recipe(name: str | Path) -> Path:
    """Return the file of a recipe that is given by its path or its name; a file goes before a name.

    Args:
        name: the path of a YAML file, or the name of a recipe of the package.

    Raises:
        RecipeError: there is neither such a file nor such a recipe; it tells names that are near.

    Example:
        >>> find_recipe("baseline_cnn").parts[-2:]
        ('study', 'baseline_cnn.yaml')
    """
    path = expand_home(name)
    shipped = match_recipes(str(name))
    if path.is_file() and shipped:
        LOG.warning("%s is a file here, which is taken; the recipe of that name is left", name)
    if path.exists() and not (path.is_dir() and shipped):
        return path
    if len(shipped) != 1:
        near = suggest(path.name.removesuffix(".yaml"), [file.stem for file in match_recipes("*")])
        hint = near if near.startswith("did you mean") else LISTED
        raise RecipeError(str(name), [f"cannot be read (there is no such file, and no recipe of that name); {hint}"])
    return shipped[0]


def find_recipes(pattern: str) -> list[Path]:
    """Return the files of recipes that a pattern of paths or of names fits; files go before names.

    Args:
        pattern: the path of a YAML file or the name of a recipe of the package, with * and ? for others.

    Raises:
        RecipeError: there are none.

    Example:
        >>> len(find_recipes("resnet50_*"))
        2
    """
    if not glob.has_magic(pattern):
        return [find_recipe(pattern)]
    shipped = match_recipes(pattern)
    found = sorted(Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207 - it may be absolute
    if found and shipped:
        LOG.warning("%s fits files here, which are taken; the recipes of these names are left", pattern)
    if not found and not shipped:
        problem = f"no file and no recipe fits {pattern}; name YAML files, or recipes such as 'study/baseline*'"
        raise RecipeError("recipes", [problem])
    return found or shipped
