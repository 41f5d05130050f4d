"""From a volume with an affine to grey slices: orientation, plane, choice of slices, grey levels, square pixels."""

import re
from dataclasses import dataclass

import numpy as np

from mriscope.errors import DataError

PLANES = ("sagittal", "coronal", "axial")
"""By the axis of a RAS+ volume that is normal to them."""
SPACINGS = (0.02, 50.0)  # mm; what voxels of a brain can measure
MOST_ELONGATED = 20  # times; voxels longer than this against the other side of the slice are refused
MAX_VOXELS = 2**27  # 512 x 512 x 512; 3 GiB hold one of them while it is cut
_LONGEST_SIDE = 4096  # pixels
_SAMPLE = 2_000_000  # voxels, from which grey limits are taken


def sides_of(path: str) -> tuple[str, str] | None:
    """Return what the left and the right edge of a slice show: L and R of the subject, or P and A.

    Args:
        path: name of the slice. Those of volumes end in their axis and index, as they were cut by their orientation;
            image files do not say which side is which.

    Example:
        >>> sides_of("sub-01_T1w.nii.gz#z050"), sides_of("slice.png")
        (('L', 'R'), None)
    """
    axis = re.search(r"#([xyz])[0-9]{3,}$", path)
    return None if axis is None else ("P", "A") if axis[1] == "x" else ("L", "R")


@dataclass(frozen=True)
class Cut:
    """How volumes become slices.

    Args:
        plane: axial, coronal or sagittal.
        slices: all; a number, those of highest entropy (Hon and Khan, 2017); or LOW:HIGH in mm, such as -12:34.

    Raises:
        DataError: a plane or choice that does not exist.
    """

    plane: str = "axial"
    slices: str = "all"

    def __post_init__(self) -> None:
        if self.plane not in PLANES:
            raise DataError(f"there is no plane {self.plane!r}; choose one of {', '.join(reversed(PLANES))}")
        if not (self.slices == "all" or self.count or self.slab):
            raise DataError(
                f"slices is {self.slices!r}; expected all, a number such as 32, or a slab in mm such as -12:34"
            )

    @property
    def count(self) -> int:
        """Return how many slices of highest entropy are wanted, 0 where they are not chosen so."""
        return int(self.slices) if re.fullmatch(r"[0-9]{1,4}", self.slices) else 0

    @property
    def slab(self) -> tuple[float, float] | None:
        """Return the lower and upper bound in mm, None where no slab is wanted."""
        number = r"([+-]?[0-9]{1,4}(?:\.[0-9]{1,3})?)"
        found = re.fullmatch(f"{number}:{number}", self.slices)
        bounds = (float(found[1]), float(found[2])) if found else None
        return bounds if bounds and bounds[0] < bounds[1] else None


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels and where they are.

    Args:
        data: (I, J, K), real numbers.
        affine: float64 (4, 4), from voxel indices to mm, to the right, anterior and superior (RAS+).
        limits: the values that become 0 and 255; None takes them from the voxels.
        origins: float64 (K, 3), mm (RAS+) of voxel (0, 0, k) of each layer, where layers are not equally spaced.
        oriented: whether its file tells how it lies in space.
    """

    data: np.ndarray
    affine: np.ndarray
    limits: tuple[float, float] | None = None
    origins: np.ndarray | None = None
    oriented: bool = True


@dataclass(frozen=True, eq=False)
class Slices:
    """Grey slices of one volume.

    Args:
        images: uint8 (N, H, W), square pixels; 0 is background.
        positions: float64 (N,), mm along the normal of the plane, in rising order.
        indices: int64 (N,), place of each slice in the RAS+ volume along that normal.
        spacing: mm, the side of a pixel.
        empty: how many slices of the choice were left out as they hold one value throughout.
    """

    images: np.ndarray
    positions: np.ndarray
    indices: np.ndarray
    spacing: float
    empty: int = 0


def cut_volume(volume: Volume, cut: Cut) -> Slices:
    """Cut a volume into grey slices of one plane, from inferior, posterior or left upwards.

    The volume is turned and flipped to the nearest RAS+ axes, never interpolated between its own planes. Rows of a
    slice go down from superior (axial: from anterior), columns from left to right (sagittal: from posterior). The
    coarser side of pixels that are not square is interpolated to the finer one.

    Raises:
        DataError: no usable affine, no varying values, gaps across the plane, or fewer slices than wanted.

    Example:
        >>> slices = cut_volume(Volume(np.arange(24).reshape(2, 3, 4), np.eye(4)), Cut())
        >>> slices.images.shape, slices.positions.tolist()
        ((4, 3, 2), [0.0, 1.0, 2.0, 3.0])
    """
    normal = PLANES.index(cut.plane)
    data, affine, orientation = _canonical(volume)
    rows, columns = (axis for axis in (2, 1, 0) if axis != normal)
    stack = np.moveaxis(data, (normal, rows, columns), (0, 1, 2))[:, ::-1]
    if volume.origins is None:
        positions = _even_positions(data.shape, affine, normal)
    else:
        positions = _layer_positions(volume, volume.origins, orientation, normal)
    chosen = np.arange(len(positions)) if cut.slab is None else _within(positions, cut.slab, cut.plane)
    images = to_grey(stack, volume.limits)[chosen]
    shown = images.max(axis=(1, 2)) > images.min(axis=(1, 2))
    if not shown.any():
        raise DataError("shows nothing: its slices hold one value throughout")
    images, chosen, empty = images[shown], chosen[shown], int((~shown).sum())
    if cut.count:
        best = highest_entropy(images, cut.count)
        images, chosen, empty = images[best], chosen[best], 0
    spacings = np.linalg.norm(affine[:3, :3], axis=0)
    images, spacing = _with_square_pixels(images, spacings[rows], spacings[columns])
    return Slices(images, positions[chosen], chosen, spacing, empty)


def _canonical(volume: Volume) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return voxels and affine along the nearest RAS+ axes, and which axis of the volume became which."""
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    affine = np.asarray(volume.affine, np.float64)
    check_affine(affine)
    orientation = io_orientation(affine)
    canonical = affine @ inv_ornt_aff(orientation, volume.data.shape)
    return apply_orientation(volume.data, orientation), canonical, orientation


def check_affine(affine: np.ndarray) -> None:
    """Refuse what is no affine from voxels to mm.

    Raises:
        DataError: values that are no numbers, voxels too small or too large for a brain, or axes in one plane.
    """
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise DataError("has an affine with values that are no numbers; expected one from voxels to mm")
    spacings = np.linalg.norm(affine[:3, :3], axis=0)
    low, high = SPACINGS
    if not ((spacings >= low) & (spacings <= high)).all():
        told = " × ".join(f"{side:.4g}" for side in spacings)
        raise DataError(f"has voxels of {told} mm; expected {low:g} to {high:g} mm on each side")
    if abs(np.linalg.det(affine[:3, :3] / spacings)) < 0.1:
        raise DataError("has an affine whose axes lie in one plane; expected three directions")


def _within(positions: np.ndarray, slab: tuple[float, float], plane: str) -> np.ndarray:
    inside = np.flatnonzero((positions >= slab[0]) & (positions <= slab[1]))
    if not len(inside):
        raise DataError(
            f"has no {plane} slice from {slab[0]:g} to {slab[1]:g} mm; its slices lie from {positions.min():.1f} to "
            f"{positions.max():.1f} mm (--slices all takes them)"
        )
    return inside


def _even_positions(shape: tuple[int, ...], affine: np.ndarray, normal: int) -> np.ndarray:
    """Return where the centre of each slice lies, mm along the axis that is normal to the plane."""
    voxels = np.tile((np.array(shape) - 1) / 2, (shape[normal], 1))
    voxels[:, normal] = np.arange(shape[normal])
    return voxels @ affine[normal, :3] + affine[normal, 3]


def _layer_positions(volume: Volume, origins: np.ndarray, orientation: np.ndarray, normal: int) -> np.ndarray:
    """Return the same for layers that are not equally spaced, which can only be slices themselves."""
    axis, direction = int(orientation[2, 0]), orientation[2, 1]
    if axis != normal:
        raise DataError(
            f"is {PLANES[axis]} with gaps between its slices, so that other planes cannot be cut; "
            f"read it with --plane {PLANES[axis]}"
        )
    middle = (np.array(volume.data.shape[:2]) - 1) / 2
    positions = (origins + volume.affine[:3, :2] @ middle)[:, normal]
    return positions if direction > 0 else positions[::-1]


def to_grey(stack: np.ndarray, limits: tuple[float, float] | None) -> np.ndarray:
    """Return grey levels of a volume, linear between two limits and clipped there.

    Without limits these are the 0.1th and 99.9th percentile of its voxels. Where all eight corners of the volume hold
    one value, that is background: it becomes 0, and is no part of the percentiles.

    Args:
        stack: (N, H, W), real numbers; what is not finite counts as the least value.
        limits: the values that become 0 and 255.

    Returns:
        uint8 (N, H, W).
    """
    values = stack.astype(np.float32)
    if stack.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
        values[~finite] = values[finite].min(initial=np.inf) if finite.any() else 0
    background = None
    if limits is None:
        limits, background = _grey_limits(values)
    outside = None if background is None or background <= limits[0] else values == background
    low, high = limits
    values -= np.float32(low)
    values *= np.float32(255 / max(high - low, np.finfo(np.float32).tiny))
    values += np.float32(0.5)
    grey = np.clip(values, 0, 255, out=values).astype(np.uint8)
    if outside is not None:
        grey[outside] = 0
    return grey


def _grey_limits(values: np.ndarray) -> tuple[tuple[float, float], float | None]:
    corners = values[np.ix_(*([0, -1] for _ in range(3)))]
    background = float(corners.flat[0]) if (corners == corners.flat[0]).all() else None
    step = int(np.ceil((values.size / _SAMPLE) ** (1 / 3)))
    sample = values[::step, ::step, ::step].ravel()
    shown = sample if background is None else sample[sample != background]
    if not shown.size:
        shown = values.ravel()
    low, high = map(float, np.percentile(shown, [0.1, 99.9]))
    if background is not None and background < low:
        low = background
    return (low, high if high > low else low + 1.0), background


def highest_entropy(images: np.ndarray, count: int) -> np.ndarray:
    """Return the rows of the slices whose grey levels have the highest Shannon entropy, in the order of the slices.

    Hon and Khan (2017), Towards Alzheimer's disease classification through transfer learning.

    Args:
        images: uint8 (N, H, W).
        count: how many.

    Raises:
        DataError: there are fewer.
    """
    if len(images) < count:
        raise DataError(f"has {len(images)} slices that show something, and {count} are wanted; lower --slices")
    shares = np.stack([np.bincount(one.ravel(), minlength=256) for one in images]) / images[0].size
    entropy = -(shares * np.log2(shares, where=shares > 0, out=np.zeros_like(shares))).sum(axis=1)
    return np.sort(np.argsort(-entropy, kind="stable")[:count])


def _with_square_pixels(images: np.ndarray, height: float, width: float) -> tuple[np.ndarray, float]:
    """Interpolate the coarser side of pixels to the finer one; 1 % of difference is let pass."""
    finer, coarser = sorted((float(height), float(width)))
    if coarser > MOST_ELONGATED * finer:
        raise DataError(
            f"has pixels of {height:.3g} × {width:.3g} mm in this plane, and at most {MOST_ELONGATED} to 1 can be made "
            "square; choose another with --plane"
        )
    if coarser <= 1.01 * finer:
        return images, finer
    sides = [round(side * spacing / finer) for side, spacing in zip(images.shape[1:], (height, width), strict=True)]
    if max(sides) > _LONGEST_SIDE:
        raise DataError(
            f"has slices of {sides[0]}×{sides[1]} pixels once these are square; choose another with --plane"
        )
    return _interpolate(_interpolate(images, 1, sides[0]), 2, sides[1]), finer


def _interpolate(images: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Interpolate linearly along one axis of a stack, between the centres of pixels; beyond the outer ones theirs."""
    length = images.shape[axis]
    if length == size:
        return images
    places = ((np.arange(size) + 0.5) * (length / size) - 0.5).clip(0, length - 1)
    lower = places.astype(int)
    share = (places - lower).astype(np.float32).reshape([-1 if at == axis else 1 for at in range(3)])
    found = np.empty([size if at == axis else side for at, side in enumerate(images.shape)], np.uint8)
    for row, image in enumerate(images):  # one at a time, as floats take four times the memory
        near, far = (image.take(at, axis - 1) for at in (lower, np.minimum(lower + 1, length - 1)))
        found[row] = near + share[0] * (far.astype(np.float32) - near) + np.float32(0.5)
    return found
