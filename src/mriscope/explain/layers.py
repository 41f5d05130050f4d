"""Which layer an explanation uses, and how its output is read as channels of a map."""

import math
import threading
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from mriscope.errors import ArgumentError, MriscopeError, UnknownNameError

Layer = nn.Module | str
Reshape = Callable[[Tensor], Tensor]

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_NO_CONVOLUTION = "there is no convolution whose map has more than one place in this model; pass layer= to choose"
_MOST_PREFIX = 16  # tokens before those of the patches: class, distillation, registers


def channels_last(output: Tensor) -> Tensor:
    """Read an output (B, h, w, C), as Swin's layers give it, as (B, C, h, w)."""
    return output.movedim(-1, 1)


def tokens(height: int, width: int, prefix: int = 1) -> Reshape:
    """Return a reshape function for a vision transformer's tokens.

    Args:
        height: patches in a column.
        width: patches in a row.
        prefix: tokens before the patches', as the class token; they have no place, and are left out.

    Returns:
        A function from (B, prefix + height × width, C) to (B, C, height, width).
    """

    def reshape(output: Tensor) -> Tensor:
        return output[:, prefix:].unflatten(1, (height, width)).movedim(-1, 1)

    return reshape


def find_layers(model: nn.Module, layer: "Layer | Sequence[Layer] | None", images: Tensor) -> list[nn.Module]:
    """Return the layers given as modules or dotted names, or the one found automatically.

    Automatically it is the convolution that ran last on a map; in a transformer the norm that ran last before the last
    attention.

    Raises:
        UnknownNameError: no layer has that name; the near ones are named with the shapes of their outputs.
        ArgumentError: a module is no part of the model, or nothing is found.
    """
    if layer is None:
        return [_find_automatically(model, images)]
    check_modules(model, layer)
    return [_find_by_name(model, one, images) if isinstance(one, str) else one for one in _as_list(layer)]


def check_modules(model: nn.Module, layer: "Layer | Sequence[Layer]") -> None:
    """Refuse modules of another model; names are looked up later, when shapes are known.

    Raises:
        ArgumentError: a module is no part of the model, or there is no layer.
    """
    for one in _as_list(layer):
        if isinstance(one, nn.Module) and all(module is not one for module in model.modules()):
            raise ArgumentError(
                f"the layer {type(one).__name__} is no part of the model; pass one of its own modules or a dotted name"
            )


def check_observable(model: nn.Module) -> None:
    """Refuse a model that is, or holds, a TorchScript program.

    Raises:
        MriscopeError: it does; its layers run without Python, so hooks on them are not called.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise MriscopeError(
            "the model is or holds a TorchScript program, whose layers cannot be observed; explain the model that it "
            "was made from, or use gradxinput, integrated_gradients, smoothgrad or occlusion"
        )


def _as_list(layer: "Layer | Sequence[Layer]") -> list[Layer]:
    layers = [layer] if isinstance(layer, nn.Module | str) else list(layer)
    if not layers:
        raise ArgumentError("layer is an empty list; name at least one layer")
    return layers


def _find_by_name(model: nn.Module, name: str, images: Tensor) -> nn.Module:
    named = dict(model.named_modules(remove_duplicate=False))
    if name not in named:
        names = [known for known in named if known]
        near = get_close_matches(name, names, n=5, cutoff=0.4) or names[-5:]
        last = dict(_run_order(model, [named[one] for one in near], images))
        outputs = [last.get(named[one]) for one in near]
        shapes = [f" {tuple(output.shape)}" if isinstance(output, Tensor) else "" for output in outputs]
        raise UnknownNameError("layer", name, [one + shape for one, shape in zip(near, shapes, strict=True)])
    return named[name]


def _find_automatically(model: nn.Module, images: Tensor) -> nn.Module:
    """Return the last convolution with a map, or in a transformer the last norm before an attention."""
    watched = [
        module
        for module in model.modules()
        if isinstance(module, (*_CONVOLUTIONS, nn.LayerNorm)) or _is_attention(module)
    ]
    check_observable(model)
    if not watched:
        raise MriscopeError(_NO_CONVOLUTION)
    convolution = norm = before_attention = None
    for module, output in _run_order(model, watched, images, begun=_is_attention):
        if isinstance(module, _CONVOLUTIONS):
            if output.ndim == images.ndim and output[0, 0].numel() > 1:
                convolution, before_attention = module, None
        elif isinstance(module, nn.LayerNorm):
            norm = module
        else:
            before_attention = norm
    chosen = before_attention or convolution
    if chosen is None:
        raise MriscopeError(_NO_CONVOLUTION)
    return chosen


def _is_attention(module: nn.Module) -> bool:
    return isinstance(module, nn.MultiheadAttention) or type(module).__name__.endswith("Attention")


def _run_order(
    model: nn.Module, watched: Sequence[nn.Module], images: Tensor, begun: Callable[[nn.Module], bool] | None = None
) -> list[tuple[nn.Module, Any]]:
    """Return modules in the order in which they ran on the first image, and what they gave.

    Args:
        model: in eval mode.
        watched: modules of it.
        images: of which the first one runs.
        begun: whether a module counts when it begins, and its output is not kept.
    """
    owner = threading.get_ident()
    order: list[tuple[nn.Module, Any]] = []

    def note(module: nn.Module, _inputs: Any, output: Any = None) -> None:
        if threading.get_ident() == owner:
            order.append((module, output))

    handles = [
        module.register_forward_pre_hook(note) if begun and begun(module) else module.register_forward_hook(note)
        for module in watched
    ]
    try:
        with torch.no_grad():
            model(images[:1])
    finally:
        for handle in handles:
            handle.remove()
    return order


def find_reshape(layer: nn.Module, output: Tensor, images: Tensor) -> Reshape | None:
    """Return how a layer's output is read as a map; None where it is one already, or where nothing fits."""
    if output.ndim == 3 and images.ndim == 4:
        return _find_tokens(output.shape[1], *images.shape[2:])
    last = isinstance(layer, nn.LayerNorm) and layer.normalized_shape[0] == output.shape[-1]
    if last and output.ndim == images.ndim and (output.shape[1] != output.shape[-1] or type(layer) is nn.LayerNorm):
        return channels_last
    return None


def _find_tokens(count: int, height: int, width: int) -> Reshape | None:
    """Return the reshape for patches in the proportion of the image, after as few other tokens as that allows."""
    for prefix in range(min(count, _MOST_PREFIX)):
        rows = math.isqrt((count - prefix) * height // width)
        if rows and (count - prefix) % rows == 0 and rows * width == (count - prefix) // rows * height:
            return tokens(rows, (count - prefix) // rows, prefix)
    return None
