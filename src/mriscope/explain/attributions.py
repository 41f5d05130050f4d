"""Attributions on pixels, for comparison with class activation maps: what each pixel adds to a logit.

Each method gives a signed attribution of the images' own shape, in the unit of logits (guided backpropagation and
SmoothGrad: logits for each unit of brightness). Models are in eval mode.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mriscope.errors import ArgumentError
from mriscope.explain.gradients import check_images_unused, model_errors, take_gradients
from mriscope.explain.layers import check_observable
from mriscope.explain.scores import at_least_float32, check_logits, logit

_IN_PLACE = {torch.relu_, torch.Tensor.relu_, torch.ops.aten.relu_.default}
_RELUS = {torch.relu, torch.Tensor.relu, nn.functional.relu, torch.ops.aten.relu.default, *_IN_PLACE}


def input_gradients(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Compute the gradient of each image's explained logit along the image (Simonyan et al., 2014).

    Args:
        model: any network from images to logits (B, K).
        images: float (B, C, H, W) or (B, C, D, H, W), on the model's device.
        classes: int64 (B,).

    Returns:
        float32, the images' shape; 0 where the logits do not depend on the images.

    Raises:
        ArgumentError: the logits depend on the images, but no gradient reaches them.
    """
    images = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        with model_errors(model, images):
            logits = check_logits(model(images), images)
        found = take_gradients(logit(at_least_float32(logits), classes).sum(), [images])[0]
    if found is None:
        check_images_unused(model, images.detach())
    return torch.zeros_like(images).detach().float() if found is None else found.float()


def gradient_times_input(model: nn.Module, images: Tensor, classes: Tensor, *, chunk: int = 64) -> Tensor:
    """Compute gradient × input (Shrikumar et al., 2016): arguments and shape as in input_gradients."""
    return _in_chunks(lambda some, of: input_gradients(model, some, of) * some.float(), images, classes, chunk)


def integrated_gradients(
    model: nn.Module, images: Tensor, classes: Tensor, *, steps: int = 50, baseline: float = 0.0, chunk: int = 64
) -> Tensor:
    """Compute Integrated Gradients (Sundararajan et al., 2017), along a straight line from a constant image.

    The integral is taken by Gauss and Legendre's rule, which is exact for polynomials of degree 2 × steps - 1. Summed
    over an image, the attribution is its logit less that of the constant image, but for what the rule leaves.

    Args:
        model: as in input_gradients.
        images: as in input_gradients.
        classes: as in input_gradients.
        steps: points of the rule.
        baseline: value of all pixels where the line begins.
        chunk: how many points run at once.

    Raises:
        ArgumentError: there are no steps.
    """
    _check_counts(steps=steps)
    points, weights = np.polynomial.legendre.leggauss(steps)
    places = torch.tensor((points + 1) / 2, dtype=images.dtype, device=images.device)
    shares = torch.tensor(weights / 2, dtype=torch.float32, device=images.device)
    parts: list[Tensor] = []
    for image, target in zip(images, classes, strict=True):
        away, mean = image - baseline, torch.zeros(image.shape, device=image.device)
        for some, share in zip(places.split(chunk), shares.split(chunk), strict=True):
            line = baseline + some.reshape(-1, *[1] * image.ndim) * away
            mean += torch.einsum("s,s...->...", share, input_gradients(model, line, target.expand(len(line))))
        parts.append(mean * away.float())
    return torch.stack(parts)


def smooth_grad(
    model: nn.Module,
    images: Tensor,
    classes: Tensor,
    *,
    samples: int = 25,
    noise: float = 0.15,
    seed: int = 0,
    chunk: int = 64,
) -> Tensor:
    """Compute SmoothGrad (Smilkov et al., 2017): the mean gradient over noisy copies of an image.

    Args:
        model: as in input_gradients.
        images: as in input_gradients.
        classes: as in input_gradients.
        samples: copies of each image.
        noise: standard deviation of the noise, as a share of the image's range.
        seed: of the noise, which is the same for every image.
        chunk: how many copies run at once.

    Raises:
        ArgumentError: there are no samples.
    """
    _check_counts(samples=samples)
    parts: list[Tensor] = []
    for image, target in zip(images, classes, strict=True):
        generator, total = torch.Generator().manual_seed(seed), torch.zeros(image.shape, device=image.device)
        for start in range(0, samples, chunk):
            # One draw for each copy, as a larger draw holds other numbers and the chunk would show.
            drawn = [torch.randn(image.shape, generator=generator) for _ in range(start, min(start + chunk, samples))]
            noisy = image + noise * (image.max() - image.min()) * torch.stack(drawn).to(image)
            total += input_gradients(model, noisy, target.expand(len(noisy))).sum(0)
        parts.append(total / samples)
    return torch.stack(parts)


def guided_backpropagation(model: nn.Module, images: Tensor, classes: Tensor, *, chunk: int = 64) -> Tensor:
    """Compute guided backpropagation (Springenberg et al., 2015): a ReLU passes positive gradients only.

    Every ReLU counts, be it a module, a function, in place or of torch.export; only this thread's pass is changed.

    Raises:
        ArgumentError: part of the model is a TorchScript program, whose ReLUs cannot be changed.
    """
    check_observable(model)

    def guided(some: Tensor, of: Tensor) -> Tensor:
        with _GuidedReLUs():
            return input_gradients(model, some, of)

    return _in_chunks(guided, images, classes, chunk)


def occlusion(
    model: nn.Module,
    images: Tensor,
    classes: Tensor,
    *,
    window: int = 16,
    stride: int = 8,
    baseline: float = 0.0,
    chunk: int = 64,
) -> Tensor:
    """Compute occlusion (Zeiler & Fergus, 2014): how far the logit falls under a covered window, a mean over windows.

    Args:
        model: as in input_gradients.
        images: as in input_gradients.
        classes: as in input_gradients.
        window: its side in pixels, on every axis of space; cut off at the border.
        stride: from one window to the next, at most window; the last ones reach the border.
        baseline: value of the pixels that are covered.
        chunk: how many covered images run at once.

    Returns:
        float32, the images' shape; the same for all channels, as a window covers all of them.

    Raises:
        ArgumentError: there is no window, or there are pixels between windows.
    """
    _check_counts(window=window, stride=stride)
    if stride > window:
        raise ArgumentError(f"stride is {stride} and leaves pixels between windows of {window}; give at most {window}")
    corners = list(itertools.product(*[range(0, max(side - window, 0) + stride, stride) for side in images.shape[2:]]))
    windows = [tuple(slice(begin, begin + window) for begin in corner) for corner in corners]
    with torch.no_grad():
        return torch.stack(
            [_occluded(model, *one, windows, baseline, chunk) for one in zip(images, classes, strict=True)]
        )


def _in_chunks(make: Callable[[Tensor, Tensor], Tensor], images: Tensor, classes: Tensor, chunk: int) -> Tensor:
    return torch.cat([make(*part) for part in zip(images.split(chunk), classes.split(chunk), strict=True)])


def _occluded(
    model: nn.Module, image: Tensor, target: Tensor, windows: list[tuple[slice, ...]], baseline: float, chunk: int
) -> Tensor:
    """Compute the mean fall of the logit under the windows over each pixel; one chunk of them is in memory at once."""
    targets = target.expand(chunk)
    whole = logit(check_logits(model(image[None]), image[None]), targets[:1]).float()
    total = torch.zeros(image.shape, device=image.device)
    times = torch.zeros(image.shape[1:], device=image.device)
    for start in range(0, len(windows), chunk):
        some = windows[start : start + chunk]
        covered = image.expand(len(some), *image.shape).clone()
        for copy, window in zip(covered, some, strict=True):
            copy[:, *window] = baseline
        falls = whole - logit(model(covered), targets[: len(some)]).float()
        for fall, window in zip(falls, some, strict=True):
            total[:, *window] += fall
            times[window] += 1
    return total / times


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ArgumentError(f"{name} is {count}; give at least 1")


class _Guided(torch.autograd.Function):
    """A ReLU through which only positive gradients go back."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return values.clamp_min(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].clamp_min(0) * (ctx.saved_tensors[0] > 0)


class _GuidedReLUs(TorchFunctionMode):
    """Within it, every ReLU of this thread is guided."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _RELUS:
            return func(*args, **kwargs)
        values = args[0] if args else kwargs["input"]
        if func in _IN_PLACE or kwargs.get("inplace") or (len(args) > 1 and args[1]):
            return values.copy_(_Guided.apply(values.clone()))
        return _Guided.apply(values)
