"""Report of `mriscope prepare`: what became of each volume, as text and as a page with a picture of each step."""

import base64
import math
from collections import Counter
from collections.abc import Callable, Sequence

from mriscope.preparation.tiles import SIDE, Tile
from mriscope.reports.page import render
from mriscope.results import Preparation, PreparedVolume

MOST_SHOWN = 200
"""Volumes with pictures on a page; each takes about 50 KB."""
_SKULL = {
    "removed": "skull removed",
    "came without": "came without a skull",
    "not stripped": "not stripped: it has a skull, and --strip deepbet removes it",
}


def preparation_page(result: Preparation, tiles_of: Callable[[PreparedVolume], Sequence[Tile]]) -> str:
    """Make the page: failed volumes first, then those least like the template.

    Args:
        result: of the preparation.
        tiles_of: returns the pictures of a volume's steps.
    """
    order = sorted(result.volumes, key=_doubtful)
    rows = [(one, summary_of(one), [_picture(one, tile) for tile in tiles_of(one)]) for one in order[:MOST_SHOWN]]
    words = {True: "yes", False: "no"}
    settings = {
        name.replace("_", " ").capitalize(): words[value] if isinstance(value, bool) else value
        for name, value in result.settings.model_dump().items()
    }
    return render(
        "prepare.html.j2",
        title=f"Prepared volumes of {result.source}",
        summary=preparation_text(result),
        rows=rows,
        side=SIDE,
        left_out=max(0, len(order) - MOST_SHOWN),
        settings={**settings, "mriscope": result.mriscope, **result.packages},
    )


def preparation_text(result: Preparation) -> str:
    """Say in a few lines how many slices and volumes there are, and which volumes failed."""
    good = [one for one in result.volumes if not one.problem]
    states = Counter(one.measures.skull for one in good if one.measures)
    told = [f"{states['not stripped']} of them not stripped"] if states["not stripped"] else []
    count = f"{len(good):,} volume{'s' * (len(good) != 1)}"
    lines = [", ".join([f"{sum(one.slices for one in good):,} slices of {count}", *told])]
    if result.failed:
        lines.append(f"without slices: {len(result.failed):,} of {len(result.volumes):,} volumes")
        lines += [f"  {one.path} {one.problem}" for one in result.failed]
    return "\n".join(lines)


def summary_of(volume: PreparedVolume) -> str:
    """Say in one line what became of a volume."""
    if volume.problem or volume.measures is None:
        return f"No slices: it {volume.problem}"
    measures = volume.measures
    told = [f"{volume.slices} slices", _SKULL[measures.skull]]
    if not math.isnan(measures.likeness):
        told.append(f"correlation with the template {measures.likeness:.2f}")
        told.append(f"brain {measures.scale:.2f} times as large as the template's")
    told += [f"{measures.empty} slices of the choice show nothing"] if measures.empty else []
    return "; ".join(told)


def _doubtful(volume: PreparedVolume) -> tuple[bool, float]:
    likeness = math.nan if volume.measures is None else volume.measures.likeness
    return not volume.problem, 1.0 if math.isnan(likeness) else likeness


def _picture(volume: PreparedVolume, tile: Tile) -> dict[str, str]:
    address = f"data:image/jpeg;base64,{base64.b64encode(tile.jpeg).decode()}"
    return {"address": address, "step": tile.step, "view": tile.view, "alt": f"{volume.path}, {tile.step}, {tile.view}"}
