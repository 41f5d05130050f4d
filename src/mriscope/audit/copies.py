"""Which slices are altered copies of which: mirrored, turned, enlarged, moved, cropped, brightened, noisy, compressed.

A search of all poses against all references would cost too much, so every slice is first brought to one pose, that of
the template it resembles most (atlas registration; Joshi et al., 2004), where a table of posed templates gives the
start and Gauss-Newton steps the rest (inverse compositional; Baker and Matthews, 2004). In that pose, whitened rows
propose a few references for each query; each is then registered to the query itself, and correlated after local
contrast normalisation, which no gamma, brightness or shading changes much. A level above which an origin is certain
comes from decoys: mirrored references, whose match among the references is a chance one (Elias and Gygi, 2007).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from mriscope.audit.registration import (
    Similarity,
    correlation,
    local_contrast,
    local_correlation,
    register,
    sample,
    shrink,
)
from mriscope.audit.similarity import unit
from mriscope.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

FALSE_RATE = 0.001
"""Share of slices without an origin that may be given one by chance."""
FLOOR = 0.80
"""Correlation below which no origin is ever certain; slices of two public brains reach 0.70."""

_FINE, _COARSE = 64, 32  # pixels along the longer side at which slices are registered, and brought to a common pose
_BLOCK = 256  # slices at once
_ANGLES = tuple(range(-18, 19, 6))  # degrees
_ZOOMS = tuple(1.07**step for step in range(-3, 7))  # 0.82 to 1.50; a crop to 80 % enlarges 1.25 times
_SHIFTS = tuple(side / 16 for side in range(-3, 4))  # of the longer side
_TEMPLATES, _TEMPLATE_DIMENSIONS, _SAMPLE = 24, 96, 1500
_DIMENSIONS, _SAMPLE_TO_WHITEN = 256, 8000
_CANDIDATES, _FINALISTS, _DECOYS = 6, 2, 400
_LEAST_OVERLAP = 0.5
_MOST_DECOY = 0.85  # decoys above it are true copies: references that hold a slice and its mirror image
_FEWEST_DECOYS = 50


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
        origin: int64 (Q,), row of the reference, or -1 where none is certain.
        nearest: int64 (Q,), row of the most similar reference, certain or not; -1 where there is none.
        correlation: float32 (Q,), local correlation with `nearest` after registration.
        poses: Q poses of the queries against `nearest`.
        level: correlation from which an origin is certain.
        false_rate: share of slices without an origin that reach the level by chance, as the decoys tell; NaN where
            there are too few decoys, so that the level is FLOOR alone.
    """

    origin: np.ndarray
    nearest: np.ndarray
    correlation: np.ndarray
    poses: tuple[Pose, ...]
    level: float
    false_rate: float

    @property
    def certain(self) -> np.ndarray:
        """Bool (Q,), which queries have an origin beyond doubt."""
        return self.origin >= 0


@dataclass(frozen=True, eq=False)
class _Atlas:
    """Templates, each in all poses, as rows of few dimensions."""

    templates: "Tensor"  # float32 (K, h, w)
    poses: Similarity  # P
    directions: "Tensor"  # float32 (h · w, D)
    rows: "Tensor"  # float32 (K · P, D), unit length

    def locate(self, images: "Tensor") -> Similarity:
        """Where each image lies in the template it resembles most; images float32 (B, h, w)."""
        import torch

        count = len(self.poses.turn)
        best = (_rows(images) @ self.directions @ self.rows.T).argmax(1)
        start, template = self.poses[best % count], self.templates[best // count]
        found = register(images, template, start)
        better = correlation(images, template, found) > correlation(images, template, start)
        turn, move = torch.where(better, found.turn, start.turn), torch.where(better, found.move, start.move)
        return Similarity(turn, move)


@dataclass(frozen=True, eq=False)
class _Matches:
    """The best reference for each of B queries."""

    row: "Tensor"  # int64 (B,), -1 where there is none
    mirrored: "Tensor"  # bool (B,)
    correlation: "Tensor"  # float32 (B,)
    pose: Similarity  # B, of the query, mirrored back, in the reference, at the finer size


@dataclass(frozen=True, eq=False)
class _Index:
    """References that queries are looked for in."""

    images: "Tensor"  # float16 (N, h, w)
    atlas: _Atlas
    poses: Similarity  # N, where each lies in its template
    mean: "Tensor"
    whitening: "Tensor"
    rows: "Tensor"  # float32 (N, D), whitened

    def match(self, images: "Tensor", own: "Tensor | None", both: bool = True) -> _Matches:
        """The best reference for each image, as it is or, if `both`, mirrored; `own` are rows that do not count."""
        import torch

        images = torch.cat([images, images.flip(2)]) if both else images
        count = len(images) // (1 + both)
        pose = self.atlas.locate(_coarse(images))
        similarity = self.whiten(_canonical(_coarse(images), pose)) @ self.rows.T
        if own is not None:
            similarity.scatter_(1, own.repeat(1 + both)[:, None], -torch.inf)
        similarity = torch.cat(list(similarity.split(count)), dim=1)
        where = similarity.topk(min(_CANDIDATES, len(self.rows) - (own is not None)), dim=1).indices
        query = torch.arange(count, device=images.device)[:, None] + where // len(self.rows) * count
        return self._best(images, pose, query, where % len(self.rows))

    def _best(self, images: "Tensor", pose: Similarity, query: "Tensor", row: "Tensor") -> _Matches:
        """The best of some candidates: all registered coarsely, and the best of them finely; query, row (B, C)."""
        import torch

        factor = images.shape[1] / _coarse(images[:1]).shape[1]
        q, r = query.flatten(), row.flatten()
        start = pose[q].then(self.poses[r].inverse())
        coarse, found = self._compare(_coarse(images), q, r, start, _coarse)
        kept = coarse.view(query.shape).topk(min(_FINALISTS, query.shape[1]), dim=1).indices
        chosen = (kept + torch.arange(len(query), device=kept.device)[:, None] * query.shape[1]).flatten()
        fine, found = self._compare(images, q[chosen], r[chosen], found[chosen].scaled(factor), lambda same: same)
        best = fine.view(kept.shape).argmax(1) + torch.arange(len(query), device=kept.device) * kept.shape[1]
        chosen = chosen[best]
        return _Matches(r[chosen], q[chosen] >= len(query), fine[best], found[best])

    def _compare(
        self, images: "Tensor", q: "Tensor", r: "Tensor", start: Similarity, size: "Callable[[Tensor], Tensor]"
    ) -> "tuple[Tensor, Similarity]":
        """Correlation of pairs after registration, and their poses."""
        import torch

        scores, turns, moves = [], [], []
        for some in torch.arange(len(q), device=q.device).split(_BLOCK):
            fixed, moving = images[q[some]], size(self.images[r[some]].float())
            found = register(fixed, moving, start[some])
            score, share = local_correlation(fixed, moving, found)
            scores.append(torch.where(share >= _LEAST_OVERLAP, score, -1))
            turns.append(found.turn)
            moves.append(found.move)
        return torch.cat(scores), Similarity(torch.cat(turns), torch.cat(moves))

    def whiten(self, rows: "Tensor") -> "Tensor":
        return unit((rows - self.mean) @ self.whitening)


def find_copies(
    queries: np.ndarray,
    references: np.ndarray | None = None,
    *,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Copies:
    """Find the slice that each query is an altered copy of.

    Args:
        queries: uint8 (Q, H, W).
        references: uint8 (R, H, W) of the same size, where to look; None for the other queries.
        device: where to compute, as torch names it.
        progress: called with the queries that are done and Q.

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
    if len(known) <= (references is None) or not len(queries):
        return _nothing(len(queries))
    index = _index(known, device)
    level, rate = _level(index)
    found = []
    for start in range(0, len(queries), _BLOCK):
        block = shrink(queries[start : start + _BLOCK], _FINE, device)
        own = torch.arange(start, start + len(block), device=device) if references is None else None
        found.append(index.match(block, own))
        if progress is not None:
            progress(start + len(block), len(queries))
    return _copies(found, level, rate, max(queries.shape[1:]) / max(index.images.shape[1:]))


def _nothing(count: int) -> Copies:
    none = np.full(count, -1, np.int64)
    pose = Pose(mirrored=False, angle=0.0, zoom=1.0, shift=(0.0, 0.0))
    return Copies(none, none, np.zeros(count, np.float32), (pose,) * count, FLOOR, math.nan)


def _copies(found: list[_Matches], level: float, rate: float, factor: float) -> Copies:
    correlation = np.concatenate([one.correlation.cpu().numpy() for one in found])
    row = np.concatenate([one.row.cpu().numpy() for one in found])
    poses = []
    for one in found:
        turn, move = one.pose.turn.cpu().numpy(), (-one.pose.move / one.pose.turn).cpu().numpy() * factor
        angle, zoom = np.degrees(np.angle(turn)), 1 / np.abs(turn)
        for i, mirrored in enumerate(one.mirrored.tolist()):
            poses.append(Pose(mirrored, float(angle[i]), float(zoom[i]), (float(move[i].imag), float(move[i].real))))
    return Copies(np.where(correlation >= level, row, -1), row, correlation, tuple(poses), level, rate)


def undo(image: np.ndarray, pose: Pose) -> np.ndarray:
    """A query brought to the pose of its origin; uint8 (H, W), black where the query does not reach.

    Args:
        image: uint8 (H, W), the query.
        pose: of the query against its origin.
    """
    from scipy.ndimage import affine_transform

    image = image[:, ::-1] if pose.mirrored else image
    turn = math.radians(pose.angle)
    matrix = pose.zoom * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    middle = (np.array(image.shape) - 1) / 2
    moved = affine_transform(image.astype(np.float32), matrix, middle + pose.shift - matrix @ middle, order=1)
    return np.clip(np.rint(moved), 0, 255).astype(np.uint8)


def _index(references: np.ndarray, device: str) -> _Index:
    import torch

    blocks = range(0, len(references), _BLOCK)
    images = torch.cat([shrink(references[at : at + _BLOCK], _FINE, device).half() for at in blocks])
    atlas = _build_atlas(_coarse(images[_some(len(images), _SAMPLE)].float()))
    found = [atlas.locate(_coarse(some.float())) for some in images.split(_BLOCK)]
    poses = Similarity(torch.cat([one.turn for one in found]), torch.cat([one.move for one in found]))
    some = _some(len(images), _SAMPLE_TO_WHITEN)
    rows = torch.cat([_canonical(_coarse(images[at].float()), poses[at]) for at in some.to(device).split(_BLOCK)])
    mean = rows.mean(0)
    variance, directions = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
    kept = min(_DIMENSIONS, max(1, len(rows) // 4), rows.shape[1])
    whitening = directions[:, -kept:] / variance[-kept:].clamp_min(1e-6).sqrt()
    index = _Index(images, atlas, poses, mean, whitening, rows[:0])
    whitened = [
        index.whiten(_canonical(_coarse(images[at].float()), poses[at]))
        for at in torch.arange(len(images), device=device).split(_BLOCK)
    ]
    return _Index(images, atlas, poses, mean, whitening, torch.cat(whitened))


def _some(count: int, most: int) -> "Tensor":
    """At most so many of `count` rows, drawn without order but always the same; int64."""
    import torch

    return torch.from_numpy(np.random.default_rng(0).permutation(count)[:most])


def _coarse(images: "Tensor") -> "Tensor":
    """Images at the coarser size; float32 (B, h, w)."""
    from torch.nn.functional import avg_pool2d

    factor = max(1, max(images.shape[1:]) // _COARSE)
    factor = min(factor, *images.shape[1:])
    return avg_pool2d(images[:, None], factor)[:, 0]


def _canonical(images: "Tensor", pose: Similarity) -> "Tensor":
    """Local contrast in the template's frame, as rows of unit length; float32 (B, h · w)."""
    return _rows(local_contrast(sample(images, pose.inverse())[0]))


def _rows(images: "Tensor") -> "Tensor":
    rows = images.flatten(1)
    return unit(rows - rows.mean(1, keepdim=True))


def _build_atlas(images: "Tensor") -> _Atlas:
    """Means of clusters of the images, after all were brought to the pose of one of them."""
    import torch
    from sklearn.cluster import MiniBatchKMeans

    rows = _rows(images)
    root = _pose_templates(images[(rows @ rows.mean(0)).argmax()][None])
    located = torch.cat([sample(some, root.locate(some).inverse())[0] for some in images.split(_BLOCK)])
    count = min(_TEMPLATES, max(1, len(images) // 8))
    means = MiniBatchKMeans(count, n_init=1, batch_size=_SAMPLE, max_iter=10, random_state=0)
    labels = torch.from_numpy(means.fit_predict(_rows(located).cpu().numpy())).long().to(images.device)
    return _pose_templates(torch.stack([located[labels == one].mean(0) for one in labels.unique()]))


def _pose_templates(templates: "Tensor") -> _Atlas:
    import torch

    device, side = templates.device, max(templates.shape[1:])
    angles, zooms, shifts = (
        torch.tensor(grid, dtype=torch.float32, device=device) for grid in (_ANGLES, _ZOOMS, _SHIFTS)
    )
    angle, zoom, down, right = (one.flatten() for one in torch.meshgrid(angles, zooms, shifts, shifts, indexing="ij"))
    turn = torch.polar(1 / zoom, torch.deg2rad(angle))
    poses = Similarity(turn, -turn * torch.complex(right, down) * side)
    count = len(turn)
    posed = [_rows(sample(one.expand(count, -1, -1), poses)[0]) for one in templates]
    some = torch.cat([one[i % 10 :: 10] for i, one in enumerate(posed)])
    directions = torch.linalg.eigh(some.T @ some)[1][:, -_TEMPLATE_DIMENSIONS:]
    return _Atlas(templates, poses, directions, unit(torch.cat([one @ directions for one in posed])))


def _level(index: _Index) -> tuple[float, float]:
    """Correlation above which an origin is certain, and how often chance reaches it.

    Fisher's z of the decoys' correlations is taken as normal, its centre and spread from the lower half, which true
    mirror images among the references do not touch. A query meets chance twice, as it is and mirrored.
    """
    import torch

    some = _some(len(index.images), _DECOYS).to(index.images.device)
    decoys = [index.match(index.images[rows].float().flip(2), None, both=False) for rows in some.split(_BLOCK)]
    scores = torch.cat([one.correlation for one in decoys]).double().cpu().numpy()
    scores = scores[scores < _MOST_DECOY]
    if len(scores) < _FEWEST_DECOYS:
        return FLOOR, math.nan
    quarter, middle = np.quantile(np.arctanh(scores.clip(-0.99)), (0.25, 0.5))
    normal = NormalDist(middle, max((middle - quarter) / NormalDist().inv_cdf(0.75), 1e-3))
    level = max(FLOOR, math.tanh(normal.inv_cdf(1 - FALSE_RATE / 2)))
    return level, 2 * (1 - normal.cdf(math.atanh(level)))
