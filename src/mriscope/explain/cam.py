"""One method bound to a model, under the names that the field uses."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from mriscope.explain.layers import Layer, Reshape, check_modules
from mriscope.explain.maps import Classes, Explanation, explain
from mriscope.explain.methods import known_method


class CAM:
    """One method, bound to a model: cam(images, classes) gives maps.

    Args:
        model: any network from images to logits (B, K).
        layer: as in explain; where it is found by itself, that is done with the first images.
        method: a name among METHODS.
        settings: fuse, reshape, eigen_smooth and flip_smooth, as in explain.

    Raises:
        UnknownName: there is no such method.
        MriscopeError: a module is no part of the model.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: Layer | Sequence[Layer] | None = None,
        *,
        method: str = "gradcam",
        fuse: str = "mean",
        reshape: Reshape | None = None,
        eigen_smooth: bool = False,
        flip_smooth: bool = False,
    ) -> None:
        self.model, self.layer, self.method = getattr(model, "_orig_mod", model), layer, known_method(method)
        if layer is not None:
            check_modules(self.model, layer)
        self.settings: dict[str, Any] = {
            "fuse": fuse,
            "reshape": reshape,
            "eigen_smooth": eigen_smooth,
            "flip_smooth": flip_smooth,
        }

    def __call__(
        self,
        images: Tensor,
        classes: Classes | None = None,
        *,
        normalise: bool = True,
        exponents: Sequence[float] | None = None,
        chunk: int | None = None,
    ) -> Tensor:
        """The map of each image for its class; arguments and errors as in explain.

        Returns:
            float32 (B, H, W) or (B, D, H, W) on the model's device, in [0, 1] where normalised; (B, M, ...) where M
            classes of each image are asked for.
        """
        return self.explain(images, classes, normalise=normalise, exponents=exponents, chunk=chunk).maps

    def explain(self, images: Tensor, classes: Classes | None = None, **settings: Any) -> Explanation:
        """As a call, with the classes explained, the logits, and why maps carry nothing."""
        settings = {**self.settings, **settings}
        found = explain(self.model, images, (self.method,), classes, layer=self.layer, **settings)[self.method]
        self.layer = self.layer or found.layers or None  # looked for once
        return found


GradCAM = partial(CAM, method="gradcam")
GradCAMPlusPlus = partial(CAM, method="gradcam++")
XGradCAM = partial(CAM, method="xgradcam")
HiResCAM = partial(CAM, method="hirescam")
LayerCAM = partial(CAM, method="layercam")
ElementwiseGradCAM = partial(CAM, method="elementwise")
EigenCAM = partial(CAM, method="eigencam")
EigenGradCAM = partial(CAM, method="eigengradcam")
ScoreCAM = partial(CAM, method="scorecam")
AblationCAM = partial(CAM, method="ablationcam")
FinerCAM = partial(CAM, method="finercam")
FullGrad = partial(CAM, method="fullgrad")
