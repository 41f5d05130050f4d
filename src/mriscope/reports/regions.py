"""Where maps lie by region of the brain: as rows of a page or a terminal, and as CSV."""

import csv
import io
import math

from mriscope.results import Estimate, RegionTable

TITLES = {
    "ventricles": "ventricles",
    "cortex": "cortex",
    "white_matter": "white matter",
    "rest": "the rest",
    "medial_temporal": "medial temporal",
}
"""What regions are called in print."""
AREA = "share of the area"
ABOUT = (
    "Each figure is the share of the map over the region's share of the area, both within the brain: 1 is what a map "
    "gets that knows nothing. Ventricles, cortex (the rim of the brain), white matter and the rest are found by grey "
    "values and depth, not drawn by an anatomist, and divide the brain; medial temporal is the place of amygdala and "
    "hippocampus in the template, lies within the others, and is there in low slices alone."
)
Rows = tuple[list[str], list[list[str]]]


def region_rows(table: RegionTable) -> Rows:
    """Return heads and rows: the areas, then each method's ratios; a second line of a cell has the share of the map."""
    areas = [f"{_per_cent(one.share)}\n{_whom(one.n_slices, one.n_subjects)}" for one in table.areas]
    rows = [
        [
            method.title,
            *(f"{_ratio(one.ratio)}\n{_per_cent(one.map_share)} of the map" if one.n_slices else "–" for one in shares),
        ]
        for method in table.methods
        for shares in [method.regions]
    ]
    return ["method", *(TITLES[one.region] for one in table.areas)], [[AREA, *areas], *rows]


def slice_rows(areas: dict[str, float], maps: dict[str, dict[str, float]]) -> Rows:
    """Return heads and rows of a single slice: the shares of the area, then of each map, with their ratio.

    Args:
        areas: share of the area by region; nan where the slice does not show it.
        maps: by the title of each method the share of the map by region; nan of an empty map.
    """
    shown = [region for region, share in areas.items() if not math.isnan(share)]
    rows = [
        [title, *("–" if math.isnan(shares[one]) else _with_ratio(shares[one], areas[one]) for one in shown)]
        for title, shares in maps.items()
    ]
    return ["method", *(TITLES[one] for one in shown)], [[AREA, *(_per_cent(areas[one]) for one in shown)], *rows]


def regions_csv(table: RegionTable) -> str:
    """Return a row for each method and region; full precision, empty where nothing is known."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["method", "region", "slices", "map_share", "area_share", "ratio", "ratio_low", "ratio_high"])
    for method in table.methods:
        for one in method.regions:
            numbers = (one.map_share, one.area_share, one.ratio.value, one.ratio.low, one.ratio.high)
            cells = ["" if math.isnan(number) else number for number in numbers]
            writer.writerow([method.name, one.region, one.n_slices, *cells])
    return buffer.getvalue()


def _with_ratio(share: float, area: float) -> str:
    return f"{_per_cent(share)}\n{share / area:.2f} times its area"


def _ratio(ratio: Estimate) -> str:
    return f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})" if ratio.has_interval else f"{ratio.value:.2f}"


def _per_cent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def _whom(n_slices: int, n_subjects: int | None) -> str:
    slices = f"{n_slices} slice{'s' * (n_slices != 1)}"
    return slices if n_subjects is None else f"{slices} of {n_subjects} subject{'s' * (n_subjects != 1)}"
