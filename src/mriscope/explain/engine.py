"""The engine under every class activation map: finds the layer, listens to it, and hands the model back as it was.

A method is one function from Evidence to maps; hooks, modes, threads, precision and resizing are settled here.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mriscope.errors import MriscopeError, UnknownName

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_NO_CONVOLUTION = "there is no convolution whose map has more than one place in this model; pass layer= to choose"


@dataclass(frozen=True)
class Evidence:
    """What one layer had to say about a batch.

    Args:
        activations: float32 (B, C, h, w), or (B, C, d, h, w) for volumes: the layer's output.
        gradients: float32, same shape: slope of each image's explained logit along its activations.
        classes: int64 (B,), the class explained for each image.
        n_classes: how many classes the model tells apart.
    """

    activations: Tensor
    gradients: Tensor
    classes: Tensor
    n_classes: int


def find_layer(model: nn.Module, layer: nn.Module | str | None) -> nn.Module | None:
    """The layer meant by a module or a dotted name; None stays None, once the model is known to hold a convolution.

    Raises:
        UnknownName: no layer has that name.
        MriscopeError: the module is no part of the model, or None was asked of a model without a convolution.
    """
    if isinstance(layer, str):
        named = dict(model.named_modules(remove_duplicate=False))
        if layer not in named:
            raise UnknownName("layer", layer, filter(None, named))
        return named[layer]
    if layer is None and not any(isinstance(module, _CONVOLUTIONS) for module in model.modules()):
        raise MriscopeError(_NO_CONVOLUTION)
    if layer is not None and all(module is not layer for module in model.modules()):
        raise MriscopeError(
            f"the layer {type(layer).__name__} is no part of the model; pass one of its own modules or a dotted name"
        )
    return layer


def last_convolution(model: nn.Module, images: Tensor) -> nn.Module:
    """The convolution that ran last; those on pooled values (squeeze-excite, heads) give no map and do not count.

    Raises:
        MriscopeError: no convolution gives a map of more than one place.
    """
    owner = threading.get_ident()
    heard: list[nn.Module] = []

    def listen(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        if threading.get_ident() == owner and output.ndim == images.ndim and output[0, 0].numel() > 1:
            heard.append(module)

    convolutions = [module for module in model.modules() if isinstance(module, _CONVOLUTIONS)]
    handles = [module.register_forward_hook(listen) for module in convolutions]
    try:
        with torch.no_grad():
            model(_on_device(model, images[:1]))
    finally:
        for handle in handles:
            handle.remove()
    if not heard:
        raise MriscopeError(_NO_CONVOLUTION)
    return heard[-1]


def gather_evidence(model: nn.Module, layer: nn.Module, images: Tensor, classes: Tensor | None) -> Evidence:
    """Run a batch forward, and backward only as far down as the layer; no parameter's gradient is touched.

    Args:
        images: float (B, C, H, W) or (B, C, D, H, W).
        classes: int64 (B,), or None for the class each image is given by the model.

    Raises:
        MriscopeError: the model gives no logits, lacks a class, or does not use the layer; the layer gives no map.
    """
    images = _on_device(model, images)
    for only_behind in (True, False):
        activations, logits = _listen(model, layer, images, only_behind)
        if logits.requires_grad:  # else the model switched gradients off behind the layer: record the whole pass
            break
    chosen = _chosen(classes, logits)
    score = logits.gather(1, chosen[:, None]).sum()
    gradients = torch.autograd.grad(score, activations, allow_unused=True)[0] if score.requires_grad else None
    if gradients is None:
        raise MriscopeError(f"no logit depends on layer {_name(model, layer)!r}; choose a layer on the way to them")
    return Evidence(activations.detach().float(), gradients.float(), chosen, logits.shape[1])


def lay_over(maps: Tensor, size: torch.Size) -> Tensor:
    """Maps (B, h, w) or (B, d, h, w) resized to the images' H, W or D, H, W, linearly and thus without overshoot."""
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return F.interpolate(maps[:, None], size=size, mode=mode, align_corners=False)[:, 0]


@dataclass
class _Loan:
    """How a module was before the first of its borrowers came."""

    training: bool
    compiled: Callable[..., Any] | None
    borrowers: int = 0


_lent: dict[nn.Module, _Loan] = {}
_counting = threading.Lock()


@contextmanager
def borrowed(model: nn.Module) -> Iterator[None]:
    """The model in eval mode and run eagerly, then each module as it was; threads may borrow one model together.

    The modes come back when the last borrower leaves: the first to leave must not switch dropout on for the others.
    """
    modules = list(model.modules())
    with _counting:
        for module in modules:
            _lent.setdefault(module, _Loan(module.training, module._compiled_call_impl)).borrowers += 1
            _set(module, False, None)
    try:
        yield
    finally:
        with _counting:
            for module in modules:
                loan = _lent[module]
                loan.borrowers -= 1
                if not loan.borrowers:
                    _set(module, loan.training, loan.compiled)
                    del _lent[module]


def _set(module: nn.Module, training: bool, compiled: Callable[..., Any] | None) -> None:
    # The flag, not train(): networks override train() to freeze or merge parts, which could not be taken back.
    module.training = training
    if module._compiled_call_impl is not compiled:  # what compile() left; it would run past hooks added after it
        module._compiled_call_impl = compiled


def _on_device(model: nn.Module, images: Tensor) -> Tensor:
    """The images where the model is; as a copy where autograd could not save them."""
    weights = list(chain(model.parameters(), model.buffers()))
    if any(weight.is_inference() for weight in weights):
        raise MriscopeError(
            "the model's weights were made under torch.inference_mode(), where nothing can be differentiated; "
            "build or load the model outside it"
        )
    images = images.to(weights[0].device) if weights else images
    return images.clone() if images.is_inference() else images


def _listen(model: nn.Module, layer: nn.Module, images: Tensor, only_behind: bool) -> tuple[Tensor, Tensor]:
    """Activations and logits; where the layer runs several times, its last run counts.

    Args:
        only_behind: record for the backward pass from the layer on, which spares the memory of all that lies before.
    """
    owner = threading.get_ident()
    heard: list[Tensor] = []

    def listen(_module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
        if threading.get_ident() != owner:
            return None  # another thread's call of the same model
        heard.append(_checked(output, images, model, layer).detach().requires_grad_())
        torch.set_grad_enabled(True)
        return heard[-1].clone()  # an in-place operation behind the layer must not reach the kept activations

    with layer.register_forward_hook(listen), torch.set_grad_enabled(not only_behind):
        logits = model(images)
    if not heard:
        raise MriscopeError(f"layer {_name(model, layer)!r} did not run on these images; choose one that does")
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        raise MriscopeError(
            f"the model gives {_shape(logits)}; an explanation needs its logits, one row of classes for each image"
        )
    return heard[-1], logits


def _checked(output: Any, images: Tensor, model: nn.Module, layer: nn.Module) -> Tensor:
    fits = isinstance(output, Tensor) and output.is_floating_point() and output.ndim == images.ndim
    if not fits or len(output) != len(images):
        raise MriscopeError(
            f"layer {_name(model, layer)!r} gives {_shape(output)}; a map needs floats with {images.ndim} axes, "
            f"one row for each of the {len(images)} images"
        )
    if output[0, 0].numel() == 1:
        raise MriscopeError(
            f"layer {_name(model, layer)!r} gives one value per channel, which shows no place; choose one before it"
        )
    return output


def _chosen(classes: Tensor | None, logits: Tensor) -> Tensor:
    if classes is None:
        return logits.argmax(1)
    outside = classes[(classes < 0) | (classes >= logits.shape[1])]
    if len(outside):
        raise MriscopeError(
            f"class {int(outside[0])} cannot be explained: the model has {logits.shape[1]} classes, counted from 0"
        )
    return classes.to(logits.device, torch.int64, copy=True)  # a copy, as autograd cannot save an inference tensor


def _name(model: nn.Module, layer: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if module is layer)


def _shape(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
