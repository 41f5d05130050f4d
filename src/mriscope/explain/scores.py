"""Logits, and the score of an explained class: what gradients are taken of and what a changed image changes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mriscope.errors import ArgumentError, MriscopeError

Score = Callable[[Tensor, Tensor], Tensor]
"""From logits (B, K) and classes (B,) to the number of each image whose gradient is taken, (B,)."""


def logit(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the logit of each image's class, (B,).

    A network with one output z, whose sigmoid is the probability of class 1, has the logits -z and z for its two
    classes: evidence for class 0 is evidence against class 1.

    Args:
        logits: (B, K).
        classes: int64 (B,), below K, or 0 and 1 where K is 1.
    """
    if logits.shape[1] == 1:
        return logits[:, 0] * (2 * classes - 1)
    return logits.gather(1, classes[:, None])[:, 0]


def probability(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the probability of each image's class, (B,): by softmax, or by sigmoid where there is one output."""
    if logits.shape[1] == 1:
        return logit(logits, classes).sigmoid()
    return logits.softmax(1).gather(1, classes[:, None])[:, 0]


def predicted_classes(logits: Tensor) -> Tensor:
    """Return the class of the largest logit, int64 (B,); of one output, 1 where it is above 0 and else 0."""
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


def count_classes(logits: Tensor) -> int:
    """Return how many classes logits (B, K) distinguish: K, or two where there is one output."""
    return max(2, logits.shape[1])


def choose_classes(classes: Tensor | None, logits: Tensor) -> Tensor:
    """Return the requested classes, or the predicted ones: int64, one row for each of the logits' rows.

    Raises:
        ArgumentError: the model lacks a class.
    """
    if classes is None:
        return predicted_classes(logits)
    count = count_classes(logits)
    outside = classes[(classes < 0) | (classes >= count)]
    if len(outside):
        raise ArgumentError(
            f"class {int(outside[0])} cannot be explained: the model has {count} classes, counted from 0"
        )
    return classes.to(logits.device, torch.int64, copy=True)  # a copy, as autograd cannot save an inference tensor


def check_logits(logits: Any, images: Tensor) -> Tensor:
    """Return what a model gave, if that is one row of classes for each image.

    Raises:
        MriscopeError: it gave something else.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        raise MriscopeError(
            f"the model gives {describe(logits)}; an explanation needs its logits, one row of classes for each image"
        )
    return logits


def at_least_float32(values: Tensor) -> Tensor:
    """Return half precision as float32, and float64 as it is."""
    return values.float() if values.itemsize < 4 else values


def describe(value: Any) -> str:
    """Return a tensor's dtype and shape, or the type of anything else, for a message."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
