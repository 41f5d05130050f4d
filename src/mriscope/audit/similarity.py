"""Zero-mean normalised pixel correlation between slices, in blocks, so that no N×N matrix is ever held.

Slices are compared at no more than SIDE×SIDE pixels, each the mean of a block of the image: noise and the marks of
compression average out, and a comparison costs a sixteenth of what it does at 128×128.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mriscope.errors import DataError, check_type

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 32
"""Pixels along a side at which slices are compared; smaller images are compared as they are."""
SEARCHED_WHOLE = 100_000
"""Slices up to which each is compared with all; of more, each with those of the clusters near it."""
_PIXELS = 2**24  # of a block of slices
_COMPARED_WHOLE = 20_000  # slices up to which all pixels are compared
_ROWS, _EXACT = 1024, 16  # slices of a block; of the most similar ones, those whose pixels are all compared
_PROBES, _REDUCED = 32, 256  # clusters that a slice is compared with; dimensions in which slices and clusters are found
_SLICES_PER_DIRECTION, _DIRECTIONS = 3, 512


def standardised(images: np.ndarray, *, among: np.ndarray | None = None, device: str = "cpu") -> "Tensor":
    """Turn slices into rows whose dot product is their correlation: block means less their mean, at unit length.

    Args:
        images: uint8 (N, H, W).
        among: int64 (M,), rows to take, so that these images need not be copied; None for all.
        device: where to compute, as torch names it.

    Returns:
        float32 (M, D) on the device, D at most SIDE × SIDE; a slice of one grey value is all 0, so like no other.

    Raises:
        DataError: the images are of another type or shape.
    """
    check_type("images", images, np.ndarray, "an array of slices, uint8 (N, H, W)")
    import torch

    if images.ndim != 3 or images.dtype != np.uint8:
        raise DataError(f"images are {images.dtype} {images.shape}; slices to compare are uint8 (N, H, W)")
    height, width = (min(SIDE, side) for side in images.shape[1:])
    among = np.arange(len(images)) if among is None else among
    rows = torch.empty(len(among), height * width, device=device)
    step = max(1, min(_ROWS, _PIXELS // (images[0].size if len(images) else 1)))
    for start in range(0, len(among), step):
        means = block_means(images[among[start : start + step]], (height, width), device=device).flatten(1)
        rows[start : start + step] = unit(means - means.mean(1, keepdim=True))
    return rows


def block_means(images: np.ndarray, size: tuple[int, int], *, device: str = "cpu") -> "Tensor":
    """Shrink images by the means of blocks of pixels; blocks overlap where the sides are no multiples of the size.

    On a CPU the sums of blocks of one size are whole numbers: as exact as torch's pooling, in a fifth of its time.

    Args:
        images: uint8 (N, H, W).
        size: h and w, in pixels.
        device: where to compute, as torch names it.

    Returns:
        float32 (N, h, w) on the device.
    """
    import torch

    (down, rest_down), (across, rest_across) = (divmod(*sides) for sides in zip(images.shape[1:], size, strict=True))
    if device != "cpu" or rest_down or rest_across or down > 256:  # sums of more would not fit 16 bits
        block = torch.from_numpy(np.array(images)).to(device, torch.float32)
        return torch.nn.functional.adaptive_avg_pool2d(block[:, None], size)[:, 0]
    columns = images[:, ::down].astype(np.uint16)
    for row in range(1, down):
        columns += images[:, row::down]
    sums = columns[:, :, ::across].astype(np.uint32)
    for column in range(1, across):
        sums += columns[:, :, column::across]
    return torch.from_numpy(sums.astype(np.float32)) / down / across  # in this order, as torch divides


def unit(rows: "Tensor") -> "Tensor":
    """Scale rows to unit length; float32 (N, D). Rows without length beyond rounding error stay 0."""
    length = rows.norm(dim=1, keepdim=True)
    return (rows / length.clamp_min(1e-3)) * (length > 1e-3)


@dataclass(frozen=True)
class Whitening:
    """A linear map after which all directions vary alike, so that what is rare in a brain counts as much as the rest.

    Args:
        mean: float32 (D,), taken off first.
        basis: float32 (D, K), principal components divided by their standard deviation.
    """

    mean: "Tensor"
    basis: "Tensor"

    def __call__(self, rows: "Tensor") -> "Tensor":
        """Return float32 (N, K) at unit length; a row of no length stays all 0."""
        return unit((rows - self.mean) @ self.basis) * (rows.norm(dim=1, keepdim=True) > 0)


def fit_whitening(rows: "Tensor") -> Whitening:
    """Fit a whitening to slices: their principal components, a third of their number and 512 at most.

    More components than that fit the noise of the single slice, and the neighbours of a slice within its brain no
    longer resemble it; fewer leave the brains of different people alike.

    Args:
        rows: float32 (N, D), of `standardised`; three at least.
    """
    import torch

    mean = rows.mean(0)
    centred = rows - mean
    variance, directions = torch.linalg.eigh((centred.T @ centred / len(rows)).double())
    del centred
    kept = max(1, min(_DIRECTIONS, len(rows) // _SLICES_PER_DIRECTION, int((variance > 1e-6 * variance[-1]).sum())))
    return Whitening(mean, (directions[:, -kept:] / variance[-kept:].sqrt()).to(rows.dtype))


def nearest(
    images_a: np.ndarray, images_b: np.ndarray | None = None, k: int = 1, *, device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k slices most similar to each slice.

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
    if images_b is None and len(a) > _COMPARED_WHOLE:
        return _nearest_by_components(a, k)
    return nearest_rows(a, a if images_b is None else standardised(images_b, device=device), k, images_b is None)


def _nearest_by_components(rows: "Tensor", k: int) -> tuple[np.ndarray, np.ndarray]:
    """Do as `nearest_rows` for rows among themselves: by principal components, the first of each by all pixels.

    Neighbouring pixels are so alike that a quarter as many components find the same slices; what the rest would add to
    a correlation is less than 0.01.
    """
    import torch

    basis = torch.linalg.eigh((rows.T @ rows).double())[1][:, -_REDUCED:].to(rows.dtype)
    similarity, index = nearest_rows(reduced := rows @ basis, reduced, k, same=True)
    for start in range(0, len(rows), _ROWS):
        some = slice(start, start + _ROWS)
        which = torch.from_numpy(index[some, :_EXACT]).to(rows.device)
        exact, order = torch.einsum("nd,nkd->nk", rows[some], rows[which]).sort(dim=1, descending=True)
        similarity[some, :_EXACT] = exact.clamp_(-1, 1).cpu().numpy()
        index[some, :_EXACT] = which.gather(1, order).cpu().numpy()
    return np.minimum.accumulate(similarity, axis=1), index


def nearest_rows(a: "Tensor", b: "Tensor", k: int, same: bool) -> tuple[np.ndarray, np.ndarray]:
    """Find as `nearest` does for rows at unit length; `same` where b is a, so that no row is its own neighbour."""
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
    """Find the k rows most similar to each row, by search in clusters where there are many rows.

    The clusters are scikit-learn's k-means over principal components, about 2 √N of them, and each row is compared
    with all rows of the 32 clusters it is nearest to (an inverted file; Jégou et al., 2011): the cost grows as N √N.

    Args:
        rows: float32 (N, D) at unit length.
        k: how many of each.

    Returns:
        float32 (N, k), the dot product, from the highest, -inf where fewer were found, and int64 (N, k), which rows.
    """
    return nearest_rows(rows, rows, k, same=True) if len(rows) <= SEARCHED_WHOLE else _nearest_in_clusters(rows, k)


def _nearest_in_clusters(rows: "Tensor", k: int) -> tuple[np.ndarray, np.ndarray]:
    """Search as `nearest_rows` does, but only in the clusters near each row; -inf where none is left."""
    import torch

    similarity = torch.full((len(rows), k), -torch.inf, device=rows.device)
    index = torch.zeros(len(rows), k, dtype=torch.int64, device=rows.device)
    for asking, members in _clusters(rows):
        columns = rows[members].T
        for some in asking.split(_ROWS):
            block = rows[some] @ columns
            block.masked_fill_(some[:, None] == members, -torch.inf)
            best, which = torch.cat([similarity[some], block], dim=1).topk(k)
            similarity[some] = best
            index[some] = torch.cat([index[some], members.expand(len(some), -1)], dim=1).gather(1, which)
    return similarity.clamp_(max=1).cpu().numpy(), index.cpu().numpy()


def _clusters(rows: "Tensor") -> "list[tuple[Tensor, Tensor]]":
    """Return for each cluster the rows it is near to, and its members."""
    import torch
    from sklearn.cluster import MiniBatchKMeans

    sample = rows[:: max(1, len(rows) // 10_000)]
    sample = sample - sample.mean(0)
    reduced = (rows @ torch.linalg.eigh(sample.T @ sample)[1][:, -_REDUCED:]).cpu()
    count = int(2 * len(rows) ** 0.5)
    means = MiniBatchKMeans(count, batch_size=8192, n_init="auto", max_iter=20, random_state=0).fit(reduced.numpy())
    centres = torch.from_numpy(means.cluster_centers_)
    probes = min(_PROBES, count)
    near = [torch.cdist(some, centres).topk(probes, largest=False).indices for some in reduced.split(_ROWS)]
    asking, members = _grouped(torch.cat(near), count), _grouped(torch.from_numpy(means.labels_).long()[:, None], count)
    return [(a.to(rows.device), m.to(rows.device)) for a, m in zip(asking, members, strict=True) if len(a) and len(m)]


def _grouped(labels: "Tensor", count: int) -> "list[Tensor]":
    """Return the rows that carry each label; labels int64 (N, L), each of them below count."""
    order = labels.flatten().argsort(stable=True) // labels.shape[1]
    return list(order.split(labels.flatten().bincount(minlength=count).tolist()))
