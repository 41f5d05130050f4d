"""The part of a model behind a layer, which PyTorch does not have as a module; Ablation-CAM runs it for each channel.

Ablation-CAM of one slice of 1×128×128 at the last convolution, one thread, processor time, medians of three rounds in
turn, 2 cores of an AMD EPYC beside other work (`python3 run.py bench ablation`):

| network | whole model for each channel | only the part behind the layer | gain |
|---|---|---|---|
| baseline_cnn | 0.446 s | 0.117 s | 3.8 × |
| keras_like | 5.968 s | 0.110 s | 54.2 × |
| compact_cnn | 0.016 s | 0.006 s | 2.6 × |
| ResNet-18 | 6.918 s | 0.048 s | 144.0 × |
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map


class ModelTail:
    """The part of a model behind a layer, for one image: from other outputs of the layer to logits.

    The plain way runs the whole model for each output, which a hook puts in the place of the layer's own. The fast way
    runs the model too, but every torch function before the layer returns what it returned the first time, as if for N
    images, so that only what lies behind is computed. It is taken where it reproduces the model's logits; where it does
    not (as where images are cut into windows before the layer that are used behind it), the plain way is.

    Args:
        model: in eval mode.
        layer: the module; where it runs several times, its last run counts.
        image: (1, C, ...).
        output: the layer's output for it.
        replayable: whether the fast way reproduces the model's logits; None finds out.
    """

    def __init__(
        self, model: nn.Module, layer: nn.Module, image: Tensor, output: Tensor, replayable: bool | None = None
    ) -> None:
        self.model, self.layer, self.image = model, layer, image
        log = _CallLog()
        with call_hook(layer, log.mark_layer), log:
            logits = model(image)
        self.calls, self.runs = log.calls[: log.calls_at_layer], log.runs
        self.replayable = self._reproduces(output, logits) if replayable is None else replayable

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return logits (N, K) for outputs (N, ...) of the layer, which the model may change in place."""
        return self._replay(outputs) if self.replayable else self._run_whole(outputs)

    def _run_whole(self, outputs: Tensor) -> Tensor:
        images = self.image.repeat(len(outputs), *[1] * (self.image.ndim - 1))
        with call_hook(self.layer, lambda run: outputs if run == self.runs - 1 else None):
            return self.model(images)

    def _replay(self, outputs: Tensor) -> Tensor:
        replay = _Replay(self.calls, self.runs, len(outputs))
        images = replay.expand(self.image)
        with call_hook(self.layer, lambda run: replay.substitute_output(run, outputs)), replay:
            return self.model(images)

    def _reproduces(self, output: Tensor, logits: Tensor) -> bool:
        try:
            again = self._replay(repeat_output(output, 2))
        except Exception:  # whatever a model does with tensors that are not of one batch, the plain way does not
            return False
        allowed = torch.finfo(logits.dtype).eps ** 0.5 * logits.abs().max()  # another batch size rounds otherwise
        return again.shape == (2, logits.shape[1]) and bool(((again - logits).abs() <= allowed).all())


def repeat_output(output: Tensor, count: int) -> Tensor:
    """Return an output (1, ...) repeated, in its own memory format, which decides how fast pooling is."""
    last = output.ndim == 4 and output.is_contiguous(memory_format=torch.channels_last)
    memory_format = torch.channels_last if last else torch.contiguous_format
    return output.expand(count, *output.shape[1:]).clone(memory_format=memory_format)


def call_hook(layer: nn.Module, on_run: Callable[[int], Tensor | None]) -> Any:
    """Register a hook that calls on_run with the number of each run of the layer in this thread.

    Returns:
        the hook's handle, a context that removes it; what on_run returns takes the place of the layer's output.
    """
    owner, run = threading.get_ident(), -1

    def hook(_module: nn.Module, _inputs: Any, _output: Any) -> Tensor | None:
        nonlocal run
        if threading.get_ident() != owner:
            return None
        run += 1
        return on_run(run)

    return layer.register_forward_hook(hook)


@dataclass
class _Call:
    """A torch function and what it returned."""

    function: Any
    result: Any


class _CallLog(TorchFunctionMode):
    """Within it, every torch function of this thread is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self.runs = self.calls_at_layer = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append(_Call(func, result))
        return result

    def mark_layer(self, run: int) -> None:
        self.runs, self.calls_at_layer = run + 1, len(self.calls)


class _Replay(TorchFunctionMode):
    """Within it, torch functions return what the log holds, as if for N images, up to the layer; then they compute."""

    def __init__(self, calls: list[_Call], runs: int, count: int) -> None:
        super().__init__()
        self.calls, self.runs, self.count = calls, runs, count
        self.place, self.behind = 0, False
        self.views: dict[int, Tensor] = {}
        self.copies: dict[int, tuple[Tensor, Tensor | None]] = {}

    def substitute_output(self, run: int, outputs: Tensor) -> Tensor | None:
        self.behind = run == self.runs - 1
        return outputs if self.behind else None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.behind:
            args, kwargs = tree_map(self._copy, (tuple(args), kwargs))
            return func(*args, **kwargs)
        logged = self.calls[self.place]
        if func != logged.function:
            raise RuntimeError("the model called other functions than before")
        self.place += 1
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(logged.result)):
            return tree_map(self.expand, logged.result)
        return func(*args, **kwargs)  # a size, say, which is that of N images

    def expand(self, value: Any) -> Any:
        """Return what belongs to one image N times, without a copy."""
        if not isinstance(value, Tensor) or not value.ndim or len(value) != 1:
            return value
        if id(value) not in self.views:
            view = value.expand(self.count, *value.shape[1:])
            self.views[id(value)] = view
            self.copies[id(view)] = view, None
        return self.views[id(value)]

    def _copy(self, value: Any) -> Any:
        """Return a copy of an expanded tensor, one for each, as it may be changed in place."""
        if not isinstance(value, Tensor) or id(value) not in self.copies:
            return value
        view, copy = self.copies[id(value)]
        copy = view.clone(memory_format=torch.contiguous_format) if copy is None else copy
        self.copies[id(value)] = view, copy
        return copy
