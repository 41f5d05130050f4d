"""Weights that other programs saved: read without running anything, and matched to the names of a network here."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mriscope.errors import DataError

Weights = Mapping[str, Tensor]
Signature = tuple[tuple[str, torch.Size], ...]

_SHOWN = 20
_REMEDY = "save it with torch.save(model.state_dict(), ...) and import that file"
_WRAPPED = ("model_state_dict", "state_dict")
_WRAPPERS = ({"module"}, {"_orig_mod"})  # what DataParallel and torch.compile put before every name


@dataclass(frozen=True)
class Matching:
    """Which of the foreign weights belongs where.

    Attributes:
        weights: by the names of the network here.
        way: "names" where the names decided, "shapes" where they said nothing.
        by_order: foreign layers that share kind and shape with another, so that their order alone told them apart.
    """

    weights: dict[str, Tensor]
    way: str
    by_order: tuple[str, ...] = ()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The weights of a PyTorch checkpoint: tensors alone, so that reading it runs no foreign code.

    Args:
        path: a file that torch.save wrote of a state dict, bare or within a dict as model_state_dict or state_dict.

    Returns:
        tensors by name, without the "module." of DataParallel and the "_orig_mod." of torch.compile.

    Raises:
        DataError: the file cannot be read, holds other objects than tensors, or no weights at all.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name a file of torch.save") from error
    except Exception as error:  # what somebody made to do harm may fail in any way
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f" (it asks for {named[1]})" if named else ""
        raise DataError(f"{path} holds no plain weights{reason}; nothing in it was run; {_REMEDY}") from error
    weights = next((content[key] for key in _WRAPPED if isinstance(content, dict) and key in content), content)
    if not isinstance(weights, dict) or not weights or not all(_is_weight(*item) for item in weights.items()):
        raise DataError(f"{path} holds no state dict, that is tensors by name; {_REMEDY}")
    return _unwrapped(weights)


def differences(found: Weights, needed: Weights) -> list[str]:
    """One sentence for each name or shape in which weights differ from those a network needs; none where they fit."""
    return [
        *(
            f"{name} is {tuple(found[name].shape)}, the model needs {tuple(one.shape)}"
            for name, one in needed.items()
            if name in found and found[name].shape != one.shape
        ),
        *(f"{name} is missing, the model needs {tuple(needed[name].shape)}" for name in needed if name not in found),
        *(f"{name} is {tuple(found[name].shape)}, the model has no such layer" for name in found if name not in needed),
    ]


def no_fit(source: Path, model: str, problems: Sequence[str]) -> DataError:
    """The error that lists what keeps the weights of a file out of a model."""
    listed = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
    more = f"\n  ... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return DataError(f"{source} does not hold the weights of {model}:{listed}{more}")


def match(found: Weights, needed: Weights, source: Path, model: str) -> Matching:
    """Find the place of each foreign weight in a network.

    The names decide where they are the network's own, with or without the first part ("features.conv1.weight" or
    "conv1.weight"). Where they say nothing, kind and shape of the layers do, as far as only one layer has them; layers
    that share both are told apart by their order, if all layers of that kind come in the same order on both sides.

    Args:
        found: the foreign weights.
        needed: those of the network, as its state_dict gives them.
        source: the file, for the error.
        model: the network's name, for the error.

    Raises:
        DataError: the weights do not fit; names and shapes that differ are listed.
    """
    known = max((_own_names(needed), _short_names(needed)), key=lambda names: len(names.keys() & found.keys()))
    by_name = differences(found, {theirs: needed[ours] for theirs, ours in known.items()})
    if not by_name:
        return Matching({ours: found[theirs] for theirs, ours in known.items()}, "names")
    placed = _place(_layers(found), _layers(needed))
    if placed.problems:
        raise no_fit(source, model, by_name if known.keys() & found.keys() else placed.problems)
    weights = {name: found[f"{placed.layers[layer]}.{leaf}"] for name, layer, leaf in _split_names(needed)}
    return Matching(weights, "shapes", tuple(placed.by_order))


def _own_names(needed: Weights) -> dict[str, str]:
    return {name: name for name in needed}


def _short_names(needed: Weights) -> dict[str, str]:
    """Names without their first part; empty where two would become one."""
    short = {name.partition(".")[2]: name for name in needed}
    return short if len(short) == len(needed) else {}


@dataclass
class _Placed:
    """Foreign layers by the names of ours, those told apart by their order alone, and what speaks against it all."""

    layers: dict[str, str] = field(default_factory=dict)
    by_order: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def _place(theirs: Mapping[str, Signature], ours: Mapping[str, Signature]) -> _Placed:
    """Find for each layer the one of the same kinds and shapes of weights."""
    placed = _Placed()
    for signature in dict.fromkeys((*ours.values(), *theirs.values())):
        there, here = ([name for name, one in layers.items() if one == signature] for layers in (theirs, ours))
        if len(there) != len(here):
            shapes = ", ".join(f"{leaf} {tuple(shape)}" for leaf, shape in signature)
            sides = f"{', '.join(there) or 'no layer'} in the file and {', '.join(here) or 'no layer'} in the model"
            placed.problems.append(f"{shapes}: {sides}")
        elif len(there) > 1 and _of_kind(theirs, signature) != _of_kind(ours, signature):
            placed.problems.append(
                f"{', '.join(there)} have one shape and come in another order than the model's layers"
            )
        else:
            placed.layers.update(zip(here, there, strict=True))
            placed.by_order += there if len(there) > 1 else []
    return placed


def _split_names(weights: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Each name, its layer and what it is of the layer, such as weight."""
    for name in weights:
        layer, _, leaf = name.rpartition(".")
        yield name, layer, leaf


def _layers(weights: Weights) -> dict[str, Signature]:
    """Names and shapes of the weights of each layer, layers in the order of their weights."""
    layers: dict[str, list[tuple[str, torch.Size]]] = {}
    for name, layer, leaf in _split_names(weights):
        layers.setdefault(layer, []).append((leaf, weights[name].shape))
    return {layer: tuple(sorted(leaves)) for layer, leaves in layers.items()}


def _of_kind(layers: Mapping[str, Signature], like: Signature) -> list[Signature]:
    """The layers with the same kinds of weights, such as all convolutions with a bias, in their order."""
    return [one for one in layers.values() if _kind(one) == _kind(like)]


def _kind(signature: Signature) -> list[tuple[str, int]]:
    return [(leaf, len(shape)) for leaf, shape in signature]


def _is_weight(name: object, one: object) -> bool:
    """Whether this is a plain tensor with a name: no sparse, complex or quantized one, and none without content."""
    if not (isinstance(name, str) and isinstance(one, Tensor)):
        return False
    return one.layout == torch.strided and one.device.type == "cpu" and not (one.is_complex() or one.is_quantized)


def _unwrapped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    while {name.partition(".")[0] for name in weights} in _WRAPPERS:
        weights = {name.partition(".")[2]: one for name, one in weights.items()}
    return weights
