"""An explanation of single slices as a page of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

from mriscope.reports.page import Picture, render


@dataclass(frozen=True)
class EmptyMap:
    """An empty map.

    Args:
        image: path of the slice.
        method: its name in print.
        reason: why.
    """

    image: str
    method: str
    reason: str


def explanation_page(
    title: str,
    origin: str,
    picture: Picture,
    facts: Sequence[tuple[str, str]],
    empty_maps: Sequence[EmptyMap],
    *,
    leaky: bool | None,
) -> str:
    """Return the grid as HTML, with how it was made and the maps that are empty.

    Args:
        title: of the page.
        origin: which slices these are and how the run was split, a sentence.
        picture: the grid.
        facts: names and values of the settings that decide the maps.
        empty_maps: the maps that are empty.
        leaky: whether test subjects also have slices in the training part; None where that is unknown.
    """
    return render(
        "explain.html.j2", title=title, origin=origin, picture=picture, facts=facts, empty_maps=empty_maps, leaky=leaky
    )
