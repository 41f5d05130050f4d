"""What layers gave in one forward pass, and the gradients of a class's score along it; works on any PyTorch model."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from mriscope.errors import MriscopeError
from mriscope.explain.gradients import check_layer_unused, model_errors, take_gradients
from mriscope.explain.layers import Reshape, find_reshape
from mriscope.explain.probes import Probes
from mriscope.explain.scores import Score, at_least_float32, check_logits, describe, logit


@dataclass(frozen=True)
class LayerRecord:
    """Activations and gradients of one layer for a batch, and one class of each image.

    Args:
        activations: float32 (B, C, h, w), or (B, C, d, h, w) for volumes: the layer's output.
        gradients: float32, same shape: of each image's score along its activations; None where no method uses them.
        classes: int64 (B,), the class explained for each image.
        logits: float32 (B, K), the model's output.
        probes: logits of masked images and of outputs that lack a channel, computed when they are first used.
    """

    activations: Tensor
    gradients: Tensor | None
    classes: Tensor
    logits: Tensor
    probes: Probes | None = None

    @property
    def gradient(self) -> Tensor:
        """Return the gradients, for a method that declares that it uses them."""
        assert self.gradients is not None
        return self.gradients

    @cached_property
    def product(self) -> Tensor:
        """Return gradients times activations, which several methods share; same shape."""
        return self.gradient * self.activations

    def of_class(self, logits: Tensor) -> Tensor:
        """Return the explained class's logits among logits (B, C, K); (B, C)."""
        classes = self.classes.repeat_interleave(logits.shape[1])
        return logit(logits.flatten(0, 1), classes).view(logits.shape[:2])


@dataclass(frozen=True)
class ForwardRecord:
    """One forward pass of a batch: what the layers gave, and the logits.

    Args:
        model: in eval mode.
        images: the batch.
        layers: the modules.
        outputs: what each gave, as the model holds it.
        reshapes: how each output is read as (B, C, h, w); None where it is that already.
        logits: (B, K).
    """

    model: nn.Module
    images: Tensor
    layers: tuple[nn.Module, ...]
    outputs: tuple[Tensor, ...]
    reshapes: tuple[Reshape | None, ...]
    logits: Tensor

    def activations(self) -> list[Tensor]:
        """Return the outputs as float32 (B, C, h, w) or (B, C, d, h, w)."""
        return [_read(output.detach(), way) for output, way in zip(self.outputs, self.reshapes, strict=True)]

    def gradients(self, score: Score, classes: Tensor) -> list[Tensor]:
        """Return the gradient of the score along each layer's activations; may be called again, for other classes.

        Raises:
            MriscopeError: no gradient reaches a layer; whether the logits depend on it is said.
        """
        total = score(at_least_float32(self.logits), classes).sum()
        found: list[Tensor] = []
        given = take_gradients(total, self.outputs, retain_graph=True)
        for layer, way, gradient in zip(self.layers, self.reshapes, given, strict=True):
            if gradient is None:
                name = layer_name(self.model, layer)
                check_layer_unused(self.model, layer, name, self.images)
                raise MriscopeError(f"no logit depends on layer {name!r}; choose a layer on the way to them")
            found.append(_read(gradient, way))
        return found


def record_forward(
    model: nn.Module, layers: Sequence[nn.Module], images: Tensor, *, record: bool, reshape: Reshape | None = None
) -> ForwardRecord:
    """Run a batch forward; with `record` so that gradients can be taken, which touch no parameter.

    The pass is recorded from the first of the layers on, which spares the memory and time of all that lies before.

    Args:
        model: in eval mode.
        layers: modules of it.
        images: float (B, C, H, W) or (B, C, D, H, W), on the model's device.
        record: whether gradients will be taken.
        reshape: reads a layer's output as (B, C, h, w); None where it is that, or tokens that can be recognised.

    Raises:
        MriscopeError: the model gives no logits, or does not run a layer; a layer gives no map.
    """
    for layer in layers:
        if isinstance(layer, torch.jit.ScriptModule):
            raise MriscopeError(
                f"layer {layer_name(model, layer)!r} is part of a TorchScript program, whose layers cannot be "
                "observed; explain the model that the program was made from"
            )
    with model_errors(model, images):
        outputs, logits = _run(model, layers, images, record, only_behind=True)
        if record and not logits.requires_grad:  # the model switched gradients off behind the layer: record it all
            outputs, logits = _run(model, layers, images, record, only_behind=False)
    reshapes = [
        _check_reshape(model, layer, output, images, reshape) for layer, output in zip(layers, outputs, strict=True)
    ]
    return ForwardRecord(model, images, tuple(layers), tuple(outputs), tuple(reshapes), logits)


def layer_name(model: nn.Module, layer: nn.Module) -> str:
    """Return the dotted name of a module of the model."""
    return next(name for name, module in model.named_modules() if module is layer)


def _run(
    model: nn.Module, layers: Sequence[nn.Module], images: Tensor, record: bool, only_behind: bool
) -> tuple[list[Tensor], Tensor]:
    """Return outputs and logits; where a layer runs several times, its last run counts."""
    owner = threading.get_ident()
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
        if threading.get_ident() != owner:
            return None  # another thread's call of the same model
        if not isinstance(output, Tensor) or not output.is_floating_point():
            raise MriscopeError(_no_map(model, module, output, images))
        if record:
            torch.set_grad_enabled(True)
        outputs[module] = output if output.requires_grad else output.detach().requires_grad_(record)
        return outputs[module].clone()  # an in-place operation behind the layer must not reach the kept activations

    handles = [layer.register_forward_hook(keep) for layer in dict.fromkeys(layers)]
    try:
        with torch.set_grad_enabled(record and not only_behind):
            logits = model(images)
    finally:
        for handle in handles:
            handle.remove()
    for layer in layers:
        if layer not in outputs:
            name = layer_name(model, layer)
            raise MriscopeError(f"layer {name!r} did not run on these images; choose one that does")
    return [outputs[layer] for layer in layers], check_logits(logits, images)


def _read(output: Tensor, reshape: Reshape | None) -> Tensor:
    return at_least_float32(output if reshape is None else reshape(output))


def _check_reshape(
    model: nn.Module, layer: nn.Module, output: Tensor, images: Tensor, reshape: Reshape | None
) -> Reshape | None:
    """Return the given way to read an output, or one found automatically, if it gives a map."""
    way = reshape or find_reshape(layer, output, images)
    try:
        read = _read(output[:1].detach(), way)
    except (IndexError, RuntimeError, ValueError) as error:
        name = layer_name(model, layer)
        raise MriscopeError(f"reshape does not fit layer {name!r}, which gives {describe(output)}: {error}") from error
    if read.ndim != images.ndim or len(output) != len(images):
        raise MriscopeError(_no_map(model, layer, output, images))
    if read[0, 0].numel() == 1:
        raise MriscopeError(
            f"layer {layer_name(model, layer)!r} gives one value per channel, which shows no place; "
            "choose one before it"
        )
    return way


def _no_map(model: nn.Module, layer: nn.Module, output: Any, images: Tensor) -> str:
    return (
        f"layer {layer_name(model, layer)!r} gives {describe(output)}; a map needs floats with {images.ndim} axes, "
        f"one row for each of the {len(images)} images"
    )
