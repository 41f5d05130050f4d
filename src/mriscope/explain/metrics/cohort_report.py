"""Mean maps of one of several methods, as records and as a picture: which slices are averaged, and what is drawn."""

import math
from collections.abc import Sequence

import numpy as np

from mriscope.data.severity import severity_ranks
from mriscope.data.slices import UNKNOWN, SliceSet
from mriscope.evaluation.titles import class_title
from mriscope.explain.metrics.cohort import MeanMap, cohort_maps
from mriscope.explain.metrics.recommendation import MethodScores
from mriscope.explain.overlays import matrix, png_bytes
from mriscope.results import Cohort, CohortGroup

COHORT = "cohort.png"
DEFAULT = "gradcam"
"""The method whose mean maps are shown where none is recommended."""
THIRDS = ("low", "middle", "high")
_THIRDS_NOTE = "Slices of many positions are compared, so groups are thirds of their range, from inferior to superior."
_UNKNOWN_NOTE = "Positions are unknown, so slices of all heights are mixed and a mean tells little."
CAPTION = (
    "Left the mean slice, in the middle the mean map, right the upper less the lower bound of each pixel's own 95 % "
    "interval; both in the colours of the bar. Intervals of few subjects are too narrow."
)
_TILE = 256  # pixels; the most that a slice is enlarged to
_Group = tuple[int, int]


def describe_cohort(
    scores: Sequence[MethodScores],
    recommended: str | None,
    slices: SliceSet,
    classes: np.ndarray,
    class_names: Sequence[str],
    *,
    seed: int = 0,
    heading: str = "",
) -> tuple[Cohort, bytes | None]:
    """Describe mean maps of one method for each explained class in each third of the positions, with 95 % intervals.

    A group of a single subject (of a single slice, where subjects are unknown) is counted and not drawn: its mean tells
    nothing about other subjects.

    Args:
        scores: of methods and baselines, a method first.
        recommended: name of the method to show; None takes Grad-CAM, or the first where that was not measured.
        slices: those of the maps.
        classes: int64 (N,), the class that each map explains.
        class_names: of the model.
        seed: of resampling.
        heading: the model and its split, for the picture's heading.

    Returns:
        the groups, thirds from low to high and classes from mild to severe; and the picture as PNG, or None where no
        group has an interval.
    """
    one = next((one for one in scores if one.name == (recommended or DEFAULT)), scores[0])
    subjects = slices.subjects if slices.knows_subjects else np.full(len(slices), UNKNOWN)
    thirds = position_thirds(slices.positions)
    found = cohort_maps(one.maps, classes, thirds, subjects, seed=seed)
    severity = severity_ranks(class_names)
    order = sorted(found, key=lambda group: (group[1], severity[group[0]]))
    rows_of = {group: (classes == group[0]) & (thirds == group[1]) for group in order}
    records = [_record(found[group], group, slices.positions[rows_of[group]], class_names) for group in order]
    drawn = [(group, text) for group, text in zip(order, records, strict=True) if text.width is not None]
    cohort = Cohort(
        method=one.name,
        title=one.title,
        why="the method recommended" if recommended else "no method is recommended",
        note=_UNKNOWN_NOTE if thirds[0] == UNKNOWN else _THIRDS_NOTE,
        groups=records,
        file=COHORT if drawn else None,
    )
    if not drawn:
        return cohort, None
    pixels = [np.rint(slices.images[rows_of[group]].mean(0)).astype(np.uint8) for group, _ in drawn]
    maps = [found[group] for group, _ in drawn]
    heading = f"Mean maps of {one.title}; {heading}"
    return cohort, _png(pixels, maps, [_title(text) for _, text in drawn], heading)


def position_thirds(positions: np.ndarray) -> np.ndarray:
    """Return the third of the range of positions that each lies in.

    Args:
        positions: float64 (N,), nan where unknown.

    Returns:
        int64 (N,), 0 for the low third, 1 and 2; -1 for all where one is unknown, so that groups stay comparable.
    """
    if np.isnan(positions).any():
        return np.full(len(positions), UNKNOWN)
    low, high = positions.min(), positions.max()
    return ((positions - low) * 3 // (high - low + 1)).astype(np.int64)


def _record(one: MeanMap, group: _Group, positions: np.ndarray, class_names: Sequence[str]) -> CohortGroup:
    label, third = group
    known, width = third != UNKNOWN, float(_width(one).mean())
    return CohortGroup(
        class_name=class_title(class_names[label]),
        third=THIRDS[third] if known else None,
        positions=(float(positions.min()), float(positions.max())) if known else None,
        n_slices=one.n_slices,
        n_subjects=one.n_subjects,
        width=None if math.isnan(width) else width,
    )


def _width(one: MeanMap) -> np.ndarray:
    return (one.high - one.low).clamp(0, 1).numpy()


def _title(group: CohortGroup) -> str:
    third = "all positions" if group.third is None else f"{group.third} third"
    subjects = "subjects unknown" if group.n_subjects is None else f"{group.n_subjects} subjects"
    return f"{third}\npredicted {group.class_name}\n{group.n_slices} slices, {subjects}"


def _png(pixels: Sequence[np.ndarray], maps: Sequence[MeanMap], titles: Sequence[str], heading: str) -> bytes:
    columns = {
        "Mean map": [one.mean.clamp(0, 1) for one in maps],
        "Upper less lower bound": [_width(one) for one in maps],
    }
    scale = max(1, _TILE // pixels[0].shape[1])
    return png_bytes(matrix(pixels, columns, titles, scale=scale, heading=heading, first="Mean slice"))
