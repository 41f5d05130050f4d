"""Whether maps depend on what a model learnt: weights become random from the last layer on, and maps are compared."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain, count

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mriscope.errors import ArgumentError
from mriscope.explain.model_state import eval_mode

MakeMaps = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""From a model, images and classes to maps in [0, 1]."""

RULE = (
    "passes where, with all weights random, the maps are nearer to chance than to unchanged: their mean absolute rank "
    "correlation with the original maps is below the middle between 1 and that of the same maps moved to random places"
)

_STAGES = 8
_WINDOW, _SIGMA = 11, 1.5
_MOVES = 8  # random places in each draw, for the level of chance
_FEW = 64  # images from which batch norm takes its statistics


@dataclass(frozen=True)
class Randomisation:
    """The similarity that maps keep while weights become random.

    Args:
        stages: of each stage the layer down to which weights are random, counted from the last.
        ssim: float64 (S, B), between original and new maps; the last row is a mean over draws of the weights.
        rank_correlation: float64 (S, B), absolute Spearman; as ssim.
        chance: float64 (B,), absolute Spearman between the original maps and the last stage's at random places.
        blank: bool (S, B), where a new map has no contrast (of the last stage's draws the first), which counts as a
            rank correlation of 0.
        with_contrast: bool (B,), where the original map has contrast; others do not count for the verdict.
        passes: the verdict by RULE; False where no map counts.
    """

    stages: tuple[str, ...]
    ssim: Tensor
    rank_correlation: Tensor
    chance: Tensor
    blank: Tensor
    with_contrast: Tensor
    passes: bool


def randomise(
    model: nn.Module,
    images: Tensor,
    classes: Tensor,
    explain_maps: MakeMaps,
    *,
    seed: int = 0,
    stages: int | None = None,
    draws: int = 3,
    within: Tensor | None = None,
) -> Randomisation:
    """Run the cascading model-parameter randomisation of Adebayo et al. (2018), on a copy of the model.

    Layers become random in the order opposite to that in which they run. Each is initialised anew by its
    reset_parameters; weights of a layer without one are permuted, which keeps their distribution. The statistics of
    batch norms made random are measured anew on the images: those of the trained weights do not fit random ones, and
    without any the signal of a deep network dies out, after which every method passes.

    The verdict (RULE) takes absolute values, since a map that random weights only turn over still shows the same
    places. Chance is not zero: smooth maps resemble each other by luck, so the same maps are turned over and rolled
    around the image to see how much. SSIM is reported and does not decide, as empty maps share a high one. One draw of
    weights can resemble by luck too, so the last stage is a mean over several.

    Args:
        model: left as it is.
        images: float (B, C, H, W) or (B, C, D, H, W), scaled as the model was trained.
        classes: int64 (B,), the class explained for each image.
        explain_maps: makes maps in [0, 1], (B, H, W) or (B, D, H, W), with the model that it is handed; it names a
            layer by its dotted name, as a module would be the original's.
        seed: of the weights and the places.
        stages: how many, evenly chosen over the layers with weights; the last has all weights random, the first
            (where there are two or more) the last layer's alone. None takes every layer, but 8 stages at most.
        draws: how often all weights are drawn for the last stage.
        within: bool, the shape of the maps: the pixels whose ranks count. Give the brain (localisation.brain_mask):
            where all maps are 0 around it, they agree in that alone. None counts all.

    Raises:
        ArgumentError: there are no images or no weights, stages or draws is below 1, or maps do not fit or are not
            finite.
    """
    if not len(images):
        raise ArgumentError("there are no images; give one at least to compare maps of")
    if draws < 1 or (stages is not None and stages < 1):
        raise ArgumentError(f"stages is {stages} and draws is {draws}; both count from 1")
    copy = deepcopy(getattr(model, "_orig_mod", model))
    layers = _layers_from_last(copy, images)
    # Maps are compared behind these layers; the first of the model is always among them.
    stops = sorted({round(place) for place in np.linspace(len(layers) - 1, 0, min(len(layers), stages or _STAGES))})

    def make(explained: nn.Module) -> Tensor:
        return _check_maps(explain_maps(explained, images, classes), images)

    first = make(model)
    seen = [make(copy) for _ in _cascade(copy, layers, stops, images, seed)]
    last = seen[-1:]
    for draw in range(1, draws):
        last += [make(copy) for _ in _cascade(copy, layers, stops[-1:], images, seed + draw * len(layers))]
    chance = torch.stack([_chance(first, maps, within, seed + draw) for draw, maps in enumerate(last)]).mean(0)
    alike = [ssim(first, maps) for maps in seen[:-1]] + [torch.stack([ssim(first, maps) for maps in last]).mean(0)]
    ranks = [rank_correlation(first, maps, within).abs() for maps in seen[:-1]]
    ranks.append(torch.stack([rank_correlation(first, maps, within).abs() for maps in last]).mean(0))
    with_contrast = _contrast(first, within)
    return Randomisation(
        stages=tuple(layers[stop][0] or "(model)" for stop in stops),
        ssim=torch.stack(alike),
        rank_correlation=torch.stack(ranks),
        chance=chance,
        blank=~torch.stack([_contrast(maps, within) for maps in seen]),
        with_contrast=with_contrast,
        passes=bool(with_contrast.any() and ranks[-1][with_contrast].mean() < (1 + chance[with_contrast].mean()) / 2),
    )


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Compute the structural similarity of maps (Wang et al., 2004), with a Gaussian window of 11 pixels and σ = 1.5.

    Two constant maps have the similarity of their brightness: 1 where they are equal.

    Args:
        a: float (B, H, W) or (B, D, H, W) in [0, 1], 11 pixels at least along each axis.
        b: the same.

    Returns:
        float64 (B,) in [-1, 1], the mean over all places where the window lies within the map.

    Raises:
        ArgumentError: the maps differ in shape or are too small.
    """
    _check_pair(a, b)
    if min(a.shape[1:]) < _WINDOW:
        raise ArgumentError(f"maps are {tuple(a.shape[1:])}; SSIM needs {_WINDOW} pixels at least along each axis")
    x, y = a.double(), b.double()
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variances = _window_mean(x * x) - mean_x**2 + _window_mean(y * y) - mean_y**2
    covariance = _window_mean(x * y) - mean_x * mean_y
    bright, spread = 0.01**2, 0.03**2
    above = (2 * mean_x * mean_y + bright) * (2 * covariance + spread)
    return (above / ((mean_x**2 + mean_y**2 + bright) * (variances + spread))).flatten(1).mean(1)


def rank_correlation(a: Tensor, b: Tensor, within: Tensor | None = None) -> Tensor:
    """Compute Spearman's rank correlation of two maps over their pixels; ties share their mean rank.

    Args:
        a: float (B, ...).
        b: the same shape.
        within: bool, the same shape: the pixels that count. None counts all.

    Returns:
        float64 (B,) in [-1, 1] on the maps' device; 0 where either map is constant, as it puts nothing in order.

    Raises:
        ArgumentError: the shapes differ.
    """
    from scipy.stats import rankdata  # here, as it takes most of a second, and explaining imports this module

    _check_pair(a, b)
    if within is not None:
        _check_pair(a, within)
    x, y = (maps.detach().cpu().numpy() for maps in (a, b))
    areas = np.ones(x.shape, np.bool_) if within is None else within.cpu().numpy()
    found: list[float] = []
    for one, other, area in zip(x, y, areas, strict=True):
        first, second = (ranks - (len(ranks) + 1) / 2 for ranks in (rankdata(one[area]), rankdata(other[area])))
        length = np.sqrt((first @ first) * (second @ second))
        found.append(float(np.clip(first @ second / length, -1, 1)) if length else 0.0)
    return torch.tensor(found, dtype=torch.float64, device=a.device)


def _check_pair(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim < 2:
        raise ArgumentError(f"maps are {tuple(a.shape)} and {tuple(b.shape)}; give two batches of maps of one shape")


def _window_mean(values: Tensor) -> Tensor:
    """Return the mean under the window at each place where it fits, one axis after the other."""
    steps = np.arange(_WINDOW) - _WINDOW // 2
    bell = np.exp(-0.5 * (steps / _SIGMA) ** 2)
    for axis in range(1, values.ndim):
        length = values.shape[axis] - _WINDOW + 1
        parts = [float(w) * values.narrow(axis, i, length) for i, w in enumerate(bell / bell.sum())]
        values = torch.stack(parts).sum(0)
    return values


def _contrast(maps: Tensor, within: Tensor | None) -> Tensor:
    area = torch.ones_like(maps, dtype=torch.bool) if within is None else within.to(maps.device)
    highest = maps.where(area, -torch.inf).flatten(1).amax(1)
    return highest > maps.where(area, torch.inf).flatten(1).amin(1)


def _layers_from_last(model: nn.Module, images: Tensor) -> list[tuple[str, nn.Module]]:
    """Return layers with weights of their own and their names, the one that runs last first.

    A layer whose forward is not called (a projection inside attention) stands where the module around it runs.
    """
    began: dict[str, int] = {}
    clock = count()
    named = list(model.named_modules())
    handles = [
        module.register_forward_pre_hook(lambda _module, _inputs, name=name: began.update({name: next(clock)}))
        for name, module in named
    ]
    try:
        _run(model, images[:1])
    finally:
        for handle in handles:
            handle.remove()
    layers = [(name, one) for name, one in named if any(True for _ in one.parameters(recurse=False))]
    if not layers:
        raise ArgumentError("the model holds no weights, so there is nothing to make random")
    order = {name: next(began[outer] for outer in _enclosing(name) if outer in began) for name, _ in layers}
    return sorted(layers, key=lambda layer: -order[layer[0]])


def _enclosing(name: str) -> Iterator[str]:
    """Yield a dotted name, then those of the modules around it."""
    while name:
        yield name
        name = name.rpartition(".")[0]
    yield ""


def _run(model: nn.Module, images: Tensor) -> None:
    with torch.no_grad(), eval_mode(model):
        device = next(chain(model.parameters(), model.buffers()), images).device
        model(images.to(device))


def _cascade(
    model: nn.Module, layers: Sequence[tuple[str, nn.Module]], stops: Sequence[int], images: Tensor, seed: int
) -> Iterator[None]:
    """Make layer after layer random, and halt behind each stop with a model that can be explained."""
    for place, (_, layer) in enumerate(layers):
        _redraw(layer, seed + place)
        if place in stops:
            _measure_norms(model, [one for _, one in layers[: place + 1] if isinstance(one, _BatchNorm)], images)
            yield


def _redraw(layer: nn.Module, seed: int) -> None:
    weights = list(layer.parameters(recurse=False))
    devices = {one.device for one in weights if one.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(device.index for device in devices)), torch.no_grad():
        torch.manual_seed(seed)
        reset = getattr(layer, "reset_parameters", None)
        if callable(reset):
            reset()
            return
        for one in weights:
            one.copy_(one.flatten()[torch.randperm(one.numel()).to(one.device)].view_as(one))


def _measure_norms(model: nn.Module, norms: Sequence[nn.Module], images: Tensor) -> None:
    """Give batch norms the statistics of what reaches them, each before it runs."""
    handles = [norm.register_forward_pre_hook(_measure) for norm in norms]
    try:
        if handles:
            _run(model, images[:_FEW])
    finally:
        for handle in handles:
            handle.remove()


def _measure(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    assert isinstance(norm, _BatchNorm)
    if norm.running_mean is not None and norm.running_var is not None:
        axes = [axis for axis in range(inputs[0].ndim) if axis != 1]
        norm.running_mean.copy_(inputs[0].mean(axes))
        norm.running_var.copy_(inputs[0].var(axes, correction=0))


def _check_maps(maps: Tensor, images: Tensor) -> Tensor:
    if maps.shape != images[:, 0].shape:
        raise ArgumentError(
            f"explain_maps gives {tuple(maps.shape)} for images {tuple(images.shape)}; give one map each"
        )
    if not maps.isfinite().all():
        raise ArgumentError("explain_maps gives values that are not finite, which no number can compare")
    return maps.detach()


def _chance(first: Tensor, maps: Tensor, within: Tensor | None, seed: int) -> Tensor:
    """Compute how much the first maps resemble the others once those lie elsewhere: float64 (B,)."""
    random = np.random.default_rng(seed)
    axes = list(range(1, maps.ndim))
    few = (slice(None), *[slice(None, None, 2)] * len(axes))  # enough for a level, and faster
    found: list[Tensor] = []
    for _ in range(_MOVES):
        turned = maps.flip([axis for axis in axes if random.random() < 0.5])
        moved = turned.roll([int(random.integers(maps.shape[axis])) for axis in axes], axes)
        found.append(rank_correlation(first[few], moved[few], None if within is None else within[few]).abs())
    return torch.stack(found).mean(0)
