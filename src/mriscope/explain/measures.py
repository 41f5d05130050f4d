"""What a map is worth, slice by slice: how faithful it is, where it lies, and what random weights leave of it.

Everything takes maps as they come, float32 (N, H, W) in [0, 1], and knows nothing of how they were made. A map of zeros
ranks no pixel: its pixels are taken in a random order, and where a share of it is asked for, the answer is nan.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from scipy.stats import rankdata
from torch import Tensor, nn

_BRIGHT = 0.1  # of the brightest pixels of a slice; what is darker than that and reaches its border is no brain


def deletion_insertion(
    model: nn.Module, images: Tensor, maps: Tensor, classes: Tensor, *, steps: int = 16, chunk: int = 64, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Areas under the probability of a class while pixels go or come in the order of the map (Petsiuk et al., 2018).

    In both curves a blurred slice stands for what is not shown: a hole of one grey would itself be evidence.

    Args:
        model: in eval mode, from images to logits (B, K).
        images: float32 (N, C, H, W).
        maps: float32 (N, H, W).
        classes: int64 (N,).
        steps: equal shares of pixels.
        chunk: images at once; no value depends on it.
        seed: of the order of pixels that tie.

    Returns:
        deletion and insertion, float64 (N,) each, in [0, 1].
    """
    ranks = _ranks(maps, seed)
    blurred = _blurred(images)
    kept = []
    for step in range(steps + 1):
        gone = (ranks < step / steps)[:, None]
        kept.append(
            torch.stack(
                [
                    probability(model, torch.where(gone, first, second), classes, chunk)
                    for first, second in ((blurred, images), (images, blurred))
                ]
            )
        )
    curves = torch.stack(kept, -1)
    areas = torch.trapezoid(curves, dx=1 / steps)
    return areas[0], areas[1]


def probability(model: nn.Module, images: Tensor, classes: Tensor, chunk: int = 64) -> Tensor:
    """The probability of each image's class; float64 (N,)."""
    with torch.no_grad():
        answers = [model(part).double().softmax(1) for part in images.split(chunk)]
    return torch.cat(answers).gather(1, classes[:, None])[:, 0]


def average_drop(
    model: nn.Module, images: Tensor, maps: Tensor, classes: Tensor, chunk: int = 64
) -> tuple[Tensor, Tensor]:
    """What of the probability is lost where an image is shown through its map (Chattopadhay et al., 2018).

    The image is multiplied by the map above its darkest value, so that what is hidden is black in any scale.

    Returns:
        the share lost, float64 (N,) in [0, 1], and whether the probability rose instead, bool (N,).
    """
    dark = images.amin((1, 2, 3), keepdim=True)
    whole = probability(model, images, classes, chunk)
    through = probability(model, dark + (images - dark) * maps[:, None], classes, chunk)
    return (whole - through).clamp_min(0) / whole, through > whole


def sensitivity(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    classes: Tensor,
    *,
    regions: int = 32,
    chunk: int = 64,
    seed: int = 0,
) -> Tensor:
    """Sensitivity-n (Ancona et al., 2018) of squares: does the map say what losing a region costs?

    Args:
        regions: random squares of a quarter of the image's side, blurred one at a time.
        seed: of their places.

    Returns:
        Pearson correlation over regions between the sum of the map within and the logit lost; float64 (N,), nan where
        one of them is constant.
    """
    blurred, side = _blurred(images), max(1, images.shape[-1] // 4)
    random = np.random.default_rng(seed)
    sums, losses = [], []
    whole = _logit(model, images, classes, chunk)
    for _ in range(regions):
        top, left = (int(random.integers(0, length - side + 1)) for length in images.shape[-2:])
        here = (..., slice(top, top + side), slice(left, left + side))
        changed = images.clone()
        changed[here] = blurred[here]
        losses.append(whole - _logit(model, changed, classes, chunk))
        sums.append(maps[here].double().sum((1, 2)))
    x, y = (values - values.mean(0) for values in (torch.stack(sums), torch.stack(losses)))
    return (x * y).sum(0) / ((x * x).sum(0) * (y * y).sum(0)).sqrt()


def _logit(model: nn.Module, images: Tensor, classes: Tensor, chunk: int) -> Tensor:
    with torch.no_grad():
        answers = [model(part).double() for part in images.split(chunk)]
    return torch.cat(answers).gather(1, classes[:, None])[:, 0]


def sparsity(maps: Tensor) -> Tensor:
    """Gini index (Hurley & Rickard, 2009): 0 for an even map, near 1 for a point; float64 (N,), nan for zeros."""
    rows = maps.flatten(1).double().sort(1).values
    count = rows.shape[1]
    weights = (count - torch.arange(1, count + 1, device=maps.device) + 0.5) / count
    return 1 - 2 * (rows * weights).sum(1) / rows.sum(1)


def brain_masks(pixels: np.ndarray) -> np.ndarray:
    """Where a slice shows brain: its largest bright area with the holes in it, such as ventricles, filled.

    Args:
        pixels: uint8 (N, H, W).

    Returns:
        bool (N, H, W).
    """
    return np.stack([_brain_mask(one) for one in pixels])


def _brain_mask(pixels: np.ndarray) -> np.ndarray:
    bright = pixels > _BRIGHT * np.percentile(pixels, 99)
    areas, _ = ndimage.label(bright)  # pyright: ignore[reportGeneralTypeIssues]
    sizes = np.bincount(areas.ravel())
    sizes[0] = 0
    if not sizes.any():
        return bright
    return np.asarray(ndimage.binary_fill_holes(areas == sizes.argmax()), np.bool_)


def share_within(maps: Tensor, masks: Tensor) -> Tensor:
    """The share of a map that lies in a mask, its energy inside; float64 (N,), nan for a map of zeros."""
    return (maps * masks).double().sum((1, 2)) / maps.double().sum((1, 2))


def pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Whether the highest place lies in the mask, as a share of places that tie (Zhang et al., 2018); float64 (N,)."""
    highest = maps == maps.amax((1, 2), keepdim=True)
    return (highest & masks).double().sum((1, 2)) / highest.sum((1, 2))


def best_iou(maps: Tensor, masks: Tensor) -> Tensor:
    """Intersection over union of the mask and the map cut at its best threshold; float64 (N,)."""
    values, order = maps.flatten(1).sort(1, descending=True)
    common = masks.flatten(1).gather(1, order).double().cumsum(1)
    taken = torch.arange(1, values.shape[1] + 1, device=maps.device)
    scores = common / (taken + masks.flatten(1).sum(1, keepdim=True) - common)
    ends = torch.ones_like(values, dtype=torch.bool)
    ends[:, :-1] = values[:, :-1] > values[:, 1:]  # a threshold takes all pixels of one value
    return torch.where(ends, scores, 0.0).amax(1)


def rank_correlation(some: Tensor, others: Tensor, within: np.ndarray | None = None) -> np.ndarray:
    """Spearman's rank correlation between the maps of a slice; float64 (N,), nan where one of them is even.

    Args:
        some: float32 (N, H, W).
        others: the same.
        within: bool (N, H, W), the pixels that count; None all.
    """
    areas = np.ones(some.shape, np.bool_) if within is None else within
    pairs = zip(some.cpu().numpy(), others.cpu().numpy(), areas, strict=True)
    return np.array([_spearman(one[area], other[area]) for one, other, area in pairs])


def _spearman(some: np.ndarray, others: np.ndarray) -> float:
    one, other = (ranks - ranks.mean() for ranks in (rankdata(some), rankdata(others)))
    length = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / length) if length else float("nan")


def ssim(some: Tensor, others: Tensor) -> Tensor:
    """Structural similarity of maps in [0, 1] (Wang et al., 2004): Gaussian window of 11, σ = 1.5; float64 (N,)."""
    steps = torch.arange(11, dtype=torch.float64, device=some.device) - 5
    bell = torch.exp(-(steps**2) / (2 * 1.5**2))
    window = torch.outer(bell, bell)[None, None] / bell.sum() ** 2

    def mean(values: Tensor) -> Tensor:
        return F.conv2d(values, window)

    x, y = some[:, None].double(), others[:, None].double()
    mean_x, mean_y = mean(x), mean(y)
    spread_x, spread_y, common = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2, mean(x * y) - mean_x * mean_y
    small, smaller = 0.01**2, 0.03**2
    above = (2 * mean_x * mean_y + small) * (2 * common + smaller)
    return (above / ((mean_x**2 + mean_y**2 + small) * (spread_x + spread_y + smaller))).mean((1, 2, 3))


@dataclass(frozen=True)
class Randomised:
    """What is left of maps while the weights become random from the last layer on.

    Args:
        layers: names of the layers down to which weights are random, one for each stage.
        ssim: float64 (S, N), between the maps and those at each stage.
        rank_correlation: float64 (S, N), within the brain.
    """

    layers: tuple[str, ...]
    ssim: np.ndarray
    rank_correlation: np.ndarray


def randomise(
    model: nn.Module, make: Callable[[nn.Module], Tensor], brains: np.ndarray, *, stages: int = 5, seed: int = 0
) -> Randomised:
    """The cascading model-parameter randomisation of Adebayo et al. (2018), on a copy of the model.

    Args:
        model: left as it is.
        make: from a model to maps, float32 (N, H, W) in [0, 1], always of the same images and classes.
        brains: bool (N, H, W), the pixels whose ranks count: the empty surroundings are alike in all maps.
        stages: how often maps are made anew, at even steps from the last layer to the first; the last is all random.
        seed: of the random weights.
    """
    copy, first = deepcopy(model), make(model)
    layers = [(name, one) for name, one in copy.named_modules() if any(True for _ in one.parameters(recurse=False))]
    layers.reverse()
    stops = {round(len(layers) * (stage + 1) / stages) - 1 for stage in range(stages)} - {-1}
    names, alike, ranks = [], [], []
    for place, (name, layer) in enumerate(layers):
        _make_random(layer, seed + place)
        if place in stops:
            maps = make(copy)
            names.append(name)
            alike.append(ssim(first, maps).cpu().numpy())
            ranks.append(rank_correlation(first, maps, brains))
    return Randomised(tuple(names), np.stack(alike), np.stack(ranks))


def _make_random(layer: nn.Module, seed: int) -> None:
    """New weights as the layer is first given them, or of the spread of those it has where it cannot say."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        reset = getattr(layer, "reset_parameters", None)
        if callable(reset):
            reset()
            return
        for weights in layer.parameters(recurse=False):
            weights.copy_(torch.randn(weights.shape) * weights.float().std(correction=0).cpu())


def random_maps(count: int, size: Sequence[int], seed: int = 0) -> Tensor:
    """Even noise, float32 (count, *size) in [0, 1]."""
    return torch.rand((count, *size), generator=torch.Generator().manual_seed(seed))


def centre_maps(count: int, size: Sequence[int]) -> Tensor:
    """One bump in the middle, whose standard deviation is a quarter of the image; float32 (count, *size) in [0, 1]."""
    y, x = (torch.linspace(-1, 1, length) for length in size)
    return torch.exp(-2 * (y[:, None] ** 2 + x**2)).expand(count, *size).clone()


def _ranks(maps: Tensor, seed: int) -> Tensor:
    """Each pixel's share of pixels that come before it, highest first; those that tie in a random order."""
    rows = maps.flatten(1).cpu()
    mixed = torch.randperm(rows.shape[1], generator=torch.Generator().manual_seed(seed))
    order = mixed[rows[:, mixed].argsort(dim=1, descending=True, stable=True)]
    places = torch.arange(rows.shape[1], dtype=torch.float64).expand_as(order)
    ranks = torch.empty(order.shape, dtype=torch.float64).scatter_(1, order, places)
    return (ranks / rows.shape[1]).reshape(maps.shape).to(maps.device)


def _blurred(images: Tensor) -> Tensor:
    """A Gaussian blur, by three means over an eighth of the image's side."""
    width = images.shape[-1] // 16 * 2 + 1
    for _ in range(3):
        images = F.avg_pool2d(F.pad(images, [width // 2] * 4, mode="replicate"), width, 1)
    return images
