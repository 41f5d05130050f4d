"""From the raw maps of layers to one map for each image: ReLU, size, fusion, range, and why a map is empty."""

from collections.abc import Callable, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from mriscope.errors import MriscopeError, UnknownName
from mriscope.explain.engine import lay_over

STUDY_EXPONENTS = MappingProxyType(
    {"Very_Mild_Demented": 1.5, "Mild_Demented": 1.3, "Moderate_Demented": 1.2, "Non_Demented": 1.0}
)
"""The power to which the reference study raises the maps of each class."""

FUSIONS: dict[str, Callable[[Tensor], Tensor]] = {"mean": lambda maps: maps.mean(0), "max": lambda maps: maps.amax(0)}


def study_exponents(class_names: Sequence[str]) -> tuple[float, ...]:
    """The study's exponents in the order of a set's classes.

    Raises:
        UnknownName: a class that the study does not know.
    """
    for name in class_names:
        if name not in STUDY_EXPONENTS:
            raise UnknownName("exponent for class", name, STUDY_EXPONENTS)
    return tuple(STUDY_EXPONENTS[name] for name in class_names)


def stretch(maps: Tensor) -> Tensor:
    """Each map less its minimum and divided by its maximum after that; a map without contrast becomes zero."""
    axes = tuple(range(1, maps.ndim))
    low, high = maps.amin(axes, keepdim=True), maps.amax(axes, keepdim=True)
    flat = _flat(low, high)
    return torch.where(flat, 0.0, (maps - low) / torch.where(flat, 1.0, high - low))


def _flat(low: Tensor, high: Tensor) -> Tensor:
    return high - low <= 1e-6 * high  # rounding while an even map was summed or resized, no contrast


def finished(
    raws: Sequence[Tensor],
    meaning: Callable[[int], str],
    size: torch.Size,
    fuse: str,
    normalise: bool,
) -> tuple[Tensor, list[str | None]]:
    """Maps of one method at the images' size, and for each a reason where it carries nothing.

    Args:
        raws: the map by each layer, (B, h, w), before ReLU.
        meaning: what it means if nothing in the map of an image is above 0.
        size: H and W, or D, H and W, of the images.
        fuse: a name among FUSIONS.
        normalise: stretch each map from 0 to 1, that of each layer and their fusion.

    Raises:
        MriscopeError: a map holds values that are not finite.
    """
    if not all(raw.isfinite().all() for raw in raws):
        raise MriscopeError("the evidence holds values that are not finite; look for NaN in the images and the weights")
    maps = [stretch(raw.relu()) if normalise else raw.relu() for raw in raws]
    maps = [one if one.shape[1:] == size else lay_over(one, size) for one in maps]
    fused = FUSIONS[fuse](torch.stack(maps)).float()
    axes = tuple(range(1, fused.ndim))
    low, high = fused.amin(axes), fused.amax(axes)
    evident = torch.stack([raw.flatten(1).amax(1) > 0 for raw in raws]).any(0)
    reasons = [
        None if not flat else "every place speaks for the class alike" if any_evidence else meaning(row)
        for row, (flat, any_evidence) in enumerate(zip(_flat(low, high).tolist(), evident.tolist(), strict=True))
    ]
    return (stretch(fused) if normalise else fused), reasons


def raised(maps: Tensor, classes: Tensor, exponents: Sequence[float], n_classes: int) -> Tensor:
    """Normalised maps to the power of their class's exponent; their maximum is 1 and stays 1."""
    if len(exponents) != n_classes or not all(exponent > 0 for exponent in exponents):
        raise MriscopeError(
            f"exponents are {list(exponents)}; give one positive number for each of the {n_classes} classes"
        )
    return maps ** maps.new_tensor(exponents)[classes].reshape(-1, *[1] * (maps.ndim - 1))
