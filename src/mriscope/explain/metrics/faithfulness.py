"""How faithful maps are: do a model's logits change where a map says that they should?

Everything takes a model, images, maps and the classes explained, and knows nothing of how the maps were made. Changed
images run in chunks on the model's device, in eval mode. Pixels are ranked from the map's largest value on; where
values tie, by an order that is shuffled once for an image size, the same for every map: by index, ties would go from
the top, where a slice shows no brain. An empty map is so ranked by chance alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mriscope.errors import ArgumentError
from mriscope.explain.metrics.removal import blur, impute, replace_pixels
from mriscope.explain.model_state import eval_mode, move_to_model
from mriscope.explain.scores import Score, at_least_float32, check_logits, choose_classes, logit, probability

_CELLS = 8  # places along each side of an image that sensitivity-n removes
_NOISE = 0.01  # of an image's standard deviation, as ROAD has it for images whose deviation is 1


@dataclass(frozen=True, eq=False)
class Curve:
    """The probability of a class while pixels are removed or inserted in the order of a map.

    Args:
        scores: float32 (B, steps + 1), the probability of the explained class; the first for no pixel, the last for
            all of them.
        auc: float32 (B,) in [0, 1], the area under the scores along the share of pixels, by the trapezoidal rule.
    """

    scores: Tensor
    auc: Tensor


def deletion(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    classes: Tensor,
    *,
    steps: int = 32,
    baseline: str = "blur",
    chunk: int = 64,
) -> Curve:
    """Compute the class's probability while pixels are removed, the map's largest first; lower is better.

    Petsiuk et al. (2018).

    Args:
        model: any network from images to logits (B, K).
        images: float (B, C, H, W) or volumes (B, C, D, H, W), scaled as the model was trained.
        maps: float (B, H, W) or (B, D, H, W); only the order of values counts.
        classes: int64 (B,), the class that each map explains.
        steps: how many equal shares of pixels go, one after the other.
        baseline: what stands where a pixel was: "blur", the image blurred by a Gaussian whose deviation is a sixteenth
            of its shortest side; "mean", the mean of each channel; "local", the mean over a window of an eighth of the
            shortest side; "zero".
        chunk: how many changed images run at once.

    Raises:
        UnknownNameError: no such baseline.
        ArgumentError: maps, classes and images do not fit each other, or the model; a map is not finite.
    """
    images, maps = _check(model, images, maps)
    return _curve(model, images, replace_pixels(images, baseline), maps, classes, steps, chunk)


def insertion(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    classes: Tensor,
    *,
    steps: int = 32,
    baseline: str = "blur",
    chunk: int = 64,
) -> Curve:
    """Compute the class's probability while pixels come into the baseline, the map's largest first; higher is better.

    Petsiuk et al. (2018). Arguments and errors as in deletion.
    """
    images, maps = _check(model, images, maps)
    return _curve(model, replace_pixels(images, baseline), images, maps, classes, steps, chunk)


def average_drop(
    model: nn.Module, images: Tensor, maps: Tensor, classes: Tensor, *, chunk: int = 64
) -> tuple[Tensor, Tensor]:
    """Compute what is lost of the class's probability where the image is multiplied by its map.

    Chattopadhay et al. (2018). With y the probability for the image and o that for image times map. The mean of the
    first over a set of images is the average drop, the mean of the second the increase in confidence. Zero in the
    images' own scaling is what is hidden; an empty map hides all, a map of ones nothing.

    Args:
        model: as in deletion.
        images: as in deletion.
        maps: float (B, H, W) or (B, D, H, W) in [0, 1].
        classes: as in deletion.
        chunk: as in deletion.

    Returns:
        max(0, y - o) / y, float32 (B,) in [0, 1], and 0 where y is 0; whether o > y, bool (B,).
    """
    images, maps = _check(model, images, maps)

    def change(rows: Tensor, hides: Tensor) -> Tensor:
        shares = maps[rows].where(_broadcast(hides, maps) == 1, 1.0)
        return images[rows] * shares[:, None].to(images.dtype)

    whole, through = _scores(model, images, change, classes, 2, chunk, probability).unbind(1)
    drop = (whole - through).clamp_min(0) / whole.where(whole > 0, 1.0)
    return drop.float(), through > whole


def road(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    classes: Tensor,
    *,
    percentiles: Sequence[float] = (10, 30, 50, 70, 90),
    seed: int = 0,
    chunk: int = 64,
) -> Tensor:
    """Compute ROAD, remove and debias (Rong et al., 2022); higher is better, 0 is chance.

    It is the class's probability after the least relevant pixels were removed, less that after the most relevant were,
    halved; the mean over percentiles. Removed pixels are imputed from their neighbours (impute), so that their shape
    tells the model little, with noise of a hundredth of the image's standard deviation.

    Args:
        model: as in deletion.
        images: as in deletion.
        maps: as in deletion.
        classes: as in deletion.
        percentiles: of pixels removed, above 0 and below 100.
        seed: of the noise, which is the same for all images and maps.
        chunk: as in deletion.

    Returns:
        float32 (B,) in [-0.5, 0.5].
    """
    images, maps = _check(model, images, maps)
    shares = [percentile / 100 for percentile in percentiles]
    if not shares or min(shares) <= 0 or max(shares) >= 1:
        raise ArgumentError(f"percentiles are {tuple(percentiles)}; ROAD needs one or more above 0 and below 100")
    count = maps.shape[1:].numel()
    counts = torch.tensor([min(max(round(share * count), 1), count - 1) for share in shares], device=maps.device)
    ranks = _ranks(maps)
    noise = _NOISE * torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed)).to(images)

    def change(rows: Tensor, variants: Tensor) -> Tensor:
        numbers = _broadcast(counts[variants % len(counts)], maps)
        most, least = ranks[rows] < numbers, ranks[rows] >= count - numbers
        lost = most.where(_broadcast(variants, maps) < len(counts), least)
        imputed = impute(images[rows], ~lost) + noise * _broadcast(images[rows].flatten(1).std(1), images)
        return imputed.where(lost[:, None], images[rows])

    scores = _scores(model, images, change, classes, 2 * len(counts), chunk, probability)
    most, least = scores.unflatten(1, (2, -1)).mean(2).unbind(1)
    return ((least - most) / 2).float()


def infidelity(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    classes: Tensor,
    *,
    samples: int = 64,
    seed: int = 0,
    chunk: int = 64,
) -> Tensor:
    """Compute infidelity (Yeh et al., 2019): how wrong a map is about what removing squares costs the logit.

    A map's sum within a square is its prediction of the logit that is lost when the square is blurred; infidelity is
    the mean square of their difference over squares; lower is better. As maps have no unit, each is first scaled by the
    number, not below 0, that makes this least. So no map scores worse than an empty one, not even one that predicts
    the contrary.

    Args:
        model: as in deletion.
        images: as in deletion.
        maps: as in deletion.
        classes: as in deletion.
        samples: how many squares, with sides from an eighth to half of the image's and at places drawn evenly; the same
            ones for all images.
        seed: of the squares.
        chunk: as in deletion.

    Returns:
        float32 (B,), at least 0, in squares of logits; for an empty map, the mean square of what was lost.
    """
    predicted, lost = _predicted_and_lost(model, images, maps, classes, squares(images, samples, seed), chunk)
    power = predicted.square().sum(1, keepdim=True)
    scale = ((predicted * lost).sum(1, keepdim=True) / power.where(power > 0, 1.0)).clamp_min(0)
    return (scale * predicted - lost).square().mean(1).float()


def sensitivity_n(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    classes: Tensor,
    *,
    n: int = 16,
    samples: int = 64,
    seed: int = 0,
    chunk: int = 64,
) -> Tensor:
    """Compute sensitivity-n (Ancona et al., 2018): how a map's sum over n places goes with the logit lost there.

    The image is cut into 8 × 8 places, as one pixel of a slice is worth nothing alone; n of them at a time are blurred.

    Args:
        model: as in deletion.
        images: as in deletion.
        maps: as in deletion.
        classes: as in deletion.
        n: places removed at once.
        samples: how many times n places are drawn, the same ones for all images.
        seed: of the draws.
        chunk: as in deletion.

    Returns:
        Pearson's correlation over the draws, float32 (B,) in [-1, 1]; 0 where the map's sum or the logit never changes.
    """
    predicted, lost = _predicted_and_lost(model, images, maps, classes, _places(images, n, samples, seed), chunk)
    predicted, lost = (values - values.mean(1, keepdim=True) for values in (predicted, lost))
    power = (predicted.square().sum(1) * lost.square().sum(1)).sqrt()
    return ((predicted * lost).sum(1) / power.where(power > 0, 1.0)).clamp(-1, 1).float()


def sparsity(maps: Tensor) -> Tensor:
    """Compute the Gini index of a map's absolute values (Hurley & Rickard, 2009): 0 if constant, 1 - 1/n at most.

    Args:
        maps: float (B, ...).

    Returns:
        float32 (B,): 1 - 1/n where one of n pixels has all; 0 for an empty map, which favours no pixel.
    """
    values = maps.flatten(1).abs().double().sort(1).values
    count, total = values.shape[1], values.sum(1)
    places = torch.arange(1 - count, count, 2, device=maps.device, dtype=torch.float64)
    found = (values * places).sum(1) / (count * total.where(total > 0, 1.0))
    return found.clamp(0, 1).float()


def squares(images: Tensor, samples: int, seed: int = 0) -> Tensor:
    """Draw random squares, or cubes: bool (samples, H, W) or (samples, D, H, W), on the images' device.

    Sides are an eighth to a half of the image's shortest side; sides and places are drawn evenly.
    """
    random = torch.Generator().manual_seed(seed)
    size = images.shape[2:]
    low, high = max(1, min(size) // 8), max(1, min(size) // 2)
    found = torch.zeros(samples, *size, dtype=torch.bool)
    for one in found:
        side = int(torch.randint(low, high + 1, (), generator=random))
        starts = [int(torch.randint(0, length - side + 1, (), generator=random)) for length in size]
        one[tuple(slice(start, start + side) for start in starts)] = True
    return found.to(images.device)


def _curve(
    model: nn.Module, begin: Tensor, end: Tensor, maps: Tensor, classes: Tensor, steps: int, chunk: int
) -> Curve:
    """Go from one image to another, pixel by pixel in the order of the map."""
    if steps < 1:
        raise ArgumentError(f"steps is {steps}; a curve needs 1 or more")
    ranks, count = _ranks(maps), maps.shape[1:].numel()

    def change(rows: Tensor, variants: Tensor) -> Tensor:
        changed = ranks[rows] < _broadcast((variants * count / steps).round(), maps)
        return end[rows].where(changed[:, None], begin[rows])

    scores = _scores(model, begin, change, classes, steps + 1, chunk, probability)
    return Curve(scores.float(), torch.trapezoid(scores, dx=1 / steps).float())


def _ranks(maps: Tensor) -> Tensor:
    """Return each pixel's place from the map's largest value on, from 0; int64, the maps' shape."""
    flat = maps.flatten(1)
    shuffled = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(0)).to(maps.device)
    order = shuffled[flat[:, shuffled].argsort(dim=1, descending=True, stable=True)]
    places = torch.arange(flat.shape[1], device=maps.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).view_as(maps)


def _predicted_and_lost(
    model: nn.Module, images: Tensor, maps: Tensor, classes: Tensor, regions: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    """Return the map's sum within each region of (S, ...), and the logit lost when it is blurred; float64 (B, S)."""
    images, maps = _check(model, images, maps)
    blurred, regions = blur(images), regions.to(images.device)
    whole = torch.zeros_like(regions[:1])

    def change(rows: Tensor, variants: Tensor) -> Tensor:
        return blurred[rows].where(torch.cat([whole, regions])[variants][:, None], images[rows])

    logits = _scores(model, images, change, classes, len(regions) + 1, chunk, logit).double()
    predicted = maps.flatten(1).double() @ regions.flatten(1).double().T
    return predicted, logits[:, :1] - logits[:, 1:]


def _places(images: Tensor, n: int, samples: int, seed: int) -> Tensor:
    """Draw n of 8 × 8 places: bool (samples, H, W) or (samples, D, H, W)."""
    size = images.shape[2:]
    coarse = [min(_CELLS, side) for side in size]
    values = torch.rand(samples, *coarse, generator=torch.Generator().manual_seed(seed))
    if not 0 < n < values[0].numel():
        raise ArgumentError(f"n is {n}; sensitivity-n needs 1 to {values[0].numel() - 1} places of an image this size")
    drawn = values.flatten(1).argsort(1).argsort(1).view_as(values) < n
    return F.interpolate(drawn[:, None].float(), size=size)[:, 0] > 0.5


def _scores(
    model: nn.Module,
    images: Tensor,
    change: Callable[[Tensor, Tensor], Tensor],
    classes: Tensor,
    variants: int,
    chunk: int,
    score: Score,
) -> Tensor:
    """Compute the score of every image in each of its variants, (B, variants); change(rows, variants) makes some."""
    if chunk < 1 or len(classes) != len(images):
        raise ArgumentError(
            f"chunk is {chunk} and there are {len(classes)} classes for {len(images)} images; "
            "chunk needs 1 or more, and each image the class that its map explains"
        )
    if not len(images):
        return torch.zeros(0, variants, device=images.device)
    found: list[Tensor] = []
    with torch.no_grad(), eval_mode(model):
        for pairs in torch.arange(len(images) * variants, device=images.device).split(chunk):
            rows = pairs // variants
            changed = change(rows, pairs % variants)
            logits = at_least_float32(check_logits(model(changed), changed))
            found.append(score(logits, choose_classes(classes.to(rows.device)[rows], logits)))
    return torch.cat(found).view(len(images), variants)


def _broadcast(values: Tensor, like: Tensor) -> Tensor:
    """Return one value for each of a batch, to be broadcast over its other axes."""
    return values.view(-1, *[1] * (like.ndim - 1))


def _check(model: nn.Module, images: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return both on the model's device.

    Raises:
        ArgumentError: they do not fit each other, or a map is not finite.
    """
    if maps.shape != images.shape[:1] + images.shape[2:] or not maps.is_floating_point():
        raise ArgumentError(
            f"maps are {maps.dtype} {tuple(maps.shape)}; images of {tuple(images.shape)} need floats of "
            f"{tuple(images.shape[:1] + images.shape[2:])}"
        )
    if not maps.isfinite().all():
        raise ArgumentError("a map holds NaN or infinity; give maps that are finite")
    images = move_to_model(model, images)
    return images.detach(), maps.detach().to(images.device)
