"""One class for each class activation map, under the names that the field uses; each is a method bound to a model."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from mriscope.errors import check_type
from mriscope.explain.layers import Layer, Reshape, check_modules
from mriscope.explain.maps import Classes, Explanation, explain
from mriscope.explain.methods import check_method


class CAM:
    """Any method by its name, bound to a model: cam(images, classes) gives maps.

    Args:
        model: any network from images to logits (B, K).
        layer: as in explain; where it is found automatically, that is done with the first images.
        method: a name among METHODS.
        fuse: "mean" or "max" of the maps of several layers.
        reshape: reads a layer's output as (B, C, h, w).
        eigen_smooth: take the first principal component of the channels' shares in a map in place of their sum.
        flip_smooth: mean of the maps of the image and its mirror image, each times 0.9, 1 and 1.1.

    Raises:
        UnknownNameError: there is no such method.
        ArgumentError: a module is no part of the model.
        ArgumentTypeError: the model is no PyTorch module.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4))
        >>> cam = CAM(model, "0", method="layercam")
        >>> tuple(cam(torch.rand(2, 1, 32, 32), classes=[0, 3]).shape)
        (2, 32, 32)
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
        check_type("model", model, nn.Module, "a PyTorch network")
        self.model, self.layer, self.method = getattr(model, "_orig_mod", model), layer, check_method(method)
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
        """Compute the map of each image for its class; arguments and errors as in mriscope.explain.explain.

        Returns:
            float32 (B, H, W) or (B, D, H, W) on the model's device, in [0, 1] where normalised; (B, M, ...) where M
            classes of each image are given.
        """
        return self.explain(images, classes, normalise=normalise, exponents=exponents, chunk=chunk).maps

    def explain(self, images: Tensor, classes: Classes | None = None, **settings: Any) -> Explanation:
        """Compute maps as a call does, with the classes explained, the logits, and why maps are empty."""
        settings = {**self.settings, **settings}
        found = explain(self.model, images, (self.method,), classes, layer=self.layer, **settings)[self.method]
        self.layer = self.layer or found.layers or None  # looked for once
        return found


class _NamedCAM(CAM):
    """A method whose name is the class's; arguments as in CAM, less the method."""

    name: ClassVar[str]

    def __init__(
        self,
        model: nn.Module,
        layer: Layer | Sequence[Layer] | None = None,
        *,
        fuse: str = "mean",
        reshape: Reshape | None = None,
        eigen_smooth: bool = False,
        flip_smooth: bool = False,
    ) -> None:
        super().__init__(
            model,
            layer,
            method=self.name,
            fuse=fuse,
            reshape=reshape,
            eigen_smooth=eigen_smooth,
            flip_smooth=flip_smooth,
        )


class GradCAM(_NamedCAM):
    """Grad-CAM: channels weighted by their mean gradient.

    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
    https://arxiv.org/abs/1610.02391. The map is relu(Σ_k w_k A_k), w_k the mean over places of the gradient of the
    class's logit along channel A_k. Arguments as in CAM, less the method.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4))
        >>> cam = GradCAM(model)
        >>> maps = cam(torch.rand(2, 1, 32, 32))  # of the predicted classes, from 0 to 1
        >>> tuple(maps.shape)
        (2, 32, 32)
    """

    name = "gradcam"


class GradCAMPlusPlus(_NamedCAM):
    """Grad-CAM++: positive gradients weighted place by place, by a closed form of higher derivatives.

    Chattopadhay et al., "Grad-CAM++: Improved Visual Explanations for Deep Convolutional Networks", WACV 2018,
    https://arxiv.org/abs/1710.11063. Arguments as in CAM, less the method.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> cam = GradCAMPlusPlus(nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        >>> tuple(cam(torch.rand(2, 1, 8, 8)).shape)
        (2, 8, 8)
    """

    name = "gradcam++"


class XGradCAM(_NamedCAM):
    """XGrad-CAM: channels weighted by their mean gradient, each place by its share of the activation.

    Fu et al., "Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs", BMVC 2020,
    https://arxiv.org/abs/2008.02312. Arguments as in CAM, less the method.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> cam = XGradCAM(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        >>> tuple(cam(torch.rand(2, 1, 8, 8)).shape)
        (2, 8, 8)
    """

    name = "xgradcam"


class HiResCAM(_NamedCAM):
    """HiRes-CAM: activation times gradient, place by place; before linear layers its sum is the logit less its bias.

    Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks",
    2020, https://arxiv.org/abs/2011.08891. Arguments as in CAM, less the method.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> cam = HiResCAM(nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        >>> tuple(cam(torch.rand(2, 1, 8, 8)).shape)
        (2, 8, 8)
    """

    name = "hirescam"


class LayerCAM(_NamedCAM):
    """Layer-CAM: activation times positive gradient, place by place; suits early layers too.

    Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE TIP 2021,
    https://doi.org/10.1109/TIP.2021.3089943. Arguments as in CAM, less the method.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> cam = LayerCAM(nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        >>> tuple(cam(torch.rand(2, 1, 8, 8)).shape)
        (2, 8, 8)
    """

    name = "layercam"


class ElementwiseGradCAM(_NamedCAM):
    """Element-wise Grad-CAM: positive products of activation and gradient.

    Pillai and Pirsiavash, "Explainable Models with Consistent Interpretations", AAAI 2021. Arguments as in CAM, less
    the method.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> cam = ElementwiseGradCAM(nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        >>> tuple(cam(torch.rand(2, 1, 8, 8)).shape)
        (2, 8, 8)
    """

    name = "elementwise"


class EigenCAM(_NamedCAM):
    """Eigen-CAM: the first principal component of the activations, the same for every class; no gradient is needed.

    Muhammad and Yeasin, "Eigen-CAM: Class Activation Map using Principal Components", IJCNN 2020,
    https://arxiv.org/abs/2008.00299. Arguments as in CAM, less the method.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> cam = EigenCAM(nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        >>> tuple(cam(torch.rand(2, 1, 8, 8)).shape)
        (2, 8, 8)
    """

    name = "eigencam"


class EigenGradCAM(_NamedCAM):
    """Eigen-Grad-CAM: the first principal component of activation times gradient, as pytorch-grad-cam has it.

    https://github.com/jacobgil/pytorch-grad-cam. Arguments as in CAM, less the method.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> cam = EigenGradCAM(nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        >>> tuple(cam(torch.rand(2, 1, 8, 8)).shape)
        (2, 8, 8)
    """

    name = "eigengradcam"


class ScoreCAM(_NamedCAM):
    """Score-CAM: channels weighted by the logit of the image under the channel as a mask; no gradient is needed.

    Wang et al., "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks", CVPRW 2020,
    https://arxiv.org/abs/1910.01279. One pass for each channel of each image. Arguments as in CAM, less the method.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> cam = ScoreCAM(nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        >>> tuple(cam(torch.rand(2, 1, 8, 8)).shape)
        (2, 8, 8)
    """

    name = "scorecam"


class AblationCAM(_NamedCAM):
    """Ablation-CAM: channels weighted by the share of the logit lost without them; no gradient is needed.

    Desai and Ramaswamy, "Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free
    Localization", WACV 2020, https://doi.org/10.1109/WACV45572.2020.9093360. One pass behind the layer for each channel
    of each image. Arguments as in CAM, less the method.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> cam = AblationCAM(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "1")
        >>> tuple(cam(torch.rand(2, 1, 8, 8)).shape)
        (2, 8, 8)
    """

    name = "ablationcam"


class FinerCAM(_NamedCAM):
    """Finer-CAM: Grad-CAM of what sets the class apart from the three classes nearest in logit.

    Zhang et al., "Finer-CAM: Spotting the Difference Reveals Finer Details for Visual Explanation", CVPR 2025,
    https://arxiv.org/abs/2501.11309. Arguments as in CAM, less the method.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> cam = FinerCAM(nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        >>> tuple(cam(torch.rand(2, 1, 8, 8)).shape)
        (2, 8, 8)
    """

    name = "finercam"


class FullGrad(_NamedCAM):
    """FullGrad: what the input and every bias add to the logit, over the whole network; takes no layer's maps alone.

    Srinivas and Fleuret, "Full-Gradient Representation for Neural Network Visualization", NeurIPS 2019,
    https://arxiv.org/abs/1905.00780. Arguments as in CAM, less the method.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> cam = FullGrad(nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        >>> tuple(cam(torch.rand(2, 1, 8, 8)).shape)
        (2, 8, 8)
    """

    name = "fullgrad"
