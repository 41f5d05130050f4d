"""How much of a map lies in each region of the brain, beside how much of the brain the region is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mriscope.data.slices import UNKNOWN
from mriscope.errors import ArgumentError
from mriscope.evaluation.cohort import LOG_SCALE
from mriscope.evaluation.interval_formulas import log_interval
from mriscope.explain.placement import LEAST_LIKENESS, Placement, find_medial_temporal, place_slices
from mriscope.explain.regions import find_regions
from mriscope.results import Estimate, MethodRegions, RegionArea, RegionShare, RegionTable

REGIONS = ("ventricles", "cortex", "white_matter", "rest", "medial_temporal")
"""The first four divide the brain, and the last lies within them."""
FEWEST_SUBJECTS = 20
"""Subjects that show a region, from which its ratio has an interval; see docs/explain.md."""
_FEWEST_PLACED = 0.5  # of all slices; of slices of another plane one in twenty resembles the template by chance
_NOT_PLACED = (
    f"a slice needs a correlation of {LEAST_LIKENESS:g} with an axial slice of the MNI template, which one of another "
    "plane, with a skull, of another contrast or from a height beyond the template lacks"
)


@dataclass(frozen=True, eq=False)
class SliceRegions:
    """The regions of some slices.

    Args:
        masks: by name among REGIONS, bool (N, H, W), within the brain; empty in slices that are not placed.
        brains: bool (N, H, W); empty likewise.
        placement: where the slices lie in template space.
    """

    masks: Mapping[str, np.ndarray]
    brains: np.ndarray
    placement: Placement

    def __getitem__(self, rows: np.ndarray) -> "SliceRegions":
        """Return the regions of some of the slices."""
        kept = Placement(*(getattr(self.placement, name)[rows] for name in Placement.__dataclass_fields__))
        return SliceRegions({name: mask[rows] for name, mask in self.masks.items()}, self.brains[rows], kept)

    def area_shares(self) -> dict[str, np.ndarray]:
        """Return how much of each slice's brain each region is: float64 (N,); nan where it is not there."""
        return self.map_shares(np.ones(self.brains.shape, np.float32))

    def map_shares(self, maps: np.ndarray) -> dict[str, np.ndarray]:
        """Return how much of each map within the brain lies in each region: float64 (N,).

        Args:
            maps: float (N, H, W), not negative.

        Returns:
            by region; nan where the region is not there or the map is 0 in the whole brain.

        Raises:
            ArgumentError: there are other than one map for each slice.
        """
        if maps.shape != self.brains.shape:
            raise ArgumentError(f"maps are {maps.shape} and regions {self.brains.shape}; give one map for each slice")
        whole = _sum_within(maps, self.brains)
        there = {name: (whole > 0) & mask.any((1, 2)) for name, mask in self.masks.items()}
        return {
            name: np.divide(_sum_within(maps, mask), whole, out=np.full(len(maps), np.nan), where=there[name])
            for name, mask in self.masks.items()
        }


def _sum_within(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Sum each of some images (N, H, W) within its mask, in float64 and without a copy of all."""
    return np.einsum("nhw,nhw->n", values, mask, dtype=np.float64, casting="unsafe")


def find_slice_regions(images: np.ndarray, subjects: np.ndarray) -> SliceRegions:
    """Find the regions of the slices that can be placed in template space.

    Ventricles, cortex, white matter and the rest are found by grey values and depth (`find_regions`), the slices of a
    subject together; the medial temporal lobe by its place in the template. Where fewer than half of the slices can be
    placed, those that can may be so by chance, and none is.

    Args:
        images: uint8 (N, H, W), axial T1 slices without a skull, the front above or below.
        subjects: int64 (N,); a slice of an unknown subject, -1, is looked at by itself.

    Raises:
        ArgumentError: the images have another type or shape.

    Example:
        >>> from mriscope import make_phantom
        >>> slices = make_phantom(1, slices=3, seed=0, size=64).slices
        >>> areas = find_slice_regions(slices.images, slices.subjects).area_shares()
        >>> bool(0.3 < areas["cortex"].mean() < 0.6)
        True
    """
    placement = place_slices(images)
    if placement.placed.mean() < _FEWEST_PLACED:
        placement = replace(placement, heights=np.full(len(images), np.nan))
    masks = {name: np.zeros(images.shape, bool) for name in REGIONS}
    brains = np.zeros(images.shape, bool)
    known = np.where(subjects == UNKNOWN, -1 - np.arange(len(subjects)), subjects)
    for subject in np.unique(known[placement.placed]):
        rows = np.flatnonzero(placement.placed & (known == subject))
        rows = rows[np.argsort(placement.heights[rows], kind="stable")]
        found = find_regions(np.asarray(images[rows]))
        brains[rows] = found.brain
        for name in ("ventricles", "cortex", "white_matter", "rest"):
            masks[name][rows] = getattr(found, name)
    masks["medial_temporal"] = find_medial_temporal(placement, images.shape[1:]) & brains
    return SliceRegions(masks, brains, placement)


def tabulate_regions(
    maps: Mapping[str, np.ndarray],
    titles: Mapping[str, str],
    regions: SliceRegions,
    subjects: np.ndarray,
) -> RegionTable:
    """Compute for each method and region the share of the map, the share of the area, and their ratio.

    Shares are means over the slices that show the region, and the ratio is the one mean over the other. Its interval
    is over subjects, and is left out where fewer than 20 show the region, or one is unknown.

    Args:
        maps: of each method, float (N, H, W), not negative.
        titles: of each method, in print.
        regions: of the same slices.
        subjects: int64 (N,), -1 where unknown.
    """
    placed, count = int(regions.placement.placed.sum()), len(subjects)
    known = bool((subjects != UNKNOWN).all())
    areas = regions.area_shares()
    methods = [
        MethodRegions(
            name=name,
            title=titles[name],
            regions=[
                _share(region, shares, areas[region], subjects, known=known)
                for region, shares in regions.map_shares(heat).items()
            ],
        )
        for name, heat in maps.items()
    ]
    return RegionTable(
        n_slices=count,
        n_placed=placed,
        note=_note(placed, count, known=known),
        areas=[_area(region, one, subjects, known=known) for region, one in areas.items()] if placed else [],
        methods=methods if placed else [],
    )


def _area(region: str, areas: np.ndarray, subjects: np.ndarray, *, known: bool) -> RegionArea:
    there = ~np.isnan(areas)
    return RegionArea(
        region=region,
        n_slices=int(there.sum()),
        n_subjects=len(np.unique(subjects[there])) if known else None,
        share=float(areas[there].mean()) if there.any() else math.nan,
    )


def _share(region: str, shares: np.ndarray, areas: np.ndarray, subjects: np.ndarray, *, known: bool) -> RegionShare:
    there = ~np.isnan(shares)
    if not there.any():
        none = Estimate(math.nan, math.nan, math.nan)
        return RegionShare(region=region, n_slices=0, map_share=math.nan, area_share=math.nan, ratio=none)
    map_share, area_share = float(shares[there].mean()), float(areas[there].mean())
    ratio = Estimate(map_share / area_share, math.nan, math.nan)
    if known and len(np.unique(subjects[there])) >= FEWEST_SUBJECTS:
        units = np.unique(subjects[there], return_inverse=True)[1]  # each subject brings all its slices
        ends = ratio_interval(np.bincount(units, shares[there]), np.bincount(units, areas[there]))
        ratio = Estimate(ratio.value, *ends, method=LOG_SCALE)
    return RegionShare(
        region=region, n_slices=int(there.sum()), map_share=map_share, area_share=area_share, ratio=ratio
    )


def ratio_interval(above: np.ndarray, below: np.ndarray) -> tuple[float, float]:
    """Compute the interval of a ratio of two sums over subjects, on the log scale with Student's t.

    Its standard error is that of a ratio estimator of clusters (Cochran, 1977, section 6.3). It is somewhat narrow:
    docs/explain.md has its coverage.

    Args:
        above: float64 (n,), what each of n subjects adds to the one sum.
        below: float64 (n,), to the other.

    Example:
        >>> low, high = ratio_interval(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0]))
        >>> round(low, 3), round(high, 3)
        (0.289, 3.463)
    """
    ratio, count = above.sum() / below.sum(), len(above)
    error = np.sqrt(((above - ratio * below) ** 2).sum() * count / (count - 1)) / below.sum()
    low, high = log_interval(ratio, error, count)
    return float(low), float(high)


def _note(placed: int, count: int, *, known: bool) -> str:
    if not placed:
        return f"There is no table by region, as most of the {count} slices cannot be placed: {_NOT_PLACED}."
    left_out = f" The rest, {count - placed}, cannot be placed: {_NOT_PLACED}." if placed < count else ""
    intervals = (
        f"Intervals are 95 % over subjects and somewhat narrow (docs/explain.md); where fewer than {FEWEST_SUBJECTS} "
        "show a region, its ratio has none."
        if known
        else "There are no intervals, as the subjects of slices are unknown."
    )
    return f"Of {placed} of {count} slices.{left_out} {intervals}"
