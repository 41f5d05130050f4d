"""Which slices are altered copies of which: mirrored, turned, enlarged, moved, cropped, brightened, noisy, compressed.

A search of all poses against all references would cost too much. Every slice is first brought to one pose, that of the
template it resembles most (atlas registration; Joshi et al., 2004): a table of templates in all poses gives the start,
and inverse compositional Gauss-Newton steps the rest (Baker and Matthews, 2004). In that pose, whitened rows propose a
few references for each query. Each is registered to the query itself and correlated with it after local contrast
normalisation, which gamma, brightness and shading change little.

The level from which an origin is certain comes from pairs of references drawn at random, registered in the same way:
Fisher's z of their correlations is nearly normal, and a query has as many chances as there are references, twice.
A neighbouring slice of the same brain reaches that level too. It is told from an origin by what a second slice of that
brain adds: nothing for a copy, whose difference from its origin is no anatomy, and much for a slice from in between.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from mriscope.audit.registration import (
    Similarity,
    local_contrast,
    local_correlation,
    partial_correlation,
    register,
    sample,
    shrink,
)
from mriscope.audit.similarity import unit
from mriscope.audit.templates import BLOCK, Atlas, build_atlas, coarse, unit_rows
from mriscope.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

FALSE_RATE = 0.001
"""Share of slices without an origin that may be given one by chance."""
FLOOR = 0.7
"""Correlation below which no origin is certain, however unlike the references are."""

_FINE = 64  # pixels along the longer side at which pairs are compared
_PAIRS_AT_ONCE = 128
_TO_CLUSTER, _DIMENSIONS, _TO_WHITEN = 1500, 128, 8000
_CANDIDATES, _FINALISTS = 4, 3  # of each query, as it is and mirrored; and of both
_LEAST_OVERLAP = 0.5
_RANDOM_PAIRS, _FEWEST = 800, 16  # pairs that tell of chance; references of which they can be drawn
_SAME = 0.97  # correlation of references that are too alike for one to add to the other
_ADDED = 0.3  # partial correlation that a second slice of the brain reaches where the first is no origin
_NEIGHBOUR = 0.965  # correlation that no neighbouring slice reaches, where no second slice of the brain is known


@dataclass(frozen=True)
class Pose:
    """How a query lies against its origin: the origin is turned, enlarged and moved, then mirrored if so said.

    Args:
        mirrored: left and right are exchanged.
        angle: degrees counter-clockwise about the middle.
        zoom: above 1 the query shows the origin enlarged.
        shift: pixels down and right.
    """

    mirrored: bool
    angle: float
    zoom: float
    shift: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Copies:
    """The origin of each query among the references, as far as pixels tell.

    Args:
        origin: int64 (Q,), row of a reference that shows the same brain beyond doubt, the origin itself if it is among
            the references; -1 where none is certain.
        nearest: int64 (Q,), row of the most similar reference, certain or not; -1 where there is none.
        correlation: float32 (Q,), local correlation with `nearest` after registration.
        poses: Q poses of the queries against `nearest`.
        copy: bool (Q,), which queries are copies of their origin beyond doubt; others with an origin are of the same
            brain, and may be copies or neighbouring slices.
        level: correlation from which an origin is certain.
        false_rate: expected share of slices without an origin that reach the level by chance; NaN where the references
            are too few to tell, so that the level is FLOOR alone.
    """

    origin: np.ndarray
    nearest: np.ndarray
    correlation: np.ndarray
    poses: tuple[Pose, ...]
    copy: np.ndarray
    level: float
    false_rate: float

    @property
    def certain(self) -> np.ndarray:
        """Bool (Q,), which queries have an origin beyond doubt."""
        return self.origin >= 0


@dataclass(frozen=True, eq=False)
class _Matches:
    """The best reference for each of B queries; the pose is that of the query, mirrored back, in the reference."""

    row: "Tensor"  # int64 (B,)
    mirrored: "Tensor"  # bool (B,)
    correlation: "Tensor"  # float32 (B,)
    copy: "Tensor"  # bool (B,)
    pose: Similarity  # B


@dataclass(frozen=True, eq=False)
class _Index:
    """References that queries are looked for in."""

    images: "Tensor"  # float16 (N, h, w)
    atlas: Atlas
    poses: Similarity  # N, where each lies in its template
    mean: "Tensor"
    whitening: "Tensor"
    rows: "Tensor"  # float32 (N, D), whitened

    def match(self, block: "Tensor", own: "Tensor | None") -> _Matches:
        """Find the best reference for each slice; float32 (B, h, w), and int64 (B,), references that do not count."""
        import torch

        images = torch.cat([block, block.flip(2)])
        small = coarse(images)
        pose = self.atlas.locate(small)
        alike = _whiten(small, pose, self.mean, self.whitening) @ self.rows.T
        if own is not None:
            alike.scatter_(1, own.repeat(2)[:, None], -torch.inf)
        most = min(_CANDIDATES, len(self.rows) - (own is not None))
        row = torch.cat(list(alike.topk(most, dim=1).indices.split(len(block))), dim=1).flatten()
        query = torch.arange(len(images), device=row.device).view(2, -1, 1).expand(-1, -1, most)
        query = query.transpose(0, 1).flatten()
        start = pose[query].then(self.poses[row].inverse())
        score, pose = _compare(small[query], coarse(self.images[row].float()), start)
        kept = _best(score, len(block), _FINALISTS).flatten()
        query, row, pose = query[kept], row[kept], pose[kept].scaled(max(images.shape[1:]) / max(small.shape[1:]))
        score, pose = _compare(images[query], self.images[row].float(), pose)
        order = _best(score, len(block), _FINALISTS)
        first = order[:, 0]
        copy = self._told(images, query, row, pose, score, order)
        return _Matches(row[first], query[first] >= len(block), score[first], copy, pose[first])

    def _told(
        self, images: "Tensor", query: "Tensor", row: "Tensor", pose: Similarity, score: "Tensor", order: "Tensor"
    ) -> "Tensor":
        """Tell which queries are copies of their best reference, judged by other slices of its brain; bool (B,)."""
        import torch

        first = order[:, 0]
        told, doubt = torch.zeros_like(first, dtype=torch.bool), torch.zeros_like(first, dtype=torch.bool)
        for other in order[:, 1:].T:
            best, second = (self.images[row[one]].float() for one in (first, other))
            added, alike = partial_correlation(images[query[first]], best, second, (pose[first], pose[other]))
            tells = (query[first] == query[other]) & (alike >= FLOOR) & (alike < _SAME)
            told |= tells
            doubt |= tells & (added.abs() >= _ADDED)
        return ~doubt & (told | (score[first] >= _NEIGHBOUR))


def _compare(fixed: "Tensor", moving: "Tensor", start: Similarity) -> "tuple[Tensor, Similarity]":
    """Register pairs, and return their local correlation, -1 where too little overlaps, and poses."""
    import torch

    scores, turns, moves = [], [], []
    for some in torch.arange(len(fixed), device=fixed.device).split(_PAIRS_AT_ONCE):
        found = register(fixed[some], moving[some], start[some])
        score, share = local_correlation(fixed[some], moving[some], found)
        scores.append(torch.where(share >= _LEAST_OVERLAP, score, -1))
        turns.append(found.turn)
        moves.append(found.move)
    return torch.cat(scores), Similarity(torch.cat(turns), torch.cat(moves))


def _best(score: "Tensor", queries: int, most: int) -> "Tensor":
    """Return the candidates with the highest scores for each query; int64 (queries, most or fewer), rows of score."""
    import torch

    each = len(score) // queries
    best = score.view(queries, each).topk(min(most, each), dim=1).indices
    return best + torch.arange(queries, device=score.device)[:, None] * each


def find_copies(
    queries: np.ndarray,
    references: np.ndarray | None = None,
    *,
    among: np.ndarray | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Copies:
    """Find the slice that each query is an altered copy of.

    Args:
        queries: uint8 (Q, H, W).
        references: uint8 (R, H, W) of the same size, where to look; None for the other queries.
        among: int64 (M,), rows of the references to look among, so that these need not be copied; None for all.
        device: where to compute, as torch names it.
        progress: called with the queries that are done and Q.

    Returns:
        of each query its origin, as a place in `among` where that is given.

    Raises:
        DataError: the images are of another type or of different sizes.
    """
    import torch

    known = queries if references is None else references
    for images in (queries, known):
        if images.ndim != 3 or images.dtype != np.uint8 or 0 in images.shape[1:]:
            raise DataError(f"images are {images.dtype} {images.shape}; slices to compare are uint8 (N, H, W)")
    if queries.shape[1:] != known.shape[1:]:
        raise DataError(f"slices of {queries.shape[1:]} and {known.shape[1:]} pixels differ in size; resize one")
    among = np.arange(len(known)) if among is None else among
    if len(among) <= (references is None) or not len(queries):
        return _nothing(len(queries))
    index = _index(known, among, device)
    level, rate = _level(index)
    found = []
    for start in range(0, len(queries), BLOCK):
        block = shrink(queries[start : start + BLOCK], _FINE, device)
        own = torch.arange(start, start + len(block), device=device) if references is None else None
        found.append(index.match(block, own))
        if progress is not None:
            progress(start + len(block), len(queries))
    return _copies(found, level, rate, max(queries.shape[1:]) / max(index.images.shape[1:]))


def _nothing(count: int) -> Copies:
    none, pose = np.full(count, -1, np.int64), Pose(mirrored=False, angle=0.0, zoom=1.0, shift=(0.0, 0.0))
    return Copies(none, none, np.zeros(count, np.float32), (pose,) * count, none >= 0, FLOOR, math.nan)


def _copies(found: list[_Matches], level: float, rate: float, factor: float) -> Copies:
    """Put blocks together; `factor` is how many times larger the slices are than those that were compared."""
    row, score, copy, mirrored, turn, move = (
        np.concatenate([getter(one).cpu().numpy() for one in found])
        for getter in (
            lambda one: one.row,
            lambda one: one.correlation,
            lambda one: one.copy,
            lambda one: one.mirrored,
            lambda one: one.pose.turn,
            lambda one: one.pose.move,
        )
    )
    shift, angle, zoom = -move / turn * factor, np.degrees(np.angle(turn)), 1 / np.abs(turn)
    poses = tuple(
        Pose(bool(mirrored[i]), float(angle[i]), float(zoom[i]), (float(shift[i].imag), float(shift[i].real)))
        for i in range(len(row))
    )
    certain = score >= level
    return Copies(np.where(certain, row, -1), row, score, poses, copy & certain, level, rate)


def undo(image: np.ndarray, pose: Pose) -> np.ndarray:
    """Bring a query to the pose of its origin; uint8 (H, W), black where the query does not reach.

    Args:
        image: uint8 (H, W), the query.
        pose: of the query against its origin.
    """
    from scipy.ndimage import affine_transform

    image = image[:, ::-1] if pose.mirrored else image
    turn = math.radians(pose.angle)
    where = np.eye(3)  # of the origin's points in the query, as rows and columns
    where[:2, :2] = pose.zoom * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    middle = (np.array(image.shape) - 1) / 2
    where[:2, 2] = middle + pose.shift - where[:2, :2] @ middle
    moved = affine_transform(image.astype(np.float32), where, order=1)
    return np.clip(np.rint(moved), 0, 255).astype(np.uint8)


def _index(references: np.ndarray, among: np.ndarray, device: str) -> _Index:
    import torch

    blocks = (among[at : at + BLOCK] for at in range(0, len(among), BLOCK))
    images = torch.cat([shrink(references[block], _FINE, device).half() for block in blocks])
    atlas = build_atlas(coarse(images[_some(len(images), _TO_CLUSTER)].float()))
    found = [atlas.locate(coarse(some.float())) for some in images.split(BLOCK)]
    poses = Similarity(torch.cat([one.turn for one in found]), torch.cat([one.move for one in found]))
    some = _some(len(images), _TO_WHITEN).to(device)
    rows = torch.cat([_canonical(coarse(images[at].float()), poses[at]) for at in some.split(BLOCK)])
    mean = rows.mean(0)
    least = 1e-6 * torch.eye(rows.shape[1], device=device)  # of the variance; rounding's is below
    variance, directions = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows) + least)
    kept = min(_DIMENSIONS, max(1, len(rows) // 4), rows.shape[1])
    whitening = directions[:, -kept:] / variance[-kept:].sqrt()
    every = torch.arange(len(images), device=device).split(BLOCK)
    whitened = [_whiten(coarse(images[at].float()), poses[at], mean, whitening) for at in every]
    return _Index(images, atlas, poses, mean, whitening, torch.cat(whitened))


def _some(count: int, most: int) -> "Tensor":
    """Draw at most so many of `count` rows, always the same ones; int64."""
    import torch

    return torch.from_numpy(np.random.default_rng(0).permutation(count)[:most])


def _canonical(images: "Tensor", pose: Similarity) -> "Tensor":
    """Compute local contrast in the template's frame, faded to its rim, which a crop cuts off; float32 (B, h · w)."""
    import torch

    shown = local_contrast(sample(images, pose.inverse())[0])
    down, right = (torch.hann_window(side + 2, periodic=False, device=shown.device)[1:-1] for side in shown.shape[1:])
    return unit_rows(shown * (down[:, None] * right).sqrt())


def _whiten(images: "Tensor", pose: Similarity, mean: "Tensor", whitening: "Tensor") -> "Tensor":
    return unit((_canonical(images, pose) - mean) @ whitening)


def _level(index: _Index) -> tuple[float, float]:
    """Compute the correlation from which an origin is certain, and how often chance reaches it.

    Fisher's z of references paired at random, registered as candidates are, is taken as normal, its centre and spread
    from the quartiles, which the few pairs of one brain do not move. A query has so many chances as there are
    references, and as many mirrored ones (Bonferroni).
    """
    import torch

    count = len(index.images)
    if count < _FEWEST:
        return FLOOR, math.nan
    first, second = torch.from_numpy(np.random.default_rng(0).integers(0, count, (2, _RANDOM_PAIRS)))
    first, second = first[first != second], second[first != second]
    start = index.poses[first].then(index.poses[second].inverse())
    pair = index.images[first].float(), index.images[second].float()
    _, pose = _compare(coarse(pair[0]), coarse(pair[1]), start)
    scores, _ = _compare(*pair, pose.scaled(max(index.images.shape[1:]) / max(index.atlas.templates.shape[1:])))
    z = np.arctanh(scores.double().clamp(-0.999, 0.999).cpu().numpy())
    low, middle, high = np.quantile(z, (0.25, 0.5, 0.75))
    chance = NormalDist(middle, max((high - low) / (2 * NormalDist().inv_cdf(0.75)), 0.01))
    level = max(FLOOR, math.tanh(chance.inv_cdf(1 - FALSE_RATE / (2 * count))))
    return level, count * math.erfc((math.atanh(level) - middle) / (chance.stdev * math.sqrt(2)))
