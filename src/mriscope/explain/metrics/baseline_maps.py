"""Maps that know nothing of a model, beside which the scores of methods are read."""

import torch
from torch import Tensor

from mriscope.explain.postprocess import resize_maps, stretch

_CELLS = 8  # places along each side of a random map, as many as a class activation map has


def random_maps(images: Tensor, seed: int = 0) -> Tensor:
    """Draw smooth random maps, another for each image, as a baseline that knows nothing of the image or the model.

    They have 8 random values along each side, resized as class activation maps are. Noise in every pixel would remove
    a little everywhere, and differ from a class activation map in its grain, where only its places should count.

    Args:
        images: (B, C, H, W) or (B, C, D, H, W).
        seed: of the values.

    Returns:
        float32 (B, H, W) or (B, D, H, W) from 0 to 1, on the images' device.
    """
    size = images.shape[2:]
    coarse = [min(_CELLS, side) for side in size]
    values = torch.rand(len(images), *coarse, generator=torch.Generator().manual_seed(seed))
    return stretch(resize_maps(values, size)).to(images.device)


def centre_maps(images: Tensor) -> Tensor:
    """Return the same map for every image, largest in the middle: a Gaussian of a quarter of each side.

    A map that scores no better shows that the model looks into the middle, which is where a slice shows brain.

    Args:
        images: (B, C, H, W) or (B, C, D, H, W).

    Returns:
        float32 (B, H, W) or (B, D, H, W) from 0 to 1, on the images' device.
    """
    size = images.shape[2:]
    heat = torch.ones(())
    for side in size:
        heat = heat[..., None] * torch.exp(-8 * ((torch.arange(side) + 0.5) / side - 0.5) ** 2)
    return stretch(heat[None]).to(images.device).repeat(len(images), *[1] * len(size))
