"""Explained slices, and how a page shows them: plain, under each map, and with their regions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mriscope.data.images import Images
from mriscope.data.volumes import sides_of
from mriscope.evaluation.titles import class_title
from mriscope.explain.maps import Explanation
from mriscope.explain.methods import METHODS
from mriscope.explain.metrics.localisation import brain_mask
from mriscope.explain.metrics.region_shares import SliceRegions, find_slice_regions
from mriscope.explain.overlays import paint_regions, png_bytes
from mriscope.explain.placement import LEAST_LIKENESS
from mriscope.reports.explanation import EmptyMap, ShownSlice
from mriscope.reports.page import Picture
from mriscope.reports.regions import Rows, slice_rows

REGION_COLOURS = {
    "ventricles": "#0072b2",
    "cortex": "#e69f00",
    "white_matter": "#999999",
    "rest": "#cc79a7",
    "medial_temporal": "#009e73",
}
"""Distinct to the colour-blind too (Okabe and Ito, 2008); the last is an outline."""


@dataclass(frozen=True)
class ExplainedSlices:
    """Slices with their true classes and subjects, where known, and their maps.

    Args:
        images: the slices.
        truths: their classes.
        subjects: what is known of each slice's subject and position, in words.
        units: int64 (N,), the subject of each slice; -1 where unknown.
        class_names: of the model.
        found: the maps of each method.
    """

    images: Images
    truths: list[str] | None
    subjects: list[str]
    units: np.ndarray
    class_names: Sequence[str]
    found: Mapping[str, Explanation]

    @property
    def titles(self) -> list[str]:
        """Return the true and the predicted class, the explained one where it is another, and the subject."""
        one = next(iter(self.found.values()))
        rows, titles = one.logits.double().softmax(1).cpu().numpy(), []
        columns = one.classes.tolist(), self.truths or [None] * len(rows), self.subjects
        for row, explained, truth, subject in zip(rows, *columns, strict=True):
            predicted = int(row.argmax())
            lines = [] if truth is None else [f"true {class_title(truth)}"]
            lines.append(f"predicted {class_title(self.class_names[predicted])} {row[predicted]:.2f}")
            if explained != predicted:
                lines.append(f"explained {class_title(self.class_names[int(explained)])} {row[explained]:.2f}")
            titles.append("\n".join([*lines, subject] if subject else lines))
        return titles

    @cached_property
    def brains(self) -> np.ndarray:
        """Return bool (N, H, W), where each slice shows brain; all of a slice that shows none."""
        masks = brain_mask(self.images.images)
        return masks | ~masks.any(axis=(1, 2), keepdims=True)

    @cached_property
    def regions(self) -> SliceRegions:
        """Return the regions of the slices that can be placed in the template."""
        return find_slice_regions(self.images.images, self.units)

    @property
    def empty_maps(self) -> list[EmptyMap]:
        """Return the maps that are empty, and why."""
        return [
            EmptyMap(path, METHODS[name], reason)
            for name, one in self.found.items()
            for path, reason in zip(self.images.paths, one.reasons, strict=True)
            if reason is not None
        ]


def show_slices(
    shown: ExplainedSlices, maps: Mapping[str, np.ndarray], overlays: Mapping[tuple[int, str], bytes]
) -> list[ShownSlice]:
    """Return the slices as the page shows them: plain, under each map, and with their regions."""
    areas, shares = shown.regions.area_shares(), {name: shown.regions.map_shares(one) for name, one in maps.items()}
    found = []
    for row, path in enumerate(shown.images.paths):
        title, *lines = shown.titles[row].split("\n")
        alt = f"The slice {path}: {title}, {', '.join(lines)}"
        plain = Picture("The slice", "", png_bytes(shown.images.images[row]), alt)
        told: Rows | str = _without_regions(shown.regions, row)
        regions = _shown_regions(shown, row)
        if regions is not None:
            of_maps = {METHODS[name]: {one: each[row] for one, each in of.items()} for name, of in shares.items()}
            told = slice_rows({one: each[row] for one, each in areas.items()}, of_maps)
        pictures = [_shown_map(shown, row, name, heat[row], overlays[row, name]) for name, heat in maps.items()]
        found.append(ShownSlice(path, [title, *lines], sides_of(path), plain, pictures, regions, told))
    return found


def _shown_map(shown: ExplainedSlices, row: int, name: str, heat: np.ndarray, picture: bytes) -> Picture:
    if not heat.any():
        return Picture(METHODS[name], "empty map", picture, f"{METHODS[name]}: an empty map")
    brain = shown.brains[row]
    outside = f"{100 * heat[~brain].sum() / heat.sum():.0f} % outside the brain"
    seen = f"{METHODS[name]}: strongest in the {_strongest_place(heat, brain)} of the brain, {outside}"
    return Picture(METHODS[name], outside, picture, seen)


def _shown_regions(shown: ExplainedSlices, row: int) -> Picture | None:
    """Return a slice with its regions painted; None where it is not placed."""
    if not shown.regions.placement.placed[row]:
        return None
    *areas, (outlined, colour) = REGION_COLOURS.items()
    masks = {name: mask[row] for name, mask in shown.regions.masks.items()}
    painted = paint_regions(
        shown.images.images[row], {one: masks[name] for name, one in areas}, {colour: masks[outlined]}
    )
    height = f"{shown.regions.placement.heights[row]:.0f} mm in the template"
    seen = ", ".join(name.replace("_", " ") for name, mask in masks.items() if mask.any())
    return Picture(f"regions, at about {height}", "", png_bytes(painted), f"The regions of the slice: {seen}")


def _without_regions(regions: SliceRegions, row: int) -> str:
    likeness = regions.placement.likeness[row]
    found = "no brain is seen in it" if np.isnan(likeness) else f"its correlation with the template is {likeness:.2f}"
    return f"No regions are told of this slice: {found}, and {LEAST_LIKENESS:g} is needed."


def _strongest_place(heat: np.ndarray, brain: np.ndarray) -> str:
    """Say in which ninth of the brain's bounding box a map is strongest, as seen in the picture."""
    rows, columns = np.nonzero(brain)
    row, column = np.unravel_index((heat * brain).argmax(), heat.shape)
    down = (row - rows.min()) / (np.ptp(rows) + 1)
    across = (column - columns.min()) / (np.ptp(columns) + 1)
    place = [("upper", "", "lower")[int(3 * down)], ("left", "", "right")[int(3 * across)]]
    return " ".join(word for word in place if word) or "middle"
