"""How brains lie in the picture, and slices moved so that all lie alike.

Brains that are not registered differ more by where they lie than by height. Axial slices are symmetric, so that the
middle of every brain is to be in the middle of the picture, at whatever height.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from mriscope.audit.similarity import SIDE, block_means, unit

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = 1024  # slices


def displacement(images: np.ndarray, groups: list[np.ndarray]) -> float:
    """Return how far brains lie to the left or right of their mean place, as a share of the width.

    Args:
        images: uint8 (N, H, W).
        groups: int64 numbers of the rows of each brain.
    """
    across = np.concatenate([_moments(block)[0][:, 0].numpy() for block in _masks(images)]) / 2
    middles = np.array([across[one].mean() for one in groups])
    return float(1.4826 * np.median(np.abs(middles - np.median(middles))))


def aligned(images: np.ndarray, groups: np.ndarray) -> "Tensor":
    """Move the centre of each brain to the middle of the picture, and turn the long axis of each group upright.

    Args:
        images: uint8 (N, H, W).
        groups: int64 (N,), slices known to be of one brain.

    Returns:
        float32 (N, D), as `standardised` slices.
    """
    import torch

    centres, moments = zip(*map(_moments, _masks(images)), strict=True)
    centre, group = torch.cat(centres), torch.from_numpy(groups)
    spread = torch.zeros(int(groups.max()) + 1, 3).index_add_(0, group, torch.cat(moments))
    tilt = torch.atan2(-2 * spread[:, 2], spread[:, 1] - spread[:, 0])[group] / 2  # of the long axis from upright
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(images), _BLOCK)]
    return torch.cat([_turned(_small(images[block]), centre[block], tilt[block]) for block in blocks])


def _masks(images: np.ndarray) -> "Iterator[Tensor]":
    """Yield brain masks by block, bool (B, 64, 64): pixels above a fifth of the level of the brightest tenth."""
    few = _small(images[:: max(1, len(images) // 1000)])
    bright = 0.2 * float(np.percentile(few[:, ::2, ::2].numpy(), 90))
    for start in range(0, len(images), _BLOCK):
        yield _small(images[start : start + _BLOCK]) > bright


def _small(images: np.ndarray) -> "Tensor":
    """Compute block means, float32 (B, 64, 64)."""
    return block_means(images, (2 * SIDE, 2 * SIDE))


def _moments(brain: "Tensor") -> "tuple[Tensor, Tensor]":
    """Return the centre of each mask, float32 (B, 2), x before y in [-1, 1], and its moments xx, yy and xy, (B, 3)."""
    import torch

    weight = brain / brain.sum((1, 2), keepdim=True).clamp_min(1)
    axis = (torch.arange(brain.shape[1]) + 0.5) * 2 / brain.shape[1] - 1
    centre = torch.stack([(weight.sum(1) * axis).sum(1), (weight.sum(2) * axis).sum(1)], dim=1)
    x, y = axis - centre[:, :1], axis - centre[:, 1:]
    across = (weight.sum(1) * x * x).sum(1), (weight.sum(2) * y * y).sum(1)
    return centre, torch.stack([*across, torch.einsum("nyx,nx,ny->n", weight, x, y)], dim=1)


def _turned(pixels: "Tensor", centre: "Tensor", tilt: "Tensor") -> "Tensor":
    """Centre and rotate images to a common pose; return them as rows of unit length."""
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    cos, sin = tilt.cos(), tilt.sin()
    turn = torch.stack([cos, -sin, centre[:, 0], sin, cos, centre[:, 1]], dim=1).view(-1, 2, 3)
    grid = affine_grid(turn, [len(pixels), 1, SIDE, SIDE], align_corners=False)
    rows = grid_sample(pixels[:, None], grid, align_corners=False).flatten(1)
    return unit(rows - rows.mean(1, keepdim=True))
