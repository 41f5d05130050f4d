"""A model that can be explained, and that comes back as it was found."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from types import MethodType
from typing import Any

from torch import Tensor, nn

from mriscope.errors import ArgumentError


@dataclass
class _ModuleState:
    """Keep how a module was before the first of its users came."""

    training: bool
    compiled_call: Callable[..., Any] | None  # what Module.compile() left
    forward: Callable[..., Any] | None  # the instance's own, as where torch.compile has wrapped it
    users: int = 0


# The only state of this module: modules in use now, by any thread. The first user to leave must not switch dropout on
# for the others, so users are counted, and where they are counted has to be known to all.
_states: dict[nn.Module, _ModuleState] = {}
_lock = threading.Lock()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode and run it eagerly; then give each module back as it was.

    Threads may use one model together: states come back when the last of them leaves.

    Example:
        >>> from torch import nn
        >>> model = nn.Dropout()
        >>> with eval_mode(model):
        ...     print(model.training)
        False
        >>> model.training
        True
    """
    modules = list(model.modules())
    with _lock:
        for module in modules:
            if module not in _states:
                kept = _ModuleState(module.training, module._compiled_call_impl, vars(module).get("forward"))
                _states[module] = kept
            _states[module].users += 1
            _set(module, False, None, _eager_forward(module))
    try:
        yield
    finally:
        with _lock:
            for module in modules:
                kept = _states[module]
                kept.users -= 1
                if not kept.users:
                    _set(module, kept.training, kept.compiled_call, kept.forward)
                    del _states[module]


def _set(
    module: nn.Module, training: bool, compiled_call: Callable[..., Any] | None, forward: Callable[..., Any] | None
) -> None:
    # The flag, not train(): networks override train() to freeze or merge parts, which could not be taken back.
    module.training = training
    if module._compiled_call_impl is not compiled_call:  # compiled code would run past hooks added after it
        module._compiled_call_impl = compiled_call
    if forward is not None:
        vars(module)["forward"] = forward
    else:
        vars(module).pop("forward", None)


def _eager_forward(module: nn.Module) -> Callable[..., Any] | None:
    """Return what torch.compile has wrapped as the module's forward, as compiled code allows a single backward pass."""
    own = vars(module).get("forward")
    if own is not None:
        return getattr(own, "_torchdynamo_orig_callable", own)
    decorated = getattr(getattr(type(module), "forward", None), "_torchdynamo_orig_callable", None)
    return None if decorated is None else MethodType(decorated, module)


def move_to_model(model: nn.Module, images: Tensor) -> Tensor:
    """Return the images on the model's device; a copy where autograd could not save them.

    Raises:
        ArgumentError: the model cannot be differentiated.
    """
    weights = list(chain(model.parameters(), model.buffers()))
    if any(weight.is_inference() for weight in weights):
        raise ArgumentError(
            "the model's weights were made under torch.inference_mode(), where nothing can be differentiated; "
            "build or load the model outside it"
        )
    images = images.to(weights[0].device) if weights else images
    return images.clone() if images.is_inference() else images
