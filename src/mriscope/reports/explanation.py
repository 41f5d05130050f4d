"""An explanation of single slices as a page of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

from mriscope.reports.page import Picture, render


@dataclass(frozen=True)
class Silent:
    """A map that carries nothing.

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
    silent: Sequence[Silent],
    *,
    leaky: bool | None,
) -> str:
    """The grid as HTML, with how it was made and the maps that carry nothing.

    Args:
        title: of the page.
        origin: whose slices these are and how the run was judged, a sentence.
        picture: the grid.
        facts: names and values of what decides the maps.
        silent: the maps that carry nothing.
        leaky: whether test subjects also have slices in the training part; None where that is unknown.
    """
    return render(
        "explain.html.j2", title=title, origin=origin, picture=picture, facts=facts, silent=silent, leaky=leaky
    )
