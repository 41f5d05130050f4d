"""Registration of slices to each other by turning, enlarging and moving, many pairs at once.

A point of a slice is a complex number, pixels right and down from the middle, so that a similarity transform is
`turn · x + move`, and its chains and inverses are those of numbers.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mriscope.audit.similarity import block_means

if TYPE_CHECKING:
    from torch import Tensor

_NEIGHBOURHOOD = 2  # pixels on each side that local contrast is normalised over
_FAINT = 0.1  # of the brightest part; contrast below it is not raised to that of the rest
_STEPS = 4  # of Gauss-Newton
_MOST_TURN, _MOST_MOVE = 0.1, 0.1  # of one step; share of the size, and of the longer side


@dataclass(frozen=True, eq=False)
class Similarity:
    """Where the points x of B slices lie in B others: at `turn · x + move`.

    Args:
        turn: complex64 (B,), size and direction of the unit vector.
        move: complex64 (B,), pixels.
    """

    turn: "Tensor"
    move: "Tensor"

    def __getitem__(self, rows: "Tensor | slice") -> "Similarity":
        return Similarity(self.turn[rows], self.move[rows])

    def inverse(self) -> "Similarity":
        """Return the transform that undoes this one."""
        return Similarity(1 / self.turn, -self.move / self.turn)

    def then(self, after: "Similarity") -> "Similarity":
        """Compose: apply this transform, then `after`."""
        return Similarity(after.turn * self.turn, after.turn * self.move + after.move)

    def scaled(self, factor: float) -> "Similarity":
        """Scale to slices with `factor` times as many pixels along a side."""
        return Similarity(self.turn, self.move * factor)


def shrink(images: np.ndarray, side: int, device: str) -> "Tensor":
    """Shrink to at most `side` pixels along the longer side by block means, as shares of the bright level.

    Args:
        images: uint8 (B, H, W).
        side: of the means, in pixels.
        device: where to compute, as torch names it.

    Returns:
        float32 (B, h, w) on the device, 0 to 1.2; 1 is the level that the brightest fiftieth of the pixels reaches.
    """
    scale = min(1.0, side / max(images.shape[1:]))
    size = (max(1, round(images.shape[1] * scale)), max(1, round(images.shape[2] * scale)))
    means = block_means(images, size, device=device)
    bright = means.flatten(1).topk(max(1, means[0].numel() // 50), dim=1).values[:, -1]
    return (means / bright.clamp_min(1)[:, None, None]).clamp_max_(1.2)


def points(images: "Tensor") -> "Tensor":
    """Return the place of every pixel as a complex number from the middle; complex64 (h, w) for images (B, h, w)."""
    import torch

    height, width = images.shape[1:]
    down, right = (torch.arange(side, device=images.device) - (side - 1) / 2 for side in (height, width))
    return torch.complex(right.expand(height, width), down[:, None].expand(height, width))


def sample(images: "Tensor", pose: Similarity) -> "tuple[Tensor, Tensor]":
    """Sample images in the frames that the poses start from; return them and which pixels lie within the image.

    Returns:
        float32 (B, h, w), 0 outside the image, and the same shape with 1 inside and 0 outside.
    """
    import torch
    from torch.nn.functional import grid_sample

    height, width = images.shape[1:]
    at = points(images)
    (a, b), (c, d) = (torch.view_as_real(one).T[:, :, None, None] for one in (pose.turn, pose.move))
    x, y = at.real[:1], at.imag[:, :1]
    right, down = (a * x + (c - b * y)) * (2 / width), (b * x + (d + a * y)) * (2 / height)
    inside = (right.abs() < 1 - 0.99 / width) & (down.abs() < 1 - 0.99 / height)
    grid = torch.stack([right, down], dim=3)
    return grid_sample(images[:, None], grid, align_corners=False)[:, 0], inside.to(images.dtype)


def register(fixed: "Tensor", moving: "Tensor", start: Similarity) -> Similarity:
    """Register moving to fixed images by inverse compositional Gauss-Newton steps.

    Brightness and contrast are fitted anew at each step, over the pixels that both images hold.

    Args:
        fixed: float32 (B, h, w).
        moving: float32 (B, h, w).
        start: B poses that are right to a few pixels.
    """
    import torch

    slopes = _slopes(fixed)
    most_move = _MOST_MOVE * max(fixed.shape[1:])
    longest = slopes.new_tensor([_MOST_TURN, _MOST_TURN, most_move, most_move])
    pose, target = start, fixed.flatten(1)
    for _ in range(_STEPS):
        seen, inside = (one.flatten(1) for one in sample(moving, pose))
        aim, seen = centred(target, inside), centred(seen, inside)
        gain = ((aim * seen).sum(1, keepdim=True) / (seen * seen).sum(1, keepdim=True).clamp_min(1e-6)).clamp_min(0.05)
        weighted = slopes * inside[:, None]
        normal = weighted @ weighted.transpose(1, 2)
        normal = normal + torch.diag_embed(normal.diagonal(dim1=1, dim2=2) * 1e-3 + 1e-6)
        step = torch.linalg.solve(normal, weighted @ (gain * seen - aim)[:, :, None])[:, :, 0]
        step = step.clamp(-longest, longest)
        turn = pose.turn / (1 + torch.complex(step[:, 0], step[:, 1]))
        pose = Similarity(turn, pose.move - turn * torch.complex(step[:, 2], step[:, 3]))
    return pose


def _slopes(images: "Tensor") -> "Tensor":
    """Differentiate the images by the real and imaginary parts of turn and move; float32 (B, 4, h · w)."""
    import torch
    from torch.nn.functional import pad

    right = pad(images[:, :, 2:] - images[:, :, :-2], (1, 1)) / 2
    down = pad(images[:, 2:] - images[:, :-2], (0, 0, 1, 1)) / 2
    at = points(images)
    turning, enlarging = down * at.real - right * at.imag, right * at.real + down * at.imag
    return torch.stack([enlarging, turning, right, down], dim=1).flatten(2)


def centred(values: "Tensor", weights: "Tensor") -> "Tensor":
    """Return the values less their weighted mean, times the weights; all float32 (B, D)."""
    mean = (values * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp_min(1)
    return (values - mean) * weights


def local_contrast(images: "Tensor") -> "Tensor":
    """Subtract the local mean and divide by the local standard deviation; float32 (B, h, w).

    Gamma, brightness, contrast and shading are nearly linear within a few pixels, so they change little of it.
    """
    detail = images - _local_mean(images)
    return detail / (_local_mean(detail * detail) + _FAINT**2).sqrt()


def _local_mean(images: "Tensor") -> "Tensor":
    """Average over the pixels around each pixel that lie within the image, as two products with banded matrices."""
    import torch

    down, right = (torch.arange(side, device=images.device) for side in images.shape[1:])
    above, beside = (((at[:, None] - at).abs() <= _NEIGHBOURHOOD).float() for at in (down, right))
    return (above / above.sum(1, keepdim=True)) @ images @ (beside / beside.sum(0))


def local_correlation(fixed: "Tensor", moving: "Tensor", pose: Similarity) -> "tuple[Tensor, Tensor]":
    """Compute the correlation of local contrast over the pixels that both images hold, and the share of these.

    Args:
        fixed: float32 (B, h, w).
        moving: float32 (B, h, w).
        pose: where the points of the fixed images lie in the moving ones.

    Returns:
        float32 (B,) in [-1, 1], 0 where either is of one grey value, and float32 (B,) in [0, 1].
    """
    seen, inside = sample(moving, pose)
    weights = inside.flatten(1)
    return _cosine(*(centred(local_contrast(one).flatten(1), weights) for one in (fixed, seen))), weights.mean(1)


def partial_correlation(
    fixed: "Tensor", given: "Tensor", other: "Tensor", poses: tuple[Similarity, Similarity]
) -> "tuple[Tensor, Tensor]":
    """Compute the partial correlation: that of local contrast of fixed and other images, given the images they share.

    Args:
        fixed: float32 (B, h, w).
        given: float32 (B, h, w).
        other: float32 (B, h, w).
        poses: where the points of the fixed images lie in the given and the other ones.

    Returns:
        float32 (B,) in [-1, 1], and float32 (B,), the correlation of the given with the other images.
    """
    (first, inside), (second, also) = sample(given, poses[0]), sample(other, poses[1])
    weights = (inside * also).flatten(1)
    a, b, c = (centred(local_contrast(one).flatten(1), weights) for one in (fixed, first, second))
    ab, ac, bc = _cosine(a, b), _cosine(a, c), _cosine(b, c)
    return (ac - ab * bc) / ((1 - ab**2) * (1 - bc**2)).clamp_min(1e-6).sqrt(), bc


def _cosine(a: "Tensor", b: "Tensor") -> "Tensor":
    """Return the cosine of rows; 0 where either has no length beyond rounding error."""
    lengths = a.norm(dim=1) * b.norm(dim=1)
    return ((a * b).sum(1) / lengths.clamp_min(1e-3)).clamp(-1, 1) * (lengths > 1e-3)


def correlation(fixed: "Tensor", moving: "Tensor", pose: Similarity) -> "Tensor":
    """Compute the correlation of the pixels that both images hold; float32 (B,)."""
    seen, inside = (one.flatten(1) for one in sample(moving, pose))
    return _cosine(centred(fixed.flatten(1), inside), centred(seen, inside))
