"""What a model answers when images are masked, or when a layer lacks a channel; no gradient is needed for either."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

_FEW_VALUES = 2**22  # of outputs that may always run at once; 16 MiB
_FAR = 1e7  # how far below its minimum a channel is set that could be negative, as Ablation-CAM's peers have it


@dataclass(frozen=True)
class Probes:
    """Answers to changed inputs of one layer, made when first asked for and then kept for every class.

    Args:
        model: in eval mode.
        layer: the module.
        images: (B, C, ...), on the model's device.
        output: the layer's output for them, as the model holds it.
        activations: the same, read as float32 (B, C, h, w) or (B, C, d, h, w).
        logits: (B, K), the answer to the images as they are.
        chunk: how many changed inputs run at once; more outputs of a layer, where those are small.
        precision: the dtype of the autocast under which the model answers; None without one.
    """

    model: nn.Module
    layer: nn.Module
    images: Tensor
    output: Tensor
    activations: Tensor
    logits: Tensor
    chunk: int
    precision: torch.dtype | None = None

    @cached_property
    def masked(self) -> Tensor:
        """Logits for each image under the mask of each channel; float32 (B, C, K).

        A mask is the channel resized to the image, from 0 to 1. Those of channels without contrast are 0 everywhere,
        and share one pass.
        """
        with self._as_called():
            return torch.stack([self._masked(*pair) for pair in zip(self.images, self.activations, strict=True)])

    @cached_property
    def ablated(self) -> Tensor:
        """Logits for each image where the layer lacks one channel; float32 (B, C, K).

        Only the part behind the layer runs. Lacking is 0 where the image's activations reach down to 0, else 1e7 below
        their minimum.
        """
        with self._as_called():
            replayable = None
            answers: list[Tensor] = []
            for row in range(len(self.images)):
                behind = Behind(
                    self.model, self.layer, self.images[row : row + 1], self.output[row : row + 1], replayable
                )
                replayable = behind.replayable  # a matter of the model, so the first image tells
                answers.append(self._ablated(row, behind))
            return torch.stack(answers)

    @contextmanager
    def _as_called(self) -> Iterator[None]:
        kind = self.images.device.type
        with torch.no_grad(), torch.autocast(kind, self.precision, enabled=self.precision is not None):
            yield

    def _masked(self, image: Tensor, maps: Tensor) -> Tensor:
        flat = maps.flatten(1)
        lively = (flat.amax(1) > flat.amin(1)).nonzero()[:, 0]
        answers = self.nothing.expand(len(maps), -1).clone()
        for channels in lively.split(self.chunk):
            answers[channels] = self._answer(image[None] * _masks(maps[channels], image.shape[1:])[:, None])
        return answers

    @cached_property
    def nothing(self) -> Tensor:
        """Logits for an image of zeros; float32 (1, K)."""
        return self._answer(torch.zeros_like(self.images[:1]))

    def _answer(self, images: Tensor) -> Tensor:
        return at_least_float32(self.model(images.to(self.images.dtype)))

    def _ablated(self, row: int, behind: "Behind") -> Tensor:
        output = self.output[row : row + 1]
        # Channels are the second axis of maps, and the last one of what is reshaped to them.
        axis = 1 if output.shape[1:] == self.activations.shape[1:] else output.ndim - 1
        low = output.min()
        lacking = torch.where(low == 0, low, low - _FAR)
        lively = (output.movedim(axis, 0).flatten(1) != lacking).any(1).nonzero()[:, 0]  # the others change nothing
        answers = at_least_float32(self.logits[row]).expand(output.shape[axis], -1).clone()
        for channels in lively.split(max(self.chunk, _FEW_VALUES // output.numel())):
            without = _many(output, len(channels))
            without.movedim(axis, 1)[torch.arange(len(channels)), channels] = lacking
            answers[channels] = at_least_float32(behind(without))
        return answers


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision in full; float64 as it is."""
    return values.float() if values.itemsize < 4 else values


def _many(output: Tensor, count: int) -> Tensor:
    """An output (1, ...) so many times, in its own order of memory, which decides how fast pooling is."""
    last = output.ndim == 4 and output.is_contiguous(memory_format=torch.channels_last)
    order = torch.channels_last if last else torch.contiguous_format
    return output.expand(count, *output.shape[1:]).clone(memory_format=order)


def _masks(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Channels (N, h, w) resized to the image and stretched from 0 to 1 each."""
    mode = "bilinear" if len(size) == 2 else "trilinear"
    masks = F.interpolate(maps[:, None], size=tuple(size), mode=mode, align_corners=True)[:, 0]
    axes = tuple(range(1, masks.ndim))
    low = masks.amin(axes, keepdim=True)
    return (masks - low) / (masks.amax(axes, keepdim=True) - low + 1e-8)


class Behind:
    """The part of a model behind a layer, for one image: from other outputs of the layer to logits.

    PyTorch has no such part as a module. The model runs again, but every torch function before the layer gives what it
    gave the first time, as if for N images, so that only what lies behind costs anything. If that does not reproduce
    the model's answer (as where images are cut into windows before the layer that are used behind it), the whole model
    runs, and only costs more.

    Args:
        model: in eval mode.
        layer: the module; where it runs several times, its last run counts.
        image: (1, C, ...).
        output: the layer's output for it.
        replayable: whether that reproduces the model's answer; None finds out.
    """

    def __init__(
        self, model: nn.Module, layer: nn.Module, image: Tensor, output: Tensor, replayable: bool | None = None
    ) -> None:
        self.model, self.layer, self.image = model, layer, image
        log = _Log()
        with _spoken(layer, log.mark), log:
            logits = model(image)
        self.log = log.until_the_layer()
        self.replayable = self._reproduces(output, logits) if replayable is None else replayable

    def __call__(self, outputs: Tensor) -> Tensor:
        """Logits (N, K) for outputs (N, ...) of the layer, which the model may change in place."""
        return self._replay(outputs) if self.replayable else self._run(outputs)

    def _reproduces(self, output: Tensor, logits: Tensor) -> bool:
        try:
            again = self._replay(_many(output, 2))
        except Exception:  # whatever a model does with tensors that are not of one batch, the whole pass does not
            return False
        allowed = torch.finfo(logits.dtype).eps ** 0.5 * logits.abs().max()  # another batch size rounds otherwise
        return again.shape == (2, logits.shape[1]) and bool(((again - logits).abs() <= allowed).all())

    def _replay(self, outputs: Tensor) -> Tensor:
        replay = _Replay(self.log, len(outputs))
        images = replay.as_if_many(self.image)
        with _spoken(self.layer, lambda run: replay.hand_over(run, outputs)), replay:
            return self.model(images)

    def _run(self, outputs: Tensor) -> Tensor:
        last = self.log.runs - 1
        with _spoken(self.layer, lambda run: outputs if run == last else None):
            return self.model(self.image.repeat(len(outputs), *[1] * (self.image.ndim - 1)))


def _spoken(layer: nn.Module, say: Callable[[int], Tensor | None]) -> Any:
    """A hook, as a context, that calls say with the number of each run of the layer in this thread."""
    owner, run = threading.get_ident(), -1

    def hook(_module: nn.Module, _inputs: Any, _output: Any) -> Tensor | None:
        nonlocal run
        if threading.get_ident() != owner:
            return None
        run += 1
        return say(run)

    return layer.register_forward_hook(hook)


@dataclass
class _Calls:
    """Torch functions up to the last run of the layer, and what each gave."""

    calls: list[tuple[Any, Any]]
    runs: int


class _Log(TorchFunctionMode):
    """Notes every torch function of this thread, and what it gave."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any]] = []
        self.runs = self.at_layer = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, result))
        return result

    def mark(self, run: int) -> None:
        self.runs, self.at_layer = run + 1, len(self.calls)

    def until_the_layer(self) -> _Calls:
        return _Calls(self.calls[: self.at_layer], self.runs)


class _Replay(TorchFunctionMode):
    """Gives again what a log holds, as if for N images, until the layer has spoken; then calls."""

    def __init__(self, log: _Calls, count: int) -> None:
        super().__init__()
        self.log, self.count = log, count
        self.place, self.behind = 0, False
        self.views: dict[int, Tensor] = {}
        self.copies: dict[int, tuple[Tensor, Tensor | None]] = {}

    def hand_over(self, run: int, outputs: Tensor) -> Tensor | None:
        self.behind = run == self.log.runs - 1
        return outputs if self.behind else None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.behind:
            args, kwargs = tree_map(self._copied, (tuple(args), kwargs))
            return func(*args, **kwargs)
        expected, result = self.log.calls[self.place]
        if func != expected:
            raise RuntimeError("the model took another way than before")
        self.place += 1
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            return tree_map(self.as_if_many, result)
        return func(*args, **kwargs)  # a size, say, which is that of N images

    def as_if_many(self, value: Any) -> Any:
        """What belongs to one image, N times without a copy."""
        if not isinstance(value, Tensor) or not value.ndim or len(value) != 1:
            return value
        if id(value) not in self.views:
            view = value.expand(self.count, *value.shape[1:])
            self.views[id(value)] = view
            self.copies[id(view)] = view, None
        return self.views[id(value)]

    def _copied(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or id(value) not in self.copies:
            return value
        view, copy = self.copies[id(value)]
        copy = view.clone(memory_format=torch.contiguous_format) if copy is None else copy
        self.copies[id(value)] = view, copy  # one for each tensor, which may be changed in place
        return copy
