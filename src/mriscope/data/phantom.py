"""The phantom: synthetic axial brain slices of subjects with known anatomy and disease, the default data.

Every subject is the template of `anatomy` under a smooth random warp, with its own contrast, shading and noise. Disease
enlarges the lateral ventricles and reduces grey matter in the cortex and the medial temporal lobe. It resembles the
statistics of registered slices, to try methods on; it proves nothing about patients.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from threadpoolctl import threadpool_limits

from mriscope.data.anatomy import load_atlas, sample
from mriscope.data.phantom_options import check_options, phantom_options
from mriscope.data.slices import CLASS_NAMES, SEVERITY, SIZE, SliceSet
from mriscope.data.source import parse_source
from mriscope.errors import DataError

VERSION = 1
"""Part of the key of cached sets; raise it with every change of pixels or labels."""
_MOST_PIXELS = 2**31  # two bytes each

_SHARES = (0.35, 0.14, 0.015)  # of all subjects in each class above Non_Demented, which takes the rest
_MEANS = (0.15, 0.40, 0.65, 0.90)  # severity of each class in the order of SEVERITY, and ...
_SPREAD = 0.17  # ... standard deviation around it: neighbouring classes overlap, as clinical ratings do
_WORST = 1.2  # at a signal of 100 %

_FLOOR, _TOP = -12.0, 34.0  # mm; the slab of all slices, from midbrain and temporal lobes to above the ventricles
_FIELD = np.array([222.0, 186.0])  # mm, height and width of the frame; public slices are squeezed into squares so
_MIDDLE = np.array([-17.0, 0.0])  # mm, y and x in the middle of the frame
_MARGIN = 10.0  # mm; a warp moves the brain's border no further
_HIPPOCAMPUS = np.array([[26.0], [-18.0], [-14.0]], np.float32)  # mm; the left one mirrors it
_REACH = np.array([[9.0], [15.0], [8.0]], np.float32)  # mm; standard deviations of the loss around it

_SWELLING, _CORTEX, _TEMPORAL = (
    5.0,
    0.10,
    0.22,
)  # at a severity of 1: mm gained, and brightness lost by grey matter
_RIM, _YIELD = 4.0, 24.0  # mm within and around the ventricles that their enlargement deforms
_GREY, _WHITE = 0.6, 0.92
_TISSUES = (0.05, 0.30, 0.58, _WHITE, 1.05)  # brightness in the template of fluid, its border, grey matter and white
CHANGED, FLUID = 0.1, 0.4
"""Of the brightness of white matter: what differs less from the brain without disease is not marked; and from where on
tissue has become fluid."""

_CLASS, _SEVERITY, _BRAIN = 1, 2, 3  # independent streams of random numbers


@dataclass(frozen=True, eq=False)
class Phantom:
    """Synthetic slices with their ground truth.

    Args:
        slices: N images, grouped by subject, each from inferior to superior; brighter than 0 only within the brain.
        masks: bool (N, H, W), pixels that disease changed: there the same brain without disease differs visibly.
        severity: float64 (N,) in [0, 2.4], the same for all slices of a subject; 0 is a brain without disease. Above
            1.2 only with a signal over 100 %.
    """

    slices: SliceSet
    masks: np.ndarray
    severity: np.ndarray


@dataclass(frozen=True)
class _Frame:
    """The pixels that can show brain, the same for every subject."""

    axes: tuple[np.ndarray, ...]  # mm of every slice (z), row (y) and column (x)
    pixels: np.ndarray  # (M,) index into the flattened (slices, size, size)
    points: np.ndarray  # float32 (3, M), mm


@dataclass(frozen=True)
class _Brain:
    """Anatomy at each of the M points of one brain, before disease."""

    points: np.ndarray  # float32 (3, M), mm in the template
    distance: np.ndarray  # mm from the ventricles of the template
    normals: np.ndarray  # (3, M), direction away from them
    enlargement: np.ndarray  # mm by which the ventricles reach further than in the template
    ribbon: np.ndarray  # 1 in the cortex, falling to 0 deep in the brain
    temporal: np.ndarray  # 1 in the hippocampus, falling to 0 around it
    loss: np.ndarray  # brightness that its grey matter lacks


def make_phantom(subjects: int = 200, slices: int = 32, seed: int = 0, size: int = SIZE, signal: int = 100) -> Phantom:
    """Draw axial slices of synthetic subjects of the four classes, with their ground truth.

    About 50, 35, 14 and 1.5 % of the subjects are Non, Very mild, Mild and Moderate; from 24 subjects on each class has
    at least three, from 4 on at least one. A subject's severity is drawn around the mean of its class, so that
    neighbours overlap. Its anatomy depends on `seed` and its number alone, its class also on how many there are. The
    brain is the MNI ICBM152 2009a average (its notice stands in `anatomy`); the noise is Rician.

    Args:
        subjects: how many, 1 to 10,000.
        slices: of each subject, evenly spaced over 46 mm around the ventricles; 1 to 64.
        seed: equal seeds make equal bytes on one machine.
        size: height and width in pixels, 32 to 256.
        signal: how far the classes' mean severities lie apart, in per cent, 0 to 400. At 100 neighbouring classes
            overlap as clinical ratings do, and small networks learn little; at 300 a network can learn the disease.

    Raises:
        DataError: an argument is no whole number within its limits, or together they exceed 2**31 pixels.

    Example:
        >>> phantom = make_phantom(subjects=4, slices=2, seed=0, size=32)
        >>> phantom.slices.images.shape, phantom.masks.dtype
        ((8, 32, 32), dtype('bool'))
    """
    check_options({"subjects": subjects, "slices": slices, "seed": seed, "size": size, "signal": signal})
    if subjects * slices * size**2 > _MOST_PIXELS:
        raise DataError(
            f"a phantom of {subjects} subjects x {slices} slices x {size} x {size} pixels is over {_MOST_PIXELS:,} "
            "pixels; ask for fewer subjects, fewer slices or a smaller size"
        )
    ranks = _draw_ranks(subjects, seed)
    severity = np.array([draw_severity(int(rank), subject, seed, signal) for subject, rank in enumerate(ranks)])
    images = np.zeros((subjects, slices, size, size), np.uint8)
    masks = np.zeros(images.shape, np.bool_)

    def fill(subject: int) -> None:
        images[subject], masks[subject] = make_brain(subject, float(severity[subject]), slices, seed, size)

    _frame(slices, size)  # computed once, before threads could each do it
    # Each core draws one subject; linear algebra on several threads would compete for the cores.
    with threadpool_limits(1), ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        list(pool.map(fill, range(subjects)))
    labels = np.array([CLASS_NAMES.index(SEVERITY[rank]) for rank in ranks])
    return Phantom(_to_slice_set(images, labels), masks.reshape(-1, size, size), severity.repeat(slices))


def make_brain(
    subject: int, severity: float, slices: int = 32, seed: int = 0, size: int = SIZE, least: float = CHANGED
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one subject of the phantom at any severity; its anatomy does not depend on the severity.

    Args:
        subject: its number, from 0.
        severity: of the disease, from 0 (none) to 2.4.
        slices: how many, evenly spaced over 46 mm around the ventricles.
        seed: of the phantom.
        size: height and width in pixels.
        least: change of brightness that is marked, of that of white matter.

    Returns:
        uint8 (slices, size, size), the images, and bool of the same shape, the pixels that disease changed.

    Raises:
        DataError: a severity or another argument is outside its limits.
    """
    check_options({"slices": slices, "seed": seed, "size": size})
    worst = 2 * _WORST
    if not 0 <= severity <= worst:
        raise DataError(f"severity {severity} is outside the phantom's range; give 0 (no disease) to {worst}")
    frame = _frame(slices, size)
    rng = np.random.default_rng([seed, subject, _BRAIN])
    pixels, brain = _draw_brain(frame, rng)
    levels, gain, sigma = _draw_contrast(rng)
    ill, well = (np.interp(_render_brain(brain, amount), _TISSUES, levels) for amount in (severity, 0.0))
    shading = gain * (1 + 0.05 * _draw_field(frame, 60, rng)[pixels])
    images, masks = np.zeros((slices, size, size), np.uint8), np.zeros((slices, size, size), np.bool_)
    where = frame.pixels[pixels]
    images.reshape(-1)[where] = np.clip(np.rint(add_rician_noise(shading * ill, sigma, rng)), 1, 255)
    masks.reshape(-1)[where] = np.abs(ill - well) > least
    return images, masks


def add_rician_noise(signal: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Compute the magnitude of a signal under complex Gaussian noise, as in MRI (Gudbjartsson & Patz, 1995).

    Without signal its mean is sigma * sqrt(pi / 2); from 3 sigma on, the noise is nearly Gaussian.

    Args:
        signal: float (...), not negative.
        sigma: standard deviation of the noise in each channel, in units of the signal.
        rng: source of the noise.

    Returns:
        float32 (...).
    """
    real, imaginary = np.float32(sigma) * rng.standard_normal((2, *signal.shape), np.float32)
    return np.hypot(signal.astype(np.float32) + real, imaginary)


def draw_severity(rank: int, subject: int, seed: int = 0, signal: int = 100) -> float:
    """Draw the severity, in [0, 2.4], of a subject in the class of this rank in SEVERITY; signal as in make_phantom."""
    deviation = np.random.default_rng([seed, subject, _SEVERITY]).standard_normal()
    mean = _MEANS[0] + (_MEANS[rank] - _MEANS[0]) * signal / 100
    return float(np.clip(mean + _SPREAD * deviation, 0, _WORST * np.clip(signal / 100, 1, 2)))


def phantom_masks(slices: SliceSet, source: str, least: float = CHANGED) -> np.ndarray | None:
    """Return where disease changed each slice of a phantom: bool (N, H, W); None where the source is no phantom.

    Args:
        slices: of the source.
        source: as mriscope.read takes it.
        least: change of brightness that is marked, of that of white matter; FLUID marks where ventricles grew.

    Raises:
        DataError: the phantom that is made now is not the one the slices are of.
    """
    if parse_source(source).kind != "phantom":
        return None
    options = {**phantom_options(source), "size": slices.images.shape[1]}
    per_subject, seed, size = options.get("slices", 32), options.get("seed", 0), options["size"]
    signal = options.get("signal", 100)
    masks = np.zeros(slices.images.shape, np.bool_)
    for subject in np.unique(slices.subjects):
        rows = np.flatnonzero(slices.subjects == subject)
        rank = SEVERITY.index(slices.class_names[slices.labels[rows[0]]])
        brain = make_brain(
            int(subject), draw_severity(rank, int(subject), seed, signal), per_subject, seed, size, least
        )
        images, changed = (one[slices.positions[rows].astype(int)] for one in brain)
        if not np.array_equal(images, slices.images[rows]):
            raise DataError(f"{source} makes other brains than these slices show; name the phantom they are of")
        masks[rows] = changed
    return masks


def _draw_ranks(subjects: int, seed: int) -> np.ndarray:
    """Draw the rank in SEVERITY of every subject."""
    least = min(3, max(1, subjects // 8))  # three let a class stand in train, validation and test
    rare = [max(least, round(share * subjects)) for share in _SHARES]
    ranks = np.repeat(np.arange(4), [max(subjects - sum(rare), 1), *rare])[:subjects]
    return np.random.default_rng([seed, subjects, _CLASS]).permutation(ranks)


def _to_slice_set(images: np.ndarray, labels: np.ndarray) -> SliceSet:
    """Name the slices (subjects, slices, H, W) of subjects with these labels."""
    subjects, positions = (index.ravel() for index in np.indices(images.shape[:2]))
    paths = [f"phantom/s{s:03d}_p{p:02d}.png" for s, p in zip(subjects, positions, strict=True)]
    size = images.shape[2:]
    return SliceSet.of(images.reshape(-1, *size), labels[subjects], subjects=subjects, positions=positions, paths=paths)


@lru_cache(maxsize=1)
def _frame(slices: int, size: int) -> _Frame:
    """Find the pixels that can show brain under any warp."""
    heights = _FLOOR + (_TOP - _FLOOR) * (np.arange(slices) + 0.5) / slices
    across = ((np.arange(size) + 0.5) / size - 0.5)[:, None]
    rows, columns = (_MIDDLE + across * _FIELD * (-1, 1)).T  # anterior is up
    z, y, x = np.meshgrid(heights, rows, columns, indexing="ij")
    points = np.stack([x, y, z]).reshape(3, -1).astype(np.float32)
    pixels = np.flatnonzero(sample(load_atlas().depth, points) > -_MARGIN)
    return _Frame((heights, rows, columns), pixels, points[:, pixels])


def _draw_field(frame: _Frame, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a smooth Gaussian field of unit variance, float32 (M,): white noise on a blurred grid of `scale` mm."""
    bases = []
    for axis in frame.axes:
        nodes = np.arange(axis.min() - 2 * scale, axis.max() + 3 * scale, scale)
        weights = np.exp(-0.5 * ((axis[:, None] - nodes) / scale) ** 2)
        bases.append((weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32))
    noise = rng.standard_normal([basis.shape[1] for basis in bases], np.float32)
    for basis in bases:
        noise = np.tensordot(noise, basis, (0, 1))  # moves the first axis to the end: z, y, x again
    return noise.reshape(-1)[frame.pixels]


def _draw_brain(frame: _Frame, rng: np.random.Generator) -> tuple[np.ndarray, _Brain]:
    """Draw one brain without disease; return the pixels of the frame that show it, and its anatomy there."""
    points = _draw_warp(frame, rng)
    depth = sample(load_atlas().depth, points)
    inside = np.flatnonzero(depth > 0)
    points, depth = points[:, inside], depth[inside]
    larger = 3.0 * np.exp(0.35 * rng.standard_normal())
    uneven = 1 + 0.15 * rng.standard_normal() * np.clip(points[0] / 10, -1, 1)
    mirrored = np.vstack([np.abs(points[:1]), points[1:]])
    return inside, _Brain(
        points=points,
        distance=sample(load_atlas().distance, points),
        normals=np.stack([sample(normal, points) for normal in load_atlas().normals]),
        enlargement=larger * uneven,
        ribbon=np.clip((26 - depth) / 8, 0, 1),
        temporal=np.exp(-0.5 * (((mirrored - _HIPPOCAMPUS) / _REACH) ** 2).sum(0)),
        loss=0.07 + 0.02 * rng.standard_normal() + 0.05 * _draw_field(frame, 6, rng)[inside],
    )


def _draw_warp(frame: _Frame, rng: np.random.Generator) -> np.ndarray:
    """Map each point of the frame to the template, float32 (3, M): by a random tilt, stretch, shift and bend."""
    tilt = np.radians(rng.normal(0, (1.0, 1.0, 1.5)))
    turn = np.eye(3) + np.cross(np.eye(3), tilt)  # a small turn about each axis
    stretch, shift = rng.normal(1, 0.02, (3, 1)), rng.normal(0, 1.0, (3, 1))
    points = (turn * stretch).astype(np.float32) @ frame.points + shift.astype(np.float32)
    for amount, scale in ((2.2, 28.0), (1.4, 9.0)):  # lobes, then gyri; steep enough to fold at six sigma
        points += np.float32(amount) * np.stack([_draw_field(frame, scale, rng) for _ in range(3)])
    return points


def _draw_contrast(rng: np.random.Generator) -> tuple[np.ndarray, float, float]:
    """Draw the scanner's brightness of each of _TISSUES, the grey value of white matter, and the noise."""
    levels = np.array([0.12, 0.17, rng.normal(0.60, 0.04), 0.97, 1.06])
    levels[:2] += rng.normal(0, 0.02)
    return levels, 235 * max(0.6, 1 - abs(rng.normal(0, 0.12))), rng.uniform(4, 8)


def _render_brain(brain: _Brain, severity: float) -> np.ndarray:
    """Compute the brightness of a brain at a severity, float32 (M,): the deformed template, less lost grey matter."""
    reached = brain.distance - _undeformed_distance(brain.distance, brain.enlargement + _SWELLING * severity)
    bright = sample(load_atlas().tissue, brain.points - reached * brain.normals, 1)
    loss = brain.ribbon * (brain.loss + _CORTEX * severity) + _TEMPORAL * severity * brain.temporal
    return bright - loss * np.clip((_WHITE - bright) / (_WHITE - _GREY), 0, 1)  # white matter keeps its brightness


def _undeformed_distance(distance: np.ndarray, enlargement: np.ndarray) -> np.ndarray:
    """Return the distance from the ventricles, in mm, before their enlargement, of points at a distance after it.

    The outer 4 mm of the ventricles fill the gain, the tissue outside is compressed, and tissue far away does not move.
    The function rises everywhere, so that nothing folds.
    """
    within = _RIM * (distance - enlargement) / (enlargement + _RIM)
    beyond = distance - enlargement * np.clip(1 - (distance - enlargement) / _YIELD, 0, 1) ** 2
    return np.where(distance < -_RIM, distance, np.where(distance < enlargement, within, beyond))
