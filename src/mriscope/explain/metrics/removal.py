"""Pixels of an image replaced: by a baseline, or by what their neighbours suggest."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mriscope.errors import UnknownNameError
from mriscope.explain.scores import at_least_float32

BASELINES = ("blur", "mean", "local", "zero")
"""What replaces a pixel that is removed."""

_ENOUGH = 1e-5  # of an image's range, the residual at which an imputation stands
_AT_ONCE = 4  # images imputed together on a CPU, few enough for the processor's cache


def replace_pixels(images: Tensor, baseline: str) -> Tensor:
    """Return images with every pixel replaced by a baseline.

    Raises:
        UnknownNameError: no such baseline.
    """
    if baseline not in BASELINES:
        raise UnknownNameError("baseline", baseline, BASELINES)
    if baseline == "blur":
        return blur(images)
    if baseline == "zero":
        return torch.zeros_like(images)
    if baseline == "local":
        return _local_means(images)
    return images.mean(tuple(range(2, images.ndim)), keepdim=True).expand_as(images)


def blur(images: Tensor) -> Tensor:
    """Blur images by a Gaussian whose deviation is a sixteenth of their shortest side; any (B, C, ...)."""
    deviation = min(images.shape[2:]) / 16
    reach = max(1, round(3 * deviation))
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=images.device) / deviation) ** 2)
    kernel = (weights / weights.sum()).to(images.dtype)[None, None]
    for axis in range(2, images.ndim):
        lines = images.movedim(axis, -1)
        padded = F.pad(lines.reshape(-1, 1, lines.shape[-1]), (reach, reach), mode="replicate")
        images = F.conv1d(padded, kernel).view(lines.shape).movedim(-1, axis)
    return images.contiguous()


def _local_means(images: Tensor) -> Tensor:
    """Return the mean over the window around each pixel, an eighth of the shortest side; at borders over what is there.

    Windows have an odd side, so that a pixel is the middle of its own.
    """
    window = min(images.shape[2:]) // 16 * 2 + 1
    pool = F.avg_pool2d if images.ndim == 4 else F.avg_pool3d
    return pool(images, window, 1, window // 2, count_include_pad=False)


def impute(images: Tensor, known: Tensor) -> Tensor:
    """Impute missing pixels as means of their neighbours: noisy linear imputation (Rong et al., 2022), without noise.

    Those that share a side count twice what those at a corner do (in volumes: side, edge and corner as 4, 2 and 1).
    Missing pixels hang together, so this is a system of linear equations; it is symmetric and solved on the images'
    device by conjugate gradients, from a guess by ever coarser means.

    Args:
        images: float (B, C, H, W) or (B, C, D, H, W).
        known: bool (B, H, W) or (B, D, H, W), the pixels that stay; each image has one.

    Returns:
        (B, C, ...), the images with missing pixels filled, in the images' type.
    """
    few = _AT_ONCE if images.device.type == "cpu" else max(1, len(images))
    return torch.cat([_impute(*some) for some in zip(images.split(few), known.split(few), strict=True)])


def _impute(images: Tensor, known: Tensor) -> Tensor:
    lost = ~known[:, None]
    given = at_least_float32(images).where(~lost, 0.0)
    degrees = _neighbours(torch.ones_like(given[:1, :1]))

    def spread(values: Tensor) -> Tensor:
        return (degrees * values - _neighbours(values)).where(lost, 0.0)

    guess = _coarse_means(given, (~lost).to(given)).where(lost, 0.0)
    right = _neighbours(given).where(lost, 0.0)
    low, high = (edge(images, tuple(range(1, images.ndim)), keepdim=True) for edge in (torch.amin, torch.amax))
    enough = _ENOUGH * (high - low).clamp_min(1e-30)
    filled = _conjugate_gradients(spread, right, guess, enough)
    return filled.where(lost, given).to(images.dtype)


def _conjugate_gradients(spread: Callable[[Tensor], Tensor], right: Tensor, guess: Tensor, enough: Tensor) -> Tensor:
    """Return the solution of spread(x) = right for each channel of each image, until no residual is above enough."""
    found = guess
    rest = right - spread(guess)
    way, power = rest, _dot(rest, rest)
    for step in range(5000):
        moving = rest.abs().flatten(2).amax(2)[(..., *[None] * (rest.ndim - 2))] > enough
        if step % 8 == 0 and not moving.any():  # asking makes an accelerator wait
            break
        ahead = spread(way)
        length = (power / _dot(way, ahead).clamp_min(1e-30)).where(moving, 0.0)  # images that stand do not move on
        found, rest = found.addcmul(length, way), rest.addcmul(length, ahead, value=-1)
        before, power = power, _dot(rest, rest)
        way = rest.addcmul(power / before.clamp_min(1e-30), way)
    return found


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(tuple(range(2, one.ndim)), keepdim=True)


def _neighbours(values: Tensor) -> Tensor:
    """Return the sum over each pixel's neighbours, of weight 2 at a side and 1 at a corner."""
    total = values
    for axis in range(2, values.ndim):  # 1, 2, 1 along every axis gives these weights, and the pixel itself
        length = values.shape[axis]
        here = 2 * total
        here.narrow(axis, 1, length - 1).add_(total.narrow(axis, 0, length - 1))
        here.narrow(axis, 0, length - 1).add_(total.narrow(axis, 1, length - 1))
        total = here
    return total - 2 ** (values.ndim - 2) * values


def _coarse_means(values: Tensor, weights: Tensor) -> Tensor:
    """Return known values, and where weights are 0, means over the smallest block of 2, 4, 8 … pixels with one."""
    size = values.shape[2:]
    if max(size) == 1:
        return values
    pool, mode = (F.avg_pool2d, "bilinear") if len(size) == 2 else (F.avg_pool3d, "trilinear")
    sums, shares = (pool(what, [min(2, side) for side in size], ceil_mode=True) for what in (values, weights))
    means = sums / shares.where(shares > 0, 1.0)
    coarse = _coarse_means(means, (shares > 0).to(values))
    return values.where(weights > 0, F.interpolate(coarse, size=size, mode=mode))
