"""From a model and images to finished maps: all methods asked for share one forward pass and its gradients."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mriscope.errors import MriscopeError, UnknownName
from mriscope.explain.cams import CAMS, map_of
from mriscope.explain.engine import (
    ChannelsLast,
    Evidence,
    Heard,
    Score,
    borrowed,
    checked_logits,
    chosen_classes,
    count_classes,
    lay_over,
    listen,
    on_device,
    predicted_classes,
)
from mriscope.explain.finishing import FUSIONS, finished, raised
from mriscope.explain.layers import Layer, Reshape, find_layers
from mriscope.explain.methods import METHODS, ON_PIXELS, OnPixels, known_method
from mriscope.explain.probing import Probes, at_least_float32

Classes = int | Sequence[int] | Sequence[Sequence[int]] | np.ndarray | Tensor

_SCALES = (0.9, 1.0, 1.1)
_AT_ONCE = 2  # images whose maps are made together, few enough for what methods share to stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Explanation:
    """What one method says about a batch.

    Args:
        maps: float32 (B, H, W), or (B, D, H, W) for volumes; (B, M, ...) where M classes of each image were asked for.
        classes: int64 (B,) or (B, M), the class explained.
        logits: float32 (B, K), the model's answer.
        reasons: for each image, or each of its M classes in turn, why the map carries nothing; None where it does.
        layers: names of the layers that were listened to; none for methods on the whole network.
    """

    maps: Tensor
    classes: Tensor
    logits: Tensor
    reasons: tuple[str | None, ...]
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Way:
    """How maps are made; the arguments of explain."""

    methods: tuple[str, ...]
    layers: list[nn.Module]
    fuse: str
    reshape: Reshape | None
    normalise: bool
    exponents: tuple[float, ...] | None
    eigen_smooth: bool
    chunk: int


def explain(
    model: nn.Module,
    images: Tensor,
    methods: Sequence[str] = ("gradcam",),
    classes: Classes | None = None,
    *,
    layer: Layer | Sequence[Layer] | None = None,
    fuse: str = "mean",
    reshape: Reshape | None = None,
    normalise: bool = True,
    exponents: Sequence[float] | None = None,
    eigen_smooth: bool = False,
    flip_smooth: bool = False,
    chunk: int | None = None,
) -> dict[str, Explanation]:
    """Maps of several methods from one forward pass; gradients are taken once for all methods that use them.

    The model is explained in eval mode and comes back as it was found: modes, hooks and gradients, also after an
    error. Frozen weights, autocast, torch.no_grad(), torch.inference_mode(), torch.compile and several threads at once
    are all fine.

    Args:
        model: any network from images to logits (B, K).
        images: float (B, C, H, W) or volumes (B, C, D, H, W), scaled as the model was trained, on any device.
        methods: names among METHODS.
        classes: the class to explain: one for all images, one for each, or (B, M) for M of each, which share the
            forward pass; None explains the prediction. A network with one output z has class 1, whose logit is z,
            and class 0, whose logit is -z.
        layer: the layer or layers whose activations count: modules of the model or dotted names. None takes the last
            convolution that has more than one place, or in a transformer the norm before the last attention. Where a
            layer runs several times, its last run counts.
        fuse: "mean" or "max" of the maps of several layers.
        reshape: reads a layer's output as (B, C, h, w); None where it is that, or where tokens can be told.
        normalise: stretch each map from 0 to 1. Otherwise maps are what the method's formula gives, after ReLU,
            resized.
        exponents: one positive number for each of the K classes; a normalised map is raised to its class's, as the
            reference study does (study_exponents).
        eigen_smooth: take the first principal component of the channels' shares in a map in place of their sum.
        flip_smooth: mean of the maps of the image and its mirror image, each times 0.9, 1 and 1.1.
        chunk: how many images, or changed images, run at once; the maps do not depend on it. None takes 16 on a CPU,
            whose cache they then suit, and 64 elsewhere.

    Returns:
        An Explanation for each method, on the model's device; normalised maps are in [0, 1], and all zero where no
        place speaks for the class more than another.

    Raises:
        UnknownName: no such method, layer or fusion.
        MriscopeError: images, classes or exponents do not fit each other or the model, a layer gives no map, or the
            evidence is not finite.
    """
    model = getattr(model, "_orig_mod", model)  # a compiled model is explained by its original
    _check(images, methods, fuse, exponents, normalise, chunk)
    asked = _asked(classes, len(images))
    if not len(images):
        return {name: _nothing(images) for name in methods}
    with torch.inference_mode(False), borrowed(model), ChannelsLast():
        first = on_device(model, images[:1])
        chunk = chunk or (16 if first.device.type == "cpu" else 64)
        layers = find_layers(model, layer, first) if any(map(_listens, methods)) else []
        powers = None if exponents is None else tuple(exponents)
        way = _Way(tuple(methods), layers, fuse, reshape, normalise, powers, eigen_smooth, chunk)
        parts: list[dict[str, Explanation]] = []
        for start in range(0, len(images), chunk):
            rows = slice(start, start + chunk)
            part = on_device(model, images[rows]), None if asked is None else asked[rows]
            parts.append(_smoothed(model, way, *part) if flip_smooth else _look(model, way, *part))
    one_each = classes is None or _plain(classes).ndim < 2
    named = {one: name for name, one in model.named_modules()}
    heard = tuple(named[one] for one in layers)
    return {
        name: _joined([part[name] for part in parts], one_each, heard if _listens(name) else ()) for name in methods
    }


def _look(model: nn.Module, way: _Way, images: Tensor, asked: Tensor | None) -> dict[str, Explanation]:
    """One chunk's maps (B, M, ...) by every method."""
    whole = {name: ON_PIXELS[name] for name in way.methods if name in ON_PIXELS}
    cams = [name for name in {*way.methods, *(one.times for one in whole.values())} if name in CAMS]
    heard = None
    if cams:
        record = any(CAMS[name].gradients for name in cams)
        heard = listen(model, way.layers, images, record=record, reshape=way.reshape)
        logits = heard.logits.detach().float()
    else:
        with torch.no_grad():
            logits = checked_logits(model(images), images).float()
    if asked is None:
        chosen = predicted_classes(logits)[:, None]
    else:
        chosen = chosen_classes(asked.reshape(-1), logits).reshape(asked.shape)
    found: dict[str, list[tuple[Tensor, list[str | None]]]] = {name: [] for name in way.methods}
    probes = [] if heard is None else _probes(heard, images, way.chunk)
    for classes in chosen.T:
        made = {} if heard is None else _cam_maps(heard, cams, classes, probes, way)
        for name, one in whole.items():
            made[name] = [_on_pixels(model, one, images, classes, made, way)], _no_pixel
        for name in way.methods:
            maps, reasons = finished(*made[name], images.shape[2:], way.fuse, way.normalise)
            shaped = maps if way.exponents is None else raised(maps, classes, way.exponents, count_classes(logits))
            found[name].append((shaped, reasons))
    return {
        name: Explanation(
            torch.stack([maps for maps, _ in columns], dim=1),
            chosen,
            logits,
            tuple(reason for row in zip(*[reasons for _, reasons in columns], strict=True) for reason in row),
        )
        for name, columns in found.items()
    }


def _listens(method: str) -> bool:
    """Whether a method needs the activations of a layer."""
    return method in CAMS or ON_PIXELS[method].times is not None


def _on_pixels(
    model: nn.Module, method: OnPixels, images: Tensor, classes: Tensor, made: Mapping[str, Any], way: _Way
) -> Tensor:
    """The raw map of a method on the whole network, (B, H, W)."""
    found = method.make(model, images, classes, chunk=way.chunk).detach().float()
    found = found.abs() if method.magnitude else found
    found = found.sum(1) if found.ndim == images.ndim else found
    if method.times is None:
        return found
    raws = [lay_over(raw.relu(), images.shape[2:]) for raw in made[method.times][0]]
    return found * FUSIONS[way.fuse](torch.stack(raws))


def _no_pixel(_row: int) -> str:
    return "no pixel speaks for the class"


def _probes(heard: Heard, images: Tensor, chunk: int) -> list[Probes]:
    kind = images.device.type
    precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    return [
        Probes(heard.model, layer, images, output.detach(), activations, heard.logits.detach(), chunk, precision)
        for layer, output, activations in zip(heard.layers, heard.outputs, heard.activations(), strict=True)
    ]


def _cam_maps(
    heard: Heard, cams: Sequence[str], classes: Tensor, probes: Sequence[Probes], way: _Way
) -> dict[str, tuple[list[Tensor], Callable[[int], str]]]:
    """For each method the raw map by each layer, (B, h, w); and what it means if that of an image carries nothing."""
    logits = at_least_float32(heard.logits.detach())
    scores = {CAMS[name].score for name in cams if CAMS[name].gradients}
    slopes: dict[Score | None, list[Tensor]] = {score: heard.gradients(score, classes) for score in scores}
    slopes[None] = [probe.activations for probe in probes]  # stands in where a method needs none
    made: dict[str, tuple[list[Tensor], Callable[[int], str]]] = {}
    with torch.no_grad(), torch.autocast(logits.device.type, enabled=False):  # in full precision, whatever the model's
        for score, gradients in slopes.items():
            names = [name for name in cams if (CAMS[name].score if CAMS[name].gradients else None) is score]
            at_once = len(classes) if score is None else _AT_ONCE
            for name, maps in _by_blocks(names, gradients, classes, logits, probes, way.eigen_smooth, at_once).items():
                made[name] = maps, partial(_meaning, probes, gradients)
    return made


def _by_blocks(
    names: Sequence[str],
    gradients: Sequence[Tensor],
    classes: Tensor,
    logits: Tensor,
    probes: Sequence[Probes],
    eigen_smooth: bool,
    at_once: int,
) -> dict[str, list[Tensor]]:
    """The raw maps by each layer, a few images at a time."""
    made: dict[str, list[Tensor]] = {name: [] for name in names}
    for probe, slopes in zip(probes, gradients, strict=True):
        blocks: dict[str, list[Tensor]] = {name: [] for name in names}
        for start in range(0, len(classes), at_once):
            rows = slice(start, start + at_once)
            evidence = Evidence(probe.activations[rows], slopes[rows], classes[rows], logits[rows], probe)
            for name in names:
                blocks[name].append(map_of(CAMS[name].make(evidence), evidence, eigen_smooth))
        for name in names:
            made[name].append(torch.cat(blocks[name]))
    return made


def _meaning(probes: Sequence[Probes], gradients: Sequence[Tensor], row: int) -> str:
    """Why nothing speaks for the class of one image."""
    if not any(probe.activations[row].any() for probe in probes):
        return "the layer is silent: all its activations are 0"
    if not any(slopes[row].any() for slopes in gradients):
        return "saturated: no gradient of the class reaches the layer"
    return "no positive evidence for the class"


def _smoothed(model: nn.Module, way: _Way, images: Tensor, asked: Tensor | None) -> dict[str, Explanation]:
    """As _look, with the mean of the maps of six variants of the images, all for the classes of the plain ones."""
    plain = _look(model, way, images, asked)
    classes = plain[way.methods[0]].classes
    totals = {name: torch.zeros_like(one.maps) for name, one in plain.items()}
    for flipped in (False, True):
        for scale in _SCALES:
            variant = (images.flip(-1) if flipped else images) * scale
            for name, one in _look(model, way, variant, classes).items():
                totals[name] += one.maps.flip(-1) if flipped else one.maps
    count = 2 * len(_SCALES)
    return {
        name: Explanation(totals[name] / count, one.classes, one.logits, one.reasons) for name, one in plain.items()
    }


def _joined(parts: Sequence[Explanation], one_each: bool, layers: tuple[str, ...]) -> Explanation:
    maps, classes = torch.cat([part.maps for part in parts]), torch.cat([part.classes for part in parts])
    reasons = tuple(reason for part in parts for reason in part.reasons)
    logits = torch.cat([part.logits for part in parts])
    if one_each:
        maps, classes = maps[:, 0], classes[:, 0]
    return Explanation(maps, classes, logits, reasons, layers)


def _nothing(images: Tensor) -> Explanation:
    empty = torch.zeros_like(images[:, 0], dtype=torch.float32)
    return Explanation(empty, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 0), ())


def _check(
    images: Tensor,
    methods: Sequence[str],
    fuse: str,
    exponents: Sequence[float] | None,
    normalise: bool,
    chunk: int | None,
) -> None:
    if isinstance(methods, str) or not methods:
        raise MriscopeError(f"methods is {methods!r}; give a list of names: {', '.join(METHODS)}")
    for method in methods:
        known_method(method)
    if fuse not in FUSIONS:
        raise UnknownName("fusion", fuse, FUSIONS)
    fits = isinstance(images, Tensor) and images.ndim in (4, 5) and images.is_floating_point()
    if not fits:
        found = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise MriscopeError(f"images is {found}; an explanation needs a float tensor (B, C, H, W) or (B, C, D, H, W)")
    if chunk is not None and chunk < 1:
        raise MriscopeError(f"chunk is {chunk}; run at least 1 image at once")
    if exponents is not None and not normalise:
        raise MriscopeError("exponents shape normalised maps; leave out exponents or normalise=False")


def _plain(classes: Classes) -> Tensor:
    try:
        return classes if isinstance(classes, Tensor) else torch.tensor(classes)
    except (TypeError, ValueError, RuntimeError) as error:
        raise MriscopeError(f"classes is {classes!r}; give class numbers, counted from 0") from error


def _asked(classes: Classes | None, count: int) -> Tensor | None:
    """The classes of each image, (B, M); checked before anything runs."""
    if classes is None:
        return None
    asked = _plain(classes)
    asked = asked.expand(count) if not asked.ndim else asked
    if asked.shape[:1] != (count,) or asked.ndim > 2 or not all(asked.shape[1:]):
        raise MriscopeError(f"classes is of shape {tuple(asked.shape)} for {count} images; give one, or one for each")
    if count and (asked.is_floating_point() or asked.is_complex() or asked.dtype == torch.bool):
        raise MriscopeError(f"classes holds {asked.dtype}; give class numbers, counted from 0")
    return asked.long()[:, None] if asked.ndim == 1 else asked.long()
