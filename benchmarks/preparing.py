"""Prepare volumes that were turned, flipped, cropped, re-gridded, shaded or given a skull, and compare their slices.

python3 benchmarks/preparing.py [VOLUME.nii.gz ...]    (without any, the package's template at 2 mm)

Each change is known, so that the map to the template must be that of the plain volume after the change. Printed are the
correlation of each slice with that of the plain volume, and how far points of the template's brain are from where they
should lie, in mm.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from mriscope.data.nifti import read_nifti
from mriscope.data.volumes import Volume
from mriscope.preparation.grids import Grid, move, orient
from mriscope.preparation.options import PrepareOptions
from mriscope.preparation.template import load_template
from mriscope.preparation.volume import Prepared, prepare_volume

TURN, SHIFT = (18.0, -8.0, 12.0), (25.0, -15.0, 30.0)  # degrees about x, y and z; mm
STRENGTH = 0.4  # of the bias field, from 1 - 0.4 to 1 + 0.4


def changed_volumes(volume: Volume) -> dict[str, tuple[Volume, np.ndarray]]:
    """Return changed volumes by the name of the change, with the matrix from the old mm to the new."""
    grid, still = orient(volume, "header"), np.eye(4)
    turn = np.eye(4)
    turn[:3, :3], turn[:3, 3] = Rotation.from_euler("xyz", TURN, degrees=True).as_matrix(), SHIFT
    found = {
        "turned, its header with it": (Volume(grid.data, turn @ grid.affine), turn),
        "turned and re-gridded": (regrid(Grid(grid.data, turn @ grid.affine), (2.0, 2.0, 2.0)), turn),
        "flipped axes": (flip(grid), still),
        "cropped": (crop_volume(grid), still),
        "voxels of 1.2 × 1.2 × 3 mm": (regrid(grid, (1.2, 1.2, 3.0)), still),
        "bias field": (Volume(grid.data * bias_field(grid), grid.affine), still),
        "skull": (add_skull(grid), still),
    }
    head = orient(add_skull(grid), "header")
    shaded = head.with_data(head.data * bias_field(head))
    found["all of it"] = regrid(Grid(shaded.data, turn @ shaded.affine), (1.5, 1.5, 2.0)), turn
    return found


def regrid(grid: Grid, spacings: tuple[float, float, float]) -> Volume:
    """Sample a volume on an axis-aligned grid that holds all of it."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(grid.data.shape) - 1)
    corners = move(grid.affine, corners.T)
    low, high = corners.min(axis=1), corners.max(axis=1)
    shape = np.ceil((high - low) / spacings).astype(int) + 1
    affine = np.diag([*spacings, 1.0])
    affine[:3, 3] = low
    blurred = grid.with_data(
        ndimage.gaussian_filter(grid.data, np.maximum(np.divide(spacings, grid.spacings) - 1, 0) / 2)
    )
    return Volume(blurred.sample(Grid(np.empty(shape, np.float32), affine).points()), affine)


def flip(grid: Grid) -> Volume:
    """Store a volume from left, anterior and inferior, its axes in another order; it stays where it is."""
    last = np.array(grid.data.shape) - 1
    back = np.array([[0, 0, -1, last[0]], [-1, 0, 0, last[1]], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    return Volume(grid.data[::-1, ::-1].transpose(1, 2, 0), grid.affine @ back)


def crop_volume(grid: Grid) -> Volume:
    """Cut off what lies 45 mm below and 72 mm above the origin, and the last 8 mm in front and behind."""
    high = move(np.linalg.inv(grid.affine), np.array([[0.0, 0, 0], [0, 0, 0], [-45, 72, 0]]).reshape(3, 3))[2, :2]
    rows = np.flatnonzero(grid.data.any(axis=(0, 2)))
    cut = int(8 / grid.spacings[1])
    start = np.array([0, rows[0] + cut, max(0, round(high[0]))])
    affine = grid.affine.copy()
    affine[:3, 3] += grid.affine[:3, :3] @ start
    return Volume(grid.data[:, start[1] : rows[-1] - cut, start[2] : round(high[1])], affine)


def bias_field(grid: Grid) -> np.ndarray:
    """Return a smooth field around 1, stronger at the left front and above."""
    x, y, z = (np.linspace(-1, 1, side) for side in grid.data.shape)
    slow = np.sin(1.5 * x + 0.4)[:, None, None] + np.cos(2 * y)[None, :, None] * 0.8 - 0.7 * z[None, None]
    return (1 + STRENGTH * slow / np.abs(slow).max()).astype(np.float32)


def add_skull(grid: Grid) -> Volume:
    """Add fluid, bone and a bright scalp around a brain, and noise."""
    padded = np.pad(grid.data, [(side, side) for side in np.ceil(30 / grid.spacings).astype(int)])
    affine = grid.affine.copy()
    affine[:3, 3] -= grid.affine[:3, :3] @ np.ceil(30 / grid.spacings)
    brain = np.asarray(ndimage.binary_closing(padded > 0, iterations=3), bool)
    away = np.asarray(ndimage.distance_transform_edt(~brain, sampling=grid.spacings))
    white = float(np.quantile(grid.data[grid.data > 0], 0.95))
    for low, high, share in ((0, 3, 0.25), (3, 9, 0.08), (9, 17, 1.1), (17, 20, 0.5)):
        padded[(away > low) & (away <= high) & (padded == 0)] = share * white
    noise = np.random.default_rng(0).normal(0, 0.02 * white, padded.shape)
    return Volume(np.abs(padded + noise).astype(np.float32), affine)


def slice_correlations(plain: Prepared, other: Prepared) -> np.ndarray:
    """Return the correlation of each slice with that of the plain volume at its position."""
    rows = {position: row for row, position in enumerate(other.positions.tolist())}
    pairs = [(row, rows[position]) for row, position in enumerate(plain.positions.tolist()) if position in rows]
    return np.array([np.corrcoef(plain.images[a].ravel(), other.images[b].ravel())[0, 1] for a, b in pairs])


def position_errors(plain: Prepared, other: Prepared, change: np.ndarray) -> np.ndarray:
    """Return how far points of the template's brain lie from where they should, (N,), mm."""
    template = load_template()
    points = move(template.affine, np.argwhere(template.data > 0)[::50].T)
    expected = move(change, move(np.array(plain.measures.matrix), points))
    return np.linalg.norm(move(np.array(other.measures.matrix), points) - expected, axis=0)


def main() -> None:
    """Print a table for each volume."""
    torch.set_num_threads(1)
    named: Mapping[str, Volume] = {Path(name).name: read_nifti(Path(name)) for name in sys.argv[1:]}
    template = load_template()
    for name, volume in (named or {"the template at 2 mm": Volume(template.data, template.affine)}).items():
        plain = prepare_volume(volume, PrepareOptions())
        print(f"\n{name}: skull {plain.measures.skull}, likeness {plain.measures.likeness:.3f}\n")
        print("| change | skull | correlation of slices, least | median | mm off, mean | most |")
        print("|---|---|---|---|---|---|")
        for what, (changed, matrix) in changed_volumes(volume).items():
            if plain.measures.skull == "removed" and what in ("skull", "all of it"):
                continue
            found = prepare_volume(changed, PrepareOptions())
            alike, off = slice_correlations(plain, found), position_errors(plain, found, matrix)
            figures = f"{alike.min():.4f} | {np.median(alike):.4f} | {off.mean():.2f} | {off.max():.2f}"
            print(f"| {what} | {found.measures.skull} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
