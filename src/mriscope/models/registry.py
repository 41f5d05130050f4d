"""Create and list models by name. A model's name is the name of the function that makes it."""

import importlib
import inspect
import pkgutil
import reprlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

import mriscope.models
from mriscope.errors import MriscopeError, RecipeError, UnknownNameError, check_type
from mriscope.models.names import TIMM, ModelSummary, check_option_names
from mriscope.models.registration import Estimator, makers, register, register_estimator

__all__ = [
    "Estimator",
    "ModelSummary",
    "count_macs",
    "count_parameters",
    "create_model",
    "list_estimators",
    "list_models",
    "register",
    "register_estimator",
]

INPUT_SIZE = 128
_KINDS: dict[Any, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (int, float)}
_KIND_NAMES = {bool: "true or false", int: "a whole number", float: "a number"}
_MOST_PARAMETERS = 2_000_000_000  # 8 GB of weights, and three times as much to train them


def create_model(
    name: str,
    *,
    classes: int = 4,
    size: int = INPUT_SIZE,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    pretrained: bool = True,
) -> nn.Module:
    """Create a new model by its name.

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
        UnknownNameError: no model has this name; the message names the near ones.
        RecipeError: the model has no such option, or no such value of it.
        ArgumentTypeError: the name is no text.

    Example:
        >>> model = create_model("compact_cnn", classes=2, options={"dropout": 0.1}, seed=0)
        >>> model(torch.zeros(1, 1, 128, 128)).shape
        torch.Size([1, 2])
    """
    check_type("name", name, str, "the name of a model, such as one that list_models gives")
    maker = _find_maker(name)
    known = dict(inspect.signature(maker).parameters)
    for given in ("classes", "size", "pretrained"):
        known.pop(given, None)
    check_option_names(name, options or {}, known)
    for option, value in (options or {}).items():
        kind = known[option].annotation
        if kind in _KINDS and (not isinstance(value, _KINDS[kind]) or isinstance(value, bool) != (kind is bool)):
            raise RecipeError(
                f"model_options.{option}", [f"is {reprlib.repr(value)}; {name} takes {_KIND_NAMES[kind]}"]
            )
    if options and not name.startswith(TIMM):
        _check_size(name, partial(_make, maker, pretrained=False, classes=classes, size=size, **options))
    with torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        try:
            model = _make(maker, pretrained=pretrained, classes=classes, size=size, **(options or {}))
            if options and not isinstance(model, Estimator):
                _try(model, classes, size)
        except Exception as error:  # options reach functions that may refuse them in any way
            if isinstance(error, MriscopeError) or not options:
                raise
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise RecipeError("model_options", [f"{name} refuses them: {reason}"]) from error
    return model.to(memory_format=torch.channels_last)


def check_model(name: str) -> None:
    """Refuse the name of a model that does not exist, without making one.

    Raises:
        UnknownNameError: the message names the near ones.
    """
    if not name.startswith(TIMM):
        _find_maker(name)


def list_models() -> list[ModelSummary]:
    """Summarise every registered network, in alphabetical order.

    Example:
        >>> [one.parameters for one in list_models() if one.name == "compact_cnn"]
        [61300]
    """
    _import_models()
    return [_summarise(name, maker) for name, maker in makers(estimators=False).items()]


def list_estimators() -> list[str]:
    """Return the names of the estimators, which are fitted in closed form, in alphabetical order."""
    _import_models()
    return list(makers(estimators=True))


def count_parameters(model: nn.Module) -> int:
    """Count the parameters of a model, frozen ones included."""
    return sum(weights.numel() for weights in model.parameters())


def count_macs(model: nn.Module, size: int = INPUT_SIZE) -> int | None:
    """Count the multiply-accumulate operations of convolutions and linear layers for one slice of size×size.

    Returns:
        The count; None for an Estimator, which takes no batch of slices.
    """
    if isinstance(model, Estimator):
        return None
    from torch.utils.flop_counter import FlopCounterMode  # it imports a compiler

    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 1, size, size, device=device))
    return counter.get_total_flops() // 2


def _import_models() -> None:
    """Import every module of this package, as importing one registers its models."""
    for file in pkgutil.iter_modules(mriscope.models.__path__):
        importlib.import_module(f"mriscope.models.{file.name}")


def _find_maker(name: str) -> Callable[..., nn.Module]:
    if name.startswith(TIMM):
        from mriscope.models.pretrained import timm_model

        return partial(timm_model, name.removeprefix(TIMM))
    _import_models()
    known = makers(estimators=False) | makers(estimators=True)
    if name not in known:
        raise UnknownNameError("model", name, known)
    return known[name]


def _check_size(name: str, make: Callable[[], nn.Module]) -> None:
    """Refuse a network that options make too large for any machine, before its weights take memory."""
    try:
        with torch.device("meta"):  # shapes without memory or arithmetic
            parameters = count_parameters(make())
    except Exception:  # what cannot be made without weights is tried with them
        return
    if parameters > _MOST_PARAMETERS:
        problem = f"{name} would have {parameters:,} parameters, at most {_MOST_PARAMETERS:,} are taken"
        raise RecipeError("model_options", [problem])


def _try(model: nn.Module, classes: int, size: int) -> None:
    """Predict two blank slices, as some options fail only then; the model stays as it is."""
    training, device = model.training, next(model.parameters()).device
    with torch.no_grad():
        logits = model.eval()(torch.zeros(2, 1, size, size, device=device))
    model.train(training)
    if logits.shape != (2, classes):
        raise ValueError(f"its output for two slices has the shape {tuple(logits.shape)}")


def _make(maker: Callable[..., nn.Module], *, pretrained: bool, **arguments: Any) -> nn.Module:
    """Call a maker; only those that can begin with trained weights know the argument `pretrained`."""
    if not pretrained and "pretrained" in inspect.signature(maker).parameters:
        arguments["pretrained"] = False
    return maker(**arguments)


def _summarise(name: str, maker: Callable[..., nn.Module]) -> ModelSummary:
    with torch.device("meta"):  # shapes without memory or arithmetic
        model = _make(maker, pretrained=False, classes=4, size=INPUT_SIZE).eval()
    about = (maker.__doc__ or "").strip().split("\n")[0]
    return ModelSummary(name, count_parameters(model), count_macs(model) or 0, about)
