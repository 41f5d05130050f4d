"""Where maps lie: against masks of the truth, against the brain, and against each other.

A map without contrast points nowhere: every score against a mask is 0 for it.
"""

from collections.abc import Mapping

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from mriscope.errors import ArgumentError
from mriscope.explain.metrics.randomisation import rank_correlation

_DARK = 0.1  # of the bright pixels of a slice; what is darker is background, or fluid, which lies in holes
_SPECK = 0.1  # of the largest part; smaller parts are noise, no piece of brain


def pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Return whether the highest pixel of a map lies in its mask (Zhang et al., 2016, without a margin).

    Args:
        maps: float (B, H, W) or (B, D, H, W), not negative.
        masks: bool, the same shape.

    Returns:
        float32 (B,), 1 or 0; where several pixels are highest, the share of them that lies in the mask, which is the
        mean over all choices. 0 for a map without contrast, nan for an empty mask.

    Raises:
        ArgumentError: shapes differ, masks are not bool, or a map is negative or not finite.
    """
    rows, inside = _check(maps, masks)
    highest = rows == rows.amax(1, keepdim=True)
    return _score((highest & inside).sum(1) / highest.sum(1), rows, inside)


def energy_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """Compute the share of a map's sum that lies in its mask (the energy-based pointing game of Wang et al., 2020).

    Args:
        maps: as for pointing_game.
        masks: as for pointing_game.

    Returns:
        float32 (B,) in [0, 1]; 0 for a map without contrast, nan for an empty mask.

    Raises:
        ArgumentError: as pointing_game.
    """
    rows, inside = _check(maps, masks)
    return _score(_share(rows, inside), rows, inside)


def best_iou(maps: Tensor, masks: Tensor) -> Tensor:
    """Compute intersection over union of a mask and the pixels above the threshold that suits the image best.

    Every value of the map is tried as the threshold, which makes the score the most that a map could reach: it
    compares maps, and is no segmentation's quality.

    Args:
        maps: as for pointing_game.
        masks: as for pointing_game.

    Returns:
        float32 (B,) in [0, 1]; 0 for a map without contrast, nan for an empty mask.

    Raises:
        ArgumentError: as pointing_game.
    """
    rows, inside = _check(maps, masks)
    values, order = rows.sort(dim=1, descending=True)
    common = inside.gather(1, order).cumsum(1)
    taken = torch.arange(1, rows.shape[1] + 1, device=rows.device)
    scores = common / (taken + inside.sum(1, keepdim=True) - common)
    whole = torch.ones_like(inside)  # a threshold takes all pixels of one value
    whole[:, :-1] = values[:, :-1] > values[:, 1:]
    return _score(scores.where(whole, 0).amax(1), rows, inside)


def region_ratio(maps: Tensor, regions: Tensor, brains: Tensor) -> Tensor:
    """Compute the share of a map that lies in a region over the region's share of the area; both of the brain.

    Args:
        maps: as for pointing_game.
        regions: bool, the same shape; what lies outside the brain does not count.
        brains: bool, the same shape.

    Returns:
        float32 (B,) from 0: 1 is what a map gets that knows nothing; nan for an empty region, and for a map that is 0
        in the whole brain.

    Raises:
        ArgumentError: as pointing_game.

    Example:
        >>> heat, region = torch.tensor([[[3.0, 1.0], [0.0, 0.0]]]), torch.tensor([[[True, False], [False, False]]])
        >>> region_ratio(heat, region, torch.ones_like(region)).item()
        3.0
    """
    rows, brain = _check(maps, brains)
    inside = _check(maps, regions)[1] & brain
    total, area = (rows * brain).sum(1), inside.sum(1) / brain.sum(1)
    ratio = (rows * inside).sum(1) / total / area
    return ratio.where((total > 0) & (area > 0), torch.nan).float()


def pixel_auroc(maps: Tensor, regions: Tensor, brains: Tensor) -> Tensor:
    """Compute how well a map's values tell a region's pixels from the rest of the brain: AUROC, ties counted half.

    Args:
        maps: as for pointing_game.
        regions: bool, the same shape; what lies outside the brain does not count.
        brains: bool, the same shape.

    Returns:
        float32 (B,) in [0, 1]; 0.5 for a map without contrast, nan where the region is empty or the whole brain.

    Raises:
        ArgumentError: as pointing_game.

    Example:
        >>> heat, region = torch.tensor([[[3.0, 1.0], [0.0, 2.0]]]), torch.tensor([[[True, False], [True, False]]])
        >>> pixel_auroc(heat, region, torch.ones_like(region)).item()  # of four pairs, 3 > 1 and 3 > 2 are right
        0.5
    """
    rows, brain = _check(maps, brains)
    inside = _check(maps, regions)[1]
    found = [_auroc(*(one.cpu().numpy() for one in trio)) for trio in zip(rows, inside, brain, strict=True)]
    return torch.tensor(found, dtype=torch.float32, device=maps.device)


def _auroc(values: np.ndarray, inside: np.ndarray, brain: np.ndarray) -> float:
    """Return the Mann-Whitney statistic of one map over the number of pairs."""
    from scipy.stats import rankdata

    inside = inside[brain]
    positive, negative = int(inside.sum()), int((~inside).sum())
    if not positive or not negative:
        return float("nan")
    return float((rankdata(values[brain])[inside].sum() - positive * (positive + 1) / 2) / (positive * negative))


def brain_mask(images: np.ndarray | Tensor) -> np.ndarray:
    """Find the pixels of each slice that show brain: the large bright parts with all that they enclose.

    Bright is a tenth of the 95th percentile of a slice's pixels that are not 0. Parts below a tenth of the largest
    are noise. Meant for slices without a skull; where there is one, it counts as brain.

    Args:
        images: uint8 (B, H, W).

    Returns:
        bool (B, H, W); all False for a black slice.

    Raises:
        ArgumentError: the images have another type or shape.
    """
    pixels = images.detach().cpu().numpy() if isinstance(images, Tensor) else np.asarray(images)
    if pixels.dtype != np.uint8 or pixels.ndim != 3:
        raise ArgumentError(f"the slices are {pixels.dtype} {pixels.shape}; a brain mask needs uint8 (B, H, W)")
    return np.array([_find_brain(one) for one in pixels], np.bool_).reshape(pixels.shape)


def outside_share(maps: Tensor, images: np.ndarray | Tensor) -> Tensor:
    """Compute the share of a map's sum that lies outside the brain, where nothing is evidence of a disease.

    Args:
        maps: float (B, H, W), not negative.
        images: uint8 (B, H, W), the slices as they were before any scaling.

    Returns:
        float32 (B,) in [0, 1]; nan for an empty map, and where a slice shows no brain.

    Raises:
        ArgumentError: shapes differ, the slices are not uint8, or a map is negative or not finite.
    """
    rows, inside = _check(maps, torch.from_numpy(brain_mask(images)))
    return _share(rows, ~inside).where(rows.any(1) & inside.any(1), torch.nan).float()


def agreement(maps_by_name: Mapping[str, Tensor]) -> tuple[list[str], Tensor]:
    """Compute how alike two methods rank the pixels of a slice: mean Spearman rank correlation of each pair.

    Slices for which one of the two methods gives a map without contrast are left out of their mean.

    Args:
        maps_by_name: of each of M methods the maps, float (B, H, W), of the same slices.

    Returns:
        the names, and float64 (M, M), symmetric with a diagonal of 1; nan where two methods share no slice with
        contrast.

    Raises:
        ArgumentError: methods differ in the shape of their maps.
    """
    names = list(maps_by_name)
    with_contrast = {name: _contrast(maps.flatten(1)).cpu() for name, maps in maps_by_name.items()}
    matrix = torch.eye(len(names), dtype=torch.float64)
    for row, name in enumerate(names):
        for column, other in enumerate(names[:row]):
            found = rank_correlation(maps_by_name[name].cpu(), maps_by_name[other].cpu())
            both = with_contrast[name] & with_contrast[other]
            matrix[row, column] = matrix[column, row] = found[both].mean() if both.any() else torch.nan
    return names, matrix


def _check(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps and masks as rows of pixels."""
    if maps.shape != masks.shape or maps.ndim < 2:
        raise ArgumentError(f"maps are {tuple(maps.shape)} and masks {tuple(masks.shape)}; give one mask for each map")
    if masks.dtype != torch.bool:
        raise ArgumentError(f"masks hold {masks.dtype}; a mask is bool")
    rows = maps.detach().flatten(1).double()
    if not (rows.isfinite() & (rows >= 0)).all():
        raise ArgumentError("a map is negative or not finite; give maps from 0 up, such as in [0, 1]")
    return rows, masks.flatten(1).to(rows.device)


def _contrast(rows: Tensor) -> Tensor:
    return rows.amax(1) > rows.amin(1)


def _share(rows: Tensor, inside: Tensor) -> Tensor:
    sums = rows.sum(1)
    return (rows * inside).sum(1) / sums.where(sums > 0, 1)


def _score(scores: Tensor, rows: Tensor, masks: Tensor) -> Tensor:
    """Return scores of maps with contrast; 0 for the others, nan for empty masks."""
    return scores.where(_contrast(rows), 0).where(masks.any(1), torch.nan).float()


def _find_brain(pixels: np.ndarray) -> np.ndarray:
    level = _DARK * np.percentile(pixels[pixels > 0], 95) if pixels.any() else 255
    parts = np.zeros(pixels.shape, np.int32)
    ndimage.label(ndimage.binary_opening(pixels > level), output=parts)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0  # the background is no part
    large = (sizes > 0) & (sizes >= _SPECK * sizes.max())
    return np.asarray(ndimage.binary_fill_holes(large[parts]), np.bool_)
