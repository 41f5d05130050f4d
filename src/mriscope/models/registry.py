"""The networks by name. A model's name is the name of the function that makes it."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mriscope.models
from mriscope.errors import RecipeError, UnknownName, suggest

if TYPE_CHECKING:
    from mriscope.data.slices import SliceSet

Maker = TypeVar("Maker", bound=Callable[..., nn.Module])
INPUT_SIZE = 128
TIMM = "timm:"
_NO_OPTIONS = {"classes", "size", "pretrained"}

_makers: dict[str, Callable[..., nn.Module]] = {}
_estimators: dict[str, Callable[..., nn.Module]] = {}


def register(maker: Maker) -> Maker:
    """Make a model known by the name of the function that makes it; its docstring's first line is what it is about."""
    _makers[maker.__name__] = maker
    return maker


@runtime_checkable
class Estimator(Protocol):
    """A model that is fitted in one go, not by gradient steps; its buffers hold what it learned."""

    def fit(self, slices: "SliceSet", seed: int) -> None:
        """Learn from slices; equal seeds learn the same."""
        ...

    def probabilities(self, slices: "SliceSet") -> np.ndarray:
        """float32 (N, K) of slices; each row sums to 1."""
        ...


def register_estimator(maker: Maker) -> Maker:
    """Make an Estimator known by the name of the function that makes it; it has no card, as it has no weights."""
    _estimators[maker.__name__] = maker
    return maker


def list_estimators() -> list[str]:
    """The names of the models that are fitted in one go, in alphabetical order."""
    _known_makers()
    return sorted(_estimators)


def create_model(
    name: str,
    *,
    classes: int = 4,
    size: int = INPUT_SIZE,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    pretrained: bool = True,
) -> nn.Module:
    """A new network by its name.

    Args:
        name: one that list_models or list_estimators gives, or any of timm's behind "timm:", as in timm:convnext_tiny.
        classes: number of outputs.
        size: height and width of its input in pixels.
        options: further arguments of the function that makes it.
        seed: of the first weights; None takes torch's own stream.
        pretrained: False leaves weights random that the model would else begin with, and reads no file and no hub: for
            a model that is filled later.

    Returns:
        A module from float32 (B, 1, size, size) to logits (B, classes), with the parts features, pool and head; or
        an Estimator. Weights lie channels-last.

    Raises:
        UnknownName: no model has this name; the message names the near ones.
        RecipeError: the model has no such option, or no such value of it.
    """
    maker = _maker(name)
    _check_options(name, maker, options or {})
    with torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        model = maker(classes=classes, size=size, **(options or {}), **_unfilled(maker, pretrained))
    return model.to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model without training it.

    Attributes:
        name: as recipes write it.
        parameters: count of all weights.
        macs: multiply-accumulate operations for one slice of 128×128.
        about: one sentence.
    """

    name: str
    parameters: int
    macs: int
    about: str


def list_models() -> list[ModelCard]:
    """A card for every registered model, in alphabetical order."""
    return [_card(name, maker) for name, maker in sorted(_known_makers().items())]


def count_parameters(model: nn.Module) -> int:
    """How many weights a model has, frozen ones included."""
    return sum(weights.numel() for weights in model.parameters())


def count_macs(model: nn.Module, size: int = INPUT_SIZE) -> int:
    """Multiply-accumulate operations of the convolutions and linear layers for one slice of size×size."""
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 1, size, size, device=device))
    return counter.get_total_flops() // 2


def _known_makers() -> dict[str, Callable[..., nn.Module]]:
    for file in pkgutil.iter_modules(mriscope.models.__path__):
        importlib.import_module(f"mriscope.models.{file.name}")
    return _makers


def _maker(name: str) -> Callable[..., nn.Module]:
    if name.startswith(TIMM):
        from mriscope.models.pretrained import timm_model

        return partial(timm_model, name.removeprefix(TIMM))
    makers = _known_makers() | _estimators
    if name not in makers:
        raise UnknownName("model", name, makers)
    return makers[name]


def _unfilled(maker: Callable[..., nn.Module], pretrained: bool) -> dict[str, bool]:
    """The argument that leaves weights random, for the makers that would fill them."""
    return {} if pretrained or "pretrained" not in inspect.signature(maker).parameters else {"pretrained": False}


def _check_options(name: str, maker: Callable[..., nn.Module], options: Mapping[str, Any]) -> None:
    known = set(inspect.signature(maker).parameters) - _NO_OPTIONS
    for option in options:
        if option not in known:
            hint = suggest(option, known) if known else "it has no options"
            raise RecipeError("model_options", [f"{name} has no option {option!r}; {hint}"])


def _card(name: str, maker: Callable[..., nn.Module]) -> ModelCard:
    with torch.device("meta"):  # shapes without memory or arithmetic
        model = maker(classes=4, size=INPUT_SIZE, **_unfilled(maker, False)).eval()
    about = (maker.__doc__ or "").strip().split("\n")[0]
    return ModelCard(name, count_parameters(model), count_macs(model), about)
