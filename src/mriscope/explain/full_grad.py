"""FullGrad: what the input and every bias add to a logit, gathered over the whole network."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mriscope.explain.gradients import check_images_unused, model_errors, take_gradients
from mriscope.explain.layers import check_observable
from mriscope.explain.postprocess import resize_maps
from mriscope.explain.scores import at_least_float32, check_logits, logit

_aten = torch.ops.aten  # what programs of torch.export call
_CONVOLUTIONS = {
    *(torch.conv1d, torch.conv2d, torch.conv3d),
    *(_aten.conv1d.default, _aten.conv2d.default, _aten.conv3d.default),
}
_NORMS = {F.batch_norm, torch.batch_norm, _aten.batch_norm.default}


def full_grad(model: nn.Module, images: Tensor, classes: Tensor, *, chunk: int = 64) -> Tensor:
    """Compute FullGrad (Srinivas & Fleuret, 2019): Σ of |x ∂x| and of |bias G| over all channels.

    Each channel is stretched from 0 to 1 before. The biases are those of convolutions and batch norms; a batch norm's
    is β - μ γ / √(var + ε). Channels of a layer are summed before they are resized, as resizing is linear.

    Args:
        model: in eval mode.
        images: float (B, C, H, W) or (B, C, D, H, W), on the model's device.
        classes: int64 (B,).
        chunk: how many images run at once.

    Returns:
        float32 (B, H, W) or (B, D, H, W), 0 or more.

    Raises:
        MriscopeError: no gradient reaches the images, or the layers' biases cannot be seen.
    """
    check_observable(model)
    parts = zip(images.split(chunk), classes.split(chunk), strict=True)
    return torch.cat([_full_grad(model, *part) for part in parts])


def _full_grad(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    images = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        with model_errors(model, images), _BiasLog(images.ndim) as log:
            logits = check_logits(model(images), images)
        score = logit(at_least_float32(logits), classes).sum()
        given = take_gradients(score, [images, *[output for _, output in log.biased]])
    images = images.detach()
    if given[0] is None:
        check_images_unused(model, images)
    total = images.new_zeros(len(images), *images.shape[2:], dtype=torch.float32)
    total = total if given[0] is None else _stretch_and_sum((images * given[0]).abs().float())
    for (bias, _), gradients in zip(log.biased, given[1:], strict=True):
        if gradients is not None:
            amounts = (bias.reshape(-1, *[1] * (gradients.ndim - 2)) * gradients).abs().float()
            total = total + resize_maps(_stretch_and_sum(amounts), images.shape[2:])
    return total


def _stretch_and_sum(amounts: Tensor) -> Tensor:
    """Return each channel from 0 to 1, summed over channels."""
    axes = tuple(range(2, amounts.ndim))
    amounts = amounts - amounts.amin(axes, keepdim=True)
    return (amounts / (1e-7 + amounts.amax(axes, keepdim=True))).sum(1)


class _BiasLog(TorchFunctionMode):
    """Within it, every convolution and batch norm of this thread is noted, be it a module or a function.

    Args:
        n_axes: of outputs that are maps; others are left out.
    """

    def __init__(self, n_axes: int) -> None:
        super().__init__()
        self.n_axes = n_axes
        self.biased: list[tuple[Tensor, Tensor]] = []  # what each adds whatever comes in, (C,), and its output

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if func in _CONVOLUTIONS:
            bias = args[2] if len(args) > 2 else kwargs.get("bias")
        elif func in _NORMS:
            bias = _norm_bias(func, args, kwargs)
        else:
            return output
        if bias is None or output.ndim != self.n_axes:
            return output
        self.biased.append((bias.detach(), output))
        return output.clone()  # an in-place operation behind it would make its gradient that of its result


def _norm_bias(func: Any, args: Any, kwargs: Any) -> Tensor | None:
    """Return β - μ γ / √(var + ε) of a batch norm, (C,); None where it takes its statistics from the batch."""
    order = ["running_mean", "running_var", "weight", "bias"]
    if func is not F.batch_norm:  # PyTorch's two functions of that name differ in the order of their arguments
        order = ["weight", "bias", "running_mean", "running_var"]
    given = dict(zip([*order, "training", "momentum", "eps"], args[1:], strict=False)) | kwargs
    mean, variance, weight, bias = (given.get(name) for name in ("running_mean", "running_var", "weight", "bias"))
    if given.get("training") or mean is None or variance is None:
        return None
    gain = (variance + given.get("eps", 1e-5)).rsqrt() * (1 if weight is None else weight.detach())
    return -mean * gain + (0 if bias is None else bias.detach())
