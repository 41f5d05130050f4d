"""Zero-mean normalised pixel correlation between slices, in blocks, so that no N×N matrix is ever held.

Slices are compared at no more than SIDE×SIDE pixels, each the mean of a block of the image: noise and the marks of
compression average out, and a comparison costs a sixteenth of what it does at 128×128.
"""

from typing import TYPE_CHECKING

import numpy as np

from mriscope.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 32
"""Pixels along a side at which slices are compared; smaller images are compared as they are."""
SEARCHED_WHOLE = 20_000
"""Slices up to which each is compared with all; of more, each with those of the clusters around its own."""
_ROWS = 1024  # of a block
_PROBES, _REDUCED = 16, 32  # clusters that a slice is compared with; dimensions in which clusters are found
_LEAST_TO_WHITEN, _SLICES_PER_DIRECTION, _DIRECTIONS = 1000, 8, 256


def standardised(images: np.ndarray, *, device: str = "cpu") -> "Tensor":
    """Slices as rows whose dot product is their correlation: block means less their mean, at unit length.

    Args:
        images: uint8 (N, H, W).
        device: where to compute, as torch names it.

    Returns:
        float32 (N, D) on the device, D at most SIDE × SIDE; a slice of one grey value is all 0, so like no other.

    Raises:
        DataError: the images are of another type or shape.
    """
    import torch

    if images.ndim != 3 or images.dtype != np.uint8:
        raise DataError(f"images are {images.dtype} {images.shape}; slices to compare are uint8 (N, H, W)")
    height, width = (min(SIDE, side) for side in images.shape[1:])
    rows = torch.empty(len(images), height * width, device=device)
    for start in range(0, len(images), _ROWS):
        block = torch.from_numpy(np.array(images[start : start + _ROWS])).to(device, torch.float32)
        means = torch.nn.functional.adaptive_avg_pool2d(block[:, None], (height, width)).flatten(1)
        rows[start : start + _ROWS] = unit(means - means.mean(1, keepdim=True))
    return rows


def unit(rows: "Tensor") -> "Tensor":
    """Rows at unit length; float32 (N, D). What has no length but rounding's stays 0."""
    length = rows.norm(dim=1, keepdim=True)
    return (rows / length.clamp_min(1e-3)) * (length > 1e-3)


def whitened(rows: "Tensor") -> "Tensor | None":
    """Rows in which all directions vary alike, so that what is rare in a brain counts as much as what is common.

    Their correlation forgives changes that touch all slices in the same few directions, as clipped brightness does.

    Args:
        rows: float32 (N, D), of `standardised`.

    Returns:
        float32 (N, at most 256) at unit length, or None where there are too few slices to tell what is common.
    """
    import torch

    if len(rows) < _LEAST_TO_WHITEN:
        return None
    centred = rows - rows.mean(0)
    variance, directions = torch.linalg.eigh(centred.T @ centred / len(rows))
    kept = min(_DIRECTIONS, len(rows) // _SLICES_PER_DIRECTION, int((variance > 1e-6 * variance[-1]).sum()))
    return unit(centred @ (directions[:, -kept:] / variance[-kept:].sqrt()))


def nearest(
    images_a: np.ndarray, images_b: np.ndarray | None = None, k: int = 1, *, device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """The k slices most similar to each slice.

    Args:
        images_a: uint8 (N, H, W).
        images_b: uint8 (M, H, W), the slices to choose from; None for the other slices of `images_a`.
        k: how many; where there are fewer, all.
        device: where to compute, as torch names it.

    Returns:
        float32 (N, k), correlation in [-1, 1] from the highest, and int64 (N, k), which slices these are.

    Raises:
        DataError: the images are of another type or of different sizes.
    """
    if images_b is not None and images_a.shape[1:] != images_b.shape[1:]:
        raise DataError(f"slices of {images_a.shape[1:]} and {images_b.shape[1:]} pixels differ in size; resize one")
    a = standardised(images_a, device=device)
    return nearest_rows(a, a if images_b is None else standardised(images_b, device=device), k, images_b is None)


def nearest_rows(a: "Tensor", b: "Tensor", k: int, same: bool) -> tuple[np.ndarray, np.ndarray]:
    """As `nearest`, for rows at unit length; `same` where b is a, so that no row is its own neighbour."""
    import torch

    k = max(min(k, len(b) - same), 0)
    similarity, index = np.empty((len(a), k), np.float32), np.empty((len(a), k), np.int64)
    for start in range(0, len(a), _ROWS):
        block = a[start : start + _ROWS] @ b.T
        if same:
            block.diagonal(start).fill_(-torch.inf)
        best, which = block.topk(k, dim=1)
        similarity[start : start + _ROWS] = best.clamp_(-1, 1).cpu().numpy()
        index[start : start + _ROWS] = which.cpu().numpy()
    return similarity, index


def neighbours(rows: "Tensor", k: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of similar rows: each with its k nearest, found by search in clusters where there are many rows.

    The clusters are scikit-learn's k-means over principal components, about 2 √N of them, and each row is compared
    with all rows of the 16 clusters around its own (an inverted file; Jégou et al., 2011): the cost grows as N √N.

    Args:
        rows: float32 (N, D) at unit length.
        k: how many of each.

    Returns:
        int64 (P, 2), which rows, and float64 (P,), 1 - their dot product.
    """
    if len(rows) <= SEARCHED_WHOLE:
        similarity, index = nearest_rows(rows, rows, k, same=True)
        pairs = np.stack([np.repeat(np.arange(len(rows)), index.shape[1]), index.ravel()], axis=1)
        return pairs, 1 - similarity.ravel().astype(np.float64)
    found = [_within_reach(rows, asking, reached, k) for asking, reached in _clusters(rows)]
    return np.concatenate([pairs for pairs, _ in found]), np.concatenate([distance for _, distance in found])


def _within_reach(rows: "Tensor", asking: np.ndarray, reached: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    similarity, index = nearest_rows(rows[asking], rows[reached], k + 1, same=False)
    pairs = np.stack([np.repeat(asking, index.shape[1]), reached[index.ravel()]], axis=1)
    others = pairs[:, 0] != pairs[:, 1]
    return pairs[others], 1 - similarity.ravel()[others].astype(np.float64)


def _clusters(rows: "Tensor") -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each cluster, its own rows and those of the clusters around it."""
    import torch
    from sklearn.cluster import MiniBatchKMeans

    sample = rows[:: max(1, len(rows) // 10_000)]
    directions = torch.linalg.eigh((sample - sample.mean(0)).T @ (sample - sample.mean(0)))[1][:, -_REDUCED:]
    reduced = (rows @ directions).cpu().numpy()
    count = int(2 * len(rows) ** 0.5)
    means = MiniBatchKMeans(count, batch_size=8192, n_init="auto", max_iter=20, random_state=0).fit(reduced)
    members = np.split(np.argsort(means.labels_, kind="stable"), np.cumsum(np.bincount(means.labels_))[:-1])
    centres = torch.from_numpy(means.cluster_centers_)
    around = torch.cdist(centres, centres).topk(min(_PROBES, count), largest=False).indices.numpy()
    return [
        (own, np.concatenate([members[n] for n in near if n < len(members)]))
        for own, near in zip(members, around, strict=False)
        if len(own)
    ]
