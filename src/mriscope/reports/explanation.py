"""An explanation of single slices as a page of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mriscope.reports.page import Picture, render, split_verdict
from mriscope.reports.regions import ABOUT, TITLES, Rows, region_rows
from mriscope.results import RegionTable


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


@dataclass(frozen=True)
class ShownSlice:
    """A slice and its maps.

    Args:
        path: its name.
        lines: its classes and subject.
        sides: what its left and right edge show, such as L and R; None where that is unknown.
        plain: the slice itself.
        maps: the slice under each map; the caption says how much of the map lies outside the brain.
        regions: the slice with its regions painted; None where it could not be placed in the template.
        shares: heads and rows of its table by region; a sentence that says why there is none.
    """

    path: str
    lines: Sequence[str]
    sides: tuple[str, str] | None
    plain: Picture
    maps: Sequence[Picture]
    regions: Picture | None
    shares: Rows | str


def explanation_page(
    title: str,
    origin: str,
    scale: Picture,
    slices: Sequence[ShownSlice],
    facts: Sequence[tuple[str, str]],
    empty_maps: Sequence[EmptyMap],
    regions: RegionTable,
    colours: Mapping[str, str],
    *,
    leaky: bool | None,
    coloured_background: bool,
) -> str:
    """Return the slices and their maps as HTML, with how they were made and the maps that are empty.

    Args:
        title: of the page.
        origin: which slices these are and how the run was split, a sentence.
        scale: the colours from 0 to 1.
        slices: in the order in which they are shown.
        facts: names and values of the settings that decide the maps.
        empty_maps: the maps that are empty.
        regions: where the maps of all slices lie.
        colours: of each region in the pictures.
        leaky: whether test subjects also have slices in the training part; None where that is unknown.
        coloured_background: whether maps are coloured outside the brain too.
    """
    return render(
        "explain.html.j2",
        title=title,
        origin=origin,
        scale=scale,
        slices=slices,
        facts=facts,
        empty_maps=[(one.image, one.method, one.reason) for one in empty_maps],
        regions=regions,
        region_rows=region_rows(regions),
        about_regions=ABOUT,
        legend=[(TITLES[name], colour) for name, colour in colours.items()],
        leaky=leaky,
        verdict=split_verdict(
            leaky, "these maps may show by what the model recognises a brain, and need not show disease"
        ),
        coloured_background=coloured_background,
    )
