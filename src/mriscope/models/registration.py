"""Registration of networks and estimators by name; imports no model, so that every model's module can import it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

import numpy as np
from torch import nn

from mriscope.errors import ArgumentError

if TYPE_CHECKING:
    from mriscope.data.slices import SliceSet

Maker = TypeVar("Maker", bound=Callable[..., nn.Module])


@runtime_checkable
class Estimator(Protocol):
    """A model that is fitted in closed form, not by gradient steps; its buffers hold what it learned."""

    def fit(self, slices: "SliceSet", seed: int) -> None:
        """Learn from slices; equal seeds learn the same."""
        ...

    def predict_probabilities(self, slices: "SliceSet") -> np.ndarray:
        """Return float32 (N, K), the class probabilities of each slice; each row sums to 1."""
        ...


@dataclass(frozen=True)
class _Entry:
    make: Callable[..., nn.Module]
    is_estimator: bool


_entries: dict[str, _Entry] = {}  # a registry has to be filled while modules are imported; nothing else writes to it


def register(maker: Maker) -> Maker:
    """Register a network by the name of the function that makes it; its docstring's first line is its summary.

    Args:
        maker: takes the keywords classes and size, and any options with defaults; returns a module from float32
            (B, 1, size, size) to logits (B, classes).

    Raises:
        ArgumentError: the name is taken.

    Example::

        @register
        def one_layer(*, classes: int = 4, size: int = 128) -> nn.Module:
            'A linear layer on all pixels.'
            return nn.Sequential(nn.Flatten(), nn.Linear(size**2, classes))
    """
    return _add(maker, is_estimator=False)


def register_estimator(maker: Maker) -> Maker:
    """Register an Estimator by the name of the function that makes it; otherwise as `register`."""
    return _add(maker, is_estimator=True)


def makers(*, estimators: bool) -> dict[str, Callable[..., nn.Module]]:
    """Return the functions that make networks, or those that make estimators, by name in alphabetical order."""
    return {name: one.make for name, one in sorted(_entries.items()) if one.is_estimator == estimators}


def _add(maker: Maker, *, is_estimator: bool) -> Maker:
    name = maker.__name__
    if name in _entries and _entries[name].make is not maker:
        home = _entries[name].make.__module__
        raise ArgumentError(f"the model name {name!r} is taken by {home}; give your function another name")
    _entries[name] = _Entry(maker, is_estimator)
    return maker
