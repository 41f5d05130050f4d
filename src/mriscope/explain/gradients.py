"""Gradients through any model, and the true reason where there are none."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mriscope.errors import MriscopeError

_ALTERNATIVES = "eigencam, scorecam, ablationcam and occlusion need no gradients"


@contextmanager
def model_errors(model: nn.Module, images: Tensor) -> Iterator[None]:
    """Explain the error of a model that runs on its images, but not while gradients are recorded; pass on others.

    Raises:
        MriscopeError: gradients are the reason.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        with torch.no_grad():
            model(images)  # fails by itself where gradients are not the reason
        raise MriscopeError(_not_differentiable(error)) from error


def take_gradients(total: Tensor, inputs: Sequence[Tensor], *, retain_graph: bool = False) -> list[Tensor | None]:
    """Return the gradient of a sum of scores along each input; None where none reaches it.

    Raises:
        MriscopeError: autograd cannot go back through the model.
    """
    recorded = [one for one in inputs if one.requires_grad]
    if not recorded or not total.requires_grad:
        return [None] * len(inputs)
    try:
        found = torch.autograd.grad(total, recorded, allow_unused=True, retain_graph=retain_graph)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise MriscopeError(_not_differentiable(error)) from error
    given = iter(found)
    return [next(given) if one.requires_grad else None for one in inputs]


def check_images_unused(model: nn.Module, images: Tensor) -> None:
    """Accept that no gradient reaches the images only where the logits do not depend on them.

    Raises:
        MriscopeError: other images get other logits.
    """
    with torch.no_grad():
        if not torch.equal(model(images), model(_disturb(images))):
            raise MriscopeError(_no_gradient("the images"))


def check_layer_unused(model: nn.Module, layer: nn.Module, name: str, images: Tensor) -> None:
    """Accept that no gradient reaches a layer only where the logits do not depend on its output.

    Raises:
        MriscopeError: another output of the layer gives other logits.
    """

    def disturb(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return _disturb(output)

    with torch.no_grad():
        logits = model(images)
        with layer.register_forward_hook(disturb):
            if not torch.equal(logits, model(images)):
                raise MriscopeError(_no_gradient(f"layer {name!r}"))


def _disturb(values: Tensor) -> Tensor:
    """Return values with noise as large as they are, which no symmetry of a later layer takes out again."""
    noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(0)).to(values)
    return values + noise * (1 + values.abs())


def _no_gradient(place: str) -> str:
    return (
        f"no gradient of the logits reaches {place}, though they depend on it: the model leaves autograd on the way "
        f"(int8 layers, detach(), torch.no_grad(), NumPy, checkpoint(use_reentrant=True)); {_ALTERNATIVES}"
    )


def _not_differentiable(error: RuntimeError) -> str:
    first = str(error).strip().split("\n")[0].rstrip(".")
    return f"the model runs, but gradients cannot be taken through it ({first}); {_ALTERNATIVES}"
