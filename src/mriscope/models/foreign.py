"""Weights that other programs saved: read without running anything, and matched to the names of a network here."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

import torch
from safetensors.torch import load_file
from torch import Tensor

from mriscope.errors import DataError
from mriscope.files import check_archive

LOG = logging.getLogger("mriscope")

Weights = Mapping[str, Tensor]
Signature = tuple[tuple[str, torch.Size], ...]

_SHOWN = 20
_REMEDY = "save it with torch.save(model.state_dict(), ...) and use that file"
# Where training programs put weights within a checkpoint; the first that is there is taken.
_ENTRIES = ("model_state_dict", "state_dict", "model", "net", "network", "module", "weights", "params")
_DEPTH = 3  # of entries within entries
# What DataParallel, torch.compile, AveragedModel, and modules that hold the network put before every name.
_PREFIXES = ({"module"}, {"_orig_mod"}, {"model"}, {"net"}, {"network"})
# Counters of AveragedModel, and those that the profiler thop leaves in every layer.
_COUNTERS = {"n_averaged", "total_ops", "total_params"}


@dataclass(frozen=True)
class Matching:
    """Foreign weights by the names of a network here.

    Attributes:
        weights: by the names of the network here.
        way: "names" where the names decided, "shapes" where kinds and shapes of layers did.
        by_order: foreign layers that share kind and shape with another, so that their order alone distinguishes them.
    """

    weights: dict[str, Tensor]
    way: str
    by_order: tuple[str, ...] = ()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint: tensors alone, so that reading it runs no foreign code.

    Args:
        path: a safetensors file, or a file that torch.save wrote: a state dict, bare or within a dict under a usual
            name such as state_dict, model or net.

    Returns:
        Tensors by name, without counters of profilers and averages, and without what wraps every name, such as the
        "module." of DataParallel and AveragedModel and the "_orig_mod." of torch.compile.

    Raises:
        DataError: the file cannot be read, holds other objects than tensors, no weights at all, or several models.
    """
    try:
        check_archive(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name a file of torch.save") from error
    except ValueError as error:
        raise DataError(f"{path} holds no plain weights ({error}); {_REMEDY}") from error
    try:
        if path.suffix == ".safetensors":
            return _strip_wrappers(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file may fail in any way
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f" (it asks for {named[1]})" if named else ""
        raise DataError(f"{path} holds no plain weights{reason}; nothing in it was run; {_REMEDY}") from error
    weights = _find_weights(content, path)
    if weights is None:
        raise DataError(f"{path} holds no state dict, that is tensors by name; {_REMEDY}")
    return _strip_wrappers(weights)


def _find_weights(content: object, path: Path, depth: int = _DEPTH) -> dict[str, Tensor] | None:
    """Return the state dict that a checkpoint is or holds; None where there is none."""
    if _is_state_dict(content):
        return content
    if not isinstance(content, dict) or depth == 0:
        return None
    for entry in _ENTRIES:
        if weights := _find_weights(content.get(entry), path, depth - 1):
            others = [str(name) for name, value in content.items() if name != entry and _is_state_dict(value)]
            if others:
                LOG.warning("%s holds weights under %s too; those under %s are taken", path, ", ".join(others), entry)
            return weights
    found = {str(name): value for name, value in content.items() if _is_state_dict(value)}
    if len(found) > 1:
        raise DataError(f"{path} holds weights under {', '.join(found)}; save those you mean alone; {_REMEDY}")
    return next(iter(found.values()), None)


def _is_state_dict(content: object) -> TypeGuard[dict[str, Tensor]]:
    """Return whether this is a dict of plain tensors by name: none is sparse, complex, quantized or without content."""
    return (
        isinstance(content, dict)
        and len(content) > 0
        and all(
            isinstance(name, str)
            and isinstance(one, Tensor)
            and one.layout == torch.strided
            and one.device.type == "cpu"
            and not (one.is_complex() or one.is_quantized)
            for name, one in content.items()
        )
    )


def _strip_wrappers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    weights = {name: one for name, one in weights.items() if name.rpartition(".")[2] not in _COUNTERS}
    while {name.partition(".")[0] for name in weights} in _PREFIXES and all("." in name for name in weights):
        weights = {name.partition(".")[2]: one for name, one in weights.items()}
    return weights


def list_differences(found: Weights, needed: Weights) -> list[str]:
    """List in a sentence each name or shape in which weights differ from those a network needs."""
    return [
        *(
            f"{name} is {tuple(found[name].shape)}, the model needs {tuple(one.shape)}"
            for name, one in needed.items()
            if name in found and found[name].shape != one.shape
        ),
        *(f"{name} is missing, the model needs {tuple(needed[name].shape)}" for name in needed if name not in found),
        *(f"{name} is {tuple(found[name].shape)}, the model has no such layer" for name in found if name not in needed),
    ]


def mismatch_error(source: Path, model: str, problems: Sequence[str]) -> DataError:
    """Return the error that lists what keeps the weights of a file out of a model."""
    listed = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
    more = f"\n  ... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return DataError(f"{source} does not hold the weights of {model}:{listed}{more}")


def match_weights(found: Weights, needed: Weights, source: Path, model: str) -> Matching:
    """Find where each foreign weight belongs in a network.

    The names decide where they are the network's own, with or without the first part ("features.conv1.weight" or
    "conv1.weight"). Else kind and shape of the layers do, as far as only one layer has them; layers that share both are
    distinguished by their order, if all layers of that kind come in the same order on both sides.

    Args:
        found: the foreign weights.
        needed: those of the network, as its state_dict gives them.
        source: the file, for the error.
        model: the network's name, for the error.

    Raises:
        DataError: the weights do not fit; names and shapes that differ are listed.
    """
    own = {name: name for name in needed}
    short = {name.partition(".")[2]: name for name in needed}
    candidates = (own, short) if len(short) == len(own) else (own,)  # without its first part, a name may be another's
    known = max(candidates, key=lambda names: len(names.keys() & found.keys()))
    by_name = list_differences(found, {theirs: needed[ours] for theirs, ours in known.items()})
    if not by_name:
        return Matching({ours: found[theirs] for theirs, ours in known.items()}, "names")
    placed = _place_layers(_group_layers(found), _group_layers(needed))
    if placed.problems:
        raise mismatch_error(source, model, by_name if known.keys() & found.keys() else placed.problems)
    weights = {name: found[f"{placed.layers[layer]}.{leaf}"] for name, layer, leaf in _split_names(needed)}
    return Matching(weights, "shapes", tuple(placed.by_order))


@dataclass
class _Placed:
    """Foreign layers by the names of ours, those distinguished by their order alone, and what does not fit."""

    layers: dict[str, str] = field(default_factory=dict)
    by_order: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def _place_layers(theirs: Mapping[str, Signature], ours: Mapping[str, Signature]) -> _Placed:
    """Find for each layer the one with the same kinds and shapes of weights."""
    placed = _Placed()
    for signature in dict.fromkeys((*ours.values(), *theirs.values())):
        there, here = ([name for name, one in layers.items() if one == signature] for layers in (theirs, ours))
        if len(there) != len(here):
            shapes = ", ".join(f"{leaf} {tuple(shape)}" for leaf, shape in signature)
            sides = f"{', '.join(there) or 'no layer'} in the file and {', '.join(here) or 'no layer'} in the model"
            placed.problems.append(f"{shapes}: {sides}")
        elif len(there) > 1 and _same_kind(theirs, signature) != _same_kind(ours, signature):
            placed.problems.append(
                f"{', '.join(there)} have one shape and come in another order than the model's layers"
            )
        else:
            placed.layers.update(zip(here, there, strict=True))
            placed.by_order += there if len(there) > 1 else []
    return placed


def _split_names(weights: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Yield each name, its layer and what it is of the layer, such as weight."""
    for name in weights:
        layer, _, leaf = name.rpartition(".")
        yield name, layer, leaf


def _group_layers(weights: Weights) -> dict[str, Signature]:
    """Return names and shapes of the weights of each layer, layers in the order of their weights."""
    layers: dict[str, list[tuple[str, torch.Size]]] = {}
    for name, layer, leaf in _split_names(weights):
        layers.setdefault(layer, []).append((leaf, weights[name].shape))
    return {layer: tuple(sorted(leaves)) for layer, leaves in layers.items()}


def _same_kind(layers: Mapping[str, Signature], like: Signature) -> list[Signature]:
    """Return the layers with the same kinds of weights, such as all convolutions with a bias, in their order."""
    kind = [(leaf, len(shape)) for leaf, shape in like]
    return [one for one in layers.values() if [(leaf, len(shape)) for leaf, shape in one] == kind]
