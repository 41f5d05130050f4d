"""From the raw maps of layers to one map for each image: ReLU, size, fusion, range, and why a map is empty."""

from collections.abc import Callable, Sequence
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from mriscope.errors import ArgumentError, MriscopeError, UnknownNameError

STUDY_EXPONENTS = MappingProxyType(
    {"Very_Mild_Demented": 1.5, "Mild_Demented": 1.3, "Moderate_Demented": 1.2, "Non_Demented": 1.0}
)
"""The power to which the reference study raises the maps of each class."""

FUSIONS: dict[str, Callable[[Tensor], Tensor]] = {"mean": lambda maps: maps.mean(0), "max": lambda maps: maps.amax(0)}
"""How the maps of several layers become one."""


def study_exponents(class_names: Sequence[str]) -> tuple[float, ...]:
    """Return the study's exponents in the order of a set's classes.

    Raises:
        UnknownNameError: a class that the study does not know.
    """
    for name in class_names:
        if name not in STUDY_EXPONENTS:
            raise UnknownNameError("exponent for class", name, STUDY_EXPONENTS)
    return tuple(STUDY_EXPONENTS[name] for name in class_names)


def stretch(maps: Tensor) -> Tensor:
    """Return each map less its minimum and divided by its maximum after that; a map without contrast becomes zero."""
    axes = tuple(range(1, maps.ndim))
    low, high = maps.amin(axes, keepdim=True), maps.amax(axes, keepdim=True)
    constant = _is_constant(low, high)
    return torch.where(constant, 0.0, (maps - low) / torch.where(constant, 1.0, high - low))


def _is_constant(low: Tensor, high: Tensor) -> Tensor:
    return high - low <= 1e-6 * high  # rounding while a constant map was summed or resized, no contrast


def resize_maps(maps: Tensor, size: torch.Size) -> Tensor:
    """Return maps (B, h, w) or (B, d, h, w) at the images' H, W or D, H, W; linearly, and thus without overshoot."""
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return F.interpolate(maps[:, None], size=size, mode=mode, align_corners=False)[:, 0]


def postprocess(
    raws: Sequence[Tensor],
    reason_if_empty: Callable[[int], str],
    size: torch.Size,
    fuse: str,
    normalise: bool,
) -> tuple[Tensor, list[str | None]]:
    """Return maps of one method at the images' size, and for each the reason where it is empty.

    Args:
        raws: the map by each layer, (B, h, w), before ReLU.
        reason_if_empty: from the row of an image to the reason where nothing in its map is above 0.
        size: H and W, or D, H and W, of the images.
        fuse: a name among FUSIONS.
        normalise: stretch each map from 0 to 1, that of each layer and their fusion.

    Raises:
        MriscopeError: a map holds values that are not finite.
    """
    if not all(raw.isfinite().all() for raw in raws):
        raise MriscopeError("a map holds values that are not finite; look for NaN in the images and the weights")
    maps = [stretch(raw.relu()) if normalise else raw.relu() for raw in raws]
    maps = [one if one.shape[1:] == size else resize_maps(one, size) for one in maps]
    fused = FUSIONS[fuse](torch.stack(maps)).float()
    axes = tuple(range(1, fused.ndim))
    constant = _is_constant(fused.amin(axes), fused.amax(axes)).tolist()
    positive = torch.stack([raw.flatten(1).amax(1) > 0 for raw in raws]).any(0).tolist()
    reasons = [
        None if not constant[row] else CONSTANT if positive[row] else reason_if_empty(row) for row in range(len(fused))
    ]
    return (stretch(fused) if normalise else fused), reasons


CONSTANT = "the map is constant: every place is evidence for the class alike"
"""The reason of a map that is above 0, and without contrast."""


def apply_exponents(maps: Tensor, classes: Tensor, exponents: Sequence[float], n_classes: int) -> Tensor:
    """Return normalised maps to the power of their class's exponent; their maximum is 1 and stays 1.

    Raises:
        ArgumentError: there is not one positive exponent for each class.
    """
    if len(exponents) != n_classes or not all(exponent > 0 for exponent in exponents):
        raise ArgumentError(
            f"exponents are {list(exponents)}; give one positive number for each of the {n_classes} classes"
        )
    return maps ** maps.new_tensor(exponents)[classes].reshape(-1, *[1] * (maps.ndim - 1))
