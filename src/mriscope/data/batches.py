"""Float batches on the device from rows of a SliceSet; pixels stay uint8 until they are there."""

from typing import get_args

import numpy as np
import torch
from torch import Tensor

from mriscope.choices import Scale
from mriscope.data.slices import SliceSet
from mriscope.errors import UnknownNameError, check_type

# ImageNet's mean and standard deviation averaged over RGB, which suits one channel whose filters were summed over RGB.
IMAGENET_MEAN, IMAGENET_STD = 0.449, 0.226


def batch(slices: SliceSet, rows: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the slices at some rows, on the device.

    Args:
        slices: the set.
        rows: int64 (B,), indices into the set.
        device: of the batch.

    Returns:
        uint8 (B, H, W) pixels and int64 (B,) labels.
    """
    images, labels = torch.from_numpy(slices.images[rows]), torch.from_numpy(slices.labels[rows])
    return images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def scaled(images: Tensor, scale: Scale) -> Tensor:
    """Scale slices to a network's input.

    Args:
        images: uint8 (B, H, W).
        scale: raw keeps 0 to 255; unit gives 0 to 1; imagenet is unit less 0.449, divided by 0.226.

    Returns:
        float32 (B, 1, H, W) on the device of the images.

    Raises:
        UnknownNameError: there is no such scale.
        ArgumentTypeError: the images are no tensor.

    Example:
        >>> scaled(torch.full((1, 2, 2), 255, dtype=torch.uint8), "unit").unique().item()
        1.0
    """
    check_type("images", images, Tensor, "a tensor of slices, uint8 (B, H, W)")
    if scale not in get_args(Scale):
        raise UnknownNameError("scale", scale, get_args(Scale))
    pixels = one_channel(images.float())
    return pixels if scale == "raw" else rescaled(pixels / 255, scale)


def rescaled(images: Tensor, scale: Scale) -> Tensor:
    """Scale as `scaled` does, from floats (B, 1, H, W) in [0, 1], such as augmented ones."""
    if scale == "raw":
        return images * 255
    return images if scale == "unit" else (images - IMAGENET_MEAN) / IMAGENET_STD


def one_channel(images: Tensor) -> Tensor:
    """View (B, H, W) as (B, 1, H, W) with channels-last strides; one channel has the same memory layout either way."""
    return images.unsqueeze(-1).permute(0, 3, 1, 2)
