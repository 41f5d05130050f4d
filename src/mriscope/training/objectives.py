"""Training losses, one value per slice; all options combine."""

from collections.abc import Callable
from math import ceil

import torch
from torch import Tensor
from torch.nn import functional

from mriscope.recipe import TrainingSettings

Objective = Callable[[Tensor, Tensor], Tensor]


def make_objective(settings: TrainingSettings, class_weights: Tensor | None = None) -> Objective:
    """Return the function that computes the loss of each slice.

    Args:
        settings: objective, focus and label_smoothing are read.
        class_weights: float (K,), weight of each class's slices; None weighs all equally.

    Returns:
        A function of logits float (B, K) and labels int64 (B,), giving float (B,) in nats.
    """

    def objective(logits: Tensor, labels: Tensor) -> Tensor:
        losses = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=settings.label_smoothing)
        if settings.objective == "focal":
            losses = losses * focal_factor(logits, labels, settings.focus)
        return losses if class_weights is None else losses * class_weights.to(losses)[labels]

    return objective


def focal_factor(logits: Tensor, labels: Tensor, focus: float) -> Tensor:
    """Compute the factor of each slice's loss in the focal loss, (1 - p)^focus (Lin et al., 2017).

    Args:
        logits: float (B, K).
        labels: int64 (B,).
        focus: gamma; 0 gives factors of 1.

    Returns:
        float (B,) in [0, 1].
    """
    right = logits.log_softmax(dim=1).gather(1, labels[:, None])[:, 0]
    # expm1 keeps the digits of 1 - p, and its gradient, where p is close to 1.
    return (-torch.expm1(right)).clamp_min(torch.finfo(right.dtype).tiny) ** focus


def balanced_class_weights(labels: Tensor, classes: int) -> Tensor:
    """Compute weights in inverse proportion to the classes' shares: on average 1, and 0 for a class without slices.

    Args:
        labels: int64 (N,), of the training part.
        classes: number of classes.

    Returns:
        float32 (K,).
    """
    counts = torch.bincount(labels, minlength=classes)
    present = int((counts > 0).sum())
    return torch.where(counts > 0, len(labels) / (present * counts.clamp_min(1)), 0.0)


def hardest(losses: Tensor, share: float) -> Tensor:
    """Select the slices of a batch for hard example mining (Shrivastava et al., 2016, by slice).

    Args:
        losses: float (B,).
        share: of the batch that is selected, in (0, 1].

    Returns:
        int64 (n_hardest(B, share),), indices of the highest losses.
    """
    return losses.topk(n_hardest(len(losses), share)).indices


def n_hardest(count: int, share: float) -> int:
    """Return how many slices of a batch are selected: at least two where it has them, as batch norm needs two."""
    return max(ceil(share * count), min(2, count))
