"""From rows to float batches on the device; pixels stay uint8 until they are there."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mriscope.data.slices import SliceSet

Scale = Literal["raw", "unit", "imagenet"]

# ImageNet's mean and standard deviation averaged over RGB: the fit for one channel whose filters were summed over RGB.
IMAGENET_MEAN, IMAGENET_STD = 0.449, 0.226


def batch(slices: SliceSet, rows: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """The slices at some rows, on the device.

    Args:
        slices: where the rows are taken from.
        rows: int64 (B,), indices into slices.
        device: where the batch goes.

    Returns:
        uint8 (B, H, W) pixels and int64 (B,) labels.
    """
    images, labels = torch.from_numpy(slices.images[rows]), torch.from_numpy(slices.labels[rows])
    return images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def scaled(images: Tensor, scale: Scale) -> Tensor:
    """What a network is fed.

    Args:
        images: uint8 (B, H, W).
        scale: raw keeps 0 to 255; unit gives 0 to 1; imagenet is unit less 0.449, divided by 0.226.

    Returns:
        float32 (B, 1, H, W) on the device of the images.
    """
    pixels = one_channel(images.float())
    return pixels if scale == "raw" else rescaled(pixels / 255, scale)


def rescaled(images: Tensor, scale: Scale) -> Tensor:
    """As `scaled`, from floats in [0, 1], such as augmented ones."""
    if scale == "raw":
        return images * 255
    return images if scale == "unit" else (images - IMAGENET_MEAN) / IMAGENET_STD


def one_channel(images: Tensor) -> Tensor:
    """(B, H, W) as (B, 1, H, W), whose one channel lies the same either way; the strides say channels-last."""
    return images.unsqueeze(-1).permute(0, 3, 1, 2)
