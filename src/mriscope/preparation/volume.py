"""From one volume to its slices, step by step."""

import itertools
from dataclasses import dataclass

import numpy as np

from mriscope.data.volumes import PLANES, Volume, highest_entropy
from mriscope.errors import DataError
from mriscope.preparation.bias import estimate_bias
from mriscope.preparation.grey import to_grey
from mriscope.preparation.grids import Grid, crop, move, orient
from mriscope.preparation.options import PrepareOptions
from mriscope.preparation.registration import Alignment, register
from mriscope.preparation.skull import Skull, find_brain
from mriscope.preparation.template import load_template
from mriscope.preparation.tiles import Tile, draw_layer, draw_slice
from mriscope.results import SkullState, VolumeMeasures

FIELD = np.array([186.0, 222.0, 186.0])  # mm along x, y and z; axial slices of the public set show so much of a brain
MIDDLE = np.array([0.0, -17.0, 6.0])  # mm, the middle of the field
REACH = ((-72.0, 72.0), (-108.0, 74.0), (-70.0, 82.0))  # mm, the template's brain along x, y and z
_COARSE = 2.0  # mm; the grid on which bias and place are estimated
_MARGIN = 10.0  # mm around the brain
_EXTENTS = (50.0, 1000.0)  # mm; what the longest side of a volume with a brain can measure
_FINER = 2  # points along each side of a pixel, whose mean it is


@dataclass(frozen=True, eq=False)
class Prepared:
    """The slices of a volume.

    Args:
        images: uint8 (N, size, size); 0 is background.
        positions: float64 (N,), mm in the template along the normal of the plane, in rising order.
        measures: how the steps went.
    """

    images: np.ndarray
    positions: np.ndarray
    measures: VolumeMeasures


def prepare_volume(volume: Volume, options: PrepareOptions, tiles: list[Tile] | None = None) -> Prepared:
    """Prepare the slices of a volume: orientation, skull, bias field, template space, grey levels and choice.

    Values are interpolated once, by a cubic spline from the volume's own voxels; four points are averaged to a pixel.

    Args:
        volume: a T1 volume with or without a skull.
        options: the steps.
        tiles: takes a picture of each step as it is done, so that those before an error are there too.

    Raises:
        DataError: a step fails. The text is the predicate of a sentence.
        MissingExtraError: a package that a step needs is not installed.
    """
    tiles = [] if tiles is None else tiles
    head = _as_signal(orient(volume, options.orientation))
    _check_extent(head)
    white = float(np.quantile(head.data[head.data > 0], 0.995)) if (head.data > 0).any() else 1.0
    tiles += [draw_layer("as read", plane, head, white) for plane in ("axial", "sagittal")]
    skull = find_brain(head, fine=options.strip == "deepbet")
    tiles += [draw_layer("brain", plane, head, white, skull.brain) for plane in ("axial", "sagittal")]
    brain, inside = _coarsen(head, skull.brain)
    if not skull.is_stripped and options.strip == "deepbet":
        head, _ = crop(head.with_data(head.data * skull.brain), skull.brain, _MARGIN)
    if options.bias == "n4":
        field = estimate_bias(brain, inside)
        brain, head = brain.with_data(brain.data / field.data), _divide(head, field)
        tiles.append(draw_layer("bias field", "axial", field.with_data(field.data * inside), 1.5, low=0.5))
        tiles.append(draw_layer("without it", "axial", brain, float(np.quantile(brain.data[inside], 0.998))))
    alignment = register(brain) if options.registration == "affine" else Alignment(np.eye(4), float("nan"))
    tiles += [_draw_registered(brain, alignment, plane) for plane in ("sagittal", "coronal")]
    images, positions, empty = _cut(head, brain.data[inside & (brain.data > 0)], alignment, options)
    for name, row in (("lowest", 0), ("highest", -1)):
        tiles.append(draw_slice("slice", f"{name}, {positions[row]:+g} mm", images[row]))
    measures = VolumeMeasures(
        skull=_state(skull, options),
        outside=skull.outside,
        likeness=alignment.likeness,
        scale=alignment.scale,
        matrix=alignment.matrix.tolist(),
        empty=empty,
    )
    return Prepared(images, positions, measures)


def _check_extent(grid: Grid) -> None:
    """Refuse a volume that is no head for its size, before it is brought to a grid of millimetres."""
    sides = grid.spacings * grid.data.shape
    if not _EXTENTS[0] <= sides.max() <= _EXTENTS[1]:
        told = " × ".join(f"{side:.4g}" for side in sides)
        raise DataError(f"measures {told} mm, where a head has 100 to 300; correct the voxel sizes in its header")


def _as_signal(grid: Grid) -> Grid:
    """Return values from 0 for the darkest upwards; a value that all corners hold is background, and becomes 0."""
    corners = grid.data[np.ix_(*([0, -1] for _ in range(3)))]
    outside = grid.data == (corners.flat[0] if (corners == corners.flat[0]).all() else np.nan)
    shown = grid.data[~outside]
    if not shown.size or shown.max() == shown.min():
        raise DataError("shows nothing: it holds one value throughout")
    signal = (grid.data - np.quantile(shown, 0.001)).clip(0)
    signal[outside] = 0
    return grid.with_data(signal)


def _coarsen(head: Grid, brain: np.ndarray) -> tuple[Grid, np.ndarray]:
    """Return the brain alone on an axis-aligned grid of 2 mm, and its mask there."""
    near, mask = crop(head.with_data(head.data * brain), brain, _MARGIN)
    corners = np.array(list(itertools.product(*((0, side - 1) for side in near.data.shape))))
    corners = corners @ near.affine[:3, :3].T + near.affine[:3, 3]
    low, high = corners.min(axis=0), corners.max(axis=0)
    coarse = near.resampled(low, high, _COARSE)
    return coarse, near.with_data(mask).resampled(low, high, _COARSE).data > 0.5


def _divide(head: Grid, field: Grid) -> Grid:
    """Divide a volume by a bias field on another grid; beyond that grid nothing is changed."""
    strength = field.sample(head.points())
    return head.with_data(head.data / np.where(strength > 0, strength, 1))


def _cut(
    head: Grid, brain: np.ndarray, alignment: Alignment, options: PrepareOptions
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return slices, their positions, and how many of the choice show nothing."""
    cut, normal = options.cut, PLANES.index(options.plane)
    low, high = cut.slab or REACH[normal]
    positions = low + options.spacing * np.arange(int((high - low) / options.spacing + 1e-6) + 1)
    images = to_grey(_sample_slices(head, alignment, options, positions), brain, options.intensity)
    shown = images.max(axis=(1, 2)) > images.min(axis=(1, 2))
    if not shown.any():
        raise DataError(
            f"shows nothing in {options.plane} slices from {low:g} to {high:g} mm; choose others with --slices"
        )
    images, positions, empty = images[shown], positions[shown], int((~shown).sum())
    if cut.count:
        best = highest_entropy(images, cut.count)
        return images[best], positions[best], 0
    return images, positions, 0 if cut.slices == "all" else empty


def _sample_slices(head: Grid, alignment: Alignment, options: PrepareOptions, positions: np.ndarray) -> np.ndarray:
    """Return slices at positions in the template, float32 (N, size, size)."""
    normal, size = PLANES.index(options.plane), options.size
    rows, columns = (axis for axis in (2, 1, 0) if axis != normal)
    field = FIELD if options.stretch else np.full(3, FIELD[[rows, columns]].max())
    at = (np.arange(size * _FINER) + 0.5) / (size * _FINER) - 0.5
    axes = {rows: MIDDLE[rows] - at * field[rows], columns: MIDDLE[columns] + at * field[columns]}
    images, sample = np.empty((len(positions), size, size), np.float32), head.cubic()
    for number, position in enumerate(positions):
        points = np.empty((3, size * _FINER, size * _FINER))
        points[normal], points[rows], points[columns] = position, axes[rows][:, None], axes[columns][None]
        finer = sample(move(alignment.matrix, points))
        images[number] = finer.reshape(size, _FINER, size, _FINER).mean(axis=(1, 3))
    return images


def _draw_registered(brain: Grid, alignment: Alignment, plane: str) -> Tile:
    template = load_template()
    seen = template.with_data(brain.sample(move(alignment.matrix, template.points())))
    white = float(np.quantile(brain.data[brain.data > 0], 0.998))
    return draw_layer("on template", plane, seen, white, template.data > 0)


def _state(skull: Skull, options: PrepareOptions) -> SkullState:
    if skull.is_stripped:
        return "came without"
    return "removed" if options.strip == "deepbet" else "not stripped"
