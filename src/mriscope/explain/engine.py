"""The engine under every class activation map: listens to layers, asks for gradients, and hands the model back.

A method is one function from Evidence to channel weights or maps; hooks, modes, threads, precision and resizing are
settled here.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mriscope.errors import MriscopeError
from mriscope.explain.layers import Reshape, own_reshape
from mriscope.explain.probing import Probes, at_least_float32

_WITHOUT_GRADIENTS = "eigencam, scorecam, ablationcam and occlusion need no gradients"


@dataclass(frozen=True)
class Evidence:
    """What one layer had to say about a batch, for one class of each image.

    Args:
        activations: float32 (B, C, h, w), or (B, C, d, h, w) for volumes: the layer's output.
        gradients: float32, same shape: slope of each image's score along its activations; of no use where a method did
            not ask for it.
        classes: int64 (B,), the class explained for each image.
        logits: float32 (B, K), the model's answer.
        probes: answers to masked images and to layers that lack a channel, made when they are asked for.
    """

    activations: Tensor
    gradients: Tensor
    classes: Tensor
    logits: Tensor
    probes: Probes | None = None

    @cached_property
    def product(self) -> Tensor:
        """Gradients times activations, which several methods share; same shape."""
        return self.gradients * self.activations

    def of_class(self, logits: Tensor) -> Tensor:
        """Return the explained class's logits among logits (B, C, K); (B, C)."""
        classes = self.classes.repeat_interleave(logits.shape[1])
        return logit(logits.flatten(0, 1), classes).view(logits.shape[:2])


Score = Callable[[Tensor, Tensor], Tensor]
"""From logits (B, K) and classes (B,) to the number of each image whose gradient is taken, (B,)."""


def logit(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the logit of the explained class, (B,).

    A network with one output z, whose sigmoid is the probability of class 1, has the logits -z and z for its two
    classes: what speaks for class 0 is what speaks against class 1.

    Args:
        logits: (B, K).
        classes: int64 (B,), below K, or 0 and 1 where K is 1.
    """
    if logits.shape[1] == 1:
        return logits[:, 0] * (2 * classes - 1)
    return logits.gather(1, classes[:, None])[:, 0]


def probability(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the probability of each image's class, (B,): by softmax, or by sigmoid where there is one output."""
    if logits.shape[1] == 1:
        return logit(logits, classes).sigmoid()
    return logits.softmax(1).gather(1, classes[:, None])[:, 0]


def predicted_classes(logits: Tensor) -> Tensor:
    """Return the class of the largest logit, int64 (B,); of one output, 1 where it is above 0 and else 0."""
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


def count_classes(logits: Tensor) -> int:
    """Return how many classes logits (B, K) tell apart: K, or two where there is one output."""
    return max(2, logits.shape[1])


@dataclass(frozen=True)
class Heard:
    """One forward pass of a batch: what the layers gave, and the logits.

    Args:
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
        """The outputs as float32 (B, C, h, w) or (B, C, d, h, w)."""
        return [_read(output.detach(), way) for output, way in zip(self.outputs, self.reshapes, strict=True)]

    def gradients(self, score: Score, classes: Tensor) -> list[Tensor]:
        """The gradient of the score along each layer's activations; may be asked again, for other classes.

        Raises:
            MriscopeError: no logit depends on a layer.
        """
        total = score(at_least_float32(self.logits), classes).sum()
        slopes = take_gradients(total, self.outputs, retain_graph=True)
        for layer, slope in zip(self.layers, slopes, strict=True):
            if slope is None:
                name = layer_name(self.model, layer)
                if _logits_follow_layer(self.model, layer, self.images):
                    raise MriscopeError(no_gradient(f"layer {name!r}"))
                raise MriscopeError(f"no logit depends on layer {name!r}; choose a layer on the way to them")
        return [_read(slope, way) for slope, way in zip(slopes, self.reshapes, strict=True) if slope is not None]


def listen(
    model: nn.Module, layers: Sequence[nn.Module], images: Tensor, *, record: bool, reshape: Reshape | None = None
) -> Heard:
    """Run a batch forward; with `record` so that gradients can be asked for, which touch no parameter.

    The pass is recorded from the first of the layers on, which spares the memory and time of all that lies before.

    Args:
        images: float (B, C, H, W) or (B, C, D, H, W), on the model's device.
        reshape: reads a layer's output as (B, C, h, w); None where it is that, or tokens that can be told.

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
        outputs, logits = _hear(model, layers, images, record, only_behind=True)
        if record and not logits.requires_grad:  # the model switched gradients off behind the layer: record it all
            outputs, logits = _hear(model, layers, images, record, only_behind=False)
    reshapes = [
        _checked_reshape(model, layer, output, images, reshape) for layer, output in zip(layers, outputs, strict=True)
    ]
    return Heard(model, images, tuple(layers), tuple(outputs), tuple(reshapes), logits)


@contextmanager
def model_errors(model: nn.Module, images: Tensor) -> Iterator[None]:
    """Say so where a model runs on its images, but not while gradients are recorded; other errors are passed on."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        with torch.no_grad():
            model(images)  # fails by itself where gradients are not the reason
        raise MriscopeError(_not_differentiable(error)) from error


def take_gradients(total: Tensor, inputs: Sequence[Tensor], *, retain_graph: bool = False) -> list[Tensor | None]:
    """Return the gradient of a sum of scores along each input; None where none reaches it.

    Raises:
        MriscopeError: autograd cannot go back through the model.
    """
    recorded = [one for one in inputs if one.requires_grad]
    if not recorded or not total.requires_grad:
        return [None] * len(inputs)
    try:
        found = torch.autograd.grad(total, recorded, allow_unused=True, retain_graph=retain_graph)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise MriscopeError(_not_differentiable(error)) from error
    given = iter(found)
    return [next(given) if one.requires_grad else None for one in inputs]


def no_gradient(place: str) -> str:
    """Return the sentence for a place that logits depend on, and that no gradient reaches."""
    return (
        f"no gradient of the logits reaches {place}, though they depend on it: the model leaves autograd on the way "
        f"(int8 layers, detach(), torch.no_grad(), NumPy, checkpoint(use_reentrant=True)); {_WITHOUT_GRADIENTS}"
    )


def logits_follow(model: nn.Module, images: Tensor) -> bool:
    """Return whether other images get other logits."""
    with torch.no_grad():
        return not torch.equal(model(images), model(_disturbed(images)))


def lay_over(maps: Tensor, size: torch.Size) -> Tensor:
    """Maps (B, h, w) or (B, d, h, w) resized to the images' H, W or D, H, W, linearly and thus without overshoot."""
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return F.interpolate(maps[:, None], size=size, mode=mode, align_corners=False)[:, 0]


@dataclass
class _Loan:
    """How a module was before the first of its borrowers came."""

    training: bool
    compiled: Callable[..., Any] | None
    forward: Callable[..., Any] | None  # of the instance, where torch.compile has wrapped it
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
            if module not in _lent:
                _lent[module] = _Loan(module.training, module._compiled_call_impl, vars(module).get("forward"))
            _lent[module].borrowers += 1
            _set(module, False, None, _eager_forward(module))
    try:
        yield
    finally:
        with _counting:
            for module in modules:
                loan = _lent[module]
                loan.borrowers -= 1
                if not loan.borrowers:
                    _set(module, loan.training, loan.compiled, loan.forward)
                    del _lent[module]


def _set(
    module: nn.Module, training: bool, compiled: Callable[..., Any] | None, forward: Callable[..., Any] | None
) -> None:
    # The flag, not train(): networks override train() to freeze or merge parts, which could not be taken back.
    module.training = training
    if module._compiled_call_impl is not compiled:  # what compile() left; it would run past hooks added after it
        module._compiled_call_impl = compiled
    if forward is not None:
        vars(module)["forward"] = forward
    else:
        vars(module).pop("forward", None)


def _eager_forward(module: nn.Module) -> Callable[..., Any] | None:
    """Return what torch.compile wrapped as the module's forward: compiled code allows one backward pass at most."""
    own = vars(module).get("forward")
    if own is not None:
        return getattr(own, "_torchdynamo_orig_callable", own)
    decorated = getattr(getattr(type(module), "forward", None), "_torchdynamo_orig_callable", None)
    return None if decorated is None else MethodType(decorated, module)


def on_device(model: nn.Module, images: Tensor) -> Tensor:
    """The images where the model is; a copy where autograd could not save them.

    Raises:
        MriscopeError: the model cannot be differentiated.
    """
    weights = list(chain(model.parameters(), model.buffers()))
    if any(weight.is_inference() for weight in weights):
        raise MriscopeError(
            "the model's weights were made under torch.inference_mode(), where nothing can be differentiated; "
            "build or load the model outside it"
        )
    images = images.to(weights[0].device) if weights else images
    return images.clone() if images.is_inference() else images


class ChannelsLast(TorchFunctionMode):
    """Within it, this thread's 2-D convolutions on the CPU work with channels last, which takes them half the time."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.conv2d and len(args) > 1 and args[0].device.type == "cpu":
            image, weight, *rest = args
            image = image.contiguous(memory_format=torch.channels_last)
            if weight.shape[1] == 1:  # an image of one channel is in either order, so its filters have to tell
                weight = weight.clone(memory_format=torch.channels_last)
            args = image, weight, *rest
        if func is torch.Tensor.view and not args[0].is_contiguous():
            size = args[1:] or ((kwargs or {}).get("size"),)  # None where a dtype is named
            if not isinstance(size[0], torch.dtype | None):
                return args[0].reshape(*size)  # what was contiguous without this mode has a view
        return func(*args, **(kwargs or {}))


def chosen_classes(classes: Tensor | None, logits: Tensor) -> Tensor:
    """The classes asked for, or the predicted ones: int64, one row for each of the logits' rows.

    Raises:
        MriscopeError: the model lacks a class.
    """
    if classes is None:
        return predicted_classes(logits)
    count = count_classes(logits)
    outside = classes[(classes < 0) | (classes >= count)]
    if len(outside):
        raise MriscopeError(
            f"class {int(outside[0])} cannot be explained: the model has {count} classes, counted from 0"
        )
    return classes.to(logits.device, torch.int64, copy=True)  # a copy, as autograd cannot save an inference tensor


def checked_logits(logits: Any, images: Tensor) -> Tensor:
    """What a model gave, where that is one row of classes for each image.

    Raises:
        MriscopeError: it gave something else.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        raise MriscopeError(
            f"the model gives {_shape(logits)}; an explanation needs its logits, one row of classes for each image"
        )
    return logits


def layer_name(model: nn.Module, layer: nn.Module) -> str:
    """The dotted name of a module of the model."""
    return next(name for name, module in model.named_modules() if module is layer)


def _hear(
    model: nn.Module, layers: Sequence[nn.Module], images: Tensor, record: bool, only_behind: bool
) -> tuple[list[Tensor], Tensor]:
    """Outputs and logits; where a layer runs several times, its last run counts."""
    owner = threading.get_ident()
    heard: dict[nn.Module, Tensor] = {}

    def hear(module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
        if threading.get_ident() != owner:
            return None  # another thread's call of the same model
        if not isinstance(output, Tensor) or not output.is_floating_point():
            raise MriscopeError(_no_map(model, module, output, images))
        if record:
            torch.set_grad_enabled(True)
        heard[module] = output if output.requires_grad else output.detach().requires_grad_(record)
        return heard[module].clone()  # an in-place operation behind the layer must not reach the kept activations

    handles = [layer.register_forward_hook(hear) for layer in dict.fromkeys(layers)]
    try:
        with torch.set_grad_enabled(record and not only_behind):
            logits = model(images)
    finally:
        for handle in handles:
            handle.remove()
    for layer in layers:
        if layer not in heard:
            name = layer_name(model, layer)
            raise MriscopeError(f"layer {name!r} did not run on these images; choose one that does")
    return [heard[layer] for layer in layers], checked_logits(logits, images)


def _read(output: Tensor, reshape: Reshape | None) -> Tensor:
    return at_least_float32(output if reshape is None else reshape(output))


def _checked_reshape(
    model: nn.Module, layer: nn.Module, output: Tensor, images: Tensor, reshape: Reshape | None
) -> Reshape | None:
    """The given way to read an output, or one found by itself, if it gives a map."""
    way = reshape or own_reshape(layer, output, images)
    try:
        read = _read(output[:1].detach(), way)
    except (IndexError, RuntimeError, ValueError) as error:
        name = layer_name(model, layer)
        raise MriscopeError(f"reshape does not fit layer {name!r}, which gives {_shape(output)}: {error}") from error
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
        f"layer {layer_name(model, layer)!r} gives {_shape(output)}; a map needs floats with {images.ndim} axes, "
        f"one row for each of the {len(images)} images"
    )


def _logits_follow_layer(model: nn.Module, layer: nn.Module, images: Tensor) -> bool:
    def disturb(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return _disturbed(output)

    with torch.no_grad():
        whole = model(images)
        with layer.register_forward_hook(disturb):
            return not torch.equal(whole, model(images))


def _disturbed(values: Tensor) -> Tensor:
    """Return values with noise as large as they are, so that no later layer can fail to see a change by symmetry."""
    noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(0)).to(values)
    return values + noise * (1 + values.abs())


def _not_differentiable(error: RuntimeError) -> str:
    first = str(error).strip().split("\n")[0].rstrip(".")
    return f"the model runs, but gradients cannot be taken through it ({first}); {_WITHOUT_GRADIENTS}"


def _shape(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
