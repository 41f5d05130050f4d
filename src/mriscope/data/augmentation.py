"""Augmentation of whole batches on the device: each slice draws its own changes, all from one seed.

augment() draws and changes; the functions below it make one change with given parameters and can be used alone.
What lies outside the brain is black, and stays so: changes that add something fade out between BACKGROUND and TISSUE.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mriscope.errors import RecipeError
from mriscope.recipe import (
    AffineSettings,
    AugmentationSettings,
    BiasFieldSettings,
    BrightnessContrastSettings,
    CoarseDropoutSettings,
    CropSettings,
    GammaSettings,
    NoiseSettings,
)

# JPEG leaves ripples of a few grey levels around a brain, and interpolation grey rims. A hard limit would turn them
# into speckle, so that what is added to a pixel grows linearly between the two levels.
BACKGROUND, TISSUE = 8 / 255, 16 / 255

# Pairs of Legendre orders along both axes: smooth up to the third order, without the constant, which is brightness.
BIAS_ORDERS = [(i, j) for i in range(4) for j in range(4 - i) if i + j > 0]


@torch.no_grad()
def augment(images: Tensor, settings: AugmentationSettings, seed: int) -> Tensor:
    """Change slices at random: geometry first, then intensity, then noise, then holes.

    What a slice gets depends on the seed, the settings, the batch's size and its place in the batch, and not on the
    other slices' pixels. Every transform draws from a generator of its own, so that switching one on or off does not
    change the others. Parameters are drawn on the CPU and are the same on every device; the noise of single pixels is
    drawn on the device, and differs between kinds of devices.

    Args:
        images: float32 (B, 1, H, W) in [0, 1]; left as they are.
        settings: transforms with their probabilities and ranges.
        seed: of all randomness, 0 to 2⁶³ - 1.

    Returns:
        float32 (B, 1, H, W) in [0, 1], with the strides of the images; the images themselves where all is off.

    Raises:
        RecipeError: holes that are as large as the slices.
    """
    if settings == AugmentationSettings():
        return images
    holes, side = settings.coarse_dropout, min(images.shape[-2:])
    if holes is not None and holes.size >= side:
        problem = f"{holes.size} leaves nothing of a slice with a side of {side}; lower it"
        raise RecipeError("recipe", [f"training.augmentation.coarse_dropout.size: {problem}"])
    generators = _make_generators(seed)
    result = images.clone()
    slices = result.squeeze(1)  # a view: writing to it changes the result
    with torch.autocast(images.device.type, enabled=False):
        if settings.flip is not None:
            rows = _to_index(_choose_slices(slices, settings.flip, generators["flip"]))
            slices[rows] = slices[rows].flip(-1)
        _warp_some(slices, settings, generators)
        for name, change in _CHANGES.items():
            options = getattr(settings, name)
            if options is not None:
                _change_some(slices, change, options, generators[name])
    return result


def affine_maps(rotation: Tensor, shift: Tensor, scale: Tensor, side_ratio: float = 1.0) -> Tensor:
    """Return the maps from pixels of a rotated, scaled and then shifted slice to those they are taken from.

    Args:
        rotation: (R,) degrees about the centre, counter-clockwise.
        shift: (R, 2) shares of the width and of the height, to the right and downwards.
        scale: (R,) factors of the size.
        side_ratio: width over height of the slices in pixels.

    Returns:
        (R, 3, 3), each from (x, y, 1) in the changed slice to (x, y, 1) in the given one, -1 to 1 from side to side.
    """
    angle = rotation * (math.pi / 180)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    turn = torch.stack([cos, -sin / side_ratio, sin * side_ratio, cos], dim=1).reshape(-1, 2, 2)
    return _to_homogeneous(turn, turn @ (-2 * shift.unsqueeze(2)))


def crop_maps(area: Tensor, ratio: Tensor, place: Tensor) -> Tensor:
    """Return the maps from pixels of a crop that is resized to the whole to those they are taken from.

    Args:
        area: (R,) shares of the slice's area, above 0 to 1.
        ratio: (R,) width over height, both as shares of the slice's; between area and 1 / area, so that it fits.
        place: (R, 2) of the part within the slice, from 0 (left, top) to 1 (right, bottom).

    Returns:
        (R, 3, 3), as of affine_maps.
    """
    size = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=1).clamp(max=1)
    return _to_homogeneous(torch.diag_embed(size), ((1 - size) * (2 * place - 1)).unsqueeze(2))


def warp(slices: Tensor, maps: Tensor) -> Tensor:
    """Resample slices by maps, bilinearly; black beyond the border.

    Args:
        slices: floating (R, H, W).
        maps: (R, 3, 3), as of affine_maps; of a product of maps, the change that stands last is made last.

    Returns:
        As the slices.
    """
    maps = maps.to(slices)
    along_x = maps[:, :2, 0, None] * _pixel_centres(slices, -1)
    along_y = maps[:, :2, 1, None] * _pixel_centres(slices, -2) + maps[:, :2, 2, None]
    # Two planes that are viewed as pairs without a copy: 14 times as fast on a CPU as torch's affine_grid.
    grid = (along_y[:, :, :, None] + along_x[:, :, None, :]).permute(0, 2, 3, 1)
    return F.grid_sample(slices.unsqueeze(1), grid, "bilinear", "zeros", align_corners=False).squeeze(1)


def apply_bias_field(slices: Tensor, coefficients: Tensor, strength: Tensor) -> Tensor:
    """Multiply slices by a smooth gain, a sum of Legendre polynomials (as in Styner et al., 2000).

    Args:
        slices: float32 (R, H, W) in [0, 1].
        coefficients: (R, 9) of the polynomials in BIAS_ORDERS, orders along (x, y).
        strength: (R,), the largest deviation of the gain from 1 in the brain, 0 to 1.

    Returns:
        As the slices.
    """
    x, y = (_legendre(_pixel_centres(slices, dim)) for dim in (-1, -2))
    terms = torch.stack([torch.outer(y[j], x[i]) for i, j in BIAS_ORDERS])
    field = torch.einsum("rk,khw->rhw", coefficients, terms) * _tissue_weight(slices)
    largest = field.abs().amax(dim=(1, 2)).clamp(min=1e-6)
    gain = field.mul_(_per_slice(strength / largest)).add_(1)
    return gain.mul_(slices).clamp_(0, 1)


def change_brightness_contrast(slices: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
    """Scale the brain's pixels about their mean and shift them; the background stays.

    Args:
        slices: float32 (R, H, W) in [0, 1].
        brightness: (R,) added; 1 is black to white.
        contrast: (R,) factors of the spread about the mean of the brain.

    Returns:
        As the slices.
    """
    tissue = _tissue_weight(slices)
    mean = (slices * tissue).sum(dim=(1, 2)) / tissue.sum(dim=(1, 2)).clamp(min=1e-6)
    # (x - mean) × (contrast - 1) + brightness, as one factor and one summand
    factor = contrast - 1
    added = (slices * _per_slice(factor)).add_(_per_slice(brightness - mean * factor))
    return added.mul_(tissue).add_(slices).clamp_(0, 1)


def change_gamma(slices: Tensor, gamma: Tensor) -> Tensor:
    """Raise pixels to a power: (R, H, W) in [0, 1] by (R,) powers above 0; black and white stay."""
    return slices ** _per_slice(gamma)


def add_gaussian_noise(slices: Tensor, noise: Tensor) -> Tensor:
    """Add noise to the brain: float32 (R, H, W) to slices of that size in [0, 1]; the background stays."""
    return torch.addcmul(slices, noise, _tissue_weight(slices)).clamp_(0, 1)


def add_rician_noise(slices: Tensor, real: Tensor, imaginary: Tensor) -> Tensor:
    """Add the noise of a magnitude image (Gudbjartsson and Patz, 1995), which raises the background too.

    Args:
        slices: float32 (R, H, W) in [0, 1], the image without noise.
        real: float32 (R, H, W), Gaussian noise of the real channel.
        imaginary: float32 (R, H, W), that of the imaginary channel.

    Returns:
        As the slices.
    """
    return torch.hypot(slices + real, imaginary).clamp_(max=1)


def cut_out(slices: Tensor, top: Tensor, left: Tensor, size: int) -> Tensor:
    """Set squares to 0 (coarse dropout, cutout; DeVries and Taylor, 2017).

    Args:
        slices: float32 (R, H, W).
        top: int64 (R, n), first row of each hole; outside the slice where there is none.
        left: int64 (R, n), its first column.
        size: side of a hole in pixels.

    Returns:
        As the slices.
    """
    rows, columns = (
        (pixels >= start.unsqueeze(2)) & (pixels < start.unsqueeze(2) + size)
        for start, pixels in ((top, _pixels(slices, -2)), (left, _pixels(slices, -1)))
    )
    covered = rows.to(slices).mT @ columns.to(slices)  # how many holes cover a pixel
    return slices.masked_fill(covered > 0, 0)


def _make_generators(seed: int) -> dict[str, Generator]:
    """Return one generator for each transform."""
    names = AugmentationSettings.model_fields
    seeds = torch.randint(2**32, (len(names),), generator=Generator().manual_seed(seed))
    return {name: Generator().manual_seed(own) for name, own in zip(names, seeds.tolist(), strict=True)}


def _choose_slices(slices: Tensor, probability: float, generator: Generator) -> Tensor:
    """Draw which slices are changed: bool (B,) on the CPU, so that counting them never waits for a device."""
    return torch.rand(len(slices), generator=generator) < probability


def _to_index(chosen: Tensor) -> Tensor | slice:
    """Return the chosen slices as an index; where all are chosen, one that makes no copy."""
    return slice(None) if chosen.all() else chosen.nonzero().squeeze(1)


def _change_some(slices: Tensor, change: Callable[..., Tensor], options: Any, generator: Generator) -> None:
    """Draw slices and change them in place."""
    chosen = _choose_slices(slices, options.probability, generator)
    if chosen.any():
        rows = _to_index(chosen)
        slices[rows] = change(slices[rows], options, generator)


def _warp_some(slices: Tensor, settings: AugmentationSettings, generators: dict[str, Generator]) -> None:
    """Crop, then rotate, scale and shift, with a single interpolation."""
    maps = torch.eye(3).repeat(len(slices), 1, 1)
    moved = torch.zeros(len(slices), dtype=torch.bool)
    for name, draw in (("crop", _draw_crop), ("affine", _draw_affine)):
        options = getattr(settings, name)
        if options is not None:
            chosen = _choose_slices(slices, options.probability, generators[name])
            maps = torch.where(chosen[:, None, None], maps @ draw(slices, options, generators[name]), maps)
            moved |= chosen
    if moved.any():
        rows = _to_index(moved)
        slices[rows] = warp(slices[rows], maps[rows])


def _draw_crop(slices: Tensor, options: CropSettings, generator: Generator) -> Tensor:
    area = _draw_uniform(len(slices), *options.area, generator)
    # A crop has to fit: the nearer its area is to the whole, the nearer its ratio is to 1.
    low, high = (torch.tensor(end).clamp(area, 1 / area).log() for end in options.ratio)
    ratio = (low + (high - low) * _draw_uniform(len(slices), 0, 1, generator)).exp()
    return crop_maps(area, ratio, torch.rand(len(slices), 2, generator=generator))


def _draw_affine(slices: Tensor, options: AffineSettings, generator: Generator) -> Tensor:
    rotation, scale, right, down = (
        _draw_uniform(len(slices), -reach, reach, generator)
        for reach in (options.rotation, options.scale, options.shift, options.shift)
    )
    side_ratio = slices.shape[-1] / slices.shape[-2]
    return affine_maps(rotation, torch.stack([right, down], dim=1), 1 + scale, side_ratio)


def _bias_field(slices: Tensor, options: BiasFieldSettings, generator: Generator) -> Tensor:
    coefficients = 2 * torch.rand(len(slices), len(BIAS_ORDERS), generator=generator) - 1
    strength = _draw_uniform(len(slices), 0, options.strength, generator)
    return apply_bias_field(slices, coefficients.to(slices), strength.to(slices))


def _brightness_contrast(slices: Tensor, options: BrightnessContrastSettings, generator: Generator) -> Tensor:
    brightness = _draw_uniform(len(slices), -options.brightness, options.brightness, generator)
    contrast = 1 + _draw_uniform(len(slices), -options.contrast, options.contrast, generator)
    return change_brightness_contrast(slices, brightness.to(slices), contrast.to(slices))


def _gamma(slices: Tensor, options: GammaSettings, generator: Generator) -> Tensor:
    return change_gamma(slices, _draw_uniform(len(slices), *options.range, generator).to(slices))


def _gaussian_noise(slices: Tensor, options: NoiseSettings, generator: Generator) -> Tensor:
    sigma = _per_slice(_draw_uniform(len(slices), *options.sigma, generator).to(slices))
    return add_gaussian_noise(slices, _draw_noise(slices, generator).mul_(sigma))


def _rician_noise(slices: Tensor, options: NoiseSettings, generator: Generator) -> Tensor:
    sigma = _per_slice(_draw_uniform(len(slices), *options.sigma, generator).to(slices))
    real, imaginary = (noise.mul_(sigma) for noise in _draw_noise(slices, generator, 2))
    return add_rician_noise(slices, real, imaginary)


def _coarse_dropout(slices: Tensor, options: CoarseDropoutSettings, generator: Generator) -> Tensor:
    top, left = (
        torch.randint(side - options.size + 1, (len(slices), options.holes), generator=generator)
        for side in slices.shape[-2:]
    )
    count = torch.randint(1, options.holes + 1, (len(slices), 1), generator=generator)
    top[torch.arange(options.holes) >= count] = slices.shape[-2]  # below the slice: no hole
    return cut_out(slices, top.to(slices.device), left.to(slices.device), options.size)


_CHANGES: dict[str, Callable[..., Tensor]] = {
    "bias_field": _bias_field,
    "brightness_contrast": _brightness_contrast,
    "gamma": _gamma,
    "gaussian_noise": _gaussian_noise,
    "rician_noise": _rician_noise,
    "coarse_dropout": _coarse_dropout,
}


def _draw_uniform(n: int, low: float, high: float, generator: Generator) -> Tensor:
    """Draw one number for each of n slices, on the CPU."""
    return low + (high - low) * torch.rand(n, generator=generator)


def _draw_noise(slices: Tensor, generator: Generator, copies: int = 1) -> Tensor:
    """Draw standard normal noise, (R, H, W) or (copies, R, H, W), on the slices' device."""
    if slices.device.type != "cpu":
        generator = Generator(slices.device).manual_seed(generator.initial_seed())
    shape = slices.shape if copies == 1 else (copies, *slices.shape)
    return torch.randn(shape, generator=generator, device=slices.device)


def _tissue_weight(slices: Tensor) -> Tensor:
    """Return the weight of each pixel as brain: 0 up to BACKGROUND, 1 from TISSUE on."""
    return (slices - BACKGROUND).mul_(1 / (TISSUE - BACKGROUND)).clamp_(0, 1)


def _per_slice(values: Tensor) -> Tensor:
    """View (R,) as (R, 1, 1), which broadcasts over the pixels of each slice."""
    return values[:, None, None]


def _to_homogeneous(turn: Tensor, move: Tensor) -> Tensor:
    """Join linear maps (R, 2, 2) and shifts (R, 2, 1) to (R, 3, 3)."""
    last = torch.tensor([[0.0, 0.0, 1.0]]).to(turn).expand(len(turn), 1, 3)
    return torch.cat([torch.cat([turn, move], dim=2), last], dim=1)


def _pixels(slices: Tensor, dim: int) -> Tensor:
    return torch.arange(slices.shape[dim], device=slices.device)


def _pixel_centres(slices: Tensor, dim: int) -> Tensor:
    """Return the coordinates of the pixels' centres along an axis whose sides lie at -1 and 1."""
    return ((2 * _pixels(slices, dim) + 1) / slices.shape[dim] - 1).to(slices)


def _legendre(x: Tensor) -> list[Tensor]:
    """Return the Legendre polynomials of order 0 to 3."""
    return [torch.ones_like(x), x, (3 * x**2 - 1) / 2, (5 * x**3 - 3 * x) / 2]
