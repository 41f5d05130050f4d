"""Zero-mean normalised pixel correlation between slices, in blocks, so that no N×N matrix is ever held.

Slices are compared at no more than SIDE×SIDE pixels, each the mean of a block of the image: noise and the marks of
compression average out, and a comparison costs a quarter of what it does at 128×128.
"""

from typing import TYPE_CHECKING

import numpy as np

from mriscope.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 64
"""Pixels along a side at which slices are compared; smaller images are compared as they are."""
_ROWS = 1024  # of a block


def standardised(images: np.ndarray, *, device: str = "cpu") -> "Tensor":
    """Slices whose dot product is their correlation: block means less their mean, at unit length.

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
    size = tuple(min(SIDE, side) for side in images.shape[1:])
    rows = torch.zeros(len(images), size[0] * size[1], device=device)
    for start in range(0, len(images), _ROWS):
        block = torch.from_numpy(np.array(images[start : start + _ROWS])).to(device, torch.float32)
        means = torch.nn.functional.adaptive_avg_pool2d(block[:, None], size).flatten(1)
        means -= means.mean(1, keepdim=True)
        length = means.norm(dim=1, keepdim=True)
        rows[start : start + _ROWS] = torch.where(length > 1e-3, means / length.clamp_min(1e-3), 0)
    return rows


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
        raise DataError(
            f"slices of {images_a.shape[1:]} and {images_b.shape[1:]} pixels cannot be compared; resize one"
        )
    a = standardised(images_a, device=device)
    return nearest_rows(a, None if images_b is None else standardised(images_b, device=device), k)


def nearest_rows(a: "Tensor", b: "Tensor | None", k: int) -> tuple[np.ndarray, np.ndarray]:
    """As `nearest`, for slices that `standardised` has made rows of."""
    import torch

    others = a if b is None else b
    k = min(k, len(others) - (b is None))
    similarity = np.empty((len(a), k), np.float32)
    index = np.empty((len(a), k), np.int64)
    for start in range(0, len(a), _ROWS):
        block = a[start : start + _ROWS] @ others.T
        if b is None:
            block.diagonal(start).fill_(-torch.inf)
        best, which = block.topk(k, dim=1)
        similarity[start : start + _ROWS] = best.clamp_(-1, 1).cpu().numpy()
        index[start : start + _ROWS] = which.cpu().numpy()
    return similarity, index
