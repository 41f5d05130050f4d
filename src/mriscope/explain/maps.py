"""From a model and images to maps: all methods share one forward pass and its gradients."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mriscope.errors import ArgumentError, ArgumentTypeError, UnknownNameError, check_type
from mriscope.explain.cams import CAMS, map_of
from mriscope.explain.layers import Layer, Reshape, find_layers
from mriscope.explain.methods import METHODS, PIXEL_METHODS, PixelMethod, check_method
from mriscope.explain.model_state import eval_mode, move_to_model
from mriscope.explain.postprocess import FUSIONS, apply_exponents, postprocess, resize_maps
from mriscope.explain.probes import Probes
from mriscope.explain.records import ForwardRecord, LayerRecord, record_forward
from mriscope.explain.scores import (
    Score,
    at_least_float32,
    check_logits,
    choose_classes,
    count_classes,
    predicted_classes,
)

Classes = int | Sequence[int] | Sequence[Sequence[int]] | np.ndarray | Tensor

_SCALES = (0.9, 1.0, 1.1)
_AT_ONCE = 2  # images whose maps are made together, few enough for what methods share to stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Explanation:
    """The maps of one method for a batch.

    Args:
        maps: float32 (B, H, W), or (B, D, H, W) for volumes; (B, M, ...) where M classes of each image were given.
        classes: int64 (B,) or (B, M), the class explained.
        logits: float32 (B, K), the model's output.
        reasons: for each image, or each of its M classes in turn, why the map is empty; None where it is not.
        layers: names of the layers that were used; none for methods on the whole network.
    """

    maps: Tensor
    classes: Tensor
    logits: Tensor
    reasons: tuple[str | None, ...]
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Settings:
    """How maps are computed; the arguments of explain."""

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
    """Compute maps of several methods from one forward pass; gradients are taken once for all that use them.

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
        reshape: reads a layer's output as (B, C, h, w); None where it is that, or where tokens can be recognised.
        normalise: stretch each map from 0 to 1. Otherwise maps are what the method's formula gives, after ReLU,
            resized.
        exponents: one positive number for each of the K classes; a normalised map is raised to its class's, as the
            reference study does (study_exponents).
        eigen_smooth: take the first principal component of the channels' shares in a map in place of their sum.
        flip_smooth: mean of the maps of the image and its mirror image, each times 0.9, 1 and 1.1.
        chunk: how many images, or changed images, run at once; the maps do not depend on it. None takes 16 on a CPU,
            whose cache they then suit, and 64 elsewhere.

    Returns:
        An Explanation for each method, on the model's device; normalised maps are in [0, 1], and empty (all zero)
        where no place is evidence for the class more than another.

    Raises:
        UnknownNameError: no such method, layer or fusion.
        ArgumentError: images, classes or exponents do not fit each other or the model.
        ArgumentTypeError: the model is no PyTorch module, or images is no tensor.
        MriscopeError: a layer gives no map, no gradient passes through the model, or a map is not finite.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4))
        >>> found = explain(model, torch.rand(2, 1, 32, 32), ["gradcam", "hirescam"], classes=[0, 3])
        >>> {name: tuple(one.maps.shape) for name, one in found.items()}
        {'gradcam': (2, 32, 32), 'hirescam': (2, 32, 32)}
    """
    check_type("model", model, nn.Module, "a PyTorch network")
    model = getattr(model, "_orig_mod", model)  # a compiled model is explained by its original
    _check(images, methods, fuse, exponents, normalise, chunk)
    requested = _requested_classes(classes, len(images))
    if not len(images):
        nothing = torch.zeros_like(images[:, 0], dtype=torch.float32)
        return {
            name: Explanation(nothing, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 0), ()) for name in methods
        }
    with torch.inference_mode(False), eval_mode(model):
        first = move_to_model(model, images[:1])
        chunk = chunk or (16 if first.device.type == "cpu" else 64)
        layers = find_layers(model, layer, first) if any(map(_uses_layers, methods)) else []
        powers = None if exponents is None else tuple(exponents)
        settings = _Settings(tuple(methods), layers, fuse, reshape, normalise, powers, eigen_smooth, chunk)
        compute = _smooth_over_flips if flip_smooth else compute_maps
        parts: list[dict[str, Explanation]] = []
        for start in range(0, len(images), chunk):
            rows = slice(start, start + chunk)
            some = None if requested is None else requested[rows]
            parts.append(compute(model, settings, move_to_model(model, images[rows]), some))
    one_each = classes is None or _as_tensor(classes).ndim < 2
    named = {one: name for name, one in model.named_modules()}
    names = tuple(named[one] for one in layers)
    return {
        name: _join([part[name] for part in parts], one_each, names if _uses_layers(name) else ()) for name in methods
    }


def compute_maps(
    model: nn.Module, settings: _Settings, images: Tensor, requested: Tensor | None
) -> dict[str, Explanation]:
    """Compute one chunk's maps (B, M, ...) by every method, from one forward pass."""
    pixel_methods = {name: PIXEL_METHODS[name] for name in settings.methods if name in PIXEL_METHODS}
    cams = [name for name in {*settings.methods, *(one.times for one in pixel_methods.values())} if name in CAMS]
    forward = None
    if cams:
        record = any(CAMS[name].gradients for name in cams)
        forward = record_forward(model, settings.layers, images, record=record, reshape=settings.reshape)
        logits = forward.logits.detach().float()
    else:
        with torch.no_grad():
            logits = check_logits(model(images), images).float()
    if requested is None:
        chosen = predicted_classes(logits)[:, None]
    else:
        chosen = choose_classes(requested.reshape(-1), logits).reshape(requested.shape)
    found: dict[str, list[tuple[Tensor, list[str | None]]]] = {name: [] for name in settings.methods}
    probes = [] if forward is None else _probes(forward, images, settings.chunk)
    for classes in chosen.T:
        raws = {} if forward is None else _cam_maps(forward, cams, classes, probes, settings)
        for name, one in pixel_methods.items():
            maps = _pixel_maps(model, one, images, classes, raws, settings)
            raws[name] = [maps], lambda _row: "no pixel is evidence for the class"
        for name in settings.methods:
            maps, reasons = postprocess(*raws[name], images.shape[2:], settings.fuse, settings.normalise)
            if settings.exponents is not None:
                maps = apply_exponents(maps, classes, settings.exponents, count_classes(logits))
            found[name].append((maps, reasons))
    return {
        name: Explanation(
            torch.stack([maps for maps, _ in columns], dim=1),
            chosen,
            logits,
            tuple(reason for row in zip(*[reasons for _, reasons in columns], strict=True) for reason in row),
        )
        for name, columns in found.items()
    }


def _uses_layers(method: str) -> bool:
    return method in CAMS or PIXEL_METHODS[method].times is not None


def _pixel_maps(
    model: nn.Module,
    method: PixelMethod,
    images: Tensor,
    classes: Tensor,
    raws: Mapping[str, Any],
    settings: _Settings,
) -> Tensor:
    """Compute the raw map of a method on the whole network, (B, H, W)."""
    found = method.make(model, images, classes, chunk=settings.chunk).detach().float()
    found = found.abs() if method.magnitude else found
    found = found.sum(1) if found.ndim == images.ndim else found
    if method.times is None:
        return found
    cams = [resize_maps(raw.relu(), images.shape[2:]) for raw in raws[method.times][0]]
    return found * FUSIONS[settings.fuse](torch.stack(cams))


def _probes(forward: ForwardRecord, images: Tensor, chunk: int) -> list[Probes]:
    kind = images.device.type
    precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    logits = forward.logits.detach()
    return [
        Probes(forward.model, layer, images, output.detach(), activations, logits, chunk, precision)
        for layer, output, activations in zip(forward.layers, forward.outputs, forward.activations(), strict=True)
    ]


def _cam_maps(
    forward: ForwardRecord, cams: Sequence[str], classes: Tensor, probes: Sequence[Probes], settings: _Settings
) -> dict[str, tuple[list[Tensor], Callable[[int], str]]]:
    """Compute for each method the raw map by each layer, (B, h, w); and say why that of an image would be empty."""
    logits = at_least_float32(forward.logits.detach())
    scores: dict[Score | None, list[str]] = {}
    for name in cams:
        scores.setdefault(CAMS[name].score if CAMS[name].gradients else None, []).append(name)
    raws: dict[str, tuple[list[Tensor], Callable[[int], str]]] = {}
    for score, names in scores.items():
        gradients = None if score is None else forward.gradients(score, classes)
        with torch.no_grad(), torch.autocast(logits.device.type, enabled=False):  # in full, whatever the model's
            by_layer = [
                _layer_maps(names, probe, None if gradients is None else gradients[place], classes, logits, settings)
                for place, probe in enumerate(probes)
            ]
        for name in names:
            raws[name] = [maps[name] for maps in by_layer], partial(reason_if_empty, probes, gradients)
    return raws


def _layer_maps(
    names: Sequence[str],
    probe: Probes,
    gradients: Tensor | None,
    classes: Tensor,
    logits: Tensor,
    settings: _Settings,
) -> dict[str, Tensor]:
    """Compute the raw maps on one layer, a few images at a time."""
    at_once = len(classes) if gradients is None else _AT_ONCE
    blocks: dict[str, list[Tensor]] = {name: [] for name in names}
    for start in range(0, len(classes), at_once):
        rows = slice(start, start + at_once)
        some = None if gradients is None else gradients[rows]
        record = LayerRecord(probe.activations[rows], some, classes[rows], logits[rows], probe)
        for name in names:
            blocks[name].append(map_of(CAMS[name].make(record), record, settings.eigen_smooth))
    return {name: torch.cat(maps) for name, maps in blocks.items()}


def reason_if_empty(probes: Sequence[Probes], gradients: Sequence[Tensor] | None, row: int) -> str:
    """Return why nothing in the map of one image is above 0."""
    if not any(probe.activations[row].any() for probe in probes):
        return "all activations of the layer are 0"
    if gradients is not None and not any(gradient[row].any() for gradient in gradients):
        return "saturated: the gradient of the class is 0 everywhere in the layer"
    return "no positive evidence for the class"


def _smooth_over_flips(
    model: nn.Module, settings: _Settings, images: Tensor, requested: Tensor | None
) -> dict[str, Explanation]:
    """Compute the mean of the maps of six variants of the images, all for the classes of the plain ones."""
    plain = compute_maps(model, settings, images, requested)
    classes = plain[settings.methods[0]].classes
    totals = {name: torch.zeros_like(one.maps) for name, one in plain.items()}
    for flipped in (False, True):
        for scale in _SCALES:
            variant = (images.flip(-1) if flipped else images) * scale
            for name, one in compute_maps(model, settings, variant, classes).items():
                totals[name] += one.maps.flip(-1) if flipped else one.maps
    count = 2 * len(_SCALES)
    return {
        name: Explanation(totals[name] / count, one.classes, one.logits, one.reasons) for name, one in plain.items()
    }


def _join(parts: Sequence[Explanation], one_each: bool, layers: tuple[str, ...]) -> Explanation:
    maps, classes = torch.cat([part.maps for part in parts]), torch.cat([part.classes for part in parts])
    reasons = tuple(reason for part in parts for reason in part.reasons)
    logits = torch.cat([part.logits for part in parts])
    if one_each:
        maps, classes = maps[:, 0], classes[:, 0]
    return Explanation(maps, classes, logits, reasons, layers)


def _check(
    images: Tensor,
    methods: Sequence[str],
    fuse: str,
    exponents: Sequence[float] | None,
    normalise: bool,
    chunk: int | None,
) -> None:
    if isinstance(methods, str) or not methods:
        raise ArgumentError(f"methods is {methods!r}; give a list of names: {', '.join(METHODS)}")
    for method in methods:
        check_method(method)
    if fuse not in FUSIONS:
        raise UnknownNameError("fusion", fuse, FUSIONS)
    needed = "a float tensor (B, C, H, W) or (B, C, D, H, W)"
    if not isinstance(images, Tensor):
        raise ArgumentTypeError(f"images is {type(images).__name__}; an explanation needs {needed}")
    if not (images.ndim in (4, 5) and images.is_floating_point()):
        raise ArgumentError(f"images is {images.dtype} {tuple(images.shape)}; an explanation needs {needed}")
    if chunk is not None and chunk < 1:
        raise ArgumentError(f"chunk is {chunk}; run at least 1 image at once")
    if exponents is not None and not normalise:
        raise ArgumentError("exponents shape normalised maps; leave out exponents or normalise=False")


def _as_tensor(classes: Classes) -> Tensor:
    try:
        return classes if isinstance(classes, Tensor) else torch.tensor(classes)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"classes is {classes!r}; give class numbers, counted from 0") from error


def _requested_classes(classes: Classes | None, count: int) -> Tensor | None:
    """Return the classes of each image, (B, M); checked before anything runs."""
    if classes is None:
        return None
    requested = _as_tensor(classes)
    requested = requested.expand(count) if not requested.ndim else requested
    if requested.shape[:1] != (count,) or requested.ndim > 2 or not all(requested.shape[1:]):
        raise ArgumentError(
            f"classes is of shape {tuple(requested.shape)} for {count} images; give one, or one for each"
        )
    if count and (requested.is_floating_point() or requested.is_complex() or requested.dtype == torch.bool):
        raise ArgumentError(f"classes holds {requested.dtype}; give class numbers, counted from 0")
    return requested.long()[:, None] if requested.ndim == 1 else requested.long()
