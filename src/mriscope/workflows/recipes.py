"""List the recipes that come with the package."""

from dataclasses import dataclass

from mriscope.errors import RecipeError
from mriscope.recipe import read_recipe
from mriscope.recipes import match_recipes


@dataclass(frozen=True)
class ShippedRecipe:
    """A recipe of the package.

    Attributes:
        name: what `mriscope train` takes.
        group: study, honest or published.
        model: the model that it trains.
        protocol: how it splits the slices.
        about: what its file says of it in the first line.
    """

    name: str
    group: str
    model: str
    protocol: str
    about: str


def list_recipes(pattern: str = "*") -> list[ShippedRecipe]:
    """Return the recipes of the package that fit a pattern, group by group.

    Raises:
        RecipeError: none does.

    Example:
        >>> [recipe.name for recipe in list_recipes("published/best*")]
        ['best_published']
    """
    found = []
    for file in match_recipes(pattern):
        recipe, about = read_recipe(file), file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        found.append(ShippedRecipe(file.stem, file.parent.name, recipe.model, recipe.split.protocol, about))
    if not found:
        raise RecipeError("recipes", [f"no recipe fits {pattern}; `mriscope recipes` lists all of them"])
    return found
