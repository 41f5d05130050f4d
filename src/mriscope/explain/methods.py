"""Every method by its name: those on the activations of a layer (cams), and those on the whole network (pixels)."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from mriscope.errors import UnknownNameError
from mriscope.explain.attributions import (
    gradient_times_input,
    guided_backpropagation,
    integrated_gradients,
    occlusion,
    smooth_grad,
)
from mriscope.explain.cams import CAMS
from mriscope.explain.full_grad import full_grad


@dataclass(frozen=True)
class PixelMethod:
    """A method on the whole network, whose map has the image's size from the start.

    Args:
        title: its name in print.
        make: from model, images, int64 (B,) classes and chunk to maps (B, H, W), or (B, C, H, W), which is summed over
            channels. What is below 0 is evidence against the class, and is left out of maps.
        magnitude: whether a pixel counts by its absolute value, as where the sign tells only which way it would move
            the logit, not what it adds.
        times: the method whose map it is multiplied by.
    """

    title: str
    make: Callable[..., Tensor]
    magnitude: bool = False
    times: str | None = None


PIXEL_METHODS = {
    "fullgrad": PixelMethod("FullGrad", full_grad),
    "gradxinput": PixelMethod("Gradient × input", gradient_times_input),
    "integrated_gradients": PixelMethod("Integrated Gradients", integrated_gradients),
    "smoothgrad": PixelMethod("SmoothGrad", smooth_grad, magnitude=True),
    "guided_gradcam": PixelMethod("Guided Grad-CAM", guided_backpropagation, times="gradcam"),
    "occlusion": PixelMethod("Occlusion", occlusion),
}
"""The methods on the whole network, by the names that settings use."""

METHODS = {
    **{name: cam.title for name, cam in CAMS.items()},
    **{name: one.title for name, one in PIXEL_METHODS.items()},
}
"""All methods: the names that settings use, and their names in print."""


def check_method(method: str) -> str:
    """Return the name of a method, if there is one of that name.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    return method
