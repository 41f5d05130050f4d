"""FullGrad: what the input and every bias add to a logit, gathered over the whole network."""

import threading
from typing import Any

import torch
from torch import Tensor, nn

from mriscope.explain.gradients import check_images_unused, model_errors, take_gradients
from mriscope.explain.layers import check_observable
from mriscope.explain.postprocess import resize_maps
from mriscope.explain.scores import at_least_float32, check_logits, logit

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


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
        with model_errors(model, images):
            records, logits = _run(model, images)
        score = logit(at_least_float32(logits), classes).sum()
        given = take_gradients(score, [images, *[output for _, output in records]])
    images = images.detach()
    if given[0] is None:
        check_images_unused(model, images)
    total = images.new_zeros(len(images), *images.shape[2:], dtype=torch.float32)
    total = total if given[0] is None else _stretch_and_sum((images * given[0]).abs().float())
    for (bias, _), gradients in zip(records, given[1:], strict=True):
        if gradients is not None:
            amounts = (bias.reshape(-1, *[1] * (gradients.ndim - 2)) * gradients).abs().float()
            total = total + resize_maps(_stretch_and_sum(amounts), images.shape[2:])
    return total


def _stretch_and_sum(amounts: Tensor) -> Tensor:
    """Return each channel from 0 to 1, summed over channels."""
    axes = tuple(range(2, amounts.ndim))
    amounts = amounts - amounts.amin(axes, keepdim=True)
    return (amounts / (1e-7 + amounts.amax(axes, keepdim=True))).sum(1)


def _run(model: nn.Module, images: Tensor) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Return the bias of each layer that has one, with each output of it that is a map; and the logits."""
    owner = threading.get_ident()
    records: list[tuple[Tensor, Tensor]] = []

    def keep(module: nn.Module, _inputs: Any, output: Tensor) -> Tensor | None:
        if threading.get_ident() != owner or output.ndim != images.ndim:
            return None
        records.append((biases[module], output))
        return output.clone()  # an in-place operation behind the layer would make its gradient that of its result

    biases = {module: bias for module in model.modules() if (bias := _bias(module)) is not None}
    handles = [module.register_forward_hook(keep) for module in biases]
    try:
        return records, check_logits(model(images), images)
    finally:
        for handle in handles:
            handle.remove()


def _bias(module: nn.Module) -> Tensor | None:
    """Return what a layer adds to its output whatever comes in, (C,); None where it adds nothing."""
    if isinstance(module, _CONVOLUTIONS):
        return None if module.bias is None else module.bias.detach()
    if not isinstance(module, _NORMS) or module.running_mean is None or module.running_var is None:
        return None
    scale = 1 / (module.running_var + module.eps).sqrt()
    gain = scale if module.weight is None else scale * module.weight.detach()
    return -module.running_mean * gain + (0 if module.bias is None else module.bias.detach())
