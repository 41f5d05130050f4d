"""Class activation maps: where in a slice the evidence for a class lies. One method is one short function."""

from collections.abc import Sequence
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn

from mriscope.errors import MriscopeError, UnknownName
from mriscope.explain.engine import Evidence, borrowed, find_layer, gather_evidence, last_convolution, lay_over

STUDY_EXPONENTS = MappingProxyType(
    {"Very_Mild_Demented": 1.5, "Mild_Demented": 1.3, "Moderate_Demented": 1.2, "Non_Demented": 1.0}
)
"""The power to which the reference study raises the maps of each class."""

Classes = int | Sequence[int] | np.ndarray | Tensor


def grad_cam(evidence: Evidence) -> Tensor:
    """Channels weighted by their mean gradient and summed: (B, h, w), before ReLU."""
    weights = evidence.gradients.flatten(2).mean(2)
    return torch.einsum("bc,bc...->b...", weights, evidence.activations)


class GradCAM:
    """Grad-CAM (Selvaraju et al., 2017), with the channels of one layer weighted by their mean gradient.

    The model is explained in eval mode and comes back as it was found: modes, hooks and gradients, also after an
    error. Frozen weights, autocast, torch.no_grad(), torch.inference_mode() and several threads at once are all fine.

    Args:
        model: any network from images to logits (B, K).
        layer: the layer whose maps are weighted: a module of the model or its dotted name. None takes the output of
            the last convolution that still has more than one place, found with the first images. Where a layer runs
            several times, its last run counts.

    Raises:
        UnknownName: the model has no layer of that name.
        MriscopeError: the module is no part of the model, or there is no convolution to find.
    """

    def __init__(self, model: nn.Module, layer: nn.Module | str | None = None) -> None:
        self.model: nn.Module = getattr(model, "_orig_mod", model)  # a compiled model is explained by its original
        self.layer = find_layer(self.model, layer)

    def __call__(
        self,
        images: Tensor,
        classes: Classes | None = None,
        *,
        normalise: bool = True,
        exponents: Sequence[float] | None = None,
        chunk: int = 64,
    ) -> Tensor:
        """The map of each image for its class.

        Args:
            images: float (B, C, H, W) or volumes (B, C, D, H, W), scaled as the model was trained, on any device.
            classes: the class to explain, one for all images or one for each; None explains the prediction.
            normalise: stretch each map from 0 to 1. Otherwise maps keep the unit of logits: the weighted sum after
                ReLU, resized.
            exponents: one positive number for each of the K classes; a normalised map is raised to its class's and
                divided by its maximum again, as the reference study does (study_exponents).
            chunk: how many images run at once; the maps do not depend on it.

        Returns:
            float32 (B, H, W) or (B, D, H, W) on the model's device, in [0, 1] where normalised; all zero where no
            place speaks for the class more than another.

        Raises:
            MriscopeError: images, classes or exponents do not fit each other or the model, the layer gives no map,
                or the evidence is not finite.
        """
        _check_images(images, chunk)
        asked = _asked(classes, len(images))
        if exponents is not None and not normalise:
            raise MriscopeError("exponents shape normalised maps; leave out exponents or normalise=False")
        if not len(images):
            return torch.zeros_like(images[:, 0], dtype=torch.float32)
        with torch.inference_mode(False), borrowed(self.model):
            if self.layer is None:
                self.layer = last_convolution(self.model, images)
            parts: list[Tensor] = []
            for start in range(0, len(images), chunk):
                rows = slice(start, start + chunk)
                evidence = gather_evidence(self.model, self.layer, images[rows], None if asked is None else asked[rows])
                parts.append(_finish(evidence, images.shape[2:], normalise, exponents))
        return torch.cat(parts)


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
    flat = high - low <= 1e-6 * high  # rounding while an even map was summed or resized, no contrast
    return torch.where(flat, 0.0, (maps - low) / torch.where(flat, 1.0, high - low))


def _finish(evidence: Evidence, size: torch.Size, normalise: bool, exponents: Sequence[float] | None) -> Tensor:
    with torch.autocast(
        evidence.activations.device.type, enabled=False
    ):  # maps in full precision, whatever the model's
        maps = lay_over(grad_cam(evidence).relu(), size)
    if not maps.isfinite().all():
        raise MriscopeError("the evidence holds values that are not finite; look for NaN in the images and the weights")
    if not normalise:
        return maps
    return stretch(maps) if exponents is None else _raised(stretch(maps), evidence, exponents)


def _raised(maps: Tensor, evidence: Evidence, exponents: Sequence[float]) -> Tensor:
    """Normalised maps to the power of their class's exponent; their maximum is 1 and stays 1."""
    if len(exponents) != evidence.n_classes or not all(exponent > 0 for exponent in exponents):
        raise MriscopeError(
            f"exponents are {list(exponents)}; give one positive number for each of the {evidence.n_classes} classes"
        )
    powers = maps.new_tensor(exponents)[evidence.classes]
    return maps ** powers.reshape(-1, *[1] * (maps.ndim - 1))


def _check_images(images: Tensor, chunk: int) -> None:
    fits = isinstance(images, Tensor) and images.ndim in (4, 5) and images.is_floating_point()
    if not fits:
        found = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise MriscopeError(f"images is {found}; an explanation needs a float tensor (B, C, H, W) or (B, C, D, H, W)")
    if chunk < 1:
        raise MriscopeError(f"chunk is {chunk}; run at least 1 image at once")


def _asked(classes: Classes | None, count: int) -> Tensor | None:
    """One class for each image as a tensor; checked before anything runs."""
    if classes is None:
        return None
    try:
        asked = classes if isinstance(classes, Tensor) else torch.tensor(classes)
    except (TypeError, ValueError, RuntimeError) as error:
        raise MriscopeError(f"classes is {classes!r}; give class numbers, counted from 0") from error
    asked = asked.expand(count) if not asked.ndim else asked
    if asked.shape != (count,):
        raise MriscopeError(f"classes is of shape {tuple(asked.shape)} for {count} images; give one, or one for each")
    if count and (asked.is_floating_point() or asked.is_complex() or asked.dtype == torch.bool):
        raise MriscopeError(f"classes holds {asked.dtype}; give class numbers, counted from 0")
    return asked.long()
